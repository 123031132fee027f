/* Clients' own vectors between rounds: where they lie, what a full disk does, and their sums. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fixture.h"
#include "suite.h"

/* A small file system on a folder, seen by this process alone; NULL where it may not be mounted,
 * which is told. umount() it. */
static const char *mount_small(const char *type, const char *size) {
  const char *folder = fl_test_folder();
  if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
      mount(type, folder, type, 0, size) == 0)
    return folder;
  printf("skipped: %s cannot be mounted here: %s\n", type, strerror(errno));
  return NULL;
}

/* So many clients that their vectors together take more than half of the machine's memory. */
static int32_t too_many(int64_t floats) {
  int64_t memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
  return (int32_t)(memory / 2 / (4 * floats) + 1);
}

static int64_t bytes_free(const char *folder) {
  struct statvfs v;
  CU_ASSERT_EQUAL_FATAL(statvfs(folder, &v), 0);
  return (int64_t)(v.f_bfree * v.f_frsize);
}

enum { ODD = 5001 }; /* floats that end within a page */

static void write_all(fl_store *s, int32_t client) {
  for (int i = 0; i < ODD; i++) s->at[(int64_t)client * ODD + i] = (float)(client + 1);
}

static int count_wrong(const fl_store *s, int32_t client) {
  int wrong = 0;
  for (int i = 0; i < ODD; i++) wrong += s->at[(int64_t)client * ODD + i] != (float)(client + 1);
  return wrong;
}

/* Neighbours and clients far apart take the room that their vectors do, until there is none. */
static void test_places_cost_what_is_touched(void) {
  const char *folder = mount_small("tmpfs", "size=1m");
  char filler[128];
  fl_store s;
  int wrong = 0, n = 0;
  if (!folder) return;
  snprintf(filler, sizeof filler, "%s/filler", folder);
  FILE *f = fopen(filler, "w");
  CU_ASSERT(f && ftruncate(fileno(f), 65536) == 0 && fallocate(fileno(f), 0, 0, 65536) == 0);
  fclose(f);
  int64_t before = bytes_free(folder);
  CU_ASSERT_EQUAL_FATAL(fl_store_open(&s, too_many(ODD), ODD, folder), FEDLANE_OK);
  CU_ASSERT(s.file >= 0 && s.bytes > 1 << 30);
  CU_ASSERT(before - bytes_free(folder) <= sysconf(_SC_PAGESIZE));
  int32_t client = 0;
  for (; fl_store_touch(&s, (uint32_t)client) == FEDLANE_OK; n++) {
    write_all(&s, client);
    client = n % 2 ? client + s.n / 100 : client + 1;
  }
  CU_ASSERT(n > 10 && n <= before / (4 * ODD));
  CU_ASSERT(strstr(fedlane_error(), folder) && strstr(fedlane_error(), strerror(ENOSPC)));
  CU_ASSERT_FALSE(s.touched[client]);
  CU_ASSERT_EQUAL(unlink(filler), 0);
  CU_ASSERT_EQUAL(fl_store_touch(&s, (uint32_t)client), FEDLANE_OK);
  write_all(&s, client);
  for (int32_t i = 0; i < s.n; i++)
    if (s.touched[i]) wrong += count_wrong(&s, i);
  CU_ASSERT_EQUAL(wrong, 0);
  fl_store_close(&s);
  CU_ASSERT(bytes_free(folder) >= before);
  umount(folder);
}

/* A file system that cannot promise room is not used. */
static void test_no_promise_no_file(void) {
  const char *folder = mount_small("ramfs", NULL);
  fl_store s;
  if (!folder) return;
  CU_ASSERT_EQUAL_FATAL(fl_store_open(&s, too_many(ODD), ODD, folder), FEDLANE_OK);
  CU_ASSERT_EQUAL(s.file, -1);
  CU_ASSERT_EQUAL(fl_store_touch(&s, 7), FEDLANE_OK);
  write_all(&s, 7);
  CU_ASSERT_EQUAL(count_wrong(&s, 7), 0);
  fl_store_close(&s);
  umount(folder);
}

static const char *const wide =
    "device: cpu\n"
    "output: ''\n"
    "data: {format: synthetic, examples: 60, test: 20, channels: 1, height: 8, width: 8,\n"
    "       classes: 4, partition: {kind: iid, clients: 6}}\n"
    "model: {layers: [flatten, {dense: 4096}, relu, {dense: 0}]}\n"
    "train: {rounds: 2, cohort: 6, batch: 4}\n"
    "algorithm: scaffold\n";

/* Six clients of 1.1 MB where there is room for three. */
static void test_a_full_disk_ends_a_round(void) {
  const char *folder = mount_small("tmpfs", "size=4m");
  fedlane_run *run = NULL;
  if (!folder) return;
  CU_ASSERT_EQUAL_FATAL(fl_fixture_open(wide, 0, NULL, 0, &run), FEDLANE_OK);
  int64_t floats = run->store.floats;
  fl_store_close(&run->store);
  CU_ASSERT_EQUAL(fl_store_open(&run->store, too_many(floats), floats, folder), FEDLANE_OK);
  CU_ASSERT_EQUAL(fedlane_round(run, NULL), FEDLANE_IO);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), folder));
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "no room for the vectors of client "));
  CU_ASSERT_EQUAL(run->round, 0);
  fedlane_close(&run);
  umount(folder);
}

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

static void test_loading_makes_room(void) {
  const char *folder = mount_small("tmpfs", "size=1m");
  uint8_t *side = NULL;
  char path[128];
  fl_store s, other;
  if (!folder) return;
  snprintf(path, sizeof path, "%s/clients.bin", fl_test_folder());
  CU_ASSERT_EQUAL_FATAL(fl_store_open(&s, 100, ODD, ""), FEDLANE_OK);
  for (int32_t i = 0; i < s.n; i++) fill(&s, i, 1);
  save(&s, path);
  CU_ASSERT_EQUAL_FATAL(fl_store_open(&other, too_many(ODD), ODD, folder), FEDLANE_OK);
  side = calloc((size_t)other.n, 1);
  memcpy(side, s.side, 20);
  CU_ASSERT_EQUAL(fl_store_load(&other, path, side, NULL), FEDLANE_OK);
  CU_ASSERT_EQUAL(memcmp(other.at, s.at, 20 * 4 * ODD), 0);
  memcpy(side, s.side, 100);
  CU_ASSERT_EQUAL(fl_store_load(&other, path, side, NULL), FEDLANE_IO);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "no room for the vectors of client "));
  free(side);
  fl_store_close(&other);
  fl_store_close(&s);
  umount(folder);
}

static const fl_test tests[] = {
    {"a turned bit is refused", test_a_turned_bit_is_refused},
    {"sums are made where there were none", test_sums_are_made_where_there_were_none},
    {"places cost what is touched", test_places_cost_what_is_touched},
    {"no promise, no file", test_no_promise_no_file},
    {"loading makes room", test_loading_makes_room},
    {"a full disk ends a round", test_a_full_disk_ends_a_round},
};
FL_SUITE_MAIN("store", tests)
