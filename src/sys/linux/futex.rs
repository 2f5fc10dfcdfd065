//! Sleeping on words: one, or a shared and a private one at once.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec, WaitFlags, WaitPtr, WaitvFlags};
use rustix::time::{ClockId, clock_gettime};

use crate::sys::{Scope, Wake};

/// How long a private wake-up may go unnoticed where `futex_waitv` is refused.
const SLICE: Duration = Duration::from_millis(50);

/// Sleeps while the word holds `expected`, until a wake-up or for `timeout`.
///
/// An error that only a vanished page explains is reported as `Woken`: whoever counts wake-ups for
/// nothing gives up the word.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, scope: Scope, timeout: Option<Duration>) -> Wake {
    // What does not fit 64 bits of seconds is for ever.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    outcome(futex::wait(word, flags(scope), expected, timeout.as_ref()))
}

/// Wakes at most `n` sleepers and says how many there were.
pub(crate) fn futex_wake(word: &AtomicU32, scope: Scope, n: u32) -> usize {
    futex::wake(word, flags(scope), n.min(i32::MAX as u32)).unwrap_or(0)
}

fn flags(scope: Scope) -> Flags {
    match scope {
        Scope::Shared => Flags::empty(),
        Scope::Private => Flags::PRIVATE,
    }
}

fn outcome<T>(result: Result<T, Errno>) -> Wake {
    match result {
        Err(Errno::AGAIN) => Wake::ValueChanged,
        Err(Errno::TIMEDOUT) => Wake::TimedOut,
        Err(Errno::INTR) => Wake::Interrupted,
        Ok(_) | Err(_) => Wake::Woken,
    }
}

/// The ability to sleep on a word that a peer can reach and on one that it cannot, at once.
///
/// Where the kernel or a filter refuses `futex_waitv`, the sleep is on the shared word alone, in
/// slices after which the private one is looked at: so the private word must change before it is
/// woken, and may be noticed late.
#[derive(Debug)]
pub(crate) struct WaitTwo {
    refused: AtomicBool,
}

impl WaitTwo {
    /// Asks the kernel by a wait that returns at once.
    pub(crate) fn probe() -> Self {
        let (a, b) = (AtomicU32::new(0), AtomicU32::new(0));
        let answer = waitv((&a, 1), (&b, 1), None);
        Self { refused: AtomicBool::new(answer != Err(Errno::AGAIN)) }
    }

    #[cfg(test)]
    pub(crate) fn refused() -> Self {
        Self { refused: AtomicBool::new(true) }
    }

    /// Whether a private wake-up is noticed at once. It may become false: a sandbox can come later.
    pub(crate) fn is_prompt(&self) -> bool {
        !self.refused.load(Ordering::Relaxed)
    }

    /// Sleeps while both words hold what is expected.
    pub(crate) fn wait(
        &self,
        shared: (&AtomicU32, u32),
        private: (&AtomicU32, u32),
        timeout: Option<Duration>,
    ) -> Wake {
        if self.is_prompt() {
            match waitv(shared, private, timeout) {
                Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => {
                    self.refused.store(true, Ordering::Relaxed);
                }
                result => return outcome(result),
            }
        }
        wait_in_slices(shared, private, timeout)
    }
}

fn waitv(shared: (&AtomicU32, u32), private: (&AtomicU32, u32), timeout: Option<Duration>) -> Result<usize, Errno> {
    let entry = |(word, expected): (&AtomicU32, u32), scope| {
        let mut entry = futex::Wait::new();
        entry.val = u64::from(expected);
        entry.uaddr = WaitPtr::new(word.as_ptr().cast());
        entry.flags = WaitFlags::SIZE_U32 | scope;
        entry
    };
    let entries = [entry(shared, WaitFlags::empty()), entry(private, WaitFlags::PRIVATE)];
    let deadline = timeout
        .and_then(|timeout| Timespec::try_from(timeout).ok())
        .and_then(|timeout| clock_gettime(ClockId::Monotonic).checked_add(timeout));
    futex::waitv(&entries, WaitvFlags::empty(), deadline.as_ref(), ClockId::Monotonic)
}

