/* What a round used and achieved. */
#include <math.h>

#include "run.h"

double fl_run_joules(const fedlane_run *run) {
  const fl_ops *ops = run->devices.ops;
  double sum = 0, joules = 0;
  for (int i = 0; i < run->n_station; i++) {
    if (!ops->energy || ops->energy(run->devices.dev[i], &joules) != FEDLANE_OK) return NAN;
    sum += joules;
  }
  return sum;
}

void fl_run_rates(const fedlane_run *run, fedlane_metrics *m) {
  const fl_model_info *model = fl_model_about(run->model);
  double examples = (double)m->examples, steps = (double)m->steps;
  double bytes = model->bytes_train * examples + model->bytes_step * steps;
  m->gflops = 1e-9 * model->flop_train * examples / m->seconds;
  m->gbytes_per_second = 1e-9 * bytes / m->seconds;
}
