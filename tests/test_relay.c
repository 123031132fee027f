/* Relays between a coordinator and workers that both only pretend: sums are exact, and they stay so
 * whoever goes. */
#include "fleet/relay.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fleet.h"
#include "suite.h"

enum {
  ELEMENTS = 270001, /* two chunks of a vector, three of sums */
  VECTORS = 2,
  UPDATES = 2,
  OWN = 1,
  UNITS = 13,
  BITS = 40,
  PEOPLE = 77,
  WORKERS = 3
};

/* The stream of an update's sums that pretended workers use. */
static uint32_t stream_of(int update) { return (uint32_t)(64 * update + 3 + update); }

/* What unit u adds to element e of an update, given the same element of the
 * model's vector of the same number. */
static int64_t part_of(uint64_t u, int update, float model, int64_t e) {
  return (int64_t)(u + 1) * ((int64_t)model + update) - 5 * e;
}

static float model_at(uint64_t round, int vector, int64_t e) {
  return (float)((int64_t)round * 10 + vector * 3 + e % 11);
}

/* The coordinator. */
typedef struct host {
  fl_fleet *fleet;
  uint64_t round;
  float *vector;
  float own[UNITS]; /* all elements of it */
  bool own_same;    /* all that came were equal in all elements */
  int64_t *sum[UPDATES];
  uint64_t weight;
  int seen[UNITS], uploads;
  double loss;
} host;

static fl_status vector_of(void *of, uint64_t vector, const float **at) {
  host *h = of;
  *at = h->vector;
  for (int64_t e = 0; e < ELEMENTS; e++)
    h->vector[e] = vector < VECTORS ? model_at(h->round, (int)vector, e) : h->own[vector - VECTORS];
  return FEDLANE_OK;
}

static fl_status take(void *of, const fl_upload *upload, fl_cause *cause) {
  host *h = of;
  *cause = FL_CAUSE_none;
  h->uploads++;
  h->weight += upload->about.weight;
  for (int i = 0; i < upload->n_stretch; i++) {
    const fl_chunk *c = &upload->stretch[i].about;
    const char *at = fl_blob_at(upload->stretch[i].body);
    if (c->payload == FL_PAYLOAD_SUM) {
      CU_ASSERT_EQUAL_FATAL(c->stream, stream_of((int)c->stream / 64));
      for (uint64_t k = 0; k < c->count; k++) {
        int64_t one;
        memcpy(&one, at + 8 * k, 8);
        h->sum[c->stream / 64][c->offset + k] += one;
      }
      continue;
    }
    for (uint64_t k = 0; k < c->count; k++) {
      float one, *own = &h->own[c->stream - FL_STREAM_OWN];
      memcpy(&one, at + 4 * k, 4);
      if (c->offset + k == 0) *own = one;
      h->own_same = h->own_same && one == *own;
    }
  }
  for (int i = 0; i < upload->n_report; i++) {
    const fl_report *r = &upload->report[i];
    for (uint64_t u = 0; u < r->count; u++) {
      h->seen[r->first + u]++;
      h->loss += r->loss[u];
      CU_ASSERT(r->good[u] == 1 && r->hit[u] == (int64_t)(r->first + u));
    }
  }
  return FEDLANE_OK;
}

static void open_host_of(host *h, const char *address, uint64_t people, bool clients) {
  fl_fleet_about about = {.config = "name: none",
                          .digest = "0123456789abcdef",
                          .layout = "w 0 270001\n",
                          .elements = ELEMENTS,
                          .vectors = VECTORS,
                          .updates = UPDATES,
                          .own = OWN,
                          .people = people,
                          .clients = clients};
  fl_port_options port = {.patience = 1};
  fl_fleet_limits limits = {0};
  fl_fleet_host of = {.of = h, .vector = vector_of, .take = take};
  CU_ASSERT_EQUAL_FATAL(fl_fleet_open(address, &port, &about, &limits, &of, &h->fleet), FEDLANE_OK);
  if (h->vector) return;
  h->vector = malloc(ELEMENTS * sizeof *h->vector);
  for (int u = 0; u < UPDATES; u++) h->sum[u] = malloc(ELEMENTS * sizeof *h->sum[u]);
  for (int u = 0; u < UNITS; u++) h->own[u] = (float)(100 * u);
}

static void open_host(host *h, const char *address, bool clients) {
  open_host_of(h, address, PEOPLE, clients);
}

static void close_host(host *h) {
  fl_fleet_close(&h->fleet, FL_BYE_DONE, "done");
  for (int u = 0; u < UPDATES; u++) free(h->sum[u]);
  free(h->vector);
}

