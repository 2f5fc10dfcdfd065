//! A renderer: some threads that send and call at random, listeners and handlers that check what comes, until it is told
//! to leave, or killed.

mod lanes;

use super::census::Census;
use super::checker::{Checker, Rule, check_answer};
use super::counts::{Counts, Event, Journal, Kind};
use super::later::Later;
use super::message::{Body, Lane, Message, Route};
use super::own_loop::OwnLoop;
use super::random::Random;
use super::sabotage::{self, Sabotage, Way};
use super::{DISPATCHER, DRIVERS, HOST, ON_PURPOSE, RELAY, WORKERS, foreign};
use futures::executor::block_on;
use ringmain::{Dispatch, Error, ErrorKind, GoneReason, Invoke, IpcRenderer, IpcRendererEvent, Wait};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// What a renderer is told when it is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) seed: u64,
    pub(crate) act: u64,
    pub(crate) slot: u64,
    /// Counts the processes of the slot.
    pub(crate) birth: u64,
    pub(crate) parent: u32,
    /// The name to connect to; without it the process was spawned by main.
    pub(crate) name: Option<String>,
    pub(crate) runtime_dir: PathBuf,
    /// Main has lanes with it.
    pub(crate) has_lanes: bool,
    /// It has no dispatcher, but a loop of its own, of this style.
    pub(crate) polled: Option<u64>,
    /// Its async handlers are polled by threads that are not the library's.
    pub(crate) has_executor: bool,
    pub(crate) wait: u64,
    pub(crate) queue_limit: usize,
    pub(crate) longest: u64,
    pub(crate) patience: Duration,
    pub(crate) sabotage: Option<sabotage::Kind>,
}

/// How a renderer and main wait.
pub(crate) const WAITS: [Wait; 3] = [Wait::Adaptive, Wait::Park, Wait::Spin];

/// What main asks for when everybody has stopped: how far each has come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Lane, the next number, how many at the end may be missing; to main.
    pub(crate) to_main: Vec<(u32, u64, u64)>,
    /// To each renderer, by its number.
    pub(crate) routed_to: Vec<(u32, u64)>,
    /// From each renderer.
    pub(crate) routed_from: Vec<(u32, u64)>,
    pub(crate) to_host: u64,
    /// Of main's lanes: the next number.
    pub(crate) from_main: Vec<(u32, u64)>,
}

/// The exit code of a renderer that has found something wrong.
pub(crate) const FAULTY: i32 = 70;

pub(crate) fn play(order: Order) {
    // A stopped process does not see that main is gone: so the kernel ends it then.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).expect("a signal");
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if parent as u32 != order.parent {
        return; // main was faster
    }
    super::silence_panics_on_purpose();
    let journal = std::io::stdin().as_fd().try_clone_to_owned().expect("the journal");
    let journal = Arc::new(Journal::new(journal.into()));
    journal.begin();
    let counts = Arc::new(Counts::default());
    let sabotage = Arc::new(Sabotage::new(order.sabotage));
    // The counts are to outlive a kill.
    let (over, is_over) = channel::<()>();
    let (counted, keeps) = (counts.clone(), journal.clone());
    let keeper = std::thread::spawn(move || {
        while is_over.recv_timeout(Duration::from_millis(20)).is_err_and(|error| error.is_timeout()) {
            keeps.count(&counted);
        }
    });
    let mut connection = 0;
    let before = Census::take(Path::new(""));
    loop {
        let ending = Session::run(&order, connection, &journal, &counts, &sabotage);
        connection += 1;
        if let Err(text) = Census::back_to(&before, Path::new(""), order.patience) {
            journal.fault(&format!("after connection {connection} the renderer has {text}"));
            std::process::exit(FAULTY);
        }
        match ending {
            // Who connected by name comes again.
            Ending::Again if order.name.is_some() => {}
            _ => break,
        }
    }
    drop(over);
    let _ = keeper.join();
    journal.count(&counts);
}

trait IsTimeout {
    fn is_timeout(&self) -> bool;
}

impl IsTimeout for std::sync::mpsc::RecvTimeoutError {
    fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }
}

/// How a connection ended.
enum Ending {
    /// Main closed it, or asked to connect again.
    Again,
    /// Main asked to leave, or is gone.
    Leave,
}

