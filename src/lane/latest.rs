//! Lanes on which the newest value wins.
#![allow(unsafe_code)]

use super::sealed::{Demand, End, Parts};
use super::{
    LaneConfig, LaneEnd, LaneError, LaneRecord, NotSync, Opened, Received, Receiving, Rouser, Shared, add, end_methods,
};
use crate::error::Result;
use crate::latest::{Reader, Taken, Writer};
use crate::link::LaneKind;
use crate::parking::{Ended, WakePolicy};
use crate::region::Region;
use crate::slots::Slots;
use crate::sync::Arc;
use bytemuck::Pod;
use std::marker::PhantomData;
use std::time::Instant;

/// Publishes values of which the reader sees the newest: a triple buffer. See the [module](super).
///
/// Dropping it closes the lane; the last value can still be read. Not real-time safe.
pub struct LatestWriter<T: LaneRecord + ?Sized> {
    writer: Writer,
    rouser: Rouser,
    pub(super) region: Arc<Region>,
    _record: PhantomData<fn(&T)>,
    _one_thread: NotSync,
}

impl<T: LaneRecord + ?Sized> End for LatestWriter<T> {
    fn demand(config: &LaneConfig) -> Demand {
        config.demand(LaneKind::Latest, config.outgoing::<T>(), None)
    }

    fn open(Parts(parts): &Parts, config: &LaneConfig) -> Result<Self> {
        let opened = Opened::new(parts);
        let slots = Slots::new(&opened.region, parts.outgoing.ok_or_else(super::no_direction)?);
        let middle = opened.word64(opened.is_main, super::words::MIDDLE)?;
        Ok(Self {
            writer: Writer::new(three(slots)?, middle),
            rouser: opened.rouser(parts, config.wake.unwrap_or(WakePolicy::Never))?,
            region: opened.region.clone(),
            _record: PhantomData,
            _one_thread: PhantomData,
        })
    }
}

/// A main that offers another number of slots is none of ours.
fn three(slots: Result<Slots, crate::region::OutOfRegion>) -> Result<Slots> {
    let slots = slots.map_err(super::word_error)?;
    if slots.count() == 3 { Ok(slots) } else { Err(super::no_direction()) }
}

impl<T: LaneRecord + ?Sized> LaneEnd for LatestWriter<T> {}

impl<T: LaneRecord + ?Sized> LatestWriter<T> {
    fn shared(&self) -> &Arc<Shared> {
        &self.rouser.shared
    }

    #[inline(always)]
    fn is_peer_closed(&self) -> bool {
        self.rouser.waker.is_closed()
    }

    end_methods!();

    /// As [`LaneSender::prepare`](super::LaneSender::prepare).
    pub fn prepare(&mut self) {
        if self.shared().state.is_over() {
            return;
        }
        self.region.prefault();
        let _ = (self.stats(), self.is_open());
    }

    /// The longest value that the lane takes, in bytes: as main has said. Real-time safe.
    #[inline]
    pub fn max_record(&self) -> usize {
        self.writer.slots().size()
    }

    #[inline(always)]
    fn check(&self, len: usize) -> Result<(), LaneError> {
        if self.rouser.is_closed() {
            return Err(LaneError::Closed);
        }
        if len > self.writer.slots().size() { Err(LaneError::TooLong) } else { Ok(()) }
    }

    /// A loan that was begun before the process was forked has no memory in the copy.
    #[inline(always)]
    fn is_forked_copy(&self) -> bool {
        self.rouser.shared.state.is_forked_copy()
    }

    #[inline(always)]
    fn publish(&mut self, len: usize) {
        let sending = &self.rouser.shared.counters.sending;
        if self.writer.publish(len) {
            add(&sending.dropped, 1);
        }
        add(&sending.sent, 1);
        self.rouser.after_publish();
    }

    /// Makes `value` the newest one; never waits for the reader and is never refused for want of room. Real-time safe.
    ///
    /// # Errors
    ///
    /// [`LaneError::Closed`]; [`LaneError::TooLong`] for more bytes than the lane's values have.
    #[inline]
    pub fn write(&mut self, value: &T) -> Result<(), LaneError> {
        let bytes = value.bytes();
        self.check(bytes.len())?;
        self.writer.slots().write(self.writer.index(), 0, bytes);
        self.publish(bytes.len());
        Ok(())
    }

    /// Borrows the place of the next value, to fill it where it lies: a picture, for example. It holds whatever an earlier value
    /// left there. Real-time safe.
    ///
    /// # Errors
    ///
    /// [`LaneError::Closed`].
    #[inline]
    pub fn loan(&mut self) -> Result<LatestLoan<'_, T>, LaneError> {
        self.check(0)?;
        Ok(LatestLoan { writer: self })
    }
}

impl<T: LaneRecord + ?Sized> std::fmt::Debug for LatestWriter<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LatestWriter").field("is_open", &self.is_open()).field("stats", &self.stats()).finish()
    }
}

/// The place of a value that is being written.
#[must_use = "dropping it publishes nothing: commit it"]
pub struct LatestLoan<'a, T: LaneRecord + ?Sized> {
    writer: &'a mut LatestWriter<T>,
}

