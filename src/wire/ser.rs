//! A value as `serde_json::to_value` would have it, written as MessagePack by rmp-serde.

use super::check::{self, Fault, Head};
use super::{Cause, Limits, MAX_DEPTH, NUMBER_TOKEN, RAW_VALUE_TOKEN, RESERVED_KEYS, ValueError, wrapped_once_more};
use serde::Serialize;
use serde::ser::{self, Impossible, Serializer};
use serde_json::Value;
use std::fmt::{self, Display, Write as _};

type Result<T = (), E = ValueError> = std::result::Result<T, E>;

/// Appends `value` to `out`, which is left as it was if that fails.
///
/// What `out` already holds (the envelope) counts towards `max_message_size`.
pub(crate) fn encode_value<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>, limits: &Limits) -> Result {
    encode(out, limits, "value", |encoder| value.serialize(encoder.root()))
}

pub(super) fn encode(
    out: &mut Vec<u8>,
    limits: &Limits,
    root: &str,
    write: impl FnOnce(&mut Encoder<'_>) -> Result,
) -> Result {
    let start = out.len();
    let mut encoder = Encoder {
        rmp: rmp_serde::Serializer::new(out),
        values: 0,
        max_values: limits.max_values,
        max_depth: limits.max_depth.min(MAX_DEPTH),
        max_len: limits.max_message_size,
    };
    let written = write(&mut encoder).and_then(|()| encoder.room(0));
    written.map_err(|error| {
        out.truncate(start);
        error.within(root)
    })
}

pub struct Encoder<'o> {
    rmp: rmp_serde::Serializer<&'o mut Vec<u8>>,
    values: u32,
    max_values: u32,
    max_depth: u32,
    max_len: usize,
}

impl<'o> Encoder<'o> {
    pub(super) fn root(&mut self) -> Place<'_, 'o> {
        Place { encoder: self, depth: 0, wrapped: 0 }
    }

    /// Appends a checked list that consists of `values` values and `depth` levels.
    pub(super) fn splice(&mut self, list: &[u8], values: u32, depth: u32) -> Result {
        if values > self.max_values {
            return Err(ValueError::unfit(Fault::Values(self.max_values)));
        }
        if depth > self.max_depth {
            return Err(ValueError::unfit(Fault::Depth(self.max_depth)));
        }
        self.room(list.len())?;
        self.out().extend_from_slice(list);
        Ok(())
    }

