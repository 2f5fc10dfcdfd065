//! What the machine itself costs: a cache line there and back, a futex there and back, copies, the codec. The peer of the
//! first two lives as long as the run and sleeps while others are measured.

use crate::Result;
use crate::codec::{self, Text};
use crate::lanes::LARGE;
use crate::measure::{self, Group, Row, Sides, Visit, spin};
use crate::pair::{Pair, Peer, is_stopped};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::hint::{black_box, spin_loop};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) const CACHE_LINE: &str = "cache-line ping-pong";
pub(crate) const FUTEX: &str = "futex ping-pong";
pub(crate) const MEMCPY: &str = "memcpy";
pub(crate) const CODEC_VALUE: &str = "codec, Value";
pub(crate) const CODEC_VALUE_MIXED: &str = "codec, Value, mixed text";
pub(crate) const CODEC_TYPED: &str = "codec, typed";
pub(crate) const CODEC_TYPED_MIXED: &str = "codec, typed, mixed text";
pub(crate) const ENCODE: &str = "codec, typed args, encode only";
pub(crate) const DECODE: &str = "codec, typed args, decode only";

/// Sizes of the strings and copies.
pub(crate) const SIZES: [usize; 4] = [64, 4 << 10, 64 << 10, 1 << 20];
pub(crate) const MIB: usize = 1 << 20;

const IDLE: u32 = 0;
const LINE: u32 = 1;
const SLEEP: u32 = 2;
const PAGE: usize = 4096;

/// One page that both processes map.
pub(crate) struct Page(*mut libc::c_void);

impl Page {
    fn map(fd: libc::c_int) -> Result<Self> {
        // SAFETY: a new mapping at a place that the kernel chooses.
        let page = unsafe {
            libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
        };
        if page == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(Self(page))
    }

    /// New memory, mapped here, and its descriptor.
    pub(crate) fn new() -> Result<(Self, OwnedFd)> {
        // SAFETY: a name that ends with a zero.
        let fd = unsafe { libc::memfd_create(c"floors".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        // SAFETY: just made, and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the descriptor is ours.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), PAGE as libc::off_t) } != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok((Self::map(fd.as_raw_fd())?, fd))
    }

    /// The memory of another process that has it at this path.
    pub(crate) fn open(path: &str) -> Result<Self> {
        Self::map(std::fs::OpenOptions::new().read(true).write(true).open(path)?.as_raw_fd())
    }

    /// Words lie 256 bytes apart.
    #[inline]
    pub(crate) fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index < PAGE / 256);
        // SAFETY: in the page, aligned, and only ever used as this word.
        unsafe { &*self.0.cast::<u8>().add(index * 256).cast::<AtomicU32>() }
    }

    fn mode(&self) -> &AtomicU32 {
        self.word(0)
    }

    fn ping(&self) -> &AtomicU32 {
        self.word(1)
    }

    fn pong(&self) -> &AtomicU32 {
        self.word(2)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by us, and no reference outlives this.
        unsafe { libc::munmap(self.0, PAGE) };
    }
}

/// Sleeps while the word has that value, at most a fifth of a second.
fn futex_wait(word: &AtomicU32, value: u32) {
    let timeout = libc::timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    // SAFETY: the word and the timeout live through the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &timeout, 0, 0) };
}

fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word lives through the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1, 0, 0, 0) };
}

/// Both floors that need a second process.
pub(crate) struct Floors {
    page: Page,
    pair: Pair,
    round: u32,
}

impl Floors {
    pub(crate) fn start(scratch: &Path, core: Option<usize>) -> Result<Self> {
        let (page, memory) = Page::new()?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
        let pair = Pair::spawn_unwatched(&format!("floors {path}"), scratch, core)?;
        Ok(Self { page, pair, round: 0 })
    }

    fn mode(&mut self, mode: u32) {
        self.page.mode().store(mode, Ordering::Release);
        futex_wake(self.page.mode());
        if mode == IDLE {
            // It may sleep for the next ping.
            self.round += 1;
            self.page.ping().store(self.round, Ordering::Release);
            futex_wake(self.page.ping());
        }
    }

    #[inline(always)]
    fn line(&mut self) -> Result<()> {
        self.round += 1;
        let round = self.round;
        self.page.ping().store(round, Ordering::Release);
        spin(|| Ok((self.page.pong().load(Ordering::Acquire) == round).then_some(())))
    }

    fn futex(&mut self) -> Result<()> {
        self.round += 1;
        self.page.ping().store(self.round, Ordering::Release);
        futex_wake(self.page.ping());
        for _ in 0..25 {
            let pong = self.page.pong().load(Ordering::Acquire);
            if pong == self.round {
                return Ok(());
            }
            futex_wait(self.page.pong(), pong);
        }
        Err("no answer within five seconds".into())
    }

    /// A cache line there and back, in nanoseconds; the floor beside a visit.
    pub(crate) fn line_now(&mut self, time: Duration) -> Result<f64> {
        self.mode(LINE);
        let mut rounds = || self.line();
        let result = measure::warm_up(&mut rounds, time / 4).and_then(|batch| measure::means(&mut rounds, batch, time));
        self.mode(IDLE);
        result
    }

