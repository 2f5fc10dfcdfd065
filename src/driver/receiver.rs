//! What `on` and `handle` register with: the listeners and the handlers of one emitter, be it a whole main, one renderer,
//! one frame.

use super::{Delivery, Engine, Handler, Listener, contain, contained, diagnose, panic_text, until_uncalled};
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Claim, EntryId, Registry, Removed, Snapshot, Where};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};
use crate::wire;
use parking_lot::MutexGuard;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;

/// Called when a listener is added or was removed.
pub(crate) type Notice = Arc<dyn Fn(&str, &ListenerId) + Send + Sync>;

#[derive(Default)]
struct Notices {
    added: Vec<Notice>,
    removed: Vec<Notice>,
}

/// The listeners and handlers of one emitter. No lock is held while code runs that is not ours.
pub(crate) struct Receiver {
    /// As Electron calls it, for the warning about leaks.
    name: &'static str,
    registry: Mutex<Registry<Listener, Handler>>,
    /// Rises with each change of the listeners, under the lock and before the change: a [`Recent`] snapshot is outdated.
    version: AtomicU64,
    notices: Mutex<Notices>,
    has_notices: AtomicBool,
    /// Nothing is called any more, so nothing is registered.
    over: AtomicBool,
    /// The process that made it.
    process: u32,
}

