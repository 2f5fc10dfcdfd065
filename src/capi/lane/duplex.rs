//! Both ways, and exchanges with a deadline.
#![allow(unsafe_code)]

use super::clock::Clock;
use super::{
    Brief, brief, check_len, check_memory, end, free, hand_out_counters, put_stats, record, ringmain_lane_counters,
    ringmain_lane_receiver, ringmain_lane_sender, ringmain_lane_stats, ringmain_received, room, tell, tell_received,
};
use crate::capi::result::{Outcome, failure, given, guard, null, quietly, ringmain_error, ringmain_result};
use crate::lane::{LaneDuplex, Received};
use std::ffi::c_void;

use ringmain_result::*;

/// Both ways: requests and their answers by number.
#[derive(Debug)]
pub struct ringmain_lane_duplex {
    pub(super) lane: LaneDuplex<[u8], [u8]>,
    pub(super) clock: Clock,
    pub(super) exact: Option<usize>,
    /// The longest record that may come.
    pub(super) max_record: usize,
    pub(super) loaned: Loaned,
    /// It is a group's: that one frees it.
    pub(super) is_grouped: bool,
}

/// What a duplex has lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loaned {
    Nothing,
    Request,
    Response,
}

impl ringmain_lane_duplex {
    pub(super) fn new(mut lane: LaneDuplex<[u8], [u8]>, exact: Option<usize>) -> Self {
        let max_record = lane.receiver().max_record();
        Self { lane, clock: Clock::new(), exact, max_record, loaned: Loaned::Nothing, is_grouped: false }
    }

    pub(super) fn check_ungrouped(&self) -> Outcome {
        if self.is_grouped {
            return Err(failure(RINGMAIN_WRONG_STATE, "the duplex is a group's".to_string()));
        }
        Ok(())
    }

    /// Nothing is lent. To receive as well: what comes says by which number a loan is sent.
    #[inline]
    fn idle(&mut self) -> Brief<&mut Self> {
        if self.loaned == Loaned::Nothing { Ok(self) } else { Err(RINGMAIN_WRONG_STATE) }
    }

    #[inline]
    fn check(&mut self, record: &[u8]) -> Brief {
        check_len(self.idle()?.exact, record.len())
    }

    #[inline]
    pub(super) fn send_request(&mut self, request: &[u8]) -> Brief {
        self.check(request)?;
        Ok(self.lane.send_request(request)?)
    }

    #[inline]
    pub(super) fn recv_response(&mut self, response: &mut [u8], deadline_ns: u64) -> Brief<Received> {
        let deadline = self.clock.instant(deadline_ns);
        Ok(self.idle()?.lane.recv_response_until(response, deadline)?)
    }

    /// Lends the place of a request or a response.
    ///
    /// # Safety
    ///
    /// `data` is null or may be written; `size` likewise.
    #[inline]
    unsafe fn loan(&mut self, what: Loaned, data: *mut *mut c_void, size: *mut usize) -> Brief {
        self.idle()?;
        // SAFETY: as the caller says.
        unsafe {
            let data = end(data)?;
            let mut loan = if what == Loaned::Request { self.lane.loan_request() } else { self.lane.loan_response() }?;
            *data = loan.as_mut_ptr().cast();
            tell(size, loan.capacity());
        }
        self.loaned = what;
        Ok(())
    }
}

/// Sends a request and waits for its answer until `deadline_ns`: `ringmain_lane_duplex_send_request`, then
/// `ringmain_lane_duplex_recv_response_until`. Fails as they do. After `RINGMAIN_TIMEOUT` the answer that still comes is known by
/// its number, thrown away and counted (`late`).
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no: it reads the clock, and to sleep is a system call
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_exchange(
    duplex: *mut ringmain_lane_duplex,
    request: *const c_void,
    request_len: usize,
    response: *mut c_void,
    response_size: usize,
    deadline_ns: u64,
    received: *mut ringmain_received,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; request and buffer are the caller's, `received` is null or may be written.
        unsafe {
            let duplex = end(duplex)?;
            check_memory(response, response_size)?;
            duplex.send_request(record(request, request_len)?)?;
            // Not before the request has been copied: both may be the same memory.
            tell_received(received, duplex.recv_response(room(response, response_size)?, deadline_ns)?);
        }
        Ok(())
    })
}

/// Sends a request, whose answer alone is taken from now on; up to two earlier answers that are there are thrown away then, so that
/// they take no room from it. Fails as `ringmain_lane_sender_send`; with `RINGMAIN_FULL` if the other side has not taken the ones
/// before.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes, but for the wake that the lane is opened with
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_send_request(
    duplex: *mut ringmain_lane_duplex,
    data: *const c_void,
    len: usize,
) -> ringmain_result {
    // SAFETY: a handle of ours; the bytes are the caller's.
    brief(|| unsafe { end(duplex)?.send_request(record(data, len)?) })
}

