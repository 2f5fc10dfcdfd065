//! The examples of Electron's own documentation of `ipcMain`, `ipcRenderer` and `webContents`: above each piece of Rust,
//! the JavaScript that it stands for. `cargo run --example electron_docs` runs both processes and checks what they print.
//!
//! What differs: arguments are tuples (`("ping",)` is one argument, `()` is none), the types of a closure's arguments say
//! what is read, and `event.returnValue = x` is `event.set_return_value(x)`.

#[path = "demo/failure.rs"]
mod failure;

use failure::Failure;
use ringmain::{Args, GuestEvent, IpcMain, IpcMainEvent, IpcRenderer};
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

/// No step takes as long: only a process that hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

/// With this argument the program plays the renderer.
const RENDERER: &str = "--renderer";

/// With this one a page that the renderer's window embeds.
const GUEST: &str = "--guest";

fn main() -> Result<(), Failure> {
    match std::env::args().nth(1).as_deref() {
        None => main_process(),
        Some(RENDERER) => renderer_process(),
        Some(GUEST) => guest_process(),
        Some(other) => Err(format!("'{other}' is not understood; usage: electron_docs").into()),
    }
}

// ---- the main process ---------------------------------------------------------------------------------------------

fn main_process() -> Result<(), Failure> {
    let (log, logged) = mpsc::channel();
    let (progress, steps) = mpsc::channel();

    // const { ipcMain } = require('electron')
    let ipc_main = IpcMain::new()?;

    // ipcMain.on('asynchronous-message', (event, arg) => {
    //   console.log(arg) // prints "ping"
    //   event.reply('asynchronous-reply', 'pong')
    // })
    let console = Console::new("main", &log);
    ipc_main.on("asynchronous-message", move |event: &IpcMainEvent, (arg,): (String,)| {
        console.log(&arg); // prints "ping"
        event.reply("asynchronous-reply", ("pong",))
    });

    // ipcMain.on('synchronous-message', (event, arg) => {
    //   console.log(arg) // prints "ping"
    //   event.returnValue = 'pong'
    // })
    let console = Console::new("main", &log);
    ipc_main.on("synchronous-message", move |event: &IpcMainEvent, (arg,): (String,)| {
        console.log(&arg); // prints "ping"
        event.set_return_value("pong")
    });

    // ipcMain.handle('my-invokable-ipc', async (event, ...args) => {
    //   const result = await somePromise(...args)
    //   return result
    // })
    ipc_main.handle_async("my-invokable-ipc", |_event, (arg1, arg2): (i64, i64)| async move {
        let result = some_promise(arg1, arg2).await?;
        Ok(result)
    })?;

    // ipcMain.handle('some-name', async (event, someArgument) => {
    //   const result = await doSomeWork(someArgument)
    //   return result
    // })
    //
    // A handler that has nothing to await needs no `async`.
    ipc_main.handle("some-name", |_event, (some_argument,): (String,)| {
        let result = do_some_work(&some_argument);
        Ok(result)
    })?;

    // ipcMain.handleOnce('my-invokable-ipc-once', (event) => 'the only answer')
    ipc_main.handle_once("my-invokable-ipc-once", |_event, ()| Ok("the only answer"))?;

    // What Electron's page leaves to the reader: when the renderer has finished, and if it ends before that.
    let finished = progress.clone();
    ipc_main.on("finished", move |_event, ()| finished.send(Step::Finished));
    ipc_main.on_renderer_gone(move |_, reason| drop(progress.send(Step::Gone(reason.to_string()))));

    // win = new BrowserWindow({ width: 800, height: 600 })
    // win.loadURL(`file://${__dirname}/index.html`)
    let mut program = Command::new(std::env::current_exe()?);
    program.arg(RENDERER);
    let web_contents = ipc_main.spawn(program)?;

    // win.webContents.on('did-finish-load', () => {
    //   win.webContents.send('ping', 'whoooooooh!')
    // })
    //
    // Nothing to wait for: what is sent before the renderer has connected is kept for it.
    web_contents.send("ping", ("whoooooooh!",))?;

    // <webview src="guest.html"></webview>
    //
    // Who embeds whom is said by main, where a window is no part of it.
    let mut program = Command::new(std::env::current_exe()?);
    program.arg(GUEST);
    let guest = ipc_main.spawn(program)?;
    guest.set_host(Some(&web_contents))?;
    // So that it can send to the renderer by its number, which Electron's programs tell each other in the same way.
    guest.send("host-id", (web_contents.id(),))?;

    match steps.recv_timeout(PATIENCE) {
        Ok(Step::Finished) => {}
        Ok(Step::Gone(reason)) => return Err(format!("the renderer ended before it had finished: {reason}").into()),
        Err(_) => {
            web_contents.process().kill()?;
            guest.process().kill()?;
            return Err(format!("the renderer did not finish within {PATIENCE:?}").into());
        }
    }
    expect("main printed", logged.try_iter().collect(), ["ping", "ping"])
}

