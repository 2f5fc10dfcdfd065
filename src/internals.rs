//! Parts of the inside, for this crate's own benches. No promise holds for anything here.

use crate::layout::Layout;
use crate::region::{Region, Word32};
use crate::ring::{Kind, Reader, Writer};
use crate::sys;
use crate::wire::{self, Limits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU32;

/// The sending end of a bare ring inside this process.
pub struct RingWriter(Writer);

/// The receiving end of a bare ring inside this process.
pub struct RingReader(Reader);

/// A bare ring of `bytes`, both ends in this process.
pub fn ring(bytes: usize) -> (RingWriter, RingReader) {
    let layout = Layout::new(bytes, 0);
    let region = Region::in_process(layout.region);
    let place = layout.to_main;
    let head = layout.block(false) + crate::layout::direction::HEAD;
    let words = || region.words(place.offset, place.words).expect("a layout of our own lies in its region");
    let head = || region.word64(head).expect("a layout of our own lies in its region");
    (RingWriter(Writer::new(words(), head())), RingReader(Reader::new(words(), head())))
}

impl RingWriter {
    /// Writes one record; false: no room.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        match self.0.reserve(bytes.len()) {
            Ok(mut record) => {
                record.write(0, bytes);
                record.commit(Kind::Whole);
                true
            }
            Err(_) => false,
        }
    }
}

impl RingReader {
    /// Reads one record into `bytes`, whose content is replaced; false: none is there.
    #[inline]
    pub fn pop(&mut self, bytes: &mut Vec<u8>) -> bool {
        let Ok(Some(record)) = self.0.peek() else {
            self.0.publish();
            return false;
        };
        bytes.clear();
        self.0.append_to(record, 0, bytes);
        self.0.release(record);
        true
    }
}

/// Bytes of the memory of shared words.
const PAGE: usize = 4096;

/// A word that two processes share.
pub struct SharedWord(Word32);

impl Deref for SharedWord {
    type Target = AtomicU32;

    #[inline]
    fn deref(&self) -> &AtomicU32 {
        &self.0
    }
}

/// Memory for [`shared_words`], to be handed to another process.
pub fn shared_memory() -> io::Result<OwnedFd> {
    sys::create_sealed_memory("ringmain-bench", PAGE, &[0..PAGE])
}

/// Two words on lines of their own in such memory.
pub fn shared_words(memory: impl AsFd) -> io::Result<[SharedWord; 2]> {
    sys::check_sealed(&memory, PAGE).map_err(io::Error::other)?;
    let region = Region::mapped(sys::Mapping::map(&memory, PAGE, &[0..PAGE])?);
    Ok([0, 128].map(|offset| SharedWord(region.word32(offset).expect("a word inside the page"))))
}

/// Encodes a value as a message's payload.
pub fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    wire::encode_value(value, out, &Limits::default()).expect("a value that can travel");
}

/// Checks a payload.
pub fn check(payload: &[u8]) -> bool {
    wire::check(payload, &Limits::default(), false).is_ok()
}

/// Decodes a checked payload.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> T {
    wire::decode_value(payload).expect("a value of this type")
}
