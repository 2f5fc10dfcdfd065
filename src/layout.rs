//! Where what lies in a region. Fixed-width fields only, so that a 32-bit process can talk to a 64-bit one; the offsets
//! are agreed in the handshake and nothing is decided by what the region itself says.

use crate::region::WORD;
use crate::ring::window_of;
use crate::slots::SlotPlace;
use std::ops::Range;

/// Distance between words that different sides write: two cache lines, because x86-64 fetches lines in pairs.
pub(crate) const LINE: usize = 128;

/// Bytes before the control words: magic and version, for people with a debugger.
pub(crate) const HEADER: usize = LINE;

/// What the header begins with.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"RINGMAIN");

/// Offsets of one direction's words from the start of its block. The writer of the direction is the sender.
pub(crate) mod direction {
    use super::LINE;

    /// Reader: position up to which the ring is free again (64 bit).
    pub(crate) const HEAD: usize = 0;
    /// Reader announces here who sleeps; the writer takes the announcement away (32 bit).
    pub(crate) const SLEEPER: usize = LINE;
    /// Writer says here that it found no room; the reader takes it away (32 bit).
    pub(crate) const WANTS_ROOM: usize = 2 * LINE;
    /// Futex word of the reader's dispatcher (32 bit).
    pub(crate) const DISPATCHER: usize = 3 * LINE;
    /// Futex word of the reader's leading caller (32 bit).
    pub(crate) const CALLER: usize = 4 * LINE;
    /// Bytes of a block.
    pub(crate) const BYTES: usize = 5 * LINE;
}

const CONTROL_BYTES: usize = 2 * direction::BYTES;
const PAGE: usize = 4096;
/// The rings of different links begin at different lines of a page, or the hot words of many links would all fall into
/// the same cache sets (measured: 1 000 links at one offset cost 5 µs a look, staggered under 1).
const STAGGER: usize = 32;

const _: () = assert!(HEADER + CONTROL_BYTES <= PAGE);
const _: () = assert!(STAGGER * LINE <= PAGE);
const _: () = assert!(direction::HEAD.is_multiple_of(8) && direction::SLEEPER.is_multiple_of(4));

/// One ring's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RingPlace {
    /// Byte offset in the region.
    pub(crate) offset: usize,
    /// Number of 64-bit words, a power of two.
    pub(crate) words: usize,
}

/// The layout of a link's region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Size of the region in bytes.
    pub(crate) region: usize,
    /// Offset of the control words: first the block main → renderer, then renderer → main.
    pub(crate) control: usize,
    /// The ring that main writes.
    pub(crate) to_renderer: RingPlace,
    /// The ring that the renderer writes.
    pub(crate) to_main: RingPlace,
}

/// Smallest ring in bytes.
pub(crate) const MIN_RING: usize = 1024;
/// Largest ring in bytes.
pub(crate) const MAX_RING: usize = 1 << 30;

impl Layout {
    /// A layout with two rings of `ring_bytes` (a power of two); `id` chooses the line at which they begin.
    pub(crate) fn new(ring_bytes: usize, id: u32) -> Self {
        let ring_bytes = ring_bytes.clamp(MIN_RING, MAX_RING).next_power_of_two();
        let first = PAGE + (id as usize % STAGGER) * LINE;
        let words = ring_bytes / WORD;
        Self {
            region: 2 * PAGE + 2 * ring_bytes,
            control: HEADER,
            to_renderer: RingPlace { offset: first, words },
            to_main: RingPlace { offset: first + ring_bytes, words },
        }
    }

