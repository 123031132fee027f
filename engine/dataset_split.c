/* The central test part of data sets that bring none. Each example is marked for training, for the
 * test, or left out; then the data set is made anew from those that stay, in their old order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dataset.h"

enum { TRAIN, TEST, OUT };

static fl_rng rng_of(uint32_t seed) {
  return fl_rng_open((fl_key){.seed = seed, .purpose = FL_FOR_PARTITION, .layer = 2});
}

/* A share of n, at least one and never all. n >= 2. */
static int64_t part_of(double share, int64_t n) {
  int64_t part = llrint(share * (double)n);
  return part < 1 ? 1 : part > n - 1 ? n - 1 : part;
}

/* Marks a share of n things at random. mark: [n], all TRAIN. */
static fl_status draw(int64_t n, double share, uint32_t seed, uint8_t *mark) {
  int32_t *card = malloc((size_t)n * sizeof *card);
  if (!card) return fl_fail(FEDLANE_MEMORY, "no memory to draw from %lld", (long long)n);
  fl_rng rng = rng_of(seed);
  for (int64_t i = 0; i < n; i++) card[i] = (int32_t)i;
  fl_rng_shuffle(&rng, card, (int32_t)n);
  for (int64_t i = part_of(share, n) - 1; i >= 0; i--) mark[card[i]] = TEST;
  free(card);
  return FEDLANE_OK;
}

static fl_status by_client(const fl_dataset *d, double share, uint32_t seed, uint8_t *mark) {
  if (!d->client || d->n_client < 2)
    return fl_fail(FEDLANE_USAGE,
                   "data.split.by is client, which needs two clients in the data; these have %d",
                   d->client ? d->n_client : 0);
  uint8_t *held = calloc((size_t)d->n_client, sizeof *held);
  if (!held) return fl_fail(FEDLANE_MEMORY, "no memory for %d clients", d->n_client);
  fl_status status = draw(d->n_client, share, seed, held);
  for (int64_t e = 0; e < d->n_train; e++) mark[e] = held[d->client[e]];
  free(held);
  return status;
}

/* The last examples of each client; all are one client's where none are known. One that has too few
 * for a training example, the gap and the test keeps all for training. */
static fl_status by_time(const fl_dataset *d, double share, int64_t gap, uint8_t *mark) {
  int32_t n = d->client ? d->n_client : 1;
  int64_t *size = calloc(2 * (size_t)n, sizeof *size), *seen = size + n;
  if (!size) return fl_fail(FEDLANE_MEMORY, "no memory for %d clients", n);
  for (int64_t e = 0; e < d->n_train; e++) size[d->client ? d->client[e] : 0]++;
  for (int64_t e = 0; e < d->n_train; e++) {
    int32_t i = d->client ? d->client[e] : 0;
    int64_t test = llrint(share * (double)size[i]), left = size[i] - seen[i]++;
    if (test == 0 || size[i] - test <= gap) continue;
    mark[e] = left <= test ? TEST : left <= test + gap ? OUT : TRAIN;
  }
  free(size);
  return FEDLANE_OK;
}

static fl_status mark_all(const fl_dataset *d, const fl_split *how, uint32_t seed, uint8_t *mark) {
  if (how->by == FL_SPLIT_CLIENT) return by_client(d, how->share, seed, mark);
  if (how->by == FL_SPLIT_TIME) return by_time(d, how->share, how->gap, mark);
  return draw(d->n_train, how->share, seed, mark);
}

static void copy_example(const fl_dataset *from, int64_t e, fl_dataset *to, int64_t at) {
  size_t row = (size_t)fl_image_size(to->image) * (to->bytes ? 1 : sizeof(float));
  size_t labels = (size_t)to->n_label, targets = (size_t)to->n_target;
  memcpy((char *)to->x + (size_t)at * row, (const char *)from->x + (size_t)e * row, row);
  if (to->label)
    memcpy(to->label + (size_t)at * labels, from->label + (size_t)e * labels, 4 * labels);
  else
    memcpy(to->target + (size_t)at * targets, from->target + (size_t)e * targets, 4 * targets);
}

/* Those who still train get the numbers 0 .. n-1, in their old order. */
static fl_status number_clients(const fl_dataset *from, const uint8_t *mark, fl_dataset *to) {
  int32_t *number = calloc((size_t)from->n_client, sizeof *number);
  to->client = malloc((size_t)to->n_train * sizeof *to->client);
  if (!number || !to->client) {
    free(number);
    return fl_fail(FEDLANE_MEMORY, "no memory for %d clients", from->n_client);
  }
  for (int64_t e = 0; e < from->n_train; e++)
    if (mark[e] == TRAIN) number[from->client[e]] = 1;
  for (int32_t i = 0; i < from->n_client; i++)
    if (number[i]) number[i] = to->n_client++;
  for (int64_t e = 0, at = 0; e < from->n_train; e++)
    if (mark[e] == TRAIN) to->client[at++] = number[from->client[e]];
  free(number);
  return FEDLANE_OK;
}

/* Makes *d anew from its training examples. */
static fl_status remake(fl_dataset *d, const uint8_t *mark) {
  fl_dataset made = *d;
  fl_status status;
  int64_t at[] = {0, 0}, n[] = {0, 0};
  for (int64_t e = 0; e < d->n_train; e++)
    if (mark[e] != OUT) n[mark[e]]++;
  made.n_train = at[TEST] = n[TRAIN];
  made.n_test = n[TEST];
  made.n_client = 0;
  made.x = made.map = NULL;
  made.label = made.counted = made.client = NULL;
  made.target = made.unit = made.shift = made.scale = NULL;
  made.notice = NULL;
  FL_GO(fl_dataset_alloc(&made));
  for (int64_t e = 0; e < d->n_train; e++)
    if (mark[e] != OUT) copy_example(d, e, &made, at[mark[e]]++);
  if (d->client) FL_GO(number_clients(d, mark, &made));
  made.unit = d->unit;
  made.notice = d->notice;
  d->unit = NULL;
  d->notice = NULL;
  fl_dataset_close(d);
  *d = made;
  return FEDLANE_OK;
done:
  fl_dataset_close(&made);
  return status;
}

fl_status fl_dataset_split(fl_dataset *d, const fl_split *how, uint32_t seed) {
  if (how->by == FL_SPLIT_NONE) return FEDLANE_OK;
  if (d->n_test > 0 && !how->replace)
    return fl_fail(FEDLANE_USAGE,
                   "data.split is to make a test part, but the data bring one of %lld examples; "
                   "data.split.replace leaves that out",
                   (long long)d->n_test);
  if (d->n_train < 2)
    return fl_fail(FEDLANE_DATA, "one example cannot be split into training and test");
  uint8_t *mark = calloc((size_t)d->n_train, sizeof *mark);
  if (!mark)
    return fl_fail(FEDLANE_MEMORY, "no memory to split %lld examples", (long long)d->n_train);
  fl_status status = mark_all(d, how, seed, mark);
  if (status == FEDLANE_OK && !memchr(mark, TEST, (size_t)d->n_train))
    status = fl_fail(FEDLANE_USAGE,
                     "data.split leaves the test without an example: no client has enough for a "
                     "share of %g and a gap of %lld",
                     how->share, (long long)how->gap);
  if (status == FEDLANE_OK) status = remake(d, mark);
  free(mark);
  return status;
}
