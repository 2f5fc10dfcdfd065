/* What examples/c/consumer.c, examples/c/producer.c and examples/lanes.rs have agreed on. */
#ifndef RINGMAIN_EXAMPLE_LANES_H
#define RINGMAIN_EXAMPLE_LANES_H

#include <ringmain.h>

#include <stdio.h>

/* Renderer to main, each one: lane "notes". */
struct note {
  uint32_t frame;
  uint16_t key;
  uint16_t velocity;
};

/* Main to renderer, the newest one: lane "gain". */
struct gain {
  float left, right;
};

/* An exchange: main asks with a block, the renderer answers with its levels. Lane "process". */
struct block {
  float samples[64];
};
struct levels {
  float peak, sum;
};

#define NOTES 1000
#define BLOCKS 100

/* Nothing takes as long: only a program that hangs reaches it. */
static inline uint64_t soon(void) { return ringmain_now() + 10 * RINGMAIN_SECOND; }

/* Says what went wrong and frees the error; false for a failure. */
static inline bool ok(const char *what, ringmain_result result, ringmain_error **error) {
  char text[512];
  if (result == RINGMAIN_OK)
    return true;
  ringmain_error_message(*error, text, sizeof text);
  fprintf(stderr, "%s: %s\n", what, *error ? text : ringmain_result_text(result));
  ringmain_error_free(*error);
  *error = NULL;
  return false;
}

/* The functions of an open lane make no error: their result says everything. */
static inline bool done(const char *what, ringmain_result result) {
  if (result != RINGMAIN_OK)
    fprintf(stderr, "%s: %s\n", what, ringmain_result_text(result));
  return result == RINGMAIN_OK;
}

static inline ringmain_lane_config sizes(size_t send_size, size_t recv_size) {
  ringmain_lane_config config = RINGMAIN_LANE_CONFIG_INIT;
  config.send_size = send_size;
  config.recv_size = recv_size;
  return config;
}

#endif
