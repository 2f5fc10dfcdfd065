//! One link as its process sees it: the pipe, the calls that wait, what was read for the dispatcher.

use super::call::{Call, Outcome, Reply, Request};
use super::receiver::Receiver;
use super::sockets::PeerSocket;
use super::{Command, Engine, Serving, this_thread};
use crate::dispatch::{self, Action, Calls, Frames, MAIN_FRAME, NotBegun, Requests};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::link::{self as machine, GoneReason, Output};
use crate::pipe::{BUDGET_RETRY, Pipe, Routed, SendError, SendMode, Sent, Violation, Waited, Waiter, is_worth_keeping};
use crate::sync::{Arc, AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering, fence};
use crate::sys;
use crate::wake::Bell;
use crate::wire::{self, Envelope, IntoArgs, Kind};
use parking_lot::Condvar;
use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{OnceLock, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

/// How messages are sent that are nothing special.
pub(super) const NORMAL: SendMode = SendMode { quiet: false, beyond_limit: false, routed: false };
/// For what is small and must not be lost.
pub(super) const BEYOND_LIMIT: SendMode = SendMode { beyond_limit: true, ..NORMAL };

thread_local! {
    static ENCODE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static BELL: Cell<Option<Arc<Bell>>> = const { Cell::new(None) };
}

fn take_buffer(of: &'static std::thread::LocalKey<Cell<Vec<u8>>>) -> Vec<u8> {
    // A thread that is ending has no buffers any more: then a fresh one serves.
    of.try_with(Cell::take).unwrap_or_default()
}

fn keep_buffer(of: &'static std::thread::LocalKey<Cell<Vec<u8>>>, mut buffer: Vec<u8>) {
    if is_worth_keeping(&buffer) {
        buffer.clear();
        let _ = of.try_with(|kept| kept.set(buffer));
    }
}

/// Gives back the buffer of a reply that was decoded, for the next wait of this thread.
pub(crate) fn recycle(buffer: Vec<u8>) {
    keep_buffer(&READ, buffer);
}

/// Counters of one link; see [`WebContents::stats`](crate::WebContents::stats). What is sent is counted by the pipe.
#[derive(Default)]
pub(crate) struct Counters {
    /// These two are written by the holder of the role alone.
    pub(crate) messages_received: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) refused_full: AtomicU64,
    pub(crate) late_replies: AtomicU64,
    pub(crate) undeliverable: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counters {
    /// A message was read. With the role held: a store each does where many writers would need a locked addition.
    #[inline]
    pub(super) fn received(&self, bytes: usize) {
        let add = |counter: &AtomicU64, by| counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
        add(&self.messages_received, 1);
        add(&self.bytes_received, bytes as u64);
    }
}

/// What is known of the process at the other end when its link is made.
#[derive(Default)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) pidfd: Option<OwnedFd>,
    /// Ours to reap.
    pub(crate) is_child: bool,
    /// Kept for the pipes of its standard streams.
    pub(crate) child: Option<std::process::Child>,
}

/// A descriptor that is closed before its link is dropped: somebody may keep a handle of a renderer that is gone.
pub(crate) struct Closable<T>(Mutex<Option<Arc<T>>>);

impl<T> Closable<T> {
    fn new(value: Option<Arc<T>>) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn get(&self) -> Option<Arc<T>> {
        self.0.lock().clone()
    }

    /// Closed as soon as nobody uses it any more.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.0.lock().take()
    }
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A leading caller does not read on because of us.
    is_full: bool,
    /// The link is gone: what a caller has read meanwhile is delivered to nobody.
    is_over: bool,
}

/// What main sends before the renderer has connected waits here.
#[derive(Default)]
struct Early {
    messages: VecDeque<(Vec<u8>, SendMode)>,
    bytes: usize,
    /// Of those the ones that other renderers sent.
    routed: usize,
    /// Futures that wait for an answer already.
    attended: usize,
}

pub(crate) struct Link {
    pub(crate) id: u32,
    pub(crate) engine: Arc<Engine>,
    pipe: OnceLock<Pipe>,
    early: Mutex<Early>,
    opened: Condvar,
    /// What the peer takes, as agreed.
    limits: OnceLock<wire::Limits>,
    pub(super) calls: Mutex<Calls<Arc<Call>>>,
    /// The renderer's frames, and what is registered for each; its main frame has the engine's receiver at its own end.
    pub(super) frames: Mutex<Frames<Option<Arc<Receiver>>>>,
    /// What is registered for this renderer alone, on main.
    pub(super) ipc: OnceLock<Arc<Receiver>>,
    pub(super) events: OnceLock<Arc<Receiver>>,
    /// Whether there is any of these: looked at for each message.
    pub(super) has_scoped: AtomicBool,
    /// The renderer that embeds this one, on main.
    pub(super) host: Mutex<Option<Weak<Link>>>,
    inbox: Mutex<Inbox>,
    /// `Inbox::bytes`, to be looked at without the lock.
    inbox_bytes: AtomicUsize,
    /// Main does not read on until the queue is low: whoever drains it that far says so to the dispatcher.
    paused: AtomicBool,
    pub(crate) requests: Mutex<Requests<Weak<Request>>>,
    /// Whether there is a cancellation of a request that was not looked at: asked for each request.
    has_cancellations: AtomicBool,
    /// Requests of the peer's that live on though their handler or listeners have returned.
    pub(crate) open_requests: AtomicUsize,
    /// Whether one is with its handler or listeners now. Written by the dispatcher alone.
    pub(crate) handles_request: AtomicBool,
    pub(crate) machine: Mutex<machine::Link>,
    pub(crate) socket: Closable<PeerSocket>,
    pub(crate) pidfd: Closable<OwnedFd>,
    pid: AtomicU32,
    is_child: AtomicBool,
    pub(crate) child: Mutex<Option<std::process::Child>>,
    exit: OnceLock<machine::Exit>,
    /// The dispatcher itself waits in a callback, so that nobody empties the inbox: it may grow beyond its limit.
    dispatcher_waits: AtomicBool,
    /// No call is answered any more.
    lost: AtomicBool,
    gone: OnceLock<GoneReason>,
    /// The hooks were told that it has opened.
    pub(super) is_told: AtomicBool,
    /// For an attached renderer, at either end: the thread that serves the other one, and so our calls.
    served_by: OnceLock<Arc<Serving>>,
    pub(crate) counters: Counters,
    /// Our end of the doorbell that the peer rings, in main.
    pub(crate) doorbell: Closable<sys::EventFd>,
    pub(super) lanes: super::lanes::Lanes,
}

