/* Uploads that are mixed as they come and never get whole: what was mixed of them comes off again,
 * to the bit. And uploads whose chunks come in another order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fleet_rig.h"
#include "suite.h"

/* A bit more than 131,072 parameters: two chunks a sum. */
static const char *const text =
    "seed: 11\ndevice: cpu\n"
    "data: {format: synthetic, examples: 120, test: 20, channels: 1, height: 16, width: 16,\n"
    "       classes: 5, partition: {kind: dirichlet, clients: 16, alpha: 0.4}}\n"
    "model: {layers: [flatten, {dense: 520}, relu, {dense: 0}]}\nalgorithm: fedavg\n"
    "train: {rounds: 1, cohort: 6, batch: 8, lr: 0.1}\neval: {every: 0}\n"
    "server: {weighting: uniform}\nfleet: {patience: 1, peers: 2}\n";

enum { EACH = FL_CHUNK_BYTES / 8, LEVEL = 18 };

static int64_t filled[EACH];
static uint64_t elements; /* of the model */

/* Sums that are there, and not as they should be. */
static void fill(int64_t value) {
  for (int i = 0; i < EACH; i++) filled[i] = value - i;
}

static void join_by_hand(fl_fleet_rig *r, fl_hand *h) {
  fl_hand_open(h, r->address, NULL);
  CU_ASSERT_FATAL(fl_hand_join(h, FL_WIRE));
  elements = h->message.welcome.elements;
  CU_ASSERT_FATAL(elements > EACH && elements <= 2 * EACH);
  fl_hand_ready(h, r->people);
}

/* Reports what there is to train, all of it good, until its sum is asked for. */
static void collect(fl_hand *h, fl_update *about) {
  static const uint32_t stream = LEVEL;
  fl_work last;
  CU_ASSERT_FATAL(fl_hand_collect(h, about, &last));
  about->streams = (fl_bytes){&stream, sizeof stream};
}

static void say_update(fl_hand *h, const fl_update *about) {
  fl_message m = {.kind = FL_MESSAGE_update, .update = *about};
  fl_hand_say(h, &m, NULL, 0);
}

static void say_chunk(fl_hand *h, const fl_update *about, int i) {
  fl_chunk c = {.session = about->session,
                .round = about->round,
                .upload = about->upload,
                .stream = LEVEL,
                .payload = FL_PAYLOAD_SUM,
                .offset = (uint64_t)i * EACH};
  c.count = elements - c.offset < EACH ? elements - c.offset : EACH;
  c.body = fl_digest(filled, 8 * c.count);
  fl_message m = {.kind = FL_MESSAGE_chunk, .chunk = c};
  fl_hand_say(h, &m, filled, 8 * c.count);
}

typedef enum end { DIES, LEAVES, STOPS, LIES, TWICE } end;

/* A peer that sends the first half of an upload and ends it in some way; the worker does all. */
static void end_half_way(end how, fl_cause cause) {
  fl_fleet_rig r;
  fl_hand h;
  fl_update about;
  fl_fleet_rig_open(&r, text, FL_FLEET_RIG_TCP, 0, NULL);
  fl_fleet_rig_start(&r);
  join_by_hand(&r, &h);
  fl_hand worker; /* whose place a worker takes once the half is in */
  join_by_hand(&r, &worker);
  collect(&h, &about);
  say_update(&h, &about);
  fill(12345678901);
  say_chunk(&h, &about, 1);
  fill(INT64_MAX);
  if (how == LIES) say_chunk(&h, &about, 0);
  fill(777);
  if (how == TWICE) say_chunk(&h, &about, 1);
  fl_message leave = {.kind = FL_MESSAGE_leave, .leave = {h.session}};
  if (how == LEAVES) fl_hand_say(&h, &leave, NULL, 0);
  if (how == DIES || how == TWICE) fl_hand_close(&h);
  leave.leave.session = worker.session;
  fl_hand_say(&worker, &leave, NULL, 0);
  fl_fleet_rig_work(&r, NULL, NULL);
  if (how == STOPS) CU_ASSERT(fl_hand_hear(&h, FL_MESSAGE_bye, 20));
  if (how == LIES) {
    CU_ASSERT(fl_hand_hear(&h, FL_MESSAGE_received, 20));
    CU_ASSERT_FALSE(h.message.received.mixed);
  }
  fl_fleet_rig_close(&r);
  fl_hand_close(&h);
  fl_hand_close(&worker);
  CU_ASSERT(cause == FL_CAUSE_none || r.left_out[cause] > 0);
}

