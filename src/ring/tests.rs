use super::*;
use crate::region::Region;
use crate::sync::Arc;
use proptest::prelude::*;
use std::collections::VecDeque;

const RING_AT: usize = 64;

/// A ring and what a hostile peer has in its hands: the same words and the same head.
struct Ring {
    writer: Writer,
    reader: Reader,
    words: Words,
    head: Word64,
    region: Arc<Region>,
}

fn over(for_writer: &Arc<Region>, for_reader: &Arc<Region>, count: usize) -> Ring {
    let part = |region: &Arc<Region>| (region.words(RING_AT, count).unwrap(), region.word64(0).unwrap());
    let (words, head) = part(for_writer);
    let writer = Writer::new(words, head);
    let (words, head) = part(for_reader);
    let reader = Reader::new(words, head);
    let (words, head) = part(for_reader);
    Ring { writer, reader, words, head, region: for_reader.clone() }
}

fn ring(count: usize) -> Ring {
    let region = Region::in_process(RING_AT + count * WORD);
    over(&region, &region, count)
}

impl Ring {
    fn write(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), WriteError> {
        let mut record = self.writer.reserve(bytes.len())?;
        record.write(0, bytes);
        record.commit(kind);
        Ok(())
    }

    fn read(&mut self) -> Result<Option<(Kind, Vec<u8>)>, Corrupt> {
        let Some(record) = self.reader.peek()? else {
            self.reader.publish();
            return Ok(None);
        };
        let mut bytes = vec![0xee];
        self.reader.append_to(record, 0, &mut bytes);
        assert_eq!(bytes.len(), 1 + record.len);
        assert_eq!(bytes.remove(0), 0xee, "what was in the buffer stays");
        self.reader.release(record);
        Ok(Some((record.kind, bytes)))
    }

    /// Moves both ends of the empty ring on to this offset.
    fn advance_to(&mut self, offset: u64) {
        while self.writer.position % self.words.len() as u64 != offset {
            self.write(Kind::Whole, &[]).unwrap();
            self.read().unwrap();
            assert_eq!(self.read(), Ok(None));
        }
    }

    fn snapshot(&self) -> Vec<u64> {
        (0..self.words.len() as u64).map(|at| self.words.at(at).load(Ordering::Relaxed)).collect()
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let first = self.next();
        (0..len as u64).map(|at| (first.wrapping_add(at.wrapping_mul(0x9e37))) as u8).collect()
    }

    /// Small, at the edges of words, and the largest.
    fn len(&mut self, most: usize) -> usize {
        match self.below(8) {
            0 => 0,
            1 => most,
            2 => most + 1 + self.below(9),
            3 => self.below(most + 1),
            4 => (self.below(most / WORD + 1) * WORD).saturating_sub(self.below(2)),
            _ => self.below(most.min(40) + 1),
        }
    }
}

const KINDS: [Kind; 3] = [Kind::Whole, Kind::First, Kind::More];

/// Words at the beginning of a ring that short records use, for a ring of `size`: a second account.
fn window(size: u64) -> u64 {
    if size <= 4096 { size } else { 4096.max(size / 8) }
}

/// Runs random operations beside a `VecDeque` and a second account of the room; long records find memory up to `limit`.
fn compare_with_a_deque(mut ring: Ring, limit: u64, steps: usize, seed: u64) {
    let size = ring.words.len() as u64;
    let window = window(size);
    let most = max_record(ring.words.len());
    let mut random = Random(seed);
    let mut expected = VecDeque::new();
    let (mut position, mut ends, mut read_to) = (0_u64, VecDeque::new(), 0_u64);
    for step in 0..steps {
        match random.below(10) {
            0..5 => {
                let len = random.len(most);
                let bytes = random.bytes(len);
                let kind = KINDS[random.below(3)];
                let offset = position % size;
                // The word behind it has to lie before the limit as well; behind the last word of all is the first.
                let room = |limit| if limit == size { size } else { limit - 1 };
                let room = room(if len as u64 <= window / 4 { window } else { limit });
                let padding = if offset + words_of(len) <= room { 0 } else { size - offset };
                let end = position + padding + words_of(len);
                let head = ring.reader.published;
                let fits = end + 1 - head <= size;
                let result = match random.below(6) {
                    0 => ring.writer.reserve(len).map(drop),
                    _ => ring.write(kind, &bytes).inspect(|()| {
                        position = end;
                        ends.push_back(end);
                        expected.push_back((kind, bytes));
                    }),
                };
                let right = match (len > most, fits) {
                    (true, _) => Err(WriteError::TooLarge),
                    (false, false) => Err(WriteError::Full),
                    (false, true) => Ok(()),
                };
                assert_eq!(result, right, "step {step}: {len} bytes at {position}, head {head}");
            }
            5..9 => {
                let got = ring.read().expect("an honest writer");
                assert_eq!(got, expected.pop_front(), "step {step}");
                if got.is_some() {
                    read_to = ends.pop_front().unwrap();
                } else {
                    assert_eq!(ring.reader.published, read_to, "found empty, so published");
                }
                assert!(read_to - ring.reader.published <= size - window + window / 4);
            }
            _ => {
                ring.reader.publish();
                assert_eq!(ring.head.load(Ordering::Relaxed), read_to);
            }
        }
        assert_eq!(ring.reader.has_more(), !expected.is_empty(), "step {step}");
    }
    assert!(position > 10 * size, "the ring was wrapped too rarely to show anything");
}

