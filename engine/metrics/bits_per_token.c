#include <math.h>

#include "metrics/metrics.h"

static fl_status value(const fl_task *task, const fl_scored *of, double *out) {
  (void)task;
  *out = of->loss / (double)of->asked * M_LOG2E;
  return FEDLANE_OK;
}

const fl_metric fl_bits_per_token = {
    .record = {.name = "bits_per_token",
               .help = "mean cross-entropy in bits: the length of a token as the model codes it"},
    .needs = "class labels",
    .low = true,
    .fits = fl_task_labels,
    .usual = fl_task_never,
    .keeps = fl_keep_nothing,
    .value = value,
};
