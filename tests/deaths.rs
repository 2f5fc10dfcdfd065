//! Ends of all kinds: what the other side learns, when, and how often.
#![allow(missing_docs)]

mod support;

use ringmain::{
    Backing, Error, ErrorKind, ExitStatus, GoneReason, IpcMain, IpcMainEvent, IpcRenderer, LaneConfig, LaneSender,
    WebContents,
};
use rustix::process::{Signal, WaitOptions};
use std::io::BufReader;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use support::{
    Child, Gate, Held, PATIENCE, Refused, TempDir, alone, builder, child, connected, env, gone, ipc_main,
    leaves_nothing, line, lives, next, received, refuse, say, settled_held, shared_memory_of, signal, spawn, stat,
    stop, until, until_disconnected, until_held, until_said,
};

#[test]
fn children() {
    support::play(&[
        ("sits", sits),
        ("sends on and on", sends_on_and_on),
        ("waits for two answers", waits_for_two_answers),
        ("reads nothing", reads_nothing),
        ("ends after sending", ends_after_sending),
        ("sends three and waits", sends_three_and_waits),
        ("connects late or never", connects_late_or_never),
        ("main in the middle", main_in_the_middle),
        ("renderer of the middle", renderer_of_the_middle),
        ("main that is stopped", main_that_is_stopped),
        ("renderer of the stopped", renderer_of_the_stopped),
        ("asks once", asks_once),
        ("starts another program", starts_another_program),
        ("becomes another program", becomes_another_program),
        ("becomes another program when told", becomes_another_program_when_told),
        ("late where pidfds are refused", late_where_pidfds_are_refused),
        ("main whose host waits", main_whose_host_waits),
        ("main whose renderer is stopped", main_whose_renderer_is_stopped),
        ("main whose renderer starts another program", main_whose_renderer_starts_another_program),
        ("main whose renderer becomes another program", main_whose_renderer_becomes_another_program),
        ("main that leaves a name", main_that_leaves_a_name),
        ("main among foreign names", main_among_foreign_names),
        ("connects by name", connects_by_name),
    ]);
}

const KILLED: GoneReason = GoneReason::Killed { signal: 9 };

fn sits() {
    let ipc_renderer = connected();
    ipc_renderer.send("here", ()).unwrap();
    until_disconnected(&ipc_renderer);
}

/// A renderer that is connected and silent.
fn spawn_sitting(ipc_main: &IpcMain) -> Child {
    let here = received::<()>(ipc_main, "here");
    let child = spawn(ipc_main, "sits");
    next(&here, "the renderer");
    child
}

fn is_disconnected<T>(result: Result<T, Error>) {
    match result {
        Ok(_) => panic!("it worked"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}"),
    }
}

/// Nothing came and nothing comes: the main is shut down, so no callback runs any more.
fn nothing_more<T: std::fmt::Debug>(ipc_main: &IpcMain, receiver: &Receiver<T>) {
    ipc_main.shutdown();
    if let Ok(value) = receiver.try_recv() {
        panic!("{value:?} came once more");
    }
}

// ---- a renderer is killed -----------------------------------------------------------------------------------------

#[test]
fn a_kill_of_an_idle_renderer_is_told_once_and_every_later_send_is_disconnected() {
    let ipc_main = ipc_main();
    let gone = gone(&ipc_main);
    let child = spawn_sitting(&ipc_main);
    child.process().kill().unwrap();
    assert_eq!(next(&gone, "its end"), (child.id(), KILLED));
    assert!(!child.is_connected());
    assert_eq!(child.gone_reason(), Some(KILLED));
    assert_eq!(child.process().exit_status(), Some(ExitStatus::Killed(9)));
    is_disconnected(child.send("late", ()));
    is_disconnected(child.send_timeout("late", (), PATIENCE));
    is_disconnected(child.flush(PATIENCE));
    child.close(PATIENCE).unwrap();
    child.process().kill().unwrap();
    assert!(ipc_main.web_contents(child.id()).is_none());
    nothing_more(&ipc_main, &gone);
}

fn sends_on_and_on() {
    let ipc_renderer = connected();
    let text = "x".repeat(500);
    for number in 0.. {
        if ipc_renderer.send_timeout("number", (number, &text), PATIENCE).is_err() {
            break;
        }
    }
}

#[test]
fn a_kill_in_the_middle_of_a_stream_is_told_behind_the_last_of_it_with_no_gap() {
    for kill_at in [0, 1, 17, 300, 5000] {
        let ipc_main = ipc_main();
        let (tell, told) = channel();
        let tell_gone = tell.clone();
        ipc_main.on("number", move |event: &IpcMainEvent, (number, text): (usize, String)| {
            assert_eq!(text.len(), 500);
            if number == kill_at {
                event.sender().process().kill().unwrap();
            }
            tell.send(Ok(number))
        });
        ipc_main.on_renderer_gone(move |_, reason| tell_gone.send(Err(reason.clone())).unwrap());
        let _child = spawn(&ipc_main, "sends on and on");
        let mut count = 0;
        let reason = loop {
            match next(&told, "a message or the end") {
                Ok(number) => assert_eq!(number, count, "a gap"),
                Err(reason) => break reason,
            }
            count += 1;
        };
        assert!(count > kill_at);
        assert_eq!(reason, KILLED);
        ipc_main.shutdown();
        assert!(told.try_recv().is_err(), "something came behind the end");
    }
}

