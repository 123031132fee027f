/* Numbers as the bytes of a chunk: there and back within known errors, and bad bodies. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "suite.h"
#include "wire.h"

enum { MOST = 5000 };

static const uint64_t counts[] = {1, 2, 255, 256, 257, 512, 4096, 4097, MOST};

/* Numbers of very different sizes, some of them 0. */
static void fill(uint64_t n, float *x) {
  uint32_t state = 7;
  for (uint64_t i = 0; i < n; i++) {
    state = state * 1664525 + 1013904223;
    x[i] = state >> 28 ? ldexpf((float)(int32_t)state, (int)(state >> 8 & 63) - 60) : 0;
  }
}

/* Writes x, reads it back from an unaligned copy of exactly its bytes. */
static size_t pass(fl_payload payload, uint64_t n, const float *x, float *y) {
  const size_t room = fl_payload_bytes(payload, n);
  uint8_t *body = malloc(room);
  const size_t bytes = fl_payload_write(payload, n, x, body);
  CU_ASSERT_FATAL(bytes <= room);
  uint8_t *copy = malloc(bytes + 1);
  memcpy(copy + 1, body, bytes);
  CU_ASSERT_EQUAL(fl_payload_read(payload, n, copy + 1, bytes, y), FEDLANE_OK);
  free(copy);
  free(body);
  return bytes;
}

static void sizes(void) {
  CU_ASSERT_EQUAL(fl_payload_bytes(FL_PAYLOAD_F32, 262144), FL_CHUNK_BYTES);
  CU_ASSERT_EQUAL(fl_payload_bytes(FL_PAYLOAD_F32, 262145), 0);
  CU_ASSERT_EQUAL(fl_payload_bytes(FL_PAYLOAD_F32, UINT64_MAX / 2), 0);
  CU_ASSERT_EQUAL(fl_payload_bytes(FL_PAYLOAD_INT8, 257), 257 + 8);
  CU_ASSERT_EQUAL(fl_payload_bytes(FL_PAYLOADS, 1), 0);
  CU_ASSERT_EQUAL(fl_payload_elements(FL_PAYLOADS, 4096), 0);
  for (int payload = 0; payload < FL_PAYLOADS; payload++)
    for (size_t bytes = 4096; bytes <= FL_CHUNK_BYTES; bytes += 4099) {
      const uint64_t n = fl_payload_elements(payload, bytes);
      CU_ASSERT(n > 0 && n % 256 == 0);
      CU_ASSERT(fl_payload_bytes(payload, n) <= bytes);
      CU_ASSERT(n + 256 > FL_CHUNK_BYTES || fl_payload_bytes(payload, n + 256) > bytes ||
                fl_payload_bytes(payload, n + 256) == 0);
    }
}

static void exact_kinds(void) {
  static float x[MOST], y[MOST];
  fill(MOST, x);
  for (int i = 0; i < 9; i++) {
    const uint64_t n = counts[i];
    CU_ASSERT_EQUAL(pass(FL_PAYLOAD_F32, n, x, y), n * 4);
    CU_ASSERT_EQUAL(memcmp(x, y, n * 4), 0);
    size_t pairs = 0;
    for (uint64_t k = 0; k < n; k++) pairs += x[k] != 0;
    CU_ASSERT_EQUAL(pass(FL_PAYLOAD_SPARSE, n, x, y), pairs * 8);
    CU_ASSERT_EQUAL(memcmp(x, y, n * 4), 0);
  }
}

static void bf16_rounds_to_even(void) {
  static float x[MOST], y[MOST];
  fill(MOST, x);
  for (int i = 0; i < 9; i++) {
    pass(FL_PAYLOAD_BF16, counts[i], x, y);
    for (uint64_t k = 0; k < counts[i]; k++) CU_ASSERT(fabsf(x[k] - y[k]) <= fabsf(x[k]) / 256);
  }
  const float in[] = {1,       1.00390625f, 1.01171875f, -1.00390637f,
                      FLT_MAX, -FLT_MAX,    0x1p-149f,   -0.f};
  const float out[] = {1, 1, 1.015625f, -1.0078125f, 0x1.fep127f, -0x1.fep127f, 0, -0.f};
  pass(FL_PAYLOAD_BF16, 8, in, y);
  CU_ASSERT_EQUAL(memcmp(out, y, sizeof out), 0);
}

