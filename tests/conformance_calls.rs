//! `invoke`, `handle`, `sendSync` and `returnValue` as Electron has them, between two processes.
#![allow(missing_docs)]

mod support;

use futures::channel::oneshot;
use ringmain::{ErrorKind, HandlerError, IpcMain, IpcMainEvent, IpcMainInvokeEvent};
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use support::{Failure, PATIENCE, Puppet, ipc_main, next, until, with_puppet};

#[test]
fn children() {
    support::play(&[("puppet", support::puppet)]);
}

/// The failure of a call on `channel` that says no more than `what` behind Electron's prefix.
fn plain(kind: &str, channel: &str, what: &str) -> Failure {
    Failure {
        kind: kind.to_string(),
        text: format!("Error invoking remote method '{channel}': {what}"),
        name: None,
        code: None,
        data: Value::Null,
    }
}

fn no_handler(channel: &str) -> Failure {
    plain("NoHandler", channel, &format!("No handler registered for '{channel}'"))
}

/// A handler that answers when it is told to: what has started, with what lets it end.
fn later(ipc_main: &IpcMain, channel_name: &str) -> Receiver<(IpcMainInvokeEvent, oneshot::Sender<i64>)> {
    let (start, starts) = channel();
    ipc_main
        .handle_async(channel_name, move |event, ()| {
            let (go, goes) = oneshot::channel::<i64>();
            start.send((event, go)).unwrap();
            async move { Ok(goes.await?) }
        })
        .unwrap();
    starts
}

// ---- invoke and handle ------------------------------------------------------------------------------------------

#[test]
fn case_001_a_handler_sees_the_arguments_and_its_caller_and_the_value_comes_back() {
    let (ipc_main, mut puppet) = with_puppet();
    let (id, pid) = (puppet.id(), puppet.process().id());
    ipc_main
        .handle("test", move |event, (n,): (i64,)| {
            assert_eq!((n, event.sender().id(), event.frame_id(), event.process_id()), (123, id, 1, pid));
            Ok(3)
        })
        .unwrap();
    ipc_main.handle("nothing", |_, ()| Ok(())).unwrap();
    assert_eq!(puppet.invoke_main(1, "test", json!([123])), Ok(json!(3)));
    assert_eq!(puppet.invoke_main(1, "nothing", json!([])), Ok(Value::Null));
}

#[test]
fn case_002_a_handler_may_answer_later() {
    let (ipc_main, mut puppet) = with_puppet();
    let starts = later(&ipc_main, "test");
    let call = puppet.begin(1, "test", json!([]));
    let (event, go) = next(&starts, "the start of the handler");
    assert!(!event.is_cancelled());
    go.send(3).unwrap();
    assert_eq!(puppet.wait(call), Ok(json!(3)));
}

#[test]
fn case_003_and_004_the_text_of_a_handlers_error_reaches_the_caller_at_once_or_later() {
    let (ipc_main, mut puppet) = with_puppet();
    ipc_main.handle("now", |_, ()| Err::<(), _>(HandlerError::new("some error"))).unwrap();
    ipc_main.handle_async("later", |_, ()| async { Err::<(), _>(HandlerError::new("some error")) }).unwrap();
    for channel in ["now", "later"] {
        let failure = puppet.invoke_main(1, channel, json!([])).unwrap_err();
        assert_eq!(*failure, plain("Handler", channel, "some error"));
    }
}

#[test]
fn case_005_and_006_without_a_handler_or_after_its_removal_a_call_fails_and_names_the_channel() {
    let (ipc_main, mut puppet) = with_puppet();
    assert_eq!(*puppet.invoke_main(1, "never", json!([])).unwrap_err(), no_handler("never"));
    ipc_main.handle("test", |_, ()| Ok(1)).unwrap();
    assert_eq!(puppet.invoke_main(1, "test", json!([])), Ok(json!(1)));
    ipc_main.remove_handler("test");
    assert_eq!(*puppet.invoke_main(1, "test", json!([])).unwrap_err(), no_handler("test"));
}

