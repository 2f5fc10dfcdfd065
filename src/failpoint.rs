//! Named steps at which a test stops a process, to kill it exactly there. In anything but the unit tests this is empty.

/// The calling thread has come to this step.
#[cfg(not(all(test, not(loom))))]
#[inline(always)]
pub(crate) fn reached(_step: &'static str) {}

#[cfg(all(test, not(loom)))]
pub(crate) use armed::{arm, hold, reached};

#[cfg(all(test, not(loom)))]
mod armed {
    use std::io::Write;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Looked at first: the tests that arm nothing share the process with those that do.
    static IS_ARMED: AtomicBool = AtomicBool::new(false);
    static ARMED: Mutex<Option<Armed>> = Mutex::new(None);

    struct Armed {
        step: String,
        passes: u32,
        /// Where its thread waits; without one the process is to be killed.
        wait: Option<Wait>,
    }

    type Wait = Box<dyn FnOnce() + Send>;

    fn set(step: &str, passes: u32, wait: Option<Wait>) {
        *ARMED.lock().unwrap() = Some(Armed { step: step.to_string(), passes, wait });
        IS_ARMED.store(true, Ordering::Release);
    }

    /// Whoever comes to `step` after `passes` others says so on the standard output and stays there until it is killed. From a
    /// step whose name ends in "sleeps" it goes on, to sleep.
    pub(crate) fn arm(step: &str, passes: u32) {
        set(step, passes, None);
    }

    /// Whoever comes to `step` after `passes` others waits, and then goes on.
    pub(crate) fn hold(step: &str, passes: u32, wait: impl FnOnce() + Send + 'static) {
        set(step, passes, Some(Box::new(wait)));
    }

    pub(crate) fn reached(step: &'static str) {
        if !IS_ARMED.load(Ordering::Acquire) {
            return;
        }
        let mut armed = ARMED.lock().unwrap();
        let Some(here) = armed.as_mut().filter(|armed| armed.step == step) else { return };
        if here.passes > 0 {
            here.passes -= 1;
            return;
        }
        let wait = here.wait.take();
        *armed = None;
        drop(armed);
        if let Some(wait) = wait {
            return wait();
        }
        std::io::stdout().write_all(format!("at {step}\n").as_bytes()).expect("whoever kills us listens");
        while !step.ends_with("sleeps") {
            std::thread::park();
        }
    }
}
