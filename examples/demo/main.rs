//! ringmain at work, checked: Electron's own examples, a real JSON document both ways, a renderer that is killed, and what
//! a call costs.
//!
//! ```text
//! cargo run --release --example demo [FILE]      FILE: a JSON document; without it the output of `cargo metadata`
//! ```
//!
//! The program is the main process; the renderers are the same program, started again. Whatever differs from what is
//! expected, or does not happen, ends it with a message and an exit code other than 0.

mod document;
mod failure;
mod measure;
mod renderer;
mod report;
mod stage;

use document::Document;
use failure::Failure;
use report::{check, section};
use ringmain::{ErrorKind, ExitStatus, GoneReason, HandlerError, IpcMain, IpcMainEvent, Wait};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage::{Event, Stage};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// No step takes as long, even on a busy machine: only a process that hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(10);

/// With this argument the program is a renderer; how it waits comes next.
const RENDERER: &str = "--renderer";

/// What main asks of a renderer: any type of serde's travels as an argument.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Scene {
    /// Electron's examples.
    Docs,
    /// The document that lies in the standard input, both ways.
    Document,
    /// A call that main never answers.
    Unanswered,
    /// Round trips.
    Measure,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [RENDERER, wait] => renderer::run(wait),
        [] => main_process(None),
        [file] if !file.starts_with('-') => main_process(Some(file)),
        _ => Err(format!("{arguments:?} is not understood; usage: demo [FILE]").into()),
    }
}

