//! A renderer in a process of its own that does what the test tells it by a pipe, so that a test of two processes reads
//! like one of one.
use super::{PATIENCE, child, next, until};
use futures::channel::oneshot;
use ringmain::{
    Args, Error, GuestEvent, HandlerError, IpcMain, IpcRenderer, IpcRendererEvent, IpcRendererInvokeEvent, WebContents,
};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::Deref;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Marks a puppet's answer among what the test harness prints.
const ANSWER: &str = "@@";

/// A call of main's that every puppet answers, after its listeners have run for what was sent before.
const BARRIER: &str = "puppet: barrier";

/// A channel on which every puppet listens from the start, before its first message.
pub(crate) const EARLY: &str = "puppet: early";

/// Limits of a puppet's own, in its environment.
const MAX_VALUES: &str = "RINGMAIN_TEST_MAX_VALUES";
const MAX_MESSAGE_SIZE: &str = "RINGMAIN_TEST_MAX_MESSAGE_SIZE";

/// A spawned renderer on strings; killed when the test ends, however it ends. Every binary that uses it has
/// `("puppet", support::puppet)` among its roles.
pub(crate) struct Puppet {
    web_contents: WebContents,
    stdin: ChildStdin,
    answers: Receiver<Value>,
}

impl Deref for Puppet {
    type Target = WebContents;

    fn deref(&self) -> &WebContents {
        &self.web_contents
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.web_contents.process().kill();
    }
}

/// A main with one.
pub(crate) fn with_puppet() -> (IpcMain, Puppet) {
    let ipc_main = super::ipc_main();
    let puppet = Puppet::spawn(&ipc_main);
    (ipc_main, puppet)
}

/// What became of a call or a send of a puppet.
pub(crate) type Answer = Result<Value, Box<Failure>>;

/// How it failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    /// The `ErrorKind`, as `Debug` shows it.
    pub(crate) kind: String,
    pub(crate) text: String,
    pub(crate) name: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) data: Value,
}

/// A message as a puppet's listener has got it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Got {
    pub(crate) channel: String,
    pub(crate) args: Value,
    /// 0 from main; of a guest's message the guest.
    pub(crate) sender: u64,
    pub(crate) sender_frame: u64,
    /// The frame of the puppet that has got it.
    pub(crate) frame: u64,
    /// Whether a guest has sent it to its host.
    pub(crate) from_guest: bool,
}

impl Puppet {
    /// Spawns one and waits until it has connected.
    pub(crate) fn spawn(ipc_main: &IpcMain) -> Self {
        let mut puppet = Self::begin_to_spawn(ipc_main, &[]);
        puppet.connect();
        puppet
    }

    /// Spawns one whose own limits are these, so that it takes less than main may send, and waits until it has connected.
    pub(crate) fn spawn_with_limits(ipc_main: &IpcMain, max_values: u32, max_message_size: usize) -> Self {
        let limits = [(MAX_VALUES, max_values.to_string()), (MAX_MESSAGE_SIZE, max_message_size.to_string())];
        let mut puppet = Self::begin_to_spawn(ipc_main, &limits);
        puppet.connect();
        puppet
    }

    /// Spawns one that does not connect before [`connect`](Self::connect).
    pub(crate) fn spawn_unconnected(ipc_main: &IpcMain) -> Self {
        Self::begin_to_spawn(ipc_main, &[])
    }

    /// The same, and it takes no more than so many values in a message.
    pub(crate) fn spawn_unconnected_with_max_values(ipc_main: &IpcMain, max_values: u32) -> Self {
        Self::begin_to_spawn(ipc_main, &[(MAX_VALUES, max_values.to_string())])
    }

