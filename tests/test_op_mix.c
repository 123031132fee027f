/* Exact mixing: the sums of integers do not depend on order or grouping, and are the right ones. */
#include <math.h>
#include <stdlib.h>

#include "op_cases.h"
#include "suite.h"

enum { CLIENTS = 24, N = 501 };

/* A round's updates, on a grid of 2^-20 so that closed forms are whole numbers: client c holds
 * units[c][i] * 2^-20 and has weight[c] examples. */
static int32_t units[CLIENTS][N], weight[CLIENTS];

static void draw_updates(void) {
  fl_key key = {3, FL_FOR_DATA, 0, 0, 0, 0, 0};
  fl_rng rng = fl_rng_open(key);
  for (int c = 0; c < CLIENTS; c++) {
    weight[c] = c == 5 ? 0 : (int32_t)fl_rng_below(&rng, 1 << 20);
    for (int i = 0; i < N; i++) units[c][i] = (int32_t)fl_rng_below(&rng, 1 << 24) - (1 << 23);
  }
}

/* unit * weight / 2 to the nearest integer, halves to even. */
static int64_t half_to_even(int64_t unit, int64_t w) {
  int64_t twice = unit * w, down = (twice - (twice & 1)) / 2;
  return (twice & 1) ? down + (down & 1) : down;
}

static void want_totals(int64_t *want) {
  for (int i = 0; i < N; i++) {
    want[i] = 0;
    for (int c = 0; c < CLIENTS; c++) want[i] += half_to_even(units[c][i], weight[c]);
  }
}

/* Mixes the clients order[0 .. n-1] in one call, with lanes laid out in that order. */
static void mix_group(fl_rig *r, int n, const int32_t *order, int64_t *total) {
  int64_t stride = (N + 15) / 16 * 16;
  float *host = calloc((size_t)(n * stride), sizeof *host);
  double factor[CLIENTS];
  int64_t *acc[CLIENTS];
  CU_ASSERT_PTR_NOT_NULL_FATAL(host);
  for (int c = 0; c < n; c++) {
    for (int i = 0; i < N; i++) host[c * stride + i] = (float)units[order[c]][i] * 0x1p-20f;
    factor[c] = weight[order[c]] * 0x1p19;
    acc[c] = total;
  }
  fl_span x = {fl_rig_hold(r, host, n * stride * (int64_t)sizeof *host), stride};
  CU_ASSERT_EQUAL(r->ops->mix(r->dev, n, N, fl_const(x), factor, acc), FEDLANE_OK);
  free(host);
}

static int64_t *new_total(fl_rig *r) {
  const int64_t zero[N] = {0};
  return fl_rig_hold(r, zero, sizeof zero);
}

/* In random order, in groups of random size, into one accumulator or two that are then joined. */
static void check_grouping(fl_rig *r) {
  int64_t want[N], got[N];
  int32_t order[CLIENTS];
  fl_key key = {4, FL_FOR_SHUFFLE, 0, 0, 0, 0, 0};
  fl_rng rng = fl_rng_open(key);
  draw_updates();
  want_totals(want);
  for (int c = 0; c < CLIENTS; c++) order[c] = c;
  for (int trial = 0; trial < 6; trial++) {
    fl_rig fresh = {.ops = r->ops, .dev = r->dev};
    int64_t *total[2] = {new_total(&fresh), new_total(&fresh)};
    fl_rng_shuffle(&rng, order, CLIENTS);
    for (int c = 0, n; c < CLIENTS; c += n) {
      n = 1 + (int)fl_rng_below(&rng, (uint32_t)(CLIENTS - c));
      mix_group(&fresh, n, order + c, total[fl_rng_below(&rng, 2)]);
    }
    CU_ASSERT_EQUAL(r->ops->add64(r->dev, N, total[1], total[0]), FEDLANE_OK);
    fl_rig_fetch(r, got, total[0], sizeof got);
    for (int i = 0; i < N; i++) CU_ASSERT_EQUAL(got[i], want[i]);
    fl_rig_close(&fresh);
  }
}

static void test_any_order_and_grouping(void) { fl_each_backend(check_grouping); }

