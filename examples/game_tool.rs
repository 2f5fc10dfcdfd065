//! An editor inspects and edits a running game: the game's loop polls within a budget, once a frame.
//!
//! ```text
//! cargo run --release --example game_tool [SECONDS]      SECONDS: how long each half lasts; 3 by default
//! ```
//!
//! The editor is the main process, with a dispatcher thread; the game is the same program, started again, and has no
//! thread that runs callbacks: what the editor asks for runs at one place of its frame. In the first half the editor is
//! silent. In the second it asks for the whole scene, edits entities as fast as a person drags a slider (and faster),
//! lets the game call it back for what it needs, and the game writes more log lines than the editor can show. Both halves
//! print the game's frame times. Whatever is lost or wrong ends the program with a message and a code other than 0.

use ringmain::{Budget, Dispatch, Error, ErrorKind, ExitStatus, HandlerError, IpcMain, IpcRenderer, Wait, WebContents};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const GAME: &str = "--game";
/// 60 frames a second.
const FRAME: Duration = Duration::from_nanos(16_666_667);
/// What the editor may cost of each.
const POLL: Duration = Duration::from_micros(500);
const ENTITIES: usize = 500;
/// Lines that the game logs in a frame while the editor works.
const LINES: usize = 2_000;
/// Bytes of them that may wait for an editor that is slower.
const LOG_QUEUE: u64 = 32 << 10;
/// No step takes as long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

type Failure = Box<dyn std::error::Error>;

#[derive(Clone, Serialize, Deserialize)]
struct Entity {
    name: String,
    at: [f64; 3],
    speed: [f64; 3],
    scale: f64,
}

/// What the game has measured in one half, in microseconds.
#[derive(Default, Serialize, Deserialize)]
struct Report {
    frames: u64,
    /// A frame's work without the editor's part.
    simulated: Percentiles,
    /// The editor's part: `poll`.
    polled: Percentiles,
    /// Writing the log.
    logged: Percentiles,
    late: u64,
    callbacks: u64,
    edits: u64,
    lines: u64,
    dropped: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
    max: f64,
}

fn percentiles(mut times: Vec<Duration>) -> Percentiles {
    times.sort_unstable();
    let at = |part: usize| times.get((times.len().max(1) - 1) * part / 100).map_or(0.0, |t| t.as_secs_f64() * 1e6);
    Percentiles { p50: at(50), p99: at(99), max: at(100) }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [GAME] => game(),
        [] => editor(Duration::from_secs(3)),
        [seconds] => editor(Duration::try_from_secs_f64(seconds.parse()?)?),
        _ => Err("usage: game_tool [SECONDS]".into()),
    }
}

// ---- the game -----------------------------------------------------------------------------------------------------

/// The game's own state: of one thread, because nothing else runs its callbacks.
struct World {
    entities: Vec<Entity>,
    edits: u64,
    is_logging: bool,
    ends: bool,
}

fn game() -> Result<(), Failure> {
    let world = Arc::new(Mutex::new(World {
        entities: (0..ENTITIES).map(entity).collect(),
        edits: 0,
        is_logging: false,
        ends: false,
    }));
    // A game that sleeps between frames leaves the cores to others: no spinning.
    let editor = IpcRenderer::builder().dispatch(Dispatch::Manual).wait(Wait::Park).connect()?;
    let shared = || world.clone();
    let at = |world: &mut World, index: usize| -> Result<usize, HandlerError> {
        let known = world.entities.len();
        if index < known { Ok(index) } else { Err(HandlerError::new(format!("no entity {index}: there are {known}"))) }
    };
    let world_of = shared();
    editor.handle("scene", move |_, ()| Ok(world_of.lock().unwrap().entities.clone()))?;
    let world_of = shared();
    editor.handle("entity", move |_, (index,): (usize,)| {
        let mut world = world_of.lock().unwrap();
        let index = at(&mut world, index)?;
        Ok(world.entities[index].clone())
    })?;
    let world_of = shared();
    editor.on("scale", move |_, (index, scale): (usize, f64)| {
        let mut world = world_of.lock().unwrap();
        if let Some(entity) = world.entities.get_mut(index) {
            entity.scale = scale;
        }
        world.edits += 1;
    });
    // What the editor asks for may need the editor: no frame waits for it, the answer goes on in a later poll.
    let (world_of, calls) = (shared(), editor.clone());
    editor.handle_async("spawn", move |_, (template,): (String,)| {
        let (world, call) = (world_of.clone(), calls.invoke::<Entity>("template", (template,)));
        async move {
            let entity = call.await?;
            let mut world = world.lock().unwrap();
            world.entities.push(entity);
            Ok(world.entities.len() - 1)
        }
    })?;
    let world_of = shared();
    editor.on("log", move |_, (on,): (bool,)| world_of.lock().unwrap().is_logging = on);
    let world_of = shared();
    editor.on("end", move |_, ()| world_of.lock().unwrap().ends = true);
    let world_of = shared();
    editor.on_disconnected(move |_| world_of.lock().unwrap().ends = true);
    let frames = Arc::new(Mutex::new(Frames::default()));
    let (world_of, frames_of) = (shared(), frames.clone());
    editor.handle("report", move |_, ()| {
        let edits = std::mem::take(&mut world_of.lock().unwrap().edits);
        let Frames { simulated, polled, logged, late, callbacks, lines, dropped } =
            std::mem::take(&mut *frames_of.lock().unwrap());
        Ok(Report {
            frames: simulated.len() as u64,
            simulated: percentiles(simulated),
            polled: percentiles(polled),
            logged: percentiles(logged),
            late,
            callbacks,
            edits,
            lines,
            dropped,
        })
    })?;
    run(&editor, &world, &frames)
}

