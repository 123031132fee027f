/* Messages as bytes: one writer and one reader for all records. The only file that knows msgpack.
 *
 * msgpack-c allocates what the header of an array or a map claims, so it never sees one: these are
 * counted here, and it is given only what has no parts, for which it allocates nothing. Parts are
 * passed over by counting, so no depth of nesting costs anything. */
#include "wire.h"

#include <inttypes.h>
#include <math.h>
#include <msgpack.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers lie as on the wire");

enum { TAIL = sizeof(uint64_t), HEADER = 5, NUMBER = 9 };

static bool valid_text(const uint8_t *s, size_t n) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  for (size_t i = 0, length; i < n; i += length) {
    const uint8_t c = s[i];
    length = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
    if (length == 0 || length > n - i) return false;
    uint32_t point = length == 1 ? c : c & (0x7Fu >> length);
    for (size_t k = 1; k < length; k++) {
      if ((s[i + k] & 0xC0) != 0x80) return false;
      point = point << 6 | (s[i + k] & 0x3Fu);
    }
    if (point < least[length] || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000))
      return false;
    if ((point < 0x20 && point != '\n') || (point >= 0x7F && point < 0xA0)) return false;
  }
  return true;
}

/* Whether a field's value, in place, is within its bounds. */
static fl_status check(fl_status status, const char *message, const fl_field *f,
                       const void *value) {
  if (f->type == FL_FIELD_UINT) {
    const uint64_t x = *(const uint64_t *)value;
    if (x < f->lo || x > f->hi)
      return fl_fail(status, "%s: %s is %" PRIu64 "; it must be from %" PRIu64 " to %" PRIu64 "",
                     message, f->name, x, f->lo, f->hi);
  } else if (f->type == FL_FIELD_REAL) {
    const double x = *(const double *)value;
    if (!isfinite(x))
      return fl_fail(status, "%s: %s is %g; it must be finite", message, f->name, x);
    if (f->lo < f->hi && (x < (double)f->lo || x > (double)f->hi))
      return fl_fail(status, "%s: %s is %.17g; it must be from %" PRIu64 " to %" PRIu64 "", message,
                     f->name, x, f->lo, f->hi);
  } else if (f->type != FL_FIELD_BOOL) {
    const fl_bytes *x = value;
    if (x->n < f->lo || x->n > f->hi)
      return fl_fail(status, "%s: %s has %zu bytes; there must be %" PRIu64 " to %" PRIu64 "",
                     message, f->name, x->n, f->lo, f->hi);
    if (f->each && x->n % f->each)
      return fl_fail(status, "%s: %s has %zu bytes; it must be a multiple of %" PRIu64 "", message,
                     f->name, x->n, f->each);
    if (f->type == FL_FIELD_TEXT && !valid_text(x->at, x->n))
      return fl_fail(status,
                     "%s: %s must be valid UTF-8, without control characters other than newlines",
                     message, f->name);
  }
  return FEDLANE_OK;
}

/* The caller's memory, as far as it is written. */
typedef struct writer {
  uint8_t *at;
  size_t n, room;
} writer;

static int append(void *data, const char *bytes, size_t n) {
  writer *w = data;
  if (n > w->room - w->n) return -1;
  memcpy(w->at + w->n, bytes, n);
  w->n += n;
  return 0;
}

static int pack_text(msgpack_packer *packer, const void *text, size_t n) {
  if (msgpack_pack_str(packer, n)) return -1;
  return n ? msgpack_pack_str_body(packer, text, n) : 0;
}

static int pack_value(msgpack_packer *packer, const fl_field *f, const void *value) {
  const fl_bytes *bytes = value;
  switch (f->type) {
    case FL_FIELD_UINT:
      return msgpack_pack_uint64(packer, *(const uint64_t *)value);
    case FL_FIELD_REAL:
      return msgpack_pack_double(packer, *(const double *)value);
    case FL_FIELD_BOOL:
      return *(const bool *)value ? msgpack_pack_true(packer) : msgpack_pack_false(packer);
    case FL_FIELD_TEXT:
      return pack_text(packer, bytes->at, bytes->n);
    case FL_FIELD_BYTES:
      break;
  }
  if (msgpack_pack_bin(packer, bytes->n)) return -1;
  return bytes->n ? msgpack_pack_bin_body(packer, bytes->at, bytes->n) : 0;
}

