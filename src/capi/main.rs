//! A main as a C handle; its renderers are numbers.
#![allow(unsafe_code)]

use super::config::{main_builder, ringmain_main_config};
use super::event::{Answer, Place, ringmain_event, ringmain_event_type};
use super::registration::{Registration, ringmain_callback, ringmain_destroy};
use super::result::{Outcome, failure, given, guard, null, put, quietly, ringmain_error, ringmain_result};
use super::shared::{self, FREE_TIMEOUT, Receiver, Shared, Way, is_once, message, ringmain_stats, unwatch};
use super::value::{self, args_of, finite_time, long_time, replied, replied_polling, ringmain_bytes, text};
use super::{RINGMAIN_FOREVER, RINGMAIN_MAIN_FRAME as MAIN_FRAME};
use super::{RINGMAIN_WATCH_CONNECTED, RINGMAIN_WATCH_ERRORS, RINGMAIN_WATCH_GONE};
use crate::error::{Error, ErrorKind};
use crate::event::IpcMainEvent;
use crate::invoke::Invoke;
use crate::ipc_main::IpcMain;
use crate::sync::Arc;
use crate::web_contents::WebContents;
use crate::wire::{Args, Encoded, TakenValue};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::Duration;

use ringmain_event_type::*;
use ringmain_result::*;

/// A main: owns any number of renderers, which are known by their numbers.
#[derive(Debug)]
pub struct ringmain_main {
    pub(super) ipc: IpcMain,
    pub(super) shared: Arc<Shared>,
}

/// Keeps the handle while its callbacks run, which may free it.
unsafe fn hold(ipc_main: *const ringmain_main) -> Outcome<impl Deref<Target = ringmain_main>> {
    // SAFETY: null, or made by `Arc::into_raw` and not freed yet.
    unsafe {
        given(ipc_main, "ipc_main")?;
        Arc::increment_strong_count(ipc_main);
        Ok(Arc::from_raw(ipc_main))
    }
}

impl ringmain_main {
    pub(super) fn renderer(&self, id: u32) -> Outcome<WebContents> {
        self.ipc
            .web_contents(id)
            .ok_or_else(|| Error::new(ErrorKind::Disconnected, format!("there is no renderer {id} (any more)")).into())
    }

    fn invoke(
        &self,
        (renderer, frame): (u32, u32),
        channel: &str,
        args: &[u8],
        timeout: Duration,
    ) -> Outcome<Invoke<TakenValue>> {
        let renderer = self.renderer(renderer)?;
        if frame <= MAIN_FRAME {
            return Ok(renderer.invoke(channel, Encoded(args), timeout));
        }
        let id = renderer.id();
        let frame = renderer.frame(frame).ok_or_else(|| {
            Error::new(ErrorKind::Disconnected, format!("renderer {id} has no frame {frame} (any more)"))
        })?;
        Ok(frame.invoke(channel, Encoded(args), timeout))
    }
}

// ---- the handle -----------------------------------------------------------------------------------------------------

/// Makes a main; `config` may be null. `*ipc_main` is the caller's until `ringmain_main_free`.
///
/// Fails with `RINGMAIN_INVALID_CONFIG`, `RINGMAIN_WRONG_SIZE`, `RINGMAIN_SYSTEM`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_new(
    config: *const ringmain_main_config,
    ipc_main: *mut *mut ringmain_main,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        if ipc_main.is_null() {
            return Err(null("ipc_main"));
        }
        // SAFETY: null, or the caller's struct.
        let (builder, manual) = unsafe { main_builder(config) }?;
        let handle = Arc::new(ringmain_main { ipc: builder.build()?, shared: Shared::new(manual) });
        handle.ipc.set_max_listeners(0); // whoever is warned has no way to say so
        // SAFETY: not null, and may be written.
        unsafe { put(ipc_main, Arc::into_raw(handle).cast_mut(), "ipc_main") }
    })
}

