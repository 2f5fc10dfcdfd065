//! What Electron's programs rely on, case by case, and where this crate does better on purpose. A number in a name is
//! that of the case in the list of Electron's own behaviour.
#![allow(missing_docs)]

mod support;

use futures::channel::oneshot;
use ringmain::{Args, ErrorKind, HandlerError, HandlerResultExt, IpcMain, IpcMainEvent, IpcRenderer, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use support::{Gate, PATIENCE, bounded, child, connected, next, pair, pair_of, spawn, until, until_disconnected};

#[test]
fn children() {
    support::play(&[
        ("sender of a mix", || send_a_mix(&connected())),
        ("echoer", echoer),
        ("asker", || drop(connected().send_sync::<()>("ask", ()))),
        ("mute", || until_disconnected(&connected())),
    ]);
}

/// What `on_error` of a main is told.
fn reports(ipc_main: &IpcMain) -> Receiver<(Option<u32>, Option<String>, ErrorKind, String)> {
    let (report, reports) = channel();
    ipc_main.on_error(move |told| {
        let _ = report.send((told.renderer, told.channel.clone(), told.error.kind(), told.error.to_string()));
    });
    reports
}

fn invoke<R: DeserializeOwned>(ipc_renderer: &IpcRenderer, channel: &str, args: impl ringmain::IntoArgs) -> Result<R> {
    ipc_renderer.invoke(channel, args).timeout(PATIENCE).wait()
}

fn send_sync<R: DeserializeOwned>(
    ipc_renderer: &IpcRenderer,
    channel: &str,
    args: impl ringmain::IntoArgs,
) -> Result<R> {
    ipc_renderer.send_sync_timeout(channel, args, PATIENCE)
}

// ---- invoke and handle ------------------------------------------------------------------------------------------

#[test]
fn case_001_a_handler_sees_the_arguments_and_the_caller_gets_its_value() {
    let (ipc_main, ipc_renderer) = pair();
    let id = ipc_renderer.id();
    ipc_main
        .handle("test", move |event, (arg,): (i64,)| {
            assert_eq!((arg, event.sender().id(), event.frame_id(), event.is_cancelled()), (123, id, 1, false));
            Ok(3)
        })
        .unwrap();
    assert_eq!(invoke::<i64>(&ipc_renderer, "test", (123,)).unwrap(), 3);
}

#[test]
fn case_002_a_handler_may_answer_later() {
    let (ipc_main, ipc_renderer) = pair();
    let (later, is_later) = oneshot::channel::<i64>();
    let is_later = Mutex::new(Some(is_later));
    ipc_main
        .handle_async("test", move |_event, ()| {
            let is_later = is_later.lock().unwrap().take();
            async move { Ok(is_later.ok_or_else(|| HandlerError::new("called twice"))?.await?) }
        })
        .unwrap();
    let call = ipc_renderer.invoke::<i64>("test", ()).timeout(PATIENCE);
    // Answered: so the call before it has started.
    assert_eq!(invoke::<()>(&ipc_renderer, "nobody", ()).unwrap_err().kind(), ErrorKind::NoHandler);
    later.send(3).unwrap();
    assert_eq!(call.wait().unwrap(), 3);
}

#[test]
fn case_003_and_004_the_text_of_a_handlers_error_reaches_the_caller_at_once_or_later() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("now", |_, ()| Err::<(), _>(HandlerError::new("some error"))).unwrap();
    ipc_main.handle_async("later", |_, ()| async { Err::<(), _>(HandlerError::new("some error")) }).unwrap();
    for channel in ["now", "later"] {
        let error = invoke::<()>(&ipc_renderer, channel, ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Handler);
        assert!(error.is_remote() && !error.is_misuse() && !error.is_transient());
        assert_eq!(error.to_string(), format!("Error invoking remote method '{channel}': some error"));
        assert_eq!(error.remote_message(), Some("some error"));
        assert_eq!((error.remote_name(), error.code(), error.data()), (None, None, None));
    }
}

#[test]
fn case_005_and_006_without_a_handler_a_call_fails_in_electrons_words() {
    let (ipc_main, ipc_renderer) = pair();
    let fails = |channel: &str| {
        let error = invoke::<()>(&ipc_renderer, channel, (1,)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoHandler);
        assert!(error.is_remote());
        let text = format!("Error invoking remote method '{channel}': No handler registered for '{channel}'");
        assert_eq!(error.to_string(), text);
    };
    fails("never");
    ipc_main.handle("test", |_, ()| Ok(())).unwrap();
    invoke::<()>(&ipc_renderer, "test", ()).unwrap();
    assert!(ipc_main.remove_handler("test"));
    assert!(!ipc_main.remove_handler("test"));
    fails("test");
}

#[test]
fn case_007_a_second_handler_is_refused_and_the_first_one_stays() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("test", |_, ()| Ok(1)).unwrap();
    let dropped = Arc::new(());
    let kept = dropped.clone();
    let refused = [
        ipc_main.handle("test", |_, ()| Ok(2)),
        ipc_main.handle_once("test", |_, ()| Ok(2)),
        ipc_main.handle_async("test", |_, ()| async { Ok(2) }),
        ipc_main.handle_once_async("test", move |_, ()| {
            let _kept = &kept;
            async { Ok(2) }
        }),
    ];
    for error in refused.map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::DuplicateHandler);
        assert!(error.is_misuse());
        assert_eq!(error.to_string(), "Attempted to register a second handler for 'test'");
    }
    assert_eq!(Arc::strong_count(&dropped), 1, "a refused handler is dropped");
    assert_eq!(invoke::<i64>(&ipc_renderer, "test", ()).unwrap(), 1);
}

#[test]
fn case_008_a_one_shot_handler_serves_one_of_two_queued_calls_and_may_register_again_from_within() {
    let (ipc_main, ipc_renderer) = pair();
    let gate = Gate::default();
    let held = gate.clone();
    ipc_main.on("hold", move |_, ()| held.wait());
    ipc_main.handle_once("once", |_, ()| Ok(1)).unwrap();
    ipc_main.handle_once_async("once async", |_, ()| async { Ok(1) }).unwrap();
    ipc_renderer.send("hold", ()).unwrap();
    gate.reached();
    for channel in ["once", "once async"] {
        let calls = [(); 2].map(|()| ipc_renderer.invoke::<i64>(channel, ()).timeout(PATIENCE));
        gate.open();
        let [first, second] = calls.map(|call| call.wait());
        assert_eq!(first.unwrap(), 1);
        assert_eq!(second.unwrap_err().kind(), ErrorKind::NoHandler);
    }
    let again = ipc_main.clone();
    ipc_main
        .handle_once("again", move |_, ()| {
            again.handle("again", |_, ()| Ok(2))?;
            Ok(1)
        })
        .unwrap();
    assert_eq!(ipc_main.handle("again", |_, ()| Ok(3)).unwrap_err().kind(), ErrorKind::DuplicateHandler);
    assert_eq!([(); 3].map(|()| invoke::<i64>(&ipc_renderer, "again", ()).unwrap()), [1, 2, 2]);
}

