/* Whole runs on a GPU, or on cuda-on-host in builds that have it: the same weights as the CPU
 * gives, the same bits for any wave width, and what cannot be opened said
 * plainly. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/yardstick.h"
#include "fixture.h"
#include "suite.h"
#ifdef FL_CUDA_ON_HOST
#include "settings.h"
#endif

/* Ragged clients, a last partial batch, augmentation, dropout. */
static const char *const plain =
    "seed: 11\nprecision: fp32\n"
    "data: {format: synthetic, examples: 60, test: 20, channels: 1, height: 8, width: 8,\n"
    "       classes: 5, crop: 1, flip: true, partition: {kind: dirichlet, clients: 6, alpha: 1}}\n"
    "model: {layers: [{conv: 4, kernel: 3}, relu, {conv: 8, kernel: 3}, {max_pool: 2}, relu,\n"
    "                 flatten, {dropout: 0.3}, {dense: 20}, relu, {dense: 0}]}\n"
    "train: {resident: false, rounds: 2, cohort: 3, epochs: 1, batch: 10, lr: 0.1}\neval: {every: "
    "2, batch: 8}\n";

/* The GPU backend when one of its devices can be opened; else NULL, and the test says skipped. */
static const fl_ops *gpu(void) {
  const char *why = "this build has none";
  for (int i = 0; i < fl_backends.n; i++) {
    const fl_ops *ops = (const fl_ops *)fl_backends.entry[i];
    if (!ops->host && ops->count(&why) > 0) return ops;
  }
  printf("skipped: no GPU: %s\n", why);
  return NULL;
}

static void device_line(char *out, size_t size, const fl_ops *ops, const char *which) {
  snprintf(out, size, "device=%s%s", ops->record.name, which);
}

static double largest_difference(const float *a, const float *b, int64_t n) {
  double largest = 0, worst = 0;
  for (int64_t i = 0; i < n; i++) {
    largest = fmax(largest, fabs(b[i]));
    worst = isfinite(a[i]) ? fmax(worst, fabs((double)a[i] - b[i])) : INFINITY;
  }
  return worst / largest;
}

static void compare(const char *text, const fl_ops *ops, const fl_ops *other, double tolerance) {
  char device[64], others[64];
  const char *here = device, *there = others;
  int64_t p = 0, q = 0;
  device_line(device, sizeof device, ops, "");
  device_line(others, sizeof others, other, "");
  float *x = fl_fixture_train(text, 1, &here, &p, NULL);
  float *y = fl_fixture_train(text, 1, &there, &q, NULL);
  CU_ASSERT(x && y && p == q);
  double off = x && y && p == q ? largest_difference(x, y, p) : INFINITY;
  if (off > tolerance) printf("\n    %s: off by %.3g: %s", device, off, text);
  CU_ASSERT(off <= tolerance);
  free(x);
  free(y);
}

static const char *const variants[] = {
    "",
    "algorithm: scaffold\n",
    "algorithm: {name: feddyn, alpha: 0.1}\n",
    "algorithm: {name: fedprox, mu: 0.1}\n",
    "algorithm: fedadam\n",
    "algorithm: fedsgd\n",
    ("filters: [{name: clip, norm: 0.5}, {name: gaussian, deviation: 0.01, where: clients},\n"
     "          {name: gaussian, deviation: 0.01}]\n"),
    "sampler: {kind: uniform, replacement: true}\n",
};

static void test_runs_as_on_the_cpu(void) {
  const fl_ops *ops = gpu();
  for (int i = 0; ops && i < FL_COUNT(variants); i++) {
    char text[2048];
    snprintf(text, sizeof text, "%s%s", plain, variants[i]);
    compare(text, ops, &fl_cpu_ops, 2e-4);
  }
}

/* Models along the width alone, through sequences and back, and with depthwise convolutions. */
static void test_runs_as_on_the_oracle(void) {
  static const char *const text[] = {
      "seed: 4\nprecision: fp32\n"
      "data: {format: synthetic, examples: 40, test: 10, channels: 6, height: 1, width: 17,\n"
      "       classes: 4, partition: {kind: dirichlet, clients: 4, alpha: 1}}\n"
      "model: {layers: [{conv1d: 16, kernel: 5, pad: 2}, relu, {max_pool1d: 2}, as_sequence,\n"
      "                 {dense: 9}, as_image, tanh, {conv1d: 7, kernel: 3, stride: 2},\n"
      "                 {avg_pool1d: 0}, flatten, {dense: 0}]}\n"
      "train: {rounds: 2, cohort: 2, epochs: 1, batch: 7, lr: 0.1}\n",
      "seed: 4\nprecision: fp32\n"
      "data: {format: synthetic, examples: 40, test: 10, channels: 3, height: 8, width: 7,\n"
      "       classes: 4, partition: {kind: dirichlet, clients: 4, alpha: 1}}\n"
      "model: {layers: [{depthwise: 3}, {conv: 16, kernel: 1}, {group_norm: 4}, relu,\n"
      "                 {depthwise: 3, stride: 2, pad: 1, no_bias: true}, relu, flatten,\n"
      "                 {dense: 0}]}\n"
      "train: {rounds: 2, cohort: 2, epochs: 1, batch: 7, lr: 0.1}\n",
  };
  const fl_ops *ops = gpu();
  for (int i = 0; i < FL_COUNT(text); i++) {
    compare(text[i], &fl_cpu_ops, &fl_ref_ops, 1e-4);
    if (ops) compare(text[i], ops, &fl_ref_ops, 1e-4);
  }
}

