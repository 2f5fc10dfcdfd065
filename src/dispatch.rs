//! Messages in, actions out: call ids, deadlines, cancellation, limits. No memory, thread or clock.

#![forbid(unsafe_code)]

use crate::wire::{Envelope, Kind};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::Instant;

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run the listeners of the channel.
    Emit,
    /// Run the listeners; one of them answers the call.
    EmitSync { call: u64 },
    /// Run the handler of the channel.
    Call { call: u64 },
    /// A call of ours has its answer. One that is not waited for any more is no violation: it may have timed out.
    Complete { call: u64 },
    /// The caller does not want its answer any more.
    Cancel { call: u64 },
    /// The peer closes the link in order: nothing follows.
    Close,
}

/// What a message asks for, by its header alone.
pub(crate) fn action(envelope: &Envelope<'_>) -> Action {
    let call = envelope.call;
    match envelope.kind {
        Kind::Send => Action::Emit,
        Kind::SendSync => Action::EmitSync { call },
        Kind::Invoke => Action::Call { call },
        Kind::Reply | Kind::ReplyError => Action::Complete { call },
        Kind::Cancel => Action::Cancel { call },
        Kind::Close => Action::Close,
    }
}

/// The calls that wait for an answer.
#[derive(Debug)]
pub(crate) struct Calls<S> {
    next: u64,
    limit: usize,
    open: HashMap<u64, S>,
    closed: bool,
}

/// Why a call was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotBegun {
    /// So many wait already.
    TooMany { limit: usize },
    /// The link is gone.
    Closed,
}

impl<S> Calls<S> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { next: 1, limit, open: HashMap::new(), closed: false }
    }

    /// Begins a call; its id is never used twice on this link.
    pub(crate) fn begin(&mut self, slot: S) -> Result<u64, NotBegun> {
        if self.closed {
            return Err(NotBegun::Closed);
        }
        if self.open.len() >= self.limit {
            return Err(NotBegun::TooMany { limit: self.limit });
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, slot);
        Ok(id)
    }

    /// The call is over: answered, given up or not sent after all. `None` if it was already.
    pub(crate) fn end(&mut self, id: u64) -> Option<S> {
        self.open.remove(&id)
    }

    /// No call is answered any more: those that wait, oldest first.
    pub(crate) fn close(&mut self) -> Vec<S> {
        self.closed = true;
        let mut open: Vec<_> = std::mem::take(&mut self.open).into_iter().collect();
        open.sort_unstable_by_key(|(id, _)| *id);
        open.into_iter().map(|(_, slot)| slot).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.open.contains_key(&id)
    }
}

/// The peer's requests that run: async handlers, to be cancelled; and cancellations that came before their request was
/// looked at.
#[derive(Debug)]
pub(crate) struct Requests<R> {
    running: HashMap<u64, R>,
    unstarted: HashSet<u64>,
}

impl<R> Requests<R> {
    pub(crate) fn new() -> Self {
        Self { running: HashMap::new(), unstarted: HashSet::new() }
    }

    /// A request that waits in the inbox was cancelled behind it.
    pub(crate) fn cancel_unstarted(&mut self, id: u64) {
        self.unstarted.insert(id);
    }

    /// Whether the request is not to be started, because its cancellation is known already.
    pub(crate) fn is_cancelled(&mut self, id: u64) -> bool {
        !self.unstarted.is_empty() && self.unstarted.remove(&id)
    }

    /// The request runs on after its handler has returned. Gives the request back if the id is in use: a peer's fault.
    pub(crate) fn started(&mut self, id: u64, request: R) -> Result<(), R> {
        if self.running.contains_key(&id) {
            return Err(request);
        }
        self.running.insert(id, request);
        Ok(())
    }

    pub(crate) fn ended(&mut self, id: u64) {
        self.running.remove(&id);
    }

    /// The request to be cancelled, if it runs.
    pub(crate) fn cancel(&mut self, id: u64) -> Option<R> {
        self.unstarted.remove(&id);
        self.running.remove(&id)
    }

    pub(crate) fn cancel_all(&mut self) -> Vec<R> {
        self.unstarted.clear();
        std::mem::take(&mut self.running).into_values().collect()
    }
}

/// Deadlines of calls that nobody waits for but a future.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, u32, u64)>>,
}

/// Below this many entries the heap is not looked through for calls that are over.
const SWEEP_FROM: usize = 1024;

