//! Payloads that are MessagePack already: bytes in and out, each checked as a peer's would be.

use super::args::{IntoArgs, sealed};
use super::check::{self, Bounds};
use super::ser::{self, Encoder};
use super::{Limits, MAX_DEPTH, ValueError};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::cell::Cell;
use std::fmt;

type Result<T = (), E = ValueError> = std::result::Result<T, E>;

/// The name by which [`TakenValue`] asks our own deserializer for bytes; compared by address, so that no other type has it.
pub(super) static TOKEN: &str = "$ringmain::TakenValue";

/// An argument list.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'a>(pub(crate) &'a [u8]);

impl IntoArgs for Encoded<'_> {}

impl sealed::Encode for Encoded<'_> {
    #[inline]
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result {
        encoder.append(self.0, true)
    }
}

/// Appends one value to `out`, which is left as it was if that fails; as [`encode_value`](super::encode_value).
pub(crate) fn encode_encoded(value: &[u8], out: &mut Vec<u8>, limits: &Limits) -> Result {
    ser::encode(out, limits, "value", |encoder| encoder.append(value, false))
}

/// Whether bytes are one value that can travel, whatever the limits of a link are.
pub(crate) fn check_encoded(value: &[u8]) -> Result {
    check(value, false, u32::MAX, MAX_DEPTH).map_err(|error| error.within("value"))
}

#[inline]
pub(super) fn check(bytes: &[u8], is_list: bool, values: u32, depth: u32) -> Result {
    let bounds = Bounds { depth, values, utf8: true };
    if check::is_simple(bytes, is_list, &bounds) {
        return Ok(());
    }
    let checked = match is_list {
        true => check::list(bytes, &bounds).map(drop),
        false => check::whole(bytes, &bounds).map(drop),
    };
    checked.map_err(|fault| {
        let path = match fault {
            check::Fault::Trailing(_) | check::Fault::NotAList(_) => String::new(),
            _ => check::path_of_fault(bytes, &bounds),
        };
        ValueError::unfit(fault).within(&path)
    })
}

/// Whether these bytes are exactly one value, as most replies are; false says nothing.
#[inline]
pub(super) fn is_simple_value(bytes: &[u8]) -> bool {
    check::is_simple(bytes, false, &Bounds { depth: MAX_DEPTH, values: u32::MAX, utf8: true })
}

thread_local! {
    /// Memory for the next value that is taken.
    static LENT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A value as it has arrived.
#[derive(Debug)]
pub(crate) struct TakenValue(pub(crate) Vec<u8>);

impl TakenValue {
    /// The next value that this thread takes is written here.
    #[inline]
    pub(crate) fn lend(memory: Vec<u8>) {
        let _ = LENT.try_with(|lent| lent.set(memory));
    }

    /// What was lent and not used.
    #[inline]
    pub(crate) fn take_back() -> Vec<u8> {
        LENT.try_with(Cell::take).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for TakenValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl Visitor<'_> for Take {
            type Value = TakenValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<TakenValue, E> {
                let mut taken = TakenValue::take_back();
                taken.clear();
                taken.extend_from_slice(bytes);
                Ok(TakenValue(taken))
            }
        }
        deserializer.deserialize_newtype_struct(TOKEN, Take)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode_value, encode_args, encode_value};
    use super::*;
    use serde_json::json;

    #[test]
    fn encoded_arguments_and_values_travel_as_they_are() {
        let (mut list, mut value) = (Vec::new(), Vec::new());
        let limits = Limits::default();
        encode_args(&(1, "ü", [2.5, 3.0]), &mut list, &limits).unwrap();
        encode_value(&json!({"a": [1, null, true]}), &mut value, &limits).unwrap();
        let (mut out, mut again) = (vec![7], Vec::new());
        encode_args(&Encoded(&list), &mut out, &limits).unwrap();
        assert_eq!(out[1..], list);
        encode_encoded(&value, &mut again, &limits).unwrap();
        assert_eq!(again, value);
        assert_eq!(decode_value::<TakenValue>(&value).unwrap().0, value);
    }

    #[test]
    fn encoded_bytes_that_are_no_json_are_refused_with_their_path() {
        let limits = Limits { max_depth: 3, max_values: 10, ..Limits::default() };
        let table: [(&[u8], &str); 7] = [
            (b"", "args: the message ends in the middle of a value"),
            (b"\x01", "args: an argument list must be an array"),
            (b"\x91\xc4\x00", "args[0]: "),
            (b"\x91\xa1\xff", "args[0]: text is not UTF-8"),
            (b"\x90\x90", "args: 1 bytes follow the value"),
            (b"\x91\x91\x91\x91\x01", "args[0][0]"),
            (b"\xdc\x00\x0a0123456789", "args"),
        ];
        for (bytes, text) in table {
            let mut out = vec![9];
            let error = encode_args(&Encoded(bytes), &mut out, &limits).unwrap_err();
            assert!(error.to_string().starts_with(text), "{bytes:?}: {error}");
            assert_eq!(out, [9]);
        }
    }
}
