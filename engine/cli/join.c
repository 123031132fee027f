/* `fedlane join`: a client with data of its own. */
#include <string.h>

#include "cli.h"
#include "fleet/client.h"

typedef struct options {
  fl_join_options join;
  fl_line_words settings;
  const char *payload;
  bool quiet;
} options;

static const options usual = {.payload = "float32"};

static const fl_word words[] = {
    {FL_WORD, "ADDRESS", NULL, offsetof(options, join.address),
     "where `fedlane serve` listens, with fleet.clients: real"},
    {FL_SETTINGS, "key.path=value", NULL, offsetof(options, settings),
     "what differs here, such as data.path=mine.csv"},
    {FL_OPTION, "--key", "FILE", offsetof(options, join.client.key),
     "this machine's secret key, made by `fedlane keygen`"},
    {FL_OPTION, "--server", "KEY", offsetof(options, join.client.server),
     "the coordinator's public key: 40 characters, or its .pub file"},
    {FL_FLAG, "--insecure", NULL, offsetof(options, join.client.insecure),
     "connect to another machine without keys"},
    {FL_OPTION, "--name", "NAME", offsetof(options, join.client.name),
     "what the coordinator calls this client; default: the machine's name"},
    {FL_OPTION, "--payload", "FORM", offsetof(options, payload),
     "how updates travel: float32, bfloat16, int8 or sparse"},
    {FL_FLAG, "--quiet", NULL, offsetof(options, quiet), "print errors only"},
};

/* The payload of a name; returns false after a misuse that has been printed. */
static bool read_payload(const char *text, fedlane_payload *out) {
  static const char *const name[] = {"float32", "bfloat16", "int8", "sparse"};
  for (int i = 0; i < FL_COUNT(name); i++)
    if (strcmp(text, name[i]) == 0) {
      *out = (fedlane_payload)i;
      return true;
    }
  fl_line_misuse(&fl_command_join, "'%s' is no payload: float32, bfloat16, int8 or sparse", text);
  return false;
}

static int join(void *given) {
  options *o = given;
  if (!read_payload(o->payload, &o->join.payload)) return FL_EXIT_USAGE;
  if (!o->join.client.name) o->join.client.name = fl_cli_machine();
  o->join.n_override = o->settings.n;
  o->join.override = o->settings.at;
  o->join.stop = fl_cli_catch();
  if (!o->quiet) o->join.tell = fl_cli_tell;
  return fl_cli_end(fl_join_run(&o->join));
}

const fl_command fl_command_join = {
    .name = "join",
    .help = "trains as one client, with data of its own",
    .notes =
        "All training examples of its data are the client's; the data never leave the machine.\n"
        "When the coordinator goes, the client waits for it to come back; it ends when the run\n"
        "is complete, or by Ctrl-C.\n",
    .word = words,
    .n_word = FL_COUNT(words),
    .options_size = sizeof(options),
    .usual = &usual,
    .run = join,
};
