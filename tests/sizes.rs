//! Messages of every size, through rings of every size, from many threads, both ways at once.
#![allow(missing_docs)]

mod support;

use ringmain::{ErrorKind, GoneReason, IpcMain, IpcMainBuilder, IpcRenderer, Wait, WebContents};
use std::io::BufReader;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use support::{
    Child, Gate, LONG, PATIENCE, builder, child, connected, env, line, next, received, say, spawn, until, until_said,
};

#[test]
fn children() {
    support::play(&[
        ("mirrors", mirrors),
        ("tries the limit", tries_the_limit),
        ("takes little", takes_little),
        ("calls with large texts", calls_with_large_texts),
        ("sends from many threads", sends_from_many_threads),
        ("bursts", bursts),
        ("takes a stream", takes_a_stream),
    ]);
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A text that is the same for the same length, and whose parts tell where in it they stand.
fn text(len: usize) -> String {
    // Its length is a prime, so no chunk or ring fits it.
    const PATTERN: &str =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.:,;!?+*/=()[]{}<>|&%$#@~^'`";
    let period = &PATTERN[..89];
    let mut text = period[len % 89..].to_string();
    text.push_str(&period.repeat(len / 89 + 1));
    text.truncate(len);
    text
}

/// As [`next`], for what is behind thousands of ring-fuls: on a busy machine each costs turns of the scheduler.
fn next_of_many<T>(receiver: &Receiver<T>, what: &str) -> T {
    receiver.recv_timeout(LONG).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Sends, waiting for room where there is none.
fn send(to: &WebContents, channel: &str, text: &str) {
    to.send_timeout(channel, (text,), PATIENCE).unwrap();
}

// ---- each boundary ------------------------------------------------------------------------------------------------

/// Sends back what it gets: so each text crosses either ring.
fn mirrors() {
    let ipc_renderer = connected();
    let back = ipc_renderer.clone();
    ipc_renderer.on("text", move |_event, (text,): (String,)| back.send_timeout("text", (text,), PATIENCE).unwrap());
    let (gone, is_gone) = channel();
    ipc_renderer.on_disconnected(move |reason| gone.send(reason.clone()).unwrap_or_default());
    ipc_renderer.send("here", ()).unwrap();
    let reason = is_gone.recv_timeout(2 * LONG).unwrap();
    // Main has killed us by now, unless it is the link that broke.
    assert!(matches!(reason, GoneReason::Closed | GoneReason::Exited { .. }), "{reason}");
}

fn mirror(options: IpcMainBuilder) -> (IpcMain, Child, Receiver<(WebContents, (String,))>) {
    let ipc_main = options.build().unwrap();
    let here = received::<()>(&ipc_main, "here");
    let texts = received::<(String,)>(&ipc_main, "text");
    let child = spawn(&ipc_main, "mirrors");
    next(&here, "the mirror");
    (ipc_main, child, texts)
}

/// All of these lengths at once, in this order.
fn cross(to: &WebContents, texts: &Receiver<(WebContents, (String,))>, lengths: &[usize]) {
    std::thread::scope(|scope| {
        scope.spawn(|| lengths.iter().for_each(|len| send(to, "text", &text(*len))));
        for len in lengths {
            let (_, (found,)) = next_of_many(texts, "a text");
            assert_eq!(found.len(), *len);
            assert!(found == text(*len), "{len} bytes arrived, but not those that were sent");
        }
    });
}

#[test]
fn texts_of_every_length_around_every_boundary_cross_both_rings_unchanged_and_in_order() {
    let (_ipc_main, child, texts) = mirror(builder());
    // Header, channel name and lengths make up to 40 bytes, so each of the message's lengths is met.
    let around = |boundary: usize| boundary.saturating_sub(56)..=boundary + 8;
    let mut lengths: Vec<_> = (0..=600).collect();
    // A chunk, a quarter, half and all of the ring, some chunks; then the lengths at which MessagePack changes form.
    for boundary in [32 * KIB - 8, 64 * KIB, 128 * KIB, 3 * (32 * KIB - 8), 256 * KIB] {
        lengths.extend(around(boundary));
    }
    cross(&child, &texts, &lengths);
    cross(&child, &texts, &[MIB, 0, 5 * MIB + 1, 1, 16 * MIB, 2, 33 * MIB, 0]);
}

#[test]
fn rings_of_a_kibibyte_carry_messages_of_any_length() {
    let (_ipc_main, child, texts) = mirror(builder().ring_size(KIB));
    let lengths: Vec<_> = (0..=1200).chain([4 * KIB, 0, 64 * KIB, MIB, 1, 3 * MIB]).collect();
    cross(&child, &texts, &lengths);
}

#[test]
fn rings_of_a_mebibyte_carry_messages_of_any_length() {
    let (_ipc_main, child, texts) = mirror(builder().ring_size(MIB));
    let around = |boundary: usize| (boundary - 56..=boundary + 8).step_by(4);
    let lengths: Vec<_> = [MIB / 4 - 8, MIB / 2, MIB].into_iter().flat_map(around).chain([0, 4 * MIB]).collect();
    cross(&child, &texts, &lengths);
}

// ---- the limit ----------------------------------------------------------------------------------------------------

fn tries_the_limit() {
    let ipc_renderer = connected();
    let limit: usize = env("TEST_LIMIT").parse().unwrap();
    let (tell, told) = channel();
    ipc_renderer.on("text", move |_event, (text,): (String,)| tell.send(text));
    ipc_renderer.send("here", ()).unwrap();
    let longest = at_the_limit(
        limit,
        |text| ipc_renderer.send_timeout("text", (text,), PATIENCE),
        || ipc_renderer.stats().bytes_sent,
    );
    for len in [0, longest, 2] {
        let found = next(&told, "a text");
        assert!(found == text(len), "{} bytes instead of {len}", found.len());
    }
    let error = ipc_renderer.invoke::<()>("text", (&text(longest + 1),)).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let error = ipc_renderer.send_sync::<()>("text", (&text(longest + 1),)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    ipc_renderer.send("done", (longest,)).unwrap();
    support::until_disconnected(&ipc_renderer);
}

/// Sends an empty text, one that makes the longest legal message, one byte more, and a short one: all but the third are
/// taken. Returns the longest length.
fn at_the_limit(limit: usize, send: impl Fn(&str) -> ringmain::Result<()>, bytes_sent: impl Fn() -> u64) -> usize {
    let before = bytes_sent();
    send("").unwrap();
    // A text of more than 65 535 bytes has four bytes of length where the empty one has none.
    let longest = limit - (bytes_sent() - before) as usize - 4;
    let before = bytes_sent();
    send(&text(longest)).unwrap();
    assert_eq!(bytes_sent() - before, limit as u64);
    let before = bytes_sent();
    let error = send(&text(longest + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let said = error.to_string();
    assert!(said.contains(&limit.to_string()), "{said}");
    assert_eq!(bytes_sent(), before);
    send(&text(2)).unwrap();
    longest
}

#[test]
fn the_longest_message_crosses_and_one_byte_more_is_too_large_with_nothing_lost() {
    for (limit, options) in [(64 * MIB, builder()), (100_000, builder().max_message_size(100_000))] {
        let ipc_main = options.build().unwrap();
        let here = received::<()>(&ipc_main, "here");
        let texts = received::<(String,)>(&ipc_main, "text");
        let done = received::<(usize,)>(&ipc_main, "done");
        let mut program = child("tries the limit");
        program.env("TEST_LIMIT", limit.to_string());
        let child = Child(ipc_main.spawn(program).unwrap());
        next(&here, "the renderer");
        let longest =
            at_the_limit(limit, |text| child.send_timeout("text", (text,), PATIENCE), || child.stats().bytes_sent);
        for len in [0, longest, 2] {
            let (_, (found,)) = next(&texts, "a text");
            assert!(found == text(len), "{} bytes instead of {len}", found.len());
        }
        // The channel's name has the same length both ways.
        assert_eq!(next(&done, "the renderer's own try").1.0, longest);
        assert!(child.is_connected());
    }
}

fn takes_little() {
    assert_eq!(line(), "connect");
    let (tell, told) = channel();
    let ipc_renderer = IpcRenderer::builder()
        .max_message_size(10_000)
        .on("text", move |_event, (text,): (String,)| tell.send(text))
        .connect()
        .unwrap();
    for len in [1, 2, 9_000] {
        assert!(next(&told, "a text") == text(len));
    }
    let error = ipc_renderer.invoke::<String>("long", ()).timeout(PATIENCE).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handler);
    assert!(error.to_string().contains("10000"), "{error}");
    let error = ipc_renderer.send("text", (text(10_000),)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    ipc_renderer.send("done", ()).unwrap();
    support::until_disconnected(&ipc_renderer);
}

#[test]
fn a_renderer_that_takes_less_sets_the_limit_both_ways_also_for_what_waited_for_it() {
    let ipc_main = builder().build().unwrap();
    let (error, errors) = channel();
    ipc_main.on_error(move |report| error.send(report.error.kind()).unwrap_or_default());
    ipc_main.handle("long", |_event, (): ()| Ok(text(10_000))).unwrap();
    let done = received::<()>(&ipc_main, "done");
    let mut program = child("takes little");
    program.stdin(Stdio::piped());
    let child = Child(ipc_main.spawn(program).unwrap());
    // Its limit is not known yet.
    for len in [1, 10_000, 2] {
        child.send("text", (text(len),)).unwrap();
    }
    say(&mut child.process().take_stdin().unwrap(), "connect");
    assert_eq!(next(&errors, "the report of what was too large"), ErrorKind::TooLarge);
    until("the renderer is connected", || child.is_connected());
    assert_eq!(child.send("text", (text(10_000),)).unwrap_err().kind(), ErrorKind::TooLarge);
    child.send("text", (text(9_000),)).unwrap();
    next(&done, "the renderer's own check");
}

// ---- calls --------------------------------------------------------------------------------------------------------

fn calls_with_large_texts() {
    let wait = match env("TEST_WAIT").as_str() {
        "park" => Wait::Park,
        "spin" => Wait::Spin,
        _ => Wait::Adaptive,
    };
    let ipc_renderer = IpcRenderer::builder().wait(wait).connect().unwrap();
    for len in [0, MIB, 1, MIB + 12_345, 3 * MIB, 200 * KIB, 20 * MIB] {
        for _ in 0..3 {
            let sent = text(len);
            let back: String = ipc_renderer.invoke("echo", (&sent,)).timeout(PATIENCE).wait().unwrap();
            assert!(back == sent, "{len}");
            let len_there: usize = ipc_renderer.send_sync_timeout("length", (&sent,), PATIENCE).unwrap();
            assert_eq!(len_there, len);
            // By a future: the dispatcher reads the answer.
            let back: String =
                futures::executor::block_on(ipc_renderer.invoke("echo", (&sent,)).timeout(PATIENCE)).unwrap();
            assert!(back == sent, "{len}");
        }
    }
    ipc_renderer.send("done", ()).unwrap();
}

#[test]
fn large_calls_are_answered_however_both_sides_wait() {
    let ways = [("park", Wait::Park), ("adaptive", Wait::Adaptive), ("park", Wait::Adaptive), ("adaptive", Wait::Park)];
    for (theirs, ours) in ways {
        let ipc_main = builder().wait(ours).build().unwrap();
        ipc_main.handle("echo", |_event, (text,): (String,)| Ok(text)).unwrap();
        ipc_main.on("length", |event: &ringmain::IpcMainEvent, (text,): (String,)| event.set_return_value(text.len()));
        let done = received::<()>(&ipc_main, "done");
        let mut program = child("calls with large texts");
        program.env("TEST_WAIT", theirs);
        let _child = Child(ipc_main.spawn(program).unwrap());
        next(&done, "the calls");
    }
}

// ---- many threads -------------------------------------------------------------------------------------------------

const THREADS: usize = 4;
const MESSAGES: usize = 300;

/// Mostly small, some larger than a chunk, few larger than the ring.
fn length_of(thread: usize, number: usize) -> usize {
    match (thread + 7 * number) % 50 {
        0 => 150 * KIB + number,
        1..5 => 33 * KIB + number,
        _ => (13 * number + thread) % 3000,
    }
}

/// Four threads send at once, each its messages in order.
fn send_from_many_threads(send: impl Fn(usize, usize, String) + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let send = &send;
            scope.spawn(move || (0..MESSAGES).for_each(|number| send(thread, number, text(length_of(thread, number)))));
        }
    });
}

/// Takes what four threads sent and checks that each one's messages are whole and in order; told when all are there.
fn checks_order(done: Sender<Result<(), String>>) -> impl Fn((usize, usize, String)) + Send + Sync + 'static {
    let expected = Mutex::new([0; THREADS]);
    move |(thread, number, found)| {
        let mut expected = expected.lock().unwrap();
        if number != expected[thread] || found != text(length_of(thread, number)) {
            let (is, len) = (expected[thread], found.len());
            let _ = done.send(Err(format!("thread {thread}: message {number} of {len} bytes came instead of {is}")));
        }
        expected[thread] = number + 1;
        if expected.iter().all(|count| *count == MESSAGES) {
            let _ = done.send(Ok(()));
        }
    }
}

fn sends_from_many_threads() {
    let ipc_renderer = connected();
    let (done, is_done) = channel();
    let check = checks_order(done);
    ipc_renderer.on("text", move |_event, message: (usize, usize, String)| check(message));
    ipc_renderer.send("here", ()).unwrap();
    let calls = std::thread::scope(|scope| {
        // Whoever waits for an answer reads for everybody.
        let calls = scope.spawn(|| {
            for number in 0..MESSAGES as i64 {
                let back: i64 = ipc_renderer.invoke("echo", (number,)).timeout(LONG).wait().unwrap();
                assert_eq!(back, number);
            }
        });
        send_from_many_threads(|thread, number, text| {
            ipc_renderer.send_timeout("text", (thread, number, text), PATIENCE).unwrap();
        });
        calls.join()
    });
    calls.unwrap();
    next_of_many(&is_done, "all messages of main").unwrap();
    ipc_renderer.send("done", ()).unwrap();
    support::until_disconnected(&ipc_renderer);
}

#[test]
fn messages_of_many_threads_cross_both_ways_at_once_whole_and_in_each_threads_order() {
    for options in [builder(), builder().ring_size(4 * KIB)] {
        let ipc_main = options.build().unwrap();
        ipc_main.handle("echo", |_event, (number,): (i64,)| Ok(number)).unwrap();
        let (checked, is_checked) = channel();
        let check = checks_order(checked);
        ipc_main.on("text", move |_event, message: (usize, usize, String)| check(message));
        let here = received::<()>(&ipc_main, "here");
        let done = received::<()>(&ipc_main, "done");
        let child = spawn(&ipc_main, "sends from many threads");
        next(&here, "the renderer");
        send_from_many_threads(|thread, number, text| {
            child.send_timeout("text", (thread, number, text), PATIENCE).unwrap();
        });
        next_of_many(&is_checked, "all messages of the renderer").unwrap();
        next_of_many(&done, "the renderer's own check");
    }
}

// ---- both rings full ----------------------------------------------------------------------------------------------

const PIECES: usize = 64;
const PIECE: usize = 64 * KIB;
const ROUNDS: usize = 3;

fn checks_pieces(done: Sender<Result<(), String>>) -> impl Fn((usize, String)) + Send + Sync + 'static {
    let expected = Mutex::new(0);
    move |(number, found)| {
        let mut expected = expected.lock().unwrap();
        if number != *expected || found != text(PIECE + number) {
            let _ = done.send(Err(format!("piece {number} of {} bytes came instead of {expected}", found.len())));
        }
        *expected = (number + 1) % PIECES;
        if *expected == 0 {
            let _ = done.send(Ok(()));
        }
    }
}

