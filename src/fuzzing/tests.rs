//! The properties over the seeds, which are made here, over what fuzzing has found, and over random inputs.

use super::*;
use crate::wire::tests::{any_bytes, any_json};
use crate::wire::{End, Envelope, ErrorRecord, Kind, begin, encode_value, split};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json as value;
use std::fs;
use std::path::{Path, PathBuf};

type Target = (&'static str, fn(&[u8]), fn() -> Vec<(&'static str, Vec<u8>)>);

const TARGETS: [Target; 4] = [
    ("json", json, seeds_of_json),
    ("machine", machine, seeds_of_the_machine),
    ("ring", ring, seeds_of_the_ring),
    ("wire", wire, seeds_of_wire),
];

/// The seeds of a target; none in a published package, which has no `fuzz` folder.
fn folder(target: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    (!root.join("Cargo.toml.orig").exists()).then(|| root.join("fuzz/seeds").join(target))
}

#[test]
fn each_seed_of_the_fuzz_targets_and_each_input_that_found_something_holds() {
    for (target, property, _) in TARGETS {
        let Some(folder) = folder(target) else { return };
        let mut count = 0;
        for entry in fs::read_dir(&folder).expect("the seeds") {
            let path = entry.expect("an entry").path();
            let seed = fs::read(&path).expect("a seed");
            let held = std::panic::catch_unwind(|| property(&seed));
            assert!(held.is_ok(), "{} does not hold", path.display());
            count += 1;
        }
        assert!(count > 5, "{target} has {count} seeds");
    }
}

/// `RINGMAIN_WRITE_SEEDS=1 cargo test --lib fuzzing` writes them.
#[test]
fn the_committed_seeds_are_those_that_are_made_here() {
    for (target, _, seeds) in TARGETS {
        let Some(folder) = folder(target) else { return };
        for (name, seed) in seeds() {
            let path = folder.join(name);
            if std::env::var_os("RINGMAIN_WRITE_SEEDS").is_some() {
                fs::create_dir_all(&folder).expect("the folder of the seeds");
                fs::write(&path, &seed).expect("a seed");
            }
            assert_eq!(fs::read(&path).ok(), Some(seed), "{}: RINGMAIN_WRITE_SEEDS=1 writes it anew", path.display());
        }
    }
}

/// How far a seed gets, so that none rots when what it stands for changes.
#[test]
fn the_seeds_reach_what_they_are_for() {
    for (name, seed) in seeds_of_json() {
        let is_value = crate::wire::check(&seed[1..], &limits(seed[0]), true).is_ok();
        assert_eq!(is_value, !name.starts_with("not-"), "{name}");
    }
    for (name, seed) in seeds_of_wire() {
        let taken = [End::Main, End::Renderer].map(|end| split(&seed[1..], &limits(seed[0]), end).is_ok());
        assert_eq!(taken.contains(&true), !name.starts_with("only-a-record"), "{name}");
    }
}

/// Each of the words that a large message begins with becomes each of these at each access, so between any two looks.
#[test]
fn whenever_a_word_of_a_large_message_changes_it_arrives_or_is_a_violation() {
    let record = |kind: u64, len: u64| kind << 56 | len;
    let records = [1, 2, 3, 4].into_iter().flat_map(|kind| [0, 8, 9, 248, 504].map(|len| record(kind, len)));
    let lengths = [0, 1, 8, 240, 241, 500, 5999, 6001, 100_000, 1 << 40, u64::MAX];
    let send = |len: u16| [&[2][..], &len.to_le_bytes(), &[0, 7]].concat();
    for word in records.chain(lengths) {
        for (after, place) in (0..32).flat_map(|after| (0..4).map(move |place| (after, 100 + place))) {
            let change = [&[14, 0, after, place, 255][..], &word.to_le_bytes()].concat();
            let read_on = [8, 23].repeat(4);
            ring(&[&[1][..], &send(1500), &change, &[23], &read_on, &send(300), &read_on].concat());
        }
    }
}

// ---- seeds ---------------------------------------------------------------------------------------------------------

fn encoded(value: &serde_json::Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_value(value, &mut bytes, &limits(0)).expect("JSON");
    bytes
}

