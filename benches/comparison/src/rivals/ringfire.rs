//! `ringfire`: fixed-size records for the raw 64 B (as its own comparison has it), its payload arena for everything else;
//! written in place and read in place. `BusySpin`, and for sleeping `FutexWait` without spinning.

use super::{LONGEST, RAW_TAG, Transport, bound};
use crate::Result;
use crate::codec;
use crate::measure::{Group, Row, Sides, Visit, spin};
use crate::pair::{Peer, is_stopped};
use ringfire::{BlobConsumer, BlobProducer, BlobProducerBuilder, CleanupMode, FutexWait, RingConsumer, RingProducer};
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

fn arena(path: &Path) -> Result<BlobProducer<()>> {
    Ok(BlobProducerBuilder::new(SLOTS, ARENA).cleanup_mode(CleanupMode::UnlinkOnDrop).build(path)?)
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
        _ => {
            let mut from = BlobConsumer::<()>::attach(&to_peer)?;
            let mut to = arena(&to_us)?;
            peer.ready("")?;
            let mut copy = vec![0; LONGEST];
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
    let to = arena(&to_peer)?;
    let _pair = visit.spawn("ringfire arena")?;
    let from = BlobConsumer::<()>::attach(&to_us)?;
    super::spinning(visit, "ringfire", &mut Blobs { to, from })
}
