//! Calls in flight: many at once, from threads and from futures, cancelled, timed out, late, lost.
#![allow(missing_docs)]

mod support;

use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::join_all;
use ringmain::{ErrorKind, HandlerError, Invoke, IpcMain, IpcMainInvokeEvent, IpcRenderer, Result, Wait};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use support::{Gate, PATIENCE, bounded, next, pair, pair_of, spawn, until, until_disconnected};

#[test]
fn children() {
    support::play(&[
        ("stress adaptive", || stress_from_a_child(Wait::Adaptive, CALLS)),
        ("stress spin", || stress_from_a_child(Wait::Spin, CALLS_SPINNING)),
        ("stress park", || stress_from_a_child(Wait::Park, CALLS)),
        ("caller", caller),
    ]);
}

fn with_add() -> (IpcMain, IpcRenderer) {
    let (ipc_main, ipc_renderer) = pair();
    add(&ipc_main);
    (ipc_main, ipc_renderer)
}

fn add(ipc_main: &IpcMain) {
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
}

/// Tells when it is dropped.
struct Dropped(Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// What was started, and when its futures are dropped.
type Handled = (Receiver<IpcMainInvokeEvent>, Receiver<()>);

/// A handler `never` that never answers: what was started, and when its futures are dropped.
fn never(ipc_main: &IpcMain) -> Handled {
    let (start, starts) = channel();
    let (drop, drops) = channel();
    ipc_main
        .handle_async("never", move |event, ()| {
            start.send(event).unwrap();
            let guard = Dropped(drop.clone());
            async move {
                let _guard = guard;
                std::future::pending::<Result<(), HandlerError>>().await
            }
        })
        .unwrap();
    (starts, drops)
}

// ---- many -------------------------------------------------------------------------------------------------------

/// A call each way, polled once, that nobody answers; with what [`never`] tells of main's.
fn polled_calls() -> ((IpcMain, IpcRenderer), [Invoke<()>; 2], Handled) {
    let (ipc_main, ipc_renderer) = pair();
    let handled = never(&ipc_main);
    let web_contents = ipc_main.all_web_contents().remove(0);
    ipc_renderer.handle_async("never", |_, ()| std::future::pending::<Result<(), HandlerError>>()).unwrap();
    let mut calls = [ipc_renderer.invoke("never", ()), web_contents.invoke("never", (), PATIENCE)];
    for call in &mut calls {
        assert!(Pin::new(call).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    ((ipc_main, ipc_renderer), calls, handled)
}

#[test]
fn thousands_of_futures_from_many_threads_are_answered_each_with_its_own() {
    let (_ipc_main, ipc_renderer) = with_add();
    std::thread::scope(|scope| {
        for thread in 0..4i64 {
            let ipc_renderer = &ipc_renderer;
            scope.spawn(move || {
                let calls =
                    (0..1000).map(|n| ipc_renderer.invoke::<i64>("add", (thread * 10_000, n)).timeout(PATIENCE));
                let sums = block_on(join_all(calls.collect::<Vec<_>>()));
                for (n, sum) in sums.into_iter().enumerate() {
                    assert_eq!(sum.unwrap(), thread * 10_000 + n as i64);
                }
            });
        }
    });
    let stats = ipc_renderer.stats();
    assert_eq!((stats.pending_calls, stats.late_replies, stats.messages_received), (0, 0, 4000));
}

#[test]
fn thousands_of_calls_run_at_the_same_time() {
    const CALLS: usize = 5000;
    let (ipc_main, ipc_renderer) = pair();
    let waiting = Arc::new(Mutex::new(Vec::new()));
    ipc_main
        .handle_async("meet", move |_, (n,): (usize,)| {
            let (go, goes) = oneshot::channel();
            let mut all = waiting.lock().unwrap();
            all.push(go);
            if all.len() == CALLS {
                // The last one lets all of them go, the latest first.
                all.drain(..).rev().for_each(|go| go.send(()).unwrap());
            }
            async move { Ok(goes.await.map(|()| n)?) }
        })
        .unwrap();
    let calls: Vec<_> = (0..CALLS).map(|n| ipc_renderer.invoke::<usize>("meet", (n,)).timeout(PATIENCE)).collect();
    let numbers = block_on(join_all(calls));
    assert!(numbers.into_iter().map(Result::unwrap).eq(0..CALLS));
    until("all requests have ended", || ipc_main.all_web_contents()[0].stats().open_requests == 0);
}

#[test]
fn a_future_and_a_thread_may_wait_for_calls_in_any_order() {
    let (_ipc_main, ipc_renderer) = with_add();
    let mut calls: Vec<_> = (0..100).map(|n| Some(ipc_renderer.invoke::<i64>("add", (n, 1)))).collect();
    for n in (0..100).rev().step_by(2) {
        assert_eq!(calls[n].take().unwrap().timeout(PATIENCE).wait().unwrap(), n as i64 + 1);
    }
    for n in (0..100).step_by(2) {
        assert_eq!(block_on(calls[n].take().unwrap().timeout(PATIENCE)).unwrap(), n as i64 + 1);
    }
}

// ---- cancellation -----------------------------------------------------------------------------------------------

#[test]
fn dropping_a_call_drops_its_async_handler_which_sees_it_cancelled() {
    let (ipc_main, ipc_renderer) = pair();
    let (starts, drops) = never(&ipc_main);
    let call = ipc_renderer.invoke::<()>("never", ());
    let event = next(&starts, "the start of the handler");
    assert!(!event.is_cancelled());
    drop(call);
    next(&drops, "the drop of the handler's future");
    assert!(event.is_cancelled());
    assert_eq!(ipc_renderer.stats().pending_calls, 0);
    // A future that was polled already.
    let mut call = Box::pin(ipc_renderer.invoke::<()>("never", ()));
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let second = next(&starts, "the second start");
    drop(call);
    next(&drops, "the drop of the second future");
    assert!(second.is_cancelled());
    drop((event, second));
    until("no request is open", || ipc_main.all_web_contents()[0].stats().open_requests == 0);
    assert_eq!(ipc_renderer.stats().late_replies, 0, "a cancelled call is not answered");
}

#[test]
fn a_handler_that_looks_sees_that_its_caller_has_gone_away() {
    let (ipc_main, ipc_renderer) = pair();
    let (started, starts) = channel();
    let (end, ends) = channel();
    ipc_main
        .handle_async("work", move |event, ()| {
            let (started, end) = (started.clone(), end.clone());
            async move {
                // On a thread of its own, as work that cannot be dropped is done.
                std::thread::spawn(move || {
                    started.send(()).unwrap();
                    until("cancelled", || event.is_cancelled());
                    end.send(()).unwrap();
                });
                std::future::pending::<()>().await;
                Ok(())
            }
        })
        .unwrap();
    let call = ipc_renderer.invoke::<()>("work", ());
    next(&starts, "the first start");
    drop(call);
    next(&ends, "the worker's end after the drop");
    let call = ipc_renderer.invoke::<()>("work", ());
    next(&starts, "the second start");
    ipc_renderer.close(PATIENCE).unwrap();
    next(&ends, "the worker's end after the close");
    assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Disconnected);
}

#[test]
fn a_cancelled_call_that_waits_its_turn_is_not_started_and_one_that_runs_ends_unheard() {
    let (ipc_main, ipc_renderer) = pair();
    let (gate, ran) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (held, count, count_async) = (gate.clone(), ran.clone(), ran.clone());
    ipc_main
        .handle("hold", move |_, ()| {
            held.wait();
            Ok("nobody wants it")
        })
        .unwrap();
    ipc_main.handle("count", move |_, ()| Ok(count.fetch_add(1, Ordering::SeqCst))).unwrap();
    ipc_main
        .handle_async("count async", move |_, ()| {
            let n = count_async.fetch_add(1, Ordering::SeqCst);
            async move { Ok(n) }
        })
        .unwrap();
    let running = ipc_renderer.invoke::<String>("hold", ());
    gate.reached();
    drop(running);
    for _ in 0..100 {
        drop(ipc_renderer.invoke::<usize>("count", ()));
        drop(ipc_renderer.invoke::<usize>("count async", ()));
    }
    let wanted = ipc_renderer.invoke::<usize>("count", ()).timeout(PATIENCE);
    gate.open();
    assert_eq!(wanted.wait().unwrap(), 0);
    assert_eq!(ran.load(Ordering::SeqCst), 1);
    assert_eq!(ipc_renderer.stats().late_replies, 1, "of the one that ran");
}

#[test]
fn a_detached_call_runs_and_its_answer_is_nobodys() {
    let (ipc_main, ipc_renderer) = pair();
    let (ran, runs) = channel();
    let (go, goes) = oneshot::channel::<()>();
    let goes = Mutex::new(Some(goes));
    ipc_main
        .handle_async("work", move |event, (n,): (i64,)| {
            let (ran, goes) = (ran.clone(), goes.lock().unwrap().take());
            async move {
                if let Some(goes) = goes {
                    goes.await?;
                }
                ran.send((n, event.is_cancelled())).unwrap();
                Ok(n)
            }
        })
        .unwrap();
    ipc_renderer.invoke::<i64>("work", (1,)).detach();
    ipc_renderer.invoke::<i64>("work", (f64::NAN,)).detach();
    assert_eq!(ipc_renderer.invoke::<i64>("work", (2,)).timeout(PATIENCE).wait().unwrap(), 2);
    go.send(()).unwrap();
    assert_eq!([next(&runs, "2"), next(&runs, "1")], [(2, false), (1, false)]);
    assert_eq!(ipc_renderer.stats().pending_calls, 0);
}

// ---- timeouts ---------------------------------------------------------------------------------------------------

#[test]
fn a_wait_or_a_future_whose_time_is_over_fails_and_cancels_its_handler() {
    let (ipc_main, ipc_renderer) = pair();
    let (starts, drops) = never(&ipc_main);
    let short = Duration::from_millis(10);
    let call = || ipc_renderer.invoke::<()>("never", ());
    let ways: [(&str, &dyn Fn() -> Result<()>); 4] = [
        ("wait", &|| call().timeout(short).wait()),
        ("wait for no time", &|| call().timeout(Duration::ZERO).wait()),
        ("await", &|| block_on(call().timeout(short))),
        ("await for no time", &|| block_on(call().timeout(Duration::ZERO))),
    ];
    for (way, fails) in ways {
        let error = fails().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{way}");
        assert!(error.is_transient());
        assert_eq!(error.to_string(), "no answer came in time; the call may still run at the other end");
        assert_eq!(ipc_renderer.stats().pending_calls, 0, "{way}");
    }
    // Whatever was started is dropped. One that was cancelled before it started is not started.
    let mut events = Vec::new();
    until("no request is open", || {
        events.extend(starts.try_iter());
        events.drain(..);
        ipc_main.all_web_contents()[0].stats().open_requests == 0
    });
    assert!(drops.try_iter().count() <= 4);
    let error = ipc_renderer.send_sync_timeout::<()>("nobody", (), Duration::ZERO).unwrap_err();
    assert!([ErrorKind::Timeout, ErrorKind::NoListener].contains(&error.kind()));
}

#[test]
fn a_timeout_that_is_set_once_the_future_was_polled_counts() {
    let (_ends, calls, (_starts, drops)) = polled_calls();
    for call in calls {
        let call = call.timeout(Duration::from_millis(20));
        assert_eq!(bounded("the call", || block_on(call)).unwrap_err().kind(), ErrorKind::Timeout);
    }
    next(&drops, "the end of main's handler");
}

#[test]
fn many_deadlines_pass_in_whatever_order_they_were_set() {
    let (ipc_main, ipc_renderer) = pair();
    let (starts, _drops) = never(&ipc_main);
    let keep = std::thread::spawn(move || starts.iter().count());
    let calls: Vec<_> = (0..300u64)
        .map(|n| ipc_renderer.invoke::<()>("never", ()).timeout(Duration::from_millis(n * 7 % 30)))
        .collect();
    for result in bounded("three hundred deadlines", move || block_on(join_all(calls))) {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    }
    drop((ipc_renderer, ipc_main));
    assert!(keep.join().unwrap() <= 300);
}

#[test]
fn a_late_reply_is_counted_and_harms_nobody() {
    let (ipc_main, ipc_renderer) = with_add();
    let (event, events) = channel();
    ipc_main.on("ask", move |asked, ()| event.send(asked.clone()));
    let (gate, held) = (Gate::default(), Gate::default());
    let (waits, reached) = (gate.clone(), held.clone());
    ipc_main
        .handle("slow", move |_, ()| {
            reached.open();
            waits.wait();
            Ok(1)
        })
        .unwrap();
    // One whose time is over before main has looked at it is heard by nobody: a longer time then.
    let mut time = Duration::from_millis(10);
    let asked = loop {
        assert!(time < PATIENCE);
        let error = ipc_renderer.send_sync_timeout::<i64>("ask", (), time).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        // Comes behind it.
        assert_eq!(ipc_renderer.invoke::<i64>("add", (0, 1)).timeout(PATIENCE).wait().unwrap(), 1);
        if let Ok(asked) = events.try_recv() {
            break asked;
        }
        time *= 4;
    };
    assert_eq!(ipc_renderer.stats().late_replies, 0);
    asked.set_return_value(1).unwrap();
    // Nobody is rung for a reply that nobody waits for: the next call reads it.
    assert_eq!(ipc_renderer.invoke::<i64>("add", (1, 2)).timeout(PATIENCE).wait().unwrap(), 3);
    assert_eq!(ipc_renderer.stats().late_replies, 1);
    let call = ipc_renderer.invoke::<i64>("slow", ());
    held.wait();
    assert_eq!(call.timeout(Duration::from_millis(10)).wait().unwrap_err().kind(), ErrorKind::Timeout);
    gate.open();
    assert_eq!(ipc_renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE).wait().unwrap(), 5);
    assert_eq!(ipc_renderer.stats().late_replies, 2);
}

#[test]
fn a_call_that_is_answered_in_time_is_not_bothered_by_its_deadline() {
    let (_ipc_main, ipc_renderer) = with_add();
    for n in 0..100 {
        // Far apart, far ahead, and without a deadline at all.
        let timeouts = [PATIENCE, Duration::MAX, Duration::from_secs(1 << 40)];
        for timeout in timeouts {
            assert_eq!(block_on(ipc_renderer.invoke::<i64>("add", (n, 1)).timeout(timeout)).unwrap(), n + 1);
        }
        assert_eq!(ipc_renderer.invoke::<i64>("add", (n, 2)).timeout(Duration::MAX).wait().unwrap(), n + 2);
    }
}

// ---- limits and ends --------------------------------------------------------------------------------------------

#[test]
fn the_limit_on_pending_calls_refuses_the_next_one_until_one_has_ended() {
    let (ipc_main, ipc_renderer) = pair_of(support::builder().max_pending_calls(3));
    add(&ipc_main);
    let (starts, _drops) = never(&ipc_main);
    let mut calls: Vec<_> = (0..3).map(|_| ipc_renderer.invoke::<()>("never", ())).collect();
    let error = ipc_renderer.invoke::<i64>("add", (1, 2)).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.is_transient());
    let text = "3 calls wait for an answer already, which is the limit (max_pending_calls)";
    assert_eq!(error.to_string(), text);
    assert_eq!(ipc_renderer.send_sync::<()>("ask", ()).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(ipc_renderer.stats().pending_calls, 3);
    let events: Vec<_> = (0..3).map(|_| next(&starts, "a start")).collect();
    drop(calls.pop());
    until("main has seen the cancellation", || events.iter().any(IpcMainInvokeEvent::is_cancelled));
    drop(events);
    // Main counts its side of it too: the cancelled one has ended there as well.
    until("a request has ended", || ipc_main.all_web_contents()[0].stats().open_requests == 2);
    assert_eq!(ipc_renderer.invoke::<i64>("add", (1, 2)).timeout(PATIENCE).wait().unwrap(), 3);
}

/// Calls of every kind that wait while `end` ends the link.
fn lost_calls(end: impl FnOnce(&IpcMain, &IpcRenderer)) {
    let (ipc_main, ipc_renderer) = pair();
    let (starts, drops) = never(&ipc_main);
    let (event, events) = channel();
    ipc_main.on("ask", move |asked, ()| event.send(asked.clone()));
    let futures: Vec<_> = (0..100).map(|_| ipc_renderer.invoke::<()>("never", ())).collect();
    let unpolled: Vec<_> = (0..3).map(|_| ipc_renderer.invoke::<()>("never", ())).collect();
    let mut threads = vec![std::thread::spawn(move || {
        block_on(join_all(futures)).into_iter().map(|lost| lost.unwrap_err().kind()).collect::<Vec<_>>()
    })];
    for n in 0..4 {
        let ipc_renderer = ipc_renderer.clone();
        threads.push(std::thread::spawn(move || match n {
            0 => vec![ipc_renderer.send_sync::<()>("ask", ()).unwrap_err().kind()],
            _ => vec![ipc_renderer.invoke::<()>("never", ()).wait().unwrap_err().kind()],
        }));
    }
    let kept: Vec<_> = (0..106).map(|_| next(&starts, "a start")).collect();
    let asked = next(&events, "the synchronous message");
    end(&ipc_main, &ipc_renderer);
    let kinds = bounded("calls of a link that has ended", move || {
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(kinds, [ErrorKind::Disconnected; 104]);
    for call in unpolled {
        assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    }
    for event in &kept {
        next(&drops, "the drop of a handler's future");
        assert!(event.is_cancelled());
    }
    asked.set_return_value(1).unwrap();
    let late = block_on(ipc_renderer.invoke::<()>("never", ()));
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Disconnected);
}

#[test]
fn calls_in_flight_when_the_renderer_closes_are_disconnected() {
    lost_calls(|_, ipc_renderer| ipc_renderer.close(PATIENCE).unwrap());
}

#[test]
fn calls_in_flight_when_main_closes_the_renderer_are_disconnected() {
    lost_calls(|ipc_main, _| ipc_main.all_web_contents()[0].close(PATIENCE).unwrap());
}

#[test]
fn calls_in_flight_when_main_shuts_down_are_disconnected() {
    lost_calls(|ipc_main, _| ipc_main.shutdown());
}

#[test]
fn futures_of_a_link_that_is_closed_are_told_why() {
    let ((_ipc_main, ipc_renderer), calls, _handled) = polled_calls();
    ipc_renderer.close(PATIENCE).unwrap();
    for call in calls {
        let error = bounded("the call", || block_on(call)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert!(error.to_string().ends_with("is gone: the link was closed"), "{error}");
    }
}

fn caller() {
    let ipc_renderer = support::connected();
    ipc_renderer.invoke::<()>("never", ()).detach();
    let call = ipc_renderer.invoke::<()>("never", ());
    until_disconnected(&ipc_renderer);
    drop(call);
}

#[test]
fn handlers_of_a_killed_renderer_are_dropped() {
    let ipc_main = support::ipc_main();
    let (starts, drops) = never(&ipc_main);
    let child = spawn(&ipc_main, "caller");
    let events = [(); 2].map(|()| next(&starts, "the start of a handler"));
    assert!(events.iter().all(|event| !event.is_cancelled()));
    child.process().kill().unwrap();
    for event in events {
        next(&drops, "the drop of a handler's future");
        assert!(event.is_cancelled());
    }
}

// ---- executors --------------------------------------------------------------------------------------------------

/// Wakes by unparking a thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An executor of a few lines, whose waker is another one at each poll.
fn poll_to_end<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park_timeout(PATIENCE);
    }
}

#[test]
fn a_hand_written_executor_with_changing_wakers_gets_its_answers() {
    let (_ipc_main, ipc_renderer) = with_add();
    for n in 0..500 {
        assert_eq!(poll_to_end(ipc_renderer.invoke::<i64>("add", (n, 1)).timeout(PATIENCE)).unwrap(), n + 1);
    }
}

#[test]
fn a_future_that_moves_between_threads_is_woken_where_it_was_polled_last() {
    let (ipc_main, ipc_renderer) = pair();
    let (start, starts) = channel();
    ipc_main
        .handle_async("later", move |_, ()| {
            let (go, goes) = oneshot::channel::<i64>();
            start.send(go).unwrap();
            async move { Ok(goes.await?) }
        })
        .unwrap();
    let mut call = Box::pin(ipc_renderer.invoke::<i64>("later", ()).timeout(PATIENCE));
    let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
    assert!(call.as_mut().poll(&mut Context::from_waker(&Waker::from(first.clone()))).is_pending());
    let mut call = std::thread::spawn({
        let second = second.clone();
        move || {
            assert!(call.as_mut().poll(&mut Context::from_waker(&Waker::from(second))).is_pending());
            call
        }
    })
    .join()
    .unwrap();
    next(&starts, "the start").send(7).unwrap();
    until("it is woken", || second.0.load(Ordering::SeqCst) == 1);
    assert_eq!(first.0.load(Ordering::SeqCst), 0);
    let Poll::Ready(answer) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it was woken")
    };
    assert_eq!(answer.unwrap(), 7);
    // Polled once more it says so instead of panicking.
    let Poll::Ready(again) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { panic!("it is over") };
    assert!(again.unwrap_err().is_misuse());
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_waker_may_use_the_renderer_and_one_that_panics_harms_nobody() {
    struct Sends(IpcRenderer);
    impl Wake for Sends {
        fn wake(self: Arc<Self>) {
            self.0.send("woken", ()).unwrap();
            self.0.invoke::<i64>("add", (1, 1)).detach();
            panic!("contained");
        }
    }
    let (ipc_main, ipc_renderer) = with_add();
    let (report, reports) = channel();
    ipc_renderer.on_error(move |told| report.send(told.error.to_string()).unwrap());
    let (woken, wakes) = channel();
    ipc_main.on("woken", move |_, ()| woken.send(()));
    let waker = Waker::from(Arc::new(Sends(ipc_renderer.clone())));
    let mut call = Box::pin(ipc_renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE));
    while call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        next(&wakes, "what the waker sends");
        assert_eq!(next(&reports, "the report"), "a waker panicked: contained");
    }
    assert_eq!(ipc_renderer.invoke::<i64>("add", (3, 4)).timeout(PATIENCE).wait().unwrap(), 7);
}

