/* The update of a dense layer that exists only as a history: how large it is, and its way into the
 * sums of a round, on every backend against sums in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "op_cases.h"
#include "suite.h"

enum { LANES = 4 };

typedef struct shape {
  int R, I, O;
} shape;

static const shape shapes[] = {{1, 5, 1},     {7, 5, 10},    {50, 64, 10},  {7, 333, 128},
                               {130, 64, 1},  {50, 333, 10}, {1, 1024, 10}, {130, 333, 33},
                               {3, 129, 300}, {9, 2500, 3}};

/* Histories of LANES lanes, which a rig holds, and the same in host memory. Dead rows and the gaps
 * between lanes are NaN. */
typedef struct history {
  shape s;
  int32_t rows[LANES];
  int64_t stride_x, stride_dy;
  float *x, *dy; /* (host) */
  fl_cspan xs, dys;
} history;

static void *must_have(void *at) {
  if (!at) abort();
  return at;
}

static float *draw(uint32_t seed, int width, const int32_t *rows, int64_t stride, float size) {
  fl_key key = {seed, FL_FOR_DATA, 0, 0, 0, 0, 0};
  fl_rng rng = fl_rng_open(key);
  float *at = must_have(malloc((size_t)(LANES * stride) * sizeof *at));
  for (int c = 0; c < LANES; c++)
    for (int64_t i = 0; i < stride; i++)
      at[c * stride + i] =
          i < (int64_t)rows[c] * width ? size * (2 * fl_unit_float(fl_rng_u32(&rng)) - 0.9f) : NAN;
  return at;
}

static void hold(fl_rig *r, history *h) {
  h->xs.at = fl_rig_hold(r, h->x, LANES * h->stride_x * (int64_t)sizeof(float));
  h->xs.stride = h->stride_x;
  h->dys.at = fl_rig_hold(r, h->dy, LANES * h->stride_dy * (int64_t)sizeof(float));
  h->dys.stride = h->stride_dy;
}

/* One lane has all rows, one none, one about half and one a single row. gap: floats between lanes,
 * 0 or such that lanes do not start at whole vectors. */
static history history_of(shape s, int gap, float size) {
  history h = {.s = s, .rows = {s.R, 0, (s.R + 1) / 2, 1}};
  h.stride_x = (int64_t)s.R * s.I + gap;
  h.stride_dy = (int64_t)s.R * s.O + gap;
  h.x = draw(1, s.I, h.rows, h.stride_x, size);
  h.dy = draw(2, s.O, h.rows, h.stride_dy, 1 / size);
  return h;
}

static void drop(history *h) {
  free(h->x);
  free(h->dy);
}

/* Lane c's product in double, [O, I]. */
static double *product_of(const history *h, int c) {
  shape s = h->s;
  double *p = must_have(calloc((size_t)s.O * (size_t)s.I, sizeof *p));
  for (int row = 0; row < h->rows[c]; row++) {
    const float *x = h->x + c * h->stride_x + (int64_t)row * s.I;
    const float *dy = h->dy + c * h->stride_dy + (int64_t)row * s.O;
    for (int64_t o = 0; o < s.O; o++)
      for (int i = 0; i < s.I; i++) p[o * s.I + i] += (double)dy[o] * x[i];
  }
  return p;
}

static double largest_column(int rows, int width, const float *x) {
  double largest = 0;
  for (int i = 0; i < width; i++) {
    double sum = 0;
    for (int row = 0; row < rows; row++) sum += pow(x[(int64_t)row * width + i], 2);
    largest = fmax(largest, sqrt(sum));
  }
  return largest;
}

