//! Manual dispatch: the program's own thread runs the callbacks.
#![allow(missing_docs)]

mod support;

use ringmain::{
    Budget, Dispatch, Error, ErrorKind, GoneReason, HandlerError, IpcMain, IpcMainBuilder, IpcRenderer,
    IpcRendererBuilder, Polled, ThreadRole, Wait,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};
use support::{Gate, PATIENCE, TempDir, alone, bounded, builder, connected, spawn, stat_of, until, until_disconnected};

#[test]
fn children() {
    support::play(&[
        ("sends and ends", sends_and_ends),
        ("stays", stays),
        ("starts and stops", starts_and_stops),
        ("says how it is scheduled", says_how_it_is_scheduled),
        ("spins on real time", spins_on_real_time),
        ("no descriptor left", no_descriptor_left),
    ]);
}

fn manual() -> IpcMainBuilder {
    builder().dispatch(Dispatch::Manual)
}

/// A main that is polled, and a renderer in this process with threads of its own.
fn polled_main() -> (IpcMain, IpcRenderer) {
    let pair = pair(manual(), IpcRenderer::builder());
    is_known(&pair.0);
    pair
}

/// Waits until the thread that shakes hands has told the one that polls.
fn is_known(ipc_main: &IpcMain) {
    assert!(ipc_main.wait(Some(PATIENCE)).expect("a wait"), "the renderer has not connected");
}

/// A main with threads of its own, and a renderer in this process that is polled.
fn polled_renderer() -> (IpcMain, IpcRenderer) {
    pair(builder(), IpcRenderer::builder().dispatch(Dispatch::Manual))
}

fn pair(main: IpcMainBuilder, renderer: IpcRendererBuilder) -> (IpcMain, IpcRenderer) {
    let ipc_main = main.build().expect("a main");
    let ipc_renderer = renderer.attach(&ipc_main).expect("a renderer");
    (ipc_main, ipc_renderer)
}

/// What the two ends have in common here.
trait Polls {
    fn poll(&self, budget: Budget) -> ringmain::Result<Polled>;
    fn wait(&self, timeout: Option<Duration>) -> ringmain::Result<bool>;
}

impl Polls for IpcMain {
    fn poll(&self, budget: Budget) -> ringmain::Result<Polled> {
        IpcMain::poll(self, budget)
    }
    fn wait(&self, timeout: Option<Duration>) -> ringmain::Result<bool> {
        IpcMain::wait(self, timeout)
    }
}

impl Polls for IpcRenderer {
    fn poll(&self, budget: Budget) -> ringmain::Result<Polled> {
        IpcRenderer::poll(self, budget)
    }
    fn wait(&self, timeout: Option<Duration>) -> ringmain::Result<bool> {
        IpcRenderer::wait(self, timeout)
    }
}

/// Polls until nothing is left.
fn settle(polls: &impl Polls) -> usize {
    polls.poll(Budget::UNLIMITED).expect("a poll").ran
}

/// Waits and polls until `holds`.
fn poll_until(polls: &impl Polls, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come true within {PATIENCE:?}");
        // Not for long: it may come true elsewhere.
        polls.wait(Some(Duration::from_millis(5))).expect("a wait");
        settle(polls);
    }
}

/// Polls on a thread of its own until it is dropped.
struct Pump(Option<std::thread::JoinHandle<()>>, Arc<AtomicBool>);

impl Pump {
    fn of(polls: impl Polls + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stops.load(Ordering::Relaxed) {
                // The end of the handle ends it too.
                if polls.wait(Some(Duration::from_millis(1))).and_then(|_| polls.poll(Budget::UNLIMITED)).is_err() {
                    return;
                }
            }
        });
        Self(Some(thread), stop)
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
        let _ = self.0.take().map(std::thread::JoinHandle::join);
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn two_polled_handles_may_end_each_other_in_their_listeners() {
    let (ipc_main, ipc_renderer) = pair(manual(), IpcRenderer::builder().dispatch(Dispatch::Manual));
    let web_contents = ipc_main.all_web_contents().remove(0);
    let (main_slot, renderer_slot) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    let (main_is_there, renderer_is_there) = (Gate::default(), Gate::default());
    let (opens, waits, takes) = (main_is_there.clone(), renderer_is_there.clone(), renderer_slot.clone());
    ipc_main.on("end", move |_, ()| {
        opens.open();
        waits.wait();
        drop(takes.lock().unwrap().take());
    });
    let takes = main_slot.clone();
    ipc_renderer.on("end", move |_, ()| {
        renderer_is_there.open();
        main_is_there.wait();
        drop(takes.lock().unwrap().take());
    });
    let sends = ipc_renderer.clone();
    let pumps = (Pump::of(ipc_main.clone()), Pump::of(ipc_renderer.clone()));
    *main_slot.lock().unwrap() = Some(ipc_main);
    *renderer_slot.lock().unwrap() = Some(ipc_renderer);
    sends.send("end", ()).unwrap();
    web_contents.send("end", ()).unwrap();
    // Each ends with its handle.
    bounded("both ends", move || {
        let (Pump(main, _), Pump(renderer, _)) = &pumps;
        until("both are over", || [main, renderer].iter().all(|pump| pump.as_ref().unwrap().is_finished()));
    });
}

#[test]
fn a_renderers_messages_come_after_its_connection_is_told_also_where_a_call_that_polls_runs_them() {
    let (ipc_main, ipc_renderer) = pair(manual(), IpcRenderer::builder());
    let ran: Arc<Mutex<Vec<&str>>> = Arc::default();
    let (connects, comes) = (ran.clone(), ran.clone());
    ipc_main.on_renderer_connected(move |_| connects.lock().unwrap().push("connected"));
    ipc_main.on("hello", move |_, ()| comes.lock().unwrap().push("hello"));
    ipc_renderer.handle("ask", |_, ()| Ok(())).unwrap();
    ipc_renderer.send("hello", ()).unwrap();
    ipc_main.all_web_contents()[0].invoke::<()>("ask", (), PATIENCE).wait_polling(PATIENCE).unwrap();
    ipc_main.poll(Budget::UNLIMITED).unwrap();
    assert_eq!(*ran.lock().unwrap(), ["connected", "hello"]);
}

// ---- poll -------------------------------------------------------------------------------------------------------

#[test]
fn nothing_runs_until_it_is_polled_and_then_on_the_polling_thread() {
    let (ipc_main, ipc_renderer) = polled_main();
    let ran: Arc<Mutex<Vec<(i64, ThreadId)>>> = Arc::default();
    let runs = ran.clone();
    ipc_main.on("n", move |_, (n,): (i64,)| runs.lock().unwrap().push((n, std::thread::current().id())));
    settle(&ipc_main);
    (1..=3).for_each(|n| ipc_renderer.send("n", (n,)).unwrap());
    assert!(ipc_main.wait(Some(PATIENCE)).unwrap());
    assert!(ran.lock().unwrap().is_empty());
    assert_eq!(ipc_main.poll(Budget::messages(2)).unwrap(), Polled { ran: 2, more: true });
    assert_eq!(ipc_main.poll(Budget::messages(2)).unwrap(), Polled { ran: 1, more: false });
    assert_eq!(ipc_main.poll(Budget::messages(2)).unwrap(), Polled { ran: 0, more: false });
    let this = std::thread::current().id();
    assert_eq!(*ran.lock().unwrap(), [(1, this), (2, this), (3, this)]);
    assert!(!ipc_main.wait(Some(Duration::ZERO)).unwrap());
}

#[test]
fn a_renderer_is_polled_likewise_and_its_handlers_answer_then() {
    let (ipc_main, ipc_renderer) = polled_renderer();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    ipc_renderer.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let texts: Arc<Mutex<VecDeque<String>>> = Arc::default();
    let told = texts.clone();
    ipc_renderer.on("text", move |_, (text,): (String,)| told.lock().unwrap().push_back(text));
    settle(&ipc_renderer);
    web_contents.send("text", ("first",)).unwrap();
    let sum = web_contents.invoke::<i64>("add", (2, 3), PATIENCE);
    let answer = std::thread::spawn(move || sum.wait());
    poll_until(&ipc_renderer, "the answer", || answer.is_finished());
    assert_eq!(answer.join().unwrap().unwrap(), 5);
    assert_eq!(texts.lock().unwrap().pop_front().as_deref(), Some("first"));
}

