//! Other processes: by descriptor, so that nobody else is ever meant; and starting them.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::{Errno, FdFlags, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::poll::poll_until;
use super::{above_stdio, because, invalid, is_unix_seqpacket, with_ordinary_scheduling};
use crate::sys::Exit;

/// A descriptor of a process, readable when it has ended. Exact for a child that is not reaped yet;
/// otherwise the pid may have been given to somebody else meanwhile.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pidfd = rustix::process::pidfd_open(process(pid)?, PidfdFlags::empty())
        .map_err(|error| because(format_args!("cannot get hold of process {pid}"), error))?;
    above_stdio(pidfd)
}

/// How the process ended, `None` while it lives. The status of a child is taken: its pid is free
/// for others then, so a `std::process::Child` of it must not be killed or waited for any more.
pub(crate) fn pidfd_reap(pidfd: impl AsFd) -> io::Result<Option<Exit>> {
    let pidfd = pidfd.as_fd();
    match wait_id(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Err(Errno::CHILD) => Ok(pidfd_ended(pidfd).then_some(Exit::Unknown)),
        result => result.map_err(|error| because("cannot ask how a process ended", error)),
    }
}

fn wait_id(id: WaitId<'_>, options: WaitIdOptions) -> Result<Option<Exit>, Errno> {
    let status = retry_on_intr(|| rustix::process::waitid(id.clone(), options))?;
    Ok(status.map(|status| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (_, Some(signal)) => Exit::Signal(signal),
        _ => Exit::Unknown,
    }))
}

fn process(pid: u32) -> io::Result<Pid> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    id.ok_or_else(|| invalid(format!("{pid} is not a process id")))
}

/// Waits until a child of ours has ended, whose status stays to be taken. For where there are no descriptors of processes;
/// returns at once for what is no child.
pub(crate) fn child_wait(pid: u32) {
    if let Ok(id) = process(pid) {
        let _ = wait_id(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    }
}

/// As [`pidfd_reap`], of a child by its number, which is its own until this has returned its end. `Unknown`: somebody else
/// has taken its status, and the number may be anybody's.
pub(crate) fn child_reap(pid: u32) -> io::Result<Option<Exit>> {
    match wait_id(WaitId::Pid(process(pid)?), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Err(Errno::CHILD) => Ok(Some(Exit::Unknown)),
        result => result.map_err(|error| because("cannot ask how a process ended", error)),
    }
}

/// As [`pidfd_kill`], of a child by its number. The caller keeps others from reaping it meanwhile; one that somebody has
/// reaped before is not meant.
pub(crate) fn child_kill(pid: u32, signal: i32) -> io::Result<()> {
    let id = process(pid)?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match wait_id(WaitId::Pid(id), options) {
        Ok(None) => {}
        // A zombie, or no child of ours any more.
        Ok(Some(_)) | Err(Errno::CHILD) => return Ok(()),
        Err(error) => return Err(because("cannot ask whether a process lives", error)),
    }
    let signal = named_signal(signal)?;
    match rustix::process::kill_process(id, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(because(format_args!("cannot send signal {}", signal.as_raw()), error)),
    }
}

fn named_signal(signal: i32) -> io::Result<Signal> {
    Signal::from_named_raw(signal).ok_or_else(|| invalid(format!("{signal} is not a signal that has a name")))
}

/// Sends a signal; one to a process that has ended already is none.
pub(crate) fn pidfd_kill(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let signal = named_signal(signal)?;
    match rustix::process::pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(because(format_args!("cannot send signal {}", signal.as_raw()), error)),
    }
}

pub(crate) fn pidfd_ended(pidfd: impl AsFd) -> bool {
    poll_until(pidfd.as_fd(), PollFlags::IN, Some(Instant::now())).is_ok_and(|revents| revents.contains(PollFlags::IN))
}

