/* ringmain: Electron's IPC for native programs, at shared-memory speed. The C API.
 *
 * Generated from src/capi by capi/header: not to be edited.
 *
 * Handles are opaque. A function that can fail returns a ringmain_result and takes, as its last argument, an optional
 * `ringmain_error **`: on failure, and only then, it is set to an error that the caller frees. Other outputs are written
 * on success alone, but for the `*id` of a registration. Texts are UTF-8, a pointer and a length, or RINGMAIN_TERMINATED
 * as the length of one that ends with a null byte. Payloads are MessagePack or JSON (ringmain_format). Times are
 * nanoseconds.
 *
 * `ringmain_bytes *` (a reply, a converted value) is in and out: `*reply` must be RINGMAIN_BYTES_INIT or what an earlier
 * function left there, since its memory is used again, and it must not be, or hold any part of, the arguments of the same
 * call.
 *
 * With manual dispatch, the default, nothing happens in this program but inside ringmain_*_poll,
 * ringmain_*_next_event and ringmain_*_invoke_polling. Two ways to receive: with a callback, which those run; or without,
 * then ringmain_*_next_event hands each event out.
 *
 * Lanes (ringmain_lane_*, ringmain_latest_*) are memory of their own for threads that must never wait. To open, to split, to
 * make counters, and to make, to add to and to replace in a group are as all other functions; the rest return the result
 * alone, which says everything: no text is made of it. An end belongs to one thread at a time, whichever that is.
 * Deadlines are times of ringmain_now(). Before the first real-time call: ringmain_*_prepare, and either linking
 * with `-z now` or the static library, so that no call has to look its function up.
 *
 * Each function says which threads may call it, and whether it may be called where a deadline of microseconds counts: it
 * takes no lock, makes no system call and allocates nothing then.
 *
 * No promise of a stable ABI yet: build header and library of one version; see RINGMAIN_VERSION and ringmain_version().
 */

#ifndef RINGMAIN_H
#define RINGMAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The version of this header, to be compared with ringmain_version(). */
#define RINGMAIN_VERSION "0.1.0"
#define RINGMAIN_VERSION_MAJOR 0
#define RINGMAIN_VERSION_MINOR 1
#define RINGMAIN_VERSION_PATCH 0

/* The length of a text that ends with a null byte. */
#define RINGMAIN_TERMINATED SIZE_MAX

/* A second, and a millisecond, as the functions take times. */
#define RINGMAIN_SECOND UINT64_C(1000000000)
#define RINGMAIN_MILLISECOND UINT64_C(1000000)


/**
 * A time without end, where a function says that it takes one.
 */
#define RINGMAIN_FOREVER UINT64_MAX

/**
 * For `flags`: the registration is removed before its first message or call runs.
 */
#define RINGMAIN_ONCE 1

/**
 * What `ringmain_*_watch` may ask for: renderers that have connected. Main only.
 */
#define RINGMAIN_WATCH_CONNECTED 1

/**
 * Renderers that are gone; at a renderer: main is gone.
 */
#define RINGMAIN_WATCH_GONE 2

/**
 * What goes wrong where nobody waits for an error.
 */
#define RINGMAIN_WATCH_ERRORS 4

/**
 * Messages that guests send to their host. Renderers only.
 */
#define RINGMAIN_WATCH_GUESTS 8

/**
 * The frame that every renderer has.
 */
#define RINGMAIN_MAIN_FRAME 1

/**
 * What a function returns: `RINGMAIN_OK`, or why it failed. The numbers never change; later versions may add some.
 */
enum ringmain_result
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * It is done.
   */
  RINGMAIN_OK = 0,
  /**
   * A pointer that must not be null is null.
   */
  RINGMAIN_NULL_ARGUMENT = 1,
  /**
   * A text is not UTF-8.
   */
  RINGMAIN_INVALID_UTF8 = 2,
  /**
   * `struct_size` is none that this version knows: `_INIT` was forgotten, or the program was compiled for a later one
   * and sets what this one does not have. Or a record has not the size that all of its lane have.
   */
  RINGMAIN_WRONG_SIZE = 3,
  /**
   * A panic inside the library, a fault of it: what the call was to do may be half done.
   */
  RINGMAIN_PANIC = 4,
  /**
   * The event is none that can be answered in this way.
   */
  RINGMAIN_WRONG_EVENT = 5,
  /**
   * There is no registration of this number (any more).
   */
  RINGMAIN_NOT_REGISTERED = 6,
  /**
   * The end of a lane has a loan or a batch open, or none that could be committed; or it is a group's.
   */
  RINGMAIN_WRONG_STATE = 7,
  /**
   * A value that cannot travel: not JSON or MessagePack, NaN, byte strings, too deep, too many values.
   */
  RINGMAIN_INVALID_VALUE = 10,
  /**
   * A message longer than `max_message_size`, a text longer than 64 KiB, a record longer than the lane's records or than the
   * buffer that it is to be copied to.
   */
  RINGMAIN_TOO_LARGE = 11,
  /**
   * The channel has a handler already; that one stays.
   */
  RINGMAIN_DUPLICATE_HANDLER = 12,
  /**
   * A blocking wait on the thread that would have to serve the answer.
   */
  RINGMAIN_WOULD_DEADLOCK = 13,
  /**
   * An option or an argument that is out of its range.
   */
  RINGMAIN_INVALID_CONFIG = 14,
  /**
   * This process was not started by `ringmain_main_spawn` or its kin.
   */
  RINGMAIN_NOT_A_RENDERER = 15,
  /**
   * This process has connected already.
   */
  RINGMAIN_ALREADY_CONNECTED = 16,
  /**
   * This is a forked copy of the process that made the handle.
   */
  RINGMAIN_FORKED = 17,
  /**
   * Another thread dispatches this handle, or this is a callback of it.
   */
  RINGMAIN_BUSY = 18,
  /**
   * A queue or a lane is used up; nothing was sent.
   */
  RINGMAIN_FULL = 20,
  /**
   * A limit on calls, frames or renderers is reached.
   */
  RINGMAIN_LIMIT = 21,
  /**
   * The time is over.
   */
  RINGMAIN_TIMEOUT = 22,
  /**
   * The other process is gone, or the link was closed, or the other end of the lane.
   */
  RINGMAIN_DISCONNECTED = 23,
  /**
   * Another main listens under this name.
   */
  RINGMAIN_NAME_IN_USE = 24,
  /**
   * Nobody listens under this name.
   */
  RINGMAIN_NOT_LISTENING = 25,
  /**
   * There is no record now, or no newer value.
   */
  RINGMAIN_EMPTY = 26,
  /**
   * No handler is registered for the channel.
   */
  RINGMAIN_NO_HANDLER = 30,
  /**
   * The handler failed: see `ringmain_error_detail`.
   */
  RINGMAIN_HANDLER = 31,
  /**
   * The handler panicked.
   */
  RINGMAIN_HANDLER_PANICKED = 32,
  /**
   * The call was dropped without an answer.
   */
  RINGMAIN_REPLY_NEVER_SENT = 33,
  /**
   * No listener is registered for a synchronous message.
   */
  RINGMAIN_NO_LISTENER = 34,
  /**
   * The arguments do not fit what the handler takes.
   */
  RINGMAIN_BAD_ARGUMENTS = 35,
  /**
   * The reply found no room in the queue of the replying process.
   */
  RINGMAIN_REPLY_FULL = 36,
  /**
   * The reply is not of the type that was asked for.
   */
  RINGMAIN_BAD_REPLY = 37,
  /**
   * A message had nobody to go to.
   */
  RINGMAIN_UNDELIVERABLE = 40,
  /**
   * The peer broke the protocol; its link was cut. Of a lane: this end is of no use any more.
   */
  RINGMAIN_PROTOCOL = 50,
  /**
   * The handshake failed.
   */
  RINGMAIN_REFUSED = 51,
  /**
   * A call into the operating system failed.
   */
  RINGMAIN_SYSTEM = 52,
  /**
   * A failure that this table has no number for.
   */
  RINGMAIN_OTHER = 99,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ringmain_result ringmain_result;
#else
typedef int32_t ringmain_result;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How payloads are written. An argument list is an array in both: `[2, 3]`.
 */
enum ringmain_format
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * MessagePack, restricted to what JSON has: no byte strings, extensions, NaN or infinities; map keys are texts.
   * This is what travels: nothing is converted.
   */
  RINGMAIN_MSGPACK = 0,
  /**
   * JSON text in UTF-8, converted here.
   */
  RINGMAIN_JSON = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ringmain_format ringmain_format;
#else
typedef uint32_t ringmain_format;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Which thread runs callbacks, or makes events.
 */
enum ringmain_dispatch
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The one that calls `ringmain_*_poll` or `ringmain_*_next_event`. The default.
   */
  RINGMAIN_DISPATCH_MANUAL = 0,
  /**
   * A thread of the library's own. For callbacks only: events cannot be pulled then.
   */
  RINGMAIN_DISPATCH_THREADS = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ringmain_dispatch ringmain_dispatch;
#else
typedef uint32_t ringmain_dispatch;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How threads of the library, and threads that wait in it, wait.
 */
enum ringmain_wait
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Spin as long as that paid lately, then sleep. The default.
   */
  RINGMAIN_WAIT_ADAPTIVE = 0,
  /**
   * Spin: takes a core for itself.
   */
  RINGMAIN_WAIT_SPIN = 1,
  /**
   * Sleep at once.
   */
  RINGMAIN_WAIT_PARK = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ringmain_wait ringmain_wait;
#else
typedef uint32_t ringmain_wait;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a failed handler has sent along.
 */
enum ringmain_detail
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The name of the handler's error: its type's, in Rust.
   */
  RINGMAIN_DETAIL_NAME = 0,
  /**
   * The handler's own text, without words of this library around it.
   */
  RINGMAIN_DETAIL_MESSAGE = 1,
  /**
   * A code for programs (`ENOENT`).
   */
  RINGMAIN_DETAIL_CODE = 2,
  /**
   * Any value, as JSON text.
   */
  RINGMAIN_DETAIL_DATA = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ringmain_detail ringmain_detail;
#else
typedef uint32_t ringmain_detail;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What an event is.
 */
enum ringmain_event_type
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * A message that `send` has sent. The payload is its argument list.
   */
  RINGMAIN_EVENT_MESSAGE = 1,
  /**
   * A message whose sender blocks until it is answered: `ringmain_event_reply`. Main only. The payload is its argument
   * list.
   */
  RINGMAIN_EVENT_SYNC = 2,
  /**
   * A call, to be answered by `ringmain_event_reply` or `ringmain_event_reply_error`. The payload is its argument list.
   */
  RINGMAIN_EVENT_CALL = 3,
  /**
   * The answer of a call made by `ringmain_*_invoke_async`. The payload is the value, if `result` is `RINGMAIN_OK`; see
   * `ringmain_event_error` otherwise.
   */
  RINGMAIN_EVENT_REPLY = 4,
  /**
   * A renderer has connected.
   */
  RINGMAIN_EVENT_CONNECTED = 5,
  /**
   * A renderer is gone, or main is. `gone`, `status` and `ringmain_event_error` say why.
   */
  RINGMAIN_EVENT_GONE = 6,
  /**
   * Something went wrong where nobody waits for an error: see `ringmain_event_error`.
   */
  RINGMAIN_EVENT_ERROR = 7,
  /**
   * A message of a guest to its host. The payload is its argument list.
   */
  RINGMAIN_EVENT_GUEST = 8,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ringmain_event_type ringmain_event_type;
#else
typedef uint32_t ringmain_event_type;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Why a link ended.
 */
