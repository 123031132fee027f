/* Messages: there and back, and whatever else may arrive. */
#include "wire.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "suite.h"
#include "wire_cases.h"

enum { TAIL = 8 };

typedef struct frame {
  uint8_t *at;
  size_t n;
} frame;

/* Who sends a kind of message. */
static char sender(fl_message_kind kind) {
  const char from = fl_message_records[kind]->sender;
  return from == 'B' ? 'P' : from;
}

static frame write(fl_message_kind kind, fl_wire_case which, fl_message *message) {
  fl_wire_case_fill(kind, which, message);
  const size_t room = fl_wire_room(message);
  frame f = {malloc(room), 0};
  CU_ASSERT_EQUAL_FATAL(fl_wire_write(message, room, f.at, &f.n), FEDLANE_OK);
  CU_ASSERT_FATAL(f.n <= room && f.n <= FL_FRAME_BYTES);
  return f;
}

/* The digest of bytes that were changed on purpose. */
static void seal(frame f) {
  const uint64_t digest = fl_digest(f.at, f.n - TAIL);
  memcpy(f.at + f.n - TAIL, &digest, TAIL);
}

/* One more entry at the map's end. */
static void add(frame *f, const char *name, const void *value, size_t n) {
  const size_t length = strlen(name);
  uint8_t *at = f->at = realloc(f->at, f->n + 1 + length + n);
  at[0]++;
  at += f->n - TAIL;
  f->n += 1 + length + n;
  *at = (uint8_t)(0xA0 | length);
  memcpy(at + 1, name, length);
  memcpy(at + 1 + length, value, n);
  seal(*f);
}

/* The first letter of a name in the map. */
static uint8_t *find(frame f, const char *name) {
  uint8_t key[64] = {(uint8_t)(0xA0 | strlen(name))};
  memcpy(key + 1, name, strlen(name));
  uint8_t *at = memmem(f.at, f.n, key, strlen(name) + 1);
  CU_ASSERT_PTR_NOT_NULL_FATAL(at);
  return at + 1;
}

static fl_status read_copy(frame f, size_t n, char from) {
  fl_message out;
  uint8_t *copy = malloc(n + 1); /* begins unaligned, and ends where the sanitizer sees it */
  memcpy(copy + 1, f.at, n);
  const fl_status status = fl_wire_read(copy + 1, n, from, &out);
  free(copy);
  return status;
}

static void refused(frame f, char from, const char *words) {
  CU_ASSERT_EQUAL(read_copy(f, f.n, from), FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), words));
  if (!strstr(fedlane_error(), words)) printf("'%s' lacks '%s'\n", fedlane_error(), words);
}

static void there_and_back(void) {
  fl_message sent, got;
  for (int kind = 0; kind < FL_MESSAGES; kind++)
    for (int which = 0; which < FL_WIRE_CASES; which++) {
      frame f = write(kind, which, &sent);
      CU_ASSERT_EQUAL(fl_wire_read(f.at, f.n, sender(kind), &got), FEDLANE_OK);
      CU_ASSERT(fl_wire_case_same(&sent, &got));
      CU_ASSERT_EQUAL(fl_wire_write(&sent, f.n, f.at, &f.n), FEDLANE_OK);
      CU_ASSERT_EQUAL(fl_wire_write(&sent, f.n - 1, f.at, &f.n), FEDLANE_USAGE);
      free(f.at);
    }
}

static void wrong_senders(void) {
  fl_message message;
  for (int kind = 0; kind < FL_MESSAGES; kind++) {
    const char from = fl_message_records[kind]->sender;
    frame f = write(kind, FL_WIRE_TYPICAL, &message);
    CU_ASSERT_EQUAL(read_copy(f, f.n, 'P'), from == 'C' ? FEDLANE_DATA : FEDLANE_OK);
    CU_ASSERT_EQUAL(read_copy(f, f.n, 'C'), from == 'P' ? FEDLANE_DATA : FEDLANE_OK);
    free(f.at);
  }
}

