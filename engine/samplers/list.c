#include "samplers.h"

static const fl_record *const entries[] = {
    &fl_uniform.record,
    &fl_cyclic.record,
};

const fl_catalogue fl_samplers = {
    .kind = "sampler",
    .help = "which clients take part in a round",
    .entry = entries,
    .n = FL_COUNT(entries),
};
