//! Ours: lanes between two processes.

use crate::Result;
use crate::floors::MIB;
use crate::measure::{Group, Row, Sides, Visit, spin};
use crate::pair::{self, Peer, is_stopped, pin};
use crate::stream::{Counter, QUEUE, Seen, Stream, TOGETHER, batch_of, message};
use ::ringmain::{
    IpcMain, IpcRenderer, LaneConfig, LaneDuplex, LaneEnd, LaneError, LaneGroup, LaneReceiver, LaneRecord, LaneSender,
    WakePolicy, WebContents,
};
use std::hint::{black_box, spin_loop};
use std::time::{Duration, Instant};

/// Rows named so are what rivals are compared with in the echoes and one way.
pub(crate) const LANE: &str = "ringmain, lane";
const BATCHED: &str = "ringmain, lane, 16 together";
const SINGLES: &str = "ringmain, lanes, one after the other";
const GROUP: &str = "ringmain, LaneGroup";
/// Peers of the group.
pub(crate) const PEERS: usize = 8;
/// A texture.
pub(crate) const LARGE: usize = 8 * MIB;

const PATIENCE: Duration = Duration::from_secs(5);

/// Both sides look by themselves.
fn config(bytes: usize) -> LaneConfig {
    LaneConfig::new().capacity((QUEUE / bytes).max(2)).max_record(bytes).align(64).wake(WakePolicy::Never)
}

