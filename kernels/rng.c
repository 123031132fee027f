#include "rng.h"

#include <math.h>

static const double two_pi = 6.283185307179586476925;

fl_rng fl_rng_open(fl_key key) {
  fl_rng rng = {key, 0, 4, {{0}}};
  return rng;
}

uint32_t fl_rng_u32(fl_rng *rng) {
  if (rng->used == 4) {
    rng->words = fl_rng_block(&rng->key, rng->block++);
    rng->used = 0;
  }
  return rng->words.v[rng->used++];
}

/* Multiply-shift (Lemire, 1805.10941): the product's high half is the number, and the few low
 * halves that would make some numbers likelier are drawn again. */
uint32_t fl_rng_below(fl_rng *rng, uint32_t bound) {
  uint64_t product = (uint64_t)fl_rng_u32(rng) * bound;
  if ((uint32_t)product < bound) { /* most draws need no division */
    uint32_t refused = (0u - bound) % bound;
    while ((uint32_t)product < refused) product = (uint64_t)fl_rng_u32(rng) * bound;
  }
  return (uint32_t)(product >> 32);
}

/* The odd multiples of 2^-53: 52 random bits and a half, all exact, never 0 or 1. */
double fl_rng_unit(fl_rng *rng) {
  uint64_t high = fl_rng_u32(rng) >> 6, low = fl_rng_u32(rng) >> 6;
  return ((double)(high << 26 | low) + 0.5) * 0x1p-52;
}

double fl_rng_normal(fl_rng *rng) {
  double radius = sqrt(-2 * log(fl_rng_unit(rng)));
  return radius * cos(two_pi * fl_rng_unit(rng));
}

/* The accepted cube d*v of Marsaglia and Tsang, "A simple method for generating gamma variables"
 * (2000), doi:10.1145/358407.358414; shape >= 1. */
static double gamma_from_one(fl_rng *rng, double shape) {
  double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
  for (;;) {
    double x = fl_rng_normal(rng), v = 1 + c * x;
    double u = fl_rng_unit(rng);
    if (v <= 0) continue;
    v = v * v * v;
    if (log(u) < x * x / 2 + d - d * v + d * log(v)) return d * v;
  }
}

double fl_rng_log_gamma(fl_rng *rng, double shape) {
  if (shape >= 1) return log(gamma_from_one(rng, shape));
  double whole = log(gamma_from_one(rng, shape + 1));
  return whole + log(fl_rng_unit(rng)) / shape;
}

double fl_rng_gamma(fl_rng *rng, double shape) {
  return shape >= 1 ? gamma_from_one(rng, shape) : exp(fl_rng_log_gamma(rng, shape));
}

void fl_rng_shuffle(fl_rng *rng, int32_t *item, int64_t n) {
  for (int64_t i = n - 1; i > 0; i--) {
    int64_t j = fl_rng_below(rng, (uint32_t)(i + 1));
    int32_t held = item[i];
    item[i] = item[j];
    item[j] = held;
  }
}
