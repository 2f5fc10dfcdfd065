//! Which listeners and which handler a channel has: Node's `EventEmitter` rules as a plain data structure.
//!
//! The registry calls nobody. The driver keeps it under a lock, takes a [`Snapshot`] there, and runs the listeners with
//! the lock released, [claiming](Registry::claim) each once-listener under the lock just before it would run:
//!
//! ```text
//! let snapshot = registry.lock().snapshot(channel);           // None: nobody listens
//! for entry in snapshot.iter() {
//!     if entry.is_once() && registry.lock().claim(channel, entry) == HasRun { continue }
//!     entry.listener()(..)                                    // no lock held
//! }
//! ```
//!
//! So an emit calls exactly those that listened when it began, whatever is added or removed meanwhile, and a
//! once-listener runs at most once over all emits, nested or concurrent. Callables that leave the registry are handed
//! back, so that the code in their `Drop` never runs under the driver's lock either.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use rustc_hash::FxHashMap;
use std::{
    num::NonZeroU64,
    ops::Deref,
    sync::{Arc, Weak},
};

/// Names one registered listener, together with its registry and channel. Never used twice by one registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EntryId(NonZeroU64);

/// Where [`Registry::add_listener`] puts a listener among those of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// After all others (`on`, `once`).
    Back,
    /// Before all others (`prepend_listener`, `prepend_once_listener`).
    Front,
}

/// What [`Registry::add_listener`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Added {
    /// The number of listeners that the channel has now, if that exceeds the limit for the first time since the channel
    /// was last without listeners. Only a warning: the listener has been added.
    pub(crate) leak_warning: Option<usize>,
}

/// One listener of a channel, as a [`Snapshot`] shows it.
#[derive(Clone, Debug)]
pub(crate) struct Entry<L> {
    id: EntryId,
    listener: L,
    /// Of once-listeners only. A removed once-listener may still be run by the emits that already hold it; the number
    /// of tokens left tells whether there is any.
    once: Option<Arc<()>>,
}

/// A listener that has left the registry.
#[derive(Debug)]
pub(crate) struct Removed<L> {
    pub(crate) channel: Box<str>,
    pub(crate) id: EntryId,
    /// Foreign code runs when it is dropped.
    pub(crate) listener: L,
}

impl<L> Entry<L> {
    pub(crate) fn id(&self) -> EntryId {
        self.id
    }

    pub(crate) fn listener(&self) -> &L {
        &self.listener
    }

    /// Whether [`Registry::claim`] must be asked before the listener runs.
    pub(crate) fn is_once(&self) -> bool {
        self.once.is_some()
    }
}

/// The listeners of a channel, in order, at the time of the [`Registry::snapshot`]; never empty. It shares the
/// registry's own list until that is changed, so taking one allocates nothing.
///
/// It may hold the last reference to a listener that was removed meanwhile: drop it with no lock held.
#[derive(Debug)]
pub(crate) struct Snapshot<L>(Arc<Vec<Entry<L>>>);

impl<L> Deref for Snapshot<L> {
    type Target = [Entry<L>];

    fn deref(&self) -> &[Entry<L>] {
        &self.0
    }
}

/// What [`Registry::claim`] says of a listener that is about to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Runs,
    /// It runs, and was removed by that.
    RunsRemoved,
    /// A once-listener that has run already.
    HasRun,
}

/// The listeners of one channel: an entry of the map exists only while there is at least one.
#[derive(Debug)]
struct Channel<L> {
    listeners: Arc<Vec<Entry<L>>>,
    /// Position in `event_names`.
    sequence: u64,
    warned: bool,
}

#[derive(Debug)]
struct Handler<H> {
    handler: H,
    sequence: u64,
    once: bool,
}

/// Channel → listeners in order, and at most one handler. See the [module](self).
///
/// The hash needs no secret: peers look names up, but only this process puts any in.
#[derive(Debug)]
pub(crate) struct Registry<L, H> {
    channels: FxHashMap<Box<str>, Channel<L>>,
    handlers: FxHashMap<Box<str>, Handler<H>>,
    /// Once-listeners that were removed before they ran, while an emit held them: it still runs them, once.
    orphans: FxHashMap<EntryId, Weak<()>>,
    /// When `orphans` has grown to this, those whose emits are over are dropped.
    prune_at: usize,
    /// The next listener id, and the clock that orders channels and handlers.
    next: NonZeroU64,
    max_listeners: usize,
}

