//! The receiving end of a lane.
#![allow(unsafe_code)]

use super::sealed::{Demand, End, Parts};
use super::{LaneConfig, LaneEnd, LaneError, LaneRecord, NotSync, Opened, Receiving, Shared, add, end_methods};
use crate::driver::LaneParts;
use crate::error::Result;
use crate::link::LaneKind;
use crate::parking::Ended;
use crate::records::{Consumer, Found};
use crate::region::Region;
use crate::slots::Slots;
use crate::sync::Arc;
use std::marker::PhantomData;
use std::time::Instant;

/// What is known of a record that was received, or of a value that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// Its bytes.
    pub len: usize,
    /// Counts what the sender has sent or dropped, from 0 on; of records in 32 bits, which begin again at 0.
    pub number: u64,
    /// Numbers that are missing before this one: dropped because there was no room, or overrun by newer values.
    pub lost: u64,
}

/// Receives records, in order. See the [module](super).
///
/// Dropping it closes the lane: the sender's next attempt says so. Not real-time safe.
pub struct LaneReceiver<T: LaneRecord + ?Sized> {
    consumer: Consumer,
    parking: Receiving,
    pub(super) region: Arc<Region>,
    shared: Arc<Shared>,
    /// The number of the next record, if none is missing.
    expected: u32,
    /// Of each record, where the type does not say it.
    exact: Option<usize>,
    is_corrupt: bool,
    _record: PhantomData<fn(&mut T)>,
    _one_thread: NotSync,
}

impl<T: LaneRecord + ?Sized> End for LaneReceiver<T> {
    fn demand(config: &LaneConfig) -> Demand {
        config.demand(LaneKind::Records, None, config.incoming::<T>())
    }

    fn open(Parts(parts): &Parts, config: &LaneConfig) -> Result<Self> {
        let opened = Opened::new(parts);
        Self::new(&opened, parts, config)
    }
}

impl<T: LaneRecord + ?Sized> LaneEnd for LaneReceiver<T> {}

