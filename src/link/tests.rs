use proptest::{collection::vec, prelude::*};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn limits() -> Limits {
    Limits {
        max_message_size: 0x0400_0000,
        max_pending_calls: 0x1_0000,
        max_depth: 0x80,
        max_values: 0xf_4240,
        max_text: 0x1_0000,
    }
}

fn config(pid: u32) -> Config {
    Config {
        pid,
        app: App { name: "app".into(), version: "1.2".into() },
        limits: limits(),
        waking: Waking { can_ring: Doorbells::FUTEX_AND_EVENTFD, sleeps_on: Doorbell::EventFd },
        timeout: Some(SPAWN_TIMEOUT),
        sees_exit: false,
    }
}

fn region() -> RegionTerms {
    RegionTerms {
        backing: Backing::Sealed,
        len: 0x4_1000,
        main_to_renderer: RingPlace { offset: 0x1000, words: 0x4000 },
        renderer_to_main: RingPlace { offset: 0x2_1000, words: 0x4000 },
        control_offset: 0x40,
    }
}

fn offer() -> Offer {
    Offer {
        link_id: NonZeroU32::new(7).unwrap(),
        region: region(),
        descriptors: Descriptors::REGION.with(Descriptors::MAIN_DOORBELL).with(Descriptors::RENDERER_DOORBELL),
        queue_limit: 0x0100_0000,
    }
}

fn main_link(sees_exit: bool, now: Instant) -> Link {
    Link::main(Config { sees_exit, ..config(100) }, offer(), now)
}

fn renderer_link(sees_exit: bool, now: Instant) -> Link {
    Link::renderer(Config { sees_exit, ..config(200) }, now)
}

fn welcome() -> Vec<u8> {
    Welcome::new(&config(100), &offer()).encode()
}

fn hello() -> Hello {
    let Config { pid, app, limits, waking, .. } = config(200);
    Hello { refusal: String::new(), pid, limits, waking, app }
}

fn outputs(link: &mut Link) -> Vec<Output> {
    std::iter::from_fn(|| link.poll_output()).collect()
}

/// The names of the outputs, and of the reason if there is one.
fn brief(outputs: &[Output]) -> String {
    let name = |output: &Output| match output {
        Output::Gone(reason) => format!("Gone({})", brief_reason(reason)),
        other => format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_string(),
    };
    outputs.iter().map(name).collect::<Vec<_>>().join(" ")
}

fn brief_reason(reason: &GoneReason) -> String {
    match reason {
        GoneReason::Corrupt(_) => "Corrupt".to_string(),
        GoneReason::NeverConnected(_) => "NeverConnected".to_string(),
        other => format!("{other:?}"),
    }
}

/// Checks the promised order; returns the reason if the link is gone.
fn check_order(side: Side, outputs: &[Output]) -> Option<GoneReason> {
    let rank = |output: &Output| match (output, side) {
        (Output::Transmit(_), Side::Main) | (Output::Opened(_), Side::Renderer) => 0,
        (Output::Opened(_), Side::Main) | (Output::Transmit(_), Side::Renderer) => 1,
        (Output::PeerLost, _) => 2,
        (Output::ShutSocket, _) => 3,
        (Output::DrainRing, _) => 4,
        (Output::Gone(_), _) => 5,
    };
    assert!(outputs.iter().map(rank).is_sorted_by(|a, b| a < b), "{side:?}: {}", brief(outputs));
    let has = |wanted| outputs.iter().any(|output| rank(output) == wanted);
    let opened = outputs.iter().any(|output| matches!(output, Output::Opened(_)));
    assert_eq!(has(2), opened && has(3), "callers hear of the end of a link that was open, and of no other");
    assert!(opened || !has(4), "nothing to drain in a link that never opened");
    assert!(!has(5) || has(3), "the socket is shut before the end");
    match outputs.last() {
        Some(Output::Gone(reason)) => Some(reason.clone()),
        _ => None,
    }
}

/// Shakes hands and drops the outputs.
fn open(side: Side, sees_exit: bool, now: Instant) -> Link {
    let mut link = match side {
        Side::Main => main_link(sees_exit, now),
        Side::Renderer => renderer_link(sees_exit, now),
    };
    match side {
        Side::Main => link.datagram(now, &hello().encode(), 0),
        Side::Renderer => link.datagram(now, &welcome(), 3),
    }
    assert_eq!(brief(&outputs(&mut link)).matches("Opened").count(), 1);
    link
}

/// Makes the length field tell the truth, if there is one.
fn with_len(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    if let Some(field) = bytes.get_mut(13..17) {
        field.copy_from_slice(&len);
    }
    bytes
}

/// What becomes of a link of `side` that gets these bytes as the peer's part of the handshake.
fn after(side: Side, bytes: &[u8]) -> Vec<Output> {
    let now = Instant::now();
    let (mut link, descriptors) = match side {
        Side::Main => (main_link(false, now), 0),
        Side::Renderer => (renderer_link(false, now), 3),
    };
    link.datagram(now, bytes, descriptors);
    let outputs = outputs(&mut link);
    check_order(side, &outputs);
    outputs
}

fn reason(outputs: &[Output]) -> GoneReason {
    match outputs.last() {
        Some(Output::Gone(reason)) => reason.clone(),
        _ => panic!("not gone: {}", brief(outputs)),
    }
}

fn agreed(outputs: &[Output]) -> &Agreed {
    let opened = outputs.iter().find_map(|output| match output {
        Output::Opened(agreed) => Some(agreed),
        _ => None,
    });
    opened.unwrap_or_else(|| panic!("not opened: {}", brief(outputs)))
}