/// 4 MiB at once, from a listener that reads nothing until its parent says so.
fn bursts() {
    let ipc_renderer = connected();
    let (done, is_done) = channel();
    let check = checks_pieces(done);
    ipc_renderer.on("piece", move |_event, piece: (usize, String)| check(piece));
    let (to, caller) = (ipc_renderer.clone(), ipc_renderer.clone());
    let (called, calls) = channel();
    ipc_renderer.on("burst", move |_event, (): ()| {
        (0..PIECES).for_each(|number| to.send("piece", (number, text(PIECE + number))).unwrap());
        println!("burst");
        assert_eq!(line(), "read");
        // Whoever waits for an answer reads for everybody: not before both rings are full.
        let (caller, called) = (caller.clone(), called.clone());
        std::thread::spawn(move || called.send(caller.invoke::<i64>("after", ()).timeout(LONG).wait()));
    });
    ipc_renderer.send("here", ()).unwrap();
    for _ in 0..ROUNDS {
        next_of_many(&is_done, "all pieces").unwrap();
        assert_eq!(next_of_many(&calls, "the call behind the burst").unwrap(), PIECES as i64);
        ipc_renderer.send("done", ()).unwrap();
    }
    support::until_disconnected(&ipc_renderer);
}

#[test]
fn both_sides_fill_the_rings_before_either_reads_and_nobody_locks_up() {
    for options in [builder(), builder().ring_size(KIB)] {
        let ipc_main = options.build().unwrap();
        let (checked, is_checked) = channel();
        let check = checks_pieces(checked);
        let count = Arc::new(Mutex::new(0i64));
        let counted = count.clone();
        ipc_main.on("piece", move |_event, piece: (usize, String)| {
            *counted.lock().unwrap() += 1;
            check(piece);
        });
        // Behind the pieces of its round, in the same order.
        ipc_main.handle("after", move |_event, (): ()| Ok(std::mem::take(&mut *count.lock().unwrap()))).unwrap();
        let gate = Arc::new(Mutex::new(Gate::default()));
        let shut = gate.clone();
        ipc_main.on("block", move |_event, (): ()| {
            let gate = shut.lock().unwrap().clone();
            gate.wait();
        });
        let here = received::<()>(&ipc_main, "here");
        let done = received::<()>(&ipc_main, "done");
        let blocker = ipc_main.attach().unwrap();
        let mut program = child("bursts");
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = Child(ipc_main.spawn(program).unwrap());
        let mut stdin = child.process().take_stdin().unwrap();
        let mut stdout = BufReader::new(child.process().take_stdout().unwrap());
        next(&here, "the renderer");
        for _ in 0..ROUNDS {
            let blocked = Gate::default();
            *gate.lock().unwrap() = blocked.clone();
            blocker.send("block", ()).unwrap();
            blocked.reached();
            child.send("burst", ()).unwrap();
            stdout = until_said(stdout, "burst");
            (0..PIECES).for_each(|number| child.send("piece", (number, text(PIECE + number))).unwrap());
            assert!(child.stats().queued_bytes > 0);
            say(&mut stdin, "read");
            blocked.open();
            next_of_many(&is_checked, "all pieces").unwrap();
            next_of_many(&done, "the renderer's own check");
        }
    }
}

