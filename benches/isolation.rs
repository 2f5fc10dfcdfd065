//! What one renderer that misbehaves costs the others: calls and one-way messages of an honest renderer beside it, and beside
//! nothing in the same run, in turn. Figures are printed with ratios; there is nothing for Criterion to sample.
//!
//! Main is a process of its own, the honest renderer is this one, and beside it there is one of
//!
//! * **busy**: a process that takes a core and says nothing. No renderer at all: what it costs is the machine's doing, and
//!   on two cores that is most of what the next ones cost too;
//! * **flood**: sends small messages to main as fast as it can, and waits for room when its queue is full;
//! * **stopped**: was stopped by SIGSTOP; main has sent to it until its queue was full, and before each sample tries again;
//! * **garbage**: connects to main's socket, reads the greeting, answers it with rubbish, is cut, and so on;
//! * **storm**: rings main's doorbell without end and without having written anything, but for one message in a thousand
//!   rings, without which it would be cut.
//!
//! Who stands beside runs on the third core if there is one, else on the honest renderer's, with the lowest priority, so that
//! the honest one has its core back as soon as it is woken. Main has its core for itself: what it is slower by is its work.
//!
//! For the storm there are ten seconds more of each, in which the honest renderer makes a thousand calls a second: what its
//! calls take then, and how much of a core main uses.
//!
//! And lanes: a thread of main's exchanges a block of 64 samples with a plug-in each millisecond; what that takes when nothing
//! else happens, while a handler of the same link is blocked, while messages of 64 MiB follow each other over the same link,
//! and while they do so over another main's link between the same processes, which is the machine's part of it.
//!
//! `cargo bench --bench isolation` takes about a minute, `-- --quick` and `-- --test` some seconds.
#![allow(missing_docs)]

mod support;

use ringmain::{ErrorKind, IpcMain, IpcRenderer, LaneConfig, LaneDuplex, LaneError, WebContents};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType};
use std::hint::black_box;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Core, Peer};

/// What stands beside the honest renderer, in the order in which it is measured.
const BESIDE: [&str; 5] = ["busy", "flood", "stopped", "garbage", "storm"];

/// Messages of one way between two looks at the clock.
const BATCH: u32 = 500;

fn name(of: u32) -> String {
    format!("bench-isolation-{of}")
}

fn play_main(_with: &str) {
    support::outlive_no_bench();
    let ipc_main = IpcMain::new().expect("a main");
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).expect("a handler");
    ipc_main.on("noise", |_event, (_a, _b): (i64, i64)| {});
    ipc_main.on_error(|_report| {}); // refused connections, of which there are many
    let gone = Arc::new(AtomicU64::new(0));
    let counts = gone.clone();
    ipc_main.on_renderer_gone(move |_renderer, _reason| _ = counts.fetch_add(1, Ordering::Relaxed));
    ipc_main.handle("gone", move |_event, ()| Ok(gone.load(Ordering::Relaxed))).expect("a handler");
    let all = ipc_main.clone();
    ipc_main
        .handle("heard", move |event, ()| {
            let others = all.all_web_contents().into_iter().filter(|other| *other != event.sender());
            Ok(others.map(|other| other.stats().messages_received).sum::<u64>())
        })
        .expect("a handler");
    let all = ipc_main.clone();
    ipc_main.handle("fill", move |event, ()| Ok(fill(&all, event.sender().id()))).expect("a handler");
    ipc_main.listen(&name(std::process::id())).expect("a name of its own");
    support::serve("main");
}

/// Sends to the others until their queues are full; how many messages that took.
fn fill(ipc_main: &IpcMain, but: u32) -> u64 {
    let fill = |renderer: &WebContents| {
        let text = "x".repeat(1000);
        (0..).find(|_| renderer.send("noise", (&text,)).is_err()).unwrap_or(0)
    };
    ipc_main.all_web_contents().iter().filter(|renderer| renderer.id() != but).map(fill).sum()
}

// ---- who stands beside --------------------------------------------------------------------------------------------

