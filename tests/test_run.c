/* What a run refuses, in one sentence and with the right status, and the public interface. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fixture.h"
#include "suite.h"

static const char *const good =
    "device: cpu\n"
    "data: {format: synthetic, examples: 60, test: 20, channels: 1, height: 8, width: 8,\n"
    "       classes: 4, partition: {kind: iid, clients: 6}}\n"
    "model: {name: logistic}\n"
    "train: {rounds: 2, cohort: 3, batch: 4}\n";

typedef struct refusal {
  const char *override, *more; /* more: a second override, or NULL */
  fl_status status;
  const char *says; /* a part of the sentence */
} refusal;

static void test_what_does_not_fit_is_refused(void) {
  static const refusal cases[] = {
      {"train.cohort=7", NULL, FEDLANE_USAGE, "the population has 6 clients"},
      {"sampler={kind: uniform, replacement: true}", "algorithm.name=scaffold", FEDLANE_USAGE,
       "no client may be drawn twice"},
      {"train.loss=mse", NULL, FEDLANE_USAGE, "class labels"},
      {"model={layers: [{conv: 4, kernel: 9}, flatten, {dense: 0}]}", NULL, FEDLANE_USAGE, "8 x 8"},
      {"model={layers: [{dense: 0}]}", NULL, FEDLANE_USAGE, "flatten"},
      {"data.partition={kind: natural}", "data.clients=0", FEDLANE_USAGE, "natural"},
      {"model.weights=/nonexistent.safetensors", NULL, FEDLANE_IO, "/nonexistent.safetensors"},
      {"train.batch=2147483647", NULL, FEDLANE_USAGE, "train.batch"},
      {"train.batch=1000000000", "train.epochs=2", FEDLANE_USAGE, "train.epochs"},
      {"device=cuda", NULL, FEDLANE_UNSUPPORTED, "CUDA"},
      {"device=gpu", NULL, FEDLANE_USAGE, "gpu"},
      {"data={format: idx, path: /nonexistent, partition: iid}", NULL, FEDLANE_DATA,
       "/nonexistent"},
  };
  for (int i = 0; i < FL_COUNT(cases); i++) {
    const char *list[] = {cases[i].override, cases[i].more};
    fedlane_run *run = NULL;
    fl_status status = fl_fixture_open(good, 1 + (cases[i].more != NULL), list, 0, &run);
    CU_ASSERT_EQUAL(status, cases[i].status);
    CU_ASSERT_PTR_NULL(run);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), cases[i].says));
    if (status != cases[i].status || !strstr(fedlane_error(), cases[i].says))
      printf("    %s: status %d, %s\n", cases[i].override, status, fedlane_error());
    fedlane_close(&run);
  }
}

/* What would be taken and then have no effect. */
static void test_nothing_is_taken_in_vain(void) {
  static const char *const tokens[] = {"data.kind=tokens", "model.name=lstm_char",
                                       "data.flip=true"};
  static const char *const features[] = {"data.height=1", "data.width=1", "data.crop=1"};
  fedlane_run *run = NULL;
  CU_ASSERT_EQUAL(fl_fixture_open(good, 3, tokens, 0, &run), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "data.flip is for images"));
  CU_ASSERT_EQUAL(fl_fixture_open(good, 3, features, 0, &run), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "data.crop is for images"));
  CU_ASSERT_EQUAL(fl_fixture_open(good, 0, NULL, FEDLANE_RESUME, &run), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "output is empty"));
  fedlane_close(&run);
}

static void test_divergence_is_told(void) {
  fedlane_run *run = NULL;
  const char *wild[] = {"server.lr=1e38", "train.lr=1000", "train.rounds=9",
                        "server.weighting=uniform"};
  fl_status status;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(good, 4, wild, 0, &run), FEDLANE_OK);
  do {
    status = fedlane_round(run, NULL);
  } while (status == FEDLANE_OK);
  CU_ASSERT_EQUAL(status, FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "diverged"));
  fedlane_close(&run);
}

/* A client whose update is not finite is dropped and counted, and the others go on. */
static void test_bad_clients_are_dropped(void) {
  fl_quadratics q;
  char text[1024];
  fedlane_run *run = NULL;
  fedlane_metrics m;
  fl_quadratics_open(&q, 4, 5, 3, 1);
  snprintf(
      text, sizeof text,
      "device: cpu\ndata: {format: safetensors, path: %s, partition: natural, normalise: none}\n"
      "model: {layers: [{dense: 1}]}\ntrain: {rounds: 2, cohort: 4, lr: 0.01}\n"
      "algorithm: scaffold\n",
      q.path);
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 0, NULL, 0, &run), FEDLANE_OK);
  ((float *)run->data.x)[0] = NAN; /* one example of client 0 */
  for (int round = 0; round < 2; round++) {
    CU_ASSERT_EQUAL(fedlane_round(run, &m), FEDLANE_OK);
    CU_ASSERT(m.clients == 3 && m.dropped == 1 && isfinite(m.train_loss));
  }
  CU_ASSERT(!run->store.touched[0] && run->store.touched[1]);
  for (int64_t i = 0; i < run->server.P; i++) CU_ASSERT(isfinite(run->server.w[i]));
  fedlane_close(&run);
  fl_quadratics_close(&q);
}

