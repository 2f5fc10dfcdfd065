/* What the C API promises of lanes, held by a C program: run by .ci/capi under AddressSanitizer and UBSan. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__SANITIZE_ADDRESS__)
/* Of <sanitizer/allocator_interface.h>, which not every compiler brings. */
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *));
#endif

/* As examples/c, and a type of Rust's, have it. */
struct note {
  uint32_t frame;
  uint16_t key;
  uint16_t velocity;
};

/* Checks a result where no error tells more. */
static void gives_at(int line, ringmain_result result, ringmain_result expected) {
  if (result != expected) {
    fprintf(stderr, "%s:%d: %s instead of %s\n", __FILE__, line, ringmain_result_text(result),
            ringmain_result_text(expected));
    exit(1);
  }
}
#define GIVES(expected, call) (checks++, gives_at(__LINE__, (call), (expected)))
/* On a thread of its own, which does not count. */
#define MUST(call) gives_at(__LINE__, (call), RINGMAIN_OK)

static uint64_t soon(void) { return ringmain_now() + PATIENCE; }

/* ---- a main and a renderer, with both ends of a lane --------------------------------------------------------------- */

struct link {
  ringmain_main *main;
  ringmain_renderer *renderer;
  uint32_t id;
};

static struct link link_up(void) {
  struct link link = {NULL, NULL, 0};
  OK(ringmain_main_new(NULL, &link.main, &error));
  OK(ringmain_renderer_attach(NULL, link.main, &link.renderer, &error));
  link.id = ringmain_renderer_id(link.renderer);
  return link;
}

static void part(struct link *link) {
  ringmain_renderer_free(link->renderer);
  ringmain_main_free(link->main);
}

static ringmain_lane_config config_for(size_t send_size, size_t recv_size, uint32_t capacity) {
  ringmain_lane_config config = RINGMAIN_LANE_CONFIG_INIT;
  config.send_size = send_size;
  config.recv_size = recv_size;
  config.capacity = capacity;
  return config;
}

/* From main to the renderer. */
static void records(struct link *link, size_t size, uint32_t capacity, ringmain_lane_sender **sender,
                    ringmain_lane_receiver **receiver) {
  ringmain_lane_config config = config_for(size, size, capacity);
  OK(ringmain_main_lane_sender(link->main, link->id, CHANNEL("records"), &config, sender, &error));
  OK(ringmain_renderer_lane_receiver(link->renderer, CHANNEL("records"), &config, receiver, &error));
}

/* ---- misuse ------------------------------------------------------------------------------------------------------ */

static void null_is_refused(void) {
  struct link link = link_up();
  ringmain_lane_sender *sender = NULL;
  ringmain_lane_receiver *receiver = NULL;
  ringmain_lane_duplex *duplex = NULL;
  ringmain_lane_counters *counters = NULL;
  ringmain_lane_stats stats = RINGMAIN_LANE_STATS_INIT;
  uint8_t byte = 0;
  size_t len;
  void *place;
  const void *data;
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_lane_sender(NULL, 1, CHANNEL("x"), NULL, &sender, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_lane_sender(link.main, link.id, NULL, 1, NULL, &sender, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_lane_receiver(link.main, link.id, CHANNEL("x"), NULL, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_lane_duplex(link.main, link.id, CHANNEL("x"), NULL, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_latest_writer(link.main, link.id, CHANNEL("x"), NULL, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_latest_reader(link.main, link.id, CHANNEL("x"), NULL, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_renderer_lane_sender(link.renderer, CHANNEL("x"), NULL, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_renderer_lane_receiver(NULL, CHANNEL("x"), NULL, &receiver, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_renderer_lane_duplex(link.renderer, NULL, 0, NULL, &duplex, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_renderer_latest_writer(link.renderer, CHANNEL("x"), NULL, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_renderer_latest_reader(link.renderer, CHANNEL("x"), NULL, NULL, &error));
  CHECK(sender == NULL && receiver == NULL && duplex == NULL);

  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_sender_send(NULL, &byte, 1));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_sender_push(NULL, &byte, 1));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_sender_publish(NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_sender_loan(NULL, &place, &len));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_sender_commit(NULL, 1));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_receiver_try_recv(NULL, &byte, 1, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_receiver_recv_until(NULL, &byte, 1, 0, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_receiver_peek(NULL, &data, &len));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_receiver_release(NULL, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_exchange(NULL, &byte, 1, &byte, 1, 0, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_send_request(NULL, &byte, 1));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_recv_response_until(NULL, &byte, 1, 0, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_recv_request_until(NULL, &byte, 1, 0, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_recv_newest_request_until(NULL, &byte, 1, 0, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_try_recv_response(NULL, &byte, 1, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_try_recv_request(NULL, &byte, 1, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_send_response(NULL, &byte, 1));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_loan_request(NULL, &place, &len));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_loan_response(NULL, &place, &len));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_commit(NULL, 1));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_latest_writer_write(NULL, &byte, 1));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_latest_writer_loan(NULL, &place, &len));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_latest_writer_commit(NULL, 1));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_latest_reader_read(NULL, &byte, 1, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_latest_reader_read_until(NULL, &byte, 1, 0, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_latest_reader_take(NULL, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_latest_reader_copy(NULL, &byte, 1, &len));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_sender_stats(NULL, &stats));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_counters_stats(NULL, &stats));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_lane_sender_counters(NULL, &counters, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_lane_group_new(NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_lane_group_add(NULL, NULL, NULL, &error));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_group_start(NULL, 0, &byte, 1));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_lane_group_replace(NULL, 0, NULL, &duplex, &error));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_group_wait_all(NULL, 0, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_group_response(NULL, 0, &data, &len));
  CHECK(ringmain_latest_reader_data(NULL, &len) == NULL && ringmain_lane_group_duplex(NULL, 0) == NULL);
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_split(NULL, &sender, &receiver, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_split(NULL, &sender, NULL, &error));
  CHECK(ringmain_lane_sender_room(NULL) == 0 && ringmain_lane_sender_max_record(NULL) == 0);
  CHECK(ringmain_lane_receiver_max_record(NULL) == 0 && ringmain_latest_writer_max_record(NULL) == 0);
  CHECK(ringmain_latest_reader_max_record(NULL) == 0 && ringmain_lane_duplex_max_record(NULL) == 0);
  CHECK(!ringmain_lane_sender_is_open(NULL) && !ringmain_lane_receiver_is_open(NULL));
  CHECK(!ringmain_lane_duplex_is_open(NULL) && !ringmain_latest_writer_is_open(NULL));
  CHECK(!ringmain_latest_reader_is_open(NULL));
  ringmain_lane_sender_cancel(NULL);
  ringmain_lane_duplex_cancel(NULL);
  ringmain_latest_writer_cancel(NULL);
  ringmain_lane_sender_prepare(NULL);
  ringmain_lane_receiver_prepare(NULL);
  ringmain_lane_duplex_prepare(NULL);
  ringmain_latest_writer_prepare(NULL);
  ringmain_latest_reader_prepare(NULL);
  ringmain_lane_sender_free(NULL);
  ringmain_lane_receiver_free(NULL);
  ringmain_lane_duplex_free(NULL);
  ringmain_latest_writer_free(NULL);
  ringmain_latest_reader_free(NULL);
  ringmain_lane_group_free(NULL);
  ringmain_lane_counters_free(NULL);

  records(&link, 0, 1, &sender, &receiver);
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_sender_send(sender, NULL, 1));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_sender_loan(sender, NULL, &len));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_sender_stats(sender, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_receiver_peek(receiver, &data, NULL));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_lane_sender_counters(sender, NULL, &error));
  /* A record without bytes needs none. */
  GIVES(RINGMAIN_OK, ringmain_lane_sender_send(sender, NULL, 0));
  GIVES(RINGMAIN_OK, ringmain_lane_receiver_try_recv(receiver, NULL, 0, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_receiver_try_recv(receiver, NULL, 1, NULL));
  GIVES(RINGMAIN_TOO_LARGE, ringmain_lane_sender_send(sender, &byte, SIZE_MAX));
  stats.struct_size = 7;
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_lane_sender_stats(sender, &stats));
  ringmain_lane_sender_free(sender);
  ringmain_lane_receiver_free(receiver);
  part(&link);
}

static void what_cannot_be_opened_says_why(void) {
  struct link link = link_up();
  ringmain_lane_config config = RINGMAIN_LANE_CONFIG_INIT;
  ringmain_lane_sender *sender = NULL, *other = NULL;
  ringmain_lane_receiver *receiver = NULL;
  ringmain_latest_reader *reader = NULL;
  config.struct_size = 8;
  EXPECT(RINGMAIN_WRONG_SIZE, ringmain_main_lane_sender(link.main, link.id, CHANNEL("x"), &config, &sender, &error));
  config.struct_size = sizeof config;
  config.wake = 9;
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_main_lane_sender(link.main, link.id, CHANNEL("x"), &config, &sender, &error));
  config.wake = RINGMAIN_WAKE_RELAY;
  config.lock_memory = 2;
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_main_lane_sender(link.main, link.id, CHANNEL("x"), &config, &sender, &error));
  config.lock_memory = 1;
  config.align = 12;
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_main_lane_sender(link.main, link.id, CHANNEL("x"), &config, &sender, &error));
  config.align = 64;
  config.send_size = UINT64_MAX;
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_main_lane_sender(link.main, link.id, CHANNEL("x"), &config, &sender, &error));
  config.send_size = sizeof(struct note);
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_main_lane_sender(link.main, link.id, CHANNEL(""), &config, &sender, &error));
  EXPECT(RINGMAIN_INVALID_UTF8, ringmain_main_lane_sender(link.main, link.id, CHANNEL("\xff"), &config, &sender, &error));
  EXPECT(RINGMAIN_DISCONNECTED, ringmain_main_lane_sender(link.main, 77, CHANNEL("x"), &config, &sender, &error));
  CHECK(sender == NULL);
  OK(ringmain_main_lane_sender(link.main, link.id, CHANNEL("x"), &config, &sender, &error));
  EXPECT(RINGMAIN_NAME_IN_USE, ringmain_main_lane_sender(link.main, link.id, CHANNEL("x"), &config, &other, &error));
  /* Another size, bytes, another kind of lane, another direction: then it can still be opened as what it is. */
  config.recv_size = sizeof(struct note) + 8;
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_renderer_lane_receiver(link.renderer, CHANNEL("x"), &config, &receiver, &error));
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_renderer_lane_receiver(link.renderer, CHANNEL("x"), NULL, &receiver, &error));
  config.recv_size = sizeof(struct note);
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_renderer_latest_reader(link.renderer, CHANNEL("x"), &config, &reader, &error));
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_renderer_lane_sender(link.renderer, CHANNEL("x"), &config, &other, &error));
  OK(ringmain_renderer_lane_receiver(link.renderer, CHANNEL("x"), &config, &receiver, &error));
  config.open_timeout_ns = 1;
  EXPECT(RINGMAIN_TIMEOUT, ringmain_renderer_lane_sender(link.renderer, CHANNEL("y"), &config, &other, &error));
  ringmain_lane_sender_free(sender);
  ringmain_lane_receiver_free(receiver);
  part(&link);
}

