//! Turns links: drain, decode, dispatch, run callbacks, encode, ring. The only place with threads and clocks.
//!
//! Two threads a handle. The **dispatcher** runs every callback, one at a time, and sleeps in one epoll (main) or one
//! futex (renderer). **watch** sleeps on sockets and pidfds, shakes hands, reaps, and runs nobody's code but the accept
//! policy; so a callback that blocks cannot hide a death.
//!
//! No lock is held, and the role of no link, while code runs that is not ours.

mod call;
mod connect;
mod dispatcher;
mod frames;
mod lanes;
mod link;
mod manual;
mod receiver;
mod route;
mod sockets;
mod tasks;
mod watch;

use call::record;
pub(crate) use call::{Call, Outcome, Request, read_reply};
pub use connect::Credentials;
pub(crate) use connect::{Accept, Connecting, Listening, inherited, named};
pub(crate) use frames::{IPC_MESSAGE, IPC_MESSAGE_SYNC, frame_closed};
pub(crate) use lanes::{Demand as LaneDemand, Direction as LaneDirection, LaneLease, LaneParts, LaneState, RelayFlag};
pub(crate) use link::{Link, envelope, timed_out};
pub(crate) use receiver::Receiver;
pub use receiver::{ListenerId, ScopedListener};
pub(crate) use route::{Hop, RoutePolicy};
pub(crate) use tasks::{CatchPanic, in_task};

use crate::config::{Config, Dispatch, ThreadRole};
use crate::dispatch::Deadlines;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::link::{Agreed, GoneReason, Side};
use crate::pipe::{Budget, Parts, Pipe};
use crate::sync::{Arc, AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering, fence};
use crate::sys;
use crate::wake::{self, Bell, Sleep, Spin};
use crate::wire;
use parking_lot::{Condvar, MutexGuard};
use rustc_hash::FxHashMap;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A message as a listener gets it.
pub(crate) struct Delivery<'a> {
    pub(crate) link: &'a Arc<Link>,
    /// The frame of the renderer at this link.
    pub(crate) frame: u32,
    pub(crate) channel: &'a str,
    /// The renderer at the far side of main, and its frame; 0 if there is none.
    pub(crate) peer: u32,
    pub(crate) peer_frame: u32,
    /// This process emitted it itself.
    pub(crate) is_local: bool,
    /// Of a synchronous message.
    pub(crate) request: Option<&'a Arc<Request>>,
    pub(crate) payload: &'a [u8],
}

