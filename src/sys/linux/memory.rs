//! Shared memory: sealed and anonymous, mapped, or named; and what a fork makes of it.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FallocateFlags, FsWord, MemfdFlags, Mode, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::shm;

use super::{above_stdio, because, invalid};

const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW);
const SHM_DIR: &str = "/dev/shm";
/// `statfs` type of memory made of huge pages, whose first touch can still fail.
const HUGETLBFS_MAGIC: FsWord = 0x9584_58f6_u32 as FsWord;

/// Anonymous memory of exactly `len` bytes that nobody can resize; of them `parts` are allocated.
pub(crate) fn create_sealed_memory(label: &str, len: usize, parts: &[Range<usize>]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(label, flags | MemfdFlags::NOEXEC_SEAL)
        // Before Linux 6.3 the flag is unknown.
        .or_else(|error| match error {
            rustix::io::Errno::INVAL => rustix::fs::memfd_create(label, flags),
            error => Err(error),
        })
        .map_err(|error| because(format_args!("cannot create shared memory '{label}'"), error))?;
    let fd = above_stdio(fd)?;
    rustix::fs::ftruncate(&fd, len as u64)
        .map_err(|error| because(format_args!("cannot make shared memory of {len} bytes"), error))?;
    allocate(&fd, parts)?;
    rustix::fs::fcntl_add_seals(&fd, SEALS).map_err(|error| because("cannot seal the shared memory", error))?;
    Ok(fd)
}

/// Makes the pages exist now, so that the lack of memory is an error here and not a SIGBUS later.
pub(crate) fn allocate(fd: &OwnedFd, parts: &[Range<usize>]) -> io::Result<()> {
    for Range { start, end } in parts.iter().cloned() {
        let len = end.saturating_sub(start) as u64;
        rustix::io::retry_on_intr(|| rustix::fs::fallocate(fd, FallocateFlags::KEEP_SIZE, start as u64, len))
            .map_err(|error| because(format_args!("cannot allocate {len} bytes of shared memory"), error))?;
    }
    Ok(())
}

/// Whether memory that a peer handed over keeps its size for ever, and has the one expected.
pub(crate) fn check_sealed(fd: impl AsFd, expected_len: usize) -> Result<(), String> {
    let fd = fd.as_fd();
    let seals =
        rustix::fs::fcntl_get_seals(fd).map_err(|error| format!("the descriptor is not sealable memory: {error}"))?;
    if !seals.contains(SEALS) {
        return Err(format!(
            "the shared memory has seals {:#x}, but {:#x} (SEAL, SHRINK, GROW) are needed",
            seals.bits(),
            SEALS.bits()
        ));
    }
    let filesystem =
        rustix::fs::fstatfs(fd).map_err(|error| format!("cannot ask for the kind of the shared memory: {error}"))?;
    if filesystem.f_type == HUGETLBFS_MAGIC {
        return Err("the shared memory is made of huge pages, which may be missing later".into());
    }
    match size_of_file(fd) {
        Ok(len) if len == expected_len as u64 => Ok(()),
        Ok(len) => Err(format!("the shared memory has {len} bytes, expected {expected_len}")),
        Err(error) => Err(format!("cannot ask for the size of the shared memory: {error}")),
    }
}

fn size_of_file(fd: impl AsFd) -> io::Result<u64> {
    Ok(u64::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(0))
}

/// A shared mapping, unmapped on drop. It is not there in a forked copy of the process.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    owner: u32,
}

