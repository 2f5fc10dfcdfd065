//! How links come to be: spawn, listen, attach on main; connect and connect_to on a renderer.

use super::link::{Link, Process};
use super::sockets::PeerSocket;
use super::{Command, Engine, IPC_MESSAGE, Listener, Serving, wake};
use crate::config::{Backing, Config as Options, MAX_TEXT};
use crate::error::{Error, ErrorKind, Result, is_scarcity};
use crate::failpoint;
use crate::layout::{Layout, MAGIC, RingPlace};
use crate::link::{
    App, Backing as OfferedBacking, Config, Descriptors, Doorbell, Doorbells, EXIT_GRACE, GoneReason,
    HANDSHAKE_TIMEOUT, Limits, Link as Machine, MAX_DATAGRAM, Offer, Output, RegionTerms, RingPlace as OfferedPlace,
    Waking,
};
use crate::region::Region;
use crate::registry::Where;
use crate::sync::{Arc, Mutex, Ordering};
use crate::sys;
use shared_memory::{Shmem, ShmemConf, ShmemError};
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::{Duration, Instant};

/// The variable in which a spawned renderer finds the number of its descriptor.
pub(crate) const FD_VARIABLE: &str = "RINGMAIN_FD";

/// Descriptors that a Welcome may bring.
const MAX_DESCRIPTORS: usize = 4;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// Who asks to connect, as the kernel says. Given to the accept policy of
/// [`IpcMain::listen`](crate::IpcMain::listen).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// Process id; `None` if it lives in a namespace that is not visible from here.
    pub pid: Option<u32>,
    /// User id at the time of connecting.
    pub uid: u32,
}

/// Decides who may connect; runs on the `watch` thread.
pub(crate) type Accept = Arc<dyn Fn(&Credentials) -> bool + Send + Sync>;

fn own_pid() -> u32 {
    std::process::id()
}

fn session(options: &Options, is_main: bool, timeout: Option<Duration>, sees_exit: bool) -> Config {
    Config {
        pid: own_pid(),
        app: App { name: options.app_name.clone(), version: options.app_version.clone() },
        limits: Limits {
            max_message_size: options.max_message_size as u64,
            max_pending_calls: options.max_pending_calls,
            max_depth: options.max_depth,
            max_values: options.max_values,
            max_text: MAX_TEXT as u32,
        },
        waking: Waking {
            can_ring: Doorbells::FUTEX_AND_EVENTFD,
            sleeps_on: if is_main { Doorbell::EventFd } else { Doorbell::Futex },
        },
        timeout,
        sees_exit,
    }
}

/// The layout that main's Welcome describes, checked.
pub(super) fn layout(terms: &RegionTerms) -> Result<Layout, String> {
    let place = |place: OfferedPlace| {
        Some(RingPlace { offset: usize::try_from(place.offset).ok()?, words: usize::try_from(place.words).ok()? })
    };
    let layout = || {
        Some(Layout {
            region: usize::try_from(terms.len).ok()?,
            control: usize::try_from(terms.control_offset).ok()?,
            to_renderer: place(terms.main_to_renderer)?,
            to_main: place(terms.renderer_to_main)?,
        })
    };
    layout()
        .filter(Layout::is_usable)
        .ok_or_else(|| format!("the region that main describes cannot be used: {terms:?}"))
}

// ---- main ---------------------------------------------------------------------------------------------------------

/// The names of our regions begin with it.
const NAME_PREFIX: &str = "ringmain-";

/// Of process namespace, pid and start time of the creator, and a number of chance.
fn region_name(space: u64, pid: u64, start: u64, chance: u64) -> String {
    format!("{NAME_PREFIX}{space}-{pid}-{start}-{chance}")
}