#[test]
fn a_budget_without_time_or_messages_runs_nothing_and_says_that_more_waits() {
    let (ipc_main, ipc_renderer) = polled_main();
    let count = Arc::new(AtomicUsize::new(0));
    let counts = count.clone();
    ipc_main.on("n", move |_, ()| counts.fetch_add(1, Ordering::Relaxed));
    settle(&ipc_main);
    ipc_renderer.send("n", ()).unwrap();
    for budget in [Budget::messages(0), Budget::time(Duration::ZERO)] {
        assert_eq!(ipc_main.poll(budget).unwrap(), Polled { ran: 0, more: true });
    }
    assert_eq!(count.load(Ordering::Relaxed), 0);
    assert_eq!(settle(&ipc_main), 1);
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[test]
fn no_callback_is_begun_once_the_time_is_over() {
    let (ipc_main, ipc_renderer) = polled_main();
    let budget = Duration::from_millis(2);
    let begun: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let begins = begun.clone();
    ipc_main.on("n", move |_, ()| {
        let now = Instant::now();
        begins.lock().unwrap().push(now);
        while now.elapsed() < Duration::from_micros(300) {
            std::hint::spin_loop();
        }
    });
    settle(&ipc_main);
    (0..100).for_each(|_| ipc_renderer.send("n", ()).unwrap());
    let (mut polls, mut ran) = (0, Vec::new());
    loop {
        let polled = ipc_main.poll(Budget::time(budget)).unwrap();
        polls += 1;
        ran.push(polled);
        let begun = std::mem::take(&mut *begun.lock().unwrap());
        assert_eq!(polled.ran, begun.len());
        // The time began before the first of them; one may be about to begin when it ends.
        let late = begun.iter().filter(|at| at.duration_since(begun[0]) > budget).count();
        assert!(late <= 1, "{late} callbacks were begun after the time");
        if !polled.more {
            break;
        }
    }
    assert!(polls > 1, "{polls}: {ran:?}");
}

#[test]
fn small_budgets_serve_all_renderers_in_turn() {
    let ipc_main = manual().build().unwrap();
    let connected = Arc::new(AtomicUsize::new(0));
    let connects = connected.clone();
    ipc_main.on_renderer_connected(move |_| _ = connects.fetch_add(1, Ordering::Relaxed));
    let renderers: Vec<_> = (0..3).map(|_| IpcRenderer::builder().attach(&ipc_main).unwrap()).collect();
    poll_until(&ipc_main, "all have connected", || connected.load(Ordering::Relaxed) == 3);
    let served: Arc<Mutex<Vec<u32>>> = Arc::default();
    let serves = served.clone();
    ipc_main.on("n", move |event, ()| serves.lock().unwrap().push(event.sender().id()));
    settle(&ipc_main);
    for _ in 0..200 {
        renderers.iter().for_each(|renderer| renderer.send("n", ()).unwrap());
    }
    for _ in 0..30 {
        ipc_main.poll(Budget::messages(10)).unwrap();
    }
    let served = served.lock().unwrap();
    assert_eq!(served.len(), 300);
    for renderer in &renderers {
        let of_it = served.iter().filter(|id| **id == renderer.id()).count();
        assert!(of_it >= 50, "renderer {} was served {of_it} times of 300", renderer.id());
    }
}

#[test]
fn a_poll_inside_a_callback_or_beside_another_is_busy() {
    let (ipc_main, ipc_renderer) = polled_main();
    let (inner, inside) = (Arc::new(Mutex::new(Vec::new())), ipc_main.clone());
    let inners = inner.clone();
    let gate = Gate::default();
    let held = gate.clone();
    ipc_main.on("n", move |_, ()| {
        inners.lock().unwrap().extend([kind(inside.poll(Budget::UNLIMITED)), kind(inside.wait(None))]);
        held.wait();
    });
    settle(&ipc_main);
    ipc_renderer.send("n", ()).unwrap();
    std::thread::scope(|scope| {
        let polling = scope.spawn(|| settle(&ipc_main));
        gate.reached();
        let error = ipc_main.poll(Budget::UNLIMITED).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains("another thread polls"), "{error}");
        assert_eq!(kind(ipc_main.wait(Some(Duration::ZERO))), ErrorKind::Busy);
        gate.open();
        assert_eq!(polling.join().unwrap(), 1);
    });
    assert_eq!(*inner.lock().unwrap(), [ErrorKind::Busy; 2]);
}

#[test]
fn a_handle_with_threads_cannot_be_polled() {
    let (ipc_main, ipc_renderer) = support::pair();
    for error in [
        ipc_main.poll(Budget::UNLIMITED).unwrap_err(),
        ipc_main.wait(None).unwrap_err(),
        ipc_main.as_fd().unwrap_err(),
        ipc_renderer.poll(Budget::UNLIMITED).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("Dispatch::Manual"), "{error}");
    }
}

#[test]
fn async_handlers_hooks_and_wakers_run_in_poll() {
    let (ipc_main, ipc_renderer) = polled_main();
    let this = std::thread::current().id();
    let (open, opened) = futures::channel::oneshot::channel::<i64>();
    let opened = Mutex::new(Some(opened));
    ipc_main
        .handle_once_async("later", move |_, ()| {
            let opened = opened.lock().unwrap().take().unwrap();
            async move {
                let value = opened.await?;
                assert_eq!(std::thread::current().id(), this);
                Ok(value)
            }
        })
        .unwrap();
    let connected: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
    let connects = connected.clone();
    ipc_main.on_renderer_connected(move |_| connects.lock().unwrap().push(std::thread::current().id()));
    assert!(connected.lock().unwrap().is_empty());
    let call = ipc_renderer.invoke::<i64>("later", ());
    let answer = std::thread::spawn(move || call.wait());
    poll_until(&ipc_main, "the call", || ipc_main.web_contents(ipc_renderer.id()).unwrap().stats().open_requests == 1);
    open.send(7).unwrap();
    poll_until(&ipc_main, "the answer", || answer.is_finished());
    assert_eq!(answer.join().unwrap().unwrap(), 7);
    assert_eq!(*connected.lock().unwrap(), [this]);
}

#[test]
fn the_accept_policy_runs_in_poll() {
    let directory = TempDir::new();
    let asked: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
    let asks = asked.clone();
    let ipc_main = manual()
        .runtime_dir(&*directory)
        .accept(move |_| {
            asks.lock().unwrap().push(std::thread::current().id());
            true
        })
        .build()
        .unwrap();
    ipc_main.listen("polled").unwrap();
    let path = directory.to_path_buf();
    let connecting =
        std::thread::spawn(move || IpcRenderer::builder().runtime_dir(path).connect_to("polled").map(drop));
    poll_until(&ipc_main, "the connection", || connecting.is_finished());
    connecting.join().unwrap().unwrap();
    assert_eq!(*asked.lock().unwrap(), [std::thread::current().id()]);
}

// ---- wait -------------------------------------------------------------------------------------------------------

#[test]
fn a_wait_ends_when_something_comes_however_it_waits() {
    for wait in [Wait::Adaptive, Wait::Spin, Wait::Park] {
        let (ipc_main, ipc_renderer) = pair(manual().wait(wait), IpcRenderer::builder());
        let count = Arc::new(AtomicUsize::new(0));
        let counts = count.clone();
        ipc_main.on("n", move |_, ()| counts.fetch_add(1, Ordering::Relaxed));
        settle(&ipc_main);
        // Each message is sent when the last one has run: it finds the other thread asleep, or about to be.
        let sender = std::thread::spawn({
            let count = count.clone();
            move || {
                for n in 0..200 {
                    until("the last message has run", || count.load(Ordering::Relaxed) == n);
                    ipc_renderer.send("n", ()).unwrap();
                }
                ipc_renderer
            }
        });
        poll_until(&ipc_main, "all messages", || count.load(Ordering::Relaxed) == 200);
        drop(sender.join().unwrap());
    }
}

#[test]
fn a_renderers_wait_ends_when_main_sends() {
    let (ipc_main, ipc_renderer) = polled_renderer();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counts = count.clone();
    ipc_renderer.on("n", move |_, ()| counts.fetch_add(1, Ordering::Relaxed));
    settle(&ipc_renderer);
    let sender = std::thread::spawn({
        let count = count.clone();
        move || {
            for n in 0..200 {
                until("the last message has run", || count.load(Ordering::Relaxed) == n);
                web_contents.send("n", ()).unwrap();
            }
        }
    });
    poll_until(&ipc_renderer, "all messages", || count.load(Ordering::Relaxed) == 200);
    sender.join().unwrap();
}

