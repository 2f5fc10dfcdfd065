//! The C API, declared in `include/ringmain.h`: opaque handles over the types of this crate, for C, C++ and whatever calls
//! C. Rust programs have no use for it.
//!
//! Each function catches panics, refuses null where a pointer is needed, and returns a [`ringmain_result`]. Nothing is kept
//! in thread-local state: what is to be said about a failure goes into an optional `ringmain_error **`.

// The names are C's; `include/ringmain.h` is generated from these files, so their comments are for its readers.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

mod config;
mod constants;
mod dispatch;
mod event;
mod lane;
mod main;
mod registration;
mod renderer;
mod result;
mod shared;
mod value;

pub use config::*;
pub use constants::*;
pub use event::*;
pub use lane::*;
pub use main::*;
pub use registration::*;
pub use renderer::*;
pub use result::*;
pub use shared::*;
pub use value::*;
