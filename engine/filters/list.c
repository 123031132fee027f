#include "filters.h"

static const fl_record *const entries[] = {&fl_clip.record, &fl_gaussian.record};

const fl_catalogue fl_filters = {
    .kind = "filter",
    .help = "what happens to an update between training and the server",
    .entry = entries,
    .n = FL_COUNT(entries),
};
