//! Records against a queue as oracle, and against a peer that writes anything.

use super::*;
use crate::region::{Region, meanwhile};
use crate::slots::SlotPlace;
use crate::sync::Arc;
use std::collections::VecDeque;

const SIZE: usize = 24;

fn region(count: usize) -> Arc<Region> {
    Region::in_process(64 + count * 40)
}

fn slots(region: &Arc<Region>, count: usize) -> Slots {
    let place = SlotPlace { data: 64, stride: 32, size: SIZE, words: 64 + 24, word_stride: 32, count };
    Slots::new(region, place).expect("inside")
}

fn pair(count: usize) -> (Producer, Consumer, Arc<Region>) {
    let region = region(count);
    let head = || region.word64(0).expect("inside");
    (Producer::new(slots(&region, count), head()), Consumer::new(slots(&region, count), head()), region)
}

fn push(producer: &mut Producer, number: u32) -> bool {
    if !producer.has_room(producer.end()).expect("an honest consumer") {
        return false;
    }
    let len = number as usize % (SIZE + 1);
    producer.push(number, &vec![number as u8; len]);
    true
}

fn take(consumer: &mut Consumer) -> Option<u32> {
    let found = consumer.peek().expect("an honest producer")?;
    assert_eq!(found.len, found.number as usize % (SIZE + 1));
    let mut bytes = vec![0; found.len];
    consumer.slots().read(consumer.index(), 0, &mut bytes);
    assert!(bytes.iter().all(|byte| *byte == found.number as u8), "{bytes:?} of {}", found.number);
    consumer.release();
    Some(found.number)
}

#[test]
fn records_come_as_from_a_queue_whatever_the_order_of_operations() {
    let mut random = 1u64;
    let mut next = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    for count in [1, 2, 3, 7, 8, 9, 16, 64, 100] {
        let (mut producer, mut consumer, _region) = pair(count);
        let (mut number, mut queue, mut pending) = (0u32, VecDeque::new(), Vec::new());
        for _ in 0..20_000 {
            match next(10) {
                5..=6 if pending.is_empty() => {
                    if producer.has_room(producer.position()).expect("an honest consumer") {
                        producer.send(number, &vec![number as u8; number as usize % (SIZE + 1)]);
                        queue.push_back(number);
                        number += 1;
                    }
                }
                0..=2 => {
                    if push(&mut producer, number) {
                        pending.push(number);
                        number += 1;
                    } else {
                        let unseen = queue.len() + pending.len() + published_every(count) as usize;
                        assert!(unseen > count, "full with {} of {count}", queue.len() + pending.len());
                    }
                }
                3 => {
                    producer.publish();
                    queue.extend(pending.drain(..));
                }
                4 => {
                    producer.abandon();
                    number -= pending.len() as u32;
                    pending.clear();
                }
                _ => assert_eq!(take(&mut consumer), queue.pop_front()),
            }
            assert_eq!(producer.pending(), pending.len() as u64);
        }
        producer.publish();
        queue.extend(pending.drain(..));
        while let Some(number) = queue.pop_front() {
            assert_eq!(take(&mut consumer), Some(number));
        }
        assert_eq!(take(&mut consumer), None);
        assert_eq!(producer.room(), Ok(count as u64), "a consumer that found nothing has told of all");
    }
}

#[test]
fn so_many_slots_are_made_that_the_capacity_always_has_room() {
    for capacity in (1..300).chain([1000, 1024, 4096, 65536]) {
        let count = slots_for(capacity);
        assert!(count >= capacity && count <= capacity + capacity / 4 + 1, "{count} for {capacity}");
        if capacity > 300 {
            continue;
        }
        let (mut producer, mut consumer, _region) = pair(count);
        for round in 0..3 * count as u32 {
            // The consumer reads one whenever the capacity is used, and never looks behind the last one.
            if round >= capacity as u32 {
                assert!(take(&mut consumer).is_some());
            }
            assert!(push(&mut producer, round), "no room for record {round} with a capacity of {capacity}");
            producer.publish();
        }
    }
}

#[test]
fn what_was_pushed_is_seen_with_the_publish_and_not_before() {
    let (mut producer, mut consumer, _region) = pair(4);
    for number in 0..3 {
        assert!(push(&mut producer, number));
    }
    assert_eq!(take(&mut consumer), None);
    producer.abandon();
    assert!(push(&mut producer, 9));
    producer.publish();
    assert_eq!((take(&mut consumer), take(&mut consumer)), (Some(9), None));
}

#[test]
fn a_head_that_cannot_be_is_corrupt_for_good() {
    for head in [0u64, 2, 8, 1 << 40, u64::MAX] {
        let (mut producer, mut consumer, region) = pair(4);
        for number in 0..3 {
            assert!(push(&mut producer, number));
            producer.publish();
        }
        assert_eq!((take(&mut consumer), take(&mut consumer), take(&mut consumer)), (Some(0), Some(1), Some(2)));
        assert_eq!(take(&mut consumer), None);
        assert_eq!(producer.room(), Ok(4));
        region.word64(0).expect("inside").store(head, Ordering::Relaxed);
        assert_eq!(producer.room(), Err(Corrupt), "{head}");
        assert_eq!(producer.has_room(producer.end()), Err(Corrupt), "{head}");
        region.word64(0).expect("inside").store(3, Ordering::Relaxed);
        assert_eq!(producer.has_room(producer.end()), Err(Corrupt), "an error stays one");
    }
}

#[test]
fn any_word_gives_a_record_that_fits_or_none_or_is_corrupt() {
    let mut words: Vec<u64> = (0..64).map(|bit| 1 << bit).collect();
    words.extend(words.clone().iter().map(|word| word | 1));
    words.extend([0, 1, u64::MAX, u64::MAX - 1, (SIZE as u64) << 1 | 1, (SIZE as u64 + 1) << 1 | 1]);
    for word in words {
        let (_producer, mut consumer, region) = pair(4);
        let at = slots(&region, 4);
        at.word(0).store(word, Ordering::Relaxed);
        let len = (word as u32 >> 1) as usize;
        let expected = match (word & 1, len) {
            (0, _) => Ok(None),
            (_, ..=SIZE) => Ok(Some(Found { number: (word >> 32) as u32, len })),
            _ => Err(Corrupt),
        };
        assert_eq!(consumer.peek(), expected, "{word:#x}");
    }
}

#[test]
fn a_producer_that_changes_its_word_while_it_is_looked_at_is_looked_at_once() {
    let (mut producer, mut consumer, region) = pair(4);
    assert!(push(&mut producer, 5));
    producer.publish();
    let at = slots(&region, 4);
    let mut looks = 0;
    let found = meanwhile::while_it(
        move |_, bytes| {
            if bytes == 8 {
                looks += 1;
                assert_eq!(looks, 1, "the word is looked at twice");
            }
            let _ = &at;
        },
        || consumer.peek(),
    );
    assert_eq!(found, Ok(Some(Found { number: 5, len: 5 })));
}