type Future = std::pin::Pin<Box<dyn std::future::Future<Output = ()> + Send>>;

#[test]
fn case_009_a_call_whose_handler_is_dropped_unanswered_fails_at_once() {
    let (task, tasks) = channel::<Future>();
    let (ipc_main, ipc_renderer) = pair_of(support::builder().executor(move |future| drop(task.send(future))));
    ipc_main.handle_async("test", |_event, ()| async { Ok(1) }).unwrap();
    let call = ipc_renderer.invoke::<i64>("test", ()).timeout(PATIENCE);
    let kept = next(&tasks, "the future of the handler");
    // For a moment it is neither the one that is handled any more nor counted as open.
    until("the request is open", || ipc_main.all_web_contents()[0].stats().open_requests == 1);
    std::thread::spawn(move || drop(kept)).join().unwrap();
    let error = call.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReplyNeverSent);
    assert_eq!(error.to_string(), "Error invoking remote method 'test': reply was never sent");
    support::until("the request's end", || ipc_main.all_web_contents()[0].stats().open_requests == 0);
}

#[test]
fn an_executor_that_panics_drops_its_future_and_the_caller_learns_it() {
    let (ipc_main, ipc_renderer) = pair_of(support::builder().executor(|_future| panic!("the runtime is gone")));
    let reports = reports(&ipc_main);
    ipc_main.handle_async("test", |_event, ()| async { Ok(1) }).unwrap();
    assert_eq!(invoke::<i64>(&ipc_renderer, "test", ()).unwrap_err().kind(), ErrorKind::ReplyNeverSent);
    let (.., text) = next(&reports, "the report");
    assert_eq!(text, "the executor panicked: the runtime is gone");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nested {
    text: String,
    bytes: Vec<u8>,
    deeper: BTreeMap<String, Vec<Option<f64>>>,
}

const SIZES: [usize; 7] = [0, 1, 65_535, 65_536, 65_537, 262_147, 3_145_729];

/// The three payloads of cases 10 to 12, of about `size` units each.
fn payloads(size: usize) -> (String, Vec<u8>, Nested) {
    let text: String = "näh, 100 €\0".chars().cycle().take(size).collect();
    let bytes: Vec<u8> = (0..size).map(|i| (i * 31 % 256) as u8).collect();
    // A byte is a value, and a message holds a million of those.
    let bytes = bytes[..size.min(500_000)].to_vec();
    let deeper = BTreeMap::from([("a".to_string(), vec![Some(0.5), None]), (String::new(), vec![])]);
    let nested = Nested { text: text.clone(), bytes: bytes[..size.min(100_000)].to_vec(), deeper };
    (text, bytes, nested)
}

fn check_payloads(mut echo: impl FnMut(&Args) -> Args) {
    for size in SIZES {
        let sent = payloads(size);
        let back = echo(&Args::new((&sent.0, &sent.1, &sent.2)).unwrap());
        assert!(back.parse::<(String, Vec<u8>, Nested)>().unwrap() == sent, "payload of {size} units");
    }
}

#[test]
fn case_010_payloads_of_every_size_return_from_invoke_as_they_were() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("echo", |_, args: Args| Ok(args.to_values())).unwrap();
    check_payloads(|args| Args::from_values(&invoke::<Vec<Value>>(&ipc_renderer, "echo", args).unwrap()).unwrap());
}

#[test]
fn case_011_payloads_of_every_size_return_from_send_sync_as_they_were() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.on("echo", |event, args: Args| event.set_return_value(args.to_values()));
    check_payloads(|args| Args::from_values(&send_sync::<Vec<Value>>(&ipc_renderer, "echo", args).unwrap()).unwrap());
}

fn echoer() {
    let ipc_renderer =
        IpcRenderer::builder().on("echo", |event, args: Args| event.reply("back", args)).connect().unwrap();
    until_disconnected(&ipc_renderer);
}

#[test]
fn case_012_payloads_of_every_size_return_from_another_process_as_they_were() {
    let ipc_main = support::ipc_main();
    let (back, backs) = channel();
    ipc_main.on("back", move |_, args: Args| back.send(args));
    let child = spawn(&ipc_main, "echoer");
    check_payloads(|args| {
        child.send("echo", args).unwrap();
        next(&backs, "the echo")
    });
}

// ---- order ------------------------------------------------------------------------------------------------------

const MIX: u64 = 1000;

/// Sends 0, 1, 2 … by a mix of `send`, `invoke` (awaited, detached, kept for later) and `send_sync`.
fn send_a_mix(ipc_renderer: &IpcRenderer) {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut kept = Vec::new();
    for n in 0..MIX {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match random >> 61 {
            0..=2 => ipc_renderer.send("n", (n,)).unwrap(),
            3 => ipc_renderer.invoke::<u64>("n", (n,)).detach(),
            4 => assert_eq!(invoke::<u64>(ipc_renderer, "n", (n,)).unwrap(), n),
            5 => assert_eq!(send_sync::<u64>(ipc_renderer, "n", (n,)).unwrap(), n),
            _ => kept.push((n, ipc_renderer.invoke::<u64>("n", (n,)).timeout(PATIENCE))),
        }
    }
    for (n, call) in kept {
        assert_eq!(call.wait().unwrap(), n);
    }
    ipc_renderer.send("end", ()).unwrap();
}

fn main_for_a_mix() -> (IpcMain, Receiver<()>, Arc<Mutex<Vec<u64>>>) {
    let ipc_main = support::ipc_main();
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let (listener, handler) = (arrived.clone(), arrived.clone());
    ipc_main.on("n", move |event, (n,): (u64,)| {
        listener.lock().unwrap().push(n);
        event.set_return_value(n)
    });
    ipc_main
        .handle("n", move |_, (n,): (u64,)| {
            handler.lock().unwrap().push(n);
            Ok(n)
        })
        .unwrap();
    let (end, ended) = channel();
    ipc_main.on("end", move |_, ()| end.send(()));
    (ipc_main, ended, arrived)
}

#[test]
fn case_013_a_mix_of_send_invoke_and_send_sync_arrives_in_the_order_sent() {
    let in_order: Vec<u64> = (0..MIX).collect();
    let (ipc_main, ended, arrived) = main_for_a_mix();
    send_a_mix(&ipc_main.attach().unwrap());
    next(&ended, "the end of the mix");
    assert_eq!(std::mem::take(&mut *arrived.lock().unwrap()), in_order);
    let _child = spawn(&ipc_main, "sender of a mix");
    next(&ended, "the end of the mix from another process");
    assert_eq!(*arrived.lock().unwrap(), in_order);
}

#[test]
fn messages_from_main_run_in_the_order_sent_large_ones_among_them() {
    let (ipc_main, ipc_renderer) = pair();
    let (arrive, arrived) = channel();
    ipc_renderer.on("n", move |event, (n, _): (u64, String)| {
        assert_eq!(event.sender_id(), 0);
        arrive.send(n)
    });
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let large = "x".repeat(300_000);
    for n in 0..300u64 {
        web_contents.send_timeout("n", (n, if n % 10 == 3 { &large[..] } else { "" }), PATIENCE).unwrap();
    }
    assert_eq!((0..300).map(|_| next(&arrived, "a message")).collect::<Vec<_>>(), (0..300).collect::<Vec<_>>());
}