fn play_beside(with: &str) {
    support::outlive_no_bench();
    let (what, main) = with.split_once(' ').expect("what to do, and main's number");
    let main = name(main.parse().expect("a number"));
    let connect = || IpcRenderer::connect_to(&main).expect("connected");
    let act: Box<dyn FnOnce() + Send> = match what {
        "busy" => Box::new(busy),
        "flood" => {
            let ipc_renderer = connect();
            Box::new(move || flood(&ipc_renderer))
        }
        "stopped" => {
            let ipc_renderer = connect();
            Box::new(move || {
                std::thread::park();
                drop(ipc_renderer);
            })
        }
        "garbage" => {
            let path = socket_path(&main);
            Box::new(move || garbage(&path))
        }
        "storm" => {
            let connect = || {
                let before = eventfds();
                let ipc_renderer = connect();
                // The link's own is the last that was made.
                let doorbell = eventfds().into_iter().filter(|fd| !before.contains(fd)).max().expect("a doorbell");
                (ipc_renderer, doorbell)
            };
            // That it reaches main is shown by what main does about it: without a message it cuts the link.
            let (ipc_renderer, doorbell) = connect();
            let until = Instant::now() + support::PATIENCE;
            while ipc_renderer.is_connected() {
                ring(doorbell);
                assert!(Instant::now() < until, "the rings do not reach main");
            }
            drop(ipc_renderer);
            let (ipc_renderer, doorbell) = connect();
            Box::new(move || storm(&ipc_renderer, doorbell))
        }
        _ => panic!("nobody is {what:?}"),
    };
    if support::cores() < 3 {
        let _ = rustix::process::nice(19);
    }
    std::thread::spawn(act);
    support::serve_on(Core::Aside, what);
    std::process::exit(0);
}

fn busy() {
    let mut number = 0_u64;
    loop {
        number = black_box(number.wrapping_mul(3) + 1);
    }
}

fn flood(ipc_renderer: &IpcRenderer) {
    loop {
        match ipc_renderer.send("noise", (1, 2)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Full => _ = ipc_renderer.flush(Duration::from_millis(1)),
            Err(_) => return,
        }
    }
}

/// Where `connect_to` finds the socket: as the library's documentation says of `runtime_dir`.
fn socket_path(name: &str) -> String {
    let uid = rustix::process::getuid().as_raw();
    let runtime = std::env::var("XDG_RUNTIME_DIR").map(|path| format!("{path}/ringmain"));
    let mut candidates = Vec::from_iter(runtime);
    candidates.extend([format!("/run/user/{uid}/ringmain"), format!("/tmp/ringmain-{uid}")]);
    let files = candidates.iter().flat_map(|path| std::fs::read_dir(path).into_iter().flatten().flatten());
    let mut paths = files.map(|file| file.path().to_string_lossy().into_owned());
    paths.find(|path| path.contains(name) && !path.ends_with(".lock")).expect("main's socket")
}

fn garbage(path: &str) {
    let address = SocketAddrUnix::new(path).expect("a path");
    let rubbish = [0xa5; 64];
    loop {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket");
        if rustix::net::connect(&socket, &address).is_err() {
            return;
        }
        // Without room for descriptors: the kernel drops them.
        let mut buffer = [0; 4096];
        let _ = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty());
        let _ = rustix::net::send(&socket, &rubbish, SendFlags::NOSIGNAL);
        while rustix::net::recv(&socket, &mut buffer, RecvFlags::empty()).is_ok_and(|(len, _)| len > 0) {}
    }
}

/// The numbers of this process's eventfds.
fn eventfds() -> Vec<i32> {
    let numbers = std::fs::read_dir("/proc/self/fd").expect("the descriptors").flatten();
    let is_one = |number: &i32| {
        std::fs::read_link(format!("/proc/self/fd/{number}"))
            .is_ok_and(|path| path.to_string_lossy().contains("eventfd"))
    };
    numbers.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).filter(is_one).collect()
}

fn ring(doorbell: i32) {
    // SAFETY: the handle that holds it open lives longer than this.
    #[allow(unsafe_code)]
    let doorbell = unsafe { BorrowedFd::borrow_raw(doorbell) };
    let _ = rustix::io::write(doorbell, &1_u64.to_ne_bytes());
}

fn storm(ipc_renderer: &IpcRenderer, doorbell: i32) {
    for number in 0_u64.. {
        ring(doorbell);
        if number.is_multiple_of(1000) && ipc_renderer.send("noise", (1, 2)).is_err() {
            return;
        }
    }
}

// ---- measuring ----------------------------------------------------------------------------------------------------

fn call(ipc_renderer: &IpcRenderer) -> i64 {
    ipc_renderer.invoke("add", (2, 3)).wait().expect("a sum")
}

