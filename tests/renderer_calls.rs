//! Main calls renderers: handlers at the other end of the link, which may be slow, gone, or not there yet.
#![allow(missing_docs)]

mod support;

use futures::executor::block_on;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use ringmain::{ErrorKind, Invoke, IpcRendererInvokeEvent};
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::{Gate, PATIENCE, Puppet, bounded, ipc_main, next, pair, pair_of, until, with_puppet};

/// For calls that are never answered.
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn children() {
    support::play(&[("puppet", support::puppet)]);
}

fn call(puppet: &Puppet, channel: &str, args: Value) -> Invoke<Value> {
    puppet.invoke(channel, args.as_array().unwrap().as_slice(), PATIENCE)
}

// ---- answers ----------------------------------------------------------------------------------------------------

#[test]
fn a_renderers_handlers_answer_main_by_every_way_of_registering_and_of_waiting() {
    let (_ipc_main, mut puppet) = with_puppet();
    for (channel, how) in [("sync", "echo"), ("async", "later"), ("once", "once"), ("once async", "once async")] {
        puppet.handle(1, channel, how).unwrap();
    }
    assert_eq!(call(&puppet, "sync", json!([1, "two"])).wait().unwrap(), json!([1, "two"]));
    assert_eq!(block_on(call(&puppet, "sync", json!([3]))).unwrap(), json!([3]));
    let answer = call(&puppet, "async", json!([4]));
    let started = puppet.started();
    puppet.release(started);
    assert_eq!(answer.wait().unwrap(), json!([4]));
    for channel in ["once", "once async"] {
        assert_eq!(call(&puppet, channel, json!([5])).wait().unwrap(), json!([5]), "{channel}");
        let error = call(&puppet, channel, json!([6])).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoHandler, "{channel}");
    }
    let stats = puppet.stats();
    assert_eq!((stats.pending_calls, stats.late_replies), (0, 0));
}

#[test]
fn each_frame_has_handlers_of_its_own_and_the_answer_is_that_of_the_frame_called() {
    let (_ipc_main, mut puppet) = with_puppet();
    let frame = puppet.open_frame(1);
    puppet.handle(1, "main frame", "echo").unwrap();
    puppet.handle(frame, "frame", "echo").unwrap();
    puppet.barrier_of_main(); // it knows that the frame is open
    let frame = puppet.frame(frame as u32).expect("an open frame");
    let main_frame = puppet.main_frame();
    assert_eq!(frame.invoke::<Value>("frame", (1,), PATIENCE).wait().unwrap(), json!([1]));
    assert_eq!(main_frame.invoke::<Value>("main frame", (2,), PATIENCE).wait().unwrap(), json!([2]));
    for (wrong, channel) in [(&frame, "main frame"), (&main_frame, "frame")] {
        assert_eq!(wrong.invoke::<Value>(channel, (), PATIENCE).wait().unwrap_err().kind(), ErrorKind::NoHandler);
    }
}

#[test]
fn a_call_to_a_frame_that_is_closed_fails_at_once() {
    let (_ipc_main, mut puppet) = with_puppet();
    let id = puppet.open_frame(1);
    puppet.handle(id, "echo", "echo").unwrap();
    puppet.barrier_of_main();
    let frame = puppet.frame(id as u32).expect("an open frame");
    assert_eq!(frame.invoke::<Value>("echo", (1,), PATIENCE).wait().unwrap(), json!([1]));
    puppet.close_frame(id);
    until("the frame is detached", || frame.is_detached());
    let call = || frame.invoke::<Value>("echo", (2,), PATIENCE);
    for error in [call().wait().unwrap_err(), block_on(call()).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Disconnected);
    }
    assert!(puppet.frame(id as u32).is_none());
    assert_eq!(puppet.stats().pending_calls, 0);
    puppet.barrier();
}

