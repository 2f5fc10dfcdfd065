//! Main's ends of the lanes that it has with renderers: a thread that opens them, sends and takes, and drops them again, at random;
//! and what each end must have got when the other one is gone.

use super::LANERS;
use super::counts::{Ended, Event, Progress};
use super::lane::{self, AnyEnd, Around, Half, Opening, SLOTS, Slot};
use super::random::Random;
use super::sabotage;
use super::world::{Peer, World};
use ringmain::ErrorKind;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What main has sent by a lane until its end was dropped: the renderer says how much of it came.
pub(crate) struct Sent {
    peer: Arc<Peer>,
    half: Half,
    generation: u64,
    count: u64,
}

/// An end of main's that takes what the renderer has still to send.
pub(crate) struct Left {
    peer: Arc<Peer>,
    end: AnyEnd,
}

impl World {
    /// Compares what renderers say to have got by lanes whose sender main has dropped. `is_final`: all have said it.
    pub(crate) fn look_at_lanes(&self, is_final: bool) -> Result<(), String> {
        let mut wrong = None;
        let mut sent = self.lanes_sent.lock().unwrap();
        sent.retain(|Sent { peer, half, generation, count }| {
            let name = || format!("opening {generation} of lane '{}'", half.slot.name());
            let id = peer.id();
            let was_killed = peer.birth.killed.get().is_some();
            // One that main has not closed says it before it goes.
            let has_said = is_final || self.peer(id).is_none() && peer.flushed.get().is_none();
            match peer.birth.journal.has_come(half.number(), *generation, id) {
                Some(Progress { count: came, ended: Some(ended) }) => {
                    self.counts().event(Event::LaneCompared, 1);
                    if came > *count || ended == Ended::Closed && came < *count {
                        let text = format!("main sent {count} records to renderer {id} by {}, {came} came", name());
                        wrong.get_or_insert(peer.first(text));
                    }
                    false
                }
                Some(_) if has_said && !was_killed => {
                    wrong.get_or_insert(peer.first(format!("renderer {id} did not see the end of {}", name())));
                    false
                }
                // It was killed, or has not taken that one.
                _ => !has_said && !was_killed,
            }
        });
        wrong.map_or(Ok(()), Err)
    }

    /// When renderers have stopped, and again when they are gone: all that they have sent comes, and then the end. Those that
    /// they have not taken end with the link.
    pub(crate) fn drain_lanes(&self, are_gone: bool, random: &mut Random) -> Result<(), String> {
        let left = std::mem::take(&mut *self.lanes_left.lock().unwrap());
        let has_ended = |Left { peer, end }: &Left| {
            let stream = end.stream();
            let progress = peer.birth.journal.has_come(stream.half.number(), stream.generation?, peer.id())?;
            progress.ended
        };
        let (now, later) = left.into_iter().partition(|left| are_gone || has_ended(left).is_some());
        *self.lanes_left.lock().unwrap() = later;
        for Left { peer, mut end } in now {
            self.drain(&peer, &mut end, random)?;
        }
        if are_gone { self.look_at_lanes(true) } else { Ok(()) }
    }

    /// Nobody looks at them any more.
    pub(crate) fn forget_lanes(&self) {
        self.lanes_left.lock().unwrap().clear();
        self.lanes_sent.lock().unwrap().clear();
    }

    /// The other end is gone, or about to go.
    fn drain(&self, peer: &Arc<Peer>, end: &mut AnyEnd, random: &mut Random) -> Result<(), String> {
        let patience = self.options.patience;
        let is_open = end.drain(Instant::now() + patience, &mut Around { random, counts: self.counts() })?;
        if is_open {
            let (id, name) = (peer.id(), end.stream().name());
            return Err(peer.first(format!(
                "renderer {id} has dropped its end or is gone, and {name} is open after {patience:?}"
            )));
        }
        self.was_closed(peer, end)
    }

    /// An end of main's has taken all that there was, and then was told that the lane is closed.
    fn was_closed(&self, peer: &Peer, end: &AnyEnd) -> Result<(), String> {
        end.check_counts()?;
        self.counts().event(Event::LaneEnds, 1);
        let stream = end.stream();
        // What is sent while main closes the link may be lost.
        if peer.flushed.get().is_some() {
            return Ok(());
        }
        let Some(generation) = stream.generation else { return Ok(()) };
        let progress = peer.birth.journal.has_come(stream.half.number(), generation, peer.id());
        let Some(Progress { count, ended }) = progress else { return Ok(()) };
        self.counts().event(Event::LaneCompared, 1);
        let came = end.count();
        // A renderer that was killed may have sent more than it could say.
        if came < count || ended.is_some() && came > count {
            return Err(peer.first(format!("{}: {count} records were sent, {came} came", stream.name())));
        }
        Ok(())
    }
}

/// The lanes with one renderer.
struct Lanes {
    peer: Arc<Peer>,
    ends: [Vec<AnyEnd>; SLOTS.len()],
    /// How often each was opened.
    opened: [u64; SLOTS.len()],
}

pub(crate) struct Laner<'a> {
    world: &'a World,
    /// It has those whose number leaves this.
    number: u32,
    random: Random,
    lanes: BTreeMap<u32, Lanes>,
}

