#include "config.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "config_parts.h"

/* Numbers have a point whatever the user's language, in this thread and for this call. */
static fl_status build(fl_config *config, const char *text, int n, const char *const *overrides) {
  fl_tree *tree = config->tree;
  FL_TRY(fl_tree_read(tree, text));
  if (!tree->root) return fl_tree_verdict(tree);
  FL_TRY(fl_config_shape(tree));
  for (int i = 0; i < n; i++) {
    FL_TRY(fl_tree_override(tree, overrides[i]));
    FL_TRY(fl_config_shape(tree));
  }
  FL_TRY(fl_config_bind(tree, config));
  FL_TRY(fl_tree_verdict(tree));
  return fl_config_write(config);
}

fl_status fl_config_parse(const char *name, const char *text, int n, const char *const *overrides,
                          fl_config **out) {
  fl_status status = FEDLANE_MEMORY;
  fl_config *config = calloc(1, sizeof *config);
  locale_t plain = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0), before;
  if (config) config->tree = calloc(1, sizeof *config->tree);
  if (config && config->tree && plain) {
    config->tree->name = name;
    before = uselocale(plain);
    status = build(config, text, n, overrides);
    uselocale(before);
  } else {
    fl_tree_no_memory();
  }
  if (plain) freelocale(plain);
  if (status == FEDLANE_OK)
    *out = config;
  else
    fl_config_close(&config);
  return status;
}

/* Everything up to one byte more than a configuration may have, with a zero byte after it. */
static fl_status read_stream(const char *name, FILE *file, char **text) {
  char *all = malloc(FL_TREE_BYTES_MAX + 2);
  if (!all) return fl_tree_no_memory();
  size_t size = fread(all, 1, FL_TREE_BYTES_MAX + 1, file);
  fl_status status = FEDLANE_OK;
  all[size] = '\0';
  if (ferror(file))
    status = fl_fail(FEDLANE_IO, "cannot read %s: %s", name, strerror(errno));
  else if (memchr(all, '\0', size))
    status = fl_fail(FEDLANE_USAGE, "%s has a zero byte in it; a configuration is a text", name);
  if (status == FEDLANE_OK)
    *text = all;
  else
    free(all);
  return status;
}

fl_status fl_config_read(const char *path, int n, const char *const *overrides, fl_config **out) {
  bool standard = strcmp(path, "-") == 0;
  const char *name = standard ? "standard input" : path;
  FILE *file = standard ? stdin : fopen(path, "r");
  char *text = NULL;
  if (!file) return fl_fail(FEDLANE_IO, "cannot open %s: %s", name, strerror(errno));
  fl_status status = read_stream(name, file, &text);
  if (!standard) fclose(file);
  if (status == FEDLANE_OK) status = fl_config_parse(name, text, n, overrides, out);
  free(text);
  return status;
}

void fl_config_close(fl_config **config) {
  if (!config || !*config) return;
  if ((*config)->tree) fl_tree_close((*config)->tree);
  free((*config)->tree);
  free((*config)->resolved);
  free(*config);
  *config = NULL;
}
