//! Manual dispatch: the program's own thread runs the callbacks, in `poll` or while it waits for an answer.
//!
//! The state of the dispatcher's loop lies behind a lock that is held by whoever polls, waits or shuts down; a callback that
//! polls finds it locked. `watch` remains a thread: it notices deaths, and wakes who waits, while nobody polls.

use super::dispatcher::{self, Dispatcher};
use super::tasks::OutsideTask;
use super::{Call, Engine, InCallback, Link, Outcome, this_thread};
use crate::config::{Budget, Polled, ThreadRole};
use crate::error::{Error, ErrorKind, Result};
use crate::pipe::Waited;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering};
use crate::sys;
use crate::wake::{Bell, Waiting};
use parking_lot::MutexGuard;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Manual {
    state: Mutex<State>,
    /// The timer of the descriptor, once that was asked for.
    timer: OnceLock<sys::Timer>,
    /// How deep `wait_polling` is nested now; touched by the polling thread alone.
    depth: AtomicUsize,
    /// A `wait_polling` that sleeps.
    waiting: Waiting,
    /// A deadline was added that is earlier than all others.
    has_sooner: AtomicBool,
    /// When the last poll wants to look again, for who may not disturb the next one.
    retry_at: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct State {
    /// Made by the first poll, taken by the end.
    dispatcher: Option<Box<Dispatcher>>,
    relay: Option<Relay>,
    is_over: bool,
}

impl State {
    fn dispatcher(&mut self, engine: &Arc<Engine>) -> &mut Dispatcher {
        self.dispatcher.get_or_insert_with(|| Box::new(Dispatcher::new(engine.clone())))
    }
}

/// The thread that hears what main rings, a futex, and makes a descriptor readable.
struct Relay {
    bell: Arc<Bell>,
    thread: JoinHandle<()>,
}

impl Manual {
    /// Whoever waits in a callback may have to run something.
    pub(super) fn ring_waiting(&self) {
        self.waiting.ring();
    }

    pub(super) fn add_sooner(&self) {
        self.has_sooner.store(true, Ordering::Release);
    }
}

/// This thread runs callbacks.
struct Running<'a> {
    engine: &'a Arc<Engine>,
    /// The thread unwinds already: `Drop` of something of the program's polls.
    was_panicking: bool,
    _in_callback: InCallback,
}

impl<'a> Running<'a> {
    fn begin(engine: &'a Arc<Engine>) -> Self {
        engine.serving.begin();
        Self { engine, was_panicking: std::thread::panicking(), _in_callback: InCallback::begin() }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.engine.serving.pause();
        if std::thread::panicking() && !self.was_panicking {
            // A fault of ours: what was being done is lost, so nothing goes on.
            self.engine.stop();
            self.engine.all_links().iter().for_each(|link| link.close());
        }
    }
}

fn not_manual() -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        "this handle has a dispatcher thread that runs its callbacks: build it with .dispatch(Dispatch::Manual) to poll it",
    )
}

fn is_over() -> Error {
    Error::new(ErrorKind::Disconnected, "this handle was shut down: there is nothing to poll any more")
}

impl Engine {
    fn manual(&self) -> Result<&Manual> {
        self.manual.as_ref().ok_or_else(not_manual)
    }