#[test]
fn the_timeout_of_a_call_ends_a_wait_and_is_kept_by_poll() {
    let (ipc_main, ipc_renderer) = polled_main();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let gate = Gate::default();
    let held = gate.clone();
    ipc_renderer.on("never", move |_, ()| held.wait());
    settle(&ipc_main);
    assert_eq!(ipc_main.next_deadline(), None);
    let before = Instant::now();
    web_contents.send("never", ()).unwrap();
    let call = web_contents.invoke::<()>("nobody", (), Duration::from_millis(30));
    let deadline = ipc_main.next_deadline().expect("a deadline");
    assert!(deadline >= before + Duration::from_millis(30));
    while ipc_main.next_deadline().is_some() {
        assert!(ipc_main.wait(Some(PATIENCE)).unwrap());
        settle(&ipc_main);
    }
    assert!(Instant::now() >= deadline);
    let error = futures::FutureExt::now_or_never(call).expect("it is over").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    gate.open();
}

// ---- calls while a call waits -----------------------------------------------------------------------------------

#[test]
fn a_call_may_be_called_back_before_it_is_answered_on_both_sides() {
    let (ipc_main, ipc_renderer) =
        pair(manual().max_nesting(8), IpcRenderer::builder().dispatch(Dispatch::Manual).max_nesting(8));
    // Each calls the other with one less: the deepest answers first.
    let renderer = ipc_renderer.clone();
    ipc_main
        .handle("down", move |event, (n,): (u32,)| match n {
            0 => Ok(0),
            n => Ok(1 + event.sender().invoke::<u32>("down", (n - 1,), PATIENCE).wait_polling(PATIENCE)?),
        })
        .unwrap();
    ipc_renderer
        .handle("down", move |_, (n,): (u32,)| match n {
            0 => Ok(0),
            n => Ok(1 + renderer.invoke::<u32>("down", (n - 1,)).wait_polling(PATIENCE)?),
        })
        .unwrap();
    let _pump = Pump::of(ipc_main.clone());
    let (mut answers, asks) = (Vec::new(), ipc_renderer.clone());
    // This thread waits outside of any callback.
    for n in [0, 1, 2, 7, 15] {
        answers.push(asks.invoke::<u32>("down", (n,)).wait_polling(PATIENCE).unwrap());
    }
    assert_eq!(answers, [0, 1, 2, 7, 15]);
    // One level is ours, and eight are main's.
    let error = asks.invoke::<u32>("down", (18,)).wait_polling(PATIENCE).unwrap_err();
    assert!(error.to_string().contains("nested 8 deep"), "{error}");
    assert_eq!(asks.invoke::<u32>("down", (3,)).wait_polling(PATIENCE).unwrap(), 3, "all goes on");
}

#[test]
fn what_came_before_the_answer_runs_before_it_and_what_others_send_waits_for_the_next_poll() {
    let ipc_main = manual().build().unwrap();
    let (ours, other) =
        (IpcRenderer::builder().attach(&ipc_main).unwrap(), IpcRenderer::builder().attach(&ipc_main).unwrap());
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let logs = log.clone();
    ipc_main.on("log", move |_, (text,): (String,)| logs.lock().unwrap().push(text));
    let sends = ours.clone();
    ours.handle("ask", move |_, ()| {
        sends.send("log", ("before the answer",))?;
        other.send("log", ("of another",))?;
        Ok(5)
    })
    .unwrap();
    settle(&ipc_main);
    let web_contents = ipc_main.web_contents(ours.id()).unwrap();
    let answer = web_contents.invoke::<i64>("ask", (), PATIENCE).wait_polling(PATIENCE).unwrap();
    assert_eq!((answer, log.lock().unwrap().as_slice()), (5, ["before the answer".to_string()].as_slice()));
    poll_until(&ipc_main, "the other's", || log.lock().unwrap().len() == 2);
}

