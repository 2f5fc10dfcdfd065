//! Sleeping on descriptors: doorbells, many at once, one with a deadline.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use super::above_stdio;
use crate::sys::{Event, Interest};

/// A doorbell: rings add up until somebody looks.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(above_stdio(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)?))
    }

    /// What a peer handed over, if it is one that does not block; the peer can change that later, see [`ring`](Self::ring).
    ///
    /// A write to anything else could wait, or raise SIGPIPE. `/proc` says what it is without asking what lies behind it, such
    /// as a file system that does not answer, and nothing else is named so: names of files begin with a slash. No call on the
    /// descriptor says as much: for `fstat`, and for a read of no bytes, a timerfd is the same. Without `/proc` its flags must do.
    pub(crate) fn from_owned(fd: OwnedFd) -> Result<Self, String> {
        // The thread's own: it may have a table to itself, and the first thread of the process, whose `self` is, may have ended.
        let found = std::fs::read_link(format!("/proc/thread-self/fd/{}", fd.as_raw_fd()));
        if let Ok(found) = found
            && found.as_os_str() != "anon_inode:[eventfd]"
        {
            return Err(format!("the doorbell is {:?} instead of an eventfd", found.display().to_string()));
        }
        let flags =
            rustix::fs::fcntl_getfl(&fd).map_err(|error| format!("cannot ask for the doorbell's flags: {error}"))?;
        if !flags.contains(OFlags::NONBLOCK) {
            return Err(format!(
                "the doorbell has the flags {:#x}, without O_NONBLOCK ({:#x}), so that to ring it could block",
                flags.bits(),
                OFlags::NONBLOCK.bits()
            ));
        }
        Ok(Self(fd))
    }

    /// Never blocks as long as this process alone holds the descriptor. Whoever else holds it can
    /// clear `O_NONBLOCK` and fill the counter, and no write to an eventfd can refuse to wait for
    /// that: so only a renderer rings one, main's, and no main ever rings one that a renderer holds.
    pub(crate) fn ring(&self) {
        // EAGAIN is a counter at its limit: it rings already. Nothing else can be helped here.
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.0, &1u64.to_ne_bytes()));
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor that becomes readable at a point in time.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(above_stdio(timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
    }

    /// Readable at `at`, or never; replaces what was set before.
    pub(crate) fn set(&self, at: Option<Instant>) -> io::Result<()> {
        // Zero would disarm it; what is due already is due in a nanosecond.
        let left = at.map(|at| at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1)));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = left.map_or(zero, |left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: zero, it_value })?;
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One sleep for any number of descriptors. Any thread may add and remove while another waits.
#[derive(Debug)]
pub(crate) struct Poller(OwnedFd);

impl Poller {
    /// Events taken from the kernel by one call; the rest comes with the next, in turn.
    pub(crate) const BATCH: usize = 128;

    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(above_stdio(epoll::create(epoll::CreateFlags::CLOEXEC)?)?))
    }

    /// A descriptor that a peer holds as well must be removed before it is closed: the kernel
    /// forgets it with its *last* holder only.
    pub(crate) fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut flags = epoll::EventFlags::RDHUP;
        flags.set(epoll::EventFlags::IN, interest.read);
        flags.set(epoll::EventFlags::ET, interest.edge);
        Ok(epoll::add(&self.0, fd, epoll::EventData::new_u64(token), flags)?)
    }

    pub(crate) fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    /// Replaces `events` by what has happened, after waiting for it at most for `timeout`, which is
    /// rounded up to milliseconds. A signal ends the wait with no events.
    pub(crate) fn wait(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        // Beyond what the plain call can express, an early return without events does no harm.
        let timeout = timeout.map(|timeout| {
            let timeout = timeout.min(Duration::from_millis(i32::MAX as u64));
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() }
        });
        let mut buffer = [const { MaybeUninit::uninit() }; Self::BATCH];
        let found = match epoll::wait(&self.0, &mut buffer, timeout.as_ref()) {
            Ok((found, _)) => found,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let hangup = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        events.extend(found.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Event {
                token: data.u64(),
                readable: flags.contains(epoll::EventFlags::IN),
                hangup: flags.intersects(hangup),
            }
        }));
        Ok(())
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until there is something to read or the other end is gone; false: the deadline passed.
pub(crate) fn wait_readable(fd: impl AsFd, deadline: Option<Instant>) -> io::Result<bool> {
    Ok(!poll_until(fd.as_fd(), PollFlags::IN, deadline)?.is_empty())
}

