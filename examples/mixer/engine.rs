//! The engine's process: an audio thread, and beside it everything that has time.

use crate::audio::{CHANNELS, Meters, Note, Parameters, Synth, is_whole, record};
use crate::thread::{RATE, Schedule, Spread, Times, become_real_time, faults, sleep_until};
use crate::{Failure, Options, PATIENCE};
use ringmain::{IpcRenderer, LaneConfig, LaneError, LaneReceiver, LatestReader, LatestWriter};
use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// The lanes, by name.
pub(crate) const PARAMETERS: &str = "parameters";
pub(crate) const NOTES: &str = "notes";
pub(crate) const METERS: &str = "meters";

/// Notes that a block takes at most; the others are the next one's.
const NOTES_A_BLOCK: usize = 64;

/// What both ends say of their lanes. Nobody sleeps on any of them: the engine looks once a block, the UI once a frame. So no wake
/// is needed, and no sender ever makes a system call.
pub(crate) fn lane() -> LaneConfig {
    LaneConfig::new().capacity(1024).wake(ringmain::WakePolicy::Never).lock_memory(true)
}

/// What the engine has found out.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) with_calls: Half,
    pub(crate) control: Half,
    pub(crate) class: String,
    pub(crate) is_locked: bool,
    pub(crate) faults: u64,
    pub(crate) blocks: u64,
    pub(crate) notes: u32,
    pub(crate) parameters: u64,
    pub(crate) parameters_read: u64,
    pub(crate) peak: f32,
    pub(crate) frames_recorded: Option<u64>,
    pub(crate) blocks_not_recorded: u64,
    pub(crate) calls_answered: u64,
    /// What must not be.
    pub(crate) wrong: Vec<String>,
}

/// The seconds with our calls, or those without.
#[derive(Serialize, Deserialize)]
pub(crate) struct Half {
    pub(crate) blocks: u64,
    /// Would have been in time without the time inside our calls.
    pub(crate) missed_by_us: u64,
    pub(crate) missed_by_others: u64,
    /// Blocks that were not rendered, because the one before came too late.
    pub(crate) lost: u64,
    /// Inside our calls; in the control what the clock takes, which is read as often.
    pub(crate) inside: Spread,
    /// From when a block was due until the thread ran.
    pub(crate) late: Spread,
    pub(crate) rendering: Spread,
}

struct Measured {
    blocks: u64,
    missed_by_us: u64,
    missed_by_others: u64,
    lost: u64,
    inside: Times,
    late: Times,
    rendering: Times,
}

impl Measured {
    fn new(most: usize) -> Self {
        let [inside, late, rendering] = [most; 3].map(Times::new);
        Self { blocks: 0, missed_by_us: 0, missed_by_others: 0, lost: 0, inside, late, rendering }
    }

    fn half(self) -> Half {
        let Self { blocks, missed_by_us, missed_by_others, lost, inside, late, rendering } = self;
        let (inside, late, rendering) = (inside.spread(), late.spread(), rendering.spread());
        Half { blocks, missed_by_us, missed_by_others, lost, inside, late, rendering }
    }
}

/// What the audio thread owns; it comes back from it, for an end of a lane belongs to no thread.
struct Engine {
    parameters: LatestReader<Parameters>,
    notes: LaneReceiver<Note>,
    meters: LatestWriter<Meters>,
    /// To the thread that writes the file. It is a lane between threads, and as wait-free.
    recording: Option<rtrb::Producer<[i16; 2]>>,
    synth: Synth,
    /// In use.
    now: Parameters,
    parameters_read: u64,
    notes_taken: u32,
    rendered: u64,
    peaks: [f32; CHANNELS],
    peak: f32,
    blocks_not_recorded: u64,
    /// Counted on the audio thread, told by another.
    torn: u64,
    gaps: u64,
    failed: Option<LaneError>,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let (finished, is_finished) = channel::<Finished>();
    let is_finished = Mutex::new(is_finished);
    let (gone, is_gone) = channel();
    let ui = IpcRenderer::builder()
        .handle("load", |_, (sample,): (String,)| Ok(sample.len()))
        .on("tick", |_, (_number,): (u64,)| {})
        .handle("report", move |_, ()| {
            let finished = is_finished.lock().unwrap().recv_timeout(PATIENCE);
            Ok(finished.ok().map(Finished::report))
        })
        .connect()?;
    ui.on_disconnected(move |_| _ = gone.send(()));

