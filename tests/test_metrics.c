/* Metrics against sums and counts that are written out here, over single examples and whole runs.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "safetensors.h"
#include "suite.h"

static const fl_metric *find(const char *name) {
  const fl_record *record = fl_catalogue_find(&fl_metrics, name);
  CU_ASSERT_PTR_NOT_NULL_FATAL(record);
  return (const fl_metric *)(const void *)record;
}

enum { MOST = 64 };

/* The value of a metric over n examples with these outputs; per: outputs of an example. */
static double value_of(const char *name, const fl_task *task, int n, int per, const float *z) {
  const fl_metric *metric = find(name);
  int64_t keeps = metric->keeps(task);
  int32_t index[MOST];
  double kept[4 * MOST], value = 0;
  fl_scored of = {.n = n, .index = index, .kept = kept};
  CU_ASSERT_FATAL(n <= MOST && keeps <= 4 && metric->fits(task));
  for (int i = 0; i < n; i++) {
    index[i] = i;
    of.asked += fl_dataset_counted(task->data, i);
    if (keeps > 0) metric->take(task, i, z + i * per, kept + i * keeps);
  }
  CU_ASSERT_EQUAL(metric->value(task, &of, &value), FEDLANE_OK);
  return value;
}

static void test_errors_in_units(void) {
  float target[] = {1, 10, 2, 20, 3, 30}, unit[] = {2, 0.5f};
  const float z[] = {1.5f, 8, 2, 26, 0, 30}; /* off by 0.5 -2 | 0 6 | -3 0 */
  fl_dataset d = {.n_target = 2, .target = target, .unit = unit};
  fl_task task = {.data = &d};
  CU_ASSERT_DOUBLE_EQUAL(value_of("mae", &task, 3, 2, z), (1 + 1 + 0 + 3 + 6 + 0) / 6.0, 1e-12);
  CU_ASSERT_DOUBLE_EQUAL(value_of("mae_first", &task, 3, 2, z), (1 + 0 + 6) / 3.0, 1e-12);
  CU_ASSERT_DOUBLE_EQUAL(value_of("mae_last", &task, 3, 2, z), (1 + 3 + 0) / 3.0, 1e-12);
  CU_ASSERT_DOUBLE_EQUAL(value_of("rmse", &task, 3, 2, z), sqrt((1 + 1 + 9 + 36) / 6.0), 1e-12);
  d.unit = NULL;
  CU_ASSERT_DOUBLE_EQUAL(value_of("mae", &task, 3, 2, z), (0.5 + 2 + 6 + 3) / 6.0, 1e-12);
}

static void test_late_costs_more(void) {
  float target[] = {50, 50, 50};
  const float z[] = {37, 60, 50};
  fl_dataset d = {.n_target = 1, .target = target};
  fl_task task = {.data = &d};
  CU_ASSERT_DOUBLE_EQUAL(value_of("cmapss_score", &task, 3, 1, z), 2 * (exp(1) - 1), 1e-12);
  CU_ASSERT_DOUBLE_EQUAL(value_of("cmapss_score", &task, 1, 1, z), exp(13 / 13.0) - 1, 1e-12);
}

/* Ties go to the earlier class, as in the hits of cross-entropy. */
static void test_top3(void) {
  const float z[] = {5, 4, 3, 2, 1, 1, 1, 1, 1, 1, NAN, 9, 8, 7, 6};
  int32_t label[] = {2, 3, 0}, counted[] = {1, 0, 1};
  fl_dataset d = {.classes = 5, .n_label = 1, .label = label};
  fl_task task = {.data = &d};
  CU_ASSERT_DOUBLE_EQUAL(value_of("top3", &task, 3, 5, z), 1 / 3.0, 1e-12);
  label[1] = 2;
  CU_ASSERT_DOUBLE_EQUAL(value_of("top3", &task, 3, 5, z), 2 / 3.0, 1e-12);
  label[1] = -1;
  d.counted = counted;
  CU_ASSERT_DOUBLE_EQUAL(value_of("top3", &task, 3, 5, z), 1 / 2.0, 1e-12);
}

