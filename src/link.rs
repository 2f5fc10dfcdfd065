//! The session of one link: handshake, agreed terms, orderly close and "the peer is gone", without I/O.
//!
//! Main speaks first: its Welcome waits in the socket before the renderer looks, so connecting costs no round trip. The
//! renderer answers with one Hello; from then on the socket says nothing but "hung up".
//!
//! ```text
//!            Transmit(Welcome)                 Hello
//!   main     ───────────────── Handshake ───────────────► Open ──┐ hung up, ended, closed, violated
//!                                  │                             ▼
//!                                  └─────────────────────► Ending: reason known? ring drained? ──► Gone
//!   renderer ───────────────── Handshake ───────────────► Open ──┘
//!                                             Welcome
//!                          Opened, Transmit(Hello)
//! ```
//!
//! [`Link`] is fed by its driver with what happened and when, and then asked for [`Output`]s until there are none and
//! for its [next deadline](Link::next_deadline). Outputs come in this order, each at most once: `Transmit`, `Opened`,
//! `PeerLost`, `ShutSocket`, `DrainRing`, `Gone`; on a renderer `Opened` precedes `Transmit`. `PeerLost` and `DrainRing`
//! come only if `Opened` did, `Gone` always comes last.
//!
//! A driver has to feed everything that the socket still holds before it reports a hang-up or an exit: a renderer that
//! connects, sends and ends at once is a legal one, and what it sent is delivered.
//!
//! # Wire form
//!
//! Little-endian, packed, one datagram each, at most 4096 bytes. A text is its length in bytes (u16) and UTF-8.
//!
//! | both | type |
//! |---|---|
//! | magic `RINGMAIN` | 8 bytes |
//! | message: 1 Welcome, 2 Hello, 3 Lane (`link/lane.rs`) | u8 |
//! | major, minor version | u16, u16 |
//! | length of the whole datagram | u32 |
//!
//! | Welcome | type |
//! |---|---|
//! | link id (WebContents id), not 0 | u32 |
//! | main's process id | u32 |
//! | backing: 1 sealed memory by descriptor, 2 named memory | u8 |
//! | reserved, 0 | u8 |
//! | descriptors that come along, in the order of the bits below | u16 |
//! | region length in bytes | u64 |
//! | offset in bytes and words of 8 bytes: ring main → renderer, ring renderer → main | u64, u64, u64, u64 |
//! | offset of the control block in bytes | u64 |
//! | receive limits: message size; pending calls, depth, values, text | u64; u32, u32, u32, u32 |
//! | queue limit in bytes, for information | u64 |
//! | doorbells that the sender can ring: bit 0 futex, 1 eventfd | u32 |
//! | doorbell that its dispatcher sleeps on: 1 futex, 2 eventfd | u8 |
//! | publish discipline of either direction: 1 writers fence, 2 sleepers issue a barrier (not offered) | u8, u8 |
//! | reserved, 0 | u8 |
//! | reserved, 0 (room for lanes, which have regions of their own) | u32 |
//! | name of the region (backing 2 only), at most 255 bytes | text |
//! | application name, application version, at most 255 bytes each | text, text |
//!
//! Descriptors: bit 0 the region, 1 main's doorbell, 2 the renderer's doorbell, 3 main's pidfd. A Hello has none.
//!
//! | Hello | type |
//! |---|---|
//! | 1 accepted, 0 refused | u8 |
//! | reserved, 0 | u8 |
//! | renderer's process id | u32 |
//! | receive limits, as above | u64; u32, u32, u32, u32 |
//! | doorbells that the sender can ring | u32 |
//! | doorbell that its dispatcher sleeps on | u8 |
//! | reserved, 0 | u8 |
//! | why it refuses (if it does), at most 1024 bytes | text |
//! | application name, application version, at most 255 bytes each | text, text |
//!
//! The common part is the same in every version. Majors must be equal. A later minor version may only append fields,
//! which an earlier one skips; an earlier or equal minor version has no bytes after the last field. Reserved fields
//! stay 0 in all minor versions of this major version.

#![forbid(unsafe_code)]

mod lane;
#[cfg(test)]
mod tests;

pub(crate) use lane::{LaneKind, LaneOffer, LaneTerms, MAX_LANE_NAME};

