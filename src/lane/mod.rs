//! Lanes: typed records and latest values for threads that must never wait.
//!
//! A *lane* is memory of its own between main and one renderer, apart from the messages: nothing that a listener does or that
//! a large message takes touches it. Both sides open it under the same name, main first:
//! [`WebContents::lane`](crate::WebContents::lane) makes the memory, [`IpcRenderer::lane`](crate::IpcRenderer::lane) takes it.
//! What each of them gets is chosen by type:
//!
//! | main | renderer | for |
//! |---|---|---|
//! | [`LaneSender<T>`] | [`LaneReceiver<T>`] | every record, in order: notes, events, log lines |
//! | [`LaneReceiver<T>`] | [`LaneSender<T>`] | the same the other way |
//! | [`LaneDuplex<S, R>`] | [`LaneDuplex<R, S>`] | both ways; one exchange a block, with a deadline |
//! | [`LatestWriter<T>`] | [`LatestReader<T>`] | the newest value alone: parameters, meters, pictures |
//! | [`LatestReader<T>`] | [`LatestWriter<T>`] | the same the other way |
//!
//! `T` is plain data ([`bytemuck::Pod`]), or `[u8]` for bytes of any length up to [`LaneConfig::max_record`].
//!
//! ```
//! use bytemuck::{Pod, Zeroable}; // bytemuck = { version = "1", features = ["derive"] }
//! use ringmain::{IpcMain, LaneConfig, LaneReceiver, LaneSender};
//!
//! #[derive(Clone, Copy, Default, Pod, Zeroable)]
//! #[repr(C)]
//! struct Note { frame: u32, key: u16, velocity: u16 }
//!
//! let ipc_main = IpcMain::new()?;
//! let ipc_renderer = ipc_main.attach()?; // or another process
//! let web_contents = &ipc_main.all_web_contents()[0];
//!
//! let mut notes: LaneSender<Note> = web_contents.lane("notes", &LaneConfig::new().capacity(1024))?;
//! let mut played: LaneReceiver<Note> = ipc_renderer.lane("notes", &LaneConfig::new())?;
//!
//! notes.try_send(&Note { frame: 0, key: 60, velocity: 100 })?; // never waits
//! let mut note = Note::default();
//! while let Some(_received) = played.try_recv(&mut note)? { /* play it */ }
//! assert_eq!(note.key, 60);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What an audio thread may call
//!
//! The methods that say *Real-time safe* take a bounded number of steps whatever the peer writes, and neither lock, allocate,
//! free, fault, panic nor make a system call, but for the wake that [`WakePolicy`] describes. `tests/realtime.rs` and
//! `tests/realtime/` prove it. (A hostile peer can have one effect on time: it can make pages of the lane go and come back empty, as
//! `SECURITY.md` says. And the pages of your program's own code are yours to lock.) Opening, [`prepare`](LaneSender::prepare), waiting with a deadline and dropping an end are not
//! real-time safe. An end is `Send` and belongs to one thread at a time, whichever that is.
//!
//! In a forked copy of the process, which has not the lane's memory, all methods say [`LaneError::Closed`] or do nothing; the pointers
//! and slices of loans and records are of no use there.
//!
//! # What the peer can do
//!
//! It may write anything into the memory at any time. Records are copied out, so what was checked stays what it was; a lane
//! whose control words cannot be is [`LaneError::Corrupt`] from then on, at this end alone. It cannot make a real-time safe method
//! wait. It can fail to read, send nonsense that is plain data all the same, and wake a sleeping receiver for nothing.

mod duplex;
mod group;
mod latest;
mod receiver;
mod sender;

pub use duplex::LaneDuplex;
pub use group::LaneGroup;
pub use latest::{LatestLoan, LatestReader, LatestWriter};
pub use receiver::{LaneReceiver, Received, Record};
pub use sender::{LaneBatch, LaneLoan, LaneSender};

use crate::driver::{LaneDemand, LaneDirection, LaneLease, LaneParts, LaneState, RelayFlag};
use crate::error::{Error, Result};
use crate::layout::{LaneLayout, lane as words};
use crate::parking::{Parking, WakePolicy, Waker};
use crate::region::{Region, Word64};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering};
use crate::sys::ForkGuard;
use bytemuck::Pod;
use crossbeam_utils::CachePadded;
use std::time::Duration;

