/* Updates on their way up: chunks are mixed as they come, and kept until an upload is whole. Then
 * it is taken; one that never gets there is taken off again. */
#include <stdlib.h>
#include <string.h>

#include "fleet_parts.h"

/* What has been mixed of an upload that will not be taken comes off again. */
static void take_off(fl_fleet *f, fl_pile *pile) {
  while (pile->n_mixed > 0) {
    fl_status status = f->host.unmix(f->host.of, &pile->stretch[--pile->n_mixed]);
    if (status != FEDLANE_OK) f->failed = status;
  }
}

void fl_peer_unpile(fl_fleet *f, fl_peer *peer) {
  take_off(f, &peer->pile);
  if (peer->reserved) f->restless = true; /* others may have waited for the memory */
  f->staged -= peer->reserved;
  peer->reserved = 0;
  fl_pile_close(&peer->pile);
}

static void leave_out(fl_fleet *f, fl_peer *peer, fl_cause cause) {
  uint64_t session = peer->session;
  fl_fleet_count(f, cause);
  fl_message m = {.kind = FL_MESSAGE_received,
                  .received = {session, f->job->work.round, peer->pile.upload, false}};
  fl_fleet_say(f, peer, &m, NULL);
  if (peer->session != session) return;
  peer->refused = f->job->work.round;
  fl_peer_revoke(f, peer, f->job->who != NULL);
}

/* The reports of the blocks that an upload lists: all that the peer has trained, each once. */
static fl_status reports_of(fl_fleet *f, fl_peer *peer, fl_report **out, int *n, fl_cause *cause) {
  const fl_pile *pile = &peer->pile;
  int listed = (int)(pile->about.blocks.n / sizeof(uint32_t));
  *n = listed;
  *out = calloc((size_t)listed + 1, sizeof **out);
  if (!*out) return fl_fail(FEDLANE_MEMORY, "no memory for an upload");
  if (listed != peer->trained) *cause = FL_CAUSE_shape;
  for (int i = 0; i < listed; i++) {
    const fl_block *b = fl_blocks_of(&f->blocks, pile->blocks[i] - f->first_block,
                                     fl_peer_place(f, peer), FL_BLOCK_TRAINED);
    for (int k = 0; k < i; k++)
      if (pile->blocks[k] == pile->blocks[i]) b = NULL;
    if (b)
      (*out)[i] = b->report;
    else
      *cause = FL_CAUSE_shape;
  }
  return FEDLANE_OK;
}

/* By their units, which those of two blocks do not share. */
static int by_units(const void *a, const void *b) {
  const fl_report *x = a, *y = b;
  return (x->first >= y->first + y->count) - (y->first >= x->first + x->count);
}

/* Whether the vectors that units keep, as an upload lists them, are those of the units that it
 * reports: all of theirs, and nobody else's. That each is listed once is seen when all have come.
 */
static bool keeps_own(const fl_fleet *f, const fl_pile *pile, fl_report *report, int n) {
  uint64_t own = f->about.own, expected = 0, listed = 0;
  for (int i = 0; i < n; i++) expected += own * report[i].count;
  qsort(report, (size_t)n, sizeof *report, by_units);
  for (size_t i = 0; i < pile->about.streams.n / sizeof *pile->streams; i++) {
    uint32_t stream = pile->streams[i];
    if (stream < FL_STREAM_OWN) continue;
    if (own == 0) return false;
    fl_report unit = {.first = (stream - FL_STREAM_OWN) / own, .count = 1};
    if (!bsearch(&unit, report, (size_t)n, sizeof *report, by_units)) return false;
    listed++;
  }
  return listed == expected;
}

/* Asks the host about an upload as far as it has come. */
static fl_status ask(fl_fleet *f, fl_peer *peer,
                     fl_status (*host)(void *of, const fl_upload *upload, fl_cause *cause),
                     fl_cause *cause) {
  const fl_pile *pile = &peer->pile;
  fl_report *report = NULL;
  int n = 0;
  fl_status status = FEDLANE_OK;
  FL_GO(reports_of(f, peer, &report, &n, cause));
  if (pile->n_tied > 0 && !f->host.send) *cause = FL_CAUSE_shape;
  if (*cause == FL_CAUSE_none && !keeps_own(f, pile, report, n)) *cause = FL_CAUSE_shape;
  if (*cause != FL_CAUSE_none) goto done;
  fl_upload upload = {.about = pile->about,
                      .n_report = n,
                      .n_stretch = pile->n_stretch,
                      .report = report,
                      .stretch = pile->stretch,
                      .n_tied = pile->n_tied,
                      .tied = pile->streams + pile->about.streams.n / sizeof *pile->streams,
                      .name = peer->name,
                      .session = peer->session};
  FL_GO(host(f->host.of, &upload, cause));
done:
  free(report);
  return status;
}