#[test]
fn an_async_handler_goes_on_while_a_callback_waits() {
    let (ipc_main, ipc_renderer) = polled_main();
    // The renderer answers only when its own call was answered, by an async handler that needs two polls.
    ipc_main
        .handle_async("slow", |_, ()| async move {
            let mut polled = false;
            std::future::poll_fn(|context| {
                if std::mem::replace(&mut polled, true) {
                    return std::task::Poll::Ready(());
                }
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
            Ok(4)
        })
        .unwrap();
    let asks = ipc_renderer.clone();
    ipc_renderer.handle("ask", move |_, ()| Ok(1 + asks.invoke::<i64>("slow", ()).wait()?)).unwrap();
    settle(&ipc_main);
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    assert_eq!(web_contents.invoke::<i64>("ask", (), PATIENCE).wait_polling(PATIENCE).unwrap(), 5);
}

#[test]
fn a_waiting_callback_sees_its_timeout_under_a_flood_and_the_end_of_the_other_side() {
    let (ipc_main, ipc_renderer) = polled_main();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    ipc_main.on("flood", |_, ()| ());
    let gate = Gate::default();
    let held = gate.clone();
    ipc_renderer
        .handle("never", move |_, ()| {
            held.wait();
            Ok(())
        })
        .unwrap();
    settle(&ipc_main);
    let stop = Arc::new(AtomicBool::new(false));
    let flood = std::thread::spawn({
        let (stop, ipc_renderer) = (stop.clone(), ipc_renderer.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = ipc_renderer.send("flood", ());
            }
        }
    });
    let waited = web_contents.invoke::<()>("never", (), PATIENCE).wait_polling(Duration::from_millis(20));
    assert_eq!(kind(waited), ErrorKind::Timeout);
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    gate.open();
    // And without an answer, because the other side goes.
    ipc_renderer.on("go", {
        let ipc_renderer = ipc_renderer.clone();
        move |_, ()| ipc_renderer.close(PATIENCE)
    });
    ipc_renderer.handle_async("ever", |_, ()| std::future::pending::<Result<(), HandlerError>>()).unwrap();
    web_contents.send("go", ()).unwrap();
    let waited = web_contents.invoke::<()>("ever", (), PATIENCE).wait_polling(PATIENCE);
    assert_eq!(kind(waited), ErrorKind::Disconnected);
}

#[test]
fn a_plain_wait_in_a_callback_of_main_would_deadlock_and_so_does_waiting_for_what_the_same_thread_polls() {
    let (ipc_main, ipc_renderer) = pair(manual(), IpcRenderer::builder().dispatch(Dispatch::Manual));
    let kinds: Arc<Mutex<Vec<ErrorKind>>> = Arc::default();
    let found = kinds.clone();
    ipc_main.on("n", move |event, ()| {
        let sender = event.sender();
        found
            .lock()
            .unwrap()
            .extend([kind(sender.invoke::<()>("x", (), PATIENCE).wait()), kind(sender.flush(PATIENCE))]);
    });
    settle(&ipc_main);
    ipc_renderer.send("n", ()).unwrap();
    poll_until(&ipc_main, "the listener", || !kinds.lock().unwrap().is_empty());
    assert_eq!(*kinds.lock().unwrap(), [ErrorKind::WouldDeadlock; 2]);
    settle(&ipc_renderer);
    // This thread polls both.
    assert_eq!(kind(ipc_renderer.invoke::<()>("x", ()).wait()), ErrorKind::WouldDeadlock);
    assert_eq!(kind(ipc_renderer.invoke::<()>("x", ()).wait_polling(PATIENCE)), ErrorKind::WouldDeadlock);
    assert_eq!(kind(ipc_renderer.send_sync::<()>("x", ())), ErrorKind::WouldDeadlock);
}

// ---- ends -------------------------------------------------------------------------------------------------------

#[test]
fn deaths_are_told_by_poll_after_the_last_message_and_wake_a_wait() {
    let ipc_main = manual().build().unwrap();
    let (tell, told) = channel();
    let tells = tell.clone();
    ipc_main.on("last", move |_, (n,): (i64,)| tells.send(format!("message {n}")).unwrap());
    ipc_main.on_renderer_gone(move |_, reason| tell.send(format!("{reason}")).unwrap());
    let _child = spawn(&ipc_main, "sends and ends");
    let mut all = Vec::new();
    poll_until(&ipc_main, "the end", || {
        all.extend(told.try_iter());
        all.len() == 4
    });
    assert_eq!(all[..3], ["message 0", "message 1", "message 2"].map(String::from));
    assert_eq!(all[3], GoneReason::Closed.to_string());
}

fn sends_and_ends() {
    let ipc_renderer = connected();
    (0..3).for_each(|n| ipc_renderer.send("last", (n,)).unwrap());
    drop(ipc_renderer);
}

#[test]
fn a_main_that_never_polls_neither_hangs_its_renderers_nor_keeps_children() {
    let ipc_main = manual().build().unwrap();
    let child = spawn(&ipc_main, "stays");
    until("it is connected", || child.is_connected());
    let pid = child.process().id();
    drop(ipc_main);
    until("the child has ended and was reaped", || support::stat(pid).is_none());
}

fn stays() {
    until_disconnected(&connected());
}

#[test]
fn shutdown_ends_the_wait_of_another_thread_and_later_polls_say_so() {
    for polls_first in [false, true] {
        let (ipc_main, ipc_renderer) = polled_main();
        let dropped = Arc::new(());
        let captured = dropped.clone();
        ipc_main.on("n", move |_, ()| drop(captured.clone()));
        if polls_first {
            settle(&ipc_main);
        }
        let waits = ipc_main.clone();
        let waiting = std::thread::spawn(move || {
            loop {
                match waits.wait(None) {
                    Ok(_) => {
                        if let Err(error) = waits.poll(Budget::UNLIMITED) {
                            return error.kind();
                        }
                    }
                    Err(error) => return error.kind(),
                }
            }
        });
        let shuts = ipc_main.clone();
        bounded("shutdown", move || shuts.shutdown());
        assert_eq!(bounded("the wait", move || waiting.join().unwrap()), ErrorKind::Disconnected);
        assert_eq!(Arc::strong_count(&dropped), 1, "what the listener captured is dropped");
        assert_eq!(kind(ipc_main.poll(Budget::UNLIMITED)), ErrorKind::Disconnected);
        until("the renderer knows", || !ipc_renderer.is_connected());
    }
}

#[test]
fn shutdown_inside_a_callback_ends_after_it() {
    let (ipc_main, ipc_renderer) = polled_main();
    let count = Arc::new(AtomicUsize::new(0));
    let (counts, shuts) = (count.clone(), ipc_main.clone());
    ipc_main.on("n", move |_, ()| {
        shuts.shutdown();
        counts.fetch_add(1, Ordering::Relaxed);
    });
    settle(&ipc_main);
    (0..3).for_each(|_| ipc_renderer.send("n", ()).unwrap());
    assert_eq!(ipc_main.poll(Budget::UNLIMITED).unwrap(), Polled { ran: 1, more: false });
    assert_eq!(count.load(Ordering::Relaxed), 1);
    assert_eq!(kind(ipc_main.poll(Budget::UNLIMITED)), ErrorKind::Disconnected);
}

#[test]
fn nothing_is_called_after_shutdown_has_returned_on_another_thread() {
    for _ in 0..50 {
        let (ipc_main, ipc_renderer) = polled_main();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        ipc_main.on("n", move |_, ()| assert!(!over.load(Ordering::SeqCst), "called after the end"));
        let (errors, told) = channel();
        ipc_main.on_error(move |report| errors.send(report.error.to_string()).unwrap());
        let pump = Pump::of(ipc_main.clone());
        (0..20).for_each(|_| ipc_renderer.send("n", ()).unwrap());
        ipc_main.shutdown();
        is_over.store(true, Ordering::SeqCst);
        drop(pump);
        let told: Vec<_> = told.try_iter().collect();
        assert!(told.iter().all(|text| !text.contains("called after")), "{told:?}");
    }
}

#[test]
fn a_renderer_learns_the_end_of_main_by_poll() {
    let (ipc_main, ipc_renderer) = polled_renderer();
    let (tell, told) = channel();
    ipc_renderer.on_disconnected(move |reason| tell.send(reason.clone()).unwrap());
    settle(&ipc_renderer);
    drop(ipc_main);
    let mut reason = None;
    poll_until(&ipc_renderer, "the end of main", || {
        reason = told.try_recv().ok();
        reason.is_some()
    });
    assert_eq!(reason, Some(GoneReason::Closed));
    assert_eq!(ipc_renderer.poll(Budget::UNLIMITED).unwrap(), Polled { ran: 0, more: false });
}

// ---- removal ----------------------------------------------------------------------------------------------------

#[test]
fn a_removal_returns_when_the_removed_listener_or_handler_runs_no_more_and_inside_it_at_once() {
    for dispatch in [Dispatch::Threads, Dispatch::Manual] {
        let (ipc_main, ipc_renderer) = pair(builder().dispatch(dispatch), IpcRenderer::builder());
        let pump = (dispatch == Dispatch::Manual).then(|| Pump::of(ipc_main.clone()));
        let (gate, runs) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let callback = {
            let (gate, runs) = (gate.clone(), runs.clone());
            move || {
                runs.store(true, Ordering::SeqCst);
                gate.wait();
                runs.store(false, Ordering::SeqCst);
            }
        };
        let listener = ipc_main.on("n", {
            let callback = callback.clone();
            move |_, ()| callback()
        });
        ipc_main
            .handle("call", move |_, ()| {
                callback();
                Ok(())
            })
            .unwrap();
        ipc_renderer.send("n", ()).unwrap();
        gate.reached();
        let removing = std::thread::spawn({
            let (listener, runs) = (listener.clone(), runs.clone());
            move || {
                assert!(listener.remove());
                runs.load(Ordering::SeqCst)
            }
        });
        // It has left the list, and waits.
        until("it is removed", || ipc_main.listener_count("n") == 0);
        assert!(!removing.is_finished());
        gate.open();
        assert!(!bounded("the removal", move || removing.join().unwrap()), "it still ran");
        // A handler likewise, with a gate that is open now: many times, so that it is met at every step.
        for _ in 0..100 {
            let call = ipc_renderer.invoke::<()>("call", ());
            let was_there = ipc_main.remove_handler("call");
            assert!(was_there && !runs.load(Ordering::SeqCst));
            let _ = call.wait();
            let (runs, ran) = (runs.clone(), runs.clone());
            ipc_main
                .handle("call", move |_, ()| {
                    runs.store(true, Ordering::SeqCst);
                    runs.store(false, Ordering::SeqCst);
                    Ok(())
                })
                .unwrap();
            drop(ran);
        }
        // Inside itself it does not wait.
        let (id, removed) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let (own, says) = (id.clone(), removed.clone());
        let listener = ipc_main.on("itself", move |_, ()| {
            let listener: ringmain::ListenerId = own.lock().unwrap().take().unwrap();
            says.store(listener.remove(), Ordering::SeqCst);
        });
        *id.lock().unwrap() = Some(listener);
        ipc_renderer.send("itself", ()).unwrap();
        until("it has removed itself", || removed.load(Ordering::SeqCst));
        drop(pump);
    }
}

#[test]
fn removals_from_within_each_others_callbacks_do_not_wait_for_each_other() {
    let (ipc_main, ipc_renderer) = support::pair();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let (here, there) = (Gate::default(), Gate::default());
    let ids: Arc<Mutex<Vec<ringmain::ListenerId>>> = Arc::default();
    let removes = |own: &Gate, other: &Gate, index: usize| {
        let (own, other, ids) = (own.clone(), other.clone(), ids.clone());
        move || {
            own.open();
            other.wait(); // both are in their callbacks now
            let id = ids.lock().unwrap()[index].clone();
            id.remove()
        }
    };
    let (first, second) = (removes(&here, &there, 1), removes(&there, &here, 0));
    let (done, is_done) = channel();
    let done_too = done.clone();
    let on_main = ipc_main.on("n", move |_, ()| done.send(first()).unwrap());
    let on_renderer = ipc_renderer.on("n", move |_, ()| done_too.send(second()).unwrap());
    ids.lock().unwrap().extend([on_main, on_renderer]);
    ipc_renderer.send("n", ()).unwrap();
    web_contents.send("n", ()).unwrap();
    assert!(support::next(&is_done, "the one removal") && support::next(&is_done, "the other removal"));
}

// ---- found by reading it again ----------------------------------------------------------------------------------

/// An async handler that is never ready and wakes itself each time.
fn yields() -> impl Future<Output = Result<(), HandlerError>> {
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
}

fn never() -> impl Future<Output = Result<(), HandlerError>> {
    std::future::pending()
}

#[test]
fn a_poll_that_uses_its_budget_up_as_nothing_is_left_still_leaves_a_descriptor_that_tells() {
    let (ipc_main, ipc_renderer) = polled_main();
    ipc_main.on("n", |_, ()| ());
    let fd = ipc_main.as_fd().unwrap();
    settle(&ipc_main);
    ipc_renderer.send("n", ()).unwrap();
    assert!(is_readable(fd, PATIENCE));
    assert_eq!(ipc_main.poll(Budget::messages(1)).unwrap(), Polled { ran: 1, more: false });
    assert_eq!(ipc_main.poll(Budget::messages(0)).unwrap(), Polled { ran: 0, more: false });
    let _second = IpcRenderer::builder().attach(&ipc_main).unwrap();
    assert!(is_readable(fd, PATIENCE), "it has connected");
    settle(&ipc_main);
    ipc_renderer.send("n", ()).unwrap();
    assert!(is_readable(fd, PATIENCE));
}

#[test]
fn no_message_of_three_renderers_is_left_behind_whatever_the_budgets() {
    let ipc_main = manual().build().unwrap();
    let renderers = [(); 3].map(|()| IpcRenderer::builder().attach(&ipc_main).unwrap());
    let seen = Arc::new(AtomicU64::new(0));
    let sees = seen.clone();
    ipc_main.on("n", move |_, (_n,): (u64,)| _ = sees.fetch_add(1, Ordering::Relaxed));
    let each = messages() / 5;
    let senders = renderers.map(|ipc_renderer| {
        std::thread::spawn(move || {
            send_at_random(each, |n| ipc_renderer.send_timeout("n", (n,), PATIENCE).unwrap());
            ipc_renderer
        })
    });
    let fd = ipc_main.as_fd().unwrap();
    let mut budgets = [1, 2, 3, 7].into_iter().cycle();
    while seen.load(Ordering::Relaxed) < 3 * each {
        assert!(is_readable(fd, PATIENCE), "{} of {} have run", seen.load(Ordering::Relaxed), 3 * each);
        ipc_main.poll(Budget::messages(budgets.next().unwrap())).unwrap();
    }
    senders.into_iter().for_each(|sender| drop(sender.join().unwrap()));
}

#[test]
fn a_thread_that_waits_for_its_answer_is_nothing_to_poll_for() {
    let (ipc_main, ipc_renderer) = polled_renderer();
    let (answer, answered) = futures::channel::oneshot::channel::<i64>();
    let answered = Mutex::new(Some(answered));
    ipc_main
        .handle_once_async("slow", move |_, ()| {
            let answered = answered.lock().unwrap().take().unwrap();
            async move { Ok(answered.await?) }
        })
        .unwrap();
    let (seen, count) = counts();
    ipc_renderer.on("n", move |_, (n,): (u64,)| count(n));
    settle(&ipc_renderer);
    let asks = ipc_renderer.clone();
    let asking = std::thread::spawn(move || asks.invoke::<i64>("slow", ()).wait());
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    until("the call runs", || web_contents.stats().open_requests == 1);
    // The caller reads these, for us.
    for n in 0..100 {
        web_contents.send("n", (n,)).unwrap();
        poll_until(&ipc_renderer, "the message", || seen.load(Ordering::Relaxed) > n);
    }
    // It may ring once more as it looks; then there is nothing.
    let mut idle = 0;
    let found = std::iter::repeat_with(|| ipc_renderer.wait(Some(Duration::from_millis(1))).unwrap());
    for is_found in found.take(1000) {
        assert_eq!(settle(&ipc_renderer), 0);
        idle = if is_found { 0 } else { idle + 1 };
        if idle == 10 {
            break;
        }
    }
    assert_eq!(idle, 10, "wait says that there is something, and poll finds nothing");
    let fd = ipc_renderer.as_fd().unwrap();
    until("the descriptor is quiet too", || {
        assert_eq!(bounded_poll(&ipc_renderer), 0);
        !is_readable(fd, NOW)
    });
    answer.send(7).unwrap();
    assert_eq!(asking.join().unwrap().unwrap(), 7);
}

/// A poll without a budget that has to end by itself.
fn bounded_poll(polls: &IpcRenderer) -> usize {
    let polls = polls.clone();
    bounded("a poll", move || settle(&polls))
}

#[test]
fn a_wait_that_spins_sends_what_had_to_queue() {
    let (ipc_main, ipc_renderer) = pair(manual().wait(Wait::Spin).ring_size(4096), IpcRenderer::builder());
    is_known(&ipc_main);
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let heard = ipc_main.clone();
    let gate = Gate::default();
    let waits = gate.clone();
    ipc_renderer.on("text", move |event, (n, _text): (i64, String)| {
        if n == 0 {
            waits.wait();
        }
        if n == 99 {
            event.reply("done", ()).unwrap();
        }
    });
    let (tell, told) = channel();
    heard.on("done", move |_, ()| tell.send(()).unwrap());
    settle(&ipc_main);
    let send = |n| web_contents.send("text", (n, "x".repeat(1000))).unwrap();
    send(0);
    // It does not read meanwhile, so that the ring, which holds some of them, fills up.
    gate.reached();
    (1..100).for_each(send);
    assert!(web_contents.stats().queued_bytes > 0);
    gate.open();
    let end = Instant::now() + PATIENCE;
    while told.try_recv().is_err() {
        assert!(Instant::now() < end, "{} bytes still wait", web_contents.stats().queued_bytes);
        assert!(ipc_main.wait(Some(PATIENCE)).unwrap(), "the answer to the last message has not come");
        settle(&ipc_main);
    }
}

#[test]
fn a_descriptor_that_could_not_be_had_leaves_all_as_it_was() {
    alone("no descriptor left");
}

fn no_descriptor_left() {
    let (ipc_main, ipc_renderer) = polled_renderer();
    let (answer, answered) = futures::channel::oneshot::channel::<i64>();
    let answered = Mutex::new(Some(answered));
    ipc_renderer
        .handle_once_async("slow", move |_, ()| {
            let answered = answered.lock().unwrap().take().unwrap();
            async move { Ok(answered.await?) }
        })
        .unwrap();
    settle(&ipc_renderer);
    let free = support::free_descriptors();
    for left in 0..4 {
        let held: Vec<_> = (0..free - left).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let error = ipc_renderer.as_fd().unwrap_err();
        drop(held);
        assert_eq!(error.kind(), ErrorKind::System, "{left} left: {error}");
    }
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let asking = std::thread::spawn(move || web_contents.invoke::<i64>("slow", (), PATIENCE).wait());
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let runs = || ipc_renderer.stats().open_requests == 1;
    poll_until(&ipc_renderer, "the call", runs);
    let waits = ipc_renderer.clone();
    let waiting = std::thread::spawn(move || waits.wait(Some(PATIENCE)).unwrap());
    answer.send(7).unwrap();
    assert!(waiting.join().unwrap(), "the task's waker has ended the wait");
    settle(&ipc_renderer);
    assert_eq!(asking.join().unwrap().unwrap(), 7);
    let fd = ipc_renderer.as_fd().unwrap();
    ipc_renderer.on("n", |_, ()| ());
    settle(&ipc_renderer);
    web_contents.send("n", ()).unwrap();
    assert!(is_readable(fd, PATIENCE));
}

#[test]
fn a_handler_that_wakes_itself_starves_neither_messages_nor_a_waiting_callback() {
    let (ipc_main, ipc_renderer) = polled_main();
    ipc_main.handle_async("yields", |_, ()| yields()).unwrap();
    let (seen, count) = counts();
    ipc_main.on("n", move |_, (n,): (u64,)| count(n));
    ipc_renderer.handle("echo", |_, (n,): (i64,)| Ok(n)).unwrap();
    let call = ipc_renderer.invoke::<()>("yields", ());
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    poll_once_until(&ipc_main, || web_contents.stats().open_requests == 1);
    for (n, budget) in
        [Budget::messages(64), Budget::messages(1), Budget::time(Duration::from_micros(50))].into_iter().enumerate()
    {
        ipc_renderer.send("n", (n,)).unwrap();
        let end = Instant::now() + PATIENCE;
        while seen.load(Ordering::Relaxed) <= n as u64 {
            assert!(Instant::now() < end, "not heard with {budget:?}");
            ipc_main.poll(budget).unwrap();
        }
    }
    let answer = web_contents.invoke::<i64>("echo", (5,), PATIENCE).wait_polling(PATIENCE);
    assert_eq!(answer.unwrap(), 5);
    drop(call);
}

fn poll_once_until(ipc_main: &IpcMain, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end);
        ipc_main.poll(Budget::messages(10)).unwrap();
    }
}

