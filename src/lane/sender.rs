//! The sending end of a lane.
#![allow(unsafe_code)]

use super::sealed::{Demand, End, Parts, Record as _};
use super::{LaneConfig, LaneEnd, LaneError, LaneRecord, NotSync, Opened, Rouser, Shared, add, end_methods};
use crate::driver::LaneParts;
use crate::error::Result;
use crate::link::LaneKind;
use crate::parking::WakePolicy;
use crate::records::Producer;
use crate::region::Region;
use crate::slots::Slots;
use crate::sync::{Arc, Ordering};
use bytemuck::Pod;
use std::marker::PhantomData;

/// Sends records, in order. See the [module](super).
///
/// A record that finds no room is dropped and its number with it, so that the receiver sees the gap: a loop that tries again until it
/// succeeds makes gaps where nothing is missing, and asks [`is_full`](Self::is_full) instead.
///
/// Dropping it closes the lane: the receiver gets what was sent before. Not real-time safe.
pub struct LaneSender<T: LaneRecord + ?Sized> {
    producer: Producer,
    rouser: Rouser,
    pub(super) region: Arc<Region>,
    /// How far the number of the next record is ahead of how many were sent: so many were dropped.
    skipped: u32,
    _record: PhantomData<fn(&T)>,
    _one_thread: NotSync,
}

impl<T: LaneRecord + ?Sized> End for LaneSender<T> {
    fn demand(config: &LaneConfig) -> Demand {
        config.demand(LaneKind::Records, config.outgoing::<T>(), None)
    }

    fn open(Parts(parts): &Parts, config: &LaneConfig) -> Result<Self> {
        let opened = Opened::new(parts);
        Self::new(&opened, parts, config)
    }
}

impl<T: LaneRecord + ?Sized> LaneEnd for LaneSender<T> {}

impl<T: LaneRecord + ?Sized> LaneSender<T> {
    pub(super) fn new(opened: &Opened, parts: &LaneParts, config: &LaneConfig) -> Result<Self> {
        let place = parts.outgoing.ok_or_else(super::no_direction)?;
        let slots = Slots::new(&opened.region, place).map_err(super::word_error)?;
        let head = opened.word64(opened.is_main, super::words::HEAD)?;
        let rouser = opened.rouser(parts, config.wake.unwrap_or(WakePolicy::IfParked))?;
        Ok(Self {
            producer: Producer::new(slots, head),
            rouser,
            region: opened.region.clone(),
            skipped: 0,
            _record: PhantomData,
            _one_thread: PhantomData,
        })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.rouser.shared
    }

    #[inline(always)]
    fn is_peer_closed(&self) -> bool {
        self.rouser.waker.is_closed()
    }

    end_methods!();

    /// Makes all of the lane's memory present in this process, so that none of the real-time safe methods is the first to touch a
    /// page of it. Not real-time safe; call it once, before.
    pub fn prepare(&mut self) {
        if self.shared().state.is_over() {
            return;
        }
        self.region.prefault();
        let _ = (self.is_full(), self.stats(), self.is_open());
    }

    /// Whether it makes sense to send: room for a record of `len` bytes at `end`, as [`Producer::has_room`] wants it.
    #[inline(always)]
    fn check(&mut self, end: u64, len: usize) -> Result<(), LaneError> {
        if self.rouser.is_closed() {
            return Err(LaneError::Closed);
        }
        // Of a type the lane was opened for its size.
        if T::SIZE.is_none() && len > self.producer.size() {
            return Err(if self.producer.is_corrupt() { LaneError::Corrupt } else { LaneError::TooLong });
        }
        match self.producer.has_room(end) {
            Ok(true) => Ok(()),
            Ok(false) => Err(LaneError::Full),
            Err(_) => Err(LaneError::Corrupt),
        }
    }

    /// The same for the next record, after those of a batch that is open.
    #[inline(always)]
    pub(super) fn check_next(&mut self, len: usize) -> Result<(), LaneError> {
        self.check(self.producer.end(), len)
    }

    /// As `check`, for a record that is gone if there is no room.
    #[inline(always)]
    fn check_or_drop(&mut self, end: u64, len: usize) -> Result<(), LaneError> {
        let checked = self.check(end, len);
        if checked == Err(LaneError::Full) {
            self.skipped = self.skipped.wrapping_add(1);
            add(&self.rouser.shared.counters.sending.dropped, 1);
        }
        checked
    }

    /// The position of the next record, after a batch that was forgotten (`mem::forget`) is sent.
    #[inline(always)]
    fn alone(&mut self) -> u64 {
        if self.producer.pending() > 0 {
            return self.send_forgotten();
        }
        self.producer.position()
    }

    #[cold]
    #[inline(never)]
    fn send_forgotten(&mut self) -> u64 {
        if !self.is_forked_copy() {
            self.publish();
        }
        self.producer.position()
    }

