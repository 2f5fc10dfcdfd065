//! The options of both ends as C structs. Zero is the default of each.
#![allow(unsafe_code)]

use super::result::{Outcome, failure, ringmain_result};
use super::value::{optional_text, sized};
use crate::config::{Backing, Dispatch};
use crate::ipc_main::{IpcMain, IpcMainBuilder};
use crate::ipc_renderer::{IpcRenderer, IpcRendererBuilder};
use crate::wake::Wait;
use std::ffi::c_char;

/// Which thread runs callbacks, or makes events.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ringmain_dispatch {
    /// The one that calls `ringmain_*_poll` or `ringmain_*_next_event`. The default.
    RINGMAIN_DISPATCH_MANUAL = 0,
    /// A thread of the library's own. For callbacks only: events cannot be pulled then.
    RINGMAIN_DISPATCH_THREADS = 1,
}

/// How threads of the library, and threads that wait in it, wait.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ringmain_wait {
    /// Spin as long as that paid lately, then sleep. The default.
    RINGMAIN_WAIT_ADAPTIVE = 0,
    /// Spin: takes a core for itself.
    RINGMAIN_WAIT_SPIN = 1,
    /// Sleep at once.
    RINGMAIN_WAIT_PARK = 2,
}

/// Options of a main. Begins as `RINGMAIN_MAIN_CONFIG_INIT`; zero or null is the default of each field. Texts are UTF-8,
/// end with a null byte, and are copied.
#[repr(C)]
#[derive(Debug)]
pub struct ringmain_main_config {
    /// `sizeof(ringmain_main_config)`.
    pub struct_size: usize,
    /// A `ringmain_dispatch`.
    pub dispatch: u32,
    /// A `ringmain_wait`.
    pub wait: u32,
    /// Bytes of each of a link's two rings, a power of two. Default 1 MiB.
    pub ring_size: u64,
    /// Bytes that may wait for one renderer when its ring is full. Default 16 MiB.
    pub queue_limit: u64,
    /// Bytes that may wait in all. Default 512 MiB.
    pub process_limit: u64,
    /// The longest message. Default 64 MiB.
    pub max_message_size: u64,
    /// How long a spawned renderer may take to connect. Default 30 s; `RINGMAIN_FOREVER` for debuggers.
    pub connect_timeout_ns: u64,
    /// The most values that one message may hold. Default one million.
    pub max_values: u32,
    /// The most calls that may wait for an answer on one link, each way. Default 65 536.
    pub max_pending_calls: u32,
    /// How many renderers there may be at once. Default 4 096.
    pub max_renderers: u32,
    /// 0: sealed memory. 1: named memory in /dev/shm, for peers that trust each other.
    pub backing: u32,
    /// The application's name, shown to the other side.
    pub app_name: *const c_char,
    /// The application's version, shown to the other side.
    pub app_version: *const c_char,
    /// The directory of the sockets of `ringmain_main_listen`.
    pub runtime_dir: *const c_char,
}

/// Options of a renderer. Begins as `RINGMAIN_RENDERER_CONFIG_INIT`; zero or null is the default of each field. Texts are
/// UTF-8, end with a null byte, and are copied.
#[repr(C)]
#[derive(Debug)]
pub struct ringmain_renderer_config {
    /// `sizeof(ringmain_renderer_config)`.
    pub struct_size: usize,
    /// A `ringmain_dispatch`.
    pub dispatch: u32,
    /// A `ringmain_wait`.
    pub wait: u32,
    /// Bytes that may wait for main when the ring is full. Default 16 MiB.
    pub queue_limit: u64,
    /// Bytes that may wait in all. Default 512 MiB.
    pub process_limit: u64,
    /// The longest message. Default 64 MiB.
    pub max_message_size: u64,
    /// How long the handshake may take. Default 30 s; `RINGMAIN_FOREVER` for ever.
    pub connect_timeout_ns: u64,
    /// The most values that one message may hold. Default one million.
    pub max_values: u32,
    /// The most calls that may wait for an answer, each way. Default 65 536.
    pub max_pending_calls: u32,
    /// The application's name, shown to the other side.
    pub app_name: *const c_char,
    /// The application's version, shown to the other side.
    pub app_version: *const c_char,
    /// The directory of the sockets of `ringmain_renderer_connect_to`.
    pub runtime_dir: *const c_char,
}

