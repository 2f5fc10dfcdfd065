//! Messages from renderer to renderer, which main hands on: by number, to a host, and what becomes of those that have
//! nobody to go to.
#![allow(missing_docs)]

mod support;

use ringmain::{Args, ErrorKind, IpcMain, IpcMainBuilder, IpcMainEvent, Route, WebContents};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use support::{Gate, Puppet, Told, builder, gone, ipc_main, next, pair, signal, stop, told, until};

#[test]
fn children() {
    support::play(&[("puppet", support::puppet)]);
}

/// Two renderers.
fn two(ipc_main: &IpcMain) -> (Puppet, Puppet) {
    (Puppet::spawn(ipc_main), Puppet::spawn(ipc_main))
}

/// Waits until main has handed on, or dropped, all that a renderer has sent; nobody has a handler for it.
fn handed_on(puppet: &mut Puppet) {
    assert_eq!(puppet.invoke_main(1, "nobody handles this", json!([])).unwrap_err().kind, "NoHandler");
}

/// Checks that a message of `sender` on `channel` was dropped, counted and told, and nothing else; the text that was told.
fn dropped(told: &Receiver<Told>, sender: &WebContents, channel: &str, kind: ErrorKind, count: u64) -> String {
    let what = next(told, "what became of the message");
    assert_eq!(
        (what.renderer, what.channel.as_deref(), what.kind),
        (Some(sender.id()), Some(channel), kind),
        "{}",
        what.text
    );
    assert_eq!(sender.stats().undeliverable, count);
    assert!(sender.is_connected(), "nobody is blamed");
    assert!(told.try_recv().is_err(), "told once");
    what.text
}

// ---- by number --------------------------------------------------------------------------------------------------

#[test]
fn case_065_an_answer_by_the_senders_number_comes_back_to_the_sender() {
    let ipc_main = ipc_main();
    let (heard, hears) = channel();
    ipc_main.on("ping", move |_: &IpcMainEvent, _: Args| heard.send(()));
    let (mut a, mut b) = two(&ipc_main);
    b.on(1, "ping", None);
    a.on(1, "pong", None);
    let payload = json!([{"text": "hällo", "list": [1, 2.5, null, true]}, "second"]);
    a.send_to(1, b.id(), 1, "ping", payload.clone()).unwrap();
    let got = b.next_got();
    assert_eq!((got.args, got.sender, got.sender_frame), (payload.clone(), u64::from(a.id()), 1));
    b.send_to(1, got.sender as u32, 1, "pong", payload.clone()).unwrap();
    let got = a.next_got();
    assert_eq!((got.channel.as_str(), got.args, got.sender), ("pong", payload, u64::from(b.id())));
    assert!(hears.try_recv().is_err(), "main's listeners do not see it");
    assert_eq!((a.stats().undeliverable, b.stats().undeliverable), (0, 0));
}

#[test]
fn case_066_a_child_frames_message_shows_its_frame_and_is_answered_there_by_reply_and_at_the_main_frame_by_number() {
    let ipc_main = ipc_main();
    let (mut a, mut b) = two(&ipc_main);
    assert_eq!((a.open_frame(1), a.open_frame(2)), (2, 3));
    b.open_frame(1);
    for frame in 1..=3 {
        a.on(frame, "replied", None);
        a.on(frame, "by number", None);
    }
    b.on(1, "x", Some("replied"));
    b.on(2, "x", None);
    for frame in [2, 3, 1] {
        a.send_to(frame, b.id(), 1, "x", json!([frame])).unwrap();
        let seen = b.next_got();
        assert_eq!((seen.frame, seen.sender, seen.sender_frame), (1, u64::from(a.id()), frame));
        let got = a.next_got();
        assert_eq!((got.channel.as_str(), got.frame, got.args), ("replied", frame, json!([frame])));
        assert_eq!((got.sender, got.sender_frame), (u64::from(b.id()), 1));
        b.send_to(1, seen.sender as u32, 1, "by number", json!([frame])).unwrap();
        let got = a.next_got();
        assert_eq!((got.channel.as_str(), got.frame), ("by number", 1));
        assert_eq!(a.count_got(), 0, "and no other frame");
    }
    // Frame to frame.
    a.send_to(3, b.id(), 2, "x", json!([])).unwrap();
    let got = b.next_got();
    assert_eq!((got.frame, got.sender_frame), (2, 3));
    assert_eq!(b.count_got(), 0);
}

