//! The Linux port, 5.11 or later; 5.16 (`futex_waitv`) and 6.5 (`SO_PEERPIDFD`) where they are there.

use std::fmt::{self, Display};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

mod files;
mod futex;
mod memory;
mod poll;
mod process;
mod random;
mod socket;
mod thread;

pub(crate) use files::*;
pub(crate) use futex::*;
pub(crate) use memory::*;
pub(crate) use poll::*;
pub(crate) use process::*;
pub(crate) use random::*;
pub(crate) use socket::*;
pub(crate) use thread::*;

/// Adds to an error of the kernel what was tried; the kind stays, and the kernel's error is its source.
fn because(what: impl Display, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), Because { what: what.to_string(), error })
}

#[derive(Debug)]
struct Because {
    what: String,
    error: io::Error,
}

impl Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for Because {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.into())
}

/// A program that has closed its standard streams gets 0 to 2 from the kernel; a descriptor there
/// would become the standard stream of the next child.
fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?) }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod test {
    use super::*;
    use crate::sys::Exit;
    use std::os::fd::AsFd;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// Serialises the tests for which it matters when a descriptor is closed with those that fork: a copy of the process
    /// holds every descriptor for as long as it lives.
    pub(super) fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the other end is closed everywhere: for a moment a process that another test is starting holds it too.
    pub(super) fn until_hung_up(socket: impl AsFd) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let seen = poll::poll_until(socket.as_fd(), rustix::event::PollFlags::RDHUP, Some(deadline)).expect("poll");
        assert!(!seen.is_empty(), "somebody holds the other end");
    }

    /// Runs `child` in a forked copy of the process; its value is the exit code.
    pub(super) fn in_fork(child: impl FnOnce() -> u8) -> Exit {
        // SAFETY: the child runs the test's few calls and leaves by `_exit`, so neither
        // destructors nor the test harness run twice.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let code = child();
            // SAFETY: ends the process; takes a plain integer.
            unsafe { libc::_exit(i32::from(code)) };
        }
        let pidfd = pidfd_open(u32::try_from(pid).expect("fork")).expect("pidfd_open");
        assert!(wait_readable(&pidfd, None).expect("wait"));
        pidfd_reap(&pidfd).expect("reap").expect("ended")
    }

    #[test]
    fn descriptors_stay_above_the_standard_streams() {
        let _alone = alone();
        let exit = in_fork(|| {
            // SAFETY: in the forked copy nobody else uses these descriptors.
            unsafe {
                libc::close(0);
                libc::close(1);
                libc::close(2);
            }
            let Ok((a, b)) = socket_pair() else { return 1 };
            let Ok(event) = EventFd::new() else { return 2 };
            let Ok(poller) = Poller::new() else { return 3 };
            let Ok(memory) = create_sealed_memory("low", 4096, &[0..4096]) else { return 4 };
            let Ok(pidfd) = pidfd_open(std::process::id()) else { return 5 };
            let (event, poller) = (event.as_fd().as_raw_fd(), poller.as_fd().as_raw_fd());
            let all = [a.as_raw_fd(), b.as_raw_fd(), event, poller];
            let low = all.iter().chain(&[memory.as_raw_fd(), pidfd.as_raw_fd()]).any(|&fd| fd < 3);
            // 0 to 2 are free, so what is passed would arrive there.
            if send_message(&a, b"x", &[memory.as_fd()]).is_err() {
                return 6;
            }
            let Ok(received) = receive_message(&b, &mut [0; 8], 1) else { return 7 };
            u8::from(low || received.fds.len() != 1 || received.fds[0].as_raw_fd() < 3) * 8
        });
        assert_eq!(exit, Exit::Code(0));
    }
}
