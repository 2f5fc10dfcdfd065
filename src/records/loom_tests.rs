//! Two threads, a few slots, every interleaving; and the same with one pair of orders weakened, to which loom must object.

use super::*;
use crate::region::Region;
use crate::sync::{Part, objection_without};
use loom::thread;

/// Sends `batches` of numbered records through `count` slots; the consumer checks number and bytes of each.
fn carries(count: usize, batches: &'static [u32]) {
    loom::model(move || {
        let region = Region::in_process(64);
        let slots = Slots::model(count);
        let mut producer = Producer::new(slots.clone(), region.word64(0).unwrap());
        let mut consumer = Consumer::new(slots, region.word64(0).unwrap());
        let sending = thread::spawn(move || {
            let mut number = 0;
            for batch in batches {
                while producer.room().expect("an honest consumer") < u64::from(*batch) {
                    thread::yield_now();
                }
                for _ in 0..*batch {
                    producer.push(number, &u64::from(number).to_ne_bytes());
                    number += 1;
                }
                producer.publish();
            }
        });
        for number in 0..batches.iter().sum() {
            let found = loop {
                match consumer.peek().expect("an honest producer") {
                    Some(found) => break found,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(found, Found { number, len: 8 });
            let mut bytes = [0; 8];
            consumer.slots().read(consumer.index(), 0, &mut bytes);
            assert_eq!(u64::from_ne_bytes(bytes), u64::from(number), "the record is torn");
            consumer.release();
        }
        assert_eq!(consumer.peek(), Ok(None));
        sending.join().unwrap();
    });
}

#[test]
fn records_are_seen_whole_and_in_order_over_two_laps() {
    carries(1, &[1, 1]);
    carries(2, &[1, 1, 1]);
}

#[test]
fn records_that_are_published_together_are_seen_together() {
    carries(2, &[2]);
    carries(3, &[2, 2]);
}

#[test]
fn without_publish_and_consume_it_tears() {
    objection_without(Part::Order(Pair::PublishConsume), || carries(2, &[1]));
    objection_without(Part::Order(Pair::PublishConsume), || carries(2, &[2]));
}

#[test]
fn without_free_and_reuse_it_tears() {
    objection_without(Part::Order(Pair::FreeReuse), || carries(1, &[1, 1]));
}
