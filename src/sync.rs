//! The only door to what `loom` replaces: atomics, fences, cells, locks, spin hints and a futex.
//!
//! Everything above takes these names from here, so that the rings, the wakes and the role are model-checked as they
//! are, not as copies. In the ordinary build the lock is `parking_lot`'s and the futex is the kernel's (`sys`).

#[cfg(not(loom))]
mod imp {
    pub(crate) use parking_lot::Mutex;
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

    /// The order of one side of a labelled pair. A function, so that a loom test can weaken the pair.
    #[inline(always)]
    pub(crate) const fn order(_: super::Pair, order: Ordering) -> Ordering {
        order
    }

    /// Whether this is left out: never. A function, so that a loom test can show what it is there for.
    #[inline(always)]
    pub(crate) const fn is_left_out(_: super::Part) -> bool {
        false
    }

    /// A cell with loom's interface: the pointer never leaves the closure.
    #[derive(Debug, Default)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn get(&self) -> *mut T {
            self.0.get()
        }
    }
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
    pub(crate) use std::sync::Arc;

    use std::cell::Cell;
    use std::ops::{Deref, DerefMut};

    thread_local! {
        /// Set by a test that wants to see loom object. loom runs all threads of a model on one OS thread, so a thread-local
        /// reaches them all and no other test.
        static LEFT_OUT: Cell<Option<super::Part>> = const { Cell::new(None) };
    }

    pub(crate) fn is_left_out(part: super::Part) -> bool {
        LEFT_OUT.get() == Some(part)
    }

    pub(crate) fn order(pair: super::Pair, order: Ordering) -> Ordering {
        if is_left_out(super::Part::Order(pair)) { Ordering::Relaxed } else { order }
    }

    pub(crate) fn fence(order: Ordering) {
        if !is_left_out(super::Part::Fences) {
            loom::sync::atomic::fence(order);
        }
    }

    /// Runs a model without this part. What loom says; it must object.
    #[cfg(test)]
    pub(crate) fn objection_without(part: super::Part, model: impl FnOnce()) -> String {
        LEFT_OUT.set(Some(part));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(model));
        LEFT_OUT.set(None);
        let panic = result.err().unwrap_or_else(|| panic!("loom did not see that {part:?} is needed"));
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_default()
    }

    /// The same, where what is left out makes a thread sleep for ever.
    #[cfg(test)]
    pub(crate) fn hangs_without(part: super::Part, model: impl FnOnce()) {
        let text = objection_without(part, model);
        assert!(text.contains("deadlock"), "without {part:?} not a lost wake-up: {text}");
    }

    /// loom's mutex with `parking_lot`'s interface.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);
    pub(crate) struct MutexGuard<'a, T>(loom::sync::MutexGuard<'a, T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.0
        }
    }

    /// A cell that tells loom of each access as exclusive.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T> {
        cell: std::cell::UnsafeCell<T>,
        tracked: loom::cell::UnsafeCell<()>,
    }

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self { cell: std::cell::UnsafeCell::new(value), tracked: loom::cell::UnsafeCell::new(()) }
        }

        pub(crate) fn get(&self) -> *mut T {
            // loom checks here that no other thread is inside without a happens-before edge.
            self.tracked.with_mut(|_| ());
            self.cell.get()
        }
    }

    /// A futex made of a mutex and condition variables: precise, so that ringing the wrong word is seen as a hang.
    pub(crate) mod futex {
        use super::{Arc, AtomicU32};
        use loom::sync::{Condvar, Mutex};
        use std::sync::atomic::Ordering;

        struct Sleeper {
            words: [usize; 2],
            woken: Arc<(Mutex<bool>, Condvar)>,
        }

        loom::lazy_static! {
            static ref SLEEPERS: Mutex<Vec<Sleeper>> = Mutex::new(Vec::new());
        }

        fn key(word: &AtomicU32) -> usize {
            std::ptr::from_ref(word) as usize
        }

        /// Sleeps until one of the words is rung; returns at once where one no longer has the expected value.
        pub(crate) fn wait_two(first: (&AtomicU32, u32), second: (&AtomicU32, u32)) {
            let woken = {
                let mut sleepers = SLEEPERS.lock().unwrap();
                if first.0.load(Ordering::SeqCst) != first.1 || second.0.load(Ordering::SeqCst) != second.1 {
                    return;
                }
                let woken = Arc::new((Mutex::new(false), Condvar::new()));
                sleepers.push(Sleeper { words: [key(first.0), key(second.0)], woken: woken.clone() });
                woken
            };
            let mut is_woken = woken.0.lock().unwrap();
            while !*is_woken {
                is_woken = woken.1.wait(is_woken).unwrap();
            }
        }

        /// Wakes the first sleeper of the word.
        pub(crate) fn wake_one(word: &AtomicU32) {
            let mut sleepers = SLEEPERS.lock().unwrap();
            if let Some(index) = sleepers.iter().position(|s| s.words.contains(&key(word))) {
                let sleeper = sleepers.remove(index);
                *sleeper.woken.0.lock().unwrap() = true;
                sleeper.woken.1.notify_one();
            }
        }
    }
}

pub(crate) use imp::*;

/// Accesses that belong together: one side's Release is there for the other's Acquire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pair {
    /// A record's word and bytes.
    PublishConsume,
    /// The reader's head and the words before it.
    FreeReuse,
    /// The role and its state.
    Role,
    /// What is handed over and the bell that is rung for it.
    Bell,
}

/// What a loom test leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(loom), allow(dead_code))]
pub(crate) enum Part {
    /// All fences.
    Fences,
    /// The order of a labelled pair.
    Order(Pair),
    /// Who found the role held tries once more after it has said that it wants it.
    SecondTry,
    /// Who gives a wanted role back passes it on.
    PassingOn,
    /// Who passes it on to one caller wants it for the others.
    WantOfTheOthers,
    /// Who was handed the role and does not need it gives it on.
    HandingOn,
    /// Who leaves announces the dispatcher again.
    AnnouncementOnLeaving,
    /// Who leaves looks whether the link has ended behind the look at who wants the role.
    EndBehindWants,
    /// The role is given back before wakers run.
    LeavingToSettle,
    /// Callers are rung when the peer is gone.
    RingOnDeath,
    /// A dispatcher that looks for room leaves word where a caller of its own sleeps.
    WishBesideACaller,
    /// Who is about to sleep looks once more for room.
    LookForRoom,
    /// A writer without room rings again for what it has written since.
    SecondRing,
    /// A future that begins to wait has the dispatcher announced as one that is rung for replies.
    AnnouncementForFutures,
}
