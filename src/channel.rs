//! Typed channels: name, arguments and result said once, checked by the compiler at both ends.

use crate::driver::ListenerId;
use crate::error::{HandlerError, Result};
use crate::event::{GuestEvent, IpcMainEvent, IpcMainInvokeEvent, IpcRendererEvent, IpcRendererInvokeEvent};
use crate::invoke::Invoke;
use crate::ipc_main::IpcMain;
use crate::ipc_renderer::IpcRenderer;
use crate::web_contents::{IpcReceiver, WebContents, WebFrameMain};
use crate::wire::{FromArgs, IntoArgs};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A channel whose name, argument types and result are declared once and used at both ends.
///
/// Channels are named by texts, and texts do not say what they carry. A `Channel` does: what its two sides do with it
/// does not compile unless it fits. It is a constant, and nothing but a name when the program runs; the methods here call
/// those of the same names on the handle that they are given. Declare them in a module that main and renderers share:
///
/// ```
/// use ringmain::{Channel, IpcMain};
///
/// mod channels {
///     use ringmain::Channel;
///     pub const ADD: Channel<(i64, i64), i64> = Channel::new("add");
///     pub const LOG: Channel<(String, u8)> = Channel::new("log");
/// }
///
/// let ipc_main = IpcMain::new()?;
/// channels::ADD.handle(&ipc_main, |_event, (a, b)| Ok(a + b))?;
/// channels::LOG.on(&ipc_main, |_event, (text, level)| println!("{level} {text}"));
///
/// let ipc_renderer = ipc_main.attach()?;
/// let sum = channels::ADD.invoke(&ipc_renderer, (2, 3)).wait()?; // an i64
/// channels::LOG.send(&ipc_renderer, ("started", 2))?; // a `&str` serves for a `String`
/// assert_eq!(sum, 5);
/// # Ok::<(), ringmain::Error>(())
/// ```
///
/// What does not fit does not compile:
///
/// ```compile_fail,E0277
/// # use ringmain::{Channel, IpcRenderer};
/// const ADD: Channel<(i64, i64), i64> = Channel::new("add");
/// # fn call(ipc_renderer: &IpcRenderer) {
/// ADD.invoke(ipc_renderer, ("two", 3)).detach();
/// # }
/// ```
///
/// `A` is the argument list as the receiving end takes it, `R` what a handler returns, or what a listener sets as the
/// return value of a synchronous message.
pub struct Channel<A, R = ()> {
    name: &'static str,
    types: PhantomData<fn(A) -> R>,
}

impl<A, R> Channel<A, R> {
    /// A channel of this name.
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// Its name, for the methods that take a text.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<A, R> Clone for Channel<A, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, R> Copy for Channel<A, R> {}

impl<A, R> fmt::Debug for Channel<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.name).finish()
    }
}

