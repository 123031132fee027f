/* Fleets of workers end with the bits of the run that trains by itself. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "fleet_rig.h"
#include "suite.h"

#define DATA                                                                                 \
  "seed: 11\ndevice: cpu\n"                                                                  \
  "data: {format: synthetic, examples: 240, test: 40, channels: 1, height: 16, width: 16,\n" \
  "       classes: 5, partition: {kind: dirichlet, clients: 16, alpha: 0.4}}\n"
#define SMALL "model: {layers: [flatten, {dense: 12}, relu, {dropout: 0.3}, {dense: 0}]}\n"
/* 270,605 parameters: two chunks downwards, three upwards. */
#define LARGE "model: {layers: [flatten, {dense: 1033}, relu, {dense: 0}]}\n"
#define TRAIN(rounds) \
  "train: {rounds: " #rounds ", cohort: 9, epochs: 1, batch: 8, lr: 0.1}\neval: {every: 0}\n"

static const char *const small = DATA SMALL TRAIN(4) "fleet: {patience: 2}\n";
static const char *const large = DATA LARGE TRAIN(2) "fleet: {patience: 2}\n";

/* Workers of different speeds: some train a client at a time, some with two threads. */
static const char *const how[] = {"width=1", "threads=2", "width=3", "threads=1", "width=2"};

static void train_with(const char *text, fl_fleet_rig_link link, int workers,
                       const char *override) {
  char peers[32];
  const char *all[] = {peers, override};
  fl_fleet_rig r;
  snprintf(peers, sizeof peers, "fleet.peers=%d", workers);
  fl_fleet_rig_open(&r, text, link, override ? 2 : 1, all);
  fl_fleet_rig_start(&r);
  for (int i = 0; i < workers; i++) fl_fleet_rig_work(&r, how[i], NULL);
  fl_fleet_rig_close(&r);
  CU_ASSERT(r.up > 0 && r.down > 0);
  for (int c = 0; c < FL_CAUSES; c++) CU_ASSERT_EQUAL(r.left_out[c], 0);
}

static void bits_are_those_of_the_run(void) {
  static const int workers[] = {1, 2, 5};
  for (int link = 0; link < FL_FLEET_RIG_LINKS; link++)
    for (int i = 0; i < FL_COUNT(workers); i++)
      train_with(small, (fl_fleet_rig_link)link, workers[i], NULL);
}

static void of_every_algorithm(void) {
  static const char *const name[] = {"algorithm.name=fedavgm", "algorithm.name=scaffold",
                                     "algorithm.name=feddyn", "algorithm.name=fedadam"};
  for (int i = 0; i < FL_COUNT(name); i++) {
    train_with(small, FL_FLEET_RIG_LOOPBACK, 2, name[i]);
    train_with(small, FL_FLEET_RIG_TCP, 5, name[i]);
  }
}

static void models_of_several_chunks(void) {
  train_with(large, FL_FLEET_RIG_TCP, 2, NULL);
  train_with(large, FL_FLEET_RIG_IPC, 2, "algorithm.name=scaffold");
  train_with(large, FL_FLEET_RIG_LOOPBACK, 1, "algorithm.name=feddyn");
}

static void with_filters(void) {
  static const char *const text = DATA SMALL TRAIN(3)
      "filters: [{name: clip, norm: 0.5},\n"
      "          {name: gaussian, deviation: 0.01, where: clients},\n"
      "          {name: gaussian, deviation: 0.01}]\nfleet: {patience: 2}\n";
  train_with(text, FL_FLEET_RIG_TCP, 2, NULL);
}

static void cohorts_with_replacement(void) {
  train_with(small, FL_FLEET_RIG_LOOPBACK, 2, "sampler.replacement=true");
}

/* What a worker keeps for the sum in one upload is bounded, so it sends several a round. */
static void memory_for_a_client_at_a_time(void) {
  static const char *const override[] = {"fleet.memory=1", "algorithm.name=scaffold"};
  fl_fleet_rig r;
  fl_fleet_rig_open(&r, large, FL_FLEET_RIG_TCP, 2, override);
  fl_fleet_rig_start(&r);
  fl_fleet_rig_work(&r, NULL, NULL);
  fl_fleet_rig_close(&r);
  for (int c = 0; c < FL_CAUSES; c++) CU_ASSERT_EQUAL(r.left_out[c], 0);
}

