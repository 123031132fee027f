/* Samplers: who is drawn, how often, and from what. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "dataset.h"
#include "suite.h"

static const fl_sampler *find(const char *name) {
  const fl_record *record = fl_catalogue_find(&fl_samplers, name);
  CU_ASSERT_PTR_NOT_NULL_FATAL(record);
  return (const fl_sampler *)record;
}

static void draws_distinct_clients(void) {
  const fl_sampler *s = find("uniform");
  fl_args args = fl_args_of(&s->record);
  const int32_t sizes[][2] = {{1, 1},      {2, 1},     {7, 7},     {100, 1},     {1000, 100},
                              {1000, 999}, {1000, 62}, {1000, 63}, {20000, 1250}};
  static int32_t out[2000];
  static bool seen[20000];
  CU_ASSERT(!s->repeats(args.at));
  for (int i = 0; i < 9; i++)
    for (uint32_t round = 1; round < 20; round++) {
      int32_t N = sizes[i][0], M = sizes[i][1];
      CU_ASSERT_EQUAL(s->draw(args.at, 1, round, N, M, out), FEDLANE_OK);
      memset(seen, 0, sizeof seen);
      for (int32_t k = 0; k < M; k++) {
        CU_ASSERT_FATAL(out[k] >= 0 && out[k] < N);
        CU_ASSERT(!seen[out[k]]);
        seen[out[k]] = true;
      }
    }
}

static void depends_on_seed_and_round(void) {
  const fl_sampler *s = find("uniform");
  fl_args args = fl_args_of(&s->record);
  int32_t a[50], b[50];
  for (int replacement = 0; replacement < 2; replacement++) {
    fl_args_set(&args, "replacement", replacement);
    s->draw(args.at, 4, 9, 1000, 50, a);
    s->draw(args.at, 4, 9, 1000, 50, b);
    CU_ASSERT_EQUAL(memcmp(a, b, sizeof a), 0);
    s->draw(args.at, 5, 9, 1000, 50, b);
    CU_ASSERT_NOT_EQUAL(memcmp(a, b, sizeof a), 0);
    s->draw(args.at, 4, 10, 1000, 50, b);
    CU_ASSERT_NOT_EQUAL(memcmp(a, b, sizeof a), 0);
  }
}

/* Over R rounds client i comes up in place k about R/N times: a binomial count, within 5 of its
 * deviations for every client and place. */
static void counts_are_even(const fl_sampler *s, const void *args, int32_t N) {
  enum { M = 4, R = 20000 };
  static int count[100][M];
  const double share = 1.0 / N, deviation = sqrt(R * share * (1 - share));
  memset(count, 0, sizeof count);
  for (uint32_t round = 0; round < R; round++) {
    int32_t out[M];
    s->draw(args, 2, round, N, M, out);
    for (int k = 0; k < M; k++) count[out[k]][k]++;
  }
  for (int i = 0; i < N; i++)
    for (int k = 0; k < M; k++) CU_ASSERT_DOUBLE_EQUAL(count[i][k], R * share, 5 * deviation);
}

static void is_uniform(void) {
  const fl_sampler *s = find("uniform");
  fl_args args = fl_args_of(&s->record);
  for (int replacement = 0; replacement < 2; replacement++) {
    fl_args_set(&args, "replacement", replacement);
    counts_are_even(s, args.at, 10);
    counts_are_even(s, args.at, 100);
  }
}

/* Each of the 780 pairs of 40 clients is a cohort of two as often as any other. */
static void pairs_are_even(void) {
  enum { N = 40, M = 2, R = 78000 };
  const fl_sampler *s = find("uniform");
  fl_args args = fl_args_of(&s->record);
  static int count[N][N];
  const double share = 2.0 / (N * (N - 1)), deviation = sqrt(R * share * (1 - share));
  memset(count, 0, sizeof count);
  for (uint32_t round = 0; round < R; round++) {
    int32_t out[M];
    s->draw(args.at, 3, round, N, M, out);
    count[out[0] < out[1] ? out[0] : out[1]][out[0] < out[1] ? out[1] : out[0]]++;
  }
  for (int i = 0; i < N; i++)
    for (int k = i + 1; k < N; k++) CU_ASSERT_DOUBLE_EQUAL(count[i][k], R * share, 5 * deviation);
}

/* Of 50 draws with replacement from 1,000 clients, 1,225 pairs meet with chance 1/1000 each. */
static void replacement_repeats(void) {
  const fl_sampler *s = find("uniform");
  fl_args args = fl_args_of(&s->record);
  fl_args_set(&args, "replacement", 1);
  CU_ASSERT(s->repeats(args.at));
  int pairs = 0;
  for (uint32_t round = 0; round < 1000; round++) {
    int32_t out[50];
    CU_ASSERT_EQUAL(s->draw(args.at, 1, round, 1000, 50, out), FEDLANE_OK);
    for (int i = 0; i < 50; i++)
      for (int k = 0; k < i; k++) pairs += out[i] == out[k];
  }
  CU_ASSERT_DOUBLE_EQUAL(pairs, 1225, 5 * sqrt(1225));
  int32_t many[20];
  CU_ASSERT_EQUAL(s->draw(args.at, 1, 1, 3, 20, many), FEDLANE_OK);
  for (int i = 0; i < 20; i++) CU_ASSERT(many[i] >= 0 && many[i] < 3);
}

static void refuses_too_large_a_cohort(void) {
  int32_t out[11];
  for (int i = 0; i < fl_samplers.n; i++) {
    const fl_sampler *s = (const fl_sampler *)fl_samplers.entry[i];
    fl_args args = fl_args_of(&s->record);
    CU_ASSERT_EQUAL(s->draw(args.at, 1, 1, 10, 11, out), FEDLANE_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "11"));
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "1 .. 10"));
  }
}

static void cyclic_goes_round(void) {
  const fl_sampler *s = find("cyclic");
  int32_t out[10];
  int count[10] = {0};
  CU_ASSERT(!s->repeats(NULL));
  for (uint32_t round = 1; round <= 10; round++) {
    CU_ASSERT_EQUAL(s->draw(NULL, 1, round, 10, 3, out), FEDLANE_OK);
    for (int32_t k = 0; k < 3; k++) {
      CU_ASSERT_EQUAL(out[k], ((int32_t)(round - 1) * 3 + k) % 10);
      count[out[k]]++;
    }
  }
  for (int i = 0; i < 10; i++) CU_ASSERT_EQUAL(count[i], 3);
  CU_ASSERT_EQUAL(s->draw(NULL, 1, 7, 10, 10, out), FEDLANE_OK);
  for (int i = 0; i < 10; i++) CU_ASSERT_EQUAL(out[i], i);
}

static const fl_test tests[] = {
    {"draws distinct clients", draws_distinct_clients},
    {"depends on seed and round", depends_on_seed_and_round},
    {"is uniform", is_uniform},
    {"pairs are even", pairs_are_even},
    {"replacement repeats", replacement_repeats},
    {"refuses too large a cohort", refuses_too_large_a_cohort},
    {"cyclic goes round", cyclic_goes_round},
};

FL_SUITE_MAIN("samplers", tests)
