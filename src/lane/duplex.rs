//! Both ways, and exchanges with a deadline.

use super::sealed::{Demand, End, Parts};
use super::{LaneConfig, LaneEnd, LaneError, LaneLoan, LaneReceiver, LaneRecord, LaneSender, Opened, Received};
use crate::error::Result;
use crate::link::LaneKind;
use std::time::Instant;

/// Sends `S` and receives `R`; the other end is a `LaneDuplex<R, S>`. See the [module](super).
///
/// It is either a stream each way ([`sender`](Self::sender), [`receiver`](Self::receiver), [`split`](Self::split)), or one side
/// asks and the other answers, by number, so that an answer which comes after its deadline is never taken for the next one:
///
/// ```
/// # use ringmain::{IpcMain, LaneConfig, LaneDuplex};
/// # use std::time::{Duration, Instant};
/// # let ipc_main = IpcMain::new()?;
/// # let ipc_renderer = ipc_main.attach()?;
/// # let web_contents = &ipc_main.all_web_contents()[0];
/// // Two: a plug-in that was stopped finds two old blocks, not hundreds.
/// let mut host: LaneDuplex<[f32; 64], [f32; 64]> = web_contents.lane("plugin", &LaneConfig::new().capacity(2))?;
/// # let plugin = std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let mut plugin: LaneDuplex<[f32; 64], [f32; 64]> = ipc_renderer.lane("plugin", &LaneConfig::new())?;
///
/// // In the plug-in's process:
/// let mut block = [0.0; 64];
/// plugin.recv_request_until(&mut block, Instant::now() + Duration::from_secs(5))?;
/// plugin.send_response(&block.map(|sample| sample * 0.5))?;
/// # Ok(()) });
///
/// // In the host, once a block:
/// let mut processed = [0.0; 64];
/// host.exchange(&[1.0; 64], &mut processed, Instant::now() + Duration::from_secs(5))?;
/// assert_eq!(processed, [0.5; 64]);
/// # plugin.join().unwrap().map_err(|error| error as Box<dyn std::error::Error>)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LaneDuplex<S: LaneRecord + ?Sized, R: LaneRecord + ?Sized> {
    pub(super) sender: LaneSender<S>,
    pub(super) receiver: LaneReceiver<R>,
    /// The number of the last request that was sent, and of the last one received.
    asked: u32,
    answering: u32,
}

impl<S: LaneRecord + ?Sized, R: LaneRecord + ?Sized> End for LaneDuplex<S, R> {
    fn demand(config: &LaneConfig) -> Demand {
        config.demand(LaneKind::Records, config.outgoing::<S>(), config.incoming::<R>())
    }

    fn open(Parts(parts): &Parts, config: &LaneConfig) -> Result<Self> {
        let opened = Opened::new(parts);
        Ok(Self {
            sender: LaneSender::new(&opened, parts, config)?,
            receiver: LaneReceiver::new(&opened, parts, config)?,
            asked: 0,
            answering: 0,
        })
    }
}

impl<S: LaneRecord + ?Sized, R: LaneRecord + ?Sized> LaneEnd for LaneDuplex<S, R> {}

impl<S: LaneRecord + ?Sized, R: LaneRecord + ?Sized> LaneDuplex<S, R> {
    /// The sending half.
    pub fn sender(&mut self) -> &mut LaneSender<S> {
        &mut self.sender
    }

    /// The receiving half.
    pub fn receiver(&mut self) -> &mut LaneReceiver<R> {
        &mut self.receiver
    }

    /// Both halves, for two threads.
    #[must_use = "dropping a half closes its direction"]
    pub fn split(self) -> (LaneSender<S>, LaneReceiver<R>) {
        (self.sender, self.receiver)
    }

    /// As [`LaneSender::prepare`].
    pub fn prepare(&mut self) {
        self.sender.prepare();
        self.receiver.prepare();
    }