/// A listener: decodes its arguments and runs the user's closure.
pub(crate) type Listener = Arc<dyn Fn(&Delivery<'_>) -> Result<(), wire::ValueError> + Send + Sync>;
/// A handler: decodes its arguments, runs the user's closure and answers, or leaves that to a task.
pub(crate) type Handler = Arc<dyn Fn(&Arc<Request>, &[u8]) -> Result<(), wire::ValueError> + Send + Sync>;
/// Names a handler without keeping it.
#[cfg(feature = "capi")]
pub(crate) type WeakHandler =
    std::sync::Weak<dyn Fn(&Arc<Request>, &[u8]) -> Result<(), wire::ValueError> + Send + Sync>;
/// Called when a renderer is gone.
pub(crate) type GoneHook = Arc<dyn Fn(&Arc<Link>, &GoneReason) + Send + Sync>;
/// Called when a renderer has connected.
pub(crate) type OpenHook = Arc<dyn Fn(&Arc<Link>) + Send + Sync>;
/// Called for what went wrong where nobody waits for an error.
pub(crate) type ErrorHook = Arc<dyn Fn(&ErrorReport) + Send + Sync>;
/// Where async handlers run, if not on the dispatcher.
pub(crate) type Executor = Arc<dyn Fn(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

/// Called at the beginning or the end of a thread of ours.
pub(crate) type ThreadHook = Arc<dyn Fn(ThreadRole) + Send + Sync>;

/// What a handle's user decides.
#[derive(Clone, Default)]
pub(crate) struct Policies {
    pub(crate) executor: Option<Executor>,
    pub(crate) route: Option<RoutePolicy>,
    pub(crate) thread_start: Option<ThreadHook>,
    pub(crate) thread_stop: Option<ThreadHook>,
}

/// What went wrong where nobody waits for an error: a listener whose arguments do not fit or that panicked, a message that
/// could not be delivered. Given to `on_error`.
#[derive(Debug)]
#[non_exhaustive]
pub struct ErrorReport {
    /// The renderer concerned, as main numbers it.
    pub renderer: Option<u32>,
    /// The channel concerned.
    pub channel: Option<String>,
    /// What went wrong.
    pub error: Error,
}

impl ErrorReport {
    fn text(&self) -> String {
        let renderer = self.renderer.map(|id| format!("renderer {id}: ")).unwrap_or_default();
        let channel = self.channel.as_ref().map(|name| format!("'{name}': ")).unwrap_or_default();
        format!("{renderer}{channel}{}", self.error)
    }

    pub(crate) fn to_log(&self) {
        diagnose(log::Level::Error, format_args!("{}", self.text()));
    }
}

/// Says what nobody else is told: to the logger that the program has installed, else as one line on stderr.
pub(crate) fn diagnose(level: log::Level, what: std::fmt::Arguments<'_>) {
    if log::max_level() != log::LevelFilter::Off {
        // A logger that panics must not end the thread that warns.
        let _ = catch_unwind(AssertUnwindSafe(|| log::log!(target: "ringmain", level, "{what}")));
    } else {
        to_stderr(what);
    }
}

fn to_stderr(what: std::fmt::Arguments<'_>) {
    // Not `eprintln!`: that panics where stderr is a pipe whose reader has gone.
    let _ = writeln!(std::io::stderr(), "ringmain: {what}");
}

/// Something to be run on the dispatcher.
type Job = Box<dyn FnOnce(&Arc<Engine>) + Send>;

/// What other threads ask of the dispatcher.
pub(crate) enum Command {
    Opened(Arc<Link>),
    Drain(Arc<Link>),
    Gone(Arc<Link>),
    /// Something of the user's to be run there.
    Run(Job),
}

/// Hooks, and what happened before the first of them was there.
#[derive(Default)]
struct Hooks {
    gone: Vec<GoneHook>,
    opened: Vec<OpenHook>,
    error: Option<ErrorHook>,
    /// The hook runs.
    is_telling: bool,
    /// Reports about each renderer that went to a log for want of a hook.
    logged: FxHashMap<u32, u64>,
    missed: VecDeque<Arc<Link>>,
}

/// Renderers that went before anybody asked are remembered up to this many.
const MISSED: usize = 256;

/// Reports about one renderer that are all logged where there is no hook; later ones at powers of two.
const LOGGED: u64 = 64;

/// Whether the error of this number goes to the log: a renderer that makes them without end must not fill a disk.
pub(crate) fn is_worth_logging(number: u64) -> bool {
    number <= LOGGED || number.is_power_of_two()
}

/// Reports of other threads that may wait for the dispatcher; more are dropped.
const MAX_REPORTS: u32 = 256;

#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    running: u32,
}

/// Which thread serves what an end is asked for, by number; 0 is none.
#[derive(Default)]
pub(crate) struct Serving {
    /// Runs callbacks now.
    now: AtomicU64,
    /// Does so now, or in its next `poll`.
    next: AtomicU64,
    /// The thread that watches, and asks the accept policy.
    watch: AtomicU64,
}

impl Serving {
    fn begin(&self) {
        self.now.store(this_thread(), Ordering::Relaxed);
        self.next.store(this_thread(), Ordering::Relaxed);
    }

    /// Its next `poll` is by the same thread, as far as is known.
    fn pause(&self) {
        self.now.store(0, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_at_work(&self, thread: u64) -> bool {
        self.now.load(Ordering::Relaxed) == thread
    }

    /// Nobody runs callbacks now.
    pub(crate) fn is_paused(&self) -> bool {
        self.now.load(Ordering::Relaxed) == 0
    }

    #[inline]
    pub(crate) fn is_by(&self, thread: u64) -> bool {
        self.next.load(Ordering::Relaxed) == thread
    }
}

/// Threads that wait for the end of a handle, with who serves that.
static WAIT_FOR_ENDS: Mutex<Vec<(u64, Arc<Serving>)>> = Mutex::new(Vec::new());

/// The calling thread waits for the end of a handle as long as this lives.
struct WaitsForEnd(u64);

impl WaitsForEnd {
    /// None where whoever serves that handle waits, perhaps by way of others, for the end of what this thread serves: two
    /// that end each other in callbacks would never return.
    fn begin(of: &Arc<Serving>) -> Option<Self> {
        let this = this_thread();
        let mut waits = WAIT_FOR_ENDS.lock();
        let (mut ahead, mut seen) = (vec![of.clone()], Vec::<Arc<Serving>>::new());
        while let Some(serving) = ahead.pop() {
            if seen.iter().any(|other| Arc::ptr_eq(other, &serving)) {
                continue;
            }
            for thread in [&serving.now, &serving.watch].map(|thread| thread.load(Ordering::Relaxed)) {
                // Its own watch waits for nothing: who ends a handle there is known apart.
                if thread == this && !(Arc::ptr_eq(&serving, of) && thread == of.watch.load(Ordering::Relaxed)) {
                    return None;
                }
                // The last of a thread is the one that it is in.
                let next = waits.iter().rev().find(|(other, _)| thread != 0 && *other == thread);
                ahead.extend(next.map(|(_, next)| next.clone()));
            }
            seen.push(serving);
        }
        waits.push((this, of.clone()));
        Some(Self(this))
    }
}

impl Drop for WaitsForEnd {
    fn drop(&mut self) {
        let mut waits = WAIT_FOR_ENDS.lock();
        let last = waits.iter().rposition(|(thread, _)| *thread == self.0);
        let ended = last.map(|index| waits.remove(index));
        drop(waits);
        drop(ended);
    }
}

/// One `IpcMain` or one `IpcRenderer` at work.
pub(crate) struct Engine {
    side: Side,
    pub(crate) config: Config,
    pub(crate) wire_limits: wire::Limits,
    /// Of an `IpcMain`, or of a renderer's main frame.
    pub(crate) receiver: Arc<Receiver>,
    policies: Mutex<Policies>,
    pub(crate) thread_hooks: ThreadHooks,
    links: Mutex<FxHashMap<u32, Arc<Link>>>,
    next_id: AtomicU32,
    pub(crate) budget: Arc<Budget>,
    bell: Arc<Bell>,
    commands: Mutex<VecDeque<Command>>,
    has_commands: AtomicBool,
    tasks: tasks::Queue,
    deadlines: Mutex<Deadlines>,
    /// Whether there are any: looked at in each turn of the dispatcher.
    has_deadlines: AtomicBool,
    hooks: Mutex<Hooks>,
    /// Reports that wait for the dispatcher.
    reports: AtomicU32,
    pub(crate) watch: watch::Watch,
    /// What the dispatcher of a main sleeps in.
    poller: OnceLock<sys::Poller>,
    sleep: Sleep,
    dispatcher_spin: Spin,
    pub(crate) caller_spin: Spin,
    wake_cost: Arc<AtomicU32>,
    serving: Arc<Serving>,
    /// With [`Dispatch::Manual`].
    manual: Option<manual::Manual>,
    stopping: AtomicBool,
    threads: Mutex<Threads>,
    relays: Arc<lanes::Relays>,
    ended: Condvar,
    fork: sys::ForkGuard,
}

/// Runs code that is not ours; a panic of it, or of dropping what it panicked with, is reported and goes no further.
pub(crate) fn contain<T>(what: &str, run: impl FnOnce() -> T, engine: &Engine) -> Option<T> {
    contained(what, run).map_err(|error| engine.report(None, None, error)).ok()
}

/// The same, to be reported later.
pub(crate) fn contained<T>(what: &str, run: impl FnOnce() -> T) -> Result<T> {
    let _in_callback = InCallback::begin();
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|payload| Error::new(ErrorKind::HandlerPanicked, format!("{what} panicked: {}", panic_text(payload))))
}

/// Wakes who waits, with nothing held: a waker is the program's code.
pub(crate) fn wake(wakers: impl IntoIterator<Item = Waker>, engine: &Engine) {
    for waker in wakers {
        contain("a waker", || waker.wake(), engine);
    }
}

/// Wakes those who were collected, mostly nobody: draining an empty list would cost every message.
#[inline]
pub(crate) fn wake_all(wakers: &mut Vec<Waker>, engine: &Engine) {
    if !wakers.is_empty() {
        wake(wakers.drain(..), engine);
    }
}

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// The number of the calling thread, never 0 and never used again: every call asks, and `std::thread::current` counts a
/// reference up and down.
#[inline]
pub(crate) fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    match THREAD.try_with(Cell::get) {
        Ok(known) if known != 0 => known,
        _ => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let _ = THREAD.try_with(|known| known.set(number));
            number
        }
    }
}