enum ringmain_gone
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * It has not.
   */
  RINGMAIN_GONE_NOT = 0,
  /**
   * The process ended by itself; `status` is its exit code where that is known, else -1.
   */
  RINGMAIN_GONE_EXITED = 1,
  /**
   * A signal ended the process; `status` is its number.
   */
  RINGMAIN_GONE_KILLED = 2,
  /**
   * The peer broke the protocol.
   */
  RINGMAIN_GONE_CORRUPT = 3,
  /**
   * One of the two sides closed the link.
   */
  RINGMAIN_GONE_CLOSED = 4,
  /**
   * The link never came to work.
   */
  RINGMAIN_GONE_NEVER_CONNECTED = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ringmain_gone ringmain_gone;
#else
typedef uint32_t ringmain_gone;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How a sender wakes a receiver that sleeps in a function with a deadline.
 */
enum ringmain_wake
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * `RINGMAIN_WAKE_NEVER` for latest values, `RINGMAIN_WAKE_IF_PARKED` for everything else.
   */
  RINGMAIN_WAKE_DEFAULT = 0,
  /**
   * Not at all: the sender makes no system call, ever. For receivers that look by themselves, such as a window that redraws
   * 60 times a second. One that waits all the same looks every millisecond.
   */
  RINGMAIN_WAKE_NEVER = 1,
  /**
   * By one `FUTEX_WAKE`, when the receiver has said that it sleeps, and only then.
   */
  RINGMAIN_WAKE_IF_PARKED = 2,
  /**
   * A flag is set, and a helper thread of this process makes the call within a millisecond. For threads that may make no
   * system call and whose receiver sleeps.
   */
  RINGMAIN_WAKE_RELAY = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ringmain_wake ringmain_wake;
#else
typedef uint32_t ringmain_wake;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What is known about a failure. Made by the function that failed, freed by `ringmain_error_free`.
 */
typedef struct ringmain_error ringmain_error;

/**
 * Something that happened. A callback is given one until it returns; one that was pulled, or retained, is the caller's
 * until `ringmain_event_free`. A call that is freed without an answer fails with `RINGMAIN_REPLY_NEVER_SENT` at its
 * caller.
 */
typedef struct ringmain_event ringmain_event;

/**
 * Reads the counters of an end on another thread.
 */
typedef struct ringmain_lane_counters ringmain_lane_counters;

/**
 * Both ways: requests and their answers by number.
 */
typedef struct ringmain_lane_duplex ringmain_lane_duplex;

/**
 * Duplexes to several peers that work at the same time: all are asked, then all are waited for.
 */
typedef struct ringmain_lane_group ringmain_lane_group;

/**
 * Receives records, in order.
 */
typedef struct ringmain_lane_receiver ringmain_lane_receiver;

/**
 * Sends records, in order.
 */
typedef struct ringmain_lane_sender ringmain_lane_sender;

/**
 * Reads the newest value.
 */
typedef struct ringmain_latest_reader ringmain_latest_reader;

/**
 * Publishes values of which the reader sees the newest.
 */
typedef struct ringmain_latest_writer ringmain_latest_writer;

/**
 * A main: owns any number of renderers, which are known by their numbers.
 */
typedef struct ringmain_main ringmain_main;

/**
 * A renderer's end of a link, or a further frame of it (`ringmain_renderer_frame`).
 */
typedef struct ringmain_renderer ringmain_renderer;

/**
 * Bytes that the library hands over to the caller, who gives them back to `ringmain_bytes_free`. In and out: a function
 * takes the memory that it finds here, and uses it again, so that replies of a like size allocate nothing. It must
 * therefore be `RINGMAIN_BYTES_INIT` or what an earlier function left there, never uninitialised and never memory of the
 * caller's; and no argument of the same call may point into it. A function that fails leaves it alone.
 */
typedef struct ringmain_bytes {
  /**
   * The first byte. Not null-terminated.
   */
  uint8_t *data;
  /**
   * How many there are.
   */
  size_t len;
  /**
   * The library's own.
   */
  size_t capacity;
} ringmain_bytes;

/**
 * What stands in an event. Begins as `RINGMAIN_EVENT_INFO_INIT`. Its pointers are valid as long as the event.
 */
typedef struct ringmain_event_info {
  /**
   * `sizeof(ringmain_event_info)`.
   */
  size_t struct_size;
  /**
   * A `ringmain_event_type`.
   */
  uint32_t event_type;
  /**
   * In main the renderer concerned, 0 if there is none; at a renderer the one that sent, 0 if that is main.
   */
  uint32_t renderer;
  /**
   * The frame of it.
   */
  uint32_t renderer_frame;
  /**
   * At a renderer: the frame of this renderer that the event is for; 0 in main.
   */
  uint32_t frame;
  /**
   * Of `RINGMAIN_EVENT_REPLY` and `RINGMAIN_EVENT_ERROR`: a `ringmain_result`.
   */
  int32_t result;
  /**
   * Of `RINGMAIN_EVENT_GONE`: a `ringmain_gone`.
   */
  uint32_t gone;
  /**
   * Of `RINGMAIN_EVENT_GONE`: exit code or signal.
   */
  int32_t status;
  /**
   * Zero.
   */
  uint32_t reserved;
  /**
   * The registration that the event is for; 0 for `RINGMAIN_EVENT_REPLY`.
   */
  uint64_t registration;
  /**
   * Of `RINGMAIN_EVENT_REPLY`: what `ringmain_*_invoke_async` has numbered the call.
   */
  uint64_t call;
  /**
   * The channel, not null-terminated.
   */
  const char *channel;
  /**
   * Its length.
   */
  size_t channel_len;
  /**
   * The payload as MessagePack; `ringmain_event_json` has it as JSON.
   */
  const uint8_t *payload;
  /**
   * Its length; 0 if there is none.
   */
  size_t payload_len;
} ringmain_event_info;

/**
 * Options of a main. Begins as `RINGMAIN_MAIN_CONFIG_INIT`; zero or null is the default of each field. Texts are UTF-8,
 * end with a null byte, and are copied.
 */
typedef struct ringmain_main_config {
  /**
   * `sizeof(ringmain_main_config)`.
   */
  size_t struct_size;
  /**
   * A `ringmain_dispatch`.
   */
  uint32_t dispatch;
  /**
   * A `ringmain_wait`.
   */
  uint32_t wait;
  /**
   * Bytes of each of a link's two rings, a power of two. Default 1 MiB.
   */
  uint64_t ring_size;
  /**
   * Bytes that may wait for one renderer when its ring is full. Default 16 MiB.
   */
  uint64_t queue_limit;
  /**
   * Bytes that may wait in all. Default 512 MiB.
   */
  uint64_t process_limit;
  /**
   * The longest message. Default 64 MiB.
   */
  uint64_t max_message_size;
  /**
   * How long a spawned renderer may take to connect. Default 30 s; `RINGMAIN_FOREVER` for debuggers.
   */
  uint64_t connect_timeout_ns;
  /**
   * The most values that one message may hold. Default one million.
   */
  uint32_t max_values;
  /**
   * The most calls that may wait for an answer on one link, each way. Default 65 536.
   */
  uint32_t max_pending_calls;
  /**
   * How many renderers there may be at once. Default 4 096.
   */
  uint32_t max_renderers;
  /**
   * 0: sealed memory. 1: named memory in /dev/shm, for peers that trust each other.
   */
  uint32_t backing;
  /**
   * The application's name, shown to the other side.
   */
  const char *app_name;
  /**
   * The application's version, shown to the other side.
   */
  const char *app_version;
  /**
   * The directory of the sockets of `ringmain_main_listen`.
   */
  const char *runtime_dir;
} ringmain_main_config;

/**
 * What is known about a renderer. Begins as `RINGMAIN_RENDERER_INFO_INIT`.
 */
typedef struct ringmain_renderer_info {
  /**
   * `sizeof(ringmain_renderer_info)`.
   */
  size_t struct_size;
  /**
   * Its process; 0 where that is not visible from here.
   */
  uint32_t process_id;
  /**
   * 1 if it has connected and is not gone, else 0.
   */
  uint32_t is_connected;
  /**
   * The renderer that embeds it; 0 if none does.
   */
  uint32_t host;
  /**
   * How many frames it has open.
   */
  uint32_t frames;
} ringmain_renderer_info;

/**
 * Counters of one link at one moment. Begins as `RINGMAIN_STATS_INIT`. Sizes are in bytes and include the 24 bytes of a
 * message's header and its channel name.
 */
typedef struct ringmain_stats {
  /**
   * `sizeof(ringmain_stats)`.
   */
  size_t struct_size;
  /**
   * Messages handed to the ring or its queue.
   */
  uint64_t messages_sent;
  /**
   * Their bytes.
   */
  uint64_t bytes_sent;
  /**
   * Messages read from the ring.
   */
  uint64_t messages_received;
  /**
   * Their bytes.
   */
  uint64_t bytes_received;
  /**
   * Bytes that wait in the queue because the ring is full.
   */
  uint64_t queued_bytes;
  /**
   * Sends refused because a limit was reached.
   */
  uint64_t refused_full;
  /**
   * Replies that came after their call was given up.
   */
  uint64_t late_replies;
  /**
   * Messages that had nobody to go to and were dropped.
   */
  uint64_t undeliverable;
  /**
   * Calls of ours that wait for an answer.
   */
  uint64_t pending_calls;
  /**
   * Requests of the other side's that have no answer yet.
   */
  uint64_t open_requests;
} ringmain_stats;

/**
 * Called with the `user` of the registration and an event, which is valid until it returns: `ringmain_event_retain` keeps
 * it. Runs on the thread that dispatches. It may call every function of this library, `ringmain_*_remove` for itself
 * included; those that would have to dispatch return `RINGMAIN_BUSY`. It must not unwind: no C++ exception, no `longjmp`.
 */
typedef void (*ringmain_callback)(void *user, struct ringmain_event *event);

/**
 * Called once with the `user` of a registration that is over, when nothing uses it any more; on the thread that removes
 * it, or on the one whose callback of it still ran then. Every function of this library may be called in it, the one that
 * frees its own handle included, unless that is what runs already. It must not unwind.
 */
typedef void (*ringmain_destroy)(void *user);

/**
 * Options of a renderer. Begins as `RINGMAIN_RENDERER_CONFIG_INIT`; zero or null is the default of each field. Texts are
 * UTF-8, end with a null byte, and are copied.
 */
typedef struct ringmain_renderer_config {
  /**
   * `sizeof(ringmain_renderer_config)`.
   */
  size_t struct_size;
  /**
   * A `ringmain_dispatch`.
   */
  uint32_t dispatch;
  /**
   * A `ringmain_wait`.
   */
  uint32_t wait;
  /**
   * Bytes that may wait for main when the ring is full. Default 16 MiB.
   */
  uint64_t queue_limit;
  /**
   * Bytes that may wait in all. Default 512 MiB.
   */
  uint64_t process_limit;
  /**
   * The longest message. Default 64 MiB.
   */
  uint64_t max_message_size;
  /**
   * How long the handshake may take. Default 30 s; `RINGMAIN_FOREVER` for ever.
   */
  uint64_t connect_timeout_ns;
  /**
   * The most values that one message may hold. Default one million.
   */
  uint32_t max_values;
  /**
   * The most calls that may wait for an answer, each way. Default 65 536.
   */
  uint32_t max_pending_calls;
  /**
   * The application's name, shown to the other side.
   */
  const char *app_name;
  /**
   * The application's version, shown to the other side.
   */
  const char *app_version;
  /**
   * The directory of the sockets of `ringmain_renderer_connect_to`.
   */
  const char *runtime_dir;
} ringmain_renderer_config;

