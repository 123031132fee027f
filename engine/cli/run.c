/* `fedlane run` trains what a configuration describes and shows how it goes; `fedlane serve` has a
 * fleet train it. */
#include "run.h"

#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "fleet/serve.h"
#include "progress.h"

typedef struct options {
  const char *config;
  const char **override; /* [n_override], pointing into argv */
  int n_override;
  bool resume, dry_run, quiet;
} options;

/* What the signal handler may reach. */
static fedlane_run *volatile running;
static atomic_int asked;

/* The first signal asks for a clean stop once rounds run; any other ends the program at once. */
static void on_signal(int number) {
  (void)number;
  if (asked || !running) _exit(FL_EXIT_STOPPED);
  asked = 1;
  fedlane_stop(running);
}

static void catch_signals(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
}

/* Returns FL_EXIT_DONE, or the exit status of the misuse that it has printed. */
static int read_options(const fl_command *command, int argc, char **argv, options *o) {
  for (int i = 0; i < argc; i++) {
    const char *word = argv[i];
    if (strcmp(word, "--resume") == 0)
      o->resume = true;
    else if (strcmp(word, "--dry-run") == 0)
      o->dry_run = true;
    else if (strcmp(word, "--quiet") == 0)
      o->quiet = true;
    else if (command == &fl_command_serve && strcmp(word, "--insecure") == 0)
      o->override[o->n_override++] = "fleet.insecure=true";
    else if (word[0] == '-' && word[1] != '\0')
      return fl_cli_misuse(command, "there is no option %s", word);
    else if (!o->config)
      o->config = word;
    else if (strchr(word, '='))
      o->override[o->n_override++] = word;
    else
      return fl_cli_misuse(command, "'%s' is not of the form key.path=value", word);
  }
  if (!o->config) return fl_cli_misuse(command, "which configuration?");
  return FL_EXIT_DONE;
}

/* Clients that are real come to `fedlane serve`. */
static fl_status check_clients(const fl_command *command, const fedlane_run *run) {
  if (command == &fl_command_serve || run->config->fleet.clients == FL_CLIENTS_SIMULATED)
    return FEDLANE_OK;
  return fl_fail(FEDLANE_USAGE,
                 "fleet.clients is real: `fedlane serve` waits for them; fleet.clients=simulated "
                 "trains the population of the data set");
}

static int print_plan(fedlane_run *run) {
  char text[8192];
  fl_status status = fl_run_describe(run, text, sizeof text);
  if (status != FEDLANE_OK) return fl_cli_failure(status);
  printf("%s\n", text);
  return FL_EXIT_DONE;
}

static void print_stopped(const char *output, int round) {
  printf("stopped after round %d; ", round);
  if (output[0])
    printf("the same command with --resume goes on from there\n");
  else
    printf("nothing was kept, because output is empty\n");
}

static void print_end(const fl_progress *p, const char *output, const fedlane_metrics *m) {
  char time[32], text[64];
  fl_duration(fl_progress_seconds(p), time, sizeof time);
  if (!isnan(m->test_accuracy)) printf("test accuracy %.2f %%, ", 100 * m->test_accuracy);
  for (int i = 0; i < FEDLANE_SCORES_MAX && m->score[i].name; i++)
    printf("test %s, ", fl_score_text(m->score[i], text, sizeof text));
  if (!isnan(m->test_loss)) printf("test loss %.4f, ", m->test_loss);
  printf("%d rounds, %s\n", m->round, time);
  if (output[0]) printf("run folder: %s (open report.html in a browser)\n", output);
}

