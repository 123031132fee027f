#include "fleet/client.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fleet/clients.h"
#include "session.h"

struct fedlane_client {
  fl_session *session;
  const fl_welcome *welcome;
  bool joined;
  fl_work work;   /* the task; round 0: none */
  float *weights; /* [elements] of its model */
  float *update;  /* [elements] */
};

/* Joins, at most so many seconds (0: as long as it takes). */
static fl_status join(fedlane_client *k, double seconds) {
  uint64_t elements = k->weights ? k->welcome->elements : 0;
  const fl_welcome *w = NULL;
  k->work.round = 0;
  FL_TRY(fl_session_join(k->session, seconds, &w));
  k->joined = true;
  if (!w) return FEDLANE_OK; /* the run is complete, as fl_session_next will say */
  k->welcome = w;
  if (w->elements != elements) {
    free(k->weights);
    free(k->update);
    k->weights = calloc((size_t)w->elements, sizeof *k->weights);
    k->update = calloc((size_t)w->elements, sizeof *k->update);
    if (!k->weights || !k->update)
      return fl_fail(FEDLANE_MEMORY, "no memory for a model of %llu elements",
                     (unsigned long long)w->elements);
  }
  return fl_session_ready(k->session, 1, 0, 1);
}

fl_status fl_client_join(const fl_join_options *options, fedlane_client **out) {
  const fedlane_client_options *o = &options->client;
  fl_session_options session = {
      .kind = FL_PEER_CLIENT,
      .name = o->name ? o->name : "client",
      .examples = (uint64_t)o->examples,
      .security = {.own = o->key, .server = o->server, .insecure = o->insecure},
      .stop = options->stop,
      .tell = options->tell,
      .of = options->of};
  if (o->examples < 0)
    return fl_fail(FEDLANE_USAGE, "a client has %lld examples; there must be at least 0",
                   (long long)o->examples);
  fedlane_client *k = calloc(1, sizeof *k);
  fl_status status;
  if (!k) return fl_fail(FEDLANE_MEMORY, "no memory for a client");
  FL_GO(fl_session_open(options->address, &session, &k->session));
  FL_GO(join(k, o->seconds));
  *out = k;
  return FEDLANE_OK;
done:
  fedlane_client_leave(&k);
  return status;
}

fedlane_status fedlane_client_join(const char *address, const fedlane_client_options *options,
                                   fedlane_client **out) {
  return fl_client_join(&(fl_join_options){.address = address, .client = *options}, out);
}

void fedlane_client_leave(fedlane_client **client) {
  fedlane_client *k = client ? *client : NULL;
  if (!k) return;
  fl_session_close(&k->session, k->joined);
  free(k->weights);
  free(k->update);
  free(k);
  *client = NULL;
}

const char *fedlane_client_config(const fedlane_client *k) {
  return k->welcome ? k->welcome->config.at : "";
}

/* A line of the layout: name, first element, dimensions. Returns the line after it. */
static const char *read_line(const char *line, char name[64], int64_t *at, int64_t dim[4]) {
  char *end = NULL;
  size_t length = strcspn(line, " \n");
  snprintf(name, 64, "%.*s", (int)length, line);
  *at = strtoll(line + length, &end, 10);
  for (int i = 0; i < 4; i++) dim[i] = *end == ' ' ? strtoll(end, &end, 10) : 1;
  end += strcspn(end, "\n");
  return *end ? end + 1 : end;
}

/* Whether a tensor is within a vector of so many elements. */
static bool is_within(uint64_t elements, int64_t at, const int64_t dim[4]) {
  bool good = at >= 0 && (uint64_t)at < elements;
  int64_t room = good ? (int64_t)elements - at : 0;
  for (int i = 0; i < 4 && good; i++) {
    good = dim[i] >= 1 && dim[i] <= room;
    if (good) room /= dim[i];
  }
  return good;
}

fedlane_status fedlane_client_tensor(const fedlane_client *k, const char *name, int64_t *at,
                                     int64_t *count, int64_t dim[4]) {
  char found[64] = "";
  for (const char *line = k->welcome ? k->welcome->layout.at : ""; *line;) {
    line = read_line(line, found, at, dim);
    if (strcmp(found, name) != 0) continue;
    if (!is_within(k->welcome->elements, *at, dim))
      return fl_fail(FEDLANE_DATA, "the coordinator's layout has %s beyond the model", name);
    *count = dim[0] * dim[1] * dim[2] * dim[3];
    return FEDLANE_OK;
  }
  return fl_fail(FEDLANE_USAGE, "the coordinator's model has no tensor %s", name);
}

fedlane_status fedlane_client_refuse(fedlane_client *k, const char *why) {
  if (k->work.round == 0) return fl_fail(FEDLANE_USAGE, "there is no task to refuse");
  fl_message m = {.kind = FL_MESSAGE_refuse,
                  .refuse = {.round = k->work.round,
                             .block = k->work.block,
                             .why = {why, strnlen(why, FL_WHY_BYTES)}}};
  k->work.round = 0;
  return fl_session_say(k->session, &m);
}

/* Fetches the model of a task that has arrived. */
static fl_status begin(fedlane_client *k, const fl_work *work, fedlane_task *task) {
  bool got = false;
  FL_TRY(fl_session_fetch(k->session, work->round, 0, k->weights, &got));
  if (!got) return FEDLANE_OK;
  k->work = *work;
  *task = (fedlane_task){.kind = FEDLANE_TASK_TRAIN,
                         .round = (int)work->round,
                         .elements = (int64_t)k->welcome->elements,
                         .weights = k->weights,
                         .lr = work->lr,
                         .epochs = (int64_t)work->epochs,
                         .batch = (int64_t)work->batch,
                         .deadline = work->deadline};
  return FEDLANE_OK;
}

