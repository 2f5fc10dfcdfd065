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
}

impl Writer {
    /// The writer of an empty, zeroed ring.
    pub(crate) fn new(words: Words, head: Word64) -> Self {
        Self { words, head, position: 0, seen: 0 }
    }

    /// The largest record in bytes.
    pub(crate) fn max_record(&self) -> usize {
        max_record(self.words.len())
    }

    /// Room for a record of `len` bytes, and the word behind it zeroed. Dropping the reservation changes nothing that is
    /// in use.
    #[inline]
    pub(crate) fn reserve(&mut self, len: usize) -> Result<Reservation<'_>, WriteError> {
        if len > self.max_record() {
            return Err(WriteError::TooLarge);
        }
        let ring = self.words.len() as u64;
        let size = words_of(len);
        let to_end = ring - (self.position & (ring - 1));
        let padding = if size <= to_end { 0 } else { to_end };
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
}

impl Reader {
    /// The reader of an empty, zeroed ring.
    pub(crate) fn new(words: Words, head: Word64) -> Self {
        Self { words, head, position: 0, published: 0, looked: 0, behind_padding: false }
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

    /// Leaves the record behind; publishes the head after each quarter of the ring. Returns whether a look at the
    /// writer's wish for room is due, as [`publish`](Self::publish) does.
    #[inline]
    pub(crate) fn release(&mut self, record: Record) -> bool {
        self.position += words_of(record.len);
        self.behind_padding = false;
        self.position - self.published >= self.quarter() && self.publish()
    }

    /// Publishes the head; due when the ring is found empty and before anything that may take long.
    ///
    /// Returns true after each quarter of the ring: the caller must then look, behind a fence, whether the writer wants
    /// room. In between no fence is needed: a writer that finds no room has seen at least the head of the last look, so
    /// it lacks less than a quarter, which an otherwise empty ring has for a record of at most a quarter and its padding.
    #[inline]
    pub(crate) fn publish(&mut self) -> bool {
        if self.published != self.position {
            // [free/reuse] Release: our copies out of these words come before.
            self.head.store(self.position, order(Pair::FreeReuse, Ordering::Release));
            self.published = self.position;
        }
        let due = self.position - self.looked >= self.quarter();
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

    fn quarter(&self) -> u64 {
        self.words.len() as u64 / 4
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
