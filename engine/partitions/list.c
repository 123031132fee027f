#include "partitions.h"

static const fl_record *const entries[] = {
    &fl_iid.record,     &fl_dirichlet.record, &fl_shards.record,
    &fl_natural.record, &fl_quantity.record,  &fl_pathological.record,
};

const fl_catalogue fl_partitions = {
    .kind = "partition",
    .help = "how training examples are dealt to clients",
    .entry = entries,
    .n = FL_COUNT(entries),
};
