#include <math.h>
#include <string.h>

#include "cpu.h"

/* Images are walked block by block: a vector of 16 channels, or one plane. Either way a block is
 * taken in 16 lanes, element i of it in lane i % 16: a lane is a channel of the vector, or a share
 * of the plane. All sums are in double. */
enum { LANES = 16 };

typedef struct form {
  int beside, blocks, groups, each; /* each: channels a group */
  int64_t block, image;             /* floats */
  double n;                         /* elements a group */
} form;

static form form_of(fl_image s, int groups) {
  int64_t pixels = (int64_t)s.height * s.width;
  form f = {.beside = fl_beside(s.channels), .groups = groups, .each = s.channels / groups};
  f.blocks = s.channels / f.beside;
  f.block = pixels * f.beside;
  f.image = fl_image_size(s);
  f.n = (double)(f.each * pixels);
  return f;
}

/* Lane sums of block i are added to its channels; a channel's number is given to its lanes. */
static void fold(const form *f, int i, const double lane[LANES], double *channel) {
  for (int k = 0; k < LANES; k++) channel[f->beside == 1 ? i : i * LANES + k] += lane[k];
}

static void unfold(const form *f, int i, const double *channel, double lane[LANES]) {
  for (int k = 0; k < LANES; k++) lane[k] = channel[f->beside == 1 ? i : i * LANES + k];
}

/* Sums of x over n floats. */
static void sums(int64_t n, const float *x, double out[LANES]) {
  double s[LANES] = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int k = 0; k < LANES; k++) s[k] += x[i + k];
  for (int k = 0; i < n; i++, k++) s[k] += x[i];
  memcpy(out, s, sizeof s);
}

/* Sums of (x - mean) * (y - shift) over n floats. */
static void products(int64_t n, const float *x, const double mean[LANES], const float *y,
                     const double shift[LANES], double out[LANES]) {
  double s[LANES] = {0}, m[LANES], t[LANES];
  int64_t i = 0;
  memcpy(m, mean, sizeof m);
  memcpy(t, shift, sizeof t);
  for (; i + LANES <= n; i += LANES)
    for (int k = 0; k < LANES; k++) s[k] += (x[i + k] - m[k]) * (y[i + k] - t[k]);
  for (int k = 0; i < n; i++, k++) s[k] += (x[i] - m[k]) * (y[i] - t[k]);
  memcpy(out, s, sizeof s);
}

/* out = (x - mean) * a + y * b + c over n floats, y NULL: without its term. */
static void combine(int64_t n, const float *x, const double mean[LANES], const double a[LANES],
                    const float *y, const double b[LANES], const double c[LANES], float *out) {
  float fm[LANES], fa[LANES], fb[LANES], fc[LANES];
  int64_t i = 0, whole = n / LANES * LANES;
  for (int k = 0; k < LANES; k++) {
    fm[k] = (float)mean[k];
    fa[k] = (float)a[k];
    fb[k] = y ? (float)b[k] : 0;
    fc[k] = (float)c[k];
  }
  for (; !y && i < whole; i += LANES)
    for (int k = 0; k < LANES; k++) out[i + k] = (x[i + k] - fm[k]) * fa[k] + fc[k];
  for (; i < whole; i += LANES)
    for (int k = 0; k < LANES; k++)
      out[i + k] = (x[i + k] - fm[k]) * fa[k] + y[i + k] * fb[k] + fc[k];
  for (int k = 0; i < n; i++, k++) out[i] = (x[i] - fm[k]) * fa[k] + (y ? y[i] * fb[k] : 0) + fc[k];
}

/* Replaces the numbers of each group's channels by their sum. */
static void share(const form *f, double *channel) {
  for (int g = 0; g < f->groups; g++) {
    double sum = 0, *own = channel + g * f->each;
    for (int k = 0; k < f->each; k++) sum += own[k];
    for (int k = 0; k < f->each; k++) own[k] = sum;
  }
}

/* channel: scratch of 3 numbers a channel. */
static void image_fwd(const form *f, const float *x, const float *w, const float *bias, float *y,
                      float *stat, double *channel) {
  int channels = f->groups * f->each;
  double *mean = channel, *factor = mean + channels, *shift = factor + channels;
  double lane[LANES], m[LANES], a[LANES];
  memset(channel, 0, 2 * (size_t)channels * sizeof *channel);
  for (int i = 0; i < f->blocks; i++) {
    sums(f->block, x + i * f->block, lane);
    fold(f, i, lane, mean);
  }
  share(f, mean);
  for (int k = 0; k < channels; k++) mean[k] /= f->n;
  for (int i = 0; i < f->blocks; i++) {
    unfold(f, i, mean, m);
    products(f->block, x + i * f->block, m, x + i * f->block, m, lane);
    fold(f, i, lane, factor);
  }
  share(f, factor);
  for (int k = 0; k < channels; k++) {
    double inverse = 1 / sqrt(factor[k] / f->n + 1e-5);
    stat[k / f->each * 2] = (float)mean[k];
    stat[k / f->each * 2 + 1] = (float)inverse;
    factor[k] = inverse * w[k];
    shift[k] = bias[k];
  }
  for (int i = 0; i < f->blocks; i++) {
    unfold(f, i, mean, m);
    unfold(f, i, factor, a);
    unfold(f, i, shift, lane);
    combine(f->block, x + i * f->block, m, a, NULL, NULL, lane, y + i * f->block);
  }
}