fn seeds_of_json() -> Vec<(&'static str, Vec<u8>)> {
    let values = [
        ("arguments", value!([1, "a", null])),
        ("numbers", value!([0, -1, 127, 128, -33, 65_536, u64::MAX, i64::MIN, 1.5, -0.0, 1e300])),
        ("texts", value!(["", "ä", "x".repeat(31), "x".repeat(32), "x".repeat(300)])),
        ("maps", value!({"a": {}, "ключ": [{"b": []}], "": {"c": {"d": null}}})),
        ("number-keys", value!({"1": 1, "-7": "x", "255": null})),
        ("boolean-keys", value!([{"true": {"start": 1, "end": 2.5}, "false": {"start": 0, "end": 0}}])),
        ("variants", value!({"Ok": 3})),
        ("variants-inside", value!({"Err": [{"Included": 3}, {"Excluded": -3}, "Unbounded"]})),
        ("durations", value!([{"secs": 1, "nanos": 5}, [2, 6]])),
        ("an-address", value!("127.0.0.1")),
        ("an-error-record", value!([2, "n", "message", "CODE", {"at": [1, 2.5]}])),
        ("long-list", value!([vec![0; 20], vec![true; 16]])),
    ];
    let raw: [(&'static str, &[u8]); 16] = [
        ("wide-heads", b"\xdd\0\0\0\x03\xdf\0\0\0\x01\xdb\0\0\0\x01a\xd3\0\0\0\0\0\0\0\x01\xde\0\0\xdc\0\0"),
        ("wide-numbers", b"\x96\xcc\x01\xcd\0\x01\xce\0\0\0\x01\xd0\x01\xd1\0\x01\xd2\0\0\0\x01"),
        ("a-32-bit-float", b"\xca\x3f\x80\0\0"),
        ("keys-twice", b"\x83\xa1a\x01\xa1a\x92\x01\x02\xa1a\xc0"),
        ("fields-twice", b"\x82\xa4secs\x01\xa4secs\x02"),
        ("not-finite", b"\x91\xcb\x7f\xf0\0\0\0\0\0\0"),
        ("not-bytes", b"\xc4\x01a"),
        ("not-an-extension", b"\x91\xd4\0\0"),
        ("not-utf8", b"\x92\xa1\xff\x81\xa1\xc3\x01"),
        ("not-a-key", b"\x81\x01\x02"),
        ("not-a-free-key", b"\x81\xb8$serde_json::private::x\xa11"),
        ("not-whole", b"\x93\x01\x81\xa1a"),
        ("not-one-value", b"\x01\x02"),
        ("not-that-long", b"\x91\xdb\xff\xff\xff\xff"),
        ("not-that-many", b"\x91\xdd\x7f\xff\xff\xff\xdf\xff\xff\xff\xff"),
        ("not-known", b"\x91\xc1"),
    ];
    let nested = |depth: usize| [&vec![0x91; depth][..], &[0xc0]].concat();
    let mut seeds: Vec<_> = values.iter().map(|(name, value)| (*name, [&[0][..], &encoded(value)].concat())).collect();
    seeds.extend(raw.map(|(name, payload)| (name, [&[0], payload].concat())));
    seeds.push(("deep", [&[0][..], &nested(128)].concat()));
    seeds.push(("not-deeper", [&[0][..], &nested(129)].concat()));
    seeds.push(("not-within-low-limits", [&[0b0000_1010][..], &encoded(&value!([[[1]], 2, 3]))].concat()));
    seeds.push(("within-low-limits", [&[0b0000_1010][..], &encoded(&value!([[1], 2, 3]))].concat()));
    seeds
}

fn seeds_of_wire() -> Vec<(&'static str, Vec<u8>)> {
    let none =
        Envelope { kind: Kind::Close, caller_awake: false, frame: 1, call: 0, channel: "", peer: 0, peer_frame: 0 };
    let args = encoded(&value!([1, "two", {"three": null}]));
    let record = |limits: &Limits| {
        let mut bytes = Vec::new();
        let (name, code) = (Some("RangeError".to_string()), Some("E_FAR".to_string()));
        let data = Some(value!({"at": [1, 2.5]}));
        ErrorRecord { kind: 2, name, message: "too far, much too far".into(), code, data }.encode(&mut bytes, limits);
        bytes
    };
    let message = |choice: u8, envelope: &Envelope<'_>, payload: &[u8]| {
        let mut seed = vec![choice];
        begin(envelope, &mut seed);
        seed.extend_from_slice(payload);
        seed
    };
    let low = 0b0010_1000;
    vec![
        ("send", message(0, &Envelope { kind: Kind::Send, channel: "volume", frame: 3, ..none }, &args)),
        (
            "invoke",
            message(0, &Envelope { kind: Kind::Invoke, channel: "add", call: 7, caller_awake: true, ..none }, &args),
        ),
        ("send-sync", message(0, &Envelope { kind: Kind::SendSync, channel: "ä", call: 1 << 40, ..none }, &[0x90])),
        ("reply", message(0, &Envelope { kind: Kind::Reply, call: 7, ..none }, &[0x2a])),
        ("reply-error", message(0, &Envelope { kind: Kind::ReplyError, call: 7, ..none }, &record(&limits(0)))),
        (
            "reply-error-within-low-limits",
            message(low, &Envelope { kind: Kind::ReplyError, call: 7, ..none }, &record(&limits(low))),
        ),
        ("cancel", message(0, &Envelope { kind: Kind::Cancel, call: 7, ..none }, &[])),
        ("close", message(0, &none, &[])),
        ("send-to", message(0, &Envelope { kind: Kind::SendTo, channel: "c", peer: 2, peer_frame: 1, ..none }, &args)),
        ("routed", message(0, &Envelope { kind: Kind::Routed, channel: "c", peer: 2, peer_frame: 9, ..none }, &args)),
        ("send-to-host", message(0, &Envelope { kind: Kind::SendToHost, channel: "c", ..none }, &args)),
        (
            "from-guest",
            message(0, &Envelope { kind: Kind::FromGuest, channel: "c", peer: 5, peer_frame: 1, ..none }, &args),
        ),
        ("open-frame", message(0, &Envelope { kind: Kind::OpenFrame, frame: 2, peer_frame: 1, ..none }, &[])),
        ("close-frame", message(0, &Envelope { kind: Kind::CloseFrame, frame: 2, ..none }, &[])),
        ("only-a-record", [&[0][..], &record(&limits(0))].concat()),
        // Found: it was sent with six values where one was agreed, and cut the link.
        ("only-a-record-where-one-value-is-agreed", b"\x04\x95\x00\xc0\xa0\xc0\xc0".to_vec()),
    ]
}

