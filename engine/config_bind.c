#include <string.h>

#include "config_parts.h"
#include "param.h"

/* One mapping being bound: the fixed settings and the entry whose parameters it may hold. */
typedef struct scope {
  fl_tree *tree;
  const fl_config_part *part;
  void *section;     /* arguments of part->section */
  fl_choice *choice; /* NULL: nothing is chosen here */
  fl_yaml *map;      /* NULL: the file does not have it */
  const char *path;  /* of the mapping, also where it is not there */
  bool quiet;        /* it is no mapping, and that has been said: nothing is missing from it */
} scope;

static void no_name(const scope *s) {
  const fl_config_part *part = s->part;
  char list[FL_WORDS_TEXT], instead[80] = "";
  fl_wordlist known = {0};
  fl_words_add_entries(&known, part->catalogue);
  if (part->instead)
    snprintf(instead, sizeof instead, ", or %s.%s in its place", s->path, part->instead);
  fl_tree_mistake(s->tree, s->map ? s->map->line : 1, "%s.%s is missing; it must be one of %s%s",
                  s->path, part->name_key, fl_words_join(&known, list), instead);
}

/* Finds the entry that the mapping names, or the one that stands in for it. */
static fl_status choose(const scope *s) {
  const fl_config_part *part = s->part;
  const fl_yaml *name = fl_yaml_find(s->map, part->name_key);
  const char *text = name ? name->text : part->fallback;
  if (name && name->kind != FL_YAML_VALUE) {
    fl_yaml_mistake(s->tree, name, "is %s; it must be one word, the name of the %s",
                    fl_yaml_kind_name(name), part->catalogue->kind);
    return FEDLANE_OK;
  }
  if (!text) {
    if (!s->quiet && !(part->instead && fl_yaml_find(s->map, part->instead))) no_name(s);
    return FEDLANE_OK;
  }
  const fl_record *record = fl_catalogue_find(part->catalogue, text);
  if (!record) {
    fl_config_no_entry(s->tree, name ? name->line : 1, part->catalogue, text);
    return FEDLANE_OK;
  }
  s->choice->record = record;
  if (record->args_size == 0) return FEDLANE_OK;
  s->choice->args = fl_tree_take(s->tree, record->args_size);
  if (!s->choice->args) return fl_tree_no_memory();
  fl_record_defaults(record, s->choice->args);
  return FEDLANE_OK;
}

static const fl_record *owner_of(const fl_catalogue *catalogue, const char *key) {
  for (int i = 0; i < catalogue->n; i++)
    if (fl_record_param(catalogue->entry[i], key)) return catalogue->entry[i];
  return NULL;
}

static void unknown(const scope *s, const fl_yaml *node) {
  fl_wordlist known = {0};
  if (s->part->name_key) fl_words_add(&known, s->part->name_key);
  fl_words_add_params(&known, s->part->section, 0);
  if (s->choice) fl_words_add_params(&known, s->choice->record, 0);
  for (int i = 1; i < fl_config_n_part; i++) {
    const char *key = fl_part_key(&fl_config_part_list[i]);
    if (fl_part_holds(s->part, key)) fl_words_add(&known, key);
  }
  fl_config_unknown(s->tree, node, &known);
}

/* A key that neither the section nor the chosen entry knows. One that belongs to another entry is
 * passed over when the entry was chosen on the command line and the key comes from the file. */
static void stranger(const scope *s, const fl_yaml *node) {
  const fl_catalogue *catalogue = s->part->catalogue;
  const fl_record *owner = catalogue ? owner_of(catalogue, node->key) : NULL;
  const fl_yaml *name = owner ? fl_yaml_find(s->map, s->part->name_key) : NULL;
  if (owner && (!s->choice->record || (name && name->line == 0 && node->line != 0))) return;
  if (!owner)
    unknown(s, node);
  else
    fl_yaml_mistake(s->tree, node, "is a parameter of %s, not of %s", owner->name,
                    s->choice->record->name);
}

