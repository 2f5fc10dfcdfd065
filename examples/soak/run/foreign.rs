//! An executor that is not the library's, as an application brings one: threads of its own that poll async handlers.

use async_task::Runnable;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

type Handler = Pin<Box<dyn Future<Output = ()> + Send>>;

const THREADS: u32 = 2;

/// What takes async handlers. Its threads end when it and all that was given to it are gone, which the census looks at.
pub(crate) fn executor() -> impl Fn(Handler) + Send + Sync + 'static {
    let (ready, runs) = channel::<Runnable>();
    let runs = Arc::new(Mutex::new(runs));
    for number in 0..THREADS {
        let runs = runs.clone();
        let name = format!("foreign {number}");
        std::thread::Builder::new().name(name).spawn(move || run(&runs)).expect("a thread");
    }
    move |handler| spawn(handler, ready.clone())
}

fn spawn(handler: Handler, ready: Sender<Runnable>) {
    let schedule = move |runnable| {
        // The threads live as long as there is a sender.
        let _ = ready.send(runnable);
    };
    let (runnable, task) = async_task::spawn(handler, schedule);
    task.detach();
    runnable.schedule();
}

fn run(runs: &Mutex<Receiver<Runnable>>) {
    loop {
        let next = runs.lock().unwrap().recv();
        let Ok(runnable) = next else { return };
        runnable.run();
    }
}
