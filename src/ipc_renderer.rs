//! A renderer's end.

use crate::config::{Config, common_options};
use crate::driver::{Connecting, Engine, ErrorReport, Link, MAIN_FRAME, inherited, named, read_reply, timed_out};
use crate::emitter::emitter_methods;
use crate::error::{Error, ErrorKind, Result};
use crate::event::IpcRendererEvent;
use crate::invoke::Invoke;
use crate::ipc_main::Owner;
use crate::link::{GoneReason, Side};
use crate::pipe::Waited;
use crate::registry::{ListenerId, Where};
use crate::sync::Arc;
use crate::web_contents::{self, Stats};
use crate::wire::{FromArgs, IntoArgs, Kind};
use serde::de::DeserializeOwned;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A renderer's end: sends to main, calls it, listens to what it sends.
///
/// Two threads work for it, as for [`IpcMain`](crate::IpcMain); but a thread that waits for an answer reads the ring
/// itself, so a call costs no hop.
///
/// The handle that [`connect`](Self::connect) and its kin return **owns** the link: when it is dropped, the queue is
/// drained for at most one second and the link is closed. Clones are cheap and work as long as it lives; so a listener
/// that captured a clone keeps nothing alive.
pub struct IpcRenderer {
    engine: Arc<Engine>,
    link: Arc<Link>,
    _owner: Option<Owner>,
}

impl Clone for IpcRenderer {
    /// A handle that does not own: see [`IpcRenderer`].
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), link: self.link.clone(), _owner: None }
    }
}

impl IpcRenderer {
    /// Connects to the main that spawned this process; once per process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotARenderer`] if no main did, [`ErrorKind::AlreadyConnected`], [`ErrorKind::Refused`] if versions
    /// or limits do not go together, [`ErrorKind::Disconnected`], [`ErrorKind::Timeout`].
    pub fn connect() -> Result<Self> {
        Self::builder().connect()
    }

    /// Connects to a main that [listens](crate::IpcMain::listen) under `name`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotListening`], and as [`connect`](Self::connect).
    pub fn connect_to(name: &str) -> Result<Self> {
        Self::builder().connect_to(name)
    }

    /// Options and listeners first: a listener that the builder has cannot miss a message.
    pub fn builder() -> IpcRendererBuilder {
        IpcRendererBuilder { config: Config::default(), listeners: Vec::new() }
    }

    pub(crate) fn attached(main: &Arc<Engine>, link: &Arc<Link>, socket: OwnedFd) -> Result<Self> {
        let config = Config { connect_timeout: Some(Duration::from_secs(5)), ..main.config.clone() };
        let engine = Engine::new(Side::Renderer, config, None)?;
        let connecting = Connecting { socket, served_by: main.dispatcher_thread() };
        let deadline = Instant::now() + Duration::from_secs(5);
        let renderer = Self::start(engine, connecting, Some(deadline))?;
        // The renderer's half is open; wait until watch has opened main's, so that `web_contents` shows it connected.
        link.wait_until_open(deadline);
        Ok(renderer)
    }

    fn start(engine: Arc<Engine>, connecting: Connecting, deadline: Option<Instant>) -> Result<Self> {
        let owner = Owner(engine.clone());
        let link = engine.connect(connecting, deadline)?;
        Ok(Self { engine, link, _owner: Some(owner) })
    }

    emitter_methods!(IpcRendererEvent);

