/* The little of HDF5 that data sets need: groups listed by name, whole arrays, strings. */
#ifndef FL_HDF5_FILE_H
#define FL_HDF5_FILE_H

#include "status.h"

/* An open file. HDF5 is used by one thread at a time, and prints nothing. */
typedef struct fl_h5 fl_h5;

/* Errors: IO when it cannot be read, DATA when it is not HDF5. */
fl_status fl_h5_open(const char *path, fl_h5 **out);
void fl_h5_close(fl_h5 **file);
bool fl_h5_has(fl_h5 *file, const char *name);

/* The names in a group, ascending by bytes. Free it with fl_h5_names_free. Errors: DATA, MEMORY. */
typedef struct fl_h5_names {
  int64_t n;
  char **at;
} fl_h5_names;
fl_status fl_h5_list(fl_h5 *file, const char *group, fl_h5_names *out);
void fl_h5_names_free(fl_h5_names *names);

enum { FL_H5_DIMS = 4 };
typedef enum fl_h5_class { FL_H5_WHOLE, FL_H5_REAL, FL_H5_TEXT, FL_H5_OTHER } fl_h5_class;
typedef struct fl_h5_shape {
  fl_h5_class class;
  int n_dim; /* 0: one value */
  int64_t dim[FL_H5_DIMS], count;
} fl_h5_shape;
/* Errors: DATA when there is no such array, it has too many dimensions, or it is a group. */
fl_status fl_h5_shape_of(fl_h5 *file, const char *name, fl_h5_shape *out);

/* Whole arrays, converted to the type asked for. n: how many values the array must have, which are
 * written to `out`. Errors: DATA, also for values that do not fit, and for text where numbers are
 * expected. */
fl_status fl_h5_bytes(fl_h5 *file, const char *name, int64_t n, uint8_t *out);
fl_status fl_h5_ints(fl_h5 *file, const char *name, int64_t n, int32_t *out);
fl_status fl_h5_floats(fl_h5 *file, const char *name, int64_t n, float *out);
/* Texts of fixed or variable length, without what fills them up. Free it with fl_h5_names_free. */
fl_status fl_h5_texts(fl_h5 *file, const char *name, fl_h5_names *out);

#endif
