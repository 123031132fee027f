#include "fleet/serve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fleet/arrived.h"
#include "fleet/clients.h"
#include "fleet/ties.h"

struct fl_serving {
  fl_fleet *fleet;
  fl_clients *clients; /* real ones; NULL: workers train simulated ones */
  fl_ties *ties;
  char *layout;
  float *vector;    /* (host) [P] what travels, where the device's memory is not the host's */
  int32_t *cost;    /* [cohort] */
  int64_t *aligned; /* a chunk's sums, where they did not arrive so */
};

uint64_t fl_run_people(const fedlane_run *run) {
  const fl_dataset *d = &run->data;
  const fl_population *p = &run->people;
  size_t n = (size_t)(d->n_train + d->n_test);
  size_t dealt = p->n > 0 ? (size_t)(p->offset[p->n - 1] + p->n_train[p->n - 1]) : 0;
  uint64_t part[] = {
      fl_digest(d->x, n * (size_t)fl_image_size(d->image) * (d->bytes ? 1 : 4)),
      d->label ? fl_digest(d->label, 4 * n * (size_t)d->n_label) : 0,
      d->target ? fl_digest(d->target, 4 * n * (size_t)d->n_target) : 0,
      fl_digest(p->n_train, sizeof *p->n_train * (size_t)p->n),
      fl_digest(p->offset, sizeof *p->offset * (size_t)p->n),
      fl_digest(p->index, sizeof *p->index * dealt),
      (uint64_t)p->n,
  };
  return fl_digest(part, sizeof part) | 1;
}

/* Vectors of the model are the weights and what travels with them; behind them come those that the
 * units' clients keep. */
static fl_status vector_of(void *of, uint64_t vector, const float **at) {
  fedlane_run *run = of;
  const fl_server *s = &run->server;
  uint64_t model = (uint64_t)run->algorithm->n_broadcast + 1;
  if (vector >= model) {
    uint64_t own = (uint64_t)run->algorithm->n_client_slot, unit = (vector - model) / own;
    const fl_drawn *one = &run->cohort.order[unit];
    FL_TRY(fl_store_touch(&run->store, one->client));
    *at =
        run->store.at + one->client * run->store.floats + (int64_t)((vector - model) % own) * s->P;
    return FEDLANE_OK;
  }
  const float *from = vector ? s->slot[vector - 1] : s->w;
  *at = from;
  if (s->ops->host) return FEDLANE_OK;
  *at = run->fleet->vector;
  FL_TRY(s->ops->download(s->dev, run->fleet->vector, from, 4 * s->P));
  return s->ops->sync(s->dev);
}

/* What the clients of a report add to the round's weight. */
static int64_t weight_of(const fedlane_run *run, const fl_report *r) {
  int64_t weight = 0;
  for (uint64_t i = 0; i < r->count; i++)
    if (r->good[i]) weight += fl_run_weight(run, run->cohort.order[r->first + i].client);
  return weight;
}

/* A stretch of a vector that a client keeps. */
static fl_status keep_own(fedlane_run *run, const fl_chunk *c, const fl_blob *body) {
  uint64_t own = (uint64_t)run->algorithm->n_client_slot, i = c->stream - FL_STREAM_OWN;
  uint32_t client = run->cohort.order[i / own].client;
  FL_TRY(fl_store_touch(&run->store, client));
  float *to = run->store.at + client * run->store.floats + (int64_t)(i % own) * run->server.P;
  memcpy(to + c->offset, fl_blob_at(body), fl_blob_size(body));
  run->store.dirty[client] = true;
  return FEDLANE_OK;
}

static void keep_report(fedlane_run *run, const fl_report *r) {
  fl_cohort *c = &run->cohort;
  for (uint64_t i = 0; i < r->count; i++) {
    int32_t rank = c->order[r->first + i].rank;
    c->loss[rank] = r->loss[i];
    c->hit[rank] = r->hit[i];
    c->accepted[rank] = r->good[i];
  }
}

static fl_cause judge_own(const fedlane_run *run, const fl_stretch *s) {
  const fl_chunk *c = &s->about;
  uint64_t own = (uint64_t)run->algorithm->n_client_slot * (uint64_t)run->cohort.n;
  const char *at = fl_blob_at(s->body);
  if (c->payload != FL_PAYLOAD_F32 || c->stream < FL_STREAM_OWN ||
      c->stream >= FL_STREAM_OWN + own ||
      fl_blob_size(s->body) != fl_payload_bytes(FL_PAYLOAD_F32, c->count))
    return FL_CAUSE_shape;
  for (uint64_t i = 0; i < c->count; i++) {
    float x;
    memcpy(&x, at + i * sizeof x, sizeof x);
    if (!isfinite(x)) return FL_CAUSE_nonfinite;
  }
  return FL_CAUSE_none;
}