/// What listeners and hooks tell the thread that waits.
enum Told {
    Stop,
    Settle,
    Leave { again: bool },
    Gone(GoneReason),
}

/// One connection.
struct Session {
    order: Order,
    connection: u64,
    journal: Arc<Journal>,
    counts: Arc<Counts>,
    sabotage: Arc<Sabotage>,
    later: Later,
    ipc_renderer: OnceLock<IpcRenderer>,
    checker: OnceLock<Mutex<Checker>>,
    /// What listeners send to main.
    lane: OnceLock<Mutex<Lane>>,
    /// What listeners reply to other renderers: to their main frames, to others.
    routed: Mutex<HashMap<(u32, bool), Lane>>,
    peers: Mutex<Vec<u32>>,
    totals: Mutex<Totals>,
    stopping: AtomicBool,
    /// Main has dropped the ends of lanes by which it sends.
    lanes_end: AtomicBool,
    tell: Mutex<Sender<Told>>,
}

/// The link is over: threads end.
struct Over;

impl Session {
    fn run(
        order: &Order,
        connection: u64,
        journal: &Arc<Journal>,
        counts: &Arc<Counts>,
        sabotage: &Arc<Sabotage>,
    ) -> Ending {
        let (tell, told) = channel();
        let session = Arc::new(Self {
            order: order.clone(),
            connection,
            journal: journal.clone(),
            counts: counts.clone(),
            sabotage: sabotage.clone(),
            later: Later::new(),
            ipc_renderer: OnceLock::new(),
            checker: OnceLock::new(),
            lane: OnceLock::new(),
            routed: Mutex::default(),
            peers: Mutex::default(),
            totals: Mutex::default(),
            stopping: AtomicBool::new(false),
            lanes_end: AtomicBool::new(false),
            tell: Mutex::new(tell),
        });
        let ipc_renderer = match session.connect() {
            Ok(ipc_renderer) => ipc_renderer,
            // Main has ended this act, or has closed the link at once.
            Err(error) if matches!(error.kind(), ErrorKind::NotListening | ErrorKind::Disconnected) => {
                return Ending::Leave;
            }
            Err(error) => session.fault(&format!("cannot connect: {error}")),
        };
        let id = ipc_renderer.id();
        let route = Route { seed: order.seed, from: id, to: 0 };
        let _ = session.checker.set(Mutex::new(Checker::new(order.seed, id, order.longest)));
        let _ = session.lane.set(Mutex::new(Lane::new(route, DISPATCHER, order.longest)));
        let listens = session.clone();
        ipc_renderer.on(&format!("routed-{id}"), move |event: &IpcRendererEvent, message: Message| {
            listens.routed(event, &message);
        });
        let tells = session.clone();
        ipc_renderer.on_disconnected(move |reason| tells.tell(Told::Gone(reason.clone())));
        let fails = session.clone();
        ipc_renderer.on_error(move |report| match report.error.kind() {
            // Main sent it to a frame that was closed meanwhile; a handler that panicked on purpose.
            ErrorKind::Undeliverable => {}
            ErrorKind::HandlerPanicked if report.error.to_string().contains(ON_PURPOSE) => {}
            _ => fails.fault(&format!("on_error was told on {:?}: {}", report.channel, report.error)),
        });
        // Only now may listeners run that wait for it.
        let _ = session.ipc_renderer.set(ipc_renderer.clone());
        let own_loop = order.polled.map(|style| {
            let (random, fails) = (session.random(0x100), session.clone());
            OwnLoop::start(ipc_renderer.clone(), style, random, move |text| fails.fault(&text))
        });
        let ending = session.lead(&told);
        own_loop.iter().for_each(OwnLoop::may_end);
        drop(ipc_renderer);
        own_loop.into_iter().for_each(OwnLoop::join);
        ending
    }

