/* Vectors that a session fetches and sends. */
#include <stdlib.h>
#include <string.h>

#include "session_parts.h"

void fl_session_take_chunk(fl_session *s, const fl_chunk *c, const fl_blob *body) {
  uint64_t each = FL_CHUNK_BYTES / sizeof(float), left = s->welcome.elements - c->offset;
  if (!s->into || c->round != s->round || c->stream < s->vector || c->stream - s->vector >= s->n ||
      c->upload != 0 || c->payload != FL_PAYLOAD_F32 || c->offset % each != 0 ||
      c->offset >= s->welcome.elements || c->count != (left < each ? left : each))
    return;
  uint64_t vector = c->stream - s->vector, i = vector * s->chunks + c->offset / each;
  if (s->have[i]) return;
  if (fl_digest(fl_blob_at(body), fl_blob_size(body)) != c->body ||
      fl_payload_read(FL_PAYLOAD_F32, c->count, fl_blob_at(body), fl_blob_size(body),
                      s->into[vector] + c->offset) != FEDLANE_OK) {
    s->lost = true;
    return;
  }
  s->have[i] = 1;
  s->got++;
}

/* Asks for the next chunks, a few ahead of those that are in; a message asks for those of one
 * vector. */
static fl_status ask(fl_session *s) {
  uint64_t all = s->n * s->chunks;
  while (s->asked < all && s->asked < s->got + FL_WINDOW) {
    uint64_t room = s->got + FL_WINDOW - s->asked, from = s->asked % s->chunks;
    uint64_t left = s->chunks - from;
    if (room < left && room < FL_WINDOW / 2) break;
    fl_message m = {.kind = FL_MESSAGE_fetch,
                    .fetch = {.round = s->round,
                              .vector = s->vector + s->asked / s->chunks,
                              .from = from,
                              .count = room < left ? room : left}};
    s->asked += m.fetch.count;
    FL_TRY(fl_session_say(s, &m));
  }
  return FEDLANE_OK;
}

fl_status fl_session_fetch(fl_session *s, uint64_t round, uint64_t vector, float *out, bool *got) {
  return fl_session_fetch_all(s, round, vector, 1, &out, got);
}

fl_status fl_session_fetch_all(fl_session *s, uint64_t round, uint64_t vector, uint64_t n,
                               float *const *out, bool *got) {
  uint64_t each = FL_CHUNK_BYTES / sizeof(float);
  fl_status status = FEDLANE_OK;
  *got = false;
  s->chunks = (s->welcome.elements + each - 1) / each;
  free(s->have);
  s->have = calloc((size_t)n, (size_t)s->chunks);
  if (!s->have)
    return fl_fail(FEDLANE_MEMORY, "no memory for a model of %llu chunks",
                   (unsigned long long)s->chunks);
  s->into = out;
  s->round = round;
  s->vector = vector;
  s->n = n;
  s->asked = s->got = 0;
  s->over = false;
  while (s->got < n * s->chunks && !s->over && !s->lost && !s->done) {
    FL_GO(ask(s));
    FL_GO(fl_session_look(s, 0.2));
    if (s->n_event >= FL_EVENTS / 2) s->lost = true;
  }
  *got = s->got == n * s->chunks;
done:
  s->into = NULL;
  return status;
}

/* What it was asked for is not over, though its round's work may have been taken back before. */
fl_status fl_session_begin(fl_session *s, fl_update *about) {
  fl_message m = {.kind = FL_MESSAGE_update, .update = *about};
  s->round = about->round;
  s->over = false;
  return fl_session_say(s, &m);
}

fl_status fl_session_ask_tied(fl_session *s, uint64_t round, uint64_t vector) {
  fl_message m = {.kind = FL_MESSAGE_fetch,
                  .fetch = {.round = round, .vector = FL_TIED | vector, .count = 1}};
  s->round = round;
  s->over = false;
  return fl_session_say(s, &m);
}

static fl_status make_body(const fl_chunk *c, const void *x, fl_blob **out) {
  fl_blob *body = NULL;
  fl_payload payload = (fl_payload)c->payload;
  FL_TRY(fl_blob_open(fl_payload_bytes(payload, c->count), &body));
  if (payload == FL_PAYLOAD_SUM) {
    memcpy(fl_blob_at(body), (const int64_t *)x + c->offset, 8 * (size_t)c->count);
    *out = body;
    return FEDLANE_OK;
  }
  size_t n = fl_payload_write(payload, c->count, (const float *)x + c->offset, fl_blob_at(body));
  fl_status status = FEDLANE_OK;
  if (n < fl_blob_size(body)) { /* sparse: as many bytes as it has pairs */
    status = fl_blob_open(n, out);
    if (status == FEDLANE_OK) memcpy(fl_blob_at(*out), fl_blob_at(body), n);
    fl_blob_close(&body);
  } else {
    *out = body;
  }
  return status;
}

fl_status fl_session_stream(fl_session *s, const fl_update *about, uint64_t stream, const void *x,
                            bool *sent) {
  uint64_t elements = s->welcome.elements;
  uint64_t each = fl_payload_elements((fl_payload)about->payload, FL_CHUNK_BYTES);
  bool pipeline = s->welcome.pipeline.n > 0;
  *sent = true;
  for (uint64_t at = 0; at < elements && *sent; at += each) {
    fl_message m = {.kind = FL_MESSAGE_chunk,
                    .chunk = {.session = s->number,
                              .round = about->round,
                              .upload = about->upload,
                              .stream = stream,
                              .payload = about->payload,
                              .offset = at,
                              .count = elements - at < each ? elements - at : each}};
    fl_blob *body = NULL, *again = NULL;
    FL_TRY(make_body(&m.chunk, x, &body));
    m.chunk.body = fl_digest(fl_blob_at(body), fl_blob_size(body));
    for (;;) {
      fl_status status = fl_blob_share(body, &again);
      if (status == FEDLANE_OK && fl_session_post(s, pipeline, 0.2, &m, again) == FL_SENT) break;
      if (status == FEDLANE_OK) status = fl_session_look(s, 0);
      if (status != FEDLANE_OK) fl_blob_close(&body);
      FL_TRY(status);
      *sent = !s->lost && !s->done && !s->over;
      if (!*sent) break;
    }
    fl_blob_close(&body);
  }
  return FEDLANE_OK;
}
