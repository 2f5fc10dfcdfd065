//! A thread that has deadlines: when its blocks are due, its class, its times.

use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Frames a second.
pub(crate) const RATE: u64 = 48_000;

/// When a sound card would ask for which block.
pub(crate) struct Schedule {
    start: Instant,
    frames: u64,
}

impl Schedule {
    pub(crate) fn new(frames: usize) -> Self {
        Self { start: Instant::now() + Duration::from_millis(10), frames: frames as u64 }
    }

    /// When a block may begin; that of the next one is its deadline.
    pub(crate) fn due(&self, block: u64) -> Instant {
        let frames = block * self.frames;
        self.start + Duration::new(frames / RATE, (frames % RATE * 1_000_000_000 / RATE) as u32)
    }

    /// How long a block is.
    pub(crate) fn period(&self) -> Duration {
        self.due(1) - self.start
    }

    /// The next block, if this one has ended at `end`. If that was too late, it is the first one that can still begin in time, as
    /// after a sound card has run dry: each miss stands for itself.
    pub(crate) fn after(&self, block: u64, end: Instant) -> u64 {
        let mut next = block + 1;
        if end > self.due(next) {
            while self.due(next) < end {
                next += 1;
            }
        }
        next
    }
}

/// Sleeps, as a thread does that waits for a sound card.
pub(crate) fn sleep_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// Gives the calling thread a real-time class, if the system permits; what it has then.
pub(crate) fn become_real_time() -> String {
    // SAFETY: zeros are a legal value of this plain struct, filled in and given for the calling thread.
    #[allow(unsafe_code)]
    let refused = unsafe {
        let mut param: libc::sched_param = std::mem::zeroed();
        param.sched_priority = 10;
        libc::pthread_setschedparam(libc::pthread_self(), libc::SCHED_FIFO, &raw const param)
    };
    match refused {
        0 => "SCHED_FIFO".into(),
        number => format!("an ordinary class (SCHED_FIFO: {})", std::io::Error::from_raw_os_error(number)),
    }
}

/// Page faults of the calling thread so far. Not for a thread that is to meet a deadline.
pub(crate) fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    // Behind the name: minor faults are the 8th field, major ones the 10th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    [7, 9].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum()
}

/// Durations, in memory that is there before the first of them.
#[derive(Default)]
pub(crate) struct Times(Vec<u32>);

impl Times {
    /// Room for so many; more are not taken.
    pub(crate) fn new(most: usize) -> Self {
        // Not zeros, whose pages would come with the first write.
        let mut nanoseconds = vec![1; most];
        nanoseconds.clear();
        Self(nanoseconds)
    }

    pub(crate) fn push(&mut self, time: Duration) {
        if self.0.len() < self.0.capacity() {
            self.0.push(time.as_nanos().try_into().unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn spread(mut self) -> Spread {
        self.0.sort_unstable();
        let at = |part: f64| {
            let index = (self.0.len().saturating_sub(1) as f64 * part).ceil() as usize;
            self.0.get(index).map_or(0.0, |time| f64::from(*time) / 1e3)
        };
        Spread { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

/// How durations are spread, in microseconds.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn print_head() {
        println!("{:34}{:>12}{:>12}{:>12}{:>12}", "", "p50", "p99", "p99.9", "max");
    }

    /// In microseconds.
    pub(crate) fn print(&self, name: &str) {
        let Self { p50, p99, p999, max } = self;
        println!("  {name:32}{p50:>9.2} µs{p99:>9.2} µs{p999:>9.2} µs{max:>9.2} µs");
    }

    /// As shares of `whole`.
    pub(crate) fn print_shares(&self, name: &str, whole: Duration) {
        let [p50, p99, p999, max] =
            [self.p50, self.p99, self.p999, self.max].map(|time| time / whole.as_secs_f64() / 1e4);
        println!("  {name:32}{p50:>10.3} %{p99:>10.3} %{p999:>10.3} %{max:>10.3} %");
    }
}
