#include <math.h>
#include <string.h>

#include "cpu.h"

/* One place of the window, for one row of output pixels: those in the range from .. to-1 see an
 * input pixel through it, output pixel v the pixel `shift + v * stride` of the plane. */
typedef struct tap {
  int from, to;
  int64_t shift;
} tap;

static tap tap_of(const fl_window *s, int h, int kh, int kw) {
  int row = h * s->stride - s->pad + kh, column = kw - s->pad;
  int last = column < s->in.width ? (s->in.width - 1 - column) / s->stride : -1;
  tap out = {column < 0 ? (s->stride - 1 - column) / s->stride : 0,
             last < s->out.width ? last + 1 : s->out.width, (int64_t)row * s->in.width + column};
  if (row < 0 || row >= s->in.height) out.to = 0;
  return out;
}

/* The row loops work on pixels of `beside` channels and are inlined with that a constant. Input
 * pixels lie `stride` pixels apart. */
#define FL_ROW static inline __attribute__((always_inline)) void

FL_ROW max_fwd(const int beside, tap t, int64_t stride, const float *restrict x,
               float *restrict y) {
  for (int64_t v = t.from; v < t.to; v++) {
    const float *in = x + (t.shift + v * stride) * beside;
    __builtin_prefetch(in + 1024);
#pragma omp simd
    for (int k = 0; k < beside; k++) {
      float a = in[k], b = y[v * beside + k];
      y[v * beside + k] = a > b || a != a ? a : b;
    }
  }
}

FL_ROW sum_fwd(const int beside, tap t, int64_t stride, const float *restrict x,
               float *restrict y) {
  for (int64_t v = t.from; v < t.to; v++) {
    const float *in = x + (t.shift + v * stride) * beside;
#pragma omp simd
    for (int k = 0; k < beside; k++) y[v * beside + k] += in[k];
  }
}

/* rest: the gradients that no pixel has taken yet. A NaN equals anything here, so it travels. */
FL_ROW max_bwd(const int beside, tap t, int64_t stride, const float *restrict x,
               const float *restrict y, float *restrict rest, float *restrict dx) {
  for (int64_t v = t.from; v < t.to; v++) {
    int64_t in = (t.shift + v * stride) * beside, out = v * beside;
    __builtin_prefetch(x + in + 1024);
#pragma omp simd
    for (int k = 0; k < beside; k++) {
      float gradient = rest[out + k];
      bool found = !(x[in + k] < y[out + k]);
      dx[in + k] += found ? gradient : 0;
      rest[out + k] = found ? 0 : gradient;
    }
  }
}

FL_ROW sum_bwd(const int beside, tap t, int64_t stride, const float *restrict dy,
               float *restrict dx) {
  for (int64_t v = t.from; v < t.to; v++) {
    float *in = dx + (t.shift + v * stride) * beside;
#pragma omp simd
    for (int k = 0; k < beside; k++) in[k] += dy[v * beside + k];
  }
}

static void row_fwd(const fl_window *s, fl_pooling kind, int h, const float *x, float *y) {
  int beside = fl_beside(s->in.channels), n = s->out.width * beside;
  float share = 1.0f / (float)(s->kernel * s->kernel);
  for (int i = 0; i < n; i++) y[i] = kind == FL_POOL_MAX ? -INFINITY : 0;
  for (int kh = 0; kh < s->kernel; kh++)
    for (int kw = 0; kw < s->kernel; kw++) {
      tap t = tap_of(s, h, kh, kw);
      if (kind == FL_POOL_MAX && beside == 16)
        max_fwd(16, t, s->stride, x, y);
      else if (kind == FL_POOL_MAX)
        max_fwd(1, t, s->stride, x, y);
      else if (beside == 16)
        sum_fwd(16, t, s->stride, x, y);
      else
        sum_fwd(1, t, s->stride, x, y);
    }
  for (int i = 0; kind == FL_POOL_AVERAGE && i < n; i++) y[i] *= share;
}

static void row_bwd(const fl_window *s, fl_pooling kind, int h, const float *x, const float *y,
                    const float *dy, float *rest, float *dx) {
  int beside = fl_beside(s->in.channels), n = s->out.width * beside;
  float share = kind == FL_POOL_MAX ? 1 : 1.0f / (float)(s->kernel * s->kernel);
  for (int i = 0; i < n; i++) rest[i] = dy[i] * share;
  for (int kh = 0; kh < s->kernel; kh++)
    for (int kw = 0; kw < s->kernel; kw++) {
      tap t = tap_of(s, h, kh, kw);
      if (kind == FL_POOL_MAX && beside == 16)
        max_bwd(16, t, s->stride, x, y, rest, dx);
      else if (kind == FL_POOL_MAX)
        max_bwd(1, t, s->stride, x, y, rest, dx);
      else if (beside == 16)
        sum_bwd(16, t, s->stride, rest, dx);
      else
        sum_bwd(1, t, s->stride, rest, dx);
    }
}

/* Sizes of what a pool walks over: groups of planes, and rows of output pixels. */
typedef struct extent {
  int groups;
  int64_t in, out, row; /* floats a group, and an output row */
} extent;

static extent extent_of(const fl_window *s) {
  int beside = fl_beside(s->in.channels);
  extent e = {s->in.channels / beside, (int64_t)s->in.height * s->in.width * beside,
              (int64_t)s->out.height * s->out.width * beside, (int64_t)s->out.width * beside};
  return e;
}

fl_status fl_cpu_pool_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_span y) {
  (void)d;
  extent e = extent_of(s);
  for (int c = 0; c < b.C; c++)
    for (int64_t g = 0; g < (int64_t)fl_rows_used(b, c) * e.groups; g++)
      for (int h = 0; h < s->out.height; h++)
        row_fwd(s, kind, h, fl_lane(x, c) + g * e.in, fl_lane_out(y, c) + g * e.out + h * e.row);
  return FEDLANE_OK;
}

fl_status fl_cpu_pool_bwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_cspan y, fl_cspan dy, fl_span dx) {
  extent e = extent_of(s);
  bool max = kind == FL_POOL_MAX;
  void *rest = NULL;
  FL_TRY(fl_cpu_scratch(d, e.row * (int64_t)sizeof(float), &rest));
  for (int c = 0; c < b.C; c++)
    for (int64_t g = 0; g < (int64_t)fl_rows_used(b, c) * e.groups; g++) {
      float *to = fl_lane_out(dx, c) + g * e.in;
      memset(to, 0, (size_t)e.in * sizeof(float));
      for (int h = 0; h < s->out.height; h++) {
        int64_t row = g * e.out + h * e.row;
        row_bwd(s, kind, h, max ? fl_lane(x, c) + g * e.in : NULL, max ? fl_lane(y, c) + row : NULL,
                fl_lane(dy, c) + row, rest, to);
      }
    }
  return FEDLANE_OK;
}
