/* Implicit dense layers give what layers with weights of their own give, whatever the algorithm,
 * on every backend. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "suite.h"

/* Two implicit layers one after another, ragged clients with partial batches, several epochs. */
static const char *const plain =
    "seed: 5\nprecision: fp32\n"
    "data: {format: synthetic, examples: 60, test: 10, channels: 1, height: 8, width: 8,\n"
    "       classes: 5, partition: {kind: dirichlet, clients: 7, alpha: 0.8}}\n"
    "model: {layers: [{conv: 6, kernel: 3}, {max_pool: 2}, relu, flatten, {dropout: 0.2},\n"
    "                 {dense: 24}, relu, {dropout: 0.2}, {dense: 18, no_bias: true}, tanh,\n"
    "                 {dense: 0}]}\n"
    "train: {rounds: 2, cohort: 3, epochs: 2, batch: 4, lr: 0.1}\neval: {every: 1, batch: 8}\n";

/* What is added to the gradient, kept by clients and done to updates. */
static const char *const variants[] = {
    "algorithm: fedavg\n",
    "algorithm: {name: fedprox, mu: 0.3}\n",
    "algorithm: scaffold\n",
    "algorithm: {name: feddyn, alpha: 0.2}\n",
    "algorithm: {name: fedavgm, beta: 0.5}\n",
    "algorithm: fedadam\n",
    "algorithm: fedavg\nfilters: [{name: clip, norm: 0.05}]\n",
    "algorithm: scaffold\nfilters: [{name: clip, norm: 0.05}]\n",
    ("algorithm: fedavg\nfilters: [{name: clip, norm: 0.1}, {name: gaussian, deviation: 0.01, "
     "where: clients}]\n"),
};

static double difference(const float *a, const float *b, int64_t n) {
  double largest = 0, worst = 0;
  for (int64_t i = 0; i < n; i++) {
    largest = fmax(largest, fabs(b[i]));
    worst = isfinite(a[i]) ? fmax(worst, fabs((double)a[i] - b[i])) : INFINITY;
  }
  return worst / largest;
}

/* Kernels run by the host are slow: they get one round. */
static void compare(const fl_ops *ops, const char *variant, const char *more) {
  const char *device = ops->record.name, *rounds = ops->host ? "train.rounds=2" : "train.rounds=1";
  char text[2048];
  int64_t p = 0, q = 0;
  fedlane_metrics own, implicit;
  snprintf(text, sizeof text, "%sdevice: %s\n%s", plain, device, variant);
  const char *never[] = {"train.implicit=never", more, rounds};
  const char *always[] = {"train.implicit=always", more, rounds};
  float *x = fl_fixture_train(text, 3, never, &p, &own);
  float *y = fl_fixture_train(text, 3, always, &q, &implicit);
  double off = x && y && p == q ? difference(y, x, p) : INFINITY;
  if (off > 1e-5) printf("\n    %s off by %.3g: %s%s\n", device, off, variant, more);
  CU_ASSERT(off <= 1e-5);
  CU_ASSERT_DOUBLE_EQUAL(own.train_loss, implicit.train_loss, 1e-5 * own.train_loss);
  CU_ASSERT_EQUAL(own.clients, implicit.clients);
  free(x);
  free(y);
}

static void on_each_backend(const char *variant, const char *more) {
  for (int k = 0; k < fl_backends.n; k++) {
    const fl_ops *ops = (const fl_ops *)fl_backends.entry[k];
    const char *why = "";
    if (ops->count(&why) > 0)
      compare(ops, variant, more);
    else
      printf("skipped: %s: %s\n", ops->record.name, why);
  }
}

static void test_every_algorithm(void) {
  for (int i = 0; i < FL_COUNT(variants); i++) on_each_backend(variants[i], "train.epochs=2");
}

static void test_weight_decay(void) {
  for (int i = 0; i < 4; i++) on_each_backend(variants[i], "train.weight_decay=0.1");
}

static void test_learning_rates_that_fall(void) {
  on_each_backend(variants[0], "train.lr_decay=0.7");
}

