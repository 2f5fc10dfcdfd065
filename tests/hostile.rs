//! Renderers that break the protocol, each rule of it: main stays up, answers everybody else, cuts who broke a rule for the
//! right reason, and keeps nothing of it.
//!
//! Each table runs in a process of its own, where descriptors and threads can be counted. The random mode takes
//! `RINGMAIN_TEST_SEED` (one number) and `RINGMAIN_TEST_ROUNDS`.
#![allow(missing_docs)]

#[path = "support/hostile.rs"]
mod peer;
mod support;

use peer::*;
use ringmain::{Args, Backing, ErrorKind, GoneReason, IpcMain, IpcMainBuilder, IpcRenderer, Wait, WebContents};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::pipe::PipeFlags;
use rustix::thread::futex;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use support::{
    Child, PATIENCE, Program, Refused, TempDir, Told, alone, bounded, builder, child, gone, next, open_fds, refuse,
    shared_memory_of, threads, told, until,
};

#[test]
fn children() {
    support::play(&[
        ("futures learn of a hang-up", futures_learn_of_a_hang_up),
        ("handshakes", handshakes),
        ("half-open handshakes", half_open_handshakes),
        ("hangs up again and again", hangs_up_again_and_again),
        ("the socket after the handshake", the_socket_after_the_handshake),
        ("connects elsewhere", connects_elsewhere),
        ("descriptors that linger", descriptors_that_linger),
        ("descriptors that linger on an older kernel", descriptors_that_linger_on_an_older_kernel),
        ("descriptors on an older kernel", descriptors_on_an_older_kernel),
        ("control words", control_words),
        ("records", records),
        ("chunks", chunks),
        ("messages", messages),
        ("payloads", payloads),
        ("calls", calls),
        ("floods", floods),
        ("waits for the budget", waits_for_the_budget),
        ("wake storms", wake_storms),
        ("sleepers moved", sleepers_moved),
        ("the region", the_region),
        ("the end", the_end),
        ("writes on after it has hung up", writes_on_after_it_has_hung_up),
        ("replies behind a deadline", replies_behind_a_deadline),
        ("wide messages", wide_messages),
        ("random", random),
        ("corrupt child", corrupt_child),
        ("storm", storm),
    ]);
}

// ---- the stage ----------------------------------------------------------------------------------------------------

/// A main that listens, an honest renderer of it, and what main is told of others.
struct Stage {
    ipc_main: IpcMain,
    directory: TempDir,
    path: PathBuf,
    gone: Receiver<(u32, GoneReason)>,
    told: Receiver<Told>,
    honest: IpcRenderer,
}

impl Stage {
    fn new() -> Self {
        Self::of(builder())
    }

    fn of(builder: IpcMainBuilder) -> Self {
        let directory = TempDir::new();
        let ipc_main = builder.runtime_dir(&*directory).build().unwrap();
        ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
        ipc_main.handle("take", |_event, (_value,): (Value,)| Ok(())).unwrap();
        ipc_main.handle("give", |_event, (len,): (usize,)| Ok("x".repeat(len))).unwrap();
        ipc_main
            .handle_async("never", |_event, (): ()| std::future::pending::<Result<(), ringmain::HandlerError>>())
            .unwrap();
        ipc_main.on("number", |_event, (_number,): (i64,)| {});
        ipc_main.on("any", |_event, args: Args| drop(args.to_values()));
        let path = ipc_main.listen("main").unwrap();
        let (gone, told) = (gone(&ipc_main), told(&ipc_main));
        let honest = ipc_main.attach().unwrap();
        Self { ipc_main, directory, path, gone, told, honest }
    }

    fn hostile(&self) -> Hostile {
        let mut hostile = Hostile::connect(&self.path);
        assert!(hostile.is_answered(), "an honest beginning");
        hostile
    }

    /// Before its first record, so that its ring begins at 0.
    fn fresh(&self) -> Hostile {
        let hostile = Hostile::connect(&self.path);
        until("main has its Hello", || self.web_contents(&hostile).is_connected());
        hostile
    }

    fn web_contents(&self, hostile: &Hostile) -> WebContents {
        self.ipc_main.web_contents(hostile.id()).expect("main knows it")
    }

    /// Main is alive and answers another.
    fn is_well(&self) {
        let sum: i64 = self.honest.invoke("add", (2, 3)).timeout(PATIENCE).wait().expect("an honest renderer's answer");
        assert_eq!(sum, 5);
    }

    /// The next end that main tells, which must be this link's.
    fn end_of(&self, id: u32, row: &str) -> GoneReason {
        let (told, reason) = next(&self.gone, &format!("the end of the link in: {row}"));
        assert_eq!(told, id, "{row}");
        reason
    }

    /// The link is cut, and main says why.
    fn is_cut(&self, hostile: &Hostile, why: &str, row: &str) {
        match self.end_of(hostile.id(), row) {
            GoneReason::Corrupt(text) => assert!(text.contains(why), "{row}: {text:?} instead of {why:?}"),
            other => panic!("{row}: {other:?} instead of {why:?}"),
        }
        hostile.connection.until_cut();
        self.is_well();
    }

    /// The link still works, and ends in order.
    fn works(&self, hostile: &mut Hostile, row: &str) {
        assert!(hostile.is_answered(), "{row}: the link was cut: {:?}", self.gone.try_recv());
        self.leaves(hostile, row);
    }

    /// It says that it closes.
    fn leaves(&self, hostile: &mut Hostile, row: &str) {
        hostile.send(&message(CLOSE, 1, 0, "", 0, &[]));
        hostile.ring_all();
        assert_eq!(self.end_of(hostile.id(), row), GoneReason::Closed, "{row}");
        self.is_well();
    }

    /// Runs `body`, after which descriptors and threads are what they were, and after whose end nothing is left.
    fn leaks_nothing(self, body: impl FnOnce(&Self)) {
        let mut first = self.hostile();
        self.works(&mut first, "the first");
        drop(first);
        let before = (open_fds(), threads());
        body(&self);
        self.is_well();
        until("descriptors and threads are back", || (open_fds(), threads()) == before);
        assert!(self.gone.try_recv().is_err(), "every end was expected");
        let Self { ipc_main, directory, honest, .. } = self;
        drop((honest, ipc_main));
        assert_eq!(shared_memory_of(std::process::id()), [""; 0]);
        assert_eq!(directory.names(), [""; 0]);
    }
}

fn is_sealed() -> bool {
    support::backing() == Backing::Sealed
}

// ---- the handshake ------------------------------------------------------------------------------------------------

#[test]
fn each_broken_rule_of_the_handshake_is_told_and_cuts_that_link_alone() {
    alone("handshakes");
}

fn handshakes() {
    Stage::new().leaks_nothing(|stage| {
        let hello = Hello::default();
        let with = |change: fn(&mut Hello)| {
            let mut hello = Hello::default();
            change(&mut hello);
            hello.encode()
        };
        let patched = |at: usize, byte: u8| {
            let mut bytes = Hello::default().encode();
            bytes[at] = byte;
            bytes
        };
        let body = hello.body();
        let longer = [&body[..], &[0]].concat();
        let mut rows: Vec<(String, Vec<u8>, &str)> = vec![
            ("as it should be".into(), hello.encode(), ""),
            ("another magic".into(), patched(0, b'r'), "does not begin with RINGMAIN"),
            ("a magic that ends otherwise".into(), patched(7, 0), "does not begin with RINGMAIN"),
            ("a Welcome".into(), datagram(WELCOME, 1, 0, &body), "of type 1 instead of 2"),
            ("type 0".into(), datagram(0, 1, 0, &body), "of type 0"),
            ("type 255".into(), datagram(255, 1, 0, &body), "of type 255"),
            ("major 0".into(), datagram(HELLO, 0, 0, &body), "never: speaks version 0.0"),
            ("major 2".into(), datagram(HELLO, 2, 0, &body), "never: speaks version 2.0"),
            ("major of all bits".into(), datagram(HELLO, 65535, 65535, &body), "never: speaks version 65535.65535"),
            ("a later minor".into(), datagram(HELLO, 1, 9, &body), ""),
            ("a later minor and a field more".into(), datagram(HELLO, 1, 9, &longer), ""),
            ("a field more".into(), datagram(HELLO, 1, 0, &longer), "1 bytes follow its last field"),
            ("a length one less".into(), patched(13, hello.encode()[13] - 1), "it says that it has"),
            ("a length one more".into(), patched(13, hello.encode()[13] + 1), "it says that it has"),
            ("a length of all bits".into(), patched(16, 255), "it says that it has"),
            ("nothing".into(), Vec::new(), "less than the 17 of a header"),
            ("the longest".into(), datagram(HELLO, 1, 9, &[&body[..], &vec![7; 4096 - 17 - body.len()]].concat()), ""),
            (
                "longer".into(),
                datagram(HELLO, 1, 9, &[&body[..], &vec![7; 4097 - 17 - body.len()]].concat()),
                "longer than",
            ),
            ("much longer".into(), vec![7; 100_000], "longer than 4096"),
            ("neither accepted nor refused".into(), with(|hello| hello.accepted = 2), "neither 0 nor 1"),
            ("refused for no reason".into(), with(|hello| hello.accepted = 0), "why it refuses"),
            ("accepted for a reason".into(), with(|hello| hello.refusal = b"why".to_vec()), "why it refuses"),
            (
                "refused".into(),
                with(|hello| (hello.accepted, hello.refusal) = (0, b"I\nwill not".to_vec())),
                r#"never: refused: "I\nwill not""#,
            ),
            ("a long refusal".into(), with(|hello| hello.refusal = vec![b'x'; 1025]), "more than 1024"),
            ("the first reserved byte".into(), with(|hello| hello.reserved[0] = 1), "a reserved byte is 1"),
            ("the second reserved byte".into(), with(|hello| hello.reserved[1] = 255), "a reserved byte is 255"),
            ("no message size".into(), with(|hello| hello.max_message = 0), "message size is 0"),
            ("no pending calls".into(), with(|hello| hello.limits[0] = 0), "pending calls is 0"),
            ("no depth".into(), with(|hello| hello.limits[1] = 0), "depth is 0"),
            ("no values".into(), with(|hello| hello.limits[2] = 0), "values is 0"),
            ("no text".into(), with(|hello| hello.limits[3] = 0), "text length is 0"),
            (
                "limits of all bits".into(),
                with(|hello| (hello.max_message, hello.limits) = (u64::MAX, [u32::MAX; 4])),
                "",
            ),
            ("rings nothing".into(), with(|hello| hello.can_ring = 0), "never: cannot ring"),
            ("rings futexes alone".into(), with(|hello| hello.can_ring = 1), "never: cannot ring"),
            ("rings what is unknown too".into(), with(|hello| hello.can_ring = u32::MAX), ""),
            ("sleeps on nothing".into(), with(|hello| hello.sleeps_on = 0), "doorbell 0 is unknown"),
            ("sleeps on an eventfd".into(), with(|hello| hello.sleeps_on = 2), "never: brings none"),
            ("sleeps on what is unknown".into(), with(|hello| hello.sleeps_on = 255), "doorbell 255 is unknown"),
            ("another's process id".into(), with(|hello| hello.pid = 1), ""),
            ("a name of 255 bytes".into(), with(|hello| hello.app[0] = vec![b'x'; 255]), ""),
            ("a name of 256 bytes".into(), with(|hello| hello.app[0] = vec![b'x'; 256]), "more than 255"),
            ("a name that is no text".into(), with(|hello| hello.app[1] = vec![0xff]), "not UTF-8"),
        ];
        for len in 1..hello.encode().len() {
            // Cut off with a length that is right, and with the old one.
            let short = hello.encode()[..len].to_vec();
            rows.push((format!("the first {len} bytes"), short, ""));
            if len > 17 {
                rows.push((
                    format!("{} bytes of fields", len - 17),
                    datagram(HELLO, 1, 0, &body[..len - 17]),
                    "it ends within",
                ));
            }
        }
        for (row, bytes, why) in rows {
            let connection = Connection::to(&stage.path);
            let (welcome, fds) = connection.welcome();
            let is_short = row.starts_with("the first ") && row.ends_with(" bytes");
            let mut hostile = Hostile::map(connection, welcome, fds);
            hostile.connection.send(&bytes).expect("sent");
            match (why.strip_prefix("never: "), why) {
                (None, "") if !is_short => stage.works(&mut hostile, &row),
                (None, why) => {
                    let why = if is_short { "bytes" } else { why };
                    stage.is_cut(&hostile, why, &row);
                }
                (Some(why), _) => match stage.end_of(hostile.id(), &row) {
                    GoneReason::NeverConnected(text) => assert!(text.contains(why), "{row}: {text}"),
                    other => panic!("{row}: {other:?}"),
                },
            }
        }
        descriptors_come_along(stage, Refuses::WhoCan);
        tiny_limits(stage);
    });
}

/// Who refuses descriptors that a renderer sends.
#[derive(Clone, Copy, PartialEq)]
enum Refuses {
    /// The kernel, or, where it does not know how, main.
    WhoCan,
    /// Main alone: the kernel was kept from it.
    Main,
}

impl Refuses {
    /// Sends them; false: the kernel has refused.
    fn sends(self, hostile: &Hostile, message: &[u8], count: usize, row: &str) -> bool {
        match hostile.connection.send_with(message, &vec![hostile.doorbell.as_fd(); count]) {
            Ok(_) => true,
            Err(error) => {
                assert!(self == Self::WhoCan && error == rustix::io::Errno::PERM, "{row}: {error}");
                false
            }
        }
    }
}