#[test]
fn nothing_runs_in_a_waiting_callback_once_the_handle_was_shut_down() {
    let (ipc_main, ipc_renderer) = polled_main();
    let log: Arc<Mutex<Vec<&str>>> = Arc::default();
    let (logs, ends) = (log.clone(), ipc_main.clone());
    ipc_main.on("first", move |_, ()| {
        ends.shutdown();
        logs.lock().unwrap().push("first");
    });
    let logs = log.clone();
    ipc_main.on("second", move |_, ()| logs.lock().unwrap().push("second"));
    let sends = ipc_renderer.clone();
    ipc_renderer
        .handle_async("slow", move |_, ()| {
            sends.send("first", ()).unwrap();
            sends.send("second", ()).unwrap();
            never()
        })
        .unwrap();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let waited = web_contents.invoke::<()>("slow", (), PATIENCE).wait_polling(PATIENCE);
    assert_eq!(kind(waited), ErrorKind::Disconnected);
    assert_eq!(*log.lock().unwrap(), ["first"]);
}

/// A main that is polled and has a small queue, and a renderer whose answer comes behind so many messages, which are counted.
fn answers_behind(messages: u64) -> (IpcMain, IpcRenderer, Arc<AtomicU64>) {
    let (ipc_main, ipc_renderer) = pair(manual().queue_limit(64 << 10), IpcRenderer::builder());
    is_known(&ipc_main);
    let (seen, count) = counts();
    ipc_main.on("n", move |_, (n, _text): (u64, String)| count(n));
    settle(&ipc_main);
    let sends = ipc_renderer.clone();
    ipc_renderer
        .handle("ask", move |_, ()| {
            (0..messages).for_each(|n| sends.send("n", (n, "x".repeat(1000))).unwrap());
            Ok(1)
        })
        .unwrap();
    (ipc_main, ipc_renderer, seen)
}

