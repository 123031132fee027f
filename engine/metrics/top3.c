#include "metrics/metrics.h"

enum { PLACES = 3 };

/* The place of a class among the logits, from 1; of equal ones the first comes first, and one that
 * is no number comes last. */
static int place_of(const float *z, int classes, int label) {
  int place = 0;
  for (int k = 0; k < classes; k++) place += !(z[k] < z[label] || (z[k] == z[label] && k > label));
  return place;
}

static void take(const fl_task *task, int64_t example, const float *z, double *kept) {
  const fl_dataset *d = task->data;
  const int32_t *label = d->label + example * d->n_label;
  *kept = 0;
  for (int i = 0; i < d->n_label; i++)
    if (label[i] >= 0)
      *kept += place_of(z + (int64_t)i * d->classes, d->classes, label[i]) <= PLACES;
}

static fl_status value(const fl_task *task, const fl_scored *of, double *out) {
  (void)task;
  *out = fl_kept_sum(of) / (double)of->asked;
  return FEDLANE_OK;
}

const fl_metric fl_top3 = {
    .record = {.name = "top3", .help = "share of labels among the three likeliest classes"},
    .needs = "class labels",
    .share = true,
    .fits = fl_task_labels,
    .usual = fl_task_never,
    .keeps = fl_keep_one,
    .take = take,
    .value = value,
};