fn name_space() -> u64 {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digits: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Removes the names that mains of this user left when they were killed between creating and handing over a region.
pub(super) fn sweep_names() {
    let space = name_space();
    for name in sys::list_shm(NAME_PREFIX) {
        let parts: Vec<u64> = name.split('-').flat_map(str::parse).collect();
        let [creators, pid, start, chance] = parts[..] else { continue };
        // Written otherwise it is no main's, whatever numbers are in it.
        if name != region_name(creators, pid, start, chance) {
            continue;
        }
        let lives = u32::try_from(pid).ok().and_then(sys::process_start_time) == Some(start);
        if creators == space && !lives {
            let _ = sys::shm_unlink(&name); // somebody else's, or another sweep was faster
        }
    }
}

struct Memory {
    region: Arc<Region>,
    offered: OfferedBacking,
    /// Of sealed memory, to be handed over.
    fd: Option<OwnedFd>,
    name: Option<sys::ShmName>,
}

/// What main keeps of a link until the renderer has answered.
pub(super) struct Handshake {
    pub(super) region: Arc<Region>,
    /// Of named memory: removed when the renderer has mapped it, or has not come.
    _name: Option<sys::ShmName>,
    /// By a listening socket.
    pub(super) who: Option<Credentials>,
}

fn create_memory(backing: Backing, layout: &Layout) -> Result<Memory> {
    let (len, parts) = (layout.region, layout.parts());
    let system = |error: io::Error| {
        let what = format!("cannot allocate {len} bytes of shared memory");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory => {
                let text = "it is used up: enlarge /dev/shm or the limit of memory (RLIMIT_AS, the control group's), \
                            or take a smaller ring_size";
                Error::system(format!("{what}; {text}"), error)
            }
            _ => Error::system(what, error),
        }
    };
    match backing {
        Backing::Sealed => {
            let fd = sys::create_sealed_memory("ringmain", len, &parts).map_err(system)?;
            let mapping = sys::Mapping::map(&fd, len, &parts).map_err(system)?;
            let region = Region::mapped(mapping);
            Ok(Memory { region, offered: OfferedBacking::Sealed, fd: Some(fd), name: None })
        }
        Backing::Named => {
            let chance = sys::random_u64().map_err(system)? >> 1;
            let start = sys::process_start_time(own_pid()).unwrap_or(0);
            let name = format!("/{}", region_name(name_space(), own_pid().into(), start, chance));
            let created = ShmemConf::new().size(len).os_id(&name).create();
            let shmem = created.map_err(|error| system(shared_memory_error(error)))?;
            let (fd, unlinks) = take_over(shmem, &name, len);
            let fd = fd.map_err(system)?;
            // Allocated before first touch: a full tmpfs is an error here, never a SIGBUS.
            sys::allocate(&fd, &parts).map_err(system)?;
            let region = Region::mapped(sys::Mapping::map(&fd, len, &parts).map_err(system)?);
            Ok(Memory { region, offered: OfferedBacking::Named(name), fd: None, name: unlinks })
        }
    }
}

/// A descriptor of a named object instead of the crate's, which would hold descriptor, mapping and memory as long as anybody
/// has a handle of the link; and who removes its name, if the crate would have done that.
fn take_over(mut shmem: Shmem, name: &str, len: usize) -> (io::Result<OwnedFd>, Option<sys::ShmName>) {
    let unlinks = shmem.set_owner(false).then(|| sys::ShmName::new(name.to_string()));
    (sys::shm_open(name, len), unlinks)
}

impl Engine {
    fn check_running(&self) -> Result<()> {
        self.check_fork()?;
        if self.is_stopping() {
            return Err(Error::new(ErrorKind::Disconnected, "this IpcMain was shut down"));
        }
        Ok(())
    }

