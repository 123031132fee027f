#include <math.h>
#include <string.h>

#include "pool.h"

/* One place of the window, for one row of output pixels: those in the range from .. to-1 see an
 * input pixel through it, output pixel v the pixel `shift + v * stride` of the plane. */
typedef struct tap {
  int from, to;
  int64_t shift;
} tap;

/* What a pool walks over: groups of planes, rows of output pixels, and places of the window. */
typedef struct plan {
  const fl_window *s;
  fl_pooling kind;
  int groups, beside;
  int64_t in, out, row; /* floats a group, and an output row */
  float *rest;          /* scratch: an output row */
  tap *column;          /* scratch: the taps of a window's first row, for input row 0 */
} plan;

static fl_status plan_make(fl_dev *d, const fl_window *s, fl_pooling kind, plan *out) {
  int beside = fl_beside(s->in.channels);
  plan p = {.s = s, .kind = kind, .groups = s->in.channels / beside, .beside = beside};
  void *scratch = NULL;
  p.in = (int64_t)s->in.height * s->in.width * beside;
  p.out = (int64_t)s->out.height * s->out.width * beside;
  p.row = (int64_t)s->out.width * beside;
  FL_TRY(fl_cpu_scratch(d, p.row * (int64_t)sizeof(float) + s->kernel * (int64_t)sizeof(tap) + 64,
                        &scratch));
  p.column = scratch;
  p.rest = (float *)(p.column + s->kernel);
  for (int kw = 0; kw < s->kernel; kw++) {
    int column = kw - s->pad;
    int last = column < s->in.width ? (s->in.width - 1 - column) / s->stride : -1;
    p.column[kw] = (tap){column < 0 ? (s->stride - 1 - column) / s->stride : 0,
                         last < s->out.width ? last + 1 : s->out.width, column};
  }
  *out = p;
  return FEDLANE_OK;
}

/* The input rows that output row h sees are first .. end-1. */
static void rows_of(const fl_window *s, int h, int *first, int *end) {
  int top = h * fl_window_stride_h(s) - fl_window_pad_h(s), below = top + fl_window_kernel_h(s);
  *first = top > 0 ? top : 0;
  *end = below < s->in.height ? below : s->in.height;
}

/* Of one pixel in its window's mean. */
static float share_of(const fl_window *s) {
  return 1.0f / (float)(fl_window_kernel_h(s) * s->kernel);
}

static tap tap_at(const plan *p, int row, int kw) {
  tap t = p->column[kw];
  t.shift += (int64_t)row * p->s->in.width;
  return t;
}

/* The row loops come in two shapes: pixels of 16 channels, and single planes. Both are written so
 * that they become vector code without branches on the data. */
enum { V = 16, AHEAD = 64 /* pixels */ };

static void max_fwd(const plan *p, tap t, const float *restrict x, float *restrict y) {
  int64_t stride = p->s->stride;
  const float *from = x + t.shift * p->beside;
  if (p->beside == 1) {
    FL_SIMD
    for (int64_t v = t.from; v < t.to; v++) y[v] = fl_pool_larger(from[v * stride], y[v]);
    return;
  }
  for (int64_t v = t.from; v < t.to; v++) {
    const float *in = from + v * stride * V;
    __builtin_prefetch(in + AHEAD * V);
    FL_SIMD
    for (int k = 0; k < V; k++) y[v * V + k] = fl_pool_larger(in[k], y[v * V + k]);
  }
}

static void sum_fwd(const plan *p, tap t, const float *restrict x, float *restrict y) {
  int64_t stride = p->s->stride;
  const float *from = x + t.shift * p->beside;
  if (p->beside == 1) {
    FL_SIMD
    for (int64_t v = t.from; v < t.to; v++) y[v] += from[v * stride];
    return;
  }
  for (int64_t v = t.from; v < t.to; v++) {
    FL_SIMD
    for (int k = 0; k < V; k++) y[v * V + k] += from[v * stride * V + k];
  }
}

/* rest: the gradients that no pixel has taken yet; the first pixel that equals the largest takes
 * it. A NaN equals anything here, so it travels. */
