//! What is sent, so that whoever gets it can tell whether it is right: a stamp, and a body that follows from the stamp,
//! the seed and who sends to whom.

use super::random::{Random, mix};
use super::sabotage::{Fault, Sabotage, Way};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// The answer to a call is the body of its key and this.
const ANSWER: u64 = 0xa;

/// Where a message stands among those of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// The thread of the sender: what one thread sends to one receiver is in one order.
    pub(crate) lane: u32,
    /// Grows with every message of the lane.
    pub(crate) order: u64,
    /// Counts the messages of the lane, apart for what may be lost by itself (one frame's).
    pub(crate) number: u64,
    /// So many before this one may not have arrived: calls that were cancelled or refused.
    pub(crate) gap: u64,
}

/// What each listener and handler takes.
pub(crate) type Message = (Stamp, Body);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Body {
    Nothing,
    Text(String),
    Numbers(Vec<i64>),
    Tree(Value),
}

impl Body {
    /// The body of this key, size and all; none is much longer than `longest` bytes.
    pub(crate) fn of(key: u64, longest: u64) -> Self {
        let mut random = Random::new(&[key]);
        let most = match random.below(1000) {
            0..700 => 100,
            700..900 => 4 << 10,
            900..985 => 40 << 10,
            985..998 => 512 << 10,
            _ => 6 << 20,
        };
        let size = random.below(most.min(longest)) as usize;
        match random.below(8) {
            0 => Self::Nothing,
            1..5 => Self::Text(text(&mut random, size)),
            5..7 => Self::Numbers((0..size / 9).map(|_| random.next() as i64 >> random.below(64)).collect()),
            _ => Self::Tree(tree(&mut random, size.min(64 << 10), 5)),
        }
    }

    /// The answer to a message of this key.
    pub(crate) fn answer(key: u64, longest: u64) -> Self {
        Self::of(mix(&[key, ANSWER]), longest)
    }

    /// Its bytes, about.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Text(text) => text.len() as u64,
            Self::Numbers(numbers) => numbers.len() as u64 * 9,
            Self::Tree(tree) => tree.to_string().len() as u64,
        }
    }

    /// Changes the smallest part.
    pub(crate) fn spoil(&mut self) {
        match self {
            Self::Text(text) if !text.is_empty() => {
                let last = text.pop();
                text.push(if last == Some('x') { 'y' } else { 'x' });
            }
            Self::Numbers(numbers) if !numbers.is_empty() => *numbers.last_mut().expect("one") ^= 1,
            Self::Tree(Value::Null) => *self = Self::Nothing,
            Self::Nothing => *self = Self::Tree(Value::Null),
            _ => *self = Self::Nothing,
        }
    }
}

fn text(random: &mut Random, size: usize) -> String {
    if random.chance(200) {
        let mut text = String::with_capacity(size + 4);
        while text.len() < size {
            text.push(*random.pick(&['a', 'ß', 'é', '語', '🦀', '\0', '"', '\n']).expect("a character"));
        }
        return text;
    }
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend(random.next().to_le_bytes().map(|byte| b' ' + (byte & 63)));
    }
    bytes.truncate(size);
    String::from_utf8(bytes).expect("all are below 128")
}

fn tree(random: &mut Random, size: usize, depth: u32) -> Value {
    let short = size.min(24);
    match random.below(if depth == 0 || size < 16 { 6 } else { 9 }) {
        0 => Value::Null,
        1 => json!(random.chance(500)),
        2 => json!(random.next()),
        3 => json!(random.next() as i64),
        4 => json!(random.next() as i64 as f64 / 1024.0),
        5 => json!(text(random, short)),
        kind => {
            let count = random.between(1, 6) as usize;
            let part = size / (count + 1);
            match kind {
                6 => (0..count).map(|_| tree(random, part, depth - 1)).collect(),
                _ => (0..count).map(|i| (format!("{i}{}", text(random, 8)), tree(random, part, depth - 1))).collect(),
            }
        }
    }
}

/// Who sends to whom. Numbers are those of renderers, 0 is main; the frame is that of the renderer, the sender's where
/// both are renderers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) seed: u64,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

impl Route {
    /// What the body follows from. It names both ends, so a message that went astray is wrong for whoever gets it.
    pub(crate) fn key(&self, frame: u32, stamp: &Stamp) -> u64 {
        let ends = u64::from(self.from) << 32 | u64::from(self.to);
        mix(&[self.seed, ends, u64::from(frame), u64::from(stamp.lane), stamp.order, stamp.number])
    }
}

/// The sending end of what one thread sends to one receiver.
pub(crate) struct Lane {
    route: Route,
    number: u32,
    longest: u64,
    order: u64,
    next: HashMap<u32, u64>,
    gap: u64,
    gap_before: u64,
    sabotage: Option<(Arc<Sabotage>, Way)>,
}

impl Lane {
    pub(crate) fn new(route: Route, number: u32, longest: u64) -> Self {
        Self { route, number, longest, order: 0, next: HashMap::new(), gap: 0, gap_before: 0, sabotage: None }
    }

    /// Its plain messages are spoilt when it is their turn.
    pub(crate) fn spoilt(mut self, sabotage: &Arc<Sabotage>, way: Way) -> Self {
        self.sabotage = Some((sabotage.clone(), way));
        self
    }

    /// The next message, which counts once it is [`sent`](Self::sent). `apart`: counted by itself.
    pub(crate) fn draft(&self, apart: u32, frame: u32) -> (u64, Message) {
        self.draft_after(apart, frame, 0)
    }

    fn draft_after(&self, apart: u32, frame: u32, more: u64) -> (u64, Message) {
        let number = self.next(apart) + more;
        let gap = if apart == 0 { self.gap } else { 0 };
        let stamp = Stamp { lane: self.number, order: self.order + more, number, gap };
        let key = self.route.key(frame, &stamp);
        (key, (stamp, Body::of(key, self.longest)))
    }

    /// The draft is on its way.
    pub(crate) fn sent(&mut self, apart: u32) {
        self.order += 1;
        *self.next.entry(apart).or_default() += 1;
        if apart == 0 {
            self.gap_before = std::mem::take(&mut self.gap);
        }
    }

    /// What was sent last may not arrive.
    pub(crate) fn may_be_missing(&mut self) {
        self.gap = self.gap_before + 1;
    }

    /// All that was sent has arrived.
    pub(crate) fn has_arrived(&mut self) {
        self.gap = 0;
    }

    /// A plain message: it counts if `put` took it. Its size.
    pub(crate) fn send(
        &mut self,
        apart: u32,
        frame: u32,
        mut put: impl FnMut(&Message) -> ringmain::Result<()>,
    ) -> ringmain::Result<u64> {
        let (_, mut message) = self.draft(apart, frame);
        match self.sabotage.as_ref().and_then(|(sabotage, way)| sabotage.strikes(*way)) {
            None => put(&message)?,
            Some(Fault::Drop) => {}
            Some(Fault::Duplicate) => {
                put(&message)?;
                put(&message)?;
            }
            Some(Fault::Corrupt) => {
                message.1.spoil();
                put(&message)?;
            }
            Some(Fault::Reorder) => {
                put(&self.draft_after(apart, frame, 1).1)?;
                put(&message)?;
                self.sent(apart);
            }
        }
        self.sent(apart);
        Ok(message.1.size())
    }

    /// How many were sent.
    pub(crate) fn next(&self, apart: u32) -> u64 {
        self.next.get(&apart).copied().unwrap_or(0)
    }

    /// How many of those must arrive.
    pub(crate) fn certain(&self) -> u64 {
        self.next(0) - self.gap
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}
