//! Two programs that talk by lanes alone: one produces notes and answers blocks, the other consumes. Either may be the one of
//! `examples/c`.
//!
//! ```text
//! cargo run --example lanes consume [NAME] [--once]     listens; --once: for one producer
//! cargo run --example lanes produce [NAME] [--wait]     --wait: up to ten seconds for somebody to listen
//! ```

#[path = "demo/failure.rs"]
mod failure;

use bytemuck::{Pod, Zeroable};
use failure::Failure;
use ringmain::{
    ErrorKind, IpcMain, IpcRenderer, LaneConfig, LaneDuplex, LaneReceiver, LaneSender, LatestReader, LatestWriter,
    WebContents,
};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Nothing takes as long: only a program that hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(10);
const NOTES: u32 = 1000;
const BLOCKS: usize = 100;

// The types of `examples/c/lanes.h`.

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Note {
    frame: u32,
    key: u16,
    velocity: u16,
}

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Gain {
    left: f32,
    right: f32,
}

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Levels {
    peak: f32,
    sum: f32,
}

type Block = [f32; 64];

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next();
    let (mut name, mut flag) = ("ringmain-lanes".to_string(), false);
    for argument in arguments {
        match argument.as_str() {
            "--once" | "--wait" => flag = true,
            _ => name = argument,
        }
    }
    match role.as_deref() {
        Some("consume") => listen(&name, flag),
        Some("produce") => {
            let ipc_renderer = connect(&name, if flag { PATIENCE } else { Duration::ZERO })?;
            produce(&ipc_renderer)
        }
        _ => Err("usage: lanes consume [NAME] [--once], or: lanes produce [NAME] [--wait]".into()),
    }
}

fn listen(name: &str, once: bool) -> Result<(), Failure> {
    let ipc_main = IpcMain::new()?;
    let (connected, renderers) = mpsc::channel();
    ipc_main.on_renderer_connected(move |web_contents| {
        let _ = connected.send(web_contents.clone()); // nobody waits any more: we are ending
    });
    ipc_main.listen(name)?;
    println!("listening under the name '{name}'");
    for producer in renderers {
        consume(&producer)?;
        if once {
            break;
        }
    }
    Ok(())
}

fn consume(producer: &WebContents) -> Result<(), Failure> {
    // Main says how large the lanes are.
    let config = LaneConfig::new();
    let mut notes: LaneReceiver<Note> = producer.lane("notes", &config.clone().capacity(NOTES as usize))?;
    let mut log: LaneReceiver<[u8]> = producer.lane("log", &config)?;
    let mut gain: LatestWriter<Gain> = producer.lane("gain", &config)?;
    let mut process: LaneDuplex<Block, Levels> = producer.lane("process", &config.capacity(2).align(64))?;
    process.prepare();

    gain.write(&Gain { left: 0.5, right: 2.0 })?;
    let mut note = Note::default();
    for at in 0..NOTES {
        let received = notes.recv_until(&mut note, soon())?;
        if note.frame != at * 64 || received.lost != 0 {
            return Err(format!("note {at} is of frame {}; {} were lost", note.frame, received.lost).into());
        }
    }
    println!("{NOTES} notes, in order");

    let (mut block, mut levels): (Block, Levels) = ([0.0; 64], Levels::default());
    for at in 0..BLOCKS {
        block[at % 64] = at as f32;
        process.exchange(&block, &mut levels, soon())?;
        if levels.peak != at as f32 * 2.0 {
            return Err(format!("block {at} has a peak of {}", levels.peak).into());
        }
    }
    println!("{BLOCKS} blocks, each one answered");

    let mut line = [0; 128];
    let received = log.recv_until(&mut line, soon())?;
    println!("the producer says: {}", String::from_utf8_lossy(&line[..received.len]));
    Ok(())
}

fn produce(ipc_renderer: &IpcRenderer) -> Result<(), Failure> {
    let config = LaneConfig::new();
    let mut notes: LaneSender<Note> = ipc_renderer.lane("notes", &config)?;
    let mut log: LaneSender<[u8]> = ipc_renderer.lane("log", &config)?;
    let mut gain: LatestReader<Gain> = ipc_renderer.lane("gain", &config)?;
    let mut process: LaneDuplex<Levels, Block> = ipc_renderer.lane("process", &config)?;
    notes.prepare();
    process.prepare();

    // The notes of a block appear at once.
    for first in (0..NOTES).step_by(10) {
        let mut batch = notes.batch();
        for at in first..first + 10 {
            batch.push(&Note { frame: at * 64, key: 60, velocity: 100 })?;
        }
        batch.commit();
    }

    let mut now = Gain::default();
    gain.read_until(&mut now, soon())?;
    let mut block = [0.0; 64];
    for _ in 0..BLOCKS {
        process.recv_request_until(&mut block, soon())?;
        gain.read(&mut now)?; // what the fader says now
        let scaled = block.map(|sample| sample * now.right);
        let peak = scaled.iter().copied().fold(0.0, f32::max);
        process.send_response(&Levels { peak, sum: scaled.iter().sum() })?;
    }
    log.try_send(b"all done, in Rust")?;
    println!("{NOTES} notes sent, {BLOCKS} blocks answered");
    Ok(())
}

/// Connects; while nobody listens, tries again until `wait` is over.
fn connect(name: &str, wait: Duration) -> ringmain::Result<IpcRenderer> {
    let until = Instant::now() + wait;
    loop {
        match IpcRenderer::connect_to(name) {
            Err(error) if error.kind() == ErrorKind::NotListening && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}
