use super::*;
use crate::region::Region;
use std::os::unix::thread::JoinHandleExt;
use std::sync::mpsc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(5))
}

fn late() -> Option<Instant> {
    Some(Instant::now() + LONG)
}

#[test]
fn a_ring_before_the_sleep_keeps_it_from_starting_and_rings_do_not_add_up() {
    let bell = Bell::new();
    assert!(!bell.clear());
    bell.ring();
    bell.ring();
    assert!(bell.is_rung());
    assert!(!bell.prepare());
    assert!(bell.clear());
    assert!(!bell.clear());
    assert!(bell.prepare());
    bell.awake();
    assert!(bell.prepare(), "who woke without a ring may sleep again");
}

#[test]
fn a_sleep_ends_with_its_deadline_and_one_that_is_over_does_not_begin() {
    let (bell, sleep) = (Bell::new(), Sleep::probe());
    let word = Region::in_process(64).word32(0).unwrap();
    for until in [soon(), Some(Instant::now())] {
        assert!(bell.prepare());
        sleep.private(&bell, until);
        assert!(bell.prepare());
        sleep.on(&word, 0, &bell, until);
        assert!(!bell.clear());
    }
}

#[test]
fn a_sleep_on_a_shared_word_ends_by_the_word_by_the_bell_and_where_the_word_has_changed() {
    let word = Region::in_process(64).word32(0).unwrap();
    for by_bell in [false, true] {
        let (bell, word) = (Bell::new(), word.clone());
        let (sleeping, is_sleeping) = mpsc::channel();
        let thread = {
            let (bell, word) = (bell.clone(), word.clone());
            std::thread::spawn(move || {
                let sleep = Sleep::probe();
                let expected = word.load(Ordering::Acquire);
                assert!(bell.prepare());
                sleeping.send(()).unwrap();
                sleep.on(&word, expected, &bell, late());
                bell.clear()
            })
        };
        is_sleeping.recv_timeout(LONG).unwrap();
        if by_bell {
            bell.ring();
        } else {
            Peer::wake(&word);
        }
        assert_eq!(thread.join().unwrap(), by_bell);
    }
    let (bell, sleep) = (Bell::new(), Sleep::probe());
    let stale = word.load(Ordering::Acquire).wrapping_sub(1);
    assert!(bell.prepare());
    sleep.on(&word, stale, &bell, late());
}

#[test]
fn a_signal_ends_no_sleep_for_good() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    // SAFETY: a handler that does nothing, for a signal that nothing else in the tests uses; no SA_RESTART, so that
    // system calls return EINTR.
    #[allow(unsafe_code)]
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGURG, &action, std::ptr::null_mut()), 0);
    }
    let bell = Bell::new();
    let (sleeping, is_sleeping) = mpsc::channel();
    let thread = {
        let bell = bell.clone();
        std::thread::spawn(move || {
            let (sleep, until) = (Sleep::probe(), late());
            let mut sleeps = 0;
            while !bell.clear() {
                if bell.prepare() {
                    sleeps += 1;
                    let _ = sleeping.send(());
                    sleep.private(&bell, until);
                }
            }
            sleeps
        })
    };
    is_sleeping.recv_timeout(LONG).unwrap();
    for _ in 0..20 {
        // SAFETY: the thread lives: it is joined below.
        #[allow(unsafe_code)]
        unsafe {
            assert_eq!(libc::pthread_kill(thread.as_pthread_t(), libc::SIGURG), 0);
        }
    }
    assert!(!thread.is_finished());
    bell.ring();
    assert!(thread.join().unwrap() >= 1);
}

fn peer(region: &Arc<Region>) -> (Peer, Own) {
    let word = |at: usize| region.word32(at * 4).unwrap();
    let peer = Peer { sleeper: word(0), dispatcher: word(1), caller: word(2), wants_room: word(3), event: None };
    // The other side's view of the same words.
    let own = Own { sleeper: word(0), dispatcher: word(1), caller: word(2), peer_wants_room: word(3) };
    (peer, own)
}

#[test]
fn a_publish_rings_exactly_the_one_who_is_announced() {
    let region = Region::in_process(64);
    let (peer, own) = peer(&region);
    assert_eq!(peer.after_publish(false), None);
    let table = [
        (DISPATCHER, false, true),
        (DISPATCHER, true, true),
        (DISPATCHER | QUIET, false, true),
        (DISPATCHER | QUIET, true, false),
        (DISPATCHER | QUIET | BY_EVENTFD, true, false),
        (CALLER, true, true),
        (u32::MAX, false, true),
    ];
    for (who, quiet, rings) in table {
        own.announce(who);
        let before = (own.dispatcher.load(Ordering::Relaxed), own.caller.load(Ordering::Relaxed));
        let ring = peer.after_publish(quiet);
        assert_eq!(ring.is_some(), rings, "{who} {quiet}");
        if let Some(ring) = ring {
            assert_eq!(own.announced(), NOBODY, "taken away");
            peer.ring(ring);
            let after = (own.dispatcher.load(Ordering::Relaxed), own.caller.load(Ordering::Relaxed));
            let expected = match who & WHO {
                DISPATCHER => (before.0 + 1, before.1),
                CALLER => (before.0, before.1 + 1),
                _ => before,
            };
            assert_eq!(after, expected, "{who}");
        } else {
            assert_eq!(own.announced(), who, "left alone");
        }
    }
}