static void an_end_keeps_to_one_thing_at_a_time(void) {
  struct link link = link_up();
  struct note note = {1, 60, 100}, got = {0, 0, 0};
  ringmain_lane_sender *sender;
  ringmain_lane_receiver *receiver;
  ringmain_received received;
  const void *data;
  void *place;
  size_t size;
  records(&link, sizeof note, 4, &sender, &receiver);
  /* The size of all records is that of the type. */
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_lane_sender_send(sender, &note, sizeof note - 1));
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_lane_sender_push(sender, &note, 0));
  CHECK(ringmain_lane_sender_max_record(sender) == sizeof note);
  CHECK(ringmain_lane_receiver_max_record(receiver) == sizeof note);
  /* Nothing is lent: nothing can be committed, but a batch of nothing. */
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_sender_commit(sender, sizeof note));
  GIVES(RINGMAIN_OK, ringmain_lane_sender_publish(sender));
  /* A loan. */
  GIVES(RINGMAIN_OK, ringmain_lane_sender_loan(sender, &place, &size));
  CHECK(size == sizeof note);
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_sender_loan(sender, &place, NULL));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_sender_send(sender, &note, sizeof note));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_sender_push(sender, &note, sizeof note));
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_lane_sender_commit(sender, sizeof note + 1));
  memcpy(place, &note, sizeof note);
  GIVES(RINGMAIN_OK, ringmain_lane_sender_commit(sender, sizeof note));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_sender_commit(sender, sizeof note));
  /* One that is given back. */
  GIVES(RINGMAIN_OK, ringmain_lane_sender_loan(sender, &place, &size));
  ringmain_lane_sender_cancel(sender);
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_sender_commit(sender, sizeof note));
  /* A batch. */
  GIVES(RINGMAIN_OK, ringmain_lane_sender_push(sender, &note, sizeof note));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_sender_send(sender, &note, sizeof note));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_sender_loan(sender, &place, &size));
  GIVES(RINGMAIN_OK, ringmain_lane_sender_push(sender, &note, sizeof note));
  ringmain_lane_sender_cancel(sender);
  note.key = 61;
  GIVES(RINGMAIN_OK, ringmain_lane_sender_send(sender, &note, sizeof note));
  /* What has arrived is the loan and the last one, and no number is missing. */
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_receiver_release(receiver, NULL));
  GIVES(RINGMAIN_TOO_LARGE, ringmain_lane_receiver_try_recv(receiver, &got, sizeof got - 1, NULL));
  GIVES(RINGMAIN_OK, ringmain_lane_receiver_peek(receiver, &data, &size));
  CHECK(size == sizeof note && ((const struct note *)data)->key == 60);
  GIVES(RINGMAIN_OK, ringmain_lane_receiver_release(receiver, &received));
  CHECK(received.number == 0 && received.lost == 0 && received.len == sizeof note);
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_receiver_release(receiver, NULL));
  GIVES(RINGMAIN_OK, ringmain_lane_receiver_peek(receiver, &data, &size));
  GIVES(RINGMAIN_OK, ringmain_lane_receiver_try_recv(receiver, &got, sizeof got, &received));
  CHECK(got.key == 61 && received.number == 1 && received.lost == 0);
  /* Received: not to be released any more. */
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_receiver_release(receiver, NULL));
  GIVES(RINGMAIN_EMPTY, ringmain_lane_receiver_peek(receiver, &data, &size));
  GIVES(RINGMAIN_EMPTY, ringmain_lane_receiver_try_recv(receiver, &got, sizeof got, &received));
  ringmain_lane_receiver_free(receiver);
  GIVES(RINGMAIN_DISCONNECTED, ringmain_lane_sender_send(sender, &note, sizeof note));
  GIVES(RINGMAIN_DISCONNECTED, ringmain_lane_sender_loan(sender, &place, &size));
  CHECK(!ringmain_lane_sender_is_open(sender) && ringmain_lane_sender_room(sender) == 0);
  ringmain_lane_sender_free(sender);
  part(&link);
}