impl<'a> Laner<'a> {
    /// Runs until it is to stop. `beat` shows that it does not hang.
    pub(crate) fn run(world: &'a World, number: u32, act: u64, stop: &AtomicBool, beat: &AtomicU64) {
        let random = Random::new(&[world.seed, act, u64::from(number), 0x1a]);
        let mut laner = Self { world, number, random, lanes: BTreeMap::new() };
        while !stop.load(Ordering::Relaxed) && world.faults.first().is_none() {
            beat.fetch_add(1, Ordering::Relaxed);
            if let Err(text) = laner.act() {
                world.fault(text);
            }
            if laner.random.chance(300) {
                std::thread::sleep(Duration::from_micros(laner.random.below(2000)));
            }
        }
        if let Err(text) = laner.end() {
            world.fault(text);
        }
    }

    fn act(&mut self) -> Result<(), String> {
        let mut peers = self.world.all_peers();
        peers.retain(|peer| peer.birth.has_lanes && peer.id() % LANERS == self.number);
        while let Some(id) = self.lanes.keys().copied().find(|id| !peers.iter().any(|peer| peer.id() == *id)) {
            self.gone(id)?;
        }
        let Some(peer) = self.random.pick(&peers).cloned() else { return Ok(()) };
        if peer.doomed().is_some() {
            return self.gone(peer.id());
        }
        for _ in 0..self.random.between(1, 5) {
            self.act_with(&peer)?;
        }
        Ok(())
    }

    fn act_with(&mut self, peer: &Arc<Peer>) -> Result<(), String> {
        let _uses = peer.in_use.read().unwrap();
        if peer.leaving.get().is_some() {
            return Ok(());
        }
        let new = || Lanes { peer: peer.clone(), ends: Default::default(), opened: Default::default() };
        let lanes = self.lanes.entry(peer.id()).or_insert_with(new);
        let at = lane::pick(&mut self.random, Slot::Asked);
        let (ends, opened) = (&mut lanes.ends[at], &mut lanes.opened[at]);
        if ends.is_empty() {
            let opening = Opening {
                slot: SLOTS[at],
                seed: self.world.seed,
                renderer: peer.id(),
                generation: Some(*opened),
                timeout: Duration::ZERO,
                sabotage: &self.world.sabotage,
            };
            match opening.open(&peer.web_contents, &mut self.random) {
                Ok(open) => {
                    self.world.board.lanes.fetch_add(1, Ordering::Relaxed);
                    *opened += 1;
                    *ends = open;
                }
                // It is not there yet or takes nothing, or was killed.
                Err(error) if error.kind() == ErrorKind::Full => self.world.counts().event(Event::Refused, 1),
                Err(error)
                    if matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::System)
                        && peer.doomed().is_some() => {}
                Err(error) => {
                    return Err(peer.first(format!("lane '{}' cannot be opened: {error}", SLOTS[at].name())));
                }
            }
            return Ok(());
        }
        for mut end in std::mem::take(ends) {
            if self.random.chance(10) {
                drop_end(self.world, peer, end)?;
            } else if end.act(&mut Around { random: &mut self.random, counts: self.world.counts() })? {
                ends.push(end);
            } else if end.is_outgoing() {
                drop_end(self.world, peer, end)?;
            } else {
                self.world.was_closed(peer, &end)?;
            }
        }
        Ok(())
    }

    /// A renderer is gone, or goes just now: what it has sent before still comes, and the end ends every wait.
    fn gone(&mut self, id: u32) -> Result<(), String> {
        let Some(Lanes { peer, ends, .. }) = self.lanes.remove(&id) else { return Ok(()) };
        for mut end in ends.into_iter().flatten() {
            if end.is_outgoing() {
                if peer.birth.killed.get().is_some() {
                    let until = Instant::now() + self.world.options.patience;
                    let counts = self.world.counts();
                    end.ask_the_dying(until, &mut Around { random: &mut self.random, counts })?;
                }
                drop_end(self.world, &peer, end)?;
            } else {
                self.world.drain(&peer, &mut end, &mut self.random)?;
            }
        }
        Ok(())
    }

    /// No end of main's sends any more; those that take go on until the renderers have stopped.
    fn end(self) -> Result<(), String> {
        for Lanes { peer, ends, .. } in self.lanes.into_values() {
            for end in ends.into_iter().flatten() {
                if end.is_outgoing() {
                    drop_end(self.world, &peer, end)?;
                } else if self.world.sabotage.is(sabotage::Kind::Lane) {
                    std::mem::forget(end);
                } else {
                    self.world.lanes_left.lock().unwrap().push(Left { peer: peer.clone(), end });
                }
            }
        }
        Ok(())
    }
}

/// In order: the renderer gets what was sent before.
fn drop_end(world: &World, peer: &Arc<Peer>, end: AnyEnd) -> Result<(), String> {
    end.check_counts()?;
    world.counts().event(Event::LaneEnds, 1);
    let stream = end.stream();
    if let (true, Some(generation)) = (end.is_outgoing(), stream.generation) {
        let sent = Sent { peer: peer.clone(), half: stream.half, generation, count: end.count() };
        world.lanes_sent.lock().unwrap().push(sent);
    }
    Ok(())
}
