//! Two threads, one small ring, every interleaving; and the same with one pair of orders weakened, to which loom must
//! object.

use super::*;
use crate::region::Region;
use crate::sync::{Pair, Part, objection_without};
use loom::thread;

const RING_AT: usize = 64;

fn ring(words: usize) -> (Writer, Reader) {
    let region = Region::in_process(RING_AT + words * WORD);
    let part = || (region.words(RING_AT, words).unwrap(), region.word64(0).unwrap());
    let (words, head) = part();
    let writer = Writer::new(words, head);
    let (words, head) = part();
    (writer, Reader::new(words, head))
}

/// Sends the records in order from one thread and expects them in another, both waiting for each other.
fn carries(words: usize, records: &'static [&'static [u8]], bound: Option<usize>) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.check(move || {
        let (mut writer, mut reader) = ring(words);
        let writing = thread::spawn(move || {
            for bytes in records {
                loop {
                    match writer.reserve(bytes.len()) {
                        Ok(mut record) => {
                            record.write(0, bytes);
                            record.commit(Kind::Whole);
                            break;
                        }
                        Err(WriteError::Full) => thread::yield_now(),
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }
        });
        for bytes in records {
            let mut got = Vec::new();
            let record = loop {
                match reader.peek().expect("an honest writer") {
                    Some(record) => break record,
                    None => {
                        reader.publish();
                        thread::yield_now();
                    }
                }
            };
            reader.append_to(record, 0, &mut got);
            assert_eq!(&got, bytes, "the payload is torn");
            reader.release(record);
        }
        assert_eq!(reader.peek(), Ok(None));
        writing.join().unwrap();
    });
}

const TWO: &[&[u8]] = &[b"the first", b"2nd"];
const EMPTY: &[&[u8]] = &[b"", b"x", b""];
/// In 8 words: 3 words, 3 words, 2 of padding, 3 words at the beginning again.
const WRAP: &[&[u8]] = &[b"0123456789abcdef", b"ghijklmnopqrstuv", b"wxyzWXYZwxyzWXYZ"];
/// In 8 words at most 7 are in use: the third waits for the reader's head, the fourth ends where the ring does.
const FILL: &[&[u8]] = &[b"0123456789abcdefABCDEFGH", b"ghijklmn", b"opqrstuv", b"wxyz"];

#[test]
fn a_published_record_is_seen_whole() {
    carries(8, TWO, None);
    carries(8, EMPTY, None);
}

#[test]
fn padding_publishes_the_record_behind_it() {
    carries(8, WRAP, Some(3));
}

#[test]
fn words_are_used_again_only_after_they_were_read() {
    carries(8, FILL, Some(3));
}

#[test]
fn without_publish_and_consume_a_record_is_torn() {
    objection_without(Part::Order(Pair::PublishConsume), || carries(8, TWO, None));
    objection_without(Part::Order(Pair::PublishConsume), || carries(8, WRAP, Some(3)));
}

#[test]
fn without_free_and_reuse_a_record_is_overwritten_while_it_is_read() {
    objection_without(Part::Order(Pair::FreeReuse), || carries(8, WRAP, Some(3)));
    objection_without(Part::Order(Pair::FreeReuse), || carries(8, FILL, Some(3)));
}

#[test]
fn a_dropped_reservation_is_never_seen() {
    loom::model(|| {
        let (mut writer, mut reader) = ring(8);
        let writing = thread::spawn(move || {
            let mut record = writer.reserve(16).unwrap();
            record.write(0, b"never to be seen");
            // Dropped without `commit`.
            let mut record = writer.reserve(4).unwrap();
            record.write(0, b"seen");
            record.commit(Kind::More);
        });
        loop {
            if let Some(record) = reader.peek().unwrap() {
                assert_eq!(record, Record { kind: Kind::More, len: 4 });
                let mut got = Vec::new();
                reader.append_to(record, 0, &mut got);
                assert_eq!(got, b"seen");
                break;
            }
            thread::yield_now();
        }
        writing.join().unwrap();
    });
}