static void require(const scope *s, const fl_record *record) {
  char wants[FL_PARAM_TEXT];
  for (int i = 0; record && i < record->n_param; i++) {
    const fl_param *param = &record->param[i];
    if (!(param->flags & FL_REQUIRED) || fl_yaml_find(s->map, param->name)) continue;
    fl_tree_mistake(s->tree, s->map ? s->map->line : 1, "%s.%s is missing; it must %s", s->path,
                    param->name, fl_param_wants(param, wants));
  }
}

/* Binds every key of the mapping to the section or to the chosen entry. */
static fl_status bind_keys(const scope *s) {
  const fl_config_part *part = s->part;
  if (s->choice) FL_TRY(choose(s));
  const fl_record *chosen = s->choice ? s->choice->record : NULL;
  for (fl_yaml *node = s->map ? s->map->child : NULL; node; node = node->next) {
    const fl_param *fixed = fl_record_param(part->section, node->key);
    const fl_param *own = fl_record_param(chosen, node->key);
    if (fixed)
      FL_TRY(fl_config_bind_value(s->tree, node, fixed, s->section));
    else if (own)
      FL_TRY(fl_config_bind_value(s->tree, node, own, s->choice->args));
    else if (!fl_part_holds(part, node->key) &&
             !(part->name_key && strcmp(part->name_key, node->key) == 0))
      stranger(s, node);
  }
  if (!s->quiet) require(s, part->section);
  if (!s->quiet) require(s, chosen);
  return FEDLANE_OK;
}

static fl_status bind_map(fl_tree *tree, const fl_config_part *part, fl_config *config) {
  fl_yaml *map = fl_tree_find(tree, part->path);
  scope s = {.tree = tree, .part = part, .map = map, .path = part->path};
  if (part->section) s.section = (char *)config + part->section_at;
  if (part->section) fl_record_defaults(part->section, s.section);
  if (part->catalogue) s.choice = (fl_choice *)(void *)((char *)config + part->choice_at);
  if (map && map->kind != FL_YAML_MAP) {
    fl_yaml_mistake(tree, map, "is %s; it must be a mapping such as {%s: ...}",
                    fl_yaml_kind_name(map),
                    part->name_key ? part->name_key : part->section->param[0].name);
    s.map = NULL;
    s.quiet = true;
  } else if (part->instead && fl_yaml_find(map, part->name_key) &&
             fl_yaml_find(map, part->instead)) {
    fl_yaml_mistake(tree, map, "has both %s and %s; it takes one of them", part->name_key,
                    part->instead);
  }
  return bind_keys(&s);
}

static fl_status bind_entries(fl_tree *tree, const fl_config_part *part, fl_config *config) {
  fl_yaml *list = fl_tree_find(tree, part->path);
  int *n = (int *)(void *)((char *)config + part->count_at);
  if (!list) return FEDLANE_OK;
  if (list->kind != FL_YAML_LIST) {
    fl_yaml_mistake(tree, list, "is %s; it must be a list such as [{name: ...}]",
                    fl_yaml_kind_name(list));
    return FEDLANE_OK;
  }
  for (fl_yaml *item = list->child; item; item = item->next) {
    char path[64];
    if (*n == part->most) {
      fl_yaml_mistake(tree, item, "is one too many; there are at most %d", part->most);
      break;
    }
    snprintf(path, sizeof path, "%s.%d", part->path, *n);
    fl_choice *choice = (fl_choice *)(void *)((char *)config + part->choice_at);
    scope s = {.tree = tree, .part = part, .map = item, .path = path, .choice = &choice[(*n)++]};
    if (item->kind == FL_YAML_MAP)
      FL_TRY(bind_keys(&s));
    else
      fl_yaml_mistake(tree, item, "is %s; it must be a mapping such as {name: ...}",
                      fl_yaml_kind_name(item));
  }
  return FEDLANE_OK;
}

fl_status fl_config_bind(fl_tree *tree, fl_config *config) {
  for (int i = 0; i < fl_config_n_part; i++) {
    const fl_config_part *part = &fl_config_part_list[i];
    if (part->form == FL_PART_MAP) FL_TRY(bind_map(tree, part, config));
    if (part->form == FL_PART_ENTRIES) FL_TRY(bind_entries(tree, part, config));
    if (part->form == FL_PART_LAYERS) FL_TRY(fl_config_bind_layers(tree, part, config));
  }
  return FEDLANE_OK;
}
