/* What travels between two devices without us: peers offer, the host accepts and moves, and here
 * the messages are written that go with it. */
#include "fleet_parts.h"

static void accept(fl_fleet *f, fl_peer *peer, const unsigned char *id, size_t n) {
  fl_message m = {.kind = FL_MESSAGE_accept, .accept = {peer->session, {id, n}}};
  fl_fleet_say(f, peer, &m, NULL);
}

void fl_peer_untie(fl_fleet *f, fl_peer *peer) { accept(f, peer, NULL, 0); }

void fl_peer_offer(fl_fleet *f, fl_peer *peer, const fl_offer *offer) {
  unsigned char id[FL_TIE_BYTES];
  if (f->host.offered && f->host.offered(f->host.of, peer->session, offer, id))
    accept(f, peer, id, sizeof id);
}

void fl_peer_fetch_tied(fl_fleet *f, fl_peer *peer, uint64_t vector) {
  bool known = f->host.send && vector < f->about.vectors;
  if (!known || !f->host.send(f->host.of, peer->session, vector)) fl_peer_untie(f, peer);
}