static fl_status check(void *of, const fl_upload *upload, fl_cause *cause) {
  const fedlane_run *run = of;
  int64_t weight = 0;
  for (int i = 0; i < upload->n_report; i++) weight += weight_of(run, &upload->report[i]);
  if (upload->about.weight != (uint64_t)weight) *cause = FL_CAUSE_shape;
  return FEDLANE_OK;
}

/* Sums are added at once; what clients keep waits for the rest, as it cannot be taken off again. */
static fl_status mix(void *of, const fl_update *about, const fl_stretch *s, fl_cause *cause) {
  fedlane_run *run = of;
  fl_mix *sums = run->station[0].mix;
  int64_t *scratch = run->fleet->aligned;
  if (!fl_arrived_is_sum(&s->about, s->body, (uint64_t)run->algorithm->n_update)) {
    *cause = judge_own(run, s);
    return FEDLANE_OK;
  }
  if (fl_arrived_fits(sums, &s->about, s->body, (int64_t)about->weight, scratch))
    return fl_arrived_add(sums, &s->about, s->body, false, scratch);
  *cause = FL_CAUSE_oversized;
  return FEDLANE_OK;
}

static fl_status unmix(void *of, const fl_stretch *s) {
  fedlane_run *run = of;
  if (s->about.payload != FL_PAYLOAD_SUM) return FEDLANE_OK;
  return fl_arrived_add(run->station[0].mix, &s->about, s->body, true, run->fleet->aligned);
}

/* The sum of a worker, all of whose stretches have passed `mix`. */
static fl_status take(void *of, const fl_upload *upload, fl_cause *cause) {
  fedlane_run *run = of;
  int64_t weight = (int64_t)upload->about.weight;
  FL_TRY(fl_ties_take(run->fleet->ties, upload, weight, cause));
  if (*cause != FL_CAUSE_none) return FEDLANE_OK;
  for (int i = 0; i < upload->n_stretch; i++)
    if (upload->stretch[i].about.payload == FL_PAYLOAD_F32)
      FL_TRY(keep_own(run, &upload->stretch[i].about, upload->stretch[i].body));
  for (int u = 0; u < run->algorithm->n_update; u++) fl_mix_weigh(&run->station[0].mix[u], weight);
  for (int i = 0; i < upload->n_report; i++) keep_report(run, &upload->report[i]);
  return FEDLANE_OK;
}

static bool offered(void *of, uint64_t session, const fl_offer *offer, unsigned char *id) {
  return fl_ties_offered(((fedlane_run *)of)->fleet->ties, session, offer, id);
}

static const char *unfit(void *of, uint64_t session) {
  return fl_ties_unfit(((fedlane_run *)of)->fleet->ties, session);
}

static bool send_vector(void *of, uint64_t session, uint64_t vector) {
  return fl_ties_send(((fedlane_run *)of)->fleet->ties, session, vector);
}

static void gone(void *of, uint64_t session) {
  fl_ties_gone(((fedlane_run *)of)->fleet->ties, session);
}

static fl_status take_client(void *of, const fl_upload *upload, fl_cause *cause) {
  fedlane_run *run = of;
  return fl_clients_take(run, run->fleet->clients, upload, cause);
}

/* A line a tensor: name, first element, dimensions. */
static fl_status write_layout(const fl_model *model, char **out) {
  size_t size = 0;
  FILE *file = open_memstream(out, &size);
  if (!file) return fl_fail(FEDLANE_MEMORY, "no memory for the layout of the model");
  for (int i = 0; i < fl_model_about(model)->n_tensor; i++) {
    const fl_tensor *t = fl_model_tensor(model, i);
    fprintf(file, "%s %lld", t->name, (long long)t->at);
    for (int k = 0; k < t->n_dim; k++) fprintf(file, " %lld", (long long)t->dim[k]);
    fputc('\n', file);
  }
  if (fclose(file) == 0) return FEDLANE_OK;
  return fl_fail(FEDLANE_MEMORY, "no memory for the layout of the model");
}