fl_status fl_wire_write(const fl_message *message, size_t room, void *out, size_t *n) {
  if (message->kind >= FL_MESSAGES) return fl_fail(FEDLANE_USAGE, "this is no message");
  const fl_message_record *record = fl_message_records[message->kind];
  const char *at = (const char *)&message->hello;
  writer w = {.at = out, .room = room};
  msgpack_packer packer;
  for (int i = 0; i < record->n_field; i++)
    FL_TRY(check(FEDLANE_USAGE, record->name, &record->field[i], at + record->field[i].offset));
  msgpack_packer_init(&packer, &w, append);
  int bad = msgpack_pack_map(&packer, (size_t)record->n_field + 1);
  bad |= pack_text(&packer, "kind", 4) | pack_text(&packer, record->name, strlen(record->name));
  for (int i = 0; i < record->n_field && !bad; i++) {
    const fl_field *f = &record->field[i];
    bad |= pack_text(&packer, f->name, strlen(f->name)) | pack_value(&packer, f, at + f->offset);
  }
  const uint64_t digest = fl_digest(out, w.n);
  if (bad || append(&w, (const char *)&digest, TAIL))
    return fl_fail(FEDLANE_USAGE, "%s: its frame does not fit into %zu bytes", record->name, room);
  *n = w.n;
  return FEDLANE_OK;
}

size_t fl_wire_room(const fl_message *message) {
  if (message->kind >= FL_MESSAGES) return 0;
  const fl_message_record *record = fl_message_records[message->kind];
  size_t room = HEADER + HEADER + strlen("kind") + HEADER + strlen(record->name) + TAIL;
  for (int i = 0; i < record->n_field; i++) {
    const fl_field *f = &record->field[i];
    const void *value = (const char *)&message->hello + f->offset;
    room += HEADER + strlen(f->name) + NUMBER;
    if (f->type == FL_FIELD_TEXT || f->type == FL_FIELD_BYTES) room += ((const fl_bytes *)value)->n;
  }
  return room;
}

/* What is left of a frame's map. */
typedef struct reader {
  const uint8_t *at;
  size_t n;
} reader;

/* Reads an item that has no parts, or the header of one that has. False: malformed or cut off. */
static bool next(reader *r, msgpack_object *out, uint64_t *parts) {
  if (r->n == 0) return false;
  const uint8_t c = r->at[0];
  const bool map = c >> 4 == 8 || c == 0xDE || c == 0xDF;
  const bool array = c >> 4 == 9 || c == 0xDC || c == 0xDD;
  size_t used = 0;
  *parts = 0;
  if (map || array) {
    const size_t width = c < 0xA0 ? 0 : c & 1 ? 4 : 2;
    uint64_t count = width ? 0 : c & 15;
    if (r->n - 1 < width) return false;
    for (size_t i = 1; i <= width; i++) count = count << 8 | r->at[i];
    used = 1 + width;
    *parts = map ? 2 * count : count;
    out->type = map ? MSGPACK_OBJECT_MAP : MSGPACK_OBJECT_ARRAY;
  } else {
    msgpack_zone none = {0}; /* stays untouched; without one, a text would allocate its own */
    const msgpack_unpack_return got = msgpack_unpack((const char *)r->at, r->n, &used, &none, out);
    if (got != MSGPACK_UNPACK_SUCCESS && got != MSGPACK_UNPACK_EXTRA_BYTES) return false;
  }
  r->at += used;
  r->n -= used;
  return *parts <= r->n;
}

/* Reads a name and its value; a value with parts is passed over. */
static bool next_entry(reader *r, msgpack_object *name, msgpack_object *value) {
  msgpack_object part;
  uint64_t parts, open;
  if (!next(r, name, &parts) || name->type != MSGPACK_OBJECT_STR) return false;
  if (!next(r, value, &open)) return false;
  for (; open > 0; open += parts - 1)
    if (open > r->n || !next(r, &part, &parts)) return false;
  return true;
}

static bool is(const msgpack_object *text, const char *word) {
  return text->via.str.size == strlen(word) && memcmp(text->via.str.ptr, word, strlen(word)) == 0;
}

