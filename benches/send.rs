//! Messages one way, each 64 B to a typed listener, as fast as they are taken: from a renderer to main, and from main to a
//! renderer. They are counted where they arrive, and a call at the end of each sample returns when the last one was
//! listened to; so what is measured is delivered.
#![allow(missing_docs)]

mod support;

use criterion::{Criterion, Throughput};
use ringmain::{ErrorKind, IpcMain, IpcRenderer, Result};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{PATIENCE, Peer};

/// Counts messages, and tells how many came since it was last asked.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

impl Counter {
    fn take(&self, text: String) {
        black_box(text);
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn ask(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn play_main(_with: &str) {
    support::outlive_no_bench();
    let ipc_main = IpcMain::new().expect("a main");
    let counter = Counter::default();
    let taker = counter.clone();
    ipc_main.on("message", move |_event, (text,): (String,)| taker.take(text));
    ipc_main.handle("count", move |_event, ()| Ok(counter.ask())).expect("a handler");
    let name = format!("bench-send-{}", std::process::id());
    ipc_main.listen(&name).expect("a name of its own");
    support::serve(&name);
}

fn play_renderer(name: &str) {
    support::outlive_no_bench();
    let counter = Counter::default();
    let taker = counter.clone();
    let ipc_renderer = IpcRenderer::builder()
        .on("message", move |_event, (text,): (String,)| taker.take(text))
        .handle("count", move |_event, ()| Ok(counter.ask()))
        .connect_to(name)
        .expect("connected");
    support::serve("connected");
    drop(ipc_renderer);
}

/// One sample: `count` messages, and the call that returns behind them.
fn flood(
    count: u64,
    send: impl Fn() -> Result<()>,
    send_timeout: impl Fn() -> Result<()>,
    ask: impl Fn() -> u64,
) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        match send() {
            // The queue is full: we send faster than the other side listens.
            Err(error) if error.kind() == ErrorKind::Full => send_timeout().expect("room in the end"),
            sent => sent.expect("sent"),
        }
    }
    let delivered = ask();
    let took = start.elapsed();
    assert_eq!(delivered, count, "messages were lost");
    took
}

fn send(criterion: &mut Criterion) {
    let text = "x".repeat(64);
    let args = (&text,);
    let mut group = criterion.benchmark_group("send");
    group.throughput(Throughput::Elements(1));

    let peer = Peer::start("main", "");
    let ipc_renderer = {
        let _awake = peer.awake();
        IpcRenderer::connect_to(peer.said()).expect("connected")
    };
    group.bench_function("renderer to main/64", |bencher| {
        bencher.iter_custom(|count| {
            let _together = peer.together();
            let ask = || ipc_renderer.invoke::<u64>("count", ()).wait().expect("a count");
            support::warm_up(ask);
            let send_timeout = || ipc_renderer.send_timeout("message", args, PATIENCE);
            flood(count, || ipc_renderer.send("message", args), send_timeout, ask)
        });
    });
    {
        let _awake = peer.awake();
        drop(ipc_renderer);
    }
    drop(peer);

    let ipc_main = IpcMain::new().expect("a main");
    let name = format!("bench-send-{}", std::process::id());
    ipc_main.listen(&name).expect("a name of its own");
    let peer = Peer::start("renderer", &name);
    let web_contents = &ipc_main.all_web_contents()[0];
    group.bench_function("main to renderer/64", |bencher| {
        bencher.iter_custom(|count| {
            let _together = peer.together();
            let ask = || web_contents.invoke::<u64>("count", (), PATIENCE).wait().expect("a count");
            support::warm_up(ask);
            let send_timeout = || web_contents.send_timeout("message", args, PATIENCE);
            flood(count, || web_contents.send("message", args), send_timeout, ask)
        });
    });
    group.finish();
}

fn main() {
    support::main(&[("main", play_main), ("renderer", play_renderer)], send);
}
