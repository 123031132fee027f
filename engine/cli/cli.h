/* The `fedlane` program: one file a subcommand, one line in main.c. */
#ifndef FL_CLI_H
#define FL_CLI_H

#include <stdatomic.h>

#include "line.h"

enum { FL_EXIT_DONE = 0, FL_EXIT_FAILED = 1, FL_EXIT_USAGE = 2, FL_EXIT_STOPPED = 130 };

/* A subcommand. run gets its options as read and returns the exit status. */
struct fl_command {
  const char *name;
  const char *help;    /* one line */
  const char *notes;   /* what else `fedlane NAME --help` says, below the table; NULL: nothing */
  const fl_word *word; /* [n_word] what may follow the name (line.h) */
  int n_word;
  size_t options_size;
  const void *usual; /* options before the line is read; NULL: zeros */
  int (*run)(void *options);
};

extern const fl_command fl_command_run, fl_command_serve, fl_command_work, fl_command_relay,
    fl_command_join, fl_command_keygen, fl_command_list, fl_command_show, fl_command_data,
    fl_command_bench;

/* run.c: what `run` and `serve` have in common. */
typedef struct fl_train_options {
  const char *config;
  fl_line_words settings;
  bool resume, dry_run, quiet, insecure;
} fl_train_options;
/* Returns the exit status. A fleet trains if `serve`. */
int fl_cli_train(fl_train_options *options, bool serve);

/* From now on the first SIGINT or SIGTERM sets what this returns, and another ends the program at
 * once. */
const atomic_int *fl_cli_catch(void);
void fl_cli_tell(void *of, const char *sentence); /* prints it as a line, at once */
const char *fl_cli_machine(void);                 /* this machine's name */

/* For commands whose chunks of 1 MiB come and go: memory that is freed stays with the process,
 * which would otherwise get it back from the system page by page. */
void fl_cli_keep_memory(void);

/* Prints "fedlane: <sentence>" for the thread's last failure, a line each, on standard error and
 * returns the exit status that belongs to it. */
int fl_cli_failure(fl_status status);
/* The exit status of a command that ends so, as fl_cli_failure() where it has failed. */
int fl_cli_end(fl_status status);
/* list.c: the catalogue of a kind, in the singular or plural; NULL after a misuse that has been
 * printed. */
const fl_catalogue *fl_cli_catalogue(const fl_command *command, const char *kind);

/* Prints text on standard output in lines of at most 100 columns. The cursor stands in `column`;
 * further lines begin at `indent`. Ends with a newline. */
void fl_cli_wrap(int column, int indent, const char *text);
/* Prints n_row rows of n_column cells (row-major) in aligned columns; a column without any text is
 * left out, and the last one is wrapped. */
void fl_cli_table(int indent, int n_column, int n_row, const char *const *cell);

#endif