/// Both sides sleep as soon as there is nothing.
fn parked() -> LaneConfig {
    LaneConfig::new().capacity(4).wake(WakePolicy::IfParked).spin(Duration::ZERO)
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// The other process: main's ends.
pub(crate) fn peer(peer: Peer, how: &str) -> Result<()> {
    let mut how = how.split(' ');
    let (what, bytes) = (how.next().unwrap_or_default(), how.next().unwrap_or("64").parse()?);
    let counter = how.next().map(Counter::open).transpose()?;
    pair::unpin();
    let ipc_main = IpcMain::builder().runtime_dir(peer.scratch.join("ringmain")).build()?;
    let (tell, told) = std::sync::mpsc::channel();
    ipc_main.on_renderer_connected(move |renderer| _ = tell.send(renderer.clone()));
    ipc_main.listen("comparison")?;
    pair::pin_all(peer.core)?;
    peer.ready("")?;
    let renderer = told.recv_timeout(PATIENCE)?;
    let counter = || counter.as_ref().ok_or("no word to count in");
    match (what, bytes) {
        ("echo", 64) => echo(&renderer, &mut [0u8; 64], bytes),
        ("echo", _) => echo(&renderer, &mut *vec![0u8; bytes], bytes),
        ("take", 64) => take(&renderer, &mut [0u8; 64], bytes, counter()?),
        ("take", _) => take(&renderer, &mut *vec![0u8; bytes], bytes, counter()?),
        ("look", _) => look(&renderer, bytes, counter()?),
        ("answer", 64) => answer(renderer.lane("lane", &parked())?, [0u8; 64]),
        ("answer", 4096) => answer(renderer.lane("lane", &parked())?, [0u8; 4096]),
        ("all", _) => answer_all(&renderer),
        _ => Err(format!("no lane does {what}").into()),
    }
}

fn open_peer<E: LaneEnd>(renderer: &WebContents, bytes: usize) -> Result<E> {
    Ok(renderer.lane("lane", &config(bytes))?)
}

fn echo<T: LaneRecord + ?Sized>(renderer: &WebContents, buffer: &mut T, bytes: usize) -> Result<()> {
    let mut lane: LaneDuplex<T, T> = open_peer(renderer, bytes)?;
    lane.prepare();
    while !is_stopped() {
        match lane.receiver().try_recv(buffer) {
            Ok(Some(_)) => lane.sender().try_send(buffer)?, // there is room: one message is under way
            Ok(None) => spin_loop(),
            Err(LaneError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn take<T: LaneRecord + AsRef<[u8]> + ?Sized>(
    renderer: &WebContents,
    buffer: &mut T,
    bytes: usize,
    counter: &Counter,
) -> Result<()> {
    let mut lane: LaneReceiver<T> = open_peer(renderer, bytes)?;
    lane.prepare();
    while !is_stopped() {
        match lane.try_recv(buffer) {
            Ok(Some(_)) => counter.take((*buffer).as_ref()),
            Ok(None) => spin_loop(),
            Err(LaneError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Looks at both ends of each record where it lies.
fn look(renderer: &WebContents, bytes: usize, counter: &Counter) -> Result<()> {
    let mut lane: LaneReceiver<[u8]> = open_peer(renderer, bytes)?;
    lane.prepare();
    while !is_stopped() {
        match lane.peek() {
            Ok(Some(record)) => {
                // SAFETY: the sender does not write there before it is told.
                let bytes = unsafe { record.bytes() };
                black_box((bytes.first(), bytes.last().copied()));
                record.release();
                counter.count();
            }
            Ok(None) => spin_loop(),
            Err(LaneError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn answer<T: bytemuck::Pod>(mut lane: LaneDuplex<T, T>, mut buffer: T) -> Result<()> {
    lane.prepare();
    while !is_stopped() {
        match lane.recv_request_until(&mut buffer, soon()) {
            Ok(_) => lane.send_response(&buffer)?,
            Err(LaneError::TimedOut) => {}
            Err(LaneError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn answer_all(renderer: &WebContents) -> Result<()> {
    let mut lanes = Vec::new();
    for peer in 0..PEERS {
        lanes.push(renderer.lane(&format!("lane {peer}"), &parked())?);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = lanes.into_iter().map(|lane| scope.spawn(|| answer(lane, [0u8; 64]).is_ok())).collect();
        let all = threads.into_iter().all(|thread| matches!(thread.join(), Ok(true)));
        if all { Ok(()) } else { Err("a peer has failed".into()) }
    })
}

fn connect(visit: &Visit<'_>) -> Result<IpcRenderer> {
    pair::unpin();
    let ipc_renderer = IpcRenderer::builder().runtime_dir(visit.scratch.join("ringmain")).connect_to("comparison");
    visit.own_core.into_iter().for_each(pin);
    Ok(ipc_renderer?)
}

pub(crate) fn spinning(visit: &mut Visit<'_>) -> Result<()> {
    echo_row(visit, &[7u8; 64], &mut [0; 64], 64)?;
    for bytes in [4096, MIB, LARGE] {
        echo_row(visit, &*vec![7u8; bytes], &mut *vec![0; bytes], bytes)?;
    }
    let [one, last] = [false, true].map(|is_last| {
        let mut record = [7u8; 64];
        record.copy_from_slice(&message(64, is_last));
        record
    });
    one_way(visit, &one, &last, 64)?;
    for bytes in [4096, LARGE] {
        one_way(visit, &*message(bytes, false), &*message(bytes, true), bytes)?;
    }
    for bytes in [64, LARGE] {
        in_place(visit, bytes)?;
    }
    Ok(())
}

fn echo_row<T: LaneRecord + PartialEq + ?Sized>(
    visit: &mut Visit<'_>,
    message: &T,
    answer: &mut T,
    bytes: usize,
) -> Result<()> {
    let _pair = visit.spawn(&format!("lanes echo {bytes}"))?;
    let ipc_renderer = connect(visit)?;
    let mut lane: LaneDuplex<T, T> = ipc_renderer.lane("lane", &config(bytes))?;
    lane.prepare();
    visit.row(Row { name: LANE, group: Group::RawSpinning, bytes }, || {
        lane.sender().try_send(black_box(message))?;
        spin(|| Ok(lane.receiver().try_recv(answer)?))?;
        black_box(&*answer);
        Ok(())
    })?;
    if *message != *answer {
        return Err("the echo differs from what was sent".into());
    }
    Ok(())
}

fn one_way<T: LaneRecord + ?Sized>(visit: &mut Visit<'_>, one: &T, last: &T, bytes: usize) -> Result<()> {
    let seen = Seen::new()?;
    let _pair = visit.spawn(&format!("lanes take {bytes} {}", seen.path()))?;
    let ipc_renderer = connect(visit)?;
    let mut sender: LaneSender<T> = ipc_renderer.lane("lane", &config(bytes))?;
    sender.prepare();
    let single = Stream::new(
        1,
        || seen.count(),
        |_, is_last| {
            spin(|| Ok((!sender.is_full()).then_some(())))?;
            Ok(sender.try_send(black_box(if is_last { last } else { one }))?)
        },
    );
    visit.rate(Row { name: LANE, group: Group::RawOneWay, bytes }, batch_of(bytes), single)?;
    if bytes > 4096 {
        return Ok(()); // not so many have room
    }
    let batched = Stream::new(
        TOGETHER,
        || seen.count(),
        |count, is_last| {
            spin(|| Ok((sender.room() >= count).then_some(())))?;
            let mut batch = sender.batch();
            for at in 1..=count {
                batch.push(black_box(if is_last && at == count { last } else { one }))?;
            }
            batch.commit();
            Ok(())
        },
    );
    visit.rate(Row { name: BATCHED, group: Group::RawOneWay, bytes }, batch_of(bytes), batched)
}

/// Loaned, not filled, read where it lies; the next one when the peer has said so.
fn in_place(visit: &mut Visit<'_>, bytes: usize) -> Result<()> {
    let seen = Seen::new()?;
    let _pair = visit.spawn(&format!("lanes look {bytes} {}", seen.path()))?;
    let ipc_renderer = connect(visit)?;
    let mut sender: LaneSender<[u8]> = ipc_renderer.lane("lane", &config(bytes))?;
    sender.prepare();
    let mut sent = 0;
    visit.row(Row { name: LANE, group: Group::InPlace, bytes }, || {
        sender.loan()?.commit(bytes)?;
        sent += 1;
        spin(|| Ok((seen.count() == sent).then_some(())))
    })
}

pub(crate) fn sleeping(visit: &mut Visit<'_>) -> Result<()> {
    exchange(visit, [7u8; 64])?;
    exchange(visit, [7u8; 4096])
}

fn exchange<T: bytemuck::Pod>(visit: &mut Visit<'_>, message: T) -> Result<()> {
    let bytes = size_of::<T>();
    let pair = visit.spawn(&format!("lanes answer {bytes}"))?;
    let ipc_renderer = connect(visit)?;
    let mut lane: LaneDuplex<T, T> = ipc_renderer.lane("lane", &parked())?;
    lane.prepare();
    let mut sides = Sides::of(&pair, None)?;
    let mut answer = message;
    visit.sleeping(Row { name: LANE, group: Group::RawSleeping, bytes }, &mut sides, || {
        lane.exchange(black_box(&message), &mut answer, soon())?;
        black_box(&answer);
        Ok(())
    })
}

/// The peers are threads of one process, on one core.
pub(crate) fn group(visit: &mut Visit<'_>) -> Result<()> {
    let _pair = visit.spawn("lanes all")?;
    let ipc_renderer = connect(visit)?;
    let mut peers: LaneGroup<[u8; 64], [u8; 64]> = LaneGroup::new();
    for peer in 0..PEERS {
        peers.push(ipc_renderer.lane(&format!("lane {peer}"), &parked())?);
    }
    let (message, mut answer) = ([7u8; 64], [0; 64]);
    let row = |name| Row { name, group: Group::Exchanges, bytes: 64 };
    visit.row(row(SINGLES), || {
        for peer in 0..PEERS {
            let lane = peers.lane(peer).ok_or("no such peer")?;
            lane.exchange(black_box(&message), &mut answer, soon())?;
            black_box(&answer);
        }
        Ok(())
    })?;
    visit.row(row(GROUP), || {
        for peer in 0..PEERS {
            peers.start(peer, black_box(&message))?;
        }
        if peers.wait_all(soon()) != PEERS {
            return Err("a peer has not answered".into());
        }
        for peer in 0..PEERS {
            black_box(peers.response(peer)?);
        }
        Ok(())
    })
}