fn descriptors_come_along(stage: &Stage, who: Refuses) {
    let hello = Hello::default().encode();
    for (what, message) in [("the Hello", &hello[..]), ("nothing", &[])] {
        for count in [1, 2, 253] {
            let row = format!("{count} descriptors with {what}");
            let connection = Connection::to(&stage.path);
            let (welcome, fds) = connection.welcome();
            let mut hostile = Hostile::map(connection, welcome, fds);
            if who.sends(&hostile, message, count, &row) {
                stage.is_cut(&hostile, "descriptors, but it must have none", &row);
            } else {
                hostile.connection.send(&hello).unwrap();
                stage.works(&mut hostile, &row);
            }
        }
    }
}

/// Main sends nothing that is larger than that, be it an error, and says so to its own callers.
fn tiny_limits(stage: &Stage) {
    let limits = [(1, [1; 4]), (24, [1; 4]), (31, [1, 1, 1, 1]), (40, [1, 1, 5, 1]), (64 << 20, [1; 4])];
    for (max_message, limits) in limits {
        let row = format!("takes messages of {max_message} bytes and {limits:?}");
        let mut hostile =
            Hostile::over(Connection::to(&stage.path), &Hello { max_message, limits, ..Hello::default() }.encode());
        for channel in ["add", "take", "give", "nobody", "never", "number"] {
            for kind in [SEND, INVOKE, SEND_SYNC] {
                let call = if kind == SEND { 0 } else { hostile.next_call() };
                assert!(hostile.send(&message(kind, 1, call, channel, 0, &[0x92, 2, 3])), "{row}");
            }
        }
        until(&row, || stage.web_contents(&hostile).stats().messages_received == 18);
        while let Some(message) = hostile.try_receive() {
            assert!(message.len() as u64 <= max_message, "{row}: it got {message:?}");
        }
        let error = stage.web_contents(&hostile).send("long", ("x".repeat(100), [[1]])).unwrap_err();
        assert!([ErrorKind::TooLarge, ErrorKind::InvalidValue].contains(&error.kind()), "{row}: {error}");
        stage.leaves(&mut hostile, &row);
    }
}

#[test]
fn half_open_handshakes_are_bounded_and_given_up_and_hold_up_nobody() {
    alone("half-open handshakes");
}

fn half_open_handshakes() {
    // The honest one is one of them.
    Stage::of(builder().max_renderers(9)).leaks_nothing(|stage| {
        let whole: Vec<_> = (0..8).map(|_| stage.hostile()).collect();
        is_refused(stage, "max_renderers is 9");
        for mut hostile in whole {
            stage.leaves(&mut hostile, "one of many");
        }
        // From here to where one hangs up the time of the others must not run out: started before, not within it.
        let mut elsewhere = child("connects elsewhere");
        elsewhere.env("TEST_DIRECTORY", &*stage.directory);
        let mut elsewhere = Program::start(elsewhere);
        elsewhere.until_it_says("started");
        let half_open: Vec<_> = (0..4)
            .map(|_| {
                let connection = Connection::to(&stage.path);
                let (welcome, fds) = connection.welcome();
                (connection, welcome.id, fds)
            })
            .collect();
        // No more than half of the places for one process; another one comes in.
        is_refused(stage, &format!("process {} has 4 handshakes", std::process::id()));
        elsewhere.say("connect");
        assert!(elsewhere.ended(PATIENCE).success());
        next(&stage.gone, "the end of that one");
        stage.is_well();
        // One that hangs up makes room before its time is over.
        let (first, id, _) = &half_open[0];
        rustix::net::shutdown(&first.socket, rustix::net::Shutdown::Both).unwrap();
        let reason = stage.end_of(*id, "hung up");
        assert!(matches!(&reason, GoneReason::NeverConnected(text) if text.contains("hung up")), "{reason:?}");
        let mut hostile = stage.hostile();
        stage.works(&mut hostile, "the place of one that hung up");
        // The others say nothing: their time runs out.
        let mut ids: Vec<u32> = half_open[1..].iter().map(|(_, id, _)| *id).collect();
        while !ids.is_empty() {
            let (id, reason) = next(&stage.gone, "the end of one that says nothing");
            assert!(
                matches!(&reason, GoneReason::NeverConnected(text) if text.contains("did not answer")),
                "{reason:?}"
            );
            ids.retain(|other| *other != id);
        }
        half_open.iter().for_each(|(connection, ..)| connection.until_cut());
        // Who speaks when its time is over speaks to nobody.
        assert!(half_open[1].0.send(&Hello::default().encode()).is_err());
    });
}

#[test]
fn a_process_that_hangs_up_in_its_handshakes_takes_no_more_places_than_one_that_does_not() {
    alone("hangs up again and again");
}

fn hangs_up_again_and_again() {
    // The honest one is one of them.
    Stage::of(builder().max_renderers(9)).leaks_nothing(|stage| {
        // Main waits for a moment whether the process of one that has hung up ends.
        let mut greeted = 0;
        for _ in 0..40 {
            match Connection::to(&stage.path).answer() {
                Some(_) => greeted += 1,
                None => {
                    let told = next(&stage.told, "the refusal");
                    let text = format!("process {} has 4 handshakes", std::process::id());
                    assert!(told.kind == ErrorKind::Limit && told.text.contains(&text), "{told:?}");
                }
            }
        }
        for _ in 0..greeted {
            let (_, reason) = next(&stage.gone, "the end of one that has hung up");
            assert!(matches!(&reason, GoneReason::NeverConnected(text) if text.contains("hung up")), "{reason:?}");
        }
    });
}

/// The next one that connects is refused with this text.
fn is_refused(stage: &Stage, text: &str) {
    Connection::to(&stage.path).until_cut();
    let told = next(&stage.told, "the refusal");
    assert!(told.kind == ErrorKind::Limit && told.text.contains(text), "{told:?}");
}

fn connects_elsewhere() {
    println!("started");
    assert_eq!(support::line(), "connect");
    let ipc_renderer = IpcRenderer::builder().runtime_dir(support::env("TEST_DIRECTORY")).connect_to("main").unwrap();
    assert_eq!(ipc_renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE).wait().unwrap(), 5);
}

#[test]
fn whatever_comes_by_the_socket_after_the_handshake_cuts_the_link() {
    alone("the socket after the handshake");
}

fn the_socket_after_the_handshake() {
    Stage::new().leaks_nothing(|stage| {
        for len in [0, 1, 17, 64, 65, 4096, 4097, 100_000] {
            let hostile = stage.hostile();
            hostile.connection.send(&vec![7; len]).unwrap();
            stage.is_cut(&hostile, "to its socket after the handshake", &format!("{len} bytes"));
        }
        let hostile = stage.hostile();
        hostile.connection.send(&Hello::default().encode()).unwrap();
        stage.is_cut(&hostile, "after the handshake", "a second Hello");
        descriptors_come_later(stage, Refuses::WhoCan);
        // As much as the socket takes, at once.
        let hostile = stage.hostile();
        rustix::io::ioctl_fionbio(&hostile.connection.socket, true).unwrap();
        while hostile.connection.send(&[7; 4096]).is_ok() {}
        stage.is_cut(&hostile, "after the handshake", "a flood");
        for how in [rustix::net::Shutdown::Write, rustix::net::Shutdown::Both] {
            let hostile = stage.hostile();
            rustix::net::shutdown(&hostile.connection.socket, how).unwrap();
            assert_eq!(stage.end_of(hostile.id(), "shut"), GoneReason::Closed, "{how:?}");
        }
        // It cannot hear that main hangs up, which is nobody else's business.
        let mut hostile = stage.hostile();
        rustix::net::shutdown(&hostile.connection.socket, rustix::net::Shutdown::Read).unwrap();
        hostile.send(&message(CLOSE, 1, 0, "", 0, &[]));
        hostile.ring_all();
        let reason = stage.end_of(hostile.id(), "shut for reading");
        assert_eq!(reason, GoneReason::Closed);
    });
}

fn descriptors_come_later(stage: &Stage, who: Refuses) {
    for message in [&b"x"[..], &[]] {
        for count in [1, 253] {
            let row = format!("{count} descriptors with {} bytes", message.len());
            let mut hostile = stage.hostile();
            if who.sends(&hostile, message, count, &row) {
                let why = format!("it wrote {} bytes to its socket after the handshake", message.len());
                stage.is_cut(&hostile, &why, &row);
            } else {
                stage.works(&mut hostile, &row);
            }
        }
    }
}

#[test]
fn main_cuts_who_sends_descriptors_where_the_kernel_does_not_refuse_them() {
    alone("descriptors on an older kernel");
}

fn descriptors_on_an_older_kernel() {
    no_kernel_refuses_descriptors();
    Stage::new().leaks_nothing(|stage| {
        descriptors_come_along(stage, Refuses::Main);
        descriptors_come_later(stage, Refuses::Main);
    });
}

/// As before Linux 6.16.
fn no_kernel_refuses_descriptors() {
    const SO_PASSRIGHTS: u32 = 83;
    let no_such_option = Refused { call: libc::SYS_setsockopt, with: Some((2, SO_PASSRIGHTS)) };
    refuse(&[no_such_option], libc::ENOPROTOOPT);
}

#[test]
fn a_descriptor_whose_close_takes_its_time_does_not_hold_main_up() {
    alone("descriptors that linger");
}

/// A TCP socket with something to send that nobody takes, and that is not closed before it is sent or the time is over.
fn lingering(patience: Duration) -> (OwnedFd, OwnedFd) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    while std::io::Write::write(&mut &near, &[7; 65536]).is_ok() {}
    rustix::net::sockopt::set_socket_linger(&near, Some(patience)).unwrap();
    (near.into(), far.into())
}

fn descriptors_that_linger() {
    linger();
}

#[test]
fn nor_does_one_where_the_kernel_does_not_refuse_it_at_the_sender() {
    alone("descriptors that linger on an older kernel");
}

fn descriptors_that_linger_on_an_older_kernel() {
    no_kernel_refuses_descriptors();
    linger();
}

fn linger() {
    Stage::new().leaks_nothing(|stage| {
        let mut far_ends = Vec::new();
        // The message is a Hello, or nothing that would be seen in place of the end.
        for (after_the_handshake, is_empty) in [(true, false), (false, false), (true, true), (false, true)] {
            let (near, far) = lingering(PATIENCE + PATIENCE / 2);
            let connection = Connection::to(&stage.path);
            let (welcome, fds) = connection.welcome();
            let mut hostile = Hostile::map(connection, welcome, fds);
            let hello = Hello::default().encode();
            if after_the_handshake {
                hostile.connection.send(&hello).unwrap();
            }
            let message: &[u8] = if is_empty { &[] } else { &hello };
            match hostile.connection.send_with(message, &[near.as_fd()]) {
                // The only copy is on its way to main.
                Ok(_) => drop(near),
                Err(error) => {
                    assert_eq!(error, rustix::io::Errno::PERM);
                    rustix::net::sockopt::set_socket_linger(&near, None).unwrap();
                }
            }
            // Watch lives: it sees an end, and lets another one in.
            let _ = rustix::net::shutdown(&hostile.connection.socket, rustix::net::Shutdown::Both);
            stage.end_of(hostile.id(), "a hang-up behind it");
            hostile = stage.hostile();
            stage.works(&mut hostile, "another one");
            far_ends.push(far);
        }
        // What lingers ends with these.
        drop(far_ends);
    });
}

// ---- control words ------------------------------------------------------------------------------------------------

#[test]
fn each_control_word_takes_any_value_at_any_moment_and_only_an_impossible_head_cuts_the_link() {
    alone("control words");
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// Main's dispatcher sleeps.
    Idle,
    /// Messages flow both ways.
    Flow,
    /// A thread of main's waits for an answer and sleeps.
    CallerSleeps,
    /// The same, and it spins.
    CallerSpins,
}

fn control_words() {
    const SMALL: [u32; 13] = [0, 1, 2, 3, 4, 5, 6, 8, 9, 13, 15, 1 << 31, u32::MAX];
    let adaptive = [Moment::Idle, Moment::Flow, Moment::CallerSleeps];
    for (wait, moments) in [(Wait::Adaptive, &adaptive[..]), (Wait::Spin, &[Moment::CallerSpins])] {
        Stage::of(builder().ring_size(4096).wait(wait)).leaks_nothing(|stage| {
            routed_to_an_impossible_head(stage);
            for moment in moments.iter().copied() {
                for way in [Way::ToRenderer, Way::ToMain] {
                    for word in [SLEEPER, WANTS_ROOM, DISPATCHER, CALLER] {
                        for value in SMALL {
                            let row = format!("{way:?} {word} becomes {value} while {moment:?}");
                            let mut hostile = stage.hostile();
                            at_the_moment(stage, moment, &mut hostile, |hostile| {
                                hostile.control(way, word).store(value, Ordering::SeqCst);
                            });
                            stage.works(&mut hostile, &row);
                        }
                    }
                    for what in ["0", "1", "before", "here", "behind", "ring", "far", "half", "all"] {
                        let row = format!("{way:?} head becomes {what:?} while {moment:?}");
                        head_becomes(stage, moment, way, what, &row);
                    }
                }
            }
        });
    }
}

