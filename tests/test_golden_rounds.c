/* Three rounds of every algorithm against plain PyTorch (tests/golden/README.md). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "safetensors.h"
#include "suite.h"

#define GOLDEN FEDLANE_SOURCE "/tests/golden/"

static const char *const runs[] = {
    "fedsgd",   "fedavg", "fedavg_plain",    "fedavg_clip", "fedavg_whole", "fedprox",   "fedadam",
    "scaffold", "feddyn", "feddyn_momentum", "fedavgm",     "fedyogi",      "fedadagrad"};
static const char *const tensors[] = {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"};

enum { OVERRIDES = 16 };

/* The stored overrides of a run, and where its data are; returns their number. */
static int overrides_of(const char *stored, const char *device, char *text, size_t size,
                        const char **list) {
  int n = 0;
  snprintf(text, size,
           "data.path=" GOLDEN "rounds_data.safetensors model.weights=" GOLDEN
           "rounds_start.safetensors device=%s %s",
           device, stored);
  for (char *at = strtok(text, " "); at && n < OVERRIDES; at = strtok(NULL, " ")) list[n++] = at;
  return n;
}

/* Largest difference of the final weights from the stored ones. */
static double difference(fedlane_run *run, const fl_st_file *end, const char *name) {
  double most = 0;
  for (int i = 0; i < FL_COUNT(tensors); i++) {
    char key[128];
    const float *got;
    int64_t count;
    snprintf(key, sizeof key, "%s/%s", name, tensors[i]);
    const fl_st_tensor *want = fl_st_find(end, key);
    CU_ASSERT_PTR_NOT_NULL_FATAL(want);
    CU_ASSERT_EQUAL_FATAL(fedlane_tensor(run, tensors[i], &got, &count), FEDLANE_OK);
    CU_ASSERT_EQUAL_FATAL(count, want->count);
    for (int64_t k = 0; k < count; k++) {
      float value;
      memcpy(&value, (const char *)want->data + 4 * k, sizeof value);
      most = fmax(most, fabs((double)got[k] - value));
    }
  }
  return most;
}

static void check_on(const char *device) {
  fl_st_file *end = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_st_open(GOLDEN "rounds_end.safetensors", &end), FEDLANE_OK);
  for (int i = 0; i < FL_COUNT(runs); i++) {
    char text[2048];
    const char *list[OVERRIDES], *stored = fl_st_metadata(end, runs[i]);
    fedlane_run *run = NULL;
    CU_ASSERT_PTR_NOT_NULL_FATAL(stored);
    int n = overrides_of(stored, device, text, sizeof text, list);
    CU_ASSERT_EQUAL_FATAL(fedlane_open(GOLDEN "rounds.yaml", n, list, 0, &run), FEDLANE_OK);
    for (int round = 1; round <= 3; round++) CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
    CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_DONE);
    double far = difference(run, end, runs[i]);
    CU_ASSERT(far < 1e-6);
    if (far >= 1e-6) printf("    %s on %s differs by %g\n", runs[i], device, far);
    fedlane_close(&run);
  }
  fl_st_close(&end);
}

static void test_ref(void) { check_on("ref"); }
static void test_cpu(void) { check_on("cpu"); }

static const fl_test tests[] = {
    {"three rounds of every algorithm, ref", test_ref},
    {"three rounds of every algorithm, cpu", test_cpu},
};
FL_SUITE_MAIN("golden_rounds", tests)
