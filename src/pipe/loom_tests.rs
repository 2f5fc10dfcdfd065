//! Every interleaving (up to a bound of preemptions) of small links: two pipes over one region, their dispatchers and
//! callers as threads. A lost wake-up is a deadlock, which loom reports.
//!
//! | model | bound | loom objects without |
//! |---|---|---|
//! | the dispatcher sleeps, the peer publishes | none | the fences |
//! | two callers, replies in either order; three | 2; 1 | passing on; the want of the others |
//! | a listener, a waker blocks on a lock that a waiting caller holds | 2 | passing on; leaving before wakers run |
//! | a caller leaves between two chunks | 2 | its announcement |
//! | a foreign message before a caller's reply | 2 | passing on |
//! | a foreign message behind a caller's reply | 2 | the fences |
//! | two callers leave, a message behind their replies | 1 | handing on |
//! | the peer dies while callers lead, sleep, follow | 3, 2 | ringing them |
//! | the link ends while a caller leaves | 3 | the look at the end behind that at the wants |
//! | no room, drained by the dispatcher | 2 | the fences |
//! | no room, drained by a caller, on both sides | 2 | the last look for room |
//! | no room, drained by a caller that sleeps beside a dispatcher that has drained | 1 | the last look for room |
//! | the same beside a dispatcher that has drained and runs a callback | 1 | the wish that is not taken back |
//! | no room again and again for messages that nobody is rung for | 2 | the second ring |
//! | a future begins to wait while its quiet reply is published | 3 | the fences; its announcement |
//! | the same while a caller leaves | 2 | the caller's announcement |
//! | a bell is rung while its owner goes to sleep | none | its order |
//! | a claim on the budget is refused beside one that fits | none | – (one atomic word) |

use super::*;
use crate::layout::RingPlace;
use crate::sync::{Pair, hangs_without};
use crate::wake::Wait;
use loom::thread::{self, JoinHandle};
use std::cell::Cell;
use std::sync::atomic::AtomicUsize as Counter;

const QUIET: SendMode = SendMode { quiet: true, beyond_limit: false, routed: false };
const LOUD: SendMode = SendMode { quiet: false, beyond_limit: false, routed: false };
/// Messages whose first byte is at least this are for the dispatcher, smaller ones answer the caller of that number.
const FOREIGN: u8 = 10;
/// Completes a future: its waker runs after the role is free.
const WAKES: u8 = 99;

fn model(name: &str, bound: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 20_000;
    let start = Instant::now();
    let count = std::sync::Arc::new(Counter::new(0));
    let executions = count.clone();
    builder.check(move || {
        executions.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        run();
    });
    println!("{name}: bound {bound:?}, {count:?} executions, {:.1?}", start.elapsed());
}

/// One process: its end of the link, its dispatcher's bell, its callers' slots, its inbox.
struct Side {
    pipe: Pipe,
    bell: Arc<Bell>,
    slots: [Slot; 3],
    inbox: Mutex<Vec<u8>>,
    stopping: AtomicBool,
}

struct Slot {
    done: AtomicBool,
    bell: Arc<Bell>,
}

impl Slot {
    fn finish(&self) {
        self.done.store(true, Ordering::Release);
        self.bell.ring();
    }
}

fn link(words: usize) -> (Arc<Side>, Arc<Side>) {
    let control = 128;
    let first = control + 2 * direction::BYTES;
    let layout = Layout {
        region: first + 2 * words * crate::region::WORD,
        control,
        to_renderer: RingPlace { offset: first, words },
        to_main: RingPlace { offset: first + words * crate::region::WORD, words },
    };
    let region = Region::in_process(layout.region);
    let side = |is_main| {
        let bell = Bell::new();
        let pipe = Pipe::new(Parts {
            region: region.clone(),
            layout,
            is_main,
            dispatcher_form: 0,
            dispatcher: bell.clone(),
            sleep: Sleep::probe(),
            budget: Budget::new(1 << 20),
            queue_limit: 1 << 10,
            max_message: 1 << 10,
        });
        let slot = || Slot { done: AtomicBool::new(false), bell: Bell::new() };
        Arc::new(Side {
            pipe: pipe.expect("the layout fits"),
            bell,
            slots: [slot(), slot(), slot()],
            inbox: Mutex::new(Vec::new()),
            stopping: AtomicBool::new(false),
        })
    };
    (side(true), side(false))
}

