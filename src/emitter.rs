//! What both sides' handles have in common: they are EventEmitters.

use crate::driver::{Delivery, Engine, Listener};
use crate::registry::{ListenerId, Where};
use crate::sync::Arc;
use crate::wire::{self, FromArgs};
use std::io::Write;

/// Erases a listener's types. The return value is ignored, as in Electron.
pub(crate) fn listener<E, A, R, F>(event: fn(&Delivery<'_>) -> E, run: F) -> Listener
where
    E: 'static,
    A: FromArgs + 'static,
    R: 'static,
    F: Fn(&E, A) -> R + Send + Sync + 'static,
{
    Arc::new(move |delivery: &Delivery<'_>| {
        let args = wire::decode_args::<A>(delivery.payload)?;
        run(&event(delivery), args);
        Ok(())
    })
}

pub(crate) fn add(engine: &Engine, channel: &str, listener: Listener, at: Where, once: bool) -> ListenerId {
    let added = engine.registry.lock().add_listener(channel, listener, at, once);
    if engine.is_stopping() {
        // Nothing is called any more, and what it captured must not keep the engine.
        remove(engine, channel, added.id);
    }
    if let Some(count) = added.leak_warning {
        let most = engine.registry.lock().max_listeners();
        let _ = writeln!(
            std::io::stderr(),
            "ringmain: possible EventEmitter memory leak detected. {count} {channel} listeners added, the limit is \
             {most}. Use set_max_listeners to raise it"
        );
    }
    added.id
}

pub(crate) fn remove(engine: &Engine, channel: &str, id: ListenerId) -> bool {
    // Dropped after the lock: what it captured is foreign code.
    let removed = engine.registry.lock().remove_listener(channel, id);
    removed.is_some()
}

pub(crate) fn remove_all(engine: &Engine, channel: Option<&str>) {
    let removed = engine.registry.lock().remove_all_listeners(channel);
    drop(removed);
}

/// The methods of an emitter.
macro_rules! emitter_methods {
    ($event:ty) => {
        /// Calls `listener` for each message on `channel`, after those added before.
        ///
        /// Listeners run one at a time on the dispatcher thread and may call every method of this crate, their own
        /// removal included. One that panics is reported to `on_error`; later ones still run. Arguments that do not fit
        /// `A` are reported to `on_error`, and the listener is not called. What the closure returns is ignored.
        pub fn on<A, R, F>(&self, channel: &str, listener: F) -> ListenerId
        where
            A: FromArgs + 'static,
            R: 'static,
            F: Fn(&$event, A) -> R + Send + Sync + 'static,
        {
            self.add(channel, crate::emitter::listener(<$event>::new, listener), Where::Back, false)
        }

        /// As [`on`](Self::on), for the next message alone: removed before it is called.
        pub fn once<A, R, F>(&self, channel: &str, listener: F) -> ListenerId
        where
            A: FromArgs + 'static,
            R: 'static,
            F: Fn(&$event, A) -> R + Send + Sync + 'static,
        {
            self.add(channel, crate::emitter::listener(<$event>::new, listener), Where::Back, true)
        }

        /// As [`on`](Self::on), before those added so far.
        pub fn prepend_listener<A, R, F>(&self, channel: &str, listener: F) -> ListenerId
        where
            A: FromArgs + 'static,
            R: 'static,
            F: Fn(&$event, A) -> R + Send + Sync + 'static,
        {
            self.add(channel, crate::emitter::listener(<$event>::new, listener), Where::Front, false)
        }

        /// As [`once`](Self::once), before those added so far.
        pub fn prepend_once_listener<A, R, F>(&self, channel: &str, listener: F) -> ListenerId
        where
            A: FromArgs + 'static,
            R: 'static,
            F: Fn(&$event, A) -> R + Send + Sync + 'static,
        {
            self.add(channel, crate::emitter::listener(<$event>::new, listener), Where::Front, true)
        }

        fn add(&self, channel: &str, listener: crate::driver::Listener, at: Where, once: bool) -> ListenerId {
            crate::emitter::add(&self.engine, channel, listener, at, once)
        }

        /// Removes one listener; false if there is none of this id on the channel. A message that is being delivered
        /// still reaches it, as in Node.
        pub fn remove_listener(&self, channel: &str, id: ListenerId) -> bool {
            crate::emitter::remove(&self.engine, channel, id)
        }

        /// Removes all listeners of one channel, or with `None` of all channels. Handlers stay.
        pub fn remove_all_listeners(&self, channel: Option<&str>) {
            crate::emitter::remove_all(&self.engine, channel);
        }

        /// How many listeners a channel has. Other threads may change that at any time.
        pub fn listener_count(&self, channel: &str) -> usize {
            self.engine.registry.lock().listener_count(channel)
        }

        /// The channels that have listeners, in the order in which they got their first. Other threads may change that
        /// at any time.
        pub fn event_names(&self) -> Vec<String> {
            self.engine.registry.lock().event_names()
        }

        /// From how many listeners of one channel on a leak is suspected and said once, on stderr. Default 10; 0: never.
        pub fn set_max_listeners(&self, max: usize) {
            self.engine.registry.lock().set_max_listeners(max);
        }
    };
}
pub(crate) use emitter_methods;
