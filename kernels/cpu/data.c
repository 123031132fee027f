#include <math.h>
#include <string.h>

#include "cpu.h"

/* One round of fl_philox_round on 8 counters side by side, each word in the lower half of 64 bits;
 * the upper halves hold anything. */
static inline void turn(fl_v8 c[4], uint64_t k0, uint64_t k1) {
  fl_v8 p0 = FL_MUL32(c[0], 0xD2511F53u), p1 = FL_MUL32(c[2], 0xCD9E8D57u);
  c[0] = (p1 >> 32) ^ c[1] ^ k0;
  c[2] = (p0 >> 32) ^ c[3] ^ k1;
  c[1] = p1;
  c[3] = p0;
}

/* The words of 8 blocks, in order; a pair of words is one integer with the second above. */
static inline void words_of(const fl_v8 c[4], uint32_t *words) {
  fl_v8 low = (c[0] & 0xFFFFFFFFu) | c[1] << 32, high = (c[2] & 0xFFFFFFFFu) | c[3] << 32;
  fl_v8 first = __builtin_shufflevector(low, high, 0, 8, 1, 9, 2, 10, 3, 11);
  fl_v8 second = __builtin_shufflevector(low, high, 4, 12, 5, 13, 6, 14, 7, 15);
  memcpy(words, &first, sizeof first);
  memcpy(words + 16, &second, sizeof second);
}

void fl_cpu_words(const fl_key *key, uint32_t first, uint32_t words[FL_WORDS]) {
  enum { PARTS = FL_WORDS / 32 };
  const fl_v8 zero = {0}, count = {0, 1, 2, 3, 4, 5, 6, 7};
  fl_v8 c[PARTS][4];
  uint32_t k0 = key->seed, k1 = key->purpose | key->nth << 8;
  for (uint32_t i = 0; i < PARTS; i++) {
    c[i][0] = count + (first + 8 * i);
    c[i][1] = zero + (key->step | key->layer << 24);
    c[i][2] = zero + key->client;
    c[i][3] = zero + key->round;
  }
  for (int i = 0; i < 10; i++) {
    for (int part = 0; part < PARTS; part++) turn(c[part], k0, k1);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < PARTS; i++) words_of(c[i], words + 32 * i);
}

/* How one image is cut out of its padded self: offsets -crop .. crop, and the flip. */
typedef struct cut {
  int down, right;
  bool flip;
} cut;

static cut cut_draw(const fl_source *source, const fl_draw *draw, int lane, int row) {
  cut out = {0, 0, false};
  if (source->crop == 0 && !source->flip) return out;
  fl_key key = fl_draw_key(draw, lane);
  fl_words words = fl_rng_block(&key, (uint32_t)row);
  uint32_t places = 2 * (uint32_t)source->crop + 1;
  out.down = (int)((uint64_t)words.v[0] * places >> 32) - source->crop;
  out.right = (int)((uint64_t)words.v[1] * places >> 32) - source->crop;
  out.flip = source->flip && (words.v[2] & 1);
  return out;
}

/* The same as below for bytes in whole vectors side by side, where the processor has such; returns
 * how many pixels those were. Compilers make better code of the loop below than of parts. */
static int normalise_bytes(int n, const uint8_t *byte, float shift, float scale, float *out) {
  int i = 0;
#ifdef __AVX512F__
  for (fl_v16 pixel; i + 16 <= n; i += 16) {
    fl_load_bytes(byte + i, &pixel);
    *(fl_v16 *)(out + i) = (pixel - FL_ALL(shift)) * FL_ALL(scale);
  }
#else
  (void)n, (void)byte, (void)shift, (void)scale, (void)out;
#endif
  return i;
}

/* out[i * beside] = (in[i] - shift) * scale over n pixels. */
static void normalise(const fl_source *source, int64_t at, int n, int channel, int beside,
                      float *restrict out) {
  float shift = source->shift[channel], scale = source->scale[channel];
  const uint8_t *byte = (const uint8_t *)source->x + at;
  const float *real = (const float *)source->x + at;
  int done = source->bytes && beside == 1 ? normalise_bytes(n, byte, shift, scale, out) : 0;
  if (source->bytes)
    for (int i = done; i < n; i++) out[i * beside] = ((float)byte[i] - shift) * scale;
  else
    for (int i = 0; i < n; i++) out[i * beside] = (real[i] - shift) * scale;
}

