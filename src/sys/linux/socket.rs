//! Unix sockets that keep message boundaries and carry descriptors.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use super::poll::poll_until;
use super::{above_stdio, because, invalid, pidfd_open};
use crate::sys::{Arrived, PeerCredentials, Received};

/// `sun_path` holds 108 bytes, the final zero included.
const MAX_PATH: usize = 107;
/// The kernel's `SCM_MAX_FD`.
const MAX_FDS: usize = 253;
#[cfg(not(any(target_arch = "sparc", target_arch = "sparc64")))]
const SO_PEERPIDFD: libc::c_int = 77;
#[cfg(any(target_arch = "sparc", target_arch = "sparc64"))]
const SO_PEERPIDFD: libc::c_int = 0x56;

#[cfg(not(any(target_arch = "sparc", target_arch = "sparc64")))]
const SO_PASSRIGHTS: libc::c_int = 83;
#[cfg(any(target_arch = "sparc", target_arch = "sparc64"))]
const SO_PASSRIGHTS: libc::c_int = 0x5c;

/// Two ends of a connection without a name.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((above_stdio(a)?, above_stdio(b)?))
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    above_stdio(net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Whether a socket can have this path.
pub(crate) fn check_socket_path(path: &Path) -> io::Result<()> {
    let len = path.as_os_str().as_bytes().len();
    if len == 0 || len > MAX_PATH {
        let shown = path.display();
        return Err(invalid(format!(
            "the socket path '{shown}' is {len} bytes long; 1 to {MAX_PATH} are possible, \
             so use a shorter name or directory"
        )));
    }
    Ok(())
}

fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    check_socket_path(path)?;
    Ok(SocketAddrUnix::new(path)?)
}

/// A listening socket for [`accept`]. Nothing may be at `path`; see [`unlink_socket`].
pub(crate) fn listen_at(path: &Path, backlog: u32) -> io::Result<OwnedFd> {
    let address = address(path)?;
    let fd = socket(SocketFlags::NONBLOCK)?;
    let context = || format!("cannot listen at '{}'", path.display());
    net::bind(&fd, &address).map_err(|error| because(context(), error))?;
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    net::listen(&fd, backlog).map_err(|error| because(context(), error))?;
    Ok(fd)
}