#[test]
fn without_a_handler_a_call_of_main_fails_in_electrons_words_whatever_listens() {
    let (_ipc_main, mut puppet) = with_puppet();
    puppet.on(1, "x", None);
    let error = call(&puppet, "x", json!([])).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoHandler);
    assert_eq!(error.to_string(), "Error invoking remote method 'x': No handler registered for 'x'");
    assert_eq!(puppet.count_got(), 0, "a call is no message");
}

#[test]
fn a_renderers_handler_that_fails_keeps_name_code_and_data_on_the_way_to_main() {
    let (_ipc_main, mut puppet) = with_puppet();
    puppet.handle(1, "fail", "fail").unwrap();
    let error = block_on(call(&puppet, "fail", json!([]))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handler);
    assert!(error.is_remote());
    assert_eq!(error.to_string(), "Error invoking remote method 'fail': IoError: no such file");
    assert_eq!(error.remote_message(), Some("no such file"));
    assert_eq!((error.remote_name(), error.code()), (Some("IoError"), Some("ENOENT")));
    assert_eq!(error.data(), Some(&json!({"path": "/x"})));
}

#[test]
fn a_renderers_handler_that_panics_or_is_given_wrong_arguments_costs_main_an_error_and_it_goes_on() {
    let (_ipc_main, mut puppet) = with_puppet();
    puppet.handle(1, "panic", "panic").unwrap();
    puppet.handle(1, "double", "double").unwrap();
    let error = call(&puppet, "panic", json!([])).wait().unwrap_err();
    assert_eq!((error.kind(), error.remote_message()), (ErrorKind::HandlerPanicked, Some("puppets may fall")));
    let error = call(&puppet, "double", json!(["two"])).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadArguments);
    assert!(error.to_string().contains("args[0]"), "it names the argument: {error}");
    assert_eq!(puppet.invoke::<u32>("double", (4,), PATIENCE).wait().unwrap(), 8);
    let error = puppet.invoke::<String>("double", (4,), PATIENCE).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadReply);
    let error = puppet.invoke::<u32>("double", (f64::NAN,), PATIENCE).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidValue);
    assert_eq!(puppet.stats().pending_calls, 0);
}

// ---- no answer --------------------------------------------------------------------------------------------------

#[test]
fn a_renderer_that_never_answers_costs_a_timeout_and_no_slot_however_the_call_is_kept() {
    let (_ipc_main, mut puppet) = with_puppet();
    puppet.handle(1, "later", "later").unwrap();
    let timeout = |result: ringmain::Result<Value>, way: &str| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{way}");
        assert!(error.is_transient());
        assert_eq!(puppet.stats().pending_calls, 0, "{way}");
    };
    let args = [Value::Null; 0];
    timeout(puppet.invoke("later", &args[..], SHORT).wait(), "wait");
    timeout(block_on(puppet.invoke("later", &args[..], SHORT)), "await");
    let unpolled = puppet.invoke::<Value>("later", &args[..], SHORT);
    until("the slot of a call that nobody waits for is free", || puppet.stats().pending_calls == 0);
    timeout(unpolled.wait(), "wait when the time is over already");
    let unpolled = puppet.invoke::<Value>("later", &args[..], SHORT);
    until("the second slot is free", || puppet.stats().pending_calls == 0);
    timeout(block_on(unpolled), "await when the time is over already");
    // One whose time is over before it is polled ends at once: a longer time then.
    let mut time = SHORT;
    let polled = loop {
        assert!(time < PATIENCE);
        let mut polled = Box::pin(puppet.invoke::<Value>("later", &args[..], time));
        match polled.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => break polled,
            Poll::Ready(result) => timeout(result, "polled when the time is over already"),
        }
        time *= 2;
    };
    until("the third slot is free", || puppet.stats().pending_calls == 0);
    timeout(block_on(polled), "polled, left, then awaited");
    puppet.invoke::<Value>("later", &args[..], SHORT).detach();
    until("the slot of a detached call is free", || puppet.stats().pending_calls == 0);
    puppet.barrier();
}

