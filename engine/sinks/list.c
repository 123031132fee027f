#include "engine.h"

extern const fl_sink_kind fl_sink_jsonl, fl_sink_tensorboard, fl_sink_report;

static const fl_record *const entry[] = {
    &fl_sink_jsonl.record,
    &fl_sink_tensorboard.record,
    &fl_sink_report.record,
};

const fl_catalogue fl_sinks = {"sink", "writes the metrics of each round into the run folder",
                               entry, FL_COUNT(entry)};
