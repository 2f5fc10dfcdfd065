//! Faults that were found once, each with what holds since.
#![allow(missing_docs)]

mod support;

use ringmain::{Args, ErrorKind, HandlerError, IpcMain, IpcMainEvent, IpcMainInvokeEvent, IpcRenderer};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::future::pending;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use support::{EARLY, Gate, PATIENCE, Puppet, gone, ipc_main, next, pair, pair_of, until};

#[test]
fn children() {
    support::play(&[("puppet", support::puppet)]);
}

/// Tells when it is dropped.
struct OnDrop<T: Copy>(std::sync::mpsc::Sender<T>, T);

impl<T: Copy> Drop for OnDrop<T> {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

#[test]
fn an_answer_that_lies_in_the_ring_when_the_deadline_comes_counts() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_renderer.handle("answers", |_, ()| Ok(7)).unwrap();
    let (cancelled, is_cancelled) = channel();
    ipc_renderer
        .handle_async("never", move |_, (round,): (u64,)| {
            let told = OnDrop(cancelled.clone(), round);
            async move {
                let _told = told;
                pending::<Result<(), HandlerError>>().await
            }
        })
        .unwrap();
    let web_contents = ipc_main.all_web_contents().remove(0);
    // On a busy machine the answer itself may come too late, or the other call's time may be over before its handler has
    // started, which then never does: then with more time.
    let counts = [50, 500, 5000].into_iter().any(|round| {
        let deadline = Duration::from_millis(round);
        // Nobody polls either of them, so nobody is rung for the answer; the second deadline shows that the first is over.
        let answered = web_contents.invoke::<i64>("answers", (), deadline);
        let unanswered = web_contents.invoke::<()>("never", (round,), deadline * 2);
        // What an earlier round has left behind does not count.
        let is_over = std::iter::from_fn(|| is_cancelled.recv_timeout(deadline * 6).ok()).any(|of| of == round);
        assert_eq!(unanswered.wait().unwrap_err().kind(), ErrorKind::Timeout);
        is_over && answered.wait().is_ok_and(|answer| answer == 7)
    });
    assert!(counts);
}

#[test]
fn what_was_sent_before_a_renderer_with_lower_limits_connected_is_dropped_and_told_and_cuts_nobody() {
    let ipc_main = ipc_main();
    let gone = gone(&ipc_main);
    let (told, tells) = channel();
    ipc_main.on_error(move |report| {
        let _ = told.send((report.renderer, report.channel.clone(), report.error.kind()));
    });
    let mut sender = Puppet::spawn(&ipc_main);
    let mut late = Puppet::spawn_unconnected_with_max_values(&ipc_main, 10);
    let list = vec![0; 50];
    late.web_contents().send(EARLY, &list[..]).unwrap();
    sender.send_to(1, late.id(), 1, EARLY, json!(list)).unwrap();
    sender.invoke_main(1, "nobody handles this", json!([])).unwrap_err(); // so main has handed it on
    let call = late.web_contents().invoke::<Value>("echo", &list[..], PATIENCE);
    late.web_contents().send(EARLY, (1,)).unwrap();
    late.connect();
    assert_eq!(late.next_got().args, json!([1]), "what it takes arrives");
    let early = Some(EARLY.to_string());
    let mut told = [next(&tells, "the first report"), next(&tells, "the second report")];
    told.sort_by_key(|(renderer, ..)| *renderer);
    let expected = [sender.id(), late.id()].map(|id| (Some(id), early.clone(), ErrorKind::InvalidValue));
    assert_eq!(told, expected);
    assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::InvalidValue);
    late.barrier();
    assert!(gone.try_recv().is_err(), "nobody was cut");
    assert_eq!(sender.stats().undeliverable, 1);
}

#[test]
fn a_large_message_of_another_renderer_leaves_mains_own_queue_to_main() {
    let ipc_main = support::builder().queue_limit(1 << 20).build().unwrap();
    let (busy, other) = (ipc_main.attach().unwrap(), ipc_main.attach().unwrap());
    let gate = Gate::default();
    let held = gate.clone();
    busy.on("hold", move |_, ()| held.wait());
    let (got, gots) = channel();
    busy.on("x", move |_, args: Args| got.send(args.len()));
    let web_contents = ipc_main.web_contents(busy.id()).unwrap();
    web_contents.send("hold", ()).unwrap();
    gate.reached();
    other.send_to(busy.id(), "x", ("x".repeat(8 << 20),)).unwrap();
    until("the large message waits", || web_contents.stats().queued_bytes > 4 << 20);
    web_contents.send("x", (1, 2)).expect("main's own share is untouched");
    gate.open();
    assert_eq!([next(&gots, "the large one"), next(&gots, "main's own")], [1, 2]);
}