#[test]
fn a_ring_is_a_bounded_deque_of_records() {
    for (index, count) in [4, 8, 16, 32, 128, 1024, 8192].into_iter().enumerate() {
        let steps = if count > 1000 { 40_000 } else { 120_000 };
        compare_with_a_deque(ring(count), count as u64, steps, 0x5eed + index as u64);
    }
}

/// A ring in memory that ends behind its window.
fn ring_without_more_memory(count: usize) -> Ring {
    let page = rustix::param::page_size();
    let len = RING_AT + count * WORD;
    let short = (RING_AT + window(count as u64) as usize * WORD).next_multiple_of(page);
    let memory = rustix::fs::memfd_create("ringmain-test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&memory, len as u64).unwrap();
    let region = Region::mapped(crate::sys::Mapping::map(&memory, len, &[]).unwrap());
    rustix::fs::ftruncate(&memory, short as u64).unwrap();
    over(&region, &region, count)
}

#[test]
fn where_there_is_no_more_memory_long_records_do_with_the_window() {
    let count = 1 << 16;
    let mut ring = ring_without_more_memory(count);
    let long = vec![7; max_chunk(count)];
    for _ in 0..100 {
        ring.write(Kind::More, &long).unwrap();
        ring.write(Kind::Whole, b"short").unwrap();
        assert_eq!(ring.read(), Ok(Some((Kind::More, long.clone()))));
        assert_eq!(ring.read(), Ok(Some((Kind::Whole, b"short".to_vec()))));
    }
    assert_eq!(ring.writer.limit, window(count as u64));
    assert_eq!(ring.read(), Ok(None));
    let most = (window(count as u64) as usize / 2 - 2) * WORD;
    ring.write(Kind::Whole, &vec![7; most]).unwrap();
    assert_eq!(ring.read(), Ok(Some((Kind::Whole, vec![7; most]))));
    assert_eq!(ring.write(Kind::Whole, &vec![7; most + 1]), Err(WriteError::TooLarge));
}

#[test]
fn short_records_use_the_window_alone_and_long_ones_the_whole_ring() {
    let count = 1 << 16;
    let window = window(count as u64);
    let mut ring = ring(count);
    let short = vec![7; window as usize * WORD / 32];
    for _ in 0..100 {
        ring.write(Kind::Whole, &short).unwrap();
        assert!(ring.read().unwrap().is_some());
        assert!((0..window).contains(&(ring.writer.position % count as u64)));
    }
    assert!(ring.snapshot()[window as usize..].iter().all(|word| *word == 0));
    assert_eq!(ring.writer.ready, window, "no memory was asked for");
    let long = vec![7; short.len() + 1];
    for _ in 0..2 * count * WORD / long.len() {
        ring.write(Kind::Whole, &long).unwrap();
        assert!(ring.read().unwrap().is_some());
    }
    let untouched = ring.snapshot().iter().filter(|word| **word == 0).count();
    assert!(untouched < 2 * long.len() / WORD + 100, "{untouched} words of {count} were not used");
    assert_eq!(ring.writer.ready, count as u64);
}

/// The argument for looking at the wish for room after each quarter of the window only: whoever finds no room has seen
/// such a head at least, and there is room then.
#[test]
fn a_ring_that_was_read_to_the_end_has_room_though_its_head_was_published_after_quarters_only() {
    for (count, limited) in [(64, false), (128, false), (4096, false), (8192, false), (8192, true), (1 << 17, false)] {
        let mut ring = if limited { ring_without_more_memory(count) } else { ring(count) };
        let most = max_chunk(count);
        let mut random = Random(0xbee + count as u64);
        for step in 0..20_000 {
            let len = random.len(most).min(most);
            let bytes = vec![step as u8; len];
            assert_eq!(ring.write(Kind::Whole, &bytes), Ok(()), "{count} words, step {step}: {len} bytes");
            let record = ring.reader.peek().unwrap().unwrap();
            ring.reader.release(record);
            if random.below(3) == 0 {
                continue;
            }
            assert_eq!(ring.reader.peek(), Ok(None), "and does not publish");
        }
    }
}

#[test]
fn two_mappings_of_one_memory_are_one_ring() {
    let count = 1024;
    let len = RING_AT + count * WORD;
    let memory = crate::sys::create_sealed_memory("ringmain-test", len, &[0..len]).unwrap();
    let map = || Region::mapped(crate::sys::Mapping::map(&memory, len, &[0..len]).unwrap());
    compare_with_a_deque(over(&map(), &map(), count), count as u64, 60_000, 0x3a9);
}

#[test]
fn an_exact_fit_is_read_back_at_every_offset() {
    for count in [4_u64, 8, 16, 64] {
        for offset in 0..count {
            for first in (0..=max_record(count as usize)).step_by(if count == 64 { 13 } else { 1 }) {
                let mut ring = ring(count as usize);
                ring.advance_to(offset);
                let mut expected = VecDeque::new();
                // The largest first, then what still fits, down to nothing: then every word is in use.
                for len in (0..=first).rev() {
                    while ring.write(Kind::More, &vec![len as u8 + 1; len]).is_ok() {
                        expected.push_back((Kind::More, vec![len as u8 + 1; len]));
                    }
                }
                assert_eq!(ring.writer.position + 1 - ring.reader.published, count, "every word in use");
                assert_eq!(ring.write(Kind::Whole, &[]), Err(WriteError::Full));
                while let Some(record) = expected.pop_front() {
                    assert_eq!(ring.read(), Ok(Some(record)), "{count} words from {offset}");
                }
                assert_eq!(ring.read(), Ok(None));
            }
        }
    }
}

#[test]
fn an_empty_ring_takes_the_largest_record_at_every_offset_and_nothing_larger() {
    for count in [4_u64, 8, 16, 64] {
        for offset in 0..count {
            let mut ring = ring(count as usize);
            ring.advance_to(offset);
            let most = max_record(ring.words.len());
            assert_eq!(most, (count as usize / 2 - 1) * WORD);
            assert_eq!(ring.write(Kind::First, &vec![7; most + 1]), Err(WriteError::TooLarge));
            assert_eq!(ring.write(Kind::First, &vec![7; most]), Ok(()), "{count} words, offset {offset}");
            assert_eq!(ring.read(), Ok(Some((Kind::First, vec![7; most]))));
        }
    }
}

#[test]
fn a_dropped_reservation_changes_nothing_that_is_in_use() {
    for offset in 0..16 {
        for len in 0..=max_record(16) {
            let mut ring = ring(16);
            ring.advance_to(offset);
            ring.write(Kind::First, b"before").unwrap();
            let (before, position) = (ring.snapshot(), ring.writer.position);
            let Ok(mut record) = ring.writer.reserve(len) else { continue };
            record.write(0, &vec![0xaa; len]);
            // Dropped without `commit`.
            assert_eq!(ring.writer.position, position);
            let after = ring.snapshot();
            for at in ring.reader.position..=position {
                let index = (at % 16) as usize;
                assert_eq!(before[index], after[index], "the words in use, the next record's included");
            }
            assert_eq!(ring.read(), Ok(Some((Kind::First, b"before".to_vec()))));
            assert_eq!(ring.read(), Ok(None));
            ring.write(Kind::More, b"after").unwrap();
            assert_eq!(ring.read(), Ok(Some((Kind::More, b"after".to_vec()))));
        }
    }
}

#[test]
fn a_record_is_written_and_read_in_parts() {
    let mut ring = ring(64);
    let mut record = ring.writer.reserve(21).unwrap();
    record.write(0, &5_u64.to_le_bytes());
    record.write(8, b"and the rest.");
    record.commit(Kind::First);
    let record = ring.reader.peek().unwrap().unwrap();
    assert_eq!(ring.reader.word(0), 5);
    let mut rest = Vec::new();
    ring.reader.append_to(record, 8, &mut rest);
    assert_eq!(rest, b"and the rest.");
    ring.reader.append_to(record, 24, &mut rest);
    assert_eq!(rest.len(), 13, "nothing lies behind the end");
}

#[test]
fn a_look_at_the_wish_for_room_is_due_once_a_quarter() {
    let mut ring = ring(64);
    let mut due = 0;
    for _ in 0..64 {
        ring.write(Kind::Whole, &[0; 8]).unwrap();
        let record = ring.reader.peek().unwrap().unwrap();
        due += usize::from(ring.reader.release(record));
        // Found empty: published each time, but a look is due with the quarter alone.
        due += usize::from(ring.reader.publish());
    }
    assert_eq!(due, 8, "128 words are eight quarters of 16");
    ring.reader.publish_and_look();
    assert!(!ring.reader.publish());
}

// ---- hostile words -------------------------------------------------------------------------------------------------

fn interesting_lengths(count: u64) -> Vec<u64> {
    let most = max_record(count as usize) as u64;
    let bytes = count * WORD as u64;
    let mut lengths = vec![0, 1, 7, 8, 9, 1 << 31, 1 << 32, 1 << 55, (1 << 56) - 1];
    for near in [most, bytes, bytes / 4, bytes - 8] {
        lengths.extend([near - 1, near, near + 1]);
    }
    lengths.extend((0..count).map(|words| words * WORD as u64));
    lengths
}

/// What `peek` must say of a word at an offset, decided a second way.
fn verdict(word: u64, offset: u64, count: u64) -> Result<Option<u64>, &'static str> {
    let (kind, len) = (word >> 56, word & ((1 << 56) - 1));
    match kind {
        _ if word == 0 => Ok(None),
        1..=3 if len <= (count / 2 - 1) * 8 && len.div_ceil(8) < count - offset => Ok(Some(len)),
        1..=3 => Err("length"),
        4 => Err("padding"),
        _ => Err("word"),
    }
}

