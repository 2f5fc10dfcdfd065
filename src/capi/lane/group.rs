//! One request to each of several peers, and one wait for all of them.
#![allow(unsafe_code)]

use super::{Brief, brief, end, free, record, ringmain_lane_duplex, tell};
use crate::capi::result::{Failure, Outcome, failure, guard, null, put, ringmain_error, ringmain_result};
use std::ffi::c_void;

use ringmain_result::*;

/// Duplexes to several peers that work at the same time: all are asked, then all are waited for.
#[derive(Debug)]
pub struct ringmain_lane_group {
    members: Vec<Member>,
    /// The round that is being asked for; those before it are over.
    round: u64,
}

#[derive(Debug)]
struct Member {
    /// Owned; a pointer because the caller has copies of it.
    lane: *mut ringmain_lane_duplex,
    response: Box<[Line]>,
    /// The round in which it was asked last, and what came of that: until it is waited for, whether the request was sent; then
    /// the length of the answer.
    asked_in: u64,
    outcome: Brief<usize>,
}

/// Callers look at a response as the record that it is, whose alignment is this one at most.
#[repr(C, align(128))]
#[derive(Debug, Clone, Copy)]
struct Line([u8; 128]);

fn bytes(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: lines are bytes, without padding.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
}

impl Drop for Member {
    fn drop(&mut self) {
        // SAFETY: made by `hand_over`, and the group's since it was added; null if it is the caller's again.
        unsafe { free(self.lane) };
    }
}

/// A group of nobody. `*group` is the caller's until `ringmain_lane_group_free`.
///
/// There is no memory that all peers write: one that is hostile could hold up or let go the blocks of all others. So the wait is
/// for the first peer that has not answered, then for the next.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_group_new(
    group: *mut *mut ringmain_lane_group,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        if group.is_null() {
            return Err(null("group"));
        }
        // SAFETY: not null, and may be written.
        unsafe { put(group, Box::into_raw(Box::new(ringmain_lane_group { members: Vec::new(), round: 1 })), "group") }
    })
}

/// Makes a duplex the group's.
///
/// # Safety
///
/// `duplex` is null or a handle of ours.
unsafe fn member(duplex: *mut ringmain_lane_duplex) -> Outcome<Member> {
    // SAFETY: as the caller says.
    let lane = unsafe { duplex.as_mut() }.ok_or_else(|| null("duplex"))?;
    lane.check_ungrouped()?;
    let lines = lane.max_record.div_ceil(size_of::<Line>());
    let mut response = Vec::new();
    response.try_reserve_exact(lines).map_err(|error| no_memory(lane.max_record, &error))?;
    response.resize(lines, Line([0; 128]));
    lane.is_grouped = true;
    Ok(Member { lane: duplex, response: response.into_boxed_slice(), asked_in: 0, outcome: Err(RINGMAIN_TIMEOUT) })
}

#[cold]
fn no_memory(size: usize, error: &std::collections::TryReserveError) -> Failure {
    failure(RINGMAIN_SYSTEM, format!("no memory for a response of {size} bytes: {error}"))
}

/// Adds a peer; `*peer` (may be null) is its number, from 0 on. The duplex is the group's from then on, which frees it; if this
/// fails, it stays the caller's.
///
/// Fails with `RINGMAIN_WRONG_STATE` if it is a group's already; `RINGMAIN_SYSTEM` without memory for its answers.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_group_add(
    group: *mut ringmain_lane_group,
    duplex: *mut ringmain_lane_duplex,
    peer: *mut usize,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: handles of ours; `peer` is null or may be written.
        unsafe {
            let group = group.as_mut().ok_or_else(|| null("group"))?;
            let member = member(duplex)?;
            tell(peer, group.members.len());
            group.members.push(member);
        }
        Ok(())
    })
}