/* Two examples of three steps, one step of which is masked. */
static void test_top3_of_steps(void) {
  const float z[24] = {4, 3, 2, 1, /**/ 1, 2, 3, 4, /**/ 1, 3, 2, 4,
                       4, 3, 2, 1, /**/ 4, 1, 2, 3, /**/ 1, 2, 3, 4};
  int32_t label[] = {3, 0, 1, 2, -1, 3}, counted[] = {3, 2};
  fl_dataset d = {.classes = 4, .n_label = 3, .label = label, .counted = counted};
  fl_task task = {.data = &d};
  CU_ASSERT_DOUBLE_EQUAL(value_of("top3", &task, 2, 12, z), 3 / 5.0, 1e-12);
}

static void test_perplexity(void) {
  fl_dataset d = {.classes = 27, .n_label = 1};
  fl_task task = {.data = &d};
  fl_scored of = {.n = 4, .asked = 3, .loss = 3 * log(8)};
  double value;
  CU_ASSERT_EQUAL(find("perplexity")->value(&task, &of, &value), FEDLANE_OK);
  CU_ASSERT_DOUBLE_EQUAL(value, 8, 1e-12);
  CU_ASSERT_EQUAL(find("bits_per_token")->value(&task, &of, &value), FEDLANE_OK);
  CU_ASSERT_DOUBLE_EQUAL(value, 3, 1e-12);
}

/* The share of pairs of a yes and a no that stand in the right order, ties counting half. */
static double pairs(int n, int apart, const float *score, const float *yes) {
  double good = 0, all = 0;
  for (int i = 0; i < n; i++)
    for (int k = 0; k < n; k++)
      if (yes[i * apart] > 0.5f && yes[k * apart] < 0.5f) {
        float a = score[i * apart], b = score[k * apart];
        good += a > b ? 1 : a == b ? 0.5 : 0;
        all++;
      }
  return good / all;
}

static void test_auc(void) {
  float target[MOST * 2], z[MOST * 2];
  fl_rng rng = fl_rng_open((fl_key){.seed = 5, .purpose = FL_FOR_DATA});
  fl_dataset d = {.n_target = 2, .target = target};
  fl_task task = {.data = &d, .logistic = true};
  for (int i = 0; i < MOST * 2; i++) {
    target[i] = (float)fl_rng_below(&rng, 2);
    z[i] = (float)fl_rng_below(&rng, 6) + target[i]; /* six steps: many ties */
  }
  double want = (pairs(MOST, 2, z, target) + pairs(MOST, 2, z + 1, target + 1)) / 2;
  CU_ASSERT(want > 0.55 && want < 0.95);
  CU_ASSERT_DOUBLE_EQUAL(value_of("auc", &task, MOST, 2, z), want, 1e-12);
  for (int i = 0; i < MOST; i++) target[2 * i + 1] = 1; /* says nothing any more */
  CU_ASSERT_DOUBLE_EQUAL(value_of("auc", &task, MOST, 2, z), pairs(MOST, 2, z, target), 1e-12);
  for (int i = 0; i < MOST; i++) target[2 * i] = 0;
  CU_ASSERT(isnan(value_of("auc", &task, MOST, 2, z)));
}

static void test_auc_of_two_classes(void) {
  const float z[] = {0, 1, /**/ 3, 2, /**/ 7, 6, /**/ 5, 5, /**/ 0, 9};
  int32_t label[] = {1, 0, 1, 0, -1}, counted[] = {1, 1, 1, 1, 0};
  fl_dataset d = {.classes = 2, .n_label = 1, .label = label, .counted = counted};
  fl_task task = {.data = &d};
  /* yes: 1, -1; no: -1, 0. Pairs: above, above; equal, below. */
  CU_ASSERT_DOUBLE_EQUAL(value_of("auc", &task, 5, 2, z), 2.5 / 4, 1e-12);
  const float lost[] = {0, NAN, 3, 2, 7, 6, 5, 5, 0, 9};
  CU_ASSERT(isnan(value_of("auc", &task, 5, 2, lost)));
}

static void test_accuracy_of_logits(void) {
  float target[] = {1, 0, 0.9f, 0.2f};
  const float z[] = {0.1f, 0.1f, 4, -1};
  fl_dataset d = {.n_target = 2, .target = target};
  fl_task task = {.data = &d, .logistic = true};
  CU_ASSERT_DOUBLE_EQUAL(value_of("accuracy", &task, 2, 2, z), 0.75, 1e-12);
}

