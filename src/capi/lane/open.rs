//! How a C program opens an end.
#![allow(unsafe_code)]

use super::clock::Clock;
use super::{
    ringmain_lane_duplex, ringmain_lane_receiver, ringmain_lane_sender, ringmain_latest_reader, ringmain_latest_writer,
};
use crate::capi::result::{Outcome, failure, given, guard, null, put, ringmain_error, ringmain_result};
use crate::capi::value::{sized, text};
use crate::capi::{ringmain_main, ringmain_renderer};
use crate::lane::{LaneConfig, LaneDuplex, LaneEnd, LaneReceiver, LaneSender, LatestReader, LatestWriter};
use crate::parking::WakePolicy;
use std::ffi::c_char;
use std::time::Duration;

use ringmain_result::*;

/// How a sender wakes a receiver that sleeps in a function with a deadline.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ringmain_wake {
    /// `RINGMAIN_WAKE_NEVER` for latest values, `RINGMAIN_WAKE_IF_PARKED` for everything else.
    RINGMAIN_WAKE_DEFAULT = 0,
    /// Not at all: the sender makes no system call, ever. For receivers that look by themselves, such as a window that redraws
    /// 60 times a second. One that waits all the same looks every millisecond.
    RINGMAIN_WAKE_NEVER = 1,
    /// By one `FUTEX_WAKE`, when the receiver has said that it sleeps, and only then.
    RINGMAIN_WAKE_IF_PARKED = 2,
    /// A flag is set, and a helper thread of this process makes the call within a millisecond. For threads that may make no
    /// system call and whose receiver sleeps.
    RINGMAIN_WAKE_RELAY = 3,
}

/// How a lane is opened. Begins as `RINGMAIN_LANE_CONFIG_INIT`; zero is the default of each field. Sizes, `capacity` and `align`
/// are main's to say: a renderer takes what it is offered, if that has the same `send_size` and `recv_size` as its own (seen
/// from the other side) and no smaller `align`.
#[repr(C)]
#[derive(Debug)]
pub struct ringmain_lane_config {
    /// `sizeof(ringmain_lane_config)`.
    pub struct_size: usize,
    /// Each record, or value, that this end sends has exactly so many bytes: `sizeof` of a type, which a Rust program on the other
    /// side names. 0: bytes of any length up to `max_record`; in Rust, `[u8]`.
    pub send_size: u64,
    /// The same for what this end receives.
    pub recv_size: u64,
    /// The longest record without a fixed size, at most 1 GiB; so many bytes are reserved for each. Default 4 096.
    pub max_record: u64,
    /// How long a receiver with a deadline looks before it sleeps. Default 20 µs, nothing where the process may use one core
    /// alone; 1 is as good as nothing.
    pub spin_ns: u64,
    /// How long a renderer waits for main to open the lane. Default 5 s; `RINGMAIN_FOREVER` for ever.
    pub open_timeout_ns: u64,
    /// Records that have room, each way. Default 256. Latest values have three places, always.
    pub capacity: u32,
    /// The alignment of records in memory, for those who work in place: a power of two from 16 to 128. Default 16.
    pub align: u32,
    /// A `ringmain_wake`: how this end wakes the other one.
    pub wake: u32,
    /// 1: keeps this end's memory from being swapped out (`mlock`), as far as the system lets it; `locked` of
    /// `ringmain_lane_stats` says whether it does.
    pub lock_memory: u32,
}

const CONFIG_SIZE: usize = std::mem::offset_of!(ringmain_lane_config, lock_memory) + size_of::<u32>();

fn wake_of(wake: u32) -> Outcome<Option<WakePolicy>> {
    match wake {
        0 => Ok(None),
        1 => Ok(Some(WakePolicy::Never)),
        2 => Ok(Some(WakePolicy::IfParked)),
        3 => Ok(Some(WakePolicy::Relay)),
        _ => Err(failure(RINGMAIN_INVALID_CONFIG, format!("{wake} is no ringmain_wake"))),
    }
}

fn size(of: u64) -> usize {
    usize::try_from(of).unwrap_or(usize::MAX)
}

/// The size of a type at the other end, where that has one.
fn exact(of: u64) -> Option<usize> {
    (of != 0).then(|| size(of))
}

/// # Safety
///
/// `config` is null or points to such a struct with its size.
unsafe fn config_of(config: *const ringmain_lane_config) -> Outcome<(LaneConfig, Option<usize>)> {
    // SAFETY: as the caller says; it is plain numbers.
    let config = unsafe { sized(config, CONFIG_SIZE) }?;
    let sent = exact(config.send_size);
    let mut made = LaneConfig::new().exact(sent, exact(config.recv_size));
    if config.max_record != 0 {
        made = made.max_record(size(config.max_record));
    }
    if config.capacity != 0 {
        made = made.capacity(config.capacity as usize);
    }
    if config.align != 0 {
        made = made.align(config.align as usize);
    }
    if config.spin_ns != 0 {
        made = made.spin(Duration::from_nanos(config.spin_ns));
    }
    if config.open_timeout_ns != 0 {
        made = made.open_timeout(Duration::from_nanos(config.open_timeout_ns));
    }
    if let Some(policy) = wake_of(config.wake)? {
        made = made.wake(policy);
    }
    match config.lock_memory {
        0 | 1 => Ok((made.lock_memory(config.lock_memory == 1), sent)),
        other => Err(failure(RINGMAIN_INVALID_CONFIG, format!("lock_memory is {other}, it must be 0 or 1"))),
    }
}

