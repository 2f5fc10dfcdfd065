//! Result codes, errors, and what stands around every function.
#![allow(unsafe_code)]

use crate::error::{Error, ErrorKind, HandlerError};
use crate::wire::ValueError;
use std::any::Any;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a function returns: `RINGMAIN_OK`, or why it failed. The numbers never change; later versions may add some.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ringmain_result {
    /// It is done.
    RINGMAIN_OK = 0,

    /// A pointer that must not be null is null.
    RINGMAIN_NULL_ARGUMENT = 1,
    /// A text is not UTF-8.
    RINGMAIN_INVALID_UTF8 = 2,
    /// `struct_size` is none that this version knows: `_INIT` was forgotten, or the program was compiled for a later one
    /// and sets what this one does not have. Or a record has not the size that all of its lane have.
    RINGMAIN_WRONG_SIZE = 3,
    /// A panic inside the library, a fault of it: what the call was to do may be half done.
    RINGMAIN_PANIC = 4,
    /// The event is none that can be answered in this way.
    RINGMAIN_WRONG_EVENT = 5,
    /// There is no registration of this number (any more).
    RINGMAIN_NOT_REGISTERED = 6,
    /// The end of a lane has a loan or a batch open, or none that could be committed; or it is a group's.
    RINGMAIN_WRONG_STATE = 7,

    /// A value that cannot travel: not JSON or MessagePack, NaN, byte strings, too deep, too many values.
    RINGMAIN_INVALID_VALUE = 10,
    /// A message longer than `max_message_size`, a text longer than 64 KiB, a record longer than the lane's records or than the
    /// buffer that it is to be copied to.
    RINGMAIN_TOO_LARGE = 11,
    /// The channel has a handler already; that one stays.
    RINGMAIN_DUPLICATE_HANDLER = 12,
    /// A blocking wait on the thread that would have to serve the answer.
    RINGMAIN_WOULD_DEADLOCK = 13,
    /// An option or an argument that is out of its range.
    RINGMAIN_INVALID_CONFIG = 14,
    /// This process was not started by `ringmain_main_spawn` or its kin.
    RINGMAIN_NOT_A_RENDERER = 15,
    /// This process has connected already.
    RINGMAIN_ALREADY_CONNECTED = 16,
    /// This is a forked copy of the process that made the handle.
    RINGMAIN_FORKED = 17,
    /// Another thread dispatches this handle, or this is a callback of it.
    RINGMAIN_BUSY = 18,

    /// A queue or a lane is used up; nothing was sent.
    RINGMAIN_FULL = 20,
    /// A limit on calls, frames or renderers is reached.
    RINGMAIN_LIMIT = 21,
    /// The time is over.
    RINGMAIN_TIMEOUT = 22,
    /// The other process is gone, or the link was closed, or the other end of the lane.
    RINGMAIN_DISCONNECTED = 23,
    /// Another main listens under this name.
    RINGMAIN_NAME_IN_USE = 24,
    /// Nobody listens under this name.
    RINGMAIN_NOT_LISTENING = 25,
    /// There is no record now, or no newer value.
    RINGMAIN_EMPTY = 26,

    /// No handler is registered for the channel.
    RINGMAIN_NO_HANDLER = 30,
    /// The handler failed: see `ringmain_error_detail`.
    RINGMAIN_HANDLER = 31,
    /// The handler panicked.
    RINGMAIN_HANDLER_PANICKED = 32,
    /// The call was dropped without an answer.
    RINGMAIN_REPLY_NEVER_SENT = 33,
    /// No listener is registered for a synchronous message.
    RINGMAIN_NO_LISTENER = 34,
    /// The arguments do not fit what the handler takes.
    RINGMAIN_BAD_ARGUMENTS = 35,
    /// The reply found no room in the queue of the replying process.
    RINGMAIN_REPLY_FULL = 36,
    /// The reply is not of the type that was asked for.
    RINGMAIN_BAD_REPLY = 37,

    /// A message had nobody to go to.
    RINGMAIN_UNDELIVERABLE = 40,
    /// The peer broke the protocol; its link was cut. Of a lane: this end is of no use any more.
    RINGMAIN_PROTOCOL = 50,
    /// The handshake failed.
    RINGMAIN_REFUSED = 51,
    /// A call into the operating system failed.
    RINGMAIN_SYSTEM = 52,
    /// A failure that this table has no number for.
    RINGMAIN_OTHER = 99,
}

