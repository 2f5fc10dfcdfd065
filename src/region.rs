//! One mapping that two processes share, seen as words.
//!
//! Nothing here makes a reference into the mapping except to atomics, and every address keeps one access width for
//! ever: ring words and cursors are 64-bit, futex words 32-bit. Bytes enter and leave through [`Words::write`] and
//! [`Words::read`] alone. What the peer may change meanwhile: every word of the mapping, at any time; so nothing above
//! looks at a word twice.
//!
//! Two kinds: a mapping (of a sealed memfd, or of a named POSIX object for peers that trust each other: that cannot be
//! sealed, a peer that truncates it kills this process by SIGBUS), and a vector of words (both ends in one process, and
//! loom).
#![allow(unsafe_code)]

use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering};
use std::mem::MaybeUninit;
use std::ops::Deref;
#[cfg(not(loom))]
use std::ops::Range;

/// Size of one ring word in bytes.
pub(crate) const WORD: usize = 8;

/// Above this many bytes an opaque block copy is used instead of relaxed word accesses: the design's choice, from its
/// measurement of both (equal at 64 B, relaxed words twice as slow at 4 KiB and more).
const BLOCK_COPY_FROM: usize = 256;

/// A part of a region was asked for that does not lie in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutOfRegion {
    offset: usize,
    bytes: usize,
    align: usize,
    region: usize,
}

impl std::fmt::Display for OutOfRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} bytes at offset {} (alignment {}) do not lie in a region of {} bytes",
            self.bytes, self.offset, self.align, self.region
        )
    }
}

impl std::error::Error for OutOfRegion {}

fn check(offset: usize, bytes: usize, align: usize, region: usize) -> Result<usize, OutOfRegion> {
    match offset.checked_add(bytes) {
        Some(end) if end <= region && offset.is_multiple_of(align) => Ok(offset),
        _ => Err(OutOfRegion { offset, bytes, align, region }),
    }
}

/// Test support: what a peer does between two accesses of ours.
#[cfg(all(not(loom), any(test, fuzzing)))]
pub(crate) mod meanwhile {
    use std::cell::RefCell;

    /// Told the address and the bytes that are about to be looked at.
    type Peer = Box<dyn FnMut(usize, usize)>;

    thread_local! {
        static PEER: RefCell<Option<Peer>> = const { RefCell::new(None) };
    }

    /// As long as it lives, this thread's accesses to shared words are preceded by the peer's.
    pub(crate) struct Meanwhile(());

    impl Meanwhile {
        pub(crate) fn does(peer: impl FnMut(usize, usize) + 'static) -> Self {
            PEER.set(Some(Box::new(peer)));
            Self(())
        }
    }

    /// Lets the peer act before each access of `during`.
    #[cfg(test)]
    pub(crate) fn while_it<T>(peer: impl FnMut(usize, usize) + 'static, during: impl FnOnce() -> T) -> T {
        let _meanwhile = Meanwhile::does(peer);
        during()
    }

    impl Drop for Meanwhile {
        fn drop(&mut self) {
            PEER.set(None);
        }
    }

    /// Before each access. The peer's own are not preceded by anything.
    #[inline]
    pub(super) fn step(address: usize, bytes: usize) {
        // A thread that ends has none any more.
        if let Ok(Some(mut peer)) = PEER.try_with(RefCell::take) {
            peer(address, bytes);
            PEER.set(Some(peer));
        }
    }
}

#[cfg(not(loom))]
mod storage {
    use super::*;
    use std::ptr::NonNull;

    enum Storage {
        Mapped(crate::sys::Mapping),
        /// Leaked: a box would claim to be the only way to its words each time that it is moved.
        Words(NonNull<[AtomicU64]>),
    }

    impl Drop for Storage {
        fn drop(&mut self) {
            if let Storage::Words(words) = self {
                // SAFETY: it was leaked by `in_process`, and whoever reaches the words keeps this alive.
                drop(unsafe { Box::from_raw(words.as_ptr()) });
            }
        }
    }

    /// A mapping shared with one peer; unmapped when the last word of it is dropped.
    pub(crate) struct Region {
        base: NonNull<u8>,
        len: usize,
        storage: Storage,
    }

