//! Listeners by the rules of Node's EventEmitter, seen through messages. A number in a name is that of the case in the
//! list of Electron's own behaviour.
#![allow(missing_docs)]

mod support;

use ringmain::{Args, ErrorKind, IpcMain, IpcMainEvent, IpcRenderer, IpcRendererEvent, ListenerId, WebContents};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;
use support::{Gate, PATIENCE, Puppet, bounded, child, next, pair};

#[test]
fn children() {
    support::play(&[
        ("puppet", support::puppet),
        ("leak", leak),
        ("no leak", no_leak),
        ("leak to a logger", leak_to_a_logger),
        ("leak to a logger that wants errors alone", leak_to_a_logger_that_wants_errors_alone),
        ("leak to a logger that panics", leak_to_a_logger_that_panics),
    ]);
}

/// What listeners have written down, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, text: impl ToString) {
        self.0.lock().unwrap().push(text.to_string());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// A listener that writes `name` down.
    fn writes(&self, name: &str) -> impl Fn(&IpcMainEvent, Args) + Send + Sync + use<> {
        let (log, name) = (self.clone(), name.to_string());
        move |_, _| log.add(&name)
    }

    /// The same for a renderer.
    fn writes_there(&self, name: &str) -> impl Fn(&IpcRendererEvent, Args) + Send + Sync + use<> {
        let (log, name) = (self.clone(), name.to_string());
        move |_, _| log.add(&name)
    }
}

/// What hooks are told, in order.
type Told = Arc<Mutex<Vec<(&'static str, String, ListenerId)>>>;

/// Writes down what both hooks of an emitter are told.
fn told(ipc_main: &IpcMain) -> Told {
    let told = Told::default();
    let (added, removed) = (told.clone(), told.clone());
    ipc_main.on_new_listener(move |name, id| added.lock().unwrap().push(("added", name.into(), id.clone())));
    ipc_main.on_remove_listener(move |name, id| removed.lock().unwrap().push(("removed", name.into(), id.clone())));
    told
}

fn take(told: &Told) -> Vec<(&'static str, String, ListenerId)> {
    std::mem::take(&mut *told.lock().unwrap())
}

/// Sends and waits until main has run every listener of it.
fn emit(ipc_renderer: &IpcRenderer, channel: &str, args: impl ringmain::IntoArgs) {
    ipc_renderer.send(channel, args).unwrap();
    let answered = ipc_renderer.invoke::<()>("emitted", ()).timeout(PATIENCE).wait();
    assert_eq!(answered.unwrap_err().kind(), ErrorKind::NoHandler);
}

/// Waits until a renderer has run every listener of what main has sent to it.
fn renderer_has_run_all(web_contents: &WebContents) {
    let answered = web_contents.invoke::<()>("has run all", (), PATIENCE).wait();
    assert_eq!(answered.unwrap_err().kind(), ErrorKind::NoHandler);
}

/// An id that a listener learns after it was added.
#[derive(Clone, Default)]
struct Later(Arc<OnceLock<ListenerId>>);

impl Later {
    fn is(&self, id: ListenerId) {
        self.0.set(id).unwrap();
    }

    fn get(&self) -> ListenerId {
        self.0.get().unwrap().clone()
    }
}

#[test]
fn listeners_run_in_the_order_added_and_prepended_ones_before_them() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    ipc_main.on("x", log.writes("a"));
    ipc_main.on("x", log.writes("b"));
    ipc_main.prepend_listener("x", log.writes("c"));
    ipc_main.prepend_once_listener("x", log.writes("d"));
    ipc_main.once("x", log.writes("e"));
    assert_eq!(ipc_main.listener_count("x"), 5);
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["d", "c", "a", "b", "e"]);
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["c", "a", "b"]);
    assert_eq!((ipc_main.listener_count("x"), ipc_main.listener_count("y")), (3, 0));
}

#[test]
fn case_044_and_056_a_fresh_main_and_a_fresh_renderer_have_no_event_names() {
    let (ipc_main, ipc_renderer) = pair();
    // Electron's main has `error`, a guard of which this crate has no need.
    assert!(ipc_main.event_names().is_empty() && ipc_renderer.event_names().is_empty());
    assert_eq!((ipc_main.listener_count("error"), ipc_renderer.listener_count("error")), (0, 0));
    let web_contents = ipc_main.all_web_contents().remove(0);
    assert!(web_contents.ipc().event_names().is_empty() && web_contents.main_frame().ipc().event_names().is_empty());
    assert!(ipc_renderer.frame().unwrap().event_names().is_empty());
    // What listens to every message listens on no channel.
    web_contents.on_ipc_message(|_, _, _| ());
    ipc_renderer.on_ipc_message(|_, _, _| ());
    assert!(web_contents.ipc().event_names().is_empty() && ipc_renderer.event_names().is_empty());
}

#[test]
fn case_056_a_fresh_renderer_in_another_process_has_no_event_names_but_those_it_then_listens_on() {
    let ipc_main = support::ipc_main();
    let mut puppet = Puppet::spawn(&ipc_main);
    let names = json!({ "do": "names", "frame": 1 });
    assert_eq!(puppet.ask(names.clone()), json!([]));
    puppet.on(1, "b", None);
    puppet.on(1, "a", None);
    assert_eq!(puppet.ask(names), json!(["b", "a"]));
    assert!(ipc_main.event_names().is_empty());
}

#[test]
fn case_046_and_057_messages_on_a_cleared_channel_reach_nobody_and_those_on_another_still_do() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let (log, there) = (Log::default(), Log::default());
    for channel in ["a", "b"] {
        ipc_main.on(channel, log.writes(channel));
        ipc_renderer.on(channel, there.writes_there(channel));
    }
    let both = || {
        for channel in ["a", "b"] {
            emit(&ipc_renderer, channel, ());
            web_contents.send(channel, ()).unwrap();
        }
        renderer_has_run_all(&web_contents);
        [log.take(), there.take()]
    };
    assert_eq!(both(), [["a", "b"], ["a", "b"]]);
    ipc_main.remove_all_listeners(Some("a"));
    ipc_renderer.remove_all_listeners(Some("b"));
    assert_eq!(both(), [["b"], ["a"]]);
    ipc_main.remove_all_listeners(None);
    ipc_renderer.remove_all_listeners(None);
    assert_eq!(both(), [[""; 0]; 2]);
}