static void int8_stays_within_half_a_step(void) {
  static float x[MOST], y[MOST];
  fill(MOST, x);
  x[300] = FLT_MAX; /* of the second block */
  for (int i = 0; i < 9; i++) {
    CU_ASSERT_EQUAL(pass(FL_PAYLOAD_INT8, counts[i], x, y),
                    counts[i] + (counts[i] + 255) / 256 * 4);
    for (uint64_t k = 0; k < counts[i]; k++) {
      float peak = 0;
      for (uint64_t j = k / 256 * 256; j < counts[i] && j < k / 256 * 256 + 256; j++)
        peak = fmaxf(peak, fabsf(x[j]));
      CU_ASSERT(fabs((double)x[k] - (double)y[k]) <= (double)peak * (0.5 / 127 + 1e-6));
    }
  }
  const float tiny[] = {0x1p-149f, -0x1p-130f, 0x1p-126f}, zero[3] = {0};
  pass(FL_PAYLOAD_INT8, 3, tiny, y);
  CU_ASSERT_EQUAL(memcmp(y, zero, sizeof zero), 0);
}

static void what_is_not_finite(void) {
  static float x[MOST], y[MOST];
  static uint8_t body[MOST * 8];
  const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
  for (int payload = 0; payload < FL_PAYLOAD_SUM; payload++)
    for (int i = 0; i < 4; i++)
      for (size_t at = 0; at < MOST; at += 311) {
        fill(MOST, x);
        x[at] = bad[i];
        const size_t bytes = fl_payload_write(payload, MOST, x, body);
        CU_ASSERT_EQUAL(fl_payload_read(payload, MOST, body, bytes, y), FEDLANE_DATA);
      }
}

static void wrong_sizes(void) {
  static float x[MOST], y[MOST];
  static uint8_t body[MOST * 8];
  fill(MOST, x);
  for (int payload = 0; payload < FL_PAYLOAD_SUM; payload++) {
    const size_t bytes = fl_payload_write(payload, 600, x, body);
    for (size_t n = 0; n < bytes + 9; n++) {
      const bool fits = payload == FL_PAYLOAD_SPARSE ? n % 8 == 0 && n <= bytes : n == bytes;
      const fl_status status = fl_payload_read(payload, 600, body, n, y);
      if (n <= bytes) CU_ASSERT_EQUAL(status, fits ? FEDLANE_OK : FEDLANE_DATA);
      if (n > bytes) CU_ASSERT_EQUAL(status, FEDLANE_DATA);
    }
    CU_ASSERT_EQUAL(fl_payload_read(payload, 0, body, 0, y), FEDLANE_DATA);
    CU_ASSERT_EQUAL(fl_payload_read(payload, (uint64_t)1 << 40, body, bytes, y), FEDLANE_DATA);
  }
  CU_ASSERT_EQUAL(fl_payload_read(FL_PAYLOAD_SUM, 1, body, 8, y), FEDLANE_DATA);
  CU_ASSERT_EQUAL(fl_payload_read(FL_PAYLOADS, 1, body, 8, y), FEDLANE_DATA);
}

static fl_status read_pairs(uint32_t a, uint32_t b, uint64_t count) {
  float y[8];
  const struct {
    uint32_t place;
    float value;
  } pairs[] = {{a, 1}, {b, 2}};
  return fl_payload_read(FL_PAYLOAD_SPARSE, count, pairs, sizeof pairs, y);
}

static void places(void) {
  CU_ASSERT_EQUAL(read_pairs(0, 7, 8), FEDLANE_OK);
  CU_ASSERT_EQUAL(read_pairs(0, 8, 8), FEDLANE_DATA);
  CU_ASSERT_EQUAL(read_pairs(3, 3, 8), FEDLANE_DATA);
  CU_ASSERT_EQUAL(read_pairs(3, 2, 8), FEDLANE_DATA);
  CU_ASSERT_EQUAL(read_pairs(UINT32_MAX, 0, 8), FEDLANE_DATA);
}

static void bad_factors(void) {
  uint8_t body[4 + 3] = {0};
  float y[3];
  const float factor[] = {-1, NAN, INFINITY, 0x1p127f};
  for (int i = 0; i < 4; i++) {
    memcpy(body, &factor[i], 4);
    body[4] = 127;
    CU_ASSERT_EQUAL(fl_payload_read(FL_PAYLOAD_INT8, 3, body, sizeof body, y), FEDLANE_DATA);
  }
}

static void names(void) {
  CU_ASSERT_STRING_EQUAL(fl_payload_name(FL_PAYLOAD_BF16), "bfloat16");
  CU_ASSERT_STRING_EQUAL(fl_payload_name(FL_PAYLOAD_SUM), "sum");
  CU_ASSERT_PTR_NULL(fl_payload_name(FL_PAYLOADS));
}

static const fl_test tests[] = {
    {"sizes", sizes},
    {"exact kinds", exact_kinds},
    {"bf16 rounds to even", bf16_rounds_to_even},
    {"int8 stays within half a step", int8_stays_within_half_a_step},
    {"what is not finite", what_is_not_finite},
    {"wrong sizes", wrong_sizes},
    {"places", places},
    {"bad factors", bad_factors},
    {"names", names},
};

FL_SUITE_MAIN("payload", tests)