#[test]
fn handlers_start_in_the_order_of_arrival_and_reply_in_that_of_completion() {
    let (ipc_main, ipc_renderer) = pair();
    let (start, started) = channel();
    ipc_main
        .handle_async("work", move |_, (n,): (usize,)| {
            let (finish, is_finished) = oneshot::channel::<()>();
            start.send((n, finish)).unwrap();
            async move {
                is_finished.await?;
                Ok(n)
            }
        })
        .unwrap();
    let (done, is_done) = channel();
    let waiters: Vec<_> = (0..3)
        .map(|n| {
            let (call, done) = (ipc_renderer.invoke::<usize>("work", (n,)).timeout(PATIENCE), done.clone());
            std::thread::spawn(move || done.send(call.wait().unwrap()))
        })
        .collect();
    let mut finish: Vec<_> = (0..3)
        .map(|n| {
            let (started, finish) = next(&started, "the start of a handler");
            assert_eq!(started, n);
            Some(finish)
        })
        .collect();
    for n in [2, 0, 1] {
        finish[n].take().unwrap().send(()).unwrap();
        assert_eq!(next(&is_done, "the reply"), n);
    }
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap().unwrap());
}

// ---- how a handler fails ----------------------------------------------------------------------------------------

#[derive(Debug)]
struct DiskFull {
    cause: std::io::Error,
}

impl std::fmt::Display for DiskFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cannot save")
    }
}

impl std::error::Error for DiskFull {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

#[test]
fn case_120_name_text_causes_code_and_data_of_a_handlers_error_survive() {
    let (ipc_main, ipc_renderer) = pair();
    let save = |_: i64| Err::<i64, _>(DiskFull { cause: std::io::Error::other("no space left") });
    ipc_main.handle("save", move |_, (n,): (i64,)| Ok(save(n)?)).unwrap();
    let error = invoke::<i64>(&ipc_renderer, "save", (1,)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handler);
    assert_eq!(error.remote_name(), Some("DiskFull"));
    assert_eq!(error.remote_message(), Some("cannot save: no space left"));
    let text = "Error invoking remote method 'save': DiskFull: cannot save: no space left";
    assert_eq!(error.to_string(), text);

    let data = json!({ "field": "gain", "limits": [0, 1.5], "none": null });
    let rich = HandlerError::new("bad gain").with_name("TypeError").with_code("EGAIN").with_data(data.clone());
    ipc_main.handle("rich", move |_, ()| Err::<(), _>(rich.clone())).unwrap();
    let error = invoke::<()>(&ipc_renderer, "rich", ()).unwrap_err();
    assert_eq!(error.to_string(), "Error invoking remote method 'rich': TypeError: bad gain");
    assert_eq!((error.remote_name(), error.code(), error.data()), (Some("TypeError"), Some("EGAIN"), Some(&data)));

    let boxed = || Err::<(), Box<dyn std::error::Error>>("a boxed text".into());
    ipc_main.handle_async("boxed", move |_, ()| async move { boxed().handler_err() }).unwrap();
    let error = invoke::<()>(&ipc_renderer, "boxed", ()).unwrap_err();
    assert_eq!((error.remote_name(), error.remote_message()), (None, Some("a boxed text")));
    assert_eq!(error.kind(), ErrorKind::Handler);
}

#[test]
fn an_error_text_longer_than_the_limit_arrives_cut_and_harms_nobody() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("long", |_, ()| Err::<(), _>(HandlerError::new("ä".repeat(200_000)))).unwrap();
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let error = invoke::<()>(&ipc_renderer, "long", ()).unwrap_err();
    let text = error.remote_message().unwrap();
    assert_eq!(error.kind(), ErrorKind::Handler);
    assert!(text.starts_with("ää") && text.len() <= 65_536, "{} bytes", text.len());
    assert_eq!(invoke::<i64>(&ipc_renderer, "add", (2, 3)).unwrap(), 5);
}

/// Panics when it is dropped, also while it is a panic's payload.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

fn throw_grenade() -> Result<(), HandlerError> {
    std::panic::panic_any(Grenade)
}

fn out_of_cheese() -> Result<(), HandlerError> {
    panic!("out of cheese")
}

/// A value whose `Serialize` panics.
struct Unspeakable;

impl Serialize for Unspeakable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("unspeakable")
    }
}

#[test]
fn a_handler_that_panics_costs_its_caller_an_error_and_main_nothing() {
    let (ipc_main, ipc_renderer) = pair();
    let reports = reports(&ipc_main);
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_main.handle::<(), (), _>("text", |_, ()| panic!("out of cheese")).unwrap();
    ipc_main.handle::<(), (), _>("formatted", |_, ()| panic!("{} cheeses", 0)).unwrap();
    ipc_main.handle::<(), (), _>("value", |_, ()| std::panic::panic_any(7)).unwrap();
    ipc_main.handle::<(), (), _>("grenade", |_, ()| std::panic::panic_any(Grenade)).unwrap();
    ipc_main.handle("result", |_, ()| Ok(Unspeakable)).unwrap();
    ipc_main
        .handle_async::<(), (), _, _>("at once", |_, ()| -> std::future::Ready<_> { panic!("out of cheese") })
        .unwrap();
    ipc_main.handle_async("async", |_, ()| async { out_of_cheese() }).unwrap();
    ipc_main.handle_async("async grenade", |_, ()| async { throw_grenade() }).unwrap();
    ipc_main
        .handle_async("drop", |_, ()| {
            let grenade = Grenade;
            std::future::poll_fn(move |_| {
                let _grenade = &grenade;
                std::task::Poll::Ready(Ok(1))
            })
        })
        .unwrap();
    ipc_main.handle_async("async result", |_, ()| async { Ok(Unspeakable) }).unwrap();
    let no_text = "with a value that is no text";
    let table = [
        ("text", "out of cheese"),
        ("formatted", "0 cheeses"),
        ("value", no_text),
        ("grenade", no_text),
        ("result", "unspeakable"),
        ("at once", "out of cheese"),
        ("async", "out of cheese"),
        ("async grenade", no_text),
        ("drop", "dropped"),
        ("async result", "unspeakable"),
    ];
    for (channel, text) in table {
        let error = invoke::<()>(&ipc_renderer, channel, ()).unwrap_err();
        assert_eq!((error.kind(), error.remote_message()), (ErrorKind::HandlerPanicked, Some(text)), "{channel}");
        assert!(error.is_remote());
        assert_eq!(invoke::<i64>(&ipc_renderer, "add", (2, 3)).unwrap(), 5, "{channel}");
    }
    let (renderer, channel, kind, text) = next(&reports, "the report of the first panic");
    assert_eq!((renderer, channel.as_deref()), (Some(ipc_renderer.id()), Some("text")));
    assert_eq!((kind, &text[..]), (ErrorKind::HandlerPanicked, "the handler of 'text' panicked: out of cheese"));
}