    /// Whether main's welcome describes something that can be used: powers of two, aligned, apart, inside.
    pub(crate) fn is_usable(&self) -> bool {
        let ring = |place: &RingPlace| -> Option<(usize, usize)> {
            let bytes = place.words.checked_mul(WORD)?;
            let fits = place.words.is_power_of_two()
                && (MIN_RING..=MAX_RING).contains(&bytes)
                && place.offset.is_multiple_of(WORD);
            fits.then_some((place.offset, place.offset.checked_add(bytes)?))
        };
        let control = self
            .control
            .checked_add(CONTROL_BYTES)
            .filter(|_| self.control >= 16 && self.control.is_multiple_of(WORD))
            .map(|end| (self.control, end));
        let (Some(a), Some(b), Some(c)) = (ring(&self.to_renderer), ring(&self.to_main), control) else {
            return false;
        };
        let apart = |x: (usize, usize), y: (usize, usize)| x.1 <= y.0 || y.1 <= x.0;
        apart(a, b) && apart(a, c) && apart(b, c) && [a, b, c].iter().all(|part| part.1 <= self.region)
    }

    /// The bytes that have memory from the start: control words and the windows of the rings. The rest gets some when
    /// long messages flow.
    pub(crate) fn parts(&self) -> [Range<usize>; 2] {
        let window_end = |ring: &RingPlace| ring.offset + window_of(ring.words) * WORD;
        [0..window_end(&self.to_renderer), self.to_main.offset..window_end(&self.to_main)]
    }

    /// Offset of the block of words of the direction that main writes (`true`) or reads.
    pub(crate) fn block(&self, written_by_main: bool) -> usize {
        self.control + if written_by_main { 0 } else { direction::BYTES }
    }
}

/// Offsets of the words of one direction of a lane from the start of its block. The writer of the direction is the sender.
pub(crate) mod lane {
    use super::LINE;

    /// Receiver: records read (64 bit).
    pub(crate) const HEAD: usize = 0;
    /// Receiver: whether it is parked (the sender takes that away), whether it was dropped (32 bit).
    pub(crate) const RECEIVER: usize = LINE;
    /// Futex word of the receiver (32 bit).
    pub(crate) const BELL: usize = 2 * LINE;
    /// Sender: whether it wakes, whether it was dropped (32 bit).
    pub(crate) const SENDER: usize = 3 * LINE;
    /// Of a latest-value lane: the middle slot (64 bit), exchanged by both.
    pub(crate) const MIDDLE: usize = 4 * LINE;
    /// Bytes of a block.
    pub(crate) const BYTES: usize = 5 * LINE;
}

const _: () = assert!(HEADER + 2 * lane::BYTES <= PAGE);

/// A record that fits with its word into one cache line has it behind its bytes: one line is one transfer. Longer ones have
/// their words apart, so that they lie close together and several of them share a line.
const ONE_LINE: usize = 64;

/// One direction of a lane: records of at most `size` bytes in `count` slots that are aligned to `align`, a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneShape {
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) count: usize,
}

/// The layout of a lane's region; both sides compute it from the same shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneLayout {
    /// Size of the region in bytes.
    pub(crate) region: usize,
    /// What main writes, and what the renderer writes.
    pub(crate) to_renderer: Option<SlotPlace>,
    pub(crate) to_main: Option<SlotPlace>,
}

impl LaneLayout {
    /// `None`: the shapes have no layout, because one is empty or all is larger than addresses are.
    pub(crate) fn new(to_renderer: Option<LaneShape>, to_main: Option<LaneShape>, id: u32) -> Option<Self> {
        let mut end = PAGE + (id as usize % STAGGER) * LINE;
        let mut place = |shape: Option<LaneShape>| -> Option<Option<SlotPlace>> {
            let Some(LaneShape { size, align, count }) = shape else { return Some(None) };
            if count == 0 || size == 0 || !align.is_power_of_two() || align > LINE {
                return None;
            }
            let words = size.checked_next_multiple_of(WORD)?;
            let start = end;
            let place = if words + WORD <= ONE_LINE {
                let stride = (words + WORD).next_power_of_two().max(align);
                end = start.checked_add(stride.checked_mul(count)?)?;
                SlotPlace { data: start, stride, size, words: start + words, word_stride: stride, count }
            } else {
                let stride = words.checked_next_multiple_of(align.max(ONE_LINE))?;
                let data = start.checked_add(count.checked_mul(WORD)?)?.checked_next_multiple_of(LINE)?;
                end = data.checked_add(stride.checked_mul(count)?)?;
                SlotPlace { data, stride, size, words: start, word_stride: WORD, count }
            };
            end = end.checked_next_multiple_of(LINE)?;
            Some(Some(place))
        };
        let (to_renderer, to_main) = (place(to_renderer)?, place(to_main)?);
        Some(Self { region: end.checked_next_multiple_of(PAGE)?, to_renderer, to_main })
    }

