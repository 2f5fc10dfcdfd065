//! Means from batches of rounds, percentiles from single rounds, and the rule for rounds in which both sides must sleep.

use crate::Result;
use crate::pair::Pair;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Rounds per reading of the clock, unless that takes too short or too long a time.
pub(crate) const BATCH: usize = 100;
const SHORTEST_BATCH: Duration = Duration::from_micros(10);
const LONGEST_BATCH: Duration = Duration::from_millis(5);
/// Share of a batch's rounds in which each side must have slept.
const ASLEEP_SHARE: f64 = 0.9;
/// How long the peer may take to fall asleep before a single round.
const ASLEEP_WITHIN: Duration = Duration::from_millis(20);
/// Single rounds kept per visit.
const MOST_SINGLES: usize = 20_000;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a row may take in one run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) runs: usize,
    pub(crate) warm_up: Duration,
    pub(crate) batches: Duration,
    pub(crate) singles: Duration,
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        runs: 20,
        warm_up: Duration::from_millis(2),
        batches: Duration::from_millis(22),
        singles: Duration::from_millis(7),
    };
    pub(crate) const QUICK: Self = Self {
        runs: 3,
        warm_up: Duration::from_millis(2),
        batches: Duration::from_millis(10),
        singles: Duration::from_millis(4),
    };
}

/// Something that can be repeated. A whole batch behind one dynamic call, so that the call costs nothing.
pub(crate) trait Rounds {
    fn run(&mut self, rounds: usize) -> Result<()>;
}

impl<F: FnMut() -> Result<()>> Rounds for F {
    fn run(&mut self, rounds: usize) -> Result<()> {
        for _ in 0..rounds {
            self()?;
        }
        Ok(())
    }
}

/// What a row's rounds are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Group {
    Floor,
    RawSpinning,
    RawSleeping,
    RawOneWay,
    InPlace,
    Exchanges,
    ValueSpinning,
    MixedValueSpinning,
    TypedSpinning,
    MixedTypedSpinning,
    ValueSleeping,
    TypedSleeping,
    SendOneWay,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    pub(crate) bytes: usize,
}

/// One row in one run.
pub(crate) struct Measured {
    pub(crate) row: Row,
    /// Nanoseconds a round, or why there are none.
    pub(crate) mean: Result<f64, String>,
    pub(crate) singles: Vec<u32>,
}

/// Everything that is measured with one peer in one run.
pub(crate) struct Visit<'a> {
    pub(crate) plan: Plan,
    pub(crate) scratch: &'a Path,
    pub(crate) own_core: Option<usize>,
    pub(crate) peer_core: Option<usize>,
    pub(crate) measured: Vec<Measured>,
    /// The row at which a failure is to be shown.
    pub(crate) current: Option<Row>,
}

impl Visit<'_> {
    pub(crate) fn spawn(&self, role: &str) -> Result<Pair> {
        Pair::spawn(role, self.scratch, self.peer_core)
    }

    /// Both sides are awake.
    pub(crate) fn row(&mut self, row: Row, mut rounds: impl Rounds) -> Result<()> {
        self.current = Some(row);
        let batch = warm_up(&mut rounds, self.plan.warm_up)?;
        let mean = means(&mut rounds, batch, self.plan.batches)?;
        let mut singles = Vec::new();
        let until = Instant::now() + self.plan.singles;
        let mut start = Instant::now();
        while start < until && singles.len() < MOST_SINGLES {
            rounds.run(1)?;
            let end = Instant::now();
            singles.push((end - start).as_nanos() as u32);
            start = end;
        }
        self.measured.push(Measured { row, mean: Ok(mean), singles });
        self.current = None;
        Ok(())
    }

    /// One way: batches of a given size, whose end is known to both sides. There are no single rounds.
    pub(crate) fn rate(&mut self, row: Row, batch: usize, mut rounds: impl Rounds) -> Result<()> {
        self.current = Some(row);
        rounds.run(batch)?;
        let mean = means(&mut rounds, batch, self.plan.batches)?;
        self.measured.push(Measured { row, mean: Ok(mean), singles: Vec::new() });
        self.current = None;
        Ok(())
    }

    /// Both sides sleep. A batch counts if each side gave its core away in nine of ten rounds; a single round counts if the
    /// peer slept before it and again after it, and this thread during it.
    pub(crate) fn sleeping(&mut self, row: Row, sides: &mut Sides, mut rounds: impl Rounds) -> Result<()> {
        self.current = Some(row);
        let batch = warm_up(&mut rounds, self.plan.warm_up)?;
        let mut means = Vec::new();
        let until = Instant::now() + self.plan.batches;
        let mut others = 0;
        while Instant::now() < until || (means.is_empty() && others < 3) {
            match sides.batch(&mut rounds, batch)? {
                Some(mean) => means.push(mean),
                None => others += 1,
            }
        }
        let mut singles = Vec::new();
        let until = Instant::now() + self.plan.singles;
        let mut asleep = sides.peer.settle(None)?;
        while Instant::now() < until && singles.len() < MOST_SINGLES {
            let before = sides.own.read()?.count;
            let start = Instant::now();
            rounds.run(1)?;
            let took = start.elapsed();
            let slept = sides.own.read()?.count > before;
            let again = sides.peer.settle(asleep)?;
            if asleep.is_some() && slept && again.is_some() {
                singles.push(took.as_nanos() as u32);
            }
            asleep = again;
        }
        let mean = median(&mut means).ok_or_else(|| "in no batch did both sides sleep".to_string());
        self.measured.push(Measured { row, mean, singles });
        self.current = None;
        Ok(())
    }
}

