//! One request to each of several peers, and one wait for all of them.

use super::{LaneDuplex, LaneError};
use bytemuck::Pod;
use std::time::Instant;

/// Lanes to several peers that work at the same time: a plug-in host asks all of them, then waits for all.
///
/// There is no memory that all peers write: one that is hostile could hold up or let go the blocks of all others. So the wait is
/// for the first peer that has not answered, then for the next; meanwhile the others are not parked on, and their answers
/// cost no wake-up.
pub struct LaneGroup<S: Pod, R: Pod> {
    members: Vec<Member<S, R>>,
    /// The round that is being asked for; those before it are over.
    round: u64,
}

struct Member<S: Pod, R: Pod> {
    lane: LaneDuplex<S, R>,
    response: Box<R>,
    /// The round in which it was asked last, and what came of that: until it is waited for, whether the request was sent.
    asked_in: u64,
    outcome: Result<(), LaneError>,
}

impl<S: Pod, R: Pod> Default for LaneGroup<S, R> {
    fn default() -> Self {
        Self { members: Vec::new(), round: 1 }
    }
}

impl<S: Pod, R: Pod> LaneGroup<S, R> {
    /// A group of nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a peer; its number, from 0 on. Not real-time safe.
    pub fn push(&mut self, lane: LaneDuplex<S, R>) -> usize {
        let response = bytemuck::zeroed_box();
        self.members.push(Member { lane, response, asked_in: 0, outcome: Err(LaneError::TimedOut) });
        self.members.len() - 1
    }

    /// Puts another lane in a peer's place, such as that of its process's successor. The old one, to be dropped where that is
    /// no harm; the new one if there is no such peer.
    ///
    /// # Errors
    ///
    /// The lane given, if there is no peer of that number.
    #[allow(clippy::result_large_err)] // both are the lane
    pub fn replace(&mut self, peer: usize, lane: LaneDuplex<S, R>) -> Result<LaneDuplex<S, R>, LaneDuplex<S, R>> {
        match self.members.get_mut(peer) {
            Some(member) => {
                (member.asked_in, member.outcome) = (0, Err(LaneError::TimedOut));
                Ok(std::mem::replace(&mut member.lane, lane))
            }
            None => Err(lane),
        }
    }

    /// The number of peers.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no peer.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The lane of a peer.
    pub fn lane(&mut self, peer: usize) -> Option<&mut LaneDuplex<S, R>> {
        self.members.get_mut(peer).map(|member| &mut member.lane)
    }

    /// Sends a peer its request of this round. Real-time safe. A peer that cannot be asked has failed this round: its
    /// [`response`](Self::response) says why.
    ///
    /// # Errors
    ///
    /// As [`LaneDuplex::send_request`]; [`LaneError::Closed`] if there is no peer of that number.
    #[inline]
    pub fn start(&mut self, peer: usize, request: &S) -> Result<(), LaneError> {
        let member = self.members.get_mut(peer).ok_or(LaneError::Closed)?;
        member.asked_in = self.round;
        member.outcome = member.lane.send_request(request);
        member.outcome
    }

    /// Waits until every peer that was asked has answered or `deadline` is over; the number of those that have answered in
    /// time. Each wait is that of [`LaneReceiver::recv_until`](super::LaneReceiver::recv_until).
    pub fn wait_all(&mut self, deadline: Instant) -> usize {
        let mut answered = 0;
        for member in &mut self.members {
            if member.asked_in == self.round && member.outcome.is_ok() {
                member.outcome = member.lane.recv_response_until(&mut member.response, deadline).map(drop);
                answered += usize::from(member.outcome.is_ok());
            }
        }
        self.round += 1;
        answered
    }

    /// A peer's answer of the round that the last [`wait_all`](Self::wait_all) has ended. Real-time safe.
    ///
    /// # Errors
    ///
    /// Why there is none: [`LaneError::TimedOut`], also for a peer that was not asked in that round;
    /// [`LaneError::Closed`], also if there is no peer of that number; what sending has failed with.
    #[inline]
    pub fn response(&self, peer: usize) -> Result<&R, LaneError> {
        let member = self.members.get(peer).ok_or(LaneError::Closed)?;
        if member.asked_in + 1 != self.round {
            return Err(LaneError::TimedOut);
        }
        member.outcome.map(|()| &*member.response)
    }
}

impl<S: Pod, R: Pod> std::fmt::Debug for LaneGroup<S, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.members.iter().map(|member| &member.lane)).finish()
    }
}