static void test_everybody_bad_changes_nothing(void) {
  fedlane_run *run = NULL;
  fedlane_metrics m;
  const char *wild = "train.lr=3e38";
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(good, 1, &wild, 0, &run), FEDLANE_OK);
  float before = run->server.w[0];
  CU_ASSERT_EQUAL(fedlane_round(run, &m), FEDLANE_OK);
  CU_ASSERT(m.clients == 0 && m.dropped == 3 && run->server.w[0] == before);
  fedlane_close(&run);
}

static void test_tensors_by_name(void) {
  fedlane_run *run = NULL;
  const float *at = NULL;
  int64_t count = 0;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(good, 0, NULL, 0, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(fedlane_tensor(run, "fc.weight", &at, &count), FEDLANE_OK);
  CU_ASSERT(count == 64 * 4 && at && at[0] == run->server.w[0]);
  CU_ASSERT_EQUAL(fedlane_tensor(run, "fc.wait", &at, &count), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "fc.wait"));
  fedlane_close(&run);
  fedlane_close(&run);
}

/* Hold-out, per-client evaluation, and no test set at all. */
static void test_evaluation(void) {
  fedlane_metrics m;
  int64_t P;
  const char *held[] = {"data.hold_out=0.3", "eval.clients=true", "train.rounds=30"};
  const char *no_test[] = {"data.test=0"};
  free(fl_fixture_train(good, 3, held, &P, &m));
  CU_ASSERT(m.client_mean > 0.5 && m.client_mean <= 1 && m.client_worst <= m.client_mean);
  CU_ASSERT(m.client_deviation >= 0 && m.test_accuracy > 0.5 && m.examples == 3 * 7);
  free(fl_fixture_train(good, 1, no_test, &P, &m));
  CU_ASSERT(isnan(m.test_loss) && isnan(m.test_accuracy) && isnan(m.client_mean));
}

/* The same training as on the plain backend, which gathers examples; batches of 4, 4 and 2, in two
 * epochs. picks: whether the model reads them where they lie. */
static void check_picks(const char *model, bool picks) {
  const char *set[] = {"train.epochs=2", model, "device=ref"};
  fedlane_run *run = NULL;
  fedlane_metrics m[2];
  int64_t P;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(good, 2, set, 0, &run), FEDLANE_OK);
  fl_source source = run->station[0].source;
  CU_ASSERT_EQUAL(fl_model_picks(run->model, run->devices.ops, &source), picks);
  source.crop = 1;
  CU_ASSERT(!fl_model_picks(run->model, run->devices.ops, &source));
  fedlane_close(&run);
  float *w = fl_fixture_train(good, 2, set, &P, &m[0]);
  float *want = fl_fixture_train(good, 3, set, &P, &m[1]);
  for (int64_t i = 0; i < P; i++) CU_ASSERT_DOUBLE_EQUAL(w[i], want[i], 2e-6);
  CU_ASSERT_DOUBLE_EQUAL(m[0].train_loss, m[1].train_loss, 2e-6);
  CU_ASSERT_DOUBLE_EQUAL(m[0].test_loss, m[1].test_loss, 2e-6);
  CU_ASSERT_EQUAL(m[0].test_accuracy, m[1].test_accuracy);
  free(w), free(want);
}

/* Images of one channel are read where they lie by a layer of few outputs that is the first, and
 * that nobody else reads the input beside. */
static void test_examples_that_are_picked(void) {
  check_picks("model.name=logistic", true);
  check_picks("model={layers: [flatten, {dense: 16}, tanh, {dense: 0}]}", true);
  check_picks("model={layers: [flatten, {dense: 17}, tanh, {dense: 0}]}", false);
  check_picks("model={layers: [flatten, {dense: 7, no_bias: true}, {dense: 0}]}", true);
  check_picks("model={layers: [flatten, {dense: 5}, {dense: 5, from: -2}, {add: -2}, {dense: 0}]}",
              false);
  check_picks("model={layers: [flatten, {dense: 64}, {add: -2}, {dense: 0}]}", false);
  check_picks(
      "model={layers: [flatten, {dense: 5}, {flatten: again, from: -3}, {dense: 5}, {add: -3}, "
      "{dense: 0}]}",
      false);
  check_picks("model={layers: [tanh, flatten, {dense: 0}]}", false);
  check_picks("model={layers: [flatten, tanh, {dense: 0}]}", false);
  check_picks("model={layers: [as_sequence, {dense: 6}, last, {dense: 0}]}", false);
  check_picks("model={layers: [{conv: 6, kernel: 8}, {dense: 0}]}", false);
}

