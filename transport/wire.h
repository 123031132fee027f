/* The messages of a fleet, and how they lie on the wire (docs/wire.md).
 *
 * A message is one or two frames. The first is a msgpack map from field names to values with an
 * 8-byte digest after it (XXH3, 64 bits, little-endian, of the map's bytes). The second, of `chunk`
 * alone, is numbers as they are, little-endian; the map has its digest. A message is described by a
 * record, as everything is that comes in kinds: its fields, their types and bounds. Reading checks
 * all of these before anything is allocated; a field that the reader does not know is passed over,
 * one that is missing though it is not optional, twice there, of another type or out of bounds is
 * refused.
 *
 * A fleet is a coordinator and its peers: workers, which train clients of a population that every
 * one of them can read; clients, which are devices with data of their own; relays, which are a
 * worker to the coordinator and a coordinator to others. */
#ifndef FL_WIRE_H
#define FL_WIRE_H

#include "digest.h"
#include "record.h"

enum {
  FL_WIRE = 1,                       /* version of this schema */
  FL_CHUNK_BYTES = 1 << 20,          /* of a second frame at most */
  FL_FRAME_BYTES = (3 << 19) + 8192, /* of any frame at most; longer ones are cut off unread */
  FL_WINDOW = 8,                     /* chunks of a model that a peer may ask for ahead */
  FL_NAME_BYTES = 64,                /* of what a peer calls itself, and of its program */
  FL_WHY_BYTES = 512,                /* of a reason */
  FL_ADDRESS_BYTES = 256,            /* of the pipeline's address */
  FL_DIGEST_BYTES = 16,              /* of a configuration's digest */
  FL_CONFIG_BYTES = 1 << 20,         /* of a configuration */
  FL_LAYOUT_BYTES = 1 << 19,         /* of a layout */
  FL_MAP_FIELDS = 64,                /* entries of a frame's map, the unknown ones counted */
  FL_BLOCK_UNITS = 1 << 16,          /* units of a block */
  FL_UPLOAD_BLOCKS = 1 << 14,        /* blocks of an upload */
  FL_UPLOAD_STREAMS = 1 << 17,       /* streams of an upload */
  FL_TIE_BYTES = 128,                /* of the id of a tie */
};

typedef enum fl_peer_kind {
  FL_PEER_WORKER,
  FL_PEER_CLIENT,
  FL_PEER_RELAY,
  FL_PEER_KINDS
} fl_peer_kind;

/* How the numbers of a vector are written. */
typedef enum fl_payload {
  FL_PAYLOAD_F32,    /* float32 */
  FL_PAYLOAD_BF16,   /* the upper halves of float32, rounded to even */
  FL_PAYLOAD_INT8,   /* blocks of 256: a float32 factor, then int8 each */
  FL_PAYLOAD_SPARSE, /* pairs of a uint32 place, relative to the chunk's first, and a float32 */
  FL_PAYLOAD_SUM,    /* int64: exact sums of one level, engine/mix.h */
  FL_PAYLOADS
} fl_payload;

/* A run of bytes that lies in a frame, or in the caller's memory; not ended by 0. */
typedef struct fl_bytes {
  const void *at;
  size_t n;
} fl_bytes;

/* X(kind, sender, help): every message. P: from a peer, C: from the coordinator, B: from both. */
#define FL_MESSAGE_LIST(X)                                                             \
  X(hello, 'P', "a peer says who it is; the first word of every session")              \
  X(welcome, 'C', "the session's number, and what the run is")                         \
  X(ready, 'P', "the peer has read configuration and data and takes work")             \
  X(work, 'C', "units to train from a version of the model")                           \
  X(fetch, 'P', "chunks wanted of a vector of a version")                              \
  X(chunk, 'B', "a stretch of a vector: of the model downwards, of an update upwards") \
  X(trained, 'P', "a block has been trained: what it reports")                         \
  X(collect, 'C', "the worker shall send the sum of the blocks that it has trained")   \
  X(update, 'P', "what the chunks of an upload make up")                               \
  X(received, 'C', "an upload is in, or was left out; the peer may forget it")         \
  X(refuse, 'P', "the peer does not take a block")                                     \
  X(cancel, 'C', "all blocks of a round are taken back")                               \
  X(ping, 'C', "are you there")                                                        \
  X(pong, 'P', "yes")                                                                  \
  X(alive, 'P', "the peer lives, and will say something again in time")                \
  X(leave, 'P', "the peer goes")                                                       \
  X(offer, 'P', "the peer has a device that can be tied to the coordinator's")         \
  X(accept, 'C', "the id under which both sides open a tie; empty: there is none")     \
  X(bye, 'C', "the session has ended, and why")

