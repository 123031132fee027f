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

static int list(int argc, char **argv) {
  int n = 0, code = FL_EXIT_DONE;
  const fl_catalogue *const *all = fl_catalogues(&n);
  if (argc > 1) return fl_cli_misuse(&fl_command_list, "one kind at a time");
  if (argc == 1) {
    const fl_catalogue *one = fl_cli_catalogue(&fl_command_list, argv[0]);
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
    .usage = "[KIND]",
    .help = "lists the algorithms, models, formats and whatever else can be chosen",
    .details =
        "  KIND   algorithm, model, layer, format, partition, sampler, filter, metric, sink,\n"
        "         backend or section (the fixed settings); without it, all of them\n"
        "\n"
        "examples\n"
        "  fedlane list\n"
        "  fedlane list algorithm\n",
    .run = list,
};
