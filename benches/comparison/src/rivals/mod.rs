//! The rivals, each set up as its own documentation or benchmark does for speed.

pub(crate) mod iceoryx2;
pub(crate) mod ipc_channel;
pub(crate) mod ringfire;
pub(crate) mod socket;
pub(crate) mod tachyon;

use crate::Result;
use crate::codec::{self, ROOM, Text};
use crate::floors::{MIB, SIZES};
use crate::lanes::LARGE;
use crate::measure::{Group, Row, Sides, Visit};
use serde_json::Value;
use std::hint::black_box;

/// Sizes of the raw echoes.
pub(crate) const RAW: [usize; 3] = [64, 4 << 10, MIB];
/// The longest message.
pub(crate) const LONGEST: usize = MIB + ROOM;

/// First byte of a raw message; no encoded arguments begin so.
pub(crate) const RAW_TAG: u8 = 0xc1;

/// A raw message. MessagePack never uses its first byte, so the peer knows it from a call.
pub(crate) fn raw(bytes: usize) -> Vec<u8> {
    let mut message = vec![7; bytes];
    message[0] = RAW_TAG;
    message
}

/// Bytes that an encoded value may need.
pub(crate) fn bound(value: &Value) -> usize {
    value.as_str().map_or(0, str::len) + ROOM
}

/// How a transport echoes: what it is given stays in the buffers that it wants, so both are its own business.
pub(crate) trait Transport {
    /// The bytes there and back, into a buffer of ours.
    fn raw(&mut self, message: &[u8], answer: &mut Vec<u8>) -> Result<()>;
    /// Encode, move, have it echoed, move, decode.
    fn call(&mut self, value: &Value) -> Result<Value>;
}

/// Raw echoes and calls, both sides awake.
pub(crate) fn spinning(visit: &mut Visit<'_>, name: &'static str, transport: &mut impl Transport) -> Result<()> {
    spinning_at(visit, name, transport, |_| true)
}

/// The same, only with messages of certain sizes.
pub(crate) fn spinning_at(
    visit: &mut Visit<'_>,
    name: &'static str,
    transport: &mut impl Transport,
    wanted: impl Fn(usize) -> bool,
) -> Result<()> {
    for bytes in RAW.into_iter().filter(|bytes| wanted(*bytes)) {
        raw_echo(visit, name, transport, bytes)?;
    }
    let calls = SIZES.into_iter().map(|bytes| (Text::Ascii, bytes, Group::ValueSpinning));
    let calls = calls.chain([(Text::Mixed, MIB, Group::MixedValueSpinning)]);
    for (kind, bytes, group) in calls.filter(|(_, bytes, _)| wanted(*bytes)) {
        let value = Value::String(codec::text(kind, bytes));
        checked(transport, &value)?;
        visit.row(Row { name, group, bytes }, || {
            black_box(transport.call(black_box(&value))?);
            Ok(())
        })?;
    }
    Ok(())
}

/// The raw echo of a texture alone.
pub(crate) fn large(visit: &mut Visit<'_>, name: &'static str, transport: &mut impl Transport) -> Result<()> {
    raw_echo(visit, name, transport, LARGE)
}

fn raw_echo(visit: &mut Visit<'_>, name: &'static str, transport: &mut impl Transport, bytes: usize) -> Result<()> {
    let (message, mut answer) = (raw(bytes), Vec::new());
    visit.row(Row { name, group: Group::RawSpinning, bytes }, || {
        transport.raw(black_box(&message), &mut answer)?;
        black_box(&answer);
        Ok(())
    })?;
    same(&message, &answer)
}

/// Raw echoes and calls, both sides asleep while they wait.
pub(crate) fn sleeping(
    visit: &mut Visit<'_>,
    name: &'static str,
    sides: &mut Sides,
    transport: &mut impl Transport,
) -> Result<()> {
    sleeping_at(visit, name, sides, transport, |_| true)
}

/// The same, only with messages of certain sizes.
pub(crate) fn sleeping_at(
    visit: &mut Visit<'_>,
    name: &'static str,
    sides: &mut Sides,
    transport: &mut impl Transport,
    wanted: impl Fn(usize) -> bool,
) -> Result<()> {
    for bytes in RAW.into_iter().filter(|bytes| wanted(*bytes)) {
        let (message, mut answer) = (raw(bytes), Vec::new());
        visit.sleeping(Row { name, group: Group::RawSleeping, bytes }, sides, || {
            transport.raw(black_box(&message), &mut answer)?;
            black_box(&answer);
            Ok(())
        })?;
        same(&message, &answer)?;
    }
    for bytes in SIZES.into_iter().filter(|bytes| wanted(*bytes)) {
        let value = Value::String(codec::text(Text::Ascii, bytes));
        checked(transport, &value)?;
        visit.sleeping(Row { name, group: Group::ValueSleeping, bytes }, sides, || {
            black_box(transport.call(black_box(&value))?);
            Ok(())
        })?;
    }
    Ok(())
}

fn same(message: &[u8], answer: &[u8]) -> Result<()> {
    if message != answer {
        return Err("the echo differs from what was sent".into());
    }
    Ok(())
}

fn checked(transport: &mut impl Transport, value: &Value) -> Result<()> {
    if transport.call(value)? != *value {
        return Err("the echo differs from what was sent".into());
    }
    Ok(())
}