impl Link {
    pub(crate) fn new(
        engine: Arc<Engine>,
        id: u32,
        machine: machine::Link,
        socket: Option<Arc<PeerSocket>>,
        doorbell: Option<Arc<sys::EventFd>>,
    ) -> Arc<Self> {
        let max_calls = engine.config.max_pending_calls as usize;
        Arc::new(Self {
            id,
            engine,
            pipe: OnceLock::new(),
            early: Mutex::default(),
            opened: Condvar::new(),
            limits: OnceLock::new(),
            calls: Mutex::new(Calls::new(max_calls)),
            frames: Mutex::new(Frames::new(None)),
            ipc: OnceLock::new(),
            events: OnceLock::new(),
            has_scoped: AtomicBool::new(false),
            host: Mutex::new(None),
            inbox: Mutex::default(),
            inbox_bytes: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            requests: Mutex::new(Requests::new()),
            has_cancellations: AtomicBool::new(false),
            open_requests: AtomicUsize::new(0),
            handles_request: AtomicBool::new(false),
            machine: Mutex::new(machine),
            socket: Closable::new(socket),
            pidfd: Closable::new(None),
            pid: AtomicU32::new(0),
            is_child: AtomicBool::new(false),
            child: Mutex::new(None),
            exit: OnceLock::new(),
            dispatcher_waits: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            gone: OnceLock::new(),
            is_told: AtomicBool::new(false),
            served_by: OnceLock::new(),
            counters: Counters::default(),
            doorbell: Closable::new(doorbell),
            lanes: super::lanes::Lanes::default(),
        })
    }

    /// No renderer at all: where an event comes from that this process emits itself.
    pub(crate) fn nobody(engine: &Arc<Engine>) -> Arc<Self> {
        let link = Self::new(engine.clone(), 0, machine::Link::gone(), None, None);
        let _nobodys_frame = link.frames.lock().close_all();
        link.lost.store(true, Ordering::Release);
        let _ = link.gone.set(GoneReason::Closed);
        link
    }

    /// The renderer is in this process, and `dispatcher` is the thread that serves what this end asks for.
    pub(crate) fn set_served_by(&self, server: Option<Arc<Serving>>) {
        if let Some(server) = server {
            let _ = self.served_by.set(server);
        }
    }

    #[inline]
    pub(crate) fn pipe(&self) -> Option<&Pipe> {
        self.pipe.get()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.pipe.get().is_some() && !self.is_lost()
    }

    /// The peer is gone, or the link was closed; messages that arrived before may still be delivered.
    #[inline]
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    pub(crate) fn gone_reason(&self) -> Option<&GoneReason> {
        self.gone.get()
    }

    pub(crate) fn set_process(&self, process: Process) {
        self.pid.store(process.pid, Ordering::Relaxed);
        self.is_child.store(process.is_child, Ordering::Relaxed);
        *self.pidfd.0.lock() = process.pidfd.map(Arc::new);
        *self.child.lock() = process.child;
    }

    pub(super) fn set_pidfd(&self, pidfd: OwnedFd) {
        *self.pidfd.0.lock() = Some(Arc::new(pidfd));
    }

    /// Process id of the other end; 0 where it is not visible.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Whether the process is ours to reap.
    pub(crate) fn is_child(&self) -> bool {
        self.is_child.load(Ordering::Relaxed)
    }

    /// How the process ended, if it did.
    pub(crate) fn exit(&self) -> Option<machine::Exit> {
        self.exit.get().copied()
    }

    pub(crate) fn set_exit(&self, exit: machine::Exit) {
        let _ = self.exit.set(exit);
    }

    /// Takes the status of a child that ended and that there is no pidfd of. Under the lock of the child: until then its
    /// number is its own, and [`kill`](Self::kill) may use that.
    pub(super) fn reap_child(&self) -> Option<machine::Exit> {
        let _child = self.child.lock();
        if self.exit.get().is_none()
            && let Some(exit) = exit_of(sys::child_reap(self.pid()))
        {
            self.set_exit(exit);
        }
        self.exit()
    }

    /// Kills the process with SIGKILL; `None` if nothing is known that means this process and no other.
    pub(crate) fn kill(&self) -> Option<std::io::Result<()>> {
        if let Some(pidfd) = self.pidfd.get() {
            return Some(sys::pidfd_kill(&*pidfd, 9));
        }
        if !self.is_child() {
            return None;
        }
        let _child = self.child.lock();
        Some(if self.exit.get().is_some() { Ok(()) } else { sys::child_kill(self.pid(), 9) })
    }

    /// Kills a child whose link does not come to be, and waits for its end.
    pub(super) fn end_child(&self) {
        let _ = self.kill(); // ended already, or waited for all the same
        match self.pidfd.get() {
            Some(pidfd) => {
                let _ = sys::wait_readable(&*pidfd, None);
                exit_of(sys::pidfd_reap(&*pidfd)).into_iter().for_each(|exit| self.set_exit(exit));
            }
            None => {
                sys::child_wait(self.pid());
                self.reap_child();
            }
        }
    }

    /// The deadline of a future's call is over.
    pub(crate) fn expire(&self, id: u64) -> Option<Waker> {
        if !self.is_waiting_for(id) {
            return None;
        }
        // Told first: who sees that the call is over must not overtake that with what it sends next. An answer that comes
        // in between only makes the peer forget a cancellation of what has ended.
        self.tell_cancelled(id);
        let call = self.calls.lock().end(id)?;
        call.finish(Outcome::Failed(timed_out()))
    }

    /// What was handed to the ring or its queue, or waits for a ring.
    pub(crate) fn sent(&self) -> Sent {
        if let Some(pipe) = self.pipe.get() {
            return pipe.sent();
        }
        let early = self.early.lock();
        Sent { messages: early.messages.len() as u64, bytes: early.bytes as u64 }
    }

