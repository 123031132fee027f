/* The program as a user meets it: what it prints, where, and its exit status. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"
#include "suite.h"

typedef struct said {
  int code;
  char out[65536], err[16384];
} said;

static void read_text(const char *path, size_t size, char *text) {
  FILE *file = fopen(path, "r");
  size_t n = file ? fread(text, 1, size - 1, file) : 0;
  text[n] = '\0';
  if (file) fclose(file);
}

/* Runs the program through a shell: words as there, `tail` may hold redirections. */
static const said *call(const char *words) {
  static said s;
  static char folder[128];
  char command[4096], path[160];
  if (!folder[0]) snprintf(folder, sizeof folder, "%s", fl_test_folder());
  snprintf(command, sizeof command, "{ %s %s; } > %s/out 2> %s/err", FEDLANE_PROGRAM, words, folder,
           folder);
  int status = system(command);
  s.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  snprintf(path, sizeof path, "%s/out", folder);
  read_text(path, sizeof s.out, s.out);
  snprintf(path, sizeof path, "%s/err", folder);
  read_text(path, sizeof s.err, s.err);
  return &s;
}

static void expect(const char *words, int code, const char *out, const char *err) {
  const said *s = call(words);
  bool good = s->code == code && strstr(s->out, out) && strstr(s->err, err) && (*out || !*s->out) &&
              (*err || !*s->err);
  if (!good) printf("\n`fedlane %s` gave %d\n%s%s", words, s->code, s->out, s->err);
  CU_ASSERT(good);
}

static void help_goes_to_standard_output(void) {
  expect("--help", 0, "usage: fedlane COMMAND", "");
  expect("-h", 0, "usage: fedlane COMMAND", "");
  expect("help", 0, "usage: fedlane COMMAND", "");
  expect("help run", 0, "usage: fedlane run CONFIG", "");
  expect("help rnu", 2, "", "did you mean 'run'?");
  expect("--version", 0, "fedlane " FEDLANE_VERSION "\n", "");
  expect("show --help", 0, "usage: fedlane show KIND NAME", "");
  expect("run x.yaml --help", 0, "usage: fedlane run CONFIG", "");
  expect("list -h", 0, "usage: fedlane list [KIND]", "");
}

static void misuse_is_one_sentence_and_two(void) {
  expect("", 2, "", "which command?");
  expect("lsit", 2, "", "there is no command 'lsit'; did you mean 'list'?");
  expect("--verbose", 2, "", "there is no option '--verbose'");
  expect("list modle", 2, "", "there is no kind 'modle'; did you mean 'model'?");
  expect("list zebra", 2, "", "there is no kind 'zebra'; `fedlane list` has them all");
  expect("list model layer", 2, "",
         "fedlane list: 'layer' is too much\nusage: fedlane list [KIND]");
  expect("show", 2, "", "fedlane show: KIND is missing\nusage: fedlane show KIND NAME");
  expect("show algorithm", 2, "", "fedlane show: NAME is missing");
  expect("show algorithm feddin", 2, "", "no algorithm 'feddin'; did you mean 'feddyn'?");
  expect("show algorithm zebra", 2, "", "`fedlane list algorithm` has them all");
  expect("bench ops --precision fp31", 2, "", "precision is fp31; did you mean 'fp32'?");
  expect("bench ops --device cpu --precision tf32x3", 1, "", "computes in precision fp32 only");
  expect("show algorithms fedavg extra", 2, "", "usage: fedlane show KIND NAME");
}

