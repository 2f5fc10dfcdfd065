//! Many links, what they cost, and the limits that they meet.
#![allow(missing_docs)]

mod support;

use ringmain::{ErrorKind, GoneReason, IpcMain, IpcRenderer, WebContents};
use std::collections::HashSet;
use std::sync::mpsc::channel;
use support::{
    Child, LONG, PATIENCE, Program, TempDir, alone, builder, child, connected, env, free_descriptors, gone, ipc_main,
    line, next, open_fds, raise_descriptor_limit, received, until, use_up_descriptors,
};

#[test]
fn children() {
    support::play(&[
        ("main of links", main_of_links),
        ("opens links", opens_links),
        ("main of processes", main_of_processes),
        ("calls once", calls_once),
        ("spawns at the limit", spawns_at_the_limit),
        ("attaches at the limit", attaches_at_the_limit),
        ("accepts at the limit", accepts_at_the_limit),
        ("connects at the limit", connects_at_the_limit),
        ("connects when told", connects_when_told),
        ("is told its end", is_told_its_end),
    ]);
}

/// Descriptors of a link in main: socket, doorbell, pidfd.
const DESCRIPTORS: usize = 3;

/// Links of one child at most, so that five descriptors each stay below any usual limit.
const LINKS_OF_A_CHILD: usize = 100;

fn adds(ipc_main: &IpcMain) {
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
}

// ---- many links ---------------------------------------------------------------------------------------------------

#[test]
fn up_to_a_thousand_links_call_and_are_sent_to_at_three_descriptors_each_which_come_back() {
    alone("main of links");
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Close,
    Kill,
}

fn main_of_links() {
    raise_descriptor_limit();
    for (count, end) in [(1, End::Close), (2, End::Kill), (100, End::Close), (100, End::Kill), (1000, End::Close)] {
        links(count, end);
    }
}

fn links(count: usize, end: End) {
    let directory = TempDir::new();
    let ipc_main = builder().ring_size(4 << 10).runtime_dir(&*directory).build().unwrap();
    adds(&ipc_main);
    let called = received::<()>(&ipc_main, "called");
    let welcomed = received::<(u32,)>(&ipc_main, "welcomed");
    let gone = gone(&ipc_main);
    ipc_main.listen("links").unwrap();
    let mut left = count;
    let mut openers = Vec::new();
    while left > 0 {
        let links = left.min(LINKS_OF_A_CHILD);
        left -= links;
        let mut opener = child("opens links");
        opener.env("TEST_DIRECTORY", &*directory).env("TEST_LINKS", links.to_string());
        openers.push(Program::start(opener));
    }
    let before = open_fds();
    openers.iter_mut().for_each(|opener| opener.say("open"));
    let all: Vec<WebContents> = (0..count).map(|_| next(&called, "the call of each link").0).collect();
    let used = open_fds() - before;
    assert!(used <= DESCRIPTORS * count, "{count} links took {used} descriptors");
    assert_eq!(all.iter().map(WebContents::id).collect::<HashSet<_>>().len(), count);
    for web_contents in &all {
        web_contents.send("welcome", (web_contents.id(),)).unwrap();
    }
    for _ in 0..count {
        let (from, (id,)) = next(&welcomed, "what each link was sent");
        assert_eq!(from.id(), id);
    }
    for opener in &mut openers {
        match end {
            End::Close => opener.say("close"),
            End::Kill => opener.kill(),
        }
    }
    for _ in 0..count {
        let (_, reason) = next(&gone, "the end of each link");
        // A process that is not our child shows nothing but that it has ended.
        assert_eq!(reason, if end == End::Close { GoneReason::Closed } else { GoneReason::Exited { code: None } });
    }
    drop(all);
    // The input and output of a program that was killed are closed already.
    let pipes = if end == End::Kill { openers.len() } else { 0 };
    until("links that are gone have no descriptor, though their processes may live on", || {
        open_fds() + pipes == before
    });
    for mut opener in openers.into_iter().filter(|_| end == End::Close) {
        let status = opener.ended(PATIENCE);
        assert!(status.success(), "{status}");
    }
}

fn opens_links() {
    raise_descriptor_limit();
    let (directory, count) = (env("TEST_DIRECTORY"), env("TEST_LINKS").parse::<usize>().unwrap());
    assert_eq!(line(), "open");
    let (welcome, welcomed) = channel();
    let renderers: Vec<IpcRenderer> = (0..count)
        .map(|index| {
            let welcome = welcome.clone();
            IpcRenderer::builder()
                .runtime_dir(&directory)
                .on("welcome", move |_event, (id,): (u32,)| welcome.send((index, id)))
                .connect_to("links")
                .unwrap()
        })
        .collect();
    for ipc_renderer in &renderers {
        let id = i64::from(ipc_renderer.id());
        let sum: i64 = ipc_renderer.invoke("add", (id, 1)).timeout(PATIENCE).wait().unwrap();
        assert_eq!(sum, id + 1);
        ipc_renderer.send("called", ()).unwrap();
    }
    for _ in 0..count {
        let (index, id) = next(&welcomed, "a message on each link");
        assert_eq!(renderers[index].id(), id);
        renderers[index].send("welcomed", (id,)).unwrap();
    }
    if line() == "close" {
        drop(renderers);
        assert_eq!(line(), "", "lives on until its input ends");
    }
}

