/* A workload as files, so that other systems can do the very same work.
 *
 * data.safetensors: x, y, client, x_test, y_test, rows sorted by client.
 *
 * weights.safetensors: the first weights, with PyTorch's names.
 *
 * plan.safetensors: clients [rounds, cohort] in the order of drawing; order, for each of these,
 * epoch by epoch, the rows it visits; shift, scale [channels].
 *
 * work.json: the settings. config.yaml: what `fedlane run` trains, the same data, weights and
 * settings. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "files.h"
#include "safetensors.h"

enum { PATH = 4096, OWN = 10, OVERRIDES = 64 };

typedef struct export {
  const fl_workload *workload;
  const fl_bench_options *options;
  int rounds;
  fedlane_run *run;
  int32_t *clients, *order; /* [rounds, cohort]; [n_order] */
  int64_t n_order;
}
export;

static fl_status path_of(const export *e, const char *name, char *path) {
  int n = snprintf(path, PATH, "%s/%s", e->options->to, name);
  return n < PATH ? FEDLANE_OK : fl_fail(FEDLANE_USAGE, "--to: the path is too long");
}

static fl_st_tensor tensor(const char *name, fl_dtype type, int n_dim, const int64_t *dim,
                           const void *data) {
  fl_st_tensor t = {.name = name, .type = type, .n_dim = n_dim, .count = 1, .data = data};
  for (int k = 0; k < n_dim; k++) t.count *= t.dim[k] = dim[k];
  return t;
}

/* Pixels, or tokens, which are below 256 here, of an example. */
static void put_bytes(const fl_dataset *d, int64_t example, uint8_t *to) {
  int64_t size = fl_image_size(d->image), at = example * size;
  if (d->bytes)
    memcpy(to, (const uint8_t *)d->x + at, (size_t)size);
  else
    for (int64_t i = 0; i < size; i++) to[i] = (uint8_t)((const float *)d->x)[at + i];
}

/* Rows of the file are in the order of population.index, which is sorted by client. */
static fl_status write_data(const export *e) {
  const fl_dataset *d = &e->run->data;
  const fl_population *p = &e->run->people;
  int64_t n = p->offset[p->n], size = fl_image_size(d->image), labels = d->n_label, k = 0;
  int64_t row[4] = {n, d->image.channels, d->image.height, d->image.width};
  int x_dim = d->tokens ? 2 : 4, y_dim = d->tokens ? 2 : 1;
  if (d->tokens) row[1] = d->image.steps;
  int64_t test[4] = {d->n_test, row[1], row[2], row[3]};
  uint8_t *x = malloc((size_t)((n + d->n_test) * size));
  int32_t *y = malloc((size_t)(n * labels) * sizeof *y);
  int32_t *client = malloc((size_t)n * sizeof *client);
  char path[PATH];
  fl_status status;
  FL_GO(path_of(e, "data.safetensors", path));
  if (!x || !y || !client) FL_GO(fl_fail(FEDLANE_MEMORY, "no memory to export the data"));
  for (int32_t i = 0; i < p->n; i++)
    for (; k < p->offset[i + 1]; k++) {
      put_bytes(d, p->index[k], x + k * size);
      memcpy(y + k * labels, d->label + p->index[k] * labels, (size_t)labels * sizeof *y);
      client[k] = i;
    }
  for (int64_t i = 0; i < d->n_test; i++) put_bytes(d, d->n_train + i, x + (n + i) * size);
  fl_st_tensor out[] = {
      tensor("x", FL_U8, x_dim, row, x),
      tensor("y", FL_I32, y_dim, row, y),
      tensor("client", FL_I32, 1, row, client),
      tensor("x_test", FL_U8, x_dim, test, x + n * size),
      tensor("y_test", FL_I32, y_dim, test, d->label + d->n_train * labels),
  };
  FL_GO(fl_st_write(path, FL_COUNT(out), out, 0, NULL));
done:
  free(x);
  free(y);
  free(client);
  return status;
}

/* The rows that one client visits in a round. */
static int64_t visit(const export *e, int round, uint32_t client, uint32_t nth, int32_t *to) {
  const fl_population *p = &e->run->people;
  int32_t n = fl_run_examples(e->run, client);
  for (int epoch = 0; epoch < e->run->schedule.epochs; epoch++, to += n) {
    for (int32_t k = 0; k < n; k++) to[k] = (int32_t)(p->offset[client] + k);
    fl_cohort_shuffle(e->run, round, client, nth, epoch, n, to);
  }
  return (int64_t)n * e->run->schedule.epochs;
}

/* Draws every round's clients. clients lists all that were drawn, order those that have examples.
 */
static fl_status draw_all(export *e) {
  const fl_cohort *c = &e->run->cohort;
  int64_t room = 0, M = c->capacity;
  e->clients = malloc((size_t)(e->rounds * M) * sizeof *e->clients);
  if (!e->clients) return fl_fail(FEDLANE_MEMORY, "no memory for %d rounds", e->rounds);
  for (e->run->round = 0; e->run->round < e->rounds; e->run->round++) {
    FL_TRY(fl_cohort_draw(e->run));
    memcpy(e->clients + e->run->round * M, c->drawn, (size_t)M * sizeof *c->drawn);
    for (int32_t i = 0; i < M; i++)
      room += (int64_t)fl_run_examples(e->run, (uint32_t)c->drawn[i]) * e->run->schedule.epochs;
  }
  e->order = malloc((size_t)room * sizeof *e->order);
  if (!e->order) return fl_fail(FEDLANE_MEMORY, "no memory for the order of %d rounds", e->rounds);
  for (int r = 0; r < e->rounds; r++)
    for (int64_t i = 0; i < M; i++) {
      const int32_t *drawn = e->clients + r * M;
      uint32_t nth = 0;
      for (int64_t k = 0; k < i; k++) nth += drawn[k] == drawn[i];
      e->n_order += visit(e, r + 1, (uint32_t)drawn[i], nth, e->order + e->n_order);
    }
  return FEDLANE_OK;
}