/// What happens to the renderer, as main's waiting thread hears of it.
enum Step {
    Finished,
    Gone(String),
}

/// Something that takes its time; an error of any type would reach the caller by `?`.
async fn some_promise(a: i64, b: i64) -> Result<i64, std::num::ParseIntError> {
    Ok(a * b)
}

fn do_some_work(argument: &str) -> String {
    argument.to_uppercase()
}

// ---- the renderer process -----------------------------------------------------------------------------------------

fn renderer_process() -> Result<(), Failure> {
    let (log, logged) = mpsc::channel();

    // const { ipcRenderer } = require('electron')
    //
    // ipcRenderer.on('ping', (event, message) => {
    //   console.log(message) // prints "whoooooooh!"
    // })
    //
    // Given to the builder, a listener is there before the first message can arrive; `ipc_renderer.on` adds later ones.
    let console = Console::new("renderer", &log);
    let (from_guest, guest_said) = mpsc::channel();
    let to = from_guest.clone();
    let ipc_renderer = IpcRenderer::builder()
        .on("ping", move |_event, (message,): (String,)| console.log(&message)) // prints "whoooooooh!"
        // webview.addEventListener('ipc-message', (event) => {
        //   console.log(event.channel) // prints "pong"
        // })
        .on_ipc_message(move |_event: &GuestEvent, channel, _args: Args| to.send(channel.to_string()))
        // ipcRenderer.on('from-the-other-page', (event, text) => {
        //   event.sender.sendTo(event.senderId, 'answer', text)
        // })
        .on("from-the-other-page", move |event, (text,): (String,)| {
            event.reply("answer", (&text,))?;
            Ok::<_, ringmain::Error>(from_guest.send(text))
        })
        .connect()?;
    let mut printed = vec![logged.recv_timeout(PATIENCE)?];

    // console.log(ipcRenderer.sendSync('synchronous-message', 'ping')) // prints "pong"
    let console = Console::new("renderer", &log);
    console.log(&ipc_renderer.send_sync::<String>("synchronous-message", ("ping",))?); // prints "pong"
    printed.push(logged.recv_timeout(PATIENCE)?);

    // ipcRenderer.on('asynchronous-reply', (event, arg) => {
    //   console.log(arg) // prints "pong"
    // })
    // ipcRenderer.send('asynchronous-message', 'ping')
    let listener = ipc_renderer.on("asynchronous-reply", move |_event, (arg,): (String,)| console.log(&arg));
    ipc_renderer.send("asynchronous-message", ("ping",))?;
    printed.push(logged.recv_timeout(PATIENCE)?);

    // ipcRenderer.removeListener('asynchronous-reply', listener)
    //
    // Closures cannot be compared, so `on` returns an id.
    if !ipc_renderer.remove_listener("asynchronous-reply", &listener) {
        return Err("the listener of 'asynchronous-reply' was not there any more".into());
    }

    // const result = await ipcRenderer.invoke('my-invokable-ipc', arg1, arg2)
    //
    // `.wait()` blocks this thread; in async code it is `.await`, on any executor.
    let (arg1, arg2) = (6, 7);
    let result: i64 = ipc_renderer.invoke("my-invokable-ipc", (arg1, arg2)).timeout(PATIENCE).wait()?;
    let console = Console::new("renderer", &log);
    console.log(&result.to_string()); // prints "42"
    printed.push(logged.recv_timeout(PATIENCE)?);

    // ipcRenderer.invoke('some-name', someArgument).then((result) => {
    //   // ...
    // })
    let result: String = ipc_renderer.invoke("some-name", ("some argument",)).timeout(PATIENCE).wait()?;
    console.log(&result); // prints "SOME ARGUMENT"
    printed.push(logged.recv_timeout(PATIENCE)?);

    // ipcRenderer.invoke('my-invokable-ipc-once').then(console.log)
    // ipcRenderer.invoke('my-invokable-ipc-once').catch((error) => console.log(error.message))
    let only: String = ipc_renderer.invoke("my-invokable-ipc-once", ()).timeout(PATIENCE).wait()?;
    console.log(&only);
    printed.push(logged.recv_timeout(PATIENCE)?);
    match ipc_renderer.invoke::<String>("my-invokable-ipc-once", ()).timeout(PATIENCE).wait() {
        Ok(answer) => return Err(format!("a handler of `handle_once` answered twice: {answer}").into()),
        Err(error) => console.log(&error.to_string()),
    }
    printed.push(logged.recv_timeout(PATIENCE)?);

    // What the guest has sent, by `sendToHost` and by `sendTo`.
    for _ in 0..2 {
        console.log(&guest_said.recv_timeout(PATIENCE)?);
        printed.push(logged.recv_timeout(PATIENCE)?);
    }

    expect(
        "the renderer printed",
        printed,
        [
            "whoooooooh!",
            "pong",
            "pong",
            "42",
            "SOME ARGUMENT",
            "the only answer",
            "Error invoking remote method 'my-invokable-ipc-once': No handler registered for 'my-invokable-ipc-once'",
            "pong",
            "from one page to another",
        ],
    )?;
    ipc_renderer.send("finished", ())?;
    Ok(())
}

