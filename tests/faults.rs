//! Faults that were found by review, each with the steps that led to it.
#![allow(missing_docs)]

mod support;

use ringmain::{ErrorKind, IpcMain, IpcMainEvent, IpcRenderer};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use support::{PATIENCE, bounded, builder, child, ipc_main, next, spawn};

#[test]
fn children() {
    support::play(&[
        ("a main whose stderr is closed", main_without_stderr),
        ("a renderer that says what it got", tells_what_it_got),
        ("a renderer that outlives its main", outlives_its_main),
    ]);
}

/// A future that never ends, and says when it is dropped.
struct Never(std::sync::mpsc::Sender<()>);

impl Drop for Never {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl Future for Never {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::task::Poll::Pending
    }
}

/// A caller leads and stops reading because the inbox is full; the dispatcher, which alone empties it, waits behind it.
#[test]
fn a_listener_that_waits_reads_on_though_a_leading_caller_found_the_inbox_full() {
    let ipc_main = builder().queue_limit(4096).build().unwrap();
    let (release, released) = channel();
    let released = Mutex::new(released);
    let (leads, is_led) = channel();
    ipc_main.on("leader", move |event: &IpcMainEvent, ()| {
        // Answered only when the other one asks, who is told to when this is here.
        release.send(event.clone()).unwrap();
        leads.send(()).unwrap();
    });
    ipc_main.on("ask", move |event: &IpcMainEvent, ()| {
        for number in 0..60 {
            event.reply("flood", (number, "x".repeat(1000))).unwrap();
        }
        event.set_return_value("asked").unwrap();
        let leader = next(&released.lock().unwrap(), "the leader's event");
        leader.set_return_value("led").unwrap();
    });
    let ipc_renderer = ipc_main.attach().unwrap();
    let (flooded, floods) = channel();
    ipc_renderer.on("flood", move |_event, (number, _): (u32, String)| flooded.send(number));
    let (asked, is_asked) = channel();
    let inner = ipc_renderer.clone();
    ipc_renderer.on("go", move |_event, ()| {
        let answer: String = inner.send_sync("ask", ()).unwrap();
        asked.send(answer).unwrap();
    });
    let leader = ipc_renderer.clone();
    let leads = std::thread::spawn(move || leader.send_sync::<String>("leader", ()).unwrap());
    next(&is_led, "the leader's message");
    ipc_main.web_contents(ipc_renderer.id()).unwrap().send("go", ()).unwrap();
    assert_eq!(next(&is_asked, "the listener's answer"), "asked");
    assert_eq!(bounded("the leading caller", move || leads.join().unwrap()), "led");
    let order: Vec<u32> = (0..60).map(|_| next(&floods, "a message")).collect();
    assert!(order.into_iter().eq(0..60));
}

fn main_without_stderr() {
    let ipc_main = IpcMain::new().unwrap();
    ipc_main.on("number", |_event, (_number,): (u32,)| {});
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let ipc_renderer = ipc_main.attach().unwrap();
    for _ in 0..10 {
        ipc_renderer.send("number", ("no number",)).unwrap();
    }
    let sum: i64 = ipc_renderer.invoke("add", (1, 2)).timeout(PATIENCE).wait().unwrap();
    assert_eq!(sum, 3);
    drop(ipc_renderer);
    ipc_main.shutdown();
    std::process::exit(7);
}

/// `eprintln!` panics where stderr is a pipe that nobody reads.
#[test]
fn a_closed_stderr_neither_ends_the_dispatcher_nor_hangs_the_shutdown() {
    let mut main = child("a main whose stderr is closed");
    let mut main = main.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(main.stderr.take());
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match main.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > until => break None,
            None => std::thread::yield_now(),
        }
    };
    if status.is_none() {
        main.kill().unwrap();
        main.wait().unwrap();
    }
    assert_eq!(status.and_then(|status| status.code()), Some(7));
}

/// The dispatcher sits in a listener that waits for an answer that never comes: only closing the link ends that.
#[test]
fn dropping_the_owner_ends_a_listener_that_waits_for_an_answer_for_ever() {
    let ipc_main = ipc_main();
    let (dropped, is_dropped) = channel();
    let dropped = Mutex::new(dropped);
    ipc_main
        .handle_async("never", move |_event, ()| {
            let never = Never(dropped.lock().unwrap().clone());
            async move {
                never.await;
                Ok(())
            }
        })
        .unwrap();
    let ipc_renderer = ipc_main.attach().unwrap();
    let (waits, is_waiting) = channel();
    let (ended, has_ended) = channel();
    let inner = ipc_renderer.clone();
    ipc_renderer.on("go", move |_event, ()| {
        let call = inner.invoke::<()>("never", ());
        waits.send(()).unwrap();
        ended.send(call.wait().unwrap_err().kind()).unwrap();
    });
    ipc_main.web_contents(ipc_renderer.id()).unwrap().send("go", ()).unwrap();
    next(&is_waiting, "the listener");
    bounded("the drop", move || drop(ipc_renderer));
    assert_eq!(next(&has_ended, "the end of its wait"), ErrorKind::Disconnected);
    next(&is_dropped, "the drop of the handler's future, whose caller is gone");
}

