//! A renderer: plays the scenes that main asks for, until the link is closed.

use crate::failure::Failure;
use crate::{PATIENCE, PING, Scene, document, measure};
use ringmain::{IpcRenderer, Wait};
use serde_json::Value;
use std::io::Read;
use std::sync::mpsc;
use std::time::Instant;

/// How a renderer may wait, by the word on its command line.
pub(crate) const WAITS: [(&str, Wait); 3] = [("adaptive", Wait::Adaptive), ("spin", Wait::Spin), ("park", Wait::Park)];

pub(crate) fn run(wait: &str) -> Result<(), Failure> {
    let found = WAITS.iter().find(|(word, _)| *word == wait);
    let wait = found.ok_or_else(|| format!("'{wait}' is no way to wait: known are {WAITS:?}"))?.1;

    // A listener that the builder has is there before the first message. It hands over to this thread: the scenes
    // block, and the dispatcher has the replies to run.
    let (play, scenes) = mpsc::channel();
    let over = play.clone();
    let ipc_renderer = IpcRenderer::builder()
        .wait(wait)
        .on("play", move |_event, (scene,): (Scene,)| play.send(Some(scene)))
        .connect()?;
    ipc_renderer.on_disconnected(move |_reason| {
        let _ = over.send(None); // fails only where nobody waits any more
    });

    while let Ok(Some(scene)) = scenes.recv() {
        let played = match scene {
            Scene::Docs => docs(&ipc_renderer).map(Value::from),
            Scene::Document => round_trip(&ipc_renderer),
            Scene::Unanswered => ipc_renderer.invoke("unanswered", ()).wait().map_err(Failure::from),
            Scene::Measure => measure::run(&ipc_renderer, wait).map(|()| Value::Null),
        };
        if !ipc_renderer.is_connected() {
            break; // main is gone, or has closed: nobody is left to report to
        }
        ipc_renderer.send("played", (played.map_err(|failure| failure.to_string()),))?;
    }
    Ok(())
}

/// The renderer's side of Electron's documentation; what it prints.
fn docs(ipc_renderer: &IpcRenderer) -> Result<Vec<String>, Failure> {
    let (print, printed) = mpsc::channel();
    let mut lines: Vec<String> = Vec::new();

    let listener = ipc_renderer.on("asynchronous-reply", move |_event, (arg,): (String,)| print.send(arg));
    ipc_renderer.send("asynchronous-message", (PING,))?;
    lines.push(printed.recv_timeout(PATIENCE).map_err(|_| format!("no reply within {PATIENCE:?}"))?);
    ipc_renderer.remove_listener("asynchronous-reply", &listener);

    lines.push(ipc_renderer.send_sync_timeout("synchronous-message", (PING,), PATIENCE)?);
    let result: i64 = ipc_renderer.invoke("my-invokable-ipc", (6, 7)).timeout(PATIENCE).wait()?;
    lines.push(result.to_string());
    Ok(lines)
}

/// Sends the document that lies in the standard input, and compares it with what main returns; how long that took.
fn round_trip(ipc_renderer: &IpcRenderer) -> Result<Value, Failure> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let document: Value = serde_json::from_str(&text)?;
    let start = Instant::now();
    let returned: Value = ipc_renderer.invoke("document", (&document,)).timeout(PATIENCE).wait()?;
    let took = start.elapsed();
    match document::difference(&document, &returned) {
        None => Ok(serde_json::to_value(took)?),
        Some(place) => Err(format!("main returned another document: {place}").into()),
    }
}
