/* Recorded local training: the bits of unrecorded training, one recording for equal rounds, and
 * errors in between. On a GPU, or on cuda-on-host in builds that have it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "suite.h"
#ifdef FL_CUDA_ON_HOST
#include "settings.h"
#endif

#define PIXELS "examples: 30, test: 3, channels: 1, height: 6, width: 6, classes: 3"
#define MODEL "model: {layers: [flatten, {dense: 8}, relu, {dense: 0}]}\n"
#define TRAIN                                                                                    \
  "train: {resident: false, rounds: 3, cohort: 3, epochs: 1, batch: 3, lr: 0.1}\neval: {every: " \
  "0, batch: 3}\n"

static const char *const equal = "seed: 3\nprecision: fp32\ndata: {format: synthetic, " PIXELS
                                 ", partition: {kind: iid, clients: 6}}\n" MODEL TRAIN;
static const char *const ragged =
    "seed: 3\nprecision: fp32\ndata: {format: synthetic, " PIXELS
    ", partition: {kind: dirichlet, clients: 6, alpha: 1}}\n" MODEL TRAIN;
#define DRAWN                                                    \
  "seed: 3\nprecision: fp32\ndata: {format: synthetic, " PIXELS  \
  ", crop: 1, flip: true, partition: {kind: iid, clients: 6}}\n" \
  "model: {layers: [flatten, {dense: 8}, relu, {dropout: 0.3}, {dense: 0}]}\n" TRAIN
static const char *const drawn = DRAWN;
static const char *const lengthy = /* 35 pieces: more than one recording */
    "seed: 3\nprecision: fp32\ndata: {format: synthetic, " PIXELS
    ", partition: {kind: iid, clients: 6}}\n" MODEL
    "train: {resident: false, rounds: 3, cohort: 1, epochs: 7, batch: 1, lr: 0.1}\neval: {every: "
    "0, batch: 3}\n";

/* The backend that records, when one of its devices can be opened; else NULL, and the test says
 * skipped. */
static const fl_ops *recorder(void) {
  const char *why = "this build has none";
  for (int i = 0; i < fl_backends.n; i++) {
    const fl_ops *ops = (const fl_ops *)fl_backends.entry[i];
    if (ops->capture && ops->count(&why) > 0) return ops;
  }
  printf("skipped: no backend that records: %s\n", why);
  return NULL;
}

static fedlane_run *open_run(const fl_ops *ops, const char *text, const char *more) {
  fedlane_run *run = NULL;
  char device[64];
  const char *override[] = {device, more};
  snprintf(device, sizeof device, "device=%s", ops->record.name);
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, *more ? 2 : 1, override, 0, &run), FEDLANE_OK);
  return run;
}

/* All rounds of a run whose stations use `ops`; its weights, P floats (free them). */
static float *train(const fl_ops *ops, const fl_ops *local, const char *text, const char *more,
                    int64_t *P) {
  fedlane_run *run = open_run(ops, text, more);
  run->station[0].lanes.ops = local;
  while (fedlane_round(run, NULL) == FEDLANE_OK) continue;
  CU_ASSERT_EQUAL(run->round, 3);
  *P = run->server.P;
  float *w = malloc((size_t)(4 * *P));
  CU_ASSERT_EQUAL(ops->download(run->server.dev, w, run->server.w, 4 * *P), FEDLANE_OK);
  fedlane_close(&run);
  return w;
}

static void test_recorded_as_unrecorded(void) {
  const fl_ops *ops = recorder();
  const char *const text[] = {equal, ragged, drawn, ragged, ragged, equal, equal, lengthy};
  const char *const more[] = {
      "", "", "", "algorithm=scaffold", "train.momentum=0.9", "width=2", "train.lr_decay=0.9", ""};
  if (!ops) return;
  fl_ops plain = *ops;
  plain.capture = NULL;
  plain.play = NULL;
  for (int i = 0; i < FL_COUNT(text); i++) {
    int64_t p, q;
    float *a = train(ops, ops, text[i], more[i], &p), *b = train(ops, &plain, text[i], more[i], &q);
    CU_ASSERT(p == q && memcmp(a, b, (size_t)(4 * p)) == 0);
    free(a);
    free(b);
  }
}

/* A device's own vector of one float, to which work is recorded. */
typedef struct bench {
  const fl_ops *ops;
  fl_dev *dev;
  fl_span y;
} bench;

