/* Losses: a warp a row and a block a share of rows. A block adds up its warps in order; with more
 * than one share the sums of the shares go through the workspace and are added up in order too. */
#include <math.h>

#include "rows.h"

enum { WARPS = 16, THREADS = 32 * WARPS, SHARE = 64 }; /* rows of a share */

/* Adds the warps' tallies (each held by thread 0 of its warp) to share `blockIdx.x` of a lane. */
static __device__ void add_warps(fl_tally mine, fl_tally *share, double *loss, int64_t *hit) {
  FL_SHARED(fl_tally, part, [WARPS]);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x > 0) return;
  fl_tally sum = {0, 0};
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

static FL_KERNEL void add_shares(int lanes, int n_share, const fl_tally *share, double *loss,
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
              (const fl_tally *)d->workspace, loss, hit);
}

static FL_KERNEL_BOUNDS(THREADS, 2) void xent_rows(fl_rows rows, int B, int K, fl_factors norm,
                                                   const int32_t *label, fl_cspan z, fl_span dz,
                                                   fl_tally *share, double *loss, int64_t *hit) {
  int lane = blockIdx.y, last = min(B, ((int)blockIdx.x + 1) * SHARE);
  const float *zs = fl_lane(z, lane);
  float *dzs = fl_lane_out(dz, lane);
  fl_tally mine = {0, 0};
  for (int row = blockIdx.x * SHARE + threadIdx.x / 32; row < last; row += WARPS) {
    float *to = dzs ? dzs + (int64_t)row * K : NULL;
    if (row < rows.n[lane]) {
      int y = label[(int64_t)lane * B + row];
      fl_tally one = fl_xent_row(K, y, norm.at[lane], zs + (int64_t)row * K, to);
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
    lanes = fl_group(b.C - c, n_share * (int64_t)sizeof(fl_tally));
    FL_LAUNCH(xent_rows, dim3((unsigned)n_share, (unsigned)lanes), THREADS, 0, d->stream,
              fl_rows_of(b, c, lanes), b.B, K, fl_factors_of(norm, c, lanes),
              label + (int64_t)c * b.B, fl_cspan_from(z, c), fl_span_from(dz, c),
              (fl_tally *)d->workspace, loss + c, hit + c);
    join_shares(d, lanes, n_share, loss + c, hit + c);
  }
  return FL_LAUNCHED("a loss was queued");
}

static FL_KERNEL_BOUNDS(THREADS, 2) void regress_rows(fl_rows rows, int B, int T, fl_errors r,
                                                      fl_factors norm, fl_cspan target, fl_cspan z,
                                                      fl_span dz, fl_tally *share, double *loss) {
  int lane = blockIdx.y, last = min(B, ((int)blockIdx.x + 1) * SHARE);
  const float *zs = fl_lane(z, lane), *ts = fl_lane(target, lane);
  float *dzs = fl_lane_out(dz, lane), factor = norm.at[lane] / (float)T;
  fl_tally mine = {0, 0};
  for (int row = blockIdx.x * SHARE + threadIdx.x / 32; row < last; row += WARPS) {
    bool live = row < rows.n[lane];
    double sum = 0;
    for (int t = threadIdx.x % 32; t < T; t += 32) {
      int64_t i = (int64_t)row * T + t;
      if (live) sum += fl_error_loss(r, zs[i], ts[i]);
      if (dzs) dzs[i] = live ? factor * fl_error_slope(r, zs[i], ts[i]) : 0;
    }
    mine.loss += fl_warp_sum(sum) / T;
  }
  add_warps(mine, share, loss, NULL);
}

fl_status fl_cuda_regress(fl_dev *d, fl_batch b, int T, fl_regression kind, float delta,
                          fl_coef norm, fl_cspan target, fl_cspan z, fl_span dz, double *loss) {
  FL_TRY(fl_cuda_enter(d));
  int n_share = (int)fl_ceil_div(b.B, SHARE);
  fl_errors r = {kind, delta};
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, n_share * (int64_t)sizeof(fl_tally));
    FL_LAUNCH(regress_rows, dim3((unsigned)n_share, (unsigned)lanes), THREADS, 0, d->stream,
              fl_rows_of(b, c, lanes), b.B, T, r, fl_factors_of(norm, c, lanes),
              fl_cspan_from(target, c), fl_cspan_from(z, c), fl_span_from(dz, c),
              (fl_tally *)d->workspace, loss + c);
    join_shares(d, lanes, n_share, loss + c, NULL);
  }
  return FL_LAUNCHED("a loss was queued");
}
