#include <math.h>

#include "metrics/metrics.h"

/* Cycles by which a prediction may be early, or late, for a penalty of e - 1. */
#define EARLY 13.0
#define LATE 10.0

static void take(const fl_task *task, int64_t example, const float *z, double *kept) {
  *kept = 0;
  for (int t = 0; t < task->data->n_target; t++) {
    double d = fl_error_of(task, example, z, t);
    *kept += d < 0 ? expm1(-d / EARLY) : expm1(d / LATE);
  }
}

static fl_status value(const fl_task *task, const fl_scored *of, double *out) {
  (void)task;
  *out = fl_kept_sum(of);
  return FEDLANE_OK;
}

const fl_metric fl_cmapss_score = {
    .record = {.name = "cmapss_score",
               .help = "sum of the PHM08 challenge's penalties: a life predicted too long costs "
                       "more than one too short",
               .paper = "Saxena et al., Damage Propagation Modeling for Aircraft Engine "
                        "Run-to-Failure Simulation, PHM 2008, doi 10.1109/PHM.2008.4711414"},
    .needs = "regression targets",
    .low = true,
    .fits = fl_task_numbers,
    .usual = fl_task_never,
    .keeps = fl_keep_one,
    .take = take,
    .value = value,
};