    /// A futex there and back; `None` if somebody did not sleep.
    pub(crate) fn futex_now(&mut self) -> Result<Option<f64>> {
        let mut sides = Sides::of(&self.pair, None)?;
        self.mode(SLEEP);
        let mut rounds = || self.futex();
        let mut result = measure::warm_up(&mut rounds, Duration::ZERO).map(|_| Vec::new());
        for _ in 0..3 {
            match (sides.batch(&mut rounds, 30), &mut result) {
                (Ok(Some(mean)), Ok(means)) => means.push(mean),
                (Ok(None), _) | (_, Err(_)) => {}
                (Err(error), _) => result = Err(error),
            }
        }
        self.mode(IDLE);
        Ok(measure::median(&mut result?))
    }

    /// The rows of the two floors themselves.
    pub(crate) fn visit(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        let row = |name| Row { name, group: Group::Floor, bytes: 0 };
        self.mode(LINE);
        let result = visit.row(row(CACHE_LINE), || self.line());
        self.mode(IDLE);
        result?;
        let mut sides = Sides::of(&self.pair, None)?;
        self.mode(SLEEP);
        let result = visit.sleeping(row(FUTEX), &mut sides, || self.futex());
        self.mode(IDLE);
        result
    }
}

/// The other process.
pub(crate) fn peer(peer: &Peer, path: &str) -> Result<()> {
    let page = Page::open(path)?;
    peer.ready("")?;
    let mut seen = 0;
    while !is_stopped() {
        match page.mode().load(Ordering::Acquire) {
            LINE => answer_lines(&page, &mut seen),
            SLEEP => {
                let ping = page.ping().load(Ordering::Acquire);
                if ping == seen {
                    futex_wait(page.ping(), seen);
                } else {
                    seen = ping;
                    page.pong().store(ping, Ordering::Release);
                    futex_wake(page.pong());
                }
            }
            mode => futex_wait(page.mode(), mode),
        }
    }
    Ok(())
}

fn answer_lines(page: &Page, seen: &mut u32) {
    let mut idle = 0u32;
    loop {
        let ping = page.ping().load(Ordering::Acquire);
        if ping != *seen {
            *seen = ping;
            page.pong().store(ping, Ordering::Release);
            continue;
        }
        idle = idle.wrapping_add(1);
        if idle.is_multiple_of(64) && (page.mode().load(Ordering::Relaxed) != LINE || is_stopped()) {
            return;
        }
        spin_loop();
    }
}

/// Floors of one process: copies and the codec.
pub(crate) fn alone(visit: &mut Visit<'_>) -> Result<()> {
    let row = |name, bytes| Row { name, group: Group::Floor, bytes };
    for bytes in SIZES.into_iter().chain([LARGE]) {
        // Half a page apart, see `codec_row`.
        let mut block = vec![7u8; 2 * bytes + 2 * PAGE];
        let (from, to) = block.split_at_mut(bytes.next_multiple_of(PAGE) + PAGE / 2);
        visit.row(row(MEMCPY, bytes), || {
            to[..bytes].copy_from_slice(black_box(&from[..bytes]));
            black_box(&mut *to);
            Ok(())
        })?;
    }
    for bytes in SIZES {
        let text = codec::text(Text::Ascii, bytes);
        codec_row(visit, row(CODEC_TYPED, bytes), &text)?;
        codec_row(visit, row(CODEC_VALUE, bytes), &Value::String(text))?;
    }
    let text = codec::text(Text::Mixed, MIB);
    codec_row(visit, row(CODEC_TYPED_MIXED, MIB), &text)?;
    codec_row(visit, row(CODEC_VALUE_MIXED, MIB), &Value::String(text))?;
    let text = codec::text(Text::Ascii, 64);
    let mut out = Vec::new();
    visit.row(row(ENCODE, 64), || {
        out.clear();
        codec::encode_args(black_box(&text), &mut out)?;
        black_box(&out);
        Ok(())
    })?;
    visit.row(row(DECODE, 64), || {
        black_box(codec::decode_args::<String>(black_box(&out))?);
        Ok(())
    })
}

/// The four steps of a call, with the buffers' lengths chosen among some: a copy to where the place in a page is little
/// beyond that of its source takes twice to five times as long (seen with 16 bytes, which is what `malloc` leaves between
/// two strings), and a floor is what is possible.
fn codec_row<T: Serialize + DeserializeOwned>(visit: &mut Visit<'_>, row: Row, value: &T) -> Result<()> {
    let mut best = (f64::INFINITY, 0);
    for room in [0, 1, 2, 3].map(|part| part * PAGE / 4) {
        let mut rounds = four_steps(row.bytes, room, value);
        let batch = measure::warm_up(&mut rounds, LAYOUT)?;
        let mean = measure::means(&mut rounds, batch, LAYOUT)?;
        if mean < best.0 {
            best = (mean, room);
        }
    }
    visit.row(row, four_steps(row.bytes, best.1, value))
}

/// How long one choice is tried.
const LAYOUT: Duration = Duration::from_millis(1);

fn four_steps<T: Serialize + DeserializeOwned>(
    bytes: usize,
    room: usize,
    value: &T,
) -> impl FnMut() -> Result<()> + use<'_, T> {
    let mut request = Vec::with_capacity(bytes + codec::ROOM + room);
    let mut reply = Vec::with_capacity(bytes + codec::ROOM + room);
    move || {
        request.clear();
        codec::encode_args(black_box(value), &mut request)?;
        let argument: T = codec::decode_args(black_box(&request))?;
        reply.clear();
        codec::encode_result(black_box(&argument), &mut reply)?;
        black_box(codec::decode_result::<T>(black_box(&reply))?);
        Ok(())
    }
}
