//! What the threads of the main process share: the renderers, what came from them, and what is wrong.

use super::checker::{Checker, Rule};
use super::counts::{Counts, Event, Journal, Kind};
use super::lanes::{Left, Sent};
use super::later::Later;
use super::message::{Body, Lane, Message, Route, Stamp};
use super::options::Options;
use super::renderer::Totals;
use super::report::Board;
use super::sabotage::{self, Sabotage, Way};
use super::{DISPATCHER, DRIVERS, ON_PURPOSE, RELAY};
use ringmain::{
    Dispatch, Error, ErrorKind, GoneReason, GuestEvent, HandlerError, Invoke, IpcMain, IpcMainEvent,
    IpcMainInvokeEvent, IpcRenderer, WebContents,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

/// The first thing that was found to be wrong.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Option<String>>, Condvar);

impl Faults {
    pub(crate) fn add(&self, text: impl Into<String>) {
        self.0.lock().unwrap().get_or_insert(text.into());
        self.1.notify_all();
    }

    pub(crate) fn first(&self) -> Option<String> {
        self.0.lock().unwrap().clone()
    }

    /// Sleeps so long, or until something is wrong.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let first = self.0.lock().unwrap();
        self.1.wait_timeout_while(first, time, |first| first.is_none()).unwrap().0.is_some()
    }
}

/// A renderer's process.
pub(crate) struct Birth {
    pub(crate) slot: usize,
    pub(crate) number: u64,
    pub(crate) journal: Journal,
    pub(crate) is_named: bool,
    /// Main has lanes with it.
    pub(crate) has_lanes: bool,
    /// When it was killed.
    pub(crate) killed: OnceLock<Instant>,
}

/// A connection of a renderer.
pub(crate) struct Peer {
    pub(crate) birth: Arc<Birth>,
    pub(crate) web_contents: WebContents,
    /// It has told that it listens to what other renderers send.
    pub(crate) ready: AtomicBool,
    pub(crate) stopped: AtomicBool,
    pub(crate) settled: AtomicBool,
    /// Messages of the quiet time at the end that it has sent back.
    pub(crate) heard: AtomicU64,
    /// Told to leave, or closed.
    pub(crate) leaving: OnceLock<Instant>,
    /// Frames that can be sent to.
    pub(crate) frames: Mutex<Vec<u32>>,
    /// What listeners reply.
    lane: Mutex<Lane>,
    relay: Mutex<Lane>,
    /// Of the renderer's threads, by their lanes: what they had flushed before main closed the link. What they flush while it
    /// is being closed may be lost.
    pub(crate) flushed: OnceLock<Vec<u64>>,
    /// Held for reading by whoever sends, for writing by whoever closes.
    pub(crate) in_use: RwLock<()>,
    /// Of main's threads, by their lanes: how many messages they have sent to it, and how many must arrive.
    pub(crate) sent: Mutex<HashMap<u32, (u64, u64)>>,
}

impl Peer {
    pub(crate) fn id(&self) -> u32 {
        self.web_contents.id()
    }

    /// What it has found to be wrong. It ends by that, and much is missing then.
    fn says(&self) -> Option<String> {
        self.birth.journal.faulty().map(|text| format!("renderer {} says: {text}", self.id()))
    }

    /// What is wrong with it, or seems to be because it has found something itself.
    pub(crate) fn first(&self, wrong: String) -> String {
        self.says().unwrap_or(wrong)
    }

    /// What its threads have flushed until now.
    pub(crate) fn flushed_until_now(&self) -> Vec<u64> {
        (0..super::WORKERS).map(|lane| self.birth.journal.has_flushed(lane, self.id())).collect()
    }

    /// Since when its calls may fail.
    pub(crate) fn doomed(&self) -> Option<Instant> {
        self.birth.killed.get().or(self.leaving.get()).copied()
    }
}

/// A renderer in this process, which is everybody's host and is never killed.
struct Host {
    ipc_renderer: IpcRenderer,
    checker: Mutex<Checker>,
    /// What it replies to main frames and to others.
    lanes: Mutex<HashMap<(u32, bool), Lane>>,
}

