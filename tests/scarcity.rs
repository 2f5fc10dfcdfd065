//! What the system does not give: descriptors, memory, threads, system calls, directories. Each is an error that says so,
//! nothing is kept of what did not come to be, and everybody else goes on.
#![allow(missing_docs)]

mod support;

use ringmain::{
    Backing, Error, ErrorKind, ExitStatus, GoneReason, IpcMain, IpcRenderer, LaneConfig, LaneDuplex, LaneError, Wait,
    WakePolicy, WebContents,
};
use rustix::fs::{FlockOperation, Mode};
use rustix::process::{Resource, Rlimit, Signal, WaitOptions};
use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use support::{
    Child, LONG, PATIENCE, Program, Refused, TempDir, alone, backing, builder, child, env, free_descriptors, gone,
    held, ipc_main, line, lives, next, raise_descriptor_limit, received, refuse, say, settled_held, shared_memory_of,
    signal, spawn, told, until, until_disconnected, until_held, use_up_descriptors,
};

#[test]
fn children() {
    support::play(&[
        ("serves", serves),
        ("runs at the limit", runs_at_the_limit),
        ("accepts at the limit", accepts_at_the_limit),
        ("accepts at each number", accepts_at_each_number),
        ("connects when told", connects_when_told),
        ("threads are refused", threads_are_refused),
        ("calls are refused", calls_are_refused),
        ("connects without descriptors of processes", connects_without_descriptors_of_processes),
        ("lives without", lives_without),
        ("takes lanes at the limit", takes_lanes_at_the_limit),
        ("ends at the limit", ends_at_the_limit),
        ("lanes are refused", lanes_are_refused),
        ("the flag is unknown", the_flag_is_unknown),
        ("keeps handles", keeps_handles),
        ("address space", address_space),
        ("sends a large text when told", sends_a_large_text_when_told),
        ("full tmpfs", full_tmpfs),
        ("read-only directory", read_only_directory),
    ]);
}

fn adds(ipc_main: &IpcMain) {
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_main.handle("length", |_event, (text,): (String,)| Ok(text.len())).unwrap();
}

/// A main that adds and listens, and a renderer in this process.
fn listening(name: &str) -> (TempDir, IpcMain, IpcRenderer) {
    let directory = TempDir::new();
    let ipc_main = main_in(&directory);
    ipc_main.listen(name).unwrap();
    let attached = ipc_main.attach().unwrap();
    (directory, ipc_main, attached)
}

fn answers(ipc_renderer: &IpcRenderer) {
    let sum: i64 = ipc_renderer.invoke("add", (2, 3)).timeout(PATIENCE).wait().unwrap();
    assert_eq!(sum, 5);
}

/// The ends of one lane have the same type.
type Lane = LaneDuplex<u64, u64>;

