//! Lanes between two processes, beside what bounds them: a cache line there and back, `memcpy`, a futex there and back; and
//! `rtrb`, which has both ends in one process. What a single call costs is measured with both ends in this one.
//!
//! The other process is the renderer. It echoes, takes or answers until its lane is closed, and uses what it gets.
#![allow(missing_docs, unsafe_code)]

mod support;

use criterion::{BenchmarkId, Criterion, Throughput};
use ringmain::{
    IpcMain, IpcRenderer, LaneConfig, LaneDuplex, LaneEnd, LaneError, LaneGroup, LaneReceiver, LaneSender,
    LatestReader, LatestWriter, WakePolicy, WebContents, internals,
};
use rustix::thread::futex::{self, Flags};
use std::cell::UnsafeCell;
use std::fs::File;
use std::hint::{black_box, spin_loop};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use support::{Core, PATIENCE, Peer, Pinned, Sleepers};

/// Bytes of each ring of records, also of `rtrb`'s.
const RING: usize = 128 << 10;
/// Records that are published together.
const BATCH: usize = 16;
/// A picture: 1920 × 1080 pixels of four bytes are about as many.
const PICTURE: usize = 8 << 20;
/// Peers of a group.
const GROUP: usize = 8;

/// The sender of a lane whose receiver looks by itself.
fn config(capacity: usize) -> LaneConfig {
    LaneConfig::new().capacity(capacity).align(64).wake(WakePolicy::Never).open_timeout(PATIENCE)
}

/// Both ends sleep as soon as there is nothing.
fn parked() -> LaneConfig {
    LaneConfig::new().capacity(4).wake(WakePolicy::IfParked).spin(Duration::ZERO).open_timeout(PATIENCE)
}

// ---- the other process --------------------------------------------------------------------------------------------

fn own_thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Starts a thread that says its number, then works.
fn work(told: &Sender<i32>, turn: impl FnOnce() + Send + 'static) {
    let told = told.clone();
    std::thread::spawn(move || {
        let _ = told.send(own_thread());
        turn();
    });
}

fn play_renderer(with: &str) {
    support::outlive_no_bench();
    let (name, what) = with.split_once(' ').expect("main's name, and what to do");
    let ipc_renderer = IpcRenderer::connect_to(name).expect("connected");
    let (told, threads) = std::sync::mpsc::channel();
    let here = ipc_renderer.clone();
    match what {
        "echo 48" => work(&told, move || echo::<48>(&here)),
        "echo 64" => work(&told, move || echo::<64>(&here)),
        "echo 4096" => work(&told, move || echo::<4096>(&here)),
        "take 48" => work(&told, move || take::<48>(&here)),
        "take 64" => work(&told, move || take::<64>(&here)),
        "take 4096" => work(&told, move || take::<4096>(&here)),
        "copy" => work(&told, move || pictures(&here, true)),
        "look" => work(&told, move || pictures(&here, false)),
        "answer" => work(&told, move || answer(&here, "lane")),
        "answer all" => {
            for peer in 0..GROUP {
                let here = here.clone();
                work(&told, move || answer(&here, &format!("lane {peer}")));
            }
        }
        _ => panic!("nobody does {what:?}"),
    }
    let thread = threads.recv().expect("the number of a thread").to_string();
    support::serve(&thread);
}

fn open<E: LaneEnd>(ipc_renderer: &IpcRenderer, name: &str, config: &LaneConfig) -> E {
    ipc_renderer.lane(name, config).expect("a lane")
}

fn echo<const BYTES: usize>(ipc_renderer: &IpcRenderer) {
    let mut lane: LaneDuplex<[u8; BYTES], [u8; BYTES]> = open(ipc_renderer, "lane", &config(1));
    lane.prepare();
    let mut record = [0; BYTES];
    loop {
        match lane.receiver().try_recv(&mut record) {
            Ok(Some(_)) => lane.sender().try_send(&record).expect("room"),
            Ok(None) => spin_loop(),
            Err(_) => return,
        }
    }
}