/* ---- records ----------------------------------------------------------------------------------------------------- */

static void records_arrive_in_order_with_their_gaps(void) {
  struct link link = link_up();
  struct note note = {0, 0, 0}, got;
  ringmain_lane_sender *sender;
  ringmain_lane_receiver *receiver;
  ringmain_received received;
  ringmain_lane_counters *counters;
  ringmain_lane_stats stats = RINGMAIN_LANE_STATS_INIT;
  uint32_t round, at;
  records(&link, sizeof note, 4, &sender, &receiver);
  ringmain_lane_sender_prepare(sender);
  ringmain_lane_receiver_prepare(receiver);
  OK(ringmain_lane_sender_counters(sender, &counters, &error));
  for (round = 0; round < 50; round++) {
    /* By turns one by one, and as a batch that is seen all at once. */
    for (at = 0; at < 4; at++) {
      note.frame = round * 4 + at;
      if (round % 2 == 0)
        GIVES(RINGMAIN_OK, ringmain_lane_sender_send(sender, &note, sizeof note));
      else
        GIVES(RINGMAIN_OK, ringmain_lane_sender_push(sender, &note, sizeof note));
    }
    if (round % 2 == 1) {
      GIVES(RINGMAIN_EMPTY, ringmain_lane_receiver_try_recv(receiver, &got, sizeof got, NULL));
      GIVES(RINGMAIN_OK, ringmain_lane_sender_publish(sender));
    }
    CHECK(ringmain_lane_sender_room(sender) == 0);
    for (at = 0; at < 4; at++) {
      GIVES(RINGMAIN_OK, ringmain_lane_receiver_recv_until(receiver, &got, sizeof got, 0, &received));
      CHECK(got.frame == round * 4 + at && received.number == got.frame && received.lost == 0);
    }
  }
  for (at = 0; at < 7; at++)
    GIVES(at < 4 ? RINGMAIN_OK : RINGMAIN_FULL, ringmain_lane_sender_send(sender, &note, sizeof note));
  for (at = 0; at < 4; at++)
    GIVES(RINGMAIN_OK, ringmain_lane_receiver_try_recv(receiver, &got, sizeof got, &received));
  GIVES(RINGMAIN_OK, ringmain_lane_sender_send(sender, &note, sizeof note));
  GIVES(RINGMAIN_OK, ringmain_lane_receiver_try_recv(receiver, &got, sizeof got, &received));
  CHECK(received.number == 207 && received.lost == 3);
  GIVES(RINGMAIN_OK, ringmain_lane_sender_stats(sender, &stats));
  CHECK(stats.sent == 205 && stats.dropped == 3 && stats.locked == 0 && stats.is_open == 1);
  GIVES(RINGMAIN_OK, ringmain_lane_receiver_stats(receiver, &stats));
  CHECK(stats.received == 205 && stats.lost == 3 && stats.sent == 0);
  /* What was sent before the end is received first; the counters outlive their end. */
  GIVES(RINGMAIN_OK, ringmain_lane_sender_send(sender, &note, sizeof note));
  ringmain_lane_sender_free(sender);
  GIVES(RINGMAIN_OK, ringmain_lane_receiver_try_recv(receiver, &got, sizeof got, NULL));
  GIVES(RINGMAIN_DISCONNECTED, ringmain_lane_receiver_try_recv(receiver, &got, sizeof got, NULL));
  GIVES(RINGMAIN_OK, ringmain_lane_counters_stats(counters, &stats));
  CHECK(stats.sent == 206 && stats.is_open == 0);
  ringmain_lane_counters_free(counters);
  ringmain_lane_receiver_free(receiver);
  part(&link);
}

static void bytes_of_any_length_arrive_aligned(void) {
  struct link link = link_up();
  ringmain_lane_config config = config_for(0, 0, 2);
  ringmain_lane_sender *sender;
  ringmain_lane_receiver *receiver;
  ringmain_received received;
  uint8_t sent[1001], got[1001];
  const void *data;
  void *place;
  size_t len, at;
  config.max_record = 1000;
  config.align = 64;
  /* From the renderer to main, whose sizes count. */
  OK(ringmain_main_lane_receiver(link.main, link.id, CHANNEL("bytes"), &config, &receiver, &error));
  config.max_record = 5;
  OK(ringmain_renderer_lane_sender(link.renderer, CHANNEL("bytes"), &config, &sender, &error));
  CHECK(ringmain_lane_sender_max_record(sender) == 1000);
  for (at = 0; at < sizeof sent; at++)
    sent[at] = (uint8_t)(at * 7);
  GIVES(RINGMAIN_TOO_LARGE, ringmain_lane_sender_send(sender, sent, 1001));
  for (len = 0; len <= 1000; len += len < 20 ? 1 : 49) {
    memset(got, 0xaa, sizeof got);
    GIVES(RINGMAIN_OK, ringmain_lane_sender_send(sender, sent, len));
    GIVES(RINGMAIN_OK, ringmain_lane_receiver_try_recv(receiver, got, sizeof got, &received));
    CHECK(received.len == len && memcmp(sent, got, len) == 0 && got[len] == 0xaa);
  }
  GIVES(RINGMAIN_OK, ringmain_lane_sender_loan(sender, &place, &len));
  CHECK(len == 1000 && (uintptr_t)place % 64 == 0);
  memcpy(place, sent, 999);
  GIVES(RINGMAIN_TOO_LARGE, ringmain_lane_sender_commit(sender, 1001));
  GIVES(RINGMAIN_OK, ringmain_lane_sender_commit(sender, 999));
  GIVES(RINGMAIN_OK, ringmain_lane_receiver_peek(receiver, &data, &len));
  CHECK(len == 999 && (uintptr_t)data % 64 == 0 && memcmp(data, sent, 999) == 0);
  /* Closed while it is looked at, with the handles that it was opened on: it stays readable. */
  ringmain_lane_sender_free(sender);
  part(&link);
  CHECK(memcmp(data, sent, 999) == 0);
  GIVES(RINGMAIN_OK, ringmain_lane_receiver_release(receiver, NULL));
  GIVES(RINGMAIN_DISCONNECTED, ringmain_lane_receiver_peek(receiver, &data, &len));
  GIVES(RINGMAIN_DISCONNECTED, ringmain_lane_receiver_recv_until(receiver, got, sizeof got, RINGMAIN_FOREVER, NULL));
  ringmain_lane_receiver_free(receiver);
}