/// Removes a socket from the file system: nothing else, and it may be gone already.
pub(crate) fn unlink_socket(path: &Path) -> io::Result<()> {
    let unlinked = match path.symlink_metadata() {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(invalid(format!("'{}' is not a socket, so it is kept", path.display())));
        }
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match unlinked {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(because(format_args!("cannot remove the socket '{}'", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// The next connection, if one waits. An error may persist (no descriptor left), so a caller that
/// is told again and again that something is readable must wait before it asks again.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    loop {
        match net::accept_with(listener.as_fd(), SocketFlags::CLOEXEC) {
            Ok(fd) => return above_stdio(fd).map(Some),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(because("cannot accept a connection", error)),
        }
    }
}

/// Connects to who listens at `path`. Without room in its backlog this waits, at most for `timeout`,
/// and is `WouldBlock` then.
pub(crate) fn connect_at(path: &Path, timeout: Option<Duration>) -> io::Result<OwnedFd> {
    let address = address(path)?;
    let fd = socket(SocketFlags::empty())?;
    // Zero would mean "for ever", and less than a microsecond cannot be expressed.
    let longest = Duration::from_secs(i32::MAX as u64);
    let timeout = timeout.map(|timeout| timeout.clamp(Duration::from_micros(1), longest));
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, timeout)?;
    retry_on_intr(|| net::connect(&fd, &address))
        .map_err(|error| because(format_args!("cannot connect to '{}'", path.display()), error))?;
    Ok(fd)
}

/// Sends one message whole or not at all, without waiting: `WouldBlock` if there is no room.
pub(crate) fn send_message(fd: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.is_empty() || fds.len() > MAX_FDS {
        return Err(invalid(format!(
            "a message has at least one byte and at most {MAX_FDS} descriptors, not {} and {}",
            bytes.len(),
            fds.len()
        )));
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(invalid(format!("no room for {} descriptors", fds.len())));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let buffers = [IoSlice::new(bytes)];
    retry_on_intr(|| net::sendmsg(fd.as_fd(), &buffers, &mut control, flags))?;
    Ok(())
}

/// Takes one message without waiting: `WouldBlock` if there is none, `EMFILE` if our table of descriptors has no room
/// for those that came along; the message is lost then.
pub(crate) fn receive_message(fd: impl AsFd, buf: &mut [u8], max_fds: usize) -> io::Result<Received> {
    receive(fd.as_fd(), buf, max_fds, RecvFlags::CMSG_CLOEXEC)
}

/// The same, but the message stays where `EMFILE` or the like is answered. To look at a message takes copies of its
/// descriptors, so that it is removed only when they are here.
pub(crate) fn receive_or_leave(fd: impl AsFd, buf: &mut [u8], max_fds: usize) -> io::Result<Received> {
    let fd = fd.as_fd();
    let found = receive(fd, buf, max_fds, RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC)?;
    if !found.eof {
        receive_nothing(fd)?;
    }
    Ok(found)
}

/// The first message is looked at, with whatever descriptors came along: `truncated` tells of these. To take them, even only
/// to drop them, may take its time.
pub(crate) fn peek_message(fd: impl AsFd, buf: &mut [u8]) -> io::Result<Received> {
    receive(fd.as_fd(), buf, 0, RecvFlags::PEEK)
}

/// That the peer has gone without reading all of ours is told once, before what it sent itself: that comes first here.
/// `unix(7)` does not say so; `__skb_try_recv_datagram` in `net/core/datagram.c` asks `sock_error` first.
fn past_reset<T>(mut receive: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    match retry_on_intr(&mut receive) {
        Err(Errno::CONNRESET) => retry_on_intr(receive),
        told => told,
    }
}

fn receive(fd: BorrowedFd<'_>, buf: &mut [u8], max_fds: usize, flags: RecvFlags) -> io::Result<Received> {
    let max_fds = max_fds.min(MAX_FDS);
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(max_fds))];
    let mut control = RecvAncillaryBuffer::new(if max_fds == 0 { &mut [] } else { &mut space });
    let flags = RecvFlags::DONTWAIT | flags;
    let mut buffers = [IoSliceMut::new(buf)];
    let received = match past_reset(|| net::recvmsg(fd, &mut buffers, &mut control, flags)) {
        Ok(received) => received,
        Err(Errno::CONNRESET) => {
            return Ok(Received { len: 0, fds: Vec::new(), truncated: false, eof: true });
        }
        Err(error) => return Err(error.into()),
    };
    let mut truncated = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    // All are taken out, so that those beyond `max_fds`, for which alignment leaves room, are closed.
    let mut arrived: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            arrived.extend(more);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) && arrived.len() < max_fds {
        // There was room for them here, but not in our table.
        return Err(because("cannot take the descriptors that came with a message", Errno::MFILE));
    }
    truncated |= arrived.len() > max_fds;
    arrived.truncate(max_fds);
    let fds: Vec<_> = arrived.into_iter().map(above_stdio).collect::<io::Result<_>>()?;
    let eof = received.bytes == 0 && fds.is_empty() && !truncated && hung_up(fd)?;
    Ok(Received { len: received.bytes, fds, truncated, eof })
}

/// Nothing read: the end of the connection, or an empty message of a peer that is still there?
pub(crate) fn hung_up(fd: impl AsFd) -> io::Result<bool> {
    let revents = poll_until(fd.as_fd(), PollFlags::RDHUP, Some(Instant::now()))?;
    Ok(revents.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR))
}

/// Looks at the next message without taking it.
pub(crate) fn peek(fd: impl AsFd, buf: &mut [u8]) -> io::Result<Arrived> {
    receive_plain(fd.as_fd(), buf, RecvFlags::PEEK)
}

