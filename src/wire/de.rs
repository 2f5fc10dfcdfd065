//! MessagePack into any `DeserializeOwned`, as `serde_json::from_value` would read the same value.
//!
//! Over rmp's markers, not over rmp-serde's deserializer: that one takes variants by index, 128-bit integers and unit
//! structs in forms of its own, leaves map keys as they are and knows no paths, so that each node would have to be
//! wrapped to undo it.

use super::check::{self, Bounds, Fault, Head};
use super::{MAX_DEPTH, RAW_VALUE_TOKEN, ValueError, wrapped_once_more};
use serde::de::value::{BorrowedStrDeserializer, MapDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::Value;

type Result<T = (), E = ValueError> = std::result::Result<T, E>;

/// Reads a checked payload.
pub(crate) fn decode_value<T: DeserializeOwned>(payload: &[u8]) -> Result<T> {
    let mut input = payload;
    let value = read(&mut input, 0).map_err(|error| error.within("value"))?;
    match input.len() {
        0 => Ok(value),
        more => Err(malformed(Fault::Trailing(more)).within("value")),
    }
}

/// Reads one value that stands inside `depth` levels.
pub(super) fn read<'de, T: Deserialize<'de>>(input: &mut &'de [u8], depth: u32) -> Result<T> {
    let start = input.len();
    let value = T::deserialize(Source { input, depth, wrapped: 0 })?;
    if input.len() == start {
        skip(input, depth, true)?;
    }
    Ok(value)
}

/// Steps over one value; with `utf8` it is validated as if it had been read.
pub(super) fn skip(input: &mut &[u8], depth: u32, utf8: bool) -> Result {
    let bounds = Bounds { depth: MAX_DEPTH.saturating_sub(depth), values: u32::MAX, utf8 };
    match check::scan(input, &bounds, &mut ()) {
        Ok(scan) => {
            *input = &input[scan.len..];
            Ok(())
        }
        Err(fault) => Err(malformed(fault).within(&check::path_of_fault(input, &bounds))),
    }
}

#[cold]
fn malformed(fault: Fault) -> ValueError {
    ValueError::malformed(fault)
}

#[inline]
fn utf8(text: &[u8]) -> Result<&str> {
    check::utf8(text).map_err(malformed)
}

/// One value of `input`, inside `depth` levels.
struct Source<'a, 'de> {
    input: &'a mut &'de [u8],
    depth: u32,
    /// Options and newtypes around it, which leave no level: a type may nest them without end in any value.
    wrapped: u32,
}

impl<'a, 'de> Source<'a, 'de> {
    #[inline]
    fn head(&mut self) -> Result<Head> {
        check::head(self.input).map_err(malformed)
    }

    #[inline]
    fn text(&mut self, len: u32) -> Result<&'de str> {
        utf8(check::text(self.input, len).map_err(malformed)?)
    }

    #[inline]
    fn wrap(mut self) -> Result<Self> {
        self.wrapped = wrapped_once_more(self.wrapped)?;
        Ok(self)
    }

    #[inline]
    fn deeper(&self) -> Result<u32> {
        if self.depth < MAX_DEPTH { Ok(self.depth + 1) } else { Err(malformed(Fault::Depth(MAX_DEPTH))) }
    }

    #[inline]
    fn level(self, count: u32, map: bool) -> Result<Level<'a, 'de>> {
        let depth = self.deeper()?;
        check::fits(count, map, self.input).map_err(malformed)?;
        Ok(Level { input: self.input, depth, count, left: count, owed: None })
    }

    #[inline]
    fn list<V: Visitor<'de>>(self, count: u32, visitor: V) -> Result<V::Value> {
        let mut list = List(self.level(count, false)?);
        let value = visitor.visit_seq(&mut list)?;
        list.0.finish(&"fewer elements in array")?;
        Ok(value)
    }

    #[inline]
    fn map<V: Visitor<'de>>(self, count: u32, visitor: V) -> Result<V::Value> {
        let mut map = Map { level: self.level(count, true)?, key: "" };
        let value = visitor.visit_map(&mut map)?;
        map.level.finish(&"fewer elements in map")?;
        Ok(value)
    }

    #[cold]
    fn mismatch(mut self, head: Head, expected: &dyn Expected) -> ValueError {
        let found = match head {
            Head::Nil => Unexpected::Unit,
            Head::Bool(value) => Unexpected::Bool(value),
            Head::U64(value) => Unexpected::Unsigned(value),
            Head::I64(value) => Unexpected::Signed(value),
            Head::F64(value) => Unexpected::Float(value),
            Head::Array(_) => Unexpected::Seq,
            Head::Map(_) => Unexpected::Map,
            Head::Str(len) => match self.text(len) {
                Ok(text) => Unexpected::Str(text),
                Err(error) => return error,
            },
        };
        ValueError::invalid_type(found, expected)
    }
}

