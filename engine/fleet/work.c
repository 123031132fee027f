#include "fleet/work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fleet/serve.h"
#include "fleet/work_tie.h"

/* A block that is in the sums: places of the cohort. */
typedef struct trained {
  uint32_t block;
  int32_t first, n;
} trained;

typedef struct worker {
  const fl_work_options *options;
  fl_session *session;
  fedlane_run *run;
  char *config;   /* that the run was opened from, as the coordinator wrote it */
  uint64_t round; /* whose model the run has, and whose sums are in its stations; 0: none */
  trained *block; /* since the last upload */
  int n_block, room;
  int64_t weight;
  uint64_t upload; /* sent, and not known to be received; 0: none */
  fl_work_tie tie;
  bool by_nccl; /* people have been told that it is of use */
  void *host;   /* [8 P] scratch; NULL where the device's memory is the host's */
} worker;

static void say(const worker *k, const char *what, const char *name) {
  char text[512];
  if (!k->options->tell) return;
  snprintf(text, sizeof text, "%s%s", what, name);
  k->options->tell(k->options->of, text);
}

static bool names_path(const char *override) { return strncmp(override, "data.path=", 10) == 0; }

/* What may not differ is what the digest is of, apart from where the data are. */
static fl_status check_overrides(const worker *k, const fl_welcome *w) {
  const fl_work_options *o = k->options;
  const char **kept = calloc((size_t)o->n_override + 1, sizeof *kept);
  fl_config *config = NULL;
  fl_status status = FEDLANE_OK;
  int n = 0;
  if (!kept) return fl_fail(FEDLANE_MEMORY, "no memory for a configuration");
  for (int i = 0; i < o->n_override; i++)
    if (!names_path(o->override[i])) kept[n++] = o->override[i];
  FL_GO(fl_config_parse("the coordinator's configuration", w->config.at, n, kept, &config));
  if (w->digest.n != strlen(config->digest) ||
      memcmp(w->digest.at, config->digest, w->digest.n) != 0)
    status = fl_fail(FEDLANE_USAGE,
                     n ? "what is given on the command line changes what is trained; a worker may "
                         "choose data.path, device, threads and width"
                       : "this version of fedlane reads the coordinator's configuration in another "
                         "way; both sides need the same version");
done:
  fl_config_close(&config);
  free(kept);
  return status;
}

static void close_run(worker *k) {
  fl_work_tie_end(&k->tie);
  fedlane_close(&k->run);
  free(k->config);
  free(k->host);
  k->config = NULL;
  k->host = NULL;
  k->round = 0;
  k->n_block = 0;
}

static fl_status open_run(worker *k, const fl_welcome *w) {
  static const char *const own[] = {"output=", "device=auto", "threads=0", "width=0"};
  const fl_work_options *o = k->options;
  int n = FL_COUNT(own) + o->n_override;
  const char **override = calloc((size_t)n, sizeof *override);
  fl_config *config = NULL;
  fl_status status;
  if (!override) return fl_fail(FEDLANE_MEMORY, "no memory for a configuration");
  memcpy(override, own, sizeof own);
  for (int i = 0; i < o->n_override; i++) override[FL_COUNT(own) + i] = o->override[i];
  FL_GO(check_overrides(k, w));
  FL_GO(fl_config_parse("the coordinator's configuration", w->config.at, n, override, &config));
  FL_GO(fl_run_open(&config, 0, &k->run));
  if ((uint64_t)k->run->server.P != w->elements) {
    status = fl_fail(FEDLANE_USAGE, "the model has %lld elements here and %llu at the coordinator",
                     (long long)k->run->server.P, (unsigned long long)w->elements);
    goto done;
  }
  k->config = strdup(w->config.at);
  bool far = !k->run->server.ops->host;
  if (far) k->host = malloc((size_t)k->run->server.P * sizeof(int64_t));
  if (!k->config || (far && !k->host)) status = fl_fail(FEDLANE_MEMORY, "no memory for a worker");
done:
  fl_config_close(&config);
  free(override);
  return status;
}

