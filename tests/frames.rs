//! Frames: further endpoints of a renderer, each with listeners and an order of its own.
#![allow(missing_docs)]

mod support;

use futures::executor::block_on;
use ringmain::{Args, ErrorKind, IpcMain, IpcMainEvent, IpcMainInvokeEvent, IpcRenderer, WebContents, WebFrameMain};
use serde_json::json;
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{
    Gate, PATIENCE, Puppet, alone, bounded, connected, gone, ipc_main, next, pair, pair_of, spawn, told, until,
    until_disconnected,
};

#[test]
fn children() {
    support::play(&[
        ("puppet", support::puppet),
        ("a thread for each frame", a_thread_for_each_frame),
        ("closes while others send", closes_while_others_send),
        ("closes while handlers end", closes_while_handlers_end),
    ]);
}

/// The events of a channel, kept.
fn events(ipc_main: &IpcMain, name: &str) -> Receiver<IpcMainEvent> {
    let (event, events) = channel();
    ipc_main.on(name, move |got: &IpcMainEvent, _: Args| event.send(got.clone()));
    events
}

/// Waits until main has seen that a frame was closed.
fn until_detached(frame: &WebFrameMain) {
    until("the frame is detached", || frame.is_detached());
}

// ---- who is answered --------------------------------------------------------------------------------------------

/// A puppet with a main frame, a frame in it and one in that, which all listen on `answer`.
fn nested(ipc_main: &IpcMain) -> Puppet {
    let mut puppet = Puppet::spawn(ipc_main);
    assert_eq!((puppet.open_frame(1), puppet.open_frame(2)), (2, 3));
    for frame in 1..=3 {
        puppet.on(frame, "answer", None);
    }
    puppet
}

#[test]
fn case_073_to_075_a_reply_goes_to_exactly_the_frame_that_sent_the_message() {
    let ipc_main = ipc_main();
    ipc_main.on("ask", |event: &IpcMainEvent, args: Args| event.reply("answer", args).unwrap());
    let (frame, frames) = channel();
    ipc_main.on("ask", move |event: &IpcMainEvent, _: Args| {
        let parent = event.sender_frame().parent().map(|parent| parent.id());
        frame.send((event.frame_id(), parent))
    });
    let mut puppet = nested(&ipc_main);
    for (frame, parent) in [(1, None), (2, Some(1)), (3, Some(2))] {
        puppet.send(frame, "ask", json!([frame])).unwrap();
        let got = puppet.next_got();
        assert_eq!((got.frame, got.args, got.sender), (frame, json!([frame]), 0));
        assert_eq!(next(&frames, "the message"), (frame as u32, parent));
        assert_eq!(puppet.count_got(), 0, "and to no other frame");
    }
}

#[test]
fn case_076_what_is_sent_through_the_events_frame_goes_to_exactly_that_frame() {
    let ipc_main = ipc_main();
    ipc_main.on("ask", |event: &IpcMainEvent, args: Args| event.sender_frame().send("answer", args).unwrap());
    let mut puppet = nested(&ipc_main);
    for frame in [3, 1, 2] {
        puppet.send(frame, "ask", json!([frame])).unwrap();
        let got = puppet.next_got();
        assert_eq!((got.frame, got.args, got.sender), (frame, json!([frame]), 0));
        assert_eq!(puppet.count_got(), 0, "and to no other frame");
    }
}

#[test]
fn a_synchronous_message_of_a_frame_shows_the_frame_and_its_reply_goes_there_too() {
    let ipc_main = ipc_main();
    ipc_main.on("ask", |event: &IpcMainEvent, args: Args| {
        event.reply("answer", args).unwrap();
        event.set_return_value(event.frame_id()).unwrap();
    });
    let mut puppet = nested(&ipc_main);
    for frame in 1..=3 {
        assert_eq!(puppet.send_sync(frame, "ask", json!(["x"])).unwrap(), frame);
        assert_eq!(puppet.next_got().frame, frame);
        assert_eq!(puppet.count_got(), 0, "and to no other frame");
    }
}