#[test]
fn case_046_047_057_and_114_one_channel_is_cleared_or_all_of_them_on_either_side() {
    let (ipc_main, ipc_renderer) = pair();
    let add = |channel: &str| {
        ipc_main.on(channel, |_, ()| ());
        ipc_renderer.on(channel, |_, ()| ());
    };
    ["c", "a", "b", "a"].into_iter().for_each(add);
    let names = || [ipc_main.event_names(), ipc_renderer.event_names()];
    assert_eq!(names(), [["c", "a", "b"], ["c", "a", "b"]]);
    ipc_main.remove_all_listeners(Some("a"));
    ipc_renderer.remove_all_listeners(Some("a"));
    assert_eq!(names(), [["c", "b"], ["c", "b"]]);
    // 114: what is not listened on clears nothing; Rust has no undefined that could be meant by that.
    ipc_main.remove_all_listeners(Some("nobody"));
    add("a");
    assert_eq!(names(), [["c", "b", "a"], ["c", "b", "a"]]);
    ipc_main.remove_all_listeners(None);
    ipc_renderer.remove_all_listeners(None);
    assert_eq!(names(), [[""; 0]; 2]);
}

#[test]
fn case_088_a_once_listener_runs_once() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    ipc_main.once("x", log.writes("once"));
    assert_eq!(ipc_main.event_names(), ["x"]);
    (0..4).for_each(|_| emit(&ipc_renderer, "x", ()));
    assert_eq!(log.take(), ["once"]);
    assert!(ipc_main.event_names().is_empty());
}

#[test]
fn a_once_listener_that_panics_or_does_not_take_the_arguments_is_gone_all_the_same() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    ipc_main.on_error(|_| ());
    let wrote = log.clone();
    ipc_main.once("x", move |_, ()| {
        wrote.add("once");
        panic!("contained")
    });
    ipc_main.once("x", |_, (_,): (u8,)| ());
    emit(&ipc_renderer, "x", ());
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["once"]);
    assert_eq!(ipc_main.listener_count("x"), 0);
}

#[test]
fn case_089_a_once_listener_removed_before_does_not_run() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    let id = ipc_main.once("x", log.writes("once"));
    assert!(ipc_main.remove_listener("x", &id));
    assert!(!ipc_main.remove_listener("x", &id));
    emit(&ipc_renderer, "x", ());
    assert!(log.take().is_empty());
}

#[test]
fn case_091_a_once_listener_gets_exactly_the_arguments_sent() {
    let (ipc_main, ipc_renderer) = pair();
    let lists: [Vec<Value>; 5] = [
        vec![],
        vec![json!(1)],
        vec![json!(1), json!("2")],
        vec![json!(1), json!("2"), json!([3])],
        vec![json!(1), json!("2"), json!([3]), json!({ "4": null })],
    ];
    for list in lists {
        let (got, log) = (Log::default(), list.clone());
        let wrote = got.clone();
        ipc_main.once("x", move |_, args: Args| {
            assert_eq!(args.to_values(), log);
            wrote.add(args.len());
        });
        emit(&ipc_renderer, "x", &list[..]);
        assert_eq!(got.take(), [list.len().to_string()]);
    }
}

#[test]
fn case_092_a_listener_removed_during_an_emit_still_runs_this_time() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    let (later, wrote, inner) = (Later::default(), log.clone(), ipc_main.clone());
    let victim = later.clone();
    ipc_main.on("x", move |_, ()| {
        wrote.add(format!("a {}", inner.remove_listener("x", &victim.get())));
    });
    later.is(ipc_main.on("x", log.writes("b")));
    emit(&ipc_renderer, "x", ());
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["a true", "b", "a false"]);
}

#[test]
fn a_once_listener_removed_during_an_emit_still_runs_once() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    let (wrote, inner) = (log.clone(), ipc_main.clone());
    ipc_main.on("x", move |_, ()| {
        wrote.add("a");
        inner.remove_all_listeners(Some("x"));
    });
    ipc_main.once("x", log.writes("b"));
    ipc_main.on("x", log.writes("c"));
    emit(&ipc_renderer, "x", ());
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["a", "b", "c"]);
}

#[test]
fn a_listener_added_during_an_emit_runs_from_the_next_one_on() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    let (wrote, inner) = (log.clone(), ipc_main.clone());
    ipc_main.once("x", move |_, ()| {
        wrote.add("a");
        inner.on("x", wrote.writes("new"));
        inner.prepend_listener("x", wrote.writes("first"));
    });
    ipc_main.on("x", log.writes("b"));
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["a", "b"]);
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["first", "b", "new"]);
}

#[test]
fn a_listener_removed_and_added_again_during_an_emit_runs_once_this_time() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    let (later, wrote, inner) = (Later::default(), log.clone(), ipc_main.clone());
    let again = later.clone();
    ipc_main.once("x", move |_, ()| {
        inner.remove_listener("x", &again.get());
        inner.on("x", wrote.writes("b"));
    });
    later.is(ipc_main.on("x", log.writes("b")));
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["b"]);
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["b"]);
}

#[test]
fn case_093_removing_what_was_never_added_changes_nothing() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    let elsewhere = ipc_main.on("y", log.writes("y"));
    ipc_main.on("x", log.writes("x"));
    assert!(!ipc_main.remove_listener("x", &elsewhere), "an id of another channel");
    assert!(!ipc_main.remove_listener("nobody", &elsewhere));
    emit(&ipc_renderer, "x", ());
    emit(&ipc_renderer, "y", ());
    assert_eq!(log.take(), ["x", "y"]);
}

#[test]
fn case_097_two_listeners_that_remove_themselves_both_run_and_none_remains() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    for name in ["a", "b"] {
        let (later, wrote, inner) = (Later::default(), log.clone(), ipc_main.clone());
        let own = later.clone();
        later.is(ipc_main.on("x", move |_, ()| {
            assert!(inner.remove_listener("x", &own.get()));
            wrote.add(name);
        }));
    }
    emit(&ipc_renderer, "x", ());
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["a", "b"]);
    assert_eq!(ipc_main.listener_count("x"), 0);
}

#[test]
fn case_101_one_function_added_twice_is_two_listeners() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    let ids = [(); 2].map(|()| ipc_main.on("x", log.writes("x")));
    assert_ne!(ids[0], ids[1]);
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["x", "x"]);
    assert!(ipc_main.remove_listener("x", &ids[0]));
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["x"]);
}

