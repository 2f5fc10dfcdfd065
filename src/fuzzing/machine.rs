//! The session machine of a link, at both ends at once, with everything that its driver may tell it.

use super::Input;
use crate::link::{
    Agreed, App, Backing, Config, Descriptors, Doorbell, Doorbells, Exit, GoneReason, Limits, Link, MAX_DATAGRAM,
    MINOR, Offer, Output, RegionTerms, RingPlace, Side, Waking,
};
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

const MOST_STEPS: usize = 300;

/// Two configurations, and a program of what happens to the pair: outputs come in the promised order, nothing after the
/// last of them; every link ends when its driver ends it; what is agreed upon is usable; and a pair to which nothing happens
/// opens, on the same terms at both ends.
pub fn machine(input: &[u8]) {
    let input = &mut Input(input);
    let now = Instant::now();
    let (main, renderer) = (config(input, 100), config(input, 200));
    let offer = offer(input, &main, &renderer);
    let mut pair = Pair {
        now,
        honest: true,
        first_deadline: [&main, &renderer].into_iter().filter_map(|config| now.checked_add(config.timeout?)).min(),
        ends: [
            End::new(Side::Main, Link::main(main.clone(), offer.clone(), now), &main),
            End::new(Side::Renderer, Link::renderer(renderer.clone(), now), &renderer),
        ],
        descriptors: offer.descriptors.count(),
    };
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        pair.step(input, (&main, &renderer, &offer));
        pair.ends.iter().for_each(End::check_deadline);
    }
    if pair.honest {
        pair.open(&main, &renderer, &offer);
    }
    let now = pair.now;
    pair.ends.iter_mut().for_each(|end| end.finish(now));
}

fn config(input: &mut Input<'_>, pid: u32) -> Config {
    let choice = input.u8();
    let mut text = |longest: usize| {
        let len = input.below(longest);
        String::from_utf8_lossy(input.bytes(len)).into_owned()
    };
    let app = App { name: text(60), version: text(20) };
    let limits = Limits {
        max_message_size: input.u64().max(1),
        max_pending_calls: input.u16().max(1).into(),
        max_depth: input.u8().max(1).into(),
        max_values: input.u32().max(1),
        max_text: input.u16().max(1).into(),
    };
    let sleeps_on = if choice & 1 == 0 { Doorbell::EventFd } else { Doorbell::Futex };
    Config {
        pid,
        app,
        limits,
        waking: Waking { can_ring: Doorbells::FUTEX_AND_EVENTFD, sleeps_on },
        timeout: [Some(Duration::from_secs(5)), None, Some(Duration::from_millis(1)), Some(Duration::MAX)]
            [usize::from(choice >> 1 & 3)],
        sees_exit: choice & 8 != 0,
    }
}

fn offer(input: &mut Input<'_>, main: &Config, renderer: &Config) -> Offer {
    let choice = input.u8();
    let backing = if choice & 1 == 0 { Backing::Sealed } else { Backing::Named("/ringmain-100-7".into()) };
    let wanted = [
        (Descriptors::REGION, backing == Backing::Sealed),
        (Descriptors::MAIN_DOORBELL, main.waking.sleeps_on == Doorbell::EventFd || choice & 2 != 0),
        (Descriptors::RENDERER_DOORBELL, renderer.waking.sleeps_on == Doorbell::EventFd || choice & 4 != 0),
        (Descriptors::PROCESS, choice & 8 != 0),
    ];
    let wanted: Vec<_> = wanted.into_iter().filter_map(|(descriptor, wanted)| wanted.then_some(descriptor)).collect();
    // Nothing is brought along where nothing is wanted, but there is no such value: main's doorbell is.
    let descriptors = wanted.into_iter().reduce(Descriptors::with).unwrap_or(Descriptors::MAIN_DOORBELL);
    let words = 1 << (choice >> 4);
    let (first, second) = (0x1000, 0x1000 + words * 8);
    let (to_renderer, to_main) = if choice & 2 == 0 { (first, second) } else { (second, first) };
    Offer {
        link_id: NonZeroU32::new(input.u32()).unwrap_or(NonZeroU32::MIN),
        region: RegionTerms {
            backing,
            len: second + words * 8,
            main_to_renderer: RingPlace { offset: to_renderer, words },
            renderer_to_main: RingPlace { offset: to_main, words },
            control_offset: 0x80,
        },
        descriptors,
        queue_limit: input.u64(),
    }
}

/// A machine, what lies in its socket, and what it has put out.
struct End {
    side: Side,
    link: Link,
    own: Limits,
    inbox: VecDeque<(Vec<u8>, usize)>,
    last: Option<u8>,
    opened: Option<Agreed>,
    lost: bool,
    shut: bool,
    gone: Option<GoneReason>,
}

impl End {
    fn new(side: Side, link: Link, config: &Config) -> Self {
        let (inbox, own) = (VecDeque::new(), config.limits);
        Self { side, link, own, inbox, last: None, opened: None, lost: false, shut: false, gone: None }
    }

