/* Recurrent layers: a launch a step for all lanes, whose blocks make the step's product and then
 * the gates from it. Weights of the hidden side, 1 MB at H = 256, are read again at each step: 50
 * lanes' 52 MB, so that they stay in the L2 cache only in part (counted).
 *
 *   forward   sums[b, u] = sum_i w[u, i] y[b, i]   of the outputs of the step before; by rows
 *   back      dh[b, i] = sum_u w[u, i] dg[b, u]    of the gradients of the step after; by columns
 *
 * A warp of a forward block has one gate of 16 outputs; a warp of a block on the way back a quarter
 * of the depth, and the quarters are added up in order. Both orders follow from H alone. */
#include <math.h>

#include "dense.h"

enum {
  THREADS = FL_DENSE_THREADS,
  WARPS = FL_DENSE_WARPS,
  UNITS = 16,      /* outputs of a block forward */
  BACK_UNITS = 32, /* outputs of a block on the way back */
  ROWS_MOST = 32,  /* rows of a block */
};

/* One step of all lanes. GATES, a parameter of the kernels: 4 for an LSTM, 3 for a GRU. */
typedef struct recurrence {
  int T, H, B, t;
  fl_cspan w, bias, dy;
  fl_span y, keep;
  float *carry; /* [lane, B, H]: gradients on their way to the step before */
  bool even;
} recurrence;

/* Where value `at` of each output of step t of a row is; `of`: values of an output in its block,
 * `before`: in the blocks before it. */
static __device__ __forceinline__ float *kept(const recurrence &r, int lane, int row, int before,
                                              int of) {
  int64_t all = (int64_t)r.B * r.T * r.H, at = (int64_t)row * r.T + r.t;
  return fl_lane_out(r.keep, lane) + before * all + at * of * r.H;
}

static __device__ __forceinline__ float sigmoid(float x) { return 1 / (1 + expf(-x)); }

/* Output u of a row: its gates from their sums, which lie `pitch` apart. */
template <int GATES>
static __device__ __forceinline__ void step_forward(const recurrence &r, int lane, int row, int u,
                                                    const float *sums, int pitch) {
  float *gate = kept(r, lane, row, 0, GATES) + u;
  float *y = fl_lane_out(r.y, lane) + ((int64_t)row * r.T + r.t) * r.H + u;
  float before = r.t > 0 ? y[-r.H] : 0, g[GATES];
#pragma unroll
  for (int k = 0; k < GATES; k++) g[k] = gate[k * r.H];
  if constexpr (GATES == 4) {
    float *cell = kept(r, lane, row, 4, 1) + u;
    float in = sigmoid(g[0] + sums[0]), forget = sigmoid(g[1] + sums[pitch]);
    float fresh = tanhf(g[2] + sums[2 * pitch]), out = sigmoid(g[3] + sums[3 * pitch]);
    float c = in * fresh;
    if (r.t > 0) c += forget * cell[-r.H];
    gate[0] = in;
    gate[r.H] = forget;
    gate[2 * r.H] = fresh;
    gate[3 * r.H] = out;
    cell[0] = c;
    kept(r, lane, row, 5, 1)[u] = before;
    y[0] = out * tanhf(c);
  } else {
    const float *bias = fl_lane(r.bias, lane) + u;
    float reset = sigmoid(g[0] + (sums[0] + bias[0]));
    float update = sigmoid(g[1] + (sums[pitch] + bias[r.H]));
    float hidden = sums[2 * pitch] + bias[2 * r.H], fresh = tanhf(g[2] + reset * hidden);
    gate[0] = reset;
    gate[r.H] = update;
    gate[2 * r.H] = fresh;
    kept(r, lane, row, 3, 1)[u] = hidden;
    kept(r, lane, row, 4, 1)[u] = before;
    y[0] = fresh + update * (before - fresh);
  }
}