/* The run has implicit layers: all but the last dense layer. */
static void test_it_is_what_it_says(void) {
  fedlane_run *run = NULL;
  const char *always[] = {"device=cpu", "train.implicit=always"};
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(plain, 2, always, 0, &run), FEDLANE_OK);
  int implicit = 0;
  int64_t end = 0;
  for (int i = 0; i < fl_model_parts(run->model); i++) {
    const fl_part *part = fl_model_part(run->model, i);
    CU_ASSERT(part->at >= end && part->at < end + 16);
    end = part->at + part->n;
    implicit += part->implicit;
    if (part->implicit) CU_ASSERT_EQUAL(part->n, (int64_t)part->I * part->O);
  }
  CU_ASSERT_EQUAL(implicit, 2);
  CU_ASSERT_EQUAL(end, fl_model_about(run->model)->P);
  CU_ASSERT(fl_model_history(run->model) > 0);
  fedlane_close(&run);
}

/* Half of the clients a round cost less rank than weights: the built-in network chooses so. */
static void test_rank_and_size_decide(void) {
  static const struct {
    const char *how;
    bool implicit;
  } cases[] = {{"train.batch=10", true},         {"train.epochs=40", false},
               {"train.momentum=0.9", false},    {"train.clip_norm=1", false},
               {"train.weight_decay=20", false}, {"model.name=logistic", false},
               {"train.implicit=never", false}};
  static const char *const text =
      "device: cpu\ndata: {format: synthetic, examples: 500, test: 20, channels: 3, height: 32,\n"
      "       width: 32, classes: 10, partition: {kind: iid, clients: 10}}\n"
      "model: {name: cnn_dropout}\ntrain: {rounds: 1, cohort: 2, batch: 10}\n";
  for (int i = 0; i < FL_COUNT(cases); i++) {
    fedlane_run *run = NULL;
    char page[4096];
    CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 1, &cases[i].how, FL_OPEN_DRY, &run), FEDLANE_OK);
    CU_ASSERT_EQUAL(fl_run_describe(run, page, sizeof page), FEDLANE_OK);
    CU_ASSERT_EQUAL(fl_model_history(run->model) > 0, cases[i].implicit);
    CU_ASSERT_EQUAL(strstr(page, "fc1.weight, 128 x 12544: a history of 50 rows") != NULL,
                    cases[i].implicit);
    fedlane_close(&run);
  }
}

static void refuse(const char *more, const char *sentence) {
  fedlane_run *run = NULL;
  const char *lines[] = {"device=cpu", "train.implicit=always", more};
  fl_status status = fl_fixture_open(plain, 3, lines, 0, &run);
  if (status == FEDLANE_OK) status = fedlane_round(run, NULL);
  CU_ASSERT_EQUAL(status, FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), sentence));
  fedlane_close(&run);
}

static void test_what_does_not_go(void) {
  refuse("train.momentum=0.5", "implicit layers know plain steps only");
  refuse("train.clip_norm=1", "implicit layers know plain steps only");
  refuse("train.weight_decay=20", "must be below 0.5");
}

static void test_any_width(void) {
  static const char *const filters[] = {"", "filters: [{name: clip, norm: 0.05}]\n",
                                        "algorithm: scaffold\n"};
  for (int i = 0; i < FL_COUNT(filters); i++) {
    char text[2048];
    snprintf(text, sizeof text, "%sdevice: cpu\n%s", plain, filters[i]);
    for (int w = 2; w <= 3; w++) {
      const char *one[] = {"train.implicit=always", "width=1"};
      char width[24];
      snprintf(width, sizeof width, "width=%d", w);
      const char *many[] = {"train.implicit=always", width};
      int64_t p, q;
      float *x = fl_fixture_train(text, 2, one, &p, NULL);
      float *y = fl_fixture_train(text, 2, many, &q, NULL);
      CU_ASSERT(x && y && p == q && memcmp(x, y, (size_t)(4 * p)) == 0);
      free(x);
      free(y);
    }
  }
}

static const fl_test tests[] = {
    {"every algorithm", test_every_algorithm},
    {"weight decay", test_weight_decay},
    {"learning rates that fall", test_learning_rates_that_fall},
    {"it is what it says", test_it_is_what_it_says},
    {"rank and size decide", test_rank_and_size_decide},
    {"what does not go", test_what_does_not_go},
    {"any width", test_any_width},
};

FL_SUITE_MAIN("implicit", tests)
