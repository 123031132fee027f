/* Peers that break off, lie or do not keep to the messages: what they do is left out and counted,
 * and the round ends with the bits that it should. */
#include <math.h>
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
    "model: {layers: [flatten, {dense: 520}, relu, {dense: 0}]}\nalgorithm: scaffold\n"
    "train: {rounds: 1, cohort: 6, batch: 8, lr: 0.1}\neval: {every: 0}\n"
    "fleet: {patience: 1, peers: 2}\n";

enum { CHUNKS = 2, EACH = FL_CHUNK_BYTES / 8, UNITS = 6 };

static int64_t filled[EACH];
static uint64_t elements; /* of the model */

/* A coordinator with n settings of its own, and a peer by hand that takes work. */
static void begin_alone(fl_fleet_rig *r, fl_hand *h, int n, const char *const *set) {
  fl_fleet_rig_open(r, text, FL_FLEET_RIG_TCP, n, set);
  fl_fleet_rig_start(r);
  fl_hand_open(h, r->address, NULL);
  CU_ASSERT_FATAL(fl_hand_join(h, FL_WIRE));
  elements = h->message.welcome.elements;
  CU_ASSERT_FATAL(elements > EACH && elements <= CHUNKS * EACH);
  fl_hand_ready(h, r->people);
}

/* The same waiting for two peers, and a worker. */
static void begin(fl_fleet_rig *r, fl_hand *h) {
  begin_alone(r, h, 0, NULL);
  fl_fleet_rig_work(r, NULL, NULL);
}

static void end(fl_fleet_rig *r, fl_hand *h, fl_cause cause) {
  fl_hand_close(h);
  fl_fleet_rig_close(r);
  CU_ASSERT(r->left_out[cause] > 0);
  if (r->left_out[cause] == 0) printf("nothing was left out as %s\n", fl_cause_name(cause));
}

static fl_chunk chunk_of(const fl_update *about, uint32_t stream, int i) {
  fl_chunk c = {.session = about->session,
                .round = about->round,
                .upload = about->upload,
                .stream = stream,
                .payload = FL_PAYLOAD_SUM,
                .offset = (uint64_t)i * EACH};
  c.count = elements - c.offset < EACH ? elements - c.offset : EACH;
  return c;
}

static void say_chunk(fl_hand *h, fl_chunk c, const void *body, size_t n) {
  if (c.body == 0) c.body = fl_digest(body, n);
  fl_message m = {.kind = FL_MESSAGE_chunk, .chunk = c};
  fl_hand_say(h, &m, body, n);
}

static void say_update(fl_hand *h, const fl_update *about) {
  fl_message m = {.kind = FL_MESSAGE_update, .update = *about};
  fl_hand_say(h, &m, NULL, 0);
}

/* Lists the vectors that units keep; bytes of it. */
static size_t list_own(uint64_t units, uint32_t *stream) {
  size_t n = 0;
  for (uint32_t u = 0; u < UNITS; u++)
    if (units >> u & 1) stream[n++] = FL_STREAM_OWN + u;
  return n * sizeof *stream;
}

/* An upload of one stream of sums, and of what units keep, changed by `change` before it is sent.
 */
typedef struct lie {
  const char *name;
  void (*change)(fl_update *about, fl_chunk *c);
  int64_t value; /* of all sums */
  fl_cause cause;
} lie;

static void wrong_round(fl_update *about, fl_chunk *c) { about->round = c->round = 77; }
static void wrong_upload(fl_update *about, fl_chunk *c) { about->upload = c->upload += 5; }
static void wrong_kind(fl_update *about, fl_chunk *c) {
  (void)about;
  c->payload = FL_PAYLOAD_BF16;
  c->count = elements - c->offset < 4 * EACH ? elements - c->offset : 4 * EACH;
}
static void wrong_offset(fl_update *about, fl_chunk *c) {
  (void)about;
  c->offset += 3;
}
static void wrong_digest(fl_update *about, fl_chunk *c) {
  (void)about;
  c->body = 1;
}
static void wrong_weight(fl_update *about, fl_chunk *c) {
  (void)c;
  about->weight++;
}
static void wrong_stream(fl_update *about, fl_chunk *c) {
  static uint32_t stream[1 + UNITS];
  memcpy(stream, about->streams.at, about->streams.n);
  about->streams.at = stream;
  c->stream = *stream = 60;
}
static void unknown_stream(fl_update *about, fl_chunk *c) {
  (void)about;
  c->stream = 4000000000u;
}
static void wrong_session(fl_update *about, fl_chunk *c) { about->session = c->session ^= 1 << 30; }
static void no_change(fl_update *about, fl_chunk *c) {
  (void)about;
  (void)c;
}