    /// Appends what is encoded already, after the check that a peer's bytes get.
    #[cfg(feature = "capi")]
    #[inline]
    pub(super) fn append(&mut self, bytes: &[u8], is_list: bool) -> Result {
        super::encoded::check(bytes, is_list, self.max_values, self.max_depth)?;
        self.room(bytes.len())?;
        self.out().extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn out(&mut self) -> &mut Vec<u8> {
        self.rmp.get_mut()
    }

    #[inline]
    fn len(&self) -> usize {
        self.rmp.get_ref().len()
    }

    /// Counts one value.
    #[inline]
    fn value(&mut self) -> Result<&mut Self> {
        if self.values == self.max_values {
            return Err(ValueError::unfit(Fault::Values(self.max_values)));
        }
        self.values += 1;
        self.room(0)?;
        Ok(self)
    }

    #[inline]
    fn room(&self, more: usize) -> Result {
        if self.len().saturating_add(more) <= self.max_len { Ok(()) } else { Err(too_large(self.max_len)) }
    }

    #[inline]
    fn text(&mut self, text: &str) -> Result {
        self.room(text.len())?;
        match u32::try_from(text.len()) {
            Ok(len @ 0..0x100) => {
                let out = self.out();
                out.reserve(2 + text.len());
                match len {
                    0..0x20 => out.push(0xa0 | len as u8),
                    _ => out.extend_from_slice(&[0xd9, len as u8]),
                }
                out.extend_from_slice(text.as_bytes());
                Ok(())
            }
            Ok(_) => done(self.rmp.serialize_str(text)),
            Err(_) => Err(too_large(u32::MAX as usize)),
        }
    }

    #[inline]
    fn key(&mut self, key: &str) -> Result {
        if key.starts_with(RESERVED_KEYS) {
            return Err(ValueError::unfit(Fault::ReservedKey));
        }
        self.text(key)
    }

    /// Writes text that is yet to be formatted, without a `String` in between.
    fn format(&mut self, text: &(impl Display + ?Sized)) -> Result {
        const WIDEST: usize = 5;
        let start = self.len();
        self.out().extend_from_slice(&[0; WIDEST]);
        let mut writer = Limited { max_len: self.max_len, out: self.out(), full: false };
        if write!(writer, "{text}").is_err() {
            return Err(if writer.full {
                too_large(self.max_len)
            } else {
                ValueError::unfit("its Display implementation returned an error")
            });
        }
        let end = self.len();
        let len = u32::try_from(end - start - WIDEST).map_err(|_| too_large(u32::MAX as usize))?;
        done(rmp::encode::write_str_len(self.out(), len))?;
        let head = self.len() - end;
        let out = self.out();
        out.copy_within(end.., start);
        out.copy_within(start + WIDEST..end, start + head);
        out.truncate(end - WIDEST + head);
        Ok(())
    }

    /// Writes the head of an array or a map: as short as possible if its length is known, else one to be filled in.
    #[inline]
    fn head(&mut self, len: Option<usize>, map: bool) -> Result<Option<u32>> {
        let len = len.and_then(|len| u32::try_from(len).ok());
        match (len, map) {
            (Some(len @ 0..0x10), _) => self.out().push(if map { 0x80 } else { 0x90 } | len as u8),
            (Some(len), false) => done(rmp::encode::write_array_len(self.out(), len))?,
            (Some(len), true) => done(rmp::encode::write_map_len(self.out(), len))?,
            (None, _) => self.out().extend_from_slice(&[if map { 0xdf } else { 0xdd }, 0, 0, 0, 0]),
        };
        Ok(len)
    }

    /// Corrects the head at `at`: the length was not known, or `Serialize` announced a wrong one.
    #[cold]
    fn correct(&mut self, at: usize, announced: Option<u32>, count: u32, map: bool) -> Result {
        let out = self.out();
        let Some(announced) = announced else {
            out[at + 1..at + 5].copy_from_slice(&count.to_be_bytes());
            return Ok(());
        };
        let width = |len: u32| match len {
            0..=15 => 1,
            16..=0xffff => 3,
            _ => 5,
        };
        let end = out.len();
        self.head(Some(count as usize), map)?;
        let out = self.out();
        let head = out.split_off(end);
        out.splice(at..at + width(announced), head);
        Ok(())
    }
}

#[cold]
fn too_large(max: usize) -> ValueError {
    ValueError::new(Cause::TooLarge, format_args!("the message would be larger than {max} bytes"))
}

/// Writing to a `Vec` does not fail.
#[inline]
fn done<T, E: Display>(written: Result<T, E>) -> Result {
    match written {
        Ok(_) => Ok(()),
        Err(error) => Err(ValueError::unfit(error)),
    }
}

struct Limited<'a> {
    out: &'a mut Vec<u8>,
    max_len: usize,
    full: bool,
}

impl fmt::Write for Limited<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.out.len().saturating_add(part.len()) > self.max_len {
            self.full = true;
            return Err(fmt::Error);
        }
        self.out.extend_from_slice(part.as_bytes());
        Ok(())
    }
}

/// Where one value goes, inside `depth` levels.
pub(super) struct Place<'e, 'o> {
    encoder: &'e mut Encoder<'o>,
    depth: u32,
    /// Options and newtypes around it, which leave no level.
    wrapped: u32,
}

impl<'e, 'o> Place<'e, 'o> {
    fn deeper(&mut self) -> Result {
        if self.depth >= self.encoder.max_depth {
            return Err(ValueError::unfit(Fault::Depth(self.encoder.max_depth)));
        }
        self.depth += 1;
        self.wrapped = 0;
        Ok(())
    }

    /// A cycle of such values would end with the stack.
    fn wrap(mut self) -> Result<Self> {
        self.wrapped = wrapped_once_more(self.wrapped)?;
        Ok(self)
    }

    #[inline]
    fn open(mut self, len: Option<usize>, map: bool, variant: Option<&'static str>) -> Result<Level<'e, 'o>> {
        self.deeper()?;
        let encoder = self.encoder.value()?;
        let at = encoder.len();
        let announced = encoder.head(len, map)?;
        Ok(Level { encoder: self.encoder, depth: self.depth, at, announced, count: 0, map, key: None, variant })
    }

    /// Begins the one-entry map of a variant that has data.
    fn variant(&mut self, variant: &'static str) -> Result {
        self.deeper()?;
        self.encoder.value()?.head(Some(1), true)?;
        self.encoder.key(variant)
    }

    fn float(self, value: f64) -> Result {
        if !value.is_finite() {
            return Err(ValueError::unfit(Fault::NotFinite(value)));
        }
        done(self.encoder.value()?.rmp.serialize_f64(value))
    }

