//! `ringfire`: fixed-size records for the raw 64 B (as its own comparison has it), its payload arena for everything else;
//! written in place and read in place. `BusySpin`, and for sleeping `FutexWait` without spinning.

use super::{LONGEST, RAW_TAG, Transport, bound};
use crate::Result;
use crate::codec;
use crate::lanes::LARGE;
use crate::measure::{Group, Row, Sides, Visit, spin};
use crate::pair::{Peer, is_stopped};
use crate::stream::{Counter, LAST, QUEUE, Seen, Stream, TOGETHER, batch_of};
use ringfire::{
    BlobConsumer, BlobProducer, BlobProducerBuilder, CleanupMode, FlowControl, FutexWait, RingConsumer, RingProducer,
};
use ringfire::{RingProducerBuilder, WaitStrategy};
use serde_json::Value;
use std::hint::{black_box, spin_loop};
use std::path::Path;
use std::time::Duration;

const SLOTS: u64 = 4096;
const ARENA: usize = 16 << 20;
type Record = [u8; 64];

fn ring(path: &Path) -> Result<RingProducer<Record>> {
    Ok(RingProducerBuilder::new(SLOTS).cleanup_mode(CleanupMode::UnlinkOnDrop).build(path)?)
}

fn arena(path: &Path, is_large: bool) -> Result<BlobProducer<()>> {
    // Room for two.
    let bytes = if is_large { 2 * LARGE } else { ARENA };
    Ok(BlobProducerBuilder::new(SLOTS, bytes).cleanup_mode(CleanupMode::UnlinkOnDrop).build(path)?)
}

struct Blobs {
    to: BlobProducer<()>,
    from: BlobConsumer<()>,
}

impl Transport for Blobs {
    fn raw(&mut self, message: &[u8], answer: &mut Vec<u8>) -> Result<()> {
        self.to.push_payload(message)?;
        answer.resize(message.len(), 0);
        spin(|| Ok(self.from.recv_payload(answer)?))?;
        Ok(())
    }

    fn call(&mut self, value: &Value) -> Result<Value> {
        let (_, encoded) = self.to.push_with(&(), bound(value), |mut slot| codec::encode_args(value, &mut slot))?;
        encoded?;
        spin(|| Ok(self.from.view(|_, bytes| codec::decode_result(bytes))?))?
    }
}

/// What the peer found.
enum Request {
    Raw,
    Call(Value),
}

pub(crate) fn peer(peer: &Peer, kind: &str) -> Result<()> {
    let (to_us, to_peer) = (peer.scratch.join("to-us"), peer.scratch.join("to-peer"));
    match kind {
        "spin" => {
            let mut from = RingConsumer::<Record>::attach(&to_peer)?;
            let mut to = ring(&to_us)?;
            peer.ready("")?;
            while !is_stopped() {
                match from.try_recv() {
                    Some(record) => to.push(&record),
                    None => spin_loop(),
                }
            }
        }
        "futex" => {
            let mut from = RingConsumer::<Record>::attach(&to_peer)?;
            let mut to = ring(&to_us)?;
            peer.ready("")?;
            let mut wait = futex_wait();
            loop {
                let record = from.recv_blocking(&mut wait);
                if record[0] != RAW_TAG {
                    return Ok(()); // asked to end
                }
                to.push(&record);
            }
        }
        "arena" | "large" => {
            let mut from = BlobConsumer::<()>::attach(&to_peer)?;
            let is_large = kind == "large";
            let mut to = arena(&to_us, is_large)?;
            peer.ready("")?;
            let mut copy = vec![0; if is_large { LARGE } else { LONGEST }];
            while !is_stopped() {
                let mut length = 0;
                let request = from.view(|(), bytes| {
                    if bytes[0] == RAW_TAG {
                        length = bytes.len();
                        copy[..length].copy_from_slice(bytes);
                        return Ok(Request::Raw);
                    }
                    codec::decode_args(bytes).map(Request::Call)
                })?;
                match request {
                    None => spin_loop(),
                    Some(Ok(Request::Raw)) => {
                        to.push_payload(&copy[..length])?;
                    }
                    Some(Ok(Request::Call(value))) => {
                        to.push_with(&(), bound(&value), |mut slot| codec::encode_result(&value, &mut slot))?.1?;
                    }
                    Some(Err(error)) => return Err(error),
                }
            }
        }
        _ => match kind.split_once(' ') {
            Some(("take", how)) => match how.split_once(' ') {
                Some(("64", path)) => take::<64>(&to_peer, peer, path)?,
                Some(("4096", path)) => take::<4096>(&to_peer, peer, path)?,
                _ => return Err(format!("no such records: {how}").into()),
            },
            _ => return Err(format!("no such role: {kind}").into()),
        },
    }
    Ok(())
}

