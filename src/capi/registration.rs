//! What the caller has registered: a callback, or events to be pulled. Removing one is a barrier.
#![allow(unsafe_code)]

use super::event::ringmain_event;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use parking_lot::{Condvar, MutexGuard};
use std::ffi::c_void;

/// Called with the `user` of the registration and an event, which is valid until it returns: `ringmain_event_retain` keeps
/// it. Runs on the thread that dispatches. It may call every function of this library, `ringmain_*_remove` for itself
/// included; those that would have to dispatch return `RINGMAIN_BUSY`. It must not unwind: no C++ exception, no `longjmp`.
pub type ringmain_callback = Option<unsafe extern "C" fn(user: *mut c_void, event: *mut ringmain_event)>;

/// Called once with the `user` of a registration that is over, when nothing uses it any more; on the thread that removes
/// it, or on the one whose callback of it still ran then. Every function of this library may be called in it, the one that
/// frees its own handle included, unless that is what runs already. It must not unwind.
pub type ringmain_destroy = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// The caller's pointer: what it points to is theirs to guard.
#[derive(Clone, Copy)]
struct User(*mut c_void);

// SAFETY: we only hand it back. The header says on which threads that happens.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

pub(super) struct Registration {
    /// 0: an answer, which is delivered once.
    pub(super) id: u64,
    callback: ringmain_callback,
    destroy: ringmain_destroy,
    user: User,
    /// The process that made it: a forked copy has nobody who would end what runs here.
    process: u32,
    state: Mutex<State>,
    /// `destroy` has returned, or the last callback.
    ended: Condvar,
    /// It was told of the end of a renderer's main.
    knows_the_end: AtomicBool,
}

#[derive(Default)]
struct State {
    /// The threads that run the callback now; nested runs of one thread more than once.
    running: Vec<u64>,
    over: bool,
    /// Somebody calls `destroy`, or has.
    claimed: bool,
    /// It has returned.
    destroyed: bool,
}

impl Registration {
    pub(super) fn new(id: u64, callback: ringmain_callback, user: *mut c_void, destroy: ringmain_destroy) -> Arc<Self> {
        let (state, ended) = (Mutex::default(), Condvar::new());
        let knows_the_end = AtomicBool::new(false);
        Arc::new(Self {
            id,
            callback,
            destroy,
            user: User(user),
            process: std::process::id(),
            state,
            ended,
            knows_the_end,
        })
    }

    /// Whether it was not told of the end before; from here on it was.
    pub(super) fn is_told_the_end_now(&self) -> bool {
        !self.knows_the_end.swap(true, Ordering::Relaxed)
    }

    /// Whether events are to be pulled.
    pub(super) fn is_pulled(&self) -> bool {
        self.callback.is_none()
    }

    /// Leaves an event to be pulled unless it is over.
    pub(super) fn unless_over(&self, push: impl FnOnce()) {
        let state = self.state.lock();
        if !state.over {
            push();
        }
    }

    /// It did not come to be: when this returns the callback does not run, and `destroy` is not called.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        (state.over, state.claimed, state.destroyed) = (true, true, true);
        let this = crate::driver::this_thread();
        while state.running.iter().any(|thread| *thread != this) {
            self.ended.wait(&mut state);
        }
    }

    /// Runs the callback unless it is over.
    pub(super) fn run(&self, event: &Arc<ringmain_event>) {
        let Some(callback) = self.callback else { return };
        {
            let mut state = self.state.lock();
            if state.over {
                return;
            }
            state.running.push(crate::driver::this_thread());
        }
        // SAFETY: the caller has given both together; the event lives until it returns. Nothing of it is written but by
        // our own functions, which take it as shared.
        unsafe { callback(self.user.0, Arc::as_ptr(event).cast_mut()) };
        let this = crate::driver::this_thread();
        let mut state = self.state.lock();
        if let Some(at) = state.running.iter().rposition(|thread| *thread == this) {
            state.running.swap_remove(at);
        }
        if state.over && state.running.is_empty() {
            self.ended.notify_all();
        }
        self.conclude(state);
    }

    /// The callback runs no more, and `destroy` has been called, when this returns; inside of the callback itself both are
    /// true when that returns.
    pub(super) fn end(&self) {
        if std::process::id() != self.process {
            return;
        }
        let mut state = self.state.lock();
        state.over = true;
        self.conclude(state);
        let this = crate::driver::this_thread();
        let mut state = self.state.lock();
        // Whoever runs it beneath us on this stack cannot end before we return.
        while !state.destroyed && !state.running.contains(&this) {
            self.ended.wait(&mut state);
        }
    }

    /// Calls `destroy` if that is due, with nothing held.
    fn conclude(&self, mut state: MutexGuard<'_, State>) {
        if !state.over || !state.running.is_empty() || std::mem::replace(&mut state.claimed, true) {
            return;
        }
        drop(state);
        if let Some(destroy) = self.destroy {
            // SAFETY: the caller has given both together; whoever has claimed it calls it, once.
            unsafe { destroy(self.user.0) };
        }
        self.state.lock().destroyed = true;
        self.ended.notify_all();
    }
}
