//! Limits and options as checked values. Each setter says what it costs.

#![forbid(unsafe_code)]

use crate::error::{Error, ErrorKind, Result};
use crate::wake::Wait;
use std::path::PathBuf;
use std::time::Duration;

/// Where the memory of a link comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// A sealed memfd, handed over as a descriptor: no name anywhere, a peer cannot shrink it.
    #[default]
    Sealed,
    /// A named POSIX object (`/dev/shm`), through the crate `shared_memory`, for peers that **trust each other**: it
    /// cannot be sealed, so a peer that truncates it kills this process by SIGBUS. Its name is removed as soon as the
    /// renderer has mapped it.
    Named,
}

/// Which thread runs a handle's callbacks: listeners, handlers, hooks, wakers, async handlers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dispatch {
    /// A thread of ours, the *dispatcher*.
    #[default]
    Threads,
    /// The thread that calls `poll`: a game's once a frame, an event loop's when the descriptor of `as_fd` is readable.
    /// Nothing is called in between. The small thread that watches sockets and processes remains; it runs no callback.
    Manual,
}

/// How much one `poll` may do: whichever is used up first ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Callbacks that may run: one a message, a hook, a step of an async handler.
    pub messages: usize,
    /// Time after which no further one is begun.
    pub time: std::time::Duration,
}

impl Budget {
    /// All that is there: ends when nothing is left, however long that takes.
    pub const UNLIMITED: Self = Self { messages: usize::MAX, time: std::time::Duration::MAX };

    /// Any number within this time.
    pub const fn time(time: std::time::Duration) -> Self {
        Self { time, ..Self::UNLIMITED }
    }

    /// This many, however long they take.
    pub const fn messages(messages: usize) -> Self {
        Self { messages, ..Self::UNLIMITED }
    }
}

impl Default for Budget {
    /// [`UNLIMITED`](Self::UNLIMITED).
    fn default() -> Self {
        Self::UNLIMITED
    }
}

/// What a `poll` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// Callbacks that ran: messages, whether anybody listens or not, hooks, steps of async handlers. What ran while one of
    /// them waited is not counted.
    pub ran: usize,
    /// The budget was used up and more waits.
    pub more: bool,
}

/// What a thread of ours is for; see the builders' `on_thread_start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ThreadRole {
    /// Runs the callbacks (`ringmain-disp`). Not there with [`Dispatch::Manual`].
    Dispatcher,
    /// Accepts, shakes hands, notices deaths (`ringmain-watch`).
    Watch,
    /// Rings the descriptor of a renderer's `as_fd` (`ringmain-relay`).
    Relay,
    /// Waits for a child that outlives its main handle, or that the system gives no pidfd of (`ringmain-reap`).
    Reaper,
}

/// Options that both sides have. The builders' methods of the same names fill it.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) ring_size: usize,
    pub(crate) queue_limit: usize,
    pub(crate) process_limit: usize,
    pub(crate) max_message_size: usize,
    pub(crate) max_values: u32,
    pub(crate) max_depth: u32,
    pub(crate) max_pending_calls: u32,
    pub(crate) max_renderers: usize,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) backing: Backing,
    pub(crate) wait: Wait,
    pub(crate) app_name: String,
    pub(crate) app_version: String,
    pub(crate) runtime_dir: Option<PathBuf>,
    pub(crate) dispatch: Dispatch,
    pub(crate) max_nesting: usize,
    pub(crate) spin_on_real_time: bool,
}

/// Longest channel name and error text in bytes.
pub(crate) const MAX_TEXT: usize = 65_536;

impl Default for Config {
    fn default() -> Self {
        Self {
            ring_size: 1 << 20,
            queue_limit: 16 << 20,
            process_limit: 512 << 20,
            max_message_size: 64 << 20,
            max_values: 1_000_000,
            max_depth: 128,
            max_pending_calls: 65_536,
            max_renderers: 4_096,
            connect_timeout: Some(crate::link::SPAWN_TIMEOUT),
            backing: Backing::default(),
            wait: Wait::default(),
            app_name: String::new(),
            app_version: String::new(),
            runtime_dir: None,
            dispatch: Dispatch::default(),
            max_nesting: 8,
            spin_on_real_time: false,
        }
    }
}

impl Config {
    /// Checks every range; the error names the option, its value and the range.
    pub(crate) fn check(&self) -> Result<()> {
        let ranges = [
            ("ring_size", self.ring_size, 1 << 10, 1 << 30),
            ("queue_limit", self.queue_limit, 1, usize::MAX),
            ("process_limit", self.process_limit, self.max_message_size, usize::MAX),
            ("max_message_size", self.max_message_size, 1 << 10, u32::MAX as usize),
            ("max_values", self.max_values as usize, 1, u32::MAX as usize),
            ("max_depth", self.max_depth as usize, 1, 128),
            ("max_pending_calls", self.max_pending_calls as usize, 1, u32::MAX as usize),
            ("max_renderers", self.max_renderers, 1, u32::MAX as usize),
            ("max_nesting", self.max_nesting, 1, 1 << 10),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(Error::new(
                    ErrorKind::InvalidConfig,
                    format!("{name} is {value}, it must lie between {least} and {most}"),
                ));
            }
        }
        if !self.ring_size.is_power_of_two() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "ring_size is {}, it must be a power of two: {} is the next one",
                    self.ring_size,
                    self.ring_size.next_power_of_two()
                ),
            ));
        }
        Ok(())
    }

    /// What this side is willing to decode.
    pub(crate) fn wire_limits(&self) -> crate::wire::Limits {
        crate::wire::Limits {
            max_message_size: self.max_message_size,
            max_depth: self.max_depth,
            max_values: self.max_values,
            max_text: MAX_TEXT,
        }
    }
}

