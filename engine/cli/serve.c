/* `fedlane serve`: the coordinator of a fleet. */
#include "cli.h"

static int serve_config(int argc, char **argv) {
  fl_cli_keep_memory();
  return fl_cli_train(&fl_command_serve, argc, argv);
}

const fl_command fl_command_serve = {
    .name = "serve",
    .usage = "CONFIG [key.path=value ...] [--resume] [--dry-run] [--quiet] [--insecure]",
    .help = "has a fleet of workers train what a configuration describes",
    .details =
        "  CONFIG           a YAML file, or - for standard input; its section `fleet` says where\n"
        "                   to listen (`fedlane show section fleet`)\n"
        "  key.path=value   wins over the file, such as fleet.listen=tcp://*:7700\n"
        "  --resume         go on from the checkpoint in the run folder; workers come back by\n"
        "                   themselves\n"
        "  --dry-run        read the data, print the plan and its memory, train nothing\n"
        "  --quiet          print errors only\n"
        "  --insecure       listen without keys where other machines can connect\n"
        "\n"
        "The weights are those of `fedlane run`, bit for bit, with however many workers. Ctrl-C\n"
        "gives the round in progress up, writes a checkpoint and exits with 130.\n",
    .run = serve_config,
};
