/* A client whose training is ours. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fleet/client.h"
#include "run.h"

typedef struct joined {
  const fl_join_options *options;
  fedlane_client *client;
  char *config; /* that the run was opened from, as the coordinator wrote it */
  fedlane_run *run;
  float *weights; /* [P] after training */
} joined;

static void close_run(joined *k) {
  fedlane_close(&k->run);
  free(k->config);
  free(k->weights);
  k->config = NULL;
  k->weights = NULL;
}

/* The coordinator's run with a population of one, to whom all training examples belong. Filters are
 * the coordinator's. */
static fl_status open_run(joined *k) {
  static const char *const own[] = {"output=",
                                    "device=auto",
                                    "threads=0",
                                    "width=0",
                                    "fleet.clients=simulated",
                                    "data.partition={kind: iid, clients: 1}",
                                    "data.hold_out=0",
                                    "train.cohort=1",
                                    "eval.clients=false",
                                    "filters=[]"};
  const fl_join_options *o = k->options;
  int n = FL_COUNT(own) + o->n_override;
  const char **override = calloc((size_t)n, sizeof *override);
  fl_config *config = NULL;
  fl_status status;
  close_run(k);
  k->config = strdup(fedlane_client_config(k->client));
  if (!override || !k->config) {
    status = fl_fail(FEDLANE_MEMORY, "no memory for a configuration");
    goto done;
  }
  memcpy(override, own, sizeof own);
  for (int i = 0; i < o->n_override; i++) override[FL_COUNT(own) + i] = o->override[i];
  FL_GO(fl_config_parse("the coordinator's configuration", k->config, n, override, &config));
  FL_GO(fl_run_open(&config, 0, &k->run));
  k->weights = calloc((size_t)k->run->server.P, sizeof *k->weights);
  if (!k->weights) status = fl_fail(FEDLANE_MEMORY, "no memory for a client");
done:
  fl_config_close(&config);
  free(override);
  return status;
}

/* Trains the client from the task's weights on; its update is run->mean[0]. */
static fl_status train(fedlane_run *run, const fedlane_task *task) {
  fl_server *s = &run->server;
  run->round = task->round - 1;
  s->round = task->round;
  FL_TRY(s->ops->upload(s->dev, s->w, task->weights, 4 * s->P));
  FL_TRY(s->ops->sync(s->dev));
  FL_TRY(fl_cohort_draw(run));
  FL_TRY(fl_stations_begin(run));
  FL_TRY(fl_stations_do(run, fl_lanes_work));
  return fl_round_mean(run);
}

static fl_status work(joined *k, const fedlane_task *task) {
  bool mixed = false;
  char text[64];
  if (!k->run || strcmp(k->config, fedlane_client_config(k->client)) != 0) FL_TRY(open_run(k));
  fedlane_run *run = k->run;
  fl_server *s = &run->server;
  if (s->P != task->elements)
    return fl_fail(FEDLANE_USAGE,
                   "the model has %lld elements here and %lld at the coordinator: the shapes of "
                   "the data differ",
                   (long long)s->P, (long long)task->elements);
  FL_TRY(train(run, task));
  if (!run->cohort.accepted[0]) return fedlane_client_refuse(k->client, "the update is not finite");
  FL_TRY(s->ops->download(s->dev, k->weights, run->mean[0], 4 * s->P));
  FL_TRY(s->ops->sync(s->dev));
  for (int64_t i = 0; i < s->P; i++) k->weights[i] += task->weights[i];
  int32_t examples = fl_run_examples(run, 0);
  fedlane_trained trained = {.weights = k->weights,
                             .examples = examples,
                             .steps = fl_schedule_steps(&run->schedule, examples),
                             .hits = run->cohort.hit[0],
                             .loss = run->cohort.loss[0],
                             .payload = k->options->payload};
  FL_TRY(fedlane_client_send(k->client, &trained, &mixed));
  snprintf(text, sizeof text, "round %d: %s", task->round, mixed ? "mixed" : "left out");
  if (k->options->tell) k->options->tell(k->options->of, text);
  return FEDLANE_OK;
}

fl_status fl_join_run(const fl_join_options *options) {
  joined k = {.options = options};
  fedlane_task task = {0};
  fl_status status;
  FL_GO(fl_client_join(options, &k.client));
  while (task.kind != FEDLANE_TASK_DONE) {
    FL_GO(fedlane_client_next(k.client, 0.5, &task));
    if (task.kind == FEDLANE_TASK_TRAIN) FL_GO(work(&k, &task));
  }
done:
  close_run(&k);
  fedlane_client_leave(&k.client);
  return status;
}
