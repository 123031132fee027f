/* The chunks of an upload, in any order, twice, in part and in disorder. */
#include "pile.h"

#include <stdlib.h>
#include <string.h>

#include "suite.h"

/* Sums take 131,072 elements a chunk: three chunks a stream, the last one short. */
enum { EACH = FL_CHUNK_BYTES / 8, ELEMENTS = 2 * EACH + 5, CHUNKS = 3, STREAMS = 2, MOST = 4 };

static fl_pile fresh(void) {
  fl_pile pile;
  fl_pile_open(&pile, 9, ELEMENTS, MOST);
  return pile;
}

static fl_cause begin(fl_pile *p, const uint32_t *streams, size_t n) {
  static const uint32_t block = 3;
  fl_cause cause = FL_CAUSE_none;
  fl_update about = {.upload = 9,
                     .payload = FL_PAYLOAD_SUM,
                     .blocks = {&block, sizeof block},
                     .streams = {streams, n * sizeof *streams}};
  CU_ASSERT_EQUAL(fl_pile_begin(p, &about, &cause), FEDLANE_OK);
  return cause;
}

/* A chunk with its body; the body's numbers say where they belong. */
static fl_chunk chunk_of(uint32_t stream, int i, fl_blob **body) {
  fl_chunk c = {.upload = 9, .stream = stream, .payload = FL_PAYLOAD_SUM};
  c.offset = (uint64_t)i * EACH;
  c.count = i == CHUNKS - 1 ? ELEMENTS - c.offset : EACH;
  CU_ASSERT_EQUAL_FATAL(fl_blob_open(8 * c.count, body), FEDLANE_OK);
  int64_t *x = fl_blob_at(*body);
  for (uint64_t k = 0; k < c.count; k++) x[k] = (int64_t)(stream * 1000000 + c.offset + k);
  c.body = fl_digest(x, 8 * c.count);
  return c;
}

static fl_cause add(fl_pile *p, const fl_chunk *c, fl_blob *body) {
  fl_cause cause = FL_CAUSE_none;
  CU_ASSERT_EQUAL(fl_pile_add(p, c, &body, &cause), FEDLANE_OK);
  CU_ASSERT_EQUAL(body == NULL, cause == FL_CAUSE_none);
  fl_blob_close(&body);
  return cause;
}

static fl_cause put(fl_pile *p, uint32_t stream, int i) {
  fl_blob *body = NULL;
  fl_chunk c = chunk_of(stream, i, &body);
  return add(p, &c, body);
}

static bool complete(const fl_pile *p, fl_cause *cause) {
  bool is = false;
  *cause = FL_CAUSE_none;
  CU_ASSERT_EQUAL(fl_pile_complete(p, &is, cause), FEDLANE_OK);
  return is;
}

static bool waits(const fl_pile *p) {
  fl_cause cause;
  return !complete(p, &cause) && cause == FL_CAUSE_none;
}

static const uint32_t two[] = {18, 3};

static void any_order_makes_a_whole(void) {
  static const int order[][STREAMS * CHUNKS] = {
      {0, 1, 2, 3, 4, 5}, {5, 4, 3, 2, 1, 0}, {2, 5, 0, 3, 4, 1}};
  for (int o = 0; o < FL_COUNT(order); o++)
    for (int begun = 0; begun <= STREAMS * CHUNKS; begun += 3) {
      fl_pile p = fresh();
      fl_cause cause;
      for (int i = 0; i <= STREAMS * CHUNKS; i++) {
        if (i == begun) CU_ASSERT_EQUAL(begin(&p, two, STREAMS), FL_CAUSE_none);
        if (i == STREAMS * CHUNKS) break;
        CU_ASSERT(waits(&p));
        CU_ASSERT_EQUAL(put(&p, two[order[o][i] / CHUNKS], order[o][i] % CHUNKS), FL_CAUSE_none);
      }
      CU_ASSERT(complete(&p, &cause));
      CU_ASSERT_EQUAL(p.n_stretch, STREAMS * CHUNKS);
      CU_ASSERT_EQUAL(p.bytes, STREAMS * 8 * ELEMENTS);
      for (int i = 0; i < p.n_stretch; i++) {
        int64_t first = *(const int64_t *)fl_blob_at(p.stretch[i].body);
        const fl_chunk *c = &p.stretch[i].about;
        CU_ASSERT_EQUAL(first, (int64_t)(c->stream * 1000000 + c->offset));
      }
      fl_pile_close(&p);
    }
}

static void nothing_is_taken_twice(void) {
  fl_pile p = fresh();
  fl_cause cause;
  CU_ASSERT_EQUAL(begin(&p, two, STREAMS), FL_CAUSE_none);
  CU_ASSERT_EQUAL(begin(&p, two, STREAMS), FL_CAUSE_twice);
  for (int i = 0; i < STREAMS * CHUNKS; i++) {
    CU_ASSERT_EQUAL(put(&p, two[i / CHUNKS], i % CHUNKS), FL_CAUSE_none);
    CU_ASSERT_EQUAL(put(&p, two[i / CHUNKS], i % CHUNKS), FL_CAUSE_twice);
  }
  CU_ASSERT_EQUAL(p.n_stretch, STREAMS * CHUNKS);
  CU_ASSERT(complete(&p, &cause));
  fl_pile_close(&p);
}

