#include "mix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "suite.h"

enum { N = 257, CLIENTS = 23 };

typedef struct cohort {
  float x[CLIENTS][N];
  int32_t weight[CLIENTS];
  fl_measure measure[CLIENTS];
  int64_t total;
} cohort;

/* Updates whose magnitudes span many levels of the grid. */
static void make(cohort *c, uint32_t seed, int lowest, int highest) {
  fl_rng rng = fl_rng_open((fl_key){.seed = seed, .purpose = FL_FOR_DATA});
  c->total = 0;
  for (int i = 0; i < CLIENTS; i++) {
    int exponent = lowest + (int)fl_rng_below(&rng, (uint32_t)(highest - lowest + 1));
    c->weight[i] = 1 + (int32_t)fl_rng_below(&rng, 1000);
    c->total += c->weight[i];
    c->measure[i] = (fl_measure){0};
    for (int k = 0; k < N; k++) {
      c->x[i][k] = (float)ldexp(fl_rng_normal(&rng), exponent);
      c->measure[i].peak = fmax(c->measure[i].peak, fabs((double)c->x[i][k]));
    }
  }
}

static void open_device(const char *name, fl_devices *devices) {
  CU_ASSERT_EQUAL_FATAL(fl_devices_open(name, FL_MATH_FP32, 1, devices), FEDLANE_OK);
}

/* Device memory with a copy of `bytes` bytes; and its contents back, when `to` is given, and its
 * end. */
static void *put(const fl_devices *d, const void *from, int64_t bytes) {
  void *at = NULL;
  CU_ASSERT_EQUAL_FATAL(d->ops->alloc(d->dev[0], bytes, &at), FEDLANE_OK);
  CU_ASSERT_EQUAL(d->ops->upload(d->dev[0], at, from, bytes), FEDLANE_OK);
  return at;
}

static void take(const fl_devices *d, void *at, void *to, int64_t bytes) {
  if (to) CU_ASSERT_EQUAL(d->ops->download(d->dev[0], to, at, bytes), FEDLANE_OK);
  d->ops->release(d->dev[0], &at);
}

/* Counts and adds C lanes of n elements. */
static void add(fl_mix *mix, int C, int64_t n, fl_cspan x, const int32_t *weight,
                const fl_measure *measure) {
  fl_summand sum = {.C = C, .n = n, .weight = weight, .measure = measure};
  fl_mix_count(mix, C, weight);
  CU_ASSERT_EQUAL(fl_mix_add(mix, &sum, x), FEDLANE_OK);
}

/* Mixes the clients in the given order, `group` a call, over `parts` partial sums. */
static void mix_in(const fl_devices *d, const cohort *c, const int32_t *order, int group, int parts,
                   float *out) {
  fl_mix mix[3];
  void *there = put(d, c->x, sizeof c->x), *mean = put(d, c->x, 4 * N);
  for (int p = 0; p < parts; p++) {
    fl_mix_open(&mix[p], d->ops, d->dev[0], N);
    CU_ASSERT_EQUAL_FATAL(fl_mix_begin(&mix[p], c->total), FEDLANE_OK);
  }
  for (int at = 0; at < CLIENTS; at += group) {
    float x[CLIENTS][N];
    int32_t weight[CLIENTS];
    fl_measure measure[CLIENTS];
    int n = CLIENTS - at < group ? CLIENTS - at : group;
    for (int i = 0; i < n; i++) {
      memcpy(x[i], c->x[order[at + i]], sizeof x[i]);
      weight[i] = c->weight[order[at + i]];
      measure[i] = c->measure[order[at + i]];
    }
    fl_cspan span = {there, N};
    CU_ASSERT_EQUAL(d->ops->upload(d->dev[0], there, x, n * (int64_t)sizeof x[0]), FEDLANE_OK);
    add(&mix[at / group % parts], n, N, span, weight, measure);
  }
  fl_mix *const all[] = {&mix[0], &mix[1], &mix[2]};
  CU_ASSERT_EQUAL(fl_mix_join(parts, all), FEDLANE_OK);
  CU_ASSERT_EQUAL(mix[0].total, c->total);
  CU_ASSERT_EQUAL(fl_mix_mean(&mix[0], mean), FEDLANE_OK);
  for (int p = 0; p < parts; p++) fl_mix_close(&mix[p]);
  take(d, there, NULL, 0);
  take(d, mean, out, 4 * N);
}

static void each_backend(void (*check)(const fl_devices *d)) {
  for (int i = 0; i < fl_backends.n; i++) {
    fl_devices d = {0};
    const char *why = "";
    if (((const fl_ops *)fl_backends.entry[i])->count(&why) == 0) continue;
    open_device(fl_backends.entry[i]->name, &d);
    check(&d);
    fl_devices_close(&d);
  }
}

static void check_grouping(const fl_devices *d) {
  static cohort c;
  float first[N], other[N];
  int32_t order[CLIENTS];
  fl_rng rng = fl_rng_open((fl_key){.seed = 9, .purpose = FL_FOR_DATA});
  make(&c, 1, -60, 20);
  for (int i = 0; i < CLIENTS; i++) order[i] = i;
  mix_in(d, &c, order, CLIENTS, 1, first);
  for (int trial = 0; trial < 20; trial++) {
    fl_rng_shuffle(&rng, order, CLIENTS);
    mix_in(d, &c, order, 1 + trial, 1 + trial % 3, other);
    CU_ASSERT_EQUAL(memcmp(first, other, sizeof first), 0);
  }
}

