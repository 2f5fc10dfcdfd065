/* A renderer in C that connects by name: the C counterpart of examples/connect.rs. Its main is examples/c/main.c or
 * `cargo run --example listen`.
 *
 *   ./ringmain_renderer [NAME] [--wait]   --wait: up to ten seconds for somebody to listen
 *
 * What main sends is taken by a callback, which runs inside ringmain_renderer_poll on this thread; a game calls that once
 * a frame. */
#define _POSIX_C_SOURCE 200809L
#include <ringmain.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* No answer takes as long: only a main that hangs reaches it. */
#define PATIENCE (10 * RINGMAIN_SECOND)

/* Says what went wrong and frees the error; false for a failure. By its address: the call that sets it may come later in
 * the order in which arguments are evaluated. */
static bool ok(const char *what, ringmain_result result, ringmain_error **error) {
  char text[512];
  if (result == RINGMAIN_OK)
    return true;
  ringmain_error_message(*error, text, sizeof text);
  fprintf(stderr, "%s: %s\n", what, *error ? text : ringmain_result_text(result));
  ringmain_error_free(*error);
  *error = NULL;
  return false;
}

/* What the callbacks have seen. */
struct seen {
  bool answer;
  bool sum;
};

/* Main has sent "answer". */
static void on_answer(void *user, ringmain_event *event) {
  struct seen *seen = user;
  const char *json;
  size_t len;
  if (ringmain_event_json(event, &json, &len, NULL) == RINGMAIN_OK)
    printf("main answers: %.*s\n", (int)len, json);
  seen->answer = true;
}

/* The asynchronous call is answered. */
static void on_sum(void *user, ringmain_event *event) {
  struct seen *seen = user;
  ringmain_event_info info = RINGMAIN_EVENT_INFO_INIT;
  /* MessagePack: 42 is one byte. */
  if (ringmain_event_get(event, &info, NULL) == RINGMAIN_OK && info.result == RINGMAIN_OK && info.payload_len == 1)
    printf("add(40, 2) = %d\n", info.payload[0]);
  seen->sum = true;
}

/* Connects; while nobody listens, tries again until ten seconds are over. */
static ringmain_renderer *connect_to(const char *name, bool waits) {
  ringmain_renderer *renderer = NULL;
  ringmain_error *error = NULL;
  ringmain_result result;
  int tries;
  for (tries = 0;; tries++) {
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = 20000000};
    result = ringmain_renderer_connect_to(NULL, name, RINGMAIN_TERMINATED, &renderer, &error);
    if (result != RINGMAIN_NOT_LISTENING || !waits || tries == 500)
      break;
    ringmain_error_free(error);
    error = NULL;
    nanosleep(&pause, NULL);
  }
  ok("connect", result, &error);
  return renderer;
}

static bool talk(ringmain_renderer *renderer) {
  /* MessagePack by hand: the list [40, 2]. */
  static const uint8_t forty_and_two[] = {0x92, 40, 2};
  static const char numbers[] = "[2, 3]", too_large[] = "[9223372036854775807, 1]", text[] = "[\"hello from C\"]";
  ringmain_bytes reply = RINGMAIN_BYTES_INIT;
  ringmain_error *error = NULL;
  struct seen seen = {false, false};
  char code[32];

  if (!ok("on", ringmain_renderer_on(renderer, "answer", 6, 0, on_answer, &seen, NULL, NULL, &error), &error))
    return false;

  /* A call that waits, in JSON. */
  if (!ok("invoke",
          ringmain_renderer_invoke(renderer, "add", 3, RINGMAIN_JSON, (const uint8_t *)numbers, sizeof numbers - 1,
                                   PATIENCE, &reply, &error),
          &error))
    return false;
  printf("add(2, 3) = %.*s\n", (int)reply.len, (const char *)reply.data);
  ringmain_bytes_free(&reply);

  /* One that fails: the handler's own code arrives here. */
  if (ringmain_renderer_invoke(renderer, "add", 3, RINGMAIN_JSON, (const uint8_t *)too_large, sizeof too_large - 1,
                               PATIENCE, &reply, &error) != RINGMAIN_HANDLER) {
    fprintf(stderr, "a sum that does not fit should have failed\n");
    ringmain_bytes_free(&reply);
    ringmain_error_free(error);
    return false;
  }
  ringmain_error_detail(error, RINGMAIN_DETAIL_CODE, code, sizeof code);
  printf("add(INT64_MAX, 1) failed with code %s\n", code);
  ringmain_error_free(error);
  error = NULL;

  /* A synchronous message. */
  if (!ok("send_sync",
          ringmain_renderer_send_sync(renderer, "version", 7, RINGMAIN_JSON, NULL, 0, PATIENCE, &reply, &error), &error))
    return false;
  printf("main runs ringmain %.*s\n", (int)reply.len, (const char *)reply.data);
  ringmain_bytes_free(&reply);

  /* One that does not wait, and a message; what comes back is given to the callbacks, inside of poll. */
  if (!ok("invoke_async",
          ringmain_renderer_invoke_async(renderer, "add", 3, RINGMAIN_MSGPACK, forty_and_two, sizeof forty_and_two,
                                         PATIENCE, on_sum, &seen, NULL, &error),
          &error) ||
      !ok("send",
          ringmain_renderer_send(renderer, "message", 7, RINGMAIN_JSON, (const uint8_t *)text, sizeof text - 1, &error),
          &error))
    return false;
  while (!seen.answer || !seen.sum) {
    if (!ok("wait", ringmain_renderer_wait(renderer, PATIENCE, &error), &error) ||
        !ok("poll", ringmain_renderer_poll(renderer, 0, RINGMAIN_MILLISECOND, NULL, NULL, &error), &error))
      return false;
  }
  return ok("close", ringmain_renderer_close(renderer, PATIENCE, &error), &error);
}

int main(int argc, char **argv) {
  const char *name = "ringmain-example";
  ringmain_renderer *renderer;
  bool waits = false, talked;
  int at;
  for (at = 1; at < argc; at++) {
    if (strcmp(argv[at], "--wait") == 0)
      waits = true;
    else
      name = argv[at];
  }
  renderer = connect_to(name, waits);
  if (renderer == NULL)
    return EXIT_FAILURE;
  printf("connected to '%s' as renderer %" PRIu32 "\n", name, ringmain_renderer_id(renderer));
  talked = talk(renderer);
  ringmain_renderer_free(renderer);
  return talked ? EXIT_SUCCESS : EXIT_FAILURE;
}