impl Receiver {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            registry: Mutex::new(Registry::new()),
            version: AtomicU64::new(0),
            notices: Mutex::default(),
            has_notices: AtomicBool::new(false),
            over: AtomicBool::new(false),
            process: std::process::id(),
        })
    }

    /// Whether it has ended: with its renderer, its frame or its main.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// From here on nothing is registered.
    pub(crate) fn close(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// The end: drops all that is registered, with nothing held.
    pub(crate) fn end(self: &Arc<Self>, engine: &Engine) {
        self.close();
        let (listeners, handlers) = {
            let mut registry = self.change();
            let names = registry.handler_names();
            let handlers: Vec<_> = names.iter().filter_map(|name| registry.remove_handler(name)).collect();
            (registry.remove_all_listeners(None), handlers)
        };
        let notices = std::mem::take(&mut *self.notices.lock());
        for removed in listeners {
            contain("the drop of a listener", || drop(removed), engine);
        }
        for handler in handlers {
            contain("the drop of a handler", || drop(handler), engine);
        }
        contain("the drop of a hook", || drop(notices), engine);
    }

    // ---- listeners ----------------------------------------------------------------------------------------------

    /// The registry, to change the listeners.
    fn change(&self) -> MutexGuard<'_, Registry<Listener, Handler>> {
        let registry = self.registry.lock();
        self.version.fetch_add(1, Ordering::Release);
        registry
    }

    fn id(self: &Arc<Self>, channel: &str, entry: EntryId) -> ListenerId {
        ListenerId { receiver: Arc::downgrade(self), channel: channel.into(), entry }
    }

    pub(crate) fn add(self: &Arc<Self>, channel: &str, listener: Listener, at: Where, once: bool) -> ListenerId {
        let entry = self.registry.lock().next_id();
        let id = self.id(channel, entry);
        self.notify(|notices| &notices.added, channel, &id);
        let added = self.change().add_listener(entry, channel, listener, at, once);
        if self.is_over() {
            // Nothing is called any more, and what it captured must not keep anything.
            let removed = self.change().remove_listener(channel, entry);
            drop(removed);
        } else if let Some(count) = added.leak_warning {
            let (name, most) = (self.name, self.max_listeners());
            diagnose(
                log::Level::Warn,
                format_args!(
                    "MaxListenersExceededWarning: Possible EventEmitter memory leak detected. {count} {channel} \
                     listeners added to [{name}]. MaxListeners is {most}. Use set_max_listeners() to increase limit"
                ),
            );
        }
        id
    }

    pub(crate) fn remove(self: &Arc<Self>, channel: &str, entry: EntryId) -> bool {
        let removed = self.change().remove_listener(channel, entry);
        let Some(listener) = removed else { return false };
        self.notify(|notices| &notices.removed, channel, &self.id(channel, entry));
        until_uncalled(&listener, self.process);
        drop(listener); // foreign code, with nothing held
        true
    }

    pub(crate) fn remove_all(self: &Arc<Self>, channel: Option<&str>) {
        let all = self.change().remove_all_listeners(channel);
        // A hook sees them gone, all of them: they leave together, so that no message finds some of them.
        for Removed { channel, id, listener } in all {
            self.notify(|notices| &notices.removed, &channel, &self.id(&channel, id));
            until_uncalled(&listener, self.process);
            drop(listener);
        }
    }

    pub(crate) fn listener_count(&self, channel: &str) -> usize {
        self.registry.lock().listener_count(channel)
    }

    pub(crate) fn listeners(self: &Arc<Self>, channel: &str) -> Vec<ListenerId> {
        let entries = self.registry.lock().listener_ids(channel);
        entries.into_iter().map(|entry| self.id(channel, entry)).collect()
    }

    pub(crate) fn event_names(&self) -> Vec<String> {
        self.registry.lock().event_names()
    }

    pub(crate) fn set_max_listeners(&self, max: usize) {
        self.registry.lock().set_max_listeners(max);
    }

    pub(crate) fn max_listeners(&self) -> usize {
        self.registry.lock().max_listeners()
    }

    // ---- notices ------------------------------------------------------------------------------------------------

    pub(crate) fn on_new_listener(&self, notice: Notice) {
        self.add_notice(|notices| &mut notices.added, notice);
    }

    pub(crate) fn on_remove_listener(&self, notice: Notice) {
        self.add_notice(|notices| &mut notices.removed, notice);
    }

    fn add_notice(&self, list: impl Fn(&mut Notices) -> &mut Vec<Notice>, notice: Notice) {
        let mut notices = self.notices.lock();
        // The end closes first and takes the notices under this lock then.
        if !self.is_over() {
            list(&mut notices).push(notice);
            self.has_notices.store(true, Ordering::Release);
        }
    }

    fn notify(&self, list: impl Fn(&Notices) -> &Vec<Notice>, channel: &str, id: &ListenerId) {
        if self.has_notices.load(Ordering::Acquire) {
            let notices = list(&self.notices.lock()).clone();
            notices.iter().for_each(|notice| notice(channel, id));
        }
    }

    // ---- handlers -----------------------------------------------------------------------------------------------

    pub(crate) fn set_handler(&self, channel: &str, handler: Handler, once: bool) -> Result<()> {
        let over = || Error::new(ErrorKind::Disconnected, format!("this {} is closed", self.name));
        if self.is_over() {
            return Err(over());
        }
        let refused = self.registry.lock().set_handler(channel, handler, once);
        // The refused one is dropped here, with nothing held.
        refused.map_err(|_handler| {
            Error::new(ErrorKind::DuplicateHandler, format!("Attempted to register a second handler for '{channel}'"))
        })?;
        if self.is_over() {
            self.remove_handler(channel);
            return Err(over());
        }
        Ok(())
    }

    pub(crate) fn remove_handler(&self, channel: &str) -> bool {
        let removed = self.registry.lock().remove_handler(channel);
        removed.inspect(|handler| until_uncalled(handler, self.process)).is_some()
    }

    /// Removes the handler of a channel if it is this one.
    #[cfg(feature = "capi")]
    pub(crate) fn remove_this_handler(&self, channel: &str, handler: &super::WeakHandler) -> bool {
        let is_it = |known: &Handler| std::ptr::addr_eq(Arc::as_ptr(known), handler.as_ptr());
        let removed = self.registry.lock().remove_handler_if(channel, is_it);
        removed.inspect(|handler| until_uncalled(handler, self.process)).is_some()
    }

    pub(crate) fn has_handler(&self, channel: &str) -> bool {
        self.registry.lock().has_handler(channel)
    }

    /// The handler for a call that starts now; one for a single call is unregistered by that.
    pub(super) fn handler(&self, channel: &str) -> Option<Handler> {
        self.registry.lock().take_or_get_handler(channel)
    }

    // ---- emitting -----------------------------------------------------------------------------------------------

    fn snapshot(&self, channel: &str) -> Option<Snapshot<Listener>> {
        self.registry.lock().snapshot(channel)
    }

    /// Runs the listeners that were there when the snapshot was taken. What a panic or arguments that do not fit leave
    /// is one of `errors`, and the next one runs: whoever drops the snapshot tells them to `on_error` after that, or removing
    /// one of these listeners would wait for the hook.
    fn run(
        self: &Arc<Self>,
        snapshot: &Snapshot<Listener>,
        event: &str,
        delivery: &Delivery<'_>,
        errors: &mut Vec<Error>,
    ) -> Result<(), wire::ValueError> {
        let channel = delivery.channel;
        for entry in snapshot.iter() {
            if entry.is_once() {
                let claim = self.change().claim(event, entry);
                match claim {
                    Claim::HasRun => continue,
                    Claim::Runs => {}
                    Claim::RunsRemoved => {
                        let id = self.id(event, entry.id());
                        errors
                            .extend(contained("a hook", || self.notify(|notices| &notices.removed, event, &id)).err());
                    }
                }
            }
            let listener = entry.listener();
            match catch_unwind(AssertUnwindSafe(|| listener(delivery))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.is_malformed() => return Err(error),
                Ok(Err(error)) => {
                    let text = format!("the arguments do not fit what a listener of '{channel}' takes: {error}");
                    errors.push(Error::new(ErrorKind::BadArguments, text));
                }
                Err(payload) => {
                    let text = format!("a listener of '{channel}' panicked: {}", panic_text(payload));
                    errors.push(Error::new(ErrorKind::HandlerPanicked, text));
                }
            }
        }
        Ok(())
    }

    /// As [`run`](Self::run), and drops the snapshot, which may hold the last reference to a listener.
    fn run_and_drop(
        self: &Arc<Self>,
        snapshot: Snapshot<Listener>,
        event: &str,
        delivery: &Delivery<'_>,
    ) -> Result<(), String> {
        let mut errors = Vec::new();
        let ran = self.run(&snapshot, event, delivery, &mut errors).map_err(|error| error.to_string());
        contain("the drop of a listener", || drop(snapshot), &delivery.link.engine);
        if !errors.is_empty() {
            report(errors, delivery);
        }
        ran
    }
}