/* Joins, and opens the run unless it is the one that is open. */
static fl_status join(worker *k, bool *done) {
  const fl_welcome *w = NULL;
  FL_TRY(fl_session_join(k->session, 0, &w));
  *done = w == NULL;
  k->round = 0;
  k->n_block = 0;
  if (*done) return FEDLANE_OK;
  if (k->run && strcmp(k->config, w->config.at) != 0) close_run(k);
  if (!k->run) FL_TRY(open_run(k, w));
  say(k, "joined ", k->options->address);
  FL_TRY(fl_work_tie_begin(&k->tie, k->session, k->run, w->patience));
  int together = k->run->plan.together > 0 ? k->run->plan.together : 1;
  return fl_session_ready(k->session, (uint64_t)(together * k->run->n_station),
                          fl_run_people(k->run), 2);
}

/* A vector of the round's version becomes the server's on this side. */
static fl_status fetch(worker *k, uint64_t round, int i, bool *got) {
  const fl_server *s = &k->run->server;
  float *at = i ? s->slot[i - 1] : s->w;
  if (fl_work_tie_fetch(&k->tie, round, (uint64_t)i, at, s->P)) return FEDLANE_OK;
  FL_TRY(fl_session_fetch(k->session, round, (uint64_t)i, k->host ? k->host : at, got));
  if (!*got || !k->host) return FEDLANE_OK;
  FL_TRY(s->ops->upload(s->dev, at, k->host, 4 * s->P));
  return s->ops->sync(s->dev);
}

static void tell_way(worker *k) {
  bool by_nccl = k->tie.used && fl_work_tie_holds(&k->tie);
  if (by_nccl != k->by_nccl)
    say(k, "weights and sums travel by ", by_nccl ? "NCCL" : "ZeroMQ: NCCL has failed");
  k->by_nccl = by_nccl;
}

/* Sums of blocks that are not trained yet. */
static fl_status begin_sums(worker *k) {
  k->n_block = 0;
  k->weight = 0;
  k->upload = 0;
  return fl_stations_begin(k->run);
}

/* The round's model becomes the run's, and its cohort is drawn. *got: false when it is over. */
static fl_status begin_round(worker *k, uint64_t round, bool *got) {
  fedlane_run *run = k->run;
  *got = true;
  k->round = 0;
  fl_work_tie_open(&k->tie);
  for (int i = 0; i <= run->algorithm->n_broadcast && *got; i++) FL_TRY(fetch(k, round, i, got));
  if (!*got) return FEDLANE_OK;
  tell_way(k);
  run->round = (int)round - 1;
  run->server.round = (int)round;
  FL_TRY(fl_cohort_draw(run));
  FL_TRY(begin_sums(k));
  k->round = round;
  return FEDLANE_OK;
}

/* Brings what the clients of a block keep up to date. */
static fl_status fetch_own(worker *k, const fl_work *w, bool *got) {
  fedlane_run *run = k->run;
  uint64_t own = (uint64_t)run->algorithm->n_client_slot, n = own * w->count;
  uint64_t model = (uint64_t)run->algorithm->n_broadcast + 1;
  if (n == 0) return FEDLANE_OK;
  float **at = malloc((size_t)n * sizeof *at);
  fl_status status;
  if (!at) return fl_fail(FEDLANE_MEMORY, "no memory for a block of clients");
  for (uint64_t i = 0; i < n; i++) {
    uint32_t client = run->cohort.order[w->first + i / own].client;
    at[i] = run->store.at + client * run->store.floats + (int64_t)(i % own) * run->server.P;
    FL_GO(fl_store_touch(&run->store, client));
  }
  FL_GO(fl_session_fetch_all(k->session, w->round, model + w->first * own, n, at, got));
done:
  free(at);
  return status;
}