fn take<const BYTES: usize>(ipc_renderer: &IpcRenderer) {
    let mut lane: LaneReceiver<[u8; BYTES]> = open(ipc_renderer, "lane", &config(1));
    lane.prepare();
    let mut record = [0; BYTES];
    loop {
        match lane.try_recv(&mut record) {
            Ok(Some(_)) => _ = black_box(&record),
            Ok(None) => spin_loop(),
            Err(_) => return,
        }
    }
}

/// Takes pictures, copied or looked at where they lie, and says that it has.
fn pictures(ipc_renderer: &IpcRenderer, copies: bool) {
    let mut lane: LaneDuplex<u64, [u8]> = open(ipc_renderer, "lane", &config(1));
    lane.prepare();
    let mut copy = vec![0; PICTURE];
    loop {
        let record = match lane.receiver().peek() {
            Ok(Some(record)) => record,
            Ok(None) => {
                spin_loop();
                continue;
            }
            Err(_) => return,
        };
        if copies {
            record.copy_to(&mut copy).expect("room");
            black_box(&copy);
        } else {
            // SAFETY: the bench does not write there before it is told.
            black_box(seen(unsafe { record.bytes() }));
        }
        record.release();
        lane.sender().try_send(&1).expect("room");
    }
}

/// Looks at a byte at either end.
fn seen(bytes: &[u8]) -> Option<u8> {
    Some(bytes.first()? ^ bytes.last()?)
}

fn answer(ipc_renderer: &IpcRenderer, name: &str) {
    let mut lane: LaneDuplex<[u8; 64], [u8; 64]> = open(ipc_renderer, name, &parked());
    lane.prepare();
    let mut record = [0; 64];
    loop {
        match lane.recv_request_until(&mut record, Instant::now() + PATIENCE) {
            Ok(_) => lane.send_response(black_box(&record)).expect("room"),
            Err(LaneError::TimedOut) => {}
            Err(_) => return,
        }
    }
}

/// The other process of the two floors: passes each number on, until the process ends.
fn play_floor(with: &str) {
    support::outlive_no_bench();
    let (how, memory) = with.split_once(' ').expect("how, and the memory of the bench");
    let memory = File::options().read(true).write(true).open(memory).expect("the memory of the bench");
    let [to, from] = internals::shared_words(memory).expect("words");
    let (told, threads) = std::sync::mpsc::channel();
    let sleeps = how == "futex";
    work(&told, move || {
        let mut seen = 0;
        loop {
            let value = to.load(Ordering::Acquire);
            if value == seen {
                wait(&to, seen, sleeps);
                continue;
            }
            seen = value;
            put(&from, seen, sleeps);
        }
    });
    support::serve(&threads.recv().expect("its number").to_string());
}

fn wait(word: &AtomicU32, old: u32, sleeps: bool) {
    if sleeps {
        let _ = futex::wait(word, Flags::empty(), old, None); // whatever wakes us, we look
    } else {
        spin_loop();
    }
}

fn put(word: &AtomicU32, value: u32, wakes: bool) {
    word.store(value, Ordering::Release);
    if wakes {
        futex::wake(word, Flags::empty(), 1).expect("a wake-up");
    }
}

// ---- this process -------------------------------------------------------------------------------------------------

/// A main, and the other process as its renderer, which is dropped first.
struct Link {
    peer: Peer,
    web_contents: WebContents,
    _ipc_main: IpcMain,
}

