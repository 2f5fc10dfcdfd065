//! What main registers for one renderer or for one frame alone, beside what it registers for all of them.
#![allow(missing_docs)]

mod support;

use ringmain::{Args, ErrorKind, GoneReason, IpcMain, IpcMainEvent, IpcMainInvokeEvent, IpcReceiver};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use support::{Gate, PATIENCE, Puppet, gone, ipc_main, next, pair, told, until};

#[test]
fn children() {
    support::play(&[("puppet", support::puppet)]);
}

/// Writes down who ran.
struct Notes(Sender<&'static str>, Receiver<&'static str>);

impl Notes {
    fn new() -> Self {
        let (to, from) = channel();
        Self(to, from)
    }

    fn listener(&self, who: &'static str) -> impl Fn(&IpcMainEvent, Args) + Send + Sync + 'static {
        let to = self.0.clone();
        move |_, _| to.send(who).unwrap()
    }

    /// Who has run for the messages that a puppet has sent so far.
    fn of(&self, puppet: &mut Puppet) -> Vec<&'static str> {
        // Behind them in the same order; nobody has a handler for it.
        assert_eq!(puppet.invoke_main(1, "nobody handles this", json!([])).unwrap_err().kind, "NoHandler");
        self.1.try_iter().collect()
    }
}

/// A handler that says whose it is.
fn answers(receiver: &IpcReceiver, channel: &str, who: &'static str) {
    receiver.handle(channel, move |_, _: Args| Ok(who)).unwrap();
}

// ---- listeners --------------------------------------------------------------------------------------------------

#[test]
fn case_016_a_receiver_of_one_renderer_gets_its_messages_and_those_of_no_other() {
    let ipc_main = ipc_main();
    let (mut a, mut b) = (Puppet::spawn(&ipc_main), Puppet::spawn(&ipc_main));
    let (got, gets) = channel();
    a.ipc().on("test", move |event: &IpcMainEvent, (n,): (u32,)| got.send((event.sender().id(), n)));
    b.send(1, "test", json!([1])).unwrap();
    b.send_sync(1, "test", json!([1])).unwrap_err();
    a.send(1, "test", json!([42])).unwrap();
    assert_eq!(next(&gets, "the message"), (a.id(), 42));
    assert!(gets.try_recv().is_err(), "the other one was delivered before");
    assert_eq!(b.send_sync(1, "test", json!([1])).unwrap_err().kind, "NoListener");
}

#[test]
fn case_017_a_receiver_of_one_renderer_answers_its_synchronous_messages() {
    let ipc_main = ipc_main();
    let mut puppet = Puppet::spawn(&ipc_main);
    puppet.ipc().on("test", |event: &IpcMainEvent, (n,): (u32,)| event.set_return_value(n * 2).unwrap());
    assert_eq!(puppet.send_sync(1, "test", json!([42])).unwrap(), 84);
}

#[test]
fn case_018_a_handler_of_one_renderer_answers_its_calls_and_those_of_no_other() {
    let ipc_main = ipc_main();
    let (mut a, mut b) = (Puppet::spawn(&ipc_main), Puppet::spawn(&ipc_main));
    let id = a.id();
    a.ipc()
        .handle("test", move |event: &IpcMainInvokeEvent, (n,): (u32,)| {
            assert_eq!((event.sender().id(), event.frame_id()), (id, 1));
            Ok(n * 2)
        })
        .unwrap();
    assert_eq!(a.invoke_main(1, "test", json!([42])).unwrap(), 84);
    let failure = b.invoke_main(1, "test", json!([42])).unwrap_err();
    assert_eq!(failure.text, "Error invoking remote method 'test': No handler registered for 'test'");
}

