#include <math.h>

#include "ref.h"

fl_status fl_ref_mix(fl_dev *d, int C, int64_t n, fl_cspan x, const double *factor,
                     int64_t *const *acc) {
  (void)d;
  for (int c = 0; c < C; c++)
    for (int64_t i = 0; factor[c] != 0 && i < n; i++)
      acc[c][i] += llrint(fl_ref_in(x, c)[i] * factor[c]);
  return FEDLANE_OK;
}

fl_status fl_ref_add64(fl_dev *d, int64_t n, const int64_t *x, int64_t *y) {
  (void)d;
  for (int64_t i = 0; i < n; i++) y[i] = (int64_t)((uint64_t)y[i] + (uint64_t)x[i]);
  return FEDLANE_OK;
}

fl_status fl_ref_unmix(fl_dev *d, int64_t n, int n_acc, const int64_t *const *acc,
                       const double *unit, float *out) {
  (void)d;
  for (int64_t i = 0; i < n; i++) {
    double sum = 0;
    for (int k = 0; k < n_acc; k++) sum += unit[k] * (double)acc[k][i];
    out[i] = (float)sum;
  }
  return FEDLANE_OK;
}
