//! Lanes on which every record comes, in order.

use super::super::counts::Event;
use super::super::sabotage::{self, Fault, Sabotage, Way};
use super::exchange::Content;
use super::{Around, Buffer, Buffers, End, Outcome, Stream, compared, over, soon};
use ringmain::lane::Received;
use ringmain::{LaneError, LaneReceiver, LaneSender};
use std::sync::Arc;
use std::time::Instant;

pub(super) struct Sending {
    stream: Stream,
    sender: LaneSender<[u8]>,
    sabotage: (Arc<Sabotage>, Way),
    buffer: Buffer,
    /// The index of the next record.
    next: u64,
    sent: u64,
    dropped: u64,
}

impl Sending {
    pub(super) fn new(stream: Stream, sender: LaneSender<[u8]>, sabotage: &Arc<Sabotage>, way: Way) -> Self {
        let (buffer, sabotage) = (Buffer::new(&stream), (sabotage.clone(), way));
        Self { stream, sender, sabotage, buffer, next: 0, sent: 0, dropped: 0 }
    }

    fn one(&mut self, around: &mut Around<'_>) -> Outcome {
        let len = self.stream.write(self.next, self.dropped, &mut self.buffer);
        let (sabotage, way) = &self.sabotage;
        let fault = if self.sender.room() >= 2 { sabotage.strikes(*way) } else { None };
        match fault {
            None => self.put(len, around),
            Some(Fault::Drop) => {
                self.next += 1;
                Ok(true)
            }
            Some(Fault::Duplicate) => {
                if !self.put(len, around)? {
                    return Ok(false);
                }
                self.next -= 1;
                self.put(len, around)
            }
            Some(Fault::Corrupt) => {
                self.buffer.spoil(len);
                self.put(len, around)
            }
            Some(Fault::Reorder) => {
                let later = self.stream.write(self.next + 1, self.dropped, &mut self.buffer);
                if !self.put(later, around)? {
                    return Ok(false);
                }
                let len = self.stream.write(self.next - 1, self.dropped, &mut self.buffer);
                self.put(len, around)
            }
        }
    }

    fn put(&mut self, len: usize, around: &mut Around<'_>) -> Outcome {
        match self.sender.try_send(&self.buffer.bytes()[..len]) {
            Ok(()) => self.was_sent(1, len, around),
            Err(LaneError::Full) => {
                self.dropped += 1;
                around.counts.event(Event::LaneFull, 1);
            }
            Err(error) => return over(&self.stream, error),
        }
        Ok(true)
    }

    fn was_sent(&mut self, count: u64, bytes: usize, around: &mut Around<'_>) {
        self.next += count;
        self.sent += count;
        around.counts.sent_many(self.stream.half.kind(), count, bytes as u64);
    }

    /// Several that are seen at once, or not at all.
    fn batch(&mut self, around: &mut Around<'_>) -> Outcome {
        let (mut bytes, mut count, mut dropped) = (0, 0, self.dropped);
        let mut batch = self.sender.batch();
        for _ in 0..around.random.between(1, 40) {
            let len = self.stream.write(self.next + count, dropped, &mut self.buffer);
            match batch.push(&self.buffer.bytes()[..len]) {
                Ok(()) => {
                    bytes += len;
                    count += 1;
                }
                Err(LaneError::Full) => {
                    dropped += 1;
                    break;
                }
                Err(error) => return over(&self.stream, error),
            }
        }
        if batch.len() as u64 != count {
            return Err(format!("a batch of {count} records has {}", batch.len()));
        }
        if around.random.chance(200) {
            // As if there had been none.
            drop(batch);
            return Ok(true);
        }
        batch.commit();
        around.counts.event(Event::LaneFull, dropped - self.dropped);
        self.dropped = dropped;
        self.was_sent(count, bytes, around);
        Ok(true)
    }

    fn loan(&mut self, around: &mut Around<'_>) -> Outcome {
        let len = self.stream.write(self.next, self.dropped, &mut self.buffer);
        let loan = match self.sender.loan() {
            Ok(loan) => loan,
            Err(LaneError::Full) => return Ok(true),
            Err(error) => return over(&self.stream, error),
        };
        if around.random.chance(200) {
            return Ok(true);
        }
        let filled = Content::fill(loan, &self.buffer.bytes()[..len]);
        filled.map_err(|error| format!("a loan of {}: {error}", self.stream.name()))?;
        self.was_sent(1, len, around);
        Ok(true)
    }
}

impl End for Sending {
    fn stream(&self) -> &Stream {
        &self.stream
    }

    fn is_outgoing(&self) -> bool {
        true
    }

    fn count(&self) -> u64 {
        self.next + u64::from(self.next > 0 && self.sabotage.0.is(sabotage::Kind::LaneEnd))
    }