#[test]
fn spinning_gives_up_when_told_and_never_where_it_is_asked_for() {
    let cost = Arc::new(AtomicU32::new(20_000));
    assert_eq!(Spin::new(Wait::Park, cost.clone()).begin().round(), Next::Sleep);
    let spin = Spin::new(Wait::Spin, cost.clone());
    let mut spinning = spin.begin();
    assert!((0..100_000).all(|_| spinning.round() != Next::Sleep));
    // One core: nothing to spin for.
    let spin = Spin::new(Wait::Adaptive, Arc::new(AtomicU32::new(0)));
    let mut spinning = spin.begin();
    assert!((0..ROUNDS_PER_CLOCK).any(|_| spinning.round() == Next::Sleep));
    // Adaptive: ends, and stays ended.
    let spin = Spin::new(Wait::Adaptive, cost);
    let mut spinning = spin.begin();
    let until = Instant::now() + LONG;
    while spinning.round() != Next::Sleep {
        assert!(Instant::now() < until);
    }
    assert_eq!(spinning.round(), Next::Sleep);
    assert!(spinning.has_slept());
}

#[test]
fn who_follows_a_leader_sleeps_in_the_end_even_where_spinning_has_none() {
    let spin = Spin::new(Wait::Spin, Arc::new(AtomicU32::new(1_000)));
    let mut spinning = spin.begin_to_follow();
    let until = Instant::now() + Duration::from_secs(30);
    while spinning.round() != Next::Sleep {
        assert!(Instant::now() < until);
    }
    assert_eq!(Spin::new(Wait::Park, Arc::new(AtomicU32::new(1_000))).begin_to_follow().round(), Next::Sleep);
    assert_eq!(Spin::new(Wait::Spin, Arc::new(AtomicU32::new(0))).begin_to_follow().round(), Next::Sleep);
}

#[test]
fn the_budget_grows_when_spinning_paid_and_halves_when_it_did_not() {
    let spin = Spin::new(Wait::Adaptive, Arc::new(AtomicU32::new(8_000)));
    let budget = || spin.budget.load(Ordering::Relaxed);
    assert_eq!(budget(), 8_000);
    let long_ago = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    let ended = |parked, since| {
        let mut spinning = Spinning { rounds: ROUNDS_PER_CLOCK, clocks: 1, since: Some(since), parked, ..spin.begin() };
        spinning.succeeded();
    };
    for expected in [4_000, 2_000, 2_000] {
        ended(true, long_ago);
        assert_eq!(budget(), expected);
    }
    for expected in [4_000, 8_000, 8_000] {
        ended(false, long_ago);
        assert_eq!(budget(), expected);
    }
    // What came at once says nothing about the budget.
    spin.begin().succeeded();
    assert_eq!(budget(), 8_000);
}

#[test]
fn a_wake_up_is_measured_within_its_bounds_or_not_at_all() {
    let measure = Arc::new(Measure::new());
    let other = measure.clone();
    let thread = std::thread::spawn(move || other.second());
    if let Some(cost) = measure.first() {
        assert!((1_000..=50_000).contains(&cost));
    }
    thread.join().unwrap();
}

#[test]
fn on_one_core_nothing_spins() {
    let spin = Spin::new(Wait::Adaptive, Arc::new(AtomicU32::new(0)));
    assert_eq!(spin.begin().round(), Next::Sleep);
    let cost = Arc::new(AtomicU32::new(0));
    let spin = Spin::new(Wait::Adaptive, cost.clone());
    cost.store(8_000, Ordering::Relaxed); // the process may run on more cores now
    let mut spinning = spin.begin();
    assert_eq!(spinning.round(), Next::Sleep);
    spinning.succeeded();
    assert_ne!(spin.begin().round(), Next::Sleep);
}

#[test]
fn room_that_was_made_is_told_once_and_only_to_who_wants_it() {
    let region = Region::in_process(4096);
    let (peer, own) = peer(&region);
    for fenced in [false, true] {
        peer.sleeper.store(DISPATCHER, Ordering::Relaxed);
        own.peer_wants_room.store(0, Ordering::Relaxed);
        assert_eq!(peer.room_was_made(&own, fenced), None);
        assert_eq!(peer.sleeper.load(Ordering::Relaxed), DISPATCHER, "left alone");
        own.peer_wants_room.store(u32::MAX, Ordering::Relaxed); // whatever is not 0
        assert_eq!(peer.room_was_made(&own, fenced), Some(Ring(DISPATCHER)));
        assert_eq!(peer.room_was_made(&own, fenced), None, "told once");
        own.peer_wants_room.store(1, Ordering::Relaxed);
        assert_eq!(peer.room_was_made(&own, fenced), None, "it wants room and is awake");
        assert_eq!(own.peer_wants_room.load(Ordering::Relaxed), 0);
    }
    assert!(!peer.is_wanting(Wish::Ring));
    peer.want_room(Wish::Ring);
    assert!(peer.is_wanting(Wish::Ring) && !peer.is_wanting(Wish::Look));
    peer.has_room();
    assert!(!peer.is_wanting(Wish::Ring));
}

#[test]
fn a_bell_with_an_event_rings_that_only_while_its_owner_sleeps() {
    let bell = Bell::new();
    bell.set_event(crate::sys::EventFd::new().unwrap());
    let rung = || rustix::io::read(bell.event.get().unwrap(), &mut [0; 8]).is_ok();
    bell.ring();
    assert!(!rung(), "awake: no system call");
    assert!(!bell.prepare());
    assert!(bell.clear());
    assert!(bell.prepare());
    bell.ring();
    bell.ring();
    bell.awake();
    assert!(rung() && !rung());
    assert!(bell.is_rung() && bell.clear() && !bell.is_rung());
}
