//! The acts: starts renderers, lets them run, kills, stops and closes them, and looks what is left.

use super::census::{self, Census, MEMORY_TOLERANCE_KIB};
use super::counts::{Journal, Kind};
use super::driver::Driver;
use super::lanes::Laner;
use super::options::Options;
use super::own_loop::{OwnLoop, STYLES};
use super::random::Random;
use super::renderer::{FAULTY, Order, Totals, WAITS};
use super::report::{self, Board};
use super::sabotage::{self, Sabotage};
use super::world::{Birth, Faults, Lanes, Peer, World};
use super::{CHAOS, DRIVERS, LANERS, RENDERER, foreign, signals};
use ringmain::{Dispatch, ExitStatus, IpcMain, IpcRenderer, WebContents};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const NAME: &str = "soak";

/// Acts are about so long; there are two at least, because memory is compared after the first.
const ACT_SECONDS: u64 = 10;

/// How often everybody sleeps and is woken at the end of an act.
const QUIET_ROUNDS: usize = 10;

/// Runs all acts; the exit code.
pub(crate) fn run(options: &Options, again: fn() -> Command) -> i32 {
    signals::install();
    super::silence_panics_on_purpose();
    let (faults, board) = (Arc::new(Faults::default()), Arc::new(Board::default()));
    let acts = (options.seconds / ACT_SECONDS).max(2);
    let stop = Arc::new(AtomicBool::new(false));
    let (here, is_here) = std::sync::mpsc::channel();
    let watch = {
        let (faults, board, stop, patience) = (faults.clone(), board.clone(), stop.clone(), options.patience);
        let watch = move || {
            let _ = here.send(());
            report::watch(&board, &faults, acts, patience, &stop);
        };
        std::thread::Builder::new().name("watch".into()).spawn(watch).expect("a thread")
    };
    // It has its name now, by which it is counted.
    let _ = is_here.recv();
    let started = Instant::now();
    let ended = RuntimeDir::new().map_err(|error| format!("cannot make a directory: {error}")).and_then(|directory| {
        let run = Run { options, again, directory, faults: faults.clone(), board: board.clone() };
        run.acts(acts)
    });
    stop.store(true, Ordering::Relaxed);
    let _ = watch.join();
    match ended {
        Ok(_) if signals::interrupted() => {
            println!("interrupted; nothing wrong until then");
            130
        }
        Ok(held) => {
            println!("soak {}", options.again());
            println!("{}", report::summary(&board, acts, started.elapsed(), &held));
            0
        }
        Err(text) => {
            println!("WRONG: {text}");
            println!("after {:.1} s; again: soak {}", started.elapsed().as_secs_f64(), options.again());
            1
        }
    }
}

/// The directory of the sockets, removed at the end.
struct RuntimeDir(PathBuf);

impl RuntimeDir {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("ringmain-soak-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Run<'a> {
    options: &'a Options,
    again: fn() -> Command,
    directory: RuntimeDir,
    faults: Arc<Faults>,
    board: Arc<Board>,
}

impl Run<'_> {
    /// What main holds after the first and after the last act.
    fn acts(&self, acts: u64) -> Result<[Census; 2], String> {
        let before = Census::take(&self.directory.0);
        let (mut first, mut last) = (None, before.clone());
        let time = Duration::from_secs(self.options.seconds) / acts as u32;
        for number in 0..acts {
            self.board.act.store(number, Ordering::Relaxed);
            Act::play(self, number, time)?;
            if signals::interrupted() {
                break;
            }
            self.leak(number);
            let after = |text| format!("after act {}: {text}", number + 1);
            let patience = (self.options.patience / 8).max(Duration::from_secs(2));
            last = Census::back_to(&before, &self.directory.0, patience).map_err(after)?;
            if let Some(text) = last.grown_since(first.get_or_insert(last.clone())) {
                return Err(after(text));
            }
        }
        Ok([first.unwrap_or(before), last])
    }

