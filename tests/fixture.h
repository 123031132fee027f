/* Whole runs for tests: a configuration text in, weights and metrics out. */
#ifndef FL_FIXTURE_H
#define FL_FIXTURE_H

#include "run.h"

/* Opens a configuration text with overrides; the status and *out are fl_run_open's. */
fl_status fl_fixture_open(const char *text, int n, const char *const *overrides, int flags,
                          fedlane_run **out);

/* Trains until no round is left. last: metrics of the last round; may be NULL. The weights, P
 * floats in a new array (free it), or NULL after a failure, which counts as a failed assertion. */
float *fl_fixture_train(const char *text, int n, const char *const *overrides, int64_t *P,
                        fedlane_metrics *last);

/* Asserts that two trainings of `text` end with the same bits. a and b: overrides, one each, or "".
 */
void fl_fixture_same(const char *text, const char *a, const char *b);

/* A small regression data set of n_client quadratics, f_i(w) = mean (x w - y)^2 over the client's
 * rows, with features and optima that differ by client. Writes a safetensors file. */
typedef struct fl_quadratics {
  int n_client, rows, features;
  float *x, *y;   /* [n_client * rows, features], [n_client * rows] */
  double *best;   /* [features] the minimum of the mean of the f_i */
  char path[128]; /* of the file */
} fl_quadratics;
void fl_quadratics_open(fl_quadratics *q, int n_client, int rows, int features, uint32_t seed);
/* Writes the file again with the targets 1 where y is positive and 0 elsewhere. */
void fl_quadratics_as_classes(fl_quadratics *q);
void fl_quadratics_close(fl_quadratics *q);

#endif