/// Puts another duplex in a peer's place, such as that of its process's successor. `*replaced` is the one before, the caller's
/// again, to be freed where that is no harm. The new one is the group's; if this fails, it stays the caller's.
///
/// Fails with `RINGMAIN_NOT_REGISTERED` if there is no peer of this number; `RINGMAIN_WRONG_STATE` if the new one is a group's
/// already; `RINGMAIN_SYSTEM` without memory for its answers.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_group_replace(
    group: *mut ringmain_lane_group,
    peer: usize,
    duplex: *mut ringmain_lane_duplex,
    replaced: *mut *mut ringmain_lane_duplex,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        if replaced.is_null() {
            return Err(null("replaced"));
        }
        // SAFETY: handles of ours; `replaced` may be written.
        unsafe {
            let group = group.as_mut().ok_or_else(|| null("group"))?;
            let place = group.members.get_mut(peer);
            let place = place.ok_or_else(|| failure(RINGMAIN_NOT_REGISTERED, format!("there is no peer {peer}")))?;
            let mut before = std::mem::replace(place, member(duplex)?);
            let lane = std::mem::replace(&mut before.lane, std::ptr::null_mut());
            (*lane).is_grouped = false;
            replaced.write(lane);
        }
        Ok(())
    })
}

/// The duplex of a peer, which stays the group's; null if there is no peer of this number, or for null.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_group_duplex(
    group: *const ringmain_lane_group,
    peer: usize,
) -> *mut ringmain_lane_duplex {
    // SAFETY: null, or a handle of ours.
    let members = unsafe { group.as_ref() }.map_or(&[][..], |group| &group.members);
    members.get(peer).map_or(std::ptr::null_mut(), |member| member.lane)
}

/// Sends a peer its request of this round. A peer that cannot be asked has failed this round, whatever the reason:
/// `ringmain_lane_group_response` says it. Fails as `ringmain_lane_duplex_send_request`; with `RINGMAIN_NOT_REGISTERED` if there is
/// no peer of this number.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes, but for the wake that the lane is opened with
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_group_start(
    group: *mut ringmain_lane_group,
    peer: usize,
    data: *const c_void,
    len: usize,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours, whose lanes live as long as it; the bytes are the caller's.
        unsafe {
            let group = end(group)?;
            let member = group.members.get_mut(peer).ok_or(RINGMAIN_NOT_REGISTERED)?;
            let lane = end(member.lane)?;
            member.asked_in = group.round;
            member.outcome = record(data, len).and_then(|request| lane.send_request(request)).map(|()| 0);
            member.outcome.map(drop)
        }
    })
}

/// Waits until every peer that was asked has answered or `deadline_ns`, a time of `ringmain_now()`, is over. `*answered` (may be
/// null) is the number of those that have answered in time.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no: it reads the clock, and to sleep is a system call
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_group_wait_all(
    group: *mut ringmain_lane_group,
    deadline_ns: u64,
    answered: *mut usize,
) -> ringmain_result {
    brief(|| {
        // SAFETY: a handle of ours, whose lanes live as long as it; `answered` is null or may be written.
        unsafe {
            let (group, mut count) = (end(group)?, 0);
            for member in &mut group.members {
                if member.asked_in == group.round && member.outcome.is_ok() {
                    let received = end(member.lane)?.recv_response(bytes(&mut member.response), deadline_ns);
                    member.outcome = received.map(|received| received.len);
                    count += usize::from(member.outcome.is_ok());
                }
            }
            group.round += 1;
            tell(answered, count);
        }
        Ok(())
    })
}

/// A peer's answer of the round that the last `ringmain_lane_group_wait_all` has ended: `*data` has `*len` bytes, aligned to 128, a
/// copy that is the group's and stays until the next round or until the peer is replaced.
///
/// Fails with why there is none: `RINGMAIN_TIMEOUT`, also for a peer that was not asked in that round; what sending or
/// receiving has failed with; `RINGMAIN_NOT_REGISTERED` if there is no peer of this number. The caller's are the two variables
/// alone.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_group_response(
    group: *const ringmain_lane_group,
    peer: usize,
    data: *mut *const c_void,
    len: *mut usize,
) -> ringmain_result {
    brief(|| {
        // SAFETY: null, or a handle of ours; `data` and `len` may be written.
        unsafe {
            let (group, data, len) = (group.as_ref().ok_or(RINGMAIN_NULL_ARGUMENT)?, end(data)?, end(len)?);
            let member = group.members.get(peer).ok_or(RINGMAIN_NOT_REGISTERED)?;
            if member.asked_in + 1 != group.round {
                return Err(RINGMAIN_TIMEOUT);
            }
            let of_response = member.outcome?;
            (*data, *len) = (member.response.as_ptr().cast(), of_response);
        }
        Ok(())
    })
}

/// Frees the group with all lanes that it has. Null is nothing.
///
/// Thread-safe: no, one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_group_free(group: *mut ringmain_lane_group) {
    // SAFETY: null, or a handle of ours that is given back once.
    unsafe { free(group) };
}