/* Blocks: tiles of outputs; lanes; tiles of rows. */
template <fl_precision P, int GATES, int NT>
static FL_KERNEL_BOUNDS(THREADS, fl_blocks_resident(P)) void recur_fwd_step(recurrence r,
                                                                            fl_rows rows) {
  constexpr int M = UNITS * WARPS, N = 8 * NT, stage = (M + N) * FL_DEPTH, pitch = UNITS * (N + 1);
  FL_SHARED_DYNAMIC(float, shared);
  int lane = (int)blockIdx.y, unit = (int)blockIdx.x * UNITS, first = (int)blockIdx.z * N;
  int live = rows.n[lane], thread = (int)threadIdx.x, warp = thread / 32;
  if (first >= live) return;
  const float *w = fl_lane(r.w, lane), *ys = fl_lane_out(r.y, lane);
  float acc[1][NT][4] = {};
  fl_place at = fl_place_of<P>(thread % 32);
  auto w_row = [&](int n) {
    bool in = n / UNITS < GATES && unit + n % UNITS < r.H;
    return in ? w + ((int64_t)(n / UNITS) * r.H + unit + n % UNITS) * r.H : NULL;
  };
  auto y_row = [&](int n) {
    return first + n < live ? ys + ((int64_t)(first + n) * r.T + r.t - 1) * r.H : NULL;
  };
  auto copy = [&](int k) {
    float *wide = shared + k % FL_STAGES * stage, *narrow = wide + M * FL_DEPTH;
    if (r.even) {
      fl_copy_rows<4, M>(wide, w, w_row, k * FL_DEPTH, r.H);
      fl_copy_rows<4, N>(narrow, w, y_row, k * FL_DEPTH, r.H);
    } else {
      fl_copy_rows<1, M>(wide, w, w_row, k * FL_DEPTH, r.H);
      fl_copy_rows<1, N>(narrow, w, y_row, k * FL_DEPTH, r.H);
    }
  };
  fl_pipeline(r.t > 0 ? (r.H + FL_DEPTH - 1) / FL_DEPTH : 0, copy, [&](int k) {
    const float *a = shared + k % FL_STAGES * stage;
    fl_stage_by_rows<P>(acc, a, UNITS * warp, a + M * FL_DEPTH, at);
  });
  __syncthreads();
#pragma unroll
  for (int j = 0; j < NT; j++)
#pragma unroll
    for (int he = 0; he < 4; he++)
      shared[warp * pitch + (8 * (he / 2) + at.g) * (N + 1) + 8 * j + 2 * at.t + he % 2] =
          acc[0][j][he];
  __syncthreads();
  for (int i = thread; i < UNITS * N; i += THREADS) {
    int u = i % UNITS, n = i / UNITS;
    if (unit + u < r.H && first + n < live)
      step_forward<GATES>(r, lane, first + n, unit + u, shared + u * (N + 1) + n, pitch);
  }
}

/* Output u of a row: its gates become gradients. dh: of the output, by way of the steps after. */
template <int GATES>
static __device__ __forceinline__ void step_back(const recurrence &r, int lane, int row, int u,
                                                 float dh) {
  float *gate = kept(r, lane, row, 0, GATES) + u, g[GATES];
  float *carry = r.carry + ((int64_t)lane * r.B + row) * r.H + u;
  float later = r.t < r.T - 1 ? carry[0] : 0;
  dh += fl_lane(r.dy, lane)[((int64_t)row * r.T + r.t) * r.H + u];
#pragma unroll
  for (int k = 0; k < GATES; k++) g[k] = gate[k * r.H];
  if constexpr (GATES == 4) {
    const float *cell = kept(r, lane, row, 4, 1) + u;
    float shown = tanhf(cell[0]), last = r.t > 0 ? cell[-r.H] : 0;
    float dc = later + dh * g[3] * (1 - shown * shown);
    gate[0] = dc * g[2] * (g[0] * (1 - g[0]));
    gate[r.H] = dc * last * (g[1] * (1 - g[1]));
    gate[2 * r.H] = dc * g[0] * (1 - g[2] * g[2]);
    gate[3 * r.H] = dh * shown * (g[3] * (1 - g[3]));
    carry[0] = dc * g[1];
  } else {
    float hidden = kept(r, lane, row, 3, 1)[u], before = kept(r, lane, row, 4, 1)[u];
    float *sum = kept(r, lane, row, 5, 3) + u;
    dh += later;
    float dn = dh * (1 - g[1]) * (1 - g[2] * g[2]), dr = dn * hidden * (g[0] * (1 - g[0]));
    float du = dh * (before - g[2]) * (g[1] * (1 - g[1]));
    gate[0] = sum[0] = dr;
    gate[r.H] = sum[r.H] = du;
    gate[2 * r.H] = dn;
    sum[2 * r.H] = dn * g[0];
    carry[0] = dh * g[1];
  }
}

