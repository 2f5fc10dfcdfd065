//! Main's handles of one renderer, of one frame of it, and of what is registered for either alone.

use crate::dispatch::MAIN_FRAME;
use crate::driver::{IPC_MESSAGE, IPC_MESSAGE_SYNC, Link, ListenerId, Receiver};
use crate::emitter::{any_channel_listener, emitter_methods, handler_methods};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{IpcMainEvent, IpcMainInvokeEvent};
use crate::invoke::Invoke;
use crate::link::{Exit, GoneReason};
use crate::registry::Where;
use crate::sync::{Arc, Ordering};
use crate::wire::{Args, FromArgs, IntoArgs};
use serde::de::DeserializeOwned;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

/// Main's handle of one renderer. A cheap clone, usable from any thread; it does not keep the link alive.
#[derive(Clone)]
pub struct WebContents {
    link: Arc<Link>,
}

/// Counters of one link at one moment; other threads change them meanwhile. Sizes are in bytes and include the 24 bytes
/// of a message's header and its channel name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages handed to the ring or its queue.
    pub messages_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Messages read from the ring.
    pub messages_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Bytes that wait in the queue because the ring is full.
    pub queued_bytes: u64,
    /// Sends refused because a limit was reached.
    pub refused_full: u64,
    /// Replies that came after their call was given up.
    pub late_replies: u64,
    /// Messages that had nobody to go to and were dropped: of this renderer to others (unknown, gone, without host,
    /// refused by the policy, or their share of the queue is full), replies to frames that are gone; at a renderer what
    /// main sent to a frame that had just been closed.
    pub undeliverable: u64,
    /// Calls of ours that wait for an answer.
    pub pending_calls: u64,
    /// Requests of the other side's that have no answer yet.
    pub open_requests: u64,
}

pub(crate) fn stats(link: &Link) -> Stats {
    let of = |counter: &crate::sync::AtomicU64| counter.load(Ordering::Relaxed);
    let (counters, sent) = (&link.counters, link.sent());
    Stats {
        messages_sent: sent.messages,
        bytes_sent: sent.bytes,
        messages_received: of(&counters.messages_received),
        bytes_received: of(&counters.bytes_received),
        queued_bytes: link.queued() as u64,
        refused_full: of(&counters.refused_full),
        late_replies: of(&counters.late_replies),
        undeliverable: of(&counters.undeliverable),
        pending_calls: link.pending_calls() as u64,
        open_requests: link.open_requests.load(Ordering::Relaxed) as u64
            + u64::from(link.handles_request.load(Ordering::Relaxed)),
    }
}

impl WebContents {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// The renderer's number: 1 for the first of an [`IpcMain`](crate::IpcMain), never used twice by it.
    pub fn id(&self) -> u32 {
        self.link.id
    }

