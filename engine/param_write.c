#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "param.h"

/* The code point that starts at text, and its length in bytes; 0 bytes when it is not UTF-8. */
static int decode(const char *text, uint32_t *point) {
  const unsigned char *c = (const unsigned char *)text;
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  int length = *c < 0x80 ? 1 : *c >= 0xF0 ? 4 : *c >= 0xE0 ? 3 : 2;
  *point = length == 1 ? *c : *c & (0x7Fu >> length);
  if (*c >= 0x80 && (*c < 0xC2 || *c > 0xF4)) return 0;
  for (int i = 1; i < length; i++) {
    if ((c[i] & 0xC0) != 0x80) return 0;
    *point = *point << 6 | (c[i] & 0x3Fu);
  }
  bool surrogate = *point >= 0xD800 && *point <= 0xDFFF;
  return *point < least[length] || *point > 0x10FFFF || surrogate ? 0 : length;
}

bool fl_text_valid(const char *text) {
  uint32_t point;
  for (int length; *text; text += length)
    if ((length = decode(text, &point)) == 0) return false;
  return true;
}

void fl_text_mend(char *text) {
  uint32_t point;
  for (int length; *text; text += length)
    if ((length = decode(text, &point)) == 0) {
      *text = '?';
      length = 1;
    }
}

/* Control characters and those that YAML takes for line breaks or does not allow as they are. */
static bool needs_escape(uint32_t point) {
  return point < 0x20 || (point >= 0x7F && point < 0xA0) || point == 0x2028 || point == 0x2029 ||
         point == 0xFEFF || point == 0xFFFE || point == 0xFFFF;
}

void fl_text_write(const char *text, FILE *out) {
  uint32_t point;
  fputc('"', out);
  for (int length; *text && (length = decode(text, &point)) > 0; text += length) {
    if (needs_escape(point)) {
      fprintf(out, "\\u%04X", point);
      continue;
    }
    if (point == '"' || point == '\\') fputc('\\', out);
    if (point == '$') fputc('$', out);
    fwrite(text, 1, (size_t)length, out);
  }
  fputc('"', out);
}

/* The shortest of 15 to 17 digits that reads back to the same bits, with a point before an
 * exponent: some YAML readers take 1e-05 for a text. */
static void write_real(double value, FILE *out) {
  char text[40];
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, value);
    if (strtod(text, NULL) == value) break;
  }
  size_t mantissa = strcspn(text, "e");
  bool add = text[mantissa] && !strchr(text, '.');
  fprintf(out, "%.*s%s%s", (int)mantissa, text, add ? ".0" : "", text + mantissa);
}

void fl_param_write(const fl_param *param, const void *args, FILE *out) {
  const void *at = (const char *)args + param->offset;
  size_t length = 0;
  const char *word;
  switch (param->type) {
    case FL_REAL:
      write_real(*(const double *)at, out);
      break;
    case FL_INT:
      fprintf(out, "%lld", (long long)*(const int64_t *)at);
      break;
    case FL_INT32:
      fprintf(out, "%d", *(const int *)at);
      break;
    case FL_BOOL:
      fputs(*(const bool *)at ? "true" : "false", out);
      break;
    case FL_TEXT:
      fl_text_write(*(const char *const *)at ? *(const char *const *)at : "", out);
      break;
    case FL_CHOICE:
      word = fl_param_word(param, *(const int *)at, &length);
      fprintf(out, "%.*s", (int)length, word ? word : "");
      break;
  }
}

const char *fl_param_print(const fl_param *param, const void *args, size_t size, char *out) {
  FILE *file = fmemopen(out, size, "w");
  out[0] = '\0';
  if (!file) return out;
  fl_param_write(param, args, file);
  fclose(file);
  out[size - 1] = '\0';
  return out;
}
