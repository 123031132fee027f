/* Clients' own vectors between rounds: the sums of what checkpoints hold. */
#include <stdio.h>
#include <string.h>

#include "run.h"
#include "suite.h"

enum { CLIENTS = 3, FLOATS = 1000 };

static void fill(fl_store *s, int32_t client, float value) {
  for (int i = 0; i < s->floats; i++) s->at[client * s->floats + i] = value + (float)i;
  s->touched[client] = s->dirty[client] = true;
}

static void save(fl_store *s, const char *path) {
  CU_ASSERT_EQUAL(fl_store_save(s, path), FEDLANE_OK);
  fl_store_saved(s);
}

/* Loads what `of` last saved into a store of its own, with sums or as from an older checkpoint. */
static fl_status load(const fl_store *of, const char *path, bool sums, fl_store *out) {
  CU_ASSERT_EQUAL_FATAL(fl_store_open(out, of->n, of->floats, ""), FEDLANE_OK);
  return fl_store_load(out, path, of->side, sums ? of->sum : NULL);
}

/* Turns one bit of half `side` of a client's place over. */
static void flip(const char *path, int client, int side) {
  FILE *f = fopen(path, "r+");
  CU_ASSERT_PTR_NOT_NULL_FATAL(f);
  long at = 4L * FLOATS * (2 * client + side) - 2;
  CU_ASSERT_EQUAL(fseek(f, at, SEEK_SET), 0);
  int byte = fgetc(f);
  CU_ASSERT_EQUAL(fseek(f, at, SEEK_SET), 0);
  CU_ASSERT_EQUAL(fputc(byte ^ 4, f), byte ^ 4);
  fclose(f);
}

static void test_a_turned_bit_is_refused(void) {
  char path[128];
  fl_store s, other;
  snprintf(path, sizeof path, "%s/clients.bin", fl_test_folder());
  CU_ASSERT_EQUAL_FATAL(fl_store_open(&s, CLIENTS, FLOATS, ""), FEDLANE_OK);
  fill(&s, 0, 1);
  fill(&s, 2, 2);
  save(&s, path);
  uint64_t first = s.sum[0];
  fill(&s, 2, 3);
  save(&s, path);
  CU_ASSERT(s.sum[0] == first && s.sum[1] == 0 && s.side[0] == 1 && s.side[2] == 2);
  flip(path, 2, 1); /* does not count any more */
  CU_ASSERT_EQUAL(load(&s, path, true, &other), FEDLANE_OK);
  CU_ASSERT_EQUAL(memcmp(other.at, s.at, (size_t)s.bytes), 0);
  fl_store_close(&other);
  flip(path, 2, 2);
  CU_ASSERT_EQUAL(load(&s, path, true, &other), FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), path));
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "client 2 are damaged"));
  fl_store_close(&other);
  fl_store_close(&s);
}

/* An older checkpoint is loaded as it is, and the next one has sums of all. */
static void test_sums_are_made_where_there_were_none(void) {
  char path[128];
  fl_store s, older, now;
  snprintf(path, sizeof path, "%s/clients.bin", fl_test_folder());
  CU_ASSERT_EQUAL_FATAL(fl_store_open(&s, CLIENTS, FLOATS, ""), FEDLANE_OK);
  for (int32_t i = 0; i < CLIENTS; i++) fill(&s, i, 5);
  save(&s, path);
  CU_ASSERT_EQUAL(load(&s, path, false, &older), FEDLANE_OK);
  fill(&older, 1, 6);
  save(&older, path);
  CU_ASSERT_EQUAL(load(&older, path, true, &now), FEDLANE_OK);
  CU_ASSERT_EQUAL(memcmp(now.at, older.at, (size_t)s.bytes), 0);
  fl_store_close(&now);
  flip(path, 0, 1);
  CU_ASSERT_EQUAL(load(&older, path, true, &now), FEDLANE_DATA);
  fl_store_close(&now);
  fl_store_close(&older);
  fl_store_close(&s);
}

static const fl_test tests[] = {
    {"a turned bit is refused", test_a_turned_bit_is_refused},
    {"sums are made where there were none", test_sums_are_made_where_there_were_none},
};
FL_SUITE_MAIN("store", tests)
