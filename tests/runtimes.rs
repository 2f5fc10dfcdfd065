//! Calls on the runtimes that programs have: futures, smol, tokio, and none.
#![allow(missing_docs)]

mod support;

use futures::channel::oneshot;
use futures::future::{join_all, try_join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use ringmain::{ErrorKind, HandlerError, IpcMain, IpcMainInvokeEvent, IpcRenderer, WebContents};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;
use support::{PATIENCE, Puppet, bounded, ipc_main, next, pair, pair_of, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

#[test]
fn children() {
    support::play(&[("puppet", support::puppet), ("tokio renderer", tokio_renderer)]);
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Runs a future to its end on each runtime in turn.
fn on_every_runtime<T: Send + 'static, Fut: Future<Output = T> + Send + 'static>(make: impl Fn() -> Fut) -> [T; 4] {
    let runtime = runtime();
    let current = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let spawned = runtime.block_on(runtime.spawn(make())).expect("a task that does not panic");
    [futures::executor::block_on(make()), smol::block_on(smol::spawn(make())), spawned, current.block_on(make())]
}

fn both_ways() -> (IpcMain, IpcRenderer, WebContents) {
    let (ipc_main, ipc_renderer) = pair();
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_renderer.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let web_contents = ipc_main.all_web_contents().remove(0);
    (ipc_main, ipc_renderer, web_contents)
}

// ---- callers ----------------------------------------------------------------------------------------------------

#[test]
fn calls_both_ways_are_awaited_on_every_runtime_alone_and_many_at_once() {
    const CALLS: i64 = 1000;
    let (_ipc_main, ipc_renderer, web_contents) = both_ways();
    let results = on_every_runtime(|| {
        let (ipc_renderer, web_contents) = (ipc_renderer.clone(), web_contents.clone());
        async move {
            let one = ipc_renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE).await?;
            let other = web_contents.invoke::<i64>("add", (one, one), PATIENCE).await?;
            let there = (0..CALLS).map(|n| ipc_renderer.invoke::<i64>("add", (n, 1)).timeout(PATIENCE));
            let back = (0..CALLS).map(|n| web_contents.invoke::<i64>("add", (n, 2), PATIENCE));
            let (there, back): (Vec<_>, Vec<_>) = (there.collect(), back.collect());
            let sums = try_join_all(there.into_iter().chain(back)).await?;
            let missing = ipc_renderer.invoke::<i64>("missing", ()).await.unwrap_err().kind();
            Ok::<_, ringmain::Error>((other, sums, missing))
        }
    });
    for result in results {
        let (sum, sums, missing) = result.unwrap();
        assert_eq!((sum, missing), (10, ErrorKind::NoHandler));
        assert!(sums.into_iter().eq((1..=CALLS).chain(2..CALLS + 2)));
    }
    assert_eq!((ipc_renderer.stats().pending_calls, web_contents.stats().pending_calls), (0, 0));
}

#[test]
fn calls_to_another_process_are_awaited_on_every_runtime() {
    let ipc_main = ipc_main();
    let mut puppet = Puppet::spawn(&ipc_main);
    puppet.handle(1, "echo", "echo").unwrap();
    let web_contents = ipc_main.web_contents(puppet.id()).unwrap();
    let results = on_every_runtime(|| {
        let web_contents = web_contents.clone();
        async move {
            let calls: Vec<_> = (0..200).map(|n| web_contents.invoke::<[i64; 1]>("echo", (n,), PATIENCE)).collect();
            try_join_all(calls).await
        }
    });
    for result in results {
        assert!(result.unwrap().into_iter().map(|[n]| n).eq(0..200));
    }
}

#[test]
fn a_runtimes_own_timeout_or_select_cancels_a_call_by_dropping_it() {
    let (ipc_main, ipc_renderer) = pair();
    let (start, starts) = channel::<IpcMainInvokeEvent>();
    ipc_main
        .handle_async("never", move |event, ()| {
            start.send(event).unwrap();
            std::future::pending::<Result<(), HandlerError>>()
        })
        .unwrap();
    let runtime = runtime();
    let late = runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(20), ipc_renderer.invoke::<()>("never", ())).await
    });
    assert!(late.is_err());
    assert_eq!(ipc_renderer.stats().pending_calls, 0);
    let task = runtime.spawn(ipc_renderer.invoke::<()>("never", ()));
    until("the call of the task", || ipc_renderer.stats().pending_calls == 1);
    task.abort();
    assert!(runtime.block_on(task).unwrap_err().is_cancelled());
    assert_eq!(ipc_renderer.stats().pending_calls, 0);
    smol::block_on(async {
        let by_timer = async {
            smol::Timer::after(Duration::from_millis(20)).await;
            Err(ErrorKind::Timeout)
        };
        let call = async { ipc_renderer.invoke::<()>("never", ()).await.map_err(|error| error.kind()) };
        assert_eq!(smol::future::or(call, by_timer).await, Err(ErrorKind::Timeout));
    });
    assert_eq!(ipc_renderer.stats().pending_calls, 0);
    // A call may have been cancelled before it was started; what was started is told.
    until("no request is open", || {
        starts.try_iter().for_each(|event| until("cancelled", || event.is_cancelled()));
        ipc_main.all_web_contents()[0].stats().open_requests == 0
    });
}