#[test]
fn a_panicking_listener_is_contained_and_told_to_on_error_and_later_ones_run() {
    let (ipc_main, ipc_renderer) = pair();
    let (log, told) = (Log::default(), Log::default());
    let report = told.clone();
    ipc_main.on_error(move |report_of| {
        report.add(format!("{:?} {:?} {}", report_of.renderer, report_of.channel, report_of.error));
    });
    ipc_main.on::<(), (), _>("x", |_, ()| panic!("the first one"));
    ipc_main.on("x", log.writes("second"));
    ipc_main.on::<(), (), _>("x", |_, ()| std::panic::panic_any(Grenade));
    ipc_main.on("x", log.writes("fourth"));
    for _ in 0..2 {
        emit(&ipc_renderer, "x", ());
        assert_eq!(log.take(), ["second", "fourth"]);
        let text = |what: &str| format!("Some(1) Some(\"x\") a listener of 'x' panicked: {what}");
        assert_eq!(told.take(), [text("the first one"), text("with a value that is no text")]);
    }
    // So is a hook that panics itself.
    ipc_main.on_error(|_| panic!("the hook"));
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["second", "fourth"]);
}

struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn what_a_removed_listener_captured_is_dropped_also_if_that_calls_the_emitter_or_panics() {
    struct Calls(IpcMain, Log);
    impl Calls {
        fn touch(&self) {}
    }
    impl Drop for Calls {
        fn drop(&mut self) {
            self.1.add(format!("{:?}", self.0.event_names()));
            self.0.on("y", |_, ()| ());
        }
    }
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    let captured = Calls(ipc_main.clone(), log.clone());
    let id = ipc_main.on("x", move |_, ()| captured.touch());
    assert!(ipc_main.remove_listener("x", &id));
    assert_eq!(log.take(), ["[]"]);
    assert_eq!(ipc_main.event_names(), ["y"]);

    let captured = Calls(ipc_main.clone(), log.clone());
    ipc_main.once("x", move |_, ()| captured.touch());
    let grenade = Grenade;
    ipc_main.once("x", move |_, ()| {
        let _captured = &grenade;
    });
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["[\"y\"]"]);
    emit(&ipc_renderer, "x", ());
}

#[test]
fn listeners_may_be_added_and_removed_by_many_threads_while_messages_arrive() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    ipc_main.on("x", log.writes("x"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let ids = [ipc_main.on("x", |_, ()| ()), ipc_main.once("x", |_, ()| ())];
                    assert!(ipc_main.remove_listener("x", &ids[0]));
                    ipc_main.remove_listener("x", &ids[1]); // it may have run
                }
            });
        }
        (0..200).for_each(|_| ipc_renderer.send("x", ()).unwrap());
    });
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take().len(), 201);
    assert_eq!(ipc_main.listener_count("x"), 1);
}

// ---- adding -----------------------------------------------------------------------------------------------------

#[test]
fn case_084_what_a_builder_has_been_given_and_what_on_adds_are_of_one_list() {
    let directory = support::TempDir::new();
    let ipc_main = support::builder().runtime_dir(&*directory).build().unwrap();
    let path = ipc_main.listen("emitter").unwrap();
    let log = Log::default();
    let ipc_renderer = IpcRenderer::builder()
        .runtime_dir(&*directory)
        .on("x", log.writes_there("a"))
        .on("x", log.writes_there("b"))
        .connect_to("emitter")
        .unwrap_or_else(|error| panic!("{error} ({path:?})"));
    ipc_renderer.on("x", log.writes_there("c"));
    assert_eq!(ipc_renderer.listener_count("x"), 3);
    assert!(ipc_renderer.emit("x", ()).unwrap());
    assert_eq!(log.take(), ["a", "b", "c"]);
    assert!(ipc_renderer.listeners("x").iter().all(ListenerId::remove));
    assert!(ipc_renderer.event_names().is_empty());
}

#[test]
fn case_085_a_hook_is_told_channel_and_id_before_the_list_changes() {
    let (ipc_main, _ipc_renderer) = pair();
    let log = Log::default();
    let (ids, wrote, emitter) = (Arc::new(Mutex::new(Vec::new())), log.clone(), ipc_main.clone());
    let seen = ids.clone();
    ipc_main.on_new_listener(move |channel, id| {
        assert_eq!(id.channel(), channel);
        assert!(!emitter.listeners(channel).contains(id));
        wrote.add(format!("{channel} {}", emitter.listener_count(channel)));
        seen.lock().unwrap().push(id.clone());
    });
    let added = [
        ipc_main.on("x", |_, ()| ()),
        ipc_main.once("x", |_, ()| ()),
        ipc_main.prepend_listener("x", |_, ()| ()),
        ipc_main.prepend_once_listener("y", |_, ()| ()),
    ];
    assert_eq!(log.take(), ["x 0", "x 1", "x 2", "y 0"]);
    assert_eq!(*ids.lock().unwrap(), added);
}

#[test]
fn case_086_a_listener_that_the_hook_adds_runs_before_the_one_that_is_being_added() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    let (wrote, emitter, is_first) = (log.clone(), ipc_main.clone(), AtomicBool::new(true));
    ipc_main.on_new_listener(move |channel, _| {
        if is_first.swap(false, Ordering::Relaxed) {
            emitter.on(channel, wrote.writes("inner"));
        }
    });
    ipc_main.on("x", log.writes("outer"));
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["inner", "outer"]);
}

#[test]
fn a_hook_may_remove_what_is_there_but_not_what_is_yet_to_be_added() {
    let (ipc_main, _ipc_renderer) = pair();
    let log = Log::default();
    let old = ipc_main.on("x", log.writes("old"));
    let wrote = log.clone();
    ipc_main.on_new_listener(move |_, id| wrote.add(format!("{} {}", old.remove(), id.remove())));
    ipc_main.on("x", log.writes("new"));
    assert_eq!(log.take(), ["true false"]);
    assert!(ipc_main.emit("x", ()).unwrap());
    assert_eq!(log.take(), ["new"]);
}