    fn begin_to_spawn(ipc_main: &IpcMain, environment: &[(&str, String)]) -> Self {
        let mut command = child("puppet");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let web_contents = ipc_main.spawn(command).expect("a puppet");
        let stdin = web_contents.process().take_stdin().expect("a pipe");
        let stdout = web_contents.process().take_stdout().expect("a pipe");
        let (to, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The harness ends no line before it runs a test.
                if let Some((_, answer)) = line.split_once(ANSWER) {
                    let _ = to.send(serde_json::from_str(answer).expect("JSON"));
                }
            }
        });
        Self { web_contents, stdin, answers }
    }

    /// Lets it connect, and waits until both ends have: main learns of it, and of the puppet's limits, a moment later.
    pub(crate) fn connect(&mut self) {
        let id = json!(self.id());
        assert_eq!(self.ask(json!({"do": "connect"})), id, "a puppet that has connected");
        until("main sees it connected", || self.is_connected());
    }

    /// Main's handle of it, whose `send` is not the puppet's.
    pub(crate) fn web_contents(&self) -> &WebContents {
        &self.web_contents
    }

    /// Tells it what to do without waiting for the answer, which the next [`answer`](Self::answer) is.
    pub(crate) fn tell(&mut self, order: Value) {
        writeln!(self.stdin, "{order}").and_then(|()| self.stdin.flush()).expect("a puppet that reads");
    }

    pub(crate) fn answer(&self) -> Value {
        next(&self.answers, "a puppet's answer")
    }

    pub(crate) fn ask(&mut self, order: Value) -> Value {
        self.tell(order);
        self.answer()
    }

    fn result(answer: Value) -> Answer {
        let text = |value: &Value| value.as_str().map(str::to_string);
        match answer.get("failed") {
            None => Ok(answer["ok"].clone()),
            Some(failed) => Err(Box::new(Failure {
                kind: text(&failed["kind"]).unwrap(),
                text: text(&failed["text"]).unwrap(),
                name: text(&failed["name"]),
                code: text(&failed["code"]),
                data: failed["data"].clone(),
            })),
        }
    }

    /// Opens a frame inside `parent`, and waits until main has heard of it.
    pub(crate) fn open_frame(&mut self, parent: u64) -> u64 {
        let frame = self.ask(json!({"do": "open frame", "frame": parent})).as_u64().expect("a number");
        until("main has heard of the frame", || self.web_contents.frame(frame as u32).is_some());
        frame
    }

    pub(crate) fn close_frame(&mut self, frame: u64) {
        self.ask(json!({"do": "close frame", "frame": frame}));
    }

    /// Drops the handle that owns a frame; a clone of it lives on, with which later orders for this frame are carried out.
    pub(crate) fn drop_frame(&mut self, frame: u64) {
        self.ask(json!({"do": "drop frame", "frame": frame}));
    }

    /// The channels on which a frame listens.
    pub(crate) fn event_names(&mut self, frame: u64) -> Value {
        self.ask(json!({"do": "names", "frame": frame}))
    }

    /// How many messages of main's the puppet's end has dropped: they were for a frame that was closed.
    pub(crate) fn dropped(&mut self) -> u64 {
        self.ask(json!({"do": "dropped"})).as_u64().expect("a number")
    }

    pub(crate) fn send(&mut self, frame: u64, channel: &str, args: Value) -> Answer {
        Self::result(self.ask(json!({"do": "send", "frame": frame, "channel": channel, "args": args})))
    }

    /// Calls main from a frame.
    pub(crate) fn invoke_main(&mut self, frame: u64, channel: &str, args: Value) -> Answer {
        Self::result(self.ask(json!({"do": "invoke", "frame": frame, "channel": channel, "args": args})))
    }

    /// Sends the request of a call and goes on; [`wait`](Self::wait) or [`cancel`](Self::cancel) it by its number.
    pub(crate) fn begin(&mut self, frame: u64, channel: &str, args: Value) -> u64 {
        let order = json!({"do": "begin", "frame": frame, "channel": channel, "args": args});
        self.ask(order).as_u64().expect("a number")
    }

    pub(crate) fn wait(&mut self, call: u64) -> Answer {
        Self::result(self.ask(json!({"do": "wait", "call": call})))
    }

    pub(crate) fn cancel(&mut self, call: u64) {
        self.ask(json!({"do": "cancel", "call": call}));
    }

    pub(crate) fn send_sync(&mut self, frame: u64, channel: &str, args: Value) -> Answer {
        Self::result(self.ask(json!({"do": "send_sync", "frame": frame, "channel": channel, "args": args})))
    }

    /// Does all of it in one go, each step "send", "invoke" or "send_sync" with a channel and arguments; the calls are
    /// awaited when the last step is done.
    pub(crate) fn burst(&mut self, frame: u64, steps: &[(&str, &str, Value)]) -> Vec<Answer> {
        match self.ask(json!({"do": "burst", "frame": frame, "steps": steps})) {
            Value::Array(answers) => answers.into_iter().map(Self::result).collect(),
            other => panic!("no list: {other}"),
        }
    }

    /// To frame `to_frame` of renderer `to`; its main frame by `send_to`, others by `send_to_frame`.
    pub(crate) fn send_to(&mut self, frame: u64, to: u32, to_frame: u64, channel: &str, args: Value) -> Answer {
        Self::result(self.ask(
            json!({"do": "send_to", "frame": frame, "to": to, "to_frame": to_frame, "channel": channel, "args": args}),
        ))
    }

    pub(crate) fn send_to_host(&mut self, frame: u64, channel: &str, args: Value) -> Answer {
        Self::result(self.ask(json!({"do": "send_to_host", "frame": frame, "channel": channel, "args": args})))
    }

    /// Listens, and remembers what it gets: see [`next_got`](Self::next_got). With `reply` it also answers on that
    /// channel with the same arguments.
    pub(crate) fn on(&mut self, frame: u64, channel: &str, reply: Option<&str>) {
        self.ask(json!({"do": "on", "frame": frame, "channel": channel, "reply": reply}));
    }

    /// Listens to guests in the same way.
    pub(crate) fn on_guests(&mut self, reply: Option<&str>) {
        self.ask(json!({"do": "on guests", "reply": reply}));
    }

    /// The next message that a listener of it has got.
    pub(crate) fn next_got(&mut self) -> Got {
        let got = self.ask(json!({"do": "next"}));
        let number = |key: &str| got[key].as_u64().expect("a number");
        Got {
            channel: got["channel"].as_str().expect("a text").to_string(),
            args: got["args"].clone(),
            sender: number("sender"),
            sender_frame: number("sender_frame"),
            frame: number("frame"),
            from_guest: got["from_guest"].as_bool().expect("a truth"),
        }
    }

    /// How many messages its listeners have got that nobody has asked for yet, which are forgotten by this. All that main
    /// has sent before has been delivered by then.
    pub(crate) fn count_got(&mut self) -> usize {
        self.barrier();
        self.ask(json!({"do": "count"})).as_u64().expect("a number") as usize
    }

    /// Waits until its listeners have run for all that main has sent before.
    pub(crate) fn barrier(&self) {
        self.invoke_barrier().expect("a puppet that answers");
    }

    /// Waits until main has dispatched all that the puppet has sent before. An answer to main may be there earlier: who
    /// waits for it reads past messages that the dispatcher has yet to deliver.
    pub(crate) fn barrier_of_main(&mut self) {
        let failure = self.invoke_main(1, BARRIER, json!([])).unwrap_err();
        assert_eq!(failure.kind, "NoHandler", "{failure:?}");
    }

    fn invoke_barrier(&self) -> ringmain::Result<()> {
        self.web_contents.invoke(BARRIER, (), PATIENCE).wait()
    }

    /// Handles calls of main: "echo" returns the arguments, "fail" fails with name, code and data, "panic" panics,
    /// "never" is a future that never ends, "once" and "once async" echo one call, "double" takes one number, "ask main"
    /// waits inside for a call of main's "puppet asks" with the same arguments, "await main" awaits it, "later" echoes
    /// once it is told to: see [`started`](Self::started).
    pub(crate) fn handle(&mut self, frame: u64, channel: &str, how: &str) -> Answer {
        Self::result(self.ask(json!({"do": "handle", "frame": frame, "channel": channel, "how": how})))
    }

    /// Waits for the start of the next call of a "later" handler; its number, counted from 0.
    pub(crate) fn started(&mut self) -> u64 {
        self.ask(json!({"do": "started"})).as_u64().expect("a number")
    }

    /// Lets a call of a "later" handler answer.
    pub(crate) fn release(&mut self, started: u64) {
        self.ask(json!({"do": "release", "started": started}));
    }

    /// Whether the event of a call of a "later" handler says that nobody waits any more.
    pub(crate) fn is_cancelled(&mut self, started: u64) -> bool {
        self.ask(json!({"do": "is cancelled", "started": started})).as_bool().expect("a truth")
    }

    /// Ends it in order: its handles are dropped, it exits with 0.
    pub(crate) fn end(&mut self) {
        self.tell(json!({"do": "end"}));
    }
}