/// Closes every link, waiting at most a second for what was sent to leave, ends all threads of this main and frees it.
/// When it returns, no callback runs or will run, `destroy` of every registration has been called, and the callbacks of
/// calls that waited were given `RINGMAIN_DISCONNECTED`. Events that are still held stay valid. Null is nothing.
///
/// Callbacks run before this returns, with manual dispatch inside of it: those of calls that waited, and those that watch
/// `RINGMAIN_WATCH_GONE`. They must not free this handle, which is being freed: that would be a double free.
///
/// Inside of a callback of this main it takes effect when the callback returns, and so it does inside of a callback of
/// another handle that a callback of this main is freeing: two may free each other. The callbacks of calls that waited may
/// run after this has returned then, with their `user`, which must live until they have. No other thread may use the
/// handle any more.
///
/// Thread-safe: no
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_free(ipc_main: *mut ringmain_main) {
    if ipc_main.is_null() {
        return;
    }
    quietly((), || {
        // SAFETY: made by `ringmain_main_new`, and given back once.
        let main = unsafe { Arc::from_raw(ipc_main.cast_const()) };
        main.ipc.engine().finish(FREE_TIMEOUT);
        main.shared.close();
    });
}

// ---- renderers ------------------------------------------------------------------------------------------------------

/// Listens for unrelated processes, which connect under the same name.
///
/// Fails with `RINGMAIN_NAME_IN_USE`, `RINGMAIN_INVALID_CONFIG`, `RINGMAIN_SYSTEM`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_listen(
    ipc_main: *const ringmain_main,
    name: *const c_char,
    name_len: usize,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours and the caller's text.
        unsafe {
            given(ipc_main, "ipc_main")?.ipc.listen(text(name, name_len, "name")?)?;
        }
        Ok(())
    })
}

/// Starts a program as a renderer, which connects by `ringmain_renderer_connect`. `argv` ends with a null pointer;
/// `argv[0]` is the program, looked for in PATH if it has no slash. It inherits environment and standard streams.
/// `*renderer` (may be null) is its number; what is sent to it before it has connected waits for it. It is reaped by the
/// library, which then stays loaded after `dlclose`.
///
/// Fails with `RINGMAIN_SYSTEM`, `RINGMAIN_LIMIT`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_spawn(
    ipc_main: *const ringmain_main,
    argv: *const *const c_char,
    renderer: *mut u32,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; `argv` and its texts are the caller's.
        let (handle, command) = unsafe { (given(ipc_main, "ipc_main")?, command(argv)?) };
        stay_loaded();
        let spawned = handle.ipc.spawn(command)?;
        if !renderer.is_null() {
            // SAFETY: not null, and may be written.
            unsafe { renderer.write(spawned.id()) };
        }
        Ok(())
    })
}

/// # Safety
///
/// `argv` is null, or an array of texts that ends with a null pointer.
unsafe fn command(argv: *const *const c_char) -> Outcome<Command> {
    const MOST: usize = 65_536;
    given_argv(argv)?;
    let mut command: Option<Command> = None;
    for at in 0..MOST {
        // SAFETY: none before this one was the null pointer at the end.
        let argument = unsafe { *argv.add(at) };
        if argument.is_null() {
            return command.ok_or_else(|| null("argv[0]"));
        }
        // SAFETY: a text that ends with a null byte.
        let argument = std::ffi::OsStr::from_bytes(unsafe { CStr::from_ptr(argument) }.to_bytes());
        match &mut command {
            Some(command) => drop(command.arg(argument)),
            None => command = Some(Command::new(argument)),
        }
    }
    Err(failure(RINGMAIN_TOO_LARGE, format!("argv has no null pointer within {MOST} arguments")))
}

fn given_argv(argv: *const *const c_char) -> Outcome {
    if argv.is_null() { Err(null("argv")) } else { Ok(()) }
}

