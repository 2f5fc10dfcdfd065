//! Both ends of a ring, and of a pipe over two of them, beside a peer that is honest until it is not.

use super::Input;
use crate::layout::{Layout, direction};
use crate::pipe::{Budget, Parts, Pipe, Read, SendError, SendMode, Violation};
use crate::region::meanwhile::Meanwhile;
use crate::region::{Region, WORD, Word32, Word64, Words};
use crate::ring::{APART, Corrupt, Kind, Reader, WriteError, Writer, max_record};
use crate::sync::{Arc, Ordering};
use crate::wake::Sleep;
use std::collections::VecDeque;

/// Operations of one input: a ring is wrapped often enough in these.
const MOST_STEPS: usize = 600;

/// The first byte chooses between a bare ring and a pair of pipes, the others are operations. Whatever lies in the memory,
/// and changes between two of our looks, is records within their bounds or a violation; and as long as the peer is honest,
/// all that was sent is read, in order.
pub fn ring(input: &[u8]) {
    let input = &mut Input(input);
    let choice = input.u8();
    if choice & 1 == 0 {
        records(input, 4 << (choice >> 1 & 7).min(5));
    } else {
        messages(input, choice >> 1);
    }
}

/// A word as a hostile peer writes it: any, or one that looks like a record's.
fn word(input: &mut Input<'_>) -> u64 {
    match input.u8() {
        0 => 0,
        kind @ 1..=5 => u64::from(kind) << 56 | u64::from(input.u16() & 0x7ff),
        6 => (4 << 56) | (u64::from(input.u8()) * WORD as u64),
        7 => u64::from(input.u16()) * 16,
        _ => input.u64(),
    }
}

/// A place in a ring: near where the next record is read, or any.
fn place(at: u64, next: u64) -> u64 {
    if at & 64 == 0 { next + at % 8 } else { at }
}

/// A head as a hostile reader writes it.
fn head(input: &mut Input<'_>) -> u64 {
    match input.u8() & 3 {
        0 => input.u64(),
        1 => input.u8().into(),
        _ => input.u16().into(),
    }
}

/// Words that the peer changes before accesses of ours: how many of them it lets pass, then where and what.
#[derive(Default)]
struct Changes(VecDeque<(u8, u64, u64)>);

impl Changes {
    fn read(input: &mut Input<'_>) -> Self {
        Self((0..=input.below(4)).map(|_| (input.u8() & 31, u64::from(input.u8()), word(input))).collect())
    }

    /// What becomes of them as this thread goes on.
    fn begin(mut self, mut change: impl FnMut(u64, u64) + 'static) -> Option<Meanwhile> {
        if self.0.is_empty() {
            return None;
        }
        Some(Meanwhile::does(move |_address, _bytes| {
            while let Some((0, at, word)) = self.0.front().copied() {
                self.0.pop_front();
                change(at, word);
            }
            if let Some((left, ..)) = self.0.front_mut() {
                *left -= 1;
            }
        }))
    }
}

fn bytes_of(first: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| first.wrapping_add((at * 7) as u8)).collect()
}

// ---- a bare ring ---------------------------------------------------------------------------------------------------

/// What the writer must answer, by a second account of the room.
struct Room {
    words: u64,
    position: u64,
    seen: u64,
}

impl Room {
    fn after(&mut self, len: usize, head: u64) -> Result<u64, WriteError> {
        let (size, to_end) = (1 + len.div_ceil(WORD) as u64, self.words - self.position % self.words);
        if len > max_record(self.words as usize) {
            return Err(WriteError::TooLarge);
        }
        let end = self.position + if size > to_end { to_end } else { 0 } + size;
        if end + 1 > self.seen + self.words {
            if !(self.seen..=self.position).contains(&head) {
                let (seen, position) = (self.seen, self.position);
                return Err(WriteError::Corrupt(Corrupt::Head { head, seen, position }));
            }
            self.seen = head;
            if end + 1 > head + self.words {
                return Err(WriteError::Full);
            }
        }
        Ok(end)
    }
}

