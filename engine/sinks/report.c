/* report.html: one page with curves, figures and the configuration, readable without a network.
 *
 * The page is report.html of this folder, embedded at build time, with two marks in it: `@data@`
 * becomes the run as JSON, `@chart.js@` the library that draws the curves. Its rows are those of
 * metrics.jsonl, which are written before. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "files.h"
#include "sinks/row.h"

extern const char fl_report_html[], fl_report_chart_js[];

enum { REST = 20 }; /* seconds between two writings while the run goes on */

typedef struct report {
  char *folder, *path;
  json_t *page; /* {name, version, rounds, config, skipped, notice}; its rows while it is written */
  time_t written;
} report;

/* Copies the template up to the mark and returns what follows the mark. */
static const char *copy_to(FILE *file, const char *from, const char *mark) {
  const char *at = strstr(from, mark);
  fwrite(from, 1, (size_t)(at - from), file);
  return at + strlen(mark);
}

static fl_status write_page(report *s) {
  fl_aside aside = {0};
  json_t *rows = NULL;
  FL_TRY(fl_rows_read(s->folder, INT_MAX, &rows));
  if (json_object_set_new(s->page, "rows", rows))
    return fl_fail(FEDLANE_MEMORY, "there is no memory for the report in %s", s->folder);
  FL_TRY(fl_aside_open(s->path, &aside));
  const char *rest = copy_to(aside.file, fl_report_html, "@data@");
  int failed =
      json_dumpf(s->page, aside.file, JSON_COMPACT | JSON_ESCAPE_SLASH | JSON_REAL_PRECISION(6));
  json_object_del(s->page, "rows");
  rest = copy_to(aside.file, rest, "@chart.js@");
  fputs(fl_report_chart_js, aside.file);
  fputs(rest, aside.file);
  if (failed || ferror(aside.file)) {
    int reason = errno;
    fl_aside_abandon(&aside);
    return fl_fail(FEDLANE_IO, "%s cannot be written: %s", s->path, strerror(reason));
  }
  fl_status status = fl_aside_commit(&aside);
  if (status != FEDLANE_OK) fl_aside_abandon(&aside);
  s->written = time(NULL);
  return status;
}

static void release(report *s) {
  json_decref(s->page);
  free(s->folder);
  free(s->path);
  free(s);
}

static fl_status report_open(const char *path, const fl_config *config, const fl_dataset *data,
                             int resumed_after, void **state) {
  (void)resumed_after;
  report *s = *state = calloc(1, sizeof *s);
  if (s) {
    s->folder = strdup(path);
    s->path = fl_path_join(path, "report.html");
    s->page = json_pack("{s:s, s:s, s:I, s:s, s:I, s:s}", "name", config->general.name, "version",
                        fedlane_version(), "rounds", (json_int_t)config->train.rounds, "config",
                        config->resolved, "skipped", (json_int_t)data->skipped, "notice",
                        data->notice ? data->notice : "");
    s->written = time(NULL);
  }
  if (s && s->folder && s->path && s->page) return FEDLANE_OK;
  if (s) release(s);
  *state = NULL;
  return fl_fail(FEDLANE_MEMORY, "there is no memory for the report in %s", path);
}

static fl_status report_rows(void *state, int n, const fl_row *row) {
  (void)n, (void)row;
  report *s = state;
  return time(NULL) - s->written < REST ? FEDLANE_OK : write_page(s);
}

static fl_status report_close(void **state) {
  report *s = *state;
  if (!s) return FEDLANE_OK;
  fl_status status = write_page(s);
  release(s);
  *state = NULL;
  return status;
}

const fl_sink_kind fl_sink_report = {
    .record = {.name = "report", .help = "report.html: curves, figures and configuration"},
    .open = report_open,
    .rows = report_rows,
    .close = report_close,
};
