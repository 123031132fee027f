#include <string.h>

#include "config_parts.h"
#include "param.h"

void fl_words_add(fl_wordlist *list, const char *word) {
  if (list->n < FL_WORDS_MAX) list->word[list->n++] = word;
}

void fl_words_add_entries(fl_wordlist *list, const fl_catalogue *catalogue) {
  for (int i = 0; i < catalogue->n; i++) fl_words_add(list, catalogue->entry[i]->name);
}

void fl_words_add_params(fl_wordlist *list, const fl_record *record, int first) {
  for (int i = first; record && i < record->n_param; i++) fl_words_add(list, record->param[i].name);
}

const char *fl_words_join(const fl_wordlist *list, char out[FL_WORDS_TEXT]) {
  size_t used = 0;
  out[0] = '\0';
  for (int i = 0; i < list->n; i++) {
    if (used + strlen(list->word[i]) + 8 > FL_WORDS_TEXT) {
      strcpy(out + used, ", ...");
      break;
    }
    used += (size_t)sprintf(out + used, "%s%s", i ? ", " : "", list->word[i]);
  }
  return out;
}

void fl_config_no_entry(fl_tree *tree, int line, const fl_catalogue *catalogue, const char *name) {
  char shown[64], list[FL_WORDS_TEXT];
  fl_wordlist known = {0};
  fl_words_add_entries(&known, catalogue);
  const char *near = fl_nearest(name, known.n, known.word);
  fl_shown(name, sizeof shown, shown);
  if (near)
    fl_tree_mistake(tree, line, "no %s '%s'; did you mean '%s'?", catalogue->kind, shown, near);
  else
    fl_tree_mistake(tree, line, "no %s '%s'; it must be one of %s", catalogue->kind, shown,
                    fl_words_join(&known, list));
}

static const fl_config_part *section_with(const char *key) {
  for (int i = 1; i < fl_config_n_part; i++)
    if (fl_record_param(fl_config_part_list[i].section, key)) return &fl_config_part_list[i];
  return NULL;
}

void fl_config_unknown(fl_tree *tree, const fl_yaml *node, const fl_wordlist *known) {
  char list[FL_WORDS_TEXT];
  const fl_config_part *elsewhere = section_with(node->key);
  const char *near = fl_nearest(node->key, known->n, known->word);
  if (near)
    fl_yaml_mistake(tree, node, "is no setting; did you mean '%s'?", near);
  else if (elsewhere)
    fl_yaml_mistake(tree, node, "is no setting; did you mean %s.%s?", elsewhere->path, node->key);
  else
    fl_yaml_mistake(tree, node, "is no setting; known here: %s", fl_words_join(known, list));
}
