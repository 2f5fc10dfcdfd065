//! Single-producer single-consumer byte records in an array of 64-bit words.
//!
//! A record is one *record word* (kind and length) and its bytes, filled up to words. The record word is the commit word:
//! the writer zeroes the **next** record's word, then stores this one with Release; the reader polls the word at its own
//! position and sees 0 until a record is there. So a small record costs one cache-line transfer, and both cursors are
//! private; only the reader's *head* (up to where the ring is free again) is shared.
//!
//! Invariants:
//! * In use = head to the end of the last record **plus the next record's word**; otherwise an exact fit would zero the
//!   word of the oldest unread record.
//! * A record with its word is at most half the ring, so that padding and record fit an empty ring at any position.
//! * Padding is legal only at an offset other than 0, reaches exactly to the end, never twice running.
//! * Short records lie in the first part of the ring, its *window*; long ones follow each other through all of it
//!   ([`window_of`] says why).
//! * The writer accepts a head only between the last one seen and its own position.
//!
//! The ring never waits, allocates or parses. What the other side may change meanwhile: everything in the words; the
//! reader looks at each record word once and takes the bytes by copy.

use crate::region::{WORD, Word64, Words};
use crate::sync::{Ordering, Pair, order};
use std::mem::MaybeUninit;

/// What a record word says beside the length. The values are the protocol's (PROTOCOL.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A whole message.
    Whole = 1,
    /// The first chunk of a message; it begins with the message's length (64 bit).
    First = 2,
    /// A further chunk.
    More = 3,
}

const PADDING: u8 = 4;

/// Bytes that the buffer of a long message has beyond what it needs. Allocators lay blocks side by side, so that a text of a
/// power of two lands a few bytes beyond the place in a page at which it lay in the message; processors that compare the
/// low bits of addresses then copy it two to five times as slowly (4 KiB there and back in 3.0 instead of 1.9 µs). Half a
/// page keeps them apart.
pub(crate) const APART: usize = 2048;

/// What is shorter is copied at once.
const LONG: usize = 1024;

fn record_word(kind: u8, len: usize) -> u64 {
    u64::from(kind) << 56 | len as u64
}

/// Words that a record of `len` bytes takes, its record word included.
fn words_of(len: usize) -> u64 {
    1 + len.div_ceil(WORD) as u64
}

/// The largest record in bytes for a ring of `words`: half the ring, the record word included.
pub(crate) fn max_record(words: usize) -> usize {
    (words / 2 - 1) * WORD
}

/// The first words of a ring of `words`: its window. A short record that would end beyond it is padded to the beginning, so
/// that short messages use little memory again and again, which stays in the caches and is all that is allocated at first.
///
/// Long ones roam: those of messages that are longer than a 32nd of the window. Memory that the reader has just read lies
/// in its cache, and a writer gets it back from there at 9 GB/s; what has not been used for about the size of a
/// second-level cache, at 30 (`PERFORMANCE.md`).
pub(crate) fn window_of(words: usize) -> usize {
    (words / 8).max(words.min(SMALL_RING))
}

/// The largest ring, in words, that is its own window.
const SMALL_RING: usize = (32 << 10) / WORD;

/// The largest record in bytes that messages are cut into, for a ring of `words`: a quarter of the window, its record word
/// included.
pub(crate) fn max_chunk(words: usize) -> usize {
    (window_of(words) / 4 - 1) * WORD
}

/// Why nothing could be reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// No room now.
    Full,
    /// No room ever: the record is larger than [`max_record`].
    TooLarge,
    /// The reader's head is impossible.
    Corrupt(Corrupt),
}

/// The peer broke an invariant of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Corrupt {
    /// The head is outside what was written and not yet read.
    Head { head: u64, seen: u64, position: u64 },
    /// A record word with an unknown kind or with reserved bits set.
    Word { position: u64, word: u64 },
    /// A record longer than [`max_record`] or than what is left before the end.
    Length { position: u64, len: u64, most: u64 },
    /// Padding at offset 0, twice running, or not up to the end.
    Padding { position: u64, word: u64 },
}