fn records(input: &mut Input<'_>, count: usize) {
    const AT: usize = 64;
    let region = Region::in_process(AT + count * WORD);
    let words = || region.words(AT, count).expect("in the region");
    let shared_head = || region.word64(0).expect("in the region");
    let (mut writer, mut reader) = (Writer::new(words(), shared_head()), Reader::new(words(), shared_head()));
    let (peer_words, peer_head): (Words, Word64) = (words(), shared_head());
    let mut room = Room { words: count as u64, position: 0, seen: 0 };
    let mut expected = VecDeque::new();
    let mut honest = true;
    let mut changes = Changes::default();
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        let operation = input.u8() & 15;
        match operation {
            0..4 => {
                let len = match input.u8() {
                    255 => max_record(count) + input.below(10),
                    len => usize::from(len) % (max_record(count) + 1),
                };
                let (kind, first, commits) = (input.below(3), input.u8(), operation != 3);
                let kind = [Kind::Whole, Kind::First, Kind::More][kind];
                let bytes = bytes_of(first, len);
                let right = room.after(len, peer_head.load(Ordering::Relaxed));
                let got = writer.reserve(len).map(|mut record| {
                    let split = (len / 2) & !(WORD - 1);
                    record.write(split, &bytes[split..]);
                    record.write(0, &bytes[..split]);
                    if commits {
                        record.commit(kind);
                    }
                });
                assert_eq!(got, right.clone().map(drop), "{len} bytes");
                if let Ok(end) = right
                    && commits
                {
                    room.position = end;
                    expected.push_back((kind, bytes));
                }
            }
            4..9 => {
                let (words, next) = (region.words(AT, count).expect("in the region"), reader.position());
                honest &= changes.0.is_empty();
                let meanwhile = std::mem::take(&mut changes).begin(move |at, word| {
                    words.at(place(at, next)).store(word, Ordering::Relaxed);
                });
                let got = read_record(&mut reader, count, operation == 8);
                drop(meanwhile);
                if honest {
                    assert_eq!(got, Ok(expected.pop_front()));
                }
            }
            9 => {
                reader.publish();
                assert_eq!(reader.published(), reader.position());
            }
            10 => {
                reader.publish_and_look();
                assert!(!reader.publish(), "a look is due after a quarter of the ring only");
            }
            11 => {
                let has_more = reader.has_more();
                assert!(!honest || has_more != expected.is_empty());
            }
            12 => {
                honest = false;
                peer_words.at(place(input.u8().into(), reader.position())).store(word(input), Ordering::Relaxed);
            }
            13 => {
                honest = false;
                let ahead = room.seen + head(input) % (2 * count as u64);
                peer_head.store(ahead, Ordering::Relaxed);
            }
            14 => {
                honest = false;
                peer_head.store(head(input), Ordering::Relaxed);
            }
            _ => changes = Changes::read(input),
        }
    }
    while honest && let Some(record) = expected.pop_front() {
        assert_eq!(read_record(&mut reader, count, false), Ok(Some(record)));
    }
}

fn read_record(reader: &mut Reader, count: usize, in_parts: bool) -> Result<Option<(Kind, Vec<u8>)>, Corrupt> {
    let before = reader.position();
    let Some(record) = reader.peek()? else {
        reader.publish();
        return Ok(None);
    };
    // Padding leads to the beginning.
    let begins = reader.position();
    assert!(begins == before || (begins.is_multiple_of(count as u64) && begins - before < count as u64));
    assert!(record.len <= max_record(count));
    let mut bytes = vec![0xee];
    if in_parts && record.len > WORD {
        bytes.extend(reader.word(0).to_le_bytes());
        reader.append_to(record, WORD, &mut bytes);
    } else {
        reader.append_to(record, 0, &mut bytes);
    }
    assert_eq!((bytes.len(), bytes[0]), (1 + record.len, 0xee), "as long as it was when it was looked at");
    reader.release(record);
    assert_eq!(reader.position(), begins + 1 + record.len.div_ceil(WORD) as u64);
    assert!(reader.position() - reader.published() <= (count as u64 / 4).max(1));
    bytes.remove(0);
    Ok(Some((record.kind, bytes)))
}

// ---- a pair of pipes -----------------------------------------------------------------------------------------------

const MAX_MESSAGE: usize = 6000;

struct End {
    pipe: Pipe,
    budget: Arc<Budget>,
    /// What was sent to this end and not read by it.
    expected: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
}

/// What a peer has in its hands.
struct Shared {
    /// The ring that each end reads, main's first.
    rings: [Words; 2],
    heads: [Word64; 2],
    words: Vec<Word32>,
}

impl Shared {
    fn of(region: &Arc<Region>, layout: &Layout) -> Self {
        let blocks = [layout.block(true), layout.block(false)];
        let words = [direction::SLEEPER, direction::WANTS_ROOM, direction::DISPATCHER, direction::CALLER];
        let words = blocks.into_iter().flat_map(|block| words.map(|word| block + word));
        Self {
            rings: [layout.to_main, layout.to_renderer]
                .map(|place| region.words(place.offset, place.words).expect("in the region")),
            heads: blocks.map(|block| region.word64(block + direction::HEAD).expect("in the region")),
            words: words.map(|at| region.word32(at).expect("in the region")).collect(),
        }
    }

    /// `next` is where the ends read.
    fn change(&self, next: [u64; 2], at: u64, word: u64) {
        match at {
            0..100 => self.rings[0].at(place(at, next[0])).store(word, Ordering::Relaxed),
            100..200 => self.rings[1].at(place(at - 100, next[1])).store(word, Ordering::Relaxed),
            200..232 => self.heads[at as usize & 1].store(word & 0x1ff, Ordering::Relaxed),
            232.. => self.words[at as usize & 7].store(word as u32, Ordering::Relaxed),
        }
    }
}

