//! Main's handle of one renderer.

use crate::driver::{Link, MAIN_FRAME};
use crate::error::{Error, ErrorKind, Result};
use crate::link::{Exit, GoneReason};
use crate::sync::{Arc, Ordering};
use crate::sys;
use crate::wire::IntoArgs;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

/// Main's handle of one renderer. A cheap clone, usable from any thread; it does not keep the link alive.
#[derive(Clone)]
pub struct WebContents {
    link: Arc<Link>,
}

/// Counters of one link at one moment; other threads change them meanwhile. Sizes are in bytes and include the 24 bytes
/// of a message's header and its channel name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
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
    /// Calls of ours that wait for an answer.
    pub pending_calls: u64,
    /// Requests of the other side's that have no answer yet.
    pub open_requests: u64,
}

pub(crate) fn stats(link: &Link) -> Stats {
    let of = |counter: &crate::sync::AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &link.counters;
    Stats {
        messages_sent: of(&counters.messages_sent),
        bytes_sent: of(&counters.bytes_sent),
        messages_received: of(&counters.messages_received),
        bytes_received: of(&counters.bytes_received),
        queued_bytes: link.queued() as u64,
        refused_full: of(&counters.refused_full),
        late_replies: of(&counters.late_replies),
        pending_calls: link.pending_calls() as u64,
        open_requests: link.open_requests.load(Ordering::Relaxed) as u64,
    }
}

impl WebContents {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// The renderer's number: 1 for the first of an [`IpcMain`](crate::IpcMain), never used twice by it.
    pub fn id(&self) -> u32 {
        self.link.id
    }

    /// The renderer's process.
    pub fn process(&self) -> Process<'_> {
        Process { link: &self.link }
    }

    /// Sends a message to the renderer's main frame. Never waits: what finds no room in the ring queues here, and what
    /// is sent before the renderer has connected waits for it, in order.
    ///
    /// Takes a short lock, may allocate where the message queues, and makes one system call if the renderer sleeps.
    ///
    /// # Errors
    ///
    /// Nothing was sent: [`ErrorKind::InvalidValue`] naming the path, [`ErrorKind::TooLarge`], [`ErrorKind::Full`],
    /// [`ErrorKind::Disconnected`], [`ErrorKind::Forked`].
    pub fn send<A: IntoArgs>(&self, channel: &str, args: A) -> Result<()> {
        self.link.send(MAIN_FRAME, channel, &args)
    }

    /// As [`send`](Self::send), but waits up to `timeout` for the queue to take the message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), [`ErrorKind::Full`] if the time is over; [`ErrorKind::WouldDeadlock`] on the dispatcher
    /// thread.
    pub fn send_timeout<A: IntoArgs>(&self, channel: &str, args: A, timeout: Duration) -> Result<()> {
        self.link.send_timeout(MAIN_FRAME, channel, &args, timeout)
    }

    /// Waits until all that was sent before is in the ring, where the renderer finds it even if this process ends.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`], [`ErrorKind::Disconnected`]; [`ErrorKind::WouldDeadlock`] on the dispatcher thread.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.link.flush(timeout)
    }

    /// Whether the renderer has connected and is not gone. May change at any time.
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Why the renderer is gone, once it is.
    pub fn gone_reason(&self) -> Option<GoneReason> {
        self.link.gone_reason().cloned()
    }

    /// Closes the link in order: waits up to `timeout` for the queue to drain (not on the dispatcher thread), then tells
    /// the renderer. Its process goes on; see [`Process::kill`]. Closing twice is no error.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`]: the link is closed, but something of what was sent is lost.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        close(&self.link, timeout)
    }

    /// The counters of the link.
    pub fn stats(&self) -> Stats {
        stats(&self.link)
    }
}

pub(crate) fn close(link: &Arc<Link>, timeout: Duration) -> Result<()> {
    link.engine.check_fork()?;
    let mut drained = Ok(());
    if !link.is_lost() && link.queued() > 0 {
        let until = Instant::now().checked_add(timeout);
        let waited = link.check_blocking("close").is_ok() && link.wait_for_queue(1, until).unwrap_or(true);
        if !waited && link.queued() > 0 {
            let lost = link.queued();
            drained = Err(Error::new(
                ErrorKind::Timeout,
                format!("the link was closed while {lost} bytes still waited: they are lost"),
            ));
        }
    }
    link.close();
    drained
}

impl PartialEq for WebContents {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.link, &other.link)
    }
}

impl Eq for WebContents {}

impl std::fmt::Debug for WebContents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebContents")
            .field("id", &self.id())
            .field("process_id", &self.link.pid())
            .field("is_connected", &self.is_connected())
            .finish()
    }
}

/// How a renderer's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited; the code is known for processes that this one spawned.
    Exited(Option<i32>),
    /// A signal ended it.
    Killed(i32),
}

/// The process of a renderer.
pub struct Process<'a> {
    link: &'a Arc<Link>,
}

impl Process<'_> {
    /// Its process id; 0 where it is not visible from here.
    pub fn id(&self) -> u32 {
        self.link.pid()
    }

    /// How it ended, if it did and we saw it.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.link.exit().map(|exit| match exit {
            Exit::Exited(code) => ExitStatus::Exited(code),
            Exit::Killed(signal) => ExitStatus::Killed(signal),
        })
    }

    /// Kills it with SIGKILL, exactly this process and no later one of the same number. One that has ended already is no
    /// error, and neither is one that was not spawned here and whose link is gone: it is not ours to kill any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::System`] if the system refuses; [`ErrorKind::InvalidConfig`] for an attached renderer, whose process
    /// is this one, and where the process is not known.
    pub fn kill(&self) -> Result<()> {
        if self.exit_status().is_some() {
            return Ok(());
        }
        match self.link.pidfd.get() {
            Some(pidfd) => {
                sys::pidfd_kill(&*pidfd, 9).map_err(|error| Error::system("cannot kill the renderer", error))
            }
            None if self.link.gone_reason().is_some() => Ok(()),
            None => Err(Error::new(
                ErrorKind::InvalidConfig,
                "the renderer's process is not known: it is attached, or the system gave no handle of it",
            )),
        }
    }

    /// The standard input of a spawned renderer, if its `Command` asked for a pipe; once.
    pub fn take_stdin(&self) -> Option<ChildStdin> {
        self.link.child.lock().as_mut()?.stdin.take()
    }

    /// The standard output of a spawned renderer, if its `Command` asked for a pipe; once.
    pub fn take_stdout(&self) -> Option<ChildStdout> {
        self.link.child.lock().as_mut()?.stdout.take()
    }

    /// The standard error of a spawned renderer, if its `Command` asked for a pipe; once.
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        self.link.child.lock().as_mut()?.stderr.take()
    }
}

impl std::fmt::Debug for Process<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("id", &self.id()).field("exit_status", &self.exit_status()).finish()
    }
}
