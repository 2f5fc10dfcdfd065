//! A renderer, or a frame of one, as a C handle.
#![allow(unsafe_code)]

use super::config::{renderer_builder, ringmain_renderer_config};
use super::event::{Answer, Place, ringmain_event, ringmain_event_type};
use super::registration::{Registration, ringmain_callback, ringmain_destroy};
use super::result::{Outcome, given, guard, null, put, quietly, ringmain_error, ringmain_result};
use super::ringmain_main;
use super::shared::{self, FREE_TIMEOUT, Receiver, Shared, Way, is_once, message, ringmain_stats, unwatch};
use super::value::{self, args_of, long_time, replied, replied_polling, ringmain_bytes, text, time};
use super::{RINGMAIN_FOREVER, RINGMAIN_MAIN_FRAME as MAIN_FRAME};
use super::{RINGMAIN_WATCH_ERRORS, RINGMAIN_WATCH_GONE, RINGMAIN_WATCH_GUESTS};
use crate::GoneReason;
use crate::event::IpcRendererEvent;
use crate::invoke::Invoke;
use crate::ipc_renderer::{IpcRenderer, IpcRendererBuilder};
use crate::sync::Arc;
use crate::wire::{Args, Encoded, TakenValue};
use std::ffi::{c_char, c_int, c_void};
use std::ops::Deref;

use ringmain_event_type::*;

/// A renderer's end of a link, or a further frame of it (`ringmain_renderer_frame`).
#[derive(Debug)]
pub struct ringmain_renderer {
    pub(super) ipc: IpcRenderer,
    pub(super) shared: Arc<Shared>,
}

/// Keeps the handle while its callbacks run, which may free it.
unsafe fn hold(renderer: *const ringmain_renderer) -> Outcome<impl Deref<Target = ringmain_renderer>> {
    // SAFETY: null, or made by `Arc::into_raw` and not freed yet.
    unsafe {
        given(renderer, "renderer")?;
        Arc::increment_strong_count(renderer);
        Ok(Arc::from_raw(renderer))
    }
}

impl ringmain_renderer {
    /// The handle behind it, for this crate's own benches.
    #[doc(hidden)]
    pub fn ipc(&self) -> &IpcRenderer {
        &self.ipc
    }

    fn invoke(&self, channel: &str, args: &[u8], timeout_ns: u64) -> Invoke<TakenValue> {
        let call = self.ipc.invoke(channel, Encoded(args));
        match time(timeout_ns) {
            Some(timeout) => call.timeout(timeout),
            None => call,
        }
    }
}

// ---- the handle -----------------------------------------------------------------------------------------------------

/// # Safety
///
/// `config` is null or the caller's struct; `renderer` is null or may be written.
unsafe fn start(
    config: *const ringmain_renderer_config,
    renderer: *mut *mut ringmain_renderer,
    connect: impl FnOnce(IpcRendererBuilder) -> crate::error::Result<IpcRenderer>,
) -> Outcome {
    if renderer.is_null() {
        return Err(null("renderer"));
    }
    // SAFETY: null, or the caller's struct.
    let (builder, manual) = unsafe { renderer_builder(config) }?;
    let handle = Arc::new(ringmain_renderer { ipc: connect(builder)?, shared: Shared::new(manual) });
    handle.ipc.set_max_listeners(0); // whoever is warned has no way to say so
    // SAFETY: not null, and may be written.
    unsafe { put(renderer, Arc::into_raw(handle).cast_mut(), "renderer") }
}

/// Connects to the main that started this process; once per process. `config` may be null. `*renderer` is the caller's
/// until `ringmain_renderer_free`.
///
/// With manual dispatch nothing is missed that main sends before `ringmain_renderer_on` and its kin were called: it waits
/// for the first poll.
///
/// Fails with `RINGMAIN_NOT_A_RENDERER`, `RINGMAIN_ALREADY_CONNECTED`, `RINGMAIN_REFUSED`, `RINGMAIN_DISCONNECTED`,
/// `RINGMAIN_TIMEOUT`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_connect(
    config: *const ringmain_renderer_config,
    renderer: *mut *mut ringmain_renderer,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: as the caller says.
        unsafe { start(config, renderer, IpcRendererBuilder::connect) }
    })
}