#[track_caller]
fn assert_says(reason: &GoneReason, kind: &str, words: &[&str]) {
    let text = reason.to_string();
    assert_eq!(brief_reason(reason), kind, "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} lacks one of {words:?}");
}

#[test]
fn golden_bytes_of_the_welcome() {
    let golden: [&[u8]; 29] = [
        b"RINGMAIN",
        &[1],
        &[1, 0],
        &[0, 0],
        &[133, 0, 0, 0],
        &[7, 0, 0, 0],
        &[100, 0, 0, 0],
        &[1],
        &[0],
        &[7, 0],
        &[0, 0x10, 4, 0, 0, 0, 0, 0],
        &[0, 0x10, 0, 0, 0, 0, 0, 0],
        &[0, 0x40, 0, 0, 0, 0, 0, 0],
        &[0, 0x10, 2, 0, 0, 0, 0, 0],
        &[0, 0x40, 0, 0, 0, 0, 0, 0],
        &[0x40, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 4, 0, 0, 0, 0],
        &[0, 0, 1, 0],
        &[0x80, 0, 0, 0],
        &[0x40, 0x42, 0x0f, 0],
        &[0, 0, 1, 0],
        &[0, 0, 0, 1, 0, 0, 0, 0],
        &[3, 0, 0, 0],
        &[2],
        &[1, 1, 0],
        &[0, 0, 0, 0],
        &[0, 0],
        b"\x03\0app",
        b"\x03\x001.2",
    ];
    let golden = golden.concat();
    let mut main = main_link(false, Instant::now());
    assert_eq!(main.poll_output(), Some(Output::Transmit(golden)));
    assert_eq!(main.poll_output(), None);
}

#[test]
fn golden_bytes_of_the_hello() {
    let golden: [&[u8]; 17] = [
        b"RINGMAIN",
        &[2],
        &[1, 0],
        &[0, 0],
        &[65, 0, 0, 0],
        &[1],
        &[0],
        &[200, 0, 0, 0],
        &[0, 0, 0, 4, 0, 0, 0, 0],
        &[0, 0, 1, 0],
        &[0x80, 0, 0, 0],
        &[0x40, 0x42, 0x0f, 0],
        &[0, 0, 1, 0],
        &[3, 0, 0, 0],
        &[2, 0],
        &[0, 0],
        b"\x03\0app\x03\x001.2",
    ];
    let outputs = after(Side::Renderer, &welcome());
    assert_eq!(outputs[1..], [Output::Transmit(golden.concat())]);
}

#[test]
fn both_sides_agree_on_the_same_terms_and_on_the_lower_limits() {
    let now = Instant::now();
    let low = Limits { max_message_size: 4096, max_depth: 1000, ..limits() };
    let mut main = Link::main(Config { limits: low, ..config(100) }, offer(), now);
    let mut renderer = renderer_link(false, now);
    let Some(Output::Transmit(welcome)) = main.poll_output() else { panic!("main speaks first") };
    renderer.datagram(now, &welcome, 3);
    let at_renderer = outputs(&mut renderer);
    let [Output::Opened(_), Output::Transmit(hello)] = &at_renderer[..] else { panic!("{at_renderer:?}") };
    main.datagram(now, hello, 0);
    let at_main = outputs(&mut main);
    let (at_main, at_renderer) = (agreed(&at_main), agreed(&at_renderer));
    assert_eq!(at_main.send, Limits { max_message_size: 4096, ..limits() });
    assert_eq!((at_main.peer.pid, at_renderer.peer.pid), (200, 100));
    let peer = at_main.peer.clone();
    assert_eq!(at_main, &Agreed { peer, ..at_renderer.clone() });
    assert_eq!(at_main.region, region());
    assert_eq!((main.next_deadline(), renderer.next_deadline()), (None, None));
    assert_eq!((main.side(), renderer.side()), (Side::Main, Side::Renderer));
}

#[test]
fn a_named_region_travels_with_its_name() {
    let mut offer = offer();
    offer.region.backing = Backing::Named("/ringmain-100-7".into());
    offer.descriptors = Descriptors::MAIN_DOORBELL.with(Descriptors::RENDERER_DOORBELL);
    let now = Instant::now();
    let mut renderer = renderer_link(false, now);
    renderer.datagram(now, &Welcome::new(&config(100), &offer).encode(), 2);
    let outputs = outputs(&mut renderer);
    assert_eq!(agreed(&outputs).region, offer.region);
}

#[test]
fn names_longer_than_the_wire_allows_are_cut_at_a_character() {
    let app = App { name: "ä".repeat(200), version: "v".repeat(255) };
    let outputs = after(Side::Main, &Hello { app: app.clone(), ..hello() }.encode());
    let peer = &agreed(&outputs).peer;
    assert_eq!(peer.app, App { name: "ä".repeat(127), ..app });
    let refusal = "€".repeat(4000);
    let bytes = Hello { refusal, app: peer.app.clone(), ..hello() }.encode();
    assert!(bytes.len() <= MAX_DATAGRAM);
    assert_says(&reason(&after(Side::Main, &bytes)), "NeverConnected", &["refused", "€"]);
}

#[test]
fn another_major_version_is_refused_with_both_versions_named() {
    for (side, mut bytes) in [(Side::Main, hello().encode()), (Side::Renderer, welcome())] {
        (bytes[9], bytes[11]) = (2, 5);
        // Nothing after the version is looked at: it may mean anything.
        for bytes in [&bytes[..], &[&bytes[..], b"more"].concat(), &bytes[..HEADER]] {
            let outputs = after(side, bytes);
            assert_says(&reason(&outputs), "NeverConnected", &["2.5", "1.0", "major"]);
            // Main's Welcome, or the renderer's refusal.
            assert_eq!(brief(&outputs), "Transmit ShutSocket Gone(NeverConnected)");
        }
    }
}