/// Why an operation of a lane did nothing. A plain value: to make or drop it allocates and frees nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LaneError {
    /// The receiver has not read enough: there is no room for the record.
    Full,
    /// The other end was dropped, or the link has ended; all that was sent before has been received. Also in a forked copy of
    /// the process.
    Closed,
    /// The deadline is over.
    TimedOut,
    /// The record is longer than the lane's records may be, or than the buffer that it is to be copied to; then it waits for a
    /// longer one.
    TooLong,
    /// The peer has written control words that cannot be; this end is of no use any more.
    Corrupt,
}

impl LaneError {
    /// What happened, as a text that lives for ever.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "the lane is full: its receiver has not read enough",
            Self::Closed => "the lane is closed: its other end was dropped, or the link has ended",
            Self::TimedOut => "the deadline is over",
            Self::TooLong => "the record is longer than the lane's records, or than the buffer that it is copied to",
            Self::Corrupt => "the peer has written control words that cannot be: the lane is of no use any more",
        }
    }
}

impl std::fmt::Display for LaneError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for LaneError {}

/// How a lane is opened. Sizes are main's to say; a renderer takes what it is offered and what it says of sizes is not looked
/// at, but for the alignment, which must be at least what it asks for. The rest concerns the end of the one who says it.
#[derive(Debug, Clone)]
#[must_use]
pub struct LaneConfig {
    capacity: usize,
    max_record: usize,
    align: usize,
    wake: Option<WakePolicy>,
    spin: Option<Duration>,
    lock_memory: bool,
    open_timeout: Duration,
    /// Of ends of `[u8]`: the size that the type at the other end has, for what is sent and for what is received. The C API's.
    exact: (Option<usize>, Option<usize>),
}

/// How long a receiver with a deadline looks before it sleeps, unless configured: about as long as a wake-up takes on a virtual
/// machine (design: 20 µs there, 3–5 on metal).
const SPIN: Duration = Duration::from_micros(20);

impl Default for LaneConfig {
    fn default() -> Self {
        Self {
            capacity: 256,
            max_record: 4096,
            align: 16,
            wake: None,
            spin: None,
            lock_memory: false,
            open_timeout: Duration::from_secs(5),
            exact: (None, None),
        }
    }
}

impl LaneConfig {
    /// 256 records, bytes of at most 4 096, aligned to 16. Main's memory for a lane is about capacity · 9/8 · (longest record + 8)
    /// each way, at once and beside `process_limit`: of latest values, three of them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that have room, each way; at least 1. Of a large number an eighth more is allocated, because the sender is told
    /// of room in steps of that. Latest-value lanes have three slots, always.
    pub fn capacity(mut self, records: usize) -> Self {
        self.capacity = records;
        self
    }

