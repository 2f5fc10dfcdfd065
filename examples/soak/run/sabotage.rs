//! Faults made on purpose, to show that they are found.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU32, Ordering};

/// A plain message is spoilt in this way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Fault {
    Drop,
    Duplicate,
    Reorder,
    Corrupt,
}

/// On its way to whom.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Way {
    Main,
    Renderer,
    OtherRenderer,
    Host,
    /// Records of a lane.
    LaneToMain,
    LaneToRenderer,
}

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Message(Fault, Way),
    /// Main answers a call with another value.
    Answer,
    /// Main never answers a call.
    Silence,
    /// An exchange by a lane is answered with another value.
    LaneAnswer,
    /// A value of a latest-value lane is another one.
    Latest,
    /// Of a lane one record less is sent than its sender says when it drops it.
    LaneEnd,
    /// The executor that main was given drops the future of an async handler.
    Future,
    /// Main keeps the ends of lanes, a descriptor, a thread, memory or a process.
    Lane,
    Descriptor,
    Thread,
    Memory,
    Process,
    File,
}

const FAULTS: [(&str, Fault); 4] =
    [("drop", Fault::Drop), ("duplicate", Fault::Duplicate), ("reorder", Fault::Reorder), ("corrupt", Fault::Corrupt)];
const WAYS: [(&str, Way); 6] = [
    ("main", Way::Main),
    ("renderer", Way::Renderer),
    ("other-renderer", Way::OtherRenderer),
    ("host", Way::Host),
    ("lane-to-main", Way::LaneToMain),
    ("lane-to-renderer", Way::LaneToRenderer),
];
const OTHERS: [(&str, Kind); 12] = [
    ("lane-answer", Kind::LaneAnswer),
    ("latest", Kind::Latest),
    ("lane-end", Kind::LaneEnd),
    ("lane", Kind::Lane),
    ("answer", Kind::Answer),
    ("silence", Kind::Silence),
    ("future", Kind::Future),
    ("descriptor", Kind::Descriptor),
    ("thread", Kind::Thread),
    ("memory", Kind::Memory),
    ("process", Kind::Process),
    ("file", Kind::File),
];

impl Kind {
    /// `drop-main`, `corrupt-other-renderer`, `descriptor`, …
    pub(crate) fn parse(word: &str) -> Option<Self> {
        if let Some((_, kind)) = OTHERS.iter().find(|(name, _)| *name == word) {
            return Some(*kind);
        }
        let (fault, way) = word.split_once('-')?;
        let fault = FAULTS.iter().find(|(name, _)| *name == fault)?.1;
        let way = WAYS.iter().find(|(name, _)| *name == way)?.1;
        Some(Self::Message(fault, way))
    }

    /// All that there are.
    pub(crate) fn words() -> Vec<String> {
        let messages = FAULTS.iter().flat_map(|(fault, _)| WAYS.iter().map(move |(way, _)| format!("{fault}-{way}")));
        messages.chain(OTHERS.iter().map(|(word, _)| word.to_string())).collect()
    }
}

/// Strikes once in a process, when some messages have gone well.
pub(crate) struct Sabotage {
    kind: Option<Kind>,
    left: AtomicU32,
}

impl Sabotage {
    pub(crate) fn new(kind: Option<Kind>) -> Self {
        // Not the first, before which nothing has gone well; and soon: of some ways few messages go in a short run.
        Self { kind, left: AtomicU32::new(5) }
    }

    fn is_due(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) == Ok(1)
    }

    pub(crate) fn strikes(&self, on: Way) -> Option<Fault> {
        match self.kind {
            Some(Kind::Message(fault, way)) if way == on && self.is_due() => Some(fault),
            _ => None,
        }
    }

    pub(crate) fn strikes_as(&self, kind: Kind) -> bool {
        self.kind == Some(kind) && self.is_due()
    }

    /// Likewise, and from then on.
    pub(crate) fn strikes_from(&self, kind: Kind) -> bool {
        self.kind == Some(kind) && (self.is_due() || self.left.load(Ordering::Relaxed) == 0)
    }

    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == Some(kind)
    }
}