/* Joins anew; that nobody answers yet is no failure. */
static fl_status join_again(fedlane_client *k, double seconds) {
  fl_status status = join(k, seconds > 1 ? seconds : 1);
  return status == FEDLANE_IO ? FEDLANE_OK : status;
}

fedlane_status fedlane_client_next(fedlane_client *k, double seconds, fedlane_task *task) {
  fl_event event;
  *task = (fedlane_task){.kind = FEDLANE_TASK_NONE};
  if (k->work.round) FL_TRY(fedlane_client_refuse(k, "the client went on without an answer"));
  if (!k->joined) return join_again(k, seconds);
  do {
    FL_TRY(fl_session_next(k->session, seconds, &event));
    if (event.kind == FL_EVENT_WORK) FL_TRY(begin(k, &event.work, task));
    if (event.kind == FL_EVENT_DONE) task->kind = FEDLANE_TASK_DONE;
    if (event.kind == FL_EVENT_LOST) k->joined = false;
  } while (event.kind != FL_EVENT_NONE && k->joined && task->kind == FEDLANE_TASK_NONE);
  return k->joined ? FEDLANE_OK : join_again(k, seconds);
}

/* Waits for an event of the task in progress; *over: there will be none. */
static fl_status await(fedlane_client *k, fl_event_kind kind, fl_event *event, bool *over) {
  do {
    FL_TRY(fl_session_next(k->session, 1, event));
    if (event->kind == FL_EVENT_LOST) k->joined = false;
    *over = event->kind == FL_EVENT_LOST || event->kind == FL_EVENT_DONE ||
            (event->kind == FL_EVENT_CANCEL && event->cancel.round == k->work.round);
  } while (!*over && event->kind != kind);
  return FEDLANE_OK;
}

static fl_status check(fedlane_client *k, const fedlane_trained *t) {
  if (k->work.round == 0)
    return fl_fail(FEDLANE_USAGE, "there is no task whose result could be sent");
  if (t->examples < 1 || t->examples > FL_CLIENT_EXAMPLES)
    return fl_fail(FEDLANE_USAGE, "a client has trained on %lld examples; it must be 1 to %d",
                   (long long)t->examples, FL_CLIENT_EXAMPLES);
  if (t->steps < 0 || t->hits < 0 || !isfinite(t->loss))
    return fl_fail(FEDLANE_USAGE, "steps and hits must be at least 0, and the loss finite");
  if (t->payload < FEDLANE_PAYLOAD_FLOAT32 || t->payload > FEDLANE_PAYLOAD_SPARSE)
    return fl_fail(FEDLANE_USAGE, "there is no payload %d", (int)t->payload);
  return FEDLANE_OK;
}

/* The difference; one that is not finite is refused. */
static fl_status subtract(fedlane_client *k, const float *weights) {
  bool good = true;
  for (uint64_t i = 0; i < k->welcome->elements; i++) {
    k->update[i] = weights[i] - k->weights[i];
    good = good && isfinite(k->update[i]);
  }
  if (good) return FEDLANE_OK;
  FL_TRY(fedlane_client_refuse(k, "the update is not finite"));
  return fl_fail(FEDLANE_DATA,
                 "the trained weights are not finite; the round goes on without them");
}

static fl_status say_trained(fedlane_client *k, const fedlane_trained *t) {
  uint8_t good = 1;
  fl_message m = {.kind = FL_MESSAGE_trained,
                  .trained = {.round = k->work.round,
                              .block = k->work.block,
                              .loss = {&t->loss, sizeof t->loss},
                              .hit = {&t->hits, sizeof t->hits},
                              .good = {&good, sizeof good}}};
  return fl_session_say(k->session, &m);
}

static fl_status upload(fedlane_client *k, uint64_t number, const fedlane_trained *t, bool *sent) {
  uint32_t block = (uint32_t)k->work.block, stream = FL_STREAM_UPDATE;
  fl_update about = {.round = k->work.round,
                     .upload = number,
                     .payload = (uint64_t)t->payload,
                     .blocks = {&block, sizeof block},
                     .streams = {&stream, sizeof stream},
                     .weight = (uint64_t)t->examples,
                     .examples = (uint64_t)t->examples,
                     .steps = (uint64_t)t->steps,
                     .loss = t->loss,
                     .hits = (uint64_t)t->hits};
  FL_TRY(fl_session_begin(k->session, &about));
  return fl_session_stream(k->session, &about, stream, k->update, sent);
}

fedlane_status fedlane_client_send(fedlane_client *k, const fedlane_trained *t, bool *mixed) {
  fl_event event;
  bool over = false, sent = false, ignored;
  mixed = mixed ? mixed : &ignored;
  *mixed = false;
  FL_TRY(check(k, t));
  FL_TRY(subtract(k, t->weights));
  FL_TRY(say_trained(k, t));
  FL_TRY(await(k, FL_EVENT_COLLECT, &event, &over));
  if (!over) FL_TRY(upload(k, event.collect.upload, t, &sent));
  if (sent) FL_TRY(await(k, FL_EVENT_RECEIVED, &event, &over));
  if (sent && !over) *mixed = event.received.mixed;
  k->work.round = 0;
  return FEDLANE_OK;
}