    /// Bytes that wait to be sent.
    pub(crate) fn queued(&self) -> usize {
        match self.pipe.get() {
            Some(pipe) => pipe.queued(),
            None => self.early.lock().bytes,
        }
    }

    /// What the peer takes, once that is agreed.
    pub(super) fn agreed_limits(&self) -> Option<wire::Limits> {
        self.limits.get().copied()
    }

    // ---- the session machine ------------------------------------------------------------------------------------

    /// Feeds the machine and carries out what it says. Never runs foreign code, never blocks.
    pub(crate) fn feed(self: &Arc<Self>, input: impl FnOnce(&mut machine::Link, Instant)) {
        let mut machine = self.machine.lock();
        let before = machine.next_deadline();
        input(&mut machine, Instant::now());
        while let Some(output) = machine.poll_output() {
            self.carry_out(&mut machine, output);
        }
        let deadline = machine.next_deadline();
        drop(machine);
        if deadline != before && deadline.is_some() {
            self.engine.watch.look_at_deadlines();
        }
    }

    fn carry_out(self: &Arc<Self>, machine: &mut machine::Link, output: Output) {
        match output {
            // Main's Welcome goes out with its descriptors, and a renderer's Hello before its link is made: neither
            // comes here.
            Output::Transmit(_) => {}
            Output::Opened(agreed) => {
                if let Err(why) = self.engine.open(self, &agreed) {
                    machine.refuse(Instant::now(), why);
                }
            }
            Output::PeerLost => self.lose(),
            Output::ShutSocket => self.engine.watch.forget(self),
            Output::DrainRing => self.engine.command(Command::Drain(self.clone())),
            Output::Gone(reason) => {
                // Known before `forget` looks whether the process may still say why.
                let _ = self.gone.set(reason);
                self.engine.watch.forget(self);
                self.lose();
                self.engine.command(Command::Gone(self.clone()));
            }
        }
    }

    /// Nobody will ever be behind this link: the wakers of those who wait for an answer.
    pub(super) fn never_began(&self) -> Vec<Waker> {
        let _ = self.gone.set(GoneReason::NeverConnected("the link did not come to be".to_string()));
        self.lose();
        let wakers = self.fail_calls();
        self.discard();
        wakers
    }

    fn lose(&self) {
        // Before anybody can see that it is lost: what is sent then is refused, not taken and lost.
        if let Some(pipe) = self.pipe.get() {
            pipe.refuse();
        }
        self.lost.store(true, Ordering::Release);
        if let Some(pipe) = self.pipe.get() {
            pipe.set_gone();
        }
        self.end_lanes();
        // Under the lock, or a thread between its look and its sleep would miss it.
        let _early = self.early.lock();
        self.opened.notify_all();
    }

    /// The terms are agreed: what waited goes out, in order.
    pub(crate) fn open(&self, pipe: Pipe, limits: wire::Limits, max_calls: usize) {
        let mut early = self.early.lock();
        let _ = self.limits.set(limits);
        {
            let mut calls = self.calls.lock();
            let ours = self.engine.config.max_pending_calls as usize;
            calls.set_limit(max_calls.min(ours));
        }
        for (mut message, mode) in early.messages.drain(..) {
            match self.check_taken(&message, &limits) {
                // Counted when it began to wait; an error here means that the peer is gone already.
                Ok(()) => drop(pipe.send(&mut message, SendMode { beyond_limit: true, ..mode })),
                Err(error) => self.not_taken(&message, error),
            }
        }
        self.engine.budget.give_back(early.bytes);
        (early.bytes, early.routed) = (0, 0);
        (0..early.attended).for_each(|_| pipe.attend());
        let _ = self.pipe.set(pipe);
        self.opened.notify_all();
    }

    /// Whether the peer takes a message that was encoded before it had said what it takes.
    #[cold]
    fn check_taken(&self, message: &[u8], limits: &wire::Limits) -> Result<()> {
        if message.len() > limits.max_message_size {
            return Err(too_large(message.len(), limits.max_message_size));
        }
        let not_taken = |violation| {
            Error::new(ErrorKind::InvalidValue, format!("{} takes less: {violation}", self.engine.peer_name(self.id)))
        };
        let (envelope, payload) = wire::split(message, limits, self.engine.peer_end()).map_err(not_taken)?;
        if envelope.kind.has_args() && limits.is_lower(&self.engine.wire_limits) {
            wire::check_args(payload, limits, false).map_err(not_taken)?;
        }
        Ok(())
    }

    /// A message that was accepted, and that the renderer does not take after all. Locks are held here.
    #[cold]
    fn not_taken(&self, message: &[u8], error: Error) {
        let envelope = wire::split(message, &self.engine.wire_limits, self.engine.peer_end()).ok();
        match envelope.map(|(envelope, _)| envelope) {
            Some(Envelope { kind: Kind::Invoke, call, .. }) => {
                // Its waker is foreign code.
                if let Some(waker) = self.complete(call, Outcome::Failed(error)) {
                    self.engine.on_dispatcher(move |_| waker.wake());
                }
            }
            Some(Envelope { kind: Kind::Routed | Kind::FromGuest, peer, channel, .. }) => {
                match self.engine.link(peer) {
                    Some(sender) => sender.undeliverable(channel, error),
                    None => self.engine.report_later(Some(peer), Some(channel), error),
                }
            }
            envelope => self.engine.report_later(Some(self.id), envelope.map(|envelope| envelope.channel), error),
        }
    }

    /// The peer broke a rule: its link is cut.
    #[cold]
    pub(crate) fn violation(self: &Arc<Self>, text: impl std::fmt::Display) {
        let text = text.to_string();
        self.feed(|machine, now| machine.violation(now, text));
    }

    /// What the one who found the peer breaking a rule is told; everybody else finds it [`disconnected`](Self::disconnected).
    #[cold]
    pub(crate) fn broke_protocol(&self, text: impl std::fmt::Display) -> Error {
        let who = self.engine.peer_name(self.id);
        Error::new(ErrorKind::Protocol, format!("{who} broke the protocol: {text}"))
    }

