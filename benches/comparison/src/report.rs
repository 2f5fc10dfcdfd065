//! What was measured, run by run; the ratios, the table and the file.

use crate::Result;
use crate::floors::{self, MIB};
use crate::lanes::LANE;
use crate::measure::{Group, Measured, Row, median, quantile};
use crate::ringmain::{BARE, OURS, RTRB};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write;

/// The floors measured right before and right after a visit, in nanoseconds.
#[derive(Clone, Copy)]
pub(crate) struct Around {
    pub(crate) line: [f64; 2],
    pub(crate) futex: [Option<f64>; 2],
}

impl Around {
    fn line(&self) -> f64 {
        (self.line[0] + self.line[1]) / 2.0
    }

    fn futex(&self) -> Option<f64> {
        let known: Vec<f64> = self.futex.into_iter().flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }
}

struct Sample {
    run: usize,
    mean: f64,
    around: Around,
}

#[derive(Default)]
struct Entry {
    samples: Vec<Sample>,
    singles: Vec<f64>,
    reason: Option<String>,
}

#[derive(Default)]
pub(crate) struct Book {
    rows: HashMap<Row, Entry>,
    order: Vec<Row>,
    /// Every measurement of the cache line that was made beside a visit.
    lines: Vec<f64>,
}

/// The two regimes of the machine: beyond this many nanoseconds a cache line is slow.
struct Regimes {
    border: f64,
    fast: (f64, usize),
    slow: (f64, usize),
}

/// How a row is to be read.
#[derive(Default)]
struct Ratios {
    all: Vec<f64>,
    fast: Vec<f64>,
    slow: Vec<f64>,
}

impl Group {
    fn title(self) -> &'static str {
        match self {
            Self::Floor => "Floors",
            Self::RawSpinning => "Echo of bytes, spinning",
            Self::RawSleeping => "Echo of bytes, sleeping",
            Self::RawOneWay => "Bytes one way",
            Self::InPlace => "Bytes one way, loaned, not filled, looked at where they lie",
            Self::Exchanges => "Eight exchanges with eight sleeping threads of one process",
            Self::ValueSpinning => "Call, serde_json::Value, spinning",
            Self::MixedValueSpinning => "Call, serde_json::Value, text with umlauts, spinning",
            Self::TypedSpinning => "Call, typed, spinning",
            Self::MixedTypedSpinning => "Call, typed, text with umlauts, spinning",
            Self::ValueSleeping => "Call, serde_json::Value, sleeping",
            Self::TypedSleeping => "Call, typed, sleeping",
            Self::SendOneWay => "Messages one way, typed listener",
        }
    }

    fn floor(self) -> &'static str {
        match self {
            Self::Floor => "",
            Self::RawSpinning => "cache line; above 64 B + 4 memcpys",
            Self::RawSleeping => "futex; above 64 B + 4 memcpys",
            Self::RawOneWay => "rtrb; above 4 KiB memcpy",
            Self::InPlace => "cache line",
            Self::Exchanges => "8 futexes",
            Self::ValueSpinning | Self::MixedValueSpinning => "cache line + codec (Value); above 64 B + 4 memcpys",
            Self::TypedSpinning | Self::MixedTypedSpinning => "cache line + codec (typed); above 64 B + 4 memcpys",
            Self::ValueSleeping => "futex; above 64 B + codec (Value) + 4 memcpys",
            Self::TypedSleeping => "futex; above 64 B + codec (typed) + 4 memcpys",
            Self::SendOneWay => "the slower half of the typed codec",
        }
    }
}

impl Book {
    pub(crate) fn add(&mut self, run: usize, around: Around, measured: Vec<Measured>) {
        self.lines.extend(around.line);
        for Measured { row, mean, singles } in measured {
            let entry = self.entry(row);
            match mean {
                Ok(mean) => entry.samples.push(Sample { run, mean, around }),
                Err(reason) => entry.reason = Some(reason),
            }
            entry.singles.extend(singles.into_iter().map(f64::from));
        }
    }

    pub(crate) fn fail(&mut self, row: Row, reason: String) {
        self.entry(row).reason = Some(reason);
    }

    fn entry(&mut self, row: Row) -> &mut Entry {
        if !self.rows.contains_key(&row) {
            self.order.push(row);
        }
        self.rows.entry(row).or_default()
    }

    /// What a row took in a run; its median if it is missing there.
    fn of(&self, row: Row, run: usize) -> Option<f64> {
        let samples = &self.rows.get(&row)?.samples;
        let here = samples.iter().find(|sample| sample.run == run).map(|sample| sample.mean);
        here.or_else(|| median(&mut samples.iter().map(|sample| sample.mean).collect::<Vec<_>>()))
    }