#[test]
fn a_plain_wait_between_polls_gets_its_answer_behind_more_than_the_queue_takes() {
    let (ipc_main, ipc_renderer, seen) = answers_behind(200);
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    assert_eq!(web_contents.invoke::<i64>("ask", (), PATIENCE).wait().unwrap(), 1);
    poll_until(&ipc_main, "the messages", || seen.load(Ordering::Relaxed) == 200);
}

/// Another thread reads for it until the inbox is full, and sleeps. Then the poll ends: nobody empties the inbox any more.
#[test]
fn a_wait_beside_a_poll_that_ends_with_a_full_inbox_gets_its_answer() {
    let (ipc_main, ipc_renderer, seen) = answers_behind(2000);
    let gate = Gate::default();
    let waits = gate.clone();
    ipc_main.on("blocks", move |_, ()| waits.wait());
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    ipc_renderer.send("blocks", ()).unwrap();
    std::thread::scope(|scope| {
        let main = &ipc_main;
        let polls = scope.spawn(move || {
            until("the message that blocks is there", || main.poll(Budget::messages(1)).unwrap().ran == 1);
        });
        gate.reached();
        let (tid, is_tid) = channel();
        let asks = scope.spawn(move || {
            tid.send(rustix::thread::gettid()).unwrap();
            web_contents.invoke::<i64>("ask", (), PATIENCE).wait()
        });
        let tid = is_tid.recv().unwrap().as_raw_nonzero().get();
        let sleeps = || stat_of(&format!("/proc/self/task/{tid}/stat")).is_some_and(|fields| fields[0] == "S");
        until("the inbox is full", || ipc_renderer.stats().queued_bytes > 0 && sleeps());
        gate.open();
        polls.join().unwrap();
        assert_eq!(asks.join().unwrap().unwrap(), 1);
    });
    poll_until(&ipc_main, "the messages", || seen.load(Ordering::Relaxed) == 2000);
}

#[test]
fn an_earlier_deadline_of_another_thread_is_kept_while_a_callback_waits() {
    let (ipc_main, ipc_renderer) = polled_main();
    let gate = Gate::default();
    let (held, runs) = (gate.clone(), gate.clone());
    ipc_renderer
        .handle("ask", move |_, ()| {
            held.wait();
            Ok(1)
        })
        .unwrap();
    ipc_renderer.handle_async("never", |_, ()| never()).unwrap();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let calls = web_contents.clone();
    let other = std::thread::spawn(move || {
        runs.reached(); // the polling thread waits, or is about to
        let error = futures::executor::block_on(calls.invoke::<()>("never", (), Duration::from_millis(20)));
        runs.open();
        kind(error)
    });
    // The answer comes only when the other thread's time was found to be over.
    assert_eq!(web_contents.invoke::<i64>("ask", (), PATIENCE).wait_polling(PATIENCE).unwrap(), 1);
    assert_eq!(bounded("the other call", move || other.join().unwrap()), ErrorKind::Timeout);
}

#[test]
fn a_listener_that_runs_while_a_task_waits_may_not_block_on_a_future_either() {
    let (ipc_main, ipc_renderer) = polled_main();
    ipc_renderer.handle_async("never", |_, ()| never()).unwrap();
    let sends = ipc_renderer.clone();
    ipc_renderer
        .handle("back", move |_, ()| {
            sends.send("n", ())?;
            Ok(sends.invoke::<i64>("heard", ()).wait()?)
        })
        .unwrap();
    let (tell, told) = channel();
    ipc_main.on("n", move |event, ()| {
        let call = event.sender().invoke::<()>("never", (), Duration::from_millis(500));
        tell.send(kind(futures::executor::block_on(call))).unwrap();
    });
    ipc_main.handle("heard", |_, ()| Ok(4)).unwrap();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    ipc_main
        .handle_async("task", move |_, ()| {
            let web_contents = web_contents.clone();
            async move { Ok(web_contents.invoke::<i64>("back", (), PATIENCE).wait_polling(PATIENCE)?) }
        })
        .unwrap();
    let other = IpcRenderer::builder().attach(&ipc_main).unwrap();
    let asking = std::thread::spawn(move || other.invoke::<i64>("task", ()).timeout(PATIENCE).wait());
    poll_until(&ipc_main, "the answer", || asking.is_finished());
    assert_eq!(asking.join().unwrap().unwrap(), 4);
    assert_eq!(support::next(&told, "the listener"), ErrorKind::WouldDeadlock);
}

#[test]
fn hooks_of_the_relay_may_end_the_handle_and_find_its_lock_free() {
    let ipc_main = builder().build().unwrap();
    // At its beginning: the handle ends on the relay's own thread.
    let slot: Arc<Mutex<Option<IpcRenderer>>> = Arc::default();
    let slots = slot.clone();
    let renderer = IpcRenderer::builder().dispatch(Dispatch::Manual).on_thread_start(move |role| {
        if role == ThreadRole::Relay {
            let owner = slots.lock().unwrap().take();
            drop(owner);
        }
    });
    let renderer = renderer.attach(&ipc_main).unwrap();
    let polls = renderer.clone();
    *slot.lock().unwrap() = Some(renderer);
    bounded("the end at the beginning", move || {
        let _ = polls.as_fd().map(drop);
        while polls.wait(Some(PATIENCE)).and_then(|_| polls.poll(Budget::UNLIMITED)).is_ok() {}
    });
    // At its end, which the end of the handle waits for.
    let (slot, found): (Arc<Mutex<Option<IpcRenderer>>>, _) = (Arc::default(), Arc::new(Mutex::new(None)));
    let (slots, finds) = (slot.clone(), found.clone());
    let renderer = IpcRenderer::builder().dispatch(Dispatch::Manual).on_thread_stop(move |role| {
        if role == ThreadRole::Relay
            && let Some(polls) = slots.lock().unwrap().take()
        {
            // It may be on its way out before whoever drops the handle has ended it: then this poll does.
            let polled = polls.poll(Budget::UNLIMITED).and_then(|_| polls.poll(Budget::UNLIMITED));
            *finds.lock().unwrap() = Some(kind(polled));
        }
    });
    let renderer = renderer.attach(&ipc_main).unwrap();
    renderer.as_fd().unwrap();
    *slot.lock().unwrap() = Some(renderer.clone());
    bounded("the end at the end", move || drop(renderer));
    // Where its poll has ended the handle nobody waits for that thread.
    until("the hook has polled", || found.lock().unwrap().is_some());
    assert_eq!(*found.lock().unwrap(), Some(ErrorKind::Disconnected));
}

