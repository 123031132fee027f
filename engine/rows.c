/* Rows on their way from rounds to the sinks. Where many rounds end in the time that a file takes
 * to be written, their rows wait and are written together. */
#include <time.h>

#include "run.h"

static const double wait = 0.05; /* seconds, while rounds go on */

static double seconds_of(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

fl_status fl_rows_open(fedlane_run *run, const char *folder) {
  fl_rows *r = &run->rows;
  for (int i = 0; i < fl_sinks.n && i < FL_SINKS_MAX; i++) {
    r->sink[i].kind = (const fl_sink_kind *)fl_sinks.entry[i];
    FL_TRY(r->sink[i].kind->open(folder, run->config, &run->data, run->round, &r->sink[i].state));
    r->n_sink = i + 1;
  }
  return FEDLANE_OK;
}

fl_status fl_rows_write(fedlane_run *run) {
  fl_rows *r = &run->rows;
  int n = r->n;
  r->n = 0;
  for (int i = 0; n > 0 && i < r->n_sink; i++)
    FL_TRY(r->sink[i].kind->rows(r->sink[i].state, n, r->row));
  return FEDLANE_OK;
}

fl_status fl_rows_add(fedlane_run *run, const fedlane_metrics *m) {
  fl_rows *r = &run->rows;
  if (r->n_sink == 0) return FEDLANE_OK;
  double time = seconds_of(CLOCK_MONOTONIC);
  r->row[r->n++] = (fl_row){*m, seconds_of(CLOCK_REALTIME)};
  if (!run->fleet && r->n < FL_ROWS_MAX && time - r->written < wait) return FEDLANE_OK;
  r->written = time;
  return fl_rows_write(run);
}

fl_status fl_rows_close(fedlane_run *run) {
  fl_rows *r = &run->rows;
  fl_status status = fl_rows_write(run);
  for (int i = 0; i < r->n_sink; i++) {
    fl_status closed = r->sink[i].kind->close(&r->sink[i].state);
    if (status == FEDLANE_OK) status = closed;
  }
  r->n_sink = 0;
  return status;
}