#[test]
fn case_019_and_022_listeners_run_for_the_frame_first_then_for_its_renderer_then_for_all() {
    let ipc_main = ipc_main();
    let notes = Notes::new();
    let mut puppet = Puppet::spawn(&ipc_main);
    puppet.open_frame(1);
    // Registered the other way round.
    ipc_main.on("test", notes.listener("main"));
    puppet.ipc().on("test", notes.listener("renderer"));
    puppet.send(1, "test", json!([])).unwrap();
    assert_eq!(notes.of(&mut puppet), ["renderer", "main"]);
    puppet.frame(2).unwrap().ipc().on("test", notes.listener("frame 2"));
    puppet.main_frame().ipc().on("test", notes.listener("main frame"));
    ipc_main.prepend_listener("test", notes.listener("main, prepended"));
    puppet.ipc().on("test", notes.listener("renderer again"));
    let rest = ["renderer", "renderer again", "main, prepended", "main"];
    for (frame, own) in [(1, "main frame"), (2, "frame 2")] {
        puppet.send(frame, "test", json!([])).unwrap();
        assert_eq!(notes.of(&mut puppet), [&[own], &rest[..]].concat());
        assert_eq!(puppet.send_sync(frame, "test", json!([])).unwrap_err().kind, "ReplyNeverSent");
        assert_eq!(notes.of(&mut puppet), [&[own], &rest[..]].concat());
    }
}

#[test]
fn of_several_scoped_receivers_that_answer_a_synchronous_message_the_frames_answer_counts() {
    let ipc_main = ipc_main();
    let mut puppet = Puppet::spawn(&ipc_main);
    let answer = |who: &'static str| move |event: &IpcMainEvent, _: Args| event.set_return_value(who).unwrap();
    ipc_main.on("test", answer("main"));
    assert_eq!(puppet.send_sync(1, "test", json!([])).unwrap(), "main");
    puppet.ipc().on("test", answer("renderer"));
    assert_eq!(puppet.send_sync(1, "test", json!([])).unwrap(), "renderer");
    puppet.main_frame().ipc().on("test", answer("frame"));
    assert_eq!(puppet.send_sync(1, "test", json!([])).unwrap(), "frame");
}

#[test]
fn a_scoped_listener_that_panics_or_does_not_fit_is_told_and_those_behind_it_run() {
    let ipc_main = ipc_main();
    let (notes, told) = (Notes::new(), told(&ipc_main));
    let mut puppet = Puppet::spawn(&ipc_main);
    puppet.main_frame().ipc().on("test", |_: &IpcMainEvent, _: Args| panic!("a frame's listener"));
    puppet.ipc().on("test", |_: &IpcMainEvent, (_,): (u32,)| ());
    puppet.ipc().on("test", notes.listener("renderer"));
    ipc_main.on("test", notes.listener("main"));
    puppet.send(1, "test", json!(["no number"])).unwrap();
    assert_eq!(notes.of(&mut puppet), ["renderer", "main"]);
    for kind in [ErrorKind::HandlerPanicked, ErrorKind::BadArguments] {
        let told = next(&told, "what went wrong");
        assert_eq!((told.renderer, told.channel.as_deref(), told.kind), (Some(puppet.id()), Some("test"), kind));
    }
}

#[test]
fn all_handles_of_one_receiver_are_the_same_receiver_and_the_frames_are_others() {
    let ipc_main = ipc_main();
    let notes = Notes::new();
    let mut puppet = Puppet::spawn(&ipc_main);
    let id = puppet.ipc().on("test", notes.listener("renderer"));
    puppet.ipc().once("test", notes.listener("once"));
    let web_contents = ipc_main.web_contents(puppet.id()).unwrap();
    assert_eq!(web_contents.ipc().listener_count("test"), 2);
    assert_eq!(web_contents.ipc().event_names(), ["test"]);
    assert_eq!((web_contents.main_frame().ipc().event_names(), ipc_main.event_names()), (vec![], vec![]));
    assert!(!web_contents.main_frame().ipc().remove_listener("test", &id) && !ipc_main.remove_listener("test", &id));
    for expected in [&["renderer", "once"][..], &["renderer"]] {
        puppet.send(1, "test", json!([])).unwrap();
        assert_eq!(notes.of(&mut puppet), expected);
    }
    ipc_main.remove_all_listeners(None);
    assert!(web_contents.ipc().remove_listener("test", &id));
    puppet.send(1, "test", json!([])).unwrap();
    assert_eq!(notes.of(&mut puppet), [""; 0]);
}

#[test]
fn what_a_scoped_receiver_emits_here_is_local_and_stays_in_it() {
    let ipc_main = ipc_main();
    let puppet = Puppet::spawn(&ipc_main);
    let (got, gets) = channel();
    let elsewhere = got.clone();
    ipc_main.on("test", move |_: &IpcMainEvent, _: Args| elsewhere.send((0, 0, false)));
    puppet.ipc().on("test", move |event: &IpcMainEvent, _: Args| {
        event.reply("test", (1,)).unwrap();
        got.send((event.sender().id(), event.frame_id(), event.is_local()))
    });
    assert!(puppet.ipc().emit("test", (1,)).unwrap());
    assert!(!puppet.main_frame().ipc().emit("test", (1,)).unwrap(), "nobody listens there");
    assert_eq!(gets.try_iter().collect::<Vec<_>>(), [(puppet.id(), 1, true)]);
    assert_eq!(puppet.stats().undeliverable, 0);
}

