#include "formats.h"

static const fl_record *const entries[] = {
    &fl_idx.record,
    &fl_cifar.record,
    &fl_safetensors.record,
    &fl_synthetic.record,
    &fl_csv_format.record,
    &fl_cmapss.record,
    &fl_series.record,
    &fl_ved.record,
    &fl_text.record,
    &fl_leaf.record,
    &fl_tff.record,
    &fl_pfl.record,
    &fl_image_folder.record,
    &fl_gtsrb.record,
    &fl_driving_log.record,
};

const fl_catalogue fl_formats = {
    .kind = "format",
    .help = "how files become a data set",
    .entry = entries,
    .n = FL_COUNT(entries),
};