    fn connect(self: &Arc<Self>) -> ringmain::Result<IpcRenderer> {
        let order = &self.order;
        let mut builder = IpcRenderer::builder()
            .wait(WAITS[order.wait as usize])
            .dispatch(if order.polled.is_some() { Dispatch::Manual } else { Dispatch::Threads })
            .queue_limit(order.queue_limit)
            .runtime_dir(&order.runtime_dir)
            .connect_timeout(Some(order.patience));
        if order.has_executor {
            builder = builder.executor(foreign::executor());
        }
        let session = self.clone();
        builder = builder.on("message", move |event: &IpcRendererEvent, message: Message| {
            session.check(Kind::MainSend, event.sender_id(), 0, event.frame_id(), &message);
        });
        // On the dispatcher, which is to serve the answer meanwhile.
        let session = self.clone();
        builder = builder.on("nested", move |event: &IpcRendererEvent, message: Message| {
            let key = session.check(Kind::MainSend, event.sender_id(), 0, event.frame_id(), &message);
            let _ = match session.order.polled {
                Some(_) if key.is_multiple_of(2) => session.poll_nested(),
                _ => session.sync(&mut session.lane(), session.ipc_renderer()),
            };
        });
        let session = self.clone();
        builder = builder.on("peers", move |_event, (peers,): (Vec<u32>,)| *session.peers.lock().unwrap() = peers);
        let session = self.clone();
        builder = builder.on("stop", move |_event, ()| session.tell(Told::Stop));
        let session = self.clone();
        builder = builder.on("leave", move |_event, (again,): (bool,)| session.tell(Told::Leave { again }));
        let session = self.clone();
        builder = builder.handle("echo", move |event, message: Message| {
            let key = session.check(kind_of_call(&message), 0, 0, event.frame_id(), &message);
            Ok(Body::answer(key, session.order.longest))
        });
        let session = self.clone();
        builder = builder.handle_async("later", move |event, message: Message| {
            let key = session.check(kind_of_call(&message), 0, 0, event.frame_id(), &message);
            let (wait, longest) = (session.later.after(key), session.order.longest);
            async move {
                wait.await;
                Ok(Body::answer(key, longest))
            }
        });
        let session = self.clone();
        builder = builder.handle("fails", move |event, message: Message| -> Result<(), _> {
            let key = session.check(kind_of_call(&message), 0, 0, event.frame_id(), &message);
            Err(super::fail(key, session.order.longest))
        });
        let session = self.clone();
        builder = builder.handle_async("never", move |event, message: Message| {
            session.check(kind_of_call(&message), 0, 0, event.frame_id(), &message);
            std::future::pending::<Result<(), _>>()
        });
        // Comes after all that was on its way to us before, and what is said then after all that was replied to that.
        let session = self.clone();
        builder = builder.on("settle", move |_event, ()| session.tell(Told::Settle));
        let session = self.clone();
        builder = builder.on("quiet", move |_event, ()| match session.ipc_renderer().send("quiet", ()) {
            Err(error) if error.kind() != ErrorKind::Disconnected => {
                session.fault(&format!("nothing goes on, and a message finds no room: {error}"));
            }
            _ => {}
        });
        let session = self.clone();
        builder = builder.handle("totals", move |_event, ()| Ok(session.totals()));
        match &order.name {
            Some(name) => builder.connect_to(name),
            None => builder.connect(),
        }
    }

    /// Runs the threads until main says what is next.
    fn lead(self: &Arc<Self>, told: &Receiver<Told>) -> Ending {
        let mut workers: Vec<_> = (0..WORKERS)
            .map(|lane| {
                let session = self.clone();
                let name = format!("worker {lane}");
                std::thread::Builder::new().name(name).spawn(move || Worker::run(&session, lane)).expect("a thread")
            })
            .collect();
        if self.order.has_lanes {
            let session = self.clone();
            let run = move || lanes::Laner::run(&session);
            workers.push(std::thread::Builder::new().name("laner".into()).spawn(run).expect("a thread"));
        }
        let mut workers = Some(workers);
        let mut join = || {
            self.stopping.store(true, Ordering::Relaxed);
            for worker in workers.take().into_iter().flatten() {
                if worker.join().is_err() {
                    self.fault("a thread of the renderer panicked");
                }
            }
        };
        loop {
            match told.recv() {
                Ok(Told::Stop) => {
                    self.lanes_end.store(true, Ordering::Relaxed);
                    join();
                    let _ = self.ipc_renderer().send_timeout("stopped", (), self.order.patience);
                }
                // By this thread, which may wait for room: a reply that finds none is lost.
                Ok(Told::Settle) => drop(self.ipc_renderer().send_timeout("settled", (), self.order.patience)),
                Ok(Told::Leave { again }) => {
                    join();
                    let totals = self.totals();
                    let _ = self.ipc_renderer().send_timeout("left", (totals, again), self.order.patience);
                    match self.ipc_renderer().close(self.order.patience) {
                        Err(error) if error.kind() != ErrorKind::Disconnected => {
                            self.fault(&format!("closing lost something: {error}"));
                        }
                        _ => {}
                    }
                    return if again { Ending::Again } else { Ending::Leave };
                }
                Ok(Told::Gone(reason)) => {
                    join();
                    let checker = self.checker.wait().lock().unwrap();
                    for lane in 0..DRIVERS {
                        self.journal.delivered(lane, self.ipc_renderer().id(), checker.next(0, lane));
                    }
                    return match reason {
                        GoneReason::Closed => Ending::Again,
                        GoneReason::Corrupt(text) => self.fault(&format!("main broke the protocol: {text}")),
                        _ => Ending::Leave,
                    };
                }
                Err(_) => unreachable!("the session holds a sender"),
            }
        }
    }

