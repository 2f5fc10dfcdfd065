//! Texts and payloads: into the library as pointer and length, out of it as bytes that are freed by the caller.
#![allow(unsafe_code)]

use super::result::{Failure, Outcome, failure, guard, null, quietly, ringmain_error, ringmain_result};
use crate::config::MAX_TEXT;
use crate::wire::{self, Limits, TakenValue};
use std::borrow::Cow;
use std::ffi::c_char;
use std::time::Duration;

use ringmain_result::*;

/// How payloads are written. An argument list is an array in both: `[2, 3]`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ringmain_format {
    /// MessagePack, restricted to what JSON has: no byte strings, extensions, NaN or infinities; map keys are texts.
    /// This is what travels: nothing is converted.
    RINGMAIN_MSGPACK = 0,
    /// JSON text in UTF-8, converted here.
    RINGMAIN_JSON = 1,
}

/// Bytes that the library hands over to the caller, who gives them back to `ringmain_bytes_free`. In and out: a function
/// takes the memory that it finds here, and uses it again, so that replies of a like size allocate nothing. It must
/// therefore be `RINGMAIN_BYTES_INIT` or what an earlier function left there, never uninitialised and never memory of the
/// caller's; and no argument of the same call may point into it. A function that fails leaves it alone.
#[repr(C)]
#[derive(Debug)]
pub struct ringmain_bytes {
    /// The first byte. Not null-terminated.
    pub data: *mut u8,
    /// How many there are.
    pub len: usize,
    /// The library's own.
    pub capacity: usize,
}

impl From<Vec<u8>> for ringmain_bytes {
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Self { data: bytes.as_mut_ptr(), len: bytes.len(), capacity: bytes.capacity() }
    }
}

/// Gives bytes back; the struct is as `RINGMAIN_BYTES_INIT` afterwards. Null and empty structs are nothing.
///
/// Thread-safe: yes, for one struct on one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_bytes_free(bytes: *mut ringmain_bytes) {
    // SAFETY: null, or the caller's to write.
    let Some(bytes) = (unsafe { bytes.as_mut() }) else { return };
    // SAFETY: it holds nothing, or what a function of ours has handed over.
    drop(unsafe { memory_of(bytes) });
}

/// Takes the memory out of such a struct.
///
/// # Safety
///
/// It holds nothing, or the parts of a `Vec` that `From` has taken apart.
#[inline]
unsafe fn memory_of(bytes: &mut ringmain_bytes) -> Vec<u8> {
    let empty = ringmain_bytes { data: std::ptr::null_mut(), len: 0, capacity: 0 };
    let ringmain_bytes { data, len, capacity } = std::mem::replace(bytes, empty);
    if data.is_null() || len > capacity {
        return Vec::new();
    }
    // SAFETY: as the caller says; it is theirs no longer.
    unsafe { Vec::from_raw_parts(data, len, capacity) }
}

/// Converts JSON text (one value) to MessagePack. `*bytes` is written on success and is the caller's. Before, `*bytes` must
/// be `RINGMAIN_BYTES_INIT` or what an earlier function left there, and not hold `json`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_json_to_msgpack(
    json: *const c_char,
    json_len: usize,
    bytes: *mut ringmain_bytes,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: the caller's text, and `bytes` may be written.
        unsafe {
            wants(bytes, "bytes")?;
            let len = measured(json, json_len, usize::MAX);
            let value = value_of(slice(json.cast(), len, "json")?, ringmain_format::RINGMAIN_JSON)?;
            put_bytes(bytes, &value)
        }
    })
}

/// Converts MessagePack (one value) to JSON text, without a null byte. `*json` is written on success and is the caller's.
/// Before, `*json` must be `RINGMAIN_BYTES_INIT` or what an earlier function left there, and not hold `data`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_msgpack_to_json(
    data: *const u8,
    len: usize,
    json: *mut ringmain_bytes,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: the caller's bytes, and `json` may be written.
        unsafe {
            wants(json, "json")?;
            let value = slice(data, len, "data")?;
            wire::check_encoded(value)?;
            put_bytes(json, &to_json(value)?)
        }
    })
}

