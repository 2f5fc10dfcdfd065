//! Messages in, actions out: call ids, deadlines, cancellation, limits. No memory, thread or clock.

#![forbid(unsafe_code)]

use crate::wire::{Envelope, Kind};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
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
    /// Hand the message on to a frame of another renderer.
    Forward { renderer: u32, frame: u32 },
    /// Hand the message on to the host of the renderer.
    ForwardToHost,
    /// Run the listeners of a host: a guest of it has sent the message.
    EmitFromGuest,
    /// The renderer has a frame more.
    OpenFrame { parent: u32 },
    /// The renderer has a frame less.
    CloseFrame,
}

/// What a message asks for, by its header alone.
pub(crate) fn action(envelope: &Envelope<'_>) -> Action {
    let call = envelope.call;
    match envelope.kind {
        Kind::Send | Kind::Routed => Action::Emit,
        Kind::SendSync => Action::EmitSync { call },
        Kind::Invoke => Action::Call { call },
        Kind::Reply | Kind::ReplyError => Action::Complete { call },
        Kind::Cancel => Action::Cancel { call },
        Kind::Close => Action::Close,
        Kind::SendTo => Action::Forward { renderer: envelope.peer, frame: envelope.peer_frame },
        Kind::SendToHost => Action::ForwardToHost,
        Kind::FromGuest => Action::EmitFromGuest,
        Kind::OpenFrame => Action::OpenFrame { parent: envelope.peer_frame },
        Kind::CloseFrame => Action::CloseFrame,
    }
}

/// The calls that wait for an answer.
#[derive(Debug)]
pub(crate) struct Calls<S> {
    next: u64,
    limit: usize,
    /// A call lies at its id modulo the length, a power of two; an id whose place is taken is passed over.
    places: Vec<Option<(u64, S)>>,
    len: usize,
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
        Self { next: 1, limit, places: Vec::new(), len: 0, closed: false }
    }

    #[inline]
    fn place(&self, id: u64) -> usize {
        id as usize & self.places.len().wrapping_sub(1)
    }

    /// Begins a call; its id is never used twice on this link.
    #[inline]
    pub(crate) fn begin(&mut self, slot: S) -> Result<u64, NotBegun> {
        if self.closed {
            return Err(NotBegun::Closed);
        }
        if self.len >= self.limit {
            return Err(NotBegun::TooMany { limit: self.limit });
        }
        if self.len >= self.places.len() / 2 {
            self.grow();
        }
        // Half of the places are free: a free one is near.
        loop {
            let id = self.next;
            self.next += 1;
            let place = self.place(id);
            if self.places[place].is_none() {
                self.places[place] = Some((id, slot));
                self.len += 1;
                return Ok(id);
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let more = (2 * self.places.len()).max(16);
        let old = std::mem::replace(&mut self.places, std::iter::repeat_with(|| None).take(more).collect());
        // Two that had places of their own have them in twice as many too.
        for (id, slot) in old.into_iter().flatten() {
            let place = self.place(id);
            self.places[place] = Some((id, slot));
        }
    }

    /// The call is over: answered, given up or not sent after all. `None` if it was already.
    #[inline]
    pub(crate) fn end(&mut self, id: u64) -> Option<S> {
        let place = self.place(id);
        let (_, slot) = self.places.get_mut(place)?.take_if(|(open, _)| *open == id)?;
        self.len -= 1;
        Some(slot)
    }

    /// Ends the calls that `is_over` names; their ids, oldest first.
    pub(crate) fn end_where(&mut self, is_over: impl Fn(&S) -> bool) -> Vec<(u64, S)> {
        let places = self.places.iter_mut();
        let mut over: Vec<_> = places.filter_map(|place| place.take_if(|(_, slot)| is_over(slot))).collect();
        self.len -= over.len();
        over.sort_unstable_by_key(|(id, _)| *id);
        over
    }

    /// No call is answered any more: those that wait, oldest first.
    pub(crate) fn close(&mut self) -> Vec<S> {
        self.closed = true;
        let over = self.end_where(|_| true);
        self.places = Vec::new();
        over.into_iter().map(|(_, slot)| slot).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.places.get(self.place(id)).is_some_and(|place| place.as_ref().is_some_and(|(open, _)| *open == id))
    }
}

/// The frame that every renderer has, and that is never closed as long as its link works.
pub(crate) const MAIN_FRAME: u32 = 1;

/// The most frames that a renderer may have open at once, its main frame included (PROTOCOL.md).
pub(crate) const MAX_FRAMES: usize = 4096;

/// The frames of one renderer, as both ends count them: numbers rise and are never used twice. `F` is what an end keeps
/// of an open one.
#[derive(Debug)]
pub(crate) struct Frames<F> {
    open: BTreeMap<u32, Frame<F>>,
    newest: u32,
}

#[derive(Debug)]
struct Frame<F> {
    parent: u32,
    kept: F,
}

/// Why a frame cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoFrame {
    TooMany,
    /// Its number is not the next one.
    NotNext {
        next: u32,
    },
    /// A frame of this number was never opened.
    NoParent {
        parent: u32,
    },
}

