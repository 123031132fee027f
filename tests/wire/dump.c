/* What tests/check_wire.py compares with: the records and examples of the wire, as this code has
 * them.
 *
 * wire_dump tables       the tables of docs/wire.md
 * wire_dump write FOLDER the example of every message as NAME.frame, of every payload as NAME.body,
 *                        and the smallest and largest messages as NAME.smallest and NAME.largest
 * wire_dump read FILE... reads frames: a line "FILE: kind field=value ..." each, or the mistake
 * wire_dump seeds FOLDER what the fuzz target starts from */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire_cases.h"

static void print_hex(const uint8_t *at, size_t n) {
  for (size_t i = 0; i < n; i++) {
    const char *gap = i + 1 == n || i % 32 == 31 ? "\n" : i % 4 == 3 ? " " : "";
    printf("%02x%s", at[i], gap);
  }
}

static void print_range(const fl_field *f) {
  static const char *const types[] = {"uint", "real", "bool", "text", "bytes"};
  printf("| `%s` | %s%s | ", f->name, types[f->type], f->optional ? ", optional" : "");
  if (f->type == FL_FIELD_REAL && f->lo == f->hi)
    printf("finite");
  else if (f->type == FL_FIELD_BOOL)
    printf(" ");
  else if (f->type == FL_FIELD_BYTES && f->each > 1)
    printf("%" PRIu64 " x %" PRIu64 " to %" PRIu64, f->each, f->lo / f->each, f->hi / f->each);
  else if (f->lo == f->hi)
    printf("%" PRIu64, f->lo);
  else
    printf("%" PRIu64 " to %" PRIu64, f->lo, f->hi);
  printf(" | %s |\n", f->help);
}

static size_t make(int kind, fl_wire_case which, uint8_t **frame) {
  fl_message message;
  size_t n = 0;
  fl_wire_case_fill((fl_message_kind)kind, which, &message);
  const size_t room = fl_wire_room(&message);
  *frame = malloc(room);
  if (!*frame || fl_wire_write(&message, room, *frame, &n) != FEDLANE_OK) {
    fprintf(stderr, "wire_dump: %s\n", fedlane_error());
    exit(1);
  }
  return n;
}

static void print_tables(void) {
  for (int kind = 0; kind < FL_MESSAGES; kind++) {
    const fl_message_record *record = fl_message_records[kind];
    const char *from = record->sender == 'P'   ? "a peer"
                       : record->sender == 'C' ? "the coordinator"
                                               : "either side";
    uint8_t *frame;
    const size_t n = make(kind, FL_WIRE_TYPICAL, &frame);
    printf("### %s\n\nFrom %s: %s.\n\n", record->name, from, record->help);
    printf("| field | type | bounds | meaning |\n|---|---|---|---|\n");
    for (int i = 0; i < record->n_field; i++) print_range(&record->field[i]);
    printf("\n```\n");
    print_hex(frame, n);
    printf("```\n\n");
    free(frame);
  }
}

static void save(const char *folder, const char *name, const char *end, const void *at, size_t n) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s%s", folder, name, end);
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(at, 1, n, file) != n || fclose(file) != 0) {
    fprintf(stderr, "wire_dump: cannot write %s\n", path);
    exit(1);
  }
}

static void save_frames(const char *folder, fl_wire_case which, const char *end) {
  for (int kind = 0; kind < FL_MESSAGES; kind++) {
    uint8_t *frame;
    const size_t n = make(kind, which, &frame);
    save(folder, fl_message_records[kind]->name, end, frame, n);
    free(frame);
  }
}

static size_t fill_body(int payload, uint8_t body[64]) {
  static const int64_t sums[2] = {-1, (int64_t)1 << 40};
  if (payload != FL_PAYLOAD_SUM)
    return fl_payload_write((fl_payload)payload, 8, fl_wire_floats, body);
  memcpy(body, sums, sizeof sums);
  return sizeof sums;
}

static void write_all(const char *folder) {
  uint8_t body[64];
  save_frames(folder, FL_WIRE_TYPICAL, ".frame");
  save_frames(folder, FL_WIRE_SMALLEST, ".smallest");
  save_frames(folder, FL_WIRE_LARGEST, ".largest");
  for (int payload = 0; payload < FL_PAYLOADS; payload++)
    save(folder, fl_payload_name((uint64_t)payload), ".body", body, fill_body(payload, body));
}

/* A seed's first byte says what follows: a frame from a peer, from the coordinator, or a payload
 * (tests/fuzz/wire.c). */
static void write_seeds(const char *folder) {
  uint8_t seed[1024];
  for (int kind = 0; kind < FL_MESSAGES; kind++) {
    uint8_t *frame;
    const size_t n = make(kind, FL_WIRE_TYPICAL, &frame);
    seed[0] = fl_message_records[kind]->sender == 'C';
    memcpy(seed + 1, frame, n - 8);
    save(folder, fl_message_records[kind]->name, "", seed, 1 + n - 8);
    free(frame);
  }
  for (int payload = 0; payload < FL_PAYLOAD_SUM; payload++) {
    seed[0] = (uint8_t)(2 + payload);
    seed[1] = 8, seed[2] = 0;
    save(folder, fl_payload_name((uint64_t)payload), "", seed, 3 + fill_body(payload, seed + 3));
  }
}

static void print_value(const fl_field *f, const void *value) {
  const fl_bytes *bytes = value;
  printf(" %s=", f->name);
  if (f->type == FL_FIELD_UINT) printf("%" PRIu64, *(const uint64_t *)value);
  if (f->type == FL_FIELD_REAL) printf("%.17g", *(const double *)value);
  if (f->type == FL_FIELD_BOOL) printf("%d", *(const bool *)value);
  if (f->type == FL_FIELD_TEXT || f->type == FL_FIELD_BYTES)
    for (size_t i = 0; i < bytes->n; i++) printf("%02x", ((const uint8_t *)bytes->at)[i]);
}

static void read_one(const char *path) {
  static uint8_t frame[FL_FRAME_BYTES + 1];
  fl_message message;
  FILE *file = fopen(path, "rb");
  const size_t n = file ? fread(frame, 1, sizeof frame, file) : 0;
  if (file) fclose(file);
  fl_status status = fl_wire_read(frame, n, 'P', &message);
  if (status != FEDLANE_OK && strstr(fedlane_error(), "only the coordinator"))
    status = fl_wire_read(frame, n, 'C', &message);
  const char *slash = strrchr(path, '/');
  printf("%s: ", slash ? slash + 1 : path);
  if (status == FEDLANE_OK) {
    const fl_message_record *record = fl_message_records[message.kind];
    printf("%s", record->name);
    for (int i = 0; i < record->n_field; i++)
      print_value(&record->field[i], (const char *)&message.hello + record->field[i].offset);
  } else {
    printf("refused: %s", fedlane_error());
  }
  printf("\n");
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  if (strcmp(what, "tables") == 0 && argc == 2)
    print_tables();
  else if (strcmp(what, "write") == 0 && argc == 3)
    write_all(argv[2]);
  else if (strcmp(what, "seeds") == 0 && argc == 3)
    write_seeds(argv[2]);
  else if (strcmp(what, "read") == 0 && argc > 2)
    for (int i = 2; i < argc; i++) read_one(argv[i]);
  else
    return fprintf(stderr,
                   "usage: wire_dump tables | write FOLDER | seeds FOLDER | read FILE...\n"),
           2;
  return 0;
}
