/* ringmain for C++17: RAII over the C API of ringmain.h. One header; link ringmain::static or ringmain::shared.
 *
 * Failures are exceptions (ringmain::error): constructors can fail, and C++17 has no std::expected. Handles move and do not
 * copy. Texts go in as std::string_view, bytes as ringmain::view (any std::span or std::vector of bytes converts). A
 * callable is type-erased once, when it is registered.
 *
 * No exception leaves a callable through C: what one throws becomes the failure of the call that it was to answer, or goes
 * to on_exception.
 */
#ifndef RINGMAIN_HPP
#define RINGMAIN_HPP

#include "ringmain.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace ringmain {

/* Bytes that somebody else owns: what std::span<const std::byte> is in C++20. */
class view {
public:
  constexpr view() noexcept = default;
  constexpr view(const std::uint8_t *data, std::size_t size) noexcept : data_(data), size_(size) {}
  /* Any contiguous container of bytes: std::vector, std::array, std::span. */
  template <class C, class = std::enable_if_t<sizeof(*std::declval<const C &>().data()) == 1>>
  view(const C &bytes) noexcept // NOLINT: converts on purpose
      : data_(reinterpret_cast<const std::uint8_t *>(bytes.data())), size_(bytes.size()) {}

  constexpr const std::uint8_t *data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr const std::uint8_t *begin() const noexcept { return data_; }
  constexpr const std::uint8_t *end() const noexcept { return data_ + size_; }

private:
  const std::uint8_t *data_ = nullptr;
  std::size_t size_ = 0;
};

/* What failed. what() is for people, result() for code; the rest is what a failed handler has sent along. */
class error : public std::runtime_error {
public:
  error(ringmain_result result, std::string text) : std::runtime_error(std::move(text)), result_(result) {}

  ringmain_result result() const noexcept { return result_; }
  const std::string &name() const noexcept { return name_; }
  const std::string &message() const noexcept { return message_; }
  const std::string &code() const noexcept { return code_; }
  /* Any value, as JSON. */
  const std::string &data() const noexcept { return data_; }

  /* Of an error of the C API, which stays whose it is. */
  static error of(ringmain_result result, const ringmain_error *from) {
    if (from == nullptr)
      return error(result, ringmain_result_text(result));
    error made(result, text([&](char *b, std::size_t n) { return ringmain_error_message(from, b, n); }));
    auto detail = [&](std::uint32_t which) {
      return text([&](char *b, std::size_t n) { return ringmain_error_detail(from, which, b, n); });
    };
    made.name_ = detail(RINGMAIN_DETAIL_NAME);
    made.message_ = detail(RINGMAIN_DETAIL_MESSAGE);
    made.code_ = detail(RINGMAIN_DETAIL_CODE);
    made.data_ = detail(RINGMAIN_DETAIL_DATA);
    return made;
  }

private:
  template <class F> static std::string text(F copy) {
    std::string out(copy(nullptr, 0), '\0');
    if (!out.empty())
      copy(&out[0], out.size() + 1);
    return out;
  }

  ringmain_result result_;
  std::string name_, message_, code_, data_;
};

/* What a handler throws to fail with a name and a code. */
class handler_error : public std::runtime_error {
public:
  explicit handler_error(const std::string &message, std::string code = {}, std::string name = {})
      : std::runtime_error(message), code_(std::move(code)), name_(std::move(name)) {}
  const std::string &code() const noexcept { return code_; }
  const std::string &name() const noexcept { return name_; }

private:
  std::string code_, name_;
};

namespace detail {

/* Takes the place of the last argument, and throws if it was written to. */
class check {
public:
  check() = default;
  check(const check &) = delete;
  check &operator=(const check &) = delete;
  ~check() { ringmain_error_free(error_); }
  operator ringmain_error **() noexcept { return &error_; }
  void operator()(ringmain_result result) const {
    if (result != RINGMAIN_OK)
      throw error::of(result, error_);
  }

private:
  ringmain_error *error_ = nullptr;
};

inline std::uint64_t ns(std::chrono::nanoseconds time) {
  if (time == (std::chrono::nanoseconds::max)())
    return RINGMAIN_FOREVER;
  return time.count() < 0 ? 0 : static_cast<std::uint64_t>(time.count());
}

/* A budget: for the C functions 0 is one without limit, which a spent one must not become. */
inline std::uint64_t budget_ns(std::chrono::nanoseconds time) {
  if (time == (std::chrono::nanoseconds::max)())
    return 0;
  return time.count() <= 0 ? 1 : static_cast<std::uint64_t>(time.count());
}

/* A time of the library's. */
inline std::chrono::nanoseconds from_ns(std::uint64_t time) {
  using count = std::chrono::nanoseconds::rep;
  constexpr auto most = static_cast<std::uint64_t>((std::numeric_limits<count>::max)());
  return std::chrono::nanoseconds(static_cast<count>((std::min)(time, most)));
}

} // namespace detail

/* No timeout, where one is optional; no limit, as a budget. */
inline constexpr std::chrono::nanoseconds forever = (std::chrono::nanoseconds::max)();

/* A payload on its way in: json("[2, 3]"), msgpack(bytes), or none(). Owns nothing. */
class payload {
public:
  payload(std::uint32_t format, view bytes) noexcept : format_(format), bytes_(bytes) {}
  std::uint32_t format() const noexcept { return format_; }
  const std::uint8_t *data() const noexcept { return bytes_.data(); }
  std::size_t size() const noexcept { return bytes_.size(); }

private:
  std::uint32_t format_;
  view bytes_;
};

inline payload json(std::string_view text) noexcept { return payload(RINGMAIN_JSON, view(text)); }
inline payload msgpack(view bytes) noexcept { return payload(RINGMAIN_MSGPACK, bytes); }
inline payload none() noexcept { return payload(RINGMAIN_MSGPACK, view()); }

