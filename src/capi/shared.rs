//! What stands behind both kinds of handles: registrations by number, watchers, events that wait to be pulled.
#![allow(unsafe_code)]

use super::dispatch::Dispatched;
use super::event::{Answer, Payload, Place, ringmain_event, ringmain_event_type};
use super::registration::{Registration, ringmain_callback, ringmain_destroy};
use super::result::{Failure, Outcome, failure, put, ringmain_error, ringmain_result};
use super::value;
use crate::config::Budget;
use crate::driver::{ErrorReport, is_worth_logging};
use crate::error::{Error, Result};
use crate::invoke::Invoke;
use crate::sync::{Arc, AtomicU32, AtomicU64, Mutex, Ordering};
use crate::web_contents::Stats;
use crate::wire::{Args, TakenValue};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use ringmain_result::*;

/// Takes a registration out of the Rust handle.
type Undo = Box<dyn FnOnce() + Send>;

struct Registered {
    registration: Arc<Registration>,
    /// The frame that it belongs to; 0 is the handle's own.
    frame: u32,
    undo: Undo,
}

/// What a caller wants to be told.
#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) registration: Arc<Registration>,
    pub(super) channel: Arc<str>,
}

/// The caller's way to receive, as functions are given it.
pub(super) struct Way {
    pub(super) callback: ringmain_callback,
    pub(super) user: *mut c_void,
    pub(super) destroy: ringmain_destroy,
}

pub(super) struct Shared {
    /// Callbacks run where the caller polls; only then may events be pulled.
    manual: bool,
    events: Mutex<VecDeque<Arc<ringmain_event>>>,
    registered: Mutex<FxHashMap<u64, Registered>>,
    next: AtomicU64,
    watchers: Mutex<Vec<(u32, Arc<Registration>)>>,
    /// Hooks that the Rust handle has.
    hooked: AtomicU32,
    /// Errors that had no watcher, though the hook is there.
    logged: AtomicU64,
    /// Nothing is registered any more.
    over: Mutex<bool>,
}