    fn random(&self, thread: u64) -> Random {
        let order = &self.order;
        Random::new(&[order.seed, order.act, order.slot, order.birth, self.connection, thread])
    }

    fn tell(&self, what: Told) {
        let _ = self.tell.lock().unwrap().send(what);
    }

    fn ipc_renderer(&self) -> &IpcRenderer {
        self.ipc_renderer.wait()
    }

    fn lane(&self) -> std::sync::MutexGuard<'_, Lane> {
        self.lane.wait().lock().unwrap()
    }

    fn route(&self, to: u32) -> Route {
        Route { seed: self.order.seed, from: self.ipc_renderer().id(), to }
    }

    /// Says what is wrong, and ends the process.
    fn fault(&self, text: &str) -> ! {
        self.journal.fault(text);
        std::process::exit(FAULTY);
    }

    fn check(&self, kind: Kind, from: u32, apart: u32, frame: u32, message: &Message) -> u64 {
        let lane = message.0.lane;
        let kind = if from == 0 && lane == DISPATCHER { Kind::Reply } else { kind };
        let rule = if from != 0 || lane == RELAY { Rule::Gaps } else { Rule::Complete };
        // Its path names us, who are known when `connect` has returned.
        let mut checker = self.checker.wait().lock().unwrap();
        match checker.check(from, apart, frame, rule, message) {
            Ok(key) => {
                self.counts.received(kind);
                key
            }
            Err(text) => self.fault(&text),
        }
    }

    fn routed(&self, event: &IpcRendererEvent, message: &Message) {
        let (from, from_frame) = (event.sender_id(), event.sender_frame_id());
        if message.0.lane >= DISPATCHER {
            // What frames get is lost with them, so it is counted apart.
            let apart = u32::from(event.frame_id() != 1);
            self.check(Kind::Reply, from, apart, from_frame, message);
            return;
        }
        let key = self.check(Kind::SendTo, from, 0, from_frame, message);
        if !key.is_multiple_of(4) {
            return;
        }
        let is_main_frame = event.sender_is_main_frame();
        let mut lanes = self.routed.lock().unwrap();
        let lane = lanes
            .entry((from, is_main_frame))
            .or_insert_with(|| Lane::new(self.route(from), super::reply_lane(is_main_frame), self.order.longest));
        let channel = super::reply_channel(from, is_main_frame);
        let sent = lane.send(0, event.frame_id(), |message| event.reply(&channel, message));
        let _ = self.took(Kind::Reply, sent);
    }

    /// What `send` and its kin have returned. Errors that may be are counted, all others are faults.
    fn took(&self, kind: Kind, sent: ringmain::Result<u64>) -> Result<bool, Over> {
        match sent {
            Ok(bytes) => {
                self.counts.sent(kind, bytes);
                Ok(true)
            }
            Err(error) => self.refused(kind, &error).map(|()| false),
        }
    }

    fn refused(&self, kind: Kind, error: &Error) -> Result<(), Over> {
        match error.kind() {
            ErrorKind::Full | ErrorKind::Limit => {
                self.counts.refused(kind);
                Ok(())
            }
            ErrorKind::ReplyFull => {
                self.counts.event(Event::Refused, 1);
                Ok(())
            }
            ErrorKind::Disconnected => {
                self.counts.event(Event::EndedByDeath, 1);
                Err(Over)
            }
            _ => self.fault(&format!("{kind:?} failed: {error}")),
        }
    }

    /// A synchronous message, answered as it should be.
    fn sync(&self, lane: &mut Lane, from: &IpcRenderer) -> Result<(), Over> {
        let (key, message) = lane.draft(0, from.frame_id());
        let bytes = message.1.size();
        let answer = from.send_sync_timeout::<Body>("sync", &message, self.order.patience);
        self.called(lane, Kind::SendSync, bytes);
        self.answered(lane, Kind::SendSync, key, answer)
    }

    /// A call of a listener on the thread that polls, which runs what comes meanwhile: such calls among it.
    fn poll_nested(&self) -> Result<(), Over> {
        let (key, call) = {
            let mut lane = self.lane();
            let (key, message) = lane.draft(0, 1);
            let call = self.ipc_renderer().invoke::<Body>("invoke", &message);
            self.called(&mut lane, Kind::Invoke, message.1.size());
            // Whether it was refused is known when others were sent.
            lane.may_be_missing();
            (key, call)
        };
        self.counts.event(Event::Polling, 1);
        match call.wait_polling(self.order.patience) {
            Ok(body) => {
                if let Err(text) = check_answer(key, self.order.longest, &body) {
                    self.fault(&format!("a nested call: {text}"));
                }
                self.counts.answered(Kind::Invoke, body.size());
                Ok(())
            }
            // It is nested too deep, and taken back.
            Err(error) if error.kind() == ErrorKind::Limit => {
                self.counts.event(Event::Cancelled, 1);
                Ok(())
            }
            Err(error) => self.refused(Kind::Invoke, &error),
        }
    }

    /// A call is on its way, or was refused, which its answer says.
    fn called(&self, lane: &mut Lane, kind: Kind, bytes: u64) {
        lane.sent(0);
        self.counts.sent(kind, bytes);
    }

    fn answered(&self, lane: &mut Lane, kind: Kind, key: u64, answer: ringmain::Result<Body>) -> Result<(), Over> {
        match answer {
            Ok(body) => {
                if let Err(text) = check_answer(key, self.order.longest, &body) {
                    self.fault(&format!("{kind:?}: {text}"));
                }
                self.counts.answered(kind, body.size());
                Ok(())
            }
            Err(error) => {
                // It may not have been sent.
                lane.may_be_missing();
                self.refused(kind, &error)
            }
        }
    }

    fn totals(&self) -> Totals {
        let mut totals = self.totals.lock().unwrap().clone();
        let lane = self.lane();
        totals.to_main.push((lane.number(), lane.next(0), lane.next(0) - lane.certain()));
        for ((to, is_main_frame), lane) in self.routed.lock().unwrap().iter() {
            if *is_main_frame {
                totals.routed_to.push((*to, lane.next(0)));
            }
        }
        let checker = self.checker.wait().lock().unwrap();
        for from in checker.senders() {
            match from {
                0 => totals.from_main = (0..=DISPATCHER).map(|lane| (lane, checker.next(0, lane))).collect(),
                _ => totals.routed_from.push((from, checker.received(from))),
            }
        }
        totals
    }
}