#[test]
fn a_later_minor_version_may_append_fields_and_no_other_may() {
    for (side, bytes) in [(Side::Main, hello().encode()), (Side::Renderer, welcome())] {
        let mut longer = with_len([&bytes[..], b"extension"].concat());
        assert_says(&reason(&after(side, &longer)), "Corrupt", &["9 bytes follow", "1.0"]);
        longer[11] = 3;
        assert_eq!(agreed(&after(side, &longer)).peer.minor, MINOR);
    }
}

#[test]
fn a_datagram_cut_at_any_byte_is_corrupt() {
    for (side, bytes) in [(Side::Main, hello().encode()), (Side::Renderer, welcome())] {
        for len in 0..bytes.len() {
            let cut = bytes[..len].to_vec();
            let consistent = with_len(cut.clone());
            for bytes in [cut, consistent] {
                assert_says(&reason(&after(side, &bytes)), "Corrupt", &[&side.peer().to_string()]);
            }
        }
    }
}

#[test]
fn a_datagram_longer_than_4096_bytes_is_corrupt_even_as_an_extension() {
    for (side, mut bytes) in [(Side::Main, hello().encode()), (Side::Renderer, welcome())] {
        bytes[11] = 1;
        bytes.resize(MAX_DATAGRAM, 0);
        agreed(&after(side, &with_len(bytes.clone())));
        bytes.push(0);
        assert_says(&reason(&after(side, &with_len(bytes))), "Corrupt", &["4096"]);
    }
}