/* Bytes of the library's: a reply. Moves only. */
class bytes {
public:
  bytes() noexcept = default;
  bytes(bytes &&other) noexcept : raw_(std::exchange(other.raw_, RINGMAIN_BYTES_INIT)) {}
  bytes &operator=(bytes &&other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~bytes() { ringmain_bytes_free(&raw_); }
  std::string_view text() const noexcept { return {reinterpret_cast<const char *>(raw_.data), raw_.len}; }
  operator view() const noexcept { return {raw_.data, raw_.len}; }
  /* To be filled, once, by a function of the C API. */
  ringmain_bytes *out() noexcept { return &raw_; }

private:
  ringmain_bytes raw_ = RINGMAIN_BYTES_INIT;
};

/* Something that happened, valid as long as whoever has it says: in a callable until that returns. */
class event_ref {
public:
  explicit event_ref(ringmain_event *raw) : raw_(raw) {
    detail::check error;
    error(ringmain_event_get(raw_, &info_, error));
  }

  ringmain_event_type type() const noexcept { return static_cast<ringmain_event_type>(info_.event_type); }
  std::uint32_t renderer() const noexcept { return info_.renderer; }
  std::uint32_t renderer_frame() const noexcept { return info_.renderer_frame; }
  std::uint32_t frame() const noexcept { return info_.frame; }
  std::uint64_t registration() const noexcept { return info_.registration; }
  std::uint64_t call() const noexcept { return info_.call; }
  ringmain_gone gone() const noexcept { return static_cast<ringmain_gone>(info_.gone); }
  std::int32_t status() const noexcept { return info_.status; }
  std::string_view channel() const noexcept { return {info_.channel, info_.channel_len}; }
  view msgpack() const noexcept { return {info_.payload, info_.payload_len}; }
  bool is_cancelled() const noexcept { return ringmain_event_is_cancelled(raw_); }

  std::string_view json() const {
    detail::check error;
    const char *text = nullptr;
    std::size_t len = 0;
    error(ringmain_event_json(raw_, &text, &len, error));
    return {text, len};
  }

  /* What went wrong, of a reply, a renderer that is gone, or an error. */
  std::optional<ringmain::error> failure() const {
    const ringmain_error *error = ringmain_event_error(raw_);
    if (error == nullptr)
      return std::nullopt;
    return error::of(ringmain_error_result(error), error);
  }

  void reply(payload value) const {
    detail::check error;
    error(ringmain_event_reply(raw_, value.format(), value.data(), value.size(), error));
  }

  void reply_error(std::string_view message, std::string_view code = {}, std::string_view name = {}) const {
    detail::check error;
    error(ringmain_event_reply_error(raw_, message.empty() ? "" : message.data(), message.size(),
                                     name.empty() ? nullptr : name.data(), name.size(),
                                     code.empty() ? nullptr : code.data(), code.size(), error));
  }

  /* To exactly the frame that sent this message. */
  void send(std::string_view channel, payload args = none()) const {
    detail::check error;
    error(ringmain_event_send(raw_, channel.data(), channel.size(), args.format(), args.data(), args.size(), error));
  }

