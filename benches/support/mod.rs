//! What the benches share: the other process, pinning, one place for Criterion's settings.
//!
//! **The other process** is the bench binary run again, before Criterion reads its arguments. It runs only while a sample
//! is taken: between samples, and so while Criterion analyses with threads of its own, it is stopped by SIGSTOP, because
//! one that spins would take the core that the analysis needs, and one that sleeps would be woken by its timers.
//!
//! **Pinning.** While a sample is taken the measuring thread runs on the first core that this process may use and the
//! whole other process on the second. Unpinned, the scheduler puts both sides on one core for a while and apart for
//! another, so that one run measures hand-overs of a core and the next a cache line; and a thread that is moved takes its
//! cache along. Our own process's other threads (the dispatcher of a handle, Criterion's) are left alone. On a single core
//! nothing is pinned.
#![allow(dead_code, reason = "each bench uses its part")]

mod sleeps;

use criterion::{Bencher, Criterion};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
#[allow(unused_imports, reason = "each bench uses its part")]
pub(crate) use sleeps::Sleepers;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const ROLE: &str = "RINGMAIN_BENCH_ROLE";
const WITH: &str = "RINGMAIN_BENCH_WITH";

/// No wait for the other process is longer: far more than anything takes, so that only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Rounds before a sample, which bring both sides up again after the stop: at least one, and for so long.
const WARM_UP: Duration = Duration::from_millis(1);

/// What a bench can be when it is run again: a name, and what it does with the argument of [`again`].
pub(crate) type Role = (&'static str, fn(&str));

/// The `main` of a bench: plays a role if it was started for one, otherwise runs the benches.
pub(crate) fn main(roles: &[Role], benches: fn(&mut Criterion)) {
    if plays(roles) {
        return;
    }
    // All benches together are to take less than ten minutes, with `--quick` one. What the command line says goes first.
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let mut criterion = Criterion::default().sample_size(30);
    // Two samples each need no analysis of a quarter of a second.
    criterion = if is_quick {
        criterion.measurement_time(Duration::from_millis(100)).nresamples(1000).without_plots()
    } else {
        criterion.measurement_time(Duration::from_millis(1500)).nresamples(20_000)
    };
    criterion = criterion.warm_up_time(Duration::from_millis(300)).configure_from_args();
    benches(&mut criterion);
    criterion.final_summary();
}

/// Whether this binary was started to play a role; then that is over. Comes before anything else.
pub(crate) fn plays(roles: &[Role]) -> bool {
    let Ok(role) = std::env::var(ROLE) else {
        LazyLock::force(&CORES);
        return false;
    };
    let (_, play) = roles.iter().find(|(name, _)| *name == role).unwrap_or_else(|| panic!("no role {role:?}"));
    play(&std::env::var(WITH).unwrap_or_default());
    true
}

/// This binary again, to play `role`.
pub(crate) fn again(role: &str, with: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.env(ROLE, role).env(WITH, with);
    command
}

/// As many descriptors as this process may have: main takes three for a renderer.
pub(crate) fn raise_descriptor_limit() {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

// ---- pinning ------------------------------------------------------------------------------------------------------

/// The cores of the two sides, if there are two, and of who stands beside: the first one's where there is no third.
static CORES: LazyLock<Option<[usize; 3]>> = LazyLock::new(|| {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let (ours, theirs) = (cores.next()?, cores.next()?);
    Some([ours, theirs, cores.next().unwrap_or(ours)])
});

/// Which of these cores.
#[derive(Clone, Copy)]
pub(crate) enum Core {
    Ours,
    Theirs,
    Aside,
}

/// How many different ones.
pub(crate) fn cores() -> usize {
    CORES.map_or(1, |[ours, _, aside]| if aside == ours { 2 } else { 3 })
}

fn set_of(core: Core) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    set.set((*CORES)?[core as usize]);
    Some(set)
}

/// The calling thread stays on one core as long as this lives.
pub(crate) struct Pinned(Option<CpuSet>);

impl Pinned {
    pub(crate) fn to(core: Core) -> Self {
        Self(set_of(core).and_then(|set| {
            let before = sched_getaffinity(None).ok()?;
            sched_setaffinity(None, &set).ok()?;
            Some(before)
        }))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = sched_setaffinity(None, before);
        }
    }
}

