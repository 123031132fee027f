#include <math.h>

#include "cpu.h"

enum { TILE = 1024 }; /* integers that stay in the first cache level while all lanes add to them */

/* Rounding and conversion are two loops, each of which the compiler can vectorise. */
static void mix_tile(int n, const float *restrict x, double factor, int64_t *restrict total) {
  double whole[TILE];
  for (int i = 0; i < n; i++) whole[i] = rint((double)x[i] * factor);
  for (int i = 0; i < n; i++) total[i] += (int64_t)whole[i];
}

fl_status fl_cpu_mix(fl_dev *d, int C, int64_t n, fl_cspan x, const double *factor,
                     int64_t *const *acc) {
  (void)d;
  for (int64_t at = 0; at < n; at += TILE)
    for (int c = 0; c < C; c++)
      if (factor[c] != 0)
        mix_tile(n - at < TILE ? (int)(n - at) : TILE, fl_lane(x, c) + at, factor[c], acc[c] + at);
  return FEDLANE_OK;
}

fl_status fl_cpu_add64(fl_dev *d, int64_t n, const int64_t *x, int64_t *y) {
  (void)d;
  for (int64_t i = 0; i < n; i++) y[i] += x[i];
  return FEDLANE_OK;
}

fl_status fl_cpu_unmix(fl_dev *d, int64_t n, int n_acc, const int64_t *const *acc,
                       const double *unit, float *out) {
  (void)d;
  for (int64_t at = 0; at < n; at += TILE) {
    int m = n - at < TILE ? (int)(n - at) : TILE;
    double sum[TILE];
    for (int i = 0; i < m; i++) sum[i] = 0;
    for (int k = 0; k < n_acc; k++)
      for (int i = 0; i < m; i++) sum[i] += unit[k] * (double)acc[k][at + i];
    for (int i = 0; i < m; i++) out[at + i] = (float)sum[i];
  }
  return FEDLANE_OK;
}