// ---- handlers ---------------------------------------------------------------------------------------------------

#[test]
fn case_021_and_023_a_call_goes_to_the_first_of_frame_renderer_and_main_that_has_a_handler_and_to_no_other() {
    let ipc_main = ipc_main();
    let (mut puppet, mut other) = (Puppet::spawn(&ipc_main), Puppet::spawn(&ipc_main));
    puppet.open_frame(1);
    ipc_main.handle("test", |_, _: Args| Ok("main")).unwrap();
    assert_eq!(puppet.invoke_main(1, "test", json!([])).unwrap(), "main");
    answers(&puppet.ipc(), "test", "renderer");
    answers(&puppet.ipc(), "its own", "renderer");
    answers(&puppet.frame(2).unwrap().ipc(), "test", "frame");
    for (frame, who) in [(1, "renderer"), (2, "frame"), (1, "renderer")] {
        assert_eq!(puppet.invoke_main(frame, "test", json!([])).unwrap(), who);
        assert_eq!(puppet.invoke_main(frame, "its own", json!([])).unwrap(), "renderer");
    }
    assert_eq!(other.invoke_main(1, "test", json!([])).unwrap(), "main");
    assert!(puppet.frame(2).unwrap().ipc().remove_handler("test"));
    assert_eq!(puppet.invoke_main(2, "test", json!([])).unwrap(), "renderer");
    assert!(puppet.ipc().remove_handler("test") && !puppet.ipc().remove_handler("test"));
    assert_eq!(puppet.invoke_main(2, "test", json!([])).unwrap(), "main");
    assert!(ipc_main.remove_handler("test"));
    assert_eq!(puppet.invoke_main(2, "test", json!([])).unwrap_err().kind, "NoHandler");
}

#[test]
fn each_receiver_may_have_a_handler_of_a_channel_and_a_second_one_is_refused_by_each() {
    let ipc_main = ipc_main();
    let mut puppet = Puppet::spawn(&ipc_main);
    ipc_main.handle("test", |_, _: Args| Ok("main")).unwrap();
    for receiver in [puppet.ipc(), puppet.main_frame().ipc()] {
        answers(&receiver, "test", "first");
        let error = receiver.handle("test", |_, _: Args| Ok("second")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DuplicateHandler);
        assert_eq!(error.to_string(), "Attempted to register a second handler for 'test'");
        assert!(receiver.has_handler("test"));
    }
    assert_eq!(puppet.invoke_main(1, "test", json!([])).unwrap(), "first");
    // A handler takes no listener's place, nor the other way round.
    assert_eq!(puppet.send_sync(1, "test", json!([])).unwrap_err().kind, "NoListener");
}

#[test]
fn a_scoped_handler_for_one_call_serves_one_and_the_next_falls_back_to_the_one_behind_it() {
    let ipc_main = ipc_main();
    let mut puppet = Puppet::spawn(&ipc_main);
    ipc_main.handle("test", |_, _: Args| Ok("main")).unwrap();
    puppet.ipc().handle_once("test", |_, _: Args| Ok("renderer, once")).unwrap();
    puppet.main_frame().ipc().handle_once_async("test", |_, _: Args| async { Ok("frame, once") }).unwrap();
    // All of them are on their way at once.
    let calls: Vec<_> = (0..4).map(|_| puppet.begin(1, "test", json!([]))).collect();
    for (call, who) in calls.into_iter().zip(["frame, once", "renderer, once", "main", "main"]) {
        assert_eq!(puppet.wait(call).unwrap(), who);
    }
}