thread_local! {
    /// How deep this thread is in callbacks, of whatever handle.
    static CALLBACKS: Cell<u32> = const { Cell::new(0) };
}

/// This thread runs callbacks as long as this lives.
pub(crate) struct InCallback(());

impl InCallback {
    pub(crate) fn begin() -> Self {
        let _ = CALLBACKS.try_with(|depth| depth.set(depth.get() + 1));
        Self(())
    }
}

impl Drop for InCallback {
    fn drop(&mut self) {
        let _ = CALLBACKS.try_with(|depth| depth.set(depth.get() - 1));
    }
}

/// How long a barrier rests between two looks, once it has looked often.
const BARRIER_REST: Duration = Duration::from_micros(100);

/// Waits until nobody calls what was removed any more: whoever does has a clone of it. Inside a callback there is nothing
/// to wait for, or that callback would wait for itself, or two for each other. `process`: the one that registered it; a
/// forked copy has a clone that nobody drops.
pub(crate) fn until_uncalled<T: ?Sized>(removed: &Arc<T>, process: u32) {
    if CALLBACKS.try_with(Cell::get).unwrap_or(0) > 0 {
        return;
    }
    let mut looks = 0_u32;
    while Arc::strong_count(removed) > 1 {
        if looks == 0 && std::process::id() != process {
            return;
        }
        looks = looks.saturating_add(1);
        if looks < 100 { std::thread::yield_now() } else { std::thread::sleep(BARRIER_REST) }
    }
    fence(Ordering::Acquire); // pairs with the Release of the clones' drops
}

