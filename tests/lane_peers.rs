//! Lanes whose other end is hostile, dead, stopped or busy: an end says what has happened, and nobody else notices.
#![allow(missing_docs)]

#[path = "support/hostile.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod peer;
mod support;

use peer::*;
use ringmain::{
    ErrorKind, GoneReason, IpcMain, IpcRenderer, LaneConfig, LaneDuplex, LaneError, LaneGroup, LaneReceiver,
    LaneSender, LatestReader, LatestWriter, WakePolicy, WebContents,
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::Signal;
use rustix::thread::futex;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{
    Child, LONG, PATIENCE, Program, TempDir, alone, bounded, bounded_by, builder, child, connected, gone, held, next,
    pair, signal, spawn, stat_of, stop, until, until_disconnected, until_held,
};

#[test]
fn children() {
    support::play(&[
        ("answers", answers),
        ("main of lanes", main_of_lanes),
        ("opens and drops", opens_and_drops),
        ("lanes come and go", lanes_come_and_go),
    ]);
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn shortly() -> Instant {
    Instant::now() + Duration::from_millis(10)
}

fn config() -> LaneConfig {
    LaneConfig::new().capacity(8).max_record(256)
}

// ---- a hostile renderer -------------------------------------------------------------------------------------------

/// A main that listens, and an honest renderer of it with a lane of its own.
struct Stage {
    ipc_main: IpcMain,
    path: PathBuf,
    gone: Receiver<(u32, GoneReason)>,
    honest: IpcRenderer,
    host: LaneDuplex<u64, u64>,
    plugin: LaneDuplex<u64, u64>,
    directory: TempDir,
}

impl Stage {
    fn new() -> Self {
        let directory = TempDir::new();
        let ipc_main = builder().runtime_dir(&*directory).build().expect("a main");
        ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).expect("a handler");
        let path = ipc_main.listen("main").expect("a socket");
        let gone = gone(&ipc_main);
        let honest = ipc_main.attach().expect("a renderer");
        let host = ipc_main.all_web_contents()[0].lane("honest", &config()).expect("main's end");
        let plugin = honest.lane("honest", &config()).expect("the renderer's end");
        Self { ipc_main, path, gone, honest, host, plugin, directory }
    }

    fn hostile(&self) -> (Hostile, WebContents) {
        let mut hostile = Hostile::connect(&self.path);
        assert!(hostile.is_answered(), "an honest beginning");
        let web_contents = self.ipc_main.web_contents(hostile.id()).expect("main knows it");
        (hostile, web_contents)
    }

    /// Main answers another, by messages and by a lane.
    fn is_well(&mut self) {
        let sum: i64 = self.honest.invoke("add", (2, 3)).timeout(PATIENCE).wait().expect("an honest renderer's answer");
        assert_eq!(sum, 5);
        let (mut asked, mut answer) = (0, 0);
        self.host.send_request(&sum.unsigned_abs()).expect("room");
        self.plugin.recv_request_until(&mut asked, soon()).expect("a request");
        self.plugin.send_response(&(asked + 1)).expect("room");
        self.host.recv_response_until(&mut answer, soon()).expect("an answer");
        assert_eq!(answer, 6);
    }
}

// Words of a block of a lane.
const RECEIVER: usize = 128;
const BELL: usize = 256;
const SENDER: usize = 384;

/// A lane as it came by the socket.
struct Lane {
    bytes: Vec<u8>,
    memory: Arc<Memory>,
    len: usize,
}

impl Lane {
    fn receive(hostile: &Hostile) -> Self {
        let (bytes, fds) = receive(&hostile.connection.socket).expect("a lane");
        assert_eq!((&bytes[..8], bytes[8], fds.len()), (&MAGIC[..], 3, 1));
        let len = u64::from_le_bytes(bytes[57..65].try_into().expect("8 bytes")) as usize;
        Self { memory: Arc::new(Memory::map(&fds[0], len)), bytes, len }
    }

    /// Offset of the block of what this renderer sends.
    const TO_MAIN: usize = 128 + 640;

    fn anywhere(&self, random: u64, value: u64) {
        // The blocks' words more often than all others.
        let at = match random % 3 {
            0 => random / 3 % (self.len as u64 / 8 - 16) + 16,
            _ => 16 + random / 3 % 160,
        };
        self.memory.word64(at as usize * 8).store(value, Ordering::Relaxed);
    }
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
}

/// Writes into the lanes until it is told to stop: values of flags, lengths, positions.
fn scribbles(lanes: Vec<Lane>, is_over: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        while !is_over.load(Ordering::Relaxed) {
            for lane in &lanes {
                let (place, kind) = (random(&mut state), random(&mut state));
                let value = match kind % 8 {
                    0 => 0,
                    1 => u64::MAX,
                    2 => kind / 8 % 12,
                    3 => 1 << (kind / 8 % 64),
                    4 => (kind / 8 % 300) << 1 | 1,
                    5 => (kind / 8 % 300) << 1,
                    6 => (kind >> 40) << 32 | 8 << 1 | (kind >> 39) & 1,
                    _ => random(&mut state),
                };
                lane.anywhere(place, value);
            }
        }
    })
}

