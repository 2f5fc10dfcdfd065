//! The first of two terminals: a main process that listens under a name for renderers it did not start.
//!
//! ```text
//! cargo run --example listen  [NAME] [--once]     waits and prints what it gets; --once: until the first one has gone
//! cargo run --example connect [NAME]              in another terminal: connects, calls, sends
//! ```

#[path = "demo/failure.rs"]
mod failure;

use failure::Failure;
use ringmain::{HandlerError, IpcMain, IpcMainEvent};
use std::sync::mpsc;

fn main() -> Result<(), Failure> {
    let mut name = None;
    let mut once = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--once" => once = true,
            _ if name.is_none() && !argument.starts_with('-') => name = Some(argument),
            _ => return Err(format!("'{argument}' is not understood; usage: listen [NAME] [--once]").into()),
        }
    }
    let name = name.unwrap_or_else(|| "ringmain-example".to_string());

    // Everything is registered before `listen`: whoever connects finds it.
    let ipc_main = IpcMain::new()?;

    // Called by `invoke`: what it returns is the answer. `Ok` needs no type, and `?` works with every error type.
    ipc_main.handle("add", |event, (a, b): (i64, i64)| {
        println!("renderer {} calls add({a}, {b})", event.sender().id());
        a.checked_add(b).ok_or_else(|| HandlerError::new("the sum does not fit 64 bits").with_code("ERANGE"))
    })?;

    // Called by `send`. What a listener returns is ignored, so the `Result` of `reply` may simply be its last line.
    ipc_main.on("message", |event: &IpcMainEvent, (text,): (String,)| {
        println!("renderer {} says: {text}", event.sender().id());
        event.reply("answer", (format!("main has read {} characters", text.chars().count()),))
    });

    // Called by `send_sync`, which blocks the renderer until the value is set.
    ipc_main.on("version", |event: &IpcMainEvent, ()| event.set_return_value(env!("CARGO_PKG_VERSION")));

    ipc_main.on_renderer_connected(|web_contents| {
        println!("renderer {} has connected: process {}", web_contents.id(), web_contents.process().id());
    });

    // Hooks run on the dispatcher thread, like listeners: they hand over to this thread, and do not block.
    let (gone, is_gone) = mpsc::channel();
    ipc_main.on_renderer_gone(move |web_contents, reason| {
        println!("renderer {} is gone: {reason}", web_contents.id());
        let _ = gone.send(()); // nobody waits any more: we are ending
    });

    let path = ipc_main.listen(&name)?;
    println!("listening under the name '{name}' ({})", path.display());

    // The dispatcher works, this thread only waits. Ends when `ipc_main`, which owns the hook, is dropped: never here.
    while is_gone.recv().is_ok() {
        if once {
            break;
        }
    }
    // Dropping `ipc_main` closes what is open and removes the socket.
    Ok(())
}