/* One line of one channel, cut and flipped; out[w * beside]. */
static void gather_line(const fl_source *source, int64_t example, int channel, int h, cut cut,
                        int beside, float *restrict out) {
  fl_image s = source->image;
  int from = cut.right > 0 ? 0 : -cut.right; /* columns of the cut that lie inside the image */
  int to = cut.right > 0 ? s.width - cut.right : s.width;
  bool inside = h >= 0 && h < s.height && from < to;
  if (!inside) from = to = s.width;
  for (int w = 0; w < from; w++) out[w * beside] = 0;
  for (int w = to; w < s.width; w++) out[w * beside] = 0;
  int64_t line = ((example * s.channels + channel) * s.height + h) * s.width;
  if (inside)
    normalise(source, line + from + cut.right, to - from, channel, beside, out + from * beside);
  for (int w = 0; cut.flip && w < s.width / 2; w++) {
    float left = out[w * beside], *right = &out[(s.width - 1 - w) * beside];
    out[w * beside] = *right;
    *right = left;
  }
}

/* Sequences keep their order; the channels change fastest. */
static void gather_sequence(const fl_source *source, int64_t example, float *x) {
  int F = source->image.channels;
  int64_t at = example * fl_image_size(source->image);
  for (int t = 0; t < source->image.steps; t++, x += F, at += F)
    for (int k = 0; k < F; k++) normalise(source, at + k, 1, k, 1, x + k);
}

static void gather_image(const fl_source *source, int64_t example, cut cut, float *x) {
  fl_image s = source->image;
  if (s.steps > 0) {
    gather_sequence(source, example, x);
    return;
  }
  int beside = fl_beside(s.channels);
  int64_t plane = (int64_t)s.height * s.width;
  if (cut.down == 0 && cut.right == 0 && !cut.flip && plane <= INT32_MAX) {
    for (int k = 0; k < s.channels; k++)
      normalise(source, (example * s.channels + k) * plane, (int)plane, k, beside,
                x + k / beside * beside * plane + k % beside);
    return;
  }
  for (int k = 0; k < s.channels; k++)
    for (int h = 0; h < s.height; h++)
      gather_line(source, example, k, h + cut.down, cut, beside,
                  x + (k / beside * plane + (int64_t)h * s.width) * beside + k % beside);
}

/* An example's place in the data set is anywhere. */
INLINE void fetch_image(const fl_source *source, int64_t example) {
  int64_t bytes = fl_image_size(source->image) * (source->bytes ? 1 : (int64_t)sizeof(float));
  fl_ask((const char *)source->x + example * bytes, bytes);
}

void fl_cpu_fetch(fl_dev *d, const fl_source *source, int n, const int32_t *index) {
  (void)d;
  for (int i = 0; i < n && i < FL_CPU_AHEAD; i++) fetch_image(source, index[i]);
  for (int i = 0; i < n && source->label; i++)
    fl_ask(source->label + index[i] * (int64_t)source->n_label, sizeof(int32_t));
}

fl_status fl_cpu_gather(fl_dev *d, fl_batch b, const fl_source *source, const int32_t *index,
                        int64_t index_stride, const fl_draw *draw, fl_span x, int32_t *label,
                        fl_span target) {
  (void)d;
  int64_t size = fl_image_size(source->image), T = source->n_target, L = source->n_label;
  for (int c = 0; c < b.C; c++) {
    int live = b.rows[c];
    float *xs = x.at ? fl_lane_out(x, c) : NULL, *goal = target.at ? fl_lane_out(target, c) : NULL;
    const int32_t *rows = index + c * index_stride;
    for (int row = 0; xs && row < live && row < FL_CPU_AHEAD; row++) fetch_image(source, rows[row]);
    for (int row = 0; row < live; row++) {
      int64_t example = rows[row];
      if (xs && row + FL_CPU_AHEAD < live) fetch_image(source, rows[row + FL_CPU_AHEAD]);
      if (xs) gather_image(source, example, cut_draw(source, draw, c, row), xs + row * size);
      for (int64_t i = 0; label && i < L; i++)
        label[(c * (int64_t)b.B + row) * L + i] = source->label[example * L + i];
      for (int64_t t = 0; goal && t < T; t++) goal[row * T + t] = source->target[example * T + t];
    }
    if (xs) memset(xs + live * size, 0, (size_t)((b.B - live) * size) * sizeof(float));
    for (int64_t i = live * L; label && i < b.B * L; i++) label[c * b.B * L + i] = -1;
    if (goal) memset(goal + live * T, 0, (size_t)((b.B - live) * T) * sizeof(float));
  }
  return FEDLANE_OK;
}

