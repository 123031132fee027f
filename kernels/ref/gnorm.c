#include <math.h>

#include "ref.h"

/* One group of one image: n consecutive elements, the first of channel `channel`. */
typedef struct group {
  int64_t at, n, plane, stat;
  int channel;
} group;

static group group_of(fl_image s, int groups, int row, int g) {
  int64_t plane = (int64_t)s.height * s.width;
  int channels = s.channels / groups;
  group out = {row * fl_image_size(s) + g * channels * plane, channels * plane, plane,
               2 * ((int64_t)row * groups + g), g * channels};
  return out;
}

static double mean_of(const float *x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += x[i];
  return sum / (double)n;
}

static double variance_of(const float *x, int64_t n, double mean) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
  return sum / (double)n;
}

fl_status fl_ref_gnorm_fwd(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y, fl_span stat) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    const float *ws = fl_ref_in(w, c), *bs = fl_ref_in(bias, c);
    for (int64_t k = 0; k < (int64_t)b.rows[c] * groups; k++) {
      group g = group_of(s, groups, (int)(k / groups), (int)(k % groups));
      const float *xs = fl_ref_in(x, c) + g.at;
      float *ys = fl_ref_out(y, c) + g.at, *keep = fl_ref_out(stat, c) + g.stat;
      double mean = mean_of(xs, g.n), inverse = 1 / sqrt(variance_of(xs, g.n, mean) + 1e-5);
      keep[0] = (float)mean;
      keep[1] = (float)inverse;
      for (int64_t i = 0; i < g.n; i++) {
        int64_t channel = g.channel + i / g.plane;
        ys[i] = (float)((xs[i] - mean) * inverse * ws[channel] + bs[channel]);
      }
    }
  }
  return FEDLANE_OK;
}

/* With n = (x - mean) / deviation and g = dy * w: dx = (g - mean(g) - n * mean(g*n)) / deviation.
 */
static void group_back(group g, const float *x, const float *w, const float *stat, const float *dy,
                       float *dx) {
  double mean = stat[0], inverse = stat[1], sum = 0, product = 0;
  for (int64_t i = 0; i < g.n; i++) {
    double flow = (double)dy[i] * w[g.channel + i / g.plane];
    sum += flow;
    product += flow * (x[i] - mean) * inverse;
  }
  for (int64_t i = 0; i < g.n; i++) {
    double flow = (double)dy[i] * w[g.channel + i / g.plane], normal = (x[i] - mean) * inverse;
    dx[i] = (float)(inverse * (flow - (sum + normal * product) / (double)g.n));
  }
}

fl_status fl_ref_gnorm_bwd_data(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                fl_cspan w, fl_cspan stat, fl_cspan dy, fl_span dx) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    for (int64_t k = 0; k < (int64_t)b.rows[c] * groups; k++) {
      group g = group_of(s, groups, (int)(k / groups), (int)(k % groups));
      group_back(g, fl_ref_in(x, c) + g.at, fl_ref_in(w, c), fl_ref_in(stat, c) + g.stat,
                 fl_ref_in(dy, c) + g.at, fl_ref_out(dx, c) + g.at);
    }
  return FEDLANE_OK;
}

fl_status fl_ref_gnorm_bwd_weights(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                   fl_cspan stat, fl_cspan dy, fl_coef scale, fl_span gw,
                                   fl_span gbias) {
  (void)d;
  int64_t plane = (int64_t)s.height * s.width;
  for (int c = 0; c < b.C; c++)
    for (int k = 0; k < s.channels; k++) {
      double weight = 0, shift = 0, factor = fl_coef_at(scale, c);
      for (int row = 0; row < b.rows[c]; row++) {
        group g = group_of(s, groups, row, k / (s.channels / groups));
        int64_t at = g.at + (k - g.channel) * plane;
        const float *xs = fl_ref_in(x, c) + at, *dys = fl_ref_in(dy, c) + at;
        const float *keep = fl_ref_in(stat, c) + g.stat;
        for (int64_t i = 0; i < plane; i++) {
          weight += ((double)xs[i] - keep[0]) * keep[1] * dys[i];
          shift += dys[i];
        }
      }
      float *gws = fl_ref_out(gw, c) + k, *gbs = fl_ref_out(gbias, c) + k;
      *gws = (float)(*gws + factor * weight);
      *gbs = (float)(*gbs + factor * shift);
    }
  return FEDLANE_OK;
}
