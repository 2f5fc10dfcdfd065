//! Many renderers at one main: the call of one while the others are silent, calls of all in turn, each of which finds main
//! awake but its own link quiet, and calls of all at once. The other process is the main; all renderers are in this one,
//! each with a link and threads of its own, which sleep.
#![allow(missing_docs)]

mod support;

use criterion::{BenchmarkId, Criterion, Throughput};
use ringmain::{Invoke, IpcMain, IpcRenderer};
use support::Peer;

fn play_main(_with: &str) {
    support::outlive_no_bench();
    support::raise_descriptor_limit();
    let ipc_main = IpcMain::new().expect("a main");
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).expect("a handler");
    let name = format!("bench-scale-{}", std::process::id());
    ipc_main.listen(&name).expect("a name of its own");
    support::serve(&name);
}

fn call(ipc_renderer: &IpcRenderer) -> i64 {
    ipc_renderer.invoke("add", (2, 3)).wait().expect("a sum")
}

fn scale(criterion: &mut Criterion) {
    support::raise_descriptor_limit();
    let peer = Peer::start("main", "");
    let mut ipc_renderers = Vec::new();
    let mut group = criterion.benchmark_group("scale");
    for connected in [1, 10, 100, 1000] {
        {
            let _awake = peer.awake();
            while ipc_renderers.len() < connected {
                match IpcRenderer::connect_to(peer.said()) {
                    Ok(ipc_renderer) => ipc_renderers.push(ipc_renderer),
                    Err(error) => {
                        eprintln!(
                            "no more than {} renderers here, {connected} not measured: {error}",
                            ipc_renderers.len()
                        );
                        return;
                    }
                }
            }
            ipc_renderers.iter().for_each(|ipc_renderer| assert_eq!(call(ipc_renderer), 5));
        }
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("one active", connected), |bencher| {
            peer.iter(bencher, || call(&ipc_renderers[0]));
        });
        let mut turns = ipc_renderers.iter().cycle();
        group.bench_function(BenchmarkId::new("all active, in turn", connected), |bencher| {
            peer.iter(bencher, || call(turns.next().expect("an endless circle")));
        });
        group.throughput(Throughput::Elements(connected as u64));
        group.bench_function(BenchmarkId::new("all active, at once", connected), |bencher| {
            peer.iter(bencher, || {
                let calls: Vec<Invoke<i64>> = ipc_renderers.iter().map(|it| it.invoke("add", (2, 3))).collect();
                calls.into_iter().map(|call| call.wait().expect("a sum")).sum::<i64>()
            });
        });
    }
    group.finish();
    let _awake = peer.awake();
    drop(ipc_renderers);
}

fn main() {
    support::main(&[("main", play_main)], scale);
}