/// JSON of a value that was checked.
pub(super) fn to_json(value: &[u8]) -> Outcome<Vec<u8>> {
    let value: serde_json::Value = wire::decode_value(value)?;
    serde_json::to_vec(&value).map_err(no_json)
}

#[cold]
fn no_json(error: serde_json::Error) -> Failure {
    failure(RINGMAIN_INVALID_VALUE, format!("this is no JSON: {error}"))
}

pub(super) fn format_of(format: u32) -> Outcome<ringmain_format> {
    match format {
        0 => Ok(ringmain_format::RINGMAIN_MSGPACK),
        1 => Ok(ringmain_format::RINGMAIN_JSON),
        _ => Err(failure(RINGMAIN_INVALID_CONFIG, format!("{format} is no ringmain_format"))),
    }
}

/// An argument list of the caller's as MessagePack; without data there are no arguments.
///
/// # Safety
///
/// `data` may be read for `len` bytes, or is null.
#[inline]
pub(super) unsafe fn args_of<'a>(format: u32, data: *const u8, len: usize) -> Outcome<Cow<'a, [u8]>> {
    let format = format_of(format)?;
    if len == 0 {
        return Ok(Cow::Borrowed(&[0x90]));
    }
    // SAFETY: as the caller says.
    let bytes = unsafe { slice(data, len, "the data of the arguments") }?;
    match format {
        ringmain_format::RINGMAIN_MSGPACK => Ok(Cow::Borrowed(bytes)),
        ringmain_format::RINGMAIN_JSON => {
            let values: Vec<serde_json::Value> = serde_json::from_slice(bytes).map_err(|error| {
                failure(RINGMAIN_INVALID_VALUE, format!("the arguments are no JSON array: {error}"))
            })?;
            let mut out = Vec::new();
            wire::encode_args(&values, &mut out, &ANY_SIZE)?;
            Ok(Cow::Owned(out))
        }
    }
}

/// The limits of the link are asked for when it is sent.
const ANY_SIZE: Limits =
    Limits { max_message_size: usize::MAX, max_depth: 128, max_values: u32::MAX, max_text: MAX_TEXT };

/// One value as MessagePack.
pub(super) fn value_of(bytes: &[u8], format: ringmain_format) -> Outcome<Cow<'_, [u8]>> {
    match format {
        ringmain_format::RINGMAIN_MSGPACK => Ok(Cow::Borrowed(bytes)),
        ringmain_format::RINGMAIN_JSON => {
            let value: serde_json::Value = serde_json::from_slice(bytes).map_err(no_json)?;
            let mut out = Vec::new();
            wire::encode_value(&value, &mut out, &ANY_SIZE)?;
            Ok(Cow::Owned(out))
        }
    }
}

/// Whether there is room for what will be handed over: asked before anything is done for it.
#[inline]
pub(super) fn wants(bytes: *const ringmain_bytes, what: &str) -> Outcome {
    if bytes.is_null() { Err(null(what)) } else { Ok(()) }
}

fn in_format(TakenValue(value): TakenValue, format: ringmain_format) -> Outcome<Vec<u8>> {
    match format {
        ringmain_format::RINGMAIN_MSGPACK => Ok(value),
        ringmain_format::RINGMAIN_JSON => to_json(&value),
    }
}

/// Gets a value by `get` and hands it over, in the memory that `reply` has.
///
/// # Safety
///
/// `reply` is null or may be written; it holds nothing, or what a function of ours has handed over.
#[inline]
pub(super) unsafe fn replied(
    reply: *mut ringmain_bytes,
    format: u32,
    get: impl FnOnce() -> Outcome<TakenValue>,
) -> Outcome {
    wants(reply, "reply")?;
    let format = format_of(format)?;
    // SAFETY: not null, and as the caller says. Whatever `get` runs meanwhile finds it empty.
    TakenValue::lend(unsafe { memory_of(&mut *reply) });
    let got = get().and_then(|value| in_format(value, format));
    let (memory, result) = match got {
        Ok(value) => (value, Ok(())),
        Err(failed) => (TakenValue::take_back(), Err(failed)),
    };
    // SAFETY: as above; it is empty.
    unsafe { reply.write(memory.into()) };
    result
}

