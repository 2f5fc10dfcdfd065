//! Starting renderers, what they cost while nothing happens, and what a callback that blocks must not hold up.
#![allow(missing_docs)]

mod support;

use ringmain::{Error, ErrorKind, ExitStatus, GoneReason, IpcMain, IpcMainEvent, IpcRenderer, Wait};
use std::io::BufReader;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;
use support::{
    Child, Gate, PATIENCE, Program, TempDir, alone, builder, child, connected, gone, ipc_main, leaves_nothing, line,
    lives, names_in, next, open_fds, received, say, spawn, stat, threads, until, until_disconnected, until_said,
};

#[test]
fn children() {
    support::play(&[
        ("pings", pings),
        ("counts", counts),
        ("connects twice", connects_twice),
        ("is no renderer", is_no_renderer),
        ("idle main", idle_main),
        ("idle main that parks", idle_main_that_parks),
        ("waits idly", waits_idly),
        ("says when it is connected", says_when_it_is_connected),
        ("blocks its dispatcher", blocks_its_dispatcher),
        ("spawns by several threads", spawns_by_several_threads),
        ("spawns by a thread that ends", spawns_by_a_thread_that_ends),
        ("main again and again", main_again_and_again),
        ("spawns again and again", spawns_again_and_again),
    ]);
}

// ---- starting -----------------------------------------------------------------------------------------------------

/// Says who it is, and answers.
fn pings() {
    let ipc_renderer = connected();
    let answers = ipc_renderer.clone();
    ipc_renderer.on("ping", move |_event, (number,): (i64,)| answers.send("pong", (number,)));
    ipc_renderer.send("here", (ipc_renderer.id(), std::process::id())).unwrap();
    until_disconnected(&ipc_renderer);
}

#[test]
fn renderers_spawned_by_several_threads_at_once_get_their_own_links_and_leave_nothing() {
    alone("spawns by several threads");
}

fn spawns_by_several_threads() {
    const THREADS: usize = 4;
    let ipc_main = ipc_main();
    let here = received::<(u32, u32)>(&ipc_main, "here");
    let gone = gone(&ipc_main);
    let together = || {
        let together = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (ipc_main, together) = (ipc_main.clone(), together.clone());
                std::thread::spawn(move || {
                    together.wait();
                    spawn(&ipc_main, "pings")
                })
            })
            .collect();
        let children: Vec<Child> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for _ in 0..THREADS {
            let (from, (id, pid)) = next(&here, "each renderer");
            assert_eq!(id, from.id());
            assert_eq!(pid, from.process().id());
            assert!(children.iter().any(|child| child.0 == from));
        }
        drop(children);
        for _ in 0..THREADS {
            assert_eq!(next(&gone, "each end").1, GoneReason::Killed { signal: 9 });
        }
    };
    leaves_nothing("main after renderers spawned at once", || (0..4).for_each(|_| together()));
}

#[test]
fn a_renderer_outlives_the_thread_that_spawned_it_and_leaves_nothing() {
    alone("spawns by a thread that ends");
}

fn spawns_by_a_thread_that_ends() {
    let ipc_main = ipc_main();
    let gone = gone(&ipc_main);
    let here = received::<(u32, u32)>(&ipc_main, "here");
    let pong = received::<(i64,)>(&ipc_main, "pong");
    leaves_nothing("main after a renderer of a thread that has ended", || {
        let spawns = ipc_main.clone();
        let child = std::thread::spawn(move || spawn(&spawns, "pings")).join().unwrap();
        next(&here, "the renderer");
        child.send("ping", (7,)).unwrap();
        assert_eq!(next(&pong, "its answer").1, (7,));
        assert!(gone.try_recv().is_err() && child.is_connected());
        child.process().kill().unwrap();
        assert_eq!(next(&gone, "its end"), (child.id(), GoneReason::Killed { signal: 9 }));
    });
}

fn counts() {
    assert_eq!(line(), "connect");
    let (tell, told) = channel();
    let ipc_renderer = IpcRenderer::builder()
        .on("number", move |_event, (number, text): (usize, String)| tell.send((number, text.len())))
        .connect()
        .unwrap();
    for number in 0..100 {
        assert_eq!(next(&told, "a number"), (number, 4000));
    }
    ipc_renderer.send("done", ()).unwrap();
    until_disconnected(&ipc_renderer);
}