#[test]
fn messages_to_the_renderer_reach_its_main_frame_alone_and_those_to_a_frame_that_one() {
    let ipc_main = ipc_main();
    let mut puppet = nested(&ipc_main);
    let events = events(&ipc_main, "here");
    puppet.send(3, "here", json!([])).unwrap();
    let event = next(&events, "the message of a nested frame");
    puppet.web_contents().send("answer", ("to the renderer",)).unwrap();
    // Electron's `event.sender.send`: not the frame that sent.
    event.sender().send("answer", ("to the sender",)).unwrap();
    puppet.main_frame().send("answer", ("to the main frame",)).unwrap();
    assert!(puppet.send_to_frame(1, "answer", ("by number",)).unwrap());
    for what in ["to the renderer", "to the sender", "to the main frame", "by number"] {
        let got = puppet.next_got();
        assert_eq!((got.frame, got.args), (1, json!([what])));
    }
    assert!(puppet.send_to_frame(2, "answer", (2,)).unwrap());
    puppet.frame(3).unwrap().send("answer", (3,)).unwrap();
    for frame in [2, 3] {
        let got = puppet.next_got();
        assert_eq!((got.frame, got.args), (frame, json!([frame])));
    }
    assert_eq!(puppet.count_got(), 0);
}

#[test]
fn messages_to_several_frames_of_a_renderer_run_in_the_order_in_which_main_sent_them() {
    let ipc_main = ipc_main();
    let mut puppet = nested(&ipc_main);
    let frames = |n: u32| 1 + n * 7 % 3;
    for n in 0..60 {
        assert!(puppet.send_to_frame(frames(n), "answer", (n,)).unwrap());
    }
    for n in 0..60 {
        let got = puppet.next_got();
        assert_eq!((got.frame, got.args), (u64::from(frames(n)), json!([n])));
    }
}

#[test]
fn main_calls_the_handler_of_the_frame_that_it_names_and_no_other() {
    let ipc_main = ipc_main();
    let mut puppet = nested(&ipc_main);
    puppet.handle(2, "x", "echo").unwrap();
    let answer: Vec<u32> = puppet.frame(2).unwrap().invoke("x", (7,), PATIENCE).wait().unwrap();
    assert_eq!(answer, [7]);
    for frame in [1, 3] {
        let error = puppet.frame(frame).unwrap().invoke::<Vec<u32>>("x", (7,), PATIENCE).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoHandler, "{error}");
    }
    puppet.close_frame(2);
    let frame = puppet.frame(2);
    if let Some(frame) = frame {
        until_detached(&frame);
    }
    assert!(puppet.frame(2).is_none());
}

#[test]
fn a_send_to_a_frame_that_is_unknown_or_closed_says_so_and_sends_nothing() {
    let ipc_main = ipc_main();
    let mut puppet = nested(&ipc_main);
    for unknown in [0, 4, u32::MAX] {
        assert!(!puppet.send_to_frame(unknown, "answer", (1,)).unwrap());
        assert!(puppet.frame(unknown).is_none());
    }
    let kept = puppet.frame(2).unwrap();
    puppet.close_frame(2);
    until_detached(&kept);
    let sent = puppet.stats().messages_sent;
    assert!(!puppet.send_to_frame(2, "answer", (1,)).unwrap());
    let error = kept.send("answer", (1,)).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Disconnected, "frame 2 was closed".to_string()));
    let error = kept.invoke::<()>("answer", (1,), PATIENCE).wait().unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Disconnected, "frame 2 was closed".to_string()));
    assert_eq!(puppet.stats().messages_sent, sent, "nothing was sent");
    assert_eq!(puppet.count_got(), 0);
}

#[test]
fn the_frames_of_one_renderer_are_unknown_to_another() {
    let ipc_main = ipc_main();
    let told = told(&ipc_main);
    let (mut a, mut b) = (Puppet::spawn(&ipc_main), Puppet::spawn(&ipc_main));
    assert_eq!(a.open_frame(1), 2);
    a.on(2, "x", None);
    b.on(1, "x", None);
    assert!(b.frame(2).is_none() && a.frame(2).is_some());
    assert!(!b.send_to_frame(2, "x", (1,)).unwrap());
    let ids = |puppet: &Puppet| puppet.frames().iter().map(WebFrameMain::id).collect::<Vec<_>>();
    assert_eq!((ids(&a), ids(&b)), (vec![1, 2], vec![1]));
    // Another renderer does not find it under this one's number either.
    a.send_to(1, b.id(), 2, "x", json!([1])).unwrap();
    let told = next(&told, "what became of it");
    assert_eq!((told.renderer, told.kind), (Some(a.id()), ErrorKind::Undeliverable), "{told:?}");
    assert_eq!((a.count_got(), b.count_got()), (0, 0));
    // Each counts from its own main frame.
    assert_eq!(b.open_frame(1), 2);
    b.on(2, "x", None);
    assert_ne!(a.frame(2), b.frame(2));
    assert!(b.send_to_frame(2, "x", (2,)).unwrap());
    assert_eq!((b.next_got().frame, a.count_got()), (2, 0));
}

