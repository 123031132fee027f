#include "samplers.h"

static bool repeats(const void *args) {
  (void)args;
  return false;
}

static fl_status draw(const void *args, uint32_t seed, uint32_t round, int32_t N, int32_t M,
                      int32_t *out) {
  (void)args, (void)seed;
  if (M > N)
    return fl_fail(FEDLANE_USAGE, "the cohort is %d; it must lie in 1 .. %d, the population", M, N);
  int64_t first = round > 0 ? (int64_t)(round - 1) * M % N : 0;
  for (int32_t i = 0; i < M; i++) out[i] = (int32_t)((first + i) % N);
  return FEDLANE_OK;
}

const fl_sampler fl_cyclic = {
    .record = {.name = "cyclic",
               .help =
                   "clients in the order of their numbers, going on where the round before ended"},
    .repeats = repeats,
    .draw = draw,
};
