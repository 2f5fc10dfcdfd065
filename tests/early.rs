//! Messages and calls that come before anybody listens: what main and other renderers send to a renderer that has not
//! connected yet, and the builder, whose listeners and handlers cannot miss them.
#![allow(missing_docs)]

mod support;

use ringmain::{
    Args, ErrorKind, GuestEvent, IpcMain, IpcRenderer, IpcRendererBuilder, IpcRendererEvent, IpcRendererInvokeEvent,
};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use support::{Child, PATIENCE, Program, Puppet, TempDir, child, ipc_main, next, until_disconnected};

const NAME: &str = "RINGMAIN_TEST_NAME";
const DIR: &str = "RINGMAIN_TEST_DIR";

#[test]
fn children() {
    support::play(&[("puppet", support::puppet), ("listener", listener), ("twice", twice), ("by name", by_name)]);
}

/// Spawns a child that does not connect before a line is written to it.
fn start(ipc_main: &IpcMain, role: &str) -> (Child, ChildStdin) {
    let mut command = child(role);
    command.stdin(Stdio::piped());
    let child = Child(ipc_main.spawn(command).unwrap());
    let stdin = child.process().take_stdin().unwrap();
    (child, stdin)
}

/// What a child has got: by what, from which renderer, the arguments.
type Got = (String, u32, Value);

/// In a child: a builder with listeners and handlers of every kind, and what they get.
fn with_everything(builder: IpcRendererBuilder) -> (IpcRendererBuilder, Receiver<Got>) {
    let (got, gots) = channel::<Got>();
    let heard = |name: &'static str| {
        let got = got.clone();
        move |event: &IpcRendererEvent, args: Args| {
            got.send((name.to_string(), event.sender_id(), json!(args.to_values())))
        }
    };
    let (by_handler, by_async, by_guest) = (got.clone(), got.clone(), got.clone());
    let builder = builder
        .on("early", heard("on"))
        .once("early", heard("once"))
        .handle("sync", move |_: &IpcRendererInvokeEvent, args: Args| {
            by_handler.send(("handle".to_string(), 0, json!(args.to_values())))?;
            Ok(args.to_values())
        })
        .handle_async("async", move |_, args: Args| {
            by_async.send(("handle_async".to_string(), 0, json!(args.to_values()))).unwrap();
            async move { Ok(args.to_values()) }
        })
        .on_ipc_message(move |event: &GuestEvent, _: &str, args: Args| {
            by_guest.send(("on_ipc_message".to_string(), event.guest_id(), json!(args.to_values())))
        });
    (builder, gots)
}

/// Tells main what the listeners of the builder get, until the link ends.
fn tell(ipc_renderer: &IpcRenderer, gots: &Receiver<Got>) {
    while let Ok(got) = gots.recv() {
        if got.2 == json!(["end"]) {
            ipc_renderer.send("told", ()).unwrap();
            return until_disconnected(ipc_renderer);
        }
        ipc_renderer.send("got", got).unwrap();
    }
}

fn listener() {
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).unwrap() > 0 {
        let (builder, gots) = with_everything(IpcRenderer::builder());
        tell(&builder.connect().unwrap(), &gots);
    }
}

/// What a child tells, up to the message whose only argument is "end".
fn told(ipc_main: &IpcMain) -> impl FnOnce() -> Vec<Got> {
    let (got, gots) = channel::<Got>();
    let (end, ended) = channel();
    ipc_main.on("got", move |_, (by, sender, args): Got| got.send((by, sender, args)));
    ipc_main.on("told", move |_, ()| end.send(()));
    move || {
        next(&ended, "the end of what the child tells");
        gots.try_iter().collect()
    }
}

#[test]
fn what_was_sent_before_a_renderer_has_connected_reaches_the_listeners_of_its_builder_in_order() {
    let ipc_main = ipc_main();
    let told = told(&ipc_main);
    ipc_main.handle("routed so far", |_, ()| Ok(())).unwrap();
    let other = ipc_main.attach().unwrap();
    let routed = || other.invoke::<()>("routed so far", ()).timeout(PATIENCE).wait().unwrap();
    let (child, mut stdin) = start(&ipc_main, "listener");
    let (id, guest) = (child.id(), other.id());
    ipc_main.web_contents(guest).unwrap().set_host(Some(&child)).unwrap();
    let large = "x".repeat(300_000);
    child.send("early", (1,)).unwrap();
    other.send_to(id, "early", (2,)).unwrap();
    routed();
    assert!(child.send_to_frame(1, "early", (3, &large)).unwrap());
    assert!(!child.send_to_frame(2, "early", ("to no frame",)).unwrap());
    let sync = child.invoke::<Value>("sync", (4,), PATIENCE);
    other.send_to_host("early", (5,)).unwrap();
    routed();
    let asynchronous = child.invoke::<Value>("async", (6,), PATIENCE);
    child.main_frame().send("early", (7,)).unwrap();
    other.send_to_frame(id, 1, "early", (8,)).unwrap();
    routed();
    child.invoke::<Value>("sync", (9,), PATIENCE).detach();
    drop(child.invoke::<Value>("sync", ("cancelled",), PATIENCE));
    child.send("early", ("end",)).unwrap();
    assert!(!child.is_connected());
    writeln!(stdin, "connect").unwrap();
    assert_eq!(sync.wait().unwrap(), json!([4]));
    assert_eq!(futures::executor::block_on(asynchronous).unwrap(), json!([6]));
    let got = |by: &str, sender: u32, args: Value| (by.to_string(), sender, args);
    let expected = [
        got("on", 0, json!([1])),
        got("once", 0, json!([1])),
        got("on", guest, json!([2])),
        got("on", 0, json!([3, large])),
        got("handle", 0, json!([4])),
        got("on_ipc_message", guest, json!([5])),
        got("handle_async", 0, json!([6])),
        got("on", 0, json!([7])),
        got("on", guest, json!([8])),
        got("handle", 0, json!([9])),
    ];
    let mut told = told();
    // The renderer may start it before it reads the cancellation. That one cancelled before is not started is tested with
    // a gate: `a_call_of_main_that_is_cancelled_before_it_has_started_is_not_started` in renderer_calls.rs.
    told.pop_if(|last| *last == got("handle", 0, json!(["cancelled"])));
    assert!(told == expected, "everything once and in order");
    let stats = child.stats();
    assert_eq!((stats.undeliverable, stats.pending_calls), (0, 0));
}

