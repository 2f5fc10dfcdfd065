//! A main process and its renderers: starts them, waits for what they report, and leaves none behind.

use crate::failure::Failure;
use crate::measure::Row;
use crate::{PATIENCE, RENDERER, Scene};
use ringmain::{ExitStatus, GoneReason, IpcMain, IpcMainBuilder, IpcMainEvent, WebContents};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::VecDeque;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// What listeners, handlers and hooks tell the waiting thread; numbers are those of renderers.
#[derive(Debug)]
pub(crate) enum Event {
    Connected(u32),
    /// A listener of the documentation printed this.
    Printed(u32, String),
    /// A scene is over, with what it found or what went wrong.
    Played(u32, Result<Value, String>),
    HandlerStarted(u32),
    HandlerDropped(u32),
    Row(Row),
    Gone(u32, GoneReason, Instant),
    /// Something went wrong where nobody waits for an error.
    Trouble(String),
}

pub(crate) struct Stage {
    pub(crate) ipc_main: IpcMain,
    wait: &'static str,
    renderers: Vec<WebContents>,
    sender: Sender<Event>,
    events: Receiver<Event>,
    /// Came while something else was waited for.
    earlier: VecDeque<Event>,
}

impl Stage {
    /// `wait`: how the renderers wait.
    pub(crate) fn new(builder: IpcMainBuilder, wait: &str) -> Result<Self, Failure> {
        let wait = crate::renderer::WAITS.iter().find(|(word, _)| *word == wait).ok_or("no such way to wait")?.0;
        let ipc_main = builder.build()?;
        let (sender, events) = mpsc::channel();
        let tell = sender.clone();
        ipc_main.on_renderer_connected(move |web_contents| drop(tell.send(Event::Connected(web_contents.id()))));
        let tell = sender.clone();
        ipc_main.on_renderer_gone(move |web_contents, reason| {
            let _ = tell.send(Event::Gone(web_contents.id(), reason.clone(), Instant::now()));
        });
        let tell = sender.clone();
        ipc_main.on_error(move |report| drop(tell.send(Event::Trouble(report.error.to_string()))));
        let tell = sender.clone();
        ipc_main.on("played", move |event: &IpcMainEvent, (found,): (Result<Value, String>,)| {
            tell.send(Event::Played(event.sender().id(), found))
        });
        Ok(Self { ipc_main, wait, renderers: Vec::new(), sender, events, earlier: VecDeque::new() })
    }

    /// For a listener, to tell what it sees.
    pub(crate) fn events(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// Starts a renderer and waits until it has connected.
    pub(crate) fn spawn(&mut self) -> Result<WebContents, Failure> {
        let mut program = Command::new(std::env::current_exe()?);
        program.args([RENDERER, self.wait]).stdin(Stdio::piped()).stdout(Stdio::null());
        let renderer = self.ipc_main.spawn(program)?;
        self.renderers.push(renderer.clone());
        let id = renderer.id();
        self.wait(&format!("renderer {id} to connect"), |event| match event {
            Event::Connected(of) if *of == id => Some(()),
            _ => None,
        })?;
        Ok(renderer)
    }

    pub(crate) fn renderer(&self, id: u32) -> Result<WebContents, Failure> {
        self.ipc_main.web_contents(id).ok_or_else(|| format!("renderer {id} is gone").into())
    }

    /// Has a renderer play a scene.
    pub(crate) fn play(&self, id: u32, scene: Scene) -> Result<(), Failure> {
        Ok(self.renderer(id)?.send("play", (scene,))?)
    }

    /// Waits until a renderer has played its scene; what it found.
    pub(crate) fn played<T: DeserializeOwned>(&mut self, id: u32) -> Result<T, Failure> {
        let found = self.wait(&format!("renderer {id} to finish"), |event| match event {
            Event::Played(of, found) if *of == id => Some(found.clone()),
            _ => None,
        })?;
        let value = found.map_err(|error| format!("renderer {id}: {error}"))?;
        Ok(serde_json::from_value(value)?)
    }

    /// Waits for the first event that `pick` takes. A renderer that ends, fails, or trouble, ends the wait with an error,
    /// unless that is what `pick` takes.
    pub(crate) fn wait<T>(&mut self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> Result<T, Failure> {
        if let Some((index, picked)) = self.earlier.iter().enumerate().find_map(|(i, event)| Some((i, pick(event)?))) {
            self.earlier.remove(index);
            return Ok(picked);
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event =
                self.events.recv_timeout(left).map_err(|_| format!("waited {PATIENCE:?} for {what}, in vain"))?;
            if let Some(picked) = pick(&event) {
                return Ok(picked);
            }
            match event {
                Event::Gone(id, reason, _) => {
                    return Err(format!("renderer {id} is gone while we wait for {what}: {reason}").into());
                }
                Event::Played(id, Err(error)) => return Err(format!("renderer {id}: {error}").into()),
                Event::Trouble(trouble) => return Err(format!("while we wait for {what}: {trouble}").into()),
                event => self.earlier.push_back(event),
            }
        }
    }

    /// Closes the links and waits until every process has ended, by itself and well, or as it was killed.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        for id in self.ipc_main.all_web_contents().iter().map(WebContents::id) {
            self.renderer(id)?.close(PATIENCE)?;
            self.wait(&format!("renderer {id} to close"), |event| match event {
                Event::Gone(of, GoneReason::Closed, _) if *of == id => Some(()),
                _ => None,
            })?;
        }
        for renderer in &self.renderers {
            match ended(renderer) {
                Some(ExitStatus::Exited(Some(0)) | ExitStatus::Killed(9)) => {}
                other => {
                    return Err(format!("renderer {} should have ended by itself: {other:?}", renderer.id()).into());
                }
            }
        }
        Ok(())
    }
}

/// How the process of a renderer ended. Its link is closed, so no hook tells: looked at until it has.
fn ended(renderer: &WebContents) -> Option<ExitStatus> {
    let until = Instant::now() + PATIENCE;
    loop {
        let status = renderer.process().exit_status();
        if status.is_some() || Instant::now() >= until {
            return status;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Stage {
    /// However main ends, its renderers do not outlive it: those that have not ended by themselves are killed. (If main
    /// itself is killed, they find the link gone and end.)
    fn drop(&mut self) {
        let mut killed = Vec::new();
        for renderer in &self.renderers {
            if renderer.process().exit_status().is_none() && renderer.process().kill().is_ok() {
                killed.push(renderer);
            }
        }
        for renderer in killed {
            ended(renderer);
        }
    }
}