static const lie lies[] = {
    {"wrong round", wrong_round, 0, FL_CAUSE_stale},
    {"wrong upload", wrong_upload, 0, FL_CAUSE_stale},
    {"wrong session", wrong_session, 0, FL_CAUSE_stale},
    {"wrong kind", wrong_kind, 0, FL_CAUSE_shape},
    {"wrong offset", wrong_offset, 0, FL_CAUSE_shape},
    {"wrong stream", wrong_stream, 0, FL_CAUSE_shape},
    {"unknown stream", unknown_stream, 0, FL_CAUSE_shape},
    {"wrong weight", wrong_weight, 0, FL_CAUSE_shape},
    {"wrong digest", wrong_digest, 0, FL_CAUSE_corrupt},
    {"sums too large", no_change, INT64_MAX, FL_CAUSE_oversized},
    {"sums too small", no_change, INT64_MIN, FL_CAUSE_oversized},
};

/* What the peer says is right, but for the lie. */
static void one_lie(const lie *l) {
  uint32_t stream[1 + UNITS] = {1};
  fl_fleet_rig r;
  fl_hand h;
  fl_update about;
  fl_work last;
  begin(&r, &h);
  CU_ASSERT_FATAL(fl_hand_collect(&h, &about, &last));
  about.streams = (fl_bytes){stream, sizeof *stream + list_own(h.units, stream + 1)};
  for (int i = 0; i < EACH; i++) filled[i] = l->value;
  fl_update lied = about;
  fl_chunk c = chunk_of(&about, *stream, 0);
  l->change(&lied, &c);
  say_update(&h, &lied);
  for (int i = 0; i < CHUNKS; i++) {
    c = chunk_of(&about, *stream, i);
    l->change(&lied, &c);
    say_chunk(&h, c, filled, 8 * (size_t)(c.count < EACH ? c.count : EACH));
  }
  end(&r, &h, l->cause);
}

static void lies_are_left_out(void) {
  for (int i = 0; i < FL_COUNT(lies); i++) {
    one_lie(&lies[i]);
    if (CU_get_number_of_failures()) printf("  (%s)\n", lies[i].name);
  }
}

/* Whole uploads, without sums: of what a unit of somebody else's keeps, in place of one of the
 * peer's own or beside them, and without what one of its own keeps. */
static void what_others_units_keep_is_left_alone(void) {
  static float x[2 * EACH];
  for (int which = 0; which < 3; which++) {
    fl_fleet_rig r;
    fl_hand h;
    fl_update about;
    fl_work last;
    uint32_t stream[UNITS];
    begin(&r, &h);
    CU_ASSERT_FATAL(fl_hand_collect(&h, &about, &last));
    uint64_t all = (1 << UNITS) - 1, theirs = all & ~h.units, units = h.units;
    CU_ASSERT_FATAL(units && theirs);
    if (which != 1) units &= units - 1;
    if (which != 2) units |= theirs & -theirs;
    about.streams = (fl_bytes){stream, list_own(units, stream)};
    say_update(&h, &about);
    for (size_t i = 0; i < about.streams.n / sizeof *stream; i++) {
      fl_chunk c = chunk_of(&about, stream[i], 0);
      c.payload = FL_PAYLOAD_F32;
      c.count = elements;
      say_chunk(&h, c, x, 4 * elements);
    }
    CU_ASSERT(fl_hand_hear(&h, FL_MESSAGE_received, 20));
    CU_ASSERT_FALSE(h.message.received.mixed);
    end(&r, &h, FL_CAUSE_shape);
  }
}