impl<A: FromArgs + 'static, R> Channel<A, R> {
    /// Calls `listener` for each message on this channel; see [`IpcMain::on`].
    pub fn on<E, T, F>(&self, emitter: &E, listener: F) -> ListenerId
    where
        E: Listens,
        T: 'static,
        F: Fn(&E::Event, A) -> T + Send + Sync + 'static,
    {
        emitter.listen(self.name, listener, false)
    }

    /// As [`on`](Self::on), for the next message alone; see [`IpcMain::once`].
    pub fn once<E, T, F>(&self, emitter: &E, listener: F) -> ListenerId
    where
        E: Listens,
        T: 'static,
        F: Fn(&E::Event, A) -> T + Send + Sync + 'static,
    {
        emitter.listen(self.name, listener, true)
    }

    /// Sends a message on this channel, or a reply by an event; see [`IpcRenderer::send`], [`WebContents::send`],
    /// [`IpcMainEvent::reply`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send<S: Sends>(&self, via: &S, args: impl ArgsOf<A>) -> Result<()> {
        via.send_by(self.name, args)
    }

    /// Answers calls on this channel; see [`IpcMain::handle`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn handle<H, F>(&self, on: &H, handler: F) -> Result<()>
    where
        H: Handles,
        R: Serialize + 'static,
        F: Fn(&H::Event, A) -> Result<R, HandlerError> + Send + Sync + 'static,
    {
        on.answer(self.name, handler, false)
    }

    /// Answers one call on this channel; see [`IpcMain::handle_once`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn handle_once<H, F>(&self, on: &H, handler: F) -> Result<()>
    where
        H: Handles,
        R: Serialize + 'static,
        F: Fn(&H::Event, A) -> Result<R, HandlerError> + Send + Sync + 'static,
    {
        on.answer(self.name, handler, true)
    }

    /// Answers calls on this channel by a future; see [`IpcMain::handle_async`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn handle_async<H, F, Fut>(&self, on: &H, handler: F) -> Result<()>
    where
        H: Handles,
        R: Serialize + 'static,
        F: Fn(H::Event, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, HandlerError>> + Send + 'static,
    {
        on.answer_async(self.name, handler, false)
    }

    /// Answers one call on this channel by a future; see [`IpcMain::handle_once_async`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn handle_once_async<H, F, Fut>(&self, on: &H, handler: F) -> Result<()>
    where
        H: Handles,
        R: Serialize + 'static,
        F: Fn(H::Event, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, HandlerError>> + Send + 'static,
    {
        on.answer_async(self.name, handler, true)
    }

    /// Calls main's handler of this channel; see [`IpcRenderer::invoke`].
    pub fn invoke(&self, ipc_renderer: &IpcRenderer, args: impl ArgsOf<A>) -> Invoke<R>
    where
        R: DeserializeOwned,
    {
        ipc_renderer.invoke(self.name, args)
    }

    /// Calls a renderer's handler of this channel, from main; see [`WebContents::invoke`].
    pub fn invoke_within<C: Callee>(&self, renderer: &C, args: impl ArgsOf<A>, timeout: Duration) -> Invoke<R>
    where
        R: DeserializeOwned,
    {
        renderer.call(self.name, args, timeout)
    }

    /// Sends a synchronous message on this channel and waits for its return value; see [`IpcRenderer::send_sync`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_sync(&self, ipc_renderer: &IpcRenderer, args: impl ArgsOf<A>) -> Result<R>
    where
        R: DeserializeOwned,
    {
        ipc_renderer.send_sync(self.name, args)
    }

    /// As [`send_sync`](Self::send_sync), but gives up after `timeout`; see [`IpcRenderer::send_sync_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_sync_timeout(&self, ipc_renderer: &IpcRenderer, args: impl ArgsOf<A>, timeout: Duration) -> Result<R>
    where
        R: DeserializeOwned,
    {
        ipc_renderer.send_sync_timeout(self.name, args, timeout)
    }

    /// Sends a message on this channel to another renderer; see [`IpcRenderer::send_to`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_to(&self, ipc_renderer: &IpcRenderer, id: u32, args: impl ArgsOf<A>) -> Result<()> {
        ipc_renderer.send_to(id, self.name, args)
    }

    /// Sends a message on this channel to the renderer that embeds this one; see [`IpcRenderer::send_to_host`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_to_host(&self, ipc_renderer: &IpcRenderer, args: impl ArgsOf<A>) -> Result<()> {
        ipc_renderer.send_to_host(self.name, args)
    }

    /// Sets the return value of a synchronous message on this channel; see [`IpcMainEvent::set_return_value`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_return_value(&self, event: &IpcMainEvent, value: impl ArgOf<R>) -> Result<()> {
        event.set_return_value(value)
    }
}

mod sealed {
    pub trait Sealed {}
}

/// What a [`Channel`] can be listened to on: [`IpcMain`], [`IpcReceiver`], [`IpcRenderer`].
pub trait Listens: sealed::Sealed {
    /// What its listeners are given.
    type Event: 'static;
    #[doc(hidden)]
    fn listen<A, R, F>(&self, channel: &str, listener: F, once: bool) -> ListenerId
    where
        A: FromArgs + 'static,
        R: 'static,
        F: Fn(&Self::Event, A) -> R + Send + Sync + 'static;
}

/// What a [`Channel`] can be handled on: [`IpcMain`], [`IpcReceiver`], [`IpcRenderer`].
pub trait Handles: sealed::Sealed {
    /// What its handlers are given.
    type Event: 'static;
    #[doc(hidden)]
    fn answer<A, R, F>(&self, channel: &str, handler: F, once: bool) -> Result<()>
    where
        A: FromArgs + 'static,
        R: Serialize + 'static,
        F: Fn(&Self::Event, A) -> Result<R, HandlerError> + Send + Sync + 'static;
    #[doc(hidden)]
    fn answer_async<A, R, F, Fut>(&self, channel: &str, handler: F, once: bool) -> Result<()>
    where
        A: FromArgs + 'static,
        R: Serialize + 'static,
        F: Fn(Self::Event, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, HandlerError>> + Send + 'static;
}

/// What a message on a [`Channel`] can be sent by: [`IpcRenderer`], [`WebContents`], [`WebFrameMain`], and as a reply
/// [`IpcMainEvent`], [`IpcRendererEvent`], [`GuestEvent`].
pub trait Sends: sealed::Sealed {
    #[doc(hidden)]
    fn send_by<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()>;
}

/// Whose handler of a [`Channel`] main can call: [`WebContents`], [`WebFrameMain`].
pub trait Callee: sealed::Sealed {
    #[doc(hidden)]
    fn call<R: DeserializeOwned>(&self, channel: &str, args: impl IntoArgs, timeout: Duration) -> Invoke<R>;
}

macro_rules! receives {
    ($($handle:ty: $event:ty, $invoke_event:ty;)*) => {$(
        impl sealed::Sealed for $handle {}

        impl Listens for $handle {
            type Event = $event;

            fn listen<A, R, F>(&self, channel: &str, listener: F, once: bool) -> ListenerId
            where
                A: FromArgs + 'static,
                R: 'static,
                F: Fn(&$event, A) -> R + Send + Sync + 'static,
            {
                if once { self.once(channel, listener) } else { self.on(channel, listener) }
            }
        }

        impl Handles for $handle {
            type Event = $invoke_event;

            fn answer<A, R, F>(&self, channel: &str, handler: F, once: bool) -> Result<()>
            where
                A: FromArgs + 'static,
                R: Serialize + 'static,
                F: Fn(&$invoke_event, A) -> Result<R, HandlerError> + Send + Sync + 'static,
            {
                if once { self.handle_once(channel, handler) } else { self.handle(channel, handler) }
            }

            fn answer_async<A, R, F, Fut>(&self, channel: &str, handler: F, once: bool) -> Result<()>
            where
                A: FromArgs + 'static,
                R: Serialize + 'static,
                F: Fn($invoke_event, A) -> Fut + Send + Sync + 'static,
                Fut: Future<Output = Result<R, HandlerError>> + Send + 'static,
            {
                if once { self.handle_once_async(channel, handler) } else { self.handle_async(channel, handler) }
            }
        }
    )*};
}

receives! {
    IpcMain: IpcMainEvent, IpcMainInvokeEvent;
    IpcReceiver: IpcMainEvent, IpcMainInvokeEvent;
    IpcRenderer: IpcRendererEvent, IpcRendererInvokeEvent;
}

macro_rules! sends {
    ($($handle:ty: $method:ident;)*) => {$(
        impl Sends for $handle {
            fn send_by<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
                self.$method(channel, args)
            }
        }
    )*};
}