#[test]
fn a_hook_that_panics_reaches_whoever_adds_and_leaves_an_emitter_that_works() {
    let (ipc_main, _ipc_renderer) = pair();
    let log = Log::default();
    let panics = Arc::new(AtomicBool::new(true));
    let once = panics.clone();
    ipc_main.on_new_listener(move |_, _| assert!(!once.swap(false, Ordering::Relaxed), "no more of them"));
    let added = catch_unwind(AssertUnwindSafe(|| ipc_main.on("x", log.writes("refused"))));
    assert_eq!(added.unwrap_err().downcast_ref(), Some(&"no more of them"));
    assert_eq!(ipc_main.listener_count("x"), 0);
    ipc_main.on("x", log.writes("added"));
    assert!(ipc_main.emit("x", ()).unwrap());
    assert_eq!(log.take(), ["added"]);
}

#[test]
fn messages_named_as_nodes_hooks_are_messages_and_no_hooks() {
    let (ipc_main, ipc_renderer) = pair();
    let (log, told) = (Log::default(), told(&ipc_main));
    let ids = ["newListener", "removeListener"].map(|name| ipc_main.on(name, log.writes(name)));
    assert_eq!(log.take(), [""; 0], "no addition is announced on a channel");
    take(&told);
    emit(&ipc_renderer, "newListener", ("x",));
    emit(&ipc_renderer, "removeListener", ("x",));
    assert_eq!(log.take(), ["newListener", "removeListener"]);
    assert_eq!(take(&told), [], "and no message is an announcement");
    assert!(ids[0].remove());
    assert_eq!(log.take(), [""; 0]);
    assert_eq!(take(&told), [("removed", "newListener".to_string(), ids[0].clone())]);
}

#[test]
fn event_names_come_in_the_order_in_which_each_channel_got_its_first_listener() {
    let (ipc_main, _ipc_renderer) = pair();
    let first = ipc_main.on("b", |_, ()| ());
    ipc_main.once("a", |_, ()| ());
    ipc_main.prepend_listener("c", |_, ()| ());
    ipc_main.prepend_listener("a", |_, ()| ());
    ipc_main.on("b", |_, ()| ());
    assert_eq!(ipc_main.event_names(), ["b", "a", "c"]);
    assert!(first.remove());
    assert_eq!(ipc_main.event_names(), ["b", "a", "c"], "one of two is no end");
    ipc_main.remove_all_listeners(Some("b"));
    ipc_main.on("b", |_, ()| ());
    assert_eq!(ipc_main.event_names(), ["a", "c", "b"], "who lost all starts afresh");
}

#[test]
fn case_109_names_that_javascript_objects_have_are_names_as_any_other() {
    let (ipc_main, _ipc_renderer) = pair();
    let log = Log::default();
    let names = ["__proto__", "toString", "constructor", "hasOwnProperty", "", "error", "ü\0\u{1F980}"];
    for name in names {
        assert_eq!(ipc_main.listener_count(name), 0);
        assert!(!ipc_main.emit(name, ()).unwrap());
        ipc_main.on(name, log.writes(name));
    }
    assert_eq!(ipc_main.event_names(), names);
    for name in names {
        assert!(ipc_main.emit(name, ()).unwrap());
        assert_eq!(log.take(), [name]);
    }
    ipc_main.remove_all_listeners(Some("__proto__"));
    assert_eq!(ipc_main.event_names(), names[1..]);
}

#[test]
fn case_112_listeners_are_listed_in_the_order_they_run_by_the_ids_that_adding_returned() {
    let (ipc_main, _ipc_renderer) = pair();
    let on = ipc_main.on("x", |_, ()| ());
    let once = ipc_main.once("x", |_, ()| ());
    let front = ipc_main.prepend_once_listener("x", |_, ()| ());
    ipc_main.on("y", |_, ()| ());
    let listed = ipc_main.listeners("x");
    assert_eq!(listed, [front, on.clone(), once.clone()]);
    assert!(ipc_main.listeners("nobody").is_empty());
    // A once-listener is listed as itself, and what is listed removes it.
    assert!(listed[2].remove() && !once.remove());
    assert_eq!(ipc_main.listeners("x").len(), 2);
    assert_eq!(listed.len(), 3, "the list was a copy");
    assert!(ipc_main.emit("x", ()).unwrap());
    assert_eq!(ipc_main.listeners("x"), [on]);
}

// ---- removing ---------------------------------------------------------------------------------------------------

#[test]
fn case_093_removing_what_is_not_there_tells_no_hook() {
    let (ipc_main, ipc_renderer) = pair();
    let told = told(&ipc_main);
    let id = ipc_main.on("x", |_, ()| ());
    let there = ipc_renderer.on("x", |_, ()| ());
    take(&told);
    assert!(!ipc_main.remove_listener("y", &id));
    assert!(!ipc_main.remove_listener("x", &there), "an id of another emitter");
    ipc_main.remove_all_listeners(Some("y"));
    assert_eq!(take(&told), []);
    assert!(ipc_main.remove_listener("x", &id));
    assert_eq!(take(&told), [("removed", "x".to_string(), id.clone())]);
    assert!(!ipc_main.remove_listener("x", &id) && !id.remove());
    ipc_main.remove_all_listeners(None);
    assert_eq!(take(&told), []);
    assert_eq!(ipc_renderer.listener_count("x"), 1);
}

#[test]
fn case_094_a_once_listener_that_fires_is_told_as_removed_by_its_id_before_it_runs() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    let (wrote, emitter, removed) = (log.clone(), ipc_main.clone(), Later::default());
    let known = removed.clone();
    ipc_main.on_remove_listener(move |channel, id| {
        assert!(*id == known.get() && !emitter.listeners(channel).contains(id));
        wrote.add(format!("removed from {channel}"));
    });
    removed.is(ipc_main.once("x", log.writes("runs")));
    emit(&ipc_renderer, "x", ());
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["removed from x", "runs"]);
}

#[test]
fn a_once_listener_removed_by_hand_during_an_emit_runs_and_is_told_as_removed_once() {
    let (ipc_main, _ipc_renderer) = pair();
    let (log, told) = (Log::default(), told(&ipc_main));
    let (later, victim) = (Later::default(), Later::default());
    let (own, other) = (later.clone(), victim.clone());
    later.is(ipc_main.on("x", move |_, ()| {
        assert!(other.get().remove() && own.get().remove());
    }));
    victim.is(ipc_main.once("x", log.writes("once")));
    take(&told);
    assert!(ipc_main.emit("x", ()).unwrap());
    assert!(!ipc_main.emit("x", ()).unwrap());
    assert_eq!(log.take(), ["once"]);
    let removed = |id: Later| ("removed", "x".to_string(), id.get());
    assert_eq!(take(&told), [removed(victim), removed(later)]);
}

