//! How lanes come to be and end: main makes the memory and hands it over by the link's socket; the renderer takes what it
//! is given. A lane's messages never pass here.

use super::{Engine, Link};
use crate::config::ThreadRole;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::latest::FRESH;
use crate::layout::{LINE, LaneLayout, LaneShape, MAGIC, lane as words};
use crate::link::{LaneKind, LaneOffer, LaneTerms, MAX_LANE_NAME};
use crate::parking::{CLOSED, Waker};
use crate::records::MAX_RECORD;
use crate::region::Region;
use crate::slots::SlotPlace;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::sys;
use crate::wake::{Bell, Sleep};
use parking_lot::Condvar;
use rustc_hash::FxHashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Weak;
use std::time::{Duration, Instant};

/// Lanes that main may have offered and nobody has taken yet, by different names.
const MAX_OFFERS: usize = 4096;

/// From so many on those that main has dropped are looked for, each time that they have doubled.
const MANY_OFFERS: usize = 64;

/// Slots of one direction, at most.
const MAX_SLOTS: usize = 1 << 24;

/// How often the helper looks at the flags of senders that must make no system call.
const RELAY_PERIOD: Duration = Duration::from_millis(1);

/// What an end wants of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Direction {
    /// Bytes of a record; `None` on a renderer: as many as main says.
    pub(crate) size: Option<usize>,
    pub(crate) is_fixed: bool,
    pub(crate) align: usize,
    pub(crate) slots: usize,
}

/// What an end wants.
#[derive(Debug, Clone)]
pub(crate) struct Demand {
    pub(crate) kind: LaneKind,
    /// What this process sends, and what it receives.
    pub(crate) outgoing: Option<Direction>,
    pub(crate) incoming: Option<Direction>,
    /// How long a renderer waits for main's offer.
    pub(crate) open_timeout: Duration,
    pub(crate) lock_memory: bool,
}

/// What an end of a lane and its link have in common, memory apart.
pub(crate) struct LaneState {
    /// Revoked when the link ends; a forked copy of the process, which has not the memory, finds it revoked.
    open: sys::ForkGuard,
    /// Tells a copy alone.
    here: sys::ForkGuard,
    /// Rung when the link ends.
    pub(crate) bell: Arc<Bell>,
    owner: u32,
    id: u32,
    name: String,
    link: Weak<Link>,
}

impl LaneState {
    /// The link has ended, or this is a forked copy of the process. One load of private memory.
    #[inline(always)]
    pub(crate) fn is_over(&self) -> bool {
        self.open.forked()
    }

    /// What answers [`is_over`](Self::is_over), for those who ask for every record.
    pub(crate) fn over(&self) -> sys::ForkGuard {
        self.open.clone()
    }

    /// The process is a forked copy, where nothing of the lane's memory is. A system call.
    pub(crate) fn is_forked(&self) -> bool {
        self.owner != std::process::id()
    }

    /// The same without a system call.
    #[inline]
    pub(crate) fn is_forked_copy(&self) -> bool {
        self.here.forked()
    }

    fn end(&self) {
        self.open.revoke();
        self.bell.ring();
    }
}

/// What the ends of a lane hold: its name is in use. The counters, which may be kept longer, do not hold it.
pub(crate) struct LaneLease(pub(crate) Arc<LaneState>);

impl Drop for LaneLease {
    fn drop(&mut self) {
        let LaneState { name, id, link, .. } = &*self.0;
        // For who still reads the counters.
        self.0.end();
        if !self.0.is_forked()
            && let Some(link) = link.upgrade()
        {
            let mut lanes = link.lanes.open.lock();
            if lanes.get(name).is_some_and(|(of, _)| of == id) {
                lanes.remove(name);
            }
        }
    }
}

/// The lanes of a link.
#[derive(Default)]
pub(crate) struct Lanes {
    open: Mutex<FxHashMap<String, (u32, Weak<LaneState>)>>,
    next_id: AtomicU64,
    /// On a renderer: what main has offered and nobody has taken.
    offers: Mutex<Vec<(LaneOffer, OwnedFd)>>,
    offered: Condvar,
    /// How many offers there are when dead ones are looked for again.
    sweep_at: AtomicUsize,
    /// On a renderer: why an offer waits in the socket.
    held_back: Mutex<Option<String>>,
    /// On main: the Welcome has gone out, before which nothing else may.
    is_greeted: AtomicBool,
}