static void *adds_up(void *user) {
  ringmain_lane_receiver *receiver = user;
  uint64_t value, *sum = calloc(1, sizeof *sum);
  ringmain_result result;
  while ((result = ringmain_lane_receiver_recv_until(receiver, &value, sizeof value, soon(), NULL)) == RINGMAIN_OK)
    *sum += value;
  gives_at(__LINE__, result, RINGMAIN_DISCONNECTED);
  return sum;
}

static void a_wait_ends_with_a_record_the_deadline_or_the_other_end(void) {
  uint32_t wake;
  for (wake = RINGMAIN_WAKE_NEVER; wake <= RINGMAIN_WAKE_RELAY; wake++) {
    struct link link = link_up();
    ringmain_lane_config config = config_for(8, 8, 16);
    ringmain_lane_sender *sender;
    ringmain_lane_receiver *receiver;
    pthread_t thread;
    uint64_t value = 0, deadline;
    void *sum;
    config.wake = wake;
    config.spin_ns = 1;
    OK(ringmain_main_lane_sender(link.main, link.id, CHANNEL("waits"), &config, &sender, &error));
    OK(ringmain_renderer_lane_receiver(link.renderer, CHANNEL("waits"), &config, &receiver, &error));
    GIVES(RINGMAIN_TIMEOUT, ringmain_lane_receiver_recv_until(receiver, &value, 8, 0, NULL));
    GIVES(RINGMAIN_TIMEOUT, ringmain_lane_receiver_recv_until(receiver, &value, 8, ringmain_now(), NULL));
    /* Never before its time. */
    deadline = ringmain_now() + 3 * RINGMAIN_MILLISECOND;
    GIVES(RINGMAIN_TIMEOUT, ringmain_lane_receiver_recv_until(receiver, &value, 8, deadline, NULL));
    CHECK(ringmain_now() >= deadline);
    CHECK(pthread_create(&thread, NULL, adds_up, receiver) == 0);
    for (value = 1; value <= 100; value++) {
      while (ringmain_lane_sender_room(sender) == 0)
        sched_yield();
      GIVES(RINGMAIN_OK, ringmain_lane_sender_send(sender, &value, sizeof value));
    }
    ringmain_lane_sender_free(sender);
    CHECK(pthread_join(thread, &sum) == 0);
    CHECK(*(uint64_t *)sum == 5050);
    free(sum);
    ringmain_lane_receiver_free(receiver);
    part(&link);
  }
}

static void the_clock_is_the_monotonic_one(void) {
  struct timespec before, after;
  uint64_t now;
  clock_gettime(CLOCK_MONOTONIC, &before);
  now = ringmain_now();
  clock_gettime(CLOCK_MONOTONIC, &after);
  CHECK((uint64_t)before.tv_sec * RINGMAIN_SECOND + (uint64_t)before.tv_nsec <= now);
  CHECK((uint64_t)after.tv_sec * RINGMAIN_SECOND + (uint64_t)after.tv_nsec >= now);
}

/* ---- latest values ----------------------------------------------------------------------------------------------- */

static void the_newest_value_wins(void) {
  struct link link = link_up();
  ringmain_lane_config config = config_for(4 * sizeof(float), 4 * sizeof(float), 0);
  ringmain_latest_writer *writer;
  ringmain_latest_reader *reader;
  ringmain_received received;
  ringmain_lane_stats stats = RINGMAIN_LANE_STATS_INIT;
  float value[4] = {0, 0, 0, 0}, got[4] = {-1, -1, -1, -1};
  const float *data;
  void *place;
  size_t size = 0;
  int at;
  OK(ringmain_main_latest_writer(link.main, link.id, CHANNEL("level"), &config, &writer, &error));
  OK(ringmain_renderer_latest_reader(link.renderer, CHANNEL("level"), &config, &reader, &error));
  ringmain_latest_writer_prepare(writer);
  ringmain_latest_reader_prepare(reader);
  GIVES(RINGMAIN_EMPTY, ringmain_latest_reader_read(reader, got, sizeof got, NULL));
  GIVES(RINGMAIN_EMPTY, ringmain_latest_reader_copy(reader, got, sizeof got, NULL));
  CHECK(ringmain_latest_reader_data(reader, &size) == NULL && size == 0 && got[0] == -1);
  GIVES(RINGMAIN_TIMEOUT, ringmain_latest_reader_read_until(reader, got, sizeof got, 0, NULL));
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_latest_writer_write(writer, value, sizeof value - 1));
  for (at = 0; at < 10; at++) {
    value[3] = (float)at;
    GIVES(RINGMAIN_OK, ringmain_latest_writer_write(writer, value, sizeof value));
  }
  GIVES(RINGMAIN_OK, ringmain_latest_reader_read(reader, got, sizeof got, &received));
  CHECK(got[3] == 9 && received.number == 9 && received.lost == 9 && received.len == sizeof got);
  GIVES(RINGMAIN_EMPTY, ringmain_latest_reader_read(reader, got, sizeof got, &received));
  /* A loan. */
  GIVES(RINGMAIN_WRONG_STATE, ringmain_latest_writer_commit(writer, sizeof value));
  GIVES(RINGMAIN_OK, ringmain_latest_writer_loan(writer, &place, &size));
  CHECK(size == sizeof value && ringmain_latest_writer_max_record(writer) == size);
  GIVES(RINGMAIN_WRONG_STATE, ringmain_latest_writer_loan(writer, &place, &size));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_latest_writer_write(writer, value, sizeof value));
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_latest_writer_commit(writer, 3));
  value[3] = 10;
  memcpy(place, value, sizeof value);
  GIVES(RINGMAIN_OK, ringmain_latest_writer_commit(writer, sizeof value));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_latest_writer_commit(writer, sizeof value));
  GIVES(RINGMAIN_OK, ringmain_latest_writer_loan(writer, &place, &size));
  ringmain_latest_writer_cancel(writer);
  GIVES(RINGMAIN_OK, ringmain_latest_reader_read_until(reader, got, sizeof got, soon(), &received));
  CHECK(got[3] == 10 && received.number == 10 && received.lost == 0);
  /* One that is left where it lies, and outlives its writer. */
  value[3] = 11;
  GIVES(RINGMAIN_OK, ringmain_latest_writer_write(writer, value, sizeof value));
  ringmain_latest_writer_free(writer);
  GIVES(RINGMAIN_OK, ringmain_latest_reader_take(reader, NULL));
  data = ringmain_latest_reader_data(reader, &size);
  CHECK(size == sizeof value && data[3] == 11);
  GIVES(RINGMAIN_TOO_LARGE, ringmain_latest_reader_copy(reader, got, 3, NULL));
  GIVES(RINGMAIN_OK, ringmain_latest_reader_copy(reader, got, sizeof got, &size));
  CHECK(got[3] == 11 && size == sizeof got);
  GIVES(RINGMAIN_DISCONNECTED, ringmain_latest_reader_take(reader, NULL));
  CHECK(!ringmain_latest_reader_is_open(reader));
  GIVES(RINGMAIN_OK, ringmain_latest_reader_stats(reader, &stats));
  CHECK(stats.received == 3 && stats.lost == 9);
  ringmain_latest_reader_free(reader);
  part(&link);
}

