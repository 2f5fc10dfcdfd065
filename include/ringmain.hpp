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