static void max_bwd(const plan *p, tap t, const float *restrict x, const float *restrict y,
                    float *restrict rest, float *restrict dx) {
  int64_t stride = p->s->stride;
  const float *from = x + t.shift * p->beside;
  float *to = dx + t.shift * p->beside;
  if (p->beside == 1) {
    FL_SIMD
    for (int64_t v = t.from; v < t.to; v++) {
      bool found = !(from[v * stride] < y[v]);
      to[v * stride] += found ? rest[v] : 0;
      rest[v] = found ? 0 : rest[v];
    }
    return;
  }
  for (int64_t v = t.from; v < t.to; v++) {
    const float *in = from + v * stride * V;
    float *out = to + v * stride * V, *left = rest + v * V;
    __builtin_prefetch(in + AHEAD * V);
    FL_SIMD
    for (int k = 0; k < V; k++) {
      bool found = !(in[k] < y[v * V + k]);
      out[k] += found ? left[k] : 0;
      left[k] = found ? 0 : left[k];
    }
  }
}

static void sum_bwd(const plan *p, tap t, const float *restrict dy, float *restrict dx) {
  int64_t stride = p->s->stride;
  float *to = dx + t.shift * p->beside;
  if (p->beside == 1) {
    FL_SIMD
    for (int64_t v = t.from; v < t.to; v++) to[v * stride] += dy[v];
    return;
  }
  for (int64_t v = t.from; v < t.to; v++) {
    FL_SIMD
    for (int k = 0; k < V; k++) to[v * stride * V + k] += dy[v * V + k];
  }
}

static void row_fwd(const plan *p, int h, const float *x, float *y) {
  const fl_window *s = p->s;
  float share = share_of(s);
  int first, end;
  rows_of(s, h, &first, &end);
  for (int64_t i = 0; i < p->row; i++) y[i] = p->kind == FL_POOL_MAX ? -INFINITY : 0;
  for (int row = first; row < end; row++)
    for (int kw = 0; kw < s->kernel; kw++)
      if (p->kind == FL_POOL_MAX)
        max_fwd(p, tap_at(p, row, kw), x, y);
      else
        sum_fwd(p, tap_at(p, row, kw), x, y);
  for (int64_t i = 0; p->kind == FL_POOL_AVERAGE && i < p->row; i++) y[i] *= share;
}

static void row_bwd(const plan *p, int h, const float *x, const float *y, const float *dy,
                    float *dx) {
  const fl_window *s = p->s;
  float share = p->kind == FL_POOL_MAX ? 1 : share_of(s);
  int first, end;
  rows_of(s, h, &first, &end);
  for (int64_t i = 0; i < p->row; i++) p->rest[i] = dy[i] * share;
  for (int row = first; row < end; row++)
    for (int kw = 0; kw < s->kernel; kw++)
      if (p->kind == FL_POOL_MAX)
        max_bwd(p, tap_at(p, row, kw), x, y, p->rest, dx);
      else
        sum_bwd(p, tap_at(p, row, kw), p->rest, dx);
}

fl_status fl_cpu_pool_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_span y) {
  plan p;
  FL_TRY(plan_make(d, s, kind, &p));
  for (int c = 0; c < b.C; c++)
    for (int64_t g = 0; g < (int64_t)fl_rows_used(b, c) * p.groups; g++)
      for (int h = 0; h < s->out.height; h++)
        row_fwd(&p, h, fl_lane(x, c) + g * p.in, fl_lane_out(y, c) + g * p.out + h * p.row);
  return FEDLANE_OK;
}

fl_status fl_cpu_pool_bwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_cspan y, fl_cspan dy, fl_span dx) {
  plan p;
  bool max = kind == FL_POOL_MAX;
  FL_TRY(plan_make(d, s, kind, &p));
  for (int c = 0; c < b.C; c++)
    for (int64_t g = 0; g < (int64_t)fl_rows_used(b, c) * p.groups; g++) {
      float *to = fl_lane_out(dx, c) + g * p.in;
      memset(to, 0, (size_t)p.in * sizeof(float));
      for (int h = 0; h < s->out.height; h++) {
        int64_t row = g * p.out + h * p.row;
        row_bwd(&p, h, max ? fl_lane(x, c) + g * p.in : NULL, max ? fl_lane(y, c) + row : NULL,
                fl_lane(dy, c) + row, to);
      }
    }
  return FEDLANE_OK;
}

