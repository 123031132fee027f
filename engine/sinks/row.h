/* Metrics as JSON rows, shared by the sinks that write or read them back. */
#ifndef FL_ROW_H
#define FL_ROW_H

#include <jansson.h>

#include "engine.h"

/* Metrics as a line of JSON: a key a measured quantity, in a fixed order, and null for a value that
 * is not finite. Test values stand only in rows of rounds that evaluated. Written as it is, because
 * some thousand rows a second are common and a tree of values took 4 us a row. Returns its length.
 * The thread's numbers have a point (uselocale). */
enum { FL_ROW_MAX = 4096 };
size_t fl_row_text(const fedlane_metrics *metrics, char text[FL_ROW_MAX]);

/* Reads the rows 1 .. last of folder/metrics.jsonl into a new array (json_decref it). Reading ends
 * at the first line that is not a whole row: what a killed run may leave behind. A missing file
 * gives an empty array. Errors: IO, MEMORY. */
fl_status fl_rows_read(const char *folder, int last, json_t **out);

#endif