impl Side {
    fn send(&self, id: u8, len: usize, mode: SendMode) {
        self.pipe.send(&mut vec![id; len], mode).expect("there is room in the queue");
    }

    fn route(&self, message: &[u8]) {
        match self.slots.get(usize::from(message[0])) {
            Some(slot) => slot.finish(),
            None => {
                self.inbox.lock().push(message[0]);
                self.bell.ring();
            }
        }
    }

    /// The dispatcher's loop, until it is over or the model says stop.
    fn dispatch(&self, mut handle: impl FnMut(u8), is_over: impl Fn() -> bool) {
        let mut buffer = Vec::new();
        loop {
            self.bell.clear();
            let (word, expected) = self.pipe.dispatcher_word();
            if let Some(mut rx) = self.pipe.try_lead() {
                while self.pipe.read(&mut rx, &mut buffer) == Ok(Read::Message) {
                    self.route(&buffer);
                }
                self.pipe.step_aside(rx);
            }
            let inbox = std::mem::take(&mut *self.inbox.lock());
            inbox.into_iter().for_each(&mut handle);
            if is_over() || self.stopping.load(Ordering::Acquire) {
                return;
            }
            if self.pipe.dispatcher_may_sleep(true) == Ok(true) && self.bell.prepare() {
                self.pipe.sleep.on(word, expected, &self.bell, None);
            }
        }
    }

    /// The dispatcher's loop until it got this message.
    fn dispatch_until(&self, id: u8) {
        let is_over = Cell::new(false);
        self.dispatch(|got| is_over.set(is_over.get() | (got == id)), || is_over.get());
    }

    fn dispatcher_until(self: &Arc<Self>, id: u8) -> JoinHandle<()> {
        let side = self.clone();
        thread::spawn(move || side.dispatch_until(id))
    }

    /// Goes to sleep as the dispatcher does, as far as the other side sees it.
    fn announce_dispatcher(&self) {
        assert_eq!(self.pipe.dispatcher_may_sleep(true), Ok(true));
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Waits as the caller of that number.
    fn wait(&self, caller: usize) -> Waited {
        self.wait_and_settle(caller, &|| ())
    }

    /// The same; what a message of the kind [`WAKES`] leaves over is `settle`.
    fn wait_and_settle(&self, caller: usize, settle: &dyn Fn()) -> Waited {
        struct Caller<'a>(&'a Side, &'a Slot, &'a dyn Fn(), bool);
        impl Waiter for Caller<'_> {
            fn is_done(&mut self) -> bool {
                self.1.done.load(Ordering::Acquire)
            }
            fn route(&mut self, message: &mut Vec<u8>) -> Routed {
                if message[0] == WAKES {
                    self.3 = true;
                    return Routed::Settle;
                }
                self.0.route(message);
                Routed::Moved
            }
            fn may_read(&mut self) -> bool {
                true
            }
            fn settle(&mut self) {
                if std::mem::take(&mut self.3) {
                    (self.2)();
                }
            }
            fn sleeps(&mut self, _bell: &Arc<Bell>) {}
        }
        let spin = Spin::new(Wait::Park, Arc::new(crate::sync::AtomicU32::new(0)));
        let slot = &self.slots[caller];
        let mut waiter = Caller(self, slot, settle, false);
        let waited = self.pipe.wait_until(&mut waiter, &slot.bell, &spin, None, &mut Vec::new());
        waiter.settle();
        waited
    }

    /// A dispatcher that reads up to the foreign message, then answers the first caller quietly.
    fn answers_behind_foreign(self: &Arc<Self>) -> JoinHandle<()> {
        let side = self.clone();
        thread::spawn(move || {
            side.dispatch_until(FOREIGN);
            side.send(0, 1, QUIET);
        })
    }

    fn caller(self: &Arc<Self>, caller: usize) -> JoinHandle<Waited> {
        let side = self.clone();
        thread::spawn(move || side.wait(caller))
    }
}

