//! A process pair: this process and a peer, which is this binary run again; each on a core of its own where there are two.
//! The peer is asked to end when its standard input closes, and killed and reaped by its own id if it does not.

use crate::Result;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROLE: &str = "RINGMAIN_COMPARISON_ROLE";
const SCRATCH: &str = "RINGMAIN_COMPARISON_SCRATCH";
const CORE: &str = "RINGMAIN_COMPARISON_CORE";

/// How long a peer may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// How long one visit to a peer may take; then it is killed, and what waits for it fails.
const VISIT: Duration = Duration::from_secs(30);

/// A directory for everything that has a name; gone when this is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        let shm = Path::new("/dev/shm");
        let parent = if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
        let path = parent.join(format!("ringmain-comparison-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The two cores: ours and the peer's. `None`: there is only one, nothing is pinned.
pub(crate) fn cores() -> Option<(usize, usize)> {
    // SAFETY: an all-zero set is a valid one, and it has the size that is given.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) == 0).then_some(set)?
    };
    // SAFETY: the index is below the set's size.
    let mut ours = (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) });
    Some((ours.next()?, ours.next()?))
}

/// Pins the calling thread, and with it the threads that it starts.
pub(crate) fn pin(core: usize) {
    // SAFETY: an all-zero set is a valid one, and it has the size that is given; the core came from such a set.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Lets the calling thread, and the threads that it starts, run anywhere until `pin_all`: who counts the cores that are
/// there when it starts is to see them all.
pub(crate) fn unpin() {
    // SAFETY: as in `pin`; cores that are not there or not allowed are left out by the kernel.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (0..libc::CPU_SETSIZE as usize).for_each(|core| libc::CPU_SET(core, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Pins every thread of this process.
pub(crate) fn pin_all(core: Option<usize>) -> Result<()> {
    let Some(core) = core else { return Ok(()) };
    for task in std::fs::read_dir("/proc/self/task")? {
        let thread = task?.file_name().to_string_lossy().parse()?;
        // SAFETY: as in `pin`; a thread that has ended meanwhile is an error that does not matter.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(core, &mut set);
            libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &set);
        }
    }
    Ok(())
}

/// Peers of the current visit, and when it is over. A pid is here only while its process is not reaped.
static WATCHED: Mutex<Vec<(u32, Instant)>> = Mutex::new(Vec::new());

/// Kills peers that take too long, so that a rival that hangs becomes a row of its own and does not end the run.
pub(crate) fn start_watchdog() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let now = Instant::now();
            for (pid, until) in WATCHED.lock().expect("no panic under this lock").iter() {
                if now >= *until {
                    // SAFETY: our own child, not yet reaped.
                    unsafe { libc::kill(*pid as libc::pid_t, libc::SIGKILL) };
                }
            }
        }
    });
}

/// The peer of this process.
pub(crate) struct Pair {
    child: Child,
    stdin: Option<ChildStdin>,
    data: String,
}

impl Pair {
    /// Runs the peer in a role (see `main::peer`); returns when it says that it is ready.
    pub(crate) fn spawn(role: &str, scratch: &Path, core: Option<usize>) -> Result<Self> {
        Self::start(role, scratch, core, true)
    }

    /// A peer that lives as long as the run.
    pub(crate) fn spawn_unwatched(role: &str, scratch: &Path, core: Option<usize>) -> Result<Self> {
        Self::start(role, scratch, core, false)
    }

    fn start(role: &str, scratch: &Path, core: Option<usize>, watched: bool) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(ROLE, role).env(SCRATCH, scratch).env("TMPDIR", scratch);
        if let Some(core) = core {
            command.env(CORE, core.to_string());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        if watched {
            WATCHED.lock().expect("no panic under this lock").push((child.id(), Instant::now() + VISIT));
        }
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("no output")?;
        let mut pair = Self { child, stdin, data: String::new() };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        match line.trim_end().strip_prefix("ready") {
            Some(data) => pair.data = data.trim().into(),
            None => return Err(format!("the peer did not start: {}", line.trim_end()).into()),
        }
        Ok(pair)
    }

    /// What the peer said when it was ready.
    pub(crate) fn data(&self) -> &str {
        &self.data
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        drop(self.stdin.take()); // it ends by that
        let until = Instant::now() + GRACE;
        let mut wait = Duration::from_micros(50);
        while matches!(self.child.try_wait_unreaped(), Ok(false)) && Instant::now() < until {
            std::thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_millis(5));
        }
        WATCHED.lock().expect("no panic under this lock").retain(|(pid, _)| *pid != self.child.id());
        let _ = self.child.kill(); // nothing, if it has ended
        let _ = self.child.wait();
    }
}

/// Looks whether a child has ended and leaves it there, so that its id stays its own.
trait Unreaped {
    fn try_wait_unreaped(&self) -> std::io::Result<bool>;
}

impl Unreaped for Child {
    fn try_wait_unreaped(&self) -> std::io::Result<bool> {
        // SAFETY: an all-zero siginfo is a valid one; the id is of a child of ours that is not reaped.
        let (result, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            (libc::waitid(libc::P_PID, self.id(), &mut info, flags), info)
        };
        if result != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: filled by waitid, or zero.
        Ok(unsafe { info.si_pid() } != 0)
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

/// In the peer: whether it is to end.
#[inline]
pub(crate) fn is_stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// What a peer knows.
pub(crate) struct Peer {
    pub(crate) role: String,
    pub(crate) scratch: PathBuf,
    pub(crate) core: Option<usize>,
    ended: std::thread::JoinHandle<()>,
}

impl Peer {
    /// `None`: this process is not a peer.
    pub(crate) fn here() -> Option<Self> {
        let role = std::env::var(ROLE).ok()?;
        let scratch = std::env::var_os(SCRATCH)?.into();
        let core = std::env::var(CORE).ok().and_then(|core| core.parse().ok());
        core.into_iter().for_each(pin);
        let ended = std::thread::spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            STOP.store(true, Ordering::Relaxed);
        });
        Some(Self { role, scratch, core, ended })
    }

    /// Tells the other side that it may begin.
    pub(crate) fn ready(&self, data: &str) -> Result<()> {
        println!("ready {data}");
        std::io::stdout().flush()?;
        Ok(())
    }

    /// Sleeps until it is to end.
    pub(crate) fn until_stopped(self) {
        let _ = self.ended.join();
    }
}