/* Halves go to the even neighbour and the largest magnitudes that mix.h allows do not wrap. */
static void check_edges(fl_rig *r) {
  const float x[8] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 0.49999997f, -0.0f};
  const int64_t want[8] = {0, 2, 2, 0, -2, -2, 0, 0}, zero[8] = {0};
  const float wide[8] = {1, -1, 0x1.fffffep-1f, -0x1.fffffep-1f};
  const int64_t most[8] = {INT64_C(1) << 62, -(INT64_C(1) << 62),
                           (INT64_C(1) << 62) - (INT64_C(1) << 38),
                           (INT64_C(1) << 38) - (INT64_C(1) << 62)};
  const double one = 1, limit = 0x1p62;
  int64_t got[8], *acc = fl_rig_hold(r, zero, sizeof zero);
  fl_cspan xs = {fl_rig_hold(r, x, sizeof x), 8}, ws = {fl_rig_hold(r, wide, sizeof wide), 8};
  CU_ASSERT_EQUAL(r->ops->mix(r->dev, 1, 8, xs, &one, &acc), FEDLANE_OK);
  fl_rig_fetch(r, got, acc, sizeof got);
  for (int i = 0; i < 8; i++) CU_ASSERT_EQUAL(got[i], want[i]);
  acc = fl_rig_hold(r, zero, sizeof zero);
  CU_ASSERT_EQUAL(r->ops->mix(r->dev, 1, 8, ws, &limit, &acc), FEDLANE_OK);
  fl_rig_fetch(r, got, acc, sizeof got);
  for (int i = 0; i < 8; i++) CU_ASSERT_EQUAL(got[i], most[i]);
}

static void test_edges(void) { fl_each_backend(check_edges); }

/* A lane with factor 0 is not read as a number: it may hold NaN. */
static void check_left_out(fl_rig *r) {
  const float x[4] = {1, 2, NAN, INFINITY};
  const double factor[2] = {4, 0};
  const int64_t zero[2] = {0};
  int64_t got[2], *acc = fl_rig_hold(r, zero, sizeof zero), *both[2] = {acc, acc};
  fl_cspan xs = {fl_rig_hold(r, x, sizeof x), 2};
  CU_ASSERT_EQUAL(r->ops->mix(r->dev, 2, 2, xs, factor, both), FEDLANE_OK);
  fl_rig_fetch(r, got, acc, sizeof got);
  CU_ASSERT(got[0] == 4 && got[1] == 8);
}

static void test_left_out(void) { fl_each_backend(check_left_out); }

/* The sum of unit * acc in double, levels ascending, rounded to float once. */
static void check_unmix(fl_rig *r) {
  const int64_t low[3] = {3, -(INT64_C(1) << 60), 1}, high[3] = {5, INT64_C(1) << 60, 1};
  const double unit[2] = {0x1p-30, 0x1p-2};
  const int64_t *acc[2] = {fl_rig_hold(r, low, sizeof low), fl_rig_hold(r, high, sizeof high)};
  float got[3], *out = fl_rig_hold(r, NULL, sizeof got);
  CU_ASSERT_EQUAL(r->ops->unmix(r->dev, 3, 2, acc, unit, out), FEDLANE_OK);
  fl_rig_fetch(r, got, out, sizeof got);
  for (int i = 0; i < 3; i++)
    CU_ASSERT_EQUAL(got[i], (float)(0x1p-30 * (double)low[i] + 0x1p-2 * (double)high[i]));
  CU_ASSERT_EQUAL(r->ops->unmix(r->dev, 3, 1, acc, unit, out), FEDLANE_OK);
  fl_rig_fetch(r, got, out, sizeof got);
  CU_ASSERT_EQUAL(got[0], 3 * 0x1p-30f);
}

static void test_unmix(void) { fl_each_backend(check_unmix); }

static const fl_test tests[] = {
    {"any order and grouping", test_any_order_and_grouping},
    {"edges", test_edges},
    {"a lane left out", test_left_out},
    {"unmix", test_unmix},
};

FL_SUITE_MAIN("op_mix", tests)
