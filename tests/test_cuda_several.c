/* Several GPUs in one run, or several pretend ones in builds with cuda-on-host: the same bits for
 * any number of them, and one sentence when one is lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "suite.h"
#ifdef FL_CUDA_ON_HOST
#include <sys/wait.h>

#include "settings.h"
#endif

enum { MOST = 3 }; /* devices that are tried together */

/* Ragged clients, a last partial batch, a batch of the test set that is not full. */
static const char *const plain =
    "seed: 11\nprecision: fp32\n"
    "data: {format: synthetic, examples: 60, test: 21, channels: 1, height: 4, width: 4,\n"
    "       classes: 5, partition: {kind: dirichlet, clients: 7, alpha: 1}}\n"
    "model: {layers: [{conv: 4, kernel: 3}, relu, flatten, {dense: 0}]}\n"
    "train: {resident: false, rounds: 2, cohort: 5, epochs: 1, batch: 6, lr: 0.1}\n"
    "eval: {every: 1, batch: 4, clients: true}\n";

/* The GPU backend and how many devices to try, 2 .. MOST; else NULL, and the test says skipped. */
static const fl_ops *gpus(int *n) {
  const char *why = "this build has none";
#ifdef FL_CUDA_ON_HOST
  fl_host_set()->devices = MOST;
#endif
  for (int i = 0; i < fl_backends.n; i++) {
    const fl_ops *ops = (const fl_ops *)fl_backends.entry[i];
    *n = ops->host ? 0 : ops->count(&why);
    if (*n > MOST) *n = MOST;
    if (*n > 1) return ops;
    if (*n == 1) why = "there is only one";
  }
  printf("skipped: no several GPUs: %s\n", why);
  return NULL;
}

/* What follows the backend's name for the first n devices. */
static const char *first_devices(int n) {
  static const char *const which[MOST + 1] = {"", ":0", ":0,1", ":0,1,2"};
  return which[n];
}

static const char *const variants[] = {
    "",
    "algorithm: scaffold\n",
    "algorithm: fedadam\n",
};

/* How a training ended. */
typedef struct result {
  float *w;
  int64_t P;
  fedlane_metrics m;
} result;

static result train(const char *text, const fl_ops *ops, const char *which, const char *more) {
  char device[64];
  const char *overrides[] = {device, more};
  result r = {0};
  snprintf(device, sizeof device, "device=%s%s", ops->record.name, which);
  r.w = fl_fixture_train(text, *more ? 2 : 1, overrides, &r.P, &r.m);
  return r;
}

static void same_metrics(const fedlane_metrics *a, const fedlane_metrics *b) {
  double x[] = {a->train_loss,  a->train_accuracy, a->test_loss,       a->test_accuracy,
                a->client_mean, a->client_worst,   a->client_deviation};
  double y[] = {b->train_loss,  b->train_accuracy, b->test_loss,       b->test_accuracy,
                b->client_mean, b->client_worst,   b->client_deviation};
  CU_ASSERT_EQUAL(memcmp(x, y, sizeof x), 0);
  CU_ASSERT(a->clients == b->clients && a->dropped == b->dropped && a->examples == b->examples);
  CU_ASSERT(a->steps == b->steps && a->bytes_up == b->bytes_up && a->bytes_down == b->bytes_down);
}

/* Asserts that a training ends like `want`, and releases it. */
static void ends_like(const result *want, result got) {
  CU_ASSERT(want->w && got.w && want->P == got.P);
  if (want->w && got.w && want->P == got.P)
    CU_ASSERT_EQUAL(memcmp(want->w, got.w, (size_t)(4 * got.P)), 0);
  same_metrics(&want->m, &got.m);
  free(got.w);
}

static void test_any_number_of_devices(void) {
  int n = 0;
  const fl_ops *ops = gpus(&n);
  for (int v = 0; ops && v < FL_COUNT(variants); v++) {
    char text[2048];
    snprintf(text, sizeof text, "%s%s", plain, variants[v]);
    result one = train(text, ops, "", "");
    for (int k = 2; k <= n; k++) ends_like(&one, train(text, ops, first_devices(k), ""));
    CU_ASSERT(one.m.train_loss > 0 && one.m.clients == 5);
    free(one.w);
  }
}