sends! {
    IpcRenderer: send;
    WebContents: send;
    WebFrameMain: send;
    IpcMainEvent: reply;
    IpcRendererEvent: reply;
    GuestEvent: reply;
}

impl sealed::Sealed for WebContents {}
impl sealed::Sealed for WebFrameMain {}
impl sealed::Sealed for IpcMainEvent {}
impl sealed::Sealed for IpcRendererEvent {}
impl sealed::Sealed for GuestEvent {}

impl Callee for WebContents {
    fn call<R: DeserializeOwned>(&self, channel: &str, args: impl IntoArgs, timeout: Duration) -> Invoke<R> {
        self.invoke(channel, args, timeout)
    }
}

impl Callee for WebFrameMain {
    fn call<R: DeserializeOwned>(&self, channel: &str, args: impl IntoArgs, timeout: Duration) -> Invoke<R> {
        self.invoke(channel, args, timeout)
    }
}

/// What can be sent where a [`Channel`] takes the argument list `A`: the list itself, and one in which a reference
/// stands for a value, a `&str` for a `String`, an array or slice for a `Vec`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are not the arguments `{A}` of this channel",
    note = "each argument is of the declared type, a reference to it, a `&str` for a `String`, an array or slice for a `Vec`"
)]
pub trait ArgsOf<A>: IntoArgs {}

/// What can be sent where an argument of type `T` is declared: see [`ArgsOf`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no argument of type `{T}`",
    note = "an argument is of the declared type, a reference to it, a `&str` for a `String`, an array or slice for a `Vec`"
)]
pub trait ArgOf<T>: Serialize {}

impl<T: Serialize> ArgOf<T> for T {}
impl<T: Serialize> ArgOf<T> for &T {}
impl ArgOf<String> for &str {}
impl<T: Serialize> ArgOf<Vec<T>> for &[T] {}
impl<T: Serialize, const N: usize> ArgOf<Vec<T>> for [T; N] where [T; N]: Serialize {}
impl<T: Serialize, const N: usize> ArgOf<Vec<T>> for &[T; N] where [T; N]: Serialize {}

impl ArgsOf<()> for () {}
impl ArgsOf<crate::wire::Args> for crate::wire::Args {}
impl<A, L: ArgsOf<A>> ArgsOf<A> for &L {}

macro_rules! tuples {
    ($(($($given:ident $declared:ident)*))*) => {$(
        impl<$($declared, $given: ArgOf<$declared>),*> ArgsOf<($($declared,)*)> for ($($given,)*) {}
    )*};
}

tuples! {
    (G0 D0)
    (G0 D0 G1 D1)
    (G0 D0 G1 D1 G2 D2)
    (G0 D0 G1 D1 G2 D2 G3 D3)
    (G0 D0 G1 D1 G2 D2 G3 D3 G4 D4)
    (G0 D0 G1 D1 G2 D2 G3 D3 G4 D4 G5 D5)
    (G0 D0 G1 D1 G2 D2 G3 D3 G4 D4 G5 D5 G6 D6)
    (G0 D0 G1 D1 G2 D2 G3 D3 G4 D4 G5 D5 G6 D6 G7 D7)
    (G0 D0 G1 D1 G2 D2 G3 D3 G4 D4 G5 D5 G6 D6 G7 D7 G8 D8)
    (G0 D0 G1 D1 G2 D2 G3 D3 G4 D4 G5 D5 G6 D6 G7 D7 G8 D8 G9 D9)
    (G0 D0 G1 D1 G2 D2 G3 D3 G4 D4 G5 D5 G6 D6 G7 D7 G8 D8 G9 D9 G10 D10)
    (G0 D0 G1 D1 G2 D2 G3 D3 G4 D4 G5 D5 G6 D6 G7 D7 G8 D8 G9 D9 G10 D10 G11 D11)
}
