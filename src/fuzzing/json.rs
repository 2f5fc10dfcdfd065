//! The check of a payload, and what is decoded after it.

use super::limits;
use crate::wire::{
    self, Args, ErrorRecord, FromArgs, Limits, check, check_args, decode_args, decode_value, encode_args, encode_value,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::ops::{Bound, Range};
use std::time::Duration;

/// As the decoder has them, which counts no values.
const WIDEST: Limits =
    Limits { max_message_size: usize::MAX, max_depth: u32::MAX, max_values: u32::MAX, max_text: usize::MAX };

/// One byte of limits, and a payload: what the check lets through is a JSON value, which travels on unchanged, and is
/// read as any type as serde_json reads it or is of the wrong type; malformed it is for no type.
pub fn json(input: &[u8]) {
    let Some((&choice, payload)) = input.split_first() else { return };
    let limits = limits(choice);
    check_agrees_with_itself(payload, &limits);
    check_agrees_with_itself(payload, &WIDEST);

    let trusted = check(payload, &WIDEST, false);
    let checked = check(payload, &WIDEST, true);
    assert_eq!(
        decode_value::<IgnoredAny>(payload).is_ok(),
        checked.is_ok(),
        "the decoder skips what the check accepts"
    );
    match (trusted, checked) {
        (Ok(values), Ok(_)) => decode(payload, values, &limits),
        // The text was taken on trust, so the decoder finds it.
        (Ok(_), Err(violation)) => {
            let error = decode_value::<Value>(payload).expect_err("text that is not UTF-8");
            assert!(error.is_malformed(), "{error}, {violation}");
            read_as_other_types(payload, |_| {});
        }
        (Err(_), _) => {}
    }
}

/// The short ways, the long way, with the text looked at or not, as a value or as a list: one verdict.
fn check_agrees_with_itself(payload: &[u8], limits: &Limits) {
    let is_list = matches!(payload.first(), Some(0x90..=0x9f | 0xdc | 0xdd));
    let trusted = check(payload, limits, false);
    let checked = check(payload, limits, true);
    match &checked {
        Ok(values) => {
            assert_eq!(trusted.as_ref(), Ok(values));
            assert!((1..=payload.len()).contains(values), "each value takes a byte");
            assert!(*values <= limits.max_values as usize);
            assert!(check(payload, &WIDEST, true).is_ok(), "what keeps to low limits keeps to high ones");
        }
        Err(violation) => {
            let most = 1024 + 16 * payload.len();
            assert!(violation.0.len() <= most, "an explanation of {} bytes of {}", violation.0.len(), payload.len());
        }
    }
    for (utf8, whole) in [(false, trusted.is_ok()), (true, checked.is_ok())] {
        assert_eq!(check_args(payload, limits, utf8).is_ok(), whole && is_list, "utf8 looked at: {utf8}");
    }
}

/// A payload of `values` values that has passed the check, UTF-8 included.
fn decode(payload: &[u8], values: usize, limits: &Limits) {
    let value: Value = decode_value(payload).expect("what passes the check is JSON");
    let held = memory_of(&value);
    assert!(held <= 32 + 1024 * payload.len(), "{held} bytes are kept for {} bytes", payload.len());
    assert!(
        same(&value, &rmp_serde::from_slice(payload).expect("MessagePack")),
        "as another decoder reads it: {value}"
    );

    let mut again = Vec::new();
    encode_value(&value, &mut again, &WIDEST).expect("what has arrived can travel on");
    let count = check(&again, &WIDEST, true).expect("what is sent passes the check");
    assert!(count <= values, "{count} values of {values}");
    let read: Value = decode_value(&again).expect("what is sent is JSON");
    assert!(same(&value, &read), "{value} became {read}");
    let mut once_more = Vec::new();
    encode_value(&read, &mut once_more, &WIDEST).expect("what has arrived can travel on");
    assert_eq!(again, once_more);

    // Sender and receiver judge alike: what has fewer values (of keys that came twice, one is left) still keeps to the limits.
    let fits = again.len() <= limits.max_message_size;
    let passes = check(&again, limits, true).is_ok();
    let mut bytes = b"before".to_vec();
    let sent = encode_value(&value, &mut bytes, &Limits { max_message_size: limits.max_message_size + 6, ..*limits });
    assert_eq!(sent.is_ok(), fits && passes, "{sent:?}");
    assert_eq!(bytes.len(), 6 + if sent.is_ok() { again.len() } else { 0 }, "a refused value leaves nothing behind");
    assert!(passes || check(payload, limits, true).is_err());

    read_as_other_types(payload, |error| assert!(!error.is_malformed(), "{error}"));
    reads_like_serde_json(&again, &value);
    as_arguments(payload);
}

fn as_arguments(payload: &[u8]) {
    let Ok(count) = check_args(payload, &WIDEST, true) else {
        assert!(decode_args::<Args>(payload).is_err() && decode_args::<()>(payload).is_err());
        return;
    };
    let args = decode_args::<Args>(payload).expect("a list of arguments");
    decode_args::<()>(payload).expect("surplus arguments are skipped");
    assert_eq!((args.len(), args.to_values().len()), (count as usize, count as usize));
    let mut again = Vec::new();
    encode_args(&args, &mut again, &WIDEST).expect("what has arrived can travel on");
    assert_eq!(again, payload, "a list travels on as it came");
    for index in 0..args.len().min(4) {
        let value = args.get::<Value>(index).expect("an argument");
        assert!(same(&value, &args.to_values()[index]));
    }
    assert!(args.get::<Value>(args.len()).expect("a missing argument is null").is_null());
    fn read<A: FromArgs>(payload: &[u8], args: &Args) {
        let (a, b) = (decode_args::<A>(payload), args.parse::<A>());
        assert_eq!(a.is_ok(), b.is_ok());
        for error in [a.err(), b.err()].into_iter().flatten() {
            assert!(!error.is_malformed(), "{error}");
        }
    }
    read::<(Value,)>(payload, &args);
    read::<(Option<String>, u8, Vec<i64>)>(payload, &args);
    read::<(Option<f64>, Option<HashMap<String, Value>>)>(payload, &args);
}

fn read_as_other_types(payload: &[u8], mut judge: impl FnMut(wire::ValueError)) {
    fn read<T: DeserializeOwned>(payload: &[u8], judge: &mut impl FnMut(wire::ValueError)) {
        if let Err(error) = decode_value::<T>(payload) {
            assert!(error.to_string().len() < 4096 + 16 * payload.len(), "the text of an error is bounded");
            judge(error);
        }
    }
    read::<Vec<IgnoredAny>>(payload, &mut judge);
    read::<[u8; 3]>(payload, &mut judge);
    read::<(String, Vec<Option<char>>)>(payload, &mut judge);
    read::<HashMap<String, Option<String>>>(payload, &mut judge);
    read::<BTreeMap<i64, Box<[Value]>>>(payload, &mut judge);
    read::<Result<Option<Option<u64>>, Vec<Bound<i8>>>>(payload, &mut judge);
    read::<Vec<Duration>>(payload, &mut judge);
    read::<Vec<BTreeMap<bool, Range<f32>>>>(payload, &mut judge);
    if let Err(violation) = ErrorRecord::decode(payload, &WIDEST) {
        assert!(violation.0.len() < 4096 + 16 * payload.len(), "the text of a violation is bounded");
    }
}

/// `bytes` are what we send for `value`: any type is read from them as `from_value` reads it.
fn reads_like_serde_json(bytes: &[u8], value: &Value) {
    fn alike<T: DeserializeOwned + Debug>(bytes: &[u8], value: &Value) {
        let (ours, theirs) = (decode_value::<T>(bytes), T::deserialize(value));
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "from {value}"),
            (Err(_), Err(_)) => {}
            _ => panic!("from {value}: {ours:?}, as serde_json reads it {theirs:?}"),
        }
    }
    alike::<bool>(bytes, value);
    alike::<i8>(bytes, value);
    alike::<u64>(bytes, value);
    alike::<i128>(bytes, value);
    alike::<f32>(bytes, value);
    alike::<f64>(bytes, value);
    alike::<char>(bytes, value);
    alike::<String>(bytes, value);
    alike::<()>(bytes, value);
    alike::<NonZeroU8>(bytes, value);
    alike::<Option<Option<i16>>>(bytes, value);
    alike::<IpAddr>(bytes, value);
    alike::<Vec<Value>>(bytes, value);
    alike::<Vec<u8>>(bytes, value);
    alike::<[i32; 2]>(bytes, value);
    alike::<(Value, Option<bool>)>(bytes, value);
    alike::<BTreeMap<String, Value>>(bytes, value);
    alike::<BTreeMap<u8, IgnoredAny>>(bytes, value);
    alike::<BTreeMap<bool, String>>(bytes, value);
    alike::<BTreeMap<char, ()>>(bytes, value);
    alike::<Vec<BTreeSet<i64>>>(bytes, value);
    alike::<Result<u8, Vec<Value>>>(bytes, value);
    alike::<BTreeMap<String, Bound<Box<Value>>>>(bytes, value);
    alike::<Vec<Bound<Range<i8>>>>(bytes, value);
    alike::<Range<Option<f32>>>(bytes, value);
    alike::<Duration>(bytes, value);
}

/// Equal, and -0.0 is not 0.0.
fn same(a: &Value, b: &Value) -> bool {
    let text = |value: &Value| value.to_string();
    a == b && text(a) == text(b)
}

/// Bytes that a value holds, what its vectors have reserved included.
fn memory_of(value: &Value) -> usize {
    /// Of a map of one entry, which takes a node for eleven: what three bytes cost at most.
    const NODE: usize = 12 * (size_of::<String>() + size_of::<Value>()) + 128;
    match value {
        Value::String(text) => text.capacity(),
        Value::Array(list) => {
            let unused = list.capacity() - list.len();
            unused * size_of::<Value>() + list.iter().map(|value| size_of::<Value>() + memory_of(value)).sum::<usize>()
        }
        Value::Object(map) => {
            let nodes = map.len().div_ceil(5) * NODE;
            nodes + map.iter().map(|(key, value)| key.capacity() + memory_of(value)).sum::<usize>()
        }
        _ => 0,
    }
}
