#include "ref.h"

/* The first largest element of a window in scan order, as a place in the plane. */
static int64_t largest(const fl_window *s, const float *x, int h, int v) {
  int64_t best = -1;
  for (int kh = 0; kh < fl_window_kernel_h(s); kh++)
    for (int kw = 0; kw < s->kernel; kw++) {
      int row = h * fl_window_stride_h(s) - fl_window_pad_h(s) + kh;
      int column = v * s->stride - s->pad + kw;
      if (row < 0 || row >= s->in.height || column < 0 || column >= s->in.width) continue;
      int64_t at = (int64_t)row * s->in.width + column;
      if (best < 0 || x[at] > x[best] || x[at] != x[at]) best = at;
    }
  return best;
}

static double average(const fl_window *s, const float *x, int h, int v) {
  double sum = 0;
  for (int kh = 0; kh < fl_window_kernel_h(s); kh++)
    for (int kw = 0; kw < s->kernel; kw++) {
      int row = h * fl_window_stride_h(s) - fl_window_pad_h(s) + kh;
      int column = v * s->stride - s->pad + kw;
      if (row < 0 || row >= s->in.height || column < 0 || column >= s->in.width) continue;
      sum += x[(int64_t)row * s->in.width + column];
    }
  return sum / (fl_window_kernel_h(s) * s->kernel);
}

fl_status fl_ref_pool_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_span y) {
  (void)d;
  int64_t in = (int64_t)s->in.height * s->in.width, out = (int64_t)s->out.height * s->out.width;
  for (int c = 0; c < b.C; c++)
    for (int64_t plane = 0; plane < (int64_t)b.rows[c] * s->in.channels; plane++) {
      const float *xs = fl_ref_in(x, c) + plane * in;
      float *ys = fl_ref_out(y, c) + plane * out;
      for (int h = 0; h < s->out.height; h++)
        for (int v = 0; v < s->out.width; v++)
          *ys++ = kind == FL_POOL_MAX ? xs[largest(s, xs, h, v)] : (float)average(s, xs, h, v);
    }
  return FEDLANE_OK;
}

/* The gradient of one input pixel: the sum over all windows that hold it. */
static double pixel_back(const fl_window *s, fl_pooling kind, const float *x, const float *dy,
                         int row, int column) {
  double sum = 0;
  for (int kh = 0; kh < fl_window_kernel_h(s); kh++)
    for (int kw = 0; kw < s->kernel; kw++) {
      int h = row + fl_window_pad_h(s) - kh, v = column + s->pad - kw;
      if (h < 0 || v < 0 || h % fl_window_stride_h(s) || v % s->stride) continue;
      h /= fl_window_stride_h(s);
      v /= s->stride;
      if (h >= s->out.height || v >= s->out.width) continue;
      double g = dy[(int64_t)h * s->out.width + v];
      if (kind == FL_POOL_AVERAGE)
        sum += g / (fl_window_kernel_h(s) * s->kernel);
      else if (largest(s, x, h, v) == (int64_t)row * s->in.width + column)
        sum += g;
    }
  return sum;
}

fl_status fl_ref_pool_bwd(fl_dev *d, fl_batch b, const fl_window *s, fl_pooling kind, fl_cspan x,
                          fl_cspan y, fl_cspan dy, fl_span dx) {
  (void)d;
  (void)y;
  int64_t in = (int64_t)s->in.height * s->in.width, out = (int64_t)s->out.height * s->out.width;
  for (int c = 0; c < b.C; c++)
    for (int64_t plane = 0; plane < (int64_t)b.rows[c] * s->in.channels; plane++) {
      const float *xs = kind == FL_POOL_MAX ? fl_ref_in(x, c) + plane * in : NULL;
      const float *dys = fl_ref_in(dy, c) + plane * out;
      float *dxs = fl_ref_out(dx, c) + plane * in;
      for (int h = 0; h < s->in.height; h++)
        for (int v = 0; v < s->in.width; v++) *dxs++ = (float)pixel_back(s, kind, xs, dys, h, v);
    }
  return FEDLANE_OK;
}