fn kind_of_call(message: &Message) -> Kind {
    if message.0.lane == RELAY { Kind::RelayInvoke } else { Kind::MainInvoke }
}

/// A thread that sends and calls.
struct Worker<'a> {
    session: &'a Arc<Session>,
    random: Random,
    lane: Lane,
    to_host: Lane,
    routed: HashMap<u32, Lane>,
    frames: Vec<IpcRenderer>,
}

impl<'a> Worker<'a> {
    fn run(session: &'a Arc<Session>, number: u32) {
        let order = &session.order;
        let lane = |to, way| Lane::new(session.route(to), number, order.longest).spoilt(&session.sabotage, way);
        let mut worker = Self {
            session,
            random: session.random(number.into()),
            lane: lane(0, Way::Main),
            to_host: lane(HOST, Way::Host),
            routed: HashMap::new(),
            frames: Vec::new(),
        };
        // After this main sends us more.
        if number == 0 && session.ipc_renderer().send_timeout("ready", (), order.patience).is_err() {
            return;
        }
        while !session.stopping.load(Ordering::Relaxed) {
            if worker.act().is_err() {
                break;
            }
        }
        let mut totals = session.totals.lock().unwrap();
        let next = worker.lane.next(0);
        totals.to_main.push((number, next, next - worker.lane.certain()));
        totals.routed_to.extend(worker.routed.iter().map(|(to, lane)| (*to, lane.next(0))));
        totals.to_host += worker.to_host.next(0);
    }