/// What a handle is made of.
trait Handle: Sized {
    type End: LaneEnd;
    fn new(end: Self::End, sent: Option<usize>) -> Self;
}

impl Handle for ringmain_lane_sender {
    type End = LaneSender<[u8]>;

    fn new(lane: Self::End, exact: Option<usize>) -> Self {
        Self { lane, exact, batch: None, is_loaned: false }
    }
}

impl Handle for ringmain_lane_receiver {
    type End = LaneReceiver<[u8]>;

    fn new(lane: Self::End, _: Option<usize>) -> Self {
        Self { lane, clock: Clock::new(), is_peeked: false }
    }
}

impl Handle for ringmain_lane_duplex {
    type End = LaneDuplex<[u8], [u8]>;

    fn new(lane: Self::End, exact: Option<usize>) -> Self {
        ringmain_lane_duplex::new(lane, exact)
    }
}

impl Handle for ringmain_latest_writer {
    type End = LatestWriter<[u8]>;

    fn new(lane: Self::End, exact: Option<usize>) -> Self {
        Self { lane, exact, is_loaned: false }
    }
}

impl Handle for ringmain_latest_reader {
    type End = LatestReader<[u8]>;

    fn new(lane: Self::End, _: Option<usize>) -> Self {
        Self { lane, clock: Clock::new(), taken: None }
    }
}

/// Opens an end by `open` and hands it over.
///
/// # Safety
///
/// The text and the struct are the caller's; `handle` is null or may be written.
unsafe fn hand_over<H: Handle>(
    (name, name_len): (*const c_char, usize),
    config: *const ringmain_lane_config,
    (handle, what): (*mut *mut H, &str),
    open: impl FnOnce(&str, &LaneConfig) -> Outcome<H::End>,
) -> Outcome {
    if handle.is_null() {
        return Err(null(what));
    }
    // SAFETY: as the caller says.
    let (name, (config, sent)) = unsafe { (text(name, name_len, "name")?, config_of(config)?) };
    let opened = H::new(open(name, &config)?, sent);
    // SAFETY: not null, and may be written.
    unsafe { put(handle, Box::into_raw(Box::new(opened)), what) }
}

/// # Safety
///
/// As [`hand_over`]; the main is a handle of ours or null.
unsafe fn open_in_main<H: Handle>(
    ipc_main: *const ringmain_main,
    renderer: u32,
    name: (*const c_char, usize),
    config: *const ringmain_lane_config,
    handle: (*mut *mut H, &str),
) -> Outcome {
    // SAFETY: as the caller says.
    unsafe {
        let main = given(ipc_main, "ipc_main")?;
        hand_over(name, config, handle, |name, config| Ok(main.renderer(renderer)?.lane(name, config)?))
    }
}

/// # Safety
///
/// As [`hand_over`]; the renderer is a handle of ours or null.
unsafe fn open_in_renderer<H: Handle>(
    renderer: *const ringmain_renderer,
    name: (*const c_char, usize),
    config: *const ringmain_lane_config,
    handle: (*mut *mut H, &str),
) -> Outcome {
    // SAFETY: as the caller says.
    unsafe {
        let renderer = given(renderer, "renderer")?;
        hand_over(name, config, handle, |name, config| Ok(renderer.ipc.lane(name, config)?))
    }
}

/// Opens main's end of a lane to a renderer, which opens the other end (`ringmain_renderer_lane_receiver`) under the same name,
/// now or later: makes the lane's memory and hands it over; does not wait. A lane is memory of its own, apart from the
/// messages: nothing that a callback does or that a large message takes touches it. `config` may be null. `*sender` is the
/// caller's until `ringmain_lane_sender_free`.
///
/// Fails with `RINGMAIN_INVALID_CONFIG` for sizes that cannot be; `RINGMAIN_NAME_IN_USE` while an end of this name lives;
/// `RINGMAIN_WRONG_SIZE`, `RINGMAIN_SYSTEM`, `RINGMAIN_DISCONNECTED`; `RINGMAIN_FULL` if the renderer has left too many lanes
/// where they are.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_lane_sender(
    ipc_main: *const ringmain_main,
    renderer: u32,
    name: *const c_char,
    name_len: usize,
    config: *const ringmain_lane_config,
    sender: *mut *mut ringmain_lane_sender,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and struct are the caller's, `sender` may be written.
        unsafe { open_in_main(ipc_main, renderer, (name, name_len), config, (sender, "sender")) }
    })
}

/// As `ringmain_main_lane_sender`: a receiver. The renderer opens the other end by `ringmain_renderer_lane_sender`.
/// `*receiver` is the caller's until `ringmain_lane_receiver_free`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_lane_receiver(
    ipc_main: *const ringmain_main,
    renderer: u32,
    name: *const c_char,
    name_len: usize,
    config: *const ringmain_lane_config,
    receiver: *mut *mut ringmain_lane_receiver,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and struct are the caller's, `receiver` may be written.
        unsafe { open_in_main(ipc_main, renderer, (name, name_len), config, (receiver, "receiver")) }
    })
}