use ringmain_result::*;

impl From<ErrorKind> for ringmain_result {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidValue => RINGMAIN_INVALID_VALUE,
            ErrorKind::TooLarge => RINGMAIN_TOO_LARGE,
            ErrorKind::DuplicateHandler => RINGMAIN_DUPLICATE_HANDLER,
            ErrorKind::WouldDeadlock => RINGMAIN_WOULD_DEADLOCK,
            ErrorKind::InvalidConfig => RINGMAIN_INVALID_CONFIG,
            ErrorKind::NotARenderer => RINGMAIN_NOT_A_RENDERER,
            ErrorKind::AlreadyConnected => RINGMAIN_ALREADY_CONNECTED,
            ErrorKind::Forked => RINGMAIN_FORKED,
            ErrorKind::Busy => RINGMAIN_BUSY,
            ErrorKind::Full => RINGMAIN_FULL,
            ErrorKind::Limit => RINGMAIN_LIMIT,
            ErrorKind::Timeout => RINGMAIN_TIMEOUT,
            ErrorKind::Disconnected => RINGMAIN_DISCONNECTED,
            ErrorKind::NameInUse => RINGMAIN_NAME_IN_USE,
            ErrorKind::NotListening => RINGMAIN_NOT_LISTENING,
            ErrorKind::NoHandler => RINGMAIN_NO_HANDLER,
            ErrorKind::Handler => RINGMAIN_HANDLER,
            ErrorKind::HandlerPanicked => RINGMAIN_HANDLER_PANICKED,
            ErrorKind::ReplyNeverSent => RINGMAIN_REPLY_NEVER_SENT,
            ErrorKind::NoListener => RINGMAIN_NO_LISTENER,
            ErrorKind::BadArguments => RINGMAIN_BAD_ARGUMENTS,
            ErrorKind::ReplyFull => RINGMAIN_REPLY_FULL,
            ErrorKind::BadReply => RINGMAIN_BAD_REPLY,
            ErrorKind::Undeliverable => RINGMAIN_UNDELIVERABLE,
            ErrorKind::Protocol => RINGMAIN_PROTOCOL,
            ErrorKind::Refused => RINGMAIN_REFUSED,
            ErrorKind::System => RINGMAIN_SYSTEM,
        }
    }
}