// ---- 1: the dispatcher ---------------------------------------------------------------------------------------------

fn one_publish() {
    model("one publish", None, || {
        let (main, renderer) = link(16);
        let dispatcher = renderer.dispatcher_until(FOREIGN);
        main.send(FOREIGN, 1, LOUD);
        dispatcher.join().unwrap();
    });
}

#[test]
fn a_dispatcher_that_goes_to_sleep_gets_what_is_published() {
    one_publish();
}

#[test]
fn without_fences_a_dispatcher_sleeps_beside_a_message() {
    hangs_without(Part::Fences, one_publish);
}

// ---- 2, 4, 5, 6: callers -------------------------------------------------------------------------------------------

fn two_callers(first: u8, second: u8) {
    model("two callers", Some(2), move || {
        let (main, renderer) = link(16);
        renderer.announce_dispatcher();
        let callers = [renderer.caller(0), renderer.caller(1)];
        main.send(first, 1, QUIET);
        main.send(second, 1, QUIET);
        for caller in callers {
            assert_eq!(caller.join().unwrap(), Waited::Done);
        }
        assert!(renderer.pipe.role_is_free());
    });
}

#[test]
fn two_waiting_callers_get_their_replies_in_either_order() {
    two_callers(0, 1);
    two_callers(1, 0);
}

#[test]
fn a_leader_that_passes_the_role_to_nobody_leaves_a_caller_asleep() {
    hangs_without(Part::PassingOn, || two_callers(0, 1));
}

fn three_callers() {
    model("three callers", Some(1), || {
        let (main, renderer) = link(16);
        renderer.announce_dispatcher();
        let callers = [renderer.caller(0), renderer.caller(1), renderer.caller(2)];
        // A thread, so that loom begins with all of them asleep.
        let peer = thread::spawn(move || (0..3).for_each(|id| main.send(id, 1, QUIET)));
        for caller in callers {
            assert_eq!(caller.join().unwrap(), Waited::Done);
        }
        peer.join().unwrap();
    });
}

#[test]
fn the_role_is_passed_on_from_caller_to_caller() {
    three_callers();
}

#[test]
fn who_is_handed_the_role_for_itself_alone_leaves_the_next_caller_asleep() {
    hangs_without(Part::WantOfTheOthers, three_callers);
}

/// One caller waits, the dispatcher runs; the peer publishes these.
fn a_caller_and_a_dispatcher(name: &str, messages: &'static [u8], asleep: bool) {
    model(name, Some(2), move || {
        let (main, renderer) = link(32);
        if asleep {
            renderer.announce_dispatcher();
        }
        let dispatcher = renderer.dispatcher_until(FOREIGN);
        let caller = renderer.caller(0);
        for id in messages {
            main.send(*id, 1, LOUD);
        }
        assert_eq!(caller.join().unwrap(), Waited::Done);
        dispatcher.join().unwrap();
    });
}

#[test]
fn a_foreign_message_read_by_a_caller_reaches_the_dispatcher() {
    a_caller_and_a_dispatcher("foreign, then reply", &[FOREIGN, 0], true);
}

#[test]
fn a_reader_that_passes_the_role_to_nobody_leaves_who_waits_for_it_asleep() {
    hangs_without(Part::PassingOn, || a_caller_and_a_dispatcher("foreign, then reply", &[FOREIGN, 0], true));
}

fn leave_against_publish() {
    a_caller_and_a_dispatcher("reply, then foreign", &[0, FOREIGN], true);
}

#[test]
fn what_is_published_while_a_caller_leaves_reaches_the_dispatcher() {
    leave_against_publish();
    a_caller_and_a_dispatcher("reply, then foreign, the dispatcher awake", &[0, FOREIGN], false);
}

#[test]
fn without_fences_a_message_behind_a_reply_is_lost() {
    hangs_without(Part::Fences, leave_against_publish);
}