#[test]
fn case_007_a_second_handler_is_refused_and_the_first_one_goes_on() {
    let (ipc_main, mut puppet) = with_puppet();
    ipc_main.handle("test", |_, ()| Ok(1)).unwrap();
    let refused = ipc_main.handle("test", |_, ()| Ok(2)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DuplicateHandler);
    assert_eq!(refused.to_string(), "Attempted to register a second handler for 'test'");
    assert_eq!(puppet.invoke_main(1, "test", json!([])), Ok(json!(1)));
}

#[test]
fn case_008_a_one_shot_handler_serves_one_call() {
    let (ipc_main, mut puppet) = with_puppet();
    ipc_main.handle_once("test", |_, ()| Ok(1)).unwrap();
    let two = [("invoke", "test", json!([])), ("invoke", "test", json!([]))];
    assert_eq!(puppet.burst(1, &two), [Ok(json!(1)), Err(Box::new(no_handler("test")))]);
    ipc_main.handle_once("test", |_, ()| Ok(2)).unwrap();
    assert_eq!(puppet.invoke_main(1, "test", json!([])), Ok(json!(2)));
}

#[test]
fn case_009_a_call_whose_reply_is_dropped_fails_at_once() {
    let ipc_main = support::builder().executor(drop).build().unwrap();
    let mut puppet = Puppet::spawn(&ipc_main);
    ipc_main.handle_async("test", |_, ()| async { Ok(1) }).unwrap();
    let failure = puppet.invoke_main(1, "test", json!([])).unwrap_err();
    assert_eq!(*failure, plain("ReplyNeverSent", "test", "reply was never sent"));
}

#[test]
fn case_014_calls_that_nobody_awaits_and_messages_are_served_in_the_order_sent() {
    let (ipc_main, mut puppet) = with_puppet();
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let (by_send, by_sync, by_invoke, by_await) = (arrived.clone(), arrived.clone(), arrived.clone(), arrived.clone());
    ipc_main.on("send", move |_, (n,): (i64,)| by_send.lock().unwrap().push(n));
    ipc_main.on("sync", move |event: &IpcMainEvent, (n,): (i64,)| {
        let mut arrived = by_sync.lock().unwrap();
        arrived.push(n);
        event.set_return_value(arrived.len())
    });
    ipc_main
        .handle("invoke", move |_, (n,): (i64,)| {
            let mut arrived = by_invoke.lock().unwrap();
            arrived.push(n);
            Ok(arrived.len())
        })
        .unwrap();
    ipc_main
        .handle_async("await", move |_, (n,): (i64,)| {
            let mut arrived = by_await.lock().unwrap();
            arrived.push(n);
            let count = arrived.len();
            async move { Ok(count) }
        })
        .unwrap();
    let ways =
        [("invoke", "invoke"), ("send", "send"), ("invoke", "await"), ("send_sync", "sync"), ("invoke", "invoke")];
    let steps: Vec<_> = (0..500).map(|n| (ways[n % 5].0, ways[n % 5].1, json!([n]))).collect();
    let answers = puppet.burst(1, &steps);
    assert!(arrived.lock().unwrap().iter().copied().eq(0..500));
    for (n, answer) in answers.into_iter().enumerate() {
        let expected = if n % 5 == 1 { Value::Null } else { json!(n + 1) };
        assert_eq!(answer, Ok(expected), "the answer of message {n}");
    }
}

#[test]
fn handlers_start_in_the_order_of_arrival_and_answer_in_the_order_of_completion() {
    let (ipc_main, mut puppet) = with_puppet();
    let starts = later(&ipc_main, "later");
    ipc_main.handle("now", |_, ()| Ok(0)).unwrap();
    let [first, second] = [(); 2].map(|()| puppet.begin(1, "later", json!([])));
    let [(_first, go_first), (_second, go_second)] = [(); 2].map(|()| next(&starts, "a start"));
    // What comes after them is not held up by them.
    assert_eq!(puppet.invoke_main(1, "now", json!([])), Ok(json!(0)));
    go_second.send(2).unwrap();
    assert_eq!(puppet.wait(second), Ok(json!(2)));
    go_first.send(1).unwrap();
    assert_eq!(puppet.wait(first), Ok(json!(1)));
}

