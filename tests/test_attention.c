/* Federated training of a small transformer whose output is tied to its embedding, on sequences of
 * tokens with labels that do not all count. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "fixture.h"
#include "suite.h"

static const char *const plain =
    "seed: 3\ndevice: cpu\nprecision: fp32\n"
    "data: {format: synthetic, kind: tokens, examples: 60, test: 20, classes: 9, steps: 6,\n"
    "       clients: 7, noise: 0.1, partition: natural}\n"
    "model: {layers: [{embed: 8}, scale, waves, {dense: 24}, {attention: 2, causal: true},\n"
    "                 {dense: 8}, {dropout: 0.1}, {add: -5}, layer_norm, position,\n"
    "                 {dense: 0, tie: -10}]}\n"
    "train: {rounds: 2, cohort: 3, epochs: 2, batch: 4, lr: 0.1}\neval: {every: 1, batch: 8}\n";

static double difference(const float *a, const float *b, int64_t n) {
  double largest = 0, worst = 0;
  for (int64_t i = 0; i < n; i++) {
    largest = fmax(largest, fabs(b[i]));
    worst = isfinite(a[i]) ? fmax(worst, fabs((double)a[i] - b[i])) : INFINITY;
  }
  return worst / largest;
}

/* Trains in two ways and compares the weights. */
static void same(const char *const one[], const char *const other[], int n) {
  int64_t p = 0, q = 0;
  fedlane_metrics a, b;
  float *x = fl_fixture_train(plain, n, (const char **)one, &p, &a);
  float *y = fl_fixture_train(plain, n, (const char **)other, &q, &b);
  double off = x && y && p == q ? difference(y, x, p) : INFINITY;
  if (!(off <= 2e-5)) printf("\n    %s, %s: off by %.3g", one[0], other[0], off);
  CU_ASSERT(off <= 2e-5);
  CU_ASSERT_DOUBLE_EQUAL(a.train_loss, b.train_loss, 1e-5 * a.train_loss);
  free(x);
  free(y);
}

/* Every backend trains to the oracle's weights. */
static void test_backends(void) {
  for (int k = 0; k < fl_backends.n; k++) {
    const fl_ops *ops = (const fl_ops *)fl_backends.entry[k];
    const char *why = "";
    char device[64];
    if (ops->count(&why) == 0) printf("skipped: %s: %s\n", ops->record.name, why);
    if (ops->count(&why) == 0 || ops == &fl_ref_ops) continue;
    snprintf(device, sizeof device, "device=%s", ops->record.name);
    same((const char *[]){"device=ref"}, (const char *[]){device}, 1);
  }
}

/* Steps straight into the weights are those that go through a gradient's buffer: the tied weight,
 * which gets two gradients, takes each term once. */
static void test_terms(void) {
  static const char *const variant[] = {"algorithm.name=fedavg", "algorithm.name=scaffold",
                                        "algorithm.name=feddyn"};
  for (int i = 0; i < FL_COUNT(variant); i++)
    same((const char *[]){"train.clip_norm=0", "train.weight_decay=0.3", variant[i]},
         (const char *[]){"train.clip_norm=1e9", "train.weight_decay=0.3", variant[i]}, 3);
}

static void test_width_and_threads_are_invisible(void) {
  fl_fixture_same(plain, "width=1", "width=3");
  fl_fixture_same(plain, "threads=1", "threads=2");
}

static void test_it_learns(void) {
  const char *more[] = {"train.rounds=30", "train.lr=0.3"};
  int64_t p;
  fedlane_metrics end;
  free(fl_fixture_train(plain, 2, more, &p, &end));
  CU_ASSERT(end.test_loss < 1.2); /* ln 9 is 2.2; the noise alone leaves 0.5 */
}

static const fl_test tests[] = {
    {"backends", test_backends},
    {"terms", test_terms},
    {"width and threads are invisible", test_width_and_threads_are_invisible},
    {"it learns", test_it_learns},
};
FL_SUITE_MAIN("attention", tests)
