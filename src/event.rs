//! What listeners and handlers are given.

use crate::dispatch::MAIN_FRAME;
use crate::driver::{Delivery, Link, Request, envelope};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;
use crate::web_contents::{WebContents, WebFrameMain};
use crate::wire::{Envelope, IntoArgs, Kind};
use serde::Serialize;

/// Given to main's listeners. A cheap clone that may be kept and sent to other threads; a synchronous message is
/// unanswered until the last clone is dropped, then its caller gets [`ErrorKind::ReplyNeverSent`].
#[derive(Clone)]
pub struct IpcMainEvent {
    link: Arc<Link>,
    frame: u32,
    request: Option<Arc<Request>>,
    is_local: bool,
}

impl IpcMainEvent {
    pub(crate) fn new(delivery: &Delivery<'_>) -> Self {
        Self {
            link: delivery.link.clone(),
            frame: delivery.frame,
            request: delivery.request.cloned(),
            is_local: delivery.is_local,
        }
    }

    /// The renderer that sent the message. Of an event that this process [emitted](crate::IpcMain::emit) itself: for
    /// `web_contents.ipc()` that renderer, else one of number 0 that is not connected.
    pub fn sender(&self) -> WebContents {
        WebContents::new(self.link.clone())
    }

    /// The frame that sent the message. It may be closed by now: see [`WebFrameMain::is_detached`].
    pub fn sender_frame(&self) -> WebFrameMain {
        WebFrameMain::new(self.link.clone(), self.frame)
    }

    /// The number of the frame that sent the message; 1 is the renderer's main frame.
    pub fn frame_id(&self) -> u32 {
        self.frame
    }

    /// The process id of the renderer; 0 where it is not visible from here.
    pub fn process_id(&self) -> u32 {
        self.link.pid()
    }

    /// Whether no renderer sent this: `emit` was called here, in main. Whoever validates senders looks at this first.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Sends to exactly the frame that sent the message, be it a nested one. As [`WebContents::send`]; but a frame or
    /// renderer that is gone is no error to a listener that answers late: the message is dropped, as in Electron, counted
    /// in [`Stats::undeliverable`](crate::Stats::undeliverable) and told to `on_error`. In order with
    /// [`WebContents::send`]. Never blocks.
    ///
    /// # Errors
    ///
    /// As [`WebContents::send`], [`ErrorKind::Disconnected`] excepted.
    pub fn reply<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        if self.is_local {
            return Ok(());
        }
        let sent = match self.link.is_frame_open(self.frame) {
            true => self.link.send(self.frame, channel, &args),
            false => Err(self.link.disconnected()),
        };
        match sent {
            Err(error) if error.kind() == ErrorKind::Disconnected => {
                let (frame, renderer) = (self.frame, self.link.id);
                let text = format!("a reply to frame {frame} of renderer {renderer} was dropped: it is gone");
                self.link.undeliverable(channel, Error::new(ErrorKind::Undeliverable, text));
                Ok(())
            }
            result => result,
        }
    }

    /// Answers a synchronous message; the first answer counts, later ones are ignored. May come from any thread, also
    /// after the listener has returned. Never blocks.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidValue`] and [`ErrorKind::TooLarge`] for a value that cannot travel; the caller still waits
    /// then. [`ErrorKind::Full`] if there is no room for it; the caller gets [`ErrorKind::ReplyFull`] then. A message that was sent by `send` has nobody to answer: nothing happens.
    pub fn set_return_value<T: Serialize>(&self, value: T) -> Result<()> {
        match &self.request {
            Some(request) => or_gone(request.answer(&value)),
            None => Ok(()),
        }
    }

    /// As [`set_return_value`](Self::set_return_value), with MessagePack.
    #[cfg(feature = "capi")]
    pub(crate) fn set_encoded_return_value(&self, value: &[u8]) -> Result<()> {
        match &self.request {
            Some(request) => {
                or_gone(request.answer_with(|out, limits| crate::wire::encode_encoded(value, out, limits)))
            }
            None => Ok(()),
        }
    }

    /// Whether somebody waits for [`set_return_value`](Self::set_return_value).
    pub fn is_synchronous(&self) -> bool {
        self.request.is_some()
    }
}