fn a_done_follower() {
    model("a done follower", Some(1), || {
        let (main, renderer) = link(32);
        let dispatcher = renderer.dispatcher_until(FOREIGN);
        let callers = [renderer.caller(0), renderer.caller(1)];
        main.send(0, 1, LOUD);
        main.send(1, 1, LOUD);
        main.send(FOREIGN, 1, LOUD);
        for caller in callers {
            assert_eq!(caller.join().unwrap(), Waited::Done);
        }
        dispatcher.join().unwrap();
    });
}

#[test]
fn a_follower_that_is_done_already_does_not_lose_what_it_is_handed() {
    a_done_follower();
}

#[test]
fn a_follower_that_is_done_and_keeps_what_it_is_handed_leaves_others_asleep() {
    hangs_without(Part::HandingOn, a_done_follower);
}

fn half_a_message() {
    model("half a message", Some(2), || {
        let (main, renderer) = link(16);
        let caller = renderer.caller(0);
        let peer = thread::spawn(move || main.send(FOREIGN, 40, LOUD));
        renderer.slots[0].finish(); // its time is over
        renderer.dispatch_until(FOREIGN);
        assert_eq!(caller.join().unwrap(), Waited::Done);
        peer.join().unwrap();
    });
}

#[test]
fn a_caller_that_gives_up_between_two_chunks_leaves_the_half_message_behind() {
    half_a_message();
}

#[test]
fn a_caller_that_gives_up_and_announces_nobody_leaves_the_dispatcher_asleep() {
    hangs_without(Part::AnnouncementOnLeaving, half_a_message);
}

// ---- 3: code that is not ours --------------------------------------------------------------------------------------

fn a_listener_that_blocks() {
    model("a listener that blocks", Some(2), || {
        let (main, renderer) = link(16);
        let lock = Arc::new(Mutex::new(()));
        let dispatcher = {
            let (renderer, lock) = (renderer.clone(), lock.clone());
            thread::spawn(move || {
                let is_over = Cell::new(false);
                let listener = |_| {
                    drop(lock.lock());
                    is_over.set(true);
                };
                renderer.dispatch(listener, || is_over.get());
            })
        };
        let caller = {
            let renderer = renderer.clone();
            thread::spawn(move || {
                let held = lock.lock();
                let waited = renderer.wait(0);
                drop(held);
                waited
            })
        };
        main.send(FOREIGN, 1, LOUD);
        main.send(0, 1, QUIET);
        assert_eq!(caller.join().unwrap(), Waited::Done);
        dispatcher.join().unwrap();
    });
}

#[test]
fn a_listener_may_block_on_a_lock_that_a_waiting_caller_holds() {
    a_listener_that_blocks();
}

#[test]
fn a_dispatcher_that_passes_the_role_to_nobody_blocks_with_the_caller_asleep() {
    hangs_without(Part::PassingOn, a_listener_that_blocks);
}

fn a_waker_that_blocks() {
    model("a waker that blocks", Some(2), || {
        let (main, renderer) = link(16);
        let lock = Arc::new(Mutex::new(()));
        let leader = {
            let (renderer, lock) = (renderer.clone(), lock.clone());
            thread::spawn(move || renderer.wait_and_settle(0, &|| drop(lock.lock())))
        };
        let follower = thread::spawn(move || {
            let held = lock.lock();
            // Whoever leads may read the other's message.
            let waited = renderer.wait_and_settle(1, &|| ());
            drop(held);
            waited
        });
        main.send(WAKES, 1, LOUD);
        main.send(1, 1, QUIET);
        main.send(0, 1, QUIET);
        assert_eq!(follower.join().unwrap(), Waited::Done);
        assert_eq!(leader.join().unwrap(), Waited::Done);
    });
}

#[test]
fn a_waker_may_block_on_a_lock_that_a_following_caller_holds() {
    a_waker_that_blocks();
}

#[test]
fn a_leader_that_runs_wakers_with_the_role_blocks_for_ever() {
    hangs_without(Part::LeavingToSettle, a_waker_that_blocks);
}