/// (what is wrong, side that reads it, offset, bytes put there, kind, words)
type Flaw = (&'static str, Side, usize, &'static [u8], &'static str, &'static [&'static str]);

#[test]
fn each_illegal_field_is_refused_with_its_name_and_value() {
    use Side::{Main, Renderer};
    let flaws: &[Flaw] = &[
        ("magic", Renderer, 0, b"r", "Corrupt", &["RINGMAIN"]),
        ("own kind of message", Renderer, 8, &[2], "Corrupt", &["type 2 instead of 1"]),
        ("own kind of message", Main, 8, &[1], "Corrupt", &["type 1 instead of 2"]),
        ("length", Main, 13, &[66], "Corrupt", &["66", "65"]),
        ("link id 0", Renderer, 17, &[0], "Corrupt", &["link id is 0"]),
        ("backing", Renderer, 25, &[3], "Corrupt", &["backing 3"]),
        ("named without name", Renderer, 25, &[2], "Corrupt", &["named", "descriptor"]),
        ("reserved", Renderer, 26, &[1], "Corrupt", &["reserved", "1"]),
        ("no region descriptor", Renderer, 27, &[0x0e], "Corrupt", &["no descriptor of it"]),
        ("too many descriptors", Renderer, 27, &[0x0f], "Corrupt", &["4 descriptors", "3 came"]),
        ("unknown descriptors", Renderer, 27, &[0x13], "Corrupt", &["unknown descriptors (0b10011)"]),
        ("region length", Renderer, 29, &[4], "Corrupt", &["no multiple of 8"]),
        ("main's ring offset", Renderer, 37, &[1], "Corrupt", &["no multiple of 8"]),
        ("no limit", Renderer, 80, &[0], "Corrupt", &["message size is 0"]),
        ("doorbells none", Renderer, 109, &[0], "NeverConnected", &["the renderer sleeps on", "main cannot"]),
        ("dispatcher's doorbell", Renderer, 113, &[3], "Corrupt", &["doorbell 3"]),
        ("barrier", Renderer, 114, &[2], "NeverConnected", &["discipline 2", "main -> renderer"]),
        ("unknown discipline", Renderer, 115, &[9], "NeverConnected", &["discipline 9", "renderer -> main"]),
        ("reserved", Renderer, 116, &[1], "Corrupt", &["reserved"]),
        ("lanes", Renderer, 120, &[1], "Corrupt", &["reserved"]),
        ("text too long", Renderer, 123, &[0, 1], "Corrupt", &["256 bytes"]),
        ("text past the end", Renderer, 123, &[200], "Corrupt", &["within the application name"]),
        ("text no UTF-8", Renderer, 125, &[0xff], "Corrupt", &["not UTF-8"]),
        ("accepted", Main, 17, &[2], "Corrupt", &["2", "neither 0 nor 1"]),
        ("refused without text", Main, 17, &[0], "Corrupt", &["say why"]),
        ("reserved", Main, 18, &[1], "Corrupt", &["reserved"]),
        ("no pending calls", Main, 31, &[0, 0, 0], "Corrupt", &["pending calls is 0"]),
        ("no depth", Main, 35, &[0], "Corrupt", &["depth is 0"]),
        ("doorbells of futex only", Main, 47, &[1], "NeverConnected", &["main sleeps on", "EventFd"]),
    ];
    for (what, side, at, put, kind, words) in flaws {
        let mut bytes = if *side == Main { hello().encode() } else { welcome() };
        bytes[*at..at + put.len()].copy_from_slice(put);
        let found = reason(&after(*side, &bytes));
        assert_eq!(brief_reason(&found), *kind, "{what}: {found}");
        assert!(words.iter().all(|word| found.to_string().contains(word)), "{what}: {found}");
    }
}

#[test]
fn regions_that_do_not_add_up_are_neither_offered_nor_accepted() {
    let ring = |offset, words| RingPlace { offset, words };
    let base = region();
    let cases = [
        (RegionTerms { len: 0, ..base.clone() }, "0 bytes"),
        (RegionTerms { main_to_renderer: ring(0x1000, 0), ..base.clone() }, "0 words"),
        (RegionTerms { renderer_to_main: ring(0x2_1000, 0x4001), ..base.clone() }, "16385 words"),
        (RegionTerms { main_to_renderer: ring(0x1000, 0x4001), ..base.clone() }, "overlaps"),
        (RegionTerms { main_to_renderer: ring(0x2_1000, 0x4000), ..base.clone() }, "overlaps"),
        (RegionTerms { renderer_to_main: ring(0x1008, 8), ..base.clone() }, "overlaps"),
        (RegionTerms { main_to_renderer: ring(u64::MAX - 7, 1), ..base.clone() }, "does not lie"),
        (RegionTerms { main_to_renderer: ring(8, u64::MAX / 8 + 1), ..base.clone() }, "does not lie"),
        (RegionTerms { main_to_renderer: ring(8, u64::MAX / 8), ..base.clone() }, "does not lie"),
        (RegionTerms { control_offset: 0x4_1000, ..base.clone() }, "control block"),
        (RegionTerms { control_offset: 0x1000, ..base.clone() }, "lies in its ring main -> renderer"),
        (RegionTerms { control_offset: 0x4_0ff8, ..base.clone() }, "lies in its ring renderer -> main"),
        (RegionTerms { control_offset: 0x41, ..base.clone() }, "65, no multiple of 8"),
        (RegionTerms { backing: Backing::Named("/x".into()), ..base }, "named"),
    ];
    let now = Instant::now();
    for (region, words) in cases {
        let offer = Offer { region, ..offer() };
        let mut main = Link::main(config(100), offer.clone(), now);
        let at_main = outputs(&mut main);
        assert_eq!(brief(&at_main), "ShutSocket Gone(NeverConnected)");
        assert_says(&reason(&at_main), "NeverConnected", &[words]);
        let at_renderer = after(Side::Renderer, &Welcome::new(&config(100), &offer).encode());
        assert_says(&reason(&at_renderer), "Corrupt", &[words]);
    }
}

#[test]
fn a_corrupt_welcome_is_answered_with_a_refusal_that_main_understands() {
    let mut bytes = welcome();
    bytes[17] = 0;
    let at_renderer = after(Side::Renderer, &bytes);
    let [Output::Transmit(refusal), Output::ShutSocket, Output::Gone(_)] = &at_renderer[..] else {
        panic!("{}", brief(&at_renderer));
    };
    let at_main = after(Side::Main, refusal);
    assert_says(&reason(&at_main), "NeverConnected", &["process 200", "link id is 0"]);
    bytes[0] = b'X';
    let silent = after(Side::Renderer, &bytes);
    assert_eq!(brief(&silent), "ShutSocket Gone(Corrupt)", "who does not speak our protocol gets no answer");
}

#[test]
fn a_renderer_that_cannot_map_the_region_says_so_instead_of_accepting() {
    let now = Instant::now();
    for why in ["the region lacks seals", ""] {
        let mut renderer = renderer_link(true, now);
        renderer.datagram(now, &welcome(), 3);
        assert!(matches!(renderer.poll_output(), Some(Output::Opened(_))));
        renderer.refuse(now, why);
        let at_renderer = outputs(&mut renderer);
        assert_eq!(brief(&at_renderer), "Transmit PeerLost ShutSocket Gone(NeverConnected)");
        let Output::Transmit(refusal) = &at_renderer[0] else { unreachable!() };
        let at_main = reason(&after(Side::Main, refusal));
        let said = if why.is_empty() { "no reason given" } else { why };
        assert_says(&at_main, "NeverConnected", &["refused", said]);
        assert_says(&reason(&at_renderer), "NeverConnected", &[said]);
    }
}

#[test]
fn main_may_refuse_a_renderer_whose_hello_it_has_read() {
    let now = Instant::now();
    let mut main = open(Side::Main, true, now);
    main.refuse(now, "this editor needs app 2.x");
    let outputs = outputs(&mut main);
    assert_eq!(brief(&outputs), "PeerLost ShutSocket Gone(NeverConnected)");
    assert_says(&reason(&outputs), "NeverConnected", &["app 2.x"]);
}

#[test]
fn descriptors_where_none_belong_or_in_another_number_are_corrupt() {
    let now = Instant::now();
    for count in [0, 1, 2, 4, 253] {
        let mut renderer = renderer_link(false, now);
        renderer.datagram(now, &welcome(), count);
        let words = ["3 descriptors".to_string(), format!("{count} came")];
        assert_says(&reason(&outputs(&mut renderer)), "Corrupt", &[&words[0], &words[1]]);
    }
    let mut main = main_link(false, now);
    main.datagram(now, &hello().encode(), 1);
    assert_says(&reason(&outputs(&mut main)), "Corrupt", &["1 descriptors", "none"]);
}

#[test]
fn who_sleeps_on_an_eventfd_must_have_one_that_the_other_can_ring() {
    let now = Instant::now();
    for (descriptors, lacking) in [
        (Descriptors::REGION.with(Descriptors::MAIN_DOORBELL), "the renderer sleeps"),
        (Descriptors::REGION.with(Descriptors::RENDERER_DOORBELL), "main sleeps"),
    ] {
        let mut renderer = renderer_link(false, now);
        let bytes = Welcome::new(&config(100), &Offer { descriptors, ..offer() }).encode();
        renderer.datagram(now, &bytes, 2);
        assert_says(&reason(&outputs(&mut renderer)), "NeverConnected", &[lacking, "eventfd"]);
    }
    let waking = Waking { can_ring: Doorbells::FUTEX, sleeps_on: Doorbell::Futex };
    let config = |pid| Config { waking, ..config(pid) };
    let mut renderer = Link::renderer(config(200), now);
    let bytes = Welcome::new(&config(100), &Offer { descriptors: Descriptors::REGION, ..offer() }).encode();
    renderer.datagram(now, &bytes, 1);
    assert_eq!(agreed(&outputs(&mut renderer)).peer.waking, waking, "futexes need no descriptor");
}

#[test]
fn a_silent_peer_is_given_up_at_the_deadline_and_not_before() {
    let now = Instant::now();
    for mut link in [main_link(true, now), renderer_link(true, now)] {
        let side = link.side();
        outputs(&mut link);
        let deadline = link.next_deadline().unwrap();
        assert_eq!(deadline, now + SPAWN_TIMEOUT);
        link.timeout(deadline - MS);
        assert_eq!((outputs(&mut link), link.next_deadline()), (vec![], Some(deadline)));
        link.timeout(deadline);
        let outputs = outputs(&mut link);
        assert_eq!(brief(&outputs), "ShutSocket Gone(NeverConnected)");
        assert_says(&reason(&outputs), "NeverConnected", &["30s", &side.peer().to_string()]);
        assert_eq!(link.next_deadline(), None);
    }
    for timeout in [None, Some(Duration::MAX)] {
        let mut patient = Link::renderer(Config { timeout, ..config(1) }, now);
        patient.timeout(now + Duration::from_secs(1_000_000));
        assert_eq!((patient.next_deadline(), patient.poll_output()), (None, None));
    }
}

#[test]
fn a_kill_is_the_reason_though_the_socket_hangs_up_first() {
    let now = Instant::now();
    for side in [Side::Main, Side::Renderer] {
        let mut link = open(side, true, now);
        link.hung_up(now);
        assert_eq!(brief(&outputs(&mut link)), "PeerLost ShutSocket DrainRing", "callers know at once");
        link.drained(now);
        assert_eq!((link.poll_output(), link.next_deadline()), (None, Some(now + EXIT_GRACE)));
        link.process_ended(now + 3 * MS, Exit::Killed(9));
        assert_eq!(outputs(&mut link), [Output::Gone(GoneReason::Killed { signal: 9 })]);
        assert_eq!(link.next_deadline(), None);
    }
}

#[test]
fn a_process_that_lives_on_after_its_hang_up_has_closed_the_link() {
    let now = Instant::now();
    let mut link = open(Side::Main, true, now);
    link.hung_up(now);
    link.drained(now);
    link.timeout(now + EXIT_GRACE - MS);
    assert_eq!(brief(&outputs(&mut link)), "PeerLost ShutSocket DrainRing");
    link.timeout(now + EXIT_GRACE);
    link.process_ended(now + EXIT_GRACE, Exit::Killed(9));
    assert_eq!(outputs(&mut link), [Output::Gone(GoneReason::Closed)]);
}

#[test]
fn a_process_that_is_seen_to_be_ending_has_more_time_for_it_but_not_without_end() {
    let mut now = Instant::now();
    let mut link = open(Side::Main, true, now);
    link.process_is_exiting(now);
    assert_eq!(link.next_deadline(), None, "the socket says nothing yet");
    link.hung_up(now);
    link.drained(now);
    let _ = outputs(&mut link);
    for _ in 0..EXIT_GRACES {
        now += EXIT_GRACE;
        link.process_is_exiting(now);
        link.timeout(now);
        assert_eq!((link.poll_output(), link.next_deadline()), (None, Some(now + EXIT_GRACE)));
    }
    let mut seen_in_time = open(Side::Main, true, now);
    seen_in_time.hung_up(now);
    seen_in_time.drained(now);
    let _ = outputs(&mut seen_in_time);
    seen_in_time.process_is_exiting(now + EXIT_GRACE);
    seen_in_time.timeout(now + EXIT_GRACE);
    seen_in_time.process_ended(now + EXIT_GRACE + MS, Exit::Killed(9));
    assert_eq!(outputs(&mut seen_in_time), [Output::Gone(GoneReason::Killed { signal: 9 })]);
    now += EXIT_GRACE;
    link.process_is_exiting(now);
    link.timeout(now);
    assert_eq!(outputs(&mut link), [Output::Gone(GoneReason::Closed)]);
    link.process_is_exiting(now);
    assert_eq!((link.poll_output(), link.next_deadline()), (None, None));
}

#[test]
fn the_pidfd_in_the_welcome_makes_a_renderer_wait_for_the_exit() {
    let now = Instant::now();
    let with_pidfd = offer().descriptors.with(Descriptors::PROCESS);
    let bytes = Welcome::new(&config(100), &Offer { descriptors: with_pidfd, ..offer() }).encode();
    for (bytes, descriptors, deadline) in [(bytes, 4, Some(now + EXIT_GRACE)), (welcome(), 3, None)] {
        let mut renderer = renderer_link(false, now);
        renderer.datagram(now, &bytes, descriptors);
        renderer.hung_up(now);
        assert_eq!(renderer.next_deadline(), deadline);
    }
}

#[test]
fn the_end_waits_until_the_ring_is_drained() {
    let now = Instant::now();
    let mut link = open(Side::Main, true, now);
    link.process_ended(now, Exit::Exited(Some(3)));
    assert_eq!(brief(&outputs(&mut link)), "PeerLost ShutSocket DrainRing");
    link.hung_up(now);
    assert_eq!(link.poll_output(), None);
    link.drained(now);
    assert_eq!(outputs(&mut link), [Output::Gone(GoneReason::Exited { code: Some(3) })], "the first reason");
}

#[test]
fn a_close_that_is_read_after_its_process_has_ended_is_the_reason_all_the_same() {
    let now = Instant::now();
    for exit in [Exit::Exited(Some(0)), Exit::Exited(None), Exit::Killed(9)] {
        let mut link = open(Side::Main, true, now);
        link.process_ended(now, exit);
        assert_eq!(brief(&outputs(&mut link)), "PeerLost ShutSocket DrainRing");
        link.peer_close(now);
        assert_eq!(link.poll_output(), None);
        link.drained(now);
        assert_eq!(outputs(&mut link), [Output::Gone(GoneReason::Closed)]);
    }
}

#[test]
fn a_violation_found_while_draining_ends_that_and_keeps_an_earlier_reason() {
    let now = Instant::now();
    for (settled, expected) in [(true, "Killed { signal: 9 }"), (false, "Corrupt")] {
        let mut link = open(Side::Main, true, now);
        link.hung_up(now);
        if settled {
            link.process_ended(now, Exit::Killed(9));
        }
        outputs(&mut link);
        link.violation(now, "half a record");
        assert_eq!(brief(&outputs(&mut link)), format!("Gone({expected})"));
        link.process_ended(now, Exit::Killed(9));
        link.drained(now);
        assert_eq!(link.poll_output(), None);
    }
}

/// The inputs that do not depend on the state.
#[derive(Clone, Copy, Debug)]
enum Input {
    Greeting,
    Junk,
    HungUp,
    Ended,
    Late,
    LocalClose,
    PeerClose,
    Violation,
    Drained,
    Refuse,
}

const INPUTS: [Input; 10] = [
    Input::Greeting,
    Input::Junk,
    Input::HungUp,
    Input::Ended,
    Input::Late,
    Input::LocalClose,
    Input::PeerClose,
    Input::Violation,
    Input::Drained,
    Input::Refuse,
];

fn feed(link: &mut Link, now: Instant, input: Input) {
    match (input, link.side()) {
        (Input::Greeting, Side::Main) => link.datagram(now, &hello().encode(), 0),
        (Input::Greeting, Side::Renderer) => link.datagram(now, &welcome(), 3),
        (Input::Junk, _) => link.datagram(now, b"RINGMAIN?", 0),
        (Input::HungUp, _) => link.hung_up(now),
        (Input::Ended, _) => link.process_ended(now, Exit::Exited(Some(1))),
        (Input::Late, _) => link.timeout(link.next_deadline().unwrap_or(now)),
        (Input::LocalClose, _) => link.local_close(now),
        (Input::PeerClose, _) => link.peer_close(now),
        (Input::Violation, _) => link.violation(now, "a rule"),
        (Input::Drained, _) => link.drained(now),
        (Input::Refuse, _) => link.refuse(now, "policy"),
    }
}

#[test]
fn every_input_in_every_state_has_its_outcome() {
    const EXITED: &str = "Gone(Exited { code: Some(1) })";
    let never = "ShutSocket Gone(NeverConnected)";
    let corrupt = "ShutSocket Gone(Corrupt)";
    let draining = "PeerLost ShutSocket DrainRing";
    let cut = "PeerLost ShutSocket Gone(Corrupt)";
    let exited = format!("ShutSocket {EXITED}");
    let refused = "PeerLost ShutSocket Gone(NeverConnected)";
    // In the order of INPUTS; what an Open link does later is covered by the states that follow from it.
    let table: [(&str, &[Input], [&str; 10]); 7] = [
        (
            "Handshake",
            &[],
            ["Opened", corrupt, "ShutSocket", &exited, never, "ShutSocket Gone(Closed)", corrupt, corrupt, "", never],
        ),
        ("Open", &[Input::Greeting], [cut, cut, draining, draining, "", draining, draining, cut, "", refused]),
        (
            "Ending, never opened, waiting for the exit",
            &[Input::HungUp],
            [
                "Gone(Corrupt)",
                "Gone(Corrupt)",
                "",
                EXITED,
                "Gone(NeverConnected)",
                "",
                "Gone(Closed)",
                "Gone(Corrupt)",
                "",
                "",
            ],
        ),
        (
            "Ending, waiting for exit and drain",
            &[Input::Greeting, Input::HungUp],
            ["Gone(Corrupt)", "Gone(Corrupt)", "", "", "", "", "", "Gone(Corrupt)", "", ""],
        ),
        (
            "Ending, drained, waiting for the exit",
            &[Input::Greeting, Input::HungUp, Input::Drained],
            ["Gone(Corrupt)", "Gone(Corrupt)", "", EXITED, "Gone(Closed)", "", "Gone(Closed)", "Gone(Corrupt)", "", ""],
        ),
        (
            "Ending, exited, draining",
            &[Input::Greeting, Input::Ended],
            [EXITED, EXITED, "", "", "", "", "", EXITED, EXITED, ""],
        ),
        ("Gone", &[Input::Violation], [""; 10]),
    ];
    let now = Instant::now();
    for (state, path, outcomes) in table {
        for (input, outcome) in INPUTS.into_iter().zip(outcomes) {
            let mut main = main_link(true, now);
            path.iter().for_each(|input| feed(&mut main, now, *input));
            let mut all = outputs(&mut main);
            feed(&mut main, now, input);
            let new = outputs(&mut main);
            assert_eq!(brief(&new), outcome, "{state}, {input:?}");
            all.extend(new);
            check_order(Side::Main, &all);
        }
    }
}

/// One process of a simulated pair: a machine, and what lies in its socket.
struct End {
    link: Link,
    seen: Vec<Output>,
    inbox: VecDeque<(Vec<u8>, usize)>,
    alive: bool,
    shut: bool,
    /// Has been told of the other's hang-up.
    told: bool,
}

impl End {
    fn new(link: Link) -> Self {
        Self { link, seen: Vec::new(), inbox: VecDeque::new(), alive: true, shut: false, told: false }
    }

    fn gone(&self) -> Option<GoneReason> {
        check_order(self.link.side(), &self.seen)
    }
}

struct Pair {
    now: Instant,
    ends: [End; 2],
}

impl Pair {
    fn new(sees_exit: bool) -> Self {
        let now = Instant::now();
        let ends = [End::new(main_link(sees_exit, now)), End::new(renderer_link(sees_exit, now))];
        Self { now, ends }
    }

    /// Does the one next thing at either end; false: there is none at this time.
    fn step(&mut self) -> bool {
        let now = self.now;
        for i in 0..2 {
            let [a, b] = &mut self.ends;
            let (here, there) = if i == 0 { (a, b) } else { (b, a) };
            if !here.alive {
                continue;
            }
            if let Some(output) = here.link.poll_output() {
                match &output {
                    Output::Transmit(_) if there.shut || !there.alive => here.link.hung_up(now),
                    Output::Transmit(bytes) => {
                        there.inbox.push_back((bytes.clone(), if i == 0 { 3 } else { 0 }));
                    }
                    Output::ShutSocket => (here.shut, here.inbox) = (true, VecDeque::new()),
                    Output::DrainRing => here.link.drained(now),
                    Output::Opened(_) | Output::PeerLost | Output::Gone(_) => {}
                }
                here.seen.push(output);
                return true;
            }
            if let Some((bytes, descriptors)) = here.inbox.pop_front() {
                here.link.datagram(now, &bytes, descriptors);
                return true;
            }
            if (there.shut || !there.alive) && !here.shut && !std::mem::replace(&mut here.told, true) {
                here.link.hung_up(now);
                return true;
            }
        }
        false
    }

    /// Lets time pass where nothing else happens; returns the number of steps.
    fn run(&mut self) -> usize {
        for steps in 0..100 {
            if self.step() {
                continue;
            }
            let living = self.ends.iter_mut().filter(|end| end.alive);
            let Some(deadline) = living.filter_map(|end| end.link.next_deadline()).min() else {
                return steps;
            };
            self.now = deadline;
            self.ends.iter_mut().for_each(|end| end.link.timeout(deadline));
        }
        panic!("the pair does not come to rest");
    }
}

#[test]
fn a_pair_opens_and_closes_from_either_side() {
    // The other end reads the closer's Close message before it sees the hang-up, or after it.
    for (closer, close_first) in [(0, true), (0, false), (1, true), (1, false)] {
        let mut pair = Pair::new(true);
        pair.run();
        assert_eq!(brief(&pair.ends[0].seen), "Transmit Opened");
        assert_eq!(brief(&pair.ends[1].seen), "Opened Transmit");
        let now = pair.now;
        pair.ends[closer].link.local_close(now);
        if close_first {
            pair.ends[1 - closer].link.peer_close(now);
        } else {
            pair.ends[1 - closer].link.hung_up(now);
            pair.ends[1 - closer].link.peer_close(now);
        }
        pair.run();
        assert!(pair.ends.iter().all(|end| end.gone() == Some(GoneReason::Closed)));
        assert_eq!(pair.now, now, "nobody waited for an exit");
    }
}

/// When the survivor's pidfd tells of the death, in relation to the hang-up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pidfd {
    None,
    Before,
    After,
    TooLate,
}

#[test]
fn a_peer_that_dies_at_any_step_leaves_the_other_gone_exactly_once() {
    let steps = Pair::new(true).run();
    assert!(steps > 4, "{steps} steps");
    for (victim, at) in (0..2).flat_map(|victim| (0..=steps).map(move |at| (victim, at))) {
        for pidfd in [Pidfd::None, Pidfd::Before, Pidfd::After, Pidfd::TooLate] {
            let mut pair = Pair::new(pidfd != Pidfd::None);
            let steps = (0..at).filter(|_| pair.step()).count();
            let now = pair.now;
            pair.ends[victim].alive = false;
            let survivor = 1 - victim;
            // As its driver must: what is in the socket comes first.
            while !pair.ends[survivor].inbox.is_empty() {
                pair.step();
            }
            let link = &mut pair.ends[survivor].link;
            match pidfd {
                Pidfd::Before => link.process_ended(now, Exit::Killed(9)),
                Pidfd::After => {
                    link.hung_up(now);
                    link.process_ended(now + 199 * MS, Exit::Killed(9));
                }
                Pidfd::None | Pidfd::TooLate => {}
            }
            pair.run();
            let survivor = &mut pair.ends[survivor];
            if pidfd == Pidfd::TooLate {
                survivor.link.process_ended(pair.now, Exit::Killed(9));
            }
            assert_eq!(survivor.link.poll_output(), None);
            let opened = survivor.seen.iter().any(|output| matches!(output, Output::Opened(_)));
            let expected = match pidfd {
                Pidfd::Before | Pidfd::After => "Killed { signal: 9 }",
                Pidfd::None | Pidfd::TooLate if opened => "Closed",
                Pidfd::None | Pidfd::TooLate => "NeverConnected",
            };
            let found = survivor.gone().map(|reason| brief_reason(&reason));
            assert_eq!(found.as_deref(), Some(expected), "{victim} died after {steps} steps, {pidfd:?}");
        }
    }
}

#[test]
fn a_renderer_that_says_hello_and_dies_at_once_has_been_open() {
    let now = Instant::now();
    let mut main = main_link(true, now);
    main.datagram(now, &hello().encode(), 0);
    main.process_ended(now, Exit::Exited(Some(0)));
    assert_eq!(brief(&outputs(&mut main)), "Transmit Opened PeerLost ShutSocket DrainRing");
}

#[test]
fn reasons_read_as_sentences() {
    let texts = [
        (GoneReason::Exited { code: Some(1) }, "the process exited with code 1"),
        (GoneReason::Exited { code: None }, "the process exited"),
        (GoneReason::Killed { signal: 9 }, "the process was killed by signal 9"),
        (GoneReason::Corrupt("x".into()), "the peer broke the protocol: x"),
        (GoneReason::Closed, "the link was closed"),
        (GoneReason::NeverConnected("x".into()), "the link was never connected: x"),
    ];
    texts.into_iter().for_each(|(reason, text)| assert_eq!(reason.to_string(), text));
}

/// Whatever was read, what is agreed upon satisfies what the layers above rely on.
fn check_agreed(agreed: &Agreed) {
    let Limits { max_message_size, max_pending_calls, max_depth, max_values, max_text } = agreed.send;
    assert_eq!(agreed.send, agreed.send.min(limits()));
    assert!(
        max_message_size > 0 && [max_pending_calls, max_depth, max_values, max_text].iter().all(|limit| *limit > 0)
    );
    let region = &agreed.region;
    let end = |ring: RingPlace| ring.offset + ring.words * 8;
    let (a, b) = (region.main_to_renderer, region.renderer_to_main);
    assert!(end(a) <= region.len && end(b) <= region.len && (end(a) <= b.offset || end(b) <= a.offset));
}

fn check_any_bytes(side: Side, bytes: &[u8]) {
    let outputs = after(side, bytes);
    match outputs.iter().find(|output| matches!(output, Output::Opened(_))) {
        Some(Output::Opened(agreed)) => check_agreed(agreed),
        _ => assert!(matches!(reason(&outputs), GoneReason::Corrupt(_) | GoneReason::NeverConnected(_))),
    }
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Main), Just(Side::Renderer)]
}