fn seeds_of_the_ring() -> Vec<(&'static str, Vec<u8>)> {
    // A write of so many bytes; a read.
    let (write, read) = (|len: u8| [0, len, 0, len], [4]);
    let times = |count: usize, steps: &[u8]| steps.repeat(count);
    let small = 0b0010; // 8 words
    let large = 0b1010; // 128 words
    // Of a pipe: a message of so many bytes from main, all read by the renderer, and drained by main.
    let send = |len: u16| [&[2][..], &len.to_le_bytes(), &[0, 7]].concat();
    let (read_all, drain) = ([16 + 7], [8]);
    let pipes = 1;
    let change = |at: u8, word: &[u8]| [&[12, at][..], word].concat();
    vec![
        ("write-and-read", [&[small][..], &times(40, &[&write(5)[..], &read].concat())].concat()),
        (
            "every-length",
            [&[large][..], &(0..90).flat_map(|len| [&write(len)[..], &read].concat()).collect::<Vec<_>>()].concat(),
        ),
        ("fill-and-empty", [&[large][..], &times(3, &[times(30, &write(33)), times(31, &read)].concat())].concat()),
        ("dropped", [&[small][..], &times(20, &[3, 8, 0, 1, 0, 9, 1, 2, 8, 9, 10, 11])].concat()),
        ("a-word-changes", [&[small][..], &write(9), &[15, 2, 1, 0, 1, 255, 7, 2, 1, 3, 200, 0, 8]].concat()),
        ("padding-twice", [&[small][..], &write(0), &read, &[12, 1, 6, 48, 12, 0, 6, 56], &read, &read].concat()),
        (
            "heads",
            [
                &[small][..],
                &times(8, &[&write(4)[..], &[13, 1, 3, 14, 0, 255, 255, 255, 255, 255, 255, 255, 255]].concat()),
            ]
            .concat(),
        ),
        ("messages", [&[pipes][..], &times(20, &[send(30), read_all.to_vec()].concat())].concat()),
        ("a-message-in-chunks", [&[pipes][..], &send(5000), &times(30, &[read_all, drain].concat())].concat()),
        (
            "both-ways-at-once",
            [&[pipes][..], &send(3000), &[18], &send(3000)[1..], &times(20, &[7, 23, 8, 24])].concat(),
        ),
        (
            "a-queue-is-full",
            [&[pipes | 2][..], &times(8, &send(2000)), &times(60, &[read_all, drain].concat())].concat(),
        ),
        ("sleeps", [&[pipes][..], &send(100), &[9, 1, 25, 1, 10, 26, 11, 27], &send(100), &read_all].concat()),
        (
            "a-length-changes",
            [
                &[pipes][..],
                &send(2000),
                &[14, 3, 2, 121, 7, 255, 0, 0, 0, 0, 0, 0, 0, 3, 121, 7, 1, 0, 0, 0, 0, 0, 0, 0],
                &read_all,
                &drain,
                &read_all,
            ]
            .concat(),
        ),
        ("chunks-without-a-message", [&[pipes][..], &change(120, &[3, 16, 0]), &read_all].concat()),
        (
            "a-message-in-a-message",
            [
                &[pipes][..],
                &change(122, &[7, 200, 0, 0, 0, 0, 0, 0, 0]),
                &change(120, &[2, 24, 0]),
                &change(124, &[1, 0, 0]),
                &read_all,
            ]
            .concat(),
        ),
        ("gone", [&[pipes][..], &send(5000), &[31, 0xdd, 15, 0xdd], &send(3), &read_all].concat()),
    ]
}

