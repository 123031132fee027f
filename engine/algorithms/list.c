#include "algorithms.h"

static const fl_record *const entries[] = {
    &fl_fedsgd.record,   &fl_fedavg.record,  &fl_fedprox.record,
    &fl_scaffold.record, &fl_feddyn.record,  &fl_fedavgm.record,
    &fl_fedadam.record,  &fl_fedyogi.record, &fl_fedadagrad.record,
};

const fl_catalogue fl_algorithms = {
    .kind = "algorithm",
    .help = "what clients add to their gradient and what the server does with the mean",
    .entry = entries,
    .n = FL_COUNT(entries),
};