#[test]
fn removing_all_tells_each_listener_in_the_reverse_order_of_the_list_and_after_it_is_gone() {
    let (ipc_main, _ipc_renderer) = pair();
    let ids = [
        ipc_main.on("x", |_, ()| ()),
        ipc_main.once("x", |_, ()| ()),
        ipc_main.on("y", |_, ()| ()),
        ipc_main.on("x", |_, ()| ()),
        ipc_main.on("y", |_, ()| ()),
    ];
    let told = told(&ipc_main);
    let emitter = ipc_main.clone();
    ipc_main.on_remove_listener(move |channel, id| assert!(!emitter.listeners(channel).contains(id)));
    let removed = |name: &str, index: usize| ("removed", name.to_string(), ids[index].clone());
    ipc_main.remove_all_listeners(Some("x"));
    assert_eq!(take(&told), [removed("x", 3), removed("x", 1), removed("x", 0)]);
    ipc_main.remove_all_listeners(None);
    assert_eq!(take(&told), [removed("y", 4), removed("y", 2)]);
    assert!(ids.iter().all(|id| !id.remove()));
}

#[test]
fn a_hook_may_put_a_listener_in_the_place_of_the_one_that_was_removed() {
    let (ipc_main, _ipc_renderer) = pair();
    let log = Log::default();
    let (wrote, emitter) = (log.clone(), ipc_main.clone());
    ipc_main.on_remove_listener(move |channel, _| {
        if emitter.listener_count(channel) == 0 {
            emitter.on(channel, wrote.writes("new"));
        }
    });
    assert!(ipc_main.on("x", log.writes("old")).remove());
    ipc_main.remove_all_listeners(None);
    assert!(ipc_main.emit("x", ()).unwrap());
    assert_eq!(log.take(), ["new"]);
}

#[test]
fn removing_one_listener_removes_no_other_and_keeps_the_order_of_the_rest() {
    let (ipc_main, _ipc_renderer) = pair();
    let log = Log::default();
    let ids = ["a", "b", "c", "d"].map(|name| ipc_main.on("x", log.writes(name)));
    assert!(ids[1].remove());
    assert!(ipc_main.emit("x", ()).unwrap());
    assert_eq!(log.take(), ["a", "c", "d"]);
    assert!(ids[3].remove() && ids[0].remove());
    assert!(ipc_main.emit("x", ()).unwrap());
    assert_eq!(log.take(), ["c"]);
}

#[test]
fn an_id_of_another_emitter_or_channel_removes_nothing_and_equals_no_other() {
    let (ipc_main, ipc_renderer) = pair();
    let frame = ipc_renderer.frame().unwrap();
    let ipc = ipc_main.all_web_contents()[0].ipc();
    // Each is the first of its emitter.
    let ids = [
        ipc_main.on("x", |_, ()| ()),
        ipc_renderer.on("x", |_, ()| ()),
        frame.on("x", |_, ()| ()),
        ipc.on("x", |_, ()| ()),
        ipc_main.on("y", |_, ()| ()),
    ];
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 5);
    for (at, id) in ids.iter().enumerate() {
        let removed = [
            ipc_main.remove_listener("x", id),
            ipc_renderer.remove_listener("x", id),
            frame.remove_listener("x", id),
            ipc.remove_listener("x", id),
            ipc_main.remove_listener("y", id),
        ];
        assert_eq!(removed, [0, 1, 2, 3, 4].map(|its| its == at), "{id:?}");
        assert!(!id.remove());
    }
}

#[test]
fn ids_are_equal_exactly_if_they_name_one_registration() {
    let (ipc_main, ipc_renderer) = pair();
    let id = ipc_main.on("x", |_, ()| ());
    let again = ipc_main.on("x", |_, ()| ());
    let there = ipc_renderer.on("x", |_, ()| ());
    assert_eq!(id, id.clone());
    assert_eq!(id, ipc_main.clone().listeners("x")[0]);
    assert_eq!((id.channel(), again.channel()), ("x", "x"));
    assert!(id != again && id != there && again != there);
    let known: HashSet<_> = [id.clone(), id.clone(), ipc_main.listeners("x").remove(0)].into();
    assert!(known.len() == 1 && !known.contains(&again) && !known.contains(&there));
    assert!(id.remove());
    assert_eq!(id, id.clone(), "also of one that is removed");
    assert_ne!(id, ipc_main.on("x", |_, ()| ()), "and no id is given twice");
}

#[test]
fn an_id_removes_from_any_thread_and_not_where_its_emitter_is_gone() {
    let (ipc_main, ipc_renderer) = pair();
    let id = ipc_main.on("x", |_, ()| ());
    let there = ipc_renderer.on("x", |_, ()| ());
    let kept = ipc_main.on("y", |_, ()| ());
    std::thread::spawn(move || assert!(id.remove() && !id.remove())).join().unwrap();
    assert_eq!(ipc_main.event_names(), ["y"]);
    drop((ipc_renderer, ipc_main));
    assert!(!kept.remove() && !there.remove());
}

#[test]
fn a_guard_removes_its_listener_when_it_is_dropped_or_unwound() {
    let (ipc_main, _ipc_renderer) = pair();
    let (log, told) = (Log::default(), told(&ipc_main));
    let guard = ipc_main.on("x", log.writes("x")).scoped();
    let (_, _, id) = take(&told).remove(0);
    assert!(ipc_main.emit("x", ()).unwrap());
    drop(guard);
    assert_eq!(take(&told), [("removed", "x".to_string(), id)]);
    assert!(!ipc_main.emit("x", ()).unwrap());
    let emitter = ipc_main.clone();
    let unwound = std::thread::spawn(move || {
        let _guard = emitter.on("x", |_, ()| ()).scoped();
        assert_eq!(emitter.listener_count("x"), 0, "unwinds");
    });
    assert!(unwound.join().is_err());
    assert_eq!(ipc_main.listener_count("x"), 0);
    assert_eq!(log.take(), ["x"]);
}

#[test]
fn a_guard_that_is_kept_leaves_its_listener_and_gives_back_its_id() {
    let (ipc_main, _ipc_renderer) = pair();
    let id = ipc_main.on("x", |_, ()| ());
    let kept = id.clone().scoped().keep();
    assert_eq!((&kept, ipc_main.listener_count("x")), (&id, 1));
    assert!(kept.remove());
    assert_eq!(ipc_main.listener_count("x"), 0);
}

