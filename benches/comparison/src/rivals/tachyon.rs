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
    use crate::measure::Visit;
    use crate::pair::Peer;
    use serde_json::Value;
    use std::time::{Duration, Instant};
    use tachyon_ipc::RpcBus;

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
        SIZES.into_iter().try_for_each(|bytes| visit_at(visit, bytes))
    }

    fn visit_at(visit: &mut Visit<'_>, bytes: usize) -> Result<()> {
        let arena = (MESSAGES * (bytes + HEADER)).next_power_of_two().max(LEAST_ARENA);
        let _pair = visit.spawn(&format!("tachyon {arena}"))?;
        let path = visit.scratch.join("tachyon");
        let until = Instant::now() + Duration::from_secs(2);
        let bus = loop {
            match RpcBus::connect(&path.to_string_lossy()) {
                Ok(bus) => break bus,
                Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(error.into()),
            }
        };
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
