#include <stdlib.h>
#include <string.h>

#include "partitions.h"

fl_status fl_check_clients(int64_t clients, int64_t least, const fl_dataset *data) {
  if (least == 0 || clients <= data->n_train / least) return FEDLANE_OK;
  return fl_fail(FEDLANE_USAGE,
                 "clients is %lld; each needs at least %lld of the %lld examples, so at most %lld "
                 "are possible",
                 (long long)clients, (long long)least, (long long)data->n_train,
                 (long long)(data->n_train / least));
}

fl_status fl_owner_new(int64_t n, int32_t **out) {
  *out = malloc((size_t)n * sizeof **out);
  if (!*out) return fl_fail(FEDLANE_MEMORY, "no memory to deal %lld examples", (long long)n);
  for (int64_t e = 0; e < n; e++) (*out)[e] = -1;
  return FEDLANE_OK;
}

/* A counting sort of the shuffled cards; label NULL: all are in pile 0. */
static void sort_into_piles(const int32_t *card, int64_t n, const int32_t *label, fl_deck *deck) {
  int64_t *begin = deck->begin;
  for (int64_t e = 0; e < n; e++) begin[(label ? label[e] : 0) + 2]++;
  for (int k = 0; k < deck->piles; k++) begin[k + 2] += begin[k + 1];
  for (int64_t i = 0; i < n; i++) deck->card[begin[(label ? label[card[i]] : 0) + 1]++] = card[i];
}

fl_status fl_deck_open(const fl_dataset *data, bool by_label, fl_rng *rng, fl_deck *out) {
  int64_t n = data->n_train;
  memset(out, 0, sizeof *out);
  if (by_label && !data->label)
    return fl_fail(FEDLANE_USAGE,
                   "this partition deals by label, but the data are for regression; iid, quantity "
                   "and natural need no labels");
  if (by_label && (data->n_label > 1 || data->counted))
    return fl_fail(FEDLANE_USAGE,
                   "this partition deals by label, but the data have several labels an example or "
                   "some that do not count; iid, quantity and natural need no labels");
  out->piles = by_label ? data->classes : 1;
  out->begin = calloc((size_t)out->piles + 2, sizeof *out->begin);
  out->card = malloc((size_t)n * sizeof *out->card);
  int32_t *shuffled = malloc((size_t)n * sizeof *shuffled);
  bool failed = !out->begin || !out->card || !shuffled;
  if (!failed) {
    for (int64_t e = 0; e < n; e++) shuffled[e] = (int32_t)e;
    fl_rng_shuffle(rng, shuffled, n);
    sort_into_piles(shuffled, n, by_label ? data->label : NULL, out);
  }
  free(shuffled);
  if (!failed) return FEDLANE_OK;
  fl_deck_close(out);
  return fl_fail(FEDLANE_MEMORY, "no memory to shuffle %lld examples", (long long)n);
}

void fl_deck_close(fl_deck *deck) {
  free(deck->card);
  free(deck->begin);
  memset(deck, 0, sizeof *deck);
}

/* The highest level that, when all larger clients are cut down to it, frees `wanted` examples. */
static int64_t water_level(int32_t clients, const int64_t *size, int64_t largest, int64_t wanted,
                           int64_t least) {
  int64_t lo = least, hi = largest;
  while (lo < hi) {
    int64_t level = hi - (hi - lo) / 2, freed = 0;
    for (int32_t i = 0; i < clients; i++) freed += size[i] > level ? size[i] - level : 0;
    if (freed >= wanted)
      lo = level;
    else
      hi = level - 1;
  }
  return lo;
}

/* Walks the deck; each card of a client above the level moves on to the next client in need. */
static void pour(int64_t n, int64_t least, int64_t level, int64_t wanted, const int32_t *card,
                 int64_t *size, int32_t *owner) {
  int32_t needy = 0;
  for (int64_t i = 0; i < n && wanted > 0; i++) {
    int32_t *own = &owner[card[i]];
    if (size[*own] <= level) continue;
    while (size[needy] >= least) needy++;
    size[*own]--;
    size[needy]++;
    *own = needy;
    wanted--;
  }
}

fl_status fl_owner_repair(const fl_dataset *data, int32_t clients, int64_t least, fl_rng *rng,
                          int32_t *owner) {
  int64_t *size = calloc((size_t)clients, sizeof *size), n = data->n_train, wanted = 0, largest = 0;
  fl_deck deck = {0};
  fl_status status = FEDLANE_OK;
  if (!size) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory for %d clients", clients));
  for (int64_t e = 0; e < n; e++) size[owner[e]]++;
  for (int32_t i = 0; i < clients; i++) {
    wanted += size[i] < least ? least - size[i] : 0;
    largest = size[i] > largest ? size[i] : largest;
  }
  if (wanted == 0) goto done;
  FL_GO(fl_deck_open(data, false, rng, &deck));
  int64_t level = water_level(clients, size, largest, wanted, least);
  pour(n, least, level, wanted, deck.card, size, owner);
done:
  fl_deck_close(&deck);
  free(size);
  return status;
}
