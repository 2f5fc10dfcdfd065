//! The second thread: sleeps on listening sockets, link sockets and pidfds; accepts, shakes hands with deadlines, reaps.
//! It runs nobody's code but the accept policy, and wakers of calls by a link that it cannot watch, so a listener that blocks
//! cannot hide a death.

use super::connect::{Credentials, Handshake, Listening};
use super::link::exit_of;
use super::sockets::{Closer, MOST_UNCLOSED, PeerSocket};
use super::{Engine, Link, ThreadHooks, contain};
use crate::config::ThreadRole;
use crate::error::{Error, ErrorKind, Result, is_scarcity};
use crate::failpoint;
use crate::link::{Exit, HANDSHAKE_TIMEOUT, MAX_DATAGRAM};
use crate::sync::{Arc, AtomicBool, AtomicU32, Mutex, Ordering};
use crate::sys::{self, Arrived};
use rustc_hash::FxHashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

const OWN_BELL: u64 = 0;
const SOCKET: u64 = 1 << 32;
const PROCESS: u64 = 2 << 32;
const LISTENER: u64 = 3 << 32;
const KIND: u64 = 0xffff_ffff << 32;

/// Handshakes that one process may have begun and not finished, and no more than half of `max_renderers`.
const HANDSHAKES_OF_A_PROCESS: usize = 64;

/// How long a socket rests after `accept`, or to take a lane, failed for want of descriptors or memory.
const REST: Duration = Duration::from_millis(100);

/// Connections that may wait for a `poll` to ask the accept policy; further ones wait in the socket.
const TO_BE_ASKED: u32 = 64;

