#include <math.h>
#include <string.h>

#include "cpu.h"

static int first_largest(const float *z, int K) {
  int best = 0;
  for (int k = 1; k < K; k++)
    if (z[k] > z[best]) best = k;
  return best;
}

typedef int32_t i16 __attribute__((vector_size(64), may_alias));
typedef uint32_t u16 __attribute__((vector_size(64), may_alias)); /* wraps around */

/* v = e^v for v <= 0, by Moshier's polynomial for floats (Cephes), errors of 2 units in the last
 * place; 0 where the result would be no normal number. NaN stays NaN. */
static inline void exp_of(fl_v16 *v) {
  fl_v16 x = *v;
  const float shift = 12582912; /* 1.5 * 2^23: sums with it are whole, in the lowest bits */
  fl_v16 t = FL_MADD(x, FL_ALL(1.44269504088896341f), FL_ALL(shift)), n = t - FL_ALL(shift);
  fl_v16 r = FL_MADD(n, FL_ALL(-0.693359375f), x);
  r = FL_MADD(n, FL_ALL(2.12194440e-4f), r);
  fl_v16 p = FL_ALL(1.9875691500e-4f);
  p = FL_MADD(p, r, FL_ALL(1.3981999507e-3f));
  p = FL_MADD(p, r, FL_ALL(8.3334519073e-3f));
  p = FL_MADD(p, r, FL_ALL(4.1665795894e-2f));
  p = FL_MADD(p, r, FL_ALL(1.6666665459e-1f));
  p = FL_MADD(p, r, FL_ALL(5.0000001201e-1f));
  p = FL_MADD(p, r * r, r) + FL_ALL(1);
  u16 power = (((u16)t - (u16)FL_ALL(shift)) << 23) + (u16)FL_ALL(1);
  *v = (fl_v16)((i16)(p * (fl_v16)power) & ~(i16)(x < FL_ALL(-87.33654f)));
}

/* v with its elements i and i^S added up. */
#define PLACE(S, i) (i) ^ (S)
#define FOUR_PLACES(S, i) PLACE(S, i), PLACE(S, (i) + 1), PLACE(S, (i) + 2), PLACE(S, (i) + 3)
#define FOLD(S, v)                                                                              \
  ((v) + __builtin_shufflevector(v, v, FOUR_PLACES(S, 0), FOUR_PLACES(S, 4), FOUR_PLACES(S, 8), \
                                 FOUR_PLACES(S, 12)))
static inline float total(const fl_v16 *of) {
  fl_v16 v = FOLD(8, *of);
  v = FOLD(4, v);
  v = FOLD(2, v);
  return FOLD(1, v)[0];
}

/* One row: returns the loss; p, when wanted, receives norm * (softmax(z) - one-hot(label)). */
static double row_xent(int K, const float *z, int32_t label, float norm, int top, float *p) {
  const i16 place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  fl_v16 sums = {0};
  for (int k = 0; k < K; k += 16) {
    int n = K - k < 16 ? K - k : 16;
    fl_v16 e;
    fl_load_some(z + k, n, &e);
    e -= FL_ALL(z[top]);
    exp_of(&e);
    e = (fl_v16)((i16)e & (i16)(place < n));
    if (p) fl_store_some(p + k, n, &e);
    sums += e;
  }
  float sum = total(&sums), share = norm / sum;
  for (int k = 0; p && k < K; k++) p[k] *= share;
  if (p) p[label] -= norm;
  return log(sum) + (double)z[top] - z[label];
}

fl_status fl_cpu_xent(fl_dev *d, fl_batch b, int K, fl_coef norm, const int32_t *label, fl_cspan z,
                      fl_span dz, double *loss, int64_t *hit) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    const int32_t *y = label + (int64_t)c * b.B;
    const float *zs = fl_lane(z, c);
    float *dzs = dz.at ? fl_lane_out(dz, c) : NULL;
    int64_t live = b.rows[c];
    for (int64_t row = 0; row < live; row++) {
      if (y[row] < 0) {
        if (dzs) memset(dzs + row * K, 0, (size_t)K * sizeof(float));
        continue;
      }
      int top = first_largest(zs + row * K, K);
      loss[c] +=
          row_xent(K, zs + row * K, y[row], fl_coef_at(norm, c), top, dzs ? dzs + row * K : NULL);
      hit[c] += top == y[row];
    }
    if (dzs) memset(dzs + live * K, 0, (size_t)((b.B - live) * K) * sizeof(float));
  }
  return FEDLANE_OK;
}

static double loss_of(fl_regression kind, double delta, double z, double t) {
  double e = z - t;
  if (kind == FL_LOSS_LOGISTIC) return log1p(exp(-fabs(z))) + fmax(z, 0) - t * z;
  if (kind == FL_LOSS_MSE) return e * e;
  return fabs(e) <= delta ? e * e / 2 : delta * (fabs(e) - delta / 2);
}

static double slope_of(fl_regression kind, double delta, double z, double t) {
  double e = z - t;
  if (kind == FL_LOSS_LOGISTIC) return 1 / (1 + exp(-z)) - t;
  if (kind == FL_LOSS_MSE) return 2 * e;
  return fabs(e) <= delta ? e : copysign(delta, e);
}

fl_status fl_cpu_regress(fl_dev *d, fl_batch b, int T, fl_regression kind, float delta,
                         fl_coef norm, fl_cspan target, fl_cspan z, fl_span dz, double *loss) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    int64_t live = (int64_t)b.rows[c] * T, all = (int64_t)b.B * T;
    const float *zs = fl_lane(z, c), *goal = fl_lane(target, c);
    float *dzs = dz.at ? fl_lane_out(dz, c) : NULL;
    double factor = fl_coef_at(norm, c);
    for (int64_t i = 0; i < live; i++) {
      loss[c] += loss_of(kind, delta, zs[i], goal[i]) / T;
      if (dzs) dzs[i] = (float)(factor * slope_of(kind, delta, zs[i], goal[i]) / T);
    }
    if (dzs) memset(dzs + live, 0, (size_t)(all - live) * sizeof(float));
  }
  return FEDLANE_OK;
}