static void fetch_measure(fl_rig *r, const history *h, int C, const int32_t *rows,
                          fl_measure *got) {
  fl_batch b = {C, h->s.R, rows};
  fl_measure *out = fl_rig_hold(r, NULL, C * (int64_t)sizeof *out);
  double peak[LANES];
  for (int norm = 0; norm <= 1; norm++) {
    CU_ASSERT_EQUAL(
        r->ops->product_measure(r->dev, b, h->s.I, h->s.O, h->xs, h->dys, norm != 0, out),
        FEDLANE_OK);
    fl_rig_fetch(r, got, out, C * (int64_t)sizeof *out);
    for (int c = 0; c < C; c++) {
      if (norm == 0) CU_ASSERT_EQUAL(got[c].sum2, 0);
      if (norm == 1) CU_ASSERT_EQUAL(got[c].peak, peak[c]);
      peak[c] = got[c].peak;
    }
  }
}

static void check_size(const history *h, int c, fl_measure got) {
  shape s = h->s;
  double *p = product_of(h, c), sum2 = 0, peak = 0;
  double bound = largest_column(h->rows[c], s.I, h->x + c * h->stride_x) *
                 largest_column(h->rows[c], s.O, h->dy + c * h->stride_dy);
  for (int64_t i = 0; i < (int64_t)s.O * s.I; i++) {
    sum2 += p[i] * p[i];
    peak = fmax(peak, fabs(p[i]));
  }
  CU_ASSERT(fabs(got.sum2 - sum2) <= 1e-4 * sum2);
  CU_ASSERT(peak <= got.peak);
  CU_ASSERT(bound <= got.peak);
  CU_ASSERT(got.peak <= 1.02 * bound);
  free(p);
}

/* Sizes take turns: with two of them squares in float would vanish or overflow. */
static void check_measure(fl_rig *r) {
  const float size[] = {1, 1e-24f, 1e24f};
  for (int k = 0; k < FL_COUNT(shapes); k++) {
    fl_rig fresh = {.ops = r->ops, .dev = r->dev};
    history h = history_of(shapes[k], k % 2 ? 3 : 0, size[k % FL_COUNT(size)]);
    fl_measure got[LANES], alone;
    hold(&fresh, &h);
    fetch_measure(&fresh, &h, LANES, h.rows, got);
    for (int c = 0; c < LANES; c++) check_size(&h, c, got[c]);
    history last = h;
    last.xs.at += (LANES - 1) * h.stride_x;
    last.dys.at += (LANES - 1) * h.stride_dy;
    fetch_measure(&fresh, &last, 1, h.rows + LANES - 1, &alone);
    CU_ASSERT(memcmp(&alone, &got[LANES - 1], sizeof alone) == 0);
    fl_rig_close(&fresh);
    drop(&h);
  }
}

static void test_measure(void) { fl_each_backend(check_measure); }

/* An element that is not finite, in any column of either operand, also where the other is zero, and
 * a product that floats cannot hold. */
static void check_health(fl_rig *r) {
  const shape s = {7, 333, 128};
  const struct {
    float value;
    int x, dy; /* element that gets it, or -1 */
    float others;
  } sick[] = {{NAN, 332, -1, 1},
              {INFINITY, 4 * 333, -1, 1},
              {NAN, -1, 127, 0},
              {-INFINITY, -1, 128, 1},
              {3e38f, 0, 0, 1}};
  for (int k = 0; k < FL_COUNT(sick); k++) {
    fl_rig fresh = {.ops = r->ops, .dev = r->dev};
    history h = history_of(s, 0, 1);
    fl_measure got[LANES];
    for (int i = 0; i < s.R * s.I; i++) h.x[i] *= sick[k].others;
    if (sick[k].x >= 0) h.x[sick[k].x] = sick[k].value;
    if (sick[k].dy >= 0) h.dy[sick[k].dy] = sick[k].value;
    hold(&fresh, &h);
    fetch_measure(&fresh, &h, LANES, h.rows, got);
    CU_ASSERT(isinf(got[0].peak) && got[0].peak > 0);
    CU_ASSERT(got[1].peak == 0 && got[1].sum2 == 0);
    for (int c = 1; c < LANES; c++) check_size(&h, c, got[c]);
    fl_rig_close(&fresh);
    drop(&h);
  }
}

static void test_health(void) { fl_each_backend(check_health); }

