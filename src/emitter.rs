//! What the handles have in common: they are EventEmitters, and they have handlers.

use crate::driver::{CatchPanic, Delivery, Handler, Listener, ListenerId, Receiver, Request, panic_text};
use crate::error::HandlerError;
use crate::registry::Where;
use crate::sync::Arc;
use crate::wire::{self, FromArgs};
use serde::Serialize;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// Erases the types of a listener that is shown every message, whatever its channel.
pub(crate) fn any_channel_listener<E, R, F>(event: fn(&Delivery<'_>) -> E, run: F) -> Listener
where
    E: 'static,
    R: 'static,
    F: Fn(&E, &str, wire::Args) -> R + Send + Sync + 'static,
{
    Arc::new(move |delivery: &Delivery<'_>| {
        let args = wire::decode_args::<wire::Args>(delivery.payload)?;
        run(&event(delivery), delivery.channel, args);
        Ok(())
    })
}

/// Erases a handler's types.
pub(crate) fn sync_handler<E, A, R, F>(event: fn(&Arc<Request>) -> E, handler: F) -> Handler
where
    E: 'static,
    A: FromArgs + 'static,
    R: Serialize + 'static,
    F: Fn(&E, A) -> Result<R, HandlerError> + Send + Sync + 'static,
{
    Arc::new(move |request: &Arc<Request>, payload: &[u8]| {
        let args = wire::decode_args::<A>(payload)?;
        request.settle(handler(&event(request), args));
        Ok(())
    })
}

/// Erases the types of a handler that answers by a future.
pub(crate) fn async_handler<E, A, R, F, Fut>(channel: &str, event: fn(&Arc<Request>) -> E, handler: F) -> Handler
where
    E: 'static,
    A: FromArgs + 'static,
    R: Serialize + 'static,
    F: Fn(E, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, HandlerError>> + Send + 'static,
{
    let channel: Arc<str> = channel.into();
    Arc::new(move |request: &Arc<Request>, payload: &[u8]| {
        let args = wire::decode_args::<A>(payload)?;
        let future = handler(event(request), args);
        if !request.start() {
            return Ok(()); // the id is in use: the link was cut
        }
        let (request, channel) = (request.clone(), channel.clone());
        let engine = request.link.engine.clone();
        engine.spawn(async move {
            match CatchPanic::new(future, request.clone()).await {
                Some(Ok(result)) => {
                    // `Serialize` and `Drop` of the result are the user's code.
                    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| request.settle(result))) {
                        request.panicked(&channel, &panic_text(payload));
                    }
                }
                Some(Err(text)) => request.panicked(&channel, &text),
                None => {}
            }
        });
        Ok(())
    })
}

/// Erases a handler that answers whenever it likes, by what it is given.
#[cfg(feature = "capi")]
pub(crate) fn deferred_handler(
    handler: impl Fn(crate::event::Deferred, wire::Args) + Send + Sync + 'static,
) -> Handler {
    Arc::new(move |request: &Arc<Request>, payload: &[u8]| {
        let args = wire::decode_args::<wire::Args>(payload)?;
        if request.start() {
            handler(crate::event::Deferred::new(request), args);
        }
        Ok(())
    })
}