impl std::fmt::Debug for IpcMainEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcMainEvent")
            .field("sender", &self.link.id)
            .field("frame_id", &self.frame)
            .field("is_synchronous", &self.is_synchronous())
            .field("is_local", &self.is_local)
            .finish()
    }
}

/// Given to main's handlers. A cheap clone that may be kept and sent to other threads.
#[derive(Clone)]
pub struct IpcMainInvokeEvent {
    request: Arc<Request>,
}

impl IpcMainInvokeEvent {
    pub(crate) fn new(request: &Arc<Request>) -> Self {
        Self { request: request.clone() }
    }

    /// The renderer that called.
    pub fn sender(&self) -> WebContents {
        WebContents::new(self.request.link.clone())
    }

    /// The frame that called. It may be closed by now: see [`WebFrameMain::is_detached`].
    pub fn sender_frame(&self) -> WebFrameMain {
        WebFrameMain::new(self.request.link.clone(), self.request.frame)
    }

    /// The number of the frame that called; 1 is the renderer's main frame.
    pub fn frame_id(&self) -> u32 {
        self.request.frame
    }

    /// The process id of the renderer; 0 where it is not visible from here.
    pub fn process_id(&self) -> u32 {
        self.request.link.pid()
    }

    /// Whether the caller does not want the answer any more: it dropped the call, its time was over, or it is gone.
    /// May become true at any time, never false again.
    pub fn is_cancelled(&self) -> bool {
        self.request.is_cancelled()
    }
}

impl std::fmt::Debug for IpcMainInvokeEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcMainInvokeEvent")
            .field("sender", &self.request.link.id)
            .field("frame_id", &self.request.frame)
            .field("is_cancelled", &self.is_cancelled())
            .finish()
    }
}

/// Given to a renderer's handlers, which main calls by [`WebContents::invoke`]. A cheap clone that may be kept and sent
/// to other threads.
#[derive(Clone)]
pub struct IpcRendererInvokeEvent {
    request: Arc<Request>,
}

impl IpcRendererInvokeEvent {
    pub(crate) fn new(request: &Arc<Request>) -> Self {
        Self { request: request.clone() }
    }

    /// The number of the frame that was called; 1 is the renderer's main frame.
    pub fn frame_id(&self) -> u32 {
        self.request.frame
    }

    /// Whether main does not want the answer any more: it dropped the call, its time was over, or it is gone. May become
    /// true at any time, never false again.
    pub fn is_cancelled(&self) -> bool {
        self.request.is_cancelled()
    }
}

impl std::fmt::Debug for IpcRendererInvokeEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcRendererInvokeEvent")
            .field("frame_id", &self.request.frame)
            .field("is_cancelled", &self.is_cancelled())
            .finish()
    }
}

/// Sends from a frame of this renderer to a frame of another one, through main.
pub(crate) fn send_to<A: IntoArgs>(link: &Link, from: u32, to: (u32, u32), channel: &str, args: &A) -> Result<()> {
    let (peer, peer_frame) = to;
    if peer == 0 || peer_frame == 0 {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("there is no frame {peer_frame} of renderer {peer}: both count from 1, 0 is main (use send)"),
        ));
    }
    link.send_args(&Envelope { frame: from, peer, peer_frame, ..envelope(Kind::SendTo, 0, channel) }, args)
}

/// As `reply`: who is gone does not mind.
fn or_gone(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::Disconnected => Ok(()),
        result => result,
    }
}

/// Given to a renderer's listeners. A cheap clone that may be kept and sent to other threads.
#[derive(Clone)]
pub struct IpcRendererEvent {
    link: Arc<Link>,
    frame: u32,
    sender: u32,
    sender_frame: u32,
    is_local: bool,
}

impl IpcRendererEvent {
    pub(crate) fn new(delivery: &Delivery<'_>) -> Self {
        Self {
            link: delivery.link.clone(),
            frame: delivery.frame,
            sender: delivery.peer,
            sender_frame: delivery.peer_frame,
            is_local: delivery.is_local,
        }
    }

