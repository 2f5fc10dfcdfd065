//! A thread of main that sends to renderers and calls them, at random.

use super::checker::check_answer;
use super::counts::{Event, Kind};
use super::message::Body;
use super::random::Random;
use super::world::{Lanes, Peer, World};
use futures::executor::block_on;
use ringmain::{ErrorKind, Invoke};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) struct Driver<'a> {
    world: &'a World,
    random: Random,
    lanes: Lanes,
}

impl<'a> Driver<'a> {
    /// Runs until it is to stop. `beat` shows that it does not hang.
    pub(crate) fn run(world: &'a World, number: u32, act: u64, stop: &AtomicBool, beat: &AtomicU64) {
        let random = Random::new(&[world.seed, act, u64::from(number), 0xd]);
        let mut driver = Self { world, random, lanes: Lanes::new(number) };
        while !stop.load(Ordering::Relaxed) && world.faults.first().is_none() {
            beat.fetch_add(1, Ordering::Relaxed);
            let peers = world.all_peers();
            match driver.random.pick(&peers) {
                Some(peer) => driver.act(peer),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
            if driver.random.chance(30) {
                std::thread::sleep(Duration::from_micros(driver.random.below(3000)));
            }
        }
    }

    fn act(&mut self, peer: &Arc<Peer>) {
        let _uses = peer.in_use.read().unwrap();
        if peer.leaving.get().is_some() {
            return;
        }
        match self.random.below(100) {
            0..30 => self.send(peer),
            30..45 => self.send_to_frame(peer),
            45..60 => self.invoke(peer),
            60..68 => self.invoke_many(peer),
            68..73 => self.fails(peer),
            73..78 => self.gives_up(peer),
            78..84 => self.invoke_frame(peer),
            84..90 => self.nested(peer),
            90..94 => self.flood(peer),
            _ => self.flush(peer),
        }
        self.lanes.note(peer);
    }

    fn took(&self, peer: &Peer, kind: Kind, started: Instant, sent: ringmain::Result<u64>) -> bool {
        match sent {
            Ok(bytes) => {
                self.world.counts().sent(kind, bytes);
                true
            }
            Err(error) => {
                self.world.may_fail(peer, kind, started, &error);
                false
            }
        }
    }

    fn send(&mut self, peer: &Peer) {
        for _ in 0..self.random.between(1, 20) {
            let (started, waits) = (Instant::now(), self.random.chance(100));
            let lane = self.lanes.to(self.world, peer.id());
            let sent = lane.send(0, 1, |message| match waits {
                false => peer.web_contents.send("message", message),
                true => peer.web_contents.send_timeout("message", message, Duration::from_millis(20)),
            });
            if !self.took(peer, Kind::MainSend, started, sent) {
                return;
            }
        }
    }

    /// Many small ones, until the queue is full or the renderer has read them all.
    fn flood(&mut self, peer: &Peer) {
        for _ in 0..3000 {
            let started = Instant::now();
            let lane = self.lanes.to(self.world, peer.id());
            let sent = lane.send(0, 1, |message| peer.web_contents.send("message", message));
            if !self.took(peer, Kind::MainSend, started, sent) {
                return;
            }
        }
    }

    fn nested(&mut self, peer: &Peer) {
        let started = Instant::now();
        let lane = self.lanes.to(self.world, peer.id());
        let sent = lane.send(0, 1, |message| peer.web_contents.send("nested", message));
        self.took(peer, Kind::MainSend, started, sent);
    }

    fn send_to_frame(&mut self, peer: &Peer) {
        let Some(frame) = self.frame(peer) else { return };
        for _ in 0..self.random.between(1, 10) {
            let (started, by_number) = (Instant::now(), self.random.chance(500));
            let mut closed = false;
            let lane = self.lanes.to(self.world, peer.id());
            let sent = lane.send(frame, frame, |message| {
                let sent = match by_number {
                    true => peer.web_contents.send_to_frame(frame, "message", message)?,
                    false => match peer.web_contents.frame(frame) {
                        Some(frame) => match frame.send("message", message) {
                            Err(error) if error.kind() == ErrorKind::Disconnected && frame.is_detached() => false,
                            sent => sent.map(|()| true)?,
                        },
                        None => false,
                    },
                };
                closed = !sent;
                Ok(())
            });
            if closed {
                // Of that frame nothing is sent any more, so its count does not matter.
                return peer.frames.lock().unwrap().retain(|open| *open != frame);
            }
            if !self.took(peer, Kind::SendToFrame, started, sent) {
                return;
            }
        }
    }

    fn frame(&mut self, peer: &Peer) -> Option<u32> {
        let frames = peer.frames.lock().unwrap();
        self.random.pick(&frames).copied()
    }

    fn begin(&mut self, peer: &Peer, channel: &str, timeout: Duration) -> (u64, Invoke<Body>) {
        let lane = self.lanes.to(self.world, peer.id());
        let (key, message) = lane.draft(0, 1);
        let call = peer.web_contents.invoke(channel, &message, timeout);
        lane.sent(0);
        self.world.counts().sent(Kind::MainInvoke, message.1.size());
        (key, call)
    }

    fn end(&mut self, call: Invoke<Body>) -> ringmain::Result<Body> {
        if self.random.chance(500) { call.wait() } else { block_on(call) }
    }

    /// Whether it was answered, and then as it should be.
    fn answered(
        &mut self,
        peer: &Peer,
        kind: Kind,
        key: u64,
        started: Instant,
        answer: ringmain::Result<Body>,
    ) -> bool {
        match answer {
            Ok(body) => {
                if let Err(text) = check_answer(key, self.world.longest, &body) {
                    self.world.fault(format!("{kind:?} at renderer {}: {text}", peer.id()));
                }
                self.world.counts().answered(kind, body.size());
                true
            }
            Err(error) => {
                self.world.may_fail(peer, kind, started, &error);
                false
            }
        }
    }

    fn invoke(&mut self, peer: &Peer) {
        let started = Instant::now();
        let channel = if self.random.chance(500) { "echo" } else { "later" };
        let (key, call) = self.begin(peer, channel, self.world.options.patience);
        let answer = if self.world.is_polled && self.random.chance(100) {
            self.world.counts().event(Event::Polling, 1);
            // Not longer: if the loop does not poll just now, this thread does, and others wait.
            match call.wait_polling(Duration::from_millis(50)) {
                Err(error) if error.kind() == ErrorKind::Timeout => {
                    self.world.counts().event(Event::TimedOut, 1);
                    return self.lanes.to(self.world, peer.id()).may_be_missing();
                }
                answer => answer,
            }
        } else {
            self.end(call)
        };
        if !self.answered(peer, Kind::MainInvoke, key, started, answer) {
            self.lanes.to(self.world, peer.id()).may_be_missing();
        }
    }

    fn invoke_many(&mut self, peer: &Peer) {
        let started = Instant::now();
        let mut calls = Vec::new();
        for _ in 0..self.random.between(2, 30) {
            let channel = if self.random.chance(500) { "echo" } else { "later" };
            calls.push(self.begin(peer, channel, self.world.options.patience));
            // Whether it was refused is known when it has ended.
            self.lanes.to(self.world, peer.id()).may_be_missing();
        }
        let mut all = true;
        for (key, call) in calls {
            let answer = self.end(call);
            all &= self.answered(peer, Kind::MainInvoke, key, started, answer);
        }
        if all {
            self.lanes.to(self.world, peer.id()).has_arrived();
        }
    }

    fn fails(&mut self, peer: &Peer) {
        let started = Instant::now();
        let (key, call) = self.begin(peer, "fails", self.world.options.patience);
        match self.end(call) {
            Ok(_) => self.world.fault("a call of main succeeded whose handler fails"),
            Err(error) if error.kind() == ErrorKind::Handler => {
                match super::check_failure(key, self.world.longest, &error) {
                    Ok(bytes) => self.world.counts().answered(Kind::MainInvoke, bytes),
                    Err(text) => self.world.fault(text),
                }
            }
            Err(error) => {
                self.lanes.to(self.world, peer.id()).may_be_missing();
                self.world.may_fail(peer, Kind::MainInvoke, started, &error);
            }
        }
    }

    /// A call that is never answered, or not waited for.
    fn gives_up(&mut self, peer: &Peer) {
        let started = Instant::now();
        let timeout = Duration::from_micros(self.random.below(20_000));
        let way = self.random.below(4);
        let (_, call) = self.begin(peer, "never", timeout);
        self.lanes.to(self.world, peer.id()).may_be_missing();
        let counts = self.world.counts();
        match way {
            0 => {
                counts.event(Event::Cancelled, 1);
                drop(call);
            }
            1 => {
                counts.event(Event::Cancelled, 1);
                call.detach();
            }
            _ => match self.end(call) {
                Ok(_) => self.world.fault("a call of main was answered that never is"),
                Err(error) if error.kind() == ErrorKind::Timeout => counts.event(Event::TimedOut, 1),
                Err(error) => self.world.may_fail(peer, Kind::MainInvoke, started, &error),
            },
        }
        if started.elapsed() > self.world.options.patience {
            self.world.fault(format!("a call with a timeout of {timeout:?} took {:?}", started.elapsed()));
        }
    }

    fn invoke_frame(&mut self, peer: &Peer) {
        let Some(number) = self.frame(peer) else { return };
        let Some(frame) = peer.web_contents.frame(number) else {
            return peer.frames.lock().unwrap().retain(|open| *open != number);
        };
        let started = Instant::now();
        let lane = self.lanes.to(self.world, peer.id());
        let (key, message) = lane.draft(number, number);
        let patience = self.world.options.patience;
        match frame.invoke::<Body>("echo", &message, patience).wait() {
            // Not sent.
            Err(error) if matches!(error.kind(), ErrorKind::Full | ErrorKind::Limit) => {
                self.world.counts().event(Event::Refused, 1);
            }
            Err(error) if matches!(error.kind(), ErrorKind::NoHandler | ErrorKind::Disconnected) => {
                // Then it is being closed, of which main's dispatcher learns in a moment.
                let until = Instant::now() + patience;
                while !frame.is_detached() && Instant::now() < until {
                    std::thread::sleep(Duration::from_micros(100));
                }
                if !frame.is_detached() {
                    self.world.fault(format!("a call of frame {number}, which is open, failed: {error}"));
                }
                self.world.counts().event(Event::EndedByDeath, 1);
                peer.frames.lock().unwrap().retain(|open| *open != number);
                // Perhaps answered, and closed by another thread before that was sent: what is sent next comes behind it.
                self.lanes.to(self.world, peer.id()).sent(number);
            }
            answer => {
                self.lanes.to(self.world, peer.id()).sent(number);
                self.world.counts().sent(Kind::FrameInvoke, message.1.size());
                self.answered(peer, Kind::FrameInvoke, key, started, answer);
            }
        }
    }

    fn flush(&mut self, peer: &Peer) {
        let started = Instant::now();
        match peer.web_contents.flush(Duration::from_millis(50)) {
            Ok(()) => self.world.counts().event(Event::Flushes, 1),
            // It may be stopped, or not be there yet.
            Err(error) if error.kind() == ErrorKind::Timeout => self.world.counts().event(Event::TimedOut, 1),
            Err(error) => self.world.may_fail(peer, Kind::MainSend, started, &error),
        }
    }
}
