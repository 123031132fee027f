/* `fedlane keygen`: a pair of keys for a machine of a fleet. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "keys.h"

static void print_next(const char *folder, const char *name, const fl_key_pair *pair) {
  printf("%s.key in %s is the secret key of this machine: it stays here.\n", name, folder);
  printf("%s.pub goes to the others: a worker's into the coordinator's list of allowed keys,\n",
         name);
  printf("a coordinator's to every worker. The public key is %s\n", pair->open);
}

static int keygen(int argc, char **argv) {
  const char *name = NULL, *folder = "keys";
  for (int i = 0; i < argc; i++) {
    if (strcmp(argv[i], "--folder") == 0) {
      if (++i == argc || !*argv[i])
        return fl_cli_misuse(&fl_command_keygen, "'--folder' lacks its value");
      folder = argv[i];
    } else if (strncmp(argv[i], "--", 2) == 0) {
      return fl_cli_misuse(&fl_command_keygen, "there is no option '%s'", argv[i]);
    } else if (name) {
      return fl_cli_misuse(&fl_command_keygen, "one name at a time, not '%s' too", argv[i]);
    } else {
      name = argv[i];
    }
  }
  if (!name) return fl_cli_misuse(&fl_command_keygen, "a name for the keys, such as worker1");
  fl_key_pair pair;
  fl_status status = fl_keys_make(&pair);
  if (status == FEDLANE_OK) status = fl_keys_save(&pair, folder, name);
  explicit_bzero(pair.secret, sizeof pair.secret);
  if (status != FEDLANE_OK) return fl_cli_failure(status);
  print_next(folder, name, &pair);
  return FL_EXIT_DONE;
}

const fl_command fl_command_keygen = {
    .name = "keygen",
    .usage = "NAME [--folder FOLDER]",
    .help = "makes a pair of keys for a machine of a fleet",
    .details =
        "  NAME             letters, digits, dots, hyphens and underscores, 64 at most\n"
        "  --folder FOLDER  where NAME.key (secret) and NAME.pub (public) are written; keys\n"
        "\n"
        "Keys that are there are never written over.\n"
        "\n"
        "examples\n"
        "  fedlane keygen coordinator\n"
        "  fedlane keygen worker1 --folder /etc/fedlane\n",
    .run = keygen,
};