static void a_forked_copy_has_no_value(void) {
  struct link link = link_up();
  ringmain_lane_config config = config_for(8, 8, 0);
  ringmain_latest_writer *writer;
  ringmain_latest_reader *reader;
  uint64_t value = 7;
  size_t size = 0;
  int status;
  pid_t copy;
  OK(ringmain_main_latest_writer(link.main, link.id, CHANNEL("level"), &config, &writer, &error));
  OK(ringmain_renderer_latest_reader(link.renderer, CHANNEL("level"), &config, &reader, &error));
  GIVES(RINGMAIN_OK, ringmain_latest_writer_write(writer, &value, sizeof value));
  GIVES(RINGMAIN_OK, ringmain_latest_reader_take(reader, NULL));
  copy = fork();
  if (copy == 0) {
    bool has_none = ringmain_latest_reader_copy(reader, &value, sizeof value, NULL) == RINGMAIN_DISCONNECTED &&
                    ringmain_latest_reader_data(reader, &size) == NULL && size == 0;
    _exit(has_none ? 0 : 1);
  }
  CHECK(copy > 0 && waitpid(copy, &status, 0) == copy && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(ringmain_latest_reader_data(reader, &size) != NULL && size == sizeof value);
  ringmain_latest_writer_free(writer);
  ringmain_latest_reader_free(reader);
  part(&link);
}

static void pictures_have_a_length_of_their_own(void) {
  struct link link = link_up();
  ringmain_lane_config config = RINGMAIN_LANE_CONFIG_INIT;
  ringmain_latest_writer *writer;
  ringmain_latest_reader *reader;
  ringmain_received received;
  char got[8];
  void *place;
  size_t size;
  config.max_record = 8u << 20;
  config.wake = RINGMAIN_WAKE_IF_PARKED;
  OK(ringmain_main_latest_reader(link.main, link.id, CHANNEL("picture"), &config, &reader, &error));
  OK(ringmain_renderer_latest_writer(link.renderer, CHANNEL("picture"), &config, &writer, &error));
  GIVES(RINGMAIN_TOO_LARGE, ringmain_latest_writer_write(writer, got, (8u << 20) + 1));
  GIVES(RINGMAIN_OK, ringmain_latest_writer_loan(writer, &place, &size));
  CHECK(size == 8u << 20 && ringmain_latest_reader_max_record(reader) == size);
  memset(place, 9, size);
  GIVES(RINGMAIN_TOO_LARGE, ringmain_latest_writer_commit(writer, size + 1));
  GIVES(RINGMAIN_OK, ringmain_latest_writer_commit(writer, size));
  /* Too long for this buffer, and taken all the same. */
  GIVES(RINGMAIN_TOO_LARGE, ringmain_latest_reader_read(reader, got, sizeof got, NULL));
  CHECK(((const uint8_t *)ringmain_latest_reader_data(reader, &size))[size - 1] == 9 && size == 8u << 20);
  GIVES(RINGMAIN_OK, ringmain_latest_writer_write(writer, "frame", 5));
  GIVES(RINGMAIN_OK, ringmain_latest_reader_read(reader, got, sizeof got, &received));
  CHECK(received.len == 5 && memcmp(got, "frame", 5) == 0);
  ringmain_latest_reader_free(reader);
  GIVES(RINGMAIN_DISCONNECTED, ringmain_latest_writer_write(writer, "frame", 5));
  ringmain_latest_writer_free(writer);
  part(&link);
}

/* ---- exchanges --------------------------------------------------------------------------------------------------- */

struct question {
  uint64_t round, value;
};

/* Answers with twice the value; the fourth of each four only when `late` says that nobody waits any more. */
struct answering {
  ringmain_lane_duplex *duplex;
  atomic_int late;
};

static void *answers(void *user) {
  struct answering *answering = user;
  ringmain_lane_duplex *duplex = answering->duplex;
  struct question question;
  uint64_t answer;
  void *place;
  for (;;) {
    ringmain_result result =
        ringmain_lane_duplex_recv_request_until(duplex, &question, sizeof question, soon(), NULL);
    if (result == RINGMAIN_DISCONNECTED)
      return NULL;
    MUST(result);
    while (question.round % 4 == 3 && atomic_load(&answering->late) <= (int)question.round)
      sched_yield();
    answer = question.value * 2;
    /* By turns copied and written in place. */
    if (question.round % 2 == 0) {
      MUST(ringmain_lane_duplex_send_response(duplex, &answer, sizeof answer));
    } else if (ringmain_lane_duplex_loan_response(duplex, &place, NULL) == RINGMAIN_OK) {
      memcpy(place, &answer, sizeof answer);
      /* Whoever asked may be gone by now. */
      result = ringmain_lane_duplex_commit(duplex, sizeof answer);
      if (result != RINGMAIN_DISCONNECTED)
        MUST(result);
    }
  }
}

static ringmain_lane_duplex *asks(struct link *link, const char *name, ringmain_lane_duplex **other) {
  ringmain_lane_config config = config_for(sizeof(struct question), 8, 4);
  ringmain_lane_duplex *duplex;
  OK(ringmain_main_lane_duplex(link->main, link->id, CHANNEL(name), &config, &duplex, &error));
  config = config_for(8, sizeof(struct question), 4);
  OK(ringmain_renderer_lane_duplex(link->renderer, CHANNEL(name), &config, other, &error));
  return duplex;
}

static void an_exchange_is_answered_and_a_late_answer_is_dropped(void) {
  struct link link = link_up();
  struct answering answering = {NULL, 0};
  ringmain_lane_duplex *duplex = asks(&link, "exchange", &answering.duplex);
  ringmain_lane_stats stats = RINGMAIN_LANE_STATS_INIT;
  ringmain_received received;
  struct question question = {0, 0};
  pthread_t thread;
  uint64_t answer = 0;
  void *place;
  size_t size;
  ringmain_lane_duplex_prepare(duplex);
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_lane_duplex_send_request(duplex, &answer, sizeof answer));
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_lane_duplex_exchange(duplex, &answer, 8, &answer, 8, 0, NULL));
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_exchange(duplex, &question, sizeof question, NULL, 8, 0, NULL));
  GIVES(RINGMAIN_TIMEOUT,
        ringmain_lane_duplex_recv_request_until(answering.duplex, &question, sizeof question, 0, NULL));
  GIVES(RINGMAIN_EMPTY, ringmain_lane_duplex_try_recv_request(answering.duplex, &question, sizeof question, NULL));
  GIVES(RINGMAIN_EMPTY, ringmain_lane_duplex_try_recv_response(duplex, &answer, sizeof answer, NULL));
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_lane_duplex_send_response(answering.duplex, &question, sizeof question));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_duplex_commit(duplex, sizeof question));
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_loan_request(duplex, &place, &size));
  CHECK(size == sizeof question);
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_duplex_loan_response(duplex, &place, &size));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_duplex_send_request(duplex, &question, sizeof question));
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_lane_duplex_commit(duplex, 1));
  ringmain_lane_duplex_cancel(duplex);
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_duplex_commit(duplex, sizeof question));
  CHECK(ringmain_lane_duplex_is_open(duplex));
  CHECK(pthread_create(&thread, NULL, answers, &answering) == 0);
  for (question.round = 0; question.round < 100; question.round++) {
    question.value = question.round + 7;
    if (question.round % 4 == 3) {
      GIVES(RINGMAIN_TIMEOUT, ringmain_lane_duplex_exchange(duplex, &question, sizeof question, &answer, sizeof answer,
                                                            ringmain_now() + RINGMAIN_MILLISECOND, NULL));
      atomic_store(&answering.late, (int)question.round + 1);
      continue;
    }
    if (question.round % 4 == 2) {
      GIVES(RINGMAIN_OK, ringmain_lane_duplex_loan_request(duplex, &place, NULL));
      memcpy(place, &question, sizeof question);
      GIVES(RINGMAIN_OK, ringmain_lane_duplex_commit(duplex, sizeof question));
      GIVES(RINGMAIN_OK,
            ringmain_lane_duplex_recv_response_until(duplex, &answer, sizeof answer, soon(), &received));
    } else {
      GIVES(RINGMAIN_OK, ringmain_lane_duplex_exchange(duplex, &question, sizeof question, &answer, sizeof answer,
                                                       soon(), &received));
    }
    CHECK(answer == question.value * 2 && received.number == question.round && received.len == sizeof answer);
  }
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_stats(duplex, &stats));
  CHECK(stats.late == 24 && stats.sent == 100);
  ringmain_lane_duplex_free(duplex);
  CHECK(pthread_join(thread, NULL) == 0);
  GIVES(RINGMAIN_DISCONNECTED, ringmain_lane_duplex_send_response(answering.duplex, &answer, sizeof answer));
  ringmain_lane_duplex_free(answering.duplex);
  part(&link);
}

