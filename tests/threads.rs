//! Who may hold what, where: threads, the end of a handle, forked copies.
#![allow(missing_docs)]
// `fork` is what one of the tests is about.
#![allow(unsafe_code)]

mod support;

use futures::executor::block_on;
use ringmain::{
    Args, Backing, Credentials, Error, ErrorKind, ErrorReport, ExitStatus, FromArgs, GoneReason, HandlerError,
    IntoArgs, Invoke, IpcMain, IpcMainBuilder, IpcMainEvent, IpcMainInvokeEvent, IpcRenderer, IpcRendererBuilder,
    IpcRendererEvent, LaneConfig, LaneDuplex, LaneError, LaneGroup, LaneReceiver, LaneSender, LatestReader,
    LatestWriter, ListenerId, Process, Result, Stats, ValueError, Wait, WakePolicy, WebContents,
};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use support::{Gate, PATIENCE, bounded, builder, connected, gone, next, pair, pair_of, spawn, until};

#[test]
fn children() {
    support::play(&[
        ("last act", last_act),
        ("forker", forker),
        ("main of a forker", main_of_a_forker),
        ("fork of main", fork_of_main),
        ("fork with lanes", fork_with_lanes),
    ]);
}

// ---- types ------------------------------------------------------------------------------------------------------