/* Waits until peers of so many lanes are there, directly or behind relays. */
static void await_lanes(host *h, uint64_t lanes) {
  fl_fleet_tally tally = {0};
  for (int i = 0; i < 4000 && tally.lanes != lanes; i++) {
    CU_ASSERT_EQUAL_FATAL(fl_fleet_wait(h->fleet, 0, NULL), FEDLANE_OK);
    fl_fleet_tell(h->fleet, &tally);
    usleep(5000);
  }
  CU_ASSERT_EQUAL_FATAL(tally.lanes, lanes);
}

/* One round, after which every unit is in the sums once. */
static void check_round(host *h) {
  int32_t cost[UNITS];
  int64_t wrong = 0;
  for (int u = 0; u < UNITS; u++) cost[u] = 1 + u % 3;
  fl_fleet_job job = {.work = {.round = ++h->round, .bits = BITS, .epochs = 1, .batch = 1, .lr = 1},
                      .n = UNITS,
                      .cost = cost};
  for (int u = 0; u < UPDATES; u++) memset(h->sum[u], 0, ELEMENTS * sizeof *h->sum[u]);
  memset(h->seen, 0, sizeof h->seen);
  h->weight = 0;
  h->loss = 0;
  h->uploads = 0;
  h->own_same = true;
  CU_ASSERT_EQUAL_FATAL(fl_fleet_train(h->fleet, &job), FEDLANE_OK);
  CU_ASSERT_EQUAL(h->weight, UNITS);
  CU_ASSERT_EQUAL(h->loss, UNITS * (UNITS - 1) / 4.0);
  CU_ASSERT(h->own_same);
  for (int u = 0; u < UNITS; u++) {
    CU_ASSERT_EQUAL(h->seen[u], 1);
    CU_ASSERT_EQUAL(h->own[u], (float)(100 * u) + (float)h->round);
  }
  for (int i = 0; i < UPDATES; i++)
    for (int64_t e = 0; e < ELEMENTS; e++) {
      int64_t sum = 0;
      for (uint64_t u = 0; u < UNITS; u++) sum += part_of(u, i, model_at(h->round, i, e), e);
      wrong += sum != h->sum[i][e];
    }
  CU_ASSERT_EQUAL(wrong, 0);
}

/* A worker: adds up what its units are worth. */
typedef struct worker {
  const char *address;
  uint64_t people;
  int last;   /* dies when it is given this block of its own, from 1; 0: never */
  bool liar;  /* sends sums that its clients cannot have made */
  int joined; /* times */
  fl_status status;
  char why[256];
  fl_session *session;
  float *model[VECTORS], *own[UNITS];
  int64_t *sum[UPDATES];
  uint64_t round, weight;
  uint32_t block[UNITS], stream[UPDATES + UNITS];
  int n_block, n_own, given;
  pthread_t thread;
} worker;

static fl_status train(worker *k, const fl_work *w, bool *got) {
  double loss[UNITS];
  int64_t hit[UNITS];
  uint8_t good[UNITS];
  if (w->round != k->round) {
    k->n_block = k->n_own = 0;
    k->weight = 0;
    for (int i = 0; i < UPDATES; i++) memset(k->sum[i], 0, ELEMENTS * sizeof *k->sum[i]);
    for (int i = 0; i < VECTORS && *got; i++)
      FL_TRY(fl_session_fetch(k->session, w->round, (uint64_t)i, k->model[i], got));
  }
  for (uint64_t u = w->first; u < w->first + w->count && *got; u++) {
    FL_TRY(fl_session_fetch(k->session, w->round, VECTORS + u, k->own[u], got));
    for (int64_t e = 0; e < ELEMENTS; e++) k->own[u][e] += 1;
    for (int i = 0; i < UPDATES; i++)
      for (int64_t e = 0; e < ELEMENTS; e++) k->sum[i][e] += part_of(u, i, k->model[i][e], e);
    k->stream[UPDATES + k->n_own++] = (uint32_t)(FL_STREAM_OWN + u);
    loss[u - w->first] = 0.5 * (double)u;
    hit[u - w->first] = (int64_t)u;
    good[u - w->first] = 1;
  }
  if (!*got) return FEDLANE_OK;
  k->round = w->round;
  k->weight += w->count;
  k->block[k->n_block++] = (uint32_t)w->block;
  fl_message m = {.kind = FL_MESSAGE_trained,
                  .trained = {.round = w->round,
                              .block = w->block,
                              .loss = {loss, 8 * (size_t)w->count},
                              .hit = {hit, 8 * (size_t)w->count},
                              .good = {good, (size_t)w->count}}};
  return fl_session_say(k->session, &m);
}

