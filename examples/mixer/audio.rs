//! What travels between UI and engine, what the engine makes of it, and a WAV file.

use crate::thread::RATE;
use ringmain::bytemuck::{self, Pod, Zeroable};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const CHANNELS: usize = 32;
/// Notes of a chord, which the UI sends as one.
pub(crate) const CHORD: u32 = 4;

/// What the UI sets: by a lane of latest values.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[bytemuck(crate = "ringmain::bytemuck")]
#[repr(C)]
pub(crate) struct Parameters {
    /// Counts what the UI has set, from 1 on.
    pub(crate) number: u64,
    gains: [f32; CHANNELS],
    cutoff: f32,
    check: u32,
}

impl Parameters {
    /// What a hand would do with the faders.
    pub(crate) fn at(number: u64) -> Self {
        let time = number as f32 / 60.0;
        let gains = std::array::from_fn(|channel| 0.5 + 0.4 * (time + channel as f32).sin());
        checked(Self { number, gains, cutoff: 0.3 + 0.2 * time.sin(), check: 0 }, |it| &mut it.check)
    }
}

/// What the UI plays: by a lane of records.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[bytemuck(crate = "ringmain::bytemuck")]
#[repr(C)]
pub(crate) struct Note {
    /// Counts the notes.
    pub(crate) number: u32,
    /// Where in the block it begins that takes it.
    pub(crate) frame: u32,
    pub(crate) key: u16,
    pub(crate) velocity: u16,
}

/// What the UI shows: by a lane of latest values.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[bytemuck(crate = "ringmain::bytemuck")]
#[repr(C)]
pub(crate) struct Meters {
    /// Blocks that were rendered.
    pub(crate) blocks: u64,
    /// The parameters that were in use.
    pub(crate) parameters: u64,
    pub(crate) peaks: [f32; CHANNELS],
    /// 1 with the last ones.
    pub(crate) is_last: u32,
    check: u32,
}

impl Meters {
    pub(crate) fn new(blocks: u64, parameters: u64, peaks: [f32; CHANNELS], is_last: bool) -> Self {
        checked(Self { blocks, parameters, peaks, is_last: is_last.into(), check: 0 }, |it| &mut it.check)
    }
}

fn sum<T: Pod>(value: &T) -> u32 {
    bytemuck::cast_slice::<u8, u32>(bytemuck::bytes_of(value)).iter().fold(0, |sum, word| sum ^ word)
}

/// Makes the sum of all words 0.
fn checked<T: Pod>(mut value: T, check: fn(&mut T) -> &mut u32) -> T {
    let sum = sum(&value);
    *check(&mut value) = sum;
    value
}

/// Whether all parts of a value were written together.
pub(crate) fn is_whole<T: Pod>(value: &T) -> bool {
    sum(value) == 0
}

/// A voice a channel, each a decaying sine; a low pass over all. It takes the same time whatever is played.
pub(crate) struct Synth {
    voices: [Voice; CHANNELS],
    low: [f32; 2],
}

#[derive(Clone, Copy, Default)]
struct Voice {
    phase: f32,
    step: f32,
    level: f32,
}

impl Synth {
    pub(crate) fn new() -> Self {
        Self { voices: [Voice::default(); CHANNELS], low: [0.0; 2] }
    }

    /// Renders a block of stereo frames; the peak of each channel.
    pub(crate) fn render(&mut self, parameters: &Parameters, notes: &[Note], out: &mut [[i16; 2]]) -> [f32; CHANNELS] {
        let mut peaks = [0.0_f32; CHANNELS];
        let mut notes = notes.iter().peekable();
        for (frame, out) in out.iter_mut().enumerate() {
            while let Some(note) = notes.next_if(|note| note.frame as usize <= frame) {
                let step = 440.0 * ((f32::from(note.key) - 69.0) / 12.0).exp2() * std::f32::consts::TAU / RATE as f32;
                let level = f32::from(note.velocity) / 127.0;
                self.voices[note.number as usize % CHANNELS] = Voice { phase: 0.0, step, level };
            }
            let mut sides = [0.0_f32; 2];
            for (channel, voice) in self.voices.iter_mut().enumerate() {
                let sample = voice.phase.sin() * voice.level * parameters.gains[channel];
                voice.phase = (voice.phase + voice.step) % std::f32::consts::TAU;
                // No denormal numbers: they would take longer.
                voice.level = if voice.level > 1e-6 { voice.level * 0.9999 } else { 0.0 };
                peaks[channel] = peaks[channel].max(sample.abs());
                sides[channel % 2] += sample;
            }
            for side in 0..2 {
                self.low[side] += parameters.cutoff * (sides[side] - self.low[side]) + 1e-12;
                out[side] = (self.low[side] * 2000.0) as i16;
            }
        }
        peaks
    }
}

const HEADER: u64 = 44;

/// Bytes of a WAV file of so many frames.
pub(crate) fn wav_len(frames: u64) -> u64 {
    HEADER + frames * 4
}

fn wav_header(frames: u64) -> Vec<u8> {
    let data = u32::try_from(frames * 4).unwrap_or(u32::MAX - 36);
    let mut header = Vec::new();
    header.extend_from_slice(b"RIFF");
    header.extend_from_slice(&(data + 36).to_le_bytes());
    header.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x02\0"); // 16 bytes: PCM, 2 channels
    header.extend_from_slice(&(RATE as u32).to_le_bytes());
    header.extend_from_slice(&(RATE as u32 * 4).to_le_bytes());
    header.extend_from_slice(b"\x04\0\x10\0data"); // bytes of a frame, bits of a sample
    header.extend_from_slice(&data.to_le_bytes());
    header
}

/// Writes what comes into a WAV file, on a thread of its own, until the producer is dropped; the frames written.
pub(crate) fn record(
    path: &Path,
    mut frames: rtrb::Consumer<[i16; 2]>,
) -> std::io::Result<JoinHandle<std::io::Result<u64>>> {
    let mut file = File::create(path)?;
    file.write_all(&wav_header(0))?;
    let write = move || {
        let (mut written, mut bytes) = (0, Vec::new());
        loop {
            // Before the look: what was pushed before the end is found.
            let is_last = frames.is_abandoned();
            let Ok(chunk) = frames.read_chunk(frames.slots()) else { continue };
            let (one, two) = chunk.as_slices();
            bytes.clear();
            bytes.extend(one.iter().chain(two).flatten().flat_map(|sample| sample.to_le_bytes()));
            written += chunk.len() as u64;
            chunk.commit_all();
            file.write_all(&bytes)?;
            if is_last {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&wav_header(written))?;
        Ok(written)
    };
    Ok(std::thread::spawn(write))
}
