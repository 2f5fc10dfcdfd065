//! The newest value, and a peer that writes anything into the word.

use super::*;
use crate::region::Region;
use crate::slots::SlotPlace;
use crate::sync::Arc;

fn pair() -> (Writer, Reader, Arc<Region>) {
    let region = Region::in_process(256);
    let slots = || {
        let place = SlotPlace { data: 64, stride: 16, size: 16, words: 128, word_stride: 8, count: 3 };
        Slots::new(&region, place).expect("inside")
    };
    let middle = || region.word64(0).expect("inside");
    (Writer::new(slots(), middle()), Reader::new(slots(), middle()), region.clone())
}

fn write(writer: &mut Writer, value: u64) -> bool {
    writer.slots().write(writer.index(), 0, &value.to_ne_bytes());
    writer.publish(8)
}

fn read(reader: &mut Reader) -> Option<(u64, u64)> {
    let taken = reader.take()?;
    let mut bytes = [0; 8];
    reader.slots().read(reader.index(), 0, &mut bytes);
    assert_eq!(taken.len, 8);
    Some((taken.number, u64::from_ne_bytes(bytes)))
}

#[test]
fn the_reader_gets_the_newest_value_once() {
    let (mut writer, mut reader, _region) = pair();
    assert_eq!(read(&mut reader), None);
    assert!(!write(&mut writer, 10));
    assert_eq!((read(&mut reader), read(&mut reader)), (Some((1, 10)), None));
    assert!(!write(&mut writer, 20));
    assert!(write(&mut writer, 30) && write(&mut writer, 40), "the one before was not read");
    assert_eq!((read(&mut reader), read(&mut reader)), (Some((4, 40)), None));
    let mut bytes = [0; 8];
    reader.slots().read(reader.index(), 0, &mut bytes);
    assert_eq!(u64::from_ne_bytes(bytes), 40, "the last value stays readable");
}

#[test]
fn whatever_a_hostile_reader_puts_there_the_writer_goes_on_in_slots_that_are_not_the_published_one() {
    let (mut writer, _reader, region) = pair();
    let middle = region.word64(0).expect("inside");
    for word in (0..16).chain([u64::MAX, u64::MAX - 1, 1 << 63, 0xff03]) {
        middle.store(word, Ordering::Relaxed);
        let published = writer.index();
        write(&mut writer, word);
        assert!(writer.index() < 3 && writer.index() != published, "{word:#x}");
    }
}

#[test]
fn whatever_a_hostile_writer_puts_there_the_reader_stays_inside_and_reads_on() {
    let (_writer, mut reader, region) = pair();
    let middle = region.word64(0).expect("inside");
    for len in [0, 8, 16, 17, u64::MAX] {
        for slot in 0..3 {
            region.word64(128 + 8 * slot).expect("inside").store(len, Ordering::Relaxed);
        }
        for word in (0..16).chain([u64::MAX, u64::MAX - 1, 1 << 63, 0xff07]) {
            middle.store(word, Ordering::Relaxed);
            let taken = reader.take();
            assert_eq!(taken.is_some(), word & FRESH != 0, "{word:#x}");
            assert!(taken.is_none_or(|taken| taken.len <= 16) && reader.index() < 3, "{word:#x}");
        }
    }
}