/// The thread that reaps a child which outlives its main runs our code: this library must not be unmapped under it.
fn stay_loaded() {
    // SAFETY: both take what they are given; the address is that of a function of ours.
    unsafe {
        let mut info = std::mem::zeroed::<libc::Dl_info>();
        let here = stay_loaded as fn() as *const c_void;
        if libc::dladdr(here, &mut info) != 0 && !info.dli_fname.is_null() {
            // Never closed. Fails for the program itself, which stays anyway.
            libc::dlopen(info.dli_fname, libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
        }
    }
}

/// Writes the numbers of all renderers, those included that have not connected yet, to `renderers`, as many as have room
/// there. Returns how many there are; 0 for null. `renderers` may be null if `capacity` is 0.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_renderers(
    ipc_main: *const ringmain_main,
    renderers: *mut u32,
    capacity: usize,
) -> usize {
    value::or_zero(|| {
        // SAFETY: null, or a handle of ours.
        let all = unsafe { ipc_main.as_ref() }?.ipc.all_web_contents();
        if !renderers.is_null() {
            for (at, renderer) in all.iter().take(capacity).enumerate() {
                // SAFETY: within the caller's array.
                unsafe { renderers.add(at).write(renderer.id()) };
            }
        }
        Some(all.len())
    })
}

/// What is known about a renderer. Begins as `RINGMAIN_RENDERER_INFO_INIT`.
#[repr(C)]
#[derive(Debug)]
pub struct ringmain_renderer_info {
    /// `sizeof(ringmain_renderer_info)`.
    pub struct_size: usize,
    /// Its process; 0 where that is not visible from here.
    pub process_id: u32,
    /// 1 if it has connected and is not gone, else 0.
    pub is_connected: u32,
    /// The renderer that embeds it; 0 if none does.
    pub host: u32,
    /// How many frames it has open.
    pub frames: u32,
}

const INFO_SIZE: usize = std::mem::offset_of!(ringmain_renderer_info, frames) + size_of::<u32>();

/// Fills in what is known about a renderer. Fails with `RINGMAIN_DISCONNECTED` if there is none of this number. `info` is
/// the caller's.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_renderer_info(
    ipc_main: *const ringmain_main,
    renderer: u32,
    info: *mut ringmain_renderer_info,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; the struct is the caller's, with its size.
        unsafe {
            let renderer = given(ipc_main, "ipc_main")?.renderer(renderer)?;
            let filled = ringmain_renderer_info {
                struct_size: size_of::<ringmain_renderer_info>(),
                process_id: renderer.process().id(),
                is_connected: renderer.is_connected().into(),
                host: renderer.host().map_or(0, |host| host.id()),
                frames: u32::try_from(renderer.frames().len()).unwrap_or(u32::MAX),
            };
            value::put_sized(info, &filled, INFO_SIZE, "info")
        }
    })
}

/// Says which renderer embeds another one, and so gets what that sends to its host; `host` 0: none does.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_set_host(
    ipc_main: *const ringmain_main,
    renderer: u32,
    host: u32,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours.
        let handle = unsafe { given(ipc_main, "ipc_main") }?;
        let host = if host == 0 { None } else { Some(handle.renderer(host)?) };
        Ok(handle.renderer(renderer)?.set_host(host.as_ref())?)
    })
}

/// Closes the link to a renderer in order: waits up to `timeout_ns` for what was sent to leave (not where that would
/// dispatch), then tells it. Its process goes on.
///
/// Fails with `RINGMAIN_TIMEOUT` if something is lost; `RINGMAIN_DISCONNECTED` if there is no such renderer.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_close(
    ipc_main: *const ringmain_main,
    renderer: u32,
    timeout_ns: u64,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours.
        Ok(unsafe { given(ipc_main, "ipc_main") }?.renderer(renderer)?.close(long_time(timeout_ns))?)
    })
}

/// Kills a renderer's process with SIGKILL, exactly this one and no later one of the same number. Fails with
/// `RINGMAIN_INVALID_CONFIG` for a renderer in this process.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_kill(
    ipc_main: *const ringmain_main,
    renderer: u32,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours.
        Ok(unsafe { given(ipc_main, "ipc_main") }?.renderer(renderer)?.process().kill()?)
    })
}

/// The counters of the link to a renderer. `stats` is the caller's.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_stats(
    ipc_main: *const ringmain_main,
    renderer: u32,
    stats: *mut ringmain_stats,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; the struct is the caller's, with its size.
        unsafe { shared::put_stats(stats, given(ipc_main, "ipc_main")?.renderer(renderer)?.stats()) }
    })
}

// ---- receiving ------------------------------------------------------------------------------------------------------