    let (recording, recorder) = match &options.out {
        Some(path) => {
            let (frames, written) = ring(2 * RATE as usize)?;
            (Some(frames), Some(record(path, written)?))
        }
        None => (None, None),
    };
    let mut engine = Engine {
        parameters: ui.lane(PARAMETERS, &lane())?,
        notes: ui.lane(NOTES, &lane())?,
        meters: ui.lane(METERS, &lane())?,
        recording,
        synth: Synth::new(),
        now: Parameters::at(0),
        parameters_read: 0,
        notes_taken: 0,
        rendered: 0,
        peaks: [0.0; CHANNELS],
        peak: 0.0,
        blocks_not_recorded: 0,
        torn: 0,
        gaps: 0,
        failed: None,
    };
    engine.parameters.prepare();
    engine.notes.prepare();
    engine.meters.prepare();

    let ends = AtomicBool::new(false);
    let (frames, seconds) = (options.frames, options.seconds);
    let (mut engine, halves, class, faults, calls_answered) = std::thread::scope(|scope| {
        let calls = scope.spawn(|| if options.is_idle { 0 } else { call(&ui, &ends) });
        let audio = std::thread::Builder::new().name("audio".into()).spawn_scoped(scope, move || {
            let mut halves = [0; 2].map(|_| Measured::new((seconds * RATE) as usize / frames + 1));
            let class = become_real_time();
            // The first look has faults of its own.
            let before = (faults(), faults()).1;
            engine.run(frames, seconds, &mut halves);
            let faults = faults() - before;
            (engine, halves, class, faults)
        });
        let ended = audio.map(|thread| thread.join());
        ends.store(true, Ordering::Relaxed);
        let (engine, halves, class, faults) = ended?.map_err(|_| "the audio thread has panicked")?;
        Ok::<_, Failure>((engine, halves, class, faults, calls.join().map_err(|_| "the calling thread has panicked")?))
    })?;
    // The recorder ends when this end is dropped.
    engine.recording = None;
    let frames_recorded = match recorder {
        Some(thread) => Some(thread.join().map_err(|_| "the recorder has panicked")??),
        None => None,
    };

    // The UI sends nothing more once it has seen these, and asks for the report.
    let last = Meters::new(engine.rendered, engine.now.number, engine.peaks, true);
    if let Err(error) = engine.meters.write(&last) {
        engine.failed = engine.failed.or(Some(error));
    }
    let _ = finished.send(Finished { engine, halves, class, faults, frames_recorded, calls_answered });
    is_gone.recv()?;
    Ok(())
}

impl Engine {
    /// The audio thread: a second with our calls and a second without in turn, until both have had theirs.
    fn run(&mut self, frames: usize, seconds: u64, [with_calls, control]: &mut [Measured; 2]) {
        let mut out = [[0_i16; 2]; 256];
        let out = &mut out[..frames];
        let mut notes = [Note::default(); NOTES_A_BLOCK];
        let schedule = Schedule::new(frames);
        let a_second = RATE / frames as u64;
        let mut block = 0;
        while block < 2 * seconds * a_second && self.failed.is_none() {
            let calls = (block / a_second).is_multiple_of(2);
            let (due, deadline) = (schedule.due(block), schedule.due(block + 1));
            sleep_until(due);

            let began = std::time::Instant::now();
            let taken = if calls { self.take(&mut notes) } else { 0 };
            let took = std::time::Instant::now();
            self.render(&notes[..taken], out);
            let rendered = std::time::Instant::now();
            if calls {
                self.show();
            }
            let end = std::time::Instant::now();

            let inside = (took - began) + (end - rendered);
            let measured = if calls { &mut *with_calls } else { &mut *control };
            measured.blocks += 1;
            measured.inside.push(inside);
            measured.late.push(began - due);
            measured.rendering.push(rendered - took);
            let next = schedule.after(block, end);
            if end > deadline {
                let is_ours = calls && end - inside <= deadline;
                *(if is_ours { &mut measured.missed_by_us } else { &mut measured.missed_by_others }) += 1;
                measured.lost += next - block - 1;
            }
            block = next;
        }
    }

