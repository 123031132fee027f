/* The life of a run, and the public interface over it. */
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "fleet/serve.h"
#include "run.h"

fl_status fl_data_open(const fl_config *c, fl_dataset *data, fl_population *people) {
  const fl_format *format = (const fl_format *)c->format.record;
  const fl_partition *partition = (const fl_partition *)c->partition.record;
  uint32_t seed = (uint32_t)c->general.seed;
  fl_load how = {
      .path = c->data.path,
      .seed = seed,
      .threads = c->general.threads > 0 ? (int)c->general.threads : omp_get_max_threads(),
      .skip_bad = c->data.on_bad == FL_BAD_SKIP};
  FL_TRY(fl_dataset_load(&how, format, c->format.args, c->data.cache, data));
  FL_TRY(fl_dataset_split(data, &c->split, seed));
  if (data->label) FL_TRY(fl_dataset_count_labels(data));
  FL_TRY(fl_dataset_normalise(data, (fl_normalise)c->data.normalise));
  FL_TRY(partition->deal(data, c->partition.args, seed, people));
  return fl_population_hold_out(people, c->data.hold_out, seed);
}

static fl_status open_model(fedlane_run *run) {
  const fl_config *c = run->config;
  const fl_dataset *d = &run->data;
  fl_ends ends = {.input = d->image,
                  .tokens = d->tokens,
                  .n_output = d->classes ? d->classes : d->n_target,
                  .steps = d->label && d->n_label > 1 ? d->n_label : 0};
  if (c->n_layer > 0)
    return fl_model_build("of the configuration", c->n_layer, c->layer, FL_INIT_TORCH, &ends,
                          &run->model);
  const fl_model_spec *spec = (const fl_model_spec *)c->model.record;
  return fl_model_build(spec->record.name, spec->n_layer, spec->layer, spec->init, &ends,
                        &run->model);
}

/* The logistic loss knows yes, no and what lies between them. */
static fl_status check_logistic(const fl_dataset *d) {
  for (int64_t i = 0; i < (d->n_train + d->n_test) * d->n_target; i++)
    if (!(d->target[i] >= 0 && d->target[i] <= 1))
      return fl_fail(FEDLANE_USAGE,
                     "train.loss is logistic, which needs targets from 0 to 1, but target %lld of "
                     "example %lld is %g",
                     (long long)(i % d->n_target), (long long)(i / d->n_target), d->target[i]);
  return FEDLANE_OK;
}

/* Only images can be moved and mirrored. */
static fl_status check_augment(const fl_data_args *how, const fl_dataset *d) {
  bool images = d->tokens == 0 && d->image.steps == 0 && d->image.height * d->image.width > 1;
  if (images || (how->crop == 0 && !how->flip)) return FEDLANE_OK;
  return fl_fail(FEDLANE_USAGE, "data.%s is for images, but an example of the data set is %s",
                 how->crop > 0 ? "crop" : "flip",
                 d->tokens > 0        ? "a sequence of tokens"
                 : d->image.steps > 0 ? "a sequence of values"
                                      : "a list of features");
}

/* What the parts of a configuration ask of one another. */
static fl_status check_together(const fedlane_run *run) {
  const fl_config *c = run->config;
  const fl_sampler *sampler = (const fl_sampler *)c->sampler.record;
  bool repeats = sampler->repeats(c->sampler.args), classify = run->data.classes > 0;
  if (c->train.cohort > run->people.n && !repeats && c->fleet.clients == FL_CLIENTS_SIMULATED)
    return fl_fail(FEDLANE_USAGE,
                   "train.cohort is %lld, but the population has %d clients; without replacement "
                   "a cohort can be at most that",
                   (long long)c->train.cohort, run->people.n);
  if (repeats && run->algorithm->n_client_slot > 0)
    return fl_fail(FEDLANE_USAGE,
                   "%s keeps vectors for each client, so no client may be drawn twice in a round; "
                   "set sampler.replacement to false",
                   run->algorithm->record.name);
  if (c->train.loss != FL_LOSS_AUTO && (c->train.loss == FL_LOSS_NAME_XENT) != classify)
    return fl_fail(FEDLANE_USAGE, "train.loss is %s, but the data set holds %s",
                   c->train.loss == FL_LOSS_NAME_XENT ? "xent" : "for regression",
                   classify ? "class labels" : "regression targets");
  FL_TRY(check_augment(&c->data, &run->data));
  return c->train.loss == FL_LOSS_NAME_LOGISTIC ? check_logistic(&run->data) : FEDLANE_OK;
}

/* Pieces of this many rows when a step takes all of a client's examples. */
enum { WHOLE_PIECE = 50 };

static void make_schedule(fedlane_run *run) {
  const fl_train_args *t = &run->config->train;
  const fl_algorithm *alg = run->algorithm;
  fl_schedule *s = &run->schedule;
  s->whole = alg->full_gradient || t->batch == 0;
  s->batch = t->batch > 0 ? (int)t->batch : WHOLE_PIECE;
  s->epochs = alg->full_gradient ? 1 : (int)t->epochs;
  s->momentum = t->momentum > 0;
  s->fused = !s->whole && !s->momentum && t->clip_norm <= 0;
  run->weighting = run->config->server.weighting ? (fl_weighting)(run->config->server.weighting - 1)
                                                 : alg->weighting;
}

