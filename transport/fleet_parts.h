/* What the files of the coordinator's side share. */
#ifndef FL_FLEET_PARTS_H
#define FL_FLEET_PARTS_H

#include <string.h>

#include "blocks.h"
#include "pile.h"

/* A peer with a session. The low bits of a session's number are the peer's place, the others
 * random, so that nobody guesses it. */
enum { FL_PLACE_BITS = 20 };

typedef struct fl_peer {
  uint64_t session; /* 0: nobody has this place */
  fl_route route;
  char key[FL_KEY_TEXT], name[FL_NAME_BYTES + 1];
  fl_peer_kind kind;
  bool ready;
  uint64_t lanes, credit;
  double heard, pinged, welcomed; /* when: it last said something; it was last told something */
  double begun;                   /* when it began the oldest of its blocks */
  double promise;   /* seconds within which it says something whatever it does; 0: none */
  double did, took; /* cost of its blocks, and seconds that they took; of rounds before ever less */
  double budget;    /* messages that it may send now */
  int out, trained; /* blocks */
  int64_t out_cost;
  int64_t kept;     /* vectors that the units of its blocks keep */
  int64_t reserved; /* bytes set aside for its upload */
  fl_pile pile;
  double moved;     /* when a chunk last came */
  int64_t unit;     /* of a client in this round; -1: none */
  uint64_t refused; /* round of which it takes nothing more */
} fl_peer;

struct fl_fleet {
  fl_port *port;
  fl_fleet_about about;
  fl_fleet_limits limits;
  fl_fleet_host host;
  double patience;
  fl_peer *peer;
  int n_peer, room; /* places that were ever used */
  int n_held;       /* of them with a session */
  int n_ready;
  /* The round in progress. */
  const fl_fleet_job *job; /* NULL: none */
  fl_blocks blocks;
  uint32_t first_block; /* its number on the wire, where none comes twice */
  double started;
  uint64_t next_upload;
  int64_t staged;   /* bytes set aside for uploads */
  fl_status failed; /* of the host */
  /* Chunks of the round's version, made when first asked for: [vectors][chunks]. */
  fl_blob **chunk;
  uint64_t *chunk_digest;
  uint64_t chunks;
  fl_fleet_tally tally;
  bool restless; /* there may be work for peers that had none */
  double ticked;
  double heard_all; /* when nothing was left to read: who had not been heard then was silent */
  int64_t dropped;  /* letters that the port had dropped when last told */
};

double fl_fleet_now(void);
/* The peer of a session, or NULL. */
fl_peer *fl_fleet_peer(fl_fleet *fleet, uint64_t session);
static inline int fl_peer_place(const fl_fleet *fleet, const fl_peer *peer) {
  return (int)(peer - fleet->peer);
}
/* Cost a second; 0: not known. */
static inline double fl_peer_speed(const fl_peer *peer) {
  return peer->took > 0 ? peer->did / peer->took : 0;
}
/* Sends a message. body is taken over. */
fl_sent fl_fleet_send(fl_fleet *fleet, const fl_route *route, const fl_message *message,
                      fl_blob *body);
/* The same; a peer that cannot be reached, or takes nothing, is let go. */
void fl_fleet_say(fl_fleet *fleet, fl_peer *peer, fl_message *message, fl_blob *body);
void fl_fleet_bye(fl_fleet *fleet, const fl_route *route, uint64_t session, fl_bye_code code,
                  const char *why);
static inline bool fl_route_is(const fl_route *a, const fl_route *b) {
  return a->n == b->n && memcmp(a->at, b->at, a->n) == 0;
}
/* Counts one more message of a peer; lets go of one that sends too many: some seconds' worth of
 * them at once, then `rate`. */
bool fl_peer_within_rate(fl_fleet *fleet, fl_peer *peer);
/* fleet_peers.c: sessions. A peer's blocks and chunks go with it. */
fl_status fl_peer_hello(fl_fleet *fleet, const fl_letter *letter, const fl_hello *hello);
void fl_peer_ready(fl_fleet *fleet, fl_peer *peer, const fl_ready *ready);
void fl_peer_drop(fl_fleet *fleet, fl_peer *peer, fl_cause cause);
/* Pings everyone and lets go of those who are gone, slow or stuck. */
void fl_peers_tick(fl_fleet *fleet);
/* fleet_work.c: deals blocks to a peer as far as it takes them, and asks for its sum when there are
 * no more. */
void fl_peer_assign(fl_fleet *fleet, fl_peer *peer);
void fl_peer_trained(fl_fleet *fleet, fl_peer *peer, const fl_trained *trained);
void fl_peer_refuse(fl_fleet *fleet, fl_peer *peer, const fl_refuse *refuse);
/* Takes all blocks back from a peer. forever: the units are given up. */
void fl_peer_revoke(fl_fleet *fleet, fl_peer *peer, bool forever);
/* fleet_model.c */
void fl_peer_fetch(fl_fleet *fleet, fl_peer *peer, const fl_fetch *fetch);
void fl_fleet_forget_model(fl_fleet *fleet);
/* fleet_tie.c: a peer's offer; its wish for a vector over the tie; and the end of that. */
void fl_peer_offer(fl_fleet *fleet, fl_peer *peer, const fl_offer *offer);
void fl_peer_fetch_tied(fl_fleet *fleet, fl_peer *peer, uint64_t vector);
void fl_peer_untie(fl_fleet *fleet, fl_peer *peer);
/* fleet_upload.c */
void fl_peer_update(fl_fleet *fleet, fl_peer *peer, const fl_update *update);
void fl_peer_chunk(fl_fleet *fleet, fl_peer *peer, const fl_chunk *chunk, fl_blob **body);
/* Gives back what was set aside for a peer's upload. */
void fl_peer_unpile(fl_fleet *fleet, fl_peer *peer);

static inline void fl_fleet_count(fl_fleet *fleet, fl_cause cause) { fleet->tally.cause[cause]++; }

#endif