// ---- frames that send -------------------------------------------------------------------------------------------

#[test]
fn case_025_a_frames_message_reaches_its_renderers_receiver_and_its_own_and_not_its_parents() {
    let ipc_main = ipc_main();
    let mut puppet = nested(&ipc_main);
    let (heard, hears) = channel();
    let note = |who: &'static str| {
        let heard = heard.clone();
        move |event: &IpcMainEvent, _: Args| heard.send((who, event.frame_id()))
    };
    puppet.ipc().on("x", note("renderer"));
    puppet.main_frame().ipc().on("x", note("main frame"));
    puppet.frame(2).unwrap().ipc().on("x", note("frame 2"));
    puppet.frame(3).unwrap().ipc().on("x", note("frame 3"));
    ipc_main.on("x", note("main"));
    for (frame, own) in [(1, "main frame"), (2, "frame 2"), (3, "frame 3")] {
        puppet.send(frame, "x", json!([])).unwrap();
        for who in [own, "renderer", "main"] {
            assert_eq!(next(&hears, "a listener"), (who, frame as u32));
        }
    }
    puppet.send_sync(2, "x", json!([])).unwrap_err();
    let heard: Vec<_> = hears.try_iter().map(|(who, _)| who).collect();
    assert_eq!(heard, ["frame 2", "renderer", "main"]);
}

fn numbers_of_frames(ipc_main: &IpcMain) -> Arc<Mutex<HashMap<u32, Vec<u32>>>> {
    let numbers: Arc<Mutex<HashMap<u32, Vec<u32>>>> = Arc::default();
    let note = move |numbers: &Arc<Mutex<HashMap<u32, Vec<u32>>>>, frame, n| {
        numbers.lock().unwrap().entry(frame).or_default().push(n);
    };
    let (sends, invokes) = (numbers.clone(), numbers.clone());
    ipc_main.on("n", move |event: &IpcMainEvent, (n,): (u32,)| {
        note(&sends, event.frame_id(), n);
        event.set_return_value(n).unwrap();
    });
    ipc_main
        .handle("n", move |event: &IpcMainInvokeEvent, (n,): (u32,)| {
            note(&invokes, event.frame_id(), n);
            Ok(n)
        })
        .unwrap();
    numbers
}

/// How many messages each frame of that child sends.
const MESSAGES: u32 = 300;

fn send_a_mix(frame: &IpcRenderer) {
    let mut calls = Vec::new();
    for n in 0..MESSAGES {
        match (n * 7 + frame.frame_id()) % 5 {
            0 | 1 => frame.send("n", (n,)).unwrap(),
            2 | 3 => calls.push((n, frame.invoke::<u32>("n", (n,)).timeout(PATIENCE))),
            _ => assert_eq!(frame.send_sync_timeout::<u32>("n", (n,), PATIENCE).unwrap(), n),
        }
    }
    for (n, call) in calls {
        assert_eq!(call.wait().unwrap(), n);
    }
}

fn a_thread_for_each_frame() {
    let ipc_renderer = connected();
    let frames: Vec<_> = (0..3).map(|_| ipc_renderer.frame().unwrap()).collect();
    std::thread::scope(|scope| {
        frames.iter().chain([&ipc_renderer]).for_each(|frame| drop(scope.spawn(|| send_a_mix(frame))));
    });
    ipc_renderer.send("done", ()).unwrap();
    until_disconnected(&ipc_renderer);
}