#[test]
fn case_115_send_reaches_the_listener_alone_and_invoke_the_handler_alone() {
    let (ipc_main, mut puppet) = with_puppet();
    let (heard, hears) = channel();
    let handled = heard.clone();
    ipc_main.on("x", move |_, (n,): (i64,)| heard.send(("on", n)));
    ipc_main
        .handle("x", move |_, (n,): (i64,)| {
            handled.send(("handle", n))?;
            Ok(())
        })
        .unwrap();
    puppet.send(1, "x", json!([1])).unwrap();
    puppet.invoke_main(1, "x", json!([2])).unwrap();
    puppet.invoke_main(1, "x", json!([3])).unwrap();
    assert_eq!(hears.try_iter().collect::<Vec<_>>(), [("on", 1), ("handle", 2), ("handle", 3)]);
}

#[test]
fn case_116_clearing_all_listeners_leaves_the_handlers() {
    let (ipc_main, mut puppet) = with_puppet();
    ipc_main.on("x", |event: &IpcMainEvent, ()| event.set_return_value(1));
    ipc_main.handle("x", |_, ()| Ok(2)).unwrap();
    assert_eq!(puppet.send_sync(1, "x", json!([])), Ok(json!(1)));
    ipc_main.remove_all_listeners(None);
    assert_eq!(puppet.send_sync(1, "x", json!([])).unwrap_err().kind, "NoListener");
    assert_eq!(puppet.invoke_main(1, "x", json!([])), Ok(json!(2)));
}

#[test]
fn case_119_a_call_that_runs_when_its_handler_is_removed_is_answered() {
    let (ipc_main, mut puppet) = with_puppet();
    let starts = later(&ipc_main, "test");
    let call = puppet.begin(1, "test", json!([]));
    let (_event, go) = next(&starts, "the start of the handler");
    assert!(ipc_main.remove_handler("test"));
    assert_eq!(*puppet.invoke_main(1, "test", json!([])).unwrap_err(), no_handler("test"));
    go.send(7).unwrap();
    assert_eq!(puppet.wait(call), Ok(json!(7)));
}

#[test]
fn case_120_the_error_reads_as_in_electron_and_its_fields_survive() {
    let (ipc_main, mut puppet) = with_puppet();
    let data = json!({"field": "gain", "limits": [0, 1.5]});
    let error = HandlerError::new("bad gain").with_name("TypeError").with_code("EGAIN").with_data(data.clone());
    ipc_main.handle("gain", move |_, ()| Err::<(), _>(error.clone())).unwrap();
    let failure = *puppet.invoke_main(1, "gain", json!([])).unwrap_err();
    let text = "TypeError: bad gain";
    let (name, code) = (Some("TypeError".to_string()), Some("EGAIN".to_string()));
    assert_eq!(failure, Failure { name, code, data, ..plain("Handler", "gain", text) });
}

#[test]
fn a_result_that_cannot_travel_fails_its_call_alone() {
    let (ipc_main, mut puppet) = with_puppet();
    ipc_main.handle("bad", |_, ()| Ok([f64::NAN])).unwrap();
    ipc_main.handle("good", |_, ()| Ok(1)).unwrap();
    let failure = puppet.invoke_main(1, "bad", json!([])).unwrap_err();
    let text = "the handler's result cannot be sent: value[0]: NaN is not a JSON number";
    assert_eq!(*failure, plain("Handler", "bad", text));
    assert_eq!(puppet.invoke_main(1, "good", json!([])), Ok(json!(1)));
}

