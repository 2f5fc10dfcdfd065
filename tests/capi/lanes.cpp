// The C++ header's lanes, each function once: run by .ci/capi under AddressSanitizer and UBSan.
#include <ringmain.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

int checks = 0;

#define CHECK(...)                                                                                                     \
  do {                                                                                                                 \
    checks++;                                                                                                          \
    if (!(__VA_ARGS__)) {                                                                                              \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #__VA_ARGS__);                                           \
      std::exit(1);                                                                                                    \
    }                                                                                                                  \
  } while (0)

struct note {
  std::uint32_t frame;
  std::uint16_t key, velocity;
};
struct alignas(64) block {
  float samples[16];
};

using namespace ringmain;

deadline soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(20); }

void records(ipc_main &main, ipc_renderer &renderer) {
  auto sender = main.lane<lane_sender<note>>(renderer.id(), "notes");
  auto receiver = renderer.lane<lane_receiver<note>>("notes");
  sender.prepare();
  receiver.prepare();
  note got{};
  received what{};
  CHECK(receiver.try_recv(got) == RINGMAIN_EMPTY && receiver.peek() == nullptr);
  CHECK(sender.send(note{1, 60, 100}) == RINGMAIN_OK);
  CHECK(sender.push(note{2, 61, 100}) == RINGMAIN_OK && sender.push(note{3, 62, 100}) == RINGMAIN_OK);
  CHECK(sender.publish() == RINGMAIN_OK);
  note *place = sender.loan();
  CHECK(place != nullptr && sender.send(got) == RINGMAIN_WRONG_STATE);
  *place = note{4, 63, 100};
  CHECK(sender.commit() == RINGMAIN_OK && sender.commit() == RINGMAIN_WRONG_STATE);
  CHECK(sender.loan() != nullptr);
  sender.cancel();
  CHECK(sender.room_for() > 0 && sender.max_record() == sizeof(note) && receiver.max_record() == sizeof(note));
  CHECK(receiver.try_recv(got) == RINGMAIN_OK && got.key == 60);
  CHECK(receiver.recv_until(got, soon(), &what) == RINGMAIN_OK && got.key == 61 && what.number == 1);
  const note *shown = receiver.peek();
  CHECK(shown != nullptr && shown->key == 62 && receiver.release(&what) == RINGMAIN_OK && what.lost == 0);
  CHECK(receiver.try_recv(got) == RINGMAIN_OK && got.key == 63);
  CHECK(receiver.recv_until(got, deadline()) == RINGMAIN_TIMEOUT);
  lane_counters counters(sender);
  CHECK(counters.stats().sent == 4 && receiver.stats().received == 4 && sender.is_open());
  {
    auto gone = std::move(sender);
  }
  CHECK(receiver.try_recv(got) == RINGMAIN_DISCONNECTED && !receiver.is_open());
}

void bytes_of_any_length(ipc_main &main, ipc_renderer &renderer) {
  auto receiver = main.lane<lane_receiver<any_bytes>>(renderer.id(), "text");
  auto sender = renderer.lane<lane_sender<any_bytes>>("text");
  CHECK(sender.send(std::string("hello")) == RINGMAIN_OK);
  std::array<char, 16> buffer{};
  received what{};
  CHECK(receiver.try_recv(buffer, &what) == RINGMAIN_OK && what.len == 5 && std::string(buffer.data()) == "hello");
  room place = sender.loan();
  CHECK(place && place.size() == 4096 && sender.max_record() == 4096);
  place.data()[0] = 7;
  CHECK(sender.commit(1) == RINGMAIN_OK);
  view shown = receiver.peek();
  CHECK(shown.size() == 1 && *shown.data() == 7 && receiver.release() == RINGMAIN_OK);
}

void latest_values(ipc_main &main, ipc_renderer &renderer) {
  auto writer = main.lane<latest_writer<block>>(renderer.id(), "level");
  auto reader = renderer.lane<latest_reader<block>>("level");
  block value{}, got{};
  CHECK(reader.read(got) == RINGMAIN_EMPTY && reader.value() == nullptr);
  value.samples[3] = 1;
  CHECK(writer.write(value) == RINGMAIN_OK && reader.read(got) == RINGMAIN_OK && got.samples[3] == 1);
  block *place = writer.loan();
  CHECK(place != nullptr && reinterpret_cast<std::uintptr_t>(place) % alignof(block) == 0);
  value.samples[3] = 2;
  *place = value;
  CHECK(writer.commit() == RINGMAIN_OK && reader.read_until(got, soon()) == RINGMAIN_OK && got.samples[3] == 2);
  CHECK(writer.loan() != nullptr);
  writer.cancel();
  CHECK(writer.max_record() == sizeof(block) && reader.max_record() == sizeof(block));
  CHECK(writer.write(value) == RINGMAIN_OK && reader.take() == RINGMAIN_OK);
  CHECK(reader.value()->samples[3] == 2 && reader.copy(got) == RINGMAIN_OK);
}