/* Walks the whole map, which r is at, and finds the record of its message. */
static fl_status find_kind(reader r, fl_message_kind *kind) {
  msgpack_object map, name, value, word = {.type = MSGPACK_OBJECT_NIL};
  uint64_t parts;
  if (!next(&r, &map, &parts) || map.type != MSGPACK_OBJECT_MAP)
    return fl_fail(FEDLANE_DATA, "a frame is no msgpack map");
  if (parts / 2 > FL_MAP_FIELDS)
    return fl_fail(FEDLANE_DATA, "a frame's map has %" PRIu64 " fields; at most %d are allowed",
                   parts / 2, FL_MAP_FIELDS);
  for (uint64_t i = 0; i < parts / 2; i++) {
    if (!next_entry(&r, &name, &value))
      return fl_fail(FEDLANE_DATA, "a frame's map is malformed or cut off");
    if (!is(&name, "kind")) continue;
    if (word.type != MSGPACK_OBJECT_NIL) return fl_fail(FEDLANE_DATA, "kind is there twice");
    if (value.type != MSGPACK_OBJECT_STR) return fl_fail(FEDLANE_DATA, "kind must be a text");
    word = value;
  }
  if (r.n) return fl_fail(FEDLANE_DATA, "a frame has %zu bytes after its map", r.n);
  if (word.type == MSGPACK_OBJECT_NIL) return fl_fail(FEDLANE_DATA, "a frame's map has no kind");
  for (int i = 0; i < FL_MESSAGES; i++)
    if (is(&word, fl_message_records[i]->name)) {
      *kind = (fl_message_kind)i;
      return FEDLANE_OK;
    }
  return fl_fail(FEDLANE_DATA, "kind is none of the messages");
}

/* Puts a value of the field's type at its place. */
static bool take(const fl_field *f, const msgpack_object *value, void *out) {
  switch (f->type) {
    case FL_FIELD_UINT:
      *(uint64_t *)out = value->via.u64;
      return value->type == MSGPACK_OBJECT_POSITIVE_INTEGER;
    case FL_FIELD_REAL:
      *(double *)out = value->type == MSGPACK_OBJECT_POSITIVE_INTEGER   ? (double)value->via.u64
                       : value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER ? (double)value->via.i64
                                                                        : value->via.f64;
      return value->type == MSGPACK_OBJECT_POSITIVE_INTEGER ||
             value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER ||
             value->type == MSGPACK_OBJECT_FLOAT32 || value->type == MSGPACK_OBJECT_FLOAT64;
    case FL_FIELD_BOOL:
      *(bool *)out = value->type == MSGPACK_OBJECT_BOOLEAN && value->via.boolean;
      return value->type == MSGPACK_OBJECT_BOOLEAN;
    case FL_FIELD_TEXT:
      *(fl_bytes *)out = (fl_bytes){value->via.str.ptr, value->via.str.size};
      return value->type == MSGPACK_OBJECT_STR;
    case FL_FIELD_BYTES:
      *(fl_bytes *)out = (fl_bytes){value->via.bin.ptr, value->via.bin.size};
      return value->type == MSGPACK_OBJECT_BIN;
  }
  return false;
}

/* Reads the fields of a map that find_kind has walked. */
static fl_status read_fields(reader r, const fl_message_record *record, fl_message *out) {
  static const char *const types[] = {"an unsigned integer", "a number", "a bool", "a text",
                                      "binary"};
  char *base = (char *)&out->hello;
  msgpack_object map, name, value;
  uint64_t parts;
  uint32_t seen = 0;
  next(&r, &map, &parts);
  while (next_entry(&r, &name, &value)) {
    for (int i = 0; i < record->n_field; i++) {
      const fl_field *f = &record->field[i];
      if (!is(&name, f->name)) continue;
      if (seen >> i & 1)
        return fl_fail(FEDLANE_DATA, "%s: %s is there twice", record->name, f->name);
      seen |= 1u << i;
      if (!take(f, &value, base + f->offset))
        return fl_fail(FEDLANE_DATA, "%s: %s must be %s", record->name, f->name, types[f->type]);
      FL_TRY(check(FEDLANE_DATA, record->name, f, base + f->offset));
    }
  }
  for (int i = 0; i < record->n_field; i++)
    if (!(seen >> i & 1) && !record->field[i].optional)
      return fl_fail(FEDLANE_DATA, "%s: %s is missing", record->name, record->field[i].name);
  return FEDLANE_OK;
}

fl_status fl_wire_read(const void *frame, size_t n, char from, fl_message *out) {
  uint64_t digest;
  if (n <= TAIL || n > FL_FRAME_BYTES)
    return fl_fail(FEDLANE_DATA, "a frame has %zu bytes; there must be %d to %d", n, TAIL + 1,
                   FL_FRAME_BYTES);
  const reader r = {frame, n - TAIL};
  memcpy(&digest, r.at + r.n, TAIL);
  if (digest != fl_digest(r.at, r.n))
    return fl_fail(FEDLANE_DATA, "a frame's digest is not that of its bytes");
  *out = (fl_message){0};
  FL_TRY(find_kind(r, &out->kind));
  const fl_message_record *record = fl_message_records[out->kind];
  if (record->sender != 'B' && record->sender != from)
    return fl_fail(FEDLANE_DATA, "%s: only %s may send it", record->name,
                   record->sender == 'P' ? "a peer" : "the coordinator");
  return read_fields(r, record, out);
}
