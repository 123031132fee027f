/* Fleets whose weights and sums travel by NCCL, here by its stand-in: a coordinator and workers in
 * threads of their own, each with a pretend GPU of its own. They end with the bits of the run that
 * trains by itself, whatever becomes of the ties. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "fleet/serve.h"
#include "fleet/tied.h"
#include "fleet_rig.h"
#include "suite.h"
#ifdef FL_CUDA_ON_HOST
#include "settings.h"

#define TEXT(width, cohort)                                                               \
  "seed: 11\ndevice: cuda-on-host\nprecision: fp32\n"                                     \
  "data: {format: synthetic, examples: 90, test: 10, channels: 1, height: 4, width: 4,\n" \
  "       classes: 5, partition: {kind: dirichlet, clients: 12, alpha: 0.4}}\n"           \
  "model: {layers: [flatten, {dense: " #width                                             \
  "}, relu, {dense: 0}]}\n"                                                               \
  "train: {resident: false, rounds: 3, cohort: " #cohort                                  \
  ", batch: 8, lr: 0.1}\n"                                                                \
  "eval: {every: 0}\nfleet: {patience: 4}\n"

static const char *const text = TEXT(12, 7);
/* Vectors much larger than what is said beside them, and few clients to train. */
static const char *const wide = TEXT(400, 2);
static const char *const gpu[] = {"device=cuda-on-host:0", "device=cuda-on-host:1",
                                  "device=cuda-on-host:2", "device=cuda-on-host:3"};

static int faults;
static void count_fault(const char *sentence) {
  (void)sentence;
  faults++;
}

/* A device for the coordinator, and one for each of three workers. */
static void machines(void) {
  fl_host_revive();
  fl_host_defaults();
  fl_host_set()->devices = FL_COUNT(gpu);
  fl_host_set()->on_fault = count_fault;
  faults = 0;
}

static void begin_with(fl_fleet_rig *r, const char *run, int workers, const char *a,
                       const char *b) {
  char peers[32];
  const char *all[] = {peers, a, b};
  snprintf(peers, sizeof peers, "fleet.peers=%d", workers);
  machines();
  fl_fleet_rig_open(r, run, FL_FLEET_RIG_TCP, 1 + (a != NULL) + (b != NULL), all);
}

static void begin(fl_fleet_rig *r, int workers, const char *a, const char *b) {
  begin_with(r, text, workers, a, b);
}

static void end(fl_fleet_rig *r) {
  fl_fleet_rig_close(r);
  machines();
}

/* But for this cause, and what a machine with other things to do leaves out: a worker may be slow,
 * or so late with its data that it has to join once more. */
static void nothing_left_out(const fl_fleet_rig *r, fl_cause but) {
  for (int c = 0; c < FL_CAUSES; c++) {
    if (c == (int)but || c == FL_CAUSE_slow || c == FL_CAUSE_stale || r->left_out[c] == 0) continue;
    printf("  left out: %s\n", fl_cause_name((fl_cause)c));
    CU_FAIL("something was left out");
  }
}

static int64_t vector_bytes(const fl_fleet_rig *r) { return 4 * r->P; }

/* With several algorithms: vectors that travel with the weights, and vectors that clients keep,
 * which go in chunks. */
static void bits_are_those_of_the_run(void) {
  static const char *const name[] = {"algorithm.name=fedavg", "algorithm.name=scaffold",
                                     "algorithm.name=feddyn"};
  for (int i = 0; i < FL_COUNT(name); i++)
    for (int workers = 1; workers <= 3; workers++) {
      fl_fleet_rig r;
      begin(&r, workers, name[i], "fleet.sums=nccl");
      fl_fleet_rig_start(&r);
      for (int k = 1; k <= workers; k++) fl_fleet_rig_work(&r, gpu[k], NULL);
      end(&r);
      nothing_left_out(&r, FL_CAUSE_none);
      CU_ASSERT_EQUAL(faults, 0);
    }
}

/* Bytes of frames without ties and with them: neither a model nor a sum is in them then. */
static void only_control_goes_by_zeromq(void) {
  int64_t up[2], down[2];
  for (int tied = 0; tied < 2; tied++) {
    fl_fleet_rig r;
    begin_with(&r, wide, 1, tied ? NULL : "fleet.sums=zeromq", NULL);
    fl_fleet_rig_start(&r);
    fl_fleet_rig_work(&r, gpu[1], NULL);
    end(&r);
    up[tied] = r.up;
    down[tied] = r.down;
    CU_ASSERT(tied ? r.up < vector_bytes(&r) : r.up > 2 * 3 * vector_bytes(&r));
    CU_ASSERT(tied ? r.down < vector_bytes(&r) : r.down > 3 * vector_bytes(&r));
  }
  CU_ASSERT(up[1] < up[0] && down[1] < down[0]);
}