template <int GATES>
static __device__ __forceinline__ void step_dead(const recurrence &r, int lane, int row, int u) {
#pragma unroll
  for (int k = 0; k < GATES; k++) {
    kept(r, lane, row, 0, GATES)[k * r.H + u] = 0;
    if (GATES == 3) kept(r, lane, row, 5, 3)[k * r.H + u] = 0;
  }
}

/* Blocks as above; rows that are dead too. */
template <fl_precision P, int GATES, int NT>
static FL_KERNEL_BOUNDS(THREADS, 2) void recur_bwd_step(recurrence r, fl_rows rows) {
  constexpr int MT = 2, M = BACK_UNITS, N = 8 * NT, part = (M + 32) * FL_DEPTH;
  constexpr int pitch = M * (N + 1);
  FL_SHARED_DYNAMIC(float, shared);
  FL_SHARED(const float *, from, [N]);
  int lane = (int)blockIdx.y, unit = (int)blockIdx.x * M, first = (int)blockIdx.z * N;
  int live = rows.n[lane], thread = (int)threadIdx.x, warp = thread / 32, depth = GATES * r.H;
  bool ends = r.t == r.T - 1;
  const float *w = fl_lane(r.w, lane);
  if (thread < N)
    from[thread] = !ends && first + thread < live
                       ? kept(r, lane, first + thread, GATES == 4 ? 0 : 5, GATES) + depth
                       : NULL;
  __syncthreads();
  float acc[MT][NT][4] = {};
  fl_place at = fl_place_of<P>(thread % 32);
  auto copy = [&](int k) {
#pragma unroll 1
    for (int q = 0; q < WARPS; q++) {
      float *wide = shared + (k % FL_STAGES * WARPS + q) * part;
      int step = (k * WARPS + q) * FL_DEPTH;
      if (r.even)
        fl_copy_columns<4, M>(wide, w, r.H, depth, step, unit, r.H);
      else
        fl_copy_columns<1, M>(wide, w, r.H, depth, step, unit, r.H);
      fl_copy_turned<32, N>(wide + M * FL_DEPTH, w, from, depth, step);
    }
  };
  int stages = ends || first >= live ? 0 : (depth + WARPS * FL_DEPTH - 1) / (WARPS * FL_DEPTH);
  fl_pipeline(stages, copy, [&](int k) {
    const float *a = shared + (k % FL_STAGES * WARPS + warp) * part;
    int left = min((int)FL_DEPTH, (depth - (k * WARPS + warp) * FL_DEPTH + 15) / 16 * 16);
    if (left > 0) fl_stage_by_columns<P, M, 32>(acc, a, 0, a + M * FL_DEPTH, left, at);
  });
  __syncthreads();
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int j = 0; j < NT; j++)
#pragma unroll
      for (int he = 0; he < 4; he++)
        shared[warp * pitch + (MT * (8 * (he / 2) + at.g) + i) * (N + 1) +
               fl_column<NT>(j, 2 * at.t + he % 2)] = acc[i][j][he];
  __syncthreads();
  for (int i = thread; i < M * N; i += THREADS) {
    int u = i % M, n = i / M;
    const float *sum = shared + u * (N + 1) + n;
    if (unit + u >= r.H || first + n >= r.B) continue;
    if (first + n < live)
      step_back<GATES>(r, lane, first + n, unit + u,
                       ((sum[0] + sum[pitch]) + sum[2 * pitch]) + sum[3 * pitch]);
    else
      step_dead<GATES>(r, lane, first + n, unit + u);
  }
}