impl std::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Corrupt::Head { head, seen, position } => {
                write!(f, "the reader's head is {head}, it must lie between {seen} and {position}")
            }
            Corrupt::Word { position, word } => {
                write!(f, "the word {word:#x} at position {position} is no record")
            }
            Corrupt::Length { position, len, most } => {
                write!(f, "the record at position {position} says {len} bytes, at most {most} are possible there")
            }
            Corrupt::Padding { position, word } => {
                write!(f, "illegal padding {word:#x} at position {position}")
            }
        }
    }
}

/// The sending end.
pub(crate) struct Writer {
    words: Words,
    head: Word64,
    /// Where the next record begins, in words since the beginning.
    position: u64,
    /// The last head accepted.
    seen: u64,
    /// Words of the window.
    window: u64,
    /// Bytes of the longest message that stays in it.
    longest_short: u64,
    /// Words from the beginning on that have memory, more than once they are needed.
    ready: u64,
    /// Up to where long records may lie: the whole ring, unless there was no memory for it.
    limit: u64,
    /// The largest record in bytes.
    most: usize,
}

impl Writer {
    /// The writer of an empty, zeroed ring, whose window has memory.
    pub(crate) fn new(words: Words, head: Word64) -> Self {
        let (window, limit) = (window_of(words.len()) as u64, words.len() as u64);
        let most = max_record(words.len());
        let longest_short = window * WORD as u64 / 32;
        Self { words, head, position: 0, seen: 0, window, longest_short, ready: window, limit, most }
    }

    /// Where the next record begins: changes with each one that is written.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Test support: whether the last head accepted is one that may be.
    #[cfg(test)]
    pub(crate) fn accepts_its_own_head(&self) -> bool {
        self.seen <= self.position && self.position - self.seen <= self.words.len() as u64
    }

    /// Words to skip before a record of `size` words, and where it ends then, the next record's word not included.
    #[inline]
    fn place(&self, size: u64, is_long: bool) -> (u64, u64) {
        let ring = self.words.len() as u64;
        let offset = self.position & (ring - 1);
        let limit = if is_long { self.limit } else { self.window };
        // The next record's word lies inside as well, unless it is the ring's first one.
        let end = offset + size;
        if end < limit || end == ring { (0, end) } else { (ring - offset, size) }
    }

    /// Gets memory up to `end`; where there is none, what there is serves from now on.
    #[cold]
    fn grow(&mut self, end: u64) {
        let ring = self.words.len() as u64;
        let wanted = (end + 1).next_multiple_of(self.window).min(ring);
        if self.words.populate(self.ready as usize, wanted as usize) {
            self.ready = wanted;
        } else {
            self.limit = self.ready;
            // Half of it, with the next record's word, for the same reason as in the whole ring.
            self.most = self.most.min((self.limit as usize / 2 - 2) * WORD);
        }
    }

    /// Room for a record of `len` bytes that is a message. See [`reserve_part`](Self::reserve_part).
    #[inline]
    pub(crate) fn reserve(&mut self, len: usize) -> Result<Reservation<'_>, WriteError> {
        self.reserve_part(len, len)
    }

    /// Room for a record of `len` bytes, a part of a message of `whole`, and the word behind it zeroed. Dropping the
    /// reservation changes nothing that is in use.
    #[inline]
    pub(crate) fn reserve_part(&mut self, len: usize, whole: usize) -> Result<Reservation<'_>, WriteError> {
        if len > self.most {
            return Err(WriteError::TooLarge);
        }
        let ring = self.words.len() as u64;
        let size = words_of(len);
        let is_long = whole as u64 > self.longest_short;
        let (mut padding, last) = self.place(size, is_long);
        if last >= self.ready && self.ready < self.limit {
            self.grow(last);
            if len > self.most {
                return Err(WriteError::TooLarge);
            }
            (padding, _) = self.place(size, is_long);
        }
        let end = self.position + padding + size + 1;
        if end - self.seen > ring {
            // [free/reuse] Acquire: the reader's copies out of these words happened before its Release of the head.
            let head = self.head.load(order(Pair::FreeReuse, Ordering::Acquire));
            if head < self.seen || head > self.position {
                return Err(WriteError::Corrupt(Corrupt::Head { head, seen: self.seen, position: self.position }));
            }
            self.seen = head;
            if end - head > ring {
                return Err(WriteError::Full);
            }
        }
        let start = self.position + padding;
        // Before the record is written, for the same reason for which that is written backwards: see `Words::write`.
        self.words.at(start + size).store(0, Ordering::Relaxed);
        Ok(Reservation { start, padding, len, writer: self })
    }
}