    /// The right to poll.
    fn lock_manual(&self) -> Result<MutexGuard<'_, State>> {
        self.check_fork()?;
        let state = &self.manual()?.state;
        if let Some(state) = state.try_lock() {
            return Ok(state);
        }
        let text = if self.is_dispatcher(this_thread()) {
            "a callback runs inside poll on this thread: it returns first; to wait for an answer in it use wait_polling"
        } else if self.is_stopping() {
            return Err(is_over()); // whoever ends the handle has it, and may wait for this thread in a hook
        } else {
            "another thread polls this handle now: one at a time"
        };
        Err(Error::new(ErrorKind::Busy, text))
    }

    /// Runs what is there, within the budget, on the calling thread.
    pub(crate) fn poll(self: &Arc<Self>, budget: Budget) -> Result<Polled> {
        let manual = self.manual()?;
        let mut state = self.lock_manual()?;
        let timer = manual.timer.get();
        if let Some(dispatcher) = &state.dispatcher
            && timer.is_none()
            && !dispatcher.has_work()
            && !dispatcher.has_queues()
            && !self.is_stopping()
        {
            return Ok(Polled { ran: 0, more: false });
        }
        if state.is_over {
            return Err(is_over());
        }
        let running = Running::begin(self);
        let dispatcher = state.dispatcher(self);
        let (ran, more) = dispatcher.run_budget(budget, timer);
        *manual.retry_at.lock() = dispatcher.retry_at();
        drop(running);
        if self.is_stopping() {
            let relay = self.end_in(&mut state);
            drop(state);
            end_relay(relay);
            return Ok(Polled { ran, more: false });
        }
        if more && timer.is_some() {
            self.bell.ring_event();
        }
        Ok(Polled { ran, more })
    }

    /// Waits until a poll would find something; false: the time is over.
    pub(crate) fn wait_for_work(self: &Arc<Self>, timeout: Option<Duration>) -> Result<bool> {
        let manual = self.manual()?;
        let mut state = self.lock_manual()?;
        if state.is_over {
            return Err(is_over());
        }
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let dispatcher = state.dispatcher(self);
        self.bell.awake();
        let found = dispatcher.wait(until);
        *manual.retry_at.lock() = dispatcher.retry_at();
        if let Some(timer) = manual.timer.get()
            && (found || !dispatcher.arm(timer))
        {
            self.bell.ring_event();
        }
        Ok(found)
    }

    /// When a poll has something to do at the latest, as far as is known now.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let retry_at = self.manual.as_ref().and_then(|manual| *manual.retry_at.lock());
        retry_at.into_iter().chain(self.deadlines.lock().next()).min()
    }

    /// A descriptor that is readable as long as a poll would find something.
    pub(crate) fn poll_fd(self: &Arc<Self>) -> Result<BorrowedFd<'_>> {
        let manual = self.manual()?;
        if manual.timer.get().is_none() {
            let mut state = self.lock_manual()?;
            if state.is_over {
                return Err(is_over());
            }
            self.make_fd(manual, &mut state)?;
        }
        self.check_fork()?;
        // Set before the timer.
        self.poller.get().map(AsFd::as_fd).ok_or_else(not_manual)
    }

    fn make_fd(self: &Arc<Self>, manual: &Manual, state: &mut State) -> Result<()> {
        let system = |what: &'static str| move |error| Error::system(what, error);
        let timer = sys::Timer::new().map_err(system("cannot make the timer of as_fd"))?;
        let watch_timer = |poller: &sys::Poller| {
            poller
                .add(&timer, dispatcher::TIMER, sys::Interest::READ_EDGE)
                .map_err(system("cannot watch the timer of as_fd"))
        };
        match self.poller.get() {
            Some(poller) => watch_timer(poller)?,
            // A renderer sleeps in futexes so far, and does so on unless all of this can be had.
            None => {
                let (poller, event) = dispatcher::poller_and_event()?;
                watch_timer(&poller)?;
                state.relay = Some(self.start_relay(&poller)?);
                self.bell.awake();
                self.bell.set_event(event);
                let _ = self.poller.set(poller);
            }
        }
        let dispatcher = state.dispatcher(self);
        if dispatcher.has_work() || !dispatcher.arm(&timer) {
            self.bell.ring_event();
        }
        let _ = manual.timer.set(timer);
        Ok(())
    }

    /// Main never rings a descriptor that a renderer holds, so a thread of the renderer's sleeps in the link's futex.
    fn start_relay(self: &Arc<Self>, poller: &sys::Poller) -> Result<Relay> {
        let system = |what: &'static str| move |error| Error::system(what, error);
        let gone = || Error::new(ErrorKind::Disconnected, "main is gone: there is nothing for a descriptor to tell of");
        let link = self.all_links().into_iter().next().ok_or_else(gone)?;
        let event = sys::EventFd::new().map_err(system("cannot make an eventfd"))?;
        poller.add(&event, dispatcher::RELAY, sys::Interest::READ_EDGE).map_err(system("cannot watch an eventfd"))?;
        let bell = Bell::new();
        let (engine, own) = (self.clone(), bell.clone());
        // Read here: what was rung before is found by the first look, which comes after this, and the thread may begin
        // later than that.
        let mut expected = link.pipe().map_or(0, |pipe| pipe.dispatcher_word().1);
        let thread = self.start_thread(ThreadRole::Relay, move || {
            let Some(pipe) = link.pipe() else { return };
            let (word, _) = pipe.dispatcher_word();
            while !engine.is_stopping() {
                if own.prepare() {
                    engine.sleep.on(word, expected, &own, None);
                }
                own.clear();
                let now = word.load(Ordering::Acquire);
                if now != expected {
                    expected = now;
                    event.ring();
                }
            }
        })?;
        Ok(Relay { bell, thread })
    }

    /// Makes the descriptor readable, if it was asked for: something waits that the engine does not know of.
    #[cfg(feature = "capi")]
    pub(crate) fn ring_descriptor(&self) {
        if self.manual.as_ref().is_some_and(|manual| manual.timer.get().is_some()) {
            self.bell.ring_event();
        }
    }

    /// The end of manual dispatch, on the calling thread: returns when no callback runs or will run.
    pub(super) fn end_manual(self: &Arc<Self>) {
        let Some(manual) = &self.manual else { return };
        let mut state = manual.state.lock();
        let relay = self.end_in(&mut state);
        drop(state);
        end_relay(relay);
    }

    /// What is left to be ended once the lock is free: hooks of that thread's may want it.
    fn end_in(self: &Arc<Self>, state: &mut State) -> Option<Relay> {
        if std::mem::replace(&mut state.is_over, true) {
            return None;
        }
        let running = Running::begin(self);
        state.dispatcher(self).end();
        state.dispatcher = None; // it holds the engine
        drop(running);
        self.watch.stop();
        // Whoever sleeps on the descriptor polls, and learns it.
        self.bell.ring_event();
        state.relay.take()
    }

    /// Waits for the answer of a call on the thread that runs the callbacks, and runs what else comes by this link.
    pub(crate) fn wait_polling(
        self: &Arc<Self>,
        link: &Arc<Link>,
        id: u64,
        call: &Arc<Call>,
        until: Option<Instant>,
    ) -> Result<(Waited, Option<Outcome>)> {
        self.check_fork()?;
        let Some(manual) = &self.manual else {
            link.check_blocking("wait_polling")?;
            return Ok(link.wait_for(id, call, until));
        };
        if link.is_served_by(this_thread()) {
            return Err(Error::new(
                ErrorKind::WouldDeadlock,
                "wait_polling would block this thread, which has to poll the other end in this process as well; await the \
                 call, or poll the two on threads of their own",
            ));
        }
        let held = if self.is_dispatcher(this_thread()) {
            None
        } else {
            let Some(state) = manual.state.try_lock() else {
                // Another thread polls: it runs what comes.
                return Ok(link.wait_for(id, call, until));
            };
            if state.is_over {
                return Err(is_over());
            }
            Some((Running::begin(self), state))
        };
        let most = self.config.max_nesting;
        if manual.depth.load(Ordering::Relaxed) >= most {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "wait_polling is nested {most} deep, which is the limit (max_nesting): callbacks call each other"
                ),
            ));
        }
        let deeper = Deeper::begin(manual, link);
        let waited = self.wait_and_run(link, id, call, until);
        drop(deeper);
        if let Some((running, mut state)) = held {
            drop(running);
            if self.is_stopping() {
                let relay = self.end_in(&mut state);
                drop(state);
                end_relay(relay);
            }
        }
        Ok(waited)
    }

    fn wait_and_run(
        self: &Arc<Self>,
        link: &Arc<Link>,
        id: u64,
        call: &Arc<Call>,
        until: Option<Instant>,
    ) -> (Waited, Option<Outcome>) {
        let mut dispatcher = Dispatcher::new(self.clone());
        let _outside = OutsideTask::begin();
        loop {
            // The clock for each: messages without end must not keep the deadline from being seen.
            while !call.is_done() {
                if until.is_some_and(|at| Instant::now() >= at) {
                    return (Waited::TimedOut, None);
                }
                if !dispatcher.run_next(link) {
                    break;
                }
            }
            let soonest = until.into_iter().chain(self.deadlines.lock().next()).min();
            let (waited, answer) = link.wait_for_or_run(id, call, soonest);
            let goes_on = match waited {
                Waited::Done => answer.is_none() && !call.is_done(),
                Waited::TimedOut => soonest != until,
                Waited::Gone | Waited::Violation(_) => false,
            };
            if !goes_on {
                return (waited, answer);
            }
        }
    }
}