/// As `ringmain_main_lane_sender`: both ways. The renderer opens the other end by `ringmain_renderer_lane_duplex`.
/// `*duplex` is the caller's until `ringmain_lane_duplex_free`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_lane_duplex(
    ipc_main: *const ringmain_main,
    renderer: u32,
    name: *const c_char,
    name_len: usize,
    config: *const ringmain_lane_config,
    duplex: *mut *mut ringmain_lane_duplex,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and struct are the caller's, `duplex` may be written.
        unsafe { open_in_main(ipc_main, renderer, (name, name_len), config, (duplex, "duplex")) }
    })
}

/// As `ringmain_main_lane_sender`: a writer of latest values. The renderer opens the other end by `ringmain_renderer_latest_reader`.
/// `*writer` is the caller's until `ringmain_latest_writer_free`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_latest_writer(
    ipc_main: *const ringmain_main,
    renderer: u32,
    name: *const c_char,
    name_len: usize,
    config: *const ringmain_lane_config,
    writer: *mut *mut ringmain_latest_writer,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and struct are the caller's, `writer` may be written.
        unsafe { open_in_main(ipc_main, renderer, (name, name_len), config, (writer, "writer")) }
    })
}

/// As `ringmain_main_lane_sender`: a reader of latest values. The renderer opens the other end by `ringmain_renderer_latest_writer`.
/// `*reader` is the caller's until `ringmain_latest_reader_free`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_latest_reader(
    ipc_main: *const ringmain_main,
    renderer: u32,
    name: *const c_char,
    name_len: usize,
    config: *const ringmain_lane_config,
    reader: *mut *mut ringmain_latest_reader,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and struct are the caller's, `reader` may be written.
        unsafe { open_in_main(ipc_main, renderer, (name, name_len), config, (reader, "reader")) }
    })
}

/// Opens this renderer's end of a lane that main opens (`ringmain_main_lane_receiver`) under the same name. Waits for main's end
/// up to `open_timeout_ns` of `config`, which may be null. `*sender` is the caller's until `ringmain_lane_sender_free`.
///
/// Fails with `RINGMAIN_TIMEOUT` if main opens none; `RINGMAIN_INVALID_CONFIG` if main's end does not fit this one, and then can
/// still be opened as what it is; `RINGMAIN_NAME_IN_USE` while an end of this name lives here; `RINGMAIN_WRONG_SIZE`,
/// `RINGMAIN_SYSTEM`, `RINGMAIN_DISCONNECTED`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_lane_sender(
    renderer: *const ringmain_renderer,
    name: *const c_char,
    name_len: usize,
    config: *const ringmain_lane_config,
    sender: *mut *mut ringmain_lane_sender,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and struct are the caller's, `sender` may be written.
        unsafe { open_in_renderer(renderer, (name, name_len), config, (sender, "sender")) }
    })
}

/// As `ringmain_renderer_lane_sender`: a receiver. `*receiver` is the caller's until `ringmain_lane_receiver_free`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_lane_receiver(
    renderer: *const ringmain_renderer,
    name: *const c_char,
    name_len: usize,
    config: *const ringmain_lane_config,
    receiver: *mut *mut ringmain_lane_receiver,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and struct are the caller's, `receiver` may be written.
        unsafe { open_in_renderer(renderer, (name, name_len), config, (receiver, "receiver")) }
    })
}

/// As `ringmain_renderer_lane_sender`: both ways. `*duplex` is the caller's until `ringmain_lane_duplex_free`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_lane_duplex(
    renderer: *const ringmain_renderer,
    name: *const c_char,
    name_len: usize,
    config: *const ringmain_lane_config,
    duplex: *mut *mut ringmain_lane_duplex,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and struct are the caller's, `duplex` may be written.
        unsafe { open_in_renderer(renderer, (name, name_len), config, (duplex, "duplex")) }
    })
}

/// As `ringmain_renderer_lane_sender`: a writer of latest values. `*writer` is the caller's until `ringmain_latest_writer_free`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_latest_writer(
    renderer: *const ringmain_renderer,
    name: *const c_char,
    name_len: usize,
    config: *const ringmain_lane_config,
    writer: *mut *mut ringmain_latest_writer,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and struct are the caller's, `writer` may be written.
        unsafe { open_in_renderer(renderer, (name, name_len), config, (writer, "writer")) }
    })
}

/// As `ringmain_renderer_lane_sender`: a reader of latest values. `*reader` is the caller's until `ringmain_latest_reader_free`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_latest_reader(
    renderer: *const ringmain_renderer,
    name: *const c_char,
    name_len: usize,
    config: *const ringmain_lane_config,
    reader: *mut *mut ringmain_latest_reader,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and struct are the caller's, `reader` may be written.
        unsafe { open_in_renderer(renderer, (name, name_len), config, (reader, "reader")) }
    })
}
