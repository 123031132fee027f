#include "mix.h"

#include <math.h>
#include <string.h>

#include "backend.h"

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
  void *arrived = mix->arrived;
  if (arrived) mix->ops->release(mix->dev, &arrived);
  mix->arrived = NULL;
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

/* Index of the level whose grid holds magnitudes up to peak > 0. A factor can take them below the
 * smallest float, and so below the lowest grid, which holds them too. */
static int level_of(double peak) {
  int exponent; /* peak < 2^exponent */
  (void)frexp(peak, &exponent);
  return (int)fmax(0, ceil(exponent / bits_a_level) - FL_MIX_LOWEST);
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

void fl_mix_count(fl_mix *mix, int C, const int32_t *weight) {
  for (int c = 0; c < C; c++) mix->total += weight[c];
}

enum { LANES_A_CALL = 64 };

/* The lanes of one call: what an element is multiplied with, and the sums that it joins. */
typedef struct grid {
  int first, n;
  double factor[LANES_A_CALL];
  int64_t *acc[LANES_A_CALL];
} grid;

static fl_status make_grid(fl_mix *mix, const fl_summand *s, int first, grid *g) {
  g->first = first;
  g->n = s->C - first < LANES_A_CALL ? s->C - first : LANES_A_CALL;
  for (int i = 0; i < g->n; i++) {
    int c = first + i;
    double scale = s->scale ? s->scale[c] : 1, peak = s->measure[c].peak * fabs(scale);
    g->factor[i] = 0;
    g->acc[i] = NULL;
    if (s->weight[c] <= 0 || peak <= 0) continue;
    int level = level_of(peak);
    FL_TRY(touch(mix, level));
    g->factor[i] = scale * ldexp(s->weight[c], -unit_exponent(mix, level));
    g->acc[i] = mix->level[level] + s->at;
  }
  return FEDLANE_OK;
}

static fl_cspan lanes_from(fl_cspan s, int first) {
  s.at += first * s.stride;
  return s;
}

fl_status fl_mix_add(fl_mix *mix, const fl_summand *s, fl_cspan x) {
  grid g;
  for (int first = 0; first < s->C; first += LANES_A_CALL) {
    FL_TRY(make_grid(mix, s, first, &g));
    FL_TRY(mix->ops->mix(mix->dev, g.n, s->n, lanes_from(x, first), g.factor, g.acc));
  }
  return FEDLANE_OK;
}

fl_status fl_mix_add_product(fl_mix *mix, const fl_summand *s, fl_batch b, int I, int O, fl_cspan x,
                             fl_cspan d) {
  grid g;
  for (int first = 0; first < s->C; first += LANES_A_CALL) {
    FL_TRY(make_grid(mix, s, first, &g));
    fl_batch some = {g.n, b.B, b.rows + first};
    FL_TRY(mix->ops->product_mix(mix->dev, some, I, O, lanes_from(x, first), lanes_from(d, first),
                                 g.factor, g.acc));
  }
  return FEDLANE_OK;
}

const int64_t *fl_mix_level(const fl_mix *mix, int level) {
  return mix->used[level] ? mix->level[level] : NULL;
}

void fl_mix_weigh(fl_mix *mix, int64_t weight) { mix->total += weight; }

/* Numbers where the device can read them. */
static fl_status bring(fl_mix *mix, int64_t n, const int64_t **sum) {
  void *at = mix->arrived;
  if (mix->ops->host) return FEDLANE_OK;
  if (!at) FL_TRY(mix->ops->alloc(mix->dev, FL_MIX_ARRIVED * (int64_t)sizeof(int64_t), &at));
  mix->arrived = (int64_t *)at;
  FL_TRY(mix->ops->upload(mix->dev, at, *sum, n * (int64_t)sizeof(int64_t)));
  *sum = mix->arrived;
  return FEDLANE_OK;
}

double fl_mix_unit(const fl_mix *mix, int64_t weight) {
  return ldexp(1.0 / (double)weight, -mix->bits);
}

bool fl_mix_fits(const fl_mix *mix, int64_t n, const int64_t *sum, int64_t weight) {
  int64_t most = weight << mix->bits, largest = 0, least = 0;
  for (int64_t i = 0; i < n; i++) {
    largest = sum[i] > largest ? sum[i] : largest;
    least = sum[i] < least ? sum[i] : least;
  }
  return largest <= most && least >= -most;
}

fl_status fl_mix_add_level(fl_mix *mix, int level, int64_t at, int64_t n, const int64_t *sum) {
  FL_TRY(touch(mix, level));
  for (int64_t i = 0; i < n; i += FL_MIX_ARRIVED) {
    int64_t some = n - i < FL_MIX_ARRIVED ? n - i : FL_MIX_ARRIVED;
    const int64_t *from = sum + i;
    FL_TRY(bring(mix, some, &from));
    FL_TRY(mix->ops->add64(mix->dev, some, from, mix->level[level] + at + i));
    if (!mix->ops->host) FL_TRY(mix->ops->sync(mix->dev));
  }
  return FEDLANE_OK;
}

fl_status fl_mix_add_whole(fl_mix *mix, int level, const int64_t *sum) {
  FL_TRY(touch(mix, level));
  return mix->ops->add64(mix->dev, mix->n, sum, mix->level[level]);
}

/* One level of mixes that can read each other's memory. */
static fl_status join_near(int n, fl_mix *const *mix, int level) {
  fl_mix *all = mix[0];
  for (int i = 1; i < n; i++) {
    if (!mix[i]->used[level]) continue;
    FL_TRY(touch(all, level));
    FL_TRY(all->ops->add64(all->dev, all->n, mix[i]->level[level], all->level[level]));
  }
  return FEDLANE_OK;
}

/* One level of mixes on a device each. A collective wants all of them, so those that have not used
 * the level bring zeros. */
static fl_status join_far(int n, fl_mix *const *mix, int level) {
  fl_dev *dev[FL_DEVICES_MAX];
  int64_t *x[FL_DEVICES_MAX];
  bool used = false;
  for (int i = 0; i < n; i++) used = used || mix[i]->used[level];
  if (!used) return FEDLANE_OK;
  for (int i = 0; i < n; i++) {
    FL_TRY(touch(mix[i], level));
    dev[i] = mix[i]->dev;
    x[i] = mix[i]->level[level];
  }
  return mix[0]->ops->gather64(n, dev, mix[0]->n, x);
}

fl_status fl_mix_join(int n, fl_mix *const *mix) {
  bool near = n == 1 || mix[0]->ops->host || mix[0]->dev == mix[1]->dev;
  for (int k = 0; k < FL_MIX_LEVELS; k++) FL_TRY(near ? join_near(n, mix, k) : join_far(n, mix, k));
  for (int i = 1; i < n; i++) {
    mix[0]->total += mix[i]->total;
    mix[i]->total = 0;
    memset(mix[i]->used, 0, sizeof mix[i]->used);
  }
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
