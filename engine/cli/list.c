/* `fedlane list`: what there is to choose from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "config.h"

const fl_catalogue *fl_cli_catalogue(const fl_command *command, const char *kind) {
  enum { KINDS = 16 };
  const char *name[KINDS];
  int n = 0;
  const fl_catalogue *const *all = fl_catalogues(&n);
  for (int i = 0; i < n && i < KINDS; i++) {
    size_t length = strlen(all[i]->kind);
    name[i] = all[i]->kind;
    if (strncmp(kind, name[i], length) == 0 && (!kind[length] || strcmp(kind + length, "s") == 0))
      return all[i];
  }
  const char *near = fl_nearest(kind, n < KINDS ? n : KINDS, name);
  if (near)
    fl_line_misuse(command, "there is no kind '%s'; did you mean '%s'?", kind, near);
  else
    fl_line_misuse(command, "there is no kind '%s'; `fedlane list` has them all", kind);
  return NULL;
}

static int print_catalogue(const fl_catalogue *catalogue) {
  const char **cell = calloc(2 * (size_t)catalogue->n + 1, sizeof *cell);
  if (!cell) return fl_cli_failure(fl_fail(FEDLANE_MEMORY, "there is no memory for the list"));
  for (int i = 0; i < catalogue->n; i++) {
    cell[2 * i] = catalogue->entry[i]->name;
    cell[2 * i + 1] = catalogue->entry[i]->help;
  }
  printf("%s: ", catalogue->kind);
  fl_cli_wrap((int)strlen(catalogue->kind) + 2, 2, catalogue->help);
  fl_cli_table(2, 2, catalogue->n, cell);
  free(cell);
  return FL_EXIT_DONE;
}

typedef struct options {
  const char *kind;
} options;

static const fl_word words[] = {
    {FL_MAYBE, "KIND", NULL, offsetof(options, kind),
     "algorithm, model, layer, format, partition, sampler, filter, metric, sink, backend or "
     "section "
     "(the fixed settings); without it, all of them"},
};

static int list(void *given) {
  const options *o = given;
  int n = 0, code = FL_EXIT_DONE;
  const fl_catalogue *const *all = fl_catalogues(&n);
  if (o->kind) {
    const fl_catalogue *one = fl_cli_catalogue(&fl_command_list, o->kind);
    return one ? print_catalogue(one) : FL_EXIT_USAGE;
  }
  for (int i = 0; i < n && code == FL_EXIT_DONE; i++) {
    if (i > 0) putchar('\n');
    code = print_catalogue(all[i]);
  }
  return code;
}

const fl_command fl_command_list = {
    .name = "list",
    .help = "lists the algorithms, models, formats and whatever else can be chosen",
    .notes =
        "examples\n"
        "  fedlane list\n"
        "  fedlane list algorithm\n",
    .word = words,
    .n_word = FL_COUNT(words),
    .options_size = sizeof(options),
    .run = list,
};