#[test]
fn thousands_of_calls_complete_in_the_order_in_which_their_handlers_end() {
    const CALLS: usize = 20_000;
    let (ipc_main, ipc_renderer) = pair();
    let (start, starts) = channel();
    ipc_main
        .handle_async("meet", move |_, (n,): (usize,)| {
            let (go, goes) = oneshot::channel::<()>();
            start.send(go).unwrap();
            async move { Ok(goes.await.map(|()| n)?) }
        })
        .unwrap();
    // All in flight at once, and let go in an order that is not that of the calls.
    let calls: Vec<_> = (0..CALLS).map(|n| ipc_renderer.invoke::<usize>("meet", (n,)).timeout(4 * PATIENCE)).collect();
    let mut goes: Vec<_> = (0..CALLS).map(|_| Some(next(&starts, "a start"))).collect();
    assert_eq!(ipc_renderer.stats().pending_calls, CALLS as u64);
    let order: Vec<usize> = (0..CALLS).map(|n| (n * 7919 + 1) % CALLS).collect(); // 7919 is prime to it
    let answering = std::thread::spawn({
        let order = order.clone();
        move || order.into_iter().for_each(|n| goes[n].take().unwrap().send(()).unwrap())
    });
    let answers = futures::executor::block_on(join_all(calls));
    answering.join().unwrap();
    assert!(answers.into_iter().map(Result::unwrap).eq(0..CALLS));
    // One by one it is seen that replies come as handlers end: the next is let go when the one before has answered.
    let (start, starts) = channel();
    ipc_main
        .handle_async("one by one", move |_, (n,): (usize,)| {
            let (go, goes) = oneshot::channel::<()>();
            start.send(go).unwrap();
            async move { Ok(goes.await.map(|()| n)?) }
        })
        .unwrap();
    let mut calls: FuturesUnordered<_> =
        (0..100).map(|n| ipc_renderer.invoke::<usize>("one by one", (n,)).timeout(PATIENCE)).collect();
    let mut goes: Vec<_> = (0..100).map(|_| Some(next(&starts, "a start"))).collect();
    for n in (0..100).map(|n| (n * 37 + 5) % 100) {
        goes[n].take().unwrap().send(()).unwrap();
        assert_eq!(futures::executor::block_on(calls.next()).unwrap().unwrap(), n);
    }
}

// ---- handlers ---------------------------------------------------------------------------------------------------