// ---- 7: the peer's death -------------------------------------------------------------------------------------------

fn a_death_and_a_caller() {
    model("death, one caller", Some(3), || {
        let (main, renderer) = link(16);
        renderer.announce_dispatcher();
        let caller = renderer.caller(0);
        main.send(FOREIGN, 1, LOUD);
        renderer.pipe.set_gone();
        assert_eq!(caller.join().unwrap(), Waited::Gone);
        assert_eq!(*renderer.inbox.lock(), [FOREIGN], "taken before the caller was told");
    });
}

#[test]
fn a_caller_learns_of_the_peers_death_after_what_it_left_in_the_ring() {
    a_death_and_a_caller();
}

fn a_death_and_two_callers() {
    model("death, two callers", Some(2), || {
        let (main, renderer) = link(16);
        let callers = [renderer.caller(0), renderer.caller(1)];
        main.send(1, 1, LOUD);
        renderer.pipe.set_gone();
        let waited = callers.map(|caller| caller.join().unwrap());
        assert_eq!(waited, [Waited::Gone, Waited::Done]);
    });
}

#[test]
fn both_callers_learn_of_the_peers_death() {
    a_death_and_two_callers();
}

#[test]
fn a_death_that_rings_no_caller_leaves_them_asleep() {
    hangs_without(Part::RingOnDeath, a_death_and_a_caller);
    hangs_without(Part::RingOnDeath, a_death_and_two_callers);
}

/// The link ends, and its dispatcher wants to see that nothing is left, while a caller leaves with its reply.
fn an_end_while_a_caller_leaves() {
    model("end against leave", Some(3), || {
        let (main, renderer) = link(16);
        main.send(0, 1, QUIET);
        let is_draining = Arc::new(AtomicBool::new(false));
        let dispatcher = {
            let (side, is_draining) = (renderer.clone(), is_draining.clone());
            thread::spawn(move || {
                loop {
                    side.bell.clear();
                    let (word, expected) = side.pipe.dispatcher_word();
                    if is_draining.load(Ordering::Acquire)
                        && let Some(rx) = side.pipe.lead_or_want()
                    {
                        return side.pipe.step_aside(rx);
                    }
                    if side.pipe.dispatcher_may_sleep(false) == Ok(true) && side.bell.prepare() {
                        side.pipe.sleep.on(word, expected, &side.bell, None);
                    }
                }
            })
        };
        let caller = renderer.caller(0);
        renderer.pipe.set_gone();
        is_draining.store(true, Ordering::Release);
        renderer.bell.ring();
        caller.join().unwrap();
        dispatcher.join().unwrap();
    });
}

#[test]
fn a_dispatcher_that_looks_whether_all_is_read_is_rung_by_the_caller_that_leaves() {
    an_end_while_a_caller_leaves();
}

#[test]
fn who_looks_for_the_end_before_it_looks_who_wants_the_role_leaves_the_dispatcher_asleep() {
    hangs_without(Part::EndBehindWants, an_end_while_a_caller_leaves);
}

// ---- 8: no room ----------------------------------------------------------------------------------------------------

/// In 16 words at most three of these fit.
const RECORD: usize = 24;

fn full_with_a_sleeping_dispatcher() {
    model("no room, drained by the dispatcher", Some(2), || {
        let (main, renderer) = link(16);
        for id in FOREIGN..FOREIGN + 3 {
            main.send(id, RECORD, LOUD);
        }
        let draining = {
            let main = main.clone();
            thread::spawn(move || main.dispatch(|_| (), || false))
        };
        let reading = renderer.dispatcher_until(FOREIGN + 3);
        main.send(FOREIGN + 3, RECORD, LOUD);
        reading.join().unwrap();
        main.stop();
        draining.join().unwrap();
        assert_eq!((main.pipe.queued(), main.pipe.budget.used()), (0, 0));
    });
}

#[test]
fn what_finds_no_room_is_drained_by_a_sleeping_dispatcher() {
    full_with_a_sleeping_dispatcher();
}

#[test]
fn without_fences_what_finds_no_room_stays() {
    hangs_without(Part::Fences, full_with_a_sleeping_dispatcher);
}

