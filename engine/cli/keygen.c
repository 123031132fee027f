/* `fedlane keygen`: a pair of keys for a machine of a fleet. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "keys.h"

/* Makes one pair; the secret leaves memory before anything else happens. */
static int make(const char *folder, const char *name) {
  fl_key_pair pair;
  fl_status status = fl_keys_make(&pair);
  if (status == FEDLANE_OK) status = fl_keys_save(&pair, folder, name);
  explicit_bzero(pair.secret, sizeof pair.secret);
  if (status != FEDLANE_OK) return fl_cli_failure(status);
  printf("%s/%s.key  secret: it stays on its machine\n", folder, name);
  printf("%s/%s.pub  public: %s\n", folder, name, pair.open);
  return FL_EXIT_DONE;
}

typedef struct options {
  fl_line_words name;
  const char *folder;
} options;

static const options usual = {.folder = "keys"};

static const fl_word words[] = {
    {FL_WORDS, "NAME", NULL, offsetof(options, name),
     "letters, digits, dots, hyphens and underscores, 64 at most"},
    {FL_OPTION, "--folder", "FOLDER", offsetof(options, folder),
     "where NAME.key (secret) and NAME.pub (public) are written; default: keys"},
};

static int keygen(void *given) {
  const options *o = given;
  int code = FL_EXIT_DONE;
  for (int i = 0; i < o->name.n && code == FL_EXIT_DONE; i++) code = make(o->folder, o->name.at[i]);
  if (code == FL_EXIT_DONE)
    printf("a worker's .pub goes into the coordinator's list, a coordinator's to every worker\n");
  return code;
}

const fl_command fl_command_keygen = {
    .name = "keygen",
    .help = "makes a pair of keys for each of a fleet's machines",
    .notes =
        "Keys that are there are never written over.\n"
        "\n"
        "examples\n"
        "  fedlane keygen coordinator worker1\n"
        "  fedlane keygen worker1 --folder /etc/fedlane\n",
    .word = words,
    .n_word = FL_COUNT(words),
    .options_size = sizeof(options),
    .usual = &usual,
    .run = keygen,
};
