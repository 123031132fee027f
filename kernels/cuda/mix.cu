/* Lanes to one, exactly: a thread owns four elements and walks the lanes, so integers are added
 * without atomics; lanes that share an accumulator touch it once. */
#include <math.h>

#include "block.h"
#include "mixing.h"

enum { THREADS = 256, ACCUMULATORS = 64 };

static dim3 grid_of(int64_t n) { return dim3((unsigned)fl_ceil_div(n, 4 * THREADS)); }

static __device__ inline void add_to(int64_t *acc, int64_t i, int64_t n, const int64_t sum[4]) {
  if (((uintptr_t)acc & 15) != 0 || i + 4 > n) {
    for (int e = 0; e < 4 && i + e < n; e++) acc[i + e] += sum[e];
    return;
  }
  fl_pair *at = (fl_pair *)(acc + i), low = at[0], high = at[1];
  at[0] = fl_pair{low.first + sum[0], low.second + sum[1]};
  at[1] = fl_pair{high.first + sum[2], high.second + sum[3]};
}

static FL_KERNEL_BOUNDS(THREADS, 4) void mix_lanes(int64_t n, fl_cspan x, fl_mixing m, bool even) {
  int64_t i = 4 * ((int64_t)blockIdx.x * THREADS + threadIdx.x), sum[4] = {0, 0, 0, 0};
  if (i >= n) return;
  float4 next = fl_load4(fl_lane(x, m.lane[0]), i, n, even);
  for (int k = 0; k < m.n; k++) {
    float4 v = next;
    if (k + 1 < m.n) next = fl_load4(fl_lane(x, m.lane[k + 1]), i, n, even);
    sum[0] += llrint((double)v.x * m.factor[k]);
    sum[1] += llrint((double)v.y * m.factor[k]);
    sum[2] += llrint((double)v.z * m.factor[k]);
    sum[3] += llrint((double)v.w * m.factor[k]);
    if (k + 1 < m.n && m.acc[k + 1] == m.acc[k]) continue;
    add_to(m.acc[k], i, n, sum);
    sum[0] = sum[1] = sum[2] = sum[3] = 0;
  }
}

fl_status fl_cuda_mix(fl_dev *d, int C, int64_t n, fl_cspan x, const double *factor,
                      int64_t *const *acc) {
  FL_TRY(fl_cuda_enter(d));
  for (int c = 0, lanes; n > 0 && c < C; c += lanes) {
    lanes = fl_group(C - c, 0);
    fl_mixing m = fl_mixing_of(lanes, factor + c, acc + c);
    if (m.n > 0)
      FL_LAUNCH(mix_lanes, grid_of(n), THREADS, 0, d->stream, n, fl_cspan_from(x, c), m,
                fl_span_even(x));
  }
  return FL_LAUNCHED("updates were mixed");
}

static FL_KERNEL_BOUNDS(THREADS, 4) void add64_each(int64_t n, const int64_t *x, int64_t *y) {
  int64_t i = (int64_t)blockIdx.x * 4 * THREADS + threadIdx.x;
  for (int k = 0; k < 4 && i < n; k++, i += THREADS) y[i] = (int64_t)((uint64_t)y[i] + (uint64_t)x[i]);
}

fl_status fl_cuda_add64(fl_dev *d, int64_t n, const int64_t *x, int64_t *y) {
  FL_TRY(fl_cuda_enter(d));
  if (n > 0) FL_LAUNCH(add64_each, grid_of(n), THREADS, 0, d->stream, n, x, y);
  return FL_LAUNCHED("integers were added");
}

typedef struct levels {
  int n;
  const int64_t *acc[ACCUMULATORS];
  double unit[ACCUMULATORS];
} levels;

/* Product and sum round one after the other, so that every backend finds the same mean. */
static FL_KERNEL_BOUNDS(THREADS, 4) void unmix_levels(int64_t n, levels levels, float *out) {
  int64_t i = (int64_t)blockIdx.x * 4 * THREADS + threadIdx.x;
  for (int k = 0; k < 4 && i < n; k++, i += THREADS) {
    double sum = 0;
    for (int l = 0; l < levels.n; l++)
      sum = __dadd_rn(sum, __dmul_rn(levels.unit[l], (double)levels.acc[l][i]));
    out[i] = (float)sum;
  }
}

fl_status fl_cuda_unmix(fl_dev *d, int64_t n, int n_acc, const int64_t *const *acc,
                        const double *unit, float *out) {
  if (n_acc > ACCUMULATORS)
    return fl_fail(FEDLANE_INTERNAL, "%d accumulators for one mean; at most %d are allowed", n_acc,
                   ACCUMULATORS);
  FL_TRY(fl_cuda_enter(d));
  levels some = {n_acc, {NULL}, {0}};
  for (int k = 0; k < n_acc; k++) {
    some.acc[k] = acc[k];
    some.unit[k] = unit[k];
  }
  if (n > 0) FL_LAUNCH(unmix_levels, grid_of(n), THREADS, 0, d->stream, n, some, out);
  return FL_LAUNCHED("a mean was taken");
}
