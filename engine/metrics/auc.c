/* The area under the ROC curve as a rank statistic: the chance that a true answer scores above a
 * false one, equal scores counting half. */
#include <math.h>
#include <stdlib.h>

#include "metrics/metrics.h"

typedef struct answer {
  double score;
  bool yes;
} answer;

static int64_t keeps(const fl_task *task) {
  const fl_dataset *d = task->data;
  return fl_task_labels(task) ? d->n_label : d->n_target;
}

/* Of two classes the softmax is a function of the difference of their logits. */
static void take(const fl_task *task, int64_t example, const float *z, double *kept) {
  (void)example;
  bool labels = fl_task_labels(task);
  for (int64_t i = 0; i < keeps(task); i++)
    kept[i] = labels ? (double)z[2 * i + 1] - z[2 * i] : (double)z[i];
}

static int ascending(const void *a, const void *b) {
  double x = ((const answer *)a)->score, y = ((const answer *)b)->score;
  return (x > y) - (x < y);
}

/* NaN when all answers are alike. */
static double area(int64_t n, answer *list) {
  double yes = 0, no = 0, above = 0;
  qsort(list, (size_t)n, sizeof *list, ascending);
  for (int64_t i = 0, end; i < n; i = end) {
    double tied_yes = 0, tied_no = 0;
    for (end = i; end < n && list[end].score <= list[i].score; end++) {
      tied_yes += list[end].yes;
      tied_no += !list[end].yes;
    }
    above += tied_yes * (no + tied_no / 2);
    yes += tied_yes;
    no += tied_no;
  }
  return above / (yes * no);
}

/* Writes those answers of column t, or of all columns when it is -1, that are known. */
static int64_t gather(const fl_task *task, const fl_scored *of, int64_t t, answer *list,
                      bool *sound) {
  const fl_dataset *d = task->data;
  int64_t width = keeps(task), n = 0;
  for (int64_t i = 0; i < of->n; i++)
    for (int64_t k = t < 0 ? 0 : t; k < (t < 0 ? width : t + 1); k++) {
      int64_t at = of->index[i] * width + k;
      if (d->label && d->label[at] < 0) continue;
      list[n] = (answer){of->kept[i * width + k], d->label ? d->label[at] : d->target[at] > 0.5f};
      *sound = *sound && !isnan(list[n++].score);
    }
  return n;
}

/* Over all answers where they are labels; else the mean over the targets that have answers of both
 * kinds. */
static fl_status value(const fl_task *task, const fl_scored *of, double *out) {
  bool labels = fl_task_labels(task), sound = true;
  int64_t columns = labels ? 1 : keeps(task), each = labels ? keeps(task) : 1, counted = 0;
  answer *list = malloc((size_t)(of->n * each + 1) * sizeof *list);
  double sum = 0;
  if (!list) return fl_fail(FEDLANE_MEMORY, "no memory to rank %lld examples", (long long)of->n);
  for (int64_t t = 0; t < columns; t++) {
    int64_t n = gather(task, of, labels ? -1 : t, list, &sound);
    double one = sound ? area(n, list) : NAN;
    if (isnan(one)) continue;
    sum += one;
    counted++;
  }
  free(list);
  *out = sound && counted > 0 ? sum / (double)counted : NAN;
  return FEDLANE_OK;
}

const fl_metric fl_auc = {
    .record = {.name = "auc",
               .help = "area under the ROC curve; of several logistic targets the mean",
               .paper = "Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 27, "
                        "2006, doi 10.1016/j.patrec.2005.10.010"},
    .needs = "two classes or the logistic loss",
    .fits = fl_task_of_two,
    .usual = fl_task_of_two,
    .keeps = keeps,
    .take = take,
    .value = value,
};
