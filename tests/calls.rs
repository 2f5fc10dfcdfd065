//! Calls between two processes.
#![allow(missing_docs)]

mod support;

use ringmain::IpcMainEvent;
use support::{PATIENCE, ipc_main, next, spawn};

#[test]
fn children() {
    support::play(&[("caller", caller)]);
}

fn caller() {
    let ipc_renderer = support::connected();
    for i in 0..100i64 {
        let sum: i64 = ipc_renderer.invoke("add", (i, 3)).timeout(PATIENCE).wait().unwrap();
        assert_eq!(sum, i + 3);
    }
    let answer: String = ipc_renderer.send_sync("synchronous-message", ("ping",)).unwrap();
    assert_eq!(answer, "pong");
    let long = "x".repeat(3 << 20);
    let back: String = ipc_renderer.invoke("echo", (&long,)).timeout(PATIENCE).wait().unwrap();
    assert!(back == long);
    ipc_renderer.send("done", (true,)).unwrap();
}

#[test]
fn a_spawned_renderer_calls_main_and_its_last_message_arrives_after_it_has_ended() {
    let ipc_main = ipc_main();
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_main.handle("echo", |_event, (text,): (String,)| Ok(text)).unwrap();
    ipc_main.on("synchronous-message", |event: &IpcMainEvent, (text,): (String,)| {
        assert_eq!(text, "ping");
        event.set_return_value("pong")
    });
    let (done, is_done) = std::sync::mpsc::channel();
    ipc_main.on("done", move |_event, (ok,): (bool,)| done.send(ok));
    let (gone, is_gone) = std::sync::mpsc::channel();
    ipc_main.on_renderer_gone(move |_, reason| drop(gone.send(reason.clone())));
    let _child = spawn(&ipc_main, "caller");
    assert!(next(&is_done, "the last message"));
    let reason = next(&is_gone, "the end of the renderer");
    assert_eq!(reason.to_string(), "the link was closed");
}
