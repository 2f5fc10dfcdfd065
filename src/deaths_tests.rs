//! SIGKILL of either end at each step of the protocol, stopped exactly there by a failpoint, with calls, parts of messages and
//! parked waits in flight: what the other end learns, what it gets, and what is left behind. Likewise where it is the other
//! end that stands at the step, and goes on when its peer is dead.

#[path = "../tests/support/mod.rs"]
pub(crate) mod support;

use crate::failpoint;
use crate::{
    Backing, Error, ErrorKind, GoneReason, IpcMain, IpcRenderer, LaneError, LaneReceiver, LaneSender, Result, Wait,
    WebContents,
};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::io::{BufReader, Read};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::{
    Child, Gate, PATIENCE, Program, Refused, TempDir, alone_on, bounded, builder, child, env, line, lives, next,
    refuse, say, settled_held, shared_memory_of, until, until_asleep, until_held, until_said, until_said_one_of,
};

#[test]
fn children() {
    support::play(&[
        ("main of renderers that are killed", main_of_killed_renderers),
        ("main of renderers that are killed while they connect", main_of_renderers_killed_while_they_connect),
        ("renderer of mains that are killed", renderer_of_killed_mains),
        ("renderer of mains that are killed while it connects", renderer_of_mains_killed_while_it_connects),
        ("survivor of mains that are killed while they spawn", survivor_of_mains_killed_while_they_spawn),
        ("renderer that is killed", renderer_that_is_killed),
        ("renderer that is killed while it connects", renderer_killed_while_it_connects),
        ("main that is killed", main_that_is_killed),
        ("main that is killed while it spawns", main_killed_while_it_spawns),
        ("renderer of a main that is killed while it spawns", renderer_of_a_main_killed_while_it_spawns),
        ("main that sweeps", main_that_sweeps),
        ("main that stands at each step", main_that_stands_at_each_step),
        ("renderer that kills itself", renderer_that_kills_itself),
        ("renderer that stands at each step", renderer_that_stands_at_each_step),
        ("main whose program cannot be started", main_whose_program_cannot_be_started),
    ]);
}

/// The link is in the table before the program is started, and whoever finds it there may call by it.
#[test]
fn calls_by_a_link_whose_program_cannot_be_started_end_with_it() {
    alone_on(Backing::Sealed, "main whose program cannot be started");
}

fn main_whose_program_cannot_be_started() {
    let ipc_main = builder().build().unwrap();
    let gate = Gate::default();
    let holds = gate.clone();
    failpoint::hold("welcome sent", 0, move || holds.wait());
    let spawns = ipc_main.clone();
    let spawning =
        std::thread::spawn(move || spawns.spawn(Command::new("/nowhere/at all")).map(drop).unwrap_err().kind());
    gate.reached();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let mut call = web_contents.invoke::<()>("x", (), 4 * PATIENCE);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::Pin::new(&mut call).poll(&mut context).is_pending());
    web_contents.send("x", ()).unwrap();
    gate.open();
    assert_eq!(bounded("the spawn", move || spawning.join().unwrap()), ErrorKind::System);
    let error = bounded("the call", move || futures::executor::block_on(call)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert_eq!(web_contents.send("x", ()).unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(web_contents.stats().queued_bytes, 0);
    assert!(matches!(web_contents.gone_reason(), Some(GoneReason::NeverConnected(_))));
}

// ---- the steps ----------------------------------------------------------------------------------------------------

/// What the victim, or the survivor in its place, does to bring the victim to a step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// The victim sends number [`SENT`].
    Send,
    /// The victim sends large messages until it is stopped.
    SendLarge,
    /// The victim calls what is never answered.
    Call,
    /// The victim calls what is answered, again and again.
    CallAndGet,
    /// Two threads of the victim call what is never answered.
    CallTwice,
    /// The victim answers a call.
    Reply,
    /// The survivor sends a message.
    Receive,
    /// The survivor sends large messages.
    ReceiveLarge,
    /// The survivor sends large messages until the victim has read some: it is rung for their room.
    MakeRoom,
    /// The survivor makes the victim run a listener, or a handler.
    Run(&'static str),
    /// The victim opens, or closes, a frame. Renderers only.
    OpenFrame,
    CloseFrame,
    /// The victim closes the link.
    Close,
    /// The victim sends a value whose `Serialize` stops.
    Serialize,
    /// The victim opens the receiving end of a lane and waits for a record, the survivor the sending one.
    Lane,
}
use Act::*;

/// What has arrived of what the victim did, where that is to be the same each time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arrives {
    Yes,
    No,
    Any,
}
use Arrives::{Any, No, Yes};

struct Step {
    at: &'static str,
    passes: u32,
    act: Act,
    arrives: Arrives,
}

const fn step(at: &'static str, passes: u32, act: Act, arrives: Arrives) -> Step {
    Step { at, passes, act, arrives }
}

/// Numbers that arrive before anybody is stopped; the next one is sent at a step.
const SENT: u32 = 10;

/// The steps of an open link, in the order of what a message, a call, a sleep, an end goes through. What was committed
/// arrives, what was not does not.
const STEPS: &[Step] = &[
    step("in a Serialize", 0, Serialize, No),
    step("record reserved", 0, Send, No),
    step("record written", 0, Send, No),
    step("record committed", 0, Send, Yes),
    step("announcement taken", 0, Send, Yes),
    step("peer rung", 0, Send, Yes),
    step("message queued", 0, SendLarge, No),
    step("part reserved", 0, SendLarge, No),
    step("part written", 0, SendLarge, No),
    step("part committed", 0, SendLarge, No),
    step("part reserved", 3, SendLarge, No),
    step("part written", 3, SendLarge, No),
    step("part committed", 3, SendLarge, No),
    step("room wanted", 0, SendLarge, Any),
    step("record committed", 0, Call, Any),
    step("caller announced", 0, Call, Any),
    step("caller sleeps", 0, Call, Any),
    step("caller woken", 0, CallAndGet, Any),
    step("dispatcher announced again", 0, CallAndGet, Any),
    step("follower sleeps", 0, CallTwice, Any),
    step("in a handler", 0, Run("handler"), No),
    step("record reserved", 0, Reply, No),
    step("record written", 0, Reply, No),
    step("record committed", 0, Reply, Yes),
    step("announcement taken", 0, Reply, Yes),
    step("peer rung", 0, Reply, Yes),
    step("record seen", 0, Receive, Any),
    step("record copied", 0, Receive, Any),
    step("message read", 0, Receive, Any),
    step("in a listener", 0, Run("listener"), Any),
    step("dispatcher announced", 0, Receive, Any),
    step("dispatcher sleeps", 0, Receive, Any),
    step("dispatcher woken", 0, Receive, Any),
    step("first part copied", 0, ReceiveLarge, Any),
    step("further part copied", 0, ReceiveLarge, Any),
    step("further part copied", 5, ReceiveLarge, Any),
    step("room made", 0, MakeRoom, Any),
    step("closing", 0, Close, No),
    step("record committed", 0, Close, Yes),
    step("close sent", 0, Close, Yes),
    step("lane receiver sleeps", 0, Lane, Any),
];

