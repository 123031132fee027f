#include "fleet/clients.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t most_steps = UINT64_C(1) << 40;

static fl_status check(const fedlane_run *run) {
  const fl_config *c = run->config;
  const fl_sampler *sampler = (const fl_sampler *)c->sampler.record;
  if (run->algorithm->n_client_slot > 0 || run->algorithm->n_update > 1)
    return fl_fail(FEDLANE_USAGE,
                   "%s has clients keep or send more than one vector, which real clients do not; "
                   "with fleet.clients: real choose another algorithm, such as fedavg",
                   run->algorithm->record.name);
  if (sampler->repeats(c->sampler.args))
    return fl_fail(FEDLANE_USAGE,
                   "a real client trains once a round; set sampler.replacement to false");
  if (run->weighting == FL_BY_EXAMPLES && c->train.cohort > FL_CLIENT_COHORT)
    return fl_fail(FEDLANE_USAGE,
                   "train.cohort is %lld; of real clients that count by their examples it can be "
                   "at most %d (server.weighting: uniform has no such bound)",
                   (long long)c->train.cohort, FL_CLIENT_COHORT);
  return FEDLANE_OK;
}

fl_status fl_clients_open(const fedlane_run *run, fl_clients **out) {
  size_t n = (size_t)run->cohort.capacity;
  FL_TRY(check(run));
  fl_clients *k = *out = calloc(1, sizeof *k);
  if (!k) return fl_fail(FEDLANE_MEMORY, "no memory for clients");
  k->who = calloc(n, sizeof *k->who);
  k->examples = calloc(n, sizeof *k->examples);
  k->steps = calloc(n, sizeof *k->steps);
  k->update = calloc((size_t)run->server.P, sizeof *k->update);
  if (k->who && k->examples && k->steps && k->update) return FEDLANE_OK;
  return fl_fail(FEDLANE_MEMORY, "no memory for %zu clients", n);
}

void fl_clients_close(fl_clients **clients) {
  fl_clients *k = *clients;
  if (!k) return;
  free(k->ready);
  free(k->who);
  free(k->examples);
  free(k->steps);
  free(k->update);
  free(k);
  *clients = NULL;
}

static fl_status list_ready(fl_fleet *fleet, fl_clients *k, int *n) {
  while ((*n = fl_fleet_clients(fleet, k->room, k->ready)) > k->room) {
    uint64_t *larger = realloc(k->ready, 2 * (size_t)*n * sizeof *larger);
    if (!larger) return fl_fail(FEDLANE_MEMORY, "no memory for %d clients", *n);
    k->ready = larger;
    k->room = 2 * *n;
  }
  return FEDLANE_OK;
}

fl_status fl_clients_draw(fedlane_run *run, fl_fleet *fleet, fl_clients *k) {
  const fl_sampler *sampler = (const fl_sampler *)run->config->sampler.record;
  fl_cohort *c = &run->cohort;
  int ready = 0, wanted = (int)run->config->fleet.peers;
  while (ready < wanted) {
    FL_TRY(fl_fleet_wait(fleet, wanted, &run->stop));
    FL_TRY(list_ready(fleet, k, &ready));
  }
  c->n = ready < c->capacity ? ready : c->capacity;
  c->weight = (int64_t)c->n * (run->weighting == FL_UNIFORM ? 1 : FL_CLIENT_EXAMPLES);
  memset(c->accepted, 0, (size_t)c->capacity * sizeof *c->accepted);
  FL_TRY(sampler->draw(run->config->sampler.args, (uint32_t)run->config->general.seed,
                       (uint32_t)run->round + 1, ready, c->n, c->drawn));
  for (int32_t i = 0; i < c->n; i++) {
    c->order[i] = (fl_drawn){.client = (uint32_t)c->drawn[i], .rank = i, .work = 1};
    k->who[i] = k->ready[c->drawn[i]];
  }
  return FEDLANE_OK;
}

/* Answers that an example asks for. */
static int64_t answers_each(const fedlane_run *run) {
  return run->data.n_label > 1 ? run->data.n_label : 1;
}