#[test]
fn a_call_that_fails_cuts_no_link_on_which_hardly_any_values_may_travel() {
    let (ipc_main, ipc_renderer) = pair_of(support::builder().max_values(1));
    let web_contents = ipc_main.all_web_contents().remove(0);
    for _ in 0..2 {
        // The record of an error has six values.
        let to_main = web_contents.invoke::<()>("nobody", (), PATIENCE).wait().unwrap_err();
        let to_renderer = ipc_renderer.invoke::<()>("nobody", ()).wait().unwrap_err();
        assert_eq!((to_main.kind(), to_renderer.kind()), (ErrorKind::NoHandler, ErrorKind::NoHandler));
    }
}

#[test]
fn an_error_hook_that_makes_errors_is_not_told_of_them() {
    let (ipc_main, ipc_renderer) = pair();
    let (told, tells) = channel();
    let emitter = ipc_main.clone();
    ipc_main.on("error-log", |_, (_number,): (i64,)| ());
    ipc_main.on_error(move |report| {
        told.send(report.error.to_string()).unwrap();
        emitter.emit("error-log", ("no number",)).unwrap();
    });
    ipc_main.on("x", |_, (_number,): (i64,)| ());
    for _ in 0..3 {
        ipc_renderer.send("x", ("no number either",)).unwrap();
        assert!(next(&tells, "the report").contains("a listener of 'x'"));
    }
    ipc_renderer.invoke::<()>("nobody", ()).wait().unwrap_err();
    assert!(tells.try_recv().is_err());
}

#[test]
fn an_error_hook_may_take_a_lock_that_the_listener_holds_which_replies_to_a_closed_frame() {
    let (ipc_main, ipc_renderer) = pair();
    let lock = Arc::new(Mutex::new(()));
    let (told, tells) = channel();
    let hooks = lock.clone();
    ipc_main.on_error(move |report| {
        let _guard = hooks.lock().unwrap();
        told.send(report.error.kind()).unwrap();
    });
    let kept = Arc::new(OnceLock::<IpcMainEvent>::new());
    let keeps = kept.clone();
    ipc_main.on("keep", move |event: &IpcMainEvent, ()| keeps.set(event.clone()).is_ok());
    ipc_main.on("reply", move |_, ()| {
        let _guard = lock.lock().unwrap();
        kept.get().unwrap().reply("late", ()).unwrap();
    });
    let frame = ipc_renderer.frame().unwrap();
    frame.send("keep", ()).unwrap();
    drop(frame);
    ipc_renderer.send("reply", ()).unwrap();
    assert_eq!(next(&tells, "the report"), ErrorKind::Undeliverable);
}

#[test]
fn nothing_registered_on_the_frame_of_a_local_event_is_kept() {
    let ipc_main = ipc_main();
    let (dropped, is_dropped) = channel();
    ipc_main.on("x", move |event: &IpcMainEvent, ()| {
        let captured = (event.clone(), OnDrop(dropped.clone(), ()));
        event.sender_frame().ipc().on("never", move |_, ()| {
            let _captured = &captured;
        });
        assert!(event.sender_frame().is_detached());
    });
    assert!(ipc_main.emit("x", ()).unwrap());
    next(&is_dropped, "the drop of what was captured");
}

#[test]
fn a_call_that_begins_while_its_frame_is_being_closed_fails_and_its_handler_does_not_run_on() {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle_async("never", |_: IpcMainInvokeEvent, _: Args| pending::<Result<(), HandlerError>>()).unwrap();
    for round in 0..2000_u32 {
        let frame = ipc_renderer.frame().unwrap();
        let barrier = std::sync::Barrier::new(2);
        let error = std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                barrier.wait();
                frame.clone().invoke::<()>("never", ()).timeout(PATIENCE).wait().unwrap_err()
            });
            barrier.wait();
            (0..round % 200).for_each(|_| std::hint::spin_loop());
            frame.close(PATIENCE).unwrap();
            call.join().unwrap()
        });
        assert_eq!(error.kind(), ErrorKind::Disconnected, "round {round}: {error}");
    }
    ipc_renderer.invoke::<()>("after", ()).wait().unwrap_err();
    until("nothing runs for the closed frames", || ipc_main.all_web_contents()[0].stats().open_requests == 0);
}

/// Closes its frame while it is serialized.
struct Closes(IpcRenderer);

impl Serialize for Closes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.close(PATIENCE).unwrap();
        serializer.serialize_u8(1)
    }
}

#[test]
fn a_call_whose_frame_is_closed_while_it_is_encoded_is_not_sent() {
    let (ipc_main, ipc_renderer) = pair();
    let (started, starts) = channel();
    ipc_main.handle("counts", move |_, _: Args| Ok(started.send(())?)).unwrap();
    let frame = ipc_renderer.frame().unwrap();
    let error = frame.invoke::<()>("counts", (Closes(frame.clone()),)).timeout(PATIENCE).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert_eq!(error.to_string(), "frame 2 was closed");
    ipc_renderer.invoke::<()>("after", ()).wait().unwrap_err();
    assert!(starts.try_recv().is_err());
}