/// What of `wanted`, or of hang-up and error, holds before the deadline.
pub(super) fn poll_until(fd: BorrowedFd<'_>, wanted: PollFlags, deadline: Option<Instant>) -> io::Result<PollFlags> {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(fd, wanted)];
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) => return Ok(fds[0].revents()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::{alone, until_hung_up};
    use super::*;
    use crate::sys::{Arrived, peek, receive_nothing, send_message, socket_pair};
    use std::fs::File;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn happened(poller: &Poller, timeout: Option<Duration>) -> Vec<Event> {
        let mut events = vec![Event { token: 99, readable: true, hangup: true }];
        poller.wait(&mut events, timeout).expect("wait");
        events.sort_by_key(|event| event.token);
        events
    }

    fn readable(token: u64) -> Event {
        Event { token, readable: true, hangup: false }
    }

    fn drain(bell: &EventFd) -> bool {
        rustix::io::read(bell, &mut [0; 8]).is_ok()
    }

    #[test]
    fn rings_add_up_and_are_drained_once() {
        let _alone = alone();
        let bell = EventFd::new().expect("eventfd");
        assert!(!drain(&bell));
        bell.ring();
        bell.ring();
        assert!(drain(&bell));
        assert!(!drain(&bell));
    }

    #[test]
    fn a_full_counter_is_rung_without_blocking_and_stays_readable() {
        let _alone = alone();
        let bell = EventFd::new().expect("eventfd");
        rustix::io::write(&bell, &(u64::MAX - 1).to_ne_bytes()).expect("fill");
        bell.ring();
        assert!(wait_readable(&bell, Some(Instant::now())).expect("poll"));
        assert!(drain(&bell));
    }

    #[test]
    fn what_a_peer_hands_over_is_a_doorbell_only_if_it_is_an_eventfd_that_does_not_block() {
        let _alone = alone();
        let (blocks, does_not) = (EventfdFlags::CLOEXEC, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).expect("pipe");
        // Named as much like one as a file can be.
        let memory = rustix::fs::memfd_create("anon_inode:[eventfd]", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        let table = [
            (eventfd(0, blocks).expect("eventfd"), "without O_NONBLOCK"),
            (pipe().1, "is \"pipe:["),
            (socket_pair().expect("pair").0, "is \"socket:["),
            (
                File::options().write(true).open("/dev/null").expect("open").into(),
                "is \"/dev/null\" instead of an eventfd",
            ),
            (Timer::new().expect("timer").0, "is \"anon_inode:[timerfd]\""),
            (Poller::new().expect("poller").0, "is \"anon_inode:[eventpoll]\""),
            (memory, "is \"/memfd:anon_inode:[eventfd] (deleted)\""),
        ];
        for (fd, expected) in table {
            let error = EventFd::from_owned(fd).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        EventFd::from_owned(EventFd::new().expect("eventfd").0).expect("ours");
        EventFd::from_owned(eventfd(3, does_not).expect("eventfd")).expect("one that rings already");
    }

    #[test]
    fn every_ring_is_an_edge_without_a_read_in_between() {
        let _alone = alone();
        let (bell, poller) = (EventFd::new().expect("eventfd"), Poller::new().expect("poller"));
        poller.add(&bell, 7, Interest::READ_EDGE).expect("add");
        assert_eq!(happened(&poller, NOW), []);
        for _ in 0..3 {
            bell.ring();
            assert_eq!(happened(&poller, None), [readable(7)]);
            assert_eq!(happened(&poller, NOW), []);
        }
        poller.remove(&bell).expect("remove");
        bell.ring();
        assert_eq!(happened(&poller, NOW), []);
    }

    #[test]
    fn a_level_is_reported_until_it_is_drained() {
        let _alone = alone();
        let (bell, poller) = (EventFd::new().expect("eventfd"), Poller::new().expect("poller"));
        poller.add(&bell, u64::MAX, Interest::READ).expect("add");
        bell.ring();
        assert_eq!(happened(&poller, None), [readable(u64::MAX)]);
        assert_eq!(happened(&poller, None), [readable(u64::MAX)]);
        drain(&bell);
        assert_eq!(happened(&poller, NOW), []);
    }

    #[test]
    fn a_hang_up_is_reported_whatever_the_interest_and_data_only_when_wanted() {
        let _alone = alone();
        let poller = Poller::new().expect("poller");
        let ((a, far_a), (b, far_b)) = (socket_pair().expect("pair"), socket_pair().expect("pair"));
        poller.add(&a, 1, Interest::HANGUP).expect("add");
        poller.add(&b, 2, Interest::READ).expect("add");
        send_message(&far_a, b"!", &[]).expect("send");
        send_message(&far_b, b"!", &[]).expect("send");
        assert_eq!(happened(&poller, None), [readable(2)]);
        assert_eq!(receive_nothing(&b).expect("receive"), Arrived::Data(1));
        drop((far_a, far_b));
        until_hung_up(&a);
        until_hung_up(&b);
        let events = happened(&poller, None);
        assert_eq!(events.iter().map(|event| (event.token, event.hangup)).collect::<Vec<_>>(), [(1, true), (2, true)]);
        assert_eq!(peek(&b, &mut [0; 8]).expect("peek"), Arrived::Eof);
    }

    #[test]
    fn every_datagram_is_an_edge_on_a_socket() {
        let _alone = alone();
        let ((near, far), poller) = (socket_pair().expect("pair"), Poller::new().expect("poller"));
        poller.add(&near, 3, Interest::READ_EDGE).expect("add");
        for _ in 0..3 {
            send_message(&far, b"!", &[]).expect("send");
            assert_eq!(happened(&poller, None), [readable(3)]);
            assert_eq!(happened(&poller, NOW), []);
        }
    }

    #[test]
    fn more_events_than_a_batch_arrive_with_the_next_calls() {
        let _alone = alone();
        let poller = Poller::new().expect("poller");
        let bells: Vec<_> = (0..200).map(|_| EventFd::new().expect("eventfd")).collect();
        for (token, bell) in bells.iter().enumerate() {
            poller.add(bell, token as u64, Interest::READ_EDGE).expect("add");
            bell.ring();
        }
        let mut tokens = Vec::new();
        while tokens.len() < bells.len() {
            let events = happened(&poller, NOW);
            assert!(!events.is_empty(), "{} of {} arrived", tokens.len(), bells.len());
            tokens.extend(events.iter().map(|event| event.token));
        }
        tokens.sort_unstable();
        assert!(tokens.into_iter().eq(0..200));
    }

    #[test]
    fn waits_end_with_their_timeout_and_extremes_are_no_error() {
        let _alone = alone();
        let (bell, poller) = (EventFd::new().expect("eventfd"), Poller::new().expect("poller"));
        poller.add(&bell, 1, Interest::READ).expect("add");
        assert_eq!(happened(&poller, Some(Duration::from_nanos(1))), []);
        assert!(!wait_readable(&bell, Some(Instant::now())).expect("poll"));
        let soon = Instant::now() + Duration::from_nanos(10);
        assert!(!wait_readable(&bell, Some(soon)).expect("poll"));
        bell.ring();
        assert_eq!(happened(&poller, Some(Duration::MAX)), [readable(1)]);
        assert!(wait_readable(&bell, None).expect("poll"));
    }

    #[test]
    fn what_cannot_be_polled_twice_or_at_all_is_an_error() {
        let _alone = alone();
        let (bell, poller) = (EventFd::new().expect("eventfd"), Poller::new().expect("poller"));
        assert!(poller.remove(&bell).is_err());
        poller.add(&bell, 1, Interest::READ).expect("add");
        assert!(poller.add(&bell, 2, Interest::READ).is_err());
        let file = File::open("/proc/self/exe").expect("open");
        assert!(poller.add(&file, 3, Interest::READ).is_err());
    }
}
