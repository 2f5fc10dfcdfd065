//! Single-producer single-consumer records of at most one size, in [`Slots`].
//!
//! Each record has a word: a number that counts what was sent or dropped, the length, and in bit 0 the *lap*, 1 in the
//! first round through the slots, 0 in the second, and so on. The consumer looks at the word of its next slot alone and sees
//! a record there when its lap is the present one; so a record costs the transfer of its bytes and of its word, no index
//! of the producer's is shared, and the bytes of records lie close together. Of several records published together the first
//! one's word is stored last. Both positions are private; the consumer's is published for the producer, rarely.
//!
//! All operations are bounded by the number of slots at most, whatever the peer writes, and none panics.

use crate::region::Word64;
use crate::slots::Slots;
use crate::sync::{Ordering, Pair, order};

/// The peer broke an invariant: its word or its position cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// The longest record in bytes: its length has 31 bits in the word.
pub(crate) const MAX_RECORD: usize = 1 << 30;

/// How many records ahead the producer asks for the memory that it is to write to: the consumer had it last. At the end of the
/// slots it does not, which costs less than to find out where they go on.
const AHEAD: usize = 8;

/// How many records the consumer leaves behind before the producer is told.
pub(crate) const fn published_every(count: usize) -> u64 {
    let every = count / 8;
    if every == 0 { 1 } else { every as u64 }
}

/// Slots that a lane needs so that `capacity` records always have room, also while the consumer has not told yet.
pub(crate) const fn slots_for(capacity: usize) -> usize {
    // Of `count` slots as many as `count / 8 - 1` may be missing, which the producer was not told of.
    let mut count = capacity + (capacity / 8).saturating_sub(1);
    while count - (published_every(count) as usize - 1) < capacity {
        count += 1;
    }
    count
}

#[inline(always)]
fn word_of(number: u32, len: usize, lap: u64) -> u64 {
    u64::from(number) << 32 | (len as u64) << 1 | lap
}

/// The slot behind `index`, and the lap there.
#[inline(always)]
fn next(index: usize, lap: u64, count: usize) -> (usize, u64) {
    if index + 1 == count { (0, lap ^ 1) } else { (index + 1, lap) }
}

/// The sending end.
pub(crate) struct Producer {
    slots: Slots,
    /// Up to where the consumer has read.
    head: Word64,
    /// Records published since the beginning.
    position: u64,
    /// The last head accepted.
    seen: u64,
    /// Records that certainly have room.
    left: u64,
    /// The slot and the lap of the next record.
    index: usize,
    lap: u64,
    /// Records that are written and not published: the slot and the word of the first of them, and their number.
    first: (usize, u64),
    pending: u64,
}

impl Producer {
    /// The producer of empty, zeroed slots.
    pub(crate) fn new(slots: Slots, head: Word64) -> Self {
        let left = slots.count() as u64;
        Self { slots, head, position: 0, seen: 0, left, index: 0, lap: 1, first: (0, 0), pending: 0 }
    }

    /// Room for the bytes of one record.
    #[inline(always)]
    pub(crate) fn size(&self) -> usize {
        self.slots.size()
    }

    /// Whether there is room for one more record. Looks at the consumer's position only where there seems to be none.
    #[inline(always)]
    pub(crate) fn has_room(&mut self) -> Result<bool, Corrupt> {
        if self.left > 0 { Ok(true) } else { Ok(self.room()? > 0) }
    }

    /// The records that have room now; looks at the consumer's position.
    #[inline(never)]
    pub(crate) fn room(&mut self) -> Result<u64, Corrupt> {
        // [free/reuse] Acquire: the consumer's copies out of these slots happened before its Release of the head.
        let head = self.head.load(order(Pair::FreeReuse, Ordering::Acquire));
        if head < self.seen || head > self.position {
            return Err(Corrupt);
        }
        self.seen = head;
        self.left = (self.slots.count() as u64).saturating_sub(self.position + self.pending - head);
        Ok(self.left)
    }

    /// The slot that the next record is written to; nobody reads it as long as there [is room](Self::has_room).
    #[inline(always)]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    #[inline(always)]
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The record in the present slot is complete; it is seen with the next [`publish`](Self::publish). After
    /// [`has_room`](Self::has_room) has said yes.
    #[inline(always)]
    pub(crate) fn push(&mut self, number: u32, len: usize) {
        let word = word_of(number, len, self.lap);
        if self.pending == 0 {
            self.first = (self.index, word);
        } else {
            // Seen by nobody who has not seen the first one's.
            self.slots.word(self.index).store(word, Ordering::Relaxed);
        }
        self.pending += 1;
        self.advance();
    }