const DEFAULT_MAX_LISTENERS: usize = 10;
const MIN_PRUNE_AT: usize = 16;

impl<L: Clone, H: Clone> Registry<L, H> {
    pub(crate) fn new() -> Self {
        Self {
            channels: FxHashMap::default(),
            handlers: FxHashMap::default(),
            orphans: FxHashMap::default(),
            prune_at: MIN_PRUNE_AT,
            next: NonZeroU64::MIN,
            max_listeners: DEFAULT_MAX_LISTENERS,
        }
    }

    /// A name for a listener that is about to be added.
    pub(crate) fn next_id(&mut self) -> EntryId {
        EntryId(self.tick())
    }

    /// Each call is one registration: the same callable added twice runs twice.
    pub(crate) fn add_listener(&mut self, id: EntryId, channel: &str, listener: L, at: Where, once: bool) -> Added {
        let sequence = self.tick().get();
        let entry = Entry { id, listener, once: once.then(|| Arc::new(())) };
        let Some(known) = self.channels.get_mut(channel) else {
            let listeners = Arc::new(vec![entry]);
            self.channels.insert(channel.into(), Channel { listeners, sequence, warned: false });
            return Added { leak_warning: None };
        };
        let listeners = Arc::make_mut(&mut known.listeners);
        match at {
            Where::Back => listeners.push(entry),
            Where::Front => listeners.insert(0, entry),
        }
        let count = listeners.len();
        let leaks = self.max_listeners != 0 && count > self.max_listeners && !known.warned;
        known.warned |= leaks;
        Added { leak_warning: leaks.then_some(count) }
    }

    /// Removes one registration. An unknown id, or one of another channel, is a no-op, as in Node.
    pub(crate) fn remove_listener(&mut self, channel: &str, id: EntryId) -> Option<L> {
        let entry = self.unlist(channel, id)?;
        Some(self.retire(entry))
    }

    /// Removes all listeners of one channel, or of every channel; handlers stay. As in Node those of a channel come in
    /// the reverse order of theirs; channels in that of [`event_names`](Self::event_names).
    pub(crate) fn remove_all_listeners(&mut self, channel: Option<&str>) -> Vec<Removed<L>> {
        let mut removed: Vec<(Box<str>, Channel<L>)> = match channel {
            Some(channel) => self.channels.remove_entry(channel).into_iter().collect(),
            None => std::mem::take(&mut self.channels).into_iter().collect(),
        };
        removed.sort_unstable_by_key(|(_, channel)| channel.sequence);
        let mut all = Vec::new();
        for (channel, removed) in removed {
            for entry in Arc::unwrap_or_clone(removed.listeners).into_iter().rev() {
                all.push(Removed { channel: channel.clone(), id: entry.id, listener: self.retire(entry) });
            }
        }
        all
    }

    /// The listeners of a channel, in their order.
    pub(crate) fn listener_ids(&self, channel: &str) -> Vec<EntryId> {
        let listeners = self.channels.get(channel).map(|channel| &channel.listeners[..]).unwrap_or_default();
        listeners.iter().map(|entry| entry.id).collect()
    }

    pub(crate) fn listener_count(&self, channel: &str) -> usize {
        self.channels.get(channel).map_or(0, |channel| channel.listeners.len())
    }

    /// The channels that have listeners, in the order in which each got its first one. A channel that lost all of them
    /// starts afresh.
    pub(crate) fn event_names(&self) -> Vec<String> {
        in_order(self.channels.iter().map(|(name, channel)| (channel.sequence, name)))
    }

    /// From how many listeners of one channel on `add_listener` suspects a leak; 0: never. Ten by default.
    pub(crate) fn set_max_listeners(&mut self, max: usize) {
        self.max_listeners = max;
    }

    pub(crate) fn max_listeners(&self) -> usize {
        self.max_listeners
    }

