#include "team.h"

#include <omp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LOOKS_NS = 50000 }; /* how long a waiting thread looks before it sleeps */

/* What has become of a member's part of the job. */
enum {
  DONE = 1,
  READY = 2, /* nobody has begun it */
  TAKEN = 4,
  LEAVE = 8 /* there will be no more */
};

/* Where a thread sleeps. */
typedef struct bed {
  atomic_bool asleep;
  sem_t call;
} bed;

typedef struct member {
  _Alignas(128) atomic_int state;
  bed bed;
  pthread_t thread;
  fl_team *team;
} member;

struct fl_team {
  int n, started; /* parts; threads, those of the members from 1 on */
  pid_t process;
  fl_job_part part;
  void *job;
  bed bed;         /* of the caller */
  member member[]; /* the first is whoever calls */
};

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pause_core(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static bool is(atomic_int *state, int wanted) { return atomic_load(state) & wanted; }

static bool comes_soon(atomic_int *state, int wanted) {
  for (int64_t end = now() + LOOKS_NS; now() < end;)
    for (int i = 0; i < 16; i++) {
      if (is(state, wanted)) return true;
      pause_core();
    }
  return false;
}

/* Returns when the state is one of `wanted`. Whoever sets it calls wake() after. */
static void wait_for(atomic_int *state, int wanted, bed *b) {
  if (is(state, wanted) || comes_soon(state, wanted)) return;
  while (!is(state, wanted)) {
    atomic_store(&b->asleep, true);
    /* What has come meanwhile is taken without sleeping, unless its call is on the way. */
    if (is(state, wanted) && atomic_exchange(&b->asleep, false)) return;
    while (sem_wait(&b->call) != 0) {
    } /* a signal has interrupted it */
  }
}

static void wake(bed *b) {
  if (atomic_exchange(&b->asleep, false)) sem_post(&b->call);
}

/* Does a member's part, if nobody has begun it. */
static void take(fl_team *team, int i) {
  atomic_int *state = &team->member[i].state;
  int ready = READY;
  if (!atomic_compare_exchange_strong(state, &ready, TAKEN)) return;
  team->part(team->job, i);
  atomic_store(state, DONE);
}

static void *live(void *argument) {
  member *self = argument;
  fl_team *team = self->team;
  omp_set_num_threads(1); /* a library that would start threads of its own stays on this one */
  for (;;) {
    wait_for(&self->state, READY | LEAVE, &self->bed);
    if (is(&self->state, LEAVE)) return NULL;
    take(team, (int)(self - team->member));
    wake(&team->bed);
  }
}

static void tell(member *m, int state) {
  atomic_store(&m->state, state);
  wake(&m->bed);
}

void fl_team_do(fl_team *team, fl_job_part part, void *job) {
  int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  team->part = part;
  team->job = job;
  for (int i = team->n - 1; i >= 0; i--) tell(&team->member[i], READY);
  for (int i = 0; i < team->n; i++) take(team, i);
  for (int i = 1; i < team->n; i++) wait_for(&team->member[i].state, DONE, &team->bed);
  omp_set_num_threads(threads);
}

/* Starts the members' threads, which leave signals to the program's own. */
static fl_status start(fl_team *team) {
  sigset_t all, before;
  int error = 0;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int i = 1; i < team->n && !error; i++) {
    member *m = &team->member[i];
    error = pthread_create(&m->thread, NULL, live, m);
    team->started += !error;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!error) return FEDLANE_OK;
  return fl_fail(FEDLANE_MEMORY, "%d threads cannot be started; `threads` can ask for fewer",
                 team->n - 1);
}

fl_status fl_team_open(int n, fl_team **out) {
  size_t size = sizeof(fl_team) + (size_t)n * sizeof(member);
  fl_team *team = aligned_alloc(_Alignof(member), size);
  if (!team) return fl_fail(FEDLANE_MEMORY, "no memory for %d threads", n);
  *team = (fl_team){.n = n, .process = getpid()};
  sem_init(&team->bed.call, 0, 0);
  for (int i = 0; i < n; i++) {
    team->member[i] = (member){.state = DONE, .team = team};
    sem_init(&team->member[i].bed.call, 0, 0);
  }
  *out = team;
  fl_status status = start(team);
  if (status != FEDLANE_OK) fl_team_close(out);
  return status;
}

void fl_team_close(fl_team **handle) {
  fl_team *team = *handle;
  if (!team) return;
  /* A forked process has none of the threads. */
  for (int i = 1; i <= team->started && getpid() == team->process; i++) {
    tell(&team->member[i], LEAVE);
    pthread_join(team->member[i].thread, NULL);
  }
  for (int i = 0; i < team->n; i++) sem_destroy(&team->member[i].bed.call);
  sem_destroy(&team->bed.call);
  free(team);
  *handle = NULL;
}
