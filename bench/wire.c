/* What the wire costs: numbers as bytes and back, their digests, and first frames, beside memcpy of
 * the same floats in the same run. */
#include "wire.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

enum { REPEAT = 15, FLOATS = 1 << 24 };

/* A vector, its chunks as bytes, and room for it to come back. */
typedef struct wire_rig {
  float *x, *y;
  uint8_t *bytes;
  fl_payload payload;
  size_t *size; /* of each chunk's body */
  uint64_t each, sum;
} wire_rig;

static void copy(wire_rig *r) {
  for (uint64_t at = 0; at < FLOATS; at += r->each)
    memcpy(r->y + at, r->x + at, sizeof *r->x * (FLOATS - at < r->each ? FLOATS - at : r->each));
}

static void write_chunks(wire_rig *r) {
  for (uint64_t at = 0, i = 0; at < FLOATS; at += r->each, i++)
    r->size[i] = fl_payload_write(r->payload, FLOATS - at < r->each ? FLOATS - at : r->each,
                                  r->x + at, r->bytes + i * FL_CHUNK_BYTES);
}

static void read_chunks(wire_rig *r) {
  for (uint64_t at = 0, i = 0; at < FLOATS; at += r->each, i++)
    r->sum += fl_payload_read(r->payload, FLOATS - at < r->each ? FLOATS - at : r->each,
                              r->bytes + i * FL_CHUNK_BYTES, r->size[i], r->y + at);
}

static void digest(wire_rig *r) {
  for (uint64_t at = 0; at < FLOATS; at += r->each)
    r->sum += fl_digest(r->x + at, sizeof *r->x * (FLOATS - at < r->each ? FLOATS - at : r->each));
}

/* The shortest of some calls, after one that warms the memory. */
static double time_of(wire_rig *r, void (*run)(wire_rig *r)) {
  double best = 0;
  for (int i = -1; i < REPEAT; i++) {
    const double start = fl_seconds();
    run(r);
    const double seconds = fl_seconds() - start;
    if (i == 0 || (i > 0 && seconds < best)) best = seconds;
  }
  return best;
}

static void add_row(json_t *rows, const char *what, double seconds, double copied) {
  const double speed = 1e-9 * sizeof(float) * FLOATS / seconds;
  printf("%-16s %10.2f %18.2f\n", what, speed, seconds / copied);
  json_array_append_new(rows, json_pack("{s:s, s:f, s:f}", "what", what, "gigabytes_per_second",
                                        speed, "times_memcpy", seconds / copied));
}

static fl_status time_payloads(wire_rig *r, json_t *rows) {
  char what[32];
  r->each = fl_payload_elements(FL_PAYLOAD_F32, FL_CHUNK_BYTES);
  double copied = time_of(r, copy);
  add_row(rows, "memcpy", copied, copied);
  for (int payload = 0; payload < FL_PAYLOAD_SUM; payload++) {
    r->payload = (fl_payload)payload;
    r->each = fl_payload_elements(r->payload, FL_CHUNK_BYTES);
    copied = time_of(r, copy);
    snprintf(what, sizeof what, "%s write", fl_payload_name((uint64_t)payload));
    add_row(rows, what, time_of(r, write_chunks), copied);
    snprintf(what, sizeof what, "%s read", fl_payload_name((uint64_t)payload));
    add_row(rows, what, time_of(r, read_chunks), copied);
  }
  r->each = fl_payload_elements(FL_PAYLOAD_F32, FL_CHUNK_BYTES);
  add_row(rows, "digest", time_of(r, digest), copied);
  return r->sum ? FEDLANE_OK : fl_fail(FEDLANE_INTERNAL, "nothing was measured");
}

/* First frames of a chunk: seconds to write one and to read it. */
static fl_status time_frames(double *writes, double *reads) {
  enum { FRAMES = 200000 };
  fl_message m = {.kind = FL_MESSAGE_chunk,
                  .chunk = {.session = INT64_MAX, .round = 7, .count = 1, .body = UINT64_MAX}};
  uint8_t frame[256];
  size_t n = 0;
  double start = fl_seconds();
  for (int i = 0; i < FRAMES; i++) {
    m.chunk.offset = (uint64_t)i;
    FL_TRY(fl_wire_write(&m, sizeof frame, frame, &n));
  }
  *writes = (fl_seconds() - start) / FRAMES;
  start = fl_seconds();
  for (int i = 0; i < FRAMES; i++) FL_TRY(fl_wire_read(frame, n, 'P', &m));
  *reads = (fl_seconds() - start) / FRAMES;
  return FEDLANE_OK;
}

static fl_status store(const char *path, json_t *rows, json_t *pipeline, double writes,
                       double reads) {
  json_t *out = json_pack("{s:s, s:i, s:f, s:f, s:O, s:O}", "version", fedlane_version(), "floats",
                          FLOATS, "frame_write_seconds", writes, "frame_read_seconds", reads,
                          "payloads", rows, "pipeline", pipeline);
  const bool good = out && json_dump_file(out, path, JSON_INDENT(2)) == 0;
  json_decref(out);
  return good ? FEDLANE_OK : fl_fail(FEDLANE_IO, "%s: the figures cannot be written", path);
}

fl_status fl_bench_wire(const fl_bench_options *o) {
  const size_t chunks = FLOATS * 8 / FL_CHUNK_BYTES + 1;
  double writes, reads;
  fl_status status;
  json_t *rows = json_array(), *pipeline = json_array();
  wire_rig r = {.x = malloc(FLOATS * sizeof(float)),
                .y = malloc(FLOATS * sizeof(float)),
                .bytes = malloc(chunks * FL_CHUNK_BYTES),
                .size = calloc(chunks, sizeof *r.size)};
  if (!r.x || !r.y || !r.bytes || !r.size || !rows || !pipeline) {
    status = fl_fail(FEDLANE_MEMORY, "no memory for the bench");
    goto done;
  }
  uint32_t state = 1;
  for (size_t i = 0; i < FLOATS; i++) {
    state = state * 1664525 + 1013904223;
    r.x[i] = (state >> 16) % 100 == 0 ? (float)(int32_t)state * 0x1p-40f : 0;
  }
  printf("%d floats in chunks, one in 100 is not 0, one core, best of %d\n", FLOATS, REPEAT);
  printf("%-16s %10s %18s\n", "", "GB/s", "times memcpy");
  FL_GO(time_payloads(&r, rows));
  FL_GO(time_frames(&writes, &reads));
  printf("first frames of a chunk: %.0f ns to write, %.0f ns to read\n", 1e9 * writes, 1e9 * reads);
  FL_GO(fl_bench_pipeline(pipeline));
  if (o->json) FL_GO(store(o->json, rows, pipeline, writes, reads));
done:
  free(r.x);
  free(r.y);
  free(r.bytes);
  free(r.size);
  json_decref(rows);
  json_decref(pipeline);
  return status;
}