impl Shared {
    pub(super) fn new(manual: bool) -> Arc<Self> {
        Arc::new(Self {
            manual,
            events: Mutex::default(),
            registered: Mutex::default(),
            next: AtomicU64::new(1),
            watchers: Mutex::default(),
            hooked: AtomicU32::new(0),
            logged: AtomicU64::new(0),
            over: Mutex::new(false),
        })
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Refuses what nobody would ever pull.
    pub(super) fn check_way(&self, way: &Way) -> Outcome {
        if way.callback.is_none() && !self.manual {
            return Err(failure(
                RINGMAIN_INVALID_CONFIG,
                "events are pulled by the thread that dispatches, and this handle has a thread of its own for that: give a \
                 callback, or take RINGMAIN_DISPATCH_MANUAL",
            ));
        }
        Ok(())
    }

    /// Registers; `register` does so with the Rust handle, and says how that is undone.
    ///
    /// # Safety
    ///
    /// `id` is null or may be written.
    pub(super) unsafe fn register(
        &self,
        frame: u32,
        way: Way,
        id: *mut u64,
        register: impl FnOnce(&Arc<Registration>) -> Outcome<Undo>,
    ) -> Outcome {
        self.check_way(&way)?;
        let registration = Registration::new(self.number(), way.callback, way.user, way.destroy);
        let tell_number = |number| {
            if !id.is_null() {
                // SAFETY: not null, and may be written.
                unsafe { id.write(number) };
            }
        };
        // Before anything can run with it: a callback may ask for its own number.
        tell_number(registration.id);
        let number = registration.id;
        let entry = Registered { registration: registration.clone(), frame, undo: Box::new(|| {}) };
        {
            let mut registered = self.registered.lock();
            // Set before `close` takes what is registered, so that nothing comes after.
            if *self.over.lock() {
                tell_number(0);
                return Err(failure(RINGMAIN_DISCONNECTED, "the renderer or main of this handle was freed"));
            }
            registered.insert(number, entry);
        }
        match register(&registration) {
            Ok(undo) => {
                let mut registered = self.registered.lock();
                match registered.get_mut(&number) {
                    Some(entry) => entry.undo = undo,
                    // One for a single message that has come already, or the handle is being freed.
                    None => {
                        drop(registered);
                        undo();
                    }
                }
                Ok(())
            }
            Err(failed) => {
                self.registered.lock().remove(&number);
                // Not ours to destroy: the function has failed, and the caller has it still.
                registration.abandon();
                tell_number(0);
                Err(failed)
            }
        }
    }

    /// Removes a registration, as a barrier.
    pub(super) fn remove(&self, id: u64) -> Outcome {
        let entry = self.registered.lock().remove(&id);
        let Some(Registered { registration, undo, .. }) = entry else {
            return Err(failure(RINGMAIN_NOT_REGISTERED, format!("there is no registration {id} (any more)")));
        };
        undo();
        registration.end();
        self.drop_events_of(&registration);
        Ok(())
    }

    fn drop_events_of(&self, registration: &Arc<Registration>) {
        let mut dropped = Vec::new();
        self.events.lock().retain(|event| {
            let stays = event.registration() != registration.id || registration.id == 0;
            if !stays {
                dropped.push(event.clone());
            }
            stays
        });
        // Unanswered calls say so now, with nothing held.
        drop(dropped);
    }

    /// A registration for a single message has had it.
    pub(super) fn has_run_once(&self, registration: &Arc<Registration>) {
        let entry = self.registered.lock().remove(&registration.id);
        if let Some(Registered { undo, .. }) = entry {
            undo();
            registration.end();
        }
    }

    /// Adds a watcher; what of `mask` is new to the handle.
    pub(super) fn watch(&self, mask: u32, registration: &Arc<Registration>) -> u32 {
        self.watchers.lock().push((mask, registration.clone()));
        mask & !self.hooked.fetch_or(mask, Ordering::AcqRel)
    }

    pub(super) fn unwatch(&self, id: u64) {
        let removed: Vec<_> = self.watchers.lock().extract_if(.., |(_, watcher)| watcher.id == id).collect();
        drop(removed);
    }

    fn watchers_of(&self, what: u32) -> Vec<Arc<Registration>> {
        let watchers = self.watchers.lock();
        watchers.iter().filter(|(mask, _)| mask & what != 0).map(|(_, watcher)| watcher.clone()).collect()
    }

    /// Tells all watchers; whether there were any.
    pub(super) fn tell(&self, what: u32, event: impl Fn(&Arc<Registration>) -> ringmain_event) -> bool {
        let watchers = self.watchers_of(what);
        for watcher in &watchers {
            self.deliver(watcher, event(watcher));
        }
        !watchers.is_empty()
    }

    /// Tells all watchers, or this one, of the end of a renderer's main: each once.
    pub(super) fn tell_end(
        &self,
        only: Option<&Arc<Registration>>,
        event: impl Fn(&Arc<Registration>) -> ringmain_event,
    ) {
        for watcher in self.watchers_of(super::RINGMAIN_WATCH_GONE) {
            if only.is_none_or(|only| Arc::ptr_eq(only, &watcher)) && watcher.is_told_the_end_now() {
                self.deliver(&watcher, event(&watcher));
            }
        }
    }

    /// An error that nobody waits for.
    pub(super) fn tell_error(&self, report: &ErrorReport) {
        let told = self.tell(super::RINGMAIN_WATCH_ERRORS, |watcher| {
            let place = Place { renderer: report.renderer.unwrap_or_default(), ..Place::default() };
            let channel = report.channel.as_deref().unwrap_or_default().into();
            let error = ringmain_error::of(report.error.kind().into(), report.error.to_string());
            ringmain_event::new(ringmain_event_type::RINGMAIN_EVENT_ERROR, watcher.id, place, channel).with_error(error)
        });
        if !told && is_worth_logging(self.logged.fetch_add(1, Ordering::Relaxed) + 1) {
            report.to_log();
        }
    }

    /// Runs the callback, or leaves the event to be pulled.
    pub(super) fn deliver(&self, registration: &Arc<Registration>, event: ringmain_event) {
        let event = Arc::new(event);
        if registration.is_pulled() {
            registration.unless_over(|| self.events.lock().push_back(event));
        } else {
            registration.run(&event);
        }
    }

    fn next_event(&self) -> Option<Arc<ringmain_event>> {
        self.events.lock().pop_front()
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.lock().is_empty()
    }

    /// A further frame is over, and with it what is registered there.
    pub(super) fn close_frame(&self, frame: u32) {
        let all: Vec<_> = {
            let mut registered = self.registered.lock();
            registered.extract_if(|_, entry| entry.frame == frame).map(|(_, entry)| entry).collect()
        };
        for Registered { registration, undo, .. } in all {
            undo();
            registration.end();
            self.drop_events_of(&registration);
        }
    }

    /// The end: nothing is called or pulled any more when this returns.
    pub(super) fn close(&self) {
        *self.over.lock() = true;
        let all: Vec<_> = self.registered.lock().drain().map(|(_, entry)| entry).collect();
        for Registered { registration, undo, .. } in all {
            undo();
            registration.end();
        }
        let events = std::mem::take(&mut *self.events.lock());
        drop(events);
    }

    /// Hands the answer of a call over when it comes. The number of the call.
    pub(super) fn answer_later(
        self: &Arc<Self>,
        way: Way,
        place: Place,
        channel: &str,
        call: Invoke<TakenValue>,
        spawn: impl FnOnce(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>),
        number: *mut u64,
    ) -> Outcome {
        self.check_way(&way)?;
        let call = call.sent()?;
        let id = self.number();
        if !number.is_null() {
            // SAFETY: not null, and the caller says that it may be written.
            unsafe { number.write(id) };
        }
        let registration = Registration::new(0, way.callback, way.user, way.destroy);
        let mut answering =
            Answering { shared: self.clone(), registration, place, channel: channel.into(), id, is_done: false };
        spawn(Box::pin(async move {
            let result = call.await;
            answering.deliver(result);
        }));
        Ok(())
    }
}

/// Delivers the answer of a call exactly once, also if its task is dropped.
struct Answering {
    shared: Arc<Shared>,
    registration: Arc<Registration>,
    place: Place,
    channel: Arc<str>,
    id: u64,
    is_done: bool,
}

impl Answering {
    fn deliver(&mut self, result: Result<TakenValue>) {
        if std::mem::replace(&mut self.is_done, true) {
            return;
        }
        let kind = ringmain_event_type::RINGMAIN_EVENT_REPLY;
        let mut event = ringmain_event::new(kind, 0, self.place, self.channel.clone()).of_call(self.id);
        event = match result {
            Ok(TakenValue(value)) => event.with_payload(Payload::Value(value)),
            Err(error) => event.with_error(*Failure::from(error)),
        };
        if !(self.registration.is_pulled() && *self.shared.over.lock()) {
            self.shared.deliver(&self.registration, event);
        }
        self.registration.end();
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let closed =
            || Error::new(crate::error::ErrorKind::Disconnected, "the handle was closed before the answer came");
        self.deliver(Err(closed()));
    }
}

pub(super) fn is_once(flags: u32) -> Outcome<bool> {
    match flags {
        0 => Ok(false),
        super::RINGMAIN_ONCE => Ok(true),
        _ => Err(failure(RINGMAIN_INVALID_CONFIG, format!("the flags are {flags}, which must be 0 or RINGMAIN_ONCE"))),
    }
}

pub(super) fn check_watch(what: u32, known: u32) -> Outcome {
    if what != 0 && what & !known == 0 {
        return Ok(());
    }
    Err(failure(RINGMAIN_INVALID_CONFIG, format!("{what:#x} is nothing that this handle can watch")))
}

/// Takes a watcher out of the list.
pub(super) fn unwatch(shared: &Arc<Shared>, registration: &Arc<Registration>) -> Undo {
    let (shared, id) = (Arc::downgrade(shared), registration.id);
    Box::new(move || {
        if let Some(shared) = shared.upgrade() {
            shared.unwatch(id);
        }
    })
}

/// A message with arguments as an event.
pub(super) fn message(
    kind: ringmain_event_type,
    to: &Receiver,
    place: Place,
    args: Args,
    answer: Answer,
) -> ringmain_event {
    ringmain_event::new(kind, to.registration.id, place, to.channel.clone())
        .with_payload(Payload::Args(args))
        .with_answer(answer)
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("manual", &self.manual).finish_non_exhaustive()
    }
}

