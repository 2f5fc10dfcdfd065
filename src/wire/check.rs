//! One iterative pass over MessagePack: structure, limits, and that it is a JSON value.

use super::{Limits, MAX_DEPTH, RESERVED_KEYS, Violation, push_key};
use rmp::Marker;
use std::fmt::{self, Display};

/// Checks that `payload` is exactly one JSON value within `limits`; returns how many values it holds.
///
/// Without `utf8` strings are taken on trust: the decoder validates those it hands out and those it skips.
pub(crate) fn check(payload: &[u8], limits: &Limits, utf8: bool) -> Result<usize, Violation> {
    let bounds = Bounds::of(limits, utf8);
    if bounds.values > 0 && !utf8 && trusted_width(payload) == Some(payload.len()) {
        return Ok(1);
    }
    let scan = whole(payload, &bounds).map_err(|fault| explain(payload, limits, utf8, "value", fault))?;
    Ok(scan.values as usize)
}

/// Like [`check`] for an argument list, which must be an array; returns how many arguments there are.
pub(crate) fn check_args(payload: &[u8], limits: &Limits, utf8: bool) -> Result<u32, Violation> {
    let bounds = Bounds::of(limits, utf8);
    if let Some(count) = simple_list(payload, &bounds) {
        return Ok(count);
    }
    list(payload, &bounds).map(|(count, _)| count).map_err(|fault| explain(payload, limits, utf8, "args", fault))
}

/// Checks an argument list; returns its length and what it holds.
pub(super) fn list(payload: &[u8], bounds: &Bounds) -> Result<(u32, Scan), Fault> {
    let count = list_len(&mut &payload[..])?;
    Ok((count, whole(payload, bounds)?))
}

/// Reads the head of an argument list.
#[inline]
pub(super) fn list_len(input: &mut &[u8]) -> Result<u32, Fault> {
    let first = *input.first().ok_or(Fault::Truncated)?;
    if let 0x90..=0x9f = first {
        *input = &input[1..];
        return Ok(u32::from(first & 0x0f));
    }
    match head(input)? {
        Head::Array(count) => Ok(count),
        _ => Err(Fault::NotAList(first)),
    }
}

pub(super) fn whole(payload: &[u8], bounds: &Bounds) -> Result<Scan, Fault> {
    let scan = scan(payload, bounds, &mut ())?;
    match payload.len() - scan.len {
        0 => Ok(scan),
        more => Err(Fault::Trailing(more)),
    }
}

#[cold]
fn explain(payload: &[u8], limits: &Limits, utf8: bool, root: &str, fault: Fault) -> Violation {
    let path = match fault {
        Fault::Trailing(_) | Fault::NotAList(_) => String::new(),
        _ => path_of_fault(payload, &Bounds::of(limits, utf8)),
    };
    Violation(format!("{root}{path}: {fault}"))
}

/// Where the scan of `bytes` fails, found by a second one that keeps track.
#[cold]
pub(super) fn path_of_fault(bytes: &[u8], bounds: &Bounds) -> String {
    let mut trail = Vec::<Step<'_>>::new();
    let _ = scan(bytes, bounds, &mut trail);
    let mut path = String::new();
    for step in trail.iter().skip(1) {
        match step {
            // A key may be as long as the message; `push_key` shows less than this of it.
            Step { map: true, key: Some(key), .. } => {
                push_key(&mut path, &String::from_utf8_lossy(&key[..key.len().min(256)]));
            }
            Step { map: false, begun: 1.., .. } => path.push_str(&format!("[{}]", step.begun - 1)),
            _ => {}
        }
    }
    path
}

/// Why bytes are not a message. Small: it is returned by what reads every single value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Truncated,
    Short { what: What, count: u32, left: usize },
    Foreign(u8),
    NotFinite(f64),
    Utf8(usize),
    Key(u8),
    ReservedKey,
    Depth(u32),
    Values(u32),
    Trailing(usize),
    NotAList(u8),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Text,
    Array,
    Map,
}

const _: () = assert!(size_of::<Fault>() <= 16);

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated => f.write_str("the message ends in the middle of a value"),
            Self::Short { what, count, left } => {
                let (what, needs) = match what {
                    What::Text => ("text", u64::from(count)),
                    What::Array => ("an array", u64::from(count)),
                    What::Map => ("a map", u64::from(count) * 2),
                };
                write!(f, "{what} that needs {needs} bytes or more, of which {left} are there")
            }
            Self::Foreign(byte) => write!(f, "{} is not JSON", kind(byte)),
            Self::NotFinite(value) => write!(f, "{value} is not a JSON number"),
            Self::Utf8(at) => write!(f, "text is not UTF-8 from byte {at} on"),
            Self::Key(byte) => write!(f, "a map key is {}, not text", kind(byte)),
            Self::ReservedKey => write!(f, "map keys that begin with `{RESERVED_KEYS}` are serde_json's own"),
            Self::Depth(max) => write!(f, "nested deeper than {max} levels"),
            Self::Values(max) => write!(f, "more than {max} values"),
            Self::Trailing(more) => write!(f, "{more} bytes follow the value"),
            Self::NotAList(byte) => write!(f, "an argument list must be an array, this is {}", kind(byte)),
        }
    }
}

