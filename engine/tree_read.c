#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "tree.h"

/* One document being read. A mistake in the YAML itself stops the reading with USAGE; the mistake
 * is in the tree's list then, and no sentence is kept for the thread. */
typedef struct reader {
  fl_tree *tree;
  const char *text;
  const char *override; /* where text is the value of an override: the whole of it; else NULL */
  yaml_parser_t parser;
} reader;

static int line_of(const reader *r, yaml_mark_t mark) {
  return r->override ? 0 : (int)mark.line + 1;
}

static fl_status refuse(reader *r, yaml_mark_t mark, const char *why) {
  char shown[80];
  if (r->override)
    fl_tree_mistake(r->tree, 0, "%s: %s", fl_shown(r->override, sizeof shown, shown), why);
  else
    fl_tree_mistake(r->tree, line_of(r, mark), "%s", why);
  return FEDLANE_USAGE;
}

/* What libyaml says, with the column; an encoding fault has an offset in place of a mark. */
static fl_status syntax(reader *r) {
  yaml_mark_t mark = r->parser.problem_mark;
  if (r->parser.error == YAML_MEMORY_ERROR) return fl_tree_no_memory();
  if (r->parser.error == YAML_READER_ERROR) {
    memset(&mark, 0, sizeof mark);
    for (size_t i = 0; i < r->parser.problem_offset && r->text[i]; i++) {
      mark.column = r->text[i] == '\n' ? 0 : mark.column + 1;
      mark.line += r->text[i] == '\n';
    }
  }
  char why[256];
  snprintf(why, sizeof why, "column %zu: %s", mark.column + 1,
           r->parser.problem ? r->parser.problem : "this is not YAML");
  return refuse(r, mark, why);
}

static fl_status next(reader *r, yaml_event_t *event) {
  return yaml_parser_parse(&r->parser, event) ? FEDLANE_OK : syntax(r);
}

/* Where a node will hang. It knows its parent from the start, so that a mistake inside it can name
 * the whole path, and joins its siblings when it has been read. */
typedef struct place {
  fl_yaml *parent;
  const char *key;
  int line, depth; /* line -1: the node's own */
} place;

static fl_status new_node(reader *r, const yaml_event_t *event, fl_yaml_kind kind, place at,
                          fl_yaml **out) {
  if (++r->tree->n_node > FL_TREE_NODES_MAX)
    return refuse(r, event->start_mark, "a configuration has at most 10000 values");
  fl_yaml *node = fl_tree_take(r->tree, sizeof *node);
  if (!node) return fl_tree_no_memory();
  node->kind = kind;
  node->line = at.line < 0 ? line_of(r, event->start_mark) : at.line;
  node->key = at.key;
  node->parent = at.parent;
  node->text = "";
  *out = node;
  return FEDLANE_OK;
}

static fl_status copy_scalar(reader *r, const yaml_event_t *event, const char **out) {
  const char *value = (const char *)event->data.scalar.value;
  size_t length = event->data.scalar.length;
  if (strlen(value) != length) return refuse(r, event->start_mark, "a text contains a zero byte");
  char *copy = fl_tree_take(r->tree, length + 1);
  if (!copy) return fl_tree_no_memory();
  memcpy(copy, value, length);
  *out = copy;
  return FEDLANE_OK;
}

static fl_status read_node(reader *r, const yaml_event_t *event, place at, fl_yaml **out);

static void append(fl_yaml *parent, fl_yaml **last, fl_yaml *child) {
  child->parent = parent;
  if (*last)
    (*last)->next = child;
  else
    parent->child = child;
  *last = child;
}

static fl_status read_items(reader *r, fl_yaml *list, int depth) {
  fl_status status = FEDLANE_OK;
  fl_yaml *last = NULL;
  for (;;) {
    yaml_event_t event;
    place at = {list, NULL, -1, depth + 1};
    fl_yaml *item = NULL;
    FL_TRY(next(r, &event));
    bool end = event.type == YAML_SEQUENCE_END_EVENT;
    if (!end) status = read_node(r, &event, at, &item);
    yaml_event_delete(&event);
    if (end || status != FEDLANE_OK) return status;
    append(list, &last, item);
  }
}

