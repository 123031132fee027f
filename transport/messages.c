/* The records of all messages. docs/wire.md has them as tables; tests/check_wire.py compares. */
#include "wire.h"

_Static_assert(FL_CONFIG_BYTES + FL_LAYOUT_BYTES + 4096 <= FL_FRAME_BYTES, "welcome fits");
_Static_assert(FL_BLOCK_UNITS * 17 + 4096 <= FL_FRAME_BYTES, "trained fits");
_Static_assert((FL_UPLOAD_BLOCKS + FL_UPLOAD_STREAMS) * 4 + 4096 <= FL_FRAME_BYTES, "update fits");
_Static_assert(FL_CHUNK_BYTES <= FL_FRAME_BYTES, "a second frame fits");

#define MOST_31 INT32_MAX
#define MOST_32 UINT32_MAX
#define MOST_63 INT64_MAX
#define SECONDS 1000000000 /* about 32 years */

/* What the tables below are made of: member and bounds, then help. */
#define FIELD(kind, message, member, least, most, size, words)                          \
  {                                                                                     \
    .name = #member, .type = FL_FIELD_##kind, .offset = offsetof(fl_##message, member), \
    .lo = (least), .hi = (most), .each = (size), .help = (words)                        \
  }
#define UINT(message, member, lo, hi, help) FIELD(UINT, message, member, lo, hi, 0, help)
#define OPTIONAL(message, member, least, most, words)                                 \
  {                                                                                   \
    .name = #member, .type = FL_FIELD_UINT, .offset = offsetof(fl_##message, member), \
    .lo = (least), .hi = (most), .optional = true, .help = (words)                    \
  }
#define REAL(message, member, lo, hi, help) FIELD(REAL, message, member, lo, hi, 0, help)
#define TEXT(message, member, lo, hi, help) FIELD(TEXT, message, member, lo, hi, 0, help)
#define BYTES(message, member, each, lo, hi, help) \
  FIELD(BYTES, message, member, (lo) * (each), (uint64_t)(hi) * (each), each, help)
#define SESSION(message) UINT(message, session, 1, MOST_63, "number given in `welcome`")
#define ROUND(message, help) UINT(message, round, 0, MOST_31, help)
#define BLOCK(message, help) UINT(message, block, 0, MOST_32, help)

static const fl_field hello_fields[] = {
    UINT(hello, wire, 1, 65535, "version of this schema that the peer speaks"),
    UINT(hello, session, 0, MOST_63, "number of an earlier session of this peer; 0: none"),
    UINT(hello, peer, 0, FL_PEER_KINDS - 1, "0: worker, 1: client, 2: relay"),
    UINT(hello, examples, 0, MOST_63, "training examples that a client has; others: 0"),
    TEXT(hello, name, 1, FL_NAME_BYTES, "what the peer calls itself, for logs"),
    TEXT(hello, program, 1, FL_NAME_BYTES, "program and version, such as fedlane 0.1.0"),
};

static const fl_field welcome_fields[] = {
    UINT(welcome, wire, 1, 65535, "version of this schema that the session speaks"),
    UINT(welcome, session, 1, MOST_63, "random number that every later message carries"),
    UINT(welcome, elements, 1, (uint64_t)1 << 33, "numbers of a vector"),
    UINT(welcome, vectors, 1, 64, "vectors of a version of the model: the weights come first"),
    UINT(welcome, updates, 1, 16, "vectors of an update"),
    UINT(welcome, own, 0, 64, "vectors that each unit keeps from round to round"),
    UINT(welcome, chunk, 4096, FL_CHUNK_BYTES, "bytes of a second frame at most"),
    BYTES(welcome, digest, 1, FL_DIGEST_BYTES, FL_DIGEST_BYTES,
          "16 hexadecimal digits, of what decides the weights"),
    TEXT(welcome, config, 0, FL_CONFIG_BYTES, "configuration of the run, YAML"),
    TEXT(welcome, layout, 0, FL_LAYOUT_BYTES,
         "a line a tensor: name, first element, dimensions, between blanks"),
    TEXT(welcome, pipeline, 0, FL_ADDRESS_BYTES,
         "address for `update` and its chunks; empty: the link that is there"),
    REAL(welcome, patience, 0, SECONDS, "seconds of silence until a side is given up; 0: for ever"),
    OPTIONAL(welcome, people, 0, UINT64_MAX,
             "digest of the population that workers must have read; 0: not said"),
};

static const fl_field ready_fields[] = {
    SESSION(ready),
    UINT(ready, lanes, 1, MOST_31, "units that the peer trains at a time"),
    UINT(ready, people, 0, UINT64_MAX, "digest of the population that it has read; clients: 0"),
    UINT(ready, credit, 1, 65535, "blocks that it takes at a time, the one in work counted"),
};

static const fl_field work_fields[] = {
    SESSION(work),
    ROUND(work, "round, which is also the model's version"),
    BLOCK(work, "number of the block, never given twice in a round"),
    UINT(work, first, 0, MOST_31, "place of the first unit in the round's cohort"),
    UINT(work, count, 1, FL_BLOCK_UNITS, "units"),
    UINT(work, bits, 1, 62, "bits of the fixed point of sums"),
    UINT(work, epochs, 1, MOST_31, "passes of a unit over its examples"),
    UINT(work, batch, 0, MOST_31, "examples of a step; 0: all that the unit has"),
    REAL(work, lr, 0, UINT64_MAX, "learning rate"),
    REAL(work, deadline, 0, SECONDS, "seconds until the block is of no use; 0: never"),
};

static const fl_field fetch_fields[] = {
    SESSION(fetch),
    ROUND(fetch, "version of the model"),
    UINT(fetch, vector, 0, MOST_32, "below `vectors`: of the model; from there on: of units"),
    UINT(fetch, from, 0, MOST_32, "first chunk wanted"),
    UINT(fetch, count, 1, FL_WINDOW, "chunks wanted"),
};

