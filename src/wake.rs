//! Who sleeps, and how they are woken.
//!
//! Rule: the reader *announces* itself in the sleeper word, `fence(SeqCst)`, looks once more, sleeps. The writer
//! publishes, `fence(SeqCst)`, looks at the sleeper word, takes the announcement away and rings the one that it names.
//! With either fence missing a wake-up is lost (the loom models show it).
//!
//! A peer may ring us at any time, never, write any value, move our sleepers to other words (FUTEX_REQUEUE). So every
//! sleep has a private part, a [`Bell`], and what our own threads tell each other goes through that.
//!
//! | sleeper word | means |
//! |---|---|
//! | 0 | nobody sleeps, or the announcement was taken away |
//! | [`DISPATCHER`] | the dispatcher sleeps: ring its futex word, with [`BY_EVENTFD`] its eventfd |
//! | `DISPATCHER` + [`QUIET`] | the same, but not for a reply whose caller said that it is awake |
//! | [`CALLER`] | the leading caller sleeps: ring its futex word |

use crate::region::Word32;
use crate::sync::{Arc, AtomicBool, AtomicU32, Mutex, Ordering, Pair, fence, order};
#[cfg(not(loom))]
use std::time::Duration;
use std::time::Instant;

/// Nobody sleeps.
pub(crate) const NOBODY: u32 = 0;
/// The dispatcher sleeps.
pub(crate) const DISPATCHER: u32 = 1;
/// The leading caller sleeps.
pub(crate) const CALLER: u32 = 2;
const WHO: u32 = 3;
/// Not for replies whose caller is awake.
pub(crate) const QUIET: u32 = 4;
/// The dispatcher sleeps in epoll: ring the link's eventfd.
pub(crate) const BY_EVENTFD: u32 = 8;

const EMPTY: u32 = 0;
const RUNG: u32 = 1;
const ASLEEP: u32 = 2;

/// The private part of a thread's sleep: rung by threads of this process only. A ring before the sleep makes the sleep
/// return at once; rings do not add up.
pub(crate) struct Bell {
    word: AtomicU32,
    #[cfg(not(loom))]
    event: std::sync::OnceLock<crate::sys::EventFd>,
}