/* Reads a key's value and appends it, unless the key has been there before. */
static fl_status read_pair(reader *r, const yaml_event_t *key, fl_yaml *map, int depth,
                           fl_yaml **last) {
  place at = {map, "", line_of(r, key->start_mark), depth + 1};
  yaml_event_t event;
  fl_yaml *value = NULL;
  if (key->type != YAML_SCALAR_EVENT)
    return refuse(r, key->start_mark, "a key must be a word, not a list or a mapping");
  FL_TRY(copy_scalar(r, key, &at.key));
  FL_TRY(next(r, &event));
  fl_status status = read_node(r, &event, at, &value);
  yaml_event_delete(&event);
  if (status != FEDLANE_OK) return status;
  const fl_yaml *earlier = fl_yaml_find(map, at.key);
  if (!earlier)
    append(map, last, value);
  else if (earlier->line)
    fl_yaml_mistake(r->tree, value, "is given twice; line %d has it already", earlier->line);
  else
    fl_yaml_mistake(r->tree, value, "is given twice");
  return FEDLANE_OK;
}

static fl_status read_pairs(reader *r, fl_yaml *map, int depth) {
  fl_status status = FEDLANE_OK;
  fl_yaml *last = NULL;
  for (;;) {
    yaml_event_t event;
    FL_TRY(next(r, &event));
    bool end = event.type == YAML_MAPPING_END_EVENT;
    if (!end) status = read_pair(r, &event, map, depth, &last);
    yaml_event_delete(&event);
    if (end || status != FEDLANE_OK) return status;
  }
}

static fl_status read_node(reader *r, const yaml_event_t *event, place at, fl_yaml **out) {
  const yaml_char_t *tag = NULL;
  fl_yaml_kind kind = FL_YAML_VALUE;
  if (event->type == YAML_ALIAS_EVENT)
    return refuse(r, event->start_mark, "aliases (*) are not supported; write the value out");
  if (event->type == YAML_SCALAR_EVENT) {
    tag = event->data.scalar.tag;
  } else if (event->type == YAML_SEQUENCE_START_EVENT) {
    tag = event->data.sequence_start.tag;
    kind = FL_YAML_LIST;
  } else {
    tag = event->data.mapping_start.tag;
    kind = FL_YAML_MAP;
  }
  if (tag) return refuse(r, event->start_mark, "tags (!) have no meaning here");
  if (at.depth > FL_TREE_DEPTH_MAX)
    return refuse(r, event->start_mark, "a configuration is at most 16 levels deep");
  FL_TRY(new_node(r, event, kind, at, out));
  if (kind == FL_YAML_LIST) return read_items(r, *out, at.depth);
  if (kind == FL_YAML_MAP) return read_pairs(r, *out, at.depth);
  (*out)->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
  return copy_scalar(r, event, &(*out)->text);
}

/* The events around the one node of a document; *out stays NULL when there is none. */
static fl_status read_document(reader *r, fl_yaml **out) {
  fl_status status = FEDLANE_OK;
  for (bool seen = false;;) {
    yaml_event_t event;
    FL_TRY(next(r, &event));
    yaml_event_type_t type = event.type;
    if (type == YAML_DOCUMENT_START_EVENT && seen)
      status = refuse(r, event.start_mark, "a configuration is one document; --- starts a second");
    else if (type == YAML_DOCUMENT_START_EVENT)
      seen = true;
    else if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_END_EVENT &&
             type != YAML_STREAM_END_EVENT)
      status = read_node(r, &event, (place){NULL, NULL, -1, 0}, out);
    yaml_event_delete(&event);
    if (status != FEDLANE_OK || type == YAML_STREAM_END_EVENT) return status;
  }
}

/* Reads text; USAGE only stands for mistakes that are in the list. */
static fl_status read_text(fl_tree *tree, const char *text, const char *override, fl_yaml **out) {
  reader r = {.tree = tree, .text = text, .override = override};
  size_t size = strlen(text);
  if (size > FL_TREE_BYTES_MAX) {
    yaml_mark_t start = {0};
    return refuse(&r, start, "a configuration has at most 1 MiB");
  }
  if (!yaml_parser_initialize(&r.parser)) return fl_tree_no_memory();
  yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
  fl_status status = read_document(&r, out);
  yaml_parser_delete(&r.parser);
  return status;
}

