//! Events: what callbacks are given and what is pulled, and how they are answered.
#![allow(unsafe_code)]

use super::result::{Outcome, failure, given, guard, handler_error, put, quietly, ringmain_error, ringmain_result};
use super::value::{self, args_of, format_of, optional_text, put_sized, text, value_of};
use crate::event::{Deferred, GuestEvent, IpcMainEvent, IpcRendererEvent};
use crate::link::GoneReason;
use crate::sync::Arc;
use crate::wire::{Args, Encoded};
use std::ffi::c_char;
use std::sync::OnceLock;

use ringmain_result::*;

/// What an event is.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ringmain_event_type {
    /// A message that `send` has sent. The payload is its argument list.
    RINGMAIN_EVENT_MESSAGE = 1,
    /// A message whose sender blocks until it is answered: `ringmain_event_reply`. Main only. The payload is its argument
    /// list.
    RINGMAIN_EVENT_SYNC = 2,
    /// A call, to be answered by `ringmain_event_reply` or `ringmain_event_reply_error`. The payload is its argument list.
    RINGMAIN_EVENT_CALL = 3,
    /// The answer of a call made by `ringmain_*_invoke_async`. The payload is the value, if `result` is `RINGMAIN_OK`; see
    /// `ringmain_event_error` otherwise.
    RINGMAIN_EVENT_REPLY = 4,
    /// A renderer has connected.
    RINGMAIN_EVENT_CONNECTED = 5,
    /// A renderer is gone, or main is. `gone`, `status` and `ringmain_event_error` say why.
    RINGMAIN_EVENT_GONE = 6,
    /// Something went wrong where nobody waits for an error: see `ringmain_event_error`.
    RINGMAIN_EVENT_ERROR = 7,
    /// A message of a guest to its host. The payload is its argument list.
    RINGMAIN_EVENT_GUEST = 8,
}

use ringmain_event_type::*;

/// Why a link ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ringmain_gone {
    /// It has not.
    RINGMAIN_GONE_NOT = 0,
    /// The process ended by itself; `status` is its exit code where that is known, else -1.
    RINGMAIN_GONE_EXITED = 1,
    /// A signal ended the process; `status` is its number.
    RINGMAIN_GONE_KILLED = 2,
    /// The peer broke the protocol.
    RINGMAIN_GONE_CORRUPT = 3,
    /// One of the two sides closed the link.
    RINGMAIN_GONE_CLOSED = 4,
    /// The link never came to work.
    RINGMAIN_GONE_NEVER_CONNECTED = 5,
}

/// Who sent, and to whom.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    /// The renderer at the other end; 0 is main.
    pub(super) renderer: u32,
    pub(super) renderer_frame: u32,
    /// Ours.
    pub(super) frame: u32,
}

pub(super) enum Payload {
    Nothing,
    Args(Args),
    Value(Vec<u8>),
}

impl Payload {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Args(args) => args.as_payload(),
            Self::Value(value) => value,
        }
    }
}

/// How an event is answered.
pub(super) enum Answer {
    Nobody,
    Main(IpcMainEvent),
    Renderer(IpcRendererEvent),
    Guest(GuestEvent),
    Call(Deferred),
}

/// Something that happened. A callback is given one until it returns; one that was pulled, or retained, is the caller's
/// until `ringmain_event_free`. A call that is freed without an answer fails with `RINGMAIN_REPLY_NEVER_SENT` at its
/// caller.
pub struct ringmain_event {
    kind: ringmain_event_type,
    registration: u64,
    place: Place,
    channel: Arc<str>,
    payload: Payload,
    json: OnceLock<Vec<u8>>,
    answer: Answer,
    call: u64,
    error: Option<ringmain_error>,
    gone: ringmain_gone,
    status: i32,
}

impl std::fmt::Debug for ringmain_event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ringmain_event")
            .field("kind", &self.kind)
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

impl ringmain_event {
    pub(super) fn new(kind: ringmain_event_type, registration: u64, place: Place, channel: Arc<str>) -> Self {
        Self {
            kind,
            registration,
            place,
            channel,
            payload: Payload::Nothing,
            json: OnceLock::new(),
            answer: Answer::Nobody,
            call: 0,
            error: None,
            gone: ringmain_gone::RINGMAIN_GONE_NOT,
            status: 0,
        }
    }

    pub(super) fn registration(&self) -> u64 {
        self.registration
    }

