use crate::deaths_tests::support;
use crate::wake::ANNOUNCED;
use crate::{IpcMain, Wait};

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
