//! The UI's process: faders, keys and meters, and everything that a program does beside.

use crate::audio::{CHORD, Meters, Note, Parameters, is_whole, wav_len};
use crate::engine::{Half, METERS, NOTES, PARAMETERS, Report, lane};
use crate::thread::{Schedule, Spread};
use crate::{ENGINE, Failure, Options, PATIENCE, ended_well};
use ringmain::{IpcMain, LaneError, LaneSender, LatestReader, LatestWriter, WebContents};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// 60 Hz.
const FRAME: Duration = Duration::from_nanos(16_666_667);
/// A chord each tenth of a second.
const FRAMES_A_CHORD: u64 = 6;
/// As long as a message may be: with its channel, 64 MiB.
const SAMPLE: usize = (64 << 20) - 4096;
/// How long, and at which of its calls, the UI's handler blocks.
const BLOCKED: Duration = Duration::from_millis(250);
const BLOCKS_EACH: u64 = 5;

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let ipc_main = IpcMain::new()?;
    let saved = Arc::new(AtomicU64::new(0));
    let counts = saved.clone();
    ipc_main.handle("save", move |_, (state,): (String,)| {
        if counts.fetch_add(1, Ordering::Relaxed).is_multiple_of(BLOCKS_EACH) {
            std::thread::sleep(BLOCKED);
        }
        Ok(state.len())
    })?;
    ipc_main.on("log", |_, (_line, _text): (u64, String)| {});
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ENGINE).args(&options.arguments);
    let engine = ipc_main.spawn(command)?;
    let mut window = Window {
        parameters: engine.lane(PARAMETERS, &lane())?,
        notes: engine.lane(NOTES, &lane())?,
        meters: engine.lane(METERS, &lane())?,
        set: 0,
        played: 0,
        shown: 0,
        last: Meters::default(),
    };

    let ends = AtomicBool::new(false);
    let flooded = std::thread::scope(|scope| {
        let flood = (!options.is_idle).then(|| scope.spawn(|| flood(&engine, &ends)));
        let worked = window.work(Duration::from_secs(2 * options.seconds) + PATIENCE);
        ends.store(true, Ordering::Relaxed);
        let flooded = flood.map(|thread| thread.join().map_err(|_| "the flood has panicked")?).transpose();
        worked.and(flooded)
    })?;
    let report: Option<Report> = engine.invoke("report", (), PATIENCE).wait()?;
    let report = report.ok_or("the engine has not ended in time")?;

    print(options, &report);
    println!(
        "  {} parameters set, {} read; {} notes; {} meters shown; {} blocks, {} page faults on the audio thread in all",
        window.set, report.parameters_read, report.notes, window.shown, report.blocks, report.faults
    );
    if let Some(Flooded { samples, ticks }) = flooded {
        let (samples, calls, blocked) =
            (samples, report.calls_answered, saved.load(Ordering::Relaxed).div_ceil(BLOCKS_EACH));
        println!(
            "  meanwhile: {samples} calls with 64 MiB and {ticks} messages to the engine, {calls} calls back; the UI's \
             handler has blocked {blocked} times for {BLOCKED:?}"
        );
    }
    let mut wrong = report.wrong;
    let mut demand = |holds: bool, what: String| wrong.extend((!holds).then_some(what));
    let Window { parameters, notes, meters, set, played, last, .. } = &window;
    demand(report.notes == *played, format!("the engine has {} notes of {played}", report.notes));
    demand(report.parameters == *set, format!("the engine has parameters {} and not {set}", report.parameters));
    demand(
        last.blocks == report.blocks,
        format!("the last meters are of block {} and not {}", last.blocks, report.blocks),
    );
    demand(report.peak > 0.0 && report.notes > 0 && report.with_calls.blocks > 0, "there was no sound".into());
    demand(notes.stats().dropped == 0, format!("{} notes found no room", notes.stats().dropped));
    let wakes = parameters.stats().wakes + notes.stats().wakes + meters.stats().wakes;
    demand(wakes == 0, format!("{wakes} wakes where nobody is to be woken"));
    if let Some(path) = &options.out {
        let rendered = (report.blocks - report.blocks_not_recorded) * options.frames as u64;
        let (len, path) = (std::fs::metadata(path)?.len(), path.display());
        println!(
            "  {path}: {rendered} frames; {} blocks came when its thread was too slow",
            report.blocks_not_recorded
        );
        demand(report.frames_recorded == Some(rendered), format!("{:?} frames recorded", report.frames_recorded));
        demand(len == wav_len(rendered), format!("{path} has {len} bytes"));
    }
    if !wrong.is_empty() {
        return Err(wrong.join("; ").into());
    }
    // It ends when the link does.
    engine.close(PATIENCE)?;
    ended_well(&engine)
}