fn is_an_answer<T: std::fmt::Debug>(answer: Result<T, LaneError>) {
    use LaneError::{Closed, Corrupt, Full, TimedOut, TooLong};
    assert!(matches!(answer, Ok(_) | Err(Closed | Corrupt | Full | TimedOut | TooLong)), "{answer:?}");
}

#[test]
fn a_renderer_that_writes_anything_into_its_lanes_at_any_time_hurts_none_but_its_own_ends() {
    let mut stage = Stage::new();
    bounded_by(LONG, "the hostile renderer's lanes", move || {
        let (hostile, web_contents) = stage.hostile();
        for round in 0..20 {
            let wake = [WakePolicy::IfParked, WakePolicy::Never, WakePolicy::Relay][round % 3];
            let config = config().wake(wake).spin(Duration::ZERO);
            let name = |kind: &str| format!("{kind} {round}");
            let mut sender: LaneSender<u64> = web_contents.lane(&name("sender"), &config).expect("an end");
            let mut receiver: LaneReceiver<[u8]> = web_contents.lane(&name("receiver"), &config).expect("an end");
            let mut writer: LatestWriter<[u8]> = web_contents.lane(&name("writer"), &config).expect("an end");
            let mut reader: LatestReader<[u64; 4]> = web_contents.lane(&name("reader"), &config).expect("an end");
            let mut host: LaneDuplex<u64, u64> = web_contents.lane(&name("host"), &config).expect("an end");
            let lanes = (0..5).map(|_| Lane::receive(&hostile)).collect();
            let is_over = Arc::new(AtomicBool::new(false));
            let scribbling = scribbles(lanes, is_over.clone());
            let mut got = [0xaa; 300];
            for at in 0..1000 {
                is_an_answer(sender.try_send(&at));
                let mut batch = sender.batch();
                is_an_answer(batch.push(&at));
                is_an_answer(batch.push(&at));
                if at % 2 == 0 {
                    batch.commit()
                } else {
                    drop(batch)
                }
                let received = receiver.try_recv(&mut got);
                assert!(!matches!(received, Ok(Some(record)) if record.len > 256));
                is_an_answer(received);
                is_an_answer(
                    receiver.peek().map(|record| record.map(|record| (record.copy_to(&mut got), record.release()))),
                );
                is_an_answer(writer.write(&got[..at as usize % 256]));
                is_an_answer(reader.read(&mut [0; 4]));
                is_an_answer(host.send_request(&at));
                let _ = (sender.room(), sender.is_full(), receiver.is_open(), writer.stats(), reader.stats());
                if at % 100 == 0 {
                    let soon = || Instant::now() + Duration::from_micros(300);
                    is_an_answer(receiver.recv_until(&mut got, soon()));
                    is_an_answer(reader.read_until(&mut [0; 4], soon()));
                    is_an_answer(host.exchange(&at, &mut 0, soon()));
                }
            }
            assert!(got[256..].iter().all(|byte| *byte == 0xaa), "written behind what a record may have");
            is_over.store(true, Ordering::Relaxed);
            scribbling.join().expect("no panic");
        }
        stage.is_well();
        assert!(stage.gone.try_recv().is_err(), "what lies in a lane is no reason to end the link");
        drop((hostile, stage.directory));
    });
}

