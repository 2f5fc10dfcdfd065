use super::*;

#[test]
fn a_word_must_lie_in_the_region_and_be_aligned() {
    let region = Region::in_process(64);
    for offset in (0..80).chain([usize::MAX, usize::MAX - 3, usize::MAX - 7, 1 << 40]) {
        let fits = |bytes: usize| offset.is_multiple_of(bytes) && offset <= 64 - bytes;
        assert_eq!(region.word32(offset).is_ok(), fits(4), "a 32-bit word at {offset}");
        assert_eq!(region.word64(offset).is_ok(), fits(8), "a 64-bit word at {offset}");
    }
}

#[test]
fn words_must_be_a_power_of_two_inside_the_region() {
    let region = Region::in_process(64);
    for offset in (0..72).chain([usize::MAX, usize::MAX - 7]) {
        for count in (0..20).chain([usize::MAX, usize::MAX / 8, usize::MAX / 8 + 1, 1 << 61, 1 << 63]) {
            let fits = count.is_power_of_two()
                && offset.is_multiple_of(8)
                && count.checked_mul(8).and_then(|bytes| bytes.checked_add(offset)).is_some_and(|end| end <= 64);
            let words = region.words(offset, count);
            assert_eq!(words.is_ok(), fits, "{count} words at {offset}");
            if let Ok(words) = words {
                assert_eq!(words.len(), count);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_told_with_its_numbers() {
    let error = Region::in_process(64).word64(60).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("8 bytes at offset 60") && text.contains("64 bytes"), "{text}");
}

#[test]
fn a_region_in_this_process_is_zeroed_and_rounded_up_to_words() {
    for (asked, len) in [(0, 0), (1, 8), (8, 8), (9, 16), (4096, 4096)] {
        let region = Region::in_process(asked);
        assert!(region.word32(len).is_err());
        for offset in (0..len).step_by(8) {
            assert_eq!(region.word64(offset).unwrap().load(Ordering::Relaxed), 0);
        }
    }
}

#[test]
fn words_outlive_every_other_handle_of_their_region() {
    let region = Region::in_process(64);
    let (word, words) = (region.word32(8).unwrap(), region.words(32, 4).unwrap());
    let other = region.word32(8).unwrap();
    drop(region);
    word.clone().store(7, Ordering::Relaxed);
    drop(word);
    assert_eq!(other.load(Ordering::Relaxed), 7);
    words.at(3).store(9, Ordering::Relaxed);
    assert_eq!(words.at(7).load(Ordering::Relaxed), 9, "positions are taken modulo the length");
    assert_eq!(words.at(u64::MAX).load(Ordering::Relaxed), 9);
}

const FILL: u64 = 0xa5a5_a5a5_a5a5_a5a5;

fn read(words: &Words, position: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![MaybeUninit::new(0); len];
    words.read(position, &mut bytes);
    // SAFETY: all of them were initialized above.
    bytes.into_iter().map(|byte| unsafe { byte.assume_init() }).collect()
}

/// Lengths around words and around the change from words to a block copy, at every place in a small ring.
fn copies_are_exact(writing: &Words, reading: &Words) {
    let count = writing.len();
    let lens = (0..40_usize).chain(240..280).chain([511, 512, 513, 1000]);
    for len in lens {
        let taken = len.div_ceil(WORD);
        let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8 | 1).collect();
        for first in 0..=count - taken.max(1) {
            (0..count as u64).for_each(|at| writing.at(at).store(FILL, Ordering::Relaxed));
            // A position of a later lap is the same place.
            writing.write((first + 3 * count) as u64, &bytes);
            assert_eq!(read(reading, first as u64, len), bytes, "{len} bytes at word {first}");
            for at in 0..count {
                let word = reading.at(at as u64).load(Ordering::Relaxed);
                if at < first || at >= first + taken {
                    assert_eq!(word, FILL, "a neighbour of {len} bytes at word {first} was touched");
                } else if at == first + taken - 1 && len % WORD != 0 {
                    let rest = &word.to_ne_bytes()[len % WORD..];
                    assert!(rest.iter().all(|byte| *byte == 0), "the last word is filled up with zeros");
                }
            }
        }
    }
}

#[test]
fn bytes_are_copied_exactly_at_every_length_and_place() {
    let region = Region::in_process(1024);
    copies_are_exact(&region.words(0, 128).unwrap(), &region.words(0, 128).unwrap());
}

#[test]
fn bytes_are_copied_exactly_between_two_mappings() {
    let memory = crate::sys::create_sealed_memory("ringmain-test", 4096, &[0..4096]).unwrap();
    let map = || Region::mapped(crate::sys::Mapping::map(&memory, 4096, &[0..4096]).unwrap());
    let (one, other) = (map(), map());
    copies_are_exact(&one.words(1024, 128).unwrap(), &other.words(1024, 128).unwrap());
    one.word32(4).unwrap().store(1, Ordering::Relaxed);
    assert_eq!(other.word32(4).unwrap().swap(2, Ordering::Relaxed), 1);
    assert_eq!(one.word32(4).unwrap().load(Ordering::Relaxed), 2);
    one.word64(8).unwrap().store(u64::MAX, Ordering::Relaxed);
    assert_eq!(other.word64(8).unwrap().load(Ordering::Relaxed), u64::MAX);
}

#[test]
#[should_panic(expected = "a record never wraps")]
fn a_copy_over_the_end_is_a_mistake_of_ours_and_is_stopped() {
    Region::in_process(64).words(0, 8).unwrap().write(7, &[0; 9]);
}

#[test]
#[should_panic(expected = "a record never wraps")]
fn a_copy_from_over_the_end_is_a_mistake_of_ours_and_is_stopped() {
    read(&Region::in_process(64).words(0, 8).unwrap(), 5, 25);
}
