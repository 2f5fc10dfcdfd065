//! The main process's end.

use crate::config::{Backing, Config, common_options, executor_option};
use crate::dispatch::MAIN_FRAME;
use crate::driver::{Accept, Credentials, Engine, ErrorReport, Hop, Link, ListenerId, Listening, Policies, Receiver};
use crate::emitter::{emitter_methods, handler_methods};
use crate::error::Result;
use crate::event::{IpcMainEvent, IpcMainInvokeEvent};
use crate::ipc_renderer::IpcRenderer;
use crate::link::{GoneReason, Side};
use crate::polling::polling_methods;
use crate::registry::Where;
use crate::sync::Arc;
use crate::web_contents::{WebContents, WebFrameMain};
use crate::wire::FromArgs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How long dropping the owner waits for queues to drain.
pub(crate) const DROP_TIMEOUT: Duration = Duration::from_secs(1);

/// Shuts an engine down when the handle that made it is dropped.
pub(crate) struct Owner(pub(crate) Arc<Engine>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.finish(DROP_TIMEOUT);
    }
}

/// The main process's end: owns any number of renderers, listens to their messages and answers their calls.
///
/// Two threads work for it: the *dispatcher* runs every listener, handler and hook, one at a time; *watch* accepts,
/// shakes hands and notices deaths.
///
/// The handle that [`new`](Self::new) or [`build`](IpcMainBuilder::build) returned **owns** the links: when it is
/// dropped, queues are drained for at most one second, every link is closed and the threads end. Clones are cheap and
/// work as long as it lives; so a listener that captured a clone keeps nothing alive.
///
/// ```
/// use ringmain::IpcMain;
///
/// let ipc_main = IpcMain::new()?;
/// ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b))?;
/// let ipc_renderer = ipc_main.attach()?; // a renderer in this process; see `spawn` and `listen` for others
/// let sum: i64 = ipc_renderer.invoke("add", (2, 3)).wait()?;
/// assert_eq!(sum, 5);
/// # Ok::<(), ringmain::Error>(())
/// ```
pub struct IpcMain {
    engine: Arc<Engine>,
    accept: Option<Accept>,
    _owner: Option<Owner>,
}

impl Clone for IpcMain {
    /// A handle that does not own: see [`IpcMain`].
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), accept: self.accept.clone(), _owner: None }
    }
}