/// As [`replied`], where `get` runs callbacks and tasks on this thread, which take values too: what `reply` has is not touched
/// before the value is there.
///
/// # Safety
///
/// As [`replied`].
pub(super) unsafe fn replied_polling(
    reply: *mut ringmain_bytes,
    format: u32,
    get: impl FnOnce() -> Outcome<TakenValue>,
) -> Outcome {
    wants(reply, "reply")?;
    let format = format_of(format)?;
    let value = in_format(get()?, format)?;
    // SAFETY: not null, and as the caller says.
    unsafe { put_bytes(reply, &value) }
}

/// Hands bytes over.
///
/// # Safety
///
/// As [`replied`].
unsafe fn put_bytes(bytes: *mut ringmain_bytes, value: &[u8]) -> Outcome {
    // SAFETY: as the caller says.
    unsafe {
        let mut memory = memory_of(&mut *bytes);
        memory.clear();
        memory.extend_from_slice(value);
        bytes.write(memory.into());
    }
    Ok(())
}

/// Bytes of the caller's.
///
/// # Safety
///
/// `data` may be read for `len` bytes as long as `'a`, or is null.
#[inline]
pub(super) unsafe fn slice<'a>(data: *const u8, len: usize, what: &str) -> Outcome<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(null(what));
    }
    if isize::try_from(len).is_err() {
        return Err(failure(RINGMAIN_TOO_LARGE, format!("{what} cannot have {len} bytes")));
    }
    // SAFETY: not null, of a possible length, and as the caller says.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// The length of a text, counted if it ends with a null byte: no further than `most`.
///
/// # Safety
///
/// `text` may be read for `len` bytes, or up to its null byte, or is null.
#[inline]
unsafe fn measured(text: *const c_char, len: usize, most: usize) -> usize {
    if len != super::RINGMAIN_TERMINATED || text.is_null() {
        return if text.is_null() && len == super::RINGMAIN_TERMINATED { 1 } else { len };
    }
    // SAFETY: it ends with a null byte, or is longer than `most`, which stops there.
    unsafe { libc::strnlen(text, most) }
}

/// A text of the caller's: a channel, a name, a message.
///
/// # Safety
///
/// `text` may be read for `len` bytes, or up to its null byte, as long as `'a`; or is null.
#[inline]
pub(super) unsafe fn text<'a>(text: *const c_char, len: usize, what: &str) -> Outcome<&'a str> {
    if text.is_null() {
        return Err(null(what));
    }
    // SAFETY: as the caller says.
    let bytes = unsafe {
        let len = measured(text, len, MAX_TEXT + 1);
        if len > MAX_TEXT {
            return Err(failure(RINGMAIN_TOO_LARGE, format!("{what} is longer than {MAX_TEXT} bytes")));
        }
        slice(text.cast(), len, what)?
    };
    std::str::from_utf8(bytes)
        .map_err(|_| failure(RINGMAIN_INVALID_UTF8, format!("{what} is not UTF-8: {}", String::from_utf8_lossy(bytes))))
}

/// As [`text`]; null is none.
///
/// # Safety
///
/// As there.
pub(super) unsafe fn optional_text<'a>(data: *const c_char, len: usize, what: &str) -> Outcome<Option<&'a str>> {
    if data.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller says.
    unsafe { text(data, len, what) }.map(Some)
}

/// A time of the caller's; none is without end.
#[inline]
pub(super) fn time(nanoseconds: u64) -> Option<Duration> {
    (nanoseconds != super::RINGMAIN_FOREVER).then(|| Duration::from_nanos(nanoseconds))
}

