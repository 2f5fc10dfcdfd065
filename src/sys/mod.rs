//! System calls as safe functions: the only layer that talks to the kernel.
//!
//! It knows nothing of rings, messages or links and imports nothing of the crate. A port to another
//! platform is a sibling of `linux` that provides the same names:
//!
//! | file | provides |
//! |---|---|
//! | memory | `create_sealed_memory`, `check_sealed`, `allocate`, `Mapping`, `populate`, `ForkGuard`, `dont_fork`; for named memory `shm_open`, `ShmName`, `shm_unlink`, `list_shm` |
//! | futex | `futex_wait`, `futex_wake`, `WaitTwo` |
//! | poll | `EventFd`, `Timer`, `Poller`, `wait_readable` |
//! | socket | `socket_pair`, `check_socket_path`, `listen_at`, `accept`, `connect_at`, `unlink_socket`; `send_message`, `receive_message`, `receive_or_leave`, `peek_message`, `peek`, `has_unread`, `hung_up`, `receive_nothing`; `shut_socket`, `refuse_descriptors`, `peer_credentials`, `peer_pidfd`, `is_unix_seqpacket` |
//! | process | `pidfd_open`, `pidfd_reap`, `pidfd_kill`, `pidfd_ended`, `child_wait`, `child_reap`, `child_kill`, `process_start_time`, `process_is_exiting`, `spawn_with_fd`, `claim_fd` |
//! | thread | `spawn_thread`, `with_ordinary_scheduling`, `allowed_cpus`, `is_real_time` |
//! | files | `runtime_dir`, `ensure_private_dir`, `LockFile` |
//! | random | `random_u64` |
//!
//! Rules for all of them: every descriptor is close-on-exec and at least 3 (so that it can never
//! become some child's standard stream), nothing raises SIGPIPE, and nothing that a peer may hold
//! as well is read or written in a way that can block, [`EventFd::ring`] on a descriptor taken from
//! a peer excepted.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(not(target_os = "linux"))]
compile_error!("ringmain runs on Linux so far: a port provides what the table in src/sys/mod.rs lists");

/// Who can share a futex word: the kernel finds a private one faster, and no other process can
/// reach its sleepers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Shared,
    Private,
}

/// Why a futex wait returned. All but `TimedOut` mean "look again": a wake-up may be spurious.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Woken,
    ValueChanged,
    TimedOut,
    Interrupted,
}

/// What a [`Poller`] reports about a descriptor. The hang-up is always reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    /// Report each arrival once instead of "there is something" each time.
    pub(crate) edge: bool,
}

impl Interest {
    pub(crate) const READ: Self = Self { read: true, edge: false };
    pub(crate) const READ_EDGE: Self = Self { read: true, edge: true };
    #[cfg(test)]
    pub(crate) const HANGUP: Self = Self { read: false, edge: false };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) token: u64,
    pub(crate) readable: bool,
    pub(crate) hangup: bool,
}

/// What a look at a socket found. The count is what was put into the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    Nothing,
    Eof,
    Data(usize),
}

/// One message with its descriptors.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) len: usize,
    /// Never more than were asked for; what came beyond them has been closed.
    pub(crate) fds: Vec<OwnedFd>,
    /// The message was longer than the buffer or carried more descriptors than were asked for: what
    /// is here is not what was sent.
    pub(crate) truncated: bool,
    pub(crate) eof: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerCredentials {
    /// `None`: the peer lives in a process namespace that is not visible from here.
    pub(crate) pid: Option<u32>,
    /// The effective user at the time of connecting (or of `listen`, or of making the pair).
    pub(crate) uid: u32,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
    /// It ended, but is not our child or somebody else has taken its status.
    Unknown,
}

/// Why a lock file was not acquired.
#[derive(Debug)]
pub(crate) enum LockError {
    /// A living process holds it.
    Held,
    Io(io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("the lock file is held by another process"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Held => None,
            Self::Io(error) => Some(error),
        }
    }
}
