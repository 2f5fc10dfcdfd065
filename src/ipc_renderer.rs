//! A renderer's end.

use crate::config::{Config, common_options, executor_option};
use crate::dispatch::MAIN_FRAME;
use crate::driver::{
    Call, Connecting, Engine, ErrorReport, Handler, IPC_MESSAGE, Link, Listener, ListenerId, Outcome, Policies,
    Receiver, envelope, frame_closed, inherited, named, read_reply, timed_out,
};
use crate::emitter::{any_channel_listener, async_handler, emitter_methods, handler_methods, listener, sync_handler};
use crate::error::{HandlerError, Result};
use crate::event::{GuestEvent, IpcRendererEvent, IpcRendererInvokeEvent, send_to};
use crate::invoke::Invoke;
use crate::ipc_main;
use crate::link::{GoneReason, Side};
use crate::pipe::Waited;
use crate::polling::polling_methods;
use crate::registry::Where;
use crate::sync::Arc;
use crate::web_contents::{self, Stats};
use crate::wire::{Args, Envelope, FromArgs, IntoArgs, Kind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};

/// How long two ends in one process may take to shake hands.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);

/// What ends when the handle is dropped that made it.
enum Owner {
    /// The whole end of the link.
    Link { _link: ipc_main::Owner },
    /// A further frame.
    Frame(Arc<Link>, u32),
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Self::Frame(link, frame) = self
            && !link.engine.is_forked()
        {
            link.close_frame(*frame);
        }
    }
}

/// A renderer's end: sends to main, calls it, listens to what it sends.
///
/// Two threads work for it, as for [`IpcMain`](crate::IpcMain); but a thread that waits for an answer reads the ring
/// itself, so a call costs no hop.
///
/// The handle that [`connect`](Self::connect) and its kin return **owns** the link: when it is dropped, the queue is
/// drained for at most one second and the link is closed. Clones are cheap and work as long as it lives; so a listener
/// that captured a clone keeps nothing alive.
///
/// # Frames
///
/// A renderer has a main frame, and may [open](Self::frame) further ones: endpoints with listeners, handlers and an order
/// of their own, which main tells apart ([`IpcMainEvent::frame_id`](crate::IpcMainEvent::frame_id)) and can send to. The
/// handle of a frame is an `IpcRenderer` too. The one that [`frame`](Self::frame) returned owns the frame.
///
/// ```
/// # use ringmain::{IpcMain, IpcMainEvent};
/// # let ipc_main = IpcMain::new()?;
/// ipc_main.handle("who", |event, ()| Ok(event.frame_id()))?;
/// let ipc_renderer = ipc_main.attach()?;
/// let panel = ipc_renderer.frame()?;
/// assert_eq!(ipc_renderer.invoke::<u32>("who", ()).wait()?, 1);
/// assert_eq!(panel.invoke::<u32>("who", ()).wait()?, panel.frame_id());
/// # Ok::<(), ringmain::Error>(())
/// ```
pub struct IpcRenderer {
    engine: Arc<Engine>,
    link: Arc<Link>,
    frame: u32,
    receiver: Arc<Receiver>,
    _owner: Option<Owner>,
}

impl Clone for IpcRenderer {
    /// A handle that does not own: see [`IpcRenderer`].
    fn clone(&self) -> Self {
        let (engine, link, receiver) = (self.engine.clone(), self.link.clone(), self.receiver.clone());
        Self { engine, link, frame: self.frame, receiver, _owner: None }
    }
}