    /// The renderer's process.
    pub fn process(&self) -> Process<'_> {
        Process { link: &self.link }
    }

    /// Sends a message to the renderer's main frame. Never waits: what finds no room in the ring queues here, and what
    /// is sent before the renderer has connected waits for it, in order.
    ///
    /// Takes a short lock, may allocate where the message queues, and makes one system call if the renderer sleeps.
    ///
    /// # Errors
    ///
    /// Nothing was sent: [`ErrorKind::InvalidValue`] naming the path, [`ErrorKind::TooLarge`], [`ErrorKind::Full`],
    /// [`ErrorKind::Disconnected`], [`ErrorKind::Forked`].
    pub fn send<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        self.link.send(MAIN_FRAME, channel, &args)
    }

    /// As [`send`](Self::send), but waits up to `timeout` for the queue to take the message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), [`ErrorKind::Full`] if the time is over; [`ErrorKind::WouldDeadlock`] on the dispatcher
    /// thread.
    pub fn send_timeout<A: IntoArgs>(&self, channel: &str, args: A, timeout: Duration) -> Result<()> {
        self.link.send_timeout(MAIN_FRAME, channel, &args, timeout)
    }

    /// Waits until all that was sent before is in the ring, where the renderer finds it even if this process ends.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`], [`ErrorKind::Disconnected`]; [`ErrorKind::WouldDeadlock`] on the dispatcher thread.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.link.flush(timeout)
    }

    /// Sends a message to one frame of the renderer; false, and nothing is sent, if there is no such frame (any more). As
    /// [`send`](Self::send), and in order with it. A frame that is closed meanwhile loses the message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_to_frame<A: IntoArgs>(&self, frame_id: u32, channel: &str, args: A) -> Result<bool> {
        if !self.link.is_lost() && !self.link.is_frame_open(frame_id) {
            return Ok(false);
        }
        match self.link.send(frame_id, channel, &args) {
            Ok(()) => Ok(true),
            // It was closed meanwhile.
            Err(error)
                if error.kind() == ErrorKind::Disconnected
                    && !self.link.is_lost()
                    && !self.link.is_frame_open(frame_id) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Calls the handler of `channel` in the renderer's main frame: [`IpcRenderer::handle`](crate::IpcRenderer::handle).
    /// The request is sent now, in order with [`send`](Self::send), also before the renderer has connected; errors of
    /// sending come out of the future. `.wait()` blocks, `.await` works on any executor.
    ///
    /// A renderer may never answer, so the timeout is not optional: after it the call fails with
    /// [`ErrorKind::Timeout`] and its slot is free, whether anybody waits for it or not. Dropping the future asks the
    /// renderer to cancel.
    ///
    /// ```
    /// # use ringmain::IpcMain;
    /// # use std::time::Duration;
    /// let ipc_main = IpcMain::new()?;
    /// let ipc_renderer = ipc_main.attach()?;
    /// ipc_renderer.handle("selection", |_event, ()| Ok(vec![3, 5]))?;
    /// let web_contents = &ipc_main.all_web_contents()[0];
    /// let selection: Vec<u32> = web_contents.invoke("selection", (), Duration::from_secs(1)).wait()?;
    /// assert_eq!(selection, [3, 5]);
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    pub fn invoke<R: DeserializeOwned>(&self, channel: &str, args: impl IntoArgs, timeout: Duration) -> Invoke<R> {
        Invoke::send_within(&self.link, MAIN_FRAME, channel, &args, timeout)
    }

    /// The listeners and handlers of this renderer alone. For a message they run before those of
    /// [`IpcMain`](crate::IpcMain), and their handler goes before its. They are dropped when the renderer is gone.
    pub fn ipc(&self) -> IpcReceiver {
        IpcReceiver { receiver: self.link.ipc(), link: self.link.clone(), frame: MAIN_FRAME }
    }

    /// The renderer's main frame.
    pub fn main_frame(&self) -> WebFrameMain {
        WebFrameMain::new(self.link.clone(), MAIN_FRAME)
    }

    /// The open frame of this number. Further frames are opened and closed by the renderer, at any time; main knows of it
    /// when its dispatcher has come so far, and a thread that has waited for an answer may be ahead of that.
    pub fn frame(&self, frame_id: u32) -> Option<WebFrameMain> {
        self.link.is_frame_open(frame_id).then(|| WebFrameMain::new(self.link.clone(), frame_id))
    }

    /// The open frames in the order in which they were opened, the main frame first; none once the renderer is gone.
    pub fn frames(&self) -> Vec<WebFrameMain> {
        self.link.frame_ids().into_iter().map(|id| WebFrameMain::new(self.link.clone(), id)).collect()
    }

    /// Calls `listener` with channel and arguments for every message of this renderer, whatever its channel, before the
    /// other listeners: Electron's event `ipc-message`. Not for synchronous messages, calls and messages to other
    /// renderers. On the dispatcher, as [`IpcMain::on`](crate::IpcMain::on). The id removes it by itself
    /// ([`ListenerId::remove`], [`scoped`](ListenerId::scoped)).
    pub fn on_ipc_message<R: 'static>(
        &self,
        listener: impl Fn(&IpcMainEvent, &str, Args) -> R + Send + Sync + 'static,
    ) -> ListenerId {
        let listener = any_channel_listener(IpcMainEvent::new, listener);
        self.link.events().add(IPC_MESSAGE, listener, Where::Back, false)
    }

    /// As [`on_ipc_message`](Self::on_ipc_message) for synchronous messages; the listener may set the return value:
    /// Electron's event `ipc-message-sync`.
    pub fn on_ipc_message_sync<R: 'static>(
        &self,
        listener: impl Fn(&IpcMainEvent, &str, Args) -> R + Send + Sync + 'static,
    ) -> ListenerId {
        let listener = any_channel_listener(IpcMainEvent::new, listener);
        self.link.events().add(IPC_MESSAGE_SYNC, listener, Where::Back, false)
    }

    /// Says which renderer embeds this one, as an editor's window embeds a preview: the host gets what this one sends by
    /// [`send_to_host`](crate::IpcRenderer::send_to_host). `None`: none does. Nothing is said to either of them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] for a host of another `IpcMain`.
    pub fn set_host(&self, host: Option<&WebContents>) -> Result<()> {
        if let Some(host) = host
            && !Arc::ptr_eq(&host.link.engine, &self.link.engine)
        {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("renderer {} of another IpcMain cannot be the host of renderer {}", host.id(), self.id()),
            ));
        }
        self.link.set_host(host.map(|host| &host.link));
        Ok(())
    }

    /// The renderer that embeds this one, unless it is gone.
    pub fn host(&self) -> Option<WebContents> {
        self.link.host().filter(|host| !host.is_lost()).map(WebContents::new)
    }

    /// Whether the renderer has connected and is not gone. May change at any time.
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Why the renderer is gone, once it is.
    pub fn gone_reason(&self) -> Option<GoneReason> {
        self.link.gone_reason().cloned()
    }

    /// Closes the link in order: waits up to `timeout` for the queue to drain (not on the dispatcher thread), then tells
    /// the renderer. Its process goes on; see [`Process::kill`]. Closing twice is no error.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`]: the link is closed, but something of what was sent is lost.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        close(&self.link, timeout)
    }

    /// Opens main's end of a [lane](crate::lane), whose other end the renderer opens by [`IpcRenderer::lane`] with the same name:
    /// before or after it has connected, now or later. Makes the lane's memory and hands it over by the link's socket; does not
    /// wait. Which kind of end it is, the type says: `let notes: LaneSender<Note> = web_contents.lane("notes", &config)?`.
    ///
    /// [`IpcRenderer::lane`]: crate::IpcRenderer::lane
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] for sizes that cannot be; [`ErrorKind::NameInUse`] while an end of this name lives;
    /// [`ErrorKind::System`] if there is no memory or descriptor; [`ErrorKind::Full`] if the renderer has not taken so many
    /// lanes that its socket is full; [`ErrorKind::Disconnected`].
    pub fn lane<E: crate::LaneEnd>(&self, name: &str, config: &crate::LaneConfig) -> Result<E> {
        crate::lane::open(&self.link, name, config)
    }

    /// The counters of the link.
    pub fn stats(&self) -> Stats {
        stats(&self.link)
    }
}