#[test]
fn a_caller_in_another_process_that_goes_away_is_seen_by_its_handler() {
    let (ipc_main, mut puppet) = with_puppet();
    let starts = later(&ipc_main, "test");
    let call = puppet.begin(1, "test", json!([]));
    let (cancelled, _go) = next(&starts, "the start of the first handler");
    puppet.cancel(call);
    until("the first call is cancelled", || cancelled.is_cancelled());
    puppet.begin(1, "test", json!([]));
    let (killed, go) = next(&starts, "the start of the second handler");
    puppet.process().kill().unwrap();
    until("the second call is cancelled", || killed.is_cancelled());
    // Its future is dropped, or was told too late: nobody minds.
    let _ = go.send(1);
    drop((cancelled, killed));
    until("no request is open", || puppet.stats().open_requests == 0);
}

// ---- sendSync and returnValue -----------------------------------------------------------------------------------

#[test]
fn case_055_a_return_value_answers_a_synchronous_message() {
    let (ipc_main, mut puppet) = with_puppet();
    ipc_main.on("ask", |event: &IpcMainEvent, (n,): (i64,)| event.set_return_value((n, "two")));
    assert_eq!(puppet.send_sync(1, "ask", json!([1])), Ok(json!([1, "two"])));
}

#[test]
fn case_043_of_two_listeners_that_answer_the_first_one_counts_and_both_run() {
    let (ipc_main, mut puppet) = with_puppet();
    let (ran, runs) = channel();
    for n in [1, 2] {
        let ran = ran.clone();
        ipc_main.on("ask", move |event: &IpcMainEvent, ()| {
            event.set_return_value(n).unwrap();
            ran.send(n)
        });
    }
    for _ in 0..2 {
        assert_eq!(puppet.send_sync(1, "ask", json!([])), Ok(json!(1)));
        assert_eq!([next(&runs, "the first listener"), next(&runs, "the second listener")], [1, 2]);
    }
}

#[test]
fn case_123_a_synchronous_message_waits_for_a_return_value_that_comes_later() {
    let (ipc_main, mut puppet) = with_puppet();
    let (event, events) = channel::<IpcMainEvent>();
    ipc_main.on("ask", move |asked, ()| event.send(asked.clone()));
    ipc_main.handle("meanwhile", |_, ()| Ok(2)).unwrap();
    let call = puppet.begin(1, "meanwhile", json!([]));
    puppet.tell(json!({"do": "send_sync", "channel": "ask", "args": []}));
    let asked = next(&events, "the synchronous message");
    assert!(asked.is_synchronous());
    std::thread::spawn(move || asked.set_return_value("late").unwrap()).join().unwrap();
    assert_eq!(puppet.answer(), json!({"ok": "late"}));
    assert_eq!(puppet.wait(call), Ok(json!(2)));
}

#[test]
fn a_synchronous_message_that_nobody_answers_is_an_error_at_once() {
    let (ipc_main, mut puppet) = with_puppet();
    ipc_main.on("ignored", |_, ()| ());
    ipc_main.handle("handled", |_, ()| Ok(1)).unwrap();
    let table = [
        ("ignored", "ReplyNeverSent", "reply was never sent".to_string()),
        ("handled", "NoListener", "No listener registered for 'handled'".to_string()),
        ("nobody", "NoListener", "No listener registered for 'nobody'".to_string()),
    ];
    for (channel, kind, what) in table {
        let failure = puppet.send_sync(1, channel, json!([])).unwrap_err();
        let text = format!("Error sending synchronous message '{channel}': {what}");
        assert_eq!(*failure, Failure { text, ..plain(kind, channel, "") });
    }
}

#[test]
fn a_return_value_that_cannot_travel_is_the_listeners_error_who_may_set_another() {
    let (ipc_main, mut puppet) = with_puppet();
    ipc_main.on("ask", |event: &IpcMainEvent, ()| {
        let error = event.set_return_value(f64::INFINITY).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidValue);
        event.set_return_value("finite")
    });
    assert_eq!(puppet.send_sync(1, "ask", json!([])), Ok(json!("finite")));
}

