//! What renderers cost that say nothing: memory and context switches of their main, the time of the one that talks, and how
//! soon the first message of a silent one is noticed while main is busy with another. Figures are printed, with the spread
//! of the ratio; there is nothing for Criterion to sample.
//!
//! `cargo bench --bench idle` takes about half a minute, `-- --quick` and `-- --test` a few seconds with fewer renderers.
#![allow(missing_docs)]

mod support;

use ringmain::{IpcMain, IpcRenderer};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::Peer;

/// Nanoseconds of the clock that both processes share.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// KiB of `field` in /proc/self/status.
fn status_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Context switches of all threads of this process so far, of whatever kind.
fn context_switches() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads").flatten();
    let of = |task: std::fs::DirEntry| -> u64 {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        counts.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
    };
    // Not of the thread that answers: only the library's own may be idle.
    tasks.filter(is_ours).map(of).sum()
}

fn is_ours(task: &std::fs::DirEntry) -> bool {
    std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("ringmain-"))
}

fn play_main(with: &str) {
    support::outlive_no_bench();
    support::raise_descriptor_limit();
    let ipc_main = IpcMain::new().expect("a main");
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).expect("a handler");
    ipc_main.handle("memory", |_event, ()| Ok((status_kib("RssAnon"), status_kib("RssShmem")))).expect("a handler");
    let noticed = Arc::new(Mutex::new(Vec::<u64>::new()));
    let notices = noticed.clone();
    ipc_main.on("sent at", move |_event, (at,): (u64,)| notices.lock().expect("no panic").push(now() - at));
    ipc_main
        .handle("noticed after", move |_event, ()| Ok(std::mem::take(&mut *noticed.lock().expect("no panic"))))
        .expect("a handler");
    // Who asks sleeps meanwhile, and so does everybody here: a thread of its own counts, and answers when it is asked again.
    let quiet = Arc::new(Mutex::new(None));
    let counts = quiet.clone();
    ipc_main
        .handle("be quiet", move |_event, (millis,): (u64,)| {
            let counts = counts.clone();
            // Named, or it would inherit the dispatcher's name and count itself.
            std::thread::Builder::new().name("counts".into()).spawn(move || {
                std::thread::sleep(Duration::from_millis(200)); // the answer to this call, and what it woke
                let before = context_switches();
                std::thread::sleep(Duration::from_millis(millis));
                *counts.lock().expect("no panic") = Some(context_switches() - before);
            })?;
            Ok(())
        })
        .expect("a handler");
    ipc_main.handle("was quiet", move |_event, ()| Ok(*quiet.lock().expect("no panic"))).expect("a handler");
    let name = format!("bench-idle-{with}-{}", std::process::id());
    ipc_main.listen(&name).expect("a name of its own");
    support::serve(&name);
}

fn connect(peer: &Peer, count: usize) -> Vec<IpcRenderer> {
    let _awake = peer.awake();
    let connect = |_| IpcRenderer::connect_to(peer.said()).expect("a renderer");
    let ipc_renderers: Vec<_> = (0..count).map(connect).collect();
    ipc_renderers.iter().for_each(|ipc_renderer| assert_eq!(call(ipc_renderer), 5));
    ipc_renderers
}

fn call(ipc_renderer: &IpcRenderer) -> i64 {
    ipc_renderer.invoke("add", (2, 3)).wait().expect("a sum")
}

/// Nanoseconds of a call, the median of batches of 100.
fn time_of_call(ipc_renderer: &IpcRenderer, batches: usize) -> f64 {
    support::warm_up(|| call(ipc_renderer));
    let batch = |_| {
        let start = Instant::now();
        for _ in 0..100 {
            black_box(call(ipc_renderer));
        }
        start.elapsed().as_nanos() as f64 / 100.0
    };
    median(&mut (0..batches).map(batch).collect::<Vec<_>>())
}

fn median(values: &mut [f64]) -> f64 {
    at(values, 0.5)
}

fn at(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}