/* A value that says nothing: what an empty document, or a place not yet written, holds. */
static fl_status blank(fl_tree *tree, int line, fl_yaml **out) {
  fl_yaml *node = fl_tree_take(tree, sizeof *node);
  if (!node) return fl_tree_no_memory();
  node->line = line;
  node->text = "";
  *out = node;
  return FEDLANE_OK;
}

fl_status fl_tree_read(fl_tree *tree, const char *text) {
  fl_yaml *root = NULL;
  if (strncmp(text, "\xef\xbb\xbf", 3) == 0) text += 3; /* a byte order mark */
  fl_status status = read_text(tree, text, NULL, &root);
  if (status == FEDLANE_USAGE) return FEDLANE_OK;
  if (status == FEDLANE_OK && !root) status = blank(tree, 1, &root);
  if (status != FEDLANE_OK) return status;
  if (fl_yaml_empty(root)) root->kind = FL_YAML_MAP;
  if (root->kind == FL_YAML_MAP)
    tree->root = root;
  else
    fl_tree_mistake(tree, root->line, "a configuration is a mapping, such as 'seed: 1', not %s",
                    fl_yaml_kind_name(root));
  return FEDLANE_OK;
}

/* The child that `step` names, made when a mapping lacks it; NULL when there is no such place. */
static fl_status descend(fl_tree *tree, fl_yaml *node, const char *step, fl_yaml **out) {
  fl_yaml *child = NULL, *last = NULL;
  if (fl_yaml_empty(node)) node->kind = FL_YAML_MAP;
  if (node->kind == FL_YAML_LIST && strspn(step, "0123456789") == strlen(step)) {
    long place = strtol(step, NULL, 10);
    for (child = node->child; child && place > 0; place--) child = child->next;
  } else if (node->kind == FL_YAML_MAP) {
    child = fl_yaml_find(node, step);
    if (!child) {
      FL_TRY(blank(tree, 0, &child));
      child->key = step;
      for (last = node->child; last && last->next;) last = last->next;
      append(node, &last, child);
    }
  }
  *out = child;
  return FEDLANE_OK;
}

/* Walks to the place that path names; NULL and a mistake when there is none. path is cut up. */
static fl_status walk(fl_tree *tree, char *path, const char *override, fl_yaml **out) {
  char shown[80], shown_step[48];
  fl_yaml *node = tree->root, *child = NULL;
  for (int depth = 0; path; depth++, node = child) {
    char *step = strsep(&path, ".");
    child = NULL;
    if (depth < FL_TREE_DEPTH_MAX) FL_TRY(descend(tree, node, step, &child));
    if (child) continue;
    fl_tree_mistake(tree, 0, "%s: there is no '%s' in %s", fl_shown(override, sizeof shown, shown),
                    fl_shown(step, sizeof shown_step, shown_step), fl_yaml_kind_name(node));
    break;
  }
  *out = child;
  return FEDLANE_OK;
}

/* Whether override begins with words between dots and an equals sign. */
static bool has_path(const char *override, const char *equals) {
  if (!equals || equals == override) return false;
  for (const char *c = override; c < equals; c++)
    if (*c == '.' && (c == override || c[1] == '.' || c + 1 == equals)) return false;
  return true;
}

fl_status fl_tree_override(fl_tree *tree, const char *override) {
  const char *equals = strchr(override, '=');
  char shown[80];
  if (!has_path(override, equals)) {
    fl_tree_mistake(tree, 0, "'%s' is not of the form key.path=value",
                    fl_shown(override, sizeof shown, shown));
    return FEDLANE_OK;
  }
  fl_yaml *value = NULL, *at = NULL;
  fl_status status = read_text(tree, equals + 1, override, &value);
  if (status == FEDLANE_USAGE) return FEDLANE_OK;
  if (status == FEDLANE_OK && !value) status = blank(tree, 0, &value);
  if (status != FEDLANE_OK) return status;
  size_t length = (size_t)(equals - override);
  char *path = fl_tree_take(tree, length + 1);
  if (!path) return fl_tree_no_memory();
  memcpy(path, override, length);
  FL_TRY(walk(tree, path, override, &at));
  if (!at) return FEDLANE_OK;
  at->kind = value->kind;
  at->quoted = value->quoted;
  at->line = 0;
  at->text = value->text;
  at->child = value->child;
  for (fl_yaml *child = at->child; child; child = child->next) child->parent = at;
  return FEDLANE_OK;
}