/// Calls `callback` with `user` for each message on `channel`; without a callback the messages are events to be pulled.
/// `flags`: `RINGMAIN_ONCE` or 0. `*id` (may be null) is the number for `ringmain_main_remove`. It is written before the
/// callback can run, and so before this has succeeded; if this fails, `*id` is 0, or as it was where it was not come to.
///
/// `destroy` (may be null) is called with `user` once, when the registration is over: at its removal, or when the handle
/// is freed. If this function fails, `user` stays the caller's.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_on(
    ipc_main: *const ringmain_main,
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
            let (handle, channel) = (hold(ipc_main)?, text(channel, channel_len, "channel")?);
            let once = is_once(flags)?;
            let shared = handle.shared.clone();
            handle.shared.register(0, Way { callback, user, destroy }, id, |registration| {
                let to = Receiver { registration: registration.clone(), channel: channel.into() };
                let listener = move |event: &IpcMainEvent, args: Args| {
                    let place = Place { renderer: event.sender().id(), renderer_frame: event.frame_id(), frame: 0 };
                    let kind = match event.is_synchronous() {
                        false => RINGMAIN_EVENT_MESSAGE,
                        true => RINGMAIN_EVENT_SYNC,
                    };
                    let answer = Answer::Main(event.clone());
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
/// other arguments are those of `ringmain_main_on`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_handle(
    ipc_main: *const ringmain_main,
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
            let (handle, channel) = (hold(ipc_main)?, text(channel, channel_len, "channel")?);
            let once = is_once(flags)?;
            let shared = handle.shared.clone();
            handle.shared.register(0, Way { callback, user, destroy }, id, |registration| {
                let to = Receiver { registration: registration.clone(), channel: channel.into() };
                let handler = handle.ipc.handle_deferred(channel, once, move |call, args| {
                    let (renderer, frame) = call.place();
                    let place = Place { renderer, renderer_frame: frame, frame: 0 };
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

/// Removes what `ringmain_main_on`, `_handle` or `_watch` has registered. A barrier: when this returns, the callback
/// does not run and will not, `destroy` has been called, and events of it that were not pulled yet are dropped. From
/// inside of the callback itself it returns at once, and `destroy` is called when the callback has returned.
///
/// It waits for a callback that runs on another thread: the caller must hold nothing that this waits for. Two callbacks
/// that run on two threads must not remove each other's registrations: each would wait for the other, for ever.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_remove(
    ipc_main: *const ringmain_main,
    id: u64,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours.
        unsafe { hold(ipc_main)? }.shared.remove(id)
    })
}

/// Calls `callback` for what happens beside messages: `what` is made of `RINGMAIN_WATCH_CONNECTED`, `_GONE` and `_ERRORS`.
/// Without a callback that becomes events to be pulled. Errors that nobody watches go to stderr. The other arguments are
/// those of `ringmain_main_on`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_watch(
    ipc_main: *const ringmain_main,
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
            let handle = hold(ipc_main)?;
            shared::check_watch(what, RINGMAIN_WATCH_CONNECTED | RINGMAIN_WATCH_GONE | RINGMAIN_WATCH_ERRORS)?;
            handle.shared.register(0, Way { callback, user, destroy }, id, |registration| {
                let new = handle.shared.watch(what, registration);
                hook(&handle, new);
                Ok(unwatch(&handle.shared, registration))
            })
        }
    })
}

fn hook(handle: &ringmain_main, new: u32) {
    let event = |kind, watcher: &Arc<Registration>, renderer: &WebContents| {
        let place = Place { renderer: renderer.id(), renderer_frame: MAIN_FRAME, frame: 0 };
        ringmain_event::new(kind, watcher.id, place, "".into())
    };
    if new & RINGMAIN_WATCH_CONNECTED != 0 {
        let shared = handle.shared.clone();
        handle.ipc.on_renderer_connected(move |renderer| {
            shared.tell(RINGMAIN_WATCH_CONNECTED, |watcher| event(RINGMAIN_EVENT_CONNECTED, watcher, renderer));
        });
    }
    if new & RINGMAIN_WATCH_GONE != 0 {
        let shared = handle.shared.clone();
        handle.ipc.on_renderer_gone(move |renderer, reason| {
            shared
                .tell(RINGMAIN_WATCH_GONE, |watcher| event(RINGMAIN_EVENT_GONE, watcher, renderer).with_reason(reason));
        });
    }
    if new & RINGMAIN_WATCH_ERRORS != 0 {
        let shared = handle.shared.clone();
        handle.ipc.on_error(move |report| shared.tell_error(report));
    }
}