/// Who waits sleeps at once, and a renderer waits as long as a test does.
fn lane_config() -> LaneConfig {
    LaneConfig::new().capacity(8).spin(Duration::ZERO).open_timeout(PATIENCE)
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Answers by the lane until it is closed.
fn answers_by(mut lane: Lane) {
    let mut asked = 0;
    while lane.recv_request_until(&mut asked, soon()).is_ok() {
        lane.send_response(&(asked + 1)).unwrap();
    }
}

fn asks_by(lane: &mut Lane) {
    for question in 0..10 {
        let mut answer = 0;
        lane.exchange(&question, &mut answer, soon()).unwrap();
        assert_eq!(answer, question + 1);
    }
}

/// A renderer that answers, also by a lane, and waits for an answer that never comes.
fn serves() {
    let waits = std::env::var("TEST_WAITS").is_ok();
    let ipc_renderer = IpcRenderer::builder().wait(Wait::Park).connect().unwrap();
    ipc_renderer.handle("length", |_event, (text,): (String,)| Ok(text.len())).unwrap();
    answers(&ipc_renderer);
    if waits {
        let waiting = ipc_renderer.clone();
        std::thread::spawn(move || waiting.invoke::<()>("never", ()).wait());
        let taking = ipc_renderer.clone();
        std::thread::spawn(move || answers_by(taking.lane("lane", &lane_config()).unwrap()));
    }
    ipc_renderer.send("here", ()).unwrap();
    until_disconnected(&ipc_renderer);
}

/// Calls of main's and a large message each way.
fn serve_both_ways(renderer: &WebContents, ipc_renderer: &IpcRenderer) {
    let large = "x".repeat(1 << 20);
    for text in ["short", &large] {
        assert_eq!(renderer.invoke::<usize>("length", (text,), PATIENCE).wait().unwrap(), text.len());
        let len: usize = ipc_renderer.invoke("length", (text,)).timeout(PATIENCE).wait().unwrap();
        assert_eq!(len, text.len());
    }
    let call = renderer.invoke::<usize>("length", ("future",), PATIENCE);
    assert_eq!(futures::executor::block_on(call).unwrap(), 6);
}

// ---- descriptors --------------------------------------------------------------------------------------------------

#[test]
fn a_main_with_no_descriptor_left_serves_on_and_learns_every_end() {
    alone("runs at the limit");
}

fn runs_at_the_limit() {
    let (directory, ipc_main, attached) = listening("limit");
    let (here, gone) = (received::<()>(&ipc_main, "here"), gone(&ipc_main));
    let children = [(); 3].map(|()| spawn(&ipc_main, "serves"));
    for _ in &children {
        next(&here, "a renderer");
    }
    let _all = use_up_descriptors();
    assert_eq!(free_descriptors(), 0);
    let [killed, closed, last] = children;
    for child in [&killed, &closed, &last] {
        serve_both_ways(child, &attached);
    }
    let frame = attached.frame().unwrap();
    answers(&frame);
    drop(frame);
    killed.process().kill().unwrap();
    assert_eq!(next(&gone, "its end"), (killed.id(), GoneReason::Killed { signal: 9 }));
    until("it is reaped", || killed.process().exit_status().is_some());
    // Its exit is known before `watch` has let go of its pidfd.
    until("the descriptors of a link that is gone are free", || free_descriptors() >= 3);
    closed.close(PATIENCE).unwrap();
    assert_eq!(next(&gone, "its end"), (closed.id(), GoneReason::Closed));
    serve_both_ways(&last, &attached);
    let _rest = use_up_descriptors_again();
    ipc_main.shutdown();
    assert_eq!(next(&gone, "the end of the others").1, GoneReason::Closed);
    assert_eq!(directory.names(), [""; 0]);
}

/// Takes what has become free, without moving the limit.
fn use_up_descriptors_again() -> Vec<std::fs::File> {
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}

fn connects_when_told() {
    raise_descriptor_limit();
    loop {
        match line().as_str() {
            "connect" => {}
            _ => return,
        }
        match IpcRenderer::builder().runtime_dir(env("TEST_DIRECTORY")).connect_to("limit") {
            Ok(ipc_renderer) => {
                answers(&ipc_renderer);
                println!("connected");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
                println!("refused");
            }
        }
    }
}

fn program_that_connects(directory: &Path) -> Program {
    let mut command = child("connects when told");
    command.env("TEST_DIRECTORY", directory);
    Program::start(command)
}

#[test]
fn a_main_with_no_descriptor_left_rests_between_two_tries_to_accept_and_then_takes_all_who_wait() {
    alone("accepts at the limit");
}

fn accepts_at_the_limit() {
    /// `watch`'s rest after an `accept` that failed.
    const REST: Duration = Duration::from_millis(100);
    let (directory, ipc_main, attached) = listening("limit");
    let errors = told(&ipc_main);
    let mut programs = [(); 5].map(|()| program_that_connects(&directory));
    let all = use_up_descriptors();
    // Before the first try: no try is counted that the time does not allow for.
    let since = Instant::now();
    programs.iter_mut().for_each(|program| program.say("connect"));
    let first = next(&errors, "the report of who could not be accepted");
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap();
    let expected = ["cannot accept", "Too many open files", &format!("limited to {limit}"), "RLIMIT_NOFILE"];
    for part in expected {
        assert!(first.text.contains(part), "{}", first.text);
    }
    let mut tries = 1;
    let end = Instant::now() + 10 * REST;
    while Instant::now() < end {
        answers(&attached);
        tries += errors.try_iter().count() as u128;
    }
    let most = since.elapsed().as_millis() / REST.as_millis() + 1;
    assert!(tries <= most, "{tries} tries to accept in {:?}, where one each {REST:?} is meant", since.elapsed());
    drop(all);
    programs.iter_mut().for_each(|program| program.until_it_says("connected"));
    answers(&attached);
}

#[test]
fn a_main_with_too_few_descriptors_for_a_link_refuses_it_and_says_why_until_it_has_enough() {
    alone("accepts at each number");
}

fn accepts_at_each_number() {
    let (directory, ipc_main, attached) = listening("limit");
    let errors = told(&ipc_main);
    let mut program = program_that_connects(&directory);
    let mut all = use_up_descriptors();
    // With one at least it is accepted.
    for free in 1.. {
        drop(all.pop().expect("it needs fewer than all"));
        assert_eq!(free_descriptors(), free);
        program.say("connect");
        if program.until_it_says_one_of(&["connected", "refused"]) == "connected" {
            assert!(free > 2, "a link takes more than {free} descriptors");
            break;
        }
        let report = next(&errors, "why it was refused");
        assert!(report.text.contains("Too many open files"), "{}", report.text);
        until("nothing is kept", || free_descriptors() == free);
        assert_eq!(ipc_main.all_web_contents().len(), 1);
        answers(&attached);
    }
    answers(&attached);
}

// ---- threads ------------------------------------------------------------------------------------------------------

#[test]
fn threads_that_are_refused_are_an_error_and_the_one_that_was_started_ends() {
    alone("threads are refused");
}

/// Threads that this process's user has.
fn threads_of_user() -> u64 {
    let own = rustix::process::geteuid().as_raw();
    let processes = support::names_in(Path::new("/proc"));
    let of_process = |name: String| {
        let path = format!("/proc/{name}");
        let is_own = std::fs::metadata(&path).is_ok_and(|found| found.uid() == own);
        let count = || std::fs::read_dir(format!("{path}/task")).map_or(0, |tasks| tasks.count() as u64);
        if is_own { count() } else { 0 }
    };
    processes.into_iter().filter(|name| name.parse::<u32>().is_ok()).map(of_process).sum()
}

fn threads_are_refused() {
    // A user with no thread but ours, also while this test runs a second time on the machine: the limit counts the threads of
    // a user wherever they are. A user namespace may have no more than 65536 users.
    let nobodys = 10_000 + std::process::id() % 50_000;
    let ipc_main = ipc_main();
    adds(&ipc_main);
    let bystander = ipc_main.attach().unwrap();
    let before = settled_held();
    let is_root = rustix::process::geteuid().is_root();
    let first = if is_root {
        1
    } else {
        println!("not root: the limit counts all threads of this user, so which of the two is refused is not certain");
        threads_of_user().saturating_sub(1)
    };
    let maximum = rustix::process::getrlimit(Resource::Nproc).maximum;
    let unlimited = rustix::process::getrlimit(Resource::Nproc).current;
    type Attempt = fn(&IpcMain) -> ringmain::Result<()>;
    let attempts: [(&str, Attempt); 2] =
        [("a main", |_| IpcMain::new().map(drop)), ("a renderer", |ipc_main| ipc_main.attach().map(drop))];
    for (what, attempt) in attempts {
        let mut refused = Vec::new();
        for limit in first..first + 1000 {
            let ipc_main = ipc_main.clone();
            let (go, may_go) = channel::<()>();
            let thread = std::thread::spawn(move || {
                next(&may_go, "the limit");
                if is_root {
                    let id = rustix::process::Uid::from_raw(nobodys);
                    rustix::thread::set_thread_res_uid(id, id, id).expect("another user");
                }
                attempt(&ipc_main)
            });
            rustix::process::setrlimit(Resource::Nproc, Rlimit { current: Some(limit), maximum }).unwrap();
            go.send(()).unwrap();
            let result = thread.join().unwrap();
            rustix::process::setrlimit(Resource::Nproc, Rlimit { current: unlimited, maximum }).unwrap();
            until_held(&before, &format!("{what} at a limit of {limit} threads"));
            answers(&bystander);
            match result {
                Ok(()) => break,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::System, "{error}");
                    assert!(error.to_string().contains("RLIMIT_NPROC"), "{error}");
                    refused.push(error.to_string());
                }
            }
        }
        assert!(!refused.is_empty(), "{what} was never refused");
        if is_root {
            let names: Vec<_> = ["ringmain-watch", "ringmain-disp"]
                .into_iter()
                .filter(|name| refused.iter().any(|text| text.contains(name)))
                .collect();
            assert_eq!((names.len(), refused.len()), (2, 2), "{what}: {refused:?}");
        }
    }
    until("those that came to be are gone", || ipc_main.all_web_contents().len() == 1);
}

