#include "lines.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

fl_status fl_lines_open(const char *path, fl_lines *out) {
  unsigned char *bytes = NULL;
  int64_t size;
  memset(out, 0, sizeof *out);
  FL_TRY(fl_read_all(path, &bytes, &size));
  char *text = realloc(bytes, (size_t)size + 1);
  if (!text) {
    free(bytes);
    return fl_fail(FEDLANE_MEMORY, "no memory to read %s", path);
  }
  text[size] = '\0';
  if (memchr(text, '\0', (size_t)size)) {
    free(text);
    return fl_fail(FEDLANE_DATA, "%s: is no text: it holds a zero byte", path);
  }
  char *first = strncmp(text, "\xef\xbb\xbf", 3) == 0 ? text + 3 : text; /* a byte order mark */
  *out = (fl_lines){.path = path, .text = text, .next = first};
  return FEDLANE_OK;
}

void fl_lines_close(fl_lines *lines) {
  free(lines->text);
  memset(lines, 0, sizeof *lines);
}

/* The field without blanks and quotes around it; cut where it ends. */
static char *trim(char *field) {
  field += strspn(field, " \t\r\"");
  size_t length = strlen(field);
  while (length > 0 && strchr(" \t\r\"", field[length - 1])) length--;
  field[length] = '\0';
  return field;
}

int fl_lines_next(fl_lines *lines, char mark, int most, char **field) {
  while (*lines->next) {
    char *line = lines->next, *end = line + strcspn(line, "\n");
    lines->next = *end ? end + 1 : end;
    lines->row++;
    *end = '\0';
    if (line[strspn(line, " \t\r")] == '\0') continue;
    int n = 0;
    for (char *cut; line; line = cut) {
      cut = strchr(line, mark);
      if (cut) *cut++ = '\0';
      if (n < most) field[n] = trim(line);
      n++;
    }
    return n;
  }
  return 0;
}

fl_status fl_lines_number(const fl_lines *lines, const char *what, const char *field, double *out) {
  char *end;
  *out = strtod(field, &end);
  bool plain = field[strspn(field, "+-.0123456789eE")] == '\0';
  if (*field && !*end && plain && isfinite(*out)) return FEDLANE_OK;
  return fl_fail(FEDLANE_DATA, "%s: row %lld: %s is '%.40s'; it must be a finite number",
                 lines->path, (long long)lines->row, what, field);
}

fl_status fl_lines_whole(const fl_lines *lines, const char *what, const char *field, int64_t lo,
                         int64_t hi, int64_t *out) {
  char *end;
  *out = strtoll(field, &end, 10);
  if (*field && !*end && *out >= lo && *out <= hi) return FEDLANE_OK;
  return fl_fail(FEDLANE_DATA,
                 "%s: row %lld: %s is '%.40s'; it must be a whole number of %lld .. %lld",
                 lines->path, (long long)lines->row, what, field, (long long)lo, (long long)hi);
}
