#include <math.h>
#include <string.h>

#include "cpu.h"

/* Phi, the distribution function of the standard normal. */
static float phi(float x) { return 0.5f * erfcf(-x * 0.70710678118654752440f); }

static void value(fl_act kind, int64_t n, const float *x, float *y) {
  switch (kind) {
    case FL_ACT_RELU:
      for (int64_t i = 0; i < n; i++) y[i] = x[i] < 0 ? 0 : x[i];
      break;
    case FL_ACT_TANH:
      for (int64_t i = 0; i < n; i++) y[i] = tanhf(x[i]);
      break;
    case FL_ACT_SIGMOID:
      for (int64_t i = 0; i < n; i++) y[i] = 1 / (1 + expf(-x[i]));
      break;
    case FL_ACT_GELU:
      for (int64_t i = 0; i < n; i++) y[i] = x[i] * phi(x[i]);
      break;
    case FL_ACT_SQUARE:
      for (int64_t i = 0; i < n; i++) y[i] = x[i] * x[i];
      break;
  }
}

/* saved: what the forward pass kept, its output or for GELU and the square its input. */
static void slope(fl_act kind, int64_t n, const float *saved, const float *dy, float *dx) {
  switch (kind) {
    case FL_ACT_RELU:
      for (int64_t i = 0; i < n; i++) dx[i] = saved[i] > 0 ? dy[i] : 0;
      break;
    case FL_ACT_TANH:
      for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * (1 - saved[i] * saved[i]);
      break;
    case FL_ACT_SIGMOID:
      for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * (saved[i] * (1 - saved[i]));
      break;
    case FL_ACT_GELU:
      for (int64_t i = 0; i < n; i++) {
        float s = saved[i], bell = expf(-0.5f * s * s) * 0.39894228040143267794f;
        dx[i] = dy[i] * (phi(s) + s * bell);
      }
      break;
    case FL_ACT_SQUARE:
      for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * (2 * saved[i]);
      break;
  }
}

fl_status fl_cpu_act_fwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan x, fl_span y) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    value(kind, fl_rows_used(b, c) * n, fl_lane(x, c), fl_lane_out(y, c));
  return FEDLANE_OK;
}

fl_status fl_cpu_act_bwd(fl_dev *d, fl_batch b, fl_act kind, int64_t n, fl_cspan saved, fl_cspan dy,
                         fl_span dx) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    slope(kind, fl_rows_used(b, c) * n, fl_lane(saved, c), fl_lane(dy, c), fl_lane_out(dx, c));
  return FEDLANE_OK;
}

enum { DRAWS = 2 * FL_WORDS };

/* The 16-bit draws of 64 words: the low half of a word serves the even element of its pair. */
static void halves(const uint32_t *restrict words, uint32_t *restrict draw) {
  for (int i = 0; i < FL_WORDS; i++) {
    draw[2 * i] = words[i] & 0xFFFF;
    draw[2 * i + 1] = words[i] >> 16;
  }
}

/* y may be x. */
static void drop(int n, const uint32_t *draw, uint32_t threshold, float scale, const float *x,
                 float *y) {
  FL_SIMD
  for (int i = 0; i < n; i++) {
    float kept = x[i] * scale;
    y[i] = draw[i] >= threshold ? kept : 0;
  }
}

fl_status fl_cpu_dropout(fl_dev *d, fl_batch b, int64_t n, float p, const fl_draw *draw, fl_cspan x,
                         fl_span y) {
  (void)d;
  uint32_t threshold = (uint32_t)lround(p * 65536.0), words[FL_WORDS], draws[DRAWS];
  float scale = (float)(1 / (1.0 - p));
  for (int c = 0; c < b.C; c++) {
    int64_t total = fl_rows_used(b, c) * n;
    fl_key key = fl_draw_key(draw, c);
    for (int64_t at = 0; at < total; at += DRAWS) {
      fl_cpu_words(&key, (uint32_t)(at / 8), words);
      halves(words, draws);
      drop(total - at < DRAWS ? (int)(total - at) : DRAWS, draws, threshold, scale,
           fl_lane(x, c) + at, fl_lane_out(y, c) + at);
    }
  }
  return FEDLANE_OK;
}

/* Step S of turning 16 x 16 floats over their diagonal: of each pair of rows that are S apart, the
 * blocks of S columns beside the diagonal change places. S = 1, 2, 4 and 8 turn the whole. */
#define UPPER(S, i) ((i) & (S) ? 16 + (i) - (S) : (i))
#define LOWER(S, i) ((i) & (S) ? 16 + (i) : (i) + (S))
#define FOUR(F, S, i) F(S, i), F(S, (i) + 1), F(S, (i) + 2), F(S, (i) + 3)
#define PICK(F, S, a, b) \
  __builtin_shufflevector(a, b, FOUR(F, S, 0), FOUR(F, S, 4), FOUR(F, S, 8), FOUR(F, S, 12))
#define SWAP(S, v)                         \
  for (int i = 0; i < 16; i++)             \
    if (!(i & (S))) {                      \
      fl_v16 a = (v)[i], b = (v)[i + (S)]; \
      (v)[i] = PICK(UPPER, S, a, b);       \
      (v)[i + (S)] = PICK(LOWER, S, a, b); \
    }

/* y[k, p] = x[p, k] for 16 x 16 floats in rows that are x_row and y_row apart. */
static void turn_block(const float *x, int64_t x_row, float *y, int64_t y_row) {
  fl_v16 v[16];
  for (int i = 0; i < 16; i++) v[i] = *(const fl_v16 *)(x + i * x_row);
  SWAP(1, v)
  SWAP(2, v)
  SWAP(4, v)
  SWAP(8, v)
  for (int i = 0; i < 16; i++) *(fl_v16 *)(y + i * y_row) = v[i];
}

/* Turns [pixels][16] into [16][pixels]. */
static void spread(int64_t pixels, const float *restrict x, float *restrict y) {
  int64_t p = 0;
  for (; p + 16 <= pixels; p += 16) turn_block(x + p * 16, 16, y + p, pixels);
  for (; p < pixels; p++)
    for (int k = 0; k < 16; k++) y[k * pixels + p] = x[p * 16 + k];
}

/* Turns [16][pixels] into [pixels][16]. */
static void collect(int64_t pixels, const float *restrict x, float *restrict y) {
  int64_t p = 0;
  for (; p + 16 <= pixels; p += 16) turn_block(x + p, pixels, y + p * 16, 16);
  for (; p < pixels; p++)
    for (int k = 0; k < 16; k++) y[p * 16 + k] = x[k * pixels + p];
}

fl_status fl_cpu_flatten(fl_dev *d, fl_batch b, fl_image s, bool back, fl_cspan x, fl_span y) {
  (void)d;
  int64_t pixels = (int64_t)s.height * s.width;
  for (int c = 0; c < b.C; c++) {
    int64_t total = fl_rows_used(b, c) * fl_image_size(s);
    const float *xs = fl_lane(x, c);
    float *ys = fl_lane_out(y, c);
    if (fl_beside(s.channels) == 1) memcpy(ys, xs, (size_t)total * sizeof(float));
    if (fl_beside(s.channels) == 1) continue;
    for (int64_t at = 0; at < total; at += 16 * pixels)
      if (back)
        collect(pixels, xs + at, ys + at);
      else
        spread(pixels, xs + at, ys + at);
  }
  return FEDLANE_OK;
}
