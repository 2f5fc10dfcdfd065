//! One way: a batch of messages is over when the other side has seen the last one, which says in its first byte that it is.

use crate::Result;
use crate::floors::Page;
use crate::measure::{Rounds, spin};
use std::hint::black_box;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

/// First byte of a batch's last message; that of the others is another.
pub(crate) const LAST: u8 = 1;
/// Messages that are published together, where that can be.
pub(crate) const TOGETHER: usize = 16;
/// Bytes of a queue of messages, at least.
pub(crate) const QUEUE: usize = 128 << 10;

/// Messages of a batch: some 10 ms of the slowest.
pub(crate) fn batch_of(bytes: usize) -> usize {
    match bytes {
        ..=64 => 20_000,
        65..=4096 => 2_000,
        _ => 8,
    }
}

/// A message, or the last one of a batch.
pub(crate) fn message(bytes: usize, is_last: bool) -> Vec<u8> {
    let mut message = vec![7; bytes];
    if is_last {
        message[0] = LAST;
    }
    message
}

/// A word that the peer counts batches in.
pub(crate) struct Seen {
    page: Page,
    memory: OwnedFd,
}

impl Seen {
    pub(crate) fn new() -> Result<Self> {
        let (page, memory) = Page::new()?;
        Ok(Self { page, memory })
    }

    /// For the peer.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.memory.as_raw_fd())
    }

    pub(crate) fn count(&self) -> u32 {
        self.page.word(1).load(Ordering::Acquire)
    }
}

/// The peer's side of it.
pub(crate) struct Counter(Page);

impl Counter {
    pub(crate) fn open(path: &str) -> Result<Self> {
        Ok(Self(Page::open(path)?))
    }

    /// Uses a message, and counts if it is the last one of its batch.
    #[inline(always)]
    pub(crate) fn take(&self, message: &[u8]) {
        if black_box(message)[0] == LAST {
            self.count();
        }
    }

    #[inline(always)]
    pub(crate) fn count(&self) {
        self.0.word(1).fetch_add(1, Ordering::Release);
    }
}

/// Batches, each sent in parts of at most `together`: `send` is told how many, and whether the last one is among them.
pub(crate) struct Stream<S, C> {
    send: S,
    seen: C,
    together: usize,
    batches: u32,
}

impl<S: FnMut(usize, bool) -> Result<()>, C: Fn() -> u32> Stream<S, C> {
    pub(crate) fn new(together: usize, seen: C, send: S) -> Self {
        let batches = seen();
        Self { send, seen, together, batches }
    }
}

impl<S: FnMut(usize, bool) -> Result<()>, C: Fn() -> u32> Rounds for Stream<S, C> {
    fn run(&mut self, rounds: usize) -> Result<()> {
        let mut left = rounds;
        while left > 0 {
            let now = left.min(self.together);
            left -= now;
            (self.send)(now, left == 0)?;
        }
        self.batches += 1;
        spin(|| Ok(((self.seen)() == self.batches).then_some(())))
    }
}