fn head_becomes(stage: &Stage, moment: Moment, way: Way, what: &str, row: &str) {
    let mut hostile = stage.hostile();
    // Main has seen a head behind the first lap.
    let lap = hostile.words(Way::ToRenderer) as usize * 8;
    let call = hostile.call("give", &rmp_serde::to_vec(&(2 * lap,)).unwrap());
    assert_eq!(call.expect("an answer").0, REPLY, "{row}");
    let set = |hostile: &mut Hostile| {
        let here = if way == Way::ToRenderer { hostile.read } else { hostile.written };
        let value = match what {
            "0" => 0,
            "1" => 1,
            "before" => here - 1,
            "here" => here,
            "behind" => here + 1,
            "ring" => here + hostile.words(way),
            "far" => here + (1 << 32),
            "half" => 1 << 63,
            _ => u64::MAX,
        };
        hostile.head(way).store(value, Ordering::SeqCst);
    };
    at_the_moment(stage, moment, &mut hostile, set);
    if way == Way::ToMain {
        // Main writes it alone, and looks at it never.
        return stage.works(&mut hostile, row);
    }
    let is_possible = ["before", "here"].contains(&what);
    if moment == Moment::Flow || what == "behind" {
        // Overtaken by what either end has done since, or seen: both is right.
        let _ = rustix::net::shutdown(&hostile.connection.socket, rustix::net::Shutdown::Both);
        let reason = stage.end_of(hostile.id(), row);
        let is_head = matches!(&reason, GoneReason::Corrupt(text) if text.contains("head"));
        assert!(reason == GoneReason::Closed || is_head, "{row}: {reason:?}");
        return stage.is_well();
    }
    // What main writes now fills the ring, so that it has to look.
    let web_contents = stage.web_contents(&hostile);
    set(&mut hostile);
    let sent = (0..4 * lap / 100).find_map(|_| web_contents.send("text", ("x".repeat(100),)).err());
    match (is_possible, sent) {
        (true, None) => {
            hostile.publish_head();
            while hostile.try_receive().is_some() {}
            stage.leaves(&mut hostile, row);
        }
        (false, Some(error)) => {
            assert!([ErrorKind::Protocol, ErrorKind::Disconnected].contains(&error.kind()), "{row}: {error}");
            stage.is_cut(&hostile, "the reader's head is", row);
        }
        (_, sent) => panic!("{row}: {sent:?}"),
    }
}

/// Does something at the moment, and brings what it disturbed to its end.
fn at_the_moment(stage: &Stage, moment: Moment, hostile: &mut Hostile, act: impl FnOnce(&mut Hostile)) {
    let web_contents = stage.web_contents(hostile);
    match moment {
        Moment::Idle => {
            until("main's dispatcher sleeps", || hostile.control(Way::ToMain, SLEEPER).load(Ordering::SeqCst) & 3 == 1);
            act(hostile);
        }
        Moment::Flow => {
            let stop = Arc::new(AtomicBool::new(false));
            let stops = stop.clone();
            let flow = std::thread::spawn(move || {
                while !stops.load(Ordering::Relaxed) && web_contents.send("text", ("x".repeat(50),)).is_ok() {
                    std::thread::yield_now();
                }
            });
            let mut act = Some(act);
            for number in 0..60 {
                hostile.send(&message(SEND, 1, 0, "number", 0, &[0x91, 7]));
                if number == 30 {
                    act.take().into_iter().for_each(|act| act(hostile));
                } else if number < 30 {
                    hostile.try_receive();
                }
            }
            stop.store(true, Ordering::Relaxed);
            flow.join().unwrap();
        }
        Moment::CallerSleeps | Moment::CallerSpins => {
            let calls = web_contents.clone();
            let (tell, told) = channel();
            let caller = std::thread::spawn(move || {
                tell.send(rustix::thread::gettid()).unwrap();
                calls.invoke::<i64>("ask", (), PATIENCE).wait()
            });
            let thread = next(&told, "the caller");
            let request = hostile.receive().expect("a call");
            assert_eq!(request[0], INVOKE);
            if moment == Moment::CallerSleeps {
                until("a caller sleeps", || {
                    hostile.control(Way::ToMain, SLEEPER).load(Ordering::SeqCst) & 3 == IS_CALLER
                });
                // Announced is not asleep yet: a value that the ring turns into the one that the caller has seen would take
                // the ring away, which is the renderer's own loss.
                let stat = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
                until("it is asleep", || support::stat_of(&stat).is_some_and(|fields| fields[0] == "S"));
            }
            act(hostile);
            let call = u64::from_le_bytes(request[8..16].try_into().unwrap());
            hostile.send(&message(REPLY, 1, call, "", 0, &[7]));
            hostile.ring_all();
            let answer = bounded("the call", move || caller.join().unwrap());
            assert_eq!(answer.expect("an answer"), 7);
        }
    }
}

/// Whoever sends to it through main has nobody to send to: that is nothing about the sender's own link.
fn routed_to_an_impossible_head(stage: &Stage) {
    let hostile = stage.hostile();
    hostile.head(Way::ToRenderer).store(u64::MAX, Ordering::SeqCst);
    let told = loop {
        stage.honest.send_to(hostile.id(), "text", ("x".repeat(100),)).unwrap();
        match stage.told.try_recv() {
            Ok(told) => break told,
            Err(_) => stage.is_well(),
        }
    };
    assert_eq!((told.renderer, told.kind), (Some(stage.honest.id()), ErrorKind::Undeliverable), "{told:?}");
    assert!(told.text.contains("sent a message to renderer"), "{told:?}");
    stage.is_cut(&hostile, "the reader's head is", "a message of another renderer");
}

// ---- records ------------------------------------------------------------------------------------------------------

#[test]
fn each_record_that_is_none_cuts_the_link_with_its_numbers() {
    alone("records");
}

fn records() {
    Stage::of(builder().ring_size(4096)).leaks_nothing(|stage| {
        let record = |kind: u8, len: u64| u64::from(kind) << 56 | len;
        const MOST: u64 = 0x00ff_ffff_ffff_ffff;
        let words = stage.fresh_words();
        let half = (words / 2 - 1) * 8;
        let mut rows: Vec<(String, Vec<u64>, &str)> = (0..=255_u8)
            .filter(|kind| !(WHOLE..=PADDING).contains(kind))
            .map(|kind| (format!("kind {kind}"), vec![record(kind, 24)], "is no record"))
            .collect();
        for kind in [WHOLE, FIRST, MORE] {
            for len in [half + 1, half + 8, words * 8, words * 8 + 1, 1 << 32, MOST - 7, MOST] {
                rows.push((format!("kind {kind} of {len} bytes"), vec![record(kind, len)], "bytes, at most"));
            }
        }
        // At offset 0, whatever it says.
        for len in [0, 8, (words - 1) * 8, words * 8, MOST] {
            rows.push((format!("padding of {len} at 0"), vec![record(PADDING, len)], "illegal padding"));
        }
        // Behind a message: not up to the end, or beyond it, or none at all.
        for len in
            [0, 8, (words - 1) * 8, (words - 7) * 8, (words - 5) * 8, (words - 6) * 8 - 1, (words - 6) * 8 + 1, MOST]
        {
            rows.push((format!("padding of {len} at 5"), vec![0, record(PADDING, len)], "illegal padding"));
        }
        rows.push(("an empty message".into(), vec![record(WHOLE, 0)], "shorter than its header"));
        rows.push(("23 bytes".into(), vec![record(WHOLE, 23)], "shorter than its header"));
        for (row, put, why) in rows {
            let mut hostile = stage.fresh();
            for word in put {
                match word {
                    0 => assert!(hostile.try_put(WHOLE, &message(SEND, 1, 0, "", 0, &[0x90])[..]), "a message"),
                    word => {
                        // Nothing stands behind it: what it says is there is what was there before.
                        hostile.slot(Way::ToMain, hostile.written).store(word, Ordering::Release);
                    }
                }
            }
            hostile.ring_all();
            stage.is_cut(&hostile, why, &row);
        }
        // Padding twice: once by the rules, and at once again, at offset 0.
        let mut hostile = stage.hostile();
        while hostile.written % words < words - 20 {
            assert!(hostile.put(WHOLE, &message(SEND, 1, 0, "nobody", 0, &[0x90])));
        }
        let to_end = words - hostile.written % words;
        hostile.slot(Way::ToMain, hostile.written + to_end).store(record(PADDING, (words - 1) * 8), Ordering::Relaxed);
        hostile.slot(Way::ToMain, hostile.written).store(record(PADDING, (to_end - 1) * 8), Ordering::Release);
        hostile.ring_all();
        stage.is_cut(&hostile, "illegal padding", "padding twice");
        // A record that is taken back before it is read, or changed: nothing, or another one.
        let mut hostile = stage.hostile();
        for _ in 0..10_000 {
            let slot = hostile.slot(Way::ToMain, hostile.written);
            slot.store(record(WHOLE, 24), Ordering::Release);
            slot.store(0, Ordering::Release);
        }
        hostile.ring_all();
        let _either = hostile.is_answered();
        let reason = match hostile.connection.is_cut() {
            true => stage.end_of(hostile.id(), "taken back"),
            false => {
                stage.leaves(&mut hostile, "taken back");
                GoneReason::Closed
            }
        };
        assert!(matches!(reason, GoneReason::Closed | GoneReason::Corrupt(_)), "{reason:?}");
    });
}

impl Stage {
    fn fresh_words(&self) -> u64 {
        let mut hostile = self.hostile();
        let words = hostile.words(Way::ToMain);
        self.works(&mut hostile, "how large its ring is");
        words
    }
}

#[test]
fn chunks_that_break_a_rule_cut_the_link_and_those_that_break_none_are_read_however_small() {
    alone("chunks");
}

fn chunks() {
    let limit = 1 << 20;
    Stage::of(builder().max_message_size(limit)).leaks_nothing(|stage| {
        let first = |whole: u64, len: usize| (FIRST, [&whole.to_le_bytes()[..], &vec![7; len]].concat());
        let more = |len: usize| (MORE, vec![7; len]);
        let whole = || (WHOLE, message(SEND, 1, 0, "number", 0, &[0x91, 7]));
        let limit = limit as u64;
        let rows = [
            ("a chunk of nothing that was begun", vec![more(8)], "belongs to no message"),
            ("an empty one", vec![more(0)], "belongs to no message"),
            ("a message within another", vec![first(100, 50), first(100, 50)], "a message began while another"),
            ("a whole one within another", vec![first(100, 50), whole()], "a message began while another"),
            ("longer than agreed", vec![first(limit + 1, 50)], "are agreed"),
            ("much longer", vec![first(u64::MAX, 50)], "are agreed"),
            ("a length of nothing", vec![first(0, 8)], "for a message that has 0 of 0"),
            ("no longer than its first chunk", vec![first(50, 50)], "for a message that has 0 of 50"),
            ("shorter than its first chunk", vec![first(49, 50)], "for a message that has 0 of 49"),
            ("a first chunk without a length", vec![(FIRST, vec![])], "for a message that has 0 of 0"),
            ("half a length", vec![(FIRST, vec![7; 7])], "for a message that has 0 of 0"),
            ("a length alone", vec![first(50, 0)], "for a message that has 0 of 0"),
            ("a chunk of nothing", vec![first(100, 50), more(0)], "a chunk of 0 bytes"),
            ("more than it said", vec![first(100, 50), more(51)], "a chunk of 51 bytes"),
            ("more in the end", vec![first(100, 50), more(49), more(2)], "a chunk of 2 bytes"),
        ];
        for (row, records, why) in rows {
            let mut hostile = stage.hostile();
            for (kind, bytes) in records {
                assert!(hostile.put(kind, &bytes));
            }
            hostile.ring_all();
            stage.is_cut(&hostile, why, row);
        }
        // Byte by byte, to the end.
        let mut hostile = stage.hostile();
        let call = hostile.next_call();
        let text = message(INVOKE, 1, call, "take", 0, &rmp_serde::to_vec(&("x".repeat(5000),)).unwrap());
        let (head, rest) = text.split_at(1);
        hostile.put(FIRST, &[&(text.len() as u64).to_le_bytes()[..], head].concat());
        for byte in rest {
            assert!(hostile.put(MORE, &[*byte]));
            hostile.ring_if_asleep();
        }
        assert_eq!(hostile.answer_of(call).expect("an answer").0, REPLY);
        stage.works(&mut hostile, "byte by byte");
        // Begun and never ended, by many at once: they take nothing from others, and nothing is kept of them.
        let mut begun: Vec<_> = (0..8).map(|_| stage.hostile()).collect();
        for hostile in &mut begun {
            let (kind, bytes) = first(limit, 1000);
            hostile.put(kind, &bytes);
            hostile.ring_all();
        }
        let big = "x".repeat(limit as usize / 2);
        stage.honest.invoke::<()>("take", (big,)).timeout(PATIENCE).wait().unwrap();
        for mut hostile in begun {
            hostile.put(WHOLE, &[]);
            hostile.ring_all();
            stage.is_cut(&hostile, "a message began while another had 1000", "begun");
        }
        // Without end while others call: one writes chunks of a byte as fast as they are read.
        let mut endless = stage.hostile();
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let writing = std::thread::spawn(move || {
            let (kind, bytes) = (FIRST, [&limit.to_le_bytes()[..], &[SEND]].concat());
            let mut sent = endless.put(kind, &bytes);
            for _ in 1..limit - 1 {
                if stops.load(Ordering::Relaxed) || !sent {
                    break;
                }
                sent = endless.put(MORE, &[0]);
                endless.ring_if_asleep();
            }
            endless
        });
        (0..200).for_each(|_| stage.is_well());
        stop.store(true, Ordering::Relaxed);
        let endless = bounded("the writer", move || writing.join().unwrap());
        drop(endless.connection);
        assert_eq!(stage.end_of(endless.welcome.id, "endless chunks"), GoneReason::Closed);
    });
}

// ---- messages -----------------------------------------------------------------------------------------------------

#[test]
fn each_broken_rule_of_a_message_cuts_the_link() {
    alone("messages");
}

