#include "formats/json_file.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 256, BUFFER = 1 << 16 };

fl_status fl_json_open(const char *path, fl_json *out) {
  *out = (fl_json){.path = path, .first = true};
  out->file = fopen(path, "rb");
  if (!out->file) return fl_fail(FEDLANE_IO, "cannot read %s: %s", path, strerror(errno));
  out->locale = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
  out->text = malloc(out->room = FIRST_BYTES);
  if (out->locale && out->text && setvbuf(out->file, NULL, _IOFBF, BUFFER) == 0) return FEDLANE_OK;
  fl_json_close(out);
  return fl_fail(FEDLANE_MEMORY, "no memory to read %s", path);
}

void fl_json_close(fl_json *j) {
  if (j->file) fclose(j->file);
  if (j->locale) freelocale(j->locale);
  free(j->text);
  *j = (fl_json){0};
}

fl_status fl_json_fail(const fl_json *j, const char *why) {
  return fl_fail(FEDLANE_DATA, "%s: byte %lld: %s", j->path, (long long)j->byte, why);
}

static int next_byte(fl_json *j) {
  int byte = getc_unlocked(j->file);
  j->byte += byte != EOF;
  return byte;
}

static void unread(fl_json *j, int byte) {
  if (byte == EOF) return;
  ungetc(byte, j->file);
  j->byte--;
}