#[test]
fn what_is_sent_before_a_renderer_has_connected_arrives_in_order_with_what_is_sent_later() {
    let ipc_main = ipc_main();
    let done = received::<()>(&ipc_main, "done");
    let mut program = child("counts");
    program.stdin(Stdio::piped());
    let child = Child(ipc_main.spawn(program).unwrap());
    let text = "x".repeat(4000);
    let send = |number: usize| child.send("number", (number, &text)).unwrap();
    // More than the ring holds.
    (0..60).for_each(send);
    assert!(!child.is_connected());
    assert!(child.stats().queued_bytes > 60 * 4000);
    say(&mut child.process().take_stdin().unwrap(), "connect");
    (60..100).for_each(send);
    next(&done, "the renderer's own check");
}

#[test]
fn a_program_that_cannot_be_started_is_named_and_leaves_nothing() {
    let ipc_main = ipc_main();
    let gone = gone(&ipc_main);
    let error = ipc_main.spawn(Command::new("/nonexistent/program")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System);
    assert!(error.to_string().contains("/nonexistent/program"), "{error}");
    assert!(ipc_main.all_web_contents().is_empty());
    ipc_main.shutdown();
    assert!(gone.try_recv().is_err());
    let error = ipc_main.spawn(child("pings")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
}

fn connects_twice() {
    let ipc_renderer = connected();
    let kind = |result: ringmain::Result<IpcRenderer>| result.unwrap_err().kind();
    assert_eq!(kind(IpcRenderer::connect()), ErrorKind::AlreadyConnected);
    // Its own program finds the variable, but the descriptor is not there.
    assert!(Program::start(child("is no renderer")).ended(PATIENCE).success());
    ipc_renderer.send("done", ()).unwrap();
    ipc_renderer.close(PATIENCE).unwrap();
    drop(ipc_renderer);
    assert_eq!(kind(IpcRenderer::connect()), ErrorKind::AlreadyConnected);
    std::process::exit(3);
}

fn is_no_renderer() {
    let number = support::env("RINGMAIN_FD");
    let error = IpcRenderer::connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotARenderer);
    assert!(error.to_string().contains(&number), "{error}");
}

#[test]
fn a_process_connects_once_and_no_other_in_its_place() {
    let error = IpcRenderer::connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotARenderer);
    assert!(error.to_string().contains("RINGMAIN_FD is not set"), "{error}");
    let ipc_main = ipc_main();
    let done = received::<()>(&ipc_main, "done");
    let gone = gone(&ipc_main);
    let child = spawn(&ipc_main, "connects twice");
    next(&done, "the renderer");
    assert_eq!(next(&gone, "its leave").1, GoneReason::Closed);
    until("it ends well", || child.process().exit_status() == Some(ExitStatus::Exited(Some(3))));
}

// ---- idle ---------------------------------------------------------------------------------------------------------

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(3);

/// Processor time that a process has used, its system calls included.
fn processor_time(pid: u32) -> Duration {
    let fields = stat(pid).expect("a process that lives");
    // utime and stime are fields 14 and 15, the state is field 3.
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32
}

fn waits_idly() {
    let ipc_renderer = IpcRenderer::builder()
        .wait(if support::env("TEST_WAIT") == "park" { Wait::Park } else { Wait::Adaptive })
        .connect()
        .unwrap();
    let caller = ipc_renderer.clone();
    std::thread::spawn(move || caller.invoke::<()>("never", ()).wait());
    until_disconnected(&ipc_renderer);
}

fn idle(wait: Wait, name: &str) {
    const RENDERERS: usize = 10;
    let ipc_main = builder().wait(wait).build().unwrap();
    let (called, calls) = channel();
    support::never_answers(&ipc_main, called);
    let children: Vec<Child> = (0..RENDERERS)
        .map(|_| {
            let mut program = child("waits idly");
            program.env("TEST_WAIT", name);
            Child(ipc_main.spawn(program).unwrap())
        })
        .collect();
    for _ in 0..RENDERERS {
        next(&calls, "a call of each renderer");
    }
    let pids: Vec<_> = children.iter().map(|child| child.process().id()).chain([std::process::id()]).collect();
    let before: Vec<_> = pids.iter().map(|pid| processor_time(*pid)).collect();
    assert_eq!(calls.recv_timeout(IDLE), Err(RecvTimeoutError::Timeout));
    for (pid, before) in pids.iter().zip(before) {
        let used = processor_time(*pid) - before;
        let who = if *pid == std::process::id() { "main" } else { "a renderer" };
        assert!(used < IDLE / 20, "{who} used {used:?} of the processor in {IDLE:?} in which nothing happened");
    }
}