/* A vector that a client keeps, with a number that is none. */
static void non_finite_numbers_are_left_out(void) {
  static float x[2 * EACH];
  fl_fleet_rig r;
  fl_hand h;
  fl_update about;
  fl_work last;
  begin(&r, &h);
  CU_ASSERT_FATAL(fl_hand_collect(&h, &about, &last));
  uint32_t stream[UNITS];
  x[elements - 1] = NAN;
  about.streams = (fl_bytes){stream, list_own(h.units, stream)};
  fl_chunk c = chunk_of(&about, *stream, 0);
  c.payload = FL_PAYLOAD_F32;
  c.count = elements;
  say_update(&h, &about);
  say_chunk(&h, c, x, 4 * elements);
  end(&r, &h, FL_CAUSE_nonfinite);
}

/* Chunks without an end: more streams than an update of this model can have, or more bytes. */
static void uploads_without_end_are_cut_off(void) {
  fl_fleet_rig r;
  fl_hand h;
  fl_update about;
  fl_work last;
  begin(&r, &h);
  CU_ASSERT_FATAL(fl_hand_collect(&h, &about, &last));
  for (uint32_t stream = 0; stream < 2 * FL_STREAM_LEVELS; stream++)
    for (int i = 0; i < CHUNKS; i++) {
      fl_chunk c = chunk_of(&about, stream, i);
      say_chunk(&h, c, filled, 8 * (size_t)c.count);
    }
  CU_ASSERT(fl_hand_hear(&h, FL_MESSAGE_bye, 20));
  CU_ASSERT_EQUAL(h.message.bye.code, FL_BYE_REFUSED);
  end(&r, &h, FL_CAUSE_oversized);
}

static void uploads_that_stop_half_way_are_given_up(void) {
  fl_fleet_rig r;
  fl_hand h;
  fl_update about;
  fl_work last;
  begin(&r, &h);
  CU_ASSERT_FATAL(fl_hand_collect(&h, &about, &last));
  fl_chunk c = chunk_of(&about, 1, 0);
  say_chunk(&h, c, filled, 8 * (size_t)c.count);
  CU_ASSERT(fl_hand_hear(&h, FL_MESSAGE_bye, 20));
  CU_ASSERT_EQUAL(h.message.bye.code, FL_BYE_REJOIN);
  end(&r, &h, FL_CAUSE_unfinished);
}

static void who_says_nothing_more_loses_its_work(void) {
  fl_fleet_rig r;
  fl_hand h;
  begin(&r, &h);
  CU_ASSERT(fl_hand_work(&h, 20));
  CU_ASSERT(fl_hand_hear(&h, FL_MESSAGE_cancel, 20));
  end(&r, &h, FL_CAUSE_slow);
}

static void who_goes_without_a_word_too(void) {
  fl_fleet_rig r;
  fl_hand h;
  begin(&r, &h);
  CU_ASSERT(fl_hand_work(&h, 20));
  end(&r, &h, FL_CAUSE_lost);
}

static void who_leaves_or_refuses_is_not_missed(void) {
  for (int refuses = 0; refuses < 2; refuses++) {
    fl_fleet_rig r;
    fl_hand h;
    begin(&r, &h);
    CU_ASSERT(fl_hand_work(&h, 20));
    fl_work w = h.message.work;
    fl_message leave = {.kind = FL_MESSAGE_leave, .leave = {h.session}};
    fl_message refuse = {.kind = FL_MESSAGE_refuse,
                         .refuse = {h.session, w.round, w.block, {"no", 2}}};
    fl_hand_say(&h, refuses ? &refuse : &leave, NULL, 0);
    fl_fleet_rig_close(&r);
    fl_hand_close(&h);
    CU_ASSERT_EQUAL(r.left_out[FL_CAUSE_refused], refuses);
    CU_ASSERT_EQUAL(r.left_out[FL_CAUSE_lost], 0);
  }
}

/* Units of the work that comes to a peer before it is silent for a while. */
static uint64_t units_of(fl_hand *h) {
  uint64_t units = 0;
  for (double wait = 20; fl_hand_work(h, wait); wait = 0.3) units += h->message.work.count;
  return units;
}