impl Link {
    fn start(what: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let ipc_main = IpcMain::new().expect("a main");
        let name = format!("bench-lanes-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        ipc_main.listen(&name).expect("a name of its own");
        let peer = Peer::start("renderer", &format!("{name} {what}"));
        let web_contents = ipc_main.all_web_contents().remove(0);
        Self { peer, web_contents, _ipc_main: ipc_main }
    }

    fn lane<E: LaneEnd>(&self, name: &str, config: &LaneConfig) -> E {
        self.web_contents.lane(name, config).expect("a lane")
    }

    fn sleepers(&self) -> Sleepers {
        Sleepers::with(self.peer.id(), self.peer.said().parse().expect("the number of a thread"))
    }
}

/// Both ends in this process.
struct Alone {
    web_contents: WebContents,
    ipc_renderer: IpcRenderer,
    _ipc_main: IpcMain,
}

impl Alone {
    fn new() -> Self {
        let ipc_main = IpcMain::new().expect("a main");
        let ipc_renderer = ipc_main.attach().expect("a renderer");
        let web_contents = ipc_main.all_web_contents().remove(0);
        Self { web_contents, ipc_renderer, _ipc_main: ipc_main }
    }

    fn lane<M: LaneEnd, R: LaneEnd>(&self, config: &LaneConfig) -> (M, R) {
        let ours = self.web_contents.lane("lane", config).expect("main's end");
        (ours, open(&self.ipc_renderer, "lane", config))
    }
}

fn floor(criterion: &mut Criterion, name: &str, sleeps: bool) {
    let memory = internals::shared_memory().expect("memory");
    let [to, from] = internals::shared_words(&memory).expect("words");
    let how = if sleeps { "futex" } else { "line" };
    let peer = Peer::start("floor", &format!("{how} /proc/{}/fd/{}", std::process::id(), memory.as_raw_fd()));
    let mut round = 0;
    let mut pass = || {
        round += 1;
        put(&to, round, sleeps);
        while from.load(Ordering::Acquire) != round {
            wait(&from, round - 1, sleeps);
        }
    };
    if sleeps {
        let mut sleepers = Sleepers::with(peer.id(), peer.said().parse().expect("the number of a thread"));
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let _together = peer.together();
                support::warm_up(&mut pass);
                sleepers.rounds(count, true, &mut pass)
            });
        });
    } else {
        criterion.bench_function(name, |bencher| peer.iter(bencher, &mut pass));
    }
}

fn echoes(criterion: &mut Criterion) {
    floor(criterion, "lanes/echo/floor: cache-line ping-pong", false);
    echo_of::<48>(criterion, WakePolicy::Never);
    echo_of::<64>(criterion, WakePolicy::Never);
    echo_of::<64>(criterion, WakePolicy::IfParked);
    echo_of::<4096>(criterion, WakePolicy::Never);
}

fn echo_of<const BYTES: usize>(criterion: &mut Criterion, wake: WakePolicy) {
    let link = Link::start(&format!("echo {BYTES}"));
    let mut lane: LaneDuplex<[u8; BYTES], [u8; BYTES]> = link.lane("lane", &config(RING / BYTES).wake(wake));
    lane.prepare();
    let (record, mut answer) = ([7; BYTES], [0; BYTES]);
    criterion.bench_function(&format!("lanes/echo/{BYTES} B, {wake:?}"), |bencher| {
        link.peer.iter(bencher, || {
            lane.sender().try_send(black_box(&record)).expect("room");
            while lane.receiver().try_recv(&mut answer).expect("open").is_none() {
                spin_loop();
            }
            black_box(&answer);
        });
    });
}