#[test]
fn async_handlers_await_calls_of_their_own_to_and_fro() {
    let (ipc_main, ipc_renderer, web_contents) = both_ways();
    let callee = web_contents.clone();
    ipc_main
        .handle_async("down", move |event, (n,): (i64,)| {
            let callee = callee.clone();
            async move {
                if n == 0 {
                    return Ok(0);
                }
                let (below, one) = futures::future::try_join(
                    callee.invoke::<i64>("down", (n - 1,), PATIENCE),
                    event.sender().invoke::<i64>("add", (0, 1), PATIENCE),
                )
                .await?;
                Ok(below + one)
            }
        })
        .unwrap();
    let caller = ipc_renderer.clone();
    ipc_renderer
        .handle_async("down", move |_, (n,): (i64,)| {
            let caller = caller.clone();
            async move {
                let below = caller.invoke::<i64>("down", (n,)).timeout(PATIENCE).await?;
                Ok(caller.invoke::<i64>("add", (below, 1)).timeout(PATIENCE).await?)
            }
        })
        .unwrap();
    // Each step down is one in main and one in the renderer.
    assert_eq!(ipc_renderer.invoke::<i64>("down", (20,)).timeout(PATIENCE).wait().unwrap(), 40);
    assert_eq!(web_contents.invoke::<i64>("down", (20,), PATIENCE).wait().unwrap(), 41);
    let many: Vec<_> = (0..50).map(|_| ipc_renderer.invoke::<i64>("down", (5,)).timeout(PATIENCE)).collect();
    assert!(futures::executor::block_on(join_all(many)).into_iter().all(|sum| sum.unwrap() == 10));
    assert_eq!((ipc_renderer.stats().pending_calls, web_contents.stats().pending_calls), (0, 0));
}

/// A server on 127.0.0.1 that sends back what it gets, in capitals, until its runtime ends.
fn shouting_server(runtime: &Runtime) -> SocketAddr {
    let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).expect("a port");
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 64];
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            buffer.make_ascii_uppercase();
            let _ = stream.write_all(&buffer[..read]).await;
        }
    });
    address
}

/// What needs tokio: its timer and its sockets.
async fn shout(address: SocketAddr, text: String) -> Result<String, HandlerError> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[test]
fn with_a_tokio_runtime_as_executor_handlers_of_main_use_its_timers_and_sockets() {
    let runtime = Arc::new(runtime());
    let address = shouting_server(&runtime);
    let handle = runtime.handle().clone();
    let builder = support::builder().executor(move |future| drop(handle.spawn(future)));
    let (ipc_main, ipc_renderer) = pair_of(builder);
    ipc_main.handle_async("shout", move |_, (text,): (String,)| shout(address, text)).unwrap();
    let calls: Vec<_> = (0..20).map(|n| ipc_renderer.invoke::<String>("shout", (format!("call {n}"),))).collect();
    let answers = futures::executor::block_on(join_all(calls.into_iter().map(|call| call.timeout(PATIENCE))));
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), format!("CALL {n}"));
    }
    // An error of tokio's arrives with its text.
    ipc_main.handle_async("nowhere", |_, ()| shout(SocketAddr::from(([127, 0, 0, 1], 0)), String::new())).unwrap();
    let error = ipc_renderer.invoke::<String>("nowhere", ()).timeout(PATIENCE).wait().unwrap_err();
    assert_eq!((error.kind(), error.remote_name()), (ErrorKind::Handler, Some("Error")));
    drop((ipc_main, ipc_renderer));
}

#[test]
fn on_an_executor_a_handler_may_await_and_even_wait_for_calls_of_its_own() {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let (ipc_main, ipc_renderer) = pair_of(support::builder().executor(move |future| drop(handle.spawn(future))));
    ipc_renderer.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    ipc_main
        .handle_async("awaits", |event, (n,): (i64,)| async move {
            Ok(event.sender().invoke::<i64>("add", (n, 1), PATIENCE).await?)
        })
        .unwrap();
    ipc_main
        .handle_async("waits", |event, (n,): (i64,)| async move {
            Ok(event.sender().invoke::<i64>("add", (n, 2), PATIENCE).wait()?)
        })
        .unwrap();
    assert_eq!(ipc_renderer.invoke::<i64>("awaits", (4,)).timeout(PATIENCE).wait().unwrap(), 5);
    assert_eq!(ipc_renderer.invoke::<i64>("waits", (4,)).timeout(PATIENCE).wait().unwrap(), 6);
}

#[test]
fn without_an_executor_a_handler_that_needs_tokio_panics_and_its_caller_learns_why() {
    let (ipc_main, ipc_renderer) = pair();
    let address = SocketAddr::from(([127, 0, 0, 1], 9));
    ipc_main.handle_async("shout", move |_, (text,): (String,)| shout(address, text)).unwrap();
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let error = ipc_renderer.invoke::<String>("shout", ("x",)).timeout(PATIENCE).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HandlerPanicked);
    assert!(error.to_string().contains("there is no reactor running"), "{error}");
    assert_eq!(ipc_renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE).wait().unwrap(), 5);
    // What smol offers needs no runtime of the caller's.
    ipc_main
        .handle_async("smol", |_, (n,): (i64,)| async move {
            smol::Timer::after(Duration::from_millis(1)).await;
            Ok(n)
        })
        .unwrap();
    assert_eq!(ipc_renderer.invoke::<i64>("smol", (7,)).timeout(PATIENCE).wait().unwrap(), 7);
}

