//! The methods of manual dispatch, which both ends have.

#![forbid(unsafe_code)]

/// `poll` and its kin.
macro_rules! polling_methods {
    ($drives:expr) => {
        #[doc = concat!("Runs what is there, on the calling thread, within the budget: ", $drives, " For")]
        /// [`Dispatch::Manual`](crate::Dispatch::Manual). Never waits for anything. What is begun runs to its end: the time
        /// may be passed by one callback, and by the decoding of its message.
        ///
        /// With nothing to do it makes no system call and looks at one word of each link; once the descriptor of
        /// [`as_fd`](Self::as_fd) is there, every poll that leaves nothing makes one or two.
        ///
        /// Any thread may poll, one at a time. Callbacks may use every method of this crate; what would wait in them for
        /// this very thread is [`ErrorKind::WouldDeadlock`](crate::ErrorKind::WouldDeadlock): use
        /// [`wait_polling`](crate::Invoke::wait_polling).
        ///
        /// # Errors
        ///
        /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) inside a callback, or if another thread polls or waits;
        /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) with
        /// [`Dispatch::Threads`](crate::Dispatch::Threads); `Disconnected` after the end of this handle, `Forked`.
        pub fn poll(&self, budget: crate::Budget) -> crate::Result<crate::Polled> {
            self.engine.poll(budget)
        }

        /// Blocks until [`poll`](Self::poll) would find something to run; `false`: `timeout` is over (`None`: never). Runs
        /// nothing. How it waits is the builder's [`wait`](crate::Wait) option.
        ///
        /// # Errors
        ///
        /// As [`poll`](Self::poll).
        pub fn wait(&self, timeout: Option<std::time::Duration>) -> crate::Result<bool> {
            self.engine.wait_for_work(timeout)
        }

        /// When there is something to do at the latest: a call's timeout that is kept here. For loops without a descriptor; the
        /// one of [`as_fd`](Self::as_fd) becomes readable then.
        pub fn next_deadline(&self) -> Option<std::time::Instant> {
            self.engine.next_deadline()
        }

        /// A descriptor for `poll(2)`, epoll, mio, tokio's `AsyncFd`, libuv, GLib or Qt: readable as long as
        /// [`poll`](Self::poll) would find something (level-triggered), not readable after a poll that left nothing. Watch
        /// it for reading; never read it. One for all renderers. It lives as long as the handle that `build` or `connect`
        /// returned, clones apart.
        ///
        /// Made by the first call. From then on each poll that leaves nothing asks the writers to ring and makes one or two
        /// system calls; a renderer gets a further thread, which hears main's rings and passes them on.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::System`](crate::ErrorKind::System), and as [`poll`](Self::poll).
        pub fn as_fd(&self) -> crate::Result<std::os::fd::BorrowedFd<'_>> {
            self.engine.poll_fd()
        }
    };
}
pub(crate) use polling_methods;
