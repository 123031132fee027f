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

/* Of one target alone, which matters where targets are steps ahead. */
static void take_first(const fl_task *task, int64_t example, const float *z, double *kept) {
  *kept = fabs(fl_error_of(task, example, z, 0));
}

static void take_last(const fl_task *task, int64_t example, const float *z, double *kept) {
  *kept = fabs(fl_error_of(task, example, z, task->data->n_target - 1));
}

static fl_status value_of_one(const fl_task *task, const fl_scored *of, double *out) {
  (void)task;
  *out = fl_kept_sum(of) / (double)of->n;
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

const fl_metric fl_mae_first = {
    .record = {.name = "mae_first",
               .help = "mean absolute error of the first target, as the nearest step ahead"},
    .needs = "regression targets",
    .low = true,
    .fits = fl_task_numbers,
    .usual = fl_task_never,
    .keeps = fl_keep_one,
    .take = take_first,
    .value = value_of_one,
};

const fl_metric fl_mae_last = {
    .record = {.name = "mae_last",
               .help = "mean absolute error of the last target, as the farthest step ahead"},
    .needs = "regression targets",
    .low = true,
    .fits = fl_task_numbers,
    .usual = fl_task_never,
    .keeps = fl_keep_one,
    .take = take_last,
    .value = value_of_one,
};
