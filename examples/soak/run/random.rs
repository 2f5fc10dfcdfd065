//! Decisions that come from the seed: splitmix64.

/// Numbers that depend on the seed alone.
pub(crate) struct Random(u64);

impl Random {
    /// One for each thread, from the run's seed and what tells the thread from the others.
    pub(crate) fn new(of: &[u64]) -> Self {
        Self(mix(of))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// A number below `most`, which is not 0. Slightly biased: it does not matter here.
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    /// A number of this range, both ends included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// True in so many of a thousand cases.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len() as u64) as usize) }
    }
}

/// One number that depends on all of these and on their order.
pub(crate) fn mix(of: &[u64]) -> u64 {
    of.iter().fold(0x5eed, |sum, value| scramble(sum ^ value.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn scramble(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