/// Lends the place of the next request, to be filled where it lies; as `ringmain_lane_sender_loan`. It is the caller's to write
/// until `ringmain_lane_duplex_commit`, after which its answer alone is taken, or `_cancel`, after
/// which that of the one before still is. Up to two answers to still earlier requests that are there are thrown away, now and when
/// it is committed. Nothing can be received while a loan is open.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_loan_request(
    duplex: *mut ringmain_lane_duplex,
    data: *mut *mut c_void,
    size: *mut usize,
) -> ringmain_result {
    // SAFETY: a handle of ours; `data` and `size` are null or may be written.
    brief(|| unsafe { end(duplex)?.loan(Loaned::Request, data, size) })
}

/// Lends the place of the answer to the last request received, to be filled where it lies; as `ringmain_lane_sender_loan`. It is the
/// caller's to write until `ringmain_lane_duplex_commit` or `_cancel`. Nothing can be received while a loan is open.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_loan_response(
    duplex: *mut ringmain_lane_duplex,
    data: *mut *mut c_void,
    size: *mut usize,
) -> ringmain_result {
    // SAFETY: a handle of ours; `data` and `size` are null or may be written.
    brief(|| unsafe { end(duplex)?.loan(Loaned::Response, data, size) })
}

/// Sends the first `len` bytes of the loan as the request or the response that it was lent for. Fails as
/// `ringmain_lane_sender_commit`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes, but for the wake that the lane is opened with
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_commit(duplex: *mut ringmain_lane_duplex, len: usize) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours.
        let duplex = unsafe { end(duplex) }?;
        if duplex.loaned == Loaned::Nothing {
            return Err(RINGMAIN_WRONG_STATE);
        }
        check_len(duplex.exact, len)?;
        if len > duplex.lane.sender().max_record() {
            return Err(RINGMAIN_TOO_LARGE);
        }
        let loan = match std::mem::replace(&mut duplex.loaned, Loaned::Nothing) {
            Loaned::Request => duplex.lane.loan_request(),
            _ => duplex.lane.loan_response(),
        };
        Ok(loan?.commit(len)?)
    })
}

/// Gives a loan back: nothing of it is sent. Without one it does nothing.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_cancel(duplex: *mut ringmain_lane_duplex) {
    // SAFETY: null, or a handle of ours.
    if let Some(duplex) = unsafe { duplex.as_mut() } {
        duplex.loaned = Loaned::Nothing;
    }
}

/// Takes the answer to the last request if it is there, and throws earlier ones away. Never waits. Fails as
/// `ringmain_lane_receiver_try_recv`; with `RINGMAIN_WRONG_STATE` while a loan is open.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_try_recv_response(
    duplex: *mut ringmain_lane_duplex,
    buffer: *mut c_void,
    size: usize,
    received: *mut ringmain_received,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the buffer is the caller's, `received` is null or may be written.
        unsafe {
            let taken = end(duplex)?.idle()?.lane.try_recv_response(room(buffer, size)?)?;
            tell_received(received, taken.ok_or(RINGMAIN_EMPTY)?);
        }
        Ok(())
    })
}

/// Waits for the answer to the last request, as `ringmain_lane_receiver_recv_until` does, and throws earlier ones away. Fails with
/// `RINGMAIN_WRONG_STATE` while a loan is open.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no: it reads the clock, and to sleep is a system call
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_recv_response_until(
    duplex: *mut ringmain_lane_duplex,
    buffer: *mut c_void,
    size: usize,
    deadline_ns: u64,
    received: *mut ringmain_received,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the buffer is the caller's, `received` is null or may be written.
        unsafe { tell_received(received, end(duplex)?.recv_response(room(buffer, size)?, deadline_ns)?) };
        Ok(())
    })
}

/// Takes the next request if it is there. Never waits. Fails as `ringmain_lane_receiver_try_recv`; with `RINGMAIN_WRONG_STATE` while
/// a loan is open.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_try_recv_request(
    duplex: *mut ringmain_lane_duplex,
    buffer: *mut c_void,
    size: usize,
    received: *mut ringmain_received,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the buffer is the caller's, `received` is null or may be written.
        unsafe {
            let taken = end(duplex)?.idle()?.lane.try_recv_request(room(buffer, size)?)?;
            tell_received(received, taken.ok_or(RINGMAIN_EMPTY)?);
        }
        Ok(())
    })
}

/// Waits for a request, as `ringmain_lane_receiver_recv_until` does. Fails with `RINGMAIN_WRONG_STATE` while a loan is open.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no: it reads the clock, and to sleep is a system call
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_recv_request_until(
    duplex: *mut ringmain_lane_duplex,
    buffer: *mut c_void,
    size: usize,
    deadline_ns: u64,
    received: *mut ringmain_received,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the buffer is the caller's, `received` is null or may be written.
        unsafe {
            let (duplex, buffer) = (end(duplex)?, room(buffer, size)?);
            let deadline = duplex.clock.instant(deadline_ns);
            tell_received(received, duplex.idle()?.lane.recv_request_until(buffer, deadline)?);
        }
        Ok(())
    })
}

