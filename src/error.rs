//! The public error, and what a handler fails with.

#![forbid(unsafe_code)]

use std::error::Error as StdError;
use std::fmt::{self, Debug, Display};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in one word. See [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    // ---- the caller's own doing
    /// A value that cannot travel: NaN, an infinity, bytes, an integer beyond 64 bits, too deep, too many values.
    InvalidValue,
    /// A message longer than `max_message_size`, or a channel name longer than the limit for texts.
    TooLarge,
    /// The channel has a handler already; that one stays.
    DuplicateHandler,
    /// A blocking wait on the thread that would have to serve the answer.
    WouldDeadlock,
    /// An option or a name that is out of its range.
    InvalidConfig,
    /// This process was not started by [`IpcMain::spawn`](crate::IpcMain::spawn): there is no `RINGMAIN_FD`.
    NotARenderer,
    /// This process has connected already; the inherited descriptor serves once.
    AlreadyConnected,
    /// This is a forked copy of the process that made the handle.
    Forked,
    // ---- the state of things; trying again later may help
    /// Another thread polls this handle, or this thread does already: `poll` was called inside a callback.
    Busy,
    /// The queue of the link, or the limit of the process, is used up. Nothing of the message was sent.
    Full,
    /// A limit on calls or renderers is reached.
    Limit,
    /// The time is over. A call may still run at the other end.
    Timeout,
    /// The other process is gone, or the link was closed.
    Disconnected,
    /// Another main listens under this name.
    NameInUse,
    /// Nobody listens under this name.
    NotListening,
    // ---- the remote end failed
    /// No handler is registered for the channel.
    NoHandler,
    /// The handler failed: [`Error::remote_name`], [`Error::remote_message`], [`Error::code`], [`Error::data`].
    Handler,
    /// The handler panicked.
    HandlerPanicked,
    /// The last event of the call was dropped without an answer.
    ReplyNeverSent,
    /// No listener is registered for a synchronous message.
    NoListener,
    /// The arguments do not fit what the handler takes.
    BadArguments,
    /// The reply found no room in the queue of the replying process.
    ReplyFull,
    /// The reply is not of the type that was asked for.
    BadReply,
    // ---- between renderers
    /// A message had nobody to go to: an unknown renderer, a frame that is gone, no host, a route that is refused. It was
    /// dropped; told to `on_error` only. (One that its target has no room for, or does not take, is told as `Full`,
    /// `TooLarge` or `InvalidValue`.)
    Undeliverable,
    // ---- the peer or the system
    /// The peer broke the protocol, as this call found; its link was cut. What else waits on the link, or uses it later,
    /// ends with [`Disconnected`](Self::Disconnected), whose text tells the same.
    Protocol,
    /// The handshake failed: version, refusal, or a policy.
    Refused,
    /// A call into the operating system failed; the source is the `std::io::Error`.
    System,
}

impl ErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::InvalidValue => "invalid value",
            Self::TooLarge => "too large",
            Self::DuplicateHandler => "duplicate handler",
            Self::WouldDeadlock => "would deadlock",
            Self::InvalidConfig => "invalid configuration",
            Self::NotARenderer => "not a renderer",
            Self::AlreadyConnected => "already connected",
            Self::Forked => "forked",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Limit => "limit reached",
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::NameInUse => "name in use",
            Self::NotListening => "nobody listens",
            Self::NoHandler => "no handler",
            Self::Handler => "handler failed",
            Self::HandlerPanicked => "handler panicked",
            Self::ReplyNeverSent => "reply never sent",
            Self::NoListener => "no listener",
            Self::BadArguments => "bad arguments",
            Self::ReplyFull => "no room for the reply",
            Self::BadReply => "bad reply",
            Self::Undeliverable => "undeliverable",
            Self::Protocol => "protocol violated",
            Self::Refused => "refused",
            Self::System => "system error",
        }
    }
}

impl Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// What failed, why, and what to do: the text is for people, [`kind`](Error::kind) is for code.
///
/// Three questions that a program has are answered by predicates: was it [our own misuse](Error::is_misuse), did the
/// [remote function fail](Error::is_remote), may [trying again help](Error::is_transient).
pub struct Error(Box<Fields>);