#[test]
fn a_guard_whose_listener_has_been_removed_or_has_run_removes_nothing_more() {
    let (ipc_main, ipc_renderer) = pair();
    let told = told(&ipc_main);
    let removed = ipc_main.on("x", |_, ()| ());
    let guards = [removed.clone().scoped(), ipc_main.once("x", |_, ()| ()).scoped()];
    let stays = ipc_main.on("x", |_, ()| ());
    assert!(removed.remove());
    emit(&ipc_renderer, "x", ());
    assert_eq!(take(&told).len(), 5, "three additions and two removals");
    drop(guards);
    assert_eq!(take(&told), []);
    assert_eq!(ipc_main.listeners("x"), [stays]);
}

// ---- emitting here ----------------------------------------------------------------------------------------------

#[test]
fn case_091_a_listener_gets_exactly_the_arguments_that_are_emitted_here() {
    let (ipc_main, _ipc_renderer) = pair();
    let all = [json!(1), json!("2"), json!([3]), json!({ "4": null })];
    for len in 0..=all.len() {
        let (got, gets) = channel();
        ipc_main.once("x", move |_, args: Args| got.send(args.to_values()));
        assert!(ipc_main.emit("x", &all[..len]).unwrap());
        assert_eq!(gets.try_recv().unwrap(), all[..len]);
        assert!(!ipc_main.emit("x", &all[..len]).unwrap(), "it was once");
    }
}

#[test]
fn case_104_emit_says_whether_there_was_a_listener_on_every_kind_of_emitter() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let (ipc, frame, frame_ipc) = (web_contents.ipc(), ipc_renderer.frame().unwrap(), web_contents.main_frame().ipc());
    let log = Log::default();
    let emits = || {
        [
            ipc_main.emit("x", ()).unwrap(),
            ipc.emit("x", ()).unwrap(),
            frame_ipc.emit("x", ()).unwrap(),
            ipc_renderer.emit("x", ()).unwrap(),
            frame.emit("x", ()).unwrap(),
        ]
    };
    assert_eq!(emits(), [false; 5]);
    ipc_main.on("y", |_, ()| ());
    assert_eq!(emits(), [false; 5]);
    ipc_main.on("x", log.writes("main"));
    ipc.on("x", log.writes("its ipc"));
    frame_ipc.on("x", log.writes("its frame's ipc"));
    ipc_renderer.once("x", log.writes_there("renderer"));
    frame.on("x", log.writes_there("frame"));
    assert_eq!(emits(), [true; 5]);
    assert_eq!(log.take(), ["main", "its ipc", "its frame's ipc", "renderer", "frame"], "each calls its own alone");
    assert_eq!(emits(), [true, true, true, false, true]);
}

#[test]
fn case_105_error_without_listener_is_no_error() {
    let (ipc_main, ipc_renderer) = pair();
    let reported = Log::default();
    let report = reported.clone();
    ipc_main.on_error(move |told| report.add(&told.error));
    assert!(!ipc_main.emit("error", ("boom",)).unwrap());
    assert!(!ipc_renderer.emit("error", ("boom",)).unwrap());
    emit(&ipc_renderer, "error", ("boom",));
    assert_eq!(reported.take(), [""; 0]);
    let (got, gets) = channel();
    ipc_main.on("error", move |_, (text,): (String,)| got.send(text));
    assert!(ipc_main.emit("error", ("boom",)).unwrap());
    assert_eq!(gets.try_recv().unwrap(), "boom");
}

#[test]
fn emit_runs_the_listeners_on_this_thread_before_it_returns_and_sends_nothing() {
    let (ipc_main, ipc_renderer) = pair();
    let ran: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
    let (here, there) = (ran.clone(), ran.clone());
    ipc_main.on("x", move |_, ()| here.lock().unwrap().push(std::thread::current().id()));
    ipc_renderer.on("x", move |_, ()| there.lock().unwrap().push(std::thread::current().id()));
    let this = std::thread::current().id();
    assert!(ipc_main.emit("x", ()).unwrap());
    assert_eq!(std::mem::take(&mut *ran.lock().unwrap()), [this]);
    assert!(ipc_renderer.emit("x", ()).unwrap());
    assert_eq!(std::mem::take(&mut *ran.lock().unwrap()), [this]);
    let sent = [ipc_renderer.stats().messages_sent, ipc_main.all_web_contents()[0].stats().messages_sent];
    assert_eq!(sent, [0, 0]);
    emit(&ipc_renderer, "x", ());
    let dispatcher = std::mem::take(&mut *ran.lock().unwrap());
    assert!(dispatcher.len() == 1 && dispatcher[0] != this, "a message runs on the dispatcher");
}

#[test]
fn an_event_says_whether_it_was_emitted_here_and_what_it_answers_then_goes_nowhere() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    let wrote = log.clone();
    ipc_main.on("x", move |event, ()| {
        let sender = event.sender();
        assert_eq!(sender.is_connected(), !event.is_local());
        wrote.add(format!("{} {} {}", event.is_local(), event.is_synchronous(), sender.id()));
        event.reply("back", ()).unwrap();
        event.set_return_value(1).unwrap(); // the caller goes on
    });
    let wrote = log.clone();
    ipc_renderer.on("x", move |event, ()| {
        event.reply("back", ()).unwrap();
        wrote.add(format!("{} from {}", event.is_local(), event.sender_id()));
    });
    let (back, backs) = channel();
    ipc_renderer.on("back", move |_, ()| back.send(()));
    let wrote = log.clone();
    ipc_main.on("back", move |_, ()| wrote.add("back"));

    assert!(ipc_main.emit("x", ()).unwrap());
    assert_eq!(log.take(), ["true false 0"]);
    assert!(ipc_renderer.emit("x", ()).unwrap());
    assert_eq!(log.take(), ["true from 0"]);
    emit(&ipc_renderer, "x", ());
    assert_eq!(log.take(), ["false false 1"], "no reply to what was emitted has come before");
    assert_eq!(ipc_renderer.send_sync_timeout::<i64>("x", (), PATIENCE).unwrap(), 1);
    assert_eq!(log.take(), ["false true 1"]);
    renderer_has_run_all(&ipc_main.all_web_contents()[0]);
    assert_eq!(backs.try_iter().count(), 2, "a reply to each message, and none to what was emitted");
}

