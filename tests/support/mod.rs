//! What the tests share: a main on the backing under test, children that are this test binary run again, and waits that
//! are bounded.
#![allow(dead_code, reason = "each test binary uses its part")]

mod filter;
mod process;
mod puppet;

#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use filter::*;
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use process::*;
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use puppet::*;
use ringmain::{Backing, ErrorKind, IpcMain, IpcMainBuilder, IpcMainEvent, IpcRenderer, WebContents};
use std::ops::Deref;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// No wait of a test is longer: far more than anything takes, so that only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const ROLE: &str = "RINGMAIN_TEST_ROLE";

/// The backing that this run of the suite is for: `RINGMAIN_TEST_BACKING=named` or, by default, sealed.
pub(crate) fn backing() -> Backing {
    match std::env::var("RINGMAIN_TEST_BACKING").as_deref() {
        Ok("named") => Backing::Named,
        Ok("sealed") | Err(_) => Backing::Sealed,
        Ok(other) => panic!("RINGMAIN_TEST_BACKING is {other:?}, known are \"sealed\" and \"named\""),
    }
}

/// A main's builder with the backing under test.
pub(crate) fn builder() -> IpcMainBuilder {
    IpcMain::builder().backing(backing())
}

/// A main on the backing under test.
pub(crate) fn ipc_main() -> IpcMain {
    builder().build().expect("a main")
}

/// This test binary again, to play `role` in its `children` test: see [`play`].
pub(crate) fn child(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command.args(["--exact", &children(), "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

/// The path of the test `children`: of an integration test at its root, of a module of unit tests in that.
fn children() -> String {
    let (_, path) = concat!(module_path!(), "::").split_once("::").expect("a path in a crate");
    let beside_us = path.strip_suffix("support::").expect("this module's name");
    format!("{beside_us}children")
}

/// The body of each binary's `#[test] fn children()`: in a child it plays its role and exits, otherwise it returns.
pub(crate) fn play(roles: &[(&str, fn())]) {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (_, play) = roles.iter().find(|(name, _)| *name == role).unwrap_or_else(|| panic!("no role {role:?}"));
    play();
    std::process::exit(0);
}

/// A spawned renderer that is killed when the test ends, however it ends.
pub(crate) struct Child(pub(crate) WebContents);

impl Deref for Child {
    type Target = WebContents;

    fn deref(&self) -> &WebContents {
        &self.0
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.process().kill();
    }
}

/// Spawns a child that plays `role`.
pub(crate) fn spawn(ipc_main: &IpcMain, role: &str) -> Child {
    Child(ipc_main.spawn(child(role)).expect("a child"))
}

/// What an `on_error` hook was told.
#[derive(Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) renderer: Option<u32>,
    pub(crate) channel: Option<String>,
    pub(crate) kind: ErrorKind,
    pub(crate) text: String,
}

/// What `on_error` of a main is told.
pub(crate) fn told(ipc_main: &IpcMain) -> Receiver<Told> {
    let (to, from) = std::sync::mpsc::channel();
    ipc_main.on_error(move |told| {
        let (kind, text) = (told.error.kind(), told.error.to_string());
        let _ = to.send(Told { renderer: told.renderer, channel: told.channel.clone(), kind, text });
    });
    from
}

/// Calls of "never" wait for ever; each is told.
pub(crate) fn never_answers(ipc_main: &IpcMain, called: std::sync::mpsc::Sender<()>) {
    let never = move |_event: ringmain::IpcMainInvokeEvent, (): ()| {
        let _ = called.send(());
        async {
            std::future::pending::<()>().await;
            Ok(())
        }
    };
    ipc_main.handle_async("never", never).expect("a handler");
}

/// What [`checked_sums`] asks.
pub(crate) fn add_sums(ipc_main: &IpcMain) {
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).expect("a handler");
    ipc_main.on("ask", |event: &IpcMainEvent, (a,): (i64,)| event.set_return_value(a));
}

/// So many calls and synchronous messages.
pub(crate) fn checked_sums(ipc_renderer: &IpcRenderer, count: i64) {
    for round in 0..count {
        let sum: i64 = ipc_renderer.invoke("add", (round, 1)).wait().unwrap();
        let answer: i64 = ipc_renderer.send_sync("ask", (round,)).unwrap();
        assert_eq!((sum, answer), (round + 1, round));
    }
}

/// In a child: connected to the main that spawned it.
pub(crate) fn connected() -> IpcRenderer {
    IpcRenderer::connect().expect("connected to main")
}

/// In a child: lives until main is gone or has closed the link.
pub(crate) fn until_disconnected(ipc_renderer: &IpcRenderer) {
    let (gone, is_gone) = std::sync::mpsc::channel();
    ipc_renderer.on_disconnected(move |_| {
        let _ = gone.send(());
    });
    let _ = is_gone.recv_timeout(PATIENCE);
}

/// The next value, or a panic that says what was waited for.
pub(crate) fn next<T>(receiver: &Receiver<T>, what: &str) -> T {
    match receiver.recv_timeout(PATIENCE) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("waited {PATIENCE:?} for {what}"),
        Err(RecvTimeoutError::Disconnected) => panic!("nobody sends {what} any more"),
    }
}