impl ringmain_result {
    fn text(self) -> &'static CStr {
        match self {
            RINGMAIN_OK => c"ok",
            RINGMAIN_NULL_ARGUMENT => c"null argument",
            RINGMAIN_INVALID_UTF8 => c"text is not UTF-8",
            RINGMAIN_WRONG_SIZE => c"wrong struct_size",
            RINGMAIN_PANIC => c"panic inside the library",
            RINGMAIN_WRONG_EVENT => c"wrong kind of event",
            RINGMAIN_NOT_REGISTERED => c"no such registration",
            RINGMAIN_WRONG_STATE => c"a loan or batch is open, or none is",
            RINGMAIN_INVALID_VALUE => c"invalid value",
            RINGMAIN_TOO_LARGE => c"too large",
            RINGMAIN_DUPLICATE_HANDLER => c"duplicate handler",
            RINGMAIN_WOULD_DEADLOCK => c"would deadlock",
            RINGMAIN_INVALID_CONFIG => c"invalid configuration",
            RINGMAIN_NOT_A_RENDERER => c"not a renderer",
            RINGMAIN_ALREADY_CONNECTED => c"already connected",
            RINGMAIN_FORKED => c"forked",
            RINGMAIN_BUSY => c"busy",
            RINGMAIN_FULL => c"full",
            RINGMAIN_LIMIT => c"limit reached",
            RINGMAIN_TIMEOUT => c"timeout",
            RINGMAIN_DISCONNECTED => c"disconnected",
            RINGMAIN_NAME_IN_USE => c"name in use",
            RINGMAIN_NOT_LISTENING => c"nobody listens",
            RINGMAIN_EMPTY => c"nothing there",
            RINGMAIN_NO_HANDLER => c"no handler",
            RINGMAIN_HANDLER => c"handler failed",
            RINGMAIN_HANDLER_PANICKED => c"handler panicked",
            RINGMAIN_REPLY_NEVER_SENT => c"reply never sent",
            RINGMAIN_NO_LISTENER => c"no listener",
            RINGMAIN_BAD_ARGUMENTS => c"bad arguments",
            RINGMAIN_REPLY_FULL => c"no room for the reply",
            RINGMAIN_BAD_REPLY => c"bad reply",
            RINGMAIN_UNDELIVERABLE => c"undeliverable",
            RINGMAIN_PROTOCOL => c"protocol violated",
            RINGMAIN_REFUSED => c"refused",
            RINGMAIN_SYSTEM => c"system error",
            RINGMAIN_OTHER => c"other failure",
        }
    }

    const ALL: [Self; 37] = [
        RINGMAIN_OK,
        RINGMAIN_NULL_ARGUMENT,
        RINGMAIN_INVALID_UTF8,
        RINGMAIN_WRONG_SIZE,
        RINGMAIN_PANIC,
        RINGMAIN_WRONG_EVENT,
        RINGMAIN_NOT_REGISTERED,
        RINGMAIN_WRONG_STATE,
        RINGMAIN_INVALID_VALUE,
        RINGMAIN_TOO_LARGE,
        RINGMAIN_DUPLICATE_HANDLER,
        RINGMAIN_WOULD_DEADLOCK,
        RINGMAIN_INVALID_CONFIG,
        RINGMAIN_NOT_A_RENDERER,
        RINGMAIN_ALREADY_CONNECTED,
        RINGMAIN_FORKED,
        RINGMAIN_BUSY,
        RINGMAIN_FULL,
        RINGMAIN_LIMIT,
        RINGMAIN_TIMEOUT,
        RINGMAIN_DISCONNECTED,
        RINGMAIN_NAME_IN_USE,
        RINGMAIN_NOT_LISTENING,
        RINGMAIN_EMPTY,
        RINGMAIN_NO_HANDLER,
        RINGMAIN_HANDLER,
        RINGMAIN_HANDLER_PANICKED,
        RINGMAIN_REPLY_NEVER_SENT,
        RINGMAIN_NO_LISTENER,
        RINGMAIN_BAD_ARGUMENTS,
        RINGMAIN_REPLY_FULL,
        RINGMAIN_BAD_REPLY,
        RINGMAIN_UNDELIVERABLE,
        RINGMAIN_PROTOCOL,
        RINGMAIN_REFUSED,
        RINGMAIN_SYSTEM,
        RINGMAIN_OTHER,
    ];
}

/// What is known about a failure. Made by the function that failed, freed by `ringmain_error_free`.
#[derive(Debug)]
pub struct ringmain_error {
    pub(super) result: ringmain_result,
    text: String,
    error: Option<Error>,
}

/// Why a function fails.
pub(super) type Failure = Box<ringmain_error>;
pub(super) type Outcome<T = ()> = Result<T, Failure>;

#[cold]
pub(super) fn failure(result: ringmain_result, text: impl Into<String>) -> Failure {
    Box::new(ringmain_error { result, text: text.into(), error: None })
}

impl From<Error> for Failure {
    #[cold]
    fn from(error: Error) -> Self {
        Box::new(ringmain_error { result: error.kind().into(), text: error.to_string(), error: Some(error) })
    }
}

