#include <math.h>

#include "cpu.h"

enum { TILE = FL_CPU_TILE };

#if defined(__AVX512DQ__) && defined(__AVX512VL__)
/* The processor's conversion rounds as llrint does. 8 elements, or the first `live` of them. */
INLINE void mix_some(const bool whole, int live, const float *x, __m512d factor, int64_t *total) {
  __mmask8 some = (__mmask8)(whole ? 0xFF : (1 << live) - 1);
  __m512d value = _mm512_mul_pd(_mm512_cvtps_pd(_mm256_maskz_loadu_ps(some, x)), factor);
  __m512i sum = _mm512_maskz_loadu_epi64(some, total);
  _mm512_mask_storeu_epi64(total, some, _mm512_add_epi64(sum, _mm512_cvtpd_epi64(value)));
}

void fl_cpu_mix_tile(int n, const float *restrict x, double factor, int64_t *restrict total) {
  __m512d all = _mm512_set1_pd(factor);
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    mix_some(true, 8, x + i, all, total + i);
    mix_some(true, 8, x + i + 8, all, total + i + 8);
  }
  for (; i < n; i += 8) mix_some(false, n - i < 8 ? n - i : 8, x + i, all, total + i);
}
#else
/* Rounding and conversion are two loops, each of which the compiler can vectorise. */
void fl_cpu_mix_tile(int n, const float *restrict x, double factor, int64_t *restrict total) {
  double whole[TILE];
  for (int i = 0; i < n; i++) whole[i] = rint((double)x[i] * factor);
  for (int i = 0; i < n; i++) total[i] += (int64_t)whole[i];
}
#endif

fl_status fl_cpu_mix(fl_dev *d, int C, int64_t n, fl_cspan x, const double *factor,
                     int64_t *const *acc) {
  (void)d;
  for (int64_t at = 0; at < n; at += TILE)
    for (int c = 0; c < C; c++)
      if (factor[c] != 0)
        fl_cpu_mix_tile(n - at < TILE ? (int)(n - at) : TILE, fl_lane(x, c) + at, factor[c],
                        acc[c] + at);
  return FEDLANE_OK;
}

fl_status fl_cpu_add64(fl_dev *d, int64_t n, const int64_t *x, int64_t *y) {
  (void)d;
  for (int64_t i = 0; i < n; i++) y[i] = (int64_t)((uint64_t)y[i] + (uint64_t)x[i]);
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