/// Runs `body` on a thread of its own and panics if it takes longer than [`PATIENCE`]: for what might hang.
pub(crate) fn bounded<T: Send + 'static>(what: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    bounded_by(PATIENCE, what, body)
}

/// As [`bounded`], for what takes longer.
pub(crate) fn bounded_by<T: Send + 'static>(
    patience: Duration,
    what: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, is_done) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = done.send(body());
    });
    match is_done.recv_timeout(patience) {
        Ok(value) => {
            let _ = thread.join();
            value
        }
        Err(RecvTimeoutError::Timeout) => panic!("{what} did not end within {patience:?}"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(payload) => std::panic::resume_unwind(payload),
            Ok(()) => unreachable!("it sends before it ends"),
        },
    }
}

/// A main and a renderer in this process.
pub(crate) fn pair() -> (IpcMain, IpcRenderer) {
    pair_of(builder())
}

/// A main with these options and a renderer in this process, which takes them over.
pub(crate) fn pair_of(builder: IpcMainBuilder) -> (IpcMain, IpcRenderer) {
    let ipc_main = builder.build().expect("a main");
    let ipc_renderer = ipc_main.attach().expect("a renderer");
    (ipc_main, ipc_renderer)
}

/// Holds up whoever comes to it until it is opened; it never closes again. A listener that waits here is a process that
/// does not read.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    is_open: bool,
    arrived: usize,
}

impl Gate {
    pub(crate) fn wait(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.arrived += 1;
        changed.notify_all();
        let (state, _) = changed.wait_timeout_while(state, PATIENCE, |state| !state.is_open).unwrap();
        assert!(state.is_open, "nobody opened the gate within {PATIENCE:?}");
    }

    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().is_open = true;
        self.0.1.notify_all();
    }

    /// Waits that long for somebody to come to it.
    pub(crate) fn is_reached_within(&self, time: Duration) -> bool {
        let (state, changed) = &*self.0;
        let waited = changed.wait_timeout_while(state.lock().unwrap(), time, |state| state.arrived == 0);
        waited.unwrap().0.arrived > 0
    }

    /// Waits until somebody has come to it.
    pub(crate) fn reached(&self) {
        let (state, changed) = &*self.0;
        let (state, _) =
            changed.wait_timeout_while(state.lock().unwrap(), PATIENCE, |state| state.arrived == 0).unwrap();
        assert!(state.arrived > 0, "nobody came to the gate within {PATIENCE:?}");
    }
}

/// Looks until it holds what another thread makes true; for counters, which nobody announces.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come true within {PATIENCE:?}");
        std::thread::yield_now();
    }
}