fn messages() {
    Stage::new().leaks_nothing(|stage| {
        let empty = &[0x90][..];
        let frame = |kind, frame, parent, payload: &[u8]| message(kind, frame, parent, "", 0, payload);
        let patched = |at: usize, byte: u8| {
            let mut bytes = message(SEND, 1, 0, "number", 0, &[0x91, 7]);
            bytes[at] = byte;
            bytes
        };
        let long = "x".repeat(65_537);
        let mut rows: Vec<(String, Vec<Vec<u8>>, &str)> = vec![
            ("a kind for the other side".into(), vec![message(ROUTED, 1, 1, "x", 2, empty)], "not for this side"),
            ("a guest's".into(), vec![message(FROM_GUEST, 1, 1, "x", 2, empty)], "not for this side"),
            ("a reserved flag".into(), vec![patched(1, 2)], "reserved bits"),
            ("all flags".into(), vec![patched(1, 255)], "reserved bits"),
            ("the first reserved byte".into(), vec![patched(2, 1)], "reserved bits"),
            ("the second reserved byte".into(), vec![patched(3, 128)], "reserved bits"),
            ("awake, which a Send may say".into(), vec![patched(1, 1)], ""),
            ("frame 0".into(), vec![patched(4, 0)], "of frame 0"),
            ("a frame that was never opened".into(), vec![patched(4, 2)], "from frame 2, which it never opened"),
            ("another such".into(), vec![patched(7, 255)], "which it never opened"),
            ("a call id where none belongs".into(), vec![patched(8, 1)], "with call id"),
            ("a far renderer where none belongs".into(), vec![patched(20, 1)], "at the other side of main"),
            ("a channel longer than the message".into(), vec![patched(16, 9)], "of which 8 are there"),
            ("a channel much longer".into(), vec![patched(19, 255)], "where 65536 are allowed"),
            ("a channel that is no text".into(), vec![patched(24, 0xff)], "not UTF-8"),
            ("the longest channel".into(), vec![message(SEND, 1, 0, &long[1..], 0, empty)], ""),
            ("a longer channel".into(), vec![message(SEND, 1, 0, &long, 0, empty)], "where 65536 are allowed"),
            ("no channel's name".into(), vec![message(SEND, 1, 0, "", 0, empty)], ""),
            ("an unknown channel".into(), vec![message(SEND, 1, 0, "nobody", 0, empty)], ""),
            ("Cancel with a payload".into(), vec![frame(CANCEL, 1, 1, &[0])], "with a payload"),
            ("Close with a payload".into(), vec![frame(CLOSE, 1, 0, &[0])], "with a payload"),
            ("Close with a channel".into(), vec![message(CLOSE, 1, 0, "x", 0, &[])], "where none belongs"),
            ("Reply with a channel".into(), vec![message(REPLY, 1, 9, "x", 0, &[0])], "where none belongs"),
            ("SendTo frame 0".into(), vec![message(SEND_TO, 1, 0, "x", 2, empty)], "names a frame"),
            (
                "SendTo a frame beyond 32 bits".into(),
                vec![message(SEND_TO, 1, 1 << 32, "x", 2, empty)],
                "names a frame",
            ),
            ("SendTo renderer 0".into(), vec![message(SEND_TO, 1, 1, "x", 0, empty)], "at the other side of main"),
            ("SendTo nobody".into(), vec![message(SEND_TO, 1, 1, "x", u32::MAX, empty)], ""),
            ("SendTo no frame".into(), vec![message(SEND_TO, 1, u64::from(u32::MAX), "x", 1, empty)], ""),
            ("SendToHost without a host".into(), vec![message(SEND_TO_HOST, 1, 0, "x", 0, empty)], ""),
            ("SendTo what is no list".into(), vec![message(SEND_TO, 1, 1, "x", 1, &[0xc0])], "must be an array"),
            (
                "SendToHost what is no text".into(),
                vec![message(SEND_TO_HOST, 1, 0, "x", 0, &[0x91, 0xa1, 0xff])],
                "UTF-8",
            ),
            ("the next frame".into(), vec![frame(OPEN_FRAME, 2, 1, &[])], ""),
            ("a frame in itself".into(), vec![frame(OPEN_FRAME, 2, 2, &[])], "frame"),
            ("a frame in none".into(), vec![frame(OPEN_FRAME, 2, 3, &[])], "frame"),
            ("a gap".into(), vec![frame(OPEN_FRAME, 3, 1, &[])], "frame"),
            ("the main frame again".into(), vec![frame(OPEN_FRAME, 1, 1, &[])], "frame"),
            ("the last number".into(), vec![frame(OPEN_FRAME, u32::MAX, 1, &[])], "frame"),
            ("twice the same".into(), vec![frame(OPEN_FRAME, 2, 1, &[]), frame(OPEN_FRAME, 2, 1, &[])], "frame"),
            ("a frame without a parent".into(), vec![frame(OPEN_FRAME, 2, 0, &[])], "names a frame"),
            ("the end of the main frame".into(), vec![frame(CLOSE_FRAME, 1, 0, &[])], "frame"),
            ("the end of a frame that is none".into(), vec![frame(CLOSE_FRAME, 2, 0, &[])], "frame"),
            (
                "two ends of a frame".into(),
                vec![frame(OPEN_FRAME, 2, 1, &[]), frame(CLOSE_FRAME, 2, 0, &[]), frame(CLOSE_FRAME, 2, 0, &[])],
                "frame",
            ),
            (
                "a message from a frame that is closed".into(),
                vec![frame(OPEN_FRAME, 2, 1, &[]), frame(CLOSE_FRAME, 2, 0, &[]), message(SEND, 2, 0, "x", 0, empty)],
                "",
            ),
            (
                "as many frames as there may be".into(),
                (2..=4096).map(|number| frame(OPEN_FRAME, number, 1, &[])).collect(),
                "",
            ),
            (
                "one frame more".into(),
                (2..=4097).map(|number| frame(OPEN_FRAME, number, u64::from(number) - 1, &[])).collect(),
                "frame",
            ),
        ];
        rows.extend(
            (0..=255)
                .filter(|kind| !(SEND..=CLOSE_FRAME).contains(kind))
                .map(|kind: u8| (format!("kind {kind}"), vec![message(kind, 1, 0, "", 0, empty)], "message kind")),
        );
        rows.extend(
            [INVOKE, SEND_SYNC, REPLY, REPLY_ERROR, CANCEL].map(|kind| {
                (format!("kind {kind} with call 0"), vec![message(kind, 1, 0, "", 0, &[])], "with call id 0")
            }),
        );
        rows.extend((0..24).map(|len| {
            let short = message(SEND, 1, 0, "number", 0, &[0x91, 7])[..len].to_vec();
            (format!("{len} bytes of a message"), vec![short], "shorter than its header")
        }));
        for (row, messages, why) in rows {
            let mut hostile = stage.hostile();
            for message in messages {
                if !hostile.send(&message) {
                    break;
                }
            }
            hostile.ring_all();
            if why.is_empty() { stage.works(&mut hostile, &row) } else { stage.is_cut(&hostile, why, &row) }
        }
        // What it sent to nobody was shown.
        assert!(stage.told.try_iter().all(|told| told.kind == ErrorKind::Undeliverable));
    });
}

/// Payloads, and what is wrong with them.
fn broken_payloads() -> Vec<(String, Vec<u8>, &'static str)> {
    let list = |value: &[u8]| [&[0x91], value].concat();
    let f64 = |value: f64| [&[0xcb][..], &value.to_be_bytes()].concat();
    let f32 = |value: f32| [&[0xca][..], &value.to_be_bytes()].concat();
    let deep = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    let reserved = b"$serde_json::private::Number";
    let mut rows: Vec<(String, Vec<u8>, &str)> = vec![
        ("nothing".into(), vec![], "ends in the middle"),
        ("no list but nil".into(), vec![0xc0], "must be an array"),
        ("no list but a map".into(), vec![0x80], "must be an array"),
        ("no list but text".into(), b"\xa3abc".to_vec(), "must be an array"),
        ("two lists".into(), vec![0x90, 0x90], "1 bytes follow"),
        ("the byte that is nothing".into(), list(&[0xc1]), "is not JSON"),
        ("a map key that is a number".into(), list(&[0x81, 1, 2]), "not text"),
        ("a map key that is nil".into(), list(&[0x81, 0xc0, 2]), "not text"),
        ("a map key that is bytes".into(), list(&[0x81, 0xc4, 1, 7, 2]), "is not JSON"),
        ("a map key that is a list".into(), list(&[0x81, 0x90, 2]), "not text"),
        (
            "serde_json's own key".into(),
            list(&[&[0x81, 0xa0 + 28][..], reserved, &[0xa1, b'1']].concat()),
            "serde_json",
        ),
        ("a text that is none".into(), list(&[0xa2, 0xc3, 0x28]), "UTF-8"),
        ("a key that is no text".into(), list(&[0x81, 0xa1, 0xff, 1]), "UTF-8"),
        ("deeper than 128".into(), deep(129), "nested deeper"),
        ("much deeper".into(), deep(1_000_000), "nested deeper"),
        (
            "maps deeper than that".into(),
            [vec![0x91], [0x81, 0xa0].repeat(100_000), vec![0xc0]].concat(),
            "nested deeper",
        ),
        ("a list of all bits".into(), [0xdd, 255, 255, 255, 255].to_vec(), "an array that needs"),
        ("a map of all bits".into(), list(&[0xdf, 255, 255, 255, 255]), "a map that needs"),
        ("a text of all bits".into(), list(&[0xdb, 255, 255, 255, 255, 7]), "text that needs"),
        ("a list in a list of all bits".into(), list(&[0xdd, 255, 255, 255, 255]), "an array that needs"),
        (
            "more values than agreed".into(),
            [&[0xdd][..], &1_000_001_u32.to_be_bytes(), &vec![0xc0; 1_000_001]].concat(),
            "more than 1000000 values",
        ),
    ];
    for (name, value) in [("NaN", f64::NAN), ("infinity", f64::INFINITY), ("less than all", f64::NEG_INFINITY)] {
        rows.push((name.into(), list(&f64(value)), "not a JSON number"));
        rows.push((format!("{name} of 32 bits"), list(&f32(value as f32)), "not a JSON number"));
    }
    for marker in [0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8] {
        rows.push((
            format!("bytes or an extension ({marker:#x})"),
            list(&[&[marker][..], &[0; 40]].concat()),
            "is not JSON",
        ));
    }
    let good = rmp_serde::to_vec(&json!([{"key": [1, -1, 1.5, "text", null, true, u64::MAX, i64::MIN]}])).unwrap();
    rows.extend((0..good.len()).map(|len| (format!("{len} of {} bytes", good.len()), good[..len].to_vec(), "")));
    rows
}

/// Payloads that are unusual and legal.
fn legal_payloads() -> Vec<(String, Vec<u8>)> {
    let list = |value: &[u8]| [&[0x91], value].concat();
    let deep = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    vec![
        ("as deep as may be".into(), deep(128)),
        ("no arguments".into(), vec![0x90]),
        ("a list with a long head".into(), [0xdd, 0, 0, 0, 1, 0xc0].to_vec()),
        ("numbers longer than they need be".into(), list(&[0xd3, 0, 0, 0, 0, 0, 0, 0, 1])),
        ("text with a long head".into(), list(&[0xdb, 0, 0, 0, 1, b'x'])),
        ("a key twice".into(), list(&[0x82, 0xa1, b'x', 1, 0xa1, b'x', 2])),
        ("an empty key".into(), list(&[0x81, 0xa0, 0xc0])),
        ("a NUL in text".into(), list(&[0xa1, 0])),
        (
            "the least and the greatest numbers".into(),
            rmp_serde::to_vec(&(i64::MIN, u64::MAX, f64::MIN, f64::MAX)).unwrap(),
        ),
        ("more arguments than are taken".into(), [&[0xdc, 1, 0][..], &[0xc0; 256]].concat()),
    ]
}

#[test]
fn each_payload_that_is_no_json_within_the_limits_cuts_the_link_and_any_other_is_taken() {
    alone("payloads");
}

fn payloads() {
    Stage::new().leaks_nothing(|stage| {
        // With a listener that reads all, one that wants something else, a handler, nobody.
        let targets = [(SEND, "any"), (SEND, "number"), (SEND, "nobody"), (SEND_SYNC, "nobody"), (INVOKE, "take")];
        for (row, payload, why) in broken_payloads() {
            for (kind, channel) in targets {
                let row = format!("{row}, kind {kind} on {channel:?}");
                let mut hostile = stage.hostile();
                let call = if kind == SEND { 0 } else { hostile.next_call() };
                hostile.send(&message(kind, 1, call, channel, 0, &payload));
                hostile.ring_all();
                // A key in what does not fit the listener, which no decoder reads.
                if row.starts_with("a key that is no text") && channel == "number" {
                    stage.works(&mut hostile, &row);
                } else {
                    stage.is_cut(&hostile, why, &row);
                }
            }
        }
        let mut hostile = stage.hostile();
        for (row, payload) in legal_payloads() {
            for (kind, channel) in targets {
                let call = if kind == SEND { 0 } else { hostile.next_call() };
                assert!(hostile.send(&message(kind, 1, call, channel, 0, &payload)), "{row}");
            }
            assert!(hostile.is_answered(), "{row}: {:?}", stage.gone.try_recv());
        }
        stage.works(&mut hostile, "all that is legal");
        // Answers to main's own calls: their payload is no list, and whoever asked is told.
        for (row, payload, _) in broken_payloads() {
            let (kinds, value) = match payload.split_first() {
                // As a value: what stands in the list.
                // That deep, it is not too deep without the list.
                Some((0x91, _)) if row == "deeper than 128" => continue,
                Some((0x91, value)) if !row.contains(" of ") => ([REPLY, REPLY_ERROR], value),
                _ => continue,
            };
            for kind in kinds {
                let mut hostile = stage.hostile();
                let web_contents = stage.web_contents(&hostile);
                let caller = std::thread::spawn(move || web_contents.invoke::<Value>("ask", (), PATIENCE).wait());
                let request = hostile.receive().expect("a call");
                let call = u64::from_le_bytes(request[8..16].try_into().unwrap());
                hostile.send(&message(kind, 1, call, "", 0, value));
                hostile.ring_all();
                let error = bounded("the call", move || caller.join().unwrap()).expect_err(&row);
                assert_eq!(error.kind(), ErrorKind::Protocol, "{row}, kind {kind}: {error}");
                stage.is_cut(&hostile, "", &row);
            }
        }
        assert!(stage.told.try_iter().all(|told| told.kind == ErrorKind::BadArguments));
    });
}