// ---- what both kinds of handles do ----------------------------------------------------------------------------------

fn budget(max_messages: usize, max_time_ns: u64) -> Budget {
    Budget {
        messages: if max_messages == 0 { Budget::UNLIMITED.messages } else { max_messages },
        time: if max_time_ns == 0 { Budget::UNLIMITED.time } else { value::long_time(max_time_ns) },
    }
}

/// Events that wait to be pulled keep the descriptor readable, of which the engine knows nothing. Whether there are any.
pub(super) fn tell_of_events(handle: &impl Dispatched) -> bool {
    let has_events = handle.shared().has_events();
    if has_events {
        handle.ring_descriptor();
    }
    has_events
}

/// # Safety
///
/// `ran` and `more` are null or may be written.
pub(super) unsafe fn poll(
    handle: &impl Dispatched,
    max_messages: usize,
    max_time_ns: u64,
    ran: *mut usize,
    more: *mut bool,
) -> Outcome {
    let polled = handle.poll(budget(max_messages, max_time_ns))?;
    let has_events = tell_of_events(handle);
    // SAFETY: what is not null may be written.
    unsafe {
        if !ran.is_null() {
            ran.write(polled.ran);
        }
        if !more.is_null() {
            more.write(polled.more || has_events);
        }
    }
    Ok(())
}