  ringmain_event *raw() const noexcept { return raw_; }

protected:
  ringmain_event *raw_;
  ringmain_event_info info_ = RINGMAIN_EVENT_INFO_INIT;
};

/* One that is kept: pulled, or made of an event_ref to answer later. Moves only. */
class event : public event_ref {
public:
  /* Takes what was pulled or retained. */
  explicit event(ringmain_event *owned) try : event_ref(owned) {
  } catch (...) {
    ringmain_event_free(owned);
  }
  explicit event(const event_ref &kept) : event(ringmain_event_retain(kept.raw())) {}
  event(event &&other) noexcept : event_ref(other) { other.raw_ = nullptr; }
  event &operator=(event &&other) noexcept {
    std::swap(raw_, other.raw_);
    std::swap(info_, other.info_);
    return *this;
  }
  event(const event &) = delete;
  event &operator=(const event &) = delete;
  ~event() { ringmain_event_free(raw_); }
};

/* What one poll did. */
struct polled {
  std::size_t ran;
  bool more;
};

namespace detail {

using exception_hook = std::function<void(std::exception_ptr)>;

/* What is behind `user`: the callable, and where its exceptions go. */
template <class F> struct box {
  F callable;
  std::shared_ptr<exception_hook> hook;

  static void destroy(void *user) { delete static_cast<box *>(user); }

  static void run(void *user, ringmain_event *raw) noexcept {
    auto *self = static_cast<box *>(user);
    try {
      event_ref event(raw);
      call(self->callable, event);
    } catch (const handler_error &thrown) {
      self->failed(raw, thrown.what(), thrown.code(), thrown.name());
    } catch (const std::exception &thrown) {
      self->failed(raw, thrown.what(), {}, "std::exception");
    } catch (...) {
      self->failed(raw, "an exception that is no std::exception", {}, {});
    }
  }

  /* The answer of an asynchronous call: the callable runs once. */
  static void run_once(void *user, ringmain_event *raw) noexcept {
    run(user, raw);
    destroy(user);
  }

private:
  static void call(F &callable, const event_ref &event) {
    using result = std::invoke_result_t<F &, const event_ref &>;
    if constexpr (std::is_void_v<result>) {
      callable(event);
    } else {
      static_assert(std::is_convertible_v<result, std::string>,
                    "a handler returns nothing, and answers by event.reply, or the answer as JSON text");
      const std::string answer = callable(event);
      if (event.type() == RINGMAIN_EVENT_CALL || event.type() == RINGMAIN_EVENT_SYNC)
        event.reply(ringmain::json(answer));
    }
  }

  void failed(ringmain_event *raw, std::string_view what, std::string_view code, std::string_view name) noexcept {
    auto thrown = std::current_exception();
    try {
      event_ref event(raw);
      if (event.type() == RINGMAIN_EVENT_CALL)
        return event.reply_error(what, code, name);
    } catch (...) {
      thrown = std::current_exception();
    }
    try {
      if (*hook)
        return (*hook)(thrown);
    } catch (...) {
    }
    std::fprintf(stderr, "ringmain: a callback threw: %.*s\n", static_cast<int>(what.size()), what.data());
  }
};

/* What both ends do. `api` names the functions of one. */
template <class Api> class handle {
public:
  using api = Api;
  using raw_type = typename Api::raw;

  /* Null if it was moved from: every function fails with RINGMAIN_NULL_ARGUMENT, or says what it says of null, then. */
  raw_type *raw() const noexcept { return raw_.get(); }

  /* Where exceptions of callables go that answer no call; stderr without. Before the first is registered. */
  void on_exception(exception_hook hook) {
    if (hook_ == nullptr)
      throw error::of(RINGMAIN_NULL_ARGUMENT, nullptr);
    *hook_ = std::move(hook);
  }

  /* Calls `callable(const event_ref &)` for each message; what it returns, if it does, answers a synchronous one, as JSON.
   * Returns the number for remove. */
  template <class F> std::uint64_t on(std::string_view channel, F &&callable, std::uint32_t flags = 0) {
    return put(std::forward<F>(callable), [&](auto run, void *user, auto destroy, std::uint64_t *id, check &error) {
      return Api::on(raw(), channel.data(), channel.size(), flags, run, user, destroy, id, error);
    });
  }

  /* As on, with the messages as events to be pulled. */
  std::uint64_t listen_to(std::string_view channel, std::uint32_t flags = 0) {
    check error;
    std::uint64_t id = 0;
    error(Api::on(raw(), channel.data(), channel.size(), flags, nullptr, nullptr, nullptr, &id, error));
    return id;
  }

  /* Answers calls with what `callable(const event_ref &)` returns, as JSON, or fails with what it throws; one that returns
   * nothing answers by event.reply, now or later. */
  template <class F> std::uint64_t handle_calls(std::string_view channel, F &&callable, std::uint32_t flags = 0) {
    return put(std::forward<F>(callable), [&](auto run, void *user, auto destroy, std::uint64_t *id, check &error) {
      return Api::handle(raw(), channel.data(), channel.size(), flags, run, user, destroy, id, error);
    });
  }

  /* Calls `callable` for what happens beside messages: RINGMAIN_WATCH_… */
  template <class F> std::uint64_t watch(std::uint32_t what, F &&callable) {
    return put(std::forward<F>(callable), [&](auto run, void *user, auto destroy, std::uint64_t *id, check &error) {
      return Api::watch(raw(), what, run, user, destroy, id, error);
    });
  }

  /* A barrier: the callable is gone when this returns, or, called from inside it, when it does. */
  void remove(std::uint64_t id) {
    check error;
    error(Api::remove(raw(), id, error));
  }

  /* At most `max_messages` (0: any number) within `max_time`. A time that is spent, 0 or less, is the shortest there is. */
  polled poll(std::size_t max_messages = 0, std::chrono::nanoseconds max_time = forever) {
    check error;
    polled done{};
    error(Api::poll(raw(), max_messages, budget_ns(max_time), &done.ran, &done.more, error));
    return done;
  }

  std::optional<event> next_event() {
    check error;
    ringmain_event *pulled = nullptr;
    error(Api::next_event(raw(), &pulled, error));
    if (pulled == nullptr)
      return std::nullopt;
    return event(pulled);
  }

  /* False: the time is over. */
  bool wait(std::chrono::nanoseconds timeout = forever) {
    check error;
    const ringmain_result result = Api::wait(raw(), ns(timeout), error);
    if (result == RINGMAIN_TIMEOUT)
      return false;
    error(result);
    return true;
  }

  int fd() const {
    check error;
    int fd = -1;
    error(Api::fd(raw(), &fd, error));
    return fd;
  }

  /* In how long poll has to look at the next timeout, for those who do not sleep on the descriptor; forever if there is
   * none. */
  std::chrono::nanoseconds next_deadline() const noexcept { return from_ns(Api::next_deadline(raw())); }

protected:
  handle() = default;

  /* Hands a callable over; it stays ours if that fails. */
  template <class F, class Register> std::uint64_t put(F &&callable, Register &&registers) {
    using boxed = box<std::decay_t<F>>;
    check error;
    std::uint64_t id = 0;
    std::unique_ptr<boxed> owned(new boxed{std::forward<F>(callable), hook_});
    error(registers(&boxed::run, static_cast<void *>(owned.get()), &boxed::destroy, &id, error));
    static_cast<void>(owned.release());
    return id;
  }

  /* As put, for a callable that runs once. */
  template <class F, class Call> std::uint64_t put_once(F &&callable, Call &&calls) {
    using boxed = box<std::decay_t<F>>;
    check error;
    std::uint64_t id = 0;
    std::unique_ptr<boxed> owned(new boxed{std::forward<F>(callable), hook_});
    error(calls(&boxed::run_once, static_cast<void *>(owned.get()), &id, error));
    static_cast<void>(owned.release());
    return id;
  }

  struct freed {
    void operator()(raw_type *raw) const noexcept { Api::free(raw); }
  };
  std::shared_ptr<exception_hook> hook_ = std::make_shared<exception_hook>();
  std::unique_ptr<raw_type, freed> raw_;
};

/* clang-format off */
#define RINGMAIN_API(S)                                                                                               \
  struct S##_api {                                                                                                    \
    using raw = ringmain_##S;                                                                                         \
    static constexpr auto on = ringmain_##S##_on;                                                                     \
    static constexpr auto handle = ringmain_##S##_handle;                                                             \
    static constexpr auto watch = ringmain_##S##_watch;                                                               \
    static constexpr auto remove = ringmain_##S##_remove;                                                             \
    static constexpr auto poll = ringmain_##S##_poll;                                                                 \
    static constexpr auto next_event = ringmain_##S##_next_event;                                                     \
    static constexpr auto wait = ringmain_##S##_wait;                                                                 \
    static constexpr auto fd = ringmain_##S##_fd;                                                                     \
    static constexpr auto next_deadline = ringmain_##S##_next_deadline;                                               \
    static constexpr auto free = ringmain_##S##_free;                                                                 \
  };
RINGMAIN_API(main)
RINGMAIN_API(renderer)
#undef RINGMAIN_API
/* clang-format on */

} // namespace detail

