//! What is counted, and the file by which a renderer's counts outlive it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kinds of traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(usize)]
pub(crate) enum Kind {
    /// `IpcRenderer::send` from a main frame.
    Send,
    /// The same from a further frame.
    FrameSend,
    /// `event.reply`.
    Reply,
    /// `WebContents::send`.
    MainSend,
    /// `WebContents::send_to_frame` and `WebFrameMain::send`.
    SendToFrame,
    SendTo,
    SendToHost,
    /// `IpcRenderer::invoke`, of a sync handler.
    Invoke,
    /// Of an async one.
    InvokeAsync,
    /// Of one that calls another renderer.
    InvokeRelay,
    /// Of one that fails or panics.
    InvokeFails,
    SendSync,
    /// `WebContents::invoke`.
    MainInvoke,
    /// What an async handler of main calls.
    RelayInvoke,
    /// `WebFrameMain::invoke`.
    FrameInvoke,
    // By lanes.
    LaneToMain,
    LaneToRenderer,
    /// Exchanges of main's, and of renderers.
    LaneAsks,
    LaneAsked,
    NewestToMain,
    NewestToRenderer,
}

/// Those of them that are messages.
pub(crate) const MESSAGES: usize = 15;

pub(crate) const KINDS: [(&str, bool); MESSAGES + 6] = [
    ("send to main", false),
    ("send to main from frames", false),
    ("replies (event.reply)", false),
    ("send to renderers", false),
    ("send to frames", false),
    ("sendTo", false),
    ("sendToHost", false),
    ("invoke", true),
    ("invoke of async handlers", true),
    ("invoke that calls a renderer", true),
    ("invoke that fails", true),
    ("sendSync", true),
    ("invoke of main", true),
    ("invoke of main's handlers", true),
    ("invoke of frames", true),
    ("lane records to main", false),
    ("lane records to renderers", false),
    ("lane exchanges of main", true),
    ("lane exchanges of renderers", true),
    ("latest values to main", false),
    ("latest values to renderers", false),
];

/// What happened beside.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(usize)]
pub(crate) enum Event {
    Bytes,
    Refused,
    Cancelled,
    EndedByDeath,
    TimedOut,
    Flushes,
    Frames,
    /// Records of lanes for which there was no room.
    LaneFull,
    /// Exchanges whose deadline was over.
    LaneLate,
    /// Values that were overrun by newer ones.
    LaneOverrun,
    /// Ends of lanes that were dropped, or found the other one gone.
    LaneEnds,
    /// Directions of which both ends have said how far they came.
    LaneCompared,
    /// Calls waited for by `wait_polling`.
    Polling,
}

pub(crate) const EVENTS: usize = 13;
const WORDS: usize = KINDS.len() * 3 + EVENTS;

/// Sent, received and checked, answered and checked, for each kind; then the events.
pub(crate) struct Counts([AtomicU64; WORDS]);

impl Default for Counts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counts {
    fn add(&self, word: usize, count: u64) {
        self.0[word].fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, kind: Kind, bytes: u64) {
        self.add(kind as usize, 1);
        self.event(Event::Bytes, bytes);
    }

    /// By a lane.
    pub(crate) fn sent_many(&self, kind: Kind, count: u64, bytes: u64) {
        self.add(kind as usize, count);
        self.event(Event::Bytes, bytes);
    }

    /// A call that was counted as sent was refused, which only its answer says.
    pub(crate) fn refused(&self, kind: Kind) {
        self.event(Event::Refused, 1);
        if KINDS[kind as usize].1 {
            self.0[kind as usize].fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn received(&self, kind: Kind) {
        self.add(KINDS.len() + kind as usize, 1);
    }

    pub(crate) fn answered(&self, kind: Kind, bytes: u64) {
        self.add(2 * KINDS.len() + kind as usize, 1);
        self.event(Event::Bytes, bytes);
    }

    pub(crate) fn event(&self, event: Event, count: u64) {
        self.add(3 * KINDS.len() + event as usize, count);
    }

    pub(crate) fn sum(&self) -> Sum {
        Sum(std::array::from_fn(|word| self.0[word].load(Ordering::Relaxed)))
    }
}

/// Counts of several processes together.
#[derive(Clone)]
pub(crate) struct Sum([u64; WORDS]);

impl Default for Sum {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl Sum {
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, other)| *sum += other);
    }

    /// Sent, received, answered.
    pub(crate) fn of(&self, kind: usize) -> [u64; 3] {
        [0, 1, 2].map(|part| self.0[part * KINDS.len() + kind])
    }

    /// Over all kinds of messages, or of what goes by lanes.
    pub(crate) fn total(&self, by_lanes: bool) -> [u64; 3] {
        let kinds = if by_lanes { MESSAGES..KINDS.len() } else { 0..MESSAGES };
        [0, 1, 2].map(|part| self.0[part * KINDS.len()..][kinds.clone()].iter().sum())
    }

