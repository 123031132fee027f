#include <math.h>

#include "cpu.h"

/* Sums of one image, a channel each, in double: of x, of squares about a mean, or of products. */
typedef struct walk {
  int64_t pixels;
  int channels, beside;
} walk;

static walk walk_of(fl_image s) {
  walk out = {(int64_t)s.height * s.width, s.channels, fl_beside(s.channels)};
  return out;
}

static int64_t channel_at(walk v, int k) {
  return k / v.beside * v.pixels * v.beside + k % v.beside;
}

/* Sum over one channel's pixels of a*b, where a = x - about, and b = a when `by` is NULL. */
static double channel_sum(walk v, const float *x, double about, const float *by) {
  double sum = 0;
  for (int64_t p = 0; p < v.pixels; p++) {
    double a = x[p * v.beside] - about;
    sum += by ? a * by[p * v.beside] : a * a;
  }
  return sum;
}

static double channel_total(walk v, const float *x) {
  double sum = 0;
  for (int64_t p = 0; p < v.pixels; p++) sum += x[p * v.beside];
  return sum;
}

/* y = x * factor + shift over one channel. */
static void channel_map(walk v, const float *x, float factor, float shift, float *y) {
  for (int64_t p = 0; p < v.pixels; p++) y[p * v.beside] = x[p * v.beside] * factor + shift;
}

static void image_fwd(walk v, int groups, const float *x, const float *w, const float *bias,
                      float *y, float *stat) {
  int each = v.channels / groups;
  double n = (double)(each * v.pixels);
  for (int g = 0; g < groups; g++) {
    double mean = 0, variance = 0;
    for (int k = g * each; k < (g + 1) * each; k++) mean += channel_total(v, x + channel_at(v, k));
    mean /= n;
    for (int k = g * each; k < (g + 1) * each; k++)
      variance += channel_sum(v, x + channel_at(v, k), mean, NULL);
    double inverse = 1 / sqrt(variance / n + 1e-5);
    stat[2 * g] = (float)mean;
    stat[2 * g + 1] = (float)inverse;
    for (int k = g * each; k < (g + 1) * each; k++) {
      double factor = inverse * w[k];
      channel_map(v, x + channel_at(v, k), (float)factor, (float)(bias[k] - mean * factor),
                  y + channel_at(v, k));
    }
  }
}

fl_status fl_cpu_gnorm_fwd(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y, fl_span stat) {
  (void)d;
  int64_t size = fl_image_size(s);
  for (int c = 0; c < b.C; c++)
    for (int64_t row = 0; row < fl_rows_used(b, c); row++)
      image_fwd(walk_of(s), groups, fl_lane(x, c) + row * size, fl_lane(w, c), fl_lane(bias, c),
                fl_lane_out(y, c) + row * size, fl_lane_out(stat, c) + row * groups * 2);
  return FEDLANE_OK;
}

/* With m = (x - mean) / deviation and g = dy * w: dx = (g - mean(g) - m * mean(g*m)) / deviation,
 * which is dy * (w * inverse) - x * slope - shift for numbers that belong to the group. */
static void image_bwd(walk v, int groups, const float *x, const float *w, const float *stat,
                      const float *dy, float *dx) {
  int each = v.channels / groups;
  double n = (double)(each * v.pixels);
  for (int g = 0; g < groups; g++) {
    double mean = stat[2 * g], inverse = stat[2 * g + 1], sum = 0, product = 0;
    for (int k = g * each; k < (g + 1) * each; k++) {
      int64_t at = channel_at(v, k);
      sum += w[k] * channel_total(v, dy + at);
      product += w[k] * channel_sum(v, x + at, mean, dy + at) * inverse;
    }
    float slope = (float)(inverse * inverse * product / n);
    float shift = (float)(inverse * (sum - mean * inverse * product) / n);
    for (int k = g * each; k < (g + 1) * each; k++) {
      int64_t at = channel_at(v, k);
      float factor = (float)(inverse * w[k]);
      for (int64_t p = 0; p < v.pixels * v.beside; p += v.beside)
        dx[at + p] = dy[at + p] * factor - x[at + p] * slope - shift;
    }
  }
}

fl_status fl_cpu_gnorm_bwd_data(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                fl_cspan w, fl_cspan stat, fl_cspan dy, fl_span dx) {
  (void)d;
  int64_t size = fl_image_size(s);
  for (int c = 0; c < b.C; c++)
    for (int64_t row = 0; row < fl_rows_used(b, c); row++)
      image_bwd(walk_of(s), groups, fl_lane(x, c) + row * size, fl_lane(w, c),
                fl_lane(stat, c) + row * groups * 2, fl_lane(dy, c) + row * size,
                fl_lane_out(dx, c) + row * size);
  return FEDLANE_OK;
}

fl_status fl_cpu_gnorm_bwd_weights(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                   fl_cspan stat, fl_cspan dy, fl_coef scale, fl_span gw,
                                   fl_span gbias) {
  (void)d;
  walk v = walk_of(s);
  int64_t size = fl_image_size(s);
  for (int c = 0; c < b.C; c++)
    for (int k = 0; k < s.channels; k++) {
      double weight = 0, shift = 0, factor = fl_coef_at(scale, c);
      for (int64_t row = 0; row < fl_rows_used(b, c); row++) {
        const float *keep = fl_lane(stat, c) + 2 * (row * groups + k / (s.channels / groups));
        const float *dys = fl_lane(dy, c) + row * size + channel_at(v, k);
        weight +=
            keep[1] * channel_sum(v, fl_lane(x, c) + row * size + channel_at(v, k), keep[0], dys);
        shift += channel_total(v, dys);
      }
      float *gws = fl_lane_out(gw, c) + k, *gbs = fl_lane_out(gbias, c) + k;
      *gws = (float)(*gws + factor * weight);
      *gbs = (float)(*gbs + factor * shift);
    }
  return FEDLANE_OK;
}