static fl_status report(worker *k, const fl_work *w) {
  const fl_cohort *c = &k->run->cohort;
  size_t n = (size_t)w->count;
  double *loss = malloc(n * sizeof *loss);
  int64_t *hit = malloc(n * sizeof *hit);
  uint8_t *good = malloc(n);
  fl_status status;
  if (!loss || !hit || !good) {
    status = fl_fail(FEDLANE_MEMORY, "no memory for a report on %zu clients", n);
    goto done;
  }
  for (size_t i = 0; i < n; i++) {
    const fl_drawn *one = &c->order[w->first + i];
    good[i] = c->accepted[one->rank];
    loss[i] = good[i] ? c->loss[one->rank] : 0;
    hit[i] = good[i] ? c->hit[one->rank] : 0;
    if (good[i]) k->weight += fl_run_weight(k->run, one->client);
  }
  fl_message m = {.kind = FL_MESSAGE_trained,
                  .trained = {.round = w->round,
                              .block = w->block,
                              .loss = {loss, n * sizeof *loss},
                              .hit = {hit, n * sizeof *hit},
                              .good = {good, n}}};
  status = fl_session_say(k->session, &m);
done:
  free(loss);
  free(hit);
  free(good);
  return status;
}

static fl_status remember(worker *k, const fl_work *w) {
  if (k->n_block == k->room) {
    int room = k->room ? 2 * k->room : 64;
    trained *larger = realloc(k->block, (size_t)room * sizeof *larger);
    if (!larger) return fl_fail(FEDLANE_MEMORY, "no memory for %d blocks", room);
    k->block = larger;
    k->room = room;
  }
  k->block[k->n_block++] = (trained){(uint32_t)w->block, (int32_t)w->first, (int32_t)w->count};
  return FEDLANE_OK;
}

static fl_status work(worker *k, const fl_work *w) {
  fedlane_run *run = k->run;
  bool got = true;
  if (k->round != w->round) FL_TRY(begin_round(k, w->round, &got));
  if (got && (w->first + w->count > (uint64_t)run->cohort.n ||
              w->bits != (uint64_t)run->station[0].mix[0].bits))
    return fl_fail(FEDLANE_USAGE,
                   "the coordinator has drawn another cohort: versions of fedlane "
                   "or data differ");
  if (got) FL_TRY(fetch_own(k, w, &got));
  if (!got) return FEDLANE_OK;
  fl_cohort_seat(&run->cohort, (int32_t)w->first, (int32_t)w->count);
  FL_TRY(fl_stations_do(run, fl_lanes_work));
  FL_TRY(remember(k, w));
  return report(k, w);
}

/* What an upload is made of, as lists of numbers: first what comes in chunks. */
typedef struct parts {
  uint32_t *block, *stream;
  size_t n_stream;
} parts;

static void list_own(const worker *k, parts *p) {
  size_t own = (size_t)k->run->algorithm->n_client_slot;
  for (int i = 0; i < k->n_block; i++) {
    p->block[i] = k->block[i].block;
    for (size_t j = 0; j < own * (size_t)k->block[i].n; j++)
      p->stream[p->n_stream++] = (uint32_t)(FL_STREAM_OWN + (size_t)k->block[i].first * own + j);
  }
}

static void list_sums(const worker *k, parts *p) {
  uint32_t how = fl_work_tie_holds(&k->tie) ? FL_TIED : 0;
  for (int u = 0; u < k->run->algorithm->n_update; u++)
    for (int level = 0; level < FL_MIX_LEVELS; level++)
      if (fl_mix_level(&k->run->station[0].mix[u], level))
        p->stream[p->n_stream++] = how | (uint32_t)(64 * u + level);
}

static fl_status list_parts(const worker *k, parts *p) {
  size_t own = (size_t)k->run->algorithm->n_client_slot, kept = 0;
  for (int i = 0; i < k->n_block; i++) kept += own * (size_t)k->block[i].n;
  p->block = malloc(((size_t)k->n_block + 1) * sizeof *p->block);
  p->stream = malloc((FL_UPDATES * FL_MIX_LEVELS + kept + 1) * sizeof *p->stream);
  if (!p->block || !p->stream) return fl_fail(FEDLANE_MEMORY, "no memory for an upload");
  list_own(k, p);
  list_sums(k, p);
  return FEDLANE_OK;
}