#[test]
fn case_115_116_and_119_handlers_and_listeners_of_one_channel_do_not_meet() {
    let (ipc_main, ipc_renderer) = pair();
    let (heard, hears) = channel();
    ipc_main.on("x", move |event, (n,): (i64,)| heard.send((n, event.is_synchronous())));
    ipc_main.handle("x", |_, (n,): (i64,)| Ok(-n)).unwrap();
    ipc_renderer.send("x", (1,)).unwrap();
    assert_eq!(invoke::<i64>(&ipc_renderer, "x", (2,)).unwrap(), -2);
    ipc_renderer.send("x", (3,)).unwrap();
    assert_eq!([next(&hears, "1"), next(&hears, "3")], [(1, false), (3, false)]);

    // 116: handlers stay when all listeners are cleared, and are no event names.
    ipc_main.remove_all_listeners(None);
    assert_eq!(invoke::<i64>(&ipc_renderer, "x", (4,)).unwrap(), -4);
    assert!(ipc_main.event_names().is_empty());
    assert_eq!(send_sync::<i64>(&ipc_renderer, "x", (5,)).unwrap_err().kind(), ErrorKind::NoListener);

    // 119: a call that runs is answered after its handler was removed.
    let gate = Gate::default();
    let held = gate.clone();
    ipc_main
        .handle("held", move |_, ()| {
            held.wait();
            Ok(5)
        })
        .unwrap();
    let call = ipc_renderer.invoke::<i64>("held", ()).timeout(PATIENCE);
    gate.reached();
    let (removes, is_removed) = (ipc_main.clone(), ipc_main.clone());
    // A removal on another thread waits until the handler runs no more.
    let removal = std::thread::spawn(move || removes.remove_handler("held"));
    until("it is removed", || !is_removed.has_handler("held"));
    gate.open();
    assert_eq!(call.wait().unwrap(), 5);
    assert!(removal.join().unwrap());
    assert_eq!(invoke::<i64>(&ipc_renderer, "held", ()).unwrap_err().kind(), ErrorKind::NoHandler);
}

// ---- send_sync --------------------------------------------------------------------------------------------------

#[test]
fn case_055_a_listener_that_sets_the_return_value_answers_send_sync() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.on("ask", |event, (n,): (i64,)| {
        assert!(event.is_synchronous());
        event.set_return_value((n, "two"))
    });
    assert_eq!(send_sync::<(i64, String)>(&ipc_renderer, "ask", (1,)).unwrap(), (1, "two".to_string()));
}

#[test]
fn case_043_of_several_return_values_the_first_one_counts() {
    let (ipc_main, ipc_renderer) = pair();
    let ran = Arc::new(Mutex::new(0));
    for n in 1..=3 {
        let ran = ran.clone();
        ipc_main.on("ask", move |event, ()| {
            *ran.lock().unwrap() += 1;
            event.set_return_value(n).unwrap();
            event.set_return_value(10 * n).unwrap();
        });
    }
    assert_eq!(send_sync::<i64>(&ipc_renderer, "ask", ()).unwrap(), 1);
    assert_eq!(send_sync::<i64>(&ipc_renderer, "ask", ()).unwrap(), 1);
    assert_eq!(ipc_renderer.stats().late_replies, 0);
    support::until("all listeners", || *ran.lock().unwrap() == 6);
}

#[test]
fn case_123_a_return_value_may_come_later_from_any_thread() {
    let (ipc_main, ipc_renderer) = pair();
    let (event, events) = channel::<IpcMainEvent>();
    ipc_main.on("ask", move |asked, ()| event.send(asked.clone()));
    let answering = std::thread::spawn(move || {
        let event = next(&events, "the event");
        let other = event.clone();
        drop(event);
        std::thread::spawn(move || other.set_return_value("late")).join().unwrap()
    });
    assert_eq!(send_sync::<String>(&ipc_renderer, "ask", ()).unwrap(), "late");
    answering.join().unwrap().unwrap();
}

#[test]
fn a_synchronous_message_whose_last_event_is_dropped_unanswered_fails_at_once() {
    let (ipc_main, ipc_renderer) = pair();
    let (event, events) = channel::<IpcMainEvent>();
    ipc_main.on("ignored", |_, ()| ());
    ipc_main.on("kept", move |asked, ()| event.send(asked.clone()));
    let text = |channel: &str| format!("Error sending synchronous message '{channel}': reply was never sent");
    let error = send_sync::<()>(&ipc_renderer, "ignored", ()).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::ReplyNeverSent, text("ignored")));
    let dropping = std::thread::spawn(move || drop(next(&events, "the event")));
    let error = send_sync::<()>(&ipc_renderer, "kept", ()).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::ReplyNeverSent, text("kept")));
    dropping.join().unwrap();
}

#[test]
fn a_synchronous_message_without_listener_fails_at_once_also_where_there_is_a_handler() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("handled", |_, ()| Ok(1)).unwrap();
    for channel in ["nobody", "handled"] {
        let error = send_sync::<()>(&ipc_renderer, channel, ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoListener);
        assert!(error.is_remote());
        let text = format!("Error sending synchronous message '{channel}': No listener registered for '{channel}'");
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_return_value_that_cannot_travel_is_an_error_to_the_listener_who_may_set_another() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.on("ask", |event, ()| {
        let error = event.set_return_value([f64::NAN]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidValue);
        event.set_return_value(error.to_string())
    });
    let answer: String = send_sync(&ipc_renderer, "ask", ()).unwrap();
    assert_eq!(answer, "value[0]: NaN is not a JSON number");
}

#[test]
fn case_042_a_listener_may_answer_a_caller_that_is_gone() {
    let ipc_main = support::ipc_main();
    let (event, events) = channel::<IpcMainEvent>();
    ipc_main.on("ask", move |asked, ()| event.send(asked.clone()));
    let (gone, is_gone) = channel();
    ipc_main.on_renderer_gone(move |_, _| gone.send(()).unwrap());
    let child = spawn(&ipc_main, "asker");
    let event = next(&events, "the event");
    child.process().kill().unwrap();
    next(&is_gone, "the end of the renderer");
    event.set_return_value("too late").unwrap();
    drop(event);
    ipc_main.attach().unwrap();
}

#[test]
fn case_125_a_reply_to_a_renderer_that_is_gone_is_dropped_and_a_send_to_it_fails() {
    let (ipc_main, ipc_renderer) = pair();
    let (event, events) = channel::<IpcMainEvent>();
    ipc_main.on("x", move |got, ()| event.send(got.clone()));
    let (gone, is_gone) = channel();
    ipc_main.on_renderer_gone(move |_, _| gone.send(()).unwrap());
    ipc_renderer.send("x", ()).unwrap();
    let event = next(&events, "the event");
    drop(ipc_renderer);
    next(&is_gone, "the end of the renderer");
    event.reply("y", (1,)).unwrap();
    let error = event.sender().send("y", (1,)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.to_string().starts_with("renderer 1 is gone"), "{error}");
}

// ---- arguments --------------------------------------------------------------------------------------------------

