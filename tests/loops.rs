//! The descriptor of manual dispatch in the event loops that programs have: tokio, mio, `poll(2)`. (C's is in the C tests.)
#![allow(missing_docs)]

mod support;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use ringmain::{Budget, Dispatch, IpcMain, IpcRenderer};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::{PATIENCE, builder};
use tokio::io::unix::AsyncFd;

const ROUNDS: u64 = 500;

/// Registers a copy of the descriptor with tokio.
fn in_tokio(fd: BorrowedFd<'_>) -> AsyncFd<OwnedFd> {
    let fd = fd.try_clone_to_owned().unwrap();
    // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, which `AsyncFd` does itself.
    #[allow(unsafe_code)]
    let registered = unsafe { AsyncFd::register(fd) };
    registered.unwrap()
}

/// A main that is polled, two renderers with threads of their own, and how often they were heard.
fn polled() -> (IpcMain, [IpcRenderer; 2], Arc<AtomicU64>) {
    let ipc_main = builder().dispatch(Dispatch::Manual).build().expect("a main");
    let renderers = [(); 2].map(|()| IpcRenderer::builder().attach(&ipc_main).expect("a renderer"));
    let heard = Arc::new(AtomicU64::new(0));
    let hears = heard.clone();
    ipc_main.on("n", move |_, ()| _ = hears.fetch_add(1, Ordering::Relaxed));
    (ipc_main, renderers, heard)
}

/// Each renderer in turn sends when the last message was heard, so that the loop goes to sleep in between.
fn ping(renderers: [IpcRenderer; 2], heard: Arc<AtomicU64>) -> std::thread::JoinHandle<[IpcRenderer; 2]> {
    std::thread::spawn(move || {
        for round in 0..ROUNDS {
            support::until("the last one is heard", || heard.load(Ordering::Relaxed) == round);
            renderers[round as usize % 2].send("n", ()).expect("sent");
        }
        renderers
    })
}

#[test]
fn tokio_drives_a_main_and_a_renderer_by_their_descriptors() {
    let (ipc_main, renderers, heard) = polled();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // An endpoint of each kind in one task each of one thread.
        let polled = IpcRenderer::builder().dispatch(Dispatch::Manual).attach(&ipc_main).unwrap();
        let web_contents = ipc_main.web_contents(polled.id()).unwrap();
        polled.handle("add", |_, (a, b): (i64, i64)| Ok(a + b)).unwrap();
        let drives = polled.clone();
        let renderer = tokio::spawn(async move {
            let fd = in_tokio(drives.as_fd().unwrap());
            loop {
                let mut ready = fd.readable().await.unwrap();
                drives.poll(Budget::UNLIMITED).unwrap();
                ready.clear_ready();
            }
        });
        let ping = ping(renderers, heard.clone());
        let drives = ipc_main.clone();
        let main = tokio::spawn(async move {
            let fd = in_tokio(drives.as_fd().unwrap());
            loop {
                let mut ready = fd.readable().await.unwrap();
                // A small budget: what is left keeps the descriptor readable, and tokio is told so by not clearing it.
                if !drives.poll(Budget::messages(3)).unwrap().more {
                    ready.clear_ready();
                }
                if heard.load(Ordering::Relaxed) == ROUNDS {
                    return;
                }
            }
        });
        tokio::time::timeout(PATIENCE, main).await.expect("in time").unwrap();
        let calls = async {
            for n in 0..100 {
                assert_eq!(web_contents.invoke::<i64>("add", (n, 1), PATIENCE).await.unwrap(), n + 1);
            }
        };
        // The answers come by main's descriptor, which somebody has to poll.
        let (drives, fd) = (ipc_main.clone(), in_tokio(ipc_main.as_fd().unwrap()));
        let pump = async {
            loop {
                let mut ready = fd.readable().await.unwrap();
                ready.clear_ready();
                drives.poll(Budget::UNLIMITED).unwrap();
            }
        };
        let (calls, pump) = (std::pin::pin!(calls), std::pin::pin!(pump));
        let both = futures::future::select(calls, pump);
        let _ = tokio::time::timeout(PATIENCE, both).await.expect("in time");
        renderer.abort();
        let _ = renderer.await;
        drop(ping.join());
    });
}

#[test]
fn mio_drives_many_renderers_by_one_descriptor() {
    let (ipc_main, renderers, heard) = polled();
    let fd = ipc_main.as_fd().unwrap().as_raw_fd();
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&mut SourceFd(&fd), Token(7), Interest::READABLE).unwrap();
    let ping = ping(renderers, heard.clone());
    let mut events = Events::with_capacity(8);
    while heard.load(Ordering::Relaxed) < ROUNDS {
        poll.poll(&mut events, Some(PATIENCE)).unwrap();
        assert!(events.iter().any(|event| event.token() == Token(7) && event.is_readable()), "nothing in {PATIENCE:?}");
        // mio reports an edge: so until nothing is left.
        ipc_main.poll(Budget::UNLIMITED).unwrap();
    }
    drop(ping.join().unwrap());
    let end = std::time::Instant::now() + PATIENCE;
    while !ipc_main.all_web_contents().is_empty() {
        assert!(std::time::Instant::now() < end, "the ends of both come by the descriptor too");
        poll.poll(&mut events, Some(Duration::from_secs(1))).unwrap();
        ipc_main.poll(Budget::UNLIMITED).unwrap();
    }
}
