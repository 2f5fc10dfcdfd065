//! What goes by the lanes of `ringmain::lane`, so that whoever takes it can tell whether it is right: its place among the records of
//! its sender, and bytes that follow from that, the seed, the renderer, the lane and how often it was opened before.

use super::super::counts::Kind;
use super::super::random::{Random, mix};

/// The lanes that main may have with each renderer, each with a name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Slot {
    ToRenderer,
    ToMain,
    /// A duplex lane, used as a stream each way.
    Both,
    /// Main asks.
    Asks,
    /// Main is asked.
    Asked,
    NewestToRenderer,
    NewestToMain,
}

pub(crate) const SLOTS: [Slot; 7] =
    [Slot::ToRenderer, Slot::ToMain, Slot::Both, Slot::Asks, Slot::Asked, Slot::NewestToRenderer, Slot::NewestToMain];

/// A place among these: one of exchanges more often, which are to be answered in time.
pub(crate) fn pick(random: &mut Random, answers: Slot) -> usize {
    if random.chance(300) { answers as usize } else { random.below(SLOTS.len() as u64) as usize }
}

impl Slot {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ToRenderer => "to renderer",
            Self::ToMain => "to main",
            Self::Both => "both ways",
            Self::Asks => "asks",
            Self::Asked => "asked",
            Self::NewestToRenderer => "newest to renderer",
            Self::NewestToMain => "newest to main",
        }
    }

    /// The longest record of the lane that was opened for the first time; it is one longer each time, by which the renderer
    /// knows which one it has. Values are long, so that one that is torn is seen.
    pub(crate) fn longest(self) -> usize {
        match self {
            Self::NewestToRenderer | Self::NewestToMain => 8 << 10,
            _ => 800,
        }
    }

    pub(crate) fn half(self, to_main: bool) -> Half {
        Half { slot: self, to_main }
    }
}

/// One direction of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    pub(crate) slot: Slot,
    pub(crate) to_main: bool,
}

impl Half {
    pub(crate) fn number(self) -> u64 {
        self.slot as u64 * 2 + u64::from(self.to_main)
    }

    fn other(self) -> Self {
        Self { to_main: !self.to_main, ..self }
    }

    pub(crate) fn kind(self) -> Kind {
        match (self.slot, self.to_main) {
            (Slot::Asks, _) => Kind::LaneAsks,
            (Slot::Asked, _) => Kind::LaneAsked,
            (Slot::NewestToRenderer | Slot::NewestToMain, false) => Kind::NewestToRenderer,
            (Slot::NewestToRenderer | Slot::NewestToMain, true) => Kind::NewestToMain,
            (_, false) => Kind::LaneToRenderer,
            (_, true) => Kind::LaneToMain,
        }
    }
}

/// The records of one direction, from the opening of the lane to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) seed: u64,
    pub(crate) renderer: u32,
    pub(crate) half: Half,
    /// How often the lane was opened before. `None`: the first record says so.
    pub(crate) generation: Option<u64>,
    /// Of a record.
    pub(crate) longest: usize,
    /// All have that length.
    pub(crate) is_fixed: bool,
}

/// Generation, index, and how many found no room before. At least a byte of the body follows, which depends on all three.
const HEADER: usize = 24;

/// The bytes of a record, aligned for types of words.
pub(crate) struct Buffer(Vec<u64>);

impl Buffer {
    /// Room for records of these.
    pub(crate) fn new(stream: &Stream) -> Self {
        Self(vec![0; stream.longest.div_ceil(8)])
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.0
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }

    /// Changes the smallest part of a record of this length: of its body, because a changed header is another record's.
    pub(crate) fn spoil(&mut self, len: usize) {
        self.bytes_mut()[len - 1] ^= 1;
    }
}

impl Stream {
    pub(crate) fn name(&self) -> String {
        let Self { renderer, half, generation, .. } = self;
        let (to_main, generation) = (half.to_main, generation.unwrap_or(0));
        let way = if to_main { format!("renderer {renderer} to main") } else { format!("main to renderer {renderer}") };
        format!("lane '{}' (opening {generation}) from {way}", half.slot.name())
    }

    /// Where the answers go.
    pub(crate) fn answers(&self) -> Self {
        Self { half: self.half.other(), ..*self }
    }

    /// Makes record `index`, before which so many found no room; its length.
    pub(crate) fn write(&self, index: u64, dropped: u64, to: &mut Buffer) -> usize {
        let generation = self.generation.unwrap_or(0);
        let key = mix(&[self.seed, u64::from(self.renderer), self.half.number(), generation, index, dropped]);
        let mut random = Random::new(&[key]);
        let room = (self.longest - HEADER) as u64;
        let most = if random.chance(700) { room.min(64) } else { room };
        let len = if self.is_fixed { self.longest } else { HEADER + 1 + random.below(most) as usize };
        let words = to.words_mut();
        words[..3].copy_from_slice(&[generation, index, dropped]);
        words[3..len.div_ceil(8)].iter_mut().for_each(|word| *word = random.next());
        len
    }

    /// Whether the first `len` bytes are a record of this stream: its index, and how many found no room before.
    pub(crate) fn check(&mut self, found: &Buffer, len: usize, spare: &mut Buffer) -> Result<(u64, u64), String> {
        let &[generation, index, dropped, ..] = found.words() else { unreachable!("there is room for a header") };
        if len <= HEADER {
            return Err(format!("a record of {len} bytes came by {}", self.name()));
        }
        if *self.generation.get_or_insert(generation) != generation {
            return Err(format!("a record of opening {generation} came by {}", self.name()));
        }
        let right = self.write(index, dropped, spare);
        let (right, found) = (&spare.bytes()[..right], &found.bytes()[..len]);
        if right == found {
            return Ok((index, dropped));
        }
        let at = right.iter().zip(found).position(|(a, b)| a != b).unwrap_or(right.len().min(len));
        Err(format!(
            "record {index} of {} has another body: {len} bytes instead of {}, first at {at}",
            self.name(),
            right.len()
        ))
    }
}
