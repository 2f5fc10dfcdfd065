//! Argument lists: what `send` takes and what a listener is given.

use super::check::{self, Bounds};
use super::de::{self, NIL};
use super::ser::{self, Encoder};
use super::{Limits, MAX_DEPTH, ValueError};
use serde::de::DeserializeOwned;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

type Result<T = (), E = ValueError> = std::result::Result<T, E>;

const ROOT: &str = "args";

/// The list of no arguments.
const EMPTY: u8 = 0x90;

/// Appends an argument list to `out`, which is left as it was if that fails. Otherwise as [`encode_value`].
///
/// [`encode_value`]: super::encode_value
pub(crate) fn encode_args<A: IntoArgs + ?Sized>(args: &A, out: &mut Vec<u8>, limits: &Limits) -> Result {
    ser::encode(out, limits, ROOT, |encoder| args.encode(encoder))
}

/// Reads a checked argument list: surplus arguments are skipped, missing ones read as null.
pub(crate) fn decode_args<A: FromArgs>(payload: &[u8]) -> Result<A> {
    Reader::of(payload, None).and_then(A::decode).map_err(|error| error.within(ROOT))
}

pub(super) mod sealed {
    use super::{Encoder, Reader, Result};

    pub trait Encode {
        fn encode(&self, encoder: &mut Encoder<'_>) -> Result;
    }

    pub trait Decode: Sized {
        fn decode(reader: Reader<'_>) -> Result<Self>;
    }
}

/// What can be sent as arguments: a tuple of up to twelve values, an array, a slice, a `Vec`, or [`Args`]; `()` is none. A
/// reference to one of these is the same list.
///
/// A value is anything that implements [`Serialize`], and travels as `serde_json::to_value` would have it; NaN,
/// infinities, byte strings (as of `serde_bytes`) and integers beyond 64 bits are refused. A `Vec<u8>` *inside* the list
/// is an array of numbers, of one or two bytes each; as the list itself, each byte is an argument.
///
/// Encoding appends to one buffer, which grows as needed; nothing else is allocated, except for float map keys and
/// serde_json's `RawValue` and arbitrary-precision numbers. An error allocates its text.
///
/// A value alone is no list; the compiler says so and shows the tuple:
///
/// ```compile_fail,E0277
/// let args = ringmain::Args::new("hello"); // not ("hello",)
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of arguments",
    label = "expected a tuple, an array, a slice, a `Vec` or `Args`",
    note = "a single argument goes into a tuple, mind the comma: `send(\"x\", (\"hello\",))`; no arguments are `()`"
)]
pub trait IntoArgs: sealed::Encode {}

/// What a listener's or a handler's arguments can be taken as: a tuple of up to twelve values, `()`, or [`Args`].
///
/// A value is anything that implements [`DeserializeOwned`], read as `serde_json::from_value` would read it. Surplus
/// arguments are ignored, missing ones read as null, so an `Option` is then `None`.
///
/// Tuples are read from the message itself: they allocate what their values own. [`Args`] copy the list once.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a list of arguments",
    label = "expected a tuple of values that implement `DeserializeOwned`, or `Args`",
    note = "a single argument is taken as a tuple, mind the comma: `|event, (text,): (String,)|`"
)]
pub trait FromArgs: sealed::Decode {}

impl<T: Serialize, const N: usize> IntoArgs for [T; N] {}
impl<T: Serialize> IntoArgs for &[T] {}
impl<T: Serialize> IntoArgs for Vec<T> {}
impl IntoArgs for Args {}
impl<A: IntoArgs> IntoArgs for &A {}
impl FromArgs for Args {}
impl IntoArgs for () {}
impl FromArgs for () {}

fn encode_slice<T: Serialize>(values: &[T], encoder: &mut Encoder<'_>) -> Result {
    let mut list = encoder.root().serialize_seq(Some(values.len()))?;
    values.iter().try_for_each(|value| list.serialize_element(value))?;
    list.end()
}