    /// A number of serde_json's with `arbitrary_precision`.
    fn number(self, text: &str) -> Result {
        if let Ok(value) = text.parse() {
            return self.serialize_u64(value);
        }
        match text.parse() {
            Ok(0) | Err(_) => {}
            Ok(value) => return self.serialize_i64(value),
        }
        let integral = text != "-0" && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        match text.parse::<f64>() {
            Ok(_) if integral => Err(out_of_range(text)),
            Ok(value) if value.is_finite() => self.float(value),
            _ => Err(ValueError::unfit(format_args!("{text} is not a number that a 64-bit float can hold"))),
        }
    }
}

#[cold]
fn out_of_range(value: impl Display) -> ValueError {
    ValueError::unfit(format_args!("{value} is beyond 64-bit integers (send it as text)"))
}

macro_rules! forward {
    ($($method:ident $type:ty)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result {
            done(self.encoder.value()?.rmp.$method(value))
        }
    )*};
}

// What is its own first byte is written here, as are the heads of short texts and lists: through rmp-serde a small number
// takes 120 instructions.
macro_rules! integers {
    ($($method:ident $type:ty)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result {
            let encoder = self.encoder.value()?;
            match u8::try_from(value) {
                Ok(small @ 0..0x80) => {
                    encoder.out().push(small);
                    Ok(())
                }
                _ => done(encoder.rmp.$method(value)),
            }
        }
    )*};
}

impl<'e, 'o> Serializer for Place<'e, 'o> {
    type Ok = ();
    type Error = ValueError;
    type SerializeSeq = Level<'e, 'o>;
    type SerializeTuple = Level<'e, 'o>;
    type SerializeTupleStruct = Level<'e, 'o>;
    type SerializeTupleVariant = Level<'e, 'o>;
    type SerializeMap = Level<'e, 'o>;
    type SerializeStruct = Struct<'e, 'o>;
    type SerializeStructVariant = Level<'e, 'o>;

    forward! { serialize_bool bool }

    integers! {
        serialize_i8 i8 serialize_i16 i16 serialize_i32 i32 serialize_i64 i64
        serialize_u8 u8 serialize_u16 u16 serialize_u32 u32 serialize_u64 u64
    }

    fn serialize_i128(self, value: i128) -> Result {
        match (u64::try_from(value), i64::try_from(value)) {
            (Ok(value), _) => self.serialize_u64(value),
            (_, Ok(value)) => self.serialize_i64(value),
            _ => Err(out_of_range(value)),
        }
    }

