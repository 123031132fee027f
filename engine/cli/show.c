/* `fedlane show`: one entry with its paper, its parameters and how it is written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "config.h"
#include "param.h"

/* How an entry of a kind stands in a configuration. A layer's first parameter is the value of its
 * name, and a layer is a bare word where nothing is required. */
typedef struct form {
  const char *kind, *before, *after;
  bool layer;
} form;

static const form forms[] = {
    {"algorithm", "algorithm: {name: ", "}", false},
    {"model", "model: {name: ", "}", false},
    {"layer", "model: {layers: [", ", ...]}", true},
    {"format", "data: {format: ", "}", false},
    {"partition", "data: {partition: {kind: ", "}}", false},
    {"sampler", "sampler: {kind: ", "}", false},
    {"filter", "filters: [{name: ", "}]", false},
    {"metric", "eval: {metrics: [", "]}", false},
    {"backend", "device: ", "", false},
};

/* The entry as one would write it. What must be given is "..."; parameters with a usual value are
 * left out for layers, and where they are texts. */
static void print_form(const form *f, const fl_record *record, const void *args) {
  char text[2048], value[64];
  bool brace = f->layer && record->n_param && record->param[0].flags & FL_REQUIRED;
  size_t used =
      (size_t)snprintf(text, sizeof text, "%s%s%s", f->before, brace ? "{" : "", record->name);
  for (int i = 0; i < record->n_param && used < sizeof text; i++) {
    const fl_param *p = &record->param[i];
    bool required = p->flags & FL_REQUIRED;
    if (!required && (f->layer || p->type == FL_TEXT)) continue;
    bool own = f->layer && i == 0;
    used += (size_t)snprintf(text + used, sizeof text - used, "%s%s: %s", own ? "" : ", ",
                             own ? "" : p->name,
                             required ? "..." : fl_param_print(p, args, sizeof value, value));
  }
  if (used < sizeof text)
    snprintf(text + used, sizeof text - used, "%s%s", brace ? "}" : "", f->after);
  printf("\nIn a configuration\n  ");
  fl_cli_wrap(2, 4, text);
}

/* Names the parameters that do not decide the weights, if there are any. */
static void print_free(const fl_record *record) {
  char text[1024];
  size_t used = 0;
  for (int i = 0; i < record->n_param && used < sizeof text; i++)
    if (record->param[i].flags & FL_FREE)
      used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? ", " : "",
                               record->param[i].name);
  if (used == 0) return;
  printf("\nMay differ when a run is resumed\n  ");
  fl_cli_wrap(2, 2, text);
}

enum { COLUMNS = 6, WIDE = 28 };
typedef struct row {
  const char *cell[COLUMNS];
} row;
typedef struct made {
  char dflt[256], range[FL_PARAM_TEXT], meaning[512];
} made;

/* What is too wide for a column reads better at the end of the meaning. */
static const char *tell_wide(made *text, const char *before, const char *cell) {
  size_t used = strlen(text->meaning);
  if (strlen(cell) < WIDE) return cell;
  snprintf(text->meaning + used, sizeof text->meaning - used, "%s%s", before, cell);
  return "listed";
}

static void print_table(const fl_record *record, const void *args, row *rows, made *text) {
  rows[0] = (row){{"name", "type", "default", "range", "unit", "meaning"}};
  for (int i = 0; i < record->n_param; i++) {
    const fl_param *p = &record->param[i];
    const char *dflt = p->flags & FL_REQUIRED
                           ? "required"
                           : fl_param_print(p, args, sizeof text[i].dflt, text[i].dflt);
    const char *range = fl_param_range(p, text[i].range);
    snprintf(text[i].meaning, sizeof text[i].meaning, "%s", p->help);
    range = tell_wide(&text[i], ": ", range);
    dflt = tell_wide(&text[i], "; by default ", dflt);
    rows[i + 1] = (row){
        {p->name, fl_type_name(p->type), dflt, range, p->unit ? p->unit : "", text[i].meaning}};
  }
  printf("\nParameters\n");
  fl_cli_table(2, COLUMNS, record->n_param + 1, rows[0].cell);
  print_free(record);
}