impl IpcMain {
    /// An `IpcMain` with the default options.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::System`](crate::ErrorKind::System) if threads or descriptors cannot be had.
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// Options first.
    pub fn builder() -> IpcMainBuilder {
        IpcMainBuilder { config: Config::default(), policies: Policies::default(), accept: None }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn emitter(&self) -> &Arc<Receiver> {
        &self.engine.receiver
    }

    fn here(&self) -> (Arc<Link>, u32) {
        (Link::nobody(&self.engine), MAIN_FRAME)
    }

    emitter_methods!(IpcMainEvent);

    handler_methods!(IpcMainInvokeEvent);

    polling_methods!("messages of the renderers, hooks, async handlers.");

    // ---- renderers ----------------------------------------------------------------------------------------------

    /// Starts a program as a renderer, which calls [`IpcRenderer::connect`]. Returns at once; what is sent before it has
    /// connected waits for it, in order. One that does not connect within the
    /// [`connect_timeout`](IpcMainBuilder::connect_timeout) is given up, not killed.
    ///
    /// The memory of this process is not copied for it (no `pre_exec`: a `Command` that has one is forked by std, which
    /// costs 38 ms for each GiB in use). A program that is started from a thread of a real-time class, or one that is bound
    /// to cores of its own, inherits neither.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::System`](crate::ErrorKind::System) if the program cannot be started or a resource is missing, [`ErrorKind::Limit`](crate::ErrorKind::Limit).
    pub fn spawn(&self, program: Command) -> Result<WebContents> {
        self.engine.spawn_renderer(program).map(WebContents::new)
    }

    /// Listens for unrelated processes, which call [`IpcRenderer::connect_to`] with the same name. The socket lies in the
    /// user's runtime directory; the same user may connect, or whom the builder's [`accept`](IpcMainBuilder::accept)
    /// lets in. Whoever connects is told to [`on_renderer_connected`](Self::on_renderer_connected).
    ///
    /// Returns the path of the socket. After a kill it and its lock file stay, and the next `listen` takes them over.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameInUse`](crate::ErrorKind::NameInUse), [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for a bad name, [`ErrorKind::System`](crate::ErrorKind::System) for a path longer
    /// than a socket address takes or a runtime directory that is not ours alone.
    pub fn listen(&self, name: &str) -> Result<PathBuf> {
        let listening: Arc<Listening> = self.engine.listen(name, self.accept.clone())?;
        Ok(listening.path().unwrap_or_default())
    }

    /// A renderer in this process, with threads of its own and main's options;
    /// [`IpcRendererBuilder::attach`](crate::IpcRendererBuilder::attach) has others.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::System`](crate::ErrorKind::System), [`ErrorKind::Limit`](crate::ErrorKind::Limit).
    pub fn attach(&self) -> Result<IpcRenderer> {
        IpcRenderer::builder_of(self.engine.config.clone()).attach_to(&self.engine)
    }

    /// The renderer of this number, unless it is gone.
    pub fn web_contents(&self, id: u32) -> Option<WebContents> {
        self.engine.link(id).map(WebContents::new)
    }

    /// All renderers, those included that have not connected yet, in the order of their numbers.
    pub fn all_web_contents(&self) -> Vec<WebContents> {
        self.engine.all_links().into_iter().map(WebContents::new).collect()
    }

    /// Calls `hook` on the dispatcher when a renderer has connected, before any of its messages.
    pub fn on_renderer_connected(&self, hook: impl Fn(&WebContents) + Send + Sync + 'static) {
        self.engine.on_opened(Arc::new(move |link| hook(&WebContents::new(link.clone()))));
    }

    /// Calls `hook` on the dispatcher once for each renderer that is gone, after its last message. The first hook also
    /// gets those (the latest 256) that went before it was there.
    pub fn on_renderer_gone(&self, hook: impl Fn(&WebContents, &GoneReason) + Send + Sync + 'static) {
        self.engine.on_gone(Arc::new(move |link, reason| hook(&WebContents::new(link.clone()), reason)));
    }

    /// Calls `hook` on the dispatcher for what goes wrong where nobody waits for an error: listeners that panic or whose
    /// arguments do not fit, messages between renderers that have nobody to go to, connections refused. Without a hook
    /// each is said by `log::error!`, or as one line on stderr where no logger is installed. A second hook replaces the
    /// first.
    pub fn on_error(&self, hook: impl Fn(&ErrorReport) + Send + Sync + 'static) {
        self.engine.set_error_hook(Arc::new(hook));
    }

    /// Stops accepting, closes every link, drops async handlers and ends the threads. Elsewhere than on the dispatcher it
    /// returns when no callback runs or will run; there it returns at once, and the loop ends after the callback. So it does
    /// in a callback of another handle whose end the dispatcher waits for: two may end each other.
    /// Queues are not drained: [`WebContents::flush`] first. Idempotent.
    pub fn shutdown(&self) {
        self.engine.shutdown();
    }
}

impl std::fmt::Debug for IpcMain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcMain").field("renderers", &self.engine.all_links().len()).finish()
    }
}

/// A message on its way from one renderer to another, for the policy of [`IpcMainBuilder::allow_route`].
pub struct Route<'a>(&'a Hop<'a>);