/// Those that only a main goes through.
const MAINS_STEPS: &[Step] = &[step("lane made", 0, Lane, Any), step("lane sent", 0, Lane, Any)];

/// Those that only a renderer goes through.
const RENDERERS_STEPS: &[Step] = &[
    step("record reserved", 0, OpenFrame, No),
    step("record committed", 0, OpenFrame, Any),
    step("record committed", 0, CloseFrame, Any),
    step("lane taken", 0, Lane, Any),
    step("lane mapped", 0, Lane, Any),
];

/// The steps of a renderer that connects; whether main then sees a link that is open.
const RENDERERS_HANDSHAKE: &[&str] =
    &["welcome received", "region mapped", "before hello", "hello sent", "link watched"];

/// The steps of a main to which a renderer connects by name, and whether the renderer is connected then.
const MAINS_HANDSHAKE: &[(&str, bool)] = &[
    ("renderer accepted", false),
    ("region made", false),
    ("before welcome", false),
    ("welcome sent", true),
    ("hello received", true),
    ("pipe made", true),
    ("link opened", true),
];

/// The steps of a main that starts a renderer.
const MAINS_SPAWN: &[&str] = &["region made", "before welcome", "welcome sent", "renderer started"];

#[test]
fn there_is_a_kill_at_every_step_that_has_a_name() {
    let mut source = Vec::new();
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.ends_with("deaths_tests.rs") => {}
                false => source.push(std::fs::read_to_string(path).unwrap()),
            }
        }
    }
    let named: Vec<_> = source.iter().flat_map(|text| text.split("failpoint::reached(\"").skip(1)).collect();
    assert!(named.len() > 30);
    for rest in named {
        let (name, _) = rest.split_once('"').unwrap();
        let is_killed_at = STEPS.iter().any(|step| step.at == name)
            || MAINS_STEPS.iter().chain(RENDERERS_STEPS).any(|step| step.at == name)
            || RENDERERS_HANDSHAKE.contains(&name)
            || MAINS_HANDSHAKE.iter().any(|(at, _)| *at == name)
            || MAINS_SPAWN.contains(&name)
            || name == "connected to a name";
        assert!(is_killed_at, "nobody is killed at {name:?}");
    }
}

// ---- both ends ----------------------------------------------------------------------------------------------------

/// One end of a link, of either kind.
#[derive(Clone)]
enum End {
    Main(WebContents),
    Renderer(IpcRenderer),
}

impl End {
    fn send<A: crate::IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        match self {
            End::Main(end) => end.send(channel, args),
            End::Renderer(end) => end.send(channel, args),
        }
    }

    fn send_timeout<A: crate::IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        match self {
            End::Main(end) => end.send_timeout(channel, args, PATIENCE),
            End::Renderer(end) => end.send_timeout(channel, args, PATIENCE),
        }
    }

    fn flush(&self) -> Result<()> {
        match self {
            End::Main(end) => end.flush(PATIENCE),
            End::Renderer(end) => end.flush(PATIENCE),
        }
    }

    fn close(&self) -> Result<()> {
        match self {
            End::Main(end) => end.close(PATIENCE),
            End::Renderer(end) => end.close(PATIENCE),
        }
    }

    fn call(&self, channel: &str) -> crate::Invoke<String> {
        match self {
            // Longer than anybody waits for it.
            End::Main(end) => end.invoke(channel, (), 4 * PATIENCE),
            End::Renderer(end) => end.invoke(channel, ()),
        }
    }

    fn is_connected(&self) -> bool {
        match self {
            End::Main(end) => end.is_connected(),
            End::Renderer(end) => end.is_connected(),
        }
    }

    fn stats(&self) -> crate::Stats {
        match self {
            End::Main(end) => end.stats(),
            End::Renderer(end) => end.stats(),
        }
    }

    fn lane<E: crate::LaneEnd>(&self) -> Result<E> {
        let config = crate::LaneConfig::new().spin(Duration::ZERO).open_timeout(4 * PATIENCE);
        match self {
            End::Main(end) => end.lane("lane", &config),
            End::Renderer(end) => end.lane("lane", &config),
        }
    }

    /// Opens the receiving end of a lane, on which nothing comes, and waits there for the end of the link.
    fn receive_by_lane(&self) -> Result<()> {
        let mut receiver: LaneReceiver<u64> = self.lane()?;
        match receiver.recv_until(&mut 0, Instant::now() + 4 * PATIENCE) {
            Err(LaneError::Closed) => Ok(()),
            other => panic!("{other:?}"),
        }
    }

    /// Opens the sending end, and keeps it until the link has ended.
    fn send_by_lane(&self) -> Result<()> {
        let mut sender: LaneSender<u64> = self.lane()?;
        until("the lane is closed", || !sender.is_open());
        assert_eq!(sender.try_send(&0), Err(LaneError::Closed));
        Ok(())
    }
}

/// What comes to an end, in the order in which it comes.
#[derive(Debug, PartialEq)]
enum Told {
    Number(u32),
    Large(u32),
    Gone(GoneReason),
    /// By `on_error`.
    Error(String),
}

const LARGE: usize = 1 << 20;

fn large(number: u32) -> String {
    let letter = char::from(b'a' + (number % 26) as u8);
    std::iter::repeat_n(letter, LARGE).collect()
}

fn text(number: u32) -> String {
    format!("number {number}").repeat(20)
}

/// Arms the step at which a reply is to stop.
static REPLY: Mutex<Option<Box<dyn FnOnce() + std::marker::Send>>> = Mutex::new(None);

/// What both ends listen to and answer.
macro_rules! register {
    ($handle:expr, $told:expr) => {{
        let (handle, told) = ($handle, $told);
        let tell: Sender<Told> = told.clone();
        handle.on("number", move |_event, (number, found): (u32, String)| {
            assert_eq!(found, text(number));
            tell.send(Told::Number(number))
        });
        let tell: Sender<Told> = told.clone();
        handle.on("large", move |_event, (number, found): (u32, String)| {
            assert!(found == large(number), "large message {number} is another one");
            tell.send(Told::Large(number))
        });
        handle.on("listener", |_event, ()| failpoint::reached("in a listener"));
        handle
            .handle("handler", |_event, ()| {
                failpoint::reached("in a handler");
                Ok("handled")
            })
            .unwrap();
        handle
            .handle("answer", |_event, ()| {
                let arm = REPLY.lock().unwrap().take();
                arm.into_iter().for_each(|arm| arm());
                Ok("answered")
            })
            .unwrap();
        handle
            .handle_async("never", |_event, ()| async {
                std::future::pending::<()>().await;
                Ok("never")
            })
            .unwrap();
    }};
}