    fn act(&mut self) -> Result<(), Over> {
        match self.random.below(100) {
            0..25 => self.send(),
            25..38 => self.invoke("invoke", Kind::Invoke),
            38..46 => self.invoke("async", Kind::InvokeAsync),
            46..52 => self.invoke_many(),
            52..55 => self.fails(),
            55..57 => self.relay(),
            57 => self.back(),
            58..66 => {
                let frame = self.frame();
                self.session.sync(&mut self.lane, &frame)
            }
            66..69 => self.nobody(),
            69..72 => self.cancel(),
            72..82 => self.send_to(),
            82..87 => self.send_to_host(),
            87..89 => self.frames(),
            89..91 => self.burst(),
            91..93 => self.flush(),
            _ => {
                let micros = if self.random.chance(50) { 30_000 } else { 1_000 };
                std::thread::sleep(Duration::from_micros(self.random.below(micros)));
                Ok(())
            }
        }
    }

    /// The main frame, mostly, or one of ours.
    fn frame(&mut self) -> IpcRenderer {
        let main = self.session.ipc_renderer();
        if self.random.chance(700) { main } else { self.random.pick(&self.frames).unwrap_or(main) }.clone()
    }

    fn send(&mut self) -> Result<(), Over> {
        for _ in 0..self.random.between(1, 20) {
            let from = self.frame();
            let kind = if from.is_main_frame() { Kind::Send } else { Kind::FrameSend };
            let waits = self.random.chance(100);
            let sent = self.lane.send(0, from.frame_id(), |message| match waits {
                false => from.send("message", message),
                true => from.send_timeout("message", message, Duration::from_millis(20)),
            });
            self.session.took(kind, sent)?;
        }
        Ok(())
    }

    fn begin(&mut self, channel: &str, kind: Kind) -> (u64, Invoke<Body>) {
        let from = self.frame();
        let (key, message) = self.lane.draft(0, from.frame_id());
        let call = from.invoke(channel, &message).timeout(self.session.order.patience);
        self.session.called(&mut self.lane, kind, message.1.size());
        (key, call)
    }

    fn end(&mut self, call: Invoke<Body>) -> ringmain::Result<Body> {
        if self.session.order.polled.is_some() && self.random.chance(200) {
            self.session.counts.event(Event::Polling, 1);
            return call.wait_polling(self.session.order.patience);
        }
        if self.random.chance(500) { call.wait() } else { block_on(call) }
    }

    fn invoke(&mut self, channel: &str, kind: Kind) -> Result<(), Over> {
        let (key, call) = self.begin(channel, kind);
        let answer = self.end(call);
        self.session.answered(&mut self.lane, kind, key, answer)
    }

    /// Several at once, of both kinds.
    fn invoke_many(&mut self) -> Result<(), Over> {
        let count = self.random.between(2, 30);
        let mut calls = Vec::new();
        for _ in 0..count {
            let (channel, kind) = match self.random.chance(500) {
                true => ("invoke", Kind::Invoke),
                false => ("async", Kind::InvokeAsync),
            };
            let (key, call) = self.begin(channel, kind);
            calls.push((kind, key, call));
            // Whether it was refused is known when it has ended.
            self.lane.may_be_missing();
        }
        let mut all = true;
        while !calls.is_empty() {
            let (kind, key, call) = calls.swap_remove(self.random.below(calls.len() as u64) as usize);
            match self.end(call) {
                Ok(body) => self.session.answered(&mut self.lane, kind, key, Ok(body))?,
                Err(error) => {
                    all = false;
                    self.session.refused(kind, &error)?;
                }
            }
        }
        if all {
            self.lane.has_arrived();
        }
        Ok(())
    }

