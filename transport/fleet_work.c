/* Who does which units of a round. */
#include <stdlib.h>
#include <string.h>

#include "fleet_parts.h"

/* Cost of what a peer should do of all that is not trained, by its speed among the others'; one
 * that is not known counts as the mean of those that are. */
static double part_of(const fl_fleet *f, const fl_peer *peer) {
  double sum = 0, left = (double)f->blocks.free_cost;
  int known = 0, n = 0;
  for (int i = 0; i < f->n_peer; i++) {
    const fl_peer *other = &f->peer[i];
    if (!other->session || !other->ready) continue;
    n++;
    known += fl_peer_speed(other) > 0;
    sum += fl_peer_speed(other);
    left += (double)other->out_cost;
  }
  if (known == 0) return left / n;
  double mean = sum / known, own = fl_peer_speed(peer);
  return left * (own > 0 ? own : mean) / (sum + mean * (n - known));
}

static void send_work(fl_fleet *f, fl_peer *peer, int number) {
  const fl_block *block = &f->blocks.block[number];
  fl_message m = {.kind = FL_MESSAGE_work, .work = f->job->work};
  if (peer->out++ == 0) peer->begun = fl_fleet_now();
  peer->out_cost += block->cost;
  peer->kept += (int64_t)(block->count * f->about.own);
  m.work.session = peer->session;
  m.work.block = f->first_block + (uint32_t)number;
  m.work.first = f->job->first + block->first;
  m.work.count = block->count;
  if (m.work.deadline > 0) {
    m.work.deadline -= fl_fleet_now() - f->started;
    if (m.work.deadline <= 0) m.work.deadline = 1e-3;
  }
  fl_fleet_say(f, peer, &m, NULL);
}

/* Units that a peer may have on top of those it has until it sends what it has trained: vectors
 * that units keep are not summed, so those of all could be more than there is memory for. */
static uint64_t room_of(const fl_fleet *f, const fl_peer *peer) {
  const fl_fleet_about *a = &f->about;
  int64_t most = FL_UPLOAD_STREAMS / 2, own = (int64_t)a->own;
  if (peer->out + peer->trained == FL_UPLOAD_BLOCKS) return 0;
  if (own == 0) return FL_BLOCK_UNITS;
  int64_t fit = f->limits.memory / 4 / (int64_t)(a->elements * sizeof(float));
  if (fit < most) most = fit;
  if (most < own) most = own;
  return peer->kept < most ? (uint64_t)((most - peer->kept) / own) : 0;
}

/* A block for a peer: half of what it lacks of its part, so that the end of a round finds small
 * ones and no peer is given more than its part while others have nothing. */
static fl_status deal(fl_fleet *f, fl_peer *peer, int *block) {
  int place = fl_peer_place(f, peer);
  *block = -1;
  if (f->job->who) {
    if (peer->unit < 0) return FEDLANE_OK;
    uint64_t unit = (uint64_t)peer->unit;
    peer->unit = -1;
    return fl_blocks_deal_unit(&f->blocks, place, unit, block);
  }
  double cost = (part_of(f, peer) - (double)peer->out_cost) / 2;
  uint64_t most = room_of(f, peer);
  if (most == 0) return FEDLANE_OK;
  return fl_blocks_deal(&f->blocks, place, (int64_t)cost, peer->lanes, most, block);
}

/* Asks for the sum of what the peer has trained, as soon as there is memory for it. */
static void collect(fl_fleet *f, fl_peer *peer) {
  const fl_fleet_about *a = &f->about;
  int64_t vector = (int64_t)(a->elements * (f->job->who ? sizeof(float) : 2 * sizeof(int64_t)));
  int64_t bytes =
      vector * (int64_t)a->updates + peer->kept * (int64_t)(a->elements * sizeof(float));
  if (f->staged > 0 && f->staged + bytes > f->limits.memory) return;
  f->staged += bytes;
  peer->reserved = bytes;
  peer->moved = fl_fleet_now();
  fl_pile_open(&peer->pile, ++f->next_upload, a->elements,
               (uint32_t)(FL_STREAM_LEVELS * a->updates) + (uint32_t)peer->kept);
  fl_message m = {.kind = FL_MESSAGE_collect,
                  .collect = {peer->session, f->job->work.round, peer->pile.upload}};
  fl_fleet_say(f, peer, &m, NULL);
}