impl<F> Frames<F> {
    /// A renderer with its main frame.
    pub(crate) fn new(main_frame: F) -> Self {
        let main_frame = Frame { parent: 0, kept: main_frame };
        Self { open: BTreeMap::from([(MAIN_FRAME, main_frame)]), newest: MAIN_FRAME }
    }

    /// The number of the next frame, if there may be one.
    pub(crate) fn next(&self) -> Result<u32, NoFrame> {
        if self.open.len() >= MAX_FRAMES {
            return Err(NoFrame::TooMany);
        }
        self.newest.checked_add(1).ok_or(NoFrame::TooMany)
    }

    /// Opens the [next](Self::next) frame. Its parent may have been closed meanwhile.
    pub(crate) fn open(&mut self, id: u32, parent: u32, kept: F) -> Result<(), NoFrame> {
        let next = self.next()?;
        if id != next {
            return Err(NoFrame::NotNext { next });
        }
        if !self.was_opened(parent) {
            return Err(NoFrame::NoParent { parent });
        }
        self.open.insert(id, Frame { parent, kept });
        self.newest = id;
        Ok(())
    }

    /// Closes a frame; what was kept of it, if it was open. The main frame stays.
    pub(crate) fn close(&mut self, id: u32) -> Option<F> {
        if id == MAIN_FRAME {
            return None;
        }
        self.open.remove(&id).map(|frame| frame.kept)
    }

    /// All that is kept; no frame is open any more.
    pub(crate) fn close_all(&mut self) -> Vec<F> {
        std::mem::take(&mut self.open).into_values().map(|frame| frame.kept).collect()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&F> {
        self.open.get(&id).map(|frame| &frame.kept)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut F> {
        self.open.get_mut(&id).map(|frame| &mut frame.kept)
    }

    pub(crate) fn is_open(&self, id: u32) -> bool {
        self.open.contains_key(&id)
    }

    /// Whether it is open or was once.
    pub(crate) fn was_opened(&self, id: u32) -> bool {
        (MAIN_FRAME..=self.newest).contains(&id)
    }

    /// The frame in which an open one was opened; `None` for the main frame.
    pub(crate) fn parent(&self, id: u32) -> Option<u32> {
        self.open.get(&id).map(|frame| frame.parent).filter(|parent| *parent != 0)
    }

    /// The open frames, in the order in which they were opened.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.open.keys().copied().collect()
    }

    /// An open frame and the open ones below it, those opened last first.
    pub(crate) fn subtree(&self, top: u32) -> Vec<u32> {
        // Numbers rise: a parent comes before its children.
        let mut below = BTreeSet::new();
        for (id, frame) in &self.open {
            if *id == top || below.contains(&frame.parent) {
                below.insert(*id);
            }
        }
        below.into_iter().rev().collect()
    }
}

/// The peer's requests that run: async handlers, to be cancelled; and cancellations that came before their request was
/// looked at.
#[derive(Debug)]
pub(crate) struct Requests<R> {
    /// By their ids, with the frame that asked.
    running: HashMap<u64, (u32, R)>,
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

    /// Whether there are cancellations of requests that were not looked at.
    pub(crate) fn has_unstarted(&self) -> bool {
        !self.unstarted.is_empty()
    }

    /// The request runs on after its handler has returned. Gives the request back if the id is in use: a peer's fault.
    pub(crate) fn started(&mut self, id: u64, frame: u32, request: R) -> Result<(), R> {
        if self.running.contains_key(&id) {
            return Err(request);
        }
        self.running.insert(id, (frame, request));
        Ok(())
    }

    /// A request has ended; another one may have its id meanwhile, once this one was cancelled.
    pub(crate) fn ended(&mut self, id: u64, is_it: impl FnOnce(&R) -> bool) {
        if self.running.get(&id).is_some_and(|(_, request)| is_it(request)) {
            self.running.remove(&id);
        }
    }

    /// The request to be cancelled, if it runs.
    pub(crate) fn cancel(&mut self, id: u64) -> Option<R> {
        self.unstarted.remove(&id);
        self.running.remove(&id).map(|(_, request)| request)
    }

    /// The requests of a frame that is closed.
    pub(crate) fn cancel_of(&mut self, frame: u32) -> Vec<R> {
        self.running.extract_if(|_, (of, _)| *of == frame).map(|(_, (_, request))| request).collect()
    }

