//! The fixed header of a message and the record of a failed call.

use super::{Cause, Limits, ValueError, Violation, check, cut, decode_value, encode_value};
use serde_json::Value;

/// Bytes before the channel name.
pub(crate) const HEADER_LEN: usize = 24;

const CALLER_AWAKE: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Send = 1,
    Invoke = 2,
    SendSync = 3,
    Reply = 4,
    /// The payload is an [`ErrorRecord`].
    ReplyError = 5,
    Cancel = 6,
    Close = 7,
    /// From a renderer, to be handed on to a frame of another one.
    SendTo = 8,
    /// What a renderer has sent by `SendTo`, as main hands it on.
    Routed = 9,
    /// From a guest, to be handed on to its host.
    SendToHost = 10,
    /// What a guest has sent by `SendToHost`, as main hands it on.
    FromGuest = 11,
    /// A renderer has opened a frame.
    OpenFrame = 12,
    /// A renderer has closed a frame.
    CloseFrame = 13,
}

/// Which end of a link a message arrives at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Main,
    Renderer,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Send,
            2 => Self::Invoke,
            3 => Self::SendSync,
            4 => Self::Reply,
            5 => Self::ReplyError,
            6 => Self::Cancel,
            7 => Self::Close,
            8 => Self::SendTo,
            9 => Self::Routed,
            10 => Self::SendToHost,
            11 => Self::FromGuest,
            12 => Self::OpenFrame,
            13 => Self::CloseFrame,
            _ => return None,
        })
    }

    /// Whether it belongs to a call.
    fn has_call(self) -> bool {
        matches!(self, Self::Invoke | Self::SendSync | Self::Reply | Self::ReplyError | Self::Cancel)
    }

    /// Whether it names a channel.
    fn has_channel(self) -> bool {
        use Kind::*;
        matches!(self, Send | Invoke | SendSync | SendTo | Routed | SendToHost | FromGuest)
    }

    /// Whether its payload is a list of arguments.
    pub(crate) fn has_args(self) -> bool {
        self.has_channel()
    }

    fn has_payload(self) -> bool {
        !matches!(self, Self::Cancel | Self::Close | Self::OpenFrame | Self::CloseFrame)
    }

    /// Whether it names a frame at the far side of main, or a frame's parent.
    fn has_peer_frame(self) -> bool {
        matches!(self, Self::SendTo | Self::Routed | Self::FromGuest | Self::OpenFrame)
    }

    /// Whether it names a renderer at the far side of main.
    fn has_peer(self) -> bool {
        matches!(self, Self::SendTo | Self::Routed | Self::FromGuest)
    }

    /// Whether the other side may send it at all.
    fn may_arrive_at(self, end: End) -> bool {
        use Kind::*;
        match self {
            Send | Invoke | Reply | ReplyError | Cancel | Close => true,
            SendSync | SendTo | SendToHost | OpenFrame | CloseFrame => end == End::Main,
            Routed | FromGuest => end == End::Renderer,
        }
    }
}

/// What stands before the payload; little-endian, 24 bytes and the channel name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    pub(crate) kind: Kind,
    /// The caller spins: whoever replies need not ring.
    pub(crate) caller_awake: bool,
    /// Of the renderer at this link: the frame that sends, or that it is for.
    pub(crate) frame: u32,
    /// 0 where no answer is expected.
    pub(crate) call: u64,
    pub(crate) channel: &'a str,
    /// The renderer at the far side of main: the target of `SendTo`, the sender of `Routed` and `FromGuest`; else 0.
    pub(crate) peer: u32,
    /// The frame of that renderer; of `OpenFrame` the parent; else 0.
    pub(crate) peer_frame: u32,
}