#[derive(Debug)]
struct Fields {
    kind: ErrorKind,
    text: String,
    remote: Option<Remote>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What a failed handler sent along.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remote {
    pub(crate) name: Option<String>,
    pub(crate) message: String,
    pub(crate) code: Option<String>,
    pub(crate) data: Option<serde_json::Value>,
}

impl Error {
    #[cold]
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Box::new(Fields { kind, text: text.into(), remote: None, source: None }))
    }

    #[cold]
    pub(crate) fn system(what: impl Display, source: std::io::Error) -> Self {
        let advice = advice(&source).map(|advice| format!("; {advice}")).unwrap_or_default();
        let mut error = Self::new(ErrorKind::System, format!("{what}: {source}{advice}"));
        error.0.source = Some(Box::new(source));
        error
    }

    #[cold]
    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    #[cold]
    pub(crate) fn remote(kind: ErrorKind, text: String, remote: Remote) -> Self {
        let mut error = Self::new(kind, text);
        error.0.remote = Some(remote);
        error
    }

    /// What went wrong, for code.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The caller's own doing: the same call fails again.
    pub fn is_misuse(&self) -> bool {
        use ErrorKind::*;
        matches!(
            self.kind(),
            InvalidValue
                | TooLarge
                | DuplicateHandler
                | WouldDeadlock
                | InvalidConfig
                | NotARenderer
                | AlreadyConnected
                | Forked
        )
    }

    /// The call arrived, and what should have answered it failed.
    pub fn is_remote(&self) -> bool {
        use ErrorKind::*;
        matches!(
            self.kind(),
            NoHandler | Handler | HandlerPanicked | ReplyNeverSent | NoListener | BadArguments | ReplyFull
        )
    }

    /// The same call may succeed later.
    pub fn is_transient(&self) -> bool {
        use ErrorKind::*;
        matches!(self.kind(), Full | Limit | Timeout | ReplyFull | NameInUse | NotListening)
    }

    /// The name that the handler's error had: its type's, or one given with [`HandlerError::with_name`].
    pub fn remote_name(&self) -> Option<&str> {
        self.0.remote.as_ref()?.name.as_deref()
    }

    /// The text of the handler's error alone, without our own words around it.
    pub fn remote_message(&self) -> Option<&str> {
        Some(&self.0.remote.as_ref()?.message)
    }

    /// The code given with [`HandlerError::with_code`].
    pub fn code(&self) -> Option<&str> {
        self.0.remote.as_ref()?.code.as_deref()
    }

    /// This error as the failure of a handler that hands it on: what a remote handler failed with keeps its name, text,
    /// code and data. (`?` makes a new error of it, with its text alone.)
    ///
    /// ```
    /// # use ringmain::{Error, IpcMain};
    /// # use std::time::Duration;
    /// # let ipc_main = IpcMain::new()?;
    /// ipc_main.handle_async("ask the editor", |event, ()| async move {
    ///     let editor = event.sender();
    ///     editor.invoke::<String>("selection", (), Duration::from_secs(1)).await.map_err(Error::into_handler_error)
    /// })?;
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    #[must_use]
    pub fn into_handler_error(self) -> HandlerError {
        match self.0.remote {
            Some(remote) => HandlerError(remote),
            None => HandlerError::new(self.0.text).with_name(format!("{:?}", self.0.kind)),
        }
    }

    /// The value given with [`HandlerError::with_data`].
    pub fn data(&self) -> Option<&serde_json::Value> {
        self.0.remote.as_ref()?.data.as_ref()
    }
}

/// The number of the system's error, also if something was added to its text.
fn os_error(error: &std::io::Error) -> Option<i32> {
    let source = || error.get_ref()?.source()?.downcast_ref::<std::io::Error>();
    error.raw_os_error().or_else(|| os_error(source()?))
}