static void options_are_read_alike_everywhere(void) {
  expect("run --help", 0,
         "go on from the checkpoint in the run folder, or begin where there is none", "");
  expect("run x.yaml --resumee", 2, "", "there is no option '--resumee'; did you mean '--resume'?");
  expect("list --zebra", 2, "", "there is no option '--zebra'\n");
  expect("run x.yaml --quiet=yes", 2, "", "--quiet takes no value");
  expect("run x.yaml epochs", 2, "", "'epochs' is not of the form key.path=value");
  expect("relay tcp://127.0.0.1:1 --key k", 2, "", "fedlane relay: --listen is missing");
  expect("bench ops --precision", 2, "", "--precision needs its P");
  expect("bench ops --precision=", 2, "", "--precision needs its P");
  expect("bench ops --precision=fp31", 2, "", "precision is fp31");
  expect("bench ops --threads 2x", 2, "", "--threads is '2x'; it must be a whole number from 0 on");
  expect("bench ops --threads=-1", 2, "", "--threads is '-1'");
  expect("run --dry-run - seed=x < /dev/null", 2, "", "command line: seed is x");
}

static void wide_line(const char *words, const char *text) {
  for (const char *end; *text; text = *end ? end + 1 : end) {
    end = text + strcspn(text, "\n");
    int width = 0;
    for (const char *c = text; c < end; c++) width += ((unsigned char)*c & 0xC0) != 0x80;
    if (width > 100) printf("\n`fedlane %s`: %.*s", words, (int)(end - text), text);
    CU_ASSERT(width <= 100);
    CU_ASSERT(end == text || end[-1] != ' ');
  }
}

static void every_kind_and_entry_can_be_shown(void) {
  int n = 0;
  const fl_catalogue *const *all = fl_catalogues(&n);
  CU_ASSERT(n >= 10);
  wide_line("list", call("list")->out);
  for (int i = 0; i < n; i++) {
    char words[256];
    snprintf(words, sizeof words, "list %ss", all[i]->kind);
    const said *s = call(words);
    CU_ASSERT(s->code == 0);
    wide_line(words, s->out);
    for (int j = 0; j < all[i]->n; j++)
      CU_ASSERT_PTR_NOT_NULL(strstr(s->out, all[i]->entry[j]->name));
    for (int j = 0; j < all[i]->n; j++) {
      const fl_record *record = all[i]->entry[j];
      snprintf(words, sizeof words, "show %s %s", all[i]->kind, record->name);
      s = call(words);
      CU_ASSERT(s->code == 0 && !*s->err);
      wide_line(words, s->out);
      for (int k = 0; k < record->n_param; k++)
        CU_ASSERT_PTR_NOT_NULL(strstr(s->out, record->param[k].name));
    }
  }
}

static void show_tells_what_a_user_must_know(void) {
  expect("show algorithm feddyn", 0, "arXiv:2111.04263", "");
  expect("show algorithm feddyn", 0, "algorithm: {name: feddyn, alpha: ", "");
  expect("show section train", 0, "(0, inf)", "");
  expect("show section train", 0, "May differ when a run is resumed\n  rounds\n", "");
  expect("show layer conv", 0, "model: {layers: [{conv: ..., kernel: ...}, ...]}", "");
  expect("show layer relu", 0, "model: {layers: [relu, ...]}", "");
  expect("show model cnn_dropout", 0, "3 x 32 x 32, 10 outputs: 1626442 parameters", "");
  expect("show model cnn_dropout", 0, "  - {dropout: 0.25}\n", "");
}

/* A file in a folder of its own; path has room for 160 bytes. */
static void write_config(const char *text, char *path) {
  snprintf(path, 160, "%s/some.yaml", fl_test_folder());
  FILE *file = fopen(path, "w");
  CU_ASSERT_PTR_NOT_NULL_FATAL(file);
  fputs(text, file);
  fclose(file);
}

/* Where nothing can be right or wrong, the error stands in the place of the accuracy. */
static void a_run_ends_with_its_metric(void) {
  char path[160], words[512];
  write_config(
      "data: {format: synthetic, kind: regression, examples: 80, test: 0, channels: 4, height: 1,\n"
      "       width: 1, clients: 8, partition: natural, split: {by: client}}\n"
      "model: {layers: [{dense: }]}\ntrain: {rounds: 1, cohort: 2}\neval: {clients: true}\n",
      path);
  snprintf(words, sizeof words, "run %s", path);
  const said *s = call(words);
  CU_ASSERT_EQUAL(s->code, 0);
  CU_ASSERT_PTR_NOT_NULL(strstr(s->out, "  clients: mae "));
  CU_ASSERT_PTR_NOT_NULL(strstr(s->out, "\ntest mae "));
  CU_ASSERT_PTR_NULL(strstr(s->out, "accuracy"));
  snprintf(words, sizeof words, "data %s", path);
  expect(words, 0, "60 to train, 20 to test", "");
}