static bench bench_open(const fl_ops *ops) {
  bench b = {.ops = ops};
  void *at = NULL;
  CU_ASSERT_EQUAL_FATAL(ops->open(&(fl_dev_options){0, FL_MATH_FP32}, &b.dev), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(ops->alloc(b.dev, 64, &at), FEDLANE_OK);
  b.y.at = at;
  return b;
}

static void bench_close(bench *b) {
  void *at = b->y.at;
  b->ops->release(b->dev, &at);
  b->ops->close(&b->dev);
}

/* Writes `value` under a key, recorded unless it is known; returns whether it was. */
static bool write_recorded(bench *b, uint64_t key, float value) {
  bool known = false;
  CU_ASSERT_EQUAL(b->ops->capture(b->dev, key, &known), FEDLANE_OK);
  if (!known) CU_ASSERT_EQUAL(b->ops->fill(b->dev, 1, 1, value, b->y), FEDLANE_OK);
  CU_ASSERT_EQUAL(b->ops->play(b->dev, true), FEDLANE_OK);
  return known;
}

static float read_back(bench *b) {
  float value = -1;
  CU_ASSERT_EQUAL(b->ops->download(b->dev, &value, b->y.at, sizeof value), FEDLANE_OK);
  return value;
}

enum { KEPT = 16, KEYS = 19 }; /* what a device keeps, and more */

static void test_more_keys_than_are_kept(void) {
  const fl_ops *ops = recorder();
  if (!ops) return;
  bench b = bench_open(ops);
  for (int k = 0; k < KEYS; k++) CU_ASSERT_FALSE(write_recorded(&b, (uint64_t)k, (float)k));
  for (int k = KEYS - KEPT; k < KEYS; k++) {
    CU_ASSERT_TRUE(write_recorded(&b, (uint64_t)k, 99));
    CU_ASSERT_EQUAL(read_back(&b), (float)k);
  }
  CU_ASSERT_FALSE(write_recorded(&b, 0, 50)); /* takes the place of the oldest */
  CU_ASSERT_EQUAL(read_back(&b), 50);
  CU_ASSERT_FALSE(write_recorded(&b, KEYS - KEPT, 60));
  CU_ASSERT_TRUE(write_recorded(&b, KEYS - 1, 99));
  CU_ASSERT_EQUAL(read_back(&b), KEYS - 1);
  bench_close(&b);
}

/* A call that recording forbids: its own sentence stays, and the device works on. */
static void test_an_error_in_between(void) {
  const fl_ops *ops = recorder();
  bool known = true;
  float here = 0;
  if (!ops) return;
  bench b = bench_open(ops);
  CU_ASSERT_FALSE(write_recorded(&b, 1, 5));
  CU_ASSERT_EQUAL(ops->capture(b.dev, 2, &known), FEDLANE_OK);
  CU_ASSERT_FALSE(known);
  CU_ASSERT_EQUAL(ops->fill(b.dev, 1, 1, 6, b.y), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->download(b.dev, &here, b.y.at, sizeof here), FEDLANE_DEVICE);
  char sentence[256];
  snprintf(sentence, sizeof sentence, "%s", fedlane_error());
  CU_ASSERT_PTR_NOT_NULL(strstr(sentence, "GPU 0 failed while"));
  CU_ASSERT_EQUAL(ops->play(b.dev, false), FEDLANE_OK);
  CU_ASSERT_STRING_EQUAL(fedlane_error(), sentence);
  CU_ASSERT_EQUAL(read_back(&b), 5);
  CU_ASSERT_FALSE(write_recorded(&b, 2, 7)); /* nothing was kept */
  CU_ASSERT_EQUAL(read_back(&b), 7);
  CU_ASSERT_TRUE(write_recorded(&b, 1, 99));
  CU_ASSERT_EQUAL(read_back(&b), 5);
  bench_close(&b);
  CU_ASSERT_EQUAL(ops->open(&(fl_dev_options){0, FL_MATH_FP32}, &b.dev), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->capture(b.dev, 3, &known), FEDLANE_OK);
  ops->close(&b.dev); /* with a recording in progress */
}

static fl_status no_loss(fl_dev *d, fl_batch b, int K, fl_coef norm, const int32_t *label,
                         fl_cspan z, fl_span dz, double *loss, int64_t *hit) {
  (void)d, (void)b, (void)K, (void)norm, (void)label, (void)z, (void)dz, (void)loss, (void)hit;
  return fl_fail(FEDLANE_INTERNAL, "no loss today");
}

static void test_a_round_that_fails(void) {
  const fl_ops *ops = recorder();
  if (!ops) return;
  fl_ops broken = *ops;
  broken.xent = no_loss;
  fedlane_run *run = open_run(ops, drawn, "");
  CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
  run->station[0].lanes.ops = &broken;
  CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_INTERNAL);
  CU_ASSERT_STRING_EQUAL(fedlane_error(), "no loss today");
  run->station[0].lanes.ops = ops;
  CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
  CU_ASSERT_EQUAL(run->round, 2);
  fedlane_close(&run);
}

#ifdef FL_CUDA_ON_HOST
/* Graphs made, made over and queued by the rounds of a run. */
static fl_host_graphs graphs_of(const char *text, const char *more) {
  fl_host_graphs before = fl_host_graphs_counted();
  int64_t P;
  free(train(&fl_cuda_ops, &fl_cuda_ops, text, more, &P));
  fl_host_graphs after = fl_host_graphs_counted();
  return (fl_host_graphs){after.instantiated - before.instantiated, after.updated - before.updated,
                          after.launched - before.launched};
}

static void test_equal_rounds_replay(void) {
  fl_host_graphs g = graphs_of(equal, "");
  CU_ASSERT(g.instantiated == 1 && g.updated == 0 && g.launched == 3);
  g = graphs_of(equal, "width=2"); /* two waves a round: of two lanes and of one */
  CU_ASSERT(g.instantiated == 2 && g.updated == 0 && g.launched == 6);
  g = graphs_of(equal, "train.lr_decay=0.9");
  CU_ASSERT(g.instantiated == 3 && g.launched == 3);
  g = graphs_of(drawn, "");
  CU_ASSERT(g.instantiated == 3 && g.launched == 3);
  g = graphs_of("width: 1\n" DRAWN, "train.cohort=6"); /* 18 waves alike but for their numbers */
  CU_ASSERT(g.instantiated == KEPT && g.updated == 18 - KEPT && g.launched == 18);
  g = graphs_of(lengthy, "");
  CU_ASSERT(g.instantiated == 2 && g.updated == 0 && g.launched == 6);
}
#endif

static const fl_test tests[] = {
    {"recorded as unrecorded", test_recorded_as_unrecorded},
    {"more keys than are kept", test_more_keys_than_are_kept},
    {"an error in between", test_an_error_in_between},
    {"a round that fails", test_a_round_that_fails},
#ifdef FL_CUDA_ON_HOST
    {"equal rounds replay", test_equal_rounds_replay},
#endif
};

FL_SUITE_MAIN("recording", tests)