/// What an end is made of.
pub(crate) struct LaneParts {
    pub(crate) state: Arc<LaneState>,
    pub(crate) lease: Arc<LaneLease>,
    pub(crate) region: Arc<Region>,
    pub(crate) outgoing: Option<SlotPlace>,
    pub(crate) incoming: Option<SlotPlace>,
    pub(crate) is_main: bool,
    pub(crate) sleep: Sleep,
    /// Whether its memory could be locked, where that was asked for.
    pub(crate) is_locked: Option<bool>,
    pub(crate) engine: Arc<Engine>,
}

impl LaneParts {
    /// No end came to be: the other side, which has the memory already, finds this one dropped.
    pub(crate) fn abandon(&self) {
        let set = |written_by_main: bool, at: usize| {
            if let Ok(word) = self.region.word32(LaneLayout::block(written_by_main) + at) {
                word.fetch_or(CLOSED, Ordering::Release);
            }
        };
        set(self.is_main, words::SENDER);
        set(!self.is_main, words::RECEIVER);
    }
}

/// Main has dropped its end of a lane that it offered, and nothing lies there: nobody wants this one.
fn is_dead(region: &Arc<Region>, layout: &LaneLayout, kind: LaneKind) -> bool {
    let has = |at: usize, bits: u64| region.word64(at).is_ok_and(|word| word.load(Ordering::Acquire) & bits != 0);
    let is_closed = |written_by_main: bool, at: usize| {
        let word = region.word32(LaneLayout::block(written_by_main) + at);
        word.is_ok_and(|word| word.load(Ordering::Acquire) & CLOSED != 0)
    };
    let holds = || {
        layout.to_renderer.is_some_and(|place| match kind {
            LaneKind::Records => has(place.words, 1),
            LaneKind::Latest => has(LaneLayout::block(true) + words::MIDDLE, FRESH),
        })
    };
    // All of it: one half of a duplex may go on without the other.
    let is_dropped = (layout.to_renderer.is_none() || is_closed(true, words::SENDER))
        && (layout.to_main.is_none() || is_closed(false, words::RECEIVER));
    // Looked at behind that: what was sent before the end is seen.
    is_dropped && !holds()
}

/// What main has offered as it lies in memory, if it can be used.
fn layout_of(offer: &LaneOffer, fd: &OwnedFd) -> Result<LaneLayout> {
    let shape = |terms: Option<LaneTerms>| {
        terms.map(|it| LaneShape { size: it.size as usize, align: it.align as usize, count: it.slots as usize })
    };
    let layout = LaneLayout::new(shape(offer.to_renderer), shape(offer.to_main), offer.id)
        .filter(|layout| layout.region as u64 == offer.region)
        .ok_or_else(|| Error::new(ErrorKind::Protocol, format!("main's lane cannot be used: {offer:?}")))?;
    sys::check_sealed(fd, layout.region).map_err(|why| {
        Error::new(ErrorKind::Protocol, format!("main's lane '{}' cannot be used: {why}", offer.name))
    })?;
    Ok(layout)
}

/// Whether nobody wants an offer any more that nobody has taken.
fn is_dead_offer(offer: &LaneOffer, fd: &OwnedFd) -> bool {
    layout_of(offer, fd).is_ok_and(|layout| {
        // Little of it is looked at.
        let mapping = sys::Mapping::map(fd, layout.region, &[]);
        mapping.is_ok_and(|mapping| is_dead(&Region::mapped(mapping), &layout, offer.kind))
    })
}

fn name_in_use(name: &str) -> Error {
    let text = format!("the lane '{name}' is open already: drop its end first, or take another name");
    Error::new(ErrorKind::NameInUse, text)
}

fn unusable(text: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, text)
}

fn too_large(demand: &Demand) -> Error {
    unusable(format!(
        "a lane of such records cannot be made: a record has 1 byte to {MAX_RECORD} and an alignment of at most {LINE}, a lane \
         at most {MAX_SLOTS} slots, and all must fit into memory: {demand:?}"
    ))
}

impl Link {
    /// Opens this side's end of the lane of this name.
    pub(crate) fn lane(self: &Arc<Self>, name: &str, demand: &Demand) -> Result<LaneParts> {
        self.engine.check_fork()?;
        if self.is_lost() {
            return Err(self.disconnected());
        }
        if name.is_empty() || name.len() > MAX_LANE_NAME {
            return Err(unusable(format!("a lane's name has 1 to {MAX_LANE_NAME} bytes, this one has {}", name.len())));
        }
        if self.engine.is_main() { self.offer_lane(name, demand) } else { self.take_lane(name, demand) }
    }

    /// The Welcome has gone out.
    pub(super) fn is_greeted(&self) {
        self.lanes.is_greeted.store(true, Ordering::Release);
    }

