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

/* Clients that are real come to `fedlane serve`. */
static fl_status check_clients(bool serve, const fedlane_run *run) {
  if (serve || run->config->fleet.clients == FL_CLIENTS_SIMULATED) return FEDLANE_OK;
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

static int train(fedlane_run *run, const fl_train_options *o) {
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

/* Where the coordinator is, and what to type on other machines: this one's name where it listens on
 * all of its addresses. */
static void print_waiting(const fedlane_run *run) {
  const char *address = fl_serving_address(run->fleet), *any = strstr(address, "//*:");
  bool real = run->config->fleet.clients == FL_CLIENTS_REAL;
  long long peers = run->config->fleet.peers;
  printf("listening on %s; waiting for %lld peer%s: fedlane %s ", address, peers,
         peers == 1 ? "" : "s", real ? "join" : "work");
  if (any)
    printf("%.*s%s%s\n", (int)(any + 2 - address), address, fl_cli_machine(), any + 3);
  else
    printf("%s\n", address);
  fflush(stdout);
}

/* Waits until peers are there. Returns an exit status. */
static int gather_fleet(fedlane_run *run, const fl_train_options *o) {
  if (!o->quiet) print_waiting(run);
  fl_status status = fl_serving_wait(run);
  if (status == FEDLANE_STOPPED) return FL_EXIT_STOPPED;
  if (status == FEDLANE_OK && !o->quiet) {
    char text[512];
    fl_serving_say(run->fleet, text, sizeof text);
    printf("%s\n", text);
  }
  return status == FEDLANE_OK ? FL_EXIT_DONE : fl_cli_failure(status);
}

/* Opens the run of a configuration and tells of the reading. */
static fl_status open_run(const fl_train_options *o, bool serve, fedlane_run **out) {
  int flags = (o->resume ? FEDLANE_RESUME : 0) | (o->dry_run ? FL_OPEN_DRY : 0) |
              (serve ? FL_OPEN_SERVE : 0);
  fl_progress reading;
  fl_progress_open(&reading, stdout, "");
  if (!o->quiet) fl_dataset_watch(fl_progress_reading, &reading);
  fl_status status = fedlane_open(o->config, o->settings.n, o->settings.at, flags, out);
  fl_dataset_watch(NULL, NULL);
  fl_progress_clear(&reading);
  return status == FEDLANE_OK ? check_clients(serve, *out) : status;
}

int fl_cli_train(fl_train_options *o, bool serve) {
  fedlane_run *run = NULL;
  int code;
  /* The option itself has left room for it (line.h). */
  if (o->insecure) o->settings.at[o->settings.n++] = "fleet.insecure=true";
  fl_status status = open_run(o, serve, &run);
  if (status != FEDLANE_OK) {
    code = fl_cli_failure(status);
  } else if (o->dry_run) {
    code = print_plan(run);
  } else {
    running = run;
    catch_signals();
    code = o->quiet ? FL_EXIT_DONE : print_plan(run);
    if (code == FL_EXIT_DONE && serve) code = gather_fleet(run, o);
    if (code == FL_EXIT_DONE) code = train(run, o);
    running = NULL;
  }
  fedlane_close(&run);
  return code;
}

static const fl_word words[] = {
    {FL_WORD, "CONFIG", NULL, offsetof(fl_train_options, config),
     "a YAML file, or - for standard input"},
    {FL_SETTINGS, "key.path=value", NULL, offsetof(fl_train_options, settings),
     "wins over the file, such as train.lr=0.1 or algorithm.name=feddyn"},
    {FL_FLAG, "--resume", NULL, offsetof(fl_train_options, resume),
     "go on from the checkpoint in the run folder, or begin where there is none"},
    {FL_FLAG, "--dry-run", NULL, offsetof(fl_train_options, dry_run),
     "read the data, print the plan and its memory, train nothing"},
    {FL_FLAG, "--quiet", NULL, offsetof(fl_train_options, quiet), "print errors only"},
};

static int run_config(void *options) { return fl_cli_train(options, false); }

const fl_command fl_command_run = {
    .name = "run",
    .help = "trains what a configuration describes",
    .notes =
        "Ctrl-C finishes the round, writes a checkpoint and exits with 130; a second one\n"
        "exits at once.\n",
    .word = words,
    .n_word = FL_COUNT(words),
    .options_size = sizeof(fl_train_options),
    .run = run_config,
};