pub(crate) fn close(link: &Arc<Link>, timeout: Duration) -> Result<()> {
    link.engine.check_fork()?;
    let mut drained = Ok(());
    if !link.is_lost() && link.queued() > 0 {
        let until = Instant::now().checked_add(timeout);
        let waited = link.check_blocking("close").is_ok() && link.wait_for_queue(1, until).unwrap_or(true);
        if !waited && link.queued() > 0 {
            let lost = link.queued();
            drained = Err(Error::new(
                ErrorKind::Timeout,
                format!("the link was closed while {lost} bytes still waited: they are lost"),
            ));
        }
    }
    link.close();
    drained
}

impl PartialEq for WebContents {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.link, &other.link)
    }
}

impl Eq for WebContents {}

impl std::fmt::Debug for WebContents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebContents")
            .field("id", &self.id())
            .field("process_id", &self.link.pid())
            .field("is_connected", &self.is_connected())
            .finish()
    }
}

/// Main's handle of one frame of a renderer. A cheap clone, usable from any thread; it keeps nothing alive, and is never
/// that of a later frame: numbers are not used twice.
#[derive(Clone)]
pub struct WebFrameMain {
    link: Arc<Link>,
    id: u32,
}

impl WebFrameMain {
    pub(crate) fn new(link: Arc<Link>, id: u32) -> Self {
        Self { link, id }
    }

    /// The frame's number; 1 is the renderer's main frame.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The renderer that the frame belongs to.
    pub fn web_contents(&self) -> WebContents {
        WebContents::new(self.link.clone())
    }

    /// Whether it is the renderer's main frame.
    pub fn is_main_frame(&self) -> bool {
        self.id == MAIN_FRAME
    }

    /// The frame in which this one was opened. `None` for the main frame, and once this one is closed.
    pub fn parent(&self) -> Option<WebFrameMain> {
        self.link.frame_parent(self.id).map(|parent| Self::new(self.link.clone(), parent))
    }

    /// Whether the frame is closed, or its renderer gone. What it sent before is delivered all the same. May become true
    /// at any time, never false again.
    pub fn is_detached(&self) -> bool {
        !self.link.is_frame_open(self.id)
    }

    /// Sends a message to this frame. As [`WebContents::send`], and in order with it.
    ///
    /// # Errors
    ///
    /// As [`WebContents::send`]; [`ErrorKind::Disconnected`] also if the frame is closed.
    pub fn send<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        self.check()?;
        self.link.send(self.id, channel, &args)
    }

    /// Calls the handler of `channel` in this frame; as [`WebContents::invoke`].
    pub fn invoke<R: DeserializeOwned>(&self, channel: &str, args: impl IntoArgs, timeout: Duration) -> Invoke<R> {
        match self.check() {
            Ok(()) => Invoke::send_within(&self.link, self.id, channel, &args, timeout),
            Err(error) => Invoke::failed(error),
        }
    }

    fn check(&self) -> Result<()> {
        if self.link.is_lost() {
            return Err(self.link.disconnected());
        }
        if self.is_detached() { Err(crate::driver::frame_closed(self.id)) } else { Ok(()) }
    }

    /// The listeners and handlers of this frame alone. For a message they run before those of
    /// [`WebContents::ipc`], and their handler goes before its. They are dropped when the frame is closed; what is
    /// registered afterwards is dropped at once.
    pub fn ipc(&self) -> IpcReceiver {
        IpcReceiver { receiver: self.link.frame_receiver(self.id), link: self.link.clone(), frame: self.id }
    }
}

