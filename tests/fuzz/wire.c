/* Any bytes given to the readers of the wire are refused, or make a message within bounds, which
 * can be written and read back, or finite numbers. The first byte chooses: a frame from a peer, one
 * from the coordinator, both without their digests, a frame as it is, or a payload and its count.
 */
#include "wire.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TAIL = 8, WHOLE = 6 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_frame(const uint8_t *frame, size_t n, char from) {
  fl_message message, again;
  size_t written;
  if (fl_wire_read(frame, n, from, &message) != FEDLANE_OK) {
    if (!fedlane_error()[0]) abort();
    return;
  }
  const size_t room = fl_wire_room(&message);
  uint8_t *out = malloc(room);
  if (!out || fl_wire_write(&message, room, out, &written) != FEDLANE_OK || written > room ||
      fl_wire_read(out, written, from, &again) != FEDLANE_OK || again.kind != message.kind)
    abort();
  free(out);
}

static void read_sealed(const uint8_t *data, size_t size, char from) {
  uint8_t *frame = malloc(size + TAIL);
  if (!frame) return;
  const uint64_t digest = fl_digest(data, size);
  if (size) memcpy(frame, data, size);
  memcpy(frame + size, &digest, TAIL);
  read_frame(frame, size + TAIL, from);
  free(frame);
}

static void read_payload(fl_payload payload, const uint8_t *data, size_t size) {
  const size_t count = size >= 2 ? (size_t)data[0] | (size_t)data[1] << 8 : 0;
  float *x = malloc((count + 1) * sizeof *x);
  if (!x || size < 2) {
    free(x);
    return;
  }
  if (fl_payload_read(payload, count, data + 2, size - 2, x) == FEDLANE_OK)
    for (size_t i = 0; i < count; i++)
      if (!isfinite(x[i])) abort();
  free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1) return 0;
  const int what = *data % 7;
  if (what < 2)
    read_sealed(data + 1, size - 1, what ? 'C' : 'P');
  else if (what < WHOLE)
    read_payload((fl_payload)(what - 2), data + 1, size - 1);
  else
    read_frame(data + 1, size - 1, 'P');
  return 0;
}
