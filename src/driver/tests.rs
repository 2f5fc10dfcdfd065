use super::envelope;
use super::link::NORMAL;
use crate::deaths_tests::support;
use crate::wake::ANNOUNCED;
use crate::wire::{self, Kind};
use crate::{IpcMain, Wait};
use std::sync::mpsc::channel;

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

#[test]
fn a_message_that_was_encoded_before_its_renderer_came_resumes_a_reader_that_is_paused() {
    let ipc_main = IpcMain::new().unwrap();
    let ipc_renderer = ipc_main.attach().unwrap();
    let engine = ipc_main.engine();
    let link = engine.link(ipc_renderer.id()).unwrap();
    while !link.is_connected() {
        std::thread::yield_now(); // its Hello is on its way
    }
    // The dispatcher, which could resume it too, is busy.
    let ((here, is_here), (go, goes)) = (channel(), channel::<()>());
    engine.on_dispatcher(move |_| {
        here.send(()).unwrap();
        let _ = goes.recv(); // an error: the test has failed
    });
    is_here.recv().unwrap();
    let mut message = Vec::new();
    wire::begin(&envelope(Kind::Send, 0, "x"), &mut message);
    wire::encode_args(&(), &mut message, &engine.wire_limits).unwrap();
    link.set_paused(true);
    link.push_within(false, &mut message, NORMAL).unwrap();
    assert!(!link.is_paused());
    drop(go);
}