/* `auto` ties those that can be, and the others do as ever: here one that does not want to. */
static void who_has_none_goes_by_zeromq(void) {
  char said[256];
  fl_fleet_rig r;
  begin(&r, 2, NULL, NULL);
  fl_fleet_rig_work(&r, gpu[1], "fleet.sums=zeromq");
  fl_fleet_rig_work(&r, gpu[2], NULL);
  CU_ASSERT_EQUAL(fl_serving_wait(r.run), FEDLANE_OK);
  fl_serving_say(r.run->fleet, said, sizeof said);
  CU_ASSERT_STRING_EQUAL(
      said, "weights and sums travel by NCCL as far as it reaches; workers that have it: 1");
  fl_fleet_rig_start(&r);
  end(&r);
  nothing_left_out(&r, FL_CAUSE_none);
}

/* Nobody has it: the run is as ever, and says why. */
static void nobody_has_it(void) {
  char said[256];
  fl_fleet_rig r;
  begin(&r, 1, NULL, NULL);
  fl_host_set()->nccl = false;
  fl_fleet_rig_work(&r, gpu[1], NULL);
  CU_ASSERT_EQUAL(fl_serving_wait(r.run), FEDLANE_OK);
  fl_serving_say(r.run->fleet, said, sizeof said);
  CU_ASSERT_PTR_NOT_NULL(strstr(said, "by ZeroMQ: this worker cannot use NCCL: libnccl.so.2"));
  fl_fleet_rig_start(&r);
  end(&r);
}

/* A coordinator that must use it and cannot does not begin. */
static void a_coordinator_without_it(void) {
  static const struct {
    const char *override[3], *says;
  } wrong[] = {{{"fleet.sums=nccl", "device=cpu"}, "the coordinator's device is no NVIDIA GPU"},
               {{"fleet.sums=nccl", "fleet.clients=real"}, "real clients"},
               {{"fleet.sums=nccl"}, "libnccl.so.2 cannot be loaded"}};
  for (int i = 0; i < FL_COUNT(wrong); i++) {
    const char *all[3] = {"fleet.listen=loopback://without"};
    int n = 1;
    fedlane_run *run = NULL;
    for (int k = 0; k < 2 && wrong[i].override[k]; k++) all[n++] = wrong[i].override[k];
    machines();
    fl_host_set()->nccl = i != 2;
    CU_ASSERT_EQUAL(fl_fixture_open(text, n, all, FL_OPEN_SERVE, &run), FEDLANE_USAGE);
    CU_ASSERT_PTR_EQUAL(strstr(fedlane_error(), "fleet.sums is nccl, but "), fedlane_error());
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), wrong[i].says));
    fedlane_close(&run);
  }
  machines();
}

/* Workers that must use it and cannot are refused with a sentence; another one does the work. */
static void workers_without_it(void) {
  static const struct {
    const char *a, *b, *says;
  } wrong[] = {{"device=cpu", NULL, "its device is no NVIDIA GPU"},
               {"device=cuda-on-host:1", "fleet.sums=zeromq", "has not offered to use NCCL"},
               {"device=cuda-on-host:1", NULL, "version 22304 of NCCL and the coordinator 22209"}};
  fl_fleet_rig r;
  begin(&r, 1, "fleet.sums=nccl", NULL);
  fl_serving_close(r.run, false);
  fl_host_set()->nccl_version = 22209;
  CU_ASSERT_EQUAL_FATAL(fl_serving_open(r.run), FEDLANE_OK);
  snprintf(r.address, sizeof r.address, "%s", fl_serving_address(r.run->fleet));
  fl_host_set()->nccl_version = 22304;
  fl_fleet_rig_start(&r);
  for (int i = 0; i < FL_COUNT(wrong); i++) {
    fl_fleet_rig_worker *w = fl_fleet_rig_work(&r, wrong[i].a, wrong[i].b);
    CU_ASSERT_EQUAL(fl_fleet_rig_join(w), FEDLANE_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(w->why, wrong[i].says));
    if (!strstr(w->why, wrong[i].says)) printf("  %s\n", w->why);
  }
  fl_host_set()->nccl_version = 22209;
  fl_fleet_rig_work(&r, gpu[2], NULL);
  end(&r);
}