/// What a panic said. The payload is foreign too: dropping it may panic again.
pub(crate) fn panic_text(payload: Box<dyn std::any::Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_string(),
        (_, Some(text)) => text.clone(),
        _ => "with a value that is no text".to_string(),
    };
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    text
}

impl Engine {
    /// An engine without threads; [`start`](Self::start) gives it those.
    pub(crate) fn new(side: Side, config: Config, mut policies: Policies) -> Result<Arc<Self>> {
        config.check()?;
        let system = |what: &'static str| move |error| Error::system(what, error);
        let is_main = side == Side::Main;
        let (poller, bell) = (OnceLock::new(), Bell::new());
        if is_main {
            let (epoll, event) = dispatcher::poller_and_event()?;
            bell.set_event(event);
            let _ = poller.set(epoll);
        }
        // One core: whoever is waited for cannot run while we spin.
        let most = if sys::allowed_cpus() > 1 { wake::DEFAULT_WAKE_COST_NS } else { 0 };
        let wake_cost = Arc::new(AtomicU32::new(most));
        if config.backing == crate::config::Backing::Named {
            connect::sweep_names();
        }
        Ok(Arc::new(Self {
            side,
            wire_limits: config.wire_limits(),
            receiver: Receiver::new(if is_main { "IpcMain" } else { "IpcRenderer" }),
            thread_hooks: ThreadHooks { start: policies.thread_start.take(), stop: policies.thread_stop.take() },
            policies: Mutex::new(policies),
            links: Mutex::default(),
            next_id: AtomicU32::new(1),
            budget: Budget::new(config.process_limit),
            bell,
            commands: Mutex::default(),
            has_commands: AtomicBool::new(false),
            tasks: tasks::Queue::default(),
            deadlines: Mutex::default(),
            has_deadlines: AtomicBool::new(false),
            hooks: Mutex::default(),
            reports: AtomicU32::new(0),
            watch: watch::Watch::new().map_err(system("cannot make the watch"))?,
            poller,
            sleep: Sleep::probe(),
            dispatcher_spin: Spin::new(config.wait, wake_cost.clone()).on_real_time(config.spin_on_real_time),
            caller_spin: Spin::new(config.wait, wake_cost.clone()).on_real_time(config.spin_on_real_time),
            wake_cost,
            serving: Arc::default(),
            manual: (config.dispatch == Dispatch::Manual).then(manual::Manual::default),
            stopping: AtomicBool::new(false),
            threads: Mutex::default(),
            relays: Arc::default(),
            ended: Condvar::new(),
            fork: sys::ForkGuard::new().map_err(system("cannot map the page that tells forks apart"))?,
            config,
        }))
    }