    /// Closes the link: what was sent before is in the ring or waits in the queue, the Close message comes last.
    pub(crate) fn close(self: &Arc<Self>) {
        // In one step with the machine: a peer that reads the message and ends at once must not be the reason.
        self.feed(|machine, now| {
            failpoint::reached("closing");
            if !self.is_lost()
                && let Some(pipe) = self.pipe.get()
            {
                let mut message = Vec::with_capacity(wire::HEADER_LEN);
                wire::begin(&envelope(Kind::Close, 0, ""), &mut message);
                let _ = pipe.send(&mut message, BEYOND_LIMIT);
            }
            failpoint::reached("close sent");
            machine.local_close(now);
        });
    }

    // ---- sending ------------------------------------------------------------------------------------------------

    pub(super) fn check_usable(&self) -> Result<()> {
        self.engine.check_fork()?;
        if self.is_lost() { Err(self.disconnected()) } else { Ok(()) }
    }

    #[cold]
    pub(crate) fn disconnected(&self) -> Error {
        if self.id == 0 {
            let text = "this event was emitted by this process itself: no renderer is behind it";
            return Error::new(ErrorKind::Disconnected, text);
        }
        let who = self.engine.peer_name(self.id);
        let text = match self.gone.get() {
            Some(reason) => format!("{who} is gone: {reason}"),
            None => format!("{who} is gone"),
        };
        Error::new(ErrorKind::Disconnected, text)
    }

    /// Encodes a message into this thread's own buffer and sends it. No lock is held while the values are serialized.
    #[inline]
    fn send_with(
        &self,
        envelope: &Envelope<'_>,
        mode: SendMode,
        payload: impl FnOnce(&mut Vec<u8>, &wire::Limits) -> Result<(), wire::ValueError>,
        is_wanted: impl FnOnce() -> bool,
    ) -> Result<()> {
        let agreed = self.limits.get().copied();
        let limits = agreed.unwrap_or_else(|| self.engine.config.wire_limits());
        wire::check_channel(envelope.channel, &limits).map_err(invalid_value)?;
        let mut message = take_buffer(&ENCODE);
        wire::begin(envelope, &mut message);
        let result = payload(&mut message, &limits).map_err(invalid_value).and_then(|()| {
            if message.len() > limits.max_message_size {
                return Err(too_large(message.len(), limits.max_message_size));
            }
            if !is_wanted() {
                return Ok(());
            }
            // Held while it is sent, so that nothing from a frame, and no call to one, comes behind its end.
            let frames = (envelope.frame != MAIN_FRAME).then(|| self.frames.lock());
            if frames.as_ref().is_some_and(|frames| !frames.is_open(envelope.frame)) {
                return Err(super::frame_closed(envelope.frame));
            }
            self.push_within(agreed.is_some(), &mut message, mode)
        });
        keep_buffer(&ENCODE, message);
        result
    }

    /// Sends a message that was encoded within the agreed limits, or before any were.
    #[inline]
    pub(super) fn push_within(&self, agreed: bool, message: &mut Vec<u8>, mode: SendMode) -> Result<()> {
        if agreed { self.push(message, mode) } else { self.push_early(message, mode) }
    }

    /// Hands an encoded message to the pipe, or to what waits for one.
    #[inline]
    pub(crate) fn push(&self, message: &mut Vec<u8>, mode: SendMode) -> Result<()> {
        match self.pipe.get() {
            Some(pipe) => {
                let sent = pipe.send(message, mode);
                self.resume_if_low(); // it may have drained the queue, also where it had no room
                sent.map_err(|error| self.not_sent(error))
            }
            None => self.push_early(message, mode),
        }
    }

    #[cold]
    fn push_early(&self, message: &mut Vec<u8>, mode: SendMode) -> Result<()> {
        let mut early = self.early.lock();
        if let (Some(_), Some(limits)) = (self.pipe.get(), self.limits.get()) {
            drop(early);
            self.check_taken(message, limits)?;
            return self.push(message, mode);
        }
        if self.is_lost() {
            return Err(self.disconnected());
        }
        let budget = &self.engine.budget;
        if mode.beyond_limit {
            budget.force(message.len());
        } else {
            let taken = mode.check(early.bytes, early.routed, self.engine.config.queue_limit);
            let taken = taken.and_then(|()| budget.take_for(message.len(), mode.routed));
            taken.map_err(|error| self.not_sent(error))?;
        }
        early.bytes += message.len();
        early.routed += if mode.routed { message.len() } else { 0 };
        early.messages.push_back((std::mem::take(message), mode));
        Ok(())
    }

    #[cold]
    fn not_sent(&self, error: SendError) -> Error {
        let who = self.engine.peer_name(self.id);
        match error {
            SendError::Gone => self.disconnected(),
            SendError::Corrupt(corrupt) => {
                let text = corrupt.to_string();
                if let Some(link) = self.engine.link(self.id) {
                    link.violation(&text);
                }
                self.broke_protocol(text)
            }
            SendError::Full { queued, limit } => {
                count(&self.counters.refused_full, 1);
                Error::new(
                    ErrorKind::Full,
                    format!(
                        "{who} does not keep up: {queued} bytes wait for it and queue_limit is {limit}; wait with \
                         send_timeout or flush, send less, or raise the limit"
                    ),
                )
            }
            SendError::ShareFull { used, limit } => {
                count(&self.counters.refused_full, 1);
                Error::new(
                    ErrorKind::Full,
                    format!(
                        "{who} does not keep up: {used} bytes wait, where messages of other renderers may use {limit}"
                    ),
                )
            }
            SendError::ProcessFull { used, limit } => {
                count(&self.counters.refused_full, 1);
                Error::new(
                    ErrorKind::Full,
                    format!(
                        "{used} bytes wait in this process and process_limit is {limit}; wait with send_timeout or \
                         flush, send less, or raise the limit"
                    ),
                )
            }
        }
    }

    /// `send`: never waits.
    #[inline]
    pub(crate) fn send<A: IntoArgs>(&self, frame: u32, channel: &str, args: &A) -> Result<()> {
        self.send_args(&Envelope { frame, ..envelope(Kind::Send, 0, channel) }, args)
    }

