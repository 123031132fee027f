#include "pulse.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Looks so many times while a promise holds: who has just spoken is passed over once. */
enum { LOOKS = 4 };

struct fl_pulse {
  fl_port *port;
  const _Atomic double *spoken;
  pthread_t thread;
  bool living;          /* the thread has been started */
  pthread_mutex_t lock; /* of the port's pipeline and of what follows */
  pthread_cond_t change;
  bool quit;
  uint64_t session;
  double promise;
};

double fl_pulse_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

fl_status fl_pulse_open(fl_port *port, const _Atomic double *spoken, fl_pulse **out) {
  pthread_condattr_t monotonic;
  fl_pulse *p = *out = calloc(1, sizeof *p);
  if (!p) return fl_fail(FEDLANE_MEMORY, "no memory for a session");
  p->port = port;
  p->spoken = spoken;
  pthread_mutex_init(&p->lock, NULL);
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&p->change, &monotonic);
  pthread_condattr_destroy(&monotonic);
  return FEDLANE_OK;
}

void fl_pulse_hold(fl_pulse *p) { pthread_mutex_lock(&p->lock); }

void fl_pulse_release(fl_pulse *p) { pthread_mutex_unlock(&p->lock); }

void fl_pulse_close(fl_pulse **pulse) {
  fl_pulse *p = *pulse;
  *pulse = NULL;
  if (!p) return;
  fl_pulse_hold(p);
  p->quit = true;
  pthread_cond_broadcast(&p->change);
  fl_pulse_release(p);
  if (p->living) pthread_join(p->thread, NULL);
  pthread_cond_destroy(&p->change);
  pthread_mutex_destroy(&p->lock);
  free(p);
}

static void speak(const fl_pulse *p) {
  char frame[128];
  size_t n = 0;
  fl_message m = {.kind = FL_MESSAGE_alive, .alive = {p->session, p->promise}};
  if (fl_wire_write(&m, sizeof frame, frame, &n) == FEDLANE_OK)
    fl_port_send(p->port, NULL, true, 0, frame, n, NULL);
}

/* Waits so many seconds, or until something changes; under the lock. */
static void wait(fl_pulse *p, double seconds) {
  double until = fl_pulse_now() + seconds;
  struct timespec at = {.tv_sec = (time_t)until};
  at.tv_nsec = (long)(1e9 * (until - (double)at.tv_sec));
  pthread_cond_timedwait(&p->change, &p->lock, &at);
}

static void *live(void *of) {
  fl_pulse *p = of;
  fl_pulse_hold(p);
  while (!p->quit) {
    double every = p->promise / LOOKS;
    if (p->session == 0) {
      pthread_cond_wait(&p->change, &p->lock);
      continue;
    }
    wait(p, every);
    if (!p->quit && p->session && fl_pulse_now() - *p->spoken >= every) speak(p);
  }
  fl_pulse_release(p);
  return NULL;
}

/* The thread takes no signals, which are for those who wait in the program. */
static fl_status start(fl_pulse *p) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&p->thread, NULL, live, p);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  p->living = error == 0;
  return error ? fl_fail(FEDLANE_MEMORY, "a session cannot start its thread: %s", strerror(error))
               : FEDLANE_OK;
}

fl_status fl_pulse_set(fl_pulse *p, uint64_t session, double promise) {
  fl_pulse_hold(p);
  p->session = promise > 0 ? session : 0;
  p->promise = promise;
  pthread_cond_broadcast(&p->change);
  fl_pulse_release(p);
  return p->session && !p->living ? start(p) : FEDLANE_OK;
}
