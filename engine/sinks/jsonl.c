/* metrics.jsonl: one JSON object a round, for any program that reads lines. */
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "sinks/row.h"

typedef struct jsonl {
  FILE *file;
  char *path;
  locale_t plain; /* with a point in numbers, whatever the user's language */
} jsonl;

/* Leaves the rows 1 .. resumed_after in the file, written aside and renamed. */
static fl_status rewrite(const char *folder, const char *path, int resumed_after) {
  fl_status status = FEDLANE_OK;
  json_t *rows = NULL, *row;
  fl_aside aside = {0};
  size_t i;
  FL_TRY(fl_rows_read(folder, resumed_after, &rows));
  FL_GO(fl_aside_open(path, &aside));
  json_array_foreach(rows, i, row) {
    json_dumpf(row, aside.file, JSON_REAL_PRECISION(9));
    fputc('\n', aside.file);
  }
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
  if (s->plain) freelocale(s->plain);
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
  if (s) s->path = fl_path_join(path, "metrics.jsonl");
  if (s) s->plain = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
  if (!s || !s->path || !s->plain) {
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
  bool good = true;
  locale_t before = uselocale(s->plain);
  for (int i = 0; i < n; i++) {
    char text[FL_ROW_MAX];
    size_t size = fl_row_text(&row[i].of, text);
    good = good && fwrite(text, 1, size, s->file) == size;
  }
  uselocale(before);
  if (good && fflush(s->file) == 0) return FEDLANE_OK;
  return fl_fail(FEDLANE_IO, "%s cannot be written: %s", s->path, strerror(errno));
}

const fl_sink_kind fl_sink_jsonl = {
    .record = {.name = "jsonl", .help = "metrics.jsonl: one JSON object a round"},
    .open = jsonl_open,
    .rows = jsonl_rows,
    .close = jsonl_close,
};