/// When the process started, in clock ticks since boot: with the pid a name that is never re-used.
/// `None`: there is no such process.
pub(crate) fn process_start_time(pid: u32) -> Option<u64> {
    start_time(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn start_time(stat: &[u8]) -> Option<u64> {
    field(stat, 22)?.parse().ok()
}

/// Whether the process is about to end, its descriptors closed perhaps, and has not ended yet. Its first thread counts: one that
/// ends that alone seems to be about to end for as long as it lives.
pub(crate) fn process_is_exiting(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_exiting(&stat))
}

fn is_exiting(stat: &[u8]) -> bool {
    /// `include/linux/sched.h`.
    const PF_EXITING: u64 = 4;
    let flags = field(stat, 9).and_then(|flags| flags.parse::<u64>().ok());
    field(stat, 3) == Some("Z") || flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

/// A field behind the second one of proc_pid_stat(5). That is the program's name in parentheses, which may hold anything.
fn field(stat: &[u8], number: usize) -> Option<&str> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace().nth(number - 3)
}

/// One inheritable descriptor at a time, or two children started at once would get both.
static SPAWNING: Mutex<()> = Mutex::new(());

/// Starts `command` with `child_end` open in it, whose number is in the variable `env_name`.
///
/// Not by `pre_exec`, which would make std copy this process's page tables instead of borrowing its
/// memory. So a program that another thread starts meanwhile by other means may inherit it as well.
pub(crate) fn spawn_with_fd(command: &mut Command, child_end: OwnedFd, env_name: &str) -> io::Result<Child> {
    let child_end = above_stdio(child_end)?;
    command.env(env_name, child_end.as_raw_fd().to_string());
    let child = {
        let _one = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
        let child = rustix::io::fcntl_setfd(&child_end, FdFlags::empty())
            .map_err(io::Error::from)
            .and_then(|()| with_ordinary_scheduling(|| command.spawn())?);
        drop(child_end);
        child
    };
    // Started once more by its owner, the command must not name a number that means nothing then.
    command.env_remove(env_name);
    child.map_err(|error| because(format_args!("cannot start '{}'", command.get_program().display()), error))
}

/// Takes over the descriptor that this process was started with, once per process and number.
///
/// The number comes from an environment variable, which a grandchild or a second copy of the
/// library sees too: nothing is touched that is not open or not our kind of socket.
pub(crate) fn claim_fd(number: i32) -> io::Result<OwnedFd> {
    static CLAIMED: Mutex<Vec<i32>> = Mutex::new(Vec::new());
    if number < 3 {
        return Err(invalid(format!("descriptor {number} is not one that was handed over")));
    }
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    if claimed.contains(&number) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("descriptor {number} was taken already; one process connects by it once"),
        ));
    }
    // SAFETY: takes plain integers and changes nothing; a closed descriptor is an error.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        let error = io::Error::last_os_error();
        return Err(because(format_args!("descriptor {number} is not open: it was meant for another process"), error));
    }
    // SAFETY: open, as was just seen; what arrived with the exec is closed by nobody who does not
    // own it, and the borrow ends with the next statements.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    if !is_unix_seqpacket(borrowed) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("descriptor {number} is not the socket that was handed over"),
        ));
    }
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    claimed.push(number);
    // SAFETY: an open socket of our kind, named by the process that started this one as the one to
    // take over, and never taken by us before.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
#[allow(clippy::zombie_processes, reason = "children are reaped by their pidfd")]
mod tests {
    use super::super::test::{alone, in_fork, until_hung_up};
    use super::*;
    use crate::sys::{
        Arrived, Interest, Poller, peer_credentials, peer_pidfd, random_u64, receive_nothing, send_message,
        socket_pair, wait_readable,
    };
    use std::fs::File;
    use std::os::fd::IntoRawFd;
    use std::process::Stdio;
    use std::thread;

    const ENV: &str = "RINGMAIN_TEST_FD";

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn ended(child: &Child) -> Exit {
        let pidfd = pidfd_open(child.id()).expect("pidfd");
        assert!(wait_readable(&pidfd, None).expect("poll"));
        pidfd_reap(&pidfd).expect("reap").expect("ended")
    }

    #[test]
    fn the_way_a_child_ended_is_told_once() {
        for (script, exit) in [("exit 0", Exit::Code(0)), ("exit 7", Exit::Code(7)), ("kill -9 $$", Exit::Signal(9))] {
            let child = shell(script).spawn().expect("spawn");
            let pidfd = pidfd_open(child.id()).expect("pidfd");
            assert!(wait_readable(&pidfd, None).expect("poll"));
            assert!(pidfd_ended(&pidfd));
            assert_eq!(pidfd_reap(&pidfd).expect("reap"), Some(exit), "{script}");
            assert_eq!(pidfd_reap(&pidfd).expect("reap"), Some(Exit::Unknown), "{script}");
        }
    }

    #[test]
    fn a_child_is_killed_and_reaped_by_its_number_and_nobody_else_is() {
        let child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().expect("spawn");
        let pid = child.id();
        assert_eq!(child_reap(pid).expect("lives"), None);
        assert!(child_kill(pid, 999).is_err());
        child_kill(pid, libc::SIGKILL).expect("kill");
        child_wait(pid);
        child_wait(pid); // the status is there still
        child_kill(pid, libc::SIGKILL).expect("dead already");
        assert_eq!(child_reap(pid).expect("reap"), Some(Exit::Signal(libc::SIGKILL)));
        assert_eq!(child_reap(pid).expect("reaped"), Some(Exit::Unknown));
        // Of no child of ours nothing is waited for, and it gets no signal: this would be the end of the test.
        child_wait(std::process::id());
        child_kill(std::process::id(), libc::SIGKILL).expect("not ours");
        for pid in [0, u32::MAX] {
            child_wait(pid);
            assert!(child_reap(pid).is_err() && child_kill(pid, libc::SIGKILL).is_err());
        }
    }