// ---- the victim ---------------------------------------------------------------------------------------------------

/// The act that the environment names, for which both ends know the same table.
fn the_step() -> &'static Step {
    let index: usize = env("TEST_STEP").parse().unwrap();
    STEPS.iter().chain(RENDERERS_STEPS).chain(MAINS_STEPS).nth(index).unwrap()
}

struct StopsWhenSerialized;

impl serde::Serialize for StopsWhenSerialized {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        failpoint::reached("in a Serialize");
        to.serialize_unit()
    }
}

/// Goes to the step and stays there; whoever has started us kills us.
fn be_killed(end: End) {
    if std::env::var("TEST_SERVES").is_ok() {
        return serve_until_killed(&end);
    }
    let step = the_step();
    assert_eq!(line(), "begin");
    for number in 0..SENT {
        end.send("number", (number, text(number))).unwrap();
    }
    // Held by the survivor when we die.
    let _held: Vec<_> = (0..3).map(|_| end.call("never")).collect();
    let frame = match (&end, step.act) {
        (End::Renderer(end), CloseFrame) => Some(end.frame().unwrap()),
        _ => None,
    };
    println!("ready");
    assert_eq!(line(), "go");
    let arm = || failpoint::arm(step.at, step.passes);
    match step.act {
        Reply => *REPLY.lock().unwrap() = Some(Box::new(arm)),
        _ => arm(),
    }
    println!("armed");
    match step.act {
        Send => end.send("number", (SENT, text(SENT))).unwrap(),
        // Long before the last one the step is reached.
        SendLarge => (0..1000).for_each(|number| end.send_timeout("large", (number, large(number))).unwrap()),
        Call => drop(end.call("never").wait()),
        CallAndGet => (0..1000).for_each(|_| drop(end.call("answer").wait().unwrap())),
        CallTwice => {
            let other = end.clone();
            std::thread::spawn(move || other.call("never").wait());
            drop(end.call("never").wait());
        }
        OpenFrame => {
            let End::Renderer(end) = &end else { panic!("a main has no frames") };
            drop(end.frame());
        }
        CloseFrame => frame.unwrap().close(PATIENCE).unwrap(),
        Close => end.close().unwrap(),
        Serialize => end.send("number", (SENT, StopsWhenSerialized)).unwrap(),
        Lane => end.receive_by_lane().unwrap(),
        Reply | Receive | ReceiveLarge | MakeRoom | Run(_) => {}
    }
    // Not before we are killed: nobody writes this line.
    line();
}

/// Does what brings the other end to its steps.
fn serve_until_killed(end: &End) {
    println!("ready");
    loop {
        let asked = line();
        let call = |channel: &'static str| {
            let end = end.clone();
            std::thread::spawn(move || end.call(channel).wait());
        };
        match asked.as_str() {
            "receive" => end.send("number", (0, text(0))).unwrap(),
            "receive large" => (0..8).for_each(|number| end.send("large", (number, large(number))).unwrap()),
            "listener" => end.send("listener", ()).unwrap(),
            "handler" => call("handler"),
            "reply" => call("answer"),
            "lane" => {
                let end = end.clone();
                std::thread::spawn(move || end.send_by_lane());
            }
            _ => return,
        }
    }
}

fn renderer_that_is_killed() {
    let (told, _tells) = channel();
    let ipc_renderer = IpcRenderer::builder().wait(Wait::Park).connect().unwrap();
    register!(&ipc_renderer, &told);
    be_killed(End::Renderer(ipc_renderer));
}

fn main_that_is_killed() {
    let (told, _tells) = channel();
    let (connected, connects) = channel();
    let ipc_main = builder().wait(Wait::Park).runtime_dir(env("TEST_DIRECTORY")).build().unwrap();
    register!(&ipc_main, &told);
    ipc_main.on_renderer_connected(move |web_contents| connected.send(web_contents.clone()).unwrap());
    if let Ok(at) = std::env::var("TEST_AT") {
        failpoint::arm(&at, 0);
    }
    ipc_main.listen("main").unwrap();
    println!("listening");
    let web_contents = next(&connects, "the renderer");
    be_killed(End::Main(web_contents));
}

// ---- the survivor -------------------------------------------------------------------------------------------------

/// A victim's process as the survivor holds it.
struct Victim {
    stdin: ChildStdin,
    stdout: Option<BufReader<ChildStdout>>,
    pid: u32,
}

impl Victim {
    fn until_it_says(&mut self, line: &str) {
        self.stdout = self.stdout.take().map(|stdout| until_said(stdout, line));
    }

    /// Which of these lines it says first.
    fn until_it_says_one_of<'a>(&mut self, lines: &[&'a str]) -> &'a str {
        let (stdout, line) = until_said_one_of(self.stdout.take().expect("a pipe"), lines);
        self.stdout = Some(stdout);
        line
    }

    fn say(&mut self, line: &str) {
        say(&mut self.stdin, line);
    }
}

type Waiting<T> = (&'static str, JoinHandle<Result<T>>);

/// Threads that wait for the victim: two that block, one of which reads for both, and a future.
fn wait_for_answers(end: &End) -> Vec<Waiting<String>> {
    let (begun, begins) = channel();
    let wait = |what: &'static str, wait: fn(crate::Invoke<String>) -> Result<String>| {
        let (end, begun) = (end.clone(), begun.clone());
        let thread = std::thread::spawn(move || {
            let call = end.call("never");
            begun.send(()).unwrap();
            wait(call)
        });
        (what, thread)
    };
    let waits = vec![
        wait("a call", |call| call.wait()),
        wait("another call", |call| call.wait()),
        wait("a future", futures::executor::block_on),
    ];
    for _ in &waits {
        next(&begins, "a call");
    }
    waits
}

/// Threads that wait for room, behind large messages of which a part is in the ring: only begun, because what the victim
/// still reads decides how they end.
fn wait_for_room(end: &End) -> Vec<Waiting<()>> {
    for number in 0..4 {
        // Gone already where the victim has closed.
        let _ = end.send("large", (number, large(number)));
    }
    let (sends, flushes) = (end.clone(), end.clone());
    vec![
        ("send_timeout", std::thread::spawn(move || sends.send_timeout("large", (4, large(4))))),
        ("flush", std::thread::spawn(move || flushes.flush())),
    ]
}