    /// The id of the renderer that sent the message; 0 from main. Main fills it in: it cannot be forged.
    pub fn sender_id(&self) -> u32 {
        self.sender
    }

    /// The frame of that renderer; 0 from main.
    pub fn sender_frame_id(&self) -> u32 {
        self.sender_frame
    }

    /// Whether the main frame of another renderer sent the message; false from main, as
    /// [`sender_id`](Self::sender_id) says.
    pub fn sender_is_main_frame(&self) -> bool {
        self.sender_frame == MAIN_FRAME
    }

    /// The frame of this renderer that the message is for.
    pub fn frame_id(&self) -> u32 {
        self.frame
    }

    /// Whether nobody sent this: `emit` was called in this process.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Sends to whoever sent the message: to main, or through main to exactly the frame of the other renderer. Never
    /// blocks.
    ///
    /// # Errors
    ///
    /// As [`IpcRenderer::send`](crate::IpcRenderer::send), [`ErrorKind::Disconnected`] excepted: a sender that is gone
    /// does not mind.
    pub fn reply<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        if self.is_local {
            return Ok(());
        }
        or_gone(match self.sender {
            0 => self.link.send(self.frame, channel, &args),
            sender => send_to(&self.link, self.frame, (sender, self.sender_frame), channel, &args),
        })
    }
}

impl std::fmt::Debug for IpcRendererEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcRendererEvent")
            .field("sender_id", &self.sender)
            .field("sender_frame_id", &self.sender_frame)
            .field("frame_id", &self.frame)
            .field("is_local", &self.is_local)
            .finish()
    }
}

/// Given to a host that listens to its guests: [`IpcRenderer::on_ipc_message`](crate::IpcRenderer::on_ipc_message). A
/// cheap clone that may be kept and sent to other threads.
#[derive(Clone)]
pub struct GuestEvent {
    link: Arc<Link>,
    guest: u32,
    frame: u32,
}

impl GuestEvent {
    pub(crate) fn new(delivery: &Delivery<'_>) -> Self {
        Self { link: delivery.link.clone(), guest: delivery.peer, frame: delivery.peer_frame }
    }

    /// The id of the guest, as main numbers it. Main fills it in: it cannot be forged.
    pub fn guest_id(&self) -> u32 {
        self.guest
    }

    /// The frame of the guest that sent the message; 1 is its main frame.
    pub fn frame_id(&self) -> u32 {
        self.frame
    }

    /// Sends to exactly that frame of the guest, through main. Never blocks.
    ///
    /// # Errors
    ///
    /// As [`IpcRenderer::send_to`](crate::IpcRenderer::send_to), [`ErrorKind::Disconnected`] excepted.
    pub fn reply<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        or_gone(send_to(&self.link, MAIN_FRAME, (self.guest, self.frame), channel, &args))
    }
}

impl std::fmt::Debug for GuestEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestEvent").field("guest_id", &self.guest).field("frame_id", &self.frame).finish()
    }
}

/// A call that is answered when its handler has returned, or before. Dropped without, its caller gets
/// [`ErrorKind::ReplyNeverSent`].
#[cfg(feature = "capi")]
pub(crate) struct Deferred {
    request: Arc<Request>,
}

#[cfg(feature = "capi")]
impl Deferred {
    pub(crate) fn new(request: &Arc<Request>) -> Self {
        Self { request: request.clone() }
    }

    /// The renderer at the link, and the frame of it that called or was called.
    pub(crate) fn place(&self) -> (u32, u32) {
        (self.request.link.id, self.request.frame)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.request.is_cancelled()
    }

    /// Answers with MessagePack; the first answer counts.
    pub(crate) fn answer(&self, value: &[u8]) -> Result<()> {
        or_gone(self.request.answer_with(|out, limits| crate::wire::encode_encoded(value, out, limits)))
    }

    /// Answers with a failure; the first answer counts.
    pub(crate) fn fail(&self, error: crate::error::HandlerError) {
        self.request.fail_with(error);
    }
}