static void test_their_order_and_number(void) {
  int n = 0;
  const fl_ops *ops = gpus(&n);
  if (!ops) return;
  result one = train(plain, ops, "", "");
  ends_like(&one, train(plain, ops, ":1,0", ""));
  ends_like(&one, train(plain, ops, ":1", ""));
  ends_like(&one, train(plain, ops, ":all", "width=1")); /* more waves than one */
  free(one.w);
  result few = train(plain, ops, "", "train.cohort=1");
  ends_like(&few, train(plain, ops, first_devices(n), "train.cohort=1"));
  free(few.w);
}

static void test_resumed_on_other_devices(void) {
  int n = 0;
  const fl_ops *ops = gpus(&n);
  char text[2048], output[256], device[2][64];
  const char *overrides[] = {device[0], output};
  fedlane_run *run = NULL;
  if (!ops) return;
  snprintf(text, sizeof text, "%s%scheckpoint: {every: 1}\n", plain, "algorithm: scaffold\n");
  snprintf(output, sizeof output, "output=%s/resumed", fl_test_folder());
  for (int i = 0; i < 2; i++)
    snprintf(device[i], sizeof device[i], "device=%s%s", ops->record.name, first_devices(n - i));
  result want = train(text, ops, "", "");
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 2, overrides, 0, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
  fedlane_close(&run);
  result got = {.P = want.P, .w = malloc((size_t)(4 * want.P))};
  overrides[0] = device[1];
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(text, 2, overrides, FEDLANE_RESUME, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(run->round, 1);
  CU_ASSERT_EQUAL(fedlane_round(run, &got.m), FEDLANE_OK);
  ops->download(run->server.dev, got.w, run->server.w, 4 * got.P);
  fedlane_close(&run);
  ends_like(&want, got);
  free(want.w);
}

/* Every client has one place; shares have equal numbers, most work first, and nearly equal work. */
static void check_shares(fedlane_run *run, int n) {
  fl_cohort *c = &run->cohort;
  int64_t least = INT64_MAX, most = 0, largest = 0;
  bool seen[64] = {false};
  int32_t seats = 0;
  for (int k = 0; k < n; k++) {
    int first = 0, taken = 0;
    int32_t before = INT32_MAX;
    int64_t work = 0;
    while (fl_cohort_take(c, k, 1, &first) == 1) {
      int32_t pieces = fl_schedule_pieces(&run->schedule, fl_run_examples(run, c->client[first]));
      CU_ASSERT(pieces <= before && !seen[c->client[first]]);
      seen[c->client[first]] = true;
      before = pieces;
      work += pieces;
      largest = pieces > largest ? pieces : largest;
      taken++;
    }
    CU_ASSERT(taken == c->n / n || taken == (c->n + n - 1) / n);
    seats += taken;
    least = work < least ? work : least;
    most = work > most ? work : most;
  }
  CU_ASSERT_EQUAL(seats, c->n);
  CU_ASSERT(most - least <= largest);
}

static void test_shares_are_even(void) {
  int n = 0;
  const fl_ops *ops = gpus(&n);
  fedlane_run *run = NULL;
  char device[64];
  const char *overrides[] = {device, "train.cohort=40", "data.examples=900",
                             "data.partition.clients=60"};
  if (!ops) return;
  snprintf(device, sizeof device, "device=%s%s", ops->record.name, first_devices(n));
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(plain, 4, overrides, 0, &run), FEDLANE_OK);
  for (int round = 0; round < 5; round++, run->round++) {
    CU_ASSERT_EQUAL(fl_cohort_draw(run), FEDLANE_OK);
    check_shares(run, n);
  }
  fedlane_close(&run);
}

/* --- the two slots alone ------------------------------------------------------------------- */
typedef struct vectors {
  fl_devices devices;
  int64_t n;
  int64_t *want; /* (host) the sum */
  void *at[MOST];
} vectors;