/* Filters that shared memory cannot hold are refused before anything is read. */
static void test_a_depthwise_window_too_large(void) {
  const fl_ops *ops = gpu();
  const fl_window s = {.in = {4, 24, 24}, .out = {4, 5, 5}, .kernel = 20, .stride = 1};
  const fl_dev_options options = {0, FL_MATH_FP32};
  const fl_cspan in = {NULL, 0};
  const fl_span out = {NULL, 0};
  const fl_batch b = {1, 1, &(int32_t){1}};
  fl_dev *d = NULL;
  if (!ops) return;
  CU_ASSERT_EQUAL_FATAL(ops->open(&options, &d), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->depthwise_fwd(d, b, &s, in, in, in, out), FEDLANE_UNSUPPORTED);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "20 x 20"));
  CU_ASSERT_EQUAL(ops->depthwise_bwd_data(d, b, &s, in, in, out), FEDLANE_UNSUPPORTED);
  ops->close(&d);
}

static void test_widths_are_invisible(void) {
  const fl_ops *ops = gpu();
  char text[2048];
  if (!ops) return;
  snprintf(text, sizeof text, "device: %s\n%s", ops->record.name, plain);
  fl_fixture_same(text, "width=1", "width=2");
  fl_fixture_same(text, "width=1", "");
  fl_fixture_same(text, "precision=auto", "precision=tf32");
}

static void test_lower_precision_learns_the_same(void) {
  const fl_ops *ops = gpu();
  static const char *const precision[] = {"precision=tf32", "precision=bf16", "precision=tf32x3"};
  if (!ops) return;
  for (int i = 0; i < FL_COUNT(precision); i++) {
    char device[64];
    const char *here[] = {device, precision[i]}, *cpu = "device=cpu";
    fedlane_metrics a, b;
    int64_t P;
    device_line(device, sizeof device, ops, "");
    free(fl_fixture_train(plain, 2, here, &P, &a));
    free(fl_fixture_train(plain, 1, &cpu, &P, &b));
    CU_ASSERT_DOUBLE_EQUAL(a.test_loss, b.test_loss, 0.02 * b.test_loss);
  }
}

static void refuses(const char *device, fl_status status, const char *sentence) {
  fl_devices d;
  CU_ASSERT_EQUAL(fl_devices_open(device, FL_MATH_FP32, 0, &d), status);
  if (!strstr(fedlane_error(), sentence)) printf("\n    '%s'", fedlane_error());
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), sentence));
  CU_ASSERT_EQUAL(d.n, 0);
}

static void test_what_device_may_say(void) {
  const fl_ops *ops = gpu();
  static const char *const wrong[] = {":", ":x", ":0,", ":,0", ":-1", ":0;1", ":all,0", ":0 1"};
  char device[64];
  if (!ops) return;
  for (int i = 0; i < FL_COUNT(wrong); i++) {
    snprintf(device, sizeof device, "%s%s", ops->record.name, wrong[i]);
    refuses(device, FEDLANE_USAGE, "comes 'all' or numbers such as 0,1");
  }
  snprintf(device, sizeof device, "%s:0,0", ops->record.name);
  refuses(device, FEDLANE_USAGE, "names 0 twice");
  snprintf(device, sizeof device, "%s:0,250", ops->record.name);
  refuses(device, FEDLANE_DEVICE, "the devices here are 0 .. ");
  refuses("cpu:0", FEDLANE_USAGE, "only GPUs are counted out");
}