/// Some rounds that do not count; how many make a batch.
pub(crate) fn warm_up(rounds: &mut dyn Rounds, time: Duration) -> Result<usize> {
    let start = Instant::now();
    let (mut done, mut next) = (0, 1);
    loop {
        rounds.run(next)?;
        done += next;
        if start.elapsed() >= time && done >= 3 {
            break;
        }
        next = (done / 2).clamp(1, BATCH);
    }
    let each = start.elapsed().as_nanos() as f64 / done as f64;
    let least = (SHORTEST_BATCH.as_nanos() as f64 / each).ceil() as usize;
    let most = (LONGEST_BATCH.as_nanos() as f64 / each) as usize;
    Ok(BATCH.max(least).min(most.max(1)))
}

/// The median of the means of batches.
pub(crate) fn means(rounds: &mut dyn Rounds, batch: usize, time: Duration) -> Result<f64> {
    let mut means = Vec::new();
    let begin = Instant::now();
    let mut start = begin;
    loop {
        rounds.run(batch)?;
        let end = Instant::now();
        means.push((end - start).as_nanos() as f64 / batch as f64);
        if end - begin >= time {
            break;
        }
        start = end;
    }
    median(&mut means).ok_or_else(|| "no batch".into())
}

/// The value below which such a share of the values lies (nearest rank); sorts them.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil().max(1.0) as usize;
    values.get(rank - 1).copied()
}

pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Asks until there is an answer, without a pause; fails after five seconds.
#[inline(always)]
pub(crate) fn poll<T>(mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let mut asked = 0u32;
    let mut since = None;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        asked = asked.wrapping_add(1);
        if asked.is_multiple_of(1 << 16) {
            patience(&mut since)?;
        }
    }
}

/// Asks until there is an answer, with the processor's hint between; fails after five seconds.
#[inline(always)]
pub(crate) fn spin<T>(mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    poll(|| {
        let answer = ask()?;
        if answer.is_none() {
            std::hint::spin_loop();
        }
        Ok(answer)
    })
}

/// Fails if the first call for this `since` was more than five seconds ago.
#[cold]
pub(crate) fn patience(since: &mut Option<Instant>) -> Result<()> {
    if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
        return Err("no answer within five seconds".into());
    }
    Ok(())
}

/// The two threads that must sleep.
pub(crate) struct Sides {
    own: Sleeps,
    peer: Sleeps,
}

impl Sides {
    /// This thread, and the peer's thread of that name; its main thread if none is given.
    pub(crate) fn of(pair: &Pair, thread: Option<&str>) -> Result<Self> {
        // SAFETY: no arguments, no memory.
        let own = unsafe { libc::gettid() };
        let peer = match thread {
            None => pair.id().to_string(),
            Some(name) => named(pair.id(), name)?,
        };
        Ok(Self { own: Sleeps::of("self", &own.to_string())?, peer: Sleeps::of(&pair.id().to_string(), &peer)? })
    }

    /// The mean of a batch; `None` if somebody did not sleep.
    pub(crate) fn batch(&mut self, rounds: &mut dyn Rounds, batch: usize) -> Result<Option<f64>> {
        let before = (self.own.read()?.count, self.peer.read()?.count);
        let start = Instant::now();
        rounds.run(batch)?;
        let took = start.elapsed();
        let after = (self.own.read()?.count, self.peer.read()?.count);
        // One round's sleep of the peer lies before or after the batch.
        let least = ((batch as f64 * ASLEEP_SHARE) as u64).saturating_sub(1).max(1);
        let asleep = after.0 - before.0 >= least && after.1 - before.1 >= least;
        Ok(asleep.then(|| took.as_nanos() as f64 / batch as f64))
    }
}

fn named(process: u32, name: &str) -> Result<String> {
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?;
        if std::fs::read_to_string(task.path().join("comm"))?.trim_end() == name {
            return Ok(task.file_name().to_string_lossy().into_owned());
        }
    }
    Err(format!("the peer has no thread named {name}").into())
}

/// The sleeps of one thread, as the kernel counts them.
struct Sleeps {
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
    fn of(process: &str, thread: &str) -> Result<Self> {
        let status = File::open(format!("/proc/{process}/task/{thread}/status"))?;
        Ok(Self { status, buffer: vec![0; 4096] })
    }

    fn read(&mut self) -> Result<Seen> {
        // Each read from the beginning has the kernel write the file anew.
        let len = self.status.read_at(&mut self.buffer, 0)?;
        let text = String::from_utf8_lossy(&self.buffer[..len]);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let count = field("voluntary_ctxt_switches:").ok_or("no voluntary_ctxt_switches")?.parse()?;
        Ok(Seen { asleep: field("State:").is_some_and(|state| state.starts_with('S')), count })
    }

    /// Waits until the thread sleeps, once more than it had at `earlier`; `None` if it does not. Seen twice, because a
    /// thread that is about to sleep is shown as asleep a moment before it is counted.
    fn settle(&mut self, earlier: Option<u64>) -> Result<Option<u64>> {
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
        }
    }
}