/* Removes a registration when it goes out of scope; nothing if that is over already. The handle may be moved meanwhile, but
 * not destroyed or assigned to: what it owned when this was made must outlive this. */
template <class Handle> class scoped {
public:
  scoped(Handle &handle, std::uint64_t id) noexcept : raw_(handle.raw()), id_(id) {}
  scoped(scoped &&other) noexcept : raw_(std::exchange(other.raw_, nullptr)), id_(other.id_) {}
  scoped &operator=(scoped &&) = delete;
  /* By the C function, which throws nothing. */
  ~scoped() {
    if (raw_ != nullptr)
      Handle::api::remove(raw_, id_, nullptr);
  }

private:
  typename Handle::raw_type *raw_;
  std::uint64_t id_;
};

/* ---- lanes ------------------------------------------------------------------------------------------------------------
 *
 * What is real-time safe in ringmain.h is so here: it throws and allocates nothing, and returns a ringmain_result that is to be
 * looked at. Opening, splitting and groups that grow throw ringmain::error. An end moves, and belongs to one thread at a time. */

/* In place of a type: bytes of any length. Records go in as ringmain::view and out to a ringmain::room. */
struct any_bytes {};

/* Memory of somebody else's that may be written: what std::span<std::byte> is in C++20. */
class room {
public:
  constexpr room() noexcept = default;
  constexpr room(void *data, std::size_t size) noexcept : data_(static_cast<std::uint8_t *>(data)), size_(size) {}
  /* Any contiguous container of bytes: std::vector, std::array, std::span. */
  template <class C, class = std::enable_if_t<sizeof(*std::declval<C &>().data()) == 1>>
  room(C &bytes) noexcept // NOLINT: converts on purpose
      : data_(reinterpret_cast<std::uint8_t *>(bytes.data())), size_(bytes.size()) {}

  constexpr std::uint8_t *data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr explicit operator bool() const noexcept { return data_ != nullptr; }

private:
  std::uint8_t *data_ = nullptr;
  std::size_t size_ = 0;
};

/* When a wait is over: std::chrono::steady_clock::now() + 2ms. This clock is CLOCK_MONOTONIC with every library on Linux. */
using deadline = std::chrono::steady_clock::time_point;
using received = ringmain_received;

namespace detail {

/* What a lane of `T` takes and gives. All bytes of a record go to the peer and come from it, those of padding too, and any of
 * them may come: use types without padding, and of which every value is one, so no bool and no enum. */
template <class T> struct carries {
  static_assert(std::is_trivially_copyable_v<T>, "a record is copied byte by byte: it must be trivially copyable");
  static_assert(alignof(T) <= 128, "records are aligned to 128 at most");
  static constexpr std::size_t size = sizeof(T), align = alignof(T);
  using in = const T &;
  using out = T &;
  using place = T *;
  using shown = const T *;
  static const void *data(in value) noexcept { return &value; }
  static void *data_of(out value) noexcept { return &value; }
  static std::size_t len(in) noexcept { return size; }
  static place place_at(void *data, std::size_t) noexcept { return static_cast<T *>(data); }
  static shown shown_at(const void *data, std::size_t) noexcept { return static_cast<const T *>(data); }
};

template <> struct carries<any_bytes> {
  static constexpr std::size_t size = 0, align = 1;
  using in = view;
  using out = room;
  using place = room;
  using shown = view;
  static const void *data(in value) noexcept { return value.data(); }
  static void *data_of(out value) noexcept { return value.data(); }
  static std::size_t len(view value) noexcept { return value.size(); }
  static std::size_t len(room value) noexcept { return value.size(); }
  static place place_at(void *data, std::size_t size) noexcept { return room(data, size); }
  static shown shown_at(const void *data, std::size_t size) noexcept {
    return view(static_cast<const std::uint8_t *>(data), size);
  }
};

inline std::uint64_t deadline_ns(deadline time) noexcept {
  if (time == (deadline::max)())
    return RINGMAIN_FOREVER;
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  return since < 0 ? 0 : static_cast<std::uint64_t>(since);
}

template <class S, class R> ringmain_lane_config sized(ringmain_lane_config config) noexcept {
  config.send_size = carries<S>::size;
  config.recv_size = carries<R>::size;
  const auto align = static_cast<std::uint32_t>((std::max)(carries<S>::align, carries<R>::align));
  if (align > 16)
    config.align = (std::max)(config.align, align);
  return config;
}

/* What all ends have in common. */
template <class Api> class lane_end {
public:
  using api = Api;
  using raw_type = typename Api::raw;
  explicit lane_end(raw_type *raw) noexcept : raw_(raw) {}
  raw_type *raw() const noexcept { return raw_.get(); }
  /* Gives the C handle away. */
  raw_type *release_raw() noexcept { return raw_.release(); }

  /* Once, before the first real-time call. */
  void prepare() noexcept { Api::prepare(raw()); }
  bool is_open() const noexcept { return Api::is_open(raw()); }
  ringmain_lane_stats stats() const noexcept {
    ringmain_lane_stats counted = RINGMAIN_LANE_STATS_INIT;
    Api::stats(raw(), &counted);
    return counted;
  }

private:
  struct freed {
    void operator()(raw_type *raw) const noexcept { Api::free(raw); }
  };
  std::unique_ptr<raw_type, freed> raw_;
};

/* clang-format off */
#define RINGMAIN_LANE_API(S)                                                                                          \
  struct S##_api {                                                                                                    \
    using raw = ringmain_##S;                                                                                         \
    static constexpr auto in_main = ringmain_main_##S;                                                                \
    static constexpr auto in_renderer = ringmain_renderer_##S;                                                        \
    static constexpr auto prepare = ringmain_##S##_prepare;                                                           \
    static constexpr auto is_open = ringmain_##S##_is_open;                                                           \
    static constexpr auto stats = ringmain_##S##_stats;                                                               \
    static constexpr auto counters = ringmain_##S##_counters;                                                         \
    static constexpr auto free = ringmain_##S##_free;                                                                 \
  };