#[test]
fn a_renderer_that_rings_a_lane_for_ever_without_publishing_holds_no_receiver_beyond_its_deadline() {
    let mut stage = Stage::new();
    let (hostile, web_contents) = stage.hostile();
    let config = config().spin(Duration::ZERO);
    let mut receiver: LaneReceiver<u64> = web_contents.lane("rung", &config).expect("an end");
    let lane = Lane::receive(&hostile);
    let (memory, is_over) = (lane.memory.clone(), Arc::new(AtomicBool::new(false)));
    let stop = is_over.clone();
    let storm = std::thread::spawn(move || {
        let bell = memory.word32(Lane::TO_MAIN + BELL);
        while !stop.load(Ordering::Relaxed) {
            bell.fetch_add(1, Ordering::Release);
            let _ = futex::wake(bell, futex::Flags::empty(), u32::MAX >> 1);
            // And it says that it sleeps, wakes, and does not.
            memory.word32(Lane::TO_MAIN + RECEIVER).fetch_xor(1, Ordering::Relaxed);
            memory.word32(Lane::TO_MAIN + SENDER).fetch_xor(4, Ordering::Relaxed);
        }
    });
    let mut receiver = bounded("waits in a storm", move || {
        for _ in 0..20 {
            let deadline = shortly();
            assert_eq!(receiver.recv_until(&mut 0, deadline), Err(LaneError::TimedOut));
            assert!(Instant::now() >= deadline);
        }
        receiver
    });
    is_over.store(true, Ordering::Relaxed);
    storm.join().expect("no panic");
    // From then on it is honest: the first record, of 8 bytes, whose word lies behind them.
    let first = 4096 + u32::from_le_bytes(lane.bytes[17..21].try_into().expect("4 bytes")) as usize % 32 * 128;
    lane.memory.word64(first).store(77, Ordering::Relaxed);
    lane.memory.word64(first + 8).store(8 << 1 | 1, Ordering::Release);
    let mut got = 0;
    receiver.recv_until(&mut got, soon()).expect("a record");
    assert_eq!(got, 77);
    stage.is_well();
}

#[test]
fn bytes_by_the_socket_cut_the_link_of_a_renderer_with_lanes_as_well_and_its_ends_say_closed() {
    let mut stage = Stage::new();
    let (hostile, web_contents) = stage.hostile();
    let mut sender: LaneSender<u64> = web_contents.lane("lane", &config()).expect("an end");
    let mut waits: LaneReceiver<u64> = web_contents.lane("waits", &config()).expect("an end");
    let waiting = std::thread::spawn(move || waits.recv_until(&mut 0, soon()));
    let lane = Lane::receive(&hostile);
    // It answers the offer, with the offer.
    hostile.connection.send(&lane.bytes).expect("sent");
    let (id, reason) = next(&stage.gone, "the end");
    assert_eq!(id, hostile.id());
    assert!(matches!(&reason, GoneReason::Corrupt(text) if text.contains("after the handshake")), "{reason}");
    assert_eq!(waiting.join().expect("no panic"), Err(LaneError::Closed));
    until("the sender knows", || sender.try_send(&1) == Err(LaneError::Closed));
    let again = web_contents.lane::<LaneSender<u64>>("another", &config()).expect_err("opened");
    assert_eq!(again.kind(), ErrorKind::Disconnected, "{again}");
    stage.is_well();
}

#[test]
fn a_renderer_that_takes_none_of_its_lanes_fills_its_own_socket_and_main_goes_on() {
    let mut stage = Stage::new();
    let (hostile, web_contents) = stage.hostile();
    let mut open = Vec::new();
    let error = loop {
        match web_contents.lane::<LaneSender<u64>>(&format!("lane {}", open.len()), &config()) {
            Ok(sender) => open.push(sender),
            Err(error) => break error,
        }
        assert!(open.len() < 100_000, "a socket without an end");
    };
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(error.to_string().contains("has not taken the lanes"), "{error}");
    stage.is_well();
    open.iter_mut().for_each(|sender| sender.try_send(&1).expect("a lane that was opened works"));
    // The name is not taken by what has failed, and there is room when one has been taken.
    let name = format!("lane {}", open.len());
    for _ in 0..open.len() {
        drop(Lane::receive(&hostile));
    }
    open.push(web_contents.lane(&name, &config()).expect("room again"));
    drop(open);
    stage.is_well();
    assert!(stage.gone.try_recv().is_err(), "it is slow, no more");
}