/// What was measured, alone or beside somebody.
#[derive(Default)]
struct Sample {
    /// Nanoseconds of each call.
    calls: Vec<f64>,
    /// Of each sample: calls a second, messages a second.
    rates: [Vec<f64>; 2],
}

impl Sample {
    fn take(&mut self, ipc_renderer: &IpcRenderer, time: Duration) {
        support::warm_up(|| call(ipc_renderer));
        let (start, before) = (Instant::now(), self.calls.len());
        while start.elapsed() < time {
            let called = Instant::now();
            black_box(call(ipc_renderer));
            self.calls.push(called.elapsed().as_nanos() as f64);
        }
        self.rates[0].push((self.calls.len() - before) as f64 / start.elapsed().as_secs_f64());
        let (start, mut sent) = (Instant::now(), 0);
        while start.elapsed() < time {
            for _ in 0..BATCH {
                while let Err(error) = ipc_renderer.send("noise", (1, 2)) {
                    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                    ipc_renderer.flush(support::PATIENCE).expect("main reads");
                }
            }
            sent += BATCH;
        }
        call(ipc_renderer); // all of them were read
        self.rates[1].push(f64::from(sent) / start.elapsed().as_secs_f64());
    }
}

/// An honest renderer that makes a call each millisecond for `time`: nanoseconds of each, and main's share of a core.
fn paced(main: &Peer, ipc_renderer: &IpcRenderer, time: Duration) -> (Vec<f64>, f64) {
    let (start, before, mut calls) = (Instant::now(), cpu_time(main.id()), Vec::new());
    for number in 1_u32.. {
        let due = start + number * Duration::from_millis(1);
        if due > start + time {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let called = Instant::now();
        black_box(call(ipc_renderer));
        calls.push(called.elapsed().as_nanos() as f64);
    }
    let used = cpu_time(main.id()) - before;
    (calls, used.as_secs_f64() / start.elapsed().as_secs_f64())
}

/// What all threads of a process have used.
fn cpu_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it lives");
    let (_, fields) = stat.rsplit_once(')').expect("its name");
    let ticks = fields.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32
}

fn at(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}

/// Measures alone and beside `what`, in turn, so that both see the same weather.
fn beside(what: &str, main: &Peer, ipc_renderer: &IpcRenderer, rounds: u32, time: Duration) {
    let ask = |channel: &str| ipc_renderer.invoke::<u64>(channel, ()).wait().expect("a count");
    let (other, gone) = {
        let _awake = main.awake();
        let other = Peer::start("beside", &format!("{what} {}", main.id()));
        (other, ask("gone"))
    };
    let (mut alone, mut with) = (Sample::default(), Sample::default());
    let (mut filled, mut heard, mut lasted) = (0, 0, Duration::ZERO);
    for round in 0..rounds {
        // Each is first in every other round.
        for is_alone in [round % 2 == 0, round % 2 == 1] {
            let _together = main.together();
            if is_alone {
                alone.take(ipc_renderer, time);
            } else if what == "stopped" {
                filled += ask("fill");
                with.take(ipc_renderer, time);
            } else {
                let (before, start) = (ask("heard"), Instant::now());
                let _others = other.awake();
                with.take(ipc_renderer, time);
                heard += ask("heard") - before;
                lasted += start.elapsed();
            }
        }
    }
    let pace = (what == "storm").then(|| {
        let _together = main.together();
        // The time of all rounds.
        let alone = paced(main, ipc_renderer, rounds * time * 4);
        let _others = other.awake();
        [alone, paced(main, ipc_renderer, rounds * time * 4)]
    });
    let _awake = main.awake();
    let cut = ask("gone") - gone;
    drop(other);
    let rate = heard as f64 / lasted.as_secs_f64().max(f64::MIN_POSITIVE);
    let uncut = || assert_eq!(cut, 0, "{what} was cut, and cost nothing from then on");
    let note = match what {
        "stopped" => format!("; main had {filled} messages of 1 kB waiting for it"),
        "garbage" => format!("; {cut} links cut"),
        "flood" => {
            uncut();
            format!("; main heard {:.1} k messages a second of it", rate / 1e3)
        }
        "storm" => {
            uncut();
            format!("; it rang {:.1} k times a second", rate)
        }
        _ => String::new(),
    };
    println!("beside {what}{note}");
    let line = |name: &str, unit: &str, alone: f64, with: f64, spread: String| {
        println!(
            "    {name:20} alone {alone:>10.1} {unit}, beside {with:>10.1} {unit}, ratio {:>7.2}{spread}",
            with / alone
        );
    };
    for (name, part) in [("call, p50", 0.5), ("call, p99", 0.99), ("call, p99.9", 0.999)] {
        line(name, "µs", at(&alone.calls, part) / 1e3, at(&with.calls, part) / 1e3, String::new());
    }
    for (index, name) in ["calls a second", "messages a second"].into_iter().enumerate() {
        let ratios: Vec<f64> =
            with.rates[index].iter().zip(&alone.rates[index]).map(|(with, alone)| with / alone).collect();
        let spread = format!(
            " (by rounds: median {:.2}, p10 {:.2}, p90 {:.2})",
            at(&ratios, 0.5),
            at(&ratios, 0.1),
            at(&ratios, 0.9)
        );
        line(name, "k", at(&alone.rates[index], 0.5) / 1e3, at(&with.rates[index], 0.5) / 1e3, spread);
    }
    if let Some([(calls, used), (calls_beside, used_beside)]) = pace {
        for (name, part) in [("paced call, p50", 0.5), ("paced call, p99", 0.99), ("paced call, p99.9", 0.999)] {
            line(name, "µs", at(&calls, part) / 1e3, at(&calls_beside, part) / 1e3, String::new());
        }
        line("main's CPU", "%", used * 100.0, used_beside * 100.0, format!(" (in {:?})", rounds * time * 4));
    }
}