#[test]
fn arguments_that_do_not_fit_are_told_to_the_caller_of_a_handler_with_their_path() {
    let (ipc_main, ipc_renderer) = pair();
    #[derive(Deserialize)]
    struct Track {
        #[allow(dead_code)]
        gain: f64,
    }
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_main.handle_async("tracks", |_, (_, _tracks): (Value, Vec<Track>)| async { Ok(()) }).unwrap();
    let error = invoke::<i64>(&ipc_renderer, "add", (1, "x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadArguments);
    assert!(error.is_remote());
    assert_eq!(error.remote_message(), Some(r#"args[1]: invalid type: string "x", expected i64"#));
    let error = invoke::<i64>(&ipc_renderer, "add", (1,)).unwrap_err();
    let missing = "args[1]: the argument is missing: invalid type: null, expected i64";
    assert_eq!((error.kind(), error.remote_message()), (ErrorKind::BadArguments, Some(missing)));
    let error = invoke::<()>(&ipc_renderer, "tracks", (1, json!([{ "gain": 1 }, { "gain": "loud" }]))).unwrap_err();
    let path = r#"args[1][1].gain: invalid type: string "loud", expected f64"#;
    assert_eq!((error.kind(), error.remote_message()), (ErrorKind::BadArguments, Some(path)));
}

#[test]
fn arguments_that_do_not_fit_a_listener_are_told_to_on_error_and_other_listeners_run() {
    let (ipc_main, ipc_renderer) = pair();
    let reports = reports(&ipc_main);
    let (heard, hears) = channel();
    ipc_main.on("x", |_, (_, _): (u8, u8)| unreachable!("its arguments do not fit"));
    ipc_main.on("x", move |_, (n, text): (i64, String)| heard.send((n, text)));
    ipc_renderer.send("x", (300, "text")).unwrap();
    assert_eq!(next(&hears, "the message"), (300, "text".to_string()));
    let (renderer, channel, kind, text) = next(&reports, "the report");
    assert_eq!((renderer, channel.as_deref(), kind), (Some(ipc_renderer.id()), Some("x"), ErrorKind::BadArguments));
    let why = "args[0]: invalid value: integer `300`, expected u8";
    assert_eq!(text, format!("the arguments do not fit what a listener of 'x' takes: {why}"));
    // A synchronous one: nobody has answered it.
    ipc_main.remove_all_listeners(Some("x"));
    ipc_main.on("x", |event, (_,): (u8,)| event.set_return_value(1));
    assert_eq!(send_sync::<u8>(&ipc_renderer, "x", ("no number",)).unwrap_err().kind(), ErrorKind::ReplyNeverSent);
}

#[test]
fn a_renderers_listener_that_does_not_fit_or_panics_is_told_to_its_on_error() {
    let (ipc_main, ipc_renderer) = pair();
    let (report, reports) = channel();
    ipc_renderer.on_error(move |told| report.send((told.channel.clone().unwrap(), told.error.kind())).unwrap());
    let (heard, hears) = channel();
    ipc_renderer.on("x", |_, (_,): (u8,)| ());
    ipc_renderer.on("x", |_, _: Args| panic!("contained"));
    ipc_renderer.on("x", move |_, (text,): (String,)| heard.send(text));
    ipc_main.all_web_contents()[0].send("x", ("text",)).unwrap();
    assert_eq!(next(&hears, "the message"), "text");
    assert_eq!(next(&reports, "the first report"), ("x".to_string(), ErrorKind::BadArguments));
    assert_eq!(next(&reports, "the second report"), ("x".to_string(), ErrorKind::HandlerPanicked));
}

#[test]
fn extra_arguments_are_ignored_and_missing_ones_are_null_as_in_javascript() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("x", |_, (a, b): (i64, Option<String>)| Ok((a, b))).unwrap();
    ipc_main.handle("none", |_, ()| Ok(())).unwrap();
    ipc_main.handle("args", |_, args: Args| Ok((args.len(), args.to_values()))).unwrap();
    type Pair = (i64, Option<String>);
    assert_eq!(invoke::<Pair>(&ipc_renderer, "x", (1,)).unwrap(), (1, None));
    assert_eq!(invoke::<Pair>(&ipc_renderer, "x", (1, ())).unwrap(), (1, None));
    assert_eq!(invoke::<Pair>(&ipc_renderer, "x", (1, "b", [3], json!({ "d": 4 }))).unwrap(), (1, Some("b".into())));
    invoke::<()>(&ipc_renderer, "none", (1, 2, 3)).unwrap();
    let count = |args: Args| invoke::<(usize, Vec<Value>)>(&ipc_renderer, "args", args).unwrap();
    assert_eq!(count(Args::default()), (0, vec![]));
    assert_eq!(count(Args::new((1, "b", Option::<u8>::None)).unwrap()), (3, vec![json!(1), json!("b"), json!(null)]));
}

#[test]
fn every_form_of_argument_list_arrives_as_the_same_list() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("args", |_, args: Args| Ok(args.to_values())).unwrap();
    let list = [json!(1), json!(2), json!(3)];
    let args = Args::new((1, 2, 3)).unwrap();
    let calls = [
        ipc_renderer.invoke::<Vec<Value>>("args", (1, 2u64, 3i8)),
        ipc_renderer.invoke("args", [1, 2, 3]),
        ipc_renderer.invoke("args", &[1, 2, 3][..]),
        ipc_renderer.invoke("args", vec![1, 2, 3]),
        ipc_renderer.invoke("args", &args),
        ipc_renderer.invoke("args", args.clone()),
        ipc_renderer.invoke("args", &list[..]),
    ];
    for call in calls {
        assert_eq!(call.timeout(PATIENCE).wait().unwrap(), list);
    }
    let twelve = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
    assert_eq!(invoke::<Vec<i64>>(&ipc_renderer, "args", twelve).unwrap(), (1..=12).collect::<Vec<_>>());
    assert!(invoke::<Vec<Value>>(&ipc_renderer, "args", ()).unwrap().is_empty());
}

#[test]
fn a_reply_of_another_type_than_asked_for_is_bad_reply_and_the_link_goes_on() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("text", |_, ()| Ok(json!({ "list": [1, "x"] }))).unwrap();
    #[derive(Debug, Deserialize)]
    struct List {
        #[allow(dead_code)]
        list: Vec<i64>,
    }
    let error = invoke::<List>(&ipc_renderer, "text", ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadReply);
    let text = error.to_string();
    assert!(
        text.contains("'text'") && text.ends_with(r#"value.list[1]: invalid type: string "x", expected i64"#),
        "{text}"
    );
    assert!(std::error::Error::source(&error).is_some());
    assert!(ipc_renderer.is_connected());
    assert_eq!(invoke::<Value>(&ipc_renderer, "text", ()).unwrap(), json!({ "list": [1, "x"] }));
}

// ---- values -----------------------------------------------------------------------------------------------------

#[derive(Clone)]
struct Bytes;

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&[1, 2, 3])
    }
}

#[derive(Clone)]
struct Picky;

impl Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("I do not travel"))
    }
}

#[derive(Clone, Serialize)]
struct Gain<T> {
    gain: T,
}

