//! Named steps at which a test stops a process, to kill it exactly there. In anything but the unit tests this is empty.

/// The calling thread has come to this step.
#[cfg(not(all(test, not(loom))))]
#[inline(always)]
pub(crate) fn reached(_step: &'static str) {}

#[cfg(all(test, not(loom)))]
pub(crate) use armed::{arm, reached};

#[cfg(all(test, not(loom)))]
mod armed {
    use std::io::Write;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Looked at first: the tests that arm nothing share the process with those that do.
    static IS_ARMED: AtomicBool = AtomicBool::new(false);
    static ARMED: Mutex<Option<(String, u32)>> = Mutex::new(None);

    /// Whoever comes to `step` after `passes` others says so on the standard output and stays there until it is killed. From a
    /// step whose name ends in "sleeps" it goes on, to sleep.
    pub(crate) fn arm(step: &str, passes: u32) {
        *ARMED.lock().unwrap() = Some((step.to_string(), passes));
        IS_ARMED.store(true, Ordering::Release);
    }

    pub(crate) fn reached(step: &'static str) {
        if !IS_ARMED.load(Ordering::Acquire) {
            return;
        }
        let mut armed = ARMED.lock().unwrap();
        match &mut *armed {
            Some((at, passes)) if at == step && *passes > 0 => *passes -= 1,
            Some((at, _)) if at == step => {
                *armed = None;
                drop(armed);
                std::io::stdout().write_all(format!("at {step}\n").as_bytes()).expect("whoever kills us listens");
                while !step.ends_with("sleeps") {
                    std::thread::park();
                }
            }
            _ => {}
        }
    }
}