/* Adds what has come of an announced upload to the sums. */
static fl_status mix(fl_fleet *f, fl_peer *peer, fl_cause *cause) {
  fl_pile *pile = &peer->pile;
  if (!f->host.mix || !pile->begun) return FEDLANE_OK;
  while (pile->n_mixed < pile->n_stretch) {
    FL_TRY(f->host.mix(f->host.of, &pile->about, &pile->stretch[pile->n_mixed], cause));
    if (*cause != FL_CAUSE_none) return FEDLANE_OK;
    pile->n_mixed++;
  }
  return FEDLANE_OK;
}

static fl_status take(fl_fleet *f, fl_peer *peer, fl_cause *cause) {
  fl_pile *pile = &peer->pile;
  FL_TRY(ask(f, peer, f->host.take, cause));
  if (*cause != FL_CAUSE_none) return FEDLANE_OK;
  pile->n_mixed = 0; /* that stays */
  for (size_t i = 0; i < pile->about.blocks.n / sizeof *pile->blocks; i++)
    fl_blocks_done(&f->blocks, &f->blocks.block[pile->blocks[i] - f->first_block]);
  return FEDLANE_OK;
}

/* The tie has broken: the peer still has all of the upload, and sends it in chunks. */
static void take_again(fl_fleet *f, fl_peer *peer) {
  uint64_t session = peer->session;
  fl_fleet_count(f, FL_CAUSE_tie);
  fl_peer_unpile(f, peer);
  fl_peer_untie(f, peer);
  if (peer->session == session) fl_peer_assign(f, peer);
}

/* What follows from what has just arrived for an upload. */
static void go_on(fl_fleet *f, fl_peer *peer, fl_status status, fl_cause cause) {
  if (status == FEDLANE_OK && cause == FL_CAUSE_twice) {
    fl_fleet_count(f, cause);
    return;
  }
  bool whole = false;
  if (status == FEDLANE_OK && cause == FL_CAUSE_none) status = mix(f, peer, &cause);
  if (status == FEDLANE_OK && cause == FL_CAUSE_none)
    status = fl_pile_complete(&peer->pile, &whole, &cause);
  if (whole) status = take(f, peer, &cause);
  if (status != FEDLANE_OK) {
    f->failed = status;
  } else if (cause == FL_CAUSE_tie) {
    take_again(f, peer);
  } else if (cause != FL_CAUSE_none) {
    leave_out(f, peer, cause);
  } else if (whole) {
    fl_message m = {.kind = FL_MESSAGE_received,
                    .received = {peer->session, f->job->work.round, peer->pile.upload, true}};
    peer->trained = 0;
    peer->kept = 0;
    fl_fleet_say(f, peer, &m, NULL);
    fl_peer_unpile(f, peer); /* after the word that others may wait for: it frees much */
    fl_peer_assign(f, peer);
  }
}

/* Whether an upload is the one that is expected of a peer. */
static bool expected(fl_fleet *f, const fl_peer *peer, uint64_t round, uint64_t upload) {
  if (f->job && round == f->job->work.round && upload > 0 && upload == peer->pile.upload)
    return true;
  fl_fleet_count(f, FL_CAUSE_stale);
  return false;
}

void fl_peer_update(fl_fleet *f, fl_peer *peer, const fl_update *update) {
  fl_cause cause = FL_CAUSE_none;
  if (!expected(f, peer, update->round, update->upload)) return;
  peer->moved = fl_fleet_now();
  fl_status status = fl_pile_begin(&peer->pile, update, &cause);
  if (status == FEDLANE_OK && cause == FL_CAUSE_none && f->host.check)
    status = ask(f, peer, f->host.check, &cause);
  go_on(f, peer, status, cause);
}

void fl_peer_chunk(fl_fleet *f, fl_peer *peer, const fl_chunk *chunk, fl_blob **body) {
  enum { SLACK = 16 * FL_CHUNK_BYTES };
  fl_cause cause = FL_CAUSE_none;
  if (!expected(f, peer, chunk->round, chunk->upload)) return;
  peer->moved = fl_fleet_now();
  if (peer->pile.bytes > 4 * peer->reserved + SLACK) {
    fl_fleet_bye(f, &peer->route, peer->session, FL_BYE_REFUSED, "its update is too large");
    fl_peer_drop(f, peer, FL_CAUSE_oversized);
    return;
  }
  fl_status status = fl_pile_add(&peer->pile, chunk, body, &cause);
  go_on(f, peer, status, cause);
}
