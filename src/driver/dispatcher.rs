//! The dispatcher's loop.

use super::call::{self, Outcome, Reply};
use super::receiver::{self, Receiver, Recent};
use super::{
    Command, Delivery, Engine, IPC_MESSAGE, Link, Request, contain, panic_text, record, tasks, wake, wake_all,
};
use crate::config::Budget;
use crate::dispatch::{Action, MAIN_FRAME, action};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::link::EXIT_GRACE;
use crate::pipe::{BUDGET_RETRY, Lead, Pipe, RINGS_FOR_NOTHING, Read, Routed, SMALL, Violation, is_worth_keeping};
use crate::sync::{Arc, Ordering, spin_loop};
use crate::sys;
use crate::wake::{LOOKS, Next, Spin, Spinning};
use crate::wire::{self, Envelope};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::{Duration, Instant};

/// The token of the private doorbell; links have their ids, which are not 0.
pub(super) const OWN_BELL: u64 = 0;
/// The tokens of what a descriptor for the program's own loop needs besides.
pub(super) const RELAY: u64 = 1 << 32;
pub(super) const TIMER: u64 = 2 << 32;

/// Messages of one link in one turn.
const BUDGET_MESSAGES: usize = 64;
/// Bytes of one link in one turn.
const BUDGET_BYTES: usize = 1 << 20;
/// Time of one link in one turn, callbacks included, where others talk too.
const BUDGET_TIME: Duration = Duration::from_micros(200);
/// How often the quiet links are looked at while others talk.
const QUIET_LOOK: Duration = Duration::from_micros(50);
/// Rounds that the role of a single link is held while spinning.
const HOLD_ROUNDS: u64 = 64;
/// Messages read ahead of the one that is dispatched, so that a cancellation behind it is seen.
const READ_AHEAD: usize = 32;
/// The same in a `poll`: about a microsecond.
const READ_IN_POLL: usize = 8;
/// Bytes of those that are the dispatcher's own, without being counted in the process's budget: 64 MiB at 4 096 links.
const AHEAD_BYTES: usize = 16 << 10;

struct Entry {
    link: Arc<Link>,
    /// Looked at every turn; the others are announced and ring.
    active: bool,
    /// Something happened since the quiet links were last looked at.
    talked: bool,
    /// More than half of its queue is used: not read until that is a quarter.
    paused: bool,
    /// Its peer is gone: what is left in the ring is delivered.
    draining: bool,
    /// Where that ends which lay in the ring when the peer was gone: its memory may be in other hands, which write on.
    drains_to: Option<u64>,
    /// A large message waits for the process's budget: to be looked at again soon.
    retry: bool,
    /// The same, as long as that is so.
    starved: bool,
    /// Read and not yet dispatched, older than what lies in the inbox: at most [`READ_AHEAD`] messages of [`AHEAD_BYTES`]
    /// together, which cost no lock.
    ahead: VecDeque<Vec<u8>>,
    rings: u32,
    /// `messages_received`, `messages_sent` and what waited to be sent at the last ring.
    seen: [u64; 3],
}

/// What became of a moment's spinning.
enum Spun {
    Nothing,
    /// Something was read, and dispatched.
    Read,
    /// A waiting caller has the role or wants it and reads for us: spinning beside it would only take its core away.
    NotOurs,
}

impl Entry {
    /// Whether something was read that is not dispatched.
    fn has_read(&self) -> bool {
        !self.ahead.is_empty() || self.link.has_inbox()
    }

    /// Whether nothing of it is read any more, whatever its peer still writes: it waits for its reason alone. What it may have to
    /// deliver first is told by a command.
    fn is_over(&self) -> bool {
        self.link.is_lost() && !self.draining
    }

    /// Whether something waits to be sent.
    fn has_queue(&self) -> bool {
        self.link.pipe().is_some_and(|pipe| pipe.queued() > 0)
    }

    /// Whether a turn would find something to dispatch, as far as can be seen without the role.
    fn waits(&self) -> bool {
        if self.retry {
            return false; // not yet
        }
        if self.link.is_lost() {
            return self.draining;
        }
        if self.paused {
            return self.link.queue_is_low();
        }
        self.has_read() || self.link.pipe().is_some_and(Pipe::has_arrived)
    }
}

pub(super) struct Dispatcher {
    engine: Arc<Engine>,
    links: FxHashMap<u32, Entry>,
    /// Ids of the links that are looked at every turn.
    active: Vec<u32>,
    /// Memory of messages that were dispatched, for those that are read next.
    buffers: Vec<Vec<u8>>,
    events: Vec<sys::Event>,
    wakers: Vec<Waker>,
    /// When the quiet links were last looked at.
    looked: Instant,
    /// The memory of the last request, for the next one.
    spare: Option<Arc<Request>>,
    /// Listeners that are kept while a turn brings messages of one channel.
    recent: Recent,
    in_turn: bool,
    /// Something was read, perhaps only a part of a message.
    moved: bool,
    /// What a `poll` may still do.
    limit: Option<Limit>,
    /// The links have their turn before the tasks, in manual dispatch.
    links_first: bool,
    /// When whoever waits for the process's budget is looked at again, in manual dispatch.
    retry_at: Option<Instant>,
    /// It has slept and found nothing to do since but to drain a queue.
    has_only_drained: bool,
}

/// What is left of a `poll`'s budget.
struct Limit {
    messages: usize,
    until: Option<Instant>,
    ran: usize,
}

/// Runs until the engine stops.
pub(super) fn run(engine: &Arc<Engine>) {
    let mut dispatcher = Dispatcher::new(engine.clone());
    dispatcher.run();
    dispatcher.end();
}

