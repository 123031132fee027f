/* How a run shows itself: one redrawn line on a terminal, plain lines elsewhere. */
#ifndef FL_PROGRESS_H
#define FL_PROGRESS_H

#include <stdio.h>

#include "fedlane.h"

typedef struct fl_progress {
  FILE *out;
  const char *unit;    /* what examples are called, such as "images" */
  bool live;           /* out is a terminal: the last line is redrawn */
  bool color, unicode; /* what the terminal can show */
  double start;        /* of this run, on the monotonic clock, in seconds */
  double last, drawn;  /* the last round's end; the last drawing */
  /* Sums over rounds in which older rounds fade, so that rates are those of now. */
  double rounds, wall, busy, clients, examples;
  fedlane_score score; /* the first one of the last evaluation, where there is no accuracy */
} fl_progress;

/* unit is kept, not copied. */
void fl_progress_open(fl_progress *p, FILE *out, const char *unit);
/* Shows that `done` of `all` files or clients have been read, where there is a terminal. of: an
 * fl_progress; a watch of dataset.h. */
void fl_progress_reading(void *of, int64_t done, int64_t all);
/* Shows that `round` rounds of `rounds` are done before the first one of this run ends. */
void fl_progress_begin(fl_progress *p, int round, int rounds);
/* Shows a finished round; a round that evaluated leaves a line that stays. */
void fl_progress_round(fl_progress *p, const fedlane_metrics *m);
/* Removes the redrawn line, before other text is printed. */
void fl_progress_clear(fl_progress *p);
/* Seconds since fl_progress_open. */
double fl_progress_seconds(const fl_progress *p);

/* Writes the value of a metric with its name, such as "rmse 14.27" or "top3 51.00 %". */
const char *fl_score_text(fedlane_score score, char *text, size_t size);
/* Writes seconds as 0:07, 12:34 or 1:02:03 into text[size] and returns text. */
const char *fl_duration(double seconds, char *text, size_t size);
/* Writes a number short enough to read at a glance, such as 812, 16.2k or 3.40M. */
const char *fl_short_number(double value, char *text, size_t size);

#endif
