/* The metrics, one a file, and what they share. */
#ifndef FL_METRICS_H
#define FL_METRICS_H

#include "engine.h"

extern const fl_metric fl_accuracy, fl_top3, fl_perplexity, fl_bits_per_token, fl_mae, fl_mae_first,
    fl_mae_last, fl_rmse, fl_cmapss_score, fl_auc;

/* Kinds of tasks. */
bool fl_task_labels(const fl_task *task);   /* classes */
bool fl_task_steps(const fl_task *task);    /* a label a step */
bool fl_task_numbers(const fl_task *task);  /* targets that are quantities */
bool fl_task_logistic(const fl_task *task); /* targets that are classes of their own */
bool fl_task_of_two(const fl_task *task);   /* answers that are yes or no */
bool fl_task_never(const fl_task *task);

int64_t fl_keep_nothing(const fl_task *task);
int64_t fl_keep_one(const fl_task *task);
/* The sum of what was kept, one number an example, in their order. */
double fl_kept_sum(const fl_scored *of);

/* Predicted minus true, in the data's own units; target: 0 .. n_target-1. */
double fl_error_of(const fl_task *task, int64_t example, const float *z, int target);

#endif