static void test_order_and_grouping_are_invisible(void) { each_backend(check_grouping); }

static void check_mean(const fl_devices *d) {
  static cohort c;
  float mean[N];
  int32_t order[CLIENTS];
  for (int i = 0; i < CLIENTS; i++) order[i] = i;
  for (int trial = 0; trial < 10; trial++) {
    make(&c, 100 + (uint32_t)trial, -8 * trial, -8 * trial + 6);
    mix_in(d, &c, order, 4, 2, mean);
    for (int k = 0; k < N; k++) {
      long double want = 0, size = 0;
      for (int i = 0; i < CLIENTS; i++) {
        want += (long double)c.weight[i] * c.x[i][k];
        size += (long double)c.weight[i] * fabsl((long double)c.measure[i].peak);
      }
      /* The grid is finer than float32 against the updates' own peaks. */
      CU_ASSERT(fabsl(mean[k] - want / c.total) <= ldexpl(size / c.total, -24));
    }
  }
}

static void test_mean_is_the_weighted_mean(void) { each_backend(check_mean); }

static void check_extremes(const fl_devices *d) {
  float x[3][2] = {{3.4e38f, -1.0f}, {1e-45f, 0}, {0, 0}}, out[2];
  int32_t weight[3] = {2147483647, 1, 1};
  fl_measure measure[3] = {{0, 3.4e38f}, {0, 1e-45f}, {0, 0}};
  fl_mix mix;
  void *mean = put(d, x, sizeof out);
  fl_cspan span = {put(d, x, sizeof x), 2};
  fl_mix_open(&mix, d->ops, d->dev[0], 2);
  CU_ASSERT_EQUAL(fl_mix_begin(&mix, INT64_C(2147483649)), FEDLANE_OK);
  add(&mix, 3, 2, span, weight, measure);
  CU_ASSERT_EQUAL(fl_mix_mean(&mix, mean), FEDLANE_OK);
  take(d, mean, out, sizeof out);
  take(d, (void *)(uintptr_t)span.at, NULL, 0);
  CU_ASSERT_DOUBLE_EQUAL(out[0], 3.4e38, 1e32);
  fl_mix_close(&mix);
}

static void test_largest_and_smallest_floats(void) { each_backend(check_extremes); }

/* A filter's factor may take an update below the smallest float: nothing of it is left. */
static void check_shrunk(const fl_devices *d) {
  float x[2][2] = {{1, -2}, {3, 4}}, out[2];
  int32_t weight[2] = {1, 1};
  double scale[2] = {1e-300, 1};
  fl_measure measure[2] = {{5, 2}, {25, 4}};
  fl_summand s = {.C = 2, .n = 2, .weight = weight, .scale = scale, .measure = measure};
  fl_mix mix;
  void *mean = put(d, x, sizeof out);
  fl_span span = {put(d, x, sizeof x), 2};
  fl_mix_open(&mix, d->ops, d->dev[0], 2);
  CU_ASSERT_EQUAL(fl_mix_begin(&mix, 2), FEDLANE_OK);
  fl_mix_count(&mix, 2, weight);
  CU_ASSERT_EQUAL(fl_mix_add(&mix, &s, fl_const(span)), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_mix_mean(&mix, mean), FEDLANE_OK);
  take(d, mean, out, sizeof out);
  take(d, span.at, NULL, 0);
  CU_ASSERT(out[0] == 1.5f && out[1] == 2);
  fl_mix_close(&mix);
}

static void test_shrunk_to_nothing(void) { each_backend(check_shrunk); }

static void check_dropped(const fl_devices *d) {
  float x[2][3] = {{1, 2, 3}, {NAN, INFINITY, 0}}, out[3];
  int32_t weight[2] = {5, 0};
  fl_measure measure[2] = {{14, 3}, {0, INFINITY}};
  fl_mix mix;
  void *mean = put(d, x, sizeof out);
  fl_cspan span = {put(d, x, sizeof x), 3};
  fl_mix_open(&mix, d->ops, d->dev[0], 3);
  CU_ASSERT_EQUAL(fl_mix_begin(&mix, 5), FEDLANE_OK);
  add(&mix, 2, 3, span, weight, measure);
  CU_ASSERT_EQUAL(fl_mix_mean(&mix, mean), FEDLANE_OK);
  take(d, mean, out, sizeof out);
  take(d, (void *)(uintptr_t)span.at, NULL, 0);
  CU_ASSERT(out[0] == 1 && out[1] == 2 && out[2] == 3);
  fl_mix_close(&mix);
}

static void test_weight_zero_leaves_a_lane_out(void) { each_backend(check_dropped); }

static void test_too_much_weight_is_refused(void) {
  fl_mix mix = {0};
  CU_ASSERT_EQUAL(fl_mix_begin(&mix, INT64_C(1) << 38), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_mix_begin(&mix, (INT64_C(1) << 38) + 1), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "2^38"));
}

static const fl_test tests[] = {
    {"order and grouping are invisible", test_order_and_grouping_are_invisible},
    {"the mean is the weighted mean", test_mean_is_the_weighted_mean},
    {"the largest and smallest floats", test_largest_and_smallest_floats},
    {"shrunk to nothing", test_shrunk_to_nothing},
    {"weight zero leaves a lane out", test_weight_zero_leaves_a_lane_out},
    {"too much weight is refused", test_too_much_weight_is_refused},
};
FL_SUITE_MAIN("mix", tests)