use std::{
    collections::VecDeque,
    fmt::{self, Display},
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// Version of the protocol (handshake, region layout, records, messages) that this crate speaks.
pub(crate) const MAJOR: u16 = 1;
pub(crate) const MINOR: u16 = 0;
/// The longest legal datagram. Receive into one byte more, so that a longer one is seen as such.
pub(crate) const MAX_DATAGRAM: usize = 4096;
/// How long a started renderer may take to connect, unless configured otherwise.
pub(crate) const SPAWN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a process that connected to a listening main, or a main connected to, may take to say its part.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A killed process closes its socket a moment before its pidfd tells how it ended: on a busy machine it may get no core
/// between the two for some hundred milliseconds. Whoever waits is told at once; only the reason waits for that.
pub(crate) const EXIT_GRACE: Duration = Duration::from_secs(1);

/// How often [`EXIT_GRACE`] begins anew for a process that the system says to be ending: it may get no core for longer than that,
/// and one whose first thread alone has ended seems to be ending as long as it lives.
const EXIT_GRACES: u32 = 10;

const MAGIC: &[u8; 8] = b"RINGMAIN";
const HEADER: usize = 17;
const WELCOME: u8 = 1;
const HELLO: u8 = 2;
const WRITERS_FENCE: u8 = 1;
const MAX_NAME: usize = 255;
const MAX_REFUSAL: usize = 1024;

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GoneReason {
    /// The process ended by itself. The code is known for processes that this one started.
    Exited {
        /// What the process gave to `exit`.
        code: Option<i32>,
    },
    /// A signal ended the process.
    Killed {
        /// The number of the signal.
        signal: i32,
    },
    /// The peer broke the protocol, in the way that the text says; its link was cut.
    Corrupt(String),
    /// One of the two sides closed the link, or the peer let go of it without ending.
    Closed,
    /// The link never came to work, for the reason that the text says.
    NeverConnected(String),
}

impl Display for GoneReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code: Some(code) } => write!(f, "the process exited with code {code}"),
            Self::Exited { code: None } => f.write_str("the process exited"),
            Self::Killed { signal } => write!(f, "the process was killed by signal {signal}"),
            Self::Corrupt(text) => write!(f, "the peer broke the protocol: {text}"),
            Self::Closed => f.write_str("the link was closed"),
            Self::NeverConnected(text) => write!(f, "the link was never connected: {text}"),
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// `None`: not our child, so the code is not ours to know (and neither is whether it was killed).
    Exited(Option<i32>),
    Killed(i32),
}

impl From<Exit> for GoneReason {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Exited(code) => Self::Exited { code },
            Exit::Killed(signal) => Self::Killed { signal },
        }
    }
}

/// Which end of the link this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Main,
    Renderer,
}

impl Side {
    fn peer(self) -> Self {
        match self {
            Self::Main => Self::Renderer,
            Self::Renderer => Self::Main,
        }
    }
}

impl Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Main => "main",
            Self::Renderer => "the renderer",
        })
    }
}

/// What one side is willing to receive; none of them 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) max_message_size: u64,
    pub(crate) max_pending_calls: u32,
    pub(crate) max_depth: u32,
    pub(crate) max_values: u32,
    pub(crate) max_text: u32,
}

impl Limits {
    fn min(self, other: Self) -> Self {
        Self {
            max_message_size: self.max_message_size.min(other.max_message_size),
            max_pending_calls: self.max_pending_calls.min(other.max_pending_calls),
            max_depth: self.max_depth.min(other.max_depth),
            max_values: self.max_values.min(other.max_values),
            max_text: self.max_text.min(other.max_text),
        }
    }

    fn check(self) -> Result<Self, String> {
        let all = [
            ("message size", self.max_message_size),
            ("number of pending calls", self.max_pending_calls.into()),
            ("depth", self.max_depth.into()),
            ("number of values", self.max_values.into()),
            ("text length", self.max_text.into()),
        ];
        match all.iter().find(|(_, limit)| *limit == 0) {
            Some((name, _)) => Err(format!("its limit for the {name} is 0")),
            None => Ok(self),
        }
    }
}

/// What a sleeping thread is woken through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doorbell {
    Futex = 1,
    EventFd = 2,
}

/// The doorbells that a process can ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doorbells(u32);

impl Doorbells {
    #[cfg(test)]
    pub(crate) const FUTEX: Self = Self(1);
    pub(crate) const FUTEX_AND_EVENTFD: Self = Self(3);

    pub(crate) fn contains(self, doorbell: Doorbell) -> bool {
        self.0 & doorbell as u32 != 0
    }
}

/// How one side is woken, and wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waking {
    pub(crate) can_ring: Doorbells,
    /// What the dispatcher sleeps on. Callers always sleep on futexes.
    pub(crate) sleeps_on: Doorbell,
}

/// The descriptors that accompany the Welcome, in the order of the bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors(u16);

impl Descriptors {
    /// The sealed memory of the region.
    pub(crate) const REGION: Self = Self(1);
    /// The eventfd that wakes main's dispatcher.
    pub(crate) const MAIN_DOORBELL: Self = Self(2);
    /// The eventfd that wakes the renderer's dispatcher.
    pub(crate) const RENDERER_DOORBELL: Self = Self(4);
    /// Main's pidfd.
    pub(crate) const PROCESS: Self = Self(8);
    const ALL: u16 = 15;