const ADDRESS: &str = "RINGMAIN_TEST_ADDRESS";

fn tokio_renderer() {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let address: SocketAddr = std::env::var(ADDRESS).unwrap().parse().unwrap();
    let ipc_renderer = IpcRenderer::builder()
        .executor(move |future| drop(handle.spawn(future)))
        .handle_async("shout", move |_, (text,): (String,)| shout(address, text))
        .handle_async::<(), (), _, _>("panics", |_, ()| async { panic!("in a task") })
        .connect()
        .unwrap();
    // And it awaits its own calls there.
    let sum = runtime.block_on(async { ipc_renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE).await });
    ipc_renderer.send("sum", (sum.unwrap(),)).unwrap();
    support::until_disconnected(&ipc_renderer);
}

#[test]
fn with_a_tokio_runtime_as_executor_handlers_of_a_renderer_use_its_timers_and_sockets() {
    let ours = runtime();
    let mut command = support::child("tokio renderer");
    command.env(ADDRESS, shouting_server(&ours).to_string());
    let ipc_main = ipc_main();
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let (sum, sums) = channel();
    ipc_main.on("sum", move |_, (n,): (i64,)| sum.send(n));
    let child = support::Child(ipc_main.spawn(command).unwrap());
    let calls: Vec<_> = (0..20).map(|n| child.invoke::<String>("shout", (format!("call {n}"),), PATIENCE)).collect();
    let answers = ours.block_on(try_join_all(calls)).unwrap();
    assert!(answers.into_iter().eq((0..20).map(|n| format!("CALL {n}"))));
    assert_eq!(next(&sums, "the renderer's own call"), 5);
    let error = child.invoke::<()>("panics", (), PATIENCE).wait().unwrap_err();
    assert_eq!((error.kind(), error.remote_message()), (ErrorKind::HandlerPanicked, Some("in a task")));
}

#[test]
fn an_executor_that_is_gone_costs_its_callers_an_error_and_main_goes_on() {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let (ipc_main, ipc_renderer) = pair_of(support::builder().executor(move |future| drop(handle.spawn(future))));
    let (start, starts) = channel();
    ipc_main
        .handle_async("never", move |event, ()| {
            let start = start.clone();
            async move {
                start.send(event)?;
                std::future::pending::<Result<(), HandlerError>>().await
            }
        })
        .unwrap();
    ipc_main.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
    let running = ipc_renderer.invoke::<()>("never", ()).timeout(PATIENCE);
    drop(next(&starts, "the start of the handler"));
    bounded("the end of the runtime", move || drop(runtime));
    assert_eq!(running.wait().unwrap_err().kind(), ErrorKind::ReplyNeverSent);
    let late = ipc_renderer.invoke::<()>("never", ()).timeout(PATIENCE).wait().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::ReplyNeverSent);
    assert_eq!(ipc_renderer.invoke::<i64>("add", (2, 3)).timeout(PATIENCE).wait().unwrap(), 5);
}

#[test]
fn the_end_of_main_wakes_what_is_awaited_on_every_runtime() {
    let results = on_every_runtime(|| {
        let (ipc_main, ipc_renderer) = pair();
        ipc_main.handle_async("never", |_, ()| std::future::pending::<Result<(), HandlerError>>()).unwrap();
        let call = ipc_renderer.invoke::<()>("never", ());
        let ended = Arc::new(AtomicUsize::new(0));
        let count = ended.clone();
        async move {
            let ending = std::thread::spawn(move || {
                until("it is awaited", || count.load(Ordering::SeqCst) == 1);
                drop(ipc_main);
            });
            ended.fetch_add(1, Ordering::SeqCst);
            let kind = call.await.unwrap_err().kind();
            ending.join().unwrap();
            drop(ipc_renderer);
            kind
        }
    });
    assert_eq!(results, [ErrorKind::Disconnected; 4]);
}