RINGMAIN_LANE_API(lane_sender)
RINGMAIN_LANE_API(lane_receiver)
RINGMAIN_LANE_API(lane_duplex)
RINGMAIN_LANE_API(latest_writer)
RINGMAIN_LANE_API(latest_reader)
#undef RINGMAIN_LANE_API
/* clang-format on */

} // namespace detail

/* The counters of an end, for other threads. */
class lane_counters {
public:
  template <class End> explicit lane_counters(const End &end) {
    detail::check error;
    ringmain_lane_counters *made = nullptr;
    error(End::api::counters(end.raw(), &made, error));
    raw_.reset(made);
  }
  ringmain_lane_stats stats() const noexcept {
    ringmain_lane_stats counted = RINGMAIN_LANE_STATS_INIT;
    ringmain_lane_counters_stats(raw_.get(), &counted);
    return counted;
  }

private:
  struct freed {
    void operator()(ringmain_lane_counters *raw) const noexcept { ringmain_lane_counters_free(raw); }
  };
  std::unique_ptr<ringmain_lane_counters, freed> raw_;
};

/* Sends records of `T`, in order. */
template <class T> class lane_sender : public detail::lane_end<detail::lane_sender_api> {
  using as = detail::carries<T>;

public:
  using lane_end::lane_end;
  static ringmain_lane_config sized(ringmain_lane_config config) noexcept { return detail::sized<T, T>(config); }

  [[nodiscard]] ringmain_result send(typename as::in record) noexcept {
    return ringmain_lane_sender_send(raw(), as::data(record), as::len(record));
  }
  /* Adds to what publish sends all at once. */
  [[nodiscard]] ringmain_result push(typename as::in record) noexcept {
    return ringmain_lane_sender_push(raw(), as::data(record), as::len(record));
  }
  [[nodiscard]] ringmain_result publish() noexcept { return ringmain_lane_sender_publish(raw()); }
  /* The place of the next record, until commit or cancel; null if there is none. */
  [[nodiscard]] typename as::place loan() noexcept {
    void *data = nullptr;
    std::size_t size = 0;
    ringmain_lane_sender_loan(raw(), &data, &size);
    return as::place_at(data, size);
  }
  template <class U = T, class = std::enable_if_t<!std::is_same_v<U, any_bytes>>>
  [[nodiscard]] ringmain_result commit() noexcept {
    return commit(as::size);
  }
  [[nodiscard]] ringmain_result commit(std::size_t len) noexcept {
    return ringmain_lane_sender_commit(raw(), len);
  }
  void cancel() noexcept { ringmain_lane_sender_cancel(raw()); }
  std::size_t room_for() noexcept { return ringmain_lane_sender_room(raw()); }
  std::size_t max_record() const noexcept { return ringmain_lane_sender_max_record(raw()); }
};

/* Receives records of `T`, in order. */
template <class T> class lane_receiver : public detail::lane_end<detail::lane_receiver_api> {
  using as = detail::carries<T>;

public:
  using lane_end::lane_end;
  static ringmain_lane_config sized(ringmain_lane_config config) noexcept { return detail::sized<T, T>(config); }

  /* RINGMAIN_EMPTY: there is none now. */
  [[nodiscard]] ringmain_result try_recv(typename as::out record, received *what = nullptr) noexcept {
    return ringmain_lane_receiver_try_recv(raw(), as::data_of(record), as::len(record), what);
  }
  [[nodiscard]] ringmain_result recv_until(typename as::out record, deadline time, received *what = nullptr) noexcept {
    return ringmain_lane_receiver_recv_until(raw(), as::data_of(record), as::len(record),
                                                             detail::deadline_ns(time), what);
  }
  /* The next record where it lies, until release; null, or of no bytes at null, if there is none. The sender may change it at any
   * time: for peers that trust each other. */
  [[nodiscard]] typename as::shown peek() noexcept {
    const void *data = nullptr;
    std::size_t len = 0;
    ringmain_lane_receiver_peek(raw(), &data, &len);
    return as::shown_at(data, len);
  }
  ringmain_result release(received *what = nullptr) noexcept {
    return ringmain_lane_receiver_release(raw(), what);
  }
  std::size_t max_record() const noexcept { return ringmain_lane_receiver_max_record(raw()); }
};

