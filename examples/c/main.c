/* A main in C that listens under a name: the C counterpart of examples/listen.rs. Serves any renderer, be it
 * examples/c/renderer.c or `cargo run --example connect`.
 *
 *   ./ringmain_main [NAME] [--once]       --once: until the first renderer has gone
 *
 * Everything is pulled, no callback is used: a poll(2) loop sleeps on the one descriptor, then takes events until there is
 * none left. */
#define _POSIX_C_SOURCE 200809L
#include <ringmain.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static void reply_json(const ringmain_event *event, const char *json) {
  ringmain_error *error = NULL;
  ok("reply", ringmain_event_reply(event, RINGMAIN_JSON, (const uint8_t *)json, strlen(json), &error), &error);
}

/* "add" was called with [a, b]. */
static void add(const ringmain_event *event, const ringmain_event_info *info, const char *args) {
  ringmain_error *error = NULL;
  int64_t a, b;
  char sum[32];
  if (sscanf(args, "[%" SCNd64 ",%" SCNd64 "]", &a, &b) != 2) {
    ok("reply_error",
       ringmain_event_reply_error(event, "two integers are needed", RINGMAIN_TERMINATED, "TypeError",
                                  RINGMAIN_TERMINATED, NULL, 0, &error),
       &error);
    return;
  }
  printf("renderer %" PRIu32 " calls add(%" PRId64 ", %" PRId64 ")\n", info->renderer, a, b);
  if ((b > 0 && a > INT64_MAX - b) || (b < 0 && a < INT64_MIN - b)) {
    ok("reply_error",
       ringmain_event_reply_error(event, "the sum does not fit 64 bits", RINGMAIN_TERMINATED, NULL, 0, "ERANGE",
                                  RINGMAIN_TERMINATED, &error),
       &error);
    return;
  }
  snprintf(sum, sizeof sum, "%" PRId64, a + b);
  reply_json(event, sum);
}

/* "message" was sent with ["text"]. */
static void message(const ringmain_event *event, const ringmain_event_info *info, const char *args, size_t len) {
  ringmain_error *error = NULL;
  char answer[64];
  printf("renderer %" PRIu32 " says: %s\n", info->renderer, args);
  snprintf(answer, sizeof answer, "[\"main has read %zu bytes of JSON\"]", len);
  ok("send", ringmain_event_send(event, "answer", 6, RINGMAIN_JSON, (const uint8_t *)answer, strlen(answer), &error),
     &error);
}

/* One event; false if it says that a renderer has gone. */
static bool serve(const ringmain_event *event) {
  ringmain_error *error = NULL;
  ringmain_event_info info = RINGMAIN_EVENT_INFO_INIT;
  const char *json;
  size_t len;
  char args[256], text[512];
  if (!ok("event", ringmain_event_get(event, &info, &error), &error) ||
      !ok("json", ringmain_event_json(event, &json, &len, &error), &error))
    return true;
  /* Texts of the library are not null-terminated. */
  snprintf(args, sizeof args, "%.*s", (int)(len < sizeof args ? len : sizeof args - 1), json);
  switch (info.event_type) {
  case RINGMAIN_EVENT_CALL:
    add(event, &info, args);
    break;
  case RINGMAIN_EVENT_SYNC:
    reply_json(event, "\"" RINGMAIN_VERSION "\"");
    break;
  case RINGMAIN_EVENT_MESSAGE:
    message(event, &info, args, len);
    break;
  case RINGMAIN_EVENT_CONNECTED:
    printf("renderer %" PRIu32 " has connected\n", info.renderer);
    break;
  case RINGMAIN_EVENT_GONE:
    ringmain_error_message(ringmain_event_error(event), text, sizeof text);
    printf("renderer %" PRIu32 " is gone: %s\n", info.renderer, text);
    return false;
  default:
    ringmain_error_message(ringmain_event_error(event), text, sizeof text);
    fprintf(stderr, "error: %s\n", text);
  }
  return true;
}

/* Sleeps on the descriptor and serves, until a renderer has gone if `once` says so; false for a failure. */
static bool loop(ringmain_main *ipc_main, bool once) {
  ringmain_error *error = NULL;
  struct pollfd readable = {.fd = -1, .events = POLLIN};
  if (!ok("fd", ringmain_main_fd(ipc_main, &readable.fd, &error), &error))
    return false;
  for (;;) {
    ringmain_event *event;
    /* A signal interrupts it: nothing is lost by looking. */
    if (poll(&readable, 1, -1) < 0 && errno != EINTR) {
      perror("poll");
      return false;
    }
    for (;;) {
      bool stays;
      if (!ok("next_event", ringmain_main_next_event(ipc_main, &event, &error), &error))
        return false;
      if (event == NULL)
        break;
      stays = serve(event);
      ringmain_event_free(event);
      if (!stays && once)
        return true;
    }
    fflush(stdout);
  }
}

int main(int argc, char **argv) {
  const char *name = "ringmain-example";
  bool once = false, served;
  ringmain_main *ipc_main;
  ringmain_error *error = NULL;
  int at;
  for (at = 1; at < argc; at++) {
    if (strcmp(argv[at], "--once") == 0)
      once = true;
    else
      name = argv[at];
  }
  if (!ok("new", ringmain_main_new(NULL, &ipc_main, &error), &error))
    return EXIT_FAILURE;
  /* Without a callback everything becomes an event; who connects finds it registered. */
  served = ok("handle", ringmain_main_handle(ipc_main, "add", 3, 0, NULL, NULL, NULL, NULL, &error), &error) &&
           ok("on", ringmain_main_on(ipc_main, "message", 7, 0, NULL, NULL, NULL, NULL, &error), &error) &&
           ok("on", ringmain_main_on(ipc_main, "version", 7, 0, NULL, NULL, NULL, NULL, &error), &error) &&
           ok("watch",
              ringmain_main_watch(ipc_main,
                                  RINGMAIN_WATCH_CONNECTED | RINGMAIN_WATCH_GONE | RINGMAIN_WATCH_ERRORS, NULL, NULL,
                                  NULL, NULL, &error),
              &error) &&
           ok("listen", ringmain_main_listen(ipc_main, name, RINGMAIN_TERMINATED, &error), &error);
  if (served) {
    printf("listening under the name '%s'\n", name);
    fflush(stdout);
    served = loop(ipc_main, once);
  }
  ringmain_main_free(ipc_main);
  return served ? EXIT_SUCCESS : EXIT_FAILURE;
}
