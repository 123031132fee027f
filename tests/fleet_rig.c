#include "fleet_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fixture.h"
#include "fleet/serve.h"
#include "suite.h"

enum { ROUNDS_SECONDS = 120 }; /* that all rounds may take, once a test has done its part */

static void address_of(fl_fleet_rig_link link, char *out, size_t size) {
  static int count;
  count++;
  if (link == FL_FLEET_RIG_LOOPBACK) snprintf(out, size, "fleet.listen=loopback://rig-%d", count);
  if (link == FL_FLEET_RIG_IPC)
    snprintf(out, size, "fleet.listen=ipc://%s/rig-%d", fl_test_folder(), count);
  if (link == FL_FLEET_RIG_TCP) snprintf(out, size, "fleet.listen=tcp://127.0.0.1:0");
}

/* What a run leaves when it trains by itself, trained once for the tests that follow one another.
 * The caller frees. */
static float *expect(const fedlane_run *run, const char *text, int n, const char *const *override) {
  enum { NAME = 64 };
  static char trained[NAME];
  static float *w;
  char name[NAME];
  int64_t P = 0;
  snprintf(name, NAME, "%s %s %lld", run->config->digest, run->config->general.device,
           (long long)run->config->train.rounds);
  if (strcmp(name, trained) != 0) {
    free(w);
    w = fl_fixture_train(text, n, override, &P, NULL);
    CU_ASSERT_EQUAL_FATAL(P, run->server.P);
    snprintf(trained, NAME, "%s", name);
  }
  float *copy = malloc((size_t)(4 * run->server.P));
  CU_ASSERT_FATAL(w && copy);
  return memcpy(copy, w, (size_t)(4 * run->server.P));
}

void fl_fleet_rig_open(fl_fleet_rig *r, const char *text, fl_fleet_rig_link link, int n,
                       const char *const *override) {
  enum { MOST = 8 };
  char listen[320];
  const char *all[MOST + 1] = {listen};
  memset(r, 0, sizeof *r);
  CU_ASSERT_FATAL(n <= MOST);
  for (int i = 0; i < n; i++) all[1 + i] = override[i];
  address_of(link, listen, sizeof listen);
  fl_status status = fl_fixture_open(text, 1 + n, all, FL_OPEN_SERVE, &r->run);
  if (status != FEDLANE_OK) printf("no coordinator: %s\n", fedlane_error());
  CU_ASSERT_EQUAL_FATAL(status, FEDLANE_OK);
  r->P = r->run->server.P;
  r->expected = expect(r->run, text, n, override);
  snprintf(r->address, sizeof r->address, "%s", fl_serving_address(r->run->fleet));
  r->people = fl_run_people(r->run);
}

static void note(fl_fleet_rig *r, const fedlane_metrics *m) {
  r->up += m->bytes_up;
  r->down += m->bytes_down;
  for (int i = 0; i < FEDLANE_CAUSES_MAX && m->left_out[i].name; i++)
    for (int c = 0; c < FL_CAUSES; c++)
      if (strcmp(m->left_out[i].name, fl_cause_name((fl_cause)c)) == 0)
        r->left_out[c] += m->left_out[i].count;
}

static void *serve(void *of) {
  fl_fleet_rig *r = of;
  fedlane_metrics m;
  r->status = fl_serving_wait(r->run);
  while (r->status == FEDLANE_OK) {
    r->status = fedlane_round(r->run, &m);
    if (r->status == FEDLANE_OK) note(r, &m);
  }
  fl_serving_close(r->run, r->status == FEDLANE_DONE);
  return NULL;
}

void fl_fleet_rig_start(fl_fleet_rig *r) {
  CU_ASSERT_EQUAL_FATAL(pthread_create(&r->thread, NULL, serve, r), 0);
}

static void *work(void *of) {
  fl_fleet_rig_worker *w = of;
  w->status = fl_worker_run(&w->options);
  if (w->status != FEDLANE_OK) snprintf(w->why, sizeof w->why, "%s", fedlane_error());
  return NULL;
}

static void hear_word(void *of, const char *sentence) {
  fl_fleet_rig_worker *w = of;
  w->waits += strstr(sentence, "waiting for a place") != NULL;
}

