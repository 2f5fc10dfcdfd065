//! Typed channels: declared once, used at every end; and errors as values that programs pass on.
#![allow(missing_docs)]

mod support;

use futures::executor::block_on;
use ringmain::{Args, Channel, ErrorKind, GuestEvent, HandlerError, HandlerResultExt, IpcMain, IpcRenderer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::mpsc::channel;
use support::{PATIENCE, ipc_main, next, pair, spawn, until_disconnected};

/// What main and the renderers of these tests share.
mod shared {
    use super::Note;
    use ringmain::{Args, Channel};
    use std::collections::BTreeMap;

    pub(crate) const ADD: Channel<(i64, i64), i64> = Channel::new("add");
    pub(crate) const LOG: Channel<(String, u8)> = Channel::new("log");
    pub(crate) const ASK: Channel<(u32,), String> = Channel::new("ask");
    pub(crate) const MEAN: Channel<(Vec<f64>,), f64> = Channel::new("mean");
    pub(crate) const NOTES: Channel<(Vec<Note>, Option<usize>), BTreeMap<String, usize>> = Channel::new("notes");
    pub(crate) const PING: Channel<()> = Channel::new("ping");
    pub(crate) const ANY: Channel<Args, usize> = Channel::new("any");
    pub(crate) const RENAME: Channel<(String, String), String> = Channel::new("rename");
    pub(crate) const DONE: Channel<(bool,)> = Channel::new("done");
    pub(crate) const FAILS: Channel<(String,), ()> = Channel::new("fails");
}
use shared::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    pitch: u8,
    name: Option<String>,
}

#[test]
fn children() {
    support::play(&[("caller", caller), ("callee", callee)]);
}

// ---- every end --------------------------------------------------------------------------------------------------

#[test]
fn main_listens_and_answers_on_typed_channels_in_every_way() -> Result<(), Box<dyn Error>> {
    let (ipc_main, ipc_renderer) = pair();
    let (heard, hears) = channel();
    let once = heard.clone();
    let id = LOG.on(&ipc_main, move |_, (text, level)| heard.send(("on", text, level)));
    LOG.once(&ipc_main, move |event, (text, level)| {
        assert!(!event.is_synchronous());
        once.send(("once", text, level))
    });
    assert_eq!((id.channel(), ipc_main.listener_count(LOG.name())), ("log", 2));
    LOG.send(&ipc_renderer, ("started", 1))?;
    LOG.send(&ipc_renderer, (String::from("ended"), 2u8))?;
    let text = |text: &str| text.to_string();
    let all = [(); 3].map(|()| next(&hears, "a line of the log"));
    assert_eq!(all, [("on", text("started"), 1), ("once", text("started"), 1), ("on", text("ended"), 2)]);

    ADD.handle(&ipc_main, |_, (a, b)| Ok(a + b))?;
    assert_eq!(ADD.invoke(&ipc_renderer, (2, 3)).wait()?, 5);
    assert_eq!(block_on(ADD.invoke(&ipc_renderer, (4, 5)).timeout(PATIENCE))?, 9);
    let refused = ADD.handle(&ipc_main, |_, _| Ok(0)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DuplicateHandler);
    ipc_main.remove_handler(ADD.name());
    ADD.handle_once(&ipc_main, |_, (a, b)| Ok(a * b))?;
    assert_eq!(ADD.invoke(&ipc_renderer, (2, 3)).wait()?, 6);
    ADD.handle_once_async(&ipc_main, |_, (a, b)| async move { Ok(a - b) })?;
    assert_eq!(ADD.invoke(&ipc_renderer, (2, 3)).wait()?, -1);
    ADD.handle_async(&ipc_main, |event, (a, b)| async move { Ok(a + b + i64::from(event.frame_id())) })?;
    assert_eq!(ADD.invoke(&ipc_renderer, (2, 3)).wait()?, 6);

    ASK.on(&ipc_main, |event, (n,)| ASK.set_return_value(event, format!("{n} times")));
    assert_eq!(ASK.send_sync(&ipc_renderer, (3,))?, "3 times");
    Ok(())
}