fn idle_main() {
    idle(Wait::Adaptive, "adaptive");
}

fn idle_main_that_parks() {
    idle(Wait::Park, "park");
}

#[test]
fn ten_silent_renderers_with_a_call_each_that_waits_use_no_processor_and_neither_does_main() {
    alone("idle main");
}

#[test]
fn parked_renderers_and_their_main_use_no_processor() {
    alone("idle main that parks");
}

// ---- callbacks that block -----------------------------------------------------------------------------------------

fn says_when_it_is_connected() {
    let ipc_renderer = connected();
    println!("connected");
    ipc_renderer.send("here", ()).unwrap();
    until_disconnected(&ipc_renderer);
}

#[test]
fn a_listener_that_blocks_mains_dispatcher_hides_no_death_and_holds_up_no_connection() {
    let directory = TempDir::new();
    let ipc_main = builder().runtime_dir(&*directory).build().unwrap();
    let gone = gone(&ipc_main);
    let here = received::<(u32, u32)>(&ipc_main, "here");
    let blocked = Gate::default();
    let blocks = blocked.clone();
    ipc_main.on("block", move |_event, (): ()| blocks.wait());
    let dies = spawn(&ipc_main, "pings");
    next(&here, "the renderer that dies");
    let blocker = ipc_main.attach().unwrap();
    ipc_main.listen("busy").unwrap();
    blocker.send("block", ()).unwrap();
    blocked.reached();

    dies.process().kill().unwrap();
    until("the death shows", || !dies.is_connected());
    until("the process is reaped", || dies.process().exit_status() == Some(ExitStatus::Killed(9)));
    assert!(stat(dies.process().id()).is_none(), "no zombie is left");
    assert_eq!(dies.send("late", ()).unwrap_err().kind(), ErrorKind::Disconnected);

    let mut program = child("says when it is connected");
    program.stdout(Stdio::piped());
    let connects = Child(ipc_main.spawn(program).unwrap());
    until_said(BufReader::new(connects.process().take_stdout().unwrap()), "connected");
    until("main knows that it is connected", || connects.is_connected());
    let named = IpcRenderer::builder().runtime_dir(&*directory).connect_to("busy").unwrap();
    assert!(named.is_connected());
    let attached = ipc_main.attach().unwrap();
    assert!(attached.is_connected());
    assert!(gone.try_recv().is_err(), "hooks wait for the dispatcher");

    blocked.open();
    assert_eq!(next(&gone, "the hook"), (dies.id(), GoneReason::Killed { signal: 9 }));
    until("what was sent meanwhile is read", || connects.stats().messages_received == 1);
}

