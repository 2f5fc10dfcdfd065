//! The frames of a link, and what is registered for one renderer or one frame of it.

use super::call::Outcome;
use super::link::{BEYOND_LIMIT, envelope};
use super::receiver::{Receiver, Target};
use super::{Link, wake};
use crate::dispatch::{MAIN_FRAME, MAX_FRAMES, NoFrame};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, Ordering};
use crate::wire::{self, Envelope, Kind};

/// The events by which a `WebContents` shows every message of its renderer, and a host every message of its guests.
pub(crate) const IPC_MESSAGE: &str = "ipc-message";
pub(crate) const IPC_MESSAGE_SYNC: &str = "ipc-message-sync";

#[cold]
pub(crate) fn frame_closed(frame: u32) -> Error {
    Error::new(ErrorKind::Disconnected, format!("frame {frame} was closed"))
}

/// The receivers that only some renderers have, in the order in which they are asked.
pub(super) struct Scoped {
    events: Option<Arc<Receiver>>,
    frame: Option<Arc<Receiver>>,
    ipc: Option<Arc<Receiver>>,
}

impl Scoped {
    /// Who is told of a message, the receiver for all renderers last.
    pub(super) fn targets<'a>(&'a self, all: &'a Arc<Receiver>, channel: &'a str, is_sync: bool) -> [Target<'a>; 4] {
        let event = if is_sync { IPC_MESSAGE_SYNC } else { IPC_MESSAGE };
        [
            self.events.as_ref().map(|events| (events, event)),
            self.frame.as_ref().map(|frame| (frame, channel)),
            self.ipc.as_ref().map(|ipc| (ipc, channel)),
            Some((all, channel)),
        ]
    }

    /// Who may have the handler of a call.
    pub(super) fn handlers(&self) -> impl Iterator<Item = &Arc<Receiver>> {
        self.frame.iter().chain(&self.ipc)
    }
}

impl Link {
    // ---- receivers ----------------------------------------------------------------------------------------------

    /// What is registered for this renderer alone (main's end).
    pub(crate) fn ipc(&self) -> Arc<Receiver> {
        self.scoped_receiver(&self.ipc, "WebContents.ipc")
    }

    /// Who is shown every message: of this renderer on main, of its guests on a renderer.
    pub(crate) fn events(&self) -> Arc<Receiver> {
        self.scoped_receiver(&self.events, "WebContents")
    }

    fn scoped_receiver(&self, slot: &std::sync::OnceLock<Arc<Receiver>>, name: &'static str) -> Arc<Receiver> {
        let receiver = slot.get_or_init(|| Receiver::new(name)).clone();
        self.has_scoped.store(true, Ordering::Release);
        // The end sets the reason first and looks here afterwards: one of us closes it.
        if self.gone_reason().is_some() {
            receiver.close();
        }
        receiver
    }

    /// What is registered for one frame. Of one that is closed, or never was: a receiver that takes nothing.
    pub(crate) fn frame_receiver(&self, frame: u32) -> Arc<Receiver> {
        let mut frames = self.frames.lock();
        match frames.get_mut(frame) {
            Some(kept) => {
                let receiver = kept.get_or_insert_with(|| Receiver::new("WebFrameMain.ipc")).clone();
                self.has_scoped.store(true, Ordering::Release);
                receiver
            }
            None => {
                let receiver = Receiver::new("WebFrameMain.ipc");
                receiver.close();
                receiver
            }
        }
    }

    /// The receivers of this renderer and frame, on main, if there are any.
    #[inline]
    pub(super) fn scoped(&self, frame: u32) -> Option<Scoped> {
        self.has_scoped.load(Ordering::Acquire).then(|| Scoped {
            events: self.events.get().cloned(),
            frame: self.frame_receiver_if_open(frame),
            ipc: self.ipc.get().cloned(),
        })
    }

    /// What an open frame has registered, if it has. A renderer's main frame registers with the engine instead.
    pub(super) fn frame_receiver_if_open(&self, frame: u32) -> Option<Arc<Receiver>> {
        self.frames.lock().get(frame).cloned().flatten()
    }

    /// The link is gone: what was registered for it is dropped.
    pub(super) fn end_receivers(&self) {
        let frames = self.frames.lock().close_all();
        let mut receivers: Vec<_> = frames.into_iter().flatten().collect();
        receivers.extend([&self.ipc, &self.events].into_iter().filter_map(|slot| slot.get().cloned()));
        receivers.iter().for_each(|receiver| receiver.end(&self.engine));
    }

    // ---- frames of a renderer, at its own end -------------------------------------------------------------------

