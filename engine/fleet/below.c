#include "fleet/below.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend.h"
#include "engine.h"
#include "fleet/arrived.h"

static const long idle_nanoseconds = 20000000;

struct fl_below {
  fl_fleet *fleet;
  uint64_t elements, vectors, updates, own;
  fl_devices device;
  fl_mix mix[FL_UPDATES]; /* of the block's thread while there is a block */
  int64_t *aligned;       /* a chunk's sums, where they did not arrive so */
  pthread_t thread;
  bool living; /* the thread has been started */
  pthread_mutex_t lock;
  pthread_cond_t change;
  /* Under the lock. */
  fl_relayed *block;
  const float *model;
  bool trained, give_up, quit;
  fl_fleet_tally tally;
  fl_status failed; /* with its sentence */
  char why[512];
};

fl_status fl_relayed_open(const fl_work *work, const fl_welcome *w, fl_relayed **out) {
  fl_relayed *b = calloc(1, sizeof *b);
  size_t n = (size_t)work->count;
  *out = b;
  if (!b) return fl_fail(FEDLANE_MEMORY, "no memory for a block");
  b->work = *work;
  b->cost = malloc(n * sizeof *b->cost);
  b->own = calloc(n * (size_t)(w->own * w->elements) + 1, sizeof *b->own);
  b->loss = calloc(n, sizeof *b->loss);
  b->hit = calloc(n, sizeof *b->hit);
  b->good = calloc(n, sizeof *b->good);
  if (!b->cost || !b->own || !b->loss || !b->hit || !b->good) {
    fl_relayed_close(out);
    return fl_fail(FEDLANE_MEMORY, "no memory for a block of %zu clients", n);
  }
  for (size_t i = 0; i < n; i++) b->cost[i] = 1;
  return FEDLANE_OK;
}

void fl_relayed_close(fl_relayed **block) {
  fl_relayed *b = *block;
  if (!b) return;
  free(b->cost);
  free(b->own);
  free(b->loss);
  free(b->hit);
  free(b->good);
  free(b);
  *block = NULL;
}

/* Vector i of those that the clients of a block keep, counted over its units. */
static float *own_of(const fl_below *w, uint64_t i) {
  uint64_t first = w->block->work.first * w->own;
  if (i < first || i >= first + w->block->work.count * w->own) return NULL;
  return w->block->own + (i - first) * w->elements;
}

static fl_status vector_of(void *of, uint64_t vector, const float **at) {
  static const char strange[] = "a peer wants what a client keeps that is in none of its blocks";
  const fl_below *w = of;
  *at = vector < w->vectors ? w->model + vector * w->elements : own_of(w, vector - w->vectors);
  return *at ? FEDLANE_OK : fl_fail(FEDLANE_INTERNAL, strange);
}

static void keep_report(fl_relayed *block, const fl_report *r) {
  size_t first = (size_t)(r->first - block->work.first), n = (size_t)r->count;
  memcpy(block->loss + first, r->loss, n * sizeof *r->loss);
  memcpy(block->hit + first, r->hit, n * sizeof *r->hit);
  memcpy(block->good + first, r->good, n * sizeof *r->good);
}

/* What the clients of a sum weigh only the coordinator knows; here it is seen to that the sums
 * cannot grow beyond 64 bits. */
static fl_status check(void *of, const fl_upload *upload, fl_cause *cause) {
  const fl_below *w = of;
  int64_t room = (INT64_C(1) << (62 - w->mix[0].bits)) - w->mix[0].total;
  if (upload->about.weight > (uint64_t)room) *cause = FL_CAUSE_shape;
  return FEDLANE_OK;
}

static bool is_own(const fl_below *w, const fl_stretch *s) {
  const fl_chunk *c = &s->about;
  return c->payload == FL_PAYLOAD_F32 && c->stream >= FL_STREAM_OWN &&
         own_of(w, c->stream - FL_STREAM_OWN) &&
         fl_blob_size(s->body) == fl_payload_bytes(FL_PAYLOAD_F32, c->count);
}

