#include <string.h>

#include "config_parts.h"
#include "param.h"

/* The mapping's first key is the kind; its value is the kind's first parameter, if it has any. */
static fl_status bind_kind(fl_tree *tree, const fl_yaml *first, const fl_record *record,
                           fl_layer *layer) {
  char wants[FL_PARAM_TEXT];
  if (record->n_param == 0) {
    if (!fl_yaml_empty(first)) fl_yaml_mistake(tree, first, "takes no value");
  } else if (!fl_yaml_empty(first)) {
    return fl_config_bind_value(tree, first, &record->param[0], layer);
  } else if (record->param[0].flags & FL_REQUIRED) {
    fl_yaml_mistake(tree, first, "has no value; it must %s",
                    fl_param_wants(&record->param[0], wants));
  }
  return FEDLANE_OK;
}

static void require(fl_tree *tree, const fl_yaml *map, const fl_record *record) {
  char wants[FL_PARAM_TEXT];
  for (int i = 1; i < record->n_param; i++)
    if (record->param[i].flags & FL_REQUIRED && !fl_yaml_find(map, record->param[i].name))
      fl_yaml_mistake(tree, map, "lacks %s; it must %s", record->param[i].name,
                      fl_param_wants(&record->param[i], wants));
}

static fl_status bind_layer(fl_tree *tree, const fl_yaml *map, fl_layer *layer) {
  const fl_yaml *first = map->child;
  if (map->kind != FL_YAML_MAP || !first) {
    fl_yaml_mistake(tree, map, "is %s; it must be a layer such as relu or {conv: 32, kernel: 3}",
                    first ? fl_yaml_kind_name(map) : "empty");
    return FEDLANE_OK;
  }
  const fl_record *record = fl_catalogue_find(&fl_layer_kinds, first->key);
  if (!record) {
    fl_config_no_entry(tree, first->line, &fl_layer_kinds, first->key);
    return FEDLANE_OK;
  }
  fl_record_defaults(record, layer);
  FL_TRY(bind_kind(tree, first, record, layer));
  for (const fl_yaml *node = first->next; node; node = node->next) {
    const fl_param *param = fl_record_param(record, node->key);
    fl_wordlist known = {0};
    fl_words_add_params(&known, record, 1);
    if (param && param != &record->param[0])
      FL_TRY(fl_config_bind_value(tree, node, param, layer));
    else
      fl_config_unknown(tree, node, &known);
  }
  require(tree, map, record);
  for (int i = 0; i < fl_layer_kinds.n; i++)
    if (fl_layer_kinds.entry[i] == record) layer->kind = (fl_kind)i;
  return FEDLANE_OK;
}

fl_status fl_config_bind_layers(fl_tree *tree, const fl_config_part *part, fl_config *config) {
  fl_yaml *list = fl_tree_find(tree, part->path);
  if (!list) return FEDLANE_OK;
  if (list->kind != FL_YAML_LIST || !list->child) {
    fl_yaml_mistake(tree, list, "is %s; it must be a list such as [{conv: 32, kernel: 3}, relu]",
                    list->kind == FL_YAML_LIST ? "empty" : fl_yaml_kind_name(list));
    return FEDLANE_OK;
  }
  config->layer = fl_tree_take(tree, FL_LAYERS_MAX * sizeof *config->layer);
  if (!config->layer) return fl_tree_no_memory();
  for (fl_yaml *item = list->child; item; item = item->next) {
    if (config->n_layer == FL_LAYERS_MAX) {
      fl_yaml_mistake(tree, item, "is one too many; there are at most %d", FL_LAYERS_MAX);
      break;
    }
    FL_TRY(bind_layer(tree, item, &config->layer[config->n_layer++]));
  }
  return FEDLANE_OK;
}

static bool differs(const fl_param *param, const fl_layer *one, const fl_layer *other) {
  char value[256], usual[256];
  fl_param_print(param, one, sizeof value, value);
  fl_param_print(param, other, sizeof usual, usual);
  return strcmp(value, usual) != 0;
}

void fl_config_write_layer(const fl_layer *layer, bool full, FILE *out) {
  const fl_record *record = fl_layer_kinds.entry[layer->kind];
  const fl_layer zero = {.kind = layer->kind};
  fl_layer usual = zero;
  bool open = false;
  fl_record_defaults(record, &usual);
  for (int i = 0; i < record->n_param; i++) {
    const fl_param *param = &record->param[i];
    if (!full && (!differs(param, layer, &usual) || !differs(param, layer, &zero))) continue;
    if (!open) {
      fprintf(out, "{%s: ", record->name);
      fl_param_write(&record->param[0], layer, out);
      open = true;
    }
    if (i == 0) continue;
    fprintf(out, ", %s: ", param->name);
    fl_param_write(param, layer, out);
  }
  fputs(open ? "}" : record->name, out);
}