    /// Opens a frame below `parent` and tells main, before anything that is sent from it.
    pub(crate) fn open_frame(&self, parent: u32) -> Result<(u32, Arc<Receiver>)> {
        self.check_usable()?;
        let mut frames = self.frames.lock();
        if !frames.is_open(parent) {
            return Err(frame_closed(parent));
        }
        let id = frames.next().map_err(|error| match error {
            NoFrame::TooMany => Error::new(
                ErrorKind::Limit,
                format!("{} frames are open, {MAX_FRAMES} may be: close one first", frames.ids().len()),
            ),
            error => Error::new(ErrorKind::Limit, format!("no further frame: {error:?}")),
        })?;
        // Sent under the lock: numbers arrive in their order, and a frame that was closed before makes room for this one.
        self.send_bare(&Envelope { frame: id, peer_frame: parent, ..envelope(Kind::OpenFrame, 0, "") }, false)?;
        let receiver = Receiver::new("IpcRenderer");
        // The number is the next one and the parent is open: it was just looked at.
        let _ = frames.open(id, parent, Some(receiver.clone()));
        Ok((id, receiver))
    }

    /// Closes a frame and those below it: what was sent from them still arrives, what is sent to them is dropped, and the
    /// calls that wait fail.
    pub(crate) fn close_frame(&self, frame: u32) {
        let mut ended = Vec::new();
        {
            let mut frames = self.frames.lock();
            for id in frames.subtree(frame) {
                if let Some(receiver) = frames.close(id) {
                    receiver.iter().for_each(|receiver| receiver.close());
                    // Small and no more of them than frames: it may go beyond the limit. Without a peer nobody minds.
                    let _ = self.send_bare(&Envelope { frame: id, ..envelope(Kind::CloseFrame, 0, "") }, true);
                    ended.push((id, receiver));
                }
            }
        }
        for (id, receiver) in ended {
            self.end_calls_of(id);
            if let Some(receiver) = receiver {
                receiver.end(&self.engine);
            }
        }
    }

    /// A frame is closed, at either end: calls from it or to it fail, and what still runs for them is cancelled.
    fn end_calls_of(&self, frame: u32) {
        let calls = self.calls.lock().end_where(|call| call.frame == frame);
        // Not upgraded in here: the last hold of a request takes this lock when it ends.
        let requests = self.requests.lock().cancel_of(frame);
        let mut wakers = Vec::new();
        for (id, call) in calls {
            self.tell_cancelled(id);
            wakers.extend(call.finish(Outcome::Failed(frame_closed(frame))));
        }
        wakers.extend(requests.iter().filter_map(|request| request.upgrade()?.cancel()));
        wake(wakers, &self.engine);
    }

    fn send_bare(&self, envelope: &Envelope<'_>, beyond_limit: bool) -> Result<()> {
        let mut message = Vec::with_capacity(wire::HEADER_LEN);
        wire::begin(envelope, &mut message);
        self.push(&mut message, if beyond_limit { BEYOND_LIMIT } else { super::link::NORMAL })
    }

    // ---- frames of a renderer, at main's end --------------------------------------------------------------------

    /// A renderer has opened a frame.
    pub(super) fn frame_opened(&self, frame: u32, parent: u32) -> Result<(), String> {
        self.frames.lock().open(frame, parent, None).map_err(|error| match error {
            NoFrame::TooMany => format!("it opened more than {MAX_FRAMES} frames"),
            NoFrame::NotNext { next } => format!("it opened frame {frame}, where {next} is the next"),
            NoFrame::NoParent { parent } => format!("it opened a frame in frame {parent}, which it never had"),
        })
    }

    /// A renderer has closed a frame. Its receiver takes nothing any more, and calls that still run for it or wait for it
    /// are over; the messages that are still on their way are delivered to the renderer's receiver and the general one.
    pub(super) fn frame_closed(&self, frame: u32) -> Result<(), String> {
        let closed = self.frames.lock().close(frame);
        match closed {
            Some(receiver) => {
                self.end_calls_of(frame);
                receiver.iter().for_each(|receiver| receiver.end(&self.engine));
                Ok(())
            }
            None => Err(format!("it closed frame {frame}, which is not open")),
        }
    }

    /// Whether a renderer may send from this frame: it is open, or was and is closed by now.
    pub(super) fn check_frame(&self, frame: u32) -> Result<(), String> {
        if frame == MAIN_FRAME || self.frames.lock().was_opened(frame) {
            return Ok(());
        }
        Err(format!("it sent a message from frame {frame}, which it never opened"))
    }

    pub(crate) fn is_frame_open(&self, frame: u32) -> bool {
        !self.is_lost() && self.frames.lock().is_open(frame)
    }

    /// The open frames, the main frame first.
    pub(crate) fn frame_ids(&self) -> Vec<u32> {
        if self.is_lost() { Vec::new() } else { self.frames.lock().ids() }
    }

    pub(crate) fn frame_parent(&self, frame: u32) -> Option<u32> {
        if self.is_lost() { None } else { self.frames.lock().parent(frame) }
    }
}