#[test]
fn each_frame_has_one_order_across_send_invoke_and_send_sync_though_all_send_at_once() {
    let ipc_main = ipc_main();
    let numbers = numbers_of_frames(&ipc_main);
    let done = events(&ipc_main, "done");
    let _child = spawn(&ipc_main, "a thread for each frame");
    next(&done, "the end of all frames");
    let numbers = numbers.lock().unwrap();
    let mut frames: Vec<_> = numbers.keys().copied().collect();
    frames.sort_unstable();
    assert_eq!(frames, [1, 2, 3, 4]);
    for (frame, numbers) in &*numbers {
        assert!(numbers.iter().copied().eq(0..MESSAGES), "frame {frame}: {numbers:?}");
    }
}

// ---- the end of a frame -----------------------------------------------------------------------------------------

#[test]
fn case_026_the_last_message_of_a_frame_is_delivered_to_its_receivers_before_it_is_detached() {
    let ipc_main = ipc_main();
    let mut puppet = nested(&ipc_main);
    let gate = Gate::default();
    let waits = gate.clone();
    ipc_main.on("hold", move |_: &IpcMainEvent, ()| waits.wait());
    let (last, lasts) = channel();
    let note = |who: &'static str| {
        let last = last.clone();
        move |event: &IpcMainEvent, (n,): (u32,)| {
            let frame = event.sender_frame();
            last.send((who, n, frame.is_detached(), frame))
        }
    };
    puppet.frame(2).unwrap().ipc().on("last", note("frame"));
    ipc_main.on("last", note("main"));
    puppet.send(1, "hold", json!([])).unwrap();
    gate.reached();
    for n in 0..3 {
        puppet.send(2, "last", json!([n])).unwrap();
    }
    puppet.close_frame(2);
    gate.open();
    for n in 0..3 {
        for who in ["frame", "main"] {
            let (heard, number, was_detached, frame) = next(&lasts, "a message of the frame");
            // Its end is behind its messages in the same order.
            assert_eq!((heard, number, was_detached, frame.id()), (who, n, false, 2));
            until_detached(&frame);
        }
    }
    assert!(lasts.try_recv().is_err(), "each once");
}

#[test]
fn case_026_and_078_the_last_message_of_a_renderer_that_has_ended_is_delivered_and_its_frame_is_detached() {
    for killed in [false, true] {
        let ipc_main = ipc_main();
        let gone = gone(&ipc_main);
        let mut puppet = nested(&ipc_main);
        let gate = Gate::default();
        let waits = gate.clone();
        ipc_main.on("hold", move |_: &IpcMainEvent, ()| waits.wait());
        let (last, lasts) = channel();
        let note = |who: &'static str| {
            let last = last.clone();
            move |event: &IpcMainEvent, args: Args| {
                let frame = event.sender_frame();
                last.send((who, frame.id(), frame.is_detached(), args.to_values()))
            }
        };
        puppet.frame(2).unwrap().ipc().on("last", note("frame"));
        puppet.ipc().on("last", note("renderer"));
        ipc_main.on("last", note("main"));
        puppet.send(1, "hold", json!([])).unwrap();
        gate.reached();
        puppet.send(2, "last", json!(["words"])).unwrap();
        match killed {
            true => puppet.process().kill().unwrap(),
            false => puppet.end(),
        }
        until("main has seen that it is gone", || puppet.main_frame().is_detached());
        gate.open();
        for who in ["frame", "renderer", "main"] {
            assert_eq!(next(&lasts, "the last words"), (who, 2, true, vec![json!("words")]));
        }
        next(&gone, "the end of the renderer, after its last message");
    }
}