#[test]
fn case_067_a_channel_name_in_any_script_names_exactly_that_channel_between_renderers() {
    let ipc_main = ipc_main();
    let (mut a, mut b) = two(&ipc_main);
    let names = ["フォーム-Größe", "フォーム-Grösse", "ping-æøåü", "ping-æøåu\u{308}", "__proto__", "🎛\u{0}"];
    names.iter().for_each(|name| b.on(1, name, Some("echo")));
    a.on(1, "echo", None);
    for name in names {
        a.send_to(1, b.id(), 1, name, json!([name])).unwrap();
        assert_eq!((a.next_got().args, b.next_got().channel.as_str()), (json!([name]), name));
        assert_eq!(b.count_got(), 0);
    }
}

#[test]
fn case_128_a_message_of_mains_has_sender_zero_and_a_renderers_its_number() {
    let ipc_main = ipc_main();
    let (mut a, mut b) = two(&ipc_main);
    a.on(1, "x", None);
    ipc_main.on("ask", |event: &IpcMainEvent, _: Args| event.reply("x", ("replied",)).unwrap());
    a.web_contents().send("x", ("sent",)).unwrap();
    a.send(1, "ask", json!([])).unwrap();
    for what in ["sent", "replied"] {
        let got = a.next_got();
        assert_eq!((got.args, got.sender, got.sender_frame), (json!([what]), 0, 0));
    }
    b.send_to(1, a.id(), 1, "x", json!(["routed"])).unwrap();
    let got = a.next_got();
    assert_eq!((got.args, got.sender, got.sender_frame), (json!(["routed"]), u64::from(b.id()), 1));
}

#[test]
fn a_renderer_may_send_to_itself_and_from_one_of_its_frames_to_another() {
    let ipc_main = ipc_main();
    let mut puppet = Puppet::spawn(&ipc_main);
    let id = puppet.id();
    puppet.open_frame(1);
    puppet.on(1, "x", None);
    puppet.on(2, "x", None);
    for (from, to) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        puppet.send_to(from, id, to, "x", json!([])).unwrap();
        let got = puppet.next_got();
        assert_eq!((got.sender, got.sender_frame, got.frame), (u64::from(id), from, to));
    }
    assert_eq!((puppet.count_got(), puppet.stats().undeliverable), (0, 0));
}

#[test]
fn messages_of_a_renderer_and_mains_arrive_in_the_order_in_which_main_handled_them() {
    let ipc_main = ipc_main();
    let (mut a, mut b) = two(&ipc_main);
    let target = b.web_contents().clone();
    ipc_main.on("relay", move |_: &IpcMainEvent, args: Args| target.send("x", args).unwrap());
    b.on(1, "x", None);
    for n in 0..40 {
        match n % 3 {
            0 => a.send(1, "relay", json!([n])).unwrap(),
            _ => a.send_to(1, b.id(), 1, "x", json!([n])).unwrap(),
        };
    }
    for n in 0..40 {
        let got = b.next_got();
        let sender = if n % 3 == 0 { 0 } else { u64::from(a.id()) };
        assert_eq!((got.args, got.sender), (json!([n]), sender));
    }
}

#[test]
fn a_message_larger_than_the_ring_is_handed_on_whole_and_in_order() {
    let ipc_main = builder().ring_size(4 << 10).build().unwrap();
    let (mut a, mut b) = two(&ipc_main);
    b.on(1, "x", None);
    let sizes = [10, 40_000, 3, 200_000, 0];
    for size in sizes {
        a.send_to(1, b.id(), 1, "x", json!(["x".repeat(size)])).unwrap();
    }
    for size in sizes {
        assert_eq!(b.next_got().args[0].as_str().unwrap().len(), size);
    }
}

#[test]
fn what_is_sent_to_a_renderer_that_has_not_connected_yet_waits_for_it_in_order() {
    let ipc_main = ipc_main();
    let mut a = Puppet::spawn(&ipc_main);
    // Its listeners come after it has connected, so only what its builder has could hear these.
    let mut late = Puppet::spawn_unconnected(&ipc_main);
    for n in 0..3 {
        a.send_to(1, late.id(), 1, support::EARLY, json!([n])).unwrap();
    }
    handed_on(&mut a);
    assert_eq!(a.stats().undeliverable, 0);
    late.connect();
    for n in 0..3 {
        let got = late.next_got();
        assert_eq!((got.args, got.sender), (json!([n]), u64::from(a.id())));
    }
}

