//! What happens when one side is faster than the other: nothing blocks but who asked to wait, nothing is lost that was
//! taken, and memory is bounded.
#![allow(missing_docs)]

mod support;

use futures::channel::oneshot;
use ringmain::{ErrorKind, IpcMain, IpcMainBuilder, IpcRenderer, WebContents};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Gate, PATIENCE, bounded, builder, next, pair_of, until};

/// Bytes that may wait in the queues of these tests.
const LIMIT: usize = 64 << 10;
/// Bytes of one of the messages with which they are filled, a little more with its envelope.
const PART: usize = 1000;

fn small() -> IpcMainBuilder {
    builder().ring_size(4 << 10).queue_limit(LIMIT)
}

/// A main and a renderer whose dispatcher waits at the gate: it does not read.
struct Blocked {
    ipc_main: IpcMain,
    ipc_renderer: IpcRenderer,
    web_contents: WebContents,
    gate: Gate,
    /// Bytes that the renderer had read when it came to the gate.
    read: usize,
    /// Numbers that the renderer was sent on `n`.
    numbers: Receiver<usize>,
}

impl Blocked {
    fn new(builder: IpcMainBuilder) -> Self {
        let (ipc_main, ipc_renderer) = pair_of(builder);
        Self::of(ipc_main, ipc_renderer)
    }

    fn of(ipc_main: IpcMain, ipc_renderer: IpcRenderer) -> Self {
        let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
        let (gate, (number, numbers)) = (Gate::default(), channel());
        let waits = gate.clone();
        ipc_renderer.on("block", move |_, ()| waits.wait());
        ipc_renderer.on("n", move |_, (n, _): (usize, String)| number.send(n));
        web_contents.send("block", ()).unwrap();
        gate.reached();
        let read = ipc_renderer.stats().bytes_received as usize;
        Self { ipc_main, ipc_renderer, web_contents, gate, read, numbers }
    }

    fn queued(&self) -> usize {
        self.web_contents.stats().queued_bytes as usize
    }

    /// Whether a thread of the renderer that waits has read as much for the dispatcher as it may.
    fn inbox_is_full(&self) -> bool {
        self.ipc_renderer.stats().bytes_received as usize >= self.read + LIMIT
    }

    /// Sends numbers from `from` on until `enough` holds; returns the next number.
    fn fill(&self, from: usize, enough: impl Fn(&Self) -> bool) -> usize {
        let mut n = from;
        while !enough(self) {
            self.web_contents.send("n", (n, part())).unwrap();
            n += 1;
        }
        n
    }