#[test]
fn handles_events_and_errors_cross_threads() {
    fn send_sync<T: Send + Sync + 'static>() {}
    fn send<T: Send + 'static>() {}
    fn clone<T: Clone + Send + Sync + 'static>() {}
    fn debug<T: std::fmt::Debug>() {}
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    clone::<IpcMain>();
    clone::<IpcRenderer>();
    clone::<WebContents>();
    clone::<IpcMainEvent>();
    clone::<IpcMainInvokeEvent>();
    clone::<IpcRendererEvent>();
    clone::<Args>();
    clone::<HandlerError>();
    clone::<ValueError>();
    clone::<(ListenerId, Stats, GoneReason, ExitStatus, Backing, Wait, ErrorKind)>();
    send_sync::<(Error, ErrorReport, Process<'static>, Credentials)>();
    send::<(IpcMainBuilder, IpcRendererBuilder)>();
    // Whatever it is that is waited for.
    send_sync::<Invoke<()>>();
    send_sync::<Invoke<std::rc::Rc<std::cell::Cell<u8>>>>();
    error::<Error>();
    error::<ValueError>();
    debug::<(IpcMain, IpcRenderer, WebContents, Invoke<()>)>();
    debug::<(IpcMainEvent, IpcMainInvokeEvent, IpcRendererEvent, IpcMainBuilder, IpcRendererBuilder, Process<'_>)>();
}

#[test]
fn futures_of_calls_can_be_spawned_and_moved_after_their_first_poll() {
    fn unpin<T: Unpin>() {}
    fn spawned<T: Future + Send + 'static>(_: &T) {}
    unpin::<Invoke<String>>();
    let (_ipc_main, ipc_renderer) = pair();
    spawned(&async move { ipc_renderer.invoke::<String>("x", ("y",)).await });
}

#[test]
fn handles_and_errors_are_small() {
    const WORD: usize = size_of::<usize>();
    assert_eq!(size_of::<Error>(), WORD);
    assert_eq!(size_of::<Result<()>>(), WORD);
    assert_eq!(size_of::<ValueError>(), WORD);
    assert_eq!(size_of::<WebContents>(), WORD);
    assert_eq!(size_of::<IpcMainInvokeEvent>(), WORD);
    assert!(size_of::<Option<ListenerId>>() <= 4 * WORD);
    assert!(size_of::<IpcMainEvent>() <= 3 * WORD && size_of::<IpcRendererEvent>() <= 3 * WORD);
    assert!(size_of::<IpcMain>() <= 4 * WORD && size_of::<IpcRenderer>() <= 6 * WORD);
    assert_eq!(size_of::<Invoke<()>>(), size_of::<Invoke<[u64; 100]>>());
    assert!(size_of::<Invoke<()>>() <= 128);
}

/// Answers by overload resolution whether a type is an argument list: the inherent methods count only where they apply.
struct Probe<T>(PhantomData<T>);

impl<T: IntoArgs> Probe<T> {
    fn can_be_sent(&self) -> bool {
        true
    }
}

impl<T: FromArgs> Probe<T> {
    fn can_be_taken(&self) -> bool {
        true
    }
}

trait Otherwise {
    fn can_be_sent(&self) -> bool {
        false
    }
    fn can_be_taken(&self) -> bool {
        false
    }
}

impl<T> Otherwise for Probe<T> {}

macro_rules! probe {
    ($type:ty) => {{
        let probe = Probe::<$type>(PhantomData);
        (probe.can_be_sent(), probe.can_be_taken())
    }};
}

#[test]
fn a_value_alone_is_no_argument_list() {
    assert_eq!(probe!(&'static str), (false, false));
    assert_eq!(probe!(String), (false, false));
    assert_eq!(probe!(i64), (false, false));
    assert_eq!(probe!(serde_json::Value), (false, false));
    assert_eq!(probe!(Option<(i64,)>), (false, false));
    assert_eq!(probe!(()), (true, true));
    assert!(Probe::<(&'static str,)>(PhantomData).can_be_sent());
    assert_eq!(probe!((String, i64)), (true, true));
    assert_eq!(probe!(Args), (true, true));
    assert_eq!(probe!([i64; 3]), (true, false));
    assert_eq!(probe!(Vec<i64>), (true, false));
    assert_eq!(probe!((i8, i8, i8, i8, i8, i8, i8, i8, i8, i8, i8, i8)), (true, true));
    assert_eq!(probe!((i8, i8, i8, i8, i8, i8, i8, i8, i8, i8, i8, i8, i8)), (false, false));
    assert_eq!(probe!((fn(),)), (false, false));
}

// ---- shutdown ---------------------------------------------------------------------------------------------------

/// Sends `x` until the link is gone.
fn flood(ipc_renderer: &IpcRenderer) {
    loop {
        match ipc_renderer.send("x", ()) {
            Err(error) if error.kind() == ErrorKind::Disconnected => return,
            _ => std::thread::yield_now(),
        }
    }
}

#[test]
fn after_shutdown_has_returned_no_callback_runs_from_whatever_threads_it_was_called() {
    let (ipc_main, ipc_renderer) = pair();
    let is_over = Arc::new(AtomicBool::new(false));
    let (broken, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (over, breaks, counts) = (is_over.clone(), broken.clone(), count.clone());
    ipc_main.on("x", move |_, ()| {
        counts.fetch_add(1, Ordering::SeqCst);
        std::thread::yield_now();
        if over.load(Ordering::SeqCst) {
            breaks.fetch_add(1, Ordering::SeqCst);
        }
    });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| flood(&ipc_renderer));
        }
        until("some messages", || count.load(Ordering::SeqCst) > 100);
        for _ in 0..3 {
            let (ipc_main, is_over) = (ipc_main.clone(), is_over.clone());
            scope.spawn(move || {
                ipc_main.shutdown();
                is_over.store(true, Ordering::SeqCst);
                ipc_main.shutdown();
            });
        }
    });
    assert_eq!(broken.load(Ordering::SeqCst), 0);
    drop(ipc_main);
}

#[test]
fn shutdown_waits_for_the_callback_that_runs() {
    let (ipc_main, ipc_renderer) = pair();
    let (gate, ended) = (Gate::default(), Arc::new(AtomicBool::new(false)));
    let (waits, ends) = (gate.clone(), ended.clone());
    ipc_main.on("x", move |_, ()| {
        waits.wait();
        ends.store(true, Ordering::SeqCst);
    });
    ipc_renderer.send("x", ()).unwrap();
    gate.reached();
    let main = ipc_main.clone();
    let ending = std::thread::spawn(move || {
        main.shutdown();
        ended.load(Ordering::SeqCst)
    });
    gate.open();
    assert!(bounded("shutdown", move || ending.join().unwrap()));
}

#[test]
fn shutdown_on_the_dispatcher_returns_at_once_and_the_loop_ends_after_the_callback() {
    let (ipc_main, ipc_renderer) = pair();
    let (inner, (told, tells)) = (ipc_main.clone(), channel());
    let (gone, is_gone) = channel();
    ipc_renderer.on_disconnected(move |reason| gone.send(reason.to_string()).unwrap());
    // Both are there before main ends.
    let gate = Gate::default();
    let stays = gate.clone();
    ipc_main.on("x", move |_, ()| {
        stays.wait();
        inner.shutdown();
        inner.shutdown();
        told.send(()).unwrap();
    });
    let call = ipc_renderer.invoke::<()>("never", ());
    drop(call);
    ipc_renderer.send("x", ()).unwrap();
    ipc_renderer.send("x", ()).unwrap();
    gate.open();
    next(&tells, "the end of the callback");
    next(&is_gone, "the end of main");
    ipc_main.shutdown();
    assert!(tells.try_recv().is_err(), "no callback runs after the one that shut down");
}

#[test]
fn two_handles_may_end_each_other_in_their_listeners() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let (main_slot, renderer_slot) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    let (main_is_there, renderer_is_there) = (Gate::default(), Gate::default());
    let (tell, told) = channel();
    let (opens, waits) = (main_is_there.clone(), renderer_is_there.clone());
    let (takes, tells) = (renderer_slot.clone(), tell.clone());
    ipc_main.on("end", move |_, ()| {
        opens.open();
        waits.wait();
        drop(takes.lock().unwrap().take());
        tells.send("the renderer").unwrap();
    });
    let takes = main_slot.clone();
    ipc_renderer.on("end", move |_, ()| {
        renderer_is_there.open();
        main_is_there.wait();
        drop(takes.lock().unwrap().take());
        tell.send("main").unwrap();
    });
    let sends = ipc_renderer.clone();
    *main_slot.lock().unwrap() = Some(ipc_main);
    *renderer_slot.lock().unwrap() = Some(ipc_renderer);
    sends.send("end", ()).unwrap();
    web_contents.send("end", ()).unwrap();
    let mut ended = [next(&told, "one end"), next(&told, "the other end")];
    ended.sort_unstable();
    assert_eq!(ended, ["main", "the renderer"]);
}

#[test]
fn an_accept_policy_and_a_listener_may_end_each_others_handles() {
    let directory = support::TempDir::new();
    let (accepting, listening) = (Gate::default(), Gate::default());
    let other_slot: Arc<Mutex<Option<IpcMain>>> = Arc::default();
    let (tell, told) = channel();
    let (opens, waits, takes, tells) = (accepting.clone(), listening.clone(), other_slot.clone(), tell.clone());
    let accept = move |_: &Credentials| {
        opens.open();
        waits.wait();
        drop(takes.lock().unwrap().take());
        tells.send("the policy's").unwrap();
        false
    };
    let ipc_main = builder().runtime_dir(&*directory).accept(accept).build().unwrap();
    ipc_main.listen("main").unwrap();
    let (other, ipc_renderer) = pair();
    let ends = ipc_main.clone();
    other.on("end", move |_, ()| {
        listening.open();
        accepting.wait();
        ends.shutdown();
        tell.send("the listener's").unwrap();
    });
    *other_slot.lock().unwrap() = Some(other);
    ipc_renderer.send("end", ()).unwrap();
    let path = directory.to_path_buf();
    let connecting = std::thread::spawn(move || IpcRenderer::builder().runtime_dir(path).connect_to("main").is_err());
    let mut ended = [next(&told, "one end"), next(&told, "the other end")];
    ended.sort_unstable();
    assert_eq!(ended, ["the listener's", "the policy's"]);
    assert!(bounded("the refused one", move || connecting.join().unwrap()));
    bounded("the end of main", move || drop(ipc_main));
}

#[test]
fn what_an_accept_policy_captured_is_dropped_once_the_links_are_closed() {
    /// Joins a thread that waits for an answer which never comes.
    struct Joins(Arc<Mutex<Option<std::thread::JoinHandle<()>>>>);
    impl Drop for Joins {
        fn drop(&mut self) {
            let thread = self.0.lock().unwrap().take();
            let _ = thread.map(std::thread::JoinHandle::join);
        }
    }
    let directory = support::TempDir::new();
    let slot: Arc<Mutex<_>> = Arc::default();
    let joins = Joins(slot.clone());
    let accept = move |_: &Credentials| {
        let _ = &joins;
        true
    };
    let (ipc_main, ipc_renderer) = pair_of(builder().runtime_dir(&*directory).accept(accept));
    ipc_main.listen("main").unwrap();
    ipc_main.handle_async("never", |_, ()| std::future::pending::<std::result::Result<(), HandlerError>>()).unwrap();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let calls = ipc_renderer.clone();
    let calling = std::thread::spawn(move || drop(calls.invoke::<()>("never", ()).wait()));
    *slot.lock().unwrap() = Some(calling);
    until("the call waits", || web_contents.stats().open_requests == 1);
    bounded("the end of main", move || drop(ipc_main));
    drop(ipc_renderer);
}

/// Whether what is removed while main is told of an error of it is removed before that has ended.
fn is_removed_meanwhile(what: &str, remove: impl FnOnce(&IpcMain, &ListenerId) -> bool + Send + 'static) -> bool {
    let (ipc_main, ipc_renderer) = pair();
    let gate = Gate::default();
    let waits = gate.clone();
    ipc_main.on_error(move |_| waits.wait());
    let listener = match what {
        "unfit" => ipc_main.on("unfit", |_, (_number,): (i64,)| {}),
        _ => ipc_main.on(what, |_, ()| panic!("of a listener")),
    };
    ipc_main.handle("call", |_, ()| -> std::result::Result<(), HandlerError> { panic!("of a handler") }).unwrap();
    match what {
        "call" => ipc_renderer.invoke::<()>("call", ()).detach(),
        _ => ipc_renderer.send(what, ()).unwrap(),
    }
    gate.reached();
    let (tell, told) = channel();
    let handle = ipc_main.clone();
    let removing = std::thread::spawn(move || tell.send(remove(&handle, &listener)).unwrap());
    // Long before the gate gives up.
    let removed = told.recv_timeout(PATIENCE / 3);
    gate.open();
    removing.join().unwrap();
    removed.unwrap_or(false)
}

#[test]
fn a_removal_does_not_wait_for_the_hook_that_is_told_of_an_error_of_what_is_removed() {
    assert!(is_removed_meanwhile("unfit", |_, listener| listener.remove()), "arguments that do not fit");
    assert!(is_removed_meanwhile("panics", |_, listener| listener.remove()), "a panic of a listener");
    assert!(is_removed_meanwhile("call", |ipc_main, _| ipc_main.remove_handler("call")), "a panic of a handler");
}

#[test]
fn the_owner_may_be_dropped_by_its_own_listener() {
    let (ipc_main, ipc_renderer) = pair();
    let (gone, is_gone) = channel();
    ipc_renderer.on_disconnected(move |_| gone.send("main").unwrap());
    let owner = Arc::new(Mutex::new(None));
    let own = owner.clone();
    ipc_main.on("end", move |_, ()| drop(own.lock().unwrap().take()));
    *owner.lock().unwrap() = Some(ipc_main);
    ipc_renderer.send("end", ()).unwrap();
    assert_eq!(next(&is_gone, "the end of main"), "main");
    // And a renderer's by one of its own.
    let (ipc_main, ipc_renderer) = pair();
    let (gone, is_gone) = channel();
    ipc_main.on_renderer_gone(move |_, _| gone.send("renderer").unwrap());
    let slot = Arc::new(Mutex::new(None));
    let its_own = slot.clone();
    ipc_renderer.on("end", move |_, ()| drop(its_own.lock().unwrap().take()));
    *slot.lock().unwrap() = Some(ipc_renderer);
    ipc_main.all_web_contents()[0].send("end", ()).unwrap();
    assert_eq!(next(&is_gone, "the end of the renderer"), "renderer");
}

// ---- dropping ---------------------------------------------------------------------------------------------------

fn last_act() {
    connected().send("last", ("x".repeat(1 << 20),)).unwrap();
}

#[test]
fn dropping_the_owner_drains_its_queue() {
    let ipc_main = support::ipc_main();
    let (last, lasts) = channel();
    ipc_main.on("last", move |_, (text,): (String,)| last.send(text.len()));
    let _child = spawn(&ipc_main, "last act");
    assert_eq!(next(&lasts, "the last message of the child"), 1 << 20);

    let ipc_renderer = ipc_main.attach().unwrap();
    ipc_renderer.send("last", ("x".repeat(1 << 20),)).unwrap();
    drop(ipc_renderer);
    assert_eq!(next(&lasts, "the last message of the attached one"), 1 << 20);

    let ipc_renderer = ipc_main.attach().unwrap();
    let (first, firsts) = channel();
    let end = first.clone();
    ipc_renderer.on("first", move |_, (text,): (String,)| first.send(text.len()));
    ipc_renderer.on_disconnected(move |_| end.send(0).unwrap());
    ipc_main.web_contents(ipc_renderer.id()).unwrap().send("first", ("x".repeat(1 << 20),)).unwrap();
    drop(ipc_main);
    assert_eq!(next(&firsts, "the last message of main"), 1 << 20);
    assert_eq!(next(&firsts, "the end of main"), 0);
}

#[test]
fn dropping_the_owner_of_a_link_that_nobody_reads_ends_all_the_same() {
    let (ipc_main, ipc_renderer) = pair_of(builder().ring_size(4096));
    let gate = Gate::default();
    let waits = gate.clone();
    ipc_renderer.on("block", move |_, ()| waits.wait());
    let web_contents = ipc_main.all_web_contents().remove(0);
    web_contents.send("block", ()).unwrap();
    gate.reached();
    web_contents.send("x", ("x".repeat(100_000),)).unwrap();
    bounded("the drop", move || drop(ipc_main));
    assert_eq!(web_contents.send("x", ()).unwrap_err().kind(), ErrorKind::Disconnected);
    gate.open();
}

#[test]
fn dropping_a_renderer_whose_listener_waits_for_an_answer_that_never_comes_ends_the_wait() {
    let (ipc_main, ipc_renderer) = pair();
    let (start, starts) = channel();
    ipc_main
        .handle_async("never", move |_, ()| {
            start.send(()).unwrap();
            std::future::pending::<Result<(), HandlerError>>()
        })
        .unwrap();
    let (inner, (ended, ends)) = (ipc_renderer.clone(), channel());
    ipc_renderer.on("go", move |_, ()| ended.send(inner.invoke::<()>("never", ()).wait().unwrap_err().kind()));
    ipc_main.all_web_contents()[0].send("go", ()).unwrap();
    next(&starts, "the call");
    bounded("the drop of the renderer", move || drop(ipc_renderer));
    assert_eq!(next(&ends, "the end of the wait"), ErrorKind::Disconnected);
}

/// Captured by callbacks: all of it is dropped when nothing holds it any more.
fn token() -> (Arc<()>, Weak<()>) {
    let token = Arc::new(());
    let weak = Arc::downgrade(&token);
    (token, weak)
}

/// Registers every kind of callback, each with a clone of the handles and of the token in it.
fn register_all(ipc_main: &IpcMain, ipc_renderer: &IpcRenderer, token: &Arc<()>) {
    let captured = || (ipc_main.clone(), ipc_renderer.clone(), token.clone());
    let main = captured();
    ipc_main.on("on", move |_, ()| drop(main.clone()));
    let main = captured();
    ipc_main.once("once", move |_, ()| drop(main.clone()));
    let main = captured();
    let handled = ipc_main.handle("handle", move |_, ()| {
        let _main = &main;
        Ok(())
    });
    let main = captured();
    let handled_async = ipc_main.handle_async("async", move |event, ()| {
        let main = (main.clone(), event);
        async move {
            std::future::pending::<()>().await;
            drop(main);
            Ok(())
        }
    });
    assert_eq!([handled.is_ok(), handled_async.is_ok()], [ipc_renderer.is_connected(); 2]);
    let main = captured();
    ipc_main.on_error(move |_| drop(main.clone()));
    let main = captured();
    ipc_main.on_renderer_gone(move |_, _| drop(main.clone()));
    let main = captured();
    ipc_main.on_renderer_connected(move |_| drop(main.clone()));
    let renderer = captured();
    ipc_renderer.on("on", move |_, ()| drop(renderer.clone()));
    let renderer = captured();
    ipc_renderer.on_error(move |_| drop(renderer.clone()));
    let renderer = captured();
    ipc_renderer.on_disconnected(move |_| drop(renderer.clone()));
}

#[test]
fn callbacks_that_captured_handles_keep_nothing_alive() {
    let (token, weak) = token();
    let (ipc_main, ipc_renderer) = pair();
    register_all(&ipc_main, &ipc_renderer, &token);
    drop(token);
    ipc_renderer.invoke::<()>("handle", ()).timeout(PATIENCE).wait().unwrap();
    ipc_renderer.invoke::<()>("async", ()).detach();
    let kept = ipc_renderer.invoke::<()>("async", ());
    assert!(weak.strong_count() >= 10);
    drop(ipc_renderer);
    drop(ipc_main);
    assert_eq!(weak.strong_count(), 0, "captured values are dropped with the owners");
    assert_eq!(kept.wait().unwrap_err().kind(), ErrorKind::Disconnected);
}

#[test]
fn what_is_registered_after_the_end_keeps_nothing_alive_either() {
    let (token, weak) = token();
    let (ipc_main, ipc_renderer) = pair();
    let (main, renderer) = (ipc_main.clone(), ipc_renderer.clone());
    drop((ipc_renderer, ipc_main));
    register_all(&main, &renderer, &token);
    drop((main, renderer, token));
    assert_eq!(weak.strong_count(), 0);
}

#[test]
fn handles_that_outlive_their_owner_say_disconnected() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle_async("never", |_, ()| std::future::pending::<Result<(), HandlerError>>()).unwrap();
    let (main, renderer) = (ipc_main.clone(), ipc_renderer.clone());
    let web_contents = ipc_main.all_web_contents().remove(0);
    let before = renderer.invoke::<()>("never", ());
    drop((ipc_renderer, ipc_main));
    let short = Duration::from_millis(10);
    let kinds = [
        main.attach().map(drop),
        main.spawn(std::process::Command::new("/bin/true")).map(drop),
        web_contents.send("x", ()),
        web_contents.send_timeout("x", (), short),
        web_contents.flush(short),
        renderer.send("x", ()),
        renderer.send_timeout("x", (), short),
        renderer.flush(short),
        renderer.send_sync::<()>("x", ()),
        renderer.invoke::<()>("x", ()).wait(),
        block_on(renderer.invoke::<()>("x", ())),
        before.wait(),
    ]
    .map(|result| result.unwrap_err().kind());
    assert_eq!(kinds, [ErrorKind::Disconnected; 12]);
    // And what has no error to give does nothing.
    main.shutdown();
    renderer.close(short).unwrap();
    web_contents.close(short).unwrap();
    assert!(!renderer.is_connected() && !web_contents.is_connected());
    assert!(main.all_web_contents().is_empty() && main.web_contents(1).is_none());
    assert!(web_contents.gone_reason().is_some() && renderer.gone_reason().is_some());
    main.on("x", |_, ()| ());
    renderer.on("x", |_, ()| ());
    assert_eq!(main.handle("x", |_, ()| Ok(())).unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(!main.remove_handler("never"));
    let _ = (web_contents.stats(), renderer.stats(), format!("{main:?} {renderer:?} {web_contents:?}"));
}

#[test]
fn events_that_outlive_everything_are_harmless() {
    let (ipc_main, ipc_renderer) = pair();
    let (event, events) = channel::<IpcMainEvent>();
    let (inside, insides) = channel::<IpcRendererEvent>();
    let (called, calls) = channel::<IpcMainInvokeEvent>();
    ipc_main.on("ask", move |asked, ()| event.send(asked.clone()));
    ipc_main
        .handle_async("never", move |event, ()| {
            called.send(event).unwrap();
            std::future::pending::<Result<(), HandlerError>>()
        })
        .unwrap();
    ipc_renderer.on("tell", move |told, ()| inside.send(told.clone()));
    ipc_main.all_web_contents()[0].send("tell", ()).unwrap();
    let asking = ipc_renderer.clone();
    let asking = std::thread::spawn(move || asking.send_sync::<()>("ask", ()));
    let call = ipc_renderer.invoke::<()>("never", ());
    let (event, told, called) = (next(&events, "ask"), next(&insides, "tell"), next(&calls, "never"));
    drop((ipc_main, ipc_renderer));
    assert_eq!(asking.join().unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    event.set_return_value(1).unwrap();
    event.reply("x", ()).unwrap();
    told.reply("x", ()).unwrap();
    assert!(called.is_cancelled());
    assert_eq!(event.sender().send("x", ()).unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(format!("{event:?}"), "IpcMainEvent { sender: 1, frame_id: 1, is_synchronous: true, is_local: false }");
}

#[test]
fn mains_and_renderers_come_and_go_in_any_order() {
    for round in 0..20 {
        let (ipc_main, ipc_renderer) = pair();
        ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
        let others = [(); 3].map(|()| ipc_main.attach().unwrap());
        for other in &others {
            other.invoke::<i64>("add", (1, 2)).detach();
        }
        match round % 3 {
            0 => drop((ipc_main, ipc_renderer, others)),
            1 => drop((others, ipc_renderer, ipc_main)),
            _ => bounded("all of them at once", move || {
                let mut threads = vec![std::thread::spawn(move || drop(ipc_main))];
                threads.push(std::thread::spawn(move || drop(ipc_renderer)));
                threads.extend(others.map(|other| std::thread::spawn(move || drop(other))));
                threads.into_iter().for_each(|thread| thread.join().unwrap());
            }),
        }
    }
}

// ---- fork without exec ------------------------------------------------------------------------------------------

/// Runs `check` in a forked copy of this process, of this thread alone, and demands that it succeeds. What it takes out of
/// its surroundings is gone in the copy and untouched here.
fn in_a_forked_copy(check: impl FnOnce()) {
    let before = support::settled_held();
    // A thread that runs might hold a lock, which the copy would wait for in vain. The process is this test's alone, so all
    // its threads are looked at, also those that the test itself has started.
    support::until_the_others_sleep();
    // SAFETY: the copy has this thread alone. It allocates, which the C library makes safe after a fork, takes only locks
    // that no other thread holds, because those sleep, and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_ok();
        // SAFETY: ends the copy at once, without what the original registered for its own end.
        unsafe { libc::_exit(if held { 0 } else { 1 }) };
    }
    let (ended, status) = bounded("the forked copy", move || {
        let mut status = 0;
        // SAFETY: waits for a child of this process and writes to a local.
        let ended = unsafe { libc::waitpid(pid, &mut status, 0) };
        (ended, status)
    });
    assert_eq!((ended, status), (pid, 0), "the copy ended by status {status:#x}");
    support::until_held(&before, "the original after its copy");
}

#[track_caller]
fn forked<T>(result: Result<T>) {
    let Err(error) = result else { panic!("it worked in a forked copy") };
    assert_eq!(error.kind(), ErrorKind::Forked, "{error}");
    assert!(error.is_misuse());
    assert!(error.to_string().contains("forked copy"), "{error}");
}

/// What a copy finds out about a renderer's handles, owner included.
fn check_renderer(ipc_renderer: IpcRenderer, pending: [Invoke<()>; 4]) {
    let short = Duration::from_millis(10);
    forked(ipc_renderer.send("x", (1,)));
    forked(ipc_renderer.send_timeout("x", (1,), short));
    forked(ipc_renderer.flush(short));
    forked(ipc_renderer.send_sync::<()>("x", ()));
    forked(ipc_renderer.send_sync_timeout::<()>("x", (), short));
    forked(ipc_renderer.invoke::<()>("x", ()).wait());
    forked(block_on(ipc_renderer.invoke::<()>("x", ())));
    forked(ipc_renderer.close(short));
    let [waited, awaited, detached, dropped] = pending;
    forked(waited.timeout(PATIENCE).wait());
    forked(block_on(awaited));
    detached.detach();
    drop(dropped);
    ipc_renderer.on("x", |_, ()| ());
    let _ = (ipc_renderer.stats(), ipc_renderer.id(), format!("{ipc_renderer:?}"));
}

fn forker() {
    let ipc_renderer = connected();
    let (event, events) = channel::<IpcRendererEvent>();
    ipc_renderer.on("hello", move |told, ()| event.send(told.clone()));
    ipc_renderer.send("ready", ()).unwrap();
    let event = next(&events, "hello");
    let mut pending = Some([(); 4].map(|()| ipc_renderer.invoke::<()>("never", ())));
    ipc_renderer.invoke::<()>("known", ()).timeout(PATIENCE).wait().unwrap();
    let mut owner = Some(ipc_renderer);
    in_a_forked_copy(|| {
        forked(event.reply("x", ()));
        check_renderer(owner.take().unwrap(), pending.take().unwrap());
    });
    // The original works as before.
    let ipc_renderer = owner.take().unwrap();
    ipc_renderer.invoke::<()>("known", ()).timeout(PATIENCE).wait().unwrap();
    assert_eq!(ipc_renderer.stats().pending_calls, 4);
    event.reply("done", ()).unwrap();
}

#[test]
fn a_forked_copy_of_a_renderer_is_told_so_and_harms_nobody() {
    support::alone("main of a forker");
}

fn main_of_a_forker() {
    let ipc_main = support::ipc_main();
    ipc_main.on("ready", |event, ()| event.reply("hello", ()));
    ipc_main.handle("known", |_, ()| Ok(())).unwrap();
    ipc_main.handle_async("never", |_, ()| std::future::pending::<Result<(), HandlerError>>()).unwrap();
    let (done, is_done) = channel();
    ipc_main.on("done", move |_, ()| done.send(()));
    let gone = gone(&ipc_main);
    support::leaves_nothing("main of a renderer that had a copy", || {
        let child = spawn(&ipc_main, "forker");
        next(&is_done, "the child's end");
        assert_eq!(next(&gone, "its end").0, child.id());
        until("it is reaped", || child.process().exit_status().is_some());
    });
}

fn fork_of_main() {
    let (ipc_main, ipc_renderer) = pair();
    let (event, events) = channel::<IpcMainEvent>();
    ipc_main.on("ask", move |asked, ()| event.send(asked.clone()));
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_main.handle_async("never", |_, ()| std::future::pending::<Result<(), HandlerError>>()).unwrap();
    let asking = ipc_renderer.clone();
    let asking = std::thread::spawn(move || asking.send_sync_timeout::<i64>("ask", (), PATIENCE));
    let mut event = Some(next(&events, "the synchronous message"));
    let mut pending = Some([(); 4].map(|()| ipc_renderer.invoke::<()>("never", ())));
    assert_eq!(ipc_renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE).wait().unwrap(), 5);
    let mut owners = Some((ipc_main, ipc_renderer));
    in_a_forked_copy(|| {
        let ((main, renderer), event) = (owners.take().unwrap(), event.take().unwrap());
        let short = Duration::from_millis(10);
        let web_contents = event.sender();
        forked(web_contents.send("x", ()));
        forked(web_contents.send_timeout("x", (), short));
        forked(web_contents.flush(short));
        forked(web_contents.close(short));
        forked(main.attach());
        forked(main.spawn(std::process::Command::new("/bin/true")));
        forked(main.listen("ringmain-fork-test"));
        forked(event.set_return_value(7));
        forked(event.reply("x", ()));
        drop(event); // unanswered, and the last one of the copy
        main.on("x", |_, ()| ());
        main.shutdown();
        drop(main);
        check_renderer(renderer, pending.take().unwrap());
    });
    event.take().unwrap().set_return_value(1).unwrap();
    assert_eq!(asking.join().unwrap().unwrap(), 1);
    let (_main, renderer) = owners.take().unwrap();
    assert_eq!(renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE).wait().unwrap(), 5);
}

#[test]
fn a_forked_copy_of_a_main_is_told_so_and_harms_nobody() {
    support::alone("fork of main");
}

/// Each kind of end, with something in it that was sent and not received.
struct LaneEnds {
    records: (LaneSender<u64>, LaneReceiver<u64>),
    relayed: (LaneReceiver<u64>, LaneSender<u64>),
    values: (LatestWriter<u64>, LatestReader<u64>),
    group: LaneGroup<u64, u64>,
    plugin: LaneDuplex<u64, u64>,
}

/// What a copy finds out about lanes: that they are closed, by each call, and that it can drop them.
fn check_lanes(mut ends: LaneEnds) {
    let (closed, soon) = (LaneError::Closed, Instant::now() + PATIENCE);
    let LaneEnds { records, relayed, values, group, plugin } = &mut ends;
    for sender in [&mut records.0, &mut relayed.1] {
        assert_eq!(sender.try_send(&1), Err(closed));
        assert_eq!(sender.batch().push(&1), Err(closed));
        assert_eq!(sender.loan().err(), Some(closed));
        assert!(!sender.is_open() && !sender.is_full() && sender.room() == 0 && !sender.counters().is_open());
        sender.prepare();
    }
    for receiver in [&mut records.1, &mut relayed.0] {
        assert_eq!(receiver.try_recv(&mut 0), Err(closed), "what lies there is the original's to receive");
        assert_eq!(receiver.peek().err(), Some(closed));
        assert_eq!(receiver.recv_until(&mut 0, soon), Err(closed));
        assert!(!receiver.is_open());
        receiver.prepare();
    }
    assert_eq!((values.0.write(&1), values.0.loan().err()), (Err(closed), Some(closed)));
    assert_eq!(
        (values.1.read(&mut 0), values.1.take(), values.1.copy_to(&mut 0)),
        (Err(closed), Err(closed), Err(closed))
    );
    assert_eq!(values.1.read_until(&mut 0, soon), Err(closed));
    values.0.prepare();
    values.1.prepare();
    assert_eq!((group.start(0, &1), group.wait_all(soon), group.response(0)), (Err(closed), 0, Err(closed)));
    assert_eq!(plugin.recv_request_until(&mut 0, soon), Err(closed));
    assert_eq!((plugin.send_response(&1), plugin.exchange(&1, &mut 0, soon)), (Err(closed), Err(closed)));
    let _ = (records.0.stats(), records.1.stats(), format!("{:?} {values:?} {group:?} {plugin:?}", relayed));
    drop(ends);
}

fn fork_with_lanes() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let config = LaneConfig::new().capacity(8);
    let relay = config.clone().wake(WakePolicy::Relay);
    let mut group = LaneGroup::new();
    group.push(web_contents.lane("group", &config).unwrap());
    let mut ends = LaneEnds {
        records: (web_contents.lane("records", &config).unwrap(), ipc_renderer.lane("records", &config).unwrap()),
        relayed: (web_contents.lane("relayed", &relay).unwrap(), ipc_renderer.lane("relayed", &relay).unwrap()),
        values: (web_contents.lane("values", &config).unwrap(), ipc_renderer.lane("values", &config).unwrap()),
        plugin: ipc_renderer.lane("group", &config).unwrap(),
        group,
    };
    ends.records.0.try_send(&7).unwrap();
    ends.relayed.1.try_send(&8).unwrap();
    ends.values.0.write(&9).unwrap();
    ends.group.start(0, &10).unwrap();
    let mut ends = Some(ends);
    in_a_forked_copy(|| {
        check_lanes(ends.take().unwrap());
        forked(web_contents.lane::<LaneSender<u64>>("another", &config));
        forked(ipc_renderer.lane::<LaneSender<u64>>("another", &config));
    });
    // For the original nothing has happened: all ends are open, and what was sent is there.
    let LaneEnds { mut records, mut relayed, mut values, mut group, mut plugin } = ends.take().unwrap();
    assert!(records.0.is_open() && records.1.is_open() && relayed.0.is_open() && values.0.is_open());
    let (mut got, soon) = ([0; 4], Instant::now() + PATIENCE);
    records.1.recv_until(&mut got[0], soon).unwrap();
    relayed.0.recv_until(&mut got[1], soon).unwrap();
    values.1.read_until(&mut got[2], soon).unwrap();
    plugin.recv_request_until(&mut got[3], soon).unwrap();
    assert_eq!(got, [7, 8, 9, 10]);
    plugin.send_response(&11).unwrap();
    assert_eq!((group.wait_all(soon), group.response(0)), (1, Ok(&11)));
    records.0.try_send(&12).unwrap();
    records.1.recv_until(&mut got[0], soon).unwrap();
    assert_eq!(got[0], 12);
}

#[test]
fn the_lanes_of_a_forked_copy_are_closed_and_those_of_the_original_go_on() {
    support::alone("fork with lanes");
}
