#include <stdlib.h>
#include <string.h>

#include "run.h"

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static fl_span take_span(fl_arena *a, int64_t width, int64_t stride) {
  fl_span s = {fl_arena_take(a, 4 * width * stride), stride};
  return s;
}

/* A lane's. */
static int64_t bytes_of_measures(const fedlane_run *run) {
  return (int64_t)sizeof(fl_measure) * FL_UPDATES * fl_model_parts(run->model);
}

/* Hands out the device memory of a station: in the same order when planning and when placing. */
static void place_lanes(const fedlane_run *run, fl_station *s, int width, int together) {
  const fl_algorithm *alg = run->algorithm;
  const fl_schedule *plan = &run->schedule;
  int eval_batch = (int)run->config->eval.batch;
  fl_arena *a = &s->arena;
  fl_lanes *l = &s->lanes;
  int64_t measures = bytes_of_measures(run), history = fl_model_history(run->model);
  int64_t P = fl_model_about(run->model)->P, batch = larger(plan->batch, eval_batch);
  int64_t act = larger(fl_model_act(run->model, plan->batch, true),
                       fl_model_act(run->model, eval_batch, false));
  s->index_stride = larger(eval_batch, (int64_t)plan->batch * run->plan.pieces);
  l->P = P;
  l->width = width;
  l->w = take_span(a, width, P);
  l->up[0] = l->w;
  for (int u = 1; u < alg->n_update; u++) l->up[u] = take_span(a, width, P);
  s->measure = fl_arena_take(a, measures * width);
  for (int i = 0; i < alg->n_client_slot; i++) l->slot[i] = take_span(a, together, P);
  if (!plan->fused) s->g = take_span(a, together, P);
  if (plan->momentum) s->velocity = take_span(a, together, P);
  if (history) s->history = take_span(a, together, history);
  s->act = take_span(a, together, (act + 15) / 16 * 16);
  s->index = fl_arena_take(a, 4 * together * s->index_stride);
  if (run->data.classes)
    s->label = fl_arena_take(a, 4 * together * batch * run->data.n_label);
  else
    s->target = take_span(a, together, batch * run->data.n_target);
  s->loss = fl_arena_take(a, 8 * (int64_t)together);
  s->hit = fl_arena_take(a, 8 * (int64_t)together);
}

/* Where a station reads the server's weights and the slots that travel with them. */
static void place_global(const fedlane_run *run, fl_station *s) {
  bool own = !run->devices.ops->host && s != run->station;
  for (int i = 0; i <= run->algorithm->n_broadcast; i++)
    s->global[i] = own ? fl_arena_take(&s->arena, 4 * run->server.P)
                   : i ? run->server.slot[i - 1]
                       : run->server.w;
}

static void place_host(const fedlane_run *run, fl_station *s, int width, int together) {
  int64_t measures = bytes_of_measures(run);
  fl_arena *a = &s->host_arena;
  fl_lanes *l = &s->lanes;
  l->client = fl_arena_take(a, 4 * (int64_t)width);
  l->nth = fl_arena_take(a, 4 * (int64_t)width);
  l->rank = fl_arena_take(a, 4 * (int64_t)width);
  l->n_example = fl_arena_take(a, 4 * (int64_t)width);
  l->n_step = fl_arena_take(a, 4 * (int64_t)width);
  l->coef = fl_arena_take(a, 4 * (int64_t)width);
  s->rows = fl_arena_take(a, 4 * (int64_t)width);
  s->step_rows = fl_arena_take(a, 4 * (int64_t)width);
  s->n_piece = fl_arena_take(a, 4 * (int64_t)width);
  s->weight = fl_arena_take(a, 4 * (int64_t)width);
  s->norm = fl_arena_take(a, 4 * (int64_t)width);
  s->measure_host = fl_arena_take(a, measures * width);
  s->scale = fl_arena_take(a, 8 * (int64_t)width);
  s->product_scale = fl_arena_take(a, 8 * (int64_t)together);
  s->factor = fl_arena_take(a, 4 * 3 * (int64_t)together);
  s->loss_host = fl_arena_take(a, 8 * (int64_t)together);
  s->hit_host = fl_arena_take(a, 8 * (int64_t)together);
  s->index_host = fl_arena_take(a, 4 * together * s->index_stride);
  int64_t outputs = run->devices.ops->host ? 0 : fl_scores_outputs(run);
  if (outputs > 0) s->output_host = fl_arena_take(a, 4 * run->config->eval.batch * outputs);
}

int64_t fl_station_bytes(const fedlane_run *run, int width, int together) {
  fl_station counted = {0};
  place_lanes(run, &counted, width, together);
  return counted.arena.used;
}