    /// A handler that fails or panics.
    fn fails(&mut self) -> Result<(), Over> {
        let panics = self.random.chance(200);
        let kind = Kind::InvokeFails;
        let (key, call) = self.begin(if panics { "panics" } else { "fails" }, kind);
        let session = self.session;
        match self.end(call) {
            Ok(_) => session.fault("a call succeeded whose handler fails"),
            Err(error) if error.kind() == ErrorKind::HandlerPanicked && panics => session.counts.answered(kind, 0),
            Err(error) if error.kind() == ErrorKind::Handler && !panics => {
                match super::check_failure(key, session.order.longest, &error) {
                    Ok(bytes) => session.counts.answered(kind, bytes),
                    Err(text) => session.fault(&text),
                }
            }
            Err(error) => {
                self.lane.may_be_missing();
                session.refused(kind, &error)?;
            }
        }
        Ok(())
    }

    /// A handler that calls another renderer, which may be killed meanwhile, or this one.
    fn relay(&mut self) -> Result<(), Over> {
        let session = self.session;
        let to = self.peer();
        let from = self.frame();
        let (key, message) = self.lane.draft(0, from.frame_id());
        let (stamp, body) = &message;
        let call = from.invoke("relay", (stamp, body, to)).timeout(session.order.patience);
        session.called(&mut self.lane, Kind::InvokeRelay, body.size());
        match self.end(call) {
            Err(error) if error.kind() == ErrorKind::Handler => {
                // What the inner call failed with.
                match error.remote_name() {
                    Some("Disconnected" | "Full" | "ReplyFull") => session.counts.answered(Kind::InvokeRelay, 0),
                    name => session.fault(&format!("a relayed call failed with {name:?}: {error}")),
                }
                Ok(())
            }
            answer => session.answered(&mut self.lane, Kind::InvokeRelay, key, answer),
        }
    }

    /// A handler that calls back before it answers, if main is polled.
    fn back(&mut self) -> Result<(), Over> {
        let session = self.session;
        let (key, call) = self.begin("back", Kind::InvokeRelay);
        match self.end(call) {
            Err(error) if error.kind() == ErrorKind::Handler => {
                match error.remote_name() {
                    Some("Disconnected" | "Full" | "ReplyFull" | "Timeout" | "Limit") => {
                        session.counts.answered(Kind::InvokeRelay, 0);
                    }
                    name => session.fault(&format!("a call back failed with {name:?}: {error}")),
                }
                Ok(())
            }
            answer => session.answered(&mut self.lane, Kind::InvokeRelay, key, answer),
        }
    }

    /// What nobody handles, listens to, or answers.
    fn nobody(&mut self) -> Result<(), Over> {
        let (session, from, patience) = (self.session, self.frame(), self.session.order.patience);
        let (answer, right) = match self.random.below(3) {
            0 => (from.invoke::<Body>("nobody", (1,)).timeout(patience).wait(), ErrorKind::NoHandler),
            1 => (from.send_sync_timeout("nobody", (1,), patience), ErrorKind::NoListener),
            _ => (from.send_sync_timeout("unanswered", (1,), patience), ErrorKind::ReplyNeverSent),
        };
        match answer {
            Ok(_) => session.fault("a call succeeded that nobody answers"),
            Err(error) if error.kind() == right => Ok(()),
            Err(error) => session.refused(Kind::Send, &error), // of no kind that is counted as sent
        }
    }

    /// A call that is given up at once; it may have been handled.
    fn cancel(&mut self) -> Result<(), Over> {
        let (_, call) = self.begin("async", Kind::InvokeAsync);
        self.lane.may_be_missing();
        match self.random.below(3) {
            0 => drop(call),
            1 => call.detach(),
            _ => match call.timeout(Duration::from_micros(self.random.below(300))).wait() {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Timeout => {}
                Err(error) => self.session.refused(Kind::InvokeAsync, &error)?,
            },
        }
        self.session.counts.event(Event::Cancelled, 1);
        Ok(())
    }

    /// A renderer to send to: one that main has told of.
    fn peer(&mut self) -> u32 {
        let peers = self.session.peers.lock().unwrap();
        self.random.pick(&peers).copied().unwrap_or(self.session.ipc_renderer().id())
    }