    /// Makes main's end of a link over `socket` and says Welcome.
    /// `sees_exit`: the end of its process will be told.
    fn new_link(
        self: &Arc<Self>,
        socket: PeerSocket,
        timeout: Option<Duration>,
        sees_exit: bool,
    ) -> Result<(Arc<Link>, Handshake)> {
        self.check_running()?;
        // No renderer has any to send, and to drop one may take as long as it likes.
        sys::refuse_descriptors(&socket);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let system = |what: &'static str| move |error| Error::system(what, error);
        let layout = Layout::new(self.config.ring_size, id);
        let memory = create_memory(self.config.backing, &layout)?;
        failpoint::reached("region made");
        let doorbell = sys::EventFd::new().map_err(system("cannot make a doorbell for the renderer"))?;
        if let (Ok(magic), Ok(version)) = (memory.region.word64(0), memory.region.word64(8)) {
            magic.store(MAGIC, Ordering::Relaxed);
            version.store(crate::link::MAJOR.into(), Ordering::Relaxed);
        }
        let doorbell = Arc::new(doorbell);
        let mut descriptors = Descriptors::MAIN_DOORBELL;
        let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
        if let Some(fd) = &memory.fd {
            descriptors = descriptors.with(Descriptors::REGION);
            fds.push(fd.as_fd());
        }
        fds.push(doorbell.as_fd());
        let place = |place: RingPlace| OfferedPlace { offset: place.offset as u64, words: place.words as u64 };
        let offer = Offer {
            link_id: NonZeroU32::new(id).ok_or_else(|| Error::new(ErrorKind::Limit, "all renderer ids are used up"))?,
            region: RegionTerms {
                backing: memory.offered,
                len: layout.region as u64,
                main_to_renderer: place(layout.to_renderer),
                renderer_to_main: place(layout.to_main),
                control_offset: layout.control as u64,
            },
            descriptors,
            queue_limit: self.config.queue_limit as u64,
        };
        let mut machine = Machine::main(session(&self.config, true, timeout, sees_exit), offer, Instant::now());
        let welcome = match machine.poll_output() {
            Some(Output::Transmit(welcome)) => welcome,
            other => {
                return Err(Error::new(ErrorKind::InvalidConfig, format!("main cannot make its offer: {other:?}")));
            }
        };
        let socket = Arc::new(socket);
        let link = Link::new(self.clone(), id, machine, Some(socket.clone()), Some(doorbell.clone()));
        {
            let mut links = self.links.lock();
            let (have, most) = (links.len(), self.config.max_renderers);
            if have >= most {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("{have} renderers are there, max_renderers is {most}"),
                ));
            }
            links.insert(id, link.clone());
        }
        // Behind that: who shuts down closes the links that are there.
        if let Err(error) = self.check_running() {
            self.discard(&link);
            return Err(error);
        }
        failpoint::reached("before welcome");
        // Last: nobody is greeted who is refused afterwards.
        sys::send_message(&*socket, &welcome, &fds).map_err(|error| {
            self.discard(&link);
            Error::system("cannot greet the renderer", error)
        })?;
        link.is_greeted();
        failpoint::reached("welcome sent");
        Ok((link, Handshake { region: memory.region, _name: memory.name, who: None }))
    }

    /// Gives a link up that did not come to be. Somebody may have found it in the table and call by it: those calls end.
    fn discard(&self, link: &Arc<Link>) {
        if self.is_main() {
            let mut machine = link.machine.lock();
            if link.pipe().is_some() {
                drop(machine);
                // Its renderer has come already: it ends as any other, and its process is not waited for.
                link.close();
                link.feed(|machine, now| machine.timeout(now + EXIT_GRACE));
                return self.watch.remove(link);
            }
            // Whatever somebody else still has to say about it, it does not open, and is not told as gone.
            *machine = Machine::gone();
        }
        self.links.lock().remove(&link.id);
        self.watch.remove(link);
        let wakers = link.never_began();
        wake(wakers, self);
        drop(link.doorbell.take());
        link.end_receivers();
    }

    /// After an error the link is to be discarded.
    fn watch_link(&self, link: &Arc<Link>, handshake: Option<Handshake>) -> Result<()> {
        self.watch.add(link, handshake).map_err(|error| Error::system("cannot watch the link", error))
    }

    /// Starts a renderer.
    pub(crate) fn spawn_renderer(self: &Arc<Self>, mut program: Program) -> Result<Arc<Link>> {
        let (ours, theirs) = sys::socket_pair().map_err(|error| Error::system("cannot make a socket pair", error))?;
        let (link, handshake) = self.new_link(self.watch.socket_of(ours), self.config.connect_timeout, true)?;
        let child = match sys::spawn_with_fd(&mut program, theirs, FD_VARIABLE) {
            Ok(child) => child,
            Err(error) => {
                self.discard(&link);
                return Err(Error::system("cannot start the renderer", error));
            }
        };
        failpoint::reached("renderer started");
        let pid = child.id();
        link.set_process(Process { pid, pidfd: None, is_child: true, child: Some(child) });
        // Not reaped by anybody yet, so the pid is its own. Refused (a filter): a thread waits for it.
        let watched = if_offered(sys::pidfd_open(pid)).and_then(|pidfd| match pidfd {
            Some(pidfd) => {
                link.set_pidfd(pidfd);
                Ok(())
            }
            None => self.watch.reap_when_it_ends(&link),
        });
        watched
            .map_err(|error| Error::system("cannot watch the renderer's process", error))
            .and_then(|()| self.watch_link(&link, Some(handshake)))
            .inspect_err(|_| {
                // Not left behind: nobody would know of it.
                link.end_child();
                self.discard(&link);
            })?;
        Ok(link)
    }

    /// Makes a link whose renderer is in this process; returns the renderer's end of the socket.
    pub(crate) fn attach_renderer(self: &Arc<Self>) -> Result<(Arc<Link>, OwnedFd)> {
        let (ours, theirs) = sys::socket_pair().map_err(|error| Error::system("cannot make a socket pair", error))?;
        let (link, handshake) = self.new_link(self.watch.socket_of(ours), Some(HANDSHAKE_TIMEOUT), false)?;
        link.set_process(Process { pid: own_pid(), ..Process::default() });
        self.watch_link(&link, Some(handshake)).inspect_err(|_| self.discard(&link))?;
        Ok((link, theirs))
    }

    /// Listens for unrelated processes.
    pub(crate) fn listen(self: &Arc<Self>, name: &str, accept: Option<Accept>) -> Result<Arc<Listening>> {
        self.check_running()?;
        let path = socket_path(&self.config, name)?;
        let lock = sys::LockFile::acquire(&path.with_extension("lock")).map_err(|error| match error {
            sys::LockError::Held => {
                Error::new(ErrorKind::NameInUse, format!("another process listens under the name '{name}'"))
            }
            sys::LockError::Io(error) => Error::system(format!("cannot listen under the name '{name}'"), error),
        })?;
        let system = |error| Error::system(format!("cannot listen at '{}'", path.display()), error);
        // The lock is ours, so whoever made this socket is dead.
        let socket = match sys::unlink_socket(&path).and_then(|()| sys::listen_at(&path, BACKLOG)) {
            Ok(socket) => socket,
            Err(error) => {
                let _ = lock.remove(); // the first error says more
                return Err(system(error));
            }
        };
        sys::refuse_descriptors(&socket);
        let files = Mutex::new(Some(Files { path, lock }));
        let listening = Arc::new(Listening { socket, files, accept });
        self.watch.add_listener(&listening).map_err(|error| Error::system("cannot watch the socket", error))?;
        Ok(listening)
    }
}