#[test]
fn handlers_run_on_the_executor_of_the_builder_and_are_cancelled_there() {
    type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
    let (task, tasks) = channel::<Task>();
    let (ipc_main, ipc_renderer) = pair_of(support::builder().executor(move |future| drop(task.send(future))));
    let running = std::thread::spawn(move || {
        let threads: Vec<_> = tasks.iter().map(|task| std::thread::spawn(|| block_on(task))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let dispatcher = Arc::new(Mutex::new(None));
    let here = dispatcher.clone();
    ipc_main
        .handle_async("where", move |_, ()| {
            *here.lock().unwrap() = Some(std::thread::current().id());
            let here = here.clone();
            async move { Ok(Some(std::thread::current().id()) == *here.lock().unwrap()) }
        })
        .unwrap();
    ipc_main.handle_async::<(), (), _, _>("panics", |_, ()| async { panic!("there") }).unwrap();
    let (starts, drops) = never(&ipc_main);
    assert!(!ipc_renderer.invoke::<bool>("where", ()).timeout(PATIENCE).wait().unwrap());
    let error = ipc_renderer.invoke::<()>("panics", ()).timeout(PATIENCE).wait().unwrap_err();
    assert_eq!((error.kind(), error.remote_message()), (ErrorKind::HandlerPanicked, Some("there")));
    let call = ipc_renderer.invoke::<()>("never", ());
    next(&starts, "the start of the handler");
    drop(call);
    next(&drops, "the drop of the handler's future");
    // Its end drops what runs there, too.
    let call = ipc_renderer.invoke::<()>("never", ());
    next(&starts, "the second start");
    drop(ipc_main);
    next(&drops, "the drop of the second future");
    assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    bounded("the executor's end", move || running.join().unwrap());
}

#[test]
fn an_async_handler_that_is_always_ready_starves_nobody() {
    let (ipc_main, ipc_renderer) = with_add();
    let stop = Arc::new(AtomicBool::new(false));
    let (stops, stopped) = (stop.clone(), stop.clone());
    ipc_main.on("stop", move |_, ()| stops.store(true, Ordering::SeqCst));
    ipc_main
        .handle_async("busy", move |_, ()| {
            let stopped = stopped.clone();
            std::future::poll_fn(move |context| {
                context.waker().wake_by_ref();
                if stopped.load(Ordering::SeqCst) { Poll::Ready(Ok(1)) } else { Poll::Pending }
            })
        })
        .unwrap();
    let busy = ipc_renderer.invoke::<i64>("busy", ()).timeout(PATIENCE);
    for n in 0..50 {
        assert_eq!(ipc_renderer.invoke::<i64>("add", (n, 1)).timeout(PATIENCE).wait().unwrap(), n + 1);
    }
    ipc_renderer.send("stop", ()).unwrap();
    assert_eq!(busy.wait().unwrap(), 1);
}

// ---- everything at once -----------------------------------------------------------------------------------------

const THREADS: i64 = 8;
const CALLS: i64 = 2000;
/// Fewer, because threads that spin without end take the cores from those they wait for.
const CALLS_SPINNING: i64 = 100;

/// Eight threads that wait, await, ask and cancel on one renderer, `calls` times each, while main sends to it.
fn stress(ipc_renderer: &IpcRenderer, calls: i64) {
    let heard = Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    ipc_renderer.on("n", move |_, (n,): (usize,)| {
        assert_eq!(count.fetch_add(1, Ordering::SeqCst), n, "messages from main in their order");
    });
    let add = |a: i64, b: i64| -> Invoke<i64> { ipc_renderer.invoke("add", (a, b)).timeout(4 * PATIENCE) };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || match thread % 4 {
                0 => (0..calls).for_each(|n| assert_eq!(add(thread, n).wait().unwrap(), thread + n)),
                1 => (0..calls).for_each(|n| assert_eq!(block_on(add(thread, n)).unwrap(), thread + n)),
                2 => {
                    for batch in 0..calls / 50 {
                        let sums = block_on(join_all((0..50).map(|n| add(batch, n))));
                        assert!(sums.into_iter().map(Result::unwrap).eq(batch..batch + 50));
                    }
                }
                _ => {
                    for n in 0..calls {
                        match n % 4 {
                            0 => {
                                let sum: i64 = ipc_renderer.send_sync_timeout("add", (n, 1), 4 * PATIENCE).unwrap();
                                assert_eq!(sum, n + 1);
                            }
                            1 => drop(add(n, 2)),
                            2 => ipc_renderer.send("more", ()).unwrap(),
                            _ => {
                                // Polled once, then waited for.
                                let mut call = add(n, 3);
                                let polled = Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop()));
                                let sum = if let Poll::Ready(sum) = polled { sum } else { call.wait() };
                                assert_eq!(sum.unwrap(), n + 3);
                            }
                        }
                    }
                }
            });
        }
    });
    until("every message from main was heard", || heard.load(Ordering::SeqCst) == (THREADS / 4 * calls / 4) as usize);
    let stats = ipc_renderer.stats();
    assert_eq!((stats.pending_calls, stats.refused_full), (0, 0));
}

