#include <math.h>

#include "ref.h"

static int first_largest(const float *z, int K) {
  int best = 0;
  for (int k = 1; k < K; k++)
    if (z[k] > z[best]) best = k;
  return best;
}

/* log(sum exp(z)), from the largest down so that nothing overflows. */
static double log_sum(const float *z, int K) {
  double sum = 0, top = z[first_largest(z, K)];
  for (int k = 0; k < K; k++) sum += exp(z[k] - top);
  return top + log(sum);
}

fl_status fl_ref_xent(fl_dev *d, fl_batch b, int K, fl_coef norm, const int32_t *label, fl_cspan z,
                      fl_span dz, double *loss, int64_t *hit) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    for (int row = 0; row < b.B; row++) {
      const float *zs = fl_ref_in(z, c) + (int64_t)row * K;
      float *dzs = dz.at ? fl_ref_out(dz, c) + (int64_t)row * K : NULL;
      int32_t y = label[(int64_t)c * b.B + row];
      bool live = row < b.rows[c] && y >= 0;
      double total = live ? log_sum(zs, K) : 0, factor = fl_coef_at(norm, c);
      for (int k = 0; dzs && k < K; k++)
        dzs[k] = live ? (float)(factor * (exp(zs[k] - total) - (k == y))) : 0;
      if (!live) continue;
      loss[c] += total - zs[y];
      hit[c] += first_largest(zs, K) == y;
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

fl_status fl_ref_regress(fl_dev *d, fl_batch b, int T, fl_regression kind, float delta,
                         fl_coef norm, fl_cspan target, fl_cspan z, fl_span dz, double *loss) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    for (int64_t i = 0; i < (int64_t)b.B * T; i++) {
      if (i >= (int64_t)b.rows[c] * T) {
        if (dz.at) fl_ref_out(dz, c)[i] = 0;
        continue;
      }
      double x = fl_ref_in(z, c)[i], t = fl_ref_in(target, c)[i];
      if (dz.at)
        fl_ref_out(dz, c)[i] = (float)(fl_coef_at(norm, c) * slope_of(kind, delta, x, t) / T);
      loss[c] += loss_of(kind, delta, x, t) / T;
    }
  return FEDLANE_OK;
}