/* Whole runs are of a linear model, whose outputs are worked out here from its weights. */

enum { CLIENTS = 12, ROWS = 9, FEATURES = 3, TARGETS = 2 };

/* 12 clients of 9 rows. binary: targets 0 or 1. */
static void write_rows(char path[160], bool binary) {
  enum { ALL = CLIENTS * ROWS };
  static float x[ALL * FEATURES], y[ALL * TARGETS];
  static int32_t client[ALL];
  fl_rng rng = fl_rng_open((fl_key){.seed = 7, .purpose = FL_FOR_DATA});
  for (int e = 0; e < ALL; e++) {
    client[e] = e / ROWS;
    for (int i = 0; i < FEATURES; i++) x[e * FEATURES + i] = (float)fl_rng_normal(&rng);
    for (int t = 0; t < TARGETS; t++) {
      double v = x[e * FEATURES + t] - 0.5 * x[e * FEATURES + 2] + 0.5 * fl_rng_normal(&rng);
      y[e * TARGETS + t] = binary ? v > 0 : (float)v;
    }
  }
  fl_st_tensor out[] = {
      {"x", FL_F32, 2, {ALL, FEATURES}, ALL * FEATURES, x},
      {"y", FL_F32, 2, {ALL, TARGETS}, ALL * TARGETS, y},
      {"client", FL_I32, 1, {ALL}, ALL, client},
  };
  snprintf(path, 160, "%s/rows.safetensors", fl_test_folder());
  CU_ASSERT_EQUAL_FATAL(fl_st_write(path, 3, out, 0, NULL), FEDLANE_OK);
}

static void write_text(char *text, size_t size, const char *path, const char *loss) {
  snprintf(text, size,
           "seed: 3\nprecision: fp32\n"
           "data: {format: safetensors, path: %s, normalise: none, partition: natural,\n"
           "       split: {by: time, share: 0.34}}\n"
           "model: {layers: [{dense: %d}]}\n"
           "train: {rounds: 8, cohort: 5, batch: 3, lr: 0.1, loss: %s}\n"
           "eval: {batch: 7, clients: true}\n",
           path, TARGETS, loss);
}

/* The outputs for one example, from the run's weights. */
static void outputs(fedlane_run *run, int64_t e, double z[TARGETS]) {
  const float *w = NULL, *x = (const float *)run->data.x + e * FEATURES;
  float bias[TARGETS];
  int64_t n;
  CU_ASSERT_EQUAL_FATAL(fedlane_tensor(run, "0.bias", &w, &n), FEDLANE_OK);
  memcpy(bias, w, sizeof bias);
  CU_ASSERT_EQUAL_FATAL(fedlane_tensor(run, "0.weight", &w, &n), FEDLANE_OK);
  for (int t = 0; t < TARGETS; t++) {
    z[t] = bias[t];
    for (int i = 0; i < FEATURES; i++) z[t] += (double)w[t * FEATURES + i] * x[i];
  }
}

/* Opens a run, trains it to its end and leaves it open; NULL where there is no such device. */
static fedlane_run *trained(const char *text, int n, const char *const *more, fedlane_metrics *m) {
  fedlane_run *run = NULL;
  fl_status status = fl_fixture_open(text, n, more, 0, &run);
  if (status == FEDLANE_UNSUPPORTED || status == FEDLANE_DEVICE) return NULL;
  while (status == FEDLANE_OK) status = fedlane_round(run, m);
  CU_ASSERT_EQUAL_FATAL(status, FEDLANE_DONE);
  return run;
}

static double mae_over(fedlane_run *run, int64_t n, const int32_t *index, int64_t from) {
  double sum = 0, z[TARGETS];
  for (int64_t i = 0; i < n; i++) {
    int64_t e = index ? index[i] : from + i;
    outputs(run, e, z);
    for (int t = 0; t < TARGETS; t++) sum += fabs(z[t] - run->data.target[e * TARGETS + t]);
  }
  return sum / (double)(n * TARGETS);
}

