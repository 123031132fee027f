/* `fedlane run` on a terminal: the redrawn line, the lines that stay, and Ctrl-C. */
#include <pty.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "suite.h"

enum { SCREEN = 1 << 18, WIDEST = 400 };

typedef struct terminal {
  pid_t pid;
  int fd;
  size_t n;
  char text[SCREEN];
} terminal;

static const char config[] =
    "name: terminal\n"
    "data: {format: synthetic, examples: 400, test: 100, partition: {kind: iid, clients: 20}}\n"
    "model: {name: logistic}\n"
    "train: {rounds: 12, cohort: 4, batch: 10}\n"
    "eval: {every: 5}\n";

/* Starts a run on a terminal of so many columns; false where there are no terminals to be had. */
static bool start_on(const char *text, terminal *t, int columns, const char *locale,
                     const char *setting) {
  char path[256];
  snprintf(path, sizeof path, "%s/config.yaml", fl_test_folder());
  FILE *file = fopen(path, "w");
  CU_ASSERT_PTR_NOT_NULL_FATAL(file);
  fputs(text, file);
  fclose(file);
  struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
  t->n = 0;
  t->pid = forkpty(&t->fd, NULL, NULL, &size);
  if (t->pid < 0) printf("skipped: a pseudo-terminal cannot be opened\n");
  if (t->pid != 0) return t->pid > 0;
  setenv("TERM", "xterm", 1);
  setenv("LC_ALL", locale, 1);
  unsetenv("NO_COLOR");
  execl(FEDLANE_PROGRAM, "fedlane", "run", path, setting, (char *)NULL);
  _exit(99);
}

static bool start(terminal *t, int columns, const char *locale, const char *setting) {
  return start_on(config, t, columns, locale, setting);
}

/* Reads until the text holds `mark`, or to the end when it is NULL; of a long text the last part
 * stays. */
static void read_until(terminal *t, const char *mark) {
  for (;;) {
    t->text[t->n] = '\0';
    if (mark && strstr(t->text, mark)) return;
    if (t->n > SCREEN / 2) {
      t->n -= SCREEN / 4;
      memmove(t->text, t->text + SCREEN / 4, t->n);
    }
    ssize_t got = read(t->fd, t->text + t->n, SCREEN - 1 - t->n);
    if (got <= 0) break; /* a terminal whose program has ended gives EIO */
    t->n += (size_t)got;
  }
  t->text[t->n] = '\0';
}

static int finish(terminal *t) {
  int status;
  read_until(t, NULL);
  waitpid(t->pid, &status, 0);
  close(t->fd);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Columns that a stretch of text takes: escapes take none, a character of UTF-8 one. */
static int width_of(const char *from, const char *to) {
  int width = 0;
  for (; from < to; from++) {
    if (*from == '\033') {
      while (from < to && *from != 'm' && *from != 'K') from++;
    } else if ((*from & 0xC0) != 0x80) {
      width++;
    }
  }
  return width;
}

/* The widest of the redrawn lines, which begin with a carriage return and end with ESC [K. */
static int widest(const char *text, int *drawn) {
  int most = 0;
  *drawn = 0;
  for (const char *at = text; (at = strstr(at, "\rround")) != NULL; at++) {
    const char *end = strstr(at, "\033[K"), *row = strchr(at, '\n');
    if (!end || (row && row < end)) continue;
    int width = width_of(at + 1, end);
    if (width > most) most = width;
    ++*drawn;
  }
  return most;
}

static void test_fits_the_terminal(void) {
  static terminal t;
  for (int columns = 16; columns <= WIDEST; columns = columns * 3 / 2) {
    int drawn;
    if (!start(&t, columns, "C", "train.rounds=12")) return;
    CU_ASSERT_EQUAL(finish(&t), 0);
    CU_ASSERT(widest(t.text, &drawn) < columns);
    CU_ASSERT(drawn >= 3);
    CU_ASSERT_EQUAL(strstr(t.text, "ETA") != NULL, columns > 40);
    CU_ASSERT_EQUAL(strstr(t.text, "images/s") != NULL, columns > 100);
  }
}

static void test_evaluations_stay(void) {
  static terminal t;
  if (!start(&t, 120, "C", "train.rounds=12")) return;
  CU_ASSERT_EQUAL(finish(&t), 0);
  CU_ASSERT_PTR_NOT_NULL(strstr(t.text, "\r\033[Kround  5/12  "));
  CU_ASSERT_PTR_NOT_NULL(strstr(t.text, "\r\033[Kround 10/12  "));
  CU_ASSERT_PTR_NOT_NULL(strstr(t.text, "\r\033[Kround 12/12  "));
  CU_ASSERT_PTR_NULL(strstr(t.text, "\r\033[Kround 11/12  "));
  const char *end = strstr(t.text, "\r\033[Ktest accuracy ");
  CU_ASSERT_PTR_NOT_NULL_FATAL(end);
  CU_ASSERT_PTR_NOT_NULL(strstr(end, ", 12 rounds, "));
}

static void test_bar_suits_the_locale(void) {
  static terminal t;
  if (!start(&t, 120, "C", "train.rounds=2")) return;
  CU_ASSERT_EQUAL(finish(&t), 0);
  CU_ASSERT_PTR_NULL(strstr(t.text, "\u2501"));
  if (!start(&t, 120, "C.UTF-8", "train.rounds=2")) return;
  CU_ASSERT_EQUAL(finish(&t), 0);
  CU_ASSERT_PTR_NOT_NULL(strstr(t.text, "\u2501"));
}

static void test_interrupt_stops_after_the_round(void) {
  static terminal t;
  if (!start(&t, 100, "C", "train.rounds=1000000")) return;
  read_until(&t, "ETA");
  CU_ASSERT_EQUAL(write(t.fd, "\003", 1), 1);
  CU_ASSERT_EQUAL(finish(&t), 130);
  CU_ASSERT_PTR_NOT_NULL(strstr(t.text, "stopped after round "));
  CU_ASSERT_PTR_NOT_NULL(strstr(t.text, "nothing was kept, because output is empty"));
}

static void test_reading_is_shown(void) {
  static const char small[] = "data: {format: tff, set: emnist, path: " FEDLANE_SOURCE
                              "/tests/hdf5, partition: {kind: natural}}\n"
                              "model: {name: logistic}\n"
                              "train: {rounds: 1, cohort: 1}\n";
  static terminal t;
  if (!start_on(small, &t, 80, "C", "seed=1")) return;
  read_until(&t, NULL);
  CU_ASSERT_EQUAL(finish(&t), 0);
  const char *drawn = strstr(t.text, "reading 0 of 2");
  CU_ASSERT_PTR_NOT_NULL_FATAL(drawn);
  CU_ASSERT_PTR_NOT_NULL(strstr(drawn, "\r\033[K")); /* and removed before the plan */
}

static const fl_test tests[] = {
    {"reading is shown", test_reading_is_shown},
    {"the line fits the terminal", test_fits_the_terminal},
    {"lines of evaluations stay", test_evaluations_stay},
    {"the bar suits the locale", test_bar_suits_the_locale},
    {"Ctrl-C stops after the round", test_interrupt_stops_after_the_round},
};

FL_SUITE_MAIN("progress", tests)
