//! Rounds in which threads slept, as the kernel counts it: a round trip that found the other side awake is none of a
//! parked pair.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How long the other thread may take to fall asleep again; a round after which it does not is not counted.
const ASLEEP_WITHIN: Duration = Duration::from_millis(20);

/// The sleeps of one thread.
struct Sleeps {
    path: String,
    status: File,
    buffer: Vec<u8>,
}

#[derive(PartialEq)]
struct Seen {
    is_asleep: bool,
    /// How often it has given its core away of its own accord.
    count: u64,
}

impl Sleeps {
    fn of(process: u32, thread: i32) -> Self {
        let path = format!("/proc/{process}/task/{thread}/status");
        let status = File::open(&path).unwrap_or_else(|error| panic!("cannot open {path}: {error}"));
        Self { path, status, buffer: vec![0; 4096] }
    }

    fn read(&mut self) -> Seen {
        // Each read from the beginning has the kernel write the file anew.
        let len = self.status.read_at(&mut self.buffer, 0).expect("the state of a thread that lives");
        let text = String::from_utf8_lossy(&self.buffer[..len]);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let (state, count) = (field("State:"), field("voluntary_ctxt_switches:"));
        let count = count.and_then(|count| count.parse().ok());
        match (state, count) {
            (Some(state), Some(count)) => Seen { is_asleep: state.starts_with('S'), count },
            _ => panic!("{} does not say whether and how often its thread has slept", self.path),
        }
    }

    /// Waits until the thread sleeps, once more than it had at `earlier`; `None` if it does not. Seen twice, because a
    /// thread that is about to sleep is shown as asleep a moment before it is counted.
    fn settle(&mut self, earlier: Option<u64>) -> Option<u64> {
        let until = Instant::now() + ASLEEP_WITHIN;
        let mut last = self.read();
        loop {
            let seen = self.read();
            if seen.is_asleep && seen == last && earlier.is_none_or(|earlier| seen.count > earlier) {
                return Some(seen.count);
            }
            last = seen;
            if Instant::now() >= until {
                return None;
            }
            std::thread::yield_now(); // on one core it cannot fall asleep while we look
        }
    }
}

/// The calling thread and one that it wakes.
pub(crate) struct Sleepers {
    own: Sleeps,
    other: Sleeps,
}

impl Sleepers {
    /// The calling thread and another one.
    pub(crate) fn with(process: u32, thread: i32) -> Self {
        let own = Sleeps::of(std::process::id(), rustix::thread::gettid().as_raw_nonzero().get());
        Self { own, other: Sleeps::of(process, thread) }
    }

    /// Does `round`s until `count` of them count, and says what those took: the other thread slept before and again after
    /// it, and this one, if it `sleeps` at all, meanwhile.
    pub(crate) fn rounds(&mut self, count: u64, sleeps: bool, mut round: impl FnMut()) -> Duration {
        let (mut total, mut counted, mut discarded) = (Duration::ZERO, 0, 0);
        let mut asleep = self.other.settle(None);
        while counted < count {
            let before = self.own.read().count;
            let start = Instant::now();
            round();
            let took = start.elapsed();
            let has_slept = !sleeps || self.own.read().count > before;
            let again = self.other.settle(asleep);
            if asleep.is_some() && has_slept && again.is_some() {
                total += took;
                counted += 1;
            } else {
                discarded += 1;
                assert!(discarded <= 1000 + 20 * count, "of {} rounds only {counted} slept", counted + discarded);
            }
            asleep = again.or_else(|| self.other.settle(None));
        }
        total
    }
}