/// So many arrays, one in another.
fn deep(levels: usize) -> Value {
    (1..levels).fold(json!([]), |inner, _| json!([inner]))
}

/// A value that cannot travel, sent in each of the ways there are; each names the place.
#[track_caller]
fn refused<T: Serialize + Clone + Send + Sync + 'static>(value: T, path: &str, what: &str) {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let text = format!("args[1]{path}: {what}");
    let check = |way: &str, error: ringmain::Error| {
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::InvalidValue, text.clone()), "{way}");
        assert!(error.is_misuse());
        assert!(std::error::Error::source(&error).is_some());
    };
    check("send", ipc_renderer.send("x", (0, &value)).unwrap_err());
    check("send_sync", send_sync::<()>(&ipc_renderer, "x", (0, &value)).unwrap_err());
    check("wait", ipc_renderer.invoke::<()>("x", (0, &value)).wait().unwrap_err());
    check("await", futures::executor::block_on(ipc_renderer.invoke::<()>("x", (0, &value))).unwrap_err());
    check("web_contents.send", web_contents.send("x", (0, &value)).unwrap_err());
    check("web_contents.send_timeout", web_contents.send_timeout("x", (0, &value), PATIENCE).unwrap_err());
    assert_eq!((ipc_renderer.stats().messages_sent, ipc_renderer.stats().pending_calls), (0, 0), "nothing was sent");
    assert_eq!(Args::new((0, &value)).unwrap_err().to_string(), text);

    let result = value.clone();
    ipc_main.handle("result", move |_, ()| Ok((0, result.clone()))).unwrap();
    ipc_main.handle_async("async result", move |_, ()| std::future::ready(Ok((0, value.clone())))).unwrap();
    for channel in ["result", "async result"] {
        let error = invoke::<Value>(&ipc_renderer, channel, ()).unwrap_err();
        let text = format!("the handler's result cannot be sent: value[1]{path}: {what}");
        assert_eq!((error.kind(), error.remote_message()), (ErrorKind::Handler, Some(&text[..])));
    }
}

#[test]
fn case_130_what_cannot_travel_is_refused_at_the_sender_with_its_path_and_by_invoke_in_its_future() {
    refused(f64::NAN, "", "NaN is not a JSON number");
    refused(Gain { gain: f64::INFINITY }, ".gain", "inf is not a JSON number");
    refused([Gain { gain: Some(f32::NEG_INFINITY) }], "[0].gain", "-inf is not a JSON number");
    let bytes = "a byte string of 3 bytes is not JSON (send an array of numbers or text)";
    refused(BTreeMap::from([("a b", Bytes)]), "[\"a b\"]", bytes);
    refused(u128::MAX, "", "340282366920938463463374607431768211455 is beyond 64-bit integers (send it as text)");
    refused(i128::MIN, "", "-170141183460469231731687303715884105728 is beyond 64-bit integers (send it as text)");
    let key = "a map key is an array, not text, a number, a boolean or a unit variant";
    refused(BTreeMap::from([((1, 2), 3)]), "", key);
    refused(Picky, "", "I do not travel");
    // The argument list is the first of 128 levels.
    refused(deep(128), &"[0]".repeat(127), "nested deeper than 128 levels");
}

#[test]
fn limits_of_depth_count_and_size_are_exact() {
    let (ipc_main, ipc_renderer) = pair_of(support::builder().max_values(200).max_message_size(1 << 20));
    ipc_main.handle("echo", |_, (value,): (Value,)| Ok(value)).unwrap();
    let echo = |value: &Value| invoke::<Value>(&ipc_renderer, "echo", (value,));
    assert_eq!(echo(&deep(127)).unwrap(), deep(127));
    let kind = |value: &Value| echo(value).unwrap_err().kind();
    assert_eq!(kind(&deep(128)), ErrorKind::InvalidValue);
    // The list and its one argument are values too.
    let values = |count: usize| Value::Array(vec![json!(1); count]);
    assert_eq!(echo(&values(198)).unwrap(), values(198));
    let error = echo(&values(199)).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::InvalidValue, "args[0][198]: more than 200 values".into())
    );
    let text = |len: usize| Value::String("x".repeat(len));
    // A header of 24 bytes, 4 of channel name, 1 for the list and 5 before the text.
    let most = (1 << 20) - 34;
    assert_eq!(echo(&text(most)).unwrap(), text(most));
    let error = echo(&text(most + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("1048576"), "{error}");
    let error = ipc_renderer.send(&"c".repeat(65_537), ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let (heard, hears) = channel();
    let name = "c".repeat(65_536);
    ipc_main.on(&name, move |_, ()| heard.send(()));
    ipc_renderer.send(&name, ()).unwrap();
    next(&hears, "the message on a long channel");
}

#[test]
fn a_result_that_is_too_large_or_too_deep_fails_its_call_alone() {
    let (ipc_main, ipc_renderer) = pair_of(support::builder().max_message_size(1 << 16));
    ipc_main.handle("large", |_, ()| Ok("x".repeat(1 << 16))).unwrap();
    ipc_main.handle("deep", |_, ()| Ok(deep(129))).unwrap();
    ipc_main.on("large", |event, ()| {
        assert_eq!(event.set_return_value("x".repeat(1 << 16)).unwrap_err().kind(), ErrorKind::TooLarge);
        event.set_return_value("small")
    });
    for (channel, what) in [("large", "65536 bytes"), ("deep", "nested deeper than 128 levels")] {
        let error = invoke::<Value>(&ipc_renderer, channel, ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Handler);
        let text = error.remote_message().unwrap();
        assert!(text.starts_with("the handler's result cannot be sent: ") && text.contains(what), "{text}");
    }
    assert_eq!(send_sync::<String>(&ipc_renderer, "large", ()).unwrap(), "small");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    New(i32),
    Tuple(u8, String),
    Struct { x: f64, y: Option<f32> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Everything {
    unit: (),
    flag: bool,
    letter: char,
    least: i64,
    most: u64,
    small: i8,
    tiny: f32,
    zero: f64,
    text: String,
    some: Option<u8>,
    none: Option<u8>,
    bytes: Vec<u8>,
    by_number: BTreeMap<i32, bool>,
    by_letter: BTreeMap<char, ()>,
    by_flag: BTreeMap<bool, Vec<Shape>>,
    shapes: Vec<Shape>,
    tuple: (i64, String, [u16; 3]),
    dynamic: Value,
    address: std::net::IpAddr,
}

fn everything() -> Everything {
    let shapes = vec![
        Shape::Unit,
        Shape::New(-7),
        Shape::Tuple(255, "t".into()),
        Shape::Struct { x: 1e300, y: Some(0.1) },
        Shape::Struct { x: -1.5, y: None },
    ];
    Everything {
        unit: (),
        flag: true,
        letter: '🦀',
        least: i64::MIN,
        most: u64::MAX,
        small: -128,
        tiny: f32::MIN_POSITIVE,
        zero: -0.0,
        text: "nul \0, ümlaut, 漢字, \u{10FFFF}".into(),
        some: Some(0),
        none: None,
        bytes: (0..=255).collect(),
        by_number: BTreeMap::from([(-1, true), (i32::MAX, false)]),
        by_letter: BTreeMap::from([('ß', ())]),
        by_flag: BTreeMap::from([(true, shapes.clone()), (false, vec![])]),
        shapes,
        tuple: (1, String::new(), [0, 1, 65_535]),
        dynamic: json!({ "a": [null, 1.5, -3, { "": "" }], "id": 18_446_744_073_709_551_615u64 }),
        address: "::1".parse().unwrap(),
    }
}

#[test]
fn case_048_typed_values_arrive_equal_and_as_serde_json_would_have_them() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("typed", |_, (value,): (Everything,)| Ok(value)).unwrap();
    ipc_main.handle("dynamic", |_, (value,): (Value,)| Ok(value)).unwrap();
    let (sent, as_json) = (everything(), serde_json::to_value(everything()).unwrap());
    for channel in ["typed", "dynamic"] {
        let back: Everything = invoke(&ipc_renderer, channel, (&sent,)).unwrap();
        assert_eq!(back, sent);
        assert!(back.zero.is_sign_negative());
        assert_eq!(invoke::<Value>(&ipc_renderer, channel, (&sent,)).unwrap(), as_json);
        assert_eq!(invoke::<Everything>(&ipc_renderer, channel, (&as_json,)).unwrap(), sent);
    }
}

#[test]
fn case_053_one_value_in_several_arguments_arrives_in_each() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("args", |_, args: Args| Ok(args.to_values())).unwrap();
    let child = json!({ "hello": "world" });
    let (foo, bar) = (json!({ "name": "foo", "child": &child }), json!({ "name": "bar", "child": &child }));
    let all = json!([&foo, &bar, { "child": &child }]);
    let back: Vec<Value> = invoke(&ipc_renderer, "args", (&foo, &bar, &child, &all)).unwrap();
    assert_eq!(back, [foo, bar, child, all]);
}

// ---- blocking waits ---------------------------------------------------------------------------------------------

#[test]
fn waits_inside_a_renderers_listener_work_while_other_messages_wait_their_turn_in_order() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let sender = web_contents.clone();
    ipc_main
        .handle("call", move |_, (from,): (i64,)| {
            (from..from + 5).try_for_each(|n| sender.send("n", (n,)))?;
            Ok(from)
        })
        .unwrap();
    let sender = web_contents.clone();
    ipc_main.on("ask", move |event, (from,): (i64,)| {
        (from..from + 5).for_each(|n| sender.send("n", (n,)).unwrap());
        event.set_return_value(from)
    });
    let (heard, hears) = channel();
    let (go, inner) = (heard.clone(), ipc_renderer.clone());
    ipc_renderer.on("n", move |_, (n,): (i64,)| heard.send(n));
    let gate = Gate::default();
    let held = gate.clone();
    ipc_renderer.on("go", move |_, ()| {
        held.wait();
        assert_eq!(invoke::<i64>(&inner, "call", (10,)).unwrap(), 10);
        assert_eq!(send_sync::<i64>(&inner, "ask", (15,)).unwrap(), 15);
        inner.flush(PATIENCE).unwrap();
        go.send(-1)
    });
    web_contents.send("go", ()).unwrap();
    gate.reached();
    (0..10).for_each(|n| web_contents.send("n", (n,)).unwrap());
    gate.open();
    let order: Vec<i64> = (0..21).map(|_| next(&hears, "a message")).collect();
    assert_eq!(order, (-1..20).collect::<Vec<_>>());
}