// ---- the page that the renderer embeds ----------------------------------------------------------------------------

fn guest_process() -> Result<(), Failure> {
    let (to, answers) = mpsc::channel();
    let (id, ids) = mpsc::channel();
    let ipc_renderer = IpcRenderer::builder()
        .on("host-id", move |_event, (host,): (u32,)| id.send(host))
        .on("answer", move |event, (text,): (String,)| to.send((event.sender_id(), text)))
        .connect()?;

    // ipcRenderer.sendToHost('pong')
    ipc_renderer.send_to_host("pong", ())?;

    // ipcRenderer.sendTo(webContentsId, 'from-the-other-page', 'from one page to another')
    let host = ids.recv_timeout(PATIENCE)?;
    ipc_renderer.send_to(host, "from-the-other-page", ("from one page to another",))?;
    let (sender, text) = answers.recv_timeout(PATIENCE)?;
    println!("   guest: {text:?} came back from renderer {sender}");
    if sender != host {
        return Err(format!("renderer {sender} answered instead of {host}").into());
    }
    // Until main is gone: it would take an earlier end for a failure.
    let (gone, is_gone) = mpsc::channel();
    ipc_renderer.on_disconnected(move |_| {
        let _ = gone.send(());
    });
    is_gone.recv_timeout(PATIENCE).map_err(Failure::from)
}

// ---- what both print ----------------------------------------------------------------------------------------------

/// `console.log`, which also remembers what it printed.
struct Console {
    process: &'static str,
    log: Sender<String>,
}

impl Console {
    fn new(process: &'static str, log: &Sender<String>) -> Self {
        Self { process, log: log.clone() }
    }

    fn log(&self, text: &str) {
        println!("{:>8}: {text}", self.process);
        let _ = self.log.send(text.to_string()); // fails only where nobody checks any more
    }
}

/// An assertion that is an error: a panic in a listener would be contained, and one here would skip the clean end.
fn expect<const N: usize>(who: &str, printed: Vec<String>, expected: [&str; N]) -> Result<(), Failure> {
    if printed == expected {
        return Ok(());
    }
    Err(format!("{who} {printed:?} instead of {expected:?}").into())
}
