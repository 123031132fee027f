#include "rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "suite.h"

static fl_rng stream(uint32_t client) {
  fl_key key = {1, FL_FOR_DATA, 2, client, 3, 4, 5};
  return fl_rng_open(key);
}

/* The vectors that the generator's authors publish with Random123 (kat_vectors, philox4x32 10). */
static void test_published_vectors(void) {
  static const struct {
    uint32_t counter[4], key[2], want[4];
  } known[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (int i = 0; i < 3; i++) {
    fl_words got = fl_philox(known[i].counter, known[i].key[0], known[i].key[1]);
    CU_ASSERT_EQUAL(memcmp(got.v, known[i].want, sizeof got.v), 0);
  }
}

/* The layout of key and counter is a promise: stored runs depend on it. */
static void test_layout(void) {
  const fl_key key = {11, FL_FOR_SHUFFLE, 22, 33, 44, 55, 66};
  const uint32_t counter[4] = {7, 55 | 66u << 24, 33, 22};
  fl_words got = fl_rng_block(&key, 7), want = fl_philox(counter, 11, FL_FOR_SHUFFLE | 44 << 8);
  CU_ASSERT_EQUAL(memcmp(got.v, want.v, sizeof got.v), 0);
}

static void test_cursor_walks_blocks(void) {
  fl_rng rng = stream(9);
  for (uint32_t i = 0; i < 20; i++)
    CU_ASSERT_EQUAL(fl_rng_u32(&rng), fl_rng_block(&rng.key, i / 4).v[i % 4]);
}

/* Each part of the key alone starts another stream. */
static void test_streams_are_apart(void) {
  fl_key key[8];
  fl_words words[8];
  for (int i = 0; i < 8; i++) key[i] = (fl_key){1, 2, 3, 4, 5, 6, 7};
  key[1].seed++, key[2].purpose++, key[3].round++, key[4].client++;
  key[5].nth++, key[6].step++, key[7].layer++;
  for (int i = 0; i < 8; i++) words[i] = fl_rng_block(&key[i], 0);
  for (int i = 0; i < 8; i++)
    for (int j = 0; j < i; j++)
      for (int k = 0; k < 4; k++) CU_ASSERT_NOT_EQUAL(words[i].v[k], words[j].v[k]);
}

static void test_unit_is_open(void) {
  CU_ASSERT(fl_unit_float(0) > 0 && fl_unit_float(0xFFFFFFFF) < 1);
  CU_ASSERT_EQUAL(fl_unit_float(0), 0x1p-24f);
  CU_ASSERT(fl_unit_float(0x80000000) > 0.5f && fl_unit_float(0x7FFFFFFF) < 0.5f);
}

/* n draws of `draw`: the mean lies within five deviations of `mean`, and so does the variance,
 * given the fourth central moment of the distribution. */
static void moments(double (*draw)(fl_rng *), double mean, double variance, double fourth) {
  enum { N = 100000 };
  fl_rng rng = stream(1);
  double *x = malloc(N * sizeof *x), sum = 0, sum2 = 0;
  CU_ASSERT_PTR_NOT_NULL_FATAL(x);
  for (int i = 0; i < N; i++) sum += x[i] = draw(&rng);
  for (int i = 0; i < N; i++) sum2 += (x[i] - mean) * (x[i] - mean);
  CU_ASSERT(fabs(sum / N - mean) < 5 * sqrt(variance / N));
  CU_ASSERT(fabs(sum2 / N - variance) < 5 * sqrt((fourth - variance * variance) / N));
  free(x);
}

/* Gamma(a, 1): mean a, variance a, fourth central moment 3a^2 + 6a. */
static double gamma_tenth(fl_rng *rng) { return fl_rng_gamma(rng, 0.1); }
static double gamma_one(fl_rng *rng) { return fl_rng_gamma(rng, 1); }
static double gamma_seven(fl_rng *rng) { return fl_rng_gamma(rng, 7.5); }
static double gamma_of_log(fl_rng *rng) { return exp(fl_rng_log_gamma(rng, 0.5)); }

static void test_moments(void) {
  moments(fl_rng_unit, 0.5, 1.0 / 12, 1.0 / 80);
  moments(fl_rng_normal, 0, 1, 3);
  moments(gamma_tenth, 0.1, 0.1, 3 * 0.01 + 0.6);
  moments(gamma_one, 1, 1, 9);
  moments(gamma_seven, 7.5, 7.5, 3 * 56.25 + 45);
  moments(gamma_of_log, 0.5, 0.5, 0.75 + 3);
}

/* E[log Gamma(a)] is digamma(a), which is about -1/a for small a: finite where the draw itself is
 * 0. Its variance is trigamma(a), about 1/a^2. */
static void test_log_gamma_of_tiny_shapes(void) {
  enum { N = 4000 };
  fl_rng rng = stream(2);
  double sum = 0;
  for (int i = 0; i < N; i++) sum += fl_rng_log_gamma(&rng, 1e-4);
  CU_ASSERT(isfinite(sum));
  CU_ASSERT(fabs(sum / N + 1e4) < 5 * 1e4 / sqrt(N));
  CU_ASSERT(fl_rng_gamma(&rng, 1e-4) >= 0);
}

static void test_below(void) {
  enum { N = 60000, BOUND = 6 };
  fl_rng rng = stream(3);
  int count[BOUND] = {0}, high = 0;
  for (int i = 0; i < N; i++) {
    uint32_t drawn = fl_rng_below(&rng, BOUND);
    CU_ASSERT_FATAL(drawn < BOUND);
    count[drawn]++;
  }
  for (int i = 0; i < BOUND; i++)
    CU_ASSERT(fabs(count[i] - N / 6.0) < 5 * sqrt(N * (1 / 6.0) * (5 / 6.0)));
  /* Just above 2^31 a plain remainder would give numbers below 2^30 twice as often. */
  for (int i = 0; i < N; i++) high += fl_rng_below(&rng, 0x80000001u) < 0x40000000u;
  CU_ASSERT(fabs(high - N / 2.0) < 5 * sqrt(N / 4.0));
  for (int i = 0; i < 10; i++) CU_ASSERT_EQUAL(fl_rng_below(&rng, 1), 0);
}

/* A shuffle keeps every item, and each of the 24 orders of four is as likely as the others. */
static void test_shuffle(void) {
  enum { N = 24000 };
  fl_rng rng = stream(4);
  int count[256] = {0}, orders = 0;
  for (int i = 0; i < N; i++) {
    int32_t item[4] = {0, 1, 2, 3};
    fl_rng_shuffle(&rng, item, 4);
    CU_ASSERT_EQUAL_FATAL(1 << item[0] | 1 << item[1] | 1 << item[2] | 1 << item[3], 15);
    count[item[0] | item[1] << 2 | item[2] << 4 | item[3] << 6]++;
  }
  for (int i = 0; i < 256; i++) {
    orders += count[i] > 0;
    CU_ASSERT(count[i] == 0 || abs(count[i] - N / 24) < 5 * sqrt(N / 24));
  }
  CU_ASSERT_EQUAL(orders, 24);
  fl_rng_shuffle(&rng, NULL, 0);
}

static const fl_test tests[] = {
    {"published vectors", test_published_vectors},
    {"layout of key and counter", test_layout},
    {"cursor walks blocks", test_cursor_walks_blocks},
    {"streams are apart", test_streams_are_apart},
    {"unit is open", test_unit_is_open},
    {"moments", test_moments},
    {"log gamma of tiny shapes", test_log_gamma_of_tiny_shapes},
    {"below", test_below},
    {"shuffle", test_shuffle},
};

FL_SUITE_MAIN("rng", tests)