fn print(options: &Options, report: &Report) {
    let (frames, seconds) = (options.frames, options.seconds);
    let period = Schedule::new(frames).period();
    println!(
        "{frames} frames at 48 kHz, {:.1} µs a block; {seconds} s with our calls and {seconds} s without, in turn",
        period.as_secs_f64() * 1e6
    );
    let memory = if report.is_locked { "locked" } else { "not locked: RLIMIT_MEMLOCK" };
    let ui = if options.is_idle { "idle" } else { "busy" };
    println!("the audio thread has {}; the lanes' memory is {memory}; the UI is {ui}", report.class);
    println!("{:34}{:>12}{:>12}{:>12}{:>15}", "", "blocks", "missed", "by us", "not rendered");
    for (name, half) in [("with our calls", &report.with_calls), ("control, without", &report.control)] {
        let Half { blocks, missed_by_us, missed_by_others, lost, .. } = half;
        println!("  {name:32}{blocks:>12}{:>12}{missed_by_us:>12}{lost:>15}", missed_by_us + missed_by_others);
    }
    Spread::print_head();
    let (ours, control) = (&report.with_calls, &report.control);
    ours.inside.print("inside our calls");
    ours.inside.print_shares("the same, of the block", period);
    control.inside.print("control: the clock alone");
    ours.late.print("wake-up lateness");
    control.late.print("control: wake-up lateness");
    ours.rendering.print("rendering");
    control.rendering.print("control: rendering");
}

/// What a user has before them.
struct Window {
    parameters: LatestWriter<Parameters>,
    notes: LaneSender<Note>,
    meters: LatestReader<Meters>,
    set: u64,
    played: u32,
    shown: u64,
    last: Meters,
}

impl Window {
    /// Redraws at 60 Hz until the engine says that these are the last meters.
    fn work(&mut self, most: Duration) -> Result<(), Failure> {
        let until = Instant::now() + most;
        let mut next = Instant::now();
        for frame in 0_u64.. {
            self.set += 1;
            self.parameters.write(&Parameters::at(self.set))?;
            if frame.is_multiple_of(FRAMES_A_CHORD) {
                self.play()?;
            }
            if self.show()? {
                return Ok(());
            }
            let now = Instant::now();
            if now > until {
                return Err("the engine has not come to its end in time".into());
            }
            next = (next + FRAME).max(now);
            std::thread::sleep(next.saturating_duration_since(now));
        }
        Ok(())
    }

    /// A chord, of which the engine sees all notes at once.
    fn play(&mut self) -> Result<(), LaneError> {
        let mut chord = self.notes.batch();
        for voice in 0..CHORD {
            let key = 48 + (self.played % 31) as u16 + 4 * voice as u16;
            chord.push(&Note { number: self.played + voice, frame: self.played % 64, key, velocity: 100 })?;
        }
        chord.commit();
        self.played += CHORD;
        Ok(())
    }

    /// Whether these are the last.
    fn show(&mut self) -> Result<bool, Failure> {
        let before = self.last;
        if self.meters.read(&mut self.last)?.is_none() {
            return Ok(false);
        }
        self.shown += 1;
        let Meters { blocks, parameters, is_last, .. } = self.last;
        if !is_whole(&self.last) || blocks < before.blocks || parameters < before.parameters || parameters > self.set {
            return Err(format!("these meters cannot be: block {blocks} with parameters {parameters}").into());
        }
        Ok(is_last == 1)
    }
}

/// What was sent by messages beside the lanes.
struct Flooded {
    samples: u64,
    ticks: u64,
}

/// Loads the largest samples that a message takes into the engine, one after the other, and many small messages.
fn flood(engine: &WebContents, ends: &AtomicBool) -> Result<Flooded, Failure> {
    let sample = "x".repeat(SAMPLE);
    let mut flooded = Flooded { samples: 0, ticks: 0 };
    while !ends.load(Ordering::Relaxed) {
        let loaded: usize = engine.invoke("load", (&sample,), PATIENCE).wait()?;
        if loaded != SAMPLE {
            return Err(format!("{loaded} bytes of a sample of {SAMPLE} have arrived").into());
        }
        flooded.samples += 1;
        for number in 0..1000_u64 {
            flooded.ticks += u64::from(engine.send("tick", (number,)).is_ok());
        }
    }
    Ok(flooded)
}