/**
 * How a lane is opened. Begins as `RINGMAIN_LANE_CONFIG_INIT`; zero is the default of each field. Sizes, `capacity` and `align`
 * are main's to say: a renderer takes what it is offered, if that has the same `send_size` and `recv_size` as its own (seen
 * from the other side) and no smaller `align`.
 */
typedef struct ringmain_lane_config {
  /**
   * `sizeof(ringmain_lane_config)`.
   */
  size_t struct_size;
  /**
   * Each record, or value, that this end sends has exactly so many bytes: `sizeof` of a type, which a Rust program on the other
   * side names. 0: bytes of any length up to `max_record`; in Rust, `[u8]`.
   */
  uint64_t send_size;
  /**
   * The same for what this end receives.
   */
  uint64_t recv_size;
  /**
   * The longest record without a fixed size, at most 1 GiB; so many bytes are reserved for each. Default 4 096.
   */
  uint64_t max_record;
  /**
   * How long a receiver with a deadline looks before it sleeps. Default 20 µs, nothing where the process may use one core
   * alone; 1 is as good as nothing.
   */
  uint64_t spin_ns;
  /**
   * How long a renderer waits for main to open the lane. Default 5 s; `RINGMAIN_FOREVER` for ever.
   */
  uint64_t open_timeout_ns;
  /**
   * Records that have room, each way. Default 256. Latest values have three places, always.
   */
  uint32_t capacity;
  /**
   * The alignment of records in memory, for those who work in place: a power of two from 16 to 128. Default 16.
   */
  uint32_t align;
  /**
   * A `ringmain_wake`: how this end wakes the other one.
   */
  uint32_t wake;
  /**
   * 1: keeps this end's memory from being swapped out (`mlock`), as far as the system lets it; `locked` of
   * `ringmain_lane_stats` says whether it does.
   */
  uint32_t lock_memory;
} ringmain_lane_config;

/**
 * What happened on a lane, as this end has seen it: numbers of records, or of values. Begins as `RINGMAIN_LANE_STATS_INIT`.
 */
typedef struct ringmain_lane_stats {
  /**
   * `sizeof(ringmain_lane_stats)`.
   */
  size_t struct_size;
  /**
   * Sent, or written as latest values.
   */
  uint64_t sent;
  /**
   * Not sent because there was no room: the receiver sees a gap in the numbers. Of latest values those that were overrun
   * before anybody read them.
   */
  uint64_t dropped;
  /**
   * Sleeping receivers that this end has woken.
   */
  uint64_t wakes;
  /**
   * Received, or read as latest values.
   */
  uint64_t received;
  /**
   * That the numbers say were dropped by the sender; of latest values those that were overrun by newer ones.
   */
  uint64_t lost;
  /**
   * Answers of exchanges that came after their deadline, and were thrown away.
   */
  uint64_t late;
  /**
   * Whether this end's memory is locked: 0 if that was not asked for, 1 if it is, 2 if the system has refused.
   */
  uint32_t locked;
  /**
   * 1 as long as the lane can be used, as far as can be seen from here, else 0.
   */
  uint32_t is_open;
} ringmain_lane_stats;

/**
 * What is known of a record that was received, or of a value that was taken.
 */
typedef struct ringmain_received {
  /**
   * Its bytes.
   */
  size_t len;
  /**
   * Counts what the sender has sent or dropped, from 0 on; of records in 32 bits, which begin again at 0.
   */
  uint64_t number;
  /**
   * Numbers that are missing before this one: dropped because there was no room, or overrun by newer values.
   */
  uint64_t lost;
} ringmain_received;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version as text: that of `RINGMAIN_VERSION` of the header it was built with. The text is static.
 *
 * Thread-safe: yes
 * Realtime-safe: yes
 */
const char *ringmain_version(void);

/**
 * A few English words for a result; "unknown result" for numbers that this version does not know. The text is static.
 *
 * Thread-safe: yes
 * Realtime-safe: yes
 */
const char *ringmain_result_text(int32_t result);

/**
 * The result of the function that made this error; `RINGMAIN_OK` for null.
 *
 * Thread-safe: yes
 * Realtime-safe: yes
 */
ringmain_result ringmain_error_result(const struct ringmain_error *error);

/**
 * Copies what happened, for people, into `buffer`: at most `size - 1` bytes of UTF-8 and a null byte. Returns the length
 * of the whole text, so that a second call can have room for it; `buffer` may be null. The text of null is empty.
 *
 * The caller keeps error and buffer.
 *
 * Thread-safe: yes
 * Realtime-safe: yes
 */
size_t ringmain_error_message(const struct ringmain_error *error,
                              char *buffer,
                              size_t size);

/**
 * As `ringmain_error_message`, for one part (a `ringmain_detail`) of what a failed handler has sent along. Returns 0, and
 * writes an empty text, where there is no such part.
 *
 * The caller keeps error and buffer.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
size_t ringmain_error_detail(const struct ringmain_error *error,
                             uint32_t detail,
                             char *buffer,
                             size_t size);

/**
 * Frees an error; null is nothing.
 *
 * Thread-safe: yes, once for each error
 * Realtime-safe: no
 */
void ringmain_error_free(struct ringmain_error *error);

/**
 * Gives bytes back; the struct is as `RINGMAIN_BYTES_INIT` afterwards. Null and empty structs are nothing.
 *
 * Thread-safe: yes, for one struct on one thread at a time
 * Realtime-safe: no
 */
void ringmain_bytes_free(struct ringmain_bytes *bytes);

/**
 * Converts JSON text (one value) to MessagePack. `*bytes` is written on success and is the caller's. Before, `*bytes` must
 * be `RINGMAIN_BYTES_INIT` or what an earlier function left there, and not hold `json`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_json_to_msgpack(const char *json,
                                         size_t json_len,
                                         struct ringmain_bytes *bytes,
                                         struct ringmain_error **error);

/**
 * Converts MessagePack (one value) to JSON text, without a null byte. `*json` is written on success and is the caller's.
 * Before, `*json` must be `RINGMAIN_BYTES_INIT` or what an earlier function left there, and not hold `data`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_msgpack_to_json(const uint8_t *data,
                                         size_t len,
                                         struct ringmain_bytes *json,
                                         struct ringmain_error **error);

/**
 * Fills in what stands in an event. `info` points into the event, and is the caller's.
 *
 * Thread-safe: yes
 * Realtime-safe: yes, but for the error of a misuse
 */
ringmain_result ringmain_event_get(const struct ringmain_event *event,
                                   struct ringmain_event_info *info,
                                   struct ringmain_error **error);

/**
 * The payload as JSON text, converted at the first call and kept by the event: `*json` is valid as long as the event, is
 * not null-terminated, and is `null` where there is no payload.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_event_json(const struct ringmain_event *event,
                                    const char **json,
                                    size_t *json_len,
                                    struct ringmain_error **error);

/**
 * What went wrong, of a reply, a renderer that is gone, or an error; null otherwise. It is the event's: not to be freed.
 *
 * Thread-safe: yes
 * Realtime-safe: yes
 */
const struct ringmain_error *ringmain_event_error(const struct ringmain_event *event);

/**
 * Whether the caller of this call does not want the answer any more: its time was over, or it is gone.
 *
 * Thread-safe: yes
 * Realtime-safe: yes
 */
bool ringmain_event_is_cancelled(const struct ringmain_event *event);

/**
 * Answers a call or a synchronous message with a value in `format`; the first answer counts, later ones are ignored. From
 * any thread, also when the callback has returned (`ringmain_event_retain`). A caller that is gone does not mind. Never
 * waits. The event stays the caller's, and so does `data`.
 *
 * Fails with `RINGMAIN_INVALID_VALUE` or `RINGMAIN_TOO_LARGE`, and the caller still waits; with `RINGMAIN_FULL`, and the
 * caller gets `RINGMAIN_REPLY_FULL`; with `RINGMAIN_WRONG_EVENT`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_event_reply(const struct ringmain_event *event,
                                     uint32_t format,
                                     const uint8_t *data,
                                     size_t len,
                                     struct ringmain_error **error);

/**
 * Answers a call with a failure: the caller gets `RINGMAIN_HANDLER` with this text, and with name and code where they are
 * not null. The first answer counts. For calls only. Never waits. Event and texts stay the caller's.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_event_reply_error(const struct ringmain_event *event,
                                           const char *message,
                                           size_t message_len,
                                           const char *name,
                                           size_t name_len,
                                           const char *code,
                                           size_t code_len,
                                           struct ringmain_error **error);

/**
 * Sends a message to exactly the frame that sent this one, through main where that is another renderer's. A sender that
 * is gone does not mind. For messages, synchronous ones and those of guests. Never waits. Event and data stay the
 * caller's. Fails as `ringmain_renderer_send`, or with `RINGMAIN_WRONG_EVENT`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_event_send(const struct ringmain_event *event,
                                    const char *channel,
                                    size_t channel_len,
                                    uint32_t format,
                                    const uint8_t *data,
                                    size_t len,
                                    struct ringmain_error **error);

/**
 * Keeps an event beyond its callback: the returned pointer, the same one, is the caller's until `ringmain_event_free`.
 * Null for null.
 *
 * Thread-safe: yes
 * Realtime-safe: yes
 */
struct ringmain_event *ringmain_event_retain(const struct ringmain_event *event);

/**
 * Gives an event back that was pulled or retained; null is nothing.
 *
 * Thread-safe: yes, once for each event that was pulled or retained
 * Realtime-safe: no
 */
void ringmain_event_free(struct ringmain_event *event);

/**
 * Makes a main; `config` may be null. `*ipc_main` is the caller's until `ringmain_main_free`.
 *
 * Fails with `RINGMAIN_INVALID_CONFIG`, `RINGMAIN_WRONG_SIZE`, `RINGMAIN_SYSTEM`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_new(const struct ringmain_main_config *config,
                                  struct ringmain_main **ipc_main,
                                  struct ringmain_error **error);

/**
 * Closes every link, waiting at most a second for what was sent to leave, ends all threads of this main and frees it.
 * When it returns, no callback runs or will run, `destroy` of every registration has been called, and the callbacks of
 * calls that waited were given `RINGMAIN_DISCONNECTED`. Events that are still held stay valid. Null is nothing.
 *
 * Callbacks run before this returns, with manual dispatch inside of it: those of calls that waited, and those that watch
 * `RINGMAIN_WATCH_GONE`. They must not free this handle, which is being freed: that would be a double free.
 *
 * Inside of a callback of this main it takes effect when the callback returns, and so it does inside of a callback of
 * another handle that a callback of this main is freeing: two may free each other. The callbacks of calls that waited may
 * run after this has returned then, with their `user`, which must live until they have. No other thread may use the
 * handle any more.
 *
 * Thread-safe: no
 * Realtime-safe: no
 */
void ringmain_main_free(struct ringmain_main *ipc_main);