fn full_with_a_waiting_caller() {
    model("no room, drained by the caller", Some(2), || {
        let (main, renderer) = link(16);
        // As if asleep all the while: nobody rings the bell that it sleeps on.
        renderer.announce_dispatcher();
        let serving = main.answers_behind_foreign();
        renderer.send(FOREIGN, 6 * RECORD, LOUD);
        assert_eq!(renderer.wait(0), Waited::Done);
        serving.join().unwrap();
    });
}

#[test]
fn a_waiting_caller_drains_what_it_has_sent() {
    full_with_a_waiting_caller();
}

#[test]
fn who_sleeps_without_a_last_look_for_room_is_not_rung_for_it() {
    hangs_without(Part::LookForRoom, full_with_a_waiting_caller);
    hangs_without(Part::LookForRoom, both_full);
    hangs_without(Part::LookForRoom, a_dispatcher_that_drains);
}

/// A caller, who leads, sleeps for room while a thread does what a dispatcher does meanwhile.
fn drained_by_a_caller_beside(name: &str, dispatches: fn(&Side)) {
    model(name, Some(1), move || {
        let (main, renderer) = link(16);
        renderer.announce_dispatcher();
        let serving = main.answers_behind_foreign();
        renderer.send(FOREIGN, 4 * RECORD, LOUD);
        let turning = {
            let renderer = renderer.clone();
            thread::spawn(move || dispatches(&renderer))
        };
        assert_eq!(renderer.wait(0), Waited::Done);
        serving.join().unwrap();
        renderer.stop();
        turning.join().unwrap();
    });
}

/// The dispatcher drains as in its turn, and goes to sleep.
fn a_dispatcher_that_drains() {
    drained_by_a_caller_beside("no room, drained by the caller beside a dispatcher", |side| {
        loop {
            side.bell.clear();
            if side.stopping.load(Ordering::Acquire) {
                return;
            }
            let (word, expected) = side.pipe.dispatcher_word();
            side.pipe.drain_queue().expect("an honest peer");
            if side.pipe.dispatcher_may_sleep(true) == Ok(true) && side.bell.prepare() {
                side.pipe.sleep.on(word, expected, &side.bell, None);
            }
        }
    });
}

#[test]
fn a_dispatcher_that_has_looked_for_room_lets_the_caller_be_rung_for_it() {
    a_dispatcher_that_drains();
}

/// The dispatcher looks for room as in its turn, and then runs a callback that takes until the caller has its reply.
fn a_busy_dispatcher() {
    drained_by_a_caller_beside("no room, drained by the caller beside a busy dispatcher", |side| {
        side.pipe.drain_queue().expect("an honest peer");
    });
}

#[test]
fn a_dispatcher_that_has_looked_for_room_and_is_busy_then_lets_the_caller_be_rung_for_it() {
    a_busy_dispatcher();
}

#[test]
fn a_dispatcher_that_takes_back_a_sleeping_callers_wish_for_room_leaves_it_asleep() {
    hangs_without(Part::WishBesideACaller, a_busy_dispatcher);
}

fn both_full() {
    model("both full", Some(2), || {
        let sides = <[_; 2]>::from(link(16));
        for side in &sides {
            for id in FOREIGN..FOREIGN + 4 {
                side.send(id, RECORD, LOUD);
            }
            assert!(side.pipe.queued() > 0);
        }
        let turning = sides.clone().map(|side| {
            thread::spawn(move || {
                let expected = Cell::new(FOREIGN);
                let handle = |id| {
                    assert_eq!(id, expected.get(), "out of order");
                    expected.set(id + 1);
                };
                side.dispatch(handle, || expected.get() == FOREIGN + 4 && side.pipe.queued() == 0);
            })
        });
        for dispatcher in turning {
            dispatcher.join().unwrap();
        }
    });
}

#[test]
fn both_directions_full_at_once_are_drained() {
    both_full();
}

