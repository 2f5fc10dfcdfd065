//! A thread that does things a moment later: answers of listeners that have returned, wakers of async handlers.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Task = (Instant, Box<dyn FnOnce() + Send>);

/// Ends when it is dropped, after what was given to it.
pub(crate) struct Later {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl Later {
    pub(crate) fn new() -> Self {
        let (tasks, given) = channel::<Task>();
        let run = move || {
            for (at, task) in given {
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                task();
            }
        };
        let thread = std::thread::Builder::new().name("later".into()).spawn(run).expect("a thread");
        Self { tasks: Some(tasks), thread: Some(thread) }
    }

    /// Up to two milliseconds later, as the key says.
    pub(crate) fn run(&self, key: u64, task: impl FnOnce() + Send + 'static) {
        let at = Instant::now() + Duration::from_micros(key % 2000);
        let tasks = self.tasks.as_ref().expect("it lives");
        tasks.send((at, Box::new(task))).expect("its thread lives");
    }

    /// A future that is ready then, woken by that thread.
    pub(crate) fn after(&self, key: u64) -> impl Future<Output = ()> + Send + use<> {
        let (tell, told) = futures::channel::oneshot::channel::<()>();
        self.run(key, move || _ = tell.send(()));
        async move { _ = told.await }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        drop(self.tasks.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