static fl_status open_server(fedlane_run *run) {
  fl_server *s = &run->server;
  fl_arena *a = &run->server_arena;
  const fl_algorithm *alg = run->algorithm;
  s->ops = run->devices.ops;
  s->dev = run->devices.dev[0];
  s->P = fl_model_about(run->model)->P;
  s->lr = run->config->server.lr > 0 ? run->config->server.lr : alg->server_lr;
  s->population = run->people.n;
  for (int placing = 0; placing < 2; placing++) {
    if (placing) FL_TRY(fl_arena_open(a, s->ops, s->dev));
    s->w = fl_arena_take(a, 4 * s->P);
    for (int i = 0; i < alg->n_server_slot; i++) s->slot[i] = fl_arena_take(a, 4 * s->P);
    for (int u = 0; u < alg->n_update; u++) run->mean[u] = fl_arena_take(a, 4 * s->P);
    run->health = fl_arena_take(a, sizeof(fl_measure));
  }
  for (int i = 0; i < alg->n_server_slot; i++) {
    fl_span slot = {s->slot[i], 0};
    FL_TRY(s->ops->fill(s->dev, 1, s->P, 0, slot));
  }
  run->host_w = calloc((size_t)s->P, sizeof *run->host_w);
  if (!run->host_w) return fl_fail(FEDLANE_MEMORY, "no memory for a copy of the weights");
  fl_model_init(run->model, (uint32_t)run->config->general.seed, run->host_w);
  if (*run->config->model_args.weights)
    FL_TRY(fl_weights_load(run->model, run->config->model_args.weights, run->host_w));
  FL_TRY(s->ops->upload(s->dev, s->w, run->host_w, 4 * s->P));
  return s->ops->sync(s->dev);
}

static fl_status open_stations(fedlane_run *run) {
  const fl_config *c = run->config;
  fl_precision precision = (fl_precision)(c->general.precision_choice - 1); /* auto comes first */
  FL_TRY(fl_devices_open(c->general.device, precision, (int)c->general.threads, &run->devices));
  run->n_station = run->devices.n;
  if (run->n_station > c->train.cohort && run->devices.ops->host)
    run->n_station = (int)c->train.cohort;
  return fl_plan_make(run);
}

static fl_status place_stations(fedlane_run *run) {
  run->station = calloc((size_t)run->n_station, sizeof *run->station);
  if (!run->station) return fl_fail(FEDLANE_MEMORY, "no memory for %d devices", run->n_station);
  for (int i = 0; i < run->n_station; i++) FL_TRY(fl_station_open(run, i));
  FL_TRY(fl_team_open(run->n_station, &run->team));
  return fl_store_open(&run->store, run->people.n, run->algorithm->n_client_slot * run->server.P,
                       run->config->general.output);
}

/* Moves an earlier run out of the way: nothing is overwritten. */
static fl_status keep_earlier(const char *output) {
  char *config = fl_path_join(output, "config.yaml");
  bool occupied = config && fl_file_exists(config);
  size_t size = strlen(output) + 16, end = strlen(output);
  char *aside = malloc(size);
  fl_status status = FEDLANE_OK;
  while (end > 1 && output[end - 1] == '/') end--;
  if (!config || !aside) {
    status = fl_fail(FEDLANE_MEMORY, "no memory for the name of a run folder");
    goto done;
  }
  if (!occupied) goto done;
  for (int i = 1;; i++) {
    snprintf(aside, size, "%.*s.%d", (int)end, output, i);
    if (!fl_file_exists(aside)) break;
  }
  if (rename(output, aside) != 0)
    status = fl_fail(FEDLANE_IO, "%s: cannot be moved to %s: %s", output, aside, strerror(errno));
done:
  free(config);
  free(aside);
  return status;
}

static fl_status write_config(const char *output, const char *text) {
  fl_aside file = {0};
  char *path = fl_path_join(output, "config.yaml");
  fl_status status;
  if (!path) return fl_fail(FEDLANE_MEMORY, "no memory for the name of a run folder");
  FL_GO(fl_aside_open(path, &file));
  fputs(text, file.file);
  FL_GO(fl_aside_commit(&file));
done:
  fl_aside_abandon(&file);
  free(path);
  return status;
}

static fl_status make_folder(const fedlane_run *run, bool resume) {
  const char *output = run->config->general.output;
  if (!*output && resume)
    return fl_fail(FEDLANE_USAGE, "output is empty, so there is no run folder to resume from");
  if (!*output) return FEDLANE_OK;
  if (!resume) FL_TRY(keep_earlier(output));
  return fl_make_folder(output);
}

