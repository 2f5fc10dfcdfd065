/* A main in C that listens under a name and takes what a producer sends by lanes: examples/c/producer.c, or
 * `cargo run --example lanes produce`.
 *
 *   ./ringmain_consumer [NAME] [--once]       --once: one producer
 *
 * Once they are open, the lanes need no poll, and no thread of the library: they are memory that both programs look at. */
#define _POSIX_C_SOURCE 200809L
#include "lanes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct ends {
  ringmain_lane_receiver *notes, *log;
  ringmain_latest_writer *gain;
  ringmain_lane_duplex *process;
};

static bool open_ends(ringmain_main *ipc_main, uint32_t renderer, struct ends *ends) {
  ringmain_lane_config notes = sizes(0, sizeof(struct note)), gain = sizes(sizeof(struct gain), 0);
  ringmain_lane_config process = sizes(sizeof(struct block), sizeof(struct levels));
  ringmain_error *error = NULL;
  /* Main says how large the lanes are. */
  notes.capacity = NOTES;
  process.capacity = 2;
  process.align = 64;
  return ok("notes", ringmain_main_lane_receiver(ipc_main, renderer, "notes", 5, &notes, &ends->notes, &error), &error) &&
         ok("log", ringmain_main_lane_receiver(ipc_main, renderer, "log", 3, NULL, &ends->log, &error), &error) &&
         ok("gain", ringmain_main_latest_writer(ipc_main, renderer, "gain", 4, &gain, &ends->gain, &error), &error) &&
         ok("process", ringmain_main_lane_duplex(ipc_main, renderer, "process", 7, &process, &ends->process, &error),
            &error);
}

static void close_ends(struct ends *ends) {
  ringmain_lane_receiver_free(ends->notes);
  ringmain_lane_receiver_free(ends->log);
  ringmain_latest_writer_free(ends->gain);
  ringmain_lane_duplex_free(ends->process);
}

static bool consume(struct ends *ends) {
  const struct gain gain = {0.5f, 2.0f};
  ringmain_received received;
  struct block block;
  struct levels levels;
  struct note note;
  char line[128];
  int at;

  /* Before the first of them: none is the first to touch a page of a lane then. */
  ringmain_lane_receiver_prepare(ends->notes);
  ringmain_lane_receiver_prepare(ends->log);
  ringmain_latest_writer_prepare(ends->gain);
  ringmain_lane_duplex_prepare(ends->process);
  if (!done("gain", ringmain_latest_writer_write(ends->gain, &gain, sizeof gain)))
    return false;

  for (at = 0; at < NOTES; at++) {
    if (!done("note", ringmain_lane_receiver_recv_until(ends->notes, &note, sizeof note, soon(), &received)))
      return false;
    if (note.frame != (uint32_t)at * 64 || received.lost != 0) {
      fprintf(stderr, "note %d is of frame %" PRIu32 "; %" PRIu64 " were lost\n", at, note.frame, received.lost);
      return false;
    }
  }
  printf("%d notes, in order\n", NOTES);

  /* As a host does with a plug-in, once a block. */
  memset(&block, 0, sizeof block);
  for (at = 0; at < BLOCKS; at++) {
    block.samples[at % 64] = (float)at;
    if (!done("exchange", ringmain_lane_duplex_exchange(ends->process, &block, sizeof block, &levels, sizeof levels,
                                                        soon(), NULL)))
      return false;
    if (levels.peak != (float)at * gain.right) {
      fprintf(stderr, "block %d has a peak of %g\n", at, (double)levels.peak);
      return false;
    }
  }
  printf("%d blocks, each one answered\n", BLOCKS);

  if (!done("log", ringmain_lane_receiver_recv_until(ends->log, line, sizeof line, soon(), &received)))
    return false;
  printf("the producer says: %.*s\n", (int)received.len, line);
  return true;
}

/* Waits for a renderer to connect; 0 for a failure. */
static uint32_t next_renderer(ringmain_main *ipc_main) {
  ringmain_error *error = NULL;
  ringmain_event *event;
  for (;;) {
    ringmain_event_info info = RINGMAIN_EVENT_INFO_INIT;
    if (!ok("wait", ringmain_main_wait(ipc_main, RINGMAIN_FOREVER, &error), &error) ||
        !ok("next_event", ringmain_main_next_event(ipc_main, &event, &error), &error))
      return 0;
    if (event == NULL)
      continue;
    ringmain_event_get(event, &info, NULL);
    ringmain_event_free(event);
    if (info.event_type == RINGMAIN_EVENT_CONNECTED)
      return info.renderer;
  }
}

int main(int argc, char **argv) {
  const char *name = "ringmain-lanes";
  bool once = false, consumed;
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
  consumed = ok("watch", ringmain_main_watch(ipc_main, RINGMAIN_WATCH_CONNECTED, NULL, NULL, NULL, NULL, &error), &error) &&
             ok("listen", ringmain_main_listen(ipc_main, name, RINGMAIN_TERMINATED, &error), &error);
  if (consumed) {
    printf("listening under the name '%s'\n", name);
    fflush(stdout);
  }
  while (consumed) {
    struct ends ends = {NULL, NULL, NULL, NULL};
    uint32_t renderer = next_renderer(ipc_main);
    consumed = renderer != 0 && open_ends(ipc_main, renderer, &ends) && consume(&ends);
    close_ends(&ends);
    fflush(stdout);
    if (once)
      break;
  }
  ringmain_main_free(ipc_main);
  return consumed ? EXIT_SUCCESS : EXIT_FAILURE;
}