    /// Takes what the UI has set and played: our calls.
    fn take(&mut self, notes: &mut [Note]) -> usize {
        match self.parameters.read(&mut self.now) {
            Ok(None) => {}
            Ok(Some(_)) => self.parameters_read += 1,
            Err(error) => self.failed = Some(error),
        }
        let mut taken = 0;
        while let Some(note) = notes.get_mut(taken) {
            match self.notes.try_recv(note) {
                Ok(None) => break,
                Ok(Some(_)) => taken += 1,
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        taken
    }

    fn render(&mut self, notes: &[Note], out: &mut [[i16; 2]]) {
        self.check(notes);
        self.peaks = self.synth.render(&self.now, notes, out);
        self.peak = self.peaks.iter().fold(self.peak, |peak, of| peak.max(*of));
        self.rendered += 1;
        if let Some(recording) = &mut self.recording {
            self.blocks_not_recorded += u64::from(recording.push_entire_slice(out).is_err());
        }
    }

    /// Shows the UI where we are: our call.
    fn show(&mut self) {
        if let Err(error) = self.meters.write(&Meters::new(self.rendered, self.now.number, self.peaks, false)) {
            self.failed = Some(error);
        }
    }

    /// Whether what has come is what was sent: whole parameters, all notes in their order, a chord in one block.
    fn check(&mut self, notes: &[Note]) {
        self.torn += u64::from(!is_whole(&self.now));
        for note in notes {
            self.gaps += u64::from(note.number != self.notes_taken);
            self.notes_taken = note.number.wrapping_add(1);
        }
        self.torn += u64::from(!self.notes_taken.is_multiple_of(crate::audio::CHORD));
    }
}

/// What there is to report about.
struct Finished {
    engine: Engine,
    halves: [Measured; 2],
    class: String,
    faults: u64,
    frames_recorded: Option<u64>,
    calls_answered: u64,
}

impl Finished {
    /// Takes what is left in the lanes, on another thread than before, and says what must not be.
    fn report(self) -> Report {
        let Self { mut engine, halves, class, faults, frames_recorded, calls_answered } = self;
        let mut notes = [Note::default(); NOTES_A_BLOCK];
        loop {
            let taken = engine.take(&mut notes);
            engine.check(&notes[..taken]);
            if taken == 0 {
                break;
            }
        }
        let mut wrong = Vec::new();
        for (count, what) in [(engine.torn, "parameters or chords were torn"), (engine.gaps, "notes did not follow")] {
            if count > 0 {
                wrong.push(format!("{count} {what}"));
            }
        }
        wrong.extend(engine.failed.map(|error| error.to_string()));
        let stats = [engine.parameters.stats(), engine.notes.stats(), engine.meters.stats()];
        let [with_calls, control] = halves.map(Measured::half);
        Report {
            with_calls,
            control,
            class,
            is_locked: stats.iter().all(|stats| stats.locked == Some(true)),
            faults,
            blocks: engine.rendered,
            notes: engine.notes_taken,
            parameters: engine.now.number,
            parameters_read: engine.parameters_read,
            peak: engine.peak,
            frames_recorded,
            blocks_not_recorded: engine.blocks_not_recorded,
            calls_answered,
            wrong,
        }
    }
}

/// A ring between threads whose memory is there before the audio thread writes to it.
type Ring = (rtrb::Producer<[i16; 2]>, rtrb::Consumer<[i16; 2]>);

fn ring(frames: usize) -> Result<Ring, Failure> {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(frames);
    producer.push_entire_slice(&vec![[0; 2]; frames])?;
    consumer.read_chunk(frames)?.commit_all();
    Ok((producer, consumer))
}

/// What an engine says beside the sound, by messages: it saves its state in the UI, which may take its time, and logs.
fn call(ui: &IpcRenderer, ends: &AtomicBool) -> u64 {
    let state = "a state ".repeat(4 << 10);
    let mut answered = 0;
    while !ends.load(Ordering::Relaxed) {
        match ui.invoke::<usize>("save", (&state,)).timeout(PATIENCE).wait() {
            Ok(_) => answered += 1,
            Err(_) if !ui.is_connected() => break,
            // The answer has found no room behind 64 MiB: the next time.
            Err(_) => {}
        }
        for line in 0..100 {
            // Full is no reason to wait: what finds no room is dropped.
            let _ = ui.send("log", (line, "as engines write them"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    answered
}
