//! `ipc-channel`: its channels of bytes, which its documentation names as the efficient ones where serde is not needed,
//! with rmp-serde; its own postcard cannot carry a `serde_json::Value`. Large ones also as its `IpcSharedMemory`.

use super::{RAW_TAG, Transport};
use crate::Result;
use crate::codec;
use crate::measure::{Sides, Visit};
use crate::pair::Peer;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer};
use ipc_channel::ipc::{IpcReceiver, IpcSender, IpcSharedMemory};
use serde_json::Value;

type Ends = (IpcBytesReceiver, IpcBytesSender);

struct Channel {
    to: IpcBytesSender,
    from: IpcBytesReceiver,
    out: Vec<u8>,
}

impl Transport for Channel {
    fn raw(&mut self, message: &[u8], answer: &mut Vec<u8>) -> Result<()> {
        self.to.send(message)?;
        *answer = self.from.recv()?;
        Ok(())
    }

    fn call(&mut self, value: &Value) -> Result<Value> {
        self.out.clear();
        codec::encode_args(value, &mut self.out)?;
        self.to.send(&self.out)?;
        codec::decode_result(&self.from.recv()?)
    }
}

type MemoryEnds = (IpcReceiver<IpcSharedMemory>, IpcSender<IpcSharedMemory>);

/// Each message a piece of shared memory of its own.
struct Memory {
    to: IpcSender<IpcSharedMemory>,
    from: IpcReceiver<IpcSharedMemory>,
    out: Vec<u8>,
}

impl Transport for Memory {
    fn raw(&mut self, message: &[u8], answer: &mut Vec<u8>) -> Result<()> {
        self.to.send(IpcSharedMemory::from_bytes(message))?;
        let memory = self.from.recv()?;
        answer.clear();
        answer.extend_from_slice(&memory);
        Ok(())
    }

    fn call(&mut self, value: &Value) -> Result<Value> {
        self.out.clear();
        codec::encode_args(value, &mut self.out)?;
        self.to.send(IpcSharedMemory::from_bytes(&self.out))?;
        codec::decode_result(&self.from.recv()?)
    }
}

fn memory_peer(peer: &Peer) -> Result<()> {
    let (server, name) = IpcOneShotServer::<MemoryEnds>::new()?;
    peer.ready(&name)?;
    let (_, (from, to)) = server.accept()?;
    let mut out = Vec::new();
    loop {
        let Ok(request) = from.recv() else { return Ok(()) };
        if request[0] == RAW_TAG {
            to.send(request)?;
        } else {
            let value: Value = codec::decode_args(&request)?;
            out.clear();
            codec::encode_result(&value, &mut out)?;
            to.send(IpcSharedMemory::from_bytes(&out))?;
        }
    }
}

pub(crate) fn memory(visit: &mut Visit<'_>) -> Result<()> {
    let pair = visit.spawn("ipc-channel memory")?;
    let (to, from_us) = ipc::channel()?;
    let (to_us, from) = ipc::channel()?;
    IpcSender::<MemoryEnds>::connect(pair.data().to_string())?.send((from_us, to_us))?;
    let mut sides = Sides::of(&pair, None)?;
    let mut memory = Memory { to, from, out: Vec::new() };
    super::sleeping_at(visit, "ipc-channel, IpcSharedMemory", &mut sides, &mut memory, |bytes| bytes >= 64 << 10)
}

pub(crate) fn peer(peer: &Peer, how: &str) -> Result<()> {
    if how == "memory" {
        return memory_peer(peer);
    }
    let (server, name) = IpcOneShotServer::<Ends>::new()?;
    peer.ready(&name)?;
    let (_, (from, to)) = server.accept()?;
    let mut out = Vec::new();
    loop {
        let Ok(request) = from.recv() else { return Ok(()) };
        if request[0] == RAW_TAG {
            to.send(&request)?;
        } else {
            let value: Value = codec::decode_args(&request)?;
            out.clear();
            codec::encode_result(&value, &mut out)?;
            to.send(&out)?;
        }
    }
}

pub(crate) fn visit(visit: &mut Visit<'_>) -> Result<()> {
    let pair = visit.spawn("ipc-channel")?;
    let (to, from_us) = ipc::bytes_channel()?;
    let (to_us, from) = ipc::bytes_channel()?;
    IpcSender::<Ends>::connect(pair.data().to_string())?.send((from_us, to_us))?;
    let mut sides = Sides::of(&pair, None)?;
    super::sleeping(visit, "ipc-channel", &mut sides, &mut Channel { to, from, out: Vec::new() })
}