static fl_status open_folder(fedlane_run *run, bool resume) {
  const char *output = run->config->general.output;
  if (!*output) return FEDLANE_OK;
  if (resume) FL_TRY(fl_checkpoint_load(run));
  FL_TRY(write_config(output, run->config->resolved));
  return fl_rows_open(run, output);
}

static fl_status open_parts(fedlane_run *run, int flags) {
  run->algorithm = (const fl_algorithm *)run->config->algorithm.record;
  run->algorithm_args = run->config->algorithm.args;
  run->last_checkpoint = -1;
  FL_TRY(fl_data_open(run->config, &run->data, &run->people));
  FL_TRY(check_together(run));
  FL_TRY(fl_scores_choose(run));
  FL_TRY(open_model(run));
  make_schedule(run);
  FL_TRY(open_stations(run));
  if (flags & FL_OPEN_DRY) return FEDLANE_OK;
  FL_TRY(open_server(run));
  FL_TRY(fl_cohort_open(run));
  if (flags & FL_OPEN_SERVE) FL_TRY(fl_serving_open(run));
  FL_TRY(make_folder(run, flags & FEDLANE_RESUME));
  FL_TRY(place_stations(run));
  FL_TRY(fl_eval_open(run));
  FL_TRY(fl_stations_do(run, fl_lanes_warm));
  return open_folder(run, flags & FEDLANE_RESUME);
}

fl_status fl_run_open(fl_config **config, int flags, fedlane_run **out) {
  fedlane_run *run = calloc(1, sizeof *run);
  if (!run) return fl_fail(FEDLANE_MEMORY, "no memory for a run");
  run->config = *config;
  *config = NULL;
  fl_status status = open_parts(run, flags);
  if (status == FEDLANE_OK)
    *out = run;
  else
    fedlane_close(&run);
  return status;
}

fedlane_status fedlane_open(const char *path, int n_override, const char *const *override,
                            int flags, fedlane_run **out) {
  fl_config *config = NULL;
  FL_TRY(fl_config_read(path, n_override, override, &config));
  fl_status status = fl_run_open(&config, flags, out);
  fl_config_close(&config);
  return status;
}

void fedlane_close(fedlane_run **handle) {
  fedlane_run *run = *handle;
  if (!run) return;
  fl_serving_close(run, run->config && run->round >= run->config->train.rounds);
  fl_rows_close(run);
  fl_eval_close(run);
  fl_cohort_close(&run->cohort);
  fl_store_close(&run->store);
  fl_team_close(&run->team);
  for (int i = 0; run->station && i < run->n_station; i++) fl_station_close(&run->station[i]);
  free(run->station);
  fl_arena_close(&run->server_arena);
  fl_devices_close(&run->devices);
  fl_model_close(&run->model);
  fl_population_close(&run->people);
  fl_dataset_close(&run->data);
  fl_config_close(&run->config);
  free(run->host_w);
  free(run);
  *handle = NULL;
}

void fedlane_stop(fedlane_run *run) { run->stop = 1; }

static bool due(int64_t every, int round) { return every > 0 && round % every == 0; }

/* A checkpoint promises all rows up to its round. */
static fl_status save(fedlane_run *run) {
  FL_TRY(fl_rows_write(run));
  return fl_checkpoint_save(run);
}

/* The end of a run: a checkpoint, the model as it is now, and the sinks' last words. */
static fl_status save_all(fedlane_run *run) {
  const char *output = run->config->general.output;
  if (!*output) return FEDLANE_OK;
  char *path = fl_path_join(output, "model.safetensors");
  fl_status status;
  if (!path) return fl_fail(FEDLANE_MEMORY, "no memory for the name of the model's file");
  FL_GO(save(run));
  FL_GO(fl_weights_save(run, path));
  FL_GO(fl_rows_close(run));
done:
  free(path);
  return status;
}

fedlane_status fedlane_round(fedlane_run *run, fedlane_metrics *out) {
  const fl_config *c = run->config;
  fedlane_metrics m = {.train_loss = NAN,
                       .train_accuracy = NAN,
                       .test_loss = NAN,
                       .test_accuracy = NAN,
                       .client_mean = NAN,
                       .client_deviation = NAN,
                       .client_worst = NAN};
  if (run->round >= c->train.rounds) {
    /* A run that was killed after its last checkpoint still lacks its model and report. */
    if (run->rows.n_sink > 0) FL_TRY(save_all(run));
    return FEDLANE_DONE;
  }
  if (run->stop) {
    FL_TRY(save_all(run));
    return FEDLANE_STOPPED;
  }
  fl_status status = fl_round(run, &m);
  if (status == FEDLANE_STOPPED) FL_TRY(save_all(run)); /* a fleet's round is not begun twice */
  FL_TRY(status);
  bool last = run->round >= c->train.rounds;
  if (last || due(c->eval.every, run->round)) FL_TRY(fl_eval(run, &m));
  FL_TRY(fl_rows_add(run, &m));
  if (last)
    FL_TRY(save_all(run));
  else if (due(c->checkpoint.every, run->round))
    FL_TRY(save(run));
  if (out) *out = m;
  return FEDLANE_OK;
}
