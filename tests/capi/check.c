/* What the C API promises, held by a C program: run by .ci/capi under AddressSanitizer and UBSan. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pair {
  ringmain_main *main;
  ringmain_renderer *renderer;
  struct pollfd fds[2];
};

static struct pair pair_up(void) {
  struct pair pair = {NULL, NULL, {{-1, POLLIN, 0}, {-1, POLLIN, 0}}};
  OK(ringmain_main_new(NULL, &pair.main, &error));
  OK(ringmain_renderer_attach(NULL, pair.main, &pair.renderer, &error));
  OK(ringmain_main_fd(pair.main, &pair.fds[0].fd, &error));
  OK(ringmain_renderer_fd(pair.renderer, &pair.fds[1].fd, &error));
  return pair;
}

static void part(struct pair *pair) {
  ringmain_renderer_free(pair->renderer);
  ringmain_main_free(pair->main);
}

/* Sleeps on both descriptors until one side has something, and lets both run. */
static void pump(struct pair *pair) {
  CHECK(poll(pair->fds, 2, 20000) > 0);
  OK(ringmain_main_poll(pair->main, 0, 0, NULL, NULL, &error));
  OK(ringmain_renderer_poll(pair->renderer, 0, 0, NULL, NULL, &error));
}

static ringmain_event *pull_main(ringmain_main *ipc_main) {
  ringmain_event *event = NULL;
  while (event == NULL) {
    OK(ringmain_main_wait(ipc_main, PATIENCE, &error));
    OK(ringmain_main_next_event(ipc_main, &event, &error));
  }
  return event;
}

static ringmain_event *pull_renderer(ringmain_renderer *renderer) {
  ringmain_event *event = NULL;
  while (event == NULL) {
    OK(ringmain_renderer_wait(renderer, PATIENCE, &error));
    OK(ringmain_renderer_next_event(renderer, &event, &error));
  }
  return event;
}

static ringmain_event_info info_of(const ringmain_event *event) {
  ringmain_event_info info = RINGMAIN_EVENT_INFO_INIT;
  OK(ringmain_event_get(event, &info, &error));
  return info;
}

static bool json_is(const ringmain_event *event, const char *expected) {
  const char *json;
  size_t len;
  OK(ringmain_event_json(event, &json, &len, &error));
  return len == strlen(expected) && memcmp(json, expected, len) == 0;
}

/* Counts what it is given, and when it is destroyed. */
struct counter {
  int runs;
  int destroyed;
};

static void count(void *user, ringmain_event *event) {
  (void)event;
  ((struct counter *)user)->runs++;
}

static void count_destroy(void *user) { ((struct counter *)user)->destroyed++; }

/* ---- misuse ------------------------------------------------------------------------------------------------------ */

