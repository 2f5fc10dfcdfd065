//! What is shown while it runs and at the end, and the thread that notices if main itself hangs.

use super::census::{self, Census};
use super::counts::{Counts, Event, KINDS, Sum};
use super::world::{Birth, Faults};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the main process counts beside messages.
#[derive(Default)]
pub(crate) struct Board {
    pub(crate) counts: Arc<Counts>,
    /// Of processes that have ended.
    pub(crate) past: Mutex<Sum>,
    pub(crate) running: Mutex<Vec<Arc<Birth>>>,
    pub(crate) act: AtomicU64,
    pub(crate) started: AtomicU64,
    pub(crate) connected: AtomicU64,
    pub(crate) kills: AtomicU64,
    pub(crate) stops: AtomicU64,
    pub(crate) closes: AtomicU64,
    pub(crate) leaves: AtomicU64,
    pub(crate) dropped: AtomicU64,
    /// How long a call of main took at most to end after its renderer's death, in microseconds.
    pub(crate) slowest_end: AtomicU64,
    /// Of each thread of main that must not hang.
    pub(crate) beats: [AtomicU64; super::DRIVERS as usize + 1],
    pub(crate) is_driving: AtomicBool,
}

impl Board {
    pub(crate) fn sum(&self) -> Sum {
        // The lock is held until both are read: a process that ends meanwhile is counted once.
        let running = self.running.lock().unwrap();
        let mut sum = self.past.lock().unwrap().clone();
        sum.add(&self.counts.sum());
        running.iter().for_each(|birth| sum.add(&birth.journal.counted()));
        sum
    }

    pub(crate) fn get(&self, of: &AtomicU64) -> u64 {
        of.load(Ordering::Relaxed)
    }

    fn line(&self, since: Instant, acts: u64) -> String {
        let (sum, [sent, received, answered]) = (self.sum(), self.sum().total());
        format!(
            "{:4.0} s  act {}/{acts}  {} renderers  sent {}  received and checked {}  answers checked {}  kills {}  \
             starts {}  stops {}  refused {}  {} MiB",
            since.elapsed().as_secs_f64(),
            self.get(&self.act) + 1,
            self.running.lock().unwrap().len(),
            grouped(sent),
            grouped(received),
            grouped(answered),
            self.get(&self.kills),
            self.get(&self.started),
            self.get(&self.stops),
            grouped(sum.event(Event::Refused)),
            census::rss_kib() >> 10,
        )
    }
}

/// Shows a line each second, until it is told to stop.
pub(crate) fn watch(board: &Board, faults: &Faults, acts: u64, patience: Duration, stop: &AtomicBool) {
    let since = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let mut seen: Vec<(u64, Instant)> = board.beats.iter().map(|_| (0, since)).collect();
    let mut next = since + Duration::from_secs(1);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
        for (index, (beat, seen)) in board.beats.iter().zip(&mut seen).enumerate() {
            let beat = board.get(beat);
            let idle = index > 0 && !board.is_driving.load(Ordering::Relaxed);
            if beat != seen.0 || idle {
                *seen = (beat, Instant::now());
            }
            // Twice as long as any wait of theirs.
            if seen.1.elapsed() > patience * 2 {
                let name = if index == 0 { "starts and kills".into() } else { format!("sends (lane {})", index - 1) };
                faults.add(format!("the thread of main that {name} hangs"));
                if seen.1.elapsed() > patience * 3 {
                    // It does not come back to say so. Our children do not outlive us.
                    eprintln!("\n{}", faults.first().unwrap_or_default());
                    std::process::exit(1);
                }
            }
        }
        if Instant::now() >= next {
            next += Duration::from_secs(1);
            let line = board.line(since, acts);
            let _ = match is_terminal {
                true => write!(std::io::stderr(), "\r\x1b[K{line}"),
                false => writeln!(std::io::stderr(), "{line}"),
            };
        }
    }
    if is_terminal {
        let _ = writeln!(std::io::stderr());
    }
}

/// The table at the end.
pub(crate) fn summary(board: &Board, acts: u64, took: Duration, [first, last]: &[Census; 2]) -> String {
    let sum = board.sum();
    let mut lines = vec![format!("{:30} {:>12} {:>12} {:>12}", "messages", "sent", "received", "answered")];
    let row = |name: &str, [sent, received, answered]: [u64; 3], is_call: bool| {
        let answered = if is_call { grouped(answered) } else { "–".into() };
        format!("{name:30} {:>12} {:>12} {answered:>12}", grouped(sent), grouped(received))
    };
    lines.extend(KINDS.iter().enumerate().map(|(kind, (name, is_call))| row(name, sum.of(kind), *is_call)));
    lines.push(row("together", sum.total(), true));
    lines.push("every one that was received and every answer was checked".into());
    lines.push(String::new());
    let event = |event| grouped(sum.event(event));
    let of = |count| grouped(board.get(count));
    lines.push(format!("bytes of content               {:>12} MiB", grouped(sum.event(Event::Bytes) >> 20)));
    lines.push(format!("refused, queue full            {:>12}", event(Event::Refused)));
    lines.push(format!("routed and dropped, queue full or renderer gone {}, all accounted for", of(&board.dropped)));
    lines.push(format!("calls given up                 {:>12}", event(Event::Cancelled)));
    lines.push(format!("calls and flushes timed out    {:>12}", event(Event::TimedOut)));
    lines.push(format!("ended by a death or closing    {:>12}", event(Event::EndedByDeath)));
    lines.push(format!("    main's at most {:.1} ms after it", board.get(&board.slowest_end) as f64 / 1000.0));
    lines.push(format!("flushes                        {:>12}", event(Event::Flushes)));
    lines.push(format!("frames opened                  {:>12}", event(Event::Frames)));
    lines.push(format!("processes started              {:>12}", of(&board.started)));
    lines.push(format!("connections                    {:>12}", of(&board.connected)));
    lines.push(format!("SIGKILL survived               {:>12}", of(&board.kills)));
    lines.push(format!("SIGSTOP and SIGCONT            {:>12}", of(&board.stops)));
    lines.push(format!("closed by main                 {:>12}", of(&board.closes)));
    lines.push(format!("left and connected again       {:>12}", of(&board.leaves)));
    lines.push(format!("left behind after each of {acts} acts: nothing"));
    let of = |census: &Census| match census.memory_kib {
        Some(memory) => format!("{} MiB resident, {memory} KiB in use", census.rss_kib >> 10),
        None => format!("{} MiB resident", census.rss_kib >> 10),
    };
    lines.push(format!("memory of main: {} after the first act, {} after the last", of(first), of(last)));
    lines.push(format!("nothing wrong in {:.0} s", took.as_secs_f64()));
    lines.join("\n")
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}
