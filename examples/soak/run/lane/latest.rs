//! Lanes on which the newest value wins.

use super::super::counts::Event;
use super::super::sabotage::{self, Sabotage};
use super::{Around, Buffer, Buffers, End, Outcome, Stream, compared, over, soon};
use ringmain::lane::Received;
use ringmain::{LaneError, LatestReader, LatestWriter};
use std::sync::Arc;
use std::time::Instant;

pub(super) struct Writing {
    stream: Stream,
    writer: LatestWriter<[u8]>,
    sabotage: Arc<Sabotage>,
    buffer: Buffer,
    written: u64,
}

impl Writing {
    pub(super) fn new(stream: Stream, writer: LatestWriter<[u8]>, sabotage: &Arc<Sabotage>) -> Self {
        Self { stream, writer, sabotage: sabotage.clone(), buffer: Buffer::new(&stream), written: 0 }
    }

    fn write(&mut self, around: &mut Around<'_>) -> Result<(), LaneError> {
        let len = self.stream.write(self.written, 0, &mut self.buffer);
        if self.sabotage.strikes_from(sabotage::Kind::Latest) {
            self.buffer.spoil(len);
        }
        let value = &self.buffer.bytes()[..len];
        match around.random.below(10) {
            0..6 => self.writer.write(value)?,
            way => {
                let mut loan = self.writer.loan()?;
                loan.write_at(0, &value[..len / 2])?;
                if way == 9 {
                    return Ok(()); // nothing is published
                }
                loan.write_at(len / 2, &value[len / 2..])?;
                loan.commit(len)?;
            }
        }
        self.written += 1;
        around.counts.sent_many(self.stream.half.kind(), 1, len as u64);
        Ok(())
    }
}

impl End for Writing {
    fn stream(&self) -> &Stream {
        &self.stream
    }

    fn is_outgoing(&self) -> bool {
        true
    }

    fn count(&self) -> u64 {
        self.written
    }

    fn act(&mut self, around: &mut Around<'_>) -> Outcome {
        for _ in 0..around.random.between(1, 12) {
            if let Err(error) = self.write(around) {
                return over(&self.stream, error);
            }
        }
        Ok(true)
    }

    fn check_counts(&self) -> Result<(), String> {
        compared(&self.stream, "written", self.writer.stats().sent, self.written)
    }
}

pub(super) struct Reading {
    stream: Stream,
    reader: LatestReader<[u8]>,
    buffers: Buffers,
    /// One more than the last one that was read.
    next: u64,
}

impl Reading {
    pub(super) fn new(stream: Stream, reader: LatestReader<[u8]>) -> Self {
        Self { stream, reader, buffers: Buffers::new(&stream), next: 0 }
    }

    fn check(&mut self, len: usize) -> Result<u64, String> {
        Ok(self.stream.check(&self.buffers.found, len, &mut self.buffers.spare)?.0)
    }

    fn took(&mut self, received: &Received, around: &mut Around<'_>) -> Result<(), String> {
        let index = self.check(received.len)?;
        let name = || format!("value {index} of {}", self.stream.name());
        if index < self.next {
            return Err(format!("{} came after {}, which is newer", name(), self.next - 1));
        }
        if (received.number, received.lost) != (index, index - self.next) {
            let Received { number, lost, .. } = received;
            return Err(format!("{} came as number {number}, {lost} lost, after {} values", name(), self.next));
        }
        around.counts.event(Event::LaneOverrun, received.lost);
        around.counts.received(self.stream.half.kind());
        self.next = index + 1;
        Ok(())
    }

    /// The value that was taken last stays what it is.
    fn again(&mut self) -> Result<(), String> {
        if self.next == 0 {
            return Ok(());
        }
        let len = self.reader.copy_to(self.buffers.found.bytes_mut());
        let len = len.map_err(|error| format!("a value of {}: {error}", self.stream.name()))?;
        let index = self.check(len)?;
        if index + 1 == self.next {
            return Ok(());
        }
        Err(format!("value {} of {} became {index} where it lies", self.next - 1, self.stream.name()))
    }
}

impl End for Reading {
    fn stream(&self) -> &Stream {
        &self.stream
    }

    fn is_outgoing(&self) -> bool {
        false
    }

    fn count(&self) -> u64 {
        self.next
    }

    fn act(&mut self, around: &mut Around<'_>) -> Outcome {
        for _ in 0..around.random.between(1, 4) {
            let found = match around.random.below(10) {
                0 => self.reader.read_until(self.buffers.found.bytes_mut(), soon(around.random, 1500)).map(Some),
                1..3 => {
                    self.again()?;
                    continue;
                }
                3..6 => self.reader.take().and_then(|taken| {
                    let Some(taken) = taken else { return Ok(None) };
                    self.reader.copy_to(self.buffers.found.bytes_mut()).map(|_| Some(taken))
                }),
                _ => self.reader.read(self.buffers.found.bytes_mut()),
            };
            match found {
                Ok(Some(received)) => self.took(&received, around)?,
                Ok(None) | Err(LaneError::TimedOut) => {}
                Err(error) => return over(&self.stream, error),
            }
        }
        Ok(true)
    }

    fn drain(&mut self, until: Instant, around: &mut Around<'_>) -> Outcome {
        loop {
            match self.reader.read_until(self.buffers.found.bytes_mut(), until) {
                Ok(received) => self.took(&received, around)?,
                Err(LaneError::TimedOut) => return Ok(true),
                Err(error) => return over(&self.stream, error),
            }
        }
    }

    fn check_counts(&self) -> Result<(), String> {
        let stats = self.reader.stats();
        compared(&self.stream, "read or overrun", stats.received + stats.lost, self.next)
    }
}
