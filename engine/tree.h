/* A YAML document as a tree of nodes that know their lines, and the list of mistakes found in it.
 *
 * The tree owns all memory that is taken from it; nothing is freed singly. It accepts the part of
 * YAML that a configuration needs: mappings with words as keys, lists and values. Aliases, tags and
 * a second document are refused with a sentence, and so is a document that is too large or too
 * deep, so that no input costs more than its own size. */
#ifndef FL_TREE_H
#define FL_TREE_H

#include <stddef.h>

#include "status.h"

enum {
  FL_TREE_BYTES_MAX = 1 << 20,
  FL_TREE_NODES_MAX = 10000,
  FL_TREE_DEPTH_MAX = 16,
  FL_TREE_MISTAKES_MAX = 50, /* more are counted, not kept */
};

typedef enum fl_yaml_kind { FL_YAML_VALUE, FL_YAML_LIST, FL_YAML_MAP } fl_yaml_kind;

typedef struct fl_yaml fl_yaml;
struct fl_yaml {
  fl_yaml_kind kind;
  bool quoted;      /* a value in quotes or a block: text, whatever it looks like */
  int line;         /* from 1; 0: from the command line */
  const char *key;  /* in a mapping; NULL in a list and at the root */
  const char *text; /* of a value */
  fl_yaml *parent, *child, *next;
};

typedef struct fl_mistake fl_mistake;
typedef struct fl_block fl_block;
typedef struct fl_tree {
  const char *name; /* of the file, for messages; not owned */
  fl_yaml *root;    /* a mapping; NULL when the text was no such document */
  fl_mistake *mistake;
  int n_mistake, n_node;
  fl_block *block;
} fl_tree;

/* bytes of zeroed memory that live as long as the tree; NULL when memory is exhausted. */
void *fl_tree_take(fl_tree *tree, size_t bytes);
/* Fails with the sentence that belongs to such a NULL. */
fl_status fl_tree_no_memory(void);
void fl_tree_close(fl_tree *tree); /* frees everything and zeroes *tree; accepts a zeroed one */

/* Reads a whole document into tree->root; an empty one is an empty mapping. What is wrong with it
 * becomes mistakes. Errors: MEMORY. */
fl_status fl_tree_read(fl_tree *tree, const char *text);
/* Puts one "key.path=value" over what is there (the root is not NULL); the value is YAML. A number
 * in the path counts a list's items from 0. What is wrong with it becomes mistakes. Errors: MEMORY.
 */
fl_status fl_tree_override(fl_tree *tree, const char *override);

/* The child called key, or NULL. node may be NULL or of any kind. */
fl_yaml *fl_yaml_find(const fl_yaml *node, const char *key);
/* The node at a path such as "data.partition", from the root; "" is the root. */
fl_yaml *fl_tree_find(const fl_tree *tree, const char *path);
/* Takes child out of its parent. */
void fl_yaml_remove(fl_yaml *child);
/* Nothing, ~ or null without quotes. */
bool fl_yaml_empty(const fl_yaml *node);
/* Turns a value into the mapping {key: value}. Errors: MEMORY. */
fl_status fl_yaml_wrap(fl_tree *tree, fl_yaml *node, const char *key);
/* "a value", "a list" or "a mapping". */
const char *fl_yaml_kind_name(const fl_yaml *node);

/* Notes "file:line: sentence"; line 0 stands for the command line. */
void fl_tree_mistake(fl_tree *tree, int line, const char *format, ...) FL_PRINTF(3, 4);
/* Notes "file:line: key.path sentence". */
void fl_yaml_mistake(fl_tree *tree, const fl_yaml *node, const char *format, ...) FL_PRINTF(3, 4);
/* OK, or USAGE with all mistakes in the order of their lines, those of the command line last. */
fl_status fl_tree_verdict(const fl_tree *tree);

/* At most size-1 bytes of text for a message: long ones are cut, control characters become '?'. */
const char *fl_shown(const char *text, size_t size, char *out);

#endif
