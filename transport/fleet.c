/* A fleet's life: it listens, reads what arrives, and sees rounds through. */
#include "fleet.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fleet_parts.h"

static const double tick_seconds = 0.25;

double fl_fleet_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *fl_cause_name(fl_cause cause) {
  static const char *const name[] = {
#define FL_CAUSE_NAME(name, text) #name,
      FL_CAUSE_LIST(FL_CAUSE_NAME)
#undef FL_CAUSE_NAME
  };
  return cause < FL_CAUSES ? name[cause] : "";
}

const char *fl_cause_text(fl_cause cause) {
  static const char *const text_of[] = {
#define FL_CAUSE_TEXT(name, text) text,
      FL_CAUSE_LIST(FL_CAUSE_TEXT)
#undef FL_CAUSE_TEXT
  };
  return cause < FL_CAUSES ? text_of[cause] : "";
}

static fl_status copy_about(fl_fleet *f, const fl_fleet_about *about) {
  f->about = *about;
  f->about.config = strdup(about->config);
  f->about.digest = strdup(about->digest);
  f->about.layout = strdup(about->layout);
  if (f->about.config && f->about.digest && f->about.layout) return FEDLANE_OK;
  return fl_fail(FEDLANE_MEMORY, "no memory for a fleet");
}

fl_status fl_fleet_open(const char *address, const fl_port_options *options,
                        const fl_fleet_about *about, const fl_fleet_limits *limits,
                        const fl_fleet_host *host, fl_fleet **out) {
  fl_fleet *f = calloc(1, sizeof *f);
  fl_status status;
  if (!f) return fl_fail(FEDLANE_MEMORY, "no memory for a fleet");
  f->host = *host;
  f->limits = *limits;
  if (f->limits.memory <= 0) f->limits.memory = INT64_C(2) << 30;
  if (f->limits.peers <= 0) f->limits.peers = 65536;
  if (f->limits.rate <= 0) f->limits.rate = 20000;
  f->patience = options->patience > 0 ? options->patience : 10;
  f->chunks = (about->elements * sizeof(float) + FL_CHUNK_BYTES - 1) / FL_CHUNK_BYTES;
  FL_GO(copy_about(f, about));
  f->chunk = calloc((size_t)(about->vectors * f->chunks), sizeof *f->chunk);
  f->chunk_digest = calloc((size_t)(about->vectors * f->chunks), sizeof *f->chunk_digest);
  if (!f->chunk || !f->chunk_digest) {
    status = fl_fail(FEDLANE_MEMORY, "no memory for a fleet");
    goto done;
  }
  FL_GO(fl_port_bind(address, options, &f->port));
  *out = f;
  return FEDLANE_OK;
done:
  fl_fleet_close(&f, FL_BYE_DONE, "");
  return status;
}

void fl_fleet_close(fl_fleet **fleet, fl_bye_code code, const char *why) {
  fl_fleet *f = *fleet;
  if (!f) return;
  for (int i = 0; i < f->n_peer; i++) {
    if (f->peer[i].session) fl_fleet_bye(f, &f->peer[i].route, f->peer[i].session, code, why);
    fl_pile_close(&f->peer[i].pile);
  }
  if (f->chunk) fl_fleet_forget_model(f);
  fl_port_close(&f->port, 1);
  free(f->chunk);
  free(f->chunk_digest);
  free(f->peer);
  free((char *)(uintptr_t)f->about.config);
  free((char *)(uintptr_t)f->about.digest);
  free((char *)(uintptr_t)f->about.layout);
  free(f);
  *fleet = NULL;
}

const char *fl_fleet_address(const fl_fleet *f) { return fl_port_address(f->port); }

fl_sent fl_fleet_send(fl_fleet *f, const fl_route *route, const fl_message *m, fl_blob *body) {
  char small[512], *head = small;
  size_t n = 0, room = fl_wire_room(m), size = body ? fl_blob_size(body) : 0;
  fl_sent sent = FL_SENT_GONE;
  if (room > sizeof small) head = malloc(room);
  if (head && fl_wire_write(m, room > sizeof small ? room : sizeof small, head, &n) == FEDLANE_OK) {
    sent = fl_port_send(f->port, route, false, 0, head, n, body);
    if (sent == FL_SENT) f->tally.bytes_down += (int64_t)(n + size);
  } else {
    fl_blob_close(&body);
  }
  if (head != small) free(head);
  return sent;
}