/// As `ringmain_renderer_connect`, to a main that listens under `name`. Fails with `RINGMAIN_NOT_LISTENING` too.
/// `*renderer` is the caller's until `ringmain_renderer_free`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_connect_to(
    config: *const ringmain_renderer_config,
    name: *const c_char,
    name_len: usize,
    renderer: *mut *mut ringmain_renderer,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: as the caller says; the text is theirs.
        unsafe {
            let name = text(name, name_len, "name")?;
            start(config, renderer, |builder| builder.connect_to(name))
        }
    })
}

/// A renderer in the process of `ipc_main`. `*renderer` is the caller's until `ringmain_renderer_free`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_attach(
    config: *const ringmain_renderer_config,
    ipc_main: *const ringmain_main,
    renderer: *mut *mut ringmain_renderer,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: as the caller says; the main is a handle of ours.
        unsafe {
            let main = given(ipc_main, "ipc_main")?;
            start(config, renderer, |builder| builder.attach(&main.ipc))
        }
    })
}

/// Opens a further frame inside this one, with listeners and handlers of its own. It is dispatched with its renderer, and
/// its events are pulled there. `*frame` is the caller's until `ringmain_renderer_free`, which closes it; it ends with its
/// renderer.
///
/// Fails with `RINGMAIN_LIMIT`, `RINGMAIN_FULL`, `RINGMAIN_DISCONNECTED`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_frame(
    renderer: *const ringmain_renderer,
    frame: *mut *mut ringmain_renderer,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        if frame.is_null() {
            return Err(null("frame"));
        }
        // SAFETY: a handle of ours; `frame` may be written.
        unsafe {
            let handle = given(renderer, "renderer")?;
            let opened = Arc::new(ringmain_renderer { ipc: handle.ipc.frame()?, shared: handle.shared.clone() });
            opened.ipc.set_max_listeners(0);
            put(frame, Arc::into_raw(opened).cast_mut(), "frame")
        }
    })
}

/// Closes the link, waiting at most a second for what was sent to leave, ends the threads of this renderer and frees it.
/// When it returns, no callback runs or will run, `destroy` of every registration has been called, and the callbacks of
/// calls that waited were given `RINGMAIN_DISCONNECTED`. Events that are still held stay valid. Null is nothing.
///
/// Callbacks run before this returns, with manual dispatch inside of it: those of calls that waited, and those that watch
/// `RINGMAIN_WATCH_GONE`. They must not free this handle, which is being freed: that would be a double free.
///
/// Of a further frame it closes the frame alone, and ends what is registered there.
///
/// Inside of a callback of this renderer it takes effect when the callback returns, and so it does inside of a callback of
/// another handle that a callback of this renderer is freeing: two may free each other. The callbacks of calls that waited
/// may run after this has returned then, with their `user`, which must live until they have. No other thread may use the
/// handle any more.
///
/// Thread-safe: no
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_free(renderer: *mut ringmain_renderer) {
    if renderer.is_null() {
        return;
    }
    quietly((), || {
        // SAFETY: made by `start` or `ringmain_renderer_frame`, and given back once.
        let renderer = unsafe { Arc::from_raw(renderer.cast_const()) };
        if renderer.ipc.is_main_frame() {
            renderer.ipc.engine().finish(FREE_TIMEOUT);
            renderer.shared.close();
        } else {
            let _ = renderer.ipc.close(FREE_TIMEOUT);
            renderer.shared.close_frame(renderer.ipc.frame_id());
        }
    });
}

/// The number under which main knows this renderer; 0 for null.
///
/// Thread-safe: yes
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_id(renderer: *const ringmain_renderer) -> u32 {
    // SAFETY: null, or a handle of ours.
    unsafe { renderer.as_ref() }.map_or(0, |handle| handle.ipc.id())
}

