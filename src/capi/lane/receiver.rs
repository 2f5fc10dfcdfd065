//! The receiving end.
#![allow(unsafe_code)]

use super::clock::Clock;
use super::{
    brief, end, free, hand_out_counters, put_stats, ringmain_lane_counters, ringmain_lane_stats, room, tell_received,
};
use crate::capi::result::{given, guard, quietly, ringmain_error, ringmain_result};
use crate::lane::LaneReceiver;
use std::ffi::c_void;

use ringmain_result::*;

/// What is known of a record that was received, or of a value that was taken.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ringmain_received {
    /// Its bytes.
    pub len: usize,
    /// Counts what the sender has sent or dropped, from 0 on; of records in 32 bits, which begin again at 0.
    pub number: u64,
    /// Numbers that are missing before this one: dropped because there was no room, or overrun by newer values.
    pub lost: u64,
}

/// Receives records, in order.
#[derive(Debug)]
pub struct ringmain_lane_receiver {
    pub(super) lane: LaneReceiver<[u8]>,
    pub(super) clock: Clock,
    pub(super) is_peeked: bool,
}

/// Takes the next record and copies it to `buffer`, which has `size` bytes; bytes behind the record stay as they are.
/// `*received` (may be null) is what is known of it. Never waits.
///
/// Fails with `RINGMAIN_EMPTY` if there is none now; `RINGMAIN_DISCONNECTED` once all that was sent has been received;
/// `RINGMAIN_TOO_LARGE` if the buffer is too short for the record, which stays; `RINGMAIN_PROTOCOL`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_receiver_try_recv(
    receiver: *mut ringmain_lane_receiver,
    buffer: *mut c_void,
    size: usize,
    received: *mut ringmain_received,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the buffer is the caller's, `received` is null or may be written.
        unsafe {
            let (receiver, buffer) = (end(receiver)?, room(buffer, size)?);
            let taken = receiver.lane.try_recv(buffer)?.ok_or(RINGMAIN_EMPTY)?;
            receiver.is_peeked = false;
            tell_received(received, taken);
        }
        Ok(())
    })
}

/// As `ringmain_lane_receiver_try_recv`, but waits for a record until `deadline_ns`, which is a time of `ringmain_now()`
/// (`CLOCK_MONOTONIC`, absolute) or `RINGMAIN_FOREVER`: looks for as long as `spin_ns` of `ringmain_lane_config` says, then
/// sleeps. A deadline that is over, such as 0, means one look. Fails with `RINGMAIN_TIMEOUT` instead of `RINGMAIN_EMPTY`. The end
/// of the link ends the wait at once.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no: it reads the clock, and to sleep is a system call
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_receiver_recv_until(
    receiver: *mut ringmain_lane_receiver,
    buffer: *mut c_void,
    size: usize,
    deadline_ns: u64,
    received: *mut ringmain_received,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the buffer is the caller's, `received` is null or may be written.
        unsafe {
            let (receiver, buffer) = (end(receiver)?, room(buffer, size)?);
            let taken = receiver.lane.recv_until(buffer, receiver.clock.instant(deadline_ns))?;
            receiver.is_peeked = false;
            tell_received(received, taken);
        }
        Ok(())
    })
}

/// Looks at the next record and leaves it where it is: `*data`, aligned as configured, has `*len` bytes. They are the
/// lane's, not the caller's, and stay until the record is released (`ringmain_lane_receiver_release`) or received. Never waits.
///
/// **The sender may change the bytes at any time**: for peers that trust each other, and for code that reads each of them once.
/// Who has to check before using copies them out, by `ringmain_lane_receiver_try_recv`.
///
/// Fails as `ringmain_lane_receiver_try_recv`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_receiver_peek(
    receiver: *mut ringmain_lane_receiver,
    data: *mut *const c_void,
    len: *mut usize,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; `data` and `len` may be written. What the caller reads there is what they trust.
        unsafe {
            let (receiver, data, len) = (end(receiver)?, end(data)?, end(len)?);
            let record = receiver.lane.peek()?.ok_or(RINGMAIN_EMPTY)?;
            (*data, *len) = (record.as_ptr().cast(), record.len());
            receiver.is_peeked = true;
        }
        Ok(())
    })
}

/// Takes the record that was looked at out of the lane. `*received` (may be null) is what is known of it.
///
/// Fails with `RINGMAIN_WRONG_STATE` if none was looked at, such as when it was released already. Otherwise as
/// `ringmain_lane_receiver_peek`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_receiver_release(
    receiver: *mut ringmain_lane_receiver,
    received: *mut ringmain_received,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; `received` is null or may be written.
        unsafe {
            let receiver = end(receiver)?;
            if !std::mem::take(&mut receiver.is_peeked) {
                return Err(RINGMAIN_WRONG_STATE);
            }
            tell_received(received, receiver.lane.peek()?.ok_or(RINGMAIN_EMPTY)?.release());
        }
        Ok(())
    })
}

/// The longest record that may come, in bytes, as main has said: room enough for any. 0 for null.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_receiver_max_record(receiver: *const ringmain_lane_receiver) -> usize {
    // SAFETY: null, or a handle of ours.
    unsafe { receiver.as_ref() }.map_or(0, |receiver| receiver.lane.max_record())
}

/// As `ringmain_lane_sender_prepare`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_receiver_prepare(receiver: *mut ringmain_lane_receiver) {
    quietly((), || {
        // SAFETY: null, or a handle of ours.
        if let Some(receiver) = unsafe { receiver.as_mut() } {
            receiver.lane.prepare();
        }
    });
}

/// As `ringmain_lane_sender_is_open`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_receiver_is_open(receiver: *const ringmain_lane_receiver) -> bool {
    // SAFETY: null, or a handle of ours.
    unsafe { receiver.as_ref() }.is_some_and(|receiver| receiver.lane.is_open())
}

/// As `ringmain_lane_sender_stats`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_receiver_stats(
    receiver: *const ringmain_lane_receiver,
    stats: *mut ringmain_lane_stats,
) -> ringmain_result {
    brief(|| {
        // SAFETY: null, or a handle of ours; the struct is the caller's, with its size.
        unsafe {
            let receiver = receiver.as_ref().ok_or(RINGMAIN_NULL_ARGUMENT)?;
            put_stats(stats, receiver.lane.stats(), receiver.lane.is_open())
        }
    })
}

/// As `ringmain_lane_sender_counters`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_receiver_counters(
    receiver: *const ringmain_lane_receiver,
    counters: *mut *mut ringmain_lane_counters,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    // SAFETY: a handle of ours; `counters` may be written.
    guard(error, || unsafe { hand_out_counters(counters, given(receiver, "receiver")?.lane.counters()) })
}

/// Closes the lane, which the sender's next attempt says, and frees this end; what `ringmain_lane_receiver_peek` has shown is gone.
/// Null is nothing. It may outlive the handle that it was opened on.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_receiver_free(receiver: *mut ringmain_lane_receiver) {
    // SAFETY: null, or a handle of ours that is given back once.
    unsafe { free(receiver) };
}
