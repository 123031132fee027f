#include "fleet/relay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fleet/below.h"

/* Seconds that the session is listened to before the fleet below is looked at: while there is work,
 * and while there is none. */
static const double busy_seconds = 0.002, idle_seconds = 0.02;

typedef struct relay {
  const fl_relay_options *options;
  fl_session *session;
  const fl_welcome *welcome;
  fl_below *below;
  uint64_t run;       /* digest of what the fleet below was told */
  float *model;       /* [vectors][elements] */
  uint64_t version;   /* round whose model that is; 0: none */
  uint64_t round;     /* whose sums are below; 0: none */
  fl_relayed **block; /* since the last upload: first those that are trained, then one that is below
                         if `given`, then those that wait */
  int n_block, n_trained, room;
  bool given;
  uint64_t lanes; /* that the coordinator knows of; 0: it does not know of any */
  double alone;   /* since when there are no peers; 0: there are */
} relay;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void say(const relay *r, const char *what, const char *name) {
  char text[512];
  if (!r->options->tell) return;
  snprintf(text, sizeof text, "%s%s", what, name);
  r->options->tell(r->options->of, text);
}

static void close_blocks(relay *r) {
  for (int i = 0; i < r->n_block; i++) fl_relayed_close(&r->block[i]);
  r->n_block = r->n_trained = 0;
}

/* Gives up all that there is of the round. */
static void forget(relay *r) {
  if (r->given) fl_below_give_up(r->below);
  r->given = false;
  r->round = 0;
  close_blocks(r);
}

static uint64_t digest_of(const fl_welcome *w) {
  uint64_t part[] = {
      fl_digest(w->config.at, w->config.n),
      fl_digest(w->digest.at, w->digest.n),
      fl_digest(w->layout.at, w->layout.n),
      w->elements,
      w->vectors,
      w->updates,
      w->own,
      w->people,
  };
  return fl_digest(part, sizeof part);
}

static fl_status open_below(relay *r) {
  const fl_welcome *w = r->welcome;
  free(r->model);
  r->model = calloc((size_t)(w->vectors * w->elements), sizeof *r->model);
  if (!r->model) return fl_fail(FEDLANE_MEMORY, "no memory for a model");
  FL_TRY(fl_below_open(r->options->listen, &r->options->security, w, &r->below));
  r->run = digest_of(w);
  say(r, "listening on ", fl_below_address(r->below));
  return FEDLANE_OK;
}

/* Joins, and listens for peers of its own. Those of the same run stay. */
static fl_status join(relay *r, bool *done) {
  forget(r);
  r->version = r->lanes = 0;
  r->alone = 0;
  FL_TRY(fl_session_join(r->session, 0, &r->welcome));
  *done = r->welcome == NULL;
  if (*done) return FEDLANE_OK;
  say(r, "joined ", r->options->address);
  if (r->below && r->run != digest_of(r->welcome))
    fl_below_close(&r->below, FL_BYE_REJOIN, "the coordinator has begun another run");
  return r->below ? FEDLANE_OK : open_below(r);
}

/* The sums of a round begin, and its model is fetched. *got: false when it is over. */
static fl_status begin_round(relay *r, const fl_work *work, bool *got) {
  const fl_welcome *w = r->welcome;
  forget(r);
  FL_TRY(fl_below_begin(r->below, work->bits));
  for (uint64_t i = 0; i < w->vectors && r->version != work->round && *got; i++)
    FL_TRY(fl_session_fetch(r->session, work->round, i, r->model + i * w->elements, got));
  if (*got) r->version = r->round = work->round;
  return FEDLANE_OK;
}