/* The files of a run that is stopped have the rows up to its checkpoint before that is written,
 * which fails here. */
static void test_rows_come_before_checkpoints(void) {
  char output[256], path[256];
  const char *set[] = {output, "train.rounds=1000"};
  fedlane_run *run = NULL;
  int lines = 0;
  snprintf(output, sizeof output, "output=%s/run", fl_test_folder());
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(good, 2, set, 0, &run), FEDLANE_OK);
  snprintf(path, sizeof path, "%s/checkpoint", strchr(output, '=') + 1);
  FILE *f = fopen(path, "w");
  CU_ASSERT_PTR_NOT_NULL_FATAL(f);
  fclose(f);
  for (int i = 0; i < 7; i++) CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
  fedlane_stop(run);
  CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_IO);
  snprintf(path, sizeof path, "%s/metrics.jsonl", strchr(output, '=') + 1);
  f = fopen(path, "r");
  CU_ASSERT_PTR_NOT_NULL_FATAL(f);
  for (int c; (c = getc(f)) != EOF;) lines += c == '\n';
  fclose(f);
  CU_ASSERT_EQUAL(lines, 7);
  fedlane_close(&run);
}

static int lines_in(const char *folder) {
  char path[512];
  int n = 0, c;
  snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
  FILE *f = fopen(path, "r");
  CU_ASSERT_PTR_NOT_NULL_FATAL(f);
  while ((c = fgetc(f)) != EOF) n += c == '\n';
  fclose(f);
  return n;
}

/* Rows of short rounds wait for each other, but not beyond a checkpoint, and not beyond the end of
 * a run that is given up. */
static void test_rows_that_wait(void) {
  char output[256];
  const char *list[] = {output, "checkpoint.every=40", "train.rounds=200", "eval.every=0"};
  fedlane_run *run = NULL;
  int waited = 0;
  snprintf(output, sizeof output, "output=%s/waits", fl_test_folder());
  const char *folder = output + strlen("output=");
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(good, 4, list, 0, &run), FEDLANE_OK);
  for (int round = 1; round <= 90; round++) {
    CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
    int lines = lines_in(folder);
    CU_ASSERT(lines <= round && round - lines < FL_ROWS_MAX);
    CU_ASSERT(round % 40 != 0 || lines == round);
    waited += lines < round;
  }
  CU_ASSERT(waited > 0);
  fedlane_close(&run);
  CU_ASSERT_EQUAL(lines_in(folder), 90);
}

/* A limit on file size stands for a full disk: files of the model, of 3 MB, cannot be written
 * whole. The thread sanitizer's runtime writes a file of 512 KiB for itself when a program starts.
 */
static void test_a_full_disk(void) {
  char command[2048], path[256];
  const char *folder = fl_test_folder();
  struct stat info;
  snprintf(path, sizeof path, "%s/full.yaml", folder);
  FILE *f = fopen(path, "w");
  CU_ASSERT_PTR_NOT_NULL_FATAL(f);
  fprintf(f, "%s", good);
  fclose(f);
  snprintf(command, sizeof command,
           "trap '' XFSZ; ulimit -f 2048; ASAN_OPTIONS=detect_leaks=0 " FEDLANE_PROGRAM
           " run %s output=%s/run 'model={layers: [flatten, {dense: 12000}, {dense: 0}]}' --quiet "
           "2>%s/said",
           path, folder, folder);
  int status = system(command);
  CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 1);
  snprintf(path, sizeof path, "%s/run/model.safetensors", folder);
  CU_ASSERT_NOT_EQUAL(stat(path, &info), 0);
  snprintf(path, sizeof path, "%s/said", folder);
  char said[512] = "";
  f = fopen(path, "r");
  CU_ASSERT_PTR_NOT_NULL_FATAL(f);
  CU_ASSERT(fread(said, 1, sizeof said - 1, f) > 0);
  fclose(f);
  CU_ASSERT_PTR_NOT_NULL(strstr(said, "safetensors"));
}

static const fl_test tests[] = {
    {"what does not fit is refused", test_what_does_not_fit_is_refused},
    {"nothing is taken in vain", test_nothing_is_taken_in_vain},
    {"divergence is told", test_divergence_is_told},
    {"bad clients are dropped and counted", test_bad_clients_are_dropped},
    {"everybody bad changes nothing", test_everybody_bad_changes_nothing},
    {"tensors by name", test_tensors_by_name},
    {"evaluation", test_evaluation},
    {"examples that are picked", test_examples_that_are_picked},
    {"rows that wait", test_rows_that_wait},
    {"rows come before checkpoints", test_rows_come_before_checkpoints},
    {"a full disk", test_a_full_disk},
};
FL_SUITE_MAIN("run", tests)