    // SAFETY: the memory behind `base` lives as long as `storage` and is reached through atomics and raw copies only; a
    // `Mapping` is `Sync`.
    unsafe impl Send for Region {}
    // SAFETY: as above; `&Region` gives out nothing but atomics and checked copies.
    unsafe impl Sync for Region {}

    impl Region {
        /// A region over a mapped descriptor.
        pub(crate) fn mapped(mapping: crate::sys::Mapping) -> Arc<Self> {
            Arc::new(Self { base: mapping.as_ptr(), len: mapping.len(), storage: Storage::Mapped(mapping) })
        }

        /// A region of `len` bytes (rounded up to words) inside this process, zeroed.
        pub(crate) fn in_process(len: usize) -> Arc<Self> {
            let words: Box<[AtomicU64]> = (0..len.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect();
            let words = NonNull::from(Box::leak(words));
            Arc::new(Self { base: words.cast(), len: words.len() * WORD, storage: Storage::Words(words) })
        }

        /// Gives memory to a range of bytes, which must lie inside. False: there is none, and what is there is as it was.
        fn populate(&self, range: Range<usize>) -> bool {
            if matches!(self.storage, Storage::Words(_)) {
                return true;
            }
            debug_assert!(range.start <= range.end && range.end <= self.len);
            // SAFETY: the range lies in the mapping, which begins at a page and which `storage` keeps.
            unsafe { crate::sys::populate(self.base.add(range.start), range.len()) }.is_ok()
        }

        /// Keeps all of it in memory.
        pub(crate) fn lock(&self) -> std::io::Result<()> {
            match &self.storage {
                Storage::Mapped(mapping) => mapping.lock(),
                Storage::Words(_) => Ok(()),
            }
        }

        /// Makes every page of it exist in this process's tables.
        pub(crate) fn prefault(&self) {
            // Older kernels: touched one by one. To add nothing takes nothing away of what the peer writes.
            if !self.populate(0..self.len) {
                for page in (0..self.len).step_by(4096) {
                    // SAFETY: the address lies in the region and is aligned; the addition is atomic.
                    unsafe { self.base.add(page).cast::<AtomicU64>().as_ref() }.fetch_add(0, Ordering::Relaxed);
                }
            }
        }

        /// Gives mapped memory back though there are words of it: from now on they are this process's own and 0. For a
        /// link that is over, of which somebody keeps a handle.
        pub(crate) fn forget(&self) {
            match &self.storage {
                Storage::Mapped(mapping) => mapping.replace_by_zeros(),
                Storage::Words(_) => {}
            }
        }

        /// Where `bytes` bytes at an offset begin, which lie in the region and are aligned to `align`.
        pub(crate) fn start_of(&self, offset: usize, bytes: usize, align: usize) -> Result<NonNull<u8>, OutOfRegion> {
            let offset = check(offset, bytes, align, self.len)?;
            // SAFETY: in bounds by `check`; the result stays inside the allocation.
            Ok(unsafe { self.base.add(offset) })
        }

        /// The 32-bit word at a byte offset.
        pub(crate) fn word32(self: &Arc<Self>, offset: usize) -> Result<Word32, OutOfRegion> {
            let offset = check(offset, 4, 4, self.len)?;
            // SAFETY: in bounds by `check`; the result stays inside the allocation.
            let pointer = unsafe { self.base.add(offset) }.cast();
            Ok(Word { pointer, _region: self.clone() })
        }

        /// The 64-bit word at a byte offset.
        pub(crate) fn word64(self: &Arc<Self>, offset: usize) -> Result<Word64, OutOfRegion> {
            let offset = check(offset, 8, 8, self.len)?;
            // SAFETY: in bounds by `check`; the result stays inside the allocation.
            let pointer = unsafe { self.base.add(offset) }.cast();
            Ok(Word { pointer, _region: self.clone() })
        }

        /// `count` 64-bit words from a byte offset on; `count` must be a power of two.
        pub(crate) fn words(self: &Arc<Self>, offset: usize, count: usize) -> Result<Words, OutOfRegion> {
            let bytes = count.checked_mul(WORD).filter(|_| count.is_power_of_two()).unwrap_or(usize::MAX);
            let offset = check(offset, bytes, 8, self.len)?;
            // SAFETY: in bounds by `check`; the result stays inside the allocation.
            let base = unsafe { self.base.add(offset) }.cast();
            Ok(Words { base, mask: count - 1, _region: self.clone() })
        }
    }