/// The number of this handle's frame; 1 is the main frame, 0 is for null.
///
/// Thread-safe: yes
/// Realtime-safe: yes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_frame_id(renderer: *const ringmain_renderer) -> u32 {
    // SAFETY: null, or a handle of ours.
    unsafe { renderer.as_ref() }.map_or(0, |handle| handle.ipc.frame_id())
}

/// Whether the link works and the frame is open; false for null.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_is_connected(renderer: *const ringmain_renderer) -> bool {
    value::or_zero(|| {
        // SAFETY: null, or a handle of ours.
        Some(unsafe { renderer.as_ref() }?.ipc.is_connected())
    })
}

/// Closes the link in order: waits up to `timeout_ns` for what was sent to leave, then tells main. Of a further frame:
/// closes the frame, at once. The handle is to be freed all the same.
///
/// Fails with `RINGMAIN_TIMEOUT` if something is lost.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_close(
    renderer: *const ringmain_renderer,
    timeout_ns: u64,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours.
        Ok(unsafe { given(renderer, "renderer") }?.ipc.close(long_time(timeout_ns))?)
    })
}

/// The counters of the link. `stats` is the caller's.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_stats(
    renderer: *const ringmain_renderer,
    stats: *mut ringmain_stats,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; the struct is the caller's, with its size.
        unsafe { shared::put_stats(stats, given(renderer, "renderer")?.ipc.stats()) }
    })
}

// ---- receiving ------------------------------------------------------------------------------------------------------

/// Calls `callback` with `user` for each message on `channel`; without a callback the messages are events to be pulled.
/// `flags`: `RINGMAIN_ONCE` or 0. `*id` (may be null) is the number for `ringmain_renderer_remove`. It is written before the
/// callback can run, and so before this has succeeded; if this fails, `*id` is 0, or as it was where it was not come to.
///
/// `destroy` (may be null) is called with `user` once, when the registration is over: at its removal, or when the handle
/// is freed. If this function fails, `user` stays the caller's.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_on(
    renderer: *const ringmain_renderer,
    channel: *const c_char,
    channel_len: usize,
    flags: u32,
    callback: ringmain_callback,
    user: *mut c_void,
    destroy: ringmain_destroy,
    id: *mut u64,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours, the caller's text, and `id` may be written.
        unsafe {
            let (handle, channel) = (hold(renderer)?, text(channel, channel_len, "channel")?);
            let once = is_once(flags)?;
            let shared = handle.shared.clone();
            handle.shared.register(handle.ipc.frame_id(), Way { callback, user, destroy }, id, |registration| {
                let to = Receiver { registration: registration.clone(), channel: channel.into() };
                let listener = move |event: &IpcRendererEvent, args: Args| {
                    let place = Place {
                        renderer: event.sender_id(),
                        renderer_frame: event.sender_frame_id(),
                        frame: event.frame_id(),
                    };
                    let (kind, answer) = (RINGMAIN_EVENT_MESSAGE, Answer::Renderer(event.clone()));
                    shared.deliver(&to.registration, message(kind, &to, place, args, answer));
                    if once {
                        shared.has_run_once(&to.registration);
                    }
                };
                let id = match once {
                    false => handle.ipc.on(channel, listener),
                    true => handle.ipc.once(channel, listener),
                };
                Ok(Box::new(move || {
                    id.remove();
                }))
            })
        }
    })
}

