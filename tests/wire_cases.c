#include "wire_cases.h"

#include <float.h>
#include <string.h>

#define TEXT(words) \
  { words, sizeof(words) - 1 }
#define BYTES(array) \
  { array, sizeof(array) }

const float fl_wire_floats[8] = {1, -0.5f, 0, 0.1f, 3.14159274f, 0, -127, 0};

static const double loss[] = {2.5, 0.75};
static const int64_t hit[] = {17, 20};
static const uint8_t good[] = {1, 0};
static const uint8_t id[FL_TIE_BYTES] = {2, 0, 0xC3, 0x50, 10, 0, 0, 5};
static const uint32_t blocks[] = {12}, streams[] = {FL_STREAM_UPDATE};

static const fl_message typical[FL_MESSAGES] = {
    [FL_MESSAGE_hello] = {.hello = {.wire = FL_WIRE,
                                    .peer = FL_PEER_CLIENT,
                                    .examples = 600,
                                    .name = TEXT("car-17"),
                                    .program = TEXT("client.py 1")}},
    [FL_MESSAGE_welcome] = {.welcome = {.wire = FL_WIRE,
                                        .session = 81985529216486895,
                                        .elements = 7850,
                                        .vectors = 1,
                                        .updates = 1,
                                        .chunk = FL_CHUNK_BYTES,
                                        .digest = TEXT("5f0c9a3be1d27846"),
                                        .config = TEXT("name: fleet\n"),
                                        .layout = TEXT("fc.weight 0 10 784\nfc.bias 7840 10\n"),
                                        .pipeline = TEXT("tcp://*:7001"),
                                        .patience = 10,
                                        .people = 0xFEDCBA9876543210}},
    [FL_MESSAGE_ready] = {.ready = {.session = 81985529216486895, .lanes = 1, .credit = 1}},
    [FL_MESSAGE_work] = {.work = {.session = 81985529216486895,
                                  .round = 3,
                                  .block = 12,
                                  .first = 40,
                                  .count = 1,
                                  .bits = 36,
                                  .epochs = 2,
                                  .batch = 20,
                                  .lr = 0.05,
                                  .deadline = 60}},
    [FL_MESSAGE_fetch] = {.fetch = {.session = 81985529216486895, .round = 3, .count = 8}},
    [FL_MESSAGE_chunk] = {.chunk = {.session = 81985529216486895,
                                    .round = 3,
                                    .upload = 5,
                                    .stream = FL_STREAM_UPDATE,
                                    .payload = FL_PAYLOAD_BF16,
                                    .offset = 4096,
                                    .count = 8,
                                    .body = 0xFEDCBA9876543210}},
    [FL_MESSAGE_trained] = {.trained = {.session = 81985529216486895,
                                        .round = 3,
                                        .block = 12,
                                        .seconds = 1.25,
                                        .loss = BYTES(loss),
                                        .hit = BYTES(hit),
                                        .good = BYTES(good)}},
    [FL_MESSAGE_collect] = {.collect = {.session = 81985529216486895, .round = 3, .upload = 5}},
    [FL_MESSAGE_update] = {.update = {.session = 81985529216486895,
                                      .round = 3,
                                      .upload = 5,
                                      .payload = FL_PAYLOAD_BF16,
                                      .blocks = BYTES(blocks),
                                      .streams = BYTES(streams),
                                      .weight = 600,
                                      .examples = 600,
                                      .steps = 60,
                                      .loss = 431.5,
                                      .hits = 1022}},
    [FL_MESSAGE_received] =
        {.received = {.session = 81985529216486895, .round = 3, .upload = 5, .mixed = true}},
    [FL_MESSAGE_refuse] = {.refuse = {.session = 81985529216486895,
                                      .round = 3,
                                      .block = 12,
                                      .why = TEXT("the battery is low: 7 °C")}},
    [FL_MESSAGE_cancel] = {.cancel = {.session = 81985529216486895, .round = 3}},
    [FL_MESSAGE_ping] = {.ping = {.session = 81985529216486895, .round = 3}},
    [FL_MESSAGE_pong] = {.pong = {.session = 81985529216486895, .round = 3}},
    [FL_MESSAGE_alive] = {.alive = {.session = 81985529216486895, .seconds = 10}},
    [FL_MESSAGE_leave] = {.leave = {.session = 81985529216486895}},
    [FL_MESSAGE_offer] = {.offer = {.session = 81985529216486895,
                                    .version = 22304,
                                    .why = TEXT("libnccl.so.2 cannot be loaded")}},
    [FL_MESSAGE_accept] = {.accept = {.session = 81985529216486895, .id = BYTES(id)}},
    [FL_MESSAGE_bye] = {.bye = {.session = 81985529216486895,
                                .code = FL_BYE_DONE,
                                .why = TEXT("100 rounds are done")}},
};

/* Bytes for the longest fields: no letter but x, so that they are a text as well. */
static const void *letters(void) {
  static char many[FL_FRAME_BYTES];
  if (!many[0]) memset(many, 'x', sizeof many);
  return many;
}

void fl_wire_case_fill(fl_message_kind kind, fl_wire_case which, fl_message *out) {
  const fl_message_record *record = fl_message_records[kind];
  *out = which == FL_WIRE_TYPICAL ? typical[kind] : (fl_message){0};
  out->kind = kind;
  for (int i = 0; i < record->n_field && which != FL_WIRE_TYPICAL; i++) {
    const fl_field *f = &record->field[i];
    void *value = (char *)&out->hello + f->offset;
    const bool most = which == FL_WIRE_LARGEST;
    const uint64_t bound = most ? f->hi : f->lo;
    if (f->type == FL_FIELD_UINT)
      *(uint64_t *)value = bound;
    else if (f->type == FL_FIELD_REAL)
      *(double *)value = f->lo < f->hi ? (double)bound : most ? DBL_MAX : -DBL_MAX;
    else if (f->type == FL_FIELD_BOOL)
      *(bool *)value = most;
    else
      *(fl_bytes *)value = (fl_bytes){letters(), bound};
  }
}

static bool same_field(const fl_field *f, const void *a, const void *b) {
  const fl_bytes *s = a, *t = b;
  if (f->type == FL_FIELD_UINT || f->type == FL_FIELD_REAL) return memcmp(a, b, 8) == 0;
  if (f->type == FL_FIELD_BOOL) return *(const bool *)a == *(const bool *)b;
  return s->n == t->n && (s->n == 0 || memcmp(s->at, t->at, s->n) == 0);
}

bool fl_wire_case_same(const fl_message *a, const fl_message *b) {
  if (a->kind != b->kind) return false;
  const fl_message_record *record = fl_message_records[a->kind];
  for (int i = 0; i < record->n_field; i++) {
    const size_t at = record->field[i].offset;
    if (!same_field(&record->field[i], (const char *)&a->hello + at, (const char *)&b->hello + at))
      return false;
  }
  return true;
}