// SAFETY: a `Mapping` is an address and a length and belongs to no thread; what is read and written
// there, and with what synchronisation, is the business of whoever uses the pointer.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` offers the address and the length only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes for reading and writing; the pages of `parts` are there from the start, where the kernel
    /// can do that (Linux 5.14).
    ///
    /// Whether the memory can shrink later is for [`check_sealed`] to say.
    pub(crate) fn map(fd: impl AsFd, len: usize, parts: &[Range<usize>]) -> io::Result<Self> {
        let fd = fd.as_fd();
        let size = size_of_file(fd)?;
        if len == 0 || size < len as u64 {
            return Err(invalid(format!("cannot map {len} bytes of memory that has {size}")));
        }
        // SAFETY: the kernel chooses a place where nothing is mapped, so no memory in use changes.
        let start = unsafe {
            rustix::mm::mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, fd, 0)
        }
        .map_err(|error| because(format_args!("cannot map {len} bytes of shared memory"), error))?;
        let start = NonNull::new(start.cast()).ok_or_else(|| invalid("mapped at address 0"))?;
        let mapping = Self { start, len, owner: std::process::id() };
        // SAFETY: the range is the mapping made above; forked copies find it missing, which every
        // user is told to check by `ForkGuard` before it touches anything.
        unsafe { dont_fork(start, len) }?;
        for part in parts {
            if part.start > part.end || part.end > len {
                return Err(invalid(format!("bytes {part:?} do not lie in a mapping of {len}")));
            }
            // A page that is not there now is there when it is touched: it is allocated.
            // SAFETY: the part lies in the mapping made above.
            let _ = unsafe { populate(start.add(part.start), part.len()) };
        }
        Ok(mapping)
    }

    pub(crate) fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Keeps all of it in memory (`mlock`), which `RLIMIT_MEMLOCK` may not allow.
    pub(crate) fn lock(&self) -> io::Result<()> {
        // SAFETY: the range is our mapping; to lock it changes no content.
        unsafe { rustix::mm::mlock(self.start.as_ptr().cast(), self.len) }
            .map_err(|error| because(format_args!("cannot lock {} bytes of memory", self.len), error))
    }

    /// Gives the memory back while the addresses stay usable: puts private pages of zeros, which cost nothing before they
    /// are written to, in its place. Where the system refuses, the mapping stays.
    pub(crate) fn replace_by_zeros(&self) {
        if self.owner != std::process::id() {
            return;
        }
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: this very range was mapped by `map` and is ours until the drop; the change is one step for every thread,
        // and whoever uses the pointer copes with a peer that zeroes what is there, so also with this.
        let _ = unsafe {
            rustix::mm::mmap_anonymous(self.start.as_ptr().cast(), self.len, ProtFlags::READ | ProtFlags::WRITE, flags)
        };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // A forked copy does not have the mapping, but may have something else at its place.
        if self.owner == std::process::id() {
            // SAFETY: this very range was mapped by `map` and is unmapped once; no reference into
            // it outlives the value, as users tie theirs to it.
            let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

/// Makes the pages of a range exist in its memory and in this mapping, so that the lack of memory is an error here and not a
/// SIGBUS later. Linux 5.14 and later.
///
/// # Safety
/// The range lies in one writable mapping of the caller's, which begins at a page.
pub(crate) unsafe fn populate(start: NonNull<u8>, len: usize) -> io::Result<()> {
    let in_page = start.as_ptr() as usize % rustix::param::page_size();
    // SAFETY: by the caller's contract the pages of the range are that mapping's; their content does not change.
    let populated =
        unsafe { rustix::mm::madvise(start.sub(in_page).as_ptr().cast(), in_page + len, Advice::LinuxPopulateWrite) };
    populated.map_err(|error| because(format_args!("cannot allocate {len} bytes of shared memory"), error))
}

/// Leaves the range out of forked copies of this process.
///
/// # Safety
/// The pages belong to one mapping of the caller's, and a forked copy must not touch them.
pub(crate) unsafe fn dont_fork(start: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: the advice changes nothing in this process; for copies the caller vouches.
    unsafe { rustix::mm::madvise(start.as_ptr().cast(), len, Advice::LinuxDontFork) }
        .map_err(|error| because(format_args!("cannot keep {len} bytes out of forks"), error))
}

/// Tells a forked copy of the process that it is one, at the price of one load. Clones are one guard.
#[derive(Debug, Clone)]
pub(crate) struct ForkGuard {
    /// At the beginning of the page. Here as well, because some ask for every record.
    word: NonNull<AtomicU32>,
    _page: Arc<GuardPage>,
}

// SAFETY: the page is private to the guards that share it and accessed as an atomic only.
unsafe impl Send for ForkGuard {}
// SAFETY: as above.
unsafe impl Sync for ForkGuard {}

#[derive(Debug)]
struct GuardPage {
    start: NonNull<AtomicU32>,
    len: usize,
}

// SAFETY: it only unmaps, once.
unsafe impl Send for GuardPage {}
// SAFETY: it has no methods.
unsafe impl Sync for GuardPage {}

impl ForkGuard {
    pub(crate) fn new() -> io::Result<Self> {
        let len = rustix::param::page_size();
        // SAFETY: the kernel chooses a place where nothing is mapped.
        let start = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }
        .map_err(|error| because("cannot map the page that tells a fork", error))?;
        let word = NonNull::new(start.cast()).ok_or_else(|| invalid("mapped at address 0"))?;
        let guard = Self { word, _page: Arc::new(GuardPage { start: word, len }) };
        // SAFETY: the page is ours; a copy finds it zeroed, which is what it is for.
        unsafe { rustix::mm::madvise(start, len, Advice::LinuxWipeOnFork) }
            .map_err(|error| because("cannot mark the page that tells a fork", error))?;
        guard.word().store(1, Ordering::Relaxed);
        Ok(guard)
    }

    #[inline(always)]
    fn word(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped as long as `self` holds it, page-aligned, large enough, zeroed by
        // the kernel and accessed through this function only.
        unsafe { self.word.as_ref() }
    }

    /// From here on the original is told what a copy is told: for what has ended.
    pub(crate) fn revoke(&self) {
        self.word().store(0, Ordering::Release);
    }

    /// Whether this process is a forked copy of the one that made the guard, or it was [revoked](Self::revoke).
    #[inline(always)]
    pub(crate) fn forked(&self) -> bool {
        self.word().load(Ordering::Acquire) == 0
    }
}

impl Drop for GuardPage {
    fn drop(&mut self) {
        // SAFETY: mapped by `ForkGuard::new`, also in a forked copy, and unmapped once, with the last guard.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A descriptor of named shared memory, whose size is compared with `expected_len` before anything else.
pub(crate) fn shm_open(name: &str, expected_len: usize) -> io::Result<OwnedFd> {
    let fd = shm::open(name, shm::OFlags::RDWR, Mode::empty())
        .map_err(|error| because(format_args!("cannot open shared memory '{name}'"), error))?;
    let fd = above_stdio(fd)?;
    let size = size_of_file(&fd)?;
    if size != expected_len as u64 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("shared memory '{name}' has {size} bytes, expected {expected_len}"),
        ));
    }
    Ok(fd)
}