    /// One atomic word of a region.
    pub(crate) struct Word<T> {
        pointer: NonNull<T>,
        _region: Arc<Region>,
    }

    // SAFETY: gives out `&T` alone, and `T` is an atomic; the region it keeps alive is `Sync`.
    unsafe impl<T: Sync> Send for Word<T> {}
    // SAFETY: as above.
    unsafe impl<T: Sync> Sync for Word<T> {}

    impl<T> Deref for Word<T> {
        type Target = T;

        #[inline(always)]
        fn deref(&self) -> &T {
            before_access(self.pointer.as_ptr() as usize, size_of::<T>());
            // SAFETY: bounds and alignment were checked when the word was made; `T` is `AtomicU32` or `AtomicU64`, so
            // that concurrent writes by the peer are no data race; `_region` keeps the mapping alive.
            unsafe { self.pointer.as_ref() }
        }
    }

    impl<T> Clone for Word<T> {
        fn clone(&self) -> Self {
            Self { pointer: self.pointer, _region: self._region.clone() }
        }
    }

    /// The words of a ring: a power of two of them, so that a masked index is always inside.
    pub(crate) struct Words {
        base: NonNull<AtomicU64>,
        mask: usize,
        _region: Arc<Region>,
    }

    // SAFETY: reached through atomics and raw copies only; the region it keeps alive is `Sync`.
    unsafe impl Send for Words {}
    // SAFETY: as above.
    unsafe impl Sync for Words {}

    impl Words {
        /// Number of words.
        #[inline(always)]
        pub(crate) fn len(&self) -> usize {
            self.mask + 1
        }

        /// Gives memory to the words from `from` up to `to`, which must not be larger than their number. False: there is
        /// none.
        pub(crate) fn populate(&self, from: usize, to: usize) -> bool {
            assert!(from <= to && to <= self.len());
            let offset = self.base.as_ptr() as usize - self._region.base.as_ptr() as usize;
            self._region.populate(offset + from * WORD..offset + to * WORD)
        }

        /// The word at a position, taken modulo the number of words.
        #[inline(always)]
        pub(crate) fn at(&self, position: u64) -> &AtomicU64 {
            before_access(self.base.as_ptr() as usize + (position as usize & self.mask) * WORD, WORD);
            // SAFETY: the masked index is below `len`, whose bytes were checked to lie in the region; aligned to 8; an
            // atomic, so the peer's writes are no data race; the region lives as long as `self`.
            unsafe { self.base.add(position as usize & self.mask).as_ref() }
        }

        /// Asks for the line behind the one of a position: a hint, which changes nothing.
        #[inline(always)]
        pub(crate) fn prefetch_behind(&self, position: u64) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a prefetch never faults, and the address lies in the words.
            unsafe {
                let next = self.base.add((position as usize + LINE / WORD) & self.mask);
                std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(next.as_ptr().cast());
            }
            let _ = position;
        }

        /// Copies `bytes` into the words from `position` on, which must not run over the end. The last word is
        /// filled up with zeros.
        ///
        /// From the end to the beginning: a reader polls the record's word in the line that the record begins in, and would
        /// take that line away half-way if it were written before the others, whose first store waits for their lines.
        #[inline]
        pub(crate) fn write(&self, position: u64, bytes: &[u8]) {
            let first = position as usize & self.mask;
            assert!(bytes.len().div_ceil(WORD) <= self.len() - first, "a record never wraps");
            let whole = bytes.len() / WORD;
            let rest = bytes.len() % WORD;
            if rest != 0 {
                let word = match bytes.last_chunk() {
                    // The last eight bytes, of which those before the rest are shifted out.
                    Some(last) => u64::from_le_bytes(*last) >> (8 * (WORD - rest)),
                    None => {
                        let mut last = [0; WORD];
                        last[..rest].copy_from_slice(bytes);
                        u64::from_le_bytes(last)
                    }
                };
                self.at((first + whole) as u64).store(word.to_le(), Ordering::Relaxed);
            }
            let mut front = &bytes[..whole * WORD];
            if bytes.len() > BLOCK_COPY_FROM && HAS_BLOCK_COPY {
                let back;
                (front, back) = front.split_at(LINE);
                // SAFETY: the source is a part of a live slice; the target, as long and as far behind `first`, lies in
                // the words by the assertion above; private memory and region do not overlap; the copy is opaque to the
                // compiler.
                unsafe {
                    block_copy(self.base.add(first + LINE / WORD).as_ptr().cast(), back.as_ptr(), back.len());
                }
            }
            for (index, chunk) in front.chunks_exact(WORD).enumerate().rev() {
                let word = u64::from_ne_bytes(chunk.try_into().expect("8 bytes"));
                self.at((first + index) as u64).store(word, Ordering::Relaxed);
            }
        }

