#include <stdlib.h>
#include <string.h>

#include "config_parts.h"
#include "param.h"

/* full: for people, every setting with a comment. Else the canonical text that the digest is made
 * of: only what decides the weights. */
typedef struct writer {
  FILE *out;
  bool full;
} writer;

enum { COMMENT_COLUMN = 36 };

static void write_param(const writer *w, int indent, const fl_param *param, const void *args) {
  if (!w->full && param->flags & FL_FREE) return;
  long start = ftell(w->out);
  fprintf(w->out, "%*s%s: ", indent, "", param->name);
  fl_param_write(param, args, w->out);
  int pad = COMMENT_COLUMN - (int)(ftell(w->out) - start);
  if (w->full) fprintf(w->out, "%*s  # %s", pad > 0 ? pad : 0, "", param->help);
  fputc('\n', w->out);
}

static void write_params(const writer *w, int indent, const fl_record *record, const void *args) {
  for (int i = 0; i < record->n_param; i++) write_param(w, indent, &record->param[i], args);
}

static int depth_of(const fl_config_part *part) {
  int depth = part->path[0] != '\0';
  for (const char *c = part->path; *c; c++) depth += *c == '.';
  return depth;
}

static void write_map(const writer *w, const fl_config *config, const fl_config_part *part) {
  int indent = 2 * depth_of(part);
  const fl_choice *choice = (const void *)((const char *)config + part->choice_at);
  if (indent) fprintf(w->out, "%*s%s:\n", indent - 2, "", fl_part_key(part));
  bool chosen = part->catalogue && choice->record;
  if (chosen) fprintf(w->out, "%*s%s: %s\n", indent, "", part->name_key, choice->record->name);
  if (part->section)
    write_params(w, indent, part->section, (const char *)config + part->section_at);
  if (chosen) write_params(w, indent, choice->record, choice->args);
}

static void write_entries(const writer *w, const fl_config *config, const fl_config_part *part) {
  const fl_choice *choice = (const void *)((const char *)config + part->choice_at);
  int n = *(const int *)(const void *)((const char *)config + part->count_at);
  int indent = 2 * depth_of(part);
  if (part->free && !w->full) return;
  fprintf(w->out, "%*s%s:", indent - 2, "", fl_part_key(part));
  fprintf(w->out, n ? "\n" : " %s\n", part->none ? part->none : "[]");
  for (int i = 0; i < n; i++) {
    fprintf(w->out, "%*s- %s: %s\n", indent, "", part->name_key, choice[i].record->name);
    write_params(w, indent + 2, choice[i].record, choice[i].args);
  }
}

static void write_layers(const writer *w, const fl_config *config, const fl_config_part *part) {
  if (config->n_layer == 0) return;
  fprintf(w->out, "  %s:\n", fl_part_key(part));
  for (int i = 0; i < config->n_layer; i++) {
    fputs("    - ", w->out);
    fl_config_write_layer(&config->layer[i], true, w->out);
    fputc('\n', w->out);
  }
}

static fl_status write_all(const fl_config *config, bool full, char **text) {
  size_t size = 0;
  writer w = {open_memstream(text, &size), full};
  if (!w.out) return fl_tree_no_memory();
  if (full)
    fprintf(w.out, "# Written by fedlane %s: every setting of the run. It reads back as it is.\n",
            fedlane_version());
  for (int i = 0; i < fl_config_n_part; i++) {
    const fl_config_part *part = &fl_config_part_list[i];
    if (part->form == FL_PART_MAP) write_map(&w, config, part);
    if (part->form == FL_PART_ENTRIES) write_entries(&w, config, part);
    if (part->form == FL_PART_LAYERS) write_layers(&w, config, part);
  }
  bool failed = ferror(w.out);
  if (fclose(w.out) == 0 && !failed) return FEDLANE_OK;
  free(*text);
  *text = NULL;
  return fl_tree_no_memory();
}

/* FNV-1a with 64 bits (draft-eastlake-fnv). */
static uint64_t hash(const char *text) {
  uint64_t h = 0xCBF29CE484222325u;
  for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001B3u;
  return h;
}

fl_status fl_config_write(fl_config *config) {
  char *canonical = NULL;
  FL_TRY(write_all(config, false, &canonical));
  snprintf(config->digest, sizeof config->digest, "%016llx", (unsigned long long)hash(canonical));
  free(canonical);
  return write_all(config, true, &config->resolved);
}
