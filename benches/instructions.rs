//! A program that makes calls and nothing else, for `benches/instructions.sh` to count their instructions. Both ends are in
//! this process: what either does is told apart by its functions. `cargo bench` runs a few calls of each kind.
#![allow(missing_docs)]

use ringmain::{IpcMain, Wait};
use serde_json::Value;
use std::hint::black_box;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let kinds = args.next().map_or(vec!["add".to_string(), "echo".into(), "send".into()], |kind| vec![kind]);
    let calls: usize = args.next().map_or(100, |calls| calls.parse().expect("a number of calls"));
    for kind in kinds {
        run(&kind, calls);
        println!("{kind}: {calls} calls");
    }
}

fn run(kind: &str, calls: usize) {
    let ipc_main = IpcMain::builder().wait(Wait::Spin).build().expect("a main");
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).expect("a handler");
    ipc_main.handle("echo", |_event, (value,): (Value,)| Ok(value)).expect("a handler");
    ipc_main.on("send", |_event, (text,): (String,)| drop(black_box(text)));
    let ipc_renderer = ipc_main.attach().expect("a renderer");
    let value = Value::String("x".repeat(64));
    for round in 0..calls as i64 {
        match kind {
            "add" => drop(black_box(ipc_renderer.invoke::<i64>("add", (round, 1)).wait().expect("a sum"))),
            "echo" => drop(black_box(ipc_renderer.invoke::<Value>("echo", (&value,)).wait().expect("an echo"))),
            "send" => {
                ipc_renderer.send("send", (&value,)).expect("sent");
                if round % 64 == 0 {
                    // So that what is sent is read in time.
                    ipc_renderer.invoke::<i64>("add", (round, 1)).wait().expect("a sum");
                }
            }
            other => panic!("{other:?} is none of add, echo, send"),
        }
    }
}
