#include <stdlib.h>
#include <string.h>

#include "config_parts.h"
#include "param.h"

enum { TEXT_MAX = 4096 };

/* Where expansion writes: a text that outgrows it is refused. */
typedef struct buffer {
  size_t used;
  char text[TEXT_MAX];
} buffer;

static bool put(buffer *b, const char *text, size_t length) {
  if (b->used + length >= TEXT_MAX) return false;
  memcpy(b->text + b->used, text, length);
  b->used += length;
  b->text[b->used] = '\0';
  return true;
}

static size_t name_length(const char *text) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
  return *text >= '0' && *text <= '9' ? 0 : strspn(text, letters);
}

/* Puts what stands at the dollar sign `at`, and returns what follows it; NULL after a mistake. */
static const char *expand_one(fl_tree *tree, const fl_yaml *node, const char *at, buffer *b) {
  bool brace = at[1] == '{';
  const char *start = at + 1 + brace, *value;
  size_t length = name_length(start);
  char name[TEXT_MAX];
  if (at[1] == '$') return put(b, "$", 1) ? at + 2 : NULL;
  if (!brace && length == 0) return put(b, "$", 1) ? at + 1 : NULL;
  if (brace && (length == 0 || start[length] != '}')) {
    fl_yaml_mistake(tree, node, "has '${' without a name and '}' after it; write $$ for a '$'");
    return NULL;
  }
  if (length >= sizeof name) return NULL;
  memcpy(name, start, length);
  name[length] = '\0';
  value = getenv(name);
  if (!value) {
    fl_yaml_mistake(tree, node, "names the variable $%.80s, which is not set", name);
    return NULL;
  }
  return put(b, value, strlen(value)) ? start + length + brace : NULL;
}

/* text with its variables replaced, in memory of the tree; NULL after a mistake. */
static fl_status expand(fl_tree *tree, const fl_yaml *node, const char *text, const char **out) {
  buffer b = {.used = 0, .text = ""};
  int mistakes = tree->n_mistake;
  while (text && *text) {
    size_t plain = strcspn(text, "$");
    if (!put(&b, text, plain)) break;
    text += plain;
    if (*text) text = expand_one(tree, node, text, &b);
  }
  *out = NULL;
  if (tree->n_mistake > mistakes) return FEDLANE_OK;
  if (!text || *text) {
    fl_yaml_mistake(tree, node, "is longer than %d bytes", TEXT_MAX - 1);
    return FEDLANE_OK;
  }
  if (!fl_text_valid(b.text)) {
    fl_yaml_mistake(tree, node, "is not a text in UTF-8");
    return FEDLANE_OK;
  }
  char *copy = fl_tree_take(tree, b.used + 1);
  if (!copy) return fl_tree_no_memory();
  memcpy(copy, b.text, b.used);
  *out = copy;
  return FEDLANE_OK;
}

fl_status fl_config_bind_value(fl_tree *tree, const fl_yaml *node, const fl_param *param,
                               void *args) {
  char why[FL_PARAM_TEXT], wants[FL_PARAM_TEXT];
  const char *text = node->text;
  bool empty = fl_yaml_empty(node);
  if (node->kind != FL_YAML_VALUE || (empty && param->type != FL_TEXT)) {
    fl_yaml_mistake(tree, node, "%s%s; it must %s", empty ? "has no value" : "is ",
                    empty ? "" : fl_yaml_kind_name(node), fl_param_wants(param, wants));
    return FEDLANE_OK;
  }
  if (param->type == FL_TEXT) FL_TRY(expand(tree, node, empty ? "" : text, &text));
  if (text && !fl_param_read(param, text, node->quoted, args, why))
    fl_yaml_mistake(tree, node, "%s", why);
  return FEDLANE_OK;
}
