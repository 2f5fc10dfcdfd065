use crate::wake::ANNOUNCED;
use crate::{IpcMain, IpcMainEvent, Wait};

/// Rounds after which every announcement that stands in the steady state stands.
const WARM_UP: i64 = 200;

#[test]
fn calls_between_threads_that_spin_write_no_announcement_at_either_end() {
    let ipc_main = IpcMain::builder().wait(Wait::Spin).build().unwrap();
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_main.on("ask", |event: &IpcMainEvent, (a,): (i64,)| event.set_return_value(a));
    // Runs on main's dispatcher, as what answers the calls does.
    ipc_main.handle("announced", |_event, ()| Ok(ANNOUNCED.get())).unwrap();
    let ipc_renderer = ipc_main.attach().unwrap();
    let rounds = |count: i64| {
        for round in 0..count {
            let sum: i64 = ipc_renderer.invoke("add", (round, 1)).wait().unwrap();
            let answer: i64 = ipc_renderer.send_sync("ask", (round,)).unwrap();
            assert_eq!((sum, answer), (round + 1, round));
        }
    };
    let announced = || (ANNOUNCED.get(), ipc_renderer.invoke::<u64>("announced", ()).wait().unwrap());
    rounds(WARM_UP);
    let before = announced();
    rounds(1_000);
    assert_eq!(announced(), before, "by the caller, by main's dispatcher");
}
