#include <math.h>
#include <string.h>

#include "ref.h"

/* Phi, the distribution function of the standard normal. */
static double phi(double x) { return erfc(-x * 0.70710678118654752440) / 2; }

static double value(fl_act kind, double x) {
  switch (kind) {
    case FL_ACT_RELU:
      return x < 0 ? 0 : x;
    case FL_ACT_TANH:
      return tanh(x);
    case FL_ACT_SIGMOID:
      return 1 / (1 + exp(-x));
    case FL_ACT_GELU:
      return x * phi(x);
    case FL_ACT_SQUARE:
      return x * x;
  }
  return NAN;
}

/* The derivative, from what the forward pass saved: its output, or for GELU and the
 * square its input. */
static double slope(fl_act kind, double saved) {
  switch (kind) {
    case FL_ACT_RELU:
      return saved > 0 ? 1 : 0;
    case FL_ACT_TANH:
      return 1 - saved * saved;
    case FL_ACT_SIGMOID:
      return saved * (1 - saved);
    case FL_ACT_GELU:
      return phi(saved) + saved * exp(-saved * saved / 2) * 0.39894228040143267794;
    case FL_ACT_SQUARE:
      return 2 * saved;
  }
  return NAN;
}

fl_status fl_ref_act_fwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan x, fl_span y) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    for (int64_t i = 0; i < b.rows[c] * n; i++)
      fl_ref_out(y, c)[i] = (float)value(kind, fl_ref_in(x, c)[i]);
  return FEDLANE_OK;
}

fl_status fl_ref_act_bwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan saved, fl_cspan dy,
                         fl_span dx) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    for (int64_t i = 0; i < b.rows[c] * n; i++)
      fl_ref_out(dx, c)[i] = (float)(fl_ref_in(dy, c)[i] * slope(kind, fl_ref_in(saved, c)[i]));
  return FEDLANE_OK;
}

static bool kept(const fl_key *key, int64_t i, uint32_t threshold) {
  uint32_t word = fl_rng_block(key, (uint32_t)(i / 8)).v[i % 8 / 2];
  return (i % 2 ? word >> 16 : word & 0xFFFF) >= threshold;
}

fl_status fl_ref_dropout(fl_dev *d, fl_batch b, int64_t n, float p, const fl_draw *draw, fl_cspan x,
                         fl_span y) {
  (void)d;
  uint32_t threshold = (uint32_t)lround(p * 65536.0);
  for (int c = 0; c < b.C; c++) {
    fl_key key = fl_draw_key(draw, c);
    for (int64_t i = 0; i < b.rows[c] * n; i++)
      fl_ref_out(y, c)[i] =
          kept(&key, i, threshold) ? (float)(fl_ref_in(x, c)[i] / (1.0 - p)) : 0.0f;
  }
  return FEDLANE_OK;
}

fl_status fl_ref_flatten(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y) {
  (void)d;
  (void)back;
  for (int c = 0; c < b.C; c++)
    memcpy(fl_ref_out(y, c), fl_ref_in(x, c),
           (size_t)(b.rows[c] * fl_image_size(s)) * sizeof(float));
  return FEDLANE_OK;
}