fn seeds_of_the_machine() -> Vec<(&'static str, Vec<u8>)> {
    let config = |choice: u8, name: &str| {
        let limits = [0, 0, 0, 4, 0, 0, 0, 0, 0, 1, 128, 64, 66, 15, 0, 0, 1];
        [&[choice, name.len() as u8][..], name.as_bytes(), &[0], &limits].concat()
    };
    let offer = |choice: u8| [&[choice, 7, 0, 0, 0][..], &[0; 8]].concat();
    // Eventfds and exits that are seen; futexes, a named region and no time-out.
    let usual = [config(8, "main"), config(9, "renderer"), offer(0xe2)].concat();
    let other = [config(3, ""), config(3, "ä"), offer(0x99)].concat();
    // Main's outputs, the renderer's input, the renderer's outputs, main's input.
    let open = [1, 16 + 2, 16 + 1, 2, 1];
    let program = |begin: &[u8], steps: &[u8]| [begin, steps].concat();
    let opened = program(&usual, &open);
    let (first, second) = ([0; 7], [16; 7]);
    vec![
        ("open", opened.clone()),
        ("open-otherwise", program(&other, &open)),
        ("time-passes", program(&usual, &[3, 255, 1, 1, 18, 19, 255, 3, 17, 2, 1])),
        ("too-late", program(&usual, &[9, 25, 1, 17])),
        ("close", program(&opened, &[10, 1, 27, 17, 23, 29, 17])),
        ("killed", program(&opened, &[7, 1, 8, 1, 13, 1, 23, 24, 1, 29, 17])),
        ("drained-and-not-killed", program(&opened, &[7, 1, 13, 9, 1])),
        ("refused", program(&usual, &[1, 18, 16, 30, 5, 0, 17, 2, 1])),
        ("refused-at-length", program(&usual, &[1, 18, 16, 30, 255, 31, 17, 2, 1])),
        ("violated", program(&opened, &[12, 1, 11, 28, 17])),
        ("a-close-before-the-opening", program(&usual, &[11, 1, 27, 17])),
        ("damaged", program(&usual, &[1, 20, 17, 17, 0, 2, 17, 2, 1])),
        ("longer-and-of-a-later-version", program(&usual, &[1, 20, 0b11001, 11, 1, 1, 2, 3, 4, 5, 17, 2, 1])),
        (
            "any-bytes",
            program(&usual, &[5, 9, 0, b'R', b'I', b'N', b'G', b'M', b'A', b'I', b'N', 2, 1, 21, 3, 1, 1, 2, 3, 17]),
        ),
        ("greetings-twice", program(&opened, &[6, 0, 1, 22, 0, 17])),
        ("cannot-send", program(&usual, &[15, 1, 31, 17])),
        ("one-by-one", program(&usual, &[&first[..], &[18], &second, &[2], &first].concat())),
    ]
}

// ---- random inputs -------------------------------------------------------------------------------------------------

/// A word that looks like a record, or a length.
fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => (1..6_u8, any::<u8>(), 0..8_u8).prop_map(|(kind, low, high)| vec![kind, low, high]),
        1 => any::<u8>().prop_map(|len| vec![6, len]),
        2 => (any::<u8>(), 0..3_u8).prop_map(|(low, high)| vec![7, low, high]),
    ]
}

/// A place in what the peer shares; near where `first` begins, which is read next, more often than elsewhere.
fn place(first: u8) -> impl Strategy<Value = u8> {
    prop_oneof![2 => first..first + 3, 1 => any::<u8>()]
}

/// Changes of the peer's before accesses of ours.
fn changes(operation: u8, first: u8) -> impl Strategy<Value = Vec<u8>> {
    vec((0..6_u8, place(first), word()), 1..4).prop_map(move |changes| {
        let count = changes.len() as u8 - 1;
        let changes = changes.into_iter().flat_map(|(after, at, word)| [vec![after, at], word].concat());
        [operation, count].into_iter().chain(changes).collect()
    })
}