/// `$head` reads the value's head, the arms are what the visitor accepts; all else is a mismatch.
macro_rules! visit {
    ($self:ident, $visitor:ident, { $($head:pat => $visit:expr,)+ }) => {{
        match $self.head()? {
            $($head => $visit,)+
            head => Err($self.mismatch(head, &$visitor)),
        }
    }};
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
            visit!(self, visitor, {
                Head::U64(value) => visitor.visit_u64(value),
                Head::I64(value) => visitor.visit_i64(value),
                Head::F64(value) => visitor.visit_f64(value),
            })
        }
    )*};
}

macro_rules! texts {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
            visit!(self, visitor, { Head::Str(len) => visitor.visit_borrowed_str(self.text(len)?), })
        }
    )*};
}

impl<'de> Deserializer<'de> for Source<'_, 'de> {
    type Error = ValueError;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        match self.head()? {
            Head::Nil => visitor.visit_unit(),
            Head::Bool(value) => visitor.visit_bool(value),
            Head::U64(value) => visitor.visit_u64(value),
            Head::I64(value) => visitor.visit_i64(value),
            Head::F64(value) => visitor.visit_f64(value),
            Head::Str(len) => visitor.visit_borrowed_str(self.text(len)?),
            Head::Array(count) => self.list(count, visitor),
            Head::Map(count) => self.map(count, visitor),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    texts! { deserialize_char deserialize_str deserialize_string deserialize_identifier }

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        visit!(self, visitor, { Head::Bool(value) => visitor.visit_bool(value), })
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        visit!(self, visitor, {
            Head::Str(len) => visitor.visit_borrowed_str(self.text(len)?),
            Head::Array(count) => self.list(count, visitor),
        })
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.input.split_first() {
            Some((&NIL, rest)) => {
                *self.input = rest;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self.wrap()?),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        visit!(self, visitor, { Head::Nil => visitor.visit_unit(), })
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value> {
        if name == RAW_VALUE_TOKEN {
            // What serde_json's `RawValue` expects: the JSON text, under the name it knows.
            let text = Value::deserialize(self)?.to_string();
            return visitor.visit_map(MapDeserializer::new(std::iter::once((RAW_VALUE_TOKEN, text))));
        }
        #[cfg(feature = "capi")]
        if std::ptr::eq(name, super::encoded::TOKEN) {
            let from = *self.input;
            if super::encoded::is_simple_value(from) {
                *self.input = &[];
                return visitor.visit_bytes(from);
            }
            skip(self.input, self.depth, true)?;
            return visitor.visit_bytes(&from[..from.len() - self.input.len()]);
        }
        visitor.visit_newtype_struct(self.wrap()?)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        visit!(self, visitor, { Head::Array(count) => self.list(count, visitor), })
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        visit!(self, visitor, { Head::Map(count) => self.map(count, visitor), })
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visit!(self, visitor, {
            Head::Map(count) => self.map(count, visitor),
            Head::Array(count) => self.list(count, visitor),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let depth = match self.head()? {
            Head::Str(len) => {
                let name = self.text(len)?;
                return visitor.visit_enum(Variant { name, data: None });
            }
            Head::Map(1) => self.deeper()?,
            Head::Map(_) => return Err(ValueError::invalid_value(Unexpected::Map, &"map with a single key")),
            head => return Err(self.mismatch(head, &"string or map")),
        };
        let name = key(self.input)?;
        let start = self.input.len();
        let data = Source { input: &mut *self.input, depth, wrapped: 0 };
        let value = visitor.visit_enum(Variant { name, data: Some(data) }).map_err(|error| error.at_key(name))?;
        if self.input.len() == start {
            skip(self.input, depth, true)?;
        }
        Ok(value)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        skip(self.input, self.depth, true)?;
        visitor.visit_unit()
    }
}

pub(super) const NIL: u8 = 0xc0;

#[inline]
fn key<'de>(input: &mut &'de [u8]) -> Result<&'de str> {
    let first = *input.first().ok_or_else(|| malformed(Fault::Truncated))?;
    match check::head(input).map_err(malformed)? {
        Head::Str(len) => utf8(check::text(input, len).map_err(malformed)?),
        _ => Err(malformed(Fault::Key(first))),
    }
}

/// An array or a map that is being read. What a visitor fails at or leaves alone is stepped over, so that one which goes
/// on regardless still finds the next value where it is.
struct Level<'a, 'de> {
    input: &'a mut &'de [u8],
    depth: u32,
    count: u32,
    left: u32,
    /// The value to step over before anything else.
    owed: Option<&'de [u8]>,
}

impl<'de> Level<'_, 'de> {
    #[inline]
    fn settle(&mut self) -> Result {
        if let Some(owed) = self.owed.take() {
            *self.input = owed;
            skip(self.input, self.depth, true)?;
        }
        Ok(())
    }

    #[inline]
    fn value<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        let start = *self.input;
        match seed.deserialize(Source { input: self.input, depth: self.depth, wrapped: 0 }) {
            Ok(value) => {
                if self.input.len() == start.len() {
                    skip(self.input, self.depth, true)?;
                }
                Ok(value)
            }
            Err(error) => {
                self.owed = Some(start);
                Err(error)
            }
        }
    }

