/* Embeddings, and the last steps of sequences. */
#include "cuda.h"

enum { THREADS = 256, WARPS = THREADS / 32, BESIDE = 4 }; /* features of a thread of a warp */

static dim3 grid_of(int64_t n, int lanes) {
  return dim3((unsigned)fl_ceil_div(n, THREADS), (unsigned)lanes);
}

static FL_KERNEL_BOUNDS(THREADS, 4) void embed_rows(fl_rows rows, int F, fl_cspan x, fl_cspan w,
                                                    fl_span y) {
  int lane = (int)blockIdx.y;
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i >= (int64_t)rows.n[lane] * F) return;
  int64_t id = (int64_t)fl_lane(x, lane)[i / F];
  fl_lane_out(y, lane)[i] = fl_lane(w, lane)[id * F + i % F];
}

fl_status fl_cuda_embed_fwd(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan w,
                            fl_span y) {
  (void)V;
  FL_TRY(fl_cuda_enter(d));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    FL_LAUNCH(embed_rows, grid_of((int64_t)b.B * F, lanes), THREADS, 0, d->stream,
              fl_rows_of(b, c, lanes), F, fl_cspan_from(x, c), fl_cspan_from(w, c),
              fl_span_from(y, c));
  }
  return FL_LAUNCHED("an embedding was queued");
}

/* A warp a row. The first row of a token adds up all rows of that token in order, so no two warps
 * write to one place. */
static FL_KERNEL_BOUNDS(THREADS, 4) void embed_add_first(fl_rows rows, int F, fl_cspan x,
                                                         fl_cspan dy, fl_factors scale,
                                                         fl_span gw) {
  int lane = (int)blockIdx.y, live = rows.n[lane], thread = (int)threadIdx.x % 32;
  int row = (int)blockIdx.x * WARPS + (int)threadIdx.x / 32;
  if (row >= live) return;
  const float *id = fl_lane(x, lane), *from = fl_lane(dy, lane);
  float mine = id[row], factor = scale.at[lane];
  float *to = fl_lane_out(gw, lane) + (int64_t)mine * F;
  for (int k = 0; k < row; k += 32)
    if (__ballot_sync(0xFFFFFFFFu, k + thread < row && id[k + thread] == mine)) return;
  for (int first = thread; first - thread < F; first += 32 * BESIDE) {
    float sum[BESIDE];
    for (int q = 0; q < BESIDE; q++) sum[q] = first + 32 * q < F ? to[first + 32 * q] : 0;
    for (int k = row; k < live; k += 32) {
      bool same = k + thread < live && id[k + thread] == mine;
      unsigned left = __ballot_sync(0xFFFFFFFFu, same);
      for (int at = k; left; at++, left >>= 1) {
        if (!(left & 1)) continue;
        for (int q = 0; q < BESIDE; q++)
          if (first + 32 * q < F)
            sum[q] = fmaf(factor, from[(int64_t)at * F + first + 32 * q], sum[q]);
      }
    }
    for (int q = 0; q < BESIDE; q++)
      if (first + 32 * q < F) to[first + 32 * q] = sum[q];
  }
}

fl_status fl_cuda_embed_bwd_weights(fl_dev *d, fl_batch b, int V, int F, fl_cspan x, fl_cspan dy,
                                    fl_coef scale, fl_span gw) {
  (void)V;
  FL_TRY(fl_cuda_enter(d));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    FL_LAUNCH(embed_add_first, dim3((unsigned)fl_ceil_div(b.B, WARPS), (unsigned)lanes), THREADS, 0,
              d->stream, fl_rows_of(b, c, lanes), F, fl_cspan_from(x, c), fl_cspan_from(dy, c),
              fl_factors_of(scale, c, lanes), fl_span_from(gw, c));
  }
  return FL_LAUNCHED("an embedding's gradient was queued");
}

/* n floats of y a row; from the last F of m floats of x, or zeros in front of these. */
static FL_KERNEL_BOUNDS(THREADS, 4) void last_rows(fl_rows rows, int64_t n, int64_t m, fl_cspan x,
                                                   fl_span y) {
  int lane = (int)blockIdx.y;
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i >= rows.n[lane] * n) return;
  int64_t row = i / n, at = i % n + m - n;
  fl_lane_out(y, lane)[i] = at >= 0 ? fl_lane(x, lane)[row * m + at] : 0;
}

fl_status fl_cuda_last(fl_dev *d, fl_batch b, int T, int F, bool back, fl_cspan x, fl_span y) {
  int64_t all = (int64_t)T * F, n = back ? all : F, m = back ? F : all;
  FL_TRY(fl_cuda_enter(d));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    FL_LAUNCH(last_rows, grid_of(b.B * n, lanes), THREADS, 0, d->stream, fl_rows_of(b, c, lanes), n,
              m, fl_cspan_from(x, c), fl_span_from(y, c));
  }
  return FL_LAUNCHED("last steps were queued");
}
