//! Records of one size in the region of a lane: for each a place for its bytes and a 64-bit word that publishes it.
//!
//! Nothing here can panic, allocate or loop without a bound that is ours: lanes are used by threads that must not wait.
//! What the peer may change meanwhile: every word and every byte, at any time. Bytes enter and leave by copies that the
//! compiler cannot look into; [`Slots::pointer`] gives an address to those who trust their peer.
#![allow(unsafe_code)]

use crate::region::{OutOfRegion, Region};
use crate::sync::{Arc, AtomicU64};

/// Where the slots lie, in bytes from the beginning of the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotPlace {
    pub(crate) data: usize,
    /// From the bytes of one record to those of the next; a multiple of 8.
    pub(crate) stride: usize,
    /// Room for the bytes of a record.
    pub(crate) size: usize,
    pub(crate) words: usize,
    /// From one record's word to the next one's; a multiple of 8.
    pub(crate) word_stride: usize,
    pub(crate) count: usize,
}

#[cfg(not(loom))]
mod storage {
    use super::*;
    use crate::region::before_access;
    use std::ptr::NonNull;

    /// The slots of one direction of a lane.
    pub(crate) struct Slots {
        data: NonNull<u8>,
        words: NonNull<u8>,
        place: SlotPlace,
        _region: Arc<Region>,
    }

    // SAFETY: reached through atomics and opaque copies only; the region it keeps alive is `Sync`.
    unsafe impl Send for Slots {}
    // SAFETY: as above.
    unsafe impl Sync for Slots {}

    impl Slots {
        /// Checks once that all of them lie in the region, aligned: everything below relies on it.
        pub(crate) fn new(region: &Arc<Region>, place: SlotPlace) -> Result<Self, OutOfRegion> {
            let last = place.count.saturating_sub(1);
            let end = |stride: usize, size: usize| last.checked_mul(stride).and_then(|at| at.checked_add(size));
            let is_sound = place.count > 0 && place.stride.is_multiple_of(8) && place.word_stride.is_multiple_of(8);
            let bytes = |stride, size| end(stride, size).filter(|_| is_sound).unwrap_or(usize::MAX);
            let data = region.start_of(place.data, bytes(place.stride, place.size), 8)?;
            let words = region.start_of(place.words, bytes(place.word_stride, 8), 8)?;
            Ok(Self { data, words, place, _region: region.clone() })
        }

        /// Their number, at least 1.
        #[inline(always)]
        pub(crate) fn count(&self) -> usize {
            self.place.count
        }

        /// Room for the bytes of one.
        #[inline(always)]
        pub(crate) fn size(&self) -> usize {
            self.place.size
        }

        /// One that is there, whatever was asked for: no caller asks for another, and this costs less than a panic's path.
        #[inline(always)]
        fn inside(&self, index: usize) -> usize {
            if index < self.place.count { index } else { 0 }
        }

        /// A slot, for those who do more than one thing with it.
        #[inline(always)]
        pub(crate) fn at(&self, index: usize) -> Slot<'_> {
            let index = self.inside(index);
            // SAFETY: `new` has checked that the bytes and the word of each index below `count` lie in the region.
            unsafe {
                let data = self.data.add(index * self.place.stride);
                let word = self.words.add(index * self.place.word_stride).cast();
                Slot { data, word, place: &self.place }
            }
        }