/// Each time the ring is full the reader sleeps, and nobody has rung it for what lies there.
fn full_of_quiet_messages(bound: usize) {
    model("no room for quiet messages", Some(bound), || {
        let (main, renderer) = link(16);
        renderer.announce_dispatcher();
        for id in FOREIGN..FOREIGN + 7 {
            main.send(id, RECORD, QUIET);
        }
        let reading = {
            let renderer = renderer.clone();
            thread::spawn(move || renderer.dispatch(|_| (), || false))
        };
        main.dispatch(|_| (), || main.pipe.queued() == 0);
        renderer.stop();
        reading.join().unwrap();
    });
}

#[test]
fn quiet_messages_that_fill_the_ring_again_and_again_are_read() {
    full_of_quiet_messages(2);
}

#[test]
fn who_is_rung_once_for_want_of_room_leaves_quiet_messages_unread() {
    hangs_without(Part::SecondRing, || full_of_quiet_messages(1));
}

// ---- 9: futures ----------------------------------------------------------------------------------------------------

fn attend_against_publish() {
    model("attend against a quiet reply", Some(3), || {
        let (main, renderer) = link(16);
        renderer.announce_dispatcher();
        let dispatcher = renderer.dispatcher_until(FOREIGN);
        let peer = thread::spawn(move || main.send(FOREIGN, 1, QUIET));
        renderer.pipe.attend();
        dispatcher.join().unwrap();
        peer.join().unwrap();
        renderer.pipe.unattend();
    });
}

#[test]
fn a_quiet_reply_is_read_once_its_future_waits() {
    attend_against_publish();
}

#[test]
fn without_fences_a_quiet_reply_is_left_unread() {
    hangs_without(Part::Fences, attend_against_publish);
}

fn attend_against_leave() {
    model("attend against leave", Some(2), || {
        let (main, renderer) = link(16);
        renderer.announce_dispatcher();
        let caller = renderer.caller(0);
        let peer = thread::spawn(move || {
            main.send(0, 1, QUIET);
            main.send(FOREIGN, 1, QUIET);
        });
        renderer.pipe.attend();
        renderer.dispatch_until(FOREIGN);
        assert_eq!(caller.join().unwrap(), Waited::Done);
        peer.join().unwrap();
    });
}

#[test]
fn a_future_that_begins_to_wait_while_a_caller_leaves_gets_its_reply() {
    attend_against_leave();
}

#[test]
fn a_future_that_has_nobody_announced_waits_for_ever() {
    hangs_without(Part::AnnouncementForFutures, attend_against_publish);
}

#[test]
fn a_caller_that_leaves_and_announces_nobody_leaves_a_future_waiting() {
    hangs_without(Part::AnnouncementOnLeaving, attend_against_leave);
}

// ---- 10: bells, and what is counted ----------------------------------------------------------------------------------

fn a_ring_against_sleep() {
    model("a bell", None, || {
        let bell = Bell::new();
        let handed = Arc::new(AtomicBool::new(false));
        let ringing = {
            let (bell, handed) = (bell.clone(), handed.clone());
            thread::spawn(move || {
                handed.store(true, Ordering::Relaxed);
                bell.ring();
            })
        };
        let sleep = Sleep::probe();
        loop {
            bell.clear();
            if handed.load(Ordering::Relaxed) {
                break;
            }
            if bell.prepare() {
                sleep.private(&bell, None);
            }
        }
        ringing.join().unwrap();
    });
}

#[test]
fn a_ring_is_seen_whenever_its_owner_goes_to_sleep() {
    a_ring_against_sleep();
}

#[test]
fn without_the_bells_order_its_owner_sleeps_beside_what_is_handed_over() {
    hangs_without(Part::Order(Pair::Bell), a_ring_against_sleep);
}

#[test]
fn a_refused_claim_on_the_budget_refuses_nobody_else() {
    model("budget", None, || {
        let budget = Budget::new(10);
        let too_much = {
            let budget = budget.clone();
            thread::spawn(move || assert!(!budget.take(11)))
        };
        assert!(budget.take(10), "there was room all the time");
        too_much.join().unwrap();
        assert_eq!(budget.used(), 10);
    });
}
