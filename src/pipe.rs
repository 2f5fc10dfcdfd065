//! Rings and wakes joined: one duplex pipe of byte messages between two processes.
//!
//! Sending never waits: what finds no room goes into a bounded queue, which is drained by whoever takes the producer
//! lock, by whoever waits, and by the dispatcher when nobody waits. Reading belongs to the holder of the role; a caller
//! that waits takes it and reads for everybody (`wait_until`). The role is never held, and no lock is held, while code
//! runs that is not ours: `route` only moves messages, `settle` runs with nothing held.
//!
//! | who | announces itself | is rung by | also wakes for |
//! |---|---|---|---|
//! | dispatcher | `DISPATCHER`, written by whoever leaves the role last | the peer's writer, the peer's reader when it made room | its private bell |
//! | leading caller | `CALLER` | the same | its private bell |
//! | following caller | nothing | | its private bell: reply, role passed on, gone |

use crate::failpoint;
use crate::layout::{Layout, direction};
use crate::region::{OutOfRegion, Region, Words};
use crate::ring::{self, Kind, Reader, WriteError, Writer};
use crate::role::{Held, Role};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, Part, fence, is_left_out};
use crate::wake::{self, Bell, Next, Own, Peer, Sleep, Spin, Wish};
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A limit in bytes shared by everything in this process that waits: queues, inboxes, half-assembled messages.
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Takes `bytes` if they fit.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        // Never above the limit for a moment: that would refuse others who fit.
        let take = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Takes `bytes` for a message that waits; one that is sent on behalf of another peer may not take the second half.
    pub(crate) fn take_for(&self, bytes: usize, routed: bool) -> Result<(), SendError> {
        let (used, limit) = (self.used(), self.limit);
        if routed && used > limit / 2 {
            return Err(SendError::ShareFull { used, limit: limit / 2 });
        }
        if self.take(bytes) { Ok(()) } else { Err(SendError::ProcessFull { used, limit }) }
    }

    /// Whether `bytes` would fit now beside all but `own` of what is used.
    fn has_room(&self, bytes: usize, own: usize) -> bool {
        self.used().saturating_sub(own).checked_add(bytes).is_some_and(|sum| sum <= self.limit)
    }

    /// Takes `bytes` without asking: for what is small, bounded elsewhere, and must not be lost.
    pub(crate) fn force(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}

/// Why a message was not taken. Nothing of it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SendError {
    /// So much waits already.
    Full { queued: usize, limit: usize },
    /// The limit of the whole process is reached.
    ProcessFull { used: usize, limit: usize },
    /// The part of either limit that is for messages of other peers is used up.
    ShareFull { used: usize, limit: usize },
    /// The peer is gone.
    Gone,
    /// The peer's head is impossible.
    Corrupt(ring::Corrupt),
}

/// How a message is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SendMode {
    /// A reply whose caller said that it is awake: its process is not rung unless its announcement says so.
    pub(crate) quiet: bool,
    /// Taken beyond the limit: for what is small and bounded by something else.
    pub(crate) beyond_limit: bool,
    /// On behalf of another peer: of such messages no more may wait than [`ROUTED_SHARE`] of the limits, so that one
    /// peer cannot use up the room that this process needs for another.
    pub(crate) routed: bool,
}

/// How often one that is awake looks for room before it asks to be rung, and rings whoever sleeps over there: where nobody
/// reads, a reply that was sent quietly must wake a reader.
const LOOKS_FOR_ROOM: u32 = if cfg!(loom) { 1 } else { 256 };

/// Chunks that are read at once. An honest large message has few; one that comes byte by byte, as fast as it is read, would
/// keep the reader from everybody else.
const CHUNKS_AT_ONCE: u32 = 32;

/// Bytes that are reserved for a large message when it begins, beside [`ring::APART`]; more as it arrives.
const RESERVE: usize = 1 << 20;

/// What is sent on behalf of other peers may use this part of a queue.
const ROUTED_SHARE: usize = 4;

impl SendMode {
    /// Whether a queue takes a message, where `queued` bytes wait, `routed` of them on behalf of other peers. What waits
    /// counts, so an empty queue, and an empty share, takes any legal message; and what others have sent does not count
    /// against us.
    pub(crate) fn check(self, queued: usize, routed: usize, limit: usize) -> Result<(), SendError> {
        let (used, share) = (queued - routed, limit / ROUTED_SHARE);
        match self.routed {
            true if routed > 0 && routed >= share => Err(SendError::ShareFull { used: routed, limit: share }),
            false if used >= limit => Err(SendError::Full { queued: used, limit }),
            _ => Ok(()),
        }
    }
}

/// What the peer broke. The link is to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    Ring(ring::Corrupt),
    /// It woke a sleeper over and over, but there was neither a message nor room.
    RungForNothing,
    /// A chunk of a message that was never begun.
    StrayChunk,
    /// A message begun within another.
    Interrupted {
        have: usize,
        whole: usize,
    },
    /// A message longer than agreed.
    TooLong {
        len: u64,
        limit: usize,
    },
    /// Chunks that are empty or longer than the message they belong to.
    ChunkLength {
        have: usize,
        chunk: usize,
        whole: usize,
    },
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Violation::Ring(corrupt) => corrupt.fmt(f),
            Violation::RungForNothing => {
                write!(f, "it rang {RINGS_FOR_NOTHING} times for nothing")
            }
            Violation::StrayChunk => write!(f, "a chunk arrived that belongs to no message"),
            Violation::Interrupted { have, whole } => {
                write!(f, "a message began while another had {have} of its {whole} bytes")
            }
            Violation::TooLong { len, limit } => {
                write!(f, "a message of {len} bytes began, {limit} are agreed")
            }
            Violation::ChunkLength { have, chunk, whole } => {
                write!(f, "a chunk of {chunk} bytes arrived for a message that has {have} of {whole}")
            }
        }
    }
}

struct Queued {
    bytes: Vec<u8>,
    mode: SendMode,
    /// Bytes that are in the ring already; 0 before the first chunk.
    sent: usize,
}

