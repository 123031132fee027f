#include <string.h>

#include "config_parts.h"

/* An item of a list of entries or layers: `clip` becomes {name: clip}, `relu` becomes {relu: }. */
static fl_status shape_item(fl_tree *tree, const fl_config_part *part, fl_yaml *item) {
  if (item->kind != FL_YAML_VALUE) return FEDLANE_OK;
  if (part->form == FL_PART_ENTRIES) return fl_yaml_wrap(tree, item, part->name_key);
  const char *kind = item->text;
  item->text = "";
  item->quoted = false;
  return fl_yaml_wrap(tree, item, kind);
}

static void choose_side(const fl_config_part *part, const fl_yaml *map) {
  fl_yaml *name = fl_yaml_find(map, part->name_key), *other = fl_yaml_find(map, part->instead);
  if (!name || !other || (name->line == 0) == (other->line == 0)) return;
  fl_yaml_remove(name->line ? name : other);
}

static fl_status shape_part(fl_tree *tree, const fl_config_part *part, fl_yaml *node) {
  bool none = part->none && node->kind == FL_YAML_VALUE && strcmp(node->text, part->none) == 0;
  if (none || fl_yaml_empty(node)) {
    node->kind = part->form == FL_PART_MAP ? FL_YAML_MAP : FL_YAML_LIST;
  } else if (part->form == FL_PART_MAP && part->catalogue && node->kind == FL_YAML_VALUE) {
    return fl_yaml_wrap(tree, node, part->name_key);
  } else if (part->form != FL_PART_MAP && node->kind == FL_YAML_LIST) {
    for (fl_yaml *item = node->child; item; item = item->next) FL_TRY(shape_item(tree, part, item));
  }
  if (part->instead) choose_side(part, node);
  return FEDLANE_OK;
}

fl_status fl_config_shape(fl_tree *tree) {
  for (int i = 1; i < fl_config_n_part; i++) {
    fl_yaml *node = fl_tree_find(tree, fl_config_part_list[i].path);
    if (node) FL_TRY(shape_part(tree, &fl_config_part_list[i], node));
  }
  return FEDLANE_OK;
}