static void overlaps_and_gaps_are_shapes(void) {
  static const struct {
    uint64_t offset, count;
  } wrong[] = {{1, EACH},        {0, EACH - 1}, {0, EACH + 1}, {EACH / 2, EACH},  {2 * EACH, 4},
               {2 * EACH, EACH}, {3 * EACH, 1}, {ELEMENTS, 1}, {UINT32_MAX, EACH}};
  for (int i = 0; i < FL_COUNT(wrong); i++) {
    fl_pile p = fresh();
    fl_blob *body = NULL;
    fl_chunk c = chunk_of(3, 0, &body);
    c.offset = wrong[i].offset;
    c.count = wrong[i].count;
    CU_ASSERT_EQUAL(add(&p, &c, body), FL_CAUSE_shape);
    CU_ASSERT_EQUAL(p.n_stretch, 0);
    fl_pile_close(&p);
  }
}

static void harmed_bodies_are_corrupt(void) {
  fl_pile p = fresh();
  fl_blob *body = NULL;
  fl_chunk c = chunk_of(3, 1, &body);
  ((char *)fl_blob_at(body))[12345] ^= 1;
  CU_ASSERT_EQUAL(add(&p, &c, body), FL_CAUSE_corrupt);
  CU_ASSERT_EQUAL(put(&p, 3, 1), FL_CAUSE_none);
  fl_pile_close(&p);
}

static void a_stream_has_one_payload(void) {
  fl_pile p = fresh();
  fl_blob *body = NULL;
  CU_ASSERT_EQUAL(put(&p, 3, 0), FL_CAUSE_none);
  fl_chunk c = {.stream = 3, .payload = FL_PAYLOAD_F32, .count = 2 * EACH};
  CU_ASSERT_EQUAL_FATAL(fl_blob_open(8 * EACH, &body), FEDLANE_OK);
  memset(fl_blob_at(body), 0, 8 * EACH);
  c.body = fl_digest(fl_blob_at(body), 8 * EACH);
  CU_ASSERT_EQUAL(add(&p, &c, body), FL_CAUSE_shape);
  fl_pile_close(&p);
}

static void streams_are_those_of_the_list(void) {
  static const uint32_t same[] = {3, 3}, one[] = {3};
  fl_pile p = fresh();
  fl_cause cause;
  CU_ASSERT_EQUAL(begin(&p, same, 2), FL_CAUSE_none);
  for (int i = 0; i < STREAMS * CHUNKS; i++) CU_ASSERT(waits(&p) && !put(&p, two[i / 3], i % 3));
  CU_ASSERT(!complete(&p, &cause));
  CU_ASSERT_EQUAL(cause, FL_CAUSE_shape);
  fl_pile_close(&p);
  p = fresh();
  CU_ASSERT_EQUAL(begin(&p, one, 1), FL_CAUSE_none);
  CU_ASSERT_EQUAL(put(&p, 18, 0), FL_CAUSE_none);
  for (int i = 0; i < CHUNKS; i++) CU_ASSERT(waits(&p) && !put(&p, 3, i));
  CU_ASSERT(!complete(&p, &cause));
  CU_ASSERT_EQUAL(cause, FL_CAUSE_shape);
  fl_pile_close(&p);
}

static void streams_are_not_too_many(void) {
  fl_pile p = fresh();
  for (uint32_t i = 0; i < MOST; i++) CU_ASSERT_EQUAL(put(&p, 100 - i, 0), FL_CAUSE_none);
  CU_ASSERT_EQUAL(put(&p, 7, 0), FL_CAUSE_shape);
  CU_ASSERT_EQUAL(put(&p, 100, 1), FL_CAUSE_none);
  fl_pile_close(&p);
}

static void an_upload_may_be_without_streams(void) {
  fl_pile p = fresh();
  fl_cause cause;
  CU_ASSERT(waits(&p));
  CU_ASSERT_EQUAL(begin(&p, NULL, 0), FL_CAUSE_none);
  CU_ASSERT(complete(&p, &cause));
  fl_pile_close(&p);
}

static const fl_test tests[] = {
    {"any order makes a whole", any_order_makes_a_whole},
    {"nothing is taken twice", nothing_is_taken_twice},
    {"overlaps and gaps are shapes", overlaps_and_gaps_are_shapes},
    {"harmed bodies are corrupt", harmed_bodies_are_corrupt},
    {"a stream has one payload", a_stream_has_one_payload},
    {"streams are those of the list", streams_are_those_of_the_list},
    {"streams are not too many", streams_are_not_too_many},
    {"an upload may be without streams", an_upload_may_be_without_streams},
};

FL_SUITE_MAIN("pile", tests)