    /// The longest record of a lane of `[u8]`, in bytes; at most 1 GiB. So many are reserved for each record.
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = bytes;
        self
    }

    /// The alignment of records in memory, a power of two from 16 to 128: for those who work in place. A type that needs more, up
    /// to 128, gets it.
    pub fn align(mut self, bytes: usize) -> Self {
        self.align = bytes;
        self
    }

    /// How this end wakes the other one. Default: [`WakePolicy::IfParked`], for latest values [`WakePolicy::Never`].
    pub fn wake(mut self, policy: WakePolicy) -> Self {
        self.wake = Some(policy);
        self
    }

    /// How long a receiver with a deadline looks before it sleeps. Default: 20 µs; nothing where the process may use one core
    /// alone. On a thread of a real-time class this core is taken from everybody else so long.
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = Some(spin);
        self
    }

    /// Keeps this end's mapping in memory (`mlock`). Best effort, because `RLIMIT_MEMLOCK` is small on many systems:
    /// [`LaneStats::locked`] says whether it worked.
    pub fn lock_memory(mut self, lock: bool) -> Self {
        self.lock_memory = lock;
        self
    }

    /// How long a renderer waits for main to open the lane. Default: 5 seconds.
    pub fn open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }

    /// Ends of `[u8]` meet a type of this size: in what they send, and in what they receive.
    #[cfg(feature = "capi")]
    pub(crate) fn exact(mut self, sent: Option<usize>, received: Option<usize>) -> Self {
        self.exact = (sent, received);
        self
    }

    fn outgoing<T: LaneRecord + ?Sized>(&self) -> Option<LaneDirection> {
        Some(self.direction::<T>(self.exact.0))
    }

    fn incoming<T: LaneRecord + ?Sized>(&self) -> Option<LaneDirection> {
        Some(self.direction::<T>(self.exact.1))
    }

    fn direction<T: LaneRecord + ?Sized>(&self, exact: Option<usize>) -> LaneDirection {
        let size = T::SIZE.or(exact);
        LaneDirection {
            size: Some(size.unwrap_or(self.max_record)),
            is_fixed: size.is_some(),
            align: T::ALIGN.max(self.align),
            slots: crate::records::slots_for(self.capacity.clamp(1, 1 << 25)),
        }
    }

    fn demand(
        &self,
        kind: crate::link::LaneKind,
        outgoing: Option<LaneDirection>,
        incoming: Option<LaneDirection>,
    ) -> sealed::Demand {
        let &Self { open_timeout, lock_memory, .. } = self;
        sealed::Demand(LaneDemand { kind, outgoing, incoming, open_timeout, lock_memory })
    }

    /// What the caller can have got wrong.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |text: String| Err(Error::new(crate::ErrorKind::InvalidConfig, text));
        if !self.align.is_power_of_two() || !(16..=128).contains(&self.align) {
            return invalid(format!("LaneConfig::align is {}: it must be a power of two from 16 to 128", self.align));
        }
        if self.capacity == 0 || self.max_record == 0 {
            return invalid(format!(
                "LaneConfig::capacity is {} and max_record {}: both must be at least 1",
                self.capacity, self.max_record
            ));
        }
        Ok(())
    }
}

mod sealed {
    /// What a lane carries, as bytes.
    pub trait Record {
        /// Bytes of each; `None`: of any length.
        const SIZE: Option<usize>;
        const ALIGN: usize;
        fn bytes(&self) -> &[u8];
        fn bytes_mut(&mut self) -> &mut [u8];
    }

    /// What an end wants of its link, and what it gets: nothing that a user sees.
    pub struct Demand(pub(crate) crate::driver::LaneDemand);
    pub struct Parts(pub(crate) crate::driver::LaneParts);

    /// An end that can be opened.
    pub trait End: Sized {
        fn demand(config: &super::LaneConfig) -> Demand;
        fn open(parts: &Parts, config: &super::LaneConfig) -> crate::error::Result<Self>;
    }
}

/// What a lane can carry: plain data without pointers and padding ([`bytemuck::Pod`], which structs of such get by
/// `#[derive(Pod, Zeroable)]` and `#[repr(C)]`), or bytes, `[u8]`. Both ends name the same type; that is checked by its size
/// alone, and between different machines or compilers its layout is for the two programs to agree on.
pub trait LaneRecord: sealed::Record {}

impl<T: Pod> sealed::Record for T {
    const SIZE: Option<usize> = Some(size_of::<T>());
    const ALIGN: usize = align_of::<T>();

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        bytemuck::bytes_of(self)
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::bytes_of_mut(self)
    }
}

impl<T: Pod> LaneRecord for T {}

impl sealed::Record for [u8] {
    const SIZE: Option<usize> = None;
    const ALIGN: usize = 1;

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        self
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl LaneRecord for [u8] {}

/// An end of a lane that [`WebContents::lane`](crate::WebContents::lane) and
/// [`IpcRenderer::lane`](crate::IpcRenderer::lane) open: one of the types in the [table](self).
pub trait LaneEnd: sealed::End {}

/// Opens an end of the lane `name`.
pub(crate) fn open<E: LaneEnd>(link: &Arc<crate::driver::Link>, name: &str, config: &LaneConfig) -> Result<E> {
    config.check()?;
    let parts = sealed::Parts(link.lane(name, &E::demand(config).0)?);
    E::open(&parts, config).inspect_err(|_| parts.0.abandon())
}

/// What happened on a lane, as this end has seen it. Numbers of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneStats {
    /// Sent, or written as latest values.
    pub sent: u64,
    /// Not sent because there was no room: the receiver sees a gap in the numbers. Of latest values those that were overrun before
    /// anybody read them.
    pub dropped: u64,
    /// Sleeping receivers that this end has woken.
    pub wakes: u64,
    /// Received, or read as latest values.
    pub received: u64,
    /// That the numbers say were dropped by the sender; of latest values those that were overrun by newer ones.
    pub lost: u64,
    /// Answers of exchanges that came after their deadline, and were thrown away.
    pub late: u64,
    /// Whether this end's memory is locked; `None` where that was not asked for.
    pub locked: Option<bool>,
}

