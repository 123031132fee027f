/* One round, as it should be read first. */
#include <math.h>
#include <time.h>

#include "fleet/serve.h"
#include "run.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

fl_status fl_round_mean(fedlane_run *run) {
  for (int u = 0; u < run->algorithm->n_update; u++) {
    fl_mix *mix[FL_DEVICES_MAX];
    for (int i = 0; i < run->n_station; i++) mix[i] = &run->station[i].mix[u];
    FL_TRY(fl_mix_join(run->n_station, mix));
    FL_TRY(fl_mix_mean(mix[0], run->mean[u]));
  }
  return FEDLANE_OK;
}

static fl_status filter_mean(fedlane_run *run) {
  static const uint32_t server_itself = 0;
  const fl_config *config = run->config;
  for (int i = config->n_filter - 1; i >= 0; i--) {
    const fl_filter *filter = (const fl_filter *)config->filter[i].record;
    fl_draw draw = {.seed = (uint32_t)config->general.seed,
                    .purpose = FL_FOR_NOISE,
                    .round = (uint32_t)run->round + 1,
                    .step = (uint32_t)(FL_FILTERS_MAX + i),
                    .client = &server_itself,
                    .nth = &server_itself};
    if (filter->mean)
      FL_TRY(filter->mean(config->filter[i].args, &draw, &run->server, run->mean[0]));
  }
  return FEDLANE_OK;
}

static fl_status apply(fedlane_run *run) {
  fl_server *s = &run->server;
  fl_measure health;
  fl_cspan w = {s->w, 0};
  FL_TRY(run->algorithm->apply(run->algorithm_args, s, run->mean));
  FL_TRY(s->ops->measure(s->dev, 1, s->P, w, run->health));
  FL_TRY(s->ops->download(s->dev, &health, run->health, sizeof health));
  FL_TRY(s->ops->sync(s->dev));
  if (!isfinite(health.peak))
    return fl_fail(FEDLANE_DATA,
                   "training diverged in round %d: the server's weights are no longer finite; a "
                   "smaller train.lr (now %g) or server.lr (now %g) may help",
                   s->round, run->config->train.lr, s->lr);
  return FEDLANE_OK;
}

/* Sums what the clients report, in the order in which they were drawn. */
static void collect(fedlane_run *run, fedlane_metrics *m) {
  const fl_cohort *c = &run->cohort;
  int64_t hits = 0, answers = 0, vector = 4 * fl_model_about(run->model)->parameters;
  m->train_loss = 0;
  for (int32_t i = 0; i < c->n; i++) {
    int32_t n = fl_run_examples(run, c->client[i]);
    bool good = c->accepted[c->rank[i]];
    m->clients += good;
    m->dropped += !good;
    m->examples += good ? (int64_t)n * run->schedule.epochs : 0;
    answers += good ? fl_run_answers(run, c->client[i]) * run->schedule.epochs : 0;
    m->steps += good ? fl_schedule_steps(&run->schedule, n) : 0;
  }
  for (int32_t r = 0; r < c->capacity; r++) {
    if (!c->accepted[r]) continue;
    m->train_loss += c->loss[r];
    hits += c->hit[r];
  }
  m->train_loss /= (double)answers;
  m->train_accuracy = run->data.classes ? (double)hits / (double)answers : NAN;
  if (run->fleet) return; /* where bytes are counted and not reckoned */
  m->bytes_down = vector * (1 + run->algorithm->n_broadcast) * c->n;
  m->bytes_up = vector * run->algorithm->n_update * m->clients;
}

fl_status fl_round(fedlane_run *run, fedlane_metrics *m) {
  double joules = fl_run_joules(run), start = now();
  run->server.round = run->round + 1;
  FL_TRY(run->fleet ? fl_serving_draw(run) : fl_cohort_draw(run));
  FL_TRY(fl_stations_begin(run));
  FL_TRY(run->fleet ? fl_serving_train(run, m) : fl_stations_do(run, fl_lanes_work));
  if (!run->fleet || !fl_serving_collect(run, m)) collect(run, m);
  run->server.arrived = m->clients;
  if (m->clients > 0) {
    FL_TRY(fl_round_mean(run));
    FL_TRY(filter_mean(run));
    FL_TRY(apply(run));
  }
  m->round = ++run->round;
  m->rounds = (int)run->config->train.rounds;
  m->seconds = now() - start;
  m->joules = fl_run_joules(run) - joules;
  fl_run_rates(run, m);
  return FEDLANE_OK;
}
