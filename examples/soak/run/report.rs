//! What is shown while it runs and at the end, and the thread that notices if main itself hangs.

use super::census::{self, Census};
use super::counts::{Counts, Event, KINDS, MESSAGES, Sum};
use super::stacks;
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
    pub(crate) lanes: AtomicU64,
    /// Acts whose main is polled by a loop of ours, and renderers likewise.
    pub(crate) polled: [AtomicU64; 2],
    /// Of each thread of main that must not hang: the one that starts and kills, those that send, those that have lanes.
    pub(crate) beats: [AtomicU64; (super::DRIVERS + super::LANERS) as usize + 1],
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
        let sum = self.sum();
        let ([sent, received, answered], [_, by_lanes, _]) = (sum.total(false), sum.total(true));
        format!(
            "{:4.0} s  act {}/{acts}  {} renderers  sent {}  received and checked {}  answers checked {}  by lanes {}  \
             kills {}  starts {}  stops {}  refused {}  {} MiB",
            since.elapsed().as_secs_f64(),
            self.get(&self.act) + 1,
            self.running.lock().unwrap().len(),
            grouped(sent),
            grouped(received),
            grouped(answered),
            grouped(by_lanes),
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
                let name = match index {
                    0 => "starts and kills".into(),
                    _ if index > super::DRIVERS as usize => "has lanes".into(),
                    _ => format!("sends (lane {})", index - 1),
                };
                let text = format!("the thread of main that {name} hangs");
                if faults.first().is_none() {
                    // Before anybody is killed because of it.
                    eprintln!("\n{text}\n{}", stacks::of_all(&census::children()));
                }
                faults.add(text);
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
    let mut rows: Vec<_> =
        KINDS.iter().enumerate().map(|(kind, (name, is_call))| row(name, sum.of(kind), *is_call)).collect();
    let by_lanes = rows.split_off(MESSAGES);
    lines.extend(rows);
    lines.push(row("together", sum.total(false), true));
    lines.extend(by_lanes);
    lines.push(row("together by lanes", sum.total(true), true));
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
    lines.push(format!("lanes opened                   {:>12}", of(&board.lanes)));
    lines.push(format!("    ends dropped or closed     {:>12}", event(Event::LaneEnds)));
    lines.push(format!("    compared at their end      {:>12}", event(Event::LaneCompared)));
    lines.push(format!("    records without room       {:>12}", event(Event::LaneFull)));
    lines.push(format!("    exchanges out of time      {:>12}", event(Event::LaneLate)));
    lines.push(format!("    values overrun             {:>12}", event(Event::LaneOverrun)));
    let [main, renderers] = &board.polled;
    lines.push(format!("acts whose main was polled     {:>12}", of(main)));
    lines.push(format!("renderers that were polled     {:>12}", of(renderers)));
    lines.push(format!("calls waited for by polling    {:>12}", event(Event::Polling)));
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