// ---- a main that is none ------------------------------------------------------------------------------------------

/// A lane's datagram: number, kind, what goes to the renderer, the region's length, the name.
fn offer(id: u32, kind: u8, to_renderer: [u32; 4], region: u64, name: &[u8]) -> Vec<u8> {
    let mut body = id.to_le_bytes().to_vec();
    body.extend([kind, 0, 0, 0]);
    body.extend(to_renderer.iter().flat_map(|field| field.to_le_bytes()));
    body.extend([0; 16]);
    body.extend(region.to_le_bytes());
    body.extend(text(name));
    datagram(3, 1, 0, &body)
}

fn memory(len: u64, seals: SealFlags) -> OwnedFd {
    let memory = rustix::fs::memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory");
    rustix::fs::ftruncate(&memory, len).expect("its size");
    rustix::fs::fcntl_add_seals(&memory, seals).expect("its seals");
    memory
}

/// What becomes of a lane that a main hands over.
enum Becomes {
    Taken,
    /// The link goes on, and whoever opens it is told.
    Refused(&'static str),
    Cut(&'static str),
}

#[test]
fn a_main_that_hands_over_lanes_that_are_none_is_told_apart_by_a_clear_reason() {
    let directory = TempDir::new();
    // Its Welcome is that of a real one.
    let ipc_main = IpcMain::builder().runtime_dir(&*directory).build().expect("a main");
    let path = ipc_main.listen("main").expect("a socket");
    let (welcome, _) = Connection::to(&path).welcome();
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW;
    // One page for the words, one for the slots of 16 bytes, from 128 bytes into it on.
    const LEN: u64 = 8192;
    const EIGHT: [u32; 4] = [8, 8, 16, 1];
    let good = || vec![memory(LEN, all)];
    let lane = |region| offer(1, 1, EIGHT, region, b"lane");
    use Becomes::{Cut, Refused, Taken};
    let rows: Vec<(&str, Vec<u8>, Vec<OwnedFd>, Becomes)> = vec![
        ("as it should be", lane(LEN), good(), Taken),
        ("not sealed", lane(LEN), vec![memory(LEN, SealFlags::empty())], Refused("cannot be used")),
        ("may shrink", lane(LEN), vec![memory(LEN, SealFlags::SEAL | SealFlags::GROW)], Refused("cannot be used")),
        ("too small", lane(LEN), vec![memory(LEN - 1, all)], Refused("cannot be used")),
        ("nothing", lane(LEN), vec![memory(0, all)], Refused("cannot be used")),
        ("an eventfd", lane(LEN), vec![eventfd()], Refused("cannot be used")),
        ("another length than its slots need", lane(LEN * 2), good(), Refused("cannot be used")),
        ("slots beyond memory", offer(1, 1, [8, u32::MAX, 16, 1], LEN, b"lane"), good(), Refused("cannot be used")),
        ("an alignment beyond lines", offer(1, 1, [8, 8, 1 << 31, 1], LEN, b"lane"), good(), Refused("cannot be used")),
        ("four slots of a latest value", offer(1, 2, EIGHT, LEN, b"lane"), good(), Refused("of kind Latest")),
        ("another type", offer(1, 1, [16, 8, 16, 1], LEN, b"lane"), good(), Refused("type of 16 bytes")),
        ("no descriptor", lane(LEN), vec![], Cut("another number of descriptors")),
        ("two descriptors", lane(LEN), vec![memory(LEN, all), eventfd()], Cut("more than a lane")),
        ("cut short", lane(LEN)[..40].to_vec(), good(), Cut("bytes")),
        ("a byte", vec![b'R'], good(), Cut("")),
        ("a byte more", [lane(LEN), vec![0]].concat(), good(), Cut("")),
        ("longer than any", vec![b'R'; 5000], good(), Cut("more than a lane")),
        ("no lane", datagram(4, 1, 0, &[0; 60]), good(), Cut("Lane")),
        ("a second Welcome", welcome.bytes.clone(), good(), Cut("Lane")),
        ("without a name", offer(1, 1, EIGHT, LEN, b""), good(), Cut("no name")),
        ("without a number", offer(0, 1, EIGHT, LEN, b"lane"), good(), Cut("no number")),
        ("of no kind", offer(1, 3, EIGHT, LEN, b"lane"), good(), Cut("no kind of lane")),
        ("without a direction", offer(1, 1, [0; 4], LEN, b"lane"), good(), Cut("no direction")),
        ("an alignment of three", offer(1, 1, [8, 8, 3, 1], LEN, b"lane"), good(), Cut("alignment of 3")),
    ];
    let fake = directory.join("fake.sock");
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET, None).expect("one");
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&fake).expect("a path")).expect("bound");
    rustix::net::listen(&socket, 1).expect("listens");
    for (row, bytes, fds, becomes) in rows {
        let path = directory.to_path_buf();
        let connecting = std::thread::spawn(move || IpcRenderer::builder().runtime_dir(path).connect_to("fake"));
        let accepted = rustix::net::accept(&socket).expect("a renderer");
        let region = memory(welcome.region, all);
        let bell = eventfd();
        send_with(&accepted, &welcome.bytes, &[region.as_fd(), bell.as_fd()]).expect("sent");
        receive(&accepted).expect("a Hello");
        let renderer = connecting.join().expect("no panic").expect("connected");
        let (to, ended) = channel();
        renderer.on_disconnected(move |reason| drop(to.send(reason.clone())));
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        send_with(&accepted, &bytes, &fds).expect("sent");
        match becomes {
            Taken => {
                let mut receiver: LaneReceiver<u64> = renderer.lane("lane", &config()).expect(row);
                assert_eq!(receiver.try_recv(&mut 0), Ok(None), "{row}");
            }
            Refused(why) => {
                let error = renderer.lane::<LaneReceiver<u64>>("lane", &config()).expect_err(row);
                assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::InvalidConfig), "{row}: {error}");
                assert!(error.to_string().contains(why), "{row}: {error}");
                assert!(renderer.is_connected(), "{row}");
            }
            Cut(why) => {
                let reason = next(&ended, row);
                assert!(matches!(&reason, GoneReason::Corrupt(text) if text.contains(why)), "{row}: {reason}");
                let error = renderer.lane::<LaneReceiver<u64>>("lane", &config()).expect_err(row);
                assert_eq!(error.kind(), ErrorKind::Disconnected, "{row}: {error}");
            }
        }
    }
}

fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK)
        .expect("one")
}

// ---- deaths -------------------------------------------------------------------------------------------------------

/// In a child: answers in the lanes that main has opened, until they are closed. Number 2 of three in the group is silent.
fn answers() {
    let renderer = connected();
    let lanes: Vec<LaneDuplex<u64, u64>> =
        (0..3).map(|at| renderer.lane(&format!("exchange {at}"), &config()).expect("an end")).collect();
    let records: LaneSender<u64> = renderer.lane("records", &config()).expect("an end");
    let values: LatestWriter<u64> = renderer.lane("values", &config()).expect("an end");
    let answering = lanes.into_iter().enumerate().map(|(at, mut lane)| {
        std::thread::spawn(move || {
            let mut asked = 0;
            while lane.recv_request_until(&mut asked, soon()).is_ok() {
                // Main may have left answers where they are.
                while lane.sender().is_full() {
                    std::thread::yield_now();
                }
                if at != 2 {
                    let _ = lane.send_response(&(asked + 1));
                }
            }
        })
    });
    let _answering: Vec<_> = answering.collect();
    renderer.send("ready", ()).expect("sent");
    until_disconnected(&renderer);
    drop((records, values));
}

/// Main's ends of what [`answers`] has.
struct Ends {
    lanes: Vec<LaneDuplex<u64, u64>>,
    records: LaneReceiver<u64>,
    values: LatestReader<u64>,
}

fn with_answers(ipc_main: &IpcMain) -> (Child, Ends) {
    let (ready, is_ready) = channel();
    ipc_main.on("ready", move |_event, ()| _ = ready.send(()));
    let child = spawn(ipc_main, "answers");
    let open = |at| child.lane(&format!("exchange {at}"), &config()).expect("main's end");
    let lanes = (0..3).map(open).collect();
    let records = child.lane("records", &config()).expect("main's end");
    let values = child.lane("values", &config()).expect("main's end");
    next(&is_ready, "the child");
    (child, Ends { lanes, records, values })
}