    fn floor(&self, row: Row, sample: &Sample) -> Option<f64> {
        let run = sample.run;
        let alone = |name, bytes| self.of(Row { name, group: Group::Floor, bytes }, run);
        let line = sample.around.line();
        let futex = || sample.around.futex().or_else(|| alone(floors::FUTEX, 0));
        let big = row.bytes > 64;
        let copies = if big { 4.0 * alone(floors::MEMCPY, row.bytes)? } else { 0.0 };
        let codec = |name| alone(name, row.bytes);
        Some(match row.group {
            Group::Floor => sample.mean,
            Group::RawSpinning => line + copies,
            Group::RawSleeping => futex()? + copies,
            Group::RawOneWay if row.bytes > 4096 => alone(floors::MEMCPY, row.bytes)?,
            Group::InPlace => line,
            Group::Exchanges => 8.0 * futex()?,
            Group::RawOneWay => self.of(Row { name: RTRB, ..row }, run)?,
            Group::ValueSpinning => line + codec(floors::CODEC_VALUE)? + copies,
            Group::MixedValueSpinning => line + codec(floors::CODEC_VALUE_MIXED)? + copies,
            Group::TypedSpinning => line + codec(floors::CODEC_TYPED)? + copies,
            Group::MixedTypedSpinning => line + codec(floors::CODEC_TYPED_MIXED)? + copies,
            Group::ValueSleeping if big => futex()? + codec(floors::CODEC_VALUE)? + copies,
            Group::TypedSleeping if big => futex()? + codec(floors::CODEC_TYPED)? + copies,
            Group::ValueSleeping | Group::TypedSleeping => futex()?,
            Group::SendOneWay => codec(floors::ENCODE)?.max(codec(floors::DECODE)?),
        })
    }

    /// Two regimes are two clusters with the widest gap between them, each with at least a thirtieth of the measurements,
    /// one half as slow again as the other.
    fn regimes(&self) -> Option<Regimes> {
        let mut lines = self.lines.clone();
        lines.sort_unstable_by(f64::total_cmp);
        let least = (lines.len() / 30).max(1);
        let gap = |at: &usize| lines[*at] / lines[at - 1];
        let at = (least..=lines.len().saturating_sub(least)).max_by(|a, b| gap(a).total_cmp(&gap(b)))?;
        let border = (lines[at - 1] * lines[at]).sqrt();
        let (fast, slow) = lines.split_at_mut(at);
        let counted = |values: &mut [f64]| Some((median(values)?, values.len()));
        let regimes = Regimes { border, fast: counted(fast)?, slow: counted(slow)? };
        (regimes.slow.0 > 1.5 * regimes.fast.0).then_some(regimes)
    }

    /// Runs in which the regime changed between the two floors are left out.
    fn ratios(&self, row: Row, regimes: Option<&Regimes>) -> Ratios {
        let mut ratios = Ratios::default();
        for sample in &self.rows[&row].samples {
            let Some(floor) = self.floor(row, sample) else { continue };
            let ratio = sample.mean / floor;
            if let Some(regimes) = regimes {
                match sample.around.line.map(|line| line > regimes.border) {
                    [false, false] => ratios.fast.push(ratio),
                    [true, true] => ratios.slow.push(ratio),
                    _ => continue,
                }
            }
            ratios.all.push(ratio);
        }
        ratios
    }

    /// Ours by that row, run by run.
    fn ours_by(&self, row: Row) -> Option<f64> {
        if [OURS, LANE, BARE].contains(&row.name) || row.group == Group::Floor {
            return None;
        }
        let ours = [OURS, LANE, BARE].into_iter().find_map(|name| self.rows.get(&Row { name, ..row }))?;
        let mut ratios: Vec<f64> = Vec::new();
        for sample in &ours.samples {
            let theirs = self.rows[&row].samples.iter().find(|theirs| theirs.run == sample.run);
            ratios.extend(theirs.map(|theirs| sample.mean / theirs.mean));
        }
        median(&mut ratios)
    }

    fn sorted(&self) -> Vec<Row> {
        let mut rows = self.order.clone();
        rows.sort_by_key(|row| (row.group, if row.group == Group::Floor { 0 } else { row.bytes }));
        rows
    }

