//! Faults that were found by review, each with the steps that led to it.
#![allow(missing_docs)]

mod support;

use futures::executor::block_on;
use ringmain::{ErrorKind, IpcMain, IpcMainEvent, IpcRenderer, WebContents};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, RawWaker, RawWakerVTable, Waker};
use std::time::Instant;
use support::{PATIENCE, bounded, builder, child, ipc_main, next, spawn, until};

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

// ---- foreign code that panics -------------------------------------------------------------------------------------

/// Panics where it is meant to, without a word on stderr.
fn panic_here() -> ! {
    std::panic::resume_unwind(Box::new("foreign code"))
}

/// Panics while it is sent.
struct Unsendable;

impl serde::Serialize for Unsendable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic_here()
    }
}

/// Panics while it is read.
#[derive(Debug)]
struct Unreadable;

impl<'de> serde::Deserialize<'de> for Unreadable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic_here()
    }
}

/// Panics when it is dropped.
#[derive(serde::Deserialize)]
struct Undroppable(#[allow(dead_code, reason = "it is read, and dropped")] u32);

impl Drop for Undroppable {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic_here();
        }
    }
}

/// A waker that panics when it is cloned.
fn with_unclonable_waker(poll: impl FnOnce(&mut Context<'_>)) {
    const TABLE: RawWakerVTable = RawWakerVTable::new(|_| panic_here(), |_| {}, |_| {}, |_| {});
    // SAFETY: the functions take no notice of the pointer.
    #[allow(unsafe_code)]
    let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE)) };
    poll(&mut Context::from_waker(&waker));
}

#[derive(Clone)]
struct World {
    ipc_main: IpcMain,
    ipc_renderer: IpcRenderer,
    web_contents: WebContents,
}

impl World {
    fn new() -> Self {
        let ipc_main = ipc_main();
        ipc_main.on_renderer_connected(|_| panic_here());
        ipc_main.on_renderer_gone(|_, _| panic_here());
        // Says nothing: what is told there is told by other tests.
        ipc_main.on_error(|_| panic_here());
        ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
        ipc_main.on("reads", |_event, (_,): (Unreadable,)| {});
        ipc_main.on("drops", |_event, (_value,): (Undroppable,)| {});
        ipc_main.on("replies", |event: &IpcMainEvent, ()| event.reply("x", (Unsendable,)));
        ipc_main.on("sync", |event: &IpcMainEvent, ()| event.set_return_value(Unsendable));
        ipc_main.on("sync reads", |event: &IpcMainEvent, (_,): (Unreadable,)| event.set_return_value(0));
        ipc_main.handle("reads", |_event, (_,): (Unreadable,)| Ok(())).unwrap();
        ipc_main.handle("drops", |_event, (_value,): (Undroppable,)| Ok(())).unwrap();
        ipc_main.handle("returns", |_event, ()| Ok(Unsendable)).unwrap();
        ipc_main.handle_async("returns later", |_event, ()| async { Ok(Unsendable) }).unwrap();
        ipc_main.handle("one", |_event, ()| Ok(1)).unwrap();
        ipc_main
            .handle_async("never", |_event, ()| std::future::pending::<Result<u32, ringmain::HandlerError>>())
            .unwrap();
        let ipc_renderer = ipc_main.attach().unwrap();
        ipc_renderer.on_disconnected(|_| panic_here());
        ipc_renderer.on_error(|_| panic_here());
        ipc_renderer.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
        ipc_renderer.on("reads", |_event, (_,): (Unreadable,)| {});
        ipc_renderer.handle("returns", |_event, ()| Ok(Unsendable)).unwrap();
        ipc_renderer.handle("reads", |_event, (_,): (Unreadable,)| Ok(())).unwrap();
        ipc_renderer.handle("one", |_event, ()| Ok(1)).unwrap();
        let web_contents = ipc_main.all_web_contents().pop().unwrap();
        Self { ipc_main, ipc_renderer, web_contents }
    }

    /// Every lock, the role and every slot are free.
    fn goes_on(&self) {
        let (ipc_main, ipc_renderer, web_contents) =
            (self.ipc_main.clone(), self.ipc_renderer.clone(), self.web_contents.clone());
        bounded("a call each way and a frame", move || {
            assert_eq!(ipc_renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE).wait().unwrap(), 5);
            assert_eq!(web_contents.invoke::<i64>("add", (3, 4), PATIENCE).wait().unwrap(), 7);
            let frame = ipc_renderer.frame().unwrap();
            assert_eq!(frame.invoke::<i64>("add", (4, 5)).timeout(PATIENCE).wait().unwrap(), 9);
            drop(frame);
            ipc_renderer.send("nobody", ()).unwrap();
            web_contents.send("nobody", ()).unwrap();
            ipc_renderer.flush(PATIENCE).unwrap();
            web_contents.flush(PATIENCE).unwrap();
            let id = ipc_main.on("x", |_event, ()| {});
            ipc_main.remove_listener("x", &id);
            let open = || [ipc_renderer.stats(), web_contents.stats()].map(|it| (it.pending_calls, it.open_requests));
            until("no call is left", || open() == [(0, 0); 2]);
        });
    }
}

