//! The future of a call.

use crate::driver::{Call, Link, in_task, read_reply};
use crate::error::{Error, Result};
use crate::ipc_renderer;
use crate::sync::Arc;
use crate::wire::{IntoArgs, Kind};
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

struct Pending {
    link: Arc<Link>,
    id: u64,
    call: Arc<Call>,
    /// A task waits, so the dispatcher must be rung for the reply.
    attended: bool,
    /// The dispatcher keeps the deadline.
    is_timed: bool,
}

enum State {
    Pending(Pending),
    Failed(Option<Error>),
    Over,
}

/// The answer of a call, to be waited for: `.wait()` blocks, `.await` works on any executor.
///
/// A future learns of the other side's death from the dispatcher: after the listener that runs there. A thread that
/// waits learns it at once.
///
/// The request is sent already. Dropping this asks the other end to cancel: a handler that has not started is not started, an
/// async one is dropped at its next await, a sync one ends and its value is thrown away. [`detach`](Self::detach) lets the
/// call run unobserved.
#[must_use = "dropping it cancels the call: `wait`, `await` or `detach` it"]
pub struct Invoke<R> {
    state: State,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    result: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Invoke<R> {
    /// Sends the request, from or to a frame of the renderer at this link.
    pub(crate) fn send<A: IntoArgs>(link: &Arc<Link>, frame: u32, channel: &str, args: &A) -> Self {
        let state = match link.call(Kind::Invoke, frame, channel, args) {
            Ok((id, call)) => {
                State::Pending(Pending { link: link.clone(), id, call, attended: false, is_timed: false })
            }
            Err(error) => State::Failed(Some(error)),
        };
        Self { state, timeout: None, deadline: None, result: PhantomData }
    }

    pub(crate) fn failed(error: Error) -> Self {
        Self { state: State::Failed(Some(error)), timeout: None, deadline: None, result: PhantomData }
    }

    /// As [`send`](Self::send), and the call is given up after `timeout` whether anybody waits for it or not: what never
    /// answers costs a slot for that long.
    pub(crate) fn send_within<A: IntoArgs>(
        link: &Arc<Link>,
        frame: u32,
        channel: &str,
        args: &A,
        timeout: Duration,
    ) -> Self {
        let mut call = Self::send(link, frame, channel, args).timeout(timeout);
        if let (State::Pending(pending), Some(at)) = (&mut call.state, call.deadline) {
            pending.is_timed = true;
            link.engine.add_deadline(at, link.id, pending.id);
        }
        call
    }

    /// Gives up after `timeout`, counted from here, with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout); the other end
    /// is then asked to cancel. The timeout of a call of main's stands beside it: whichever is over first counts.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        let deadline = Instant::now().checked_add(timeout);
        if self.deadline.is_none() || deadline.is_some_and(|deadline| self.deadline > Some(deadline)) {
            self.timeout = Some(timeout);
            self.deadline = deadline;
            if let State::Pending(pending) = &mut self.state {
                pending.is_timed = false;
            }
        }
        self
    }

    /// Blocks until the answer is there. The thread reads the ring itself, for everybody: no hop.
    ///
    /// On the renderer's dispatcher (in a listener) it works: other messages wait their turn.
    ///
    /// # Errors
    ///
    /// Those of sending; what the handler failed with ([`Error::is_remote`]); `Timeout`, `Disconnected`, `BadReply`;
    /// `WouldDeadlock` on the thread that would have to serve the answer.
    pub fn wait(mut self) -> Result<R> {
        match &mut self.state {
            State::Pending(pending) => {
                pending.link.check_blocking("wait")?;
                let Pending { link, id, call, .. } = &*pending;
                let result = ipc_renderer::wait(link, Kind::Invoke, *id, call, self.deadline);
                self.finish();
                result
            }
            State::Failed(error) => Err(error.take().unwrap_or_else(spent)),
            State::Over => Err(spent()),
        }
    }