// ---- lanes --------------------------------------------------------------------------------------------------------

type Block = [f32; 64];

/// Of a message that passes meanwhile.
const LARGE: usize = 64 << 20;

/// Two renderers of two mains: both do what they are told, one of them answers in a lane.
fn play_plugin(with: &str) {
    support::outlive_no_bench();
    let connect = |which: &str| {
        let builder = IpcRenderer::builder().max_message_size(2 * LARGE).queue_limit(3 * LARGE);
        let ipc_renderer = builder.connect_to(&format!("{which}-{with}")).expect("connected");
        let flows = Arc::new(AtomicU64::new(0));
        let (set, sends) = (flows.clone(), ipc_renderer.clone());
        ipc_renderer.on("flow", move |_event, (number,): (u64,)| {
            set.store(number, Ordering::Release);
            let (flows, sends) = (set.clone(), sends.clone());
            // Until it is told another number.
            std::thread::spawn(move || {
                let text = "x".repeat(LARGE);
                while number != 0 && flows.load(Ordering::Acquire) == number {
                    sends.invoke::<usize>("length", (&text,)).wait().expect("its length");
                }
                if number != 0 {
                    sends.send("ended", ()).expect("sent");
                }
            });
        });
        let blocks = ipc_renderer.clone();
        ipc_renderer.on("block", move |_event, ()| blocks.invoke::<()>("block", ()).detach());
        ipc_renderer
    };
    let (lane, _other) = (connect("lane"), connect("other"));
    let mut plugin: LaneDuplex<Block, Block> = lane.lane("plug-in", &LaneConfig::new()).expect("its end");
    std::thread::spawn(move || {
        let mut block = [0.0; 64];
        loop {
            match plugin.recv_request_until(&mut block, Instant::now() + support::PATIENCE) {
                Ok(_) => plugin.send_response(&block.map(|sample| sample * 0.5)).expect("room"),
                Err(LaneError::TimedOut) => {}
                Err(_) => return,
            }
        }
    });
    support::serve("plug-in");
}

/// A main of this process for a plug-in, whose handler blocks as long as the mutex is held.
fn host(which: &str, held: &Arc<Mutex<()>>, ended: &Arc<AtomicU64>) -> IpcMain {
    let ipc_main = IpcMain::builder().max_message_size(2 * LARGE).queue_limit(3 * LARGE).build().expect("a main");
    ipc_main.handle("length", |_event, (text,): (String,)| Ok(text.len())).expect("a handler");
    let (held, ended) = (held.clone(), ended.clone());
    ipc_main.on("ended", move |_event, ()| _ = ended.fetch_add(1, Ordering::Release));
    let registered = ipc_main.handle("block", move |_event, ()| {
        let _held = held.lock();
        Ok(())
    });
    registered.expect("a handler");
    ipc_main.listen(&format!("{which}-{}", std::process::id())).expect("a name of its own");
    ipc_main
}

