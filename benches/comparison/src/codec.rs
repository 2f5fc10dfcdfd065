//! The job that everybody does in a call: one string argument as MessagePack, echoed. The same functions are the floor.

use crate::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write;

/// Bytes that an encoded string needs beside its own, in an array of one.
pub(crate) const ROOM: usize = 16;

/// What the string consists of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    Ascii,
    Mixed,
}

/// A string of exactly so many bytes.
pub(crate) fn text(kind: Text, bytes: usize) -> String {
    match kind {
        Text::Ascii => "x".repeat(bytes),
        Text::Mixed => {
            let part = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. ";
            let mut text = String::with_capacity(bytes);
            while text.len() + part.len() <= bytes {
                text.push_str(part);
            }
            text.push_str(&"x".repeat(bytes - text.len()));
            text
        }
    }
}

/// First step: the arguments, an array of one.
#[inline]
pub(crate) fn encode_args<T: Serialize>(value: &T, out: &mut impl Write) -> Result<()> {
    Ok(rmp_serde::encode::write(out, &(value,))?)
}

/// Second step. What follows the value is not looked at.
#[inline]
pub(crate) fn decode_args<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let (value,): (T,) = rmp_serde::from_slice(bytes)?;
    Ok(value)
}

/// Third step: the result.
#[inline]
pub(crate) fn encode_result<T: Serialize>(value: &T, out: &mut impl Write) -> Result<()> {
    Ok(rmp_serde::encode::write(out, value)?)
}

/// Fourth step.
#[inline]
pub(crate) fn decode_result<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    Ok(rmp_serde::from_slice(bytes)?)
}
