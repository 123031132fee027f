#include <math.h>

#include "ref.h"

/* How one row is cut out of its padded image: offsets of the cut, -crop .. crop, and the flip. */
typedef struct cut {
  int down, right;
  bool flip;
} cut;

static int offset(uint32_t word, int crop) {
  return (int)((uint64_t)word * (uint32_t)(2 * crop + 1) >> 32) - crop;
}

static cut draw_cut(const fl_source *source, const fl_draw *draw, int lane, int row) {
  cut none = {0, 0, false};
  if (source->crop == 0 && !source->flip) return none;
  fl_key key = fl_draw_key(draw, lane);
  fl_words words = fl_rng_block(&key, (uint32_t)row);
  cut drawn = {offset(words.v[0], source->crop), offset(words.v[1], source->crop),
               source->flip && (words.v[2] & 1)};
  return drawn;
}

/* Value i of an example that is neither cropped nor flipped. */
static double value(const fl_source *source, int64_t example, int64_t i) {
  fl_image s = source->image;
  int64_t at = example * fl_image_size(s) + i, channel = i / (s.height * s.width) % s.channels;
  double x = source->bytes ? ((const uint8_t *)source->x)[at] : ((const float *)source->x)[at];
  return (x - source->shift[channel]) * source->scale[channel];
}

static double pixel(const fl_source *source, int64_t example, int channel, int h, int w) {
  fl_image s = source->image;
  if (h < 0 || h >= s.height || w < 0 || w >= s.width) return 0;
  return value(source, example, ((int64_t)channel * s.height + h) * s.width + w);
}

static void gather_image(const fl_source *source, int64_t example, cut cut, float *x) {
  fl_image s = source->image;
  for (int64_t i = 0; s.steps > 0 && i < fl_image_size(s); i++)
    x[i] = (float)value(source, example, i);
  if (s.steps > 0) return;
  for (int k = 0; k < s.channels; k++)
    for (int h = 0; h < s.height; h++)
      for (int w = 0; w < s.width; w++) {
        int column = cut.flip ? s.width - 1 - w : w;
        *x++ = (float)pixel(source, example, k, h + cut.down, column + cut.right);
      }
}

fl_status fl_ref_gather(fl_dev *d, fl_batch b, const fl_source *source, const int32_t *index,
                        int64_t index_stride, const fl_draw *draw, fl_span x, int32_t *label,
                        fl_span target) {
  (void)d;
  int64_t size = fl_image_size(source->image);
  int T = source->n_target, L = source->n_label;
  for (int c = 0; c < b.C; c++)
    for (int row = 0; row < b.B; row++) {
      bool live = row < b.rows[c];
      int64_t example = live ? index[c * index_stride + row] : -1;
      float *image = fl_ref_out(x, c) + row * size;
      if (live) gather_image(source, example, draw_cut(source, draw, c, row), image);
      for (int64_t i = 0; !live && i < size; i++) image[i] = 0;
      for (int i = 0; label && i < L; i++)
        label[((int64_t)c * b.B + row) * L + i] = live ? source->label[example * L + i] : -1;
      for (int t = 0; target.at && t < T; t++)
        fl_ref_out(target, c)[(int64_t)row * T + t] = live ? source->target[example * T + t] : 0;
    }
  return FEDLANE_OK;
}

static uint32_t word(const fl_key *key, int64_t i) {
  return fl_rng_block(key, (uint32_t)(i / 4)).v[i % 4];
}

fl_status fl_ref_normal(fl_dev *d, int C, int64_t n, const fl_draw *draw, fl_coef deviation,
                        fl_span x) {
  (void)d;
  const float two_pi = 6.28318530717958647692f;
  for (int c = 0; c < C; c++) {
    fl_key key = fl_draw_key(draw, c);
    for (int64_t i = 0; i < n; i++) {
      float radius = sqrtf(-2 * logf(fl_unit_float(word(&key, i / 2 * 2))));
      float angle = two_pi * fl_unit_float(word(&key, i / 2 * 2 + 1));
      fl_ref_out(x, c)[i] +=
          fl_coef_at(deviation, c) * radius * (i % 2 ? sinf(angle) : cosf(angle));
    }
  }
  return FEDLANE_OK;
}

fl_status fl_ref_uniform(fl_dev *d, int C, int64_t n, const fl_draw *draw, float lo, float hi,
                         fl_span x) {
  (void)d;
  for (int c = 0; c < C; c++) {
    fl_key key = fl_draw_key(draw, c);
    for (int64_t i = 0; i < n; i++)
      fl_ref_out(x, c)[i] = lo + (hi - lo) * fl_unit_float(word(&key, i));
  }
  return FEDLANE_OK;
}
