//! Beginnings: from spawning a renderer to its first reply, beside spawning the same binary and exchanging one byte over a
//! pipe; connecting to a main that listens; attaching one in this process. Ends are not measured.
//!
//! Nothing here is pinned but the main that is connected to: how a new process and its threads spread over the cores is part
//! of what they cost.
#![allow(missing_docs)]

mod support;

use criterion::Criterion;
use ringmain::{IpcMain, IpcRenderer};
use std::hint::black_box;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use support::{PATIENCE, Peer};

fn play_renderer(_with: &str) {
    let ipc_renderer =
        IpcRenderer::builder().handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).connect().expect("connected");
    let (over, is_over) = channel();
    ipc_renderer.on_disconnected(move |_| {
        let _ = over.send(());
    });
    let _ = is_over.recv();
}

fn play_pipe(_with: &str) {
    let mut byte = [0];
    std::io::stdin().read_exact(&mut byte).expect("a byte");
    std::io::stdout().write_all(&byte).and_then(|()| std::io::stdout().flush()).expect("a reader");
}

fn play_main(_with: &str) {
    support::outlive_no_bench();
    let ipc_main = IpcMain::new().expect("a main");
    let name = format!("bench-startup-{}", std::process::id());
    ipc_main.listen(&name).expect("a name of its own");
    support::serve(&name);
}

/// The sum of `count` times, each taken by itself.
fn sum(count: u64, time: impl Fn() -> Duration) -> Duration {
    (0..count).map(|_| time()).sum()
}

/// Killed and reaped, also when a bench panics.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn over_a_pipe() -> Duration {
    let start = Instant::now();
    let mut command = support::again("pipe", "");
    let mut child = Ended(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process"));
    let mut byte = [7];
    child.0.stdin.as_mut().expect("a pipe").write_all(&byte).expect("a reader");
    child.0.stdout.as_mut().expect("a pipe").read_exact(&mut byte).expect("the byte");
    start.elapsed()
}

fn to_the_first_reply(ipc_main: &IpcMain) -> Duration {
    let start = Instant::now();
    let web_contents = ipc_main.spawn(support::again("renderer", "")).expect("a renderer");
    let sum: i64 = web_contents.invoke("add", (2, 3), PATIENCE).wait().expect("a sum");
    let took = start.elapsed();
    assert_eq!(sum, 5);
    web_contents.close(PATIENCE).expect("closed");
    let until = Instant::now() + PATIENCE;
    while web_contents.process().exit_status().is_none() {
        assert!(Instant::now() < until, "a renderer whose link is closed did not end");
        std::thread::sleep(Duration::from_micros(100));
    }
    took
}

/// A GiB of touched memory, where the machine has two.
fn ballast() -> Option<Vec<u8>> {
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let free = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free: u64 = free.trim().trim_end_matches(" kB").parse().ok()?;
    (free > 2 << 20).then(|| vec![1; 1 << 30])
}

/// What `begin` took; what it made is dropped afterwards.
fn beginning<T>(begin: impl FnOnce() -> ringmain::Result<T>) -> Duration {
    let start = Instant::now();
    let made = begin();
    let took = start.elapsed();
    drop(made.expect("a renderer"));
    took
}

fn startup(criterion: &mut Criterion) {
    let ipc_main = IpcMain::new().expect("a main");
    let mut group = criterion.benchmark_group("startup");
    group.sample_size(20);
    group.bench_function("floor: spawn, a byte over a pipe", |bencher| {
        bencher.iter_custom(|count| sum(count, over_a_pipe));
    });
    group.bench_function("spawn to first reply", |bencher| {
        bencher.iter_custom(|count| sum(count, || to_the_first_reply(&ipc_main)));
    });
    // What a fork would copy the tables of; spawning must not.
    let ballast = ballast();
    if let Some(ballast) = &ballast {
        group.bench_function("floor: spawn, a byte over a pipe, 1 GiB touched", |bencher| {
            bencher.iter_custom(|count| sum(count, over_a_pipe));
        });
        group.bench_function("spawn to first reply, 1 GiB touched", |bencher| {
            bencher.iter_custom(|count| sum(count, || to_the_first_reply(&ipc_main)));
        });
        black_box(ballast);
    }
    drop(ballast);
    let peer = Peer::start("main", "");
    group.bench_function("connect_to", |bencher| {
        bencher.iter_custom(|count| {
            let _awake = peer.awake();
            sum(count, || beginning(|| IpcRenderer::connect_to(peer.said())))
        });
    });
    drop(peer);
    group.bench_function("attach", |bencher| {
        bencher.iter_custom(|count| sum(count, || beginning(|| ipc_main.attach())));
    });
    group.finish();
}

fn main() {
    support::main(&[("renderer", play_renderer), ("pipe", play_pipe), ("main", play_main)], startup);
}