impl IpcRenderer {
    /// Connects to the main that spawned this process; once per process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotARenderer`](crate::ErrorKind::NotARenderer) if no main did, [`ErrorKind::AlreadyConnected`](crate::ErrorKind::AlreadyConnected), [`ErrorKind::Refused`](crate::ErrorKind::Refused) if versions
    /// or limits do not go together, [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected), [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    pub fn connect() -> Result<Self> {
        Self::builder().connect()
    }

    /// Connects to a main that [listens](crate::IpcMain::listen) under `name`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotListening`](crate::ErrorKind::NotListening), and as [`connect`](Self::connect).
    pub fn connect_to(name: &str) -> Result<Self> {
        Self::builder().connect_to(name)
    }

    /// Options, listeners and handlers first: what the builder has cannot miss a message or a call.
    pub fn builder() -> IpcRendererBuilder {
        Self::builder_of(Config::default())
    }

    pub(crate) fn builder_of(config: Config) -> IpcRendererBuilder {
        IpcRendererBuilder {
            config,
            policies: Policies::default(),
            listeners: Vec::new(),
            handlers: Vec::new(),
            guests: Vec::new(),
        }
    }

    fn start(
        engine: Arc<Engine>,
        connecting: Connecting,
        guests: Vec<Listener>,
        deadline: Option<Instant>,
    ) -> Result<Self> {
        let owner = Owner::Link { _link: ipc_main::Owner(engine.clone()) };
        let link = engine.connect(connecting, guests, deadline)?;
        let receiver = engine.receiver.clone();
        Ok(Self { engine, link, frame: MAIN_FRAME, receiver, _owner: Some(owner) })
    }

    #[cfg(feature = "capi")]
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn emitter(&self) -> &Arc<Receiver> {
        &self.receiver
    }

    fn here(&self) -> (Arc<Link>, u32) {
        (self.link.clone(), self.frame)
    }

    emitter_methods!(IpcRendererEvent);

    handler_methods!(IpcRendererInvokeEvent);

    polling_methods!("messages of main, hooks, async handlers, for all frames.");

    /// The number under which main knows this renderer.
    pub fn id(&self) -> u32 {
        self.link.id
    }

    // ---- frames -------------------------------------------------------------------------------------------------

    /// Opens a further frame, inside this one: see [Frames](Self#frames). What this thread sends from it afterwards finds
    /// it open in main. It is closed when the returned handle is dropped, or by its [`close`](Self::close); clones do
    /// not own it. A renderer may have 4 096 frames open at once.
    ///
    /// Never blocks; sends one message to main.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit), [`ErrorKind::Full`](crate::ErrorKind::Full), [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) (also if this frame is closed),
    /// [`ErrorKind::Forked`](crate::ErrorKind::Forked).
    pub fn frame(&self) -> Result<Self> {
        let (frame, receiver) = self.link.open_frame(self.frame)?;
        let owner = Owner::Frame(self.link.clone(), frame);
        Ok(Self { engine: self.engine.clone(), link: self.link.clone(), frame, receiver, _owner: Some(owner) })
    }

    /// The number of this handle's frame; 1 is the main frame. Never used twice.
    pub fn frame_id(&self) -> u32 {
        self.frame
    }

    /// Whether this handle's frame is the renderer's main frame.
    pub fn is_main_frame(&self) -> bool {
        self.frame == MAIN_FRAME
    }

    #[inline]
    fn check_frame(&self) -> Result<()> {
        if !self.is_main_frame() && self.receiver.is_over() && !self.link.is_lost() {
            return Err(frame_closed(self.frame));
        }
        Ok(())
    }

    // ---- sending ------------------------------------------------------------------------------------------------

    /// Sends a message to main. Never waits: what finds no room in the ring queues here.
    ///
    /// Takes a short lock, may allocate where the message queues, and makes one system call if main sleeps; so it does
    /// not belong in an audio callback.
    ///
    /// A value alone is no list of arguments, and does not compile:
    ///
    /// ```compile_fail,E0277
    /// # fn send(ipc_renderer: &ringmain::IpcRenderer) {
    /// ipc_renderer.send("x", "hello").unwrap(); // `("hello",)` does
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Nothing was sent: [`ErrorKind::InvalidValue`](crate::ErrorKind::InvalidValue) naming the path, [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge), [`ErrorKind::Full`](crate::ErrorKind::Full),
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected), [`ErrorKind::Forked`](crate::ErrorKind::Forked).
    pub fn send<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        self.check_frame()?;
        self.link.send(self.frame, channel, &args)
    }

    /// As [`send`](Self::send), but waits up to `timeout` for the queue to take the message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), [`ErrorKind::Full`](crate::ErrorKind::Full) if the time is over; [`ErrorKind::WouldDeadlock`](crate::ErrorKind::WouldDeadlock) where main's
    /// dispatcher would have to wait for itself.
    pub fn send_timeout<A: IntoArgs>(&self, channel: &str, args: A, timeout: Duration) -> Result<()> {
        self.check_frame()?;
        self.link.send_timeout(self.frame, channel, &args, timeout)
    }

    /// Sends a message to the main frame of renderer `id`, through main; its event's
    /// [`sender_id`](IpcRendererEvent::sender_id) says who sent it. The target may be this renderer itself. Never waits,
    /// and costs what [`send`](Self::send) does; in order with it as far as main.
    ///
    /// A target that is not there, or that main's [policy](crate::IpcMainBuilder::allow_route) forbids, is no error to
    /// the sender, as in Electron: the message is dropped, counted and told to main's `on_error`. So is one that finds
    /// the quarter of the target's queue used up that is for messages of other renderers.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for number 0, which is main.
    pub fn send_to<A: IntoArgs>(&self, id: u32, channel: &str, args: A) -> Result<()> {
        self.send_to_frame(id, MAIN_FRAME, channel, args)
    }

    /// As [`send_to`](Self::send_to), to one frame of the other renderer.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    pub fn send_to_frame<A: IntoArgs>(&self, id: u32, frame_id: u32, channel: &str, args: A) -> Result<()> {
        self.check_frame()?;
        send_to(&self.link, self.frame, (id, frame_id), channel, &args)
    }

    /// Sends a message to the renderer that embeds this one ([`WebContents::set_host`](crate::WebContents::set_host)),
    /// through main, whose listeners do not see it; there it is an [`on_ipc_message`](Self::on_ipc_message). Without a
    /// host it is dropped, counted and told to main's `on_error`. Never waits.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_to_host<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        self.check_frame()?;
        self.link.send_args(&Envelope { frame: self.frame, ..envelope(Kind::SendToHost, 0, channel) }, &args)
    }

    /// Calls `listener` with channel and arguments for every message that a guest of this renderer sends by
    /// [`send_to_host`](Self::send_to_host), from whichever frame of it: Electron's event `ipc-message` of `<webview>`.
    /// On the dispatcher, as [`on`](Self::on); the same for all frames of this renderer. The id
    /// removes it by itself ([`ListenerId::remove`], [`scoped`](ListenerId::scoped)).
    pub fn on_ipc_message<R: 'static>(
        &self,
        listener: impl Fn(&GuestEvent, &str, Args) -> R + Send + Sync + 'static,
    ) -> ListenerId {
        let listener = any_channel_listener(GuestEvent::new, listener);
        self.link.events().add(IPC_MESSAGE, listener, Where::Back, false)
    }

    /// Waits until all that was sent before is in the ring, where main finds it even if this process ends.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout), [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected), [`ErrorKind::WouldDeadlock`](crate::ErrorKind::WouldDeadlock).
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.link.flush(timeout)
    }

    /// Calls the handler of `channel` in main. The request is sent now, in order with [`send`](Self::send); errors of
    /// sending come out of the future. `.wait()` blocks, `.await` works on any executor.
    ///
    /// Dropping the future asks main to cancel; see [`Invoke::detach`].
    #[inline]
    pub fn invoke<R: DeserializeOwned>(&self, channel: &str, args: impl IntoArgs) -> Invoke<R> {
        match self.check_frame() {
            Ok(()) => Invoke::send(&self.link, self.frame, channel, &args),
            Err(error) => Invoke::failed(error),
        }
    }

    /// Sends a message and blocks until a listener in main sets the return value. On the renderer's dispatcher (in a
    /// listener) it works as in Electron: other messages wait their turn.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`ErrorKind::NoListener`](crate::ErrorKind::NoListener), [`ErrorKind::ReplyNeverSent`](crate::ErrorKind::ReplyNeverSent), [`ErrorKind::BadReply`](crate::ErrorKind::BadReply),
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected), [`ErrorKind::WouldDeadlock`](crate::ErrorKind::WouldDeadlock).
    pub fn send_sync<R: DeserializeOwned>(&self, channel: &str, args: impl IntoArgs) -> Result<R> {
        self.sync(channel, &args, None)
    }

    /// As [`send_sync`](Self::send_sync), but gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send_sync`](Self::send_sync), and [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    pub fn send_sync_timeout<R: DeserializeOwned>(
        &self,
        channel: &str,
        args: impl IntoArgs,
        timeout: Duration,
    ) -> Result<R> {
        self.sync(channel, &args, Instant::now().checked_add(timeout))
    }

    fn sync<R: DeserializeOwned>(&self, channel: &str, args: &impl IntoArgs, until: Option<Instant>) -> Result<R> {
        self.link.check_blocking("send_sync")?;
        self.check_frame()?;
        let (id, call) = self.link.call(Kind::SendSync, self.frame, channel, args)?;
        let result = wait(&self.link, Kind::SendSync, id, &call, until);
        Call::recycle(call);
        result
    }

    /// Whether the link works and the frame is open. May change at any time.
    pub fn is_connected(&self) -> bool {
        self.link.is_connected() && self.check_frame().is_ok()
    }

    /// Why main is gone, once it is.
    pub fn gone_reason(&self) -> Option<GoneReason> {
        self.link.gone_reason().cloned()
    }

    /// Calls `hook` on the dispatcher once, when main is gone or the link was closed, after the last message; also when
    /// it is gone already.
    pub fn on_disconnected(&self, hook: impl Fn(&GoneReason) + Send + Sync + 'static) {
        self.engine.on_gone(Arc::new(move |_, reason| hook(reason)));
    }

    /// Calls `hook` on the dispatcher for what goes wrong where nobody waits for an error; see
    /// [`IpcMain::on_error`](crate::IpcMain::on_error).
    pub fn on_error(&self, hook: impl Fn(&ErrorReport) + Send + Sync + 'static) {
        self.engine.set_error_hook(Arc::new(hook));
    }

    /// Closes the link in order: waits up to `timeout` for the queue to drain, then tells main. The threads end when the
    /// owning handle is dropped. Closing twice is no error.
    ///
    /// On the handle of a further [frame](Self#frames) it closes that frame and those opened inside it, and returns at
    /// once. What was sent from it arrives before main learns of the end; what main sends to it from then on is dropped;
    /// its calls that still wait fail with [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) and are cancelled; its listeners and handlers are
    /// dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout): the link is closed, but something of what was sent is lost.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        if !self.is_main_frame() {
            self.engine.check_fork()?;
            self.link.close_frame(self.frame);
            return Ok(());
        }
        web_contents::close(&self.link, timeout)
    }

    /// Opens this renderer's end of a [lane](crate::lane) that main opens by [`WebContents::lane`] with the same name. Waits for
    /// main's end up to [`LaneConfig::open_timeout`](crate::LaneConfig::open_timeout), in a listener too: what main sends meanwhile waits.
    ///
    /// [`WebContents::lane`]: crate::WebContents::lane
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) if main opens none; [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if main's end does not fit this one, which then can
    /// still be opened as what it is; [`NameInUse`](crate::ErrorKind::NameInUse) while an end of this name lives here;
    /// [`System`](crate::ErrorKind::System); [`Disconnected`](crate::ErrorKind::Disconnected).
    pub fn lane<E: crate::LaneEnd>(&self, name: &str, config: &crate::LaneConfig) -> Result<E> {
        crate::lane::open(&self.link, name, config)
    }

    /// The counters of the link.
    pub fn stats(&self) -> Stats {
        web_contents::stats(&self.link)
    }
}

