/* Arguments of a record, set by name as a configuration would. */
#ifndef FL_TEST_ARGS_H
#define FL_TEST_ARGS_H

#include <stdlib.h>
#include <string.h>

#include "record.h"

typedef struct fl_args {
  const fl_record *record;
  _Alignas(16) char at[256];
} fl_args;

static inline fl_args fl_args_of(const fl_record *record) {
  fl_args args = {.record = record};
  if (record->args_size > sizeof args.at) abort();
  if (record->args_size) fl_record_defaults(record, args.at);
  return args;
}

static inline const fl_param *fl_args_find(const fl_args *args, const char *name) {
  for (int i = 0; i < args->record->n_param; i++)
    if (strcmp(args->record->param[i].name, name) == 0) return &args->record->param[i];
  abort();
}

static inline void fl_args_set(fl_args *args, const char *name, double value) {
  const fl_param *p = fl_args_find(args, name);
  char *at = args->at + p->offset; /* stored as bytes: the array is no struct of arguments */
  int64_t whole = (int64_t)value;
  int narrow = (int)value;
  bool yes = value != 0;
  switch (p->type) {
    case FL_REAL:
      memcpy(at, &value, sizeof value);
      break;
    case FL_INT:
      memcpy(at, &whole, sizeof whole);
      break;
    case FL_BOOL:
      memcpy(at, &yes, sizeof yes);
      break;
    case FL_CHOICE:
    case FL_INT32:
      memcpy(at, &narrow, sizeof narrow);
      break;
    default:
      abort();
  }
}

static inline void fl_args_text(fl_args *args, const char *name, const char *text) {
  memcpy(args->at + fl_args_find(args, name)->offset, &text, sizeof text);
}

#endif