    #[must_use]
    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn count(self) -> usize {
        self.0.count_ones() as usize
    }
}

/// Where the region's memory comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    Sealed,
    Named(String),
}

/// Where a ring lies in the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingPlace {
    /// In bytes.
    pub(crate) offset: u64,
    /// Length in words of 8 bytes.
    pub(crate) words: u64,
}

impl RingPlace {
    fn end(self) -> Option<u64> {
        self.words.checked_mul(8)?.checked_add(self.offset)
    }
}

/// The region as the Welcome describes it: arithmetic checked here, everything else where it is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionTerms {
    pub(crate) backing: Backing,
    pub(crate) len: u64,
    pub(crate) main_to_renderer: RingPlace,
    pub(crate) renderer_to_main: RingPlace,
    pub(crate) control_offset: u64,
}

impl RegionTerms {
    fn check(self) -> Result<Self, String> {
        let Self { len, main_to_renderer, renderer_to_main, control_offset, .. } = self;
        let rings = [("main -> renderer", main_to_renderer), ("renderer -> main", renderer_to_main)];
        if let Some(odd) = [len, main_to_renderer.offset, renderer_to_main.offset, control_offset]
            .into_iter()
            .find(|bytes| bytes % 8 != 0)
        {
            return Err(format!("its region has a length or offset of {odd}, no multiple of 8"));
        }
        for (name, ring) in rings {
            if ring.words == 0 || ring.end().is_none_or(|end| end > len) {
                let RingPlace { offset, words } = ring;
                return Err(format!(
                    "its ring {name} of {words} words at {offset} does not lie in a region of {len} bytes"
                ));
            }
        }
        let (first, second) = if main_to_renderer.offset <= renderer_to_main.offset {
            (main_to_renderer, renderer_to_main)
        } else {
            (renderer_to_main, main_to_renderer)
        };
        if first.end().is_none_or(|end| end > second.offset) {
            let RingPlace { offset, words } = first;
            return Err(format!("its ring of {words} words at {offset} overlaps its other ring at {}", second.offset));
        }
        if control_offset >= len {
            return Err(format!("its control block at {control_offset} does not lie in a region of {len} bytes"));
        }
        let inside = |ring: RingPlace| (ring.offset..ring.end().unwrap_or(u64::MAX)).contains(&control_offset);
        match rings.into_iter().find(|(_, ring)| inside(*ring)) {
            Some((name, _)) => Err(format!("its control block at {control_offset} lies in its ring {name}")),
            None => Ok(self),
        }
    }
}

/// An application's own name and version, for logs and for its own checks. Cut to 255 bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// What each side brings into a link.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) pid: u32,
    pub(crate) app: App,
    /// What this side is willing to receive.
    pub(crate) limits: Limits,
    pub(crate) waking: Waking,
    /// For the peer's part of the handshake; `None` waits for ever (a debugger).
    pub(crate) timeout: Option<Duration>,
    /// [`Link::process_ended`] will be called when the peer's process ends. A renderer that got main's pidfd with the
    /// Welcome need not say so.
    pub(crate) sees_exit: bool,
}

/// What main offers in addition.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) link_id: NonZeroU32,
    pub(crate) region: RegionTerms,
    /// What the driver attaches to the Welcome.
    pub(crate) descriptors: Descriptors,
    /// How many bytes of messages main lets wait for this renderer.
    pub(crate) queue_limit: u64,
}

/// Who the peer says it is. Its word only: trust is founded on the socket's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) pid: u32,
    pub(crate) app: App,
    pub(crate) waking: Waking,
    /// The minor version that both speak: the lower one.
    pub(crate) minor: u16,
}

/// The terms of an opened link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) link_id: NonZeroU32,
    pub(crate) peer: Peer,
    /// What this side may send: the lower of its own and the peer's limit, each.
    pub(crate) send: Limits,
    pub(crate) region: RegionTerms,
    pub(crate) descriptors: Descriptors,
    pub(crate) queue_limit: u64,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send this as one datagram; a Welcome with its descriptors, a Hello without. If that fails: [`Link::hung_up`].
    Transmit(Vec<u8>),
    /// The terms are agreed. A renderer maps the region now, before it goes on to `Transmit`, and calls
    /// [`Link::refuse`] if it cannot.
    Opened(Agreed),
    /// No call on this link will be answered any more: fail those that wait, start none.
    PeerLost,
    /// Close the socket.
    ShutSocket,
    /// Deliver what is in the incoming ring, then call [`Link::drained`].
    DrainRing,
    /// The end: nothing follows, and every later input is ignored.
    Gone(GoneReason),
}

