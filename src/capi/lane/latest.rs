//! Latest values.
#![allow(unsafe_code)]

use super::clock::Clock;
use super::{
    Brief, brief, check_len, end, free, hand_out_counters, put_stats, record, ringmain_lane_counters,
    ringmain_lane_stats, ringmain_received, room, tell, tell_received,
};
use crate::capi::result::{given, guard, quietly, ringmain_error, ringmain_result};
use crate::lane::{LaneError, LatestReader, LatestWriter, Received};
use std::ffi::c_void;

use ringmain_result::*;

/// Publishes values of which the reader sees the newest.
#[derive(Debug)]
pub struct ringmain_latest_writer {
    pub(super) lane: LatestWriter<[u8]>,
    pub(super) exact: Option<usize>,
    pub(super) is_loaned: bool,
}

/// Reads the newest value.
#[derive(Debug)]
pub struct ringmain_latest_reader {
    pub(super) lane: LatestReader<[u8]>,
    pub(super) clock: Clock,
    /// Bytes of the value that was taken last.
    pub(super) taken: Option<usize>,
}

/// Makes `data` the newest value: never waits for the reader, and is never refused for want of room.
///
/// Fails with `RINGMAIN_WRONG_SIZE` if the lane's values have another size, `RINGMAIN_TOO_LARGE`, `RINGMAIN_DISCONNECTED`; with
/// `RINGMAIN_WRONG_STATE` while a loan is open.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes, but for the wake that the lane is opened with
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_writer_write(
    writer: *mut ringmain_latest_writer,
    data: *const c_void,
    len: usize,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the bytes are the caller's.
        let (writer, value) = unsafe { (end(writer)?, record(data, len)?) };
        if writer.is_loaned {
            return Err(RINGMAIN_WRONG_STATE);
        }
        check_len(writer.exact, value.len())?;
        Ok(writer.lane.write(value)?)
    })
}

/// Lends the place of the next value, to be filled where it lies: `*data`, aligned as configured, has room for `*size` bytes
/// (`size` may be null) and holds whatever an earlier value left there. It is the caller's to write until
/// `ringmain_latest_writer_commit` or `_cancel`. The peer may change the bytes at any time.
///
/// Fails with `RINGMAIN_DISCONNECTED`; with `RINGMAIN_WRONG_STATE` while a loan is open.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_writer_loan(
    writer: *mut ringmain_latest_writer,
    data: *mut *mut c_void,
    size: *mut usize,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; `data` may be written, `size` is null or may be.
        unsafe {
            let (writer, data) = (end(writer)?, end(data)?);
            if writer.is_loaned {
                return Err(RINGMAIN_WRONG_STATE);
            }
            let mut loan = writer.lane.loan()?;
            *data = loan.as_mut_ptr().cast();
            tell(size, loan.capacity());
            writer.is_loaned = true;
        }
        Ok(())
    })
}

/// Makes the first `len` bytes of the loan the newest value, which ends the loan.
///
/// Fails with `RINGMAIN_WRONG_STATE` if there is none, such as after it was committed; with `RINGMAIN_WRONG_SIZE` or
/// `RINGMAIN_TOO_LARGE` for a length that cannot be: then the loan stays. Otherwise with `RINGMAIN_DISCONNECTED`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes, but for the wake that the lane is opened with
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_writer_commit(
    writer: *mut ringmain_latest_writer,
    len: usize,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours.
        let writer = unsafe { end(writer) }?;
        if !writer.is_loaned {
            return Err(RINGMAIN_WRONG_STATE);
        }
        check_len(writer.exact, len)?;
        if len > writer.lane.max_record() {
            return Err(RINGMAIN_TOO_LARGE);
        }
        writer.is_loaned = false;
        Ok(writer.lane.loan()?.commit(len)?)
    })
}

/// Gives a loan back: nothing of it is published. Without one it does nothing.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_writer_cancel(writer: *mut ringmain_latest_writer) {
    // SAFETY: null, or a handle of ours.
    if let Some(writer) = unsafe { writer.as_mut() } {
        writer.is_loaned = false;
    }
}

/// The longest value that the lane takes, in bytes, as main has said; 0 for null.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_writer_max_record(writer: *const ringmain_latest_writer) -> usize {
    // SAFETY: null, or a handle of ours.
    unsafe { writer.as_ref() }.map_or(0, |writer| writer.lane.max_record())
}