/// One level of `wait_polling`.
struct Deeper<'a> {
    manual: &'a Manual,
    link: &'a Link,
    handled_request: bool,
}

impl<'a> Deeper<'a> {
    fn begin(manual: &'a Manual, link: &'a Link) -> Self {
        manual.depth.fetch_add(1, Ordering::Relaxed);
        Self { manual, link, handled_request: link.handles_request.load(Ordering::Relaxed) }
    }
}

impl Drop for Deeper<'_> {
    fn drop(&mut self) {
        self.manual.depth.fetch_sub(1, Ordering::Relaxed);
        self.manual.waiting.set(None);
        self.link.handles_request.store(self.handled_request, Ordering::Relaxed);
    }
}

fn end_relay(relay: Option<Relay>) {
    let Some(Relay { bell, thread }) = relay else { return };
    bell.ring();
    if thread.thread().id() != std::thread::current().id() {
        let _ = thread.join();
    }
}

/// Whether a wait that has to run what comes has something to run, or to look at anew.
pub(super) fn has_something(link: &Link) -> bool {
    let engine = &link.engine;
    if link.is_lost() || engine.is_stopping() {
        return false; // then nothing is run any more
    }
    let is_sooner =
        |manual: &Manual| manual.has_sooner.load(Ordering::Acquire) && manual.has_sooner.swap(false, Ordering::AcqRel);
    link.has_inbox() || engine.has_ready_tasks() || engine.manual.as_ref().is_some_and(is_sooner)
}

/// For the bell of a wait that has to run what comes.
pub(super) fn sleeps(engine: &Engine, bell: &Arc<Bell>) {
    if let Some(manual) = &engine.manual {
        manual.waiting.set(Some(bell));
    }
}