#[derive(Default)]
struct Frames {
    simulated: Vec<Duration>,
    polled: Vec<Duration>,
    logged: Vec<Duration>,
    late: u64,
    callbacks: u64,
    lines: u64,
    dropped: u64,
}

fn entity(index: usize) -> Entity {
    let x = index as f64;
    Entity { name: format!("entity {index}"), at: [x, 0.0, -x], speed: [0.5, 1.0, 0.25], scale: 1.0 }
}

fn run(editor: &IpcRenderer, world: &Mutex<World>, frames: &Mutex<Frames>) -> Result<(), Failure> {
    let mut next = Instant::now() + FRAME;
    loop {
        let start = Instant::now();
        let (is_logging, ends) = {
            let mut world = world.lock().unwrap();
            simulate(&mut world.entities);
            (world.is_logging, world.ends)
        };
        if ends {
            return Ok(());
        }
        let simulated = Instant::now();
        let polled = editor.poll(Budget::time(POLL))?;
        let after_poll = Instant::now();
        let (mut lines, mut dropped) = (0, 0);
        if is_logging {
            for line in 0..LINES {
                // Answers follow the lines that were written before, and need room too: so few lines wait.
                if line % 50 == 0 && editor.stats().queued_bytes > LOG_QUEUE {
                    dropped += (LINES - line) as u64;
                    break;
                }
                // Never waits: what finds no room is counted, and the editor is told by the next line that does.
                match editor
                    .send("line", (dropped, "render", format!("line {line} of this frame, as engines write them")))
                {
                    Ok(()) => lines += 1,
                    Err(error) if error.kind() == ErrorKind::Full => dropped += 1,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let end = Instant::now();
        let mut frames = frames.lock().unwrap();
        frames.simulated.push(simulated - start);
        frames.polled.push(after_poll - simulated);
        frames.logged.push(end - after_poll);
        frames.callbacks += polled.ran as u64;
        frames.lines += lines;
        frames.dropped += dropped;
        frames.late += u64::from(end > next);
        drop(frames);
        std::thread::sleep(next.saturating_duration_since(end));
        next = (next + FRAME).max(end);
    }
}

/// Some work, as a game has it.
fn simulate(entities: &mut [Entity]) {
    for _ in 0..100 {
        for entity in &mut *entities {
            for axis in 0..3 {
                entity.at[axis] += entity.speed[axis] * 1e-4;
                if entity.at[axis].abs() > 100.0 {
                    entity.speed[axis] = -entity.speed[axis];
                }
            }
        }
    }
}

// ---- the editor ---------------------------------------------------------------------------------------------------

fn editor(half: Duration) -> Result<(), Failure> {
    let ipc_main = IpcMain::new()?;
    let lines = Arc::new(AtomicU64::new(0));
    let counts = lines.clone();
    ipc_main.on("line", move |_, (_dropped, _system, _text): (u64, String, String)| {
        counts.fetch_add(1, Ordering::Relaxed);
        // An editor that shows lines is slower than a game that writes them.
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(10) {
            std::hint::spin_loop();
        }
    });
    ipc_main.handle("template", |_, (name,): (String,)| Ok(Entity { name, ..entity(0) }))?;
    let (gone, is_gone) = channel();
    ipc_main.on_renderer_gone(move |_, _| _ = gone.send(()));
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(GAME);
    let game = ipc_main.spawn(command)?;
    let report = |what: &str| -> Result<Report, Failure> {
        let report: Report = game.invoke("report", (), PATIENCE).wait()?;
        println!("{what}: {} frames, {} late", report.frames, report.late);
        println!("                    p50        p99        max");
        for (row, times) in [("simulation", &report.simulated), ("poll", &report.polled), ("log lines", &report.logged)]
        {
            println!("  {row:10} {:>8.1}   {:>8.1}   {:>8.1} µs", times.p50, times.p99, times.max);
        }
        Ok(report)
    };
    // What has happened until the game was up is not measured.
    let _: Report = game.invoke("report", (), PATIENCE).wait()?;

    std::thread::sleep(half);
    let quiet = report("the editor is silent")?;

    game.send("log", (true,))?;
    let work = Work { game: &game, ends: &AtomicBool::new(false), edits: Cell::new(0), calls: RefCell::default() };
    let until = Instant::now() + half;
    while Instant::now() < until {
        work.round()?;
    }
    game.send("log", (false,))?;
    let busy = report("the editor asks, edits and is flooded")?;
    // The frame that answered has gone on to write its lines.
    let rest: Report = game.invoke("report", (), PATIENCE).wait()?;
    let Work { edits, calls, .. } = work;
    let (edits, calls) = (edits.get(), calls.into_inner());
    let answers = calls.len();
    let Percentiles { p50, p99, max } = percentiles(calls);
    println!("  {answers} queries and calls back, p50 {p50:.0} µs, p99 {p99:.0} µs, max {max:.0} µs");
    println!(
        "  {edits} live edits; {} log lines, {} dropped and counted because the editor was slower",
        busy.lines, busy.dropped
    );

    game.send("end", ())?;
    is_gone.recv_timeout(PATIENCE)?;
    // It has closed its link, and its process ends soon after.
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match game.process().exit_status() {
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            status => break status,
        }
    };
    if status != Some(ExitStatus::Exited(Some(0))) {
        return Err(format!("the game has ended with {status:?}").into());
    }
    // Nothing is lost: what was accepted has arrived, in time with the end.
    let received = lines.load(Ordering::Relaxed);
    let sent = quiet.lines + busy.lines + rest.lines;
    if received != sent {
        return Err(format!("{received} log lines have arrived of {sent}").into());
    }
    if busy.edits != edits {
        return Err(format!("the game has seen {} edits of {edits}", busy.edits).into());
    }
    Ok(())
}

/// What the editor does while somebody works with it.
struct Work<'a> {
    game: &'a WebContents,
    ends: &'a AtomicBool,
    edits: Cell<u64>,
    calls: RefCell<Vec<Duration>>,
}

impl Work<'_> {
    fn timed<T>(&self, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let start = Instant::now();
        let result = call();
        self.calls.borrow_mut().push(start.elapsed());
        result
    }

    fn round(&self) -> Result<(), Failure> {
        let scene: Vec<Entity> = self.timed(|| self.game.invoke("scene", (), PATIENCE).wait())?;
        for step in 1..=50 {
            self.game.send("scale", (step % scene.len(), f64::from(u32::try_from(step)?)))?;
            self.edits.set(self.edits.get() + 1);
        }
        // In order with the edits, so it shows them.
        let edited: Entity = self.timed(|| self.game.invoke("entity", (7,), PATIENCE).wait())?;
        if edited.scale != 7.0 {
            return Err(format!("the edit is not there: scale is {}", edited.scale).into());
        }
        if scene.len() < ENTITIES + 20 {
            let index: usize = self.timed(|| self.game.invoke("spawn", ("barrel",), PATIENCE).wait())?;
            let spawned: Entity = self.timed(|| self.game.invoke("entity", (index,), PATIENCE).wait())?;
            if spawned.name != "barrel" {
                return Err(format!("spawned {:?} instead of a barrel", spawned.name).into());
            }
        }
        let missing = self.game.invoke::<Entity>("entity", (1_000_000,), PATIENCE).wait().map(|_| ());
        if !missing.as_ref().is_err_and(Error::is_remote) || self.ends.load(Ordering::Relaxed) {
            return Err(format!("an entity that is not there: {missing:?}").into());
        }
        Ok(())
    }
}