/// Blocks until a call is answered.
pub(crate) fn wait<R: DeserializeOwned>(
    link: &Arc<Link>,
    kind: Kind,
    id: u64,
    call: &Arc<Call>,
    until: Option<Instant>,
) -> Result<R> {
    let waited = if call.is_done() { (Waited::Done, None) } else { link.wait_for(id, call, until) };
    answer(link, kind, id, call, waited)
}

/// What a wait for a call has come to.
pub(crate) fn answer<R: DeserializeOwned>(
    link: &Arc<Link>,
    kind: Kind,
    id: u64,
    call: &Arc<Call>,
    (waited, answer): (Waited, Option<Outcome>),
) -> Result<R> {
    match waited {
        Waited::Done => {}
        Waited::TimedOut => {
            link.give_up(id, true);
            // It may have come in between.
            if !call.is_done() {
                return Err(timed_out());
            }
        }
        Waited::Violation(violation) => {
            // Before the link is cut, or the dispatcher might be first to fail the call, as merely disconnected.
            let _ = call.finish(Outcome::Failed(link.broke_protocol(&violation)));
            link.violation(&violation);
            link.give_up(id, false);
        }
        Waited::Gone => {
            link.give_up(id, false);
            if !call.is_done() {
                return Err(link.disconnected());
            }
        }
    }
    match answer.or_else(|| call.take()) {
        Some(outcome) => read_reply(link, kind, call.channel(), outcome),
        None => Err(link.disconnected()),
    }
}

