//! What must hold of any bytes: the properties that the fuzz targets of `fuzz/` and the ordinary tests share. Part of no
//! other build.
//!
//! Each takes its input apart by itself, so that a seed, a corpus and a finding are plain files and every mutation of one is
//! an input again. A property that does not hold panics.

mod json;
mod machine;
mod ring;
#[cfg(test)]
mod tests;
mod wire;

pub use json::json;
pub use machine::machine;
pub use ring::ring;
pub use wire::wire;

use crate::wire::Limits;

/// What is left of an input. What lies behind the end reads as 0, so that every input is a whole one.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.bytes(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.u8()) % n
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The limits that a byte stands for; 0 for the usual ones.
fn limits(choice: u8) -> Limits {
    let pick = |shift: u8| usize::from(choice >> shift & 3);
    Limits {
        max_depth: [128, 1, 2, 5][pick(0)],
        max_values: [1_000_000, 1, 5, 20][pick(2)],
        max_text: [65_536, 1, 4, 30][pick(4)],
        max_message_size: [64 << 20, 1024, 1500, 4096][pick(6)],
    }
}