/// A main that listens as "held", and whose thread that watches stands in the accept policy from the first gate on, until the second
/// one is opened.
fn held_main(directory: &TempDir, accepts: bool) -> (IpcMain, [Gate; 2]) {
    let gates = [Gate::default(), Gate::default()];
    let [held, may_go] = gates.clone();
    let policy = move |_: &_| {
        held.open();
        may_go.wait();
        accepts
    };
    let ipc_main = builder().runtime_dir(&**directory).accept(policy).build().unwrap();
    ipc_main.listen("held").unwrap();
    (ipc_main, gates)
}

/// Has it held there.
fn hold(directory: &TempDir, held: &Gate) -> JoinHandle<Result<(), Error>> {
    let path = directory.to_path_buf();
    let connects = std::thread::spawn(move || IpcRenderer::builder().runtime_dir(path).connect_to("held").map(drop));
    held.wait();
    connects
}

fn sends_three_and_waits() {
    let ipc_renderer = connected();
    (1..=3).for_each(|number| ipc_renderer.send("number", (number,)).unwrap());
    ipc_renderer.flush(PATIENCE).unwrap();
    println!("flushed");
    until_disconnected(&ipc_renderer);
}

/// A lane is offered by the socket: what is unread there when its process ends is told of before what it has sent itself.
#[test]
fn what_a_renderer_has_flushed_comes_though_it_dies_with_a_lane_untaken_before_main_has_heard_of_it() {
    let directory = TempDir::new();
    let (ipc_main, [held, may_go]) = held_main(&directory, false);
    let (numbers, gone) = (received::<(u32,)>(&ipc_main, "number"), gone(&ipc_main));
    // It does not read the renderer's part of the handshake.
    let connects = hold(&directory, &held);
    let mut program = child("sends three and waits");
    program.stdout(Stdio::piped());
    let child = Child(ipc_main.spawn(program).unwrap());
    until_said(BufReader::new(child.process().take_stdout().unwrap()), "flushed");
    stop(child.process().id());
    let _lane: LaneSender<[u8]> = child.lane("untaken", &LaneConfig::default()).unwrap();
    signal(child.process().id(), Signal::KILL);
    until("it is dead", || !lives(child.process().id()));
    may_go.open();
    for number in 1..=3 {
        assert_eq!(next(&numbers, "what was flushed").1, (number,));
    }
    assert_eq!(next(&gone, "its end"), (child.id(), KILLED));
    connects.join().unwrap().unwrap_err();
}

fn waits_for_two_answers() {
    let ipc_renderer = connected();
    let other = ipc_renderer.clone();
    std::thread::spawn(move || other.invoke::<()>("invoked", ()).wait());
    let _: Result<(), _> = ipc_renderer.send_sync("sent", ());
}

#[test]
fn answers_to_a_renderer_that_was_killed_while_it_waited_are_dropped_and_a_reply_is_told() {
    let ipc_main = ipc_main();
    let gone = gone(&ipc_main);
    let (error, errors) = channel();
    ipc_main.on_error(move |report| drop(error.send(report.error.to_string())));
    let (started, starts) = channel();
    let (cancelled, cancels) = channel();
    ipc_main
        .handle_async("invoked", move |event, (): ()| {
            started.send(event).unwrap();
            let told = OnDrop(cancelled.clone());
            async move {
                std::future::pending::<()>().await;
                drop(told);
                Ok(())
            }
        })
        .unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let (sent, sends) = channel();
    let kept = events.clone();
    ipc_main.on("sent", move |event: &IpcMainEvent, (): ()| {
        kept.lock().unwrap().push(event.clone());
        sent.send(())
    });
    let child = spawn(&ipc_main, "waits for two answers");
    let invoked = next(&starts, "the call");
    next(&sends, "the synchronous message");
    assert!(!invoked.is_cancelled());
    child.process().kill().unwrap();
    assert_eq!(next(&gone, "its end"), (child.id(), KILLED));
    next(&cancels, "the drop of the handler's future");
    assert!(invoked.is_cancelled());
    let event = events.lock().unwrap().pop().unwrap();
    event.set_return_value("too late").unwrap();
    event.reply("too late", ()).unwrap();
    drop((event, invoked));
    until("no request is open", || child.stats().open_requests == 0);
    assert_eq!(next(&errors, "the report"), "a reply to frame 1 of renderer 1 was dropped: it is gone");
    ipc_main.shutdown();
    assert!(errors.try_recv().is_err(), "nothing else is reported");
    assert_eq!(child.stats().undeliverable, 1);
    assert!(gone.try_recv().is_err());
}