/* NCCL cannot cross where ZeroMQ can: found out once, after which everything goes by ZeroMQ. */
static void a_network_that_ties_cannot_cross(void) {
  fl_fleet_rig r;
  begin(&r, 2, "fleet.patience=0.3", NULL);
  fl_host_set()->reachable = false;
  fl_fleet_rig_start(&r);
  for (int k = 1; k <= 2; k++) fl_fleet_rig_work(&r, gpu[k], NULL);
  end(&r);
  CU_ASSERT_EQUAL(r.left_out[FL_CAUSE_tie], 0);
}

/* The k-th send of all hangs: a model on its way down, or sums on their way up. After the patience
 * it goes by ZeroMQ, and in the next round both sides try again. */
static void who_hangs_in_the_midst(void) {
  int again = 0;
  for (int k = 1; k <= 4; k++) {
    fl_fleet_rig r;
    begin(&r, 2, "fleet.patience=0.5", "train.rounds=2");
    fl_host_set()->hung_after = k;
    fl_fleet_rig_start(&r);
    for (int w = 1; w <= 2; w++) fl_fleet_rig_work(&r, gpu[w], NULL);
    fl_fleet_rig_close(&r);
    CU_ASSERT_EQUAL(fl_host_set()->hung_after, 0);
    again += (int)r.left_out[FL_CAUSE_tie];
    CU_ASSERT_EQUAL(r.left_out[FL_CAUSE_shape] + r.left_out[FL_CAUSE_oversized], 0);
    machines();
  }
  CU_ASSERT(again > 0);
}

/* A tie that has been of use and breaks is made anew: with the k-th send hung, the second round
 * goes by ZeroMQ, from its model on or from its sums on, and the others do not. */
static void the_next_round_tries_again(void) {
  for (int k = 3; k <= 4; k++) {
    fl_fleet_rig r;
    begin_with(&r, wide, 1, "train.rounds=4", NULL);
    fl_host_set()->hung_after = k;
    fl_fleet_rig_start(&r);
    fl_fleet_rig_work(&r, gpu[1], NULL);
    fl_fleet_rig_close(&r);
    double vector = (double)vector_bytes(&r), down = (double)r.down, up = (double)r.up;
    CU_ASSERT_EQUAL(fl_host_set()->hung_after, 0);
    CU_ASSERT((k == 3) == (down > vector) && up > 2 * vector);
    CU_ASSERT(down < 2 * vector && up < 3 * vector);
    CU_ASSERT_EQUAL(r.left_out[FL_CAUSE_tie], k == 4);
    nothing_left_out(&r, FL_CAUSE_tie); /* and nothing is trained twice */
    if (CU_get_number_of_failures()) printf("  %g, %g vectors\n", down / vector, up / vector);
    machines();
  }
}

/* A worker made by hand, with a tie and its device. */
typedef struct tied_hand {
  fl_hand hand;
  fl_devices own;
  fl_tied tied;
  fl_update about;
  double until;
} tied_hand;

/* It has trained whatever it was given, and is asked for the sums, for which it names these
 * streams. */
static void begin_by_hand(fl_fleet_rig *r, tied_hand *h, const uint32_t *stream, size_t n) {
  const char *device = gpu[3] + strlen("device=");
  fl_hand *hand = &h->hand;
  fl_work last;
  bool asked = false;
  begin(r, 2, "fleet.patience=1", "server.weighting=uniform");
  memset(h, 0, sizeof *h);
  CU_ASSERT_EQUAL_FATAL(fl_devices_open(device, FL_MATH_FP32, 0, &h->own), FEDLANE_OK);
  fl_fleet_rig_start(r);
  fl_hand_open(hand, r->address, NULL);
  CU_ASSERT_FATAL(fl_hand_join(hand, FL_WIRE));
  fl_message offer = {.kind = FL_MESSAGE_offer,
                      .offer = {.session = hand->session, .version = 22304}};
  fl_hand_say(hand, &offer, NULL, 0);
  CU_ASSERT_FATAL(fl_hand_hear(hand, FL_MESSAGE_accept, 20));
  CU_ASSERT_EQUAL_FATAL(hand->message.accept.id.n, FL_TIE_BYTES);
  h->tied.ops = h->own.ops->tie;
  CU_ASSERT_EQUAL_FATAL(fl_tied_open(&h->tied, h->own.dev[0], hand->message.accept.id.at, 1),
                        FEDLANE_OK);
  fl_hand_ready(hand, r->people);
  fl_fleet_rig_work(r, gpu[1], NULL);
  for (int i = 0; i < 5 && !asked; i++) asked = fl_hand_collect(hand, &h->about, &last);
  CU_ASSERT_FATAL(asked);
  h->about.streams = (fl_bytes){stream, n * sizeof *stream};
  fl_message update = {.kind = FL_MESSAGE_update, .update = h->about};
  fl_hand_say(hand, &update, NULL, 0);
}

