/* Resident calls that pass over their rows once: data, activations, pooling, losses, vectors. */
#ifndef FL_CUDA_RESIDENT_ROWS_H
#define FL_CUDA_RESIDENT_ROWS_H

#include "resident.h"

/* Four neighbours of channel k of an image, whose channels hold a multiple of 4. */
static __device__ inline float4 scaled4(const fl_source &s, int64_t first, int i, int k) {
  float4 v;
  if (s.bytes) {
    uint32_t four = *(const uint32_t *)((const uint8_t *)s.x + first + i);
    v = make_float4((float)(four & 255), (float)(four >> 8 & 255), (float)(four >> 16 & 255),
                    (float)(four >> 24));
  } else {
    v = *(const float4 *)((const float *)s.x + first + i);
  }
  float shift = s.shift[k], scale = s.scale[k];
  return fl_each4(v, [&](float e) { return (e - shift) * scale; });
}

/* Element i of a cut image. */
static __device__ inline float cut_pixel(const fl_source &s, int64_t first, fl_cut cut, int i) {
  int W = s.image.width, H = s.image.height, w = i % W, h = i / W % H, k = i / W / H;
  w = (cut.flip ? W - 1 - w : w) + cut.right;
  h += cut.down;
  if (h < 0 || h >= H || w < 0 || w >= W) return 0;
  int64_t at = first + ((int64_t)k * H + h) * W + w;
  float x = s.bytes ? (float)((const uint8_t *)s.x)[at] : ((const float *)s.x)[at];
  return (x - s.shift[k]) * s.scale[k];
}

/* A warp makes a row. */
static __device__ __attribute__((noinline)) void resident_gather(const fl_resident &r,
                                                                 const fl_call &c,
                                                                 const fl_now &now) {
  const fl_source &s = r.source;
  const int32_t *index = r.index + now.lane * r.index_stride + (int64_t)now.piece * r.B;
  float *x = fl_lane_out(c.out[0], now.lane), *target = fl_lane_out(c.out[1], now.lane);
  int a_channel = s.image.height * s.image.width, size = a_channel * s.image.channels;
  int lane = (int)threadIdx.x % 32, T = s.n_target;
  bool whole = s.crop == 0 && !s.flip && a_channel % 4 == 0 && fl_even(x) && fl_even(s.x);
  fl_key key = fl_key_now(r, now, FL_FOR_AUGMENT, 0);
  for (int row = (int)threadIdx.x / 32; row < now.live; row += FL_SEAT_WARPS) {
    int64_t example = index[row];
    float *to = x + (int64_t)row * size;
    if (whole) {
#pragma unroll 4
      for (int i = 4 * lane; i < size; i += 128)
        *(float4 *)(to + i) = scaled4(s, example * size, i, i / a_channel);
    } else {
      fl_cut cut = fl_draw_cut(&s, &key, row);
#pragma unroll 4
      for (int i = lane; i < size; i += 32) to[i] = cut_pixel(s, example * size, cut, i);
    }
    if (r.label && lane == 0) r.label[(int64_t)now.lane * r.B + row] = s.label[example];
    for (int t = lane; target && t < T; t += 32) target[row * T + t] = s.target[example * T + t];
  }
}

/* y = f(x, z) over n elements, four at a time; z NULL: f gets zeros there. */
template <typename F>
static __device__ inline void each(int64_t n, const float *x, const float *z, float *y, F f) {
  bool even = fl_even(x) && fl_even(z) && fl_even(y);
#pragma unroll 2
  for (int64_t i = 4 * (int64_t)threadIdx.x; i < n; i += 4 * FL_SEAT_THREADS) {
    float4 v = fl_load4(x, i, n, even), u = {0, 0, 0, 0};
    if (z) u = fl_load4(z, i, n, even);
    fl_store4(y, i, n, even, fl_each4(v, u, f));
  }
}

static __device__ __attribute__((noinline)) void resident_act(const fl_call &c, const fl_now &now) {
  const float *x = fl_lane(c.in[0], now.lane), *dy = fl_lane(c.in[1], now.lane);
  float *y = fl_lane_out(c.out[0], now.lane);
  fl_act kind = (fl_act)c.kind;
  int64_t n = now.live * c.n;
  if (c.op == FL_CALL_ACT_FWD)
    each(n, x, NULL, y, [&](float e, float) { return fl_act_value(kind, e); });
  else
    each(n, x, dy, y, [&](float e, float d) { return d * fl_act_slope(kind, e); });
}