impl<T: LaneRecord + ?Sized> std::fmt::Debug for LatestLoan<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LatestLoan").field("capacity", &self.capacity()).finish()
    }
}

impl<T: LaneRecord + ?Sized> LatestLoan<'_, T> {
    /// The bytes that have room.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.writer.writer.slots().size()
    }

    /// Copies `bytes` to the offset `at`. Real-time safe.
    ///
    /// # Errors
    ///
    /// [`LaneError::TooLong`]: there is no room for them there, and nothing was copied.
    #[inline]
    pub fn write_at(&mut self, at: usize, bytes: &[u8]) -> Result<(), LaneError> {
        if !self.writer.writer.slots().has_room(at, bytes.len()) {
            return Err(LaneError::TooLong);
        }
        if !self.writer.is_forked_copy() {
            self.writer.writer.slots().write(self.writer.writer.index(), at, bytes);
        }
        Ok(())
    }

    /// Where the value begins; as [`LaneLoan::as_mut_ptr`](super::LaneLoan::as_mut_ptr).
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.writer.writer.slots().pointer(self.writer.writer.index()).as_ptr()
    }

    /// The place as a slice.
    ///
    /// # Safety
    ///
    /// As [`LaneLoan::bytes_mut`](super::LaneLoan::bytes_mut).
    #[inline]
    pub unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.capacity();
        // SAFETY: the pointer is valid for the bytes of a slot, which are initialised and which no other reference of this
        // process covers: the loan borrows the one writer. For the peer the caller vouches.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }

    #[inline(always)]
    fn publish(self, len: usize) {
        if !self.writer.is_forked_copy() {
            self.writer.publish(len);
        }
    }
}

impl<T: Pod> LatestLoan<'_, T> {
    /// Makes it the newest value. Real-time safe.
    #[inline]
    pub fn commit(self) {
        self.publish(size_of::<T>());
    }
}

impl LatestLoan<'_, [u8]> {
    /// Makes its first `len` bytes the newest value. Real-time safe.
    ///
    /// # Errors
    ///
    /// [`LaneError::TooLong`] for more than the [capacity](Self::capacity); nothing is published.
    #[inline]
    pub fn commit(self, len: usize) -> Result<(), LaneError> {
        if len > self.capacity() {
            return Err(LaneError::TooLong);
        }
        self.publish(len);
        Ok(())
    }
}

/// Reads the newest value. See the [module](super).
///
/// Dropping it closes the lane: the writer's next attempt says so. Not real-time safe.
pub struct LatestReader<T: LaneRecord + ?Sized> {
    reader: Reader,
    parking: Receiving,
    pub(super) region: Arc<Region>,
    shared: Arc<Shared>,
    /// Values known of: the next one has this number, if none is overrun.
    expected: u64,
    /// Of the value that was taken last.
    len: usize,
    /// Of each value, where the type does not say it.
    exact: Option<usize>,
    is_corrupt: bool,
    _record: PhantomData<fn(&mut T)>,
    _one_thread: NotSync,
}

impl<T: LaneRecord + ?Sized> End for LatestReader<T> {
    fn demand(config: &LaneConfig) -> Demand {
        config.demand(LaneKind::Latest, None, config.incoming::<T>())
    }

    fn open(Parts(parts): &Parts, config: &LaneConfig) -> Result<Self> {
        let opened = Opened::new(parts);
        let slots = Slots::new(&opened.region, parts.incoming.ok_or_else(super::no_direction)?);
        let middle = opened.word64(!opened.is_main, super::words::MIDDLE)?;
        Ok(Self {
            reader: Reader::new(three(slots)?, middle),
            parking: Receiving::new(&opened, parts, config)?,
            region: opened.region.clone(),
            shared: opened.shared.clone(),
            expected: 0,
            len: 0,
            exact: config.exact.1,
            is_corrupt: false,
            _record: PhantomData,
            _one_thread: PhantomData,
        })
    }
}

impl<T: LaneRecord + ?Sized> LaneEnd for LatestReader<T> {}

impl<T: LaneRecord + ?Sized> LatestReader<T> {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    #[inline(always)]
    fn is_peer_closed(&self) -> bool {
        self.parking.is_closed()
    }

    end_methods!();

    /// As [`LaneReceiver::prepare`](super::LaneReceiver::prepare).
    pub fn prepare(&mut self) {
        if self.shared.state.is_over() {
            return;
        }
        self.region.prefault();
        let _ = (self.reader.has_more(), self.stats(), self.is_open(), Instant::now());
    }

    /// The longest value that the lane takes, in bytes: as main has said. Real-time safe.
    #[inline]
    pub fn max_record(&self) -> usize {
        self.reader.slots().size()
    }