/* A block waits for its turn, with all that its clients keep. */
static fl_status add_block(relay *r, const fl_work *work) {
  const fl_welcome *w = r->welcome;
  bool got = true;
  if (r->n_block == r->room) {
    int room = r->room ? 2 * r->room : 16;
    fl_relayed **larger = realloc(r->block, (size_t)room * sizeof *larger);
    if (!larger) return fl_fail(FEDLANE_MEMORY, "no memory for %d blocks", room);
    r->block = larger;
    r->room = room;
  }
  if (r->round != work->round) FL_TRY(begin_round(r, work, &got));
  if (!got) return FEDLANE_OK;
  fl_relayed *block = NULL;
  FL_TRY(fl_relayed_open(work, w, &block));
  fl_status status = FEDLANE_OK;
  for (uint64_t i = 0; i < work->count * w->own && got && status == FEDLANE_OK; i++)
    status = fl_session_fetch(r->session, work->round, w->vectors + work->first * w->own + i,
                              block->own + i * w->elements, &got);
  if (status == FEDLANE_OK && got)
    r->block[r->n_block++] = block;
  else
    fl_relayed_close(&block);
  return status;
}

static fl_status report(relay *r, const fl_relayed *block) {
  size_t n = (size_t)block->work.count;
  fl_message m = {.kind = FL_MESSAGE_trained,
                  .trained = {.round = block->work.round,
                              .block = block->work.block,
                              .loss = {block->loss, n * sizeof *block->loss},
                              .hit = {block->hit, n * sizeof *block->hit},
                              .good = {block->good, n}}};
  return fl_session_say(r->session, &m);
}

/* What an upload is made of, as lists of numbers. */
typedef struct parts {
  uint32_t *block, *stream;
  size_t n_stream;
} parts;

static fl_status list_parts(const relay *r, parts *p) {
  const fl_welcome *w = r->welcome;
  size_t kept = 0;
  for (int i = 0; i < r->n_block; i++) kept += (size_t)(r->block[i]->work.count * w->own);
  p->block = malloc((size_t)r->n_block * sizeof *p->block);
  p->stream = malloc(((size_t)w->updates * FL_MIX_LEVELS + kept) * sizeof *p->stream);
  if (!p->block || !p->stream) return fl_fail(FEDLANE_MEMORY, "no memory for an upload");
  for (uint64_t u = 0; u < w->updates; u++)
    for (int level = 0; level < FL_MIX_LEVELS; level++)
      if (fl_mix_level(fl_below_sums(r->below, u), level))
        p->stream[p->n_stream++] = (uint32_t)(FL_STREAM_SUM + 64 * u) + (uint32_t)level;
  for (int i = 0; i < r->n_block; i++) {
    const fl_work *work = &r->block[i]->work;
    p->block[i] = (uint32_t)work->block;
    for (uint64_t j = 0; j < work->count * w->own; j++)
      p->stream[p->n_stream++] = (uint32_t)(FL_STREAM_OWN + work->first * w->own + j);
  }
  return FEDLANE_OK;
}

/* Sends the streams in the order in which they are listed. */
static fl_status send_streams(relay *r, fl_update *about, const parts *p) {
  const fl_welcome *w = r->welcome;
  size_t n = 0;
  bool sent = true;
  for (; n < p->n_stream && p->stream[n] < FL_STREAM_OWN && sent; n++) {
    uint32_t stream = p->stream[n];
    const fl_mix *mix = fl_below_sums(r->below, stream / 64);
    FL_TRY(
        fl_session_stream(r->session, about, stream, fl_mix_level(mix, (int)(stream % 64)), &sent));
  }
  about->payload = FL_PAYLOAD_F32;
  for (int i = 0; i < r->n_block; i++)
    for (uint64_t j = 0; j < r->block[i]->work.count * w->own && sent; j++)
      FL_TRY(fl_session_stream(r->session, about, p->stream[n++],
                               r->block[i]->own + j * w->elements, &sent));
  return FEDLANE_OK;
}