static void truncations(void) {
  fl_message message;
  for (int kind = 0; kind < FL_MESSAGES; kind++) {
    frame f = write(kind, FL_WIRE_TYPICAL, &message);
    for (size_t n = 0; n < f.n; n++) CU_ASSERT_EQUAL(read_copy(f, n, sender(kind)), FEDLANE_DATA);
    /* The same with a digest that fits, so that the map itself is what is cut. */
    for (size_t n = f.n - 1; n > TAIL; n--) {
      seal((frame){f.at, n});
      CU_ASSERT_EQUAL(read_copy(f, n, sender(kind)), FEDLANE_DATA);
    }
    free(f.at);
  }
}

static void corruptions(void) {
  fl_message message;
  for (int kind = 0; kind < FL_MESSAGES; kind++) {
    frame f = write(kind, FL_WIRE_TYPICAL, &message);
    for (size_t at = 0; at < f.n; at++)
      for (int change = 1; change < 256; change++) {
        f.at[at] ^= (uint8_t)change;
        CU_ASSERT_EQUAL(read_copy(f, f.n, sender(kind)), FEDLANE_DATA);
        f.at[at] ^= (uint8_t)change;
      }
    free(f.at);
  }
}

/* Of the largest messages, a byte in every stretch. */
static void corruptions_of_long_ones(void) {
  fl_message message;
  for (int kind = 0; kind < FL_MESSAGES; kind++) {
    frame f = write(kind, FL_WIRE_LARGEST, &message);
    for (size_t at = 0; at < f.n; at += 1 + f.n / 50) {
      f.at[at] ^= (uint8_t)(1 << at % 8);
      CU_ASSERT_EQUAL(fl_wire_read(f.at, f.n, sender(kind), &message), FEDLANE_DATA);
      f.at[at] ^= (uint8_t)(1 << at % 8);
    }
    CU_ASSERT_EQUAL(fl_wire_read(f.at, f.n, sender(kind), &message), FEDLANE_OK);
    free(f.at);
  }
}

/* With a digest that fits, a changed byte is refused or makes another message within bounds, which
 * can be written. */
static void forgeries(void) {
  fl_message message, again;
  static uint8_t room[4096];
  int read = 0, refused_ = 0;
  for (int kind = 0; kind < FL_MESSAGES; kind++) {
    frame f = write(kind, FL_WIRE_TYPICAL, &message);
    frame copy = {malloc(f.n), f.n};
    for (size_t at = 0; at < f.n - TAIL; at++)
      for (int change = 1; change < 256; change += 2) {
        memcpy(copy.at, f.at, f.n);
        copy.at[at] ^= (uint8_t)change;
        seal(copy);
        if (fl_wire_read(copy.at, copy.n, sender(kind), &again) != FEDLANE_OK) {
          refused_++;
          continue;
        }
        size_t n;
        CU_ASSERT_EQUAL(fl_wire_write(&again, sizeof room, room, &n), FEDLANE_OK);
        read++;
      }
    free(copy.at);
    free(f.at);
  }
  CU_ASSERT(read > 1000 && refused_ > 1000);
}

static void fields_once_each(void) {
  fl_message message;
  char words[128];
  for (int kind = 0; kind < FL_MESSAGES; kind++) {
    const fl_message_record *record = fl_message_records[kind];
    for (int i = 0; i < record->n_field; i++) {
      const char *name = record->field[i].name;
      frame f = write(kind, FL_WIRE_TYPICAL, &message);
      uint8_t *letter = find(f, name);
      *letter ^= 0x20; /* a capital: another name */
      seal(f);
      snprintf(words, sizeof words, "%s: %s is missing", record->name, name);
      if (!record->field[i].optional) refused(f, sender(kind), words);
      *letter ^= 0x20;
      uint8_t map[] = {0x80};
      add(&f, name, map, sizeof map);
      snprintf(words, sizeof words, "%s: %s is there twice", record->name, name);
      refused(f, sender(kind), words);
      *find(f, name) ^= 0x20;
      seal(f);
      snprintf(words, sizeof words, "%s: %s must be", record->name, name);
      refused(f, sender(kind), words);
      free(f.at);
    }
  }
}