/* Peers that would take any number of blocks leave one for whoever is done first. */
static void the_last_units_wait_for_an_idle_peer(void) {
  enum { COHORT = 6 };
  fl_fleet_rig r;
  fl_hand h[2];
  uint64_t units[2];
  fl_fleet_rig_open(&r, text, FL_FLEET_RIG_TCP, 0, NULL);
  fl_fleet_rig_start(&r);
  for (int i = 0; i < 2; i++) {
    fl_hand_open(&h[i], r.address, NULL);
    CU_ASSERT_FATAL(fl_hand_join(&h[i], FL_WIRE));
    fl_message m = {.kind = FL_MESSAGE_ready, .ready = {h[i].session, 1, r.people, COHORT}};
    fl_hand_say(&h[i], &m, NULL, 0);
  }
  for (int i = 0; i < 2; i++) units[i] = units_of(&h[i]);
  CU_ASSERT(units[0] > 0 && units[1] > 0);
  CU_ASSERT(units[0] + units[1] < COHORT);
  for (int i = 0; i < 2; i++) {
    fl_message leave = {.kind = FL_MESSAGE_leave, .leave = {h[i].session}};
    fl_hand_say(&h[i], &leave, NULL, 0);
  }
  fl_fleet_rig_work(&r, NULL, NULL);
  fl_fleet_rig_close(&r);
  for (int i = 0; i < 2; i++) fl_hand_close(&h[i]);
}

/* Who trains for long does not read, and must not find its queue full. */
static void pings_come_ever_less_often(void) {
  fl_fleet_rig r;
  fl_hand h[2];
  int pings = 0;
  fl_fleet_rig_open(&r, text, FL_FLEET_RIG_TCP, 0, NULL);
  fl_fleet_rig_start(&r);
  for (int i = 0; i < 2; i++) {
    fl_hand_open(&h[i], r.address, NULL);
    CU_ASSERT_FATAL(fl_hand_join(&h[i], FL_WIRE));
    fl_hand_ready(&h[i], r.people);
  }
  for (int i = 0; i < 2; i++) CU_ASSERT(fl_hand_work(&h[i], 20));
  for (double until = fl_fleet_rig_now() + 6, left = 6; left > 0; left = until - fl_fleet_rig_now())
    pings += fl_hand_hear(&h[0], FL_MESSAGE_ping, left);
  CU_ASSERT(pings > 1 && pings <= 14); /* one in each quarter of the patience would be 24 */
  for (int i = 0; i < 2; i++) {
    fl_message leave = {.kind = FL_MESSAGE_leave, .leave = {h[i].session}};
    fl_hand_say(&h[i], &leave, NULL, 0);
  }
  fl_fleet_rig_work(&r, NULL, NULL);
  fl_fleet_rig_close(&r);
  for (int i = 0; i < 2; i++) fl_hand_close(&h[i]);
}

/* Who had no work and said nothing need not find out by itself. */
static void who_lost_its_session_by_silence_is_told(void) {
  fl_fleet_rig r;
  fl_hand h;
  begin_alone(&r, &h, 0, NULL);
  CU_ASSERT(fl_hand_hear(&h, FL_MESSAGE_bye, 20));
  CU_ASSERT_EQUAL(h.message.bye.session, h.session);
  CU_ASSERT_EQUAL(h.message.bye.code, FL_BYE_REJOIN);
  CU_ASSERT(fl_hand_join(&h, FL_WIRE));
  fl_hand_ready(&h, r.people);
  fl_fleet_rig_work(&r, NULL, NULL);
  CU_ASSERT(fl_hand_work(&h, 20));
  end(&r, &h, FL_CAUSE_lost);
}

static void a_second_hello_begins_anew(void) {
  fl_fleet_rig r;
  fl_hand h;
  begin(&r, &h);
  CU_ASSERT(fl_hand_work(&h, 20));
  fl_work old = h.message.work;
  uint64_t session = h.session;
  bool joined = false;
  for (int i = 0; i < 20 && !joined; i++) {
    fl_message hello = {
        .kind = FL_MESSAGE_hello,
        .hello = {.wire = FL_WIRE, .session = session, .name = {"hand", 4}, .program = {"t", 1}}};
    fl_hand_say(&h, &hello, NULL, 0);
    joined = fl_hand_hear(&h, FL_MESSAGE_welcome, 0.3);
  }
  CU_ASSERT_FATAL(joined);
  CU_ASSERT_NOT_EQUAL(h.message.welcome.session, session);
  fl_hand_trained(&h, &old); /* under the number that is over */
  CU_ASSERT(fl_hand_hear(&h, FL_MESSAGE_bye, 20));
  CU_ASSERT_EQUAL(h.message.bye.session, session);
  CU_ASSERT_EQUAL(h.message.bye.code, FL_BYE_REJOIN);
  end(&r, &h, FL_CAUSE_lost);
}