#[test]
fn case_042_answering_a_synchronous_caller_that_is_being_destroyed_harms_nobody() {
    let ipc_main = ipc_main();
    ipc_main.on("ask", |event: &IpcMainEvent, ()| {
        event.sender().process().kill().unwrap();
        event.set_return_value("to the dying").unwrap();
    });
    let (gone, is_gone) = channel();
    ipc_main.on_renderer_gone(move |web_contents, _| gone.send(web_contents.id()).unwrap_or(()));
    let mut puppet = Puppet::spawn(&ipc_main);
    puppet.tell(json!({"do": "send_sync", "channel": "ask", "args": []}));
    assert_eq!(next(&is_gone, "the end of the renderer"), puppet.id());
    // Closed by main instead of killed.
    ipc_main.remove_all_listeners(None);
    ipc_main.on("ask", |event: &IpcMainEvent, ()| {
        event.sender().close(PATIENCE).unwrap();
        event.set_return_value("to the closed").unwrap();
    });
    let mut puppet = Puppet::spawn(&ipc_main);
    assert_eq!(puppet.send_sync(1, "ask", json!([])).unwrap_err().kind, "Disconnected");
    assert_eq!(next(&is_gone, "the second end"), puppet.id());
    // Main goes on.
    ipc_main.handle("test", |_, ()| Ok(1)).unwrap();
    assert_eq!(Puppet::spawn(&ipc_main).invoke_main(1, "test", json!([])), Ok(json!(1)));
}

// ---- starting and ending ----------------------------------------------------------------------------------------

#[test]
fn case_072_what_is_sent_to_a_renderer_that_is_starting_does_not_hold_it_up() {
    let ipc_main = ipc_main();
    ipc_main.handle("test", |_, ()| Ok(1)).unwrap();
    let mut puppet = Puppet::spawn_unconnected(&ipc_main);
    let large = "x".repeat(300_000);
    let web_contents = ipc_main.web_contents(puppet.id()).unwrap();
    for n in 0..50 {
        web_contents.send("early", (n, if n == 7 { &large[..] } else { "" })).unwrap();
    }
    assert!(!puppet.is_connected());
    puppet.connect();
    assert_eq!(puppet.invoke_main(1, "test", json!([])), Ok(json!(1)));
    // It has read all of it.
    puppet.barrier();
    assert_eq!(puppet.stats().queued_bytes, 0);
}

#[test]
fn case_125_a_reply_to_a_frame_or_renderer_that_is_gone_is_dropped_and_counted() {
    let (ipc_main, mut puppet) = with_puppet();
    let (report, reports) = channel();
    ipc_main.on_error(move |told| report.send((told.error.kind(), told.error.to_string())).unwrap());
    let (event, events) = channel::<IpcMainEvent>();
    ipc_main.on("x", move |got, ()| event.send(got.clone()));
    let frame = puppet.open_frame(1);
    let id = puppet.id();
    puppet.send(frame, "x", json!([])).unwrap();
    let event = next(&events, "the frame's message");
    puppet.close_frame(frame);
    until("main knows of the end of the frame", || event.sender_frame().is_detached());
    event.reply("y", (1,)).unwrap();
    let dropped = |frame: u64| {
        (ErrorKind::Undeliverable, format!("a reply to frame {frame} of renderer {id} was dropped: it is gone"))
    };
    assert_eq!(next(&reports, "the report of the frame"), dropped(frame));
    assert_eq!(puppet.stats().undeliverable, 1);
    // The renderer itself.
    puppet.send(1, "x", json!([])).unwrap();
    let event = next(&events, "the renderer's message");
    puppet.process().kill().unwrap();
    until("the end of the renderer", || event.sender().gone_reason().is_some());
    event.reply("y", (1,)).unwrap();
    assert_eq!(next(&reports, "the report of the renderer"), dropped(1));
    assert_eq!(puppet.stats().undeliverable, 2);
}
