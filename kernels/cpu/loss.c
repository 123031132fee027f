#include <math.h>
#include <string.h>

#include "cpu.h"

static int first_largest(const float *z, int K) {
  int best = 0;
  for (int k = 1; k < K; k++)
    if (z[k] > z[best]) best = k;
  return best;
}

/* One row: returns the loss; p, when wanted, receives norm * (softmax(z) - one-hot(label)). */
static double row_xent(int K, const float *z, int32_t label, float norm, int top, float *p) {
  double sum = 0;
  for (int k = 0; k < K; k++) {
    float e = expf(z[k] - z[top]);
    sum += e;
    if (p) p[k] = e;
  }
  float share = norm / (float)sum;
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