    /// What the tests of the soak want to be found.
    fn leak(&self, act: u64) {
        match self.options.sabotage {
            Some(sabotage::Kind::Descriptor) => std::mem::forget(std::fs::File::open("/dev/null")),
            Some(sabotage::Kind::Thread) => drop(std::thread::spawn(std::thread::park)),
            Some(sabotage::Kind::Memory) if act == 1 => {
                Box::leak(vec![1_u8; (MEMORY_TOLERANCE_KIB as usize * 2) << 10].into_boxed_slice());
            }
            Some(sabotage::Kind::Process) => drop(Command::new("true").spawn()),
            Some(sabotage::Kind::File) => drop(std::fs::File::create(self.directory.0.join("left"))),
            _ => {}
        }
    }
}

/// A process that runs.
struct Running {
    birth: Arc<Birth>,
    process: Process,
    stopped_until: Option<Instant>,
}

enum Process {
    Spawned(WebContents),
    Named(Child),
}

impl Running {
    fn pid(&self) -> Option<Pid> {
        let pid = match &self.process {
            Process::Spawned(web_contents) => web_contents.process().id(),
            Process::Named(child) => child.id(),
        };
        Pid::from_raw(pid as i32)
    }

    fn signal(&self, signal: Signal) {
        // It is not reaped meanwhile: a named one is reaped by this thread, a spawned one may have ended, and its number
        // is not in use again so soon.
        let _ = self.pid().map(|pid| kill_process(pid, signal));
    }

    fn kill(&mut self) {
        let _ = self.birth.killed.set(Instant::now());
        let _ = match &mut self.process {
            Process::Spawned(web_contents) => web_contents.process().kill().is_ok(),
            Process::Named(child) => child.kill().is_ok(),
        };
    }

    /// How it ended: the exit code, or a signal.
    fn ended(&mut self) -> Option<Result<i32, i32>> {
        match &mut self.process {
            Process::Spawned(web_contents) => match web_contents.process().exit_status()? {
                ExitStatus::Killed(signal) => Some(Err(signal)),
                ExitStatus::Exited(code) => Some(Ok(code.unwrap_or(-1))),
                _ => Some(Ok(-1)),
            },
            Process::Named(child) => {
                let status = child.try_wait().ok()??;
                Some(status.code().ok_or(status.signal().unwrap_or(0)))
            }
        }
    }
}

struct Slot {
    running: Option<Running>,
    births: u64,
    /// When the next process is started.
    due: Instant,
}

/// What must have been delivered of a link that main has closed.
struct Closed {
    peer: Arc<Peer>,
    sent: Vec<(u32, u64)>,
}

struct Act<'a> {
    run: &'a Run<'a>,
    number: u64,
    world: Arc<World>,
    ipc_main: IpcMain,
    /// What polls main, and the host.
    loops: Vec<OwnLoop>,
    random: Random,
    lanes: Lanes,
    slots: Vec<Slot>,
    closed: Vec<Closed>,
    longest: u64,
    queue_limit: usize,
    is_over: bool,
}