fn steps_of_a_ring() -> impl Strategy<Value = Vec<u8>> {
    let step = prop_oneof![
        4 => (any::<u8>(), 0..3_u8).prop_map(|(len, kind)| vec![0, len, kind, len]),
        4 => prop_oneof![Just(4), Just(8), 9..12_u8].prop_map(|operation| vec![operation]),
        1 => (place(0), word()).prop_map(|(at, word)| [vec![12, at], word].concat()),
        1 => changes(15, 0),
    ];
    vec(step, 0..60).prop_map(|steps| steps.concat())
}

fn steps_of_pipes() -> impl Strategy<Value = Vec<u8>> {
    let step = prop_oneof![
        3 => (0..4_u8, 0..6000_u16, any::<u8>()).prop_map(|(operation, len, mode)| {
            [&[operation][..], &len.to_le_bytes(), &[mode, 7]].concat()
        }),
        6 => prop_oneof![4..9_u8, Just(7)].prop_map(|operation| vec![operation]),
        1 => (place(100), word()).prop_map(|(at, word)| [vec![12, at], word].concat()),
        1 => changes(14, 100),
    ];
    // From main to the renderer mostly, as a peer that is to be broken must send something.
    let step = (step, 0..4_u8).prop_map(|(mut step, end)| {
        let reads = (4..8).contains(&step[0]);
        step[0] |= if reads == (end > 0) { 16 } else { 0 };
        step
    });
    vec(step, 0..60).prop_map(|steps| steps.concat())
}

/// Programs of small numbers reach further than bytes of any value.
fn program() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![3 => 0..32_u8, 1 => any::<u8>()], 0..300)
}

/// Limits, of which the usual ones come more often.
fn choice() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), any::<u8>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_passes_the_check_is_json_whatever_it_is_read_as(choice in choice(), payload in any_bytes()) {
        json(&[&[choice][..], &payload].concat());
    }

    #[test]
    fn what_is_sent_is_json_whatever_it_is_read_as_and_damage_is_found(
        choice in choice(), value in any_json(), at in any::<prop::sample::Index>(), byte: u8,
    ) {
        let mut input = [&[choice][..], &encoded(&value)].concat();
        json(&input);
        let at = at.index(input.len());
        input[at] = byte;
        json(&input);
    }

    #[test]
    fn messages_are_taken_apart_as_they_were_put_together(
        choice in choice(), mut header in vec(any::<u8>(), 24), kind in 0_u8..15, zeros: [bool; 3], reserved in 0_u8..6, channel in "[a-zä]{0,9}", payload in any_bytes(),
    ) {
        header[0] = kind;
        header[1] &= 1;
        // The reserved bytes, of which one may be set.
        header[2] = u8::from(reserved == 2);
        header[3] = u8::from(reserved == 3);
        header[16..20].copy_from_slice(&(channel.len() as u32).to_le_bytes());
        for (field, zero) in [8..16, 12..16, 20..24].into_iter().zip(zeros) {
            if zero {
                header[field].fill(0);
            }
        }
        wire(&[&[choice][..], &header, channel.as_bytes(), &payload].concat());
        wire(&[&[choice][..], &header].concat());
        wire(&header);
    }

    #[test]
    fn errors_are_passed_on_within_any_limits(
        choice in choice(), kind: u8, texts in vec(proptest::option::of(".{0,50}"), 3), data in proptest::option::of(any_json()),
    ) {
        let text = |at: usize| texts[at].clone().map_or(serde_json::Value::Null, Into::into);
        let record = value!([kind, text(0), texts[1].clone().unwrap_or_default(), text(2), data]);
        wire(&[&[choice][..], &encoded(&record)].concat());
    }

    #[test]
    fn whatever_changes_in_a_ring_is_records_within_their_bounds_or_corrupt(
        size in 0_u8..6, program in prop_oneof![steps_of_a_ring(), program()],
    ) {
        ring(&[&[size << 1][..], &program].concat());
    }

    #[test]
    fn whatever_changes_around_a_pipe_is_messages_within_their_limits_or_a_violation(
        options in 0_u8..8, program in prop_oneof![steps_of_pipes(), program()],
    ) {
        ring(&[&[options << 1 | 1][..], &program].concat());
    }

    #[test]
    fn any_program_ends_a_link_once_at_either_end_and_an_untouched_pair_opens(program in program()) {
        machine(&program);
    }
}