    /// Offset of the block of words of the direction that main writes (`true`) or reads.
    pub(crate) fn block(written_by_main: bool) -> usize {
        HEADER + if written_by_main { 0 } else { lane::BYTES }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_slots_of_a_lane_lie_aligned_inside_and_apart() {
        for size in [1, 8, 48, 56, 57, 64, 100, 4096, 8 << 20] {
            for align in [1, 16, 64, 128] {
                for count in [1, 2, 3, 36, 288] {
                    for id in [1, 31, 33] {
                        let shape = LaneShape { size, align, count };
                        let layout = LaneLayout::new(Some(shape), Some(shape), id).expect("small");
                        let (a, b) = (layout.to_renderer.expect("there"), layout.to_main.expect("there"));
                        for place in [a, b] {
                            assert!(
                                place.data.is_multiple_of(align) && place.stride.is_multiple_of(align),
                                "{layout:?}"
                            );
                            assert!(place.stride >= size && place.words >= PAGE && place.words.is_multiple_of(WORD));
                            let is_apart = place.word_stride == WORD;
                            let ends_before = place.words + count * WORD <= place.data;
                            let is_behind = place.words >= place.data + size && place.word_stride == place.stride;
                            assert!(if is_apart { ends_before } else { is_behind || count == 1 }, "{layout:?}");
                        }
                        let a_end = (a.data + a.stride * count).max(a.words + a.word_stride * (count - 1) + WORD);
                        assert!(a_end <= b.data.min(b.words), "{layout:?}");
                        assert!(b.data + b.stride * (count - 1) + size <= layout.region, "{layout:?}");
                        assert!(b.words + b.word_stride * (count - 1) + WORD <= layout.region, "{layout:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_lane_without_slots_or_larger_than_memory_has_no_layout() {
        let shape = |size, align, count| Some(LaneShape { size, align, count });
        for bad in [
            shape(0, 16, 1),
            shape(8, 16, 0),
            shape(8, 3, 1),
            shape(8, 256, 1),
            shape(usize::MAX, 16, 1),
            shape(64, 16, usize::MAX),
            shape(usize::MAX / 2, 16, 3),
        ] {
            assert_eq!(LaneLayout::new(bad, None, 1), None, "{bad:?}");
            assert_eq!(LaneLayout::new(None, bad, 1), None, "{bad:?}");
        }
    }

    #[test]
    fn every_ring_size_and_id_gives_a_usable_layout() {
        for ring in [0, 1, 1024, 1025, 64 << 10, 128 << 10, 1 << 20] {
            for id in 0..70 {
                let layout = Layout::new(ring, id);
                assert!(layout.is_usable(), "{layout:?}");
                assert!(layout.to_main.words * WORD >= ring.max(MIN_RING));
            }
        }
    }

    #[test]
    fn a_layout_that_overlaps_or_leaves_the_region_is_not_usable() {
        let good = Layout::new(4096, 1);
        let with = |change: fn(&mut Layout)| {
            let mut bad = good;
            change(&mut bad);
            bad.is_usable()
        };
        assert!(!with(|l| l.to_main.offset = l.to_renderer.offset));
        assert!(!with(|l| l.to_main.offset = l.region - 8));
        assert!(!with(|l| l.to_main.offset = usize::MAX - 7));
        assert!(!with(|l| l.to_main.words = usize::MAX));
        assert!(!with(|l| l.to_main.words = 3));
        assert!(!with(|l| l.to_main.offset += 4));
        assert!(!with(|l| l.control = l.to_main.offset));
        assert!(!with(|l| l.control = 0));
        assert!(!with(|l| l.control = usize::MAX - 7));
        assert!(!with(|l| l.region = 4096));
    }
}