#[test]
fn one_renderers_receiver_listens_and_answers_on_typed_channels() -> Result<(), Box<dyn Error>> {
    let (ipc_main, ipc_renderer) = pair();
    let other = ipc_main.attach()?;
    let ipc = ipc_main.web_contents(ipc_renderer.id()).ok_or("it is attached")?.ipc();
    let (heard, hears) = channel();
    let once = heard.clone();
    LOG.on(&ipc, move |event, (text, _)| heard.send((event.sender().id(), text)));
    LOG.once(&ipc, move |_, (text, _)| once.send((0, text)));
    ADD.handle(&ipc, |_, (a, b)| Ok(a + b))?;
    RENAME.handle_async(&ipc, |_, (from, to)| async move { Ok(format!("{from} is {to}")) })?;
    MEAN.handle_once(&ipc, |_, (all,)| Ok(all.iter().sum::<f64>() / all.len() as f64))?;
    NOTES
        .handle_once_async(&ipc, |_, (notes, _)| async move { Ok(BTreeMap::from([("notes".into(), notes.len())])) })?;
    LOG.send(&other, ("not for it", 0))?;
    ADD.invoke(&other, (1, 1)).wait().unwrap_err();
    LOG.send(&ipc_renderer, ("for it", 0))?;
    assert_eq!(next(&hears, "the message"), (ipc_renderer.id(), "for it".to_string()));
    assert_eq!(next(&hears, "the message, once"), (0, "for it".to_string()));
    assert_eq!(ADD.invoke(&ipc_renderer, (2, 3)).wait()?, 5);
    assert_eq!(RENAME.invoke(&ipc_renderer, ("a", "b")).wait()?, "a is b");
    assert_eq!(MEAN.invoke(&ipc_renderer, ([1.0, 2.0],)).wait()?, 1.5);
    assert_eq!(NOTES.invoke(&ipc_renderer, (Vec::new(), None)).wait()?["notes"], 0);
    Ok(())
}

#[test]
fn a_renderer_listens_and_answers_on_typed_channels_and_main_sends_and_calls() -> Result<(), Box<dyn Error>> {
    let (ipc_main, ipc_renderer) = pair();
    let panel = ipc_renderer.frame()?;
    let web_contents = ipc_main.all_web_contents().remove(0);
    let (heard, hears) = channel();
    for (handle, name) in [(&ipc_renderer, "main frame"), (&panel, "panel")] {
        let (heard, once) = (heard.clone(), heard.clone());
        LOG.on(handle, move |event, (text, level)| heard.send((name, event.sender_id(), text, level)));
        LOG.once(handle, move |_, (text, level)| once.send(("once", 0, text, level)));
    }
    ADD.handle(&ipc_renderer, |_, (a, b)| Ok(a + b))?;
    ADD.handle_async(&panel, |event, (a, b)| async move { Ok(a * b * i64::from(event.frame_id())) })?;
    ASK.handle_once(&ipc_renderer, |_, (n,)| Ok(n.to_string()))?;
    ASK.handle_once_async(&panel, |_, (n,)| async move { Ok((n + 1).to_string()) })?;
    // Main answers what comes from the frame when it knows that it is open.
    assert_eq!(ADD.invoke(&panel, (2, 3)).wait().unwrap_err().kind(), ErrorKind::NoHandler);
    let frame = web_contents.frame(panel.frame_id()).ok_or("it is open")?;
    LOG.send(&web_contents, ("to the main frame", 1))?;
    LOG.send(&frame, ("to the panel", 2))?;
    for (name, text, level) in [("main frame", "to the main frame", 1), ("panel", "to the panel", 2)] {
        assert_eq!(next(&hears, "a message"), (name, 0, text.to_string(), level));
        assert_eq!(next(&hears, "a message, once"), ("once", 0, text.to_string(), level));
    }
    assert_eq!(ADD.invoke_within(&web_contents, (2, 3), PATIENCE).wait()?, 5);
    assert_eq!(block_on(ADD.invoke_within(&frame, (2, 3), PATIENCE))?, 12);
    assert_eq!(ASK.invoke_within(&web_contents, (7,), PATIENCE).wait()?, "7");
    assert_eq!(ASK.invoke_within(&frame, (7,), PATIENCE).wait()?, "8");
    Ok(())
}