#ifdef FL_HAS_CUDA
/* cuBLAS, which counts down columns, is handed matrices that lie by rows. */
static void check_yardstick(const fl_ops *ops, fl_dev *d, fl_yardstick *y) {
  enum { SIDE = 12, ALL = SIDE * SIDE };
  float a[ALL], b[ALL], c[ALL];
  void *at[3] = {NULL, NULL, NULL};
  for (int i = 0; i < ALL; i++) a[i] = (float)(i * 7 % 23 - 11);
  for (int i = 0; i < ALL; i++) b[i] = (float)(i * 5 % 19 - 9);
  for (int i = 0; i < 3; i++) CU_ASSERT_EQUAL_FATAL(ops->alloc(d, sizeof a, &at[i]), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->upload(d, at[0], a, sizeof a), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->upload(d, at[1], b, sizeof b), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_yardstick_multiply(y, SIDE, at[0], at[1], at[2]), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->download(d, c, at[2], sizeof c), FEDLANE_OK);
  for (int i = 0; i < ALL; i++) {
    float sum = 0; /* small whole numbers, which every precision holds */
    for (int k = 0; k < SIDE; k++) sum += a[i / SIDE * SIDE + k] * b[k * SIDE + i % SIDE];
    CU_ASSERT_EQUAL(c[i], sum);
  }
  for (int i = 0; i < 3; i++) ops->release(d, &at[i]);
}

static void test_cublas_as_a_yardstick(void) {
  const fl_ops *ops = gpu();
  fl_yardstick *y = NULL;
  fl_dev *d = NULL;
  if (!ops) return;
  for (int precision = FL_MATH_FP32; precision <= FL_MATH_TF32; precision++) {
    const fl_dev_options options = {0, precision};
    CU_ASSERT_EQUAL_FATAL(ops->open(&options, &d), FEDLANE_OK);
    fl_status status = fl_yardstick_open(d, &y);
    if (status == FEDLANE_OK)
      check_yardstick(ops, d, y);
    else
      printf("skipped: %s\n", fedlane_error());
    CU_ASSERT(status == FEDLANE_OK || status == FEDLANE_UNSUPPORTED);
    fl_yardstick_close(&y);
    ops->close(&d);
  }
}
#endif

#ifdef FL_CUDA_ON_HOST
static void test_without_cublas(void) {
  const fl_dev_options options = {0, FL_MATH_TF32};
  fl_yardstick *y = NULL;
  fl_dev *d = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_cuda_ops.open(&options, &d), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_yardstick_open(d, &y), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_yardstick_multiply(y, 4, NULL, NULL, NULL), FEDLANE_DEVICE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "cuBLAS failed with error 13 on GPU 0"));
  fl_yardstick_close(&y);
  fl_host_set()->cublas = false;
  CU_ASSERT_EQUAL(fl_yardstick_open(d, &y), FEDLANE_UNSUPPORTED);
  CU_ASSERT_PTR_NULL(y);
  fl_host_defaults();
  fl_cuda_ops.close(&d);
}

static void test_devices_that_are_named(void) {
  fl_devices d;
  static const struct {
    const char *device;
    int n;
  } good[] = {
      {"cuda-on-host", 1}, {"cuda-on-host:1", 1}, {"cuda-on-host:2,0", 2}, {"cuda-on-host:all", 3}};
  fl_host_set()->devices = 3;
  for (int i = 0; i < FL_COUNT(good); i++) {
    CU_ASSERT_EQUAL_FATAL(fl_devices_open(good[i].device, FL_MATH_FP32, 7, &d), FEDLANE_OK);
    CU_ASSERT_PTR_EQUAL(d.ops, &fl_cuda_ops);
    CU_ASSERT_EQUAL(d.n, good[i].n);
    CU_ASSERT_EQUAL(d.together, 0);
    fl_devices_close(&d);
  }
  fl_host_defaults();
}

/* What `auto` tries where there is a GPU to try; cuda-on-host is never tried by itself. */
static const fl_record *const kind[] = {&fl_cuda_ops.record, &fl_cpu_ops.record};
static const fl_catalogue kinds = {"backend", "", kind, FL_COUNT(kind)};

static void falls_back(const char *sentence) {
  fl_devices d;
  CU_ASSERT_EQUAL_FATAL(fl_devices_open_first(&kinds, FL_MATH_AUTO, 1, &d), FEDLANE_OK);
  CU_ASSERT_PTR_EQUAL(d.ops, &fl_cpu_ops);
  if (!strstr(d.passed, sentence)) printf("\n    '%s'", d.passed);
  CU_ASSERT_PTR_NOT_NULL(strstr(d.passed, sentence));
  fl_devices_close(&d);
}

enum { DRIVER = 13000 }; /* new enough */
/* A machine where the device cannot be used: `cuda` says why, `auto` takes the CPU and keeps why.
 */