// ---- nobody to go to --------------------------------------------------------------------------------------------

#[test]
fn case_126_a_number_that_is_nobodys_is_no_error_to_the_sender_and_counted_and_told() {
    let ipc_main = ipc_main();
    let told = told(&ipc_main);
    let mut puppet = Puppet::spawn(&ipc_main);
    for (count, unknown) in [99, u32::MAX].into_iter().enumerate() {
        puppet.send_to(1, unknown, 1, "x", json!([1])).unwrap();
        let text = dropped(&told, puppet.web_contents(), "x", ErrorKind::Undeliverable, count as u64 + 1);
        assert_eq!(text, format!("renderer 1 sent a message to renderer {unknown}, which is not there"));
    }
    // 0 is main, and there is no frame 0: the caller's own mistake.
    let id = puppet.id();
    for (to, frame) in [(0, 1), (0, 2), (id, 0)] {
        let failure = puppet.send_to(1, to, frame, "x", json!([1])).unwrap_err();
        assert_eq!(failure.kind, "InvalidConfig", "{}", failure.text);
    }
    handed_on(&mut puppet);
    assert_eq!(puppet.stats().undeliverable, 2);
}

#[test]
fn case_125_a_message_to_a_renderer_or_frame_that_is_gone_is_dropped_counted_and_told() {
    let ipc_main = ipc_main();
    let (told, gone) = (told(&ipc_main), gone(&ipc_main));
    let (mut a, mut b) = two(&ipc_main);
    a.open_frame(1);
    b.open_frame(1);
    b.on(1, "x", None);
    a.on(2, "x", None);
    let frame = b.frame(2).unwrap();
    b.close_frame(2);
    until("main has heard of it", || frame.is_detached());
    a.send_to(1, b.id(), 2, "x", json!([])).unwrap();
    let text = dropped(&told, a.web_contents(), "x", ErrorKind::Undeliverable, 1);
    assert_eq!(text, "renderer 1 sent a message to renderer 2: frame 2 of it is gone");
    assert_eq!(b.count_got(), 0, "nor does another frame get it");

    // A reply to a frame of another renderer that is gone, and one to a renderer that is.
    b.on(1, "ask", Some("x"));
    let gate = Gate::default();
    let waits = gate.clone();
    ipc_main.on("hold", move |_: &IpcMainEvent, ()| waits.wait());
    a.send(1, "hold", json!([])).unwrap();
    gate.reached();
    a.send_to(2, b.id(), 1, "ask", json!([])).unwrap();
    a.close_frame(2);
    gate.open();
    assert_eq!(b.next_got().sender_frame, 2, "what was sent before arrives");
    let text = dropped(&told, b.web_contents(), "x", ErrorKind::Undeliverable, 1);
    assert_eq!(text, "renderer 2 sent a message to renderer 1: frame 2 of it is gone");

    b.end();
    next(&gone, "the end of the renderer");
    a.send_to(1, b.id(), 1, "x", json!([])).unwrap();
    let text = dropped(&told, a.web_contents(), "x", ErrorKind::Undeliverable, 2);
    assert_eq!(text, "renderer 1 sent a message to renderer 2, which is not there");
}

#[test]
fn the_last_messages_of_a_renderer_that_has_ended_are_still_handed_on() {
    let ipc_main = ipc_main();
    let (mut a, mut b) = two(&ipc_main);
    let gate = Gate::default();
    let waits = gate.clone();
    ipc_main.on("hold", move |_: &IpcMainEvent, ()| waits.wait());
    b.on(1, "x", None);
    b.on_guests(None);
    a.set_host(Some(b.web_contents())).unwrap();
    a.send(1, "hold", json!([])).unwrap();
    gate.reached();
    a.send_to(1, b.id(), 1, "x", json!(["by number"])).unwrap();
    a.send_to_host(1, "x", json!(["to the host"])).unwrap();
    a.end();
    until("main has seen that it is gone", || !a.is_connected());
    gate.open();
    for (what, from_guest) in [("by number", false), ("to the host", true)] {
        let got = b.next_got();
        assert_eq!((got.args, got.sender, got.from_guest), (json!([what]), u64::from(a.id()), from_guest));
    }
}