static fl_status upload(worker *k, const fl_collect *c) {
  bool sent = true;
  if (c->round != k->round) return FEDLANE_OK;
  for (int i = 0; i < UPDATES; i++) k->stream[i] = stream_of(i);
  fl_update about = {.round = c->round,
                     .upload = c->upload,
                     .payload = FL_PAYLOAD_SUM,
                     .blocks = {k->block, (size_t)k->n_block * sizeof *k->block},
                     .streams = {k->stream, (size_t)(UPDATES + k->n_own) * sizeof *k->stream},
                     .weight = k->weight};
  if (k->liar) k->sum[1][ELEMENTS - 1] = INT64_C(1) << 60;
  FL_TRY(fl_session_begin(k->session, &about));
  for (int i = 0; i < UPDATES && sent; i++)
    FL_TRY(fl_session_stream(k->session, &about, k->stream[i], k->sum[i], &sent));
  about.payload = FL_PAYLOAD_F32;
  for (int i = UPDATES; i < UPDATES + k->n_own && sent; i++)
    FL_TRY(fl_session_stream(k->session, &about, k->stream[i], k->own[k->stream[i] - FL_STREAM_OWN],
                             &sent));
  k->round = 0;
  return FEDLANE_OK;
}

static fl_status join(worker *k, bool *done) {
  const fl_welcome *w = NULL;
  k->round = 0;
  FL_TRY(fl_session_join(k->session, k->joined++ ? 1 : 20, &w));
  *done = w == NULL;
  return w ? fl_session_ready(k->session, 2, k->people, 2) : FEDLANE_OK;
}

static fl_status act(worker *k, const fl_event *event, bool *done) {
  bool got = true;
  if (event->kind == FL_EVENT_WORK) {
    *done = k->last > 0 && ++k->given == k->last;
    return *done ? FEDLANE_OK : train(k, &event->work, &got);
  }
  if (event->kind == FL_EVENT_COLLECT) return upload(k, &event->collect);
  if (event->kind == FL_EVENT_CANCEL && event->cancel.round == k->round) k->round = 0;
  if (event->kind == FL_EVENT_DONE) *done = true;
  return event->kind == FL_EVENT_LOST ? join(k, done) : FEDLANE_OK;
}

static fl_status live(worker *k) {
  fl_session_options options = {.kind = FL_PEER_WORKER, .name = "worker"};
  bool done = false;
  FL_TRY(fl_session_open(k->address, &options, &k->session));
  FL_TRY(join(k, &done));
  while (!done) {
    fl_event event;
    FL_TRY(fl_session_next(k->session, 0.5, &event));
    FL_TRY(act(k, &event, &done));
  }
  return FEDLANE_OK;
}

static void *work(void *of) {
  worker *k = of;
  for (int i = 0; i < VECTORS; i++) k->model[i] = malloc(ELEMENTS * sizeof(float));
  for (int i = 0; i < UPDATES; i++) k->sum[i] = malloc(ELEMENTS * sizeof(int64_t));
  for (int i = 0; i < UNITS; i++) k->own[i] = malloc(ELEMENTS * sizeof(float));
  k->status = live(k);
  if (k->status != FEDLANE_OK) snprintf(k->why, sizeof k->why, "%s", fedlane_error());
  fl_session_close(&k->session, false);
  for (int i = 0; i < VECTORS; i++) free(k->model[i]);
  for (int i = 0; i < UPDATES; i++) free(k->sum[i]);
  for (int i = 0; i < UNITS; i++) free(k->own[i]);
  return NULL;
}

static void start_worker(worker *k, const char *address) {
  k->address = address;
  if (!k->people) k->people = PEOPLE;
  CU_ASSERT_EQUAL_FATAL(pthread_create(&k->thread, NULL, work, k), 0);
}

static fl_status end_worker(worker *k) {
  pthread_join(k->thread, NULL);
  return k->status;
}

/* A relay in a thread. */
typedef struct station {
  fl_relay_options options;
  fl_status status;
  char why[256];
  pthread_t thread;
} station;

static void *relay(void *of) {
  station *s = of;
  s->status = fl_relay_run(&s->options);
  if (s->status != FEDLANE_OK) snprintf(s->why, sizeof s->why, "%s", fedlane_error());
  return NULL;
}

static void start_relay(station *s, const char *address, const char *listen) {
  s->options = (fl_relay_options){.address = address, .listen = listen, .name = "relay"};
  CU_ASSERT_EQUAL_FATAL(pthread_create(&s->thread, NULL, relay, s), 0);
}

static fl_status end_relay(station *s) {
  pthread_join(s->thread, NULL);
  return s->status;
}

