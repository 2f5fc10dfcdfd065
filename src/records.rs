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
use crate::slots::{Slot, Slots};
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

/// A slot, and the lap there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    index: usize,
    lap: u64,
}

impl Place {
    const FIRST: Self = Self { index: 0, lap: 1 };

    /// To the next slot. Once in a round the lap is stored too.
    #[inline(always)]
    fn advance(&mut self, count: usize) {
        self.index += 1;
        if self.index >= count {
            *self = self.next_round();
        }
    }

    #[cold]
    #[inline(never)]
    fn next_round(self) -> Self {
        Self { index: 0, lap: self.lap ^ 1 }
    }
}

/// The sending end.
///
/// What a record alone changes here is one position and one index: each word more that is stored for every record is to be paid by
/// threads that send a record in 10 cycles.
pub(crate) struct Producer {
    slots: Slots,
    /// Up to where the consumer has read.
    head: Word64,
    /// Records published since the beginning.
    position: u64,
    /// Records that are written and not published: the place and the word of the first of them, and their number.
    first: (Place, u64),
    pending: u64,
    /// Up to this position there is room for certain; 0 once the consumer's position was one that cannot be.
    limit: u64,
    /// Up to this position the slot that is [`AHEAD`] of it is free, and of this round.
    near: u64,
    place: Place,
}

impl Producer {
    /// The producer of empty, zeroed slots.
    pub(crate) fn new(slots: Slots, head: Word64) -> Self {
        let limit = slots.count() as u64;
        let near = limit.saturating_sub(AHEAD as u64);
        Self { slots, head, position: 0, first: (Place::FIRST, 0), pending: 0, limit, near, place: Place::FIRST }
    }

    /// Room for the bytes of one record.
    #[inline(always)]
    pub(crate) fn size(&self) -> usize {
        self.slots.size()
    }

    /// Records published since the beginning.
    #[inline(always)]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Where the next record will be.
    #[inline(always)]
    pub(crate) fn end(&self) -> u64 {
        self.position + self.pending
    }

    /// Whether there is room for one more record at `end`, which is [`end`](Self::end), or while nothing is pending
    /// [`position`](Self::position). Looks at the consumer's position only where there seems to be none.
    #[inline(always)]
    pub(crate) fn has_room(&mut self, end: u64) -> Result<bool, Corrupt> {
        if end < self.limit { Ok(true) } else { Ok(self.room()? > 0) }
    }

    /// The records that have room now; looks at the consumer's position. An error stays one.
    #[inline(never)]
    pub(crate) fn room(&mut self) -> Result<u64, Corrupt> {
        // [free/reuse] Acquire: the consumer's copies out of these slots happened before its Release of the head.
        let head = self.head.load(order(Pair::FreeReuse, Ordering::Acquire));
        let count = self.slots.count() as u64;
        // What it said before is `limit - count`.
        if self.is_corrupt() || head < self.limit.wrapping_sub(count) || head > self.position {
            self.limit = 0;
            return Err(Corrupt);
        }
        self.limit = head + count;
        self.look_ahead();
        Ok(self.limit.saturating_sub(self.end()))
    }

    /// Whether the consumer's position was one that cannot be.
    #[inline(always)]
    pub(crate) fn is_corrupt(&self) -> bool {
        self.limit == 0
    }

    /// The slot that the next record is written to; nobody reads it as long as there [is room](Self::has_room).
    #[inline(always)]
    pub(crate) fn index(&self) -> usize {
        self.place.index
    }

    #[inline(always)]
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Writes a record that is seen with the next [`publish`](Self::publish). After [`has_room`](Self::has_room) has said yes.
    #[inline(always)]
    pub(crate) fn push(&mut self, number: u32, bytes: &[u8]) {
        let (pending, place, count) = (self.pending, self.place, self.slots.count());
        let (slot, word) = (self.slots.at(place.index), word_of(number, bytes.len(), place.lap));
        if self.end() < self.near {
            slot.prefetch_to_write(AHEAD, place.index);
        }
        slot.write(0, bytes);
        if pending == 0 {
            self.first = (place, word);
        } else {
            // Seen by nobody who has not seen the first one's.
            slot.word().store(word, Ordering::Relaxed);
        }
        self.pending = pending + 1;
        self.advance(place.index, count);
    }