/// Tells what listeners have left.
#[cold]
fn report(errors: Vec<Error>, delivery: &Delivery<'_>) {
    let engine = &delivery.link.engine;
    // Number 0 is nobody: this process has emitted the event itself.
    let (link, channel) = (Some(delivery.link.id).filter(|id| *id != 0), Some(delivery.channel));
    for error in errors {
        match delivery.is_local {
            // In the midst of whoever called `emit`.
            true => engine.report_later(link, channel, error),
            false => engine.report(link, channel, error),
        }
    }
}

/// The listeners of the channel that was emitted last, kept as long as messages on it follow each other in a link's turn:
/// such a run asks for them once. Nothing else that is foreign runs meanwhile, which might wait for what they captured.
#[derive(Default)]
pub(super) struct Recent {
    /// Its memory serves again.
    channel: String,
    kept: Option<(Arc<Receiver>, u64, Snapshot<Listener>)>,
}

impl Recent {
    /// Drops the listeners, which is foreign code if theirs is the last reference.
    pub(super) fn clear(&mut self, engine: &Engine) {
        if let Some(kept) = self.kept.take() {
            contain("the drop of a listener", || drop(kept), engine);
        }
    }

    /// As [`emit`] with one target, whose listeners are kept.
    pub(super) fn emit(&mut self, receiver: &Arc<Receiver>, delivery: &Delivery<'_>) -> Result<bool, String> {
        let channel = delivery.channel;
        // [listeners] Acquire: whoever has changed them has raised it first.
        let version = receiver.version.load(Ordering::Acquire);
        let is_current = self.channel == channel
            && matches!(&self.kept, Some((kept, at, _)) if *at == version && Arc::ptr_eq(kept, receiver));
        if !is_current {
            self.clear(&delivery.link.engine);
            self.channel.clear();
            self.channel.push_str(channel);
            self.kept = receiver.snapshot(channel).map(|snapshot| (receiver.clone(), version, snapshot));
        }
        let limits = &delivery.link.engine.wire_limits;
        wire::check_args(delivery.payload, limits, self.kept.is_none()).map_err(|error| error.to_string())?;
        let Some((_, _, snapshot)) = &self.kept else { return Ok(false) };
        let mut errors = Vec::new();
        let ran = receiver.run(snapshot, channel, delivery, &mut errors).map_err(|error| error.to_string());
        // One that has run its once, or removed another, must not keep it: what that captured is dropped now.
        if receiver.version.load(Ordering::Acquire) != version {
            self.clear(&delivery.link.engine);
        }
        if !errors.is_empty() {
            self.clear(&delivery.link.engine);
            report(errors, delivery);
        }
        ran.map(|()| true)
    }
}

/// An emitter, and the event of it that a message is.
pub(super) type Target<'a> = Option<(&'a Arc<Receiver>, &'a str)>;

