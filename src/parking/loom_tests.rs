//! A sender that wakes and a receiver that sleeps, every interleaving: no wake-up is lost, also that of the end.

use super::*;
use crate::region::Region;
use crate::sync::{AtomicBool, Pair, Part, hangs_without};
use loom::thread;

#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The sender publishes.
    Published,
    /// The sender is dropped.
    Dropped,
    /// The link ends.
    Link,
}

fn model(end: End) {
    loom::model(move || {
        let region = Region::in_process(64);
        let word = |at| region.word32(at).unwrap();
        let waker = Waker { receiver: word(0), sender: word(4), bell: word(8) };
        waker.announce(WakePolicy::IfParked);
        let private = Bell::new();
        let parking = Parking {
            receiver: word(0),
            sender: word(4),
            bell: word(8),
            private: private.clone(),
            sleep: Sleep::probe(),
            spin: Duration::ZERO,
        };
        let (is_there, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let other = {
            let (is_there, is_over) = (is_there.clone(), is_over.clone());
            thread::spawn(move || match end {
                End::Published => {
                    is_there.store(true, Ordering::Release);
                    waker.after_publish();
                }
                End::Dropped => waker.close(),
                End::Link => {
                    is_over.store(true, Ordering::Release);
                    private.ring();
                }
            })
        };
        let look = || is_there.load(Ordering::Acquire).then_some(());
        let waited = parking.wait(None, || is_over.load(Ordering::Acquire), look);
        assert_eq!(waited.is_ok(), end == End::Published);
        other.join().unwrap();
    });
}

#[test]
fn a_receiver_that_sleeps_misses_neither_a_record_nor_an_end() {
    model(End::Published);
    model(End::Dropped);
    model(End::Link);
}

#[test]
fn without_its_fences_it_sleeps_for_ever() {
    for end in [End::Published, End::Dropped] {
        hangs_without(Part::Fences, || model(end));
    }
}

#[test]
fn without_the_bells_order_it_sleeps_beyond_the_end_of_the_link() {
    hangs_without(Part::Order(Pair::Bell), || model(End::Link));
}