#[test]
fn every_kind_and_length_is_a_record_or_corrupt() {
    for count in [4_u64, 16, 64] {
        let lengths = interesting_lengths(count);
        for offset in 0..count {
            let mut ring = ring(count as usize);
            ring.advance_to(offset);
            for kind in 0..=255_u64 {
                for len in &lengths {
                    let word = (kind << 56) | len;
                    let is_padding_to_the_end = kind == 4 && offset != 0 && *len == (count - offset - 1) * 8;
                    if is_padding_to_the_end {
                        continue; // legal; see below
                    }
                    ring.words.at(offset).store(word, Ordering::Relaxed);
                    let position = ring.reader.position;
                    let got = ring.reader.peek();
                    match (verdict(word, offset, count), &got) {
                        (Ok(None), Ok(None)) => {}
                        (Ok(Some(len)), Ok(Some(record))) => {
                            assert_eq!(record.len as u64, len);
                            let mut bytes = Vec::new();
                            ring.reader.append_to(*record, 0, &mut bytes);
                            assert_eq!(bytes.len() as u64, len);
                        }
                        (Err("length"), Err(Corrupt::Length { .. }))
                        | (Err("padding"), Err(Corrupt::Padding { .. }))
                        | (Err("word"), Err(Corrupt::Word { .. })) => {
                            assert_eq!(ring.reader.peek(), got, "it stays corrupt");
                        }
                        (expected, _) => panic!("{word:#x} at {offset} of {count}: {got:?}, not {expected:?}"),
                    }
                    assert_eq!(ring.reader.position, position, "nothing was skipped");
                }
            }
        }
    }
}