/* Queues the steps of `lanes` lanes, in the order of time or against it. */
template <fl_precision P, int GATES, int NT, bool BACK>
static fl_status launch(fl_dev *d, int lanes, recurrence r, fl_rows rows) {
  constexpr int units = BACK ? BACK_UNITS : UNITS;
  void (*kernel)(recurrence, fl_rows);
  int bytes;
  if constexpr (BACK) {
    kernel = recur_bwd_step<P, GATES, NT>;
    bytes = WARPS * fl_pipeline_bytes(BACK_UNITS, 32, (int)fl_ceil_div(GATES * r.H, WARPS));
  } else {
    kernel = recur_fwd_step<P, GATES, NT>;
    bytes = fl_pipeline_bytes(UNITS * WARPS, 8 * NT, r.H);
  }
  dim3 grid((unsigned)fl_ceil_div(r.H, units), (unsigned)lanes, (unsigned)fl_ceil_div(r.B, 8 * NT));
  FL_TRY(fl_allow_shared((const void *)kernel, bytes));
  for (int t = 0; t < r.T; t++) {
    r.t = BACK ? r.T - 1 - t : t;
    FL_LAUNCH(kernel, grid, dim3(THREADS), bytes, d->stream, r, rows);
  }
  return FL_LAUNCHED("a recurrent layer was queued");
}

template <int GATES, bool BACK>
static fl_status go(fl_dev *d, fl_batch b, recurrence all) {
  FL_TRY(fl_cuda_enter(d));
  all.B = b.B;
  all.carry = d->workspace;
  all.even = all.H % 4 == 0 && fl_span_even(all.w) && fl_span_even(fl_const(all.y)) &&
             fl_span_even(fl_const(all.keep));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, BACK ? (int64_t)b.B * all.H * (int64_t)sizeof(float) : 0);
    fl_rows rows = fl_rows_of(b, c, lanes);
    recurrence r = all;
    r.w = fl_cspan_from(all.w, c);
    r.bias = fl_cspan_from(all.bias, c);
    r.dy = fl_cspan_from(all.dy, c);
    r.y = fl_span_from(all.y, c);
    r.keep = fl_span_from(all.keep, c);
    FL_TRY(fl_by_precision(d, [&](auto p) {
      constexpr fl_precision P = decltype(p)::value;
      if (b.B <= ROWS_MOST / 2) return launch<P, GATES, 2, BACK>(d, lanes, r, rows);
      return launch<P, GATES, 4, BACK>(d, lanes, r, rows);
    }));
  }
  return FEDLANE_OK;
}

static const fl_cspan absent = {NULL, 0};
static const fl_span no_output = {NULL, 0};

fl_status fl_cuda_lstm_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_span y,
                           fl_span keep) {
  recurrence r = {T, H, 0, 0, w, absent, absent, y, keep, NULL, false};
  return go<4, false>(d, b, r);
}

fl_status fl_cuda_lstm_bwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy,
                           fl_span keep) {
  recurrence r = {T, H, 0, 0, w, absent, dy, no_output, keep, NULL, false};
  return go<4, true>(d, b, r);
}

fl_status fl_cuda_gru_fwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan bias, fl_span y,
                          fl_span keep) {
  recurrence r = {T, H, 0, 0, w, bias, absent, y, keep, NULL, false};
  return go<3, false>(d, b, r);
}

fl_status fl_cuda_gru_bwd(fl_dev *d, fl_batch b, int T, int H, fl_cspan w, fl_cspan dy,
                          fl_span keep) {
  recurrence r = {T, H, 0, 0, w, absent, dy, no_output, keep, NULL, false};
  return go<3, true>(d, b, r);
}