/* A coordinator that does not know a field sends none: it is 0. */
static void optional_fields(void) {
  fl_message message;
  frame f = write(FL_MESSAGE_welcome, FL_WIRE_TYPICAL, &message);
  CU_ASSERT(message.welcome.people != 0);
  *find(f, "people") ^= 0x20;
  seal(f);
  CU_ASSERT_EQUAL(fl_wire_read(f.at, f.n, 'C', &message), FEDLANE_OK);
  CU_ASSERT(message.welcome.people == 0 && message.welcome.patience == 10);
  free(f.at);
}

/* A value in place of that of a field. */
static fl_status with(fl_message_kind kind, const char *name, const void *value, size_t n) {
  fl_message message;
  frame f = write(kind, FL_WIRE_TYPICAL, &message);
  *find(f, name) ^= 0x20;
  add(&f, name, value, n);
  const fl_status status = read_copy(f, f.n, sender(kind));
  free(f.at);
  return status;
}

#define WITH(kind, name, bytes) with(FL_MESSAGE_##kind, name, bytes, sizeof(bytes) - 1)

static void types(void) {
  CU_ASSERT_EQUAL(WITH(ping, "round", "\xD3\0\0\0\0\0\0\0\7"), FEDLANE_OK); /* int 64, 7 */
  CU_ASSERT_EQUAL(WITH(ping, "round", "\xFF"), FEDLANE_DATA);               /* -1 */
  CU_ASSERT_EQUAL(WITH(ping, "round", "\xCA\x3F\x80\0\0"), FEDLANE_DATA);   /* float, 1 */
  CU_ASSERT_EQUAL(WITH(ping, "round", "\xC0"), FEDLANE_DATA);               /* nil */
  CU_ASSERT_EQUAL(WITH(ping, "round", "\xC3"), FEDLANE_DATA);               /* true */
  CU_ASSERT_EQUAL(WITH(work, "lr", "\xCA\x3F\x80\0\0"), FEDLANE_OK);
  CU_ASSERT_EQUAL(WITH(work, "lr", "\7"), FEDLANE_OK);
  CU_ASSERT_EQUAL(WITH(work, "lr", "\xFF"), FEDLANE_DATA);             /* below 0 */
  CU_ASSERT_EQUAL(WITH(work, "lr", "\xCA\x7F\x80\0\0"), FEDLANE_DATA); /* infinite */
  CU_ASSERT_EQUAL(WITH(work, "lr", "\xCB\x7F\xF8\0\0\0\0\0\0"), FEDLANE_DATA);
  CU_ASSERT_EQUAL(WITH(work, "lr", "\xC2"), FEDLANE_DATA);
  CU_ASSERT_EQUAL(WITH(update, "loss", "\xFF"), FEDLANE_OK); /* -1: any finite number */
  CU_ASSERT_EQUAL(WITH(received, "mixed", "\1"), FEDLANE_DATA);
  CU_ASSERT_EQUAL(WITH(received, "mixed", "\xC2"), FEDLANE_OK);
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xC4\1x"), FEDLANE_DATA); /* bin, not str */
  CU_ASSERT_EQUAL(WITH(update, "blocks", "\xA4xxxx"), FEDLANE_DATA);
  CU_ASSERT_EQUAL(WITH(update, "blocks", "\xC4\4xxxx"), FEDLANE_OK);
  CU_ASSERT_EQUAL(WITH(update, "blocks", "\xC4\5xxxxx"), FEDLANE_DATA); /* no whole items */
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "update: blocks has 5 bytes"));
}

static void texts(void) {
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA0"), FEDLANE_OK);
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA9\n\xC2\xB0\xE2\x82\xAC~\xC2\xA0"), FEDLANE_OK);
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA4\xF0\x9F\x9A\x97"), FEDLANE_OK);
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA1\0"), FEDLANE_DATA);
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA1\x1B"), FEDLANE_DATA);
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA1\x7F"), FEDLANE_DATA);
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA2\xC2\x9B"), FEDLANE_DATA);         /* a control */
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA1\xC2"), FEDLANE_DATA);             /* cut off */
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA2\xC1\xA1"), FEDLANE_DATA);         /* too long a form */
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA3\xE0\x80\xA1"), FEDLANE_DATA);     /* likewise */
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA3\xED\xA0\x80"), FEDLANE_DATA);     /* a surrogate */
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA4\xF4\x90\x80\x80"), FEDLANE_DATA); /* past 10FFFF */
  CU_ASSERT_EQUAL(WITH(bye, "why", "\xA2\xC2x"), FEDLANE_DATA);
}

