/* Random ops on every backend: the exact draws that rng.h promises, and their moments. */
#include <math.h>
#include <stdlib.h>

#include "op_cases.h"
#include "suite.h"

enum { B = 6, FEATURES = 1001, MANY = 200000 };
static const uint32_t client[2] = {12, 13}, nth[2] = {0, 1};

static fl_span lanes(fl_rig *r, int64_t n, float value) {
  fl_span s = {fl_rig_hold(r, NULL, 2 * n * (int64_t)sizeof(float)), n};
  CU_ASSERT_EQUAL_FATAL(r->ops->fill(r->dev, 2, n, value, s), FEDLANE_OK);
  return s;
}

static float *fetched(fl_rig *r, fl_span s, int64_t n) {
  float *host = malloc((size_t)n * sizeof *host);
  CU_ASSERT_PTR_NOT_NULL_FATAL(host);
  fl_rig_fetch(r, host, s.at, n * (int64_t)sizeof *host);
  return host;
}

/* The 16-bit draw of an element, straight from rng.h. */
static uint32_t half(const fl_draw *draw, int lane, int i) {
  fl_key key = fl_draw_key(draw, lane);
  uint32_t word = fl_rng_block(&key, (uint32_t)i / 8).v[i % 8 / 2];
  return i % 2 ? word >> 16 : word & 0xFFFF;
}

/* Kept elements are those of the 16-bit draws, forward and backward alike, and their share lies
 * within five deviations of 1 - p. */
static void check_dropout(fl_rig *r) {
  const float share[] = {0.25f, 0.5f, 0.9f};
  const int32_t rows[2] = {B, B - 2};
  fl_batch b = {2, B, rows};
  fl_draw draw = {9, FL_FOR_DROPOUT, 2, 6, 4, client, nth};
  fl_span x = lanes(r, B * FEATURES, 3), dy = lanes(r, B * FEATURES, -1);
  fl_span y = lanes(r, B * FEATURES, 0), dx = lanes(r, B * FEATURES, 0);
  for (int k = 0; k < FL_COUNT(share); k++) {
    float p = share[k];
    int kept = 0, wrong = 0;
    CU_ASSERT_EQUAL(r->ops->dropout(r->dev, b, FEATURES, p, &draw, fl_const(x), y), FEDLANE_OK);
    CU_ASSERT_EQUAL(r->ops->dropout(r->dev, b, FEATURES, p, &draw, fl_const(dy), dx), FEDLANE_OK);
    float *ys = fetched(r, y, 2 * B * FEATURES), *dxs = fetched(r, dx, 2 * B * FEATURES);
    for (int c = 0; c < 2; c++)
      for (int i = 0; i < rows[c] * FEATURES; i++) {
        int at = c * B * FEATURES + i;
        bool keep = half(&draw, c, i) >= (uint32_t)lround(p * 65536.0);
        double scale = keep / (1.0 - p);
        wrong += fabs(ys[at] - 3 * scale) > 1e-5 || fabs(dxs[at] + scale) > 1e-5;
        kept += keep;
      }
    double n = (rows[0] + rows[1]) * FEATURES;
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT(fabs(kept - n * (1 - p)) < 5 * sqrt(n * p * (1 - p)));
    free(ys);
    free(dxs);
  }
}

static void test_dropout(void) { fl_each_backend(check_dropout); }

/* Another layer, step, round, client or occurrence drops other elements. */
static void check_apart(fl_rig *r) {
  const int32_t rows[2] = {1, 1};
  const uint32_t others[2] = {14, 15};
  fl_batch b = {2, 1, rows};
  fl_draw base = {9, FL_FOR_DROPOUT, 2, 6, 4, client, nth}, draw[6];
  fl_span x = lanes(r, FEATURES, 1), y = lanes(r, FEATURES, 0);
  for (int k = 0; k < 6; k++) draw[k] = base;
  draw[1].layer++, draw[2].step++, draw[3].round++, draw[4].seed++, draw[5].client = others;
  float *mask[6];
  for (int k = 0; k < 6; k++) {
    CU_ASSERT_EQUAL(r->ops->dropout(r->dev, b, FEATURES, 0.5f, &draw[k], fl_const(x), y),
                    FEDLANE_OK);
    mask[k] = fetched(r, y, 2 * FEATURES);
  }
  for (int k = 1; k < 6; k++) {
    int same = 0;
    for (int i = 0; i < 2 * FEATURES; i++) same += mask[k][i] == mask[0][i];
    CU_ASSERT(abs(same - FEATURES) < 5 * sqrt(FEATURES / 2.0));
  }
  for (int k = 0; k < 6; k++) free(mask[k]);
}