/**
 * Listens for unrelated processes, which connect under the same name.
 *
 * Fails with `RINGMAIN_NAME_IN_USE`, `RINGMAIN_INVALID_CONFIG`, `RINGMAIN_SYSTEM`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_listen(const struct ringmain_main *ipc_main,
                                     const char *name,
                                     size_t name_len,
                                     struct ringmain_error **error);

/**
 * Starts a program as a renderer, which connects by `ringmain_renderer_connect`. `argv` ends with a null pointer;
 * `argv[0]` is the program, looked for in PATH if it has no slash. It inherits environment and standard streams.
 * `*renderer` (may be null) is its number; what is sent to it before it has connected waits for it. It is reaped by the
 * library, which then stays loaded after `dlclose`.
 *
 * Fails with `RINGMAIN_SYSTEM`, `RINGMAIN_LIMIT`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_spawn(const struct ringmain_main *ipc_main,
                                    const char *const *argv,
                                    uint32_t *renderer,
                                    struct ringmain_error **error);

/**
 * Writes the numbers of all renderers, those included that have not connected yet, to `renderers`, as many as have room
 * there. Returns how many there are; 0 for null. `renderers` may be null if `capacity` is 0.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
size_t ringmain_main_renderers(const struct ringmain_main *ipc_main,
                               uint32_t *renderers,
                               size_t capacity);

/**
 * Fills in what is known about a renderer. Fails with `RINGMAIN_DISCONNECTED` if there is none of this number. `info` is
 * the caller's.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_renderer_info(const struct ringmain_main *ipc_main,
                                            uint32_t renderer,
                                            struct ringmain_renderer_info *info,
                                            struct ringmain_error **error);

/**
 * Says which renderer embeds another one, and so gets what that sends to its host; `host` 0: none does.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_set_host(const struct ringmain_main *ipc_main,
                                       uint32_t renderer,
                                       uint32_t host,
                                       struct ringmain_error **error);

/**
 * Closes the link to a renderer in order: waits up to `timeout_ns` for what was sent to leave (not where that would
 * dispatch), then tells it. Its process goes on.
 *
 * Fails with `RINGMAIN_TIMEOUT` if something is lost; `RINGMAIN_DISCONNECTED` if there is no such renderer.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_close(const struct ringmain_main *ipc_main,
                                    uint32_t renderer,
                                    uint64_t timeout_ns,
                                    struct ringmain_error **error);

/**
 * Kills a renderer's process with SIGKILL, exactly this one and no later one of the same number. Fails with
 * `RINGMAIN_INVALID_CONFIG` for a renderer in this process.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_kill(const struct ringmain_main *ipc_main,
                                   uint32_t renderer,
                                   struct ringmain_error **error);

/**
 * The counters of the link to a renderer. `stats` is the caller's.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_stats(const struct ringmain_main *ipc_main,
                                    uint32_t renderer,
                                    struct ringmain_stats *stats,
                                    struct ringmain_error **error);

/**
 * Calls `callback` with `user` for each message on `channel`; without a callback the messages are events to be pulled.
 * `flags`: `RINGMAIN_ONCE` or 0. `*id` (may be null) is the number for `ringmain_main_remove`. It is written before the
 * callback can run, and so before this has succeeded; if this fails, `*id` is 0, or as it was where it was not come to.
 *
 * `destroy` (may be null) is called with `user` once, when the registration is over: at its removal, or when the handle
 * is freed. If this function fails, `user` stays the caller's.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_on(const struct ringmain_main *ipc_main,
                                 const char *channel,
                                 size_t channel_len,
                                 uint32_t flags,
                                 ringmain_callback callback,
                                 void *user,
                                 ringmain_destroy destroy,
                                 uint64_t *id,
                                 struct ringmain_error **error);

/**
 * Answers calls on `channel`: `callback` is given each as an event, and answers it by `ringmain_event_reply` or
 * `ringmain_event_reply_error`, at once or, after `ringmain_event_retain`, later; one that returns without having done
 * either makes the call fail. Without a callback calls are events to be pulled. A channel has one handler at most. The
 * other arguments are those of `ringmain_main_on`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_handle(const struct ringmain_main *ipc_main,
                                     const char *channel,
                                     size_t channel_len,
                                     uint32_t flags,
                                     ringmain_callback callback,
                                     void *user,
                                     ringmain_destroy destroy,
                                     uint64_t *id,
                                     struct ringmain_error **error);

/**
 * Removes what `ringmain_main_on`, `_handle` or `_watch` has registered. A barrier: when this returns, the callback
 * does not run and will not, `destroy` has been called, and events of it that were not pulled yet are dropped. From
 * inside of the callback itself it returns at once, and `destroy` is called when the callback has returned.
 *
 * It waits for a callback that runs on another thread: the caller must hold nothing that this waits for. Two callbacks
 * that run on two threads must not remove each other's registrations: each would wait for the other, for ever.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_remove(const struct ringmain_main *ipc_main,
                                     uint64_t id,
                                     struct ringmain_error **error);

/**
 * Calls `callback` for what happens beside messages: `what` is made of `RINGMAIN_WATCH_CONNECTED`, `_GONE` and `_ERRORS`.
 * Without a callback that becomes events to be pulled. Errors that nobody watches go to stderr. The other arguments are
 * those of `ringmain_main_on`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_watch(const struct ringmain_main *ipc_main,
                                    uint32_t what,
                                    ringmain_callback callback,
                                    void *user,
                                    ringmain_destroy destroy,
                                    uint64_t *id,
                                    struct ringmain_error **error);

/**
 * Sends a message to a renderer; `frame` is one of its frames, 0 its main one. `data` is the argument list in `format`; no
 * data is no arguments. Never waits: what finds no room in the ring queues here. The data stays the caller's.
 *
 * Nothing was sent if it fails: `RINGMAIN_INVALID_VALUE`, `RINGMAIN_TOO_LARGE`, `RINGMAIN_FULL`, `RINGMAIN_DISCONNECTED`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_send(const struct ringmain_main *ipc_main,
                                   uint32_t renderer,
                                   uint32_t frame,
                                   const char *channel,
                                   size_t channel_len,
                                   uint32_t format,
                                   const uint8_t *data,
                                   size_t len,
                                   struct ringmain_error **error);

/**
 * Waits up to `timeout_ns` until all that was sent to a renderer is in the ring, where it finds it even if this process
 * ends. Fails with `RINGMAIN_TIMEOUT`, `RINGMAIN_DISCONNECTED`, `RINGMAIN_WOULD_DEADLOCK`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_flush(const struct ringmain_main *ipc_main,
                                    uint32_t renderer,
                                    uint64_t timeout_ns,
                                    struct ringmain_error **error);

/**
 * Calls the handler of `channel` in a renderer's frame (0: its main one), and waits for the answer up to `timeout_ns`,
 * which must end. `*reply` becomes the value in `format`, the caller's until `ringmain_bytes_free`. Before, `*reply` must
 * be `RINGMAIN_BYTES_INIT` or what an earlier function left there, and hold no part of the arguments of this call.
 *
 * Dispatches nothing meanwhile: if the answer needs a callback of this main, see `ringmain_main_invoke_polling`. Fails as
 * `ringmain_main_send`, with what the handler failed with, or with `RINGMAIN_TIMEOUT`, `RINGMAIN_WOULD_DEADLOCK`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_invoke(const struct ringmain_main *ipc_main,
                                     uint32_t renderer,
                                     uint32_t frame,
                                     const char *channel,
                                     size_t channel_len,
                                     uint32_t format,
                                     const uint8_t *data,
                                     size_t len,
                                     uint64_t timeout_ns,
                                     struct ringmain_bytes *reply,
                                     struct ringmain_error **error);

/**
 * As `ringmain_main_invoke`, on the thread that dispatches, also inside of a callback: runs what arrives from this
 * renderer meanwhile, so that its handler may call back handlers and listeners that have a callback here. What is pulled
 * is queued meanwhile, and nobody pulls it: a handler that waits for an answer of that kind gets none before this one's
 * time is over. Nested at most eight deep, then `RINGMAIN_LIMIT`. Fails as `_invoke` otherwise. `*reply` is in and out,
 * as there.
 *
 * Thread-safe: yes, but one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_main_invoke_polling(const struct ringmain_main *ipc_main,
                                             uint32_t renderer,
                                             uint32_t frame,
                                             const char *channel,
                                             size_t channel_len,
                                             uint32_t format,
                                             const uint8_t *data,
                                             size_t len,
                                             uint64_t timeout_ns,
                                             struct ringmain_bytes *reply,
                                             struct ringmain_error **error);

/**
 * As `ringmain_main_invoke`, but returns at once. The answer, or the failure, is given to `callback` as a
 * `RINGMAIN_EVENT_REPLY`, exactly once, at the latest when the main is freed; without a callback it is an event to be
 * pulled. `*call` (may be null) is the number by which the event names it. If this function fails, the callback is not
 * called.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_invoke_async(const struct ringmain_main *ipc_main,
                                           uint32_t renderer,
                                           uint32_t frame,
                                           const char *channel,
                                           size_t channel_len,
                                           uint32_t format,
                                           const uint8_t *data,
                                           size_t len,
                                           uint64_t timeout_ns,
                                           ringmain_callback callback,
                                           void *user,
                                           uint64_t *call,
                                           struct ringmain_error **error);

/**
 * Runs callbacks, and makes events to be pulled, of what has arrived: at most `max_messages` within `max_time_ns`, of
 * which one callback may overrun. `*ran` is how many ran, `*more` whether more waits; both may be null. Never waits. For a
 * game: once a frame, with a budget.
 *
 * **0 means no limit, for both.** What is left of a budget that is spent must therefore be passed as 1 at least.
 *
 * Fails with `RINGMAIN_BUSY` inside of a callback and while another thread dispatches this handle; with
 * `RINGMAIN_INVALID_CONFIG` where a thread of the library dispatches.
 *
 * Thread-safe: yes, but one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_main_poll(const struct ringmain_main *ipc_main,
                                   size_t max_messages,
                                   uint64_t max_time_ns,
                                   size_t *ran,
                                   bool *more,
                                   struct ringmain_error **error);

/**
 * Pulls the next event: `*event` is the caller's until `ringmain_event_free`, or null if there is none now. Dispatches as
 * `ringmain_main_poll` does, one message at a time, so callbacks of other registrations run meanwhile. Never waits: see
 * `ringmain_main_wait` and `ringmain_main_fd`, and call it until it has none left.
 *
 * Events wait in a queue that has no bound. This function takes a message only when that queue is empty, so it stays
 * short; `ringmain_main_poll` fills it with all that has arrived. Whoever pulls should not call that besides.
 *
 * Fails as `ringmain_main_poll`.
 *
 * Thread-safe: yes, but one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_main_next_event(const struct ringmain_main *ipc_main,
                                         struct ringmain_event **event,
                                         struct ringmain_error **error);

/**
 * Waits until `ringmain_main_poll` or `ringmain_main_next_event` would find something; `RINGMAIN_TIMEOUT` if that takes
 * longer than `timeout_ns` (or `RINGMAIN_FOREVER`). Fails as `ringmain_main_poll`.
 *
 * Thread-safe: yes, but one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_main_wait(const struct ringmain_main *ipc_main,
                                   uint64_t timeout_ns,
                                   struct ringmain_error **error);

/**
 * One descriptor for everything: readable as long as `ringmain_main_poll` would find something, for `poll(2)`, `epoll` and
 * every event loop. Made at the first call; it stays the library's: not to be read, written or closed. Whoever pulls calls
 * `ringmain_main_next_event` until there is none left, then sleeps on it.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_fd(const struct ringmain_main *ipc_main,
                                 int *fd,
                                 struct ringmain_error **error);

/**
 * In how many nanoseconds the next timeout has to be looked at by `ringmain_main_poll`, for those who do not sleep on the
 * descriptor; `RINGMAIN_FOREVER` if there is none, or for null.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
uint64_t ringmain_main_next_deadline(const struct ringmain_main *ipc_main);

/**
 * Connects to the main that started this process; once per process. `config` may be null. `*renderer` is the caller's
 * until `ringmain_renderer_free`.
 *
 * With manual dispatch nothing is missed that main sends before `ringmain_renderer_on` and its kin were called: it waits
 * for the first poll.
 *
 * Fails with `RINGMAIN_NOT_A_RENDERER`, `RINGMAIN_ALREADY_CONNECTED`, `RINGMAIN_REFUSED`, `RINGMAIN_DISCONNECTED`,
 * `RINGMAIN_TIMEOUT`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_connect(const struct ringmain_renderer_config *config,
                                          struct ringmain_renderer **renderer,
                                          struct ringmain_error **error);

/**
 * As `ringmain_renderer_connect`, to a main that listens under `name`. Fails with `RINGMAIN_NOT_LISTENING` too.
 * `*renderer` is the caller's until `ringmain_renderer_free`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_connect_to(const struct ringmain_renderer_config *config,
                                             const char *name,
                                             size_t name_len,
                                             struct ringmain_renderer **renderer,
                                             struct ringmain_error **error);

/**
 * A renderer in the process of `ipc_main`. `*renderer` is the caller's until `ringmain_renderer_free`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_attach(const struct ringmain_renderer_config *config,
                                         const struct ringmain_main *ipc_main,
                                         struct ringmain_renderer **renderer,
                                         struct ringmain_error **error);

/**
 * Opens a further frame inside this one, with listeners and handlers of its own. It is dispatched with its renderer, and
 * its events are pulled there. `*frame` is the caller's until `ringmain_renderer_free`, which closes it; it ends with its
 * renderer.
 *
 * Fails with `RINGMAIN_LIMIT`, `RINGMAIN_FULL`, `RINGMAIN_DISCONNECTED`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_frame(const struct ringmain_renderer *renderer,
                                        struct ringmain_renderer **frame,
                                        struct ringmain_error **error);

/**
 * Closes the link, waiting at most a second for what was sent to leave, ends the threads of this renderer and frees it.
 * When it returns, no callback runs or will run, `destroy` of every registration has been called, and the callbacks of
 * calls that waited were given `RINGMAIN_DISCONNECTED`. Events that are still held stay valid. Null is nothing.
 *
 * Callbacks run before this returns, with manual dispatch inside of it: those of calls that waited, and those that watch
 * `RINGMAIN_WATCH_GONE`. They must not free this handle, which is being freed: that would be a double free.
 *
 * Of a further frame it closes the frame alone, and ends what is registered there.
 *
 * Inside of a callback of this renderer it takes effect when the callback returns, and so it does inside of a callback of
 * another handle that a callback of this renderer is freeing: two may free each other. The callbacks of calls that waited
 * may run after this has returned then, with their `user`, which must live until they have. No other thread may use the
 * handle any more.
 *
 * Thread-safe: no
 * Realtime-safe: no
 */
