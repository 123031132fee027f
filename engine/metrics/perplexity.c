#include <math.h>

#include "metrics/metrics.h"

static fl_status value(const fl_task *task, const fl_scored *of, double *out) {
  (void)task;
  *out = exp(of->loss / (double)of->asked);
  return FEDLANE_OK;
}

const fl_metric fl_perplexity = {
    .record = {.name = "perplexity",
               .help = "e to the mean cross-entropy: among how many equally likely classes the "
                       "model wavers"},
    .needs = "class labels",
    .low = true,
    .fits = fl_task_labels,
    .usual = fl_task_steps,
    .keeps = fl_keep_nothing,
    .value = value,
};
