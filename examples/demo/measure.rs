//! Round trips, as the calling renderer sees them.

use crate::PATIENCE;
use crate::failure::Failure;
use ringmain::{IpcRenderer, Wait};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Bytes of the string that is sent and returned.
pub(crate) const SIZES: [usize; 3] = [64, 4 << 10, 1 << 20];

/// A row takes as long, however fast or busy the machine is.
fn row_time(size: usize) -> Duration {
    Duration::from_millis(if size < 1 << 20 { 1000 } else { 2000 })
}

/// Or has as many rounds.
const MOST_ROUNDS: usize = 1_000_000;
/// Rounds before those that count, and their time at most.
const WARM_UP: (usize, Duration) = (1000, Duration::from_millis(100));
/// How long the dispatcher may take to fall asleep again; a round after which it does not is not counted.
const ASLEEP_WITHIN: Duration = Duration::from_millis(20);

/// Columns of the histogram: two for each doubling, from 2⁸ ns to 2²⁴ ns; what lies outside is in the outermost ones.
pub(crate) const COLUMNS: usize = 32;

/// The column of a time in nanoseconds.
pub(crate) fn column(nanoseconds: f64) -> usize {
    ((nanoseconds.max(1.0).log2() - 8.0) * 2.0).clamp(0.0, (COLUMNS - 1) as f64) as usize
}

/// What was measured for one size; times in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) size: usize,
    /// Rounds that count.
    pub(crate) rounds: usize,
    /// Rounds that do not, because one side did not sleep; `None` where nobody should.
    pub(crate) discarded: Option<usize>,
    /// `None`, here and below: too few rounds to say.
    pub(crate) p50: Option<u64>,
    pub(crate) p99: Option<u64>,
    pub(crate) p999: Option<u64>,
    pub(crate) max: Option<u64>,
    pub(crate) histogram: Vec<u64>,
}

/// Measures every size and reports each to main.
pub(crate) fn run(ipc_renderer: &IpcRenderer, wait: Wait) -> Result<(), Failure> {
    for size in SIZES {
        let mut caller = Caller { ipc_renderer, text: "x".repeat(size) };
        let row = match wait {
            Wait::Park => parked(&mut caller)?,
            _ => spinning(&mut caller)?,
        };
        ipc_renderer.send("row", (row,))?;
    }
    Ok(())
}

struct Caller<'a> {
    ipc_renderer: &'a IpcRenderer,
    text: String,
}

impl Caller<'_> {
    /// One call, compared; how long it took.
    fn round(&mut self) -> Result<Duration, Failure> {
        let start = Instant::now();
        let echo: String = self.ipc_renderer.invoke("echo", (&self.text,)).timeout(PATIENCE).wait()?;
        let took = start.elapsed();
        if echo != self.text {
            let (sent, got) = (self.text.len(), echo.len());
            return Err(format!("the echo of {sent} bytes differs from what was sent; it has {got} bytes").into());
        }
        Ok(took)
    }

    fn warm_up(&mut self) -> Result<(), Failure> {
        let (rounds, time) = WARM_UP;
        let until = Instant::now() + time;
        for _ in 0..rounds {
            self.round()?;
            if Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }
}

fn spinning(caller: &mut Caller<'_>) -> Result<Row, Failure> {
    caller.warm_up()?;
    let mut times = Vec::new();
    let until = Instant::now() + row_time(caller.text.len());
    while times.is_empty() || (times.len() < MOST_ROUNDS && Instant::now() < until) {
        times.push(caller.round()?.as_nanos() as u64);
    }
    Ok(row(caller.text.len(), times, None))
}

