//! The second of two terminals: a renderer that connects to a main process which did not start it. See `listen`.
//!
//! ```text
//! cargo run --example connect [NAME] [--wait]     --wait: up to ten seconds for somebody to listen
//! ```

#[path = "demo/failure.rs"]
mod failure;

use failure::Failure;
use ringmain::{ErrorKind, IpcRenderer, Result};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// No answer takes as long: only a main that hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Failure> {
    let mut name = None;
    let mut wait = Duration::ZERO;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--wait" => wait = PATIENCE,
            _ if name.is_none() && !argument.starts_with('-') => name = Some(argument),
            _ => return Err(format!("'{argument}' is not understood; usage: connect [NAME] [--wait]").into()),
        }
    }
    let name = name.unwrap_or_else(|| "ringmain-example".to_string());

    let (answer, answers) = mpsc::channel();
    let ipc_renderer = connect(&name, wait).map_err(|error| match error.kind() {
        ErrorKind::NotListening => {
            format!("{error}\n  first start, in another terminal: cargo run --example listen {name}")
        }
        _ => error.to_string(),
    })?;
    println!("connected to '{name}' as renderer {}", ipc_renderer.id());

    // Listeners run on the dispatcher thread; a channel brings what they get to this one.
    ipc_renderer.on("answer", move |_event, (text,): (String,)| answer.send(text));

    // A call. The type that is asked for is the type that is read.
    let sum: i64 = ipc_renderer.invoke("add", (2, 3)).timeout(PATIENCE).wait()?;
    println!("add(2, 3) = {sum}");

    // A call that fails: the handler's own words, and its code, arrive here.
    match ipc_renderer.invoke::<i64>("add", (i64::MAX, 1)).timeout(PATIENCE).wait() {
        Ok(sum) => return Err(format!("add(i64::MAX, 1) = {sum}, which cannot be").into()),
        Err(error) if error.is_remote() => {
            println!("add(i64::MAX, 1) failed with code {}: {error}", error.code().unwrap_or("none"));
        }
        Err(error) => return Err(error.into()),
    }

    // A synchronous message: blocks until a listener in main has set the return value.
    let version: String = ipc_renderer.send_sync_timeout("version", (), PATIENCE)?;
    println!("main runs ringmain {version}");

    // A message that nobody waits for, and what main sends in return.
    ipc_renderer.send("message", ("hello from the other terminal",))?;
    let text = answers.recv_timeout(PATIENCE).map_err(|_| format!("main sent no answer within {PATIENCE:?}"))?;
    println!("main answers: {text}");

    // Dropping `ipc_renderer` would close as well; this says so if something of what was sent is lost.
    ipc_renderer.close(PATIENCE)?;
    Ok(())
}

/// Connects; while nobody listens, tries again until `wait` is over.
fn connect(name: &str, wait: Duration) -> Result<IpcRenderer> {
    let until = Instant::now() + wait;
    loop {
        match IpcRenderer::connect_to(name) {
            Err(error) if error.kind() == ErrorKind::NotListening && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}