/* Sums are added at once; what clients keep waits for the rest, as it cannot be taken off again. */
static fl_status mix(void *of, const fl_update *about, const fl_stretch *s, fl_cause *cause) {
  fl_below *w = of;
  bool sum = fl_arrived_is_sum(&s->about, s->body, w->updates);
  if (sum && fl_arrived_fits(w->mix, &s->about, s->body, (int64_t)about->weight, w->aligned))
    return fl_arrived_add(w->mix, &s->about, s->body, false, w->aligned);
  if (sum || !is_own(w, s)) *cause = FL_CAUSE_shape;
  return FEDLANE_OK;
}

static fl_status unmix(void *of, const fl_stretch *s) {
  fl_below *w = of;
  if (s->about.payload != FL_PAYLOAD_SUM) return FEDLANE_OK;
  return fl_arrived_add(w->mix, &s->about, s->body, true, w->aligned);
}

/* The sum of a peer, all of whose stretches have passed `mix`. Others may have been taken since it
 * was announced. */
static fl_status take(void *of, const fl_upload *upload, fl_cause *cause) {
  fl_below *w = of;
  FL_TRY(check(of, upload, cause));
  if (*cause != FL_CAUSE_none) return FEDLANE_OK;
  for (int i = 0; i < upload->n_stretch; i++) {
    const fl_stretch *s = &upload->stretch[i];
    if (s->about.payload == FL_PAYLOAD_F32)
      memcpy(own_of(w, s->about.stream - FL_STREAM_OWN) + s->about.offset, fl_blob_at(s->body),
             fl_blob_size(s->body));
  }
  for (uint64_t u = 0; u < w->updates; u++) fl_mix_weigh(&w->mix[u], (int64_t)upload->about.weight);
  for (int i = 0; i < upload->n_report; i++) keep_report(w->block, &upload->report[i]);
  return FEDLANE_OK;
}

/* Writes down what has happened since fl_below_look; under the lock. */
static void tell(fl_below *w) {
  fl_fleet_tally t;
  fl_fleet_tell(w->fleet, &t);
  t.bytes_up += w->tally.bytes_up;
  t.bytes_down += w->tally.bytes_down;
  for (int i = 0; i < FL_CAUSES; i++) t.cause[i] += w->tally.cause[i];
  w->tally = t;
}

static fl_status tick(void *of) {
  fl_below *w = of;
  pthread_mutex_lock(&w->lock);
  bool stop = w->give_up || w->quit;
  tell(w);
  pthread_mutex_unlock(&w->lock);
  return stop ? FEDLANE_STOPPED : FEDLANE_OK;
}

/* A deadline is the coordinator's to keep: a block comes back whole, or is given up. */
static fl_status train(fl_below *w, const fl_relayed *block) {
  fl_fleet_job job = {.work = block->work,
                      .first = block->work.first,
                      .n = block->work.count,
                      .cost = block->cost,
                      .quorum = 1};
  fl_status status = fl_fleet_train(w->fleet, &job);
  return status == FEDLANE_STOPPED ? FEDLANE_OK : status;
}

/* The block to train, or NULL after a short while without one; under the lock. */
static fl_relayed *await_block(fl_below *w) {
  struct timespec until;
  if (!w->block || w->trained) {
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += idle_nanoseconds;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    if (!w->quit) pthread_cond_timedwait(&w->change, &w->lock, &until);
  }
  return w->trained ? NULL : w->block;
}

static void *live(void *of) {
  fl_below *w = of;
  pthread_mutex_lock(&w->lock);
  while (!w->quit && w->failed == FEDLANE_OK) {
    fl_relayed *block = await_block(w);
    pthread_mutex_unlock(&w->lock);
    fl_status status = block ? train(w, block) : fl_fleet_wait(w->fleet, 0, NULL);
    pthread_mutex_lock(&w->lock);
    tell(w);
    w->trained = w->trained || block;
    w->failed = status;
    if (status != FEDLANE_OK) strncpy(w->why, fedlane_error(), sizeof w->why - 1);
    pthread_cond_broadcast(&w->change);
  }
  pthread_mutex_unlock(&w->lock);
  return NULL;
}

/* The thread takes no signals, which are for those who wait in the program. */
static fl_status start(fl_below *w) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&w->thread, NULL, live, w);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  w->living = error == 0;
  return error ? fl_fail(FEDLANE_MEMORY, "a relay cannot start its thread: %s", strerror(error))
               : FEDLANE_OK;
}