static void outside_bounds(void) {
  for (int kind = 0; kind < FL_MESSAGES; kind++) {
    const fl_message_record *record = fl_message_records[kind];
    for (int i = 0; i < record->n_field; i++) {
      const fl_field *f = &record->field[i];
      fl_message message;
      uint64_t *value = (uint64_t *)(void *)((char *)&message.hello + f->offset);
      size_t n;
      static uint8_t room[2 * FL_FRAME_BYTES];
      if (f->type == FL_FIELD_UINT && f->hi < UINT64_MAX) {
        fl_wire_case_fill(kind, FL_WIRE_TYPICAL, &message);
        *value = f->hi + 1;
        CU_ASSERT_EQUAL(fl_wire_write(&message, sizeof room, room, &n), FEDLANE_USAGE);
        CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), f->name));
        uint8_t bytes[9] = {0xCF};
        for (int k = 0; k < 8; k++) bytes[1 + k] = (uint8_t)((f->hi + 1) >> (56 - 8 * k));
        CU_ASSERT_EQUAL(with(kind, f->name, bytes, sizeof bytes), FEDLANE_DATA);
        CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "it must be from"));
      }
      if (f->type == FL_FIELD_UINT && f->lo > 0)
        CU_ASSERT_EQUAL(with(kind, f->name, "", 1), FEDLANE_DATA); /* 0 */
      if (f->type == FL_FIELD_REAL) {
        fl_wire_case_fill(kind, FL_WIRE_TYPICAL, &message);
        *(double *)(void *)value = NAN;
        CU_ASSERT_EQUAL(fl_wire_write(&message, sizeof room, room, &n), FEDLANE_USAGE);
      }
      if (f->type == FL_FIELD_TEXT || f->type == FL_FIELD_BYTES) {
        fl_wire_case_fill(kind, FL_WIRE_LARGEST, &message);
        ((fl_bytes *)(void *)value)->n += f->each ? (size_t)f->each : 1;
        CU_ASSERT_EQUAL(fl_wire_write(&message, sizeof room, room, &n), FEDLANE_USAGE);
      }
    }
  }
}

static fl_status with_extra(const void *value, size_t n) {
  fl_message message;
  frame f = write(FL_MESSAGE_ping, FL_WIRE_TYPICAL, &message);
  add(&f, "more", value, n);
  const fl_status status = read_copy(f, f.n, 'C');
  free(f.at);
  return status;
}

#define EXTRA(bytes) with_extra(bytes, sizeof(bytes) - 1)

static void unknown_fields(void) {
  CU_ASSERT_EQUAL(EXTRA("\xC0"), FEDLANE_OK);
  CU_ASSERT_EQUAL(EXTRA("\x92\1\x81\xA1x\x90"), FEDLANE_OK);
  CU_ASSERT_EQUAL(EXTRA("\xDC\0\2\1\2"), FEDLANE_OK);
  CU_ASSERT_EQUAL(EXTRA("\xDF\0\0\0\1\1\2"), FEDLANE_OK);
  CU_ASSERT_EQUAL(EXTRA("\xD4\1\2"), FEDLANE_OK);   /* an extension */
  CU_ASSERT_EQUAL(EXTRA("\xC1"), FEDLANE_DATA);     /* never used by msgpack */
  CU_ASSERT_EQUAL(EXTRA("\x92\1"), FEDLANE_DATA);   /* a part is missing */
  CU_ASSERT_EQUAL(EXTRA("\x91\1\2"), FEDLANE_DATA); /* one too many */
}

