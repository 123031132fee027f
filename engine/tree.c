#include "tree.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fl_block {
  fl_block *next;
  max_align_t data[];
};

struct fl_mistake {
  fl_mistake *next;
  int line;
  char text[512];
};

void *fl_tree_take(fl_tree *tree, size_t bytes) {
  fl_block *block = calloc(1, sizeof *block + bytes);
  if (!block) return NULL;
  block->next = tree->block;
  tree->block = block;
  return block->data;
}

fl_status fl_tree_no_memory(void) {
  return fl_fail(FEDLANE_MEMORY, "memory is exhausted while reading the configuration");
}

void fl_tree_close(fl_tree *tree) {
  for (fl_block *block = tree->block, *next; block; block = next) {
    next = block->next;
    free(block);
  }
  memset(tree, 0, sizeof *tree);
}

fl_yaml *fl_yaml_find(const fl_yaml *node, const char *key) {
  if (!node || node->kind != FL_YAML_MAP) return NULL;
  for (fl_yaml *child = node->child; child; child = child->next)
    if (strcmp(child->key, key) == 0) return child;
  return NULL;
}

fl_yaml *fl_tree_find(const fl_tree *tree, const char *path) {
  char key[64];
  fl_yaml *node = tree->root;
  while (node && *path) {
    size_t length = strcspn(path, ".");
    if (length >= sizeof key) return NULL;
    memcpy(key, path, length);
    key[length] = '\0';
    node = fl_yaml_find(node, key);
    path += length + (path[length] == '.');
  }
  return node;
}

void fl_yaml_remove(fl_yaml *child) {
  fl_yaml **at = &child->parent->child;
  while (*at != child) at = &(*at)->next;
  *at = child->next;
}

bool fl_yaml_empty(const fl_yaml *node) {
  if (node->kind != FL_YAML_VALUE || node->quoted) return false;
  return !*node->text || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0;
}

fl_status fl_yaml_wrap(fl_tree *tree, fl_yaml *node, const char *key) {
  fl_yaml *value = fl_tree_take(tree, sizeof *value);
  if (!value) return fl_tree_no_memory();
  *value = *node;
  value->key = key;
  value->parent = node;
  value->next = NULL;
  node->kind = FL_YAML_MAP;
  node->child = value;
  return FEDLANE_OK;
}

const char *fl_yaml_kind_name(const fl_yaml *node) {
  static const char *const name[] = {"a value", "a list", "a mapping"};
  return name[node->kind];
}

const char *fl_shown(const char *text, size_t size, char *out) {
  size_t length = strlen(text), kept = length < size ? length : size - 4;
  memcpy(out, text, kept);
  strcpy(out + kept, kept < length ? "..." : "");
  for (char *c = out; *c; c++)
    if ((unsigned char)*c < 32 || *c == 127) *c = '?';
  return out;
}

/* "train.lr", "filters.0.norm". An item that is still being read is not yet among its siblings, and
 * so counts as the next of them. */
static void write_path(const fl_yaml *node, size_t size, char *out) {
  const fl_yaml *step[2 * FL_TREE_DEPTH_MAX + 2];
  size_t n = 0, used = 0;
  for (; node->parent && n < sizeof step / sizeof *step; node = node->parent) step[n++] = node;
  for (out[0] = '\0'; n > 0 && used < size; n--) {
    const fl_yaml *sibling = step[n - 1]->parent->child;
    const char *dot = used ? "." : "";
    char word[64];
    int place = 0;
    for (; sibling && sibling != step[n - 1]; sibling = sibling->next) place++;
    if (step[n - 1]->key)
      fl_shown(step[n - 1]->key, 48, word);
    else
      snprintf(word, sizeof word, "%d", place);
    used += (size_t)snprintf(out + used, size - used, "%s%s", dot, word);
  }
}

/* Keeps the list in the order of lines; line 0, the command line, comes last. */
static void note(fl_tree *tree, int line, const char *path, const char *format, va_list args) {
  if (tree->n_mistake++ >= FL_TREE_MISTAKES_MAX) return;
  fl_mistake *fresh = fl_tree_take(tree, sizeof *fresh), **at = &tree->mistake;
  if (!fresh) return;
  size_t size = sizeof fresh->text;
  char name[128];
  int used = line ? snprintf(fresh->text, size, "%s:%d: ", fl_shown(tree->name, 120, name), line)
                  : snprintf(fresh->text, size, "command line: ");
  used += snprintf(fresh->text + used, size - (size_t)used, "%s%s", path, *path ? " " : "");
  if ((size_t)used < size) vsnprintf(fresh->text + used, size - (size_t)used, format, args);
  fresh->line = line;
  while (*at && (line == 0 || ((*at)->line != 0 && (*at)->line <= line))) at = &(*at)->next;
  fresh->next = *at;
  *at = fresh;
}

void fl_tree_mistake(fl_tree *tree, int line, const char *format, ...) {
  va_list args;
  va_start(args, format);
  note(tree, line, "", format, args);
  va_end(args);
}

void fl_yaml_mistake(fl_tree *tree, const fl_yaml *node, const char *format, ...) {
  char path[160];
  va_list args;
  va_start(args, format);
  write_path(node, sizeof path, path);
  note(tree, node->line, path, format, args);
  va_end(args);
}

fl_status fl_tree_verdict(const fl_tree *tree) {
  if (tree->n_mistake == 0) return FEDLANE_OK;
  char all[15000] = "", name[128];
  size_t used = 0;
  int left = tree->n_mistake;
  for (const fl_mistake *one = tree->mistake; one; one = one->next, left--) {
    size_t length = strlen(one->text);
    if (used + length + 2 > sizeof all) break;
    used += (size_t)sprintf(all + used, "%s%s", used ? "\n" : "", one->text);
  }
  if (left == 0) return fl_fail(FEDLANE_USAGE, "%s", all);
  return fl_fail(FEDLANE_USAGE, "%s\n%s: %d more mistakes", all,
                 fl_shown(tree->name, sizeof name, name), left);
}
