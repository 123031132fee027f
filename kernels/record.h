/* Records and catalogues: how backends, models, algorithms, filters, samplers, partitions, formats
 * and sinks are described, found, listed and given their parameters.
 *
 * An entry is a `static const` struct whose first member is an fl_record, in a file of its own, and
 * one line in its folder's list.c. Nothing else has to know about it: the configuration reader,
 * `fedlane list`, `fedlane show` and the error messages all read the record. */
#ifndef FL_RECORD_H
#define FL_RECORD_H

#include <stddef.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fl_type {
  FL_REAL,   /* double */
  FL_INT,    /* int64_t */
  FL_BOOL,   /* bool */
  FL_TEXT,   /* const char *, owned by the configuration */
  FL_CHOICE, /* int: index into the comma-separated words of `text` */
  FL_INT32,  /* int: as FL_INT, for structs that hold plain ints, such as fl_layer */
} fl_type;

enum {
  FL_LO_OPEN = 1,  /* lo itself is not allowed */
  FL_HI_OPEN = 2,  /* hi itself is not allowed */
  FL_REQUIRED = 4, /* has no default */
  FL_FREE = 8,     /* may differ when a run is resumed: it never changes the weights */
  FL_SOURCE = 16,  /* TEXT: a file that is read too, named as it is or beside data.path */
};

/* One parameter: where its value lives in the entry's argument struct, its default and range. */
typedef struct fl_param {
  const char *name;
  fl_type type;
  size_t offset;       /* offsetof(args struct, member) */
  double dflt, lo, hi; /* REAL, INT, BOOL (0/1) and CHOICE (index); lo == hi means no bounds */
  const char *text;    /* TEXT: the default; CHOICE: the words, such as "fp32,tf32,bf16" */
  unsigned flags;
  const char *unit; /* such as "examples"; NULL: none */
  const char *help; /* one line, no full stop */
} fl_param;

typedef struct fl_record {
  const char *name;  /* as written in a configuration: lower case, digits, '_' */
  const char *help;  /* one line */
  const char *paper; /* citation with arXiv number or DOI; NULL: none */
  size_t args_size;  /* bytes of the argument struct; 0: no parameters */
  const fl_param *param;
  int n_param;
} fl_record;

typedef struct fl_catalogue {
  const char *kind; /* singular, such as "algorithm" */
  const char *help; /* one line: what an entry of this kind does */
  const fl_record *const *entry;
  int n;
} fl_catalogue;

#define FL_COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* The entry called name, or NULL. */
const fl_record *fl_catalogue_find(const fl_catalogue *catalogue, const char *name);

/* The one of n words closest to `word` by edit distance, or NULL when none is near enough to be
 * a misspelling (distance at most 2, or a third of the length). */
const char *fl_nearest(const char *word, int n, const char *const *words);

/* Writes every parameter's default into args (args_size bytes, zeroed first). */
void fl_record_defaults(const fl_record *record, void *args);

#ifdef __cplusplus
}
#endif
#endif