    #[inline(always)]
    fn published(&self) {
        self.rouser.shared.counters.sending.sent.store(self.producer.position(), Ordering::Relaxed);
        self.rouser.after_publish();
    }

    #[inline(always)]
    fn publish(&mut self) {
        self.producer.publish();
        self.published();
    }

    /// Sends a record. Real-time safe: copies it and stores a word; the receiver is woken as the [`WakePolicy`] says.
    ///
    /// # Errors
    ///
    /// [`LaneError::Full`]: it was dropped, which is counted, and its number is missing at the receiver; who wants to try again
    /// asks [`is_full`](Self::is_full) before. [`Closed`](LaneError::Closed), [`TooLong`](LaneError::TooLong),
    /// [`Corrupt`](LaneError::Corrupt).
    #[inline(always)]
    pub fn try_send(&mut self, record: &T) -> Result<(), LaneError> {
        let end = self.alone();
        self.try_send_at(end, self.number_at(end), record)
    }

    /// The same with a number of the caller's: an answer has that of its question.
    #[inline(always)]
    pub(super) fn try_send_as(&mut self, number: u32, record: &T) -> Result<(), LaneError> {
        let end = self.alone();
        self.try_send_at(end, number, record)
    }

    #[inline(always)]
    fn try_send_at(&mut self, end: u64, number: u32, record: &T) -> Result<(), LaneError> {
        self.check_or_drop(end, record.bytes().len())?;
        self.producer.send(number, record.bytes());
        self.published();
        Ok(())
    }

    /// The number of the next record.
    #[inline(always)]
    pub(super) fn next_number(&self) -> u32 {
        self.number_at(self.producer.end())
    }

    #[inline(always)]
    fn number_at(&self, end: u64) -> u32 {
        (end as u32).wrapping_add(self.skipped)
    }

    /// The longest record that the lane takes, in bytes: as main has said. Real-time safe.
    #[inline]
    pub fn max_record(&self) -> usize {
        self.producer.size()
    }

    /// Whether a record would be dropped now. Real-time safe.
    #[inline]
    pub fn is_full(&mut self) -> bool {
        self.check_next(0) == Err(LaneError::Full)
    }

    /// Records that have room now; 0 if the lane is closed. Real-time safe; reads a word of the receiver's, which costs more
    /// than [`is_full`](Self::is_full).
    pub fn room(&mut self) -> usize {
        match self.check_next(0) {
            Ok(()) => self.producer.room().map_or(0, |room| room as usize),
            Err(_) => 0,
        }
    }

    /// Begins several records that the receiver sees all at once, when they are
    /// [committed](LaneBatch::commit): a block's events, or a stream at the rate of memory. Real-time safe.
    pub fn batch(&mut self) -> LaneBatch<'_, T> {
        let dropped = self.rouser.shared.counters.sending.dropped.load(Ordering::Relaxed);
        LaneBatch { skipped: self.skipped, dropped, sender: self }
    }

    /// Goes on with a batch that was [suspended](LaneBatch::suspend).
    #[cfg(feature = "capi")]
    pub(crate) fn resume(&mut self, (skipped, dropped): (u32, u64)) -> LaneBatch<'_, T> {
        LaneBatch { sender: self, skipped, dropped }
    }

    /// Borrows the place of the next record, to fill it where it lies. Nothing is sent before it is committed; dropping it
    /// sends nothing. Real-time safe.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), but nothing is dropped or counted.
    #[inline]
    pub fn loan(&mut self) -> Result<LaneLoan<'_, T>, LaneError> {
        // A batch that was forgotten does not change it.
        self.loan_as(self.next_number())
    }

    /// The same for a record with a number of the caller's.
    #[inline(always)]
    pub(super) fn loan_as(&mut self, number: u32) -> Result<LaneLoan<'_, T>, LaneError> {
        let end = self.alone();
        self.check(end, 0)?;
        Ok(LaneLoan { number, asked: None, sender: self })
    }

    /// A loan or a batch that was begun before the process was forked has no memory in the copy.
    #[inline(always)]
    fn is_forked_copy(&self) -> bool {
        self.rouser.shared.state.is_forked_copy()
    }
}

impl<T: LaneRecord + ?Sized> std::fmt::Debug for LaneSender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneSender").field("is_open", &self.is_open()).field("stats", &self.stats()).finish()
    }
}

/// Records that are published together. Dropped without [`commit`](Self::commit), none of them is sent, and it is as if there had
/// been none; that takes as many steps as there are records.
#[must_use = "dropping it sends nothing: commit it"]
pub struct LaneBatch<'a, T: LaneRecord + ?Sized> {
    sender: &'a mut LaneSender<T>,
    /// What the sender had skipped and dropped before its first record.
    skipped: u32,
    dropped: u64,
}