#define EVEN(i) 2 * (i), 2 * (i) + 2, 2 * (i) + 4, 2 * (i) + 6
#define ODD(i) 2 * (i) + 1, 2 * (i) + 3, 2 * (i) + 5, 2 * (i) + 7
#define EVEN_OF(a, b) __builtin_shufflevector(a, b, EVEN(0), EVEN(4), EVEN(8), EVEN(12))
#define ODD_OF(a, b) __builtin_shufflevector(a, b, ODD(0), ODD(4), ODD(8), ODD(12))

/* The pixels of n windows side by side, left and right ones apart; 0 < n <= 16. */
static inline void part_row(int n, const float *row, fl_v16 *left, fl_v16 *right) {
  fl_v16 first, second = {0};
  fl_load_some(row, 2 * n < V ? 2 * n : V, &first);
  if (2 * n > V) fl_load_some(row + V, 2 * n - V, &second);
  *left = EVEN_OF(first, second);
  *right = ODD_OF(first, second);
}

/* One row of windows of single planes. */
static inline void windows1(int windows, const float *top, const float *low, float *y,
                            uint8_t *mask) {
  for (int at = 0; at < windows; at += V) {
    int n = windows - at < V ? windows - at : V;
    fl_v16 a, b, c, d, largest;
    int32_t place[V];
    part_row(n, top + 2 * at, &a, &b);
    part_row(n, low + 2 * at, &c, &d);
    FL_SIMD
    for (int v = 0; v < V; v++) largest[v] = fl_pool_relu(a[v], b[v], c[v], d[v], &place[v]);
    fl_store_some(y + at, n, &largest);
    if (mask) fl_store_bytes(mask + at, n, place);
  }
}

void fl_cpu_pool_relu(int images, const fl_window *s, const float *x, float *y, uint8_t *mask) {
  int beside = fl_beside(s->in.channels);
  int64_t line = (int64_t)s->in.width * beside, row = (int64_t)s->out.width * beside;
  for (int64_t g = 0; g < (int64_t)images * s->in.channels / beside; g++)
    for (int h = 0; h < s->out.height; h++, y += row, mask += mask ? row : 0) {
      const float *top = x + (g * s->in.height + 2 * h) * line;
      if (beside == 16)
        fl_pool_relu16(s->out.width, top, top + line, y, mask);
      else
        windows1(s->out.width, top, top + line, y, mask);
    }
}

/* Two lines of gradients from one row of windows; pixels past the last window get 0. Places follow
 * no pattern that a processor could guess, so nothing here branches on them. */
static void lines_bwd(const fl_window *s, int beside, const uint8_t *restrict mask,
                      const float *restrict dy, float *restrict dx) {
  int64_t line = (int64_t)s->in.width * beside;
  if (beside == 1 || s->in.width > 2 * s->out.width)
    memset(dx, 0, 2 * (size_t)line * sizeof(float));
  for (int64_t v = 0; beside == 1 && v < s->out.width; v++) {
    uint32_t bits, place = mask[v] & 3;
    memcpy(&bits, &dy[v], sizeof bits);
    bits &= 0u - (mask[v] < 4);
    memcpy(&dx[place / 2 * line + 2 * v + place % 2], &bits, sizeof bits);
  }
  for (int64_t v = 0; beside == V && v < s->out.width; v++)
    for (int i = 0; i < 4; i++) {
      float *to = dx + i / 2 * line + (2 * v + i % 2) * V;
      FL_SIMD
      for (int k = 0; k < V; k++) to[k] = mask[v * V + k] == i ? dy[v * V + k] : 0;
    }
}

fl_status fl_cpu_pool_relu_bwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan mask,
                               fl_cspan dy, fl_span dx) {
  (void)d;
  int beside = fl_beside(s->in.channels);
  int64_t line = (int64_t)s->in.width * beside, row = (int64_t)s->out.width * beside;
  int64_t rest = s->in.height - 2 * (int64_t)s->out.height; /* lines below the last window */
  for (int c = 0; c < b.C; c++) {
    const uint8_t *places = (const uint8_t *)fl_lane(mask, c);
    const float *from = fl_lane(dy, c);
    float *to = fl_lane_out(dx, c);
    for (int64_t g = 0; g < (int64_t)fl_rows_used(b, c) * s->in.channels / beside; g++) {
      for (int h = 0; h < s->out.height; h++, places += row, from += row, to += 2 * line)
        lines_bwd(s, beside, places, from, to);
      memset(to, 0, (size_t)(rest * line) * sizeof(float));
      to += rest * line;
    }
  }
  return FEDLANE_OK;
}