typedef enum fl_message_kind {
#define FL_MESSAGE_ENUM(name, sender, help) FL_MESSAGE_##name,
  FL_MESSAGE_LIST(FL_MESSAGE_ENUM)
#undef FL_MESSAGE_ENUM
      FL_MESSAGES
} fl_message_kind;

typedef struct fl_hello {
  uint64_t wire, session; /* session: that of an earlier welcome, or 0 */
  uint64_t peer;          /* fl_peer_kind */
  uint64_t examples;      /* a client's own training examples */
  fl_bytes name, program; /* what it calls itself; "fedlane 0.1.0" */
} fl_hello;

typedef struct fl_welcome {
  uint64_t wire, session;
  uint64_t elements; /* of each vector */
  uint64_t vectors; /* that make a version of the model: the weights, then what travels with them */
  uint64_t updates; /* vectors of a client's update */
  uint64_t own;     /* vectors that each client keeps, which workers bring up to date */
  uint64_t chunk;   /* bytes of a second frame at most */
  fl_bytes digest;  /* of the configuration: the same for all whose weights may be mixed */
  fl_bytes config;  /* YAML */
  fl_bytes layout;  /* a line a tensor: name, first element, dimensions */
  fl_bytes pipeline; /* where chunks and `update` go; empty: over this link */
  double patience;   /* seconds of silence after which either side gives the other up */
  uint64_t people;   /* that workers must have read, as in fl_ready; 0: not said */
} fl_welcome;

typedef struct fl_ready {
  uint64_t session;
  uint64_t lanes;  /* clients that it trains at a time */
  uint64_t people; /* XXH3 of the population; clients: 0 */
  uint64_t credit; /* blocks that it takes at a time, the one in work counted */
} fl_ready;

typedef struct fl_work {
  uint64_t session, round, block;
  uint64_t first, count;  /* units: places in the round's cohort */
  uint64_t bits;          /* of the fixed point of sums, engine/mix.h */
  uint64_t epochs, batch; /* batch 0: all of a client's examples */
  double lr, deadline;    /* deadline: seconds from now; 0: none */
} fl_work;

typedef struct fl_fetch {
  uint64_t session, round;
  uint64_t vector;      /* below `vectors`: of the model; from there on: the units' own */
  uint64_t from, count; /* chunks; at most FL_WINDOW */
} fl_fetch;

typedef struct fl_chunk {
  uint64_t session, round;
  uint64_t upload;        /* number of an upload; 0: of the model */
  uint64_t stream;        /* vector downwards; upwards fl_stream */
  uint64_t payload;       /* fl_payload */
  uint64_t offset, count; /* elements */
  uint64_t body;          /* XXH3 of the second frame */
} fl_chunk;

typedef struct fl_trained {
  uint64_t session, round, block;
  double seconds;     /* that it took */
  fl_bytes loss, hit; /* float64, int64 a unit: sums over the examples, epochs counted */
  fl_bytes good;      /* uint8 a unit: 1: its update is finite and in the sum, else 0 */
} fl_trained;

typedef struct fl_collect {
  uint64_t session, round, upload;
} fl_collect;

/* An update is in when all elements of all its streams are. */
typedef struct fl_update {
  uint64_t session, round, upload;
  uint64_t payload;
  fl_bytes blocks;   /* uint32 each: the blocks in it */
  fl_bytes streams;  /* uint32 each: streams that come as chunks */
  uint64_t weight;   /* of all its clients */
  uint64_t examples; /* of a client: that it trained on, epochs not counted */
  uint64_t steps;
  double loss; /* of a client: sum over its examples, epochs counted */
  uint64_t hits;
} fl_update;

typedef struct fl_received {
  uint64_t session, round, upload;
  bool mixed;
} fl_received;

typedef struct fl_refuse {
  uint64_t session, round, block;
  fl_bytes why;
} fl_refuse;

typedef struct fl_cancel {
  uint64_t session, round;
} fl_cancel;

typedef struct fl_ping {
  uint64_t session, round; /* round: in progress; 0: none */
} fl_ping;

typedef struct fl_pong {
  uint64_t session, round;
} fl_pong;

typedef struct fl_alive {
  uint64_t session;
  double seconds; /* within which it says something again, whatever it does; 0: no promise */
} fl_alive;

typedef struct fl_leave {
  uint64_t session;
} fl_leave;

typedef struct fl_offer {
  uint64_t session;
  uint64_t version; /* of the library that does it, the same on both sides; 0: there is none */
  fl_bytes why;     /* why there is none */
} fl_offer;