#[test]
fn padding_is_legal_once_up_to_the_end_and_never_at_the_beginning() {
    let pad = |count: u64, offset: u64| record_word(PADDING, (count - offset - 1) as usize * WORD);
    for count in [4_u64, 16] {
        for offset in 1..count {
            let mut ring = ring(count as usize);
            ring.advance_to(offset);
            let position = ring.reader.position;
            ring.words.at(0).store(0, Ordering::Relaxed);
            ring.words.at(offset).store(pad(count, offset), Ordering::Relaxed);
            assert_eq!(ring.reader.peek(), Ok(None), "padding, and nothing behind it yet");
            assert_eq!(ring.reader.position, position + count - offset);
            // A whole ring of padding would lead back to itself for ever.
            for word in [pad(count, 0), pad(count, offset), record_word(PADDING, 0)] {
                ring.words.at(0).store(word, Ordering::Relaxed);
                assert!(matches!(ring.reader.peek(), Err(Corrupt::Padding { .. })), "{word:#x} behind padding");
            }
            ring.words.at(0).store(record_word(Kind::Whole as u8, 0), Ordering::Relaxed);
            let record = ring.reader.peek().unwrap().expect("a record behind padding");
            ring.reader.release(record);
        }
    }
}

#[test]
fn every_head_outside_what_is_in_flight_is_corrupt() {
    for advance in [0, 5, 100] {
        let mut ring = ring(16);
        for _ in 0..advance {
            ring.write(Kind::Whole, &[1; 8]).unwrap();
            ring.read().unwrap();
            ring.read().unwrap();
        }
        while ring.write(Kind::Whole, &[1; 8]).is_ok() {}
        let (seen, position) = (ring.writer.seen, ring.writer.position);
        let honest = ring.head.load(Ordering::Relaxed);
        let mut heads = vec![0, 1, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1, 1 << 32, u64::from(u32::MAX)];
        for near in [seen, position, seen + 16, position + 16, honest] {
            heads.extend([near.wrapping_sub(1), near, near.wrapping_add(1)]);
        }
        for head in heads {
            ring.writer.seen = seen;
            ring.head.store(head, Ordering::Relaxed);
            let got = ring.writer.reserve(8).map(drop);
            if head < seen || head > position {
                assert_eq!(got, Err(WriteError::Corrupt(Corrupt::Head { head, seen, position })));
                assert_eq!(ring.writer.seen, seen, "an impossible head is not remembered");
            } else {
                assert!(matches!(got, Ok(()) | Err(WriteError::Full)), "{head}: {got:?}");
            }
        }
    }
}