impl<T: Serialize, const N: usize> sealed::Encode for [T; N] {
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result {
        encode_slice(self, encoder)
    }
}

impl<T: Serialize> sealed::Encode for &[T] {
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result {
        encode_slice(self, encoder)
    }
}

impl<T: Serialize> sealed::Encode for Vec<T> {
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result {
        encode_slice(self, encoder)
    }
}

impl sealed::Encode for Args {
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result {
        encoder.splice(&self.list, self.values, self.depth)
    }
}

impl<A: sealed::Encode> sealed::Encode for &A {
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result {
        (**self).encode(encoder)
    }
}

impl sealed::Decode for Args {
    fn decode(reader: Reader<'_>) -> Result<Self> {
        match reader.args {
            Some(args) => Ok(args.clone()),
            None => Self::of_list(reader.list),
        }
    }
}

impl sealed::Encode for () {
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result {
        encode_slice::<()>(&[], encoder)
    }
}

impl sealed::Decode for () {
    fn decode(reader: Reader<'_>) -> Result<Self> {
        reader.finish()
    }
}

macro_rules! tuples {
    ($(($($name:ident $at:tt)*))*) => {$(
        impl<$($name: Serialize),*> IntoArgs for ($($name,)*) {}
        impl<$($name: DeserializeOwned),*> FromArgs for ($($name,)*) {}

        impl<$($name: Serialize),*> sealed::Encode for ($($name,)*) {
            fn encode(&self, encoder: &mut Encoder<'_>) -> Result {
                let mut list = encoder.root().serialize_seq(Some([$($at),*].len()))?;
                $(list.serialize_element(&self.$at)?;)*
                list.end()
            }
        }

        impl<$($name: DeserializeOwned),*> sealed::Decode for ($($name,)*) {
            fn decode(mut reader: Reader<'_>) -> Result<Self> {
                let values = ($(reader.next::<$name>()?,)*);
                reader.finish()?;
                Ok(values)
            }
        }
    )*};
}

tuples! {
    (A 0)
    (A 0 B 1)
    (A 0 B 1 C 2)
    (A 0 B 1 C 2 D 3)
    (A 0 B 1 C 2 D 3 E 4)
    (A 0 B 1 C 2 D 3 E 4 F 5)
    (A 0 B 1 C 2 D 3 E 4 F 5 G 6)
    (A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7)
    (A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8)
    (A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9)
    (A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10)
    (A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10 L 11)
}

/// Reads an argument list from front to back.
pub struct Reader<'a> {
    list: &'a [u8],
    rest: &'a [u8],
    count: u32,
    next: u32,
    /// Where the list stands, if it is one of ours.
    args: Option<&'a Args>,
}

impl<'a> Reader<'a> {
    fn of(list: &'a [u8], args: Option<&'a Args>) -> Result<Self> {
        let mut rest = list;
        let count = check::list_len(&mut rest).map_err(ValueError::malformed)?;
        Ok(Self { list, rest, count, next: 0, args })
    }

    fn next<T: DeserializeOwned>(&mut self) -> Result<T> {
        let index = self.next;
        self.next += 1;
        if index < self.count {
            return de::read(&mut self.rest, 1).map_err(|error| error.at_index(index));
        }
        de::read(&mut &[NIL][..], 1).map_err(|error| error.noted("the argument is missing").at_index(index))
    }

    fn skip(&mut self, utf8: bool) -> Result {
        let index = self.next;
        self.next += 1;
        de::skip(&mut self.rest, 1, utf8).map_err(|error| error.at_index(index))
    }

    fn finish(mut self) -> Result {
        while self.next < self.count {
            self.skip(true)?;
        }
        match self.rest.len() {
            0 => Ok(()),
            more => Err(ValueError::malformed(check::Fault::Trailing(more))),
        }
    }
}

