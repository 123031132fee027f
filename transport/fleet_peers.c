/* Peers of a fleet: how they get a session, and how they lose it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "fleet_parts.h"

static const double hello_seconds = 0.5; /* between two answers to hellos of one peer */

static uint64_t place_of(uint64_t session) { return session & ((1u << FL_PLACE_BITS) - 1); }

fl_peer *fl_fleet_peer(fl_fleet *f, uint64_t session) {
  uint64_t place = place_of(session);
  if (session == 0 || place >= (uint64_t)f->n_peer) return NULL;
  return f->peer[place].session == session ? &f->peer[place] : NULL;
}

/* By name; among equals by key, then by the order in which they came. */
static int by_name(const void *a, const void *b, void *of) {
  const fl_fleet *f = of;
  uint64_t place[] = {place_of(*(const uint64_t *)a), place_of(*(const uint64_t *)b)};
  const fl_peer *x = &f->peer[place[0]], *y = &f->peer[place[1]];
  int order = strcmp(x->name, y->name);
  if (order == 0) order = strcmp(x->key, y->key);
  return order ? order : (place[0] > place[1]) - (place[0] < place[1]);
}

int fl_fleet_clients(fl_fleet *f, int room, uint64_t *session) {
  int n = 0;
  for (int i = 0; i < f->n_peer; i++) {
    const fl_peer *peer = &f->peer[i];
    if (!peer->session || !peer->ready) continue;
    if (n < room) session[n] = peer->session;
    n++;
  }
  if (n > 0 && n <= room) qsort_r(session, (size_t)n, sizeof *session, by_name, f);
  return n;
}

/* A place nobody has, made when there is none; NULL: no more peers are taken. */
static fl_peer *free_place(fl_fleet *f) {
  for (int i = 0; f->n_peer > f->n_held && i < f->n_peer; i++)
    if (!f->peer[i].session) return &f->peer[i];
  if (f->n_peer == f->limits.peers || f->n_peer == 1 << FL_PLACE_BITS) return NULL;
  if (f->n_peer == f->room) {
    int room = f->room ? 2 * f->room : 16;
    fl_peer *larger = realloc(f->peer, (size_t)room * sizeof *larger);
    if (!larger) return NULL;
    f->peer = larger;
    f->room = room;
  }
  f->peer[f->n_peer] = (fl_peer){0};
  return &f->peer[f->n_peer++];
}

static uint64_t new_session(const fl_fleet *f, const fl_peer *peer) {
  uint64_t random = 0;
  while (random == 0) {
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) random = 0;
    random = random << 1 >> (1 + FL_PLACE_BITS) << FL_PLACE_BITS;
  }
  return random | (uint64_t)fl_peer_place(f, peer);
}

static void welcome(fl_fleet *f, fl_peer *peer) {
  const fl_fleet_about *a = &f->about;
  const char *pipeline = fl_port_pipeline(f->port);
  fl_message m = {.kind = FL_MESSAGE_welcome,
                  .welcome = {.wire = FL_WIRE,
                              .session = peer->session,
                              .elements = a->elements,
                              .vectors = a->vectors,
                              .updates = a->updates,
                              .own = a->own,
                              .chunk = FL_CHUNK_BYTES,
                              .digest = {a->digest, strlen(a->digest)},
                              .config = {a->config, strlen(a->config)},
                              .layout = {a->layout, strlen(a->layout)},
                              .pipeline = {pipeline, strlen(pipeline)},
                              .patience = f->patience,
                              .people = a->people}};
  peer->welcomed = fl_fleet_now();
  fl_fleet_say(f, peer, &m, NULL);
}

/* The peer who says hello again: over the connection of its session, or, after that was lost, with
 * the session's number. */
static fl_peer *same_peer(fl_fleet *f, const fl_letter *letter, const fl_hello *hello) {
  fl_peer *peer = fl_fleet_peer(f, hello->session);
  if (peer && strcmp(peer->key, letter->key) == 0) return peer;
  for (int i = 0; i < f->n_peer; i++)
    if (f->peer[i].session && fl_route_is(&f->peer[i].route, &letter->route)) return &f->peer[i];
  return NULL;
}