/// Every thread that this process has now: the library's do not inherit the cores of whoever starts them.
fn pin_process(core: Core) {
    let Some(set) = set_of(core) else { return };
    for task in std::fs::read_dir("/proc/self/task").expect("the threads").flatten() {
        let id = task.file_name().to_string_lossy().parse().ok();
        let _ = sched_setaffinity(id.and_then(Pid::from_raw), &set); // it may have ended
    }
}

// ---- the other process --------------------------------------------------------------------------------------------

/// The other process of a bench.
pub(crate) struct Peer {
    child: Child,
    said: String,
}

/// In the other process, when all its threads are there: pins them, tells the bench this line, and returns when that has
/// dropped its [`Peer`] or has ended.
pub(crate) fn serve(said: &str) {
    serve_on(Core::Theirs, said);
}

/// As [`serve`], on another core.
pub(crate) fn serve_on(core: Core, said: &str) {
    pin_process(core);
    println!("{said}");
    std::io::stdout().flush().expect("standard output");
    let _ = std::io::stdin().read_line(&mut String::new());
}

impl Peer {
    /// Starts it; it is stopped when this returns.
    pub(crate) fn start(role: &str, with: &str) -> Self {
        // A signal from the terminal reaches the bench alone, whose end ends this process in order: see `outlive_no_bench`.
        let mut command = again(role, with);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut peer = Self { child: command.spawn().expect("the other process"), said: String::new() };
        let output = peer.child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut peer.said).expect("what it says");
        assert!(peer.said.ends_with('\n'), "the other process ended before it was ready: see above");
        peer.signal(Signal::STOP);
        peer
    }

    /// What it told [`serve`].
    pub(crate) fn said(&self) -> &str {
        self.said.trim_end()
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), signal);
    }

    /// It runs as long as the guard lives. Enough for connecting, which a pinned thread must not do: the library would take
    /// its one core for all there are, and not spin.
    #[must_use]
    pub(crate) fn awake(&self) -> Awake<'_> {
        self.signal(Signal::CONT);
        Awake(self)
    }

    /// It runs, and this thread is pinned, as long as the guards live.
    #[must_use]
    pub(crate) fn together(&self) -> (Awake<'_>, Pinned) {
        (self.awake(), Pinned::to(Core::Ours))
    }

    /// Takes a sample of `round`, for which the other process is needed.
    pub(crate) fn iter<R>(&self, bencher: &mut Bencher<'_>, mut round: impl FnMut() -> R) {
        let _together = self.together();
        warm_up(&mut round);
        bencher.iter(round);
    }
}

/// Rounds that do not count.
pub(crate) fn warm_up<R>(mut round: impl FnMut() -> R) {
    let until = Instant::now() + WARM_UP;
    loop {
        black_box(round());
        if Instant::now() >= until {
            return;
        }
    }
}

/// Stops the other process again.
pub(crate) struct Awake<'a>(&'a Peer);

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::STOP);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        drop(self.child.stdin.take()); // it ends by that
        if !ends_within(&self.child, PATIENCE) {
            eprintln!("process {} of the bench did not end within {PATIENCE:?}: killed", self.child.id());
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Waits until a child has ended.
fn ends_within(child: &Child, patience: Duration) -> bool {
    let Ok(pidfd) = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else { return false };
    let timeout = Timespec::try_from(patience).expect("a time");
    matches!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)), Ok(1))
}

/// At the start of a role that is served: a bench that is killed may leave its other process stopped, where it cannot see
/// that its standard input has ended; so the kernel is to continue it then.
pub(crate) fn outlive_no_bench() {
    rustix::process::set_parent_process_death_signal(Some(Signal::CONT)).expect("a signal at the parent's death");
}
