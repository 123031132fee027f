#include "formats/csv_file.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 60, FIRST_FIELDS = 32, FIRST_BYTES = 1024 };

fl_status fl_csv_open(const char *path, char separator, fl_csv *out) {
  *out = (fl_csv){.path = path, .separator = separator, .line = 1};
  errno = 0;
  out->file = gzopen(path, "rb");
  if (!out->file)
    return fl_fail(FEDLANE_IO, "cannot read %s: %s", path, strerror(errno ? errno : ENOMEM));
  out->locale = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
  out->chunk = malloc(FL_CSV_CHUNK);
  out->text = malloc(out->room = FIRST_BYTES);
  out->n_room = FIRST_FIELDS;
  out->start = malloc(FIRST_FIELDS * sizeof *out->start);
  out->field = malloc(FIRST_FIELDS * sizeof *out->field);
  if (out->locale && out->chunk && out->text && out->start && out->field) return FEDLANE_OK;
  fl_csv_close(out);
  return fl_fail(FEDLANE_MEMORY, "no memory to read %s", path);
}

void fl_csv_close(fl_csv *c) {
  if (c->file) gzclose(c->file);
  if (c->locale) freelocale(c->locale);
  free(c->chunk);
  free(c->text);
  free(c->start);
  free(c->field);
  *c = (fl_csv){0};
}

static fl_status refill(fl_csv *c) {
  int code, got = gzread(c->file, c->chunk, FL_CSV_CHUNK);
  int error = errno;
  c->at = 0;
  c->end = got > 0 ? (unsigned)got : 0;
  const char *why = gzerror(c->file, &code);
  if (got >= 0 && code != Z_BUF_ERROR) return FEDLANE_OK;
  c->broken = true;
  if (code == Z_ERRNO) return fl_fail(FEDLANE_IO, "cannot read %s: %s", c->path, strerror(error));
  return fl_fail(FEDLANE_DATA, "%s:%lld: damaged gzip data (%s)", c->path, (long long)c->line, why);
}

/* The next byte, -1 at the end; lines are counted here. */
static inline fl_status next_byte(fl_csv *c, int *byte) {
  if (c->at == c->end) {
    if (c->broken) c->end = c->at = 0;
    if (!c->broken) FL_TRY(refill(c));
    if (c->at == c->end) {
      *byte = -1;
      return FEDLANE_OK;
    }
  }
  *byte = c->chunk[c->at++];
  c->line += *byte == '\n';
  return FEDLANE_OK;
}

static fl_status put(fl_csv *c, int byte) {
  if (c->size == c->room) {
    char *text = realloc(c->text, 2 * c->room);
    if (!text) return fl_fail(FEDLANE_MEMORY, "no memory for a row of %s", c->path);
    c->text = text;
    c->room *= 2;
  }
  c->text[c->size++] = (char)byte;
  return FEDLANE_OK;
}

static fl_status begin_field(fl_csv *c) {
  if (c->n == c->n_room) {
    size_t room = 2 * (size_t)c->n_room;
    size_t *start = realloc(c->start, room * sizeof *start);
    if (start) c->start = start;
    char **field = realloc(c->field, room * sizeof *field);
    if (field) c->field = field;
    if (!start || !field) return fl_fail(FEDLANE_MEMORY, "no memory for a row of %s", c->path);
    c->n_room = (int)room;
  }
  c->start[c->n++] = c->size;
  return FEDLANE_OK;
}

static bool is_blank(const fl_csv *c, int byte) {
  return byte == '\r' || ((byte == ' ' || byte == '\t') && byte != c->separator);
}

static bool is_separator(const fl_csv *c, int byte) {
  return byte == c->separator || (c->separator == ' ' && byte == '\t');
}

/* BEFORE a field's text, in PLAIN text, in QUOTED text, after a QUOTE there, AFTER quoted text. */
typedef enum state { BEFORE, PLAIN, QUOTED, QUOTE, AFTER } state;

/* What is wrong with a row, and in which column: the first fault is told. */
typedef struct fault {
  const char *why;
  int column;
} fault;

static void blame(const fl_csv *c, fault *f, const char *why) {
  if (!f->why) *f = (fault){why, c->n};
}

/* Ends the present field. Plain text loses the blanks at its end. */
static fl_status end_field(fl_csv *c, state s) {
  size_t first = c->start[c->n - 1];
  while (s == PLAIN && c->size > first && is_blank(c, (unsigned char)c->text[c->size - 1]))
    c->size--;
  return put(c, '\0');
}

/* Takes a byte that is text, a quote or a blank into the present field; returns the new state. */
static fl_status take(fl_csv *c, int byte, state *s, fault *f) {
  if (byte == '\0') blame(c, f, "a zero byte is no text");
  if (*s == QUOTED) {
    if (byte == '"') return *s = QUOTE, FEDLANE_OK;
  } else if (*s == QUOTE && byte == '"') {
    *s = QUOTED;
  } else if (*s == QUOTE || *s == AFTER) {
    *s = AFTER;
    if (!is_blank(c, byte)) blame(c, f, "there is text after the closing quote");
    return FEDLANE_OK;
  } else if (*s == BEFORE) {
    if (is_blank(c, byte)) return FEDLANE_OK;
    *s = byte == '"' ? QUOTED : PLAIN;
    if (*s == QUOTED) return FEDLANE_OK;
  } else if (byte == '"') {
    blame(c, f, "there is a quote inside a field without quotes");
  }
  if (c->size < FL_CSV_ROW_MAX) return put(c, byte);
  blame(c, f, "the row is longer than 16 MiB");
  return FEDLANE_OK;
}