/// What this process needs was used up for the moment, where other errors say that the system does not offer it.
pub(crate) fn is_scarcity(error: &std::io::Error) -> bool {
    matches!(os_error(error), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// What can be done about an error of the system, where that is the same wherever it comes from.
fn advice(error: &std::io::Error) -> Option<String> {
    match os_error(error)? {
        libc::EMFILE => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            let limit = limit.map_or("not limited".to_string(), |limit| format!("limited to {limit}"));
            Some(format!("the descriptors of this process are {limit}: close some, or raise RLIMIT_NOFILE"))
        }
        libc::ENFILE => Some("the open files of the whole system are limited: raise fs.file-max".to_string()),
        _ => None,
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("text", &self.0.text);
        if let Some(Remote { name, code, data, .. }) = &self.0.remote {
            debug.field("name", name).field("code", code).field("data", data);
        }
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// What a handler fails with. Made from any `std::error::Error` by `?`, from a text by [`new`](HandlerError::new), and
/// from `anyhow`, `eyre` and boxed errors by [`HandlerResultExt::handler_err`].
///
/// Name, text, code and data arrive at the caller; the causes of the error are joined into its text.
///
/// It is no `std::error::Error` itself, or `?` could not convert every other one.
#[derive(Clone, Debug)]
pub struct HandlerError(pub(crate) Remote);

impl HandlerError {
    /// An error with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Remote { message: message.into(), ..Remote::default() })
    }

    /// Names the kind of error, as a class name does in JavaScript.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    /// A code for programs, as in Node (`"ENOENT"`).
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.0.code = Some(code.into());
        self
    }

    /// Any JSON value.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<serde_json::Value>) -> Self {
        self.0.data = Some(data.into());
        self
    }
}

impl<E: StdError> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        let path = std::any::type_name::<E>();
        let path = path.split('<').next().unwrap_or(path);
        let name = path.rsplit("::").next().unwrap_or(path);
        Self::new(message).with_name(name)
    }
}

/// `?` in handlers for errors that are no `std::error::Error`: `anyhow::Error`, `eyre::Report`, `Box<dyn Error>`.
///
/// ```
/// use ringmain::{HandlerError, HandlerResultExt};
///
/// fn parse(text: &str) -> Result<u32, Box<dyn std::error::Error>> {
///     Ok(text.parse::<u32>()?)
/// }
///
/// fn handler(text: &str) -> Result<u32, HandlerError> {
///     Ok(parse(text).handler_err()? + 1)
/// }
/// assert_eq!(handler("41").unwrap(), 42);
/// assert!(handler("x").is_err());
/// ```
pub trait HandlerResultExt<T> {
    /// Turns the error into a [`HandlerError`] with its text, the causes included where its alternate form has them.
    fn handler_err(self) -> Result<T, HandlerError>;
}

impl<T, E: Display + Debug> HandlerResultExt<T> for Result<T, E> {
    fn handler_err(self) -> Result<T, HandlerError> {
        self.map_err(|error| HandlerError::new(format!("{error:#}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer_and_can_cross_threads() {
        fn assert_send_sync<T: Send + Sync + 'static>() {}
        assert_send_sync::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn any_std_error_becomes_a_handler_error_with_its_type_as_name() {
        fn fails() -> Result<u32, HandlerError> {
            Ok("x".parse::<u32>()?)
        }
        let HandlerError(remote) = fails().unwrap_err();
        assert_eq!(remote.name.as_deref(), Some("ParseIntError"));
        assert_eq!(remote.message, "invalid digit found in string");
    }

    #[test]
    fn an_error_that_is_handed_on_keeps_what_the_remote_handler_said() {
        let remote = Remote { name: Some("IoError".into()), message: "no such file".into(), ..Remote::default() };
        let error = Error::remote(ErrorKind::Handler, "Error invoking remote method 'x': …".into(), remote);
        let HandlerError(remote) = error.into_handler_error();
        assert_eq!((remote.name.as_deref(), remote.message.as_str()), (Some("IoError"), "no such file"));
        let HandlerError(remote) = Error::new(ErrorKind::Timeout, "no answer").into_handler_error();
        assert_eq!((remote.name.as_deref(), remote.message.as_str()), (Some("Timeout"), "no answer"));
    }

    #[test]
    fn the_causes_of_an_error_are_joined_into_its_text() {
        let io = std::io::Error::other("the disk is gone");
        let outer = Error::new(ErrorKind::System, "cannot load").with_source(io);
        let HandlerError(remote) = HandlerError::from(outer);
        assert_eq!(remote.message, "cannot load: the disk is gone");
    }

    #[test]
    fn every_kind_belongs_to_at_most_one_of_misuse_and_remote() {
        use ErrorKind::*;
        for kind in [InvalidValue, Full, NoHandler, Protocol, System, ReplyFull, WouldDeadlock, Timeout] {
            let error = Error::new(kind, "");
            assert!(!(error.is_misuse() && error.is_remote()), "{kind}");
        }
    }
}