    pub(crate) fn event(&self, event: Event) -> u64 {
        self.0[3 * KINDS.len() + event as usize]
    }
}

/// A file that a renderer has as its standard input, and that main reads when the renderer is dead.
pub(crate) struct Journal(File);

const BEGUN: u64 = 1016;
const FLUSHED: u64 = 1024;
const DELIVERED: u64 = 2048;
const FAULT: u64 = 4096;
const LONGEST_FAULT: usize = 4096;
const LANES: u64 = 8192;
/// So many openings of a lane are known: more than main can go on before it looks.
const OPENINGS: u64 = 32;

/// How far a renderer has come with one direction of a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Progress {
    /// Sent, or the next one to come.
    pub(crate) count: u64,
    pub(crate) ended: Option<Ended>,
}

/// How a renderer's end of a lane came to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u64)]
pub(crate) enum Ended {
    /// All that was there was taken, and then it was said to be closed.
    Closed = 1,
    /// It was dropped.
    Dropped,
}

impl Journal {
    pub(crate) fn new(file: File) -> Self {
        Self(file)
    }

    pub(crate) fn file(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    fn write(&self, at: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.0.write_all_at(&bytes, at).expect("the journal");
    }

    fn read<const N: usize>(&self, at: u64) -> [u64; N] {
        let mut bytes = vec![0; N * 8];
        // What was never written is 0.
        let _ = self.0.read_exact_at(&mut bytes, at);
        std::array::from_fn(|word| u64::from_le_bytes(bytes[word * 8..][..8].try_into().expect("eight bytes")))
    }

    pub(crate) fn count(&self, counts: &Counts) {
        self.write(0, &counts.sum().0);
    }

    pub(crate) fn counted(&self) -> Sum {
        Sum(self.read(0))
    }

    /// From here on the renderer ends with main, also if it is stopped.
    pub(crate) fn begin(&self) {
        self.write(BEGUN, &[1]);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.read(BEGUN) == [1]
    }

    /// Renderer `id` knows that so many messages of a lane lie where main finds them even if it is killed now.
    pub(crate) fn flushed(&self, lane: u32, id: u32, messages: u64) {
        self.write(FLUSHED + u64::from(lane) * 16, &[u64::from(id), messages]);
    }

    pub(crate) fn has_flushed(&self, lane: u32, id: u32) -> u64 {
        let [of, messages] = self.read(FLUSHED + u64::from(lane) * 16);
        if of == u64::from(id) { messages } else { 0 }
    }

    /// Renderer `id` was told that the link is closed, after so many messages of a lane of main's.
    pub(crate) fn delivered(&self, lane: u32, id: u32, messages: u64) {
        self.write(DELIVERED + u64::from(lane) * 16, &[u64::from(id), messages]);
    }

    pub(crate) fn has_delivered(&self, lane: u32, id: u32) -> Option<u64> {
        let [of, messages] = self.read(DELIVERED + u64::from(lane) * 16);
        (of == u64::from(id)).then_some(messages)
    }

    fn lane_at(half: u64, generation: u64) -> u64 {
        LANES + (half * OPENINGS + generation % OPENINGS) * 32
    }

    /// Renderer `id` has come so far with that direction of a lane, as it was opened that time.
    pub(crate) fn lane(&self, half: u64, generation: u64, id: u32, Progress { count, ended }: Progress) {
        let ended = ended.map_or(0, |ended| ended as u64);
        self.write(Self::lane_at(half, generation), &[u64::from(id) << 32 | generation, count, ended]);
    }

    /// `None`: it has not opened that one, or so many since.
    pub(crate) fn has_come(&self, half: u64, generation: u64, id: u32) -> Option<Progress> {
        let read = || self.read::<3>(Self::lane_at(half, generation));
        // It may be written meanwhile.
        let mut found = read();
        loop {
            match read() {
                again if again == found => break,
                again => found = again,
            }
        }
        let [of, count, ended] = found;
        let ended = match ended {
            1 => Some(Ended::Closed),
            2 => Some(Ended::Dropped),
            _ => None,
        };
        (of == (u64::from(id) << 32 | generation)).then_some(Progress { count, ended })
    }

    /// What the renderer has found to be wrong; the first counts.
    pub(crate) fn fault(&self, text: &str) {
        if self.faulty().is_none() {
            let text = text.as_bytes();
            let _ = self.0.write_all_at(&text[..text.len().min(LONGEST_FAULT)], FAULT);
        }
    }

    pub(crate) fn faulty(&self) -> Option<String> {
        let mut bytes = vec![0; LONGEST_FAULT];
        self.0.read_at(&mut bytes, FAULT).ok()?;
        // Behind it there may be what is known of lanes.
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(LONGEST_FAULT);
        (len > 0).then(|| String::from_utf8_lossy(&bytes[..len]).into_owned())
    }
}

const _: () = assert!(WORDS * 8 <= BEGUN as usize);