impl Bell {
    /// A bell for a thread that sleeps in a futex.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            word: AtomicU32::new(EMPTY),
            #[cfg(not(loom))]
            event: std::sync::OnceLock::new(),
        })
    }

    /// From here on the owner sleeps in epoll, which watches the event; it is not asleep now. The first event stays.
    #[cfg(not(loom))]
    pub(crate) fn set_event(&self, event: crate::sys::EventFd) {
        let _ = self.event.set(event);
    }

    /// Makes what watches the event find it, whether anybody sleeps or not.
    #[cfg(not(loom))]
    pub(crate) fn ring_event(&self) {
        if let Some(event) = self.event.get() {
            event.ring();
        }
    }

    /// Wakes the owner, or keeps its next sleep from starting. A system call only if the owner sleeps.
    pub(crate) fn ring(&self) {
        // AcqRel: what was handed over before is seen by the owner after `clear`.
        if self.word.swap(RUNG, order(Pair::Bell, Ordering::AcqRel)) == ASLEEP {
            #[cfg(not(loom))]
            match self.event.get() {
                Some(event) => event.ring(),
                None => {
                    crate::sys::futex_wake(&self.word, crate::sys::Scope::Private, 1);
                }
            }
            #[cfg(loom)]
            crate::sync::futex::wake_one(&self.word);
        }
    }

    /// Takes rings away; what was handed over before them is seen afterwards.
    #[inline]
    pub(crate) fn clear(&self) -> bool {
        if self.word.load(Ordering::Relaxed) == EMPTY {
            return false;
        }
        self.word.swap(EMPTY, order(Pair::Bell, Ordering::AcqRel)) == RUNG
    }

    /// Whether it was rung since the last `clear`.
    #[inline]
    pub(crate) fn is_rung(&self) -> bool {
        self.word.load(Ordering::Relaxed) == RUNG
    }

    /// Says that the owner goes to sleep; false (and nothing said) if it was rung.
    pub(crate) fn prepare(&self) -> bool {
        self.word.compare_exchange(EMPTY, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The bell of a thread that sleeps for something of its own and has to wake for everything else as well: a callback that
/// waits on the thread that runs the callbacks.
#[derive(Default)]
pub(crate) struct Waiting {
    bell: Mutex<Option<Arc<Bell>>>,
    /// Whether there is one: looked at whenever something is handed over.
    is_set: AtomicBool,
}

impl Waiting {
    /// From here on the owner of `bell` is rung; it looks once more afterwards, before it sleeps. `None`: nobody waits.
    pub(crate) fn set(&self, bell: Option<&Arc<Bell>>) {
        self.is_set.store(bell.is_some(), Ordering::Relaxed);
        *self.bell.lock() = bell.cloned();
        // [waiting/ring] pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
    }

    /// After something was handed over: wakes who waits.
    pub(crate) fn ring(&self) {
        // [waiting/ring] pairs with the fence in `set`: either that look finds it, or it is seen here that there is one.
        fence(Ordering::SeqCst);
        if self.is_set.load(Ordering::Relaxed)
            && let Some(bell) = &*self.bell.lock()
        {
            bell.ring();
        }
    }
}

/// Our own words of a link, in which our threads sleep.
pub(crate) struct Own {
    /// Our announcement.
    pub(crate) sleeper: Word32,
    /// Futex word of our dispatcher.
    pub(crate) dispatcher: Word32,
    /// Futex word of our leading caller.
    pub(crate) caller: Word32,
    /// Set by the peer's writer when it found no room.
    pub(crate) peer_wants_room: Word32,
}

#[cfg(all(test, not(loom)))]
thread_local! {
    /// Announcements that this thread has written.
    pub(crate) static ANNOUNCED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Own {
    /// Announces a sleeper. The look at the ring that must follow is behind the fence in here.
    pub(crate) fn announce(&self, who: u32) {
        // A swap where a store would do: loom lets nothing but a read-modify-write decide which of two threads' writes is
        // the later one, and would show the peer its own 0 for ever.
        self.sleeper.swap(who, Ordering::Release);
        #[cfg(all(test, not(loom)))]
        ANNOUNCED.set(ANNOUNCED.get() + 1);
        // [announce/look] pairs with the fence in `Peer::after_publish` and in `Peer::room_was_made`.
        fence(Ordering::SeqCst);
    }

    /// Our announcement as it stands: the peer takes it away when it rings.
    #[inline]
    pub(crate) fn announced(&self) -> u32 {
        self.sleeper.load(Ordering::Relaxed)
    }

    /// Whether a leading caller is announced, which sleeps, or has just been woken by a thread of this process.
    pub(crate) fn has_sleeping_caller(&self) -> bool {
        self.announced() & WHO == CALLER
    }
}

/// How the two sleeping words of a sleep are waited on; made once, because it asks the kernel what it can do.
#[derive(Clone)]
pub(crate) struct Sleep {
    #[cfg(not(loom))]
    two: Arc<crate::sys::WaitTwo>,
}

impl Sleep {
    #[cfg(not(loom))]
    pub(crate) fn probe() -> Self {
        Self { two: Arc::new(crate::sys::WaitTwo::probe()) }
    }

    #[cfg(loom)]
    pub(crate) fn probe() -> Self {
        Self {}
    }

    /// Sleeps until the shared word is no longer `expected`, one of the two is rung, or the time is over. Spurious
    /// returns are normal. [`Bell::prepare`] came before and said yes. Whether somebody, perhaps we, has woken it: neither the
    /// time nor a signal.
    pub(crate) fn on(&self, shared: &Word32, expected: u32, bell: &Bell, until: Option<Instant>) -> bool {
        #[cfg(not(loom))]
        let was_woken = {
            use crate::sys::Wake;
            let timeout = until.map(|at| at.saturating_duration_since(Instant::now()));
            let sleeps = timeout != Some(Duration::ZERO);
            sleeps && self.two.wait((shared, expected), (&bell.word, ASLEEP), timeout) == Wake::Woken
        };
        #[cfg(loom)]
        let was_woken = {
            let _ = until;
            crate::sync::futex::wait_two((shared, expected), (&bell.word, ASLEEP));
            false
        };
        bell.awake();
        was_woken
    }

    /// Sleeps on the private part alone.
    pub(crate) fn private(&self, bell: &Bell, until: Option<Instant>) {
        #[cfg(not(loom))]
        {
            let timeout = until.map(|at| at.saturating_duration_since(Instant::now()));
            if timeout != Some(Duration::ZERO) {
                crate::sys::futex_wait(&bell.word, ASLEEP, crate::sys::Scope::Private, timeout);
            }
        }
        #[cfg(loom)]
        {
            let _ = until;
            crate::sync::futex::wait_two((&bell.word, ASLEEP), (&bell.word, ASLEEP));
        }
        bell.awake();
    }
}

impl Bell {
    /// The owner sleeps no longer; a ring that came stays to be seen by `clear`.
    pub(crate) fn awake(&self) {
        // Fails where it was rung: then RUNG stays.
        let _ = self.word.compare_exchange(ASLEEP, EMPTY, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// The peer's words of a link, and how its sleepers are rung.
pub(crate) struct Peer {
    pub(crate) sleeper: Word32,
    pub(crate) dispatcher: Word32,
    pub(crate) caller: Word32,
    /// Ours to set when we find no room.
    pub(crate) wants_room: Word32,
    /// The eventfd of the peer's dispatcher, where that sleeps in epoll.
    #[cfg(not(loom))]
    pub(crate) event: Option<crate::sys::EventFd>,
}

/// Somebody of the peer's who is to be rung; made under the producer lock, used after it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring(u32);

impl Peer {
    /// After a publish: takes the announcement away if somebody has to be rung for it. `quiet`: what was published is a
    /// reply whose caller said that it is awake.
    #[inline]
    pub(crate) fn after_publish(&self, quiet: bool) -> Option<Ring> {
        // [announce/look] pairs with the fence in `Own::announce`.
        fence(Ordering::SeqCst);
        let who = self.sleeper.load(Ordering::Relaxed);
        if who == NOBODY || (quiet && who & (WHO | QUIET) == DISPATCHER | QUIET) {
            return None;
        }
        self.take()
    }

    /// Takes the announcement away, whoever it names.
    #[cold]
    pub(crate) fn take(&self) -> Option<Ring> {
        match self.sleeper.swap(NOBODY, Ordering::AcqRel) {
            NOBODY => None,
            who => Some(Ring(who)),
        }
    }

    /// The one system call.
    #[cold]
    pub(crate) fn ring(&self, ring: Ring) {
        match ring.0 & WHO {
            CALLER => Self::wake(&self.caller),
            DISPATCHER if ring.0 & BY_EVENTFD == 0 => Self::wake(&self.dispatcher),
            DISPATCHER =>
            {
                #[cfg(not(loom))]
                match &self.event {
                    Some(event) => event.ring(),
                    None => Self::wake(&self.dispatcher),
                }
            }
            // A value that no peer of ours writes: it has nobody to be rung and misses its own wake-ups only.
            _ => {}
        }
    }

    fn wake(word: &Word32) {
        word.fetch_add(1, Ordering::Release);
        #[cfg(not(loom))]
        crate::sys::futex_wake(word, crate::sys::Scope::Shared, 1);
        #[cfg(loom)]
        crate::sync::futex::wake_one(word);
    }

    /// Says that we found no room, and whether we are to be rung when there is some. The second look at the ring that must
    /// follow is behind the fence in here.
    pub(crate) fn want_room(&self, wish: Wish) {
        // A swap, as in `Own::announce`.
        self.wants_room.swap(wish as u32, Ordering::Release);
        // [want/release] pairs with the fence in `room_was_made` and in `Own::announce`.
        fence(Ordering::SeqCst);
    }

    /// Whether this wish for room of ours still stands.
    pub(crate) fn is_wanting(&self, wish: Wish) -> bool {
        self.wants_room.load(Ordering::Relaxed) == wish as u32
    }

    /// Room was found after all.
    pub(crate) fn has_room(&self) {
        if self.wants_room.load(Ordering::Relaxed) != 0 {
            self.wants_room.store(0, Ordering::Relaxed);
        }
    }

    /// After a head was published, where the writer may sleep for room: rings whoever of the peer's sleeps if its writer
    /// wants room. `fenced`: a full fence stands between the publication and here.
    #[inline]
    pub(crate) fn room_was_made(&self, own: &Own, fenced: bool) -> Option<Ring> {
        if !fenced {
            // [want/release] pairs with the fence in `want_room`.
            fence(Ordering::SeqCst);
        }
        // One that looks for itself is left alone, and its wish with it.
        if [0, Wish::Look as u32].contains(&own.peer_wants_room.load(Ordering::Relaxed)) {
            return None;
        }
        own.peer_wants_room.swap(0, Ordering::AcqRel);
        self.take()
    }
}

/// What a writer that found no room says in its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Wish {
    /// It goes to sleep, or on: whoever of its side sleeps is to be rung.
    Ring = 1,
    /// It is awake and looks again by itself.
    Look = 2,
}

/// How a thread waits before it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Wait {
    /// Spin as long as that paid lately, at most as long as a wake-up costs; then sleep.
    #[default]
    Adaptive,
    /// Spin for ever: the lowest latency, one core at 100 %. Where the program has one core alone, it is offered to others in
    /// between (`sched_yield`). A thread of a real-time class does so only where the builder's `spin_on_real_time` says so. A
    /// thread for which another one reads meanwhile does so as long as a wake-up costs, then sleeps, and so does a dispatcher
    /// that was woken to send what had found no room: those others may need its core.
    Spin,
    /// Sleep at once: the least CPU.
    Park,
}

/// The spinning of one kind of waiter: how long it paid lately.
pub(crate) struct Spin {
    mode: Wait,
    /// Present budget in nanoseconds.
    budget: AtomicU32,
    /// What a wake-up was measured to cost, in nanoseconds: spinning longer never pays.
    most: Arc<AtomicU32>,
    /// Threads of a real-time class spin without end too.
    on_real_time: bool,
}

/// What a wake-up costs on a virtual machine, until it was measured (peers.md; design §4: 20 µs there, 3–5 on metal).
pub(crate) const DEFAULT_WAKE_COST_NS: u32 = 20_000;

impl Spin {
    /// `most` is shared, so that a later measurement reaches all.
    pub(crate) fn new(mode: Wait, most: Arc<AtomicU32>) -> Self {
        Self { mode, budget: AtomicU32::new(most.load(Ordering::Relaxed)), most, on_real_time: false }
    }

    /// Whether a thread of a real-time class spins without end too. What it waits for may need its core, and
    /// `RLIMIT_RTTIME` kills a process whose real-time thread does not sleep.
    #[cfg(not(loom))]
    pub(crate) fn on_real_time(self, on_real_time: bool) -> Self {
        Self { on_real_time, ..self }
    }

    /// Begins one wait. Without a budget there is no round of it: on one core whoever is waited for cannot run meanwhile.
    #[inline]
    pub(crate) fn begin(&self) -> Spinning<'_> {
        let parked = self.mode == Wait::Adaptive && self.budget.load(Ordering::Relaxed) == 0;
        Spinning { spin: self, rounds: 0, clocks: 0, since: None, parked, is_endless: self.is_endless() }
    }

    #[inline]
    fn is_endless(&self) -> bool {
        self.mode == Wait::Spin && (self.on_real_time || !is_real_time())
    }

    /// The same beside somebody who reads for us: never without end, because that thread may need our core.
    pub(crate) fn begin_to_follow(&self) -> Spinning<'_> {
        let parked = self.mode == Wait::Park || self.budget.load(Ordering::Relaxed) == 0;
        Spinning { parked, is_endless: false, ..self.begin() }
    }
}

/// Whether the calling thread was of a real-time class when it first waited: to ask each time would be a system call each
/// time.
#[inline]
fn is_real_time() -> bool {
    #[cfg(not(loom))]
    {
        thread_local! {
            static IS: std::cell::OnceCell<bool> = const { std::cell::OnceCell::new() };
        }
        IS.try_with(|is| *is.get_or_init(crate::sys::is_real_time)).unwrap_or(false)
    }
    #[cfg(loom)]
    false
}

/// One wait of a [`Spin`].
pub(crate) struct Spinning<'a> {
    spin: &'a Spin,
    /// 64 bits: a wait that spins may last for days.
    rounds: u64,
    /// Readings of the clock that these rounds have come to.
    clocks: u64,
    since: Option<Instant>,
    parked: bool,
    is_endless: bool,
}

/// What the waiter does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Look again.
    Again,
    /// Look again, and also at what is looked at rarely: the deadline, the gone flag.
    LookAround,
    /// Enough: sleep.
    Sleep,
}