/* Elementary functions without branches, so that a loop over them becomes vector code. The
 * coefficients are those of Moshier's Cephes library for floats; errors are 2 units in the last
 * place. */

/* The natural logarithm of 2^-126 < x < 1. */
static inline float log_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  float power = (float)((int32_t)(bits >> 23) - 126), m;
  bits = (bits & 0x7FFFFF) | 0x3F000000; /* 0.5 <= m < 1 */
  memcpy(&m, &bits, sizeof m);
  bool low = m < 0.70710678f;
  power = low ? power - 1 : power;
  m = low ? m + m - 1 : m - 1;
  float p = 7.0376836292e-2f, z = m * m;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  float tail = p * m * z - 2.12194440e-4f * power - 0.5f * z;
  return m + tail + 0.693359375f * power;
}

/* Cosine and sine of 0 <= angle < 2 pi. */
static inline void turn_of(float angle, float *cosine, float *sine) {
  int32_t quarter = (int32_t)(angle * 0.63661977236758134308f + 0.5f);
  float q = (float)quarter;
  float r = ((angle - q * 1.5703125f) - q * 4.837512969970703125e-4f) - q * 7.54978995489188216e-8f;
  float z = r * r;
  float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * r + r;
  float c = (2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f;
  c = c * z * z - 0.5f * z + 1;
  float across = quarter & 1 ? s : c, along = quarter & 1 ? c : s;
  *cosine = (quarter + 1) & 2 ? -across : across;
  *sine = quarter & 2 ? -along : along;
}

/* Box-Muller on the pairs of 64 words: even elements the cosine, odd ones the sine. */
static void normal_block(const uint32_t words[FL_WORDS], float out[FL_WORDS]) {
  const float two_pi = 6.28318530717958647692f;
  float cosine[FL_WORDS / 2], sine[FL_WORDS / 2];
  for (int i = 0; i < FL_WORDS / 2; i++) {
    float radius = sqrtf(-2 * log_of(fl_unit_float(words[2 * i]))), c, s;
    turn_of(two_pi * fl_unit_float(words[2 * i + 1]), &c, &s);
    cosine[i] = radius * c;
    sine[i] = radius * s;
  }
  for (int i = 0; i < FL_WORDS / 2; i++) {
    out[2 * i] = cosine[i];
    out[2 * i + 1] = sine[i];
  }
}

fl_status fl_cpu_normal(fl_dev *d, int C, int64_t n, const fl_draw *draw, fl_coef deviation,
                        fl_span x) {
  (void)d;
  for (int c = 0; c < C; c++) {
    fl_key key = fl_draw_key(draw, c);
    float *xs = fl_lane_out(x, c), factor = fl_coef_at(deviation, c);
    for (int64_t at = 0; at < n; at += FL_WORDS) {
      int m = n - at < FL_WORDS ? (int)(n - at) : FL_WORDS;
      uint32_t words[FL_WORDS];
      float value[FL_WORDS];
      fl_cpu_words(&key, (uint32_t)(at / 4), words);
      normal_block(words, value);
      for (int i = 0; i < m; i++) xs[at + i] += factor * value[i];
    }
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_uniform(fl_dev *d, int C, int64_t n, const fl_draw *draw, float lo, float hi,
                         fl_span x) {
  (void)d;
  for (int c = 0; c < C; c++) {
    fl_key key = fl_draw_key(draw, c);
    float *xs = fl_lane_out(x, c);
    for (int64_t at = 0; at < n; at += FL_WORDS) {
      int m = n - at < FL_WORDS ? (int)(n - at) : FL_WORDS;
      uint32_t words[FL_WORDS];
      fl_cpu_words(&key, (uint32_t)(at / 4), words);
      for (int i = 0; i < m; i++) xs[at + i] = lo + (hi - lo) * fl_unit_float(words[i]);
    }
  }
  return FEDLANE_OK;
}
