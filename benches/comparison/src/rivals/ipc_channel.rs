//! `ipc-channel`: its channels of bytes, which its documentation names as the efficient ones where serde is not needed,
//! with rmp-serde; its own postcard cannot carry a `serde_json::Value`.

use super::{RAW_TAG, Transport};
use crate::Result;
use crate::codec;
use crate::measure::{Sides, Visit};
use crate::pair::Peer;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};
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

pub(crate) fn peer(peer: &Peer) -> Result<()> {
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