/// Adds a listener whose types are known.
pub(crate) fn add<E, A, R, F>(
    receiver: &Arc<Receiver>,
    event: fn(&Delivery<'_>) -> E,
    channel: &str,
    run: F,
    at: Where,
    once: bool,
) -> ListenerId
where
    E: 'static,
    A: FromArgs + 'static,
    R: 'static,
    F: Fn(&E, A) -> R + Send + Sync + 'static,
{
    receiver.add(channel, listener(event, run), at, once)
}

/// The methods of an emitter. The type has `emitter(&self) -> &Arc<Receiver>` and `here(&self) -> (Arc<Link>, u32)`.
macro_rules! emitter_methods {
    ($event:ty) => {
        /// Calls `listener` for each message on `channel`, after those added before.
        ///
        /// Listeners run one at a time on the dispatcher thread and may call every method of this crate, their own
        /// removal included. Those of one emitter run in the order of their registration, for messages in the order in
        /// which they were sent. One that panics is reported to `on_error`; later ones still run. Arguments that do not
        /// fit `A` are reported to `on_error`, and the listener is not called. What the closure returns is ignored.
        ///
        /// From any thread; never blocks. The [`ListenerId`] removes the listener, by hand or as a guard.
        ///
        /// What is no function does not compile:
        ///
        /// ```compile_fail,E0277
        /// # fn on(ipc_main: &ringmain::IpcMain) {
        /// ipc_main.on::<(), (), _>("x", "no function");
        /// # }
        /// ```
        pub fn on<A, R, F>(&self, channel: &str, listener: F) -> ListenerId
        where
            A: FromArgs + 'static,
            R: 'static,
            F: Fn(&$event, A) -> R + Send + Sync + 'static,
        {
            crate::emitter::add(self.emitter(), <$event>::new, channel, listener, Where::Back, false)
        }

        /// As [`on`](Self::on), for the next message alone: removed before it is called.
        pub fn once<A, R, F>(&self, channel: &str, listener: F) -> ListenerId
        where
            A: FromArgs + 'static,
            R: 'static,
            F: Fn(&$event, A) -> R + Send + Sync + 'static,
        {
            crate::emitter::add(self.emitter(), <$event>::new, channel, listener, Where::Back, true)
        }

        /// As [`on`](Self::on), before those added so far.
        pub fn prepend_listener<A, R, F>(&self, channel: &str, listener: F) -> ListenerId
        where
            A: FromArgs + 'static,
            R: 'static,
            F: Fn(&$event, A) -> R + Send + Sync + 'static,
        {
            crate::emitter::add(self.emitter(), <$event>::new, channel, listener, Where::Front, false)
        }

        /// As [`once`](Self::once), before those added so far.
        pub fn prepend_once_listener<A, R, F>(&self, channel: &str, listener: F) -> ListenerId
        where
            A: FromArgs + 'static,
            R: 'static,
            F: Fn(&$event, A) -> R + Send + Sync + 'static,
        {
            crate::emitter::add(self.emitter(), <$event>::new, channel, listener, Where::Front, true)
        }

        /// Removes one listener; false if there is none of this id on the channel of this emitter. A barrier, as
        /// [`ListenerId::remove`]: waits for a call of it that runs on another thread.
        pub fn remove_listener(&self, channel: &str, id: &ListenerId) -> bool {
            let entry = id.of(self.emitter(), channel);
            entry.is_some_and(|entry| self.emitter().remove(channel, entry))
        }

        /// Removes all listeners of one channel, or with `None` of all channels. Handlers stay. A barrier, as
        /// [`ListenerId::remove`].
        pub fn remove_all_listeners(&self, channel: Option<&str>) {
            self.emitter().remove_all(channel);
        }

        /// How many listeners a channel has. Other threads may change that at any time.
        pub fn listener_count(&self, channel: &str) -> usize {
            self.emitter().listener_count(channel)
        }

        /// The listeners of a channel, in the order in which they run. Other threads may change that at any time.
        pub fn listeners(&self, channel: &str) -> Vec<ListenerId> {
            self.emitter().listeners(channel)
        }

        /// The channels that have listeners, in the order in which they got their first. Other threads may change that
        /// at any time.
        pub fn event_names(&self) -> Vec<String> {
            self.emitter().event_names()
        }

        /// From how many listeners of one channel on a leak is suspected and said, once a channel: by `log::warn!`, or
        /// on stderr where no logger is installed. It is only a warning. Default 10; 0: never.
        pub fn set_max_listeners(&self, max: usize) {
            self.emitter().set_max_listeners(max);
        }

        /// What [`set_max_listeners`](Self::set_max_listeners) has set.
        pub fn max_listeners(&self) -> usize {
            self.emitter().max_listeners()
        }

        /// Calls the listeners of `channel` **on this thread**, one after the other, before it returns; nothing is sent.
        /// Whether there were any. A listener may emit in turn: the inner one runs to its end first.
        ///
        /// Their event says [`is_local`](crate::IpcMainEvent::is_local), so that it is not taken for a message of
        /// another process; what it sends in reply goes nowhere. The dispatcher may run a listener at the same time.
        ///
        /// Allocates the encoded arguments.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::InvalidValue`](crate::ErrorKind::InvalidValue), as `send`; nothing was called.
        pub fn emit<A: crate::wire::IntoArgs>(&self, channel: &str, args: A) -> crate::error::Result<bool> {
            let (link, frame) = self.here();
            link.engine.emit_local(&link, frame, self.emitter(), channel, &args)
        }

        /// Calls `hook` with channel and id when a listener is about to be added: Node's `newListener`, but no channel
        /// that a message could name. On the thread that adds, with nothing held; a listener that the hook itself adds
        /// comes before the new one.
        pub fn on_new_listener(&self, hook: impl Fn(&str, &ListenerId) + Send + Sync + 'static) {
            self.emitter().on_new_listener(std::sync::Arc::new(hook));
        }

        /// Calls `hook` with channel and id when a listener was removed: Node's `removeListener`. On the thread that
        /// removes; for one of `once`, which is removed as it runs, on the thread that runs it. Nothing is held.
        pub fn on_remove_listener(&self, hook: impl Fn(&str, &ListenerId) + Send + Sync + 'static) {
            self.emitter().on_remove_listener(std::sync::Arc::new(hook));
        }
    };
}

/// The methods of what has handlers. The type has `emitter(&self) -> &Arc<Receiver>`.
macro_rules! handler_methods {
    ($event:ty) => {
        /// Answers `invoke` on `channel` with what `handler` returns. It runs on the dispatcher thread, one at a time
        /// and in the order of arrival, so one that takes long holds up everybody: see
        /// [`handle_async`](Self::handle_async).
        ///
        /// `?` works in it with every `std::error::Error`; see [`HandlerError`](crate::HandlerError). A panic reaches
        /// the caller as [`ErrorKind::HandlerPanicked`](crate::ErrorKind::HandlerPanicked), arguments that do not fit as
        /// [`ErrorKind::BadArguments`](crate::ErrorKind::BadArguments).
        ///
        /// # Errors
        ///
        /// [`ErrorKind::DuplicateHandler`](crate::ErrorKind::DuplicateHandler) if the channel has a handler; that one
        /// stays. [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) if nothing can call it any more.
        pub fn handle<A, R, F>(&self, channel: &str, handler: F) -> crate::error::Result<()>
        where
            A: FromArgs + 'static,
            R: serde::Serialize + 'static,
            F: Fn(&$event, A) -> Result<R, crate::error::HandlerError> + Send + Sync + 'static,
        {
            self.emitter().set_handler(channel, crate::emitter::sync_handler(<$event>::new, handler), false)
        }

        /// As [`handle`](Self::handle), for one call: unregistered before it runs, so of two queued calls the second
        /// finds no handler.
        ///
        /// # Errors
        ///
        /// As [`handle`](Self::handle).
        pub fn handle_once<A, R, F>(&self, channel: &str, handler: F) -> crate::error::Result<()>
        where
            A: FromArgs + 'static,
            R: serde::Serialize + 'static,
            F: Fn(&$event, A) -> Result<R, crate::error::HandlerError> + Send + Sync + 'static,
        {
            self.emitter().set_handler(channel, crate::emitter::sync_handler(<$event>::new, handler), true)
        }

        /// Answers `invoke` on `channel` with what the future returns. Handlers start in the order of arrival and reply
        /// in the order of completion.
        ///
        /// The future is polled on the dispatcher thread unless the builder was given an `executor`, which types of
        /// tokio need. It is dropped at its next await when its caller cancels. In it, `.await` calls; a `block_on`
        /// around one blocks the dispatcher, which has to read the answer.
        ///
        /// # Errors
        ///
        /// As [`handle`](Self::handle).
        pub fn handle_async<A, R, F, Fut>(&self, channel: &str, handler: F) -> crate::error::Result<()>
        where
            A: FromArgs + 'static,
            R: serde::Serialize + 'static,
            F: Fn($event, A) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<R, crate::error::HandlerError>> + Send + 'static,
        {
            self.emitter().set_handler(channel, crate::emitter::async_handler(channel, <$event>::new, handler), false)
        }

        /// As [`handle_async`](Self::handle_async), for one call.
        ///
        /// # Errors
        ///
        /// As [`handle`](Self::handle).
        pub fn handle_once_async<A, R, F, Fut>(&self, channel: &str, handler: F) -> crate::error::Result<()>
        where
            A: FromArgs + 'static,
            R: serde::Serialize + 'static,
            F: Fn($event, A) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<R, crate::error::HandlerError>> + Send + 'static,
        {
            self.emitter().set_handler(channel, crate::emitter::async_handler(channel, <$event>::new, handler), true)
        }

        /// As [`handle`](Self::handle), answered by what the handler is given, now or later, from any thread.
        #[cfg(feature = "capi")]
        #[allow(dead_code)] // not asked of every receiver
        pub(crate) fn handle_deferred(
            &self,
            channel: &str,
            once: bool,
            handler: impl Fn(crate::event::Deferred, crate::wire::Args) + Send + Sync + 'static,
        ) -> crate::error::Result<crate::driver::WeakHandler> {
            let handler = crate::emitter::deferred_handler(handler);
            let weak = std::sync::Arc::downgrade(&handler);
            self.emitter().set_handler(channel, handler, once)?;
            Ok(weak)
        }

        /// Removes that handler, unless the channel has another one by now. A barrier, as `remove_handler`.
        #[cfg(feature = "capi")]
        #[allow(dead_code)] // not asked of every receiver
        pub(crate) fn remove_this_handler(&self, channel: &str, handler: &crate::driver::WeakHandler) -> bool {
            self.emitter().remove_this_handler(channel, handler)
        }

        /// Removes the handler of a channel; false if it has none. Calls that have started are still answered. A barrier, as
        /// [`ListenerId::remove`]: once it has returned, the handler is not called any more, though what an async one has
        /// begun goes on.
        pub fn remove_handler(&self, channel: &str) -> bool {
            self.emitter().remove_handler(channel)
        }

        /// Whether the channel has a handler here. Other threads may change that at any time.
        pub fn has_handler(&self, channel: &str) -> bool {
            self.emitter().has_handler(channel)
        }
    };
}
pub(crate) use {emitter_methods, handler_methods};

/// What Electron refuses while it runs and Rust's types do not let through, by the numbers of Electron's cases.
#[cfg(doctest)]
mod does_not_compile {
    //! 68: no channel, or none at all where there must be one.
    //!
    //! ```compile_fail,E0061
    //! fn send(web_contents: &ringmain::WebContents) -> ringmain::Result<()> {
    //!     web_contents.send()
    //! }
    //! ```
    //!
    //! ```compile_fail,E0308
    //! fn send(web_contents: &ringmain::WebContents) -> ringmain::Result<()> {
    //!     web_contents.send(None, ())
    //! }
    //! ```
    //!
    //! 87: what is no function, or no listener, is removed. (Adding: see `on`.)
    //!
    //! ```compile_fail,E0308
    //! fn remove(ipc_main: &ringmain::IpcMain) -> bool {
    //!     ipc_main.remove_listener("x", "no function")
    //! }
    //! ```
    //!
    //! 63 and 64: a value that is opaque, alone and as a field of a record that travels.
    //!
    //! ```compile_fail,E0277
    //! fn send(ipc_renderer: &ringmain::IpcRenderer, file: std::fs::File) -> ringmain::Result<()> {
    //!     ipc_renderer.send("x", (file,))
    //! }
    //! ```
    //!
    //! ```compile_fail,E0277
    //! #[derive(serde::Serialize)]
    //! struct Record {
    //!     name: String,
    //!     file: std::fs::File,
    //! }
    //! ```
    //!
    //! 108: a limit of -1, of NaN, of a text.
    //!
    //! ```compile_fail,E0600
    //! fn limit(ipc_main: &ringmain::IpcMain) {
    //!     ipc_main.set_max_listeners(-1);
    //! }
    //! ```
    //!
    //! ```compile_fail,E0308
    //! fn limit(ipc_main: &ringmain::IpcMain) {
    //!     ipc_main.set_max_listeners(f64::NAN);
    //! }
    //! ```
    //!
    //! ```compile_fail,E0308
    //! fn limit(ipc_main: &ringmain::IpcMain) {
    //!     ipc_main.set_max_listeners("10");
    //! }
    //! ```
    //!
    //! What does compile, so that the above fails for the reason it names:
    //!
    //! ```
    //! #[derive(serde::Serialize)]
    //! struct Record {
    //!     name: String,
    //!     #[serde(skip)]
    //!     file: Option<std::fs::File>,
    //! }
    //! fn all(main: &ringmain::IpcMain, ipc_renderer: &ringmain::IpcRenderer) -> ringmain::Result<()> {
    //!     main.set_max_listeners(10);
    //!     main.remove_listener("x", &main.on("x", |_, ()| ()));
    //!     main.all_web_contents()[0].send("x", ())?;
    //!     ipc_renderer.send("x", (Record { name: String::new(), file: None },))
    //! }
    //! ```
}