/* Whether a peer may have one more block now. The last units, as many as there are peers, wait for
 * peers that have nothing: behind another block they would end the round late. */
static bool may_have(const fl_fleet *f, const fl_peer *peer) {
  if (peer->out == 0) return peer->credit > 0;
  return (uint64_t)peer->out < peer->credit && fl_blocks_left(&f->blocks) > (uint64_t)f->n_ready;
}

void fl_peer_assign(fl_fleet *f, fl_peer *peer) {
  if (!f->job || !peer->ready || peer->pile.upload || peer->refused == f->job->work.round) return;
  while (may_have(f, peer)) {
    int block = -1;
    fl_status status = deal(f, peer, &block);
    if (status != FEDLANE_OK) f->failed = status;
    if (block < 0) break;
    send_work(f, peer, block);
    if (!peer->session) return;
  }
  if (peer->out == 0 && peer->trained > 0) collect(f, peer);
}

static fl_status copy(const fl_bytes *from, void *out) {
  void *at = malloc(from->n ? from->n : 1);
  if (!at) return fl_fail(FEDLANE_MEMORY, "no memory for what a peer reports");
  if (from->n) memcpy(at, from->at, from->n);
  memcpy(out, &at, sizeof at);
  return FEDLANE_OK;
}

static fl_status keep_report(const fl_fleet *f, fl_block *block, const fl_trained *t) {
  fl_report *r = &block->report;
  r->first = f->job->first + block->first;
  r->count = block->count;
  FL_TRY(copy(&t->loss, &r->loss));
  FL_TRY(copy(&t->hit, &r->hit));
  return copy(&t->good, &r->good);
}

void fl_peer_trained(fl_fleet *f, fl_peer *peer, const fl_trained *t) {
  double now = fl_fleet_now();
  fl_block *block = NULL;
  if (f->job && t->round == f->job->work.round)
    block = fl_blocks_of(&f->blocks, (uint32_t)t->block - f->first_block, fl_peer_place(f, peer),
                         FL_BLOCK_OUT);
  if (!block) {
    fl_fleet_count(f, FL_CAUSE_stale);
    return;
  }
  if (t->loss.n != 8 * block->count || t->hit.n != 8 * block->count || t->good.n != block->count) {
    fl_peer_drop(f, peer, FL_CAUSE_shape);
    return;
  }
  /* Reports that are read together look as if the later blocks had taken no time, and the first all
   * of it; so costs and times are added up, and no block's speed counts by itself. */
  peer->did += (double)block->cost;
  peer->took += now - peer->begun;
  peer->begun = now;
  peer->out--;
  peer->trained++;
  peer->out_cost -= block->cost;
  block->state = FL_BLOCK_TRAINED;
  fl_status status = keep_report(f, block, t);
  if (status != FEDLANE_OK) f->failed = status;
  fl_peer_assign(f, peer);
}

void fl_peer_refuse(fl_fleet *f, fl_peer *peer, const fl_refuse *r) {
  if (!f->job || r->round != f->job->work.round) return;
  fl_fleet_count(f, FL_CAUSE_refused);
  peer->refused = f->job->work.round;
  fl_peer_revoke(f, peer, f->job->who != NULL);
}

void fl_peer_revoke(fl_fleet *f, fl_peer *peer, bool forever) {
  int place = fl_peer_place(f, peer);
  for (int i = 0; i < f->blocks.n_block; i++) {
    fl_block *b = &f->blocks.block[i];
    if (b->peer != place || (b->state != FL_BLOCK_OUT && b->state != FL_BLOCK_TRAINED)) continue;
    fl_status status = fl_blocks_lose(&f->blocks, b, forever);
    if (status != FEDLANE_OK) f->failed = status;
  }
  if (forever && peer->unit >= 0) {
    int block = -1;
    fl_status status = fl_blocks_deal_unit(&f->blocks, place, (uint64_t)peer->unit, &block);
    if (status == FEDLANE_OK) status = fl_blocks_lose(&f->blocks, &f->blocks.block[block], true);
    if (status != FEDLANE_OK) f->failed = status;
  }
  peer->unit = -1;
  peer->out = peer->trained = 0;
  peer->out_cost = peer->kept = 0;
  fl_peer_unpile(f, peer);
  f->restless = true;
  if (!peer->session) return;
  fl_message m = {.kind = FL_MESSAGE_cancel, .cancel = {peer->session, f->job->work.round}};
  fl_fleet_say(f, peer, &m, NULL);
}