static fl_status write_plan(const export *e) {
  const fl_dataset *d = &e->run->data;
  int64_t drawn[2] = {e->rounds, e->run->cohort.capacity}, channels = d->image.channels;
  char path[PATH];
  FL_TRY(path_of(e, "plan.safetensors", path));
  fl_st_tensor out[] = {
      tensor("clients", FL_I32, 2, drawn, e->clients),
      tensor("order", FL_I32, 1, &e->n_order, e->order),
      tensor("shift", FL_F32, 1, &channels, d->shift),
      tensor("scale", FL_F32, 1, &channels, d->scale),
  };
  return fl_st_write(path, FL_COUNT(out), out, 0, NULL);
}

static fl_status write_settings(const export *e) {
  const fl_config *c = e->run->config;
  int64_t parameters = fl_model_about(e->run->model)->parameters;
  char path[PATH];
  FL_TRY(path_of(e, "work.json", path));
  json_t *out = json_pack(
      "{s:s, s:s, s:s, s:s, s:I, s:i, s:i, s:I, s:I, s:f, s:b, s:I, s:i, s:i, s:I}", "workload",
      e->workload->name, "help", e->workload->help, "version", fedlane_version(), "model",
      c->model.record->name, "parameters", (json_int_t)parameters, "rounds", e->rounds,
      "population", e->run->people.n, "cohort", (json_int_t)c->train.cohort, "batch",
      (json_int_t)c->train.batch, "lr", c->train.lr, "uniform", e->run->weighting == FL_UNIFORM,
      "eval_every", (json_int_t)c->eval.every, "epochs", e->run->schedule.epochs, "classes",
      e->run->data.classes, "examples", (json_int_t)e->n_order);
  bool good = out && json_dump_file(out, path, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0;
  json_decref(out);
  return good ? FEDLANE_OK : fl_fail(FEDLANE_IO, "%s cannot be written", path);
}

/* The workload's own configuration, but for its data, which are now a file, and its first weights.
 */
static fl_status write_config(const export *e) {
  const fl_bench_options *o = e->options;
  char set[7][PATH + 32], path[PATH];
  const char *list[OWN + OVERRIDES] = {set[0],
                                       set[1],
                                       set[2],
                                       set[3],
                                       set[4],
                                       set[5],
                                       set[6],
                                       "data.format=safetensors",
                                       "data.partition.kind=natural",
                                       "checkpoint.every=0"};
  int n = OWN;
  fl_config *config = NULL;
  snprintf(set[0], sizeof set[0], "data.path=%s/data.safetensors", o->to);
  snprintf(set[1], sizeof set[1], "model.weights=%s/weights.safetensors", o->to);
  snprintf(set[2], sizeof set[2], "train.rounds=%d", e->rounds);
  snprintf(set[3], sizeof set[3], "device=%s", o->device);
  snprintf(set[4], sizeof set[4], "threads=%d", o->threads);
  snprintf(set[5], sizeof set[5], "precision=%s", o->precision);
  snprintf(set[6], sizeof set[6], "data.tokens=%d", e->run->data.tokens);
  for (int i = 0; i < o->settings.n; i++)
    if (strncmp(o->settings.at[i], "data.", 5) != 0) list[n++] = o->settings.at[i];
  FL_TRY(path_of(e, "config.yaml", path));
  FL_TRY(fl_config_parse(e->workload->name, e->workload->config, n, list, &config));
  FILE *file = fopen(path, "w");
  bool good = file && fputs(config->resolved, file) >= 0;
  if (file && fclose(file) != 0) good = false;
  fl_config_close(&config);
  return good ? FEDLANE_OK : fl_fail(FEDLANE_IO, "%s cannot be written", path);
}

fl_status fl_bench_export(const fl_bench_options *o) {
  export e = {.options = o};
  char path[PATH];
  fl_status status;
  if (!o->to) return fl_fail(FEDLANE_USAGE, "bench export needs --to FOLDER");
  if (o->settings.n > OVERRIDES)
    return fl_fail(FEDLANE_USAGE, "%d overrides are too many", o->settings.n);
  FL_TRY(fl_workload_find(o->workload, &e.workload));
  e.rounds = o->rounds > 0 ? o->rounds : e.workload->rounds;
  FL_GO(fl_make_folder(o->to));
  FL_GO(fl_workload_open(e.workload, o, e.rounds, &e.run));
  const fl_dataset *d = &e.run->data;
  bool tokens = d->tokens > 0 && d->tokens <= UINT8_MAX + 1;
  if (!d->label || !(tokens || d->bytes))
    FL_GO(fl_fail(FEDLANE_UNSUPPORTED,
                  "only byte images with classes and up to 256 tokens can be exported"));
  FL_GO(path_of(&e, "weights.safetensors", path));
  FL_GO(fl_weights_save(e.run, path));
  FL_GO(write_data(&e));
  FL_GO(draw_all(&e));
  FL_GO(write_plan(&e));
  FL_GO(write_settings(&e));
  FL_GO(write_config(&e));
done:
  fedlane_close(&e.run);
  free(e.clients);
  free(e.order);
  return status;
}