#[test]
fn a_renderers_handler_sees_that_main_has_given_its_call_up() {
    let (ipc_main, ipc_renderer) = pair();
    let (start, starts) = channel::<IpcRendererInvokeEvent>();
    ipc_renderer
        .handle_async("later", move |event, ()| {
            start.send(event).unwrap();
            std::future::pending::<Result<(), ringmain::HandlerError>>()
        })
        .unwrap();
    let web_contents = ipc_main.all_web_contents().remove(0);
    ipc_renderer.handle("so far", |_, ()| Ok(())).unwrap();
    // One whose time is over before it has started is not started: a longer time then.
    let started = |give_up: &dyn Fn(Invoke<()>)| {
        let mut timeout = SHORT;
        loop {
            assert!(timeout < PATIENCE);
            give_up(web_contents.invoke("later", (), timeout));
            web_contents.invoke::<()>("so far", (), PATIENCE).wait().unwrap();
            if let Ok(event) = starts.try_recv() {
                return event;
            }
            timeout *= 2;
        }
    };
    let event = started(&|call| assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Timeout));
    assert!(event.is_cancelled());
    let event = started(&|call| {
        until("the slot of a call that nobody polls is free", || web_contents.stats().pending_calls == 0);
        drop(call);
    });
    assert!(event.is_cancelled());
    let dropped = web_contents.invoke::<()>("later", (), PATIENCE);
    let event = next(&starts, "the start of the call that is dropped");
    assert!(!event.is_cancelled());
    drop(dropped);
    until("its handler is told", || event.is_cancelled());
    web_contents.invoke::<()>("later", (), PATIENCE).detach();
    let event = next(&starts, "the start of the detached call");
    assert_eq!(web_contents.stats().pending_calls, 0);
    assert!(!event.is_cancelled(), "it runs unobserved");
    web_contents.close(PATIENCE).unwrap();
    until("the last handler is told", || event.is_cancelled());
}

#[test]
fn dropping_the_future_cancels_the_handler_in_the_other_process() {
    let (_ipc_main, mut puppet) = with_puppet();
    puppet.handle(1, "later", "later").unwrap();
    let waiting = call(&puppet, "later", json!([]));
    let started = puppet.started();
    assert!(!puppet.is_cancelled(started));
    drop(waiting);
    assert_eq!(puppet.stats().pending_calls, 0);
    puppet.barrier();
    assert!(puppet.is_cancelled(started));
}

#[test]
fn a_call_of_main_that_is_cancelled_before_it_has_started_is_not_started() {
    let (ipc_main, ipc_renderer) = pair();
    let (gate, ran) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (held, count) = (gate.clone(), ran.clone());
    ipc_renderer.on("hold", move |_, ()| held.wait());
    ipc_renderer.handle("count", move |_, ()| Ok(count.fetch_add(1, Ordering::SeqCst))).unwrap();
    let web_contents = ipc_main.all_web_contents().remove(0);
    web_contents.send("hold", ()).unwrap();
    gate.reached();
    (0..100).for_each(|_| drop(web_contents.invoke::<usize>("count", (), PATIENCE)));
    let wanted = web_contents.invoke::<usize>("count", (), PATIENCE);
    gate.open();
    assert_eq!(wanted.wait().unwrap(), 0);
    assert_eq!(ran.load(Ordering::SeqCst), 1);
}

