/* `fedlane serve`: the coordinator of a fleet. */
#include "cli.h"

static const fl_word words[] = {
    {FL_WORD, "CONFIG", NULL, offsetof(fl_train_options, config),
     "a YAML file, or - for standard input; its section `fleet` says where to listen "
     "(`fedlane show section fleet`)"},
    {FL_SETTINGS, "key.path=value", NULL, offsetof(fl_train_options, settings),
     "wins over the file, such as fleet.listen=tcp://*:7700"},
    {FL_FLAG, "--resume", NULL, offsetof(fl_train_options, resume),
     "go on from the checkpoint in the run folder, or begin where there is none"},
    {FL_FLAG, "--dry-run", NULL, offsetof(fl_train_options, dry_run),
     "read the data, print the plan and its memory, train nothing"},
    {FL_FLAG, "--quiet", NULL, offsetof(fl_train_options, quiet), "print errors only"},
    {FL_FLAG, "--insecure", NULL, offsetof(fl_train_options, insecure),
     "listen without keys where other machines can connect"},
};

static int serve_config(void *options) {
  fl_cli_keep_memory();
  return fl_cli_train(options, true);
}

const fl_command fl_command_serve = {
    .name = "serve",
    .help = "has a fleet of workers train what a configuration describes",
    .notes =
        "The weights are those of `fedlane run`, bit for bit, with however many workers. Ctrl-C\n"
        "gives the round in progress up, writes a checkpoint and exits with 130.\n",
    .word = words,
    .n_word = FL_COUNT(words),
    .options_size = sizeof(fl_train_options),
    .run = serve_config,
};