/// Only rounds in which both threads slept: the dispatcher before the call came and again after it, the caller while it
/// waited.
fn parked(caller: &mut Caller<'_>) -> Result<Row, Failure> {
    let mut own = Sleeps::of(std::process::id(), rustix::thread::gettid().as_raw_nonzero().get())?;
    let (main, dispatcher) = caller.ipc_renderer.invoke("dispatcher", ()).timeout(PATIENCE).wait()?;
    let mut dispatcher = Sleeps::of(main, dispatcher)?;
    let name = std::fs::read_to_string(dispatcher.path.replace("/status", "/comm"))?;
    if name.trim_end() != "ringmain-disp" {
        return Err(
            format!("main's handlers run on a thread named '{}', not on its dispatcher", name.trim_end()).into()
        );
    }
    caller.warm_up()?;
    let (mut times, mut discarded) = (Vec::new(), 0);
    let until = Instant::now() + row_time(caller.text.len());
    let mut asleep = dispatcher.settle(None)?;
    while times.len() + discarded < MOST_ROUNDS && Instant::now() < until {
        let before = own.read()?.count;
        let took = caller.round()?;
        let slept = own.read()?.count > before;
        let again = dispatcher.settle(asleep)?;
        match (asleep, slept, again) {
            (Some(_), true, Some(_)) => times.push(took.as_nanos() as u64),
            _ => discarded += 1,
        }
        asleep = match again {
            Some(again) => Some(again),
            None => dispatcher.settle(None)?,
        };
    }
    Ok(row(caller.text.len(), times, Some(discarded)))
}

fn row(size: usize, mut times: Vec<u64>, discarded: Option<usize>) -> Row {
    times.sort_unstable();
    let rounds = times.len();
    // The nearest rank: the smallest time that so many of a thousand rounds do not exceed.
    let percentile = |per_mille: usize, least: usize| {
        (rounds >= least).then(|| times[(rounds * per_mille).div_ceil(1000).max(1) - 1])
    };
    let mut histogram = vec![0; COLUMNS];
    times.iter().for_each(|time| histogram[column(*time as f64)] += 1);
    Row {
        size,
        rounds,
        discarded,
        p50: percentile(500, 1),
        p99: percentile(990, 100),
        p999: percentile(999, 1000),
        max: times.last().copied(),
        histogram,
    }
}

/// The sleeps of one thread, as the kernel counts them.
struct Sleeps {
    path: String,
    status: File,
    buffer: Vec<u8>,
}

#[derive(PartialEq)]
struct Seen {
    asleep: bool,
    /// How often it has given its core away of its own accord.
    count: u64,
}

impl Sleeps {
    fn of(process: u32, thread: i32) -> Result<Self, Failure> {
        let path = format!("/proc/{process}/task/{thread}/status");
        let status = File::open(&path).map_err(|error| format!("cannot open {path}: {error}"))?;
        Ok(Self { path, status, buffer: vec![0; 4096] })
    }

    fn read(&mut self) -> Result<Seen, Failure> {
        // Each read from the beginning has the kernel write the file anew.
        let len = self.status.read_at(&mut self.buffer, 0)?;
        let text = String::from_utf8_lossy(&self.buffer[..len]);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let state = field("State:").ok_or_else(|| format!("{} has no State", self.path))?;
        let count = field("voluntary_ctxt_switches:").and_then(|count| count.parse().ok());
        let count = count.ok_or_else(|| format!("{} has no voluntary_ctxt_switches", self.path))?;
        Ok(Seen { asleep: state.starts_with('S'), count })
    }

    /// Waits until the thread sleeps, once more than it had at `earlier`; `None` if it does not. Seen twice, because a
    /// thread that is about to sleep is shown as asleep a moment before it is counted.
    fn settle(&mut self, earlier: Option<u64>) -> Result<Option<u64>, Failure> {
        let until = Instant::now() + ASLEEP_WITHIN;
        let mut last = self.read()?;
        loop {
            let seen = self.read()?;
            if seen.asleep && seen == last && earlier.is_none_or(|earlier| seen.count > earlier) {
                return Ok(Some(seen.count));
            }
            last = seen;
            if Instant::now() >= until {
                return Ok(None);
            }
            std::thread::yield_now(); // on one core it cannot fall asleep while we look
        }
    }
}