    /// Starts a thread, with its hooks around what it runs.
    fn start_thread(&self, role: ThreadRole, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
        let name = thread_name(role);
        self.thread_hooks.spawn(role, run).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                let text = "no more are allowed: RLIMIT_NPROC, or pids.max of the control group";
                Error::system(format!("cannot start thread {name}; {text}"), error)
            }
            _ => Error::system(format!("cannot start thread {name}"), error),
        })
    }

    /// Starts the two threads; with [`Dispatch::Manual`] the one that watches alone.
    pub(crate) fn start(self: &Arc<Self>) -> Result<()> {
        let measure = Arc::new(wake::Measure::new());
        // On one core nobody spins, so nothing is measured, by either of them: the second would wait for the first in vain.
        let measures = self.manual.is_none() && self.wake_cost.load(Ordering::Relaxed) != 0;
        let mut threads = self.threads.lock();
        let (engine, other) = (self.clone(), measure.clone());
        let watch = self.start_thread(ThreadRole::Watch, move || {
            let ending = Ending(&engine);
            if measures {
                other.second();
            }
            engine.serving.watch.store(this_thread(), Ordering::Relaxed);
            engine.watch.run(&engine);
            engine.forget_links();
            drop(ending);
        })?;
        // Counted once it is there: whoever shuts down waits for those that were counted.
        threads.handles.push(watch);
        threads.running += 1;
        if self.manual.is_some() {
            return Ok(());
        }
        let engine = self.clone();
        let dispatcher = self.start_thread(ThreadRole::Dispatcher, move || {
            let ending = Ending(&engine);
            engine.serving.begin();
            if measures && let Some(cost) = measure.first() {
                engine.wake_cost.store(cost, Ordering::Relaxed);
            }
            let callbacks = InCallback::begin();
            dispatcher::run(&engine);
            drop(callbacks);
            drop(ending);
        });
        match dispatcher {
            Ok(handle) => {
                threads.handles.push(handle);
                threads.running += 1;
            }
            Err(error) => {
                self.watch.stop();
                return Err(error);
            }
        }
        Ok(())
    }

    fn thread_ended(&self) {
        self.threads.lock().running -= 1;
        self.ended.notify_all();
    }

    /// After the last thread: what was made while they ended holds nobody.
    fn forget_links(&self) {
        let links = std::mem::take(&mut *self.links.lock());
        let commands = std::mem::take(&mut *self.commands.lock());
        drop((links, commands));
    }

    pub(crate) fn is_main(&self) -> bool {
        self.side == Side::Main
    }

    /// Which end of its links this is, for the wire.
    #[inline]
    pub(crate) fn end(&self) -> wire::End {
        if self.is_main() { wire::End::Main } else { wire::End::Renderer }
    }

    /// The end at which what this one sends arrives.
    pub(crate) fn peer_end(&self) -> wire::End {
        if self.is_main() { wire::End::Renderer } else { wire::End::Main }
    }

    /// Whether this thread runs the callbacks: the dispatcher's, or one inside `poll`.
    #[inline]
    pub(crate) fn is_dispatcher(&self, thread: u64) -> bool {
        self.serving.is_at_work(thread)
    }

    pub(crate) fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether this process is a forked copy of the one that made the engine: it has neither its threads nor its memory.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.fork.forked()
    }

    #[inline]
    pub(crate) fn check_fork(&self) -> Result<()> {
        if self.is_forked() { Err(forked()) } else { Ok(()) }
    }

    /// What the other end of a link is called in an error.
    pub(crate) fn peer_name(&self, link: u32) -> String {
        if self.is_main() { format!("renderer {link}") } else { "main".to_string() }
    }

    // ---- links --------------------------------------------------------------------------------------------------

    pub(crate) fn link(&self, id: u32) -> Option<Arc<Link>> {
        self.links.lock().get(&id).cloned()
    }

    /// All links, in the order in which they were made.
    pub(crate) fn all_links(&self) -> Vec<Arc<Link>> {
        let mut links: Vec<_> = self.links.lock().values().cloned().collect();
        links.sort_unstable_by_key(|link| link.id);
        links
    }

    /// Builds the pipe of a link whose terms are agreed and hands it to the dispatcher. On main alone: a renderer's pipe
    /// is made before its link.
    fn open(&self, link: &Arc<Link>, agreed: &Agreed) -> Result<(), String> {
        let handshake = self.watch.take_handshake(link.id).ok_or("the region of the link was given up")?;
        let pipe = self.pipe(&handshake.region, agreed, None)?;
        failpoint::reached("pipe made");
        link.open(pipe, send_limits(agreed), agreed.send.max_pending_calls as usize);
        failpoint::reached("link opened");
        self.command(Command::Opened(link.clone()));
        Ok(())
    }

    fn pipe(
        &self,
        region: &Arc<crate::region::Region>,
        agreed: &Agreed,
        peer_event: Option<sys::EventFd>,
    ) -> Result<Pipe, String> {
        let layout = connect::layout(&agreed.region)?;
        Pipe::new(Parts {
            region: region.clone(),
            layout,
            is_main: self.is_main(),
            dispatcher_form: if self.is_main() { wake::BY_EVENTFD } else { 0 },
            peer_event,
            dispatcher: self.bell.clone(),
            sleep: self.sleep.clone(),
            budget: self.budget.clone(),
            queue_limit: self.config.queue_limit,
            max_message: self.config.max_message_size,
        })
        .map_err(|error| error.to_string())
    }

    // ---- the dispatcher's post ----------------------------------------------------------------------------------

    /// Rings the dispatcher; a system call only if it sleeps.
    pub(crate) fn ring(&self) {
        self.bell.ring();
        if let Some(manual) = &self.manual {
            manual.ring_waiting();
        }
    }

    pub(crate) fn command(&self, command: Command) {
        let mut commands = self.commands.lock();
        commands.push_back(command);
        self.has_commands.store(true, Ordering::Release);
        drop(commands);
        self.ring();
    }

    fn next_command(&self) -> Option<Command> {
        if !self.has_commands.load(Ordering::Acquire) {
            return None;
        }
        let mut commands = self.commands.lock();
        let command = commands.pop_front();
        self.has_commands.store(!commands.is_empty(), Ordering::Release);
        command
    }

    /// Runs `run` on the dispatcher, after what it does now.
    pub(crate) fn on_dispatcher(&self, run: impl FnOnce(&Arc<Engine>) + Send + 'static) {
        self.command(Command::Run(Box::new(run)));
    }

    /// The call of a future is given up at `at`.
    pub(crate) fn add_deadline(&self, at: Instant, link: u32, call: u64) {
        let mut deadlines = self.deadlines.lock();
        let earliest = deadlines.add(at, link, call);
        self.has_deadlines.store(true, Ordering::Release);
        drop(deadlines);
        if earliest {
            if let Some(manual) = &self.manual {
                manual.add_sooner();
            }
            self.ring();
        }
    }

    // ---- hooks --------------------------------------------------------------------------------------------------

    /// The hooks, to add one; none while we stop, because nobody would drop it, nor the handles that it captured.
    fn hooks_to_add(&self) -> Option<MutexGuard<'_, Hooks>> {
        let hooks = self.hooks.lock();
        (!self.is_stopping()).then_some(hooks)
    }

    pub(crate) fn on_gone(&self, hook: GoneHook) {
        let Some(mut hooks) = self.hooks_to_add() else { return };
        // A renderer has one main, whose end every hook is told; a main's renderers are told to the first.
        let missed = if self.is_main() { std::mem::take(&mut hooks.missed) } else { hooks.missed.clone() };
        hooks.gone.push(hook.clone());
        // Still under the lock: so the end, which takes the hooks last, drops the command too.
        if !missed.is_empty() {
            self.on_dispatcher(move |engine| {
                for link in missed {
                    if let Some(reason) = link.gone_reason() {
                        contain("an on_renderer_gone hook", || hook(&link, reason), engine);
                    }
                }
            });
        }
    }

    pub(crate) fn on_opened(&self, hook: OpenHook) {
        if let Some(mut hooks) = self.hooks_to_add() {
            hooks.opened.push(hook);
        }
    }

    pub(crate) fn set_error_hook(&self, hook: ErrorHook) {
        let old = self.hooks_to_add().and_then(|mut hooks| hooks.error.replace(hook));
        drop(old); // with nothing held
    }

    fn run_gone_hooks(&self, link: &Arc<Link>, reason: &GoneReason) {
        let mut hooks = self.hooks.lock();
        if hooks.gone.is_empty() || !self.is_main() {
            hooks.missed.push_back(link.clone());
            if hooks.missed.len() > MISSED {
                hooks.missed.pop_front();
            }
        }
        let gone = hooks.gone.clone();
        drop(hooks);
        for hook in gone {
            contain("an on_renderer_gone hook", || hook(link, reason), self);
        }
    }

    /// Once for each link.
    fn run_open_hooks(&self, link: &Arc<Link>) {
        if link.is_told.load(Ordering::Relaxed) || link.is_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let opened = self.hooks.lock().opened.clone();
        for hook in opened {
            contain("an on_renderer_connected hook", || hook(link), self);
        }
    }

    /// Tells `on_error`, on the calling thread if that is the dispatcher, else there. Without a hook one line goes to
    /// the log: what nobody waits for must not be lost in silence.
    #[cold]
    pub(crate) fn report(&self, renderer: Option<u32>, channel: Option<&str>, error: Error) {
        if self.is_dispatcher(this_thread()) {
            self.report_here(&ErrorReport { renderer, channel: channel.map(str::to_string), error });
        } else {
            self.report_later(renderer, channel, error);
        }
    }

    /// Tells `on_error` on the dispatcher, after what it does now: for what may be found out in the midst of code that is
    /// not ours, or with a lock held.
    #[cold]
    pub(crate) fn report_later(&self, renderer: Option<u32>, channel: Option<&str>, error: Error) {
        let report = ErrorReport { renderer, channel: channel.map(str::to_string), error };
        if self.is_dispatcher(this_thread()) && self.hooks.lock().is_telling {
            self.report_here(&report); // in the hook itself: to the log, or they would follow each other for ever
        } else if self.is_stopping() {
            // A lock may be held here, so no logger; and the dispatcher hears no more.
            to_stderr(format_args!("{}", report.text()));
        } else if self.reports.fetch_add(1, Ordering::Relaxed) < MAX_REPORTS {
            self.on_dispatcher(move |engine| {
                engine.reports.fetch_sub(1, Ordering::Relaxed);
                engine.report_here(&report);
            });
        } else {
            // A peer that makes errors faster than the dispatcher tells them fills no memory with them.
            self.reports.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn report_here(&self, report: &ErrorReport) {
        let mut hooks = self.hooks.lock();
        // What goes wrong in the hook must not be told to the hook, and so on.
        let hook = if hooks.is_telling { None } else { hooks.error.clone() };
        let Some(hook) = hook else {
            let logged = report.renderer.map_or(0, |id| {
                let count = hooks.logged.entry(id).or_default();
                *count += 1;
                *count
            });
            drop(hooks);
            if is_worth_logging(logged) {
                report.to_log();
            }
            return;
        };
        hooks.is_telling = true;
        drop(hooks);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(report))) {
            let text = panic_text(payload);
            report.to_log();
            diagnose(log::Level::Error, format_args!("the on_error hook panicked: {text}"));
        }
        self.hooks.lock().is_telling = false;
    }

    /// The renderer is gone, and its number is not used again.
    fn forget_reports_of(&self, renderer: u32) {
        self.hooks.lock().logged.remove(&renderer);
    }

    // ---- emitting -----------------------------------------------------------------------------------------------

    /// Runs the listeners of a channel on the calling thread: `emit` of a handle. Whether there were any.
    pub(crate) fn emit_local<A: wire::IntoArgs>(
        &self,
        link: &Arc<Link>,
        frame: u32,
        receiver: &Arc<Receiver>,
        channel: &str,
        args: &A,
    ) -> Result<bool> {
        self.check_fork()?;
        let mut payload = Vec::new();
        wire::encode_args(args, &mut payload, &self.wire_limits).map_err(link::invalid_value)?;
        let delivery =
            Delivery { link, frame, channel, peer: 0, peer_frame: 0, is_local: true, request: None, payload: &payload };
        let _in_callback = InCallback::begin();
        receiver::emit(&[Some((receiver, channel))], &delivery)
            .map_err(|error| Error::new(ErrorKind::InvalidValue, error))
    }

    // ---- the end ------------------------------------------------------------------------------------------------

    /// From here on nothing begins, and nothing is registered.
    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.receiver.close();
    }

    /// Ends both threads. On the dispatcher it returns at once and the loop ends after the callback, and so it does where
    /// that callback waits for the end of what this thread serves; elsewhere it returns when no callback runs or will run.
    /// Idempotent, from any thread.
    pub(crate) fn shutdown(self: &Arc<Self>) {
        if self.is_forked() {
            return;
        }
        self.stop();
        self.relays.stop();
        let listened = self.watch.stop_listening();
        self.ring();
        // Now and not by the dispatcher alone: it may sit in a callback that waits for an answer.
        for link in self.all_links() {
            link.close();
        }
        contain("the drop of an accept policy", || drop(listened), self);
        if self.is_dispatcher(this_thread()) {
            return;
        }
        let Some(_waits) = WaitsForEnd::begin(&self.serving) else { return };
        if self.manual.is_some() {
            self.end_manual();
        }
        let this = std::thread::current().id();
        let mut threads = self.threads.lock();
        if threads.handles.iter().any(|handle| handle.thread().id() == this) {
            return;
        }
        while threads.running > 0 {
            self.ended.wait(&mut threads);
        }
        let handles = std::mem::take(&mut threads.handles);
        drop(threads);
        for handle in handles {
            // Our threads contain every panic; one that still ends by it has said so on stderr.
            let _ = handle.join();
        }
    }

    /// Drains the queues of all links, for at most `timeout` together, then shuts down: what dropping the owner does.
    pub(crate) fn finish(self: &Arc<Self>, timeout: Duration) {
        if self.is_forked() {
            return;
        }
        let until = Instant::now() + timeout;
        let this = this_thread();
        if !self.is_stopping() && !self.is_dispatcher(this) {
            for link in self.all_links() {
                if !link.is_lost() && link.queued() > 0 && link.check_blocking("drop").is_ok() {
                    let _ = link.wait_for_queue(1, Some(until));
                }
            }
        }
        self.shutdown();
    }
}

