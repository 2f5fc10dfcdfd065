//! The ends of lanes (those of `ringmain::lane`), as main and renderers have them: each sends or takes at random, in every way
//! that there is, and checks what comes.

mod exchange;
mod latest;
mod record;
mod records;

pub(crate) use record::{Half, SLOTS, Slot, Stream, pick};

use super::counts::Counts;
use super::random::Random;
use super::sabotage::{Sabotage, Way};
use exchange::{Answering, Asking, Content};
use latest::{Reading, Writing};
use record::Buffer;
use records::{Receiving, Sending};
use ringmain::{
    IpcRenderer, LaneConfig, LaneDuplex, LaneEnd, LaneError, LaneReceiver, LaneSender, LatestReader, LatestWriter,
    WakePolicy, WebContents,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What asks and answers with a type instead of bytes.
type Block = [u64; 16];

/// Whether the lane is open still; what is wrong.
pub(crate) type Outcome = Result<bool, String>;

/// What is not the end's.
pub(crate) struct Around<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) counts: &'a Counts,
}

/// One end of a lane, or of one direction of it.
pub(crate) trait End: Send {
    /// The direction that is compared at the end, and its opening: of an exchange that of the questions.
    fn stream(&self) -> &Stream;
    fn is_outgoing(&self) -> bool;
    /// How many were sent, or what comes next.
    fn count(&self) -> u64;
    /// Sends or takes some.
    fn act(&mut self, around: &mut Around<'_>) -> Outcome;
    /// Takes what is there, until the end or that time; nothing, if this end sends.
    fn drain(&mut self, _until: Instant, _around: &mut Around<'_>) -> Outcome {
        Ok(true)
    }
    /// Asks once more whoever is about to be gone: the answer or the end comes before that time.
    fn ask_the_dying(&mut self, _until: Instant, _around: &mut Around<'_>) -> Result<(), String> {
        Ok(())
    }
    /// Whether the library has counted the same.
    fn check_counts(&self) -> Result<(), String>;
}

pub(crate) type AnyEnd = Box<dyn End>;

/// Either side of a link.
pub(crate) trait Opens {
    const IS_MAIN: bool;
    fn open<E: LaneEnd>(&self, name: &str, config: &LaneConfig) -> ringmain::Result<E>;
}

impl Opens for WebContents {
    const IS_MAIN: bool = true;
    fn open<E: LaneEnd>(&self, name: &str, config: &LaneConfig) -> ringmain::Result<E> {
        self.lane(name, config)
    }
}

impl Opens for IpcRenderer {
    const IS_MAIN: bool = false;
    fn open<E: LaneEnd>(&self, name: &str, config: &LaneConfig) -> ringmain::Result<E> {
        self.lane(name, config)
    }
}

/// Which lane of which renderer is opened.
pub(crate) struct Opening<'a> {
    pub(crate) slot: Slot,
    pub(crate) seed: u64,
    pub(crate) renderer: u32,
    /// How often it was opened before. `None`: this is the renderer, which takes what main offers, within this time.
    pub(crate) generation: Option<u64>,
    pub(crate) timeout: Duration,
    pub(crate) sabotage: &'a Arc<Sabotage>,
}