static void bombs(void) {
  CU_ASSERT_EQUAL(EXTRA("\xDD\xFF\xFF\xFF\xFF"), FEDLANE_DATA);
  CU_ASSERT_EQUAL(EXTRA("\xDF\xFF\xFF\xFF\xFF"), FEDLANE_DATA);
  CU_ASSERT_EQUAL(EXTRA("\xDB\xFF\xFF\xFF\xFF"), FEDLANE_DATA);
  CU_ASSERT_EQUAL(EXTRA("\xC6\xFF\xFF\xFF\xFF"), FEDLANE_DATA);
  CU_ASSERT_EQUAL(EXTRA("\xC9\xFF\xFF\xFF\xFF\1"), FEDLANE_DATA);
  /* A million arrays in each other; then as many, of which each claims more than there is. */
  static uint8_t deep[1 << 20];
  memset(deep, 0x91, sizeof deep);
  deep[sizeof deep - 1] = 0xC0;
  CU_ASSERT_EQUAL(with_extra(deep, sizeof deep), FEDLANE_OK);
  memset(deep, 0x9F, sizeof deep);
  CU_ASSERT_EQUAL(with_extra(deep, sizeof deep), FEDLANE_DATA);
}

/* Frames that are not made by the writer at all. */
static void no_messages(void) {
  static const struct {
    const char *bytes;
    size_t n;
    const char *words;
  } cases[] = {
#define RAW(bytes) bytes, sizeof(bytes) - 1
      {RAW("\xC0"), "no msgpack map"},
      {RAW("\x91\1"), "no msgpack map"},
      {RAW("\xDF\xFF\xFF\xFF\xFF"), "no msgpack map"},
      {RAW("\x80"), "has no kind"},
      {RAW("\x80\xC0"), "1 bytes after"},
      {RAW("\x81\xA4kind\1"), "must be a text"},
      {RAW("\x81\xA4kind\xA4pung"), "none of the messages"},
      {RAW("\x82\xA4kind\xA4ping\xA4kind\xA4ping"), "kind is there twice"},
      {RAW("\x81\1\2"), "malformed"},
      {RAW("\x81\xA4kind\xA4ping"), "ping: session is missing"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    frame f = {malloc(cases[i].n + TAIL), cases[i].n + TAIL};
    memcpy(f.at, cases[i].bytes, cases[i].n);
    seal(f);
    refused(f, 'C', cases[i].words);
    free(f.at);
  }
}

static void too_many_fields(void) {
  uint8_t bytes[3 + 2 * 65 + TAIL] = {0xDE, 0, 65};
  for (size_t i = 3; i + TAIL < sizeof bytes; i += 2) bytes[i] = 0xA0, bytes[i + 1] = 0xC0;
  frame f = {bytes, sizeof bytes};
  seal(f);
  refused(f, 'C', "65 fields; at most 64");
  bytes[2] = 64;
  seal((frame){bytes, sizeof bytes - 2});
  refused((frame){bytes, sizeof bytes - 2}, 'C', "no kind");
  fl_message message;
  CU_ASSERT_EQUAL(fl_wire_read(bytes, (size_t)FL_FRAME_BYTES + 1, 'C', &message), FEDLANE_DATA);
}

/* kind may stand anywhere: other languages sort a map's names. */
static void any_order(void) {
  const char bytes[] = "\x83\xA5round\7\xA7session\5\xA4kind\xA4ping";
  frame f = {malloc(sizeof bytes - 1 + TAIL), sizeof bytes - 1 + TAIL};
  fl_message message;
  memcpy(f.at, bytes, sizeof bytes - 1);
  seal(f);
  CU_ASSERT_EQUAL(fl_wire_read(f.at, f.n, 'C', &message), FEDLANE_OK);
  CU_ASSERT_EQUAL(message.kind, FL_MESSAGE_ping);
  CU_ASSERT(message.ping.session == 5 && message.ping.round == 7);
  free(f.at);
}

static const fl_test tests[] = {
    {"there and back", there_and_back},
    {"wrong senders", wrong_senders},
    {"truncations", truncations},
    {"corruptions", corruptions},
    {"corruptions of long ones", corruptions_of_long_ones},
    {"forgeries", forgeries},
    {"fields once each", fields_once_each},
    {"optional fields", optional_fields},
    {"types", types},
    {"texts", texts},
    {"outside bounds", outside_bounds},
    {"unknown fields", unknown_fields},
    {"bombs", bombs},
    {"no messages", no_messages},
    {"too many fields", too_many_fields},
    {"any order", any_order},
};

FL_SUITE_MAIN("wire", tests)
