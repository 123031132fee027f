#include <math.h>
#include <string.h>

#include "cpu.h"

/* The part of one output pixel's window that lies inside the image, as pixel ranges. */
typedef struct view {
  int top, bottom, left, right;
} view;

static inline int at_least(int a, int b) { return a > b ? a : b; }
static inline int at_most(int a, int b) { return a < b ? a : b; }

static inline view view_of(const fl_window *s, int h, int v) {
  int top = h * s->stride - s->pad, left = v * s->stride - s->pad;
  view out = {at_least(top, 0), at_most(top + s->kernel, s->in.height), at_least(left, 0),
              at_most(left + s->kernel, s->in.width)};
  return out;
}

/* The four walks below work on one group of an image: planes whose pixels hold `beside` channels
 * side by side. They are inlined with `beside` a constant, so that 16 channels are one vector. */
#define FL_WALK static inline __attribute__((always_inline)) void

FL_WALK max_fwd(const fl_window *s, const int beside, const float *restrict x, float *restrict y) {
  for (int h = 0; h < s->out.height; h++)
    for (int v = 0; v < s->out.width; v++, y += beside) {
      view in = view_of(s, h, v);
      float most[16];
      for (int k = 0; k < beside; k++) most[k] = -INFINITY;
      for (int i = in.top; i < in.bottom; i++)
        for (int j = in.left; j < in.right; j++) {
          const float *pixel = x + ((int64_t)i * s->in.width + j) * beside;
          for (int k = 0; k < beside; k++)
            most[k] = pixel[k] <= most[k] || most[k] != most[k] ? most[k] : pixel[k];
        }
      for (int k = 0; k < beside; k++) y[k] = most[k];
    }
}

FL_WALK average_fwd(const fl_window *s, const int beside, const float *restrict x,
                    float *restrict y) {
  float share = 1.0f / (float)(s->kernel * s->kernel);
  for (int h = 0; h < s->out.height; h++)
    for (int v = 0; v < s->out.width; v++, y += beside) {
      view in = view_of(s, h, v);
      float sum[16] = {0};
      for (int i = in.top; i < in.bottom; i++)
        for (int j = in.left; j < in.right; j++) {
          const float *pixel = x + ((int64_t)i * s->in.width + j) * beside;
          for (int k = 0; k < beside; k++) sum[k] += pixel[k];
        }
      for (int k = 0; k < beside; k++) y[k] = sum[k] * share;
    }
}

/* `rest` is a channel's gradient until its first largest pixel has taken it. */
FL_WALK max_bwd(const fl_window *s, const int beside, const float *restrict x,
                const float *restrict y, const float *restrict dy, float *restrict dx) {
  for (int h = 0; h < s->out.height; h++)
    for (int v = 0; v < s->out.width; v++, y += beside, dy += beside) {
      view in = view_of(s, h, v);
      float rest[16];
      for (int k = 0; k < beside; k++) rest[k] = dy[k];
      for (int i = in.top; i < in.bottom; i++)
        for (int j = in.left; j < in.right; j++) {
          int64_t at = ((int64_t)i * s->in.width + j) * beside;
          for (int k = 0; k < beside; k++) {
            bool found = !(x[at + k] < y[k]);
            dx[at + k] += found ? rest[k] : 0;
            rest[k] = found ? 0 : rest[k];
          }
        }
    }
}

FL_WALK average_bwd(const fl_window *s, const int beside, const float *restrict dy,
                    float *restrict dx) {
  float share = 1.0f / (float)(s->kernel * s->kernel);
  for (int h = 0; h < s->out.height; h++)
    for (int v = 0; v < s->out.width; v++, dy += beside) {
      view in = view_of(s, h, v);
      for (int i = in.top; i < in.bottom; i++)
        for (int j = in.left; j < in.right; j++) {
          float *pixel = dx + ((int64_t)i * s->in.width + j) * beside;
          for (int k = 0; k < beside; k++) pixel[k] += dy[k] * share;
        }
    }
}

static void group_fwd(const fl_window *s, fl_pooling kind, int beside, const float *x, float *y) {
  if (kind == FL_POOL_MAX && beside == 16)
    max_fwd(s, 16, x, y);
  else if (kind == FL_POOL_MAX)
    max_fwd(s, 1, x, y);
  else if (beside == 16)
    average_fwd(s, 16, x, y);
  else
    average_fwd(s, 1, x, y);
}

static void group_bwd(const fl_window *s, fl_pooling kind, int beside, const float *x,
                      const float *y, const float *dy, float *dx) {
  if (kind == FL_POOL_MAX && beside == 16)
    max_bwd(s, 16, x, y, dy, dx);
  else if (kind == FL_POOL_MAX)
    max_bwd(s, 1, x, y, dy, dx);
  else if (beside == 16)
    average_bwd(s, 16, dy, dx);
  else
    average_bwd(s, 1, dy, dx);
}

fl_status fl_cpu_pool_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_span y) {
  (void)d;
  int beside = fl_beside(s->in.channels), groups = s->in.channels / beside;
  int64_t in = (int64_t)s->in.height * s->in.width * beside;
  int64_t out = (int64_t)s->out.height * s->out.width * beside;
  for (int c = 0; c < b.C; c++) {
    int64_t n = (int64_t)fl_rows_used(b, c) * groups;
    for (int64_t g = 0; g < n; g++)
      group_fwd(s, kind, beside, fl_lane(x, c) + g * in, fl_lane_out(y, c) + g * out);
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_pool_bwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_cspan y, fl_cspan dy, fl_span dx) {
  (void)d;
  int beside = fl_beside(s->in.channels), groups = s->in.channels / beside;
  int64_t in = (int64_t)s->in.height * s->in.width * beside;
  int64_t out = (int64_t)s->out.height * s->out.width * beside;
  bool max = kind == FL_POOL_MAX;
  for (int c = 0; c < b.C; c++) {
    int64_t n = (int64_t)fl_rows_used(b, c) * groups;
    for (int64_t g = 0; g < n; g++) {
      float *dxs = fl_lane_out(dx, c) + g * in;
      memset(dxs, 0, (size_t)in * sizeof(float));
      group_bwd(s, kind, beside, max ? fl_lane(x, c) + g * in : NULL,
                max ? fl_lane(y, c) + g * out : NULL, fl_lane(dy, c) + g * out, dxs);
    }
  }
  return FEDLANE_OK;
}