impl Deadlines {
    /// Adds a deadline. True if it is the earliest now: whoever sleeps until the earliest must be rung.
    pub(crate) fn add(&mut self, at: Instant, link: u32, call: u64) -> bool {
        let earliest = self.next().is_none_or(|next| at < next);
        self.heap.push(Reverse((at, link, call)));
        earliest
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next call whose deadline is over.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<(u32, u64)> {
        let Reverse((at, link, call)) = *self.heap.peek()?;
        (at <= now).then(|| {
            self.heap.pop();
            (link, call)
        })
    }

    /// Whether it is worth asking whether it is stale.
    pub(crate) fn is_long(&self) -> bool {
        self.heap.len() >= SWEEP_FROM
    }

    /// Whether most entries may belong to calls that are over, `live` of which are not.
    pub(crate) fn is_stale(&self, live: usize) -> bool {
        self.is_long() && self.heap.len() / 2 > live
    }

    pub(crate) fn retain(&mut self, mut is_live: impl FnMut(u32, u64) -> bool) {
        self.heap.retain(|Reverse((_, link, call))| is_live(*link, *call));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn envelope(kind: Kind, call: u64) -> Envelope<'static> {
        Envelope { kind, caller_awake: false, frame: 1, call, channel: "", sender: 0 }
    }

    #[test]
    fn each_kind_of_message_asks_for_its_action() {
        let table = [
            (Kind::Send, Action::Emit),
            (Kind::SendSync, Action::EmitSync { call: 7 }),
            (Kind::Invoke, Action::Call { call: 7 }),
            (Kind::Reply, Action::Complete { call: 7 }),
            (Kind::ReplyError, Action::Complete { call: 7 }),
            (Kind::Cancel, Action::Cancel { call: 7 }),
            (Kind::Close, Action::Close),
        ];
        for (kind, expected) in table {
            assert_eq!(action(&envelope(kind, 7)), expected, "{kind:?}");
        }
    }

    #[test]
    fn calls_get_ids_that_are_never_used_twice_and_end_once() {
        let mut calls = Calls::new(2);
        let (a, b) = (calls.begin("a").unwrap(), calls.begin("b").unwrap());
        assert_ne!(a, b);
        assert_eq!(calls.begin("c"), Err(NotBegun::TooMany { limit: 2 }));
        assert_eq!(calls.end(a), Some("a"));
        assert_eq!(calls.end(a), None);
        let c = calls.begin("c").unwrap();
        assert!(c > b);
        assert_eq!(calls.close(), ["b", "c"]);
        assert_eq!(calls.begin("d"), Err(NotBegun::Closed));
        assert_eq!(calls.end(c), None);
    }

    #[test]
    fn a_cancellation_finds_a_request_that_runs_or_keeps_one_from_starting() {
        let mut requests = Requests::new();
        requests.started(1, "one").unwrap();
        assert_eq!(requests.started(1, "again"), Err("again"));
        assert_eq!(requests.cancel(1), Some("one"));
        assert_eq!(requests.cancel(1), None);
        requests.cancel_unstarted(2);
        assert!(requests.is_cancelled(2));
        assert!(!requests.is_cancelled(2));
        requests.cancel_unstarted(3);
        assert_eq!(requests.cancel(3), None);
        assert!(!requests.is_cancelled(3), "a cancellation that was dispatched is forgotten");
    }

    #[test]
    fn deadlines_expire_in_order_and_say_when_the_earliest_changed() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        assert!(deadlines.add(at(20), 1, 1));
        assert!(!deadlines.add(at(30), 1, 2));
        assert!(deadlines.add(at(10), 2, 3));
        assert_eq!(deadlines.next(), Some(at(10)));
        assert_eq!(deadlines.expired(at(9)), None);
        assert_eq!(deadlines.expired(at(25)), Some((2, 3)));
        assert_eq!(deadlines.expired(at(25)), Some((1, 1)));
        assert_eq!(deadlines.expired(at(25)), None);
        for call in 0..2 * SWEEP_FROM as u64 {
            deadlines.add(at(40), 3, call);
        }
        assert!(deadlines.is_stale(1));
        deadlines.retain(|link, call| link == 3 && call == 5);
        assert!(!deadlines.is_stale(1));
        assert_eq!(deadlines.expired(at(50)), Some((3, 5)));
    }

    proptest::proptest! {
        /// Whatever order calls begin, end and are answered in: each is answered at most once, and nobody is forgotten.
        #[test]
        fn every_call_ends_exactly_once(steps in proptest::collection::vec((0u8..4, 0u64..40), 0..200)) {
            let mut calls = Calls::new(16);
            let mut open = std::collections::BTreeMap::new();
            for (step, value) in steps {
                match step {
                    0 | 1 => match calls.begin(value) {
                        Ok(id) => proptest::prop_assert!(open.insert(id, value).is_none()),
                        Err(NotBegun::TooMany { .. }) => proptest::prop_assert_eq!(open.len(), 16),
                        Err(NotBegun::Closed) => proptest::prop_assert!(false),
                    },
                    _ => proptest::prop_assert_eq!(calls.end(value), open.remove(&value)),
                }
                proptest::prop_assert_eq!(calls.len(), open.len());
            }
            let left: Vec<_> = open.into_values().collect();
            proptest::prop_assert_eq!(calls.close(), left);
        }
    }
}