#[derive(Debug)]
enum State {
    Handshake,
    Open,
    Ending {
        reason: GoneReason,
        /// `reason` stands; otherwise an exit may still come in with a better one until the deadline.
        settled: bool,
        draining: bool,
    },
    Gone,
}

/// The machine. See the [module](self).
#[derive(Debug)]
pub(crate) struct Link {
    side: Side,
    config: Config,
    /// Main's until it is agreed upon.
    offer: Option<Offer>,
    state: State,
    deadline: Option<Instant>,
    /// How often [`EXIT_GRACE`] may begin anew.
    graces: u32,
    outputs: VecDeque<Output>,
}

impl Link {
    /// Main's end. The Welcome is its first output.
    pub(crate) fn main(config: Config, offer: Offer, now: Instant) -> Self {
        let mut link = Self::new(Side::Main, config, now);
        match Welcome::new(&link.config, &offer).check() {
            Ok(welcome) => link.outputs.push_back(Output::Transmit(welcome.encode())),
            Err(text) => link.end(now, Some(never(format!("this main cannot make its offer: {text}")))),
        }
        link.offer = Some(offer);
        link
    }

    /// A renderer's end, which waits for the Welcome.
    pub(crate) fn renderer(config: Config, now: Instant) -> Self {
        Self::new(Side::Renderer, config, now)
    }

    /// A machine that has ended.
    pub(crate) fn gone() -> Self {
        let limits = Limits { max_message_size: 1, max_pending_calls: 1, max_depth: 1, max_values: 1, max_text: 1 };
        let waking = Waking { can_ring: Doorbells::FUTEX_AND_EVENTFD, sleeps_on: Doorbell::Futex };
        let config = Config { pid: 0, app: App::default(), limits, waking, timeout: None, sees_exit: false };
        let (state, outputs) = (State::Gone, VecDeque::new());
        Self { side: Side::Main, config, offer: None, state, deadline: None, graces: 0, outputs }
    }

    fn new(side: Side, config: Config, now: Instant) -> Self {
        let deadline = config.timeout.and_then(|timeout| now.checked_add(timeout));
        let (state, outputs) = (State::Handshake, VecDeque::new());
        Self { side, config, offer: None, state, deadline, graces: EXIT_GRACES, outputs }
    }

    #[cfg(test)]
    pub(crate) fn side(&self) -> Side {
        self.side
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`timeout`](Self::timeout) is to be called, unless another input comes first.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// A datagram arrived (not one of length 0, which is how the end of a socket reads), along with `descriptors`
    /// descriptors. They belong to the driver: only those of the Welcome that led to `Opened` are of use.
    pub(crate) fn datagram(&mut self, now: Instant, bytes: &[u8], descriptors: usize) {
        if !matches!(self.state, State::Handshake) {
            let (peer, len) = (self.side.peer(), bytes.len());
            return self.violation(
                now,
                format!("{peer} sent {len} bytes and {descriptors} descriptors on the socket after the handshake"),
            );
        }
        let opened = match self.side {
            Side::Main => self.read_hello(bytes, descriptors),
            Side::Renderer => self.read_welcome(bytes, descriptors),
        };
        match opened {
            Ok(agreed) => {
                self.state = State::Open;
                self.deadline = None;
                self.outputs.push_back(Output::Opened(agreed));
                if self.side == Side::Renderer {
                    self.transmit_hello("");
                }
            }
            Err(reason) => {
                // Tell main why, if it is one.
                if self.side == Side::Renderer && bytes.starts_with(MAGIC) {
                    self.transmit_hello(&reason.to_string());
                }
                self.end(now, Some(reason));
            }
        }
    }

    /// This side cannot go along with the terms: the region cannot be mapped, or a policy says no. A renderer whose
    /// Hello has not been [polled](Self::poll_output) yet tells main.
    pub(crate) fn refuse(&mut self, now: Instant, why: impl Into<String>) {
        let mut why = why.into();
        if why.is_empty() {
            why.push_str("no reason given");
        }
        if !matches!(self.state, State::Handshake | State::Open) {
            return;
        }
        let queued = self.outputs.len();
        self.outputs.retain(|output| !matches!(output, Output::Transmit(_)));
        let unsaid = self.outputs.len() < queued || matches!(self.state, State::Handshake);
        if self.side == Side::Renderer && unsaid {
            self.transmit_hello(&why);
        }
        self.end(now, Some(never(why)));
    }

    /// The socket hung up. Callers learn it at once; the reason waits a moment for the process's own end, where that
    /// is seen.
    pub(crate) fn hung_up(&mut self, now: Instant) {
        self.end(now, None);
    }

