#include "metrics/metrics.h"

static bool fits(const fl_task *task) { return fl_task_labels(task) || fl_task_logistic(task); }

/* Hits on class labels are counted by the loss. */
static int64_t keeps(const fl_task *task) { return fl_task_labels(task) ? 0 : 1; }

/* Targets whose output lies on their side of one half. */
static void take(const fl_task *task, int64_t example, const float *z, double *kept) {
  const fl_dataset *d = task->data;
  const float *target = d->target + example * d->n_target;
  *kept = 0;
  for (int t = 0; t < d->n_target; t++) *kept += (z[t] > 0) == (target[t] > 0.5f);
}

static fl_status value(const fl_task *task, const fl_scored *of, double *out) {
  if (fl_task_labels(task))
    *out = (double)of->hit / (double)of->asked;
  else
    *out = fl_kept_sum(of) / ((double)of->n * task->data->n_target);
  return FEDLANE_OK;
}

const fl_metric fl_accuracy = {
    .record = {.name = "accuracy", .help = "share of right answers; class labels always have it"},
    .needs = "class labels or the logistic loss",
    .share = true,
    .fits = fits,
    .usual = fl_task_logistic,
    .keeps = keeps,
    .take = take,
    .value = value,
};