    pub(super) fn with_payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    pub(super) fn with_answer(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    pub(super) fn with_error(mut self, error: ringmain_error) -> Self {
        self.error = Some(error);
        self
    }

    pub(super) fn of_call(mut self, call: u64) -> Self {
        self.call = call;
        self
    }

    pub(super) fn with_reason(mut self, reason: &GoneReason) -> Self {
        (self.gone, self.status) = match reason {
            GoneReason::Exited { code } => (ringmain_gone::RINGMAIN_GONE_EXITED, code.unwrap_or(-1)),
            GoneReason::Killed { signal } => (ringmain_gone::RINGMAIN_GONE_KILLED, *signal),
            GoneReason::Corrupt(_) => (ringmain_gone::RINGMAIN_GONE_CORRUPT, 0),
            GoneReason::Closed => (ringmain_gone::RINGMAIN_GONE_CLOSED, 0),
            GoneReason::NeverConnected(_) => (ringmain_gone::RINGMAIN_GONE_NEVER_CONNECTED, 0),
        };
        self.with_error(ringmain_error::of(RINGMAIN_DISCONNECTED, reason.to_string()))
    }

    fn is_answerable(&self) -> Outcome {
        match self.kind {
            RINGMAIN_EVENT_CALL | RINGMAIN_EVENT_SYNC => Ok(()),
            _ => Err(failure(
                RINGMAIN_WRONG_EVENT,
                "nobody waits for an answer to this event; ringmain_event_send sends a message to its sender",
            )),
        }
    }
}

/// What stands in an event. Begins as `RINGMAIN_EVENT_INFO_INIT`. Its pointers are valid as long as the event.
#[repr(C)]
#[derive(Debug)]
pub struct ringmain_event_info {
    /// `sizeof(ringmain_event_info)`.
    pub struct_size: usize,
    /// A `ringmain_event_type`.
    pub event_type: u32,
    /// In main the renderer concerned, 0 if there is none; at a renderer the one that sent, 0 if that is main.
    pub renderer: u32,
    /// The frame of it.
    pub renderer_frame: u32,
    /// At a renderer: the frame of this renderer that the event is for; 0 in main.
    pub frame: u32,
    /// Of `RINGMAIN_EVENT_REPLY` and `RINGMAIN_EVENT_ERROR`: a `ringmain_result`.
    pub result: i32,
    /// Of `RINGMAIN_EVENT_GONE`: a `ringmain_gone`.
    pub gone: u32,
    /// Of `RINGMAIN_EVENT_GONE`: exit code or signal.
    pub status: i32,
    /// Zero.
    pub reserved: u32,
    /// The registration that the event is for; 0 for `RINGMAIN_EVENT_REPLY`.
    pub registration: u64,
    /// Of `RINGMAIN_EVENT_REPLY`: what `ringmain_*_invoke_async` has numbered the call.
    pub call: u64,
    /// The channel, not null-terminated.
    pub channel: *const c_char,
    /// Its length.
    pub channel_len: usize,
    /// The payload as MessagePack; `ringmain_event_json` has it as JSON.
    pub payload: *const u8,
    /// Its length; 0 if there is none.
    pub payload_len: usize,
}

const INFO_SIZE: usize = std::mem::offset_of!(ringmain_event_info, payload_len) + size_of::<usize>();

/// Fills in what stands in an event. `info` points into the event, and is the caller's.
///
/// Thread-safe: yes
/// Realtime-safe: yes, but for the error of a misuse
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_event_get(
    event: *const ringmain_event,
    info: *mut ringmain_event_info,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: an event of ours that the caller keeps meanwhile.
        let event = unsafe { given(event, "event") }?;
        let payload = event.payload.bytes();
        let filled = ringmain_event_info {
            struct_size: size_of::<ringmain_event_info>(),
            event_type: event.kind as u32,
            renderer: event.place.renderer,
            renderer_frame: event.place.renderer_frame,
            frame: event.place.frame,
            result: event.error.as_ref().map_or(RINGMAIN_OK, |error| error.result) as i32,
            gone: event.gone as u32,
            status: event.status,
            reserved: 0,
            registration: event.registration,
            call: event.call,
            channel: event.channel.as_ptr().cast(),
            channel_len: event.channel.len(),
            payload: payload.as_ptr(),
            payload_len: payload.len(),
        };
        // SAFETY: the caller's to write, for its size.
        unsafe { put_sized(info, &filled, INFO_SIZE, "info") }
    })
}

/// The payload as JSON text, converted at the first call and kept by the event: `*json` is valid as long as the event, is
/// not null-terminated, and is `null` where there is no payload.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_event_json(
    event: *const ringmain_event,
    json: *mut *const c_char,
    json_len: *mut usize,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: an event of ours that the caller keeps meanwhile.
        let event = unsafe { given(event, "event") }?;
        let text = match event.json.get() {
            Some(text) => text,
            None => {
                let text = match event.payload.bytes() {
                    [] => b"null".to_vec(),
                    payload => value::to_json(payload)?,
                };
                event.json.get_or_init(|| text)
            }
        };
        // SAFETY: the caller's to write.
        unsafe {
            put(json, text.as_ptr().cast(), "json")?;
            put(json_len, text.len(), "json_len")
        }
    })
}

