//! The datagram by which main hands a lane's memory to its renderer, at any time after its Welcome. One descriptor comes
//! along: sealed memory.
//!
//! | Lane (main → renderer) | type |
//! |---|---|
//! | the common header, message 3 | 17 bytes |
//! | number of the lane, not 0 | u32 |
//! | 1 records, 2 latest value | u8 |
//! | reserved, 0 | 3 bytes |
//! | for main → renderer, then for renderer → main: bytes of a record, slots, alignment, flags | u32, u32, u32, u32 |
//! | length of the region in bytes | u64 |
//! | name, 1 to 255 bytes | text |
//!
//! A direction without slots is not there and all 0. Flags: bit 0, records have exactly that many bytes.

use super::{GoneReason, MAJOR, Reader, Side, Writer, parse};

pub(super) const LANE: u8 = 3;
/// Longest name in bytes.
pub(crate) const MAX_LANE_NAME: usize = 255;

/// What a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaneKind {
    Records = 1,
    Latest = 2,
}

/// One direction of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneTerms {
    /// Bytes of a record, at most.
    pub(crate) size: u32,
    pub(crate) slots: u32,
    /// A power of two.
    pub(crate) align: u32,
    /// All have that many bytes.
    pub(crate) is_fixed: bool,
}

/// A lane as main offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneOffer {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) kind: LaneKind,
    pub(crate) to_renderer: Option<LaneTerms>,
    pub(crate) to_main: Option<LaneTerms>,
    /// Bytes of the region.
    pub(crate) region: u64,
}

impl LaneOffer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(LANE);
        out.u32(self.id);
        out.u8(self.kind as u8);
        out.0.extend_from_slice(&[0; 3]);
        for terms in [self.to_renderer, self.to_main] {
            let terms = terms.unwrap_or(LaneTerms { size: 0, slots: 0, align: 0, is_fixed: false });
            out.u32(terms.size);
            out.u32(terms.slots);
            out.u32(terms.align);
            out.u32(terms.is_fixed.into());
        }
        out.u64(self.region);
        out.text(&self.name, MAX_LANE_NAME);
        out.finish()
    }

    /// Reads what main has sent.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let text = |reason: GoneReason| match reason {
            GoneReason::Corrupt(text) | GoneReason::NeverConnected(text) => text,
            other => other.to_string(),
        };
        parse(bytes, Side::Renderer, LANE, Self::read).map(|(_minor, offer)| offer).map_err(text)
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, GoneReason> {
        let id = input.u32("the lane's number")?;
        let kind = match input.u8("the kind of lane")? {
            1 => LaneKind::Records,
            2 => LaneKind::Latest,
            other => return Err(input.flaw(format!("{other} is no kind of lane of version {MAJOR}"))),
        };
        input.reserved(3)?;
        let mut terms = || -> Result<Option<LaneTerms>, GoneReason> {
            let (size, slots) = (input.u32("the size of a record")?, input.u32("the number of slots")?);
            let (align, flags) = (input.u32("the alignment")?, input.u32("flags")?);
            if slots == 0 {
                return match (size, align, flags) {
                    (0, 0, 0) => Ok(None),
                    _ => Err(input.flaw("a direction without slots has records")),
                };
            }
            if flags > 1 || !align.is_power_of_two() {
                return Err(input.flaw(format!("records with flags {flags:#x} and an alignment of {align}")));
            }
            Ok(Some(LaneTerms { size, slots, align, is_fixed: flags & 1 != 0 }))
        };
        let (to_renderer, to_main) = (terms()?, terms()?);
        let region = input.u64("the length of the region")?;
        let name = input.text("the lane's name", MAX_LANE_NAME)?;
        if id == 0 || name.is_empty() || (to_renderer.is_none() && to_main.is_none()) {
            return Err(input.flaw(format!("lane {id} '{name}' has no number, no name or no direction")));
        }
        Ok(Self { id, name, kind, to_renderer, to_main, region })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> LaneOffer {
        let terms = LaneTerms { size: 64, slots: 288, align: 16, is_fixed: true };
        LaneOffer {
            id: 7,
            name: "notes".into(),
            kind: LaneKind::Records,
            to_renderer: Some(terms),
            to_main: None,
            region: 24576,
        }
    }

    #[test]
    fn an_offer_is_read_as_it_was_written() {
        let latest = LaneTerms { size: 8 << 20, slots: 3, align: 128, is_fixed: false };
        let both = LaneOffer { to_main: Some(latest), kind: LaneKind::Latest, ..offer() };
        for offer in [offer(), both] {
            assert_eq!(LaneOffer::decode(&offer.encode()), Ok(offer));
        }
    }

    #[test]
    fn the_bytes_of_an_offer_are_those_of_the_protocol() {
        let mut expected = b"RINGMAIN\x03\x01\x00\x00\x00\x48\x00\x00\x00\x07\x00\x00\x00\x01\x00\x00\x00".to_vec();
        expected.extend_from_slice(b"\x40\x00\x00\x00\x20\x01\x00\x00\x10\x00\x00\x00\x01\x00\x00\x00");
        expected.extend_from_slice(&[0; 16]);
        expected.extend_from_slice(b"\x00\x60\x00\x00\x00\x00\x00\x00\x05\x00notes");
        assert_eq!(offer().encode(), expected);
    }

    #[test]
    fn what_is_no_offer_is_refused_with_the_reason() {
        let good = offer().encode();
        let with = |at: usize, value: u8| {
            let mut bad = good.clone();
            bad[at] = value;
            LaneOffer::decode(&bad).expect_err("taken")
        };
        for (at, value, expected) in [
            (8, 1, "Lane"),
            (17, 0, "no number"),
            (21, 3, "no kind of lane"),
            (22, 1, "reserved"),
            (33, 3, "alignment of 3"),
            (37, 2, "flags 0x2"),
            (41, 1, "without slots"),
            (65, 6, "ends within"),
        ] {
            let error = with(at, value);
            assert!(error.contains(expected), "byte {at}: {error}");
        }
        for len in 0..good.len() {
            assert!(LaneOffer::decode(&good[..len]).is_err(), "{len} bytes");
        }
        let nameless = LaneOffer { name: String::new(), ..offer() };
        assert!(LaneOffer::decode(&nameless.encode()).is_err());
        let nowhere = LaneOffer { to_renderer: None, ..offer() };
        assert!(LaneOffer::decode(&nowhere.encode()).is_err());
    }
}