    /// Takes the newest value where it lies, if it was not taken before; what is known of it. [`bytes`](Self::bytes) and
    /// [`copy_to`](Self::copy_to) mean this value until the next `take` or `read`. Real-time safe.
    ///
    /// # Errors
    ///
    /// [`LaneError::Closed`] once the last value has been taken; [`LaneError::Corrupt`] if its length cannot be.
    #[inline]
    pub fn take(&mut self) -> Result<Option<Received>, LaneError> {
        if self.parking.is_over() || (!self.reader.has_more() && self.parking.is_closed()) {
            self.check_the_end()?;
        }
        match self.reader.take() {
            Some(taken) => self.taken(taken).map(Some),
            None if self.is_corrupt => Err(LaneError::Corrupt),
            None => Ok(None),
        }
    }

    #[cold]
    fn check_the_end(&self) -> Result<(), LaneError> {
        let is_over = self.shared.state.is_forked_copy() || !self.reader.has_more();
        if is_over { Err(LaneError::Closed) } else { Ok(()) }
    }

    #[inline(always)]
    fn taken(&mut self, Taken { number, len }: Taken) -> Result<Received, LaneError> {
        if T::SIZE.or(self.exact).is_some_and(|size| size != len) {
            self.is_corrupt = true;
        }
        if self.is_corrupt {
            return Err(LaneError::Corrupt);
        }
        // Of 56 bits; the first one is 1.
        let number = number.wrapping_sub(1) & (u64::MAX >> 8);
        let lost = number.wrapping_sub(self.expected) & (u64::MAX >> 8);
        self.expected = number.wrapping_add(1);
        self.len = len;
        add(&self.shared.counters.receiving.received, 1);
        if lost != 0 {
            add(&self.shared.counters.receiving.lost, lost);
        }
        Ok(Received { len, number, lost })
    }

    /// Copies the value that was taken last, however often; nothing was, as long as [`take`](Self::take) or
    /// [`read`](Self::read) has returned none: then it is all zeros, or without bytes. Its length. Real-time safe.
    ///
    /// # Errors
    ///
    /// [`LaneError::TooLong`] if the buffer is too short; [`LaneError::Closed`] in a forked copy of the process.
    #[inline]
    pub fn copy_to(&self, to: &mut T) -> Result<usize, LaneError> {
        if self.shared.state.is_forked_copy() {
            return Err(LaneError::Closed);
        }
        if self.is_corrupt {
            return Err(LaneError::Corrupt);
        }
        let len = T::SIZE.unwrap_or(self.len);
        let to = to.bytes_mut().get_mut(..len).ok_or(LaneError::TooLong)?;
        self.reader.slots().read(self.reader.index(), 0, to);
        Ok(len)
    }

    /// Takes the newest value, if it was not taken before, and copies it to `to`, which else stays as it is. Real-time safe.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take) and [`copy_to`](Self::copy_to); of a value that is [too long](LaneError::TooLong) for the buffer
    /// `copy_to` has the rest of its life.
    #[inline]
    pub fn read(&mut self, to: &mut T) -> Result<Option<Received>, LaneError> {
        let Some(received) = self.take()? else { return Ok(None) };
        self.copy_to(to)?;
        Ok(Some(received))
    }

    /// Waits for a value that was not taken before, until `deadline`; as
    /// [`LaneReceiver::recv_until`](super::LaneReceiver::recv_until). A writer whose policy is [`WakePolicy::Never`], which is the
    /// default, is looked at every millisecond.
    ///
    /// # Errors
    ///
    /// [`LaneError::TimedOut`]; else as [`read`](Self::read).
    pub fn read_until(&mut self, to: &mut T, deadline: Instant) -> Result<Received, LaneError> {
        let received = self.take_until(deadline)?;
        self.copy_to(to)?;
        Ok(received)
    }

    /// As [`take`](Self::take), and waits.
    pub(crate) fn take_until(&mut self, deadline: Instant) -> Result<Received, LaneError> {
        let mut waited = false;
        loop {
            if let Some(received) = self.take()? {
                return Ok(received);
            }
            // A peer could show and hide something for ever.
            if waited && Instant::now() >= deadline {
                return Err(LaneError::TimedOut);
            }
            waited = true;
            let (reader, state) = (&self.reader, &self.shared.state);
            match self.parking.wait(Some(deadline), || state.is_over(), || reader.has_more().then_some(())) {
                Err(Ended::TimedOut) => return Err(LaneError::TimedOut),
                // The next look says so, or finds the last value.
                Ok(()) | Err(Ended::Closed) => {}
            }
        }
    }

    /// Where the value that was taken last lies; as [`Record::as_ptr`](super::Record::as_ptr).
    #[inline]
    pub fn as_ptr(&self) -> *const u8 {
        self.reader.slots().pointer(self.reader.index()).as_ptr()
    }

    /// The value that was taken last, where it lies, without a copy.
    ///
    /// # Safety
    ///
    /// As [`Record::bytes`](super::Record::bytes); and not in a forked copy of the process, which has not the memory.
    #[inline]
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the pointer is valid for the bytes of a slot, of which there are `len` at least; they are initialised, and no
        // unique reference of this process covers them: this is the one reader. For the peer the caller vouches.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }
}

impl<T: LaneRecord + ?Sized> std::fmt::Debug for LatestReader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LatestReader").field("is_open", &self.is_open()).field("stats", &self.stats()).finish()
    }
}
