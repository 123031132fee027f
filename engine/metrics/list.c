#include "metrics/metrics.h"

static const fl_record *const entries[] = {
    &fl_accuracy.record,     &fl_top3.record,      &fl_perplexity.record, &fl_bits_per_token.record,
    &fl_mae.record,          &fl_mae_first.record, &fl_mae_last.record,   &fl_rmse.record,
    &fl_cmapss_score.record, &fl_auc.record,
};

const fl_catalogue fl_metrics = {
    .kind = "metric",
    .help = "what is measured on the test set, next to the loss",
    .entry = entries,
    .n = FL_COUNT(entries),
};
