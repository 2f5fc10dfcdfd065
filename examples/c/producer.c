/* A renderer in C that produces by lanes: notes, answers to blocks, a line of text. Its main is examples/c/consumer.c or
 * `cargo run --example lanes consume`.
 *
 *   ./ringmain_producer [NAME] [--wait]       --wait: up to ten seconds for somebody to listen
 *
 * The functions that `play` calls, and in `process` those that read the newest gain and answer, are for an audio thread: none of
 * them allocates, locks or makes a system call, but for the wake of a receiver that sleeps, if the lane is opened with one.
 * Those that end with `_until` wait: they read the clock, and may sleep. */
#define _POSIX_C_SOURCE 200809L
#include "lanes.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct ends {
  ringmain_lane_sender *notes, *log;
  ringmain_latest_reader *gain;
  ringmain_lane_duplex *process;
};

static bool open_ends(ringmain_renderer *renderer, struct ends *ends) {
  /* How many records have room, main says; the size of each is checked. */
  ringmain_lane_config notes = sizes(sizeof(struct note), 0), gain = sizes(0, sizeof(struct gain));
  ringmain_lane_config process = sizes(sizeof(struct levels), sizeof(struct block));
  ringmain_error *error = NULL;
  return ok("notes", ringmain_renderer_lane_sender(renderer, "notes", 5, &notes, &ends->notes, &error), &error) &&
         ok("log", ringmain_renderer_lane_sender(renderer, "log", 3, NULL, &ends->log, &error), &error) &&
         ok("gain", ringmain_renderer_latest_reader(renderer, "gain", 4, &gain, &ends->gain, &error), &error) &&
         ok("process", ringmain_renderer_lane_duplex(renderer, "process", 7, &process, &ends->process, &error), &error);
}

static void close_ends(struct ends *ends) {
  ringmain_lane_sender_free(ends->notes);
  ringmain_lane_sender_free(ends->log);
  ringmain_latest_reader_free(ends->gain);
  ringmain_lane_duplex_free(ends->process);
}

/* The notes of a block appear at once; the last of them is written where it lies. */
static bool play(ringmain_lane_sender *notes) {
  struct note note = {0, 60, 100};
  void *place;
  int at;
  for (at = 0; at < NOTES; at++) {
    note.frame = (uint32_t)at * 64;
    if (at % 10 != 9) {
      if (!done("push", ringmain_lane_sender_push(notes, &note, sizeof note)))
        return false;
      continue;
    }
    if (!done("publish", ringmain_lane_sender_publish(notes)) ||
        !done("loan", ringmain_lane_sender_loan(notes, &place, NULL)))
      return false;
    memcpy(place, &note, sizeof note);
    if (!done("commit", ringmain_lane_sender_commit(notes, sizeof note)))
      return false;
  }
  return true;
}

/* Answers blocks until main has had enough. */
static bool process(struct ends *ends) {
  struct gain gain;
  int answered;
  if (!done("gain", ringmain_latest_reader_read_until(ends->gain, &gain, sizeof gain, soon(), NULL)))
    return false;
  for (answered = 0; answered < BLOCKS; answered++) {
    struct block block;
    struct levels levels = {0, 0};
    ringmain_result newer;
    size_t at;
    if (!done("request", ringmain_lane_duplex_recv_request_until(ends->process, &block, sizeof block, soon(), NULL)))
      return false;
    /* What the fader says now; without a newer value it stays. */
    newer = ringmain_latest_reader_read(ends->gain, &gain, sizeof gain, NULL);
    if (newer != RINGMAIN_EMPTY && !done("gain", newer))
      return false;
    for (at = 0; at < 64; at++) {
      float sample = block.samples[at] * gain.right;
      levels.peak = sample > levels.peak ? sample : levels.peak;
      levels.sum += sample;
    }
    if (!done("response", ringmain_lane_duplex_send_response(ends->process, &levels, sizeof levels)))
      return false;
  }
  return true;
}

static bool produce(ringmain_renderer *renderer) {
  static const char text[] = "all done, in C";
  struct ends ends = {NULL, NULL, NULL, NULL};
  bool produced = open_ends(renderer, &ends);
  if (produced) {
    /* Before the first real-time call: none is the first to touch a page of a lane then. */
    ringmain_lane_sender_prepare(ends.notes);
    ringmain_lane_sender_prepare(ends.log);
    ringmain_latest_reader_prepare(ends.gain);
    ringmain_lane_duplex_prepare(ends.process);
    produced = play(ends.notes) && process(&ends) &&
               done("log", ringmain_lane_sender_send(ends.log, text, sizeof text - 1));
  }
  if (produced)
    printf("%d notes sent, %d blocks answered\n", NOTES, BLOCKS);
  close_ends(&ends);
  return produced;
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

int main(int argc, char **argv) {
  const char *name = "ringmain-lanes";
  ringmain_renderer *renderer;
  bool waits = false, produced;
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
  produced = produce(renderer);
  ringmain_renderer_free(renderer);
  return produced ? EXIT_SUCCESS : EXIT_FAILURE;
}
