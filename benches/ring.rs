//! The bare ring between two threads: an echo of 64 B and the one-way rate, each beside the cache-line ping-pong that is
//! its floor, in the same run.
#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_utils::CachePadded;
use ringmain::internals;
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Stops and joins the other thread, also when a bench panics.
struct Peer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Peer {
    fn spawn(mut turn: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                turn();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
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
    let _peer = Peer::spawn(move || {
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
        bencher.iter(|| {
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
        let (mut to, mut from_us) = internals::ring(128 << 10);
        let (mut to_us, mut from) = internals::ring(128 << 10);
        let mut buffer = Vec::new();
        let _peer = Peer::spawn(move || {
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
            bencher.iter(|| {
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
    for bytes in [8, 64, 1024, 16384] {
        let (mut to, mut from_us) = internals::ring(128 << 10);
        let mut buffer = Vec::new();
        let _peer = Peer::spawn(move || {
            if from_us.pop(&mut buffer) {
                black_box(&buffer);
            } else {
                spin_loop();
            }
        });
        let message = vec![7; bytes];
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("ring {bytes} B"), |bencher| {
            bencher.iter(|| {
                while !to.push(black_box(&message)) {
                    spin_loop();
                }
            });
        });
    }
}

criterion_group!(benches, floor, echo, one_way);
criterion_main!(benches);