/// As `ringmain_lane_sender_prepare`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_writer_prepare(writer: *mut ringmain_latest_writer) {
    quietly((), || {
        // SAFETY: null, or a handle of ours.
        if let Some(writer) = unsafe { writer.as_mut() } {
            writer.lane.prepare();
        }
    });
}

/// As `ringmain_lane_sender_is_open`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_writer_is_open(writer: *const ringmain_latest_writer) -> bool {
    // SAFETY: null, or a handle of ours.
    unsafe { writer.as_ref() }.is_some_and(|writer| writer.lane.is_open())
}

/// As `ringmain_lane_sender_stats`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_writer_stats(
    writer: *const ringmain_latest_writer,
    stats: *mut ringmain_lane_stats,
) -> ringmain_result {
    brief(|| {
        // SAFETY: null, or a handle of ours; the struct is the caller's, with its size.
        unsafe {
            let writer = writer.as_ref().ok_or(RINGMAIN_NULL_ARGUMENT)?;
            put_stats(stats, writer.lane.stats(), writer.lane.is_open())
        }
    })
}

/// As `ringmain_lane_sender_counters`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_writer_counters(
    writer: *const ringmain_latest_writer,
    counters: *mut *mut ringmain_lane_counters,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    // SAFETY: a handle of ours; `counters` may be written.
    guard(error, || unsafe { hand_out_counters(counters, given(writer, "writer")?.lane.counters()) })
}

/// Closes the lane, of which the last value can still be read, and frees this end. Null is nothing. It may outlive the handle
/// that it was opened on.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_writer_free(writer: *mut ringmain_latest_writer) {
    // SAFETY: null, or a handle of ours that is given back once.
    unsafe { free(writer) };
}

impl ringmain_latest_reader {
    /// What a look has brought.
    #[inline]
    fn took(&mut self, taken: Result<Option<Received>, LaneError>) -> Brief<Received> {
        match taken {
            Ok(Some(received)) => {
                self.taken = Some(received.len);
                Ok(received)
            }
            Ok(None) => Err(RINGMAIN_EMPTY),
            // Its place is not that of the value before.
            Err(LaneError::Corrupt) => {
                self.taken = None;
                Err(RINGMAIN_PROTOCOL)
            }
            Err(error) => Err(error.into()),
        }
    }

    #[inline]
    fn copy(&self, buffer: &mut [u8]) -> Brief<usize> {
        self.taken.ok_or(RINGMAIN_EMPTY)?;
        Ok(self.lane.copy_to(buffer)?)
    }
}

/// Takes the newest value, if it was not taken before, and copies it to `buffer`, which has `size` bytes and else stays as it is.
/// `*received` (may be null) is what is known of it. Never waits.
///
/// Fails with `RINGMAIN_EMPTY` if there is none newer; `RINGMAIN_DISCONNECTED` once the last value has been taken;
/// `RINGMAIN_TOO_LARGE` if the buffer is too short for the value, of which `ringmain_latest_reader_copy` has all then;
/// `RINGMAIN_PROTOCOL`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_reader_read(
    reader: *mut ringmain_latest_reader,
    buffer: *mut c_void,
    size: usize,
    received: *mut ringmain_received,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the buffer is the caller's, `received` is null or may be written.
        unsafe {
            let (reader, buffer) = (end(reader)?, room(buffer, size)?);
            let taken = reader.lane.take();
            let taken = reader.took(taken)?;
            reader.copy(buffer)?;
            tell_received(received, taken);
        }
        Ok(())
    })
}

/// As `ringmain_latest_reader_read`, but waits for a value that was not taken before until `deadline_ns`, which is a time of
/// `ringmain_now()` (`CLOCK_MONOTONIC`, absolute) or `RINGMAIN_FOREVER`. Fails with `RINGMAIN_TIMEOUT` instead of `RINGMAIN_EMPTY`.
/// A writer with `RINGMAIN_WAKE_NEVER`, which is the default, is looked at every millisecond.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no: it reads the clock, and to sleep is a system call
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_reader_read_until(
    reader: *mut ringmain_latest_reader,
    buffer: *mut c_void,
    size: usize,
    deadline_ns: u64,
    received: *mut ringmain_received,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the buffer is the caller's, `received` is null or may be written.
        unsafe {
            let (reader, buffer) = (end(reader)?, room(buffer, size)?);
            let taken = reader.lane.take_until(reader.clock.instant(deadline_ns));
            let taken = reader.took(taken.map(Some))?;
            reader.copy(buffer)?;
            tell_received(received, taken);
        }
        Ok(())
    })
}