#[test]
fn the_widest_legal_messages_are_borne_and_others_are_answered() {
    alone("wide messages");
}

/// The most memory that this process ever had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn wide_messages() {
    let values = 1_000_000_u32;
    let list =
        |count: u32, value: &[u8]| [&[0x91, 0xdd][..], &count.to_be_bytes(), &value.repeat(count as usize)].concat();
    let map =
        |count: u32, entry: &[u8]| [&[0x91, 0xdf][..], &count.to_be_bytes(), &entry.repeat(count as usize)].concat();
    // The argument list is a value, the argument another one.
    let rows = [
        ("nils", list(values - 2, &[0xc0])),
        ("empty lists", list(values - 2, &[0x90])),
        ("empty maps", list(values - 2, &[0x80])),
        ("empty texts", list(values - 2, &[0xa0])),
        ("maps of an empty list", list((values - 2) / 2, &[0x81, 0xa0, 0x90])),
        ("one key again and again", map(values - 2, &[0xa0, 0xc0])),
        ("lists of 126 levels", list((values - 2) / 126, &[vec![0x91; 125], vec![0x90]].concat())),
        ("a long text", rmp_serde::to_vec(&("x".repeat((64 << 20) - 100),)).unwrap()),
        (
            "a long key",
            list(1, &[&[0x81, 0xdb][..], &((60 << 20) as u32).to_be_bytes(), &vec![b'x'; 60 << 20], &[0xc0]].concat()),
        ),
    ];
    Stage::new().leaks_nothing(|stage| {
        for (row, payload) in rows {
            let mut hostile = stage.hostile();
            let (start, len) = (Instant::now(), payload.len());
            let call = hostile.next_call();
            let mut is_open = hostile.send(&message(INVOKE, 1, call, "take", 0, &payload));
            // A million values take their time, all the more where whoever waits here shares the core.
            let end = start + 4 * PATIENCE;
            let answer = loop {
                if let Some(answer) = hostile.try_receive() {
                    break answer;
                }
                assert!(is_open, "{row}: {:?}", stage.gone.try_recv());
                assert!(Instant::now() < end, "{row}: no answer");
                std::thread::yield_now();
                is_open = !hostile.connection.is_cut();
            };
            assert_eq!((answer[0], &answer[8..16]), (REPLY, &call.to_le_bytes()[..]), "{row}");
            eprintln!("{row}: {len} bytes, {:?}, peak {} MiB", start.elapsed(), peak());
            stage.works(&mut hostile, row);
        }
    });
}

// ---- calls --------------------------------------------------------------------------------------------------------

#[test]
fn answers_and_cancellations_of_nothing_do_nothing_and_an_id_in_use_cuts_the_link() {
    alone("calls");
}

fn calls() {
    Stage::new().leaks_nothing(|stage| {
        let counted = Arc::new(());
        let lives = Arc::downgrade(&counted);
        stage
            .ipc_main
            .handle_async("counted", move |_event, (): ()| {
                let counted = counted.clone();
                async move {
                    let _counted = counted;
                    std::future::pending::<Result<(), ringmain::HandlerError>>().await
                }
            })
            .unwrap();
        let mut hostile = stage.hostile();
        let ids = [1, 2, 15, 16, 17, 1 << 31, u64::MAX >> 1, u64::MAX];
        for call in ids {
            for (kind, payload) in [(REPLY, &[0xc0][..]), (REPLY, &[0xc1]), (REPLY_ERROR, &[]), (CANCEL, &[])] {
                assert!(hostile.send(&message(kind, 1, call, "", 0, payload)));
            }
        }
        assert!(hostile.is_answered());
        assert_eq!(stage.web_contents(&hostile).stats().late_replies, 3 * ids.len() as u64);
        // An answer, another one, and a third of another kind: the first counts.
        let web_contents = stage.web_contents(&hostile);
        let caller = std::thread::spawn(move || web_contents.invoke::<i64>("ask", (), PATIENCE).wait());
        let request = hostile.receive().expect("a call");
        let call = u64::from_le_bytes(request[8..16].try_into().unwrap());
        let late = stage.web_contents(&hostile).stats().late_replies;
        hostile.send(&message(REPLY, 1, call, "", 0, &[7]));
        hostile.send(&message(REPLY, 1, call, "", 0, &[8]));
        hostile.send(&message(REPLY_ERROR, 1, call, "", 0, &[0xc0]));
        hostile.ring_all();
        assert_eq!(bounded("the call", move || caller.join().unwrap()).unwrap(), 7);
        assert!(hostile.is_answered());
        until("both are counted", || stage.web_contents(&hostile).stats().late_replies == late + 2);
        // An error whose record is none, or says what is unknown, is an error.
        for (record, kind) in [
            (json!([1, null, "", null, null]), ErrorKind::NoHandler),
            (json!([255, "Name", "text", "code", {"a": 1}]), ErrorKind::Handler),
            (json!([2, null, "x".repeat(65_536), null, null]), ErrorKind::Handler),
        ] {
            let web_contents = stage.web_contents(&hostile);
            let caller = std::thread::spawn(move || web_contents.invoke::<i64>("ask", (), PATIENCE).wait());
            let request = hostile.receive().expect("a call");
            let call = u64::from_le_bytes(request[8..16].try_into().unwrap());
            hostile.send(&message(REPLY_ERROR, 1, call, "", 0, &rmp_serde::to_vec(&record).unwrap()));
            hostile.ring_all();
            assert_eq!(bounded("the call", move || caller.join().unwrap()).unwrap_err().kind(), kind);
        }
        // An id that was answered already: harmless.
        for _ in 0..3 {
            hostile.send(&message(INVOKE, 1, 77, "add", 0, &[0x92, 2, 3]));
            assert_eq!(hostile.answer_of(77).unwrap(), (REPLY, vec![5]));
        }
        // Cancellations without end.
        for call in 0..100_000_u64 {
            assert!(hostile.send(&message(CANCEL, 1, 1_000_000 + call, "", 0, &[])));
        }
        stage.works(&mut hostile, "cancellations");
        // An id that is in use.
        let mut hostile = stage.hostile();
        hostile.send(&message(INVOKE, 1, 9, "never", 0, &[0x90]));
        hostile.send(&message(INVOKE, 1, 9, "never", 0, &[0x90]));
        hostile.ring_all();
        stage.is_cut(&hostile, "used the id of call 9 again", "an id in use");
        // An id that is in use for another call since its first one was cancelled.
        let before = lives.strong_count();
        let mut hostile = stage.hostile();
        hostile.send(&message(INVOKE, 1, 9, "counted", 0, &[0x90]));
        hostile.ring_all();
        until("it has started", || lives.strong_count() == before + 1);
        hostile.send(&message(CANCEL, 1, 9, "", 0, &[]));
        hostile.send(&message(INVOKE, 1, 9, "counted", 0, &[0x90]));
        hostile.ring_all();
        assert!(hostile.is_answered());
        until("only the second one runs", || lives.strong_count() == before + 1);
        stage.leaves(&mut hostile, "an id that was cancelled");
        until("neither runs", || lives.strong_count() == before);
        // More calls than may wait.
        let mut hostile = stage.hostile();
        let mut refused = 0;
        for call in 1..=70_000_u64 {
            assert!(hostile.send(&message(INVOKE, 1, call, "never", 0, &[0x90])));
            while let Some(answer) = hostile.try_receive() {
                assert_eq!(answer[0], REPLY_ERROR);
                refused += 1;
            }
        }
        let call = hostile.next_call() + 1_000_000;
        hostile.send(&message(SEND_SYNC, 1, call, "nobody", 0, &[0x90]));
        hostile.ring_all();
        while refused < 70_000 - 65_536 {
            assert_eq!(hostile.receive().expect("a refusal")[0], REPLY_ERROR);
            refused += 1;
        }
        // The last one that was refused may be counted still, for a moment.
        until("as many as may wait are open", || stage.web_contents(&hostile).stats().open_requests == 65_536);
        stage.leaves(&mut hostile, "calls that wait for ever");
    });
}

// ---- floods -------------------------------------------------------------------------------------------------------

#[test]
fn floods_that_nobody_drains_stop_at_their_limits() {
    alone("floods");
}

fn floods() {
    const LIMIT: usize = 64 << 10;
    Stage::of(builder().queue_limit(LIMIT).ring_size(4096)).leaks_nothing(|stage| {
        // It asks and asks, and reads nothing: main stops reading it, with what is queued within the limit.
        let mut hostile = stage.hostile();
        let ask = |call| message(INVOKE, 1, call, "give", 0, &rmp_serde::to_vec(&(1000,)).unwrap());
        let mut asked = 0;
        let mut full_since: Option<Instant> = None;
        let web_contents = stage.web_contents(&hostile);
        let (start, queued) = (Instant::now(), || web_contents.stats().queued_bytes as usize);
        while queued() <= LIMIT / 2 || full_since.is_none_or(|since| since.elapsed() < Duration::from_millis(50)) {
            assert!(start.elapsed() < PATIENCE, "main reads on, or not at all: {:?}", web_contents.stats());
            // Rung for what was written alone: the other rings would be for nothing.
            if hostile.try_put(WHOLE, &ask(1000 + asked)) {
                (asked, full_since) = (asked + 1, None);
                hostile.ring_if_asleep();
            } else {
                full_since.get_or_insert_with(Instant::now);
            }
        }
        // One that is woken by others meanwhile wishes for room anew each time it goes to sleep, and rings for it. Main finds nothing
        // that it may read, which is main's doing.
        may_ring(&hostile);
        let stats = stage.web_contents(&hostile).stats();
        // A reply that finds no room becomes a short one, which always does.
        let most = |stats: &ringmain::Stats| LIMIT + 2000 + 256 * stats.refused_full as usize;
        assert!(stats.queued_bytes as usize <= most(&stats), "{stats:?}");
        stage.is_well();
        // What main sends itself is refused.
        let error = (0..2 * LIMIT / 1000).find_map(|_| web_contents.send("text", ("x".repeat(1000),)).err());
        assert_eq!(error.expect("refused").kind(), ErrorKind::Full);
        assert!(web_contents.stats().queued_bytes as usize <= most(&web_contents.stats()));
        // Another one floods this one by way of main: a quarter of its queue, the rest is dropped and shown.
        let mut other = stage.hostile();
        for _ in 0..200 {
            assert!(other.send(&message(
                SEND_TO,
                1,
                1,
                "x",
                hostile.id(),
                &rmp_serde::to_vec(&("x".repeat(700),)).unwrap()
            )));
        }
        assert!(other.is_answered());
        let stats = web_contents.stats();
        assert!(stats.queued_bytes as usize <= most(&stats) + LIMIT / 4 + 1000, "{stats:?}");
        assert!(stage.web_contents(&other).stats().undeliverable > 100);
        stage.works(&mut other, "the other one");
        stage.is_well();
        // It reads after all: every call has its answer, and in order.
        let mut answered = Vec::new();
        while answered.len() < asked as usize {
            let message = hostile.receive().expect("an answer");
            if [REPLY, REPLY_ERROR].contains(&message[0]) {
                answered.push(u64::from_le_bytes(message[8..16].try_into().unwrap()));
            }
        }
        assert!(answered.into_iter().eq(1000..1000 + asked));
        stage.works(&mut hostile, "it reads after all");
        // Messages of all kinds as fast as they are taken, while others call.
        let mut hostile = stage.hostile();
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let flood = std::thread::spawn(move || {
            let kinds = [
                message(SEND, 1, 0, "number", 0, &[0x91, 7]),
                message(SEND, 1, 0, "nobody", 0, &[0x90]),
                message(REPLY, 1, 7, "", 0, &[7]),
                message(CANCEL, 1, 7, "", 0, &[]),
                message(SEND_TO, 1, 1, "x", 9999, &[0x90]),
                message(SEND, 1, 0, "number", 0, &[0x91, 0xc0]),
            ];
            for number in 0.. {
                if stops.load(Ordering::Relaxed) || !hostile.send(&kinds[number % kinds.len()]) {
                    break;
                }
            }
            hostile
        });
        (0..300).for_each(|_| stage.is_well());
        stop.store(true, Ordering::Relaxed);
        let mut hostile = bounded("the flood", move || flood.join().unwrap());
        stage.works(&mut hostile, "a flood of all kinds");
        while stage.told.try_recv().is_ok() {}
    });
}

/// Rings as an honest one may that is woken, and goes to sleep again, far more often than a storm is borne.
fn may_ring(hostile: &Hostile) {
    let (mut rings, mut end) = (0, Instant::now() + PATIENCE);
    while rings < 3 * 4096 && !hostile.connection.is_cut() {
        if hostile.ring_if_asleep() {
            (rings, end) = (rings + 1, Instant::now() + PATIENCE);
        } else {
            assert!(Instant::now() < end, "main was rung {rings} times and does not go to sleep any more");
            std::thread::yield_now();
        }
    }
    assert!(!hostile.connection.is_cut(), "after {rings} rings");
}

#[test]
fn one_whose_large_message_waits_for_the_budget_is_not_cut_for_its_rings() {
    alone("waits for the budget");
}

