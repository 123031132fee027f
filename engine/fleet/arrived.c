#include "fleet/arrived.h"

#include <string.h>

bool fl_arrived_is_sum(const fl_chunk *c, const fl_blob *body, uint64_t updates) {
  return c->payload == FL_PAYLOAD_SUM && c->stream < FL_STREAM_LEVELS * updates &&
         c->stream % FL_STREAM_LEVELS < FL_MIX_LEVELS &&
         fl_blob_size(body) == fl_payload_bytes(FL_PAYLOAD_SUM, c->count);
}

/* The sums, 8-byte aligned. */
static const int64_t *sums_of(const fl_blob *body, int64_t *scratch) {
  const void *at = fl_blob_at(body);
  if ((uintptr_t)at % sizeof(int64_t) == 0) return at;
  return memcpy(scratch, at, fl_blob_size(body));
}

bool fl_arrived_fits(const fl_mix *mix, const fl_chunk *c, const fl_blob *body, int64_t weight,
                     int64_t *scratch) {
  return fl_mix_fits(&mix[c->stream / FL_STREAM_LEVELS], (int64_t)c->count, sums_of(body, scratch),
                     weight);
}

fl_status fl_arrived_add(fl_mix *mix, const fl_chunk *c, const fl_blob *body, bool back,
                         int64_t *scratch) {
  const int64_t *sum = sums_of(body, scratch);
  for (uint64_t i = 0; back && i < c->count; i++) scratch[i] = (int64_t)(0 - (uint64_t)sum[i]);
  return fl_mix_add_level(&mix[c->stream / FL_STREAM_LEVELS], (int)(c->stream % FL_STREAM_LEVELS),
                          (int64_t)c->offset, (int64_t)c->count, back ? scratch : sum);
}
