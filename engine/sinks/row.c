#include "sinks/row.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

/* The key of the next value: `before` and `name`. */
static char *key(char *at, const char *before, const char *name) {
  if (at[-1] != '{') at = stpcpy(at, ", ");
  at = stpcpy(stpcpy(stpcpy(at, "\""), before), name);
  return stpcpy(at, "\": ");
}

static char *whole(char *at, const char *name, int64_t value) {
  at = key(at, "", name);
  return at + sprintf(at, "%lld", (long long)value);
}

/* A real number stays one when it is whole: 1.0. */
static char *real(char *at, const char *before, const char *name, double value) {
  at = key(at, before, name);
  if (!isfinite(value)) return stpcpy(at, "null");
  int n = sprintf(at, "%.9g", value);
  return strpbrk(at, ".e") ? at + n : stpcpy(at + n, ".0");
}

/* Names are short words of ours, without anything that JSON has to mark. */
size_t fl_row_text(const fedlane_metrics *m, char text[FL_ROW_MAX]) {
  char *at = stpcpy(text, "{");
  at = whole(at, "round", m->round);
  at = real(at, "", "seconds", m->seconds);
  at = real(at, "", "train_loss", m->train_loss);
  at = real(at, "", "train_accuracy", m->train_accuracy);
  at = whole(at, "clients", m->clients);
  at = whole(at, "examples", m->examples);
  at = whole(at, "dropped", m->dropped);
  at = whole(at, "bytes_up", m->bytes_up);
  at = whole(at, "bytes_down", m->bytes_down);
  at = real(at, "", "joules", m->joules);
  at = real(at, "", "gflops", m->gflops);
  at = real(at, "", "gbytes_per_second", m->gbytes_per_second);
  if (!isnan(m->test_loss) || !isnan(m->test_accuracy)) {
    at = real(at, "", "test_loss", m->test_loss);
    at = real(at, "", "test_accuracy", m->test_accuracy);
  }
  for (int i = 0; i < FEDLANE_SCORES_MAX && m->score[i].name; i++)
    at = real(at, "test_", m->score[i].name, m->score[i].value);
  if (m->left_out[0].name) {
    at = stpcpy(key(at, "", "left_out"), "{");
    for (int i = 0; i < FEDLANE_CAUSES_MAX && m->left_out[i].name; i++)
      at = whole(at, m->left_out[i].name, m->left_out[i].count);
    at = stpcpy(at, "}");
  }
  if (m->client_metric) {
    at = stpcpy(stpcpy(stpcpy(key(at, "", "client_metric"), "\""), m->client_metric), "\"");
    at = real(at, "", "client_mean", m->client_mean);
    at = real(at, "", "client_deviation", m->client_deviation);
    at = real(at, "", "client_worst", m->client_worst);
  }
  return (size_t)(stpcpy(at, "}\n") - text);
}

fl_status fl_rows_read(const char *folder, int last, json_t **out) {
  fl_status status = FEDLANE_OK;
  char *path = fl_path_join(folder, "metrics.jsonl"), *line = NULL;
  size_t room = 0;
  FILE *file = path ? fopen(path, "r") : NULL;
  json_t *rows = json_array(), *row = NULL;
  if (!path || !rows) {
    status = fl_fail(FEDLANE_MEMORY, "there is no memory for the metrics in %s", folder);
  } else if (!file && errno != ENOENT) {
    status = fl_fail(FEDLANE_IO, "%s cannot be read: %s", path, strerror(errno));
  }
  while (status == FEDLANE_OK && file && getline(&line, &room, file) > 0 && strchr(line, '\n')) {
    row = json_loads(line, 0, NULL);
    json_int_t round = json_integer_value(json_object_get(row, "round"));
    if (round < 1 || round > last) break;
    if (json_array_append(rows, row))
      status = fl_fail(FEDLANE_MEMORY, "there is no memory for the metrics in %s", path);
    json_decref(row);
    row = NULL;
  }
  json_decref(row);
  if (file) fclose(file);
  free(line);
  free(path);
  if (status == FEDLANE_OK)
    *out = rows;
  else
    json_decref(rows);
  return status;
}