/// As `ringmain_lane_duplex_recv_request_until`, then goes on to the newest request that is there; those before it are counted as
/// `late`. For a peer that was stopped or slow: whoever asked for the older ones does not wait for them any more.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no: it reads the clock, and to sleep is a system call
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_recv_newest_request_until(
    duplex: *mut ringmain_lane_duplex,
    buffer: *mut c_void,
    size: usize,
    deadline_ns: u64,
    received: *mut ringmain_received,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the buffer is the caller's, `received` is null or may be written.
        unsafe {
            let (duplex, buffer) = (end(duplex)?, room(buffer, size)?);
            let deadline = duplex.clock.instant(deadline_ns);
            tell_received(received, duplex.idle()?.lane.recv_newest_request_until(buffer, deadline)?);
        }
        Ok(())
    })
}

/// Answers the last request received. Fails as `ringmain_lane_sender_send`; with `RINGMAIN_FULL` if the other side has left
/// earlier answers where they are.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes, but for the wake that the lane is opened with
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_send_response(
    duplex: *mut ringmain_lane_duplex,
    data: *const c_void,
    len: usize,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours; the bytes are the caller's.
        let (duplex, response) = unsafe { (end(duplex)?, record(data, len)?) };
        duplex.check(response)?;
        Ok(duplex.lane.send_response(response)?)
    })
}

/// Makes a stream each way of it: `*sender` and `*receiver` are the caller's, each for a thread of its own, until
/// `ringmain_lane_sender_free` and `ringmain_lane_receiver_free`. The duplex is freed; a loan of it is over. If this fails, it stays
/// whose it was: with `RINGMAIN_WRONG_STATE` if it is a group's.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_split(
    duplex: *mut ringmain_lane_duplex,
    sender: *mut *mut ringmain_lane_sender,
    receiver: *mut *mut ringmain_lane_receiver,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        for (pointer, what) in [(sender.is_null(), "sender"), (receiver.is_null(), "receiver")] {
            if pointer {
                return Err(null(what));
            }
        }
        // SAFETY: a handle of ours that is given back once; both may be written.
        unsafe {
            given(duplex, "duplex")?.check_ungrouped()?;
            let ringmain_lane_duplex { lane, clock, exact, .. } = *Box::from_raw(duplex);
            let (sending, receiving) = lane.split();
            let sending = ringmain_lane_sender { lane: sending, exact, batch: None, is_loaned: false };
            let receiving = ringmain_lane_receiver { lane: receiving, clock, is_peeked: false };
            sender.write(Box::into_raw(Box::new(sending)));
            receiver.write(Box::into_raw(Box::new(receiving)));
        }
        Ok(())
    })
}

/// The longest record that may come, in bytes, as main has said: room enough for any. 0 for null.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_max_record(duplex: *const ringmain_lane_duplex) -> usize {
    // SAFETY: null, or a handle of ours.
    unsafe { duplex.as_ref() }.map_or(0, |duplex| duplex.max_record)
}

/// As `ringmain_lane_sender_prepare`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_prepare(duplex: *mut ringmain_lane_duplex) {
    quietly((), || {
        // SAFETY: null, or a handle of ours.
        if let Some(duplex) = unsafe { duplex.as_mut() } {
            duplex.lane.prepare();
        }
    });
}

/// As `ringmain_lane_sender_is_open`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_is_open(duplex: *const ringmain_lane_duplex) -> bool {
    // SAFETY: null, or a handle of ours.
    unsafe { duplex.as_ref() }.is_some_and(|duplex| duplex.lane.is_open())
}

/// The counters of both directions; as `ringmain_lane_sender_stats`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_stats(
    duplex: *const ringmain_lane_duplex,
    stats: *mut ringmain_lane_stats,
) -> ringmain_result {
    brief(|| {
        // SAFETY: null, or a handle of ours; the struct is the caller's, with its size.
        unsafe {
            let duplex = duplex.as_ref().ok_or(RINGMAIN_NULL_ARGUMENT)?;
            put_stats(stats, duplex.lane.stats(), duplex.lane.is_open())
        }
    })
}

/// As `ringmain_lane_sender_counters`.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_counters(
    duplex: *const ringmain_lane_duplex,
    counters: *mut *mut ringmain_lane_counters,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    // SAFETY: a handle of ours; `counters` may be written.
    guard(error, || unsafe { hand_out_counters(counters, given(duplex, "duplex")?.lane.counters()) })
}

/// Closes the lane and frees it; a loan is over then. Null is nothing, and so is one that is a group's, which frees it. It may
/// outlive the handle that it was opened on.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_duplex_free(duplex: *mut ringmain_lane_duplex) {
    // SAFETY: null, or a handle of ours that is given back once, or is a group's.
    unsafe {
        if duplex.as_ref().is_some_and(|duplex| !duplex.is_grouped) {
            free(duplex);
        }
    }
}