/* Why a hello is refused; "": it is not. */
static void judge(const fl_fleet *f, const fl_hello *hello, size_t size, char *why) {
  *why = '\0';
  if (hello->wire != FL_WIRE)
    snprintf(why, size, "this coordinator speaks version %d of the messages, not %llu", FL_WIRE,
             (unsigned long long)hello->wire);
  else if (f->about.clients != (hello->peer == FL_PEER_CLIENT))
    snprintf(why, size, "this coordinator takes %s",
             f->about.clients ? "clients with data of their own" : "workers and relays");
}

static fl_peer *new_peer(fl_fleet *f, const fl_letter *letter, const fl_hello *hello) {
  fl_peer *peer = free_place(f);
  if (!peer) return NULL;
  *peer = (fl_peer){.kind = (fl_peer_kind)hello->peer,
                    .route = letter->route,
                    .heard = fl_fleet_now(),
                    .budget = f->limits.rate,
                    .unit = -1};
  peer->session = new_session(f, peer);
  memcpy(peer->key, letter->key, sizeof peer->key);
  memcpy(peer->name, hello->name.at, hello->name.n);
  /* Peers that came together are not pinged together. */
  peer->pinged = peer->heard - f->patience / 256 * (double)(fl_peer_place(f, peer) % 64);
  f->n_held++;
  return peer;
}

/* Who has been ready and says hello has forgotten its session, so that begins anew; who has not
 * missed our answer, and gets it again, but not for every hello of many. */
fl_status fl_peer_hello(fl_fleet *f, const fl_letter *letter, const fl_hello *hello) {
  enum { WHY = 128 };
  char why[WHY];
  if (letter->route.n == 0) return FEDLANE_OK;
  fl_peer *peer = same_peer(f, letter, hello);
  if (peer && !fl_peer_within_rate(f, peer)) return FEDLANE_OK;
  if (peer && fl_fleet_now() - peer->welcomed < hello_seconds) return FEDLANE_OK;
  if (peer && (peer->ready || !fl_route_is(&peer->route, &letter->route))) {
    fl_peer_drop(f, peer, peer->out || peer->trained ? FL_CAUSE_lost : FL_CAUSE_none);
    peer = NULL;
  }
  judge(f, hello, sizeof why, why);
  if (!peer && !*why) peer = new_peer(f, letter, hello);
  if (*why)
    fl_fleet_bye(f, &letter->route, hello->session, FL_BYE_REFUSED, why);
  else if (peer)
    welcome(f, peer);
  else
    fl_fleet_bye(f, &letter->route, 0, FL_BYE_REJOIN, "the coordinator has all the peers it takes");
  return FEDLANE_OK;
}

void fl_peer_ready(fl_fleet *f, fl_peer *peer, const fl_ready *ready) {
  if (f->about.people && ready->people != f->about.people && peer->kind != FL_PEER_CLIENT) {
    fl_fleet_bye(f, &peer->route, peer->session, FL_BYE_REFUSED,
                 "this peer has read other data than the fleet: files, or a version of "
                 "fedlane, differ");
    fl_peer_drop(f, peer, FL_CAUSE_shape);
    return;
  }
  const char *why = f->host.unfit ? f->host.unfit(f->host.of, peer->session) : NULL;
  if (why) {
    fl_fleet_bye(f, &peer->route, peer->session, FL_BYE_REFUSED, why);
    fl_peer_drop(f, peer, FL_CAUSE_none);
    return;
  }
  if (peer->kind != FL_PEER_CLIENT) f->about.people = ready->people;
  if (!peer->ready) f->n_ready++;
  peer->ready = true;
  peer->lanes = ready->lanes;
  peer->credit = ready->credit;
  fl_peer_assign(f, peer);
}

