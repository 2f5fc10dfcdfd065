//! Where what lies in a region. Fixed-width fields only, so that a 32-bit process can talk to a 64-bit one; the offsets
//! are agreed in the handshake and nothing is decided by what the region itself says.

use crate::region::WORD;
use crate::ring::window_of;
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

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