/* Between a coordinator and a worker: holds the chunks of uploads back and passes them on in
 * another order, the last first, and then once more as they came. */
typedef struct meddler {
  fl_port *above, *below;
  pthread_t thread;
  fl_route route; /* of the worker */
  fl_letter held[64];
  int n_held, passed;
  atomic_bool over;
} meddler;

static void pass(meddler *m, const fl_letter *letter, bool up) {
  fl_blob *body = NULL;
  if (letter->body) fl_blob_share(letter->body, &body);
  fl_port_send(up ? m->above : m->below, up ? NULL : &m->route, false, 5, fl_blob_at(letter->head),
               fl_blob_size(letter->head), body);
}

static void pass_held(meddler *m) {
  for (int i = m->n_held - 1; i >= 0; i--) pass(m, &m->held[i], true);
  for (int i = 0; i < m->n_held; i++) pass(m, &m->held[i], true);
  m->passed += m->n_held;
  for (int i = 0; i < m->n_held; i++) fl_letter_close(&m->held[i]);
  m->n_held = 0;
}

/* All is to go through here: the worker is told of no pipeline. */
static void pass_welcome(meddler *m, const fl_message *welcome) {
  fl_message without = *welcome;
  without.welcome.pipeline.n = 0;
  size_t n = 0, room = fl_wire_room(&without);
  void *head = malloc(room);
  if (head && fl_wire_write(&without, room, head, &n) == FEDLANE_OK)
    fl_port_send(m->below, &m->route, false, 5, head, n, NULL);
  free(head);
}

static void *meddle(void *of) {
  meddler *m = of;
  while (!m->over) {
    fl_letter letter = {0};
    fl_message read;
    bool any = false;
    if (fl_port_receive(m->above, 0.001, &letter, &any) != FEDLANE_OK) break;
    if (any && fl_wire_read(fl_blob_at(letter.head), fl_blob_size(letter.head), 'C', &read) ==
                   FEDLANE_OK) {
      if (read.kind == FL_MESSAGE_welcome)
        pass_welcome(m, &read);
      else
        pass(m, &letter, false);
    }
    fl_letter_close(&letter);
    if (fl_port_receive(m->below, 0.005, &letter, &any) != FEDLANE_OK) break;
    if (!any && m->n_held) pass_held(m);
    if (!any) continue;
    m->route = letter.route;
    if (letter.body && m->n_held < FL_COUNT(m->held)) {
      m->held[m->n_held++] = letter;
      continue;
    }
    pass(m, &letter, true);
    fl_letter_close(&letter);
  }
  return NULL;
}