#[test]
fn a_renderer_that_is_killed_disconnects_the_calls_to_it_at_once() {
    let (ipc_main, mut puppet) = with_puppet();
    puppet.handle(1, "later", "later").unwrap();
    let web_contents = ipc_main.web_contents(puppet.id()).unwrap();
    let calls = |n: usize| (0..n).map(|_| web_contents.invoke::<Value>("later", (), 20 * PATIENCE)).collect::<Vec<_>>();
    let (waited, awaited, unpolled) = (calls(3), calls(100), calls(3));
    (0..106).for_each(|n| assert_eq!(puppet.started(), n));
    let mut threads: Vec<_> =
        waited.into_iter().map(|call| std::thread::spawn(move || vec![call.wait().unwrap_err().kind()])).collect();
    threads.push(std::thread::spawn(move || {
        block_on(join_all(awaited)).into_iter().map(|lost| lost.unwrap_err().kind()).collect()
    }));
    puppet.process().kill().unwrap();
    let kinds = bounded("calls to a renderer that was killed", move || {
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(kinds, [ErrorKind::Disconnected; 103]);
    for call in unpolled {
        assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    }
    let late = puppet.invoke::<Value>("later", (), PATIENCE);
    assert_eq!(block_on(late).unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(puppet.stats().pending_calls, 0);
}

// ---- before it has connected ------------------------------------------------------------------------------------

#[test]
fn calls_of_main_wait_for_a_renderer_that_has_not_connected() {
    let ipc_main = ipc_main();
    let mut puppet = Puppet::spawn_unconnected(&ipc_main);
    let web_contents = ipc_main.web_contents(puppet.id()).unwrap();
    let early = |n: i64| web_contents.invoke::<Value>("nobody", (n,), PATIENCE);
    let waiting = std::thread::spawn({
        let call = early(1);
        move || call.wait()
    });
    let mut polled = Box::pin(early(2));
    assert!(polled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let unpolled = early(3);
    let detached = early(4);
    detached.detach();
    // Polled and dropped: nobody waits for it any more.
    let mut dropped = Box::pin(early(5));
    assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(dropped);
    let awaiting = std::thread::spawn({
        let call = early(6);
        move || block_on(call)
    });
    assert_eq!(web_contents.invoke::<Value>("nobody", (), SHORT).wait().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(block_on(web_contents.invoke::<Value>("nobody", (), SHORT)).unwrap_err().kind(), ErrorKind::Timeout);
    assert!(!puppet.is_connected());
    assert_eq!(puppet.stats().pending_calls, 4);
    puppet.connect();
    let results = bounded("calls that waited for the renderer", move || {
        [waiting.join().unwrap(), block_on(polled), unpolled.wait(), awaiting.join().unwrap()]
    });
    for result in results {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NoHandler);
    }
    assert_eq!(puppet.stats().pending_calls, 0);
}

#[test]
fn calls_to_a_renderer_that_dies_before_it_has_connected_are_disconnected() {
    let ipc_main = ipc_main();
    let puppet = Puppet::spawn_unconnected(&ipc_main);
    let early = || puppet.invoke::<Value>("x", (), 20 * PATIENCE);
    let (waited, awaited, unpolled) = (early(), early(), early());
    let threads = [std::thread::spawn(|| waited.wait()), std::thread::spawn(|| block_on(awaited))];
    puppet.process().kill().unwrap();
    let results = bounded("calls to a renderer that never was", move || threads.map(|thread| thread.join().unwrap()));
    for result in results.into_iter().chain([unpolled.wait()]) {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Disconnected);
    }
}

// ---- many, and in order -----------------------------------------------------------------------------------------

#[test]
fn ten_thousand_calls_of_main_are_in_flight_at_once_and_each_gets_its_own_answer() {
    const CALLS: usize = 10_000;
    let (_ipc_main, mut puppet) = with_puppet();
    puppet.handle(1, "echo", "echo").unwrap();
    puppet.handle(1, "later", "later").unwrap();
    let held = call(&puppet, "later", json!([]));
    let started = puppet.started();
    let calls: Vec<_> = (0..CALLS).map(|n| puppet.invoke::<[usize; 1]>("echo", (n,), 4 * PATIENCE)).collect();
    let answers = block_on(join_all(calls));
    assert!(answers.into_iter().map(|answer| answer.unwrap()[0]).eq(0..CALLS));
    assert_eq!(puppet.stats().pending_calls, 1);
    puppet.release(started);
    held.wait().unwrap();
    // All of them wait at the same time, in the renderer too.
    let (ipc_main, ipc_renderer) = pair();
    let (start, starts) = channel();
    ipc_renderer
        .handle_async("meet", move |_, (n,): (usize,)| {
            let (go, goes) = futures::channel::oneshot::channel::<()>();
            start.send(go).unwrap();
            async move { Ok(goes.await.map(|()| n)?) }
        })
        .unwrap();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let calls: Vec<_> = (0..CALLS).map(|n| web_contents.invoke::<usize>("meet", (n,), 4 * PATIENCE)).collect();
    let goes: Vec<_> = (0..CALLS).map(|_| next(&starts, "a start")).collect();
    assert_eq!(web_contents.stats().pending_calls, CALLS as u64);
    // The last one was told of from within: it may be on its way from the one that is handled to those that are open.
    until("all of them are open", || ipc_renderer.stats().open_requests == CALLS as u64);
    goes.into_iter().rev().for_each(|go| go.send(()).unwrap());
    assert!(block_on(join_all(calls)).into_iter().map(Result::unwrap).eq(0..CALLS));
}

#[test]
fn renderers_reply_to_main_in_the_order_of_completion() {
    let (_ipc_main, mut puppet) = with_puppet();
    puppet.handle(1, "later", "later").unwrap();
    let mut calls: FuturesUnordered<_> = (0..5).map(|n| call(&puppet, "later", json!([n]))).collect();
    (0..5).for_each(|n| assert_eq!(puppet.started(), n, "they start in the order of the calls"));
    for n in [3, 0, 4, 1, 2] {
        puppet.release(n);
        let answer = block_on(calls.next()).expect("a call that waits");
        assert_eq!(answer.unwrap(), json!([n]));
    }
}

#[test]
fn calls_and_sends_of_main_are_one_fifo() {
    const MESSAGES: i64 = 2000;
    let (ipc_main, ipc_renderer) = pair();
    let (arrive, arrived) = channel();
    let (by_handler, by_async) = (arrive.clone(), arrive.clone());
    ipc_renderer.on("n", move |_, (n, _): (i64, String)| arrive.send(n));
    ipc_renderer.handle("n", move |_, (n,): (i64,)| Ok(by_handler.send(n)?)).unwrap();
    ipc_renderer
        .handle_async("async", move |_, (n,): (i64,)| {
            by_async.send(n).unwrap();
            async { Ok(()) }
        })
        .unwrap();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let large = "x".repeat(100_000);
    let mut calls = Vec::new();
    for n in 0..MESSAGES {
        match n % 4 {
            0 => calls.push(web_contents.invoke::<()>("n", (n,), PATIENCE)),
            1 => web_contents.send("n", (n, if n % 100 == 1 { &large[..] } else { "" })).unwrap(),
            2 => web_contents.invoke::<()>("async", (n,), PATIENCE).detach(),
            _ => assert!(web_contents.send_to_frame(1, "n", (n, "")).unwrap()),
        }
    }
    assert!((0..MESSAGES).map(|_| next(&arrived, "a message")).eq(0..MESSAGES));
    calls.into_iter().for_each(|call| call.wait().unwrap());
}

#[test]
fn the_limit_on_pending_calls_holds_for_calls_of_main_too() {
    let (ipc_main, ipc_renderer) = pair_of(support::builder().max_pending_calls(3));
    let (start, starts) = channel();
    ipc_renderer
        .handle_async("never", move |event, ()| {
            start.send(event).unwrap();
            std::future::pending::<Result<(), ringmain::HandlerError>>()
        })
        .unwrap();
    ipc_renderer.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let mut calls: Vec<_> = (0..3).map(|_| web_contents.invoke::<()>("never", (), PATIENCE)).collect();
    let events: Vec<_> = (0..3).map(|_| next(&starts, "a start")).collect();
    let error = web_contents.invoke::<i64>("add", (2, 3), PATIENCE).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert_eq!(block_on(web_contents.invoke::<i64>("add", (2, 3), PATIENCE)).unwrap_err().kind(), ErrorKind::Limit);
    // The other direction has a limit of its own.
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    assert_eq!(ipc_renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE).wait().unwrap(), 5);
    drop(calls.pop());
    drop(events);
    until("a request has ended", || ipc_renderer.stats().open_requests == 2);
    assert_eq!(web_contents.invoke::<i64>("add", (2, 3), PATIENCE).wait().unwrap(), 5);
}

// ---- from within callbacks --------------------------------------------------------------------------------------

#[test]
fn on_mains_dispatcher_a_call_to_a_renderer_may_be_awaited_and_not_waited_for() {
    let (ipc_main, mut puppet) = with_puppet();
    puppet.handle(1, "echo", "echo").unwrap();
    let (kind, kinds) = channel();
    ipc_main.on("wait", move |event: &ringmain::IpcMainEvent, ()| {
        let call = || event.sender().invoke::<Value>("echo", (1,), PATIENCE);
        let errors = [call().wait().unwrap_err(), block_on(call()).unwrap_err()];
        kind.send(errors.map(|error| (error.kind(), error.is_misuse())))
    });
    ipc_main
        .handle_async("await", |event, (n,): (i64,)| async move {
            let first = event.sender().invoke::<[i64; 1]>("echo", (n,), PATIENCE).await?;
            let second = event.sender_frame().invoke::<[i64; 1]>("echo", (n + 1,), PATIENCE).await?;
            Ok((first[0], second[0]))
        })
        .unwrap();
    puppet.send(1, "wait", json!([])).unwrap();
    assert_eq!(next(&kinds, "the refusals"), [(ErrorKind::WouldDeadlock, true); 2]);
    assert_eq!(puppet.invoke_main(1, "await", json!([7])), Ok(json!([7, 8])));
    assert_eq!(puppet.stats().pending_calls, 0);
}

#[test]
fn on_an_attached_renderers_own_dispatcher_a_wait_for_a_call_to_it_is_an_error_and_not_a_hang() {
    let (ipc_main, ipc_renderer) = pair();
    let other = ipc_main.attach().unwrap();
    other.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_renderer.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let [itself, second] = [ipc_renderer.id(), other.id()].map(|id| ipc_main.web_contents(id).unwrap());
    let to_itself = itself.clone();
    let (result, results) = channel();
    ipc_renderer.on("go", move |_, ()| {
        let call = || to_itself.invoke::<i64>("add", (2, 3), PATIENCE);
        let refused = [call().wait(), block_on(call())].map(|result| result.unwrap_err().kind());
        // Another one's dispatcher serves this.
        result.send((refused, second.invoke::<i64>("add", (4, 5), PATIENCE).wait().unwrap()))
    });
    let inner = itself.clone();
    ipc_renderer
        .handle_async("await", move |_, ()| {
            let call = inner.invoke::<i64>("add", (6, 7), PATIENCE);
            async move { Ok(call.await?) }
        })
        .unwrap();
    let (refused, sum) = bounded("a renderer that calls itself", move || {
        itself.send("go", ()).unwrap();
        let results = next(&results, "the results");
        // As a future in an async handler it works.
        assert_eq!(itself.invoke::<i64>("await", (), PATIENCE).wait().unwrap(), 13);
        assert_eq!(itself.stats().pending_calls, 0);
        drop((ipc_main, ipc_renderer, other));
        results
    });
    assert_eq!((refused, sum), ([ErrorKind::WouldDeadlock; 2], 9));
}

#[test]
fn a_renderers_handler_may_itself_call_main_by_wait_or_await() {
    let (ipc_main, mut puppet) = with_puppet();
    ipc_main.handle("puppet asks", |_, (n,): (i64,)| Ok(10 * n)).unwrap();
    puppet.handle(1, "waits", "ask main").unwrap();
    puppet.handle(1, "awaits", "await main").unwrap();
    for channel in ["waits", "awaits"] {
        assert_eq!(call(&puppet, channel, json!([4])).wait().unwrap(), json!(40), "{channel}");
        assert_eq!(block_on(call(&puppet, channel, json!([5]))).unwrap(), json!(50), "{channel}");
    }
    // And so on, in an async handler of main's that calls the renderer that calls it.
    ipc_main
        .handle_async("deeper", |event, (n,): (i64,)| async move {
            let tens: i64 = event.sender().invoke("waits", (n,), PATIENCE).await?;
            Ok(tens + 1)
        })
        .unwrap();
    assert_eq!(puppet.invoke_main(1, "deeper", json!([6])), Ok(json!(61)));
}

#[test]
fn a_renderer_that_waits_for_main_serves_no_call_meanwhile_and_one_that_awaits_does() {
    let (ipc_main, mut puppet) = with_puppet();
    ipc_main
        .handle_async("puppet asks", |event, (millis,): (u64,)| async move {
            let echo = event.sender().invoke::<Value>("echo", (millis,), Duration::from_millis(millis)).await;
            Ok(echo.map_err(|error| format!("{:?}", error.kind())))
        })
        .unwrap();
    puppet.handle(1, "echo", "echo").unwrap();
    puppet.handle(1, "waits", "ask main").unwrap();
    puppet.handle(1, "awaits", "await main").unwrap();
    let patience = PATIENCE.as_millis() as u64;
    assert_eq!(call(&puppet, "waits", json!([20])).wait().unwrap(), json!({"Err": "Timeout"}));
    assert_eq!(call(&puppet, "awaits", json!([patience])).wait().unwrap(), json!({"Ok": [patience]}));
    assert_eq!(puppet.stats().pending_calls, 0);
}

#[test]
fn both_ends_call_each_other_at_once_and_nobody_waits_for_ever() {
    const CALLS: i64 = 300;
    let (ipc_main, mut puppet) = with_puppet();
    ipc_main.handle("puppet asks", |_, (n,): (i64,)| Ok(10 * n)).unwrap();
    puppet.handle(1, "waits", "ask main").unwrap();
    puppet.handle(1, "awaits", "await main").unwrap();
    let web_contents = ipc_main.web_contents(puppet.id()).unwrap();
    let threads: Vec<_> = ["waits", "awaits"]
        .map(|channel| {
            let web_contents = web_contents.clone();
            std::thread::spawn(move || {
                for n in 0..CALLS {
                    assert_eq!(web_contents.invoke::<i64>(channel, (n,), PATIENCE).wait().unwrap(), 10 * n);
                }
            })
        })
        .into_iter()
        .collect();
    let steps: Vec<_> = (0..CALLS).map(|n| ("invoke", "puppet asks", json!([n]))).collect();
    for (n, answer) in puppet.burst(1, &steps).into_iter().enumerate() {
        assert_eq!(answer, Ok(json!(10 * n)));
    }
    bounded("calls from both ends", move || threads.into_iter().for_each(|thread| thread.join().unwrap()));
    let stats = web_contents.stats();
    assert_eq!((stats.pending_calls, stats.late_replies), (0, 0));
}

#[test]
fn a_call_that_was_polled_may_be_waited_for_and_says_so_when_polled_once_too_often() {
    let (_ipc_main, mut puppet) = with_puppet();
    puppet.handle(1, "later", "later").unwrap();
    let mut polled = Box::pin(call(&puppet, "later", json!([1])));
    assert!(polled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let started = puppet.started();
    puppet.release(started);
    assert_eq!(block_on(polled.as_mut()).unwrap(), json!([1]));
    let Poll::Ready(again) = polled.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it is over")
    };
    assert!(again.unwrap_err().is_misuse());
    let mut polled = call(&puppet, "later", json!([2]));
    assert!(std::pin::Pin::new(&mut polled).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let started = puppet.started();
    puppet.release(started);
    assert_eq!(polled.wait().unwrap(), json!([2]));
}