    /// Sends a message with arguments; never waits.
    #[inline]
    pub(crate) fn send_args<A: IntoArgs>(&self, envelope: &Envelope<'_>, args: &A) -> Result<()> {
        self.check_usable()?;
        self.send_with(envelope, NORMAL, |out, limits| wire::encode_args(args, out, limits), || true)
    }

    /// `send_timeout`: waits until the queue takes the message.
    pub(crate) fn send_timeout<A: IntoArgs>(
        self: &Arc<Self>,
        frame: u32,
        channel: &str,
        args: &A,
        timeout: Duration,
    ) -> Result<()> {
        self.check_blocking("send_timeout")?;
        let until = Instant::now().checked_add(timeout);
        let envelope = Envelope { frame, ..envelope(Kind::Send, 0, channel) };
        loop {
            let len = Cell::new(0);
            let payload = |out: &mut Vec<u8>, limits: &wire::Limits| {
                wire::encode_args(args, out, limits)?;
                len.set(out.len());
                Ok(())
            };
            self.check_usable()?;
            match self.send_with(&envelope, NORMAL, payload, || true) {
                Err(error) if error.kind() == ErrorKind::Full => match self.wait_for_room(len.get(), until)? {
                    true => continue,
                    false => return Err(error),
                },
                result => return result,
            }
        }
    }