struct OnDrop(std::sync::mpsc::Sender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn reads_nothing() {
    let stuck = Gate::default();
    let blocks = stuck.clone();
    let ipc_renderer = IpcRenderer::builder().on("block", move |_event, (): ()| blocks.wait()).connect().unwrap();
    stuck.reached();
    ipc_renderer.send("here", ()).unwrap();
    line();
}

#[test]
fn a_kill_of_a_flooded_renderer_ends_every_wait_for_room() {
    let ipc_main = builder().queue_limit(1 << 20).build().unwrap();
    let gone = gone(&ipc_main);
    let here = received::<()>(&ipc_main, "here");
    let mut program = child("reads nothing");
    program.stdin(Stdio::piped());
    let child = Child(ipc_main.spawn(program).unwrap());
    child.send("block", ()).unwrap();
    next(&here, "the renderer");
    let text = "x".repeat(10_000);
    let error = loop {
        if let Err(error) = child.send("flood", (&text,)) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full);
    let (began, begins) = channel();
    let waits: [fn(&WebContents) -> ringmain::Result<()>; 2] =
        [|to| to.send_timeout("flood", ("more",), PATIENCE), |to| to.flush(PATIENCE)];
    let waiting: Vec<_> = waits
        .map(|wait| {
            let (child, began) = (child.0.clone(), began.clone());
            std::thread::spawn(move || {
                began.send(()).unwrap();
                wait(&child)
            })
        })
        .into_iter()
        .collect();
    next(&begins, "a thread");
    next(&begins, "a thread");
    child.process().kill().unwrap();
    assert_eq!(next(&gone, "its end"), (child.id(), KILLED));
    for waiting in waiting {
        is_disconnected(support::bounded("a wait for room", move || waiting.join().unwrap()));
    }
    is_disconnected(child.send("flood", (&text,)));
    nothing_more(&ipc_main, &gone);
}

// ---- a renderer ends ----------------------------------------------------------------------------------------------

fn ends_after_sending() {
    let ipc_renderer = connected();
    let text = "x".repeat(3000);
    for number in 0..20 {
        ipc_renderer.send("number", (number, &text)).unwrap();
    }
    if env("TEST_END") == "exit at once" {
        std::process::exit(8);
    }
    // More than the ring holds: only what is in the ring survives this process.
    ipc_renderer.send("number", (20, &"y".repeat(1 << 20))).unwrap();
    ipc_renderer.flush(PATIENCE).unwrap();
    match env("TEST_END").as_str() {
        "exit" => std::process::exit(7),
        "abort" => std::process::abort(),
        "drop" => drop(ipc_renderer),
        "close" => ipc_renderer.close(PATIENCE).unwrap(),
        other => panic!("no end {other:?}"),
    }
}

#[test]
fn what_was_sent_and_flushed_before_the_end_arrives_before_the_reason() {
    enum Told {
        Number(i64, usize),
        Gone(GoneReason),
    }
    let table = [
        ("exit", GoneReason::Exited { code: Some(7) }, ExitStatus::Exited(Some(7))),
        ("exit at once", GoneReason::Exited { code: Some(8) }, ExitStatus::Exited(Some(8))),
        ("abort", GoneReason::Killed { signal: 6 }, ExitStatus::Killed(6)),
        ("drop", GoneReason::Closed, ExitStatus::Exited(Some(0))),
        ("close", GoneReason::Closed, ExitStatus::Exited(Some(0))),
    ];
    for (end, reason, status) in table.into_iter().cycle().take(15) {
        let ipc_main = ipc_main();
        let (tell, told) = channel();
        let tell_gone = tell.clone();
        ipc_main.on("number", move |_event, (number, text): (i64, String)| tell.send(Told::Number(number, text.len())));
        ipc_main.on_renderer_gone(move |_, reason| drop(tell_gone.send(Told::Gone(reason.clone()))));
        let mut program = child("ends after sending");
        program.env("TEST_END", end).stderr(Stdio::null());
        let child = Child(ipc_main.spawn(program).unwrap());
        for expected in 0..if end == "exit at once" { 20 } else { 21 } {
            match next(&told, "a message") {
                Told::Number(number, len) => {
                    assert_eq!((number, len), (expected, if expected < 20 { 3000 } else { 1 << 20 }), "{end}");
                }
                Told::Gone(reason) => panic!("{end}: gone ({reason}) before message {expected}"),
            }
        }
        match next(&told, "the end") {
            Told::Gone(found) => assert_eq!(found, reason, "{end}"),
            Told::Number(number, _) => panic!("{end}: message {number} came twice"),
        }
        until("the exit status is known", || child.process().exit_status() == Some(status));
        ipc_main.shutdown();
        assert!(told.try_recv().is_err(), "{end}");
    }
}

fn connects_late_or_never() {
    assert_eq!(line(), "go on");
    match env("TEST_CONNECT").as_str() {
        "never" => std::process::exit(5),
        _ => match IpcRenderer::connect() {
            Err(error) if error.kind() == ErrorKind::Disconnected => std::process::exit(6),
            other => panic!("{other:?}"),
        },
    }
}

#[test]
fn a_renderer_that_does_not_connect_in_time_is_given_up_but_not_killed() {
    for (connect, code) in [("never", 5), ("late", 6)] {
        let ipc_main = builder().connect_timeout(Some(Duration::from_secs(1))).build().unwrap();
        let gone = gone(&ipc_main);
        let mut program = child("connects late or never");
        program.env("TEST_CONNECT", connect).stdin(Stdio::piped());
        let child = Child(ipc_main.spawn(program).unwrap());
        // Long before: the time runs from before the program is started.
        child.send("early", ("waits for it",)).unwrap();
        let (id, reason) = next(&gone, "its being given up");
        assert_eq!(id, child.id());
        let GoneReason::NeverConnected(text) = reason else { panic!("{reason:?}") };
        assert!(text.contains("within 1s"), "{text}");
        is_disconnected(child.send("late", ()));
        assert!(lives(child.process().id()));
        assert_eq!(child.process().exit_status(), None);
        say(&mut child.process().take_stdin().unwrap(), "go on");
        until("it ends by itself", || child.process().exit_status() == Some(ExitStatus::Exited(Some(code))));
        nothing_more(&ipc_main, &gone);
    }
}

#[test]
fn a_program_that_ends_without_connecting_never_connected_or_exited() {
    let ipc_main = ipc_main();
    let gone = gone(&ipc_main);
    let mut program = Command::new("/bin/sh");
    program.args(["-c", "exit 4"]);
    let child = ipc_main.spawn(program).unwrap();
    let (id, reason) = next(&gone, "its end");
    assert_eq!((id, reason), (child.id(), GoneReason::Exited { code: Some(4) }));
    nothing_more(&ipc_main, &gone);
}

#[test]
fn a_hook_registered_late_is_told_once_of_each_renderer_that_was_gone() {
    let ipc_main = ipc_main();
    let (first, second) = (spawn_sitting(&ipc_main), spawn_sitting(&ipc_main));
    first.process().kill().unwrap();
    second.process().kill().unwrap();
    until("both are known to be gone", || first.gone_reason().is_some() && second.gone_reason().is_some());
    let early = gone(&ipc_main);
    let mut told = [next(&early, "the first"), next(&early, "the second")];
    told.sort_by_key(|(id, _)| *id);
    assert_eq!(told, [(first.id(), KILLED), (second.id(), KILLED)]);
    let third = spawn_sitting(&ipc_main);
    third.process().kill().unwrap();
    assert_eq!(next(&early, "the third"), (third.id(), KILLED));
    nothing_more(&ipc_main, &early);
}

// ---- main is killed -----------------------------------------------------------------------------------------------

/// A renderer of the test, and a main of its own.
fn main_in_the_middle() {
    let test = connected();
    let ipc_main = builder().runtime_dir(env("TEST_DIRECTORY")).build().unwrap();
    ipc_main.listen("middle").unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (called, both) = channel();
    let (kept, tell) = (calls.clone(), called.clone());
    ipc_main.on("never", move |event: &IpcMainEvent, (): ()| {
        kept.lock().unwrap().push(event.clone());
        tell.send(())
    });
    support::never_answers(&ipc_main, called);
    let child = spawn(&ipc_main, "renderer of the middle");
    for _ in 0..3 {
        next(&both, "three calls that wait");
    }
    child.send(&env("TEST_LAST"), ()).unwrap();
    until_disconnected(&test);
}

/// Reports to the test by a link of its own.
fn renderer_of_the_middle() {
    let (told, tells) = channel();
    let test = IpcRenderer::builder()
        .runtime_dir(env("TEST_DIRECTORY"))
        .on("unblock", move |_event, (): ()| told.send(()))
        .connect_to("test")
        .unwrap();
    let before = settled_held();
    let stuck = Gate::default();
    let (report, blocks) = (test.clone(), stuck.clone());
    let tells_idle = test.clone();
    let middle = IpcRenderer::builder()
        .on("block", move |_event, (): ()| {
            report.send("ready", (std::process::id(),)).unwrap();
            blocks.wait();
        })
        .on("idle", move |_event, (): ()| tells_idle.send("ready", (std::process::id(),)))
        .connect()
        .unwrap();
    let (report, hook) = (test.clone(), middle.clone());
    let (hook_end, hook_ends) = channel();
    middle.on_disconnected(move |reason| {
        assert_eq!(hook.gone_reason().as_ref(), Some(reason));
        report.send("disconnected", (format!("{reason:?}"),)).unwrap();
        hook_end.send(()).unwrap();
    });
    let waits: [fn(&IpcRenderer) -> ringmain::Result<()>; 3] = [
        |to| to.invoke("never", ()).wait(),
        |to| to.invoke("never", ()).timeout(4 * PATIENCE).wait(),
        |to| to.send_sync("never", ()),
    ];
    let threads = waits.map(|wait| {
        let (test, middle) = (test.clone(), middle.clone());
        std::thread::spawn(move || {
            let error = wait(&middle).unwrap_err();
            test.send("ended", (format!("{:?}", error.kind()),)).unwrap();
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
    // Later calls fail at once, and the handle says what holds.
    assert!(!middle.is_connected());
    for wait in waits {
        assert_eq!(wait(&middle).unwrap_err().kind(), ErrorKind::Disconnected);
    }
    assert_eq!(middle.send("late", ()).unwrap_err().kind(), ErrorKind::Disconnected);
    next(&tells, "leave of the test");
    stuck.open();
    next(&hook_ends, "the hook");
    drop(middle);
    // Less the socket that it was born with.
    until_held(&Held { descriptors: before.descriptors - 1, ..before }, "a renderer whose main was killed");
    test.send("all is back", ()).unwrap();
    until_disconnected(&test);
}

fn kill_of_main_in_the_middle(blocked: bool) {
    let directory = TempDir::new();
    let ipc_main = builder().runtime_dir(&*directory).build().unwrap();
    ipc_main.listen("test").unwrap();
    let gone = gone(&ipc_main);
    let ready = received::<(u32,)>(&ipc_main, "ready");
    let ended = received::<(String,)>(&ipc_main, "ended");
    let disconnected = received::<(String,)>(&ipc_main, "disconnected");
    let all_is_back = received::<()>(&ipc_main, "all is back");
    let mut middle = child("main in the middle");
    middle.env("TEST_DIRECTORY", &*directory).env("TEST_LAST", if blocked { "block" } else { "idle" });
    let middle = Child(ipc_main.spawn(middle).unwrap());
    let (renderer, (renderers_pid,)) = next(&ready, "the renderer of the middle");
    let own = directory.names();
    assert_eq!(own, ["middle.lock", "middle.sock", "test.lock", "test.sock"]);
    middle.process().kill().unwrap();
    assert_eq!(next(&gone, "the end of the middle"), (middle.id(), KILLED));
    for _ in 0..3 {
        assert_eq!(next(&ended, "the end of a call").1.0, "Disconnected");
    }
    if blocked {
        assert!(disconnected.try_recv().is_err(), "the hook cannot run while a listener does");
    }
    renderer.send("unblock", ()).unwrap();
    let (_, (reason,)) = next(&disconnected, "the hook");
    assert_eq!(reason, "Exited { code: None }");
    next(&all_is_back, "the renderer's count");
    // Nothing is left of the one that was killed but its name, which the next one takes over.
    assert_eq!(shared_memory_of(middle.process().id()), [""; 0]);
    assert_eq!(directory.names(), own);
    let heir = builder().runtime_dir(&*directory).build().unwrap();
    heir.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    heir.listen("middle").unwrap();
    let mut connects = child("connects by name");
    connects.env("TEST_DIRECTORY", &*directory).env("TEST_NAME", "middle");
    assert!(support::Program::start(connects).ended(PATIENCE).success());
    drop(heir);
    assert_eq!(directory.names(), ["test.lock", "test.sock"]);
    assert!(lives(renderers_pid), "the renderer outlives its main");
    ipc_main.shutdown();
    assert_eq!(directory.names(), [""; 0]);
    until("the renderer ends when the test does", || !lives(renderers_pid));
}

fn connects_by_name() {
    let ipc_renderer = IpcRenderer::builder().runtime_dir(env("TEST_DIRECTORY")).connect_to(&env("TEST_NAME")).unwrap();
    let sum: i64 = ipc_renderer.invoke("add", (2, 3)).timeout(PATIENCE).wait().unwrap();
    assert_eq!(sum, 5);
}

#[test]
fn a_kill_of_main_ends_the_calls_that_wait_and_calls_the_hook_of_an_idle_renderer() {
    kill_of_main_in_the_middle(false);
}

#[test]
fn a_kill_of_main_ends_the_calls_that_wait_while_the_renderers_dispatcher_is_blocked() {
    kill_of_main_in_the_middle(true);
}

fn main_that_leaves_a_name() {
    let test = connected();
    let ipc_main = ipc_main();
    // Never connects, so its region still has its name where regions have names.
    let mut program = Command::new("sleep");
    program.arg("300");
    let child = Child(ipc_main.spawn(program).unwrap());
    test.send("left", (child.process().id(),)).unwrap();
    until_disconnected(&test);
}

#[test]
fn the_memory_that_a_main_left_before_its_renderer_connected_is_gone_with_the_next_main() {
    let ipc_main = ipc_main();
    let gone = gone(&ipc_main);
    let left = received::<(u32,)>(&ipc_main, "left");
    let leaves = spawn(&ipc_main, "main that leaves a name");
    let (_, (pid,)) = next(&left, "the main that leaves a name");
    leaves.process().kill().unwrap();
    assert_eq!(next(&gone, "its end").1, KILLED);
    let _next = support::ipc_main();
    let found = shared_memory_of(leaves.process().id());
    signal(pid, Signal::KILL);
    assert_eq!(found, [""; 0]);
}

/// Shared memory that no main has made, removed when the test ends, however it ends.
struct Planted(PathBuf);

impl Planted {
    /// An empty one of this name.
    fn file(name: String) -> Self {
        let planted = Self(Path::new("/dev/shm").join(name));
        std::fs::write(&planted.0, "").unwrap();
        planted
    }

    /// One that nobody can unlink, not even root.
    fn directory(name: String) -> Self {
        let planted = Self(Path::new("/dev/shm").join(name));
        std::fs::create_dir(&planted.0).unwrap();
        planted
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0).or_else(|_| std::fs::remove_dir(&self.0));
    }
}

#[test]
fn a_main_removes_the_memory_of_the_dead_alone_and_lives_with_what_it_cannot_remove() {
    alone("main among foreign names");
}

fn main_among_foreign_names() {
    /// No process has that number.
    const DEAD: u32 = u32::MAX;
    /// No namespace has that number.
    const ELSEWHERE: u64 = 1;
    // Also the number of chance: nobody else on the machine plants these.
    let own = std::process::id();
    let started = &stat(own).unwrap()[19];
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let space = link.to_str().unwrap().trim_start_matches("pid:[").trim_end_matches(']');
    let left = format!("ringmain-{space}-{DEAD}-1-{own}");
    // The second one: of a process whose number is this one's now.
    let removed = [left.clone(), format!("ringmain-{space}-{own}-1-{own}")].map(Planted::file);
    let kept = [
        // Of one that lives, or of whom this process cannot know that.
        format!("ringmain-{space}-{own}-{started}-{own}"),
        format!("ringmain-{ELSEWHERE}-{DEAD}-1-{own}"),
        // Not as a main writes it.
        format!("ringmain-{own}"),
        format!("ringmain-{space}-{DEAD}-{own}"),
        format!("ringmain-{space}-{DEAD}-x-{own}"),
        format!("ringmain-{space}-{DEAD}-1-{own}.bak"),
        format!("{left}-1"),
        format!("{left}-"),
        format!("{left}-bak"),
        format!("ringmain-of-mine-{space}-{DEAD}-1-{own}"),
        format!("ringmain-{left}"),
        format!("ringmain-{space}-{DEAD}-+1-{own}"),
        format!("ringmain-{space}-{DEAD}-01-{own}"),
        // Without a prefix of ours.
        format!("of-mine-{left}"),
    ]
    .map(Planted::file);
    let stuck = Planted::directory(format!("ringmain-{space}-{DEAD}-2-{own}"));
    let ipc_main = builder().backing(Backing::Named).build().unwrap();
    let left: Vec<_> = removed.iter().filter(|planted| planted.0.exists()).map(|planted| &planted.0).collect();
    assert!(left.is_empty(), "{left:?} of the dead are left");
    let gone: Vec<_> =
        kept.iter().chain([&stuck]).filter(|planted| !planted.0.exists()).map(|planted| &planted.0).collect();
    assert!(gone.is_empty(), "{gone:?} are gone");
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let sum: i64 = ipc_main.attach().unwrap().invoke("add", (2, 3)).timeout(PATIENCE).wait().unwrap();
    assert_eq!(sum, 5);
}

// ---- stopped processes --------------------------------------------------------------------------------------------

fn asks_once() {
    let ipc_renderer = connected();
    let answer: String = ipc_renderer.invoke("ask", ()).wait().unwrap();
    ipc_renderer.send("answered", (answer,)).unwrap();
    until_disconnected(&ipc_renderer);
}

#[test]
fn a_stopped_renderer_is_not_gone_and_its_call_and_messages_wait_for_it_and_killed_then_it_leaves_nothing() {
    alone("main whose renderer is stopped");
}

fn main_whose_renderer_is_stopped() {
    let ipc_main = ipc_main();
    let gone = gone(&ipc_main);
    let (asked, asks) = channel();
    ipc_main
        .handle_async("ask", move |_event, (): ()| {
            let (answer, answers) = futures::channel::oneshot::channel::<String>();
            asked.send(answer).unwrap();
            async move { Ok(answers.await?) }
        })
        .unwrap();
    let answered = received::<(String,)>(&ipc_main, "answered");
    leaves_nothing("main after a renderer that was stopped", || {
        let child = spawn(&ipc_main, "asks once");
        let answer = next(&asks, "the call");
        stop(child.process().id());
        answer.send("at last".to_string()).unwrap();
        let text = "x".repeat(100_000);
        for _ in 0..20 {
            child.send("more than its ring holds", (&text,)).unwrap();
        }
        let error = child.flush(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(child.is_connected());
        assert!(gone.try_recv().is_err() && answered.try_recv().is_err());
        signal(child.process().id(), Signal::CONT);
        assert_eq!(next(&answered, "the answer").1.0, "at last");
        child.flush(PATIENCE).unwrap();
        assert!(gone.try_recv().is_err());
        child.process().kill().unwrap();
        assert_eq!(next(&gone, "its end"), (child.id(), KILLED));
    });
}

fn main_that_is_stopped() {
    let test = connected();
    let ipc_main = ipc_main();
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let _child = spawn(&ipc_main, "renderer of the stopped");
    until_disconnected(&test);
}

fn renderer_of_the_stopped() {
    let stopped = connected();
    let (call, calls) = channel();
    let test = IpcRenderer::builder()
        .runtime_dir(env("TEST_DIRECTORY"))
        .on("call", move |_event, (): ()| call.send(()))
        .connect_to("test")
        .unwrap();
    test.send("ready", ()).unwrap();
    next(&calls, "leave to call");
    let calling = test.clone();
    let (begun, begins) = channel();
    let caller = stopped.clone();
    let thread = std::thread::spawn(move || {
        let call = caller.invoke::<i64>("add", (2, 3));
        begun.send(()).unwrap();
        call.wait().unwrap()
    });
    next(&begins, "the call is sent");
    // Main does not read: it times out, and is not gone.
    let late = stopped.invoke::<i64>("add", (4, 5)).timeout(Duration::from_millis(20)).wait().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout);
    assert!(stopped.is_connected());
    calling.send("waiting", ()).unwrap();
    test.send("answered", (thread.join().unwrap(),)).unwrap();
    until_disconnected(&test);
}

#[test]
fn a_stopped_main_is_not_gone_and_answers_when_it_goes_on() {
    let directory = TempDir::new();
    let ipc_main = builder().runtime_dir(&*directory).build().unwrap();
    ipc_main.listen("test").unwrap();
    let ready = received::<()>(&ipc_main, "ready");
    let waiting = received::<()>(&ipc_main, "waiting");
    let answered = received::<(i64,)>(&ipc_main, "answered");
    let mut program = child("main that is stopped");
    program.env("TEST_DIRECTORY", &*directory);
    let child = Child(ipc_main.spawn(program).unwrap());
    let (renderer, ()) = next(&ready, "the renderer");
    stop(child.process().id());
    renderer.send("call", ()).unwrap();
    next(&waiting, "the call");
    assert!(child.is_connected() && answered.try_recv().is_err());
    signal(child.process().id(), Signal::CONT);
    assert_eq!(next(&answered, "the answer").1, (5,));
}

// ---- other programs -----------------------------------------------------------------------------------------------

/// Starts a program that has nothing to do with us and outlives this process.
fn start_sleep() -> u32 {
    let mut program = Command::new("sleep");
    program.arg("300").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    program.spawn().expect("sleep").id()
}

fn starts_another_program() {
    // The first inherits our end of the socket, the second does not.
    let before = start_sleep();
    let ipc_renderer = connected();
    let after = start_sleep();
    ipc_renderer.send("started", ([before, after],)).unwrap();
    until_disconnected(&ipc_renderer);
}

/// Kills processes when the test ends, however it ends.
struct Orphans([u32; 2]);

impl Drop for Orphans {
    fn drop(&mut self) {
        for pid in self.0 {
            signal(pid, Signal::KILL);
        }
    }
}

#[test]
fn a_kill_is_noticed_though_a_program_that_the_renderer_has_started_holds_its_socket() {
    alone("main whose renderer starts another program");
}

fn main_whose_renderer_starts_another_program() {
    let ipc_main = ipc_main();
    let gone = gone(&ipc_main);
    let started = received::<([u32; 2],)>(&ipc_main, "started");
    let sockets = |pid: u32| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let is_socket = |path: std::path::PathBuf| path.to_string_lossy().starts_with("socket:");
        fds.filter(|fd| std::fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(is_socket)).count()
    };
    leaves_nothing("main beside programs that outlive their renderer", || {
        let child = spawn(&ipc_main, "starts another program");
        let orphans = Orphans(next(&started, "the renderer").1.0);
        // What the test itself was given by its own parent reaches both.
        assert_eq!(sockets(orphans.0[0]), sockets(orphans.0[1]) + 1, "the first holds the renderer's socket");
        child.process().kill().unwrap();
        assert_eq!(next(&gone, "its end"), (child.id(), KILLED));
        assert!(orphans.0.into_iter().all(lives));
        orphans
    });
    nothing_more(&ipc_main, &gone);
}

fn becomes_another_program() {
    let ipc_renderer = connected();
    ipc_renderer.send("last", ()).unwrap();
    become_cat();
}

fn become_cat() -> ! {
    let error = Command::new("cat").exec();
    panic!("{error}");
}

#[test]
fn a_renderer_that_becomes_another_program_has_closed_its_link_while_its_process_lives_on() {
    alone("main whose renderer becomes another program");
}

fn main_whose_renderer_becomes_another_program() {
    let ipc_main = ipc_main();
    let gone = gone(&ipc_main);
    let last = received::<()>(&ipc_main, "last");
    let end_of_one = |status| {
        let mut program = child("becomes another program");
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = Child(ipc_main.spawn(program).unwrap());
        next(&last, "its last message");
        assert_eq!(next(&gone, "its end"), (child.id(), GoneReason::Closed));
        assert!(lives(child.process().id()));
        assert_eq!(child.process().exit_status(), None);
        let mut stdin = child.process().take_stdin().unwrap();
        say(&mut stdin, "still there");
        until_said(BufReader::new(child.process().take_stdout().unwrap()), "still there");
        if status == ExitStatus::Killed(9) {
            child.process().kill().unwrap();
        } else {
            drop(stdin);
        }
        until("its process is reaped", || child.process().exit_status() == Some(status));
    };
    leaves_nothing("main after another program", || {
        end_of_one(ExitStatus::Exited(Some(0)));
        end_of_one(ExitStatus::Killed(9));
    });
    nothing_more(&ipc_main, &gone);
}

fn becomes_another_program_when_told() {
    let ipc_renderer = connected();
    ipc_renderer.send("here", ()).unwrap();
    assert_eq!(line(), "go");
    become_cat();
}

/// The socket hangs up, and why is waited for; when that time is over the thread that watches has not looked yet, and the
/// process has ended meanwhile.
#[test]
fn a_death_is_told_with_its_reason_by_who_looks_for_it_too_late() {
    death_that_is_looked_for_too_late();
}

/// A thread knows it then.
#[test]
fn a_death_is_told_likewise_by_who_looks_too_late_where_pidfds_are_refused() {
    alone("late where pidfds are refused");
}

fn late_where_pidfds_are_refused() {
    refuse(&[Refused { call: libc::SYS_pidfd_open, with: None }], libc::ENOSYS);
    death_that_is_looked_for_too_late();
}

fn death_that_is_looked_for_too_late() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
    /// Longer than a link waits for its process to end.
    const LATE: Duration = Duration::from_millis(1300);
    let directory = TempDir::new();
    let gates = [Gate::default(), Gate::default()];
    let (held, visitors) = (gates.clone(), AtomicUsize::new(0));
    let policy = move |_: &_| {
        held[visitors.fetch_add(1, Ordering::Relaxed)].wait();
        false
    };
    let ipc_main = builder().runtime_dir(&*directory).accept(policy).build().unwrap();
    let (here, gone) = (received::<()>(&ipc_main, "here"), gone(&ipc_main));
    let visit = ["one", "two"].map(|name| {
        let address = SocketAddrUnix::new(ipc_main.listen(name).unwrap()).unwrap();
        move || {
            let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
            rustix::net::connect(&socket, &address).unwrap();
            socket
        }
    });
    let mut program = child("becomes another program when told");
    program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = Child(ipc_main.spawn(program).unwrap());
    next(&here, "the renderer");
    let _first = visit[0]();
    gates[0].reached();
    // Watch is held up. When it goes on it sees the hang-up, and then the second one, who holds it up again.
    let mut stdin = child.process().take_stdin().unwrap();
    say(&mut stdin, "go");
    let name = format!("/proc/{}/comm", child.process().id());
    until("it has become another program", || std::fs::read_to_string(&name).is_ok_and(|name| name == "cat\n"));
    // Which runs: its sockets are closed.
    say(&mut stdin, "it has");
    until_said(BufReader::new(child.process().take_stdout().unwrap()), "it has");
    let _second = visit[1]();
    gates[0].open();
    gates[1].reached();
    signal(child.process().id(), Signal::KILL);
    until("it is dead", || !lives(child.process().id()));
    std::thread::sleep(LATE);
    gates[1].open();
    assert_eq!(next(&gone, "its end"), (child.id(), KILLED));
}

// ---- a host that waits for any child ------------------------------------------------------------------------------

#[test]
fn a_host_that_takes_the_status_of_every_child_does_not_hide_a_death() {
    alone("main whose host waits");
}

fn main_whose_host_waits() {
    let directory = TempDir::new();
    let (ipc_main, [held, may_go]) = held_main(&directory, true);
    let gone = gone(&ipc_main);
    // What the first death makes for good is no part of what is compared.
    let first = spawn_sitting(&ipc_main);
    first.process().kill().unwrap();
    assert_eq!(next(&gone, "the first end"), (first.id(), KILLED));
    drop(first);
    let before = settled_held();
    let child = spawn_sitting(&ipc_main);
    // `watch` is not the first to see the death.
    let connects = hold(&directory, &held);
    child.process().kill().unwrap();
    let (pid, status) = rustix::process::wait(WaitOptions::empty()).unwrap().expect("a child");
    assert_eq!(pid.as_raw_nonzero().get() as u32, child.process().id());
    assert_eq!(status.terminating_signal(), Some(9));
    assert!(matches!(gone.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout)));
    may_go.open();
    assert_eq!(next(&gone, "its end"), (child.id(), GoneReason::Exited { code: None }));
    assert_eq!(child.process().exit_status(), Some(ExitStatus::Exited(None)));
    child.process().kill().unwrap();
    connects.join().unwrap().unwrap();
    drop(child);
    until_held(&before, "main whose host has taken the status");
}