fn ended<T: std::marker::Send + 'static>(what: &'static str, thread: JoinHandle<Result<T>>) -> Result<T> {
    bounded(what, move || thread.join().unwrap())
}

fn is_disconnected<T: std::fmt::Debug>(context: &str, result: Result<T>) {
    match result {
        Err(error) if error.kind() == ErrorKind::Disconnected => {}
        other => panic!("{context}: {other:?}"),
    }
}

/// Brings a victim that is ready to its step, kills it there, and looks at all that the survivor's end shows of it.
fn kill_at(step: &Step, end: &End, mut victim: Victim, kill: impl FnOnce(), told: &Receiver<Told>) -> GoneReason {
    let context = format!("{:?}, stopped at {:?} after {}", step.act, step.at, step.passes);
    victim.say("begin");
    victim.until_it_says("ready");
    for number in 0..SENT {
        assert_eq!(next(told, "a number"), Told::Number(number));
    }
    let answers = wait_for_answers(end);
    // All calls are read, so that it is the act that brings it to its step.
    until_asleep(victim.pid);
    victim.say("go");
    let at = format!("at {}", step.at);
    // One that was about to sleep is listed as asleep already: then a call may have brought it there, even before it says that
    // it is armed.
    let is_there = victim.until_it_says_one_of(&["armed", &at]) == at;
    if is_there {
        victim.until_it_says("armed");
    }
    let (mut asked, mut lane) = (None, None);
    let ask = |channel: &'static str| {
        let end = end.clone();
        Some((channel, std::thread::spawn(move || end.call(channel).wait())))
    };
    if step.at.ends_with("woken") {
        // Whoever still spins takes what comes without being woken, and then sleeps for good.
        until_asleep(victim.pid);
    }
    match step.act {
        Receive => end.send("number", (0, text(0))).unwrap(),
        ReceiveLarge | MakeRoom => (0..8).for_each(|number| end.send("large", (number, large(number))).unwrap()),
        Run("handler") => asked = ask("handler"),
        Run(listener) => end.send(listener, ()).unwrap(),
        Reply => asked = ask("answer"),
        Lane => {
            let end = end.clone();
            lane = Some(("the lane", std::thread::spawn(move || end.send_by_lane())));
        }
        _ => {}
    }
    if !is_there {
        victim.until_it_says(&at);
    }
    if step.at.ends_with("sleeps") {
        until_asleep(victim.pid);
    }
    let room = wait_for_room(end);
    kill();

    let (mut number, mut larges) = (SENT, 0);
    let reason = loop {
        match next(told, "a message or the end") {
            Told::Number(found) => {
                assert_eq!(found, number, "{context}");
                number += 1;
            }
            Told::Large(found) => {
                assert_eq!(found, larges, "{context}");
                larges += 1;
            }
            Told::Gone(reason) => break reason,
            Told::Error(text) => panic!("{context}: {text}"),
        }
    };
    match step.act {
        Send => assert_eq!(number, SENT + u32::from(step.arrives == Yes), "{context}"),
        SendLarge if step.arrives == No => assert_eq!(larges, 0, "{context}"),
        _ => assert_eq!(number, SENT, "{context}"),
    }
    for (what, thread) in answers {
        is_disconnected(&format!("{context}: {what}"), ended(what, thread));
    }
    for (what, thread) in room {
        match ended(what, thread) {
            Ok(()) => {}
            error => is_disconnected(&format!("{context}: {what}"), error),
        }
    }
    if let Some((what, thread)) = asked {
        match step.arrives {
            Yes => assert_eq!(ended(what, thread).expect(&context), "answered"),
            _ => is_disconnected(&format!("{context}: {what}"), ended(what, thread)),
        }
    }
    if let Some((what, thread)) = lane {
        match ended(what, thread) {
            Ok(()) => {}
            error => is_disconnected(&format!("{context}: {what}"), error),
        }
    }
    is_disconnected(&context, end.call("answer").wait());
    is_disconnected(&context, end.send("number", (0, text(0))));
    is_disconnected(&context, end.send_timeout("number", (0, text(0))));
    is_disconnected(&context, end.flush());
    end.close().unwrap();
    until(&format!("{context}: nothing waits any more"), || {
        let stats = end.stats();
        (stats.pending_calls, stats.open_requests, stats.queued_bytes) == (0, 0, 0)
    });
    reason
}

/// What the survivor is told of a victim that was killed, which may have said that it closes.
fn check_reason(step: &Step, reason: &GoneReason, killed: &GoneReason) {
    let expected = if step.act == Close && step.arrives == Yes { &GoneReason::Closed } else { killed };
    assert_eq!(reason, expected, "{:?}, stopped at {:?}", step.act, step.at);
}