    /// The peer's process ended.
    pub(crate) fn process_ended(&mut self, now: Instant, exit: Exit) {
        self.end(now, Some(exit.into()));
    }

    /// The peer's process is about to end, as the system says: how is waited for a while longer.
    pub(crate) fn process_is_exiting(&mut self, now: Instant) {
        if matches!(self.state, State::Ending { settled: false, .. }) && self.graces > 0 {
            self.graces -= 1;
            self.deadline = now.checked_add(EXIT_GRACE);
        }
    }

    /// Time passed. Too early is harmless.
    pub(crate) fn timeout(&mut self, now: Instant) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        self.deadline = None;
        match &mut self.state {
            State::Handshake => {
                let (peer, after) = (self.side.peer(), self.config.timeout.unwrap_or_default());
                self.end(now, Some(never(format!("{peer} did not answer within {after:?}"))));
            }
            State::Ending { settled, .. } => {
                *settled = true;
                self.settle();
            }
            State::Open | State::Gone => {}
        }
    }

    /// This side closes the link; what it had to say, its Close message last, is in the ring already.
    pub(crate) fn local_close(&mut self, now: Instant) {
        // A link whose peer is lost already goes on looking for that reason.
        if matches!(self.state, State::Handshake | State::Open) {
            self.end(now, Some(GoneReason::Closed));
        }
    }

    /// The peer's Close message was read from the ring.
    pub(crate) fn peer_close(&mut self, now: Instant) {
        match self.state {
            State::Handshake => {
                self.violation(now, format!("{} closed a link that is not open", self.side.peer()));
            }
            // It closed the link before its process ended, whichever was noticed first.
            State::Ending { draining: true, reason: GoneReason::Exited { .. } | GoneReason::Killed { .. }, .. } => {
                if let State::Ending { reason, .. } = &mut self.state {
                    *reason = GoneReason::Closed;
                }
            }
            _ => self.end(now, Some(GoneReason::Closed)),
        }
    }

    /// The peer broke a rule, as seen here or in any other layer. Its ring is not read any more.
    pub(crate) fn violation(&mut self, now: Instant, text: impl Into<String>) {
        self.end(now, Some(GoneReason::Corrupt(text.into())));
    }

    /// [`Output::DrainRing`] is done.
    pub(crate) fn drained(&mut self, _now: Instant) {
        if let State::Ending { draining, .. } = &mut self.state {
            *draining = false;
            self.settle();
        }
    }

    /// The one way out of a link that lives, for `reason`, or for one still to be found; and what improves the reason
    /// of one that is ending.
    fn end(&mut self, now: Instant, reason: Option<GoneReason>) {
        // Nothing more is believed of one that broke the rules, and one refused was never heard.
        let unheard = matches!(reason, Some(GoneReason::Corrupt(_) | GoneReason::NeverConnected(_)));
        match &mut self.state {
            State::Handshake | State::Open => {
                let opened = matches!(self.state, State::Open);
                self.outputs.extend(opened.then_some(Output::PeerLost));
                self.outputs.push_back(Output::ShutSocket);
                let draining = opened && !unheard;
                self.outputs.extend(draining.then_some(Output::DrainRing));
                self.deadline = match reason {
                    None if self.config.sees_exit => now.checked_add(EXIT_GRACE),
                    _ => None,
                };
                let settled = self.deadline.is_none();
                let reason = reason.unwrap_or_else(|| match opened {
                    true => GoneReason::Closed,
                    false => never(format!("{} hung up during the handshake", self.side.peer())),
                });
                self.state = State::Ending { reason, settled, draining };
            }
            State::Ending { reason: found, settled, draining } => {
                if let Some(reason) = reason.filter(|_| !*settled) {
                    (*found, *settled) = (reason, true);
                    self.deadline = None;
                }
                *draining &= !unheard;
            }
            State::Gone => {}
        }
        self.settle();
    }

    fn settle(&mut self) {
        if matches!(self.state, State::Ending { settled: true, draining: false, .. })
            && let State::Ending { reason, .. } = std::mem::replace(&mut self.state, State::Gone)
        {
            self.deadline = None;
            self.outputs.push_back(Output::Gone(reason));
        }
    }

    fn transmit_hello(&mut self, refusal: &str) {
        let Config { pid, app, limits, waking, .. } = &self.config;
        let (app, refusal) = (app.clone(), refusal.to_string());
        let hello = Hello { pid: *pid, limits: *limits, waking: *waking, app, refusal };
        self.outputs.push_back(Output::Transmit(hello.encode()));
    }

    fn read_welcome(&mut self, bytes: &[u8], descriptors: usize) -> Result<Agreed, GoneReason> {
        let (minor, welcome) = parse(bytes, self.side, WELCOME, Welcome::read)?;
        let Welcome { offer, pid, limits, waking, app } = welcome;
        if descriptors != offer.descriptors.count() {
            return Err(GoneReason::Corrupt(format!(
                "main's Welcome announces {} descriptors, but {descriptors} came",
                offer.descriptors.count()
            )));
        }
        self.config.sees_exit |= offer.descriptors.contains(Descriptors::PROCESS);
        self.agree(offer, Peer { pid, app, waking, minor }, limits)
    }

    fn read_hello(&mut self, bytes: &[u8], descriptors: usize) -> Result<Agreed, GoneReason> {
        if descriptors != 0 {
            return Err(GoneReason::Corrupt(format!(
                "the renderer's Hello came with {descriptors} descriptors, but it must have none"
            )));
        }
        let (minor, hello) = parse(bytes, self.side, HELLO, Hello::read)?;
        let Hello { refusal, pid, limits, waking, app } = hello;
        if !refusal.is_empty() {
            return Err(never(format!("the renderer (process {pid}) refused: {refusal:?}")));
        }
        match self.offer.take() {
            Some(offer) => self.agree(offer, Peer { pid, app, waking, minor }, limits),
            None => Err(never("this main has made no offer".to_string())),
        }
    }

    fn agree(&self, offer: Offer, peer: Peer, limits: Limits) -> Result<Agreed, GoneReason> {
        let (here, there) = ((self.side, self.config.waking), (self.side.peer(), peer.waking));
        for ((sleeper, Waking { sleeps_on, .. }), (ringer, Waking { can_ring, .. })) in [(there, here), (here, there)] {
            if !can_ring.contains(sleeps_on) {
                return Err(never(format!(
                    "{sleeper} sleeps on doorbells of form {sleeps_on:?}, which {ringer} cannot ring"
                )));
            }
            let descriptor = match sleeper {
                Side::Main => Descriptors::MAIN_DOORBELL,
                Side::Renderer => Descriptors::RENDERER_DOORBELL,
            };
            if sleeps_on == Doorbell::EventFd && !offer.descriptors.contains(descriptor) {
                return Err(never(format!("{sleeper} sleeps on an eventfd, but main's Welcome brings none for it")));
            }
        }
        let Offer { link_id, region, descriptors, queue_limit } = offer;
        let send = self.config.limits.min(limits);
        Ok(Agreed { link_id, peer, send, region, descriptors, queue_limit })
    }
}