void fl_fleet_say(fl_fleet *f, fl_peer *peer, fl_message *m, fl_blob *body) {
  if (fl_fleet_send(f, &peer->route, m, body) != FL_SENT) fl_peer_drop(f, peer, FL_CAUSE_lost);
}

void fl_fleet_bye(fl_fleet *f, const fl_route *route, uint64_t session, fl_bye_code code,
                  const char *why) {
  fl_message m = {.kind = FL_MESSAGE_bye,
                  .bye = {.session = session, .code = code, .why = {why, strlen(why)}}};
  if (route->n > 0) fl_fleet_send(f, route, &m, NULL);
}

/* Every message but hello begins with the session's number. */
static uint64_t session_of(const fl_message *m) { return m->ready.session; }

bool fl_peer_within_rate(fl_fleet *f, fl_peer *peer) {
  double now = fl_fleet_now();
  peer->budget += (now - peer->heard) * f->limits.rate;
  if (peer->budget > 4 * f->limits.rate) peer->budget = 4 * f->limits.rate;
  peer->heard = now;
  peer->budget -= 1;
  if (peer->budget >= 0) return true;
  fl_fleet_bye(f, &peer->route, peer->session, FL_BYE_REJOIN, "too many messages a second");
  fl_peer_drop(f, peer, FL_CAUSE_rate);
  return false;
}

static void hear_peer(fl_fleet *f, fl_peer *peer, const fl_message *m, fl_letter *letter) {
  switch (m->kind) {
    case FL_MESSAGE_ready:
      fl_peer_ready(f, peer, &m->ready);
      break;
    case FL_MESSAGE_fetch:
      fl_peer_fetch(f, peer, &m->fetch);
      break;
    case FL_MESSAGE_trained:
      fl_peer_trained(f, peer, &m->trained);
      break;
    case FL_MESSAGE_refuse:
      fl_peer_refuse(f, peer, &m->refuse);
      break;
    case FL_MESSAGE_update:
      fl_peer_update(f, peer, &m->update);
      break;
    case FL_MESSAGE_chunk:
      fl_peer_chunk(f, peer, &m->chunk, &letter->body);
      break;
    case FL_MESSAGE_alive:
      peer->promise = m->alive.seconds;
      break;
    case FL_MESSAGE_offer:
      fl_peer_offer(f, peer, &m->offer);
      break;
    case FL_MESSAGE_leave:
      fl_peer_drop(f, peer, FL_CAUSE_none);
      break;
    default:
      break;
  }
}

static fl_status hear(fl_fleet *f, fl_letter *letter) {
  fl_message m;
  f->tally.bytes_up +=
      (int64_t)(fl_blob_size(letter->head) + (letter->body ? fl_blob_size(letter->body) : 0));
  if (fl_wire_read(fl_blob_at(letter->head), fl_blob_size(letter->head), 'P', &m) != FEDLANE_OK ||
      (letter->body != NULL) != (m.kind == FL_MESSAGE_chunk)) {
    fl_fleet_count(f, FL_CAUSE_corrupt);
    return FEDLANE_OK;
  }
  if (m.kind == FL_MESSAGE_hello) return fl_peer_hello(f, letter, &m.hello);
  fl_peer *peer = fl_fleet_peer(f, session_of(&m));
  if (!peer) {
    fl_fleet_count(f, FL_CAUSE_stale);
    fl_fleet_bye(f, &letter->route, session_of(&m), FL_BYE_REJOIN, "this session is over");
  } else if (strcmp(peer->key, letter->key) != 0) {
    fl_fleet_count(f, FL_CAUSE_stranger);
  } else if (letter->route.n > 0 && !fl_route_is(&letter->route, &peer->route)) {
    fl_fleet_bye(f, &letter->route, peer->session, FL_BYE_REJOIN, "the connection was lost");
    fl_peer_drop(f, peer, FL_CAUSE_lost);
  } else if (fl_peer_within_rate(f, peer)) {
    hear_peer(f, peer, &m, letter);
  }
  return FEDLANE_OK;
}

/* Deals work that has become free, then reads what is there, waiting at most so long for the first
 * letter. */