/// A time that must end.
#[inline]
pub(super) fn finite_time(nanoseconds: u64) -> Outcome<Duration> {
    time(nanoseconds).ok_or_else(|| {
        failure(RINGMAIN_INVALID_CONFIG, "this function takes no RINGMAIN_FOREVER: a renderer may never answer")
    })
}

/// A time for functions whose longest is as good as for ever.
#[inline]
pub(super) fn long_time(nanoseconds: u64) -> Duration {
    Duration::from_nanos(nanoseconds)
}

/// Reads a caller's struct that begins with its size: what it does not have is zero, and what we do not have must be.
///
/// # Safety
///
/// `from` is null or may be read for the size that stands at its beginning; `T` is plain numbers and pointers, of which
/// zeros are values.
pub(super) unsafe fn sized<T>(from: *const T, least: usize) -> Outcome<T> {
    let mut to = std::mem::MaybeUninit::<T>::zeroed();
    if from.is_null() {
        // SAFETY: zeros are a value.
        return Ok(unsafe { to.assume_init() });
    }
    // SAFETY: the first field is the size.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    check_size(size, least)?;
    // SAFETY: it may be read for `size` bytes, `T` may be written for its own; zeros are a value.
    unsafe {
        let rest = std::slice::from_raw_parts(from.cast::<u8>(), size);
        if rest.iter().skip(size_of::<T>()).any(|byte| *byte != 0) {
            return Err(failure(
                RINGMAIN_WRONG_SIZE,
                format!("struct_size is {size}, this version knows {} bytes, and those behind are set", size_of::<T>()),
            ));
        }
        to.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(from.cast(), size.min(size_of::<T>()));
        Ok(to.assume_init())
    }
}

/// Writes a struct that begins with its size to the caller, as far as theirs reaches.
///
/// # Safety
///
/// `to` is null or may be written for the size that stands at its beginning; `T` is plain numbers and pointers and begins
/// with its size.
pub(super) unsafe fn put_sized<T>(to: *mut T, from: &T, least: usize, what: &str) -> Outcome {
    // SAFETY: as the caller says.
    unsafe {
        match put_sized_briefly(to, from, least) {
            Err(RINGMAIN_NULL_ARGUMENT) => Err(null(what)),
            Err(_) => check_size(to.cast::<usize>().read_unaligned(), least),
            Ok(()) => Ok(()),
        }
    }
}

/// The same for those who make no text of a failure, because that would allocate.
///
/// # Safety
///
/// As [`put_sized`].
#[inline]
pub(super) unsafe fn put_sized_briefly<T>(to: *mut T, from: &T, least: usize) -> Result<(), ringmain_result> {
    if to.is_null() {
        return Err(RINGMAIN_NULL_ARGUMENT);
    }
    // SAFETY: the first field is the size, which stays; the rest is copied as far as both reach.
    unsafe {
        let size = to.cast::<usize>().read_unaligned();
        if !(least..=MOST).contains(&size) {
            return Err(RINGMAIN_WRONG_SIZE);
        }
        let from: *const T = from;
        let head = size_of::<usize>();
        let len = size.min(size_of::<T>()) - head;
        to.cast::<u8>().add(head).copy_from_nonoverlapping(from.cast::<u8>().add(head), len);
    }
    Ok(())
}

/// Larger than any struct that will ever be.
const MOST: usize = 4096;

fn check_size(size: usize, least: usize) -> Outcome {
    if (least..=MOST).contains(&size) {
        return Ok(());
    }
    let text = format!("struct_size is {size}, it is {least} at least: was it initialised with the _INIT macro?");
    Err(failure(RINGMAIN_WRONG_SIZE, text))
}

/// Runs nothing and catches nothing: for what only reads.
pub(super) fn or_zero<T: Default>(run: impl FnOnce() -> Option<T>) -> T {
    quietly(T::default(), || run().unwrap_or_default())
}