// ---- sending --------------------------------------------------------------------------------------------------------

/// Sends a message to a renderer; `frame` is one of its frames, 0 its main one. `data` is the argument list in `format`; no
/// data is no arguments. Never waits: what finds no room in the ring queues here. The data stays the caller's.
///
/// Nothing was sent if it fails: `RINGMAIN_INVALID_VALUE`, `RINGMAIN_TOO_LARGE`, `RINGMAIN_FULL`, `RINGMAIN_DISCONNECTED`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_send(
    ipc_main: *const ringmain_main,
    renderer: u32,
    frame: u32,
    channel: *const c_char,
    channel_len: usize,
    format: u32,
    data: *const u8,
    len: usize,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; text and bytes are the caller's.
        let (handle, channel, args) = unsafe {
            (given(ipc_main, "ipc_main")?, text(channel, channel_len, "channel")?, args_of(format, data, len)?)
        };
        let to = handle.renderer(renderer)?;
        if frame <= MAIN_FRAME {
            return Ok(to.send(channel, Encoded(&args))?);
        }
        match to.send_to_frame(frame, channel, Encoded(&args))? {
            true => Ok(()),
            false => {
                let text = format!("renderer {renderer} has no frame {frame} (any more)");
                Err(Error::new(ErrorKind::Disconnected, text).into())
            }
        }
    })
}

/// Waits up to `timeout_ns` until all that was sent to a renderer is in the ring, where it finds it even if this process
/// ends. Fails with `RINGMAIN_TIMEOUT`, `RINGMAIN_DISCONNECTED`, `RINGMAIN_WOULD_DEADLOCK`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_flush(
    ipc_main: *const ringmain_main,
    renderer: u32,
    timeout_ns: u64,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours.
        Ok(unsafe { given(ipc_main, "ipc_main") }?.renderer(renderer)?.flush(long_time(timeout_ns))?)
    })
}

/// Calls the handler of `channel` in a renderer's frame (0: its main one), and waits for the answer up to `timeout_ns`,
/// which must end. `*reply` becomes the value in `format`, the caller's until `ringmain_bytes_free`. Before, `*reply` must
/// be `RINGMAIN_BYTES_INIT` or what an earlier function left there, and hold no part of the arguments of this call.
///
/// Dispatches nothing meanwhile: if the answer needs a callback of this main, see `ringmain_main_invoke_polling`. Fails as
/// `ringmain_main_send`, with what the handler failed with, or with `RINGMAIN_TIMEOUT`, `RINGMAIN_WOULD_DEADLOCK`.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_invoke(
    ipc_main: *const ringmain_main,
    renderer: u32,
    frame: u32,
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
            let (handle, channel) = (given(ipc_main, "ipc_main")?, text(channel, channel_len, "channel")?);
            let args = args_of(format, data, len)?;
            replied(reply, format, || {
                Ok(handle.invoke((renderer, frame), channel, &args, finite_time(timeout_ns)?)?.wait()?)
            })
        }
    })
}

/// As `ringmain_main_invoke`, on the thread that dispatches, also inside of a callback: runs what arrives from this
/// renderer meanwhile, so that its handler may call back handlers and listeners that have a callback here. What is pulled
/// is queued meanwhile, and nobody pulls it: a handler that waits for an answer of that kind gets none before this one's
/// time is over. Nested at most eight deep, then `RINGMAIN_LIMIT`. Fails as `_invoke` otherwise. `*reply` is in and out,
/// as there.
///
/// Thread-safe: yes, but one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_invoke_polling(
    ipc_main: *const ringmain_main,
    renderer: u32,
    frame: u32,
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
            let (handle, channel) = (hold(ipc_main)?, text(channel, channel_len, "channel")?);
            let (args, timeout) = (args_of(format, data, len)?, finite_time(timeout_ns)?);
            let result = replied_polling(reply, format, || {
                Ok(handle.invoke((renderer, frame), channel, &args, timeout)?.wait_polling(timeout)?)
            });
            shared::tell_of_events(&*handle);
            result
        }
    })
}

