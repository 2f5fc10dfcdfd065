//! A call from both ends: the slot in which its answer arrives, and the request that is to be answered.

use super::link::Link;
use crate::error::{Error, ErrorKind, HandlerError, Remote, Result};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::wake::Bell;
use crate::wire::{self, ErrorRecord, Kind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::task::Waker;

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Reply(Reply),
    Failed(Error),
}

/// A reply as it was read, its header taken apart.
#[derive(Debug)]
pub(crate) struct Reply {
    message: Vec<u8>,
    /// Where the payload begins.
    at: usize,
    is_error: bool,
}

impl Reply {
    /// Takes the content of `message`, whose payload are its last `payload` bytes.
    pub(crate) fn take(message: &mut Vec<u8>, payload: usize, kind: Kind) -> Self {
        let message = std::mem::take(message);
        Self { at: message.len() - payload, message, is_error: kind == Kind::ReplyError }
    }
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
    bell: Option<Arc<Bell>>,
}

/// Where the answer of one call arrives.
pub(crate) struct Call {
    /// The frame that called, or is called.
    pub(super) frame: u32,
    channel: String,
    done: AtomicBool,
    state: Mutex<State>,
}

thread_local! {
    /// The slot of this thread's last call, for its next one.
    static SPARE: Cell<Option<Arc<Call>>> = const { Cell::new(None) };
}

/// A slot with a longer channel name is not kept.
const KEEP_NAME: usize = 1024;

impl Call {
    pub(crate) fn new(frame: u32, channel: &str) -> Arc<Self> {
        if let Some(mut spare) = SPARE.try_with(Cell::take).ok().flatten()
            && let Some(call) = Arc::get_mut(&mut spare)
        {
            call.frame = frame;
            call.channel.clear();
            call.channel.push_str(channel);
            *call.done.get_mut() = false;
            return spare;
        }
        Arc::new(Self { frame, channel: channel.into(), done: AtomicBool::new(false), state: Mutex::default() })
    }

    /// Keeps the slot for this thread's next call, unless somebody else still looks at it.
    pub(crate) fn recycle(mut call: Arc<Self>) {
        if call.channel.capacity() > KEEP_NAME {
            return;
        }
        if let Some(slot) = Arc::get_mut(&mut call) {
            // Dropped here and now: an answer may be large, a waker is foreign.
            drop(std::mem::take(slot.state.get_mut()));
            let _ = SPARE.try_with(|spare| spare.set(Some(call)));
        }
    }

    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// The bell of the thread that waits: it follows, or leads and goes to sleep.
    pub(crate) fn rung_by(&self, bell: &Arc<Bell>) {
        self.state.lock().bell = Some(bell.clone());
    }

    /// The waker of the task that waits; false if the answer is there.
    pub(crate) fn woken_by(&self, waker: &Waker) -> bool {
        let is_known = |state: &State| state.waker.as_ref().is_some_and(|old| old.will_wake(waker));
        if is_known(&self.state.lock()) {
            return !self.is_done();
        }
        // Cloned and dropped with nothing held: both are foreign code.
        let new = waker.clone();
        let mut state = self.state.lock();
        if state.outcome.is_some() || self.is_done() {
            return false;
        }
        let old = state.waker.replace(new);
        drop(state);
        drop(old);
        true
    }

    /// Puts the answer in; the first one stays. The waker is to be woken with nothing held.
    pub(crate) fn finish(&self, outcome: Outcome) -> Option<Waker> {
        let mut state = self.state.lock();
        if state.outcome.is_some() || self.is_done() {
            return None;
        }
        state.outcome = Some(outcome);
        self.done.store(true, Ordering::Release);
        let (waker, bell) = (state.waker.take(), state.bell.take());
        drop(state);
        if let Some(bell) = bell {
            bell.ring();
        }
        waker
    }

    pub(crate) fn take(&self) -> Option<Outcome> {
        self.state.lock().outcome.take()
    }
}

// What a failed call is, on the wire (PROTOCOL.md).
pub(crate) const NO_HANDLER: u8 = 1;
pub(crate) const HANDLER: u8 = 2;
pub(crate) const HANDLER_PANICKED: u8 = 3;
pub(crate) const REPLY_NEVER_SENT: u8 = 4;
pub(crate) const NO_LISTENER: u8 = 5;
pub(crate) const BAD_ARGUMENTS: u8 = 6;
pub(crate) const REPLY_FULL: u8 = 7;
pub(crate) const TOO_MANY_CALLS: u8 = 8;

pub(crate) fn record(kind: u8, message: &str) -> ErrorRecord {
    ErrorRecord { kind, message: message.to_string(), ..ErrorRecord::default() }
}