void ringmain_renderer_free(struct ringmain_renderer *renderer);

/**
 * The number under which main knows this renderer; 0 for null.
 *
 * Thread-safe: yes
 * Realtime-safe: yes
 */
uint32_t ringmain_renderer_id(const struct ringmain_renderer *renderer);

/**
 * The number of this handle's frame; 1 is the main frame, 0 is for null.
 *
 * Thread-safe: yes
 * Realtime-safe: yes
 */
uint32_t ringmain_renderer_frame_id(const struct ringmain_renderer *renderer);

/**
 * Whether the link works and the frame is open; false for null.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
bool ringmain_renderer_is_connected(const struct ringmain_renderer *renderer);

/**
 * Closes the link in order: waits up to `timeout_ns` for what was sent to leave, then tells main. Of a further frame:
 * closes the frame, at once. The handle is to be freed all the same.
 *
 * Fails with `RINGMAIN_TIMEOUT` if something is lost.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_close(const struct ringmain_renderer *renderer,
                                        uint64_t timeout_ns,
                                        struct ringmain_error **error);

/**
 * The counters of the link. `stats` is the caller's.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_stats(const struct ringmain_renderer *renderer,
                                        struct ringmain_stats *stats,
                                        struct ringmain_error **error);

/**
 * Calls `callback` with `user` for each message on `channel`; without a callback the messages are events to be pulled.
 * `flags`: `RINGMAIN_ONCE` or 0. `*id` (may be null) is the number for `ringmain_renderer_remove`. It is written before the
 * callback can run, and so before this has succeeded; if this fails, `*id` is 0, or as it was where it was not come to.
 *
 * `destroy` (may be null) is called with `user` once, when the registration is over: at its removal, or when the handle
 * is freed. If this function fails, `user` stays the caller's.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_on(const struct ringmain_renderer *renderer,
                                     const char *channel,
                                     size_t channel_len,
                                     uint32_t flags,
                                     ringmain_callback callback,
                                     void *user,
                                     ringmain_destroy destroy,
                                     uint64_t *id,
                                     struct ringmain_error **error);

/**
 * Answers calls on `channel`: `callback` is given each as an event, and answers it by `ringmain_event_reply` or
 * `ringmain_event_reply_error`, at once or, after `ringmain_event_retain`, later; one that returns without having done
 * either makes the call fail. Without a callback calls are events to be pulled. A channel has one handler at most. The
 * other arguments are those of `ringmain_renderer_on`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_handle(const struct ringmain_renderer *renderer,
                                         const char *channel,
                                         size_t channel_len,
                                         uint32_t flags,
                                         ringmain_callback callback,
                                         void *user,
                                         ringmain_destroy destroy,
                                         uint64_t *id,
                                         struct ringmain_error **error);

/**
 * Removes what `ringmain_renderer_on`, `_handle` or `_watch` has registered. A barrier: when this returns, the callback
 * does not run and will not, `destroy` has been called, and events of it that were not pulled yet are dropped. From
 * inside of the callback itself it returns at once, and `destroy` is called when the callback has returned.
 *
 * It waits for a callback that runs on another thread: the caller must hold nothing that this waits for. Two callbacks
 * that run on two threads must not remove each other's registrations: each would wait for the other, for ever.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_remove(const struct ringmain_renderer *renderer,
                                         uint64_t id,
                                         struct ringmain_error **error);

/**
 * Calls `callback` for what happens beside messages: `what` is made of `RINGMAIN_WATCH_GONE` (main is gone),
 * `RINGMAIN_WATCH_ERRORS` and `RINGMAIN_WATCH_GUESTS`. Without a callback that becomes events to be pulled. Errors that
 * nobody watches go to stderr. The other arguments are those of `ringmain_renderer_on`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_watch(const struct ringmain_renderer *renderer,
                                        uint32_t what,
                                        ringmain_callback callback,
                                        void *user,
                                        ringmain_destroy destroy,
                                        uint64_t *id,
                                        struct ringmain_error **error);

/**
 * Sends a message to main. `data` is the argument list in `format`; no data is no arguments. Never waits: what finds no
 * room in the ring queues here. The data stays the caller's.
 *
 * Nothing was sent if it fails: `RINGMAIN_INVALID_VALUE`, `RINGMAIN_TOO_LARGE`, `RINGMAIN_FULL`, `RINGMAIN_DISCONNECTED`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_send(const struct ringmain_renderer *renderer,
                                       const char *channel,
                                       size_t channel_len,
                                       uint32_t format,
                                       const uint8_t *data,
                                       size_t len,
                                       struct ringmain_error **error);

/**
 * As `ringmain_renderer_send`, to a frame (0: the main one) of another renderer, through main. A target that is not there
 * is no error here: main is told. The data stays the caller's.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_send_to(const struct ringmain_renderer *renderer,
                                          uint32_t to_renderer,
                                          uint32_t to_frame,
                                          const char *channel,
                                          size_t channel_len,
                                          uint32_t format,
                                          const uint8_t *data,
                                          size_t len,
                                          struct ringmain_error **error);

/**
 * As `ringmain_renderer_send`, to the renderer that embeds this one (`ringmain_main_set_host`), through main. Without a
 * host it is no error here: main is told. The data stays the caller's.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_send_to_host(const struct ringmain_renderer *renderer,
                                               const char *channel,
                                               size_t channel_len,
                                               uint32_t format,
                                               const uint8_t *data,
                                               size_t len,
                                               struct ringmain_error **error);

/**
 * Waits up to `timeout_ns` until all that was sent is in the ring, where main finds it even if this process ends. Fails
 * with `RINGMAIN_TIMEOUT`, `RINGMAIN_DISCONNECTED`, `RINGMAIN_WOULD_DEADLOCK`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_flush(const struct ringmain_renderer *renderer,
                                        uint64_t timeout_ns,
                                        struct ringmain_error **error);

/**
 * Sends a message and waits, up to `timeout_ns` or for `RINGMAIN_FOREVER`, until a listener in main answers it. `*reply`
 * becomes the value in `format`, the caller's until `ringmain_bytes_free`. Before, `*reply` must be `RINGMAIN_BYTES_INIT`
 * or what an earlier function left there, and hold no part of the arguments of this call.
 *
 * Fails as `ringmain_renderer_invoke`, and with `RINGMAIN_NO_LISTENER`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_send_sync(const struct ringmain_renderer *renderer,
                                            const char *channel,
                                            size_t channel_len,
                                            uint32_t format,
                                            const uint8_t *data,
                                            size_t len,
                                            uint64_t timeout_ns,
                                            struct ringmain_bytes *reply,
                                            struct ringmain_error **error);

/**
 * Calls the handler of `channel` in main and waits for the answer, up to `timeout_ns` or for `RINGMAIN_FOREVER`. `*reply`
 * becomes the value in `format`, the caller's until `ringmain_bytes_free`. Before, `*reply` must be `RINGMAIN_BYTES_INIT`
 * or what an earlier function left there, and hold no part of the arguments of this call. The calling thread reads the
 * ring itself; nothing is dispatched meanwhile.
 *
 * Fails as `ringmain_renderer_send`, with what the handler failed with, or with `RINGMAIN_TIMEOUT`,
 * `RINGMAIN_WOULD_DEADLOCK`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_invoke(const struct ringmain_renderer *renderer,
                                         const char *channel,
                                         size_t channel_len,
                                         uint32_t format,
                                         const uint8_t *data,
                                         size_t len,
                                         uint64_t timeout_ns,
                                         struct ringmain_bytes *reply,
                                         struct ringmain_error **error);

/**
 * As `ringmain_renderer_invoke`, on the thread that dispatches, also inside of a callback: runs what arrives from main
 * meanwhile, so that its handler may call back handlers and listeners that have a callback here. What is pulled is queued
 * meanwhile, and nobody pulls it: a handler that waits for an answer of that kind gets none before this one's time is
 * over. Nested at most eight deep, then `RINGMAIN_LIMIT`. Fails as `_invoke` otherwise. `*reply` is in and out, as there.
 *
 * Thread-safe: yes, but one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_invoke_polling(const struct ringmain_renderer *renderer,
                                                 const char *channel,
                                                 size_t channel_len,
                                                 uint32_t format,
                                                 const uint8_t *data,
                                                 size_t len,
                                                 uint64_t timeout_ns,
                                                 struct ringmain_bytes *reply,
                                                 struct ringmain_error **error);

/**
 * As `ringmain_renderer_invoke`, but returns at once. The answer, or the failure, is given to `callback` as a
 * `RINGMAIN_EVENT_REPLY`, exactly once, at the latest when the renderer is freed; without a callback it is an event to be
 * pulled. `*call` (may be null) is the number by which the event names it. If this function fails, the callback is not
 * called.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_invoke_async(const struct ringmain_renderer *renderer,
                                               const char *channel,
                                               size_t channel_len,
                                               uint32_t format,
                                               const uint8_t *data,
                                               size_t len,
                                               uint64_t timeout_ns,
                                               ringmain_callback callback,
                                               void *user,
                                               uint64_t *call,
                                               struct ringmain_error **error);

/**
 * Runs callbacks, and makes events to be pulled, of what has arrived: at most `max_messages` within `max_time_ns`, of
 * which one callback may overrun. `*ran` is how many ran, `*more` whether more waits; both may be null. Never waits. For a
 * game: once a frame, with a budget.
 *
 * **0 means no limit, for both.** What is left of a budget that is spent must therefore be passed as 1 at least.
 *
 * Fails with `RINGMAIN_BUSY` inside of a callback and while another thread dispatches this handle; with
 * `RINGMAIN_INVALID_CONFIG` where a thread of the library dispatches.
 *
 * Thread-safe: yes, but one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_poll(const struct ringmain_renderer *renderer,
                                       size_t max_messages,
                                       uint64_t max_time_ns,
                                       size_t *ran,
                                       bool *more,
                                       struct ringmain_error **error);

/**
 * Pulls the next event: `*event` is the caller's until `ringmain_event_free`, or null if there is none now. Dispatches as
 * `ringmain_renderer_poll` does, one message at a time, so callbacks of other registrations run meanwhile. Never waits: see
 * `ringmain_renderer_wait` and `ringmain_renderer_fd`, and call it until it has none left.
 *
 * Events wait in a queue that has no bound. This function takes a message only when that queue is empty, so it stays
 * short; `ringmain_renderer_poll` fills it with all that has arrived. Whoever pulls should not call that besides.
 *
 * Fails as `ringmain_renderer_poll`.
 *
 * Thread-safe: yes, but one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_next_event(const struct ringmain_renderer *renderer,
                                             struct ringmain_event **event,
                                             struct ringmain_error **error);

/**
 * Waits until `ringmain_renderer_poll` or `ringmain_renderer_next_event` would find something; `RINGMAIN_TIMEOUT` if that takes
 * longer than `timeout_ns` (or `RINGMAIN_FOREVER`). Fails as `ringmain_renderer_poll`.
 *
 * Thread-safe: yes, but one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_wait(const struct ringmain_renderer *renderer,
                                       uint64_t timeout_ns,
                                       struct ringmain_error **error);

/**
 * One descriptor for everything: readable as long as `ringmain_renderer_poll` would find something, for `poll(2)`, `epoll` and
 * every event loop. Made at the first call; it stays the library's: not to be read, written or closed. Whoever pulls calls
 * `ringmain_renderer_next_event` until there is none left, then sleeps on it.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_fd(const struct ringmain_renderer *renderer,
                                     int *fd,
                                     struct ringmain_error **error);

/**
 * In how many nanoseconds the next timeout has to be looked at by `ringmain_renderer_poll`, for those who do not sleep on the
 * descriptor; `RINGMAIN_FOREVER` if there is none, or for null.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
uint64_t ringmain_renderer_next_deadline(const struct ringmain_renderer *renderer);

/**
 * Opens main's end of a lane to a renderer, which opens the other end (`ringmain_renderer_lane_receiver`) under the same name,
 * now or later: makes the lane's memory and hands it over; does not wait. A lane is memory of its own, apart from the
 * messages: nothing that a callback does or that a large message takes touches it. `config` may be null. `*sender` is the
 * caller's until `ringmain_lane_sender_free`.
 *
 * Fails with `RINGMAIN_INVALID_CONFIG` for sizes that cannot be; `RINGMAIN_NAME_IN_USE` while an end of this name lives;
 * `RINGMAIN_WRONG_SIZE`, `RINGMAIN_SYSTEM`, `RINGMAIN_DISCONNECTED`; `RINGMAIN_FULL` if the renderer has left too many lanes
 * where they are.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_lane_sender(const struct ringmain_main *ipc_main,
                                          uint32_t renderer,
                                          const char *name,
                                          size_t name_len,
                                          const struct ringmain_lane_config *config,
                                          struct ringmain_lane_sender **sender,
                                          struct ringmain_error **error);

/**
 * As `ringmain_main_lane_sender`: a receiver. The renderer opens the other end by `ringmain_renderer_lane_sender`.
 * `*receiver` is the caller's until `ringmain_lane_receiver_free`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_lane_receiver(const struct ringmain_main *ipc_main,
                                            uint32_t renderer,
                                            const char *name,
                                            size_t name_len,
                                            const struct ringmain_lane_config *config,
                                            struct ringmain_lane_receiver **receiver,
                                            struct ringmain_error **error);

/**
 * As `ringmain_main_lane_sender`: both ways. The renderer opens the other end by `ringmain_renderer_lane_duplex`.
 * `*duplex` is the caller's until `ringmain_lane_duplex_free`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_lane_duplex(const struct ringmain_main *ipc_main,
                                          uint32_t renderer,
                                          const char *name,
                                          size_t name_len,
                                          const struct ringmain_lane_config *config,
                                          struct ringmain_lane_duplex **duplex,
                                          struct ringmain_error **error);

/**
 * As `ringmain_main_lane_sender`: a writer of latest values. The renderer opens the other end by `ringmain_renderer_latest_reader`.
 * `*writer` is the caller's until `ringmain_latest_writer_free`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_latest_writer(const struct ringmain_main *ipc_main,
                                            uint32_t renderer,
                                            const char *name,
                                            size_t name_len,
                                            const struct ringmain_lane_config *config,
                                            struct ringmain_latest_writer **writer,
                                            struct ringmain_error **error);

/**
 * As `ringmain_main_lane_sender`: a reader of latest values. The renderer opens the other end by `ringmain_renderer_latest_writer`.
 * `*reader` is the caller's until `ringmain_latest_reader_free`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_main_latest_reader(const struct ringmain_main *ipc_main,
                                            uint32_t renderer,
                                            const char *name,
                                            size_t name_len,
                                            const struct ringmain_lane_config *config,
                                            struct ringmain_latest_reader **reader,
                                            struct ringmain_error **error);

/**
 * Opens this renderer's end of a lane that main opens (`ringmain_main_lane_receiver`) under the same name. Waits for main's end
 * up to `open_timeout_ns` of `config`, which may be null. `*sender` is the caller's until `ringmain_lane_sender_free`.
 *
 * Fails with `RINGMAIN_TIMEOUT` if main opens none; `RINGMAIN_INVALID_CONFIG` if main's end does not fit this one, and then can
 * still be opened as what it is; `RINGMAIN_NAME_IN_USE` while an end of this name lives here; `RINGMAIN_WRONG_SIZE`,
 * `RINGMAIN_SYSTEM`, `RINGMAIN_DISCONNECTED`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_lane_sender(const struct ringmain_renderer *renderer,
                                              const char *name,
                                              size_t name_len,
                                              const struct ringmain_lane_config *config,
                                              struct ringmain_lane_sender **sender,
                                              struct ringmain_error **error);

/**
 * As `ringmain_renderer_lane_sender`: a receiver. `*receiver` is the caller's until `ringmain_lane_receiver_free`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_lane_receiver(const struct ringmain_renderer *renderer,
                                                const char *name,
                                                size_t name_len,
                                                const struct ringmain_lane_config *config,
                                                struct ringmain_lane_receiver **receiver,
                                                struct ringmain_error **error);

/**
 * As `ringmain_renderer_lane_sender`: both ways. `*duplex` is the caller's until `ringmain_lane_duplex_free`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_lane_duplex(const struct ringmain_renderer *renderer,
                                              const char *name,
                                              size_t name_len,
                                              const struct ringmain_lane_config *config,
                                              struct ringmain_lane_duplex **duplex,
                                              struct ringmain_error **error);

/**
 * As `ringmain_renderer_lane_sender`: a writer of latest values. `*writer` is the caller's until `ringmain_latest_writer_free`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_latest_writer(const struct ringmain_renderer *renderer,
                                                const char *name,
                                                size_t name_len,
                                                const struct ringmain_lane_config *config,
                                                struct ringmain_latest_writer **writer,
                                                struct ringmain_error **error);

/**
 * As `ringmain_renderer_lane_sender`: a reader of latest values. `*reader` is the caller's until `ringmain_latest_reader_free`.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_renderer_latest_reader(const struct ringmain_renderer *renderer,
                                                const char *name,
                                                size_t name_len,
                                                const struct ringmain_lane_config *config,
                                                struct ringmain_latest_reader **reader,
                                                struct ringmain_error **error);

/**
 * Sends a record: copies it and stores a word; the receiver is woken as `wake` of `ringmain_lane_config` says. Never waits.
 *
 * Fails with `RINGMAIN_FULL`: it was dropped, which is counted, and its number is missing at the receiver (who wants to try
 * again asks `ringmain_lane_sender_room` before); with `RINGMAIN_WRONG_SIZE` if the lane's records have another size,
 * `RINGMAIN_TOO_LARGE`, `RINGMAIN_DISCONNECTED`, `RINGMAIN_PROTOCOL`; with `RINGMAIN_WRONG_STATE` while a loan or a batch is
 * open.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes, but for the wake that the lane is opened with
 */