// The sizes of version 0.1: what every program has at least. They never change.
const MAIN_SIZE: usize = std::mem::offset_of!(ringmain_main_config, runtime_dir) + size_of::<*const c_char>();
const RENDERER_SIZE: usize = std::mem::offset_of!(ringmain_renderer_config, runtime_dir) + size_of::<*const c_char>();

fn wait_of(wait: u32) -> Outcome<Wait> {
    match wait {
        0 => Ok(Wait::Adaptive),
        1 => Ok(Wait::Spin),
        2 => Ok(Wait::Park),
        _ => Err(failure(ringmain_result::RINGMAIN_INVALID_CONFIG, format!("{wait} is no ringmain_wait"))),
    }
}

fn dispatch_of(dispatch: u32) -> Outcome<Dispatch> {
    match dispatch {
        0 => Ok(Dispatch::Manual),
        1 => Ok(Dispatch::Threads),
        _ => Err(failure(ringmain_result::RINGMAIN_INVALID_CONFIG, format!("{dispatch} is no ringmain_dispatch"))),
    }
}

fn bytes(of: u64) -> usize {
    usize::try_from(of).unwrap_or(usize::MAX)
}

macro_rules! common {
    ($config:expr, $builder:expr) => {{
        let config = &$config;
        let mut builder = $builder.wait(wait_of(config.wait)?);
        if config.queue_limit != 0 {
            builder = builder.queue_limit(bytes(config.queue_limit));
        }
        if config.process_limit != 0 {
            builder = builder.process_limit(bytes(config.process_limit));
        }
        if config.max_message_size != 0 {
            builder = builder.max_message_size(bytes(config.max_message_size));
        }
        if config.max_values != 0 {
            builder = builder.max_values(config.max_values);
        }
        if config.max_pending_calls != 0 {
            builder = builder.max_pending_calls(config.max_pending_calls);
        }
        if config.connect_timeout_ns != 0 {
            builder = builder.connect_timeout(super::value::time(config.connect_timeout_ns));
        }
        let terminated = super::RINGMAIN_TERMINATED;
        // SAFETY: texts of the caller's that end with a null byte.
        let (name, version, dir) = unsafe {
            (
                optional_text(config.app_name, terminated, "app_name")?,
                optional_text(config.app_version, terminated, "app_version")?,
                optional_text(config.runtime_dir, terminated, "runtime_dir")?,
            )
        };
        if name.is_some() || version.is_some() {
            builder = builder.app(name.unwrap_or_default(), version.unwrap_or_default());
        }
        if let Some(dir) = dir {
            builder = builder.runtime_dir(dir);
        }
        builder
    }};
}

/// A main's builder with the caller's options, and whether it is dispatched by hand.
///
/// # Safety
///
/// `config` is null or points to such a struct with its size and texts.
pub(super) unsafe fn main_builder(config: *const ringmain_main_config) -> Outcome<(IpcMainBuilder, bool)> {
    // SAFETY: as the caller says; it is plain numbers and pointers.
    let config = unsafe { sized(config, MAIN_SIZE) }?;
    let mut builder = common!(config, IpcMain::builder());
    if config.ring_size != 0 {
        builder = builder.ring_size(bytes(config.ring_size));
    }
    if config.max_renderers != 0 {
        builder = builder.max_renderers(config.max_renderers as usize);
    }
    match config.backing {
        0 => {}
        1 => builder = builder.backing(Backing::Named),
        other => {
            let text = format!("backing is {other}, it must be 0 (sealed) or 1 (named)");
            return Err(failure(ringmain_result::RINGMAIN_INVALID_CONFIG, text));
        }
    }
    let dispatch = dispatch_of(config.dispatch)?;
    Ok((builder.dispatch(dispatch), dispatch == Dispatch::Manual))
}

/// A renderer's builder with the caller's options, and whether it is dispatched by hand.
///
/// # Safety
///
/// As [`main_builder`].
pub(super) unsafe fn renderer_builder(config: *const ringmain_renderer_config) -> Outcome<(IpcRendererBuilder, bool)> {
    // SAFETY: as the caller says; it is plain numbers and pointers.
    let config = unsafe { sized(config, RENDERER_SIZE) }?;
    let builder = common!(config, IpcRenderer::builder());
    let dispatch = dispatch_of(config.dispatch)?;
    Ok((builder.dispatch(dispatch), dispatch == Dispatch::Manual))
}