/// Reads what a hostile peer has left, for a bounded number of records.
fn read_some(ring: &mut Ring, most: usize) {
    for _ in 0..most {
        match ring.read() {
            Ok(Some((_, bytes))) => assert!(bytes.len() <= max_record(ring.words.len())),
            Ok(None) | Err(_) => return,
        }
    }
}

#[test]
fn each_word_flipped_alone_does_no_harm() {
    let values = [
        0,
        1,
        8,
        u64::MAX,
        record_word(PADDING, 0),
        record_word(PADDING, 8 * 31),
        record_word(PADDING, usize::MAX >> 8),
        record_word(1, 0),
        record_word(1, max_record(32)),
        record_word(2, max_record(32) + 1),
        record_word(3, 8),
        record_word(5, 8),
        1 << 63,
    ];
    for seed in 1..20 {
        for at in 0..32 {
            for value in values {
                let mut ring = ring(32);
                let mut random = Random(seed);
                for _ in 0..seed {
                    let len = random.below(50);
                    let _ = ring.write(Kind::Whole, &random.bytes(len));
                    if random.below(2) == 0 {
                        let _ = ring.read();
                    }
                }
                ring.words.at(at).store(value, Ordering::Relaxed);
                read_some(&mut ring, 100);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_words_and_any_head_are_data_or_corrupt(
        words in prop::collection::vec(
            prop_oneof![
                any::<u64>(),
                (0_u64..6, 0_u64..140).prop_map(|(kind, len)| (kind << 56) | len),
                (any::<u8>(), any::<u64>()).prop_map(|(kind, len)| (u64::from(kind) << 56) | (len >> 8)),
            ],
            32,
        ),
        heads in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..200], 8),
        lens in prop::collection::vec(0_usize..130, 8),
    ) {
        let mut ring = ring(32);
        for (head, len) in heads.into_iter().zip(lens) {
            for (at, word) in words.iter().enumerate() {
                ring.words.at(at as u64).store(*word, Ordering::Relaxed);
            }
            read_some(&mut ring, 100);
            ring.head.store(head, Ordering::Relaxed);
            let _ = ring.write(Kind::Whole, &vec![1; len]);
        }
    }
}

#[test]
fn words_that_change_while_they_are_read_do_no_harm() {
    let mut ring = ring(16);
    let words = ring.region.words(RING_AT, 16).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flipping = scope.spawn(|| {
            let mut random = Random(99);
            while !stop.load(Ordering::Relaxed) {
                let kind = random.next() % 6;
                let word = (kind << 56) | (random.next() % 64);
                words.at(random.next()).store(word, Ordering::Relaxed);
            }
        });
        for _ in 0..100_000 {
            read_some(&mut ring, 4);
        }
        stop.store(true, Ordering::Relaxed);
        flipping.join().unwrap();
    });
}
