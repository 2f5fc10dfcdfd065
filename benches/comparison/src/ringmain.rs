//! Ours: the whole public API between two processes, and the bare ring between two threads of this one.

use crate::Result;
use crate::codec::{self, Text};
use crate::floors::{MIB, SIZES};
use crate::measure::{Group, Rounds, Row, Sides, Visit, spin};
use crate::pair::{self, Peer, pin};
use crate::stream::{LAST, QUEUE, Stream, TOGETHER, batch_of, message};
use ::ringmain::{ErrorKind, IpcMain, IpcRenderer, Wait, internals};
use serde_json::Value;
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Rows named so are what rivals are compared with.
pub(crate) const OURS: &str = "ringmain";
/// The bare ring, likewise in the raw rows.
pub(crate) const BARE: &str = "ringmain, bare ring, two threads";
pub(crate) const ONE_CORE: &str = "ringmain, its threads on one core";
pub(crate) const RTRB: &str = "rtrb, two threads, value used";

fn wait_of(name: &str) -> Wait {
    match name {
        "spin" => Wait::Spin,
        "park" => Wait::Park,
        _ => Wait::Adaptive,
    }
}

/// The other process: a main that echoes.
pub(crate) fn peer(peer: Peer, wait: &str) -> Result<()> {
    pair::unpin();
    let ipc_main = IpcMain::builder().wait(wait_of(wait)).runtime_dir(peer.scratch.join("ringmain")).build()?;
    ipc_main.handle("value", |_event, (value,): (Value,)| Ok(value))?;
    ipc_main.handle("typed", |_event, (text,): (String,)| Ok(text))?;
    ipc_main.handle("seen", |_event, ()| Ok(()))?;
    ipc_main.on("send", |_event, (text,): (String,)| {
        black_box(text);
    });
    ipc_main.listen("comparison")?;
    pair::pin_all(peer.core)?;
    peer.ready("")?;
    peer.until_stopped();
    ipc_main.shutdown();
    Ok(())
}

/// Which of our threads are pinned beside the calling one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pinned {
    Caller,
    All,
}

fn connect(visit: &Visit<'_>, wait: &str, pinned: Pinned) -> Result<IpcRenderer> {
    let builder = IpcRenderer::builder().wait(wait_of(wait)).runtime_dir(visit.scratch.join("ringmain"));
    // One core would mean for it that whoever is waited for cannot run while it spins.
    pair::unpin();
    let ipc_renderer = builder.connect_to("comparison");
    visit.own_core.into_iter().for_each(pin);
    if pinned == Pinned::All {
        pair::pin_all(visit.own_core)?;
    }
    Ok(ipc_renderer?)
}

fn value_call(ipc_renderer: &IpcRenderer, text: String) -> impl FnMut() -> Result<()> {
    let value = Value::String(text);
    move || {
        let answer: Value = ipc_renderer.invoke("value", (black_box(&value),)).wait()?;
        black_box(answer);
        Ok(())
    }
}

fn typed_call(ipc_renderer: &IpcRenderer, text: String) -> impl FnMut() -> Result<()> {
    move || {
        let answer: String = ipc_renderer.invoke("typed", (black_box(&text),)).wait()?;
        black_box(answer);
        Ok(())
    }
}

pub(crate) fn spinning(visit: &mut Visit<'_>) -> Result<()> {
    awake(visit, "spin", OURS)
}

/// As `spinning`, our dispatcher pinned to the caller's core: two threads that would spin for ever share it.
pub(crate) fn one_core(visit: &mut Visit<'_>) -> Result<()> {
    let _main = visit.spawn("ringmain spin")?;
    let ipc_renderer = connect(visit, "spin", Pinned::All)?;
    let row = |group| Row { name: ONE_CORE, group, bytes: 64 };
    let text = || codec::text(Text::Ascii, 64);
    visit.row(row(Group::ValueSpinning), value_call(&ipc_renderer, text()))?;
    visit.row(row(Group::TypedSpinning), typed_call(&ipc_renderer, text()))
}

pub(crate) fn adaptive(visit: &mut Visit<'_>) -> Result<()> {
    awake(visit, "adaptive", "ringmain, adaptive")
}

fn awake(visit: &mut Visit<'_>, wait: &str, name: &'static str) -> Result<()> {
    let _main = visit.spawn(&format!("ringmain {wait}"))?;
    let ipc_renderer = connect(visit, wait, Pinned::Caller)?;
    for bytes in SIZES {
        let text = || codec::text(Text::Ascii, bytes);
        visit.row(Row { name, group: Group::ValueSpinning, bytes }, value_call(&ipc_renderer, text()))?;
        visit.row(Row { name, group: Group::TypedSpinning, bytes }, typed_call(&ipc_renderer, text()))?;
    }
    let (text, bytes) = (|| codec::text(Text::Mixed, MIB), MIB);
    visit.row(Row { name, group: Group::MixedValueSpinning, bytes }, value_call(&ipc_renderer, text()))?;
    visit.row(Row { name, group: Group::MixedTypedSpinning, bytes }, typed_call(&ipc_renderer, text()))?;
    let send = Send { ipc_renderer: &ipc_renderer, text: codec::text(Text::Ascii, 64) };
    visit.rate(Row { name, group: Group::SendOneWay, bytes: 64 }, 20_000, send)
}

/// Messages one way; a batch is over when main has seen all of them.
struct Send<'a> {
    ipc_renderer: &'a IpcRenderer,
    text: String,
}