impl<T: LaneRecord + ?Sized> LaneReceiver<T> {
    pub(super) fn new(opened: &Opened, parts: &LaneParts, config: &LaneConfig) -> Result<Self> {
        let place = parts.incoming.ok_or_else(super::no_direction)?;
        let slots = Slots::new(&opened.region, place).map_err(super::word_error)?;
        let head = opened.word64(!opened.is_main, super::words::HEAD)?;
        Ok(Self {
            consumer: Consumer::new(slots, head),
            parking: Receiving::new(opened, parts, config)?,
            region: opened.region.clone(),
            shared: opened.shared.clone(),
            expected: 0,
            exact: config.exact.1,
            is_corrupt: false,
            _record: PhantomData,
            _one_thread: PhantomData,
        })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    #[inline(always)]
    pub(super) fn is_peer_closed(&self) -> bool {
        self.parking.is_closed()
    }

    end_methods!();

    /// Makes all of the lane's memory present in this process, so that none of the real-time safe methods is the first to touch a
    /// page of it. Not real-time safe; call it once, before.
    pub fn prepare(&mut self) {
        if self.shared.state.is_over() {
            return;
        }
        self.region.prefault();
        let _ = (self.look(), self.stats(), self.is_open(), Instant::now());
    }

    /// The longest record that the lane takes, in bytes: as main has said. Real-time safe.
    #[inline]
    pub fn max_record(&self) -> usize {
        self.consumer.slots().size()
    }

    /// The record at our position, of a length that may be.
    #[inline(always)]
    fn look(&mut self) -> Result<Option<Found>, LaneError> {
        if !self.parking.is_over() {
            let found = self.look_once()?;
            if found.is_some() || !self.parking.is_closed() {
                return Ok(found);
            }
        }
        self.check_the_end()?;
        self.look_once()
    }

    #[inline(always)]
    fn look_once(&mut self) -> Result<Option<Found>, LaneError> {
        if self.is_corrupt {
            return Err(LaneError::Corrupt);
        }
        match self.consumer.peek() {
            Ok(Some(found)) if T::SIZE.or(self.exact).is_none_or(|size| size == found.len) => Ok(Some(found)),
            Ok(None) => Ok(None),
            _ => {
                self.is_corrupt = true;
                Err(LaneError::Corrupt)
            }
        }
    }

    /// What was sent before the end is received all the same. Says no more than whether something seems to be there: a result
    /// that is passed through memory would cost every look.
    #[cold]
    fn check_the_end(&self) -> Result<(), LaneError> {
        let is_over = self.shared.state.is_forked_copy() || !(self.is_corrupt || self.consumer.has_more());
        if is_over { Err(LaneError::Closed) } else { Ok(()) }
    }

    #[inline(always)]
    fn leave(&mut self, found: Found) -> Received {
        self.consumer.release();
        let lost = found.number.wrapping_sub(self.expected);
        self.expected = found.number.wrapping_add(1);
        add(&self.shared.counters.receiving.received, 1);
        if lost != 0 {
            add(&self.shared.counters.receiving.lost, lost.into());
        }
        Received { len: found.len, number: found.number.into(), lost: lost.into() }
    }

    /// Takes the next record, if there is one, and copies it to `to`; of a longer buffer of bytes only the first
    /// [`len`](Received::len) are written. Real-time safe.
    ///
    /// # Errors
    ///
    /// [`LaneError::Closed`] once all that was sent has been received; [`TooLong`](LaneError::TooLong) if the buffer is too short
    /// for the record, which stays; [`Corrupt`](LaneError::Corrupt).
    #[inline(always)]
    pub fn try_recv(&mut self, to: &mut T) -> Result<Option<Received>, LaneError> {
        let Some(found) = self.look()? else { return Ok(None) };
        self.copy(found, to)?;
        Ok(Some(self.leave(found)))
    }

    #[inline(always)]
    fn copy(&self, found: Found, to: &mut T) -> Result<(), LaneError> {
        // Of a fixed size they are the same, and the copy is made for it.
        let len = T::SIZE.unwrap_or(found.len);
        let to = to.bytes_mut().get_mut(..len).ok_or(LaneError::TooLong)?;
        self.consumer.slots().read(self.consumer.index(), 0, to);
        Ok(())
    }

    /// Looks at the next record, if there is one, and leaves it where it is until it is [released](Record::release).
    /// Real-time safe.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Record<'_, T>>, LaneError> {
        Ok(self.look()?.map(|found| Record { receiver: self, found }))
    }

    /// Takes the next record, waiting for it until `deadline` (of the monotonic clock): looks for as long as
    /// [`LaneConfig::spin`] says, then sleeps. A deadline that is over means one look. Not real-time safe in the strict sense: it
    /// reads the clock, and sleeping is a system call, which on an ordinary thread ends up to 50 µs late (the kernel's timer slack).
    ///
    /// # Errors
    ///
    /// [`LaneError::TimedOut`]; else as [`try_recv`](Self::try_recv). The end of the link ends the wait at once.
    pub fn recv_until(&mut self, to: &mut T, deadline: Instant) -> Result<Received, LaneError> {
        self.take_until(deadline, |receiver| receiver.try_recv(to))
    }

    /// Waits until `take` has something.
    fn take_until(
        &mut self,
        deadline: Instant,
        mut take: impl FnMut(&mut Self) -> Result<Option<Received>, LaneError>,
    ) -> Result<Received, LaneError> {
        let mut waited = false;
        loop {
            if let Some(received) = take(self)? {
                return Ok(received);
            }
            // A peer could show and hide something, or send what is thrown away, for ever.
            if waited && Instant::now() >= deadline {
                return Err(LaneError::TimedOut);
            }
            self.wait(deadline)?;
            waited = true;
        }
    }

    /// Until something seems to be there.
    fn wait(&mut self, deadline: Instant) -> Result<(), LaneError> {
        let (consumer, state) = (&self.consumer, &self.shared.state);
        match self.parking.wait(Some(deadline), || state.is_over(), || consumer.has_more().then_some(())) {
            Ok(()) => Ok(()),
            Err(Ended::TimedOut) => Err(LaneError::TimedOut),
            // The next look says so, or finds what was sent before.
            Err(Ended::Closed) => Ok(()),
        }
    }

    /// Takes the record of this number, waiting for it; those of other numbers are thrown away.
    pub(super) fn recv_numbered_until(
        &mut self,
        number: u32,
        to: &mut T,
        deadline: Instant,
    ) -> Result<Received, LaneError> {
        self.take_until(deadline, |receiver| receiver.try_recv_numbered(number, to))
    }

