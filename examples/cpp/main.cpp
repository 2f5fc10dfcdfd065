// A main in C++ that listens under a name, with callables. Serves any renderer: examples/cpp, examples/c, Rust's `connect`.
//
//   ./ringmain_main [NAME] [--once]       --once: until the first renderer has gone
#include <ringmain.hpp>

#include <cinttypes>
#include <cstdio>
#include <iostream>

namespace {

std::string add(const ringmain::event_ref &event) {
  std::int64_t a = 0, b = 0, sum = 0;
  if (std::sscanf(std::string(event.json()).c_str(), "[%" SCNd64 ",%" SCNd64 "]", &a, &b) != 2)
    throw ringmain::handler_error("two integers are needed", {}, "TypeError");
  std::cout << "renderer " << event.renderer() << " calls add(" << a << ", " << b << ")" << std::endl;
  if (__builtin_add_overflow(a, b, &sum))
    throw ringmain::handler_error("the sum does not fit 64 bits", "ERANGE");
  return std::to_string(sum);
}

} // namespace

int main(int argc, char **argv) try {
  std::string name = "ringmain-example";
  bool once = false, gone = false;
  for (int at = 1; at < argc; at++) {
    if (std::string_view(argv[at]) == "--once")
      once = true;
    else
      name = argv[at];
  }

  ringmain::ipc_main ipc_main;
  ipc_main.handle_calls("add", add);
  ipc_main.on("message", [](const ringmain::event_ref &event) {
    std::cout << "renderer " << event.renderer() << " says: " << event.json() << std::endl;
    event.send("answer", ringmain::json("[\"main has read it\"]"));
  });
  // What a listener returns answers a synchronous message.
  ipc_main.on("version", [](const ringmain::event_ref &) { return "\"" RINGMAIN_VERSION "\""; });
  ipc_main.watch(RINGMAIN_WATCH_CONNECTED, [](const ringmain::event_ref &event) {
    std::cout << "renderer " << event.renderer() << " has connected" << std::endl;
  });
  ipc_main.watch(RINGMAIN_WATCH_GONE, [&](const ringmain::event_ref &event) {
    std::cout << "renderer " << event.renderer() << " is gone: " << event.failure()->what() << std::endl;
    gone = true;
  });
  ipc_main.listen(name);
  std::cout << "listening under the name '" << name << "'" << std::endl;
  while (!(gone && once)) {
    ipc_main.wait();
    ipc_main.poll();
  }
  return 0;
} catch (const std::exception &error) {
  std::cerr << error.what() << std::endl;
  return 1;
}