/// Answers calls on `channel`: `callback` is given each as an event, and answers it by `ringmain_event_reply` or
/// `ringmain_event_reply_error`, at once or, after `ringmain_event_retain`, later; one that returns without having done
/// either makes the call fail. Without a callback calls are events to be pulled. A channel has one handler at most. The
/// other arguments are those of `ringmain_renderer_on`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_handle(
    renderer: *const ringmain_renderer,
    channel: *const c_char,
    channel_len: usize,
    flags: u32,
    callback: ringmain_callback,
    user: *mut c_void,
    destroy: ringmain_destroy,
    id: *mut u64,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours, the caller's text, and `id` may be written.
        unsafe {
            let (handle, channel) = (hold(renderer)?, text(channel, channel_len, "channel")?);
            let once = is_once(flags)?;
            let shared = handle.shared.clone();
            handle.shared.register(handle.ipc.frame_id(), Way { callback, user, destroy }, id, |registration| {
                let to = Receiver { registration: registration.clone(), channel: channel.into() };
                let handler = handle.ipc.handle_deferred(channel, once, move |call, args| {
                    let (renderer, frame) = call.place();
                    let _ = renderer; // it is this one
                    let place = Place { frame, ..Place::default() };
                    let event = message(RINGMAIN_EVENT_CALL, &to, place, args, Answer::Call(call));
                    shared.deliver(&to.registration, event);
                    if once {
                        shared.has_run_once(&to.registration);
                    }
                })?;
                let (ipc, channel) = (handle.ipc.clone(), channel.to_string());
                Ok(Box::new(move || {
                    ipc.remove_this_handler(&channel, &handler);
                }))
            })
        }
    })
}

/// Removes what `ringmain_renderer_on`, `_handle` or `_watch` has registered. A barrier: when this returns, the callback
/// does not run and will not, `destroy` has been called, and events of it that were not pulled yet are dropped. From
/// inside of the callback itself it returns at once, and `destroy` is called when the callback has returned.
///
/// It waits for a callback that runs on another thread: the caller must hold nothing that this waits for. Two callbacks
/// that run on two threads must not remove each other's registrations: each would wait for the other, for ever.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_remove(
    renderer: *const ringmain_renderer,
    id: u64,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours.
        unsafe { hold(renderer)? }.shared.remove(id)
    })
}

/// Calls `callback` for what happens beside messages: `what` is made of `RINGMAIN_WATCH_GONE` (main is gone),
/// `RINGMAIN_WATCH_ERRORS` and `RINGMAIN_WATCH_GUESTS`. Without a callback that becomes events to be pulled. Errors that
/// nobody watches go to stderr. The other arguments are those of `ringmain_renderer_on`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_watch(
    renderer: *const ringmain_renderer,
    what: u32,
    callback: ringmain_callback,
    user: *mut c_void,
    destroy: ringmain_destroy,
    id: *mut u64,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours, and `id` may be written.
        unsafe {
            let handle = hold(renderer)?;
            shared::check_watch(what, RINGMAIN_WATCH_GONE | RINGMAIN_WATCH_ERRORS | RINGMAIN_WATCH_GUESTS)?;
            handle.shared.register(handle.ipc.frame_id(), Way { callback, user, destroy }, id, |registration| {
                let new = handle.shared.watch(what, registration);
                hook(&handle, new);
                let watches_again = what & !new & RINGMAIN_WATCH_GONE != 0;
                if watches_again && handle.ipc.gone_reason().is_some() {
                    // The hook of the first watcher may have run already; this one is told by another.
                    let (shared, registration) = (handle.shared.clone(), Arc::downgrade(registration));
                    handle.ipc.on_disconnected(move |reason| {
                        if let Some(registration) = registration.upgrade() {
                            tell_end(&shared, Some(&registration), reason);
                        }
                    });
                }
                Ok(unwatch(&handle.shared, registration))
            })
        }
    })
}

fn tell_end(shared: &Shared, only: Option<&Arc<Registration>>, reason: &GoneReason) {
    shared.tell_end(only, |watcher| {
        ringmain_event::new(RINGMAIN_EVENT_GONE, watcher.id, Place::default(), "".into()).with_reason(reason)
    });
}