impl From<ValueError> for Failure {
    #[cold]
    fn from(error: ValueError) -> Self {
        let result = if error.is_too_large() { RINGMAIN_TOO_LARGE } else { RINGMAIN_INVALID_VALUE };
        failure(result, error.to_string())
    }
}

impl ringmain_error {
    /// As a call's failure that is handed on.
    pub(super) fn of(result: ringmain_result, text: String) -> Self {
        Self { result, text, error: None }
    }

    fn detail(&self, which: ringmain_detail) -> Option<String> {
        let error = self.error.as_ref()?;
        match which {
            ringmain_detail::RINGMAIN_DETAIL_NAME => error.remote_name().map(str::to_string),
            ringmain_detail::RINGMAIN_DETAIL_MESSAGE => error.remote_message().map(str::to_string),
            ringmain_detail::RINGMAIN_DETAIL_CODE => error.code().map(str::to_string),
            ringmain_detail::RINGMAIN_DETAIL_DATA => error.data().map(ToString::to_string),
        }
    }
}

/// What a failed handler has sent along.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ringmain_detail {
    /// The name of the handler's error: its type's, in Rust.
    RINGMAIN_DETAIL_NAME = 0,
    /// The handler's own text, without words of this library around it.
    RINGMAIN_DETAIL_MESSAGE = 1,
    /// A code for programs (`ENOENT`).
    RINGMAIN_DETAIL_CODE = 2,
    /// Any value, as JSON text.
    RINGMAIN_DETAIL_DATA = 3,
}

/// Runs what a function does. No panic leaves it; a failure goes to `error`, if that is wanted.
#[inline]
pub(super) fn guard(error: *mut *mut ringmain_error, run: impl FnOnce() -> Outcome) -> ringmain_result {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => RINGMAIN_OK,
        Ok(Err(failed)) => hand_out(error, failed),
        Err(payload) => hand_out(error, panicked(payload)),
    }
}

#[cold]
fn panicked(payload: Box<dyn Any + Send>) -> Failure {
    let text = crate::driver::panic_text(payload);
    failure(RINGMAIN_PANIC, format!("a panic inside the library, which is a fault of it: {text}"))
}

#[cold]
fn hand_out(error: *mut *mut ringmain_error, failed: Failure) -> ringmain_result {
    let result = failed.result;
    if !error.is_null() {
        // SAFETY: not null, and the caller says that it may be written.
        unsafe { *error = Box::into_raw(failed) };
    }
    result
}

/// Runs what a function without a result does; `otherwise` if it panics.
pub(super) fn quietly<T>(otherwise: T, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        drop(panicked(payload));
        otherwise
    })
}

#[cold]
pub(super) fn null(what: &str) -> Failure {
    failure(RINGMAIN_NULL_ARGUMENT, format!("{what} is null"))
}

/// A reference from a pointer of the caller's; null is an error.
///
/// # Safety
///
/// What is not null points to a `T` that outlives `'a`.
#[inline]
pub(super) unsafe fn given<'a, T>(pointer: *const T, what: &str) -> Outcome<&'a T> {
    // SAFETY: as the caller says.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(what))
}

/// Writes to where the caller wants it; null is an error.
///
/// # Safety
///
/// What is not null may be written.
#[inline]
pub(super) unsafe fn put<T>(pointer: *mut T, value: T, what: &str) -> Outcome {
    if pointer.is_null() {
        return Err(null(what));
    }
    // SAFETY: not null, and may be written. What was there is the caller's and is not dropped.
    unsafe { pointer.write(value) };
    Ok(())
}

/// Copies a text as far as it fits, with a null byte behind it; returns its whole length, as `snprintf` does.
///
/// # Safety
///
/// `buffer` may be written for `size` bytes, or is null.
unsafe fn copy_text(text: &str, buffer: *mut c_char, size: usize) -> usize {
    if !buffer.is_null() && size > 0 {
        let mut len = text.len().min(size - 1);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        // SAFETY: `len` is less than `size`, and both are apart.
        unsafe {
            buffer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), len);
            buffer.add(len).write(0);
        }
    }
    text.len()
}