/// `None`: the system does not give descriptors of processes. That there is none left is an error: a link that is watched by
/// its socket alone would not show a death that a program hides which has inherited that.
fn if_offered(pidfd: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match pidfd {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(error) if is_scarcity(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Where the socket of a name lies, the directory checked.
fn socket_path(options: &Options, name: &str) -> Result<PathBuf> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "'{}' is no name to listen under: it must not be empty, begin with a dot or hold a slash",
                name.escape_debug()
            ),
        ));
    }
    let directory = match &options.runtime_dir {
        Some(directory) => sys::ensure_private_dir(directory).map(|()| directory.clone()),
        None => sys::runtime_dir(),
    }
    .map_err(|error| Error::system("no runtime directory", error))?;
    let path = directory.join(format!("{name}.sock"));
    sys::check_socket_path(&path)
        .map_err(|error| Error::system(format!("'{name}' cannot be a socket's name"), error))?;
    Ok(path)
}

struct Files {
    path: PathBuf,
    lock: sys::LockFile,
}

/// A listening socket and its files.
pub(crate) struct Listening {
    socket: OwnedFd,
    files: Mutex<Option<Files>>,
    accept: Option<Accept>,
}

impl Listening {
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.files.lock().as_ref().map(|files| files.path.clone())
    }

    /// Removes the files; nobody can connect any more.
    pub(super) fn close(&self) {
        sys::shut_socket(&self.socket);
        if let Some(Files { path, lock }) = self.files.lock().take()
            && lock.is_named()
        {
            // The socket first: while the lock is held nobody else makes one there.
            let _ = sys::unlink_socket(&path);
            let _ = lock.remove();
        }
    }

    /// Whether the program decides who may connect.
    pub(super) fn has_policy(&self) -> bool {
        self.accept.is_some()
    }

    /// One connection was accepted: looks who it is, and greets.
    pub(super) fn welcome(&self, engine: &Arc<Engine>, socket: PeerSocket) -> Result<()> {
        let found = sys::peer_credentials(&socket).map_err(|error| Error::system("cannot see who connects", error))?;
        let who = Credentials { pid: found.pid, uid: found.uid };
        let is_welcome = match &self.accept {
            Some(accept) => super::contain("the accept policy", || accept(&who), engine).unwrap_or(false),
            None => who.uid == sys::own_uid(),
        };
        if !is_welcome {
            return Err(Error::new(ErrorKind::Refused, format!("a renderer was refused: {who:?}")));
        }
        engine.watch.check_handshakes_of(&who, engine.config.max_renderers)?;
        let pidfd = if_offered(sys::peer_pidfd(&socket))
            .map_err(|error| Error::system("cannot watch the process that connects", error))?;
        let (link, handshake) = engine.new_link(socket, Some(HANDSHAKE_TIMEOUT), pidfd.is_some())?;
        let handshake = Handshake { who: Some(who), ..handshake };
        link.set_process(Process { pid: found.pid.unwrap_or(0), pidfd, ..Process::default() });
        engine.watch_link(&link, Some(handshake)).inspect_err(|_| engine.discard(&link))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.close();
    }
}

