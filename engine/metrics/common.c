#include "metrics/metrics.h"

bool fl_task_labels(const fl_task *task) { return task->data->classes > 0; }

bool fl_task_steps(const fl_task *task) { return fl_task_labels(task) && task->data->n_label > 1; }

bool fl_task_numbers(const fl_task *task) { return !fl_task_labels(task) && !task->logistic; }

bool fl_task_logistic(const fl_task *task) { return !fl_task_labels(task) && task->logistic; }

bool fl_task_of_two(const fl_task *task) {
  return task->data->classes == 2 || fl_task_logistic(task);
}

bool fl_task_never(const fl_task *task) {
  (void)task;
  return false;
}

int64_t fl_keep_nothing(const fl_task *task) {
  (void)task;
  return 0;
}

int64_t fl_keep_one(const fl_task *task) {
  (void)task;
  return 1;
}

double fl_kept_sum(const fl_scored *of) {
  double sum = 0;
  for (int64_t i = 0; i < of->n; i++) sum += of->kept[i];
  return sum;
}

double fl_error_of(const fl_task *task, int64_t example, const float *z, int target) {
  const fl_dataset *d = task->data;
  double error = (double)z[target] - d->target[example * d->n_target + target];
  return d->unit ? error * d->unit[target] : error;
}
