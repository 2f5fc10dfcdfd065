//! Lanes: records, latest values and exchanges for threads that must not wait.
//!
//! The ends are those of bytes (`[u8]`), which are told the size of the other end's type where it has one. What Rust's borrows
//! rule out, such as to send while a loan is filled, is a state here and a result.
#![allow(unsafe_code)]

mod clock;
mod counters;
mod duplex;
mod group;
mod latest;
mod open;
mod receiver;
mod sender;

pub use clock::*;
pub use counters::*;
pub use duplex::*;
pub use group::*;
pub use latest::*;
pub use open::*;
pub use receiver::*;
pub use sender::*;

use super::result::{quietly, ringmain_result};
use crate::lane::{LaneError, Received};
use std::ffi::c_void;

use ringmain_result::*;

/// Result alone: no text is made, so nothing is allocated.
type Brief<T = ()> = Result<T, ringmain_result>;

impl From<LaneError> for ringmain_result {
    #[inline]
    fn from(error: LaneError) -> Self {
        match error {
            LaneError::Full => RINGMAIN_FULL,
            LaneError::Closed => RINGMAIN_DISCONNECTED,
            LaneError::TimedOut => RINGMAIN_TIMEOUT,
            LaneError::TooLong => RINGMAIN_TOO_LARGE,
            LaneError::Corrupt => RINGMAIN_PROTOCOL,
        }
    }
}

/// Runs what a function does that says with its result alone what happened.
#[inline]
fn brief(run: impl FnOnce() -> Brief) -> ringmain_result {
    quietly(RINGMAIN_PANIC, || run().err().unwrap_or(RINGMAIN_OK))
}

/// An end of the caller's; null is an error.
///
/// # Safety
///
/// What is not null was made by this library, and nobody else uses it as long as `'a`.
#[inline]
unsafe fn end<'a, T>(end: *mut T) -> Brief<&'a mut T> {
    // SAFETY: as the caller says.
    unsafe { end.as_mut() }.ok_or(RINGMAIN_NULL_ARGUMENT)
}

/// A record of the caller's.
///
/// # Safety
///
/// `data` may be read for `len` bytes as long as `'a`, or is null.
#[inline]
unsafe fn record<'a>(data: *const c_void, len: usize) -> Brief<&'a [u8]> {
    check_memory(data, len)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: not null, of a possible length, and as the caller says.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// Room for a record at the caller's; it is written and not read.
///
/// # Safety
///
/// `buffer` may be written for `size` bytes as long as `'a`, or is null.
#[inline]
unsafe fn room<'a>(buffer: *mut c_void, size: usize) -> Brief<&'a mut [u8]> {
    check_memory(buffer, size)?;
    if size == 0 {
        return Ok(&mut []);
    }
    // SAFETY: as in `record`.
    Ok(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), size) })
}

#[inline]
fn check_memory(data: *const c_void, len: usize) -> Brief {
    if len > 0 && data.is_null() {
        return Err(RINGMAIN_NULL_ARGUMENT);
    }
    if isize::try_from(len).is_err() { Err(RINGMAIN_TOO_LARGE) } else { Ok(()) }
}

/// Whether a record of `len` bytes is one of the lane's.
#[inline]
fn check_len(exact: Option<usize>, len: usize) -> Brief {
    if exact.is_none_or(|size| size == len) { Ok(()) } else { Err(RINGMAIN_WRONG_SIZE) }
}

/// Writes to where the caller wants it, if they do.
///
/// # Safety
///
/// `to` is null or may be written.
#[inline]
unsafe fn tell<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: not null, and may be written.
        unsafe { to.write(value) };
    }
}

/// # Safety
///
/// `to` is null or may be written.
#[inline]
unsafe fn tell_received(to: *mut ringmain_received, Received { len, number, lost, .. }: Received) {
    // SAFETY: as the caller says.
    unsafe { tell(to, ringmain_received { len, number, lost }) };
}

/// Closes an end and frees it.
///
/// # Safety
///
/// `end` is null, or was made by `hand_over` and is given back once.
unsafe fn free<T>(end: *mut T) {
    if !end.is_null() {
        // SAFETY: as the caller says.
        quietly((), || drop(unsafe { Box::from_raw(end) }));
    }
}

#[cfg(test)]
mod tests {
    use crate::ipc_main::IpcMain;
    use crate::lane::{LaneConfig, LaneError, LaneReceiver, LaneSender, LatestReader, LatestWriter};

    #[test]
    fn ends_of_bytes_with_a_size_meet_a_type_and_take_no_record_of_another_length() {
        let ipc_main = IpcMain::new().expect("a main");
        let ipc_renderer = ipc_main.attach().expect("a renderer");
        let web_contents = ipc_main.all_web_contents().remove(0);
        let config = LaneConfig::new().exact(Some(8), Some(8));

        let mut sender: LaneSender<[u8]> = web_contents.lane("typed", &config).expect("main's end");
        let mut receiver: LaneReceiver<u64> = ipc_renderer.lane("typed", &config).expect("the renderer's end");
        sender.try_send(&7u64.to_ne_bytes()).expect("room");
        let mut got = 0;
        assert!(receiver.try_recv(&mut got).is_ok_and(|received| received.is_some()));
        assert_eq!(got, 7);

        // The functions for C look at the length before; a hostile peer does not.
        let mut sender: LaneSender<[u8]> = web_contents.lane("records", &config).expect("main's end");
        let mut receiver: LaneReceiver<[u8]> = ipc_renderer.lane("records", &config).expect("the renderer's end");
        sender.try_send(&[0; 7]).expect("room");
        assert_eq!(receiver.try_recv(&mut [0; 16]), Err(LaneError::Corrupt));
        assert_eq!(receiver.try_recv(&mut [0; 16]), Err(LaneError::Corrupt));

        let mut writer: LatestWriter<[u8]> = web_contents.lane("value", &config).expect("main's end");
        let mut reader: LatestReader<[u8]> = ipc_renderer.lane("value", &config).expect("the renderer's end");
        writer.write(&[0; 7]).expect("open");
        assert_eq!(reader.read(&mut [0; 16]), Err(LaneError::Corrupt));

        let refused = web_contents
            .lane::<LaneSender<u64>>("other", &config)
            .and_then(|_kept| ipc_renderer.lane::<LaneReceiver<[u8]>>("other", &config.exact(None, Some(4))));
        assert!(refused.is_err_and(|error| error.kind() == crate::error::ErrorKind::InvalidConfig));
    }
}