#[test]
fn a_scoped_handler_that_fails_is_not_followed_by_the_one_behind_it() {
    let ipc_main = ipc_main();
    ipc_main.on_error(|_| ());
    let mut puppet = Puppet::spawn(&ipc_main);
    ipc_main.handle("test", |_, _: Args| Ok("main")).unwrap();
    puppet.ipc().handle("test", |_, (_,): (u32,)| -> Result<(), ringmain::HandlerError> { panic!("no") }).unwrap();
    assert_eq!(puppet.invoke_main(1, "test", json!([1])).unwrap_err().kind, "HandlerPanicked");
    assert_eq!(puppet.invoke_main(1, "test", json!(["x"])).unwrap_err().kind, "BadArguments");
}

// ---- every message of one renderer ------------------------------------------------------------------------------

#[test]
fn case_069_a_listener_to_all_messages_of_a_renderer_gets_channel_and_arguments_before_all_others() {
    let ipc_main = ipc_main();
    let (mut puppet, mut other) = (Puppet::spawn(&ipc_main), Puppet::spawn(&ipc_main));
    puppet.open_frame(1);
    let notes = Notes::new();
    let (got, gets) = channel();
    let note = notes.listener("all messages");
    puppet.main_frame().ipc().on("test", notes.listener("frame"));
    puppet.ipc().on("test", notes.listener("renderer"));
    ipc_main.on("test", notes.listener("main"));
    let id = puppet.on_ipc_message(move |event: &IpcMainEvent, channel: &str, args: Args| {
        note(event, Args::default());
        assert!(!event.is_synchronous() && !event.is_local());
        got.send((event.sender().id(), event.frame_id(), channel.to_string(), args.to_values())).unwrap();
    });
    puppet.send(1, "test", json!(["foo", {"bar": [1, null]}])).unwrap();
    puppet.send(2, "nobody listens", json!([])).unwrap();
    assert_eq!(notes.of(&mut puppet), ["all messages", "frame", "renderer", "main", "all messages"]);
    other.send(1, "test", json!(["another's"])).unwrap();
    assert_eq!(notes.of(&mut other), ["main"]);
    let first = (puppet.id(), 1, "test".to_string(), vec![json!("foo"), json!({"bar": [1, null]})]);
    let second = (puppet.id(), 2, "nobody listens".to_string(), vec![]);
    assert_eq!(gets.try_iter().collect::<Vec<_>>(), [first, second]);
    // Neither synchronous messages nor calls nor what goes to other renderers.
    let to = other.id();
    puppet.send_sync(1, "test", json!([])).unwrap_err();
    puppet.send_to(1, to, 1, "test", json!([])).unwrap();
    assert_eq!(notes.of(&mut puppet), ["frame", "renderer", "main"]);
    assert!(id.remove());
    puppet.send(1, "test", json!([])).unwrap();
    assert_eq!(notes.of(&mut puppet), ["frame", "renderer", "main"]);
}

#[test]
fn case_070_a_listener_to_all_synchronous_messages_of_a_renderer_may_set_the_return_value_before_all_others() {
    let ipc_main = ipc_main();
    let (mut puppet, mut other) = (Puppet::spawn(&ipc_main), Puppet::spawn(&ipc_main));
    let notes = Notes::new();
    puppet.ipc().on("test", notes.listener("renderer"));
    ipc_main.on("test", notes.listener("main"));
    ipc_main.on("test", |event: &IpcMainEvent, _: Args| event.set_return_value("main").unwrap());
    let note = notes.listener("all synchronous messages");
    puppet.on_ipc_message_sync(move |event: &IpcMainEvent, channel: &str, args: Args| {
        note(event, Args::default());
        assert!(event.is_synchronous());
        event.set_return_value((channel, args.to_values())).unwrap();
    });
    assert_eq!(puppet.send_sync(1, "test", json!(["foo", "bar"])).unwrap(), json!(["test", ["foo", "bar"]]));
    assert_eq!(notes.of(&mut puppet), ["all synchronous messages", "renderer", "main"], "the others run all the same");
    // It counts as a listener, and only for this renderer.
    assert_eq!(puppet.send_sync(1, "nobody listens", json!([])).unwrap(), json!(["nobody listens", []]));
    assert_eq!(other.send_sync(1, "nobody listens", json!([])).unwrap_err().kind, "NoListener");
    assert_eq!(other.send_sync(1, "test", json!([])).unwrap(), "main");
    assert_eq!(notes.of(&mut puppet), ["all synchronous messages", "main"]);
    puppet.send(1, "test", json!([])).unwrap();
    assert_eq!(notes.of(&mut puppet), ["renderer", "main"], "other messages are not for it");
}

