//! How the receiver of a lane sleeps and its sender wakes it.
//!
//! The rule is that of `wake`, for one sleeper: the receiver says *parked*, `fence(SeqCst)`, looks once more, sleeps; the
//! sender publishes, `fence(SeqCst)`, looks, takes *parked* away and wakes. Whether the sender does that at all, and who of its
//! process, is the lane's [`WakePolicy`]. A peer may write anything here: it can wake us for nothing until our deadline, or
//! never wake us, and every sleep has a private part that `watch` rings.

use crate::failpoint;
use crate::region::Word32;
use crate::sync::{Arc, Ordering, fence, spin_loop};
use crate::wake::{Bell, Sleep};
use std::time::{Duration, Instant};

/// Receiver's word: it sleeps, or is about to.
const PARKED: u32 = 1;
/// Either's word: this end was dropped.
pub(crate) const CLOSED: u32 = 2;
/// Sender's word: it wakes who is parked.
const WAKES: u32 = 4;

/// How long a receiver sleeps whose sender says that it wakes nobody, before it looks again.
const SLICE: Duration = Duration::from_millis(1);

/// Looks between two pauses, which take 40 to 140 cycles each, and readings of the clock, which take 22 ns.
const LOOKS: u32 = 16;

/// How a sender wakes a receiver that sleeps in a call with a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WakePolicy {
    /// Not at all: the sender makes no system call, ever, and no fence. For receivers that look by themselves, such as a
    /// window that redraws 60 times a second. One that waits all the same looks every millisecond. The default of
    /// latest-value lanes.
    Never,
    /// By one `FUTEX_WAKE`, when the receiver has said that it sleeps, and only then; a hostile one may say so all the time, which
    /// makes each publish that call. The default of other lanes.
    IfParked,
    /// A flag is set, and a helper thread of this process (`ringmain-relay`, ordinary priority) makes the call about a
    /// millisecond later. For threads that may make no system call and whose receiver sleeps. While there is such a sender, the
    /// helper wakes a thousand times a second.
    Relay,
}

/// The sender's part.
#[derive(Clone)]
pub(crate) struct Waker {
    pub(crate) receiver: Word32,
    pub(crate) sender: Word32,
    pub(crate) bell: Word32,
}

impl Waker {
    /// Says whether this sender wakes anybody.
    pub(crate) fn announce(&self, policy: WakePolicy) {
        self.sender.store(if policy == WakePolicy::Never { 0 } else { WAKES }, Ordering::Release);
    }

    /// The receiver was dropped.
    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        self.receiver.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// After a publish: wakes the receiver if it is parked. Whether it did.
    #[inline(always)]
    pub(crate) fn after_publish(&self) -> bool {
        // [parked/look] pairs with the fence in `Parking::park`.
        fence(Ordering::SeqCst);
        self.receiver.load(Ordering::Relaxed) & PARKED != 0 && self.wake()
    }

    #[cold]
    #[inline(never)]
    fn wake(&self) -> bool {
        if self.receiver.fetch_and(!PARKED, Ordering::AcqRel) & PARKED == 0 {
            return false;
        }
        self.bell.fetch_add(1, Ordering::Release);
        #[cfg(not(loom))]
        crate::sys::futex_wake(&self.bell, crate::sys::Scope::Shared, 1);
        #[cfg(loom)]
        crate::sync::futex::wake_one(&self.bell);
        true
    }

    /// This end is dropped: who waits for it learns that.
    pub(crate) fn close(&self) {
        self.sender.fetch_or(CLOSED, Ordering::Release);
        self.after_publish();
    }
}

/// Why a wait ended without what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    TimedOut,
    Closed,
}

/// The receiver's part.
pub(crate) struct Parking {
    pub(crate) receiver: Word32,
    pub(crate) sender: Word32,
    pub(crate) bell: Word32,
    /// Rung when the link ends.
    pub(crate) private: Arc<Bell>,
    pub(crate) sleep: Sleep,
    /// How long to look before sleeping.
    pub(crate) spin: Duration,
}

impl Parking {
    /// The sender was dropped.
    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Waits until `look` finds something: spins, then sleeps. `is_over`: the link has ended. What was published before the
    /// end is found all the same.
    pub(crate) fn wait<T>(
        &self,
        deadline: Option<Instant>,
        is_over: impl Fn() -> bool,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, Ended> {
        if let Some(found) = look() {
            return Ok(found);
        }
        if !cfg!(loom) {
            let began = Instant::now();
            let until = began.checked_add(self.spin);
            let until = until.into_iter().chain(deadline).min().unwrap_or(began);
            let mut now = began;
            while now < until {
                spin_loop();
                for _ in 0..LOOKS {
                    if let Some(found) = look() {
                        return Ok(found);
                    }
                }
                if is_over() || self.is_closed() {
                    return look().ok_or(Ended::Closed);
                }
                now = Instant::now();
            }
        }
        let waited = self.park(deadline, is_over, look);
        if self.receiver.load(Ordering::Relaxed) & PARKED != 0 {
            self.receiver.fetch_and(!PARKED, Ordering::Relaxed);
        }
        waited
    }

    fn park<T>(
        &self,
        deadline: Option<Instant>,
        is_over: impl Fn() -> bool,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, Ended> {
        loop {
            self.private.clear();
            let expected = self.bell.load(Ordering::Acquire);
            self.receiver.fetch_or(PARKED, Ordering::Release);
            // [parked/look] pairs with the fence in `Waker::after_publish`.
            fence(Ordering::SeqCst);
            if let Some(found) = look() {
                return Ok(found);
            }
            if is_over() || self.is_closed() {
                return look().ok_or(Ended::Closed);
            }
            let mut until = deadline;
            if !cfg!(loom) {
                let now = Instant::now();
                if deadline.is_some_and(|deadline| now >= deadline) {
                    return Err(Ended::TimedOut);
                }
                if self.sender.load(Ordering::Relaxed) & WAKES == 0 {
                    until = deadline.into_iter().chain(now.checked_add(SLICE)).min();
                }
            }
            if self.private.prepare() {
                failpoint::reached("lane receiver sleeps");
                self.sleep.on(&self.bell, expected, &self.private, until);
            }
        }
    }

    /// This end is dropped.
    pub(crate) fn close(&self) {
        self.receiver.fetch_or(CLOSED, Ordering::Release);
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
