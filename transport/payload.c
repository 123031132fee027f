/* Numbers as bytes. Memory that may be unaligned is copied to or from aligned blocks, over which
 * plain loops run that compilers make wide. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "wire.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers lie as on the wire");

enum {
  BLOCK = 256,
  PAIR = 8,
  GROUP = 8,
  STRETCH = 4096,
  MAGNITUDE = 0x7FFFFFFF,
  INFINITE = 0x7F800000
};

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static size_t bytes_of(fl_payload payload, size_t n) {
  switch (payload) {
    case FL_PAYLOAD_F32:
      return n * 4;
    case FL_PAYLOAD_BF16:
      return n * 2;
    case FL_PAYLOAD_INT8:
      return n + (n + BLOCK - 1) / BLOCK * 4;
    default: /* SPARSE at most, SUM */
      return n * 8;
  }
}

size_t fl_payload_bytes(fl_payload payload, uint64_t count) {
  if (payload >= FL_PAYLOADS || count > FL_CHUNK_BYTES) return 0;
  const size_t bytes = bytes_of(payload, (size_t)count);
  return bytes <= FL_CHUNK_BYTES ? bytes : 0;
}

uint64_t fl_payload_elements(fl_payload payload, size_t bytes) {
  return payload < FL_PAYLOADS ? bytes / bytes_of(payload, BLOCK) * BLOCK : 0;
}

/* The largest magnitude, as the bits of a float; at least INFINITE when one is not finite. */
static uint32_t peak_bits(size_t n, const float *x) {
  uint32_t peak = 0, word[STRETCH];
  for (size_t i = 0, m; i < n; i += m) {
    m = least(n - i, STRETCH);
    memcpy(word, x + i, m * 4);
    for (size_t k = 0; k < m; k++) {
      const uint32_t magnitude = word[k] & MAGNITUDE;
      peak = magnitude > peak ? magnitude : peak;
    }
  }
  return peak;
}

static float from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* Rounds to the nearest, ties to even. What would round beyond the largest number becomes that;
 * what is not finite stays so. */
static void write_bf16(size_t n, const float *x, uint8_t *out) {
  uint32_t word[STRETCH];
  uint16_t half[STRETCH];
  for (size_t i = 0, m; i < n; i += m) {
    m = least(n - i, STRETCH);
    memcpy(word, x + i, m * 4);
    for (size_t k = 0; k < m; k++) {
      const uint32_t magnitude = word[k] & MAGNITUDE;
      uint32_t upper = (magnitude + 0x7FFF + (magnitude >> 16 & 1)) >> 16;
      upper = upper < 0x7F7F ? upper : 0x7F7F;
      upper = magnitude < INFINITE ? upper : INFINITE >> 16;
      half[k] = (uint16_t)(upper | (word[k] >> 16 & 0x8000));
    }
    memcpy(out + i * 2, half, m * 2);
  }
}

static void read_bf16(size_t n, const uint8_t *body, float *x) {
  uint32_t word[STRETCH];
  uint16_t half[STRETCH];
  for (size_t i = 0, m; i < n; i += m) {
    m = least(n - i, STRETCH);
    memcpy(half, body + i * 2, m * 2);
    for (size_t k = 0; k < m; k++) word[k] = (uint32_t)half[k] << 16;
    memcpy(x + i, word, m * 4);
  }
}

/* The factor of a block whose largest magnitude is `peak`: 127 of it are finite, and so is its
 * inverse unless it is 0. */
static float factor_of(uint32_t peak) {
  if (peak >= INFINITE) return INFINITY;
  const float factor = fminf(from_bits(peak), 0x1.fffffcp127f) / 127;
  return factor >= FLT_MIN ? factor : 0;
}

static void write_int8(size_t n, const float *x, uint8_t *out) {
  const float shift = 0x1.8p23f; /* added and taken off again, it rounds to a whole number */
  int8_t step[BLOCK];
  for (size_t i = 0, m; i < n; i += m, out += 4 + m) {
    m = least(n - i, BLOCK);
    const float factor = factor_of(peak_bits(m, x + i));
    memcpy(out, &factor, 4);
    memset(step, 0, sizeof step);
    if (factor > 0 && factor < INFINITY) {
      const float inverse = 1 / factor;
      for (size_t k = 0; k < m; k++)
        step[k] = (int8_t)(int32_t)((x[i + k] * inverse + shift) - shift);
    }
    memcpy(out + 4, step, m);
  }
}

