//! The sending end.
#![allow(unsafe_code)]

use super::{
    Brief, brief, check_len, end, free, hand_out_counters, put_stats, record, ringmain_lane_counters,
    ringmain_lane_stats, tell,
};
use crate::capi::result::{given, guard, quietly, ringmain_error, ringmain_result};
use crate::lane::LaneSender;
use std::ffi::c_void;

use ringmain_result::*;

/// Sends records, in order.
#[derive(Debug)]
pub struct ringmain_lane_sender {
    pub(super) lane: LaneSender<[u8]>,
    pub(super) exact: Option<usize>,
    /// A batch that has begun.
    pub(super) batch: Option<(u32, u64)>,
    pub(super) is_loaned: bool,
}

impl ringmain_lane_sender {
    /// Whether a record can be sent by itself now.
    #[inline]
    fn check_idle(&self) -> Brief {
        if self.is_loaned || self.batch.is_some() { Err(RINGMAIN_WRONG_STATE) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn check(&self, record: &[u8]) -> Brief {
        self.check_idle()?;
        check_len(self.exact, record.len())
    }

    fn cancel(&mut self) {
        self.is_loaned = false;
        if let Some(batch) = self.batch.take() {
            drop(self.lane.resume(batch));
        }
    }
}

/// Sends a record: copies it and stores a word; the receiver is woken as `wake` of `ringmain_lane_config` says. Never waits.
///
/// Fails with `RINGMAIN_FULL`: it was dropped, which is counted, and its number is missing at the receiver (who wants to try
/// again asks `ringmain_lane_sender_room` before); with `RINGMAIN_WRONG_SIZE` if the lane's records have another size,
/// `RINGMAIN_TOO_LARGE`, `RINGMAIN_DISCONNECTED`, `RINGMAIN_PROTOCOL`; with `RINGMAIN_WRONG_STATE` while a loan or a batch is
/// open.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes, but for the wake that the lane is opened with
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_send(
    sender: *mut ringmain_lane_sender,
    data: *const c_void,
    len: usize,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the bytes are the caller's.
        let (sender, record) = unsafe { (end(sender)?, record(data, len)?) };
        sender.check(record)?;
        Ok(sender.lane.try_send(record)?)
    })
}

/// Adds a record to those that `ringmain_lane_sender_publish` sends all at once, such as the events of a block. The first one
/// begins the batch. Fails as `ringmain_lane_sender_send`; what was added before is not affected.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_push(
    sender: *mut ringmain_lane_sender,
    data: *const c_void,
    len: usize,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the bytes are the caller's.
        let (sender, record) = unsafe { (end(sender)?, record(data, len)?) };
        if sender.is_loaned {
            return Err(RINGMAIN_WRONG_STATE);
        }
        check_len(sender.exact, record.len())?;
        let mut batch = match sender.batch {
            Some(batch) => sender.lane.resume(batch),
            None => sender.lane.batch(),
        };
        let pushed = batch.push(record);
        // One that has nothing in it has not begun; what it has dropped stays counted.
        if batch.is_empty() {
            batch.commit();
            sender.batch = None;
        } else {
            sender.batch = Some(batch.suspend());
        }
        Ok(pushed?)
    })
}

/// Sends the records that were added since the last time: the receiver finds all or none. Without any it does nothing, and
/// succeeds.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes, but for the wake that the lane is opened with
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_publish(sender: *mut ringmain_lane_sender) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours.
        let sender = unsafe { end(sender) }?;
        if let Some(batch) = sender.batch.take() {
            sender.lane.resume(batch).commit();
        }
        Ok(())
    })
}

/// Lends the place of the next record, to be filled where it lies: `*data`, aligned as configured, has room for `*size` bytes
/// (`size` may be null) and holds whatever was there before. It is the caller's to write until `ringmain_lane_sender_commit` or
/// `_cancel`; nothing is sent before. The peer may change the bytes at any time: they are to be written, and not believed if
/// they are read.
///
/// Fails as `ringmain_lane_sender_send`, but nothing is dropped or counted.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_loan(
    sender: *mut ringmain_lane_sender,
    data: *mut *mut c_void,
    size: *mut usize,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; `data` may be written, `size` is null or may be.
        unsafe {
            let (sender, data) = (end(sender)?, end(data)?);
            sender.check_idle()?;
            let mut loan = sender.lane.loan()?;
            *data = loan.as_mut_ptr().cast();
            tell(size, loan.capacity());
            sender.is_loaned = true;
        }
        Ok(())
    })
}