static void null_is_refused(void) {
  struct pair pair = pair_up();
  ringmain_main *m = pair.main;
  ringmain_renderer *r = pair.renderer;
  ringmain_bytes bytes = RINGMAIN_BYTES_INIT;
  ringmain_event *event = NULL;
  int fd;
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_new(NULL, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_renderer_connect(NULL, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_renderer_attach(NULL, NULL, &r, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_listen(NULL, "x", 1, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_listen(m, NULL, 1, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_spawn(m, NULL, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_send(NULL, 1, 0, "x", 1, NOTHING, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_send(m, 1, 0, NULL, RINGMAIN_TERMINATED, NOTHING, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_send(m, 1, 0, "x", 1, RINGMAIN_JSON, NULL, 7, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_on(NULL, "x", 1, 0, NULL, NULL, NULL, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_poll(NULL, 0, 0, NULL, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_next_event(NULL, &event, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_next_event(m, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_wait(NULL, 0, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_fd(NULL, &fd, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_main_fd(m, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_renderer_invoke(NULL, "x", 1, NOTHING, 0, &bytes, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_event_reply(NULL, JSON("1"), &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_event_get(NULL, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_json_to_msgpack("1", 1, NULL, &error));
  EXPECT(RINGMAIN_NULL_ARGUMENT, ringmain_json_to_msgpack(NULL, RINGMAIN_TERMINATED, &bytes, &error));
  /* Without an error to write to, too. */
  CHECK(ringmain_main_listen(NULL, "x", 1, NULL) == RINGMAIN_NULL_ARGUMENT);
  /* What cannot fail does no harm. */
  ringmain_main_free(NULL);
  ringmain_renderer_free(NULL);
  ringmain_event_free(NULL);
  ringmain_error_free(NULL);
  ringmain_bytes_free(NULL);
  CHECK(ringmain_event_retain(NULL) == NULL);
  CHECK(ringmain_event_error(NULL) == NULL);
  CHECK(!ringmain_event_is_cancelled(NULL));
  CHECK(ringmain_error_message(NULL, NULL, 0) == 0);
  CHECK(ringmain_error_result(NULL) == RINGMAIN_OK);
  CHECK(ringmain_renderer_id(NULL) == 0 && ringmain_renderer_frame_id(NULL) == 0);
  CHECK(!ringmain_renderer_is_connected(NULL));
  CHECK(ringmain_main_renderers(NULL, NULL, 0) == 0);
  CHECK(ringmain_main_next_deadline(NULL) == RINGMAIN_FOREVER);
  CHECK(strcmp(ringmain_result_text(12345), "unknown result") == 0);
  part(&pair);
}

static void misuse_is_an_error_code(void) {
  struct pair pair = pair_up();
  ringmain_renderer *r = pair.renderer;
  ringmain_main_config config = RINGMAIN_MAIN_CONFIG_INIT;
  ringmain_main *other = NULL;
  ringmain_event_info info = {0};
  ringmain_stats stats = RINGMAIN_STATS_INIT;
  ringmain_bytes bytes = RINGMAIN_BYTES_INIT;
  uint64_t big[64] = {0};
  static char long_name[70000];
  static const uint8_t binary[] = {0x91, 0xc4, 0x01, 0x00};
  uint64_t id;
  int at;

  config.struct_size = 3;
  EXPECT(RINGMAIN_WRONG_SIZE, ringmain_main_new(&config, &other, &error));
  config.struct_size = sizeof config;
  config.ring_size = 3000;
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_main_new(&config, &other, &error));
  config.ring_size = 0;
  config.dispatch = 7;
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_main_new(&config, &other, &error));
  CHECK(other == NULL);
  /* A struct of a later version whose further fields are zero is taken, one that sets them is not. */
  config.dispatch = 0;
  memcpy(big, &config, sizeof config);
  big[0] = sizeof big;
  OK(ringmain_main_new((const ringmain_main_config *)(const void *)big, &other, &error));
  ringmain_main_free(other);
  big[63] = 1;
  EXPECT(RINGMAIN_WRONG_SIZE, ringmain_main_new((const ringmain_main_config *)(const void *)big, &other, &error));
  EXPECT(RINGMAIN_WRONG_SIZE, ringmain_event_get(NULL, &info, NULL) == RINGMAIN_NULL_ARGUMENT
                                  ? ringmain_renderer_stats(r, (stats.struct_size = 1, &stats), &error)
                                  : RINGMAIN_OK);

  for (at = 0; at < (int)sizeof long_name - 1; at++)
    long_name[at] = 'x';
  EXPECT(RINGMAIN_TOO_LARGE, ringmain_renderer_send(r, CHANNEL(long_name), NOTHING, &error));
  EXPECT(RINGMAIN_INVALID_UTF8, ringmain_renderer_send(r, CHANNEL("\xff"), NOTHING, &error));
  EXPECT(RINGMAIN_INVALID_VALUE, ringmain_renderer_send(r, CHANNEL("x"), JSON("[1"), &error));
  EXPECT(RINGMAIN_INVALID_VALUE, ringmain_renderer_send(r, CHANNEL("x"), JSON("1"), &error));
  EXPECT(RINGMAIN_INVALID_VALUE, ringmain_renderer_send(r, CHANNEL("x"), RINGMAIN_MSGPACK, binary, 4, &error));
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_renderer_send(r, CHANNEL("x"), 9, binary, 4, &error));
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_renderer_on(r, CHANNEL("x"), 2, count, NULL, NULL, NULL, &error));
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_renderer_watch(r, 0, count, NULL, NULL, NULL, &error));
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_main_invoke(pair.main, 1, 0, CHANNEL("x"), NOTHING, RINGMAIN_FOREVER, &bytes,
                                                       &error));
  EXPECT(RINGMAIN_DISCONNECTED, ringmain_main_send(pair.main, 77, 0, CHANNEL("x"), NOTHING, &error));
  EXPECT(RINGMAIN_DISCONNECTED, ringmain_main_send(pair.main, 1, 77, CHANNEL("x"), NOTHING, &error));
  EXPECT(RINGMAIN_NOT_REGISTERED, ringmain_renderer_remove(r, 99, &error));
  OK(ringmain_renderer_handle(r, CHANNEL("x"), 0, NULL, NULL, NULL, &id, &error));
  EXPECT(RINGMAIN_DUPLICATE_HANDLER, ringmain_renderer_handle(r, CHANNEL("x"), 0, NULL, NULL, NULL, NULL, &error));
  OK(ringmain_renderer_remove(r, id, &error));
  EXPECT(RINGMAIN_NOT_REGISTERED, ringmain_renderer_remove(r, id, &error));
  OK(ringmain_renderer_handle(r, CHANNEL("x"), 0, NULL, NULL, NULL, NULL, &error));
  EXPECT(RINGMAIN_NOT_A_RENDERER, ringmain_renderer_connect(NULL, &r, &error));
  part(&pair);
}

static void events_are_pulled_by_who_dispatches(void) {
  ringmain_main_config config = RINGMAIN_MAIN_CONFIG_INIT;
  ringmain_main *m;
  config.dispatch = RINGMAIN_DISPATCH_THREADS;
  OK(ringmain_main_new(&config, &m, &error));
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_main_on(m, CHANNEL("x"), 0, NULL, NULL, NULL, NULL, &error));
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_main_poll(m, 0, 0, NULL, NULL, &error));
  OK(ringmain_main_on(m, CHANNEL("x"), 0, count, NULL, NULL, NULL, &error));
  ringmain_main_free(m);
}

static void json_and_messagepack_are_converted(void) {
  static const uint8_t packed[] = {0x92, 0x01, 0xa2, 0xc3, 0xbc};
  ringmain_bytes bytes = RINGMAIN_BYTES_INIT, text = RINGMAIN_BYTES_INIT;
  OK(ringmain_json_to_msgpack(CHANNEL("[1, \"\xc3\xbc\"]"), &bytes, &error));
  CHECK(bytes.len == sizeof packed && memcmp(bytes.data, packed, bytes.len) == 0);
  OK(ringmain_msgpack_to_json(bytes.data, bytes.len, &text, &error));
  CHECK(text.len == 8 && memcmp(text.data, "[1,\"\xc3\xbc\"]", 8) == 0);
  EXPECT(RINGMAIN_INVALID_VALUE, ringmain_msgpack_to_json(packed, 3, &text, &error));
  ringmain_bytes_free(&bytes);
  ringmain_bytes_free(&bytes);
  ringmain_bytes_free(&text);
}

/* ---- messages and calls ------------------------------------------------------------------------------------------ */

static void messages_are_pulled_and_answered(void) {
  struct pair pair = pair_up();
  ringmain_event *event;
  ringmain_event_info info;
  uint64_t id;
  OK(ringmain_main_on(pair.main, CHANNEL("hello"), 0, NULL, NULL, NULL, &id, &error));
  OK(ringmain_renderer_on(pair.renderer, CHANNEL("back"), 0, NULL, NULL, NULL, NULL, &error));
  OK(ringmain_renderer_send(pair.renderer, CHANNEL("hello"), JSON("[1, {\"a\": [true, null]}]"), &error));
  event = pull_main(pair.main);
  info = info_of(event);
  CHECK(info.event_type == RINGMAIN_EVENT_MESSAGE && info.renderer == ringmain_renderer_id(pair.renderer));
  CHECK(info.renderer_frame == RINGMAIN_MAIN_FRAME && info.registration == id);
  CHECK(info.channel_len == 5 && memcmp(info.channel, "hello", 5) == 0);
  CHECK(info.payload_len > 0 && info.payload[0] == 0x92);
  CHECK(json_is(event, "[1,{\"a\":[true,null]}]"));
  EXPECT(RINGMAIN_WRONG_EVENT, ringmain_event_reply(event, JSON("1"), &error));
  EXPECT(RINGMAIN_WRONG_EVENT, ringmain_event_reply_error(event, CHANNEL("no"), NULL, 0, NULL, 0, &error));
  OK(ringmain_event_send(event, CHANNEL("back"), NOTHING, &error));
  ringmain_event_free(event);
  event = pull_renderer(pair.renderer);
  info = info_of(event);
  CHECK(info.renderer == 0 && info.frame == RINGMAIN_MAIN_FRAME && json_is(event, "[]"));
  ringmain_event_free(event);
  /* Nothing is left: null, and the descriptor says so. */
  OK(ringmain_renderer_next_event(pair.renderer, &event, &error));
  CHECK(event == NULL);
  CHECK(poll(&pair.fds[1], 1, 0) == 0);
  EXPECT(RINGMAIN_TIMEOUT, ringmain_renderer_wait(pair.renderer, 0, &error));
  part(&pair);
}

static void calls_are_answered_later_once_or_never(void) {
  struct pair pair = pair_up();
  ringmain_event *event, *kept, *reply;
  ringmain_event_info info;
  char text[64];
  uint64_t call;
  OK(ringmain_main_handle(pair.main, CHANNEL("add"), 0, NULL, NULL, NULL, NULL, &error));

  /* Later, when others were pulled; the first answer counts. */
  OK(ringmain_renderer_invoke_async(pair.renderer, CHANNEL("add"), JSON("[2, 3]"), PATIENCE, NULL, NULL, &call, &error));
  event = pull_main(pair.main);
  CHECK(info_of(event).event_type == RINGMAIN_EVENT_CALL && json_is(event, "[2,3]"));
  kept = ringmain_event_retain(event);
  ringmain_event_free(event);
  CHECK(!ringmain_event_is_cancelled(kept));
  EXPECT(RINGMAIN_INVALID_VALUE, ringmain_event_reply(kept, JSON("{"), &error));
  EXPECT(RINGMAIN_WRONG_EVENT, ringmain_event_send(kept, CHANNEL("x"), NOTHING, &error));
  OK(ringmain_event_reply(kept, JSON("5"), &error));
  OK(ringmain_event_reply(kept, JSON("6"), &error));
  ringmain_event_free(kept);
  reply = pull_renderer(pair.renderer);
  info = info_of(reply);
  CHECK(info.event_type == RINGMAIN_EVENT_REPLY && info.call == call && info.result == RINGMAIN_OK);
  CHECK(json_is(reply, "5") && ringmain_event_error(reply) == NULL);
  ringmain_event_free(reply);

  /* With a failure. */
  OK(ringmain_renderer_invoke_async(pair.renderer, CHANNEL("add"), NOTHING, PATIENCE, NULL, NULL, &call, &error));
  event = pull_main(pair.main);
  OK(ringmain_event_reply_error(event, CHANNEL("too much"), CHANNEL("RangeError"), CHANNEL("ERANGE"), &error));
  ringmain_event_free(event);
  reply = pull_renderer(pair.renderer);
  CHECK(info_of(reply).result == RINGMAIN_HANDLER);
  CHECK(ringmain_error_detail(ringmain_event_error(reply), RINGMAIN_DETAIL_CODE, text, sizeof text) == 6);
  CHECK(strcmp(text, "ERANGE") == 0);
  ringmain_error_detail(ringmain_event_error(reply), RINGMAIN_DETAIL_MESSAGE, text, sizeof text);
  CHECK(strcmp(text, "too much") == 0);
  ringmain_error_detail(ringmain_event_error(reply), RINGMAIN_DETAIL_NAME, text, 6);
  CHECK(strcmp(text, "Range") == 0);
  CHECK(ringmain_error_detail(ringmain_event_error(reply), 99, text, sizeof text) == 0);
  ringmain_event_free(reply);

  /* Never. */
  OK(ringmain_renderer_invoke_async(pair.renderer, CHANNEL("add"), NOTHING, PATIENCE, NULL, NULL, &call, &error));
  ringmain_event_free(pull_main(pair.main));
  reply = pull_renderer(pair.renderer);
  CHECK(info_of(reply).result == RINGMAIN_REPLY_NEVER_SENT);
  ringmain_event_free(reply);

  /* By nobody. */
  OK(ringmain_renderer_invoke_async(pair.renderer, CHANNEL("?"), NOTHING, PATIENCE, NULL, NULL, &call, &error));
  OK(ringmain_main_wait(pair.main, PATIENCE, &error));
  OK(ringmain_main_poll(pair.main, 0, 0, NULL, NULL, &error));
  reply = pull_renderer(pair.renderer);
  CHECK(info_of(reply).result == RINGMAIN_NO_HANDLER);
  ringmain_event_free(reply);

  /* Its caller gives up. */
  OK(ringmain_renderer_invoke_async(pair.renderer, CHANNEL("add"), NOTHING, 1, NULL, NULL, &call, &error));
  reply = pull_renderer(pair.renderer);
  CHECK(info_of(reply).result == RINGMAIN_TIMEOUT);
  ringmain_event_free(reply);
  part(&pair);
}

static void a_pending_call_is_told_of_the_end(void) {
  struct pair pair = pair_up();
  struct counter counter = {0, 0};
  OK(ringmain_main_handle(pair.main, CHANNEL("slow"), 0, NULL, NULL, NULL, NULL, &error));
  OK(ringmain_renderer_invoke_async(pair.renderer, CHANNEL("slow"), NOTHING, RINGMAIN_FOREVER, count, &counter, NULL,
                                    &error));
  CHECK(counter.runs == 0);
  ringmain_renderer_free(pair.renderer);
  CHECK(counter.runs == 1);
  ringmain_main_free(pair.main);
  CHECK(counter.runs == 1);
}

/* ---- registrations ----------------------------------------------------------------------------------------------- */

static void registrations_end_with_their_user(void) {
  struct pair pair = pair_up();
  struct counter always = {0, 0}, once = {0, 0}, refused = {0, 0}, left = {0, 0};
  uint64_t id, once_id;
  OK(ringmain_main_on(pair.main, CHANNEL("x"), 0, count, &always, count_destroy, &id, &error));
  OK(ringmain_main_on(pair.main, CHANNEL("x"), RINGMAIN_ONCE, count, &once, count_destroy, &once_id, &error));
  OK(ringmain_main_handle(pair.main, CHANNEL("x"), 0, count, &left, count_destroy, NULL, &error));
  EXPECT(RINGMAIN_DUPLICATE_HANDLER,
         ringmain_main_handle(pair.main, CHANNEL("x"), 0, count, &refused, count_destroy, NULL, &error));
  CHECK(refused.destroyed == 0);
  OK(ringmain_renderer_send(pair.renderer, CHANNEL("x"), NOTHING, &error));
  OK(ringmain_renderer_send(pair.renderer, CHANNEL("x"), NOTHING, &error));
  while (always.runs < 2)
    pump(&pair);
  CHECK(once.runs == 1 && once.destroyed == 1 && always.destroyed == 0);
  EXPECT(RINGMAIN_NOT_REGISTERED, ringmain_main_remove(pair.main, once_id, &error));
  /* What has been sent already finds nobody. */
  OK(ringmain_renderer_send(pair.renderer, CHANNEL("x"), NOTHING, &error));
  OK(ringmain_main_remove(pair.main, id, &error));
  CHECK(always.destroyed == 1);
  pump(&pair);
  CHECK(always.runs == 2 && left.destroyed == 0);
  part(&pair);
  CHECK(left.destroyed == 1 && always.destroyed == 1 && once.destroyed == 1);
}

static void removed_events_are_not_pulled(void) {
  struct pair pair = pair_up();
  ringmain_event *event;
  uint64_t id;
  OK(ringmain_main_on(pair.main, CHANNEL("x"), 0, NULL, NULL, NULL, &id, &error));
  OK(ringmain_renderer_send(pair.renderer, CHANNEL("x"), NOTHING, &error));
  OK(ringmain_main_wait(pair.main, PATIENCE, &error));
  OK(ringmain_main_poll(pair.main, 0, 0, NULL, NULL, &error));
  OK(ringmain_main_remove(pair.main, id, &error));
  OK(ringmain_main_next_event(pair.main, &event, &error));
  CHECK(event == NULL);
  part(&pair);
}

struct itself {
  struct pair *pair;
  uint64_t id;
  int runs;
  int destroyed;
};

static void removes_itself(void *user, ringmain_event *event) {
  struct itself *itself = user;
  (void)event;
  itself->runs++;
  OK(ringmain_main_remove(itself->pair->main, itself->id, &error));
  /* Still running: not yet. */
  CHECK(itself->destroyed == 0);
  EXPECT(RINGMAIN_BUSY, ringmain_main_poll(itself->pair->main, 0, 0, NULL, NULL, &error));
}

static void itself_destroyed(void *user) { ((struct itself *)user)->destroyed++; }

static void a_callback_removes_itself(void) {
  struct pair pair = pair_up();
  struct itself itself = {&pair, 0, 0, 0};
  OK(ringmain_main_on(pair.main, CHANNEL("x"), 0, removes_itself, &itself, itself_destroyed, &itself.id, &error));
  OK(ringmain_renderer_send(pair.renderer, CHANNEL("x"), NOTHING, &error));
  OK(ringmain_renderer_send(pair.renderer, CHANNEL("x"), NOTHING, &error));
  while (itself.runs == 0)
    pump(&pair);
  CHECK(itself.runs == 1 && itself.destroyed == 1);
  part(&pair);
  CHECK(itself.runs == 1 && itself.destroyed == 1);
}

static void frees_its_renderer(void *user, ringmain_event *event) {
  struct pair *pair = user;
  (void)event;
  ringmain_renderer_free(pair->renderer);
  pair->renderer = NULL;
}

static void a_callback_frees_its_handle(void) {
  struct pair pair = pair_up();
  ringmain_renderer *renderer = pair.renderer;
  OK(ringmain_renderer_on(renderer, CHANNEL("end"), 0, frees_its_renderer, &pair, NULL, NULL, &error));
  OK(ringmain_main_send(pair.main, ringmain_renderer_id(renderer), 0, CHANNEL("end"), NOTHING, &error));
  while (pair.renderer != NULL) {
    OK(ringmain_renderer_wait(renderer, PATIENCE, &error));
    OK(ringmain_renderer_poll(renderer, 1, 0, NULL, NULL, &error));
  }
  ringmain_main_free(pair.main);
}

/* A callback that runs while another thread removes it. */
struct barrier {
  ringmain_main *main;
  uint64_t id;
  pthread_t remover;
  atomic_int removing, ended, destroyed;
  int ended_at_return, destroyed_at_return;
};

static void *remove_it(void *user) {
  struct barrier *barrier = user;
  ringmain_error *none = NULL;
  atomic_store(&barrier->removing, 1);
  if (ringmain_main_remove(barrier->main, barrier->id, &none) != RINGMAIN_OK)
    abort();
  barrier->ended_at_return = atomic_load(&barrier->ended);
  barrier->destroyed_at_return = atomic_load(&barrier->destroyed);
  return NULL;
}

static void is_removed_meanwhile(void *user, ringmain_event *event) {
  struct barrier *barrier = user;
  int yields;
  (void)event;
  CHECK(pthread_create(&barrier->remover, NULL, remove_it, barrier) == 0);
  while (!atomic_load(&barrier->removing))
    sched_yield();
  /* Time for a removal that does not wait to come back. */
  for (yields = 0; yields < 2000; yields++)
    sched_yield();
  CHECK(!atomic_load(&barrier->destroyed));
  atomic_store(&barrier->ended, 1);
}

static void barrier_destroyed(void *user) { atomic_fetch_add(&((struct barrier *)user)->destroyed, 1); }

static void removal_is_a_barrier(bool of_a_listener) {
  struct pair pair = pair_up();
  struct barrier barrier = {.main = pair.main};
  if (of_a_listener) {
    OK(ringmain_main_on(pair.main, CHANNEL("x"), 0, is_removed_meanwhile, &barrier, barrier_destroyed, &barrier.id,
                        &error));
    OK(ringmain_renderer_send(pair.renderer, CHANNEL("x"), NOTHING, &error));
  } else {
    OK(ringmain_main_watch(pair.main, RINGMAIN_WATCH_GONE, is_removed_meanwhile, &barrier, barrier_destroyed,
                           &barrier.id, &error));
    OK(ringmain_renderer_close(pair.renderer, PATIENCE, &error));
  }
  while (!atomic_load(&barrier.ended)) {
    OK(ringmain_main_wait(pair.main, PATIENCE, &error));
    OK(ringmain_main_poll(pair.main, 0, 0, NULL, NULL, &error));
  }
  CHECK(pthread_join(barrier.remover, NULL) == 0);
  CHECK(barrier.ended_at_return == 1 && barrier.destroyed_at_return == 1);
  part(&pair);
  CHECK(atomic_load(&barrier.destroyed) == 1);
}

/* ---- nested calls ------------------------------------------------------------------------------------------------ */

/* The renderer's handler of "twice", on its own thread: asks main for half of it, which main's polling thread answers. */
static void calls_back(void *user, ringmain_event *event) {
  ringmain_renderer *renderer = *(ringmain_renderer **)user;
  ringmain_bytes half = RINGMAIN_BYTES_INIT;
  ringmain_error *failed = NULL;
  if (ringmain_renderer_invoke(renderer, CHANNEL("half"), NOTHING, PATIENCE, &half, &failed) == RINGMAIN_OK)
    ringmain_event_reply(event, RINGMAIN_MSGPACK, half.data, half.len, NULL);
  ringmain_error_free(failed);
  ringmain_bytes_free(&half);
}

static void answers_21(void *user, ringmain_event *event) {
  (*(int *)user)++;
  OK(ringmain_event_reply(event, JSON("21"), &error));
}

static void a_call_that_polls_lets_the_other_side_call_back(void) {
  ringmain_main *m;
  ringmain_renderer *r;
  ringmain_renderer_config config = RINGMAIN_RENDERER_CONFIG_INIT;
  ringmain_bytes reply = RINGMAIN_BYTES_INIT;
  int runs = 0;
  config.dispatch = RINGMAIN_DISPATCH_THREADS;
  OK(ringmain_main_new(NULL, &m, &error));
  OK(ringmain_renderer_attach(&config, m, &r, &error));
  OK(ringmain_main_handle(m, CHANNEL("half"), 0, answers_21, &runs, NULL, NULL, &error));
  OK(ringmain_renderer_handle(r, CHANNEL("twice"), 0, calls_back, &r, NULL, NULL, &error));
  OK(ringmain_main_invoke_polling(m, ringmain_renderer_id(r), 0, CHANNEL("twice"), RINGMAIN_MSGPACK, NULL, 0, PATIENCE,
                                  &reply, &error));
  CHECK(runs == 1 && reply.len == 1 && reply.data[0] == 21);
  ringmain_bytes_free(&reply);
  ringmain_renderer_free(r);
  ringmain_main_free(m);
}

/* Bytes that were handed over once serve again, also for a longer reply, and are untouched by a failure. */
static void the_memory_of_a_reply_serves_again(void) {
  ringmain_bytes bytes = RINGMAIN_BYTES_INIT;
  const uint8_t *memory;
  OK(ringmain_json_to_msgpack(CHANNEL("[1, 2, 3]"), &bytes, &error));
  memory = bytes.data;
  OK(ringmain_json_to_msgpack(CHANNEL("[7]"), &bytes, &error));
  CHECK(bytes.data == memory && bytes.len == 2 && bytes.data[1] == 7);
  EXPECT(RINGMAIN_INVALID_VALUE, ringmain_json_to_msgpack(CHANNEL("["), &bytes, &error));
  CHECK(bytes.data == memory && bytes.len == 2);
  OK(ringmain_json_to_msgpack(CHANNEL("[1, 2, 3, 4, 5, 6, 7, \"a text that needs more room than there is\"]"), &bytes,
                              &error));
  CHECK(bytes.len == 51 && bytes.data[0] == 0x98);
  ringmain_bytes_free(&bytes);
  CHECK(bytes.data == NULL && bytes.len == 0);
}

/* What arrives while a call polls is not written where the caller's bytes are. */
static void a_call_that_polls_and_fails_leaves_the_reply_alone(void) {
  ringmain_main *m;
  ringmain_renderer *r;
  ringmain_renderer_config config = RINGMAIN_RENDERER_CONFIG_INIT;
  ringmain_bytes reply = RINGMAIN_BYTES_INIT;
  struct counter answers = {0, 0};
  int runs = 0;
  config.dispatch = RINGMAIN_DISPATCH_THREADS;
  OK(ringmain_main_new(NULL, &m, &error));
  OK(ringmain_renderer_attach(&config, m, &r, &error));
  OK(ringmain_renderer_handle(r, CHANNEL("quick"), 0, answers_21, &runs, NULL, NULL, &error));
  OK(ringmain_json_to_msgpack(CHANNEL("[1, 2, 3]"), &reply, &error));
  const uint8_t *memory = reply.data;
  OK(ringmain_main_invoke_async(m, ringmain_renderer_id(r), 0, CHANNEL("quick"), RINGMAIN_MSGPACK, NULL, 0, PATIENCE,
                                count, &answers, NULL, &error));
  EXPECT(RINGMAIN_NO_HANDLER, ringmain_main_invoke_polling(m, ringmain_renderer_id(r), 0, CHANNEL("missing"),
                                                           RINGMAIN_MSGPACK, NULL, 0, PATIENCE, &reply, &error));
  CHECK(reply.data == memory && reply.len == 4 && reply.data[0] == 0x93 && reply.data[3] == 3);
  while (answers.runs == 0) {
    OK(ringmain_main_wait(m, PATIENCE, &error));
    OK(ringmain_main_poll(m, 0, 0, NULL, NULL, &error));
  }
  CHECK(answers.runs == 1 && runs == 1);
  ringmain_bytes_free(&reply);
  ringmain_renderer_free(r);
  ringmain_main_free(m);
}

/* Each watcher of a renderer is told of main's end once, also one that comes after it. */
static void a_watcher_that_comes_late_is_told_of_the_end(void) {
  struct pair pair = pair_up();
  struct counter first = {0, 0}, second = {0, 0}, third = {0, 0};
  OK(ringmain_renderer_watch(pair.renderer, RINGMAIN_WATCH_GONE, count, &first, NULL, NULL, &error));
  OK(ringmain_renderer_watch(pair.renderer, RINGMAIN_WATCH_GONE, count, &second, NULL, NULL, &error));
  ringmain_main_free(pair.main);
  while (first.runs == 0)
    OK(ringmain_renderer_poll(pair.renderer, 0, 0, NULL, NULL, &error));
  OK(ringmain_renderer_watch(pair.renderer, RINGMAIN_WATCH_GONE, count, &third, NULL, NULL, &error));
  while (third.runs == 0)
    OK(ringmain_renderer_poll(pair.renderer, 0, 0, NULL, NULL, &error));
  CHECK(first.runs == 1 && second.runs == 1 && third.runs == 1);
  ringmain_renderer_free(pair.renderer);
}

/* ---- frames, routes, lives --------------------------------------------------------------------------------------- */

static void frames_routes_and_hosts(void) {
  struct pair pair = pair_up();
  ringmain_renderer *frame, *other;
  ringmain_renderer_info known = RINGMAIN_RENDERER_INFO_INIT;
  ringmain_stats stats = RINGMAIN_STATS_INIT;
  ringmain_event *event;
  ringmain_event_info info;
  uint32_t ids[4] = {0}, id = ringmain_renderer_id(pair.renderer);
  OK(ringmain_main_on(pair.main, CHANNEL("from"), 0, NULL, NULL, NULL, NULL, &error));
  OK(ringmain_renderer_frame(pair.renderer, &frame, &error));
  OK(ringmain_renderer_on(frame, CHANNEL("to"), 0, NULL, NULL, NULL, NULL, &error));
  OK(ringmain_renderer_send(frame, CHANNEL("from"), NOTHING, &error));
  event = pull_main(pair.main);
  info = info_of(event);
  CHECK(info.renderer == id && info.renderer_frame == ringmain_renderer_frame_id(frame) && info.renderer_frame != 1);
  OK(ringmain_event_send(event, CHANNEL("to"), NOTHING, &error));
  ringmain_event_free(event);
  event = pull_renderer(pair.renderer);
  CHECK(info_of(event).frame == ringmain_renderer_frame_id(frame));
  ringmain_event_free(event);
  OK(ringmain_main_renderer_info(pair.main, id, &known, &error));
  CHECK(known.is_connected == 1 && known.frames == 2 && known.host == 0 && known.process_id == (uint32_t)getpid());
  ringmain_renderer_free(frame);

  /* From one renderer to another, and from a guest to its host. */
  OK(ringmain_renderer_attach(NULL, pair.main, &other, &error));
  CHECK(ringmain_main_renderers(pair.main, ids, 4) == 2 && ids[0] == id && ids[1] == ringmain_renderer_id(other));
  OK(ringmain_renderer_on(other, CHANNEL("hi"), 0, NULL, NULL, NULL, NULL, &error));
  OK(ringmain_renderer_watch(other, RINGMAIN_WATCH_GUESTS, NULL, NULL, NULL, NULL, &error));
  OK(ringmain_main_set_host(pair.main, id, ids[1], &error));
  OK(ringmain_renderer_send_to(pair.renderer, ids[1], 0, CHANNEL("hi"), JSON("[1]"), &error));
  OK(ringmain_renderer_send_to_host(pair.renderer, CHANNEL("guest"), JSON("[2]"), &error));
  OK(ringmain_main_wait(pair.main, PATIENCE, &error));
  OK(ringmain_main_poll(pair.main, 0, 0, NULL, NULL, &error));
  event = pull_renderer(other);
  info = info_of(event);
  CHECK(info.event_type == RINGMAIN_EVENT_MESSAGE && info.renderer == id && json_is(event, "[1]"));
  ringmain_event_free(event);
  event = pull_renderer(other);
  info = info_of(event);
  CHECK(info.event_type == RINGMAIN_EVENT_GUEST && info.renderer == id && json_is(event, "[2]"));
  CHECK(info.channel_len == 5 && memcmp(info.channel, "guest", 5) == 0);
  ringmain_event_free(event);

  /* Both ends are served by this thread. */
  EXPECT(RINGMAIN_WOULD_DEADLOCK, ringmain_renderer_flush(pair.renderer, PATIENCE, &error));
  EXPECT(RINGMAIN_WOULD_DEADLOCK, ringmain_main_flush(pair.main, id, PATIENCE, &error));
  OK(ringmain_renderer_stats(pair.renderer, &stats, &error));
  CHECK(stats.messages_sent >= 3 && stats.queued_bytes == 0);
  OK(ringmain_main_stats(pair.main, id, &stats, &error));
  CHECK(stats.messages_received >= 3);
  EXPECT(RINGMAIN_INVALID_CONFIG, ringmain_main_kill(pair.main, id, &error));

  /* What goes is told. */
  OK(ringmain_main_watch(pair.main, RINGMAIN_WATCH_GONE, NULL, NULL, NULL, NULL, &error));
  OK(ringmain_renderer_close(other, PATIENCE, &error));
  event = pull_main(pair.main);
  info = info_of(event);
  CHECK(info.event_type == RINGMAIN_EVENT_GONE && info.renderer == ids[1] && info.gone == RINGMAIN_GONE_CLOSED);
  CHECK(ringmain_error_message(ringmain_event_error(event), NULL, 0) > 0);
  ringmain_event_free(event);
  CHECK(!ringmain_renderer_is_connected(other));
  ringmain_renderer_free(other);
  part(&pair);
}

/* ---- found by reading it again ----------------------------------------------------------------------------------- */

static void frees_main(void *user) { ringmain_main_free(user); }

static void a_destroy_may_free_its_handle(void) {
  ringmain_main *m = NULL;
  uint64_t id = 0;
  struct counter counter = {0, 0};
  OK(ringmain_main_new(NULL, &m, &error));
  OK(ringmain_main_on(m, CHANNEL("x"), 0, count, m, frees_main, &id, &error));
  OK(ringmain_main_remove(m, id, &error));
  OK(ringmain_main_new(NULL, &m, &error));
  OK(ringmain_main_handle(m, CHANNEL("x"), 0, count, m, frees_main, &id, &error));
  OK(ringmain_main_on(m, CHANNEL("x"), 0, count, &counter, count_destroy, NULL, &error));
  OK(ringmain_main_remove(m, id, &error));
  CHECK(counter.destroyed == 1);
}

static void a_handler_for_one_call_that_is_removed_before_it_is_gone(void) {
  struct pair pair = pair_up();
  uint64_t once = 0, call = 0;
  struct counter counter = {0, 0};
  OK(ringmain_main_handle(pair.main, CHANNEL("x"), RINGMAIN_ONCE, count, &counter, count_destroy, &once, &error));
  OK(ringmain_main_remove(pair.main, once, &error));
  CHECK(counter.destroyed == 1);
  OK(ringmain_main_handle(pair.main, CHANNEL("x"), RINGMAIN_ONCE, NULL, NULL, NULL, &once, &error));
  OK(ringmain_main_remove(pair.main, once, &error));
  OK(ringmain_renderer_invoke_async(pair.renderer, CHANNEL("x"), NOTHING, PATIENCE, NULL, NULL, &call, &error));
  ringmain_event *event = NULL;
  while (event == NULL) {
    pump(&pair);
    OK(ringmain_renderer_next_event(pair.renderer, &event, &error));
  }
  ringmain_event_info info = info_of(event);
  CHECK(info.event_type == RINGMAIN_EVENT_REPLY && info.result == RINGMAIN_NO_HANDLER);
  ringmain_event_free(event);
  OK(ringmain_main_handle(pair.main, CHANNEL("x"), 0, NULL, NULL, NULL, NULL, &error));
  part(&pair);
}

static void asks_back(void *user, ringmain_event *event) {
  /* On a thread of its own, which `error` is not for. */
  if (ringmain_renderer_send(user, CHANNEL("pulled"), NOTHING, NULL) == RINGMAIN_OK)
    ringmain_event_reply(event, JSON("1"), NULL);
}

static void *polls_renderer(void *user) {
  struct pair *pair = user;
  ringmain_error *failed = NULL;
  while (ringmain_renderer_wait(pair->renderer, PATIENCE, &failed) == RINGMAIN_OK) {
    size_t ran = 0;
    if (ringmain_renderer_poll(pair->renderer, 0, 0, &ran, NULL, &failed) != RINGMAIN_OK)
      break;
    ringmain_stats stats = RINGMAIN_STATS_INIT;
    if (ringmain_renderer_stats(pair->renderer, &stats, &failed) != RINGMAIN_OK || stats.messages_received > 0)
      break;
  }
  ringmain_error_free(failed);
  return NULL;
}

static void an_event_that_came_while_a_call_waited_keeps_the_descriptor_readable(void) {
  struct pair pair = pair_up();
  OK(ringmain_main_on(pair.main, CHANNEL("pulled"), 0, NULL, NULL, NULL, NULL, &error));
  OK(ringmain_renderer_handle(pair.renderer, CHANNEL("ask"), 0, asks_back, pair.renderer, NULL, NULL, &error));
  /* This thread must not have polled the renderer: it would count as the one that serves it. */
  while (poll(pair.fds, 1, 100) > 0)
    OK(ringmain_main_poll(pair.main, 0, 0, NULL, NULL, &error));
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, polls_renderer, &pair) == 0);
  ringmain_bytes reply = RINGMAIN_BYTES_INIT;
  OK(ringmain_main_invoke_polling(pair.main, ringmain_renderer_id(pair.renderer), 0, CHANNEL("ask"), NOTHING, PATIENCE,
                                  &reply, &error));
  ringmain_bytes_free(&reply);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(poll(pair.fds, 1, 0) == 1);
  ringmain_event *event = NULL;
  OK(ringmain_main_next_event(pair.main, &event, &error));
  CHECK(event != NULL && info_of(event).event_type == RINGMAIN_EVENT_MESSAGE);
  ringmain_event_free(event);
  part(&pair);
}

static void a_frame_ends_with_what_is_registered_there(void) {
  struct pair pair = pair_up();
  ringmain_renderer *frame = NULL, *kept = NULL;
  struct counter of_frame = {0, 0}, of_main = {0, 0};
  OK(ringmain_renderer_frame(pair.renderer, &frame, &error));
  OK(ringmain_renderer_frame(pair.renderer, &kept, &error));
  OK(ringmain_renderer_on(frame, CHANNEL("x"), 0, count, &of_frame, count_destroy, NULL, &error));
  OK(ringmain_renderer_on(pair.renderer, CHANNEL("x"), 0, count, &of_main, count_destroy, NULL, &error));
  ringmain_renderer_free(frame);
  CHECK(of_frame.destroyed == 1 && of_main.destroyed == 0);
  ringmain_renderer_free(pair.renderer);
  CHECK(of_main.destroyed == 1);
  struct counter late = {0, 0};
  uint64_t id = 7;
  EXPECT(RINGMAIN_DISCONNECTED, ringmain_renderer_on(kept, CHANNEL("x"), 0, count, &late, count_destroy, &id, &error));
  CHECK(late.destroyed == 0 && id == 0);
  ringmain_renderer_free(kept);
  ringmain_main_free(pair.main);
}

static void a_spawned_program_connects_and_ends(const char *self) {
  const char *argv[] = {self, "child", NULL};
  ringmain_main *m;
  ringmain_event *event;
  ringmain_event_info info;
  uint32_t id = 0;
  OK(ringmain_main_new(NULL, &m, &error));
  OK(ringmain_main_handle(m, CHANNEL("status"), 0, NULL, NULL, NULL, NULL, &error));
  OK(ringmain_main_watch(m, RINGMAIN_WATCH_GONE | RINGMAIN_WATCH_CONNECTED | RINGMAIN_WATCH_ERRORS, NULL, NULL, NULL,
                         NULL, &error));
  OK(ringmain_main_spawn(m, argv, &id, &error));
  event = pull_main(m);
  CHECK(info_of(event).event_type == RINGMAIN_EVENT_CONNECTED && info_of(event).renderer == id);
  ringmain_event_free(event);
  event = pull_main(m);
  CHECK(info_of(event).event_type == RINGMAIN_EVENT_CALL);
  OK(ringmain_event_reply(event, JSON("7"), &error));
  ringmain_event_free(event);
  event = pull_main(m);
  info = info_of(event);
  CHECK(info.event_type == RINGMAIN_EVENT_GONE && info.gone == RINGMAIN_GONE_EXITED && info.status == 7);
  ringmain_event_free(event);
  ringmain_main_free(m);
}

static void play_child(void) {
  ringmain_renderer *r;
  ringmain_bytes status = RINGMAIN_BYTES_INIT;
  int code;
  OK(ringmain_renderer_connect(NULL, &r, &error));
  OK(ringmain_renderer_invoke(r, CHANNEL("status"), NOTHING, PATIENCE, &status, &error));
  code = status.data[0];
  ringmain_bytes_free(&status);
  /* Not closed: main is to see that the process ended. */
  _exit(code);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "child") == 0)
    play_child();
  CHECK(strcmp(ringmain_version(), RINGMAIN_VERSION) == 0);
  null_is_refused();
  misuse_is_an_error_code();
  events_are_pulled_by_who_dispatches();
  json_and_messagepack_are_converted();
  messages_are_pulled_and_answered();
  calls_are_answered_later_once_or_never();
  a_pending_call_is_told_of_the_end();
  registrations_end_with_their_user();
  removed_events_are_not_pulled();
  a_callback_removes_itself();
  a_callback_frees_its_handle();
  removal_is_a_barrier(true);
  removal_is_a_barrier(false);
  a_call_that_polls_lets_the_other_side_call_back();
  the_memory_of_a_reply_serves_again();
  a_call_that_polls_and_fails_leaves_the_reply_alone();
  a_watcher_that_comes_late_is_told_of_the_end();
  frames_routes_and_hosts();
  a_destroy_may_free_its_handle();
  a_handler_for_one_call_that_is_removed_before_it_is_gone();
  an_event_that_came_while_a_call_waited_keeps_the_descriptor_readable();
  a_frame_ends_with_what_is_registered_there();
  a_spawned_program_connects_and_ends(argv[0]);
  printf("%d checks\n", checks);
  return 0;
}
