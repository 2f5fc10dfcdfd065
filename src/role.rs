//! The role: the right to read a link's incoming ring, held by at most one thread.
//!
//! | bit | set by | means | cleared by |
//! |---|---|---|---|
//! | `HELD` | who takes the role | somebody reads | the same, on release |
//! | `WANTED` | who found it held and waits | the holder must pass it on | the holder, on release |
//!
//! Whoever finds the role held sets `WANTED` *before* it tries once more, so that either the try succeeds or the holder
//! sees the bit. What is half read belongs to the role, not to the thread.
#![allow(unsafe_code)]

use crate::sync::{AtomicU32, Ordering, Pair, Part, UnsafeCell, is_left_out, order};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

const HELD: u32 = 1;
const WANTED: u32 = 2;

/// A value that belongs to whoever holds the role.
pub(crate) struct Role<T> {
    word: AtomicU32,
    state: UnsafeCell<T>,
}

// SAFETY: the state is reached through a `Held` alone, of which there is one at a time; it moves between threads with
// the Acquire / Release of the word.
unsafe impl<T: Send> Send for Role<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Role<T> {}

impl<T> Role<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { word: AtomicU32::new(0), state: UnsafeCell::new(state) }
    }

    /// Takes the role if nobody holds it.
    #[inline]
    pub(crate) fn try_take(&self) -> Option<Held<'_, T>> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & HELD != 0 {
                return None;
            }
            // [role] Acquire: pairs with the Release of the last holder.
            match self.word.compare_exchange_weak(
                word,
                word | HELD,
                order(Pair::Role, Ordering::Acquire),
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Held { role: self, _state: PhantomData }),
                Err(seen) => word = seen,
            }
        }
    }

    /// Whether somebody holds it. A hint.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.word.load(Ordering::Relaxed) & HELD != 0
    }

    /// Takes the role, or leaves word that it is wanted: then its holder will pass it on.
    pub(crate) fn take_or_want(&self) -> Option<Held<'_, T>> {
        if let Some(held) = self.try_take() {
            return Some(held);
        }
        self.want();
        if is_left_out(Part::SecondTry) {
            return None;
        }
        self.try_take()
    }

    /// Leaves word that the role is wanted. Returns whether somebody holds it.
    pub(crate) fn want(&self) -> bool {
        self.word.fetch_or(WANTED, Ordering::AcqRel) & HELD != 0
    }
}

/// The role, held. Give it back with [`release`](Held::release).
#[must_use]
pub(crate) struct Held<'a, T> {
    role: &'a Role<T>,
    /// Gives out `&T` and `&mut T`, so it may be shared or sent where those may.
    _state: PhantomData<&'a mut T>,
}

impl<T> Held<'_, T> {
    /// Whether somebody waits for the role. A hint.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.role.word.load(Ordering::Relaxed) & WANTED != 0
    }

    /// Whether somebody waits for the role so far; what it did before it said so is seen. From here on only who says so
    /// again is told of by [`release`](Self::release).
    #[inline]
    pub(crate) fn take_want(&self) -> bool {
        self.is_wanted() && self.role.word.fetch_and(!WANTED, Ordering::AcqRel) & WANTED != 0
    }

    /// Gives the role back; true if it has to be passed on.
    #[must_use = "a wanted role has to be passed on"]
    #[inline]
    pub(crate) fn release(self) -> bool {
        // [role] Release: pairs with the Acquire of the next holder. AcqRel, so that what the wanting thread did
        // before it set the bit is seen by whoever passes the role on.
        let wanted = self.role.word.swap(0, order(Pair::Role, Ordering::AcqRel)) & WANTED != 0;
        std::mem::forget(self);
        wanted
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            return; // loom has found something: its atomics are gone
        }
        // Reached by unwinding alone: the bit stays, so that the next holder passes the role on.
        self.role.word.fetch_and(!HELD, Ordering::AcqRel);
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the role is held, so nobody else reaches the state; the borrow ends with `self`.
        unsafe { &*self.role.state.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` excludes a second borrow.
        unsafe { &mut *self.role.state.get() }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