fn stress_main(ipc_main: &IpcMain) -> Receiver<()> {
    add(ipc_main);
    let sent = AtomicUsize::new(0);
    ipc_main.on("add", |event, (a, b): (i64, i64)| event.set_return_value(a + b));
    ipc_main.on("more", move |event, ()| event.reply("n", (sent.fetch_add(1, Ordering::SeqCst),)).unwrap());
    let (done, is_done) = channel();
    ipc_main.on("done", move |_, ()| done.send(()));
    is_done
}

fn stress_from_a_child(wait: Wait, calls: i64) {
    let ipc_renderer = IpcRenderer::builder().wait(wait).connect().unwrap();
    stress(&ipc_renderer, calls);
    ipc_renderer.send("done", ()).unwrap();
}

/// In one process and between two.
fn stress_with(wait: Wait, calls: i64, role: &str) {
    let ipc_main = support::builder().wait(wait).build().unwrap();
    stress_main(&ipc_main);
    stress(&ipc_main.attach().unwrap(), calls);
    let ipc_main = support::builder().wait(wait).build().unwrap();
    let is_done = stress_main(&ipc_main);
    let _child = spawn(&ipc_main, role);
    is_done.recv_timeout(4 * PATIENCE).expect("the child's calls");
}

#[test]
fn threads_that_wait_await_ask_and_cancel_on_one_renderer_all_get_their_answers_adaptively() {
    stress_with(Wait::Adaptive, CALLS, "stress adaptive");
}

#[test]
fn threads_that_wait_await_ask_and_cancel_on_one_renderer_all_get_their_answers_spinning() {
    stress_with(Wait::Spin, CALLS_SPINNING, "stress spin");
}

#[test]
fn threads_that_wait_await_ask_and_cancel_on_one_renderer_all_get_their_answers_parking() {
    stress_with(Wait::Park, CALLS, "stress park");
}