fn tells_what_it_got() {
    let got = Arc::new(AtomicUsize::new(0));
    let counts = got.clone();
    let ipc_renderer = IpcRenderer::builder()
        .on("text", move |_event, (text,): (String,)| counts.fetch_add(text.len(), Ordering::Relaxed))
        .connect()
        .unwrap();
    support::until_disconnected(&ipc_renderer);
    std::process::exit((got.load(Ordering::Relaxed) / 100_000) as i32);
}

#[test]
fn closing_or_dropping_before_the_renderer_has_connected_waits_for_it_and_loses_nothing() {
    for drops in [false, true] {
        let ipc_main = ipc_main();
        let (gone, is_gone) = channel();
        ipc_main.on_renderer_gone(move |web_contents, _| drop(gone.send(web_contents.clone())));
        let child = spawn(&ipc_main, "a renderer that says what it got");
        let pid = child.process().id();
        let pidfd = pidfd(pid);
        for _ in 0..10 {
            child.send("text", ("x".repeat(100_000),)).unwrap();
        }
        if drops {
            // At most one second: enough for a child to start, or the queue is lost, which is what is promised.
            drop(ipc_main);
            wait_for_end(&pidfd);
        } else {
            child.close(PATIENCE).unwrap();
            next(&is_gone, "the end of the link");
            wait_for_end(&pidfd);
            let until = Instant::now() + PATIENCE;
            while child.process().exit_status().is_none() && Instant::now() < until {
                std::thread::yield_now();
            }
            assert_eq!(child.process().exit_status(), Some(ringmain::ExitStatus::Exited(Some(10))));
        }
    }
}

fn pidfd(pid: u32) -> rustix::fd::OwnedFd {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
}

fn wait_for_end(pidfd: &rustix::fd::OwnedFd) {
    let mut fds = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 1, "the process goes on");
}

fn outlives_its_main() {
    let ipc_renderer = support::connected();
    support::until_disconnected(&ipc_renderer);
    // Main has let go of us: until somebody closes our input we go on.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn a_renderer_that_outlives_its_main_handle_is_no_zombie_when_it_ends() {
    let ipc_main = ipc_main();
    let (opened, is_open) = channel();
    ipc_main.on_renderer_connected(move |_| opened.send(()).unwrap());
    let mut program = child("a renderer that outlives its main");
    program.stdin(Stdio::piped());
    let child = support::Child(ipc_main.spawn(program).unwrap());
    next(&is_open, "the renderer");
    let pid = child.process().id();
    let (input, end) = (child.process().take_stdin().unwrap(), pidfd(pid));
    drop(ipc_main);
    drop(input);
    wait_for_end(&end);
    let until = Instant::now() + PATIENCE;
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < until, "process {pid} is a zombie");
        std::thread::yield_now();
    }
}

#[test]
fn a_hook_that_is_added_when_main_is_gone_is_told_each_one() {
    let ipc_main = ipc_main();
    let ipc_renderer = ipc_main.attach().unwrap();
    let (first, is_first) = channel();
    ipc_renderer.on_disconnected(move |reason| drop(first.send(reason.clone())));
    drop(ipc_main);
    next(&is_first, "the first hook");
    for _ in 0..2 {
        let (late, is_late) = channel();
        ipc_renderer.on_disconnected(move |reason| drop(late.send(reason.clone())));
        next(&is_late, "a late hook");
    }
}

#[test]
fn a_serializer_that_panics_leaves_no_call_behind() {
    struct Panics;
    impl serde::Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("a Serialize of the user's")
        }
    }
    let ipc_main = builder().max_pending_calls(4).build().unwrap();
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let ipc_renderer = ipc_main.attach().unwrap();
    for _ in 0..8 {
        let call = std::panic::AssertUnwindSafe(|| ipc_renderer.invoke::<i64>("add", (Panics, 1)).detach());
        assert!(std::panic::catch_unwind(call).is_err());
    }
    assert_eq!(ipc_renderer.stats().pending_calls, 0);
    assert_eq!(ipc_renderer.invoke::<i64>("add", (1, 1)).wait().unwrap(), 2);
}
