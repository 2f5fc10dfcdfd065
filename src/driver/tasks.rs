//! Async handlers: polled on the dispatcher by `async-task`, or handed to the user's executor.

use super::{Engine, Request, contain, panic_text};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use async_task::Runnable;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local! {
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread polls one of our tasks: an await inside does not block it.
pub(crate) fn in_task() -> bool {
    IN_TASK.try_with(Cell::get).unwrap_or(false)
}

/// Callbacks that run meanwhile are none of a task's, though it waits for them.
pub(super) struct OutsideTask(bool);

impl OutsideTask {
    pub(super) fn begin() -> Self {
        Self(IN_TASK.replace(false))
    }
}

impl Drop for OutsideTask {
    fn drop(&mut self) {
        IN_TASK.set(self.0);
    }
}

/// Tasks that are ready to be polled.
#[derive(Default)]
pub(crate) struct Queue {
    ready: Mutex<VecDeque<Runnable>>,
    has_ready: AtomicBool,
    closed: AtomicBool,
}

impl Queue {
    fn push(&self, runnable: Runnable) {
        let mut ready = self.ready.lock();
        if self.closed.load(Ordering::Acquire) {
            drop(ready);
            drop(runnable); // drops the future: nobody polls any more
            return;
        }
        ready.push_back(runnable);
        self.has_ready.store(true, Ordering::Release);
    }

    fn pop(&self) -> Option<Runnable> {
        if !self.has_ready.load(Ordering::Acquire) {
            return None;
        }
        let mut ready = self.ready.lock();
        let runnable = ready.pop_front();
        self.has_ready.store(!ready.is_empty(), Ordering::Release);
        runnable
    }
}

/// Tasks polled before the links are looked at again.
pub(super) const BATCH: usize = 64;

impl Engine {
    /// Runs an async handler: on the user's executor if there is one, else on the dispatcher.
    pub(crate) fn spawn(self: &Arc<Self>, future: impl Future<Output = ()> + Send + 'static) {
        let executor = self.policies.lock().executor.clone();
        if let Some(executor) = executor {
            contain("the executor", || executor(Box::pin(future)), self);
            return;
        }
        // Weak: a task that waits for ever must not keep the engine.
        let engine = Arc::downgrade(self);
        let schedule = move |runnable| {
            if let Some(engine) = engine.upgrade() {
                engine.tasks.push(runnable);
                engine.ring();
            }
        };
        let (runnable, task) = async_task::spawn(future, schedule);
        task.detach();
        runnable.schedule();
    }

    /// Polls a task that is ready. Returns whether there was any.
    pub(super) fn run_task(self: &Arc<Self>) -> bool {
        let Some(runnable) = self.tasks.pop() else { return false };
        // One may be polled while another one waits.
        let was_in_task = IN_TASK.replace(true);
        contain("an async handler", || runnable.run(), self);
        IN_TASK.set(was_in_task);
        true
    }

    pub(super) fn ready_tasks(&self) -> usize {
        if self.has_ready_tasks() { self.tasks.ready.lock().len() } else { 0 }
    }

    pub(super) fn has_ready_tasks(&self) -> bool {
        self.tasks.has_ready.load(Ordering::Acquire)
    }

    /// Nothing is polled any more: what is ready is dropped, and what becomes ready later.
    pub(super) fn drop_tasks(self: &Arc<Self>) {
        {
            let _ready = self.tasks.ready.lock();
            self.tasks.closed.store(true, Ordering::Release);
        }
        while let Some(runnable) = self.tasks.pop() {
            contain("the drop of an async handler", || drop(runnable), self);
        }
    }
}

/// A handler's future: ends early when its caller cancels, and turns a panic into its text.
pub(crate) struct CatchPanic<F> {
    future: Option<Pin<Box<F>>>,
    request: Arc<Request>,
}

impl<F: Future> CatchPanic<F> {
    pub(crate) fn new(future: F, request: Arc<Request>) -> Self {
        Self { future: Some(Box::pin(future)), request }
    }
}

impl<F: Future> Future for CatchPanic<F> {
    /// `None`: cancelled.
    type Output = Option<Result<F::Output, String>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(future) = &mut this.future else { return Poll::Ready(None) };
        if !this.request.worked_on_by(context.waker()) {
            let future = this.future.take();
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
                return Poll::Ready(Some(Err(panic_text(payload))));
            }
            return Poll::Ready(None);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        let output = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(panic_text(payload)),
        };
        let future = this.future.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            return Poll::Ready(Some(Err(panic_text(payload))));
        }
        Poll::Ready(Some(output))
    }
}