/// Written by the thread that has the end, read by any. The halves of a duplex lane may belong to different threads.
#[derive(Default)]
struct Counters {
    sending: CachePadded<SendCounters>,
    receiving: CachePadded<ReceiveCounters>,
}

#[derive(Default)]
struct SendCounters {
    sent: AtomicU64,
    dropped: AtomicU64,
    wakes: AtomicU64,
}

#[derive(Default)]
struct ReceiveCounters {
    received: AtomicU64,
    lost: AtomicU64,
    late: AtomicU64,
}

/// One thread at a time writes, so no locked addition is needed.
#[inline(always)]
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// What an end has in common with the [`LaneCounters`] of it.
struct Shared {
    counters: Counters,
    locked: Option<bool>,
    state: Arc<LaneState>,
    /// Wakes that the helper has made.
    relayed: Arc<AtomicU64>,
}

impl Shared {
    /// Without a count of who holds it: whoever gives back the last one frees.
    fn stats(&self) -> LaneStats {
        let SendCounters { sent, dropped, wakes } = &*self.counters.sending;
        let ReceiveCounters { received, lost, late } = &*self.counters.receiving;
        let relayed = self.relayed.load(Ordering::Relaxed);
        LaneStats {
            sent: sent.load(Ordering::Relaxed),
            dropped: dropped.load(Ordering::Relaxed),
            wakes: wakes.load(Ordering::Relaxed).wrapping_add(relayed),
            received: received.load(Ordering::Relaxed),
            lost: lost.load(Ordering::Relaxed),
            late: late.load(Ordering::Relaxed),
            locked: self.locked,
        }
    }
}

/// Reads the counters of an end from another thread. A cheap clone; to read it is real-time safe, to clone or drop it is not.
#[derive(Clone)]
pub struct LaneCounters(Arc<Shared>);

impl LaneCounters {
    /// The counters now. Real-time safe.
    pub fn stats(&self) -> LaneStats {
        self.0.stats()
    }

    /// Whether the end of which these are is there and the link has not ended, as far as `watch` has seen. Real-time safe: one load.
    #[inline]
    pub fn is_open(&self) -> bool {
        !self.0.state.is_over()
    }
}

impl std::fmt::Debug for LaneCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LaneCounters").field(&self.stats()).finish()
    }
}

/// Not `Sync`, though nothing needs `&self` alone: an end belongs to one thread at a time.
type NotSync = std::marker::PhantomData<std::cell::Cell<()>>;

/// What all ends are made of.
struct Opened {
    region: Arc<Region>,
    is_main: bool,
    shared: Arc<Shared>,
    lease: Arc<LaneLease>,
}

/// A layout that was checked when the lane was opened has its words inside; if not, that is said.
fn word_error(error: crate::region::OutOfRegion) -> Error {
    Error::new(crate::ErrorKind::Protocol, format!("the lane cannot be used: {error}"))
}

impl Opened {
    fn new(parts: &LaneParts) -> Self {
        let shared = Shared {
            counters: Counters::default(),
            locked: parts.is_locked,
            state: parts.state.clone(),
            relayed: Arc::default(),
        };
        let (region, lease) = (parts.region.clone(), parts.lease.clone());
        Self { region, is_main: parts.is_main, shared: Arc::new(shared), lease }
    }

    fn word64(&self, written_by_main: bool, at: usize) -> Result<Word64> {
        self.region.word64(LaneLayout::block(written_by_main) + at).map_err(word_error)
    }

    fn word32(&self, written_by_main: bool, at: usize) -> Result<crate::region::Word32> {
        self.region.word32(LaneLayout::block(written_by_main) + at).map_err(word_error)
    }

