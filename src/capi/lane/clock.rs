//! The clock of deadlines.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// The monotonic clock in nanoseconds.
fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: may be written; it cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// One moment on the clock of the callers and on that of [`Instant`], which are the same clock on Linux.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    nanoseconds: u64,
    instant: Instant,
}

impl Clock {
    /// The closest pair of a few: a thread may be interrupted between the two.
    pub(super) fn new() -> Self {
        let read = || {
            let (nanoseconds, instant) = (now(), Instant::now());
            (now().saturating_sub(nanoseconds), Self { nanoseconds, instant })
        };
        let (mut width, mut clock) = read();
        for _ in 0..8 {
            let (other, read) = read();
            if other < width {
                (width, clock) = (other, read);
            }
        }
        clock
    }

    /// A deadline of the caller's. One before this clock was made is over as well as this moment is.
    #[inline]
    pub(super) fn instant(&self, deadline_ns: u64) -> Instant {
        let ahead = Duration::from_nanos(deadline_ns.saturating_sub(self.nanoseconds));
        self.instant.checked_add(ahead).unwrap_or(self.instant)
    }
}

/// The monotonic clock in nanoseconds, by which deadlines are said: `CLOCK_MONOTONIC`, C++'s `std::chrono::steady_clock`. A
/// deadline 2 ms from now is `ringmain_now() + 2 * RINGMAIN_MILLISECOND`.
///
/// Thread-safe: yes
/// Realtime-safe: yes, where `clock_gettime` is: it makes a system call on virtual machines whose clock is not mapped
#[unsafe(no_mangle)]
pub extern "C" fn ringmain_now() -> u64 {
    now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early_and_none_overflows() {
        let clock = Clock::new();
        let (before, ahead) = (Instant::now(), now() + 1_000_000);
        assert!(clock.instant(ahead) >= before + Duration::from_millis(1));
        assert_eq!(clock.instant(0), clock.instant);
        assert!(clock.instant(u64::MAX) >= before + Duration::from_secs(3600));
    }
}