/// Sends the first `len` bytes of the loan as a record, which ends the loan.
///
/// Fails with `RINGMAIN_WRONG_STATE` if there is none, such as after it was committed; with `RINGMAIN_WRONG_SIZE` or
/// `RINGMAIN_TOO_LARGE` for a length that cannot be: then the loan stays. Otherwise as `ringmain_lane_sender_send`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes, but for the wake that the lane is opened with
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_commit(sender: *mut ringmain_lane_sender, len: usize) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours.
        let sender = unsafe { end(sender) }?;
        if !sender.is_loaned {
            return Err(RINGMAIN_WRONG_STATE);
        }
        check_len(sender.exact, len)?;
        if len > sender.lane.max_record() {
            return Err(RINGMAIN_TOO_LARGE);
        }
        sender.is_loaned = false;
        Ok(sender.lane.loan()?.commit(len)?)
    })
}

/// Gives a loan back, or takes back the records that were added and not published: nothing of them is sent. Without either it
/// does nothing.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_cancel(sender: *mut ringmain_lane_sender) {
    // SAFETY: null, or a handle of ours.
    quietly((), || unsafe { end(sender) }.map_or((), ringmain_lane_sender::cancel));
}

/// Records that have room now; 0 if the lane is closed, or for null.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_room(sender: *mut ringmain_lane_sender) -> usize {
    // SAFETY: null, or a handle of ours.
    quietly(0, || unsafe { end(sender) }.map_or(0, |sender| sender.lane.room()))
}

/// The longest record that the lane takes, in bytes, as main has said; 0 for null.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_max_record(sender: *const ringmain_lane_sender) -> usize {
    // SAFETY: null, or a handle of ours.
    unsafe { sender.as_ref() }.map_or(0, |sender| sender.lane.max_record())
}

/// Makes all of the lane's memory present in this process and touches what the real-time safe functions use, so that none of
/// them is the first. To be called once, before. Null is nothing.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_prepare(sender: *mut ringmain_lane_sender) {
    quietly((), || {
        // SAFETY: null, or a handle of ours.
        if let Some(sender) = unsafe { sender.as_mut() } {
            sender.lane.prepare();
        }
    });
}

/// Whether the other end is there and the link has not ended, as far as can be seen from here; false for null.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_is_open(sender: *const ringmain_lane_sender) -> bool {
    // SAFETY: null, or a handle of ours.
    unsafe { sender.as_ref() }.is_some_and(|sender| sender.lane.is_open())
}

/// The counters of this end. `is_open` is what `ringmain_lane_sender_is_open` says. `stats` is the caller's.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_stats(
    sender: *const ringmain_lane_sender,
    stats: *mut ringmain_lane_stats,
) -> ringmain_result {
    brief(|| {
        // SAFETY: null, or a handle of ours; the struct is the caller's, with its size.
        unsafe {
            let sender = sender.as_ref().ok_or(RINGMAIN_NULL_ARGUMENT)?;
            put_stats(stats, sender.lane.stats(), sender.lane.is_open())
        }
    })
}

/// Counters that can be read on another thread meanwhile. `*counters` is the caller's until `ringmain_lane_counters_free`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_counters(
    sender: *const ringmain_lane_sender,
    counters: *mut *mut ringmain_lane_counters,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    // SAFETY: a handle of ours; `counters` may be written.
    guard(error, || unsafe { hand_out_counters(counters, given(sender, "sender")?.lane.counters()) })
}

/// Closes the lane, of which the receiver still gets what was sent before, and frees this end; a loan is over then. Null is
/// nothing. It may outlive the handle that it was opened on.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_sender_free(sender: *mut ringmain_lane_sender) {
    // SAFETY: null, or a handle of ours that is given back once.
    unsafe { free(sender) };
}
