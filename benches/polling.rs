//! What manual dispatch costs: a `poll` with nothing to do, one message and its `poll`, a call that is polled for, and how
//! well a budget is kept under a flood.
//!
//! The budget is no matter for Criterion: `cargo bench --bench polling` prints the distribution of the polls' times beside
//! what is allowed, which is the budget and one callback.
#![allow(missing_docs)]

mod support;

use criterion::{BenchmarkId, Criterion};
use ringmain::{Budget, Dispatch, IpcMain, IpcRenderer, Wait};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{Core, Peer, Pinned};

fn name() -> String {
    format!("bench-polling-{}", std::process::id())
}

/// A renderer that does what main says.
fn play_renderer(main: &str) {
    support::outlive_no_bench();
    let ipc_renderer = IpcRenderer::connect_to(main).expect("a main that listens");
    ipc_renderer.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).expect("a handler");
    let floods = ipc_renderer.clone();
    ipc_renderer.on("flood", move |_event, ()| {
        let floods = floods.clone();
        // Until main has gone: a message as soon as there is room.
        std::thread::spawn(move || while floods.send_timeout("n", (1, 2), support::PATIENCE).is_ok() {});
    });
    support::serve("ready");
}

fn polled_main() -> IpcMain {
    IpcMain::builder().dispatch(Dispatch::Manual).wait(Wait::Spin).build().expect("a main")
}

/// Starts a renderer of the main that listens, and polls until it is there.
fn start_renderer(ipc_main: &IpcMain) -> Peer {
    ipc_main.listen(&name()).expect("a name of its own");
    let starting = std::thread::spawn(|| Peer::start("renderer", &name()));
    while !starting.is_finished() || !ipc_main.all_web_contents().iter().any(|renderer| renderer.is_connected()) {
        ipc_main.wait(Some(Duration::from_millis(1))).expect("a wait");
        ipc_main.poll(Budget::UNLIMITED).expect("a poll");
    }
    starting.join().expect("a renderer")
}

fn polling(criterion: &mut Criterion) {
    idle(criterion);
    calls(criterion);
    if !std::env::args().any(|argument| argument == "--list") {
        budget();
    }
}

fn idle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("poll, nothing to do");
    for renderers in [1, 10, 100] {
        let ipc_main = polled_main();
        let renderers: Vec<_> =
            (0..renderers).map(|_| IpcRenderer::builder().attach(&ipc_main).expect("one")).collect();
        while ipc_main.wait(Some(Duration::from_millis(20))).expect("a wait") {
            ipc_main.poll(Budget::UNLIMITED).expect("a poll");
        }
        let _pinned = Pinned::to(Core::Ours);
        group.bench_function(BenchmarkId::from_parameter(renderers.len()), |bencher| {
            bencher.iter(|| ipc_main.poll(Budget::UNLIMITED).expect("a poll"));
        });
        ipc_main.as_fd().expect("a descriptor");
        ipc_main.poll(Budget::UNLIMITED).expect("a poll");
        group.bench_function(BenchmarkId::new("with as_fd", renderers.len()), |bencher| {
            bencher.iter(|| ipc_main.poll(Budget::UNLIMITED).expect("a poll"));
        });
    }
    group.finish();
}

fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("polled");
    let ipc_main = polled_main();
    let peer = start_renderer(&ipc_main);
    let renderer = ipc_main.all_web_contents().pop().expect("a renderer");
    group.bench_function("a call of main's, wait", |bencher| {
        peer.iter(bencher, || renderer.invoke::<i64>("add", (2, 3), support::PATIENCE).wait().expect("a sum"));
    });
    group.bench_function("a call of main's, wait_polling", |bencher| {
        peer.iter(bencher, || {
            renderer.invoke::<i64>("add", (2, 3), support::PATIENCE).wait_polling(support::PATIENCE).expect("a sum")
        });
    });
    group.finish();
    let _awake = peer.awake();
    drop(ipc_main);
}

/// Polls within 200 µs, again and again, under a flood of messages whose listener takes 1 µs.
fn budget() {
    let is_brief = std::env::args().any(|argument| ["--test", "--quick"].contains(&argument.as_str()));
    let (budget, callback) = (Duration::from_micros(200), Duration::from_micros(1));
    let ipc_main = polled_main();
    let heard = Arc::new(AtomicU64::new(0));
    let hears = heard.clone();
    ipc_main.on("n", move |_event, (_a, _b): (i64, i64)| {
        let start = Instant::now();
        while start.elapsed() < callback {
            std::hint::spin_loop();
        }
        hears.fetch_add(1, Ordering::Relaxed);
    });
    let peer = start_renderer(&ipc_main);
    let mut times = Vec::new();
    let mut full = 0_usize;
    {
        let _together = peer.together();
        ipc_main.all_web_contents()[0].send("flood", ()).expect("sent");
        let until = Instant::now() + Duration::from_millis(if is_brief { 300 } else { 5_000 });
        while Instant::now() < until {
            let start = Instant::now();
            let polled = ipc_main.poll(Budget::time(budget)).expect("a poll");
            times.push(start.elapsed());
            full += usize::from(polled.more);
        }
    }
    times.sort_unstable();
    let at = |per_10_000: usize| times[(times.len() - 1) * per_10_000 / 10_000].as_secs_f64() * 1e6;
    println!("poll with a budget of {budget:?} under a flood, a callback takes {callback:?}:");
    println!(
        "  {} polls ({full} with more left), {} messages\n  p50 {:.1}  p99 {:.1}  p99.9 {:.1}  p99.99 {:.1}  max {:.1} µs",
        times.len(),
        heard.load(Ordering::Relaxed),
        at(5_000),
        at(9_900),
        at(9_990),
        at(9_999),
        at(10_000),
    );
    let over = times.iter().filter(|time| **time > budget + callback).count();
    println!("  over the budget and one callback: {over}; what the machine did meanwhile is in that");
    let _awake = peer.awake();
    drop(ipc_main);
}

fn main() {
    support::main(&[("renderer", play_renderer)], polling);
}