// ---- renderer -----------------------------------------------------------------------------------------------------

/// A socket on which main says Welcome.
pub(crate) struct Connecting {
    pub(crate) socket: OwnedFd,
    /// For an attached renderer: the thread that serves main.
    pub(crate) served_by: Option<Arc<Serving>>,
}

/// The descriptor that `spawn` left to this process.
pub(crate) fn inherited(deadline: Option<Instant>) -> Result<Connecting> {
    let not_one = |text: String| Error::new(ErrorKind::NotARenderer, text);
    let number = std::env::var(FD_VARIABLE).map_err(|_| {
        not_one(format!(
            "{FD_VARIABLE} is not set: this process was not started by IpcMain::spawn; use connect_to to reach a main \
             that listens"
        ))
    })?;
    let fd = number.parse().map_err(|_| not_one(format!("{FD_VARIABLE} is '{number}', which is no descriptor")))?;
    let socket = sys::claim_fd(fd).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::new(ErrorKind::AlreadyConnected, error.to_string()),
        _ => not_one(format!("{FD_VARIABLE} is '{number}': {error}")),
    })?;
    // A grandchild finds the variable too, and under the number perhaps somebody else's socket: look before taking.
    let mut start = [0; 8];
    let greeted = sys::wait_readable(&socket, deadline).and_then(|_| sys::peek(&socket, &mut start));
    match greeted {
        Ok(sys::Arrived::Data(8)) if u64::from_le_bytes(start) == MAGIC => Ok(Connecting { socket, served_by: None }),
        Ok(sys::Arrived::Eof) => Err(hung_up()),
        found => {
            let _not_ours = socket.into_raw_fd();
            Err(not_one(format!("descriptor {number} ({FD_VARIABLE}) does not speak our protocol: {found:?}")))
        }
    }
}

/// Connects to a main that listens.
pub(crate) fn named(options: &Options, name: &str, deadline: Option<Instant>) -> Result<Connecting> {
    let path = socket_path(options, name)?;
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let socket = sys::connect_at(&path, left).map_err(|error| nobody_listens(name, &path, error))?;
    failpoint::reached("connected to a name");
    Ok(Connecting { socket, served_by: None })
}