/// Takes the newest value, if it was not taken before, and leaves it where it lies: `ringmain_latest_reader_data` and `_copy` mean
/// this value until the next one is taken. `*received` (may be null) is what is known of it. Fails as
/// `ringmain_latest_reader_read`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_reader_take(
    reader: *mut ringmain_latest_reader,
    received: *mut ringmain_received,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; `received` is null or may be written.
        unsafe {
            let reader = end(reader)?;
            let taken = reader.lane.take();
            tell_received(received, reader.took(taken)?);
        }
        Ok(())
    })
}

/// Copies the value that was taken last, however often: `*len` (may be null) bytes. Fails with `RINGMAIN_EMPTY` if none was;
/// `RINGMAIN_TOO_LARGE` if the buffer is too short; `RINGMAIN_DISCONNECTED` in a forked copy of the process.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_reader_copy(
    reader: *const ringmain_latest_reader,
    buffer: *mut c_void,
    size: usize,
    len: *mut usize,
) -> ringmain_result {
    brief(|| {
        // SAFETY: null, or a handle of ours; the buffer is the caller's, `len` is null or may be written.
        unsafe {
            let copied = reader.as_ref().ok_or(RINGMAIN_NULL_ARGUMENT)?.copy(room(buffer, size)?)?;
            tell(len, copied);
        }
        Ok(())
    })
}

/// Where the value that was taken last lies, aligned as configured, without a copy: `*len` (may be null) bytes, the library's,
/// until the next value is taken. Null if none was taken, in a forked copy of the process, or for null.
///
/// **The writer may change the bytes at any time**: for peers that trust each other, and for code that reads each of them once.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_reader_data(
    reader: *const ringmain_latest_reader,
    len: *mut usize,
) -> *const c_void {
    // SAFETY: null, or a handle of ours; `len` is null or may be written.
    unsafe {
        let Some((reader, taken)) = reader.as_ref().and_then(|reader| Some((reader, reader.taken?))) else {
            return std::ptr::null();
        };
        // As `_copy` says it; a forked copy has not the memory.
        if reader.lane.copy_to(&mut []) == Err(LaneError::Closed) {
            return std::ptr::null();
        }
        tell(len, taken);
        reader.lane.as_ptr().cast()
    }
}

/// The longest value that may come, in bytes, as main has said: room enough for any. 0 for null.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_reader_max_record(reader: *const ringmain_latest_reader) -> usize {
    // SAFETY: null, or a handle of ours.
    unsafe { reader.as_ref() }.map_or(0, |reader| reader.lane.max_record())
}

/// As `ringmain_lane_sender_prepare`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_reader_prepare(reader: *mut ringmain_latest_reader) {
    quietly((), || {
        // SAFETY: null, or a handle of ours.
        if let Some(reader) = unsafe { reader.as_mut() } {
            reader.lane.prepare();
        }
    });
}

/// As `ringmain_lane_sender_is_open`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_reader_is_open(reader: *const ringmain_latest_reader) -> bool {
    // SAFETY: null, or a handle of ours.
    unsafe { reader.as_ref() }.is_some_and(|reader| reader.lane.is_open())
}

/// As `ringmain_lane_sender_stats`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_reader_stats(
    reader: *const ringmain_latest_reader,
    stats: *mut ringmain_lane_stats,
) -> ringmain_result {
    brief(|| {
        // SAFETY: null, or a handle of ours; the struct is the caller's, with its size.
        unsafe {
            let reader = reader.as_ref().ok_or(RINGMAIN_NULL_ARGUMENT)?;
            put_stats(stats, reader.lane.stats(), reader.lane.is_open())
        }
    })
}

/// As `ringmain_lane_sender_counters`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_reader_counters(
    reader: *const ringmain_latest_reader,
    counters: *mut *mut ringmain_lane_counters,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    // SAFETY: a handle of ours; `counters` may be written.
    guard(error, || unsafe { hand_out_counters(counters, given(reader, "reader")?.lane.counters()) })
}

/// Closes the lane, which the writer's next attempt says, and frees this end. Null is nothing. It may outlive the handle that it was
/// opened on.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_latest_reader_free(reader: *mut ringmain_latest_reader) {
    // SAFETY: null, or a handle of ours that is given back once.
    unsafe { free(reader) };
}
