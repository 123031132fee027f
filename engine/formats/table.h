/* Rows of numbers on their way into a data set, and files to read them from. */
#ifndef FL_TABLE_H
#define FL_TABLE_H

#include "dataset.h"

/* A table that grows. Zero it but for the columns, then add rows. */
typedef struct fl_table {
  int columns;
  int64_t n, room;
  float *value;    /* [n, columns] */
  int32_t *client; /* [n] */
} fl_table;

/* Adds a row of `client` and gives its values, to be filled; valid until the next is added. Taking
 * one off n takes it back. Errors: MEMORY. Amortised O(columns). */
fl_status fl_table_add(fl_table *t, int32_t client, float **row);
void fl_table_free(fl_table *t); /* accepts a zeroed one */

/* Gives the data set its clients 0 .. n_client-1, those of n_train examples. Errors: MEMORY. */
fl_status fl_dataset_alloc_clients(fl_dataset *d, int32_t n_client);

/* What becomes of a row or file that failed: counted and passed over (OK) where bad ones may be
 * left out, else its failure. Failures other than DATA remain. */
fl_status fl_pass_over(const fl_load *how, fl_status failed, int64_t *skipped);

/* The paths that a data set is read from: `path` itself, or, when it is a folder, the files in it
 * whose names match one of `patterns` (shell patterns with commas between), ascending by bytes. */
typedef struct fl_file_list {
  int n, room;
  char **path;
} fl_file_list;

/* Errors: IO, DATA (no such file in the folder), MEMORY. */
fl_status fl_file_list_open(const char *path, const char *patterns, fl_file_list *out);
void fl_file_list_close(fl_file_list *list); /* accepts a zeroed one */
/* A file beside the data: `name` in the folder `path`, or in the folder of the file `path`. The
 * caller frees it. Errors: MEMORY. */
fl_status fl_file_beside(const char *path, const char *name, char **out);

#endif