fl_status fl_below_open(const char *address, const fl_security *security, const fl_welcome *w,
                        fl_below **out) {
  fl_below *b = calloc(1, sizeof *b);
  fl_status status;
  if (!b) return fl_fail(FEDLANE_MEMORY, "no memory for a relay");
  pthread_mutex_init(&b->lock, NULL);
  pthread_cond_init(&b->change, NULL);
  b->elements = w->elements;
  b->vectors = w->vectors;
  b->updates = w->updates;
  b->own = w->own;
  b->aligned = malloc(FL_CHUNK_BYTES);
  if (!b->aligned || w->updates > FL_UPDATES) {
    status = b->aligned ? fl_fail(FEDLANE_USAGE, "updates of %llu vectors are not known here",
                                  (unsigned long long)w->updates)
                        : fl_fail(FEDLANE_MEMORY, "no memory for a relay");
    goto done;
  }
  FL_GO(fl_devices_open("cpu", FL_MATH_FP32, 1, &b->device));
  for (uint64_t u = 0; u < w->updates; u++)
    fl_mix_open(&b->mix[u], b->device.ops, b->device.dev[0], (int64_t)w->elements);
  fl_port_options port = {.security = *security, .patience = w->patience};
  fl_fleet_about about = {.config = w->config.at,
                          .digest = w->digest.at,
                          .layout = w->layout.at,
                          .elements = w->elements,
                          .vectors = w->vectors,
                          .updates = w->updates,
                          .own = w->own,
                          .people = w->people};
  fl_fleet_limits limits = {0};
  fl_fleet_host host = {.of = b,
                        .vector = vector_of,
                        .check = check,
                        .mix = mix,
                        .unmix = unmix,
                        .take = take,
                        .tick = tick};
  FL_GO(fl_fleet_open(address, &port, &about, &limits, &host, &b->fleet));
  FL_GO(start(b));
  *out = b;
  return FEDLANE_OK;
done:
  fl_below_close(&b, FL_BYE_REJOIN, "the relay cannot start");
  return status;
}

void fl_below_close(fl_below **below, fl_bye_code code, const char *why) {
  fl_below *w = *below;
  if (!w) return;
  pthread_mutex_lock(&w->lock);
  w->quit = true;
  pthread_cond_broadcast(&w->change);
  pthread_mutex_unlock(&w->lock);
  if (w->living) pthread_join(w->thread, NULL);
  fl_fleet_close(&w->fleet, code, why);
  for (int u = 0; u < FL_UPDATES; u++) fl_mix_close(&w->mix[u]);
  fl_devices_close(&w->device);
  pthread_cond_destroy(&w->change);
  pthread_mutex_destroy(&w->lock);
  free(w->aligned);
  free(w);
  *below = NULL;
}

const char *fl_below_address(const fl_below *w) { return fl_fleet_address(w->fleet); }

fl_status fl_below_begin(fl_below *w, uint64_t bits) {
  for (uint64_t u = 0; u < w->updates; u++)
    FL_TRY(fl_mix_begin(&w->mix[u], INT64_C(1) << (62 - bits)));
  return FEDLANE_OK;
}

void fl_below_give(fl_below *w, fl_relayed *block, const float *model) {
  pthread_mutex_lock(&w->lock);
  w->block = block;
  w->model = model;
  w->trained = w->give_up = false;
  pthread_cond_broadcast(&w->change);
  pthread_mutex_unlock(&w->lock);
}

void fl_below_give_up(fl_below *w) {
  pthread_mutex_lock(&w->lock);
  w->give_up = true;
  while (w->block && !w->trained && w->failed == FEDLANE_OK)
    pthread_cond_wait(&w->change, &w->lock);
  w->block = NULL;
  pthread_mutex_unlock(&w->lock);
}

fl_status fl_below_look(fl_below *w, fl_relayed **block, fl_fleet_tally *tally) {
  pthread_mutex_lock(&w->lock);
  fl_status failed = w->failed;
  *block = w->trained && failed == FEDLANE_OK ? w->block : NULL;
  if (*block) w->block = NULL;
  *tally = w->tally;
  w->tally.bytes_up = w->tally.bytes_down = 0;
  memset(w->tally.cause, 0, sizeof w->tally.cause);
  pthread_mutex_unlock(&w->lock);
  return failed == FEDLANE_OK ? FEDLANE_OK : fl_fail(failed, "%s", w->why);
}

const fl_mix *fl_below_sums(const fl_below *w, uint64_t update) { return &w->mix[update]; }