fn kind(byte: u8) -> &'static str {
    use Marker::*;
    match Marker::from_u8(byte) {
        Null => "null",
        True | False => "a boolean",
        FixPos(_) | FixNeg(_) | U8 | U16 | U32 | U64 | I8 | I16 | I32 | I64 => "an integer",
        F32 | F64 => "a float",
        FixStr(_) | Str8 | Str16 | Str32 => "text",
        FixArray(_) | Array16 | Array32 => "an array",
        FixMap(_) | Map16 | Map32 => "a map",
        Bin8 | Bin16 | Bin32 => "a byte string",
        FixExt1 | FixExt2 | FixExt4 | FixExt8 | FixExt16 | Ext8 | Ext16 | Ext32 => "an extension type",
        Reserved => "the byte 0xc1",
    }
}

/// The first bytes of a value: scalars whole, the rest as lengths.
#[derive(Clone, Copy, Debug)]
pub(super) enum Head {
    Nil,
    Bool(bool),
    U64(u64),
    /// Less than zero.
    I64(i64),
    /// Finite.
    F64(f64),
    /// Followed by as many bytes, which need not be there.
    Str(u32),
    Array(u32),
    Map(u32),
}

#[inline(always)]
pub(super) fn head(input: &mut &[u8]) -> Result<Head, Fault> {
    use Marker::*;
    let (&first, rest) = input.split_first().ok_or(Fault::Truncated)?;
    *input = rest;
    let signed = |value: i64| u64::try_from(value).map_or(Head::I64(value), Head::U64);
    Ok(match Marker::from_u8(first) {
        FixPos(value) => Head::U64(value.into()),
        FixNeg(value) => Head::I64(value.into()),
        FixStr(len) => Head::Str(len.into()),
        FixArray(len) => Head::Array(len.into()),
        FixMap(len) => Head::Map(len.into()),
        Null => Head::Nil,
        False => Head::Bool(false),
        True => Head::Bool(true),
        U8 => Head::U64(u8::from_be_bytes(bytes(input)?).into()),
        U16 => Head::U64(u16::from_be_bytes(bytes(input)?).into()),
        U32 => Head::U64(u32::from_be_bytes(bytes(input)?).into()),
        U64 => Head::U64(u64::from_be_bytes(bytes(input)?)),
        I8 => signed(i8::from_be_bytes(bytes(input)?).into()),
        I16 => signed(i16::from_be_bytes(bytes(input)?).into()),
        I32 => signed(i32::from_be_bytes(bytes(input)?).into()),
        I64 => signed(i64::from_be_bytes(bytes(input)?)),
        F32 => finite(f32::from_be_bytes(bytes(input)?).into())?,
        F64 => finite(f64::from_be_bytes(bytes(input)?))?,
        Str8 => Head::Str(u8::from_be_bytes(bytes(input)?).into()),
        Str16 => Head::Str(u16::from_be_bytes(bytes(input)?).into()),
        Str32 => Head::Str(u32::from_be_bytes(bytes(input)?)),
        Array16 => Head::Array(u16::from_be_bytes(bytes(input)?).into()),
        Array32 => Head::Array(u32::from_be_bytes(bytes(input)?)),
        Map16 => Head::Map(u16::from_be_bytes(bytes(input)?).into()),
        Map32 => Head::Map(u32::from_be_bytes(bytes(input)?)),
        Reserved | Bin8 | Bin16 | Bin32 | FixExt1 | FixExt2 | FixExt4 | FixExt8 | FixExt16 | Ext8 | Ext16 | Ext32 => {
            return Err(Fault::Foreign(first));
        }
    })
}

#[inline]
fn bytes<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (taken, rest) = input.split_first_chunk().ok_or(Fault::Truncated)?;
    *input = rest;
    Ok(*taken)
}

#[inline]
fn finite(value: f64) -> Result<Head, Fault> {
    if value.is_finite() { Ok(Head::F64(value)) } else { Err(Fault::NotFinite(value)) }
}

/// The `len` bytes of a string whose head has been read.
#[inline]
pub(super) fn text<'a>(input: &mut &'a [u8], len: u32) -> Result<&'a [u8], Fault> {
    let fault = Fault::Short { what: What::Text, count: len, left: input.len() };
    let (text, rest) = input.split_at_checked(len as usize).ok_or(fault)?;
    *input = rest;
    Ok(text)
}

