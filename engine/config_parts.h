/* The parts of a configuration, as its own files see them. Internal to config*.c.
 *
 * A part is a place in the file: fixed settings (a section's record), an entry of a catalogue with
 * its parameters, or both in one mapping, as in `data`. Shaping, binding and writing all walk the
 * same table, so a new setting is one line in a section's parameters and nothing else. */
#ifndef FL_CONFIG_PARTS_H
#define FL_CONFIG_PARTS_H

#include <stdio.h>

#include "config.h"
#include "tree.h"

typedef enum fl_part_form {
  FL_PART_MAP,
  FL_PART_ENTRIES, /* a list of catalogue entries: filters, metrics */
  FL_PART_LAYERS   /* model.layers */
} fl_part_form;

typedef struct fl_config_part {
  const char *path; /* such as "data.partition"; "": the top of the file */
  fl_part_form form;
  const fl_record *section;      /* fixed settings; NULL: none */
  size_t section_at;             /* where in fl_config their values live */
  const fl_catalogue *catalogue; /* what is chosen here; NULL: nothing */
  size_t choice_at;              /* the fl_choice (or the first of them) in fl_config */
  const char *name_key;          /* the key that names the entry */
  const char *fallback;          /* the entry when none is named; NULL: one must be named */
  size_t count_at;               /* of a list: where in fl_config the number of entries lives */
  int most;                      /* entries of a list */
  const char *none;              /* the word for a list without entries; NULL: [] */
  bool free;                     /* as FL_FREE: the list never changes the weights */
  const char *instead;           /* a key that may stand in place of the name; NULL: none */
} fl_config_part;

extern const fl_config_part fl_config_part_list[]; /* a part comes after the one it lies in */
extern const int fl_config_n_part;

/* The last word of a part's path. */
const char *fl_part_key(const fl_config_part *part);
/* Whether key, inside this part, is another part. */
bool fl_part_holds(const fl_config_part *part, const char *key);

/* Gives shorthands their full form: a bare name becomes a mapping, nothing becomes an empty one.
 * Where a name and what may stand in its place are both there, the command line's wins. */
fl_status fl_config_shape(fl_tree *tree);
/* Checks the tree and fills in *config; what is wrong becomes mistakes. Errors: MEMORY. */
fl_status fl_config_bind(fl_tree *tree, fl_config *config);
/* Reads one value (bind) into args. */
fl_status fl_config_bind_value(fl_tree *tree, const fl_yaml *node, const fl_param *param,
                               void *args);
/* Fills in layer and n_layer. */
fl_status fl_config_bind_layers(fl_tree *tree, const fl_config_part *part, fl_config *config);

/* Words that would have been right, for messages. */
enum { FL_WORDS_MAX = 64, FL_WORDS_TEXT = 240 };
typedef struct fl_wordlist {
  int n;
  const char *word[FL_WORDS_MAX]; /* not owned */
} fl_wordlist;
void fl_words_add(fl_wordlist *list, const char *word);
void fl_words_add_entries(fl_wordlist *list, const fl_catalogue *catalogue);
/* The names of the record's parameters from number `first` on; record may be NULL. */
void fl_words_add_params(fl_wordlist *list, const fl_record *record, int first);
/* "a, b, c", cut with "..." when it gets long. Returns out. */
const char *fl_words_join(const fl_wordlist *list, char out[FL_WORDS_TEXT]);
/* Notes that `name` is no entry, with the nearest one or all there are. */
void fl_config_no_entry(fl_tree *tree, int line, const fl_catalogue *catalogue, const char *name);
/* Notes that node's key is no setting, with the nearest of `known`, the section that has such a
 * setting, or all that are known. */
void fl_config_unknown(fl_tree *tree, const fl_yaml *node, const fl_wordlist *known);

/* Sets config->resolved and config->digest. Errors: MEMORY. */
fl_status fl_config_write(fl_config *config);

#endif