static const fl_field chunk_fields[] = {
    SESSION(chunk),
    ROUND(chunk, "round"),
    UINT(chunk, upload, 0, MOST_63, "number of the upload that it belongs to; 0: of the model"),
    UINT(chunk, stream, 0, MOST_32, "downwards the vector; upwards the stream"),
    UINT(chunk, payload, 0, FL_PAYLOADS - 1,
         "0: float32, 1: bfloat16, 2: int8, 3: sparse, 4: int64 sums"),
    UINT(chunk, offset, 0, ((uint64_t)1 << 33) - 1, "first element"),
    UINT(chunk, count, 1, FL_CHUNK_BYTES, "elements"),
    UINT(chunk, body, 0, UINT64_MAX, "digest of the second frame"),
};

static const fl_field trained_fields[] = {
    SESSION(trained),
    ROUND(trained, "round"),
    BLOCK(trained, "block"),
    REAL(trained, seconds, 0, SECONDS, "that training took"),
    BYTES(trained, loss, 8, 1, FL_BLOCK_UNITS, "float64 a unit: sum over its examples and epochs"),
    BYTES(trained, hit, 8, 1, FL_BLOCK_UNITS, "int64 a unit: right answers, counted likewise"),
    BYTES(trained, good, 1, 1, FL_BLOCK_UNITS, "uint8 a unit: 1: finite and in the sum; else 0"),
};

static const fl_field collect_fields[] = {
    SESSION(collect),
    ROUND(collect, "round"),
    UINT(collect, upload, 1, MOST_63, "number that the upload shall have"),
};

static const fl_field update_fields[] = {
    SESSION(update),
    ROUND(update, "round"),
    UINT(update, upload, 1, MOST_63, "number of the upload, as in `collect`"),
    UINT(update, payload, 0, FL_PAYLOADS - 1, "of what is summed, as in `chunk`"),
    BYTES(update, blocks, 4, 1, FL_UPLOAD_BLOCKS, "uint32 a block: the blocks in it"),
    BYTES(update, streams, 4, 0, FL_UPLOAD_STREAMS, "uint32 a stream: those that its chunks make"),
    UINT(update, weight, 0, MOST_63, "sum of its units' weights"),
    UINT(update, examples, 0, MOST_63, "that a client trained on; others: 0"),
    UINT(update, steps, 0, MOST_63, "local steps of a client; others: 0"),
    REAL(update, loss, 0, 0, "of a client: sum over its examples and epochs; others: 0"),
    UINT(update, hits, 0, MOST_63, "of a client: right answers, counted likewise; others: 0"),
};

static const fl_field received_fields[] = {
    SESSION(received),
    ROUND(received, "round"),
    UINT(received, upload, 1, MOST_63, "number of the upload"),
    FIELD(BOOL, received, mixed, 0, 1, 0, "whether it is in the round's sum"),
};

static const fl_field refuse_fields[] = {
    SESSION(refuse),
    ROUND(refuse, "round"),
    BLOCK(refuse, "block that the peer does not train"),
    TEXT(refuse, why, 0, FL_WHY_BYTES, "reason, for the log"),
};

static const fl_field cancel_fields[] = {
    SESSION(cancel),
    ROUND(cancel, "round whose blocks and uploads are of no use any more"),
};

static const fl_field ping_fields[] = {
    SESSION(ping),
    ROUND(ping, "round in progress; 0: none"),
};

static const fl_field pong_fields[] = {
    SESSION(pong),
    ROUND(pong, "of the ping that this answers"),
};

static const fl_field alive_fields[] = {
    SESSION(alive),
    REAL(alive, seconds, 0, SECONDS,
         "within which it says something again, whatever it does; 0: no promise"),
};

static const fl_field leave_fields[] = {SESSION(leave)};

static const fl_field offer_fields[] = {
    SESSION(offer),
    UINT(offer, version, 0, MOST_31, "of NCCL, as it says; 0: the peer cannot use it"),
    TEXT(offer, why, 0, FL_WHY_BYTES, "reason, for the log, where it cannot"),
};

static const fl_field accept_fields[] = {
    SESSION(accept),
    BYTES(accept, id, FL_TIE_BYTES, 0, 1, "ncclUniqueId; empty: nothing travels by NCCL"),
};

static const fl_field bye_fields[] = {
    UINT(bye, session, 0, MOST_63, "session that ends; 0: there was none"),
    UINT(bye, code, 0, FL_BYE_CODES - 1,
         "0: the run is done, 1: say hello again, 2: do not come back as you are"),
    TEXT(bye, why, 0, FL_WHY_BYTES, "reason, for the log"),
};

#define RECORD(kind, from, words)                  \
  static const fl_message_record kind##_record = { \
      .name = #kind,                               \
      .help = (words),                             \
      .sender = (from),                            \
      .size = sizeof(fl_##kind),                   \
      .field = kind##_fields,                      \
      .n_field = FL_COUNT(kind##_fields),          \
  };                                               \
  _Static_assert(FL_COUNT(kind##_fields) <= 32, "a bit a field");
FL_MESSAGE_LIST(RECORD)

#define ENTRY(kind, from, words) [FL_MESSAGE_##kind] = &kind##_record,
const fl_message_record *const fl_message_records[FL_MESSAGES] = {FL_MESSAGE_LIST(ENTRY)};

const char *fl_payload_name(uint64_t payload) {
  static const char *const names[FL_PAYLOADS] = {"float32", "bfloat16", "int8", "sparse", "sum"};
  return payload < FL_PAYLOADS ? names[payload] : NULL;
}