// ---- hosts and guests -------------------------------------------------------------------------------------------

#[test]
fn case_080_and_081_a_host_gets_a_guests_message_with_its_frame_and_an_answer_goes_to_exactly_that_frame() {
    let ipc_main = ipc_main();
    let (heard, hears) = channel();
    ipc_main.on("channel", move |_: &IpcMainEvent, _: Args| heard.send(()));
    let (mut host, mut guest) = two(&ipc_main);
    assert_eq!(guest.host(), None);
    guest.set_host(Some(host.web_contents())).unwrap();
    assert_eq!((guest.host().as_ref(), host.host()), (Some(host.web_contents()), None));
    host.on(1, "channel", None);
    host.on_guests(Some("answer"));
    let shown = Arc::new(AtomicUsize::new(0));
    for web_contents in [host.web_contents(), guest.web_contents()] {
        let shown = shown.clone();
        web_contents.on_ipc_message(move |_: &IpcMainEvent, _: &str, _| shown.fetch_add(1, Ordering::Relaxed));
    }
    assert_eq!((guest.open_frame(1), guest.open_frame(2)), (2, 3));
    for frame in 1..=3 {
        guest.on(frame, "answer", None);
    }
    for frame in [1, 3, 2] {
        guest.send_to_host(frame, "channel", json!(["arg1", {"second": frame}])).unwrap();
        let got = host.next_got();
        assert_eq!((got.channel.as_str(), got.args), ("channel", json!(["arg1", {"second": frame}])));
        assert_eq!((got.sender, got.sender_frame, got.from_guest), (u64::from(guest.id()), frame, true));
        let got = guest.next_got();
        assert_eq!((got.channel.as_str(), got.frame, got.args[0].as_str()), ("answer", frame, Some("arg1")));
        assert_eq!((got.sender, got.sender_frame), (u64::from(host.id()), 1));
        assert_eq!((guest.count_got(), host.count_got()), (0, 0), "and nobody else");
    }
    assert!(hears.try_recv().is_err(), "main's listeners do not see it");
    assert_eq!(shown.load(Ordering::Relaxed), 0);
}

#[test]
fn a_guest_is_heard_by_its_own_host_alone_and_a_host_may_be_a_guest_itself() {
    let ipc_main = ipc_main();
    let mut renderers = [(); 3].map(|()| Puppet::spawn(&ipc_main));
    renderers.iter_mut().for_each(|renderer| renderer.on_guests(None));
    let [a, b, c] = &mut renderers;
    c.set_host(Some(b.web_contents())).unwrap();
    b.set_host(Some(a.web_contents())).unwrap();
    c.send_to_host(1, "x", json!(["c"])).unwrap();
    let got = b.next_got();
    assert_eq!((got.args, got.sender), (json!(["c"]), u64::from(c.id())));
    b.send_to_host(1, "x", json!(["b"])).unwrap();
    let got = a.next_got();
    assert_eq!((got.args, got.sender), (json!(["b"]), u64::from(b.id())));
    assert_eq!((a.count_got(), b.count_got(), c.count_got()), (0, 0, 0));
    // Another host from now on.
    c.set_host(Some(a.web_contents())).unwrap();
    c.send_to_host(1, "x", json!([])).unwrap();
    assert_eq!(a.next_got().sender, u64::from(c.id()));
    assert_eq!(b.count_got(), 0);
}

#[test]
fn case_127_a_message_to_a_host_that_there_is_not_is_no_error_to_the_sender_and_counted_and_told() {
    let ipc_main = ipc_main();
    let (told, gone) = (told(&ipc_main), gone(&ipc_main));
    let (mut host, mut guest) = two(&ipc_main);
    host.on_guests(None);
    let has_none = "renderer 2 sent a message to its host, but has none";
    let mut send = |count, text: &str| {
        guest.send_to_host(1, "x", json!([1])).unwrap();
        assert_eq!(dropped(&told, guest.web_contents(), "x", ErrorKind::Undeliverable, count), text);
        guest.web_contents().clone()
    };
    let guest = send(1, has_none);
    guest.set_host(Some(host.web_contents())).unwrap();
    guest.set_host(None).unwrap();
    assert_eq!(guest.host(), None);
    send(2, has_none);
    assert_eq!(host.count_got(), 0);
    guest.set_host(Some(host.web_contents())).unwrap();
    host.end();
    next(&gone, "the end of the host");
    assert_eq!(guest.host(), None);
    send(3, "renderer 2 sent a message to renderer 1: renderer 1 is gone");
}