ringmain_result ringmain_lane_sender_send(struct ringmain_lane_sender *sender,
                                          const void *data,
                                          size_t len);

/**
 * Adds a record to those that `ringmain_lane_sender_publish` sends all at once, such as the events of a block. The first one
 * begins the batch. Fails as `ringmain_lane_sender_send`; what was added before is not affected.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_sender_push(struct ringmain_lane_sender *sender,
                                          const void *data,
                                          size_t len);

/**
 * Sends the records that were added since the last time: the receiver finds all or none. Without any it does nothing, and
 * succeeds.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes, but for the wake that the lane is opened with
 */
ringmain_result ringmain_lane_sender_publish(struct ringmain_lane_sender *sender);

/**
 * Lends the place of the next record, to be filled where it lies: `*data`, aligned as configured, has room for `*size` bytes
 * (`size` may be null) and holds whatever was there before. It is the caller's to write until `ringmain_lane_sender_commit` or
 * `_cancel`; nothing is sent before. The peer may change the bytes at any time: they are to be written, and not believed if
 * they are read.
 *
 * Fails as `ringmain_lane_sender_send`, but nothing is dropped or counted.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_sender_loan(struct ringmain_lane_sender *sender,
                                          void **data,
                                          size_t *size);

/**
 * Sends the first `len` bytes of the loan as a record, which ends the loan.
 *
 * Fails with `RINGMAIN_WRONG_STATE` if there is none, such as after it was committed; with `RINGMAIN_WRONG_SIZE` or
 * `RINGMAIN_TOO_LARGE` for a length that cannot be: then the loan stays. Otherwise as `ringmain_lane_sender_send`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes, but for the wake that the lane is opened with
 */
ringmain_result ringmain_lane_sender_commit(struct ringmain_lane_sender *sender, size_t len);

