#include "sinks/row.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

json_t *fl_row_json(const fedlane_metrics *m) {
  json_t *row = json_pack("{s:i, s:o, s:o, s:o, s:i, s:I, s:i, s:I, s:I}",             //
                          "round", m->round, "seconds", number(m->seconds),            //
                          "train_loss", number(m->train_loss),                         //
                          "train_accuracy", number(m->train_accuracy),                 //
                          "clients", m->clients, "examples", (json_int_t)m->examples,  //
                          "dropped", m->dropped, "bytes_up", (json_int_t)m->bytes_up,  //
                          "bytes_down", (json_int_t)m->bytes_down);
  int failed = row == NULL;
  failed |= json_object_set_new(row, "joules", number(m->joules));
  failed |= json_object_set_new(row, "gflops", number(m->gflops));
  failed |= json_object_set_new(row, "gbytes_per_second", number(m->gbytes_per_second));
  if (!isnan(m->test_loss) || !isnan(m->test_accuracy)) {
    failed |= json_object_set_new(row, "test_loss", number(m->test_loss));
    failed |= json_object_set_new(row, "test_accuracy", number(m->test_accuracy));
  }
  for (int i = 0; i < FEDLANE_SCORES_MAX && m->score[i].name; i++) {
    char key[64];
    snprintf(key, sizeof key, "test_%s", m->score[i].name);
    failed |= json_object_set_new(row, key, number(m->score[i].value));
  }
  if (m->left_out[0].name) {
    json_t *causes = json_object();
    for (int i = 0; i < FEDLANE_CAUSES_MAX && m->left_out[i].name; i++)
      failed |= json_object_set_new(causes, m->left_out[i].name,
                                    json_integer((json_int_t)m->left_out[i].count));
    failed |= json_object_set_new(row, "left_out", causes);
  }
  if (m->client_metric) {
    failed |= json_object_set_new(row, "client_metric", json_string(m->client_metric));
    failed |= json_object_set_new(row, "client_mean", number(m->client_mean));
    failed |= json_object_set_new(row, "client_deviation", number(m->client_deviation));
    failed |= json_object_set_new(row, "client_worst", number(m->client_worst));
  }
  if (!failed) return row;
  json_decref(row);
  return NULL;
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