/* Sends `S` and receives `R`; the other end is a lane_duplex<R, S>. */
template <class S, class R> class lane_duplex : public detail::lane_end<detail::lane_duplex_api> {
  using in = detail::carries<S>;
  using out = detail::carries<R>;

public:
  using lane_end::lane_end;
  static ringmain_lane_config sized(ringmain_lane_config config) noexcept { return detail::sized<S, R>(config); }

  [[nodiscard]] ringmain_result exchange(typename in::in request, typename out::out response, deadline time,
                                         received *what = nullptr) noexcept {
    return ringmain_lane_duplex_exchange(raw(), in::data(request), in::len(request),
                                                         out::data_of(response), out::len(response),
                                                         detail::deadline_ns(time), what);
  }
  [[nodiscard]] ringmain_result send_request(typename in::in request) noexcept {
    return ringmain_lane_duplex_send_request(raw(), in::data(request), in::len(request));
  }
  [[nodiscard]] ringmain_result try_recv_response(typename out::out response, received *what = nullptr) noexcept {
    return ringmain_lane_duplex_try_recv_response(raw(), out::data_of(response), out::len(response), what);
  }
  [[nodiscard]] ringmain_result recv_response_until(typename out::out response, deadline time,
                                                    received *what = nullptr) noexcept {
    return ringmain_lane_duplex_recv_response_until(
        raw(), out::data_of(response), out::len(response), detail::deadline_ns(time), what);
  }
  [[nodiscard]] ringmain_result try_recv_request(typename out::out request, received *what = nullptr) noexcept {
    return ringmain_lane_duplex_try_recv_request(raw(), out::data_of(request), out::len(request), what);
  }
  [[nodiscard]] ringmain_result recv_request_until(typename out::out request, deadline time,
                                                   received *what = nullptr) noexcept {
    return ringmain_lane_duplex_recv_request_until(raw(), out::data_of(request), out::len(request),
                                                                   detail::deadline_ns(time), what);
  }
  /* For a peer that was stopped or slow: passes older ones by. */
  [[nodiscard]] ringmain_result recv_newest_request_until(typename out::out request, deadline time,
                                                          received *what = nullptr) noexcept {
    return ringmain_lane_duplex_recv_newest_request_until(
        raw(), out::data_of(request), out::len(request), detail::deadline_ns(time), what);
  }
  [[nodiscard]] ringmain_result send_response(typename in::in response) noexcept {
    return ringmain_lane_duplex_send_response(raw(), in::data(response), in::len(response));
  }
  /* The place of a request or a response, until commit or cancel; null if there is none. */
  [[nodiscard]] typename in::place loan_request() noexcept { return loan_by(ringmain_lane_duplex_loan_request); }
  [[nodiscard]] typename in::place loan_response() noexcept { return loan_by(ringmain_lane_duplex_loan_response); }
  template <class U = S, class = std::enable_if_t<!std::is_same_v<U, any_bytes>>>
  [[nodiscard]] ringmain_result commit() noexcept {
    return commit(in::size);
  }
  [[nodiscard]] ringmain_result commit(std::size_t len) noexcept {
    return ringmain_lane_duplex_commit(raw(), len);
  }
  void cancel() noexcept { ringmain_lane_duplex_cancel(raw()); }
  /* Of what it receives. */
  std::size_t max_record() const noexcept { return ringmain_lane_duplex_max_record(raw()); }

  /* A stream each way, for two threads. */
  std::pair<lane_sender<S>, lane_receiver<R>> split() && {
    detail::check error;
    ringmain_lane_sender *sender = nullptr;
    ringmain_lane_receiver *receiver = nullptr;
    error(ringmain_lane_duplex_split(raw(), &sender, &receiver, error));
    static_cast<void>(release_raw());
    return {lane_sender<S>(sender), lane_receiver<R>(receiver)};
  }

private:
  template <class Loan> typename in::place loan_by(Loan loan) noexcept {
    void *data = nullptr;
    std::size_t size = 0;
    loan(raw(), &data, &size);
    return in::place_at(data, size);
  }
};

/* Duplexes to several peers that work at the same time: all are asked, then all are waited for. */
template <class S, class R> class lane_group {
  using in = detail::carries<S>;
  using out = detail::carries<R>;

public:
  lane_group() {
    detail::check error;
    ringmain_lane_group *made = nullptr;
    error(ringmain_lane_group_new(&made, error));
    raw_.reset(made);
  }
  /* The peer's number, from 0 on. If this throws, the lane stays the caller's. */
  std::size_t add(lane_duplex<S, R> &&lane) {
    detail::check error;
    std::size_t peer = 0;
    error(ringmain_lane_group_add(raw_.get(), lane.raw(), &peer, error));
    static_cast<void>(lane.release_raw());
    return peer;
  }
  /* Puts a lane in a peer's place; the one before, to be dropped where that is no harm. If this throws, the new one stays the
   * caller's. */
  lane_duplex<S, R> replace(std::size_t peer, lane_duplex<S, R> &&lane) {
    detail::check error;
    ringmain_lane_duplex *before = nullptr;
    error(ringmain_lane_group_replace(raw_.get(), peer, lane.raw(), &before, error));
    static_cast<void>(lane.release_raw());
    return lane_duplex<S, R>(before);
  }
  bool is_open(std::size_t peer) const noexcept {
    return ringmain_lane_duplex_is_open(ringmain_lane_group_duplex(raw_.get(), peer));
  }
  [[nodiscard]] ringmain_result start(std::size_t peer, typename in::in request) noexcept {
    return ringmain_lane_group_start(raw_.get(), peer, in::data(request), in::len(request));
  }
  /* How many have answered in time. */
  std::size_t wait_all(deadline time) noexcept {
    std::size_t answered = 0;
    ringmain_lane_group_wait_all(raw_.get(), detail::deadline_ns(time), &answered);
    return answered;
  }
  /* The answer of the last round, until the next one; null, or of no bytes at null, if there is none: `why` says why. */
  typename out::shown response(std::size_t peer, ringmain_result *why = nullptr) const noexcept {
    const void *data = nullptr;
    std::size_t len = 0;
    const auto result = ringmain_lane_group_response(raw_.get(), peer, &data, &len);
    if (why != nullptr)
      *why = result;
    return out::shown_at(data, len);
  }

private:
  struct freed {
    void operator()(ringmain_lane_group *raw) const noexcept { ringmain_lane_group_free(raw); }
  };
  std::unique_ptr<ringmain_lane_group, freed> raw_;
};

/* Publishes values of `T`, of which the reader sees the newest. */
template <class T> class latest_writer : public detail::lane_end<detail::latest_writer_api> {
  using as = detail::carries<T>;

public:
  using lane_end::lane_end;
  static ringmain_lane_config sized(ringmain_lane_config config) noexcept { return detail::sized<T, T>(config); }

  [[nodiscard]] ringmain_result write(typename as::in value) noexcept {
    return ringmain_latest_writer_write(raw(), as::data(value), as::len(value));
  }
  /* The place of the next value, until commit or cancel; null if there is none. */
  [[nodiscard]] typename as::place loan() noexcept {
    void *data = nullptr;
    std::size_t size = 0;
    ringmain_latest_writer_loan(raw(), &data, &size);
    return as::place_at(data, size);
  }
  template <class U = T, class = std::enable_if_t<!std::is_same_v<U, any_bytes>>>
  [[nodiscard]] ringmain_result commit() noexcept {
    return commit(as::size);
  }
  [[nodiscard]] ringmain_result commit(std::size_t len) noexcept {
    return ringmain_latest_writer_commit(raw(), len);
  }
  void cancel() noexcept { ringmain_latest_writer_cancel(raw()); }
  std::size_t max_record() const noexcept { return ringmain_latest_writer_max_record(raw()); }
};