fl_status fl_serving_open(fedlane_run *run) {
  const fl_fleet_args *c = &run->config->fleet;
  fl_serving *s = calloc(1, sizeof *s);
  if (!s) return fl_fail(FEDLANE_MEMORY, "no memory for a fleet");
  run->fleet = s;
  if (c->clients == FL_CLIENTS_REAL) FL_TRY(fl_clients_open(run, &s->clients));
  FL_TRY(fl_ties_open(run, &s->ties));
  FL_TRY(write_layout(run->model, &s->layout));
  s->vector = calloc((size_t)run->server.P, sizeof *s->vector);
  s->cost = calloc((size_t)run->cohort.capacity, sizeof *s->cost);
  s->aligned = malloc(FL_CHUNK_BYTES);
  if (!s->vector || !s->cost || !s->aligned)
    return fl_fail(FEDLANE_MEMORY, "no memory for a fleet");
  fl_port_options port = {.security = {.own = c->key, .allow = c->allow, .insecure = c->insecure},
                          .patience = c->patience};
  fl_fleet_about about = {.config = run->config->resolved,
                          .digest = run->config->digest,
                          .layout = s->layout,
                          .elements = (uint64_t)run->server.P,
                          .vectors = (uint64_t)run->algorithm->n_broadcast + 1,
                          .updates = (uint64_t)run->algorithm->n_update,
                          .own = (uint64_t)run->algorithm->n_client_slot,
                          .people = s->clients ? 0 : fl_run_people(run),
                          .clients = s->clients != NULL};
  fl_fleet_limits limits = {.memory = c->memory << 20, .peers = (int)c->most, .rate = c->rate};
  fl_fleet_host host = {.of = run,
                        .vector = vector_of,
                        .check = s->clients ? NULL : check,
                        .mix = s->clients ? NULL : mix,
                        .unmix = s->clients ? NULL : unmix,
                        .take = s->clients ? take_client : take,
                        .offered = offered,
                        .unfit = unfit,
                        .send = s->clients ? NULL : send_vector,
                        .gone = gone};
  return fl_fleet_open(c->listen, &port, &about, &limits, &host, &s->fleet);
}

void fl_serving_close(fedlane_run *run, bool done) {
  fl_serving *s = run->fleet;
  if (!s) return;
  fl_fleet_close(&s->fleet, done ? FL_BYE_DONE : FL_BYE_REJOIN,
                 done ? "the run is complete" : "the coordinator stops");
  fl_clients_close(&s->clients);
  fl_ties_close(&s->ties);
  free(s->layout);
  free(s->vector);
  free(s->cost);
  free(s->aligned);
  free(s);
  run->fleet = NULL;
}

const char *fl_serving_address(const fl_serving *s) { return fl_fleet_address(s->fleet); }

void fl_serving_say(const fl_serving *s, char *text, size_t size) {
  fl_ties_say(s->ties, text, size);
}

fl_status fl_serving_wait(fedlane_run *run) {
  bool complete = run->round >= run->config->train.rounds;
  if (complete) return fl_fleet_answer(run->fleet->fleet, 3, &run->stop);
  return fl_fleet_wait(run->fleet->fleet, (int)run->config->fleet.peers, &run->stop);
}

fl_status fl_serving_draw(fedlane_run *run) {
  fl_serving *s = run->fleet;
  return s->clients ? fl_clients_draw(run, s->fleet, s->clients) : fl_cohort_draw(run);
}

bool fl_serving_collect(const fedlane_run *run, fedlane_metrics *m) {
  const fl_clients *clients = run->fleet->clients;
  if (clients) fl_clients_collect(run, clients, m);
  return clients != NULL;
}

static void tell(fl_serving *s, fedlane_metrics *m) {
  fl_fleet_tally tally;
  int n = 0;
  fl_fleet_tell(s->fleet, &tally);
  m->bytes_up = tally.bytes_up;
  m->bytes_down = tally.bytes_down;
  for (int i = 1; i < FL_CAUSES && n < FEDLANE_CAUSES_MAX; i++)
    if (tally.cause[i] > 0)
      m->left_out[n++] = (fedlane_cause){fl_cause_name((fl_cause)i), tally.cause[i]};
}

fl_status fl_serving_train(fedlane_run *run, fedlane_metrics *m) {
  const fl_train_args *t = &run->config->train;
  const fl_fleet_args *c = &run->config->fleet;
  fl_serving *s = run->fleet;
  fl_cohort *cohort = &run->cohort;
  for (int32_t i = 0; i < cohort->n; i++) s->cost[i] = cohort->order[i].work;
  fl_fleet_job job = {.work = {.round = (uint64_t)run->round + 1,
                               .bits = (uint64_t)run->station[0].mix[0].bits,
                               .epochs = (uint64_t)run->schedule.epochs,
                               .batch = run->schedule.whole ? 0 : (uint64_t)t->batch,
                               .lr = t->lr * pow(t->lr_decay, run->round),
                               .deadline = c->deadline},
                      .n = (uint64_t)cohort->n,
                      .cost = s->cost,
                      .who = s->clients ? s->clients->who : NULL,
                      .quorum = c->quorum,
                      .stop = &run->stop};
  FL_TRY(fl_fleet_train(s->fleet, &job));
  tell(s, m);
  return FEDLANE_OK;
}