#[inline]
pub(super) fn utf8(text: &[u8]) -> Result<&str, Fault> {
    simdutf8::basic::from_utf8(text).map_err(|_| not_utf8(text))
}

#[cold]
fn not_utf8(text: &[u8]) -> Fault {
    Fault::Utf8(std::str::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len))
}

pub(super) struct Bounds {
    pub(super) depth: u32,
    pub(super) values: u32,
    pub(super) utf8: bool,
}

impl Bounds {
    pub(super) fn of(limits: &Limits, utf8: bool) -> Self {
        Self { depth: limits.max_depth.min(MAX_DEPTH), values: limits.max_values, utf8 }
    }
}

/// What a value that was scanned consists of.
pub(super) struct Scan {
    pub(super) len: usize,
    pub(super) values: u32,
    pub(super) depth: u32,
}

/// Bytes of each value of which nothing but its length needs to be looked at, by its first byte; 0 for all others.
static PLAIN: [u8; 256] = plain(false);
/// The same where text is taken on trust.
static PLAIN_OR_TEXT: [u8; 256] = plain(true);

const fn plain(or_text: bool) -> [u8; 256] {
    let mut widths = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        widths[byte] = match Marker::from_u8(byte as u8) {
            Marker::FixStr(len) if or_text => 1 + len,
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => 1,
            Marker::U8 | Marker::I8 => 2,
            Marker::U16 | Marker::I16 => 3,
            Marker::U32 | Marker::I32 => 5,
            Marker::U64 | Marker::I64 => 9,
            _ => 0,
        };
        byte += 1;
    }
    widths
}

/// Bytes of a value of which nothing but its length needs to be looked at where text is taken on trust, short text
/// included; they need not be there.
#[inline]
fn trusted_width(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    match usize::from(PLAIN_OR_TEXT[usize::from(first)]) {
        0 if first == 0xd9 => Some(2 + usize::from(*bytes.get(1)?)),
        0 => None,
        width => Some(width),
    }
}

/// The length of a payload that is a list of up to 15 such values: what most messages are, at a quarter of a scan's
/// instructions. None says nothing.
#[inline]
fn simple_list(payload: &[u8], bounds: &Bounds) -> Option<u32> {
    let (&first @ 0x90..=0x9f, mut rest) = payload.split_first()? else { return None };
    let count = u32::from(first & 0x0f);
    if bounds.utf8 || bounds.depth == 0 || count >= bounds.values {
        return None;
    }
    for _ in 0..count {
        rest = rest.get(trusted_width(rest)?..)?;
    }
    rest.is_empty().then_some(count)
}

/// Whether a payload is one such value, or a list of up to 15, with text that is UTF-8. False says nothing.
#[cfg(feature = "capi")]
#[inline]
pub(super) fn is_simple(payload: &[u8], is_list: bool, bounds: &Bounds) -> bool {
    let (count, mut rest) = match (is_list, payload.split_first()) {
        (false, _) => (1, payload),
        (true, Some((&first @ 0x90..=0x9f, rest))) => (u32::from(first & 0x0f), rest),
        (true, _) => return false,
    };
    if bounds.depth == 0 || count >= bounds.values {
        return false;
    }
    for _ in 0..count {
        let Some((value, behind)) = trusted_width(rest).and_then(|width| rest.split_at_checked(width)) else {
            return false;
        };
        let Some((&first, tail)) = value.split_first() else { return false };
        if PLAIN[usize::from(first)] == 0 {
            let text = if first == 0xd9 { tail.get(1..) } else { Some(tail) };
            if text.is_none_or(|text| std::str::from_utf8(text).is_err()) {
                return false;
            }
        }
        rest = behind;
    }
    rest.is_empty()
}