/// Whether anything lies in a socket that was shut, be it empty messages.
pub(crate) fn has_unread(fd: impl AsFd) -> bool {
    let fd = fd.as_fd();
    // With its sender's name asked for, and no room for that, every message is cut off, and the end alone is not.
    if sockopt::set_socket_passcred(fd, true).is_err() {
        return true;
    }
    match peek_message(fd, &mut []) {
        Ok(found) => !found.eof,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// For a socket on which nothing is to come. What comes all the same is thrown away, and the kernel
/// drops its descriptors, as there is no room for any.
pub(crate) fn receive_nothing(fd: impl AsFd) -> io::Result<Arrived> {
    receive_plain(fd.as_fd(), &mut [0; 64], RecvFlags::empty())
}

fn receive_plain(fd: BorrowedFd<'_>, buf: &mut [u8], flags: RecvFlags) -> io::Result<Arrived> {
    match past_reset(|| net::recv(fd, &mut *buf, flags | RecvFlags::DONTWAIT)) {
        Ok((_, 0)) if hung_up(fd)? => Ok(Arrived::Eof),
        Ok((_, len)) => Ok(Arrived::Data(len)),
        Err(Errno::AGAIN) => Ok(Arrived::Nothing),
        Err(Errno::CONNRESET) => Ok(Arrived::Eof),
        Err(error) => Err(error.into()),
    }
}

/// Asks for a socket option of a fixed size.
///
/// # Safety
/// Every bit pattern that the kernel may leave in a zeroed `T` is a valid `T`.
unsafe fn option<T>(fd: BorrowedFd<'_>, name: libc::c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let size = mem::size_of::<T>() as libc::socklen_t;
    let mut len = size;
    // SAFETY: `value` and `len` are ours and live through the call, which writes at most `len`
    // bytes to `value`.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, value.as_mut_ptr().cast(), &mut len) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if len != size {
        return Err(io::Error::other(format!("socket option {name} has {len} bytes, not {size}")));
    }
    // SAFETY: zeroed, then written by the kernel; the caller vouches for the rest.
    Ok(unsafe { value.assume_init() })
}

/// Ends the conversation both ways: the peer sees a hang-up even while copies of the descriptor are open.
pub(crate) fn shut_socket(fd: impl AsFd) {
    // Not connected any more, or a listening socket, for which this ends `accept`: nothing to be done about either.
    let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
}

/// From now on the kernel refuses descriptors that a peer sends here, also to who connects to a listening socket. To drop one
/// is not harmless: closing the last copy of a TCP socket that lingers takes as long as its owner has chosen.
///
/// False: the kernel does not know how (before Linux 6.16).
pub(crate) fn refuse_descriptors(fd: impl AsFd) -> bool {
    let no: libc::c_int = 0;
    let len = mem::size_of_val(&no) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `no`, which lives through the call.
    let result = unsafe {
        let fd = fd.as_fd().as_raw_fd();
        libc::setsockopt(fd, libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const no).cast(), len)
    };
    result == 0
}

/// Who made the other end: with a pair the process that called [`socket_pair`], with a listener the
/// one that called `listen` or `connect`.
pub(crate) fn peer_credentials(fd: impl AsFd) -> io::Result<PeerCredentials> {
    // Not by rustix, whose type has no room for pid 0: a peer outside of our process namespace.
    // SAFETY: `ucred` is three integers.
    let credentials: libc::ucred = unsafe { option(fd.as_fd(), libc::SO_PEERCRED) }
        .map_err(|error| because("cannot ask who the peer is", error))?;
    let pid = u32::try_from(credentials.pid).ok().filter(|&pid| pid != 0);
    if pid.is_none() && credentials.uid == u32::MAX {
        return Err(io::Error::new(io::ErrorKind::NotConnected, "the socket has no peer"));
    }
    Ok(PeerCredentials { pid, uid: credentials.uid })
}

/// A pidfd of the process that [`peer_credentials`] names.
///
/// Exact since Linux 6.5. Before, the pid may have been given to another process by now, so whoever
/// can check what it got (by its greeting, say) should.
pub(crate) fn peer_pidfd(fd: impl AsFd) -> io::Result<OwnedFd> {
    let fd = fd.as_fd();
    // SAFETY: any integer is a valid `c_int`.
    match unsafe { option::<libc::c_int>(fd, SO_PEERPIDFD) } {
        // SAFETY: the kernel has just made this descriptor, close-on-exec, for us alone.
        Ok(pidfd) if pidfd >= 0 => above_stdio(unsafe { OwnedFd::from_raw_fd(pidfd) }),
        Ok(pidfd) => Err(io::Error::other(format!("the kernel gave descriptor {pidfd}"))),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            let pid = peer_credentials(fd)?.pid;
            pidfd_open(pid.ok_or_else(|| invalid("the peer's process is not visible from here"))?)
        }
        Err(error) => Err(because("cannot get hold of the peer's process", error)),
    }
}

/// Whether this is a socket of the kind made here.
pub(crate) fn is_unix_seqpacket(fd: impl AsFd) -> bool {
    let fd = fd.as_fd();
    sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX) && sockopt::socket_type(fd) == Ok(SocketType::SEQPACKET)
}

