//! Electron's IPC for native programs, at shared-memory speed.
//!
//! A *main* process owns any number of *renderer* processes. Each shares a sealed memory region with main that holds
//! lock-free single-producer single-consumer rings, one each way. Names and semantics are those of Electron's `ipcMain` and
//! `ipcRenderer`, minus their traps.
//!
//! ```
//! use ringmain::{IpcMain, IpcMainEvent};
//!
//! let ipc_main = IpcMain::new()?;
//! ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b))?;
//! ipc_main.on("synchronous-message", |event: &IpcMainEvent, (_text,): (String,)| event.set_return_value("pong"));
//!
//! // A renderer is another process (`spawn`, `listen`) or, as here, this one.
//! let ipc_renderer = ipc_main.attach()?;
//! let sum: i64 = ipc_renderer.invoke("add", (2, 3)).wait()?; // or `.await`, on any executor
//! let answer: String = ipc_renderer.send_sync("synchronous-message", ("ping",))?;
//! assert_eq!((sum, answer.as_str()), (5, "pong"));
//! # Ok::<(), ringmain::Error>(())
//! ```
//!
//! # Concepts
//!
//! * **Main** ([`IpcMain`]) starts renderers ([`spawn`](IpcMain::spawn)), lets unrelated processes connect
//!   ([`listen`](IpcMain::listen)) or has one in its own process ([`attach`](IpcMain::attach)). [`WebContents`] is its handle
//!   of one renderer.
//! * **Renderer** ([`IpcRenderer`]): [`connect`](IpcRenderer::connect) in a process that was spawned,
//!   [`connect_to`](IpcRenderer::connect_to) in another. It may have further [frames](IpcRenderer::frame), and send to
//!   [other renderers](IpcRenderer::send_to) and to its [host](IpcRenderer::send_to_host), through main.
//! * **Listeners** (`on`, `once`) take messages; **handlers** (`handle`, `handle_async`, …) answer calls. They run one at a time
//!   on the *dispatcher* thread of their handle. Those of one renderer or frame alone are its [`ipc`](WebContents::ipc).
//! * **Arguments** are tuples: `send("volume", (0.5,))`, `|event, (volume,): (f64,)|`. Values are whatever implements serde's
//!   traits and is JSON; see [`IntoArgs`] and [`FromArgs`]. A [`Channel`] says name and types once, for both ends.
//! * **Calls**: [`invoke`](IpcRenderer::invoke) returns a future that can also be waited for. A thread that waits reads the
//!   ring itself, so an answer costs no hop through another thread. Main calls renderers too:
//!   [`WebContents::invoke`].
//!
//! The [`guide`] is the book to this reference: first steps, a table for those who come from Electron, order and
//! delivery, errors, threads.
//!
//! # What to know before depending on it
//!
//! * `send` never waits; it takes a short lock and may make one system call, so it does not belong in an audio callback.
//! * Order, delivery, what the death of a peer means, the limits and their defaults: see the README.
//! * Linux only, today.
#![cfg_attr(loom, allow(dead_code, unused_imports, missing_docs, unreachable_pub))]

/// The helpers of the integration tests serve the unit tests too.
#[cfg(all(test, not(loom)))]
extern crate self as ringmain;

/// The example of the README is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod failpoint;
mod sync;

mod latest;
mod layout;
mod parking;
mod pipe;
mod records;
mod region;
mod ring;
mod role;
mod slots;
mod wake;

#[cfg(all(feature = "capi", not(loom)))]
pub mod capi;
#[cfg(not(loom))]
mod channel;
#[cfg(not(loom))]
mod config;
#[cfg(all(test, not(loom)))]
mod deaths_tests;
#[cfg(not(loom))]
mod dispatch;
#[cfg(not(loom))]
mod driver;
#[cfg(not(loom))]
mod emitter;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod event;
#[cfg(all(not(loom), any(test, fuzzing)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(not(loom))]
pub mod guide;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod internals;
#[cfg(not(loom))]
mod invoke;
#[cfg(not(loom))]
mod ipc_main;
#[cfg(not(loom))]
mod ipc_renderer;
#[cfg(not(loom))]
pub mod lane;
#[cfg(not(loom))]
mod link;
#[cfg(not(loom))]
mod polling;
#[cfg(not(loom))]
mod registry;
#[cfg(not(loom))]
mod sys;
#[cfg(not(loom))]
mod web_contents;
#[cfg(not(loom))]
mod wire;

pub use parking::WakePolicy;
pub use wake::Wait;

#[cfg(not(loom))]
pub use bytemuck;

#[cfg(not(loom))]
pub use {
    channel::{ArgOf, ArgsOf, Callee, Channel, Handles, Listens, Sends},
    config::{Backing, Budget, Dispatch, Polled, ThreadRole},
    driver::{Credentials, ErrorReport, ListenerId, ScopedListener},
    error::{Error, ErrorKind, HandlerError, HandlerResultExt, Result},
    event::{GuestEvent, IpcMainEvent, IpcMainInvokeEvent, IpcRendererEvent, IpcRendererInvokeEvent},
    invoke::Invoke,
    ipc_main::{IpcMain, IpcMainBuilder, Route},
    ipc_renderer::{IpcRenderer, IpcRendererBuilder},
    lane::{
        LaneBatch, LaneConfig, LaneCounters, LaneDuplex, LaneEnd, LaneError, LaneGroup, LaneLoan, LaneReceiver,
        LaneRecord, LaneSender, LaneStats, LatestLoan, LatestReader, LatestWriter,
    },
    link::GoneReason,
    web_contents::{ExitStatus, IpcReceiver, Process, Stats, WebContents, WebFrameMain},
    wire::{Args, FromArgs, IntoArgs, ValueError},
};