static void reports_of_the_wrong_length_are_refused(void) {
  fl_fleet_rig r;
  fl_hand h;
  begin(&r, &h);
  CU_ASSERT(fl_hand_work(&h, 20));
  fl_work w = h.message.work;
  w.count++;
  fl_hand_trained(&h, &w);
  end(&r, &h, FL_CAUSE_shape);
}

/* A flood of hellos gets one session and a few answers. */
static void many_hellos_are_one_peer(void) {
  enum { HELLOS = 400 };
  fl_fleet_rig r;
  fl_hand h;
  int welcomes = 0;
  begin(&r, &h);
  CU_ASSERT(fl_hand_work(&h, 20));
  fl_hand flood;
  fl_hand_open(&flood, r.address, NULL);
  for (int i = 0; i < HELLOS; i++) {
    fl_message hello = {.kind = FL_MESSAGE_hello,
                        .hello = {.wire = FL_WIRE, .name = {"flood", 5}, .program = {"t", 1}}};
    fl_hand_say(&flood, &hello, NULL, 0);
  }
  for (uint64_t session = 0; fl_hand_hear(&flood, FL_MESSAGE_welcome, 1); welcomes++) {
    if (welcomes) CU_ASSERT_EQUAL(flood.message.welcome.session, session);
    session = flood.message.welcome.session;
  }
  CU_ASSERT(welcomes >= 1);
  CU_ASSERT(welcomes < HELLOS / 8);
  fl_hand_close(&flood);
  end(&r, &h, FL_CAUSE_lost);
}

static void too_many_messages_end_a_session(void) {
  static const char *const rate[] = {"fleet.rate=300"};
  enum { MESSAGES = 3000 };
  fl_fleet_rig r;
  fl_hand h;
  begin_alone(&r, &h, 1, rate);
  for (int i = 0; i < MESSAGES; i++)
    fl_hand_say(&h, &(fl_message){.kind = FL_MESSAGE_pong, .pong = {h.session, 0}}, NULL, 0);
  CU_ASSERT(fl_hand_hear(&h, FL_MESSAGE_bye, 20));
  fl_fleet_rig_work(&r, NULL, NULL);
  fl_fleet_rig_work(&r, NULL, NULL);
  end(&r, &h, FL_CAUSE_rate);
}

static void noise_is_counted(void) {
  fl_fleet_rig r;
  fl_hand h;
  begin(&r, &h);
  CU_ASSERT(fl_hand_work(&h, 20));
  for (int i = 0; i < 5; i++)
    CU_ASSERT_EQUAL(fl_port_send(h.port, NULL, false, 5, "noise", 5, NULL), FL_SENT);
  end(&r, &h, FL_CAUSE_corrupt);
}

static void other_versions_and_other_data_are_refused(void) {
  fl_fleet_rig r;
  fl_hand h, other;
  begin(&r, &h);
  CU_ASSERT(fl_hand_work(&h, 20));
  fl_hand_open(&other, r.address, NULL);
  CU_ASSERT_FALSE(fl_hand_join(&other, FL_WIRE + 1));
  CU_ASSERT_EQUAL(other.message.bye.code, FL_BYE_REFUSED);
  CU_ASSERT_PTR_NOT_NULL(memmem(other.message.bye.why.at, other.message.bye.why.n, "version", 7));
  fl_hand_close(&other);
  fl_hand_open(&other, r.address, NULL);
  CU_ASSERT(fl_hand_join(&other, FL_WIRE));
  fl_hand_ready(&other, r.people + 2);
  CU_ASSERT(fl_hand_hear(&other, FL_MESSAGE_bye, 20));
  CU_ASSERT_EQUAL(other.message.bye.code, FL_BYE_REFUSED);
  CU_ASSERT_PTR_NOT_NULL(memmem(other.message.bye.why.at, other.message.bye.why.n, "data", 4));
  fl_hand_close(&other);
  end(&r, &h, FL_CAUSE_shape);
}