        /// Copies words from `position` on into `bytes`; they must not run over the end.
        #[inline]
        pub(crate) fn read(&self, position: u64, bytes: &mut [MaybeUninit<u8>]) {
            let first = position as usize & self.mask;
            assert!(bytes.len().div_ceil(WORD) <= self.len() - first, "a record never wraps");
            let whole = bytes.len() / WORD;
            if bytes.len() <= BLOCK_COPY_FROM || !HAS_BLOCK_COPY {
                for (index, chunk) in bytes.chunks_exact_mut(WORD).enumerate() {
                    let word = self.at((first + index) as u64).load(Ordering::Relaxed);
                    chunk.copy_from_slice(&word.to_ne_bytes().map(MaybeUninit::new));
                }
            } else {
                before_access(self.base.as_ptr() as usize + first * WORD, whole * WORD);
                // SAFETY: the source lies in the words by the assertion above; the target is a live private slice of
                // at least `whole * 8` bytes; they do not overlap; the copy is opaque to the compiler, so a peer that
                // writes meanwhile gives us mixed bytes and nothing worse.
                unsafe {
                    block_copy(
                        bytes.as_mut_ptr().cast(),
                        self.base.add(first).as_ptr().cast_const().cast(),
                        whole * WORD,
                    );
                }
            }
            let rest = &mut bytes[whole * WORD..];
            if !rest.is_empty() {
                let word = self.at((first + whole) as u64).load(Ordering::Relaxed);
                let last = word.to_ne_bytes().map(MaybeUninit::new);
                rest.copy_from_slice(&last[..rest.len()]);
            }
        }
    }

    /// Before this thread looks at so many bytes at an address of a region: where a test lets the peer act.
    #[inline(always)]
    pub(crate) fn before_access(_address: usize, _bytes: usize) {
        #[cfg(any(test, fuzzing))]
        super::meanwhile::step(_address, _bytes);
    }

    /// A cache line; less than [`BLOCK_COPY_FROM`].
    const LINE: usize = 64;
    const _: () = assert!(LINE <= BLOCK_COPY_FROM);

    #[cfg(target_arch = "x86_64")]
    const HAS_BLOCK_COPY: bool = true;
    #[cfg(not(target_arch = "x86_64"))]
    const HAS_BLOCK_COPY: bool = false;

    /// Copies bytes with one instruction that the compiler cannot look into, so that a racing write by the peer is
    /// outside the abstract machine.
    ///
    /// # Safety
    /// `from` readable and `to` writable for `bytes`, not overlapping.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    unsafe fn block_copy(to: *mut u8, from: *const u8, bytes: usize) {
        // SAFETY: the caller's contract; the direction flag is clear by the ABI; memory is declared as clobbered by
        // the absence of `nomem`, so later stores (the record's word) are not moved before the copy.
        unsafe {
            std::arch::asm!(
                "rep movsb",
                inout("rcx") bytes => _,
                inout("rdi") to => _,
                inout("rsi") from => _,
                options(nostack, preserves_flags)
            );
        }
    }

    /// Never called: [`HAS_BLOCK_COPY`] is false, relaxed words are used.
    ///
    /// # Safety
    /// As on x86-64.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe fn block_copy(_to: *mut u8, _from: *const u8, _bytes: usize) {
        unreachable!("no block copy on this architecture");
    }

    pub(crate) type Word32 = Word<AtomicU32>;
    pub(crate) type Word64 = Word<AtomicU64>;
}

