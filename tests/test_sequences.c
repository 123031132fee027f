/* Whole runs over sequences: every backend ends near the reference, and lanes, threads and widths
 * are invisible. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "fixture.h"
#include "suite.h"

/* Sequences of several lengths, ragged clients, a last partial batch, labels that do not
 * count; fp32 everywhere. */
#define TRAIN                                                                              \
  "seed: 4\nprecision: fp32\n"                                                             \
  "train: {rounds: 2, cohort: 4, epochs: 1, batch: 3, lr: 0.3}\neval: {every: 2}\n"        \
  "data: {format: synthetic, kind: tokens, classes: 9, steps: 5, examples: 38, test: 6,\n" \
  "       clients: 5, noise: 0.1, partition: {kind: natural}}\n"
#define TOKENS "model: {layers: [{embed: 6}, {lstm: 10}, {gru: 8}, last, {dense: 0}]}\n"

static const char *const variants[] = {
    TRAIN TOKENS,
    TRAIN TOKENS "algorithm: {name: fedprox, mu: 0.2}\n",
    TRAIN TOKENS "algorithm: scaffold\n",
};
static const char *const ways[] = {"", "train.momentum=0.5", "train.batch=0"};

static void close_to(const char *what, int64_t n, const float *have, const float *want) {
  double worst = 0, moved = 0;
  for (int64_t i = 0; i < n; i++) {
    double error = fabs((double)have[i] - want[i]);
    if (!(error <= worst)) worst = error;
    moved = fmax(moved, fabs(want[i]));
  }
  bool good = worst <= 2e-5 * moved;
  if (!good) printf("\n    %s: off by %g of %g\n", what, worst, moved);
  CU_ASSERT(good);
}

static bool present(const char *name) {
  for (int i = 0; i < fl_backends.n; i++) {
    const fl_ops *ops = (const fl_ops *)fl_backends.entry[i];
    const char *why = "";
    if (strcmp(ops->record.name, name) == 0) return ops->count(&why) > 0;
  }
  return false;
}

static void check_device(const char *device) {
  char name[32];
  snprintf(name, sizeof name, "device=%s", device);
  for (int i = 0; i < FL_COUNT(variants); i++)
    for (int k = 0; k < (i == 0 ? FL_COUNT(ways) : 1); k++) {
      const char *ref[] = {"device=ref", ways[k]}, *own[] = {name, ways[k]};
      int n = ways[k][0] ? 2 : 1;
      int64_t P = 0, Q = 0;
      fedlane_metrics a, b;
      float *want = fl_fixture_train(variants[i], n, ref, &P, &a);
      float *have = fl_fixture_train(variants[i], n, own, &Q, &b);
      CU_ASSERT_FATAL(want && have && P == Q);
      close_to(device, P, have, want);
      CU_ASSERT_DOUBLE_EQUAL(a.train_loss, b.train_loss, 1e-5);
      CU_ASSERT_DOUBLE_EQUAL(a.test_loss, b.test_loss, 1e-5);
      CU_ASSERT(a.train_loss > 0.1 && a.train_loss < log(9) + 0.1);
      free(want);
      free(have);
    }
}

static void backends_agree(void) {
  static const char *const devices[] = {"cpu", "cuda", "cuda-on-host"};
  int n = 0;
  for (int i = 0; i < FL_COUNT(devices); i++) {
    if (!present(devices[i])) printf("absent: %s; ", devices[i]);
    if (!present(devices[i])) continue;
    check_device(devices[i]);
    n++;
  }
  CU_ASSERT(n > 0);
}

static void sharing_out_is_invisible(void) {
  for (int i = 0; i < FL_COUNT(variants); i++) {
    char text[1024];
    snprintf(text, sizeof text, "%sdevice: cpu\n", variants[i]);
    fl_fixture_same(text, "width=1", "width=4");
    fl_fixture_same(text, "threads=1", "threads=2");
  }
}

/* More rounds on easy data learn most of what follows what. */
static void tokens_are_learnt(void) {
  const char *more[] = {"device=cpu", "train.rounds=60", "train.lr=1", "train.cohort=5"};
  fedlane_metrics m;
  int64_t P = 0;
  free(fl_fixture_train(variants[0], FL_COUNT(more), more, &P, &m));
  CU_ASSERT(m.test_accuracy > 0.7);
  CU_ASSERT(m.test_loss < 1.2);
}

static const fl_test tests[] = {
    {"backends agree", backends_agree},
    {"sharing out is invisible", sharing_out_is_invisible},
    {"tokens are learnt", tokens_are_learnt},
};
FL_SUITE_MAIN("sequences", tests)