#[test]
fn case_077_an_event_kept_until_after_its_frame_was_closed_shows_that_and_a_reply_is_dropped_and_told() {
    let ipc_main = ipc_main();
    let told = told(&ipc_main);
    let events = events(&ipc_main, "x");
    let mut puppet = nested(&ipc_main);
    puppet.send(3, "x", json!([])).unwrap();
    let event = next(&events, "the event");
    let frame = event.sender_frame();
    assert_eq!((frame.is_detached(), frame.parent().map(|frame| frame.id())), (false, Some(2)));
    let ipc = frame.ipc();
    let token = Arc::new(());
    let captured = token.clone();
    ipc.on("x", move |_: &IpcMainEvent, ()| drop(captured.clone()));
    puppet.close_frame(3);
    until_detached(&event.sender_frame());
    assert!(event.sender_frame().parent().is_none());
    assert_eq!((event.frame_id(), event.sender().id()), (3, puppet.id()), "who sent it stays known");
    assert!(event.sender().is_connected());
    // What was registered is dropped, what is registered now too.
    until("the listener is dropped", || Arc::strong_count(&token) == 1);
    for ipc in [ipc, frame.ipc()] {
        let captured = token.clone();
        ipc.on("x", move |_: &IpcMainEvent, ()| drop(captured.clone()));
        assert_eq!((Arc::strong_count(&token), ipc.listener_count("x")), (1, 0));
        let error = ipc.handle("x", |_, ()| Ok(())).unwrap_err();
        assert_eq!((error.kind(), ipc.has_handler("x")), (ErrorKind::Disconnected, false));
    }
    assert_eq!(puppet.stats().undeliverable, 0);
    event.reply("answer", (1,)).unwrap();
    assert_eq!(puppet.stats().undeliverable, 1);
    let told = next(&told, "what became of the reply");
    assert_eq!((told.renderer, told.channel.as_deref()), (Some(puppet.id()), Some("answer")));
    assert_eq!(told.kind, ErrorKind::Undeliverable);
    assert!(told.text.starts_with("a reply to frame 3 of renderer 1 was dropped"), "{}", told.text);
    assert_eq!(puppet.count_got(), 0);
    event.set_return_value(1).unwrap();
}

