//! A Unix stream socket, messages with their length before them, rmp-serde. Blocking, and polled without a pause.

use super::{RAW_TAG, Transport};
use crate::Result;
use crate::codec;
use crate::measure::{Sides, Visit};
use crate::pair::Peer;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

const PREFIX: usize = 4;

/// One end. Each message is one write, and what has arrived is read in one go.
struct Framed {
    stream: UnixStream,
    polled: bool,
    /// The message that is being made, with its prefix.
    out: Vec<u8>,
    input: Vec<u8>,
    filled: usize,
}

impl Framed {
    fn new(stream: UnixStream, polled: bool) -> Result<Self> {
        stream.set_nonblocking(polled)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let size: libc::c_int = 4 << 20;
        for option in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
            // SAFETY: the value lives through the call and has the size that is given. The kernel may grant less.
            unsafe {
                let fd = std::os::fd::AsRawFd::as_raw_fd(&stream);
                libc::setsockopt(
                    fd,
                    libc::SOL_SOCKET,
                    option,
                    (&raw const size).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                );
            }
        }
        Ok(Self { stream, polled, out: Vec::new(), input: vec![0; super::LONGEST + PREFIX], filled: 0 })
    }

    /// The buffer for the next message.
    fn begin(&mut self) -> &mut Vec<u8> {
        self.out.clear();
        self.out.extend([0; PREFIX]);
        &mut self.out
    }

    fn send(&mut self) -> Result<()> {
        let length = (self.out.len() - PREFIX) as u32;
        self.out[..PREFIX].copy_from_slice(&length.to_le_bytes());
        let mut rest = &self.out[..];
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if self.polled && error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next message. There is never more than one under way.
    fn receive(&mut self) -> Result<&[u8]> {
        self.filled = 0;
        let mut asked = 0u32;
        loop {
            match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err("the other side is gone".into()),
                Ok(read) => self.filled += read,
                Err(error) if self.polled && error.kind() == ErrorKind::WouldBlock => {
                    asked = asked.wrapping_add(1);
                    if asked.is_multiple_of(1024) && crate::pair::is_stopped() {
                        return Err("stopped".into());
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            if self.filled >= PREFIX {
                let length = u32::from_le_bytes(self.input[..PREFIX].try_into()?) as usize;
                if self.filled == PREFIX + length {
                    return Ok(&self.input[PREFIX..self.filled]);
                }
            }
        }
    }
}

impl Transport for Framed {
    fn raw(&mut self, message: &[u8], answer: &mut Vec<u8>) -> Result<()> {
        self.begin().extend_from_slice(message);
        self.send()?;
        let bytes = self.receive()?;
        answer.clear();
        answer.extend_from_slice(bytes);
        Ok(())
    }

    fn call(&mut self, value: &Value) -> Result<Value> {
        codec::encode_args(value, self.begin())?;
        self.send()?;
        codec::decode_result(self.receive()?)
    }
}

pub(crate) fn peer(peer: &Peer, polled: bool) -> Result<()> {
    let listener = UnixListener::bind(peer.scratch.join("socket"))?;
    peer.ready("")?;
    let (stream, _) = listener.accept()?;
    std::fs::remove_file(peer.scratch.join("socket"))?;
    let mut framed = Framed::new(stream, polled)?;
    framed.stream.set_read_timeout(None)?;
    loop {
        let Ok(request) = framed.receive() else { return Ok(()) };
        if request[0] == RAW_TAG {
            let length = framed.filled;
            framed.out.clear();
            framed.out.extend_from_slice(&framed.input[..length]);
        } else {
            let value: Value = codec::decode_args(request)?;
            codec::encode_result(&value, framed.begin())?;
        }
        framed.send()?;
    }
}

pub(crate) fn blocking(visit: &mut Visit<'_>) -> Result<()> {
    let pair = visit.spawn("socket blocking")?;
    let mut framed = Framed::new(UnixStream::connect(visit.scratch.join("socket"))?, false)?;
    let mut sides = Sides::of(&pair, None)?;
    super::sleeping(visit, "Unix socket", &mut sides, &mut framed)
}

pub(crate) fn polled(visit: &mut Visit<'_>) -> Result<()> {
    let _pair = visit.spawn("socket polled")?;
    let mut framed = Framed::new(UnixStream::connect(visit.scratch.join("socket"))?, true)?;
    super::spinning(visit, "Unix socket, polled", &mut framed)
}