#[test]
fn events_reply_on_typed_channels() -> Result<(), Box<dyn Error>> {
    let (ipc_main, ipc_renderer) = pair();
    let other = ipc_main.attach()?;
    let [first, second] = [&ipc_renderer, &other].map(|handle| ipc_main.web_contents(handle.id()).unwrap());
    second.set_host(Some(&first))?;
    let (heard, hears) = channel();
    let in_other = heard.clone();
    let in_main = heard.clone();
    PING.on(&ipc_main, |event, ()| LOG.send(event, ("from main", 1)));
    LOG.on(&ipc_main, move |_, (text, level)| in_main.send(("main", text, level)));
    LOG.on(&ipc_renderer, move |event, (text, level)| {
        heard.send(("renderer", text, level)).unwrap();
        LOG.send(event, ("from the renderer", level + 1))
    });
    LOG.on(&other, move |_, (text, level)| in_other.send(("other", text, level)));
    ipc_renderer.on_ipc_message(|event: &GuestEvent, channel, _| {
        assert_eq!(channel, PING.name());
        LOG.send(event, ("from the host", 9))
    });
    let expect = |who: &str, text: &str, level: u8| {
        assert_eq!(next(&hears, text), (who, text.to_string(), level));
    };
    // An event of main's, then one of the renderer's, to main and to another renderer, then one of a host's.
    PING.send(&ipc_renderer, ())?;
    expect("renderer", "from main", 1);
    expect("main", "from the renderer", 2);
    other.send_to(ipc_renderer.id(), LOG.name(), ("from the other", 5))?;
    expect("renderer", "from the other", 5);
    expect("other", "from the renderer", 6);
    other.send_to_host(PING.name(), ())?;
    expect("other", "from the host", 9);
    Ok(())
}

// ---- arguments --------------------------------------------------------------------------------------------------

#[test]
fn borrowed_arguments_serve_for_owned_ones() -> Result<(), Box<dyn Error>> {
    let (ipc_main, ipc_renderer) = pair();
    RENAME.handle(&ipc_main, |_, (from, to)| Ok(format!("{from}>{to}")))?;
    MEAN.handle(&ipc_main, |_, (all,)| Ok(all.iter().sum::<f64>() / all.len() as f64))?;
    NOTES.handle(&ipc_main, |_, (notes, at)| {
        Ok(notes.into_iter().filter_map(|note| Some((note.name?, at.unwrap_or(0)))).collect())
    })?;
    ANY.handle(&ipc_main, |_, args| Ok(args.len()))?;
    let (owned, borrowed) = (String::from("a"), "b");
    assert_eq!(RENAME.invoke(&ipc_renderer, (&owned, borrowed)).wait()?, "a>b");
    assert_eq!(RENAME.invoke(&ipc_renderer, (owned.as_str(), &owned)).wait()?, "a>a");
    assert_eq!(RENAME.invoke(&ipc_renderer, (owned, borrowed.to_string())).wait()?, "a>b");
    let samples = vec![1.0, 2.0, 6.0];
    assert_eq!(MEAN.invoke(&ipc_renderer, (&samples,)).wait()?, 3.0);
    assert_eq!(MEAN.invoke(&ipc_renderer, (&samples[1..],)).wait()?, 4.0);
    assert_eq!(MEAN.invoke(&ipc_renderer, ([1.0, 2.0],)).wait()?, 1.5);
    assert_eq!(MEAN.invoke(&ipc_renderer, (&[1.0, 2.0, 3.0],)).wait()?, 2.0);
    assert_eq!(MEAN.invoke(&ipc_renderer, (samples,)).wait()?, 3.0);
    let notes = [Note { pitch: 60, name: Some("c".into()) }, Note { pitch: 61, name: None }];
    let names = NOTES.invoke(&ipc_renderer, (&notes, Some(7))).wait()?;
    assert_eq!(names, BTreeMap::from([("c".to_string(), 7)]));
    assert_eq!(NOTES.invoke(&ipc_renderer, (&notes[1..], &None)).wait()?, BTreeMap::new());
    ipc_main.on("collect", |event, args: Args| event.set_return_value(args.to_values()));
    let args = Channel::<Args, Vec<serde_json::Value>>::new("collect");
    let (got, gots) = channel();
    ipc_renderer.on("args", move |_, args: Args| got.send(args));
    ipc_main.all_web_contents()[0].send("args", (1, "two", [3]))?;
    let sent = next(&gots, "a list");
    assert_eq!(args.send_sync(&ipc_renderer, &sent)?, [json!(1), json!("two"), json!([3])]);
    assert_eq!(ANY.invoke(&ipc_renderer, sent).wait()?, 3);
    Ok(())
}

