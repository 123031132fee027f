#include "samplers.h"

typedef struct uniform_args {
  bool replacement;
} uniform_args;

static bool repeats(const void *args) { return ((const uniform_args *)args)->replacement; }

/* Without replacement: each client in turn is taken with probability (still wanted) / (still to be
 * seen), which makes every subset equally likely and needs no memory (Knuth, The Art of Computer
 * Programming 2, algorithm 3.4.2 S); then the order is shuffled. O(N). */
static void draw_distinct(fl_rng *rng, int32_t N, int32_t M, int32_t *out) {
  int32_t taken = 0;
  for (int32_t i = 0; taken < M; i++)
    if (fl_rng_below(rng, (uint32_t)(N - i)) < (uint32_t)(M - taken)) out[taken++] = i;
  fl_rng_shuffle(rng, out, M);
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