static void end_by_hand(fl_fleet_rig *r, tied_hand *h, fl_cause cause) {
  fl_hand_close(&h->hand);
  fl_fleet_rig_close(r);
  fl_tied_close(&h->tied);
  fl_devices_close(&h->own);
  CU_ASSERT_EQUAL(r->left_out[cause], 1);
  machines();
}

/* It is never heard of again. */
static void who_dies_in_the_midst(void) {
  static const uint32_t stream = FL_TIED | 18;
  fl_fleet_rig r;
  tied_hand h;
  begin_by_hand(&r, &h, &stream, 1);
  end_by_hand(&r, &h, FL_CAUSE_tie);
}

static bool late(void *of) { return fl_fleet_rig_now() > *(const double *)of; }

/* Sums larger than its clients can have made, on either side of 0. */
static void sums_are_looked_at(void) {
  static const int64_t value[] = {INT64_MAX, INT64_MIN, INT64_C(1) << 62};
  static const uint32_t stream = FL_TIED | 18;
  for (int i = 0; i < FL_COUNT(value); i++) {
    fl_fleet_rig r;
    tied_hand h;
    void *at = NULL;
    begin_by_hand(&r, &h, &stream, 1);
    int64_t *sum = calloc((size_t)r.P, sizeof *sum);
    CU_ASSERT_PTR_NOT_NULL_FATAL(sum);
    sum[r.P - 1] = value[i];
    CU_ASSERT_EQUAL_FATAL(h.own.ops->alloc(h.own.dev[0], 8 * r.P, &at), FEDLANE_OK);
    CU_ASSERT_EQUAL(h.own.ops->upload(h.own.dev[0], at, sum, 8 * r.P), FEDLANE_OK);
    h.until = fl_fleet_rig_now() + 20;
    CU_ASSERT(fl_tied_move(&h.tied, true, at, 8 * r.P, late, &h.until));
    CU_ASSERT(fl_hand_hear(&h.hand, FL_MESSAGE_received, 20));
    CU_ASSERT_FALSE(h.hand.message.received.mixed);
    h.own.ops->release(h.own.dev[0], &at);
    free(sum);
    end_by_hand(&r, &h, FL_CAUSE_oversized);
  }
}

static void streams_are_looked_at(void) {
  static const uint32_t wrong[][2] = {{FL_TIED | 18, FL_TIED | 18}, /* twice */
                                      {FL_TIED | 18, FL_TIED | 60}, /* no level */
                                      {FL_TIED | 18, FL_TIED | 82}, /* another update */
                                      {FL_TIED | 18, FL_TIED | FL_STREAM_OWN}};
  for (int i = 0; i < FL_COUNT(wrong); i++) {
    fl_fleet_rig r;
    tied_hand h;
    begin_by_hand(&r, &h, wrong[i], 2);
    CU_ASSERT(fl_hand_hear(&h.hand, FL_MESSAGE_received, 20));
    end_by_hand(&r, &h, FL_CAUSE_shape);
  }
}

static const fl_test tests[] = {
    {"bits are those of the run", bits_are_those_of_the_run},
    {"only control goes by ZeroMQ", only_control_goes_by_zeromq},
    {"who has none goes by ZeroMQ", who_has_none_goes_by_zeromq},
    {"nobody has it", nobody_has_it},
    {"a coordinator without it", a_coordinator_without_it},
    {"workers without it", workers_without_it},
    {"a network that ties cannot cross", a_network_that_ties_cannot_cross},
    {"who hangs in the midst", who_hangs_in_the_midst},
    {"the next round tries again", the_next_round_tries_again},
    {"who dies in the midst", who_dies_in_the_midst},
    {"sums are looked at", sums_are_looked_at},
    {"streams are looked at", streams_are_looked_at},
};
#else
static void skipped(void) { printf("skipped: no pretend GPUs in this build\n"); }
static const fl_test tests[] = {{"ties of pretend GPUs", skipped}};
#endif

FL_SUITE_MAIN("fleet_ties", tests)