/* Fresh addresses: of the coordinator and of two relays. */
static char address[3][200];

static void name_addresses(void) {
  static int count;
  count++;
  for (int i = 0; i < 3; i++)
    snprintf(address[i], sizeof address[i], "ipc://%s/%d-%d", fl_test_folder(), count, i);
}

static void test_sums(void) {
  host h = {0};
  station s = {0};
  worker k[WORKERS] = {{0}};
  name_addresses();
  open_host(&h, address[0], false);
  start_relay(&s, address[0], address[1]);
  for (int i = 0; i < WORKERS; i++) start_worker(&k[i], address[i < 2 ? 1 : 0]);
  await_lanes(&h, 6);
  for (int i = 0; i < 3; i++) check_round(&h);
  close_host(&h);
  CU_ASSERT_EQUAL(end_relay(&s), FEDLANE_OK);
  for (int i = 0; i < WORKERS; i++) CU_ASSERT_EQUAL(end_worker(&k[i]), FEDLANE_OK);
}

/* A relay behind a relay; the coordinator gets one upload. */
static void test_tiers(void) {
  host h = {0};
  station s[2] = {{{0}}};
  worker k[2] = {{0}};
  name_addresses();
  open_host(&h, address[0], false);
  start_relay(&s[0], address[0], address[1]);
  start_relay(&s[1], address[1], address[2]);
  for (int i = 0; i < 2; i++) start_worker(&k[i], address[2]);
  await_lanes(&h, 4);
  check_round(&h);
  CU_ASSERT_EQUAL(h.uploads, 1);
  close_host(&h);
  for (int i = 0; i < 2; i++) CU_ASSERT_EQUAL(end_relay(&s[i]), FEDLANE_OK);
  for (int i = 0; i < 2; i++) CU_ASSERT_EQUAL(end_worker(&k[i]), FEDLANE_OK);
}

/* Workers that die, and one whose sums cannot be. */
static void test_bad_workers(void) {
  for (int liar = 0; liar < 2; liar++) {
    host h = {0};
    station s = {0};
    worker k[2] = {{.last = liar ? 0 : 2, .liar = liar}, {0}};
    name_addresses();
    open_host(&h, address[0], false);
    start_relay(&s, address[0], address[1]);
    for (int i = 0; i < 2; i++) start_worker(&k[i], address[1]);
    await_lanes(&h, 4);
    for (int i = 0; i < 2; i++) check_round(&h);
    close_host(&h);
    CU_ASSERT_EQUAL(end_relay(&s), FEDLANE_OK);
    for (int i = 0; i < 2; i++) CU_ASSERT_EQUAL(end_worker(&k[i]), FEDLANE_OK);
  }
}

/* A relay whose only worker has died leaves its blocks to others, and takes work again later. */
static void test_alone(void) {
  host h = {0};
  station s = {0};
  worker k[WORKERS] = {{.last = 2}, {0}, {0}};
  name_addresses();
  open_host(&h, address[0], false);
  start_relay(&s, address[0], address[1]);
  start_worker(&k[0], address[1]);
  start_worker(&k[1], address[0]);
  await_lanes(&h, 4);
  check_round(&h);
  check_round(&h);
  CU_ASSERT_EQUAL(end_worker(&k[0]), FEDLANE_OK);
  start_worker(&k[2], address[1]);
  await_lanes(&h, 4);
  check_round(&h);
  close_host(&h);
  CU_ASSERT_EQUAL(end_relay(&s), FEDLANE_OK);
  for (int i = 1; i < WORKERS; i++) CU_ASSERT_EQUAL(end_worker(&k[i]), FEDLANE_OK);
}

/* The coordinator goes and comes back: the relay joins again, and its worker has noticed nothing.
 */
static void test_coordinator(void) {
  host h = {0};
  station s = {0};
  worker k = {0};
  name_addresses();
  open_host(&h, address[0], false);
  start_relay(&s, address[0], address[1]);
  start_worker(&k, address[1]);
  await_lanes(&h, 2);
  check_round(&h);
  fl_fleet_close(&h.fleet, FL_BYE_REJOIN, "back soon");
  open_host(&h, address[0], false);
  await_lanes(&h, 2);
  check_round(&h);
  close_host(&h);
  CU_ASSERT_EQUAL(end_relay(&s), FEDLANE_OK);
  CU_ASSERT_EQUAL(end_worker(&k), FEDLANE_OK);
  CU_ASSERT_EQUAL(k.joined, 1);
}

/* Answers until something of this cause has been left out; FL_CAUSE_none: until a peer is welcome.
 */