    fn act(&mut self, around: &mut Around<'_>) -> Outcome {
        match around.random.below(10) {
            0..5 => {
                for _ in 0..around.random.between(1, 40) {
                    // Then there is no gap.
                    if self.sender.is_full() && around.random.chance(700) {
                        break;
                    }
                    if !self.one(around)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            5..8 => self.batch(around),
            8 => self.loan(around),
            _ => match self.sender.try_send(&vec![0; self.stream.longest + 1]) {
                Err(LaneError::TooLong) => Ok(true),
                Err(error) => over(&self.stream, error),
                Ok(()) => Err(format!("{} took a record that is too long", self.stream.name())),
            },
        }
    }

    fn check_counts(&self) -> Result<(), String> {
        let stats = self.sender.stats();
        compared(&self.stream, "sent", stats.sent, self.sent)?;
        compared(&self.stream, "dropped", stats.dropped, self.dropped)
    }
}

/// Whether the next record came, and said of gaps what its sender did.
pub(super) fn in_turn(
    stream: &Stream,
    received: &Received,
    (index, dropped): (u64, u64),
    next: &mut u64,
    dropped_before: &mut u64,
) -> Result<(), String> {
    let name = || format!("record {index} of {}", stream.name());
    if index < *next {
        return Err(format!("{} came twice or too late: it was the turn of {next}", name()));
    }
    if index > *next {
        return Err(format!("{} came when it was the turn of {next}: {} are missing", name(), index - *next));
    }
    let lost = dropped.wrapping_sub(*dropped_before);
    if (received.number, received.lost) != (index + dropped, lost) {
        return Err(format!(
            "{} came as number {}, {} lost: {lost} were dropped",
            name(),
            received.number,
            received.lost
        ));
    }
    (*next, *dropped_before) = (index + 1, dropped);
    Ok(())
}

pub(super) struct Receiving {
    stream: Stream,
    receiver: LaneReceiver<[u8]>,
    buffers: Buffers,
    next: u64,
    dropped: u64,
}

impl Receiving {
    pub(super) fn new(stream: Stream, receiver: LaneReceiver<[u8]>) -> Self {
        Self { stream, receiver, buffers: Buffers::new(&stream), next: 0, dropped: 0 }
    }

    fn took(&mut self, received: &Received, around: &mut Around<'_>) -> Result<(), String> {
        let checked = self.stream.check(&self.buffers.found, received.len, &mut self.buffers.spare)?;
        in_turn(&self.stream, received, checked, &mut self.next, &mut self.dropped)?;
        around.counts.received(self.stream.half.kind());
        Ok(())
    }

    /// Looks at one where it lies, and takes it or leaves it there.
    fn peek(&mut self, around: &mut Around<'_>) -> Outcome {
        let record = match self.receiver.peek() {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(true),
            Err(error) => return over(&self.stream, error),
        };
        let copied = record.copy_to(self.buffers.found.bytes_mut());
        copied.map_err(|error| format!("a record of {}: {error}", self.stream.name()))?;
        if around.random.chance(800) {
            let received = record.release();
            self.took(&received, around)?;
        }
        Ok(true)
    }
}

impl End for Receiving {
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
        for _ in 0..around.random.between(1, 80) {
            let found = match around.random.below(40) {
                0..8 => match self.peek(around)? {
                    true => continue,
                    false => return Ok(false),
                },
                8 => match self.receiver.try_recv(&mut self.buffers.found.bytes_mut()[..8]) {
                    Ok(None) | Err(LaneError::TooLong) => continue,
                    Ok(Some(_)) => return Err(format!("{}: a buffer was too short, and taken", self.stream.name())),
                    Err(error) => Err(error),
                },
                9 => {
                    let until = soon(around.random, 3000);
                    self.receiver.recv_until(self.buffers.found.bytes_mut(), until).map(Some)
                }
                _ => self.receiver.try_recv(self.buffers.found.bytes_mut()),
            };
            match found {
                Ok(Some(received)) => self.took(&received, around)?,
                Ok(None) | Err(LaneError::TimedOut) => break,
                Err(error) => return over(&self.stream, error),
            }
        }
        Ok(true)
    }

    fn drain(&mut self, until: Instant, around: &mut Around<'_>) -> Outcome {
        loop {
            match self.receiver.recv_until(self.buffers.found.bytes_mut(), until) {
                Ok(received) => self.took(&received, around)?,
                Err(LaneError::TimedOut) => return Ok(true),
                Err(error) => return over(&self.stream, error),
            }
        }
    }

    fn check_counts(&self) -> Result<(), String> {
        let stats = self.receiver.stats();
        compared(&self.stream, "received", stats.received, self.next)?;
        compared(&self.stream, "lost", stats.lost, self.dropped)
    }
}