#[test]
fn a_call_of_main_to_a_frame_that_is_closed_fails_at_once_and_its_handler_is_cancelled() {
    let (ipc_main, ipc_renderer) = pair();
    let panel = ipc_renderer.frame().unwrap();
    let (started, starts) = channel();
    panel
        .handle_async("never", move |event, ()| {
            started.send(event).unwrap();
            pending::<Result<(), HandlerError>>()
        })
        .unwrap();
    panel.invoke::<()>("main knows the frame", ()).wait().unwrap_err();
    let web_contents = ipc_main.all_web_contents().remove(0);
    let call = web_contents.frame(panel.frame_id()).unwrap().invoke::<()>("never", (), PATIENCE);
    let event = next(&starts, "the call");
    panel.close(PATIENCE).unwrap();
    // At once, unless it is only just starting: then by main, which learns of the end too.
    until("the handler is cancelled", || event.is_cancelled());
    assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(web_contents.stats().pending_calls, 0);
}

#[test]
fn a_panic_in_an_async_handler_is_told_to_on_error_too() {
    let (ipc_main, ipc_renderer) = pair();
    let (told, tells) = channel();
    ipc_main.on_error(move |report| drop(told.send((report.channel.clone(), report.error.to_string()))));
    ipc_main.handle_async::<(), (), _, _>("p", |_, ()| async { panic!("in async") }).unwrap();
    assert_eq!(ipc_renderer.invoke::<()>("p", ()).wait().unwrap_err().kind(), ErrorKind::HandlerPanicked);
    let expected = (Some("p".to_string()), "the handler of 'p' panicked: in async".to_string());
    assert_eq!(next(&tells, "the report"), expected);
}

#[test]
fn a_policy_that_holds_its_main_is_dropped_with_it() {
    let (dropped, is_dropped) = channel();
    let main = Arc::new(OnceLock::<IpcMain>::new());
    let captured = (main.clone(), OnDrop(dropped, ()));
    let (ipc_main, ipc_renderer) = pair_of(support::builder().allow_route(move |_| {
        let (main, _told) = &captured;
        main.get().is_some()
    }));
    main.set(ipc_main.clone()).unwrap();
    ipc_renderer.send_to(ipc_renderer.id(), "x", ()).unwrap();
    drop(main);
    drop(ipc_main);
    next(&is_dropped, "the drop of the policy");
}

#[test]
fn what_a_removed_listener_captured_is_gone_before_the_next_handler_runs() {
    let (ipc_main, ipc_renderer) = pair();
    let gate = Gate::default();
    let waits = gate.clone();
    ipc_main.on("hold", move |_: &IpcMainEvent, ()| waits.wait());
    let (kept, keeps) = channel::<()>();
    let id = ipc_main.on("data", move |_: &IpcMainEvent, ()| drop(kept.clone()));
    let (once, onces) = channel::<()>();
    ipc_main.once("last", move |_: &IpcMainEvent, ()| drop(once.clone()));
    let (keeps, onces) = (Mutex::new(keeps), Mutex::new(onces));
    // Blocks main's dispatcher as long as anybody holds what the listeners captured.
    let is_closed = |end: &Mutex<std::sync::mpsc::Receiver<()>>| {
        end.lock().unwrap().recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
    };
    ipc_main
        .handle("stop", move |_, ()| {
            assert!(id.remove());
            Ok((is_closed(&keeps), is_closed(&onces)))
        })
        .unwrap();
    // All of it waits, so that main reads it in one turn.
    ipc_renderer.send("hold", ()).unwrap();
    gate.reached();
    for channel in ["last", "data", "data", "data"] {
        ipc_renderer.send(channel, ()).unwrap();
    }
    let stopped = ipc_renderer.invoke::<(bool, bool)>("stop", ());
    gate.open();
    assert_eq!(stopped.wait().unwrap(), (true, true));
}

/// It had joined the quiet ones while the other one talked; a main that spins looked at those only beside others.
#[test]
fn a_quiet_renderer_is_answered_by_a_main_that_spins_when_the_one_that_talked_is_gone() {
    let ipc_main = support::builder().wait(ringmain::Wait::Spin).build().unwrap();
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let gone = gone(&ipc_main);
    let (quiet, talks) = (ipc_main.attach().unwrap(), ipc_main.attach().unwrap());
    let sum = |renderer: &IpcRenderer| renderer.invoke::<i64>("add", (1, 2)).timeout(PATIENCE).wait().unwrap();
    for _ in 0..3 {
        assert_eq!(sum(&quiet), 3);
        (0..1000).for_each(|_| assert_eq!(sum(&talks), 3));
    }
    talks.close(PATIENCE).unwrap();
    next(&gone, "its end");
    assert_eq!(sum(&quiet), 3);
}