/* One vector, and numbers that can be. */
static bool fits(const fedlane_run *run, const fl_upload *u) {
  const fl_update *about = &u->about;
  uint32_t stream = 0;
  if (about->streams.n != sizeof stream || u->n_report != 1 || u->report->count != 1) return false;
  memcpy(&stream, about->streams.at, sizeof stream);
  if (stream != FL_STREAM_UPDATE) return false;
  if (about->examples < 1 || about->examples > FL_CLIENT_EXAMPLES) return false;
  uint64_t answers = about->examples * (uint64_t)run->schedule.epochs * (uint64_t)answers_each(run);
  return about->hits <= answers && about->steps <= most_steps;
}

/* Why a chunk could not be read. x: what there is of it. */
static fl_cause unreadable(const fl_stretch *s, const float *x) {
  size_t bytes = fl_blob_size(s->body);
  size_t whole = fl_payload_bytes((fl_payload)s->about.payload, s->about.count);
  if (s->about.payload != FL_PAYLOAD_SPARSE)
    return bytes == whole && s->about.payload < FL_PAYLOAD_SUM ? FL_CAUSE_nonfinite
                                                               : FL_CAUSE_shape;
  for (uint64_t i = 0; i < s->about.count && bytes <= whole; i++)
    if (!isfinite(x[i])) return FL_CAUSE_nonfinite;
  return FL_CAUSE_shape;
}

/* The chunks as one vector. */
static fl_cause read_update(fl_clients *k, const fl_upload *u) {
  for (int i = 0; i < u->n_stretch; i++) {
    const fl_stretch *s = &u->stretch[i];
    float *x = k->update + s->about.offset;
    if (fl_payload_read((fl_payload)s->about.payload, s->about.count, fl_blob_at(s->body),
                        fl_blob_size(s->body), x) != FEDLANE_OK)
      return unreadable(s, x);
  }
  return FL_CAUSE_none;
}

/* What lies between tensors is nobody's, and stays 0. */
static void clear_gaps(const fedlane_run *run, float *x) {
  int64_t end = 0;
  for (int i = 0; i < fl_model_about(run->model)->n_tensor; i++) {
    const fl_tensor *t = fl_model_tensor(run->model, i);
    if (t->at > end) memset(x + end, 0, (size_t)(t->at - end) * sizeof *x);
    end = t->at + t->count;
  }
  memset(x + end, 0, (size_t)(run->server.P - end) * sizeof *x);
}

fl_status fl_clients_take(fedlane_run *run, fl_clients *k, const fl_upload *u, fl_cause *cause) {
  fl_cohort *c = &run->cohort;
  bool good = true;
  *cause = fits(run, u) ? read_update(k, u) : FL_CAUSE_shape;
  if (*cause == FL_CAUSE_none && !u->report->good[0]) *cause = FL_CAUSE_nonfinite;
  if (*cause != FL_CAUSE_none) return FEDLANE_OK;
  uint64_t unit = u->report->first;
  int32_t weight = run->weighting == FL_UNIFORM ? 1 : (int32_t)u->about.examples;
  clear_gaps(run, k->update);
  FL_TRY(fl_update_receive(run, run->station, c->order[unit].client, weight, k->update, &good));
  if (!good) *cause = FL_CAUSE_nonfinite;
  c->accepted[unit] = good;
  c->loss[unit] = u->about.loss;
  c->hit[unit] = (int64_t)u->about.hits;
  k->examples[unit] = (int64_t)u->about.examples;
  k->steps[unit] = (int64_t)u->about.steps;
  return FEDLANE_OK;
}

void fl_clients_collect(const fedlane_run *run, const fl_clients *k, fedlane_metrics *m) {
  const fl_cohort *c = &run->cohort;
  int64_t hits = 0;
  m->train_loss = 0;
  for (int32_t i = 0; i < c->n; i++) {
    m->clients += c->accepted[i];
    m->dropped += !c->accepted[i];
    if (!c->accepted[i]) continue;
    m->examples += k->examples[i] * run->schedule.epochs;
    m->steps += k->steps[i];
    m->train_loss += c->loss[i];
    hits += c->hit[i];
  }
  double answers = (double)(m->examples * answers_each(run));
  m->train_loss /= answers;
  m->train_accuracy = run->data.classes ? (double)hits / answers : NAN;
}
