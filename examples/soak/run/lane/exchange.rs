//! Questions and answers, with deadlines.

use super::super::counts::Event;
use super::super::sabotage::{self, Sabotage};
use super::records::in_turn;
use super::{Around, Block, Buffer, Buffers, End, Outcome, Stream, compared, over, soon};
use ringmain::lane::Received;
use ringmain::{LaneDuplex, LaneError, LaneLoan, LaneRecord};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a lane carries, in the bytes of a record.
pub(super) trait Content: LaneRecord + 'static {
    /// Its length is that of the type.
    const IS_FIXED: bool;
    fn of(buffer: &Buffer, len: usize) -> &Self;
    fn of_mut(buffer: &mut Buffer) -> &mut Self;
    fn fill(loan: LaneLoan<'_, Self>, with: &Self) -> Result<(), LaneError>;
}

impl Content for [u8] {
    const IS_FIXED: bool = false;
    fn of(buffer: &Buffer, len: usize) -> &Self {
        &buffer.bytes()[..len]
    }
    fn of_mut(buffer: &mut Buffer) -> &mut Self {
        buffer.bytes_mut()
    }
    fn fill(mut loan: LaneLoan<'_, Self>, with: &Self) -> Result<(), LaneError> {
        let at = with.len() / 2;
        loan.write_at(at, &with[at..])?;
        loan.write_at(0, &with[..at])?;
        loan.commit(with.len())
    }
}

impl Content for Block {
    const IS_FIXED: bool = true;
    fn of(buffer: &Buffer, _len: usize) -> &Self {
        buffer.words().first_chunk().expect("a block")
    }
    fn of_mut(buffer: &mut Buffer) -> &mut Self {
        buffer.words_mut().first_chunk_mut().expect("a block")
    }
    fn fill(mut loan: LaneLoan<'_, Self>, with: &Self) -> Result<(), LaneError> {
        loan.write(with);
        loan.commit();
        Ok(())
    }
}

pub(super) struct Asking<T: Content + ?Sized> {
    stream: Stream,
    lane: LaneDuplex<T, T>,
    buffers: Buffers,
    asked: u64,
    dropped: u64,
}

impl<T: Content + ?Sized> Asking<T> {
    pub(super) fn new(stream: Stream, lane: LaneDuplex<T, T>) -> Self {
        Self { stream, lane, buffers: Buffers::new(&stream), asked: 0, dropped: 0 }
    }