fn with_step(role: &str, index: usize) -> Command {
    let mut command = child(role);
    command.env("TEST_STEP", index.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn victim_of(child: &Child) -> Victim {
    let process = child.process();
    let (stdin, stdout) = (process.take_stdin().unwrap(), process.take_stdout().unwrap());
    Victim { stdin, stdout: Some(BufReader::new(stdout)), pid: process.id() }
}

const KILLED: GoneReason = GoneReason::Killed { signal: 9 };
const ENDED: GoneReason = GoneReason::Exited { code: None };

/// One main outlives them all, and serves somebody else all the time.
fn main_of_killed_renderers() {
    let (tell, told) = channel();
    let ipc_main = builder().build().unwrap();
    register!(&ipc_main, &tell);
    let count = Arc::new(AtomicU32::new(0));
    let counts = count.clone();
    ipc_main.on_renderer_gone(move |_, reason| {
        counts.fetch_add(1, Ordering::Relaxed);
        tell.send(Told::Gone(reason.clone())).unwrap();
    });
    let bystander = ipc_main.attach().unwrap();
    let mut before = None;
    let steps = STEPS.iter().chain(RENDERERS_STEPS).enumerate();
    // What the first one makes for good, the first thread's buffers for one, is no part of what is compared.
    for (index, step) in steps.clone().take(1).chain(steps) {
        let victim = Child(ipc_main.spawn(with_step("renderer that is killed", index)).unwrap());
        let end = End::Main(victim.0.clone());
        let reason = kill_at(step, &end, victim_of(&victim), || victim.process().kill().unwrap(), &told);
        check_reason(step, &reason, &KILLED);
        until("it is reaped", || victim.process().exit_status().is_some());
        drop((victim, end));
        assert_eq!(bystander.invoke::<String>("answer", ()).timeout(PATIENCE).wait().unwrap(), "answered");
        assert_eq!(ipc_main.all_web_contents().len(), 1);
        let budget = &ipc_main.engine().budget;
        until("the process's budget is given back", || budget.used() == 0);
        match &before {
            None => before = Some(settled_held()),
            Some(before) => until_held(before, &format!("{:?}, stopped at {:?}", step.act, step.at)),
        }
    }
    drop(bystander);
    let links = STEPS.len() + RENDERERS_STEPS.len() + 2;
    until("each end is told", || count.load(Ordering::Relaxed) as usize == links);
    ipc_main.shutdown();
    assert_eq!(count.load(Ordering::Relaxed) as usize, links, "an end was told twice");
}

fn connect(directory: &TempDir) -> Result<IpcRenderer> {
    IpcRenderer::builder().runtime_dir(directory.to_path_buf()).connect_to("main")
}

fn main_program(directory: &TempDir, role: &str, index: usize) -> Program {
    let mut command = with_step(role, index);
    command.env("TEST_DIRECTORY", &**directory);
    Program::start(command)
}

/// What a renderer is told, and the main that is killed under it.
fn told_by(ipc_renderer: &IpcRenderer, program: &mut Program) -> (Receiver<Told>, Victim) {
    let (tell, told) = channel();
    register!(ipc_renderer, &tell);
    ipc_renderer.on_disconnected(move |reason| tell.send(Told::Gone(reason.clone())).unwrap());
    let (stdin, stdout, pid) = (program.child.stdin.take().unwrap(), program.take_output(), program.id());
    (told, Victim { stdin, stdout: Some(stdout), pid })
}

/// Each main takes over the name of the one that was killed before it.
fn renderer_of_killed_mains() {
    let directory = TempDir::new();
    let mut before = None;
    let steps = STEPS.iter().enumerate();
    let mains_own = (STEPS.len() + RENDERERS_STEPS.len()..).zip(MAINS_STEPS);
    let steps = steps.chain(mains_own);
    for (index, step) in steps.clone().take(1).chain(steps) {
        let mut program = main_program(&directory, "main that is killed", index);
        program.until_it_says("listening");
        let ipc_renderer = connect(&directory).unwrap();
        let (told, victim) = told_by(&ipc_renderer, &mut program);
        let pid = victim.pid;
        let end = End::Renderer(ipc_renderer.clone());
        let reason = kill_at(step, &end, victim, || program.child.kill().unwrap(), &told);
        check_reason(step, &reason, &ENDED);
        program.ended(PATIENCE);
        assert_eq!(shared_memory_of(pid), [""; 0]);
        drop((ipc_renderer, end));
        if let Ok(told) = told.recv_timeout(std::time::Duration::ZERO) {
            panic!("{told:?} came behind the end");
        }
        drop((program, told));
        assert_eq!(directory.names(), ["main.lock", "main.sock"]);
        match &before {
            None => before = Some(settled_held()),
            Some(before) => until_held(before, &format!("{:?}, stopped at {:?}", step.act, step.at)),
        }
    }
    takes_over(&directory);
}

/// The next main under a name that a kill has left serves, and leaves nothing.
fn takes_over(directory: &TempDir) {
    let (told, _tells) = channel();
    let heir = builder().runtime_dir(directory.to_path_buf()).build().unwrap();
    register!(&heir, &told);
    heir.listen("main").unwrap();
    let ipc_renderer = connect(directory).unwrap();
    assert_eq!(ipc_renderer.invoke::<String>("answer", ()).timeout(PATIENCE).wait().unwrap(), "answered");
    drop((ipc_renderer, heir));
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn a_renderer_killed_at_any_step_costs_main_nothing_over_sealed_memory() {
    alone_on(Backing::Sealed, "main of renderers that are killed");
}

#[test]
fn a_renderer_killed_at_any_step_costs_main_nothing_over_named_memory() {
    alone_on(Backing::Named, "main of renderers that are killed");
}

#[test]
fn a_main_killed_at_any_step_is_learnt_by_its_renderer_over_sealed_memory() {
    alone_on(Backing::Sealed, "renderer of mains that are killed");
}

#[test]
fn a_main_killed_at_any_step_is_learnt_by_its_renderer_over_named_memory() {
    alone_on(Backing::Named, "renderer of mains that are killed");
}

// ---- a survivor that stands at a step -----------------------------------------------------------------------------

fn until_it_fails(mut act: impl FnMut(u32) -> Result<()>) -> Error {
    (0..).find_map(|number| act(number).err()).unwrap()
}

/// Brings this end to a step, kills its peer meanwhile, and lets it go on: it returns, and learns the end.
fn stand_at(step: &Step, end: &End, mut victim: Victim, kill: impl FnOnce(), told: &Receiver<Told>) -> GoneReason {
    let context = format!("{:?}, its peer killed while it stands at {:?} after {}", step.act, step.at, step.passes);
    victim.until_it_says("ready");
    // It may say so before the thread that watches has opened our end.
    until(&format!("{context}: it is connected here too"), || end.is_connected());
    // Nobody polls them: that would be a step too.
    let held: Vec<_> = (0..3).map(|_| end.call("never")).collect();
    let frame = match (end, step.act) {
        (End::Renderer(end), CloseFrame) => Some(end.frame().unwrap()),
        _ => None,
    };
    let gate = Gate::default();
    if step.at.ends_with("sleeps") {
        gate.open(); // it goes on, to sleep
    }
    let (at, passes, holds) = (step.at, step.passes, gate.clone());
    let hold = move || failpoint::hold(at, passes, move || holds.wait());
    match step.act {
        Reply => *REPLY.lock().unwrap() = Some(Box::new(hold)),
        _ => hold(),
    }
    let (act, acts) = (step.act, end.clone());
    let does = move || -> Result<()> {
        let end = acts;
        match act {
            Send => end.send("number", (0, text(0))),
            SendLarge => Err(until_it_fails(|number| end.send_timeout("large", (number, large(number))))),
            Call => end.call("never").wait().map(drop),
            CallAndGet => Err(until_it_fails(|_| end.call("answer").wait().map(drop))),
            CallTwice => {
                let other = end.clone();
                let other = std::thread::spawn(move || other.call("never").wait().map(drop));
                let error = end.call("never").wait().unwrap_err();
                is_disconnected("the other one", other.join().unwrap());
                Err(error)
            }
            OpenFrame => match &end {
                End::Renderer(end) => end.frame().map(drop),
                End::Main(_) => panic!("a main has no frames"),
            },
            CloseFrame => frame.unwrap().close(PATIENCE),
            Close => end.close(),
            Serialize => end.send("number", (0, StopsWhenSerialized)),
            Lane => end.receive_by_lane(),
            Reply | Receive | ReceiveLarge | MakeRoom | Run(_) => Ok(()),
        }
    };
    let does = std::thread::spawn(does);
    match act {
        Receive => victim.say("receive"),
        ReceiveLarge | MakeRoom => victim.say("receive large"),
        Run(what) => victim.say(what),
        Reply => victim.say("reply"),
        Lane => victim.say("lane"),
        // Whoever still spins takes what comes without being woken.
        _ => {}
    }
    let mut received = 1;
    if act == Receive {
        // Whoever was awake still has taken it without being woken: another one, until one finds it asleep.
        while !gate.is_reached_within(std::time::Duration::from_millis(200)) {
            received += 1;
            assert!(received < 150, "{context}: it is not reached");
            victim.say("receive");
        }
    }
    gate.reached();
    // Others come upon what it holds, if it holds anything.
    let others: Vec<_> = (0..2)
        .map(|_| {
            let end = end.clone();
            std::thread::spawn(move || end.call("never").wait())
        })
        .collect();
    kill();
    if act != Close {
        // Whatever it holds is no hindrance. Who closes does that in one step with the session.
        until(&format!("{context}: the end is noticed"), || !end.is_connected());
    }
    gate.open();

    let (mut numbers, mut larges) = (0, 0);
    let reason = loop {
        match next(told, &context) {
            Told::Number(_) => numbers += 1,
            Told::Large(found) => {
                assert_eq!(found, larges, "{context}");
                larges += 1;
            }
            Told::Gone(reason) => break reason,
            Told::Error(text) => panic!("{context}: {text}"),
        }
    };
    assert!(numbers <= received * u32::from(act == Receive), "{context}: {numbers} numbers");
    let result = ended("what it did", does);
    match act {
        SendLarge | Call | CallAndGet | CallTwice | Serialize => is_disconnected(&context, result),
        _ => result.or_else(|error| if error.kind() == ErrorKind::Disconnected { Ok(()) } else { Err(error) }).unwrap(),
    }
    for call in held {
        is_disconnected(&context, call.wait());
    }
    for thread in others {
        is_disconnected(&context, ended("another call", thread));
    }
    is_disconnected(&context, end.send("number", (0, text(0))));
    end.close().unwrap();
    until("nothing waits any more", || {
        let stats = end.stats();
        (stats.pending_calls, stats.open_requests, stats.queued_bytes) == (0, 0, 0)
    });
    reason
}

/// As [`check_reason`]; who closes may have been faster.
fn check_reason_of_survivor(step: &Step, reason: &GoneReason, killed: &GoneReason) {
    let is_expected = reason == killed || (step.act == Close && *reason == GoneReason::Closed);
    assert!(is_expected, "{:?}, stands at {:?}: {reason:?}", step.act, step.at);
}

fn main_that_stands_at_each_step() {
    let directory = TempDir::new();
    let (tell, told) = channel();
    let ipc_main = builder().wait(Wait::Park).runtime_dir(&*directory).build().unwrap();
    register!(&ipc_main, &tell);
    let error = tell.clone();
    ipc_main.on_error(move |report| error.send(Told::Error(report.error.to_string())).unwrap());
    ipc_main.on_renderer_gone(move |_, reason| tell.send(Told::Gone(reason.clone())).unwrap());
    ipc_main.listen("main").unwrap();
    let mut before = None;
    for step in STEPS.iter().take(1).chain(STEPS).chain(MAINS_STEPS) {
        let mut command = with_step("renderer that is killed", 0);
        command.env("TEST_SERVES", "1");
        let victim = Child(ipc_main.spawn(command).unwrap());
        let end = End::Main(victim.0.clone());
        let reason = stand_at(step, &end, victim_of(&victim), || victim.process().kill().unwrap(), &told);
        check_reason_of_survivor(step, &reason, &KILLED);
        until("it is reaped", || victim.process().exit_status().is_some());
        drop((victim, end));
        until("the process's budget is given back", || ipc_main.engine().budget.used() == 0);
        match &before {
            None => before = Some(settled_held()),
            Some(before) => until_held(before, &format!("{:?}, stands at {:?}", step.act, step.at)),
        }
    }
    for (at, _) in MAINS_HANDSHAKE {
        let gate = Gate::default();
        let holds = gate.clone();
        failpoint::hold(at, 0, move || holds.wait());
        let mut command = child("renderer that is killed while it connects");
        command.env("TEST_AT", "link watched").env("TEST_DIRECTORY", &*directory);
        let mut program = Program::start(command);
        gate.reached();
        program.kill();
        gate.open();
        match next(&told, at) {
            Told::Gone(GoneReason::NeverConnected(_) | GoneReason::Closed | GoneReason::Exited { code: None }) => {}
            // Dead before it is greeted.
            Told::Error(text) if text.contains("cannot greet the renderer") => {}
            other => panic!("{at}: {other:?}"),
        }
        drop(program);
        until("nobody is there", || ipc_main.all_web_contents().is_empty());
        until_held(before.as_ref().unwrap(), at);
    }
    // Of its steps while it spawns, the one at which there is somebody to kill.
    let at = "renderer started";
    failpoint::hold(at, 0, until_a_child_is_dead);
    let victim = Child(ipc_main.spawn(child("renderer that kills itself")).unwrap());
    assert_eq!(next(&told, at), Told::Gone(KILLED));
    until("it is reaped", || victim.process().exit_status().is_some());
    is_disconnected(at, victim.0.send("number", (0, text(0))));
    drop(victim);
    until("nobody is there", || ipc_main.all_web_contents().is_empty());
    until_held(before.as_ref().unwrap(), at);
    drop(ipc_main);
    assert_eq!(directory.names(), [""; 0]);
}

/// Waits for the end of any child and leaves its status to whoever reaps it.
fn until_a_child_is_dead() {
    let ended = rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    assert!(ended.unwrap().is_some());
}

fn renderer_that_kills_itself() {
    support::signal(std::process::id(), Signal::KILL);
}

fn renderer_that_stands_at_each_step() {
    let directory = TempDir::new();
    let mut before = None;
    let start = |role| {
        let mut command = with_step(role, 0);
        command.env("TEST_DIRECTORY", &*directory).env("TEST_SERVES", "1");
        let mut program = Program::start(command);
        program.until_it_says("listening");
        program
    };
    for step in STEPS.iter().take(1).chain(STEPS).chain(RENDERERS_STEPS) {
        let mut program = start("main that is killed");
        let ipc_renderer = IpcRenderer::builder().wait(Wait::Park).runtime_dir(directory.to_path_buf());
        let ipc_renderer = ipc_renderer.connect_to("main").unwrap();
        let (told, victim) = told_by(&ipc_renderer, &mut program);
        let end = End::Renderer(ipc_renderer.clone());
        let reason = stand_at(step, &end, victim, || program.child.kill().unwrap(), &told);
        check_reason_of_survivor(step, &reason, &ENDED);
        program.ended(PATIENCE);
        drop((ipc_renderer, end, program, told));
        match &before {
            None => before = Some(settled_held()),
            Some(before) => until_held(before, &format!("{:?}, stands at {:?}", step.act, step.at)),
        }
    }
    for at in RENDERERS_HANDSHAKE.iter().chain(&["connected to a name"]) {
        let mut program = start("main that is killed");
        let gate = Gate::default();
        let holds = gate.clone();
        failpoint::hold(at, 0, move || holds.wait());
        let path = directory.to_path_buf();
        let connecting = std::thread::spawn(move || IpcRenderer::builder().runtime_dir(path).connect_to("main"));
        gate.reached();
        program.kill();
        gate.open();
        match ended("connecting", connecting) {
            Ok(ipc_renderer) => {
                is_disconnected(at, ipc_renderer.invoke::<()>("never", ()).wait());
                support::until_disconnected(&ipc_renderer);
            }
            Err(error) => {
                let kinds = [ErrorKind::Refused, ErrorKind::Disconnected];
                assert!(kinds.contains(&error.kind()), "{at}: {error}");
            }
        }
        drop(program);
        until_held(before.as_ref().unwrap(), at);
    }
}

#[test]
fn a_main_that_stands_at_any_step_while_its_renderer_is_killed_goes_on_and_keeps_nothing() {
    alone_on(Backing::Sealed, "main that stands at each step");
}

#[test]
fn a_renderer_that_stands_at_any_step_while_its_main_is_killed_goes_on_and_keeps_nothing() {
    alone_on(Backing::Sealed, "renderer that stands at each step");
}

// ---- a moment without room in the kernel -----------------------------------------------------------------------------

/// `epoll_ctl` needs memory, and may be refused it at the very moment at which a main that had no descriptors looks at its
/// listening sockets again.
#[test]
fn a_listening_socket_that_cannot_be_watched_again_is_tried_again() {
    let directory = TempDir::new();
    let (told, _tells) = channel();
    let ipc_main = builder().runtime_dir(directory.to_path_buf()).build().unwrap();
    register!(&ipc_main, &told);
    ipc_main.listen("main").unwrap();
    ipc_main.listen("other").unwrap();
    let engine = ipc_main.engine().clone();
    assert!(engine.watch.rest(true));
    let refused = engine.clone();
    let all = std::thread::spawn(move || {
        refuse(&[Refused { call: libc::SYS_epoll_ctl, with: None }], libc::ENOMEM);
        refused.watch.end_rest().is_some()
    });
    assert!(all.join().unwrap(), "nobody tries again");
    assert_eq!(engine.watch.end_rest(), None);
    // One that is watched already is no reason to try once more.
    assert_eq!(engine.watch.end_rest(), None);
    let ipc_renderer = connect(&directory).unwrap();
    assert_eq!(ipc_renderer.invoke::<String>("answer", ()).timeout(PATIENCE).wait().unwrap(), "answered");
}

// ---- the handshake ------------------------------------------------------------------------------------------------

fn renderer_killed_while_it_connects() {
    failpoint::arm(&env("TEST_AT"), 0);
    let never = |_event, ()| async {
        std::future::pending::<()>().await;
        Ok(())
    };
    let builder = IpcRenderer::builder().handle_async("never", never);
    let result = match std::env::var("TEST_DIRECTORY") {
        Ok(directory) => builder.runtime_dir(directory).connect_to("main"),
        Err(_) => builder.connect(),
    };
    panic!("it was not stopped: {result:?}");
}

fn main_of_renderers_killed_while_they_connect() {
    let directory = TempDir::new();
    let (tell, told) = channel();
    let ipc_main = builder().runtime_dir(&*directory).build().unwrap();
    register!(&ipc_main, &tell);
    ipc_main.on_renderer_gone(move |_, reason| match reason {
        GoneReason::Closed => {} // an honest one
        reason => tell.send(Told::Gone(reason.clone())).unwrap(),
    });
    // A renderer that is dead before it is greeted is an error of its own.
    let (error, errors) = channel();
    ipc_main.on_error(move |report| error.send(report.error.to_string()).unwrap());
    ipc_main.listen("main").unwrap();
    let bystander = ipc_main.attach().unwrap();
    let mut before = None;
    for at in RENDERERS_HANDSHAKE.iter().take(1).chain(RENDERERS_HANDSHAKE) {
        // One that main has started: what main sent early waits for it.
        let mut command = child("renderer that is killed while it connects");
        command.env("TEST_AT", at).stdin(Stdio::piped()).stdout(Stdio::piped());
        let victim = Child(ipc_main.spawn(command).unwrap());
        let end = End::Main(victim.0.clone());
        for number in 0..3 {
            end.send("large", (number, large(number))).unwrap();
        }
        let (answers, room) = (wait_for_answers(&end), wait_for_room(&end));
        let mut process = victim_of(&victim);
        process.until_it_says(&format!("at {at}"));
        victim.process().kill().unwrap();
        assert_eq!(next(&told, "its end"), Told::Gone(KILLED), "{at}");
        for (what, thread) in answers {
            is_disconnected(&format!("{at}: {what}"), ended(what, thread));
        }
        for (what, thread) in room {
            match ended(what, thread) {
                Ok(()) => {}
                error => is_disconnected(&format!("{at}: {what}"), error),
            }
        }
        until("it is reaped", || victim.process().exit_status().is_some());
        drop((victim, end, process));

        // One that connects by name: main sees its end by the hang-up or by the process, whichever comes first.
        let mut command = child("renderer that is killed while it connects");
        command.env("TEST_AT", at).env("TEST_DIRECTORY", &*directory);
        let mut program = Program::start(command);
        program.until_it_says(&format!("at {at}"));
        program.kill();
        let Told::Gone(reason) = next(&told, "its end") else { panic!("{at}: a message came") };
        assert!(
            matches!(reason, GoneReason::NeverConnected(_) | GoneReason::Exited { code: None }),
            "{at}: {reason:?}"
        );
        drop(program);
        until_calm(&ipc_main, &bystander, &directory);
        match &before {
            None => before = Some(settled_held()),
            Some(before) => until_held(before, at),
        }
    }
    // One that has connected, and may or may not be greeted before it is killed.
    for _ in 0..5 {
        let mut command = child("renderer that is killed while it connects");
        command.env("TEST_AT", "connected to a name").env("TEST_DIRECTORY", &*directory);
        let mut program = Program::start(command);
        program.until_it_says("at connected to a name");
        program.kill();
        drop(program);
        until_calm(&ipc_main, &bystander, &directory);
        until_held(before.as_ref().unwrap(), "connected to a name");
    }
    while let Ok(Told::Gone(reason)) = told.try_recv() {
        assert!(matches!(reason, GoneReason::NeverConnected(_) | GoneReason::Exited { code: None }), "{reason:?}");
    }
    while let Ok(text) = errors.try_recv() {
        assert!(text.contains("cannot greet the renderer"), "{text}");
    }
}

/// Main is as if nobody had been killed: it has the bystander alone, and takes an honest renderer.
fn until_calm(ipc_main: &IpcMain, bystander: &IpcRenderer, directory: &TempDir) {
    assert_eq!(bystander.invoke::<String>("answer", ()).timeout(PATIENCE).wait().unwrap(), "answered");
    let honest = connect(directory).unwrap();
    assert_eq!(honest.invoke::<String>("answer", ()).timeout(PATIENCE).wait().unwrap(), "answered");
    let id = honest.id();
    drop(honest);
    until("the honest one has left, and nobody else is there", || {
        ipc_main.web_contents(id).is_none() && ipc_main.all_web_contents().len() == 1
    });
    until("the process's budget is given back", || ipc_main.engine().budget.used() == 0);
}

fn renderer_of_mains_killed_while_it_connects() {
    let directory = TempDir::new();
    let mut before = None;
    for (at, connects) in MAINS_HANDSHAKE.iter().take(1).chain(MAINS_HANDSHAKE) {
        let mut command = with_step("main that is killed", 0);
        command.env("TEST_DIRECTORY", &*directory).env("TEST_AT", at);
        let mut program = Program::start(command);
        program.until_it_says("listening");
        let path = directory.to_path_buf();
        let connecting = std::thread::spawn(move || IpcRenderer::builder().runtime_dir(path).connect_to("main"));
        if *connects {
            let ipc_renderer = ended("connecting", connecting).unwrap();
            let (tell, told) = channel();
            register!(&ipc_renderer, &tell);
            ipc_renderer.on_disconnected(move |reason| tell.send(Told::Gone(reason.clone())).unwrap());
            let end = End::Renderer(ipc_renderer.clone());
            let (answers, room) = (wait_for_answers(&end), wait_for_room(&end));
            program.until_it_says(&format!("at {at}"));
            program.kill();
            assert_eq!(next(&told, "its end"), Told::Gone(ENDED), "{at}");
            for (what, thread) in answers {
                is_disconnected(&format!("{at}: {what}"), ended(what, thread));
            }
            for (what, thread) in room {
                match ended(what, thread) {
                    Ok(()) if what == "send_timeout" => {} // taken by the queue before the end
                    error => is_disconnected(&format!("{at}: {what}"), error),
                }
            }
            is_disconnected(at, end.call("answer").wait());
        } else {
            program.until_it_says(&format!("at {at}"));
            program.kill();
            let error = ended("connecting", connecting).unwrap_err();
            // Whether main has refused us or is dead cannot be told apart.
            assert!([ErrorKind::Refused, ErrorKind::Disconnected].contains(&error.kind()), "{at}: {error}");
            assert!(error.to_string().contains("hung up"), "{at}: {error}");
        }
        let pid = program.id();
        drop(program);
        nothing_is_left_by(pid);
        assert_eq!(directory.names(), ["main.lock", "main.sock"]);
        match &before {
            None => before = Some(settled_held()),
            Some(before) => until_held(before, at),
        }
    }
    takes_over(&directory);
}

fn main_that_sweeps() {
    drop(support::ipc_main());
}

/// What a main that was killed has left in /dev/shm, if anything, goes with the next main.
fn nothing_is_left_by(pid: u32) {
    if shared_memory_of(pid).is_empty() {
        return;
    }
    assert_eq!(support::backing(), Backing::Named);
    assert!(Program::start(child("main that sweeps")).ended(PATIENCE).success());
    assert_eq!(shared_memory_of(pid), [""; 0]);
}

fn main_killed_while_it_spawns() {
    let ipc_main = builder().build().unwrap();
    failpoint::arm(&env("TEST_AT"), 0);
    let mut renderer = child("renderer of a main that is killed while it spawns");
    renderer.stdin(Stdio::null());
    let result = ipc_main.spawn(renderer);
    panic!("it was not stopped: {result:?}");
}

/// Its standard output is main's: the end of that is the end of both.
fn renderer_of_a_main_killed_while_it_spawns() {
    match IpcRenderer::connect() {
        Ok(ipc_renderer) => {
            let error: Error = ipc_renderer.invoke::<()>("never", ()).wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected);
            support::until_disconnected(&ipc_renderer);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}"),
    }
    println!("the renderer ends well");
}

fn survivor_of_mains_killed_while_they_spawn() {
    for at in MAINS_SPAWN {
        let mut command = child("main that is killed while it spawns");
        command.env("TEST_AT", at);
        let mut program = Program::start(command);
        program.until_it_says(&format!("at {at}"));
        let pid = program.id();
        let mut output = program.take_output();
        program.kill();
        let written = bounded("the renderer of a main that was killed", move || {
            let mut written = String::new();
            output.read_to_string(&mut written).map(|_| written).unwrap()
        });
        assert_eq!(written.contains("the renderer ends well"), *at == "renderer started", "{at}: {written}");
        drop(program);
        assert!(!lives(pid));
        nothing_is_left_by(pid);
    }
}

#[test]
fn a_renderer_killed_at_any_step_of_the_handshake_costs_main_nothing_over_sealed_memory() {
    alone_on(Backing::Sealed, "main of renderers that are killed while they connect");
}

#[test]
fn a_renderer_killed_at_any_step_of_the_handshake_costs_main_nothing_over_named_memory() {
    alone_on(Backing::Named, "main of renderers that are killed while they connect");
}

#[test]
fn a_main_killed_at_any_step_of_the_handshake_is_learnt_by_its_renderer_over_sealed_memory() {
    alone_on(Backing::Sealed, "renderer of mains that are killed while it connects");
}

#[test]
fn a_main_killed_at_any_step_of_the_handshake_is_learnt_by_its_renderer_over_named_memory() {
    alone_on(Backing::Named, "renderer of mains that are killed while it connects");
}

#[test]
fn a_main_killed_while_it_starts_a_renderer_leaves_neither_that_nor_memory() {
    for backing in [Backing::Sealed, Backing::Named] {
        alone_on(backing, "survivor of mains that are killed while they spawn");
    }
}
