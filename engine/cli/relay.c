/* `fedlane relay`: a worker to one coordinator, a coordinator to others. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "fleet/relay.h"

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

/* Where the text of an option that has one goes; NULL for others. */
static const char **text_of(fl_relay_options *o, const char *word) {
  const struct {
    const char *option, **text;
  } known[] = {
      {"--listen", &o->listen},
      {"--key", &o->security.own},
      {"--server", &o->security.server},
      {"--allow", &o->security.allow},
      {"--name", &o->name},
  };
  for (int i = 0; i < FL_COUNT(known); i++)
    if (strcmp(word, known[i].option) == 0) return known[i].text;
  return NULL;
}

static int read_options(int argc, char **argv, fl_relay_options *o) {
  for (int i = 0; i < argc; i++) {
    const char *word = argv[i], **text = text_of(o, word);
    if (text) {
      if (i + 1 == argc) return fl_cli_misuse(&fl_command_relay, "%s needs a value", word);
      *text = argv[++i];
    } else if (strcmp(word, "--insecure") == 0) {
      o->security.insecure = true;
    } else if (strcmp(word, "--quiet") == 0) {
      o->tell = NULL;
    } else if (word[0] == '-') {
      return fl_cli_misuse(&fl_command_relay, "there is no option %s", word);
    } else if (!o->address) {
      o->address = word;
    } else {
      return fl_cli_misuse(&fl_command_relay, "one coordinator, not '%s' too", word);
    }
  }
  if (!o->address) return fl_cli_misuse(&fl_command_relay, "which coordinator?");
  if (!o->listen)
    return fl_cli_misuse(&fl_command_relay, "--listen: where do its workers connect?");
  return FL_EXIT_DONE;
}

static int relay(int argc, char **argv) {
  char name[64] = "relay";
  fl_relay_options o = {.name = name, .stop = &stop, .tell = tell};
  fl_cli_keep_memory();
  gethostname(name, sizeof name - 1);
  int code = read_options(argc, argv, &o);
  if (code != FL_EXIT_DONE) return code;
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  fl_status status = fl_relay_run(&o);
  if (status == FEDLANE_STOPPED) return FL_EXIT_STOPPED;
  return status == FEDLANE_OK ? FL_EXIT_DONE : fl_cli_failure(status);
}

const fl_command fl_command_relay = {
    .name = "relay",
    .usage = "ADDRESS --listen ADDRESS [--key FILE --server KEY] [--allow LIST] [--name NAME]",
    .help = "stands between a coordinator and workers, and sends one sum for all of them",
    .details =
        "  ADDRESS           where `fedlane serve`, or another relay, listens\n"
        "  --listen ADDRESS  where its workers connect, such as tcp://*:7800\n"
        "  --key FILE        this machine's secret key, made by `fedlane keygen`\n"
        "  --server KEY      the coordinator's public key: 40 characters, or its .pub file\n"
        "  --allow LIST      keys that may connect: a folder of .pub files, or a text file\n"
        "  --insecure        go without keys, on both sides\n"
        "  --name NAME       what the coordinator calls this relay; default: the machine's name\n"
        "  --quiet           print errors only\n"
        "\n"
        "A relay reads no data. It takes work as soon as it has a worker, and the coordinator's\n"
        "traffic does not grow with the number of workers behind it. When the coordinator goes, "
        "the\n"
        "relay and its workers wait for it to come back; it ends when the run is complete, or by\n"
        "Ctrl-C. Fleets of real clients do not take relays.\n",
    .run = relay,
};
