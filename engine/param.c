#include "param.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tree.h"

const char *fl_type_name(fl_type type) {
  static const char *const name[] = {"real", "int", "bool", "text", "choice", "int"};
  return name[type];
}

const fl_param *fl_record_param(const fl_record *record, const char *name) {
  for (int i = 0; record && i < record->n_param; i++)
    if (strcmp(record->param[i].name, name) == 0) return &record->param[i];
  return NULL;
}

const char *fl_param_word(const fl_param *param, int i, size_t *length) {
  const char *word = param->text;
  for (; word && i > 0; i--) {
    word = strchr(word, ',');
    if (word) word++;
  }
  if (word) *length = strcspn(word, ",");
  return word;
}

static bool bounded(const fl_param *param) { return param->lo < param->hi; }

const char *fl_param_range(const fl_param *param, char out[FL_PARAM_TEXT]) {
  size_t used = 0;
  out[0] = '\0';
  if (param->type == FL_CHOICE) {
    for (const char *c = param->text; *c && used + 3 < FL_PARAM_TEXT; c++) {
      out[used++] = *c;
      if (*c == ',') out[used++] = ' ';
    }
    out[used] = '\0';
  } else if (param->type != FL_BOOL && param->type != FL_TEXT && bounded(param)) {
    bool open_lo = param->flags & FL_LO_OPEN || isinf(param->lo);
    bool open_hi = param->flags & FL_HI_OPEN || isinf(param->hi);
    snprintf(out, FL_PARAM_TEXT, "%c%.15g, %.15g%c", open_lo ? '(' : '[', param->lo, param->hi,
             open_hi ? ')' : ']');
  }
  return out;
}

const char *fl_param_wants(const fl_param *param, char out[FL_PARAM_TEXT]) {
  static const char *const noun[] = {"a number", "a whole number", "true or false",
                                     "a text",   "one of",         "a whole number"};
  char range[FL_PARAM_TEXT];
  fl_param_range(param, range);
  const char *join = param->type == FL_CHOICE ? " " : *range ? " in " : "";
  snprintf(out, FL_PARAM_TEXT, "be %s%s%.200s", noun[param->type], join, range);
  return out;
}

static bool refuse(const fl_param *param, const char *text, bool quoted, char why[FL_PARAM_TEXT]) {
  char wants[FL_PARAM_TEXT], shown[64];
  const char *quote = quoted ? "\"" : "";
  snprintf(why, FL_PARAM_TEXT, "is %s%s%s; it must %.220s", quote,
           fl_shown(text, sizeof shown, shown), quote, fl_param_wants(param, wants));
  return false;
}

static bool inside(const fl_param *param, double value) {
  if (!bounded(param)) return true;
  if (value < param->lo || (value == param->lo && param->flags & FL_LO_OPEN)) return false;
  return value < param->hi || (value == param->hi && !(param->flags & FL_HI_OPEN));
}

static bool read_number(const char *text, double *out) {
  char *end;
  if (!*text || strspn(text, "0123456789+-.eE") != strlen(text)) return false;
  *out = strtod(text, &end);
  return *end == '\0' && isfinite(*out);
}

/* Digits, or a whole number written otherwise, such as 1e6, as far as doubles count exactly. */
static bool read_whole(const char *text, int64_t *out) {
  double value;
  const char *digits = text + (*text == '-' || *text == '+');
  if (!read_number(text, &value)) return false;
  bool plain = strspn(digits, "0123456789") == strlen(digits);
  if (fabs(value) > (plain ? 9e18 : 9e15)) return false;
  *out = plain ? strtoll(text, NULL, 10) : (int64_t)value;
  return plain || (double)*out == value;
}

static bool read_figure(const fl_param *param, const char *text, void *at,
                        char why[FL_PARAM_TEXT]) {
  int64_t integer = 0;
  double value = 0;
  bool real = param->type == FL_REAL;
  if (!(real ? read_number(text, &value) : read_whole(text, &integer)))
    return refuse(param, text, false, why);
  if (!real) value = (double)integer;
  if (!inside(param, value) || (param->type == FL_INT32 && fabs(value) > INT32_MAX)) {
    char range[FL_PARAM_TEXT], shown[64];
    snprintf(why, FL_PARAM_TEXT, "is %s; it must lie in %.200s",
             fl_shown(text, sizeof shown, shown), fl_param_range(param, range));
    return false;
  }
  if (real)
    *(double *)at = value;
  else if (param->type == FL_INT)
    *(int64_t *)at = integer;
  else
    *(int *)at = (int)integer;
  return true;
}

static bool read_choice(const fl_param *param, const char *text, int *out,
                        char why[FL_PARAM_TEXT]) {
  enum { WORDS = 32, WORD = 48 };
  char copy[WORDS][WORD], range[FL_PARAM_TEXT], shown[64];
  const char *list[WORDS], *word;
  size_t length = 0;
  int n = 0;
  for (; n < WORDS && (word = fl_param_word(param, n, &length)); n++) {
    snprintf(copy[n], WORD, "%.*s", (int)length, word);
    list[n] = copy[n];
    if (strcmp(text, copy[n]) != 0) continue;
    *out = n;
    return true;
  }
  const char *near = fl_nearest(text, n, list);
  if (!near) return refuse(param, text, false, why);
  snprintf(why, FL_PARAM_TEXT, "is %s; did you mean '%s'? It must be one of %.160s",
           fl_shown(text, sizeof shown, shown), near, fl_param_range(param, range));
  return false;
}

bool fl_param_read(const fl_param *param, const char *text, bool quoted, void *args,
                   char why[FL_PARAM_TEXT]) {
  void *at = (char *)args + param->offset;
  bool yes = strcmp(text, "true") == 0;
  if (param->type == FL_CHOICE) return read_choice(param, text, at, why);
  if (param->type == FL_TEXT) {
    *(const char **)at = text;
    return true;
  }
  if (quoted) return refuse(param, text, true, why);
  if (param->type != FL_BOOL) return read_figure(param, text, at, why);
  if (!yes && strcmp(text, "false") != 0) return refuse(param, text, false, why);
  *(bool *)at = yes;
  return true;
}