fn nobody_listens(name: &str, path: &Path, error: io::Error) -> Error {
    let text = match error.kind() {
        io::ErrorKind::NotFound => format!("nobody listens under the name '{name}': there is no '{}'", path.display()),
        io::ErrorKind::ConnectionRefused => {
            format!("nobody listens under the name '{name}' any more: '{}' is stale", path.display())
        }
        _ => return Error::system(format!("cannot connect to '{}'", path.display()), error),
    };
    Error::new(ErrorKind::NotListening, text).with_source(error)
}

struct Mapped {
    region: Arc<Region>,
    event: Option<sys::EventFd>,
}

/// Why this side cannot go along with what main offers.
struct Unusable {
    why: String,
    /// The system's doing rather than main's.
    system: Option<io::Error>,
}

impl Unusable {
    fn system(why: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { why: why.into(), system: Some(error) }
    }
}

impl<T: AsRef<str>> From<T> for Unusable {
    fn from(why: T) -> Self {
        Self { why: why.as_ref().to_string(), system: None }
    }
}

/// What the system said, where the crate has an error of its own for it.
fn shared_memory_error(error: ShmemError) -> io::Error {
    match error {
        ShmemError::MapCreateFailed(code) | ShmemError::MapOpenFailed(code) | ShmemError::UnknownOsError(code) => {
            io::Error::from_raw_os_error(code.cast_signed())
        }
        error => io::Error::other(error.to_string()),
    }
}

fn map(terms: &RegionTerms, descriptors: Descriptors, fds: Vec<OwnedFd>) -> Result<Mapped, Unusable> {
    let layout = layout(terms)?;
    let mut fds = fds.into_iter();
    let region = match &terms.backing {
        OfferedBacking::Sealed => {
            let fd = fds.next().ok_or("main sent no descriptor of the region")?;
            sys::check_sealed(&fd, layout.region)?;
            let mapping = sys::Mapping::map(&fd, layout.region, &layout.parts());
            Region::mapped(mapping.map_err(Unusable::system("cannot map the region"))?)
        }
        OfferedBacking::Named(name) => {
            if !name.trim_start_matches('/').starts_with(NAME_PREFIX) {
                return Err(
                    format!("main's region has the name {name:?}, which does not begin with {NAME_PREFIX}").into()
                );
            }
            let shmem = ShmemConf::new().os_id(name).open().map_err(shared_memory_error);
            let shmem = shmem.map_err(Unusable::system(format!("cannot open {name:?}")))?;
            // `shared_memory` takes whatever size the object has: compared before anything is touched.
            let has = shmem.len();
            let (fd, _) = take_over(shmem, name, layout.region);
            let fd = fd.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => {
                    format!("the region {name:?} has {has} bytes instead of {}", layout.region).into()
                }
                _ => Unusable::system(format!("cannot open {name:?}"))(error),
            })?;
            let mapping = sys::Mapping::map(&fd, layout.region, &layout.parts());
            let region = Region::mapped(mapping.map_err(Unusable::system("cannot map the region"))?);
            // Both have it mapped now.
            sys::shm_unlink(name).map_err(Unusable::system(format!("cannot unlink {name:?}")))?;
            region
        }
    };
    let event = match descriptors.contains(Descriptors::MAIN_DOORBELL) {
        true => Some(sys::EventFd::from_owned(fds.next().ok_or("main sent no doorbell")?)?),
        false => None,
    };
    Ok(Mapped { region, event })
}

