//! `tachyon-ipc`: its RPC bus, calls written and read in place, both sides in its pure spinning mode. Behind the feature
//! `tachyon`, because it needs a C++23 compiler.

#[cfg(not(feature = "tachyon"))]
pub(crate) use without::*;

#[cfg(not(feature = "tachyon"))]
mod without {
    use crate::Result;
    use crate::measure::Visit;
    use crate::pair::Peer;

    const REASON: &str = "built without the feature `tachyon`";

    pub(crate) fn peer(_: &Peer, _: &str) -> Result<()> {
        Err(REASON.into())
    }

    pub(crate) fn visit(_: &mut Visit<'_>) -> Result<()> {
        Err(REASON.into())
    }
}

#[cfg(feature = "tachyon")]
pub(crate) use with::*;

#[cfg(feature = "tachyon")]
mod with {
    use super::super::{RAW_TAG, Transport, bound, raw, spinning_at};
    use crate::Result;
    use crate::codec;
    use crate::floors::SIZES;
    use crate::measure::{Group, Row, Visit, spin};
    use crate::pair::Peer;
    use crate::stream::{Counter, QUEUE, Seen, Stream, TOGETHER, batch_of, message};
    use serde_json::Value;
    use std::hint::black_box;
    use std::time::{Duration, Instant};
    use tachyon_ipc::{Bus, RpcBus, TachyonError, TxGuard};

    /// Its reader gives room back after every 32nd message, so an arena must hold more than so many; not many more, or its
    /// small messages would wander through memory that is in no cache.
    const MESSAGES: usize = 40;
    const LEAST_ARENA: usize = 64 << 10;
    /// Bytes beside a message's own, at most.
    const HEADER: usize = 256;
    /// Spins before it would sleep, as in its own benchmark.
    const SPINS: u32 = u32::MAX;
    const CALL: u32 = 1;
    const END: u32 = 2;

    struct Caller(RpcBus);

    impl Transport for Caller {
        fn raw(&mut self, message: &[u8], answer: &mut Vec<u8>) -> Result<()> {
            let id = self.0.call(message, CALL)?;
            let response = self.0.wait(id, SPINS)?;
            answer.clear();
            answer.extend_from_slice(response.data());
            Ok(response.commit()?)
        }

        fn call(&mut self, value: &Value) -> Result<Value> {
            let most = bound(value);
            let mut slot = self.0.acquire_call(most)?;
            let mut rest = slot.as_mut_slice();
            codec::encode_args(value, &mut rest)?;
            let length = most - rest.len();
            let id = slot.commit(length, CALL)?;
            let response = self.0.wait(id, SPINS)?;
            let value = codec::decode_result(response.data());
            response.commit()?;
            value
        }
    }

    impl Drop for Caller {
        fn drop(&mut self) {
            let _ = self.0.call(b"end", END);
        }
    }

    pub(crate) fn peer(peer: &Peer, arena: &str) -> Result<()> {
        if let Some(("take", how)) = arena.split_once(' ') {
            return take(peer, how);
        }
        let arena = arena.parse()?;
        let path = peer.scratch.join("tachyon");
        let _ = std::fs::remove_file(&path);
        peer.ready("")?;
        let bus = RpcBus::listen(&path.to_string_lossy(), arena, arena)?;
        bus.set_polling_mode(true);
        loop {
            let request = bus.serve(SPINS)?;
            let id = request.correlation_id;
            if tachyon_ipc::msg_type(request.type_id) as u32 == END {
                return Ok(());
            }
            let bytes = request.data();
            if bytes[0] == RAW_TAG {
                let length = bytes.len();
                let slot = bus.acquire_reply(id, length)?;
                slot.write(bytes); // from arena to arena, as in its own benchmark
                request.commit()?;
                slot.commit(length, CALL)?;
            } else {
                let value: Value = codec::decode_args(bytes)?;
                request.commit()?;
                let most = bound(&value);
                let mut slot = bus.acquire_reply(id, most)?;
                let mut rest = slot.as_mut_slice();
                codec::encode_result(&value, &mut rest)?;
                let length = most - rest.len();
                slot.commit(length, CALL)?;
            }
        }
    }

