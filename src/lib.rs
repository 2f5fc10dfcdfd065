//! Electron's IPC for native programs, at shared-memory speed.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

mod sync;

mod layout;
mod pipe;
mod region;
mod ring;
mod role;
mod wake;

#[cfg(not(loom))]
mod config;
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
#[cfg(not(loom))]
mod invoke;
#[cfg(not(loom))]
mod ipc_main;
#[cfg(not(loom))]
mod ipc_renderer;
#[cfg(not(loom))]
mod link;
#[cfg(not(loom))]
mod registry;
#[cfg(not(loom))]
mod sys;
#[cfg(not(loom))]
mod web_contents;
#[cfg(not(loom))]
mod wire;

pub use wake::Wait;

#[cfg(not(loom))]
pub use {
    config::Backing,
    driver::{Credentials, ErrorReport},
    error::{Error, ErrorKind, HandlerError, HandlerResultExt, Result},
    event::{IpcMainEvent, IpcMainInvokeEvent, IpcRendererEvent},
    invoke::Invoke,
    ipc_main::{IpcMain, IpcMainBuilder},
    ipc_renderer::{IpcRenderer, IpcRendererBuilder},
    link::GoneReason,
    registry::ListenerId,
    web_contents::{ExitStatus, Process, Stats, WebContents},
    wire::{Args, FromArgs, IntoArgs, ValueError},
};
