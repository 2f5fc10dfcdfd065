//! A thread that has the renderer's ends of lanes: it takes those that main offers, sends and takes, and drops them again.

use super::super::counts::{Ended, Event, Progress};
use super::super::lane::{self, AnyEnd, Around, Opening, SLOTS, Slot};
use super::super::random::Random;
use super::Session;
use ringmain::ErrorKind;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(super) struct Laner<'a> {
    session: &'a Session,
    random: Random,
    ends: [Vec<AnyEnd>; SLOTS.len()],
}

impl<'a> Laner<'a> {
    pub(super) fn run(session: &'a Session) {
        let mut laner = Self { session, random: session.random(0x1a), ends: Default::default() };
        while !session.stopping.load(Ordering::Relaxed) {
            let at = lane::pick(&mut laner.random, Slot::Asks);
            match laner.act(at) {
                Ok(true) => {}
                Ok(false) => break,
                Err(text) => session.fault(&text),
            }
            if laner.random.chance(200) {
                std::thread::sleep(Duration::from_micros(laner.random.below(800)));
            }
        }
        let has_end = session.lanes_end.load(Ordering::Relaxed);
        for mut end in std::mem::take(&mut laner.ends).into_iter().flatten() {
            let patience = if has_end { session.order.patience } else { Duration::ZERO };
            match end.drain(Instant::now() + patience, &mut laner.around()) {
                Ok(true) if has_end && !end.is_outgoing() => {
                    session.fault(&format!("main has dropped its end of {}, which is still open", end.stream().name()));
                }
                Ok(is_open) => laner.ended(end, if is_open { Ended::Dropped } else { Ended::Closed }),
                Err(text) => session.fault(&text),
            }
        }
    }

    fn around(&mut self) -> Around<'_> {
        Around { random: &mut self.random, counts: &self.session.counts }
    }

    /// `false`: the link is over.
    fn act(&mut self, at: usize) -> Result<bool, String> {
        if self.ends[at].is_empty() {
            return self.open(at);
        }
        for mut end in std::mem::take(&mut self.ends[at]) {
            if self.random.chance(5) {
                self.ended(end, Ended::Dropped);
            } else if end.act(&mut self.around())? {
                self.has_come(&end, None);
                self.ends[at].push(end);
            } else {
                // Whoever sends is not told how far the other one came.
                let ended = if end.is_outgoing() { Ended::Dropped } else { Ended::Closed };
                self.ended(end, ended);
            }
        }
        Ok(true)
    }

    fn open(&mut self, at: usize) -> Result<bool, String> {
        let session = self.session;
        let timeout = if self.random.chance(100) { 2000 } else { 0 };
        let opening = Opening {
            slot: SLOTS[at],
            seed: session.order.seed,
            renderer: session.ipc_renderer().id(),
            generation: None,
            timeout: Duration::from_micros(timeout),
            sabotage: &session.sabotage,
        };
        match opening.open(session.ipc_renderer(), &mut self.random) {
            Ok(ends) => {
                ends.iter().for_each(|end| self.has_come(end, None));
                self.ends[at] = ends;
            }
            Err(error) if error.kind() == ErrorKind::Timeout => {}
            Err(error) if error.kind() == ErrorKind::Disconnected => return Ok(false),
            Err(error) => return Err(format!("lane '{}' cannot be opened: {error}", SLOTS[at].name())),
        }
        Ok(true)
    }

    /// Main reads it when this process is dead or the end dropped.
    fn has_come(&self, end: &AnyEnd, ended: Option<Ended>) {
        let stream = end.stream();
        // Of what came nothing has to be known before the end.
        if let Some(generation) = stream.generation
            && (end.is_outgoing() || ended.is_some() || end.count() == 0)
        {
            let progress = Progress { count: end.count(), ended };
            self.session.journal.lane(stream.half.number(), generation, self.session.ipc_renderer().id(), progress);
        }
    }

    /// It is dropped, when it is known how far it has come.
    fn ended(&self, end: AnyEnd, ended: Ended) {
        if let Err(text) = end.check_counts() {
            self.session.fault(&text);
        }
        self.session.counts.event(Event::LaneEnds, 1);
        self.has_come(&end, Some(ended));
    }
}