impl<T: LaneRecord + ?Sized> LaneBatch<'_, T> {
    /// Adds a record. Real-time safe.
    ///
    /// # Errors
    ///
    /// As [`LaneSender::try_send`]; what was added before is not affected.
    #[inline(always)]
    pub fn push(&mut self, record: &T) -> Result<(), LaneError> {
        let Self { sender, .. } = self;
        let end = sender.producer.end();
        sender.check_or_drop(end, record.bytes().len())?;
        sender.producer.push(sender.number_at(end), record.bytes());
        Ok(())
    }

    /// Records added so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.sender.producer.pending() as usize
    }

    /// Whether none was added.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Leaves it open, for callers in C, which have no borrow to hold: what [`LaneSender::resume`] wants.
    #[cfg(feature = "capi")]
    pub(crate) fn suspend(self) -> (u32, u64) {
        let batch = std::mem::ManuallyDrop::new(self);
        (batch.skipped, batch.dropped)
    }

    /// Sends them; the receiver finds all or none. Real-time safe.
    #[inline]
    pub fn commit(mut self) {
        if !self.is_empty() && !self.sender.is_forked_copy() {
            self.sender.publish();
        }
        // Nothing is left to be taken back.
        self.skipped = self.sender.skipped;
        self.dropped = self.sender.rouser.shared.counters.sending.dropped.load(Ordering::Relaxed);
    }
}

impl<T: LaneRecord + ?Sized> Drop for LaneBatch<'_, T> {
    fn drop(&mut self) {
        if !self.is_empty() && !self.sender.is_forked_copy() {
            self.sender.producer.abandon();
        }
        self.sender.skipped = self.skipped;
        self.sender.rouser.shared.counters.sending.dropped.store(self.dropped, Ordering::Relaxed);
    }
}

impl<T: LaneRecord + ?Sized> std::fmt::Debug for LaneBatch<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneBatch").field("len", &self.len()).finish()
    }
}

/// The place of a record that is being written.
#[must_use = "dropping it sends nothing: commit it"]
pub struct LaneLoan<'a, T: LaneRecord + ?Sized> {
    number: u32,
    /// Of a request: where its number is put once it is sent.
    pub(super) asked: Option<&'a mut u32>,
    sender: &'a mut LaneSender<T>,
}

impl<T: LaneRecord + ?Sized> std::fmt::Debug for LaneLoan<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneLoan").field("capacity", &self.capacity()).finish()
    }
}

impl<T: LaneRecord + ?Sized> LaneLoan<'_, T> {
    /// The bytes that have room.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.sender.producer.size()
    }

    /// Copies `bytes` to the offset `at`. Real-time safe.
    ///
    /// # Errors
    ///
    /// [`LaneError::TooLong`]: there is no room for them there, and nothing was copied.
    #[inline]
    pub fn write_at(&mut self, at: usize, bytes: &[u8]) -> Result<(), LaneError> {
        if !self.sender.producer.slots().has_room(at, bytes.len()) {
            return Err(LaneError::TooLong);
        }
        if !self.sender.is_forked_copy() {
            self.sender.producer.slots().write(self.sender.producer.index(), at, bytes);
        }
        Ok(())
    }

    /// Where the record begins, aligned as configured; [`capacity`](Self::capacity) bytes may be written there until the loan
    /// ends. They hold whatever was there before, and the peer may change them at any time. For code that is given a pointer
    /// to write to, such as a decoder or a graphics library.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.sender.producer.slots().pointer(self.sender.producer.index()).as_ptr()
    }

    /// The place as a slice.
    ///
    /// # Safety
    ///
    /// The peer must not write there as long as the slice lives: for peers that trust each other. With one that does not keep
    /// to that, the behaviour is undefined; [`write_at`](Self::write_at) copes with any.
    #[inline]
    pub unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.capacity();
        // SAFETY: the pointer is valid for the bytes of a slot, which are initialised (shared memory always is) and which no
        // other reference of this process covers: the loan borrows the one producer. For the peer the caller vouches.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }

    #[inline(always)]
    fn send(self, len: usize) {
        if !self.sender.is_forked_copy() {
            self.sender.producer.send_written(self.number, len);
            self.sender.published();
            if let Some(asked) = self.asked {
                *asked = self.number;
            }
        }
    }
}

impl<T: Pod> LaneLoan<'_, T> {
    /// Fills the whole record. Real-time safe.
    #[inline]
    pub fn write(&mut self, record: &T) {
        if !self.sender.is_forked_copy() {
            self.sender.producer.slots().write(self.sender.producer.index(), 0, record.bytes());
        }
    }

    /// Sends the record. Real-time safe.
    #[inline]
    pub fn commit(self) {
        self.send(size_of::<T>());
    }
}

impl LaneLoan<'_, [u8]> {
    /// Sends the first `len` bytes as a record. Real-time safe.
    ///
    /// # Errors
    ///
    /// [`LaneError::TooLong`] for more than the [capacity](Self::capacity); nothing is sent.
    #[inline]
    pub fn commit(self, len: usize) -> Result<(), LaneError> {
        if len > self.capacity() {
            return Err(LaneError::TooLong);
        }
        self.send(len);
        Ok(())
    }
}