/**
 * Gives a loan back, or takes back the records that were added and not published: nothing of them is sent. Without either it
 * does nothing.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
void ringmain_lane_sender_cancel(struct ringmain_lane_sender *sender);

/**
 * Records that have room now; 0 if the lane is closed, or for null.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
size_t ringmain_lane_sender_room(struct ringmain_lane_sender *sender);

/**
 * The longest record that the lane takes, in bytes, as main has said; 0 for null.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
size_t ringmain_lane_sender_max_record(const struct ringmain_lane_sender *sender);

/**
 * Makes all of the lane's memory present in this process and touches what the real-time safe functions use, so that none of
 * them is the first. To be called once, before. Null is nothing.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
void ringmain_lane_sender_prepare(struct ringmain_lane_sender *sender);

/**
 * Whether the other end is there and the link has not ended, as far as can be seen from here; false for null.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
bool ringmain_lane_sender_is_open(const struct ringmain_lane_sender *sender);

/**
 * The counters of this end. `is_open` is what `ringmain_lane_sender_is_open` says. `stats` is the caller's.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_sender_stats(const struct ringmain_lane_sender *sender,
                                           struct ringmain_lane_stats *stats);

/**
 * Counters that can be read on another thread meanwhile. `*counters` is the caller's until `ringmain_lane_counters_free`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_lane_sender_counters(const struct ringmain_lane_sender *sender,
                                              struct ringmain_lane_counters **counters,
                                              struct ringmain_error **error);

/**
 * Closes the lane, of which the receiver still gets what was sent before, and frees this end; a loan is over then. Null is
 * nothing. It may outlive the handle that it was opened on.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
void ringmain_lane_sender_free(struct ringmain_lane_sender *sender);

/**
 * Takes the next record and copies it to `buffer`, which has `size` bytes; bytes behind the record stay as they are.
 * `*received` (may be null) is what is known of it. Never waits.
 *
 * Fails with `RINGMAIN_EMPTY` if there is none now; `RINGMAIN_DISCONNECTED` once all that was sent has been received;
 * `RINGMAIN_TOO_LARGE` if the buffer is too short for the record, which stays; `RINGMAIN_PROTOCOL`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_receiver_try_recv(struct ringmain_lane_receiver *receiver,
                                                void *buffer,
                                                size_t size,
                                                struct ringmain_received *received);

/**
 * As `ringmain_lane_receiver_try_recv`, but waits for a record until `deadline_ns`, which is a time of `ringmain_now()`
 * (`CLOCK_MONOTONIC`, absolute) or `RINGMAIN_FOREVER`: looks for as long as `spin_ns` of `ringmain_lane_config` says, then
 * sleeps. A deadline that is over, such as 0, means one look. Fails with `RINGMAIN_TIMEOUT` instead of `RINGMAIN_EMPTY`. The end
 * of the link ends the wait at once.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no: it reads the clock, and to sleep is a system call
 */
ringmain_result ringmain_lane_receiver_recv_until(struct ringmain_lane_receiver *receiver,
                                                  void *buffer,
                                                  size_t size,
                                                  uint64_t deadline_ns,
                                                  struct ringmain_received *received);

/**
 * Looks at the next record and leaves it where it is: `*data`, aligned as configured, has `*len` bytes. They are the
 * lane's, not the caller's, and stay until the record is released (`ringmain_lane_receiver_release`) or received. Never waits.
 *
 * **The sender may change the bytes at any time**: for peers that trust each other, and for code that reads each of them once.
 * Who has to check before using copies them out, by `ringmain_lane_receiver_try_recv`.
 *
 * Fails as `ringmain_lane_receiver_try_recv`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_receiver_peek(struct ringmain_lane_receiver *receiver,
                                            const void **data,
                                            size_t *len);

/**
 * Takes the record that was looked at out of the lane. `*received` (may be null) is what is known of it.
 *
 * Fails with `RINGMAIN_WRONG_STATE` if none was looked at, such as when it was released already. Otherwise as
 * `ringmain_lane_receiver_peek`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_receiver_release(struct ringmain_lane_receiver *receiver,
                                               struct ringmain_received *received);

/**
 * The longest record that may come, in bytes, as main has said: room enough for any. 0 for null.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
size_t ringmain_lane_receiver_max_record(const struct ringmain_lane_receiver *receiver);

/**
 * As `ringmain_lane_sender_prepare`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
void ringmain_lane_receiver_prepare(struct ringmain_lane_receiver *receiver);

/**
 * As `ringmain_lane_sender_is_open`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
bool ringmain_lane_receiver_is_open(const struct ringmain_lane_receiver *receiver);

/**
 * As `ringmain_lane_sender_stats`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_receiver_stats(const struct ringmain_lane_receiver *receiver,
                                             struct ringmain_lane_stats *stats);

/**
 * As `ringmain_lane_sender_counters`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_lane_receiver_counters(const struct ringmain_lane_receiver *receiver,
                                                struct ringmain_lane_counters **counters,
                                                struct ringmain_error **error);

/**
 * Closes the lane, which the sender's next attempt says, and frees this end; what `ringmain_lane_receiver_peek` has shown is gone.
 * Null is nothing. It may outlive the handle that it was opened on.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
void ringmain_lane_receiver_free(struct ringmain_lane_receiver *receiver);

/**
 * Sends a request and waits for its answer until `deadline_ns`: `ringmain_lane_duplex_send_request`, then
 * `ringmain_lane_duplex_recv_response_until`. Fails as they do. After `RINGMAIN_TIMEOUT` the answer that still comes is known by
 * its number, thrown away and counted (`late`).
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no: it reads the clock, and to sleep is a system call
 */
ringmain_result ringmain_lane_duplex_exchange(struct ringmain_lane_duplex *duplex,
                                              const void *request,
                                              size_t request_len,
                                              void *response,
                                              size_t response_size,
                                              uint64_t deadline_ns,
                                              struct ringmain_received *received);

/**
 * Sends a request, whose answer alone is taken from now on; up to two earlier answers that are there are thrown away then, so that
 * they take no room from it. Fails as `ringmain_lane_sender_send`; with `RINGMAIN_FULL` if the other side has not taken the ones
 * before.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes, but for the wake that the lane is opened with
 */
ringmain_result ringmain_lane_duplex_send_request(struct ringmain_lane_duplex *duplex,
                                                  const void *data,
                                                  size_t len);

/**
 * Lends the place of the next request, to be filled where it lies; as `ringmain_lane_sender_loan`. It is the caller's to write
 * until `ringmain_lane_duplex_commit`, after which its answer alone is taken, or `_cancel`, after
 * which that of the one before still is. Up to two answers to still earlier requests that are there are thrown away, now and when
 * it is committed. Nothing can be received while a loan is open.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_duplex_loan_request(struct ringmain_lane_duplex *duplex,
                                                  void **data,
                                                  size_t *size);

/**
 * Lends the place of the answer to the last request received, to be filled where it lies; as `ringmain_lane_sender_loan`. It is the
 * caller's to write until `ringmain_lane_duplex_commit` or `_cancel`. Nothing can be received while a loan is open.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_duplex_loan_response(struct ringmain_lane_duplex *duplex,
                                                   void **data,
                                                   size_t *size);

/**
 * Sends the first `len` bytes of the loan as the request or the response that it was lent for. Fails as
 * `ringmain_lane_sender_commit`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes, but for the wake that the lane is opened with
 */
ringmain_result ringmain_lane_duplex_commit(struct ringmain_lane_duplex *duplex, size_t len);

/**
 * Gives a loan back: nothing of it is sent. Without one it does nothing.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
void ringmain_lane_duplex_cancel(struct ringmain_lane_duplex *duplex);

/**
 * Takes the answer to the last request if it is there, and throws earlier ones away. Never waits. Fails as
 * `ringmain_lane_receiver_try_recv`; with `RINGMAIN_WRONG_STATE` while a loan is open.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_duplex_try_recv_response(struct ringmain_lane_duplex *duplex,
                                                       void *buffer,
                                                       size_t size,
                                                       struct ringmain_received *received);

/**
 * Waits for the answer to the last request, as `ringmain_lane_receiver_recv_until` does, and throws earlier ones away. Fails with
 * `RINGMAIN_WRONG_STATE` while a loan is open.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no: it reads the clock, and to sleep is a system call
 */
ringmain_result ringmain_lane_duplex_recv_response_until(struct ringmain_lane_duplex *duplex,
                                                         void *buffer,
                                                         size_t size,
                                                         uint64_t deadline_ns,
                                                         struct ringmain_received *received);

/**
 * Takes the next request if it is there. Never waits. Fails as `ringmain_lane_receiver_try_recv`; with `RINGMAIN_WRONG_STATE` while
 * a loan is open.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_duplex_try_recv_request(struct ringmain_lane_duplex *duplex,
                                                      void *buffer,
                                                      size_t size,
                                                      struct ringmain_received *received);

/**
 * Waits for a request, as `ringmain_lane_receiver_recv_until` does. Fails with `RINGMAIN_WRONG_STATE` while a loan is open.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no: it reads the clock, and to sleep is a system call
 */
ringmain_result ringmain_lane_duplex_recv_request_until(struct ringmain_lane_duplex *duplex,
                                                        void *buffer,
                                                        size_t size,
                                                        uint64_t deadline_ns,
                                                        struct ringmain_received *received);

/**
 * As `ringmain_lane_duplex_recv_request_until`, then goes on to the newest request that is there; those before it are counted as
 * `late`. For a peer that was stopped or slow: whoever asked for the older ones does not wait for them any more.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no: it reads the clock, and to sleep is a system call
 */
ringmain_result ringmain_lane_duplex_recv_newest_request_until(struct ringmain_lane_duplex *duplex,
                                                               void *buffer,
                                                               size_t size,
                                                               uint64_t deadline_ns,
                                                               struct ringmain_received *received);

/**
 * Answers the last request received. Fails as `ringmain_lane_sender_send`; with `RINGMAIN_FULL` if the other side has left
 * earlier answers where they are.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes, but for the wake that the lane is opened with
 */
ringmain_result ringmain_lane_duplex_send_response(struct ringmain_lane_duplex *duplex,
                                                   const void *data,
                                                   size_t len);

/**
 * Makes a stream each way of it: `*sender` and `*receiver` are the caller's, each for a thread of its own, until
 * `ringmain_lane_sender_free` and `ringmain_lane_receiver_free`. The duplex is freed; a loan of it is over. If this fails, it stays
 * whose it was: with `RINGMAIN_WRONG_STATE` if it is a group's.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_lane_duplex_split(struct ringmain_lane_duplex *duplex,
                                           struct ringmain_lane_sender **sender,
                                           struct ringmain_lane_receiver **receiver,
                                           struct ringmain_error **error);

/**
 * The longest record that may come, in bytes, as main has said: room enough for any. 0 for null.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
size_t ringmain_lane_duplex_max_record(const struct ringmain_lane_duplex *duplex);

/**
 * As `ringmain_lane_sender_prepare`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
void ringmain_lane_duplex_prepare(struct ringmain_lane_duplex *duplex);

/**
 * As `ringmain_lane_sender_is_open`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
bool ringmain_lane_duplex_is_open(const struct ringmain_lane_duplex *duplex);

/**
 * The counters of both directions; as `ringmain_lane_sender_stats`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_duplex_stats(const struct ringmain_lane_duplex *duplex,
                                           struct ringmain_lane_stats *stats);

/**
 * As `ringmain_lane_sender_counters`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_lane_duplex_counters(const struct ringmain_lane_duplex *duplex,
                                              struct ringmain_lane_counters **counters,
                                              struct ringmain_error **error);

/**
 * Closes the lane and frees it; a loan is over then. Null is nothing, and so is one that is a group's, which frees it. It may
 * outlive the handle that it was opened on.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
void ringmain_lane_duplex_free(struct ringmain_lane_duplex *duplex);

/**
 * A group of nobody. `*group` is the caller's until `ringmain_lane_group_free`.
 *
 * There is no memory that all peers write: one that is hostile could hold up or let go the blocks of all others. So the wait is
 * for the first peer that has not answered, then for the next.
 *
 * Thread-safe: yes
 * Realtime-safe: no
 */
ringmain_result ringmain_lane_group_new(struct ringmain_lane_group **group,
                                        struct ringmain_error **error);