    pub(crate) fn cancel_all(&mut self) -> Vec<R> {
        self.unstarted.clear();
        std::mem::take(&mut self.running).into_values().map(|(_, request)| request).collect()
    }
}

/// Deadlines of calls that nobody waits for but a future.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, u32, u64)>>,
    /// How many were left when they were last looked through.
    kept: usize,
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
        self.heap.len() >= SWEEP_FROM.max(2 * self.kept)
    }

    /// Whether most entries may belong to calls that are over, `live` of which are not. If not, it is not worth asking before
    /// there are twice as many.
    pub(crate) fn is_stale(&mut self, live: usize) -> bool {
        let is_stale = self.is_long() && self.heap.len() / 2 > live;
        if !is_stale {
            self.kept = self.heap.len();
        }
        is_stale
    }

    pub(crate) fn retain(&mut self, mut is_live: impl FnMut(u32, u64) -> bool) {
        self.heap.retain(|Reverse((_, link, call))| is_live(*link, *call));
        self.kept = self.heap.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn envelope(kind: Kind, call: u64) -> Envelope<'static> {
        Envelope { kind, caller_awake: false, frame: 1, call, channel: "", peer: 8, peer_frame: 9 }
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
            (Kind::SendTo, Action::Forward { renderer: 8, frame: 9 }),
            (Kind::Routed, Action::Emit),
            (Kind::SendToHost, Action::ForwardToHost),
            (Kind::FromGuest, Action::EmitFromGuest),
            (Kind::OpenFrame, Action::OpenFrame { parent: 9 }),
            (Kind::CloseFrame, Action::CloseFrame),
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
    fn the_calls_that_are_named_end_and_the_others_go_on() {
        let mut calls = Calls::new(9);
        let ids = [7, 8, 7, 9].map(|slot| calls.begin(slot).unwrap());
        assert_eq!(calls.end_where(|slot| *slot == 7), [(ids[0], 7), (ids[2], 7)]);
        assert_eq!(calls.end_where(|slot| *slot == 7), []);
        assert_eq!((calls.end(ids[0]), calls.end(ids[1])), (None, Some(8)));
        assert_eq!(calls.close(), [9]);
    }

    #[test]
    fn frames_have_rising_numbers_and_a_parent_that_was_there() {
        let mut frames = Frames::new("main");
        assert_eq!(frames.next(), Ok(2));
        assert_eq!(frames.open(3, 1, "x"), Err(NoFrame::NotNext { next: 2 }));
        assert_eq!(frames.open(1, 1, "x"), Err(NoFrame::NotNext { next: 2 }));
        assert_eq!(frames.open(2, 2, "x"), Err(NoFrame::NoParent { parent: 2 }));
        assert_eq!(frames.open(2, 0, "x"), Err(NoFrame::NoParent { parent: 0 }));
        frames.open(2, 1, "two").unwrap();
        frames.open(3, 2, "three").unwrap();
        frames.open(4, 1, "four").unwrap();
        assert_eq!((frames.parent(3), frames.parent(1)), (Some(2), None));
        assert_eq!(frames.subtree(2), [3, 2]);
        assert_eq!(frames.subtree(1), [4, 3, 2, 1]);
        assert_eq!(frames.close(2), Some("two"));
        assert_eq!(frames.close(2), None);
        assert_eq!((frames.is_open(2), frames.was_opened(2), frames.was_opened(5)), (false, true, false));
        assert_eq!(frames.open(5, 2, "five"), Ok(()), "its parent was closed meanwhile");
        assert_eq!(frames.ids(), [1, 3, 4, 5]);
        assert_eq!(frames.close(1), None, "the main frame stays");
        assert_eq!(frames.get(1), Some(&"main"));
        assert_eq!(frames.close_all(), ["main", "three", "four", "five"]);
        assert!(!frames.is_open(1));
    }

    #[test]
    fn as_many_frames_as_the_protocol_allows_may_be_open_and_numbers_end() {
        let mut frames = Frames::new(());
        for _ in 1..MAX_FRAMES {
            frames.open(frames.next().unwrap(), 1, ()).unwrap();
        }
        assert_eq!(frames.next(), Err(NoFrame::TooMany));
        assert_eq!(frames.open(4097, 1, ()), Err(NoFrame::TooMany));
        frames.close(7);
        assert_eq!(frames.next(), Ok(4097));
        let mut last = Frames { newest: u32::MAX, ..Frames::new(()) };
        assert_eq!(last.open(1, 1, ()), Err(NoFrame::TooMany));
    }

    #[test]
    fn a_cancellation_finds_a_request_that_runs_or_keeps_one_from_starting() {
        let mut requests = Requests::new();
        requests.started(1, 1, "one").unwrap();
        assert_eq!(requests.started(1, 1, "again"), Err("again"));
        assert_eq!(requests.cancel(1), Some("one"));
        assert_eq!(requests.cancel(1), None);
        requests.cancel_unstarted(2);
        assert!(requests.is_cancelled(2));
        assert!(!requests.is_cancelled(2));
        requests.cancel_unstarted(3);
        assert_eq!(requests.cancel(3), None);
        assert!(!requests.is_cancelled(3), "a cancellation that was dispatched is forgotten");
        requests.started(4, 2, "four").unwrap();
        requests.started(5, 3, "five").unwrap();
        assert_eq!(requests.cancel_of(2), ["four"]);
        assert_eq!((requests.cancel(4), requests.cancel(5)), (None, Some("five")));
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