/// One act: an `IpcMain` and its renderers.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) seed: u64,
    pub(crate) longest: u64,
    pub(crate) faults: Arc<Faults>,
    pub(crate) board: Arc<Board>,
    pub(crate) sabotage: Arc<Sabotage>,
    pub(crate) later: Later,
    pub(crate) checker: Mutex<Checker>,
    /// Those of the processes by their number, so that a connection finds its process. Held while one is started.
    pub(crate) births: Mutex<HashMap<u32, Arc<Birth>>>,
    pub(crate) peers: Mutex<BTreeMap<u32, Arc<Peer>>>,
    /// Messages between renderers that main has dropped, as it says: from, to (0: the host).
    drops: Mutex<HashMap<(u32, u32), u64>>,
    host: OnceLock<Host>,
    pub(crate) host_contents: OnceLock<WebContents>,
    pub(crate) host_settled: AtomicBool,
    /// Never answered, by sabotage.
    kept: Mutex<Vec<IpcMainEvent>>,
    /// Main is polled by a loop of ours.
    pub(crate) is_polled: bool,
    pub(crate) lanes_sent: Mutex<Vec<Sent>>,
    pub(crate) lanes_left: Mutex<Vec<Left>>,
}

impl World {
    pub(crate) fn new(
        options: &Options,
        seed: u64,
        longest: u64,
        faults: &Arc<Faults>,
        board: &Arc<Board>,
        sabotage: &Arc<Sabotage>,
        is_polled: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            options: options.clone(),
            seed,
            longest,
            faults: faults.clone(),
            board: board.clone(),
            sabotage: sabotage.clone(),
            later: Later::new(),
            checker: Mutex::new(Checker::new(seed, 0, longest)),
            births: Mutex::default(),
            peers: Mutex::default(),
            drops: Mutex::default(),
            host: OnceLock::new(),
            host_contents: OnceLock::new(),
            host_settled: AtomicBool::new(false),
            kept: Mutex::default(),
            is_polled,
            lanes_sent: Mutex::default(),
            lanes_left: Mutex::default(),
        })
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.board.counts
    }

    pub(crate) fn fault(&self, text: impl Into<String>) {
        self.faults.add(text);
    }

    pub(crate) fn peer(&self, id: u32) -> Option<Arc<Peer>> {
        self.peers.lock().unwrap().get(&id).cloned()
    }

    pub(crate) fn all_peers(&self) -> Vec<Arc<Peer>> {
        self.peers.lock().unwrap().values().cloned().collect()
    }

    pub(crate) fn route(&self, to: u32) -> Route {
        Route { seed: self.seed, from: 0, to }
    }

    /// A connection: also known before it is there, if main has spawned the process.
    pub(crate) fn adopt(&self, web_contents: &WebContents, birth: &Arc<Birth>) -> Arc<Peer> {
        let id = web_contents.id();
        let lane = |number| Mutex::new(Lane::new(self.route(id), number, self.longest));
        let new = || {
            Arc::new(Peer {
                birth: birth.clone(),
                web_contents: web_contents.clone(),
                ready: AtomicBool::new(false),
                stopped: AtomicBool::new(false),
                settled: AtomicBool::new(false),
                heard: AtomicU64::new(0),
                leaving: OnceLock::new(),
                frames: Mutex::default(),
                lane: lane(DISPATCHER),
                relay: lane(RELAY),
                flushed: OnceLock::new(),
                in_use: RwLock::new(()),
                sent: Mutex::default(),
            })
        };
        self.peers.lock().unwrap().entry(id).or_insert_with(new).clone()
    }

    // ---- hooks --------------------------------------------------------------------------------------------------------

    pub(crate) fn register(self: &Arc<Self>, ipc_main: &IpcMain) -> ringmain::Result<()> {
        let world = self.clone();
        ipc_main.on_renderer_connected(move |web_contents| world.connected(web_contents));
        let world = self.clone();
        ipc_main.on_renderer_gone(move |web_contents, reason| world.gone(web_contents, reason));
        let world = self.clone();
        ipc_main.on_error(move |report| {
            world.told(report.renderer, report.channel.as_deref(), &report.error);
        });

        let world = self.clone();
        ipc_main.on("message", move |event: &IpcMainEvent, message: Message| {
            let kind = if event.frame_id() == 1 { Kind::Send } else { Kind::FrameSend };
            world.check(kind, event.sender().id(), event.frame_id(), &message);
        });
        let world = self.clone();
        ipc_main.on("burst", move |event: &IpcMainEvent, (stamp, body, count): (Stamp, Body, u64)| {
            let checked = world.check(Kind::Send, event.sender().id(), event.frame_id(), &(stamp, body));
            if let Some((peer, _)) = checked {
                world.burst(event, &peer, count);
            }
        });
        let world = self.clone();
        ipc_main.on("sync", move |event: &IpcMainEvent, message: Message| world.sync(event, &message));
        ipc_main.on("unanswered", |_event, (_one,): (u32,)| {});
        let world = self.clone();
        ipc_main.handle("invoke", move |event: &IpcMainInvokeEvent, message: Message| {
            let (_, key) = world.check_call(Kind::Invoke, event, &message)?;
            let mut answer = Body::answer(key, world.longest);
            if world.sabotage.strikes_as(sabotage::Kind::Answer) {
                answer.spoil();
            }
            Ok(answer)
        })?;
        let world = self.clone();
        ipc_main.handle_async("async", move |event, message: Message| {
            let checked = world.check_call(Kind::InvokeAsync, &event, &message);
            let wait =
                checked.as_ref().ok().filter(|(_, key)| key.is_multiple_of(2)).map(|(_, key)| world.later.after(*key));
            let longest = world.longest;
            async move {
                let (_, key) = checked?;
                if let Some(wait) = wait {
                    wait.await;
                }
                Ok(Body::answer(key, longest))
            }
        })?;
        let world = self.clone();
        ipc_main.handle("fails", move |event: &IpcMainInvokeEvent, message: Message| -> Result<(), _> {
            let (_, key) = world.check_call(Kind::InvokeFails, event, &message)?;
            Err(super::fail(key, world.longest))
        })?;
        let world = self.clone();
        ipc_main.handle("panics", move |event: &IpcMainInvokeEvent, message: Message| -> Result<(), _> {
            world.check_call(Kind::InvokeFails, event, &message)?;
            panic!("{ON_PURPOSE}")
        })?;
        let world = self.clone();
        ipc_main.handle_async("relay", move |event, (stamp, body, to): (Stamp, Body, u32)| {
            let checked = world.check_call(Kind::InvokeRelay, &event, &(stamp, body));
            let world = world.clone();
            async move {
                let (_, key) = checked?;
                world.relay(to, key).await?;
                Ok(Body::answer(key, world.longest))
            }
        })?;

        let world = self.clone();
        ipc_main.handle("back", move |event: &IpcMainInvokeEvent, message: Message| {
            let (peer, key) = world.check_call(Kind::InvokeRelay, event, &message)?;
            // With a dispatcher that would be refused.
            if world.is_polled {
                world.call_back(&peer, key)?;
            }
            Ok(Body::answer(key, world.longest))
        })?;

        let world = self.clone();
        ipc_main.on("ready", move |event: &IpcMainEvent, ()| {
            if let Some(peer) = world.peer(event.sender().id()) {
                peer.ready.store(true, Ordering::Relaxed);
            }
            world.tell_peers();
        });
        let world = self.clone();
        ipc_main.on("frame", move |event: &IpcMainEvent, ()| {
            if let Some(peer) = world.peer(event.sender().id()) {
                peer.frames.lock().unwrap().push(event.frame_id());
            }
        });
        let world = self.clone();
        ipc_main.on("stopped", move |event: &IpcMainEvent, ()| {
            if let Some(peer) = world.peer(event.sender().id()) {
                peer.stopped.store(true, Ordering::Relaxed);
            }
        });
        let world = self.clone();
        ipc_main.on("settled", move |event: &IpcMainEvent, ()| match world.peer(event.sender().id()) {
            Some(peer) => peer.settled.store(true, Ordering::Relaxed),
            None => world.host_settled.store(true, Ordering::Relaxed),
        });
        let world = self.clone();
        ipc_main.on("quiet", move |event: &IpcMainEvent, ()| {
            if let Some(peer) = world.peer(event.sender().id()) {
                peer.heard.fetch_add(1, Ordering::Relaxed);
            }
        });
        let world = self.clone();
        ipc_main.on("left", move |event: &IpcMainEvent, (totals, _again): (Totals, bool)| {
            world.compare_to_main(event.sender().id(), &totals);
        });
        Ok(())
    }

    pub(crate) fn attach_host(
        self: &Arc<Self>,
        ipc_main: &IpcMain,
        dispatch: Dispatch,
    ) -> ringmain::Result<IpcRenderer> {
        let world = self.clone();
        let settles = self.clone();
        let host = IpcRenderer::builder()
            .dispatch(dispatch)
            // On a thread that may wait for room: a reply that finds none is lost.
            .on("settle", move |_event, ()| {
                let world = settles.clone();
                settles.later.run(0, move || {
                    let sent = world.host.wait().ipc_renderer.send_timeout("settled", (), world.options.patience);
                    sent.unwrap_or_else(|error| {
                        world.fault(format!("the host cannot say that it has settled: {error}"))
                    });
                });
            })
            .on_ipc_message(move |event, channel, args| match args.parse::<Message>() {
                Ok(message) if channel == "guest" => world.guest(event, &message),
                other => world.fault(format!("the host got {other:?} on {channel:?}")),
            })
            .attach(ipc_main)?;
        let checker = Mutex::new(Checker::new(self.seed, super::HOST, self.longest));
        // Its clone here does not own it.
        let _ = self.host.set(Host { ipc_renderer: host.clone(), checker, lanes: Mutex::default() });
        Ok(host)
    }

    /// Came to the host.
    fn guest(&self, event: &GuestEvent, message: &Message) {
        let host = self.host.wait();
        let (from, frame) = (event.guest_id(), event.frame_id());
        let key = match host.checker.lock().unwrap().check(from, 0, frame, Rule::Gaps, message) {
            Ok(key) => key,
            Err(text) => return self.fault(text),
        };
        self.counts().received(Kind::SendToHost);
        if !key.is_multiple_of(4) {
            return;
        }
        let is_main_frame = frame == 1;
        let mut lanes = host.lanes.lock().unwrap();
        let lane = lanes.entry((from, is_main_frame)).or_insert_with(|| {
            let route = Route { seed: self.seed, from: host.ipc_renderer.id(), to: from };
            Lane::new(route, super::reply_lane(is_main_frame), self.longest)
        });
        let channel = super::reply_channel(from, is_main_frame);
        let sent = lane.send(0, 1, |message| event.reply(&channel, message));
        self.took(Kind::Reply, sent);
    }

    fn connected(&self, web_contents: &WebContents) {
        let pid = web_contents.process().id();
        // Waits for the thread that is starting it.
        let birth = self.births.lock().unwrap().get(&pid).cloned();
        match birth {
            Some(birth) => {
                let _ = self.adopt(web_contents, &birth);
                self.board.connected.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = web_contents.set_host(self.host_contents.get()) {
                    self.fault(format!("set_host failed: {error}"));
                }
            }
            None if pid == std::process::id() => {} // the host
            None => self.fault(format!("process {pid} connected, which was not started here")),
        }
    }

    fn gone(&self, web_contents: &WebContents, reason: &GoneReason) {
        let id = web_contents.id();
        let Some(peer) = self.peers.lock().unwrap().remove(&id) else {
            return; // the host
        };
        let birth = &peer.birth;
        if let Some(text) = peer.says() {
            return self.fault(text);
        }
        let is_expected = match reason {
            GoneReason::Killed { signal: 9 } | GoneReason::NeverConnected(_) => birth.killed.get().is_some(),
            // Whose child it is not, of that the status is not known.
            GoneReason::Exited { code: None } => birth.is_named && peer.doomed().is_some(),
            GoneReason::Exited { code: Some(0) } | GoneReason::Closed => peer.doomed().is_some(),
            _ => false,
        };
        if !is_expected {
            let (slot, number) = (birth.slot, birth.number);
            self.fault(format!(
                "renderer {id} (process {number} of slot {slot}) is gone though nobody asked for it: {reason}"
            ));
        }
        let mut checker = self.checker.lock().unwrap();
        let flushed = peer.flushed.get().cloned().unwrap_or_else(|| peer.flushed_until_now());
        for (lane, flushed) in (0..).zip(flushed) {
            let next = checker.next(id, lane);
            if next < flushed {
                self.fault(format!(
                    "renderer {id} is gone ({reason}): it had flushed {flushed} messages of lane {lane}, and {next} came"
                ));
            }
        }
        checker.is_over(id);
        drop(checker);
        self.tell_peers();
    }

    /// What `on_error` is told.
    fn told(&self, renderer: Option<u32>, channel: Option<&str>, error: &Error) {
        let to = channel.and_then(|channel| match channel {
            "guest" => Some(0),
            channel => channel.strip_prefix("routed-")?.parse().ok(),
        });
        match (error.kind(), renderer, to) {
            (ErrorKind::Full | ErrorKind::Undeliverable, Some(from), Some(to)) => {
                *self.drops.lock().unwrap().entry((from, to)).or_default() += 1;
                self.board.dropped.fetch_add(1, Ordering::Relaxed);
            }
            // A reply to a frame or renderer that is gone.
            (ErrorKind::Undeliverable, ..) => {}
            (ErrorKind::Full, ..) if channel.is_some_and(|channel| channel.starts_with("framed-")) => {}
            // One that was killed before main had accepted it: there is no renderer to be gone.
            (ErrorKind::System, None, _) if error.to_string().starts_with("cannot greet the renderer") => {}
            (ErrorKind::HandlerPanicked, ..) if channel == Some("panics") => {}
            _ => self.fault(format!("on_error was told of renderer {renderer:?} on {channel:?}: {error}")),
        }
    }

    // ---- listeners ----------------------------------------------------------------------------------------------------

    fn check(&self, kind: Kind, from: u32, frame: u32, message: &Message) -> Option<(Arc<Peer>, u64)> {
        let Some(peer) = self.peer(from) else {
            self.fault(format!("{kind:?} came from renderer {from}, which is gone"));
            return None;
        };
        match self.checker.lock().unwrap().check(from, 0, frame, Rule::Complete, message) {
            Ok(key) => {
                self.counts().received(kind);
                Some((peer, key))
            }
            Err(text) => {
                self.fault(text);
                None
            }
        }
    }

    fn check_call(
        &self,
        kind: Kind,
        event: &IpcMainInvokeEvent,
        message: &Message,
    ) -> Result<(Arc<Peer>, u64), HandlerError> {
        let checked = self.check(kind, event.sender().id(), event.frame_id(), message);
        checked.ok_or_else(|| HandlerError::new("what came was wrong"))
    }

    fn burst(&self, event: &IpcMainEvent, peer: &Peer, count: u64) {
        let frame = event.frame_id();
        let apart = if frame == 1 { 0 } else { frame };
        let mut lane = peer.lane.lock().unwrap();
        for _ in 0..count {
            let sent = lane.send(apart, frame, |message| event.reply("message", message));
            if !self.took(Kind::Reply, sent) {
                return;
            }
        }
    }

    fn sync(self: &Arc<Self>, event: &IpcMainEvent, message: &Message) {
        let checked = self.check(Kind::SendSync, event.sender().id(), event.frame_id(), message);
        let Some((_, key)) = checked else { return };
        if self.sabotage.strikes_as(sabotage::Kind::Silence) {
            return self.kept.lock().unwrap().push(event.clone());
        }
        let (event, longest, faults, board) = (event.clone(), self.longest, self.faults.clone(), self.board.clone());
        let answer = move || match event.set_return_value(Body::answer(key, longest)) {
            Ok(()) => {}
            // The caller is told so.
            Err(error) if error.kind() == ErrorKind::Full => board.counts.event(Event::Refused, 1),
            Err(error) => faults.add(format!("set_return_value failed: {error}")),
        };
        if key.is_multiple_of(2) { answer() } else { self.later.run(key, answer) }
    }

    /// Calls another renderer for one that waits meanwhile.
    async fn relay(&self, to: u32, key: u64) -> Result<(), HandlerError> {
        let gone = || HandlerError::new("the other renderer is gone").with_name("Disconnected");
        let peer = self.peer(to).ok_or_else(gone)?;
        let (key, call) = self.begin_relay(&peer, key);
        let started = Instant::now();
        self.end_relay(&peer, key, started, call.await)
    }

    /// Calls whoever calls, on the thread that polls, which meanwhile runs what comes from there.
    fn call_back(&self, peer: &Peer, key: u64) -> Result<(), HandlerError> {
        let (key, call) = self.begin_relay(peer, key);
        let started = Instant::now();
        self.counts().event(Event::Polling, 1);
        // Not longer: others wait, and who goes on with those that are stopped may wait for others.
        match call.wait_polling(Duration::from_millis(50)) {
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Limit) => {
                self.counts().event(Event::TimedOut, 1);
                Err(HandlerError::new(error.to_string()).with_name(format!("{:?}", error.kind())))
            }
            answer => self.end_relay(peer, key, started, answer),
        }
    }

    fn begin_relay(&self, peer: &Peer, key: u64) -> (u64, Invoke<Body>) {
        let channel = if key.is_multiple_of(2) { "echo" } else { "later" };
        let mut lane = peer.relay.lock().unwrap();
        let (key, message) = lane.draft(0, 1);
        let call = peer.web_contents.invoke::<Body>(channel, &message, self.options.patience);
        lane.sent(0);
        self.counts().sent(Kind::RelayInvoke, message.1.size());
        (key, call)
    }

    fn end_relay(
        &self,
        peer: &Peer,
        key: u64,
        started: Instant,
        answer: ringmain::Result<Body>,
    ) -> Result<(), HandlerError> {
        match answer {
            Ok(answer) => {
                if let Err(text) = super::checker::check_answer(key, self.longest, &answer) {
                    self.fault(format!("a call of a handler: {text}"));
                }
                self.counts().answered(Kind::RelayInvoke, answer.size());
                Ok(())
            }
            Err(error) => {
                self.may_fail(peer, Kind::RelayInvoke, started, &error);
                Err(HandlerError::new(error.to_string()).with_name(format!("{:?}", error.kind())))
            }
        }
    }

    /// Whether a message was taken. What may refuse it is counted, all else is wrong.
    fn took(&self, kind: Kind, sent: ringmain::Result<u64>) -> bool {
        match sent {
            Ok(bytes) => {
                self.counts().sent(kind, bytes);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::Full | ErrorKind::Disconnected) => {
                self.counts().event(Event::Refused, 1);
                false
            }
            Err(error) => {
                self.fault(format!("{kind:?} failed: {error}"));
                false
            }
        }
    }

    /// An error of something that main has sent to a renderer or called there. It may be that the renderer was killed, or
    /// that a queue was full.
    pub(crate) fn may_fail(&self, peer: &Peer, kind: Kind, started: Instant, error: &Error) {
        let id = peer.id();
        if let Some(text) = peer.says() {
            return self.fault(text);
        }
        match (error.kind(), peer.doomed()) {
            (ErrorKind::Full | ErrorKind::Limit, _) => self.counts().refused(kind),
            (ErrorKind::ReplyFull, _) => self.counts().event(Event::Refused, 1),
            (ErrorKind::Disconnected, Some(since)) => {
                let took = since.max(started).elapsed();
                self.counts().event(Event::EndedByDeath, 1);
                self.board.slowest_end.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
                if took > self.options.patience {
                    self.fault(format!("{kind:?} to renderer {id} ended {took:?} after the death of that"));
                }
            }
            _ => self.fault(format!("{kind:?} to renderer {id} failed after {:?}: {error}", started.elapsed())),
        }
    }

    // ---- between acts -------------------------------------------------------------------------------------------------

    /// Tells every renderer whom it may send to.
    fn tell_peers(&self) {
        let peers = self.all_peers();
        let ready: Vec<&Arc<Peer>> = peers.iter().filter(|peer| peer.ready.load(Ordering::Relaxed)).collect();
        let ids: Vec<u32> = ready.iter().map(|peer| peer.id()).collect();
        for peer in ready {
            // One that is stopped is told later, or is killed.
            let _ = peer.web_contents.send("peers", (&ids,));
        }
    }

    /// Whether all that a renderer says to have sent to main has come.
    pub(crate) fn compare_to_main(&self, id: u32, totals: &Totals) {
        let checker = self.checker.lock().unwrap();
        for (lane, sent, uncertain) in &totals.to_main {
            let next = checker.next(id, *lane);
            if next < sent - uncertain {
                self.fault(format!("renderer {id} sent {sent} messages of lane {lane} to main, only {next} came"));
            }
        }
    }

    /// Whether all that anybody has sent to anybody has come, or was said to be dropped.
    pub(crate) fn compare(&self, all: &BTreeMap<u32, Totals>) {
        let drops = self.drops.lock().unwrap();
        let dropped = |from, to| drops.get(&(from, to)).copied().unwrap_or(0);
        let host = self.host.get().expect("a host");
        for (&id, totals) in all {
            self.compare_to_main(id, totals);
            let Some(peer) = self.peer(id) else { continue };
            let next_of = |lane| totals.from_main.iter().find(|(of, _)| *of == lane).map_or(0, |(_, next)| *next);
            let replies = peer.lane.lock().unwrap();
            let mut sent = peer.sent.lock().unwrap().clone();
            sent.insert(DISPATCHER, (replies.next(0), replies.certain()));
            for (lane, (sent, certain)) in sent {
                let next = next_of(lane);
                if next < certain {
                    self.fault(format!("main sent {sent} messages of lane {lane} to renderer {id}, only {next} came"));
                }
            }
            // The host's replies among them.
            let replied = host.lanes.lock().unwrap().get(&(id, true)).map_or(0, |lane| lane.next(0));
            let mut routed = vec![(host.ipc_renderer.id(), replied)];
            for (&from, of) in all {
                let sent = of.routed_to.iter().filter(|(to, _)| *to == id).map(|(_, sent)| sent).sum();
                routed.push((from, sent));
            }
            for (from, sent) in routed {
                let received: u64 =
                    totals.routed_from.iter().filter(|(of, _)| *of == from).map(|(_, count)| count).sum();
                let dropped = dropped(from, id);
                if sent != received + dropped {
                    self.fault(format!(
                        "renderer {from} sent {sent} messages to renderer {id}: {received} came, {dropped} were dropped"
                    ));
                }
            }
            let (received, dropped) = (host.checker.lock().unwrap().received(id), dropped(id, 0));
            if totals.to_host != received + dropped {
                let sent = totals.to_host;
                self.fault(format!(
                    "renderer {id} sent {sent} messages to its host: {received} came, {dropped} were dropped"
                ));
            }
        }
    }
}

/// The lanes of one thread of main to each renderer.
pub(crate) struct Lanes {
    number: u32,
    lanes: HashMap<u32, Lane>,
}

impl Lanes {
    pub(crate) fn new(number: u32) -> Self {
        Self { number, lanes: HashMap::new() }
    }

    pub(crate) fn to(&mut self, world: &World, id: u32) -> &mut Lane {
        let new = || Lane::new(world.route(id), self.number, world.longest).spoilt(&world.sabotage, Way::Renderer);
        self.lanes.entry(id).or_insert_with(new)
    }

    /// So many were sent, so many of them must arrive.
    pub(crate) fn note(&mut self, peer: &Peer) {
        if let Some(lane) = self.lanes.get(&peer.id()) {
            peer.sent.lock().unwrap().insert(self.number, (lane.next(0), lane.certain()));
        }
    }
}

const _: () = assert!(DRIVERS < super::CHAOS);
