/* `fedlane work`: a worker of a fleet. */
#include "fleet/work.h"
#include "cli.h"

typedef struct options {
  fl_work_options work;
  fl_line_words settings;
  bool quiet;
} options;

static const fl_word words[] = {
    {FL_WORD, "ADDRESS", NULL, offsetof(options, work.address),
     "where `fedlane serve` listens, such as tcp://10.0.0.5:7700"},
    {FL_SETTINGS, "key.path=value", NULL, offsetof(options, settings),
     "what differs here: data.path, device, threads, width"},
    {FL_OPTION, "--key", "FILE", offsetof(options, work.security.own),
     "this machine's secret key, made by `fedlane keygen`"},
    {FL_OPTION, "--server", "KEY", offsetof(options, work.security.server),
     "the coordinator's public key: 40 characters, or its .pub file"},
    {FL_FLAG, "--insecure", NULL, offsetof(options, work.security.insecure),
     "connect to another machine without keys"},
    {FL_OPTION, "--name", "NAME", offsetof(options, work.name),
     "what the coordinator calls this worker; default: the machine's name"},
    {FL_FLAG, "--quiet", NULL, offsetof(options, quiet), "print errors only"},
};

static int work(void *given) {
  options *o = given;
  fl_cli_keep_memory();
  if (!o->work.name) o->work.name = fl_cli_machine();
  o->work.n_override = o->settings.n;
  o->work.override = o->settings.at;
  o->work.stop = fl_cli_catch();
  if (!o->quiet) o->work.tell = fl_cli_tell;
  return fl_cli_end(fl_worker_run(&o->work));
}

const fl_command fl_command_work = {
    .name = "work",
    .help = "trains clients for a coordinator",
    .notes =
        "The coordinator need not be there yet. When it goes, the worker waits for it to come\n"
        "back; it ends when the run is complete, or by Ctrl-C.\n",
    .word = words,
    .n_word = FL_COUNT(words),
    .options_size = sizeof(options),
    .run = work,
};