#[test]
fn a_message_on_the_channel_ipc_message_is_a_message_like_any_other() {
    let ipc_main = ipc_main();
    let mut puppet = Puppet::spawn(&ipc_main);
    let (got, gets) = channel();
    puppet.on_ipc_message(move |_: &IpcMainEvent, channel: &str, args: Args| {
        got.send((channel.to_string(), args.to_values())).unwrap();
    });
    puppet.send(1, "ipc-message", json!(["forged", []])).unwrap();
    let expected = ("ipc-message".to_string(), vec![json!("forged"), json!([])]);
    assert_eq!(next(&gets, "the message"), expected, "once, as what it is");
    assert_eq!(puppet.send_sync(1, "ipc-message", json!([])).unwrap_err().kind, "NoListener");
    assert!(gets.try_recv().is_err());
}

// ---- the end of a renderer --------------------------------------------------------------------------------------

#[test]
fn after_its_renderer_is_gone_a_scoped_receiver_drops_what_it_has_and_takes_nothing() {
    for killed in [false, true] {
        let ipc_main = ipc_main();
        let gone = gone(&ipc_main);
        let mut puppet = Puppet::spawn(&ipc_main);
        puppet.open_frame(1);
        let token = Arc::new(());
        let keep = || {
            let token = token.clone();
            move |_: &IpcMainEvent, _: Args| drop(token.clone())
        };
        let (frame, main_frame) = (puppet.frame(2).unwrap(), puppet.main_frame());
        let receivers = [puppet.ipc(), frame.ipc(), main_frame.ipc()];
        for receiver in &receivers {
            receiver.on("test", keep());
            receiver.once("test", keep());
            let captured = token.clone();
            receiver.handle("test", move |_, _: Args| Ok(Arc::strong_count(&captured))).unwrap();
            let captured = token.clone();
            receiver.on_new_listener(move |_, _| drop(captured.clone()));
        }
        let captured = token.clone();
        puppet.on_ipc_message(move |_: &IpcMainEvent, _: &str, _| drop(captured.clone()));
        let captured = token.clone();
        puppet.on_ipc_message_sync(move |_: &IpcMainEvent, _: &str, _| drop(captured.clone()));
        assert_eq!(Arc::strong_count(&token), 1 + 3 * 4 + 2);
        if killed {
            puppet.process().kill().unwrap()
        } else {
            puppet.end()
        }
        let (id, reason) = next(&gone, "the end of the renderer");
        assert_eq!((id, matches!(reason, GoneReason::Killed { .. })), (puppet.id(), killed), "{reason}");
        assert_eq!(Arc::strong_count(&token), 1, "dropped before the end is told");
        let now = [puppet.ipc(), frame.ipc(), main_frame.ipc()];
        for receiver in receivers.iter().chain(&now) {
            let id = receiver.on("test", keep());
            assert_eq!((receiver.listener_count("test"), id.remove()), (0, false));
            let captured = token.clone();
            let error = receiver.handle("test", move |_, _: Args| Ok(Arc::strong_count(&captured))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
            assert!(!receiver.has_handler("test") && !receiver.remove_handler("test"));
            assert!(!receiver.emit("test", ()).unwrap());
        }
        let captured = token.clone();
        puppet.on_ipc_message(move |_: &IpcMainEvent, _: &str, _| drop(captured.clone()));
        assert_eq!(Arc::strong_count(&token), 1, "what came later was dropped at once");
    }
}

#[test]
fn a_receiver_asked_for_while_the_last_messages_of_its_renderer_wait_gets_them() {
    let ipc_main = ipc_main();
    let mut puppet = Puppet::spawn(&ipc_main);
    let (gate, notes) = (Gate::default(), Notes::new());
    let waits = gate.clone();
    ipc_main.on("hold", move |_: &IpcMainEvent, ()| waits.wait());
    puppet.send(1, "hold", json!([])).unwrap();
    gate.reached();
    puppet.send(1, "test", json!([])).unwrap();
    puppet.end();
    until("main has seen that it is gone", || !puppet.is_connected());
    puppet.ipc().on("test", notes.listener("renderer"));
    gate.open();
    assert_eq!(next(&notes.1, "the message"), "renderer");
}

#[test]
fn scoped_listeners_that_captured_their_renderer_do_not_keep_its_link_and_go_with_main() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let token = Arc::new(());
    let captured = (token.clone(), web_contents.clone(), ipc_main.clone());
    web_contents.ipc().on("test", move |_: &IpcMainEvent, _: Args| drop(captured.clone()));
    let captured = (token.clone(), web_contents.clone());
    web_contents.main_frame().ipc().on("test", move |_: &IpcMainEvent, _: Args| drop(captured.clone()));
    drop(ipc_main);
    assert_eq!(Arc::strong_count(&token), 1);
    assert!(!web_contents.is_connected());
}