fn waits_for_the_budget() {
    const LIMIT: usize = 64 << 10;
    let limited = builder().ring_size(4096).max_message_size(LIMIT).process_limit(LIMIT);
    Stage::of(limited).leaks_nothing(|stage| {
        // One that reads nothing has all of it.
        let idle = stage.hostile();
        let web_contents = stage.web_contents(&idle);
        let error = (0..LIMIT / 500).find_map(|_| web_contents.send("text", ("x".repeat(1000),)).err());
        assert_eq!(error.expect("refused").kind(), ErrorKind::Full);
        let mut hostile = stage.hostile();
        let large = message(SEND, 1, 0, "text", 0, &rmp_serde::to_vec(&("y".repeat(LIMIT / 2),)).unwrap());
        let (begin, mut left) = large.split_at(1000);
        assert!(hostile.put(FIRST, &[&(large.len() as u64).to_le_bytes()[..], begin].concat()));
        hostile.ring_if_asleep();
        may_ring(&hostile);
        drop(idle.connection);
        assert_eq!(stage.end_of(idle.welcome.id, "the idle one"), GoneReason::Closed);
        // It was not lost.
        while !left.is_empty() {
            let (part, rest) = left.split_at(left.len().min(1000));
            assert!(hostile.put(MORE, part));
            left = rest;
        }
        stage.works(&mut hostile, "its budget is there");
        while stage.told.try_recv().is_ok() {}
    });
}

#[test]
fn wake_storms_are_cut_as_soon_as_they_are_long_enough_also_while_something_waits_to_be_sent() {
    alone("wake storms");
}

fn wake_storms() {
    Stage::of(builder().ring_size(4096)).leaks_nothing(|stage| {
        for queued in [false, true] {
            let row = format!("rings for nothing, queued: {queued}");
            let hostile = stage.hostile();
            if queued {
                let web_contents = stage.web_contents(&hostile);
                (0..100).for_each(|_| web_contents.send("text", ("x".repeat(1000),)).unwrap());
                assert!(web_contents.stats().queued_bytes > 0);
            }
            rings_until_cut(&hostile);
            stage.is_cut(&hostile, "times for nothing", &row);
        }
        // A caller that sleeps: its word changes, or it does not. It is woken some thousand times, on a core that it may share.
        let patience = 4 * PATIENCE;
        for changes in [1, 0] {
            let mut hostile = stage.hostile();
            let web_contents = stage.web_contents(&hostile);
            let caller = std::thread::spawn(move || web_contents.invoke::<i64>("ask", (), patience).wait());
            hostile.receive().expect("a call");
            let end = Instant::now() + patience;
            while !hostile.connection.is_cut() {
                assert!(Instant::now() < end, "a storm of {changes} is borne");
                for _ in 0..100 {
                    let word = hostile.control(Way::ToMain, CALLER);
                    word.fetch_add(changes, Ordering::Relaxed);
                    let _ = futex::wake(word, futex::Flags::empty(), 1);
                }
            }
            let error = bounded("the call", move || caller.join().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            stage.is_cut(&hostile, "times for nothing", "a caller's storm");
        }
        // Just below that, for a while, from a process of its own.
        let mut program = child("storm");
        program.env("TEST_PATH", &stage.path);
        let cpu = cpu_time();
        let start = Instant::now();
        let mut storm = support::Program::start(program);
        storm.until_it_says("storm");
        let (mut calls, mut slowest) = (0_u64, Duration::ZERO);
        let status = loop {
            let before = Instant::now();
            stage.is_well();
            slowest = slowest.max(before.elapsed());
            calls += 1;
            if let Some(status) = storm.child.try_wait().unwrap() {
                break status;
            }
        };
        assert!(status.success());
        let (used, took) = (cpu_time() - cpu, start.elapsed());
        eprintln!("a storm of {took:?}: {calls} calls, slowest {slowest:?}, CPU of main and the honest one {used} ms");
        let (_, reason) = next(&stage.gone, "the end of the storm");
        assert!(matches!(reason, GoneReason::Closed | GoneReason::Exited { .. }), "{reason:?}");
        drop(storm);
    });
}

/// Milliseconds of all threads of this process.
fn cpu_time() -> u64 {
    let stat = support::stat(std::process::id()).unwrap();
    (stat[11].parse::<u64>().unwrap() + stat[12].parse::<u64>().unwrap()) * 10
}

fn rings_until_cut(hostile: &Hostile) {
    let end = Instant::now() + 4 * PATIENCE;
    while !hostile.connection.is_cut() {
        assert!(Instant::now() < end, "it may ring for ever");
        (0..100).for_each(|_| hostile.ring_eventfd());
    }
}

/// Rings as often as it may, and then says something.
fn storm() {
    let mut hostile = Hostile::connect(&PathBuf::from(support::env("TEST_PATH")));
    assert!(hostile.is_answered());
    println!("storm");
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        (0..2000).for_each(|_| hostile.ring_eventfd());
        assert!(hostile.is_answered(), "the link was cut");
    }
}

#[test]
fn a_caller_whose_sleep_the_peer_has_moved_to_another_word_still_learns_the_end_and_its_deadline() {
    alone("sleepers moved");
}

fn sleepers_moved() {
    Stage::new().leaks_nothing(|stage| {
        for ends in [true, false] {
            let mut hostile = stage.hostile();
            let web_contents = stage.web_contents(&hostile);
            let patience = if ends { PATIENCE } else { Duration::from_millis(300) };
            let caller = std::thread::spawn(move || web_contents.invoke::<i64>("ask", (), patience).wait());
            let request = hostile.receive().expect("a call");
            let word = hostile.control(Way::ToMain, CALLER);
            let other = hostile.control(Way::ToRenderer, DISPATCHER);
            until("its sleep is moved", || {
                caller.is_finished() || futex::requeue(word, futex::Flags::empty(), 0, 1, other) == Ok(1)
            });
            let call = u64::from_le_bytes(request[8..16].try_into().unwrap());
            if ends {
                // The answer does not reach it, the end does.
                rustix::net::shutdown(&hostile.connection.socket, rustix::net::Shutdown::Both).unwrap();
                let error = bounded("the call", move || caller.join().unwrap()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Disconnected);
                assert_eq!(stage.end_of(hostile.id(), "its end"), GoneReason::Closed);
            } else {
                let error = bounded("the call", move || caller.join().unwrap()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout);
                hostile.send(&message(REPLY, 1, call, "", 0, &[7]));
                stage.works(&mut hostile, "its deadline");
            }
        }
        // A lock with priority inheritance on words that main wakes.
        let mut hostile = stage.hostile();
        for word in [DISPATCHER, CALLER] {
            for way in [Way::ToRenderer, Way::ToMain] {
                hostile.control(way, word).store(0, Ordering::SeqCst);
                let _ = futex::lock_pi(hostile.control(way, word), futex::Flags::empty(), None);
            }
            hostile.control(Way::ToRenderer, SLEEPER).store(if word == CALLER { 2 } else { 1 }, Ordering::SeqCst);
            assert!(hostile.is_answered());
        }
        stage.works(&mut hostile, "locks");
    });
}

// ---- the region ---------------------------------------------------------------------------------------------------

#[test]
fn whatever_is_done_to_the_region_and_to_what_is_shared_main_neither_faults_nor_waits() {
    alone("the region");
}

fn the_region() {
    Stage::new().leaks_nothing(|stage| {
        if is_sealed() {
            let mut hostile = stage.hostile();
            let region = hostile.region.as_ref().unwrap();
            let len = hostile.welcome.region;
            let seals = rustix::fs::fcntl_get_seals(region).unwrap();
            assert!(seals.contains(SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW), "{seals:?}");
            for size in [0, 1, 4096, len - 1, len + 1, 1 << 40] {
                rustix::fs::ftruncate(region, size).expect_err("neither shorter nor longer");
            }
            for seal in [SealFlags::WRITE, SealFlags::FUTURE_WRITE, SealFlags::GROW] {
                rustix::fs::fcntl_add_seals(region, seal).expect_err("no further seal");
            }
            rustix::fs::fallocate(region, FallocateFlags::empty(), 0, len + 4096).expect_err("not longer");
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Between two calls: both rings are as new, only that nobody is at 0.
            rustix::fs::fallocate(region, punch, hostile.welcome.to_main.0, hostile.words(Way::ToMain) * 8).unwrap();
            stage.works(&mut hostile, "a hole in one ring");
            // While messages flow, all of it, over and over.
            for _ in 0..20 {
                let mut hostile = stage.hostile();
                let web_contents = stage.web_contents(&hostile);
                let flow = std::thread::spawn(move || {
                    (0..500).for_each(|_| drop(web_contents.send("text", ("x".repeat(200),))));
                });
                for _ in 0..50 {
                    hostile.try_put(WHOLE, &message(SEND, 1, 0, "number", 0, &[0x91, 7]));
                    rustix::fs::fallocate(hostile.region.as_ref().unwrap(), punch, 0, len).unwrap();
                    hostile.ring_all();
                }
                flow.join().unwrap();
                stage.is_well();
                drop(hostile.connection);
                let reason = stage.end_of(hostile.welcome.id, "holes");
                assert!(matches!(reason, GoneReason::Closed | GoneReason::Corrupt(_)), "{reason:?}");
            }
        }
        // Magic and version in the region decide nothing.
        let mut hostile = stage.hostile();
        (0..16).for_each(|word| hostile.memory.word64(8 * word).store(u64::MAX, Ordering::SeqCst));
        stage.works(&mut hostile, "the first line");
        // The doorbell made to block, and full: main reads and writes it never.
        let mut hostile = stage.hostile();
        rustix::io::ioctl_fionbio(&hostile.doorbell, true).unwrap();
        let _ = rustix::io::write(&hostile.doorbell, &(u64::MAX - 1).to_ne_bytes());
        rustix::io::ioctl_fionbio(&hostile.doorbell, false).unwrap();
        let web_contents = stage.web_contents(&hostile);
        (0..1000).for_each(|_| drop(web_contents.send("text", ("x".repeat(1000),))));
        hostile.control(Way::ToRenderer, SLEEPER).store(9, Ordering::SeqCst);
        web_contents.send("text", ()).unwrap();
        stage.is_well();
        rustix::io::ioctl_fionbio(&hostile.doorbell, true).unwrap();
        while hostile.try_receive().is_some() {}
        rustix::net::shutdown(&hostile.connection.socket, rustix::net::Shutdown::Both).unwrap();
        assert_eq!(stage.end_of(hostile.id(), "the doorbell"), GoneReason::Closed);
        // Every word of the region at once, while main is asleep and while it works.
        for (seed, calls) in [(1, false), (2, true), (3, false), (4, true)] {
            let mut hostile = stage.hostile();
            let web_contents = stage.web_contents(&hostile);
            let caller = calls.then(|| {
                let caller = std::thread::spawn(move || web_contents.invoke::<i64>("ask", (), PATIENCE).wait());
                hostile.receive().expect("a call");
                caller
            });
            let mut random = Random(seed);
            for word in 0..hostile.welcome.region as usize / 8 {
                let control = hostile.welcome.control as usize / 8;
                if !(control..control + 160).contains(&word) {
                    hostile.memory.word64(8 * word).store(random.next(), Ordering::Relaxed);
                }
            }
            hostile.ring_all();
            stage.is_cut(&hostile, "", "every word");
            if let Some(caller) = caller {
                assert!(bounded("the call", move || caller.join().unwrap()).is_err());
            }
        }
    });
}

// ---- the end ------------------------------------------------------------------------------------------------------

#[test]
fn a_link_that_has_ended_is_gone_although_its_ring_is_written_on_for_ever() {
    alone("the end");
}

fn the_end() {
    Stage::new().leaks_nothing(|stage| {
        for closes in [true, false] {
            let hostile = Arc::new(Mutex::new(stage.hostile()));
            let again = |hostile: &mut Hostile| hostile.put(WHOLE, &message(SEND, 1, 0, "again", 0, &[0x90]));
            // Whatever main takes out is followed by another one: it never finds the ring empty.
            let writer = hostile.clone();
            let listener = stage.ipc_main.on("again", move |_event, (): ()| again(&mut writer.lock().unwrap()));
            {
                let mut hostile = hostile.lock().unwrap();
                (0..50).for_each(|_| assert!(again(&mut hostile)));
                match closes {
                    true => assert!(hostile.put(WHOLE, &message(CLOSE, 1, 0, "", 0, &[]))),
                    // Its memory is in other hands, its process and socket are gone.
                    false => rustix::net::shutdown(&hostile.connection.socket, rustix::net::Shutdown::Both).unwrap(),
                }
                assert!(closes || again(&mut hostile));
                hostile.ring_all();
            }
            let id = hostile.lock().unwrap().id();
            assert_eq!(stage.end_of(id, "its end"), GoneReason::Closed, "closes: {closes}");
            stage.is_well();
            stage.ipc_main.remove_listener("again", &listener);
        }
        // Twice closed, and more behind it.
        let mut hostile = stage.hostile();
        for _ in 0..3 {
            hostile.send(&message(CLOSE, 1, 0, "", 0, &[]));
            hostile.send(&message(SEND, 1, 0, "any", 0, &[0x90]));
        }
        hostile.ring_all();
        assert_eq!(stage.end_of(hostile.id(), "closed"), GoneReason::Closed);
        // Corrupt in what it left.
        let mut hostile = stage.hostile();
        hostile.put(WHOLE, &message(CLOSE, 1, 0, "", 0, &[]));
        hostile.put_raw(u64::MAX, &[]);
        hostile.ring_all();
        let reason = stage.end_of(hostile.id(), "corrupt behind its end");
        assert!(matches!(reason, GoneReason::Closed | GoneReason::Corrupt(_)), "{reason:?}");
    });
}

#[test]
fn what_is_written_behind_a_hang_up_does_not_keep_the_dispatcher_awake() {
    alone("writes on after it has hung up");
}