    /// What cannot be read for now waits, for as long as it takes; nobody is blamed for that.
    fn still_waits(&self) {
        let error = self.web_contents.flush(Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(self.web_contents.is_connected() && self.ipc_renderer.is_connected());
    }

    /// Opens the gate and checks that the numbers below `to` arrive in order.
    fn arrive(&self, to: usize) {
        self.gate.open();
        for n in 0..to {
            assert_eq!(next(&self.numbers, "a number"), n);
        }
    }
}

fn part() -> String {
    "x".repeat(PART)
}

#[test]
fn a_renderer_that_does_not_read_fills_its_queue_and_nothing_taken_is_lost_or_reordered() {
    let blocked = Blocked::new(small());
    let mut sent = 0;
    let error = loop {
        match blocked.web_contents.send("n", (sent, part())) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.is_transient() && !error.is_misuse());
    let queued = blocked.queued();
    assert!((LIMIT..LIMIT + 2 * PART).contains(&queued), "{queued} bytes wait");
    let text = error.to_string();
    assert!(text.starts_with("renderer 1 does not keep up") && text.contains("queue_limit is 65536"), "{text}");
    assert!(text.contains(&queued.to_string()), "{text}");
    // Refused for good: large or small, by reply too; and what was refused leaves no trace.
    for _ in 0..3 {
        assert_eq!(blocked.web_contents.send("n", (0, "")).unwrap_err().kind(), ErrorKind::Full);
    }
    assert_eq!(blocked.web_contents.stats().refused_full, 4);
    assert_eq!(blocked.web_contents.stats().messages_sent, sent as u64 + 1);
    assert_eq!(blocked.queued(), queued);
    blocked.arrive(sent);
    blocked.web_contents.flush(PATIENCE).unwrap();
    blocked.web_contents.send("n", (sent, "")).unwrap();
    assert_eq!(next(&blocked.numbers, "the next number"), sent);
}

#[test]
fn a_main_that_does_not_read_fills_the_renderers_queue_in_the_same_way() {
    let (ipc_main, ipc_renderer) = pair_of(small());
    let gate = Gate::default();
    let (waits, (number, numbers)) = (gate.clone(), channel());
    ipc_main.on("block", move |_, ()| waits.wait());
    ipc_main.on("n", move |_, (n, _): (usize, String)| number.send(n));
    ipc_renderer.send("block", ()).unwrap();
    gate.reached();
    let mut sent = 0;
    let error = loop {
        match ipc_renderer.send("n", (sent, part())) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().starts_with("main does not keep up"), "{error}");
    // A call is refused like a message, by its future, and is not pending.
    let call = ipc_renderer.invoke::<()>("x", ());
    assert_eq!(ipc_renderer.send_sync::<()>("x", ()).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(ipc_renderer.stats().pending_calls, 0);
    gate.open();
    for n in 0..sent {
        assert_eq!(next(&numbers, "a number"), n);
    }
    ipc_renderer.flush(PATIENCE).unwrap();
    assert_eq!(ipc_renderer.stats().queued_bytes, 0);
    ipc_renderer.send("n", (sent, "")).unwrap();
    assert_eq!(next(&numbers, "the next number"), sent);
}

#[test]
fn an_empty_queue_takes_any_legal_message_however_low_its_limit_is() {
    let blocked = Blocked::new(builder().ring_size(4 << 10).queue_limit(1).max_message_size(4 << 20));
    // 24 bytes of header, 1 of channel, 1 for the list, 1 for the number and 5 before the text.
    let long = "x".repeat((4 << 20) - 32);
    blocked.web_contents.send("n", (0, &long)).unwrap();
    assert_eq!(blocked.web_contents.send("n", (1, "")).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(blocked.web_contents.send("n", (0, long + "x")).unwrap_err().kind(), ErrorKind::TooLarge);
    blocked.arrive(1);
    blocked.web_contents.send_timeout("n", (1, ""), PATIENCE).unwrap();
    assert_eq!(next(&blocked.numbers, "the next number"), 1);
    let call = blocked.ipc_renderer.invoke::<()>("nobody", ()).timeout(PATIENCE).wait();
    assert_eq!(call.unwrap_err().kind(), ErrorKind::NoHandler, "main reads the renderer on");
}

#[test]
fn with_the_defaults_a_message_of_64_mib_passes_a_queue_of_16() {
    let (ipc_main, ipc_renderer) = pair_of(builder());
    let (gate, (length, lengths)) = (Gate::default(), channel());
    let waits = gate.clone();
    ipc_renderer.on("block", move |_, ()| waits.wait());
    // Compared as a whole: byte by byte, 64 MiB take long in a debug build.
    ipc_renderer.on("x", move |_, (text,): (String,)| length.send((text.len(), text == "x".repeat(text.len()))));
    let web_contents = ipc_main.web_contents(1).unwrap();
    web_contents.send("block", ()).unwrap();
    gate.reached();
    let most = (64 << 20) - 31;
    web_contents.send("x", ("x".repeat(most),)).unwrap();
    let error = web_contents.send("x", ("",)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    gate.open();
    assert_eq!(next(&lengths, "the long message"), (most, true));
    web_contents.flush(PATIENCE).unwrap();
    web_contents.send("x", ("",)).unwrap();
    assert_eq!(next(&lengths, "the short one"), (0, true));
}

#[test]
fn send_timeout_waits_until_the_queue_takes_the_message() {
    let blocked = Blocked::new(small());
    let sent = blocked.fill(0, |blocked| blocked.queued() >= LIMIT);
    let error = blocked.web_contents.send_timeout("n", (0, ""), Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!(blocked.web_contents.send_timeout("n", (0, ""), Duration::ZERO).unwrap_err().kind(), ErrorKind::Full);
    let refused = blocked.web_contents.stats().refused_full;
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let web_contents = blocked.web_contents.clone();
            std::thread::spawn(move || web_contents.send_timeout("n", (usize::MAX, part()), PATIENCE))
        })
        .collect();
    until("all threads wait", || blocked.web_contents.stats().refused_full >= refused + 3);
    blocked.arrive(sent);
    for thread in threads {
        thread.join().unwrap().unwrap();
        assert_eq!(next(&blocked.numbers, "the late message"), usize::MAX);
    }
}

#[test]
fn send_timeout_of_a_link_that_ends_says_disconnected() {
    let blocked = Blocked::new(small());
    blocked.fill(0, |blocked| blocked.queued() >= LIMIT);
    let refused = blocked.web_contents.stats().refused_full;
    let web_contents = blocked.web_contents.clone();
    let sending = std::thread::spawn(move || web_contents.send_timeout("n", (0, part()), PATIENCE));
    let web_contents = blocked.web_contents.clone();
    let flushing = std::thread::spawn(move || web_contents.flush(PATIENCE));
    until("it waits", || blocked.web_contents.stats().refused_full > refused);
    let error = blocked.web_contents.close(Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("they are lost"), "{error}");
    // At once, and not when the renderer reads again.
    let results = bounded("both waits", move || [sending, flushing].map(|thread| thread.join().unwrap()));
    assert_eq!(results.map(|result| result.unwrap_err().kind()), [ErrorKind::Disconnected; 2]);
    blocked.gate.open();
}

#[test]
fn flush_returns_when_all_is_in_the_ring_and_says_what_is_not() {
    let blocked = Blocked::new(small());
    blocked.web_contents.flush(Duration::ZERO).unwrap();
    let sent = blocked.fill(0, |blocked| blocked.queued() >= LIMIT / 2);
    let error = blocked.web_contents.flush(Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let text = format!("{} bytes still wait for renderer 1 after 20ms: it does not read", blocked.queued());
    assert_eq!(error.to_string(), text);
    let web_contents = blocked.web_contents.clone();
    let flushing = std::thread::spawn(move || web_contents.flush(PATIENCE));
    blocked.gate.open();
    flushing.join().unwrap().unwrap();
    assert_eq!(blocked.queued(), 0);
    blocked.arrive(sent);
}

#[test]
fn a_reply_that_finds_no_room_becomes_reply_full_and_the_call_ends() {
    let blocked = Blocked::new(small());
    let (start, starts) = channel::<oneshot::Sender<()>>();
    blocked
        .ipc_main
        .handle_async("work", move |_, ()| {
            let (go, goes) = oneshot::channel();
            start.send(go).unwrap();
            async move { Ok(goes.await.map(|()| 1)?) }
        })
        .unwrap();
    let (event, events) = channel();
    blocked.ipc_main.on("ask", move |asked, ()| event.send(asked.clone()));
    let calls = [(); 3].map(|()| blocked.ipc_renderer.invoke::<i32>("work", ()).timeout(PATIENCE));
    let starts = [(); 3].map(|()| next(&starts, "the start of a handler"));
    let asking = blocked.ipc_renderer.clone();
    let asking = std::thread::spawn(move || asking.send_sync_timeout::<i32>("ask", (), PATIENCE));
    let event = next(&events, "the synchronous message");
    // The thread that asks reads the ring, into an inbox as large as the queue; full for good is the queue after that.
    let mut sent = 0;
    loop {
        let reads_no_more = blocked.inbox_is_full();
        match blocked.web_contents.send("n", (sent, part())) {
            Ok(()) => sent += 1,
            Err(_) if reads_no_more => break,
            Err(_) => std::thread::yield_now(),
        }
    }
    for go in starts {
        go.send(()).unwrap();
    }
    assert_eq!(event.set_return_value(1).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(event.set_return_value(2).map_err(|error| error.kind()), Ok(()), "it is answered already");
    until("all calls are answered", || blocked.web_contents.stats().open_requests <= 1);
    blocked.arrive(sent);
    let check = |error: ringmain::Error| {
        assert_eq!(error.kind(), ErrorKind::ReplyFull);
        assert!(error.is_transient() && error.is_remote());
        assert!(error.to_string().contains("queue_limit is 65536"), "{error}");
    };
    calls.into_iter().for_each(|call| check(call.wait().unwrap_err()));
    check(asking.join().unwrap().unwrap_err());
    assert_eq!(blocked.ipc_renderer.stats().pending_calls, 0);
}

/// Main's listener of `ping`.
fn pings(ipc_main: &IpcMain) -> Receiver<usize> {
    let (ping, pings) = channel();
    ipc_main.on("ping", move |_, (n,): (usize,)| ping.send(n));
    pings
}

#[test]
fn main_does_not_read_a_renderer_that_does_not_read_until_its_queue_falls() {
    let ipc_main = small().build().unwrap();
    let (lazy, busy) = (ipc_main.attach().unwrap(), ipc_main.attach().unwrap());
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let blocked = Blocked::of(ipc_main, lazy);
    let pings = pings(&blocked.ipc_main);
    let sent = blocked.fill(0, |blocked| blocked.queued() > LIMIT / 2 + PART);
    let call = blocked.ipc_renderer.invoke::<i64>("add", (1, 1)).timeout(PATIENCE);
    blocked.ipc_renderer.send("ping", (7,)).unwrap();
    // Main turns the other link meanwhile, and would have come by.
    for n in 0..200 {
        assert_eq!(busy.invoke::<i64>("add", (n, 3)).timeout(PATIENCE).wait().unwrap(), n + 3);
    }
    assert_eq!(pings.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(blocked.web_contents.stats().messages_received, 0);
    blocked.gate.open();
    assert_eq!(next(&pings, "the ping"), 7);
    assert_eq!(call.wait().unwrap(), 2);
    blocked.arrive(sent);
}

#[test]
fn main_reads_on_also_if_another_thread_has_emptied_the_queue() {
    for round in 0..30 {
        let blocked = Blocked::new(small());
        let pings = pings(&blocked.ipc_main);
        let sent = blocked.fill(0, |blocked| blocked.queued() > LIMIT / 2 + PART);
        (0..5).for_each(|n| blocked.ipc_renderer.send("ping", (n,)).unwrap());
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                let web_contents = blocked.web_contents.clone();
                std::thread::spawn(move || match thread {
                    0 => web_contents.flush(PATIENCE).unwrap(),
                    _ if round % 2 == 0 => (0..20).for_each(|_| web_contents.send("other", ()).unwrap()),
                    _ => {}
                })
            })
            .collect();
        blocked.gate.open();
        for n in 0..5 {
            assert_eq!(next(&pings, "a ping"), n, "round {round}");
        }
        blocked.arrive(sent);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// The state of a thread of this process: `S` sleeps, `R` runs.
fn state_of(thread: &str) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{thread}/stat")).unwrap();
    stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap()
}

#[test]
fn main_sleeps_while_it_waits_for_a_renderer_whose_messages_it_has_read_ahead() {
    let blocked = Blocked::new(small());
    let pings = pings(&blocked.ipc_main);
    let (gate, (thread, threads)) = (Gate::default(), channel());
    let (held, sender, filled) = (gate.clone(), blocked.web_contents.clone(), Arc::new(Mutex::new(0)));
    let count = filled.clone();
    blocked.ipc_main.on("hold", move |_, ()| held.wait());
    blocked.ipc_main.on("fill", move |_, ()| {
        let mut sent = 0;
        while sender.stats().queued_bytes as usize <= LIMIT / 2 + PART {
            sender.send("n", (sent, part())).unwrap();
            sent += 1;
        }
        *count.lock().unwrap() = sent;
        thread.send(std::fs::read_link("/proc/thread-self").unwrap().into_os_string().into_string().unwrap()).unwrap();
    });
    blocked.ipc_renderer.send("hold", ()).unwrap();
    gate.reached();
    blocked.ipc_renderer.send("fill", ()).unwrap();
    (0..5).for_each(|n| blocked.ipc_renderer.send("ping", (n,)).unwrap());
    gate.open();
    let dispatcher = next(&threads, "the name of main's dispatcher");
    let mut asleep = 0;
    until("main's dispatcher sleeps", || {
        asleep = if state_of(&dispatcher) == 'S' { asleep + 1 } else { 0 };
        asleep > 200
    });
    blocked.gate.open();
    for n in 0..5 {
        assert_eq!(next(&pings, "a ping"), n);
    }
    let sent = *filled.lock().unwrap();
    blocked.arrive(sent);
}

#[test]
fn a_thread_that_waits_stops_reading_when_the_inbox_is_full_and_nothing_is_lost() {
    let blocked = Blocked::new(small());
    let (start, starts) = channel::<oneshot::Sender<()>>();
    blocked
        .ipc_main
        .handle_async("work", move |_, ()| {
            let (go, goes) = oneshot::channel();
            start.send(go).unwrap();
            async move { Ok(goes.await?) }
        })
        .unwrap();
    let calling = blocked.ipc_renderer.clone();
    let calling = std::thread::spawn(move || calling.invoke::<()>("work", ()).timeout(PATIENCE).wait());
    let go = next(&starts, "the start of the handler");
    // As much as the inbox takes and half of what the queue does.
    let sent = LIMIT * 3 / 2 / (PART + 32);
    for n in 0..sent {
        blocked.web_contents.send_timeout("n", (n, part()), PATIENCE).unwrap();
    }
    until("the inbox is full", || blocked.inbox_is_full());
    go.send(()).unwrap();
    blocked.still_waits();
    blocked.arrive(sent);
    calling.join().unwrap().unwrap();
}

#[test]
fn a_large_message_waits_until_the_process_limit_has_room_for_it() {
    let blocked = Blocked::new(builder().ring_size(4 << 10).max_message_size(1 << 20).process_limit(1 << 20));
    let (start, starts) = channel::<oneshot::Sender<()>>();
    blocked
        .ipc_main
        .handle_async("work", move |_, ()| {
            let (go, goes) = oneshot::channel();
            start.send(go).unwrap();
            async move { Ok(goes.await?) }
        })
        .unwrap();
    let calling = blocked.ipc_renderer.clone();
    let calling = std::thread::spawn(move || calling.invoke::<()>("work", ()).timeout(PATIENCE).wait());
    let go = next(&starts, "the start of the handler");
    // The thread that waits reads them; its inbox then leaves too little of the limit for the large one.
    for n in 0..600 {
        blocked.web_contents.send_timeout("n", (n, part()), PATIENCE).unwrap();
    }
    blocked.web_contents.flush(PATIENCE).unwrap();
    blocked.web_contents.send("n", (600, "x".repeat(900_000))).unwrap();
    go.send(()).unwrap();
    blocked.still_waits();
    blocked.arrive(601);
    calling.join().unwrap().unwrap();
    until("the budget is given back", || blocked.web_contents.send("n", (0, "x".repeat(1_000_000))).is_ok());
}

#[test]
fn two_ends_whose_queues_have_used_up_their_limits_read_each_others_large_messages() {
    const LARGE: usize = 900_000;
    let (ipc_main, ipc_renderer) =
        pair_of(builder().ring_size(4 << 10).max_message_size(1 << 20).process_limit(1 << 20));
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let gates = [Gate::default(), Gate::default()];
    let (len, lens) = channel();
    let (of_main, of_renderer) = (len.clone(), len);
    let [mains, renderers] = gates.clone();
    ipc_main.on("block", move |_, ()| mains.wait());
    ipc_renderer.on("block", move |_, ()| renderers.wait());
    ipc_main.on("large", move |_, (text,): (String,)| of_main.send(("main", text.len())));
    ipc_renderer.on("large", move |_, (text,): (String,)| of_renderer.send(("renderer", text.len())));
    // Neither reads while both fill their queues.
    ipc_renderer.send("block", ()).unwrap();
    web_contents.send("block", ()).unwrap();
    gates.iter().for_each(Gate::reached);
    ipc_renderer.send("large", ("x".repeat(LARGE),)).unwrap();
    web_contents.send("large", ("x".repeat(LARGE),)).unwrap();
    gates.iter().for_each(Gate::open);
    let mut arrived = [next(&lens, "one large message"), next(&lens, "the other")];
    arrived.sort_unstable();
    assert_eq!(arrived, [("main", LARGE), ("renderer", LARGE)]);
    until("the budgets are given back", || {
        web_contents.send("x", ("x".repeat(1_000_000),)).is_ok()
            && ipc_renderer.send("x", ("x".repeat(1_000_000),)).is_ok()
    });
}

#[test]
fn the_process_limit_counts_the_queues_of_all_links_together() {
    let limit = 256 << 10;
    let ipc_main = small().queue_limit(4 << 20).max_message_size(limit).process_limit(limit).build().unwrap();
    let (one, other) = (ipc_main.attach().unwrap(), ipc_main.attach().unwrap());
    let blocked = Blocked::of(ipc_main, one);
    let web_contents = blocked.ipc_main.web_contents(other.id()).unwrap();
    let (number, numbers) = channel();
    let gate = Gate::default();
    let waits = gate.clone();
    other.on("block", move |_, ()| waits.wait());
    other.on("n", move |_, (n, _): (usize, String)| number.send(n));
    web_contents.send("block", ()).unwrap();
    gate.reached();
    let mut sent = [0; 2];
    let errors = [&blocked.web_contents, &web_contents].map(|web_contents| {
        let link = usize::from(web_contents != &blocked.web_contents);
        loop {
            // The first one takes half of the limit, the second one what is left.
            if link == 0 && blocked.queued() > limit / 2 {
                break None;
            }
            match web_contents.send("n", (sent[link], part())) {
                Ok(()) => sent[link] += 1,
                Err(error) => break Some(error),
            }
        }
    });
    let [None, Some(error)] = errors else { panic!("{errors:?}") };
    assert_eq!(error.kind(), ErrorKind::Full);
    let text = error.to_string();
    assert!(text.contains("process_limit is 262144") && !text.contains("queue_limit"), "{text}");
    let error = blocked.web_contents.send("n", (0, part())).unwrap_err();
    assert!(error.to_string().contains("process_limit"), "{error}");

    // A wait for room that only another link can give ends when its time is over, and when there is room.
    let (waiting, first) = (blocked.web_contents.clone(), sent[0]);
    let error = bounded("a send_timeout without room", move || {
        waiting.send_timeout("n", (0, "x".repeat(100_000)), Duration::from_millis(20)).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Full);
    let waiting = blocked.web_contents.clone();
    let refused = waiting.stats().refused_full;
    let thread = std::thread::spawn(move || waiting.send_timeout("n", (first, "x".repeat(100_000)), PATIENCE));
    until("it waits", || blocked.web_contents.stats().refused_full > refused);
    gate.open();
    (0..sent[1]).for_each(|n| assert_eq!(next(&numbers, "a number"), n));
    bounded("the send_timeout that waits", move || thread.join().unwrap()).unwrap();
    blocked.arrive(sent[0] + 1);
}

#[test]
fn what_waits_for_a_renderer_that_has_not_connected_counts_like_a_queue() {
    let ipc_main = small().build().unwrap();
    // A program that never connects.
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "read line"]).stdin(std::process::Stdio::piped());
    let child = support::Child(ipc_main.spawn(command).unwrap());
    let stdin = child.process().take_stdin();
    let mut sent = 0;
    let error = loop {
        match child.send("n", (sent, part())) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!((LIMIT..LIMIT + 2 * PART).contains(&(child.stats().queued_bytes as usize)));
    assert_eq!((child.stats().messages_sent, child.stats().refused_full), (sent, 1));
    assert_eq!(child.flush(Duration::from_millis(20)).unwrap_err().kind(), ErrorKind::Timeout);
    let error = child.send_timeout("n", (0, ""), Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(!child.is_connected());
    drop(stdin); // it ends
    let flushed = child.flush(PATIENCE).unwrap_err();
    assert_eq!(flushed.kind(), ErrorKind::Disconnected);
    assert_eq!(child.send("n", (0, "")).unwrap_err().kind(), ErrorKind::Disconnected);
}

#[test]
fn the_counters_of_both_ends_agree() {
    let (ipc_main, ipc_renderer) = pair_of(builder());
    let web_contents = ipc_main.web_contents(1).unwrap();
    let (heard, hears) = channel();
    ipc_renderer.on("n", move |_, (n,): (usize,)| heard.send(n));
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_main.on("ask", |event, ()| event.set_return_value(1));
    for n in 0..10 {
        web_contents.send("n", (n,)).unwrap();
        ipc_renderer.send("nobody", (n,)).unwrap();
    }
    (0..10).for_each(|n| assert_eq!(next(&hears, "a number"), n));
    assert_eq!(ipc_renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE).wait().unwrap(), 5);
    assert_eq!(ipc_renderer.send_sync_timeout::<i64>("ask", (), PATIENCE).unwrap(), 1);
    // Ten messages and two replies, ten messages and two requests.
    until("the last request has ended", || web_contents.stats().open_requests == 0);
    let (main, renderer) = (web_contents.stats(), ipc_renderer.stats());
    assert_eq!((main.messages_sent, main.messages_received), (12, 12));
    assert_eq!((renderer.messages_sent, renderer.messages_received), (12, 12));
    assert_eq!((main.bytes_sent, main.bytes_received), (renderer.bytes_received, renderer.bytes_sent));
    // Ten messages of 24 + 1 + 1 + 1 bytes, two replies of 24 + 1.
    assert_eq!(main.bytes_sent, 10 * 27 + 2 * 25);
    assert_eq!(renderer.bytes_sent, 10 * (24 + 6 + 2) + (24 + 3 + 3) + (24 + 3 + 1));
    for stats in [main, renderer] {
        assert_eq!((stats.queued_bytes, stats.refused_full, stats.late_replies, stats.pending_calls), (0, 0, 0, 0));
    }
}
