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

static int keygen(int argc, char **argv) {
  const char *folder = "keys";
  int n = 0, code = FL_EXIT_DONE;
  for (int i = 0; i < argc; i++) {
    if (strcmp(argv[i], "--folder") == 0) {
      if (++i == argc || !*argv[i])
        return fl_cli_misuse(&fl_command_keygen, "'--folder' lacks its value");
      folder = argv[i];
    } else if (strncmp(argv[i], "--", 2) == 0) {
      return fl_cli_misuse(&fl_command_keygen, "there is no option '%s'", argv[i]);
    } else {
      argv[n++] = argv[i];
    }
  }
  if (n == 0) return fl_cli_misuse(&fl_command_keygen, "a name for the keys, such as worker1");
  for (int i = 0; i < n && code == FL_EXIT_DONE; i++) code = make(folder, argv[i]);
  if (code == FL_EXIT_DONE)
    printf("a worker's .pub goes into the coordinator's list, a coordinator's to every worker\n");
  return code;
}

const fl_command fl_command_keygen = {
    .name = "keygen",
    .usage = "NAME ... [--folder FOLDER]",
    .help = "makes a pair of keys for each of a fleet's machines",
    .details =
        "  NAME             letters, digits, dots, hyphens and underscores, 64 at most\n"
        "  --folder FOLDER  where NAME.key (secret) and NAME.pub (public) are written; keys\n"
        "\n"
        "Keys that are there are never written over.\n"
        "\n"
        "examples\n"
        "  fedlane keygen coordinator worker1\n"
        "  fedlane keygen worker1 --folder /etc/fedlane\n",
    .run = keygen,
};