    /// `flush`: waits until all that was sent before is in the ring, where the peer finds it even if we end.
    pub(crate) fn flush(self: &Arc<Self>, timeout: Duration) -> Result<()> {
        self.check_blocking("flush")?;
        self.check_usable()?;
        match self.wait_for_queue(1, Instant::now().checked_add(timeout))? {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "{} bytes still wait for {} after {timeout:?}: it does not read",
                    self.queued(),
                    self.engine.peer_name(self.id)
                ),
            )),
        }
    }

    /// Waits until the renderer has connected or is gone; false: the time is over.
    pub(crate) fn wait_until_open(&self, until: Option<Instant>) -> bool {
        if self.pipe.get().is_some() {
            return true;
        }
        let mut early = self.early.lock();
        while self.pipe.get().is_none() && !self.is_lost() {
            match until {
                Some(until) if self.opened.wait_until(&mut early, until).timed_out() => {
                    return self.pipe.get().is_some() || self.is_lost();
                }
                Some(_) => {}
                None => self.opened.wait(&mut early),
            }
        }
        true
    }

    /// A future waits for an answer: the dispatcher must be rung for it.
    pub(crate) fn attend(&self) {
        if self.pipe.get().is_none() {
            let mut early = self.early.lock();
            if self.pipe.get().is_none() {
                early.attended += 1;
                return;
            }
        }
        self.pipe.get().inspect(|pipe| pipe.attend());
    }

    /// The future of [`attend`](Self::attend) has its answer or was dropped.
    pub(crate) fn unattend(&self) {
        if self.pipe.get().is_none() {
            let mut early = self.early.lock();
            if self.pipe.get().is_none() {
                early.attended -= 1;
                return;
            }
        }
        self.pipe.get().inspect(|pipe| pipe.unattend());
    }

    // ---- main stops reading a renderer that does not read ------------------------------------------------------

    /// Whether the queue has fallen far enough to read the renderer on.
    pub(crate) fn queue_is_low(&self) -> bool {
        self.pipe.get().is_none_or(|pipe| pipe.queued_by_us() <= pipe.queue_limit() / 4)
    }

    /// For the dispatcher, before it looks at the queue for the last time.
    pub(crate) fn set_paused(&self, paused: bool) {
        if paused {
            self.paused.store(true, Ordering::Relaxed);
            // [pause/drain] pairs with the fence after which whoever drains comes to `resume_if_low`.
            fence(Ordering::SeqCst);
        } else if self.is_paused() {
            self.paused.store(false, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// The calling thread may have drained the queue: then no ring of the renderer's comes, whose messages were published
    /// long ago.
    #[inline]
    fn resume_if_low(&self) {
        if self.is_paused() && self.queue_is_low() && self.paused.swap(false, Ordering::AcqRel) {
            self.engine.ring();
        }
    }

    /// Waits until the queue takes `len` bytes more; false: the time is over.
    fn wait_for_room(self: &Arc<Self>, len: usize, until: Option<Instant>) -> Result<bool> {
        let budget = &self.engine.budget;
        let mut fits = || budget.used().saturating_add(len) <= budget.limit();
        if !self.wait_for_queue(self.engine.config.queue_limit, until)? {
            return Ok(false);
        }
        // Nobody rings when another link has given back what this one needs: look again soon.
        while !fits() {
            let soon = Instant::now() + BUDGET_RETRY;
            let at = until.map_or(soon, |until| until.min(soon));
            match self.wait(&mut fits, Some(at)) {
                Waited::TimedOut if until == Some(at) => return Ok(fits()),
                Waited::TimedOut | Waited::Done => {}
                Waited::Gone => return Err(self.disconnected()),
                Waited::Violation(violation) => {
                    self.violation(&violation);
                    return Err(self.broke_protocol(violation));
                }
            }
        }
        Ok(true)
    }

    /// Waits until fewer than `below` bytes wait; false: the time is over.
    pub(crate) fn wait_for_queue(self: &Arc<Self>, below: usize, until: Option<Instant>) -> Result<bool> {
        if !self.wait_until_open(until) {
            return Ok(false);
        }
        let Some(pipe) = self.pipe.get() else { return Err(self.disconnected()) };
        pipe.begin_to_wait_for_room();
        let waited = self.wait(&mut || pipe.queued() < below, until);
        pipe.end_to_wait_for_room();
        match waited {
            // The queue of a link that is gone is emptied, but not into the ring.
            Waited::Done if self.is_lost() => Err(self.disconnected()),
            Waited::Done => Ok(true),
            Waited::TimedOut => Ok(false),
            Waited::Gone => Err(self.disconnected()),
            Waited::Violation(violation) => {
                self.violation(&violation);
                Err(self.broke_protocol(violation))
            }
        }
    }

    /// Whether this thread serves the other end of an attached renderer's link.
    #[inline]
    pub(super) fn is_served_by(&self, thread: u64) -> bool {
        self.served_by.get().is_some_and(|server| server.is_by(thread))
    }

    /// Refuses a wait on the thread that would have to serve what is waited for.
    pub(crate) fn check_blocking(&self, what: &str) -> Result<()> {
        self.check_not_server(what, |this| self.is_served_by(this))
    }

    fn check_not_server(&self, what: &str, serves_other_end: impl FnOnce(u64) -> bool) -> Result<()> {
        self.engine.check_fork()?; // the copy has no mapping to wait on
        let this = this_thread();
        let on_mains_dispatcher = self.engine.is_main() && self.engine.is_dispatcher(this);
        if !on_mains_dispatcher && !serves_other_end(this) {
            return Ok(());
        }
        if on_mains_dispatcher && self.engine.manual.is_some() {
            return Err(Error::new(
                ErrorKind::WouldDeadlock,
                format!(
                    "{what} inside a callback would block the thread that polls and has to serve the other end; use \
                     wait_polling, an async handler, or another thread"
                ),
            ));
        }
        let whose = if on_mains_dispatcher == self.engine.is_main() { "main's" } else { "the attached renderer's" };
        Err(Error::new(
            ErrorKind::WouldDeadlock,
            format!(
                "{what} would block {whose} dispatcher, the thread that has to serve the other end; use an async handler, \
                 or another thread"
            ),
        ))
    }

    /// Refuses an await that blocks the thread that has to serve or to read the answer: nobody would wake it.
    pub(crate) fn check_await(&self) -> Result<()> {
        // A thread that polls both ends may await outside of the polls: its loop goes on.
        let server = self.served_by.get();
        self.check_not_server("await", |this| server.is_some_and(|server| server.is_at_work(this)))?;
        if !self.engine.is_dispatcher(this_thread()) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::WouldDeadlock,
            "await would block the renderer's dispatcher, the thread that has to read the answer; in a listener use \
             wait(), which reads on, or await on another thread",
        ))
    }

    // ---- calls --------------------------------------------------------------------------------------------------

    /// Sends a request, in order with `send`; the call is answered through its slot.
    pub(crate) fn call<A: IntoArgs>(
        &self,
        kind: Kind,
        frame: u32,
        channel: &str,
        args: &A,
    ) -> Result<(u64, Arc<Call>)> {
        self.check_usable()?;
        let call = Call::new(frame, channel);
        // Ends the call again if sending fails, or if a `Serialize` panics.
        struct Begun<'a>(&'a Link, u64);
        impl Drop for Begun<'_> {
            fn drop(&mut self) {
                self.0.calls.lock().end(self.1);
            }
        }
        let id = self.calls.lock().begin(call.clone()).map_err(|error| match error {
            NotBegun::Closed => self.disconnected(),
            NotBegun::TooMany { limit } => Error::new(
                ErrorKind::Limit,
                format!("{limit} calls wait for an answer already, which is the limit (max_pending_calls)"),
            ),
        })?;
        let envelope = Envelope { caller_awake: true, frame, ..envelope(kind, id, channel) };
        let payload = |out: &mut Vec<u8>, limits: &wire::Limits| wire::encode_args(args, out, limits);
        let begun = Begun(self, id);
        // Begun first: whoever closes the frame ends it, or has closed it already.
        if frame != MAIN_FRAME && !self.is_frame_open(frame) {
            return Err(super::frame_closed(frame));
        }
        self.send_with(&envelope, NORMAL, payload, || true)?;
        std::mem::forget(begun);
        Ok((id, call))
    }

    /// The call is given up: its answer is not waited for, and the peer is told if `tell` says so.
    pub(crate) fn give_up(&self, id: u64, tell: bool) {
        let open = self.calls.lock().end(id).is_some();
        if open && tell {
            self.tell_cancelled(id);
        }
    }

    pub(super) fn tell_cancelled(&self, id: u64) {
        if !self.is_lost() {
            let mut message = take_buffer(&ENCODE);
            wire::begin(&envelope(Kind::Cancel, id, ""), &mut message);
            // Small, and no more of them than calls: it may go beyond the limit. If the peer is gone, so is the call.
            let _ = self.push(&mut message, BEYOND_LIMIT);
            keep_buffer(&ENCODE, message);
        }
    }

    /// Answers one call of ours; the waker, if any, is to be woken with nothing held.
    pub(crate) fn complete(&self, id: u64, outcome: Outcome) -> Option<Waker> {
        let call = self.calls.lock().end(id);
        match call {
            Some(call) => call.finish(outcome),
            None => {
                count(&self.counters.late_replies, 1);
                None
            }
        }
    }

    /// The peer is gone and all of it delivered: what still waits is dropped, and the budget of the process given back,
    /// though somebody may keep a handle.
    pub(crate) fn discard(&self) {
        self.inbox.lock().is_over = true;
        while self.next_in_inbox().is_some() {} // a link cut as corrupt delivers nothing more
        let mut early = self.early.lock();
        let waiting = std::mem::take(&mut early.messages);
        self.engine.budget.give_back(std::mem::take(&mut early.bytes));
        early.routed = 0;
        drop(early);
        drop(waiting);
        if let Some(pipe) = self.pipe.get() {
            pipe.discard();
        }
    }

    /// Bytes that were read for the dispatcher.
    pub(crate) fn inbox_bytes(&self) -> usize {
        self.inbox_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn is_waiting_for(&self, id: u64) -> bool {
        self.calls.lock().contains(id)
    }

    pub(crate) fn pending_calls(&self) -> usize {
        self.calls.lock().len()
    }

    /// No call is answered any more: the wakers of those that waited.
    pub(crate) fn fail_calls(&self) -> Vec<Waker> {
        let calls = self.calls.lock().close();
        calls.into_iter().filter_map(|call| call.finish(Outcome::Failed(self.disconnected()))).collect()
    }

    /// Whether a request is not to be started, because its cancellation is known already.
    #[inline]
    pub(super) fn is_cancelled_unstarted(&self, id: u64) -> bool {
        if !self.has_cancellations.load(Ordering::Acquire) {
            return false;
        }
        let mut requests = self.requests.lock();
        let is_cancelled = requests.is_cancelled(id);
        self.has_cancellations.store(requests.has_unstarted(), Ordering::Release);
        is_cancelled
    }

    // ---- replying -----------------------------------------------------------------------------------------------

    /// Sends a reply made by `payload`, unless `is_wanted`, asked once it is encoded, says no; one that finds no room
    /// becomes a small one that says so.
    pub(crate) fn reply(
        &self,
        kind: Kind,
        id: u64,
        quiet: bool,
        payload: impl FnOnce(&mut Vec<u8>, &wire::Limits) -> Result<(), wire::ValueError>,
        is_wanted: impl FnOnce() -> bool,
    ) -> Result<()> {
        self.engine.check_fork()?;
        let mode = SendMode { quiet, ..NORMAL };
        match self.send_with(&envelope(kind, id, ""), mode, payload, is_wanted) {
            Err(error) if error.kind() == ErrorKind::Full => {
                let record = super::call::record(super::call::REPLY_FULL, &error.to_string());
                // Room for these is kept from the start: one a pending call, and those are limited.
                self.send_with(
                    &envelope(Kind::ReplyError, id, ""),
                    SendMode { quiet, ..BEYOND_LIMIT },
                    |out, limits| {
                        record.encode(out, limits);
                        Ok(())
                    },
                    || true,
                )?;
                Err(error)
            }
            result => result,
        }
    }

    // ---- reading ------------------------------------------------------------------------------------------------

    /// Takes a message just read, with the role held: replies go to their calls, the rest to the inbox.
    /// The reply to the call that the reading thread itself waits for goes where `own` says, past its slot.
    pub(crate) fn route(
        self: &Arc<Self>,
        message: &mut Vec<u8>,
        wakers: &mut Vec<Waker>,
        own: Option<(u64, &mut Option<Reply>)>,
    ) -> Routed {
        self.counters.received(message.len());
        let (action, kind, payload) = match wire::split(message, &self.engine.wire_limits, self.engine.end()) {
            Ok((envelope, payload)) => (dispatch::action(&envelope), envelope.kind, payload.len()),
            Err(violation) => {
                self.violation(violation);
                return Routed::Moved;
            }
        };
        match action {
            Action::Complete { call } => {
                let reply = Reply::take(message, payload, kind);
                if let Some((id, answer)) = own
                    && id == call
                {
                    // Whoever takes the call out of the table has it: nobody else answers it then.
                    match self.calls.lock().end(call) {
                        Some(_) => *answer = Some(reply),
                        None => count(&self.counters.late_replies, 1),
                    }
                    return Routed::Moved;
                }
                let waker = self.complete(call, Outcome::Reply(reply));
                let Some(waker) = waker else { return Routed::Moved };
                wakers.push(waker);
                Routed::Settle
            }
            action => {
                if let Action::Cancel { call } = action {
                    let mut requests = self.requests.lock();
                    requests.cancel_unstarted(call);
                    self.has_cancellations.store(true, Ordering::Release);
                }
                self.keep_for_dispatcher(std::mem::take(message));
                Routed::Moved
            }
        }
    }

    fn keep_for_dispatcher(&self, message: Vec<u8>) {
        let bytes = message.len();
        self.engine.budget.force(bytes);
        let mut inbox = self.inbox.lock();
        if inbox.is_over {
            drop(inbox);
            self.engine.budget.give_back(bytes);
            return;
        }
        inbox.bytes += bytes;
        self.inbox_bytes.store(inbox.bytes.max(1), Ordering::Release);
        inbox.messages.push_back(message);
    }

    /// The next message that was read for the dispatcher, and how many lie behind it.
    pub(crate) fn next_in_inbox(&self) -> Option<(Vec<u8>, usize)> {
        if self.inbox_bytes.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut inbox = self.inbox.lock();
        let message = inbox.messages.pop_front()?;
        inbox.bytes -= message.len();
        let left = if inbox.messages.is_empty() { 0 } else { inbox.bytes.max(1) };
        self.inbox_bytes.store(left, Ordering::Release);
        let room = inbox.is_full && inbox.bytes < self.engine.config.queue_limit / 2;
        if room {
            inbox.is_full = false;
        }
        let behind = inbox.messages.len();
        drop(inbox);
        self.engine.budget.give_back(message.len());
        if room && let Some(pipe) = self.pipe.get() {
            pipe.ring_callers();
        }
        Some((message, behind))
    }

    /// How many messages were read for the dispatcher.
    pub(crate) fn inbox_len(&self) -> usize {
        if self.has_inbox() { self.inbox.lock().messages.len() } else { 0 }
    }

    pub(crate) fn has_inbox(&self) -> bool {
        self.inbox_bytes.load(Ordering::Acquire) != 0
    }

    /// Whether a leading caller may read on. The dispatcher's own nested wait may fill the inbox up to the limit of the
    /// process, because nobody but itself would empty it.
    fn may_read(&self) -> bool {
        let budget = &self.engine.budget;
        let limit = self.engine.config.queue_limit;
        let nobody_polls = self.engine.manual.is_some() && self.engine.serving().is_paused();
        let nobody_empties = nobody_polls || self.dispatcher_waits.load(Ordering::SeqCst);
        if budget.used() < budget.limit() && (nobody_empties || self.inbox_bytes.load(Ordering::Relaxed) < limit) {
            return true;
        }
        let mut inbox = self.inbox.lock();
        inbox.is_full = inbox.bytes >= limit / 2;
        !inbox.is_full
    }

    // ---- waiting ------------------------------------------------------------------------------------------------

    /// Waits until `is_done`; reads the ring for everybody meanwhile.
    pub(super) fn wait(self: &Arc<Self>, is_done: &mut dyn FnMut() -> bool, until: Option<Instant>) -> Waited {
        let mut waiter =
            LinkWaiter { link: self, waits_for: WaitsFor::Condition(is_done), wakers: Vec::new(), or_run: false };
        self.wait_with(&mut waiter, until)
    }

    fn wait_with(self: &Arc<Self>, waiter: &mut LinkWaiter<'_>, until: Option<Instant>) -> Waited {
        if !self.wait_until_open(until) {
            return Waited::TimedOut;
        }
        let Some(pipe) = self.pipe.get() else { return Waited::Gone };
        let bell = BELL.try_with(Cell::take).ok().flatten().unwrap_or_else(Bell::new);
        let mut buffer = take_buffer(&READ);
        let on_dispatcher = self.engine.is_dispatcher(this_thread());
        // Whoever leads reads on for the dispatcher's sake, also one that has parked because the inbox was full.
        let is_outer = on_dispatcher && !self.dispatcher_waits.swap(true, Ordering::SeqCst);
        if is_outer {
            pipe.ring_callers();
        }
        let waited = pipe.wait_until(waiter, &bell, &self.engine.caller_spin, until, &mut buffer);
        // Whoever leaves drains once more, and what the renderer has said lies in the inbox then.
        self.resume_if_low();
        waiter.settle();
        if is_outer {
            self.dispatcher_waits.store(false, Ordering::SeqCst);
        }
        keep_buffer(&READ, buffer);
        let _ = BELL.try_with(|kept| kept.set(Some(bell)));
        waited
    }

    /// Waits for the answer of a call; with it, if this thread has read it itself.
    pub(crate) fn wait_for(
        self: &Arc<Self>,
        id: u64,
        call: &Arc<Call>,
        until: Option<Instant>,
    ) -> (Waited, Option<Outcome>) {
        self.wait_for_answer(id, call, until, false)
    }

    /// The same; it also ends when there is something to run for whoever waits on the thread that runs the callbacks.
    pub(crate) fn wait_for_or_run(
        self: &Arc<Self>,
        id: u64,
        call: &Arc<Call>,
        until: Option<Instant>,
    ) -> (Waited, Option<Outcome>) {
        self.wait_for_answer(id, call, until, true)
    }

    fn wait_for_answer(
        self: &Arc<Self>,
        id: u64,
        call: &Arc<Call>,
        until: Option<Instant>,
        or_run: bool,
    ) -> (Waited, Option<Outcome>) {
        let waits_for = WaitsFor::Answer { id, call, answer: None };
        let mut waiter = LinkWaiter { link: self, waits_for, wakers: Vec::new(), or_run };
        let waited = self.wait_with(&mut waiter, until);
        let answer = match waiter.waits_for {
            WaitsFor::Answer { answer, .. } => answer.map(Outcome::Reply),
            WaitsFor::Condition(_) => None,
        };
        (waited, answer)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let bytes = self.early.lock().bytes + self.inbox.lock().bytes;
        self.engine.budget.give_back(bytes);
    }
}

