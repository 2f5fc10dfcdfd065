//! A writer and a reader, every interleaving; and the same with the pair of orders weakened, to which loom must object.

use super::*;
use crate::region::Region;
use crate::sync::{Part, objection_without};
use loom::thread;

/// The reader sees whole values, each newer than the one before, and at the end the newest.
fn shows_the_newest(values: u64, looks: u64) {
    loom::model(move || {
        let region = Region::in_process(64);
        let slots = Slots::model(3);
        let mut writer = Writer::new(slots.clone(), region.word64(0).unwrap());
        let mut reader = Reader::new(slots, region.word64(0).unwrap());
        let writing = thread::spawn(move || {
            for value in 1..=values {
                writer.slots().write(writer.index(), 0, &(value * 3).to_ne_bytes());
                writer.publish(8);
            }
        });
        let mut last = 0;
        let mut look = || {
            if let Some(taken) = reader.take() {
                assert!(taken.number > last && taken.len == 8, "{taken:?} after {last}");
                last = taken.number;
                let mut bytes = [0; 8];
                reader.slots().read(reader.index(), 0, &mut bytes);
                assert_eq!(u64::from_ne_bytes(bytes), last * 3, "the value is torn");
            }
            last
        };
        for _ in 0..looks {
            look();
        }
        writing.join().unwrap();
        assert_eq!(look(), values, "not the newest");
    });
}

#[test]
fn the_newest_value_is_seen_whole() {
    shows_the_newest(2, 2);
    shows_the_newest(3, 1);
}

#[test]
fn without_publish_and_consume_it_tears() {
    objection_without(Part::Order(Pair::PublishConsume), || shows_the_newest(2, 2));
}