/// What the caller of a failed call is told, in Electron's words.
fn failed(kind: Kind, channel: &str, record: ErrorRecord) -> Error {
    let ErrorRecord { kind: number, name, message, code, data } = record;
    let error_kind = match number {
        NO_HANDLER => ErrorKind::NoHandler,
        HANDLER_PANICKED => ErrorKind::HandlerPanicked,
        REPLY_NEVER_SENT => ErrorKind::ReplyNeverSent,
        NO_LISTENER => ErrorKind::NoListener,
        BAD_ARGUMENTS => ErrorKind::BadArguments,
        REPLY_FULL => ErrorKind::ReplyFull,
        TOO_MANY_CALLS => ErrorKind::Limit,
        // A later minor version may know further ways to fail.
        _ => ErrorKind::Handler,
    };
    let what = match number {
        NO_HANDLER => format!("No handler registered for '{channel}'"),
        NO_LISTENER => format!("No listener registered for '{channel}'"),
        REPLY_NEVER_SENT => "reply was never sent".to_string(),
        _ => match &name {
            Some(name) => format!("{name}: {message}"),
            None => message.clone(),
        },
    };
    let text = match kind {
        Kind::SendSync => format!("Error sending synchronous message '{channel}': {what}"),
        _ => format!("Error invoking remote method '{channel}': {what}"),
    };
    Error::remote(error_kind, text, Remote { name, message, code, data })
}

/// Reads the answer of a call.
pub(crate) fn read_reply<R: DeserializeOwned>(
    link: &Arc<Link>,
    kind: Kind,
    channel: &str,
    outcome: Outcome,
) -> Result<R> {
    let Reply { message, at, is_error } = match outcome {
        Outcome::Reply(reply) => reply,
        Outcome::Failed(error) => return Err(error),
    };
    let result = read_payload(link, kind, channel, &message[at..], is_error);
    super::link::recycle(message);
    result
}

fn read_payload<R: DeserializeOwned>(
    link: &Arc<Link>,
    kind: Kind,
    channel: &str,
    payload: &[u8],
    is_error: bool,
) -> Result<R> {
    let limits = &link.engine.wire_limits;
    let violated = |violation: wire::Violation| {
        let error = link.broke_protocol(format_args!("the reply to '{channel}': {violation}"));
        link.violation(violation);
        error
    };
    if is_error {
        let record = ErrorRecord::decode(payload, limits).map_err(violated)?;
        return Err(failed(kind, channel, record));
    }
    wire::check(payload, limits, false).map_err(violated)?;
    wire::decode_value(payload).map_err(|error| {
        if error.is_malformed() {
            return violated(error.into());
        }
        Error::new(
            ErrorKind::BadReply,
            format!("the reply to '{channel}' is not of the type that was asked for: {error}"),
        )
        .with_source(error)
    })
}

/// A request of the peer's that wants an answer. Unanswered until its last event is dropped: then the caller learns that
/// the reply was never sent.
pub(crate) struct Request {
    pub(crate) link: Arc<Link>,
    pub(crate) id: u64,
    pub(crate) frame: u32,
    /// The caller is awake: the reply need not ring.
    quiet: bool,
    answered: AtomicBool,
    cancelled: AtomicBool,
    /// It runs as a task and is to be found by a cancellation.
    is_task: AtomicBool,
    /// Somebody else still held it when its handler or listeners returned.
    lives_on: AtomicBool,
    /// It has ended, and waits to serve again.
    is_spare: bool,
    /// Wakes the async handler, so that it sees its cancellation.
    task: Mutex<Option<Waker>>,
}

impl Request {
    /// A request; in the memory of one that has [ended](Self::end), if there is one.
    pub(crate) fn new(spare: Option<Arc<Self>>, link: &Arc<Link>, id: u64, frame: u32, quiet: bool) -> Arc<Self> {
        link.handles_request.store(true, Ordering::Relaxed);
        if let Some(mut spare) = spare
            && let Some(request) = Arc::get_mut(&mut spare)
        {
            if !Arc::ptr_eq(&request.link, link) {
                request.link = link.clone();
            }
            (request.id, request.frame, request.quiet, request.is_spare) = (id, frame, quiet, false);
            *request.answered.get_mut() = false;
            *request.cancelled.get_mut() = false;
            *request.is_task.get_mut() = false;
            *request.lives_on.get_mut() = false;
            return spare;
        }
        Arc::new(Self {
            link: link.clone(),
            id,
            frame,
            quiet,
            answered: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            is_task: AtomicBool::new(false),
            lives_on: AtomicBool::new(false),
            task: Mutex::new(None),
            is_spare: false,
        })
    }