/* A block of the stream has draws for eight neighbours: half 2j is the low half of word j. */
static __device__ __attribute__((noinline)) void resident_dropout(const fl_resident &r,
                                                                  const fl_call &c,
                                                                  const fl_now &now) {
  const float *x = fl_lane(c.in[0], now.lane);
  float *y = fl_lane_out(c.out[0], now.lane), scale = (float)(1 / (1 - (double)c.a));
  uint32_t threshold = (uint32_t)lround(c.a * 65536.0);
  int64_t n = now.live * c.n;
  fl_key key = fl_key_now(r, now, FL_FOR_DROPOUT, c.layer);
  for (int64_t eight = threadIdx.x; 8 * eight < n; eight += FL_SEAT_THREADS) {
    fl_words words = fl_rng_block(&key, (uint32_t)eight);
#pragma unroll
    for (int e = 0; e < 8; e++) {
      int64_t i = 8 * eight + e;
      uint32_t half = words.v[e / 2] >> 16 * (e % 2) & 0xFFFF;
      if (i < n) y[i] = half >= threshold ? x[i] * scale : 0.0f;
    }
  }
}

/* The first largest of a window, or its mean; a NaN is larger than everything. */
static __device__ __attribute__((noinline)) void resident_pool(const fl_call &c,
                                                               const fl_now &now) {
  const fl_window &s = c.window;
  const float *x = fl_lane(c.in[0], now.lane);
  float *y = fl_lane_out(c.out[0], now.lane);
  bool max = c.kind == FL_POOL_MAX;
  float share = max ? 1 : 1.0f / (float)(s.kernel * s.kernel);
  fl_stroll at = fl_stroll_begin(s.out.width, s.out.height);
  for (; at.plane < now.live * s.in.channels; fl_stroll_on(&at)) {
    const float *from = x + (int64_t)at.plane * s.in.height * s.in.width;
    int top = at.h * s.stride - s.pad, left = at.w * s.stride - s.pad;
    float out = max ? -INFINITY : 0;
    for (int h = top < 0 ? 0 : top; h < min(top + s.kernel, s.in.height); h++)
      for (int w = left < 0 ? 0 : left; w < min(left + s.kernel, s.in.width); w++) {
        float in = from[h * s.in.width + w];
        if (!max)
          out += in;
        else if (in > out || in != in)
          out = in;
      }
    y[((int64_t)at.plane * s.out.height + at.h) * s.out.width + at.w] = out * share;
  }
}

/* Whether pixel (h, w) is the first of the window at (top, left) that is not less than its result
 * (a NaN is not less). */
static __device__ inline bool is_first(const fl_window &s, const float *x, int top, int left, int h,
                                       int w, float result) {
  if (x[h * s.in.width + w] < result) return false;
  for (int i = top < 0 ? 0 : top; i <= h; i++)
    for (int j = left < 0 ? 0 : left; j < min(left + s.kernel, s.in.width); j++) {
      if (i == h && j >= w) return true;
      if (!(x[i * s.in.width + j] < result)) return false;
    }
  return true;
}

/* A thread gathers what the windows that hold its pixel send back, in scan order. */
static __device__ __attribute__((noinline)) void resident_pool_back(const fl_call &c,
                                                                    const fl_now &now) {
  const fl_window &s = c.window;
  const float *x = fl_lane(c.in[0], now.lane), *y = fl_lane(c.in[1], now.lane);
  const float *dy = fl_lane(c.in[2], now.lane);
  float *dx = fl_lane_out(c.out[0], now.lane);
  bool max = c.kind == FL_POOL_MAX;
  float share = max ? 1 : 1.0f / (float)(s.kernel * s.kernel);
  fl_stroll at = fl_stroll_begin(s.in.width, s.in.height);
  for (; at.plane < now.live * s.in.channels; fl_stroll_on(&at)) {
    const float *image = x + (int64_t)at.plane * s.in.height * s.in.width;
    int64_t windows = (int64_t)at.plane * s.out.height * s.out.width;
    int below = at.h + s.pad, right = at.w + s.pad;
    float sum = 0;
    int h = below < s.kernel ? 0 : (below - s.kernel) / s.stride + 1;
    for (; h <= min(below / s.stride, s.out.height - 1); h++) {
      int w = right < s.kernel ? 0 : (right - s.kernel) / s.stride + 1;
      for (; w <= min(right / s.stride, s.out.width - 1); w++) {
        int64_t window = windows + h * s.out.width + w;
        if (!max ||
            is_first(s, image, h * s.stride - s.pad, w * s.stride - s.pad, at.h, at.w, y[window]))
          sum += dy[window];
      }
    }
    dx[((int64_t)at.plane * s.in.height + at.h) * s.in.width + at.w] = sum * share;
  }
}