#[test]
fn what_a_renderer_that_never_connects_was_sent_is_dropped_with_it() {
    let ipc_main = ipc_main();
    let (gone, is_gone) = channel();
    ipc_main.on_renderer_gone(move |web_contents, _| gone.send(web_contents.id()).unwrap_or(()));
    let (child, stdin) = start(&ipc_main, "listener");
    child.send("early", ("x".repeat(100_000),)).unwrap();
    let call = child.invoke::<Value>("sync", (1,), 20 * PATIENCE);
    assert!(child.stats().queued_bytes > 100_000);
    drop(stdin); // it ends without having connected
    assert_eq!(next(&is_gone, "the end of the child"), child.id());
    assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(child.send("early", ()).unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(child.gone_reason().is_some());
    assert_eq!(child.stats().queued_bytes, 0);
}

#[test]
fn a_message_that_comes_before_its_listener_is_dropped_as_in_electron() {
    let ipc_main = ipc_main();
    let mut puppet = Puppet::spawn_unconnected(&ipc_main);
    ipc_main.web_contents(puppet.id()).unwrap().send("x", ()).unwrap();
    puppet.connect();
    puppet.barrier();
    puppet.on(1, "x", None);
    assert_eq!(puppet.count_got(), 0);
}

fn by_name() {
    let (name, dir) = (std::env::var(NAME).unwrap(), std::env::var(DIR).unwrap());
    let (builder, gots) = with_everything(IpcRenderer::builder().runtime_dir(dir));
    tell(&builder.connect_to(&name).unwrap(), &gots);
}

#[test]
fn what_main_sends_the_moment_a_renderer_has_connected_by_name_reaches_the_listeners_of_its_builder() {
    let dir = TempDir::new();
    let ipc_main = support::builder().runtime_dir(&*dir).build().unwrap();
    let told = told(&ipc_main);
    let (answer, answers) = channel();
    ipc_main.on_renderer_connected(move |web_contents| {
        web_contents.send("early", (1,)).unwrap();
        answer.send(web_contents.invoke::<Value>("sync", (2,), PATIENCE)).unwrap();
        web_contents.send("early", (3,)).unwrap();
        web_contents.send("early", ("end",)).unwrap();
    });
    ipc_main.listen("early").unwrap();
    let mut command = child("by name");
    command.env(NAME, "early").env(DIR, dir.as_os_str());
    let _program = Program::start(command);
    assert_eq!(next(&answers, "the call").wait().unwrap(), json!([2]));
    let got = |by: &str, args: Value| (by.to_string(), 0, args);
    let expected = [got("on", json!([1])), got("once", json!([1])), got("handle", json!([2])), got("on", json!([3]))];
    assert_eq!(told(), expected);
}

fn twice() {
    let errors = [
        IpcRenderer::builder().handle("x", |_, ()| Ok(1)).handle("x", |_, ()| Ok(2)).connect(),
        IpcRenderer::builder().handle("x", |_, ()| Ok(1)).handle_async("x", |_, ()| async { Ok(2) }).connect(),
        // It is said before anybody is looked for.
        IpcRenderer::builder().handle("x", |_, ()| Ok(1)).handle("x", |_, ()| Ok(2)).connect_to("nobody listens"),
    ]
    .map(|result| result.map(drop).unwrap_err());
    let errors = errors.map(|error| (format!("{:?}", error.kind()), error.is_misuse(), error.to_string()));
    // The inherited link is not used up by that.
    let builder = IpcRenderer::builder().handle("x", |_, ()| Ok(1)).handle("y", |_, ()| Ok(2));
    let ipc_renderer = builder.connect().unwrap();
    ipc_renderer.send("errors", (errors,)).unwrap();
    until_disconnected(&ipc_renderer);
}

#[test]
fn a_second_handler_of_a_channel_in_the_builder_is_refused_and_the_link_is_there_for_another_try() {
    let ipc_main = ipc_main();
    let (tell, told) = channel();
    ipc_main.on("errors", move |_, (errors,): (Vec<(String, bool, String)>,)| tell.send(errors));
    let child = support::spawn(&ipc_main, "twice");
    let expected = ("DuplicateHandler", true, "Attempted to register a second handler for 'x'");
    for (kind, is_misuse, text) in next(&told, "the errors") {
        assert_eq!((&kind[..], is_misuse, &text[..]), expected);
    }
    assert_eq!(child.invoke::<i64>("x", (), PATIENCE).wait().unwrap(), 1);
    assert_eq!(child.invoke::<i64>("y", (), PATIENCE).wait().unwrap(), 2);
}