        /// The word that publishes a slot.
        #[inline(always)]
        pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
            self.at(index).word()
        }

        /// Where the bytes of a slot begin. The peer may write there at any time.
        #[inline(always)]
        pub(crate) fn pointer(&self, index: usize) -> NonNull<u8> {
            // SAFETY: `new` has checked that the bytes of each index below `count` lie in the region.
            unsafe { self.data.add(self.inside(index) * self.place.stride) }
        }

        /// Asks for the line of a record's first bytes: who polls the word of a record that is to come does so, and both lines
        /// travel at once.
        #[inline(always)]
        pub(crate) fn prefetch(&self, index: usize) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a prefetch never faults.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T0>(self.pointer(index).as_ptr().cast());
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = index;
        }

        /// Whether `len` bytes have room at the offset `at` of a slot.
        #[inline(always)]
        pub(crate) fn has_room(&self, at: usize, len: usize) -> bool {
            at <= self.place.size && len <= self.place.size - at
        }

        /// Copies `bytes` to the offset `at` of a slot; what has no room there is left out.
        #[inline(always)]
        pub(crate) fn write(&self, index: usize, at: usize, bytes: &[u8]) {
            self.at(index).write(at, bytes);
        }

        /// Copies from the offset `at` of a slot as much as `bytes` has room for and the slot has.
        #[inline(always)]
        pub(crate) fn read(&self, index: usize, at: usize, bytes: &mut [u8]) {
            if at > self.place.size || bytes.len() > self.place.size - at {
                return self.read_part(index, at, bytes);
            }
            // SAFETY: the target is a live slice of ours; the source lies in the slot as in `write`.
            unsafe {
                let from = self.pointer(index).add(at).as_ptr();
                before_access(from as usize, bytes.len());
                copy(bytes.as_mut_ptr(), from, bytes.len());
            }
        }

        #[cold]
        #[inline(never)]
        fn read_part(&self, index: usize, at: usize, bytes: &mut [u8]) {
            if let Some(bytes) = self.place.size.checked_sub(at).and_then(|room| bytes.get_mut(..room)) {
                self.read(index, at, bytes);
            }
        }
    }

    /// One of the [`Slots`], which it borrows.
    #[derive(Clone, Copy)]
    pub(crate) struct Slot<'a> {
        data: NonNull<u8>,
        word: NonNull<AtomicU64>,
        place: &'a SlotPlace,
    }

    impl<'a> Slot<'a> {
        /// The word that publishes it.
        #[inline(always)]
        pub(crate) fn word(self) -> &'a AtomicU64 {
            before_access(self.word.as_ptr() as usize, 8);
            // SAFETY: `Slots::at`, which alone makes a `Slot`, has it from inside the region, and `Slots::new` has checked that it
            // is aligned to 8; an atomic, so the peer's writes are no data race; the region lives as long as the slots.
            unsafe { self.word.as_ref() }
        }

        /// Copies `bytes` to the offset `at`; what has no room there is left out.
        #[inline(always)]
        pub(crate) fn write(self, at: usize, bytes: &[u8]) {
            let size = self.place.size;
            if at > size || bytes.len() > size - at {
                // SAFETY: as below.
                return unsafe { write_part(self.data, size, at, bytes) };
            }
            // SAFETY: the source is a live slice; the target, as many bytes from `at` on, lies in the slot by the lines above,
            // and the slot in the region by `Slots::new`, which lives as long as the slots; private memory and region do not
            // overlap. The length is as constant as the caller's, so that the copy is made for it.
            unsafe { copy(self.data.add(at).as_ptr(), bytes.as_ptr(), bytes.len()) }
        }

        /// Asks for the line of the first bytes of the slot that is `ahead` of this one, whose index is `index`, to write there;
        /// and for that of its word where one begins.
        #[inline(always)]
        pub(crate) fn prefetch_to_write(self, ahead: usize, index: usize) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a prefetch never faults, wherever it points, and changes nothing.
            unsafe {
                use std::arch::asm;
                let data = self.data.as_ptr().wrapping_add(ahead * self.place.stride);
                asm!("prefetchw [{}]", in(reg) data, options(readonly, nostack, preserves_flags));
                if index.is_multiple_of(WORDS) {
                    let word = self.word.as_ptr().wrapping_byte_add(ahead * self.place.word_stride);
                    asm!("prefetchw [{}]", in(reg) word, options(readonly, nostack, preserves_flags));
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = (ahead, index);
        }
    }

    /// Words of a line, where they do not lie behind the bytes.
    #[cfg(target_arch = "x86_64")]
    const WORDS: usize = 8;

    /// As much of `bytes` as has room behind `at` is copied there. Takes no `Slot`: who calls would have to keep one in memory.
    ///
    /// # Safety
    /// `size` bytes are writable from `data` on, and no part of `bytes`.
    #[cold]
    #[inline(never)]
    unsafe fn write_part(data: NonNull<u8>, size: usize, at: usize, bytes: &[u8]) {
        if let Some(bytes) = size.checked_sub(at).and_then(|room| bytes.get(..room)) {
            // SAFETY: `at` and the length are at most `size` together.
            unsafe { copy(data.add(at).as_ptr(), bytes.as_ptr(), bytes.len()) }
        }
    }

    /// From here on one instruction for the whole copy is as fast as a loop; it takes 10 ns to begin.
    #[cfg(target_arch = "x86_64")]
    const BLOCK: usize = 2048;

    /// Copies in a way that the compiler cannot look into, so that a peer that writes meanwhile gives mixed bytes and nothing
    /// worse.
    ///
    /// # Safety
    /// `from` readable and `to` writable for `len` bytes, not overlapping.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
        use std::arch::asm;
        // SAFETY: every access below lies in the `len` bytes of the caller's contract: whole units from the front, and a last
        // one that ends with them. Memory counts as changed because `nomem` is not said, so no store moves across.
        unsafe {
            if len >= BLOCK {
                asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
                    options(nostack, preserves_flags));
            } else if len >= 16 {
                let mut at = 0;
                while at + 64 <= len {
                    asm!("movups {a}, [{f}]", "movups {b}, [{f} + 16]", "movups {c}, [{f} + 32]", "movups {d}, [{f} + 48]",
                        "movups [{t}], {a}", "movups [{t} + 16], {b}", "movups [{t} + 32], {c}", "movups [{t} + 48], {d}",
                        a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                        f = in(reg) from.add(at), t = in(reg) to.add(at), options(nostack, preserves_flags));
                    at += 64;
                }
                while at + 16 <= len {
                    asm!("movups {a}, [{f}]", "movups [{t}], {a}", a = out(xmm_reg) _, f = in(reg) from.add(at),
                        t = in(reg) to.add(at), options(nostack, preserves_flags));
                    at += 16;
                }
                if at < len {
                    let last = len - 16;
                    asm!("movups {a}, [{f}]", "movups [{t}], {a}", a = out(xmm_reg) _, f = in(reg) from.add(last),
                        t = in(reg) to.add(last), options(nostack, preserves_flags));
                }
            } else if len >= 8 {
                let last = len - 8;
                asm!("mov {a}, [{f}]", "mov {b}, [{f} + {last}]", "mov [{t}], {a}", "mov [{t} + {last}], {b}",
                    a = out(reg) _, b = out(reg) _, f = in(reg) from, t = in(reg) to, last = in(reg) last,
                    options(nostack, preserves_flags));
            } else {
                let mut at = 0;
                while at < len {
                    asm!("mov {a}, [{f}]", "mov [{t}], {a}", a = out(reg_byte) _, f = in(reg) from.add(at),
                        t = in(reg) to.add(at), options(nostack, preserves_flags));
                    at += 1;
                }
            }
        }
    }

    /// As on x86-64, by atomic accesses: words where both sides are aligned, else bytes.
    ///
    /// # Safety
    /// As on x86-64.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
        use std::sync::atomic::{AtomicU8, Ordering};
        let words = if (to as usize | from as usize) % 8 == 0 { len / 8 * 8 } else { 0 };
        // SAFETY: inside the `len` bytes of the caller's contract, aligned, and atomic on both sides.
        unsafe {
            let mut at = 0;
            while at < words {
                let word = AtomicU64::from_ptr(from.add(at).cast_mut().cast()).load(Ordering::Relaxed);
                AtomicU64::from_ptr(to.add(at).cast()).store(word, Ordering::Relaxed);
                at += 8;
            }
            while at < len {
                let byte = AtomicU8::from_ptr(from.add(at).cast_mut()).load(Ordering::Relaxed);
                AtomicU8::from_ptr(to.add(at)).store(byte, Ordering::Relaxed);
                at += 1;
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_length_and_alignment_is_copied_and_nothing_beside_it() {
            let source: Vec<u8> = (0..2600u32).map(|at| (at % 251) as u8 + 1).collect();
            for len in (0..=200).chain([255, 256, 511, 512, 513, 1000, 2047, 2048, 2049, 2400]) {
                for shift in 0..17 {
                    let mut target = vec![0u8; 2600];
                    // SAFETY: both are live, and `len` bytes from `shift` on lie in them.
                    unsafe { copy(target.as_mut_ptr().add(shift), source.as_ptr().add(16 - shift), len) };
                    assert_eq!(target[shift..shift + len], source[16 - shift..][..len], "{len} at {shift}");
                    let beside = target[..shift].iter().chain(&target[shift + len..]);
                    assert!(beside.copied().all(|byte| byte == 0), "{len} at {shift}");
                }
            }
        }

        #[test]
        fn slots_that_do_not_lie_in_the_region_are_refused() {
            let region = Region::in_process(4096);
            let good = SlotPlace { data: 0, stride: 64, size: 64, words: 2048, word_stride: 8, count: 32 };
            assert!(Slots::new(&region, good).is_ok());
            let with = |change: fn(&mut SlotPlace)| {
                let mut bad = good;
                change(&mut bad);
                Slots::new(&region, bad).is_err()
            };
            assert!(with(|p| p.count = 0));
            assert!(with(|p| p.count = 65));
            assert!(with(|p| p.count = usize::MAX));
            assert!(with(|p| p.stride = usize::MAX - 7));
            assert!(with(|p| p.stride = 12));
            assert!(with(|p| p.word_stride = 4));
            assert!(with(|p| p.size = 4096));
            assert!(with(|p| p.data = 4));
            assert!(with(|p| p.words = 4096));
            assert!(with(|p| p.words = usize::MAX - 7));
        }

        #[test]
        fn more_than_a_slot_has_room_for_is_left_out() {
            let region = Region::in_process(256);
            let place = SlotPlace { data: 0, stride: 16, size: 12, words: 128, word_stride: 8, count: 2 };
            let slots = Slots::new(&region, place).expect("fits");
            slots.write(0, 4, &[7; 40]);
            slots.write(0, 400, &[9; 4]);
            let mut all = [1; 16];
            slots.read(0, 0, &mut all);
            assert_eq!(all, [0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7, 1, 1, 1, 1]);
            let mut next = [1; 12];
            slots.read(1, 0, &mut next);
            assert_eq!(next, [0; 12]);
            assert_eq!(slots.pointer(5), slots.pointer(0));
        }
    }
}

