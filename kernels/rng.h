/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011,
 * doi:10.1145/2063384.2063405).
 *
 * There is no state. A number is a function of who draws it and why, so nothing has to be saved or
 * kept in order: the same (seed, purpose, round, client, nth, step, layer, element) gives the same
 * bits on every backend, for every wave width, thread count and arrival order.
 *
 *   key     = { seed, purpose | nth << 8 }
 *   counter = { block, step | layer << 24, client, round }
 *
 * One call yields 4 words of 32 bits. Which word serves which element is said at each use:
 *   32-bit draws:  element i uses word i % 4 of block i / 4
 *   16-bit draws:  element i uses half i % 8 of block i / 8 (half 2j is the low half of word j) */
#ifndef FL_RNG_H
#define FL_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __CUDACC__
#define FL_HD __host__ __device__
#else
#define FL_HD
#endif

typedef enum fl_purpose {
  FL_FOR_INIT = 1,  /* model weights; client word: 0 */
  FL_FOR_PARTITION, /* dealing examples to clients */
  FL_FOR_SAMPLE,    /* choosing a round's cohort */
  FL_FOR_SHUFFLE,   /* a client's order of examples; step: epoch */
  FL_FOR_AUGMENT,   /* crop and flip; element: row */
  FL_FOR_DROPOUT,
  FL_FOR_NOISE, /* privacy noise and other filters */
  FL_FOR_DATA,  /* synthetic data */
} fl_purpose;

/* Everything but the element. seed, round, client: 32 bits; nth (occurrence of a client within one
 * cohort, 0 first) and step: 24 bits; layer and purpose: 8 bits. */
typedef struct fl_key {
  uint32_t seed, purpose, round, client, nth, step, layer;
} fl_key;

typedef struct fl_words {
  uint32_t v[4];
} fl_words;

static inline FL_HD void fl_philox_round(uint32_t c[4], uint32_t k0, uint32_t k1) {
  uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
  uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
  c[1] = (uint32_t)p1;
  c[3] = (uint32_t)p0;
  c[0] = n0;
  c[2] = n2;
}

/* The raw generator, checked in the tests against the published vectors. */
static inline FL_HD fl_words fl_philox(const uint32_t counter[4], uint32_t k0, uint32_t k1) {
  fl_words out = {{counter[0], counter[1], counter[2], counter[3]}};
  for (int i = 0; i < 10; i++) {
    fl_philox_round(out.v, k0, k1);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return out;
}

/* Block `block` of the stream that key names. */
static inline FL_HD fl_words fl_rng_block(const fl_key *key, uint32_t block) {
  uint32_t counter[4] = {block, key->step | key->layer << 24, key->client, key->round};
  return fl_philox(counter, key->seed, key->purpose | key->nth << 8);
}

/* A 32-bit word to a float in (0, 1): the odd multiples of 2^-24, all exact, never 0 or 1. */
static inline FL_HD float fl_unit_float(uint32_t word) {
  return ((float)(word >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

/* Host side: a cursor over a stream, for code that draws one number after another. */
typedef struct fl_rng {
  fl_key key;
  uint32_t block, used; /* used: words of `words` already given, 4 at the start */
  fl_words words;
} fl_rng;

fl_rng fl_rng_open(fl_key key);
uint32_t fl_rng_u32(fl_rng *rng);
/* Uniform in 0 .. bound-1 without bias; bound >= 1. */
uint32_t fl_rng_below(fl_rng *rng, uint32_t bound);
/* Uniform in (0, 1), 53 bits. */
double fl_rng_unit(fl_rng *rng);
/* Standard normal by Box-Muller, one of each pair. */
double fl_rng_normal(fl_rng *rng);
/* Gamma(shape, 1) by Marsaglia and Tsang (2000); shape > 0, also below 1. May underflow to 0. */
double fl_rng_gamma(fl_rng *rng, double shape);
/* The natural logarithm of a Gamma(shape, 1) draw: finite where fl_rng_gamma would underflow. */
double fl_rng_log_gamma(fl_rng *rng, double shape);
/* Fisher-Yates shuffle of n integers in place. */
void fl_rng_shuffle(fl_rng *rng, int32_t *item, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
