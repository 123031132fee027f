/* `fedlane work`: a worker of a fleet. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "fleet/work.h"

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

typedef struct options {
  fl_work_options work;
  const char **override; /* pointing into argv */
  bool quiet;
} options;

/* The text that belongs to an option, or NULL after a misuse that has been printed. */
static const char *value_of(int argc, char **argv, int *i) {
  if (*i + 1 < argc) return argv[++*i];
  fl_cli_misuse(&fl_command_work, "%s needs a value", argv[*i]);
  return NULL;
}

static int read_options(int argc, char **argv, options *o) {
  for (int i = 0; i < argc; i++) {
    const char *word = argv[i], **text = NULL;
    if (strcmp(word, "--key") == 0) text = &o->work.security.own;
    if (strcmp(word, "--server") == 0) text = &o->work.security.server;
    if (strcmp(word, "--name") == 0) text = &o->work.name;
    if (text) {
      if (!(*text = value_of(argc, argv, &i))) return FL_EXIT_USAGE;
    } else if (strcmp(word, "--insecure") == 0) {
      o->work.security.insecure = true;
    } else if (strcmp(word, "--quiet") == 0) {
      o->quiet = true;
    } else if (word[0] == '-') {
      return fl_cli_misuse(&fl_command_work, "there is no option %s", word);
    } else if (!o->work.address) {
      o->work.address = word;
    } else if (strchr(word, '=')) {
      o->override[o->work.n_override++] = word;
    } else {
      return fl_cli_misuse(&fl_command_work, "'%s' is not of the form key.path=value", word);
    }
  }
  if (!o->work.address) return fl_cli_misuse(&fl_command_work, "which coordinator?");
  return FL_EXIT_DONE;
}

static int work(int argc, char **argv) {
  char name[64] = "worker";
  options o = {.override = calloc((size_t)argc + 1, sizeof *o.override)};
  if (!o.override)
    return fl_cli_failure(fl_fail(FEDLANE_MEMORY, "there is no memory for the arguments"));
  fl_cli_keep_memory();
  gethostname(name, sizeof name - 1);
  o.work.name = name;
  o.work.override = o.override;
  o.work.stop = &stop;
  int code = read_options(argc, argv, &o);
  if (code == FL_EXIT_DONE) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (!o.quiet) o.work.tell = tell;
    fl_status status = fl_worker_run(&o.work);
    if (status == FEDLANE_STOPPED)
      code = FL_EXIT_STOPPED;
    else if (status != FEDLANE_OK)
      code = fl_cli_failure(status);
  }
  free(o.override);
  return code;
}

const fl_command fl_command_work = {
    .name = "work",
    .usage = "ADDRESS [key.path=value ...] [--key FILE --server KEY] [--name NAME] [--quiet]",
    .help = "trains clients for a coordinator",
    .details =
        "  ADDRESS          where `fedlane serve` listens, such as tcp://10.0.0.5:7700\n"
        "  key.path=value   what differs here: data.path, device, threads, width\n"
        "  --key FILE       this machine's secret key, made by `fedlane keygen`\n"
        "  --server KEY     the coordinator's public key: 40 characters, or its .pub file\n"
        "  --insecure       connect to another machine without keys\n"
        "  --name NAME      what the coordinator calls this worker; default: the machine's name\n"
        "  --quiet          print errors only\n"
        "\n"
        "The coordinator need not be there yet. When it goes, the worker waits for it to come\n"
        "back; it ends when the run is complete, or by Ctrl-C.\n",
    .run = work,
};
