/* How much of a round each peer is given: its part, by what it has done so far. */
#include <time.h>

#include "fleet_rig.h"
#include "suite.h"

enum { COHORT = 1024, CREDIT = 2 };

/* Clients of ten examples each, so that all units cost the same. */
static const char *const text =
    "seed: 3\ndevice: cpu\n"
    "data: {format: synthetic, examples: 10240, test: 20, channels: 1, height: 4, width: 4,\n"
    "       classes: 4, partition: {kind: iid, clients: 1024}}\n"
    "model: {layers: [flatten, {dense: 0}]}\nalgorithm: fedavg\n"
    "train: {rounds: 1, cohort: 1024, batch: 10, lr: 0.1}\neval: {every: 0}\nfleet: {peers: 2}\n";

/* Two peers by hand that are ready when the round begins, and the work that both have then. */
typedef struct pair {
  fl_fleet_rig rig;
  fl_hand hand[2];
  fl_work work[2][CREDIT];
} pair;

static fl_work hear_work(fl_hand *h) {
  CU_ASSERT_FATAL(fl_hand_hear(h, FL_MESSAGE_work, 20));
  return h->message.work;
}

static void begin(pair *p) {
  fl_fleet_rig_open(&p->rig, text, FL_FLEET_RIG_TCP, 0, NULL);
  fl_fleet_rig_start(&p->rig);
  for (int i = 0; i < 2; i++) {
    fl_hand_open(&p->hand[i], p->rig.address, NULL);
    CU_ASSERT_FATAL(fl_hand_join(&p->hand[i], FL_WIRE));
    fl_message m = {.kind = FL_MESSAGE_ready,
                    .ready = {p->hand[i].session, 1, p->rig.people, CREDIT}};
    fl_hand_say(&p->hand[i], &m, NULL, 0);
  }
  for (int i = 0; i < 2; i++)
    for (int k = 0; k < CREDIT; k++) p->work[i][k] = hear_work(&p->hand[i]);
}

/* Both leave; a worker does the round, which has to end with the bits that it should. */
static void end(pair *p) {
  for (int i = 0; i < 2; i++) {
    fl_message leave = {.kind = FL_MESSAGE_leave, .leave = {p->hand[i].session}};
    fl_hand_say(&p->hand[i], &leave, NULL, 0);
  }
  fl_fleet_rig_work(&p->rig, NULL, NULL);
  fl_fleet_rig_close(&p->rig);
  for (int i = 0; i < 2; i++) fl_hand_close(&p->hand[i]);
}

static void sleep_for(double seconds) {
  struct timespec t = {.tv_nsec = (long)(1e9 * seconds)};
  nanosleep(&t, NULL);
}

/* The first to be served gets no more than the others. */
static void who_comes_first_gets_its_part(void) {
  pair p;
  begin(&p);
  for (int i = 0; i < 2; i++) {
    CU_ASSERT_EQUAL(p.work[i][0].count, COHORT / 4);
    CU_ASSERT_EQUAL(p.work[i][1].count, COHORT / 8);
  }
  end(&p);
}

/* Two reports that arrive in one moment are of a peer that is half as fast again as one that has
 * reported its first block by then, and not of one that is faster than any, beside which the other
 * would be given single units. */
static void reports_that_come_together_are_no_speed(void) {
  pair p;
  begin(&p);
  sleep_for(0.5);
  for (int k = 0; k < CREDIT; k++) fl_hand_trained(&p.hand[0], &p.work[0][k]);
  for (int k = 0; k < CREDIT; k++) hear_work(&p.hand[0]);
  fl_hand_trained(&p.hand[1], &p.work[1][0]);
  fl_work next = hear_work(&p.hand[1]);
  CU_ASSERT(next.count >= 8 && next.count <= 16); /* 0.4 of 384, less 128, half of it */
  end(&p);
}

static const fl_test tests[] = {
    {"who comes first gets its part", who_comes_first_gets_its_part},
    {"reports that come together are no speed", reports_that_come_together_are_no_speed},
};

FL_SUITE_MAIN("fleet_work", tests)