// ---- threads ----------------------------------------------------------------------------------------------------

#[test]
fn the_hooks_of_threads_run_on_them_at_their_beginning_and_end() {
    let log: Arc<Mutex<Vec<(ThreadRole, bool, String)>>> = Arc::default();
    let hook = |log: &Arc<Mutex<Vec<_>>>, starts| {
        let log = log.clone();
        move |role| {
            let name = std::thread::current().name().unwrap_or_default().to_string();
            log.lock().unwrap().push((role, starts, name));
        }
    };
    let build = |builder: IpcMainBuilder| {
        builder.on_thread_start(hook(&log, true)).on_thread_stop(hook(&log, false)).build().unwrap()
    };
    drop(build(builder()));
    let entry = |role, starts, name: &str| (role, starts, name.to_string());
    let mut seen = std::mem::take(&mut *log.lock().unwrap());
    seen.sort_by_key(|(role, starts, _)| (format!("{role:?}"), !starts));
    let (disp, watch) = ("ringmain-disp", "ringmain-watch");
    assert_eq!(
        seen,
        [
            entry(ThreadRole::Dispatcher, true, disp),
            entry(ThreadRole::Dispatcher, false, disp),
            entry(ThreadRole::Watch, true, watch),
            entry(ThreadRole::Watch, false, watch),
        ]
    );
    drop(build(manual()));
    let roles: Vec<_> = log.lock().unwrap().iter().map(|(role, ..)| *role).collect();
    assert_eq!(roles, [ThreadRole::Watch; 2], "no thread runs callbacks");
}

/// The scheduling class of a thread of this process, and the cores that it may use. `None`: it has ended.
fn scheduling_of(task: &str) -> Option<(String, String)> {
    let stat = support::stat_of(&format!("/proc/self/task/{task}/stat"))?;
    let status = std::fs::read_to_string(format!("/proc/self/task/{task}/status")).ok()?;
    let cores = status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap();
    // Field 41 of proc(5), counted from the state, which is field 3.
    Some((stat[38].clone(), cores.to_string()))
}

const ORDINARY: &str = "0";

#[test]
fn what_a_real_time_or_bound_thread_starts_is_neither() {
    let all = scheduling_of(&std::process::id().to_string()).unwrap().1;
    let (report, by_main) = channel();
    let starts = std::thread::spawn(move || {
        let mut one = rustix::thread::CpuSet::new();
        one.set(0);
        rustix::thread::sched_setaffinity(None, &one).unwrap();
        let is_real_time = support::become_real_time();
        let ipc_main = support::ipc_main();
        ipc_main.on("scheduling", move |_, (class, cores): (String, String)| report.send((class, cores)).unwrap());
        let child = spawn(&ipc_main, "says how it is scheduled");
        // Both threads have had their part in this, so they have their names and their class.
        let said = support::next(&by_main, "the child's scheduling");
        for name in ["ringmain-disp", "ringmain-watch"] {
            // Ours are there; another test's may end meanwhile.
            let found: Vec<_> = support::threads_named(name).iter().filter_map(|task| scheduling_of(task)).collect();
            assert!(!found.is_empty(), "{name}");
            for (class, _) in found {
                assert_eq!(class, ORDINARY, "{name}");
            }
        }
        drop(child);
        (said, is_real_time)
    });
    let ((class, cores), is_real_time) = bounded("the start", move || starts.join().unwrap());
    assert_eq!((class.as_str(), cores), (ORDINARY, all), "with a real-time class: {is_real_time}");
}

fn says_how_it_is_scheduled() {
    let ipc_renderer = connected();
    let (class, cores) = scheduling_of(&std::process::id().to_string()).unwrap();
    ipc_renderer.send("scheduling", (class, cores)).unwrap();
    until_disconnected(&ipc_renderer);
}

#[test]
fn a_real_time_thread_that_is_to_spin_sleeps_all_the_same_unless_it_is_told_to() {
    alone("spins on real time");
}

fn spins_on_real_time() {
    for spins in [false, true] {
        let (ipc_main, ipc_renderer) = pair(
            builder().wait(Wait::Spin).spin_on_real_time(spins),
            // Nobody else reads its ring: who follows sleeps in any case.
            IpcRenderer::builder().dispatch(Dispatch::Manual).wait(Wait::Spin).spin_on_real_time(spins),
        );
        let gate = Gate::default();
        let held = gate.clone();
        ipc_main
            .handle("later", move |_, ()| {
                held.wait();
                Ok(())
            })
            .unwrap();
        let (task, is_task) = channel();
        let caller = std::thread::spawn(move || {
            let is_real_time = support::become_real_time();
            task.send((rustix::thread::gettid().as_raw_nonzero().to_string(), is_real_time)).unwrap();
            ipc_renderer.invoke::<()>("later", ()).wait().unwrap();
        });
        let (task, is_real_time) = support::next(&is_task, "the caller");
        gate.reached();
        let sleeps = || {
            let stat = support::stat_of(&format!("/proc/self/task/{task}/stat")).unwrap();
            stat[0] == "S"
        };
        if is_real_time && !spins {
            until("it sleeps", sleeps);
        } else {
            // It is never seen asleep; that it might be is what the other case shows.
            for _ in 0..1000 {
                assert!(!sleeps() || !is_real_time, "it sleeps though it was told to spin");
                std::thread::yield_now();
            }
        }
        gate.open();
        bounded("the caller", move || caller.join().unwrap());
        if !is_real_time {
            eprintln!("not permitted to be real-time here: half of this test is not tested");
        }
        drop(ipc_main);
    }
}

#[test]
fn starting_and_stopping_a_thousand_times_leaves_nothing_behind() {
    alone("starts and stops");
}

fn starts_and_stops() {
    let once = |polls: bool| {
        let dispatch = if polls { Dispatch::Manual } else { Dispatch::Threads };
        let (ipc_main, ipc_renderer) = pair(builder().dispatch(dispatch), IpcRenderer::builder().dispatch(dispatch));
        ipc_main.on("n", |_, ()| ());
        ipc_renderer.send("n", ()).unwrap();
        if polls {
            is_known(&ipc_main);
            ipc_main.as_fd().unwrap();
            ipc_renderer.as_fd().unwrap();
            settle(&ipc_renderer);
            poll_until(&ipc_main, "the message", || !ipc_main.wait(Some(Duration::ZERO)).unwrap());
        }
    };
    let tasks = support::threads();
    (0..8).for_each(|n| once(n % 2 == 0));
    // One that was joined may still be listed.
    until("the threads of the warm-up have ended", || support::threads() == tasks);
    let (before, memory) = (support::held(), resident());
    (0..1000).for_each(|n| once(n % 2 == 0));
    until("all is given back", || support::held() == before);
    let grown = resident().saturating_sub(memory);
    // What glibc keeps of threads that have ended moves by less.
    assert!(grown < 4 << 20, "a thousand times left {grown} bytes");
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

// ---- the descriptor ---------------------------------------------------------------------------------------------

/// Whether it becomes readable within this time.
fn is_readable(fd: impl AsFd, within: Duration) -> bool {
    let timeout = Timespec::try_from(within).unwrap();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&timeout)).unwrap() == 1
}

const NOW: Duration = Duration::ZERO;