/* Who finds the fleet full says so once, and is in when a place is free. */
static void a_place_is_waited_for(void) {
  static const char *const one[] = {"fleet.peers=1", "fleet.most=1"};
  fl_fleet_rig r;
  fl_hand h;
  begin_alone(&r, &h, 2, one);
  CU_ASSERT(fl_hand_work(&h, 20));
  fl_fleet_rig_worker *w = fl_fleet_rig_work(&r, NULL, NULL);
  sleep(2);
  fl_hand_say(&h, &(fl_message){.kind = FL_MESSAGE_leave, .leave = {h.session}}, NULL, 0);
  fl_hand_close(&h);
  fl_fleet_rig_close(&r);
  CU_ASSERT_EQUAL(w->waits, 1);
}

/* The number of a session is of no use without its key. */
static void sessions_belong_to_their_keys(void) {
  char path[4][192], key[192], allow[192];
  static const char *const name[] = {"server", "one", "two", "worker"};
  const char *override[] = {key, allow}, *mine = fl_test_folder();
  for (int i = 0; i < 4; i++) {
    fl_key_pair pair;
    char folder[160];
    snprintf(folder, sizeof folder, "%s/%s", mine, i ? "allowed" : "own");
    CU_ASSERT_EQUAL_FATAL(fl_keys_make(&pair), FEDLANE_OK);
    CU_ASSERT_EQUAL_FATAL(fl_keys_save(&pair, folder, name[i]), FEDLANE_OK);
    snprintf(path[i], sizeof path[i], "%s/%s.%s", folder, name[i], i ? "key" : "pub");
    if (i == 0) snprintf(key, sizeof key, "fleet.key=%s/server.key", folder);
    if (i == 1) snprintf(allow, sizeof allow, "fleet.allow=%s", folder);
  }
  fl_fleet_rig r;
  fl_hand h, thief;
  fl_security one = {.own = path[1], .server = path[0]}, two = {.own = path[2], .server = path[0]};
  fl_fleet_rig_open(&r, text, FL_FLEET_RIG_TCP, 2, override);
  fl_fleet_rig_start(&r);
  fl_hand_open(&h, r.address, &one);
  CU_ASSERT_FATAL(fl_hand_join(&h, FL_WIRE));
  fl_hand_ready(&h, r.people);
  fl_rig_work_with(&r, &(fl_security){.own = path[3], .server = path[0]});
  CU_ASSERT(fl_hand_work(&h, 20));
  fl_hand_open(&thief, r.address, &two);
  thief.session = h.session;
  fl_work stolen = h.message.work;
  fl_hand_trained(&thief, &stolen);
  fl_message leave = {.kind = FL_MESSAGE_leave, .leave = {h.session}};
  fl_hand_say(&thief, &leave, NULL, 0);
  CU_ASSERT(fl_hand_join(&thief, FL_WIRE)); /* what came before has been read */
  CU_ASSERT_NOT_EQUAL(thief.session, h.session);
  fl_hand_close(&thief);
  end(&r, &h, FL_CAUSE_stranger);
}

static const fl_test tests[] = {
    {"lies are left out", lies_are_left_out},
    {"what others' units keep is left alone", what_others_units_keep_is_left_alone},
    {"non-finite numbers are left out", non_finite_numbers_are_left_out},
    {"uploads without end are cut off", uploads_without_end_are_cut_off},
    {"uploads that stop half-way are given up", uploads_that_stop_half_way_are_given_up},
    {"who says nothing more loses its work", who_says_nothing_more_loses_its_work},
    {"who goes without a word too", who_goes_without_a_word_too},
    {"who leaves or refuses is not missed", who_leaves_or_refuses_is_not_missed},
    {"the last units wait for an idle peer", the_last_units_wait_for_an_idle_peer},
    {"pings come ever less often", pings_come_ever_less_often},
    {"who lost its session by silence is told", who_lost_its_session_by_silence_is_told},
    {"a second hello begins anew", a_second_hello_begins_anew},
    {"reports of the wrong length are refused", reports_of_the_wrong_length_are_refused},
    {"many hellos are one peer", many_hellos_are_one_peer},
    {"too many messages end a session", too_many_messages_end_a_session},
    {"noise is counted", noise_is_counted},
    {"other versions and other data are refused", other_versions_and_other_data_are_refused},
    {"a place is waited for", a_place_is_waited_for},
    {"sessions belong to their keys", sessions_belong_to_their_keys},
};

FL_SUITE_MAIN("fleet_peers", tests)
