#include <stdlib.h>
#include <string.h>

#include "ref.h"

static int64_t pixel(fl_image s, int channel, int h, int w) {
  return ((int64_t)channel * s.height + h) * s.width + w;
}

static int taps(const fl_window *s) { return fl_window_kernel_h(s) * s->kernel; }

/* The place in an input plane that output pixel (h, v) sees through tap t, or -1 in the padding. */
static int64_t seen(const fl_window *s, int h, int v, int t) {
  int row = h * fl_window_stride_h(s) - fl_window_pad_h(s) + t / s->kernel;
  int column = v * s->stride - s->pad + t % s->kernel;
  bool inside = row >= 0 && row < s->in.height && column >= 0 && column < s->in.width;
  return inside ? pixel(s->in, 0, row, column) : -1;
}

static double correlate(const fl_window *s, const float *x, const float *w, int h, int v) {
  double sum = 0;
  for (int t = 0; t < taps(s); t++) {
    int64_t at = seen(s, h, v, t);
    if (at >= 0) sum += (double)x[at] * w[t];
  }
  return sum;
}

fl_status fl_ref_depthwise_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                               fl_cspan bias, fl_span y) {
  (void)d;
  int64_t in = fl_image_size(s->in), out = fl_image_size(s->out);
  for (int c = 0; c < b.C; c++)
    for (int row = 0; row < b.rows[c]; row++)
      for (int k = 0; k < s->in.channels; k++) {
        const float *xs = fl_ref_in(x, c) + row * in + pixel(s->in, k, 0, 0);
        const float *ws = fl_ref_in(w, c) + k * taps(s), *bs = fl_ref_in(bias, c);
        float *ys = fl_ref_out(y, c) + row * out + pixel(s->out, k, 0, 0);
        for (int h = 0; h < s->out.height; h++)
          for (int v = 0; v < s->out.width; v++)
            *ys++ = (float)((bs ? bs[k] : 0) + correlate(s, xs, ws, h, v));
      }
  return FEDLANE_OK;
}

/* One input pixel's gradient: every output whose window holds the pixel sends its share back. */
static double correlate_back(const fl_window *s, const float *dy, const float *w, int row,
                             int column) {
  double sum = 0;
  for (int t = 0; t < taps(s); t++) {
    int h = row + fl_window_pad_h(s) - t / s->kernel, v = column + s->pad - t % s->kernel;
    if (h < 0 || v < 0 || h % fl_window_stride_h(s) || v % s->stride) continue;
    h /= fl_window_stride_h(s);
    v /= s->stride;
    if (h < s->out.height && v < s->out.width) sum += (double)dy[pixel(s->out, 0, h, v)] * w[t];
  }
  return sum;
}

fl_status fl_ref_depthwise_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy,
                                    fl_cspan w, fl_span dx) {
  (void)d;
  int64_t in = fl_image_size(s->in), out = fl_image_size(s->out);
  for (int c = 0; c < b.C; c++)
    for (int row = 0; row < b.rows[c]; row++)
      for (int k = 0; k < s->in.channels; k++) {
        const float *dys = fl_ref_in(dy, c) + row * out + pixel(s->out, k, 0, 0);
        const float *ws = fl_ref_in(w, c) + k * taps(s);
        float *dxs = fl_ref_out(dx, c) + row * in + pixel(s->in, k, 0, 0);
        for (int h = 0; h < s->in.height; h++)
          for (int v = 0; v < s->in.width; v++) *dxs++ = (float)correlate_back(s, dys, ws, h, v);
      }
  return FEDLANE_OK;
}

/* Adds what one image's channel says of its filter, [taps], and its bias, behind them. */
static void add_plane(const fl_window *s, const float *x, const float *dy, double *sums) {
  for (int h = 0; h < s->out.height; h++)
    for (int v = 0; v < s->out.width; v++) {
      double g = dy[pixel(s->out, 0, h, v)];
      sums[taps(s)] += g;
      for (int t = 0; t < taps(s); t++) {
        int64_t at = seen(s, h, v, t);
        if (at >= 0) sums[t] += g * x[at];
      }
    }
}

fl_status fl_ref_depthwise_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                       fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias) {
  (void)d;
  int64_t in = fl_image_size(s->in), out = fl_image_size(s->out);
  double *sums = malloc((size_t)(taps(s) + 1) * sizeof *sums);
  if (!sums) return fl_fail(FEDLANE_MEMORY, "no memory for a filter's gradient");
  for (int c = 0; c < b.C; c++)
    for (int k = 0; k < s->in.channels; k++) {
      double factor = fl_coef_at(scale, c);
      float *gws = fl_ref_out(gw, c) + k * taps(s), *gbs = fl_ref_out(gbias, c);
      memset(sums, 0, (size_t)(taps(s) + 1) * sizeof *sums);
      for (int row = 0; row < b.rows[c]; row++)
        add_plane(s, fl_ref_in(x, c) + row * in + pixel(s->in, k, 0, 0),
                  fl_ref_in(dy, c) + row * out + pixel(s->out, k, 0, 0), sums);
      for (int t = 0; t < taps(s); t++) gws[t] = (float)(gws[t] + factor * sums[t]);
      if (gbs) gbs[k] = (float)(gbs[k] + factor * sums[taps(s)]);
    }
  free(sums);
  return FEDLANE_OK;
}

fl_status fl_ref_columns(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y) {
  (void)d;
  int64_t size = fl_image_size(s), lines = (int64_t)s.channels * s.height;
  for (int c = 0; c < b.C; c++)
    for (int64_t row = 0; row < b.rows[c]; row++) {
      const float *xs = fl_ref_in(x, c) + row * size;
      float *ys = fl_ref_out(y, c) + row * size;
      for (int64_t line = 0; line < lines; line++)
        for (int64_t w = 0; w < s.width; w++) {
          int64_t image = line * s.width + w, step = w * lines + line;
          ys[back ? image : step] = xs[back ? step : image];
        }
    }
  return FEDLANE_OK;
}