    /// Whether the other end is there and the link has not ended, as far as can be seen from here. Real-time safe.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.receiver.is_open() && self.sender.is_open()
    }

    /// The counters of both directions. Real-time safe.
    pub fn stats(&self) -> super::LaneStats {
        self.receiver.stats()
    }

    /// The counters for other threads. Not real-time safe.
    pub fn counters(&self) -> super::LaneCounters {
        self.receiver.counters()
    }

    /// Sends a request and waits for its answer until `deadline`: [`send_request`](Self::send_request), then
    /// [`recv_response_until`](Self::recv_response_until).
    ///
    /// # Errors
    ///
    /// Theirs. After [`LaneError::TimedOut`] the answer that still comes is known by its number, thrown away and counted
    /// ([`late`](super::LaneStats::late)).
    pub fn exchange(&mut self, request: &S, response: &mut R, deadline: Instant) -> Result<Received, LaneError> {
        self.send_request(request)?;
        self.recv_response_until(response, deadline)
    }

    /// Sends a request, whose answer alone is taken from now on; up to two earlier ones that are there are thrown away, so that they take
    /// no room from it. Real-time safe.
    ///
    /// # Errors
    ///
    /// As [`LaneSender::try_send`]; `Full` if the other side has not taken the ones before.
    #[inline]
    pub fn send_request(&mut self, request: &S) -> Result<(), LaneError> {
        // Not for a request that is not sent: the answer to the one before may be there.
        if self.sender.check_next(request.bytes().len()).is_ok() {
            self.receiver.make_room(None);
        }
        let number = self.sender.next_number();
        self.sender.try_send(request)?;
        self.asked = number;
        Ok(())
    }

    /// Borrows the place of the next request, to fill it where it lies; as [`LaneSender::loan`]. Once it is committed, its answer
    /// alone is taken. Up to two answers to still earlier requests that are there are thrown away now. Real-time safe.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn loan_request(&mut self) -> Result<LaneLoan<'_, S>, LaneError> {
        self.receiver.make_room(Some(self.asked));
        let mut loan = self.sender.loan()?;
        loan.asked = Some(&mut self.asked);
        Ok(loan)
    }

    /// Takes the answer to the last request if it is there. Real-time safe: in at most as many steps as the lane has slots, earlier
    /// answers are thrown away.
    ///
    /// # Errors
    ///
    /// As [`LaneReceiver::try_recv`].
    #[inline]
    pub fn try_recv_response(&mut self, response: &mut R) -> Result<Option<Received>, LaneError> {
        self.receiver.try_recv_numbered(self.asked, response)
    }

    /// Waits for the answer to the last request, as [`LaneReceiver::recv_until`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_response_until(&mut self, response: &mut R, deadline: Instant) -> Result<Received, LaneError> {
        self.receiver.recv_numbered_until(self.asked, response, deadline)
    }

    /// Waits for a request, as [`LaneReceiver::recv_until`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_request_until(&mut self, request: &mut R, deadline: Instant) -> Result<Received, LaneError> {
        let received = self.receiver.recv_until(request, deadline)?;
        self.answering = received.number as u32;
        Ok(received)
    }

    /// As [`recv_request_until`](Self::recv_request_until), then goes on to the newest request that is there; those before it are
    /// counted as [late](super::LaneStats::late). For a peer that was stopped or slow: whoever asked for the older ones does not wait for
    /// them any more.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_newest_request_until(&mut self, request: &mut R, deadline: Instant) -> Result<Received, LaneError> {
        let mut received = self.recv_request_until(request, deadline)?;
        // No more than there can be at once: a peer could go on for ever.
        for _ in 0..self.receiver.slots() {
            // A request that does not fit the buffer, or the end, is found by the next call.
            let Ok(Some(newer)) = self.try_recv_request(request) else { break };
            self.receiver.count_late();
            received = newer;
        }
        Ok(received)
    }

    /// Takes the next request if it is there. Real-time safe.
    ///
    /// # Errors
    ///
    /// As [`LaneReceiver::try_recv`].
    #[inline]
    pub fn try_recv_request(&mut self, request: &mut R) -> Result<Option<Received>, LaneError> {
        let received = self.receiver.try_recv(request)?;
        if let Some(received) = received {
            self.answering = received.number as u32;
        }
        Ok(received)
    }

    /// Borrows the place of the answer to the last request received, to fill it where it lies; as [`LaneSender::loan`]. Real-time
    /// safe.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn loan_response(&mut self) -> Result<LaneLoan<'_, S>, LaneError> {
        self.sender.loan_as(self.answering)
    }

    /// Answers the last request received. Real-time safe.
    ///
    /// # Errors
    ///
    /// As [`LaneSender::try_send`]; `Full` if the other side has left earlier answers where they are.
    #[inline]
    pub fn send_response(&mut self, response: &S) -> Result<(), LaneError> {
        self.sender.try_send_as(self.answering, response)
    }
}

impl<S: LaneRecord + ?Sized, R: LaneRecord + ?Sized> std::fmt::Debug for LaneDuplex<S, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneDuplex").field("is_open", &self.is_open()).field("stats", &self.stats()).finish()
    }
}
