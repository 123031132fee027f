/* `fedlane data`: reads the data of a configuration, deals them and shows how skewed they are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "progress.h"
#include "run.h"

enum { BARS = 12, BAR_WIDTH = 40, MIX_CLIENTS = 8, MIX_CLASSES = 64 };

/* What the report is made from, and what the terminal can show. */
typedef struct report {
  fl_config *config;
  fl_dataset data;
  fl_population people;
  fl_skew skew;
  bool unicode;
  const char *bold, *bar, *dim, *plain; /* colours; empty when there are none */
} report;

static void open_terminal(report *r) {
  fl_progress p;
  fl_progress_open(&p, stdout, "");
  r->unicode = p.unicode;
  r->bold = p.color ? "\033[1m" : "";
  r->bar = p.color ? "\033[36m" : "";
  r->dim = p.color ? "\033[2m" : "";
  r->plain = p.color ? "\033[0m" : "";
}

/* A whole number with commas: 60,000. text holds at least 32 characters. */
static const char *grouped(int64_t value, char *text) {
  char digits[32];
  int n = snprintf(digits, sizeof digits, "%lld", (long long)value), at = 0;
  for (int i = 0; i < n; i++) {
    if (i > 0 && (n - i) % 3 == 0) text[at++] = ',';
    text[at++] = digits[i];
  }
  text[at] = '\0';
  return text;
}

static void row(const report *r, const char *name) {
  printf("  %s%-21s%s", r->dim, name, r->plain);
}

static void show_data(const report *r) {
  const fl_dataset *d = &r->data;
  char a[32], b[32];
  row(r, "data");
  printf("%s%s%s", r->bold, r->config->format.record->name, r->plain);
  printf("%s%s\n", r->config->data.path[0] ? "  " : "", r->config->data.path);
  row(r, "examples");
  printf("%s to train, %s to test\n", grouped(d->n_train, a), grouped(d->n_test, b));
  row(r, "an example");
  if (d->image.height * d->image.width == 1)
    printf("%d features", d->image.channels);
  else
    printf("%d x %d x %d", d->image.channels, d->image.height, d->image.width);
  printf(" (%s), ", d->bytes ? "bytes" : "floats");
  if (d->classes > 0)
    printf("one of %s classes\n", grouped(d->classes, a));
  else
    printf("%s regression target%s\n", grouped(d->n_target, a), d->n_target == 1 ? "" : "s");
}

/* What was left out, and what else is worth knowing of the reading. */
static void show_reading(const report *r) {
  char a[32];
  if (r->data.skipped > 0) {
    row(r, "left out");
    printf("%s bad rows or files\n", grouped(r->data.skipped, a));
  }
  for (const char *at = r->data.notice; at && *at; at += strcspn(at, "\n") + 1) {
    row(r, "notice");
    printf("%.*s\n", (int)strcspn(at, "\n"), at);
  }
}

static void show_skew(const report *r) {
  const fl_skew *s = &r->skew;
  char a[32], b[32], c[32];
  int32_t clients = r->people.n;
  int64_t held = s->examples;
  for (int32_t i = 0; i < clients; i++) held -= r->people.n_train[i];
  row(r, "partition");
  printf("%s%s%s  %s client%s\n", r->bold, r->config->partition.record->name, r->plain,
         grouped(clients, a), clients == 1 ? "" : "s");
  row(r, "examples a client");
  printf("smallest %s, median %s, largest %s; mean %.1f\n", grouped(s->smallest, a),
         grouped(s->median, b), grouped(s->largest, c), (double)s->examples / clients);
  if (held > 0) {
    row(r, "held out");
    printf("%s examples, for evaluation on each client\n", grouped(held, a));
  }
  row(r, "empty clients");
  printf("%s\n", grouped(s->empty, a));
  if (r->data.classes == 0) return;
  row(r, "classes a client");
  printf("%.2f of %s on average\n", s->classes_mean, grouped(r->data.classes, a));
  row(r, "divergence");
  printf("%.3f on average (0: the mix of the whole, 1: nothing in common with it)\n",
         s->divergence_mean);
}

static int64_t size_of(const fl_population *p, int32_t client) {
  return p->offset[client + 1] - p->offset[client];
}