static void await_cause(host *h, fl_cause cause) {
  fl_fleet_tally tally = {0};
  while (cause ? tally.cause[cause] == 0 : tally.bytes_down == 0) {
    CU_ASSERT_EQUAL_FATAL(fl_fleet_wait(h->fleet, 0, NULL), FEDLANE_OK);
    fl_fleet_tell(h->fleet, &tally);
    usleep(5000);
  }
}

/* Answers until a worker has ended; false: it has not in time. */
static bool ends(host *h, worker *k) {
  for (int i = 0; i < 4000; i++) {
    if (pthread_tryjoin_np(k->thread, NULL) == 0) return true;
    CU_ASSERT_EQUAL_FATAL(fl_fleet_wait(h->fleet, 0, NULL), FEDLANE_OK);
    usleep(5000);
  }
  return false;
}

/* A worker with other data, whenever it comes, is refused by its relay, or by a relay behind that;
 * the relay goes on with the others. */
static void test_people(void) {
  host h = {0};
  station s[2] = {{{0}}};
  worker k[2] = {{0}}, stranger[3];
  name_addresses();
  open_host(&h, address[0], false);
  for (int i = 0; i < 2; i++) start_relay(&s[i], address[i], address[i + 1]);
  await_cause(&h, FL_CAUSE_none);
  for (int i = 0; i < 3; i++) {
    stranger[i] = (worker){.people = PEOPLE + 1};
    start_worker(&stranger[i], address[1 + i % 2]);
    CU_ASSERT_FATAL(ends(&h, &stranger[i]));
    CU_ASSERT_EQUAL(stranger[i].status, FEDLANE_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(stranger[i].why, "other data"));
    if (i < 2) start_worker(&k[i], address[1 + i]);
    if (i < 2) await_lanes(&h, 2 * (uint64_t)(i + 1));
    if (i > 0) check_round(&h);
  }
  close_host(&h);
  for (int i = 0; i < 2; i++) {
    CU_ASSERT_EQUAL(end_relay(&s[i]), FEDLANE_OK);
    CU_ASSERT_EQUAL(end_worker(&k[i]), FEDLANE_OK);
  }
}

/* A coordinator that does not say which data its workers must have read: the relay asks for the
 * same of all of them, and the coordinator refuses the relay. */
static void test_people_unsaid(void) {
  host h = {0};
  station s = {0};
  worker k[2] = {{0}, {0}}, stranger[2] = {{.people = PEOPLE + 1}, {.people = PEOPLE + 1}};
  name_addresses();
  open_host_of(&h, address[0], 0, false);
  start_relay(&s, address[0], address[1]);
  await_cause(&h, FL_CAUSE_none);
  start_worker(&k[0], address[1]);
  await_lanes(&h, 2);
  start_worker(&stranger[0], address[1]);
  CU_ASSERT_EQUAL(end_worker(&stranger[0]), FEDLANE_USAGE);
  check_round(&h);
  close_host(&h);
  CU_ASSERT_EQUAL(end_relay(&s), FEDLANE_OK);
  CU_ASSERT_EQUAL(end_worker(&k[0]), FEDLANE_OK);

  h = (host){0};
  open_host_of(&h, address[0], 0, false);
  start_relay(&s, address[0], address[2]);
  await_cause(&h, FL_CAUSE_none);
  start_worker(&k[1], address[0]);
  await_lanes(&h, 2);
  start_worker(&stranger[1], address[2]);
  await_cause(&h, FL_CAUSE_shape);
  CU_ASSERT_EQUAL(end_relay(&s), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(s.why, "other data"));
  CU_ASSERT_EQUAL(end_worker(&stranger[1]), FEDLANE_IO);
  close_host(&h);
  CU_ASSERT_EQUAL(end_worker(&k[1]), FEDLANE_OK);
}

static void test_clients(void) {
  host h = {0};
  station s = {0};
  name_addresses();
  open_host(&h, address[0], true);
  start_relay(&s, address[0], address[1]);
  await_cause(&h, FL_CAUSE_none);
  CU_ASSERT_EQUAL(end_relay(&s), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(s.why, "takes clients"));
  close_host(&h);
}

static const fl_test tests[] = {
    {"a relay's sums are those of its workers", test_sums},
    {"relays behind relays", test_tiers},
    {"workers that die or lie", test_bad_workers},
    {"a relay without workers", test_alone},
    {"a coordinator that comes back", test_coordinator},
    {"workers that have read other data", test_people},
    {"data that the coordinator does not name", test_people_unsaid},
    {"fleets of clients take no relays", test_clients},
};

FL_SUITE_MAIN("relay", tests)