fn take<const BYTES: usize>(path: &Path, peer: &Peer, word: &str) -> Result<()> {
    let counter = Counter::open(word)?;
    let mut from = RingConsumer::<[u8; BYTES]>::attach(path)?;
    peer.ready("")?;
    while !is_stopped() {
        match from.try_recv() {
            Some(record) => counter.take(&record),
            None => spin_loop(),
        }
    }
    Ok(())
}

fn futex_wait() -> impl WaitStrategy {
    FutexWait::new(0, Some(Duration::from_millis(50)))
}

pub(crate) fn visit(visit: &mut Visit<'_>) -> Result<()> {
    let (to_us, to_peer) = (visit.scratch.join("to-us"), visit.scratch.join("to-peer"));
    let message: Record = super::raw(64).try_into().map_err(|_| "64 bytes")?;
    {
        let mut to = ring(&to_peer)?;
        let _pair = visit.spawn("ringfire spin")?;
        let mut from = RingConsumer::<Record>::attach(&to_us)?;
        visit.row(Row { name: "ringfire, fixed records", group: Group::RawSpinning, bytes: 64 }, || {
            to.push(black_box(&message));
            black_box(spin(|| Ok(from.try_recv()))?);
            Ok(())
        })?;
    }
    {
        let mut to = ring(&to_peer)?;
        let pair = visit.spawn("ringfire futex")?;
        let mut from = RingConsumer::<Record>::attach(&to_us)?;
        let mut sides = Sides::of(&pair, None)?;
        let mut wait = futex_wait();
        let row = Row { name: "ringfire, fixed records, FutexWait", group: Group::RawSleeping, bytes: 64 };
        let result = visit.sleeping(row, &mut sides, || {
            to.push(black_box(&message));
            black_box(from.recv_blocking(&mut wait));
            Ok(())
        });
        to.push(&[0; 64]);
        result?;
    }
    {
        let to = arena(&to_peer, false)?;
        let _pair = visit.spawn("ringfire arena")?;
        let from = BlobConsumer::<()>::attach(&to_us)?;
        super::spinning(visit, "ringfire", &mut Blobs { to, from })?;
    }
    {
        let to = arena(&to_peer, true)?;
        let _pair = visit.spawn("ringfire large")?;
        let from = BlobConsumer::<()>::attach(&to_us)?;
        super::large(visit, "ringfire", &mut Blobs { to, from })?;
    }
    one_way::<64>(visit, &to_peer)?;
    one_way::<4096>(visit, &to_peer)
}

/// Records of one size whose writer waits for its reader. The arena has no such thing.
fn one_way<const BYTES: usize>(visit: &mut Visit<'_>, path: &Path) -> Result<()> {
    let builder = RingProducerBuilder::new((QUEUE / BYTES) as u64).cleanup_mode(CleanupMode::UnlinkOnDrop);
    let mut to = builder.flow_control(FlowControl::LosslessBackpressure).build::<[u8; BYTES], _>(path)?;
    let seen = Seen::new()?;
    let _pair = visit.spawn(&format!("ringfire take {BYTES} {}", seen.path()))?;
    let (one, mut last) = ([7; BYTES], [7; BYTES]);
    last[0] = LAST;
    let row = |name| Row { name, group: Group::RawOneWay, bytes: BYTES };
    let single = Stream::new(
        1,
        || seen.count(),
        |_, is_last| {
            to.push(black_box(if is_last { &last } else { &one }));
            Ok(())
        },
    );
    visit.rate(row("ringfire, fixed records"), batch_of(BYTES), single)?;
    let (all, mut with_last) = (vec![one; TOGETHER], vec![one; TOGETHER]);
    with_last[TOGETHER - 1] = last;
    let batched = Stream::new(
        TOGETHER,
        || seen.count(),
        |count, is_last| {
            let records = if is_last { &with_last } else { &all };
            to.push_batch(black_box(&records[TOGETHER - count..]));
            Ok(())
        },
    );
    visit.rate(row("ringfire, fixed records, 16 together"), batch_of(BYTES), batched)
}