fl_status fl_cpu_gnorm_fwd(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y, fl_span stat) {
  form f = form_of(s, groups);
  void *channel = NULL;
  FL_TRY(fl_cpu_scratch(d, 3 * s.channels * (int64_t)sizeof(double), &channel));
  for (int c = 0; c < b.C; c++)
    for (int64_t row = 0; row < fl_rows_used(b, c); row++)
      image_fwd(&f, fl_lane(x, c) + row * f.image, fl_lane(w, c), fl_lane(bias, c),
                fl_lane_out(y, c) + row * f.image, fl_lane_out(stat, c) + row * groups * 2,
                channel);
  return FEDLANE_OK;
}

/* Sums of dy and of dy * (x - mean) a channel of one image; mean receives the means. */
static void image_sums(const form *f, const float *x, const float *stat, const float *dy,
                       double *mean, double *flow, double *product) {
  const double zero[LANES] = {0};
  int channels = f->groups * f->each;
  double lane[LANES], m[LANES];
  for (int k = 0; k < channels; k++) {
    mean[k] = stat[k / f->each * 2];
    flow[k] = product[k] = 0;
  }
  for (int i = 0; i < f->blocks; i++) {
    sums(f->block, dy + i * f->block, lane);
    fold(f, i, lane, flow);
    unfold(f, i, mean, m);
    products(f->block, x + i * f->block, m, dy + i * f->block, zero, lane);
    fold(f, i, lane, product);
  }
}

/* With m = (x - mean) / deviation and g = dy * w: dx = (g - mean(g) - m * mean(g*m)) / deviation.
 * channel: scratch of 4 numbers a channel. */
static void image_bwd(const form *f, const float *x, const float *w, const float *stat,
                      const float *dy, float *dx, double *channel) {
  int channels = f->groups * f->each;
  double *mean = channel, *flow = mean + channels, *product = flow + channels;
  double *factor = product + channels, m[LANES], a[LANES], b[LANES], c[LANES];
  image_sums(f, x, stat, dy, mean, flow, product);
  for (int k = 0; k < channels; k++) {
    flow[k] *= w[k];
    product[k] *= w[k];
  }
  share(f, flow);
  share(f, product);
  for (int k = 0; k < channels; k++) {
    double inverse = stat[k / f->each * 2 + 1];
    factor[k] = inverse * w[k];
    flow[k] *= -inverse / f->n;
    product[k] *= -inverse * inverse * inverse / f->n;
  }
  for (int i = 0; i < f->blocks; i++) {
    unfold(f, i, mean, m);
    unfold(f, i, product, a);
    unfold(f, i, factor, b);
    unfold(f, i, flow, c);
    combine(f->block, x + i * f->block, m, a, dy + i * f->block, b, c, dx + i * f->block);
  }
}

fl_status fl_cpu_gnorm_bwd_data(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                fl_cspan w, fl_cspan stat, fl_cspan dy, fl_span dx) {
  form f = form_of(s, groups);
  void *channel = NULL;
  FL_TRY(fl_cpu_scratch(d, 4 * s.channels * (int64_t)sizeof(double), &channel));
  for (int c = 0; c < b.C; c++)
    for (int64_t row = 0; row < fl_rows_used(b, c); row++)
      image_bwd(&f, fl_lane(x, c) + row * f.image, fl_lane(w, c),
                fl_lane(stat, c) + row * groups * 2, fl_lane(dy, c) + row * f.image,
                fl_lane_out(dx, c) + row * f.image, channel);
  return FEDLANE_OK;
}

fl_status fl_cpu_gnorm_bwd_weights(fl_dev *d, fl_batch b, fl_image s, int groups, fl_cspan x,
                                   fl_cspan stat, fl_cspan dy, fl_coef scale, fl_span gw,
                                   fl_span gbias) {
  form f = form_of(s, groups);
  void *scratch = NULL;
  FL_TRY(fl_cpu_scratch(d, 5 * s.channels * (int64_t)sizeof(double), &scratch));
  double *mean = scratch, *flow = mean + s.channels, *product = flow + s.channels;
  double *weight = product + s.channels, *bias = weight + s.channels;
  for (int c = 0; c < b.C; c++) {
    double factor = fl_coef_at(scale, c);
    memset(weight, 0, 2 * (size_t)s.channels * sizeof *weight);
    for (int64_t row = 0; row < b.rows[c]; row++) {
      const float *keep = fl_lane(stat, c) + row * groups * 2;
      image_sums(&f, fl_lane(x, c) + row * f.image, keep, fl_lane(dy, c) + row * f.image, mean,
                 flow, product);
      for (int k = 0; k < s.channels; k++) {
        weight[k] += keep[k / f.each * 2 + 1] * product[k];
        bias[k] += flow[k];
      }
    }
    for (int k = 0; k < s.channels; k++) {
      fl_lane_out(gw, c)[k] = (float)(fl_lane_out(gw, c)[k] + factor * weight[k]);
      fl_lane_out(gbias, c)[k] = (float)(fl_lane_out(gbias, c)[k] + factor * bias[k]);
    }
  }
  return FEDLANE_OK;
}
