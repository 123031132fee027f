#include <math.h>
#include <string.h>

#include "cpu.h"

enum { TILE = 1024 }; /* floats that stay in the first cache level */

/* w -= lr * sum over one tile; the sum is finished before w is written, since a term may be w. */
static void step_tile(int n, const float *g, float lr, int n_term, const float *a,
                      const float *const *x, float *w) {
  float sum[TILE];
  if (g)
    memcpy(sum, g, (size_t)n * sizeof *sum);
  else
    memset(sum, 0, (size_t)n * sizeof *sum);
  for (int k = 0; k < n_term; k++)
    for (int i = 0; i < n; i++) sum[i] += a[k] * x[k][i];
  for (int i = 0; i < n; i++) w[i] -= lr * sum[i];
}

fl_status fl_cpu_step(fl_dev *d, int C, int64_t n, fl_cspan g, fl_coef lr, int n_term,
                      const fl_term *term, fl_span w) {
  (void)d;
  if (n_term > FL_TERMS_MAX)
    return fl_fail(FEDLANE_INTERNAL, "a step has %d terms; at most %d are allowed", n_term,
                   FL_TERMS_MAX);
  for (int c = 0; c < C; c++)
    for (int64_t at = 0; at < n; at += TILE) {
      float a[FL_TERMS_MAX];
      const float *x[FL_TERMS_MAX];
      for (int k = 0; k < n_term; k++) {
        a[k] = term[k].a;
        x[k] = fl_lane(term[k].x, c) + at;
      }
      step_tile(n - at < TILE ? (int)(n - at) : TILE, g.at ? fl_lane(g, c) + at : NULL,
                fl_coef_at(lr, c), n_term, a, x, fl_lane_out(w, c) + at);
    }
  return FEDLANE_OK;
}

static void axpby(int64_t n, float a, const float *x, float b, float *y) {
  if (!x)
    for (int64_t i = 0; i < n; i++) y[i] = b == 0 ? 0 : b * y[i];
  else if (b == 0)
    for (int64_t i = 0; i < n; i++) y[i] = a * x[i];
  else
    for (int64_t i = 0; i < n; i++) y[i] = a * x[i] + b * y[i];
}

/* What is written is asked for first, a tile at a time: another core may have read it last. */
fl_status fl_cpu_axpby(fl_dev *d, int C, int64_t n, fl_coef a, fl_cspan x, fl_coef b, fl_span y) {
  (void)d;
  for (int c = 0; c < C; c++)
    for (int64_t at = 0; at < n; at += TILE) {
      float *ys = fl_lane_out(y, c) + at;
      int m = n - at < TILE ? (int)(n - at) : TILE;
      for (int i = 0; i < m; i += 16) __builtin_prefetch(ys + i, 1, 3);
      axpby(m, fl_coef_at(a, c), x.at ? fl_lane(x, c) + at : NULL, fl_coef_at(b, c), ys);
    }
  return FEDLANE_OK;
}

fl_status fl_cpu_fill(fl_dev *d, int C, int64_t n, float value, fl_span y) {
  (void)d;
  for (int c = 0; c < C; c++) {
    float *ys = fl_lane_out(y, c);
    for (int64_t i = 0; i < n; i++) ys[i] = value;
  }
  return FEDLANE_OK;
}

/* Sums run in 16 lanes side by side, which are added at the end. Sizes are compared as integers:
 * without its sign bit a float grows with its bits, and NaN and infinity are above all others. */
static fl_measure measure(int64_t n, const float *x) {
  double sum[16] = {0}, total = 0;
  uint32_t peak[16] = {0}, most = 0;
  for (int64_t at = 0; at < n; at += 16) {
    float tail[16] = {0};
    const float *xs = x + at;
    if (n - at < 16) xs = memcpy(tail, xs, (size_t)(n - at) * sizeof(float));
    for (int i = 0; i < 16; i++) {
      uint32_t bits;
      memcpy(&bits, &xs[i], sizeof bits);
      bits &= 0x7FFFFFFF;
      peak[i] = bits > peak[i] ? bits : peak[i];
      sum[i] += (double)xs[i] * xs[i];
    }
  }
  for (int i = 0; i < 16; i++) {
    total += sum[i];
    most = peak[i] > most ? peak[i] : most;
  }
  float size;
  memcpy(&size, &most, sizeof size);
  fl_measure out = {total, isfinite(size) ? size : INFINITY};
  return out;
}

fl_status fl_cpu_measure(fl_dev *d, int C, int64_t n, fl_cspan x, fl_measure *out) {
  (void)d;
  for (int c = 0; c < C; c++) out[c] = measure(n, fl_lane(x, c));
  return FEDLANE_OK;
}

fl_status fl_cpu_clip(fl_dev *d, int C, int64_t n, float limit, fl_span y) {
  (void)d;
  for (int c = 0; c < C; c++) {
    float *ys = fl_lane_out(y, c);
    double norm = sqrt(measure(n, ys).sum2);
    if (norm > limit) axpby(n, 0, NULL, (float)(limit / norm), ys);
  }
  return FEDLANE_OK;
}

static float second_moment(fl_adaptive kind, float b2, float v, float u2) {
  if (kind == FL_ADAGRAD) return v + u2;
  if (kind == FL_ADAM) return b2 * v + (1 - b2) * u2;
  return v - (1 - b2) * u2 * (float)((v > u2) - (v < u2));
}

fl_status fl_cpu_adaptive(fl_dev *d, int64_t n, fl_adaptive kind, float lr, float b1, float b2,
                          float eps, const float *u, float *m, float *v, float *w) {
  (void)d;
  for (int64_t i = 0; i < n; i++) {
    m[i] = b1 * m[i] + (1 - b1) * u[i];
    v[i] = second_moment(kind, b2, v[i], u[i] * u[i]);
    w[i] += lr * m[i] / (sqrtf(v[i]) + eps);
  }
  return FEDLANE_OK;
}