#[test]
fn a_renderer_of_another_main_cannot_be_a_host() {
    let (mains, mut guest) = ((ipc_main(), ipc_main()), None);
    let mut host = Puppet::spawn(&mains.0);
    host.on_guests(None);
    let guest = guest.insert(Puppet::spawn(&mains.1));
    let error = guest.set_host(Some(host.web_contents())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert_eq!(error.to_string(), "renderer 1 of another IpcMain cannot be the host of renderer 1");
    assert_eq!(guest.host(), None);
    // Nor does a number name one of another main.
    let told = told(&mains.1);
    guest.send_to(1, 2, 1, "x", json!([])).unwrap();
    dropped(&told, guest.web_contents(), "x", ErrorKind::Undeliverable, 1);
    assert_eq!(host.count_got(), 0);
}

// ---- the policy -------------------------------------------------------------------------------------------------

/// Sender, its frame, target, channel, and whether it is to the host.
type Seen = (u32, u32, u32, String, bool);

fn with_policy(
    builder: IpcMainBuilder,
    policy: impl Fn(&Route<'_>) -> bool + Send + Sync + 'static,
) -> (IpcMain, Receiver<Seen>) {
    let (seen, sees) = channel();
    let allow = move |route: &Route<'_>| {
        let (sender, frame) = (route.sender(), route.sender_frame());
        assert_eq!(frame.web_contents(), sender);
        let channel = route.channel().to_string();
        seen.send((sender.id(), frame.id(), route.target().id(), channel, route.is_to_host())).unwrap();
        policy(route)
    };
    (builder.allow_route(allow).build().unwrap(), sees)
}

#[test]
fn a_policy_sees_who_sends_what_to_whom_and_what_it_refuses_is_dropped_counted_and_told() {
    let (ipc_main, sees) = with_policy(builder(), |route| route.channel().starts_with("public"));
    let told = told(&ipc_main);
    let (mut a, mut b) = two(&ipc_main);
    a.open_frame(1);
    a.set_host(Some(b.web_contents())).unwrap();
    for channel in ["public", "secret"] {
        b.on(1, channel, None);
    }
    b.on_guests(None);
    let (from, to) = (a.id(), b.id());
    let refused = "renderer 1 may not send to renderer 2: the route policy refuses it";
    a.send_to(2, to, 1, "public", json!([1])).unwrap();
    assert_eq!(next(&sees, "the route"), (from, 2, to, "public".to_string(), false));
    assert_eq!(b.next_got().channel, "public");
    a.send_to(1, to, 1, "secret", json!([2])).unwrap();
    assert_eq!(next(&sees, "the route"), (from, 1, to, "secret".to_string(), false));
    assert_eq!(dropped(&told, a.web_contents(), "secret", ErrorKind::Undeliverable, 1), refused);
    a.send_to_host(2, "public host", json!([3])).unwrap();
    assert_eq!(next(&sees, "the route"), (from, 2, to, "public host".to_string(), true));
    let got = b.next_got();
    assert_eq!((got.channel.as_str(), got.from_guest), ("public host", true));
    a.send_to_host(1, "secret", json!([4])).unwrap();
    assert_eq!(next(&sees, "the route"), (from, 1, to, "secret".to_string(), true));
    assert_eq!(dropped(&told, a.web_contents(), "secret", ErrorKind::Undeliverable, 2), refused);
    // An answer is a message from the other one; and one to itself has to pass too.
    b.send_to(1, from, 1, "secret", json!([])).unwrap();
    let text = dropped(&told, b.web_contents(), "secret", ErrorKind::Undeliverable, 1);
    assert_eq!(text, "renderer 2 may not send to renderer 1: the route policy refuses it");
    b.send_to(1, to, 1, "secret", json!([])).unwrap();
    dropped(&told, b.web_contents(), "secret", ErrorKind::Undeliverable, 2);
    // Main needs no leave.
    b.web_contents().send("secret", (5,)).unwrap();
    assert_eq!((b.next_got().args, b.count_got()), (json!([5]), 0));
    assert_eq!(sees.try_iter().count(), 2);
}

#[test]
fn a_policy_is_not_asked_about_messages_that_have_nobody_to_go_to() {
    let (ipc_main, sees) = with_policy(builder(), |_| true);
    let told = told(&ipc_main);
    let mut puppet = Puppet::spawn(&ipc_main);
    puppet.send_to(1, 9, 1, "x", json!([])).unwrap();
    dropped(&told, puppet.web_contents(), "x", ErrorKind::Undeliverable, 1);
    puppet.send_to_host(1, "x", json!([])).unwrap();
    dropped(&told, puppet.web_contents(), "x", ErrorKind::Undeliverable, 2);
    assert!(sees.try_recv().is_err());
}

#[test]
fn a_policy_that_panics_refuses_and_main_goes_on() {
    let (ipc_main, sees) = with_policy(builder(), |route| match route.channel() {
        "bomb" => panic!("the policy fell"),
        _ => true,
    });
    let told = told(&ipc_main);
    let (mut a, mut b) = two(&ipc_main);
    b.on(1, "bomb", None);
    b.on(1, "x", None);
    a.send_to(1, b.id(), 1, "bomb", json!([])).unwrap();
    let panicked = next(&told, "the panic");
    assert_eq!(panicked.kind, ErrorKind::HandlerPanicked);
    assert!(panicked.text.contains("the policy fell"), "{}", panicked.text);
    dropped(&told, a.web_contents(), "bomb", ErrorKind::Undeliverable, 1);
    a.send_to(1, b.id(), 1, "x", json!([])).unwrap();
    assert_eq!((b.next_got().channel.as_str(), b.count_got()), ("x", 0));
    assert_eq!(sees.try_iter().count(), 2);
}

#[test]
fn a_policy_may_use_the_api() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let notes = sent.clone();
    let (ipc_main, _sees) = with_policy(builder(), move |route| {
        route.sender().send("asked", (route.target().id(),)).unwrap();
        route.target().ipc().on("x", |_: &IpcMainEvent, _: Args| ());
        notes.lock().unwrap().push(route.target().frames().len());
        !route.sender_frame().is_detached() && route.sender().host().is_none()
    });
    let (mut a, mut b) = two(&ipc_main);
    a.on(1, "asked", None);
    b.on(1, "x", None);
    a.send_to(1, b.id(), 1, "x", json!([])).unwrap();
    assert_eq!(a.next_got().args, json!([b.id()]));
    assert_eq!(b.next_got().sender, u64::from(a.id()));
    assert_eq!(*sent.lock().unwrap(), [1]);
}