    /// The number under which main knows this renderer.
    pub fn id(&self) -> u32 {
        self.link.id
    }

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
    /// Nothing was sent: [`ErrorKind::InvalidValue`] naming the path, [`ErrorKind::TooLarge`], [`ErrorKind::Full`],
    /// [`ErrorKind::Disconnected`], [`ErrorKind::Forked`].
    pub fn send<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        self.link.send(MAIN_FRAME, channel, &args)
    }

    /// As [`send`](Self::send), but waits up to `timeout` for the queue to take the message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), [`ErrorKind::Full`] if the time is over; [`ErrorKind::WouldDeadlock`] where main's
    /// dispatcher would have to wait for itself.
    pub fn send_timeout<A: IntoArgs>(&self, channel: &str, args: A, timeout: Duration) -> Result<()> {
        self.link.send_timeout(MAIN_FRAME, channel, &args, timeout)
    }

    /// Waits until all that was sent before is in the ring, where main finds it even if this process ends.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`], [`ErrorKind::Disconnected`], [`ErrorKind::WouldDeadlock`].
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.link.flush(timeout)
    }

    /// Calls the handler of `channel` in main. The request is sent now, in order with [`send`](Self::send); errors of
    /// sending come out of the future. `.wait()` blocks, `.await` works on any executor.
    ///
    /// Dropping the future asks main to cancel; see [`Invoke::detach`].
    #[inline]
    pub fn invoke<R: DeserializeOwned>(&self, channel: &str, args: impl IntoArgs) -> Invoke<R> {
        Invoke::send(&self.link, channel, &args)
    }

    /// Sends a message and blocks until a listener in main sets the return value. On the renderer's dispatcher (in a
    /// listener) it works as in Electron: other messages wait their turn.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`ErrorKind::NoListener`], [`ErrorKind::ReplyNeverSent`], [`ErrorKind::BadReply`],
    /// [`ErrorKind::Disconnected`], [`ErrorKind::WouldDeadlock`].
    pub fn send_sync<R: DeserializeOwned>(&self, channel: &str, args: impl IntoArgs) -> Result<R> {
        self.sync(channel, &args, None)
    }

    /// As [`send_sync`](Self::send_sync), but gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send_sync`](Self::send_sync), and [`ErrorKind::Timeout`].
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
        let (id, call) = self.link.call(Kind::SendSync, channel, args)?;
        wait(&self.link, Kind::SendSync, channel, id, &call, until)
    }

    /// Whether the link works. May change at any time.
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
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
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`]: the link is closed, but something of what was sent is lost.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        web_contents::close(&self.link, timeout)
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
    channel: &str,
    id: u64,
    call: &Arc<crate::driver::Call>,
    until: Option<Instant>,
) -> Result<R> {
    let waited = if call.is_done() { Waited::Done } else { link.wait_for(call, until) };
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
            link.violation(&violation);
            link.give_up(id, false);
            if !call.is_done() {
                return Err(Error::new(ErrorKind::Protocol, format!("the peer broke the protocol: {violation}")));
            }
        }
        Waited::Gone => {
            link.give_up(id, false);
            if !call.is_done() {
                return Err(link.disconnected());
            }
        }
    }
    match call.take() {
        Some(outcome) => read_reply(link, kind, channel, outcome),
        None => Err(link.disconnected()),
    }
}

impl std::fmt::Debug for IpcRenderer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcRenderer").field("id", &self.id()).field("is_connected", &self.is_connected()).finish()
    }
}

/// Options and first listeners of an [`IpcRenderer`].
pub struct IpcRendererBuilder {
    config: Config,
    listeners: Vec<(String, crate::driver::Listener, bool)>,
}

impl IpcRendererBuilder {
    common_options!();

    /// A listener that is there before the first message; see [`IpcRenderer::on`].
    #[must_use]
    pub fn on<A, R, F>(mut self, channel: &str, listener: F) -> Self
    where
        A: FromArgs + 'static,
        R: 'static,
        F: Fn(&IpcRendererEvent, A) -> R + Send + Sync + 'static,
    {
        self.listeners.push((channel.to_string(), crate::emitter::listener(IpcRendererEvent::new, listener), false));
        self
    }

    /// As [`on`](Self::on), for the next message alone.
    #[must_use]
    pub fn once<A, R, F>(mut self, channel: &str, listener: F) -> Self
    where
        A: FromArgs + 'static,
        R: 'static,
        F: Fn(&IpcRendererEvent, A) -> R + Send + Sync + 'static,
    {
        self.listeners.push((channel.to_string(), crate::emitter::listener(IpcRendererEvent::new, listener), true));
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

    fn deadline(&self) -> Option<Instant> {
        self.config.connect_timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    fn start(
        self,
        connecting: impl FnOnce(&Config) -> Result<Connecting>,
        deadline: Option<Instant>,
    ) -> Result<IpcRenderer> {
        let engine = Engine::new(Side::Renderer, self.config, None)?;
        let connecting = connecting(&engine.config)?;
        for (channel, listener, once) in self.listeners {
            crate::emitter::add(&engine, &channel, listener, Where::Back, once);
        }
        IpcRenderer::start(engine, connecting, deadline)
    }
}

impl std::fmt::Debug for IpcRendererBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcRendererBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