#[test]
fn waits_that_mains_dispatcher_would_have_to_serve_are_errors_and_not_hangs() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = ipc_main.all_web_contents().remove(0);
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let (done, is_done) = channel();
    let (inner, renderer) = (ipc_main.clone(), ipc_renderer.clone());
    ipc_main.on("go", move |event, ()| {
        let kinds = [
            event.sender().flush(PATIENCE),
            event.sender().send_timeout("x", (), PATIENCE),
            renderer.invoke::<i64>("add", (2, 3)).wait().map(drop),
            renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE).wait().map(drop),
            futures::executor::block_on(renderer.invoke::<i64>("add", (2, 3))).map(drop),
            renderer.send_sync::<i64>("ask", ()).map(drop),
            renderer.send_sync_timeout::<i64>("ask", (), PATIENCE).map(drop),
            renderer.flush(PATIENCE),
            renderer.send_timeout("x", (), PATIENCE),
        ]
        .map(|result| result.map_err(|error| (error.kind(), error.is_misuse(), error.to_string())));
        // What does not wait works, a new renderer and its end included.
        renderer.invoke::<i64>("add", (2, 3)).detach();
        let other = inner.attach().unwrap();
        other.send("x", ()).unwrap();
        drop(other);
        done.send(kinds).unwrap();
    });
    bounded("a listener of main that tries to wait", move || {
        ipc_renderer.send("go", ()).unwrap();
        for result in next(&is_done, "the results") {
            let (kind, is_misuse, text) = result.unwrap_err();
            assert_eq!((kind, is_misuse), (ErrorKind::WouldDeadlock, true));
            assert!(text.contains("main's dispatcher"), "{text}");
        }
        // Main goes on, and what was refused is not pending.
        assert_eq!(invoke::<i64>(&ipc_renderer, "add", (2, 3)).unwrap(), 5);
        assert_eq!(ipc_renderer.stats().pending_calls, 0);
        web_contents.flush(PATIENCE).unwrap();
        drop((ipc_main, ipc_renderer));
    });
}

#[test]
fn an_await_that_blocks_a_renderers_dispatcher_is_an_error_and_not_a_hang() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let (done, is_done) = channel();
    let inner = ipc_renderer.clone();
    ipc_renderer.on("go", move |_, ()| {
        let error = futures::executor::block_on(inner.invoke::<i64>("add", (2, 3))).unwrap_err();
        done.send((error.kind(), error.to_string(), invoke::<i64>(&inner, "add", (2, 3)).unwrap())).unwrap();
    });
    let (kind, text, sum) = bounded("a listener of a renderer that awaits", move || {
        ipc_main.all_web_contents()[0].send("go", ()).unwrap();
        let results = next(&is_done, "the results");
        drop((ipc_main, ipc_renderer));
        results
    });
    assert_eq!((kind, sum), (ErrorKind::WouldDeadlock, 5));
    assert!(text.contains("wait()"), "{text}");
}

#[test]
fn a_listener_of_one_main_may_wait_for_another_main() {
    let (ipc_main, ipc_renderer) = pair();
    let (other_main, other_renderer) = pair();
    other_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_main
        .handle("add", move |_, args: Args| {
            let waited = invoke::<i64>(&other_renderer, "add", &args)?;
            Ok(waited + futures::executor::block_on(other_renderer.invoke::<i64>("add", args).timeout(PATIENCE))?)
        })
        .unwrap();
    assert_eq!(invoke::<i64>(&ipc_renderer, "add", (2, 3)).unwrap(), 10);
}

