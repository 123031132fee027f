#include "ref.h"

/* The input row and column that an output pixel sees through a tap, or -1 in the padding. */
static int row_of(const fl_window *s, int out, int kh) {
  int at = out * fl_window_stride_h(s) - fl_window_pad_h(s) + kh;
  return at >= 0 && at < s->in.height ? at : -1;
}

static int column_of(const fl_window *s, int out, int kw) {
  int at = out * s->stride - s->pad + kw;
  return at >= 0 && at < s->in.width ? at : -1;
}

static int64_t pixel(fl_image s, int channel, int h, int w) {
  return ((int64_t)channel * s.height + h) * s.width + w;
}

static int64_t tap(const fl_window *s, int o, int i, int kh, int kw) {
  return (((int64_t)o * s->in.channels + i) * fl_window_kernel_h(s) + kh) * s->kernel + kw;
}

/* One output of one image: the sum of x*w over the window and, innermost, input channels. */
static double correlate(const fl_window *s, const float *x, const float *w, int o, int h, int v) {
  int64_t plane = pixel(s->in, 1, 0, 0), taps = tap(s, 0, 1, 0, 0);
  double sum = 0;
  for (int kh = 0; kh < fl_window_kernel_h(s); kh++)
    for (int kw = 0; kw < s->kernel; kw++) {
      int row = row_of(s, h, kh), column = column_of(s, v, kw);
      if (row < 0 || column < 0) continue;
      const float *xs = x + pixel(s->in, 0, row, column), *ws = w + tap(s, o, 0, kh, kw);
      for (int i = 0; i < s->in.channels; i++) sum += (double)xs[i * plane] * ws[i * taps];
    }
  return sum;
}

fl_status fl_ref_conv_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                          fl_cspan bias, fl_span y) {
  (void)d;
  int64_t in = fl_image_size(s->in), out = fl_image_size(s->out);
  for (int c = 0; c < b.C; c++)
    for (int row = 0; row < b.rows[c]; row++) {
      const float *xs = fl_ref_in(x, c) + row * in, *ws = fl_ref_in(w, c);
      const float *bs = fl_ref_in(bias, c);
      float *ys = fl_ref_out(y, c) + row * out;
      for (int o = 0; o < s->out.channels; o++)
        for (int h = 0; h < s->out.height; h++)
          for (int v = 0; v < s->out.width; v++)
            ys[pixel(s->out, o, h, v)] = (float)((bs ? bs[o] : 0) + correlate(s, xs, ws, o, h, v));
    }
  return FEDLANE_OK;
}

/* One input pixel's gradient: every output whose window holds the pixel sends its share back. */
static double correlate_back(const fl_window *s, const float *dy, const float *w, int i, int row,
                             int column) {
  int64_t plane = pixel(s->out, 1, 0, 0), filter = tap(s, 1, 0, 0, 0);
  double sum = 0;
  for (int kh = 0; kh < fl_window_kernel_h(s); kh++)
    for (int kw = 0; kw < s->kernel; kw++) {
      int h = row + fl_window_pad_h(s) - kh, v = column + s->pad - kw;
      if (h < 0 || v < 0 || h % fl_window_stride_h(s) || v % s->stride) continue;
      h /= fl_window_stride_h(s);
      v /= s->stride;
      if (h >= s->out.height || v >= s->out.width) continue;
      const float *dys = dy + pixel(s->out, 0, h, v), *ws = w + tap(s, 0, i, kh, kw);
      for (int o = 0; o < s->out.channels; o++) sum += (double)dys[o * plane] * ws[o * filter];
    }
  return sum;
}

fl_status fl_ref_conv_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy, fl_cspan w,
                               fl_span dx) {
  (void)d;
  int64_t in = fl_image_size(s->in), out = fl_image_size(s->out);
  for (int c = 0; c < b.C; c++)
    for (int row = 0; row < b.rows[c]; row++) {
      const float *dys = fl_ref_in(dy, c) + row * out, *ws = fl_ref_in(w, c);
      float *dxs = fl_ref_out(dx, c) + row * in;
      for (int i = 0; i < s->in.channels; i++)
        for (int h = 0; h < s->in.height; h++)
          for (int v = 0; v < s->in.width; v++)
            dxs[pixel(s->in, i, h, v)] = (float)correlate_back(s, dys, ws, i, h, v);
    }
  return FEDLANE_OK;
}

/* One weight's gradient in one image: the tap's inputs times the outputs that they fed. */
static double correlate_weight(const fl_window *s, const float *x, const float *dy, int o, int i,
                               int kh, int kw) {
  double sum = 0;
  for (int h = 0; h < s->out.height; h++) {
    int row = row_of(s, h, kh);
    if (row < 0) continue;
    const float *xs = x + pixel(s->in, i, row, 0), *dys = dy + pixel(s->out, o, h, 0);
    for (int v = 0; v < s->out.width; v++) {
      int column = v * s->stride - s->pad + kw;
      if (column >= 0 && column < s->in.width) sum += (double)xs[column] * dys[v];
    }
  }
  return sum;
}

static void lane_weights(const fl_window *s, int rows, const float *x, const float *dy,
                         double factor, float *gw) {
  int64_t in = fl_image_size(s->in), out = fl_image_size(s->out);
  for (int o = 0; o < s->out.channels; o++)
    for (int i = 0; i < s->in.channels; i++)
      for (int kh = 0; kh < fl_window_kernel_h(s); kh++)
        for (int kw = 0; kw < s->kernel; kw++) {
          double sum = 0;
          for (int row = 0; row < rows; row++)
            sum += correlate_weight(s, x + row * in, dy + row * out, o, i, kh, kw);
          float *g = &gw[tap(s, o, i, kh, kw)];
          *g = (float)(*g + factor * sum);
        }
}

fl_status fl_ref_conv_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                  fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias) {
  (void)d;
  int64_t out = fl_image_size(s->out), plane = (int64_t)s->out.height * s->out.width;
  for (int c = 0; c < b.C; c++) {
    const float *dys = fl_ref_in(dy, c);
    float *gbs = fl_ref_out(gbias, c);
    double factor = fl_coef_at(scale, c);
    lane_weights(s, b.rows[c], fl_ref_in(x, c), dys, factor, fl_ref_out(gw, c));
    for (int o = 0; gbs && o < s->out.channels; o++) {
      double sum = 0;
      for (int row = 0; row < b.rows[c]; row++)
        for (int64_t p = 0; p < plane; p++) sum += dys[row * out + o * plane + p];
      gbs[o] = (float)(gbs[o] + factor * sum);
    }
  }
  return FEDLANE_OK;
}