impl Route<'_> {
    /// The renderer that sends.
    pub fn sender(&self) -> WebContents {
        WebContents::new(self.0.from.clone())
    }

    /// The frame of it that sends.
    pub fn sender_frame(&self) -> WebFrameMain {
        WebFrameMain::new(self.0.from.clone(), self.0.from_frame)
    }

    /// The renderer that is to get the message.
    pub fn target(&self) -> WebContents {
        WebContents::new(self.0.to.clone())
    }

    /// The channel.
    pub fn channel(&self) -> &str {
        self.0.channel
    }

    /// Whether it is a guest's message to its host (`send_to_host`), not one to a renderer by its id (`send_to`).
    pub fn is_to_host(&self) -> bool {
        self.0.to_host
    }
}

impl std::fmt::Debug for Route<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route")
            .field("sender", &self.0.from.id)
            .field("sender_frame", &self.0.from_frame)
            .field("target", &self.0.to.id)
            .field("channel", &self.0.channel)
            .field("is_to_host", &self.0.to_host)
            .finish()
    }
}

/// Options of an [`IpcMain`].
pub struct IpcMainBuilder {
    config: Config,
    policies: Policies,
    accept: Option<Accept>,
}

impl IpcMainBuilder {
    common_options!();

    /// Bytes of each of a link's two rings, a power of two from 1 KiB to 1 GiB. Default 1 MiB. Messages of up to a
    /// 256th of a ring (4 KiB) use its first eighth alone, which stays in the L2 cache; longer ones follow each other
    /// through all of it, those above a 32nd in chunks. (A ring of up to 32 KiB has no such parts.)
    ///
    /// A link maps two rings and 8 KiB. The first eighths are allocated and prefaulted at once (264 KiB together); the
    /// rest gets memory when long messages follow each other, an eighth at a time, and keeps it. Where there is none, long
    /// messages do with what there is.
    #[must_use]
    pub fn ring_size(mut self, bytes: usize) -> Self {
        self.config.ring_size = bytes;
        self
    }

    /// Where the memory of links comes from. Default [`Backing::Sealed`]; read the warning at [`Backing::Named`].
    #[must_use]
    pub fn backing(mut self, backing: Backing) -> Self {
        self.config.backing = backing;
        self
    }

    /// How many renderers there may be at once, those included that have not connected yet. Default 4 096; each takes
    /// three descriptors. One process may have begun 64 handshakes that it has not finished, and no more than half of these.
    #[must_use]
    pub fn max_renderers(mut self, renderers: usize) -> Self {
        self.config.max_renderers = renderers;
        self
    }

    /// How long a spawned renderer may take to connect. Default 30 s; `None` for ever, for debuggers.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    executor_option!();

    /// Decides which messages may pass from one renderer to another by `send_to` and `send_to_host`; without it all may,
    /// because the sender's id cannot be forged. Called on the dispatcher for each of them, with nothing held; it must
    /// not block. What it refuses is dropped, counted in [`Stats::undeliverable`](crate::Stats::undeliverable) of the
    /// sender and told to [`on_error`](IpcMain::on_error). A policy that panics refuses.
    #[must_use]
    pub fn allow_route(mut self, policy: impl Fn(&Route<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.policies.route = Some(Arc::new(move |hop| policy(&Route(hop))));
        self
    }

    /// Decides who may connect to [`listen`](IpcMain::listen) instead of "the same user". Called on the `watch` thread,
    /// which notices deaths: it must not block. In [manual dispatch](crate::Dispatch::Manual) by `poll`; up to 64
    /// connections wait for that.
    #[must_use]
    pub fn accept(mut self, accept: impl Fn(&Credentials) -> bool + Send + Sync + 'static) -> Self {
        self.accept = Some(Arc::new(accept));
        self
    }

    /// Checks the options and starts the two threads.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) naming the option and its range, [`ErrorKind::System`](crate::ErrorKind::System).
    pub fn build(self) -> Result<IpcMain> {
        let engine = Engine::new(Side::Main, self.config, self.policies)?;
        engine.start()?;
        Ok(IpcMain { accept: self.accept, _owner: Some(Owner(engine.clone())), engine })
    }
}

impl std::fmt::Debug for IpcMainBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcMainBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