static int train(fedlane_run *run, const options *o) {
  fl_progress progress;
  fedlane_metrics m = {0};
  const char *output = run->config->general.output;
  fl_status status;
  m.round = run->round;
  m.test_loss = m.test_accuracy = NAN;
  fl_progress_open(&progress, stdout, run->data.image.height > 1 ? "images" : "examples");
  if (!o->quiet) {
    if (m.round > 0) printf("going on after round %d\n", m.round);
    fl_progress_begin(&progress, m.round, (int)run->config->train.rounds);
  }
  while ((status = fedlane_round(run, &m)) == FEDLANE_OK)
    if (!o->quiet) fl_progress_round(&progress, &m);
  if (!o->quiet) fl_progress_clear(&progress);
  if (status == FEDLANE_STOPPED) {
    if (!o->quiet) print_stopped(output, m.round);
    return FL_EXIT_STOPPED;
  }
  if (status != FEDLANE_DONE) return fl_cli_failure(status);
  if (!o->quiet) print_end(&progress, output, &m);
  return FL_EXIT_DONE;
}

/* Waits until peers are there. Returns an exit status. */
static int gather_fleet(fedlane_run *run, const options *o) {
  bool real = run->config->fleet.clients == FL_CLIENTS_REAL;
  if (!o->quiet) {
    printf("listening on %s; waiting for %lld peers: fedlane %s %s\n",
           fl_serving_address(run->fleet), (long long)run->config->fleet.peers,
           real ? "join" : "work", fl_serving_address(run->fleet));
    fflush(stdout);
  }
  fl_status status = fl_serving_wait(run);
  if (status == FEDLANE_STOPPED) return FL_EXIT_STOPPED;
  if (status == FEDLANE_OK && !o->quiet) {
    char text[512];
    fl_serving_say(run->fleet, text, sizeof text);
    printf("%s\n", text);
  }
  return status == FEDLANE_OK ? FL_EXIT_DONE : fl_cli_failure(status);
}

int fl_cli_train(const fl_command *command, int argc, char **argv) {
  options o = {.override = calloc((size_t)argc + 1, sizeof *o.override)};
  fedlane_run *run = NULL;
  if (!o.override)
    return fl_cli_failure(fl_fail(FEDLANE_MEMORY, "there is no memory for the arguments"));
  int code = read_options(command, argc, argv, &o);
  if (code == FL_EXIT_DONE) {
    int flags = (o.resume ? FEDLANE_RESUME : 0) | (o.dry_run ? FL_OPEN_DRY : 0) |
                (command == &fl_command_serve ? FL_OPEN_SERVE : 0);
    fl_progress reading;
    fl_progress_open(&reading, stdout, "");
    if (!o.quiet) fl_dataset_watch(fl_progress_reading, &reading);
    fl_status status = fedlane_open(o.config, o.n_override, o.override, flags, &run);
    fl_dataset_watch(NULL, NULL);
    fl_progress_clear(&reading);
    if (status == FEDLANE_OK) status = check_clients(command, run);
    if (status != FEDLANE_OK) {
      code = fl_cli_failure(status);
    } else if (o.dry_run) {
      code = print_plan(run);
    } else {
      running = run;
      catch_signals();
      code = o.quiet ? FL_EXIT_DONE : print_plan(run);
      if (code == FL_EXIT_DONE && command == &fl_command_serve) code = gather_fleet(run, &o);
      if (code == FL_EXIT_DONE) code = train(run, &o);
      running = NULL;
    }
  }
  fedlane_close(&run);
  free(o.override);
  return code;
}

static int run_config(int argc, char **argv) { return fl_cli_train(&fl_command_run, argc, argv); }

const fl_command fl_command_run = {
    .name = "run",
    .usage = "CONFIG [key.path=value ...] [--resume] [--dry-run] [--quiet]",
    .help = "trains what a configuration describes",
    .details =
        "  CONFIG           a YAML file, or - for standard input\n"
        "  key.path=value   wins over the file, such as train.lr=0.1 or\n"
        "                   algorithm.name=feddyn\n"
        "  --resume         go on from the checkpoint in the run folder\n"
        "  --dry-run        read the data, print the plan and its memory, train nothing\n"
        "  --quiet          print errors only\n"
        "\n"
        "Ctrl-C finishes the round, writes a checkpoint and exits with 130; a second one\n"
        "exits at once.\n",
    .run = run_config,
};