/* Mixes C lanes of h from `first` on, of which lane c goes to acc[c]. */
static void mix(fl_rig *r, const history *h, int first, int C, const double *factor,
                int64_t *const *acc) {
  fl_batch b = {C, h->s.R, h->rows + first};
  fl_cspan x = {h->xs.at + first * h->xs.stride, h->xs.stride};
  fl_cspan dy = {h->dys.at + first * h->dys.stride, h->dys.stride};
  CU_ASSERT_EQUAL(
      r->ops->product_mix(r->dev, b, h->s.I, h->s.O, x, dy, factor + first, acc + first),
      FEDLANE_OK);
}

static int64_t *new_total(fl_rig *r, int64_t n, int64_t start) {
  int64_t *host = must_have(malloc((size_t)n * sizeof *host));
  for (int64_t i = 0; i < n; i++) host[i] = start;
  int64_t *at = fl_rig_hold(r, host, n * (int64_t)sizeof *host);
  free(host);
  return at;
}

static int64_t *fetch_total(fl_rig *r, const int64_t *at, int64_t n) {
  int64_t *host = must_have(malloc((size_t)n * sizeof *host));
  fl_rig_fetch(r, host, at, n * (int64_t)sizeof *host);
  return host;
}

/* got against start + the sum over lanes of factor times product, both over the largest. */
static double error_of(const history *h, const double *factor, const int64_t *got, int64_t start) {
  int64_t n = (int64_t)h->s.O * h->s.I;
  double *want = must_have(calloc((size_t)n, sizeof *want)), worst = 0, largest = 0;
  for (int c = 0; c < LANES; c++) {
    double *p = product_of(h, c);
    for (int64_t i = 0; i < n; i++) want[i] += factor[c] == 0 ? 0 : factor[c] * p[i];
    free(p);
  }
  for (int64_t i = 0; i < n; i++) {
    worst = fmax(worst, fabs((double)(got[i] - start) - want[i]));
    largest = fmax(largest, fabs(want[i]));
  }
  free(want);
  return worst / largest;
}

/* All lanes in one call: near the oracle. One lane a call, last to first: the same integers. Lanes
 * to two accumulators, turn about: they add up to the same integers. */
static void check_mix_of(fl_rig *r, shape s, int gap, double tolerance) {
  const double factor[LANES] = {0x1p40, 0x1p33, 0x3p39, 0x1.8p38};
  const int64_t start = -7;
  int64_t n = (int64_t)s.O * s.I;
  history h = history_of(s, gap, 1);
  hold(r, &h);
  int64_t *one = new_total(r, n, start), *other = new_total(r, n, start), *two[2];
  for (int k = 0; k < 2; k++) two[k] = new_total(r, n, 0);
  int64_t *all[LANES] = {one, one, one, one}, *single[LANES] = {other, other, other, other};
  int64_t *apart[LANES] = {two[0], two[1], two[1], two[0]};
  mix(r, &h, 0, LANES, factor, all);
  for (int c = LANES - 1; c >= 0; c--) mix(r, &h, c, 1, factor, single);
  mix(r, &h, 0, LANES, factor, apart);
  int64_t *got = fetch_total(r, one, n), *again = fetch_total(r, other, n);
  int64_t *low = fetch_total(r, two[0], n), *high = fetch_total(r, two[1], n);
  CU_ASSERT(error_of(&h, factor, got, start) <= tolerance);
  CU_ASSERT(memcmp(got, again, (size_t)n * sizeof *got) == 0);
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; i++) wrong += low[i] + high[i] + start != got[i];
  CU_ASSERT_EQUAL(wrong, 0);
  free(got);
  free(again);
  free(low);
  free(high);
  drop(&h);
}

static void check_mix(fl_rig *r, double tolerance) {
  for (int k = 0; k < FL_COUNT(shapes); k++) {
    fl_rig fresh = {.ops = r->ops, .dev = r->dev};
    check_mix_of(&fresh, shapes[k], k % 2 ? 3 : 0, tolerance);
    fl_rig_close(&fresh);
  }
}

static void check_mix_close(fl_rig *r) { check_mix(r, 1e-5); }