#[test]
fn case_079_a_handle_of_a_frame_outlives_its_renderer_and_is_never_that_of_a_later_one() {
    let ipc_main = ipc_main();
    let gone = gone(&ipc_main);
    let puppet = nested(&ipc_main);
    let (main_frame, frame) = (puppet.main_frame(), puppet.frame(2).unwrap());
    puppet.process().kill().unwrap();
    next(&gone, "the end of the renderer");
    let mut again = nested(&ipc_main);
    for old in [main_frame, frame] {
        assert!(old.is_detached() && old.parent().is_none());
        assert_ne!(again.frame(old.id()), Some(old.clone()));
        let error = old.send("answer", (1,)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert!(error.to_string().starts_with("renderer 1 is gone"), "{error}");
        let error = old.invoke::<()>("answer", (1,), PATIENCE).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert_eq!(old.ipc().handle("x", |_, ()| Ok(())).unwrap_err().kind(), ErrorKind::Disconnected);
        assert!(!old.web_contents().is_connected() && old.web_contents().frames().is_empty());
        let _ = format!("{old:?}");
    }
    assert_eq!(again.count_got(), 0);
}

#[test]
fn closing_a_frame_closes_those_inside_it_and_no_others() {
    let ipc_main = ipc_main();
    let mut puppet = nested(&ipc_main);
    assert_eq!((puppet.open_frame(3), puppet.open_frame(1)), (4, 5));
    ipc_main
        .handle("frames", |event: &IpcMainInvokeEvent, ()| {
            Ok(event.sender().frames().iter().map(WebFrameMain::id).collect::<Vec<_>>())
        })
        .unwrap();
    puppet.close_frame(2);
    assert_eq!(puppet.invoke_main(5, "frames", json!([])).unwrap(), json!([1, 5]));
    for closed in 2..=4 {
        let failure = puppet.send(closed, "x", json!([])).unwrap_err();
        assert_eq!((failure.kind.as_str(), failure.text), ("Disconnected", format!("frame {closed} was closed")));
    }
    // Numbers are not used again.
    assert_eq!(puppet.open_frame(5), 6);
    assert_eq!(puppet.frame(6).and_then(|frame| frame.parent()).map(|parent| parent.id()), Some(5));
}

#[test]
fn every_use_of_a_closed_frame_says_that_it_was_closed_and_the_others_go_on() {
    let ipc_main = ipc_main();
    let mut puppet = nested(&ipc_main);
    ipc_main.handle("ok", |_, ()| Ok(1)).unwrap();
    puppet.handle(2, "mine", "echo").unwrap();
    assert_eq!(puppet.event_names(2), json!(["answer"]));
    puppet.close_frame(2);
    puppet.close_frame(2); // no error
    let id = puppet.id();
    let uses = [
        puppet.send(2, "x", json!([])),
        puppet.invoke_main(2, "ok", json!([])),
        puppet.send_sync(2, "x", json!([])),
        puppet.send_to(2, id, 1, "answer", json!([])),
        puppet.send_to_host(2, "x", json!([])),
    ];
    for used in uses {
        let failure = used.unwrap_err();
        assert_eq!((failure.kind.as_str(), failure.text.as_str()), ("Disconnected", "frame 2 was closed"));
    }
    assert_eq!(puppet.handle(2, "yours", "echo").unwrap_err().kind, "Disconnected");
    puppet.on(2, "answer", None);
    assert_eq!(puppet.event_names(2), json!([]), "its listeners are dropped, and it takes no more");
    assert_eq!(puppet.invoke_main(1, "ok", json!([])).unwrap(), 1);
    let failure = puppet.invoke_main(3, "ok", json!([])).unwrap_err();
    assert_eq!(failure.text, "frame 3 was closed", "it was inside");
}

#[test]
fn the_pending_calls_of_a_frame_that_is_closed_fail_and_are_cancelled_and_those_of_others_go_on() {
    let ipc_main = ipc_main();
    let mut puppet = nested(&ipc_main);
    let (event, events) = channel();
    let (answer, answers) = futures::channel::oneshot::channel::<()>();
    let (answers, dropped) = (Mutex::new(Some(answers)), Arc::new(()));
    let weak = Arc::downgrade(&dropped);
    ipc_main
        .handle_async("slow", move |got: IpcMainInvokeEvent, ()| {
            let (mine, event) = (got.frame_id() != 1, event.clone());
            let first = if mine { None } else { answers.lock().unwrap().take() };
            let kept = mine.then(|| dropped.clone());
            async move {
                event.send(got).unwrap();
                match first {
                    Some(first) => drop(first.await.ok()),
                    None => drop((std::future::pending::<()>().await, kept)),
                }
                Ok(())
            }
        })
        .unwrap();
    let mut begin = |frame| {
        let call = puppet.begin(frame, "slow", json!([]));
        (call, next(&events, "the call"))
    };
    let (ours, our_event) = begin(1);
    let calls = [begin(2), begin(3), begin(2)];
    assert_eq!(weak.strong_count(), 4);
    puppet.close_frame(2);
    for (call, event) in calls {
        let failure = puppet.wait(call).unwrap_err();
        let frame = event.frame_id();
        assert_eq!((failure.kind.as_str(), failure.text), ("Disconnected", format!("frame {frame} was closed")));
        until("its handler sees that it is cancelled", || event.is_cancelled());
        assert_eq!(event.sender_frame().id(), frame);
    }
    until("the futures of the handlers are dropped", || weak.strong_count() == 1);
    assert!(!our_event.is_cancelled());
    answer.send(()).unwrap();
    puppet.wait(ours).unwrap();
}

#[test]
fn a_thread_that_waits_for_an_answer_to_a_frame_is_released_when_it_is_closed() {
    let (ipc_main, ipc_renderer) = pair();
    let events = events(&ipc_main, "ask");
    let frame = ipc_renderer.frame().unwrap();
    let waits = frame.clone();
    let waiting = std::thread::spawn(move || waits.send_sync::<()>("ask", ()));
    let event = next(&events, "the question");
    drop(frame);
    let error = bounded("a send_sync of a closed frame", || waiting.join().unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Disconnected, "frame 2 was closed".to_string()));
    event.set_return_value(1).unwrap();
    drop(event);
    assert!(ipc_renderer.is_connected());
}