void exchanges(ipc_main &main, ipc_renderer &renderer) {
  using asking = lane_duplex<block, std::uint64_t>;
  using answering = lane_duplex<std::uint64_t, block>;
  auto answers = [](answering lane) {
    block question{};
    while (lane.recv_request_until(question, soon()) == RINGMAIN_OK)
      if (lane.send_response(static_cast<std::uint64_t>(question.samples[0])) != RINGMAIN_OK)
        return;
  };
  lane_group<block, std::uint64_t> group;
  std::array<std::thread, 2> threads;
  for (std::size_t at = 0; at < threads.size(); at++) {
    const std::string name = "plug-in " + std::to_string(at);
    CHECK(group.add(main.lane<asking>(renderer.id(), name)) == at);
    threads[at] = std::thread(answers, renderer.lane<answering>(name));
  }
  block question{};
  ringmain_result why = RINGMAIN_OK;
  CHECK(group.response(0, &why) == nullptr && why == RINGMAIN_TIMEOUT);
  for (std::size_t at = 0; at < threads.size(); at++) {
    question.samples[0] = static_cast<float>(at + 5);
    CHECK(group.start(at, question) == RINGMAIN_OK && group.is_open(at));
  }
  CHECK(group.wait_all(soon()) == 2 && *group.response(0) == 5 && *group.response(1) == 6);

  auto single = main.lane<asking>(renderer.id(), "single");
  auto other = renderer.lane<answering>("single");
  std::uint64_t answer = 0;
  CHECK(other.try_recv_request(question) == RINGMAIN_EMPTY && single.try_recv_response(answer) == RINGMAIN_EMPTY);
  CHECK(single.send_request(question) == RINGMAIN_OK);
  block *place = single.loan_request();
  CHECK(place != nullptr);
  *place = question;
  CHECK(single.commit() == RINGMAIN_OK && other.recv_newest_request_until(question, soon()) == RINGMAIN_OK);
  std::uint64_t *reply = other.loan_response();
  CHECK(reply != nullptr);
  *reply = 9;
  CHECK(other.commit() == RINGMAIN_OK && single.recv_response_until(answer, soon()) == RINGMAIN_OK && answer == 9);
  CHECK(single.exchange(question, answer, deadline()) == RINGMAIN_TIMEOUT);
  CHECK(single.loan_request() != nullptr);
  single.cancel();
  auto [sender, receiver] = std::move(other).split();
  CHECK(receiver.try_recv(question) == RINGMAIN_OK && sender.send(1) == RINGMAIN_OK);
  CHECK(single.max_record() == sizeof answer);
  try {
    group.replace(7, std::move(single));
    CHECK(false);
  } catch (const error &failed) {
    CHECK(failed.result() == RINGMAIN_NOT_REGISTERED && single.raw() != nullptr);
  }
  auto before = group.replace(1, std::move(single));
  CHECK(before.is_open());
  {
    auto gone = std::move(before);
    auto all = std::move(group);
  }
  for (auto &thread : threads)
    thread.join();
}

void answers_with_an_alignment(ipc_main &main, ipc_renderer &renderer) {
  using asking = lane_duplex<std::uint64_t, block>;
  using answering = lane_duplex<block, std::uint64_t>;
  lane_group<std::uint64_t, block> group;
  std::vector<answering> others;
  for (std::size_t at = 0; at < 4; at++) {
    const std::string name = "aligned " + std::to_string(at);
    CHECK(group.add(main.lane<asking>(renderer.id(), name)) == at);
    others.push_back(renderer.lane<answering>(name));
    std::uint64_t question = 0;
    block answer{};
    CHECK(group.start(at, at) == RINGMAIN_OK && others[at].try_recv_request(question) == RINGMAIN_OK);
    answer.samples[15] = static_cast<float>(question + 1);
    CHECK(others[at].send_response(answer) == RINGMAIN_OK);
  }
  CHECK(group.wait_all(soon()) == others.size());
  for (std::size_t at = 0; at < others.size(); at++) {
    const block *answer = group.response(at);
    CHECK(answer != nullptr && reinterpret_cast<std::uintptr_t>(answer) % alignof(block) == 0);
    CHECK(answer->samples[15] == static_cast<float>(at + 1));
  }
}

} // namespace

int main() try {
  ipc_main main;
  auto renderer = ipc_renderer::attach(main);
  records(main, renderer);
  bytes_of_any_length(main, renderer);
  latest_values(main, renderer);
  exchanges(main, renderer);
  answers_with_an_alignment(main, renderer);
  try {
    main.lane<lane_sender<note>>(77, "nobody");
    CHECK(false);
  } catch (const error &failed) {
    CHECK(failed.result() == RINGMAIN_DISCONNECTED);
  }
  std::printf("%d checks of lanes in C++\n", checks);
  return 0;
} catch (const std::exception &failed) {
  std::fprintf(stderr, "%s\n", failed.what());
  return 1;
}