impl std::fmt::Debug for IpcRenderer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcRenderer")
            .field("id", &self.id())
            .field("frame_id", &self.frame)
            .field("is_connected", &self.is_connected())
            .finish()
    }
}

/// Options, first listeners and handlers of an [`IpcRenderer`].
pub struct IpcRendererBuilder {
    config: Config,
    policies: Policies,
    listeners: Vec<(String, Listener, bool)>,
    handlers: Vec<(String, Handler)>,
    guests: Vec<Listener>,
}

impl IpcRendererBuilder {
    common_options!();

    executor_option!();

    /// A listener that is there before the first message; see [`IpcRenderer::on`].
    ///
    /// ```no_run
    /// use ringmain::IpcRenderer;
    ///
    /// // Whatever main has sent since it spawned this process, this listener gets it.
    /// let ipc_renderer = IpcRenderer::builder()
    ///     .on("open", |_event, (path,): (String,)| println!("opening {path}"))
    ///     .handle("selection", |_event, ()| Ok(Vec::<u32>::new()))
    ///     .connect()?;
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    #[must_use]
    pub fn on<A, R, F>(mut self, channel: &str, run: F) -> Self
    where
        A: FromArgs + 'static,
        R: 'static,
        F: Fn(&IpcRendererEvent, A) -> R + Send + Sync + 'static,
    {
        self.listeners.push((channel.to_string(), listener(IpcRendererEvent::new, run), false));
        self
    }

