#include "mix.h"

#include <math.h>
#include <string.h>

static const double bits_a_level = 8;

void fl_mix_open(fl_mix *mix, const fl_ops *ops, fl_dev *dev, int64_t n) {
  memset(mix, 0, sizeof *mix);
  mix->ops = ops;
  mix->dev = dev;
  mix->n = n;
}

void fl_mix_close(fl_mix *mix) {
  for (int k = 0; k < FL_MIX_LEVELS; k++) {
    void *level = mix->level[k];
    if (level) mix->ops->release(mix->dev, &level);
    mix->level[k] = NULL;
  }
}

fl_status fl_mix_begin(fl_mix *mix, int64_t most_weight) {
  int weight_bits = 0;
  while (weight_bits < 62 && (INT64_C(1) << weight_bits) < most_weight) weight_bits++;
  if (weight_bits > 38)
    return fl_fail(FEDLANE_USAGE,
                   "the clients of one round hold %lld examples; at most 2^38 can be mixed exactly",
                   (long long)most_weight);
  mix->bits = 62 - weight_bits;
  mix->total = 0;
  memset(mix->used, 0, sizeof mix->used);
  return FEDLANE_OK;
}

/* Index of the level whose grid holds magnitudes up to peak > 0. */
static int level_of(double peak) {
  int exponent; /* peak < 2^exponent */
  (void)frexp(peak, &exponent);
  return (int)ceil(exponent / bits_a_level) - FL_MIX_LOWEST;
}

/* The exponent of one unit of a level. */
static int unit_exponent(const fl_mix *mix, int level) {
  return (int)bits_a_level * (level + FL_MIX_LOWEST) - mix->bits;
}

/* Makes sure that a level has an accumulator, zeroed for this round. */
static fl_status touch(fl_mix *mix, int level) {
  if (mix->used[level]) return FEDLANE_OK;
  int64_t bytes = mix->n * (int64_t)sizeof(int64_t);
  if (!mix->level[level]) {
    void *at = NULL;
    FL_TRY(mix->ops->alloc(mix->dev, bytes, &at));
    mix->level[level] = (int64_t *)at;
  }
  /* All-zero bits are 0 both as int64 and as float, so fill serves. */
  fl_span all = {(float *)(void *)mix->level[level], 0};
  FL_TRY(mix->ops->fill(mix->dev, 1, 2 * mix->n, 0.0f, all));
  mix->used[level] = true;
  return FEDLANE_OK;
}

enum { LANES_A_CALL = 64 };

fl_status fl_mix_add(fl_mix *mix, int C, fl_cspan x, const int32_t *weight,
                     const fl_measure *measure) {
  for (int first = 0; first < C; first += LANES_A_CALL) {
    double factor[LANES_A_CALL];
    int64_t *acc[LANES_A_CALL];
    int n = C - first < LANES_A_CALL ? C - first : LANES_A_CALL;
    for (int i = 0; i < n; i++) {
      int c = first + i;
      factor[i] = 0;
      acc[i] = NULL;
      if (weight[c] <= 0) continue;
      mix->total += weight[c];
      if (measure[c].peak <= 0) continue;
      int level = level_of(measure[c].peak);
      FL_TRY(touch(mix, level));
      factor[i] = ldexp(weight[c], -unit_exponent(mix, level));
      acc[i] = mix->level[level];
    }
    fl_cspan part = {x.at + first * x.stride, x.stride};
    FL_TRY(mix->ops->mix(mix->dev, n, mix->n, part, factor, acc));
  }
  return FEDLANE_OK;
}

fl_status fl_mix_join(fl_mix *mix, const fl_mix *other) {
  for (int k = 0; k < FL_MIX_LEVELS; k++) {
    if (!other->used[k]) continue;
    FL_TRY(touch(mix, k));
    FL_TRY(mix->ops->add64(mix->dev, mix->n, other->level[k], mix->level[k]));
  }
  mix->total += other->total;
  return FEDLANE_OK;
}

fl_status fl_mix_mean(const fl_mix *mix, float *out) {
  const int64_t *acc[FL_MIX_LEVELS];
  double unit[FL_MIX_LEVELS];
  int n = 0;
  for (int k = 0; k < FL_MIX_LEVELS; k++) {
    if (!mix->used[k]) continue;
    acc[n] = mix->level[k];
    unit[n++] = ldexp(1.0 / (double)mix->total, unit_exponent(mix, k));
  }
  return mix->ops->unmix(mix->dev, mix->n, n, acc, unit, out);
}