static fl_status send_stream(worker *k, fl_update *about, uint32_t stream, bool *sent) {
  fedlane_run *run = k->run;
  const fl_ops *ops = run->server.ops;
  if (!(stream & FL_TIED) && stream >= FL_STREAM_OWN) {
    uint32_t own = (uint32_t)run->algorithm->n_client_slot, i = stream - FL_STREAM_OWN;
    uint32_t client = run->cohort.order[i / own].client;
    about->payload = FL_PAYLOAD_F32;
    return fl_session_stream(k->session, about, stream,
                             run->store.at + client * run->store.floats + (i % own) * run->server.P,
                             sent);
  }
  uint32_t of = stream & ~FL_TIED;
  const int64_t *sum = fl_mix_level(&run->station[0].mix[of / 64], (int)(of % 64));
  about->payload = FL_PAYLOAD_SUM;
  if (stream & FL_TIED) {
    *sent = fl_work_tie_send(&k->tie, sum, run->server.P);
    return FEDLANE_OK;
  }
  if (k->host) {
    FL_TRY(ops->download(run->server.dev, k->host, sum, 8 * run->server.P));
    FL_TRY(ops->sync(run->server.dev));
    sum = k->host;
  }
  return fl_session_stream(k->session, about, stream, sum, sent);
}

/* Sends the sums of all blocks trained since the last upload. They are kept until the coordinator
 * says that it has received them: it may ask for them once more. */
static fl_status upload(worker *k, const fl_collect *c) {
  fedlane_run *run = k->run;
  parts p = {0};
  fl_status status = FEDLANE_OK;
  bool sent = true;
  if (c->round != k->round) return FEDLANE_OK;
  for (int u = 0; u < run->algorithm->n_update; u++) {
    fl_mix *mix[FL_DEVICES_MAX];
    for (int i = 0; i < run->n_station; i++) mix[i] = &run->station[i].mix[u];
    FL_TRY(fl_mix_join(run->n_station, mix));
  }
  FL_GO(list_parts(k, &p));
  fl_update about = {.round = c->round,
                     .upload = c->upload,
                     .payload = FL_PAYLOAD_SUM,
                     .blocks = {p.block, (size_t)k->n_block * sizeof *p.block},
                     .streams = {p.stream, p.n_stream * sizeof *p.stream},
                     .weight = (uint64_t)k->weight};
  k->upload = c->upload;
  FL_GO(fl_session_begin(k->session, &about));
  for (size_t i = 0; i < p.n_stream && sent; i++) FL_GO(send_stream(k, &about, p.stream[i], &sent));
done:
  free(p.block);
  free(p.stream);
  return status;
}

static fl_status act(worker *k, const fl_event *event, bool *done) {
  switch (event->kind) {
    case FL_EVENT_WORK:
      return work(k, &event->work);
    case FL_EVENT_COLLECT:
      return upload(k, &event->collect);
    case FL_EVENT_RECEIVED:
      return event->received.upload == k->upload ? begin_sums(k) : FEDLANE_OK;
    case FL_EVENT_ACCEPT:
      fl_work_tie_accepted(&k->tie, event->id);
      return FEDLANE_OK;
    case FL_EVENT_CANCEL:
      if (event->cancel.round == k->round) k->round = 0;
      return FEDLANE_OK;
    case FL_EVENT_DONE:
      *done = true;
      return FEDLANE_OK;
    case FL_EVENT_LOST:
      say(k, "lost ", k->options->address);
      return join(k, done);
    default:
      return FEDLANE_OK;
  }
}

fl_status fl_worker_run(const fl_work_options *options) {
  worker k = {.options = options};
  fl_session_options session = {.kind = FL_PEER_WORKER,
                                .name = options->name,
                                .security = options->security,
                                .stop = options->stop,
                                .tell = options->tell,
                                .of = options->of};
  bool done = false;
  fl_status status;
  FL_GO(fl_session_open(options->address, &session, &k.session));
  say(&k, "looking for ", options->address);
  FL_GO(join(&k, &done));
  while (!done) {
    fl_event event;
    FL_GO(fl_session_next(k.session, 0.5, &event));
    FL_GO(act(&k, &event, &done));
  }
done:
  close_run(&k);
  free(k.block);
  fl_session_close(&k.session, true);
  return status;
}
