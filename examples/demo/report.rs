//! What the demo prints.

use crate::measure::{COLUMNS, Row, column};
use std::io::IsTerminal;
use std::time::Duration;

fn styled(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
}

pub(crate) fn section(title: &str) {
    println!("\n{}", styled("1", title));
}

pub(crate) fn check(what: &str) {
    println!("  {} {what}", styled("32", "✓"));
}

/// A duration for people: three digits and a unit.
pub(crate) fn time(duration: Duration) -> String {
    let microseconds = duration.as_secs_f64() * 1e6;
    match microseconds {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        (0..digits.len()).rev().step_by(3).map(|end| &digits[end.saturating_sub(2)..=end]).collect();
    groups.into_iter().rev().collect::<Vec<_>>().join(" ")
}

pub(crate) fn table_head() {
    let (what, rounds, shape) = ("", "rounds", "distribution");
    let head = format!("  {what:<13}{rounds:>11}{:>9}{:>9}{:>9}{:>9}   {shape}", "p50", "p99", "p99.9", "max");
    println!("{}", styled("2", &head));
}

pub(crate) fn table_row(wait: &str, row: &Row) {
    let size = match row.size {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    };
    let rounds = grouped(row.rounds);
    let [p50, p99, p999, max] =
        [row.p50, row.p99, row.p999, row.max].map(|time| time.map_or("–".to_string(), microseconds));
    let bars = bars(&row.histogram);
    println!("  {wait:<5}{size:>8}{rounds:>11}{p50:>9}{p99:>9}{p999:>9}{max:>9}   {}", bars.trim_end());
}

/// The axis under the histograms, and what the rows of parked rounds leave out.
pub(crate) fn table_foot(rows: &[Row]) {
    let mut axis = vec![' '; COLUMNS + 8];
    for (label, nanoseconds) in [("1 µs", 1e3), ("10", 1e4), ("100", 1e5), ("1 ms", 1e6), ("10", 1e7)] {
        for (offset, char) in format!("╵{label}").chars().enumerate() {
            axis[column(nanoseconds) + offset] = char;
        }
    }
    let axis: String = axis.into_iter().collect();
    println!("{}", styled("2", &format!("  {:63}{}", "", axis.trim_end())));
    let parked = rows.iter().filter_map(|row| Some((row.rounds, row.rounds + row.discarded?)));
    let (slept, all) = parked.fold((0, 0), |(slept, all), row| (slept + row.0, all + row.1));
    println!(
        "  park counts only rounds in which caller and dispatcher both slept: {} of {}",
        grouped(slept),
        grouped(all)
    );
    if slept * 2 < all {
        println!("  (where both share a core, the one that is woken answers before the other falls asleep)");
    }
    let is_starved = |row: &Row| row.discarded.is_none() && row.p50.is_some_and(|p50| p50 > 1_000_000);
    if rows.iter().any(is_starved) {
        println!("  (no two cores were free: whoever spins takes the core that its answer needs)");
    }
}

fn microseconds(nanoseconds: u64) -> String {
    match nanoseconds as f64 / 1e3 {
        us if us < 10.0 => format!("{us:.2}"),
        us if us < 1000.0 => format!("{us:.1}"),
        us => grouped(us.round() as usize),
    }
}

/// One column of blocks for each count: as high as its share of the highest, and never nothing for what is there.
fn bars(counts: &[u64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let bar = |count: u64| match count {
        0 => ' ',
        count => BLOCKS[((count * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
    };
    counts.iter().map(|count| bar(*count)).collect()
}