static void nothing_is_received_while_a_loan_is_open(void) {
  struct link link = link_up();
  ringmain_lane_duplex *other, *duplex = asks(&link, "loans", &other);
  struct question question = {0, 1}, got = {0, 0};
  ringmain_received received;
  uint64_t answer = 5;
  void *place;
  CHECK(ringmain_lane_duplex_max_record(duplex) == 8 && ringmain_lane_duplex_max_record(other) == sizeof question);
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_send_request(duplex, &question, sizeof question));
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_try_recv_request(other, &got, sizeof got, NULL));
  question.value = 2;
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_send_request(duplex, &question, sizeof question));
  /* The answer to the first one stays its answer. */
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_loan_response(other, &place, NULL));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_duplex_try_recv_request(other, &got, sizeof got, NULL));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_duplex_recv_request_until(other, &got, sizeof got, 0, NULL));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_duplex_recv_newest_request_until(other, &got, sizeof got, 0, NULL));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_duplex_try_recv_response(other, &got, sizeof got, NULL));
  CHECK(got.value == 1);
  memcpy(place, &answer, sizeof answer);
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_commit(other, sizeof answer));
  GIVES(RINGMAIN_EMPTY, ringmain_lane_duplex_try_recv_response(duplex, &answer, sizeof answer, NULL));
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_try_recv_request(other, &got, sizeof got, NULL));
  answer = 6;
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_send_response(other, &answer, sizeof answer));
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_try_recv_response(duplex, &answer, sizeof answer, &received));
  CHECK(got.value == 2 && answer == 6 && received.number == 1);
  /* That of a request likewise; given back, it leaves the answer to the one before. */
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_send_request(duplex, &question, sizeof question));
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_try_recv_request(other, &got, sizeof got, NULL));
  answer = 7;
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_send_response(other, &answer, sizeof answer));
  answer = 0;
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_loan_request(duplex, &place, NULL));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_duplex_try_recv_response(duplex, &answer, sizeof answer, NULL));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_duplex_recv_response_until(duplex, &answer, sizeof answer, 0, NULL));
  ringmain_lane_duplex_cancel(duplex);
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_try_recv_response(duplex, &answer, sizeof answer, NULL));
  CHECK(answer == 7);
  ringmain_lane_duplex_free(duplex);
  ringmain_lane_duplex_free(other);
  part(&link);
}

static void a_peer_that_was_stopped_goes_on_with_the_newest_request(void) {
  struct link link = link_up();
  ringmain_lane_duplex *other, *duplex = asks(&link, "newest", &other);
  struct question question = {0, 0};
  uint64_t answer;
  for (question.value = 0; question.value < 4; question.value++)
    GIVES(RINGMAIN_OK, ringmain_lane_duplex_send_request(duplex, &question, sizeof question));
  GIVES(RINGMAIN_FULL, ringmain_lane_duplex_send_request(duplex, &question, sizeof question));
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_recv_newest_request_until(other, &question, sizeof question, soon(), NULL));
  CHECK(question.value == 3);
  answer = 9;
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_send_response(other, &answer, sizeof answer));
  answer = 0;
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_try_recv_response(duplex, &answer, sizeof answer, NULL));
  CHECK(answer == 9);
  ringmain_lane_duplex_free(duplex);
  ringmain_lane_duplex_free(other);
  part(&link);
}