struct Strings {
    frames: HashMap<u64, IpcRenderer>,
    calls: HashMap<u64, ringmain::Invoke<Value>>,
    next_call: u64,
    got: Receiver<Value>,
    to: Sender<Value>,
    later: Vec<Later>,
    starts: Receiver<Later>,
    start: Sender<Later>,
}

/// A call of a "later" handler.
type Later = (IpcRendererInvokeEvent, Option<oneshot::Sender<()>>);

fn failed(error: &Error) -> Value {
    let (name, code, data) = (error.remote_name(), error.code(), error.data());
    let kind = format!("{:?}", error.kind());
    json!({"failed": {"kind": kind, "text": error.to_string(), "name": name, "code": code, "data": data}})
}

fn outcome(result: ringmain::Result<Value>) -> Value {
    match result {
        Ok(value) => json!({"ok": value}),
        Err(error) => failed(&error),
    }
}

impl Strings {
    fn obey(&mut self, order: &Value) -> Value {
        let text = |key: &str| order[key].as_str().unwrap_or_default().to_string();
        let number = |key: &str| order[key].as_u64().unwrap_or_default();
        let values: Vec<Value> = order["args"].as_array().cloned().unwrap_or_default();
        let channel = text("channel");
        let reply = order["reply"].as_str().map(str::to_string);
        let frame = self.frames.get(&number("frame")).or_else(|| self.frames.get(&1)).expect("a main frame").clone();
        let sent = |result: ringmain::Result<()>| outcome(result.map(|()| Value::Null));
        match text("do").as_str() {
            "open frame" => {
                let opened = self.frames[&number("frame")].frame().expect("a frame");
                let id = u64::from(opened.frame_id());
                self.frames.insert(id, opened);
                json!(id)
            }
            "drop frame" => {
                // `frame` is a clone already.
                self.frames.insert(number("frame"), frame);
                Value::Null
            }
            "dropped" => json!(frame.stats().undeliverable),
            "close frame" => {
                frame.close(PATIENCE).expect("closed");
                Value::Null
            }
            "send" => sent(frame.send(&channel, values)),
            "invoke" => outcome(frame.invoke(&channel, values).timeout(PATIENCE).wait()),
            "begin" => {
                self.next_call += 1;
                self.calls.insert(self.next_call, frame.invoke(&channel, values).timeout(PATIENCE));
                json!(self.next_call)
            }
            "burst" => {
                let steps = order["steps"].as_array().expect("a list");
                let steps: Vec<(String, String, Vec<Value>)> =
                    steps.iter().map(|step| serde_json::from_value(step.clone()).expect("a step")).collect();
                let done: Vec<_> = steps
                    .iter()
                    .map(|(how, channel, values)| match how.as_str() {
                        "send" => Err(sent(frame.send(channel, values.as_slice()))),
                        "invoke" => Ok(frame.invoke::<Value>(channel, values.as_slice()).timeout(PATIENCE)),
                        "send_sync" => Err(outcome(frame.send_sync_timeout(channel, values.as_slice(), PATIENCE))),
                        how => panic!("no step: {how}"),
                    })
                    .collect();
                done.into_iter().map(|done| done.map_or_else(|answer| answer, |call| outcome(call.wait()))).collect()
            }
            "wait" => outcome(self.calls.remove(&number("call")).expect("a call").wait()),
            "cancel" => {
                drop(self.calls.remove(&number("call")).expect("a call"));
                Value::Null
            }
            "send_sync" => outcome(frame.send_sync_timeout(&channel, values, PATIENCE)),
            "send_to" => {
                let (to, to_frame) = (number("to") as u32, number("to_frame") as u32);
                sent(match to_frame {
                    1 => frame.send_to(to, &channel, values),
                    _ => frame.send_to_frame(to, to_frame, &channel, values),
                })
            }
            "send_to_host" => sent(frame.send_to_host(&channel, values)),
            "on" => {
                let to = self.to.clone();
                let name = channel.clone();
                frame.on(&channel, move |event: &IpcRendererEvent, args: Args| {
                    let _ = to.send(json!({
                        "channel": name, "args": args.to_values(), "sender": event.sender_id(),
                        "sender_frame": event.sender_frame_id(), "frame": event.frame_id(), "from_guest": false,
                    }));
                    if let Some(reply) = &reply {
                        event.reply(reply, args).expect("a reply");
                    }
                });
                Value::Null
            }
            "on guests" => {
                let to = self.to.clone();
                frame.on_ipc_message(move |event: &GuestEvent, channel: &str, args: Args| {
                    let _ = to.send(json!({
                        "channel": channel, "args": args.to_values(), "sender": event.guest_id(),
                        "sender_frame": event.frame_id(), "frame": 1, "from_guest": true,
                    }));
                    if let Some(reply) = &reply {
                        event.reply(reply, args).expect("a reply");
                    }
                });
                Value::Null
            }
            "next" => next(&self.got, "a message to the puppet"),
            "count" => json!(self.got.try_iter().count()),
            "handle" => {
                let handled = match text("how").as_str() {
                    "echo" => frame.handle(&channel, |_, args: Args| Ok(args.to_values())),
                    "fail" => frame.handle(&channel, |_, ()| {
                        Err::<(), _>(
                            HandlerError::new("no such file")
                                .with_name("IoError")
                                .with_code("ENOENT")
                                .with_data(json!({"path": "/x"})),
                        )
                    }),
                    "panic" => {
                        frame.handle(&channel, |_, ()| -> Result<(), HandlerError> { panic!("puppets may fall") })
                    }
                    "never" => frame.handle_async(&channel, |_, ()| std::future::pending::<Result<(), HandlerError>>()),
                    "once" => frame.handle_once(&channel, |_, args: Args| Ok(args.to_values())),
                    "once async" => {
                        frame.handle_once_async(&channel, |_, args: Args| async move { Ok(args.to_values()) })
                    }
                    "double" => frame.handle(&channel, |_, (n,): (u32,)| Ok(2 * n)),
                    "ask main" => {
                        let inner = frame.clone();
                        frame.handle(&channel, move |_, args: Args| {
                            Ok(inner.invoke::<Value>("puppet asks", args).timeout(PATIENCE).wait()?)
                        })
                    }
                    "await main" => {
                        let inner = frame.clone();
                        frame.handle_async(&channel, move |_, args: Args| {
                            let call = inner.invoke::<Value>("puppet asks", args).timeout(PATIENCE);
                            async move { Ok(call.await?) }
                        })
                    }
                    "later" => {
                        let start = self.start.clone();
                        frame.handle_async(&channel, move |event, args: Args| {
                            let (go, goes) = oneshot::channel();
                            let _ = start.send((event, Some(go)));
                            async move { Ok(goes.await.map(|()| args.to_values())?) }
                        })
                    }
                    how => panic!("no way to handle: {how}"),
                };
                sent(handled)
            }
            "started" => {
                self.later.push(next(&self.starts, "a call to the puppet"));
                json!(self.later.len() - 1)
            }
            "release" => {
                let go = self.later[number("started") as usize].1.take().expect("not yet released");
                go.send(()).expect("a handler that waits");
                Value::Null
            }
            "is cancelled" => json!(self.later[number("started") as usize].0.is_cancelled()),
            "names" => json!(frame.event_names().into_iter().filter(|name| name != EARLY).collect::<Vec<_>>()),
            order => panic!("no order {order:?}"),
        }
    }
}