/* Sends the sum of all blocks trained since the last upload, and begins a new one. */
static fl_status upload(relay *r, const fl_collect *c) {
  parts p = {0};
  fl_status status;
  if (c->round != r->round || r->n_block == 0 || r->n_trained < r->n_block) return FEDLANE_OK;
  const fl_mix *mix = fl_below_sums(r->below, 0);
  uint64_t bits = (uint64_t)mix->bits;
  FL_GO(list_parts(r, &p));
  fl_update about = {.round = c->round,
                     .upload = c->upload,
                     .payload = FL_PAYLOAD_SUM,
                     .blocks = {p.block, (size_t)r->n_block * sizeof *p.block},
                     .streams = {p.stream, p.n_stream * sizeof *p.stream},
                     .weight = (uint64_t)mix->total};
  FL_GO(fl_session_begin(r->session, &about));
  FL_GO(send_streams(r, &about, &p));
  close_blocks(r);
  FL_GO(fl_below_begin(r->below, bits));
done:
  free(p.block);
  free(p.stream);
  return status;
}

/* Tells the coordinator how much the peers can do, or goes after a while without any: its blocks
 * are then others' to train. */
static fl_status tell_lanes(relay *r, const fl_fleet_tally *t, bool *done) {
  if (t->peers > 0) {
    r->alone = 0;
    if (t->lanes == r->lanes) return FEDLANE_OK;
    r->lanes = t->lanes;
    return fl_session_ready(r->session, t->lanes, t->people, 2);
  }
  if (r->lanes == 0) return FEDLANE_OK;
  if (r->alone <= 0) r->alone = now();
  if (now() - r->alone <= r->welcome->patience) return FEDLANE_OK;
  fl_message m = {.kind = FL_MESSAGE_leave};
  say(r, "there are no peers; waiting for some", "");
  FL_TRY(fl_session_say(r->session, &m));
  return join(r, done);
}

/* What has happened below. */
static fl_status look_below(relay *r, bool *done) {
  fl_fleet_tally tally;
  fl_relayed *block = NULL;
  FL_TRY(fl_below_look(r->below, &block, &tally));
  if (block) {
    r->given = false;
    r->n_trained++;
    FL_TRY(report(r, block));
  }
  if (!r->given && r->n_trained < r->n_block) {
    fl_below_give(r->below, r->block[r->n_trained], r->model);
    r->given = true;
  }
  for (int i = 1; i < FL_CAUSES; i++) {
    char text[32];
    snprintf(text, sizeof text, "%lld ", (long long)tally.cause[i]);
    if (tally.cause[i] > 0) say(r, text, fl_cause_text((fl_cause)i));
  }
  return tell_lanes(r, &tally, done);
}

static fl_status act(relay *r, const fl_event *event, bool *done) {
  switch (event->kind) {
    case FL_EVENT_WORK:
      return add_block(r, &event->work);
    case FL_EVENT_COLLECT:
      return upload(r, &event->collect);
    case FL_EVENT_CANCEL:
      if (event->cancel.round == r->round) forget(r);
      return FEDLANE_OK;
    case FL_EVENT_DONE:
      *done = true;
      return FEDLANE_OK;
    case FL_EVENT_LOST:
      say(r, "lost ", r->options->address);
      return join(r, done);
    default:
      return FEDLANE_OK;
  }
}

fl_status fl_relay_run(const fl_relay_options *options) {
  relay r = {.options = options};
  fl_session_options session = {.kind = FL_PEER_RELAY,
                                .name = options->name,
                                .security = options->security,
                                .stop = options->stop,
                                .tell = options->tell,
                                .of = options->of};
  bool done = false;
  fl_status status;
  FL_GO(fl_session_open(options->address, &session, &r.session));
  FL_GO(join(&r, &done));
  while (!done) {
    fl_event event;
    FL_GO(fl_session_next(r.session, r.given ? busy_seconds : idle_seconds, &event));
    FL_GO(act(&r, &event, &done));
    if (!done) FL_GO(look_below(&r, &done));
  }
done:
  if (r.below) forget(&r);
  fl_below_close(&r.below, done ? FL_BYE_DONE : FL_BYE_REJOIN,
                 done ? "the run is complete" : "the relay stops");
  free(r.block);
  free(r.model);
  fl_session_close(&r.session, true);
  return status;
}