/// Rounds between two readings of the clock (22 ns each).
const ROUNDS_PER_CLOCK: u64 = 128;

/// Looks that take about as long as a round, which pauses.
const LOOKS_PER_ROUND: u64 = 8;

/// Looks at the one word that matters between two looks at all the rest, and between two pauses: a pause takes 40 to 140
/// cycles, and what comes meanwhile is noticed that much later (5 % of a call of 64 B).
pub(crate) const LOOKS: u64 = 16;

impl Spinning<'_> {
    /// One round.
    #[inline]
    pub(crate) fn round(&mut self) -> Next {
        if self.spin.mode == Wait::Park || cfg!(loom) || self.parked {
            self.parked = true;
            return Next::Sleep;
        }
        crate::sync::spin_loop();
        self.rounds += 1;
        if self.rounds < ROUNDS_PER_CLOCK * (self.clocks + 1) {
            return Next::Again;
        }
        self.clocks = self.rounds / ROUNDS_PER_CLOCK;
        if self.is_endless {
            if self.spin.most.load(Ordering::Relaxed) == 0 {
                // One core: whoever is waited for would get it only when the scheduler takes it from us.
                std::thread::yield_now();
            }
            return Next::LookAround;
        }
        let budget = u64::from(self.spin.budget.load(Ordering::Relaxed));
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since).as_nanos() as u64 >= budget {
            self.parked = true;
            return Next::Sleep;
        }
        Next::LookAround
    }

    /// Some rounds of a spin that looks at one thing alone: what is waited for is noticed sooner than by a look at
    /// everything. None where no spinning is wanted.
    #[inline]
    pub(crate) fn look_at(&mut self, is_there: impl Fn() -> bool) {
        if self.spin.mode == Wait::Park || cfg!(loom) || self.parked {
            return;
        }
        for _ in 0..LOOKS {
            if is_there() {
                return;
            }
        }
        self.looked(LOOKS);
    }

    /// So many looks without a pause were taken, which belong to this wait.
    #[inline]
    pub(crate) fn looked(&mut self, looks: u64) {
        self.rounds += looks / LOOKS_PER_ROUND;
    }

    /// Whether `round` has said [`Next::Sleep`].
    pub(crate) fn has_slept(&self) -> bool {
        self.parked
    }

    /// The wait is over with success: adapts the budget.
    #[inline]
    pub(crate) fn succeeded(&mut self) {
        if self.rounds < ROUNDS_PER_CLOCK && !self.parked {
            return; // came at once: the budget is long enough as it is
        }
        self.adapt();
    }

    #[cold]
    fn adapt(&self) {
        let most = self.spin.most.load(Ordering::Relaxed);
        let budget = self.spin.budget.load(Ordering::Relaxed);
        let waited = self.since.map_or(0, |since| since.elapsed().as_nanos() as u64);
        // A sleep that ended within twice the price of a wake-up would have been cheaper as a spin.
        let paid = !self.parked || waited < 2 * u64::from(most);
        // Never below a quarter: what a sleep costs is lost in any case, and the parts of a large message come that soon.
        let new = if paid { budget.saturating_mul(2) } else { budget / 2 }.max(most / 4);
        self.spin.budget.store(new.min(most), Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

/// Measures what a wake-up costs: two threads wake each other a few times.
#[cfg(not(loom))]
pub(crate) struct Measure {
    there: AtomicU32,
    back: AtomicU32,
}

#[cfg(not(loom))]
impl Measure {
    const ROUNDS: u32 = 9;
    /// On a busy machine the other thread may come late: then nothing is measured.
    const PATIENCE: Duration = Duration::from_millis(20);

    pub(crate) fn new() -> Self {
        Self { there: AtomicU32::new(0), back: AtomicU32::new(0) }
    }

    fn wait_for(word: &AtomicU32, round: u32) -> bool {
        let until = Instant::now() + Self::PATIENCE;
        while word.load(Ordering::Acquire) < round {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            crate::sys::futex_wait(word, round - 1, crate::sys::Scope::Private, Some(left));
        }
        true
    }

    fn say(word: &AtomicU32, round: u32) {
        word.store(round, Ordering::Release);
        crate::sys::futex_wake(word, crate::sys::Scope::Private, 1);
    }

    /// The measuring thread: the median of one way, in nanoseconds.
    pub(crate) fn first(&self) -> Option<u32> {
        let mut times = Vec::with_capacity(Self::ROUNDS as usize);
        for round in 1..=Self::ROUNDS {
            let start = Instant::now();
            Self::say(&self.there, round);
            if !Self::wait_for(&self.back, round) {
                return None;
            }
            times.push(start.elapsed().as_nanos() as u32 / 2);
        }
        times.sort_unstable();
        Some(times[times.len() / 2].clamp(1_000, 50_000))
    }

    /// The other thread.
    pub(crate) fn second(&self) {
        for round in 1..=Self::ROUNDS {
            if !Self::wait_for(&self.there, round) {
                return;
            }
            Self::say(&self.back, round);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