#[test]
fn any_single_byte_may_have_any_value() {
    for (side, bytes) in [(Side::Main, hello().encode()), (Side::Renderer, welcome())] {
        for (at, value) in (0..bytes.len()).flat_map(|at| (0..=255).map(move |value| (at, value))) {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            check_any_bytes(side, &bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn flipped_bytes_never_panic(
        side in side(),
        flips in vec((9..200usize, any::<u8>()), 1..8),
        tail in vec(any::<u8>(), 0..8),
        consistent in any::<bool>(),
    ) {
        let mut bytes = if side == Side::Main { hello().encode() } else { welcome() };
        bytes.extend(tail);
        if consistent {
            bytes = with_len(bytes);
        }
        let len = bytes.len();
        flips.iter().for_each(|(at, value)| bytes[at % len] ^= value);
        check_any_bytes(side, &bytes);
    }

    #[test]
    fn random_bodies_never_panic(side in side(), body in vec(any::<u8>(), 0..300)) {
        let header = if side == Side::Main { hello().encode() } else { welcome() };
        check_any_bytes(side, &with_len([&header[..HEADER], &body].concat()));
        check_any_bytes(side, &body);
    }

    #[test]
    fn what_is_encoded_is_read_back(
        name in ".{0,60}", version in ".{0,60}", pid in any::<u32>(),
        numbers in (1..u64::MAX, 1..u32::MAX, 1..u32::MAX, 1..u32::MAX, 1..u32::MAX),
        refusal in ".{0,200}", queue_limit in any::<u64>(), id in 1..u32::MAX,
    ) {
        let (max_message_size, max_pending_calls, max_depth, max_values, max_text) = numbers;
        let limits = Limits { max_message_size, max_pending_calls, max_depth, max_values, max_text };
        let app = App { name, version };
        let hello = Hello { refusal, pid, limits, app: app.clone(), ..hello() };
        prop_assert_eq!(parse(&hello.encode(), Side::Main, HELLO, Hello::read), Ok((MINOR, hello)));
        let offer = Offer { queue_limit, link_id: NonZeroU32::new(id).unwrap(), ..offer() };
        let sent = Welcome::new(&Config { limits, app, ..config(pid) }, &offer);
        let read = parse(&sent.encode(), Side::Renderer, WELCOME, Welcome::read);
        prop_assert_eq!(format!("{:?}", read), format!("{:?}", Ok::<_, GoneReason>((MINOR, sent))));
    }

    #[test]
    fn any_order_of_inputs_ends_in_one_gone_with_nothing_after_it(
        side in side(),
        sees_exit in any::<bool>(),
        inputs in vec((0..INPUTS.len(), 0..300u32, any::<bool>()), 0..12),
    ) {
        let mut now = Instant::now();
        let mut link = match side {
            Side::Main => main_link(sees_exit, now),
            Side::Renderer => renderer_link(sees_exit, now),
        };
        let mut seen = Vec::new();
        for (input, passed, polled) in inputs {
            now += passed * MS;
            feed(&mut link, now, INPUTS[input]);
            if polled {
                seen.extend(outputs(&mut link));
                let gone = check_order(side, &seen).is_some();
                prop_assert!(!gone || link.next_deadline().is_none());
            }
        }
        // What any driver does in the end.
        link.local_close(now);
        link.drained(now);
        if let Some(deadline) = link.next_deadline() {
            prop_assert!(deadline <= now + EXIT_GRACE);
            link.timeout(deadline);
        }
        prop_assert_eq!(link.next_deadline(), None);
        seen.extend(outputs(&mut link));
        prop_assert!(check_order(side, &seen).is_some(), "{}", brief(&seen));
        INPUTS.into_iter().for_each(|input| feed(&mut link, now, input));
        prop_assert_eq!(link.poll_output(), None);
    }
}
