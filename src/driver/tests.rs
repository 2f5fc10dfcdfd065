use super::link::NORMAL;
use super::{Link, envelope};
use crate::deaths_tests::support;
use crate::pipe::Waited;
use crate::sync::Arc;
use crate::wake::ANNOUNCED;
use crate::wire::{self, Kind};
use crate::{IpcMain, IpcRenderer, Wait};
use std::sync::mpsc::{Sender, channel};

/// Rounds after which every announcement that stands in the steady state stands.
const WARM_UP: i64 = 200;

#[test]
fn calls_between_threads_that_spin_write_no_announcement_at_either_end() {
    let ipc_main = IpcMain::builder().wait(Wait::Spin).build().unwrap();
    support::add_sums(&ipc_main);
    // Runs on main's dispatcher, as what answers the calls does.
    ipc_main.handle("announced", |_event, ()| Ok(ANNOUNCED.get())).unwrap();
    let ipc_renderer = ipc_main.attach().unwrap();
    let rounds = |count| support::checked_sums(&ipc_renderer, count);
    let announced = || (ANNOUNCED.get(), ipc_renderer.invoke::<u64>("announced", ()).wait().unwrap());
    rounds(WARM_UP);
    let before = announced();
    rounds(1_000);
    assert_eq!(announced(), before, "by the caller, by main's dispatcher");
}

/// A main and a renderer, whose link the dispatcher cannot resume as long as the third is there: it is busy.
fn with_busy_dispatcher() -> (IpcMain, IpcRenderer, Sender<()>) {
    let ipc_main = IpcMain::new().unwrap();
    let ipc_renderer = ipc_main.attach().unwrap();
    support::until("it has said Hello", || link_of(&ipc_main, &ipc_renderer).is_connected());
    let ((here, is_here), (go, goes)) = (channel(), channel::<()>());
    ipc_main.engine().on_dispatcher(move |_| {
        here.send(()).unwrap();
        let _ = goes.recv(); // an error: the test has failed
    });
    is_here.recv().unwrap();
    (ipc_main, ipc_renderer, go)
}

fn link_of(ipc_main: &IpcMain, ipc_renderer: &IpcRenderer) -> Arc<Link> {
    ipc_main.engine().link(ipc_renderer.id()).unwrap()
}

/// Whoever leaves drains once more, and may be the last who looks at the queue.
#[test]
fn a_caller_whose_wait_ends_resumes_a_reader_that_was_paused_before_it_left() {
    let (ipc_main, ipc_renderer, go) = with_busy_dispatcher();
    let link = link_of(&ipc_main, &ipc_renderer);
    let mut is_done = || {
        link.set_paused(true);
        true
    };
    assert_eq!(link.wait(&mut is_done, None), Waited::Done);
    assert!(!link.is_paused());
    drop(go);
}

#[test]
fn a_message_that_was_encoded_before_its_renderer_came_resumes_a_reader_that_is_paused() {
    let (ipc_main, ipc_renderer, go) = with_busy_dispatcher();
    let (engine, link) = (ipc_main.engine(), link_of(&ipc_main, &ipc_renderer));
    let mut message = Vec::new();
    wire::begin(&envelope(Kind::Send, 0, "x"), &mut message);
    wire::encode_args(&(), &mut message, &engine.wire_limits).unwrap();
    link.set_paused(true);
    link.push_within(false, &mut message, NORMAL).unwrap();
    assert!(!link.is_paused());
    drop(go);
}