/* share: 0 .. 1 of BAR_WIDTH, in eighths of a character where the terminal has them. */
static void draw_bar(const report *r, double share) {
  static const char *const eighth[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  int units = (int)ceil(share * BAR_WIDTH * 8);
  fputs(r->bar, stdout);
  for (int i = 0; i < units / 8; i++) fputs(r->unicode ? "█" : "#", stdout);
  if (r->unicode)
    fputs(eighth[units % 8], stdout);
  else if (units % 8)
    fputc('#', stdout);
  fputs(r->plain, stdout);
}

/* Clients by size, in at most BARS steps of equal width. */
static void show_sizes(const report *r) {
  int64_t low = r->skew.smallest, span = r->skew.largest - low + 1, step = (span + BARS - 1) / BARS;
  int64_t count[BARS] = {0}, most = 0;
  int bars = (int)((span + step - 1) / step);
  for (int32_t i = 0; i < r->people.n; i++) count[(size_of(&r->people, i) - low) / step]++;
  for (int k = 0; k < bars; k++) most = count[k] > most ? count[k] : most;
  printf("\n  %sexamples             clients%s\n", r->dim, r->plain);
  for (int k = 0; k < bars; k++) {
    char a[32], b[32], c[32];
    int64_t first = low + k * step, last = first + step - 1;
    if (last > r->skew.largest) last = r->skew.largest;
    if (first == last)
      printf("  %19s  ", grouped(first, a));
    else
      printf("  %8s .. %7s  ", grouped(first, a), grouped(last, b));
    draw_bar(r, (double)count[k] / (double)most);
    printf(" %s\n", grouped(count[k], c));
  }
}

/* One character a class, higher or darker for a larger share of the client's largest class. */
static void draw_mix(const report *r, const int64_t *count, int classes) {
  static const char *const high[] = {"·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static const char dark[] = ".:-=+*%@#";
  int64_t most = 1;
  for (int k = 0; k < classes; k++) most = count[k] > most ? count[k] : most;
  fputs(r->bar, stdout);
  for (int k = 0; k < classes; k++) {
    int level = (int)((count[k] * 8 + most - 1) / most);
    if (r->unicode)
      fputs(high[level], stdout);
    else
      fputc(dark[level], stdout);
  }
  printf("%s\n", r->plain);
}

static void show_mixes(const report *r) {
  int64_t count[MIX_CLASSES];
  int classes = r->data.classes;
  int64_t n_label = r->data.n_label;
  if (classes == 0 || classes > MIX_CLASSES) return;
  printf("\n  %sclient      examples  labels 0 .. %d%s\n", r->dim, classes - 1, r->plain);
  for (int32_t i = 0; i < r->people.n && i < MIX_CLIENTS; i++) {
    char a[32], b[32];
    memset(count, 0, sizeof count);
    for (int64_t k = r->people.offset[i]; k < r->people.offset[i + 1]; k++)
      for (int64_t j = 0; j < n_label; j++) {
        int32_t label = r->data.label[r->people.index[k] * n_label + j];
        if (label >= 0) count[label]++;
      }
    printf("  %-10s  %8s  ", grouped(i, a), grouped(size_of(&r->people, i), b));
    draw_mix(r, count, classes);
  }
}

static fl_status prepare(report *r, const char *path, int n, const char *const *override) {
  FL_TRY(fl_config_read(path, n, override, &r->config));
  fl_progress reading;
  fl_progress_open(&reading, stdout, "");
  fl_dataset_watch(fl_progress_reading, &reading);
  fl_status status = fl_data_open(r->config, &r->data, &r->people);
  fl_dataset_watch(NULL, NULL);
  fl_progress_clear(&reading);
  FL_TRY(status);
  return fl_population_skew(&r->people, &r->data, &r->skew);
}

typedef struct options {
  const char *config;
  fl_line_words settings;
} options;

static const fl_word words[] = {
    {FL_WORD, "CONFIG", NULL, offsetof(options, config), "a YAML file, or - for standard input"},
    {FL_SETTINGS, "key.path=value", NULL, offsetof(options, settings),
     "wins over the file, such as data.partition.alpha=0.05"},
};

static int run(void *given) {
  const options *o = given;
  report r = {0};
  int code = FL_EXIT_DONE;
  fl_status status = prepare(&r, o->config, o->settings.n, o->settings.at);
  if (status == FEDLANE_OK) {
    open_terminal(&r);
    show_data(&r);
    show_reading(&r);
    show_skew(&r);
    show_sizes(&r);
    show_mixes(&r);
  } else {
    code = fl_cli_failure(status);
  }
  fl_population_close(&r.people);
  fl_dataset_close(&r.data);
  fl_config_close(&r.config);
  return code;
}

const fl_command fl_command_data = {
    .name = "data",
    .help =
        "reads the data of a configuration, deals them to clients and shows how skewed they are",
    .notes =
        "Nothing is trained and nothing is written.\n"
        "\n"
        "example\n"
        "  fedlane data examples/fashion_mnist.yaml data.partition.alpha=0.05\n",
    .word = words,
    .n_word = FL_COUNT(words),
    .options_size = sizeof(options),
    .run = run,
};
