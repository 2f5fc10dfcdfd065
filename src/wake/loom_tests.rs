use super::*;
use crate::sync::{Part, hangs_without};
use loom::thread;

/// A callback waits for a task that another thread makes ready; loom finds a sleep without end.
fn model_of_a_callback() {
    loom::model(|| {
        let (waiting, is_ready) = (Arc::new(Waiting::default()), Arc::new(AtomicBool::new(false)));
        let other = {
            let (waiting, is_ready) = (waiting.clone(), is_ready.clone());
            thread::spawn(move || {
                is_ready.store(true, Ordering::Release);
                waiting.ring();
            })
        };
        let bell = Bell::new();
        while !is_ready.load(Ordering::Acquire) {
            bell.clear();
            waiting.set(Some(&bell));
            if !is_ready.load(Ordering::Acquire) && bell.prepare() {
                Sleep::probe().private(&bell, None);
            }
        }
        waiting.set(None);
        other.join().unwrap();
    });
}

#[test]
fn a_callback_that_waits_misses_nothing_that_is_handed_over() {
    model_of_a_callback();
}

#[test]
fn without_its_fences_it_sleeps_for_ever() {
    hangs_without(Part::Fences, model_of_a_callback);
}