static int next_sign(fl_json *j) {
  int byte;
  do byte = next_byte(j);
  while (byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r');
  return byte;
}

static fl_status put(fl_json *j, int byte) {
  if (j->length + 1 >= j->room) {
    if (j->room >= FL_JSON_TEXT_MAX) return fl_json_fail(j, "the text is longer than 16 MiB");
    char *text = realloc(j->text, 2 * j->room);
    if (!text) return fl_fail(FEDLANE_MEMORY, "no memory for a text of %s", j->path);
    j->text = text;
    j->room *= 2;
  }
  j->text[j->length++] = (char)byte;
  j->text[j->length] = '\0';
  return FEDLANE_OK;
}

/* Four hexadecimal digits. */
static fl_status read_unit(fl_json *j, unsigned *unit) {
  *unit = 0;
  for (int i = 0; i < 4; i++) {
    int byte = next_byte(j);
    if (byte == EOF || !isxdigit(byte)) return fl_json_fail(j, "\\u needs four digits");
    *unit = *unit * 16 + (unsigned)(isdigit(byte) ? byte - '0' : (byte | 32) - 'a' + 10);
  }
  return FEDLANE_OK;
}

static fl_status put_code(fl_json *j, unsigned code) {
  if (code < 0x80) return put(j, (int)code);
  if (code < 0x800) {
    FL_TRY(put(j, (int)(0xc0 | code >> 6)));
  } else {
    if (code < 0x10000) {
      FL_TRY(put(j, (int)(0xe0 | code >> 12)));
    } else {
      FL_TRY(put(j, (int)(0xf0 | code >> 18)));
      FL_TRY(put(j, (int)(0x80 | (code >> 12 & 63))));
    }
    FL_TRY(put(j, (int)(0x80 | (code >> 6 & 63))));
  }
  return put(j, (int)(0x80 | (code & 63)));
}

static fl_status read_escape(fl_json *j) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  int byte = next_byte(j);
  const char *at = byte > 0 ? strchr(from, byte) : NULL;
  if (at) return put(j, to[at - from]);
  unsigned unit, low;
  if (byte != 'u') return fl_json_fail(j, "an escape that JSON does not know");
  FL_TRY(read_unit(j, &unit));
  if (unit == 0) return fl_json_fail(j, "a zero byte is no text");
  if (unit < 0xd800 || unit > 0xdfff) return put_code(j, unit);
  if (unit > 0xdbff || next_byte(j) != '\\' || next_byte(j) != 'u')
    return fl_json_fail(j, "half a surrogate pair");
  FL_TRY(read_unit(j, &low));
  if (low < 0xdc00 || low > 0xdfff) return fl_json_fail(j, "half a surrogate pair");
  return put_code(j, 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
}

/* The rest of a text, whose first quote has been read. */
static fl_status read_text(fl_json *j) {
  j->length = 0;
  *j->text = '\0';
  for (int byte; (byte = next_byte(j)) != '"';) {
    if (byte == EOF) return fl_json_fail(j, "the file ends in a text");
    if (byte < 0x20) return fl_json_fail(j, "a control character stands in a text");
    FL_TRY(byte == '\\' ? read_escape(j) : put(j, byte));
  }
  return FEDLANE_OK;
}

/* A number or a word such as true, whose first byte has been read. */
static fl_status read_word(fl_json *j, int byte) {
  static const struct {
    const char *text;
    fl_json_event event;
    double number;
  } words[] = {{"true", FL_JSON_TRUE, 0},
               {"false", FL_JSON_FALSE, 0},
               {"null", FL_JSON_NULL, 0},
               {"NaN", FL_JSON_NUMBER, NAN},
               {"Infinity", FL_JSON_NUMBER, INFINITY},
               {"-Infinity", FL_JSON_NUMBER, -INFINITY}};
  j->length = 0;
  for (; byte != EOF && (isalnum(byte) || byte == '+' || byte == '-' || byte == '.');
       byte = next_byte(j))
    FL_TRY(put(j, byte));
  unread(j, byte);
  if (j->length == 0) return fl_json_fail(j, "there is no value");
  for (int i = 0; i < (int)(sizeof words / sizeof *words); i++)
    if (strcmp(j->text, words[i].text) == 0) {
      j->event = words[i].event;
      j->number = words[i].number;
      return FEDLANE_OK;
    }
  char *end;
  j->event = FL_JSON_NUMBER;
  j->number = strtod_l(j->text, &end, j->locale);
  bool plain = j->text[strspn(j->text, "+-.0123456789eE")] == '\0' && *j->text != '+';
  return plain && *end == '\0' ? FEDLANE_OK : fl_json_fail(j, "that is neither number nor word");
}

static fl_status open_level(fl_json *j, bool object) {
  if (j->depth == FL_JSON_DEPTH) return fl_json_fail(j, "values are nested too deep");
  j->in_object[j->depth++] = object;
  j->first = true;
  j->event = object ? FL_JSON_OBJECT : FL_JSON_ARRAY;
  return FEDLANE_OK;
}

static fl_status close_level(fl_json *j, bool object) {
  if (j->depth == 0 || j->in_object[j->depth - 1] != object || j->after_key)
    return fl_json_fail(j, "a bracket closes what is not open");
  j->depth--;
  j->first = false;
  j->event = object ? FL_JSON_OBJECT_END : FL_JSON_ARRAY_END;
  return FEDLANE_OK;
}

static fl_status read_key(fl_json *j, int byte) {
  if (byte != '"') return fl_json_fail(j, "a key must be a text");
  FL_TRY(read_text(j));
  if (next_sign(j) != ':') return fl_json_fail(j, "a colon is missing after a key");
  j->event = FL_JSON_KEY;
  j->after_key = true;
  return FEDLANE_OK;
}

static fl_status read_value(fl_json *j, int byte) {
  j->after_key = false;
  if (byte == '{' || byte == '[') return open_level(j, byte == '{');
  j->first = false;
  if (byte != '"') return read_word(j, byte);
  j->event = FL_JSON_STRING;
  return read_text(j);
}

fl_status fl_json_next(fl_json *j) {
  int byte = next_sign(j);
  if (byte == EOF && ferror(j->file))
    return fl_fail(FEDLANE_IO, "cannot read %s: %s", j->path, strerror(errno));
  if (byte == EOF && j->depth == 0 && !j->first) return j->event = FL_JSON_END, FEDLANE_OK;
  if (byte == EOF) return fl_json_fail(j, "the file ends too early");
  if (byte == '}' || byte == ']') return close_level(j, byte == '}');
  if (j->depth == 0 && !j->first) return fl_json_fail(j, "something follows the end");
  if (!j->first && !j->after_key) {
    if (byte != ',') return fl_json_fail(j, "a comma is missing");
    byte = next_sign(j);
  }
  if (j->depth > 0 && j->in_object[j->depth - 1] && !j->after_key) return read_key(j, byte);
  return read_value(j, byte);
}

fl_status fl_json_pass(fl_json *j) {
  int depth = j->depth - (j->event == FL_JSON_OBJECT || j->event == FL_JSON_ARRAY);
  while (j->depth > depth) FL_TRY(fl_json_next(j));
  return FEDLANE_OK;
}
