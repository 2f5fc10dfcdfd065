/* Loads the shared library, uses it and unloads it, again and again: nothing of it may run or be left. */
#define _GNU_SOURCE
#include <ringmain.h>

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                  \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

static int entries(const char *path) {
  DIR *dir = opendir(path);
  int count = 0;
  CHECK(dir != NULL);
  while (readdir(dir) != NULL)
    count++;
  closedir(dir);
  return count;
}

static void *library;

/* ISO C has no conversion of what dlsym returns. */
#define SYMBOL(name)                                                                                                   \
  __typeof__(&name) name##_;                                                                                           \
  do {                                                                                                                 \
    void *found = dlsym(library, #name);                                                                               \
    CHECK(found != NULL);                                                                                              \
    memcpy(&name##_, &found, sizeof found);                                                                            \
  } while (0)

static void answer(void *user, ringmain_event *event) {
  SYMBOL(ringmain_event_reply);
  (void)user;
  CHECK(ringmain_event_reply_(event, RINGMAIN_JSON, (const uint8_t *)"7", 1, NULL) == RINGMAIN_OK);
}

/* Whether the main thread is the only one, besides "." and "..". One that was joined may be listed for a moment: the kernel
 * lets the join return before it has taken it off. */
static int is_alone(void) {
  time_t until = time(NULL) + 20;
  while (entries("/proc/self/task") != 3 && time(NULL) < until)
    sched_yield();
  return entries("/proc/self/task") == 3;
}

/* A call between both ends, each with all of its threads. */
static void *use(void *unused) {
  SYMBOL(ringmain_main_new);
  SYMBOL(ringmain_main_handle);
  SYMBOL(ringmain_main_free);
  SYMBOL(ringmain_renderer_attach);
  SYMBOL(ringmain_renderer_invoke);
  SYMBOL(ringmain_renderer_free);
  SYMBOL(ringmain_bytes_free);
  ringmain_main_config config = RINGMAIN_MAIN_CONFIG_INIT;
  ringmain_renderer_config other = RINGMAIN_RENDERER_CONFIG_INIT;
  ringmain_main *m;
  ringmain_renderer *r;
  ringmain_bytes reply = RINGMAIN_BYTES_INIT;
  (void)unused;
  config.dispatch = other.dispatch = RINGMAIN_DISPATCH_THREADS;
  CHECK(ringmain_main_new_(&config, &m, NULL) == RINGMAIN_OK);
  CHECK(ringmain_main_handle_(m, "seven", 5, 0, answer, NULL, NULL, NULL, NULL) == RINGMAIN_OK);
  CHECK(ringmain_renderer_attach_(&other, m, &r, NULL) == RINGMAIN_OK);
  CHECK(ringmain_renderer_invoke_(r, "seven", 5, RINGMAIN_MSGPACK, NULL, 0, RINGMAIN_FOREVER, &reply, NULL) ==
        RINGMAIN_OK);
  CHECK(reply.len == 1 && reply.data[0] == 7);
  ringmain_bytes_free_(&reply);
  ringmain_renderer_free_(r);
  ringmain_main_free_(m);
  return NULL;
}

int main(int argc, char **argv) {
  int round, descriptors = entries("/proc/self/fd");
  CHECK(argc == 2);
  for (round = 0; round < 50; round++) {
    pthread_t thread;
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    /* In a thread that ends: its thread-local state goes with it, so that the library may go. */
    CHECK(pthread_create(&thread, NULL, use, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(is_alone());
    CHECK(entries("/proc/self/fd") == descriptors);
    CHECK(dlclose(library) == 0);
    CHECK(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) == NULL);
  }
  /* In the main thread the system keeps it for the thread-local state; nothing crashes, also at the end. */
  for (round = 0; round < 5; round++) {
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    use(NULL);
    CHECK(is_alone());
    CHECK(dlclose(library) == 0);
  }
  printf("loaded, used and unloaded 50 times, and 5 times by the main thread\n");
  return 0;
}
