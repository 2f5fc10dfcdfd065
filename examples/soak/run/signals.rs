//! Ctrl-C ends the run in order: nothing is left behind.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Comes before any thread is started: all of them are to leave these signals to the one that waits for them. Children
/// start without that: std gives them an empty mask.
pub(crate) fn install() {
    let set = mask();
    // SAFETY: the set was filled, and nothing is written.
    #[allow(unsafe_code)]
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
    let (here, is_here) = std::sync::mpsc::channel();
    let wait = move || {
        let _ = here.send(());
        let mut signal = 0;
        // SAFETY: the set was filled, and the number is written to a variable of ours.
        #[allow(unsafe_code)]
        unsafe {
            libc::sigwait(&set, &mut signal);
        }
        INTERRUPTED.store(true, Ordering::Relaxed);
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).expect("a thread");
    // It has its name now, by which it is counted.
    let _ = is_here.recv();
}

pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

fn mask() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigemptyset` fills the whole set before it is used.
    #[allow(unsafe_code)]
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        set.assume_init()
    }
}