/// Scans the first value of `bytes`, of which more may follow.
pub(super) fn scan<'a, T: Trail<'a>>(bytes: &'a [u8], bounds: &Bounds, trail: &mut T) -> Result<Scan, Fault> {
    let mut input = bytes;
    let (mut values, mut deepest) = (0, 0);
    let mut outer = Stack { near: [0; NEAR], far: Vec::new(), len: 0 };
    // What the innermost level still waits for: twice the number of values, plus one if it is a map.
    let mut level = 1 << 1;
    let plain = if bounds.utf8 { &PLAIN } else { &PLAIN_OR_TEXT };
    trail.open(false);
    loop {
        while level < 2 {
            let Some(next) = outer.pop() else {
                return Ok(Scan { len: bytes.len() - input.len(), values, depth: deepest });
            };
            level = next;
            trail.close();
        }
        level -= 2;
        trail.next();
        if level & 1 == 1 {
            trail.key(key(&mut input, bounds.utf8)?);
        }
        if values == bounds.values {
            return Err(Fault::Values(bounds.values));
        }
        values += 1;
        let first = *input.first().ok_or(Fault::Truncated)?;
        let width = usize::from(plain[usize::from(first)]);
        // What messages are made of, without the table of all that there can be.
        let (count, map) = match first {
            _ if width != 0 => {
                match input.get(width..) {
                    Some(rest) => input = rest,
                    // Says what is short, if it is text.
                    None => return Err(cut_off(input)),
                }
                continue;
            }
            0x80..=0x9f => {
                input = &input[1..];
                (u32::from(first & 0x0f), first < 0x90)
            }
            0xd9 if !bounds.utf8 => {
                let len = *input.get(1).ok_or(Fault::Truncated)?;
                input = &input[2..];
                text(&mut input, len.into())?;
                continue;
            }
            _ => match head(&mut input)? {
                Head::Nil | Head::Bool(_) | Head::U64(_) | Head::I64(_) | Head::F64(_) => continue,
                Head::Str(len) => {
                    let text = text(&mut input, len)?;
                    if bounds.utf8 {
                        utf8(text)?;
                    }
                    continue;
                }
                Head::Array(count) => (count, false),
                Head::Map(count) => (count, true),
            },
        };
        fits(count, map, input)?;
        if count > bounds.values - values {
            return Err(Fault::Values(bounds.values));
        }
        if outer.len as u32 >= bounds.depth {
            return Err(Fault::Depth(bounds.depth));
        }
        outer.push(level);
        deepest = deepest.max(outer.len as u32);
        level = u64::from(count) << 1 | u64::from(map);
        trail.open(map);
    }
}

/// A value whose bytes are not all there.
#[cold]
fn cut_off(mut input: &[u8]) -> Fault {
    match head(&mut input) {
        Ok(Head::Str(len)) => text(&mut input, len).err().unwrap_or(Fault::Truncated),
        _ => Fault::Truncated,
    }
}

/// Whether `count` elements or entries can follow: each takes at least a byte, or two.
#[inline]
pub(super) fn fits(count: u32, map: bool, input: &[u8]) -> Result<(), Fault> {
    if u64::from(count) << u32::from(map) <= input.len() as u64 {
        return Ok(());
    }
    let what = if map { What::Map } else { What::Array };
    Err(Fault::Short { what, count, left: input.len() })
}

#[inline]
fn key<'a>(input: &mut &'a [u8], validate: bool) -> Result<&'a [u8], Fault> {
    let first = *input.first().ok_or(Fault::Truncated)?;
    let Head::Str(len) = head(input)? else { return Err(Fault::Key(first)) };
    let key = text(input, len)?;
    if key.starts_with(RESERVED_KEYS.as_bytes()) {
        return Err(Fault::ReservedKey);
    }
    if validate {
        utf8(key)?;
    }
    Ok(key)
}

/// The levels around the innermost one; no allocation for the depth that messages have.
struct Stack {
    near: [u64; NEAR],
    far: Vec<u64>,
    len: usize,
}

const NEAR: usize = 8;

impl Stack {
    #[inline]
    fn push(&mut self, level: u64) {
        match self.near.get_mut(self.len) {
            Some(slot) => *slot = level,
            None => self.far.push(level),
        }
        self.len += 1;
    }

    #[inline]
    fn pop(&mut self) -> Option<u64> {
        self.len = self.len.checked_sub(1)?;
        match self.near.get(self.len) {
            Some(level) => Some(*level),
            None => self.far.pop(),
        }
    }
}

/// Follows a scan; `()` does not, and costs nothing.
pub(super) trait Trail<'a> {
    fn open(&mut self, map: bool);
    fn next(&mut self);
    fn key(&mut self, key: &'a [u8]);
    fn close(&mut self);
}

impl<'a> Trail<'a> for () {
    fn open(&mut self, _: bool) {}
    fn next(&mut self) {}
    fn key(&mut self, _: &'a [u8]) {}
    fn close(&mut self) {}
}

struct Step<'a> {
    map: bool,
    begun: u32,
    key: Option<&'a [u8]>,
}

/// The first step stands around the root and is not part of its path.
impl<'a> Trail<'a> for Vec<Step<'a>> {
    fn open(&mut self, map: bool) {
        self.push(Step { map, begun: 0, key: None });
    }

    fn next(&mut self) {
        if let Some(step) = self.last_mut() {
            step.begun += 1;
            step.key = None;
        }
    }

    fn key(&mut self, key: &'a [u8]) {
        if let Some(step) = self.last_mut() {
            step.key = Some(key);
        }
    }

    fn close(&mut self) {
        self.pop();
    }
}