    #[test]
    fn a_living_child_is_killed_by_its_descriptor() {
        let _alone = alone();
        let (near, far) = socket_pair().expect("pair");
        // Lives until its input ends, which it does not.
        let mut command = Command::new("/bin/cat");
        let child = command.stdin(Stdio::piped()).spawn().expect("spawn");
        let pidfd = pidfd_open(child.id()).expect("pidfd");
        assert!(!pidfd_ended(&pidfd));
        assert_eq!(pidfd_reap(&pidfd).expect("reap"), None);
        assert!(pidfd_kill(&pidfd, 0).is_err() && pidfd_kill(&pidfd, 999).is_err());
        assert!(pidfd_kill(&near, libc::SIGKILL).is_err());
        pidfd_kill(&pidfd, libc::SIGKILL).expect("kill");
        assert!(wait_readable(&pidfd, None).expect("poll"));
        pidfd_kill(&pidfd, libc::SIGKILL).expect("dead already");
        assert_eq!(pidfd_reap(&pidfd).expect("reap"), Some(Exit::Signal(libc::SIGKILL)));
        pidfd_kill(&pidfd, libc::SIGKILL).expect("reaped already");
        drop(far);
    }

    #[test]
    fn what_is_no_process_or_not_ours_is_an_error_or_unknown() {
        for pid in [0, u32::MAX, i32::MAX as u32] {
            assert!(pidfd_open(pid).is_err(), "{pid}");
        }
        let parent = pidfd_open(std::os::unix::process::parent_id()).expect("pidfd");
        assert_eq!(pidfd_reap(&parent).expect("not our child"), None);
        assert!(pidfd_reap(File::open("/dev/null").expect("open")).is_err());
    }

    #[test]
    fn start_times_survive_any_program_name() {
        let fields: String = (3..=52).map(|field| format!(" {field}00")).collect();
        for name in ["(cat)", "(a b)", "(x) R 1 2 3)", "())", "(\u{fc})"] {
            assert_eq!(start_time(format!("42 {name}{fields}\n").as_bytes()), Some(2200), "{name}");
        }
        assert_eq!(start_time(&[b"42 (\xff)", fields.as_bytes()].concat()), Some(2200));
        for broken in [&b""[..], b"42 (cat", b"42 (cat)", b"42 (cat) S 1 2", b")", b"1 (a) \xff"] {
            assert_eq!(start_time(broken), None);
        }
        let own = process_start_time(std::process::id()).expect("own");
        let child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().expect("spawn");
        assert!(process_start_time(child.id()).expect("child") >= own);
        pidfd_kill(pidfd_open(child.id()).expect("pidfd"), libc::SIGKILL).expect("kill");
        ended(&child);
        assert_eq!(process_start_time(u32::MAX), None);
    }

    #[test]
    fn a_process_that_has_ended_but_for_its_reaping_is_exiting_and_one_that_runs_is_not() {
        let child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().expect("spawn");
        let pidfd = pidfd_open(child.id()).expect("pidfd");
        assert!(!process_is_exiting(child.id()) && !process_is_exiting(std::process::id()));
        pidfd_kill(&pidfd, libc::SIGKILL).expect("kill");
        assert!(wait_readable(&pidfd, None).expect("poll"));
        assert!(process_is_exiting(child.id()));
        ended(&child);
        assert!(!process_is_exiting(child.id()), "there is none any more");
        assert!(!process_is_exiting(0) && !process_is_exiting(u32::MAX));
        for (stat, exiting) in
            [("1 (a) S 1 1 1 0 -1 4194560 0", false), ("1 (a) R 1 1 1 0 -1 4194564 0", true), ("1 (a)", false)]
        {
            assert_eq!(is_exiting(stat.as_bytes()), exiting, "{stat}");
        }
    }

    #[test]
    fn a_child_finds_its_end_open_and_the_parent_keeps_none() {
        let _alone = alone();
        let (near, far) = socket_pair().expect("pair");
        let mut command = shell(&format!("test -S /proc/self/fd/${ENV} && exit 5"));
        let child = spawn_with_fd(&mut command, far, ENV).expect("spawn");
        assert_eq!(ended(&child), Exit::Code(5));
        // All copies are gone: the child's with it, the parent's before.
        until_hung_up(&near);
        assert_eq!(receive_nothing(&near).expect("end"), Arrived::Eof);
        assert!(command.get_envs().all(|(name, value)| name != ENV || value.is_none()));
    }