/* Whole numbers of any size on each device. */
static void open_vectors(vectors *v, const fl_ops *ops, int n_dev, int64_t n) {
  char device[64];
  fl_rng rng = fl_rng_open((fl_key){.seed = 3, .purpose = FL_FOR_DATA});
  int64_t *own = calloc((size_t)n, sizeof *own);
  *v = (vectors){.n = n, .want = calloc((size_t)n, sizeof *own)};
  snprintf(device, sizeof device, "%s%s", ops->record.name, first_devices(n_dev));
  CU_ASSERT_EQUAL_FATAL(fl_devices_open(device, FL_MATH_FP32, 0, &v->devices), FEDLANE_OK);
  for (int k = 0; k < n_dev; k++) {
    for (int64_t i = 0; i < n; i++) {
      int64_t size = (int64_t)fl_rng_below(&rng, UINT32_MAX) << fl_rng_below(&rng, 28);
      own[i] = i % 2 ? size : -size;
      v->want[i] += own[i];
    }
    CU_ASSERT_EQUAL_FATAL(ops->alloc(v->devices.dev[k], 8 * n, &v->at[k]), FEDLANE_OK);
    CU_ASSERT_EQUAL(ops->upload(v->devices.dev[k], v->at[k], own, 8 * n), FEDLANE_OK);
  }
  free(own);
}

static void close_vectors(vectors *v) {
  for (int k = 0; k < v->devices.n; k++) v->devices.ops->release(v->devices.dev[k], &v->at[k]);
  fl_devices_close(&v->devices);
  free(v->want);
}

static fl_status gather(const vectors *v) {
  int64_t *x[MOST];
  for (int k = 0; k < v->devices.n; k++) x[k] = (int64_t *)v->at[k];
  return v->devices.ops->gather64(v->devices.n, v->devices.dev, v->n, x);
}

static fl_status spread(const vectors *v) {
  float *x[MOST];
  for (int k = 0; k < v->devices.n; k++) x[k] = (float *)v->at[k];
  return v->devices.ops->spread(v->devices.n, v->devices.dev, 2 * v->n, x);
}

/* The sum reaches the first device, and from there every device as the bits that it is. */
static void check_slots(const fl_ops *ops, int n_dev, int64_t n) {
  vectors v;
  open_vectors(&v, ops, n_dev, n);
  int64_t *got = calloc((size_t)n, sizeof *got);
  CU_ASSERT_EQUAL(gather(&v), FEDLANE_OK);
  CU_ASSERT_EQUAL(spread(&v), FEDLANE_OK);
  for (int k = 0; k < n_dev; k++) {
    CU_ASSERT_EQUAL(ops->download(v.devices.dev[k], got, v.at[k], 8 * n), FEDLANE_OK);
    CU_ASSERT_EQUAL(memcmp(got, v.want, (size_t)(8 * n)), 0);
  }
  free(got);
  close_vectors(&v);
}

static void test_sums_and_vectors(void) {
  static const int64_t size[] = {1, 5, 1027};
  int n = 0;
  const fl_ops *ops = gpus(&n);
  for (int k = 1; ops && k <= n; k++)
    for (int i = 0; i < FL_COUNT(size); i++) check_slots(ops, k, size[i]);
}