// ---- limits of the target ---------------------------------------------------------------------------------------

#[test]
fn what_is_beyond_a_targets_own_limits_is_dropped_and_told_and_its_link_stays() {
    const SIZE: usize = 4096;
    let ipc_main = ipc_main();
    let told = told(&ipc_main);
    let mut a = Puppet::spawn(&ipc_main);
    let mut b = Puppet::spawn_with_limits(&ipc_main, 10, SIZE);
    b.on(1, "x", None);
    b.on_guests(None);
    a.set_host(Some(b.web_contents())).unwrap();
    let many: Vec<u32> = (0..50).collect();
    let to = b.id();
    let expectations: [(Value, ErrorKind); 2] =
        [(json!(many), ErrorKind::Undeliverable), (json!(["x".repeat(SIZE)]), ErrorKind::TooLarge)];
    let mut count = 0;
    for (args, kind) in expectations {
        for to_host in [false, true] {
            match to_host {
                true => a.send_to_host(1, "x", args.clone()).unwrap(),
                false => a.send_to(1, to, 1, "x", args.clone()).unwrap(),
            };
            count += 1;
            dropped(&told, a.web_contents(), "x", kind, count);
        }
    }
    // A channel name of that length, and main's own words, which are its own mistake.
    a.send_to(1, to, 1, &"n".repeat(SIZE), json!([])).unwrap();
    let what = next(&told, "what became of it");
    assert_eq!((what.renderer, what.kind), (Some(a.id()), ErrorKind::TooLarge), "{}", what.text);
    assert_eq!(b.web_contents().send("x", &many[..]).unwrap_err().kind(), ErrorKind::InvalidValue);
    assert_eq!(b.web_contents().send("x", ("x".repeat(SIZE),)).unwrap_err().kind(), ErrorKind::TooLarge);
    // Up to them all arrives.
    a.send_to(1, to, 1, "x", json!(many[..9])).unwrap();
    a.send_to(1, to, 1, "x", json!(["x".repeat(SIZE - 100)])).unwrap();
    assert_eq!(b.next_got().args, json!(many[..9]));
    assert_eq!((b.next_got().args[0].as_str().unwrap().len(), b.count_got()), (SIZE - 100, 0));
    assert!(a.is_connected() && b.is_connected());
}