/// Messages that `next_event` runs without an event coming of it: for callbacks, or for nobody.
const FRUITLESS: usize = 64;

/// # Safety
///
/// `event` is null or may be written.
pub(super) unsafe fn next_event(handle: &impl Dispatched, event: *mut *mut ringmain_event) -> Outcome {
    if event.is_null() {
        return Err(super::result::null("event"));
    }
    let mut found = handle.shared().next_event();
    for _ in 0..FRUITLESS {
        if found.is_some() {
            break;
        }
        let polled = handle.poll(Budget { messages: 1, ..Budget::UNLIMITED })?;
        found = handle.shared().next_event();
        if !polled.more {
            break;
        }
    }
    tell_of_events(handle);
    let pulled = found.map_or(std::ptr::null_mut(), |event| Arc::into_raw(event).cast_mut());
    // SAFETY: not null, and may be written.
    unsafe { put(event, pulled, "event") }
}

pub(super) fn wait(handle: &impl Dispatched, timeout_ns: u64) -> Outcome {
    if handle.shared().has_events() || handle.wait(value::time(timeout_ns))? {
        return Ok(());
    }
    Err(failure(RINGMAIN_TIMEOUT, "nothing has come within the time"))
}

/// # Safety
///
/// `fd` is null or may be written.
pub(super) unsafe fn fd(handle: &impl Dispatched, fd: *mut c_int) -> Outcome {
    let number = handle.as_fd()?.as_raw_fd();
    // SAFETY: as the caller says.
    unsafe { put(fd, number, "fd") }
}

pub(super) fn next_deadline(handle: &impl Dispatched) -> u64 {
    if handle.shared().has_events() {
        return 0;
    }
    let Some(deadline) = handle.next_deadline() else { return super::RINGMAIN_FOREVER };
    let left = deadline.saturating_duration_since(Instant::now());
    u64::try_from(left.as_nanos()).unwrap_or(super::RINGMAIN_FOREVER - 1)
}

/// How long freeing a handle waits for queues to drain.
pub(super) const FREE_TIMEOUT: Duration = Duration::from_secs(1);

/// Counters of one link at one moment. Begins as `RINGMAIN_STATS_INIT`. Sizes are in bytes and include the 24 bytes of a
/// message's header and its channel name.
#[repr(C)]
#[derive(Debug)]
pub struct ringmain_stats {
    /// `sizeof(ringmain_stats)`.
    pub struct_size: usize,
    /// Messages handed to the ring or its queue.
    pub messages_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Messages read from the ring.
    pub messages_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Bytes that wait in the queue because the ring is full.
    pub queued_bytes: u64,
    /// Sends refused because a limit was reached.
    pub refused_full: u64,
    /// Replies that came after their call was given up.
    pub late_replies: u64,
    /// Messages that had nobody to go to and were dropped.
    pub undeliverable: u64,
    /// Calls of ours that wait for an answer.
    pub pending_calls: u64,
    /// Requests of the other side's that have no answer yet.
    pub open_requests: u64,
}

const STATS_SIZE: usize = std::mem::offset_of!(ringmain_stats, open_requests) + size_of::<u64>();

/// # Safety
///
/// `to` is null or may be written for the size that it names.
pub(super) unsafe fn put_stats(to: *mut ringmain_stats, stats: Stats) -> Outcome {
    let stats = ringmain_stats {
        struct_size: size_of::<ringmain_stats>(),
        messages_sent: stats.messages_sent,
        bytes_sent: stats.bytes_sent,
        messages_received: stats.messages_received,
        bytes_received: stats.bytes_received,
        queued_bytes: stats.queued_bytes,
        refused_full: stats.refused_full,
        late_replies: stats.late_replies,
        undeliverable: stats.undeliverable,
        pending_calls: stats.pending_calls,
        open_requests: stats.open_requests,
    };
    // SAFETY: as the caller says; it is numbers.
    unsafe { value::put_sized(to, &stats, STATS_SIZE, "stats") }
}