#[test]
fn what_is_emitted_at_the_receiver_of_one_renderer_has_it_as_its_sender_and_replies_to_nobody() {
    let (ipc_main, ipc_renderer) = pair();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let ipc = web_contents.ipc();
    let (got, gets) = channel();
    ipc.on("x", move |event, ()| {
        event.reply("back", ()).unwrap();
        got.send((event.sender().id(), event.frame_id(), event.is_local()))
    });
    let (back, backs) = channel();
    ipc_renderer.on("back", move |_, ()| back.send(()));
    assert!(ipc.emit("x", ()).unwrap());
    assert_eq!(gets.try_recv().unwrap(), (ipc_renderer.id(), 1, true));
    assert_eq!(web_contents.stats().messages_sent, 0);
    renderer_has_run_all(&web_contents);
    assert_eq!(backs.try_iter().count(), 0);
}

#[test]
fn a_reply_to_what_main_emitted_is_no_undeliverable_message_and_its_sender_takes_none() {
    let (ipc_main, ipc_renderer) = pair();
    let (report, reports) = channel();
    ipc_main.on_error(move |told| drop(report.send(told.error.to_string())));
    let (refused, refusals) = channel();
    ipc_main.on("x", move |event, ()| {
        event.reply("back", ()).unwrap();
        refused.send(event.sender().send("x", ()).unwrap_err())
    });
    assert!(ipc_main.emit("x", ()).unwrap());
    let error = refusals.try_recv().unwrap();
    let text = "this event was emitted by this process itself: no renderer is behind it";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Disconnected, text.into()));
    emit(&ipc_renderer, "y", ());
    assert!(ipc_main.web_contents(0).is_none());
    assert_eq!(reports.try_iter().collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_nested_emit_runs_to_its_end_before_the_outer_one_goes_on() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    for name in ["a", "b"] {
        let (wrote, emitter) = (log.clone(), ipc_main.clone());
        ipc_main.on("outer", move |_, ()| {
            wrote.add(format!("{name} begins"));
            assert!(emitter.emit("inner", ()).unwrap());
            wrote.add(format!("{name} ends"));
        });
        ipc_main.on("inner", log.writes(&format!("inner {name}")));
    }
    let all = ["a begins", "inner a", "inner b", "a ends", "b begins", "inner a", "inner b", "b ends"];
    assert!(ipc_main.emit("outer", ()).unwrap());
    assert_eq!(log.take(), all);
    emit(&ipc_renderer, "outer", ());
    assert_eq!(log.take(), all, "inside a message too");
}

#[test]
fn a_once_listener_that_emits_its_own_channel_runs_once_and_those_after_it_twice() {
    let (ipc_main, _ipc_renderer) = pair();
    let log = Log::default();
    let (wrote, emitter) = (log.clone(), ipc_main.clone());
    ipc_main.once("x", move |_, ()| {
        wrote.add("once");
        assert!(emitter.emit("x", ()).unwrap());
    });
    ipc_main.once("x", log.writes("once more"));
    ipc_main.on("x", log.writes("on"));
    assert!(ipc_main.emit("x", ()).unwrap());
    // As in Node: the inner emit has run the second once-listener, whose turn in the outer one finds it fired.
    assert_eq!(log.take(), ["once", "once more", "on", "on"]);
}

#[test]
fn a_once_listener_runs_once_however_many_threads_emit() {
    let (ipc_main, ipc_renderer) = pair();
    let (ran, always) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = always.clone();
    ipc_main.on("x", move |_, ()| counted.fetch_add(1, Ordering::Relaxed));
    for round in 1..=50 {
        let counted = ran.clone();
        ipc_main.once("x", move |_, ()| counted.fetch_add(1, Ordering::Relaxed));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert!(ipc_main.emit("x", ()).unwrap()));
            }
            emit(&ipc_renderer, "x", ());
        });
        assert_eq!((ran.load(Ordering::Relaxed), always.load(Ordering::Relaxed)), (round, 4 * round));
    }
    assert_eq!(ipc_main.listener_count("x"), 1);
}

#[test]
fn an_emit_here_waits_for_no_listener_that_the_dispatcher_runs() {
    let (ipc_main, ipc_renderer) = pair();
    let (gate, log) = (Gate::default(), Log::default());
    let (held, wrote) = (gate.clone(), log.clone());
    ipc_main.on("x", move |event, ()| {
        wrote.add(event.is_local());
        if !event.is_local() {
            held.wait();
        }
    });
    ipc_renderer.send("x", ()).unwrap();
    gate.reached();
    let emitter = ipc_main.clone();
    assert!(bounded("an emit", move || emitter.emit("x", ()).unwrap()));
    assert_eq!(log.take(), ["false", "true"]);
    gate.open();
}

#[test]
fn what_cannot_be_sent_cannot_be_emitted_and_nothing_is_called() {
    let (ipc_main, ipc_renderer) = pair();
    let log = Log::default();
    ipc_main.on("x", log.writes("main"));
    ipc_renderer.once("x", log.writes_there("renderer"));
    for error in [ipc_main.emit("x", (1, f64::NAN)).unwrap_err(), ipc_renderer.emit("x", (1, f64::NAN)).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidValue);
        assert_eq!(error.to_string(), "args[1]: NaN is not a JSON number");
    }
    assert_eq!(log.take(), [""; 0]);
    assert_eq!(ipc_renderer.listener_count("x"), 1);
}

#[test]
fn a_listener_that_panics_or_does_not_take_what_is_emitted_is_told_to_on_error_and_later_ones_run() {
    let (ipc_main, _ipc_renderer) = pair();
    let log = Log::default();
    let (report, reports) = channel();
    ipc_main.on_error(move |told| drop(report.send((told.channel.clone(), told.error.to_string()))));
    ipc_main.on::<(), (), _>("x", |_, ()| panic!("contained"));
    ipc_main.on("x", |_, (_,): (u8,)| ());
    ipc_main.on("x", log.writes("third"));
    assert!(ipc_main.emit("x", ("text",)).unwrap());
    assert_eq!(log.take(), ["third"]);
    let texts = [
        "a listener of 'x' panicked: contained",
        "the arguments do not fit what a listener of 'x' takes: args[0]: invalid type: string \"text\", expected u8",
    ];
    for text in texts {
        assert_eq!(next(&reports, "the report"), (Some("x".to_string()), text.to_string()));
    }
}