/* Reads up to the end of a row; *last: that was the end of the file too. */
static fl_status read_row(fl_csv *c, fault *f, bool *last) {
  state s = BEFORE;
  int byte;
  c->n = 0;
  c->size = 0;
  *last = false;
  FL_TRY(begin_field(c));
  for (;;) {
    FL_TRY(next_byte(c, &byte));
    bool inside = s == QUOTED;
    if (byte < 0 && inside) blame(c, f, "the quotes do not end");
    if (byte < 0 || (byte == '\n' && !inside)) break;
    if (inside || !is_separator(c, byte)) {
      FL_TRY(take(c, byte, &s, f));
    } else if (c->separator != ' ' || s != BEFORE) {
      FL_TRY(end_field(c, s));
      FL_TRY(begin_field(c));
      s = BEFORE;
    }
  }
  *last = byte < 0;
  FL_TRY(end_field(c, s));
  bool empty = s == BEFORE && (c->n == 1 || c->separator == ' ');
  if (empty) c->n--;
  for (int i = 0; i < c->n; i++) c->field[i] = c->text + c->start[i];
  return FEDLANE_OK;
}

static fl_status pass_mark(fl_csv *c) {
  if (c->line > 1 || c->at < c->end) return FEDLANE_OK;
  FL_TRY(refill(c));
  if (c->end >= 3 && memcmp(c->chunk, "\xef\xbb\xbf", 3) == 0) c->at = 3;
  return FEDLANE_OK;
}

fl_status fl_csv_next(fl_csv *c, bool *more) {
  bool last = false;
  *more = !c->broken;
  if (c->broken) return FEDLANE_OK;
  if (c->row == 0) FL_TRY(pass_mark(c));
  do {
    fault f = {0};
    c->row = c->line;
    FL_TRY(read_row(c, &f, &last));
    if (f.why)
      return fl_fail(FEDLANE_DATA, "%s:%lld:%d: %s", c->path, (long long)c->row, f.column, f.why);
  } while (c->n == 0 && !last);
  *more = c->n > 0;
  return FEDLANE_OK;
}

fl_status fl_csv_fail(const fl_csv *c, int column, const char *why) {
  return fl_fail(FEDLANE_DATA, "%s:%lld:%d: '%.*s' %s", c->path, (long long)c->row, column + 1,
                 SHOWN, c->field[column], why);
}

bool fl_csv_is_number(const fl_csv *c, const char *text, double *out) {
  char *end;
  if (text[strspn(text, "+-.0123456789eE")] != '\0') return false;
  *out = strtod_l(text, &end, c->locale);
  return end != text && *end == '\0';
}

fl_status fl_csv_number(const fl_csv *c, int column, double *out) {
  const char *text = c->field[column];
  if (!fl_csv_is_number(c, text, out))
    return fl_csv_fail(c, column, *text ? "is not a number" : "is empty, not a number");
  if (!isfinite((float)*out)) return fl_csv_fail(c, column, "is too large a number");
  return FEDLANE_OK;
}

fl_status fl_csv_expect(const fl_csv *c, int n) {
  if (c->n == n) return FEDLANE_OK;
  return fl_fail(FEDLANE_DATA, "%s:%lld: the row has %d field%s; there must be %d", c->path,
                 (long long)c->row, c->n, c->n == 1 ? "" : "s", n);
}

/* Columns first .. last of a word, from 0; false when it names none. */
static bool find_columns(const fl_names *header, int width, const char *word, int *first,
                         int *last) {
  int32_t named = header ? fl_names_find(header, word) : -1;
  if (named >= 0) return *first = *last = named, true;
  if (!isdigit((unsigned char)*word)) return false;
  char *end;
  long from = strtol(word, &end, 10), to = from;
  if (*end == '-' && isdigit((unsigned char)end[1])) to = strtol(end + 1, &end, 10);
  if (*end || from < 1 || to < from || to > width) return false;
  *first = (int)from - 1;
  *last = (int)to - 1;
  return true;
}

/* Appends a word's columns to the n that are there. */
static fl_status add_columns(const fl_names *header, int width, const char *word, const char *what,
                             int *n, int *column) {
  int first, last;
  if (!find_columns(header, width, word, &first, &last))
    return fl_fail(FEDLANE_USAGE,
                   "%s names '%s', which is none of the %d columns; columns have %s1 to %d", what,
                   word, width, header ? "names, or numbers from " : "numbers from ", width);
  for (int at = first; at <= last; at++) {
    for (int i = 0; i < *n; i++)
      if (column[i] == at) return fl_fail(FEDLANE_USAGE, "%s names column %d twice", what, at + 1);
    column[(*n)++] = at;
  }
  return FEDLANE_OK;
}

fl_status fl_csv_columns(const fl_names *header, int width, const char *list, const char *what,
                         int *n, int **column) {
  fl_status status = FEDLANE_OK;
  char *words = strdup(list), *rest = words;
  *n = 0;
  *column = calloc((size_t)width + 1, sizeof **column);
  if (!words || !*column) {
    status = fl_fail(FEDLANE_MEMORY, "no memory for the columns of %s", what);
    goto done;
  }
  for (char *word; (word = strsep(&rest, ","));) {
    word += strspn(word, " \t");
    for (size_t end = strlen(word); end > 0 && (word[end - 1] == ' ' || word[end - 1] == '\t');)
      word[--end] = '\0';
    if (*word) FL_GO(add_columns(header, width, word, what, n, *column));
  }
done:
  free(words);
  if (status != FEDLANE_OK) {
    free(*column);
    *column = NULL;
  }
  return status;
}
