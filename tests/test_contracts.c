/* The same configuration and seed give the same bits, however the work is shared out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "suite.h"

#if defined(__SANITIZE_ADDRESS__)
/* Of the sanitizer's run-time library; its header is not everywhere. */
int __sanitizer_install_malloc_and_free_hooks(void (*made)(const volatile void *, size_t),
                                              void (*freed)(const volatile void *));
size_t __sanitizer_get_current_allocated_bytes(void);
#endif

/* Ragged clients, a last partial batch, dropout, augmentation, several epochs. */
#define DATA                                                                                  \
  "data: {format: synthetic, examples: 400, test: 90, channels: 1, height: 12, width: 12,\n"  \
  "       classes: 5, crop: 1, flip: true, partition: {kind: dirichlet, clients: 17, alpha: " \
  "0.4}}\n"
#define MODEL                                                                                  \
  "model: {layers: [{conv: 16, kernel: 3}, {max_pool: 2}, relu, {conv: 8, kernel: 3}, relu,\n" \
  "                 flatten, {dropout: 0.3}, {dense: 20}, relu, {dense: 0}]}\n"
#define TRAIN "train: {rounds: 3, cohort: 9, epochs: 2, batch: 8, lr: 0.1}\neval: {every: 2}\n"

static const char *const plain = "seed: 11\ndevice: cpu\n" DATA MODEL TRAIN;
static const char *const variants[] = {
    "algorithm: scaffold\n",
    "algorithm: {name: feddyn, alpha: 0.1}\n",
    "algorithm: fedadam\n",
    "algorithm: fedsgd\n",
    ("filters: [{name: clip, norm: 0.5}, {name: gaussian, deviation: 0.01, where: clients},\n"
     "          {name: gaussian, deviation: 0.01}]\n"),
    "sampler: {kind: uniform, replacement: true}\n",
};

static void compare_all(const char *text) {
  fl_fixture_same(text, "width=1", "width=2");
  fl_fixture_same(text, "width=1", "width=7");
  fl_fixture_same(text, "width=1", "width=9");
  fl_fixture_same(text, "threads=1", "threads=2");
  fl_fixture_same(text, "threads=3", "");
}

static void test_width_and_threads_are_invisible(void) {
  compare_all(plain);
  for (int i = 0; i < FL_COUNT(variants); i++) {
    char text[2048];
    snprintf(text, sizeof text, "%s%s", plain, variants[i]);
    fl_fixture_same(text, "width=1", "width=7");
    fl_fixture_same(text, "threads=1", "threads=2");
  }
}

static void test_unfused_paths_too(void) {
  static const char *const how[] = {"train.momentum=0.9", "train.clip_norm=0.5", "train.batch=0"};
  for (int i = 0; i < FL_COUNT(how); i++) {
    const char *a[] = {how[i], "width=1"}, *b[] = {how[i], "threads=2"};
    int64_t p, r;
    float *x = fl_fixture_train(plain, 2, a, &p, NULL),
          *y = fl_fixture_train(plain, 2, b, &r, NULL);
    CU_ASSERT(x && y && p == r && memcmp(x, y, (size_t)(4 * p)) == 0);
    free(x);
    free(y);
  }
}

/* Lanes that share a call, as on a GPU, instead of walking one after another. */
static void test_lanes_of_one_call(void) {
  int64_t P = 0;
  float *want = fl_fixture_train(plain, 0, NULL, &P, NULL);
  for (int together = 2; together <= 9; together += 7) {
    fedlane_run *run = NULL;
    const char *width = "width=9";
    CU_ASSERT_EQUAL_FATAL(fl_fixture_open(plain, 1, &width, 0, &run), FEDLANE_OK);
    run->plan.together = together;
    for (int i = 0; i < run->n_station; i++) {
      fl_station_close(&run->station[i]);
      CU_ASSERT_EQUAL_FATAL(fl_station_open(run, i), FEDLANE_OK);
    }
    while (fedlane_round(run, NULL) == FEDLANE_OK) continue;
    CU_ASSERT_EQUAL(memcmp(want, run->server.w, (size_t)(4 * P)), 0);
    fedlane_close(&run);
  }
  free(want);
}

static void test_metrics_are_the_same_too(void) {
  fedlane_metrics a, b;
  int64_t P;
  const char *one[] = {"threads=1", "eval.clients=true"};
  const char *two[] = {"threads=2", "eval.clients=true"};
  free(fl_fixture_train(plain, 2, one, &P, &a));
  free(fl_fixture_train(plain, 2, two, &P, &b));
  a.seconds = b.seconds = a.joules = b.joules = 0;
  a.gflops = b.gflops = a.gbytes_per_second = b.gbytes_per_second = 0;
  CU_ASSERT_EQUAL(memcmp(&a, &b, sizeof a), 0);
  CU_ASSERT(a.test_accuracy > 0.2 && a.client_worst <= a.client_mean && a.clients == 9);
}

static void test_seed_matters(void) {
  int64_t P;
  const char *other = "seed=12";
  float *a = fl_fixture_train(plain, 0, NULL, &P, NULL);
  float *b = fl_fixture_train(plain, 1, &other, &P, NULL);
  CU_ASSERT(a && b && memcmp(a, b, (size_t)(4 * P)) != 0);
  free(a);
  free(b);
}

#if defined(__SANITIZE_ADDRESS__)
static int allocations;
static size_t ignored; /* allocations up to this size do not count */

static void counted(const volatile void *at, size_t size) {
  (void)at;
  if (size > ignored) __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
}

static void released(const volatile void *at) { (void)at; }

static void count_rounds(const char *device) {
  fedlane_run *run = NULL;
  const char *more[] = {"train.rounds=6", "threads=2", "eval.every=1", device};
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(plain, 4, more, 0, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
  for (int i = 0; i < 4; i++) {
    size_t before = __sanitizer_get_current_allocated_bytes();
    allocations = 0;
    CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
    CU_ASSERT_EQUAL(allocations, 0);
    CU_ASSERT_EQUAL(__sanitizer_get_current_allocated_bytes(), before);
  }
  fedlane_close(&run);
}

static void test_round_two_allocates_nothing(void) {
  __sanitizer_install_malloc_and_free_hooks(counted, released);
  ignored = 0;
  count_rounds("device=ref");
  ignored = SIZE_MAX; /* oneDNN takes memory inside a call and gives it back: only growth counts */
  count_rounds("device=cpu");
}
#endif

static const fl_test tests[] = {
    {"wave width and threads are invisible", test_width_and_threads_are_invisible},
    {"also with momentum, clipping and whole batches", test_unfused_paths_too},
    {"lanes of one call are invisible", test_lanes_of_one_call},
    {"metrics are the same too", test_metrics_are_the_same_too},
    {"the seed matters", test_seed_matters},
#if defined(__SANITIZE_ADDRESS__)
    {"round two allocates nothing", test_round_two_allocates_nothing},
#endif
};
FL_SUITE_MAIN("contracts", tests)
