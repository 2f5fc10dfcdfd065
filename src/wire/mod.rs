//! Bytes to messages and back: the envelope, MessagePack that is JSON, and the limits that hold for both.
//!
//! Pure: no threads, no clocks, no I/O. What a peer wrote goes through [`envelope::split`] and [`check()`] first; what is
//! decoded afterwards can be of the wrong type but no longer malformed, except for UTF-8, which whoever reads or skips a
//! string validates.
#![forbid(unsafe_code)]

mod args;
mod check;
mod de;
#[cfg(feature = "capi")]
mod encoded;
mod envelope;
mod ser;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt::{self, Display, Write as _};

pub use args::{Args, FromArgs, IntoArgs};
pub(crate) use args::{decode_args, encode_args};
pub(crate) use check::{check, check_args};
pub(crate) use de::decode_value;
#[cfg(feature = "capi")]
pub(crate) use encoded::{Encoded, TakenValue, check_encoded, encode_encoded};
pub(crate) use envelope::{End, Envelope, ErrorRecord, HEADER_LEN, Kind, begin, check_channel, split};
pub(crate) use ser::encode_value;

/// Deepest nesting, whatever [`Limits`] say: decoding recurses on the caller's stack.
pub(crate) const MAX_DEPTH: u32 = 128;

/// Options and newtypes directly around each other: they leave nothing on the wire that could be counted there.
const MAX_WRAPPED: u32 = 128;

/// One option or newtype more around a value.
#[inline]
fn wrapped_once_more(wrapped: u32) -> Result<u32, ValueError> {
    if wrapped < MAX_WRAPPED {
        return Ok(wrapped + 1);
    }
    Err(ValueError::unfit(format_args!("more than {MAX_WRAPPED} options and newtypes around one value: a cycle?")))
}

/// Longest text of an error: what a peer sent is quoted, but not whole.
const MAX_QUOTED: usize = 1024;

/// Keys by which serde_json's `Number` and `RawValue` know themselves. From a peer they would make `Value` parse a
/// string as JSON, past every limit; so no message may hold them.
const RESERVED_KEYS: &str = "$serde_json::private::";
const NUMBER_TOKEN: &str = "$serde_json::private::Number";
const RAW_VALUE_TOKEN: &str = "$serde_json::private::RawValue";

/// What a message may cost, at the sender and again at the receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Envelope, channel and payload together, in bytes.
    pub(crate) max_message_size: usize,
    /// Nested arrays and maps; the argument list is the first. Never more than [`MAX_DEPTH`].
    pub(crate) max_depth: u32,
    /// Values of a payload, arrays and maps included, map keys not.
    pub(crate) max_values: u32,
    /// Channel name and error text, in bytes.
    pub(crate) max_text: usize,
}

impl Limits {
    /// The lower of both, each.
    pub(crate) fn lower(&self, other: &Self) -> Self {
        Self {
            max_message_size: self.max_message_size.min(other.max_message_size),
            max_depth: self.max_depth.min(other.max_depth),
            max_values: self.max_values.min(other.max_values),
            max_text: self.max_text.min(other.max_text),
        }
    }

    /// Whether a payload that keeps to `other` may break these.
    pub(crate) fn is_lower(&self, other: &Self) -> bool {
        self.max_depth < other.max_depth || self.max_values < other.max_values
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message_size: 64 << 20, max_depth: MAX_DEPTH, max_values: 1_000_000, max_text: 65_536 }
    }
}

/// The peer broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) String);

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

impl From<ValueError> for Violation {
    fn from(error: ValueError) -> Self {
        Self(error.to_string())
    }
}

/// A value that does not fit: what cannot travel, or what arrived and is not of the type asked for.
///
/// Its text names the place and the reason: `args[1].gain: NaN is not a JSON number`.
#[derive(Clone, Debug)]
pub struct ValueError(Box<Fields>);

#[derive(Clone, Debug)]
struct Fields {
    cause: Cause,
    path: String,
    what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Unfit,
    TooLarge,
    Malformed,
}

impl ValueError {
    #[cold]
    fn new(cause: Cause, what: impl Display) -> Self {
        let mut text = Clip { text: String::new(), full: false };
        // An error ends the formatting early, here or in what is formatted: either way there is a text.
        let _ = write!(text, "{what}");
        if text.full {
            text.text.push('…');
        }
        Self(Box::new(Fields { cause, path: String::new(), what: text.text }))
    }

    #[cold]
    fn unfit(what: impl Display) -> Self {
        Self::new(Cause::Unfit, what)
    }

    #[cold]
    fn malformed(what: impl Display) -> Self {
        Self::new(Cause::Malformed, what)
    }

    /// The message would be larger than `max_message_size`.
    pub(crate) fn is_too_large(&self) -> bool {
        self.0.cause == Cause::TooLarge
    }

    /// The bytes are not what [`check()`] lets through, or not UTF-8: the peer's fault, whatever type was asked for.
    pub(crate) fn is_malformed(&self) -> bool {
        self.0.cause == Cause::Malformed
    }

    /// Paths grow from the inside out, while the error returns: nothing is tracked as long as all goes well.
    #[cold]
    fn within(mut self, outer: &str) -> Self {
        self.0.path.insert_str(0, outer);
        self
    }

    #[cold]
    fn noted(mut self, note: &str) -> Self {
        self.0.what = format!("{note}: {}", self.0.what);
        self
    }

    #[cold]
    fn at_index(self, index: impl Display) -> Self {
        self.within(&format!("[{index}]"))
    }

    #[cold]
    fn at_key(self, key: &str) -> Self {
        let mut outer = String::new();
        push_key(&mut outer, key);
        self.within(&outer)
    }
}

impl Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.path.is_empty() {
            write!(f, "{}: ", self.0.path)?;
        }
        f.write_str(&self.0.what)
    }
}

impl std::error::Error for ValueError {}

impl serde::ser::Error for ValueError {
    fn custom<T: Display>(what: T) -> Self {
        Self::unfit(what)
    }
}

impl serde::de::Error for ValueError {
    fn custom<T: Display>(what: T) -> Self {
        Self::unfit(what)
    }

    fn invalid_type(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        match found {
            serde::de::Unexpected::Unit => Self::unfit(format_args!("invalid type: null, expected {expected}")),
            found => Self::unfit(format_args!("invalid type: {found}, expected {expected}")),
        }
    }
}

/// Appends one step of a path: `.name`, or `["any text"]` cut to a readable length.
fn push_key(path: &mut String, key: &str) {
    const SHOWN: usize = 64;
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let _ = if key.len() <= SHOWN && key.starts_with(|c: char| c.is_alphabetic() || c == '_') && key.chars().all(plain)
    {
        write!(path, ".{key}")
    } else if key.len() <= SHOWN {
        write!(path, "[{key:?}]")
    } else {
        write!(path, "[{:?}…]", cut(key, SHOWN))
    };
}

/// The longest start of `text` of at most `max` bytes that ends between two characters.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

struct Clip {
    text: String,
    full: bool,
}

impl fmt::Write for Clip {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let fits = cut(part, MAX_QUOTED - self.text.len().min(MAX_QUOTED));
        self.text.push_str(fits);
        self.full |= fits.len() < part.len();
        if self.full { Err(fmt::Error) } else { Ok(()) }
    }
}