/// A name of shared memory that is removed on drop, if it is still there: not by a forked copy of the process.
#[derive(Debug)]
pub(crate) struct ShmName {
    name: String,
    owner: u32,
}

impl ShmName {
    pub(crate) fn new(name: String) -> Self {
        Self { name, owner: std::process::id() }
    }
}

impl Drop for ShmName {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            let _ = shm_unlink(&self.name); // a later sweep tries again
        }
    }
}

/// Removes a name of shared memory; one that is not there is removed already.
pub(crate) fn shm_unlink(name: &str) -> io::Result<()> {
    match shm::unlink(name) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(because(format_args!("cannot unlink shared memory '{name}'"), error)),
    }
}

/// The names of shared memory that begin with `prefix`, as [`shm_unlink`] takes them.
pub(crate) fn list_shm(prefix: &str) -> Vec<String> {
    let prefix = prefix.trim_start_matches('/');
    let entries = std::fs::read_dir(SHM_DIR).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(prefix)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::test::{alone, in_fork};
    use super::*;
    use crate::sys::{Exit, random_u64};
    use std::fs::File;
    use std::os::fd::AsRawFd;

    fn name(what: &str) -> String {
        format!("/ringmain-test-{what}-{:x}", random_u64().expect("random"))
    }

    #[test]
    fn sealed_memory_passes_its_own_check_and_keeps_its_size() {
        let fd = create_sealed_memory("sealed", 8192, &[0..8192]).expect("create");
        check_sealed(&fd, 8192).expect("check");
        assert!(rustix::io::fcntl_getfd(&fd).expect("flags").contains(rustix::io::FdFlags::CLOEXEC));
        for len in [0, 4096, 16384] {
            assert_eq!(rustix::fs::ftruncate(&fd, len), Err(rustix::io::Errno::PERM), "{len}");
        }
        assert!(rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE).is_err());
        let allocated = rustix::fs::fstat(&fd).expect("stat").st_blocks * 512;
        assert!(allocated >= 8192, "{allocated} bytes are allocated");
    }

    #[test]
    fn sealed_memory_cannot_be_executed_nor_made_so_where_the_kernel_knows_that() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL;
        if rustix::fs::memfd_create("probe", flags).is_err_and(|error| error == rustix::io::Errno::INVAL) {
            println!("this kernel (before Linux 6.3) knows no such memory");
            return;
        }
        let fd = create_sealed_memory("data", 4096, &[0..4096]).expect("create");
        let mode = rustix::fs::fstat(&fd).expect("stat").st_mode;
        assert_eq!(mode & 0o111, 0, "mode {mode:o}");
        assert!(rustix::fs::fcntl_get_seals(&fd).expect("seals").contains(SealFlags::EXEC));
        assert_eq!(rustix::fs::fchmod(&fd, Mode::RWXU), Err(rustix::io::Errno::PERM));
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error_with_the_size() {
        for len in [0, usize::MAX] {
            let error = create_sealed_memory("impossible", len, &[0..len]).expect_err("created");
            assert!(error.to_string().contains(&len.to_string()), "{error}");
        }
        assert!(create_sealed_memory(&"x".repeat(300), 4096, &[0..4096]).is_err());
        assert!(create_sealed_memory("nul\0", 4096, &[0..4096]).is_err());
    }

    #[test]
    fn foreign_descriptors_fail_the_check_with_the_numbers() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let sealed_with = |seals| {
            let fd = rustix::fs::memfd_create("foreign", flags).expect("memfd");
            rustix::fs::ftruncate(&fd, 4096).expect("truncate");
            rustix::fs::fcntl_add_seals(&fd, seals).expect("seal");
            fd
        };
        let table = [
            (File::open("/dev/null").expect("open").into(), "not sealable"),
            (super::super::socket_pair().expect("pair").0, "not sealable"),
            (rustix::fs::memfd_create("bare", MemfdFlags::CLOEXEC).expect("memfd"), "seals 0x1,"),
            (sealed_with(SealFlags::empty()), "seals 0x0,"),
            (sealed_with(SealFlags::SHRINK | SealFlags::GROW), "seals 0x6,"),
            (sealed_with(SealFlags::SEAL | SealFlags::GROW), "seals 0x5,"),
            (create_sealed_memory("short", 2048, &[0..2048]).expect("create"), "has 2048 bytes, expected 4096"),
            (create_sealed_memory("long", 8192, &[0..8192]).expect("create"), "has 8192 bytes, expected 4096"),
        ];
        for (fd, expected) in table {
            let error = check_sealed(&fd, 4096).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        // More seals than needed are no fault: newer kernels add some by themselves.
        check_sealed(sealed_with(SEALS | SealFlags::FUTURE_WRITE), 4096).expect("contains");
    }

    #[test]
    fn two_mappings_show_the_same_bytes_and_more_than_there_is_is_refused() {
        let fd = create_sealed_memory("twice", 4096, &[0..4096]).expect("create");
        let (a, b) = (Mapping::map(&fd, 4096, &[]).expect("map"), Mapping::map(&fd, 4096, &[]).expect("map"));
        assert_eq!((a.len(), b.len()), (4096, 4096));
        assert_ne!(a.as_ptr(), b.as_ptr());
        // SAFETY: both mappings are 4096 bytes, page-aligned and accessed by atomics of one width.
        let word = |m: &Mapping| unsafe { &*m.as_ptr().as_ptr().add(64).cast::<AtomicU32>() };
        word(&a).store(7, Ordering::Release);
        assert_eq!(word(&b).load(Ordering::Acquire), 7);
        for len in [0, 4097, usize::MAX] {
            let error = Mapping::map(&fd, len, &[]).expect_err("mapped");
            assert!(error.to_string().contains(&len.to_string()), "{error}");
        }
        assert!(Mapping::map(File::open("/dev/null").expect("open"), 1, &[]).is_err());
    }

    #[test]
    fn a_fork_finds_the_guard_wiped_and_the_mapping_missing() {
        let _alone = alone();
        let fd = create_sealed_memory("fork", 4096, &[0..4096]).expect("create");
        let (guard, mapping) = (ForkGuard::new().expect("guard"), Mapping::map(&fd, 4096, &[]).expect("map"));
        assert!(!guard.forked());
        let exit = in_fork(|| {
            // Where nothing is mapped, `madvise` says so; nothing is touched.
            // SAFETY: advice about a range; it changes no content.
            let there = unsafe {
                let start = mapping.as_ptr().as_ptr().cast();
                rustix::mm::madvise(start, 4096, Advice::Normal)
            };
            // What the copy maps at the same place survives the drop of the inherited value.
            // SAFETY: nothing is mapped there, as was just seen, so nothing is replaced.
            let other = unsafe {
                rustix::mm::mmap_anonymous(
                    mapping.as_ptr().as_ptr().cast(),
                    4096,
                    ProtFlags::READ,
                    MapFlags::PRIVATE | MapFlags::FIXED,
                )
            };
            drop(mapping);
            // SAFETY: as above.
            let kept = other.is_ok_and(|other| unsafe { rustix::mm::madvise(other, 4096, Advice::Normal).is_ok() });
            u8::from(guard.forked()) | u8::from(there.is_err()) << 1 | u8::from(kept) << 2
        });
        assert_eq!(exit, Exit::Code(7));
        assert!(!guard.forked());
    }

    #[test]
    fn named_memory_is_allocated_listed_and_unlinked() {
        let name = name("named");
        let flags = shm::OFlags::CREATE | shm::OFlags::EXCL | shm::OFlags::RDWR;
        let fd = shm::open(&name, flags, Mode::RUSR | Mode::WUSR).expect("open");
        let error = shm_open(&name, 4096).expect_err("empty");
        assert!(error.to_string().contains("has 0 bytes, expected 4096"), "{error}");
        rustix::fs::ftruncate(&fd, 65536).expect("truncate");
        assert_eq!(rustix::fs::fstat(&fd).expect("stat").st_blocks, 0);
        let second = shm_open(&name, 65536).expect("open");
        assert!(rustix::io::fcntl_getfd(&second).expect("flags").contains(rustix::io::FdFlags::CLOEXEC));
        allocate(&second, &[0..65536]).expect("allocate");
        assert!(rustix::fs::fstat(&fd).expect("stat").st_blocks * 512 >= 65536);
        assert_eq!(list_shm(&name), [name.trim_start_matches('/')]);
        shm_unlink(&name).expect("unlink");
        shm_unlink(&name).expect("gone already");
        assert!(list_shm(&name).is_empty());
        let error = shm_open(&name, 65536).expect_err("gone");
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        assert!(shm_unlink("/").is_err() && shm_unlink("/a/b").is_err());
    }

    #[test]
    fn a_name_is_removed_with_its_guard_and_not_by_a_fork() {
        let _alone = alone();
        let name = name("guard");
        let flags = shm::OFlags::CREATE | shm::OFlags::EXCL | shm::OFlags::RDWR;
        drop(shm::open(&name, flags, Mode::RUSR | Mode::WUSR).expect("open"));
        let mut guard = Some(ShmName::new(name.clone()));
        let exit = in_fork(|| {
            drop(guard.take());
            u8::from(list_shm(&name).is_empty())
        });
        assert_eq!((exit, list_shm(&name).len()), (Exit::Code(0), 1));
        drop(guard);
        assert!(list_shm(&name).is_empty());
        drop(ShmName::new(name)); // gone already
    }

    #[test]
    fn more_named_memory_than_there_is_room_for_is_an_error_not_a_signal() {
        let room = rustix::fs::statvfs(SHM_DIR).expect("statvfs");
        if room.f_blocks == 0 {
            return; // A mount without a limit has no "full".
        }
        let name = name("full");
        let flags = shm::OFlags::CREATE | shm::OFlags::EXCL | shm::OFlags::RDWR;
        let fd = shm::open(&name, flags, Mode::RUSR | Mode::WUSR).expect("open");
        let len = (room.f_blocks + 1) * room.f_frsize;
        rustix::fs::ftruncate(&fd, len).expect("truncate");
        let len = usize::try_from(len).expect("64 bits");
        let error = allocate(&shm_open(&name, len).expect("open"), &[0..len]);
        shm_unlink(&name).expect("unlink");
        let error = error.expect_err("allocated");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    }

    #[test]
    fn dropping_a_mapping_unmaps_it() {
        let fd = create_sealed_memory("drop", 4096, &[0..4096]).expect("create");
        let mapping = Mapping::map(&fd, 4096, &[]).expect("map");
        let inode = format!(" {} ", rustix::fs::fstat(&fd).expect("stat").st_ino);
        let mapped = || std::fs::read_to_string("/proc/self/maps").expect("maps").contains(&inode);
        assert!(mapped() && fd.as_raw_fd() > 2);
        drop(mapping);
        assert!(!mapped());
    }
}