/// The sending half, behind the producer lock.
pub(crate) struct Tx {
    writer: Writer,
    queue: VecDeque<Queued>,
    /// Bytes of `queue` not yet in the ring.
    queued: usize,
    /// Those of them that are sent on behalf of other peers.
    routed: usize,
    /// The largest record.
    chunk: usize,
    /// Memory of the last large message, which goes to whoever sends the next one.
    spare: Vec<u8>,
    /// Memory of small messages that have left the queue, likewise: a flood queues and drains one a message.
    small_spares: Vec<Vec<u8>>,
    /// We said that we want room, looked once more, and found none.
    wanting: bool,
    /// How often we have looked again since.
    looks: u32,
    /// The writer's position when whoever sleeps over there was last rung because we want room: for what lies before it, it
    /// need not be rung again.
    rung_at: Option<u64>,
    sent: Sent,
}

impl Tx {
    /// Keeps the memory of a message that has left the queue for one that is sent later.
    #[inline]
    fn keep(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() <= SMALL_SPARE {
            if self.small_spares.len() < SMALL_SPARES {
                bytes.clear();
                self.small_spares.push(bytes);
            }
        } else if is_worth_keeping(&bytes) {
            bytes.clear();
            self.spare = bytes;
        }
    }
}

/// Memory of up to this size is kept in numbers.
const SMALL_SPARE: usize = 1024;
const SMALL_SPARES: usize = 32;

/// The most memory that is kept for a later message.
const KEEP: usize = 2 << 20;

/// Up to this size memory is kept in any case.
pub(crate) const SMALL: usize = 64 << 10;

/// Whether the memory of a message is kept for later ones: not if it is large, nor if the message was small in it, so that
/// who has sent a large message once does not keep its memory for ever. An empty one has not served yet.
pub(crate) fn is_worth_keeping(message: &Vec<u8>) -> bool {
    let (len, capacity) = (message.len(), message.capacity());
    capacity <= SMALL || (capacity <= KEEP && (len == 0 || len >= capacity / 8))
}

/// What was handed to the ring or its queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Sent {
    fn count(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// The reading half, which belongs to the role.
pub(crate) struct Rx {
    reader: Reader,
    /// The message that is being assembled from chunks.
    assembly: Vec<u8>,
    /// Its whole length; 0 when none is.
    whole: usize,
    max_message: usize,
    /// The head when the peer's last wish for room was answered.
    answered: u64,
}

/// The role, held: the right to read.
pub(crate) type Lead<'a> = Held<'a, Rx>;

/// What reading one message gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// A message.
    Message,
    /// Nothing more lies in the ring.
    Nothing,
    /// A part of a large message: more lies there, but others have their turn first.
    Part,
    /// A large message begins, but the process's budget has no room for it now; or no memory is to be had for what arrives.
    NoBudget,
}

/// What became of a message that a leading caller read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routed {
    /// Handed to a slot or an inbox.
    Moved,
    /// The same, and `settle` has something to do before more is read: wakers.
    Settle,
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Waited {
    Done,
    TimedOut,
    /// The peer is gone and nothing of it is left in the ring.
    Gone,
    Violation(Violation),
}

/// What a waiting thread brings along.
pub(crate) trait Waiter {
    /// Whether what it waits for has come.
    fn is_done(&mut self) -> bool;
    /// Takes a message that was read, with the role held: moves it, runs no foreign code. May leave another buffer.
    fn route(&mut self, message: &mut Vec<u8>) -> Routed;
    /// Whether another message may be read: false while the dispatcher's inbox is full.
    fn may_read(&mut self) -> bool;
    /// Runs what `route` left over, with nothing held.
    fn settle(&mut self);
    /// The thread is about to follow or to sleep: whoever ends what it waits for has to ring `bell`. It looks once more
    /// whether it is done.
    fn sleeps(&mut self, bell: &Arc<Bell>);
}

/// What a pipe is made of.
pub(crate) struct Parts {
    pub(crate) region: Arc<Region>,
    pub(crate) layout: Layout,
    pub(crate) is_main: bool,
    /// How our dispatcher sleeps: [`wake::BY_EVENTFD`] or 0.
    pub(crate) dispatcher_form: u32,
    /// The eventfd of the peer's dispatcher.
    #[cfg(not(loom))]
    pub(crate) peer_event: Option<crate::sys::EventFd>,
    /// The private bell of our dispatcher.
    pub(crate) dispatcher: Arc<Bell>,
    pub(crate) sleep: Sleep,
    pub(crate) budget: Arc<Budget>,
    /// Bytes that may wait in the queue.
    pub(crate) queue_limit: usize,
    /// The longest message that may arrive.
    pub(crate) max_message: usize,
}

#[cfg(all(any(test, fuzzing), not(loom)))]
impl Parts {
    /// Those of an end within this process, whose dispatcher sleeps in a futex.
    pub(crate) fn in_process(
        region: &Arc<Region>,
        layout: Layout,
        is_main: bool,
        sleep: Sleep,
        budget: &Arc<Budget>,
        [queue_limit, max_message]: [usize; 2],
    ) -> Self {
        Self {
            region: region.clone(),
            layout,
            is_main,
            dispatcher_form: 0,
            peer_event: None,
            dispatcher: Bell::new(),
            sleep,
            budget: budget.clone(),
            queue_limit,
            max_message,
        }
    }
}

/// One end of a link's two rings.
pub(crate) struct Pipe {
    /// Apart from what the reading thread writes.
    tx: CachePadded<Mutex<Tx>>,
    /// `Tx::queued`, to be looked at without the lock.
    queued: AtomicUsize,
    /// `Tx::routed`, likewise.
    routed: AtomicUsize,
    queue_limit: usize,
    rx: CachePadded<Role<Rx>>,
    /// What is read from, to be looked at without the role.
    incoming: Words,
    /// Where its last holder stopped.
    read_to: CachePadded<AtomicU64>,
    own: Own,
    peer: Peer,
    gone: AtomicBool,
    dispatcher: Arc<Bell>,
    dispatcher_form: u32,
    /// The dispatcher was rung for this link and not for another: it turns many.
    touched: AtomicBool,
    /// What was read in part, and the shared memory, are to be given back by whoever has the role next.
    to_be_discarded: AtomicBool,
    /// Bells of the callers that follow or sleep.
    callers: Mutex<VecDeque<Arc<Bell>>>,
    /// Callers that wait for room in the queue: rung when some of it was drained.
    room_waiters: AtomicUsize,
    /// Calls that no thread waits for, but a future: while there are any the dispatcher must be rung for replies.
    unattended: AtomicUsize,
    sleep: Sleep,
    budget: Arc<Budget>,
    region: Arc<Region>,
}

