//! What the C API adds to a call: `ringmain_renderer_invoke` with MessagePack bytes in and out, over
//! `IpcRenderer::invoke` with types, on the same link, in turns. The other process is the main.
//!
//! `cargo bench --features capi --bench capi`
#![allow(missing_docs, unsafe_code)]

mod support;

use ringmain::capi::{
    RINGMAIN_FOREVER, RINGMAIN_TERMINATED, ringmain_bytes, ringmain_bytes_free, ringmain_error, ringmain_format,
    ringmain_renderer, ringmain_renderer_config, ringmain_renderer_connect_to, ringmain_renderer_free,
    ringmain_renderer_invoke, ringmain_result, ringmain_wait,
};
use ringmain::{IpcMain, IpcRenderer, Wait};
use std::ffi::{CString, c_char};
use std::hint::black_box;
use std::ptr::{null, null_mut};
use std::time::Instant;
use support::Peer;

const CALLS: u32 = 2_000;

/// As a C program calls them: not inlined.
type Invoke = unsafe extern "C" fn(
    *const ringmain_renderer,
    *const c_char,
    usize,
    u32,
    *const u8,
    usize,
    u64,
    *mut ringmain_bytes,
    *mut *mut ringmain_error,
) -> ringmain_result;

fn play_main(_: &str) {
    support::outlive_no_bench();
    let ipc_main = IpcMain::builder().wait(Wait::Spin).build().expect("a main");
    ipc_main.handle("add", |_event, (a, b): (i64, i64)| Ok(a + b)).expect("a handler");
    let name = format!("bench-capi-{}", std::process::id());
    ipc_main.listen(&name).expect("a name of its own");
    support::serve(&name);
}

/// Nanoseconds a call.
fn time(mut call: impl FnMut()) -> f64 {
    let begun = Instant::now();
    (0..CALLS).for_each(|_| call());
    begun.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn rust_call(ipc_renderer: &IpcRenderer) {
    let sum: i64 = ipc_renderer.invoke("add", (black_box(2), 3)).wait().expect("a sum");
    assert_eq!(sum, 5);
}

fn c_call(renderer: *const ringmain_renderer, reply: &mut ringmain_bytes) {
    let args = black_box([0x92_u8, 2, 3]);
    // SAFETY: as the header wants it.
    unsafe {
        let invoke = black_box(ringmain_renderer_invoke as Invoke);
        let channel = c"add".as_ptr();
        let format = ringmain_format::RINGMAIN_MSGPACK as u32;
        let result = invoke(renderer, channel, 3, format, args.as_ptr(), 3, RINGMAIN_FOREVER, reply, null_mut());
        assert_eq!((result, *reply.data), (ringmain_result::RINGMAIN_OK, 5));
    }
}

fn main() {
    if support::plays(&[("main", play_main)]) {
        return;
    }
    let is_test = std::env::args().any(|argument| argument == "--test");
    let rounds = if is_test { 3 } else { 1_001 };
    let peer = Peer::start("main", "");
    let config = ringmain_renderer_config {
        struct_size: size_of::<ringmain_renderer_config>(),
        dispatch: 0,
        wait: ringmain_wait::RINGMAIN_WAIT_SPIN as u32,
        queue_limit: 0,
        process_limit: 0,
        max_message_size: 0,
        connect_timeout_ns: 0,
        max_values: 0,
        max_pending_calls: 0,
        app_name: null(),
        app_version: null(),
        runtime_dir: null(),
    };
    let mut renderer = null_mut();
    let name = CString::new(peer.said()).expect("a name");
    // SAFETY: as the header wants it.
    let result = unsafe {
        let _awake = peer.awake();
        ringmain_renderer_connect_to(&config, name.as_ptr(), RINGMAIN_TERMINATED, &mut renderer, null_mut())
    };
    assert_eq!(result, ringmain_result::RINGMAIN_OK);
    // SAFETY: just made.
    let ipc_renderer = unsafe { &*renderer }.ipc().clone();

    let (mut rust, mut c, mut more) = (Vec::new(), Vec::new(), Vec::new());
    let mut reply = ringmain_bytes { data: null_mut(), len: 0, capacity: 0 };
    let _awake = peer.awake();
    for round in 0..rounds {
        // Who is first takes turns too.
        let (mut of_rust, mut of_c) = (0.0, 0.0);
        for half in 0..2 {
            match (round + half) % 2 {
                0 => of_rust = time(|| rust_call(&ipc_renderer)),
                _ => of_c = time(|| c_call(renderer, &mut reply)),
            }
        }
        rust.push(of_rust);
        c.push(of_c);
        more.push(of_c - of_rust);
    }
    println!(
        "invoke, {rounds} rounds of {CALLS} calls each: Rust {:.1} ns, C {:.1} ns, C over Rust {:.1} ns (medians; the last of \
         differences)",
        median(rust),
        median(c),
        median(more)
    );
    drop(ipc_renderer);
    // SAFETY: made above, and not used any more.
    unsafe {
        ringmain_bytes_free(&mut reply);
        ringmain_renderer_free(renderer);
    }
}