#[cfg(test)]
mod tests {
    use super::super::test::{alone, in_fork, until_hung_up};
    use super::*;
    use crate::sys::{Exit, create_sealed_memory, pidfd_ended, process_start_time, wait_readable};
    use std::fs::File;
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::path::PathBuf;

    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            let name = format!("ringmain-socket-{:x}", crate::sys::random_u64().expect("random"));
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).expect("mkdir");
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn open_fds() -> usize {
        std::fs::read_dir("/proc/self/fd").expect("fds").count()
    }

    fn memory() -> OwnedFd {
        create_sealed_memory("passed", 4096, &[0..4096]).expect("create")
    }

    fn would_block<T: std::fmt::Debug>(result: io::Result<T>) {
        assert_eq!(result.expect_err("nothing waits").kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn messages_keep_their_bounds_and_carry_descriptors() {
        let _alone = alone();
        let (a, b) = socket_pair().expect("pair");
        let memory = memory();
        would_block(receive_message(&b, &mut [0; 8], 1));
        send_message(&a, b"one", &[]).expect("send");
        send_message(&a, b"two!", &[memory.as_fd(), a.as_fd()]).expect("send");
        let mut buf = [0; 16];
        let one = receive_message(&b, &mut buf, 2).expect("receive");
        assert_eq!((&buf[..one.len], one.fds.len(), one.truncated, one.eof), (&b"one"[..], 0, false, false));
        let two = receive_message(&b, &mut buf, 2).expect("receive");
        assert_eq!((&buf[..two.len], two.fds.len(), two.truncated, two.eof), (&b"two!"[..], 2, false, false));
        let same = |a: &OwnedFd, b: &OwnedFd| {
            let (a, b) = (rustix::fs::fstat(a).expect("stat"), rustix::fs::fstat(b).expect("stat"));
            (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
        };
        assert!(same(&two.fds[0], &memory) && same(&two.fds[1], &a));
        for fd in &two.fds {
            let flags = rustix::io::fcntl_getfd(fd).expect("flags");
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn more_descriptors_than_asked_for_are_closed_and_reported() {
        let _alone = alone();
        const TABLE: [(usize, usize); 7] = [(2, 1), (3, 1), (253, 1), (1, 0), (2, 0), (253, 252), (4, 3)];
        let (a, b) = socket_pair().expect("pair");
        let memory = memory();
        // In a copy of the process, where no other test opens or closes anything meanwhile.
        let exit = in_fork(|| {
            let before = open_fds();
            for (row, (sent, asked)) in TABLE.into_iter().enumerate() {
                let row = row as u8;
                if send_message(&a, b"x", &vec![memory.as_fd(); sent]).is_err() {
                    return 10 + row;
                }
                let Ok(received) = receive_message(&b, &mut [0; 8], asked) else { return 20 + row };
                if !received.truncated || received.eof || received.fds.len() > asked {
                    return 30 + row;
                }
                drop(received);
                if open_fds() != before {
                    return 40 + row;
                }
            }
            0
        });
        assert_eq!(exit, Exit::Code(0), "the tens say what failed, the ones in which row of {TABLE:?}");
    }

    #[test]
    fn a_message_whose_descriptor_finds_no_room_in_our_table_stays_and_is_taken_once_later() {
        let _alone = alone();
        let (a, b) = socket_pair().expect("pair");
        send_message(&a, b"first", &[memory().as_fd()]).expect("send");
        send_message(&a, b"second", &[]).expect("send");
        // In a copy of the process, whose limit is nobody else's.
        let exit = in_fork(|| {
            let mut buf = [0; 8];
            let before = open_fds();
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            let none = rustix::process::Rlimit { current: Some(0), ..limit };
            for _ in 0..3 {
                let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, none);
                let refused = receive_or_leave(&b, &mut buf, 1);
                let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
                if !refused.is_err_and(|error| crate::error::is_scarcity(&error)) || open_fds() != before {
                    return 1;
                }
            }
            let Ok(first) = receive_or_leave(&b, &mut buf, 1) else { return 2 };
            if (&buf[..first.len], first.fds.len(), first.truncated, first.eof) != (b"first", 1, false, false) {
                return 3;
            }
            // The copy that was looked at, and none of what was taken away.
            if open_fds() != before + 1 {
                return 4;
            }
            let Ok(second) = receive_or_leave(&b, &mut buf, 1) else { return 5 };
            if (&buf[..second.len], second.fds.len(), second.truncated) != (b"second", 0, false) {
                return 6;
            }
            u8::from(receive_or_leave(&b, &mut buf, 1).is_ok()) * 7
        });
        assert_eq!(exit, Exit::Code(0));
    }

    #[test]
    fn a_message_longer_than_the_buffer_is_reported() {
        let _alone = alone();
        let (a, b) = socket_pair().expect("pair");
        send_message(&a, &[7; 100], &[]).expect("send");
        send_message(&a, b"next", &[]).expect("send");
        let mut buf = [0; 99];
        let received = receive_message(&b, &mut buf, 1).expect("receive");
        assert_eq!((received.len, received.truncated), (99, true));
        let received = receive_message(&b, &mut buf, 1).expect("receive");
        assert_eq!((&buf[..received.len], received.truncated), (&b"next"[..], false));
    }

    #[test]
    fn the_end_is_told_from_an_empty_message_and_seen_after_what_was_sent() {
        let _alone = alone();
        let (a, b) = socket_pair().expect("pair");
        rustix::net::send(&a, &[], SendFlags::empty()).expect("empty");
        assert_eq!(peek(&b, &mut [0; 8]).expect("peek"), Arrived::Data(0));
        let empty = receive_message(&b, &mut [0; 8], 1).expect("receive");
        assert_eq!((empty.len, empty.eof), (0, false));
        assert_eq!(receive_nothing(&b).expect("nothing"), Arrived::Nothing);
        send_message(&a, b"last", &[]).expect("send");
        drop(a);
        until_hung_up(&b);
        assert_eq!(peek(&b, &mut [0; 8]).expect("peek"), Arrived::Data(4));
        assert_eq!(receive_message(&b, &mut [0; 8], 1).expect("receive").len, 4);
        for _ in 0..2 {
            assert!(receive_message(&b, &mut [0; 8], 1).expect("receive").eof);
            assert_eq!(peek(&b, &mut [0; 8]).expect("peek"), Arrived::Eof);
            assert_eq!(receive_nothing(&b).expect("nothing"), Arrived::Eof);
        }
        let error = send_message(&b, b"x", &[]).expect_err("nobody there");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_peer_that_left_without_reading_is_an_end_too() {
        let _alone = alone();
        for look in 0..3 {
            let (a, b) = socket_pair().expect("pair");
            send_message(&b, b"unread", &[]).expect("send");
            drop(a);
            until_hung_up(&b);
            let end = match look {
                0 => receive_message(&b, &mut [0; 8], 1).expect("receive").eof,
                1 => peek(&b, &mut [0; 8]).expect("peek") == Arrived::Eof,
                _ => receive_nothing(&b).expect("nothing") == Arrived::Eof,
            };
            assert!(end, "look {look}");
        }
    }

    #[test]
    fn what_a_peer_sent_that_left_without_reading_comes_before_the_end() {
        let _alone = alone();
        for look in 0..3 {
            let (a, b) = socket_pair().expect("pair");
            send_message(&b, b"unread", &[]).expect("send");
            send_message(&a, b"last", &[]).expect("send");
            drop(a);
            until_hung_up(&b);
            match look {
                0 => {}
                1 => assert_eq!(peek(&b, &mut [0; 8]).expect("peek"), Arrived::Data(4)),
                _ => assert_eq!(peek_message(&b, &mut [0; 8]).expect("peek").len, 4),
            }
            let received = receive_message(&b, &mut [0; 8], 1).expect("receive");
            assert_eq!((received.len, received.eof), (4, false), "look {look}");
            assert!(receive_message(&b, &mut [0; 8], 1).expect("receive").eof, "look {look}");
        }
    }

    #[test]
    fn descriptors_where_none_are_expected_never_arrive() {
        let _alone = alone();
        let (a, b) = socket_pair().expect("pair");
        let memory = memory();
        // In a copy of the process, where no other test opens or closes anything meanwhile.
        let exit = in_fork(|| {
            let before = open_fds();
            let sent = send_message(&a, b"gift", &[memory.as_fd(); 3]).is_ok();
            let looked = matches!(peek(&b, &mut [0; 2]), Ok(Arrived::Data(2)));
            let taken = matches!(receive_nothing(&b), Ok(Arrived::Data(4)));
            let empty = matches!(receive_nothing(&b), Ok(Arrived::Nothing));
            let closed = open_fds() == before;
            [sent, looked, taken, empty, closed].iter().position(|held| !held).map_or(0, |at| at as u8 + 1)
        });
        assert_eq!(exit, Exit::Code(0), "which of sent, looked, taken, empty, closed did not hold");
    }

    #[test]
    fn descriptors_that_are_refused_cannot_be_sent_not_even_to_who_was_not_accepted_yet() {
        let _alone = alone();
        let (a, b) = socket_pair().expect("pair");
        if !refuse_descriptors(&b) {
            return; // an older kernel
        }
        let memory = memory();
        let error = send_message(&a, b"gift", &[memory.as_fd()]).expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
        send_message(&a, b"words", &[]).expect("send");
        send_message(&b, b"back", &[memory.as_fd()]).expect("the other way is open");
        assert_eq!(receive_message(&b, &mut [0; 8], 1).expect("receive").len, 5);
        let dir = Dir::new();
        let listener = listen_at(&dir.0.join("s"), 4).expect("listen");
        assert!(refuse_descriptors(&listener));
        let near = connect_at(&dir.0.join("s"), None).expect("connect");
        send_message(&near, b"gift", &[memory.as_fd()]).expect_err("refused before it is accepted");
        let far = accept(&listener).expect("accept").expect("waits");
        send_message(&near, b"gift", &[memory.as_fd()]).expect_err("refused");
        send_message(&far, b"back", &[memory.as_fd()]).expect("the other way is open");
    }

    #[test]
    fn what_is_looked_at_stays_with_its_descriptors_and_an_end_is_told_from_empty_messages() {
        let _alone = alone();
        let (a, b) = socket_pair().expect("pair");
        let memory = memory();
        would_block(peek_message(&b, &mut [0; 8]));
        send_message(&a, b"gift", &[memory.as_fd()]).expect("send");
        // In a copy of the process, where no other test opens or closes anything meanwhile.
        let exit = in_fork(|| {
            let before = open_fds();
            for look in 0..2 {
                let mut buf = [0; 8];
                let Ok(found) = peek_message(&b, &mut buf) else { return 10 + look };
                let is = (&buf[..found.len], found.fds.len(), found.truncated, found.eof);
                if is != (&b"gift"[..], 0, true, false) {
                    return 20 + look;
                }
                drop(found);
                if open_fds() != before {
                    return 30 + look;
                }
            }
            0
        });
        assert_eq!(exit, Exit::Code(0), "the tens say what failed, the ones at which look");
        assert_eq!(receive_message(&b, &mut [0; 8], 1).expect("receive").fds.len(), 1);
        send_message(&a, b"words", &[]).expect("send");
        assert!(!peek_message(&b, &mut [0; 8]).expect("peek").truncated);

        let empty = |to: &OwnedFd| net::send(to, &[], SendFlags::empty()).expect("send");
        // Its own end of the pair hangs up: in order, and with something that it has not read.
        for (messages, unread_there) in [(0, false), (1, false), (3, false), (0, true), (2, true)] {
            let (a, b) = socket_pair().expect("pair");
            (0..messages).for_each(|_| assert_eq!(empty(&a), 0));
            if unread_there {
                send_message(&b, b"never read", &[]).expect("send");
            }
            drop(a);
            until_hung_up(&b);
            shut_socket(&b);
            assert_eq!(has_unread(&b), messages > 0, "{messages} messages, {unread_there}");
        }
        let (a, b) = socket_pair().expect("pair");
        shut_socket(&b);
        assert!(!has_unread(&b), "the peer is still there");
        drop(a);
    }

    #[test]
    fn what_cannot_be_sent_is_an_error_with_the_numbers() {
        let _alone = alone();
        let (a, b) = socket_pair().expect("pair");
        assert!(send_message(&a, b"", &[]).is_err());
        let error = send_message(&a, b"x", &[a.as_fd(); 254]).expect_err("too many");
        assert!(error.to_string().contains("253") && error.to_string().contains("254"), "{error}");
        while send_message(&a, b"fill", &[]).is_ok() {}
        would_block(send_message(&a, b"x", &[]));
        assert_eq!(receive_message(&b, &mut [0; 8], 0).expect("receive").len, 4);
        let file = File::open("/dev/null").expect("open");
        assert!(send_message(&file, b"x", &[]).is_err());
        assert!(receive_message(&file, &mut [0; 8], 1).is_err());
        assert!(peek(&file, &mut [0; 8]).is_err());
        assert!(receive_nothing(&file).is_err());
        assert!(peer_credentials(&file).is_err());
        assert!(peer_pidfd(&file).is_err());
        assert!(accept(&file).is_err());
    }

    #[test]
    fn strangers_meet_at_a_path_and_learn_who_the_other_is() {
        let _alone = alone();
        let dir = Dir::new();
        let path = dir.0.join("s");
        let error = connect_at(&path, None).expect_err("nobody");
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        let listener = listen_at(&path, 4).expect("listen");
        assert!(accept(&listener).expect("accept").is_none());
        let near = connect_at(&path, Some(Duration::ZERO)).expect("connect");
        assert!(wait_readable(&listener, None).expect("poll"));
        let far = accept(&listener).expect("accept").expect("waits");
        assert!(accept(&listener).expect("accept").is_none());
        send_message(&near, b"hello", &[]).expect("send");
        assert_eq!(receive_nothing(&far).expect("receive"), Arrived::Data(5));
        for end in [&near, &far] {
            let peer = peer_credentials(end).expect("credentials");
            assert_eq!(peer.pid, Some(std::process::id()));
            assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
            assert!(!pidfd_ended(peer_pidfd(end).expect("pidfd")));
            assert!(is_unix_seqpacket(end));
        }
        assert_eq!(listen_at(&path, 4).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        // For a moment a process that another test is starting holds the listening socket too, and its backlog fills.
        let end = Instant::now() + Duration::from_secs(30);
        let error = loop {
            match connect_at(&path, Some(Duration::from_millis(1))) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break error,
                held => assert!(Instant::now() < end, "somebody holds the listening socket: {held:?}"),
            }
            std::thread::yield_now();
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
        unlink_socket(&path).expect("unlink");
        unlink_socket(&path).expect("gone already");
        listen_at(&path, 4).expect("listen again");
        File::create(dir.0.join("file")).expect("create");
        assert!(unlink_socket(&dir.0.join("file")).is_err());
        assert!(dir.0.join("file").exists());
    }

    #[test]
    fn a_full_backlog_ends_with_the_timeout() {
        let _alone = alone();
        let dir = Dir::new();
        let path = dir.0.join("s");
        let _listener = listen_at(&path, 0).expect("listen");
        let mut waiting = Vec::new();
        let error = loop {
            match connect_at(&path, Some(Duration::from_millis(1))) {
                Ok(fd) => waiting.push(fd),
                Err(error) => break error,
            }
            assert!(waiting.len() < 16);
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    }

    #[test]
    fn a_path_that_does_not_fit_an_address_is_an_error_with_both_lengths() {
        let _alone = alone();
        let dir = Dir::new();
        let fitting = dir.0.join("x".repeat(MAX_PATH - dir.0.as_os_str().len() - 1));
        let listener = listen_at(&fitting, 1).expect("107 bytes fit");
        connect_at(&fitting, None).expect("connect");
        drop(listener);
        let long = fitting.with_file_name(format!("{}x", fitting.file_name().expect("name").display()));
        for result in [listen_at(&long, 1), connect_at(&long, None), connect_at(Path::new(""), None)] {
            let error = result.expect_err("too long or empty").to_string();
            assert!(error.contains("107") && (error.contains("108") || error.contains("is 0")), "{error}");
        }
    }

    #[test]
    fn only_our_kind_of_socket_is_taken_for_one() {
        let _alone = alone();
        let (stream, _) = UnixStream::pair().expect("pair");
        let (datagram, _) = UnixDatagram::pair().expect("pair");
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let others = [stream.as_fd(), datagram.as_fd(), tcp.as_fd()];
        assert!(others.iter().all(|fd| !is_unix_seqpacket(fd)));
        assert!(!is_unix_seqpacket(File::open("/dev/null").expect("open")));
        assert!(!is_unix_seqpacket(memory()));
        assert!(is_unix_seqpacket(socket_pair().expect("pair").0));
    }

    #[test]
    fn a_socket_without_a_peer_names_nobody() {
        let _alone = alone();
        let lonely = socket(SocketFlags::empty()).expect("socket");
        let error = peer_credentials(&lonely).expect_err("nobody");
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        assert!(peer_pidfd(&lonely).is_err());
        assert!(process_start_time(std::process::id()).is_some());
    }
}