static fl_status look(fl_fleet *f, double seconds) {
  enum { LETTERS = 256 };
  bool restless = f->restless;
  f->restless = false;
  for (int i = 0; restless && i < f->n_peer; i++)
    if (f->peer[i].session) fl_peer_assign(f, &f->peer[i]);
  for (int i = 0; i < LETTERS; i++) {
    fl_letter letter = {0};
    bool any = false;
    FL_TRY(fl_port_receive(f->port, i ? 0 : seconds, &letter, &any));
    if (!any) f->heard_all = fl_fleet_now();
    if (!any) break;
    fl_status status = hear(f, &letter);
    fl_letter_close(&letter);
    FL_TRY(status);
  }
  if (fl_fleet_now() - f->ticked > tick_seconds) {
    fl_peers_tick(f);
    f->ticked = fl_fleet_now();
    f->restless = true;
  }
  return f->failed;
}

static bool stopped(const atomic_int *stop) { return stop && *stop; }

fl_status fl_fleet_wait(fl_fleet *f, int n, const atomic_int *stop) {
  while (f->n_ready < n) {
    if (stopped(stop)) return FEDLANE_STOPPED;
    FL_TRY(look(f, tick_seconds));
  }
  return look(f, 0);
}

fl_status fl_fleet_answer(fl_fleet *f, double seconds, const atomic_int *stop) {
  for (double until = fl_fleet_now() + seconds; fl_fleet_now() < until;) {
    if (stopped(stop)) return FEDLANE_STOPPED;
    FL_TRY(look(f, tick_seconds));
  }
  return FEDLANE_OK;
}

/* Whether the round may end; units that did not come by the deadline are given up. */
static bool complete(fl_fleet *f) {
  const fl_blocks *b = &f->blocks;
  double deadline = f->job->work.deadline;
  if (b->done + b->gone >= b->n) return true;
  if (deadline <= 0 || fl_fleet_now() < f->started + deadline) return false;
  if ((double)b->done < f->job->quorum * (double)b->n) return false;
  f->tally.cause[FL_CAUSE_late] += (int64_t)(b->n - b->done - b->gone);
  return true;
}

/* All that peers still have of the round is taken back. */
static void end_round(fl_fleet *f) {
  for (int i = 0; i < f->n_peer; i++) {
    fl_peer *peer = &f->peer[i];
    if (peer->session && (peer->out || peer->trained)) fl_peer_revoke(f, peer, true);
  }
  f->job = NULL;
  f->first_block += (uint32_t)f->blocks.n_block;
  fl_blocks_close(&f->blocks);
  fl_fleet_forget_model(f);
}

/* Each unit is its client's; those of clients that went since they were chosen are given up. What
 * peers did in earlier rounds counts half as much as in the one before. */
static fl_status seat_peers(fl_fleet *f) {
  for (int i = 0; i < f->n_peer; i++) {
    f->peer[i].unit = -1;
    f->peer[i].did /= 2;
    f->peer[i].took /= 2;
  }
  for (uint64_t u = 0; f->job->who && u < f->job->n; u++) {
    fl_peer *peer = fl_fleet_peer(f, f->job->who[u]);
    int block = -1;
    if (peer) {
      peer->unit = (int64_t)u;
      continue;
    }
    FL_TRY(fl_blocks_deal_unit(&f->blocks, -1, u, &block));
    FL_TRY(fl_blocks_lose(&f->blocks, &f->blocks.block[block], true));
  }
  return FEDLANE_OK;
}

fl_status fl_fleet_train(fl_fleet *f, const fl_fleet_job *job) {
  fl_status status;
  FL_TRY(look(f, 0));
  FL_TRY(fl_blocks_open(&f->blocks, job->n, job->cost));
  f->job = job;
  f->started = fl_fleet_now();
  FL_GO(seat_peers(f));
  f->restless = true;
  while (!complete(f)) {
    status = FEDLANE_STOPPED;
    if (stopped(job->stop)) goto done;
    FL_GO(look(f, tick_seconds / 4));
    if (f->host.tick) FL_GO(f->host.tick(f->host.of));
  }
  status = FEDLANE_OK;
done:
  end_round(f);
  return status;
}

void fl_fleet_tell(fl_fleet *f, fl_fleet_tally *tally) {
  f->tally.cause[FL_CAUSE_corrupt] += (int64_t)fl_port_dropped(f->port) - f->dropped;
  f->dropped = (int64_t)fl_port_dropped(f->port);
  *tally = f->tally;
  tally->peers = f->n_ready;
  tally->people = f->about.people;
  for (int i = 0; i < f->n_peer; i++) tally->lanes += f->peer[i].ready ? f->peer[i].lanes : 0;
  memset(&f->tally, 0, sizeof f->tally);
}
