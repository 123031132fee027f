#include <stdlib.h>

#include "samplers.h"

typedef struct uniform_args {
  bool replacement;
} uniform_args;

static bool repeats(const void *args) { return ((const uniform_args *)args)->replacement; }

/* Each client in turn is taken with probability (still wanted) / (still to be seen), which makes
 * every subset equally likely and needs no memory (Knuth, The Art of Computer Programming 2,
 * algorithm 3.4.2 S). O(N). */
static void pick_in_turn(fl_rng *rng, int32_t N, int32_t M, int32_t *out) {
  int32_t taken = 0;
  for (int32_t i = 0; taken < M; i++)
    if (fl_rng_below(rng, (uint32_t)(N - i)) < (uint32_t)(M - taken)) out[taken++] = i;
}

static int ascending(const void *a, const void *b) {
  const int32_t *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

/* Draws with replacement until M different clients have come, by symmetry any M with equal chance.
 * As many are drawn at a time as are missing, so there are never more. O(M log M). */
static void pick_anywhere(fl_rng *rng, int32_t N, int32_t M, int32_t *out) {
  for (int32_t n = 0; n < M;) {
    for (int32_t i = n; i < M; i++) out[i] = (int32_t)fl_rng_below(rng, (uint32_t)N);
    qsort(out, (size_t)M, sizeof *out, ascending);
    n = 0;
    for (int32_t i = 0; i < M; i++)
      if (n == 0 || out[i] != out[n - 1]) out[n++] = out[i];
  }
}

/* A cohort that is a small part of its population, so that hardly anybody is drawn twice. */
static bool is_sparse(int32_t N, int32_t M) { return M <= N / 16; }

static void draw_distinct(fl_rng *rng, int32_t N, int32_t M, int32_t *out) {
  (is_sparse(N, M) ? pick_anywhere : pick_in_turn)(rng, N, M, out);
  fl_rng_shuffle(rng, out, M); /* both leave them in order */
}

static fl_status draw(const void *args, uint32_t seed, uint32_t round, int32_t N, int32_t M,
                      int32_t *out) {
  fl_rng rng = fl_rng_open((fl_key){.seed = seed, .purpose = FL_FOR_SAMPLE, .round = round});
  if (repeats(args)) {
    for (int32_t i = 0; i < M; i++) out[i] = (int32_t)fl_rng_below(&rng, (uint32_t)N);
    return FEDLANE_OK;
  }
  if (M > N)
    return fl_fail(FEDLANE_USAGE,
                   "the cohort is %d; without replacement it must lie in 1 .. %d, the population",
                   M, N);
  draw_distinct(&rng, N, M, out);
  return FEDLANE_OK;
}

static const fl_param params[] = {
    {.name = "replacement",
     .type = FL_BOOL,
     .offset = offsetof(uniform_args, replacement),
     .dflt = 0,
     .help = "draw each client from the whole population, so that it may come twice"},
};

const fl_sampler fl_uniform = {
    .record = {.name = "uniform",
               .help = "clients at random, all equally likely",
               .args_size = sizeof(uniform_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .repeats = repeats,
    .draw = draw,
};