fn writes_on_after_it_has_hung_up() {
    let directory = TempDir::new();
    let ipc_main = builder().runtime_dir(&*directory).build().unwrap();
    let (path, gone) = (ipc_main.listen("main").unwrap(), gone(&ipc_main));
    // Its link is gone when the time is over for which a hang-up waits for the process: on a busy machine that may be first.
    let sleeps_before_it_is_gone = || {
        let mut hostile = Hostile::connect(&path);
        let is_connected =
            || ipc_main.web_contents(hostile.id()).is_some_and(|web_contents| web_contents.is_connected());
        until("it is connected", is_connected);
        rustix::net::shutdown(&hostile.connection.socket, rustix::net::Shutdown::Both).unwrap();
        until("its hang-up is seen", || !is_connected());
        support::until_the_others_sleep();
        let before = sleeps_of_the_dispatcher();
        assert!(hostile.put(WHOLE, &message(SEND, 1, 0, "any", 0, &[0x90])));
        hostile.ring_eventfd();
        let mut has_slept = false;
        until("the dispatcher sleeps again, or the link is gone", || {
            let is_gone = gone.try_recv().is_ok();
            has_slept = !is_gone && sleeps_of_the_dispatcher() > before;
            has_slept || is_gone
        });
        if has_slept {
            next(&gone, "its end");
        }
        has_slept
    };
    assert!((0..10).any(|_| sleeps_before_it_is_gone()), "it did not sleep until the link was gone");
}

#[test]
fn futures_learn_of_a_hang_up_before_its_reason_is_known() {
    alone("futures learn of a hang-up");
}

/// Tells, when it is woken, whether the link's reason is known.
struct Reason(WebContents, std::sync::mpsc::Sender<bool>);

impl Wake for Reason {
    fn wake(self: Arc<Self>) {
        let _ = self.1.send(self.0.gone_reason().is_some());
    }
}

fn futures_learn_of_a_hang_up() {
    let stage = Stage::new();
    let hostile = stage.hostile();
    let web_contents = stage.web_contents(&hostile);
    let mut call = Box::pin(web_contents.invoke::<i64>("ask", (), 4 * PATIENCE));
    let (tell, told) = channel();
    let waker = Waker::from(Arc::new(Reason(web_contents.clone(), tell)));
    assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    // The process lives: a second goes by before main takes that for its reason.
    rustix::net::shutdown(&hostile.connection.socket, rustix::net::Shutdown::Both).unwrap();
    assert!(!next(&told, "the end of the call"), "it was told after the reason");
    let error = match call.as_mut().poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(result) => result.unwrap_err(),
        Poll::Pending => panic!("woken for nothing"),
    };
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    drop(call);
    stage.end_of(hostile.id(), "a hang-up");
}

/// How often it gave its core back by itself.
fn sleeps_of_the_dispatcher() -> u64 {
    let [dispatcher] = &support::threads_named("ringmain-disp")[..] else { panic!("not one dispatcher") };
    let status = std::fs::read_to_string(format!("/proc/self/task/{dispatcher}/status")).unwrap();
    let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    switches.trim().parse().unwrap()
}

#[test]
fn answers_that_follow_each_other_without_end_behind_a_deadline_hold_up_nobody() {
    alone("replies behind a deadline");
}

/// Calls of main's that wait, each of which is answered by the peer when the one before it has been.
struct Chain {
    rounds: AtomicUsize,
    hostile: Mutex<Hostile>,
    calls: Mutex<Vec<u64>>,
    honest: IpcRenderer,
}

/// What wakes the task of one of them, on main's dispatcher.
struct OfChain(Arc<Chain>, usize);

impl Chain {
    fn answer(&self, index: usize) {
        let call = self.calls.lock().unwrap().get(index).copied();
        if let Some(call) = call {
            // Quietly: main finds it by itself.
            let answer = message(REPLY, 1, call, "", 0, &[7]);
            assert!(self.hostile.lock().unwrap().try_put(WHOLE, &answer), "main has read what was there before");
        }
    }
}

impl Wake for OfChain {
    fn wake(self: Arc<Self>) {
        let Self(chain, index) = &*self;
        if chain.rounds.fetch_add(1, Ordering::Relaxed) == 10 {
            chain.honest.send("mark", ()).unwrap();
        }
        chain.answer(index + 1);
    }
}

/// Tells that it was woken.
struct Tells(std::sync::mpsc::Sender<()>);

impl Wake for Tells {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

fn replies_behind_a_deadline() {
    const CALLS: usize = 5000;
    Stage::of(builder().ring_size(1024)).leaks_nothing(|stage| {
        let hostile = stage.hostile();
        let id = hostile.id();
        let web_contents = stage.web_contents(&hostile);
        let chain = Arc::new(Chain {
            rounds: AtomicUsize::new(0),
            hostile: Mutex::new(hostile),
            calls: Mutex::default(),
            honest: stage.honest.clone(),
        });
        let (mark, marked) = channel();
        let counts = chain.clone();
        let listener =
            stage.ipc_main.on("mark", move |_event, (): ()| mark.send(counts.rounds.load(Ordering::Relaxed)));
        let mut futures = Vec::new();
        for index in 0..CALLS {
            let mut call = Box::pin(web_contents.invoke::<i64>("ask", (), 4 * PATIENCE));
            let waker = Waker::from(Arc::new(OfChain(chain.clone(), index)));
            assert!(matches!(call.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending));
            futures.push(call);
            let request = chain.hostile.lock().unwrap().receive().expect("a call");
            chain.calls.lock().unwrap().push(u64::from_le_bytes(request[8..16].try_into().unwrap()));
        }
        // One more, which is never answered: at its deadline main looks at what lies in the ring.
        let (expire, expired) = channel();
        let mut late = Box::pin(web_contents.invoke::<i64>("ask", (), Duration::from_millis(200)));
        let waker = Waker::from(Arc::new(Tells(expire)));
        assert!(matches!(late.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending));
        chain.answer(0);
        next(&expired, "the deadline");
        chain.hostile.lock().unwrap().ring_all();
        let rounds = next(&marked, "an honest message");
        assert!(rounds < CALLS / 2, "it waited for {rounds} answers");
        until("all are answered", || chain.rounds.load(Ordering::Relaxed) == CALLS);
        drop((futures, late));
        stage.ipc_main.remove_listener("mark", &listener);
        let mut hostile = chain.hostile.lock().unwrap();
        while hostile.try_receive().is_some() {}
        hostile.send(&message(CLOSE, 1, 0, "", 0, &[]));
        hostile.ring_all();
        assert_eq!(stage.end_of(id, "the chain"), GoneReason::Closed);
    });
}

// ---- a child ------------------------------------------------------------------------------------------------------

/// A child of main's that shakes hands by hand and then breaks a rule.
fn corrupt_child() {
    let mut hostile = Hostile::over(Connection::inherited(), &Hello::default().encode());
    assert!(hostile.is_answered());
    match support::env("TEST_ACT").as_str() {
        "record" => hostile.put_raw(u64::MAX, &[]),
        "socket" => drop(hostile.connection.send(b"x").unwrap()),
        "twice" => drop(hostile.connection.send(&Hello::default().encode()).unwrap()),
        other => panic!("no act {other:?}"),
    }
    hostile.ring_all();
    hostile.connection.until_cut();
    std::process::exit(3);
}

#[test]
fn a_child_that_breaks_a_rule_is_cut_and_reaped_when_it_ends_and_not_killed() {
    let stage = Stage::new();
    for (act, why) in [("record", "is no record"), ("socket", "after the handshake"), ("twice", "after the handshake")]
    {
        let mut program = child("corrupt child");
        program.env("TEST_ACT", act).stdout(std::process::Stdio::null());
        let child = Child(stage.ipc_main.spawn(program).unwrap());
        match stage.end_of(child.id(), act) {
            GoneReason::Corrupt(text) => assert!(text.contains(why), "{act}: {text}"),
            other => panic!("{act}: {other:?}"),
        }
        until("it is reaped", || child.process().exit_status() == Some(ringmain::ExitStatus::Exited(Some(3))));
        stage.is_well();
    }
}

// ---- a main that is none ------------------------------------------------------------------------------------------

/// A memfd with these seals.
fn memory(len: u64, seals: SealFlags) -> OwnedFd {
    let memory = rustix::fs::memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&memory, len).unwrap();
    rustix::fs::fcntl_add_seals(&memory, seals).unwrap();
    memory
}

fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK).unwrap()
}

/// Named memory that is removed in any case; named as a main names it, so that after a kill the next main sweeps it.
struct NamedMemory(String);

impl NamedMemory {
    fn new(number: u64, len: u64) -> Self {
        let space = std::fs::read_link("/proc/self/ns/pid").unwrap();
        let space: String = space.to_str().unwrap().chars().filter(char::is_ascii_digit).collect();
        let start = &support::stat(std::process::id()).unwrap()[19];
        let name = Self(format!("/ringmain-{space}-{}-{start}-{number}", std::process::id()));
        name.make(len);
        name
    }

    fn make(&self, len: u64) {
        use rustix::shm::{Mode, OFlags, open};
        let fd = open(&*self.0, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR, Mode::RUSR | Mode::WUSR).unwrap();
        rustix::fs::ftruncate(&fd, len).unwrap();
    }

    fn is_there(&self) -> bool {
        std::path::Path::new("/dev/shm").join(&self.0[1..]).exists()
    }
}

impl Drop for NamedMemory {
    fn drop(&mut self) {
        let _ = rustix::shm::unlink(&*self.0);
    }
}

#[test]
fn a_renderer_refuses_a_main_whose_offer_breaks_a_rule_and_never_hangs_on_it() {
    let stage = Stage::of(IpcMain::builder());
    let (welcome, _) = Connection::to(&stage.path).welcome();
    let len = welcome.region;
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW;
    let good = || vec![memory(len, all), eventfd()];
    let with_region = |region: OwnedFd| vec![region, eventfd()];
    let with_doorbell = |doorbell: OwnedFd| vec![memory(len, all), doorbell];
    let blocking = || rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let pipe = |flags| rustix::pipe::pipe_with(flags).unwrap();
    let (_unread, full) = pipe(PipeFlags::NONBLOCK);
    while rustix::io::write(&full, &[7; 4096]).is_ok() {}
    let null = || OwnedFd::from(std::fs::File::options().read(true).write(true).open("/dev/null").unwrap());
    let patched = |at: usize, bytes: &[u8]| {
        let mut patched = welcome.bytes.clone();
        patched[at..at + bytes.len()].copy_from_slice(bytes);
        patched
    };
    let u64_at = |at: usize, value: u64| patched(at, &value.to_le_bytes());
    let same = || welcome.bytes.clone();
    let fields = &welcome.bytes[17..];
    let (refused, protocol) = (Some(ErrorKind::Refused), Some(ErrorKind::Protocol));
    // The same offer of named memory.
    let of_name = |name: &str| {
        let mut start = fields[..104].to_vec();
        (start[8], start[10]) = (2, 2);
        datagram(WELCOME, 1, 0, &[&start[..], &text(name.as_bytes()), &fields[106..]].concat())
    };
    let [right, small, none, large, gone] =
        [(1, len), (2, len - 1), (3, 0), (4, len + 4096), (5, len)].map(|(number, len)| NamedMemory::new(number, len));
    rustix::shm::unlink(&*gone.0).unwrap();
    let foreign = NamedMemory(format!("/foreign-{}", std::process::id()));
    foreign.make(len);
    type Row = (&'static str, Vec<u8>, Vec<OwnedFd>, Option<ErrorKind>);
    let rows: Vec<Row> = vec![
        ("as it should be", same(), good(), None),
        (
            "more seals than needed",
            same(),
            with_region(memory(len, all | SealFlags::FUTURE_WRITE)),
            Some(ErrorKind::System),
        ),
        ("no seals", same(), with_region(memory(len, SealFlags::empty())), refused),
        ("not sealed against seals", same(), with_region(memory(len, SealFlags::SHRINK | SealFlags::GROW)), refused),
        ("may shrink", same(), with_region(memory(len, SealFlags::SEAL | SealFlags::GROW)), refused),
        ("may grow", same(), with_region(memory(len, SealFlags::SEAL | SealFlags::SHRINK)), refused),
        ("too small", same(), with_region(memory(len - 1, all)), refused),
        ("nothing", same(), with_region(memory(0, all)), refused),
        ("too large", same(), with_region(memory(len + 4096, all)), refused),
        ("a device", same(), with_region(null()), refused),
        ("a doorbell", same(), with_region(eventfd()), refused),
        ("a socket", same(), with_region(Connection::to(&stage.path).socket), refused),
        ("a pipe", same(), with_region(rustix::pipe::pipe().unwrap().0), refused),
        ("a full pipe as doorbell", same(), with_doorbell(full), refused),
        ("a pipe that would block as doorbell", same(), with_doorbell(pipe(PipeFlags::empty()).1), refused),
        ("a socket as doorbell", same(), with_doorbell(Connection::to(&stage.path).socket), refused),
        ("the region as doorbell", same(), with_doorbell(memory(len, all)), refused),
        ("a device as doorbell", same(), with_doorbell(null()), refused),
        ("a doorbell that would block", same(), with_doorbell(blocking()), refused),
        ("a name", of_name(&right.0), vec![eventfd()], None),
        ("a name that is taken already", of_name(&right.0), vec![eventfd()], Some(ErrorKind::System)),
        ("a name of memory that is too small", of_name(&small.0), vec![eventfd()], refused),
        ("a name of memory that is empty", of_name(&none.0), vec![eventfd()], Some(ErrorKind::System)),
        ("a name of memory that is too large", of_name(&large.0), vec![eventfd()], refused),
        ("a name of nothing", of_name(&gone.0), vec![eventfd()], Some(ErrorKind::System)),
        ("a name that is no main's", of_name(&foreign.0), vec![eventfd()], refused),
        ("a path for a name", of_name("/ringmain-1/../foreign"), vec![eventfd()], Some(ErrorKind::System)),
        ("a name of no characters", of_name(""), vec![eventfd()], protocol),
        ("no descriptors", same(), vec![], protocol),
        ("one too few", same(), vec![memory(len, all)], protocol),
        ("one too many", same(), vec![memory(len, all), eventfd(), eventfd()], protocol),
        ("far too many", same(), (0..100).map(|_| eventfd()).collect(), protocol),
        ("descriptors that are not announced", patched(27, &[0, 0]), good(), protocol),
        ("no doorbell announced", patched(27, &[1, 0]), vec![memory(len, all)], refused),
        ("unknown descriptors", patched(27, &[3, 1]), good(), protocol),
        ("link 0", patched(17, &[0; 4]), good(), protocol),
        ("no backing", patched(25, &[0]), good(), protocol),
        ("an unknown backing", patched(25, &[3]), good(), protocol),
        ("a name that is missing", patched(25, &[2]), good(), protocol),
        ("a reserved byte", patched(26, &[1]), good(), protocol),
        ("a region of nothing", u64_at(29, 0), good(), protocol),
        ("a region beyond what it is", u64_at(29, len + 8), good(), refused),
        ("a region of all bits", u64_at(29, u64::MAX - 7), good(), refused),
        ("a ring outside", u64_at(37, len), good(), protocol),
        ("a ring far outside", u64_at(37, u64::MAX - 7), good(), protocol),
        ("a ring of nothing", u64_at(45, 0), good(), protocol),
        ("a ring of an odd length", u64_at(45, 129), good(), refused),
        ("a ring that is too short", u64_at(45, 64), good(), refused),
        ("a ring of all bits", u64_at(45, u64::MAX), good(), protocol),
        ("rings over each other", u64_at(53, welcome.to_renderer.0), good(), protocol),
        ("a ring between words", u64_at(53, welcome.to_main.0 + 4), good(), protocol),
        ("words in a ring", u64_at(69, welcome.to_main.0), good(), protocol),
        ("words outside", u64_at(69, len), good(), protocol),
        ("words half outside", u64_at(69, len - 8), good(), refused),
        ("words between words", u64_at(69, 132), good(), protocol),
        ("no message size", u64_at(77, 0), good(), protocol),
        ("a main that rings nothing", patched(109, &[0]), good(), refused),
        ("a main that sleeps on nothing", patched(113, &[0]), good(), protocol),
        ("another discipline", patched(114, &[2]), good(), refused),
        ("lanes", patched(117, &[1]), good(), protocol),
        ("another magic", patched(0, b"r"), good(), protocol),
        ("a Hello", datagram(HELLO, 1, 0, fields), good(), protocol),
        ("another major version", datagram(WELCOME, 2, 0, fields), good(), refused),
        ("a field more", datagram(WELCOME, 1, 0, &[fields, &[0]].concat()), good(), protocol),
        ("a later minor version's", datagram(WELCOME, 1, 1, &[fields, &[0]].concat()), good(), None),
        ("a field less", datagram(WELCOME, 1, 0, &fields[..fields.len() - 1]), good(), protocol),
        ("a byte", vec![b'R'], good(), protocol),
        ("nothing but an end", vec![], vec![], refused),
        ("silence", vec![], vec![eventfd()], Some(ErrorKind::Timeout)),
    ];
    let path = stage.directory.join("fake.sock");
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET, None).unwrap();
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 1).unwrap();
    for (row, bytes, fds, expected) in rows {
        let directory = stage.directory.to_path_buf();
        let connecting = std::thread::spawn(move || {
            let patience = if row == "silence" { Duration::from_millis(100) } else { PATIENCE };
            let builder = IpcRenderer::builder().runtime_dir(directory).connect_timeout(Some(patience));
            builder.connect_to("fake").map(drop)
        });
        let accepted = rustix::net::accept(&socket).unwrap();
        if !bytes.is_empty() {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            send_with(&accepted, &bytes, &fds).unwrap();
            // It says why, except to one that is no main at all.
            match receive(&accepted) {
                Some((hello, _)) => {
                    assert_eq!(
                        Hello { accepted: hello[17], ..Hello::default() }.accepted,
                        u8::from(expected.is_none()),
                        "{row}"
                    );
                }
                None => assert!(!bytes.starts_with(MAGIC), "{row}: it said nothing"),
            }
        } else if fds.is_empty() {
            rustix::net::shutdown(&accepted, rustix::net::Shutdown::Both).unwrap();
        }
        let result = bounded(row, move || connecting.join().unwrap());
        assert_eq!(result.as_ref().err().map(ringmain::Error::kind), expected, "{row}: {result:?}");
        stage.is_well();
    }
    assert!(!right.is_there(), "taken, and removed for that");
    assert!(foreign.is_there(), "nobody but its owner removes it");
}

