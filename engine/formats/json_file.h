/* JSON read an event at a time, so that a file may be larger than memory. */
#ifndef FL_JSON_FILE_H
#define FL_JSON_FILE_H

#include <locale.h>
#include <stdio.h>

#include "status.h"

typedef enum fl_json_event {
  FL_JSON_END, /* of the file */
  FL_JSON_OBJECT,
  FL_JSON_OBJECT_END,
  FL_JSON_ARRAY,
  FL_JSON_ARRAY_END,
  FL_JSON_KEY,    /* text; its value follows */
  FL_JSON_STRING, /* text */
  FL_JSON_NUMBER, /* number; NaN and infinities, which Python writes, too */
  FL_JSON_TRUE,
  FL_JSON_FALSE,
  FL_JSON_NULL,
} fl_json_event;

enum { FL_JSON_DEPTH = 64, FL_JSON_TEXT_MAX = 1 << 24 };

typedef struct fl_json {
  const char *path; /* the caller's */
  fl_json_event event;
  char *text; /* UTF-8 of a key or string, without escapes; ends in a zero byte */
  size_t length;
  double number;
  /* Private. */
  FILE *file;
  locale_t locale;
  size_t room;
  int64_t byte; /* read so far */
  int depth;
  bool in_object[FL_JSON_DEPTH], first, after_key;
} fl_json;

/* Opens a file. Errors: IO, MEMORY. */
fl_status fl_json_open(const char *path, fl_json *out);
void fl_json_close(fl_json *j); /* accepts a zeroed one */
/* Reads the next event. Errors: DATA (no JSON, deeper than FL_JSON_DEPTH, a text past
 * FL_JSON_TEXT_MAX; with file and byte), IO, MEMORY. */
fl_status fl_json_next(fl_json *j);
/* Reads the rest of the value whose first event was just read. Errors: as fl_json_next. */
fl_status fl_json_pass(fl_json *j);
/* A DATA failure at the present place: "file: byte N: <why>". */
fl_status fl_json_fail(const fl_json *j, const char *why);

#endif