impl Pipe {
    pub(crate) fn new(parts: Parts) -> Result<Self, OutOfRegion> {
        let Parts { region, layout, is_main, .. } = parts;
        let (out, into) = (layout.block(is_main), layout.block(!is_main));
        let place = |written_by_main: bool| {
            if written_by_main { layout.to_renderer } else { layout.to_main }
        };
        let (out_ring, in_ring) = (place(is_main), place(!is_main));
        let writer = Writer::new(region.words(out_ring.offset, out_ring.words)?, region.word64(out + direction::HEAD)?);
        let reader = Reader::new(region.words(in_ring.offset, in_ring.words)?, region.word64(into + direction::HEAD)?);
        Ok(Self {
            tx: CachePadded::new(Mutex::new(Tx {
                writer,
                queue: VecDeque::new(),
                queued: 0,
                routed: 0,
                chunk: ring::max_chunk(out_ring.words),
                spare: Vec::new(),
                small_spares: Vec::new(),
                wanting: false,
                looks: 0,
                rung_at: None,
                sent: Sent::default(),
            })),
            queued: AtomicUsize::new(0),
            routed: AtomicUsize::new(0),
            queue_limit: parts.queue_limit,
            rx: CachePadded::new(Role::new(Rx {
                reader,
                assembly: Vec::new(),
                whole: 0,
                max_message: parts.max_message,
                answered: 0,
            })),
            incoming: region.words(in_ring.offset, in_ring.words)?,
            read_to: CachePadded::new(AtomicU64::new(0)),
            own: Own {
                sleeper: region.word32(into + direction::SLEEPER)?,
                dispatcher: region.word32(into + direction::DISPATCHER)?,
                caller: region.word32(into + direction::CALLER)?,
                peer_wants_room: region.word32(into + direction::WANTS_ROOM)?,
            },
            peer: Peer {
                sleeper: region.word32(out + direction::SLEEPER)?,
                dispatcher: region.word32(out + direction::DISPATCHER)?,
                caller: region.word32(out + direction::CALLER)?,
                wants_room: region.word32(out + direction::WANTS_ROOM)?,
                #[cfg(not(loom))]
                event: parts.peer_event,
            },
            gone: AtomicBool::new(false),
            dispatcher: parts.dispatcher,
            dispatcher_form: parts.dispatcher_form,
            touched: AtomicBool::new(false),
            to_be_discarded: AtomicBool::new(false),
            callers: Mutex::new(VecDeque::new()),
            room_waiters: AtomicUsize::new(0),
            unattended: AtomicUsize::new(0),
            sleep: parts.sleep,
            budget: parts.budget,
            region,
        })
    }

    // ---- sending ------------------------------------------------------------------------------------------------