    #[inline(always)]
    fn advance(&mut self) {
        self.left = self.left.wrapping_sub(1); // there was room
        if self.left > AHEAD as u64 && self.index + AHEAD < self.slots.count() {
            self.slots.prefetch_to_write(self.index + AHEAD);
        }
        (self.index, self.lap) = next(self.index, self.lap, self.slots.count());
    }

    /// [`push`](Self::push) and [`publish`](Self::publish) in one, which for a record alone is less. How many it published.
    #[inline(always)]
    pub(crate) fn send(&mut self, number: u32, len: usize) -> u64 {
        if self.pending == 0 {
            let word = word_of(number, len, self.lap);
            // [publish/consume] Release: as in `publish`.
            self.slots.word(self.index).store(word, order(Pair::PublishConsume, Ordering::Release));
            self.position += 1;
            self.advance();
            return 1;
        }
        self.send_with_others(number, len)
    }

    /// Behind a batch that was forgotten.
    #[cold]
    #[inline(never)]
    fn send_with_others(&mut self, number: u32, len: usize) -> u64 {
        self.push(number, len);
        let records = self.pending;
        self.publish();
        records
    }

    /// Makes what was pushed visible, all at once.
    #[inline(always)]
    pub(crate) fn publish(&mut self) {
        if self.pending > 0 {
            let (index, word) = self.first;
            // [publish/consume] Release: the bytes of all, and the words of the others, are there when this one is seen.
            self.slots.word(index).store(word, order(Pair::PublishConsume, Ordering::Release));
            self.position += self.pending;
            self.pending = 0;
        }
    }

    /// Records pushed and not published.
    #[inline(always)]
    pub(crate) fn pending(&self) -> u64 {
        self.pending
    }

    /// Takes back what was pushed and not published. As many steps as there are such records.
    pub(crate) fn abandon(&mut self) {
        let count = self.slots.count();
        let (first, word) = self.first;
        let (mut index, mut lap) = (first, word & 1);
        for at in 0..self.pending {
            if at > 0 {
                // As if of the lap before: else it would be seen behind the next record.
                self.slots.word(index).store(lap ^ 1, Ordering::Relaxed);
            }
            (index, lap) = next(index, lap, count);
        }
        if self.pending > 0 {
            self.left += self.pending;
            (self.index, self.lap, self.pending) = (first, word & 1, 0);
        }
    }
}

/// A record that lies at the consumer's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) number: u32,
    /// At most the size of a slot.
    pub(crate) len: usize,
}

/// The receiving end.
pub(crate) struct Consumer {
    slots: Slots,
    head: Word64,
    /// Records left behind since the beginning, and of those the ones that the producer was told of.
    position: u64,
    published: u64,
    every: u64,
    index: usize,
    lap: u64,
}

impl Consumer {
    /// The consumer of empty, zeroed slots.
    pub(crate) fn new(slots: Slots, head: Word64) -> Self {
        let every = published_every(slots.count());
        Self { slots, head, position: 0, published: 0, every, index: 0, lap: 1 }
    }

    #[inline(always)]
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    #[inline(always)]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Whether a record seems to lie at the consumer's position. Who asks is about to ask again, or to read it.
    #[inline(always)]
    pub(crate) fn has_more(&self) -> bool {
        let is_there = self.slots.word(self.index).load(Ordering::Relaxed) & 1 == self.lap;
        if !is_there {
            self.slots.prefetch(self.index);
        }
        is_there
    }

    /// The record at the consumer's position. Looks at its word once.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Result<Option<Found>, Corrupt> {
        // [publish/consume] Acquire: pairs with the Release of `publish`.
        let word = self.slots.word(self.index).load(order(Pair::PublishConsume, Ordering::Acquire));
        if word & 1 != self.lap {
            if self.published != self.position {
                self.tell();
            }
            self.slots.prefetch(self.index);
            return Ok(None);
        }
        let len = (word as u32 >> 1) as usize;
        if len > self.slots.size() {
            return Err(Corrupt);
        }
        Ok(Some(Found { number: (word >> 32) as u32, len }))
    }

    /// Leaves the record behind.
    #[inline(always)]
    pub(crate) fn release(&mut self) {
        self.position += 1;
        (self.index, self.lap) = next(self.index, self.lap, self.slots.count());
        if self.position - self.published >= self.every {
            self.tell();
        }
    }

    #[inline(always)]
    fn tell(&mut self) {
        // [free/reuse] Release: our copies out of these slots come before.
        self.head.store(self.position, order(Pair::FreeReuse, Ordering::Release));
        self.published = self.position;
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
