#include "record.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

const fl_record *fl_catalogue_find(const fl_catalogue *catalogue, const char *name) {
  for (int i = 0; i < catalogue->n; i++)
    if (strcmp(catalogue->entry[i]->name, name) == 0) return catalogue->entry[i];
  return NULL;
}

enum { WORD_MAX = 63 };

/* Levenshtein's distance, one row of the table at a time; b has at most WORD_MAX characters. */
static size_t distance(const char *a, const char *b) {
  size_t row[WORD_MAX + 1], n = strlen(b);
  for (size_t j = 0; j <= n; j++) row[j] = j;
  for (size_t i = 1; a[i - 1]; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= n; j++) {
      size_t best = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      if (row[j] + 1 < best) best = row[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      row[j] = best;
    }
  }
  return row[n];
}

const char *fl_nearest(const char *word, int n, const char *const *words) {
  size_t length = strlen(word), allowed = length / 3 > 2 ? length / 3 : 2;
  const char *nearest = NULL;
  /* As many edits as the word has letters is another word, not a misspelling. */
  size_t best = length < allowed + 1 ? length : allowed + 1;
  for (int i = 0; i < n; i++) {
    if (strlen(words[i]) > WORD_MAX) continue;
    size_t edits = distance(word, words[i]);
    if (edits < best) {
      best = edits;
      nearest = words[i];
    }
  }
  return nearest;
}

static void write_default(const fl_param *param, void *at) {
  switch (param->type) {
    case FL_REAL:
      *(double *)at = param->dflt;
      break;
    case FL_INT:
      *(int64_t *)at = (int64_t)param->dflt;
      break;
    case FL_BOOL:
      *(bool *)at = param->dflt != 0;
      break;
    case FL_TEXT:
      *(const char **)at = param->text;
      break;
    case FL_CHOICE:
    case FL_INT32:
      *(int *)at = (int)param->dflt;
      break;
  }
}

void fl_record_defaults(const fl_record *record, void *args) {
  if (record->args_size == 0) return;
  memset(args, 0, record->args_size);
  for (int i = 0; i < record->n_param; i++)
    write_default(&record->param[i], (char *)args + record->param[i].offset);
}