#[test]
fn the_descriptor_of_main_is_readable_as_long_as_a_poll_would_find_something() {
    let (ipc_main, ipc_renderer) = polled_main();
    ipc_main.on("n", |_, ()| ());
    let fd = ipc_main.as_fd().unwrap();
    assert!(is_readable(fd, NOW), "the renderer has connected");
    settle(&ipc_main);
    assert!(!is_readable(fd, NOW));
    for _ in 0..3 {
        (0..5).for_each(|_| ipc_renderer.send("n", ()).unwrap());
        assert!(is_readable(fd, PATIENCE));
        // A part of it: the rest keeps it readable, without another message.
        assert!(ipc_main.poll(Budget::messages(2)).unwrap().more);
        assert!(is_readable(fd, NOW));
        assert_eq!(ipc_main.poll(Budget::UNLIMITED).unwrap(), Polled { ran: 3, more: false });
        assert!(!is_readable(fd, NOW));
    }
    // A wait and the descriptor go together.
    ipc_renderer.send("n", ()).unwrap();
    assert!(ipc_main.wait(Some(PATIENCE)).unwrap());
    assert!(is_readable(fd, NOW), "the wait has not taken it away");
    settle(&ipc_main);
    assert!(!ipc_main.wait(Some(NOW)).unwrap());
    assert!(!is_readable(fd, NOW));
    ipc_renderer.send("n", ()).unwrap();
    assert!(is_readable(fd, PATIENCE));
    settle(&ipc_main);
    // What another thread asks of the polling one, and the end of a renderer.
    let renderer = ipc_renderer.id();
    ipc_main.on_renderer_gone(|_, _| ());
    drop(ipc_renderer);
    let end = Instant::now() + PATIENCE;
    while ipc_main.web_contents(renderer).is_some() {
        assert!(Instant::now() < end && is_readable(fd, PATIENCE));
        settle(&ipc_main);
    }
}

#[test]
fn the_descriptor_of_a_renderer_is_readable_as_long_as_a_poll_would_find_something() {
    let (ipc_main, ipc_renderer) = polled_renderer();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    ipc_renderer.on("n", |_, ()| ());
    let fd = ipc_renderer.as_fd().unwrap();
    settle(&ipc_renderer);
    assert!(!is_readable(fd, NOW));
    for _ in 0..3 {
        (0..5).for_each(|_| web_contents.send("n", ()).unwrap());
        assert!(is_readable(fd, PATIENCE));
        let mut ran = 0;
        while ran < 5 {
            assert!(is_readable(fd, PATIENCE), "{ran} of 5 have run");
            ran += ipc_renderer.poll(Budget::messages(2)).unwrap().ran;
        }
        // A ring that was on its way may still come, for nothing.
        until("it is quiet", || {
            settle(&ipc_renderer);
            !is_readable(fd, NOW)
        });
    }
    web_contents.send("n", ()).unwrap();
    assert!(ipc_renderer.wait(Some(PATIENCE)).unwrap());
    assert!(is_readable(fd, NOW), "the wait has not taken it away");
    settle(&ipc_renderer);
    drop(ipc_main);
    let end = Instant::now() + PATIENCE;
    while ipc_renderer.is_connected() {
        assert!(Instant::now() < end && is_readable(fd, PATIENCE));
        settle(&ipc_renderer);
    }
}

#[test]
fn the_descriptor_becomes_readable_when_a_deadline_is_due_and_when_a_task_is_woken() {
    let (ipc_main, ipc_renderer) = polled_main();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let (open, opened) = futures::channel::oneshot::channel::<i64>();
    let opened = Mutex::new(Some(opened));
    ipc_main
        .handle_once_async("later", move |_, ()| {
            let opened = opened.lock().unwrap().take().unwrap();
            async move { Ok(opened.await?) }
        })
        .unwrap();
    let gate = Gate::default();
    let held = gate.clone();
    ipc_renderer.on("hold", move |_, ()| held.wait());
    let fd = ipc_main.as_fd().unwrap();
    settle(&ipc_main);
    web_contents.send("hold", ()).unwrap();
    gate.reached();
    for before_a_poll in [true, false] {
        if before_a_poll {
            settle(&ipc_main);
        }
        let call = web_contents.invoke::<()>("nobody", (), Duration::from_millis(20));
        let end = Instant::now() + PATIENCE;
        while ipc_main.next_deadline().is_some() {
            assert!(Instant::now() < end && is_readable(fd, PATIENCE));
            settle(&ipc_main);
        }
        let error = futures::FutureExt::now_or_never(call).expect("it is over").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
    gate.open();
    let call = ipc_renderer.invoke::<i64>("later", ());
    let answer = std::thread::spawn(move || call.wait());
    assert!(is_readable(fd, PATIENCE));
    poll_until(&ipc_main, "the call", || web_contents.stats().open_requests == 1);
    until("it is quiet", || {
        settle(&ipc_main);
        !is_readable(fd, NOW)
    });
    open.send(7).unwrap();
    assert!(is_readable(fd, NOW), "the waker has rung");
    settle(&ipc_main);
    assert_eq!(answer.join().unwrap().unwrap(), 7);
}

#[test]
fn a_descriptor_in_an_epoll_of_the_program_works_level_triggered() {
    // As tokio's, mio's and GLib's loops have it; those are tested in `loops.rs`.
    let (ipc_main, ipc_renderer) = polled_main();
    ipc_main.on("n", |_, ()| ());
    let outer = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
    let (data, flags) = (rustix::event::epoll::EventData::new_u64(1), rustix::event::epoll::EventFlags::IN);
    rustix::event::epoll::add(&outer, ipc_main.as_fd().unwrap(), data, flags).unwrap();
    settle(&ipc_main);
    assert!(!is_readable(&outer, NOW));
    ipc_renderer.send("n", ()).unwrap();
    for _ in 0..3 {
        assert!(is_readable(&outer, PATIENCE), "as long as nobody polls");
    }
    settle(&ipc_main);
    assert!(!is_readable(&outer, NOW));
}

/// Messages of each of the two tests below; `RINGMAIN_TEST_ROUNDS` says more.
const MESSAGES: u64 = 50_000;

/// Sends that many messages, with pauses of every length, so that one meets each step of the other side.
fn send_at_random(messages: u64, mut send: impl FnMut(u64)) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for n in 0..messages {
        send(n);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        match random % 64 {
            0 => std::thread::yield_now(),
            1..8 => (0..random >> 8 & 0xfff).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }
}

/// Polls with budgets of all kinds, and only when the descriptor is readable, until all messages were seen.
fn poll_when_readable(polls: &impl Polls, fd: impl AsFd, messages: u64, seen: &AtomicU64) {
    let mut random = 1_u64;
    while seen.load(Ordering::Relaxed) < messages {
        assert!(is_readable(&fd, PATIENCE), "{} of {messages} have run", seen.load(Ordering::Relaxed));
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let budget = match random >> 60 {
            0 => Budget::messages(1),
            1 => Budget::time(Duration::from_micros(20)),
            _ => Budget::UNLIMITED,
        };
        polls.poll(budget).unwrap();
    }
}

fn messages() -> u64 {
    std::env::var("RINGMAIN_TEST_ROUNDS").map_or(MESSAGES, |rounds| rounds.parse().unwrap())
}

/// A listener's count of the messages that came in order.
fn counts() -> (Arc<AtomicU64>, impl Fn(u64) + Send + Sync + 'static) {
    let seen = Arc::new(AtomicU64::new(0));
    let sees = seen.clone();
    (seen, move |n| assert_eq!(sees.fetch_add(1, Ordering::Relaxed), n))
}

#[test]
fn no_message_is_left_behind_an_unreadable_descriptor_of_main() {
    let (ipc_main, ipc_renderer) = polled_main();
    let (seen, count) = counts();
    ipc_main.on("n", move |_, (n,): (u64,)| count(n));
    let sender = std::thread::spawn(move || {
        send_at_random(messages(), |n| ipc_renderer.send_timeout("n", (n,), PATIENCE).unwrap());
        ipc_renderer
    });
    poll_when_readable(&ipc_main, ipc_main.as_fd().unwrap(), messages(), &seen);
    drop(sender.join().unwrap());
}

#[test]
fn no_message_is_left_behind_an_unreadable_descriptor_of_a_renderer() {
    let (ipc_main, ipc_renderer) = polled_renderer();
    let web_contents = ipc_main.web_contents(ipc_renderer.id()).unwrap();
    let (seen, count) = counts();
    ipc_renderer.on("n", move |_, (n,): (u64,)| count(n));
    let sender = std::thread::spawn(move || {
        send_at_random(messages(), |n| web_contents.send_timeout("n", (n,), PATIENCE).unwrap());
    });
    poll_when_readable(&ipc_renderer, ipc_renderer.as_fd().unwrap(), messages(), &seen);
    sender.join().unwrap();
}
