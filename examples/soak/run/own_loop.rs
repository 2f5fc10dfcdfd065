//! A loop of the program's own, as a game, an editor or a plug-in host has it: by it alone the callbacks of a handle in manual
//! dispatch run.

use super::random::Random;
use ringmain::{Budget, Error, ErrorKind, IpcMain, IpcRenderer, Polled, Result};
use rustix::event::{PollFd, PollFlags};
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Ways to know when to poll.
pub(crate) const STYLES: u64 = 3;

/// Either end.
pub(crate) trait Polls: Send + 'static {
    fn poll(&self, budget: Budget) -> Result<Polled>;
    fn wait(&self) -> Result<bool>;
    fn as_fd(&self) -> Result<BorrowedFd<'_>>;
}

macro_rules! polls {
    ($end:ty) => {
        impl Polls for $end {
            fn poll(&self, budget: Budget) -> Result<Polled> {
                <$end>::poll(self, budget)
            }
            fn wait(&self) -> Result<bool> {
                <$end>::wait(self, None)
            }
            fn as_fd(&self) -> Result<BorrowedFd<'_>> {
                <$end>::as_fd(self)
            }
        }
    };
}

polls!(IpcMain);
polls!(IpcRenderer);

/// Polls until the handle is shut down. Neither way to sleep has a timeout: a wake-up that is lost is to be found.
pub(crate) struct OwnLoop {
    thread: JoinHandle<()>,
    may_end: Arc<AtomicBool>,
}

impl OwnLoop {
    pub(crate) fn start(
        polls: impl Polls,
        style: u64,
        random: Random,
        fault: impl Fn(String) + Send + 'static,
    ) -> Self {
        let may_end = Arc::new(AtomicBool::new(false));
        let is_told = may_end.clone();
        let run = move || match catch_unwind(AssertUnwindSafe(|| run(&polls, style, random))) {
            Ok(Err(error)) if error.kind() == ErrorKind::Disconnected && is_told.load(Ordering::Acquire) => {}
            Ok(Err(error)) => fault(format!("the loop that polls failed: {error}")),
            Ok(Ok(never)) => match never {},
            Err(_) => fault("the loop that polls panicked".into()),
        };
        Self { thread: std::thread::Builder::new().name("own loop".into()).spawn(run).expect("a thread"), may_end }
    }

    /// The handle is shut down from now on.
    pub(crate) fn may_end(&self) {
        self.may_end.store(true, Ordering::Release);
    }

    /// After the handle was shut down.
    pub(crate) fn join(self) {
        let _ = self.thread.join();
    }
}

fn run(polls: &impl Polls, style: u64, mut random: Random) -> std::result::Result<std::convert::Infallible, Error> {
    loop {
        let polled = match style {
            0 => polls.wait().and_then(|_| polls.poll(budget(&mut random))),
            1 => readable(polls).and_then(|()| polls.poll(budget(&mut random))),
            _ => {
                // Once a frame.
                std::thread::sleep(Duration::from_micros(random.between(300, 3000)));
                polls.poll(Budget::time(Duration::from_millis(2)))
            }
        };
        match polled {
            // Another thread polls while it waits for its answer.
            Err(error) if error.kind() == ErrorKind::Busy => std::thread::sleep(Duration::from_micros(100)),
            other => _ = other?,
        }
    }
}

fn budget(random: &mut Random) -> Budget {
    match random.below(8) {
        0 => Budget::messages(random.between(1, 4) as usize),
        1 => Budget::messages(64),
        2 => Budget::time(Duration::from_micros(random.between(20, 2000))),
        _ => Budget::UNLIMITED,
    }
}

fn readable(polls: &impl Polls) -> Result<()> {
    let fd = match polls.as_fd() {
        Ok(fd) => fd,
        // Main is gone before there was a descriptor: what there is to tell of that is found all the same.
        Err(error) if error.kind() == ErrorKind::Disconnected => return polls.wait().map(drop),
        Err(error) => return Err(error),
    };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    // A signal ends it early, which is no harm.
    let _ = rustix::event::poll(&mut fds, None);
    Ok(())
}