    /// From `index`, the present one, of `count`.
    #[inline(always)]
    fn advance(&mut self, index: usize, count: usize) {
        self.place.index = index + 1;
        if index + 1 >= count {
            self.start_round();
        }
    }

    #[cold]
    #[inline(never)]
    fn start_round(&mut self) {
        self.place = self.place.next_round();
        self.look_ahead();
    }

    #[inline(always)]
    fn look_ahead(&mut self) {
        let round = self.end() + (self.slots.count() - self.place.index) as u64;
        self.near = round.min(self.limit).saturating_sub(AHEAD as u64);
    }

    /// Writes a record and makes it visible: what writing, [`push`](Self::push) and [`publish`](Self::publish) do, in fewer
    /// instructions. While nothing is pending, and after [`has_room`](Self::has_room) has said yes.
    #[inline(always)]
    pub(crate) fn send(&mut self, number: u32, bytes: &[u8]) {
        self.send_with(number, bytes.len(), |slot| slot.write(0, bytes));
    }

    /// The same for a record that was written to the present slot.
    #[inline(always)]
    pub(crate) fn send_written(&mut self, number: u32, len: usize) {
        self.send_with(number, len, |_| {});
    }

    #[inline(always)]
    fn send_with(&mut self, number: u32, len: usize, write: impl FnOnce(Slot<'_>)) {
        // All that is needed is read before: behind the copy, into which the compiler cannot look, it would be read again.
        let (position, Place { index, lap }, count) = (self.position, self.place, self.slots.count());
        let (slot, word) = (self.slots.at(index), word_of(number, len, lap));
        if position < self.near {
            slot.prefetch_to_write(AHEAD, index);
        }
        write(slot);
        // [publish/consume] Release: as in `publish`.
        slot.word().store(word, order(Pair::PublishConsume, Ordering::Release));
        self.position = position + 1;
        self.advance(index, count);
    }

    /// Makes what was pushed visible, all at once.
    #[inline(always)]
    pub(crate) fn publish(&mut self) {
        if self.pending > 0 {
            let (place, word) = self.first;
            // [publish/consume] Release: the bytes of all, and the words of the others, are there when this one is seen.
            self.slots.word(place.index).store(word, order(Pair::PublishConsume, Ordering::Release));
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
        if self.pending == 0 {
            return;
        }
        let (first, _) = self.first;
        let mut place = first;
        for _ in 1..self.pending {
            place.advance(self.slots.count());
            // As if of the lap before: else it would be seen behind the next record.
            self.slots.word(place.index).store(place.lap ^ 1, Ordering::Relaxed);
        }
        (self.place, self.pending) = (first, 0);
        self.look_ahead();
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
    place: Place,
}

impl Consumer {
    /// The consumer of empty, zeroed slots.
    pub(crate) fn new(slots: Slots, head: Word64) -> Self {
        let every = published_every(slots.count());
        Self { slots, head, position: 0, published: 0, every, place: Place::FIRST }
    }

    #[inline(always)]
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    #[inline(always)]
    pub(crate) fn index(&self) -> usize {
        self.place.index
    }

    /// Whether a record seems to lie at the consumer's position. Who asks is about to ask again, or to read it.
    #[inline(always)]
    pub(crate) fn has_more(&self) -> bool {
        let is_there = self.slots.word(self.place.index).load(Ordering::Relaxed) & 1 == self.place.lap;
        if !is_there {
            self.slots.prefetch(self.place.index);
        }
        is_there
    }

    /// The record at the consumer's position. Looks at its word once.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Result<Option<Found>, Corrupt> {
        // [publish/consume] Acquire: pairs with the Release of `publish`.
        let word = self.slots.word(self.place.index).load(order(Pair::PublishConsume, Ordering::Acquire));
        if word & 1 != self.place.lap {
            if self.published != self.position {
                self.tell();
            }
            self.slots.prefetch(self.place.index);
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
        self.place.advance(self.slots.count());
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
