/* A command's line: one table says what may follow its name, and the usage, the help and the
 * reading of the line are made from it. */
#ifndef FL_LINE_H
#define FL_LINE_H

#include <stdio.h>

#include "record.h"

typedef struct fl_command fl_command;

typedef enum fl_word_kind {
  FL_WORD,     /* a word that must be there, const char *; several stand in the table's order */
  FL_MAYBE,    /* the same, but it may be left out: NULL */
  FL_WORDS,    /* one word or more, fl_line_words */
  FL_SETTINGS, /* any number of key.path=value, fl_line_words */
  FL_FLAG,     /* an option without a value, bool */
  FL_OPTION,   /* an option with a value, const char * */
  FL_NEEDED,   /* the same, but it must be there */
  FL_NUMBER    /* an option whose value is a whole number from 0 on, int */
} fl_word_kind;

/* A row of the table. Options may stand anywhere in the line, as "--key FILE" or "--key=FILE". */
typedef struct fl_word {
  fl_word_kind kind;
  const char *name;  /* as written in the usage: "CONFIG", "--key" */
  const char *value; /* what the value of an option is, such as "FILE"; else NULL */
  size_t offset;     /* of where it goes within the command's options */
  const char *help;
} fl_word;

/* Words that point into the arguments. There is room for as many as the line has. */
typedef struct fl_line_words {
  int n;
  const char **at;
} fl_line_words;

/* The options of a command, filled in from its arguments over its usual values; *out belongs to the
 * caller, who gives it back by fl_line_close(). Returns FL_EXIT_DONE, or another exit status after
 * saying why on standard error. */
int fl_line_read(const fl_command *command, int argc, char **argv, void **out);
void fl_line_close(const fl_command *command, void *options); /* NULL is allowed */

/* Prints "fedlane NAME: <why>" and the usage on standard error; returns FL_EXIT_USAGE. */
int fl_line_misuse(const fl_command *command, const char *why, ...) FL_PRINTF(2, 3);
/* Writes "usage: fedlane NAME", all that may follow, and a newline. */
void fl_line_usage(const fl_command *command, FILE *file);
/* The rows of the table with their help, on standard output. */
void fl_line_help(const fl_command *command);

#endif
