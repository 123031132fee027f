/* Rows of a small text table, such as the list that lies beside images. */
#ifndef FL_LINES_H
#define FL_LINES_H

#include "status.h"

typedef struct fl_lines {
  const char *path; /* as given; kept by the caller */
  char *text;       /* the file, which fields point into */
  char *next;       /* what has not been read */
  int64_t row;      /* of the file, from 1: the one last read */
} fl_lines;

/* Errors: IO, MEMORY; DATA when the file holds a zero byte. */
fl_status fl_lines_open(const char *path, fl_lines *out);
void fl_lines_close(fl_lines *lines);
/* Cuts the next row that is not blank at each `mark` into at most `most` fields without the blanks
 * and the quotes around them; further ones are counted. Returns the number of fields; 0 at the end.
 */
int fl_lines_next(fl_lines *lines, char mark, int most, char **field);
/* A field as a finite number, or as a whole one of lo .. hi; what: the column's name. Errors: DATA
 * with file, row, column, value. */
fl_status fl_lines_number(const fl_lines *lines, const char *what, const char *field, double *out);
fl_status fl_lines_whole(const fl_lines *lines, const char *what, const char *field, int64_t lo,
                         int64_t hi, int64_t *out);

#endif
