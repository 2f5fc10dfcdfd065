//! The bare ring between two threads: an echo beside the cache-line ping-pong that is its floor, and the rate one way beside
//! that of `rtrb`, in the same run. The receiver uses what it gets: `rtrb`'s reads nothing otherwise.
#![allow(missing_docs)]

mod support;

use criterion::measurement::WallTime;
use criterion::{Bencher, BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use crossbeam_utils::CachePadded;
use ringmain::internals;
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use support::{Core, Pinned};

/// Bytes of each ring, also of `rtrb`'s.
const RING: usize = 128 << 10;

const REST: u8 = 0;
const RUN: u8 = 1;
const END: u8 = 2;

/// The other thread, on a core of its own. Like the other process of the other benches it spins only while a sample is
/// taken.
struct Peer {
    state: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    fn spawn(mut turn: impl FnMut() + Send + 'static) -> Self {
        let state = Arc::new(AtomicU8::new(REST));
        let theirs = state.clone();
        let thread = std::thread::spawn(move || {
            let _pinned = Pinned::to(Core::Theirs);
            loop {
                match theirs.load(Ordering::Relaxed) {
                    RUN => turn(),
                    REST => std::thread::park(),
                    _ => break,
                }
            }
        });
        Self { state, thread: Some(thread) }
    }

    fn iter<R>(&self, bencher: &mut Bencher<'_>, mut round: impl FnMut() -> R) {
        let _pinned = Pinned::to(Core::Ours);
        self.set(RUN);
        let _running = Running(self);
        support::warm_up(&mut round);
        bencher.iter(round);
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

struct Running<'a>(&'a Peer);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(REST);
    }
}

/// Stops and joins the other thread, also when a bench panics.
impl Drop for Peer {
    fn drop(&mut self) {
        self.set(END);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Two words on lines of their own, bounced between two threads.
fn floor(criterion: &mut Criterion) {
    let words: Arc<[CachePadded<AtomicU64>; 2]> = Arc::default();
    let theirs = words.clone();
    let mut seen = 0;
    let peer = Peer::spawn(move || {
        let value = theirs[0].load(Ordering::Acquire);
        if value != seen {
            seen = value;
            theirs[1].store(value, Ordering::Release);
        } else {
            spin_loop();
        }
    });
    let mut round = 0;
    criterion.bench_function("echo/floor: cache-line ping-pong", |bencher| {
        peer.iter(bencher, || {
            round += 1;
            words[0].store(round, Ordering::Release);
            while words[1].load(Ordering::Acquire) != round {
                spin_loop();
            }
        });
    });
}

fn echo(criterion: &mut Criterion) {
    for bytes in [8, 64, 4096] {
        let (mut to, mut from_us) = internals::ring(RING);
        let (mut to_us, mut from) = internals::ring(RING);
        let mut buffer = Vec::new();
        let peer = Peer::spawn(move || {
            if from_us.pop(&mut buffer) {
                while !to_us.push(&buffer) {
                    spin_loop();
                }
            } else {
                spin_loop();
            }
        });
        let message = vec![7; bytes];
        let mut answer = Vec::new();
        criterion.bench_function(&format!("echo/ring {bytes} B"), |bencher| {
            peer.iter(bencher, || {
                assert!(to.push(black_box(&message)));
                while !from.pop(&mut answer) {
                    spin_loop();
                }
                black_box(&answer);
            });
        });
    }
}

fn one_way(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one way");
    group.throughput(Throughput::Elements(1));
    pair::<8>(&mut group);
    pair::<64>(&mut group);
    pair::<1024>(&mut group);
    pair::<{ 16 << 10 }>(&mut group);
    group.finish();
}

fn pair<const BYTES: usize>(group: &mut BenchmarkGroup<'_, WallTime>) {
    let message = [7_u8; BYTES];
    {
        let (mut to, mut from) = internals::ring(RING);
        let mut buffer = Vec::new();
        let peer = Peer::spawn(move || {
            if from.pop(&mut buffer) {
                black_box(&buffer);
            } else {
                spin_loop();
            }
        });
        group.bench_function(BenchmarkId::new("ring", BYTES), |bencher| {
            peer.iter(bencher, || {
                while !to.push(black_box(&message)) {
                    spin_loop();
                }
            });
        });
    }
    let (mut to, mut from) = rtrb::RingBuffer::<[u8; BYTES]>::new(RING / BYTES);
    let peer = Peer::spawn(move || match from.pop() {
        Ok(value) => {
            black_box(&value);
        }
        Err(_) => spin_loop(),
    });
    group.bench_function(BenchmarkId::new("rtrb", BYTES), |bencher| {
        peer.iter(bencher, || {
            while to.push(*black_box(&message)).is_err() {
                spin_loop();
            }
        });
    });
}

fn benches(criterion: &mut Criterion) {
    floor(criterion);
    echo(criterion);
    one_way(criterion);
}

fn main() {
    support::main(&[], benches);
}
