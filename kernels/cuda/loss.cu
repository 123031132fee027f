/* Losses: a warp a row and a block a share of rows. A block adds up its warps in order; with more
 * than one share the sums of the shares go through the workspace and are added up in order too. */
#include <math.h>

#include "block.h"
#include "cuda.h"

enum { WARPS = 16, THREADS = 32 * WARPS, SHARE = 64 }; /* rows of a share */

/* What rows came to. */
typedef struct tally {
  double loss;
  int64_t hit;
} tally;

/* Adds the warps' tallies (each held by thread 0 of its warp) to share `blockIdx.x` of a lane. */
static __device__ void add_warps(tally mine, tally *share, double *loss, int64_t *hit) {
  FL_SHARED(tally, part, [WARPS]);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x > 0) return;
  tally sum = {0, 0};
  for (int w = 0; w < WARPS; w++) {
    sum.loss += part[w].loss;
    sum.hit += part[w].hit;
  }
  if (gridDim.x > 1) {
    share[(int64_t)blockIdx.y * gridDim.x + blockIdx.x] = sum;
    return;
  }
  loss[blockIdx.y] += sum.loss;
  if (hit) hit[blockIdx.y] += sum.hit;
}

static FL_KERNEL void add_shares(int lanes, int n_share, const tally *share, double *loss,
                                 int64_t *hit) {
  int lane = blockIdx.x * blockDim.x + threadIdx.x;
  if (lane >= lanes) return;
  for (int i = 0; i < n_share; i++) {
    loss[lane] += share[(int64_t)lane * n_share + i].loss;
    if (hit) hit[lane] += share[(int64_t)lane * n_share + i].hit;
  }
}

static void join_shares(fl_dev *d, int lanes, int n_share, double *loss, int64_t *hit) {
  if (n_share > 1)
    FL_LAUNCH(add_shares, dim3(1), FL_GROUP, 0, d->stream, lanes, n_share,
              (const tally *)d->workspace, loss, hit);
}

/* The first largest of a row, found by a warp; every thread gets it. */
static __device__ inline int first_largest(const float *z, int K, float *largest) {
  float top = -INFINITY;
  int at = K;
  for (int k = threadIdx.x % 32; k < K; k += 32)
    if (z[k] > top || at == K) {
      top = z[k];
      at = k;
    }
  for (int away = 16; away > 0; away /= 2) {
    float other = __shfl_xor_sync(0xFFFFFFFFu, top, away);
    int other_at = __shfl_xor_sync(0xFFFFFFFFu, at, away);
    if (other > top || (other == top && other_at < at)) {
      top = other;
      at = other_at;
    }
  }
  *largest = top;
  return at;
}

/* One live row of cross-entropy by one warp. */
static __device__ inline tally xent_row(int K, int label, float norm, const float *z, float *dz) {
  float top;
  int best = first_largest(z, K, &top);
  double sum = 0;
  for (int k = threadIdx.x % 32; k < K; k += 32) sum += expf(z[k] - top);
  sum = fl_warp_sum(sum);
  float share = (float)(1 / sum);
  for (int k = threadIdx.x % 32; dz && k < K; k += 32)
    dz[k] = norm * (expf(z[k] - top) * share - (k == label ? 1.0f : 0.0f));
  tally row = {((double)top - z[label]) + log(sum), best == label};
  return row;
}

static FL_KERNEL_BOUNDS(THREADS, 2) void xent_rows(fl_rows rows, int B, int K, fl_factors norm,
                                                   const int32_t *label, fl_cspan z, fl_span dz,
                                                   tally *share, double *loss, int64_t *hit) {
  int lane = blockIdx.y, last = min(B, ((int)blockIdx.x + 1) * SHARE);
  const float *zs = fl_lane(z, lane);
  float *dzs = fl_lane_out(dz, lane);
  tally mine = {0, 0};
  for (int row = blockIdx.x * SHARE + threadIdx.x / 32; row < last; row += WARPS) {
    float *to = dzs ? dzs + (int64_t)row * K : NULL;
    if (row < rows.n[lane]) {
      int y = label[(int64_t)lane * B + row];
      tally one = xent_row(K, y, norm.at[lane], zs + (int64_t)row * K, to);
      mine.loss += one.loss;
      mine.hit += one.hit;
    } else {
      for (int k = threadIdx.x % 32; to && k < K; k += 32) to[k] = 0;
    }
  }
  add_warps(mine, share, loss, hit);
}