/* A thread takes a window of 2 x 2, or a part of one outside the pooled image. */
static __device__ __attribute__((noinline)) void resident_pool_relu_back(const fl_call &c,
                                                                         const fl_now &now) {
  fl_image in = c.window.in, out = c.window.out;
  const uint8_t *mask = (const uint8_t *)fl_lane(c.in[0], now.lane);
  const float *dy = fl_lane(c.in[1], now.lane);
  float *dx = fl_lane_out(c.out[0], now.lane);
  bool pairs = in.width % 2 == 0 && ((uintptr_t)dx & 7) == 0;
  fl_stroll at = fl_stroll_begin((in.width + 1) / 2, (in.height + 1) / 2);
#pragma unroll 2
  for (; at.plane < now.live * in.channels; fl_stroll_on(&at)) {
    int64_t window = ((int64_t)at.plane * out.height + at.h) * out.width + at.w;
    bool inside = at.h < out.height && at.w < out.width;
    int place = inside ? mask[window] : 4;
    float d = place < 4 ? dy[window] : 0;
    float *to = dx + ((int64_t)at.plane * in.height + 2 * at.h) * in.width + 2 * at.w;
#pragma unroll
    for (int h = 0; h < 2; h++, to += in.width) {
      if (2 * at.h + h >= in.height) break;
      float2 v = {place == 2 * h ? d : 0, place == 2 * h + 1 ? d : 0};
      if (pairs) {
        *(float2 *)to = v;
      } else {
        to[0] = v.x;
        if (2 * at.w + 1 < in.width) to[1] = v.y;
      }
    }
  }
}

/* A warp a row; thread 0 adds the warps up in order. */
static __device__ __attribute__((noinline)) void resident_loss(const fl_resident &r,
                                                               const fl_call &c,
                                                               const fl_now &now) {
  FL_SHARED(fl_tally, part, [FL_SEAT_WARPS]);
  bool classes = c.op == FL_CALL_XENT;
  const float *z = fl_lane(c.in[classes ? 0 : 1], now.lane), *target = fl_lane(c.in[0], now.lane);
  float *dz = fl_lane_out(c.out[0], now.lane), factor = now.norm / (float)c.O;
  fl_errors errors = {(fl_regression)c.kind, c.a};
  fl_tally mine = {0, 0};
  for (int row = (int)threadIdx.x / 32; row < now.live; row += FL_SEAT_WARPS) {
    int at = row * c.O;
    if (classes) {
      int label = r.label[(int64_t)now.lane * r.B + row];
      fl_tally one = fl_xent_row(c.O, label, now.norm, z + at, dz + at);
      mine.loss += one.loss;
      mine.hit += one.hit;
    } else {
      double sum = 0;
      for (int t = at + (int)threadIdx.x % 32; t < at + c.O; t += 32) {
        sum += fl_error_loss(errors, z[t], target[t]);
        dz[t] = factor * fl_error_slope(errors, z[t], target[t]);
      }
      mine.loss += fl_warp_sum(sum) / c.O;
    }
  }
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x > 0) return;
  fl_tally sum = {0, 0};
  for (int w = 0; w < FL_SEAT_WARPS; w++) {
    sum.loss += part[w].loss;
    sum.hit += part[w].hit;
  }
  r.loss[now.lane] += sum.loss;
  if (classes) r.hit[now.lane] += sum.hit;
}

static __device__ __attribute__((noinline)) void resident_step(const fl_call &c,
                                                               const fl_now &now) {
  const float *g = fl_lane(c.in[0], now.lane);
  float *w = fl_lane_out(c.out[0], now.lane);
  bool even = fl_even(g) && fl_even(w);
  for (int t = 0; t < c.n_term; t++) even = even && fl_even(fl_lane(c.term[t].x, now.lane));
#pragma unroll 2
  for (int64_t i = 4 * (int64_t)threadIdx.x; i < c.n; i += 4 * FL_SEAT_THREADS) {
    float4 sum = {0, 0, 0, 0}, old = fl_load4(w, i, c.n, even);
    if (g) sum = fl_load4(g, i, c.n, even);
    for (int t = 0; t < c.n_term; t++) {
      float4 x = fl_load4(fl_lane(c.term[t].x, now.lane), i, c.n, even);
      sum = fl_each4(x, sum, [&](float v, float s) { return fmaf(c.term[t].a, v, s); });
    }
    fl_store4(w, i, c.n, even,
              fl_each4(sum, old, [&](float s, float v) { return fmaf(-c.a, s, v); }));
  }
}

static __device__ __attribute__((noinline)) void resident_axpby(const fl_call &c,
                                                                const fl_now &now) {
  const float *x = fl_lane(c.in[0], now.lane);
  float *y = fl_lane_out(c.out[0], now.lane);
  float a = c.a, b = c.b;
  if (!x) x = y, a = 0;
  each(c.n, x, b != 0 ? y : NULL, y,
       [&](float u, float v) { return fmaf(b, v, a != 0 ? a * u : 0.0f); });
}

static __device__ __attribute__((noinline)) void resident_flatten(const fl_call &c,
                                                                  const fl_now &now) {
  each(now.live * c.n, fl_lane(c.in[0], now.lane), NULL, fl_lane_out(c.out[0], now.lane),
       [](float v, float) { return v; });
}

#endif
