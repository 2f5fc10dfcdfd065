//! What a call asks of the kernel in the steady state, both sides together: nothing, as long as both spin. Proven by the
//! kernel: a filter ends the process at the first system call of the caller or of main's dispatcher.
#![allow(missing_docs)]
// A filter is a pointer to a program.
#![allow(unsafe_code)]

mod support;

use ringmain::{Budget, Dispatch, IpcMain, IpcRenderer, Wait};
use std::cell::Cell;
use std::time::{Duration, Instant};

#[test]
fn children() {
    support::play(&[("sealed", sealed), ("sealed polls", sealed_polls)]);
}

/// Rounds after which every buffer has its size: a block has it already, as each block is the same calls.
const WARM_UP: i64 = 2 * BLOCK;
const ROUNDS: i64 = 100 * BLOCK;
const BLOCK: i64 = 1000;

/// No further block begins later: where others keep the cores busy, two that spin seldom run at the same time, and a
/// call costs turns of milliseconds.
const ENOUGH: Duration = Duration::from_secs(20);

/// From here on this thread makes no system call: the first one ends the process by SIGSYS. What reads the clock is let
/// through, which is a system call only where the kernel cannot do without.
fn seal_this_thread() {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD_WORD, 0, 0, 0), // the call's number
        step(JUMP_IF_EQUAL, 0, 1, libc::SYS_clock_gettime as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        // How the process ends when all is well.
        step(JUMP_IF_EQUAL, 0, 1, libc::SYS_exit_group as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: neither call touches memory but the program, which lives until they return.
    let sealed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(sealed, "no filter: {}", std::io::Error::last_os_error());
}

fn sealed() {
    let ipc_main = IpcMain::builder().wait(Wait::Spin).build().unwrap();
    support::add_sums(&ipc_main);
    ipc_main
        .handle("seal", |_event, ()| {
            seal_this_thread();
            Ok(())
        })
        .unwrap();
    let ipc_renderer = ipc_main.attach().unwrap();
    let rounds = |count: i64| {
        let begin = Instant::now();
        let mut done = 0;
        while done == 0 || (done < count && begin.elapsed() < ENOUGH) {
            let block = count.min(BLOCK);
            support::checked_sums(&ipc_renderer, block);
            done += block;
        }
    };
    // Two that spin on one core take turns of milliseconds.
    let sealed_rounds =
        if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) { ROUNDS } else { 20 };
    rounds(sealed_rounds.min(WARM_UP));
    ipc_renderer.invoke::<()>("seal", ()).wait().unwrap();
    seal_this_thread();
    rounds(sealed_rounds);
    // Neither thread can end in order: what they would drop is asked of the kernel.
    // SAFETY: ends the process at once, without running anything.
    unsafe { libc::_exit(0) }
}

#[test]
fn calls_and_synchronous_messages_make_no_system_call_on_either_side_while_both_spin() {
    support::alone("sealed");
}

/// A game's loop: most polls find nothing, some find what another thread has sent.
fn sealed_polls() {
    let ipc_main = IpcMain::builder().dispatch(Dispatch::Manual).build().unwrap();
    let renderers: Vec<_> = (0..10).map(|_| IpcRenderer::builder().attach(&ipc_main).unwrap()).collect();
    let heard = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let hears = heard.clone();
    ipc_main.on("n", move |_event, (_n,): (u64,)| _ = hears.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let polled = Cell::new(0_u64);
    let poll = || {
        ipc_main.poll(Budget::time(Duration::from_millis(1))).unwrap();
        polled.set(polled.get() + 1);
    };
    let until_heard = |count| {
        while heard.load(std::sync::atomic::Ordering::Relaxed) < count {
            poll()
        }
    };
    // All have connected, and every buffer has its size.
    while ipc_main.all_web_contents().iter().any(|renderer| renderer.stats().messages_received == 0) {
        renderers.iter().for_each(|renderer| renderer.send("n", (1_u64,)).unwrap());
        poll();
    }
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let sender = std::thread::spawn(move || {
        while let Ok(()) = gone.recv() {
            for n in 0..1000_u64 {
                renderers.iter().for_each(|renderer| renderer.send("n", (n,)).unwrap());
            }
        }
    });
    // What was sent until now comes first.
    for _ in 0..1000 {
        poll();
    }
    let before = heard.load(std::sync::atomic::Ordering::Relaxed);
    for rounds in 1..=10 {
        go.send(()).unwrap();
        until_heard(before + rounds * 10_000);
    }
    go.send(()).unwrap();
    std::mem::forget((go, sender));
    seal_this_thread();
    until_heard(before + 110_000);
    let polls = polled.get();
    while polled.get() < polls + 1_000_000 {
        poll();
    }
    // SAFETY: ends the process at once, without running anything.
    unsafe { libc::_exit(0) }
}

#[test]
fn a_poll_makes_no_system_call_whether_it_finds_something_or_not() {
    support::alone("sealed polls");
}