    /// Blocks until the answer is there, for at most `timeout`, and meanwhile runs what comes by this link: for the thread
    /// that runs the callbacks in [manual dispatch](crate::Dispatch::Manual), inside a callback or outside of `poll`. The
    /// other end may so call back before it answers, and its callback may wait in turn; such calls nest
    /// [`max_nesting`](crate::IpcMainBuilder::max_nesting) deep at most. Async handlers go on as well; messages of other
    /// links, and hooks but those that are told of this renderer's connection before its first message, wait for the next
    /// `poll`. A call to a renderer that has not connected yet waits for that first, and runs nothing meanwhile.
    ///
    /// While another thread polls, and with [`Dispatch::Threads`](crate::Dispatch::Threads), it is [`wait`](Self::wait)
    /// with a timeout.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); [`ErrorKind::Limit`](crate::ErrorKind::Limit) when it is nested too deep: the call is then
    /// taken back. `WouldDeadlock` where this thread polls the other end too.
    pub fn wait_polling(mut self, timeout: Duration) -> Result<R> {
        self = self.timeout(timeout);
        match &mut self.state {
            State::Pending(pending) => {
                let Pending { link, id, call, .. } = &*pending;
                let waited = link.engine.wait_polling(link, *id, call, self.deadline)?;
                let result = ipc_renderer::answer(link, Kind::Invoke, *id, call, waited);
                self.finish();
                result
            }
            State::Failed(error) => Err(error.take().unwrap_or_else(spent)),
            State::Over => Err(spent()),
        }
    }

    /// Lets the call run unobserved; its answer is thrown away.
    pub fn detach(mut self) {
        if let State::Pending(pending) = &self.state {
            pending.link.give_up(pending.id, false);
        }
        self.finish();
    }
}

impl<R> Invoke<R> {
    /// The call, if it could be sent.
    #[cfg(feature = "capi")]
    pub(crate) fn sent(mut self) -> Result<Self> {
        match &mut self.state {
            State::Failed(error) => Err(error.take().unwrap_or_else(spent)),
            _ => Ok(self),
        }
    }

    /// The call is over: nothing is to be cancelled.
    fn finish(&mut self) {
        if let State::Pending(pending) = std::mem::replace(&mut self.state, State::Over) {
            pending.unattend();
            Call::recycle(pending.call);
        }
    }
}

impl Pending {
    fn unattend(&self) {
        if self.attended {
            self.link.unattend();
        }
    }
}

#[cold]
fn spent() -> Error {
    Error::new(crate::ErrorKind::InvalidConfig, "this call was answered already: it was polled after it was ready")
}

impl<R: DeserializeOwned> Future for Invoke<R> {
    type Output = Result<R>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let pending = match &mut this.state {
            State::Pending(pending) => pending,
            State::Failed(error) => return Poll::Ready(Err(error.take().unwrap_or_else(spent))),
            State::Over => return Poll::Ready(Err(spent())),
        };
        let waits = !pending.call.is_done() && pending.call.woken_by(context.waker());
        if waits {
            if let Err(error) = pending.link.engine.check_fork() {
                return Poll::Ready(Err(error));
            }
            if !pending.attended {
                // Nobody blocks on this thread, but a `block_on` around us would.
                if !in_task()
                    && let Err(error) = pending.link.check_await()
                {
                    return Poll::Ready(Err(error));
                }
                pending.attended = true;
                pending.link.attend();
            }
            // Perhaps a later one than that of an earlier poll.
            if let Some(at) = this.deadline
                && !std::mem::replace(&mut pending.is_timed, true)
            {
                pending.link.engine.add_deadline(at, pending.link.id, pending.id);
            }
            // A link that is gone fails what waits, by the dispatcher, once all that arrived is delivered.
            if !pending.call.is_done() {
                return Poll::Pending;
            }
        }
        let outcome = pending.call.take();
        let result = match outcome {
            Some(outcome) => read_reply(&pending.link, Kind::Invoke, pending.call.channel(), outcome),
            None => Err(pending.link.disconnected()),
        };
        this.finish();
        Poll::Ready(result)
    }
}

impl<R> Drop for Invoke<R> {
    fn drop(&mut self) {
        if let State::Pending(pending) = &self.state
            && !pending.call.is_done()
            && !pending.link.engine.is_forked()
        {
            pending.link.give_up(pending.id, true);
        }
        self.finish();
    }
}

impl<R> std::fmt::Debug for Invoke<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Invoke");
        match &self.state {
            State::Pending(pending) => {
                debug.field("channel", &pending.call.channel()).field("done", &pending.call.is_done())
            }
            State::Failed(error) => debug.field("failed", error),
            State::Over => &mut debug,
        };
        debug.field("timeout", &self.timeout).finish()
    }
}
