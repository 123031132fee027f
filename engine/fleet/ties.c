#include "fleet/ties.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fleet/tied.h"

_Static_assert((int)FL_TIE_ID == (int)FL_TIE_BYTES, "an id fits into its message");

enum { WHY = 256, SCRATCH = FL_UPDATES * FL_MIX_LEVELS };

/* A worker that has offered something. */
typedef struct offer {
  uint64_t session;
  fl_tied tied;
  char why[WHY]; /* why it has no tie; "": it has, or had one */
} offer;

struct fl_ties {
  fedlane_run *run;
  const fl_tie_ops *ops; /* NULL: there are no ties */
  char why[WHY];         /* why not */
  int version;
  offer *worker;
  int n, room;
  int64_t *scratch[SCRATCH]; /* (device) [P] sums on their way; NULL until first needed */
  double until;              /* when a move is given up */
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Why there can be no ties, whoever comes; NULL: there can. */
static const char *obstacle(fl_ties *t) {
  const fl_fleet_args *c = &t->run->config->fleet;
  const fl_ops *ops = t->run->devices.ops;
  const char *why = NULL;
  if (c->sums == FL_SUMS_ZEROMQ) return "fleet.sums is zeromq";
  if (c->clients == FL_CLIENTS_REAL) return "real clients send their updates by ZeroMQ";
  if (!ops->tie) return "the coordinator's device is no NVIDIA GPU";
  t->version = ops->tie->version(&why);
  if (t->version == 0) return why;
  if (c->sums == FL_SUMS_AUTO && c->key[0])
    return "there are keys, and NCCL encrypts nothing; fleet.sums=nccl uses it all the same";
  return NULL;
}

fl_status fl_ties_open(fedlane_run *run, fl_ties **out) {
  fl_ties *t = calloc(1, sizeof *t);
  if (!t) return fl_fail(FEDLANE_MEMORY, "no memory for a fleet");
  t->run = run;
  const char *why = obstacle(t);
  snprintf(t->why, sizeof t->why, "%s", why ? why : "no worker has offered it");
  if (!why) t->ops = run->devices.ops->tie;
  *out = t;
  if (!why || run->config->fleet.sums != FL_SUMS_NCCL) return FEDLANE_OK;
  return fl_fail(FEDLANE_USAGE, "fleet.sums is nccl, but %s", why);
}

void fl_ties_close(fl_ties **ties) {
  fl_ties *t = *ties;
  if (!t) return;
  for (int i = 0; i < t->n; i++) fl_tied_close(&t->worker[i].tied);
  for (int i = 0; i < SCRATCH; i++) {
    void *at = t->scratch[i];
    if (at) t->run->server.ops->release(t->run->server.dev, &at);
  }
  free(t->worker);
  free(t);
  *ties = NULL;
}

static offer *worker_of(fl_ties *t, uint64_t session) {
  for (int i = 0; i < t->n; i++)
    if (t->worker[i].session == session) return &t->worker[i];
  return NULL;
}

static offer *new_worker(fl_ties *t, uint64_t session) {
  if (t->n == t->room) {
    int room = t->room ? 2 * t->room : 16;
    offer *larger = realloc(t->worker, (size_t)room * sizeof *larger);
    if (!larger) return NULL;
    t->worker = larger;
    t->room = room;
  }
  t->worker[t->n] = (offer){.session = session, .tied.ops = t->ops};
  return &t->worker[t->n++];
}

/* Why an offer is not accepted: "" when it is. */
static void judge(const fl_ties *t, const fl_offer *o, char why[WHY]) {
  why[0] = '\0';
  if (o->version == 0)
    snprintf(why, WHY, "this worker cannot use NCCL: %.*s", (int)(o->why.n < 200 ? o->why.n : 200),
             (const char *)o->why.at);
  else if (o->version != (uint64_t)t->version)
    snprintf(why, WHY, "this worker has version %llu of NCCL and the coordinator %d",
             (unsigned long long)o->version, t->version);
}

bool fl_ties_offered(fl_ties *t, uint64_t session, const fl_offer *o, unsigned char *id) {
  if (!t->ops) return false;
  offer *w = worker_of(t, session);
  if (!w) w = new_worker(t, session);
  if (!w) return false;
  fl_tied_close(&w->tied);
  judge(t, o, w->why);
  if (w->why[0]) return false;
  if (t->ops->make(id) == FEDLANE_OK &&
      fl_tied_open(&w->tied, t->run->server.dev, id, 0) == FEDLANE_OK)
    return true;
  snprintf(w->why, sizeof w->why, "%s", fedlane_error());
  return false;
}

const char *fl_ties_unfit(fl_ties *t, uint64_t session) {
  if (t->run->config->fleet.sums != FL_SUMS_NCCL) return NULL;
  const offer *w = worker_of(t, session);
  if (!w) return "fleet.sums is nccl, and this peer has not offered to use NCCL";
  return w->why[0] ? w->why : NULL;
}

void fl_ties_gone(fl_ties *t, uint64_t session) {
  offer *w = worker_of(t, session);
  if (!w) return;
  fl_tied_close(&w->tied);
  *w = t->worker[--t->n];
}

static bool too_late(void *of) {
  const fl_ties *t = of;
  return now() > t->until || t->run->stop;
}

static bool move(fl_ties *t, uint64_t session, bool send, void *at, int64_t bytes) {
  offer *w = worker_of(t, session);
  t->until = now() + t->run->config->fleet.patience;
  return w && fl_tied_move(&w->tied, send, at, bytes, too_late, t);
}

bool fl_ties_send(fl_ties *t, uint64_t session, uint64_t vector) {
  const fl_server *s = &t->run->server;
  return move(t, session, true, vector ? s->slot[vector - 1] : s->w, 4 * s->P);
}

/* Whether the sums of an upload over the tie are named as they should be, each once. */
static bool named(const fl_ties *t, const fl_upload *u) {
  bool seen[FL_UPDATES * FL_STREAM_LEVELS] = {false};
  uint32_t end = FL_STREAM_LEVELS * (uint32_t)t->run->algorithm->n_update;
  for (int i = 0; i < u->n_tied; i++) {
    uint32_t stream = u->tied[i];
    if (stream >= end || stream % FL_STREAM_LEVELS >= FL_MIX_LEVELS || seen[stream]) return false;
    seen[stream] = true;
  }
  for (int i = 0; i < u->n_stretch; i++)
    if (u->stretch[i].about.stream < end && seen[u->stretch[i].about.stream]) return false;
  return true;
}

static bool receive(fl_ties *t, const fl_upload *u) {
  const fl_server *s = &t->run->server;
  int64_t bytes = s->P * (int64_t)sizeof(int64_t);
  for (int i = 0; i < u->n_tied; i++) {
    void *at = t->scratch[i];
    if (!at && s->ops->alloc(s->dev, bytes, &at) != FEDLANE_OK) return false;
    t->scratch[i] = at;
    if (!move(t, u->session, false, at, bytes)) return false;
  }
  return true;
}

/* Whether received sums can be those of clients of this weight, by way of the mean's memory, which
 * nobody needs before the round's end. */
static fl_status check(fl_ties *t, uint32_t stream, const int64_t *sum, int64_t weight,
                       bool *fits) {
  fedlane_run *run = t->run;
  const fl_server *s = &run->server;
  double unit = fl_mix_unit(&run->station[0].mix[stream / FL_STREAM_LEVELS], weight);
  float *share = run->mean[stream / FL_STREAM_LEVELS];
  fl_measure m;
  FL_TRY(s->ops->unmix(s->dev, s->P, 1, &sum, &unit, share));
  FL_TRY(s->ops->measure(s->dev, 1, s->P, (fl_cspan){share, 0}, run->health));
  FL_TRY(s->ops->download(s->dev, &m, run->health, sizeof m));
  FL_TRY(s->ops->sync(s->dev));
  *fits = m.peak <= 1;
  return FEDLANE_OK;
}

fl_status fl_ties_take(fl_ties *t, const fl_upload *u, int64_t weight, fl_cause *cause) {
  bool fits = true;
  if (u->n_tied == 0) return FEDLANE_OK;
  if (weight <= 0 || !named(t, u)) {
    fl_ties_gone(t, u->session); /* it would go on sending */
    *cause = FL_CAUSE_shape;
    return FEDLANE_OK;
  }
  if (!receive(t, u)) {
    offer *w = worker_of(t, u->session);
    if (w) fl_tied_close(&w->tied);
    *cause = FL_CAUSE_tie;
    return FEDLANE_OK;
  }
  for (int i = 0; i < u->n_tied && fits; i++)
    FL_TRY(check(t, u->tied[i], t->scratch[i], weight, &fits));
  if (!fits) *cause = FL_CAUSE_oversized;
  for (int i = 0; i < u->n_tied && fits; i++)
    FL_TRY(fl_mix_add_whole(&t->run->station[0].mix[u->tied[i] / FL_STREAM_LEVELS],
                            (int)(u->tied[i] % FL_STREAM_LEVELS), t->scratch[i]));
  return FEDLANE_OK;
}

void fl_ties_say(const fl_ties *t, char *text, size_t size) {
  int tied = 0;
  const char *why = t->why;
  for (int i = 0; i < t->n; i++) {
    if (t->worker[i].tied.tie) tied++;
    if (t->worker[i].why[0]) why = t->worker[i].why;
  }
  if (tied)
    snprintf(text, size,
             "weights and sums travel by NCCL as far as it reaches; workers that have it: %d",
             tied);
  else
    snprintf(text, size, "weights and sums travel by ZeroMQ: %s", why);
}