// ---- many processes -----------------------------------------------------------------------------------------------

#[test]
fn a_hundred_and_twenty_nine_processes_call_at_once_and_each_end_is_told_as_it_was() {
    alone("main of processes");
}

fn main_of_processes() {
    const PROCESSES: u32 = 129;
    raise_descriptor_limit();
    let ipc_main = builder().ring_size(4 << 10).build().unwrap();
    adds(&ipc_main);
    let here = received::<()>(&ipc_main, "here");
    let called = received::<(i64,)>(&ipc_main, "called");
    let gone = gone(&ipc_main);
    let before = open_fds();
    let all: Vec<Child> = (0..PROCESSES).map(|_| support::spawn(&ipc_main, "calls once")).collect();
    for _ in 0..PROCESSES {
        next(&here, "every process");
    }
    let used = open_fds() - before;
    assert!(used <= DESCRIPTORS * all.len(), "{PROCESSES} processes took {used} descriptors");
    for web_contents in &all {
        web_contents.send("call", (web_contents.id() % 2 == 0,)).unwrap();
    }
    for _ in 0..PROCESSES {
        let (from, (sum,)) = next(&called, "the call of every process");
        assert_eq!(sum, i64::from(from.id()) + 1);
        if from.id() % 2 == 1 {
            from.process().kill().unwrap();
        }
    }
    let mut ends = HashSet::new();
    for _ in 0..PROCESSES {
        let (id, reason) = next(&gone, "the end of every process");
        assert!(ends.insert(id), "renderer {id} was gone twice");
        match id % 2 {
            0 => assert_eq!(reason, GoneReason::Exited { code: Some(3) }),
            _ => assert_eq!(reason, GoneReason::Killed { signal: 9 }),
        }
    }
    drop(all);
    until("nothing of the processes is left", || open_fds() == before);
    drop(ipc_main);
    assert!(gone.try_recv().is_err());
}

fn calls_once() {
    let (call, calls) = channel();
    let ipc_renderer =
        IpcRenderer::builder().on("call", move |_event, (ends,): (bool,)| call.send(ends)).connect().unwrap();
    ipc_renderer.send("here", ()).unwrap();
    // The others are still being started.
    let ends = calls.recv_timeout(LONG).unwrap();
    let sum: i64 = ipc_renderer.invoke("add", (ipc_renderer.id(), 1)).timeout(PATIENCE).wait().unwrap();
    ipc_renderer.send("called", (sum,)).unwrap();
    if ends {
        std::process::exit(3);
    }
    support::until_disconnected(&ipc_renderer);
}

// ---- limits -------------------------------------------------------------------------------------------------------

/// Tries something at 0, 1, 2, .. free descriptors until it succeeds: before that it fails, says why, and keeps none.
fn at_each_number_of_free_descriptors<T>(
    mut attempt: impl FnMut() -> ringmain::Result<T>,
    mut check: impl FnMut(),
) -> T {
    let mut used = use_up_descriptors();
    assert!(used.len() > 16, "too little room to test with: {}", used.len());
    for free in 0.. {
        assert_eq!(free_descriptors(), free);
        match attempt() {
            Ok(value) => {
                assert!(free > 0);
                return value;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::System, "{free} free: {error}");
                assert!(error.to_string().contains("Too many open files"), "{free} free: {error}");
            }
        }
        until("an attempt that failed has kept no descriptor", || free_descriptors() == free);
        check();
        drop(used.pop().expect("it needs fewer than all"));
    }
    unreachable!("it succeeds or runs out of files")
}

fn answers(ipc_renderer: &IpcRenderer) {
    let sum: i64 = ipc_renderer.invoke("add", (2, 3)).timeout(PATIENCE).wait().unwrap();
    assert_eq!(sum, 5);
}

#[test]
fn spawn_at_the_descriptor_limit_names_it_and_everything_else_goes_on() {
    alone("spawns at the limit");
}