fl_status fl_cuda_xent(fl_dev *d, fl_batch b, int K, fl_coef norm, const int32_t *label, fl_cspan z,
                       fl_span dz, double *loss, int64_t *hit) {
  FL_TRY(fl_cuda_enter(d));
  int n_share = (int)fl_ceil_div(b.B, SHARE);
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, n_share * (int64_t)sizeof(tally));
    FL_LAUNCH(xent_rows, dim3((unsigned)n_share, (unsigned)lanes), THREADS, 0, d->stream,
              fl_rows_of(b, c, lanes), b.B, K, fl_factors_of(norm, c, lanes),
              label + (int64_t)c * b.B, fl_cspan_from(z, c), fl_span_from(dz, c),
              (tally *)d->workspace, loss + c, hit + c);
    join_shares(d, lanes, n_share, loss + c, hit + c);
  }
  return FL_LAUNCHED("a loss was queued");
}

typedef struct regression {
  fl_regression kind;
  float delta;
} regression;

static __device__ inline float error_loss(regression r, float e) {
  if (r.kind == FL_LOSS_MSE) return e * e;
  return fabsf(e) <= r.delta ? e * e / 2 : r.delta * (fabsf(e) - r.delta / 2);
}

static __device__ inline float error_slope(regression r, float e) {
  if (r.kind == FL_LOSS_MSE) return 2 * e;
  return fabsf(e) <= r.delta ? e : copysignf(r.delta, e);
}

static FL_KERNEL_BOUNDS(THREADS, 2) void regress_rows(fl_rows rows, int B, int T, regression r,
                                                      fl_factors norm, fl_cspan target, fl_cspan z,
                                                      fl_span dz, tally *share, double *loss) {
  int lane = blockIdx.y, last = min(B, ((int)blockIdx.x + 1) * SHARE);
  const float *zs = fl_lane(z, lane), *ts = fl_lane(target, lane);
  float *dzs = fl_lane_out(dz, lane), factor = norm.at[lane] / (float)T;
  tally mine = {0, 0};
  for (int row = blockIdx.x * SHARE + threadIdx.x / 32; row < last; row += WARPS) {
    bool live = row < rows.n[lane];
    double sum = 0;
    for (int t = threadIdx.x % 32; t < T; t += 32) {
      int64_t i = (int64_t)row * T + t;
      float e = live ? zs[i] - ts[i] : 0;
      sum += error_loss(r, e);
      if (dzs) dzs[i] = factor * error_slope(r, e);
    }
    mine.loss += fl_warp_sum(sum) / T;
  }
  add_warps(mine, share, loss, NULL);
}

fl_status fl_cuda_regress(fl_dev *d, fl_batch b, int T, fl_regression kind, float delta,
                          fl_coef norm, fl_cspan target, fl_cspan z, fl_span dz, double *loss) {
  FL_TRY(fl_cuda_enter(d));
  int n_share = (int)fl_ceil_div(b.B, SHARE);
  regression r = {kind, delta};
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, n_share * (int64_t)sizeof(tally));
    FL_LAUNCH(regress_rows, dim3((unsigned)n_share, (unsigned)lanes), THREADS, 0, d->stream,
              fl_rows_of(b, c, lanes), b.B, T, r, fl_factors_of(norm, c, lanes),
              fl_cspan_from(target, c), fl_cspan_from(z, c), fl_span_from(dz, c),
              (tally *)d->workspace, loss + c);
    join_shares(d, lanes, n_share, loss + c, NULL);
  }
  return FL_LAUNCHED("a loss was queued");
}