/// Runs `wait` on a thread of its own and returns when that sleeps.
fn sleeping<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    let (to, id) = channel();
    let waiting = std::thread::spawn(move || {
        let _ = to.send(rustix::thread::gettid());
        wait()
    });
    let thread = format!("/proc/self/task/{}/stat", next(&id, "a thread").as_raw_nonzero());
    until("it sleeps", || stat_of(&thread).is_none_or(|fields| fields[0] == "S"));
    waiting
}

#[test]
fn a_renderer_that_is_killed_ends_every_wait_of_main_with_closed() {
    let ipc_main = support::ipc_main();
    let (child, Ends { mut lanes, mut records, mut values }) = with_answers(&ipc_main);
    let mut answer = 0;
    lanes[0].exchange(&5, &mut answer, soon()).expect("an answer");
    assert_eq!(answer, 6);
    let mut silent = lanes.pop().expect("three");
    let mut group = LaneGroup::new();
    lanes.into_iter().for_each(|lane| _ = group.push(lane));
    let waits = [
        sleeping(move || records.recv_until(&mut 0, soon()).map(drop)),
        sleeping(move || values.read_until(&mut 0, soon()).map(drop)),
        sleeping(move || silent.exchange(&1, &mut 0, soon()).map(drop)),
    ];
    stop(child.process().id());
    let group = sleeping(move || {
        let started = [group.start(0, &1), group.start(1, &1)];
        (started, group.wait_all(soon()), group.response(0).copied(), group.response(1).copied())
    });
    child.process().kill().expect("killed");
    for wait in waits {
        assert_eq!(bounded("the wait", move || wait.join().expect("no panic")), Err(LaneError::Closed));
    }
    let (started, answered, first, second) = bounded("the group", move || group.join().expect("no panic"));
    assert_eq!(started, [Ok(()), Ok(())]);
    assert_eq!((answered, first, second), (0, Err(LaneError::Closed), Err(LaneError::Closed)));
}

fn main_of_lanes() {
    let ipc_main = IpcMain::builder().runtime_dir(support::env("TEST_DIRECTORY")).build().expect("a main");
    let lanes: Arc<std::sync::Mutex<Vec<Box<dyn std::any::Any + Send>>>> = Arc::default();
    let keeps = lanes.clone();
    ipc_main.on_renderer_connected(move |web_contents| {
        let exchange: LaneDuplex<u64, u64> = web_contents.lane("exchange", &config()).expect("main's end");
        let records: LaneSender<u64> = web_contents.lane("records", &config()).expect("main's end");
        let values: LatestWriter<u64> = web_contents.lane("values", &config()).expect("main's end");
        keeps.lock().expect("not poisoned").extend([
            Box::new(exchange) as _,
            Box::new(records) as _,
            Box::new(values) as _,
        ]);
    });
    ipc_main.listen("main").expect("a socket");
    println!("listens");
    support::line();
}

#[test]
fn a_main_that_is_killed_ends_every_wait_of_its_renderer_with_closed() {
    let directory = TempDir::new();
    let mut command = child("main of lanes");
    command.env("TEST_DIRECTORY", &*directory);
    let mut main = Program::start(command);
    main.until_it_says("listens");
    let renderer = IpcRenderer::builder().runtime_dir(&*directory).connect_to("main").expect("connected");
    let mut exchange: LaneDuplex<u64, u64> = renderer.lane("exchange", &config()).expect("an end");
    let mut records: LaneReceiver<u64> = renderer.lane("records", &config()).expect("an end");
    let mut values: LatestReader<u64> = renderer.lane("values", &config()).expect("an end");
    let waits = [
        sleeping(move || records.recv_until(&mut 0, soon()).map(drop)),
        sleeping(move || values.read_until(&mut 0, soon()).map(drop)),
        sleeping(move || exchange.exchange(&1, &mut 0, soon()).map(drop)),
        sleeping(move || {
            let never = renderer.lane::<LaneReceiver<u64>>("never", &config().open_timeout(PATIENCE));
            assert_eq!(never.expect_err("opened").kind(), ErrorKind::Disconnected);
            Err(LaneError::Closed)
        }),
    ];
    main.kill();
    for wait in waits {
        assert_eq!(bounded("the wait", move || wait.join().expect("no panic")), Err(LaneError::Closed));
    }
}