impl Engine {
    /// Shakes hands with main and starts; `guests` listen to what guests send from the first message on.
    pub(crate) fn connect(
        self: &Arc<Self>,
        connecting: Connecting,
        guests: Vec<Listener>,
        deadline: Option<Instant>,
    ) -> Result<Arc<Link>> {
        let Connecting { socket, served_by } = connecting;
        let found = sys::peer_credentials(&socket).map_err(|error| Error::system("cannot see who main is", error))?;
        // An attached renderer's main is this very process: its end is not to be watched.
        let pidfd = match found.pid {
            Some(pid) if pid == own_pid() => None,
            _ => if_offered(sys::peer_pidfd(&socket))
                .map_err(|error| Error::system("cannot watch main's process", error))?,
        };
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let mut machine = Machine::renderer(session(&self.config, false, timeout, pidfd.is_some()), Instant::now());
        let mut buffer = vec![0; MAX_DATAGRAM + 1];
        let system = |what: &'static str| move |error| Error::system(what, error);
        let mut fds = Vec::new();
        if sys::wait_readable(&socket, deadline).map_err(system("cannot wait for main"))? {
            let received =
                sys::receive_message(&socket, &mut buffer, MAX_DESCRIPTORS).map_err(system("cannot read from main"))?;
            failpoint::reached("welcome received");
            let now = Instant::now();
            if received.eof {
                machine.hung_up(now);
                // Whether main is dead as well or refused us cannot be told apart: no reason to wait for.
                machine.timeout(now + EXIT_GRACE);
            } else {
                // Truncated: not what was announced, which the machine then says.
                let count = received.fds.len() + usize::from(received.truncated);
                fds = received.fds;
                // The Welcome may have waited here for longer than main has waited for us.
                if matches!(sys::peek(&socket, &mut [0]), Ok(sys::Arrived::Eof)) {
                    return Err(hung_up());
                }
                machine.datagram(now, &buffer[..received.len], count);
            }
        } else {
            // Its own time is over as well, though it was reckoned from a moment later.
            let now = Instant::now();
            machine.timeout(machine.next_deadline().map_or(now, |deadline| deadline.max(now)));
        }
        let (mut opened, mut failed) = (None, None);
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Opened(agreed) => {
                    let fds = std::mem::take(&mut fds);
                    let made = map(&agreed.region, agreed.descriptors, fds)
                        .and_then(|Mapped { region, event }| Ok(self.pipe(&region, &agreed, event)?));
                    failpoint::reached("region mapped");
                    match made {
                        Ok(pipe) => opened = Some((pipe, agreed)),
                        Err(Unusable { why, system: None }) => machine.refuse(Instant::now(), why),
                        Err(Unusable { why, system: Some(error) }) => {
                            machine.refuse(Instant::now(), format!("{why}: {error}"));
                            failed = Some(Error::system(format!("cannot connect to main: {why}"), error));
                        }
                    }
                }
                Output::Transmit(hello) => {
                    failpoint::reached("before hello");
                    let sent = sys::send_message(&socket, &hello, &[]);
                    failpoint::reached("hello sent");
                    if sent.is_err() && opened.is_some() {
                        return Err(hung_up());
                    }
                }
                Output::Gone(reason) => return Err(failed.unwrap_or_else(|| refused(&reason))),
                _ => {}
            }
        }
        let Some((pipe, agreed)) = opened else {
            return Err(Error::new(ErrorKind::Refused, "main hung up during the handshake"));
        };
        let id = agreed.link_id.get();
        let link = Link::new(self.clone(), id, machine, Some(Arc::new(self.watch.socket_of(socket))), None);
        link.set_served_by(served_by);
        link.set_process(Process { pid: agreed.peer.pid, pidfd, ..Process::default() });
        link.open(pipe, super::send_limits(&agreed), agreed.send.max_pending_calls as usize);
        for listener in guests {
            link.events().add(IPC_MESSAGE, listener, Where::Back, false);
        }
        self.start()?;
        self.links.lock().insert(id, link.clone());
        self.command(Command::Opened(link.clone()));
        self.watch_link(&link, None).inspect_err(|_| self.discard(&link))?;
        failpoint::reached("link watched");
        Ok(link)
    }
}

#[cold]
fn hung_up() -> Error {
    Error::new(
        ErrorKind::Disconnected,
        "main has hung up before we connected: it has ended, or waited no longer than its connect_timeout",
    )
}

fn refused(reason: &GoneReason) -> Error {
    let kind = match reason {
        GoneReason::Corrupt(_) => ErrorKind::Protocol,
        GoneReason::NeverConnected(text) if text.contains("did not answer within") => ErrorKind::Timeout,
        _ => ErrorKind::Refused,
    };
    let hint = match reason {
        GoneReason::NeverConnected(text) if text.contains("hung up") => {
            "; it is ending, or refuses this process: its on_error says why"
        }
        _ => "",
    };
    Error::new(kind, format!("cannot connect to main: {reason}{hint}"))
}