#[test]
fn scoped_listeners_may_be_added_and_removed_by_a_listener_that_runs() {
    let ipc_main = ipc_main();
    let mut puppet = Puppet::spawn(&ipc_main);
    let notes = Notes::new();
    let (renderer, frame, web_contents) =
        (notes.listener("renderer"), Arc::new(notes.listener("main frame")), puppet.web_contents().clone());
    let id = puppet.ipc().on("test", renderer);
    puppet.main_frame().ipc().once("test", move |event: &IpcMainEvent, _: Args| {
        frame(event, Args::default());
        assert!(id.remove(), "not begun yet, so it does not run");
        let frame = frame.clone();
        web_contents.main_frame().ipc().on("test", move |event: &IpcMainEvent, args: Args| frame(event, args));
    });
    ipc_main.on("test", notes.listener("main"));
    for _ in 0..2 {
        puppet.send(1, "test", json!([])).unwrap();
        assert_eq!(notes.of(&mut puppet), ["main frame", "main"]);
    }
}

// ---- numbers and names ------------------------------------------------------------------------------------------

#[test]
fn case_071_a_number_that_names_no_renderer_or_frame_finds_none() {
    let ipc_main = ipc_main();
    let gone = gone(&ipc_main);
    for id in [0, 1, u32::MAX] {
        assert!(ipc_main.web_contents(id).is_none());
    }
    let mut puppet = Puppet::spawn(&ipc_main);
    assert_eq!(ipc_main.web_contents(puppet.id()).as_ref(), Some(puppet.web_contents()));
    for id in [0, 2, u32::MAX] {
        assert!(ipc_main.web_contents(id).is_none() && puppet.frame(id).is_none());
    }
    puppet.end();
    next(&gone, "the end of the renderer");
    assert!(ipc_main.web_contents(puppet.id()).is_none() && ipc_main.all_web_contents().is_empty());
    assert!(puppet.frame(1).is_none());
    assert_eq!(Puppet::spawn(&ipc_main).id(), 2, "numbers are not used twice");
}

#[test]
fn case_068_an_empty_channel_name_is_a_name_like_any_other() {
    let ipc_main = ipc_main();
    let (mut puppet, mut other) = (Puppet::spawn(&ipc_main), Puppet::spawn(&ipc_main));
    let (got, gets) = channel();
    let note = move |ipc_main: &IpcMain| {
        let got = got.clone();
        ipc_main.on("", move |event: &IpcMainEvent, (n,): (Value,)| {
            event.set_return_value(&n).unwrap();
            got.send(n)
        })
    };
    note(&ipc_main);
    assert_eq!(ipc_main.event_names(), [""]);
    ipc_main.handle("", |_, (n,): (Value,)| Ok(n)).unwrap();
    puppet.send(1, "", json!([1])).unwrap();
    assert_eq!(next(&gets, "the message"), 1);
    assert_eq!(puppet.send_sync(1, "", json!([2])).unwrap(), 2);
    assert_eq!(puppet.invoke_main(1, "", json!([3])).unwrap(), 3);
    puppet.on(1, "", None);
    puppet.handle(1, "", "echo").unwrap();
    puppet.web_contents().send("", (4,)).unwrap();
    assert_eq!(puppet.next_got().args, json!([4]));
    let echoed: Vec<u32> = puppet.invoke("", (5,), PATIENCE).wait().unwrap();
    assert_eq!(echoed, [5]);
    let to = puppet.id();
    other.send_to(1, to, 1, "", json!([6])).unwrap();
    let got = puppet.next_got();
    assert_eq!((got.args, got.sender), (json!([6]), u64::from(other.id())));
    // It is not the absence of a name: others do not hear it.
    puppet.on(1, "x", None);
    puppet.web_contents().send("", (7,)).unwrap();
    assert_eq!((puppet.next_got().channel.as_str(), puppet.count_got()), ("", 0));
}