/// The end of one of our threads, also by a panic that should not be: the other one ends too, and nobody waits for ever.
struct Ending<'a>(&'a Arc<Engine>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let engine = self.0;
        engine.stop();
        engine.ring();
        engine.watch.stop();
        if std::thread::panicking() {
            for link in engine.all_links() {
                link.close();
            }
        }
        engine.thread_ended();
    }
}

/// The hooks of the threads of one handle.
#[derive(Clone, Default)]
pub(crate) struct ThreadHooks {
    start: Option<ThreadHook>,
    stop: Option<ThreadHook>,
}

impl ThreadHooks {
    /// Starts a thread that runs `run` between the two.
    pub(crate) fn spawn(
        &self,
        role: ThreadRole,
        run: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let hooks = self.clone();
        sys::spawn_thread(thread_name(role), move || hooks.around(role, run))
    }

    /// Runs `run` between the two; a hook that panics is reported and ends nothing.
    fn around(&self, role: ThreadRole, run: impl FnOnce()) {
        let call = |hook: &Option<ThreadHook>, what| {
            if let Some(hook) = hook
                && let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(role)))
            {
                let text = panic_text(payload);
                diagnose(log::Level::Error, format_args!("the {what} hook of {} panicked: {text}", thread_name(role)));
            }
        };
        call(&self.start, "on_thread_start");
        run();
        call(&self.stop, "on_thread_stop");
    }
}

/// Names as `/proc` shows them: 15 bytes at most.
const fn thread_name(role: ThreadRole) -> &'static str {
    match role {
        ThreadRole::Dispatcher => "ringmain-disp",
        ThreadRole::Watch => "ringmain-watch",
        ThreadRole::Relay => "ringmain-relay",
        ThreadRole::Reaper => "ringmain-reap",
    }
}

/// What the peer takes, as the wire layer wants it.
fn send_limits(agreed: &Agreed) -> wire::Limits {
    wire::Limits {
        max_message_size: usize::try_from(agreed.send.max_message_size).unwrap_or(usize::MAX),
        max_depth: agreed.send.max_depth,
        max_values: agreed.send.max_values,
        max_text: agreed.send.max_text as usize,
    }
}

#[cold]
fn forked() -> Error {
    Error::new(
        ErrorKind::Forked,
        "this process is a forked copy of the one that made the handle, without its threads and shared memory: connect \
         in the copy after exec, or use the handle in the original",
    )
}

#[cfg(all(test, not(loom)))]
mod tests;