static void check_regression(const char *text, const char *device) {
  fedlane_metrics m;
  fedlane_run *run = trained(text, 1, &device, &m);
  if (!run) return;
  const fl_population *p = &run->people;
  double each[CLIENTS], mean = 0, worst = 0;
  CU_ASSERT_EQUAL_FATAL(p->n, CLIENTS);
  CU_ASSERT_EQUAL(run->data.n_test, CLIENTS * 3);
  CU_ASSERT(isnan(m.test_accuracy));
  CU_ASSERT_STRING_EQUAL(m.score[0].name, "mae");
  CU_ASSERT_STRING_EQUAL(m.score[1].name, "rmse");
  CU_ASSERT_PTR_NULL(m.score[2].name);
  double mae = mae_over(run, run->data.n_test, NULL, run->data.n_train);
  CU_ASSERT_DOUBLE_EQUAL(m.score[0].value, mae, 1e-5);
  CU_ASSERT_DOUBLE_EQUAL(m.score[1].value, sqrt(m.test_loss), 1e-5);
  for (int i = 0; i < CLIENTS; i++) {
    each[i] = mae_over(run, p->n_train[i], p->index + p->offset[i], 0);
    mean += each[i] / CLIENTS;
  }
  for (int round = 0; round < 2; round++) { /* a tenth of 12 is two clients */
    int most = 0;
    for (int i = 1; i < CLIENTS; i++) most = each[i] > each[most] ? i : most;
    worst += each[most] / 2;
    each[most] = 0;
  }
  CU_ASSERT_STRING_EQUAL(m.client_metric, "mae");
  CU_ASSERT_DOUBLE_EQUAL(m.client_mean, mean, 1e-5);
  CU_ASSERT_DOUBLE_EQUAL(m.client_worst, worst, 1e-5);
  fedlane_close(&run);
}

static void check_logistic(const char *text, const char *device) {
  fedlane_metrics m;
  fedlane_run *run = trained(text, 1, &device, &m);
  float score[CLIENTS * ROWS * TARGETS];
  double loss = 0, hit = 0;
  if (!run) return;
  const float *yes = run->data.target + run->data.n_train * TARGETS;
  int n = (int)run->data.n_test;
  for (int i = 0; i < n; i++) {
    double z[TARGETS];
    outputs(run, run->data.n_train + i, z);
    for (int t = 0; t < TARGETS; t++) {
      score[i * TARGETS + t] = (float)z[t];
      loss += log(1 + exp(z[t])) - yes[i * TARGETS + t] * z[t];
      hit += (z[t] > 0) == (yes[i * TARGETS + t] > 0.5f);
    }
  }
  double area = (pairs(n, 2, score, yes) + pairs(n, 2, score + 1, yes + 1)) / 2;
  CU_ASSERT_DOUBLE_EQUAL(m.test_loss, loss / (n * TARGETS), 1e-5);
  CU_ASSERT_STRING_EQUAL(m.score[0].name, "accuracy");
  CU_ASSERT_DOUBLE_EQUAL(m.score[0].value, hit / (n * TARGETS), 1e-9);
  CU_ASSERT_STRING_EQUAL(m.score[1].name, "auc");
  CU_ASSERT_DOUBLE_EQUAL(m.score[1].value, area, 1e-9);
  CU_ASSERT(area > 0.6 && m.client_mean > 0.5 && m.client_worst <= m.client_mean);
  CU_ASSERT_STRING_EQUAL(m.client_metric, "accuracy");
  fedlane_close(&run);
}

static void test_runs(void) {
  char path[160], text[1024], device[64];
  for (int i = 0; i < fl_backends.n; i++) {
    snprintf(device, sizeof device, "device=%s", fl_backends.entry[i]->name);
    write_rows(path, false);
    write_text(text, sizeof text, path, "mse");
    check_regression(text, device);
    write_rows(path, true);
    write_text(text, sizeof text, path, "logistic");
    check_logistic(text, device);
  }
}