fn blocks_its_dispatcher() {
    let blocked = Gate::default();
    let blocks = blocked.clone();
    let ipc_renderer = IpcRenderer::builder().on("block", move |_event, (): ()| blocks.wait()).connect().unwrap();
    blocked.reached();
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let caller = ipc_renderer.clone();
            std::thread::spawn(move || -> Result<(), Error> {
                for number in 0..200i64 {
                    let sum: i64 = caller.invoke("add", (thread, number)).timeout(PATIENCE).wait()?;
                    assert_eq!(sum, thread + number);
                    let answer: i64 = caller.send_sync_timeout("add", (thread, number), PATIENCE)?;
                    assert_eq!(answer, thread + number);
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
    ipc_renderer.send("done", ()).unwrap();
    blocked.open();
    until_disconnected(&ipc_renderer);
}

#[test]
fn a_listener_that_blocks_a_renderers_dispatcher_holds_up_no_answer() {
    let ipc_main = ipc_main();
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_main.on("add", |event: &IpcMainEvent, (a, b): (i64, i64)| event.set_return_value(a + b));
    let done = received::<()>(&ipc_main, "done");
    let child = spawn(&ipc_main, "blocks its dispatcher");
    child.send("block", ()).unwrap();
    // Queues behind the listener that blocks.
    for _ in 0..50 {
        child.send("waits", ("x".repeat(1000),)).unwrap();
    }
    next(&done, "the answers");
}

// ---- growth -------------------------------------------------------------------------------------------------------

#[test]
fn a_main_and_its_renderer_leave_nothing_behind_two_hundred_times() {
    alone("main again and again");
}

/// Bytes of memory that this process has resident.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
}

/// Regions that this process has mapped. Shared ones only: the program's own file is mapped too, and may lie in a folder
/// of the same name.
fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let is_shared = |line: &str| line.split(' ').nth(1).is_some_and(|mode| mode.ends_with('s'));
    maps.lines().filter(|line| is_shared(line) && line.contains("ringmain")).count()
}

fn main_and_renderer(number: usize) {
    let ipc_main = ipc_main();
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeps = kept.clone();
    let of_listener = ipc_main.clone();
    ipc_main.on("keep", move |event: &IpcMainEvent, (): ()| {
        // Neither a handle nor an event keeps anything alive.
        keeps.lock().unwrap().push((of_listener.clone(), event.clone()));
        event.reply("kept", ("x".repeat(200_000),)).unwrap();
    });
    let ipc_renderer = ipc_main.attach().unwrap();
    assert_ne!(mappings(), 0);
    let (tell, told) = channel();
    let of_listener = ipc_renderer.clone();
    ipc_renderer.on("kept", move |_event, (text,): (String,)| tell.send((of_listener.id(), text.len())));
    let sum: i64 = ipc_renderer.invoke("add", (2, 3)).timeout(PATIENCE).wait().unwrap();
    assert_eq!(sum, 5);
    ipc_renderer.send("keep", ()).unwrap();
    assert_eq!(next(&told, "the message"), (ipc_renderer.id(), 200_000));
    match number % 4 {
        0 => drop(ipc_main),
        1 => drop(ipc_renderer),
        2 => ipc_main.shutdown(),
        _ => {
            let pending = ipc_renderer.invoke::<i64>("nobody", ());
            drop(ipc_main);
            assert!(pending.wait().is_err());
        }
    }
    kept.lock().unwrap().clear();
}

fn main_again_and_again() {
    let tasks = threads();
    // What is set up once, and what the allocator keeps.
    (0..40).for_each(main_and_renderer);
    // One that was joined may still be listed.
    until("the threads of the warm-up have ended", || threads() == tasks);
    let (fds, memory) = (open_fds(), resident());
    (0..200).for_each(main_and_renderer);
    until("the descriptors are closed", || open_fds() == fds);
    until("the threads have ended", || threads() == tasks);
    assert_eq!(mappings(), 0);
    let grown = resident().saturating_sub(memory);
    // One region alone that is not given back makes 50 MiB.
    assert!(grown < 8 << 20, "{grown} bytes more are resident after 200 times");
}

#[test]
fn spawned_renderers_leave_nothing_behind() {
    alone("spawns again and again");
}

fn spawns_again_and_again() {
    let spawn_and_end = |number: usize| {
        let directory = TempDir::new();
        let ipc_main: IpcMain = builder().runtime_dir(&*directory).build().unwrap();
        let here = received::<(u32, u32)>(&ipc_main, "here");
        let gone = gone(&ipc_main);
        ipc_main.listen("again").unwrap();
        let child = spawn(&ipc_main, "pings");
        let pid = child.process().id();
        next(&here, "the renderer");
        if number.is_multiple_of(2) {
            child.process().kill().unwrap();
            next(&gone, "its end");
        }
        drop(ipc_main);
        assert_eq!(names_in(&directory), [""; 0]);
        drop(child);
        pid
    };
    let tasks = threads();
    let _warm: Vec<_> = (0..2).map(spawn_and_end).collect();
    // The thread that reaps a child which outlives its main holds a descriptor: not part of what is compared.
    until("the threads of the warm-up have ended", || threads() == tasks);
    let fds = open_fds();
    let pids: Vec<_> = (0..20).map(spawn_and_end).collect();
    until("the descriptors are closed", || open_fds() == fds);
    until("the threads have ended", || threads() == tasks);
    until("no renderer outlives its main", || !pids.iter().any(|pid| lives(*pid)));
}