/// An argument list of any values: checked, encoded and immutable. Cloning it shares the memory.
///
/// ```
/// # use ringmain::Args;
/// let args = Args::new(("volume", 0.5, [1, 2, 3]))?;
/// assert_eq!(args.len(), 3);
/// assert_eq!(args.get::<f64>(1)?, 0.5);
/// let (name, volume): (String, f64) = args.parse()?;
/// assert_eq!(args.get::<u8>(0).unwrap_err().to_string(), r#"args[0]: invalid type: string "volume", expected u8"#);
/// # assert_eq!((name.as_str(), volume), ("volume", 0.5));
/// # Ok::<(), ringmain::ValueError>(())
/// ```
#[derive(Clone)]
pub struct Args {
    /// Passed the check, UTF-8 included.
    list: Arc<[u8]>,
    count: u32,
    values: u32,
    depth: u32,
}

impl Args {
    /// Encodes a list, once for as many sends as there are. Allocates the list.
    ///
    /// # Errors
    ///
    /// What cannot travel, see [`IntoArgs`]; more than 64 MiB, a million values or 128 levels. A link may allow less,
    /// which shows when the list is sent.
    pub fn new(args: impl IntoArgs) -> Result<Self> {
        let mut list = Vec::new();
        encode_args(&args, &mut list, &Limits::default())?;
        Self::of_list(&list).map_err(|error| error.within(ROOT))
    }

    /// Encodes dynamic values. Allocates the list.
    ///
    /// # Errors
    ///
    /// As [`Args::new`].
    pub fn from_values(values: &[Value]) -> Result<Self> {
        Self::new(values)
    }

    /// Copies the list out of a message whose structure and limits have been checked, and validates its text.
    #[cfg(test)]
    pub(crate) fn from_payload(payload: &[u8]) -> Result<Self> {
        Self::of_list(payload).map_err(|error| error.within(ROOT))
    }

    fn of_list(list: &[u8]) -> Result<Self> {
        let bounds = Bounds { depth: MAX_DEPTH, values: u32::MAX, utf8: true };
        let (count, scan) = check::list(list, &bounds)
            .map_err(|fault| ValueError::malformed(fault).within(&check::path_of_fault(list, &bounds)))?;
        Ok(Self { list: list.into(), count, values: scan.values, depth: scan.depth })
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Reads one argument; one that is missing reads as null. Steps over those before it, and allocates what `T` owns.
    ///
    /// # Errors
    ///
    /// The argument is of another type.
    pub fn get<T: DeserializeOwned>(&self, index: usize) -> Result<T> {
        let read = || {
            let mut reader = Reader::of(&self.list, None)?;
            while (reader.next as usize) < index && reader.next < self.count {
                reader.skip(false)?;
            }
            reader.next = u32::try_from(index).unwrap_or(u32::MAX - 1);
            reader.next()
        };
        read().map_err(|error| error.within(ROOT))
    }

    /// Reads them all, as a listener that takes `A` would be given them. Allocates what `A` owns; as `Args` nothing.
    ///
    /// # Errors
    ///
    /// An argument is of another type.
    pub fn parse<A: FromArgs>(&self) -> Result<A> {
        Reader::of(&self.list, Some(self)).and_then(A::decode).map_err(|error| error.within(ROOT))
    }

    /// All arguments as dynamic values. Allocates each of them.
    pub fn to_values(&self) -> Vec<Value> {
        // A `Value` takes whatever has passed the check.
        de::read(&mut &self.list[..], 0).unwrap_or_default()
    }

    /// The list as it travels.
    #[cfg(any(test, feature = "capi"))]
    pub(crate) fn as_payload(&self) -> &[u8] {
        &self.list
    }
}

/// No arguments.
impl Default for Args {
    fn default() -> Self {
        Self { list: [EMPTY].into(), count: 0, values: 1, depth: 1 }
    }
}

impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Args")?;
        f.debug_list().entries(self.to_values()).finish()
    }
}
