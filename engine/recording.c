/* What a recording of local training is known by. */
#include <string.h>

#include "run.h"

/* SplitMix64's finisher (doi:10.1145/2660193.2660195): every bit of the value reaches all bits. */
static uint64_t stir(uint64_t key, uint64_t value) {
  uint64_t z = (key ^ value) + UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
  return z ^ z >> 31;
}

static uint64_t stir_real(uint64_t key, double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return stir(key, bits);
}

/* Whether what the host puts into local training differs from round to round: random numbers that
 * the device draws, or how many answers the examples of a step ask for. */
static bool differs(const fedlane_run *run, const fl_station *s) {
  return fl_model_about(run->model)->draws || s->source.crop > 0 || s->source.flip ||
         run->data.counted;
}

uint64_t fl_recording_key(const fedlane_run *run, const fl_station *s, int n, int piece) {
  const fl_lanes *l = &s->lanes;
  bool fresh = differs(run, s);
  uint64_t key = stir(stir((uint64_t)n, (uint64_t)piece), (uint64_t)s->first);
  key = stir(stir(stir_real(key, l->lr), (uintptr_t)l->w.at), (uintptr_t)s->index);
  if (fresh) key = stir(stir(key, (uint64_t)run->config->general.seed), (uint64_t)run->round);
  for (int c = s->first; c < s->first + n; c++) {
    key = stir(key, (uint64_t)l->n_example[c] << 32 | (uint32_t)s->n_piece[c]);
    if (fresh) key = stir(key, (uint64_t)l->client[c] << 32 | l->nth[c]);
  }
  return key;
}