static const struct {
  int driver, devices, capability, busy;
  const char *device, *sentence;
  bool automatic; /* `auto` meets it too */
} unfit[] = {
    {0, 2, 90, 0, "cuda-on-host", "no NVIDIA driver is installed", true},
    {11080, 2, 90, 0, "cuda-on-host", "driver is older than", true},
    {DRIVER, 0, 90, 0, "cuda-on-host:all", "no NVIDIA GPU is visible", true},
    {DRIVER, 2, 75, 0, "cuda-on-host", "compute capability 8.0", true},
    {DRIVER, 2, 90, 1, "cuda-on-host", "GPU 0 failed: CUDA-capable device(s) is/are busy", true},
    {DRIVER, 2, 90, 2, "cuda-on-host:1", "GPU 1 failed: CUDA-capable device(s) is/are busy", false},
    {DRIVER, 2, 90, 0, "cuda-on-host:2", "the devices here are 0 .. 1", false},
};

static void test_machines_without_a_fit_gpu(void) {
  fl_devices d;
  for (int i = 0; i < FL_COUNT(unfit); i++) {
    fl_host_set()->driver = unfit[i].driver;
    fl_host_set()->devices = unfit[i].devices;
    fl_host_set()->capability = unfit[i].capability;
    fl_host_set()->busy = unfit[i].busy;
    refuses(unfit[i].device, FEDLANE_DEVICE, unfit[i].sentence);
    if (unfit[i].automatic) falls_back(unfit[i].sentence);
    fl_host_defaults();
  }
  CU_ASSERT_EQUAL_FATAL(fl_devices_open_first(&kinds, FL_MATH_AUTO, 1, &d), FEDLANE_OK);
  CU_ASSERT(d.ops == &fl_cuda_ops && !*d.passed);
  fl_devices_close(&d);
}

/* The plan, which a run prints at its start, says that the CPU was taken and why. */
static void test_a_run_says_that_it_falls_back(void) {
  const char *device = "device=auto";
  char text[8192];
  fedlane_run *run = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(plain, 1, &device, 0, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_run_describe(run, text, sizeof text), FEDLANE_OK);
  CU_ASSERT_PTR_NULL(strstr(text, "takes the CPU"));
  snprintf(run->devices.passed, sizeof run->devices.passed, "no NVIDIA GPU is visible");
  CU_ASSERT_EQUAL(fl_run_describe(run, text, sizeof text), FEDLANE_OK);
  CU_ASSERT_PTR_NOT_NULL(
      strstr(text, "notice      device: auto takes the CPU: no NVIDIA GPU is visible\n"));
  fedlane_close(&run);
}

static void keep_quiet(const char *sentence) { (void)sentence; }

static void test_a_device_lost_in_a_round(void) {
  fedlane_run *run = NULL;
  const char *device = "device=cuda-on-host";
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(plain, 1, &device, 0, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
  fl_host_set()->on_fault = keep_quiet;
  fl_host_set()->lost_after = 20;
  CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_DEVICE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "the device was lost"));
  fedlane_close(&run);
  fl_host_revive();
  fl_host_defaults();
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(plain, 1, &device, 0, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
  fedlane_close(&run);
}

/* A run that does not fit takes more waves. */
static void test_little_memory_takes_more_waves(void) {
  const char *device = "device=cuda-on-host";
  fedlane_run *run = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(plain, 1, &device, 0, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(run->plan.width, 3);
  /* Lanes get nine tenths of what is left beside a thirty-second of the memory. */
  int64_t a_lane = run->plan.lane + run->plan.train;
  int64_t want = (run->plan.shared + a_lane * 3 / 2) / 9 * 10;
  fl_host_set()->memory -= (run->plan.room - want) / 31 * 32;
  fedlane_close(&run);
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(plain, 1, &device, 0, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(run->plan.width, 1);
  CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
  fedlane_close(&run);
  fl_host_defaults();
}
#endif

static const fl_test tests[] = {
    {"runs as on the cpu", test_runs_as_on_the_cpu},
    {"runs as on the oracle", test_runs_as_on_the_oracle},
    {"a depthwise window too large", test_a_depthwise_window_too_large},
    {"widths are invisible", test_widths_are_invisible},
    {"lower precision learns the same", test_lower_precision_learns_the_same},
    {"what device may say", test_what_device_may_say},
#ifdef FL_HAS_CUDA
    {"cuBLAS as a yardstick", test_cublas_as_a_yardstick},
#endif
#ifdef FL_CUDA_ON_HOST
    {"without cuBLAS", test_without_cublas},
    {"devices that are named", test_devices_that_are_named},
    {"machines without a fit GPU", test_machines_without_a_fit_gpu},
    {"a run says that it falls back", test_a_run_says_that_it_falls_back},
    {"a device lost in a round", test_a_device_lost_in_a_round},
    {"little memory takes more waves", test_little_memory_takes_more_waves},
#endif
};

FL_SUITE_MAIN("cuda", tests)