    /// As [`on`](Self::on), for the next message alone.
    #[must_use]
    pub fn once<A, R, F>(mut self, channel: &str, run: F) -> Self
    where
        A: FromArgs + 'static,
        R: 'static,
        F: Fn(&IpcRendererEvent, A) -> R + Send + Sync + 'static,
    {
        self.listeners.push((channel.to_string(), listener(IpcRendererEvent::new, run), true));
        self
    }

    /// A handler that is there before main's first call; see [`IpcRenderer::handle`]. A second one for a channel is an
    /// error of [`connect`](Self::connect).
    #[must_use]
    pub fn handle<A, R, F>(mut self, channel: &str, handler: F) -> Self
    where
        A: FromArgs + 'static,
        R: Serialize + 'static,
        F: Fn(&IpcRendererInvokeEvent, A) -> Result<R, HandlerError> + Send + Sync + 'static,
    {
        self.handlers.push((channel.to_string(), sync_handler(IpcRendererInvokeEvent::new, handler)));
        self
    }

    /// As [`handle`](Self::handle), with a future; see [`IpcRenderer::handle_async`].
    #[must_use]
    pub fn handle_async<A, R, F, Fut>(mut self, channel: &str, handler: F) -> Self
    where
        A: FromArgs + 'static,
        R: Serialize + 'static,
        F: Fn(IpcRendererInvokeEvent, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, HandlerError>> + Send + 'static,
    {
        self.handlers.push((channel.to_string(), async_handler(channel, IpcRendererInvokeEvent::new, handler)));
        self
    }

    /// A listener to guests that is there before their first message; see [`IpcRenderer::on_ipc_message`].
    #[must_use]
    pub fn on_ipc_message<R: 'static>(
        mut self,
        listener: impl Fn(&GuestEvent, &str, Args) -> R + Send + Sync + 'static,
    ) -> Self {
        self.guests.push(any_channel_listener(GuestEvent::new, listener));
        self
    }

