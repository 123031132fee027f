#include "progress.h"

#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

enum { PIECES = 6, PIECE = 64, BAR_LEAST = 10, BAR_MOST = 32, GAP = 2 };

static const double fade = 0.8;          /* weight of the past in the rates, a round */
static const double redraw_after = 0.05; /* seconds between two drawings */

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *fl_duration(double seconds, char *text, size_t size) {
  long s = seconds > 0 && seconds < 1e9 ? lround(seconds) : 0;
  if (s < 3600)
    snprintf(text, size, "%ld:%02ld", s / 60, s % 60);
  else
    snprintf(text, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  return text;
}

const char *fl_short_number(double value, char *text, size_t size) {
  static const char unit[] = " kMGT";
  int i = 0;
  while (fabs(value) >= 9999.5 && i < 4) {
    value /= 1000;
    i++;
  }
  if (i == 0)
    snprintf(text, size, fabs(value) < 9.95 ? "%.1f" : "%.0f", value);
  else
    snprintf(text, size, "%.*f%c", fabs(value) < 99.95 ? 1 : 0, value, unit[i]);
  return text;
}

const char *fl_score_text(fedlane_score score, char *text, size_t size) {
  const fl_metric *metric =
      (const fl_metric *)(const void *)fl_catalogue_find(&fl_metrics, score.name);
  if (metric && metric->share)
    snprintf(text, size, "%s %.2f %%", score.name, 100 * score.value);
  else
    snprintf(text, size, "%s %.4g", score.name, score.value);
  return text;
}

void fl_progress_open(fl_progress *p, FILE *out, const char *unit) {
  const char *term = getenv("TERM");
  *p = (fl_progress){.out = out, .unit = unit, .start = now()};
  p->last = p->start;
  p->live = isatty(fileno(out)) && term && strcmp(term, "dumb") != 0;
  p->color = p->live && !getenv("NO_COLOR");
  setlocale(LC_CTYPE, "");
  p->unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

double fl_progress_seconds(const fl_progress *p) { return now() - p->start; }

void fl_progress_clear(fl_progress *p) {
  if (p->live && p->drawn > 0) fputs("\r\033[K", p->out);
  p->drawn = 0;
  fflush(p->out);
}

static int columns(const fl_progress *p) {
  struct winsize size;
  if (ioctl(fileno(p->out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

static void draw_bar(const fl_progress *p, int width, double share) {
  int full = (int)(share * width + 0.5);
  const char *on = p->unicode ? "\u2501" : "=", *off = p->unicode ? "\u2500" : "-";
  if (p->color) fputs("\033[36m", p->out);
  for (int i = 0; i < width; i++) {
    if (i == full && p->color) fputs("\033[0;2m", p->out);
    fputs(i < full ? on : off, p->out);
  }
  if (p->color) fputs("\033[0m", p->out);
}

/* The pieces of the line after the bar, "" where a value is unknown. */
static void make_pieces(const fl_progress *p, const fedlane_metrics *m, char piece[][PIECE]) {
  char number[32];
  int digits = snprintf(number, sizeof number, "%d", m->rounds);
  memset(piece, 0, PIECES * sizeof piece[0]);
  snprintf(piece[0], PIECE, "round %*d/%d", digits, m->round, m->rounds);
  if (!isnan(m->train_loss)) snprintf(piece[1], PIECE, "loss %.4f", m->train_loss);
  if (!isnan(m->train_accuracy))
    snprintf(piece[2], PIECE, "accuracy %.1f %%", 100 * m->train_accuracy);
  else if (p->score.name)
    fl_score_text(p->score, piece[2], PIECE);
  if (p->busy > 0) {
    fl_short_number(p->clients / p->busy, number, sizeof number);
    snprintf(piece[3], PIECE, "%s clients/s", number);
    fl_short_number(p->examples / p->busy, number, sizeof number);
    snprintf(piece[4], PIECE, "%s %s/s", number, p->unit);
  }
  if (p->rounds > 0) {
    fl_duration((m->rounds - m->round) * p->wall / p->rounds, number, sizeof number);
    snprintf(piece[5], PIECE, "ETA %s", number);
  }
}

/* Draws what fits the terminal: first the rates leave a line that is too long, then the bar, then
 * the rest from the right. */
static void draw(fl_progress *p, const fedlane_metrics *m) {
  static const int leaves[PIECES] = {4, 3, 5, 2, 1, 0};
  char piece[PIECES][PIECE];
  int room = columns(p) - 1;
  make_pieces(p, m, piece);
  for (int i = 0; i < PIECES; i++)
    if (piece[i][0]) room -= (int)strlen(piece[i]) + (i > 0 ? GAP : 0);
  for (int i = 0; i < PIECES && room < (i < 2 ? BAR_LEAST + GAP : 0); i++) {
    char *piece_out = piece[leaves[i]];
    if (piece_out[0]) room += (int)strlen(piece_out) + GAP;
    piece_out[0] = '\0';
  }
  int bar = room - GAP < BAR_MOST ? room - GAP : BAR_MOST;
  fprintf(p->out, "\r%s", piece[0]);
  if (bar >= BAR_LEAST) {
    fprintf(p->out, "%*s", GAP, "");
    draw_bar(p, bar, (double)m->round / m->rounds);
  }
  for (int i = 1; i < PIECES; i++)
    if (piece[i][0]) fprintf(p->out, "%*s%s", GAP, "", piece[i]);
  fputs("\033[K", p->out);
  fflush(p->out);
  p->drawn = now();
}

void fl_progress_reading(void *of, int64_t done, int64_t all) {
  fl_progress *p = of;
  char text[128];
  if (!p->live || now() - p->drawn < redraw_after) return;
  int n = snprintf(text, sizeof text, "reading %lld of %lld", (long long)done, (long long)all);
  fprintf(p->out, "\r%.*s\033[K", n < columns(p) ? n : 0, text);
  fflush(p->out);
  p->drawn = now();
}

void fl_progress_begin(fl_progress *p, int round, int rounds) {
  fedlane_metrics m = {.round = round, .rounds = rounds, .train_loss = NAN, .train_accuracy = NAN};
  if (p->live) draw(p, &m);
}

/* One line that stays. */
static void print_row(const fl_progress *p, const fedlane_metrics *m) {
  char number[32], text[PIECE];
  int digits = snprintf(number, sizeof number, "%d", m->rounds);
  fprintf(p->out, "round %*d/%d", digits, m->round, m->rounds);
  fprintf(p->out, "  %s", fl_duration(p->last - p->start, number, sizeof number));
  if (!isnan(m->train_loss)) fprintf(p->out, "  train loss %.4f", m->train_loss);
  if (!isnan(m->train_accuracy)) fprintf(p->out, "  accuracy %.2f %%", 100 * m->train_accuracy);
  if (!isnan(m->test_loss)) fprintf(p->out, "  test loss %.4f", m->test_loss);
  if (!isnan(m->test_accuracy)) fprintf(p->out, "  accuracy %.2f %%", 100 * m->test_accuracy);
  for (int i = 0; i < FEDLANE_SCORES_MAX && m->score[i].name; i++)
    fprintf(p->out, "  %s", fl_score_text(m->score[i], text, sizeof text));
  if (m->client_metric) {
    fedlane_score mean = {m->client_metric, m->client_mean};
    fedlane_score worst = {m->client_metric, m->client_worst};
    fprintf(p->out, "  clients: %s", fl_score_text(mean, text, sizeof text));
    fprintf(p->out, " (worst tenth: %s)", fl_score_text(worst, text, sizeof text));
  }
  if (m->dropped > 0) fprintf(p->out, "  %d dropped", m->dropped);
  if (!p->live && m->seconds > 0) {
    fl_short_number((double)m->examples / m->seconds, number, sizeof number);
    fprintf(p->out, "  %s %s/s", number, p->unit);
  }
  fputc('\n', p->out);
  fflush(p->out);
}

void fl_progress_round(fl_progress *p, const fedlane_metrics *m) {
  double time = now();
  p->rounds = fade * p->rounds + 1;
  p->wall = fade * p->wall + (time - p->last);
  p->busy = fade * p->busy + m->seconds;
  p->clients = fade * p->clients + m->clients;
  p->examples = fade * p->examples + (double)m->examples;
  p->last = time;
  bool evaluated = !isnan(m->test_loss) || m->client_metric;
  if (m->score[0].name) p->score = m->score[0];
  if (!p->live) {
    print_row(p, m);
    return;
  }
  if (evaluated) {
    fl_progress_clear(p);
    print_row(p, m);
  }
  if (evaluated || time - p->drawn >= redraw_after) draw(p, m);
}