    /// Bytes that wait in the queue. May change at any time.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        // Acquire: whoever sees an empty queue sees why, the death of the peer for one.
        self.queued.load(Ordering::Acquire)
    }

    /// Those of them that are not sent on behalf of other peers: what our limit and the pause of the peer go by.
    pub(crate) fn queued_by_us(&self) -> usize {
        self.queued().saturating_sub(self.routed.load(Ordering::Relaxed))
    }

    /// What was taken so far.
    pub(crate) fn sent(&self) -> Sent {
        self.tx.lock().sent
    }

    /// Bytes that may wait.
    pub(crate) fn queue_limit(&self) -> usize {
        self.queue_limit
    }

    /// Takes one message whole or refuses it whole; never waits. The buffer's content is taken where the message has to
    /// queue, else the buffer is untouched. One system call if somebody of the peer's sleeps.
    #[inline]
    pub(crate) fn send(&self, message: &mut Vec<u8>, mode: SendMode) -> Result<(), SendError> {
        if self.is_gone() {
            return Err(SendError::Gone);
        }
        let mut tx = self.tx.lock();
        if tx.queue.is_empty() && message.len() <= tx.chunk {
            match tx.writer.reserve(message.len()) {
                Ok(mut record) => {
                    failpoint::reached("record reserved");
                    record.write(0, message);
                    failpoint::reached("record written");
                    record.commit(Kind::Whole);
                    failpoint::reached("record committed");
                    let ring = self.peer.after_publish(mode.quiet);
                    tx.sent.count(message.len());
                    drop(tx);
                    failpoint::reached("announcement taken");
                    if let Some(ring) = ring {
                        self.peer.ring(ring);
                    }
                    failpoint::reached("peer rung");
                    return Ok(());
                }
                Err(WriteError::Corrupt(_)) if self.is_gone() => return Err(SendError::Gone),
                Err(WriteError::Corrupt(corrupt)) => return Err(SendError::Corrupt(corrupt)),
                Err(WriteError::Full | WriteError::TooLarge) => {}
            }
        }
        let result = self.send_queued(&mut tx, message, mode);
        drop(tx);
        self.tell_drained();
        match result {
            // Begun before the end of the link, whose memory was given back meanwhile: there is no head any more.
            Err(SendError::Corrupt(_)) if self.is_gone() => Err(SendError::Gone),
            result => result,
        }
    }

    #[cold]
    fn send_queued(&self, tx: &mut Tx, message: &mut Vec<u8>, mode: SendMode) -> Result<(), SendError> {
        // Once more, with the lock: what came here after `discard` would stay, with its part of the budget.
        if self.is_gone() {
            return Err(SendError::Gone);
        }
        self.drain(tx, Wish::Ring).map_err(SendError::Corrupt)?;
        if mode.beyond_limit {
            self.budget.force(message.len());
        } else {
            mode.check(tx.queued, tx.routed, self.queue_limit)?;
            self.budget.take_for(message.len(), mode.routed)?;
        }
        tx.sent.count(message.len());
        tx.queued += message.len();
        tx.routed += if mode.routed { message.len() } else { 0 };
        let spare = match message.capacity() <= SMALL_SPARE {
            true => tx.small_spares.pop().unwrap_or_default(),
            false => std::mem::take(&mut tx.spare),
        };
        let bytes = std::mem::replace(message, spare);
        tx.queue.push_back(Queued { bytes, mode, sent: 0 });
        self.show_queued(tx);
        failpoint::reached("message queued");
        self.drain(tx, Wish::Ring).map(|_| ()).map_err(SendError::Corrupt)
    }

    /// Moves what waits into the ring as far as there is room, and rings. Returns whether anything moved.
    ///
    /// Where there is no room: who comes back soon (`Wish::Look`) is not rung for it, and rings nobody who sleeps beside a
    /// caller that reads; but not without end. Nor where our own leading caller sleeps: it is to be rung, whatever the
    /// dispatcher that drains here runs next. The lock makes that look enough: that caller announces itself, then drains.
    fn drain(&self, tx: &mut Tx, mut wish: Wish) -> Result<bool, ring::Corrupt> {
        if wish == Wish::Look && (tx.looks >= LOOKS_FOR_ROOM || self.a_caller_sleeps()) {
            wish = Wish::Ring;
        }
        let mut moved = false;
        let mut asked = false;
        while let Some(front) = tx.queue.front_mut() {
            let left = front.bytes.len() - front.sent;
            let whole = front.sent == 0 && left <= tx.chunk;
            let prefix = if front.sent == 0 && !whole { 8 } else { 0 };
            // The ring's part of a large message: full chunks, and what is left.
            let part = left.min(tx.chunk - prefix);
            match tx.writer.reserve_part(part + prefix, front.bytes.len()) {
                Ok(mut record) => {
                    failpoint::reached("part reserved");
                    record.write(prefix, &front.bytes[front.sent..front.sent + part]);
                    if prefix != 0 {
                        record.write(0, &(front.bytes.len() as u64).to_le_bytes());
                    }
                    failpoint::reached("part written");
                    record.commit(match (whole, front.sent) {
                        (true, _) => Kind::Whole,
                        (false, 0) => Kind::First,
                        (false, _) => Kind::More,
                    });
                    failpoint::reached("part committed");
                    front.sent += part;
                    tx.queued -= part;
                    tx.routed -= if front.mode.routed { part } else { 0 };
                    tx.looks = 0;
                    self.budget.give_back(part);
                    let quiet = front.mode.quiet;
                    if part == left
                        && let Some(Queued { bytes, .. }) = tx.queue.pop_front()
                    {
                        tx.keep(bytes);
                    }
                    moved = true;
                    // A large message is read while it is written: ring for its first chunk, not for its last.
                    if let Some(ring) = self.peer.after_publish(quiet) {
                        self.peer.ring(ring);
                    }
                }
                Err(WriteError::Corrupt(corrupt)) => return Err(corrupt),
                // Said already, and the peer has not taken it: its ring will come.
                Err(WriteError::Full | WriteError::TooLarge) if tx.wanting && self.peer.is_wanting(wish) => {
                    tx.looks += 1;
                    self.show_queued(tx);
                    return Ok(moved);
                }
                Err(WriteError::Full | WriteError::TooLarge) if asked => {
                    tx.wanting = true;
                    if wish == Wish::Ring {
                        self.ring_to_read(tx);
                    }
                    self.show_queued(tx);
                    return Ok(moved);
                }
                Err(WriteError::Full | WriteError::TooLarge) => {
                    // Visible before the fence in `want_room`, so that a dispatcher that is about to sleep sees it.
                    self.show_queued(tx);
                    self.peer.want_room(wish);
                    failpoint::reached("room wanted");
                    tx.wanting = false;
                    asked = true;
                    continue;
                }
            }
            asked = false;
        }
        tx.wanting = false;
        tx.looks = 0;
        self.peer.has_room();
        self.show_queued(tx);
        Ok(moved)
    }

    /// Whether a leading caller of ours sleeps, or has just been woken.
    fn a_caller_sleeps(&self) -> bool {
        self.own.has_sleeping_caller() && !is_left_out(Part::WishBesideACaller)
    }

    /// Who sleeps over there has not been rung for quiet replies: now it must read. Once for what is written: since then it has
    /// looked at all of that, and it rings when it has read some. Two ends that are both full and may not read for now would
    /// ring each other again and again.
    #[cold]
    fn ring_to_read(&self, tx: &mut Tx) {
        let position = Some(tx.writer.position());
        if tx.rung_at == position || (is_left_out(Part::SecondRing) && tx.rung_at.is_some()) {
            return;
        }
        tx.rung_at = position;
        if let Some(ring) = self.peer.take() {
            self.peer.ring(ring);
        }
    }

    /// The calling thread is about to look at [`queued`](Self::queued) and to wait until it falls.
    pub(crate) fn begin_to_wait_for_room(&self) {
        self.room_waiters.fetch_add(1, Ordering::SeqCst);
        // [drained/wait] pairs with the fence in `tell_drained`.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn end_to_wait_for_room(&self) {
        self.room_waiters.fetch_sub(1, Ordering::SeqCst);
    }

    /// Something of the queue was drained: whoever follows and waits for that looks again.
    fn tell_drained(&self) {
        // [drained/wait] pairs with the fence in `begin_to_wait_for_room`.
        fence(Ordering::SeqCst);
        if self.room_waiters.load(Ordering::Relaxed) > 0 {
            self.ring_callers();
        }
    }

    /// What waits, for those who do not hold the lock: not 0 while a message waits, not even for one without bytes.
    fn show_queued(&self, tx: &Tx) {
        self.routed.store(tx.routed, Ordering::Relaxed);
        let queued = if tx.queue.is_empty() { 0 } else { tx.queued.max(1) };
        self.queued.store(queued, Ordering::Relaxed);
    }

    /// Drains the queue if anything waits; for who is awake and comes back soon. Returns whether anything moved.
    #[inline]
    pub(crate) fn drain_queue(&self) -> Result<bool, Violation> {
        self.drain_queue_and(Wish::Look)
    }

    #[inline]
    fn drain_queue_and(&self, wish: Wish) -> Result<bool, Violation> {
        if self.queued() == 0 {
            return Ok(false);
        }
        let moved = self.drain(&mut self.tx.lock(), wish).map_err(Violation::Ring)?;
        if moved {
            self.tell_drained();
        }
        Ok(moved)
    }

    // ---- the role -----------------------------------------------------------------------------------------------

    /// Whether something lies in the ring that nobody reads, as far as can be seen without the role. Whoever holds that reads
    /// on, or rings the dispatcher when it leaves.
    #[inline]
    pub(crate) fn has_arrived(&self) -> bool {
        !self.rx.is_held() && self.incoming.at(self.read_to.load(Ordering::Relaxed)).load(Ordering::Relaxed) != 0
    }

    /// Whether our dispatcher's announcement stands: then whoever writes rings it.
    #[inline]
    pub(crate) fn is_announced(&self) -> bool {
        self.own.announced() == self.announcement()
    }

    /// Gives the role back. Whether it has to be passed on.
    #[must_use = "a wanted role has to be passed on"]
    #[inline]
    fn release_role(&self, rx: Held<'_, Rx>) -> bool {
        self.read_to.store(rx.position(), Ordering::Relaxed);
        rx.release()
    }

    /// Takes the role if it is free.
    #[inline]
    pub(crate) fn try_lead(&self) -> Option<Held<'_, Rx>> {
        self.rx.try_take()
    }

    /// Takes the role if it is free, or leaves word that it is wanted.
    pub(crate) fn lead_or_want(&self) -> Option<Held<'_, Rx>> {
        self.rx.take_or_want()
    }

    /// Reads the next message into `message`, whose content is replaced. Makes room on the way.
    #[inline]
    pub(crate) fn read(&self, rx: &mut Rx, message: &mut Vec<u8>) -> Result<Read, Violation> {
        let mut chunks = 0;
        loop {
            let Some(record) = rx.reader.peek().map_err(Violation::Ring)? else {
                self.publish_head(rx);
                return Ok(Read::Nothing);
            };
            failpoint::reached("record seen");
            match record.kind {
                Kind::Whole => {
                    if rx.whole != 0 {
                        return Err(rx.interrupted());
                    }
                    if record.len > rx.max_message {
                        return Err(Violation::TooLong { len: record.len as u64, limit: rx.max_message });
                    }
                    message.clear();
                    rx.reader.append_to(record, 0, message);
                    failpoint::reached("record copied");
                    self.release(rx, record);
                    return Ok(Read::Message);
                }
                Kind::First => {
                    if rx.whole != 0 {
                        return Err(rx.interrupted());
                    }
                    let len = if record.len > 8 { rx.reader.word(0) } else { 0 };
                    if len > rx.max_message as u64 {
                        return Err(Violation::TooLong { len, limit: rx.max_message });
                    }
                    let whole = len as usize;
                    if record.len <= 8 || record.len - 8 >= whole {
                        return Err(Violation::ChunkLength { have: 0, chunk: record.len.saturating_sub(8), whole });
                    }
                    // Asked for the whole, charged for what has arrived: an announcement alone takes nothing from others,
                    // and a message that has begun can always end. What waits for this very peer does not count: it may read
                    // on only when we do, and two ends that have used up their limits would wait for each other.
                    if !self.budget.has_room(whole, self.queued()) {
                        return Ok(Read::NoBudget);
                    }
                    if message.capacity() > rx.assembly.capacity() {
                        std::mem::swap(message, &mut rx.assembly);
                    }
                    rx.assembly.clear();
                    // Address space, not memory, for what has not arrived; and little of it.
                    if rx.assembly.try_reserve_exact(whole.min(RESERVE) + ring::APART).is_err() {
                        return Ok(Read::NoBudget);
                    }
                    rx.whole = whole;
                    self.budget.force(record.len - 8);
                    rx.reader.append_to(record, 8, &mut rx.assembly);
                    failpoint::reached("first part copied");
                    self.release(rx, record);
                }
                Kind::More => {
                    let have = rx.assembly.len();
                    if rx.whole == 0 {
                        return Err(Violation::StrayChunk);
                    }
                    if record.len == 0 || record.len > rx.whole - have {
                        return Err(Violation::ChunkLength { have, chunk: record.len, whole: rx.whole });
                    }
                    // Grows with what has arrived, never over the length that was said first.
                    if rx.assembly.capacity() - have < record.len {
                        let more = have.max(record.len).min(rx.whole - have);
                        // No memory to be had: not an end of this process, and perhaps there is some later.
                        if rx.assembly.try_reserve_exact(more).is_err() {
                            return Ok(Read::NoBudget);
                        }
                    }
                    self.budget.force(record.len);
                    rx.reader.append_to(record, 0, &mut rx.assembly);
                    failpoint::reached("further part copied");
                    self.release(rx, record);
                    if rx.assembly.len() == rx.whole {
                        self.budget.give_back(rx.whole);
                        rx.whole = 0;
                        // The buffer that was brought along serves the next large message, if it is large itself.
                        std::mem::swap(message, &mut rx.assembly);
                        rx.assembly.clear();
                        return Ok(Read::Message);
                    }
                    chunks += 1;
                    if chunks == CHUNKS_AT_ONCE {
                        return Ok(Read::Part);
                    }
                }
            }
        }
    }

    #[inline]
    fn release(&self, rx: &mut Rx, record: ring::Record) {
        if rx.reader.release(record) {
            self.room_was_made(rx, false);
        }
    }

    /// Publishes the head; due before anything that may take long.
    #[inline]
    pub(crate) fn publish_head(&self, rx: &mut Rx) {
        if rx.reader.publish() || self.own.peer_wants_room.load(Ordering::Relaxed) != 0 {
            self.room_was_made(rx, false);
        }
    }

    /// Answers the peer's wish for room, unless none was made since it was last answered: then the peer has seen this head
    /// and wishes for more, and ringing it would make it wish and ring again, for nothing and without end.
    fn room_was_made(&self, rx: &mut Rx, fenced: bool) {
        let head = rx.reader.published();
        if head == rx.answered {
            return;
        }
        if let Some(ring) = self.peer.room_was_made(&self.own, fenced) {
            rx.answered = head;
            failpoint::reached("room made");
            self.peer.ring(ring);
        }
    }

    fn announcement(&self) -> u32 {
        let quiet = if self.unattended.load(Ordering::SeqCst) == 0 { wake::QUIET } else { 0 };
        wake::DISPATCHER | self.dispatcher_form | quiet
    }

    /// Looks once more, after an announcement, whether there is something to do: a record that may be read, room for
    /// what waits, a peer that wants room.
    fn look_again(&self, rx: &mut Rx, may_read: bool) -> Result<bool, Violation> {
        self.room_was_made(rx, true);
        let is_there = may_read && rx.reader.has_more();
        Ok(is_there || (!is_left_out(Part::LookForRoom) && self.drain_queue_and(Wish::Ring)?))
    }

    /// Gives the role back: to a waiting caller if there is one, else to the sleeping dispatcher, whose announcement is
    /// restored if the peer has taken it away or a caller has put its own there.
    ///
    /// The announcement stands in the steady state, and then nothing is written and the ring not looked at: for what
    /// lies there the peer has rung the dispatcher. Who did not read to the end, or was handed the role for what lies
    /// there, `owes_a_look`.
    #[inline]
    fn leave(&self, mut rx: Held<'_, Rx>, owes_a_look: bool) {
        let gone_before = is_left_out(Part::EndBehindWants) && self.is_gone();
        // Before the look at the announcement: who wants the role may have been rung in its place.
        let wanted = rx.take_want();
        // Behind that: who wanted the role because of the end has shown the end by it, and is rung below.
        let gone = if is_left_out(Part::EndBehindWants) { gone_before } else { self.is_gone() };
        let mut look = (owes_a_look || wanted) && rx.reader.has_more();
        let announcement = self.announcement();
        if self.own.announced() != announcement && !gone && !is_left_out(Part::AnnouncementOnLeaving) {
            rx.reader.publish_and_look();
            self.own.announce(announcement);
            failpoint::reached("dispatcher announced again");
            // A violation is found again by whoever reads next.
            look = self.look_again(&mut rx, true).unwrap_or(true);
        }
        // What waits for room is now the dispatcher's: it must be rung for it. A violation is found again by whoever drains.
        let _moved = self.drain_queue_and(Wish::Ring);
        let wanted_since = self.release_role(rx);
        let is_handed_on = wanted || wanted_since;
        if is_handed_on {
            // A dispatcher that wanted the role before the look needs it for nothing else.
            self.pass_on(look || wanted_since);
        }
        // The dispatcher delivers what is left of a peer that is gone, and nothing announces it any more.
        if gone || (look && !is_handed_on) {
            self.ring_dispatcher();
        }
    }

    /// Gives the role back without an announcement: for a dispatcher that stays awake.
    #[inline]
    pub(crate) fn step_aside(&self, rx: Held<'_, Rx>) {
        if self.release_role(rx) {
            self.pass_on(true);
        }
    }

    /// Somebody wants the role: the caller that has waited longest, which is taken off the list and by that knows that
    /// it was handed the role; where none waits, the dispatcher.
    #[cold]
    fn pass_on(&self, or_dispatcher: bool) {
        if is_left_out(Part::PassingOn) {
            return;
        }
        // Set before the role was wanted for it, which we have seen.
        if self.to_be_discarded.load(Ordering::Acquire) {
            self.discard_incoming();
        }
        let mut callers = self.callers.lock();
        match callers.pop_front() {
            Some(first) => {
                // The others want it too: whoever takes it next passes it on again.
                if !callers.is_empty() && !is_left_out(Part::WantOfTheOthers) {
                    self.rx.want();
                }
                drop(callers);
                first.ring();
            }
            None if or_dispatcher => {
                drop(callers);
                self.ring_dispatcher();
            }
            None => {}
        }
    }

    /// Rings our dispatcher for this link.
    fn ring_dispatcher(&self) {
        self.touched.store(true, Ordering::Release);
        self.dispatcher.ring();
    }

    /// Whether the dispatcher was rung for this link since the last look.
    pub(crate) fn was_touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed) && self.touched.swap(false, Ordering::AcqRel)
    }

    /// For the dispatcher, before it sleeps: announces it and looks once more. False: there is something to do. Where a
    /// caller holds the role, it is told that we want it: it announces us when it leaves, or has just looked whether it
    /// must, and then it has to look again.
    pub(crate) fn dispatcher_may_sleep(&self, may_read: bool) -> Result<bool, Violation> {
        let Some(mut rx) = self.rx.take_or_want() else {
            // The holder may sleep, with a wish for room that we have softened while we were awake.
            return Ok(!self.drain_queue_and(Wish::Ring)?);
        };
        rx.reader.publish_and_look();
        self.own.announce(self.announcement());
        failpoint::reached("dispatcher announced");
        let look = self.look_again(&mut rx, may_read);
        let wanted = rx.release();
        if wanted {
            self.pass_on(true);
        }
        // Wanted by nobody who waits means wanted by a future: `pass_on` has rung our own bell then.
        Ok(!look?)
    }

    /// The futex word of our dispatcher and its present value; to be read before the last look.
    pub(crate) fn dispatcher_word(&self) -> (&crate::region::Word32, u32) {
        (&self.own.dispatcher, self.own.dispatcher.load(Ordering::Acquire))
    }

    /// A future was polled: nobody waits for its reply, so the dispatcher must be rung for it.
    pub(crate) fn attend(&self) {
        self.unattended.fetch_add(1, Ordering::SeqCst);
        // Whoever holds the role sees the count when it leaves, or that the role is wanted.
        if let Some(mut rx) = self.rx.take_or_want() {
            let announced = self.own.announced();
            let mut look = false;
            if announced & (3 | wake::QUIET) == wake::DISPATCHER | wake::QUIET
                && !is_left_out(Part::AnnouncementForFutures)
            {
                rx.reader.publish_and_look();
                self.own.announce(self.announcement());
                look = self.look_again(&mut rx, true).unwrap_or(true);
            }
            if rx.release() {
                self.pass_on(true);
            }
            if look {
                self.ring_dispatcher();
            }
        }
    }

    /// The future of [`attend`](Self::attend) has its reply or was dropped.
    pub(crate) fn unattend(&self) {
        self.unattended.fetch_sub(1, Ordering::SeqCst);
    }

    // ---- gone ---------------------------------------------------------------------------------------------------

    /// Whether the peer was found to be gone or the link was closed.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Nothing is sent any more; [`set_gone`](Self::set_gone) follows.
    pub(crate) fn refuse(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// The peer is gone or the link is closed: every sleep of this link ends.
    pub(crate) fn set_gone(&self) {
        self.refuse();
        if !is_left_out(Part::RingOnDeath) {
            self.ring_callers();
        }
        self.ring_dispatcher();
    }

    /// Gives back what this end still holds of the process's budget, and the shared memory: the peer is gone and all of it
    /// is delivered.
    pub(crate) fn discard(&self) {
        let mut tx = self.tx.lock();
        let queue = std::mem::take(&mut tx.queue);
        let spares = (std::mem::take(&mut tx.spare), std::mem::take(&mut tx.small_spares));
        self.budget.give_back(std::mem::take(&mut tx.queued));
        tx.routed = 0;
        self.routed.store(0, Ordering::Relaxed);
        self.queued.store(0, Ordering::Release);
        drop(tx);
        drop((queue, spares));
        self.tell_drained();
        self.to_be_discarded.store(true, Ordering::Release);
        self.discard_incoming();
    }

    /// The part of [`discard`](Self::discard) that needs the role: by whoever passes that on, where it is held.
    fn discard_incoming(&self) {
        let Some(mut rx) = self.rx.take_or_want() else { return };
        self.to_be_discarded.store(false, Ordering::Relaxed);
        self.budget.give_back(rx.assembly.len());
        rx.whole = 0;
        rx.assembly = Vec::new();
        {
            // With the role and this lock nobody reads or writes a ring.
            let _tx = self.tx.lock();
            self.region.forget();
        }
        self.step_aside(rx);
    }

    /// Rings every caller that waits, to look again.
    pub(crate) fn ring_callers(&self) {
        let callers: Vec<_> = self.callers.lock().iter().cloned().collect();
        for bell in callers {
            bell.ring();
        }
    }

    // ---- waiting ------------------------------------------------------------------------------------------------

    /// Puts a caller on the list of those that wait; false if it is there.
    fn register(&self, bell: &Arc<Bell>) -> bool {
        let mut callers = self.callers.lock();
        let is_new = !callers.iter().any(|other| Arc::ptr_eq(other, bell));
        if is_new {
            callers.push_back(bell.clone());
        }
        is_new
    }

    /// Takes a caller off the list; false if it was not there, so that it has been handed the role.
    fn unregister(&self, bell: &Arc<Bell>) -> bool {
        let mut callers = self.callers.lock();
        let before = callers.len();
        callers.retain(|other| !Arc::ptr_eq(other, bell));
        callers.len() < before
    }

    /// Waits until the waiter is done: leads where the role is free, follows where it is held. `bell` is the calling
    /// thread's own and nobody else's meanwhile.
    pub(crate) fn wait_until(
        &self,
        waiter: &mut dyn Waiter,
        bell: &Arc<Bell>,
        spin: &Spin,
        until: Option<Instant>,
        buffer: &mut Vec<u8>,
    ) -> Waited {
        bell.clear();
        let mut registered = false;
        let waited = loop {
            if waiter.is_done() {
                break Waited::Done;
            }
            let held = if registered { self.rx.take_or_want() } else { self.rx.try_take() };
            if let Some(rx) = held {
                if let Some(waited) = self.lead(rx, waiter, bell, &mut registered, spin, until, buffer) {
                    break waited;
                }
                waiter.settle();
                continue;
            }
            // Somebody else reads for us. Registered before the last try, so that it finds us when it leaves; and again
            // if we were handed the role and somebody else was faster.
            if self.register(bell) {
                registered = true;
                waiter.sleeps(bell);
                continue;
            }
            let mut spinning = spin.begin_to_follow();
            loop {
                if waiter.is_done() || bell.clear() {
                    spinning.succeeded();
                    break;
                }
                if self.is_gone() && self.rx.try_take().map(|rx| self.step_aside(rx)).is_some() {
                    break; // nobody reads any more: lead, to take what is left
                }
                match spinning.round() {
                    Next::Again => {}
                    Next::LookAround if is_over(until) => break,
                    Next::LookAround => {}
                    Next::Sleep => {
                        if bell.prepare() {
                            if waiter.is_done() || is_over(until) {
                                bell.awake();
                            } else {
                                failpoint::reached("follower sleeps");
                                self.sleep.private(bell, until);
                            }
                        }
                    }
                }
                if is_over_rarely(until, &spinning) {
                    break;
                }
            }
            if !waiter.is_done() && is_over(until) {
                break Waited::TimedOut;
            }
        };
        // Handed the role and done without it: what it was handed for passes to whoever holds it next.
        if registered
            && !self.unregister(bell)
            && !is_left_out(Part::HandingOn)
            && let Some(rx) = self.rx.take_or_want()
        {
            self.leave(rx, true);
        }
        waited
    }

    /// Reads for everybody until the waiter is done. `None`: the role was given back for `settle`.
    #[allow(clippy::too_many_arguments)]
    fn lead(
        &self,
        mut rx: Held<'_, Rx>,
        waiter: &mut dyn Waiter,
        bell: &Arc<Bell>,
        registered: &mut bool,
        spin: &Spin,
        until: Option<Instant>,
        buffer: &mut Vec<u8>,
    ) -> Option<Waited> {
        let mut spinning = spin.begin();
        let mut turns = 0_u32;
        // Something was left in the ring that could not be read.
        let mut unread = false;
        let mut for_nothing = 0;
        // Where that ends which lay in the ring when the peer was gone: its memory may be in other hands, which write on.
        let mut end = None;
        let mut written_before = None;
        let leave = |rx, registered: &mut bool, unread: bool| {
            // Off the list first: the role is not to be handed to us.
            let handed = std::mem::take(registered) && !self.unregister(bell);
            self.leave(rx, unread || handed);
        };
        loop {
            // What the last holder read may have been ours.
            if waiter.is_done() {
                leave(rx, registered, unread);
                return Some(Waited::Done);
            }
            let gone = self.is_gone();
            if gone && rx.position() >= *end.get_or_insert(rx.horizon()) {
                leave(rx, registered, true);
                return Some(Waited::Gone);
            }
            // Apart from the spin, which whatever moves begins anew.
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(TURNS_PER_CLOCK) && is_over(until) {
                leave(rx, registered, true);
                return Some(Waited::TimedOut);
            }
            let may_read = waiter.may_read();
            let position = rx.position();
            let read = if may_read {
                match self.read(&mut rx, buffer) {
                    Ok(read) => read,
                    Err(violation) => {
                        leave(rx, registered, true);
                        return Some(Waited::Violation(violation));
                    }
                }
            } else {
                Read::NoBudget
            };
            unread = read == Read::NoBudget;
            if read == Read::Message {
                spinning.succeeded();
                spinning = spin.begin();
                for_nothing = 0;
                if waiter.route(buffer) == Routed::Settle {
                    if is_left_out(Part::LeavingToSettle) {
                        waiter.settle();
                        continue;
                    }
                    leave(rx, registered, unread);
                    return None;
                }
                continue;
            }
            if gone && read == Read::Nothing {
                leave(rx, registered, unread);
                return Some(Waited::Gone);
            }
            match self.drain_queue() {
                Ok(true) => {
                    for_nothing = 0;
                    spinning = spin.begin();
                    continue;
                }
                Ok(false) => {}
                Err(violation) => {
                    leave(rx, registered, true);
                    return Some(Waited::Violation(violation));
                }
            }
            if read == Read::Part {
                for_nothing = 0;
                spinning = spin.begin();
                continue;
            }
            if rx.position() != position {
                // A part of a message came: the next one is under way.
                for_nothing = 0;
                spinning = spin.begin();
            }
            self.publish_head(&mut rx);
            if may_read && !gone {
                spinning.look_at(|| rx.has_more() || rx.is_wanted() || bell.is_rung());
            }
            let next = if gone { Next::Sleep } else { spinning.round() };
            match next {
                Next::Again => continue,
                Next::LookAround => {
                    if is_over(until) {
                        leave(rx, registered, unread);
                        return Some(Waited::TimedOut);
                    }
                    continue;
                }
                Next::Sleep => {}
            }
            if is_over(until) {
                leave(rx, registered, unread);
                return Some(Waited::TimedOut);
            }
            // Registered, so that `set_gone` and who empties the inbox find us; each time, because somebody who gave the
            // role back before we took it may have handed it to us.
            self.register(bell);
            *registered = true;
            waiter.sleeps(bell);
            bell.clear();
            let expected = self.own.caller.load(Ordering::Acquire);
            rx.reader.publish_and_look();
            self.own.announce(wake::CALLER);
            failpoint::reached("caller announced");
            match self.look_again(&mut rx, may_read && read == Read::Nothing) {
                Ok(false) => {}
                Ok(true) => continue,
                Err(violation) => {
                    leave(rx, registered, true);
                    return Some(Waited::Violation(violation));
                }
            }
            if self.is_gone() != gone || waiter.is_done() || waiter.may_read() != may_read {
                continue;
            }
            let mut rung = false;
            if bell.prepare() {
                // Nobody rings when the process's budget has room again, or a poll ends with a full inbox: look again soon.
                let until = match read {
                    Read::NoBudget => Some(sooner(until, BUDGET_RETRY)),
                    _ => until,
                };
                failpoint::reached("caller sleeps");
                let was_woken = self.sleep.on(&self.own.caller, expected, bell, until);
                failpoint::reached("caller woken");
                // Woken without a change of the word, and not by us: for nothing as well.
                rung |= was_woken && !bell.is_rung();
            }
            if rung || self.own.caller.load(Ordering::Relaxed) != expected {
                for_nothing += 1;
                if for_nothing > RINGS_FOR_NOTHING {
                    for_nothing = 0;
                    if unread && rx.has_more() {
                        // It lies there because of us, and an honest peer rings for each message that it adds. For a moment
                        // nobody but this process wakes us.
                        if bell.prepare() {
                            match waiter.is_done() {
                                true => bell.awake(),
                                false => self.sleep.private(bell, Some(sooner(until, BUDGET_RETRY))),
                            }
                        }
                        continue;
                    }
                    // As often as we write it may ring for the room that it made, and another thread of ours may use that
                    // before we come.
                    let written = Some((self.sent().messages, self.queued()));
                    if written == written_before {
                        leave(rx, registered, true);
                        return Some(Waited::Violation(Violation::RungForNothing));
                    }
                    written_before = written;
                }
            }
        }
    }

    /// Test support: whether nobody holds the role.
    #[cfg(test)]
    pub(crate) fn role_is_free(&self) -> bool {
        self.rx.try_take().map(drop).is_some()
    }
}