impl Opening<'_> {
    /// Opens one side of it; each of its ends.
    pub(crate) fn open<O: Opens>(&self, of: &O, random: &mut Random) -> ringmain::Result<Vec<AnyEnd>> {
        let slot = self.slot;
        let mut config = LaneConfig::new()
            .capacity(*random.pick(&[1, 2, 7, 64, 256]).expect("a number"))
            .max_record(slot.longest() + self.generation.unwrap_or(0) as usize)
            .align(*random.pick(&[16, 64, 128]).expect("a number"))
            .open_timeout(self.timeout);
        // A renderer takes the alignment that main says.
        if !O::IS_MAIN {
            config = config.align(16);
        }
        if random.chance(100) {
            config = config.lock_memory(true);
        }
        if random.chance(500) {
            config = config.spin(Duration::ZERO);
        }
        match random.below(6) {
            0 => config = config.wake(WakePolicy::Never),
            1 => config = config.wake(WakePolicy::Relay),
            2 => config = config.wake(WakePolicy::IfParked),
            _ => {}
        }
        let prepares = random.chance(200);
        // Whether this side sends what goes that way.
        let sends = |to_main: bool| to_main != O::IS_MAIN;
        macro_rules! opened {
            ($end:ty) => {{
                let mut end = of.open::<$end>(slot.name(), &config)?;
                if prepares {
                    end.prepare();
                }
                end
            }};
        }
        let mut ends: Vec<AnyEnd> = Vec::new();
        match slot {
            Slot::ToRenderer | Slot::ToMain => {
                let half = slot.half(slot == Slot::ToMain);
                ends.push(match sends(half.to_main) {
                    true => self.sending(half, opened!(LaneSender<[u8]>)),
                    false => self.receiving(half, opened!(LaneReceiver<[u8]>)),
                });
            }
            Slot::Both => {
                let (sender, receiver) = opened!(LaneDuplex<[u8], [u8]>).split();
                ends.push(self.sending(slot.half(!O::IS_MAIN), sender));
                ends.push(self.receiving(slot.half(O::IS_MAIN), receiver));
            }
            Slot::Asks if O::IS_MAIN => ends.push(self.asking(opened!(LaneDuplex<Block, Block>))),
            Slot::Asks => ends.push(self.answering(opened!(LaneDuplex<Block, Block>))),
            Slot::Asked if O::IS_MAIN => ends.push(self.answering(opened!(LaneDuplex<[u8], [u8]>))),
            Slot::Asked => ends.push(self.asking(opened!(LaneDuplex<[u8], [u8]>))),
            Slot::NewestToRenderer | Slot::NewestToMain => {
                let half = slot.half(slot == Slot::NewestToMain);
                if sends(half.to_main) {
                    let writer = opened!(LatestWriter<[u8]>);
                    let stream = self.stream(half, Some(writer.max_record()));
                    ends.push(Box::new(Writing::new(stream, writer, self.sabotage)));
                } else {
                    let reader = opened!(LatestReader<[u8]>);
                    let stream = self.stream(half, Some(reader.max_record()));
                    ends.push(Box::new(Reading::new(stream, reader)));
                }
            }
        }
        Ok(ends)
    }

    /// `longest`: as the lane says, where that says how often it was opened before.
    fn stream(&self, half: Half, longest: Option<usize>) -> Stream {
        let &Self { seed, renderer, generation, .. } = self;
        let generation = longest.map(|longest| (longest - half.slot.longest()) as u64).or(generation);
        let is_fixed = longest.is_none();
        Stream { seed, renderer, half, generation, longest: longest.unwrap_or(size_of::<Block>()), is_fixed }
    }

    fn sending(&self, half: Half, sender: LaneSender<[u8]>) -> AnyEnd {
        let stream = self.stream(half, Some(sender.max_record()));
        let way = if half.to_main { Way::LaneToMain } else { Way::LaneToRenderer };
        Box::new(Sending::new(stream, sender, self.sabotage, way))
    }

    fn receiving(&self, half: Half, receiver: LaneReceiver<[u8]>) -> AnyEnd {
        let stream = self.stream(half, Some(receiver.max_record()));
        Box::new(Receiving::new(stream, receiver))
    }

    fn asking<T: Content + ?Sized>(&self, mut lane: LaneDuplex<T, T>) -> AnyEnd {
        Box::new(Asking::new(self.questions(&mut lane), lane))
    }

    fn answering<T: Content + ?Sized>(&self, mut lane: LaneDuplex<T, T>) -> AnyEnd {
        Box::new(Answering::new(self.questions(&mut lane), lane, self.sabotage))
    }

    fn questions<T: Content + ?Sized>(&self, lane: &mut LaneDuplex<T, T>) -> Stream {
        let longest = lane.sender().max_record();
        self.stream(self.slot.half(self.slot == Slot::Asked), (!T::IS_FIXED).then_some(longest))
    }
}

/// For a record, and for what it should be.
struct Buffers {
    found: Buffer,
    spare: Buffer,
}

impl Buffers {
    fn new(stream: &Stream) -> Self {
        Self { found: Buffer::new(stream), spare: Buffer::new(stream) }
    }
}

/// What ends an act: that the lane is closed, or something that may not be.
fn over(stream: &Stream, error: LaneError) -> Outcome {
    match error {
        LaneError::Closed => Ok(false),
        error => Err(format!("{} failed: {error}", stream.name())),
    }
}

fn soon(random: &mut Random, micros: u64) -> Instant {
    Instant::now() + Duration::from_micros(random.below(micros))
}

fn compared(stream: &Stream, what: &str, counted: u64, right: u64) -> Result<(), String> {
    if counted == right {
        return Ok(());
    }
    Err(format!("{}: the library has counted {counted} records as {what}, {right} were", stream.name()))
}