fn spawns_at_the_limit() {
    let ipc_main = ipc_main();
    adds(&ipc_main);
    let here = received::<()>(&ipc_main, "here");
    let gone = gone(&ipc_main);
    let attached = ipc_main.attach().unwrap();
    let spawned = at_each_number_of_free_descriptors(
        || ipc_main.spawn(child("is told its end")).map(Child),
        || answers(&attached),
    );
    let free = free_descriptors();
    next(&here, "the renderer that could be spawned");
    spawned.process().kill().unwrap();
    assert_eq!(next(&gone, "its end"), (spawned.id(), GoneReason::Killed { signal: 9 }));
    drop(spawned);
    until("its descriptors are free again", || free_descriptors() == free + DESCRIPTORS);
    answers(&attached);
    assert!(gone.try_recv().is_err(), "attempts that failed are nobody's end");
}

fn is_told_its_end() {
    raise_descriptor_limit();
    let ipc_renderer = connected();
    ipc_renderer.send("here", ()).unwrap();
    support::until_disconnected(&ipc_renderer);
}

#[test]
fn attach_at_the_descriptor_limit_names_it_and_everything_else_goes_on() {
    alone("attaches at the limit");
}

fn attaches_at_the_limit() {
    let ipc_main = ipc_main();
    adds(&ipc_main);
    let attached = ipc_main.attach().unwrap();
    let another = at_each_number_of_free_descriptors(|| ipc_main.attach(), || answers(&attached));
    answers(&another);
}

#[test]
fn a_main_without_descriptors_says_so_and_accepts_who_waits_as_soon_as_it_has_some() {
    alone("accepts at the limit");
}

fn accepts_at_the_limit() {
    let directory = TempDir::new();
    let ipc_main = builder().runtime_dir(&*directory).build().unwrap();
    adds(&ipc_main);
    let (error, errors) = channel();
    ipc_main.on_error(move |report| drop(error.send(report.error.to_string())));
    let called = received::<()>(&ipc_main, "called");
    ipc_main.listen("full").unwrap();
    let mut connects = child("connects when told");
    connects.env("TEST_DIRECTORY", &*directory).env("TEST_NAME", "full");
    let mut connects = Program::start(connects);
    let used = use_up_descriptors();
    connects.say("connect");
    let text = next(&errors, "the report of who could not be accepted");
    assert!(text.contains("accept") && text.contains("Too many open files"), "{text}");
    drop(used);
    next(&called, "who waited");
    assert!(connects.ended(PATIENCE).success());
}

fn connects_when_told() {
    assert_eq!(line(), "connect");
    let ipc_renderer = IpcRenderer::builder().runtime_dir(env("TEST_DIRECTORY")).connect_to(&env("TEST_NAME")).unwrap();
    answers(&ipc_renderer);
    ipc_renderer.send("called", ()).unwrap();
}

#[test]
fn connecting_at_the_descriptor_limit_names_it_and_works_once_there_is_room() {
    let directory = TempDir::new();
    let ipc_main = builder().runtime_dir(&*directory).build().unwrap();
    adds(&ipc_main);
    ipc_main.listen("roomy").unwrap();
    let mut connects = child("connects at the limit");
    connects.env("TEST_DIRECTORY", &*directory).env("TEST_NAME", "roomy");
    assert!(Program::start(connects).ended(LONG).success());
}

fn connects_at_the_limit() {
    let (directory, name) = (env("TEST_DIRECTORY"), env("TEST_NAME"));
    let connect = || IpcRenderer::builder().runtime_dir(&directory).connect_to(&name);
    answers(&at_each_number_of_free_descriptors(connect, || {}));
}

#[test]
fn one_renderer_more_than_max_renderers_is_refused_until_another_is_gone() {
    let directory = TempDir::new();
    let ipc_main = builder().max_renderers(2).runtime_dir(&*directory).build().unwrap();
    adds(&ipc_main);
    let gone = gone(&ipc_main);
    let (error, errors) = channel();
    ipc_main.on_error(move |report| drop(error.send(report.error.to_string())));
    let here = received::<()>(&ipc_main, "here");
    let called = received::<()>(&ipc_main, "called");
    let (first, second) = (support::spawn(&ipc_main, "is told its end"), ipc_main.attach().unwrap());
    next(&here, "the first");
    for error in [
        ipc_main.spawn(child("is told its end")).map(Child).map(drop).unwrap_err(),
        ipc_main.attach().map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().contains("max_renderers is 2"), "{error}");
    }
    ipc_main.listen("two").unwrap();
    let connect = || IpcRenderer::builder().runtime_dir(&*directory).connect_to("two");
    assert_eq!(connect().unwrap_err().kind(), ErrorKind::Refused);
    let text = next(&errors, "the report of the refusal");
    assert!(text.contains("max_renderers is 2"), "{text}");
    first.process().kill().unwrap();
    assert_eq!(next(&gone, "the first").0, first.id());
    let third = connect().unwrap();
    answers(&third);
    third.send("called", ()).unwrap();
    assert_eq!(next(&called, "the third").0.id(), third.id());
    answers(&second);
    assert_eq!(ipc_main.all_web_contents().len(), 2);
}