impl PartialEq for WebFrameMain {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && Arc::ptr_eq(&self.link, &other.link)
    }
}

impl Eq for WebFrameMain {}

impl std::fmt::Debug for WebFrameMain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebFrameMain")
            .field("id", &self.id)
            .field("renderer", &self.link.id)
            .field("is_detached", &self.is_detached())
            .finish()
    }
}

/// Listeners and handlers of one renderer ([`WebContents::ipc`]) or one frame ([`WebFrameMain::ipc`]) alone. A cheap
/// clone.
///
/// A message runs the listeners of its frame, then those of its renderer, then those of [`IpcMain`](crate::IpcMain). A
/// call goes to the first of them that has a handler for its channel.
///
/// ```
/// # use ringmain::IpcMain;
/// let ipc_main = IpcMain::new()?;
/// let (trusted, other) = (ipc_main.attach()?, ipc_main.attach()?);
/// let web_contents = ipc_main.web_contents(trusted.id()).expect("it is attached");
/// web_contents.ipc().handle("secret", |_event, ()| Ok(42))?;
/// assert_eq!(trusted.invoke::<i64>("secret", ()).wait()?, 42);
/// assert!(other.invoke::<i64>("secret", ()).wait().is_err());
/// # Ok::<(), ringmain::Error>(())
/// ```
#[derive(Clone)]
pub struct IpcReceiver {
    link: Arc<Link>,
    receiver: Arc<Receiver>,
    frame: u32,
}

impl IpcReceiver {
    fn emitter(&self) -> &Arc<Receiver> {
        &self.receiver
    }

    fn here(&self) -> (Arc<Link>, u32) {
        (self.link.clone(), self.frame)
    }

    emitter_methods!(IpcMainEvent);

    handler_methods!(IpcMainInvokeEvent);
}

impl std::fmt::Debug for IpcReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcReceiver").field("renderer", &self.link.id).field("frame", &self.frame).finish()
    }
}

/// How a renderer's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited; the code is known for processes that this one spawned.
    Exited(Option<i32>),
    /// A signal ended it.
    Killed(i32),
}

/// The process of a renderer.
pub struct Process<'a> {
    link: &'a Arc<Link>,
}

impl Process<'_> {
    /// Its process id; 0 where it is not visible from here.
    pub fn id(&self) -> u32 {
        self.link.pid()
    }

    /// How it ended, if it did and we saw it.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.link.exit().map(|exit| match exit {
            Exit::Exited(code) => ExitStatus::Exited(code),
            Exit::Killed(signal) => ExitStatus::Killed(signal),
        })
    }

    /// Kills it with SIGKILL, exactly this process and no later one of the same number. One that has ended already is no
    /// error, and neither is one that was not spawned here and whose link is gone: it is not ours to kill any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::System`] if the system refuses; [`ErrorKind::InvalidConfig`] for an attached renderer, whose process
    /// is this one, and where the process is not known.
    pub fn kill(&self) -> Result<()> {
        if self.exit_status().is_some() {
            return Ok(());
        }
        match self.link.kill() {
            Some(killed) => killed.map_err(|error| Error::system("cannot kill the renderer", error)),
            None if self.link.gone_reason().is_some() => Ok(()),
            None => Err(Error::new(
                ErrorKind::InvalidConfig,
                "the renderer's process is not known: it is attached, or the system gave no handle of it",
            )),
        }
    }

    /// The standard input of a spawned renderer, if its `Command` asked for a pipe; once.
    pub fn take_stdin(&self) -> Option<ChildStdin> {
        self.link.child.lock().as_mut()?.stdin.take()
    }

    /// The standard output of a spawned renderer, if its `Command` asked for a pipe; once.
    pub fn take_stdout(&self) -> Option<ChildStdout> {
        self.link.child.lock().as_mut()?.stdout.take()
    }

    /// The standard error of a spawned renderer, if its `Command` asked for a pipe; once.
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        self.link.child.lock().as_mut()?.stderr.take()
    }
}

impl std::fmt::Debug for Process<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("id", &self.id()).field("exit_status", &self.exit_status()).finish()
    }
}
