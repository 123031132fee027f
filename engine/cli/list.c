/* `fedlane list`: what there is to choose from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "config.h"

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