    pub(crate) fn table(&self) -> Result<String> {
        let mut out = String::new();
        let regimes = self.regimes();
        let mut lines = self.lines.clone();
        match &regimes {
            Some(Regimes { border, fast, slow }) => writeln!(
                out,
                "Two regimes: a cache line there and back in {} (seen {} times) or in {} ({} times), border {}.",
                time(fast.0),
                fast.1,
                time(slow.0),
                slow.1,
                time(*border)
            )?,
            None => writeln!(
                out,
                "One regime: a cache line there and back in {} (p10 {}, p90 {}, {} times).",
                time(median(&mut lines).unwrap_or_default()),
                time(quantile(&mut lines, 0.1).unwrap_or_default()),
                time(quantile(&mut lines, 0.9).unwrap_or_default()),
                lines.len()
            )?,
        }
        let mut group = None;
        for row in self.sorted() {
            if group != Some(row.group) {
                group = Some(row.group);
                writeln!(out, "\n{}", row.group.title())?;
                if !row.group.floor().is_empty() {
                    writeln!(out, "  floor: {}", row.group.floor())?;
                }
                write!(out, "  {:<36}{:>8}{:>10}", "", "bytes", "mean")?;
                write!(out, "{:>10}{:>10}{:>10}", "p50", "p99", "p99.9")?;
                write!(out, "{:>9}  {:<21}", "÷ floor", "p10 – p90")?;
                if regimes.is_some() {
                    write!(out, "{:>8}{:>8}", "fast", "slow")?;
                }
                writeln!(out, "{:>10}{:>6}", "ours ÷ it", "runs")?;
            }
            self.line(&mut out, row, regimes.as_ref())?;
        }
        Ok(out)
    }

    fn line(&self, out: &mut String, row: Row, regimes: Option<&Regimes>) -> Result<()> {
        let entry = &self.rows[&row];
        let bytes = match row.bytes {
            0 => String::new(),
            bytes if bytes >= MIB => format!("{} MiB", bytes / MIB),
            bytes if bytes >= 1024 => format!("{} KiB", bytes / 1024),
            bytes => format!("{bytes} B"),
        };
        write!(out, "  {:<36}{bytes:>8}", row.name)?;
        if entry.samples.is_empty() {
            writeln!(out, "  n/a: {}", entry.reason.as_deref().unwrap_or("not measured"))?;
            return Ok(());
        }
        let some = |value: Option<f64>, text: fn(f64) -> String| value.map_or("–".into(), text);
        let [mean, p50, p99, p999] = self.figures(row);
        for value in [mean, p50, p99, p999] {
            write!(out, "{:>10}", some(value, time))?;
        }
        let Ratios { mut all, mut fast, mut slow } = self.ratios(row, regimes);
        let two = |value: f64| if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
        if row.group == Group::Floor {
            let mut means: Vec<f64> = entry.samples.iter().map(|sample| sample.mean).collect();
            let (low, high) = (quantile(&mut means, 0.1), quantile(&mut means, 0.9));
            write!(out, "{:>9}  {:<21}", "", format!("{} – {}", some(low, time), some(high, time)))?;
        } else {
            let spread = format!("{} – {}", some(quantile(&mut all, 0.1), two), some(quantile(&mut all, 0.9), two));
            write!(out, "{:>9}  {spread:<21}", some(median(&mut all), two))?;
        }
        if regimes.is_some() {
            let blank = row.group == Group::Floor;
            for ratios in [&mut fast, &mut slow] {
                write!(out, "{:>8}", if blank { String::new() } else { some(median(ratios), two) })?;
            }
        }
        let ours = self.ours_by(row).map_or(String::new(), two);
        write!(out, "{ours:>10}{:>6}", entry.samples.len())?;
        if let Some(reason) = &entry.reason {
            write!(out, "  (once n/a: {reason})")?;
        }
        writeln!(out)?;
        Ok(())
    }

    /// Mean, p50, p99, p99.9; percentiles only where there are single rounds enough.
    fn figures(&self, row: Row) -> [Option<f64>; 4] {
        let entry = &self.rows[&row];
        let mut singles = entry.singles.clone();
        let mean = median(&mut entry.samples.iter().map(|sample| sample.mean).collect::<Vec<_>>());
        let mut percentile = |share, least| if singles.len() >= least { quantile(&mut singles, share) } else { None };
        [mean, percentile(0.5, 1), percentile(0.99, 100), percentile(0.999, 1000)]
    }

    pub(crate) fn json(&self) -> Value {
        let regimes = self.regimes();
        let rows = self.sorted().into_iter().map(|row| {
            let [mean, p50, p99, p999] = self.figures(row).map(|value| value.map(rounded));
            let ratio = median(&mut self.ratios(row, regimes.as_ref()).all).map(rounded);
            let mut object = json!({
                "name": row.name,
                "group": row.group.title(),
                "bytes": row.bytes,
                "mean_ns": mean,
                "p50_ns": p50,
                "p99_ns": p99,
                "p999_ns": p999,
                "ratio_to_floor": ratio,
            });
            let entry = &self.rows[&row];
            if let (true, Some(reason)) = (entry.samples.is_empty(), &entry.reason) {
                object["reason"] = reason.as_str().into();
            }
            object
        });
        rows.collect()
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 10.0 => format!("{ns:.2} ns"),
        ns if ns < 1_000.0 => format!("{ns:.0} ns"),
        ns if ns < 100_000.0 => format!("{:.2} µs", ns / 1e3),
        ns if ns < 1_000_000.0 => format!("{:.0} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}
