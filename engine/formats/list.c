#include "formats.h"

static const fl_record *const entries[] = {
    &fl_idx.record,       &fl_cifar.record, &fl_safetensors.record,
    &fl_synthetic.record, &fl_tff.record,   &fl_pfl.record,
};

const fl_catalogue fl_formats = {
    .kind = "format",
    .help = "how files become a data set",
    .entry = entries,
    .n = FL_COUNT(entries),
};