/// `parking_lot`'s locks are not poisoned: one that is held while foreign code unwinds would be found by the next thread.
#[test]
fn foreign_code_that_panics_anywhere_leaves_no_lock_no_role_and_no_call_behind() {
    type Case = (&'static str, fn(&World));
    let panics = |run: &dyn Fn()| {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err(), "it did not panic");
    };
    // Where the panic is the caller's own.
    let here: &[Case] = &[
        ("send", |it| drop(it.ipc_renderer.send("x", (Unsendable,)))),
        ("send of main", |it| drop(it.web_contents.send("x", (Unsendable,)))),
        ("send_timeout", |it| drop(it.ipc_renderer.send_timeout("x", (Unsendable,), PATIENCE))),
        ("send_to", |it| drop(it.ipc_renderer.send_to(1, "x", (Unsendable,)))),
        ("send_to_host", |it| drop(it.ipc_renderer.send_to_host("x", (Unsendable,)))),
        ("send_sync", |it| drop(it.ipc_renderer.send_sync::<()>("sync", (Unsendable,)))),
        ("invoke", |it| drop(it.ipc_renderer.invoke::<()>("x", (Unsendable,)).wait())),
        ("invoke of main", |it| drop(it.web_contents.invoke::<()>("x", (Unsendable,), PATIENCE).wait())),
        ("emit", |it| drop(it.ipc_main.emit("x", (Unsendable,)))),
        ("a reply", |it| drop(it.ipc_renderer.invoke::<Unreadable>("one", ()).wait())),
        ("a reply to main", |it| drop(it.web_contents.invoke::<Unreadable>("one", (), PATIENCE).wait())),
        ("a future's reply", |it| drop(block_on(it.ipc_renderer.invoke::<Unreadable>("one", ())))),
        ("a waker's clone", |it| {
            // It is not answered before that.
            let mut call = it.ipc_renderer.invoke::<u32>("never", ());
            with_unclonable_waker(|context| drop(Pin::new(&mut call).poll(context)));
        }),
    ];
    // Where it is the dispatcher's, and the caller learns of it.
    let there: &[Case] = &[
        ("a listener's arguments", |it| it.ipc_renderer.send("reads", (1,)).unwrap()),
        ("a listener's arguments on a renderer", |it| it.web_contents.send("reads", (1,)).unwrap()),
        ("what a listener drops", |it| it.ipc_renderer.send("drops", (1,)).unwrap()),
        ("what a listener replies", |it| it.ipc_renderer.send("replies", ()).unwrap()),
        ("what a listener returns", |it| drop(it.ipc_renderer.send_sync::<u32>("sync", ()).unwrap_err())),
        ("what a synchronous listener reads", |it| {
            drop(it.ipc_renderer.send_sync::<u32>("sync reads", (1,)).unwrap_err());
        }),
        ("a handler's arguments", |it| {
            let error = it.ipc_renderer.invoke::<()>("reads", (1,)).wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::HandlerPanicked);
        }),
        ("a handler's arguments on a renderer", |it| {
            let error = it.web_contents.invoke::<()>("reads", (1,), PATIENCE).wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::HandlerPanicked);
        }),
        ("what a handler drops", |it| {
            let error = it.ipc_renderer.invoke::<()>("drops", (1,)).wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::HandlerPanicked);
        }),
        ("what a handler returns", |it| {
            let error = it.ipc_renderer.invoke::<()>("returns", ()).wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::HandlerPanicked);
        }),
        ("what a renderer's handler returns", |it| {
            let error = it.web_contents.invoke::<()>("returns", (), PATIENCE).wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::HandlerPanicked);
        }),
        ("what an async handler returns", |it| {
            let error = it.ipc_renderer.invoke::<()>("returns later", ()).wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::HandlerPanicked);
        }),
    ];
    let world = World::new();
    for (what, case) in here {
        println!("{what}");
        panics(&|| case(&world));
        world.goes_on();
    }
    for (what, case) in there {
        println!("{what}");
        let it = world.clone();
        let case = *case;
        bounded(what, move || case(&it));
        world.goes_on();
    }
    // The hooks of the end panic too, and it ends all the same.
    let World { ipc_main, ipc_renderer, web_contents } = world;
    drop(ipc_renderer);
    until("the renderer is gone", || web_contents.gone_reason().is_some());
    bounded("the end of main", move || drop(ipc_main));
}
