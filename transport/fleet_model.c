/* The model on its way down: each chunk is made once a version and handed out by reference. */
#include <string.h>

#include "fleet_parts.h"

void fl_fleet_forget_model(fl_fleet *f) {
  for (uint64_t i = 0; i < f->about.vectors * f->chunks; i++) fl_blob_close(&f->chunk[i]);
}

static fl_status make_chunk(fl_fleet *f, uint64_t vector, const fl_chunk *about, fl_blob **out) {
  const float *x = NULL;
  FL_TRY(f->host.vector(f->host.of, vector, &x));
  FL_TRY(fl_blob_open(about->count * sizeof *x, out));
  memcpy(fl_blob_at(*out), x + about->offset, about->count * sizeof *x);
  return FEDLANE_OK;
}

/* The body of a chunk and its digest, of the model from what is kept. */
static fl_status body_of(fl_fleet *f, fl_chunk *about, fl_blob **out) {
  uint64_t each = FL_CHUNK_BYTES / sizeof(float), vector = about->stream;
  if (vector >= f->about.vectors) {
    FL_TRY(make_chunk(f, vector, about, out));
    about->body = fl_digest(fl_blob_at(*out), fl_blob_size(*out));
    return FEDLANE_OK;
  }
  uint64_t i = vector * f->chunks + about->offset / each;
  if (!f->chunk[i]) {
    FL_TRY(make_chunk(f, vector, about, &f->chunk[i]));
    f->chunk_digest[i] = fl_digest(fl_blob_at(f->chunk[i]), fl_blob_size(f->chunk[i]));
  }
  about->body = f->chunk_digest[i];
  return fl_blob_share(f->chunk[i], out);
}

void fl_peer_fetch(fl_fleet *f, fl_peer *peer, const fl_fetch *fetch) {
  uint64_t each = FL_CHUNK_BYTES / sizeof(float);
  if (!f->job || fetch->round != f->job->work.round) {
    fl_message m = {.kind = FL_MESSAGE_cancel, .cancel = {peer->session, fetch->round}};
    fl_fleet_count(f, FL_CAUSE_stale);
    fl_fleet_say(f, peer, &m, NULL);
    return;
  }
  if (fetch->vector & FL_TIED) {
    fl_peer_fetch_tied(f, peer, fetch->vector & ~(uint64_t)FL_TIED);
    return;
  }
  uint64_t first = f->about.vectors + f->about.own * f->job->first;
  uint64_t end = first + f->about.own * f->job->n;
  bool known = fetch->vector < f->about.vectors || (fetch->vector >= first && fetch->vector < end);
  if (!known || fetch->from + fetch->count > f->chunks) {
    fl_fleet_count(f, FL_CAUSE_shape);
    return;
  }
  for (uint64_t i = fetch->from; i < fetch->from + fetch->count && peer->session; i++) {
    uint64_t left = f->about.elements - i * each;
    fl_message m = {.kind = FL_MESSAGE_chunk,
                    .chunk = {.session = peer->session,
                              .round = fetch->round,
                              .stream = fetch->vector,
                              .payload = FL_PAYLOAD_F32,
                              .offset = i * each,
                              .count = left < each ? left : each}};
    fl_blob *body = NULL;
    fl_status status = body_of(f, &m.chunk, &body);
    if (status != FEDLANE_OK) {
      f->failed = status;
      return;
    }
    fl_fleet_say(f, peer, &m, body);
  }
}