#[test]
fn a_renderer_that_is_stopped_times_out_and_goes_on_when_it_runs_again() {
    let ipc_main = support::ipc_main();
    let (child, Ends { mut lanes, mut records, mut values }) = with_answers(&ipc_main);
    let id = child.process().id();
    stop(id);
    let mut answer = 0;
    assert_eq!(lanes[0].exchange(&1, &mut answer, shortly()), Err(LaneError::TimedOut));
    assert_eq!(lanes[0].exchange(&2, &mut answer, shortly()), Err(LaneError::TimedOut));
    assert_eq!(records.recv_until(&mut 0, shortly()), Err(LaneError::TimedOut));
    assert_eq!(values.read_until(&mut 0, shortly()), Err(LaneError::TimedOut));
    let full = (0..20).map(|at| lanes[1].send_request(&at)).find(Result::is_err);
    assert_eq!(full, Some(Err(LaneError::Full)));
    assert!(lanes[0].is_open() && records.is_open() && values.is_open(), "it is stopped, not gone");
    signal(id, Signal::CONT);
    lanes[0].exchange(&40, &mut answer, soon()).expect("an answer");
    assert_eq!((answer, lanes[0].stats().late), (41, 2));
    until("it has taken what lay there", || lanes[1].exchange(&50, &mut answer, soon()).is_ok());
    assert_eq!(answer, 51);
}

// ---- nothing is left ----------------------------------------------------------------------------------------------

const LANES: u32 = 200;

/// Memory of lanes that this process has in its tables, in KiB.
fn shared_memory_present() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// One end of each lane, used and dropped.
fn use_and_drop(at: u32, receiver: LaneReceiver<[u8]>, sender: LaneSender<u64>) {
    let (mut receiver, mut sender) = (receiver, sender);
    receiver.prepare();
    sender.prepare();
    sender.try_send(&at.into()).expect("room");
    let mut got = [0; 256];
    let received = receiver.recv_until(&mut got, soon()).expect("a record");
    assert_eq!(&got[..received.len], at.to_string().as_bytes());
}

fn opens_and_drops() {
    let renderer = connected();
    let big = config().max_record(100_000);
    let round = |at: u32| {
        let mut out: LaneSender<[u8]> = renderer.lane(&format!("to main {at}"), &big).expect("an end");
        let mut from: LaneReceiver<u64> = renderer.lane(&format!("from main {at}"), &config()).expect("an end");
        out.prepare();
        from.prepare();
        out.try_send(at.to_string().as_bytes()).expect("room");
        let mut got = 0;
        from.recv_until(&mut got, soon()).expect("a record");
        assert_eq!(got, u64::from(at));
    };
    (0..3).for_each(round);
    let (before, present) = (held(), shared_memory_present());
    // An offer that has come and is not taken yet is a descriptor as well.
    renderer.send("has counted", ()).expect("sent");
    (3..LANES).for_each(round);
    until_held(&before, "the renderer after its lanes");
    let grown = shared_memory_present().saturating_sub(present);
    assert!(grown < 1000, "{grown} KiB of shared memory more than before");
    renderer.send("all is back", ()).expect("sent");
    until_disconnected(&renderer);
}

fn lanes_come_and_go() {
    let ipc_main = support::ipc_main();
    let (done, is_done) = channel();
    ipc_main.on("all is back", move |_event, ()| _ = done.send(()));
    let (counted, has_counted) = channel();
    ipc_main.on("has counted", move |_event, ()| _ = counted.send(()));
    let child = spawn(&ipc_main, "opens and drops");
    let big = config().max_record(100_000);
    let round = |at: u32| {
        let receiver = child.lane(&format!("to main {at}"), &big).expect("an end");
        let sender = child.lane(&format!("from main {at}"), &config()).expect("an end");
        use_and_drop(at, receiver, sender);
    };
    (0..3).for_each(round);
    next(&has_counted, "the renderer's count");
    let (before, present) = (held(), shared_memory_present());
    (3..LANES).for_each(round);
    until_held(&before, "main after its lanes");
    let grown = shared_memory_present().saturating_sub(present);
    assert!(grown < 1000, "{grown} KiB of shared memory more than before");
    next(&is_done, "the renderer's word");
}