/// As `ringmain_main_invoke`, but returns at once. The answer, or the failure, is given to `callback` as a
/// `RINGMAIN_EVENT_REPLY`, exactly once, at the latest when the main is freed; without a callback it is an event to be
/// pulled. `*call` (may be null) is the number by which the event names it. If this function fails, the callback is not
/// called.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_invoke_async(
    ipc_main: *const ringmain_main,
    renderer: u32,
    frame: u32,
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
            let (handle, channel) = (given(ipc_main, "ipc_main")?, text(channel, channel_len, "channel")?);
            let (args, timeout) = (args_of(format, data, len)?, finite_time(timeout_ns)?);
            let way = Way { callback, user, destroy: None };
            let place = Place { renderer, renderer_frame: frame.max(MAIN_FRAME), frame: 0 };
            handle.shared.check_way(&way)?;
            let invoke = handle.invoke((renderer, frame), channel, &args, timeout)?;
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
pub unsafe extern "C" fn ringmain_main_poll(
    ipc_main: *const ringmain_main,
    max_messages: usize,
    max_time_ns: u64,
    ran: *mut usize,
    more: *mut bool,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; `ran` and `more` are null or may be written.
        unsafe { shared::poll(&*hold(ipc_main)?, max_messages, max_time_ns, ran, more) }
    })
}

/// Pulls the next event: `*event` is the caller's until `ringmain_event_free`, or null if there is none now. Dispatches as
/// `ringmain_main_poll` does, one message at a time, so callbacks of other registrations run meanwhile. Never waits: see
/// `ringmain_main_wait` and `ringmain_main_fd`, and call it until it has none left.
///
/// Events wait in a queue that has no bound. This function takes a message only when that queue is empty, so it stays
/// short; `ringmain_main_poll` fills it with all that has arrived. Whoever pulls should not call that besides.
///
/// Fails as `ringmain_main_poll`.
///
/// Thread-safe: yes, but one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_next_event(
    ipc_main: *const ringmain_main,
    event: *mut *mut ringmain_event,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; `event` is null or may be written.
        unsafe { shared::next_event(&*hold(ipc_main)?, event) }
    })
}

/// Waits until `ringmain_main_poll` or `ringmain_main_next_event` would find something; `RINGMAIN_TIMEOUT` if that takes
/// longer than `timeout_ns` (or `RINGMAIN_FOREVER`). Fails as `ringmain_main_poll`.
///
/// Thread-safe: yes, but one thread at a time
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_wait(
    ipc_main: *const ringmain_main,
    timeout_ns: u64,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours.
        unsafe { shared::wait(&*hold(ipc_main)?, timeout_ns) }
    })
}

/// One descriptor for everything: readable as long as `ringmain_main_poll` would find something, for `poll(2)`, `epoll` and
/// every event loop. Made at the first call; it stays the library's: not to be read, written or closed. Whoever pulls calls
/// `ringmain_main_next_event` until there is none left, then sleeps on it.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_fd(
    ipc_main: *const ringmain_main,
    fd: *mut c_int,
    error: *mut *mut ringmain_error,
) -> ringmain_result {
    guard(error, || {
        // SAFETY: a handle of ours; `fd` is null or may be written.
        unsafe { shared::fd(given(ipc_main, "ipc_main")?, fd) }
    })
}

/// In how many nanoseconds the next timeout has to be looked at by `ringmain_main_poll`, for those who do not sleep on the
/// descriptor; `RINGMAIN_FOREVER` if there is none, or for null.
///
/// Thread-safe: yes
/// Realtime-safe: no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmain_main_next_deadline(ipc_main: *const ringmain_main) -> u64 {
    quietly(RINGMAIN_FOREVER, || {
        // SAFETY: null, or a handle of ours.
        unsafe { ipc_main.as_ref() }.map_or(RINGMAIN_FOREVER, shared::next_deadline)
    })
}