/**
 * Adds a peer; `*peer` (may be null) is its number, from 0 on. The duplex is the group's from then on, which frees it; if this
 * fails, it stays the caller's.
 *
 * Fails with `RINGMAIN_WRONG_STATE` if it is a group's already; `RINGMAIN_SYSTEM` without memory for its answers.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_lane_group_add(struct ringmain_lane_group *group,
                                        struct ringmain_lane_duplex *duplex,
                                        size_t *peer,
                                        struct ringmain_error **error);

/**
 * Puts another duplex in a peer's place, such as that of its process's successor. `*replaced` is the one before, the caller's
 * again, to be freed where that is no harm. The new one is the group's; if this fails, it stays the caller's.
 *
 * Fails with `RINGMAIN_NOT_REGISTERED` if there is no peer of this number; `RINGMAIN_WRONG_STATE` if the new one is a group's
 * already; `RINGMAIN_SYSTEM` without memory for its answers.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_lane_group_replace(struct ringmain_lane_group *group,
                                            size_t peer,
                                            struct ringmain_lane_duplex *duplex,
                                            struct ringmain_lane_duplex **replaced,
                                            struct ringmain_error **error);

/**
 * The duplex of a peer, which stays the group's; null if there is no peer of this number, or for null.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
struct ringmain_lane_duplex *ringmain_lane_group_duplex(const struct ringmain_lane_group *group, size_t peer);

/**
 * Sends a peer its request of this round. A peer that cannot be asked has failed this round, whatever the reason:
 * `ringmain_lane_group_response` says it. Fails as `ringmain_lane_duplex_send_request`; with `RINGMAIN_NOT_REGISTERED` if there is
 * no peer of this number.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes, but for the wake that the lane is opened with
 */
ringmain_result ringmain_lane_group_start(struct ringmain_lane_group *group,
                                          size_t peer,
                                          const void *data,
                                          size_t len);

/**
 * Waits until every peer that was asked has answered or `deadline_ns`, a time of `ringmain_now()`, is over. `*answered` (may be
 * null) is the number of those that have answered in time.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no: it reads the clock, and to sleep is a system call
 */
ringmain_result ringmain_lane_group_wait_all(struct ringmain_lane_group *group,
                                             uint64_t deadline_ns,
                                             size_t *answered);

/**
 * A peer's answer of the round that the last `ringmain_lane_group_wait_all` has ended: `*data` has `*len` bytes, aligned to 128, a
 * copy that is the group's and stays until the next round or until the peer is replaced.
 *
 * Fails with why there is none: `RINGMAIN_TIMEOUT`, also for a peer that was not asked in that round; what sending or
 * receiving has failed with; `RINGMAIN_NOT_REGISTERED` if there is no peer of this number. The caller's are the two variables
 * alone.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_group_response(const struct ringmain_lane_group *group,
                                             size_t peer,
                                             const void **data,
                                             size_t *len);

/**
 * Frees the group with all lanes that it has. Null is nothing.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
void ringmain_lane_group_free(struct ringmain_lane_group *group);

/**
 * Makes `data` the newest value: never waits for the reader, and is never refused for want of room.
 *
 * Fails with `RINGMAIN_WRONG_SIZE` if the lane's values have another size, `RINGMAIN_TOO_LARGE`, `RINGMAIN_DISCONNECTED`; with
 * `RINGMAIN_WRONG_STATE` while a loan is open.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes, but for the wake that the lane is opened with
 */
ringmain_result ringmain_latest_writer_write(struct ringmain_latest_writer *writer,
                                             const void *data,
                                             size_t len);

/**
 * Lends the place of the next value, to be filled where it lies: `*data`, aligned as configured, has room for `*size` bytes
 * (`size` may be null) and holds whatever an earlier value left there. It is the caller's to write until
 * `ringmain_latest_writer_commit` or `_cancel`. The peer may change the bytes at any time.
 *
 * Fails with `RINGMAIN_DISCONNECTED`; with `RINGMAIN_WRONG_STATE` while a loan is open.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_latest_writer_loan(struct ringmain_latest_writer *writer,
                                            void **data,
                                            size_t *size);

/**
 * Makes the first `len` bytes of the loan the newest value, which ends the loan.
 *
 * Fails with `RINGMAIN_WRONG_STATE` if there is none, such as after it was committed; with `RINGMAIN_WRONG_SIZE` or
 * `RINGMAIN_TOO_LARGE` for a length that cannot be: then the loan stays. Otherwise with `RINGMAIN_DISCONNECTED`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes, but for the wake that the lane is opened with
 */
ringmain_result ringmain_latest_writer_commit(struct ringmain_latest_writer *writer, size_t len);

/**
 * Gives a loan back: nothing of it is published. Without one it does nothing.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
void ringmain_latest_writer_cancel(struct ringmain_latest_writer *writer);

/**
 * The longest value that the lane takes, in bytes, as main has said; 0 for null.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
size_t ringmain_latest_writer_max_record(const struct ringmain_latest_writer *writer);

/**
 * As `ringmain_lane_sender_prepare`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
void ringmain_latest_writer_prepare(struct ringmain_latest_writer *writer);

/**
 * As `ringmain_lane_sender_is_open`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
bool ringmain_latest_writer_is_open(const struct ringmain_latest_writer *writer);

/**
 * As `ringmain_lane_sender_stats`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_latest_writer_stats(const struct ringmain_latest_writer *writer,
                                             struct ringmain_lane_stats *stats);

/**
 * As `ringmain_lane_sender_counters`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_latest_writer_counters(const struct ringmain_latest_writer *writer,
                                                struct ringmain_lane_counters **counters,
                                                struct ringmain_error **error);

/**
 * Closes the lane, of which the last value can still be read, and frees this end. Null is nothing. It may outlive the handle
 * that it was opened on.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
void ringmain_latest_writer_free(struct ringmain_latest_writer *writer);

/**
 * Takes the newest value, if it was not taken before, and copies it to `buffer`, which has `size` bytes and else stays as it is.
 * `*received` (may be null) is what is known of it. Never waits.
 *
 * Fails with `RINGMAIN_EMPTY` if there is none newer; `RINGMAIN_DISCONNECTED` once the last value has been taken;
 * `RINGMAIN_TOO_LARGE` if the buffer is too short for the value, of which `ringmain_latest_reader_copy` has all then;
 * `RINGMAIN_PROTOCOL`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_latest_reader_read(struct ringmain_latest_reader *reader,
                                            void *buffer,
                                            size_t size,
                                            struct ringmain_received *received);

/**
 * As `ringmain_latest_reader_read`, but waits for a value that was not taken before until `deadline_ns`, which is a time of
 * `ringmain_now()` (`CLOCK_MONOTONIC`, absolute) or `RINGMAIN_FOREVER`. Fails with `RINGMAIN_TIMEOUT` instead of `RINGMAIN_EMPTY`.
 * A writer with `RINGMAIN_WAKE_NEVER`, which is the default, is looked at every millisecond.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no: it reads the clock, and to sleep is a system call
 */
ringmain_result ringmain_latest_reader_read_until(struct ringmain_latest_reader *reader,
                                                  void *buffer,
                                                  size_t size,
                                                  uint64_t deadline_ns,
                                                  struct ringmain_received *received);

/**
 * Takes the newest value, if it was not taken before, and leaves it where it lies: `ringmain_latest_reader_data` and `_copy` mean
 * this value until the next one is taken. `*received` (may be null) is what is known of it. Fails as
 * `ringmain_latest_reader_read`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_latest_reader_take(struct ringmain_latest_reader *reader,
                                            struct ringmain_received *received);

/**
 * Copies the value that was taken last, however often: `*len` (may be null) bytes. Fails with `RINGMAIN_EMPTY` if none was;
 * `RINGMAIN_TOO_LARGE` if the buffer is too short; `RINGMAIN_DISCONNECTED` in a forked copy of the process.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_latest_reader_copy(const struct ringmain_latest_reader *reader,
                                            void *buffer,
                                            size_t size,
                                            size_t *len);

/**
 * Where the value that was taken last lies, aligned as configured, without a copy: `*len` (may be null) bytes, the library's,
 * until the next value is taken. Null if none was taken, in a forked copy of the process, or for null.
 *
 * **The writer may change the bytes at any time**: for peers that trust each other, and for code that reads each of them once.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
const void *ringmain_latest_reader_data(const struct ringmain_latest_reader *reader,
                                        size_t *len);

/**
 * The longest value that may come, in bytes, as main has said: room enough for any. 0 for null.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
size_t ringmain_latest_reader_max_record(const struct ringmain_latest_reader *reader);

/**
 * As `ringmain_lane_sender_prepare`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
void ringmain_latest_reader_prepare(struct ringmain_latest_reader *reader);

/**
 * As `ringmain_lane_sender_is_open`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
bool ringmain_latest_reader_is_open(const struct ringmain_latest_reader *reader);

/**
 * As `ringmain_lane_sender_stats`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: yes
 */
ringmain_result ringmain_latest_reader_stats(const struct ringmain_latest_reader *reader,
                                             struct ringmain_lane_stats *stats);

/**
 * As `ringmain_lane_sender_counters`.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
ringmain_result ringmain_latest_reader_counters(const struct ringmain_latest_reader *reader,
                                                struct ringmain_lane_counters **counters,
                                                struct ringmain_error **error);

/**
 * Closes the lane, which the writer's next attempt says, and frees this end. Null is nothing. It may outlive the handle that it was
 * opened on.
 *
 * Thread-safe: no, one thread at a time
 * Realtime-safe: no
 */
void ringmain_latest_reader_free(struct ringmain_latest_reader *reader);

/**
 * The counters of the end that these were made from, which may be in use on another thread, or freed. `is_open` is 1 as long as
 * that end is there and the link has not ended. `stats` is the caller's.
 *
 * Thread-safe: yes
 * Realtime-safe: yes
 */
ringmain_result ringmain_lane_counters_stats(const struct ringmain_lane_counters *counters,
                                             struct ringmain_lane_stats *stats);

/**
 * Frees counters. Null is nothing.
 *
 * Thread-safe: yes, once for each
 * Realtime-safe: no
 */
void ringmain_lane_counters_free(struct ringmain_lane_counters *counters);

/**
 * The monotonic clock in nanoseconds, by which deadlines are said: `CLOCK_MONOTONIC`, C++'s `std::chrono::steady_clock`. A
 * deadline 2 ms from now is `ringmain_now() + 2 * RINGMAIN_MILLISECOND`.
 *
 * Thread-safe: yes
 * Realtime-safe: yes, where `clock_gettime` is: it makes a system call on virtual machines whose clock is not mapped
 */
uint64_t ringmain_now(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RINGMAIN_H */

/* How structs begin: with their size, and the default of everything. */
#define RINGMAIN_MAIN_CONFIG_INIT \
  { sizeof(ringmain_main_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL }
#define RINGMAIN_RENDERER_CONFIG_INIT \
  { sizeof(ringmain_renderer_config), 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL }
#define RINGMAIN_EVENT_INFO_INIT \
  { sizeof(ringmain_event_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, NULL, 0 }
#define RINGMAIN_RENDERER_INFO_INIT { sizeof(ringmain_renderer_info), 0, 0, 0, 0 }
#define RINGMAIN_STATS_INIT { sizeof(ringmain_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#define RINGMAIN_LANE_CONFIG_INIT \
  { sizeof(ringmain_lane_config), 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#define RINGMAIN_LANE_STATS_INIT { sizeof(ringmain_lane_stats), 0, 0, 0, 0, 0, 0, 0, 0 }
#define RINGMAIN_BYTES_INIT { NULL, 0, 0 }