#[test]
fn a_value_that_cannot_travel_is_refused_at_the_sender_and_never_reaches_main() {
    let (ipc_main, sender) = pair();
    let told = told(&ipc_main);
    let mut puppet = Puppet::spawn(&ipc_main);
    puppet.on(1, "x", None);
    puppet.on_guests(None);
    let web_contents = ipc_main.web_contents(sender.id()).unwrap();
    web_contents.set_host(Some(puppet.web_contents())).unwrap();
    for number in [f64::NAN, f64::INFINITY] {
        let refused = [
            sender.send_to(puppet.id(), "x", ("before", number)),
            sender.send_to_frame(puppet.id(), 1, "x", ("before", number)),
            sender.send_to_host("x", ("before", number)),
        ];
        for error in refused.map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::InvalidValue);
            assert!(error.to_string().contains("args[1]"), "{error}");
        }
    }
    let name = "n".repeat((64 << 10) + 1);
    assert_eq!(sender.send_to(puppet.id(), &name, ()).unwrap_err().kind(), ErrorKind::TooLarge);
    sender.send_to(puppet.id(), "x", (1.5,)).unwrap();
    assert_eq!((puppet.next_got().args, puppet.count_got()), (json!([1.5]), 0));
    assert_eq!(web_contents.stats().messages_received, 1);
    assert!(told.try_recv().is_err());
}

// ---- the share of the queue -------------------------------------------------------------------------------------

const LIMIT: usize = 64 << 10;
const SHARE: usize = LIMIT / 4;
const RING: usize = 4 << 10;
/// Bytes of a message's text.
const PART: usize = 1000;

/// A main whose queues are small, and a renderer that has stopped: it does not read.
fn with_a_stopped_target() -> (IpcMain, Receiver<Told>, Puppet) {
    let ipc_main = builder().ring_size(RING).queue_limit(LIMIT).build().unwrap();
    let told = told(&ipc_main);
    let mut target = Puppet::spawn(&ipc_main);
    target.on(1, "x", None);
    stop(target.process().id());
    (ipc_main, told, target)
}