/* Copies an array to the device, or shares it where device memory is host memory. */
static fl_status resident(const fl_ops *ops, fl_dev *dev, const void *from, int64_t bytes,
                          void *out) {
  void *at = NULL;
  if (!ops->host && from) {
    FL_TRY(ops->alloc(dev, bytes, &at));
    FL_TRY(ops->upload(dev, at, from, bytes));
    from = at;
  }
  memcpy(out, &from, sizeof from);
  return FEDLANE_OK;
}

static fl_status place_source(const fedlane_run *run, fl_station *s) {
  const fl_dataset *d = &run->data;
  const fl_ops *ops = s->lanes.ops;
  fl_dev *dev = s->lanes.dev;
  int64_t n = d->n_train + d->n_test;
  fl_source *source = &s->source;
  *source = (fl_source){.image = d->image,
                        .bytes = d->bytes,
                        .n_label = d->n_label,
                        .n_target = d->n_target,
                        .shift = d->shift,
                        .scale = d->scale,
                        .crop = (int)run->config->data.crop,
                        .flip = run->config->data.flip};
  FL_TRY(resident(ops, dev, d->x, n * fl_image_size(d->image) * (d->bytes ? 1 : 4), &source->x));
  FL_TRY(resident(ops, dev, d->label, 4 * n * d->n_label, &source->label));
  return resident(ops, dev, d->target, 4 * n * d->n_target, &source->target);
}

fl_status fl_station_open(fedlane_run *run, int i) {
  fl_station *s = &run->station[i];
  fl_lanes *l = &s->lanes;
  int width = run->plan.width, together = run->plan.together;
  l->ops = run->devices.ops;
  l->dev = run->devices.dev[i];
  place_lanes(run, s, width, together);
  place_global(run, s);
  FL_TRY(fl_arena_open(&s->arena, l->ops, l->dev));
  place_lanes(run, s, width, together);
  place_global(run, s);
  place_host(run, s, width, together);
  FL_TRY(fl_arena_open(&s->host_arena, NULL, NULL));
  place_host(run, s, width, together);
  for (int u = 0; u < run->algorithm->n_update; u++) fl_mix_open(&s->mix[u], l->ops, l->dev, l->P);
  l->w0 = (fl_cspan){s->global[0], 0};
  for (int b = 0; b < run->algorithm->n_broadcast; b++)
    l->broadcast[b] = (fl_cspan){s->global[1 + b], 0};
  FL_TRY(fl_history_open(run->model, l->ops, l->dev, together, s->history));
  return place_source(run, s);
}

void fl_station_close(fl_station *s) {
  const fl_ops *ops = s->lanes.ops;
  for (int u = 0; u < FL_UPDATES; u++) fl_mix_close(&s->mix[u]);
  if (ops && !ops->host) {
    void *held[] = {(void *)(uintptr_t)s->source.x, (void *)(uintptr_t)s->source.label,
                    (void *)(uintptr_t)s->source.target};
    for (int i = 0; i < FL_COUNT(held); i++)
      if (held[i]) ops->release(s->lanes.dev, &held[i]);
  }
  fl_arena_close(&s->arena);
  fl_arena_close(&s->host_arena);
  free(s->sentence);
  memset(s, 0, sizeof *s);
}

/* Copies of the server's vectors, on devices that cannot read them, become what these are now. */
static fl_status share_global(fedlane_run *run) {
  const fl_devices *d = &run->devices;
  for (int i = 0; i <= run->algorithm->n_broadcast && !d->ops->host && d->n > 1; i++) {
    float *x[FL_DEVICES_MAX];
    for (int k = 0; k < d->n; k++) x[k] = run->station[k].global[i];
    FL_TRY(d->ops->spread(d->n, d->dev, run->server.P, x));
  }
  return FEDLANE_OK;
}

typedef struct one_job {
  fedlane_run *run;
  fl_job what;
} one_job;

static void do_one(void *of, int i) {
  const one_job *job = of;
  fl_station *s = &job->run->station[i];
  s->status = job->what(job->run, s);
  free(s->sentence);
  s->sentence = s->status == FEDLANE_OK ? NULL : strdup(fedlane_error());
}

fl_status fl_stations_do(fedlane_run *run, fl_job job) {
  one_job one = {run, job};
  FL_TRY(share_global(run));
  fl_team_do(run->team, do_one, &one);
  for (int i = 0; i < run->n_station; i++) {
    const fl_station *s = &run->station[i];
    if (s->status != FEDLANE_OK)
      return fl_fail(s->status, "%s", s->sentence ? s->sentence : "no memory for an explanation");
  }
  return FEDLANE_OK;
}

fl_status fl_stations_begin(fedlane_run *run) {
  for (int i = 0; i < run->n_station; i++)
    for (int u = 0; u < run->algorithm->n_update; u++)
      FL_TRY(fl_mix_begin(&run->station[i].mix[u], run->cohort.weight));
  return FEDLANE_OK;
}
