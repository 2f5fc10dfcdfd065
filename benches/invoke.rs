//! Calls through the public API between two processes: the other one is the main and echoes, this one is the renderer
//! that calls. Both ends wait in the same way.
#![allow(missing_docs)]

mod support;

use criterion::{BenchmarkId, Criterion, Throughput};
use ringmain::{IpcMain, IpcRenderer, Wait};
use support::Peer;

fn wait_of(name: &str) -> Wait {
    match name {
        "spin" => Wait::Spin,
        "park" => Wait::Park,
        _ => Wait::Adaptive,
    }
}

fn play_main(wait: &str) {
    support::outlive_no_bench();
    let ipc_main = IpcMain::builder().wait(wait_of(wait)).build().expect("a main");
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).expect("a handler");
    ipc_main.handle("echo", |_event, (text,): (String,)| Ok(text)).expect("a handler");
    ipc_main.handle_async("echo async", |_event, (text,): (String,)| async move { Ok(text) }).expect("a handler");
    let name = format!("bench-invoke-{}", std::process::id());
    ipc_main.listen(&name).expect("a name of its own");
    support::serve(&name);
}

fn invoke(criterion: &mut Criterion) {
    for wait in ["spin", "adaptive", "park"] {
        let peer = Peer::start("main", wait);
        let ipc_renderer = {
            let _awake = peer.awake();
            IpcRenderer::builder().wait(wait_of(wait)).connect_to(peer.said()).expect("connected")
        };
        let mut group = criterion.benchmark_group(format!("invoke/{wait}"));
        group.bench_function("add, typed", |bencher| {
            peer.iter(bencher, || ipc_renderer.invoke::<i64>("add", (2, 3)).wait().expect("a sum"));
        });
        for bytes in [64, 4 << 10, 64 << 10, 1 << 20] {
            let text = "x".repeat(bytes);
            group.throughput(Throughput::Bytes(bytes as u64));
            for (handler, channel) in [("echo", "echo"), ("echo, async handler", "echo async")] {
                group.bench_function(BenchmarkId::new(handler, bytes), |bencher| {
                    peer.iter(bencher, || ipc_renderer.invoke::<String>(channel, (&text,)).wait().expect("an echo"));
                });
            }
        }
        group.finish();
        let _awake = peer.awake();
        drop(ipc_renderer);
    }
}

fn main() {
    support::main(&[("main", play_main)], invoke);
}