static void a_group_waits_for_all_and_says_who_has_not_answered(void) {
  struct link link = link_up();
  ringmain_lane_group *group;
  ringmain_lane_duplex *successor, *replaced;
  struct answering others[4] = {{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
  pthread_t threads[3];
  struct question question = {0, 0};
  const void *data;
  size_t at, peer, len, answered;
  OK(ringmain_lane_group_new(&group, &error));
  GIVES(RINGMAIN_OK, ringmain_lane_group_wait_all(group, 0, &answered));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_lane_group_add(group, NULL, NULL, &error));
  for (at = 0; at < 3; at++) {
    char name[] = "peer 0";
    name[5] = (char)('0' + at);
    OK(ringmain_lane_group_add(group, asks(&link, name, &others[at].duplex), &peer, &error));
    CHECK(peer == at);
  }
  CHECK(ringmain_lane_duplex_is_open(ringmain_lane_group_duplex(group, 2)));
  CHECK(ringmain_lane_group_duplex(group, 3) == NULL);
  GIVES(RINGMAIN_NOT_REGISTERED, ringmain_lane_group_start(group, 3, &question, sizeof question));
  GIVES(RINGMAIN_NOT_REGISTERED, ringmain_lane_group_response(group, 3, &data, &len));
  GIVES(RINGMAIN_TIMEOUT, ringmain_lane_group_response(group, 0, &data, &len));
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_lane_group_start(group, 0, &question, 3));
  /* The second one is gone. */
  ringmain_lane_duplex_free(others[1].duplex);
  for (at = 0; at < 3; at += 2)
    CHECK(pthread_create(&threads[at], NULL, answers, &others[at]) == 0);
  for (question.round = 0; question.round < 40; question.round += 4) {
    for (at = 0; at < 3; at++) {
      question.value = 10 * question.round + at;
      GIVES(at == 1 ? RINGMAIN_DISCONNECTED : RINGMAIN_OK,
            ringmain_lane_group_start(group, at, &question, sizeof question));
    }
    GIVES(RINGMAIN_OK, ringmain_lane_group_wait_all(group, soon(), &answered));
    CHECK(answered == 2);
    for (at = 0; at < 3; at += 2) {
      uint64_t answer;
      GIVES(RINGMAIN_OK, ringmain_lane_group_response(group, at, &data, &len));
      CHECK(len == sizeof answer && (uintptr_t)data % 128 == 0);
      memcpy(&answer, data, sizeof answer);
      CHECK(answer == 2 * (10 * question.round + at));
    }
    GIVES(RINGMAIN_DISCONNECTED, ringmain_lane_group_response(group, 1, &data, &len));
  }
  /* Its successor takes its place. */
  successor = asks(&link, "successor", &others[3].duplex);
  EXPECT(RINGMAIN_NOT_REGISTERED, ringmain_lane_group_replace(group, 9, successor, &replaced, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_lane_group_replace(group, 1, successor, NULL, &error));
  OK(ringmain_lane_group_replace(group, 1, successor, &replaced, &error));
  CHECK(ringmain_lane_group_duplex(group, 1) == successor && replaced != successor);
  ringmain_lane_duplex_free(replaced);
  CHECK(pthread_create(&threads[1], NULL, answers, &others[3]) == 0);
  for (at = 0; at < 3; at++)
    GIVES(RINGMAIN_OK, ringmain_lane_group_start(group, at, &question, sizeof question));
  GIVES(RINGMAIN_OK, ringmain_lane_group_wait_all(group, soon(), &answered));
  CHECK(answered == 3);
  GIVES(RINGMAIN_NULL_ARGUMENT, ringmain_lane_group_response(group, 1, &data, NULL));
  GIVES(RINGMAIN_OK, ringmain_lane_group_response(group, 1, &data, &len));
  /* One that is too late; the others were not asked. */
  question.round = 3;
  GIVES(RINGMAIN_OK, ringmain_lane_group_start(group, 0, &question, sizeof question));
  GIVES(RINGMAIN_OK, ringmain_lane_group_wait_all(group, ringmain_now() + RINGMAIN_MILLISECOND, &answered));
  CHECK(answered == 0);
  GIVES(RINGMAIN_TIMEOUT, ringmain_lane_group_response(group, 0, &data, &len));
  GIVES(RINGMAIN_TIMEOUT, ringmain_lane_group_response(group, 1, &data, &len));
  ringmain_lane_group_free(group);
  atomic_store(&others[0].late, 4);
  for (at = 0; at < 3; at++)
    CHECK(pthread_join(threads[at], NULL) == 0);
  ringmain_lane_duplex_free(others[0].duplex);
  ringmain_lane_duplex_free(others[2].duplex);
  ringmain_lane_duplex_free(others[3].duplex);
  part(&link);
}

static void a_duplex_of_a_group_is_the_groups_alone(void) {
  struct link link = link_up();
  ringmain_lane_group *group, *second;
  ringmain_lane_duplex *others[2], *replaced = NULL;
  ringmain_lane_duplex *duplex = asks(&link, "member", &others[0]), *successor = asks(&link, "next", &others[1]);
  ringmain_lane_sender *sender = NULL;
  ringmain_lane_receiver *receiver = NULL;
  struct question question = {0, 0};
  const void *data;
  void *place;
  size_t answered, len;
  OK(ringmain_lane_group_new(&group, &error));
  OK(ringmain_lane_group_new(&second, &error));
  OK(ringmain_lane_group_add(group, duplex, NULL, &error));
  EXPECT(RINGMAIN_WRONG_STATE, ringmain_lane_group_add(group, duplex, NULL, &error));
  EXPECT(RINGMAIN_WRONG_STATE, ringmain_lane_group_add(second, duplex, NULL, &error));
  EXPECT(RINGMAIN_WRONG_STATE, ringmain_lane_group_replace(group, 0, duplex, &replaced, &error));
  EXPECT(RINGMAIN_WRONG_STATE, ringmain_lane_duplex_split(duplex, &sender, &receiver, &error));
  CHECK(replaced == NULL && sender == NULL && receiver == NULL);
  ringmain_lane_duplex_free(duplex);
  CHECK(ringmain_lane_duplex_is_open(duplex));
  /* Why a peer was not asked is what this round has brought. */
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_lane_group_start(group, 0, &question, 3));
  GIVES(RINGMAIN_OK, ringmain_lane_group_wait_all(group, 0, &answered));
  GIVES(RINGMAIN_WRONG_SIZE, ringmain_lane_group_response(group, 0, &data, &len));
  GIVES(RINGMAIN_OK, ringmain_lane_duplex_loan_request(ringmain_lane_group_duplex(group, 0), &place, NULL));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_group_start(group, 0, &question, sizeof question));
  GIVES(RINGMAIN_OK, ringmain_lane_group_wait_all(group, 0, &answered));
  GIVES(RINGMAIN_WRONG_STATE, ringmain_lane_group_response(group, 0, &data, &len));
  ringmain_lane_duplex_cancel(duplex);
  GIVES(RINGMAIN_OK, ringmain_lane_group_wait_all(group, 0, &answered));
  GIVES(RINGMAIN_TIMEOUT, ringmain_lane_group_response(group, 0, &data, &len));
  /* The one that was replaced is the caller's: to be added elsewhere. */
  OK(ringmain_lane_group_replace(group, 0, successor, &replaced, &error));
  CHECK(replaced == duplex);
  OK(ringmain_lane_group_add(second, replaced, NULL, &error));
  EXPECT(RINGMAIN_WRONG_STATE, ringmain_lane_group_add(second, successor, NULL, &error));
  ringmain_lane_group_free(group);
  CHECK(!ringmain_lane_duplex_is_open(others[1]) && ringmain_lane_duplex_is_open(others[0]));
  ringmain_lane_group_free(second);
  CHECK(!ringmain_lane_duplex_is_open(others[0]));
  ringmain_lane_duplex_free(others[0]);
  ringmain_lane_duplex_free(others[1]);
  part(&link);
}

static void *sends_on_its_half(void *user) {
  uint64_t value;
  for (value = 0; value < 1000; value++) {
    while (ringmain_lane_sender_room(user) == 0)
      sched_yield();
    MUST(ringmain_lane_sender_send(user, &value, sizeof value));
  }
  return NULL;
}

