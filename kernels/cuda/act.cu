/* Activations and dropout: one pass over the live rows, which are the first rows*n elements. */
#include <math.h>

#include "rows.h"

enum { THREADS = 256, QUADS = 2, SHARE = 4 * THREADS * QUADS }; /* elements of a block */

static dim3 grid_of(fl_batch b, int64_t n, int lanes) {
  return dim3((unsigned)fl_ceil_div(b.B * n, SHARE), (unsigned)lanes);
}

static __device__ inline int64_t quad_at(int k) {
  return 4 * ((int64_t)blockIdx.x * THREADS * QUADS + k * THREADS + threadIdx.x);
}

static FL_KERNEL_BOUNDS(THREADS, 4) void act_fwd_vec4(fl_rows rows, fl_act kind, int64_t n,
                                                      fl_cspan x, fl_span y, bool even) {
  const float *xs = fl_lane(x, blockIdx.y);
  float *ys = fl_lane_out(y, blockIdx.y);
  int64_t live = rows.n[blockIdx.y] * n;
  for (int k = 0; k < QUADS; k++) {
    int64_t i = quad_at(k);
    if (i >= live) return;
    float4 v = fl_load4(xs, i, live, even);
    fl_store4(ys, i, live, even, fl_each4(v, [&](float e) { return fl_act_value(kind, e); }));
  }
}

fl_status fl_cuda_act_fwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan x, fl_span y) {
  FL_TRY(fl_cuda_enter(d));
  bool even = fl_span_even(x) && fl_span_even(fl_const(y));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    FL_LAUNCH(act_fwd_vec4, grid_of(b, n, lanes), THREADS, 0, d->stream, fl_rows_of(b, c, lanes),
              kind, n, fl_cspan_from(x, c), fl_span_from(y, c), even);
  }
  return FL_LAUNCHED("an activation was queued");
}

static FL_KERNEL_BOUNDS(THREADS, 4) void act_bwd_vec4(fl_rows rows, fl_act kind, int64_t n,
                                                      fl_cspan saved, fl_cspan dy, fl_span dx,
                                                      bool even) {
  const float *was = fl_lane(saved, blockIdx.y), *dys = fl_lane(dy, blockIdx.y);
  float *dxs = fl_lane_out(dx, blockIdx.y);
  int64_t live = rows.n[blockIdx.y] * n;
  for (int k = 0; k < QUADS; k++) {
    int64_t i = quad_at(k);
    if (i >= live) return;
    float4 s = fl_load4(was, i, live, even), g = fl_load4(dys, i, live, even);
    fl_store4(dxs, i, live, even,
              fl_each4(s, g, [&](float e, float f) { return f * fl_act_slope(kind, e); }));
  }
}

fl_status fl_cuda_act_bwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan saved,
                          fl_cspan dy, fl_span dx) {
  FL_TRY(fl_cuda_enter(d));
  bool even = fl_span_even(saved) && fl_span_even(dy) && fl_span_even(fl_const(dx));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    FL_LAUNCH(act_bwd_vec4, grid_of(b, n, lanes), THREADS, 0, d->stream, fl_rows_of(b, c, lanes),
              kind, n, fl_cspan_from(saved, c), fl_cspan_from(dy, c), fl_span_from(dx, c), even);
  }
  return FL_LAUNCHED("an activation's gradient was queued");
}

/* A block of the stream has draws for eight neighbours: half 2j is the low half of word j. */
static FL_KERNEL_BOUNDS(THREADS, 4) void dropout_vec8(fl_rows rows, int64_t n, uint32_t threshold,
                                                      float scale, fl_keys keys, fl_cspan x,
                                                      fl_span y, bool even) {
  int64_t live = rows.n[blockIdx.y] * n;
  int64_t eight = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (8 * eight >= live) return;
  const float *xs = fl_lane(x, blockIdx.y);
  float *ys = fl_lane_out(y, blockIdx.y);
  fl_key key = fl_keys_at(&keys, blockIdx.y);
  float4 v[2] = {fl_load4(xs, 8 * eight, live, even), fl_load4(xs, 8 * eight + 4, live, even)};
  fl_words words = fl_rng_block(&key, (uint32_t)eight);
#pragma unroll
  for (int q = 0; q < 2; q++) {
    uint32_t low = words.v[2 * q], high = words.v[2 * q + 1];
    float4 kept = {(low & 0xFFFF) >= threshold ? v[q].x * scale : 0.0f,
                   low >> 16 >= threshold ? v[q].y * scale : 0.0f,
                   (high & 0xFFFF) >= threshold ? v[q].z * scale : 0.0f,
                   high >> 16 >= threshold ? v[q].w * scale : 0.0f};
    fl_store4(ys, 8 * eight + 4 * q, live, even, kept);
  }
}

fl_status fl_cuda_dropout(fl_dev *d, fl_batch b, int64_t n, float p, const fl_draw *draw,
                          fl_cspan x, fl_span y) {
  FL_TRY(fl_cuda_enter(d));
  uint32_t threshold = (uint32_t)lround(p * 65536.0);
  float scale = (float)(1 / (1 - (double)p));
  bool even = fl_span_even(x) && fl_span_even(fl_const(y));
  for (int c = 0, lanes; c < b.C; c += lanes) {
    lanes = fl_group(b.C - c, 0);
    FL_LAUNCH(dropout_vec8, grid_of(b, n, lanes), THREADS, 0, d->stream, fl_rows_of(b, c, lanes), n,
              threshold, scale, fl_keys_of(draw, c, lanes), fl_cspan_from(x, c), fl_span_from(y, c),
              even);
  }
  return FL_LAUNCHED("a dropout was queued");
}