/* Not a bit depends on who computes with whom. */
static void test_how_is_invisible(void) {
  static const char *const how[] = {"threads=1", "threads=3", "width=2", "eval.batch=1",
                                    "eval.batch=1000"};
  char path[160], text[1024];
  write_rows(path, true);
  write_text(text, sizeof text, path, "logistic");
  for (int i = 0; i < FL_COUNT(how); i++) {
    const char *more[] = {"device=ref", how[i]};
    fedlane_metrics one, other;
    fedlane_run *a = trained(text, 1, more, &one), *b = trained(text, 2, more, &other);
    CU_ASSERT_EQUAL(memcmp(one.score, other.score, sizeof one.score), 0);
    CU_ASSERT(one.client_mean == other.client_mean && one.client_worst == other.client_worst);
    fedlane_close(&a);
    fedlane_close(&b);
  }
}

static const char *const classes =
    "device: cpu\n"
    "data: {format: synthetic, examples: 60, test: 40, channels: 1, height: 8, width: 8,\n"
    "       classes: 4, partition: {kind: iid, clients: 6}}\n"
    "model: {name: logistic}\n"
    "train: {rounds: 2, cohort: 3, batch: 4}\n";

static void test_of_classes(void) {
  fedlane_metrics m;
  const char *asked = "eval.metrics=[top3, perplexity, accuracy, bits_per_token]";
  fedlane_run *run = trained(classes, 1, &asked, &m);
  CU_ASSERT_STRING_EQUAL(m.score[0].name, "top3");
  CU_ASSERT(m.score[0].value >= m.test_accuracy && m.score[0].value <= 1);
  CU_ASSERT_DOUBLE_EQUAL(m.score[1].value, exp(m.test_loss), 1e-9);
  CU_ASSERT_STRING_EQUAL(m.score[2].name, "bits_per_token");
  CU_ASSERT_DOUBLE_EQUAL(m.score[2].value, m.test_loss / log(2), 1e-9);
  CU_ASSERT_PTR_NULL(m.score[3].name);
  fedlane_close(&run);
  run = trained(classes, 0, NULL, &m);
  CU_ASSERT_PTR_NULL(m.score[0].name);
  CU_ASSERT_PTR_NULL(m.client_metric);
  fedlane_close(&run);
  const char *two = "data.classes=2";
  run = trained(classes, 1, &two, &m);
  CU_ASSERT_STRING_EQUAL(m.score[0].name, "auc");
  CU_ASSERT(m.score[0].value >= 0 && m.score[0].value <= 1);
  fedlane_close(&run);
}

static void refuse(const char *text, const char *override, const char *says) {
  fedlane_run *run = NULL;
  CU_ASSERT_EQUAL(fl_fixture_open(text, 1, &override, 0, &run), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), says));
  if (!strstr(fedlane_error(), says)) printf("\n    %s: %s\n", override, fedlane_error());
  fedlane_close(&run);
}

static void test_what_means_nothing_is_refused(void) {
  char path[160], text[1024];
  refuse(classes, "eval.metrics=[mae]", "eval.metrics has mae, which needs regression targets");
  refuse(classes, "eval.metrics=[auc]", "two classes or the logistic loss");
  refuse(classes, "eval.metrics=[top3, top3]", "eval.metrics has top3 twice");
  refuse(classes, "eval.metrics=[top5]", "did you mean 'top3'");
  refuse(classes, "eval.metrics=all", "must be a list");
  refuse(classes, "train.loss=logistic", "class labels");
  write_rows(path, false);
  write_text(text, sizeof text, path, "mse");
  refuse(text, "eval.metrics=[accuracy]", "class labels or the logistic loss");
  refuse(text, "train.loss=logistic",
         "train.loss is logistic, which needs targets from 0 to 1, but");
}

static const fl_test tests[] = {
    {"errors in units", test_errors_in_units},
    {"late costs more than early", test_late_costs_more},
    {"recall at three", test_top3},
    {"recall at three of steps", test_top3_of_steps},
    {"perplexity and bits", test_perplexity},
    {"area under the curve", test_auc},
    {"area of two classes", test_auc_of_two_classes},
    {"accuracy of logits", test_accuracy_of_logits},
    {"runs on targets", test_runs},
    {"threads, lanes and batches are invisible", test_how_is_invisible},
    {"runs on classes", test_of_classes},
    {"what means nothing is refused", test_what_means_nothing_is_refused},
};

FL_SUITE_MAIN("metrics", tests)
