//! A plug-in in a process of its own.

use crate::Failure;
use crate::thread::become_real_time;
use ringmain::{IpcRenderer, LaneConfig, LaneDuplex, LaneError};
use std::time::{Duration, Instant};

pub(crate) const FRAMES: usize = 128;
pub(crate) type Samples = [f32; FRAMES];
/// The lane of a plug-in: asked for a block, answers with one.
pub(crate) const PROCESS: &str = "process";

/// What both ends say of the lane. Two blocks wait for a plug-in that has stopped; more are not sent.
pub(crate) fn lane() -> LaneConfig {
    LaneConfig::new().capacity(2).align(64).lock_memory(true)
}

/// An echo of everything that it was ever given: a block that was left out, came twice or in another order is heard from then on.
pub(crate) struct Plugin {
    gain: f32,
    before: Samples,
}

impl Plugin {
    pub(crate) fn new(number: usize) -> Self {
        Self { gain: 0.1 * (number + 1) as f32, before: [0.0; FRAMES] }
    }

    pub(crate) fn process(&mut self, input: &Samples) -> Samples {
        for (sample, input) in self.before.iter_mut().zip(input) {
            *sample = input * self.gain + *sample * 0.5;
        }
        self.before
    }
}

/// The process: one thread answers, as long as the host is there.
pub(crate) fn run(number: usize) -> Result<(), Failure> {
    let host = IpcRenderer::connect()?;
    // There are more plug-ins than cores: who waits leaves its core to the next one at once.
    let mut lane: LaneDuplex<Samples, Samples> = host.lane(PROCESS, &lane().spin(Duration::ZERO))?;
    lane.prepare();
    let counters = lane.counters();
    host.handle("dropped", move |_, ()| Ok(counters.stats().dropped))?;
    let class = become_real_time();
    host.send("ready", (class,))?;
    let mut plugin = Plugin::new(number);
    let mut block = [0.0; FRAMES];
    loop {
        match lane.recv_request_until(&mut block, Instant::now() + Duration::from_secs(1)) {
            // An answer that finds no room is dropped and counted: the host has given it up before.
            Ok(_) => _ = lane.send_response(&plugin.process(&block)),
            Err(LaneError::TimedOut) => {}
            Err(LaneError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
