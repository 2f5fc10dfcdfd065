//! A peer that writes what it likes into all of a lane's memory, found by its mappings; and valgrind's client requests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Values for every word: flags, lengths that may and may not be, positions, slots.
pub(crate) const VALUES: &[u64] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8 << 1,
    8 << 1 | 1,
    64 << 1 | 1,
    256 << 1 | 1,
    1000 << 1 | 1,
    4096 << 1 | 1,
    4097 << 1 | 1,
    9 << 32 | 4096 << 1 | 1,
    u32::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Where the first of the words lies: behind the mark of the format, which is looked at once.
const WORDS: usize = 128;

/// The lanes mapped by this process: where each begins, and its bytes.
pub(crate) fn mappings() -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the mappings");
    let lanes = maps.lines().filter(|line| line.contains("ringmain-lane"));
    let range = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        Some((address(start)?, address(end)? - address(start)?))
    };
    lanes.map(|line| range(line).expect("two addresses")).collect()
}

/// Who can write to a lane.
pub(crate) struct Peer {
    start: usize,
    bytes: usize,
}

impl Peer {
    /// Of the lane that was opened since.
    pub(crate) fn of_what_is_new(before: &[(usize, usize)]) -> Self {
        // Two neighbours may be shown as one: either is the same memory twice.
        let is_new = |mapping: &(usize, usize)| !before.contains(mapping);
        let (start, bytes) = mappings().into_iter().find(is_new).expect("a new lane");
        Self { start, bytes }
    }

    pub(crate) fn writes_everywhere(&self, value: u64) {
        for at in (WORDS..self.bytes).step_by(8) {
            // SAFETY: an aligned address in a mapping of shared memory, which lives as long as the ends that the caller has;
            // atomic, as all of the library's accesses.
            unsafe { AtomicU64::from_ptr((self.start + at) as *mut u64) }.store(value, Ordering::Relaxed);
        }
    }
}

const ZERO_COUNTS: usize = 0x4354_0001;
const WRITE_COUNTS: usize = 0x4354_0003;

/// Asks valgrind; without it nothing happens.
#[cfg(target_arch = "x86_64")]
fn ask(request: usize, argument: usize) {
    let arguments = [request, argument, 0, 0, 0, 0];
    // SAFETY: rotations that add up to none, and an exchange with itself: valgrind alone sees more in it, and reads the array.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            inout("rdx") 0_usize => _, in("rax") arguments.as_ptr(), inout("rdi") 0_usize => _,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn ask(_request: usize, _argument: usize) {
    panic!("instructions are counted on x86-64 alone");
}

/// What is counted from here on is counted from 0.
pub(crate) fn zero_counts() {
    ask(ZERO_COUNTS, 0);
}

/// Writes what was counted to a file of its own, under this name.
pub(crate) fn write_counts(name: &str) {
    let name = std::ffi::CString::new(name).expect("no zero");
    ask(WRITE_COUNTS, name.as_ptr() as usize);
}