    fn send_to(&mut self) -> Result<(), Over> {
        let to = self.peer();
        let channel = format!("routed-{to}");
        for _ in 0..self.random.between(1, 10) {
            let from = self.frame();
            let session = self.session;
            let lane = self.routed.entry(to).or_insert_with(|| {
                let lane = Lane::new(session.route(to), self.lane.number(), session.order.longest);
                lane.spoilt(&session.sabotage, Way::OtherRenderer)
            });
            let sent = lane.send(0, from.frame_id(), |message| from.send_to(to, &channel, message));
            session.took(Kind::SendTo, sent)?;
        }
        Ok(())
    }

    fn send_to_host(&mut self) -> Result<(), Over> {
        for _ in 0..self.random.between(1, 10) {
            let from = self.frame();
            let sent = self.to_host.send(0, from.frame_id(), |message| from.send_to_host("guest", message));
            self.session.took(Kind::SendToHost, sent)?;
        }
        Ok(())
    }

    /// Opens a frame, or closes one.
    fn frames(&mut self) -> Result<(), Over> {
        let session = self.session;
        if self.frames.len() < 3 && self.random.chance(600) {
            let frame = match self.frame().frame() {
                Ok(frame) => frame,
                Err(error) => return session.refused(Kind::FrameSend, &error),
            };
            let (id, listens, handles) = (frame.frame_id(), session.clone(), session.clone());
            frame.on("message", move |event: &IpcRendererEvent, message: Message| {
                listens.check(Kind::SendToFrame, 0, id, event.frame_id(), &message);
            });
            let listens = session.clone();
            let channel = super::reply_channel(session.ipc_renderer().id(), false);
            frame.on(&channel, move |event: &IpcRendererEvent, message: Message| listens.routed(event, &message));
            let handled = frame.handle("echo", move |event, message: Message| {
                let key = handles.check(Kind::FrameInvoke, 0, id, event.frame_id(), &message);
                Ok(Body::answer(key, handles.order.longest))
            });
            // Only then main may send to it.
            let ready = handled.and_then(|()| frame.send_timeout("frame", (), session.order.patience));
            session.counts.event(Event::Frames, 1);
            // One that main does not know is of no use, but does no harm.
            if let Err(error) = ready {
                session.refused(Kind::FrameSend, &error)?;
            }
            // Frames inside one that is closed are closed with it.
            self.frames.push(frame);
        } else if !self.frames.is_empty() {
            let at = self.random.below(self.frames.len() as u64) as usize;
            let frame = self.frames.swap_remove(at);
            // A call that still waits, of which main may know.
            let (_, message) = self.lane.draft(0, frame.frame_id());
            let call = frame.invoke::<Body>("async", &message);
            session.called(&mut self.lane, Kind::InvokeAsync, message.1.size());
            self.lane.may_be_missing();
            if self.random.chance(500) {
                let _ = frame.close(Duration::ZERO);
            } else {
                drop(frame);
            }
            let started = Instant::now();
            match call.wait() {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Disconnected => {}
                Err(error) => session.refused(Kind::InvokeAsync, &error)?,
            }
            if started.elapsed() > session.order.patience {
                session.fault("a call of a frame that was closed did not end");
            }
            self.frames.retain(IpcRenderer::is_connected);
            session.counts.event(Event::Cancelled, 1);
        }
        Ok(())
    }

    /// Asks main to reply many times.
    fn burst(&mut self) -> Result<(), Over> {
        let (from, count) = (self.frame(), self.random.between(1, 200));
        let (_, (stamp, body)) = self.lane.draft(0, from.frame_id());
        match from.send("burst", (&stamp, &body, count)) {
            Ok(()) => {
                self.lane.sent(0);
                self.session.counts.sent(Kind::Send, body.size());
                Ok(())
            }
            Err(error) => self.session.refused(Kind::Send, &error),
        }
    }

    /// What was flushed arrives, whatever happens to this process.
    fn flush(&mut self) -> Result<(), Over> {
        let session = self.session;
        match session.ipc_renderer().flush(session.order.patience) {
            Ok(()) => {
                session.journal.flushed(self.lane.number(), session.ipc_renderer().id(), self.lane.certain());
                session.counts.event(Event::Flushes, 1);
                Ok(())
            }
            Err(error) => session.refused(Kind::Send, &error),
        }
    }
}
