//! Audio over lanes, used for real: a UI controls an audio engine in another process, and a host runs plug-ins in eight.
//!
//! ```text
//! cargo run --release --example mixer -- [--seconds N] [--frames 64|256] [--out FILE] [--idle]
//! cargo run --release --example mixer -- bridge [--seconds N]
//! ```
//!
//! **The mixer.** The program is the UI; the engine is the same program, started again. The UI sets the mixer's parameters by a
//! lane of latest values, sends chords by a lane of records, and shows at 60 Hz the meters that come back by a third lane. The
//! engine's audio thread renders a block at a time against its deadline, as a sound card would ask for it (there is none), into
//! a WAV file if one is named. Meanwhile the UI floods the engine with messages, calls it with 64 MiB, and blocks its own handler
//! (not with `--idle`). A second with our calls and a second without follow each other, N of each (10 by default), so that the same
//! thread is its own control. Of each block the time inside our calls is measured; a miss is ours if the block would have met its
//! deadline without that time.
//!
//! **The bridge.** The program is a host of eight plug-ins, each in a process, which is the same program again. All are asked and
//! waited for once a block, by a `LaneGroup`. One plug-in is killed and one is stopped while the sound goes on: the host plays
//! silence for them, starts the dead one again, and checks every block of the others.
//!
//! Whatever is wrong ends the program with a message and a code other than 0. That a block came late is shown and is no error:
//! it may be the machine's doing.

#[path = "mixer/audio.rs"]
mod audio;
#[path = "mixer/bridge.rs"]
mod bridge;
#[path = "mixer/engine.rs"]
mod engine;
#[path = "mixer/plugin.rs"]
mod plugin;
#[path = "mixer/thread.rs"]
mod thread;
#[path = "mixer/ui.rs"]
mod ui;

use ringmain::{ExitStatus, WebContents};
use std::path::PathBuf;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// With this argument the program is the engine; the options come next.
const ENGINE: &str = "--engine";
/// With this argument it is a plug-in; its number comes next.
const PLUGIN: &str = "--plugin";
/// No step takes as long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const USAGE: &str = "usage: mixer [--seconds N] [--frames 64|256] [--out FILE] [--idle], or mixer bridge [--seconds N]";

struct Options {
    /// As they were given, for the engine.
    arguments: Vec<String>,
    seconds: u64,
    frames: usize,
    out: Option<PathBuf>,
    is_idle: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut options = Self { arguments: arguments.to_vec(), seconds: 10, frames: 64, out: None, is_idle: false };
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{name} needs a value; {USAGE}"));
            match name.as_str() {
                "--seconds" => options.seconds = value()?.parse()?,
                "--frames" => options.frames = value()?.parse()?,
                "--out" => options.out = Some(value()?.into()),
                "--idle" => options.is_idle = true,
                _ => return Err(format!("{name} is not understood; {USAGE}").into()),
            }
        }
        if !matches!(options.frames, 64 | 256) || !(1..=86_400).contains(&options.seconds) {
            return Err(format!("blocks have 64 frames or 256, and a run 1 second to a day; {USAGE}").into());
        }
        Ok(options)
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (first, rest) = arguments.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    match first {
        ENGINE => engine::run(&Options::parse(rest)?),
        PLUGIN => plugin::run(rest.first().ok_or("which plug-in?")?.parse()?),
        "bridge" if rest.iter().any(|other| other.starts_with("--") && other != "--seconds") => Err(USAGE.into()),
        "bridge" => bridge::run(&Options::parse(rest)?),
        _ => ui::run(&Options::parse(&arguments)?),
    }
}

/// Waits until a process that has closed its link has ended, and well.
fn ended_well(renderer: &WebContents) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        match renderer.process().exit_status() {
            Some(ExitStatus::Exited(Some(0))) => return Ok(()),
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            status => return Err(format!("process {} has ended with {status:?}", renderer.process().id()).into()),
        }
    }
}
