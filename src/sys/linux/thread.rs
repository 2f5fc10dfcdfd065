//! Threads inside somebody else's program.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::thread::{Builder, JoinHandle};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::invalid;

/// Raised by the thread's own fault: blocked, they would kill the process past the handlers that
/// report a crash or a stack overflow.
const FAULTS: [libc::c_int; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];
/// Or-ed to a policy that children do not inherit.
const SCHED_RESET_ON_FORK: libc::c_int = 0x4000_0000;

/// A thread that handles none of the program's signals and, even if the caller is an audio callback's
/// thread, neither runs in a real-time class nor is bound to its cores.
pub(crate) fn spawn_thread<T: Send + 'static>(
    name: &str,
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    if name.contains('\0') {
        return Err(invalid(format!("the thread name {name:?} contains a zero byte")));
    }
    let _blocked = BlockedSignals::new();
    Builder::new().name(name.to_owned()).spawn(move || {
        leave_real_time();
        use_cores_of_process();
        f()
    })
}

/// A thread inherits the mask of its creator, so blocking there leaves no window.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn new() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut old = MaybeUninit::zeroed();
        // SAFETY: all pointers are to locals of the right type; `sigfillset` initialises `all`
        // before it is read, and a zeroed set is a valid (empty) one whatever happens to `old`.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            for fault in FAULTS {
                libc::sigdelset(all.as_mut_ptr(), fault);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), old.as_mut_ptr());
            Self(old.assume_init())
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set is the one that this thread had, and the guard stays on its thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
}

/// Whether the calling thread is of a class that the others on its core cannot interrupt.
pub(crate) fn is_real_time() -> bool {
    // SAFETY: a question about the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    policy >= 0 && matches!(policy & !SCHED_RESET_ON_FORK, libc::SCHED_FIFO | libc::SCHED_RR)
}

/// Giving up a real-time class needs no permission. Batch and idle, a choice for the whole program
/// as a rule, stay.
fn leave_real_time() {
    // SAFETY: the calling thread's own handle; the pointers are to locals of the right type.
    unsafe {
        let this = libc::pthread_self();
        let (mut policy, mut param) = (0, std::mem::zeroed());
        if libc::pthread_getschedparam(this, &mut policy, &mut param) != 0 {
            return;
        }
        if matches!(policy & !SCHED_RESET_ON_FORK, libc::SCHED_FIFO | libc::SCHED_RR) {
            param.sched_priority = 0;
            libc::pthread_setschedparam(this, libc::SCHED_OTHER, &param);
        }
    }
}

/// What the program was given (`taskset`, containers) holds for its main thread; a binding beyond
/// that is some thread's own. `None`: the calling thread has none, or the kernel refuses to say.
fn cores_beyond_own() -> Option<CpuSet> {
    let (wanted, inherited) = (cores_of_process().ok()?, sched_getaffinity(None).ok()?);
    (0..CpuSet::MAX_CPU).any(|cpu| wanted.is_set(cpu) != inherited.is_set(cpu)).then_some(wanted)
}

fn use_cores_of_process() {
    if let Some(wanted) = cores_beyond_own() {
        let _ = sched_setaffinity(None, &wanted);
    }
}

/// Runs `f` where a program that it starts inherits neither a real-time class nor the binding of one
/// thread to its cores: on a thread of its own, if the calling one has either.
pub(crate) fn with_ordinary_scheduling<T: Send>(f: impl FnOnce() -> T + Send) -> io::Result<T> {
    if !is_real_time() && cores_beyond_own().is_none() {
        return Ok(f());
    }
    std::thread::scope(|scope| {
        let ordinary = || {
            leave_real_time();
            use_cores_of_process();
            f()
        };
        let thread = Builder::new().name("ringmain-spawn".to_owned()).spawn_scoped(scope, ordinary)?;
        thread.join().map_err(|_| io::Error::other("the thread that should have started the program panicked"))
    })
}

fn cores_of_process() -> rustix::io::Result<CpuSet> {
    sched_getaffinity(i32::try_from(std::process::id()).ok().and_then(Pid::from_raw))
}

/// On how many cores the program may run, our threads with it: whatever the calling thread is bound to.
pub(crate) fn allowed_cpus() -> usize {
    match cores_of_process() {
        Ok(cpus) => (cpus.count() as usize).max(1),
        // More cores than the set can hold, for example.
        Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn blocked() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("SigBlk");
        u64::from_str_radix(line.trim(), 16).expect("hex")
    }

    fn policy() -> libc::c_int {
        // SAFETY: a question about the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn a_thread_blocks_all_signals_but_faults_and_its_creator_keeps_its_mask() {
        let before = blocked();
        let inside = spawn_thread("mask", blocked).expect("spawn").join().expect("join");
        let bit = |signal: libc::c_int| 1u64 << (signal - 1);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGCHLD, libc::SIGUSR1, libc::SIGALRM, 40, 64] {
            assert_ne!(inside & bit(signal), 0, "signal {signal} is not blocked");
        }
        for signal in FAULTS {
            assert_eq!(inside & bit(signal), 0, "signal {signal} is blocked");
        }
        assert_eq!(blocked(), before);
    }

    #[test]
    fn a_thread_has_its_name_and_returns_its_value() {
        let thread = spawn_thread("ringmain-test", || thread::current().name().map(str::to_owned));
        assert_eq!(thread.expect("spawn").join().expect("join").as_deref(), Some("ringmain-test"));
        assert!(spawn_thread("a\0b", || ()).is_err());
        assert!(spawn_thread("", || ()).expect("spawn").join().is_ok());
    }

    #[test]
    fn a_real_time_class_is_not_inherited() {
        let (creator, created) = thread::spawn(|| {
            // SAFETY: plain values for the calling thread; without permission nothing changes.
            unsafe {
                let param = libc::sched_param { sched_priority: 1 };
                libc::sched_setscheduler(0, libc::SCHED_FIFO, &param);
            }
            let created = spawn_thread("class", policy).expect("spawn").join().expect("join");
            (policy(), created)
        })
        .join()
        .expect("join");
        assert_eq!(created, libc::SCHED_OTHER, "the creator has class {creator}");
    }

    #[test]
    fn a_binding_to_a_core_is_not_inherited_but_that_of_the_process_is() {
        let main = Pid::from_raw(i32::try_from(std::process::id()).expect("pid"));
        let process = sched_getaffinity(main).expect("affinity");
        let bound = thread::spawn(move || {
            let mut one = CpuSet::new();
            let first = (0..CpuSet::MAX_CPU).find(|&cpu| process.is_set(cpu)).expect("a core");
            one.set(first);
            sched_setaffinity(None, &one).expect("bind");
            let own = || sched_getaffinity(None).expect("affinity").count() as usize;
            assert_eq!(own(), 1);
            (spawn_thread("cores", own).expect("spawn").join().expect("join"), allowed_cpus())
        });
        let cores = process.count() as usize;
        assert_eq!(bound.join().expect("join"), (cores, cores));
    }
}