void fl_peer_drop(fl_fleet *f, fl_peer *peer, fl_cause cause) {
  if (!peer->session) return;
  if (cause != FL_CAUSE_none) fl_fleet_count(f, cause);
  if (f->host.gone) f->host.gone(f->host.of, peer->session);
  peer->session = 0;
  if (peer->ready) f->n_ready--;
  f->n_held--;
  fl_peer_unpile(f, peer);
  if (f->job) fl_peer_revoke(f, peer, f->job->who != NULL);
  *peer = (fl_peer){.unit = -1};
}

/* Whether others wait while this one takes far longer than its work should. */
static bool overdue(const fl_fleet *f, const fl_peer *peer, double now) {
  double speed = fl_peer_speed(peer);
  bool idle = false;
  if (!f->job || f->job->who || peer->out == 0 || f->blocks.n_free > 0) return false;
  for (int i = 0; i < f->n_peer; i++) {
    const fl_peer *other = &f->peer[i];
    if (!other->session || !other->ready || other == peer) continue;
    idle = idle || (other->out == 0 && other->refused != f->job->work.round);
    double its = fl_peer_speed(other);
    if (speed <= 0 || (peer->took <= 0 && its > 0 && its < speed)) speed = its;
  }
  if (!idle) return false;
  double expected = speed > 0 ? (double)peer->out_cost / speed : 0;
  return now - peer->begun > 4 * expected + f->patience / 2;
}

/* Whether a peer can still be reached. One that is in the middle of something is asked often, so
 * that its work is not lost for long unless nobody else could do it, but ever less often the longer
 * it says nothing: a queue that is full of what it does not read, while it trains for long, would
 * look like a cable that is cut and cost it its connection. */
static bool reach(fl_fleet *f, fl_peer *peer, double now) {
  bool busy = peer->out || peer->trained;
  double every = (now - peer->heard) / 4;
  if ((!busy || f->about.clients) && every < f->patience / 4) every = f->patience / 4;
  if (now - peer->pinged < every) return true;
  fl_message m = {.kind = FL_MESSAGE_ping,
                  .ping = {peer->session, f->job ? f->job->work.round : 0}};
  peer->pinged = now;
  return fl_fleet_send(f, &peer->route, &m, NULL) != FL_SENT_GONE;
}

/* Whether a peer has said nothing for too long, as far as all has been read that came. Who has work
 * may train for as long as it likes, unless it has promised to say something meanwhile. */
static bool silent(const fl_fleet *f, const fl_peer *peer) {
  bool busy = peer->out || peer->trained;
  double most = busy ? peer->promise : 2 * f->patience;
  return most > 0 && f->heard_all - peer->heard > most;
}

/* When nobody does anything in a round that is not complete, those who were left out of it get
 * another chance. */
static void forgive(fl_fleet *f) {
  bool busy = f->job == NULL;
  for (int i = 0; i < f->n_peer && !busy; i++)
    busy = f->peer[i].session && (f->peer[i].out || f->peer[i].trained);
  for (int i = 0; i < f->n_peer && !busy; i++) f->peer[i].refused = 0;
}

void fl_peers_tick(fl_fleet *f) {
  double now = fl_fleet_now();
  for (int i = 0; i < f->n_peer; i++) {
    fl_peer *peer = &f->peer[i];
    if (!peer->session) continue;
    if (!reach(f, peer, now)) {
      fl_peer_drop(f, peer, FL_CAUSE_lost);
    } else if (silent(f, peer)) {
      fl_fleet_bye(f, &peer->route, peer->session, FL_BYE_REJOIN, "nothing was heard for too long");
      fl_peer_drop(f, peer, peer->ready ? FL_CAUSE_lost : FL_CAUSE_none);
    } else if (peer->pile.upload && now - peer->moved > f->patience) {
      fl_fleet_bye(f, &peer->route, peer->session, FL_BYE_REJOIN, "the upload stopped half-way");
      fl_peer_drop(f, peer, FL_CAUSE_unfinished);
    } else if (overdue(f, peer, now)) {
      fl_fleet_count(f, FL_CAUSE_slow);
      peer->refused = f->job->work.round;
      fl_peer_revoke(f, peer, false);
    }
  }
  forgive(f);
}
