#include "pile.h"

#include <stdlib.h>
#include <string.h>

void fl_pile_open(fl_pile *p, uint64_t upload, uint64_t elements, uint32_t most) {
  memset(p, 0, sizeof *p);
  p->upload = upload;
  p->elements = elements;
  p->most = most;
}

void fl_pile_close(fl_pile *p) {
  for (int i = 0; i < p->n_stretch; i++) fl_blob_close(&p->stretch[i].body);
  for (int i = 0; i < p->n_stream; i++) free(p->stream[i].have);
  free(p->stretch);
  free(p->stream);
  free(p->blocks);
  free(p->streams);
  memset(p, 0, sizeof *p);
}

/* A copy of a list, *at then pointing to it. */
static fl_status keep(fl_bytes *at, uint32_t **copy) {
  *copy = malloc(at->n ? at->n : 1);
  if (!*copy) return fl_fail(FEDLANE_MEMORY, "no memory for an upload");
  if (at->n) memcpy(*copy, at->at, at->n);
  at->at = *copy;
  return FEDLANE_OK;
}

fl_status fl_pile_begin(fl_pile *p, const fl_update *about, fl_cause *cause) {
  if (p->begun) {
    *cause = FL_CAUSE_twice;
    return FEDLANE_OK;
  }
  p->about = *about;
  p->begun = true;
  FL_TRY(keep(&p->about.blocks, &p->blocks));
  FL_TRY(keep(&p->about.streams, &p->streams));
  size_t n = p->about.streams.n / sizeof *p->streams, chunked = n;
  while (chunked > 0 && p->streams[chunked - 1] & FL_TIED) p->streams[--chunked] &= ~FL_TIED;
  p->about.streams.n = chunked * sizeof *p->streams;
  p->n_tied = (int)(n - chunked);
  return FEDLANE_OK;
}

/* The place of a stream, made when it is new; NULL: there are too many. */
static fl_status stream_of(fl_pile *p, const fl_chunk *about, uint64_t chunks,
                           fl_pile_stream **out) {
  *out = NULL;
  for (int i = p->n_stream - 1; i >= 0; i--)
    if (p->stream[i].stream == about->stream) {
      *out = &p->stream[i];
      return FEDLANE_OK;
    }
  if ((uint32_t)p->n_stream == p->most) return FEDLANE_OK;
  if (p->n_stream == p->room_stream) {
    int room = p->room_stream ? 2 * p->room_stream : 8;
    fl_pile_stream *larger = realloc(p->stream, (size_t)room * sizeof *larger);
    if (!larger) return fl_fail(FEDLANE_MEMORY, "no memory for an upload");
    p->stream = larger;
    p->room_stream = room;
  }
  uint8_t *have = calloc(1, (size_t)(chunks + 7) / 8);
  if (!have) return fl_fail(FEDLANE_MEMORY, "no memory for an upload");
  *out = &p->stream[p->n_stream++];
  **out = (fl_pile_stream){.stream = about->stream, .payload = about->payload, .have = have};
  return FEDLANE_OK;
}

static fl_status keep_stretch(fl_pile *p, const fl_chunk *about, fl_blob **body) {
  if (p->n_stretch == p->room) {
    int room = p->room ? 2 * p->room : 16;
    fl_stretch *larger = realloc(p->stretch, (size_t)room * sizeof *larger);
    if (!larger) return fl_fail(FEDLANE_MEMORY, "no memory for an upload");
    p->stretch = larger;
    p->room = room;
  }
  p->bytes += (int64_t)(fl_blob_size(*body));
  p->stretch[p->n_stretch++] = (fl_stretch){*about, *body};
  *body = NULL;
  return FEDLANE_OK;
}

fl_status fl_pile_add(fl_pile *p, const fl_chunk *about, fl_blob **body, fl_cause *cause) {
  uint64_t each = fl_payload_elements((fl_payload)about->payload, FL_CHUNK_BYTES);
  uint64_t which = about->offset / each, left = p->elements - about->offset;
  uint64_t chunks = (p->elements + each - 1) / each;
  if (about->offset >= p->elements || about->offset % each != 0 ||
      about->count != (left < each ? left : each)) {
    *cause = FL_CAUSE_shape;
    return FEDLANE_OK;
  }
  fl_pile_stream *stream = NULL;
  FL_TRY(stream_of(p, about, chunks, &stream));
  uint8_t bit = (uint8_t)(1u << (which % 8));
  if (!stream || stream->payload != about->payload)
    *cause = FL_CAUSE_shape;
  else if (stream->have[which / 8] & bit)
    *cause = FL_CAUSE_twice;
  else if (fl_digest(fl_blob_at(*body), fl_blob_size(*body)) != about->body)
    *cause = FL_CAUSE_corrupt;
  if (*cause != FL_CAUSE_none) return FEDLANE_OK;
  FL_TRY(keep_stretch(p, about, body));
  stream->have[which / 8] |= bit;
  if (++stream->n == chunks) p->n_full++;
  return FEDLANE_OK;
}

static int by_number(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

/* Whether the streams that are there are those that are listed, of which there are as many. */
static fl_status same_streams(const fl_pile *p, bool *same) {
  size_t n = (size_t)p->n_stream, size = n * sizeof(uint32_t);
  uint32_t *there = malloc(2 * size + 1), *listed = there + n;
  if (!there) return fl_fail(FEDLANE_MEMORY, "no memory for an upload");
  for (size_t i = 0; i < n; i++) there[i] = (uint32_t)p->stream[i].stream;
  if (n) memcpy(listed, p->streams, size);
  qsort(there, n, sizeof *there, by_number);
  qsort(listed, n, sizeof *listed, by_number);
  *same = memcmp(there, listed, size) == 0;
  free(there);
  return FEDLANE_OK;
}

fl_status fl_pile_complete(const fl_pile *p, bool *complete, fl_cause *cause) {
  size_t listed = p->about.streams.n / sizeof(uint32_t);
  bool same = false;
  *complete = false;
  if (!p->begun || (size_t)p->n_full < listed) return FEDLANE_OK;
  if ((size_t)p->n_stream == listed) FL_TRY(same_streams(p, &same));
  *complete = same;
  if (!same) *cause = FL_CAUSE_shape;
  return FEDLANE_OK;
}