/// Room in the ring that nobody sees before [`commit`](Reservation::commit).
pub(crate) struct Reservation<'a> {
    writer: &'a mut Writer,
    start: u64,
    padding: u64,
    len: usize,
}

impl Reservation<'_> {
    /// Copies `bytes` to the byte offset `at` (a multiple of 8) of the record.
    #[inline]
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at.is_multiple_of(WORD) && at + bytes.len() <= self.len);
        self.writer.words.write(self.start + 1 + (at / WORD) as u64, bytes);
    }

    /// Makes the record visible to the reader.
    #[inline]
    pub(crate) fn commit(self, kind: Kind) {
        let words = &self.writer.words;
        let release = order(Pair::PublishConsume, Ordering::Release);
        let next = self.start + words_of(self.len);
        let word = record_word(kind as u8, self.len);
        // [publish/consume] Release: the next word's zero and the record's bytes are there when the word is seen. Behind
        // padding it is the padding's word that publishes both.
        if self.padding == 0 {
            words.at(self.start).store(word, release);
        } else {
            words.at(self.start).store(word, Ordering::Relaxed);
            let bytes = (self.padding as usize - 1) * WORD;
            words.at(self.writer.position).store(record_word(PADDING, bytes), release);
        }
        self.writer.position = next;
    }
}

/// A record that lies at the reader's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    /// Length in bytes.
    pub(crate) len: usize,
}

/// The receiving end.
pub(crate) struct Reader {
    words: Words,
    head: Word64,
    /// Where the next record begins, in words since the beginning.
    position: u64,
    /// The head as last published.
    published: u64,
    /// The position at the last look, behind a fence, whether the writer wants room.
    looked: u64,
    /// Padding was skipped and no record read since.
    behind_padding: bool,
    /// Words after which the head is published: a quarter of the window.
    quarter: u64,
}

impl Reader {
    /// The reader of an empty, zeroed ring.
    pub(crate) fn new(words: Words, head: Word64) -> Self {
        let quarter = window_of(words.len()) as u64 / 4;
        Self { words, head, position: 0, published: 0, looked: 0, behind_padding: false, quarter }
    }