struct LinkWaiter<'a> {
    link: &'a Arc<Link>,
    waits_for: WaitsFor<'a>,
    wakers: Vec<Waker>,
    /// Ends as well when there is something to run.
    or_run: bool,
}

enum WaitsFor<'a> {
    Condition(&'a mut dyn FnMut() -> bool),
    Answer {
        id: u64,
        call: &'a Arc<Call>,
        /// Read by the waiting thread itself; others put it into the call's slot.
        answer: Option<Reply>,
    },
}

impl Waiter for LinkWaiter<'_> {
    fn is_done(&mut self) -> bool {
        self.link.resume_if_low();
        if self.or_run && super::manual::has_something(self.link) {
            return true;
        }
        match &mut self.waits_for {
            WaitsFor::Condition(is_done) => is_done(),
            WaitsFor::Answer { call, answer, .. } => answer.is_some() || call.is_done(),
        }
    }

    fn sleeps(&mut self, bell: &Arc<Bell>) {
        // A leader reads the answer itself, but may sleep while another thread ends the call.
        if let WaitsFor::Answer { call, .. } = &self.waits_for {
            call.rung_by(bell);
        }
        if self.or_run {
            super::manual::sleeps(&self.link.engine, bell);
        }
    }

    fn route(&mut self, message: &mut Vec<u8>) -> Routed {
        let own = match &mut self.waits_for {
            WaitsFor::Answer { id, answer, .. } => Some((*id, answer)),
            WaitsFor::Condition(_) => None,
        };
        let routed = self.link.route(message, &mut self.wakers, own);
        if self.link.has_inbox() {
            // Needs no role, so it may be told at once; no system call if it is awake.
            self.link.engine.ring();
        }
        routed
    }

    fn may_read(&mut self) -> bool {
        self.link.may_read()
    }

    fn settle(&mut self) {
        super::wake_all(&mut self.wakers, &self.link.engine);
    }
}