static void test_streams_are_apart(void) { fl_each_backend(check_apart); }

typedef struct moments {
  double mean, variance, fourth;
} moments;

static moments moments_of(const float *x, int64_t n) {
  moments m = {0, 0, 0};
  for (int64_t i = 0; i < n; i++) m.mean += x[i] / (double)n;
  for (int64_t i = 0; i < n; i++) {
    double d = x[i] - m.mean;
    m.variance += d * d / (double)n;
    m.fourth += d * d * d * d / (double)n;
  }
  return m;
}

static double correlation(const float *x, const float *y, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (double)x[i] * y[i] / (double)n;
  return sum;
}

/* Of n standard normals the mean has deviation 1/sqrt(n), the variance sqrt(2/n), the fourth
 * moment sqrt(96/n); bounds are five of each. */
static void check_normal(fl_rig *r) {
  const float deviation[2] = {1, 3};
  const double unit = 5 / sqrt(MANY);
  fl_draw draw = {1, FL_FOR_NOISE, 1, 0, 0, client, nth};
  fl_span x = lanes(r, MANY, 0);
  CU_ASSERT_EQUAL(r->ops->normal(r->dev, 2, MANY, &draw, (fl_coef){0, deviation}, x), FEDLANE_OK);
  float *host = fetched(r, x, 2 * MANY);
  moments a = moments_of(host, MANY), b = moments_of(host + MANY, MANY);
  CU_ASSERT(fabs(a.mean) < unit && fabs(b.mean) < 3 * unit);
  CU_ASSERT(fabs(a.variance - 1) < unit * sqrt(2) && fabs(b.variance / 9 - 1) < unit * sqrt(2));
  CU_ASSERT(fabs(a.fourth - 3) < unit * sqrt(96) && fabs(b.fourth / 81 - 3) < unit * sqrt(96));
  CU_ASSERT(fabs(correlation(host, host + MANY, MANY)) < 3 * unit);
  CU_ASSERT(fabs(correlation(host, host + 1, MANY - 1)) < unit);
  free(host);
}

static void test_normal(void) { fl_each_backend(check_normal); }

/* Uniform in (-2, 5): mean 1.5, variance 49/12, which 7 * sqrt(1/180/n) may miss. */
static void check_uniform(fl_rig *r) {
  const double root = sqrt(MANY);
  fl_draw draw = {1, FL_FOR_NOISE, 1, 0, 0, client, nth};
  fl_span x = lanes(r, MANY, 0);
  CU_ASSERT_EQUAL(r->ops->uniform(r->dev, 2, MANY, &draw, -2, 5, x), FEDLANE_OK);
  float *host = fetched(r, x, 2 * MANY);
  moments m = moments_of(host, MANY);
  int outside = 0;
  for (int i = 0; i < 2 * MANY; i++) outside += !(host[i] >= -2 && host[i] <= 5);
  CU_ASSERT_EQUAL(outside, 0);
  CU_ASSERT(fabs(m.mean - 1.5) < 5 * 7 / sqrt(12) / root);
  CU_ASSERT(fabs(m.variance - 49.0 / 12) < 5 * 49 / sqrt(180) / root);
  free(host);
}

static void test_uniform(void) { fl_each_backend(check_uniform); }

static const fl_test tests[] = {
    {"dropout", test_dropout},
    {"streams are apart", test_streams_are_apart},
    {"normal", test_normal},
    {"uniform", test_uniform},
};

FL_SUITE_MAIN("op_random", tests)