/* Mixes on a device each, whose updates are of different sizes, against one mix of all. */
static void test_mixes_on_a_device_each(void) {
  enum { N = 101 };
  static const float unit[MOST] = {1.0f, 1e-12f, 3e4f};
  int n = 0;
  const fl_ops *ops = gpus(&n);
  float x[N], mean[2][N];
  vectors v;
  fl_mix alone, mix[MOST], *all[MOST];
  if (!ops) return;
  open_vectors(&v, ops, n, N);
  fl_dev *const *dev = v.devices.dev;
  fl_mix_open(&alone, ops, dev[0], N);
  CU_ASSERT_EQUAL(fl_mix_begin(&alone, 6), FEDLANE_OK);
  for (int k = 0; k < n; k++) {
    int32_t weight = 1 + k;
    fl_measure measure = {0, unit[k]};
    for (int i = 0; i < N; i++) x[i] = unit[k] * (float)(i - 50) / 53;
    for (int here = 1; here >= 0; here--) { /* on its own device, and on the first */
      fl_mix *to = here ? &mix[k] : &alone;
      int at = here ? k : 0;
      if (here) fl_mix_open(to, ops, dev[k], N);
      if (here) CU_ASSERT_EQUAL(fl_mix_begin(to, 6), FEDLANE_OK);
      CU_ASSERT_EQUAL(ops->upload(dev[at], v.at[at], x, sizeof x), FEDLANE_OK);
      fl_cspan span = {(const float *)v.at[at], N};
      fl_summand sum = {.C = 1, .n = N, .weight = &weight, .measure = &measure};
      fl_mix_count(to, 1, &weight);
      CU_ASSERT_EQUAL(fl_mix_add(to, &sum, span), FEDLANE_OK);
    }
    all[k] = &mix[k];
  }
  CU_ASSERT_EQUAL(fl_mix_join(n, all), FEDLANE_OK);
  CU_ASSERT_EQUAL(mix[0].total, alone.total);
  for (int i = 0; i < 2; i++) {
    CU_ASSERT_EQUAL(fl_mix_mean(i ? &alone : &mix[0], (float *)v.at[0]), FEDLANE_OK);
    CU_ASSERT_EQUAL(ops->download(dev[0], mean[i], v.at[0], sizeof mean[i]), FEDLANE_OK);
  }
  CU_ASSERT_EQUAL(memcmp(mean[0], mean[1], sizeof mean[0]), 0);
  for (int k = 0; k < n; k++) fl_mix_close(&mix[k]);
  fl_mix_close(&alone);
  close_vectors(&v);
}

#ifdef FL_CUDA_ON_HOST
/* Past what one copy to the workspace holds, too. */
static void test_without_nccl(void) {
  int n = 0;
  const fl_ops *ops = gpus(&n);
  result want = train(plain, ops, "", "algorithm.name=scaffold");
  fl_host_set()->nccl = false;
  ends_like(&want, train(plain, ops, ":all", "algorithm.name=scaffold"));
  for (int k = 1; k <= n; k++) check_slots(ops, k, 1027);
  check_slots(ops, 2, 64 * 1024 * 1024 / 8 + 3);
  free(want.w);
  fl_host_defaults();
}

/* The device with least memory decides how many lanes all have. */
static void test_memory_of_each_device(void) {
  char text[4096];
  const char *device = "device=cuda-on-host:all";
  fedlane_run *run = NULL;
  result want = train(plain, &fl_cuda_ops, "", "");
  fl_host_set()->devices = 2;
  fl_host_set()->memory = 512 << 20;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(plain, 1, &device, FL_OPEN_DRY, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(run->plan.width, 3);
  CU_ASSERT_EQUAL(fl_run_describe(run, text, sizeof text), FEDLANE_OK);
  CU_ASSERT_PTR_NOT_NULL(strstr(text, "2 devices, 3 lanes seated on each, 3 a call"));
  CU_ASSERT_PTR_NOT_NULL(strstr(text, "were free on each device"));
  /* Lanes get nine tenths of what is left beside a thirty-second of the memory. */
  int64_t a_lane = run->plan.lane + run->plan.train;
  int64_t keep = (run->plan.shared + a_lane * 3 / 2) / 9 * 10, room = run->plan.room;
  fedlane_close(&run);
  fl_devices second;
  void *taken = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_devices_open("cuda-on-host:1", FL_MATH_FP32, 0, &second), FEDLANE_OK);
  CU_ASSERT_EQUAL(second.ops->alloc(second.dev[0], room - keep - (64 << 20), &taken), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(plain, 1, &device, FL_OPEN_DRY, &run), FEDLANE_OK);
  CU_ASSERT_EQUAL(run->plan.width, 1);
  fedlane_close(&run);
  ends_like(&want, train(plain, &fl_cuda_ops, ":all", ""));
  second.ops->release(second.dev[0], &taken);
  fl_devices_close(&second);
  free(want.w);
  fl_host_defaults();
}