#[test]
fn what_main_sends_to_a_frame_that_was_closed_meanwhile_is_dropped_and_counted_by_the_renderer() {
    let ipc_main = ipc_main();
    let mut puppet = nested(&ipc_main);
    let gate = Gate::default();
    let waits = gate.clone();
    ipc_main.on("hold", move |_: &IpcMainEvent, ()| waits.wait());
    puppet.send(1, "hold", json!([])).unwrap();
    gate.reached();
    puppet.close_frame(2);
    // Main's dispatcher has not heard of it.
    assert!(puppet.send_to_frame(2, "answer", (1,)).unwrap());
    puppet.frame(2).unwrap().send("answer", (2,)).unwrap();
    let error = puppet.frame(2).unwrap().invoke::<()>("answer", (), PATIENCE).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoHandler, "{error}");
    puppet.web_contents().send("answer", (3,)).unwrap();
    assert_eq!(puppet.next_got().args, json!([3]));
    assert_eq!((puppet.count_got(), puppet.dropped()), (0, 2));
    gate.open();
    until("main has heard of it", || puppet.frame(2).is_none());
    assert!(puppet.is_connected());
}

#[test]
fn the_handle_that_opened_a_frame_owns_it_and_clones_do_not() {
    let ipc_main = ipc_main();
    let mut puppet = nested(&ipc_main);
    // A puppet clones the handle for each order: none of those that were dropped has closed the frame.
    puppet.send(2, "x", json!([])).unwrap();
    assert!(!puppet.frame(2).unwrap().is_detached());
    let frame = puppet.frame(2).unwrap();
    puppet.drop_frame(2);
    assert_eq!(puppet.send(2, "x", json!([])).unwrap_err().text, "frame 2 was closed");
    until_detached(&frame);
    assert!(puppet.frame(3).is_none_or(|frame| frame.is_detached()), "it was inside");

    let (_main, ipc_renderer) = pair();
    let frame = ipc_renderer.frame().unwrap();
    let clone = frame.clone();
    drop(frame.clone());
    assert!(clone.is_connected() && !clone.is_main_frame());
    drop(frame);
    assert!(!clone.is_connected() && ipc_renderer.is_connected());
    assert_eq!(clone.frame().unwrap_err().to_string(), "frame 2 was closed", "nor may one be opened in it");
    assert_eq!(ipc_renderer.frame().unwrap().frame_id(), 3, "numbers are not used twice");
}

#[test]
fn frames_are_closed_with_their_renderers_link() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let gone = gone(&ipc_main);
    let frame = ipc_renderer.frame().unwrap();
    let token = Arc::new(());
    let captured = token.clone();
    frame.on("x", move |_, ()| drop(captured.clone()));
    ipc_renderer.close(PATIENCE).unwrap();
    next(&gone, "the end of the link");
    assert!(web_contents.frames().is_empty());
    let error = frame.send("x", ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.to_string().starts_with("main is gone"), "not the frame alone: {error}");
    until("its listeners are dropped", || Arc::strong_count(&token) == 1);
    assert_eq!(frame.frame().unwrap_err().kind(), ErrorKind::Disconnected);
    drop(frame);
}

#[test]
fn a_renderer_may_have_4096_frames_and_closing_one_makes_room() {
    const MOST: usize = 4096;
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("frames", |event: &IpcMainInvokeEvent, ()| Ok(event.sender().frames().len())).unwrap();
    let count = || ipc_renderer.invoke::<usize>("frames", ()).timeout(PATIENCE).wait().unwrap();
    let mut frames: Vec<_> = (1..MOST).map(|_| ipc_renderer.frame().unwrap()).collect();
    let error = ipc_renderer.frame().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("4096 frames are open, 4096 may be: close one first"), "{error}");
    assert_eq!(count(), MOST);
    for newest in [MOST + 1, MOST + 2] {
        drop(frames.swap_remove(newest % 100));
        frames.push(ipc_renderer.frame().unwrap());
        assert_eq!(frames.last().unwrap().frame_id() as usize, newest, "and numbers are not used twice");
        assert_eq!(ipc_renderer.frame().unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(count(), MOST);
    }
    drop(frames);
    assert_eq!(count(), 1);
}

/// How often that child opens a frame, and how many threads send from it while it is closed.
const ROUNDS: u32 = 60;
const SENDERS: u32 = 4;