    #[test]
    fn children_started_at_once_get_their_own_end_only() {
        let _alone = alone();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn(|| {
                    for _ in 0..8 {
                        let (_near, far) = socket_pair().expect("pair");
                        let script =
                            format!("test -S /proc/self/fd/${ENV} && exit $(ls -l /proc/$$/fd | grep -c socket:)");
                        let child = spawn_with_fd(&mut shell(&script), far, ENV).expect("spawn");
                        assert_eq!(ended(&child), Exit::Code(1), "not one socket");
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("join");
        }
    }

    #[test]
    fn a_child_that_cannot_be_started_closes_its_end() {
        let (near, far) = socket_pair().expect("pair");
        let error = spawn_with_fd(&mut Command::new("/nonexistent/program"), far, ENV).expect_err("started");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/nonexistent/program"), "{error}");
        until_hung_up(&near);
        assert_eq!(receive_nothing(&near).expect("end"), Arrived::Eof);
    }

    #[test]
    fn a_grandchild_hides_the_hang_up_but_not_the_death() {
        let _alone = alone();
        let (near, far) = socket_pair().expect("pair");
        let fifo = std::env::temp_dir().join(format!("ringmain-fifo-{:x}", random_u64().expect("random")));
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).expect("mkfifo");
        let mut command = shell("cat \"$FIFO\" & exit 3");
        let child = spawn_with_fd(command.env("FIFO", &fifo), far, ENV).expect("spawn");
        assert_eq!(ended(&child), Exit::Code(3));
        assert_eq!(receive_nothing(&near).expect("hidden"), Arrived::Nothing);
        // Ends the grandchild, once it has come to open its side.
        drop(File::options().write(true).open(&fifo).expect("open"));
        std::fs::remove_file(&fifo).expect("remove");
        assert!(wait_readable(&near, None).expect("poll"));
        assert_eq!(receive_nothing(&near).expect("end"), Arrived::Eof);
    }

    #[test]
    fn the_peer_of_an_inherited_end_is_the_parent() {
        let _alone = alone();
        let (near, far) = socket_pair().expect("pair");
        let parent = std::process::id();
        let exit = in_fork(|| {
            let Ok(peer) = peer_credentials(&far) else { return 1 };
            let Ok(pidfd) = peer_pidfd(&far) else { return 2 };
            // Not a child of the copy, and alive.
            let alive = matches!(pidfd_reap(&pidfd), Ok(None)) && !pidfd_ended(&pidfd);
            u8::from(peer.pid != Some(parent)) << 2 | u8::from(!alive) << 3
        });
        assert_eq!(exit, Exit::Code(0));
        drop(near);
    }

    #[test]
    fn a_poller_sees_a_process_end() {
        let poller = Poller::new().expect("poller");
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().expect("spawn");
        let pidfd = pidfd_open(child.id()).expect("pidfd");
        poller.add(&pidfd, 9, Interest::READ).expect("add");
        let mut events = Vec::new();
        poller.wait(&mut events, Some(std::time::Duration::ZERO)).expect("wait");
        assert!(events.is_empty());
        drop(child.stdin.take());
        while events.is_empty() {
            poller.wait(&mut events, None).expect("wait");
        }
        assert!(events[0].readable && events[0].token == 9);
        assert_eq!(pidfd_reap(&pidfd).expect("reap"), Some(Exit::Code(0)));
    }

    #[test]
    fn an_inherited_end_is_claimed_once_and_nothing_else_is_touched() {
        let _alone = alone();
        let (near, far) = socket_pair().expect("pair");
        // As after an exec: open, inheritable, owned by nobody.
        let number = far.into_raw_fd();
        // SAFETY: just released, so borrowed by nobody else.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(borrowed, FdFlags::empty()).expect("inheritable");
        let claimed = claim_fd(number).expect("claim");
        assert!(rustix::io::fcntl_getfd(&claimed).expect("flags").contains(FdFlags::CLOEXEC));
        let error = claim_fd(number).expect_err("twice");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        send_message(&claimed, b"x", &[]).expect("send");
        assert_eq!(receive_nothing(&near).expect("receive"), Arrived::Data(1));

        let file = File::open("/dev/null").expect("open");
        rustix::io::fcntl_setfd(&file, FdFlags::empty()).expect("inheritable");
        let error = claim_fd(file.as_raw_fd()).expect_err("not a socket");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(rustix::io::fcntl_getfd(&file).expect("still open"), FdFlags::empty());
        for number in [-1, 0, 2, i32::MIN, i32::MAX, 1_000_000] {
            let error = claim_fd(number).expect_err("not open");
            assert!(error.to_string().contains(&number.to_string()), "{error}");
        }
    }
}