fn wait_in_slices(shared: (&AtomicU32, u32), private: (&AtomicU32, u32), timeout: Option<Duration>) -> Wake {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        if [shared, private].iter().any(|(word, expected)| word.load(Ordering::Acquire) != *expected) {
            return Wake::ValueChanged;
        }
        let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Wake::TimedOut;
        }
        match futex_wait(shared.0, shared.1, Scope::Shared, Some(left.min(SLICE))) {
            Wake::TimedOut => {}
            wake => return wake,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::thread;

    /// Wakes until somebody was asleep there.
    fn wake_one(word: &AtomicU32, scope: Scope) {
        let end = Instant::now() + Duration::from_secs(30);
        while futex_wake(word, scope, 1) == 0 {
            assert!(Instant::now() < end, "nobody sleeps there");
            thread::yield_now();
        }
    }

    #[test]
    fn a_sleeper_is_woken_in_both_scopes() {
        for scope in [Scope::Shared, Scope::Private] {
            let word = Arc::new(AtomicU32::new(5));
            let sleeper = thread::spawn({
                let word = Arc::clone(&word);
                move || futex_wait(&word, 5, scope, None)
            });
            wake_one(&word, scope);
            assert_eq!(sleeper.join().expect("join"), Wake::Woken);
        }
    }

    #[test]
    fn a_changed_value_and_a_passed_timeout_return_at_once() {
        let word = AtomicU32::new(1);
        for scope in [Scope::Shared, Scope::Private] {
            assert_eq!(futex_wait(&word, 0, scope, None), Wake::ValueChanged);
            assert_eq!(futex_wait(&word, 0, scope, Some(Duration::MAX)), Wake::ValueChanged);
            assert_eq!(futex_wait(&word, 1, scope, Some(Duration::ZERO)), Wake::TimedOut);
            assert_eq!(futex_wait(&word, 1, scope, Some(Duration::from_nanos(1))), Wake::TimedOut);
            assert_eq!(futex_wake(&word, scope, u32::MAX), 0);
        }
    }

    #[test]
    fn all_sleepers_are_woken_by_one_call() {
        let word = Arc::new(AtomicU32::new(0));
        let sleepers: Vec<_> = (0..3)
            .map(|_| {
                let word = Arc::clone(&word);
                thread::spawn(move || futex_wait(&word, 0, Scope::Private, None))
            })
            .collect();
        let mut woken = 0;
        while woken < 3 {
            woken += futex_wake(&word, Scope::Private, u32::MAX);
            thread::yield_now();
        }
        for sleeper in sleepers {
            assert_eq!(sleeper.join().expect("join"), Wake::Woken);
        }
    }

    #[test]
    fn a_signal_interrupts_the_sleep() {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: a handler that does nothing, installed without SA_RESTART, for a signal that
        // nothing else here uses.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        }
        let (tell, told) = mpsc::channel();
        let sleeper = thread::spawn(move || {
            // SAFETY: the calling thread's own handle.
            tell.send(unsafe { libc::pthread_self() }).expect("send");
            let (word, pair) = (AtomicU32::new(0), WaitTwo::probe());
            let (shared, private) = ((&word, 0), (&word, 0));
            let first = loop {
                match futex_wait(&word, 0, Scope::Private, None) {
                    Wake::Woken => {}
                    wake => break wake,
                }
            };
            let wakes = [first, pair.wait(shared, private, None)];
            (wakes, tell)
        });
        let thread = told.recv().expect("id");
        while !sleeper.is_finished() {
            // SAFETY: the thread is not joined before the loop ends, so its handle is valid.
            unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
            thread::yield_now();
        }
        assert_eq!(sleeper.join().expect("join").0, [Wake::Interrupted; 2]);
    }

    #[test]
    fn either_word_ends_the_double_sleep() {
        for pair in [WaitTwo::probe(), WaitTwo::refused()] {
            let native = pair.is_prompt();
            for ring_private in [false, true] {
                let words = Arc::new((AtomicU32::new(1), AtomicU32::new(2)));
                let pair = WaitTwo { refused: AtomicBool::new(!native) };
                let sleeper = thread::spawn({
                    let words = Arc::clone(&words);
                    move || {
                        // A spurious return is allowed; a lost one is not.
                        while words.0.load(Ordering::Acquire) == 1 && words.1.load(Ordering::Acquire) == 2 {
                            pair.wait((&words.0, 1), (&words.1, 2), None);
                        }
                    }
                });
                let (word, scope) = if ring_private { (&words.1, Scope::Private) } else { (&words.0, Scope::Shared) };
                if native {
                    wake_one(word, scope);
                }
                word.fetch_add(1, Ordering::Release);
                futex_wake(word, scope, 1);
                sleeper.join().expect("join");
            }
        }
    }

    #[test]
    fn the_double_sleep_sees_changes_and_timeouts_in_both_forms() {
        let (a, b) = (AtomicU32::new(1), AtomicU32::new(2));
        for pair in [WaitTwo::probe(), WaitTwo::refused()] {
            assert_eq!(pair.wait((&a, 0), (&b, 2), None), Wake::ValueChanged);
            assert_eq!(pair.wait((&a, 1), (&b, 0), Some(Duration::MAX)), Wake::ValueChanged);
            for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(60)] {
                assert_eq!(pair.wait((&a, 1), (&b, 2), Some(timeout)), Wake::TimedOut);
            }
        }
    }

    #[test]
    fn a_sleeper_moved_away_by_a_peer_is_still_reached_through_its_private_word() {
        let pair = WaitTwo::probe();
        if !pair.is_prompt() {
            return; // The sliced form is covered by `either_word_ends_the_double_sleep`.
        }
        let words = Arc::new((AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)));
        let sleeper = thread::spawn({
            let words = Arc::clone(&words);
            move || pair.wait((&words.0, 0), (&words.1, 0), None)
        });
        while futex::requeue(&words.0, Flags::empty(), 0, 1, &words.2).expect("requeue") == 0 {
            thread::yield_now();
        }
        assert_eq!(futex_wake(&words.0, Scope::Shared, 1), 0);
        // The kernel queues a sleeper at its shared word first.
        wake_one(&words.1, Scope::Private);
        assert_eq!(sleeper.join().expect("join"), Wake::Woken);
    }
}
