/* `fedlane relay`: a worker to one coordinator, a coordinator to others. */
#include "fleet/relay.h"
#include "cli.h"

typedef struct options {
  fl_relay_options relay;
  bool quiet;
} options;

static const fl_word words[] = {
    {FL_WORD, "ADDRESS", NULL, offsetof(options, relay.address),
     "where `fedlane serve`, or another relay, listens"},
    {FL_NEEDED, "--listen", "ADDRESS", offsetof(options, relay.listen),
     "where its workers connect, such as tcp://*:7800"},
    {FL_OPTION, "--key", "FILE", offsetof(options, relay.security.own),
     "this machine's secret key, made by `fedlane keygen`"},
    {FL_OPTION, "--server", "KEY", offsetof(options, relay.security.server),
     "the coordinator's public key: 40 characters, or its .pub file"},
    {FL_OPTION, "--allow", "LIST", offsetof(options, relay.security.allow),
     "keys that may connect: a folder of .pub files, or a text file"},
    {FL_FLAG, "--insecure", NULL, offsetof(options, relay.security.insecure),
     "go without keys, on both sides"},
    {FL_OPTION, "--name", "NAME", offsetof(options, relay.name),
     "what the coordinator calls this relay; default: the machine's name"},
    {FL_FLAG, "--quiet", NULL, offsetof(options, quiet), "print errors only"},
};

static int relay(void *given) {
  options *o = given;
  fl_cli_keep_memory();
  if (!o->relay.name) o->relay.name = fl_cli_machine();
  o->relay.stop = fl_cli_catch();
  if (!o->quiet) o->relay.tell = fl_cli_tell;
  return fl_cli_end(fl_relay_run(&o->relay));
}

const fl_command fl_command_relay = {
    .name = "relay",
    .help = "stands between a coordinator and workers, and sends one sum for all of them",
    .notes =
        "A relay reads no data. It takes work as soon as it has a worker, and the coordinator's\n"
        "traffic does not grow with the number of workers behind it. When the coordinator goes, "
        "the\n"
        "relay and its workers wait for it to come back; it ends when the run is complete, or by\n"
        "Ctrl-C. Fleets of real clients do not take relays.\n",
    .word = words,
    .n_word = FL_COUNT(words),
    .options_size = sizeof(options),
    .run = relay,
};
