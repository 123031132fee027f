/* The data formats, one a file. To add one: copy the nearest file, then name its record here and in
 * list.c. */
#ifndef FL_FORMATS_H
#define FL_FORMATS_H

#include "dataset.h"

extern const fl_format fl_cifar, fl_idx, fl_safetensors, fl_synthetic;
extern const fl_format fl_csv_format, fl_cmapss, fl_leaf, fl_series, fl_text, fl_ved;
extern const fl_format fl_pfl, fl_tff;
extern const fl_format fl_image_folder, fl_gtsrb, fl_driving_log;

#endif