static fl_fleet_rig_worker *start(fl_fleet_rig *r, const char *address, const char *a,
                                  const char *b, const fl_security *security) {
  fl_fleet_rig_worker *w = &r->worker[r->n_worker++];
  w->override[0] = "threads=1";
  w->override[1] = a;
  w->override[2] = b;
  w->options = (fl_work_options){.address = address,
                                 .name = "worker",
                                 .security = *security,
                                 .n_override = 1 + (a != NULL) + (b != NULL),
                                 .override = w->override,
                                 .stop = &w->stop,
                                 .tell = hear_word,
                                 .of = w};
  CU_ASSERT_EQUAL_FATAL(pthread_create(&w->thread, NULL, work, w), 0);
  return w;
}

fl_fleet_rig_worker *fl_fleet_rig_work(fl_fleet_rig *r, const char *a, const char *b) {
  return start(r, r->address, a, b, &(fl_security){0});
}

fl_fleet_rig_worker *fl_rig_work_at(fl_fleet_rig *r, const char *address, const char *a) {
  return start(r, address, a, NULL, &(fl_security){0});
}

fl_fleet_rig_worker *fl_rig_work_with(fl_fleet_rig *r, const fl_security *security) {
  return start(r, r->address, NULL, NULL, security);
}

fl_status fl_fleet_rig_join(fl_fleet_rig_worker *w) {
  if (w->options.address) pthread_join(w->thread, NULL);
  w->options.address = NULL;
  return w->status;
}

/* Rounds that do not end are stopped, with the workers that would look for the coordinator. */
static void wait_for_rounds(fl_fleet_rig *r) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += ROUNDS_SECONDS;
  if (pthread_timedjoin_np(r->thread, NULL, &until) == 0) return;
  CU_FAIL("the rounds do not end");
  fedlane_stop(r->run);
  for (int i = 0; i < r->n_worker; i++) r->worker[i].stop = 1;
  pthread_join(r->thread, NULL);
}

void fl_fleet_rig_close(fl_fleet_rig *r) {
  wait_for_rounds(r);
  CU_ASSERT_EQUAL(r->status, FEDLANE_DONE);
  CU_ASSERT_EQUAL(r->run->server.P, r->P);
  CU_ASSERT(memcmp(r->run->server.w, r->expected, (size_t)(4 * r->P)) == 0);
  for (int i = 0; i < r->n_worker; i++)
    if (r->worker[i].options.address) CU_ASSERT_EQUAL(fl_fleet_rig_join(&r->worker[i]), FEDLANE_OK);
  fedlane_close(&r->run);
  free(r->expected);
}

double fl_fleet_rig_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void fl_hand_open(fl_hand *h, const char *address, const fl_security *security) {
  fl_port_options options = {.patience = 10};
  memset(h, 0, sizeof *h);
  if (security) options.security = *security;
  CU_ASSERT_EQUAL_FATAL(fl_port_connect(address, &options, &h->port), FEDLANE_OK);
}

void fl_hand_close(fl_hand *h) {
  fl_letter_close(&h->letter);
  fl_port_close(&h->port, 1);
}

void fl_hand_say(fl_hand *h, const fl_message *m, const void *body, size_t n) {
  size_t room = fl_wire_room(m), size = 0;
  fl_blob *blob = NULL;
  void *head = malloc(room);
  CU_ASSERT_PTR_NOT_NULL_FATAL(head);
  CU_ASSERT_EQUAL_FATAL(fl_wire_write(m, room, head, &size), FEDLANE_OK);
  if (body) {
    CU_ASSERT_EQUAL_FATAL(fl_blob_open(n, &blob), FEDLANE_OK);
    memcpy(fl_blob_at(blob), body, n);
  }
  CU_ASSERT_EQUAL(fl_port_send(h->port, NULL, false, 10, head, size, blob), FL_SENT);
  free(head);
}

/* The next message; false: it did not come in time. */
static bool hear_any(fl_hand *h, double seconds) {
  bool any = false;
  fl_letter_close(&h->letter);
  CU_ASSERT_EQUAL_FATAL(fl_port_receive(h->port, seconds, &h->letter, &any), FEDLANE_OK);
  if (any)
    CU_ASSERT_EQUAL_FATAL(
        fl_wire_read(fl_blob_at(h->letter.head), fl_blob_size(h->letter.head), 'C', &h->message),
        FEDLANE_OK);
  return any;
}