/// Turns of a leader between two looks at its deadline, however much it reads.
const TURNS_PER_CLOCK: u32 = 128;

/// Rings in a row for nothing before a link is cut. An honest peer rings for what it wrote and for the room that it made; a
/// few rings find nothing because another reader was faster.
pub(crate) const RINGS_FOR_NOTHING: u32 = 4096;

/// How soon a large message that found the process's budget used up is looked at again, and what a caller may not
/// read for now.
pub(crate) const BUDGET_RETRY: Duration = Duration::from_millis(10);

fn sooner(until: Option<Instant>, after: Duration) -> Instant {
    let then = Instant::now() + after;
    until.map_or(then, |until| until.min(then))
}

fn is_over(until: Option<Instant>) -> bool {
    until.is_some_and(|at| Instant::now() >= at)
}

/// After a sleep the deadline may be over; while spinning it is looked at by `LookAround` alone.
fn is_over_rarely(until: Option<Instant>, spinning: &wake::Spinning<'_>) -> bool {
    spinning.has_slept() && is_over(until)
}

impl Rx {
    fn interrupted(&self) -> Violation {
        Violation::Interrupted { have: self.assembly.len(), whole: self.whole }
    }

    /// A position behind all that lies in the ring now: whoever stops there is not kept reading by a peer that writes on.
    pub(crate) fn horizon(&self) -> u64 {
        self.reader.horizon()
    }

    /// Whether something lies in the ring.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.reader.has_more()
    }

    /// Changes with each part of a message that is read.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.reader.position()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            return; // loom has found something: its atomics are gone
        }
        let queued = std::mem::take(&mut self.tx.lock().queued);
        let assembling = self.rx.try_take().map_or(0, |mut rx| std::mem::take(&mut rx.assembly).len());
        self.budget.give_back(queued + assembling);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