fn hook(handle: &ringmain_renderer, new: u32) {
    if new & RINGMAIN_WATCH_GONE != 0 {
        let shared = handle.shared.clone();
        handle.ipc.on_disconnected(move |reason| tell_end(&shared, None, reason));
    }
    if new & RINGMAIN_WATCH_ERRORS != 0 {
        let shared = handle.shared.clone();
        handle.ipc.on_error(move |report| shared.tell_error(report));
    }
    if new & RINGMAIN_WATCH_GUESTS != 0 {
        let shared = handle.shared.clone();
        handle.ipc.on_ipc_message(move |event, channel, args| {
            let place = Place { renderer: event.guest_id(), renderer_frame: event.frame_id(), frame: MAIN_FRAME };
            shared.tell(RINGMAIN_WATCH_GUESTS, |watcher| {
                let to = Receiver { registration: watcher.clone(), channel: channel.into() };
                message(RINGMAIN_EVENT_GUEST, &to, place, args.clone(), Answer::Guest(event.clone()))
            });
        });
    }
}

// ---- sending --------------------------------------------------------------------------------------------------------

/// Sends a message to main. `data` is the argument list in `format`; no data is no arguments. Never waits: what finds no
/// room in the ring queues here. The data stays the caller's.
///
/// Nothing was sent if it fails: `RINGMAIN_INVALID_VALUE`, `RINGMAIN_TOO_LARGE`, `RINGMAIN_FULL`, `RINGMAIN_DISCONNECTED`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_send(
    renderer: *const ringmain_renderer,
    channel: *const c_char,
    channel_len: usize,
    format: u32,
    data: *const u8,
    len: usize,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and bytes are the caller's.
        unsafe {
            let (handle, channel) = (given(renderer, "renderer")?, text(channel, channel_len, "channel")?);
            Ok(handle.ipc.send(channel, Encoded(&args_of(format, data, len)?))?)
        }
    })
}

/// As `ringmain_renderer_send`, to a frame (0: the main one) of another renderer, through main. A target that is not there
/// is no error here: main is told. The data stays the caller's.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_send_to(
    renderer: *const ringmain_renderer,
    to_renderer: u32,
    to_frame: u32,
    channel: *const c_char,
    channel_len: usize,
    format: u32,
    data: *const u8,
    len: usize,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and bytes are the caller's.
        unsafe {
            let (handle, channel) = (given(renderer, "renderer")?, text(channel, channel_len, "channel")?);
            let (args, frame) = (args_of(format, data, len)?, to_frame.max(MAIN_FRAME));
            Ok(handle.ipc.send_to_frame(to_renderer, frame, channel, Encoded(&args))?)
        }
    })
}

/// As `ringmain_renderer_send`, to the renderer that embeds this one (`ringmain_main_set_host`), through main. Without a
/// host it is no error here: main is told. The data stays the caller's.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_send_to_host(
    renderer: *const ringmain_renderer,
    channel: *const c_char,
    channel_len: usize,
    format: u32,
    data: *const u8,
    len: usize,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and bytes are the caller's.
        unsafe {
            let (handle, channel) = (given(renderer, "renderer")?, text(channel, channel_len, "channel")?);
            Ok(handle.ipc.send_to_host(channel, Encoded(&args_of(format, data, len)?))?)
        }
    })
}

/// Waits up to `timeout_ns` until all that was sent is in the ring, where main finds it even if this process ends. Fails
/// with `RINGMAIN_TIMEOUT`, `RINGMAIN_DISCONNECTED`, `RINGMAIN_WOULD_DEADLOCK`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_flush(
    renderer: *const ringmain_renderer,
    timeout_ns: u64,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours.
        Ok(unsafe { given(renderer, "renderer") }?.ipc.flush(long_time(timeout_ns))?)
    })
}

