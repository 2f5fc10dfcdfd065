//! The book: read it from front to back, or the page that you need.
//!
//! 1. [`first_steps`]: two processes, from nothing. No knowledge of Electron needed.
//! 2. [`from_electron`]: every method and event of `ipcMain`, `ipcRenderer` and `webContents`, and what differs on purpose.
//! 3. [`order_and_delivery`]: what arrives, in which order, and what a death means.
//! 4. [`errors`]: what fails where, and what the other side is told.
//! 5. [`threads`]: which thread runs what, what blocks, what allocates.
//! 6. [`your_own_loop`]: no thread of ours runs callbacks: `poll`, one descriptor, calls while a call waits.
//! 7. [`real_time`]: audio threads and others that must never wait: lanes, and which call is safe where.
//!
//! The layers and their invariants are in ARCHITECTURE.md, every byte between two processes in PROTOCOL.md, each case of
//! Electron's behaviour with its test in CONFORMANCE.md.

#[doc = include_str!("guide/first_steps.md")]
pub mod first_steps {}

#[doc = include_str!("guide/from_electron.md")]
pub mod from_electron {}

#[doc = include_str!("guide/order_and_delivery.md")]
pub mod order_and_delivery {}

#[doc = include_str!("guide/errors.md")]
pub mod errors {}

#[doc = include_str!("guide/threads.md")]
pub mod threads {}

#[doc = include_str!("guide/your_own_loop.md")]
pub mod your_own_loop {}

#[doc = include_str!("guide/real_time.md")]
pub mod real_time {}
