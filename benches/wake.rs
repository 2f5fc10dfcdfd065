//! What sleeping costs: a round trip in which both sides slept, beside the futex ping-pong that is its floor, and a send
//! that has to wake the other side. Only rounds count in which the kernel saw the threads sleep.
#![allow(missing_docs)]

mod support;

use criterion::Criterion;
use ringmain::{IpcMain, IpcRenderer, Wait, internals};
use rustix::thread::futex::{self, Flags};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use support::{Peer, Sleepers};

fn own_thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

fn play_main(_with: &str) {
    support::outlive_no_bench();
    let ipc_main = IpcMain::builder().wait(Wait::Park).build().expect("a main");
    ipc_main.handle("thread", |_event, ()| Ok((std::process::id(), own_thread()))).expect("a handler");
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).expect("a handler");
    ipc_main.on("message", |_event, (_a, _b): (i64, i64)| {});
    let name = format!("bench-wake-{}", std::process::id());
    ipc_main.listen(&name).expect("a name of its own");
    support::serve(&name);
}

/// Sets the word and wakes the other process.
fn put(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    futex::wake(word, Flags::empty(), 1).expect("a wake-up");
}

/// Sleeps until the word is no longer `old`.
fn next(word: &AtomicU32, old: u32) -> u32 {
    loop {
        let value = word.load(Ordering::Acquire);
        if value != old {
            return value;
        }
        let _ = futex::wait(word, Flags::empty(), old, None); // whatever wakes us, we look
    }
}

/// The other process of the floor: a thread that passes each number on, until the process ends.
fn play_floor(memory: &str) {
    support::outlive_no_bench();
    let memory = File::options().read(true).write(true).open(memory).expect("the memory of the bench");
    let [to, from] = internals::shared_words(memory).expect("words");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = tell.send(own_thread());
        let mut seen = 0;
        loop {
            seen = next(&to, seen);
            put(&from, seen);
        }
    });
    support::serve(&told.recv().expect("its number").to_string());
}

fn floor(criterion: &mut Criterion) {
    let memory = internals::shared_memory().expect("memory");
    let [to, from] = internals::shared_words(&memory).expect("words");
    let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
    let peer = Peer::start("floor", &path);
    let mut sleepers = Sleepers::with(peer.id(), peer.said().parse().expect("the number of a thread"));
    let mut round = 0;
    criterion.bench_function("wake/floor: futex ping-pong", |bencher| {
        bencher.iter_custom(|count| {
            let _together = peer.together();
            let mut pass = || {
                round += 1;
                put(&to, round);
                next(&from, round - 1);
            };
            support::warm_up(&mut pass);
            sleepers.rounds(count, true, pass)
        });
    });
}

fn calls(criterion: &mut Criterion) {
    let peer = Peer::start("main", "");
    let awake = peer.awake();
    let ipc_renderer = IpcRenderer::builder().wait(Wait::Park).connect_to(peer.said()).expect("connected");
    let (process, thread) = ipc_renderer.invoke("thread", ()).wait().expect("main's dispatcher");
    drop(awake);
    let mut sleepers = Sleepers::with(process, thread);
    let call = || ipc_renderer.invoke::<i64>("add", (2, 3)).wait().expect("a sum");
    criterion.bench_function("wake/invoke, both asleep", |bencher| {
        bencher.iter_custom(|count| {
            let _together = peer.together();
            support::warm_up(call);
            sleepers.rounds(count, true, || {
                call();
            })
        });
    });
    // What the sender pays: it does not wait for the one that it wakes.
    criterion.bench_function("wake/send to one asleep", |bencher| {
        bencher.iter_custom(|count| {
            let _together = peer.together();
            support::warm_up(call);
            sleepers.rounds(count, false, || ipc_renderer.send("message", (2, 3)).expect("sent"))
        });
    });
    let _awake = peer.awake();
    drop(ipc_renderer);
}

fn wake(criterion: &mut Criterion) {
    floor(criterion);
    calls(criterion);
}

fn main() {
    support::main(&[("main", play_main), ("floor", play_floor)], wake);
}
