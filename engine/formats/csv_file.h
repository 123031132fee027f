/* Files of rows and fields, as spreadsheets and sensors write them: read a row at a time, strictly.
 * Fields may stand in quotes (RFC 4180: a quote within them is doubled, line ends and separators
 * are part of the text). Blanks around a field, CRLF, a byte order mark, blank lines and gzip are
 * read past. */
#ifndef FL_CSV_FILE_H
#define FL_CSV_FILE_H

#include <locale.h>
#include <zlib.h>

#include "dataset.h"
#include "formats/names.h"

enum { FL_CSV_ROW_MAX = 1 << 24, FL_CSV_CHUNK = 1 << 16 };

typedef struct fl_csv {
  const char *path; /* the caller's */
  char separator;   /* ' ': blanks and tabs, as many as there are */
  int64_t row;      /* line where the present row begins, from 1 */
  int n;            /* its fields */
  char **field;     /* [n] without quotes and the blanks around; valid until the next row */
  /* Private. */
  gzFile file;
  locale_t locale;
  int64_t line;
  unsigned char *chunk;
  unsigned at, end;
  bool broken; /* nothing can be read any more */
  char *text;
  size_t size, room;
  size_t *start; /* [n_room] where fields begin in text */
  int n_room;
} fl_csv;

/* Opens a file. path is kept, not copied. Errors: IO, MEMORY. */
fl_status fl_csv_open(const char *path, char separator, fl_csv *out);
void fl_csv_close(fl_csv *c); /* accepts a zeroed one */

/* Reads the next row; *more is false at the end. After a DATA failure (quotes that do not end or
 * stand inside a field, a zero byte, a row past FL_CSV_ROW_MAX bytes) the next call goes on with
 * the row after it. Errors: DATA, IO, MEMORY, with file, row and column. */
fl_status fl_csv_next(fl_csv *c, bool *more);

/* Field `column` (from 0) as a number that is finite as a float. Errors: DATA, as "file:row:column:
 * 'text' is not a number" (columns from 1). */
fl_status fl_csv_number(const fl_csv *c, int column, double *out);
/* Refuses a row that has not n fields. Errors: DATA. */
fl_status fl_csv_expect(const fl_csv *c, int n);
/* A DATA failure at a field: "file:row:column: 'text' <why>". */
fl_status fl_csv_fail(const fl_csv *c, int column, const char *why);
/* Whether a text is a number, and which. */
bool fl_csv_is_number(const fl_csv *c, const char *text, double *out);

/* The columns (from 0) that a list names, in its order: names of the header, numbers from 1, or
 * ranges of them such as 3-14, with commas between. header may be NULL. what: the parameter, for
 * messages. *column is the caller's to free. Errors: USAGE (unknown, or named twice), MEMORY. */
fl_status fl_csv_columns(const fl_names *header, int width, const char *list, const char *what,
                         int *n, int **column);

#endif