fn one_way(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lanes/one way");
    group.throughput(Throughput::Elements(1));
    one_way_of::<48>(&mut group);
    one_way_of::<64>(&mut group);
    one_way_of::<4096>(&mut group);
    rtrb_of::<64>(&mut group);
    rtrb_of::<4096>(&mut group);
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn one_way_of<const BYTES: usize>(group: &mut Group<'_>) {
    let link = Link::start(&format!("take {BYTES}"));
    let mut sender: LaneSender<[u8; BYTES]> = link.lane("lane", &config(RING / BYTES));
    sender.prepare();
    let record = [7; BYTES];
    let mut send = || {
        while sender.is_full() {
            spin_loop();
        }
        sender.try_send(black_box(&record)).expect("room");
    };
    group.bench_function(BenchmarkId::new("one at a time", BYTES), |bencher| link.peer.iter(bencher, &mut send));
    let mut send = |count: u64| {
        let mut left = count as usize;
        while left > 0 {
            let now = left.min(BATCH);
            while sender.room() < now {
                spin_loop();
            }
            let mut batch = sender.batch();
            for _ in 0..now {
                batch.push(black_box(&record)).expect("room");
            }
            batch.commit();
            left -= now;
        }
    };
    group.bench_function(BenchmarkId::new(format!("{BATCH} together"), BYTES), |bencher| {
        bencher.iter_custom(|count| {
            let _together = link.peer.together();
            support::warm_up(|| send(1));
            let start = Instant::now();
            send(count);
            start.elapsed()
        });
    });
}

/// Stops its thread when it is dropped.
struct Taker {
    state: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.state.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn rtrb_of<const BYTES: usize>(group: &mut Group<'_>) {
    let record = [7; BYTES];
    let both = || {
        let (to, mut from) = rtrb::RingBuffer::<[u8; BYTES]>::new(RING / BYTES);
        let state = Arc::new(AtomicBool::new(false));
        let is_over = state.clone();
        let thread = std::thread::spawn(move || {
            let _pinned = Pinned::to(Core::Theirs);
            while !is_over.load(Ordering::Relaxed) {
                match from.pop() {
                    Ok(value) => _ = black_box(&value),
                    Err(_) => spin_loop(),
                }
            }
        });
        (to, Taker { state, thread: Some(thread) })
    };
    group.bench_function(BenchmarkId::new("rtrb", BYTES), |bencher| {
        let (mut to, _taker) = both();
        let _pinned = Pinned::to(Core::Ours);
        let mut push = || {
            while to.push(*black_box(&record)).is_err() {
                spin_loop();
            }
        };
        support::warm_up(&mut push);
        bencher.iter(&mut push);
    });
}

/// What the sender alone pays, in one thread: as many records as have room, then they are taken, which does not count.
fn calls(criterion: &mut Criterion) {
    const ROOM: usize = RING / 64;
    let record = [7; 64];
    let alone = Alone::new();
    let mut group = criterion.benchmark_group("lanes/call");
    {
        let (mut to, mut from) = rtrb::RingBuffer::<[u8; 64]>::new(ROOM);
        group.bench_function("rtrb push, 64 B", |bencher| {
            bencher.iter_custom(|count| {
                let push = || to.push(*black_box(&record)).is_ok();
                filled(count, ROOM, push, || {
                    while let Ok(value) = from.pop() {
                        black_box(value);
                    }
                })
            });
        });
    }
    for wake in [WakePolicy::Never, WakePolicy::IfParked] {
        let (mut to, mut from): (LaneSender<[u8; 64]>, LaneReceiver<[u8; 64]>) = alone.lane(&config(ROOM).wake(wake));
        to.prepare();
        from.prepare();
        let mut got = [0; 64];
        group.bench_function(format!("try_send, 64 B, {wake:?}"), |bencher| {
            bencher.iter_custom(|count| {
                let send = || to.try_send(black_box(&record)).is_ok();
                filled(count, ROOM, send, || {
                    while from.try_recv(&mut got).expect("open").is_some() {
                        black_box(&got);
                    }
                })
            });
        });
    }
    let (mut to, mut from): (LatestWriter<[u8; 64]>, LatestReader<[u8; 64]>) = alone.lane(&config(1));
    to.prepare();
    from.prepare();
    let mut got = [0; 64];
    group.bench_function("latest value: write, 64 B", |bencher| bencher.iter(|| to.write(black_box(&record))));
    group.bench_function("latest value: write and read, 64 B", |bencher| {
        bencher.iter(|| {
            to.write(black_box(&record)).expect("open");
            from.read(&mut got).expect("open").expect("a new one")
        });
    });
    group.bench_function("latest value: read, nothing new", |bencher| bencher.iter(|| from.read(&mut got)));
    group.finish();
}

/// Time of `count` puts, of which as many as have room are made in a row.
fn filled(count: u64, room: usize, mut put: impl FnMut() -> bool, mut take: impl FnMut()) -> Duration {
    let _pinned = Pinned::to(Core::Ours);
    let (mut left, mut took) = (count as usize, Duration::ZERO);
    while left > 0 {
        let now = left.min(room);
        let start = Instant::now();
        for _ in 0..now {
            assert!(put());
        }
        took += start.elapsed();
        take();
        left -= now;
    }
    took
}

/// What bounds a record that is copied in on one core and out on another: the same by `memcpy`, between two threads, through
/// two places as the lane has.
fn memcpy_there(group: &mut Group<'_>, picture: &[u8]) {
    struct Places([UnsafeCell<Vec<u8>>; 2]);
    // SAFETY: the two counters say who has which.
    unsafe impl Sync for Places {}
    let places = Arc::new(Places([vec![0; PICTURE].into(), vec![0; PICTURE].into()]));
    let (copied_in, copied_out) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let state = Arc::new(AtomicBool::new(false));
    let thread = {
        let (places, copied_in, copied_out, state) =
            (places.clone(), copied_in.clone(), copied_out.clone(), state.clone());
        std::thread::spawn(move || {
            let _pinned = Pinned::to(Core::Theirs);
            let mut copy = vec![0; PICTURE];
            for turn in 0.. {
                while copied_in.load(Ordering::Acquire) == turn {
                    if state.load(Ordering::Relaxed) {
                        return;
                    }
                    spin_loop();
                }
                // SAFETY: the writer waits until it was copied out.
                copy.copy_from_slice(unsafe { &*places.0[turn % 2].get() });
                black_box(&copy);
                copied_out.store(turn + 1, Ordering::Release);
            }
        })
    };
    let _taker = Taker { state, thread: Some(thread) };
    let _pinned = Pinned::to(Core::Ours);
    let mut turn = 0;
    group.bench_function("8 MiB, floor: memcpy in and out, two threads", |bencher| {
        bencher.iter(|| {
            // SAFETY: nobody reads before it is said to be there.
            unsafe { &mut *places.0[turn % 2].get() }.copy_from_slice(black_box(picture));
            turn += 1;
            copied_in.store(turn, Ordering::Release);
            while copied_out.load(Ordering::Acquire) != turn {
                spin_loop();
            }
        });
    });
}

/// Large records, until the other process says that it has them.
fn large(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lanes/large");
    let picture = vec![7; PICTURE];
    let mut copy = vec![0; PICTURE];
    group.bench_function("8 MiB, floor: memcpy", |bencher| {
        let _pinned = Pinned::to(Core::Ours);
        // Into two places in turn, as a lane has.
        let mut other = vec![0; PICTURE];
        bencher.iter(|| {
            std::mem::swap(&mut copy, &mut other);
            copy.copy_from_slice(black_box(&picture));
            black_box(&mut copy);
        });
    });
    {
        let alone = Alone::new();
        let large = config(2).max_record(PICTURE);
        let (mut to, mut from): (LaneSender<[u8]>, LaneReceiver<[u8]>) = alone.lane(&large);
        to.prepare();
        from.prepare();
        // Each half beside the same memory that it copies from or to.
        group.bench_function("8 MiB, copied in", |bencher| {
            bencher.iter_custom(|count| {
                let send = || to.try_send(black_box(&picture)).is_ok();
                filled(count, 1, send, || _ = from.peek().expect("open").expect("there").release())
            });
        });
        group.bench_function("8 MiB, copied out", |bencher| {
            bencher.iter_custom(|count| {
                let mut took = Duration::ZERO;
                let _pinned = Pinned::to(Core::Ours);
                for _ in 0..count {
                    to.loan().expect("room").commit(PICTURE).expect("room");
                    let start = Instant::now();
                    from.try_recv(&mut copy).expect("open").expect("there");
                    took += start.elapsed();
                    black_box(&copy);
                }
                took
            });
        });
    }
    memcpy_there(&mut group, &picture);
    let link = Link::start("copy");
    let mut lane: LaneDuplex<[u8], u64> = link.lane("lane", &config(2).max_record(PICTURE));
    lane.prepare();
    group.bench_function("8 MiB, copied in and out", |bencher| {
        link.peer.iter(bencher, || {
            lane.sender().try_send(black_box(&picture)).expect("room");
            await_word(&mut lane);
        });
    });
    let link = Link::start("look");
    let mut lane: LaneDuplex<[u8], u64> = link.lane("lane", &config(2).max_record(PICTURE));
    lane.prepare();
    for bytes in [64, 64 << 10, PICTURE] {
        group.bench_function(BenchmarkId::new("loaned, not filled, looked at where it lies", bytes), |bencher| {
            link.peer.iter(bencher, || {
                lane.sender().loan().expect("room").commit(bytes).expect("room");
                await_word(&mut lane);
            });
        });
    }
    group.finish();
}

fn await_word(lane: &mut LaneDuplex<[u8], u64>) {
    let mut word = 0;
    while lane.receiver().try_recv(&mut word).expect("open").is_none() {
        spin_loop();
    }
}

fn exchanges(criterion: &mut Criterion) {
    floor(criterion, "lanes/exchange/floor: futex ping-pong", true);
    let link = Link::start("answer");
    let mut lane: LaneDuplex<[u8; 64], [u8; 64]> = link.lane("lane", &parked());
    lane.prepare();
    let (request, mut response) = ([7; 64], [0; 64]);
    let mut sleepers = link.sleepers();
    let mut exchange = || {
        let deadline = Instant::now() + PATIENCE;
        lane.exchange(black_box(&request), &mut response, deadline).expect("an answer");
        black_box(&response);
    };
    criterion.bench_function("lanes/exchange/64 B, both asleep", |bencher| {
        bencher.iter_custom(|count| {
            let _together = link.peer.together();
            support::warm_up(&mut exchange);
            sleepers.rounds(count, true, &mut exchange)
        });
    });
}

/// The peers are threads of one process, on one core.
fn group(criterion: &mut Criterion) {
    let link = Link::start("answer all");
    let mut peers: LaneGroup<[u8; 64], [u8; 64]> = LaneGroup::new();
    for peer in 0..GROUP {
        peers.push(link.lane(&format!("lane {peer}"), &parked()));
    }
    let (request, mut response) = ([7; 64], [0; 64]);
    criterion.bench_function(&format!("lanes/exchange/{GROUP} peers, one after the other"), |bencher| {
        link.peer.iter(bencher, || {
            let deadline = Instant::now() + PATIENCE;
            for peer in 0..GROUP {
                let lane = peers.lane(peer).expect("there");
                lane.exchange(black_box(&request), &mut response, deadline).expect("an answer");
            }
        });
    });
    criterion.bench_function(&format!("lanes/exchange/{GROUP} peers, as a group"), |bencher| {
        link.peer.iter(bencher, || {
            let deadline = Instant::now() + PATIENCE;
            for peer in 0..GROUP {
                peers.start(peer, black_box(&request)).expect("room");
            }
            assert_eq!(peers.wait_all(deadline), GROUP);
        });
    });
}

fn benches(criterion: &mut Criterion) {
    echoes(criterion);
    one_way(criterion);
    calls(criterion);
    large(criterion);
    exchanges(criterion);
    group(criterion);
}

fn main() {
    support::main(&[("renderer", play_renderer), ("floor", play_floor)], benches);
}