#[test]
fn literals_take_the_declared_types_and_a_channel_is_a_constant_that_is_copied() {
    type Wide = (u8, i16, f32, bool, Option<u64>, (i8, i8), [u8; 2], String, Vec<i32>, char, u128, ());
    const WIDE: Channel<Wide, u8> = Channel::new("wide");
    static AS_STATIC: Channel<(u8,), u8> = Channel::new("narrow");
    let (ipc_main, ipc_renderer) = pair();
    WIDE.handle(&ipc_main, |_, args| {
        let (a, b, c, d, e, (f, g), [h, i], text, list, letter, wide, ()) = args;
        assert_eq!((a, b, c, d, e, f, g, h, i), (255, -1, 0.5, true, Some(1 << 40), -1, 2, 3, 4));
        assert_eq!((&text[..], &list[..], letter, wide), ("text", &[1, -2][..], 'x', 7));
        Ok(a)
    })
    .unwrap();
    let copied = WIDE;
    let args = (255, -1, 0.5, true, Some(1 << 40), (-1, 2), [3, 4], "text", [1, -2], 'x', 7, ());
    assert_eq!(copied.invoke(&ipc_renderer, args).wait().unwrap(), 255);
    assert_eq!((WIDE.name(), format!("{WIDE:?}")), ("wide", "Channel(\"wide\")".to_string()));
    AS_STATIC.handle(&ipc_main, |_, (n,)| Ok(n + 1)).unwrap();
    assert_eq!(AS_STATIC.invoke(&ipc_renderer, (1,)).wait().unwrap(), 2);
    assert_eq!(size_of::<Channel<Wide, u8>>(), size_of::<&str>());
}

#[test]
fn what_comes_from_an_end_that_declares_the_channel_otherwise_is_an_error_with_its_place() {
    let (ipc_main, ipc_renderer) = pair();
    const OTHERWISE: Channel<(String, i64), String> = Channel::new(ADD.name());
    ADD.handle(&ipc_main, |_, (a, b)| Ok(a + b)).unwrap();
    let error = OTHERWISE.invoke(&ipc_renderer, ("two", 3)).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadArguments);
    assert!(error.to_string().contains("args[0]"), "{error}");
    const RESULT: Channel<(i64, i64), String> = Channel::new(ADD.name());
    assert_eq!(RESULT.invoke(&ipc_renderer, (2, 3)).wait().unwrap_err().kind(), ErrorKind::BadReply);
}

// ---- between processes ------------------------------------------------------------------------------------------

fn caller() {
    let ipc_renderer = support::connected();
    let ok = ADD.invoke(&ipc_renderer, (2, 3)).timeout(PATIENCE).wait().unwrap() == 5
        && ASK.send_sync(&ipc_renderer, (3,)).unwrap() == "3 times"
        && block_on(NOTES.invoke(&ipc_renderer, ([Note { pitch: 1, name: None }], Some(2)))).unwrap()["1"] == 2
        && passed_on(&ipc_renderer).is_ok();
    DONE.send(&ipc_renderer, (ok,)).unwrap();
    until_disconnected(&ipc_renderer);
}

#[test]
fn two_processes_share_the_declarations() {
    let ipc_main = ipc_main();
    ADD.handle(&ipc_main, |_, (a, b)| Ok(a + b)).unwrap();
    ASK.on(&ipc_main, |event, (n,)| ASK.set_return_value(event, format!("{n} times")));
    NOTES
        .handle(&ipc_main, |_, (notes, n)| Ok(notes.iter().map(|note| (note.pitch.to_string(), n.unwrap())).collect()))
        .unwrap();
    handle_failures(&ipc_main);
    let (done, is_done) = channel();
    DONE.on(&ipc_main, move |_, (ok,)| done.send(ok));
    let _child = spawn(&ipc_main, "caller");
    assert!(next(&is_done, "the last message"));
}

fn callee() {
    let ipc_renderer = support::connected();
    ADD.handle(&ipc_renderer, |_, (a, b)| Ok(a + b)).unwrap();
    LOG.on(&ipc_renderer, |event, (text, level)| LOG.send(event, (&text, level + 1)));
    FAILS.handle(&ipc_renderer, |_, (how,)| fail(&how)).unwrap();
    PING.send(&ipc_renderer, ()).unwrap();
    until_disconnected(&ipc_renderer);
}