/// Checks an argument list and runs the listeners of each receiver in turn. Whether there were any; an error is the
/// sender's violation.
pub(super) fn emit(targets: &[Target<'_>], delivery: &Delivery<'_>) -> Result<bool, String> {
    let limits = &delivery.link.engine.wire_limits;
    let mut rest = targets.iter().flatten();
    // The first that listens decodes, and validates all text by that; if nobody does, the check must.
    let first = rest.find_map(|(receiver, event)| Some((*receiver, *event, receiver.snapshot(event)?)));
    wire::check_args(delivery.payload, limits, first.is_none()).map_err(|error| error.to_string())?;
    let Some((receiver, event, snapshot)) = first else { return Ok(false) };
    receiver.run_and_drop(snapshot, event, delivery)?;
    for (receiver, event) in rest {
        if let Some(snapshot) = receiver.snapshot(event) {
            receiver.run_and_drop(snapshot, event, delivery)?;
        }
    }
    Ok(true)
}

/// Names one registered listener; what `on` and its kin return.
///
/// A cheap clone that keeps nothing alive. Ids are equal if they name the same registration.
///
/// ```
/// # use ringmain::IpcMain;
/// let ipc_main = IpcMain::new()?;
/// let id = ipc_main.on("progress", |_event, (percent,): (f64,)| println!("{percent} %"));
/// assert!(id.remove()); // or `ipc_main.remove_listener("progress", &id)`
/// assert!(!id.remove());
/// # Ok::<(), ringmain::Error>(())
/// ```
#[derive(Clone)]
pub struct ListenerId {
    receiver: Weak<Receiver>,
    channel: Arc<str>,
    entry: EntryId,
}

impl ListenerId {
    /// Removes the listener; false if it was removed already, or its emitter is gone. From any thread; runs the `Drop` of
    /// what the listener captured.
    ///
    /// A barrier: once it has returned `true`, the listener is not called any more. It waits for a message that is being
    /// delivered to the channel's listeners on another thread (so call it with no lock held that one of them takes). Inside a
    /// callback it does not wait: a message that is being delivered there still reaches the listener, as in Node, and nothing
    /// later does. One of `once` removes itself before it runs: then this says `false` and waits for nothing.
    pub fn remove(&self) -> bool {
        self.receiver.upgrade().is_some_and(|receiver| receiver.remove(&self.channel, self.entry))
    }

    /// A guard that removes the listener when it is dropped.
    ///
    /// ```
    /// # use ringmain::IpcMain;
    /// # let ipc_main = IpcMain::new()?;
    /// {
    ///     let _guard = ipc_main.on("progress", |_event, ()| ()).scoped();
    ///     assert_eq!(ipc_main.listener_count("progress"), 1);
    /// }
    /// assert_eq!(ipc_main.listener_count("progress"), 0);
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    pub fn scoped(self) -> ScopedListener {
        ScopedListener { id: self, is_kept: false }
    }

    /// The channel that the listener was registered on.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Whether it is one of this emitter and channel.
    pub(crate) fn of(&self, receiver: &Arc<Receiver>, channel: &str) -> Option<EntryId> {
        let is_its = std::ptr::eq(self.receiver.as_ptr(), Arc::as_ptr(receiver)) && *self.channel == *channel;
        is_its.then_some(self.entry)
    }
}

impl PartialEq for ListenerId {
    fn eq(&self, other: &Self) -> bool {
        // The allocation of an emitter that is gone is not used again as long as an id of it exists.
        self.entry == other.entry && self.receiver.ptr_eq(&other.receiver)
    }
}

impl Eq for ListenerId {}

impl Hash for ListenerId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entry.hash(state);
    }
}

impl fmt::Debug for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerId").field("channel", &self.channel).field("entry", &self.entry).finish()
    }
}

/// Removes its listener when it is dropped: see [`ListenerId::scoped`].
#[must_use = "dropping it removes the listener at once"]
#[derive(Debug)]
pub struct ScopedListener {
    id: ListenerId,
    is_kept: bool,
}

impl ScopedListener {
    /// The listener stays; its id, to be removed by hand.
    pub fn keep(mut self) -> ListenerId {
        self.is_kept = true;
        self.id.clone()
    }
}

impl Drop for ScopedListener {
    fn drop(&mut self) {
        if !self.is_kept {
            self.id.remove();
        }
    }
}