    /// The next output, which must be one that may follow those before it.
    fn poll(&mut self) -> Option<Output> {
        let output = self.link.poll_output()?;
        let rank = match (&output, self.side) {
            (Output::Transmit(_), Side::Main) | (Output::Opened(_), Side::Renderer) => 0,
            (Output::Opened(_), Side::Main) | (Output::Transmit(_), Side::Renderer) => 1,
            (Output::PeerLost, _) => 2,
            (Output::ShutSocket, _) => 3,
            (Output::DrainRing, _) => 4,
            (Output::Gone(_), _) => 5,
        };
        assert!(self.last < Some(rank), "{:?}: {output:?} follows {:?}", self.side, self.last);
        self.last = Some(rank);
        match &output {
            Output::Transmit(bytes) => assert!(bytes.len() <= MAX_DATAGRAM),
            Output::Opened(agreed) => {
                check_agreed(agreed, &self.own);
                self.opened = Some(agreed.clone());
            }
            Output::PeerLost => {
                assert!(self.opened.is_some(), "callers hear of the end of a link that was open");
                self.lost = true;
            }
            Output::ShutSocket => {
                assert_eq!(self.lost, self.opened.is_some(), "before the socket is shut, callers know");
                self.shut = true;
            }
            Output::DrainRing => assert!(self.opened.is_some(), "nothing to drain in a link that never opened"),
            Output::Gone(reason) => {
                assert!(self.shut, "the socket is shut before the end");
                assert!(!reason.to_string().is_empty());
                self.gone = Some(reason.clone());
            }
        }
        Some(output)
    }

    fn check_deadline(&self) {
        assert!(self.gone.is_none() || self.link.next_deadline().is_none(), "who is gone waits for nothing");
    }

    /// What any driver does in the end; and nothing wakes the dead.
    fn finish(&mut self, now: Instant) {
        self.link.local_close(now);
        self.link.drained(now);
        if let Some(deadline) = self.link.next_deadline() {
            self.link.timeout(deadline);
        }
        while self.poll().is_some() {}
        assert!(self.gone.is_some(), "{:?} has not ended", self.side);
        self.check_deadline();
        self.link.datagram(now, b"RINGMAIN", 1);
        self.link.hung_up(now);
        self.link.process_ended(now, Exit::Killed(9));
        self.link.timeout(now + Duration::from_secs(3600));
        self.link.local_close(now);
        self.link.peer_close(now);
        self.link.violation(now, "late");
        self.link.refuse(now, "late");
        self.link.drained(now);
        assert_eq!(self.link.poll_output(), None, "nothing follows the end");
        self.check_deadline();
    }
}

/// What the layers above rely on, whatever was read.
fn check_agreed(agreed: &Agreed, own: &Limits) {
    let Limits { max_message_size, max_pending_calls, max_depth, max_values, max_text } = agreed.send;
    assert!((1..=own.max_message_size).contains(&max_message_size));
    assert!((1..=own.max_pending_calls).contains(&max_pending_calls));
    assert!((1..=own.max_depth).contains(&max_depth));
    assert!((1..=own.max_values).contains(&max_values));
    assert!((1..=own.max_text).contains(&max_text));
    let RegionTerms { backing, len, main_to_renderer, renderer_to_main, control_offset } = &agreed.region;
    let range = |ring: &RingPlace| {
        assert!(ring.words > 0 && ring.offset.is_multiple_of(8));
        ring.offset..ring.words.checked_mul(8).and_then(|bytes| bytes.checked_add(ring.offset)).expect("no overflow")
    };
    let (a, b) = (range(main_to_renderer), range(renderer_to_main));
    assert!(a.end <= *len && b.end <= *len && (a.end <= b.start || b.end <= a.start));
    assert!(control_offset < len && !a.contains(control_offset) && !b.contains(control_offset));
    assert_eq!(*backing == Backing::Sealed, agreed.descriptors.contains(Descriptors::REGION));
    assert!((0..=MINOR).contains(&agreed.peer.minor));
}

fn exit(input: &mut Input<'_>) -> Exit {
    match input.u8() {
        0 => Exit::Exited(None),
        1 => Exit::Killed(9),
        code => Exit::Exited(Some(code.into())),
    }
}

/// Changes some bytes, perhaps the length, which then perhaps tells the truth.
fn damage(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    let choice = input.u8();
    for _ in 0..choice & 3 {
        let (at, value) = (input.below(bytes.len()), input.u8());
        bytes[at] = value;
    }
    match choice >> 2 & 3 {
        1 => bytes.truncate(input.u8().into()),
        2 => bytes.extend_from_slice(&input.array::<5>()),
        3 => bytes.resize(bytes.len() + usize::from(input.u16() & 0x1fff), 0),
        _ => {}
    }
    if choice & 16 != 0
        && let len = (bytes.len() as u32).to_le_bytes()
        && let Some(field) = bytes.get_mut(13..17)
    {
        field.copy_from_slice(&len);
    }
}

struct Pair {
    now: Instant,
    /// Nothing has happened but what happens to any pair.
    honest: bool,
    /// Until when whoever has not opened is given up.
    first_deadline: Option<Instant>,
    ends: [End; 2],
    /// That come with main's Welcome.
    descriptors: usize,
}