#[cfg(loom)]
mod storage {
    use super::*;
    use crate::sync::Ordering;
    use loom::cell::UnsafeCell;

    /// As loom sees them: the bytes of a record are one value, whose reads and writes must be ordered.
    pub(crate) struct Slots {
        slots: Arc<Vec<(AtomicU64, UnsafeCell<u64>)>>,
        size: usize,
    }

    // SAFETY: loom objects to each access of a cell that is not ordered.
    unsafe impl Send for Slots {}
    // SAFETY: as above.
    unsafe impl Sync for Slots {}

    impl Clone for Slots {
        fn clone(&self) -> Self {
            Self { slots: self.slots.clone(), size: self.size }
        }
    }

    impl Slots {
        pub(crate) fn model(count: usize) -> Self {
            let slots = (0..count).map(|_| (AtomicU64::new(0), UnsafeCell::new(0))).collect();
            Self { slots: Arc::new(slots), size: 8 }
        }

        pub(crate) fn count(&self) -> usize {
            self.slots.len()
        }

        pub(crate) fn size(&self) -> usize {
            self.size
        }

        pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
            &self.slots[index].0
        }

        pub(crate) fn prefetch(&self, _index: usize) {}

        pub(crate) fn at(&self, index: usize) -> Slot<'_> {
            Slot(&self.slots[index])
        }

        pub(crate) fn write(&self, index: usize, at: usize, bytes: &[u8]) {
            self.at(index).write(at, bytes);
        }

        pub(crate) fn read(&self, index: usize, _at: usize, bytes: &mut [u8]) {
            // SAFETY: as above.
            let value = self.slots[index].1.with(|cell| unsafe { *cell });
            bytes.copy_from_slice(&value.to_ne_bytes());
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Slot<'a>(&'a (AtomicU64, UnsafeCell<u64>));

    impl<'a> Slot<'a> {
        pub(crate) fn word(self) -> &'a AtomicU64 {
            &self.0.0
        }

        pub(crate) fn write(self, _at: usize, bytes: &[u8]) {
            let value = u64::from_ne_bytes(bytes.try_into().expect("8 bytes"));
            // SAFETY: loom checks that nobody else is there.
            self.0.1.with_mut(|cell| unsafe { *cell = value });
        }

        pub(crate) fn prefetch_to_write(self, _ahead: usize, _index: usize) {}
    }
}

pub(crate) use storage::{Slot, Slots};