#[test]
fn an_async_handler_may_await_a_call_to_its_own_main() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let inner = ipc_renderer.clone();
    ipc_main
        .handle_async("twice", move |_, args: Args| {
            let inner = inner.clone();
            async move {
                let sum = inner.invoke::<i64>("add", &args).await?;
                Ok(inner.invoke::<i64>("add", (sum, sum)).timeout(PATIENCE).await?)
            }
        })
        .unwrap();
    assert_eq!(invoke::<i64>(&ipc_renderer, "twice", (2, 3)).unwrap(), 10);
}

#[test]
fn an_attached_renderer_may_come_and_go_inside_a_listener_of_main() {
    let (ipc_main, ipc_renderer) = pair();
    let (gone, is_gone) = channel();
    ipc_main.on_renderer_gone(move |web_contents, reason| gone.send((web_contents.id(), reason.to_string())).unwrap());
    let (heard, hears) = channel();
    ipc_main.on("hello", move |event, ()| heard.send(event.sender().id()));
    let inner = ipc_main.clone();
    ipc_main.on("go", move |_, ()| {
        let short = inner.attach().unwrap();
        short.send("hello", ()).unwrap();
        assert!(short.is_connected());
    });
    ipc_renderer.send("go", ()).unwrap();
    assert_eq!(next(&hears, "its message"), 2);
    assert_eq!(next(&is_gone, "its end"), (2, "the link was closed".to_string()));
}

// ---- channels and peers -----------------------------------------------------------------------------------------

#[test]
fn a_message_on_the_channel_error_or_on_any_channel_without_listener_is_ignored() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("sum", |_, ()| Ok(1)).unwrap();
    for channel in ["error", "newListener", "removeListener", "", "nobody"] {
        ipc_renderer.send(channel, ("boom",)).unwrap();
        ipc_main.all_web_contents()[0].send(channel, ("boom",)).unwrap();
    }
    assert_eq!(invoke::<i64>(&ipc_renderer, "sum", ()).unwrap(), 1);
    let (heard, hears) = channel();
    ipc_main.on("error", move |_, (text,): (String,)| heard.send(text));
    ipc_renderer.send("error", ("boom",)).unwrap();
    assert_eq!(next(&hears, "the message"), "boom");
}

#[test]
fn case_067_and_109_any_text_is_a_channel() {
    let (ipc_main, ipc_renderer) = pair();
    let names = ["__proto__", "toString", "constructor", "", " ", "näme 漢字", "a\0b", "\u{1F980}", "reply"];
    let (heard, hears) = channel();
    for (index, name) in names.iter().enumerate() {
        let heard = heard.clone();
        ipc_main.on(name, move |_, (n,): (usize,)| heard.send((index, n)));
        ipc_main.handle(name, move |_, ()| Ok(index)).unwrap();
    }
    assert_eq!(ipc_main.event_names(), names);
    for (index, name) in names.iter().enumerate() {
        ipc_renderer.send(name, (index,)).unwrap();
        assert_eq!(next(&hears, "the message"), (index, index));
        assert_eq!(invoke::<usize>(&ipc_renderer, name, ()).unwrap(), index);
    }
}

#[test]
fn case_128_sender_ids_are_the_webcontents_in_main_and_zero_from_main() {
    let ipc_main = support::ipc_main();
    let renderers = [(); 3].map(|()| ipc_main.attach().unwrap());
    let (heard, hears) = channel();
    ipc_main.on("who", move |event, ()| heard.send((event.sender().id(), event.process_id(), event.frame_id())));
    let (told, tells) = channel();
    for ipc_renderer in &renderers {
        ipc_renderer.send("who", ()).unwrap();
        assert_eq!(next(&hears, "the message"), (ipc_renderer.id(), std::process::id(), 1));
        let (told, id) = (told.clone(), ipc_renderer.id());
        ipc_renderer.on("you", move |event, ()| told.send((id, event.sender_id())));
        ipc_main.web_contents(id).unwrap().send("you", ()).unwrap();
        assert_eq!(next(&tells, "the answer"), (id, 0));
    }
    assert_eq!(renderers.each_ref().map(IpcRenderer::id), [1, 2, 3]);
    assert_eq!(ipc_main.all_web_contents().iter().map(ringmain::WebContents::id).collect::<Vec<_>>(), [1, 2, 3]);
    // 71: an id that names nobody.
    assert!(ipc_main.web_contents(4).is_none() && ipc_main.web_contents(0).is_none());
}

#[test]
fn a_reply_goes_to_the_renderer_that_sent_the_message_and_one_from_a_renderer_to_main() {
    let ipc_main = support::ipc_main();
    let renderers = [(); 2].map(|()| ipc_main.attach().unwrap());
    ipc_main.on("ping", |event, (n,): (u32,)| event.reply("pong", (n,)));
    let (last, lasts) = channel();
    ipc_main.on("last", move |event, (n,): (u32,)| last.send((event.sender().id(), n)));
    for ipc_renderer in &renderers {
        ipc_renderer.on("pong", |event, (n,): (u32,)| event.reply("last", (n + 1,)));
    }
    for ipc_renderer in renderers.iter().rev() {
        ipc_renderer.send("ping", (10 * ipc_renderer.id(),)).unwrap();
        assert_eq!(next(&lasts, "the reply to the reply"), (ipc_renderer.id(), 10 * ipc_renderer.id() + 1));
    }
}

#[test]
fn case_072_what_is_sent_before_a_renderer_has_connected_waits_for_it_in_order() {
    let ipc_main = support::ipc_main();
    let (back, backs) = channel();
    ipc_main.on("back", move |_, (n, _): (u32, String)| back.send(n));
    let child = spawn(&ipc_main, "echoer");
    let large = "x".repeat(200_000);
    for n in 0..20u32 {
        child.send("echo", (n, if n == 5 { &large[..] } else { "" })).unwrap();
    }
    assert_eq!((0..20).map(|_| next(&backs, "the echo")).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
}

#[test]
fn case_058_a_handle_whose_link_is_closed_says_so() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("x", |_, ()| Ok(1)).unwrap();
    let (gone, is_gone) = channel();
    ipc_renderer.on_disconnected(move |reason| gone.send(reason.to_string()).unwrap());
    ipc_renderer.close(PATIENCE).unwrap();
    ipc_renderer.close(PATIENCE).unwrap();
    assert_eq!(next(&is_gone, "the end"), "the link was closed");
    let errors = [
        ipc_renderer.send("x", ()).unwrap_err(),
        ipc_renderer.send_timeout("x", (), PATIENCE).unwrap_err(),
        ipc_renderer.flush(PATIENCE).unwrap_err(),
        ipc_renderer.invoke::<i64>("x", ()).wait().unwrap_err(),
        futures::executor::block_on(ipc_renderer.invoke::<i64>("x", ())).unwrap_err(),
        ipc_renderer.send_sync::<i64>("x", ()).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Disconnected, "main is gone: the link was closed".into())
        );
    }
    assert!(!ipc_renderer.is_connected());
    assert!(ipc_renderer.gone_reason().is_some());
}

#[test]
fn a_process_that_nobody_spawned_is_no_renderer() {
    let mut command: Command = child("mute");
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let output = bounded("a child that nobody serves", move || command.output().unwrap());
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("NotARenderer"), "{text}");
}
