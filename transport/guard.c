#include "guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#include "curve.h"
#include "record.h"

static const char domain[] = "fedlane";
enum { REFRESH_MS = 500, WORD = 64 };

/* A request's frames, RFC 27; there may be more, which are passed over. */
enum { VERSION, REQUEST, DOMAIN_NAME, ADDRESS, IDENTITY, MECHANISM, KEY, FRAMES };

struct fl_guard {
  void *door;
  fl_allow *allow;
  pthread_t thread;
};

typedef struct word {
  size_t n; /* more than WORD: it was cut */
  char at[WORD];
} word;

/* Reads a whole request; false: none has come, or (errno is ETERM) none will. */
static bool hear(void *door, word frame[FRAMES]) {
  memset(frame, 0, FRAMES * sizeof *frame);
  int more = 1;
  for (int i = 0; more; i++) {
    word spare, *f = i < FRAMES ? &frame[i] : &spare;
    size_t size = sizeof more;
    int n = zmq_recv(door, f->at, sizeof f->at, 0);
    if (n < 0) return false;
    f->n = (size_t)n;
    if (zmq_getsockopt(door, ZMQ_RCVMORE, &more, &size) != 0) return false;
  }
  return true;
}

static bool is(const word *w, const char *text) {
  return w->n == strlen(text) && memcmp(w->at, text, w->n) == 0;
}

/* Whether the request is of one who may come in; key: who it is. */
static bool admits(const fl_allow *allow, const word frame[FRAMES],
                   char key[FL_KEY_CHARACTERS + 1]) {
  if (!is(&frame[VERSION], "1.0") || !is(&frame[MECHANISM], "CURVE") ||
      frame[KEY].n != FL_KEY_BYTES)
    return false;
  zmq_z85_encode(key, (const uint8_t *)frame[KEY].at, FL_KEY_BYTES);
  return fl_allow_has(allow, key, NULL);
}

static void answer(fl_guard *guard, const word frame[FRAMES]) {
  char key[FL_KEY_CHARACTERS + 1] = "";
  bool good = admits(guard->allow, frame, key);
  /* 300: a refusal for now, after which a peer tries again; its key may be put into the list. */
  const char *text[] = {good ? "200" : "300", good ? "" : "this key is not allowed",
                        good ? key : "", ""};
  size_t n = frame[REQUEST].n < WORD ? frame[REQUEST].n : WORD;
  zmq_send(guard->door, "1.0", 3, ZMQ_SNDMORE);
  zmq_send(guard->door, frame[REQUEST].at, n, ZMQ_SNDMORE);
  for (int i = 0; i < FL_COUNT(text); i++)
    zmq_send(guard->door, text[i], strlen(text[i]), i + 1 < FL_COUNT(text) ? ZMQ_SNDMORE : 0);
}

static int64_t clock_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void *stand(void *arg) {
  fl_guard *guard = arg;
  word frame[FRAMES];
  int64_t next = clock_ms() + REFRESH_MS;
  for (;;) {
    bool changed;
    if (hear(guard->door, frame))
      answer(guard, frame);
    else if (errno == ETERM)
      break;
    if (clock_ms() < next) continue;
    /* A list that cannot be read keeps the keys as they were. */
    (void)fl_allow_refresh(guard->allow, &changed);
    next = clock_ms() + REFRESH_MS;
  }
  zmq_close(guard->door);
  return NULL;
}

/* The thread takes no signals, which are for those who wait in the program. */
static int start(fl_guard *guard) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&guard->thread, NULL, stand, guard);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return error;
}

fl_status fl_guard_open(void *context, fl_allow *allow, fl_guard **out) {
  static const int wait = REFRESH_MS, linger = 0;
  fl_guard *guard = calloc(1, sizeof *guard);
  *out = NULL;
  if (!guard) return fl_fail(FEDLANE_MEMORY, "no memory for the keys of a port");
  guard->allow = allow;
  guard->door = zmq_socket(context, ZMQ_REP);
  bool good = guard->door && zmq_setsockopt(guard->door, ZMQ_RCVTIMEO, &wait, sizeof wait) == 0 &&
              zmq_setsockopt(guard->door, ZMQ_LINGER, &linger, sizeof linger) == 0 &&
              zmq_bind(guard->door, "inproc://zeromq.zap.01") == 0;
  int error = good ? start(guard) : errno;
  if (error == 0) {
    *out = guard;
    return FEDLANE_OK;
  }
  if (guard->door) zmq_close(guard->door);
  free(guard);
  return fl_fail(FEDLANE_IO, "nobody can look at the keys of a port: %s", zmq_strerror(error));
}

void fl_guard_close(fl_guard **guard) {
  if (*guard) pthread_join((*guard)->thread, NULL);
  free(*guard);
  *guard = NULL;
}

fl_status fl_guard_arm(void *socket, const fl_key_pair *own, const char *server) {
  const int yes = 1;
  size_t n = FL_KEY_CHARACTERS + 1;
  bool good = zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, own->open, n) == 0 &&
              zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, own->secret, n) == 0;
  if (server)
    good = good && zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, server, n) == 0;
  else
    good = good && zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &yes, sizeof yes) == 0 &&
           zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, domain, strlen(domain)) == 0;
  if (good) return FEDLANE_OK;
  return fl_fail(FEDLANE_UNSUPPORTED, "this ZeroMQ does not take keys: %s", zmq_strerror(errno));
}
