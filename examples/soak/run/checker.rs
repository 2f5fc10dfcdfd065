//! The receiving end: whether what arrives is what was sent, once and in order.

use super::message::{Body, Message, Route};
use std::collections::HashMap;

/// What may be missing of a lane.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    /// Only what the stamps say.
    Complete,
    /// Some may have been dropped, which is counted here and elsewhere; what comes is in order.
    Gaps,
}

#[derive(Default)]
struct Seen {
    /// The order that comes at the earliest.
    order: u64,
    /// By the part that is counted by itself.
    parts: HashMap<u32, Part>,
}

#[derive(Default)]
struct Part {
    next: u64,
    received: u64,
}

/// All lanes that end at one receiver.
pub(crate) struct Checker {
    seed: u64,
    me: u32,
    longest: u64,
    lanes: HashMap<(u32, u32), Seen>,
    /// Those of whom nothing may come any more.
    over: std::collections::HashSet<u32>,
}

impl Checker {
    pub(crate) fn new(seed: u64, me: u32, longest: u64) -> Self {
        Self { seed, me, longest, lanes: HashMap::new(), over: Default::default() }
    }

    /// The key of a message that is right; what is wrong with it otherwise.
    pub(crate) fn check(
        &mut self,
        from: u32,
        apart: u32,
        frame: u32,
        rule: Rule,
        message: &Message,
    ) -> Result<u64, String> {
        let (stamp, body) = message;
        let to = self.me;
        let name = || format!("message {} of lane {} from {} to {}", stamp.number, stamp.lane, who(from), who(to));
        if self.over.contains(&from) {
            return Err(format!("{} came after its sender was said to be gone", name()));
        }
        let seen = self.lanes.entry((from, stamp.lane)).or_default();
        let part = seen.parts.entry(apart).or_default();
        if stamp.number < part.next {
            return Err(format!("{} came twice or too late: it was the turn of {}", name(), part.next));
        }
        if stamp.order < seen.order {
            return Err(format!("{} came out of order: {} after {}", name(), stamp.order, seen.order));
        }
        let missing = stamp.number - part.next;
        if rule == Rule::Complete && missing > stamp.gap {
            return Err(format!(
                "{} came when it was the turn of {}: {missing} are missing, {} of them may be",
                name(),
                part.next,
                stamp.gap
            ));
        }
        seen.order = stamp.order + 1;
        part.next = stamp.number + 1;
        part.received += 1;
        let key = Route { seed: self.seed, from, to }.key(frame, stamp);
        let right = Body::of(key, self.longest);
        if right != *body {
            return Err(format!("{} (frame {frame}) has another body: {}", name(), difference(&right, body)));
        }
        Ok(key)
    }

    /// How far a lane has come: the number that comes at the earliest.
    pub(crate) fn next(&self, from: u32, lane: u32) -> u64 {
        self.part(from, lane).map_or(0, |part| part.next)
    }

    /// How many have come of all lanes of a sender, without what is counted apart.
    pub(crate) fn received(&self, from: u32) -> u64 {
        let lanes = self.lanes.iter().filter(|((sender, _), _)| *sender == from);
        lanes.filter_map(|(_, seen)| seen.parts.get(&0)).map(|part| part.received).sum()
    }

    /// Who has sent anything.
    pub(crate) fn senders(&self) -> Vec<u32> {
        let mut senders: Vec<u32> = self.lanes.keys().map(|(from, _)| *from).collect();
        senders.sort_unstable();
        senders.dedup();
        senders
    }

    fn part(&self, from: u32, lane: u32) -> Option<&Part> {
        self.lanes.get(&(from, lane))?.parts.get(&0)
    }

    /// Nothing may come of this sender any more.
    pub(crate) fn is_over(&mut self, from: u32) {
        self.over.insert(from);
        self.lanes.retain(|(sender, _), _| *sender != from);
    }
}

/// Whether a call was answered as it should be.
pub(crate) fn check_answer(key: u64, longest: u64, answer: &Body) -> Result<(), String> {
    let right = Body::answer(key, longest);
    if right == *answer { Ok(()) } else { Err(format!("the answer is another one: {}", difference(&right, answer))) }
}

fn difference(right: &Body, found: &Body) -> String {
    let short = |body: &Body| format!("{:.80} ({} bytes)", format!("{body:?}"), body.size());
    let at = match (right, found) {
        (Body::Text(a), Body::Text(b)) => a.bytes().zip(b.bytes()).position(|(a, b)| a != b),
        (Body::Numbers(a), Body::Numbers(b)) => a.iter().zip(b).position(|(a, b)| a != b),
        _ => None,
    };
    let at = at.map(|at| format!(", first at {at}")).unwrap_or_default();
    format!("{} instead of {}{at}", short(found), short(right))
}

pub(crate) fn who(number: u32) -> String {
    match number {
        0 => "main".into(),
        super::HOST => "the host".into(),
        _ => format!("renderer {number}"),
    }
}
