//! Processes: children with pipes, a process with a test of its own, what /proc shows of them.
use super::{PATIENCE, bounded, child, until};
use ringmain::{Backing, FromArgs, GoneReason, IpcMain, IpcMainEvent, WebContents};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::ops::Deref;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What a process with a test of its own may take: some waits one after the other.
pub(crate) const LONG: Duration = Duration::from_secs(240);

/// A directory of a test's own (0700), removed with all that is in it.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("ringmain-test-{}-{number}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Self(path),
                // Left by a process that was killed and had the same id.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("a directory of the test's own: {error}"),
            }
        }
    }

    /// The names in it, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        names_in(&self.0)
    }
}

impl Deref for TempDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The names in a directory, sorted.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The named memory of mains of this process id.
pub(crate) fn shared_memory_of(pid: u32) -> Vec<String> {
    let is_its = |name: &String| name.starts_with("ringmain-") && name.split('-').nth(2) == Some(&pid.to_string());
    names_in(Path::new("/dev/shm")).into_iter().filter(is_its).collect()
}

/// A program started without the library, killed and reaped when the test ends, however it ends.
pub(crate) struct Program {
    pub(crate) child: std::process::Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts it with pipes at its standard input and output.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program");
        let output = child.stdout.take().map(BufReader::new);
        Self { child, output }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its standard input.
    pub(crate) fn say(&mut self, line: &str) {
        say(self.child.stdin.as_mut().expect("a pipe"), line);
    }

    /// Waits until it has written this line.
    pub(crate) fn until_it_says(&mut self, line: &str) {
        let output = self.output.take().expect("a pipe");
        self.output = Some(until_said(output, line));
    }

    /// Waits until it has written one of these lines; which one.
    pub(crate) fn until_it_says_one_of<'a>(&mut self, lines: &[&'a str]) -> &'a str {
        let output = self.output.take().expect("a pipe");
        let (output, line) = until_said_one_of(output, lines);
        self.output = Some(output);
        line
    }

    /// Its standard output.
    pub(crate) fn take_output(&mut self) -> BufReader<ChildStdout> {
        self.output.take().expect("a pipe")
    }

    /// Kills it and waits until it is dead.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.ended(PATIENCE);
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self, patience: Duration) -> ExitStatus {
        drop(self.child.stdin.take());
        let pidfd = rustix::process::pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).expect("a pidfd");
        let timeout = Timespec::try_from(patience).expect("a time");
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&timeout)).expect("poll");
        assert!(ready == 1, "process {} did not end within {patience:?}", self.id());
        self.child.wait().expect("its status")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays `role` in a process of its own, for what counts descriptors, changes limits or waits for any child; panics
/// unless that ends well.
pub(crate) fn alone(role: &str) {
    alone_as(role, child(role));
}

/// As [`alone`], with this backing.
pub(crate) fn alone_on(backing: Backing, role: &str) {
    let mut command = child(role);
    command.env("RINGMAIN_TEST_BACKING", if backing == Backing::Named { "named" } else { "sealed" });
    alone_as(role, command);
}

fn alone_as(role: &str, mut command: Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut program = Program { child: command.spawn().expect("a process"), output: None };
    let status = program.ended(LONG);
    assert!(status.success(), "the process that plays {role:?} failed ({status}): see above");
}

/// Writes a line to a child's standard input.
pub(crate) fn say(stdin: &mut ChildStdin, line: &str) {
    writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("a child that reads");
}

/// Waits until a child has written this line, and skips what the test harness writes.
pub(crate) fn until_said(output: BufReader<ChildStdout>, line: &str) -> BufReader<ChildStdout> {
    until_said_one_of(output, &[line]).0
}

pub(crate) fn until_said_one_of<'a>(
    mut output: BufReader<ChildStdout>,
    lines: &[&'a str],
) -> (BufReader<ChildStdout>, &'a str) {
    let wanted: Vec<String> = lines.iter().map(|line| line.to_string()).collect();
    let (output, found) = bounded(&format!("waiting for a line of {lines:?} of a child"), move || {
        let mut read = String::new();
        loop {
            read.clear();
            let len = output.read_line(&mut read).expect("a line");
            // The harness ends no line before it runs a test.
            let found = wanted.iter().position(|line| read.trim_end().ends_with(line));
            if len == 0 || found.is_some() {
                return (output, found);
            }
        }
    });
    let found = found.unwrap_or_else(|| panic!("the child ended without saying one of {lines:?}"));
    (output, lines[found])
}

/// In a child: the next line of the standard input, "" at its end.
pub(crate) fn line() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("standard input");
    line.trim_end().to_string()
}

/// In a child: the value that its parent has put into its environment.
pub(crate) fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// What arrives on a channel, with its sender.
pub(crate) fn received<A: FromArgs + Send + 'static>(ipc_main: &IpcMain, name: &str) -> Receiver<(WebContents, A)> {
    let (to, from) = channel();
    ipc_main.on(name, move |event: &IpcMainEvent, args: A| to.send((event.sender(), args)));
    from
}

/// Who is gone, and why.
pub(crate) fn gone(ipc_main: &IpcMain) -> Receiver<(u32, GoneReason)> {
    let (to, from) = channel();
    ipc_main.on_renderer_gone(move |web_contents, reason| drop(to.send((web_contents.id(), reason.clone()))));
    from
}