static void wrong_configurations_list_every_mistake(void) {
  char path[160], words[512], expected[1024];
  write_config("data: {format: synthetic}\nmodel: mlp\ntrain:\n  lr: -1\n  roundz: 3\n", path);
  snprintf(words, sizeof words, "run %s seed=x", path);
  const said *s = call(words);
  snprintf(expected, sizeof expected,
           "fedlane: %s:4: train.lr is -1; it must lie in (0, inf)\n"
           "fedlane: %s:5: train.roundz is no setting; did you mean 'rounds'?\n"
           "fedlane: command line: seed is x; it must be a whole number in [0, 4294967295]\n",
           path, path);
  CU_ASSERT(s->code == 2);
  CU_ASSERT_STRING_EQUAL(s->out, "");
  CU_ASSERT_STRING_EQUAL(s->err, expected);
  expect("run /nowhere/x.yaml", 1, "", "cannot open /nowhere/x.yaml: No such file or directory");
}

static void streams_that_fail(void) {
  expect("list | head -1", 0, "algorithm: ", "");
  expect("list >&-", 0, "", "");
  expect("list > /dev/full", 1, "", "standard output: No space left on device");
}

/* With standard output closed, the first file that is opened would take its number, and what is
 * printed would end up in that file. */
static void closed_output_spoils_no_file(void) {
  char path[160], words[512], text[256];
  const char *folder = fl_test_folder();
  write_config(
      "data: {format: synthetic, examples: 64, test: 8, partition: {kind: iid, clients: 4}}\n"
      "model: logistic\ntrain: {rounds: 1, cohort: 2}\nthreads: 1\n",
      path);
  snprintf(words, sizeof words, "run %s output=%s/run >&-", path, folder);
  expect(words, 0, "", "");
  snprintf(words, sizeof words, "%s/run/metrics.jsonl", folder);
  read_text(words, sizeof text, text);
  CU_ASSERT(text[0] == '{');
}

/* What it says can be typed on another machine. */
static void a_coordinator_says_where_it_is(void) {
  char path[160], words[700], expected[128], machine[65] = "";
  gethostname(machine, sizeof machine - 1);
  write_config(
      "data: {format: synthetic, examples: 64, test: 8, partition: {kind: iid, clients: 4}}\n"
      "model: logistic\ntrain: {rounds: 1, cohort: 2}\nthreads: 1\n",
      path);
  snprintf(words, sizeof words,
           "--version; timeout --preserve-status 2 " FEDLANE_PROGRAM
           " serve %s --insecure 'fleet.listen=tcp://*:0'",
           path);
  snprintf(expected, sizeof expected, "; waiting for 1 peer: fedlane work tcp://%s:", machine);
  expect(words, 130, expected, "");
}

static const fl_test tests[] = {
    {"help_goes_to_standard_output", help_goes_to_standard_output},
    {"misuse_is_one_sentence_and_two", misuse_is_one_sentence_and_two},
    {"options_are_read_alike_everywhere", options_are_read_alike_everywhere},
    {"every_kind_and_entry_can_be_shown", every_kind_and_entry_can_be_shown},
    {"show_tells_what_a_user_must_know", show_tells_what_a_user_must_know},
    {"a_run_ends_with_its_metric", a_run_ends_with_its_metric},
    {"wrong_configurations_list_every_mistake", wrong_configurations_list_every_mistake},
    {"streams_that_fail", streams_that_fail},
    {"closed_output_spoils_no_file", closed_output_spoils_no_file},
    {"a_coordinator_says_where_it_is", a_coordinator_says_where_it_is},
};

FL_SUITE_MAIN("cli", tests)