static void the_halves_of_a_duplex_may_be_on_two_threads(void) {
  struct link link = link_up();
  ringmain_lane_config config = config_for(8, 8, 16);
  ringmain_lane_duplex *ends[2];
  ringmain_lane_sender *senders[2];
  ringmain_lane_receiver *receivers[2];
  pthread_t threads[2];
  uint64_t value, got;
  int at;
  OK(ringmain_main_lane_duplex(link.main, link.id, CHANNEL("halves"), &config, &ends[0], &error));
  OK(ringmain_renderer_lane_duplex(link.renderer, CHANNEL("halves"), &config, &ends[1], &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_lane_duplex_split(ends[0], NULL, &receivers[0], &error));
  for (at = 0; at < 2; at++) {
    OK(ringmain_lane_duplex_split(ends[at], &senders[at], &receivers[at], &error));
    CHECK(pthread_create(&threads[at], NULL, sends_on_its_half, senders[at]) == 0);
  }
  for (value = 0; value < 1000; value++)
    for (at = 0; at < 2; at++) {
      GIVES(RINGMAIN_OK, ringmain_lane_receiver_recv_until(receivers[at], &got, sizeof got, soon(), NULL));
      CHECK(got == value);
    }
  for (at = 0; at < 2; at++) {
    CHECK(pthread_join(threads[at], NULL) == 0);
    ringmain_lane_sender_free(senders[at]);
    ringmain_lane_receiver_free(receivers[at]);
  }
  part(&link);
}

#if defined(__SANITIZE_ADDRESS__)
static pthread_t counted;
static int counts, allocations;

static void allocated(const volatile void *memory, size_t size) {
  (void)memory, (void)size;
  allocations += counts && pthread_equal(counted, pthread_self());
}

static void freed(const volatile void *memory) { allocated(memory, 0); }

/* On this side of the C functions; tests/realtime.rs holds the rest, and system calls, page faults and panics. */
static void what_is_said_to_be_real_time_safe_allocates_and_frees_nothing(void) {
  struct link link = link_up();
  ringmain_lane_config config = config_for(8, 8, 4);
  ringmain_lane_sender *sender;
  ringmain_lane_receiver *receiver;
  ringmain_latest_writer *writer;
  ringmain_latest_reader *reader;
  ringmain_lane_duplex *other, *duplex = asks(&link, "quiet", &other);
  ringmain_lane_group *group;
  ringmain_lane_counters *counters;
  ringmain_lane_stats stats = RINGMAIN_LANE_STATS_INIT, short_stats = RINGMAIN_LANE_STATS_INIT;
  struct question question = {0, 0};
  uint64_t value = 7;
  const void *data;
  void *place;
  size_t len;
  int round, oks = 0, others = 0;
  short_stats.struct_size = 1;
  records(&link, 8, 4, &sender, &receiver);
  OK(ringmain_main_latest_writer(link.main, link.id, CHANNEL("value"), &config, &writer, &error));
  OK(ringmain_renderer_latest_reader(link.renderer, CHANNEL("value"), &config, &reader, &error));
  OK(ringmain_lane_sender_counters(sender, &counters, &error));
  OK(ringmain_lane_group_new(&group, &error));
  OK(ringmain_lane_group_add(group, duplex, NULL, &error));
  CHECK(__sanitizer_install_malloc_and_free_hooks(allocated, freed) > 0);
  counted = pthread_self();
  counts = 1;
#define COUNT(call) ((call) == RINGMAIN_OK ? oks++ : others++)
  for (round = 0; round < 20; round++) {
    /* The last ones are after the end of the other side. */
    if (round == 15) {
      counts = 0;
      ringmain_lane_receiver_free(receiver);
      ringmain_latest_writer_free(writer);
      ringmain_lane_duplex_free(other);
      receiver = NULL, writer = NULL, other = NULL;
      counts = 1;
    }
    COUNT(ringmain_lane_sender_send(sender, &value, 8));
    COUNT(ringmain_lane_sender_send(sender, &value, 7));
    COUNT(ringmain_lane_sender_push(sender, &value, 8));
    COUNT(ringmain_lane_sender_push(sender, &value, 8));
    COUNT(ringmain_lane_sender_loan(sender, &place, &len));
    ringmain_lane_sender_cancel(sender);
    COUNT(ringmain_lane_sender_push(sender, &value, 8));
    COUNT(ringmain_lane_sender_publish(sender));
    COUNT(ringmain_lane_sender_loan(sender, &place, &len));
    COUNT(ringmain_lane_sender_commit(sender, 8));
    COUNT(ringmain_lane_sender_commit(sender, 8));
    len += ringmain_lane_sender_room(sender) + ringmain_lane_sender_max_record(sender);
    COUNT(ringmain_lane_receiver_try_recv(receiver, &value, 8, NULL));
    COUNT(ringmain_lane_receiver_try_recv(receiver, &value, 3, NULL));
    COUNT(ringmain_lane_receiver_peek(receiver, &data, &len));
    COUNT(ringmain_lane_receiver_release(receiver, NULL));
    /* It leaves records behind: the lane gets full. */
    COUNT(ringmain_latest_writer_write(writer, &value, 8));
    COUNT(ringmain_latest_reader_read(reader, &value, 8, NULL));
    COUNT(ringmain_latest_writer_loan(writer, &place, &len));
    COUNT(ringmain_latest_writer_commit(writer, 8));
    COUNT(ringmain_latest_reader_take(reader, NULL));
    COUNT(ringmain_latest_reader_take(reader, NULL));
    COUNT(ringmain_latest_reader_copy(reader, &value, 8, NULL));
    data = ringmain_latest_reader_data(reader, &len);
    COUNT(ringmain_lane_duplex_send_request(duplex, &question, sizeof question));
    COUNT(ringmain_lane_duplex_try_recv_request(other, &question, sizeof question, NULL));
    COUNT(ringmain_lane_duplex_send_response(other, &value, 8));
    COUNT(ringmain_lane_duplex_try_recv_response(duplex, &value, 8, NULL));
    COUNT(ringmain_lane_group_start(group, 0, &question, sizeof question));
    COUNT(ringmain_lane_duplex_try_recv_request(other, &question, sizeof question, NULL));
    COUNT(ringmain_lane_duplex_loan_response(other, &place, &len));
    COUNT(ringmain_lane_duplex_commit(other, 8));
    /* These do not promise it, but need it: one answer is there, one deadline is over. */
    COUNT(ringmain_lane_group_wait_all(group, 0, NULL));
    COUNT(ringmain_lane_group_response(group, 0, &data, &len));
    COUNT(ringmain_lane_sender_stats(sender, &stats));
    COUNT(ringmain_lane_sender_stats(sender, &short_stats));
    COUNT(ringmain_lane_counters_stats(counters, &stats));
    len += ringmain_lane_sender_is_open(sender) + ringmain_now() % 2;
  }
  counts = 0;
  CHECK(allocations == 0);
  CHECK(oks > 300 && others > 100);
  ringmain_lane_group_free(group);
  ringmain_lane_counters_free(counters);
  ringmain_lane_sender_free(sender);
  ringmain_latest_reader_free(reader);
  part(&link);
}
#endif

static void locked_memory_is_reported(void) {
  struct link link = link_up();
  ringmain_lane_config config = config_for(8, 8, 4);
  ringmain_lane_stats stats = RINGMAIN_LANE_STATS_INIT;
  ringmain_lane_sender *sender;
  config.lock_memory = 1;
  OK(ringmain_main_lane_sender(link.main, link.id, CHANNEL("locked"), &config, &sender, &error));
  GIVES(RINGMAIN_OK, ringmain_lane_sender_stats(sender, &stats));
  CHECK(stats.locked == 1 || stats.locked == 2);
  ringmain_lane_sender_free(sender);
  part(&link);
}

int main(void) {
  null_is_refused();
  what_cannot_be_opened_says_why();
  an_end_keeps_to_one_thing_at_a_time();
  records_arrive_in_order_with_their_gaps();
  bytes_of_any_length_arrive_aligned();
  a_wait_ends_with_a_record_the_deadline_or_the_other_end();
  the_clock_is_the_monotonic_one();
  the_newest_value_wins();
  a_forked_copy_has_no_value();
  pictures_have_a_length_of_their_own();
  an_exchange_is_answered_and_a_late_answer_is_dropped();
  nothing_is_received_while_a_loan_is_open();
  a_peer_that_was_stopped_goes_on_with_the_newest_request();
  a_group_waits_for_all_and_says_who_has_not_answered();
  a_duplex_of_a_group_is_the_groups_alone();
  the_halves_of_a_duplex_may_be_on_two_threads();
  locked_memory_is_reported();
#if defined(__SANITIZE_ADDRESS__)
  what_is_said_to_be_real_time_safe_allocates_and_frees_nothing();
#endif
  printf("%d checks of lanes\n", checks);
  return 0;
}