/// Begins a wait. Who was woken and finds nothing but room for our queue never spins without end: the thread that sends may
/// need our core, and we are rung again.
fn begin_to_spin(spin: &Spin, has_only_drained: bool) -> Spinning<'_> {
    if has_only_drained { spin.begin_to_follow() } else { spin.begin() }
}

/// An epoll in which a dispatcher sleeps, and what its bell is to ring in it.
pub(super) fn poller_and_event() -> Result<(sys::Poller, sys::EventFd)> {
    let system = |what: &'static str| move |error| Error::system(what, error);
    let poller = sys::Poller::new().map_err(system("cannot make an epoll"))?;
    let event = sys::EventFd::new().map_err(system("cannot make an eventfd"))?;
    poller.add(&event, OWN_BELL, sys::Interest::READ_EDGE).map_err(system("cannot watch an eventfd"))?;
    Ok((poller, event))
}

impl Dispatcher {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            links: FxHashMap::default(),
            active: Vec::new(),
            buffers: Vec::new(),
            events: Vec::new(),
            wakers: Vec::new(),
            looked: Instant::now(),
            spare: None,
            recent: Recent::default(),
            in_turn: false,
            moved: false,
            limit: None,
            retry_at: None,
            links_first: false,
            has_only_drained: false,
        }
    }

    fn run(&mut self) {
        let engine = self.engine.clone();
        let mut spinning = begin_to_spin(&engine.dispatcher_spin, self.has_only_drained);
        loop {
            if self.engine.bell.clear() {
                self.find_touched();
            }
            if self.engine.is_stopping() {
                return;
            }
            let mut busy = self.run_commands();
            busy |= self.run_tasks();
            busy |= self.run_deadlines();
            self.has_only_drained &= !busy;
            busy |= self.turn_links();
            busy |= std::mem::take(&mut self.moved);
            if busy {
                spinning.succeeded();
                spinning = begin_to_spin(&engine.dispatcher_spin, self.has_only_drained);
                self.look_at_quiet();
                continue;
            }
            match spinning.round() {
                Next::Again => match self.spin() {
                    Spun::Nothing => spinning.looked(HOLD_ROUNDS),
                    Spun::Read => {
                        spinning.succeeded();
                        spinning = begin_to_spin(&engine.dispatcher_spin, self.has_only_drained);
                        self.look_at_quiet();
                    }
                    Spun::NotOurs => {
                        self.sleep(None);
                        spinning = begin_to_spin(&engine.dispatcher_spin, self.has_only_drained);
                    }
                },
                Next::LookAround => self.look_at_quiet(),
                Next::Sleep => self.sleep(None),
            }
        }
    }

    fn entry(&mut self, id: u32) -> Option<&mut Entry> {
        self.links.get_mut(&id)
    }

    fn activate(&mut self, id: u32) {
        if let Some(entry) = self.links.get_mut(&id)
            && !entry.active
        {
            entry.active = true;
            self.active.push(id);
        }
    }

    fn activate_all(&mut self) {
        let ids: Vec<_> = self.links.keys().copied().collect();
        ids.into_iter().for_each(|id| self.activate(id));
    }

    /// We were rung by a thread of this process: for which links?
    fn find_touched(&mut self) {
        if self.links.len() == self.active.len() {
            return;
        }
        let is_touched = |entry: &Entry| {
            let resumes = entry.paused && !entry.link.is_paused();
            entry.has_read() || entry.link.pipe().is_some_and(|pipe| pipe.was_touched()) || resumes
        };
        let touched: Vec<_> = self.links.iter().filter(|(_, entry)| is_touched(entry)).map(|(id, _)| *id).collect();
        touched.into_iter().for_each(|id| self.activate(id));
    }

    // ---- polled -------------------------------------------------------------------------------------------------

    /// Whether there is something that a poll would run.
    pub(super) fn has_work(&self) -> bool {
        let engine = &*self.engine;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        engine.bell.is_rung()
            || engine.has_commands.load(Ordering::Acquire)
            || engine.has_ready_tasks()
            || self.links.values().any(Entry::waits)
            || (engine.has_deadlines.load(Ordering::Acquire) && is_due(engine.deadlines.lock().next()))
            || (self.retry_at.is_some() && is_due(self.retry_at))
    }

    /// Whether something waits to be sent, which nobody else may drain.
    pub(super) fn has_queues(&self) -> bool {
        self.links.values().any(Entry::has_queue)
    }

    /// When to look again for what nobody rings for.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// When there is something to do at the latest.
    fn next_deadline(&self) -> Option<Instant> {
        self.engine.deadlines.lock().next().into_iter().chain(self.retry_at).min()
    }

    /// Runs what is there, within the budget. How many callbacks ran, and whether more waits.
    pub(super) fn run_budget(&mut self, budget: Budget, armed: Option<&sys::Timer>) -> (usize, bool) {
        let until = Instant::now().checked_add(budget.time);
        self.limit = Some(Limit { messages: budget.messages, until, ran: 0 });
        self.retry();
        // The next poll begins with another link, or a small budget would serve the first one alone.
        if self.active.len() > 1 {
            self.active.rotate_left(1);
        }
        let more = loop {
            self.engine.bell.clear();
            if self.engine.is_stopping() {
                break false;
            }
            let mut busy = self.run_commands();
            // In turns, or tasks that wake themselves would use up each small budget.
            self.links_first = !self.links_first;
            if !self.links_first {
                busy |= self.run_tasks();
            }
            busy |= self.run_deadlines();
            self.find_waiting();
            busy |= self.turn_links();
            busy |= std::mem::take(&mut self.moved);
            if self.links_first {
                busy |= self.run_tasks();
            }
            if self.is_spent() {
                // The descriptor is to tell of what comes next, too.
                break self.has_work() || armed.is_some_and(|timer| !self.arm(timer));
            }
            if !busy && armed.is_none_or(|timer| self.arm(timer)) {
                break false;
            }
        };
        (self.limit.take().map_or(0, |limit| limit.ran), more)
    }

    /// Whoever waits for the process's budget is looked at again.
    fn retry(&mut self) {
        if self.retry_at.take().is_some() {
            self.links.values_mut().for_each(|entry| entry.retry = false);
        }
    }

    /// Those that have something, or something to send, take part in the turns; the others do not.
    fn find_waiting(&mut self) {
        let takes_part = |entry: &Entry| entry.waits() || entry.has_queue();
        let mut active = std::mem::take(&mut self.active);
        active.retain(|id| {
            self.links.get_mut(id).is_some_and(|entry| {
                entry.active = takes_part(entry);
                entry.active
            })
        });
        for (id, entry) in &mut self.links {
            if !entry.active && takes_part(entry) {
                entry.active = true;
                active.push(*id);
            }
        }
        self.active = active;
    }

    fn is_spent(&self) -> bool {
        let is_over = |limit: &Limit| limit.messages == 0 || limit.until.is_some_and(|at| Instant::now() >= at);
        self.limit.as_ref().is_some_and(is_over)
    }

    /// A callback has run.
    #[inline]
    fn count(&mut self) {
        if let Some(limit) = &mut self.limit {
            limit.messages = limit.messages.saturating_sub(1);
            limit.ran += 1;
        }
    }

    /// Polls the tasks that are ready now, not those that wake themselves meanwhile.
    fn run_tasks(&mut self) -> bool {
        let mut any = false;
        for _ in 0..self.engine.ready_tasks().min(tasks::BATCH) {
            if self.is_spent() || !self.engine.run_task() {
                break;
            }
            any = true;
            self.count();
        }
        any
    }

    /// Makes the descriptor tell of whatever comes next: nothing is left. False: something has come in between.
    pub(super) fn arm(&mut self, timer: &sys::Timer) -> bool {
        loop {
            self.take_rings(Some(Duration::ZERO));
            if self.events.len() < sys::Poller::BATCH {
                break;
            }
        }
        for entry in self.links.values() {
            let link = &entry.link;
            let Some(pipe) = link.pipe() else { continue };
            if entry.is_over() {
                continue;
            }
            // Whoever writes has rung us, or finds the announcement, as long as that stands.
            let is_heard = pipe.is_announced() && pipe.queued() == 0;
            let may_read = !entry.paused && !entry.draining && !entry.retry;
            let may_sleep = if is_heard { Ok(true) } else { pipe.dispatcher_may_sleep(may_read) };
            match may_sleep {
                Ok(true) if !entry.waits() => {}
                Ok(_) => return false,
                Err(violation) => {
                    link.violation(violation);
                    return false;
                }
            }
        }
        if !self.engine.bell.prepare() {
            return false;
        }
        if let Err(error) = timer.set(self.next_deadline()) {
            self.engine.report(None, None, Error::system("cannot set the timer of as_fd", error));
        }
        true
    }

    /// Waits until there is something to poll; false: the time is over.
    pub(super) fn wait(&mut self, until: Option<Instant>) -> bool {
        let engine = self.engine.clone();
        let mut spinning = engine.dispatcher_spin.begin();
        loop {
            if self.has_work() || engine.is_stopping() {
                return true;
            }
            if until.is_some_and(|at| Instant::now() >= at) {
                return false;
            }
            match spinning.round() {
                Next::Again => {}
                // A spin without end sends what waits for room as well.
                Next::LookAround => self.drain_queues(),
                Next::Sleep => {
                    self.activate_all(); // so that each is announced
                    let until = until.into_iter().chain(self.retry_at).min();
                    self.sleep(until);
                }
            }
        }
    }

    fn drain_queues(&self) {
        for entry in self.links.values().filter(|entry| entry.has_queue()) {
            if let Some(pipe) = entry.link.pipe()
                && let Err(violation) = pipe.drain_queue()
            {
                entry.link.violation(violation);
            }
        }
    }

    /// Runs what comes next by this link, a task, or what has waited for too long: for a callback that waits. What a link
    /// that was cut or has ended still has waits for the next poll.
    pub(super) fn run_next(&mut self, link: &Arc<Link>) -> bool {
        if self.engine.is_stopping() || link.is_lost() {
            return false;
        }
        if let Some((message, _)) = link.next_in_inbox() {
            // Before any of its messages, though other hooks wait for the next poll.
            self.engine.run_open_hooks(link);
            self.dispatch(link, &message);
            self.keep(message);
            return true;
        }
        if self.engine.run_task() {
            // Tasks that wake themselves must not keep the answer from being read.
            self.read_ahead(link, true);
            return true;
        }
        self.run_deadlines()
    }

    // ---- commands -----------------------------------------------------------------------------------------------

    fn run_commands(&mut self) -> bool {
        let mut any = false;
        while !self.is_spent()
            && let Some(command) = self.engine.next_command()
        {
            any = true;
            self.count();
            match command {
                Command::Opened(link) => self.opened(link),
                Command::Drain(link) => {
                    let id = link.id;
                    if let Some(entry) = self.entry(id) {
                        entry.draining = true;
                        self.activate(id);
                    } else {
                        link.feed(|machine, now| machine.drained(now));
                    }
                }
                Command::Gone(link) => self.gone(&link),
                Command::Run(run) => {
                    contain("a hook", || run(&self.engine), &self.engine);
                }
            }
        }
        any
    }

    fn opened(&mut self, link: Arc<Link>) {
        let id = link.id;
        if let (Some(poller), Some(doorbell)) = (self.engine.poller.get(), link.doorbell.get())
            && let Err(error) = poller.add(&*doorbell, id.into(), sys::Interest::READ_EDGE)
        {
            let error = Error::system("cannot watch the renderer's doorbell", error);
            self.engine.report(Some(id), None, error);
            link.close();
        }
        let entry = Entry {
            link: link.clone(),
            active: false,
            talked: true,
            paused: false,
            draining: false,
            drains_to: None,
            retry: false,
            starved: false,
            ahead: VecDeque::new(),
            rings: 0,
            seen: [0; 3],
        };
        self.links.insert(id, entry);
        self.activate(id);
        self.engine.run_open_hooks(&link);
    }

    fn gone(&mut self, link: &Arc<Link>) {
        self.links.remove(&link.id);
        self.spare = None; // it may hold the link
        self.engine.forget_reports_of(link.id);
        self.active.retain(|id| *id != link.id);
        if let (Some(poller), Some(doorbell)) = (self.engine.poller.get(), link.doorbell.take()) {
            let _ = poller.remove(&*doorbell); // it was never added if the link never opened
        }
        self.fail_calls(link);
        link.discard();
        link.end_receivers();
        self.engine.links.lock().remove(&link.id);
        if let Some(reason) = link.gone_reason() {
            self.engine.run_gone_hooks(link, reason);
        }
    }

    /// Fails our calls on a link and cancels the peer's.
    fn fail_calls(&self, link: &Link) {
        let mut wakers = link.fail_calls();
        let running: Vec<_> = link.requests.lock().cancel_all().iter().filter_map(std::sync::Weak::upgrade).collect();
        wakers.extend(running.iter().filter_map(|request| request.cancel()));
        wake(wakers, &self.engine);
    }

    fn run_deadlines(&mut self) -> bool {
        if !self.engine.has_deadlines.load(Ordering::Acquire) {
            return false;
        }
        let mut any = false;
        let now = Instant::now();
        loop {
            let expired = self.engine.deadlines.lock().expired(now);
            let Some((link, call)) = expired else { break };
            any = true;
            if let Some(link) = self.engine.link(link)
                && link.is_waiting_for(call)
            {
                // Its answer may lie in the ring: nobody has rung for it if the caller said that it is awake.
                self.read_what_lies_there(&link);
                self.expire(&link, call);
            }
        }
        {
            let deadlines = self.engine.deadlines.lock();
            self.engine.has_deadlines.store(deadlines.next().is_some(), Ordering::Release);
        }
        let live = || self.engine.links.lock().values().map(|link| link.pending_calls()).sum();
        let is_stale = |live: usize| self.engine.deadlines.lock().is_stale(live);
        // The length first: counting the live ones looks at every link.
        if self.engine.deadlines.lock().is_long() && is_stale(live()) {
            let mut deadlines = self.engine.deadlines.lock();
            // Behind that lock: a link is there before the first call on it has a deadline.
            let links: FxHashMap<_, _> = self.engine.links.lock().clone();
            deadlines.retain(|link, call| links.get(&link).is_some_and(|link| link.is_waiting_for(call)));
            // First, with nothing held while links end that nobody else has any more.
            drop(deadlines);
        }
        any
    }

    fn expire(&mut self, link: &Arc<Link>, call: u64) {
        wake(link.expire(call), &self.engine);
    }

    // ---- waiting ------------------------------------------------------------------------------------------------

    /// Holds the role of the only talking link for a moment, looks at its next word alone, and reads at once what appears
    /// there: between a message and its handler nothing else is looked at.
    fn spin(&mut self) -> Spun {
        let [id] = self.active[..] else { return Spun::Nothing };
        let Some(entry) = self.links.get(&id) else { return Spun::Nothing };
        if entry.paused || entry.draining || entry.retry || entry.link.is_lost() || entry.has_read() {
            return Spun::Nothing;
        }
        let link = entry.link.clone();
        let Some(pipe) = link.pipe() else { return Spun::Nothing };
        if pipe.queued() > 0 {
            return Spun::Nothing;
        }
        let Some(rx) = pipe.try_lead() else { return Spun::NotOurs };
        for round in 1..=HOLD_ROUNDS {
            if rx.has_more() {
                // Nothing waits in the inbox: whoever led before has left it empty or rung us.
                if link.has_inbox() {
                    break;
                }
                let read = self.read_led(&link, pipe, rx, false);
                if !read && !std::mem::take(&mut self.moved) {
                    return Spun::Nothing;
                }
                if let Some(entry) = self.links.get_mut(&id) {
                    entry.talked = true;
                }
                return Spun::Read;
            }
            if rx.is_wanted() || self.engine.bell.is_rung() {
                break;
            }
            if round % LOOKS == 0 {
                spin_loop();
            }
        }
        let is_wanted = rx.is_wanted();
        pipe.step_aside(rx);
        if is_wanted { Spun::NotOurs } else { Spun::Nothing }
    }

    /// Looks, every now and then, at the links that do not talk: they are announced, so their writers ring. Those that
    /// talk no more join them.
    fn look_at_quiet(&mut self) {
        // A single one that is quiet is looked at by nobody else: a dispatcher that spins for ever never sleeps in epoll.
        let is_alone = self.links.len() <= 1 && self.links.len() == self.active.len();
        if is_alone || self.engine.poller.get().is_none() {
            return;
        }
        let now = Instant::now();
        if now.duration_since(self.looked) < QUIET_LOOK {
            return;
        }
        self.looked = now;
        let mut active = std::mem::take(&mut self.active);
        active.retain(|id| {
            let Some(entry) = self.links.get_mut(id) else { return false };
            let talked = std::mem::take(&mut entry.talked);
            let resumes = entry.paused && entry.link.queue_is_low();
            let stays = talked || resumes || entry.draining || entry.has_read() || {
                let quiet = entry.link.pipe().map(|pipe| pipe.dispatcher_may_sleep(!entry.paused));
                // A violation is found again, and said, by the next turn.
                !matches!(quiet, Some(Ok(true)))
            };
            entry.active = stays;
            stays
        });
        self.active = active;
        if self.links.len() > self.active.len() {
            self.take_rings(Some(Duration::ZERO));
        }
    }

    /// Takes what has been rung, after waiting for it. Main only.
    fn take_rings(&mut self, timeout: Option<Duration>) {
        let Some(poller) = self.engine.poller.get() else { return };
        let mut events = std::mem::take(&mut self.events);
        if let Err(error) = poller.wait(&mut events, timeout) {
            // Cannot happen with a descriptor of our own; not to be spun on if it does.
            self.engine.report(None, None, Error::system("cannot wait for doorbells", error));
            std::thread::yield_now();
        }
        for event in &events {
            // What lies in a renderer's link is looked at without a ring.
            if ![OWN_BELL, RELAY, TIMER].contains(&event.token) {
                self.rung(event.token as u32);
            }
        }
        self.events = events;
    }

    fn rung(&mut self, id: u32) {
        self.activate(id);
        let Some(entry) = self.links.get_mut(&id) else { return };
        // It rings for what it wrote and for the room that it made, into which something has moved.
        let received = entry.link.counters.messages_received.load(Ordering::Relaxed);
        let queued = entry.link.pipe().map_or(0, Pipe::queued) as u64;
        let seen = [received, entry.link.sent().messages, queued];
        if seen != entry.seen {
            entry.seen = seen;
            entry.rings = 0;
            return;
        }
        // What lies there is not read because of us, and an honest one rings for each message that it adds.
        if entry.paused || entry.starved {
            return;
        }
        entry.rings += 1;
        if entry.rings > RINGS_FOR_NOTHING {
            let link = entry.link.clone();
            link.violation(Violation::RungForNothing);
        }
    }

    fn sleep(&mut self, latest: Option<Instant>) {
        let engine = self.engine.clone();
        // A renderer has one link; it sleeps in that link's word, read before the last look.
        let link = match engine.is_main() {
            true => None,
            false => self.links.values().next().map(|entry| entry.link.clone()),
        };
        let word = link.as_ref().and_then(|link| link.pipe()).map(|pipe| pipe.dispatcher_word());
        for id in &self.active {
            let Some(entry) = self.links.get(id) else { continue };
            let link = entry.link.clone();
            let paused = entry.paused && !entry.draining;
            let has_ahead = !entry.ahead.is_empty();
            let may_read = !paused && !entry.draining && !entry.retry;
            let Some(pipe) = link.pipe() else { continue };
            if entry.is_over() {
                continue;
            }
            match pipe.dispatcher_may_sleep(may_read) {
                Ok(true) if paused && link.queue_is_low() => return,
                // What a paused link has sent waits until its queue has drained.
                Ok(true) if paused || !(has_ahead || link.has_inbox()) => {}
                Ok(_) => return,
                Err(violation) => return link.violation(violation),
            }
        }
        if !engine.bell.prepare() {
            return;
        }
        let mut until = engine.deadlines.lock().next().into_iter().chain(latest).min();
        let mut retries = false;
        for entry in self.links.values_mut() {
            retries |= std::mem::take(&mut entry.retry);
        }
        if retries {
            let soon = Instant::now() + BUDGET_RETRY;
            until = Some(until.map_or(soon, |until| until.min(soon)));
        }
        failpoint::reached("dispatcher sleeps");
        if engine.poller.get().is_some() {
            // All of them are announced now.
            for id in self.active.drain(..) {
                if let Some(entry) = self.links.get_mut(&id) {
                    entry.active = entry.draining;
                }
            }
            let draining = self.links.iter().filter(|(_, entry)| entry.active).map(|(id, _)| *id);
            self.active.extend(draining);
            let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
            self.take_rings(timeout);
            engine.bell.awake();
            if retries {
                self.activate_all(); // whoever waits for the budget is looked at again
            }
        } else if let Some((word, expected)) = word {
            engine.sleep.on(word, expected, &engine.bell, until);
        } else {
            engine.sleep.private(&engine.bell, until);
        }
        self.has_only_drained = true;
        failpoint::reached("dispatcher woken");
    }

    // ---- turning links ------------------------------------------------------------------------------------------

    fn turn_links(&mut self) -> bool {
        let mut busy = false;
        let mut index = 0;
        while index < self.active.len() {
            let id = self.active[index];
            busy |= self.turn(id);
            // A callback may have ended the link, which removes it from the list.
            if self.active.get(index) == Some(&id) {
                index += 1;
            }
        }
        busy
    }

    /// One link's turn. Returns whether anything happened.
    fn turn(&mut self, id: u32) -> bool {
        self.in_turn = true;
        let busy = self.take_turn(id);
        self.in_turn = false;
        self.recent.clear(&self.engine);
        busy
    }

    fn take_turn(&mut self, id: u32) -> bool {
        let Some(entry) = self.links.get_mut(&id) else { return false };
        let link = entry.link.clone();
        let Some(pipe) = link.pipe() else { return false };
        let mut busy = match pipe.drain_queue() {
            Ok(moved) => moved,
            Err(violation) => {
                link.violation(violation);
                return true;
            }
        };
        entry.paused = match entry.paused {
            true => !link.queue_is_low(),
            false => self.engine.is_main() && pipe.queued_by_us() > pipe.queue_limit() / 2,
        };
        link.set_paused(entry.paused);
        let (paused, draining) = (entry.paused && !entry.draining, entry.draining);
        let others = self.links.len() > 1;
        let since = others.then(Instant::now);
        let mut messages = 0;
        let mut bytes = 0;
        while !paused
            && messages < BUDGET_MESSAGES
            && bytes < BUDGET_BYTES
            && !self.engine.is_stopping()
            && !self.is_spent()
        {
            if link.is_lost() && !draining {
                break; // cut, perhaps by what it has just said
            }
            if let Some((message, left)) = self.next_message(&link) {
                bytes += message.len();
                // Its cancellation may lie behind it.
                if left < READ_AHEAD / 2 && is_invoke(&message) {
                    self.read_ahead(&link, true);
                }
                self.dispatch(&link, &message);
                self.keep(message);
            } else if draining && self.is_drained(&link) {
                if let Some(entry) = self.links.get_mut(&id) {
                    entry.draining = false;
                }
                link.feed(|machine, now| machine.drained(now));
                if link.gone_reason().is_none() {
                    // Only the reason is waited for from here on: whoever waits for an answer is told without it.
                    self.recent.clear(&self.engine);
                    self.fail_calls(&link);
                }
                return true;
            } else if !self.read_ahead(&link, false) {
                break;
            }
            messages += 1;
            if since.is_some_and(|since| since.elapsed() > BUDGET_TIME) {
                break;
            }
        }
        if messages > 0 {
            busy = true;
            self.has_only_drained = false;
            if let Some(entry) = self.links.get_mut(&id) {
                entry.rings = 0;
                entry.talked = true;
            }
        }
        busy
    }

    /// The next message that was read, and how many were behind it.
    fn next_message(&mut self, link: &Link) -> Option<(Vec<u8>, usize)> {
        if let Some(entry) = self.links.get_mut(&link.id)
            && let Some(message) = entry.ahead.pop_front()
        {
            return Some((message, entry.ahead.len() + link.inbox_len()));
        }
        link.next_in_inbox()
    }

    /// Whether nothing of a peer that is gone is left. A caller that leads reads it for us and passes the role on.
    fn is_drained(&mut self, link: &Arc<Link>) -> bool {
        let Some(pipe) = link.pipe() else { return true };
        match pipe.lead_or_want() {
            None => false,
            Some(rx) => {
                // A caller may have led since our last look. Half a message leaves nothing in the ring: it was read.
                let entry = self.links.get_mut(&link.id);
                let has_read = entry.as_deref().is_some_and(Entry::has_read);
                let is_at_the_end = |entry: &mut Entry| rx.position() >= *entry.drains_to.get_or_insert(rx.horizon());
                let is_drained = !has_read && (!rx.has_more() || entry.is_some_and(is_at_the_end));
                pipe.step_aside(rx);
                is_drained
            }
        }
    }

    /// Reads what lies in the ring now, if the role is free: not what a peer adds meanwhile, which might never end.
    fn read_what_lies_there(&mut self, link: &Arc<Link>) {
        let Some(pipe) = link.pipe() else { return };
        let mut end = None;
        while let Some(rx) = pipe.try_lead() {
            if rx.position() >= *end.get_or_insert(rx.horizon()) {
                return pipe.step_aside(rx);
            }
            if !self.read_led(link, pipe, rx, true) {
                return;
            }
        }
    }

    /// Reads what lies in the ring, if the role is free. Returns whether there was any.
    fn read_ahead(&mut self, link: &Arc<Link>, only_read: bool) -> bool {
        let Some(pipe) = link.pipe() else { return false };
        let Some(rx) = pipe.try_lead() else { return false };
        if !only_read && link.has_inbox() {
            // A caller led in between: what it read comes first.
            pipe.step_aside(rx);
            return true;
        }
        self.read_led(link, pipe, rx, only_read)
    }

    /// Reads what lies in the ring: a single message is dispatched at once, more are kept first, and all of them if
    /// `only_read` says so. Returns whether there was any.
    fn read_led(&mut self, link: &Arc<Link>, pipe: &Pipe, mut rx: Lead<'_>, only_read: bool) -> bool {
        let mut buffer = self.buffers.pop().unwrap_or_default();
        // A link that has only just opened may have none yet: what it sends then waits in the inbox.
        // In manual dispatch a callback may wait and run what was read: the inbox is where it finds it.
        let reads_ahead = self.engine.manual.is_none();
        let entry = self.links.get_mut(&link.id).filter(|_| reads_ahead);
        let mut ahead = entry.map(|entry| std::mem::take(&mut entry.ahead));
        let mut ahead_bytes: usize = ahead.iter().flatten().map(Vec::len).sum();
        let mut read = 0;
        let mut direct = false;
        let mut starved = false;
        let mut violation = None;
        let position = rx.position();
        // A budget of microseconds is not to be spent on reading.
        let most = if self.limit.is_some() { READ_IN_POLL } else { READ_AHEAD };
        while read < most && link.inbox_bytes() < BUDGET_BYTES {
            match pipe.read(&mut rx, &mut buffer) {
                Ok(Read::Message) => {
                    read += 1;
                    if read == 1 && !only_read && !rx.has_more() && !is_reply(&buffer) {
                        link.counters.received(buffer.len());
                        direct = true;
                        break;
                    }
                    // What lies in the inbox is older than this; cancellations are noticed by `route`.
                    let is_plain = !is_reply(&buffer) && !is_cancel(&buffer);
                    if let Some(ahead) = &mut ahead
                        && is_plain
                        && ahead.len() < READ_AHEAD
                        && ahead_bytes + buffer.len() <= AHEAD_BYTES
                        && !link.has_inbox()
                    {
                        link.counters.received(buffer.len());
                        ahead_bytes += buffer.len();
                        ahead.push_back(std::mem::replace(&mut buffer, self.buffers.pop().unwrap_or_default()));
                        continue;
                    }
                    if link.route(&mut buffer, &mut self.wakers, None) == Routed::Settle {
                        break;
                    }
                    if buffer.capacity() == 0 {
                        buffer = self.buffers.pop().unwrap_or_default(); // it was moved
                    }
                }
                // The rest of a part is read in the next turn.
                Ok(Read::Nothing | Read::Part) => break,
                Ok(Read::NoBudget) => {
                    starved = true;
                    break;
                }
                Err(found) => {
                    violation = Some(found);
                    break;
                }
            }
        }
        // Perhaps only a part of a message.
        let moved = rx.position() != position;
        // Published before a callback, which may take long.
        pipe.publish_head(&mut rx);
        pipe.step_aside(rx);
        self.moved |= moved;
        self.has_only_drained &= !moved;
        if let Some(entry) = self.links.get_mut(&link.id) {
            if let Some(ahead) = ahead {
                entry.ahead = ahead;
            }
            entry.starved = starved;
            if starved {
                entry.retry = true;
                // Nobody rings when the budget has room again.
                self.retry_at.get_or_insert_with(|| Instant::now() + BUDGET_RETRY);
            }
            if moved {
                entry.rings = 0;
            }
        }
        if !self.wakers.is_empty() {
            self.recent.clear(&self.engine);
            wake_all(&mut self.wakers, &self.engine);
        }
        if let Some(violation) = violation {
            link.violation(violation);
        }
        if direct {
            self.dispatch(link, &buffer);
        }
        self.keep(buffer);
        read > 0
    }

    /// Keeps the memory of a message for a later one.
    fn keep(&mut self, mut buffer: Vec<u8>) {
        let is_large = |buffer: &Vec<u8>| buffer.capacity() > SMALL;
        if is_large(&buffer) && self.buffers.iter().any(is_large) {
            return; // one is enough
        }
        if buffer.capacity() > 0 && is_worth_keeping(&buffer) && self.buffers.len() < READ_AHEAD {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    // ---- dispatching --------------------------------------------------------------------------------------------

    fn dispatch(&mut self, link: &Arc<Link>, message: &[u8]) {
        failpoint::reached("message read");
        self.count();
        let (envelope, payload) = match wire::split(message, &self.engine.wire_limits, self.engine.end()) {
            Ok(parts) => parts,
            Err(violation) => return link.violation(violation),
        };
        let action = action(&envelope);
        if self.engine.is_main()
            && let Err(violation) = link.check_frame(envelope.frame)
            && !matches!(action, Action::OpenFrame { .. })
        {
            return link.violation(violation);
        }
        if action != Action::Emit {
            self.recent.clear(&self.engine);
        }
        match action {
            Action::Emit => self.emit(link, &envelope, payload, None),
            Action::EmitSync { call } => {
                if let Some(request) = self.request(link, &envelope, call) {
                    self.emit(link, &envelope, payload, Some(&request));
                    self.spare = Request::end(request);
                }
            }
            Action::Call { call } => {
                if let Some(request) = self.request(link, &envelope, call) {
                    self.call(link, &envelope, payload, &request);
                    self.spare = Request::end(request);
                }
            }
            Action::Complete { call } => {
                let reply = Reply::take(&mut message.to_vec(), payload.len(), envelope.kind);
                wake(link.complete(call, Outcome::Reply(reply)), &self.engine);
            }
            Action::Cancel { call } => {
                let request = link.requests.lock().cancel(call).and_then(|request| request.upgrade());
                wake(request.as_ref().and_then(|request| request.cancel()), &self.engine);
            }
            Action::Close => link.feed(|machine, now| machine.peer_close(now)),
            Action::Forward { renderer, frame } => {
                if let Err(violation) = self.engine.forward(link, &envelope, payload, renderer, frame) {
                    link.violation(violation);
                }
            }
            Action::ForwardToHost => {
                if let Err(violation) = self.engine.forward_to_host(link, &envelope, payload) {
                    link.violation(violation);
                }
            }
            Action::EmitFromGuest => self.emit_from_guest(link, &envelope, payload),
            Action::OpenFrame { parent } => {
                if let Err(violation) = link.frame_opened(envelope.frame, parent) {
                    link.violation(violation);
                }
            }
            Action::CloseFrame => {
                if let Err(violation) = link.frame_closed(envelope.frame) {
                    link.violation(violation);
                }
            }
        }
    }

    /// A request that wants an answer, unless it was cancelled already or there are too many.
    fn request(&mut self, link: &Arc<Link>, envelope: &Envelope<'_>, call: u64) -> Option<Arc<Request>> {
        if link.is_cancelled_unstarted(call) {
            return None;
        }
        let request = Request::new(self.spare.take(), link, call, envelope.frame, envelope.caller_awake);
        let limit = self.engine.config.max_pending_calls as usize;
        if link.open_requests.load(Ordering::Relaxed) >= limit {
            request.fail(&record(call::TOO_MANY_CALLS, &format!("{limit} calls are being answered already")));
            self.spare = Request::end(request);
            return None;
        }
        Some(request)
    }

    fn emit(&mut self, link: &Arc<Link>, envelope: &Envelope<'_>, payload: &[u8], request: Option<&Arc<Request>>) {
        let channel = envelope.channel;
        let delivery = delivery(link, envelope, payload, request);
        let emitted = if self.engine.is_main() {
            let all = &self.engine.receiver;
            match link.scoped(envelope.frame) {
                None if self.in_turn => self.recent.emit(all, &delivery),
                None => receiver::emit(&[Some((all, channel))], &delivery),
                Some(scoped) => {
                    self.recent.clear(&self.engine);
                    receiver::emit(&scoped.targets(all, channel, request.is_some()), &delivery)
                }
            }
        } else {
            self.at_frame(link, envelope.frame, |frame| {
                if frame.is_none() {
                    // Closed, and main did not know it yet when it sent this.
                    link.counters.undeliverable.fetch_add(1, Ordering::Relaxed);
                }
                receiver::emit(&[frame.map(|frame| (frame, channel))], &delivery)
            })
        };
        match emitted {
            Ok(true) => {}
            Ok(false) => {
                if let Some(request) = request {
                    request.fail(&record(call::NO_LISTENER, &format!("No listener registered for '{channel}'")));
                }
            }
            Err(violation) => link.violation(violation),
        }
    }

    /// What `then` makes of the receiver of a renderer's frame, on that renderer's end: none if the frame is closed.
    fn at_frame<T>(&self, link: &Link, frame: u32, then: impl FnOnce(Option<&Arc<Receiver>>) -> T) -> T {
        match frame {
            MAIN_FRAME => then(Some(&self.engine.receiver)),
            frame => then(link.frame_receiver_if_open(frame).as_ref()),
        }
    }

    /// A guest of this renderer has sent a message to its host.
    fn emit_from_guest(&mut self, link: &Arc<Link>, envelope: &Envelope<'_>, payload: &[u8]) {
        let events = link.events();
        let delivery = delivery(link, envelope, payload, None);
        if let Err(violation) = receiver::emit(&[Some((&events, IPC_MESSAGE))], &delivery) {
            link.violation(violation);
        }
    }

    fn call(&mut self, link: &Arc<Link>, envelope: &Envelope<'_>, payload: &[u8], request: &Arc<Request>) {
        let channel = envelope.channel;
        if let Err(error) = wire::check_args(payload, &self.engine.wire_limits, false) {
            return link.violation(error);
        }
        // The first that has a handler: the frame, the renderer, main.
        let handler = if self.engine.is_main() {
            let scoped = link.scoped(envelope.frame);
            let own = scoped.and_then(|scoped| scoped.handlers().find_map(|receiver| receiver.handler(channel)));
            own.or_else(|| self.engine.receiver.handler(channel))
        } else {
            self.at_frame(link, envelope.frame, |frame| frame.and_then(|receiver| receiver.handler(channel)))
        };
        let Some(handler) = handler else {
            let text = format!("No handler registered for '{channel}'");
            return request.fail(&record(call::NO_HANDLER, &text));
        };
        let handled = catch_unwind(AssertUnwindSafe(|| handler(request, payload)));
        // Before anything else that is foreign runs, for which whoever removes it would wait.
        contain("the drop of a handler", || drop(handler), &self.engine);
        match handled {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.is_malformed() => link.violation(error),
            Ok(Err(error)) => request.fail(&record(call::BAD_ARGUMENTS, &error.to_string())),
            Err(payload) => {
                request.panicked(channel, &panic_text(payload));
            }
        }
    }

    // ---- the end ------------------------------------------------------------------------------------------------

    /// Closes what is open and drops what is registered, with nothing held.
    pub(super) fn end(&mut self) {
        let engine = self.engine.clone();
        let listened = engine.watch.stop_listening();
        let end = |link: &Arc<Link>| {
            link.close();
            // Its wish to drain is not heard any more, and no exit is waited for.
            link.feed(|machine, now| {
                machine.drained(now);
                machine.timeout(now + EXIT_GRACE);
            });
        };
        engine.all_links().iter().for_each(end);
        contain("the drop of an accept policy", || drop(listened), &engine);
        // Those that were made while we closed, and what closing has caused.
        let mut links = engine.all_links();
        while let Some(command) = engine.next_command() {
            match command {
                Command::Gone(link) => self.gone(&link),
                Command::Drain(link) | Command::Opened(link) => {
                    end(&link);
                    links.push(link);
                }
                // What somebody wanted to run here: too late, but its captures are dropped with nothing held.
                Command::Run(run) => drop(contain("the drop of a hook", || drop(run), &engine)),
            }
        }
        for link in links {
            link.end_receivers();
            self.fail_calls(&link);
        }
        for _ in 0..tasks::BATCH {
            if !engine.run_task() {
                break;
            }
        }
        engine.drop_tasks();
        engine.receiver.end(&engine);
        let hooks = std::mem::take(&mut *engine.hooks.lock());
        contain("the drop of a hook", || drop(hooks), &engine);
        let policies = std::mem::take(&mut *engine.policies.lock());
        contain("the drop of a policy", || drop(policies), &engine);
        engine.links.lock().clear();
        self.links.clear();
    }
}

fn delivery<'a>(
    link: &'a Arc<Link>,
    envelope: &Envelope<'a>,
    payload: &'a [u8],
    request: Option<&'a Arc<Request>>,
) -> Delivery<'a> {
    let Envelope { frame, channel, peer, peer_frame, .. } = *envelope;
    Delivery { link, frame, channel, peer, peer_frame, is_local: false, request, payload }
}

/// Whether a message is a call of the peer's, by its first byte.
fn is_invoke(message: &[u8]) -> bool {
    message.first() == Some(&(wire::Kind::Invoke as u8))
}

/// Whether a message takes back a call of the peer's, by its first byte.
fn is_cancel(message: &[u8]) -> bool {
    message.first() == Some(&(wire::Kind::Cancel as u8))
}

/// Whether a message is the answer to a call of ours, by its first byte.
fn is_reply(message: &[u8]) -> bool {
    message.first().is_some_and(|kind| [wire::Kind::Reply as u8, wire::Kind::ReplyError as u8].contains(kind))
}
