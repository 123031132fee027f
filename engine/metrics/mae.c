#include <math.h>

#include "metrics/metrics.h"

static void take(const fl_task *task, int64_t example, const float *z, double *kept) {
  *kept = 0;
  for (int t = 0; t < task->data->n_target; t++) *kept += fabs(fl_error_of(task, example, z, t));
}

static fl_status value(const fl_task *task, const fl_scored *of, double *out) {
  *out = fl_kept_sum(of) / ((double)of->n * task->data->n_target);
  return FEDLANE_OK;
}

const fl_metric fl_mae = {
    .record = {.name = "mae", .help = "mean absolute error, in the data's own units"},
    .needs = "regression targets",
    .low = true,
    .fits = fl_task_numbers,
    .usual = fl_task_numbers,
    .keeps = fl_keep_one,
    .take = take,
    .value = value,
};