fn memory(links: usize) {
    let peer = Peer::start("main", "memory");
    let first = connect(&peer, 1);
    let _awake = peer.awake();
    let of_main = || first[0].invoke::<(u64, u64)>("memory", ()).wait().expect("its memory");
    let (anon, shared) = of_main();
    let more = connect(&peer, links);
    let _awake = peer.awake();
    let (anon_now, shared_now) = of_main();
    let per_link = |now: u64, before: u64| (now - before) as f64 / links as f64;
    let (private, region) = (per_link(anon_now, anon), per_link(shared_now, shared));
    println!(
        "memory of an idle link in main, of {links}: region {region:.1} KiB, private {private:.1} KiB, together {:.1} KiB",
        region + private
    );
    drop(more);
}

fn idle(links: usize, time: Duration) {
    let peer = Peer::start("main", "idle");
    let ipc_renderers = connect(&peer, links);
    let _awake = peer.awake();
    ipc_renderers[0].invoke::<()>("be quiet", (time.as_millis() as u64,)).wait().expect("an answer");
    std::thread::sleep(time + Duration::from_millis(500));
    let until = Instant::now() + support::PATIENCE;
    let switches = loop {
        if let Some(switches) = ipc_renderers[0].invoke::<Option<u64>>("was quiet", ()).wait().expect("an answer") {
            break switches;
        }
        assert!(Instant::now() < until, "main did not count");
        std::thread::sleep(Duration::from_millis(50));
    };
    println!("context switches of main's threads in {time:?} with {links} idle renderers: {switches}");
}

fn beside_silent_ones(links: usize, rounds: usize) {
    let (alone, crowded) = (Peer::start("main", "alone"), Peer::start("main", "crowded"));
    let (one, many) = (connect(&alone, 1), connect(&crowded, links));
    let mut ratios = Vec::new();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let took = [(&alone, &one[0]), (&crowded, &many[0])].map(|(peer, ipc_renderer)| {
            let _together = peer.together();
            time_of_call(ipc_renderer, 30)
        });
        ratios.push(took[1] / took[0]);
        times[0].push(took[0]);
        times[1].push(took[1]);
    }
    println!(
        "call of one beside {} silent renderers: {:.0} ns, alone {:.0} ns, ratio {:.2} (p10 {:.2}, p90 {:.2})",
        links - 1,
        median(&mut times[1]),
        median(&mut times[0]),
        median(&mut ratios.clone()),
        at(&mut ratios.clone(), 0.1),
        at(&mut ratios, 0.9)
    );
    // The thread that sends keeps main busy: a few calls of one renderer, a message of a silent one, calls until it is
    // noticed and its link is quiet again.
    let _together = crowded.together();
    let mut noticed = Vec::new();
    for round in 0..rounds * 10 {
        let silent = &many[1 + round % (links - 1)];
        let talks = |time| {
            let until = Instant::now() + Duration::from_micros(time);
            while Instant::now() < until {
                call(&many[0]);
            }
        };
        talks(300);
        silent.send("sent at", (now(),)).expect("sent");
        talks(300);
        let after: Vec<u64> = many[0].invoke("noticed after", ()).wait().expect("times");
        noticed.extend(after.into_iter().map(|nanos| nanos as f64 / 1000.0));
    }
    println!(
        "first message of a silent one of {links} while main is busy: noticed after {:.0} µs (p90 {:.0}, p99 {:.0}; {} of {})",
        median(&mut noticed.clone()),
        at(&mut noticed.clone(), 0.9),
        at(&mut noticed.clone(), 0.99),
        noticed.len(),
        rounds * 10
    );
}

fn main() {
    if support::plays(&[("main", play_main)]) {
        return;
    }
    support::raise_descriptor_limit();
    let is_short = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    memory(if is_short { 20 } else { 200 });
    idle(if is_short { 20 } else { 100 }, Duration::from_secs(if is_short { 1 } else { 10 }));
    beside_silent_ones(if is_short { 20 } else { 1000 }, if is_short { 3 } else { 20 });
}