/// The setters that `IpcMain`'s and `IpcRenderer`'s builders share.
macro_rules! common_options {
    () => {
        /// Bytes that may wait in a link's queue when its ring is full; what already waits counts, so an empty queue
        /// takes any legal message. Beyond it `send` fails with [`ErrorKind::Full`](crate::ErrorKind::Full).
        /// Default 16 MiB. Costs nothing until it is used.
        #[must_use]
        pub fn queue_limit(mut self, bytes: usize) -> Self {
            self.config.queue_limit = bytes;
            self
        }

        /// Bytes that may wait in all queues, inboxes and half-arrived messages of this handle together. Default 512 MiB;
        /// at least `max_message_size`. A large message that has begun to arrive may end beyond it, and 16 KiB of small
        /// messages that were just read are not counted for each link.
        #[must_use]
        pub fn process_limit(mut self, bytes: usize) -> Self {
            self.config.process_limit = bytes;
            self
        }

        /// The longest message in bytes, header and channel name included, that this side sends and takes; the lower of
        /// both sides' counts. Default 64 MiB. Memory grows with what has arrived, not with what was announced.
        #[must_use]
        pub fn max_message_size(mut self, bytes: usize) -> Self {
            self.config.max_message_size = bytes;
            self
        }

        /// The most JSON values that one message may hold. Default one million, which as `serde_json::Value` may cost
        /// 240 MB and 0.6 s; take 100 000 where peers are not trusted.
        #[must_use]
        pub fn max_values(mut self, values: u32) -> Self {
            self.config.max_values = values;
            self
        }

        /// The most calls that may wait for an answer on one link, each way. Default 65 536.
        #[must_use]
        pub fn max_pending_calls(mut self, calls: u32) -> Self {
            self.config.max_pending_calls = calls;
            self
        }

        /// How our dispatcher and waiting callers wait. Default [`Wait::Adaptive`](crate::Wait::Adaptive).
        #[must_use]
        pub fn wait(mut self, wait: crate::Wait) -> Self {
            self.config.wait = wait;
            self
        }

        /// Which thread runs the callbacks. Default [`Dispatch::Threads`](crate::Dispatch::Threads).
        #[must_use]
        pub fn dispatch(mut self, dispatch: crate::Dispatch) -> Self {
            self.config.dispatch = dispatch;
            self
        }

        /// How deep [`wait_polling`](crate::Invoke::wait_polling) may nest: a callback that it runs may call it again.
        /// Default 8; each takes stack.
        #[must_use]
        pub fn max_nesting(mut self, levels: usize) -> Self {
            self.config.max_nesting = levels;
            self
        }

        /// With [`Wait::Spin`](crate::Wait::Spin), a thread of class `SCHED_FIFO` or `SCHED_RR` that waits spins as long as
        /// a wake-up costs only, then sleeps: endlessly it would keep what it waits for off its core, and `RLIMIT_RTTIME`
        /// kills the process. `true` lets it spin all the same. Default `false`. The class counts that a thread has when it first
        /// waits.
        #[must_use]
        pub fn spin_on_real_time(mut self, spins: bool) -> Self {
            self.config.spin_on_real_time = spins;
            self
        }

        /// Called at the beginning of each thread that this handle starts, on that thread: to name it for a profiler, to
        /// give it a priority or cores. It has an ordinary class, the cores of the process and blocks all signals.
        #[must_use]
        pub fn on_thread_start(mut self, hook: impl Fn(crate::ThreadRole) + Send + Sync + 'static) -> Self {
            self.policies.thread_start = Some(std::sync::Arc::new(hook));
            self
        }

        /// Called at the end of each such thread, on that thread.
        #[must_use]
        pub fn on_thread_stop(mut self, hook: impl Fn(crate::ThreadRole) + Send + Sync + 'static) -> Self {
            self.policies.thread_stop = Some(std::sync::Arc::new(hook));
            self
        }

        /// The application's own name and version, shown to the other side in the handshake (255 bytes each, longer
        /// ones are cut).
        #[must_use]
        pub fn app(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
            self.config.app_name = name.into();
            self.config.app_version = version.into();
            self
        }

        /// The directory of the sockets of `listen` and `connect_to`; it must be ours alone (0700). Default:
        /// `$XDG_RUNTIME_DIR/ringmain`, else `/run/user/UID/ringmain`, else `/tmp/ringmain-UID`.
        #[must_use]
        pub fn runtime_dir(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.config.runtime_dir = Some(path.into());
            self
        }
    };
}

/// The setter of the executor, which both builders have too.
macro_rules! executor_option {
    () => {
        /// Hands async handlers to a runtime of yours instead of the dispatcher:
        /// `.executor(move |future| { runtime.spawn(future); })`. Called on the dispatcher; it must not block.
        #[must_use]
        pub fn executor(
            mut self,
            executor: impl Fn(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync + 'static,
        ) -> Self {
            self.policies.executor = Some(std::sync::Arc::new(executor));
            self
        }
    };
}
pub(crate) use {common_options, executor_option};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_legal_and_each_option_out_of_range_is_named() {
        Config::default().check().unwrap();
        type Change = fn(&mut Config);
        let table: [(&str, Change); 6] = [
            ("ring_size is 0", |c| c.ring_size = 0),
            ("ring_size is 3000", |c| c.ring_size = 3000),
            ("queue_limit is 0", |c| c.queue_limit = 0),
            ("process_limit is 1", |c| c.process_limit = 1),
            ("max_depth is 129", |c| c.max_depth = 129),
            ("max_message_size is 1", |c| c.max_message_size = 1),
        ];
        for (text, change) in table {
            let mut config = Config::default();
            change(&mut config);
            let error = config.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.to_string().starts_with(text), "{error}");
        }
    }
}