static void open_meddler(meddler *m, const fl_fleet_rig *r, const char *address) {
  fl_port_options options = {.patience = 10};
  *m = (meddler){0};
  CU_ASSERT_EQUAL_FATAL(fl_port_connect(r->address, &options, &m->above), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_port_bind(address, &options, &m->below), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(pthread_create(&m->thread, NULL, meddle, m), 0);
}

static void close_meddler(meddler *m) {
  m->over = true;
  pthread_join(m->thread, NULL);
  for (int i = 0; i < m->n_held; i++) fl_letter_close(&m->held[i]);
  fl_port_close(&m->above, 0);
  fl_port_close(&m->below, 0);
}

/* Workers of different speeds, each behind a meddler of its own. */
static void disorder(fl_fleet_rig_link link, int workers) {
  enum { MOST = FL_FLEET_RIG_WORKERS };
  char peers[32];
  const char *override[] = {peers, "algorithm.name=scaffold"};
  meddler m[MOST];
  char address[MOST][32];
  int passed = 0;
  fl_fleet_rig r;
  snprintf(peers, sizeof peers, "fleet.peers=%d", workers);
  fl_fleet_rig_open(&r, large, link, 2, override);
  for (int i = 0; i < workers; i++) {
    snprintf(address[i], sizeof address[i], "loopback://meddler%d", i);
    open_meddler(&m[i], &r, address[i]);
    fl_rig_work_at(&r, address[i], how[i]);
  }
  fl_fleet_rig_start(&r);
  fl_fleet_rig_close(&r);
  for (int i = 0; i < workers; i++) {
    close_meddler(&m[i]);
    passed += m[i].passed;
  }
  CU_ASSERT(passed >= 2 * 9 * 2);
  CU_ASSERT(r.left_out[FL_CAUSE_twice] + r.left_out[FL_CAUSE_stale] > 0);
  CU_ASSERT_EQUAL(r.left_out[FL_CAUSE_shape] + r.left_out[FL_CAUSE_corrupt], 0);
}

static void chunks_in_disorder(void) {
  static const int workers[] = {1, 2, 5};
  for (int i = 0; i < FL_COUNT(workers); i++) {
    disorder(FL_FLEET_RIG_IPC, workers[i]);
    disorder(FL_FLEET_RIG_TCP, workers[i]);
  }
}

static void workers_may_come_first_and_late(void) {
  static const char *const override[] = {"train.rounds=1000"};
  fl_fleet_rig r;
  fl_fleet_rig_open(&r, small, FL_FLEET_RIG_LOOPBACK, 1, override);
  fl_fleet_rig_worker *first = fl_fleet_rig_work(&r, NULL, NULL);
  fl_fleet_rig_start(&r);
  first->stop = 1;
  CU_ASSERT_EQUAL(fl_fleet_rig_join(first), FEDLANE_STOPPED);
  fl_fleet_rig_work(&r, NULL, NULL);
  fl_fleet_rig_work(&r, "width=1", NULL);
  fl_fleet_rig_close(&r);
}

static void what_is_trained_is_not_a_workers_choice(void) {
  static const struct {
    const char *override, *says;
  } wrong[] = {{"train.lr=0.2", "changes what is trained"},
               {"seed=12", "changes what is trained"},
               {"model.layers=[flatten, {dense: 0}]", "changes what is trained"},
               {"train.lrr=1", "lrr"}};
  fl_fleet_rig r;
  fl_fleet_rig_open(&r, small, FL_FLEET_RIG_LOOPBACK, 0, NULL);
  fl_fleet_rig_start(&r);
  for (int i = 0; i < FL_COUNT(wrong); i++) {
    fl_fleet_rig_worker *w = fl_fleet_rig_work(&r, wrong[i].override, NULL);
    CU_ASSERT_EQUAL(fl_fleet_rig_join(w), FEDLANE_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(w->why, wrong[i].says));
  }
  fl_fleet_rig_work(&r, "threads=2", "width=3");
  fl_fleet_rig_close(&r);
}

static void workers_must_have_read_the_same_data(void) {
  fl_quadratics here, there;
  char text[1024], path[160];
  fl_quadratics_open(&here, 6, 8, 5, 1);
  rename(here.path, strcat(strcpy(path, here.path), ".here"));
  fl_quadratics_open(&there, 6, 8, 5, 2);
  snprintf(text, sizeof text,
           "data: {format: safetensors, path: %s, partition: natural}\ndevice: cpu\n"
           "model: {layers: [{dense: 0}]}\ntrain: {rounds: 2, cohort: 3, lr: 0.01}\n",
           path);
  fl_fleet_rig r;
  fl_fleet_rig_open(&r, text, FL_FLEET_RIG_LOOPBACK, 0, NULL);
  fl_fleet_rig_start(&r);
  char other[192];
  snprintf(other, sizeof other, "data.path=%s", there.path);
  fl_fleet_rig_worker *w = fl_fleet_rig_work(&r, other, NULL);
  CU_ASSERT_EQUAL(fl_fleet_rig_join(w), FEDLANE_USAGE);
  CU_ASSERT_PTR_NOT_NULL(strstr(w->why, "other data"));
  fl_fleet_rig_work(&r, NULL, NULL);
  fl_fleet_rig_close(&r);
  fl_quadratics_close(&here);
  fl_quadratics_close(&there);
}

static const fl_test tests[] = {
    {"bits are those of the run", bits_are_those_of_the_run},
    {"of every algorithm", of_every_algorithm},
    {"models of several chunks", models_of_several_chunks},
    {"with filters", with_filters},
    {"cohorts with replacement", cohorts_with_replacement},
    {"memory for a client at a time", memory_for_a_client_at_a_time},
    {"chunks in disorder", chunks_in_disorder},
    {"workers may come first and late", workers_may_come_first_and_late},
    {"what is trained is not a worker's choice", what_is_trained_is_not_a_workers_choice},
    {"workers must have read the same data", workers_must_have_read_the_same_data},
};

FL_SUITE_MAIN("fleet", tests)