    /// Takes the record of this number if it is there; those of other numbers before it are thrown away.
    pub(super) fn try_recv_numbered(&mut self, number: u32, to: &mut T) -> Result<Option<Received>, LaneError> {
        // As many as there can be at once are left behind whatever the time is, because the right one may lie behind them.
        for _ in 0..=self.slots() {
            match self.look()? {
                Some(found) if found.number == number => {
                    self.copy(found, to)?;
                    return Ok(Some(Received { lost: 0, ..self.leave_numbered(found) }));
                }
                Some(found) => self.throw_away(found),
                None => break,
            }
        }
        Ok(None)
    }

    /// Throws away two of what is there, counted as late, but not what is `wanted`: as each request has one answer, that is enough
    /// to keep up. An error is found by who receives.
    #[inline]
    pub(super) fn make_room(&mut self, wanted: Option<u32>) {
        for _ in 0..2 {
            let Ok(Some(found)) = self.look() else { break };
            if wanted == Some(found.number) {
                break;
            }
            self.throw_away(found);
        }
    }

    fn throw_away(&mut self, found: Found) {
        self.leave_numbered(found);
        self.count_late();
    }

    /// Records that there can be at once.
    pub(super) fn slots(&self) -> usize {
        self.consumer.slots().count()
    }

    pub(super) fn count_late(&self) {
        add(&self.shared.counters.receiving.late, 1);
    }

    /// Leaves a record behind whose number is no running one.
    fn leave_numbered(&mut self, found: Found) -> Received {
        self.expected = found.number;
        self.leave(found)
    }
}

impl<T: LaneRecord + ?Sized> std::fmt::Debug for LaneReceiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneReceiver").field("is_open", &self.is_open()).field("stats", &self.stats()).finish()
    }
}

/// A record that lies in the lane. Dropped without [`release`](Self::release), it stays there.
#[must_use = "it stays in the lane until it is released"]
pub struct Record<'a, T: LaneRecord + ?Sized> {
    receiver: &'a mut LaneReceiver<T>,
    found: Found,
}

impl<T: LaneRecord + ?Sized> Record<'_, T> {
    /// Its bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.found.len
    }

    /// Whether it has none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.found.len == 0
    }

    /// Copies it; of a longer buffer of bytes only the first [`len`](Self::len) are written. Real-time safe.
    ///
    /// # Errors
    ///
    /// [`LaneError::TooLong`] if the buffer is too short.
    #[inline]
    pub fn copy_to(&self, to: &mut T) -> Result<(), LaneError> {
        // One that was looked at before the process was forked has no memory in the copy.
        if self.receiver.shared.state.is_forked_copy() {
            return Err(LaneError::Closed);
        }
        self.receiver.copy(self.found, to)
    }

    /// Where it lies, aligned as main has configured; [`len`](Self::len) bytes may be read there until it is released. The
    /// peer may change them at any time.
    #[inline]
    pub fn as_ptr(&self) -> *const u8 {
        self.receiver.consumer.slots().pointer(self.receiver.consumer.index()).as_ptr()
    }

    /// The record where it lies, without a copy.
    ///
    /// # Safety
    ///
    /// The peer must not write there as long as the slice lives: for peers that trust each other. One that does not keep to that
    /// changes bytes that were checked already, which is undefined behaviour; [`copy_to`](Self::copy_to) copes with any.
    #[inline]
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the pointer is valid for the bytes of a slot, of which there are `len` at least; they are initialised, and no
        // unique reference of this process covers them: the record borrows the one consumer. For the peer the caller vouches.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// Takes it out of the lane. Real-time safe.
    #[inline]
    pub fn release(self) -> Received {
        if self.receiver.shared.state.is_forked_copy() {
            // Looked at before the process was forked: there is nothing in the copy that it could be taken out of.
            return Received { len: self.found.len, number: self.found.number.into(), lost: 0 };
        }
        self.receiver.leave(self.found)
    }
}

impl<T: LaneRecord + ?Sized> std::fmt::Debug for Record<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("len", &self.found.len).field("number", &self.found.number).finish()
    }
}