    /// How long the handshake may take. Default 30 s; `None` for ever.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// See [`IpcRenderer::connect`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn connect(self) -> Result<IpcRenderer> {
        let deadline = self.deadline();
        self.start(|_| inherited(deadline), deadline)
    }

    /// See [`IpcRenderer::connect_to`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn connect_to(self, name: &str) -> Result<IpcRenderer> {
        let deadline = self.deadline();
        self.start(|config| named(config, name, deadline), deadline)
    }

    /// A renderer in this process, as [`IpcMain::attach`](crate::IpcMain::attach), with options, listeners and handlers of
    /// its own: it misses nothing that main sends as soon as it is there.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorKind::DuplicateHandler`](crate::ErrorKind::DuplicateHandler).
    pub fn attach(self, ipc_main: &ipc_main::IpcMain) -> Result<IpcRenderer> {
        self.attach_to(ipc_main.engine())
    }

    pub(crate) fn attach_to(self, main: &Arc<Engine>) -> Result<IpcRenderer> {
        let deadline = Some(Instant::now() + ATTACH_TIMEOUT);
        let mut made = None;
        let connecting = |_: &Config| {
            let (link, socket) = main.attach_renderer()?;
            made = Some(link);
            Ok(Connecting { socket, served_by: Some(main.serving().clone()) })
        };
        let renderer = self.start(connecting, deadline)?;
        if let Some(link) = made {
            // Main's end must not wait for this one on the thread that serves it.
            link.set_served_by(Some(renderer.engine.serving().clone()));
            // The renderer's half is open; wait until watch has opened main's, so that `web_contents` shows it connected.
            link.wait_until_open(deadline);
        }
        Ok(renderer)
    }

    fn deadline(&self) -> Option<Instant> {
        self.config.connect_timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    fn start(
        self,
        connecting: impl FnOnce(&Config) -> Result<Connecting>,
        deadline: Option<Instant>,
    ) -> Result<IpcRenderer> {
        let engine = Engine::new(Side::Renderer, self.config, self.policies)?;
        for (channel, handler) in self.handlers {
            engine.receiver.set_handler(&channel, handler, false)?;
        }
        let connecting = connecting(&engine.config)?;
        for (channel, listener, once) in self.listeners {
            engine.receiver.add(&channel, listener, Where::Back, once);
        }
        IpcRenderer::start(engine, connecting, self.guests, deadline)
    }
}

impl std::fmt::Debug for IpcRendererBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcRendererBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
