//! What an end has counted.
#![allow(unsafe_code)]

use super::{Brief, brief, free};
use crate::capi::result::{Outcome, null, put, ringmain_result};
use crate::capi::value::put_sized_briefly;
use crate::lane::{LaneCounters, LaneStats};

use ringmain_result::*;

/// What happened on a lane, as this end has seen it: numbers of records, or of values. Begins as `RINGMAIN_LANE_STATS_INIT`.
#[repr(C)]
#[derive(Debug)]
pub struct ringmain_lane_stats {
    /// `sizeof(ringmain_lane_stats)`.
    pub struct_size: usize,
    /// Sent, or written as latest values.
    pub sent: u64,
    /// Not sent because there was no room: the receiver sees a gap in the numbers. Of latest values those that were overrun
    /// before anybody read them.
    pub dropped: u64,
    /// Sleeping receivers that this end has woken.
    pub wakes: u64,
    /// Received, or read as latest values.
    pub received: u64,
    /// That the numbers say were dropped by the sender; of latest values those that were overrun by newer ones.
    pub lost: u64,
    /// Answers of exchanges that came after their deadline, and were thrown away.
    pub late: u64,
    /// Whether this end's memory is locked: 0 if that was not asked for, 1 if it is, 2 if the system has refused.
    pub locked: u32,
    /// 1 as long as the lane can be used, as far as can be seen from here, else 0.
    pub is_open: u32,
}

const STATS_SIZE: usize = std::mem::offset_of!(ringmain_lane_stats, is_open) + size_of::<u32>();

/// Reads the counters of an end on another thread.
#[derive(Debug)]
pub struct ringmain_lane_counters(LaneCounters);

/// # Safety
///
/// `stats` is null or the caller's struct with its size.
#[inline]
pub(super) unsafe fn put_stats(stats: *mut ringmain_lane_stats, counted: LaneStats, is_open: bool) -> Brief {
    let filled = ringmain_lane_stats {
        struct_size: size_of::<ringmain_lane_stats>(),
        sent: counted.sent,
        dropped: counted.dropped,
        wakes: counted.wakes,
        received: counted.received,
        lost: counted.lost,
        late: counted.late,
        locked: counted.locked.map_or(0, |is_locked| if is_locked { 1 } else { 2 }),
        is_open: is_open.into(),
    };
    // SAFETY: as the caller says; it is plain numbers.
    unsafe { put_sized_briefly(stats, &filled, STATS_SIZE) }
}

/// # Safety
///
/// `to` may be written, or is null.
pub(super) unsafe fn hand_out_counters(to: *mut *mut ringmain_lane_counters, counters: LaneCounters) -> Outcome {
    if to.is_null() {
        return Err(null("counters"));
    }
    // SAFETY: not null, and may be written.
    unsafe { put(to, Box::into_raw(Box::new(ringmain_lane_counters(counters))), "counters") }
}

/// The counters of the end that these were made from, which may be in use on another thread, or freed. `is_open` is 1 as long as
/// that end is there and the link has not ended. `stats` is the caller's.
///
/// Thread-safe: yes
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_counters_stats(
    counters: *const ringmain_lane_counters,
    stats: *mut ringmain_lane_stats,
) -> ringmain_result {
    brief(|| {
        // SAFETY: null, or a handle of ours; the struct is the caller's, with its size.
        unsafe {
            let ringmain_lane_counters(counters) = counters.as_ref().ok_or(RINGMAIN_NULL_ARGUMENT)?;
            put_stats(stats, counters.stats(), counters.is_open())
        }
    })
}

/// Frees counters. Null is nothing.
///
/// Thread-safe: yes, once for each
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_lane_counters_free(counters: *mut ringmain_lane_counters) {
    // SAFETY: null, or a handle of ours that is given back once.
    unsafe { free(counters) };
}
