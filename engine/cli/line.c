#include "line.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { OPTIONS_MAX = 32 };

int fl_line_misuse(const fl_command *command, const char *why, ...) {
  va_list args;
  va_start(args, why);
  fprintf(stderr, "fedlane %s: ", command->name);
  vfprintf(stderr, why, args);
  fputc('\n', stderr);
  va_end(args);
  fl_line_usage(command, stderr);
  return FL_EXIT_USAGE;
}

static bool is_option(const fl_word *w) { return w->kind >= FL_FLAG; }

/* A line in the making. */
typedef struct line {
  const fl_command *command;
  char *options;
  int argc, at; /* arguments; the next one */
  char **argv;
  bool seen[OPTIONS_MAX]; /* rows of the table that the line has */
} line;

static void *place(const line *l, int row) { return l->options + l->command->word[row].offset; }

static void put_text(const line *l, int row, const char *text) {
  memcpy(place(l, row), &text, sizeof text);
}

static int put_number(const line *l, int row, const char *text) {
  const fl_word *w = &l->command->word[row];
  char *end;
  long value = strtol(text, &end, 10);
  if (!*text || *end || value < 0 || value > INT32_MAX)
    return fl_line_misuse(l->command, "%s is '%s'; it must be a whole number from 0 on", w->name,
                          text);
  *(int *)place(l, row) = (int)value;
  return FL_EXIT_DONE;
}

static int unknown(const fl_command *command, const char *option) {
  const char *name[OPTIONS_MAX];
  int n = 0;
  for (int i = 0; i < command->n_word; i++)
    if (is_option(&command->word[i])) name[n++] = command->word[i].name;
  const char *near = fl_nearest(option, n, name);
  if (near)
    return fl_line_misuse(command, "there is no option '%s'; did you mean '%s'?", option, near);
  return fl_line_misuse(command, "there is no option '%s'", option);
}

/* An option, which may bring its value along, as in --key=FILE. */
static int read_option(line *l, const char *text) {
  const fl_command *command = l->command;
  size_t length = strcspn(text, "=");
  for (int i = 0; i < command->n_word; i++) {
    const fl_word *w = &command->word[i];
    if (!is_option(w) || strncmp(text, w->name, length) != 0 || w->name[length]) continue;
    const char *value = text[length] ? text + length + 1 : NULL;
    l->seen[i] = true;
    if (w->kind == FL_FLAG) {
      if (value) return fl_line_misuse(command, "%s takes no value", w->name);
      *(bool *)place(l, i) = true;
      return FL_EXIT_DONE;
    }
    if (!value && l->at < l->argc) value = l->argv[l->at++];
    if (!value || !*value) return fl_line_misuse(command, "%s needs its %s", w->name, w->value);
    if (w->kind == FL_NUMBER) return put_number(l, i, value);
    put_text(l, i, value);
    return FL_EXIT_DONE;
  }
  return unknown(command, text);
}

static void add(const line *l, int row, const char *text) {
  fl_line_words *words = place(l, row);
  words->at[words->n++] = text;
}

static int read_word(line *l, const char *text) {
  const fl_command *command = l->command;
  bool settings = false;
  for (int i = 0; i < command->n_word; i++) {
    fl_word_kind kind = command->word[i].kind;
    bool one = kind == FL_WORD || kind == FL_MAYBE, set = kind == FL_SETTINGS;
    settings |= set;
    if (one && !l->seen[i])
      put_text(l, i, text);
    else if (kind == FL_WORDS || (set && strchr(text, '=')))
      add(l, i, text);
    else
      continue;
    l->seen[i] = true;
    return FL_EXIT_DONE;
  }
  return fl_line_misuse(
      command, settings ? "'%s' is not of the form key.path=value" : "'%s' is too much", text);
}

/* Whether what must be there is there. */
static int check(const line *l) {
  for (int i = 0; i < l->command->n_word; i++) {
    const fl_word *w = &l->command->word[i];
    bool needed = w->kind == FL_WORD || w->kind == FL_WORDS || w->kind == FL_NEEDED;
    if (needed && !l->seen[i]) return fl_line_misuse(l->command, "%s is missing", w->name);
  }
  return FL_EXIT_DONE;
}

/* Options with their usual values, and lists with room for all words. */
static fl_status open_options(line *l) {
  const fl_command *command = l->command;
  l->options = calloc(1, command->options_size + 1);
  if (!l->options) return fl_fail(FEDLANE_MEMORY, "there is no memory for the arguments");
  if (command->usual) memcpy(l->options, command->usual, command->options_size);
  for (int i = 0; i < command->n_word; i++) {
    if (command->word[i].kind != FL_WORDS && command->word[i].kind != FL_SETTINGS) continue;
    fl_line_words *words = place(l, i);
    words->at = calloc((size_t)l->argc + 1, sizeof *words->at);
    if (!words->at) return fl_fail(FEDLANE_MEMORY, "there is no memory for the arguments");
  }
  return FEDLANE_OK;
}

int fl_line_read(const fl_command *command, int argc, char **argv, void **out) {
  line l = {.command = command, .argc = argc, .argv = argv};
  fl_status status = open_options(&l);
  int code = status == FEDLANE_OK ? FL_EXIT_DONE : fl_cli_failure(status);
  while (code == FL_EXIT_DONE && l.at < argc) {
    const char *text = argv[l.at++];
    code = text[0] == '-' && text[1] ? read_option(&l, text) : read_word(&l, text);
  }
  if (code == FL_EXIT_DONE) code = check(&l);
  if (code == FL_EXIT_DONE)
    *out = l.options;
  else
    fl_line_close(command, l.options);
  return code;
}

void fl_line_close(const fl_command *command, void *options) {
  line l = {.command = command, .options = options};
  if (!options) return;
  for (int i = 0; i < command->n_word; i++)
    if (command->word[i].kind == FL_WORDS || command->word[i].kind == FL_SETTINGS)
      free(((fl_line_words *)place(&l, i))->at);
  free(options);
}

/* A row as in the usage: what may be left out stands in brackets. */
static void write_word(const fl_word *w, size_t size, char *text) {
  bool needed = w->kind == FL_WORD || w->kind == FL_WORDS || w->kind == FL_NEEDED;
  bool more = w->kind == FL_WORDS || w->kind == FL_SETTINGS;
  snprintf(text, size, "%s%s%s%s%s%s", needed ? "" : "[", w->name, w->value ? " " : "",
           w->value ? w->value : "", more ? " ..." : "", needed ? "" : "]");
}

void fl_line_usage(const fl_command *command, FILE *file) {
  enum { COLUMNS = 100 };
  int indent = fprintf(file, "usage: fedlane %s", command->name), at = indent;
  for (int i = 0; i < command->n_word; i++) {
    char text[128];
    write_word(&command->word[i], sizeof text, text);
    if (at + 1 + (int)strlen(text) > COLUMNS) at = fprintf(file, "\n%*s", indent, "") - 1;
    at += fprintf(file, " %s", text);
  }
  fputc('\n', file);
}

void fl_line_help(const fl_command *command) {
  char name[OPTIONS_MAX][64];
  const char *cell[2 * OPTIONS_MAX];
  for (int i = 0; i < command->n_word; i++) {
    const fl_word *w = &command->word[i];
    snprintf(name[i], sizeof name[i], "%s%s%s", w->name, w->value ? " " : "",
             w->value ? w->value : "");
    cell[2 * i] = name[i];
    cell[2 * i + 1] = w->help;
  }
  fl_cli_table(2, 2, command->n_word, cell);
}