static void test_mix(void) { fl_each_backend(check_mix_close); }

/* In the lower precisions of backends that have them; the bound holds there too. */
static void test_lower_precisions(void) {
  const struct {
    int precision;
    double tolerance;
  } lower[] = {{FL_MATH_TF32, 2e-3}, {FL_MATH_BF16, 1.5e-2}, {FL_MATH_TF32X3, 1e-5}};
  int n;
  const fl_present *present = fl_present_backends(&n);
  for (int i = 0; i < n; i++)
    for (int p = 0; !present[i].ops->host && p < FL_COUNT(lower); p++) {
      fl_dev_options options = {0, lower[p].precision};
      fl_rig rig = {.ops = present[i].ops};
      CU_ASSERT_EQUAL_FATAL(rig.ops->open(&options, &rig.dev), FEDLANE_OK);
      check_mix(&rig, lower[p].tolerance);
      rig.ops->close(&rig.dev);
    }
  CU_ASSERT(n >= 2);
}

/* Every lane reads the same history, and one is left out though it is no number. */
static void check_shared(fl_rig *r) {
  const shape s = {7, 333, 10};
  const double factor[LANES] = {0x1p30, 0, 0x1p31, 0};
  int64_t n = (int64_t)s.O * s.I, wrong = 0;
  history h = history_of(s, 0, 1);
  for (int c = 0; c < LANES; c++) h.rows[c] = s.R;
  hold(r, &h);
  int64_t *once = new_total(r, n, 0), *both = new_total(r, n, 0);
  int64_t *first[LANES] = {once, NULL, NULL, NULL}, *all[LANES] = {both, NULL, once, NULL};
  mix(r, &h, 0, 2, factor, first);
  h.xs.stride = h.dys.stride = 0;
  mix(r, &h, 0, LANES, factor, all);
  int64_t *a = fetch_total(r, once, n), *b = fetch_total(r, both, n);
  for (int64_t i = 0; i < n; i++) wrong += llabs(a[i] - 3 * b[i]) > 2 || b[i] == 0;
  CU_ASSERT_EQUAL(wrong, 0);
  free(a);
  free(b);
  drop(&h);
}

static void test_shared(void) { fl_each_backend(check_shared); }

/* With one row every product is rounded once, so the integers are known: halves go to the even
 * neighbour, and what lies beyond 2^51, where a double has no more halves, is kept whole. */
static void check_exact(fl_rig *r) {
  enum { I = 41, O = 11 };
  const double factor[] = {8, 0x1p50, 0x1.fffffffffffffp50, 0x3p49};
  const int32_t rows[] = {1};
  float x[I], dy[O];
  for (int i = 0; i < I; i++) x[i] = (float)(i - 20) / 16;
  for (int o = 0; o < O; o++) dy[o] = (float)(o - 5);
  fl_cspan xs = {fl_rig_hold(r, x, sizeof x), I}, dys = {fl_rig_hold(r, dy, sizeof dy), O};
  for (int k = 0; k < FL_COUNT(factor); k++) {
    fl_batch b = {1, 1, rows};
    int64_t *acc = new_total(r, I * O, 5), wrong = 0;
    CU_ASSERT_EQUAL(r->ops->product_mix(r->dev, b, I, O, xs, dys, &factor[k], &acc), FEDLANE_OK);
    int64_t *got = fetch_total(r, acc, I * O);
    for (int at = 0; at < I * O; at++)
      wrong += got[at] != 5 + llrint((double)(dy[at / I] * x[at % I]) * factor[k]);
    CU_ASSERT_EQUAL(wrong, 0);
    free(got);
  }
}

static void test_exact(void) { fl_each_backend(check_exact); }

static const fl_test tests[] = {
    {"measure", test_measure},
    {"health", test_health},
    {"mix", test_mix},
    {"lower precisions", test_lower_precisions},
    {"shared histories and lanes left out", test_shared},
    {"exact integers", test_exact},
};

FL_SUITE_MAIN("op_product", tests)