    /// Whether a question was sent.
    fn ask(&mut self, around: &mut Around<'_>) -> Result<bool, LaneError> {
        let len = self.stream.write(self.asked, self.dropped, &mut self.buffers.found);
        let question = T::of(&self.buffers.found, len);
        let asked = match around.random.chance(700) {
            true => self.lane.send_request(question).inspect_err(|error| {
                self.dropped += u64::from(*error == LaneError::Full);
            }),
            // What finds no room is not counted here.
            false => self.lane.loan_request().and_then(|loan| T::fill(loan, question)),
        };
        match asked {
            Ok(()) => {
                self.asked += 1;
                around.counts.sent_many(self.stream.half.kind(), 1, len as u64);
                Ok(true)
            }
            Err(LaneError::Full) => {
                around.counts.event(Event::LaneFull, 1);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn answer(&mut self, around: &mut Around<'_>) -> Result<Option<Received>, LaneError> {
        let answer = T::of_mut(&mut self.buffers.found);
        match around.random.below(10) {
            0 => {
                // A few looks, without waiting.
                for _ in 0..around.random.below(200) {
                    if let Some(received) = self.lane.try_recv_response(answer)? {
                        return Ok(Some(received));
                    }
                    std::thread::yield_now();
                }
                Ok(None)
            }
            way => {
                let micros = match way {
                    1..3 => 200,
                    3 => 40_000,
                    _ => 5_000,
                };
                self.lane.recv_response_until(answer, soon(around.random, micros)).map(Some)
            }
        }
    }

    /// Whether it is the answer to the last question.
    fn check(&mut self, received: &Received, around: &mut Around<'_>) -> Result<(), String> {
        let mut answers = self.stream.answers();
        let (index, _) = answers.check(&self.buffers.found, received.len, &mut self.buffers.spare)?;
        if index + 1 != self.asked {
            let (asked, name) = (self.asked - 1, self.stream.name());
            return Err(format!("the answer to question {index} was taken for that to {asked} of {name}"));
        }
        around.counts.answered(self.stream.half.kind(), received.len as u64);
        Ok(())
    }

    /// The same in one call.
    fn exchange(&mut self, until: Instant, around: &mut Around<'_>) -> Result<Option<Received>, LaneError> {
        let len = self.stream.write(self.asked, self.dropped, &mut self.buffers.spare);
        let Buffers { found, spare } = &mut self.buffers;
        let answer = self.lane.exchange(T::of(spare, len), T::of_mut(found), until);
        if answer == Err(LaneError::Full) {
            self.dropped += 1;
            around.counts.event(Event::LaneFull, 1);
            return Ok(None);
        }
        // An end may have come before or after the question was sent.
        let asked = self.lane.stats().sent;
        around.counts.sent_many(self.stream.half.kind(), asked - self.asked, len as u64);
        self.asked = asked;
        answer.map(Some)
    }
}

impl<T: Content + ?Sized> End for Asking<T> {
    fn stream(&self) -> &Stream {
        &self.stream
    }

    fn is_outgoing(&self) -> bool {
        true
    }

    fn count(&self) -> u64 {
        self.asked
    }

    fn act(&mut self, around: &mut Around<'_>) -> Outcome {
        let answer = if around.random.chance(300) {
            let until = soon(around.random, 5000);
            self.exchange(until, around)
        } else {
            // Of two the first is not waited for.
            let mut asked = self.ask(around);
            if asked == Ok(true) && around.random.chance(100) {
                around.counts.event(Event::LaneLate, 1);
                asked = self.ask(around).map(|_| true);
            }
            match asked {
                Ok(true) => self.answer(around),
                Ok(false) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let received = match answer {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(true),
            Err(LaneError::TimedOut) => {
                around.counts.event(Event::LaneLate, 1);
                return Ok(true);
            }
            Err(error) => return over(&self.stream, error),
        };
        self.check(&received, around)?;
        Ok(true)
    }

    fn ask_the_dying(&mut self, until: Instant, around: &mut Around<'_>) -> Result<(), String> {
        match self.exchange(until, around) {
            Ok(Some(received)) => self.check(&received, around),
            Ok(None) | Err(LaneError::Closed) => Ok(()),
            Err(error) => Err(format!("a question to one that was killed, by {}: {error}", self.stream.name())),
        }
    }

    fn check_counts(&self) -> Result<(), String> {
        let stats = self.lane.stats();
        compared(&self.stream, "sent", stats.sent, self.asked)?;
        compared(&self.stream, "dropped", stats.dropped, self.dropped)
    }
}

pub(super) struct Answering<T: Content + ?Sized> {
    stream: Stream,
    lane: LaneDuplex<T, T>,
    sabotage: Arc<Sabotage>,
    buffers: Buffers,
    next: u64,
    dropped: u64,
}

impl<T: Content + ?Sized> Answering<T> {
    pub(super) fn new(stream: Stream, lane: LaneDuplex<T, T>, sabotage: &Arc<Sabotage>) -> Self {
        let (buffers, sabotage) = (Buffers::new(&stream), sabotage.clone());
        Self { stream, lane, sabotage, buffers, next: 0, dropped: 0 }
    }

    /// The index of the question that came.
    fn took(&mut self, received: &Received, late: u64, around: &mut Around<'_>) -> Result<u64, String> {
        let checked = self.stream.check(&self.buffers.found, received.len, &mut self.buffers.spare)?;
        let (mut received, skipped) = (*received, late);
        if skipped > 0 {
            // Those between are taken, and what they said of gaps with them.
            self.next += skipped;
            received.lost = checked.1.wrapping_sub(self.dropped);
        }
        in_turn(&self.stream, &received, checked, &mut self.next, &mut self.dropped)?;
        (0..=skipped).for_each(|_| around.counts.received(self.stream.half.kind()));
        Ok(checked.0)
    }

    fn answer(&mut self, index: u64, around: &mut Around<'_>) -> Result<(), String> {
        match around.random.below(20) {
            0 => return Ok(()),
            1 => std::thread::sleep(Duration::from_micros(around.random.below(3000))),
            _ => {}
        }
        let len = self.stream.answers().write(index, 0, &mut self.buffers.spare);
        if self.sabotage.strikes_as(sabotage::Kind::LaneAnswer) {
            self.buffers.spare.spoil(len);
        }
        let answer = T::of(&self.buffers.spare, len);
        let sent = match around.random.chance(700) {
            true => self.lane.send_response(answer),
            false => self.lane.loan_response().and_then(|loan| T::fill(loan, answer)),
        };
        match sent {
            // Whoever asked has left the answers where they are, or is gone, of which the next look tells.
            Ok(()) | Err(LaneError::Full | LaneError::Closed) => Ok(()),
            Err(error) => Err(format!("an answer to {} failed: {error}", self.stream.name())),
        }
    }
}

impl<T: Content + ?Sized> End for Answering<T> {
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
            let late = self.lane.stats().late;
            let question = T::of_mut(&mut self.buffers.found);
            let found = match around.random.below(10) {
                0..3 => self.lane.try_recv_request(question),
                3..5 => self.lane.recv_newest_request_until(question, soon(around.random, 1000)).map(Some),
                _ => self.lane.recv_request_until(question, soon(around.random, 1000)).map(Some),
            };
            match found {
                Ok(Some(received)) => {
                    let late = self.lane.stats().late - late;
                    let index = self.took(&received, late, around)?;
                    self.answer(index, around)?;
                }
                Ok(None) | Err(LaneError::TimedOut) => break,
                Err(error) => return over(&self.stream, error),
            }
        }
        Ok(true)
    }

    fn drain(&mut self, until: Instant, around: &mut Around<'_>) -> Outcome {
        loop {
            match self.lane.recv_request_until(T::of_mut(&mut self.buffers.found), until) {
                Ok(received) => drop(self.took(&received, 0, around)?),
                Err(LaneError::TimedOut) => return Ok(true),
                Err(error) => return over(&self.stream, error),
            }
        }
    }

    fn check_counts(&self) -> Result<(), String> {
        compared(&self.stream, "received", self.lane.stats().received, self.next)
    }
}