#[test]
fn others_get_a_quarter_of_the_queue_of_a_renderer_that_does_not_read_and_main_the_rest() {
    let (ipc_main, told, mut target) = with_a_stopped_target();
    let (mut a, mut b) = two(&ipc_main);
    let to = target.id();
    let part = "x".repeat(PART);
    // Twice as much as the share and the ring together take, by two senders in turn.
    let sent = 2 * (SHARE + RING) / PART;
    let mut taken = Vec::new();
    for n in 0..sent {
        let sender = if n % 2 == 0 { &mut a } else { &mut b };
        let before = sender.stats().undeliverable;
        sender.send_to(1, to, 1, "x", json!([n, part])).unwrap();
        handed_on(sender);
        if sender.stats().undeliverable == before {
            assert_eq!(taken.len(), n, "once it is used up, nothing more is taken");
            taken.push(n);
        } else {
            let id = sender.id();
            let what = next(&told, "what became of it");
            let expected = (Some(id), Some("x"), ErrorKind::Full);
            assert_eq!((what.renderer, what.channel.as_deref(), what.kind), expected, "{}", what.text);
        }
    }
    assert!(told.try_recv().is_err());
    assert!(taken.len() * PART > SHARE && taken.len() < sent, "{} of {sent} were taken", taken.len());
    let queued = target.stats().queued_bytes as usize;
    assert!((SHARE..SHARE + 2 * PART).contains(&queued), "{queued} bytes wait");
    assert_eq!(target.stats().undeliverable, 0, "it is the senders' count");
    // Main's own messages have room still, and main its own limit.
    let mut own = 0;
    let error = loop {
        match target.web_contents().send("x", (own, &part)) {
            Ok(()) => own += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(own * PART > LIMIT - SHARE - 4 * PART, "{own} were taken");
    // Nobody else is harmed.
    b.on(1, "y", None);
    a.send_to(1, b.id(), 1, "y", json!([])).unwrap();
    assert_eq!(b.next_got().channel, "y");
    signal(target.process().id(), Signal::CONT);
    for n in taken {
        let got = target.next_got();
        assert_eq!((got.args[0].as_u64(), got.sender), (Some(n as u64), [a.id(), b.id()].map(u64::from)[n % 2]));
    }
    for n in 0..own {
        let got = target.next_got();
        assert_eq!((got.args[0].as_u64(), got.sender), (Some(n as u64), 0));
    }
    assert_eq!(target.count_got(), 0);
    // What has drained counts no more.
    until("its queue has drained", || target.stats().queued_bytes == 0);
    a.send_to(1, to, 1, "x", json!(["again"])).unwrap();
    assert_eq!(target.next_got().args, json!(["again"]));
}

#[test]
fn one_legal_message_larger_than_the_share_passes_if_no_other_waits() {
    let (ipc_main, told, mut target) = with_a_stopped_target();
    let mut sender = Puppet::spawn(&ipc_main);
    let to = target.id();
    let large = "x".repeat(2 * SHARE);
    sender.send_to(1, to, 1, "x", json!([large])).unwrap();
    handed_on(&mut sender);
    assert_eq!(sender.stats().undeliverable, 0);
    assert!(target.stats().queued_bytes as usize > SHARE);
    sender.send_to(1, to, 1, "x", json!(["small"])).unwrap();
    dropped(&told, sender.web_contents(), "x", ErrorKind::Full, 1);
    signal(target.process().id(), Signal::CONT);
    assert_eq!(target.next_got().args, json!([large]));
    until("its queue has drained", || target.stats().queued_bytes == 0);
    sender.send_to(1, to, 1, "x", json!(["later"])).unwrap();
    assert_eq!(target.next_got().args, json!(["later"]));
}

#[test]
fn what_main_itself_has_queued_does_not_use_up_the_share_of_others() {
    let (ipc_main, told, mut target) = with_a_stopped_target();
    let mut sender = Puppet::spawn(&ipc_main);
    let part = "x".repeat(PART);
    let mut own = 0;
    while (target.stats().queued_bytes as usize) < LIMIT / 2 {
        target.web_contents().send("x", (own, &part)).unwrap();
        own += 1;
    }
    let to = target.id();
    let mut taken = 0;
    while sender.stats().undeliverable == 0 {
        sender.send_to(1, to, 1, "x", json!([own + taken, part])).unwrap();
        handed_on(&mut sender);
        taken += 1;
    }
    taken -= 1;
    dropped(&told, sender.web_contents(), "x", ErrorKind::Full, 1);
    assert!((SHARE / 2 / PART..=SHARE / PART + 1).contains(&taken), "{taken} were taken");
    signal(target.process().id(), Signal::CONT);
    for n in 0..own + taken {
        assert_eq!(target.next_got().args[0].as_u64(), Some(n as u64));
    }
}

#[test]
fn a_target_that_dies_with_a_full_share_harms_no_sender() {
    let (ipc_main, told, target) = with_a_stopped_target();
    let gone = gone(&ipc_main);
    let mut sender = Puppet::spawn(&ipc_main);
    let (to, part) = (target.id(), "x".repeat(PART));
    while sender.stats().undeliverable == 0 {
        sender.send_to(1, to, 1, "x", json!([part])).unwrap();
        handed_on(&mut sender);
    }
    dropped(&told, sender.web_contents(), "x", ErrorKind::Full, 1);
    target.process().kill().unwrap();
    assert_eq!(next(&gone, "its end").0, to);
    sender.send_to(1, to, 1, "x", json!([part])).unwrap();
    dropped(&told, sender.web_contents(), "x", ErrorKind::Undeliverable, 2);
    assert_eq!(target.stats().queued_bytes, 0);
}