/// What a puppet does in its process.
pub(crate) fn puppet() {
    let mut orders =
        std::io::stdin().lines().map(|line| -> Value { serde_json::from_str(&line.expect("a line")).expect("JSON") });
    // Nobody wants it connected if there is no line.
    let Some(order) = orders.next() else { return };
    assert_eq!(order, json!({"do": "connect"}));
    let (to, got) = channel();
    let early = to.clone();
    let mut builder = IpcRenderer::builder().handle(BARRIER, |_, ()| Ok(())).on(EARLY, move |event, args: Args| {
        let _ = early.send(json!({
            "channel": EARLY, "args": args.to_values(), "sender": event.sender_id(),
            "sender_frame": event.sender_frame_id(), "frame": event.frame_id(), "from_guest": false,
        }));
    });
    let limit = |name: &str| std::env::var(name).ok().map(|limit| limit.parse::<u32>().expect("a number"));
    if let Some(values) = limit(MAX_VALUES) {
        builder = builder.max_values(values);
    }
    if let Some(bytes) = limit(MAX_MESSAGE_SIZE) {
        builder = builder.max_message_size(bytes as usize);
    }
    let ipc_renderer = builder.connect().expect("connected to main");
    let id = ipc_renderer.id();
    let (start, starts) = channel();
    let (frames, calls) = (HashMap::from([(1, ipc_renderer)]), HashMap::new());
    let mut strings = Strings { frames, calls, next_call: 0, got, to, later: Vec::new(), starts, start };
    let say = |value: Value| {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{ANSWER}{value}").and_then(|()| stdout.flush()).expect("a test that reads");
    };
    say(json!(id));
    for order in orders {
        if order["do"] == "end" {
            break;
        }
        say(strings.obey(&order));
    }
}