#[test]
fn descriptors_mappings_and_memory_are_back_on_both_sides_when_lanes_are_dropped() {
    alone("lanes come and go");
}

#[test]
fn a_lane_whose_sender_has_a_helper_that_wakes_gives_its_name_back_at_once() {
    let (ipc_main, _renderer) = pair();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let config = config().wake(WakePolicy::Relay);
    // So many that the helper is at work meanwhile.
    let _others: Vec<LaneSender<u64>> =
        (0..64).map(|at| web_contents.lane(&format!("other {at}"), &config).expect("an end")).collect();
    let mut reopened = 0;
    for _ in 0..200 {
        match web_contents.lane::<LaneSender<u64>>("again", &config) {
            Ok(sender) => drop(sender),
            Err(error) if error.kind() == ErrorKind::Full => break,
            Err(error) => panic!("{error}"),
        }
        reopened += 1;
    }
    assert!(reopened > 50, "{reopened} times");
}

// ---- isolation ----------------------------------------------------------------------------------------------------

/// Exchanges that must come through at once beside something else.
const BLOCKS: u64 = 200;

#[test]
fn a_lane_goes_on_while_a_handler_of_its_link_is_blocked_and_while_a_message_of_64_mib_passes() {
    let (ipc_main, renderer) = support::pair_of(builder().max_message_size(80 << 20).queue_limit(100 << 20));
    let web_contents = ipc_main.all_web_contents().remove(0);
    // All exchanges, and the large message, fit into that.
    let long = 4 * PATIENCE;
    let ((begin, begins), (open, opens)) = (channel(), channel());
    let opens = Mutex::new(opens);
    ipc_main
        .handle("block", move |_event, ()| {
            begin.send(()).expect("the test");
            opens.lock().expect("no panic").recv_timeout(long).expect("somebody who lets it go on");
            Ok(())
        })
        .expect("a handler");
    ipc_main.handle("length", |_event, (text,): (String,)| Ok(text.len())).expect("a handler");
    let mut host: LaneDuplex<[f32; 64], [f32; 64]> = web_contents.lane("plug-in", &config()).expect("main's end");
    let mut plugin: LaneDuplex<[f32; 64], [f32; 64]> = renderer.lane("plug-in", &config()).expect("the renderer's end");
    let working = std::thread::spawn(move || {
        let mut block = [0.0; 64];
        while plugin.recv_request_until(&mut block, soon()).is_ok() {
            plugin.send_response(&block.map(|sample| sample + 1.0)).expect("room");
        }
    });
    let mut block = |at: f32| {
        let mut answer = [0.0; 64];
        host.exchange(&[at; 64], &mut answer, soon()).expect("an answer");
        assert_eq!(answer, [at + 1.0; 64]);
    };
    block(0.0);

    let (blocked, large) = (renderer.clone(), renderer.clone());
    let blocked = std::thread::spawn(move || blocked.invoke::<()>("block", ()).timeout(long).wait());
    next(&begins, "the handler");
    // Behind the handler that is blocked it fills the ring and goes no further.
    let text = "x".repeat(64 << 20);
    let passed = Arc::new(AtomicU64::new(0));
    let has_passed = passed.clone();
    let large = std::thread::spawn(move || {
        let len = large.invoke::<usize>("length", (text,)).timeout(long).wait();
        has_passed.store(1, Ordering::Release);
        len
    });
    (0..BLOCKS).for_each(|at| block(at as f32));
    assert_eq!(passed.load(Ordering::Acquire), 0, "the handler is still blocked");
    assert!(!blocked.is_finished());
    open.send(()).expect("the handler");
    let mut meanwhile = 0;
    while passed.load(Ordering::Acquire) == 0 {
        block(meanwhile as f32);
        meanwhile += 1;
    }
    assert_eq!(large.join().expect("no panic").expect("an answer"), 64 << 20);
    blocked.join().expect("no panic").expect("an answer");
    drop(host);
    working.join().expect("no panic");
    assert!(meanwhile > 0);
}