impl Rounds for Send<'_> {
    fn run(&mut self, rounds: usize) -> Result<()> {
        for _ in 0..rounds {
            while let Err(error) = self.ipc_renderer.send("send", (&self.text,)) {
                if error.kind() != ErrorKind::Full {
                    return Err(error.into());
                }
                spin_loop();
            }
        }
        Ok(self.ipc_renderer.invoke::<()>("seen", ()).wait()?)
    }
}

pub(crate) fn parked(visit: &mut Visit<'_>) -> Result<()> {
    asleep(visit, Group::ValueSleeping, |ipc_renderer, text| Box::new(value_call(ipc_renderer, text)))
}

/// A visit of its own: the first row of one is faster than those that follow, whichever it is (README.md).
pub(crate) fn parked_typed(visit: &mut Visit<'_>) -> Result<()> {
    asleep(visit, Group::TypedSleeping, |ipc_renderer, text| Box::new(typed_call(ipc_renderer, text)))
}

type Call<'a> = Box<dyn FnMut() -> Result<()> + 'a>;

fn asleep(visit: &mut Visit<'_>, group: Group, call: fn(&IpcRenderer, String) -> Call<'_>) -> Result<()> {
    let main = visit.spawn("ringmain park")?;
    let ipc_renderer = connect(visit, "park", Pinned::Caller)?;
    let mut sides = Sides::of(&main, Some("ringmain-disp"))?;
    for bytes in SIZES {
        visit.sleeping(
            Row { name: OURS, group, bytes },
            &mut sides,
            call(&ipc_renderer, codec::text(Text::Ascii, bytes)),
        )?;
    }
    Ok(())
}

/// Another thread of this process on the other core, stopped and joined when this is dropped.
struct Thread {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Thread {
    fn start(core: Option<usize>, mut turn: impl FnMut() -> bool + std::marker::Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            core.into_iter().for_each(pin);
            while turn() || !stopped.load(Ordering::Relaxed) {}
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// The bare ring. `internals` has both ends in one process only, so the other side is a thread.
pub(crate) fn bare(visit: &mut Visit<'_>) -> Result<()> {
    for bytes in [64, 4 << 10, MIB] {
        let ring = || internals::ring(if bytes < MIB { 128 << 10 } else { 4 << 20 });
        let ((mut to, mut from_us), (mut to_us, mut from)) = (ring(), ring());
        let mut buffer = Vec::new();
        let _peer = Thread::start(visit.peer_core, move || {
            let any = from_us.pop(&mut buffer);
            if any {
                to_us.push(&buffer); // there is room: one message is under way
            } else {
                spin_loop();
            }
            any
        });
        let (message, mut answer) = (vec![7u8; bytes], Vec::new());
        visit.row(Row { name: BARE, group: Group::RawSpinning, bytes }, || {
            if !to.push(black_box(&message)) {
                return Err("no room in the ring".into());
            }
            spin(|| Ok(from.pop(&mut answer).then_some(())))?;
            black_box(&answer);
            Ok(())
        })?;
    }
    one_way_ours(visit)?;
    one_way_rtrb::<64>(visit)?;
    one_way_rtrb::<4096>(visit)
}

const BARE_BYTES: usize = 64;

fn one_way_ours(visit: &mut Visit<'_>) -> Result<()> {
    let (mut to, mut from_us) = internals::ring(QUEUE);
    let seen = Arc::new(AtomicU32::new(0));
    let theirs = seen.clone();
    let mut buffer = Vec::new();
    let _peer = Thread::start(visit.peer_core, move || {
        let any = from_us.pop(&mut buffer);
        if any {
            taken(&buffer, &theirs);
        } else {
            spin_loop();
        }
        any
    });
    let [one, last] = [false, true].map(|is_last| message(BARE_BYTES, is_last));
    let stream = Stream::new(
        1,
        || seen.load(Ordering::Acquire),
        |_, is_last| spin(|| Ok(to.push(black_box(if is_last { &last } else { &one })).then_some(()))),
    );
    visit.rate(Row { name: BARE, group: Group::RawOneWay, bytes: BARE_BYTES }, batch_of(BARE_BYTES), stream)
}

/// Uses a message, and counts if it is the last one of its batch.
#[inline(always)]
fn taken(message: &[u8], seen: &AtomicU32) {
    if black_box(message)[0] == LAST {
        seen.fetch_add(1, Ordering::Release);
    }
}

fn one_way_rtrb<const BYTES: usize>(visit: &mut Visit<'_>) -> Result<()> {
    let (mut to, mut from_us) = rtrb::RingBuffer::<[u8; BYTES]>::new(QUEUE / BYTES);
    let seen = Arc::new(AtomicU32::new(0));
    let theirs = seen.clone();
    let _peer = Thread::start(visit.peer_core, move || {
        let value = from_us.pop();
        match &value {
            Ok(value) => taken(value, &theirs),
            Err(_) => spin_loop(),
        }
        value.is_ok()
    });
    let (one, mut last) = ([7u8; BYTES], [7u8; BYTES]);
    last[0] = LAST;
    let row = |name| Row { name, group: Group::RawOneWay, bytes: BYTES };
    let count = || seen.load(Ordering::Acquire);
    let single =
        Stream::new(1, count, |_, is_last| spin(|| Ok(to.push(*black_box(if is_last { &last } else { &one })).ok())));
    visit.rate(row(RTRB), batch_of(BYTES), single)?;
    let batched = Stream::new(TOGETHER, count, |count, is_last| {
        spin(|| Ok((to.slots() >= count).then_some(())))?;
        let messages = (1..=count).map(|at| *black_box(if is_last && at == count { &last } else { &one }));
        to.write_chunk_uninit(count)?.fill_from_iter(messages);
        Ok(())
    });
    visit.rate(row("rtrb, two threads, 16 together"), batch_of(BYTES), batched)
}