typedef struct fl_accept {
  uint64_t session;
  fl_bytes id; /* FL_TIE_BYTES; empty: there is no tie, or not any more */
} fl_accept;

typedef enum fl_bye_code {
  FL_BYE_DONE,    /* the run is complete */
  FL_BYE_REJOIN,  /* the session is not known (any more): say hello again. As the answer to hello,
                     with session 0: there is no place; say it again after a while */
  FL_BYE_REFUSED, /* what the peer is or did does not fit; coming back as it is is of no use */
  FL_BYE_CODES
} fl_bye_code;

typedef struct fl_bye {
  uint64_t session, code;
  fl_bytes why;
} fl_bye;

/* Upwards a stream is what: FL_STREAM_SUM + 64 * update + level of the sums; FL_STREAM_UPDATE +
 * update of a client's own update; FL_STREAM_OWN + unit * own + i of vectors that clients keep. */
enum { FL_STREAM_LEVELS = 64 }; /* streams of an update's sums */
enum { FL_STREAM_SUM = 0, FL_STREAM_UPDATE = 1 << 10, FL_STREAM_OWN = 1 << 11 };

/* The highest bit of a vector's number in `fetch`, or of a stream's in `update`: it does not come
 * in chunks but over the tie between two devices (kernels/tie.h). */
#define FL_TIED UINT32_C(0x80000000)

typedef struct fl_message {
  fl_message_kind kind;
  union {
#define FL_MESSAGE_MEMBER(name, sender, help) fl_##name name;
    FL_MESSAGE_LIST(FL_MESSAGE_MEMBER)
#undef FL_MESSAGE_MEMBER
  };
} fl_message;

typedef enum fl_field_type {
  FL_FIELD_UINT,  /* uint64_t: msgpack unsigned, lo to hi */
  FL_FIELD_REAL,  /* double: msgpack float 64, finite, lo to hi; lo == hi: any finite number. An
                     integer or a float 32 is read as well */
  FL_FIELD_BOOL,  /* bool */
  FL_FIELD_TEXT,  /* fl_bytes: msgpack str, valid UTF-8 without control characters but newline; lo
                     to hi bytes */
  FL_FIELD_BYTES, /* fl_bytes: msgpack bin; lo to hi bytes, a multiple of `each` */
} fl_field_type;

typedef struct fl_field {
  const char *name;
  fl_field_type type;
  size_t offset; /* in the message's struct */
  uint64_t lo, hi;
  uint64_t each;    /* BYTES: bytes of an item */
  bool optional;    /* may be missing, which is 0: older peers do not know it; UINT alone */
  const char *help; /* one line, no full stop */
} fl_field;

/* What a message is. */
typedef struct fl_message_record {
  const char *name, *help;
  char sender; /* 'P', 'C' or 'B' */
  size_t size; /* of its struct */
  const fl_field *field;
  int n_field;
} fl_message_record;

/* messages.c: the record of every message, by kind. */
extern const fl_message_record *const fl_message_records[FL_MESSAGES];
/* "float32" and so on; NULL beyond FL_PAYLOADS. */
const char *fl_payload_name(uint64_t payload);

/* Writes a message's first frame into out of `room` bytes; *n is its length. Errors: USAGE when a
 * field is out of bounds or the room does not suffice. */
fl_status fl_wire_write(const fl_message *message, size_t room, void *out, size_t *n);
/* Bytes that fl_wire_write needs at most. */
size_t fl_wire_room(const fl_message *message);
/* Reads a first frame. Bytes in *out point into the frame, and are as unaligned as they lie there.
 * Allocates nothing. from: 'P' or 'C', who sent it. Errors:
 * DATA, with a sentence that names message, field and value. */
fl_status fl_wire_read(const void *frame, size_t n, char from, fl_message *out);
/* payload.c: numbers as the bytes of a chunk.
 * Bytes of `count` elements at most; 0 for a count that does not fit into FL_CHUNK_BYTES. */
size_t fl_payload_bytes(fl_payload payload, uint64_t count);
/* Elements that fit into a chunk of `bytes`; a multiple of 256. */
uint64_t fl_payload_elements(fl_payload payload, size_t bytes);
/* Writes x[count] into out of fl_payload_bytes; returns the bytes written. SUM is not for this: its
 * elements are sent as they are. */
size_t fl_payload_write(fl_payload payload, uint64_t count, const float *x, void *out);
/* Reads it back; x gets `count` floats. body may be unaligned. Errors: DATA when it is not of this
 * form, or a number is not finite. */
fl_status fl_payload_read(fl_payload payload, uint64_t count, const void *body, size_t bytes,
                          float *x);

#endif