// ---- at random ----------------------------------------------------------------------------------------------------

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 11) % n as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Small, at the edges of something, or anything.
    fn value(&mut self, near: u64) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => near.wrapping_sub(1 + self.below(3) as u64),
            4 => near.wrapping_add(1 + self.below(3) as u64),
            5 => near,
            6 => 1 << self.below(64),
            _ => self.next(),
        }
    }
}

/// Says at its end, if that is a panic, how to come here again.
struct Here(u64);

impl Drop for Here {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again: RINGMAIN_TEST_SEED={} RINGMAIN_TEST_ROUNDS=1", self.0);
        }
    }
}

#[test]
fn any_acts_in_any_order_hurt_nobody_else() {
    alone("random");
}

fn random() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let first = number("RINGMAIN_TEST_SEED", 1);
    let rounds = number("RINGMAIN_TEST_ROUNDS", 400);
    let start = Instant::now();
    let mut acts = 0;
    let builder = builder().ring_size(4096).queue_limit(64 << 10).max_message_size(1 << 20).max_pending_calls(64);
    Stage::of(builder).leaks_nothing(|stage| {
        let mut open = Vec::new();
        for seed in first..first + rounds {
            let here = Here(seed);
            acts += round(stage, &mut Random::new(seed), &mut open);
            stage.is_well();
            if open.len() > 100 {
                ends(stage, &mut open);
            }
            drop(here);
        }
        ends(stage, &mut open);
        while stage.told.try_recv().is_ok() {}
    });
    eprintln!("{rounds} rounds from seed {first} on, {acts} acts, {:?}", start.elapsed());
}

/// Each of them has ended, once.
fn ends(stage: &Stage, open: &mut Vec<u32>) {
    while !open.is_empty() {
        let (id, _) = next(&stage.gone, "the end of each link");
        let before = open.len();
        open.retain(|other| *other != id);
        assert_eq!(open.len() + 1, before, "{id} has ended twice");
    }
}

fn round(stage: &Stage, random: &mut Random, open: &mut Vec<u32>) -> u64 {
    let connection = Connection::to(&stage.path);
    let (welcome, fds) = connection.welcome();
    open.push(welcome.id);
    let mut hostile = Hostile::map(connection, welcome, fds);
    hostile.gives_up = true;
    let mut hello = Hello::default().encode();
    if random.below(20) == 0 {
        let at = random.below(hello.len());
        hello[at] = random.next() as u8;
    }
    // Whether the rings are as the rules say, so that a call is answered.
    let mut in_order = random.below(10) != 0 && hello == Hello::default().encode();
    let _ = hostile.connection.send(&hello);
    let mut acts = 0;
    for _ in 0..1 + random.below(12) {
        if hostile.connection.is_cut() {
            break;
        }
        hostile.drains = in_order;
        in_order &= act(stage, random, &mut hostile);
        acts += 1;
        if in_order && random.below(4) == 0 && !hostile.is_answered() {
            break;
        }
    }
    match random.below(4) {
        0 if in_order => drop(hostile.send(&message(CLOSE, 1, 0, "", 0, &[]))),
        1 => drop(rustix::net::shutdown(&hostile.connection.socket, rustix::net::Shutdown::Both)),
        _ => {}
    }
    hostile.ring_all();
    acts
}

/// One act. Whether the link must still work after it.
fn act(stage: &Stage, random: &mut Random, hostile: &mut Hostile) -> bool {
    let way = random.one_of(&[Way::ToRenderer, Way::ToMain]);
    let web_contents = stage.ipc_main.web_contents(hostile.id());
    match random.below(24) {
        0 | 1 => {
            let word = random.one_of(&[SLEEPER, WANTS_ROOM, DISPATCHER, CALLER]);
            hostile.control(way, word).store(random.value(2) as u32, Ordering::SeqCst);
            true
        }
        2 => {
            let near = if way == Way::ToRenderer { hostile.read } else { hostile.written };
            // Main's own head, too: this end goes by it.
            hostile.head(way).store(random.value(near), Ordering::SeqCst);
            false
        }
        3 => {
            let len = random.value(24) & 0x00ff_ffff_ffff_ffff;
            let kind = random.one_of(&[0, 1, 2, 3, 4, 5, random.0 as u8]);
            hostile.slot(Way::ToMain, hostile.written).store(u64::from(kind) << 56 | len, Ordering::SeqCst);
            false
        }
        4 | 5 => {
            let mut bytes = message(SEND, 1, 0, "any", 0, &[0x92, 7, 0xa1, b'x']);
            bytes[0] = random.one_of(&[1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13]);
            for _ in 0..random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] = random.value(u64::from(bytes[at])) as u8;
            }
            hostile.try_put(WHOLE, &bytes);
            hostile.ring_if_asleep();
            false
        }
        6 => {
            let payloads = broken_payloads();
            let (_, payload, _) = &payloads[random.below(payloads.len())];
            if payload.len() < 10_000 {
                hostile.send(&message(SEND, 1, 0, random.one_of(&["any", "number", "x"]), 0, payload));
            }
            false
        }
        7 => {
            let payloads = legal_payloads();
            let (_, payload) = &payloads[random.below(payloads.len())];
            hostile.send(&message(SEND, 1, 0, random.one_of(&["any", "number", "x"]), 0, payload))
        }
        8 => {
            for _ in 0..random.below(6) {
                let kind = random.one_of(&[WHOLE, FIRST, MORE, MORE]);
                let whole = random.value(300);
                let bytes = [&whole.to_le_bytes()[..], &vec![SEND; random.below(200)]].concat();
                hostile.try_put(kind, &bytes[random.below(9)..]);
                hostile.ring_if_asleep();
            }
            false
        }
        9 => {
            let text =
                message(SEND, 1, 0, "any", 0, &rmp_serde::to_vec(&("x".repeat(random.below(200_000)),)).unwrap());
            hostile.send(&text)
        }
        10 => {
            (0..random.below(200)).for_each(|_| hostile.ring_all());
            true
        }
        11 => {
            let (from, to) = (random.one_of(&[DISPATCHER, CALLER]), random.one_of(&[SLEEPER, WANTS_ROOM, CALLER]));
            let words = (hostile.control(Way::ToMain, from), hostile.control(way, to));
            let _ = futex::requeue(words.0, futex::Flags::empty(), random.below(2) as u32, 9, words.1);
            true
        }
        12 => match &hostile.region {
            Some(region) => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                let at = random.below(hostile.welcome.region as usize) as u64;
                let _ = rustix::fs::fallocate(region, flags, at, 1 + random.below(8192) as u64);
                false
            }
            None => true,
        },
        13 => {
            let bytes = vec![7; random.below(5000)];
            let fds = vec![hostile.doorbell.as_fd(); random.below(4)];
            hostile.connection.send_with(&bytes, &fds).is_err() && !hostile.connection.is_cut()
        }
        14 => (0..random.below(100)).all(|_| {
            let call = 1_000_000 + random.value(1) % 1_000_000;
            let kind = random.one_of(&[REPLY, REPLY_ERROR, CANCEL]);
            hostile.send(&message(kind, 1, call, "", 0, if kind == CANCEL { &[] } else { &[0xc0] }))
        }),
        15 => (0..random.below(300))
            .all(|_| hostile.send(&message(SEND, 1, 0, random.one_of(&["any", "number"]), 0, &[0x91, 7]))),
        16 | 17 => {
            for _ in 0..random.below(100) {
                let text = "x".repeat(random.below(500));
                if let Some(web_contents) = &web_contents {
                    let _ = web_contents.send("text", (text,));
                }
            }
            true
        }
        18 => {
            // Given up when it is dropped, or when its time is over; or it waits on.
            if let Some(web_contents) = &web_contents {
                let calls: Vec<_> = (0..random.below(20))
                    .map(|_| web_contents.invoke::<Value>("ask", (), Duration::from_millis(5)))
                    .collect();
                for call in calls.into_iter().take(random.below(20)) {
                    call.detach();
                }
            }
            true
        }
        19 => {
            if let Some(web_contents) = &web_contents {
                let _ = web_contents.invoke::<Value>("ask", (), Duration::from_millis(2)).wait();
            }
            true
        }
        20 => {
            let (start, len) = (random.below(hostile.welcome.region as usize / 8), random.below(600));
            for word in (start..hostile.welcome.region as usize / 8).take(len) {
                hostile.memory.word64(8 * word).store(random.value(24), Ordering::Relaxed);
            }
            false
        }
        21 => {
            let frame = random.one_of(&[0, 1, 2, 3, u32::MAX]);
            let kind = random.one_of(&[OPEN_FRAME, OPEN_FRAME, CLOSE_FRAME, SEND]);
            hostile.send(&message(kind, frame, u64::from(kind == OPEN_FRAME), "", 0, &[]));
            false
        }
        22 => {
            for _ in 0..random.below(70) {
                let call = hostile.next_call();
                let channel = random.one_of(&["never", "give", "nobody", "add"]);
                hostile.send(&message(random.one_of(&[INVOKE, SEND_SYNC]), 1, call, channel, 0, &[0x91, 100]));
            }
            // Its calls of handlers that never end leave no room for more.
            false
        }
        _ => hostile.send(&message(SEND_TO, 1, 1, "x", random.value(1) as u32 | 1, &[0x91, 7])),
    }
}
