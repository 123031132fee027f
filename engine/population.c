#include <stdlib.h>
#include <string.h>

#include "dataset.h"

fl_status fl_population_from_owner(int32_t n, int64_t n_example, const int32_t *owner,
                                   fl_population *out) {
  memset(out, 0, sizeof *out);
  int64_t *offset = calloc((size_t)n + 2, sizeof *offset), used = 0;
  for (int64_t e = 0; e < n_example; e++) used += owner[e] >= 0;
  int32_t *index = malloc((size_t)(used + 1) * sizeof *index);
  if (!offset || !index) {
    free(offset);
    free(index);
    return fl_fail(FEDLANE_MEMORY, "no memory for %lld examples of %d clients", (long long)used, n);
  }
  /* Client i counts into offset[i+2], so that after the sum offset[i+1] is where it begins; filling
   * moves that on to where it ends. */
  for (int64_t e = 0; e < n_example; e++)
    if (owner[e] >= 0) offset[owner[e] + 2]++;
  for (int32_t i = 0; i < n; i++) offset[i + 2] += offset[i + 1];
  for (int64_t e = 0; e < n_example; e++)
    if (owner[e] >= 0) index[offset[owner[e] + 1]++] = (int32_t)e;
  *out = (fl_population){n, offset, index, NULL};
  return FEDLANE_OK;
}

fl_status fl_population_hold_out(fl_population *p, double share, uint32_t seed) {
  free(p->n_train);
  p->n_train = malloc((size_t)p->n * sizeof *p->n_train);
  if (!p->n_train) return fl_fail(FEDLANE_MEMORY, "no memory for %d clients", p->n);
  for (int32_t i = 0; i < p->n; i++) {
    int32_t size = (int32_t)(p->offset[i + 1] - p->offset[i]), held = (int32_t)(share * size);
    p->n_train[i] = size - held;
    if (held == 0) continue;
    fl_rng rng = fl_rng_open(
        (fl_key){.seed = seed, .purpose = FL_FOR_PARTITION, .client = (uint32_t)i, .layer = 1});
    fl_rng_shuffle(&rng, p->index + p->offset[i], size);
  }
  return FEDLANE_OK;
}

void fl_population_close(fl_population *p) {
  free(p->offset);
  free(p->index);
  free(p->n_train);
  memset(p, 0, sizeof *p);
}

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static void size_skew(const fl_population *p, int64_t *size, fl_skew *out) {
  for (int32_t i = 0; i < p->n; i++) {
    size[i] = p->offset[i + 1] - p->offset[i];
    out->empty += size[i] == 0;
  }
  qsort(size, (size_t)p->n, sizeof *size, ascending);
  out->examples = p->offset[p->n];
  out->smallest = size[0];
  out->median = size[(p->n - 1) / 2];
  out->largest = size[p->n - 1];
}

/* Adds the counted labels of a client's examples to count [classes], and returns how many. */
static int64_t count_labels(const fl_population *p, const fl_dataset *d, int32_t client,
                            int64_t *count) {
  int64_t n = 0;
  for (int64_t k = p->offset[client]; k < p->offset[client + 1]; k++)
    for (int64_t i = 0; i < d->n_label; i++) {
      int32_t label = d->label[p->index[k] * (int64_t)d->n_label + i];
      if (label < 0) continue;
      count[label]++;
      n++;
    }
  return n;
}

/* Total variation is the sum of the positive parts of mix - whole, so only the labels that a client
 * has are visited. whole, count: [classes], zeroed. Clients without examples are left out. */
static void label_skew(const fl_population *p, const fl_dataset *data, int64_t *whole,
                       int64_t *count, fl_skew *out) {
  int64_t all = 0;
  int32_t counted = p->n - out->empty;
  for (int32_t i = 0; i < p->n; i++) all += count_labels(p, data, i, whole);
  for (int32_t i = 0; i < p->n; i++) {
    int64_t own = count_labels(p, data, i, count);
    for (int64_t k = p->offset[i] * data->n_label; k < p->offset[i + 1] * data->n_label; k++) {
      int32_t label =
          data->label[p->index[k / data->n_label] * (int64_t)data->n_label + k % data->n_label];
      if (label < 0 || count[label] == 0) continue;
      double over = (double)count[label] / (double)own - (double)whole[label] / (double)all;
      if (over > 0) out->divergence_mean += over / counted;
      out->classes_mean += 1.0 / counted;
      count[label] = 0;
    }
  }
}

fl_status fl_population_skew(const fl_population *p, const fl_dataset *data, fl_skew *out) {
  memset(out, 0, sizeof *out);
  int64_t *size = malloc((size_t)p->n * sizeof *size);
  int64_t *count = calloc(2 * (size_t)data->classes + 1, sizeof *count);
  if (size && count) {
    size_skew(p, size, out);
    if (data->label) label_skew(p, data, count, count + data->classes, out);
  }
  bool failed = !size || !count;
  free(size);
  free(count);
  return failed ? fl_fail(FEDLANE_MEMORY, "no memory for %d clients", p->n) : FEDLANE_OK;
}