fn main_process(file: Option<&str>) -> Result<(), Failure> {
    let started = Instant::now();
    let document = Arc::new(Document::load(file)?);

    let mut stage = Stage::new(IpcMain::builder(), "adaptive")?;
    register_docs(&stage)?;
    register_document(&stage, &document)?;
    register_unanswered(&stage)?;

    section(&format!("Three renderers of main, which is process {}", std::process::id()));
    for _ in 0..3 {
        let spawned = Instant::now();
        let web_contents = stage.spawn()?;
        let (id, process) = (web_contents.id(), web_contents.process().id());
        check(&format!(
            "renderer {id} is process {process}, connected {} after its start",
            report::time(spawned.elapsed())
        ));
    }

    section("Electron's documentation, in each of them");
    docs(&mut stage, &[1, 2, 3])?;
    check("send \"ping\", and event.reply sends \"pong\"");
    check("sendSync \"ping\", and event.returnValue is \"pong\"");
    check("invoke with 6 and 7, and the handler returns 42");
    section(&format!("A JSON document, both ways: {}", document.describe()));
    document_both_ways(&mut stage, &document)?;
    section("kill -9");
    kill(&mut stage)?;
    stage.end()?;

    section("Round trips: `invoke` echoes a string, renderer \u{2192} main \u{2192} renderer, in µs");
    report::table_head();
    let mut rows = Vec::new();
    for (wait, word) in [(Wait::Spin, "spin"), (Wait::Park, "park")] {
        rows.extend(round_trips(wait, word)?);
    }
    report::table_foot(&rows);

    section(&format!("All as expected, in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}

// ---- Electron's documentation -------------------------------------------------------------------------------------

/// What the documentation has main print.
const PING: &str = "ping";

fn register_docs(stage: &Stage) -> Result<(), Failure> {
    // A listener runs on the dispatcher thread; what it sees goes to this one, which waits in `Stage::wait`.
    let events = stage.events();
    stage.ipc_main.on("asynchronous-message", move |event: &IpcMainEvent, (arg,): (String,)| {
        let _ = events.send(Event::Printed(event.sender().id(), arg));
        event.reply("asynchronous-reply", ("pong",))
    });
    let events = stage.events();
    stage.ipc_main.on("synchronous-message", move |event: &IpcMainEvent, (arg,): (String,)| {
        let _ = events.send(Event::Printed(event.sender().id(), arg));
        event.set_return_value("pong")
    });
    stage.ipc_main.handle("my-invokable-ipc", |_event, (a, b): (i64, i64)| Ok(a * b))?;
    Ok(())
}

fn docs(stage: &mut Stage, ids: &[u32]) -> Result<(), Failure> {
    for &id in ids {
        stage.play(id, Scene::Docs)?;
    }
    for &id in ids {
        let renderer_printed: Vec<String> = stage.played(id)?;
        expect(&format!("renderer {id} printed"), &renderer_printed, &["pong", "pong", "42"].map(String::from).into())?;
        for _ in 0..2 {
            let printed = stage.wait(&format!("what renderer {id} says"), |event| match event {
                Event::Printed(from, text) if *from == id => Some(text.clone()),
                _ => None,
            })?;
            expect("main printed", &printed.as_str(), &PING)?;
        }
    }
    Ok(())
}

// ---- the document -------------------------------------------------------------------------------------------------

/// Compares what a renderer sends with the document, and returns the document.
fn register_document(stage: &Stage, document: &Arc<Document>) -> Result<(), Failure> {
    let document = document.clone();
    stage.ipc_main.handle("document", move |_event, (received,): (Value,)| {
        match document::difference(&document.value, &received) {
            None => Ok(document.value.clone()),
            Some(place) => Err(HandlerError::new(format!("main received another document: {place}"))),
        }
    })?;
    Ok(())
}

fn document_both_ways(stage: &mut Stage, document: &Arc<Document>) -> Result<(), Failure> {
    let id = 1;
    // The renderer gets its copy to compare with by another way than the one that is tested.
    let mut stdin = stage.renderer(id)?.process().take_stdin().ok_or("the renderer has no standard input")?;
    let text = document.clone();
    let writer = std::thread::spawn(move || stdin.write_all(text.text.as_bytes()));
    stage.play(id, Scene::Document)?;
    let round_trip: Duration = stage.played(id)?;
    writer.join().map_err(|_| "the thread that writes the document panicked")??;
    check(&format!("renderer {id} \u{2192} main as argument: equal in main, value for value"));
    check(&format!("main \u{2192} renderer {id} as reply: equal in the renderer, value for value"));
    check(&format!("there, compared, and back in {}", report::time(round_trip)));
    Ok(())
}

// ---- kill -9 ------------------------------------------------------------------------------------------------------

/// Says that the handler's future was dropped.
struct TellDropped(u32, std::sync::mpsc::Sender<Event>);

impl Drop for TellDropped {
    fn drop(&mut self) {
        let _ = self.1.send(Event::HandlerDropped(self.0));
    }
}

/// A handler that works for ever.
fn register_unanswered(stage: &Stage) -> Result<(), Failure> {
    let events = stage.events();
    stage.ipc_main.handle_async("unanswered", move |event, ()| {
        let id = event.sender().id();
        let _ = events.send(Event::HandlerStarted(id));
        let guard = TellDropped(id, events.clone());
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok(())
        }
    })?;
    Ok(())
}

fn kill(stage: &mut Stage) -> Result<(), Failure> {
    let id = 3;
    let renderer = stage.renderer(id)?;
    stage.play(id, Scene::Unanswered)?;
    stage.wait("the call that is not answered", |event| is(matches!(event, Event::HandlerStarted(of) if *of == id)))?;
    expect("calls that main works on", &renderer.stats().open_requests, &1)?;
    check(&format!("renderer {id} waits for the answer of a call"));

    let killed = Instant::now();
    renderer.process().kill()?;
    let (reason, at) = stage.wait("main to notice", |event| match event {
        Event::Gone(of, reason, at) if *of == id => Some((reason.clone(), *at)),
        _ => None,
    })?;
    expect("the reason", &reason, &GoneReason::Killed { signal: 9 })?;
    expect("the exit status", &renderer.process().exit_status(), &Some(ExitStatus::Killed(9)))?;
    check(&format!("main noticed {} after the kill: {reason}", report::time(at.duration_since(killed))));

    stage.wait("the end of the handler", |event| is(matches!(event, Event::HandlerDropped(of) if *of == id)))?;
    check("the handler that worked on its call was dropped");

    match renderer.send("play", (Scene::Docs,)) {
        Err(error) if error.kind() == ErrorKind::Disconnected => check(&format!("send to it fails at once: {error}")),
        other => return Err(format!("send to a renderer that was killed gave {other:?}").into()),
    }
    let left: Vec<u32> = stage.ipc_main.all_web_contents().iter().map(|left| left.id()).collect();
    expect("the renderers that are left", &left, &vec![1, 2])?;
    docs(stage, &left)?;
    check("renderers 1 and 2 play Electron's documentation once more, as if nothing had happened");
    Ok(())
}

// ---- round trips --------------------------------------------------------------------------------------------------

/// A main and a renderer that both wait in this way.
fn round_trips(wait: Wait, word: &str) -> Result<Vec<measure::Row>, Failure> {
    let mut stage = Stage::new(IpcMain::builder().wait(wait), word)?;
    stage.ipc_main.handle("echo", |_event, (text,): (String,)| Ok(text))?;
    // A handler runs on the dispatcher thread, whose sleeps the renderer counts.
    stage
        .ipc_main
        .handle("dispatcher", |_event, ()| Ok((std::process::id(), rustix::thread::gettid().as_raw_nonzero().get())))?;
    let events = stage.events();
    stage.ipc_main.on("row", move |_event, (row,): (measure::Row,)| events.send(Event::Row(row)));
    let id = stage.spawn()?.id();
    stage.play(id, Scene::Measure)?;
    let mut rows = Vec::new();
    for size in measure::SIZES {
        let row = stage.wait(&format!("the round trips of {size} bytes"), |event| match event {
            Event::Row(row) if row.size == size => Some(row.clone()),
            _ => None,
        })?;
        report::table_row(word, &row);
        rows.push(row);
    }
    let _: () = stage.played(id)?;
    stage.end()?;
    Ok(rows)
}

// ---- checks -------------------------------------------------------------------------------------------------------

fn is(condition: bool) -> Option<()> {
    condition.then_some(())
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?} instead of {expected:?}").into())
}
