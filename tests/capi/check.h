/* What the programs here check with. */
#ifndef RINGMAIN_CHECK_H
#define RINGMAIN_CHECK_H

#include <ringmain.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No step takes as long. */
#define PATIENCE (20 * RINGMAIN_SECOND)

static int checks;

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    checks++;                                                                                                          \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                  \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

/* Checks a result; the error says what else. */
static void expect_at(int line, ringmain_result result, ringmain_result expected, ringmain_error **error) {
  char text[512];
  checks++;
  if (result != expected) {
    ringmain_error_message(*error, text, sizeof text);
    fprintf(stderr, "%s:%d: %s instead of %s: %s\n", __FILE__, line, ringmain_result_text(result),
            ringmain_result_text(expected), text);
    exit(1);
  }
  if (ringmain_error_result(*error) != expected) {
    fprintf(stderr, "%s:%d: the error is another one than the result\n", __FILE__, line);
    exit(1);
  }
  ringmain_error_free(*error);
  *error = NULL;
}

static ringmain_error *error;
#define EXPECT(expected, call) expect_at(__LINE__, (call), (expected), &error)
#define OK(call) EXPECT(RINGMAIN_OK, call)

#define JSON(text) RINGMAIN_JSON, (const uint8_t *)(text), strlen(text)
#define NOTHING RINGMAIN_MSGPACK, NULL, 0
#define CHANNEL(text) (text), RINGMAIN_TERMINATED

#endif