bool fl_hand_hear(fl_hand *h, fl_message_kind kind, double seconds) {
  for (double until = fl_fleet_rig_now() + seconds; fl_fleet_rig_now() < until;)
    if (hear_any(h, until - fl_fleet_rig_now()) && h->message.kind == kind) return true;
  return false;
}

bool fl_hand_join(fl_hand *h, uint64_t wire) {
  fl_message m = {.kind = FL_MESSAGE_hello,
                  .hello = {.wire = wire, .name = {"hand", 4}, .program = {"test", 4}}};
  fl_hand_say(h, &m, NULL, 0);
  if (!fl_hand_hear(h, wire == FL_WIRE ? FL_MESSAGE_welcome : FL_MESSAGE_bye, 20)) return false;
  if (h->message.kind == FL_MESSAGE_bye) return false;
  h->session = h->message.welcome.session;
  h->units = 0;
  return true;
}

void fl_hand_ready(fl_hand *h, uint64_t people) {
  h->people = people;
  fl_message m = {.kind = FL_MESSAGE_ready, .ready = {h->session, 1, people, 1}};
  fl_hand_say(h, &m, NULL, 0);
}

void fl_hand_trained(fl_hand *h, const fl_work *w) {
  size_t n = (size_t)w->count;
  for (uint64_t u = w->first; u < w->first + n && u < 64; u++) h->units |= UINT64_C(1) << u;
  void *zeros = calloc(n, 8);
  uint8_t *good = malloc(n);
  CU_ASSERT_FATAL(zeros && good);
  memset(good, 1, n);
  fl_message m = {.kind = FL_MESSAGE_trained,
                  .trained = {.session = h->session,
                              .round = w->round,
                              .block = w->block,
                              .loss = {zeros, 8 * n},
                              .hit = {zeros, 8 * n},
                              .good = {good, n}}};
  fl_hand_say(h, &m, NULL, 0);
  free(zeros);
  free(good);
}

/* Does what keeps a peer in the fleet: answers pings, and joins again when its session has ended;
 * true: that was so. */
static bool stay(fl_hand *h) {
  fl_message pong = {.kind = FL_MESSAGE_pong, .pong = {h->session, h->message.ping.round}};
  if (h->message.kind == FL_MESSAGE_ping) fl_hand_say(h, &pong, NULL, 0);
  if (h->message.kind != FL_MESSAGE_bye || h->message.bye.session != h->session ||
      h->message.bye.code != FL_BYE_REJOIN)
    return false;
  CU_ASSERT_FATAL(fl_hand_join(h, FL_WIRE));
  fl_hand_ready(h, h->people);
  return true;
}

bool fl_hand_work(fl_hand *h, double seconds) {
  for (double until = fl_fleet_rig_now() + seconds; fl_fleet_rig_now() < until;) {
    if (!hear_any(h, until - fl_fleet_rig_now())) continue;
    if (h->message.kind == FL_MESSAGE_work) return true;
    stay(h);
  }
  return false;
}

bool fl_hand_collect(fl_hand *h, fl_update *about, fl_work *last) {
  static uint32_t block[FL_UPLOAD_BLOCKS];
  size_t n = 0;
  uint64_t units = 0;
  for (double until = fl_fleet_rig_now() + 20; fl_fleet_rig_now() < until;) {
    if (!hear_any(h, 0.1)) continue;
    if (stay(h)) {
      n = 0;
      units = 0;
    } else if (h->message.kind == FL_MESSAGE_work) {
      *last = h->message.work;
      block[n++] = (uint32_t)last->block;
      units += last->count;
      fl_hand_trained(h, last);
    } else if (h->message.kind == FL_MESSAGE_collect) {
      *about = (fl_update){.session = h->session,
                           .round = h->message.collect.round,
                           .upload = h->message.collect.upload,
                           .payload = FL_PAYLOAD_SUM,
                           .weight = units,
                           .blocks = {block, n * sizeof *block}};
      return true;
    }
  }
  return false;
}
