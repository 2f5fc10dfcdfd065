//! Messages as they arrive at either end.

use super::{Input, limits};
use crate::wire::{
    End, Envelope, ErrorRecord, HEADER_LEN, Kind, Limits, begin, check, check_args, check_channel, encode_value, split,
};

const KINDS: [Kind; 13] = [
    Kind::Send,
    Kind::Invoke,
    Kind::SendSync,
    Kind::Reply,
    Kind::ReplyError,
    Kind::Cancel,
    Kind::Close,
    Kind::SendTo,
    Kind::Routed,
    Kind::SendToHost,
    Kind::FromGuest,
    Kind::OpenFrame,
    Kind::CloseFrame,
];

/// One byte of limits, and a message: what is taken apart is what was put together, at either end, and an error that has
/// arrived can be sent on.
pub fn wire(input: &[u8]) {
    let Some((&choice, message)) = input.split_first() else { return };
    let limits = limits(choice);
    let taken = [End::Main, End::Renderer].map(|end| take_apart(message, &limits, end));
    if let [Some(main), Some(renderer)] = &taken {
        assert_eq!(main, renderer, "a kind that is for both sides is the same for both");
    }
    if let Some((envelope, payload)) = taken.into_iter().flatten().next() {
        let _ = match envelope.kind {
            kind if kind.has_args() => check_args(payload, &limits, false).is_ok(),
            Kind::Reply => check(payload, &limits, false).is_ok(),
            Kind::ReplyError => pass_an_error_on(payload, &limits),
            _ => {
                assert!(payload.is_empty());
                true
            }
        };
    }
    pass_an_error_on(message, &limits);
    put_together(&mut Input(message), &limits);
}

fn take_apart<'a>(message: &'a [u8], limits: &Limits, end: End) -> Option<(Envelope<'a>, &'a [u8])> {
    let (envelope, payload) = match split(message, limits, end) {
        Ok(taken) => taken,
        Err(violation) => {
            assert!(violation.0.len() < 256, "the text of a violation is bounded: {violation}");
            return None;
        }
    };
    assert!(message.len() <= limits.max_message_size);
    assert_eq!(message.len(), HEADER_LEN + envelope.channel.len() + payload.len());
    check_channel(envelope.channel, limits).expect("a channel name of legal length");
    assert_ne!(envelope.frame, 0);
    assert_eq!(split(message, &Limits::default(), end), Ok((envelope, payload)), "higher limits change nothing");
    let mut again = Vec::new();
    begin(&envelope, &mut again);
    again.extend_from_slice(payload);
    assert_eq!(again, message);
    Some((envelope, payload))
}

/// An envelope of any fields that its kind has arrives as it was sent, at the ends at which it may.
fn put_together(input: &mut Input<'_>, limits: &Limits) {
    use Kind::*;
    let kind = KINDS[input.below(KINDS.len())];
    let (flags, frame, call) = (input.u8(), input.u32().max(1), input.u64().max(1));
    let (peer, peer_frame) = (input.u32().max(1), input.u32().max(1));
    let len = input.below(40);
    let channel = String::from_utf8_lossy(input.bytes(len)).into_owned();
    let has_peer = matches!(kind, SendTo | Routed | FromGuest);
    let envelope = Envelope {
        kind,
        caller_awake: flags & 1 != 0,
        frame,
        call: if matches!(kind, Invoke | SendSync | Reply | ReplyError | Cancel) { call } else { 0 },
        channel: if kind.has_args() { &channel } else { "" },
        peer: if has_peer { peer } else { 0 },
        peer_frame: if has_peer || kind == OpenFrame { peer_frame } else { 0 },
    };
    let payload = if matches!(kind, Cancel | Close | OpenFrame | CloseFrame) { &[] } else { input.0 };
    let mut message = Vec::new();
    begin(&envelope, &mut message);
    message.extend_from_slice(payload);
    let at = |end| split(&message, limits, end);
    let legal = check_channel(envelope.channel, limits).is_ok() && message.len() <= limits.max_message_size;
    let (main, renderer) = match kind {
        Send | Invoke | Reply | ReplyError | Cancel | Close => (true, true),
        SendSync | SendTo | SendToHost | OpenFrame | CloseFrame => (true, false),
        Routed | FromGuest => (false, true),
    };
    for (end, may_arrive) in [(End::Main, main), (End::Renderer, renderer)] {
        match at(end) {
            Ok(taken) => assert!(may_arrive && legal && taken == (envelope, payload), "{taken:?}"),
            Err(violation) => assert!(!may_arrive || !legal, "{envelope:?}: {violation}"),
        }
    }
}

/// Whether the payload is an error record. One that is can be sent on, whole to whom takes it whole, and in any case so that
/// it arrives.
fn pass_an_error_on(payload: &[u8], limits: &Limits) -> bool {
    let wide = Limits::default();
    let Ok(record) = ErrorRecord::decode(payload, &wide) else {
        assert!(ErrorRecord::decode(payload, limits).is_err(), "what low limits let through high ones let through");
        return false;
    };
    let sent = |limits: &Limits| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes, limits);
        let arrived = ErrorRecord::decode(&bytes, limits);
        assert!(bytes.len() <= limits.max_message_size);
        arrived.unwrap_or_else(|violation| panic!("{record:?} within {limits:?}: {violation}"))
    };
    assert_eq!(sent(&wide), record);
    let arrived = sent(limits);
    assert_eq!(arrived.kind, record.kind);
    assert!(arrived.data.is_none() || arrived.data == record.data);
    let mut bytes = Vec::new();
    let whole = (record.kind, &record.name, &record.message, &record.code, &record.data);
    let short = [&record.name, &Some(record.message.clone()), &record.code];
    let short = short.into_iter().flatten().all(|text| text.len() <= limits.max_text);
    if short && encode_value(&whole, &mut bytes, limits).is_ok() {
        assert_eq!(arrived, record, "what fits arrives whole");
    }
    true
}
