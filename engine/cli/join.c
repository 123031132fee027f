/* `fedlane join`: a client with data of its own. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "fleet/client.h"

static atomic_int stop;

/* The first signal asks for a clean end; another ends the program at once. */
static void on_signal(int number) {
  (void)number;
  if (stop) _exit(FL_EXIT_STOPPED);
  stop = 1;
}

static void tell(void *of, const char *sentence) {
  (void)of;
  printf("%s\n", sentence);
  fflush(stdout);
}

/* The payload of a name; returns false after a misuse that has been printed. */
static bool read_payload(const char *text, fedlane_payload *out) {
  static const char *const name[] = {"float32", "bfloat16", "int8", "sparse"};
  for (int i = 0; i < (int)(sizeof name / sizeof *name); i++)
    if (strcmp(text, name[i]) == 0) {
      *out = (fedlane_payload)i;
      return true;
    }
  fl_cli_misuse(&fl_command_join, "'%s' is no payload: float32, bfloat16, int8 or sparse", text);
  return false;
}

typedef struct options {
  fl_join_options join;
  const char **override; /* pointing into argv */
  const char *payload;
  bool quiet;
} options;

static int read_word(options *o, const char *word) {
  if (strcmp(word, "--insecure") == 0)
    o->join.client.insecure = true;
  else if (strcmp(word, "--quiet") == 0)
    o->quiet = true;
  else if (word[0] == '-')
    return fl_cli_misuse(&fl_command_join, "there is no option %s", word);
  else if (!o->join.address)
    o->join.address = word;
  else if (strchr(word, '='))
    o->override[o->join.n_override++] = word;
  else
    return fl_cli_misuse(&fl_command_join, "'%s' is not of the form key.path=value", word);
  return FL_EXIT_DONE;
}

static int read_options(int argc, char **argv, options *o) {
  for (int i = 0; i < argc; i++) {
    const char *word = argv[i], **text = NULL;
    if (strcmp(word, "--key") == 0) text = &o->join.client.key;
    if (strcmp(word, "--server") == 0) text = &o->join.client.server;
    if (strcmp(word, "--name") == 0) text = &o->join.client.name;
    if (strcmp(word, "--payload") == 0) text = &o->payload;
    if (text && i + 1 == argc) return fl_cli_misuse(&fl_command_join, "%s needs a value", word);
    if (text)
      *text = argv[++i];
    else if (read_word(o, word) != FL_EXIT_DONE)
      return FL_EXIT_USAGE;
  }
  if (!o->join.address) return fl_cli_misuse(&fl_command_join, "which coordinator?");
  return read_payload(o->payload, &o->join.payload) ? FL_EXIT_DONE : FL_EXIT_USAGE;
}

static int join(int argc, char **argv) {
  char name[64] = "client";
  options o = {.override = calloc((size_t)argc + 1, sizeof *o.override), .payload = "float32"};
  if (!o.override)
    return fl_cli_failure(fl_fail(FEDLANE_MEMORY, "there is no memory for the arguments"));
  gethostname(name, sizeof name - 1);
  o.join.client.name = name;
  o.join.override = o.override;
  o.join.stop = &stop;
  int code = read_options(argc, argv, &o);
  if (code == FL_EXIT_DONE) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (!o.quiet) o.join.tell = tell;
    fl_status status = fl_join_run(&o.join);
    if (status == FEDLANE_STOPPED)
      code = FL_EXIT_STOPPED;
    else if (status != FEDLANE_OK)
      code = fl_cli_failure(status);
  }
  free(o.override);
  return code;
}

const fl_command fl_command_join = {
    .name = "join",
    .usage = "ADDRESS [key.path=value ...] [--key FILE --server KEY] [--name NAME] [--quiet]",
    .help = "trains as one client, with data of its own",
    .details =
        "  ADDRESS          where `fedlane serve` listens, with fleet.clients: real\n"
        "  key.path=value   what differs here, such as data.path=mine.csv\n"
        "  --key FILE       this machine's secret key, made by `fedlane keygen`\n"
        "  --server KEY     the coordinator's public key: 40 characters, or its .pub file\n"
        "  --insecure       connect to another machine without keys\n"
        "  --name NAME      what the coordinator calls this client; default: the machine's name\n"
        "  --payload FORM   how updates travel: float32, bfloat16, int8 or sparse\n"
        "  --quiet          print errors only\n"
        "\n"
        "All training examples of its data are the client's; the data never leave the machine.\n"
        "When the coordinator goes, the client waits for it to come back; it ends when the run\n"
        "is complete, or by Ctrl-C.\n",
    .run = join,
};