/// Appends the envelope; the payload follows. The channel has passed [`check_channel`].
pub(crate) fn begin(envelope: &Envelope<'_>, out: &mut Vec<u8>) {
    let mut header = [0; HEADER_LEN];
    header[0] = envelope.kind as u8;
    header[1] = if envelope.caller_awake { CALLER_AWAKE } else { 0 };
    header[4..8].copy_from_slice(&envelope.frame.to_le_bytes());
    // Calls and messages between renderers exclude each other: they share the field.
    let call = if envelope.kind.has_peer_frame() { envelope.peer_frame.into() } else { envelope.call };
    header[8..16].copy_from_slice(&call.to_le_bytes());
    header[16..20].copy_from_slice(&(envelope.channel.len() as u32).to_le_bytes());
    header[20..].copy_from_slice(&envelope.peer.to_le_bytes());
    out.reserve(HEADER_LEN + envelope.channel.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(envelope.channel.as_bytes());
}

/// Refuses a channel name that the peer would refuse.
pub(crate) fn check_channel(channel: &str, limits: &Limits) -> Result<(), ValueError> {
    let (len, max) = (channel.len(), limits.max_text);
    if len <= max {
        return Ok(());
    }
    Err(ValueError::new(Cause::TooLarge, format_args!("a channel name of {len} bytes, where {max} are allowed")))
}

/// Takes a message apart that has arrived at `end`. The payload is yet to be checked.
pub(crate) fn split<'a>(message: &'a [u8], limits: &Limits, end: End) -> Result<(Envelope<'a>, &'a [u8]), Violation> {
    let violation = |what: String| Err(Violation(what));
    if message.len() > limits.max_message_size {
        return violation(format!(
            "a message of {} bytes, where {} are allowed",
            message.len(),
            limits.max_message_size
        ));
    }
    let Some((header, rest)) = message.split_first_chunk::<HEADER_LEN>() else {
        return violation(format!("a message of {} bytes is shorter than its header of {HEADER_LEN}", message.len()));
    };
    let &[kind, flags, zero_a, zero_b, f0, f1, f2, f3, ref words @ ..] = header;
    let &[c0, c1, c2, c3, c4, c5, c6, c7, l0, l1, l2, l3, s0, s1, s2, s3] = words;
    let frame = u32::from_le_bytes([f0, f1, f2, f3]);
    let call = u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]);
    let peer = u32::from_le_bytes([s0, s1, s2, s3]);
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    // What most messages are that have no answer, in one look: nothing of it is set but kind, frame and channel.
    if u32::from_le_bytes([kind, flags, zero_a, zero_b]) == Kind::Send as u32
        && frame != 0
        && call == 0
        && peer == 0
        && len <= limits.max_text
        && let Some((channel, payload)) = rest.split_at_checked(len)
        && let Ok(channel) = std::str::from_utf8(channel)
    {
        let envelope = Envelope { kind: Kind::Send, caller_awake: false, frame, call, channel, peer, peer_frame: 0 };
        return Ok((envelope, payload));
    }
    let kind = match Kind::from_byte(kind) {
        Some(kind) if kind.may_arrive_at(end) => kind,
        Some(kind) => return violation(format!("a message of kind {kind:?}, which is not for this side")),
        None => return violation(format!("message kind {kind}, where 1 to 13 are known")),
    };
    if flags & !CALLER_AWAKE != 0 || zero_a != 0 || zero_b != 0 {
        return violation(format!("reserved bits of a header are set: {flags:#04x} {zero_a:#04x} {zero_b:#04x}"));
    }
    if frame == 0 {
        return violation(format!("{kind:?} of frame 0, where frames count from 1"));
    }
    let (call, peer_frame) = match u32::try_from(call) {
        Ok(frame) if kind.has_peer_frame() && frame != 0 => (0, frame),
        _ if kind.has_peer_frame() => return violation(format!("{kind:?} names a frame {call:#x}, which cannot be")),
        _ if kind.has_call() != (call != 0) => return violation(format!("{kind:?} with call id {call}")),
        _ => (call, 0),
    };
    if kind.has_peer() != (peer != 0) {
        return violation(format!("{kind:?} with renderer {peer} at the other side of main"));
    }
    if len > limits.max_text {
        return violation(format!("a channel name of {len} bytes, where {} are allowed", limits.max_text));
    }
    if len != 0 && !kind.has_channel() {
        return violation(format!("{kind:?} with a channel name of {len} bytes, where none belongs"));
    }
    let Some((channel, payload)) = rest.split_at_checked(len) else {
        return violation(format!("a channel name of {len} bytes, of which {} are there", rest.len()));
    };
    let channel = match std::str::from_utf8(channel) {
        Ok(channel) => channel,
        Err(error) => return violation(format!("the channel name is not UTF-8 from byte {} on", error.valid_up_to())),
    };
    if !kind.has_payload() && !payload.is_empty() {
        return violation(format!("{kind:?} with a payload of {} bytes, where none belongs", payload.len()));
    }
    let caller_awake = flags & CALLER_AWAKE != 0;
    let envelope = Envelope { kind, caller_awake, frame, call, channel, peer, peer_frame };
    Ok((envelope, payload))
}

/// Values of an [`ErrorRecord`] without data, its list included: so many a record may have whatever the limits say, or the
/// first failed call would cut a link whose limit is lower.
const RECORD_VALUES: u32 = 6;

fn with_a_record(limits: &Limits) -> Limits {
    Limits { max_values: limits.max_values.max(RECORD_VALUES), ..*limits }
}

/// Why a call failed: the payload of [`Kind::ReplyError`], as the array `[kind, name, message, code, data]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ErrorRecord {
    pub(crate) kind: u8,
    pub(crate) name: Option<String>,
    pub(crate) message: String,
    pub(crate) code: Option<String>,
    pub(crate) data: Option<Value>,
}

impl ErrorRecord {
    /// Appends the record. An error must arrive: texts are cut to `max_text`, data that cannot travel is left out and
    /// the message says so, and if there is no room even for that, the kind travels alone.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, limits: &Limits) {
        let limits = &with_a_record(limits);
        let short = |text: &'_ Option<String>| text.as_deref().map(|text| cut(text, limits.max_text).to_owned());
        let (name, code) = (short(&self.name), short(&self.code));
        let message = cut(&self.message, limits.max_text);
        let Err(error) = encode_value(&(self.kind, &name, message, &code, &self.data), out, limits) else { return };
        let mut note = format!(" (its data were left out: {error})");
        note.truncate(cut(&note, limits.max_text).len());
        let message = format!("{}{note}", cut(message, limits.max_text - note.len()));
        let none = None::<()>;
        if encode_value(&(self.kind, &name, &message, &code, none), out, limits).is_ok() {
            return;
        }
        // What else the array holds takes 16 bytes at most.
        let room = limits.max_message_size.saturating_sub(out.len() + 16);
        if encode_value(&(self.kind, none, cut(&self.message, room.min(limits.max_text)), none, none), out, limits)
            .is_err()
        {
            out.extend_from_slice(&[0x95, 0xcc, self.kind, 0xc0, 0xa0, 0xc0, 0xc0]);
        }
    }

    /// Checks and reads a record.
    pub(crate) fn decode(payload: &[u8], limits: &Limits) -> Result<Self, Violation> {
        check(payload, &with_a_record(limits), false)?;
        let (kind, name, message, code, data) =
            decode_value::<(u8, Option<String>, String, Option<String>, Option<Value>)>(payload)?;
        for text in [name.as_deref(), Some(&message), code.as_deref()].into_iter().flatten() {
            if text.len() > limits.max_text {
                let (len, max) = (text.len(), limits.max_text);
                return Err(Violation(format!("an error text of {len} bytes, where {max} are allowed")));
            }
        }
        Ok(Self { kind, name, message, code, data })
    }
}