    /// A lane of this name, which nobody else of this process has.
    fn new_lane(self: &Arc<Self>, name: &str, id: u32) -> Result<Arc<LaneLease>> {
        let guard = || sys::ForkGuard::new().map_err(|error| Error::system("cannot open a lane", error));
        let (open, here) = (guard()?, guard()?);
        let (owner, link) = (std::process::id(), Arc::downgrade(self));
        let state = Arc::new(LaneState { open, here, bell: Bell::new(), owner, id, name: name.to_string(), link });
        {
            let mut lanes = self.lanes.open.lock();
            if lanes.contains_key(name) {
                return Err(name_in_use(name));
            }
            lanes.insert(name.to_string(), (id, Arc::downgrade(&state)));
        }
        // One that came after the link's end would be ended by nobody.
        if self.is_lost() {
            state.end();
        }
        Ok(Arc::new(LaneLease(state)))
    }

    fn offer_lane(self: &Arc<Self>, name: &str, demand: &Demand) -> Result<LaneParts> {
        let id = u32::try_from(self.lanes.next_id.fetch_add(1, Ordering::Relaxed) + 1)
            .map_err(|_| Error::new(ErrorKind::Limit, "all numbers of lanes are used up"))?;
        let shape = |direction: &Option<Direction>| {
            direction.map(|it| {
                let count = if demand.kind == LaneKind::Latest { 3 } else { it.slots };
                LaneShape { size: it.size.unwrap_or(0), align: it.align, count }
            })
        };
        let fits = |shape: &LaneShape| shape.size <= MAX_RECORD && shape.count <= MAX_SLOTS;
        let (outgoing, incoming) = (shape(&demand.outgoing), shape(&demand.incoming));
        let layout = LaneLayout::new(outgoing, incoming, id)
            .filter(|_| outgoing.iter().chain(&incoming).all(fits))
            .ok_or_else(|| too_large(demand))?;
        if !self.lanes.is_greeted.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::Full,
                format!("renderer {} is just being greeted, and nothing may come before that: try again", self.id),
            ));
        }
        let lease = self.new_lane(name, id)?;
        let len = layout.region;
        let system = |error| Error::system(format!("cannot make the {len} bytes of the lane '{name}'"), error);
        let fd = sys::create_sealed_memory("ringmain-lane", len, &[0..len]).map_err(system)?;
        let region = Region::mapped(sys::Mapping::map(&fd, len, &[0..len]).map_err(system)?);
        if let Ok(magic) = region.word64(0) {
            magic.store(MAGIC, Ordering::Relaxed);
        }
        let terms = |shape: Option<LaneShape>, direction: &Option<Direction>| -> Option<LaneTerms> {
            let (shape, direction) = (shape?, direction.as_ref()?);
            let [size, slots, align] =
                [shape.size, shape.count, shape.align].map(|it| u32::try_from(it).unwrap_or(u32::MAX));
            Some(LaneTerms { size, slots, align, is_fixed: direction.is_fixed })
        };
        let offer = LaneOffer {
            id,
            name: name.to_string(),
            kind: demand.kind,
            to_renderer: terms(outgoing, &demand.outgoing),
            to_main: terms(incoming, &demand.incoming),
            region: len as u64,
        };
        let socket = self.socket.get().ok_or_else(|| self.disconnected())?;
        failpoint::reached("lane made");
        sys::send_message(&*socket, &offer.encode(), &[fd.as_fd()]).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => Error::new(
                ErrorKind::Full,
                format!(
                    "renderer {} has not taken the lanes that were offered before, and its socket has no room for the \
                     lane '{name}': try again later",
                    self.id
                ),
            ),
            // Its end may be seen here first.
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => self.disconnected(),
            _ if self.is_lost() => self.disconnected(),
            _ => Error::system(format!("cannot hand the lane '{name}' to renderer {}", self.id), error),
        })?;
        failpoint::reached("lane sent");
        Ok(self.parts(lease, region, layout, demand))
    }

    /// On a renderer: takes main's offer, waiting for it.
    fn take_lane(self: &Arc<Self>, name: &str, demand: &Demand) -> Result<LaneParts> {
        let until = Instant::now().checked_add(demand.open_timeout);
        loop {
            let (offer, fd) = self.next_offer(name, demand, until)?;
            match self.map_lane(&offer, &fd, demand) {
                Ok(Some(parts)) => return Ok(parts),
                // Main has dropped it already: the next one of this name.
                Ok(None) => {}
                Err(error) => {
                    // Not lost by that, unless there is a newer one.
                    let mut offers = self.lanes.offers.lock();
                    if !self.is_lost() && !offers.iter().any(|(other, _)| other.name == name) {
                        offers.push((offer, fd));
                        // Who waits for it has been rung for it already, and found it gone.
                        self.lanes.offered.notify_all();
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Main's offer of a lane of this name that fits.
    fn next_offer(&self, name: &str, demand: &Demand, until: Option<Instant>) -> Result<(LaneOffer, OwnedFd)> {
        let mut offers = self.lanes.offers.lock();
        loop {
            if let Some(at) = offers.iter().position(|(offer, _)| offer.name == name) {
                check(&offers[at].0, demand)?;
                return Ok(offers.swap_remove(at));
            }
            if self.is_lost() {
                drop(offers);
                return Err(self.disconnected());
            }
            let is_over = match until {
                Some(until) => self.lanes.offered.wait_until(&mut offers, until).timed_out(),
                None => {
                    self.lanes.offered.wait(&mut offers);
                    false
                }
            };
            if is_over && !offers.iter().any(|(offer, _)| offer.name == name) && !self.is_lost() {
                drop(offers);
                if self.lanes.open.lock().contains_key(name) {
                    return Err(name_in_use(name));
                }
                let why = match &*self.lanes.held_back.lock() {
                    Some(why) => why.clone(),
                    None => "its end is opened by WebContents::lane with the same name".to_string(),
                };
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("main has not opened the lane '{name}' within {:?}: {why}", demand.open_timeout),
                ));
            }
        }
    }

    /// Maps what main has offered. `None`: main's end is dropped, and nothing lies there.
    fn map_lane(self: &Arc<Self>, offer: &LaneOffer, fd: &OwnedFd, demand: &Demand) -> Result<Option<LaneParts>> {
        let name = &offer.name;
        let layout = layout_of(offer, fd)?;
        let lease = self.new_lane(name, offer.id)?;
        failpoint::reached("lane taken");
        let mapping = sys::Mapping::map(fd, layout.region, &[0..layout.region])
            .map_err(|error| Error::system(format!("cannot map the lane '{name}'"), error))?;
        failpoint::reached("lane mapped");
        let region = Region::mapped(mapping);
        if is_dead(&region, &layout, offer.kind) {
            return Ok(None);
        }
        Ok(Some(self.parts(lease, region, layout, demand)))
    }

    fn parts(&self, lease: Arc<LaneLease>, region: Arc<Region>, layout: LaneLayout, demand: &Demand) -> LaneParts {
        let is_main = self.engine.is_main();
        let (outgoing, incoming) =
            if is_main { (layout.to_renderer, layout.to_main) } else { (layout.to_main, layout.to_renderer) };
        let is_locked = demand.lock_memory.then(|| region.lock().is_ok());
        let (sleep, engine) = (self.engine.sleep.clone(), self.engine.clone());
        LaneParts { state: lease.0.clone(), lease, region, outgoing, incoming, is_main, sleep, is_locked, engine }
    }

    /// An offer cannot be taken out of the socket now. What is to be reported, once until the next one is taken.
    pub(super) fn lane_held_back(&self, error: std::io::Error) -> Option<Error> {
        let error = Error::system("a lane of main's waits until its descriptor can be taken", error);
        let before = self.lanes.held_back.lock().replace(error.to_string());
        before.is_none().then_some(error)
    }

    /// Main has sent something by the socket of this renderer.
    pub(super) fn lane_offered(&self, bytes: &[u8], mut fds: Vec<OwnedFd>) -> Result<(), String> {
        *self.lanes.held_back.lock() = None;
        let offer = LaneOffer::decode(bytes)?;
        let (Some(fd), true) = (fds.pop(), fds.is_empty()) else {
            return Err(format!("the lane '{}' came with another number of descriptors than one", offer.name));
        };
        let mut offers = self.lanes.offers.lock();
        // Main has dropped the one of this name before it offers the next.
        offers.retain(|(other, _)| other.name != offer.name);
        if offers.len() >= self.lanes.sweep_at.load(Ordering::Relaxed).max(MANY_OFFERS) {
            offers.retain(|(other, fd)| !is_dead_offer(other, fd));
            self.lanes.sweep_at.store((2 * offers.len()).min(MAX_OFFERS), Ordering::Relaxed);
        }
        if offers.len() >= MAX_OFFERS {
            return Err(format!("it offers the lane '{}' beside {MAX_OFFERS} that nobody has taken", offer.name));
        }
        // One that came after the link's end would stay.
        if !self.is_lost() {
            offers.push((offer, fd));
            self.lanes.offered.notify_all();
        }
        Ok(())
    }

    /// The link has ended: every end learns it, and who waits for an offer.
    pub(super) fn end_lanes(&self) {
        let open: Vec<_> = self.lanes.open.lock().values().filter_map(|(_, lane)| lane.upgrade()).collect();
        for lane in open {
            lane.end();
        }
        let mut offers = self.lanes.offers.lock();
        let left = std::mem::take(&mut *offers);
        self.lanes.offered.notify_all();
        drop(offers);
        drop(left);
    }
}

/// Whether main's offer is what this end wants.
fn check(offer: &LaneOffer, demand: &Demand) -> Result<()> {
    let name = &offer.name;
    if offer.kind != demand.kind {
        return Err(unusable(format!(
            "main's lane '{name}' is of kind {:?}, and {:?} is asked for",
            offer.kind, demand.kind
        )));
    }
    let directions = [
        ("main -> renderer", offer.to_renderer, demand.incoming),
        ("renderer -> main", offer.to_main, demand.outgoing),
    ];
    for (which, offered, wanted) in directions {
        let (offered, wanted) = match (offered, wanted) {
            (Some(offered), Some(wanted)) => (offered, wanted),
            (None, None) => continue,
            (offered, _) => {
                let (has, asks) = if offered.is_some() { ("has", "is not") } else { ("has not", "is") };
                return Err(unusable(format!(
                    "main's lane '{name}' {has} the direction {which}, which {asks} asked for: a sender here needs a \
                     receiver there"
                )));
            }
        };
        let size = offered.size as usize;
        if offered.is_fixed != wanted.is_fixed || wanted.is_fixed && wanted.size != Some(size) {
            let text = |is_fixed, size: Option<usize>| match (is_fixed, size) {
                (true, Some(size)) => format!("records of a type of {size} bytes"),
                _ => "bytes".to_string(),
            };
            return Err(unusable(format!(
                "main's lane '{name}' carries {} {which}, and {} are asked for: both ends name the same type",
                text(offered.is_fixed, Some(size)),
                text(wanted.is_fixed, wanted.size)
            )));
        }
        if (offered.align as usize) < wanted.align {
            return Err(unusable(format!(
                "the records of main's lane '{name}' are aligned to {} bytes {which}, and {} are asked for: main's \
                 LaneConfig::align decides",
                offered.align, wanted.align
            )));
        }
    }
    Ok(())
}

/// A sender that must make no system call says here that its receiver may have to be woken.
pub(crate) struct RelayFlag {
    pub(crate) is_due: AtomicBool,
    pub(crate) waker: Waker,
    pub(crate) state: Arc<LaneState>,
    /// Wakes made.
    pub(crate) wakes: Arc<AtomicU64>,
}

/// The senders whose wakes a helper thread makes. It sleeps while there are none.
#[derive(Default)]
pub(crate) struct Relays {
    senders: Mutex<Senders>,
    changed: Condvar,
}

#[derive(Default)]
struct Senders {
    flags: Vec<Weak<RelayFlag>>,
    has_thread: bool,
    is_stopping: bool,
}

impl Relays {
    /// Ends the helper.
    pub(super) fn stop(&self) {
        self.senders.lock().is_stopping = true;
        self.changed.notify_all();
    }

    fn run(&self) {
        let mut senders = self.senders.lock();
        while !senders.is_stopping {
            senders.flags.retain(|flag| flag.strong_count() > 0);
            if senders.flags.is_empty() {
                self.changed.wait(&mut senders);
                continue;
            }
            for flag in senders.flags.iter().filter_map(Weak::upgrade) {
                // Acquire: what was published before the flag was set is published before the wake.
                let is_due = flag.is_due.swap(false, Ordering::Acquire) && !flag.state.is_over();
                if is_due && flag.waker.after_publish() {
                    flag.wakes.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.changed.wait_for(&mut senders, RELAY_PERIOD);
        }
    }
}

impl Engine {
    /// From here on a helper wakes for this sender.
    pub(crate) fn relay(&self, flag: &Arc<RelayFlag>) -> Result<()> {
        let mut senders = self.relays.senders.lock();
        if senders.is_stopping {
            return Err(Error::new(ErrorKind::Disconnected, "this end was shut down"));
        }
        if !senders.has_thread {
            let relays = self.relays.clone();
            let thread = self
                .thread_hooks
                .spawn(ThreadRole::Relay, move || relays.run())
                .map_err(|error| Error::system("cannot start the thread that wakes for a lane", error))?;
            senders.has_thread = true;
            // Still with the senders' lock: who stops us joins all threads after it has had that.
            self.threads.lock().handles.push(thread);
        }
        senders.flags.push(Arc::downgrade(flag));
        self.relays.changed.notify_all();
        Ok(())
    }
}