#[test]
fn what_has_ended_emits_to_nobody_and_takes_no_listener() {
    let (_ipc_main, ipc_renderer) = pair();
    let frame = ipc_renderer.frame().unwrap();
    let kept = Arc::new(());
    let captured = kept.clone();
    frame.on("x", move |_, ()| drop(captured.clone()));
    assert!(frame.emit("x", ()).unwrap());
    frame.close(PATIENCE).unwrap();
    assert!(!frame.emit("x", ()).unwrap());
    let captured = kept.clone();
    let id = frame.on("x", move |_, ()| drop(captured.clone()));
    assert!(!frame.emit("x", ()).unwrap());
    assert_eq!((frame.listener_count("x"), id.remove()), (0, false));
    assert_eq!(Arc::strong_count(&kept), 1, "and keeps nothing that they have captured");
}

// ---- leaks ------------------------------------------------------------------------------------------------------

/// Runs `role` in a child and returns what it wrote to stderr.
fn stderr_of(role: &str) -> String {
    let mut command: Command = child(role);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let output = bounded("a child", move || command.output().unwrap());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// The warnings of a child that plays `role`, whole.
fn warnings_of(role: &str) -> Vec<String> {
    let text = stderr_of(role);
    text.lines().filter(|line| line.contains("memory leak")).map(str::to_string).collect()
}

fn warning(count: usize, channel: &str, emitter: &str, max: usize) -> String {
    format!(
        "MaxListenersExceededWarning: Possible EventEmitter memory leak detected. {count} {channel} listeners added to \
         [{emitter}]. MaxListeners is {max}. Use set_max_listeners() to increase limit"
    )
}

fn leak() {
    let (ipc_main, ipc_renderer) = pair();
    assert_eq!((ipc_main.max_listeners(), ipc_renderer.max_listeners()), (10, 10));
    for _ in 0..13 {
        ipc_main.on("much heard", |_, ()| ());
    }
    assert_eq!(ipc_main.listener_count("much heard"), 13, "it is only a warning");
    for _ in 0..10 {
        ipc_main.on("heard", |_, ()| ());
        ipc_renderer.on("much heard", |_, ()| ());
    }
    ipc_renderer.set_max_listeners(2);
    assert_eq!((ipc_main.max_listeners(), ipc_renderer.max_listeners()), (10, 2));
    ipc_renderer.on("little", |_, ()| ());
    ipc_renderer.once("little", |_, ()| ());
    ipc_renderer.prepend_listener("little", |_, ()| ());
    ipc_renderer.prepend_once_listener("little", |_, ()| ());
    // Another channel, and the same channel of another emitter, is warned of for itself.
    let ipc = ipc_main.all_web_contents()[0].ipc();
    for _ in 0..12 {
        ipc_main.once("heard once", |_, ()| ());
        ipc.on("much heard", |_, ()| ());
    }
    // As in Node: a channel that has lost all its listeners starts afresh.
    ipc_main.remove_all_listeners(Some("much heard"));
    for _ in 0..12 {
        ipc_main.on("much heard", |_, ()| ());
    }
}

fn no_leak() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.set_max_listeners(0);
    ipc_renderer.set_max_listeners(1000);
    for _ in 0..1000 {
        ipc_main.on("x", |_, ()| ());
        ipc_renderer.on("x", |_, ()| ());
    }
    assert_eq!((ipc_main.listener_count("x"), ipc_renderer.listener_count("x")), (1000, 1000));
    for _ in 0..100 {
        let _guard = ipc_main.on("y", |_, ()| ()).scoped();
    }
}

#[test]
fn case_106_the_eleventh_listener_of_a_channel_is_warned_of_once_by_each_emitter_and_added() {
    let on_stderr = |text: String| format!("ringmain: {text}");
    let expected = [
        warning(11, "much heard", "IpcMain", 10),
        warning(3, "little", "IpcRenderer", 2),
        warning(11, "heard once", "IpcMain", 10),
        warning(11, "much heard", "WebContents.ipc", 10),
        warning(11, "much heard", "IpcMain", 10),
    ];
    assert_eq!(warnings_of("leak"), expected.map(on_stderr));
}

#[test]
fn case_107_with_the_limit_0_or_a_high_one_there_is_no_warning() {
    assert_eq!(warnings_of("no leak"), [""; 0]);
}

/// Keeps what is logged.
struct Logger {
    records: Mutex<Vec<(log::Level, String, String)>>,
    panics: bool,
}

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let (target, text) = (record.target().to_string(), record.args().to_string());
        self.records.lock().unwrap().push((record.level(), target, text));
        assert!(!self.panics, "the logger is broken");
    }

    fn flush(&self) {}
}

/// What a logger is told of twelve listeners of one channel.
fn logged(max_level: log::LevelFilter, panics: bool) -> Vec<(log::Level, String, String)> {
    let logger: &Logger = Box::leak(Box::new(Logger { records: Mutex::default(), panics }));
    log::set_logger(logger).unwrap();
    log::set_max_level(max_level);
    let (ipc_main, ipc_renderer) = pair();
    for _ in 0..12 {
        ipc_main.on("x", |_, ()| ());
    }
    assert_eq!(ipc_main.listener_count("x"), 12);
    emit(&ipc_renderer, "y", ());
    std::mem::take(&mut *logger.records.lock().unwrap())
}

fn leak_to_a_logger() {
    let told = (log::Level::Warn, "ringmain".to_string(), warning(11, "x", "IpcMain", 10));
    assert_eq!(logged(log::LevelFilter::Warn, false), [told]);
}

fn leak_to_a_logger_that_wants_errors_alone() {
    assert_eq!(logged(log::LevelFilter::Error, false), []);
}

fn leak_to_a_logger_that_panics() {
    assert_eq!(logged(log::LevelFilter::Warn, true).len(), 1);
}

#[test]
fn where_a_logger_is_installed_the_warning_goes_to_it_and_not_to_stderr() {
    for role in ["leak to a logger", "leak to a logger that wants errors alone"] {
        assert_eq!(warnings_of(role), [""; 0], "{role}");
    }
}

#[test]
fn a_logger_that_panics_ends_nothing_and_the_listener_is_added() {
    assert_eq!(warnings_of("leak to a logger that panics"), [""; 0]);
}
