/* Lanes that stay on chip for all their local epochs: the same weights as calls one by one give,
 * the same bits for any wave, and what cannot be taken is left to the usual way with a reason. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "suite.h"
#include "tape.h"

/* Ragged clients, several epochs, a last partial batch, augmentation. */
static const char *const setting =
    "seed: 11\nprecision: fp32\ndevice: %s\n"
    "data: {format: synthetic, examples: %d, test: 20, channels: %d, height: %d, width: %d,\n"
    "       classes: 5, crop: %d, flip: %s, partition: {kind: dirichlet, clients: 6, alpha: 1}}\n"
    "model: {%s}\n"
    "train: {rounds: 2, cohort: 3, epochs: 2, batch: %d, lr: 0.05}\neval: {every: 2}\n%s";

typedef struct scene {
  int examples, channels, side, crop, batch;
  const char *model, *rest;
} scene;

static const scene scenes[] = {
    {60, 1, 8, 0, 10, "name: logistic", ""},
    {90, 1, 4, 1, 20, "name: mlp", ""},
    {60, 3, 8, 1, 10,
     "layers: [flatten, {dense: 40}, tanh, {dropout: 0.4}, {dense: 21}, gelu, {dense: 0}]",
     "algorithm: scaffold\n"},
    {60, 2, 9, 1, 10,
     "layers: [{conv: 5, kernel: 3, pad: 1}, relu, {max_pool: 2}, {conv: 7, kernel: 5, pad: 2}, "
     "sigmoid, "
     "flatten, "
     "{dense: 0}]",
     "algorithm: {name: feddyn, alpha: 0.1}\n"},
    {60, 3, 9, 0, 30,
     "layers: [{conv: 6, kernel: 5}, {max_pool: 3, stride: 2, pad: 1}, relu, "
     "{conv: 9, kernel: 3, no_bias: true}, {avg_pool: 0}, flatten, {dense: 0, no_bias: true}]",
     "algorithm: {name: fedprox, mu: 0.1}\n"},
};

/* The backend with resident lanes when one of its devices can be opened; else NULL, and the test
 * says skipped. */
static const fl_ops *gpu(void) {
  const char *why = "this build has none";
  for (int i = 0; i < fl_backends.n; i++) {
    const fl_ops *ops = (const fl_ops *)fl_backends.entry[i];
    if (ops->resident && ops->count(&why) > 0) return ops;
  }
  printf("skipped: no GPU: %s\n", why);
  return NULL;
}

static void write_text(char *out, size_t size, const fl_ops *ops, const scene *s) {
  snprintf(out, size, setting, ops->record.name, s->examples, s->channels, s->side, s->side,
           s->crop, s->crop ? "true" : "false", s->model, s->batch, s->rest);
}

static void compare(const char *text, const char *override, double tolerance) {
  const char *usual[] = {"train.resident=false", override};
  int64_t P = 0, Q = 0;
  fedlane_metrics a, b;
  float *x = fl_fixture_train(text, 1, &override, &P, &a);
  float *y = fl_fixture_train(text, 2, usual, &Q, &b);
  double off = INFINITY, largest = 0;
  if (x && y && P == Q) off = 0;
  for (int64_t i = 0; x && y && i < P; i++) {
    largest = fmax(largest, fabs((double)y[i]));
    off = isfinite(x[i]) ? fmax(off, fabs((double)x[i] - y[i])) : INFINITY;
  }
  if (!(off <= tolerance * largest)) printf("\n    off by %.3g of %.3g: %s", off, largest, text);
  CU_ASSERT(off <= tolerance * largest);
  CU_ASSERT_DOUBLE_EQUAL(a.train_loss, b.train_loss, 1e-5 * b.train_loss);
  CU_ASSERT(a.train_accuracy == b.train_accuracy || isnan(b.train_accuracy));
  free(x);
  free(y);
}

static void test_as_calls_one_by_one(void) {
  const fl_ops *ops = gpu();
  for (int i = 0; ops && i < FL_COUNT(scenes); i++) {
    char text[2048];
    write_text(text, sizeof text, ops, &scenes[i]);
    compare(text, "train.weight_decay=0.01", 1e-5);
  }
}

static void test_losses_of_targets(void) {
  const fl_ops *ops = gpu();
  fl_quadratics q;
  char text[1024];
  static const char *const loss[] = {"train.loss=mse", "train.loss=huber"};
  if (!ops) return;
  fl_quadratics_open(&q, 4, 7, 6, 5);
  snprintf(text, sizeof text,
           "seed: 3\nprecision: fp32\ndevice: %s\n"
           "data: {format: safetensors, path: %s, normalise: none, partition: natural}\n"
           "model: {layers: [{dense: 9}, tanh, {dense: 1}]}\n"
           "train: {rounds: 2, cohort: 4, epochs: 2, batch: 3, lr: 0.05}\neval: {every: 0}\n",
           ops->record.name, q.path);
  for (int i = 0; i < FL_COUNT(loss); i++) compare(text, loss[i], 1e-5);
  fl_quadratics_close(&q);
}

static void test_widths_are_invisible(void) {
  const fl_ops *ops = gpu();
  for (int i = 1; ops && i < FL_COUNT(scenes); i += 2) {
    char text[2048];
    write_text(text, sizeof text, ops, &scenes[i]);
    fl_fixture_same(text, "width=1", "width=2");
    fl_fixture_same(text, "width=1", "precision=tf32");
  }
}

/* What a plan says of its steps. */
static void says(const char *text, const char *override, const char *sentence) {
  char plan[4096] = "";
  fedlane_run *run = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 1, &override, FL_OPEN_DRY, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_run_describe(run, plan, sizeof plan), FEDLANE_OK);
  if (!strstr(plan, sentence)) printf("\n    %s\n    not '%s'", plan, sentence);
  CU_ASSERT_PTR_NOT_NULL(strstr(plan, sentence));
  CU_ASSERT_EQUAL(run->plan.resident, strstr(sentence, "in one launch") != NULL);
  fedlane_close(&run);
}

static void test_a_plan_says_which_way(void) {
  const fl_ops *ops = gpu();
  static const struct {
    const char *override, *sentence;
  } plans[] = {
      {"train.epochs=1", "resident: all local epochs in one launch"},
      {"model.name=lenet", "resident: all local epochs in one launch"},
      {"train.resident=false", "a launch for each call: train.resident is false"},
      {"train.momentum=0.9", "need a gradient's buffer"},
      {"train.batch=0", "need a gradient's buffer"},
      {"model.name=cnn_fedavg", "more than one multiprocessor's work"},
      {"model.name=resnet18_gn", "group normalisation"},
      {"model={layers: [{conv: 4, kernel: 3, stride: 2}, flatten, {dense: 0}]}",
       "windows other than"},
  };
  static const scene images = {60, 3, 32, 0, 50, "name: mlp", ""};
  char text[2048];
  if (!ops) return;
  write_text(text, sizeof text, ops, &images);
  for (int i = 0; i < FL_COUNT(plans); i++) says(text, plans[i].override, plans[i].sentence);
}

static const fl_test tests[] = {
    {"as calls one by one", test_as_calls_one_by_one},
    {"losses of targets", test_losses_of_targets},
    {"widths are invisible", test_widths_are_invisible},
    {"a plan says which way", test_a_plan_says_which_way},
};

FL_SUITE_MAIN("resident", tests)