/// What went wrong, of a reply, a renderer that is gone, or an error; null otherwise. It is the event's: not to be freed.
///
/// Thread-safe: yes
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_event_error(event: *const ringmain_event) -> *const ringmain_error {
    // SAFETY: null, or an event of ours that the caller keeps meanwhile.
    unsafe { event.as_ref() }.and_then(|event| event.error.as_ref()).map_or(std::ptr::null(), std::ptr::from_ref)
}

/// Whether the caller of this call does not want the answer any more: its time was over, or it is gone.
///
/// Thread-safe: yes
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_event_is_cancelled(event: *const ringmain_event) -> bool {
    // SAFETY: null, or an event of ours that the caller keeps meanwhile.
    value::or_zero(|| match unsafe { event.as_ref() }?.answer {
        Answer::Call(ref call) => Some(call.is_cancelled()),
        _ => None,
    })
}

/// Answers a call or a synchronous message with a value in `format`; the first answer counts, later ones are ignored. From
/// any thread, also when the callback has returned (`ringmain_event_retain`). A caller that is gone does not mind. Never
/// waits. The event stays the caller's, and so does `data`.
///
/// Fails with `RINGMAIN_INVALID_VALUE` or `RINGMAIN_TOO_LARGE`, and the caller still waits; with `RINGMAIN_FULL`, and the
/// caller gets `RINGMAIN_REPLY_FULL`; with `RINGMAIN_WRONG_EVENT`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_event_reply(
    event: *const ringmain_event,
    format: u32,
    data: *const u8,
    len: usize,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: an event of ours that the caller keeps meanwhile; the caller's bytes.
        let (event, bytes) = unsafe { (given(event, "event")?, value::slice(data, len, "data")?) };
        event.is_answerable()?;
        let value = value_of(bytes, format_of(format)?)?;
        match &event.answer {
            Answer::Call(call) => Ok(call.answer(&value)?),
            Answer::Main(message) => Ok(message.set_encoded_return_value(&value)?),
            _ => Ok(()),
        }
    })
}

/// Answers a call with a failure: the caller gets `RINGMAIN_HANDLER` with this text, and with name and code where they are
/// not null. The first answer counts. For calls only. Never waits. Event and texts stay the caller's.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_event_reply_error(
    event: *const ringmain_event,
    message: *const c_char,
    message_len: usize,
    name: *const c_char,
    name_len: usize,
    code: *const c_char,
    code_len: usize,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: an event of ours that the caller keeps meanwhile; the caller's texts.
        let (event, failed) = unsafe {
            let message = text(message, message_len, "message")?;
            let (name, code) = (optional_text(name, name_len, "name")?, optional_text(code, code_len, "code")?);
            (given(event, "event")?, handler_error(message, name, code))
        };
        match &event.answer {
            Answer::Call(call) => {
                call.fail(failed);
                Ok(())
            }
            _ => Err(failure(RINGMAIN_WRONG_EVENT, "only a call can be answered with a failure")),
        }
    })
}

/// Sends a message to exactly the frame that sent this one, through main where that is another renderer's. A sender that
/// is gone does not mind. For messages, synchronous ones and those of guests. Never waits. Event and data stay the
/// caller's. Fails as `ringmain_renderer_send`, or with `RINGMAIN_WRONG_EVENT`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_event_send(
    event: *const ringmain_event,
    channel: *const c_char,
    channel_len: usize,
    format: u32,
    data: *const u8,
    len: usize,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: an event of ours that the caller keeps meanwhile; the caller's text and bytes.
        let (event, channel, args) =
            unsafe { (given(event, "event")?, text(channel, channel_len, "channel")?, args_of(format, data, len)?) };
        match &event.answer {
            Answer::Main(message) => Ok(message.reply(channel, Encoded(&args))?),
            Answer::Renderer(message) => Ok(message.reply(channel, Encoded(&args))?),
            Answer::Guest(message) => Ok(message.reply(channel, Encoded(&args))?),
            Answer::Call(_) | Answer::Nobody => Err(failure(RINGMAIN_WRONG_EVENT, "this event is no message")),
        }
    })
}

/// Keeps an event beyond its callback: the returned pointer, the same one, is the caller's until `ringmain_event_free`.
/// Null for null.
///
/// Thread-safe: yes
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_event_retain(event: *const ringmain_event) -> *mut ringmain_event {
    if !event.is_null() {
        // SAFETY: an event of ours, which somebody holds meanwhile.
        unsafe { Arc::increment_strong_count(event) };
    }
    event.cast_mut()
}

/// Gives an event back that was pulled or retained; null is nothing.
///
/// Thread-safe: yes, once for each event that was pulled or retained
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_event_free(event: *mut ringmain_event) {
    if !event.is_null() {
        // SAFETY: made by `Arc::into_raw` or counted by `ringmain_event_retain`, and given back once.
        quietly((), || drop(unsafe { Arc::from_raw(event.cast_const()) }));
    }
}