    /// Ends a request that nobody else holds; its memory then serves the next one. Any other is counted as open.
    pub(crate) fn end(mut request: Arc<Self>) -> Option<Arc<Self>> {
        request.link.handles_request.store(false, Ordering::Relaxed);
        let Some(last) = Arc::get_mut(&mut request) else {
            // Before our own hold ends: whoever has the last one sees it.
            request.lives_on.store(true, Ordering::Relaxed);
            request.link.open_requests.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        last.conclude();
        last.is_spare = true;
        Some(request)
    }

    fn conclude(&mut self) {
        if *self.lives_on.get_mut() {
            self.link.open_requests.fetch_sub(1, Ordering::Relaxed);
        }
        if *self.is_task.get_mut() {
            let this = std::ptr::from_mut(self).cast_const();
            self.link.requests.lock().ended(self.id, |request| std::ptr::eq(request.as_ptr(), this));
        }
        if !*self.answered.get_mut() {
            self.fail(&record(REPLY_NEVER_SENT, "reply was never sent"));
        }
        let waker = self.task.get_mut().take();
        drop(waker);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) || self.link.is_lost()
    }

    /// The caller does not want the answer any more; the waker of the task that works on it, to be woken with nothing
    /// held.
    pub(crate) fn cancel(&self) -> Option<Waker> {
        self.cancelled.store(true, Ordering::Release);
        self.answered.store(true, Ordering::Release);
        self.task.lock().take()
    }

    /// Remembers the waker of the task; false if the request is cancelled.
    pub(crate) fn worked_on_by(&self, waker: &Waker) -> bool {
        let new = waker.clone();
        let old = self.task.lock().replace(new);
        drop(old);
        !self.is_cancelled()
    }

    /// The handler goes on as a task, which a cancellation must find. False: the peer used the id of a call that still
    /// runs; its link is cut.
    pub(crate) fn start(self: &Arc<Self>) -> bool {
        // Weak: a future that an executor drops must end the request.
        let started = self.link.requests.lock().started(self.id, self.frame, Arc::downgrade(self));
        if started.is_err() {
            self.link.violation(format_args!("it used the id of call {} again while that runs", self.id));
            return false;
        }
        self.is_task.store(true, Ordering::Relaxed);
        true
    }

    /// Whether this is the first answer, which counts.
    fn is_first(&self) -> bool {
        !self.answered.swap(true, Ordering::AcqRel)
    }

    /// Answers with a value. An answer that is not the first is ignored. A value that cannot travel is an error here and
    /// leaves the request unanswered.
    pub(crate) fn answer<T: Serialize + ?Sized>(&self, value: &T) -> Result<()> {
        self.answer_with(|out, limits| wire::encode_value(value, out, limits))
    }

    /// As [`answer`](Self::answer), with what `payload` writes.
    pub(crate) fn answer_with(
        &self,
        payload: impl FnOnce(&mut Vec<u8>, &wire::Limits) -> Result<(), wire::ValueError>,
    ) -> Result<()> {
        if self.answered.load(Ordering::Acquire) {
            return Ok(());
        }
        self.link.reply(Kind::Reply, self.id, self.quiet, payload, || self.is_first())
    }

    /// Answers with a failure.
    pub(crate) fn fail(&self, record: &ErrorRecord) {
        if self.is_first() {
            // The caller is gone if this fails, or was told already that there is no room.
            let payload = |out: &mut Vec<u8>, limits: &wire::Limits| {
                record.encode(out, limits);
                Ok(())
            };
            let _ = self.link.reply(Kind::ReplyError, self.id, self.quiet, payload, || true);
        }
    }

    /// Its handler panicked: the caller learns it, and whoever looks after this process.
    pub(crate) fn panicked(&self, channel: &str, text: &str) {
        self.fail(&record(HANDLER_PANICKED, text));
        let error = Error::new(ErrorKind::HandlerPanicked, format!("the handler of '{channel}' panicked: {text}"));
        self.link.engine.report(Some(self.link.id), Some(channel), error);
    }

    /// Answers with what a handler returned.
    pub(crate) fn settle<T: Serialize>(&self, result: Result<T, HandlerError>) {
        match result {
            Ok(value) => {
                if let Err(error) = self.answer(&value)
                    && error.is_misuse()
                {
                    self.fail(&record(HANDLER, &format!("the handler's result cannot be sent: {error}")));
                }
            }
            Err(error) => self.fail_with(error),
        }
    }

    /// Answers with a handler's failure.
    pub(crate) fn fail_with(&self, HandlerError(Remote { name, message, code, data }): HandlerError) {
        self.fail(&ErrorRecord { kind: HANDLER, name, message, code, data });
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.is_spare {
            self.conclude();
        }
    }
}