/// A few English words for a result; "unknown result" for numbers that this version does not know. The text is static.
///
/// Thread-safe: yes
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub extern "C" fn ringmain_result_text(result: i32) -> *const c_char {
    let known = ringmain_result::ALL.iter().find(|known| **known as i32 == result);
    known.map_or(c"unknown result", |known| known.text()).as_ptr()
}

/// The result of the function that made this error; `RINGMAIN_OK` for null.
///
/// Thread-safe: yes
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_error_result(error: *const ringmain_error) -> ringmain_result {
    // SAFETY: null, or an error of ours that the caller keeps meanwhile.
    unsafe { error.as_ref() }.map_or(RINGMAIN_OK, |error| error.result)
}

/// Copies what happened, for people, into `buffer`: at most `size - 1` bytes of UTF-8 and a null byte. Returns the length
/// of the whole text, so that a second call can have room for it; `buffer` may be null. The text of null is empty.
///
/// The caller keeps error and buffer.
///
/// Thread-safe: yes
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_error_message(
    error: *const ringmain_error,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: null, or an error of ours that the caller keeps meanwhile; the buffer is of that size.
    unsafe { copy_text(error.as_ref().map_or("", |error| &error.text), buffer, size) }
}

/// As `ringmain_error_message`, for one part (a `ringmain_detail`) of what a failed handler has sent along. Returns 0, and
/// writes an empty text, where there is no such part.
///
/// The caller keeps error and buffer.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_error_detail(
    error: *const ringmain_error,
    detail: u32,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    quietly(0, || {
        use ringmain_detail::*;
        let all = [RINGMAIN_DETAIL_NAME, RINGMAIN_DETAIL_MESSAGE, RINGMAIN_DETAIL_CODE, RINGMAIN_DETAIL_DATA];
        let which = all.into_iter().find(|which| *which as u32 == detail);
        // SAFETY: null, or an error of ours that the caller keeps meanwhile; the buffer is of that size.
        unsafe {
            let text = which.and_then(|which| error.as_ref()?.detail(which));
            copy_text(text.as_deref().unwrap_or(""), buffer, size)
        }
    })
}

/// Frees an error; null is nothing.
///
/// Thread-safe: yes, once for each error
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_error_free(error: *mut ringmain_error) {
    if !error.is_null() {
        // SAFETY: made by `hand_out`, and given back once.
        quietly((), || drop(unsafe { Box::from_raw(error) }));
    }
}

/// What a handler fails with.
pub(super) fn handler_error(message: &str, name: Option<&str>, code: Option<&str>) -> HandlerError {
    let mut error = HandlerError::new(message);
    if let Some(name) = name {
        error = error.with_name(name);
    }
    if let Some(code) = code {
        error = error.with_code(code);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_result_has_a_number_and_a_text_of_its_own() {
        let numbers: BTreeSet<i32> = ringmain_result::ALL.iter().map(|result| *result as i32).collect();
        let texts: BTreeSet<&CStr> = ringmain_result::ALL.iter().map(|result| result.text()).collect();
        assert_eq!((numbers.len(), texts.len()), (ringmain_result::ALL.len(), ringmain_result::ALL.len()));
    }

    #[test]
    fn a_message_is_cut_between_characters_and_its_whole_length_returned() {
        let error = failure(RINGMAIN_OTHER, "aü!");
        let mut buffer = [1 as c_char; 3];
        // SAFETY: an error and a buffer of our own.
        let len = unsafe { ringmain_error_message(&*error, buffer.as_mut_ptr(), buffer.len()) };
        assert_eq!((len, buffer), (4, [b'a' as c_char, 0, 1]));
    }

    #[test]
    fn a_panic_becomes_a_result() {
        let mut error = std::ptr::null_mut();
        assert_eq!(guard(&mut error, || panic!("deliberate")), RINGMAIN_PANIC);
        // SAFETY: it was just made.
        unsafe {
            assert!((*error).text.contains("deliberate"));
            ringmain_error_free(error);
        }
    }
}