/// How a child ended, as a reaping call says it; `None`: it lives.
pub(super) fn exit_of(reaped: std::io::Result<Option<sys::Exit>>) -> Option<machine::Exit> {
    match reaped {
        Ok(None) => None,
        Ok(Some(sys::Exit::Code(code))) => Some(machine::Exit::Exited(Some(code))),
        Ok(Some(sys::Exit::Signal(signal))) => Some(machine::Exit::Killed(signal)),
        // Somebody else in this process has waited for it.
        Ok(Some(sys::Exit::Unknown)) | Err(_) => Some(machine::Exit::Exited(None)),
    }
}

/// An envelope of our main frame.
pub(crate) fn envelope(kind: Kind, call: u64, channel: &str) -> Envelope<'_> {
    Envelope { kind, caller_awake: false, frame: MAIN_FRAME, call, channel, peer: 0, peer_frame: 0 }
}

#[cold]
pub(crate) fn invalid_value(error: wire::ValueError) -> Error {
    let kind = if error.is_too_large() { ErrorKind::TooLarge } else { ErrorKind::InvalidValue };
    Error::new(kind, error.to_string()).with_source(error)
}

/// The error of a call whose time is over.
#[cold]
pub(crate) fn timed_out() -> Error {
    Error::new(ErrorKind::Timeout, "no answer came in time; the call may still run at the other end")
}

#[cold]
pub(super) fn too_large(len: usize, limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the message has {len} bytes and the limit of the link is {limit} (max_message_size)"),
    )
}

/// What a violation of the pipe is called in an error.
impl From<Violation> for String {
    fn from(violation: Violation) -> Self {
        violation.to_string()
    }
}