// ---- system calls -------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq)]
enum Attempt {
    Main,
    Attach,
    Spawn,
    /// A program that never looks at what was handed over to it, and ends late.
    SpawnDeaf,
    Connect,
    Listen,
}
use Attempt::{Attach, Connect, Listen, Main, Spawn, SpawnDeaf};

const fn call(call: libc::c_long) -> Refused {
    Refused { call, with: None }
}

const SO_PEERPIDFD: u32 = 77;
const PEER_PIDFD: Refused = Refused { call: libc::SYS_getsockopt, with: Some((2, SO_PEERPIDFD)) };

/// Calls that nothing can be done without; the error that they fail with; what fails by that.
const NEEDED: &[(&[Refused], i32, &[Attempt])] = &[
    (&[call(libc::SYS_fallocate)], libc::ENOSPC, &[Attach, Spawn]),
    (&[call(libc::SYS_fallocate)], libc::EOPNOTSUPP, &[Attach, Spawn]),
    (&[call(libc::SYS_eventfd2)], libc::EMFILE, &[Main, Attach, Spawn, Connect]),
    (&[call(libc::SYS_eventfd2)], libc::ENOSYS, &[Main, Attach, Spawn, Connect]),
    (&[call(libc::SYS_epoll_create1)], libc::EMFILE, &[Main, Attach, Connect]),
    (&[call(libc::SYS_epoll_ctl)], libc::ENOSPC, &[Main, Attach, Spawn, SpawnDeaf, Connect, Listen]),
    (&[call(libc::SYS_epoll_ctl), call(libc::SYS_pidfd_open)], libc::EPERM, &[Spawn, SpawnDeaf]),
    (&[call(libc::SYS_socketpair)], libc::ENFILE, &[Attach, Spawn]),
    (&[call(libc::SYS_socket)], libc::EMFILE, &[Connect, Listen]),
    (&[call(libc::SYS_sendmsg)], libc::ENOBUFS, &[Attach, Spawn]),
    (&[call(libc::SYS_flock)], libc::ENOLCK, &[Listen]),
    (&[call(libc::SYS_clone3), call(libc::SYS_clone)], libc::EAGAIN, &[Main, Attach, Connect]),
    (&[call(libc::SYS_pidfd_open)], libc::EMFILE, &[Spawn, SpawnDeaf]),
];

/// The same, of sealed memory alone.
const NEEDED_BY_SEALED: &[(&[Refused], i32, &[Attempt])] = &[
    (&[call(libc::SYS_memfd_create)], libc::ENOSYS, &[Attach, Spawn]),
    (&[call(libc::SYS_memfd_create)], libc::EPERM, &[Attach, Spawn]),
    (&[call(libc::SYS_memfd_create)], libc::EMFILE, &[Attach, Spawn]),
];

#[test]
fn what_cannot_be_done_without_a_system_call_is_an_error_that_says_so_and_keeps_nothing() {
    alone("calls are refused");
}

fn calls_are_refused() {
    let (directory, ipc_main, bystander) = listening("honest");
    let gone = gone(&ipc_main);
    let path = directory.to_path_buf();
    // Tries something after `refuse`.
    let attempt = move |ipc_main: &IpcMain, attempt: Attempt, refuse: &dyn Fn()| -> ringmain::Result<()> {
        if attempt == Listen {
            let other = builder().runtime_dir(&path).build().unwrap();
            refuse();
            return other.listen("other").map(drop);
        }
        refuse();
        match attempt {
            Main => IpcMain::new().map(drop),
            Attach => ipc_main.attach().map(|attached| answers(&attached)),
            Spawn => {
                let mut program = child("serves");
                // What it finds refused too is not what is looked at.
                program.stderr(Stdio::null());
                ipc_main.spawn(program).map(|renderer| drop(Child(renderer)))
            }
            SpawnDeaf => {
                let mut program = Command::new("sleep");
                program.arg("60");
                ipc_main.spawn(program).map(|renderer| drop(Child(renderer)))
            }
            Connect | Listen => connect(&path, "honest").map(|connected| answers(&connected)),
        }
    };
    // What is set up once.
    attempt(&ipc_main, Attach, &|| {}).unwrap();
    next(&gone, "its leave");
    let before = settled_held();
    let sealed = if backing() == Backing::Sealed { NEEDED_BY_SEALED } else { &[] };
    for (calls, errno, fails) in NEEDED.iter().chain(sealed) {
        for what in *fails {
            let context = format!("{what:?} without {calls:?} (error {errno})");
            let (try_it, main) = (attempt.clone(), ipc_main.clone());
            let thread = std::thread::spawn(move || try_it(&main, *what, &|| refuse(calls, *errno)));
            let error: Error = thread.join().unwrap().expect_err(&context);
            assert_eq!(error.kind(), ErrorKind::System, "{context}: {error}");
            let of_system = std::io::Error::from_raw_os_error(*errno).to_string();
            assert!(error.to_string().contains(&of_system), "{context}: {error}");
            let advice = match *errno {
                libc::EMFILE => "RLIMIT_NOFILE",
                libc::ENFILE => "fs.file-max",
                libc::EAGAIN => "RLIMIT_NPROC",
                libc::ENOSPC if [Attach, Spawn].contains(what) && calls[0].call == libc::SYS_fallocate => "ring_size",
                _ => "",
            };
            assert!(error.to_string().contains(advice), "{context}: {error}");
            println!("{context}: {error}");
            // An attached renderer whose own end failed has been greeted: main sees it leave.
            until("nobody is there but the bystander", || ipc_main.all_web_contents().len() == 1);
            until_held(&before, &context);
            let children = rustix::process::wait(WaitOptions::NOHANG);
            assert_eq!(children.map(drop), Err(rustix::io::Errno::CHILD), "{context}: a child is left");
            // A lock file that could not be locked stays: it may be somebody else's by now.
            if calls[0].call == libc::SYS_flock {
                std::fs::remove_file(directory.join("other.lock")).unwrap();
            }
            assert_eq!(directory.names(), ["honest.lock", "honest.sock"], "{context}");
            answers(&bystander);
        }
    }
    // A main on a thread that is refused what shows a renderer's end: its own `watch` is refused it too.
    let other = TempDir::new();
    let path = other.to_path_buf();
    let (errors, ipc_main_without) = std::thread::spawn(move || {
        refuse(&[PEER_PIDFD], libc::EMFILE);
        let ipc_main = main_in(&path);
        ipc_main.listen("scarce").unwrap();
        (told(&ipc_main), ipc_main)
    })
    .join()
    .unwrap();
    assert_eq!(connect(&other, "scarce").unwrap_err().kind(), ErrorKind::Refused);
    let report = next(&errors, "the report");
    assert!(report.text.contains("cannot watch the process that connects"), "{}", report.text);
    assert!(report.text.contains("RLIMIT_NOFILE"), "{}", report.text);
    drop(ipc_main_without);
    // And a renderer in a process of its own.
    let mut connects = child("connects without descriptors of processes");
    connects.env("TEST_DIRECTORY", &*directory);
    assert!(Program::start(connects).ended(PATIENCE).success());

    for what in [Main, Attach, Connect] {
        attempt(&ipc_main, what, &|| {}).unwrap();
    }
    let here = received::<()>(&ipc_main, "here");
    let _child = spawn(&ipc_main, "serves");
    next(&here, "an honest renderer");
}

