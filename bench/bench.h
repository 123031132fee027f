/* `fedlane bench`: what is measured, and how figures are printed and stored. */
#ifndef FL_BENCH_H
#define FL_BENCH_H

#include <stdio.h>

#include "run.h"

typedef struct fl_bench_options {
  const char *workload, *device, *precision, *json; /* json: file for the figures; NULL: none */
  int rounds, threads;                              /* 0: the workload's own; all cores */
} fl_bench_options;

/* A workload: one of the public settings that systems are compared on. */
typedef struct fl_workload {
  const char *name, *help;
  const char *config; /* YAML, without rounds */
  int rounds;         /* measured when nothing else is asked */
} fl_workload;

extern const fl_workload fl_workloads[];
extern const int fl_n_workload;

double fl_seconds(void); /* a monotonic clock */

/* Local training of a whole workload: images/s, GFLOP/s and the share of the matrix-product peak.
 */
fl_status fl_bench_round(const fl_bench_options *options);
/* Each op on the shapes of workload a1: time, GFLOP/s, GB/s and their shares of the device's peaks.
 */
fl_status fl_bench_ops(const fl_bench_options *options);

#endif