fn messages(input: &mut Input<'_>, choice: u8) {
    thread_local! {
        static SLEEP: Sleep = Sleep::probe();
    }
    let layout = Layout::new(1024, 0);
    let region = Region::in_process(layout.region);
    let queue_limit = [1 << 20, 3000, 0, 500][usize::from(choice & 3)];
    let process_limit = if choice & 4 == 0 { 1 << 20 } else { MAX_MESSAGE };
    let end = |is_main| {
        let budget = Budget::new(process_limit);
        let (sleep, limits) = (SLEEP.with(Sleep::clone), [queue_limit, MAX_MESSAGE]);
        let parts = Parts::in_process(&region, layout, is_main, sleep, &budget, limits);
        End { pipe: Pipe::new(parts).expect("in the region"), budget, expected: VecDeque::new(), buffer: Vec::new() }
    };
    let mut ends = [end(true), end(false)];
    let peer = Shared::of(&region, &layout);
    let mut honest = true;
    let mut changes = Changes::default();
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        let operation = input.u8();
        let next = [0, 1].map(|index: usize| ends[index].pipe.try_lead().expect("nobody reads").position());
        let [a, b] = &mut ends;
        let (here, there) = if operation & 16 == 0 { (a, b) } else { (b, a) };
        let operation = operation & 15;
        let mut meanwhile = None;
        if operation < 12 && !changes.0.is_empty() {
            honest = false;
            let peer = Shared::of(&region, &layout);
            meanwhile = std::mem::take(&mut changes).begin(move |at, word| peer.change(next, at, word));
        }
        match operation {
            0..4 => {
                let (len, mode, first) = (usize::from(input.u16()) % (MAX_MESSAGE + 1), input.u8(), input.u8());
                // Most are small.
                let len = if operation < 2 { len % 64 } else { len };
                let bytes = bytes_of(first, len);
                let mode = SendMode { quiet: mode & 1 != 0, beyond_limit: mode & 6 == 6, routed: mode & 24 == 24 };
                match here.pipe.send(&mut bytes.clone(), mode) {
                    Ok(()) => there.expected.push_back(bytes),
                    Err(error) => {
                        let full = matches!(
                            error,
                            SendError::Full { .. } | SendError::ProcessFull { .. } | SendError::ShareFull { .. }
                        );
                        assert!(full && !mode.beyond_limit || !honest, "{error:?}");
                    }
                }
            }
            4..7 => {
                read(here, 1, honest);
            }
            7 => {
                read(here, MOST_STEPS, honest);
            }
            8 => {
                let drained = here.pipe.drain_queue();
                assert!(!honest || drained.is_ok());
            }
            9 => {
                let may = here.pipe.dispatcher_may_sleep(input.u8() & 1 != 0);
                assert!(!honest || may.is_ok());
            }
            10 => {
                here.pipe.attend();
                here.pipe.unattend();
            }
            11 => {
                let mut rx = here.pipe.try_lead().expect("nobody else reads");
                here.pipe.publish_head(&mut rx);
                here.pipe.step_aside(rx);
            }
            12 | 13 => {
                honest = false;
                peer.change(next, input.u8().into(), word(input));
            }
            14 => changes = Changes::read(input),
            _ if input.u8() == 0xdd => {
                honest = false;
                here.pipe.set_gone();
                here.pipe.discard();
                assert_eq!(here.budget.used(), 0, "what was discarded is given back");
            }
            _ => {}
        }
        drop(meanwhile);
    }
    if honest {
        arrive(&mut ends);
    }
    let budgets = ends.map(|end| end.budget);
    assert_eq!(budgets.map(|budget| budget.used()), [0, 0], "what a pipe held is given back");
}

/// Reads up to so many messages; false: there was not room for what lies there.
fn read(end: &mut End, most: usize, honest: bool) -> bool {
    let End { pipe, expected, buffer, .. } = end;
    let mut rx = pipe.try_lead().expect("nobody else reads");
    let mut has_room = true;
    for _ in 0..most {
        match pipe.read(&mut rx, buffer) {
            Ok(Read::Message) => {
                assert!(buffer.len() <= MAX_MESSAGE);
                assert!(buffer.capacity() <= 2 * (MAX_MESSAGE + APART), "{} bytes are kept", buffer.capacity());
                assert!(!honest || expected.pop_front().as_ref() == Some(buffer), "whole and in order");
            }
            Ok(Read::Part) => {}
            Ok(Read::Nothing) => break,
            Ok(Read::NoBudget) => {
                has_room = false;
                break;
            }
            Err(violation) => {
                assert!(!honest, "{violation}");
                if let Violation::Interrupted { have, whole } = violation {
                    assert!(have < whole && whole <= MAX_MESSAGE, "{violation}");
                }
                break;
            }
        }
    }
    pipe.step_aside(rx);
    has_room
}

/// All that was sent arrives.
fn arrive(ends: &mut [End; 2]) {
    let left = |ends: &[End; 2]| ends.iter().map(|end| end.expected.len() + end.pipe.queued()).sum::<usize>();
    while left(ends) > 0 {
        let before = left(ends);
        let mut has_room = true;
        for end in ends.iter_mut() {
            end.pipe.drain_queue().expect("an honest peer");
            has_room &= read(end, MOST_STEPS, true);
        }
        // Into the room that was made.
        for end in ends.iter() {
            end.pipe.drain_queue().expect("an honest peer");
        }
        assert!(left(ends) < before || !has_room, "{before} are left for ever");
        if left(ends) == before {
            return;
        }
    }
}
