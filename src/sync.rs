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

    /// Whether a writer without room rings once and never again. A function, so that a loom test can show why that is wrong.
    #[inline(always)]
    pub(crate) const fn rings_once() -> bool {
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
        /// Set by a test that wants to see loom object: the next fences are left out. loom runs all threads of a
        /// model on one OS thread, so a thread-local reaches them all and no other test.
        pub(crate) static WITHOUT_FENCES: Cell<bool> = const { Cell::new(false) };
        /// Set likewise: both sides of this pair become Relaxed.
        pub(crate) static WEAKENED: Cell<Option<super::Pair>> = const { Cell::new(None) };
        /// Set likewise: a writer without room rings once.
        pub(crate) static RINGS_ONCE: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn rings_once() -> bool {
        RINGS_ONCE.get()
    }

    pub(crate) fn order(pair: super::Pair, order: Ordering) -> Ordering {
        if WEAKENED.get() == Some(pair) { Ordering::Relaxed } else { order }
    }

    pub(crate) fn fence(order: Ordering) {
        if !WITHOUT_FENCES.get() {
            loom::sync::atomic::fence(order);
        }
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
}