fn connects_without_descriptors_of_processes() {
    refuse(&[PEER_PIDFD], libc::ENFILE);
    let error = connect(Path::new(&env("TEST_DIRECTORY")), "honest").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System);
    for part in ["cannot watch main's process", "Too many open files in system", "fs.file-max"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// Calls that it goes without.
const DISPENSABLE: [&[Refused]; 2] = [&[call(libc::SYS_futex_waitv)], &[call(libc::SYS_pidfd_open), PEER_PIDFD]];

#[test]
fn without_futex_waitv_or_pidfds_everything_works_and_every_end_is_learnt() {
    for (index, refused) in DISPENSABLE.iter().enumerate() {
        for errno in [libc::ENOSYS, libc::EPERM] {
            let mut command = child("lives without");
            command.env("TEST_REFUSED", index.to_string()).env("TEST_ERRNO", errno.to_string());
            let mut program = Program::start(command);
            assert!(program.ended(LONG).success(), "without {refused:?} (error {errno})");
        }
    }
}

fn lives_without() {
    let refused = DISPENSABLE[env("TEST_REFUSED").parse::<usize>().unwrap()];
    // Inherited by the renderers too.
    refuse(refused, env("TEST_ERRNO").parse().unwrap());
    let directory = TempDir::new();
    let ipc_main = builder().wait(Wait::Park).runtime_dir(&*directory).build().unwrap();
    adds(&ipc_main);
    let (called, calls) = channel();
    support::never_answers(&ipc_main, called);
    let (here, gone) = (received::<()>(&ipc_main, "here"), gone(&ipc_main));
    let attached = ipc_main.attach().unwrap();
    ipc_main.listen("without").unwrap();
    for end in ["signal", "kill", "close"] {
        let mut command = child("serves");
        command.env("TEST_WAITS", "1");
        let renderer = ipc_main.spawn(command).unwrap();
        let pid = renderer.process().id();
        next(&here, "the renderer");
        next(&calls, "its call that waits");
        serve_both_ways(&renderer, &attached);
        let mut lane: Lane = renderer.lane("lane", &lane_config()).unwrap();
        asks_by(&mut lane);
        assert_eq!(lane.recv_response_until(&mut 0, Instant::now()), Err(LaneError::TimedOut));
        let sleeps = std::thread::spawn(move || lane.recv_response_until(&mut 0, soon()));
        let waiting = renderer.clone();
        let waits = std::thread::spawn(move || waiting.invoke::<usize>("none there", (), PATIENCE).wait());
        assert_eq!(waits.join().unwrap().unwrap_err().kind(), ErrorKind::NoHandler);
        assert_eq!(renderer.process().exit_status(), None);
        match end {
            "signal" => signal(pid, Signal::KILL),
            "kill" => renderer.process().kill().unwrap(),
            _ => renderer.close(PATIENCE).unwrap(),
        }
        let (id, reason) = next(&gone, "its end");
        assert_eq!(id, renderer.id());
        let (expected, status) = match end {
            "close" => (GoneReason::Closed, ExitStatus::Exited(Some(0))),
            _ => (GoneReason::Killed { signal: 9 }, ExitStatus::Killed(9)),
        };
        assert_eq!(reason, expected, "{end}");
        assert_eq!(sleeps.join().unwrap(), Err(LaneError::Closed), "{end}");
        assert_eq!(renderer.send("late", ()).unwrap_err().kind(), ErrorKind::Disconnected);
        until("it is reaped", || !lives(pid) && support::stat(pid).is_none());
        until("how it ended is known", || renderer.process().exit_status().is_some());
        assert_eq!(renderer.process().exit_status(), Some(status), "{end}");
        renderer.process().kill().unwrap(); // ended already
    }
    let named = IpcRenderer::builder().wait(Wait::Park).runtime_dir(&*directory).connect_to("without").unwrap();
    answers(&named);
    let (told, tells) = channel();
    named.on_disconnected(move |reason| told.send(reason.clone()).unwrap());
    let waiting = named.clone();
    let waits = std::thread::spawn(move || waiting.invoke::<()>("never", ()).wait());
    next(&calls, "a call that waits");
    ipc_main.shutdown();
    assert_eq!(waits.join().unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(next(&tells, "the end of main"), GoneReason::Closed);
}

#[test]
fn a_link_that_is_over_holds_neither_memory_nor_descriptors_though_its_handles_are_kept() {
    alone("keeps handles");
}

fn keeps_handles() {
    let ipc_main = ipc_main();
    adds(&ipc_main);
    let before = held();
    let here = received::<()>(&ipc_main, "here");
    let spawned = [(); 3].map(|()| spawn(&ipc_main, "serves"));
    for _ in &spawned {
        next(&here, "a renderer");
    }
    let each = (held().descriptors - before.descriptors) / spawned.len();
    // No hook asks for those that are gone: main remembers them for one that may come.
    spawned[0].process().kill().unwrap();
    spawned[1].close(PATIENCE).unwrap();
    // Who keeps a handle may ask for its pipes.
    spawned[..2].iter().for_each(|gone| drop((gone.process().take_stdin(), gone.process().take_stdout())));
    until("those that are gone hold no descriptor", || held().descriptors == before.descriptors + each);
    let attached = ipc_main.attach().unwrap();
    let kept = attached.clone();
    drop(attached);
    until("those that are gone hold no memory", || held().mappings == before.mappings + 1);
    for gone in &spawned[..2] {
        assert_eq!(gone.send("late", ()).unwrap_err().kind(), ErrorKind::Disconnected);
        assert_eq!(gone.invoke::<()>("late", (), PATIENCE).wait().unwrap_err().kind(), ErrorKind::Disconnected);
        assert!(gone.stats().messages_received >= 2);
    }
    assert_eq!(kept.send("late", ()).unwrap_err().kind(), ErrorKind::Disconnected);
    let reasons = gone(&ipc_main);
    let mut told = [(); 3].map(|()| next(&reasons, "an end").0);
    told.sort_unstable();
    assert_eq!(told, [spawned[0].id(), spawned[1].id(), kept.id()]);
    drop(ipc_main);
    until("nothing is held", || held().mappings == 0);
}

// ---- lanes --------------------------------------------------------------------------------------------------------

#[test]
fn lanes_of_a_renderer_with_no_descriptor_left_wait_and_are_there_when_it_has_one_again() {
    let ipc_main = ipc_main();
    adds(&ipc_main);
    let (here, used_up) = (received::<()>(&ipc_main, "here"), received::<()>(&ipc_main, "used up"));
    let waits = received::<()>(&ipc_main, "waits");
    let renderer = spawn(&ipc_main, "takes lanes at the limit");
    next(&here, "the renderer");
    let attached = ipc_main.attach().unwrap();
    let open = |name: &str| -> Lane { renderer.lane(name, &lane_config()).unwrap() };
    let mut before = open("before");
    asks_by(&mut before);
    next(&used_up, "that it has none left");
    let mut lanes = vec![open("first"), open("second")];
    // Dropped before it is taken: the next of this name comes in its place.
    drop(open("third"));
    lanes.push(open("third"));
    next(&waits, "that it has learnt of them");
    for lane in &mut lanes {
        let moment = Instant::now() + Duration::from_millis(1);
        assert_eq!(lane.exchange(&7, &mut 0, moment), Err(LaneError::TimedOut), "nobody has it");
        assert!(lane.is_open());
    }
    serve_both_ways(&renderer, &attached);
    asks_by(&mut before);
    renderer.send("free", ()).unwrap();
    lanes.push(open("later"));
    lanes.iter_mut().for_each(asks_by);
    asks_by(&mut before);
    serve_both_ways(&renderer, &attached);
    renderer.close(PATIENCE).unwrap();
    until("it ended without a panic", || renderer.process().exit_status() == Some(ExitStatus::Exited(Some(0))));
}

fn takes_lanes_at_the_limit() {
    let ipc_renderer = IpcRenderer::builder().wait(Wait::Park).connect().unwrap();
    ipc_renderer.handle("length", |_event, (text,): (String,)| Ok(text.len())).unwrap();
    let (tell, told) = channel();
    ipc_renderer.on_error(move |report| drop(tell.send(report.error.to_string())));
    let (free, may_free) = channel::<()>();
    ipc_renderer.on("free", move |_event, (): ()| free.send(()).unwrap());
    ipc_renderer.send("here", ()).unwrap();
    let take = |name: &'static str| {
        let lane = ipc_renderer.lane(name, &lane_config()).unwrap();
        std::thread::spawn(move || answers_by(lane))
    };
    take("before");
    let all = use_up_descriptors();
    assert_eq!(free_descriptors(), 0);
    ipc_renderer.send("used up", ()).unwrap();
    let report = next(&told, "that a lane waits");
    // As long as some further tries.
    let patience = Duration::from_millis(300);
    let timed_out = ipc_renderer.lane::<Lane>("first", &lane_config().open_timeout(patience)).unwrap_err();
    assert_eq!(timed_out.kind(), ErrorKind::Timeout);
    for text in [&report, &timed_out.to_string()] {
        for part in ["a lane of main's waits", "Too many open files", "RLIMIT_NOFILE"] {
            assert!(text.contains(part), "{text}");
        }
    }
    ipc_renderer.send("waits", ()).unwrap();
    next(&may_free, "that descriptors may be free again");
    assert!(told.try_recv().is_err(), "told once, however often it is tried");
    drop(all);
    ["first", "second", "third", "later"].into_iter().for_each(|name| drop(take(name)));
    until_disconnected(&ipc_renderer);
}

#[test]
fn a_renderer_that_has_no_descriptor_for_a_lane_learns_the_end_of_its_link_and_who_waits_for_the_lane_does() {
    let ipc_main = ipc_main();
    let (used_up, waits) = (received::<()>(&ipc_main, "used up"), received::<()>(&ipc_main, "waits"));
    let renderer = spawn(&ipc_main, "ends at the limit");
    next(&used_up, "that it has none left");
    let mut lane: Lane = renderer.lane("lane", &lane_config()).unwrap();
    next(&waits, "that it has learnt of the lane");
    renderer.close(PATIENCE).unwrap();
    assert_eq!(lane.exchange(&1, &mut 0, soon()), Err(LaneError::Closed));
    until("it ended without a panic", || renderer.process().exit_status() == Some(ExitStatus::Exited(Some(0))));
}

fn ends_at_the_limit() {
    let ipc_renderer = IpcRenderer::builder().connect().unwrap();
    let (tell, told) = channel();
    ipc_renderer.on_error(move |report| drop(tell.send(report.error.to_string())));
    let taking = ipc_renderer.clone();
    let takes = std::thread::spawn(move || taking.lane::<Lane>("lane", &lane_config().open_timeout(LONG)).map(drop));
    let _all = use_up_descriptors();
    ipc_renderer.send("used up", ()).unwrap();
    next(&told, "that a lane waits");
    ipc_renderer.send("waits", ()).unwrap();
    assert_eq!(takes.join().unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    until_disconnected(&ipc_renderer);
}

#[test]
fn a_lane_that_cannot_be_made_is_an_error_that_says_so_keeps_nothing_and_leaves_its_name_to_the_next() {
    alone("lanes are refused");
}

fn lanes_are_refused() {
    /// Of shared memory alone: a thread has to have memory of its own.
    const MAP_SHARED: Refused = Refused { call: libc::SYS_mmap, with: Some((3, libc::MAP_SHARED as u32)) };
    const START: &[Refused] = &[call(libc::SYS_clone3), call(libc::SYS_clone)];
    const OF_MAIN: [(&[Refused], i32, &str); 6] = [
        (&[call(libc::SYS_memfd_create)], libc::EMFILE, "cannot make the"),
        (&[call(libc::SYS_memfd_create)], libc::ENOSYS, "cannot make the"),
        (&[call(libc::SYS_fallocate)], libc::ENOSPC, "cannot make the"),
        (&[MAP_SHARED], libc::ENOMEM, "cannot make the"),
        (&[call(libc::SYS_sendmsg)], libc::ENOBUFS, "cannot hand the lane 'lane' to renderer"),
        (START, libc::EAGAIN, "cannot start the thread that wakes for a lane"),
    ];
    let ipc_main = ipc_main();
    adds(&ipc_main);
    let attached = ipc_main.attach().unwrap();
    let renderer = ipc_main.all_web_contents().remove(0);
    let (mut bystander, asked): (Lane, Lane) = {
        let ours = renderer.lane("bystander", &lane_config()).unwrap();
        (ours, attached.lane("bystander", &lane_config()).unwrap())
    };
    let answering = std::thread::spawn(move || answers_by(asked));
    asks_by(&mut bystander);
    let before = settled_held();
    let takes = |name: &str| -> Lane { attached.lane(name, &lane_config()).unwrap() };
    let mut works = |mut ours: Lane, mut theirs: Lane, what: &str| {
        let (mut asked, mut answer) = (0, 0);
        ours.send_request(&1).unwrap();
        theirs.recv_request_until(&mut asked, soon()).unwrap();
        theirs.send_response(&(asked + 1)).unwrap();
        ours.recv_response_until(&mut answer, soon()).unwrap();
        assert_eq!(answer, 2, "{what}");
        drop((ours, theirs));
        asks_by(&mut bystander);
        answers(&attached);
    };
    let refused = |errno: i32, expected: &str, error: Error| {
        let of_system = std::io::Error::from_raw_os_error(errno).to_string();
        println!("{error}");
        assert_eq!(error.kind(), ErrorKind::System, "{error}");
        assert!(error.to_string().contains(expected) && error.to_string().contains(&of_system), "{error}");
    };
    for (calls, errno, expected) in OF_MAIN {
        let (opening, config) = (renderer.clone(), lane_config().wake(WakePolicy::Relay));
        let opens = std::thread::spawn(move || {
            refuse(calls, errno);
            opening.lane::<Lane>("lane", &config).map(drop)
        });
        refused(errno, expected, opens.join().unwrap().expect_err(expected));
        // One that could not wake has been offered already: the renderer finds it dropped when it takes the next.
        if errno != libc::EAGAIN {
            until_held(&before, expected);
        }
        works(renderer.lane("lane", &lane_config()).unwrap(), takes("lane"), expected);
        until_held(&before, expected);
    }
    // What the renderer could not map is not lost.
    let ours = renderer.lane("lane", &lane_config()).unwrap();
    until("its offer has come", || held().descriptors == before.descriptors + 1);
    let waits = held();
    let taking = attached.clone();
    let takes_it = std::thread::spawn(move || {
        refuse(&[MAP_SHARED], libc::ENOMEM);
        taking.lane::<Lane>("lane", &lane_config()).map(drop)
    });
    let expected = "cannot map the lane 'lane'";
    refused(libc::ENOMEM, expected, takes_it.join().unwrap().expect_err(expected));
    until_held(&waits, expected);
    works(ours, takes("lane"), expected);
    until_held(&before, expected);
    drop(bystander);
    answering.join().unwrap();
}

#[test]
fn where_memory_that_cannot_be_executed_is_not_known_links_and_lanes_have_other_memory() {
    alone("the flag is unknown");
}

fn the_flag_is_unknown() {
    /// With just what is asked for first: `MFD_CLOEXEC`, `MFD_ALLOW_SEALING`, `MFD_NOEXEC_SEAL`.
    const WITH_FLAG: Refused = Refused { call: libc::SYS_memfd_create, with: Some((1, 0b1011)) };
    for errno in [libc::EINVAL, libc::EACCES] {
        let opens = std::thread::spawn(move || -> ringmain::Result<()> {
            let ipc_main = ipc_main();
            adds(&ipc_main);
            let renderer = ipc_main.attach()?;
            refuse(&[WITH_FLAG], errno);
            let mut ours: Lane = ipc_main.all_web_contents()[0].lane("lane", &lane_config())?;
            let theirs = renderer.lane("lane", &lane_config())?;
            let answering = std::thread::spawn(move || answers_by(theirs));
            asks_by(&mut ours);
            drop(ours);
            answering.join().unwrap();
            answers(&ipc_main.attach()?);
            Ok(())
        });
        let opened = opens.join().unwrap();
        // Another error is not taken for that.
        assert_eq!(opened.is_ok(), errno == libc::EINVAL, "{opened:?}");
    }
}

// ---- memory -------------------------------------------------------------------------------------------------------

#[test]
fn a_main_with_no_address_space_left_refuses_links_keeps_large_messages_waiting_and_serves_on() {
    alone("address space");
}

/// More than an allocator may have in reserve, and what limit both ends then agree on.
const LARGE_TEXT: usize = 100 << 20;
const LARGE_LIMIT: usize = 128 << 20;

fn sends_a_large_text_when_told() {
    let ipc_renderer = IpcRenderer::builder().max_message_size(LARGE_LIMIT).connect().unwrap();
    ipc_renderer.send("here", ()).unwrap();
    assert_eq!(line(), "send");
    ipc_renderer.send("large", ("x".repeat(LARGE_TEXT),)).unwrap();
    // Main takes as much as it has memory for, and then no more.
    loop {
        let before = ipc_renderer.stats().queued_bytes;
        let error = ipc_renderer.flush(Duration::from_millis(500)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        if ipc_renderer.stats().queued_bytes == before {
            break;
        }
    }
    println!("stuck");
    ipc_renderer.flush(4 * PATIENCE).unwrap();
    until_disconnected(&ipc_renderer);
}

/// Bytes of address space that this process has in use.
fn address_space_used() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').next().unwrap().parse::<u64>().unwrap() * rustix::param::page_size() as u64
}

fn address_space() {
    const HEADROOM: u64 = 24 << 20;
    let ipc_main = builder().ring_size(32 << 20).build().unwrap();
    let small = builder().max_message_size(LARGE_LIMIT).build().unwrap();
    adds(&small);
    let bystander = small.attach().unwrap();
    let (here, large) = (received::<()>(&small, "here"), received::<(String,)>(&small, "large"));
    let mut program = child("sends a large text when told");
    program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let sender = Child(small.spawn(program).unwrap());
    next(&here, "the renderer");
    answers(&bystander);

    let used = address_space_used();
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::As);
    rustix::process::setrlimit(Resource::As, Rlimit { current: Some(used + HEADROOM), maximum }).unwrap();
    for _ in 0..3 {
        let error = ipc_main.attach().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::System);
        for part in ["Cannot allocate memory", "shared memory", "ring_size", "RLIMIT_AS"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(ipc_main.all_web_contents().is_empty());
        answers(&bystander);
    }
    assert!(address_space_used() < used + (8 << 20), "what was refused is not kept");
    assert_eq!(shared_memory_of(std::process::id()), [""; 0]);
    say(&mut sender.process().take_stdin().unwrap(), "send");
    // Read here: there may be no memory for another thread.
    let mut output = BufReader::new(sender.process().take_stdout().unwrap());
    let mut said = String::new();
    while !said.ends_with("stuck\n") {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "the sender ended: {said}");
    }
    for _ in 0..100 {
        answers(&bystander);
    }
    assert!(large.try_recv().is_err() && sender.is_connected());

    rustix::process::setrlimit(Resource::As, Rlimit { current, maximum }).unwrap();
    // As long as its sender waits: much of it has still to pass.
    let (_, (text,)) = large.recv_timeout(4 * PATIENCE).expect("the large message");
    assert!(text.len() == LARGE_TEXT && text.bytes().all(|byte| byte == b'x'));
    assert!(ipc_main.attach().is_ok());
}