/// How many descriptors this process has open.
pub(crate) fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("the descriptors").count() - 1
}

/// How many threads this process has.
pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("the threads").count()
}

/// What a process holds of the system: descriptors, threads, mapped regions, names of shared memory.
#[derive(Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) mappings: usize,
    pub(crate) names: Vec<String>,
}

/// What this process holds now.
pub(crate) fn held() -> Held {
    // Shared ones only: the program's own file may lie in a folder of the same name.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let is_shared = |line: &str| line.split(' ').nth(1).is_some_and(|mode| mode.ends_with('s'));
    let mappings = maps.lines().filter(|line| is_shared(line) && line.contains("ringmain")).count();
    Held { descriptors: open_fds(), threads: threads(), mappings, names: shared_memory_of(std::process::id()) }
}

/// All is as it was, as soon as what has ended has ended.
pub(crate) fn until_held(before: &Held, what: &str) {
    let mut now = held();
    let end = Instant::now() + PATIENCE;
    while now != *before {
        assert!(Instant::now() < end, "{what}: held {before:?} before and {now:?} afterwards");
        std::thread::yield_now();
        now = held();
    }
}

/// Plays a death twice beside what goes on; the second one leaves this process nothing to hold. What the first makes for good
/// is no part of what is compared, and what a death returns is there until that is done. For a process of the test's own.
pub(crate) fn leaves_nothing<T>(what: &str, mut death: impl FnMut() -> T) {
    let _first = death();
    let before = settled_held();
    let _second = death();
    until_held(&before, what);
}

/// Lets this process have as many descriptors as it may.
pub(crate) fn raise_descriptor_limit() {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the limit");
}

/// Leaves this process no descriptor but those that the returned files hold.
pub(crate) fn use_up_descriptors() -> Vec<File> {
    let highest = std::fs::read_dir("/proc/self/fd")
        .expect("the descriptors")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().parse::<u64>().expect("a number"))
        .max()
        .expect("a descriptor");
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(highest + 32), maximum }).expect("the limit");
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// How many descriptors this process may still open. (To list them would take one.)
pub(crate) fn free_descriptors() -> usize {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect::<Vec<_>>().len()
}

/// The fields of `/proc/PID/stat` behind the name: the state is the first. `None`: there is no such process.
pub(crate) fn stat(pid: u32) -> Option<Vec<String>> {
    stat_of(&format!("/proc/{pid}/stat"))
}

pub(crate) fn stat_of(path: &str) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(path).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace().map(str::to_string).collect())
}

/// The threads of this process that have this name, by their numbers in `/proc/self/task`.
pub(crate) fn threads_named(name: &str) -> Vec<String> {
    let is_it = |task: &String| {
        std::fs::read_to_string(format!("/proc/self/task/{task}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    super::names_in("/proc/self/task".as_ref()).into_iter().filter(is_it).collect()
}

/// Whether the process runs, sleeps or is stopped: neither ended nor a zombie.
pub(crate) fn lives(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| !["Z", "X"].contains(&fields[0].as_str()))
}

/// Sends a signal to a process that this test has started.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("a process that is there");
}

/// Stops a process and waits until all its threads have stopped.
pub(crate) fn stop(pid: u32) {
    signal(pid, Signal::STOP);
    until_all_threads("have stopped", pid, "T");
}

/// Waits until all threads of a process sleep at once: none of them waits for another one that runs.
pub(crate) fn until_asleep(pid: u32) {
    until_all_threads("sleep", pid, "S");
}

/// Waits until all threads of this process but the calling one sleep at once.
pub(crate) fn until_the_others_sleep() {
    until_threads(
        "all other threads sleep",
        "/proc/self/task",
        "S",
        Some(rustix::thread::gettid().as_raw_nonzero().get()),
    );
}

fn until_all_threads(what: &str, pid: u32, state: &str) {
    until_threads(&format!("all threads {what}"), &format!("/proc/{pid}/task"), state, None);
}

fn until_threads(what: &str, threads: &str, state: &str, but: Option<i32>) {
    // Of each how often it was given a core or lost it, if it is in that state.
    let switches = |thread: String| {
        let is_so = stat_of(&format!("{threads}/{thread}/stat")).is_some_and(|it| it[0] == state);
        let status = std::fs::read_to_string(format!("{threads}/{thread}/status")).ok().filter(|_| is_so)?;
        let counts: Vec<_> = status.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_string).collect();
        Some((thread, counts))
    };
    let but = but.map(|thread| thread.to_string());
    let names = || names_in(Path::new(threads)).into_iter().filter(|thread| Some(thread) != but.as_ref());
    let look = || names().map(switches).collect::<Option<Vec<_>>>();
    // The same twice: nothing has run between the end of the first look and the beginning of the second.
    until(what, || look().is_some_and(|first| look() == Some(first)));
}

/// Gives the calling thread a real-time class; false: this process may not.
pub(crate) fn become_real_time() -> bool {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: plain values for the calling thread; without permission nothing changes.
    #[allow(unsafe_code)]
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
    set == 0
}

/// What this process holds as soon as all its other threads sleep: whoever was about to end, or to give something back, has
/// done so. A thread that was joined may be there for a moment, and a descriptor of a process whose end is known.
pub(crate) fn settled_held() -> Held {
    until_the_others_sleep();
    held()
}