static fl_status read_int8(size_t n, const uint8_t *body, float *x) {
  int8_t step[BLOCK];
  float factor;
  for (size_t i = 0, m; i < n; i += m, body += 4 + m) {
    m = least(n - i, BLOCK);
    memcpy(&factor, body, 4);
    memcpy(step, body + 4, m);
    if (!(factor >= 0 && factor < INFINITY))
      return fl_fail(FEDLANE_DATA,
                     "int8: a block's factor is %g; it must be finite and not below 0", factor);
    for (size_t k = 0; k < m; k++) x[i + k] = (float)step[k] * factor;
  }
  return FEDLANE_OK;
}

static bool is_zero(const float x[GROUP]) {
  uint32_t word[GROUP], any = 0;
  memcpy(word, x, sizeof word);
  for (int k = 0; k < GROUP; k++) any |= word[k];
  return (any & MAGNITUDE) == 0;
}

/* Elements go in groups, most of which are all zero. Of another group every pair is stored and
 * those that stay are counted: no branch depends on a single number. */
static size_t write_sparse(size_t n, const float *x, uint8_t *out) {
  size_t used = 0;
  for (size_t i = 0, m; i < n; i += m) {
    m = least(n - i, GROUP);
    if (m == GROUP && is_zero(x + i)) continue;
    for (size_t k = i; k < i + m; k++) {
      const uint32_t place = (uint32_t)k;
      memcpy(out + used, &place, 4);
      memcpy(out + used + 4, x + k, 4);
      used += x[k] != 0 ? PAIR : 0;
    }
  }
  return used;
}

static fl_status read_sparse(size_t n, const uint8_t *body, size_t bytes, float *x) {
  uint32_t place;
  size_t from = 0; /* places below are taken */
  memset(x, 0, n * sizeof *x);
  for (size_t i = 0; i < bytes; i += PAIR) {
    memcpy(&place, body + i, 4);
    if (place < from || place >= n)
      return fl_fail(FEDLANE_DATA, "sparse: place %u is not from %zu to %zu", place, from, n - 1);
    memcpy(x + place, body + i + 4, 4);
    from = (size_t)place + 1;
  }
  return FEDLANE_OK;
}

size_t fl_payload_write(fl_payload payload, uint64_t count, const float *x, void *out) {
  const size_t n = (size_t)count;
  switch (payload) {
    case FL_PAYLOAD_F32:
      memcpy(out, x, n * 4);
      break;
    case FL_PAYLOAD_BF16:
      write_bf16(n, x, out);
      break;
    case FL_PAYLOAD_INT8:
      write_int8(n, x, out);
      break;
    case FL_PAYLOAD_SPARSE:
      return write_sparse(n, x, out);
    default:
      return 0;
  }
  return bytes_of(payload, n);
}

fl_status fl_payload_read(fl_payload payload, uint64_t count, const void *body, size_t bytes,
                          float *x) {
  const size_t n = (size_t)count, whole = fl_payload_bytes(payload, count);
  if (payload >= FL_PAYLOAD_SUM) return fl_fail(FEDLANE_DATA, "these are no floats");
  if (whole == 0)
    return fl_fail(FEDLANE_DATA, "%s: a chunk cannot have %llu elements", fl_payload_name(payload),
                   (unsigned long long)count);
  if (payload == FL_PAYLOAD_SPARSE ? bytes > whole || bytes % PAIR : bytes != whole)
    return fl_fail(FEDLANE_DATA, "%s: %zu bytes are not what %zu elements take",
                   fl_payload_name(payload), bytes, n);
  if (payload == FL_PAYLOAD_F32)
    memcpy(x, body, bytes);
  else if (payload == FL_PAYLOAD_BF16)
    read_bf16(n, body, x);
  else if (payload == FL_PAYLOAD_INT8)
    FL_TRY(read_int8(n, body, x));
  else
    FL_TRY(read_sparse(n, body, bytes, x));
  if (peak_bits(n, x) >= INFINITE)
    return fl_fail(FEDLANE_DATA, "%s: a number is not finite", fl_payload_name(payload));
  return FEDLANE_OK;
}