    /// The listeners that an emit on `channel` beginning now has to call; `None` if there are none.
    pub(crate) fn snapshot(&self, channel: &str) -> Option<Snapshot<L>> {
        self.channels.get(channel).map(|channel| Snapshot(Arc::clone(&channel.listeners)))
    }

    /// To be asked just before `entry`, out of a snapshot of `channel`, runs: whether it may. For a once-listener that
    /// is true the first time only, and it is removed by that. One that was removed by hand after the snapshot was
    /// taken still runs, as in Node, where the wrapper of `once` remembers whether it has fired and not whether it is
    /// still registered.
    #[must_use]
    pub(crate) fn claim(&mut self, channel: &str, entry: &Entry<L>) -> Claim {
        // What `unlist` returns is dropped here without harm: the caller's `entry` keeps the listener alive.
        if !entry.is_once() {
            Claim::Runs
        } else if self.unlist(channel, entry.id).is_some() {
            Claim::RunsRemoved
        } else if self.orphans.remove(&entry.id).is_some() {
            Claim::Runs
        } else {
            Claim::HasRun
        }
    }

    pub(crate) fn has_handler(&self, channel: &str) -> bool {
        self.handlers.contains_key(channel)
    }

    /// Registers the handler of a channel; it comes back if the channel has one already, which stays.
    pub(crate) fn set_handler(&mut self, channel: &str, handler: H, once: bool) -> Result<(), H> {
        if self.handlers.contains_key(channel) {
            return Err(handler);
        }
        let sequence = self.tick().get();
        self.handlers.insert(channel.into(), Handler { handler, sequence, once });
        Ok(())
    }

    /// The handler for a call that starts now. One for a single call is unregistered by this, before it runs.
    pub(crate) fn take_or_get_handler(&mut self, channel: &str) -> Option<H> {
        let Handler { handler, once, .. } = self.handlers.get(channel)?;
        if *once { self.remove_handler(channel) } else { Some(handler.clone()) }
    }

    /// Calls that have started keep their own clone and go on.
    pub(crate) fn remove_handler(&mut self, channel: &str) -> Option<H> {
        self.handlers.remove(channel).map(|removed| removed.handler)
    }

    /// The same, if it is the one that is meant.
    #[cfg(feature = "capi")]
    pub(crate) fn remove_handler_if(&mut self, channel: &str, is_it: impl FnOnce(&H) -> bool) -> Option<H> {
        is_it(&self.handlers.get(channel)?.handler).then(|| self.remove_handler(channel)).flatten()
    }

    /// The channels that have a handler, in the order of registration.
    pub(crate) fn handler_names(&self) -> Vec<String> {
        in_order(self.handlers.iter().map(|(name, handler)| (handler.sequence, name)))
    }

    fn tick(&mut self) -> NonZeroU64 {
        let now = self.next;
        // 2^64 registrations do not happen; saturating only avoids the panic path.
        self.next = now.saturating_add(1);
        now
    }

    fn unlist(&mut self, channel: &str, id: EntryId) -> Option<Entry<L>> {
        let known = self.channels.get_mut(channel)?;
        let position = known.listeners.iter().position(|entry| entry.id == id)?;
        if known.listeners.len() > 1 {
            return Some(Arc::make_mut(&mut known.listeners).remove(position));
        }
        let emptied = self.channels.remove(channel)?;
        Arc::unwrap_or_clone(emptied.listeners).pop()
    }

    /// Takes leave of an entry that is removed without having run.
    fn retire(&mut self, entry: Entry<L>) -> L {
        let Entry { id, listener, once } = entry;
        if let Some(token) = once {
            let held = Arc::downgrade(&token);
            drop(token);
            if held.strong_count() > 0 {
                if self.orphans.len() >= self.prune_at {
                    self.orphans.retain(|_, held| held.strong_count() > 0);
                    self.prune_at = (2 * self.orphans.len()).max(MIN_PRUNE_AT);
                }
                self.orphans.insert(id, held);
            }
        }
        listener
    }
}

fn in_order<'a>(names: impl Iterator<Item = (u64, &'a Box<str>)>) -> Vec<String> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.into_iter().map(|(_, name)| name.to_string()).collect()
}
