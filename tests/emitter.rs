//! Listeners by the rules of Node's EventEmitter, seen through messages. A number in a name is that of the case in the
//! list of Electron's own behaviour.
#![allow(missing_docs)]

mod support;

use ringmain::{Args, IpcMain, IpcMainEvent, IpcRenderer, ListenerId};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use support::{PATIENCE, bounded, child, pair};

#[test]
fn children() {
    support::play(&[("leak", leak), ("no leak", no_leak)]);
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
}

/// Sends and waits until main has run every listener of it.
fn emit(ipc_renderer: &IpcRenderer, channel: &str, args: impl ringmain::IntoArgs) {
    ipc_renderer.send(channel, args).unwrap();
    let answered = ipc_renderer.invoke::<()>("emitted", ()).timeout(PATIENCE).wait();
    assert_eq!(answered.unwrap_err().kind(), ringmain::ErrorKind::NoHandler);
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
fn case_044_and_056_fresh_emitters_have_no_event_names() {
    let (ipc_main, ipc_renderer) = pair();
    // Electron's main has `error`, a guard of which this crate has no need.
    assert!(ipc_main.event_names().is_empty() && ipc_renderer.event_names().is_empty());
    assert_eq!((ipc_main.listener_count("error"), ipc_renderer.listener_count("error")), (0, 0));
}

#[test]
fn case_046_047_and_057_one_channel_is_cleared_or_all_on_either_side() {
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
    // 114: a channel that nobody listens on clears nothing.
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
fn case_088_a_once_listener_that_panics_is_gone_all_the_same() {
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

/// Runs `role` in a child and returns what it wrote to stderr.
fn stderr_of(role: &str) -> String {
    let mut command: Command = child(role);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let output = bounded("a child", move || command.output().unwrap());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

fn leak() {
    let (ipc_main, ipc_renderer) = pair();
    for _ in 0..13 {
        ipc_main.on("much heard", |_, ()| ());
    }
    for _ in 0..10 {
        ipc_main.on("heard", |_, ()| ());
        ipc_renderer.on("much heard", |_, ()| ());
    }
    ipc_renderer.set_max_listeners(2);
    for _ in 0..4 {
        ipc_renderer.on("little", |_, ()| ());
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
}

#[test]
fn case_106_the_eleventh_listener_of_a_channel_is_warned_of_once_and_added() {
    let text = stderr_of("leak");
    let warnings: Vec<_> = text.lines().filter(|line| line.contains("memory leak")).collect();
    assert_eq!(warnings.len(), 2, "{text}");
    assert!(
        warnings[0].contains("11 much heard listeners added to [IpcMain]. MaxListeners is 10. Use set_max_listeners()"),
        "{text}"
    );
    assert!(warnings[1].contains("3 little listeners added to [IpcRenderer]. MaxListeners is 2."), "{text}");
}

#[test]
fn case_107_with_the_limit_0_or_a_high_one_there_is_no_warning() {
    let text = stderr_of("no leak");
    assert!(!text.contains("memory leak"), "{text}");
}
