//! A triple buffer: the newest value of a writer for one reader, neither of whom ever waits for the other.
//!
//! Three [`Slots`] and one word that names the middle one. The writer fills its own slot and exchanges it for the middle
//! one, saying that this is *fresh*; the reader, where it is, exchanges its own likewise. Which slot is whose is private, so a
//! peer that writes anything into the word, or stops half-way, makes the other side neither wait nor leave the slots.
//! Where a processor has an instruction for it, the exchange is one step.

use crate::region::Word64;
use crate::slots::Slots;
use crate::sync::{Ordering, Pair, order};

const INDEX: u64 = 3;
pub(crate) const FRESH: u64 = 4;
/// Above the flags the number of the value, 56 bits.
const NUMBER: u32 = 8;

/// At the beginning the word is 0: slot 0 lies in the middle.
const WRITERS: usize = 1;
const READERS: usize = 2;

/// What was taken out of the middle, whatever the peer has put there.
#[inline(always)]
fn index_of(word: u64, instead: usize) -> usize {
    match word & INDEX {
        index @ 0..=2 => index as usize,
        _ => instead,
    }
}

/// The writing end.
pub(crate) struct Writer {
    slots: Slots,
    middle: Word64,
    /// Our slot.
    back: usize,
    /// Of the last value.
    number: u64,
}

impl Writer {
    /// The writer of three empty, zeroed slots.
    pub(crate) fn new(slots: Slots, middle: Word64) -> Self {
        Self { slots, middle, back: WRITERS, number: 0 }
    }

    #[inline(always)]
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The slot to be filled.
    #[inline(always)]
    pub(crate) fn index(&self) -> usize {
        self.back
    }

    /// Makes `len` bytes in our slot the newest value. Whether the one before was never read.
    #[inline(always)]
    pub(crate) fn publish(&mut self, len: usize) -> bool {
        self.slots.word(self.back).store(len as u64, Ordering::Relaxed);
        self.number = self.number.wrapping_add(1);
        let word = self.number << NUMBER | FRESH | self.back as u64;
        // [publish/consume] Release: the bytes and their length are there when the slot is taken. Acquire: the reader's copies
        // out of the slot that we get happened before.
        let old = self.middle.swap(word, order(Pair::PublishConsume, Ordering::AcqRel));
        let published = self.back;
        self.back = index_of(old, published);
        if self.back == published {
            // No honest reader gives us this one: any other is as good.
            self.back = if published == 2 { 0 } else { published + 1 };
        }
        old & FRESH != 0
    }
}

/// A value that the reader has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Counts the values from 1 on.
    pub(crate) number: u64,
    /// At most the size of a slot.
    pub(crate) len: usize,
}

/// The reading end.
pub(crate) struct Reader {
    slots: Slots,
    middle: Word64,
    /// Our slot: the value that was taken last.
    front: usize,
}

impl Reader {
    /// The reader of three empty, zeroed slots.
    pub(crate) fn new(slots: Slots, middle: Word64) -> Self {
        Self { slots, middle, front: READERS }
    }

    #[inline(always)]
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The slot of the value that was taken last.
    #[inline(always)]
    pub(crate) fn index(&self) -> usize {
        self.front
    }

    /// Whether there is a newer value.
    #[inline(always)]
    pub(crate) fn has_more(&self) -> bool {
        self.middle.load(Ordering::Relaxed) & FRESH != 0
    }

    /// Takes the newest value, if it was not taken before. Its length is the writer's word, cut to what a slot holds.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Option<Taken> {
        if !self.has_more() {
            return None;
        }
        // As in `Writer::publish`.
        let word = self.middle.swap(self.front as u64, order(Pair::PublishConsume, Ordering::AcqRel));
        self.front = index_of(word, self.front);
        let len = self.slots.word(self.front).load(Ordering::Relaxed);
        let size = self.slots.size();
        Some(Taken { number: word >> NUMBER, len: if len > size as u64 { size } else { len as usize } })
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