static void who_dies_half_way_leaves_no_bit(void) { end_half_way(DIES, FL_CAUSE_lost); }
static void who_leaves_half_way_leaves_no_bit(void) { end_half_way(LEAVES, FL_CAUSE_none); }
static void who_stops_half_way_leaves_no_bit(void) { end_half_way(STOPS, FL_CAUSE_unfinished); }
static void who_is_refused_half_way_leaves_no_bit(void) { end_half_way(LIES, FL_CAUSE_oversized); }
static void a_chunk_that_comes_twice_is_mixed_once(void) { end_half_way(TWICE, FL_CAUSE_twice); }

/* Waits for the end of a run that is not the one expected: its weights. */
static float *take_weights(fl_fleet_rig *r) {
  pthread_join(r->thread, NULL);
  CU_ASSERT_EQUAL(r->status, FEDLANE_DONE);
  float *w = malloc((size_t)(4 * r->P));
  CU_ASSERT_PTR_NOT_NULL_FATAL(w);
  memcpy(w, r->run->server.w, (size_t)(4 * r->P));
  CU_ASSERT(memcmp(w, r->expected, (size_t)(4 * r->P)) != 0);
  for (int i = 0; i < r->n_worker; i++)
    CU_ASSERT_EQUAL(fl_fleet_rig_join(&r->worker[i]), FEDLANE_OK);
  fedlane_close(&r->run);
  free(r->expected);
  return w;
}

/* The weights of a round that ends by its deadline, before a peer has sent anything or when half of
 * its upload is in; the other half comes too late. */
static float *cut_off(bool half) {
  static const char *const more[] = {"fleet.deadline=3", "fleet.quorum=0.1", "fleet.patience=20"};
  fl_fleet_rig r;
  fl_hand h;
  fl_update about;
  fl_fleet_rig_open(&r, text, FL_FLEET_RIG_TCP, 3, more);
  fl_fleet_rig_start(&r);
  join_by_hand(&r, &h);
  fl_fleet_rig_work(&r, NULL, NULL);
  usleep(1500000); /* the worker does all the rest */
  collect(&h, &about);
  say_update(&h, &about);
  fill(12345678901);
  if (half) say_chunk(&h, &about, 0);
  CU_ASSERT(fl_hand_hear(&h, FL_MESSAGE_cancel, 20));
  say_chunk(&h, &about, 1);
  float *w = take_weights(&r);
  CU_ASSERT(r.left_out[FL_CAUSE_late] > 0 && r.left_out[FL_CAUSE_late] < 6);
  fl_hand_close(&h);
  return w;
}

static void the_deadline_sees_no_half_uploads(void) {
  float *without = cut_off(false), *with = cut_off(true);
  CU_ASSERT(memcmp(without, with, (size_t)(4 * elements)) == 0);
  free(without);
  free(with);
}

/* The weights of a round of which a peer by hand sends all, in order or backwards. */
static float *send_all(bool backwards) {
  static const char *const more[] = {"fleet.peers=1"};
  fl_fleet_rig r;
  fl_hand h;
  fl_update about;
  fl_fleet_rig_open(&r, text, FL_FLEET_RIG_TCP, 1, more);
  fl_fleet_rig_start(&r);
  join_by_hand(&r, &h);
  collect(&h, &about);
  if (!backwards) say_update(&h, &about);
  for (int i = 0; i < 2; i++) {
    int at = backwards ? 1 - i : i;
    fill(12345678901 * (at + 1));
    say_chunk(&h, &about, at);
  }
  if (backwards) say_update(&h, &about);
  CU_ASSERT(fl_hand_hear(&h, FL_MESSAGE_received, 20));
  CU_ASSERT(h.message.received.mixed);
  float *w = take_weights(&r);
  fl_hand_close(&h);
  return w;
}

static void the_order_of_chunks_changes_no_bit(void) {
  float *forwards = send_all(false), *backwards = send_all(true);
  CU_ASSERT(memcmp(forwards, backwards, (size_t)(4 * elements)) == 0);
  free(forwards);
  free(backwards);
}

static const fl_test tests[] = {
    {"who dies half-way leaves no bit", who_dies_half_way_leaves_no_bit},
    {"who leaves half-way leaves no bit", who_leaves_half_way_leaves_no_bit},
    {"who stops half-way leaves no bit", who_stops_half_way_leaves_no_bit},
    {"who is refused half-way leaves no bit", who_is_refused_half_way_leaves_no_bit},
    {"a chunk that comes twice is mixed once", a_chunk_that_comes_twice_is_mixed_once},
    {"the deadline sees no half uploads", the_deadline_sees_no_half_uploads},
    {"the order of chunks changes no bit", the_order_of_chunks_changes_no_bit},
};

FL_SUITE_MAIN("fleet_uploads", tests)
