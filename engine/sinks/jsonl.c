/* metrics.jsonl: one JSON object a round, for any program that reads lines. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "sinks/row.h"

typedef struct jsonl {
  FILE *file;
  char *path;
} jsonl;

static fl_status write_row(FILE *file, const char *path, const json_t *row) {
  char text[FL_ROW_MAX];
  size_t n = json_dumpb(row, text, sizeof text - 1, JSON_REAL_PRECISION(9));
  if (n == 0 || n >= sizeof text)
    return fl_fail(FEDLANE_INTERNAL, "a row of %zu bytes for %s; at most %d are allowed", n, path,
                   FL_ROW_MAX);
  text[n++] = '\n';
  bool good = fwrite(text, 1, n, file) == n;
  return good ? FEDLANE_OK : fl_fail(FEDLANE_IO, "%s cannot be written: %s", path, strerror(errno));
}

/* Leaves the rows 1 .. resumed_after in the file, written aside and renamed. */
static fl_status rewrite(const char *folder, const char *path, int resumed_after) {
  fl_status status = FEDLANE_OK;
  json_t *rows = NULL, *row;
  fl_aside aside = {0};
  size_t i;
  FL_TRY(fl_rows_read(folder, resumed_after, &rows));
  FL_GO(fl_aside_open(path, &aside));
  json_array_foreach(rows, i, row) FL_GO(write_row(aside.file, path, row));
  FL_GO(fl_aside_commit(&aside));
done:
  if (status != FEDLANE_OK) fl_aside_abandon(&aside);
  json_decref(rows);
  return status;
}

static fl_status jsonl_close(void **state) {
  jsonl *s = *state;
  fl_status status = FEDLANE_OK;
  if (!s) return FEDLANE_OK;
  if (s->file && fclose(s->file))
    status = fl_fail(FEDLANE_IO, "%s cannot be written: %s", s->path, strerror(errno));
  free(s->path);
  free(s);
  *state = NULL;
  return status;
}

static fl_status jsonl_open(const char *path, const fl_config *config, const fl_dataset *data,
                            int resumed_after, void **state) {
  (void)config, (void)data;
  fl_status status = FEDLANE_OK;
  jsonl *s = calloc(1, sizeof *s);
  *state = s;
  if (!s || !(s->path = fl_path_join(path, "metrics.jsonl"))) {
    status = fl_fail(FEDLANE_MEMORY, "there is no memory for the metrics in %s", path);
    goto done;
  }
  FL_GO(rewrite(path, s->path, resumed_after));
  s->file = fopen(s->path, "a");
  if (!s->file) status = fl_fail(FEDLANE_IO, "%s cannot be written: %s", s->path, strerror(errno));
done:
  if (status != FEDLANE_OK) jsonl_close(state);
  return status;
}

static fl_status jsonl_rows(void *state, int n, const fl_row *row) {
  jsonl *s = state;
  for (int i = 0; i < n; i++) {
    json_t *one = fl_row_json(&row[i].of);
    if (!one) return fl_fail(FEDLANE_MEMORY, "there is no memory for a row of %s", s->path);
    fl_status status = write_row(s->file, s->path, one);
    json_decref(one);
    FL_TRY(status);
  }
  if (fflush(s->file) == 0) return FEDLANE_OK;
  return fl_fail(FEDLANE_IO, "%s cannot be written: %s", s->path, strerror(errno));
}

const fl_sink_kind fl_sink_jsonl = {
    .record = {.name = "jsonl", .help = "metrics.jsonl: one JSON object a round"},
    .open = jsonl_open,
    .rows = jsonl_rows,
    .close = jsonl_close,
};