    /// The part that wakes the receiver of what this end sends.
    fn rouser(&self, parts: &LaneParts, policy: WakePolicy) -> Result<Rouser> {
        let word = |at| self.word32(self.is_main, at);
        let waker = Waker { receiver: word(words::RECEIVER)?, sender: word(words::SENDER)?, bell: word(words::BELL)? };
        let relay = match policy {
            WakePolicy::Relay => {
                let flag = Arc::new(RelayFlag {
                    is_due: AtomicBool::new(false),
                    waker: waker.clone(),
                    state: parts.state.clone(),
                    wakes: self.shared.relayed.clone(),
                });
                parts.engine.relay(&flag)?;
                Some(flag)
            }
            _ => None,
        };
        // Last: until then the receiver looks again by itself, also whether this end was given up.
        waker.announce(policy);
        let over = parts.state.over();
        Ok(Rouser { waker, policy, relay, over, shared: self.shared.clone(), _lease: self.lease.clone() })
    }

    /// The part in which this end sleeps.
    fn parking(&self, parts: &LaneParts, config: &LaneConfig) -> Result<Parking> {
        let word = |at| self.word32(!self.is_main, at);
        let spin = config.spin.unwrap_or(match crate::sys::allowed_cpus() {
            ..=1 => Duration::ZERO,
            _ => SPIN,
        });
        Ok(Parking {
            receiver: word(words::RECEIVER)?,
            sender: word(words::SENDER)?,
            bell: word(words::BELL)?,
            private: parts.state.bell.clone(),
            sleep: parts.sleep.clone(),
            spin,
        })
    }
}

/// Wakes the receiver, as the policy says.
struct Rouser {
    waker: Waker,
    policy: WakePolicy,
    relay: Option<Arc<RelayFlag>>,
    /// As `LaneState::is_over` says.
    over: ForkGuard,
    shared: Arc<Shared>,
    _lease: Arc<LaneLease>,
}

impl Rouser {
    /// Whether the link has ended, this is a forked copy, or the receiver was dropped: two loads, of a word of ours and one of the
    /// peer's.
    #[inline(always)]
    fn is_closed(&self) -> bool {
        self.over.forked() || self.waker.is_closed()
    }

    /// After something was published.
    #[inline(always)]
    fn after_publish(&self) {
        match self.policy {
            WakePolicy::Never => {}
            WakePolicy::IfParked => {
                if self.waker.after_publish() {
                    add(&self.shared.counters.sending.wakes, 1);
                }
            }
            WakePolicy::Relay => {
                if let Some(relay) = &self.relay {
                    // Release: the helper sees what was published before.
                    relay.is_due.store(true, Ordering::Release);
                }
            }
        }
    }
}

impl Drop for Rouser {
    fn drop(&mut self) {
        if !self.shared.state.is_forked() {
            self.waker.close();
        }
    }
}

/// The receiving part, closed when it is dropped.
struct Receiving {
    parking: Parking,
    /// As `LaneState::is_over` says.
    over: ForkGuard,
    shared: Arc<Shared>,
    _lease: Arc<LaneLease>,
}

impl Receiving {
    fn new(opened: &Opened, parts: &LaneParts, config: &LaneConfig) -> Result<Self> {
        let (shared, lease) = (opened.shared.clone(), opened.lease.clone());
        Ok(Self { parking: opened.parking(parts, config)?, over: parts.state.over(), shared, _lease: lease })
    }

    /// Whether the link has ended, or this is a forked copy: a load of a word of ours.
    #[inline(always)]
    fn is_over(&self) -> bool {
        self.over.forked()
    }
}

impl std::ops::Deref for Receiving {
    type Target = Parking;

    #[inline(always)]
    fn deref(&self) -> &Parking {
        &self.parking
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.shared.state.is_forked() {
            self.parking.close();
        }
    }
}

/// Main's offer was checked against what is asked for: it has the direction.
#[cold]
fn no_direction() -> Error {
    Error::new(crate::ErrorKind::Protocol, "main's lane has not the slots that this end needs")
}

/// The methods that all ends have.
macro_rules! end_methods {
    () => {
        /// Whether the other end is there and the link has not ended, as far as can be seen from here. Real-time safe.
        #[inline]
        pub fn is_open(&self) -> bool {
            !self.shared().state.is_over() && !self.is_peer_closed()
        }

        /// The counters now. Real-time safe.
        pub fn stats(&self) -> crate::lane::LaneStats {
            self.shared().stats()
        }

        /// The counters for other threads. Not real-time safe.
        pub fn counters(&self) -> crate::lane::LaneCounters {
            crate::lane::LaneCounters(self.shared().clone())
        }
    };
}
use end_methods;

#[cfg(all(test, not(loom)))]
mod tests;