/* Reads the newest value of `T`. */
template <class T> class latest_reader : public detail::lane_end<detail::latest_reader_api> {
  using as = detail::carries<T>;

public:
  using lane_end::lane_end;
  static ringmain_lane_config sized(ringmain_lane_config config) noexcept { return detail::sized<T, T>(config); }

  /* RINGMAIN_EMPTY: there is none newer, and `value` stays as it is. */
  [[nodiscard]] ringmain_result read(typename as::out value, received *what = nullptr) noexcept {
    return ringmain_latest_reader_read(raw(), as::data_of(value), as::len(value), what);
  }
  [[nodiscard]] ringmain_result read_until(typename as::out value, deadline time, received *what = nullptr) noexcept {
    return ringmain_latest_reader_read_until(raw(), as::data_of(value), as::len(value),
                                                             detail::deadline_ns(time), what);
  }
  /* Takes the newest value and leaves it where it lies: value() and copy() mean it until the next one is taken. */
  [[nodiscard]] ringmain_result take(received *what = nullptr) noexcept {
    return ringmain_latest_reader_take(raw(), what);
  }
  [[nodiscard]] ringmain_result copy(typename as::out value, std::size_t *len = nullptr) const noexcept {
    return ringmain_latest_reader_copy(raw(), as::data_of(value), as::len(value), len);
  }
  /* The writer may change it at any time: for peers that trust each other. */
  typename as::shown value() const noexcept {
    std::size_t len = 0;
    const void *data = ringmain_latest_reader_data(raw(), &len);
    return as::shown_at(data, len);
  }
  std::size_t max_record() const noexcept { return ringmain_latest_reader_max_record(raw()); }
};

/* A main; its renderers are numbers. */
class ipc_main : public detail::handle<detail::main_api> {
public:
  explicit ipc_main(const ringmain_main_config &config = RINGMAIN_MAIN_CONFIG_INIT) {
    detail::check error;
    ringmain_main *made = nullptr;
    error(ringmain_main_new(&config, &made, error));
    raw_.reset(made);
  }

  void listen(std::string_view name) {
    detail::check error;
    error(ringmain_main_listen(raw(), name.data(), name.size(), error));
  }

  /* Starts a program as a renderer; its number. */
  std::uint32_t spawn(const std::vector<std::string> &argv) {
    std::vector<const char *> pointers;
    for (const auto &argument : argv)
      pointers.push_back(argument.c_str());
    pointers.push_back(nullptr);
    detail::check error;
    std::uint32_t renderer = 0;
    error(ringmain_main_spawn(raw(), pointers.data(), &renderer, error));
    return renderer;
  }

  std::vector<std::uint32_t> renderers() const {
    std::vector<std::uint32_t> all(ringmain_main_renderers(raw(), nullptr, 0));
    all.resize((std::min)(all.size(), ringmain_main_renderers(raw(), all.data(), all.size())));
    return all;
  }

  ringmain_renderer_info info(std::uint32_t renderer) const {
    detail::check error;
    ringmain_renderer_info known = RINGMAIN_RENDERER_INFO_INIT;
    error(ringmain_main_renderer_info(raw(), renderer, &known, error));
    return known;
  }

  ringmain_stats stats(std::uint32_t renderer) const {
    detail::check error;
    ringmain_stats counted = RINGMAIN_STATS_INIT;
    error(ringmain_main_stats(raw(), renderer, &counted, error));
    return counted;
  }

  /* Which renderer embeds this one; 0: none. */
  void set_host(std::uint32_t renderer, std::uint32_t host) {
    detail::check error;
    error(ringmain_main_set_host(raw(), renderer, host, error));
  }

  /* Its process, with SIGKILL. */
  void kill(std::uint32_t renderer) {
    detail::check error;
    error(ringmain_main_kill(raw(), renderer, error));
  }

  void send(std::uint32_t renderer, std::string_view channel, payload args = none(), std::uint32_t frame = 0) {
    detail::check error;
    error(ringmain_main_send(raw(), renderer, frame, channel.data(), channel.size(), args.format(), args.data(),
                             args.size(), error));
  }

  /* The reply is in the format of the arguments. */
  bytes invoke(std::uint32_t renderer, std::string_view channel, payload args, std::chrono::nanoseconds timeout,
               std::uint32_t frame = 0) {
    return invoke_by(ringmain_main_invoke, renderer, channel, args, timeout, frame);
  }

  /* On the thread that dispatches, also inside a callable: runs callables for what arrives meanwhile. Events that are to be
   * pulled wait until it returns. */
  bytes invoke_polling(std::uint32_t renderer, std::string_view channel, payload args, std::chrono::nanoseconds timeout,
                       std::uint32_t frame = 0) {
    return invoke_by(ringmain_main_invoke_polling, renderer, channel, args, timeout, frame);
  }

  /* `callable(const event_ref &)` is called once, with the answer. Returns the number of the call. */
  template <class F>
  std::uint64_t invoke_async(std::uint32_t renderer, std::string_view channel, payload args,
                             std::chrono::nanoseconds timeout, F &&callable, std::uint32_t frame = 0) {
    return put_once(std::forward<F>(callable), [&](auto run, void *user, std::uint64_t *id, detail::check &error) {
      return ringmain_main_invoke_async(raw(), renderer, frame, channel.data(), channel.size(), args.format(),
                                        args.data(), args.size(), detail::ns(timeout), run, user, id, error);
    });
  }

  /* Opens this side's end of a lane: lane<lane_sender<note>>(renderer, "notes"). The sizes of the config are those of the types. */
  template <class End>
  End lane(std::uint32_t renderer, std::string_view name, const ringmain_lane_config &config = RINGMAIN_LANE_CONFIG_INIT) {
    detail::check error;
    const ringmain_lane_config sized = End::sized(config);
    typename End::raw_type *opened = nullptr;
    error(End::api::in_main(raw(), renderer, name.data(), name.size(), &sized, &opened, error));
    return End(opened);
  }

  void flush(std::uint32_t renderer, std::chrono::nanoseconds timeout) {
    detail::check error;
    error(ringmain_main_flush(raw(), renderer, detail::ns(timeout), error));
  }

