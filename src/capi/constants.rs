//! Numbers that functions take, and the version.
#![allow(unsafe_code)]

/// The length of a text that ends with a null byte: `SIZE_MAX`.
pub const RINGMAIN_TERMINATED: usize = usize::MAX;

/// A time without end, where a function says that it takes one.
pub const RINGMAIN_FOREVER: u64 = u64::MAX;

/// For `flags`: the registration is removed before its first message or call runs.
pub const RINGMAIN_ONCE: u32 = 1;

/// What `ringmain_*_watch` may ask for: renderers that have connected. Main only.
pub const RINGMAIN_WATCH_CONNECTED: u32 = 1;
/// Renderers that are gone; at a renderer: main is gone.
pub const RINGMAIN_WATCH_GONE: u32 = 2;
/// What goes wrong where nobody waits for an error.
pub const RINGMAIN_WATCH_ERRORS: u32 = 4;
/// Messages that guests send to their host. Renderers only.
pub const RINGMAIN_WATCH_GUESTS: u32 = 8;

/// The version as text: that of `RINGMAIN_VERSION` of the header it was built with. The text is static.
///
/// Thread-safe: yes
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub extern "C" fn ringmain_version() -> *const std::ffi::c_char {
    const { concat!(env!("CARGO_PKG_VERSION"), "\0") }.as_ptr().cast()
}

/// The frame that every renderer has.
pub const RINGMAIN_MAIN_FRAME: u32 = 1;