fn never(text: String) -> GoneReason {
    GoneReason::NeverConnected(text)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hello {
    /// Empty: accepted.
    refusal: String,
    pid: u32,
    limits: Limits,
    waking: Waking,
    app: App,
}

#[derive(Clone, Debug)]
struct Welcome {
    offer: Offer,
    pid: u32,
    limits: Limits,
    waking: Waking,
    app: App,
}

impl Welcome {
    fn new(config: &Config, offer: &Offer) -> Self {
        let Config { pid, app, limits, waking, .. } = config;
        Self { offer: offer.clone(), pid: *pid, limits: *limits, waking: *waking, app: app.clone() }
    }

    /// What must hold of a Welcome, whether it is to be sent or has been read.
    fn check(self) -> Result<Self, String> {
        let Offer { region, descriptors, .. } = &self.offer;
        if descriptors.0 & !Descriptors::ALL != 0 {
            return Err(format!("it brings unknown descriptors ({:#b})", descriptors.0));
        }
        match &region.backing {
            Backing::Sealed if !descriptors.contains(Descriptors::REGION) => {
                return Err("its region is sealed memory, but it brings no descriptor of it".to_string());
            }
            Backing::Named(_) if descriptors.contains(Descriptors::REGION) => {
                return Err("its region is named, but it brings a descriptor of it".to_string());
            }
            Backing::Named(name) if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') => {
                return Err(format!(
                    "the name of its region ({name:?}) is empty, longer than {MAX_NAME} bytes or has a NUL"
                ));
            }
            _ => {}
        }
        region.clone().check()?;
        self.limits.check()?;
        Ok(self)
    }

    fn encode(&self) -> Vec<u8> {
        let Offer { link_id, region, descriptors, queue_limit } = &self.offer;
        let (backing, name) = match &region.backing {
            Backing::Sealed => (1, ""),
            Backing::Named(name) => (2, name.as_str()),
        };
        let mut out = Writer::new(WELCOME);
        out.u32(link_id.get());
        out.u32(self.pid);
        out.u8(backing);
        out.u8(0);
        out.u16(descriptors.0);
        out.u64(region.len);
        for ring in [region.main_to_renderer, region.renderer_to_main] {
            out.u64(ring.offset);
            out.u64(ring.words);
        }
        out.u64(region.control_offset);
        out.limits(self.limits);
        out.u64(*queue_limit);
        out.waking(self.waking);
        out.u8(WRITERS_FENCE);
        out.u8(WRITERS_FENCE);
        out.u8(0);
        out.u32(0);
        out.text(name, MAX_NAME);
        out.app(&self.app);
        out.finish()
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, GoneReason> {
        let link_id = input.u32("the link id")?;
        let link_id = NonZeroU32::new(link_id).ok_or_else(|| input.flaw("its link id is 0"))?;
        let pid = input.u32("the process id")?;
        let backing = input.u8("the backing")?;
        input.reserved(1)?;
        let descriptors = Descriptors(input.u16("the descriptors")?);
        let len = input.u64("the region length")?;
        let mut ring = |name| Ok::<_, GoneReason>(RingPlace { offset: input.u64(name)?, words: input.u64(name)? });
        let main_to_renderer = ring("the ring main -> renderer")?;
        let renderer_to_main = ring("the ring renderer -> main")?;
        let control_offset = input.u64("the control offset")?;
        let limits = input.limits()?;
        let queue_limit = input.u64("the queue limit")?;
        let waking = input.waking()?;
        for way in ["main -> renderer", "renderer -> main"] {
            let discipline = input.u8("the publish discipline")?;
            if discipline != WRITERS_FENCE {
                return Err(never(format!(
                    "main asks for publish discipline {discipline} {way}; this renderer knows {WRITERS_FENCE} only"
                )));
            }
        }
        input.reserved(1)?;
        // Lanes.
        input.reserved(4)?;
        let name = input.text("the region name", MAX_NAME)?;
        let backing = match backing {
            1 if name.is_empty() => Backing::Sealed,
            1 => return Err(input.flaw("its region is sealed memory, but has a name")),
            2 => Backing::Named(name),
            other => return Err(input.flaw(format!("its backing {other} is unknown"))),
        };
        let app = input.app()?;
        let region = RegionTerms { backing, len, main_to_renderer, renderer_to_main, control_offset };
        let offer = Offer { link_id, region, descriptors, queue_limit };
        Self { offer, pid, limits, waking, app }.check().map_err(|text| input.flaw(text))
    }
}

impl Hello {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(HELLO);
        out.u8(self.refusal.is_empty().into());
        out.u8(0);
        out.u32(self.pid);
        out.limits(self.limits);
        out.waking(self.waking);
        out.u8(0);
        out.text(&self.refusal, MAX_REFUSAL);
        out.app(&self.app);
        out.finish()
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, GoneReason> {
        let accepted = input.u8("whether it accepts")?;
        input.reserved(1)?;
        let pid = input.u32("the process id")?;
        let limits = input.limits()?;
        let waking = input.waking()?;
        input.reserved(1)?;
        let refusal = input.text("why it refuses", MAX_REFUSAL)?;
        match (accepted, refusal.is_empty()) {
            (1, true) | (0, false) => {}
            (0 | 1, _) => {
                return Err(input.flaw("it must say why it refuses if and only if it does"));
            }
            (other, _) => {
                return Err(input.flaw(format!("it accepts with {other}, which is neither 0 nor 1")));
            }
        }
        let app = input.app()?;
        limits.check().map_err(|text| input.flaw(text))?;
        Ok(Self { refusal, pid, limits, waking, app })
    }
}

/// Reads one datagram that must be of type `expected`; along with it, the minor version that both know.
fn parse<T>(
    bytes: &[u8],
    side: Side,
    expected: u8,
    body: impl FnOnce(&mut Reader<'_>) -> Result<T, GoneReason>,
) -> Result<(u16, T), GoneReason> {
    let peer = side.peer();
    let name = match expected {
        WELCOME => "Welcome",
        HELLO => "Hello",
        _ => "Lane",
    };
    let mut input = Reader { name, peer, rest: bytes };
    if bytes.len() > MAX_DATAGRAM {
        return Err(input.flaw(format!("it is longer than {MAX_DATAGRAM} bytes")));
    }
    if bytes.len() < HEADER {
        return Err(input.flaw(format!("its {} bytes are less than the {HEADER} of a header", bytes.len())));
    }
    if input.array::<8>("the magic")? != *MAGIC {
        return Err(input.flaw("it does not begin with RINGMAIN"));
    }
    let message = input.u8("the message type")?;
    let (major, minor) = (input.u16("the version")?, input.u16("the version")?);
    if major != MAJOR {
        return Err(never(format!(
            "{peer} speaks version {major}.{minor} of the protocol and {side} {MAJOR}.{MINOR}: \
             build both with releases of ringmain whose protocol has the same major version"
        )));
    }
    if message != expected {
        return Err(input.flaw(format!("it is of type {message} instead of {expected}")));
    }
    let len = input.u32("the length")?;
    if usize::try_from(len) != Ok(bytes.len()) {
        return Err(input.flaw(format!("it says that it has {len} bytes, but has {}", bytes.len())));
    }
    let value = body(&mut input)?;
    let later = minor.cmp(&MINOR).is_gt();
    if !input.rest.is_empty() && !later {
        let rest = input.rest.len();
        return Err(
            input.flaw(format!("{rest} bytes follow its last field, which version {major}.{minor} does not have"))
        );
    }
    Ok((if later { MINOR } else { minor }, value))
}

/// What is left of a datagram.
struct Reader<'a> {
    name: &'static str,
    peer: Side,
    rest: &'a [u8],
}

impl Reader<'_> {
    fn flaw(&self, text: impl Display) -> GoneReason {
        GoneReason::Corrupt(format!("the {} of {}: {text}", self.name, self.peer))
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GoneReason> {
        let Some((array, rest)) = self.rest.split_first_chunk() else {
            return Err(self.flaw(format!("it ends within {what}")));
        };
        self.rest = rest;
        Ok(*array)
    }

    fn u8(&mut self, what: &str) -> Result<u8, GoneReason> {
        self.array(what).map(u8::from_le_bytes)
    }

    fn u16(&mut self, what: &str) -> Result<u16, GoneReason> {
        self.array(what).map(u16::from_le_bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, GoneReason> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, GoneReason> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn reserved(&mut self, len: usize) -> Result<(), GoneReason> {
        for _ in 0..len {
            let byte = self.u8("a reserved field")?;
            if byte != 0 {
                return Err(self.flaw(format!("a reserved byte is {byte} instead of 0")));
            }
        }
        Ok(())
    }

    fn text(&mut self, what: &str, max: usize) -> Result<String, GoneReason> {
        let len = usize::from(self.u16(what)?);
        if len > max {
            return Err(self.flaw(format!("{what} has {len} bytes, more than {max}")));
        }
        let Some((text, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.flaw(format!("it ends within {what}")));
        };
        let text = str::from_utf8(text).map_err(|error| self.flaw(format!("{what} is not UTF-8: {error}")))?;
        self.rest = rest;
        Ok(text.to_string())
    }

    fn app(&mut self) -> Result<App, GoneReason> {
        let name = self.text("the application name", MAX_NAME)?;
        Ok(App { name, version: self.text("the application version", MAX_NAME)? })
    }

    fn limits(&mut self) -> Result<Limits, GoneReason> {
        Ok(Limits {
            max_message_size: self.u64("the limit for messages")?,
            max_pending_calls: self.u32("the limit for pending calls")?,
            max_depth: self.u32("the limit for depth")?,
            max_values: self.u32("the limit for values")?,
            max_text: self.u32("the limit for texts")?,
        })
    }

    fn waking(&mut self) -> Result<Waking, GoneReason> {
        // Bits unknown to us are doorbells that nobody will ask the peer to ring.
        let can_ring = Doorbells(self.u32("the doorbells")? & Doorbells::FUTEX_AND_EVENTFD.0);
        let sleeps_on = match self.u8("the dispatcher's doorbell")? {
            1 => Doorbell::Futex,
            2 => Doorbell::EventFd,
            other => return Err(self.flaw(format!("its dispatcher's doorbell {other} is unknown"))),
        };
        Ok(Waking { can_ring, sleeps_on })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    const LEN_AT: usize = HEADER - 4;

    fn new(message: u8) -> Self {
        let mut out = Self(Vec::with_capacity(256));
        out.0.extend_from_slice(MAGIC);
        out.u8(message);
        out.u16(MAJOR);
        out.u16(MINOR);
        out.u32(0);
        out
    }

    /// Every text is cut, so the length is far below [`MAX_DATAGRAM`].
    fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[Self::LEN_AT..HEADER].copy_from_slice(&len.to_le_bytes());
        self.0
    }

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, text: &str, max: usize) {
        let end = (0..=max.min(text.len())).rfind(|&end| text.is_char_boundary(end));
        let text = &text[..end.unwrap_or(0)];
        self.u16(u16::try_from(text.len()).unwrap_or(0));
        self.0.extend_from_slice(text.as_bytes());
    }

    fn app(&mut self, app: &App) {
        self.text(&app.name, MAX_NAME);
        self.text(&app.version, MAX_NAME);
    }

    fn limits(&mut self, limits: Limits) {
        self.u64(limits.max_message_size);
        self.u32(limits.max_pending_calls);
        self.u32(limits.max_depth);
        self.u32(limits.max_values);
        self.u32(limits.max_text);
    }

    fn waking(&mut self, waking: Waking) {
        self.u32(waking.can_ring.0);
        self.u8(waking.sleeps_on as u8);
    }
}