// ---- one way ------------------------------------------------------------------------------------------------------

fn takes_a_stream() {
    let ipc_renderer = connected();
    let (done, is_done) = channel();
    let next_number = Mutex::new(0);
    ipc_renderer.on("piece", move |_event, (number, _): (usize, String)| {
        let mut expected = next_number.lock().unwrap();
        assert_eq!(number, *expected);
        *expected += 1;
        if number + 1 == STREAM {
            done.send(()).unwrap();
        }
    });
    ipc_renderer.send("here", ()).unwrap();
    is_done.recv_timeout(LONG).unwrap();
    ipc_renderer.send("done", ()).unwrap();
    support::until_disconnected(&ipc_renderer);
}

const STREAM: usize = 40_000;

#[test]
fn a_long_stream_to_a_renderer_that_says_nothing_is_no_reason_to_cut_its_link() {
    let ipc_main = builder().ring_size(KIB).queue_limit(4 * KIB).build().unwrap();
    let gone = support::gone(&ipc_main);
    let here = received::<()>(&ipc_main, "here");
    let done = received::<()>(&ipc_main, "done");
    let child = spawn(&ipc_main, "takes a stream");
    next(&here, "the renderer");
    let text = text(200);
    for number in 0..STREAM {
        child.send_timeout("piece", (number, &text), PATIENCE).unwrap();
    }
    next(&done, "the last of the stream");
    assert!(gone.try_recv().is_err());
}