  void close(std::uint32_t renderer, std::chrono::nanoseconds timeout) {
    detail::check error;
    error(ringmain_main_close(raw(), renderer, detail::ns(timeout), error));
  }

private:
  template <class Function>
  bytes invoke_by(Function function, std::uint32_t renderer, std::string_view channel, payload args,
                  std::chrono::nanoseconds timeout, std::uint32_t frame) {
    detail::check error;
    bytes reply;
    error(function(raw(), renderer, frame, channel.data(), channel.size(), args.format(), args.data(), args.size(),
                   detail::ns(timeout), reply.out(), error));
    return reply;
  }
};

/* A renderer's end of a link, or a further frame of it. */
class ipc_renderer : public detail::handle<detail::renderer_api> {
public:
  /* To the main that started this process. */
  static ipc_renderer connect(const ringmain_renderer_config &config = RINGMAIN_RENDERER_CONFIG_INIT) {
    return made([&](ringmain_renderer **out, detail::check &error) {
      return ringmain_renderer_connect(&config, out, error);
    });
  }

  /* To a main that listens under this name. */
  static ipc_renderer connect_to(std::string_view name,
                                 const ringmain_renderer_config &config = RINGMAIN_RENDERER_CONFIG_INIT) {
    return made([&](ringmain_renderer **out, detail::check &error) {
      return ringmain_renderer_connect_to(&config, name.data(), name.size(), out, error);
    });
  }

  /* In the process of a main. */
  static ipc_renderer attach(const ipc_main &main,
                             const ringmain_renderer_config &config = RINGMAIN_RENDERER_CONFIG_INIT) {
    return made([&](ringmain_renderer **out, detail::check &error) {
      return ringmain_renderer_attach(&config, main.raw(), out, error);
    });
  }

  /* A further frame, which is closed when the returned handle goes. */
  ipc_renderer frame() const {
    return made([&](ringmain_renderer **out, detail::check &error) {
      return ringmain_renderer_frame(raw(), out, error);
    });
  }

  std::uint32_t id() const noexcept { return ringmain_renderer_id(raw()); }
  std::uint32_t frame_id() const noexcept { return ringmain_renderer_frame_id(raw()); }
  bool is_connected() const noexcept { return ringmain_renderer_is_connected(raw()); }

  ringmain_stats stats() const {
    detail::check error;
    ringmain_stats counted = RINGMAIN_STATS_INIT;
    error(ringmain_renderer_stats(raw(), &counted, error));
    return counted;
  }

  void send(std::string_view channel, payload args = none()) {
    detail::check error;
    error(ringmain_renderer_send(raw(), channel.data(), channel.size(), args.format(), args.data(), args.size(), error));
  }

  void send_to(std::uint32_t renderer, std::string_view channel, payload args = none(), std::uint32_t frame = 0) {
    detail::check error;
    error(ringmain_renderer_send_to(raw(), renderer, frame, channel.data(), channel.size(), args.format(), args.data(),
                                    args.size(), error));
  }

  void send_to_host(std::string_view channel, payload args = none()) {
    detail::check error;
    error(ringmain_renderer_send_to_host(raw(), channel.data(), channel.size(), args.format(), args.data(), args.size(),
                                         error));
  }

  /* The reply is in the format of the arguments. */
  bytes send_sync(std::string_view channel, payload args, std::chrono::nanoseconds timeout = forever) {
    return invoke_by(ringmain_renderer_send_sync, channel, args, timeout);
  }

  bytes invoke(std::string_view channel, payload args, std::chrono::nanoseconds timeout = forever) {
    return invoke_by(ringmain_renderer_invoke, channel, args, timeout);
  }

  /* On the thread that dispatches, also inside a callable: runs callables for what arrives meanwhile. Events that are to be
   * pulled wait until it returns. */
  bytes invoke_polling(std::string_view channel, payload args, std::chrono::nanoseconds timeout = forever) {
    return invoke_by(ringmain_renderer_invoke_polling, channel, args, timeout);
  }

  /* `callable(const event_ref &)` is called once, with the answer. Returns the number of the call. */
  template <class F>
  std::uint64_t invoke_async(std::string_view channel, payload args, std::chrono::nanoseconds timeout, F &&callable) {
    return put_once(std::forward<F>(callable), [&](auto run, void *user, std::uint64_t *id, detail::check &error) {
      return ringmain_renderer_invoke_async(raw(), channel.data(), channel.size(), args.format(), args.data(),
                                            args.size(), detail::ns(timeout), run, user, id, error);
    });
  }

  /* Opens this side's end of a lane that main opens: lane<lane_receiver<note>>("notes"). */
  template <class End>
  End lane(std::string_view name, const ringmain_lane_config &config = RINGMAIN_LANE_CONFIG_INIT) {
    detail::check error;
    const ringmain_lane_config sized = End::sized(config);
    typename End::raw_type *opened = nullptr;
    error(End::api::in_renderer(raw(), name.data(), name.size(), &sized, &opened, error));
    return End(opened);
  }

  void flush(std::chrono::nanoseconds timeout) {
    detail::check error;
    error(ringmain_renderer_flush(raw(), detail::ns(timeout), error));
  }

  void close(std::chrono::nanoseconds timeout) {
    detail::check error;
    error(ringmain_renderer_close(raw(), detail::ns(timeout), error));
  }

private:
  ipc_renderer() = default;

  template <class Connect> static ipc_renderer made(Connect &&connects) {
    detail::check error;
    ringmain_renderer *raw = nullptr;
    ipc_renderer handle;
    error(connects(&raw, error));
    handle.raw_.reset(raw);
    return handle;
  }

  template <class Function>
  bytes invoke_by(Function function, std::string_view channel, payload args, std::chrono::nanoseconds timeout) {
    detail::check error;
    bytes reply;
    error(function(raw(), channel.data(), channel.size(), args.format(), args.data(), args.size(), detail::ns(timeout),
                   reply.out(), error));
    return reply;
  }
};

} // namespace ringmain

#endif /* RINGMAIN_HPP */