/// Exchanges a block each millisecond for `time`: nanoseconds of each.
fn exchanges(lane: &mut LaneDuplex<Block, Block>, time: Duration) -> Vec<f64> {
    let (start, mut taken, mut answer) = (Instant::now(), Vec::new(), [0.0; 64]);
    for number in 1_u32.. {
        let due = start + number * Duration::from_millis(1);
        if due > start + time {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let asked = Instant::now();
        lane.exchange(&[1.0; 64], &mut answer, asked + support::PATIENCE).expect("an answer");
        taken.push(asked.elapsed().as_nanos() as f64);
    }
    taken
}

/// Exchanges blocks until it holds.
fn exchanges_until(lane: &mut LaneDuplex<Block, Block>, else_what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + support::PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{else_what}");
        exchanges(lane, Duration::from_millis(2));
    }
}

fn lanes(rounds: u32, time: Duration) {
    let held = Arc::new(Mutex::new(()));
    let ended = Arc::new(AtomicU64::new(0));
    let mains = [host("lane", &held, &ended), host("other", &held, &ended)];
    let plugin = {
        let mains = mains.clone();
        let (opened, lane) = std::sync::mpsc::channel();
        mains[0].on_renderer_connected(move |renderer| {
            let _ = opened.send(renderer.lane::<LaneDuplex<Block, Block>>("plug-in", &LaneConfig::new()));
        });
        let plugin = Peer::start("plugin", &std::process::id().to_string());
        (plugin, lane.recv_timeout(support::PATIENCE).expect("a plug-in").expect("main's end"))
    };
    let (plugin, mut lane) = plugin;
    let _awake = plugin.awake();
    let renderers = [0, 1].map(|at: usize| mains[at].all_web_contents().remove(0));
    let conditions = ["quiet", "its handler is blocked", "64 MiB over its link", "64 MiB over another link"];
    let mut taken = conditions.map(|_| Vec::new());
    let mut flows = 0;
    for _ in 0..rounds {
        for (at, taken) in taken.iter_mut().enumerate() {
            exchanges(&mut lane, time / 10); // both are warm
            match at {
                0 => taken.extend(exchanges(&mut lane, time)),
                1 => {
                    let holds = held.lock();
                    renderers[0].send("block", ()).expect("sent");
                    taken.extend(exchanges(&mut lane, time));
                    drop(holds);
                }
                _ => {
                    flows += 1;
                    let renderer = &renderers[at - 2];
                    let before = renderer.stats().bytes_received;
                    renderer.send("flow", (flows,)).expect("sent");
                    exchanges_until(&mut lane, "nothing flows", || {
                        renderer.stats().bytes_received >= before + LARGE as u64
                    });
                    taken.extend(exchanges(&mut lane, time));
                    renderer.send("flow", (0,)).expect("sent");
                    exchanges_until(&mut lane, "it flows on", || ended.load(Ordering::Acquire) == flows);
                }
            }
        }
    }
    println!("a lane's exchange of 64 samples, each millisecond, beside messages of its link");
    for (what, taken) in conditions.iter().zip(&taken) {
        println!(
            "    {what:26} p50 {:>8.1} µs, p99 {:>8.1} µs, most {:>8.1} µs, of {}",
            at(taken, 0.5) / 1e3,
            at(taken, 0.99) / 1e3,
            at(taken, 1.0) / 1e3,
            taken.len()
        );
    }
}

fn main() {
    if support::plays(&[("main", play_main), ("beside", play_beside), ("plugin", play_plugin)]) {
        return;
    }
    let is_short = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    let (rounds, time) = if is_short { (3, 20) } else { (25, 100) };
    let main = Peer::start("main", "");
    let ipc_renderer = {
        let _awake = main.awake();
        IpcRenderer::connect_to(&name(main.id())).expect("a renderer")
    };
    println!("one honest renderer; main, it and who stands beside on {} cores", support::cores());
    for what in BESIDE {
        beside(what, &main, &ipc_renderer, rounds, Duration::from_millis(time));
    }
    let _awake = main.awake();
    drop(ipc_renderer);
    lanes(rounds.min(5), Duration::from_millis(time * 5));
}
