/* `fedlane bench`: what is measured, and how figures are printed and stored. */
#ifndef FL_BENCH_H
#define FL_BENCH_H

#include <stdio.h>

#include "line.h"
#include "run.h"

typedef struct fl_bench_options {
  const char *what; /* is measured */
  const char *workload, *device, *precision;
  const char *json, *to;  /* file for figures, folder for exports; NULL: none */
  int rounds, threads;    /* 0: the workload's own; all cores */
  fl_line_words settings; /* "key.path=value" */
} fl_bench_options;

/* A workload: one of the public settings that systems are compared on. */
typedef struct fl_workload {
  const char *name, *help;
  const char *config; /* YAML, without rounds */
  int rounds;         /* measured when nothing else is asked */
} fl_workload;

/* Errors: USAGE with the names that there are. */
fl_status fl_workload_find(const char *name, const fl_workload **out);
/* A run of the workload with the overrides; close it with fedlane_close(). */
fl_status fl_workload_open(const fl_workload *w, const fl_bench_options *o, int rounds,
                           fedlane_run **out);

double fl_seconds(void); /* a monotonic clock */

/* Local training of a whole workload: images/s, GFLOP/s and the share of the matrix-product peak.
 */
fl_status fl_bench_round(const fl_bench_options *options);
/* Each op on the shapes of workload a1: time, GFLOP/s, GB/s and their shares of the device's peaks.
 */
fl_status fl_bench_ops(const fl_bench_options *options);
/* Decoding a folder of JPEGs: images/s, beside plain calls of libjpeg on the same cores. */
fl_status fl_bench_decode(const fl_bench_options *options);
/* Numbers as bytes and back, digests and frames: GB/s, beside memcpy. */
fl_status fl_bench_wire(const fl_bench_options *options);
/* A part of it: chunks through the pipeline of a port, beside a bare ZeroMQ pipeline. Adds rows to
 * a JSON array. */
struct json_t;
fl_status fl_bench_pipeline(struct json_t *rows);
/* A workload as files for other systems: data, first weights, the clients and rows of each round.
 */
fl_status fl_bench_export(const fl_bench_options *options);

#endif