#[test]
fn main_uses_them_for_a_renderer_in_another_process() -> Result<(), Box<dyn Error>> {
    let ipc_main = ipc_main();
    let (ready, is_ready) = channel();
    PING.on(&ipc_main, move |_, ()| ready.send(()));
    let (heard, hears) = channel();
    LOG.on(&ipc_main, move |_, (text, level)| heard.send((text, level)));
    let child = spawn(&ipc_main, "callee");
    next(&is_ready, "the child's listeners");
    assert_eq!(ADD.invoke_within(&*child, (2, 3), PATIENCE).wait()?, 5);
    LOG.send(&*child, ("there and back", 1))?;
    assert_eq!(next(&hears, "the reply"), ("there and back".to_string(), 2));
    let error = FAILS.invoke_within(&*child, ("rich",), PATIENCE).wait().unwrap_err();
    assert_eq!((error.remote_name(), error.code()), (Some("TypeError"), Some("EGAIN")));
    Ok(())
}

// ---- errors -----------------------------------------------------------------------------------------------------

fn fail(how: &str) -> Result<(), HandlerError> {
    match how {
        "std" => Ok(std::fs::read("/nowhere at all").map(drop)?),
        "boxed" => Err::<(), Box<dyn Error + Send + Sync>>("a boxed text".into()).handler_err(),
        "text" => Err(HandlerError::new("a text")),
        _ => {
            let data = json!({"limits": [0, 1.5]});
            Err(HandlerError::new("bad gain").with_name("TypeError").with_code("EGAIN").with_data(data))
        }
    }
}

fn handle_failures(ipc_main: &IpcMain) {
    FAILS.handle(ipc_main, |_, (how,)| fail(&how)).unwrap();
}

/// Calls what fails in main and passes the failures on as every program does, by `?`.
fn passed_on(ipc_renderer: &IpcRenderer) -> Result<(), Box<dyn Error>> {
    let call = |how: &str| -> Result<(), Box<dyn Error + Send + Sync>> {
        FAILS.invoke(ipc_renderer, (how,)).timeout(PATIENCE).wait()?;
        Err("it did not fail".into())
    };
    let table = [
        ("std", Some("Error"), "No such file or directory (os error 2)", None),
        ("boxed", None, "a boxed text", None),
        ("text", None, "a text", None),
        ("rich", Some("TypeError"), "bad gain", Some("EGAIN")),
    ];
    for (how, name, message, code) in table {
        let boxed = call(how).unwrap_err();
        let error = boxed.downcast_ref::<ringmain::Error>().ok_or("no error of this crate")?;
        assert_eq!((error.kind(), error.remote_name(), error.code()), (ErrorKind::Handler, name, code), "{how}");
        assert_eq!(error.remote_message(), Some(message));
        let what = name.map_or(message.to_string(), |name| format!("{name}: {message}"));
        assert_eq!(boxed.to_string(), format!("Error invoking remote method 'fails': {what}"));
        assert_eq!(error.data().is_some(), how == "rich");
    }
    Ok(())
}

#[test]
fn errors_convert_by_the_question_mark_and_keep_what_the_handler_gave_them() -> Result<(), Box<dyn Error>> {
    let (ipc_main, ipc_renderer) = pair();
    handle_failures(&ipc_main);
    passed_on(&ipc_renderer)
}

#[test]
fn a_failure_that_a_handler_passes_on_from_another_call_keeps_its_text() -> Result<(), Box<dyn Error>> {
    let (ipc_main, ipc_renderer) = pair();
    FAILS.handle(&ipc_renderer, |_, (how,)| fail(&how))?;
    let web_contents = ipc_main.all_web_contents().remove(0);
    FAILS.handle_async(&ipc_main, move |_, (how,)| {
        let call = FAILS.invoke_within(&web_contents, (&how,), PATIENCE);
        async move { Ok(call.await?) }
    })?;
    let error = FAILS.invoke(&ipc_renderer, ("rich",)).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handler);
    assert!(error.remote_message().unwrap().contains("bad gain"), "{error}");
    Ok(())
}