#[cfg(loom)]
mod storage {
    use super::*;
    use crate::sync::Mutex;
    use loom::cell::UnsafeCell;
    use std::collections::HashMap;

    /// The vector of words that loom sees. A word is made when it is first asked for, so that a model pays for what it
    /// uses.
    pub(crate) struct Region {
        len: usize,
        words32: Mutex<HashMap<usize, Arc<AtomicU32>>>,
        words64: Mutex<HashMap<usize, Arc<AtomicU64>>>,
        rings: Mutex<HashMap<usize, Arc<Vec<RingWord>>>>,
    }

    /// A word and a cell by which loom sees the copies of bytes as plain accesses: relaxed words alone would hide that a
    /// copy must end before the word is used again, since loom never delays a load.
    #[derive(Default)]
    struct RingWord {
        word: AtomicU64,
        copied: UnsafeCell<()>,
    }

    // SAFETY: there is nothing in the cell.
    unsafe impl Sync for RingWord {}

    impl Region {
        pub(crate) fn in_process(len: usize) -> Arc<Self> {
            Arc::new(Self { len, words32: Mutex::default(), words64: Mutex::default(), rings: Mutex::default() })
        }

        pub(crate) fn forget(&self) {}

        pub(crate) fn word32(self: &Arc<Self>, offset: usize) -> Result<Word32, OutOfRegion> {
            check(offset, 4, 4, self.len)?;
            let mut words = self.words32.lock();
            Ok(Word(words.entry(offset).or_insert_with(|| Arc::new(AtomicU32::new(0))).clone()))
        }

        pub(crate) fn word64(self: &Arc<Self>, offset: usize) -> Result<Word64, OutOfRegion> {
            check(offset, 8, 8, self.len)?;
            let mut words = self.words64.lock();
            Ok(Word(words.entry(offset).or_insert_with(|| Arc::new(AtomicU64::new(0))).clone()))
        }

        pub(crate) fn words(self: &Arc<Self>, offset: usize, count: usize) -> Result<Words, OutOfRegion> {
            check(offset, count * WORD, 8, self.len)?;
            let mut rings = self.rings.lock();
            let words =
                rings.entry(offset).or_insert_with(|| Arc::new((0..count).map(|_| Default::default()).collect()));
            Ok(Words(words.clone()))
        }
    }

    pub(crate) struct Word<T>(Arc<T>);

    impl<T> Clone for Word<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    impl<T> Deref for Word<T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.0
        }
    }

    pub(crate) struct Words(Arc<Vec<RingWord>>);

    impl Words {
        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }

        pub(crate) fn at(&self, position: u64) -> &AtomicU64 {
            &self.0[position as usize & (self.len() - 1)].word
        }

        pub(crate) fn prefetch_behind(&self, _position: u64) {}

        pub(crate) fn populate(&self, _from: usize, _to: usize) -> bool {
            true
        }

        fn cell(&self, position: u64) -> &UnsafeCell<()> {
            &self.0[position as usize & (self.len() - 1)].copied
        }

        pub(crate) fn write(&self, position: u64, bytes: &[u8]) {
            for (index, chunk) in bytes.chunks(WORD).enumerate() {
                let mut word = [0; WORD];
                word[..chunk.len()].copy_from_slice(chunk);
                self.cell(position + index as u64).with_mut(|_| ());
                self.at(position + index as u64).store(u64::from_ne_bytes(word), Ordering::Relaxed);
            }
        }

        pub(crate) fn read(&self, position: u64, bytes: &mut [MaybeUninit<u8>]) {
            for (index, chunk) in bytes.chunks_mut(WORD).enumerate() {
                self.cell(position + index as u64).with(|_| ());
                let word = self.at(position + index as u64).load(Ordering::Relaxed);
                let word = word.to_ne_bytes().map(MaybeUninit::new);
                chunk.copy_from_slice(&word[..chunk.len()]);
            }
        }
    }

    pub(crate) type Word32 = Word<AtomicU32>;
    pub(crate) type Word64 = Word<AtomicU64>;
}

#[cfg(not(loom))]
pub(crate) use storage::before_access;
pub(crate) use storage::{Region, Word32, Word64, Words};

#[cfg(all(test, not(loom)))]
mod tests;