/// Sends a message and waits, up to `timeout_ns` or for `RINGMAIN_FOREVER`, until a listener in main answers it. `*reply`
/// becomes the value in `format`, the caller's until `ringmain_bytes_free`. Before, `*reply` must be `RINGMAIN_BYTES_INIT`
/// or what an earlier function left there, and hold no part of the arguments of this call.
///
/// Fails as `ringmain_renderer_invoke`, and with `RINGMAIN_NO_LISTENER`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_send_sync(
    renderer: *const ringmain_renderer,
    channel: *const c_char,
    channel_len: usize,
    format: u32,
    data: *const u8,
    len: usize,
    timeout_ns: u64,
    reply: *mut ringmain_bytes,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and bytes are the caller's, and `reply` may be written.
        unsafe {
            let (handle, channel) = (given(renderer, "renderer")?, text(channel, channel_len, "channel")?);
            let args = args_of(format, data, len)?;
            replied(reply, format, || {
                Ok(match time(timeout_ns) {
                    Some(timeout) => handle.ipc.send_sync_timeout(channel, Encoded(&args), timeout)?,
                    None => handle.ipc.send_sync(channel, Encoded(&args))?,
                })
            })
        }
    })
}

/// Calls the handler of `channel` in main and waits for the answer, up to `timeout_ns` or for `RINGMAIN_FOREVER`. `*reply`
/// becomes the value in `format`, the caller's until `ringmain_bytes_free`. Before, `*reply` must be `RINGMAIN_BYTES_INIT`
/// or what an earlier function left there, and hold no part of the arguments of this call. The calling thread reads the
/// ring itself; nothing is dispatched meanwhile.
///
/// Fails as `ringmain_renderer_send`, with what the handler failed with, or with `RINGMAIN_TIMEOUT`,
/// `RINGMAIN_WOULD_DEADLOCK`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_invoke(
    renderer: *const ringmain_renderer,
    channel: *const c_char,
    channel_len: usize,
    format: u32,
    data: *const u8,
    len: usize,
    timeout_ns: u64,
    reply: *mut ringmain_bytes,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and bytes are the caller's, and `reply` may be written.
        unsafe {
            let (handle, channel) = (given(renderer, "renderer")?, text(channel, channel_len, "channel")?);
            let args = args_of(format, data, len)?;
            replied(reply, format, || Ok(handle.invoke(channel, &args, timeout_ns).wait()?))
        }
    })
}

/// As `ringmain_renderer_invoke`, on the thread that dispatches, also inside of a callback: runs what arrives from main
/// meanwhile, so that its handler may call back handlers and listeners that have a callback here. What is pulled is queued
/// meanwhile, and nobody pulls it: a handler that waits for an answer of that kind gets none before this one's time is
/// over. Nested at most eight deep, then `RINGMAIN_LIMIT`. Fails as `_invoke` otherwise. `*reply` is in and out, as there.
///
/// Thread-safe: yes, but one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_invoke_polling(
    renderer: *const ringmain_renderer,
    channel: *const c_char,
    channel_len: usize,
    format: u32,
    data: *const u8,
    len: usize,
    timeout_ns: u64,
    reply: *mut ringmain_bytes,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and bytes are the caller's, and `reply` may be written.
        unsafe {
            let (handle, channel) = (hold(renderer)?, text(channel, channel_len, "channel")?);
            let args = args_of(format, data, len)?;
            let result = replied_polling(reply, format, || {
                Ok(handle.invoke(channel, &args, timeout_ns).wait_polling(long_time(timeout_ns))?)
            });
            shared::tell_of_events(&*handle);
            result
        }
    })
}

/// As `ringmain_renderer_invoke`, but returns at once. The answer, or the failure, is given to `callback` as a
/// `RINGMAIN_EVENT_REPLY`, exactly once, at the latest when the renderer is freed; without a callback it is an event to be
/// pulled. `*call` (may be null) is the number by which the event names it. If this function fails, the callback is not
/// called.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_invoke_async(
    renderer: *const ringmain_renderer,
    channel: *const c_char,
    channel_len: usize,
    format: u32,
    data: *const u8,
    len: usize,
    timeout_ns: u64,
    callback: ringmain_callback,
    user: *mut c_void,
    call: *mut u64,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and bytes are the caller's, and `call` is null or may be written.
        unsafe {
            let (handle, channel) = (given(renderer, "renderer")?, text(channel, channel_len, "channel")?);
            let args = args_of(format, data, len)?;
            let way = Way { callback, user, destroy: None };
            let place = Place { frame: handle.ipc.frame_id(), ..Place::default() };
            handle.shared.check_way(&way)?;
            let invoke = handle.invoke(channel, &args, timeout_ns);
            let spawn = |task| handle.ipc.engine().spawn(task);
            handle.shared.answer_later(way, place, channel, invoke, spawn, call)
        }
    })
}