/// The test binary in `role`, after `mount` has run in a mount namespace of its own; `None`, and a line that says why: this
/// system permits no such thing.
fn in_a_mount_namespace(role: &str, mount: &str) -> Option<Program> {
    let user = ["--user", "--map-root-user", "--mount"];
    let is_permitted = |flags: &[&str]| {
        let mut probe = Command::new("unshare");
        probe.args(flags).args(["sh", "-c", "mount -t tmpfs ringmain /tmp"]).stdin(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    let Some(flags) = [&user[2..], &user[..]].into_iter().find(|flags| is_permitted(flags)) else {
        println!("{role:?} is not played: this system permits no mount namespace (unshare)");
        return None;
    };
    let itself = child(role);
    let mut command = Command::new("unshare");
    command.args(flags).args(["sh", "-c", &format!("{mount} && exec \"$0\" \"$@\"")]);
    command.arg(itself.get_program()).args(itself.get_args());
    command.envs(itself.get_envs().filter_map(|(name, value)| Some((name, value?))));
    println!("{role:?} is played in a mount namespace of its own");
    Some(Program::start(command))
}

#[test]
fn a_full_dev_shm_is_an_error_at_the_next_link_and_harms_none_that_is_there() {
    let mount = "mount -t tmpfs -o size=2m,mode=1777 ringmain /dev/shm";
    let Some(mut program) = in_a_mount_namespace("full tmpfs", mount) else {
        println!("the refusal of `fallocate` with ENOSPC is tested in its place, by a filter");
        return;
    };
    assert!(program.ended(LONG).success());
}

fn full_tmpfs() {
    let shm = Path::new("/dev/shm");
    let ipc_main = builder().backing(Backing::Named).build().unwrap();
    adds(&ipc_main);
    let (here, gone) = (received::<()>(&ipc_main, "here"), gone(&ipc_main));
    let child = spawn(&ipc_main, "serves");
    next(&here, "the renderer");
    let mut attached = Vec::new();
    let is_full = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::System);
        for part in ["No space left on device", "bytes of shared memory", "/dev/shm", "ring_size"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(shared_memory_of(std::process::id()), [""; 0]);
    };
    let error = loop {
        match ipc_main.attach() {
            Ok(another) => attached.push(another),
            Err(error) => break error,
        }
        assert!(attached.len() < 1000, "two mebibytes are never full");
    };
    is_full(error);
    // The last page too.
    let _ = std::fs::write(shm.join("filler"), vec![0; 4 << 20]);
    is_full(ipc_main.attach().map(drop).unwrap_err());
    is_full(ipc_main.spawn(support::child("serves")).map(drop).unwrap_err());
    for one in &attached {
        serve_both_ways(&child, one);
    }
    assert!(gone.try_recv().is_err());
    std::fs::remove_file(shm.join("filler")).unwrap();
    drop(attached.pop());
    next(&gone, "its leave");
    // Its hook runs a moment before its memory is free.
    let mut again = None;
    until("there is room for another", || {
        again = ipc_main.attach().ok();
        again.is_some()
    });
    let again = again.unwrap();
    serve_both_ways(&child, &again);
    drop((again, attached, child, ipc_main));
    assert_eq!(support::names_in(shm), [""; 0]);
}

// ---- directories --------------------------------------------------------------------------------------------------

fn connect(directory: &Path, name: &str) -> ringmain::Result<IpcRenderer> {
    IpcRenderer::builder().runtime_dir(directory).connect_to(name)
}

fn main_in(directory: &Path) -> IpcMain {
    let ipc_main = builder().runtime_dir(directory).build().unwrap();
    adds(&ipc_main);
    ipc_main
}

#[test]
fn a_runtime_directory_of_somebody_elses_is_refused_with_the_owner_and_what_to_do() {
    let directory = TempDir::new();
    let (path, owner) = if rustix::process::geteuid().is_root() {
        let path = directory.join("theirs");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        println!("root: a directory was given away");
        (path, 65_534)
    } else {
        println!("not root: the directory / is taken");
        ("/".into(), Path::new("/").metadata().unwrap().uid())
    };
    let ipc_main = main_in(&path);
    for error in [ipc_main.listen("name").unwrap_err(), connect(&path, "name").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::System);
        for part in [&format!("of user {owner}"), "must be a directory of user", "correct or remove it"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    answers(&ipc_main.attach().unwrap());
}

#[test]
fn a_read_only_runtime_directory_is_refused_and_a_main_that_listens_outlives_its_becoming_so() {
    if !rustix::process::geteuid().is_root() {
        let directory = TempDir::new();
        let ipc_main = main_in(&directory);
        let attached = ipc_main.attach().unwrap();
        ipc_main.listen("name").unwrap();
        std::fs::set_permissions(&*directory, Permissions::from_mode(0o500)).unwrap();
        is_refused(&ipc_main, &directory, "Permission denied");
        answers(&connect(&directory, "name").unwrap());
        answers(&attached);
        ipc_main.shutdown();
        std::fs::set_permissions(&*directory, Permissions::from_mode(0o700)).unwrap();
        // It could not remove its files: the next main takes them over.
        assert_eq!(directory.names(), ["name.lock", "name.sock"]);
        let next = main_in(&directory);
        next.listen("name").unwrap();
        answers(&connect(&directory, "name").unwrap());
        return;
    }
    println!("root, whom no permission stops: the file system is made read-only");
    let directory = TempDir::new();
    let mount = format!("mount -t tmpfs -o mode=700 ringmain '{}'", directory.display());
    if let Some(mut program) = in_a_mount_namespace_with("read-only directory", &mount, &directory) {
        assert!(program.ended(LONG).success());
    }
}

fn in_a_mount_namespace_with(role: &str, mount: &str, directory: &Path) -> Option<Program> {
    in_a_mount_namespace(role, &format!("export TEST_DIRECTORY='{}' && {mount}", directory.display()))
}

fn is_refused(ipc_main: &IpcMain, directory: &Path, text: &str) {
    let error = ipc_main.listen("another").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System);
    for part in [text, "another.lock", &directory.display().to_string()] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

fn read_only_directory() {
    let directory = env("TEST_DIRECTORY");
    let directory = Path::new(&directory);
    // A second mount over the first: that cannot become read-only while the lock file is open there.
    let run = |command: &str, args: &[&str]| {
        let status = Command::new(command).args(args).arg(directory).status();
        assert!(status.unwrap().success(), "{command} {args:?}");
    };
    let ipc_main = main_in(directory);
    let attached = ipc_main.attach().unwrap();
    ipc_main.listen("name").unwrap();
    run("mount", &["--bind", &directory.display().to_string()]);
    run("mount", &["-o", "remount,bind,ro"]);
    is_refused(&ipc_main, directory, "Read-only file system");
    answers(&attached);
    ipc_main.shutdown();
    run("umount", &[]);
    assert_eq!(support::names_in(directory), ["name.lock", "name.sock"], "it could not remove them");
    let heir = main_in(directory);
    heir.listen("name").unwrap();
    answers(&connect(directory, "name").unwrap());
    drop(heir);
    assert_eq!(support::names_in(directory), [""; 0]);
}

#[test]
fn a_main_whose_files_were_removed_leaves_those_of_the_next_one_alone() {
    let directory = TempDir::new();
    let (first, second) = (main_in(&directory), main_in(&directory));
    first.listen("name").unwrap();
    let connected = connect(&directory, "name").unwrap();
    // Whoever cleans temporary directories.
    std::fs::remove_dir_all(&*directory).unwrap();
    assert_eq!(connect(&directory, "name").unwrap_err().kind(), ErrorKind::NotListening);
    answers(&connected);
    second.listen("name").unwrap();
    answers(&connect(&directory, "name").unwrap());
    first.shutdown();
    assert_eq!(directory.names(), ["name.lock", "name.sock"]);
    answers(&connect(&directory, "name").unwrap());
    second.shutdown();
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn a_lock_that_a_living_process_holds_is_respected_whatever_lies_beside_it() {
    let directory = TempDir::new();
    let ipc_main = main_in(&directory);
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let lock = rustix::fs::open(directory.join("name.lock"), flags, Mode::RUSR | Mode::WUSR).unwrap();
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let error = ipc_main.listen("name").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
    // Nobody listens though somebody has the lock: a main that has it and not yet its socket.
    assert_eq!(connect(&directory, "name").unwrap_err().kind(), ErrorKind::NotListening);
    // A stale socket is not taken from the lock's holder either.
    drop(std::os::unix::net::UnixListener::bind(directory.join("name.sock")).unwrap());
    assert_eq!(ipc_main.listen("name").unwrap_err().kind(), ErrorKind::NameInUse);
    assert_eq!(directory.names(), ["name.lock", "name.sock"]);
    drop(lock);
    // A child that another test has just forked holds it too, until it is another program.
    until("nobody has the lock", || match ipc_main.listen("name") {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
            false
        }
    });
    answers(&connect(&directory, "name").unwrap());
    drop(ipc_main);
    assert_eq!(directory.names(), [""; 0]);
}