pub(crate) struct Watch {
    poller: sys::Poller,
    event: sys::EventFd,
    links: Mutex<FxHashMap<u32, Arc<Link>>>,
    /// Of links that are not open yet.
    handshakes: Mutex<FxHashMap<u32, Handshake>>,
    listeners: Mutex<Vec<Arc<Listening>>>,
    /// Children without a pidfd that ended and were reaped.
    ended: Mutex<Vec<u32>>,
    /// Links whose lanes wait in the socket for a free descriptor; it is not looked at meanwhile.
    held_back: Mutex<Vec<u32>>,
    closer: Arc<Closer>,
    stopping: AtomicBool,
    deaf: AtomicBool,
    /// Connections that wait for a `poll` to ask the accept policy.
    to_be_asked: AtomicU32,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        let (poller, event) = (sys::Poller::new()?, sys::EventFd::new()?);
        poller.add(&event, OWN_BELL, sys::Interest::READ_EDGE)?;
        Ok(Self {
            poller,
            event,
            links: Mutex::default(),
            handshakes: Mutex::default(),
            listeners: Mutex::default(),
            ended: Mutex::default(),
            held_back: Mutex::default(),
            closer: Arc::default(),
            stopping: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            to_be_asked: AtomicU32::new(0),
        })
    }

    /// Watches a link's socket and, once it is known, its process. After an error the link is to be removed.
    pub(super) fn add(&self, link: &Arc<Link>, handshake: Option<Handshake>) -> io::Result<()> {
        let id = u64::from(link.id);
        if let Some(handshake) = handshake {
            self.handshakes.lock().insert(link.id, handshake);
        }
        {
            let mut links = self.links.lock();
            // Set before the links are drained for the last time: one that came later would be watched by nobody.
            if self.stopping.load(Ordering::Acquire) {
                return Err(io::Error::other("this end was shut down"));
            }
            links.insert(link.id, link.clone());
        }
        let add = || {
            self.add_socket(link)?;
            if let Some(pidfd) = link.pidfd.get() {
                self.poller.add(&*pidfd, PROCESS | id, sys::Interest::READ)?;
            }
            Ok(())
        };
        let added = add();
        // A deadline began with the link.
        self.look_at_deadlines();
        // Closed meanwhile: whoever did that has found nothing here to forget.
        if link.gone_reason().is_some() {
            self.forget(link);
        }
        added
    }

    fn add_socket(&self, link: &Link) -> io::Result<()> {
        let Some(socket) = link.socket.get() else { return Ok(()) };
        self.poller.add(&*socket, SOCKET | u64::from(link.id), sys::Interest::READ)?;
        // Given up meanwhile, when there was nothing to be removed.
        if link.socket.get().is_none() {
            let _ = self.poller.remove(&*socket);
        }
        Ok(())
    }

    /// The link did not come to be.
    pub(crate) fn remove(&self, link: &Arc<Link>) {
        self.forget(link);
        self.handshakes.lock().remove(&link.id);
        self.forget_process(link);
    }

    /// The socket is of no use any more; the link is kept until it is gone, which its deadline may have to say, and its
    /// process until it is reaped.
    pub(crate) fn forget(&self, link: &Arc<Link>) {
        if let Some(socket) = link.socket.take() {
            // Removed before it is closed: the peer may hold a copy. Shut, so that the peer sees the end even then.
            let _ = self.poller.remove(&*socket);
            sys::shut_socket(&*socket);
        }
        let is_gone = link.gone_reason().is_some();
        // One that has hung up holds a place among the renderers until it is gone, so it counts for its process until then.
        if is_gone {
            self.handshakes.lock().remove(&link.id);
        }
        let to_be_reaped = link.is_child() && link.exit().is_none();
        if is_gone && !to_be_reaped {
            self.forget_process(link);
        }
    }

    fn forget_process(&self, link: &Arc<Link>) {
        let pidfd = link.pidfd.take();
        if let Some(pidfd) = &pidfd {
            let _ = self.poller.remove(&**pidfd);
        }
        self.links.lock().remove(&link.id);
        // A child without a pidfd has its thread already.
        if let Some(pidfd) = pidfd.filter(|_| link.is_child() && link.exit().is_none()) {
            reap_later(pidfd, &link.engine.thread_hooks);
        }
    }

    /// For a child that the system gives no pidfd of: a thread of its own sleeps until it ends, and tells us.
    pub(super) fn reap_when_it_ends(&self, link: &Arc<Link>) -> io::Result<()> {
        let (pid, hooks, link) = (link.pid(), &link.engine.thread_hooks, Arc::downgrade(link));
        let reap = move || {
            sys::child_wait(pid);
            match link.upgrade() {
                Some(link) => {
                    link.reap_child();
                    let watch = &link.engine.watch;
                    watch.ended.lock().push(link.id);
                    watch.event.ring();
                }
                // Nobody asks any more.
                None => drop(sys::child_reap(pid)),
            }
        };
        hooks.spawn(ThreadRole::Reaper, reap).map(drop)
    }

    /// A socket of a link, whose close holds nobody up.
    pub(super) fn socket_of(&self, socket: OwnedFd) -> PeerSocket {
        PeerSocket::new(socket, &self.closer)
    }

    /// Handshakes that this process has begun by a listening socket and not finished.
    fn handshakes_of(&self, who: &Credentials) -> usize {
        let is_its = |handshake: &&Handshake| {
            handshake.who.is_some_and(|other| other.pid == who.pid && (who.pid.is_some() || other.uid == who.uid))
        };
        self.handshakes.lock().values().filter(is_its).count()
    }

    /// Refuses who has too many unfinished handshakes: else one process could hold the places of all.
    pub(super) fn check_handshakes_of(&self, who: &Credentials, max_renderers: usize) -> Result<()> {
        let (has, most) = (self.handshakes_of(who), (max_renderers / 2).clamp(1, HANDSHAKES_OF_A_PROCESS));
        if has < most {
            return Ok(());
        }
        let process =
            who.pid.map_or_else(|| "a process that is not visible".to_string(), |pid| format!("process {pid}"));
        Err(Error::new(
            ErrorKind::Limit,
            format!(
                "{process} has {has} handshakes that it has not finished, and {most} are what one process may have: its \
                 next renderer was refused; each ends after {HANDSHAKE_TIMEOUT:?} at the latest"
            ),
        ))
    }

    pub(super) fn take_handshake(&self, id: u32) -> Option<Handshake> {
        self.handshakes.lock().remove(&id)
    }

    pub(crate) fn add_listener(&self, listening: &Arc<Listening>) -> io::Result<()> {
        let mut listeners = self.listeners.lock();
        // Set before the listeners are closed: one that came later would be closed by nobody.
        if self.deaf.load(Ordering::Acquire) {
            return Err(io::Error::other("this end was shut down"));
        }
        let token = LISTENER | listeners.len() as u64;
        self.poller.add(listening.socket(), token, sys::Interest::READ)?;
        listeners.push(listening.clone());
        Ok(())
    }

    /// A link's deadline changed.
    pub(crate) fn look_at_deadlines(&self) {
        self.event.ring();
    }

    /// Accepts nobody any more; the sockets' files are removed.
    #[must_use = "their policies are foreign: dropped with nothing held, once the links are closed"]
    pub(crate) fn stop_listening(&self) -> Vec<Arc<Listening>> {
        self.deaf.store(true, Ordering::Release);
        let listeners = std::mem::take(&mut *self.listeners.lock());
        for listening in &listeners {
            let _ = self.poller.remove(listening.socket());
            listening.close();
            // Who waits to be accepted would be closed with it, at once.
            while let Ok(Some(socket)) = sys::accept(listening.socket()) {
                drop(self.socket_of(socket));
            }
        }
        listeners
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.event.ring();
    }

    pub(super) fn run(&self, engine: &Arc<Engine>) {
        let mut events = Vec::new();
        let mut buffer = vec![0; MAX_DATAGRAM + 1];
        let mut resting: Option<Instant> = None;
        while !self.stopping.load(Ordering::Acquire) {
            let now = Instant::now();
            let deadline = self.expire(now, &mut buffer);
            if resting.is_none() && !self.held_back.lock().is_empty() {
                resting = Some(now + REST);
            }
            let deadline = deadline.into_iter().chain(resting).min();
            let timeout = deadline.map(|at| at.saturating_duration_since(now));
            if let Err(error) = self.poller.wait(&mut events, timeout) {
                engine.report(None, None, Error::system("cannot wait for sockets", error));
                return;
            }
            if resting.is_some_and(|until| Instant::now() >= until) {
                resting = self.end_rest();
                self.look_at_held_back();
            }
            for event in &events {
                let low = event.token as u32;
                match event.token & KIND {
                    SOCKET => {
                        if let Some(link) = self.link(low) {
                            self.socket(&link, &mut buffer);
                        }
                    }
                    PROCESS => {
                        if let Some(link) = self.link(low) {
                            self.process(&link, &mut buffer);
                        }
                    }
                    LISTENER => {
                        let listening = self.listeners.lock().get(low as usize).cloned();
                        if let Some(listening) = listening
                            && !self.accept(engine, &listening)
                        {
                            self.rest(true);
                            resting = Some(Instant::now() + REST);
                        }
                    }
                    _ => {
                        let ended = std::mem::take(&mut *self.ended.lock());
                        for link in ended.into_iter().filter_map(|id| self.link(id)) {
                            link.exit().into_iter().for_each(|exit| self.process_ended(&link, exit, &mut buffer));
                        }
                    }
                }
            }
        }
        let listened = self.stop_listening();
        let links: Vec<_> = self.links.lock().drain().map(|(_, link)| link).collect();
        for link in links {
            if let Some(pidfd) = link.pidfd.get().filter(|_| link.is_child())
                && let Ok(Some(_)) = sys::pidfd_reap(&*pidfd)
            {
                link.set_exit(Exit::Exited(None)); // reaped; nobody asks for more any more
            }
            self.remove(&link);
        }
        self.handshakes.lock().clear();
        contain("the drop of an accept policy", || drop(listened), engine);
    }

    fn link(&self, id: u32) -> Option<Arc<Link>> {
        self.links.lock().get(&id).cloned()
    }

    /// Tells every link whose deadline is over; returns the next one.
    fn expire(&self, now: Instant, buffer: &mut [u8]) -> Option<Instant> {
        let links: Vec<_> = self.links.lock().values().cloned().collect();
        let mut next: Option<Instant> = None;
        for link in links {
            let deadline = link.machine.lock().next_deadline();
            let Some(at) = deadline else { continue };
            if at <= now {
                // What it was waited for may be there, and we late.
                self.process(&link, buffer);
                if link.pipe().is_none() {
                    self.socket(&link, buffer);
                }
                // In the handshake it is not lost before the reason is told.
                let is_ending = link.is_lost() || link.socket.get().is_none();
                let is_exiting = is_ending && sys::process_is_exiting(link.pid());
                link.feed(|machine, now| {
                    if is_exiting {
                        machine.process_is_exiting(now);
                    }
                    machine.timeout(now);
                });
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        next
    }

    /// Something came by a link's socket.
    fn socket(&self, link: &Arc<Link>, buffer: &mut [u8]) {
        loop {
            let Some(socket) = link.socket.get() else { return };
            if link.pipe().is_some() && !link.engine.is_main() {
                // Main, whom we trust, hands over the memory of lanes.
                match sys::receive_or_leave(&*socket, buffer, 1) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    // It stays in the socket. Behind the end of the link nobody wants it.
                    Err(error) if is_scarcity(&error) && !sys::hung_up(&*socket).unwrap_or(true) => {
                        let _ = self.poller.remove(&*socket);
                        self.held_back.lock().push(link.id);
                        if let Some(error) = link.lane_held_back(error) {
                            link.engine.report(None, None, error);
                        }
                        return;
                    }
                    Ok(found) if !found.eof => {
                        let text = match found.truncated {
                            true => Err("it sent more than a lane".to_string()),
                            false => link.lane_offered(&buffer[..found.len], found.fds),
                        };
                        if let Err(text) = text {
                            return link.feed(|machine, now| machine.violation(now, text));
                        }
                    }
                    Ok(_) | Err(_) => return link.feed(|machine, now| machine.hung_up(now)),
                }
                continue;
            }
            if link.pipe().is_some() {
                // Nothing is legal here any more. It stays where it is: its descriptors may take their time to be dropped.
                match sys::peek(&*socket, &mut [0; 64]) {
                    Ok(Arrived::Nothing) => return,
                    Ok(Arrived::Data(bytes)) => {
                        let text = format!("it wrote {bytes} bytes to its socket after the handshake");
                        return link.feed(|machine, now| machine.violation(now, text));
                    }
                    Ok(Arrived::Eof) | Err(_) => return link.feed(|machine, now| machine.hung_up(now)),
                }
            }
            match sys::peek_message(&*socket, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(found) if !found.eof => {
                    // Cut off because it is too long, which its length says, or because descriptors came along.
                    let descriptors = usize::from(found.truncated && found.len <= MAX_DATAGRAM);
                    if descriptors == 0 && sys::receive_nothing(&*socket).is_err() {
                        return link.feed(|machine, now| machine.hung_up(now));
                    }
                    failpoint::reached("hello received");
                    let bytes = &buffer[..found.len];
                    link.feed(|machine, now| machine.datagram(now, bytes, descriptors));
                    if link.is_lost() || descriptors > 0 {
                        return;
                    }
                }
                Ok(_) | Err(_) => return link.feed(|machine, now| machine.hung_up(now)),
            }
        }
    }

    fn process(&self, link: &Arc<Link>, buffer: &mut [u8]) {
        let Some(pidfd) = link.pidfd.get() else {
            // The thread that waits for such a child has set it, and rings.
            return link.exit().into_iter().for_each(|exit| self.process_ended(link, exit, buffer));
        };
        let exit = if link.is_child() {
            exit_of(sys::pidfd_reap(&*pidfd))
        } else {
            sys::pidfd_ended(&*pidfd).then_some(Exit::Exited(None))
        };
        if let Some(exit) = exit {
            link.set_exit(exit);
            self.process_ended(link, exit, buffer);
        }
    }

    fn process_ended(&self, link: &Arc<Link>, exit: Exit, buffer: &mut [u8]) {
        // What it said before it ended comes first: a renderer may connect, send and end at once.
        if link.gone_reason().is_none() && link.pipe().is_none() {
            self.socket(link, buffer);
        }
        link.feed(|machine, now| machine.process_ended(now, exit));
        self.forget_process(link);
    }

    /// Takes one connection. False: no descriptors are left, or the like.
    fn accept(&self, engine: &Arc<Engine>, listening: &Arc<Listening>) -> bool {
        if self.deaf.load(Ordering::Acquire) {
            return true;
        }
        let unclosed = self.closer.waiting();
        if unclosed >= MOST_UNCLOSED {
            let text = format!(
                "nobody is accepted now: {unclosed} sockets of renderers that are gone wait to be closed, which takes its \
                 time because of descriptors that came by them"
            );
            engine.report(None, None, Error::new(ErrorKind::Limit, text));
            return false;
        }
        // The policy is a callback, so a `poll` runs it. What waits for that holds a descriptor.
        let asks_later = engine.manual.is_some() && listening.has_policy();
        if asks_later && self.to_be_asked.load(Ordering::Relaxed) >= TO_BE_ASKED {
            return false;
        }
        match sys::accept(listening.socket()) {
            Ok(Some(socket)) => {
                failpoint::reached("renderer accepted");
                let (socket, listening) = (self.socket_of(socket), listening.clone());
                let welcome = move |engine: &Arc<Engine>| {
                    if let Err(error) = listening.welcome(engine, socket) {
                        engine.report(None, None, error);
                    }
                };
                if asks_later {
                    self.to_be_asked.fetch_add(1, Ordering::Relaxed);
                    engine.on_dispatcher(move |engine| {
                        engine.watch.to_be_asked.fetch_sub(1, Ordering::Relaxed);
                        welcome(engine);
                    });
                } else {
                    welcome(engine);
                }
                true
            }
            Ok(None) => true,
            Err(error) => {
                let error = Error::system("cannot accept a renderer", error);
                engine.report(None, None, error);
                false
            }
        }
    }

    /// Looks again at the sockets that lanes wait in.
    fn look_at_held_back(&self) {
        let held_back = std::mem::take(&mut *self.held_back.lock());
        for link in held_back.into_iter().filter_map(|id| self.link(id)) {
            if self.add_socket(&link).is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
                self.held_back.lock().push(link.id);
            }
        }
    }

    /// Looks at the listening sockets again. When it is to be tried once more, if the kernel had no room for one of them:
    /// nobody would be accepted there any more.
    pub(crate) fn end_rest(&self) -> Option<Instant> {
        (!self.rest(false)).then(|| Instant::now() + REST)
    }

    /// Looks away from the listening sockets for a moment, or back at them. False: the kernel had no room for one of them.
    pub(crate) fn rest(&self, rest: bool) -> bool {
        let mut all = true;
        for (index, listening) in self.listeners.lock().iter().enumerate() {
            let socket: BorrowedFd<'_> = listening.socket().as_fd();
            if rest {
                let _ = self.poller.remove(socket); // not watched: since the last time
            } else if let Err(error) = self.poller.add(socket, LISTENER | index as u64, sys::Interest::READ) {
                all &= error.kind() == io::ErrorKind::AlreadyExists;
            }
        }
        all
    }
}

/// Reaps a child that outlives its link's watch: a thread sleeps until it ends, so that it stays no zombie.
fn reap_later(pidfd: Arc<OwnedFd>, hooks: &ThreadHooks) {
    let reap = move || {
        if sys::wait_readable(&*pidfd, None).is_ok() {
            let _ = sys::pidfd_reap(&*pidfd);
        }
    };
    // No thread to be had: then a zombie it is, until this process ends.
    let _ = hooks.spawn(ThreadRole::Reaper, reap);
}