impl Pair {
    fn step(&mut self, input: &mut Input<'_>, (main, renderer, offer): (&Config, &Config, &Offer)) {
        let operation = input.u8();
        let index = usize::from(operation >> 4 & 1);
        let operation = operation & 15;
        self.honest &= operation <= 3;
        let here = &mut self.ends[index];
        match operation {
            0 => self.carry_out(index, 1),
            1 => self.carry_out(index, usize::MAX),
            2 => {
                if let Some((bytes, descriptors)) = here.inbox.pop_front() {
                    here.link.datagram(self.now, &bytes, descriptors);
                }
            }
            3 => {
                self.now += Duration::from_millis(input.u16().into());
                here.link.timeout(self.now);
                let latest = self.first_deadline;
                self.honest &= latest.is_none_or(|latest| self.now < latest);
            }
            4 => {
                if let Some((mut bytes, descriptors)) = here.inbox.pop_front() {
                    damage(&mut bytes, input);
                    here.link.datagram(self.now, &bytes, descriptors + usize::from(input.u8() == 0xff));
                }
            }
            5 => {
                let (len, descriptors) = (input.below(256), input.below(6));
                let bytes = input.bytes(len);
                here.link.datagram(self.now, bytes, descriptors);
            }
            6 => {
                // One that begins like an honest one, of whatever moment.
                let mut peer = match here.side {
                    Side::Main => {
                        let mut peer = Link::renderer(renderer.clone(), self.now);
                        let mut main = Link::main(main.clone(), offer.clone(), self.now);
                        if let Some(Output::Transmit(welcome)) = main.poll_output() {
                            peer.datagram(self.now, &welcome, offer.descriptors.count());
                        }
                        peer
                    }
                    Side::Renderer => Link::main(main.clone(), offer.clone(), self.now),
                };
                let descriptors = if here.side == Side::Renderer { offer.descriptors.count() } else { 0 };
                while let Some(output) = peer.poll_output() {
                    if let Output::Transmit(mut bytes) = output {
                        damage(&mut bytes, input);
                        here.link.datagram(self.now, &bytes, descriptors);
                    }
                }
            }
            7 => here.link.hung_up(self.now),
            8 => here.link.process_ended(self.now, exit(input)),
            9 => {
                if let Some(deadline) = here.link.next_deadline() {
                    self.now = self.now.max(deadline);
                }
                here.link.timeout(self.now);
            }
            10 => here.link.local_close(self.now),
            11 => here.link.peer_close(self.now),
            12 => here.link.violation(self.now, "a rule"),
            13 => here.link.drained(self.now),
            14 => {
                let len = usize::from(input.u16() & 0x1fff);
                here.link.refuse(self.now, "ä".repeat(len));
            }
            _ => {
                // A driver that cannot send.
                if let Some(Output::Transmit(_)) = here.poll() {
                    here.link.hung_up(self.now);
                }
            }
        }
    }

    /// Carries out some outputs of an end.
    fn carry_out(&mut self, index: usize, most: usize) {
        let [a, b] = &mut self.ends;
        let (here, there) = if index == 0 { (a, b) } else { (b, a) };
        for _ in 0..most {
            match here.poll() {
                Some(Output::Transmit(bytes)) => {
                    let descriptors = if here.side == Side::Main { self.descriptors } else { 0 };
                    there.inbox.push_back((bytes, descriptors));
                }
                Some(_) => {}
                None => break,
            }
        }
    }

    /// Nothing has gone wrong, so the pair opens.
    fn open(&mut self, main: &Config, renderer: &Config, offer: &Offer) {
        for _ in 0..4 {
            for index in 0..2 {
                self.carry_out(index, usize::MAX);
                let end = &mut self.ends[index];
                while let Some((bytes, descriptors)) = end.inbox.pop_front() {
                    end.link.datagram(self.now, &bytes, descriptors);
                }
            }
        }
        let [a, b] = &self.ends;
        let [Some(at_main), Some(at_renderer)] = [&a.opened, &b.opened] else {
            panic!("an honest pair has not opened: {:?}, {:?}", a.link, b.link);
        };
        assert!(a.last == Some(1) && b.last == Some(1), "and it stays open");
        assert_eq!((at_main.peer.pid, &at_main.peer.app), (renderer.pid, &renderer.app));
        assert_eq!((at_renderer.peer.pid, &at_renderer.peer.app), (main.pid, &main.app));
        assert_eq!((at_main.peer.waking, at_renderer.peer.waking), (renderer.waking, main.waking));
        let peer = at_main.peer.clone();
        assert_eq!(*at_main, Agreed { peer, ..at_renderer.clone() });
        assert_eq!((&at_main.region, at_main.link_id), (&offer.region, offer.link_id));
        assert_eq!((at_main.descriptors, at_main.queue_limit), (offer.descriptors, offer.queue_limit));
        assert_eq!((a.link.next_deadline(), b.link.next_deadline()), (None, None));
    }
}