impl<'a> Act<'a> {
    fn play(run: &'a Run<'a>, number: u64, time: Duration) -> Result<(), String> {
        let options = run.options;
        let mut random = Random::new(&[options.seed, number, 0xac7]);
        // The first act is that of somebody who sets no options.
        let ring_size = if number == 0 { 128 << 10 } else { 1 << random.between(10, 20) as usize };
        let queue_limit = if number == 0 { 16 << 20 } else { [64 << 10, 1 << 20, 16 << 20][random.below(3) as usize] };
        let wait = if number == 0 { 0 } else { [0, 0, 0, 1, 1, 2][random.below(6) as usize] };
        // What is longer takes too many visits to a small ring, and too long where nothing is optimised.
        let longest = (ring_size as u64 * 256).min(6 << 20) / if cfg!(debug_assertions) { 8 } else { 1 };
        let seed = super::random::mix(&[options.seed, number]);
        let sabotage = Arc::new(Sabotage::new(options.sabotage));
        // Every other act's main is polled, on average, and every third host.
        let is_polled = number > 0 && random.chance(500);
        let is_host_polled = number > 0 && random.chance(333);
        let dispatch = |is_polled| if is_polled { Dispatch::Manual } else { Dispatch::Threads };
        let world = World::new(options, seed, longest, &run.faults, &run.board, &sabotage, is_polled);
        let mut builder = IpcMain::builder();
        if has_executor(number) {
            let (executor, sabotage) = (foreign::executor(), sabotage.clone());
            builder = builder.executor(move |handler| {
                // A future that is dropped before it was polled is a call without a reply.
                if !sabotage.strikes_as(sabotage::Kind::Future) {
                    executor(handler);
                }
            });
        }
        let ipc_main = builder
            .ring_size(ring_size)
            .queue_limit(queue_limit)
            .wait(WAITS[wait])
            .dispatch(dispatch(is_polled))
            .backing(options.backing)
            .runtime_dir(&run.directory.0)
            .connect_timeout(Some(options.patience))
            .app("soak", "1")
            .build()
            .map_err(|error| format!("cannot build a main: {error}"))?;
        let text = |what: &'static str| move |error: ringmain::Error| format!("{what}: {error}");
        world.register(&ipc_main).map_err(text("cannot register"))?;
        let mut loops = Vec::new();
        let fault = |faults: &Arc<Faults>| {
            let faults = faults.clone();
            move |text| faults.add(text)
        };
        let loop_random = |of| Random::new(&[options.seed, number, of]);
        if is_polled {
            run.board.polled[0].fetch_add(1, Ordering::Relaxed);
            loops.push(OwnLoop::start(ipc_main.clone(), random.below(STYLES), loop_random(1), fault(&run.faults)));
        }
        let host = world.attach_host(&ipc_main, dispatch(is_host_polled)).map_err(text("cannot attach"))?;
        if is_host_polled {
            loops.push(OwnLoop::start(host.clone(), random.below(STYLES), loop_random(2), fault(&run.faults)));
        }
        let _ = world.host_contents.set(ipc_main.web_contents(host.id()).ok_or("the host is not there")?);
        ipc_main.listen(NAME).map_err(text("cannot listen"))?;
        let now = Instant::now();
        let slots = (0..options.renderers).map(|_| Slot { running: None, births: 0, due: now }).collect();
        let mut act = Self {
            run,
            number,
            lanes: Lanes::new(CHAOS),
            world: world.clone(),
            ipc_main,
            loops,
            random,
            slots,
            closed: Vec::new(),
            longest,
            queue_limit,
            is_over: false,
        };
        let outcome = act.perform(now + time, &host);
        act.end(host, &outcome);
        drop(act);
        outcome?;
        // Everything that knows it has ended.
        let until = Instant::now() + options.patience;
        while Arc::strong_count(&world) > 1 {
            if Instant::now() > until {
                return Err(format!(
                    "{} listeners or threads of act {} are still there after it",
                    Arc::strong_count(&world) - 1,
                    number + 1
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn perform(&mut self, until: Instant, host: &IpcRenderer) -> Result<(), String> {
        let stop = AtomicBool::new(false);
        let (world, board, number) = (self.world.clone(), self.run.board.clone(), self.number);
        std::thread::scope(|scope| {
            board.is_driving.store(true, Ordering::Relaxed);
            for lane in 0..DRIVERS {
                let (world, stop, beat) = (&world, &stop, &board.beats[lane as usize + 1]);
                let drive = move || Driver::run(world, lane, number, stop, beat);
                std::thread::Builder::new()
                    .name(format!("driver {lane}"))
                    .spawn_scoped(scope, drive)
                    .expect("a thread");
            }
            for laner in 0..LANERS {
                let (world, stop, beat) = (&world, &stop, &board.beats[(DRIVERS + laner) as usize + 1]);
                let run = move || Laner::run(world, laner, number, stop, beat);
                std::thread::Builder::new().name(format!("laner {laner}")).spawn_scoped(scope, run).expect("a thread");
            }
            let mut outcome = Ok(());
            while outcome.is_ok() && Instant::now() < until && !signals::interrupted() {
                outcome = self.step();
            }
            self.is_over = true;
            self.go_on();
            stop.store(true, Ordering::Relaxed);
            if let Err(text) = &outcome {
                // Before the others are joined: one that hangs must not hide it.
                self.run.faults.add(text);
                // Whoever calls them waits no longer.
                self.kill_all();
            }
            outcome
        })?;
        board.is_driving.store(false, Ordering::Relaxed);
        if signals::interrupted() {
            return Ok(());
        }
        self.settle(host)
    }

    // ---- while it runs ------------------------------------------------------------------------------------------------

    fn step(&mut self) -> Result<(), String> {
        self.look()?;
        let now = Instant::now();
        for slot in 0..self.slots.len() {
            if self.slots[slot].running.is_none() && self.slots[slot].due <= now {
                self.start(slot)?;
            }
        }
        match self.random.below(100) {
            0..25 => self.kill(),
            25..45 => self.stop(),
            45..53 => self.close()?,
            53..68 => self.leave(),
            _ => {}
        }
        let millis = self.random.between(5, 150);
        self.run.faults.pause(Duration::from_millis(millis));
        Ok(())
    }

    /// What happened meanwhile.
    fn look(&mut self) -> Result<(), String> {
        self.run.board.beats[0].fetch_add(1, Ordering::Relaxed);
        if let Some(text) = self.run.faults.first() {
            return Err(text);
        }
        let now = Instant::now();
        for slot in &mut self.slots {
            let Some(running) = &mut slot.running else { continue };
            if running.stopped_until.is_some_and(|until| until <= now) {
                running.stopped_until = None;
                running.signal(Signal::CONT);
            }
            let Some(ended) = running.ended() else { continue };
            let birth = &running.birth;
            if let Some(text) = birth.journal.faulty() {
                return Err(format!("a renderer says: {text}"));
            }
            let was_killed = birth.killed.get().is_some();
            match ended {
                Ok(0) => {}
                Err(9) if was_killed => {}
                Ok(FAULTY) => return Err("a renderer has found something wrong, but not said what".into()),
                other => {
                    let how = other.map_or_else(|signal| format!("signal {signal}"), |code| format!("code {code}"));
                    return Err(format!("process {} of slot {} ended with {how}", birth.number, birth.slot));
                }
            }
            let board = &self.run.board;
            let mut all = board.running.lock().unwrap();
            all.retain(|other| !Arc::ptr_eq(other, birth));
            board.past.lock().unwrap().add(&birth.journal.counted());
            slot.running = None;
            slot.due = now + Duration::from_millis(if self.random.chance(500) { 0 } else { self.random.below(300) });
        }
        self.world.look_at_lanes(false)?;
        self.look_at_closed()
    }

    /// Of what main has sent before it closed a link, all is delivered.
    fn look_at_closed(&mut self) -> Result<(), String> {
        let mut wrong = None;
        self.closed.retain(|Closed { peer, sent }| {
            let (journal, id) = (&peer.birth.journal, peer.id());
            let seen = |(lane, sent): &(u32, u64)| journal.has_delivered(*lane, id).map(|seen| (*lane, *sent, seen));
            let Some(seen) = sent.iter().map(seen).collect::<Option<Vec<_>>>() else {
                return peer.birth.killed.get().is_none();
            };
            if let Some((lane, sent, seen)) = seen.into_iter().find(|(_, sent, seen)| seen < sent) {
                wrong = Some(format!(
                    "main sent {sent} messages of lane {lane} to renderer {id} before it closed the link, {seen} came"
                ));
            }
            false
        });
        wrong.map_or(Ok(()), Err)
    }

    fn start(&mut self, slot: usize) -> Result<(), String> {
        let is_named = slot % 3 == 2;
        let number = self.slots[slot].births;
        self.slots[slot].births += 1;
        let order = Order {
            seed: self.world.seed,
            act: self.number,
            slot: slot as u64,
            birth: number,
            parent: std::process::id(),
            name: is_named.then(|| NAME.to_string()),
            runtime_dir: self.run.directory.0.clone(),
            has_lanes: self.random.chance(750),
            polled: match self.random.below(3 * STYLES) {
                style if style < STYLES && self.number > 0 => Some(style),
                _ => None,
            },
            has_executor: has_executor(slot as u64),
            // One that spins takes a core for itself: one at a time.
            wait: match self.random.below(10) {
                0 if slot == 0 => 2,
                0..4 => 1,
                _ => 0,
            },
            queue_limit: self.queue_limit,
            longest: self.longest,
            patience: self.run.options.patience,
            sabotage: self.run.options.sabotage,
        };
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what}: {error}");
        let memory = rustix::fs::memfd_create("soak-journal", MemfdFlags::CLOEXEC);
        let journal = Journal::new(memory.map_err(|error| failed("make a journal", &error))?.into());
        let stdin = journal.file().map_err(|error| failed("copy a descriptor", &error))?;
        let mut command = (self.run.again)();
        self.run.board.polled[1].fetch_add(order.polled.is_some().into(), Ordering::Relaxed);
        let has_lanes = order.has_lanes;
        let order = serde_json::to_string(&order).expect("JSON");
        command.env(RENDERER, order).stdin(stdin).stdout(Stdio::null());
        let birth = Arc::new(Birth { slot, number, journal, is_named, has_lanes, killed: OnceLock::new() });
        // A connection waits for this lock, so that it finds the process.
        let mut births = self.world.births.lock().unwrap();
        let process = if is_named {
            let child = command.spawn().map_err(|error| failed("start a renderer", &error))?;
            births.insert(child.id(), birth.clone());
            Process::Named(child)
        } else {
            let web_contents = self.ipc_main.spawn(command).map_err(|error| failed("spawn a renderer", &error))?;
            births.insert(web_contents.process().id(), birth.clone());
            self.world.adopt(&web_contents, &birth);
            Process::Spawned(web_contents)
        };
        drop(births);
        self.run.board.started.fetch_add(1, Ordering::Relaxed);
        self.run.board.running.lock().unwrap().push(birth.clone());
        self.slots[slot].running = Some(Running { birth, process, stopped_until: None });
        self.greet(slot);
        Ok(())
    }

    /// Sends before the renderer has connected: it gets that first.
    fn greet(&mut self, slot: usize) {
        let Some(Running { process: Process::Spawned(web_contents), .. }) = &self.slots[slot].running else { return };
        let Some(peer) = self.world.peer(web_contents.id()) else { return };
        for _ in 0..self.random.below(4) {
            let started = Instant::now();
            let lane = self.lanes.to(&self.world, peer.id());
            match lane.send(0, 1, |message| peer.web_contents.send("message", message)) {
                Ok(bytes) => self.world.counts().sent(Kind::MainSend, bytes),
                Err(error) => self.world.may_fail(&peer, Kind::MainSend, started, &error),
            }
        }
        self.lanes.note(&peer);
    }

    fn pick(&mut self) -> Option<&mut Running> {
        let count = self.slots.iter().filter(|slot| slot.running.is_some()).count();
        let at = self.random.below(count.max(1) as u64) as usize;
        self.slots.iter_mut().filter_map(|slot| slot.running.as_mut()).nth(at)
    }

    fn kill(&mut self) {
        let board = self.run.board.clone();
        if let Some(running) = self.pick()
            && running.birth.killed.get().is_none()
        {
            running.kill();
            board.kills.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn stop(&mut self) {
        let board = self.run.board.clone();
        let until = Instant::now() + Duration::from_millis(self.random.between(1, 400));
        if let Some(running) = self.pick()
            && running.stopped_until.is_none()
            // Before that it would stay stopped for ever, if this process were killed now.
            && running.birth.journal.has_begun()
        {
            running.signal(Signal::STOP);
            running.stopped_until = Some(until);
            board.stops.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The connection of a process that may be told something.
    fn pick_peer(&mut self) -> Option<Arc<Peer>> {
        let running = self.pick()?;
        let birth = running.birth.clone();
        if running.stopped_until.is_some() || birth.killed.get().is_some() {
            return None;
        }
        let peers = self.world.all_peers().into_iter();
        peers.filter(|peer| Arc::ptr_eq(&peer.birth, &birth)).find(|peer| is_ready(peer))
    }

    /// Main closes a link in order.
    fn close(&mut self) -> Result<(), String> {
        let Some(peer) = self.pick_peer() else { return Ok(()) };
        let _ = peer.leaving.set(Instant::now());
        // Nobody sends to it now.
        let _alone = peer.in_use.write().unwrap();
        let sent = peer.sent.lock().unwrap();
        let sent = sent.iter().filter(|(lane, _)| **lane < DRIVERS).map(|(lane, (_, certain))| (*lane, *certain));
        let sent = sent.collect();
        let _ = peer.flushed.set(peer.flushed_until_now());
        match peer.web_contents.close(self.run.options.patience) {
            Ok(()) => self.closed.push(Closed { peer: peer.clone(), sent }),
            Err(error) => return Err(format!("closing renderer {} in order failed: {error}", peer.id())),
        }
        self.run.board.closes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A renderer is told to leave, and to connect again if it can.
    fn leave(&mut self) {
        let again = self.random.chance(700);
        if let Some(peer) = self.pick_peer() {
            self.tell_to_leave(&peer, again);
            self.run.board.leaves.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tell_to_leave(&self, peer: &Peer, again: bool) {
        let started = Instant::now();
        let _ = peer.leaving.set(started);
        if let Err(error) = peer.web_contents.send_timeout("leave", (again,), self.run.options.patience) {
            self.world.may_fail(peer, Kind::MainSend, started, &error);
        }
    }

    /// Nobody is stopped any more.
    fn go_on(&mut self) {
        for running in self.slots.iter_mut().filter_map(|slot| slot.running.as_mut()) {
            if running.stopped_until.take().is_some() {
                running.signal(Signal::CONT);
            }
        }
    }

    // ---- the end of an act --------------------------------------------------------------------------------------------

    /// Waits until it holds, and looks at what happens meanwhile.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> Result<(), String> {
        let until = Instant::now() + self.run.options.patience;
        loop {
            self.look()?;
            if holds(self) {
                return Ok(());
            }
            if Instant::now() > until {
                let peers = self.world.all_peers();
                let peers: Vec<_> = peers
                    .iter()
                    .map(|peer| {
                        let [stopped, settled] = [&peer.stopped, &peer.settled].map(|it| it.load(Ordering::Relaxed));
                        let (stats, state) =
                            (peer.web_contents.stats(), census::state(peer.web_contents.process().id()));
                        format!("{:?} ({state}) stopped: {stopped} settled: {settled} {stats:?}", peer.web_contents)
                    })
                    .collect();
                return Err(format!(
                    "waited {:?} in vain {what}: host settled: {} {:?}; {}",
                    self.run.options.patience,
                    self.world.host_settled.load(Ordering::Relaxed),
                    self.world.host_contents.wait().stats(),
                    peers.join("; ")
                ));
            }
            self.run.faults.pause(Duration::from_millis(1));
        }
    }

    /// Everybody stops; then all that was sent must have come.
    fn settle(&mut self, host: &IpcRenderer) -> Result<(), String> {
        let patience = self.run.options.patience;
        self.until("for renderers to be there", |act| {
            act.slots.iter().filter_map(|slot| slot.running.as_ref()).all(|running| {
                let peers = act.world.all_peers();
                running.birth.killed.get().is_none()
                    && peers.iter().any(|peer| Arc::ptr_eq(&peer.birth, &running.birth) && is_ready(peer))
            })
        })?;
        let peers: Vec<_> = self.world.all_peers().into_iter().filter(|peer| peer.doomed().is_none()).collect();
        // One that has found something wrong says so before it ends.
        let failed = |peer: &Peer, what: &str, error: &dyn std::fmt::Display| match peer.birth.journal.faulty() {
            Some(text) => format!("a renderer says: {text}"),
            None => format!("renderer {}, which runs, cannot be told to {what}: {error}", peer.id()),
        };
        for peer in &peers {
            let sent = peer.web_contents.send_timeout("stop", (), patience);
            sent.map_err(|error| failed(peer, "stop", &error))?;
        }
        let all = peers.clone();
        self.until("for renderers to stop", |_| all.iter().all(|peer| peer.stopped.load(Ordering::Relaxed)))?;
        self.world.drain_lanes(false, &mut self.random)?;
        // What they have sent to each other is on its way now, and what is replied to that after this.
        for peer in &peers {
            let sent = peer.web_contents.send_timeout("settle", (), patience);
            sent.map_err(|error| failed(peer, "settle", &error))?;
        }
        let sent = self.world.host_contents.wait().send_timeout("settle", (), patience);
        sent.map_err(|error| format!("the host {} cannot be told to settle: {error}", host.id()))?;
        let all = peers.clone();
        self.until("for renderers to settle", |act| {
            all.iter().all(|peer| peer.settled.load(Ordering::Relaxed))
                && act.world.host_settled.load(Ordering::Relaxed)
        })?;
        self.be_quiet(&peers)?;
        let mut totals = BTreeMap::new();
        for peer in &peers {
            let of = peer.web_contents.invoke::<Totals>("totals", (), patience).wait();
            totals.insert(peer.id(), of.map_err(|error| failed(peer, "count", &error))?);
        }
        self.world.compare(&totals);
        for peer in &peers {
            self.tell_to_leave(peer, false);
        }
        self.until("for renderers to leave", |act| {
            act.slots.iter().all(|slot| slot.running.is_none()) && act.world.all_peers().is_empty()
        })?;
        self.world.drain_lanes(true, &mut self.random)
    }

    /// Nothing else goes on: who sleeps is woken by these few messages or not at all.
    fn be_quiet(&mut self, peers: &[Arc<Peer>]) -> Result<(), String> {
        for _ in 0..QUIET_ROUNDS {
            for peer in peers {
                // Several are more than the budget of a poll, perhaps.
                let count = self.random.between(1, 6);
                let heard = peer.heard.load(Ordering::Relaxed) + count;
                for _ in 0..count {
                    let sent = peer.web_contents.send("quiet", ());
                    sent.map_err(|error| format!("a message to renderer {}, which is quiet: {error}", peer.id()))?;
                }
                let peer = peer.clone();
                self.until("for a quiet renderer to answer", |_| peer.heard.load(Ordering::Relaxed) == heard)?;
            }
        }
        Ok(())
    }

    fn kill_all(&mut self) {
        for running in self.slots.iter_mut().filter_map(|slot| slot.running.as_mut()) {
            running.kill();
        }
    }

    /// However the act ended, nobody outlives it.
    fn end(&mut self, host: IpcRenderer, outcome: &Result<(), String>) {
        self.kill_all();
        let until = Instant::now() + Duration::from_secs(10);
        for running in self.slots.iter_mut().filter_map(|slot| slot.running.as_mut()) {
            while running.ended().is_none() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.loops.iter().for_each(OwnLoop::may_end);
        if outcome.is_err() {
            self.ipc_main.shutdown();
        }
        drop(host);
        self.ipc_main.shutdown();
        self.loops.drain(..).for_each(OwnLoop::join);
        self.world.forget_lanes();
        self.run.board.running.lock().unwrap().clear();
    }
}

/// Every other act's main, and every other renderer, polls async handlers on threads of the application.
fn has_executor(number: u64) -> bool {
    number % 2 == 1
}

fn is_ready(peer: &Peer) -> bool {
    peer.ready.load(Ordering::Relaxed) && peer.leaving.get().is_none()
}
