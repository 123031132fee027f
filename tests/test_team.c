#include "team.h"

#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "suite.h"

enum { MOST = 5 };

/* What the parts of a job leave behind, without locks: the team orders who reads after whom. */
typedef struct work {
  int64_t done[MOST], seen;
  int naps; /* bits: which parts take long */
} work;

static void nap(void) {
  struct timespec t = {0, 300000}; /* longer than anyone looks for work */
  nanosleep(&t, NULL);
}

static void add(void *job, int i) {
  work *w = job;
  if (w->naps >> i & 1) nap();
  w->done[i] += w->seen + i;
}

/* Does n-part jobs, of which each reads what the one before has left. */
static void repeat(fl_team *team, int n, int times, int naps, bool nap_between) {
  work w = {.naps = naps};
  int64_t expected = 0;
  for (int t = 0; t < times; t++) {
    expected += w.seen;
    fl_team_do(team, add, &w);
    w.seen = 1 + w.done[n - 1] % 7;
    if (nap_between) nap();
  }
  for (int i = 0; i < n; i++) CU_ASSERT_EQUAL(w.done[i], expected + (int64_t)times * i);
}

static void test_each_part_once(void) {
  for (int n = 1; n <= MOST; n++) {
    fl_team *team = NULL;
    CU_ASSERT_EQUAL_FATAL(fl_team_open(n, &team), FEDLANE_OK);
    repeat(team, n, 1000, 0, false);
    repeat(team, n, 5, 1, false);            /* the others sleep before the caller is done */
    repeat(team, n, 5, (1 << n) - 2, false); /* the caller sleeps */
    repeat(team, n, 5, 0, true);             /* all sleep between jobs */
    repeat(team, n, 5, (1 << n) - 1, true);
    fl_team_close(&team);
    CU_ASSERT_PTR_NULL(team);
    fl_team_close(&team);
  }
}

/* Two parts that meet: each is in a thread of its own. */
typedef struct meeting {
  atomic_int here;
  pthread_t thread[2];
  bool signals[2];
  int libraries[2];
} meeting;

static void meet(void *job, int i) {
  meeting *m = job;
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, NULL, &blocked);
  m->signals[i] = !sigismember(&blocked, SIGINT);
  m->thread[i] = pthread_self();
  m->libraries[i] = omp_get_max_threads();
  atomic_fetch_add(&m->here, 1);
  while (atomic_load(&m->here) < 2) {
  }
}

static void test_threads(void) {
  fl_team *team = NULL;
  meeting m = {.here = 0};
  int before = omp_get_max_threads();
  omp_set_num_threads(3);
  CU_ASSERT_EQUAL_FATAL(fl_team_open(2, &team), FEDLANE_OK);
  fl_team_do(team, meet, &m);
  CU_ASSERT_EQUAL(omp_get_max_threads(), 3);
  omp_set_num_threads(before);
  for (int i = 0; i < 2; i++) {
    bool own = pthread_equal(m.thread[i], pthread_self());
    CU_ASSERT_EQUAL(m.signals[i], own);
    CU_ASSERT_EQUAL(m.libraries[i], 1);
  }
  CU_ASSERT(!pthread_equal(m.thread[0], m.thread[1]));
  fl_team_close(&team);
}

/* A forked process has the caller alone, who then does all parts. */
static void test_forked(void) {
  fl_team *team = NULL;
  work w = {.seen = 1};
  int status = -1;
  CU_ASSERT_EQUAL_FATAL(fl_team_open(3, &team), FEDLANE_OK);
  for (int slept = 0; slept < 2; slept++) {
    fl_team_do(team, add, &w);
    if (slept) nap();
    pid_t child = fork();
    if (child == 0) {
      work own = {.seen = 1};
      for (int t = 0; t < 10; t++) fl_team_do(team, add, &own);
      fl_team_close(&team);
      _exit(own.done[0] == 10 && own.done[1] == 20 && own.done[2] == 30 ? 0 : 1);
    }
    CU_ASSERT_EQUAL_FATAL(waitpid(child, &status, 0), child);
    CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  fl_team_do(team, add, &w);
  CU_ASSERT_EQUAL(w.done[2], 9);
  fl_team_close(&team);
}

static const fl_test tests[] = {
    {"each part once", test_each_part_once},
    {"threads of their own", test_threads},
    {"a forked process", test_forked},
};

FL_SUITE_MAIN("team", tests)