    /// Whether a record, or something that is none, lies at the reader's position. Spurious where only padding does.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.words.at(self.position).load(Ordering::Relaxed) != 0
    }

    /// The record at the reader's position. Looks at one record word, behind padding at two.
    #[inline]
    pub(crate) fn peek(&mut self) -> Result<Option<Record>, Corrupt> {
        loop {
            // [publish/consume] Acquire: pairs with the Release of `commit`. The word is looked at once.
            let word = self.words.at(self.position).load(order(Pair::PublishConsume, Ordering::Acquire));
            self.words.prefetch_behind(self.position);
            if word == 0 {
                return Ok(None);
            }
            let position = self.position;
            let len = word & 0x00ff_ffff_ffff_ffff;
            let kind = match (word >> 56) as u8 {
                1 => Kind::Whole,
                2 => Kind::First,
                3 => Kind::More,
                PADDING => {
                    let ring = self.words.len() as u64;
                    let offset = position & (ring - 1);
                    let to_end = ring - offset;
                    if offset == 0 || self.behind_padding || len != (to_end - 1) * WORD as u64 {
                        return Err(Corrupt::Padding { position, word });
                    }
                    self.behind_padding = true;
                    self.position += to_end;
                    continue;
                }
                _ => return Err(Corrupt::Word { position, word }),
            };
            let ring = self.words.len() as u64;
            let to_end = (ring - (position & (ring - 1)) - 1) * WORD as u64;
            let most = to_end.min(max_record(self.words.len()) as u64);
            if len > most {
                return Err(Corrupt::Length { position, len, most });
            }
            return Ok(Some(Record { kind, len: len as usize }));
        }
    }

    /// Copies the bytes of `record` from the byte offset `at` (a multiple of 8) on to the end of `to`.
    #[inline]
    pub(crate) fn append_to(&self, record: Record, at: usize, to: &mut Vec<u8>) {
        let bytes = record.len.saturating_sub(at);
        if to.capacity() - to.len() < bytes {
            to.reserve(if bytes < LONG { bytes } else { bytes + APART });
        }
        let spare = to.spare_capacity_mut();
        // Whole words where there is room for them: what fills up the last one lies behind the length.
        let words = bytes.next_multiple_of(WORD);
        let spare = if spare.len() >= words { &mut spare[..words] } else { &mut spare[..bytes] };
        self.words.read(self.position + 1 + (at / WORD) as u64, spare);
        let len = to.len() + bytes;
        // SAFETY: `reserve` made the capacity, `read` has written at least `bytes` bytes behind the old length.
        #[allow(unsafe_code)]
        unsafe {
            to.set_len(len);
        }
    }

    /// The 64-bit word at the byte offset `at` (a multiple of 8) of the record, looked at once.
    #[inline]
    pub(crate) fn word(&self, at: usize) -> u64 {
        let mut bytes = [MaybeUninit::uninit(); WORD];
        self.words.read(self.position + 1 + (at / WORD) as u64, &mut bytes);
        // SAFETY: `read` has written all eight bytes.
        #[allow(unsafe_code)]
        u64::from_le_bytes(bytes.map(|byte| unsafe { byte.assume_init() }))
    }

    /// Leaves the record behind; publishes the head after each quarter of the window. Returns whether a look at the
    /// writer's wish for room is due, as [`publish`](Self::publish) does.
    #[inline]
    pub(crate) fn release(&mut self, record: Record) -> bool {
        self.position += words_of(record.len);
        self.behind_padding = false;
        self.position - self.published >= self.quarter && self.publish()
    }

    /// Publishes the head; due when the ring is found empty and before anything that may take long.
    ///
    /// Returns true after each quarter of the window: the caller must then look, behind a fence, whether the writer wants
    /// room. In between no fence is needed: a writer that finds no room has seen at least the head of the last look, so
    /// it lacks less than a quarter of the window. The rest of the ring has room for a record of at most another quarter
    /// and its padding, which is at most a record longer than what lies behind the window.
    #[inline]
    pub(crate) fn publish(&mut self) -> bool {
        if self.published != self.position {
            // [free/reuse] Release: our copies out of these words come before.
            self.head.store(self.position, order(Pair::FreeReuse, Ordering::Release));
            self.published = self.position;
        }
        let due = self.position - self.looked >= self.quarter;
        if due {
            self.looked = self.position;
        }
        due
    }

    /// Where the next record begins: changes with each one that is read.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The head as last published.
    #[inline]
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// As [`publish`](Self::publish), where a fence and a look follow in any case.
    pub(crate) fn publish_and_look(&mut self) {
        self.publish();
        self.looked = self.position;
    }

    /// A position behind all that lies in the ring now.
    pub(crate) fn horizon(&self) -> u64 {
        self.position + self.words.len() as u64
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