static int told;
static void count_faults(const char *sentence) { told += strstr(sentence, "was lost") != NULL; }

static void whole_again(void) {
  fl_host_revive();
  fl_host_defaults();
  fl_host_set()->devices = MOST;
}

/* One device is lost, early or late in a round; the others end, and the sentence tells. */
static void test_a_device_lost_in_a_round(void) {
  const char *device = "device=cuda-on-host:all";
  int n = 0;
  gpus(&n);
  for (int after = 1; after <= 61; after += 15) {
    fedlane_run *run = NULL;
    CU_ASSERT_EQUAL_FATAL(fl_fixture_open(plain, 1, &device, 0, &run), FEDLANE_OK);
    CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_OK);
    told = 0;
    fl_host_set()->on_fault = count_faults;
    fl_host_set()->lost_after = after;
    CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_DEVICE);
    CU_ASSERT_EQUAL(told, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "the device was lost"));
    CU_ASSERT_PTR_EQUAL(strstr(fedlane_error(), "GPU "), fedlane_error());
    fedlane_close(&run);
    whole_again();
  }
}

/* Any of them lost while vectors travel: nobody waits for ever for it. */
static void test_a_device_lost_on_the_way(void) {
  int n = 0;
  const fl_ops *ops = gpus(&n);
  for (int lost = 0; lost < 2 * n; lost++) {
    vectors v;
    char who[32];
    open_vectors(&v, ops, n, 100);
    CU_ASSERT_EQUAL(spread(&v), FEDLANE_OK);
    told = 0;
    fl_host_set()->on_fault = count_faults;
    fl_host_set()->lost_after = 1 + lost % n;
    CU_ASSERT_EQUAL(lost < n ? gather(&v) : spread(&v), FEDLANE_DEVICE);
    CU_ASSERT_EQUAL(told, 1);
    snprintf(who, sizeof who, "GPU %d failed", lost % n);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), who));
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "the device was lost"));
    close_vectors(&v);
    whole_again();
  }
}

/* The program says one sentence and ends with 1. */
static void test_the_program_ends_with_one(void) {
  const char *folder = fl_test_folder();
  char path[256], command[1024], line[512];
  int sentences = 0;
  snprintf(path, sizeof path, "%s/lost.yaml", folder);
  FILE *f = fopen(path, "w");
  CU_ASSERT_PTR_NOT_NULL_FATAL(f);
  fputs(plain, f);
  fclose(f);
  snprintf(command, sizeof command,
           "FL_HOST_DEVICES=3 FL_HOST_LOST_AFTER=700 %s run %s device=cuda-on-host:all "
           "train.rounds=500 output=%s/lost --quiet 2>&1",
           FEDLANE_PROGRAM, path, folder);
  f = popen(command, "r");
  CU_ASSERT_PTR_NOT_NULL_FATAL(f);
  while (fgets(line, sizeof line, f))
    sentences += strstr(line, "GPU ") && strstr(line, "the device was lost");
  int status = pclose(f);
  CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 1);
  CU_ASSERT_EQUAL(sentences, 1);
}
#endif

static const fl_test tests[] = {
    {"any number of devices", test_any_number_of_devices},
    {"their order and number", test_their_order_and_number},
    {"resumed on other devices", test_resumed_on_other_devices},
    {"shares are even", test_shares_are_even},
    {"sums and vectors", test_sums_and_vectors},
    {"mixes on a device each", test_mixes_on_a_device_each},
#ifdef FL_CUDA_ON_HOST
    {"without NCCL", test_without_nccl},
    {"memory of each device", test_memory_of_each_device},
    {"a device lost in a round", test_a_device_lost_in_a_round},
    {"a device lost on the way", test_a_device_lost_on_the_way},
    {"the program ends with 1", test_the_program_ends_with_one},
#endif
};

FL_SUITE_MAIN("cuda_several", tests)