// ---- dispatching ----------------------------------------------------------------------------------------------------

/// Runs callbacks, and makes events to be pulled, of what has arrived: at most `max_messages` within `max_time_ns`, of
/// which one callback may overrun. `*ran` is how many ran, `*more` whether more waits; both may be null. Never waits. For a
/// game: once a frame, with a budget.
///
/// **0 means no limit, for both.** What is left of a budget that is spent must therefore be passed as 1 at least.
///
/// Fails with `RINGMAIN_BUSY` inside of a callback and while another thread dispatches this handle; with
/// `RINGMAIN_INVALID_CONFIG` where a thread of the library dispatches.
///
/// Thread-safe: yes, but one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_poll(
    renderer: *const ringmain_renderer,
    max_messages: usize,
    max_time_ns: u64,
    ran: *mut usize,
    more: *mut bool,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; `ran` and `more` are null or may be written.
        unsafe { shared::poll(&*hold(renderer)?, max_messages, max_time_ns, ran, more) }
    })
}

/// Pulls the next event: `*event` is the caller's until `ringmain_event_free`, or null if there is none now. Dispatches as
/// `ringmain_renderer_poll` does, one message at a time, so callbacks of other registrations run meanwhile. Never waits: see
/// `ringmain_renderer_wait` and `ringmain_renderer_fd`, and call it until it has none left.
///
/// Events wait in a queue that has no bound. This function takes a message only when that queue is empty, so it stays
/// short; `ringmain_renderer_poll` fills it with all that has arrived. Whoever pulls should not call that besides.
///
/// Fails as `ringmain_renderer_poll`.
///
/// Thread-safe: yes, but one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_next_event(
    renderer: *const ringmain_renderer,
    event: *mut *mut ringmain_event,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; `event` is null or may be written.
        unsafe { shared::next_event(&*hold(renderer)?, event) }
    })
}

/// Waits until `ringmain_renderer_poll` or `ringmain_renderer_next_event` would find something; `RINGMAIN_TIMEOUT` if that takes
/// longer than `timeout_ns` (or `RINGMAIN_FOREVER`). Fails as `ringmain_renderer_poll`.
///
/// Thread-safe: yes, but one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_wait(
    renderer: *const ringmain_renderer,
    timeout_ns: u64,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours.
        unsafe { shared::wait(&*hold(renderer)?, timeout_ns) }
    })
}

/// One descriptor for everything: readable as long as `ringmain_renderer_poll` would find something, for `poll(2)`, `epoll` and
/// every event loop. Made at the first call; it stays the library's: not to be read, written or closed. Whoever pulls calls
/// `ringmain_renderer_next_event` until there is none left, then sleeps on it.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_fd(
    renderer: *const ringmain_renderer,
    fd: *mut c_int,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; `fd` is null or may be written.
        unsafe { shared::fd(given(renderer, "renderer")?, fd) }
    })
}

/// In how many nanoseconds the next timeout has to be looked at by `ringmain_renderer_poll`, for those who do not sleep on the
/// descriptor; `RINGMAIN_FOREVER` if there is none, or for null.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_renderer_next_deadline(renderer: *const ringmain_renderer) -> u64 {
    quietly(RINGMAIN_FOREVER, || {
        // SAFETY: null, or a handle of ours.
        unsafe { renderer.as_ref() }.map_or(RINGMAIN_FOREVER, shared::next_deadline)
    })
}