    pub(crate) fn visit(visit: &mut Visit<'_>) -> Result<()> {
        SIZES.into_iter().try_for_each(|bytes| visit_at(visit, bytes))?;
        [64, 4096].into_iter().try_for_each(|bytes| one_way(visit, bytes))
    }

    /// The bus of one way: copied in, copied out.
    fn take(peer: &Peer, how: &str) -> Result<()> {
        let (bytes, word) = how.split_once(' ').ok_or("no word to count in")?;
        let bytes: usize = bytes.parse()?;
        let counter = Counter::open(word)?;
        let path = peer.scratch.join("tachyon");
        let _ = std::fs::remove_file(&path);
        peer.ready("")?;
        let bus = Bus::listen(&path.to_string_lossy(), arena_of(bytes))?;
        bus.set_polling_mode(1);
        let mut copy = vec![0; bytes];
        loop {
            let message = bus.acquire_rx(SPINS)?;
            if tachyon_ipc::msg_type(message.type_id) as u32 == END {
                return Ok(());
            }
            copy.copy_from_slice(message.data());
            message.commit()?;
            counter.take(&copy);
        }
    }

    fn one_way(visit: &mut Visit<'_>, bytes: usize) -> Result<()> {
        let seen = Seen::new()?;
        let _pair = visit.spawn(&format!("tachyon take {bytes} {}", seen.path()))?;
        let bus = connected(visit, Bus::connect)?;
        bus.set_polling_mode(1);
        let [one, last] = [false, true].map(|is_last| message(bytes, is_last));
        let row = |name| Row { name, group: Group::RawOneWay, bytes };
        let single = Stream::new(
            1,
            || seen.count(),
            |_, is_last| {
                let slot = free(&bus, bytes)?;
                slot.write(black_box(if is_last { &last } else { &one }));
                Ok(slot.commit(bytes, CALL)?)
            },
        );
        let measured = visit.rate(row("tachyon"), batch_of(bytes), single);
        let batched = Stream::new(
            TOGETHER,
            || seen.count(),
            |count, is_last| {
                for at in 1..=count {
                    let slot = free(&bus, bytes)?;
                    slot.write(black_box(if is_last && at == count { &last } else { &one }));
                    slot.commit_unflushed(bytes, CALL)?;
                }
                bus.flush();
                Ok(())
            },
        );
        let measured = measured.and_then(|()| visit.rate(row("tachyon, 16 together"), batch_of(bytes), batched));
        bus.send(b"end", END)?;
        measured
    }

    /// Room for a message, as soon as there is some.
    fn free(bus: &Bus, bytes: usize) -> Result<TxGuard<'_>> {
        spin(|| match bus.acquire_tx(bytes) {
            Ok(slot) => Ok(Some(slot)),
            Err(TachyonError::BufferFull) => {
                bus.flush(); // what has not been seen yet cannot be taken
                Ok(None)
            }
            Err(error) => Err(error.into()),
        })
    }

    fn arena_of(bytes: usize) -> usize {
        (MESSAGES * (bytes + HEADER)).next_power_of_two().max(QUEUE)
    }

    /// The peer listens a moment after it has said that it is ready.
    fn connected<T>(visit: &Visit<'_>, connect: impl Fn(&str) -> Result<T, TachyonError>) -> Result<T> {
        let path = visit.scratch.join("tachyon");
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            match connect(&path.to_string_lossy()) {
                Ok(bus) => return Ok(bus),
                Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn visit_at(visit: &mut Visit<'_>, bytes: usize) -> Result<()> {
        let arena = (MESSAGES * (bytes + HEADER)).next_power_of_two().max(LEAST_ARENA);
        let _pair = visit.spawn(&format!("tachyon {arena}"))?;
        let bus = connected(visit, RpcBus::connect)?;
        bus.set_polling_mode(true);
        let mut caller = Caller(bus);
        // Every page of both arenas once, as long as that is a matter of milliseconds.
        let (message, mut answer) = (raw(bytes), Vec::new());
        for _ in 0..arena / bytes.max(LEAST_ARENA / 2) {
            caller.raw(&message, &mut answer)?;
        }
        spinning_at(visit, "tachyon", &mut caller, |size| size == bytes)
    }
}