static void print_count(const fl_model_spec *spec, const fl_ends *ends) {
  fl_image in = ends->input;
  fl_model *model = NULL;
  if (fl_model_build(spec->record.name, spec->n_layer, spec->layer, spec->init, ends, &model) !=
      FEDLANE_OK)
    return;
  const fl_model_info *info = fl_model_about(model);
  printf("  %d x %d x %d", in.channels, in.height, in.width);
  if (in.steps > 0) printf(", %d steps", in.steps);
  if (ends->tokens > 0) printf(" of %d tokens", ends->tokens);
  printf(", %d outputs: %lld parameters, %.4g Mflop forward\n", ends->n_output,
         (long long)info->parameters, info->flop / 1e6);
  fl_model_close(&model);
}

static void print_model(const fl_model_spec *spec) {
  static const fl_ends images[] = {{.input = {1, 28, 28}, .n_output = 10},
                                   {.input = {3, 32, 32}, .n_output = 10}};
  const fl_ends *typical = spec->typical ? spec->typical : images;
  int n = spec->typical ? spec->n_typical : FL_COUNT(images);
  printf("\nLayers\n");
  for (int i = 0; i < spec->n_layer; i++) {
    printf("  - ");
    fl_config_write_layer(&spec->layer[i], false, stdout);
    putchar('\n');
  }
  printf("\nSize by input (channels x height x width)\n");
  for (int i = 0; i < n; i++) print_count(spec, &typical[i]);
}

static int print_record(const fl_catalogue *catalogue, const fl_record *record) {
  size_t rows_size = (size_t)record->n_param + 1;
  row *rows = calloc(rows_size, sizeof *rows);
  made *text = calloc(rows_size, sizeof *text);
  void *args = calloc(1, record->args_size + 1);
  bool ready = rows && text && args;
  if (ready) {
    fl_record_defaults(record, args);
    fl_cli_wrap(printf("%s %s: ", catalogue->kind, record->name), 2, record->help);
    if (record->paper) {
      printf("\nPaper\n  ");
      fl_cli_wrap(2, 2, record->paper);
    }
    if (record->n_param) print_table(record, args, rows, text);
    if (catalogue == &fl_models) print_model((const fl_model_spec *)(const void *)record);
    for (int i = 0; i < FL_COUNT(forms); i++)
      if (strcmp(forms[i].kind, catalogue->kind) == 0) print_form(&forms[i], record, args);
  }
  free(args);
  free(text);
  free(rows);
  if (ready) return FL_EXIT_DONE;
  return fl_cli_failure(fl_fail(FEDLANE_MEMORY, "there is no memory for the table"));
}

static int no_entry(const fl_catalogue *catalogue, const char *word) {
  enum { NAMES = 128 };
  const char *name[NAMES];
  int n = 0;
  for (; n < catalogue->n && n < NAMES; n++) name[n] = catalogue->entry[n]->name;
  const char *near = fl_nearest(word, n, name);
  if (near)
    return fl_line_misuse(&fl_command_show, "no %s '%s'; did you mean '%s'?", catalogue->kind, word,
                          near);
  return fl_line_misuse(&fl_command_show, "no %s '%s'; `fedlane list %s` has them all",
                        catalogue->kind, word, catalogue->kind);
}

typedef struct options {
  const char *kind, *name;
} options;

static const fl_word words[] = {
    {FL_WORD, "KIND", NULL, offsetof(options, kind), "as `fedlane list` has them"},
    {FL_WORD, "NAME", NULL, offsetof(options, name), "as `fedlane list KIND` has them"},
};

static int show(void *given) {
  const options *o = given;
  const fl_catalogue *catalogue = fl_cli_catalogue(&fl_command_show, o->kind);
  if (!catalogue) return FL_EXIT_USAGE;
  const fl_record *record = fl_catalogue_find(catalogue, o->name);
  return record ? print_record(catalogue, record) : no_entry(catalogue, o->name);
}

const fl_command fl_command_show = {
    .name = "show",
    .help = "shows one entry of a list: its paper, parameters, ranges and defaults",
    .notes =
        "examples\n"
        "  fedlane show algorithm feddyn\n"
        "  fedlane show section train\n"
        "  fedlane show model cnn_dropout\n",
    .word = words,
    .n_word = FL_COUNT(words),
    .options_size = sizeof(options),
    .run = show,
};
