// A renderer in C++ that connects by name. Its main: examples/cpp, examples/c, Rust's `listen`.
//
//   ./ringmain_renderer [NAME]
#include <ringmain.hpp>

#include <iostream>

int main(int argc, char **argv) try {
  using namespace std::chrono_literals;
  const std::string name = argc > 1 ? argv[1] : "ringmain-example";
  auto ipc_renderer = ringmain::ipc_renderer::connect_to(name);
  std::cout << "connected to '" << name << "' as renderer " << ipc_renderer.id() << std::endl;

  bool answered = false, summed = false;
  ipc_renderer.on("answer", [&](const ringmain::event_ref &event) {
    std::cout << "main answers: " << event.json() << std::endl;
    answered = true;
  });

  // A call that waits, and one that fails.
  std::cout << "add(2, 3) = " << ipc_renderer.invoke("add", ringmain::json("[2, 3]"), 10s).text() << std::endl;
  try {
    ipc_renderer.invoke("add", ringmain::json("[9223372036854775807, 1]"), 10s);
    throw std::logic_error("a sum that does not fit should have failed");
  } catch (const ringmain::error &error) {
    std::cout << "add(INT64_MAX, 1) failed with code " << error.code() << ": " << error.message() << std::endl;
  }
  std::cout << "main runs ringmain " << ipc_renderer.send_sync("version", ringmain::json("[]"), 10s).text() << std::endl;

  // One that does not, and a message.
  ipc_renderer.invoke_async("add", ringmain::json("[40, 2]"), 10s, [&](const ringmain::event_ref &reply) {
    std::cout << "add(40, 2) = " << reply.json() << std::endl;
    summed = true;
  });
  ipc_renderer.send("message", ringmain::json("[\"hello from C++\"]"));
  while (!answered || !summed) {
    if (!ipc_renderer.wait(10s))
      throw std::runtime_error("main has not answered within ten seconds");
    ipc_renderer.poll();
  }
  ipc_renderer.close(10s);
  return 0;
} catch (const std::exception &error) {
  std::cerr << error.what() << std::endl;
  return 1;
}