    fn serialize_u128(self, value: u128) -> Result {
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value),
            Err(_) => Err(out_of_range(value)),
        }
    }

    fn serialize_f32(self, value: f32) -> Result {
        self.float(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result {
        self.float(value)
    }

    fn serialize_char(self, value: char) -> Result {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result {
        self.encoder.value()?.text(value)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result {
        self.encoder.value()?.format(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result {
        let len = value.len();
        Err(ValueError::unfit(format_args!(
            "a byte string of {len} bytes is not JSON (send an array of numbers or text)"
        )))
    }

    fn serialize_none(self) -> Result {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        value.serialize(self.wrap()?)
    }

    #[inline]
    fn serialize_unit(self) -> Result {
        done(self.encoder.value()?.rmp.serialize_unit())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result {
        value.serialize(self.wrap()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result {
        self.variant(variant)?;
        value.serialize(self).map_err(|error| error.at_key(variant))
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Level<'e, 'o>> {
        self.open(len, false, None)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Level<'e, 'o>> {
        self.open(Some(len), false, None)
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Level<'e, 'o>> {
        self.open(Some(len), false, None)
    }

    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Level<'e, 'o>> {
        self.variant(variant)?;
        self.open(Some(len), false, Some(variant)).map_err(|error| error.at_key(variant))
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Level<'e, 'o>> {
        self.open(len, true, None)
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Struct<'e, 'o>> {
        match name {
            NUMBER_TOKEN | RAW_VALUE_TOKEN => Ok(Struct::Token { place: Some(self), name }),
            _ => Ok(Struct::Level(self.open(Some(len), true, None)?)),
        }
    }

    fn serialize_struct_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Level<'e, 'o>> {
        self.variant(variant)?;
        self.open(Some(len), true, Some(variant)).map_err(|error| error.at_key(variant))
    }
}

/// An array or a map that is being written. An element that fails is taken out again, so that a `Serialize` which goes
/// on regardless still makes a sound message.
pub(super) struct Level<'e, 'o> {
    encoder: &'e mut Encoder<'o>,
    depth: u32,
    at: usize,
    announced: Option<u32>,
    count: u32,
    map: bool,
    /// Where the key begins whose value is to come.
    key: Option<usize>,
    variant: Option<&'static str>,
}

impl<'o> Level<'_, 'o> {
    #[inline]
    fn place(&mut self) -> Place<'_, 'o> {
        Place { encoder: self.encoder, depth: self.depth, wrapped: 0 }
    }

    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        let start = self.encoder.len();
        match value.serialize(self.place()) {
            Ok(()) => {
                self.count += 1;
                Ok(())
            }
            Err(error) => {
                self.encoder.out().truncate(start);
                Err(self.outside(error.at_index(self.count)))
            }
        }
    }

    #[inline]
    fn entry<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result {
        let start = self.encoder.len();
        match self.encoder.key(key).and_then(|()| value.serialize(self.place())) {
            Ok(()) => {
                self.count += 1;
                Ok(())
            }
            Err(error) => {
                self.encoder.out().truncate(start);
                Err(self.outside(error.at_key(key)))
            }
        }
    }

    #[cold]
    fn outside(&self, error: ValueError) -> ValueError {
        match self.variant {
            Some(variant) => error.at_key(variant),
            None => error,
        }
    }

    #[inline]
    fn close(self) -> Result {
        if self.key.is_some() {
            return Err(self.outside(ValueError::unfit(LONE_KEY)));
        }
        if self.announced == Some(self.count) {
            return Ok(());
        }
        self.encoder.correct(self.at, self.announced, self.count, self.map)
    }
}

const LONE_KEY: &str = "its Serialize implementation wrote a map key without a value";

impl ser::SerializeSeq for Level<'_, '_> {
    type Ok = ();
    type Error = ValueError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.element(value)
    }

    #[inline]
    fn end(self) -> Result {
        self.close()
    }
}

impl ser::SerializeTuple for Level<'_, '_> {
    type Ok = ();
    type Error = ValueError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.element(value)
    }

    #[inline]
    fn end(self) -> Result {
        self.close()
    }
}

impl ser::SerializeTupleStruct for Level<'_, '_> {
    type Ok = ();
    type Error = ValueError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.element(value)
    }

    fn end(self) -> Result {
        self.close()
    }
}

impl ser::SerializeTupleVariant for Level<'_, '_> {
    type Ok = ();
    type Error = ValueError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.element(value)
    }

    fn end(self) -> Result {
        self.close()
    }
}

impl ser::SerializeStructVariant for Level<'_, '_> {
    type Ok = ();
    type Error = ValueError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result {
        self.entry(key, value)
    }

    fn end(self) -> Result {
        self.close()
    }
}

impl ser::SerializeMap for Level<'_, '_> {
    type Ok = ();
    type Error = ValueError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result {
        if self.key.is_some() {
            return Err(ValueError::unfit(LONE_KEY));
        }
        let start = self.encoder.len();
        if let Err(error) = key.serialize(Key(self.encoder)) {
            self.encoder.out().truncate(start);
            return Err(error);
        }
        self.key = Some(start);
        Ok(())
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        let Some(start) = self.key.take() else {
            return Err(ValueError::unfit("its Serialize implementation wrote a map value without a key"));
        };
        match value.serialize(self.place()) {
            Ok(()) => {
                self.count += 1;
                Ok(())
            }
            Err(error) => {
                let error = match written_text(&self.encoder.out()[start..]) {
                    Some(key) => error.at_key(key),
                    None => error,
                };
                self.encoder.out().truncate(start);
                Err(error)
            }
        }
    }

    #[inline]
    fn end(self) -> Result {
        self.close()
    }
}

/// The text at the start of `bytes`, if it is one.
fn written_text(mut bytes: &[u8]) -> Option<&str> {
    let Ok(Head::Str(len)) = check::head(&mut bytes) else { return None };
    std::str::from_utf8(bytes.get(..len as usize)?).ok()
}

/// A struct, or one of the two by which serde_json's own types make themselves known.
pub(super) enum Struct<'e, 'o> {
    Level(Level<'e, 'o>),
    Token { place: Option<Place<'e, 'o>>, name: &'static str },
}

impl ser::SerializeStruct for Struct<'_, '_> {
    type Ok = ();
    type Error = ValueError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result {
        match self {
            Self::Level(level) => level.entry(key, value),
            Self::Token { place, name } => {
                let taken = if key == *name { place.take() } else { None };
                let place =
                    taken.ok_or_else(|| ValueError::unfit(format_args!("{name} with other fields than its own")))?;
                token(place, name, value)
            }
        }
    }

    #[inline]
    fn end(self) -> Result {
        match self {
            Self::Level(level) => level.close(),
            Self::Token { place: None, .. } => Ok(()),
            Self::Token { name, .. } => Err(ValueError::unfit(format_args!("{name} without its field"))),
        }
    }
}

/// Writes what the text `value` stands for, which is read back from where it would have been written.
fn token<T: Serialize + ?Sized>(place: Place<'_, '_>, name: &str, value: &T) -> Result {
    let Place { encoder, depth, wrapped } = place;
    let (start, values) = (encoder.len(), encoder.values);
    value.serialize(Place { encoder: &mut *encoder, depth, wrapped })?;
    let text = written_text(&encoder.out()[start..]).map(str::to_owned);
    encoder.out().truncate(start);
    encoder.values = values;
    let text = text.ok_or_else(|| ValueError::unfit(format_args!("{name} whose field is not text")))?;
    let place = Place { encoder, depth, wrapped };
    if name == NUMBER_TOKEN {
        return place.number(&text);
    }
    let value: Value =
        serde_json::from_str(&text).map_err(|error| ValueError::unfit(format_args!("{name}: {error}")))?;
    value.serialize(place)
}

/// A map key, which JSON has as text only.
struct Key<'e, 'o>(&'e mut Encoder<'o>);

impl Key<'_, '_> {
    #[cold]
    fn refuse(self, what: &str) -> ValueError {
        ValueError::unfit(format_args!("a map key is {what}, not text, a number, a boolean or a unit variant"))
    }

    /// Floats as serde_json formats them, which is not as `Display` does.
    fn float<T: Serialize + Into<f64> + Copy>(self, value: T) -> Result {
        let number = value.into();
        if !number.is_finite() {
            return Err(ValueError::unfit(Fault::NotFinite(number)));
        }
        self.0.text(&serde_json::to_string(&value).map_err(ValueError::unfit)?)
    }
}

macro_rules! integer_keys {
    ($($method:ident $type:ty)*) => {$(
        fn $method(self, value: $type) -> Result {
            self.0.format(&value)
        }
    )*};
}

impl Serializer for Key<'_, '_> {
    type Ok = ();
    type Error = ValueError;
    type SerializeSeq = Impossible<(), ValueError>;
    type SerializeTuple = Impossible<(), ValueError>;
    type SerializeTupleStruct = Impossible<(), ValueError>;
    type SerializeTupleVariant = Impossible<(), ValueError>;
    type SerializeMap = Impossible<(), ValueError>;
    type SerializeStruct = Impossible<(), ValueError>;
    type SerializeStructVariant = Impossible<(), ValueError>;

    integer_keys! {
        serialize_i8 i8 serialize_i16 i16 serialize_i32 i32 serialize_i64 i64 serialize_i128 i128
        serialize_u8 u8 serialize_u16 u16 serialize_u32 u32 serialize_u64 u64 serialize_u128 u128
    }

    fn serialize_bool(self, value: bool) -> Result {
        self.0.text(if value { "true" } else { "false" })
    }

    fn serialize_f32(self, value: f32) -> Result {
        self.float(value)
    }

    fn serialize_f64(self, value: f64) -> Result {
        self.float(value)
    }

    fn serialize_char(self, value: char) -> Result {
        self.0.text(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result {
        self.0.key(value)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result {
        let start = self.0.len();
        self.0.format(value)?;
        match written_text(&self.0.out()[start..]) {
            Some(key) if key.starts_with(RESERVED_KEYS) => Err(ValueError::unfit(Fault::ReservedKey)),
            _ => Ok(()),
        }
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result {
        self.0.key(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result {
        Err(self.refuse("a byte string"))
    }

    fn serialize_none(self) -> Result {
        Err(self.refuse("null"))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result {
        Err(self.refuse("an option"))
    }

    fn serialize_unit(self) -> Result {
        Err(self.refuse("null"))
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result {
        Err(self.refuse("null"))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result {
        Err(self.refuse("a variant with data"))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq> {
        Err(self.refuse("an array"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple> {
        Err(self.refuse("an array"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct> {
        Err(self.refuse("an array"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant> {
        Err(self.refuse("a variant with data"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap> {
        Err(self.refuse("a map"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct> {
        Err(self.refuse("a map"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant> {
        Err(self.refuse("a variant with data"))
    }
}