fn closes_while_others_send() {
    let ipc_renderer = connected();
    let id = ipc_renderer.id();
    for round in 0..ROUNDS {
        let frame = ipc_renderer.frame().unwrap();
        let inner = frame.frame().unwrap();
        inner.on("to it", |_, ()| ());
        std::thread::scope(|scope| {
            let (began, begins) = channel();
            for n in 0..SENDERS {
                let (began, inner) = (began.clone(), &inner);
                scope.spawn(move || {
                    for sent in 0.. {
                        let used = match (n + sent) % 4 {
                            0 => inner.send("x", (sent,)),
                            1 => inner.invoke::<u32>("x", (sent,)).timeout(PATIENCE).wait().map(drop),
                            2 => inner.send_to_frame(id, inner.frame_id(), "to it", ()),
                            // Opened inside a frame that goes: closed with it, or refused.
                            _ => inner.frame().map(drop),
                        };
                        let _ = began.send(());
                        if let Err(error) = used {
                            assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                            break;
                        }
                    }
                });
            }
            (0..SENDERS).for_each(|_| next(&begins, "a thread that sends"));
            // By several threads at once, by either handle.
            for n in 0..3 {
                let (inner, frame) = (&inner, &frame);
                let closed = if (n + round) % 2 == 0 { inner } else { frame };
                scope.spawn(|| closed.close(PATIENCE).unwrap());
            }
        });
    }
    ipc_renderer.send("done", (id,)).unwrap();
    until_disconnected(&ipc_renderer);
}

#[test]
fn frames_may_be_closed_by_several_threads_while_others_send_and_no_link_is_cut() {
    let ipc_main = ipc_main();
    ipc_main.on_error(|_| ()); // what is sent to frames that are gone
    ipc_main.on("x", |event: &IpcMainEvent, (_,): (u32,)| {
        event.reply("to it", ()).unwrap();
        let _ = event.sender_frame().send("to it", ());
    });
    ipc_main.handle("x", |_, (n,): (u32,)| Ok(n)).unwrap();
    let done = events(&ipc_main, "done");
    let gone = gone(&ipc_main);
    let child = spawn(&ipc_main, "closes while others send");
    next(&done, "the end of all rounds");
    assert!(gone.try_recv().is_err() && child.is_connected());
    assert_eq!(child.frames().len(), 1);
    assert_eq!(child.stats().open_requests, 0);
}

/// Closing a frame looks at the requests that run, and the last hold of one may end meanwhile on another thread. Where that
/// goes wrong a dispatcher waits for itself, and nothing that ends it returns: so in a process of its own.
#[test]
fn frames_may_be_closed_while_handlers_end_on_the_threads_of_an_executor() {
    alone("closes while handlers end");
}

fn closes_while_handlers_end() {
    const ROUNDS: usize = 300;
    const CALLS: usize = 30;
    let (task, tasks) = channel();
    let (ipc_main, ipc_renderer) = pair_of(support::builder().executor(move |handler| drop(task.send(handler))));
    let running = std::thread::spawn(move || tasks.iter().for_each(block_on));
    ipc_main.handle_async("ends there", |_, ()| async { Ok(()) }).unwrap();
    for _ in 0..ROUNDS {
        let call_and_close = |_| {
            let call = ipc_renderer.invoke::<()>("ends there", ());
            ipc_renderer.frame().unwrap().close(PATIENCE).unwrap();
            call
        };
        let calls: Vec<_> = (0..CALLS).map(call_and_close).collect();
        calls.into_iter().for_each(|call| call.timeout(PATIENCE).wait().unwrap());
    }
    drop(ipc_main);
    running.join().unwrap();
}

/// Closes a frame while it is encoded, and waits until main knows.
struct ClosesOnTheWay<'a>(&'a IpcRenderer, &'a WebContents);

impl serde::Serialize for ClosesOnTheWay<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(frame, web_contents) = self;
        frame.close(Duration::ZERO).unwrap();
        until("main knows that the frame is closed", || web_contents.frame(frame.frame_id()).is_none());
        serializer.serialize_unit()
    }
}

#[test]
fn send_to_a_frame_that_is_closed_while_the_message_is_encoded_says_that_there_is_none() {
    let (ipc_main, ipc_renderer) = pair();
    let frame = ipc_renderer.frame().unwrap();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    until("main knows the frame", || web_contents.frame(frame.frame_id()).is_some());
    let sent = web_contents.send_to_frame(frame.frame_id(), "late", (ClosesOnTheWay(&frame, &web_contents),));
    assert_eq!(sent.map_err(|error| error.to_string()), Ok(false));
    assert!(web_contents.is_connected());
}