    #[inline]
    fn finish(mut self, expected: &dyn Expected) -> Result {
        self.settle()?;
        match self.left {
            0 => Ok(()),
            _ => Err(ValueError::invalid_length(self.count as usize, expected)),
        }
    }

    /// Visitors allocate by this: no more than what is there can hold.
    fn hint(&self) -> Option<usize> {
        Some((self.left as usize).min(self.input.len()))
    }
}

struct List<'a, 'de>(Level<'a, 'de>);

impl<'de> SeqAccess<'de> for List<'_, 'de> {
    type Error = ValueError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        self.0.settle()?;
        let Some(left) = self.0.left.checked_sub(1) else { return Ok(None) };
        let index = self.0.count - self.0.left;
        self.0.left = left;
        self.0.value(seed).map(Some).map_err(|error| error.at_index(index))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.hint()
    }
}

struct Map<'a, 'de> {
    level: Level<'a, 'de>,
    key: &'de str,
}

impl<'de> MapAccess<'de> for Map<'_, 'de> {
    type Error = ValueError;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        self.level.settle()?;
        let Some(left) = self.level.left.checked_sub(1) else { return Ok(None) };
        self.level.left = left;
        self.key = key(self.level.input)?;
        self.level.owed = Some(*self.level.input);
        seed.deserialize(Key(self.key)).map(Some).map_err(|error| error.at_key(self.key))
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        if self.level.owed.take().is_none() {
            return Err(ValueError::custom("value is missing"));
        }
        self.level.value(seed).map_err(|error| error.at_key(self.key))
    }

    fn size_hint(&self) -> Option<usize> {
        self.level.hint()
    }
}

/// A variant's name, and its data if it came as a one-entry map.
struct Variant<'a, 'de> {
    name: &'de str,
    data: Option<Source<'a, 'de>>,
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a, 'de> {
    type Error = ValueError;
    type Variant = Data<'a, 'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Data<'a, 'de>)> {
        let name = seed.deserialize(BorrowedStrDeserializer::new(self.name))?;
        Ok((name, Data(self.data)))
    }
}

struct Data<'a, 'de>(Option<Source<'a, 'de>>);

impl<'a, 'de> Data<'a, 'de> {
    fn expect(self, expected: &'static str) -> Result<Source<'a, 'de>> {
        self.0.ok_or_else(|| ValueError::invalid_type(Unexpected::UnitVariant, &expected))
    }
}

impl<'de> VariantAccess<'de> for Data<'_, 'de> {
    type Error = ValueError;

    fn unit_variant(self) -> Result {
        self.0.map_or(Ok(()), Deserialize::deserialize)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value> {
        seed.deserialize(self.expect("newtype variant")?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        let mut data = self.expect("tuple variant")?;
        match data.head()? {
            Head::Array(count) => data.list(count, visitor),
            head => Err(data.mismatch(head, &"tuple variant")),
        }
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value> {
        let mut data = self.expect("struct variant")?;
        match data.head()? {
            Head::Map(count) => data.map(count, visitor),
            head => Err(data.mismatch(head, &"struct variant")),
        }
    }
}

/// A map key: text, which numbers and booleans are read back from.
struct Key<'de>(&'de str);

impl<'de> Key<'de> {
    /// Reads the key as serde_json reads a number; there may be nothing around it.
    fn number<T>(self, read: impl FnOnce(&mut JsonText<'de>) -> serde_json::Result<T>) -> Result<T> {
        let text = self.0;
        if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) || !text.ends_with(|c: char| c.is_ascii_digit())
        {
            return Err(ValueError::custom(format_args!("the map key {text:?} is not a number")));
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let number = read(&mut json).and_then(|number| json.end().map(|()| number));
        number.map_err(|error| {
            let what = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            ValueError::custom(format_args!("as a map key: {}", what.strip_suffix(&place).unwrap_or(&what)))
        })
    }
}

type JsonText<'a> = serde_json::Deserializer<serde_json::de::StrRead<'a>>;

macro_rules! number_keys {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.number(|json| json.$method(visitor))
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = ValueError;

    number_keys! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.0 {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            text => Err(ValueError::invalid_type(Unexpected::Str(text), &visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(Variant { name: self.0, data: None })
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
