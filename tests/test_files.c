/* Reading whole files, plain and packed, and writing aside. */
#include "files.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <zlib.h>

#include "suite.h"

static void write_bytes(const char *path, const void *bytes, size_t n) {
  FILE *file = fopen(path, "wb");
  CU_ASSERT_PTR_NOT_NULL_FATAL(file);
  CU_ASSERT_EQUAL(fwrite(bytes, 1, n, file), n);
  fclose(file);
}

static void check_contents(const char *path, const void *bytes, int64_t n) {
  unsigned char *data = NULL;
  int64_t size = -1;
  CU_ASSERT_EQUAL_FATAL(fl_read_all(path, &data, &size), FEDLANE_OK);
  CU_ASSERT_EQUAL(size, n);
  CU_ASSERT(size == n && memcmp(data, bytes, (size_t)n) == 0);
  free(data);
}

/* A gzip member of n bytes in a new buffer; *size is its length. */
static unsigned char *pack(const void *bytes, size_t n, size_t *size) {
  z_stream z = {0};
  size_t room = n + n / 2 + 64;
  unsigned char *out = malloc(room);
  CU_ASSERT_EQUAL_FATAL(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  z.next_in = (unsigned char *)(uintptr_t)bytes;
  z.avail_in = (uInt)n;
  z.next_out = out;
  z.avail_out = (uInt)room;
  CU_ASSERT_EQUAL_FATAL(deflate(&z, Z_FINISH), Z_STREAM_END);
  *size = room - z.avail_out;
  deflateEnd(&z);
  return out;
}

static void folders(void) {
  const char *root = fl_test_folder();
  char *deep = fl_path_join(root, "a/b/c"), *file = fl_path_join(root, "file");
  char *below = fl_path_join(file, "d");
  CU_ASSERT_EQUAL(fl_make_folder(deep), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_make_folder(deep), FEDLANE_OK);
  CU_ASSERT(fl_file_exists(deep));
  CU_ASSERT(!fl_file_exists(file));
  write_bytes(file, "x", 1);
  CU_ASSERT_EQUAL(fl_make_folder(file), FEDLANE_IO);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), file));
  CU_ASSERT_EQUAL(fl_make_folder(below), FEDLANE_IO);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "Not a directory"));
  free(deep);
  free(file);
  free(below);
}

static void joins(void) {
  const char *const cases[][3] = {
      {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
  for (int i = 0; i < 4; i++) {
    char *path = fl_path_join(cases[i][0], cases[i][1]);
    CU_ASSERT_STRING_EQUAL(path, cases[i][2]);
    free(path);
  }
}

static void reads_plain_files(void) {
  char *path = fl_path_join(fl_test_folder(), "plain");
  static unsigned char bytes[100000];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 7 + i / 256);
  for (size_t n = 0; n <= sizeof bytes; n = 3 * n + 1) {
    write_bytes(path, bytes, n);
    check_contents(path, bytes, (int64_t)n);
  }
  free(path);
}

static void refuses_what_cannot_be_read(void) {
  unsigned char *data;
  int64_t size;
  const char *folder = fl_test_folder();
  char *path = fl_path_join(folder, "none");
  CU_ASSERT_EQUAL(fl_read_all(path, &data, &size), FEDLANE_IO);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), path));
  CU_ASSERT_EQUAL(fl_read_all(folder, &data, &size), FEDLANE_IO);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "Is a directory"));
  free(path);
}

/* One member, two members in a row, and one so well packed that the room must grow. */
static void reads_gzip_members(void) {
  char *path = fl_path_join(fl_test_folder(), "packed");
  static unsigned char zeros[3000000];
  const char *text = "what was packed comes back";
  size_t n = strlen(text), one, two;
  unsigned char *a = pack(text, n, &one), *b = pack(zeros, sizeof zeros, &two);
  write_bytes(path, a, one);
  check_contents(path, text, (int64_t)n);
  write_bytes(path, b, two);
  check_contents(path, zeros, sizeof zeros);
  unsigned char *both = malloc(one + two), *expected = calloc(1, n + sizeof zeros);
  memcpy(both, b, two);
  memcpy(both + two, a, one);
  memcpy(expected + sizeof zeros, text, n);
  write_bytes(path, both, one + two);
  check_contents(path, expected, (int64_t)(n + sizeof zeros));
  free(a);
  free(b);
  free(both);
  free(expected);
  free(path);
}

static void refuses_every_gzip_truncation(void) {
  char *path = fl_path_join(fl_test_folder(), "cut");
  const char *text = "a sentence that is long enough to be packed, packed, packed and packed";
  size_t size;
  unsigned char *packed = pack(text, strlen(text), &size), *data;
  int64_t n;
  for (size_t cut = 2; cut < size; cut++) {
    write_bytes(path, packed, cut);
    CU_ASSERT_EQUAL(fl_read_all(path, &data, &n), FEDLANE_DATA);
    CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), path));
  }
  free(packed);
  free(path);
}

/* The checksum at the end finds damage past the ten bytes of the header; a bit that pads the last
 * byte of the packed data may change without harm. */
static void refuses_damaged_gzip(void) {
  char *path = fl_path_join(fl_test_folder(), "damaged");
  const char *text = "another sentence that goes through the mill and must come out whole";
  size_t size;
  unsigned char *packed = pack(text, strlen(text), &size), *data;
  int64_t n;
  int harmless = 0;
  for (size_t at = 10; at < size; at++)
    for (int bit = 0; bit < 8; bit++) {
      packed[at] ^= (unsigned char)(1 << bit);
      write_bytes(path, packed, size);
      fl_status status = fl_read_all(path, &data, &n);
      if (status == FEDLANE_OK) {
        CU_ASSERT(n == (int64_t)strlen(text) && memcmp(data, text, (size_t)n) == 0);
        harmless++;
        free(data);
      } else {
        CU_ASSERT_EQUAL(status, FEDLANE_DATA);
      }
      packed[at] ^= (unsigned char)(1 << bit);
    }
  CU_ASSERT(harmless < 8);
  free(packed);
  free(path);
}

static void aside_replaces_or_leaves(void) {
  const char *folder = fl_test_folder();
  char *path = fl_path_join(folder, "target"), *part = fl_path_join(folder, "target.part");
  fl_aside aside;
  write_bytes(path, "old", 3);
  CU_ASSERT_EQUAL_FATAL(fl_aside_open(path, &aside), FEDLANE_OK);
  fputs("newer", aside.file);
  check_contents(path, "old", 3);
  fl_aside_abandon(&aside);
  CU_ASSERT_PTR_NULL(aside.file);
  CU_ASSERT(!fl_file_exists(part));
  check_contents(path, "old", 3);
  CU_ASSERT_EQUAL_FATAL(fl_aside_open(path, &aside), FEDLANE_OK);
  fputs("newer", aside.file);
  CU_ASSERT_EQUAL(fl_aside_commit(&aside), FEDLANE_OK);
  CU_ASSERT_PTR_NULL(aside.file);
  CU_ASSERT(!fl_file_exists(part));
  check_contents(path, "newer", 5);
  free(path);
  free(part);
}

static void aside_needs_its_folder(void) {
  char *path = fl_path_join(fl_test_folder(), "none/target");
  fl_aside aside;
  CU_ASSERT_EQUAL(fl_aside_open(path, &aside), FEDLANE_IO);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), path));
  CU_ASSERT_PTR_NULL(aside.file);
  free(path);
}

/* A limit on the size of files stands for a full disk. */
static void aside_survives_a_full_disk(void) {
  const char *folder = fl_test_folder();
  char *path = fl_path_join(folder, "target"), *part = fl_path_join(folder, "target.part");
  static char bytes[100000];
  struct rlimit before, limit;
  fl_aside aside;
  write_bytes(path, "old", 3);
  getrlimit(RLIMIT_FSIZE, &before);
  limit = before;
  limit.rlim_cur = 50000;
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &limit);
  CU_ASSERT_EQUAL(fl_aside_open(path, &aside), FEDLANE_OK);
  fwrite(bytes, 1, sizeof bytes, aside.file);
  CU_ASSERT_EQUAL(fl_aside_commit(&aside), FEDLANE_IO);
  setrlimit(RLIMIT_FSIZE, &before);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), path));
  CU_ASSERT(!fl_file_exists(part));
  check_contents(path, "old", 3);
  free(path);
  free(part);
}

static const fl_test tests[] = {
    {"folders", folders},
    {"joins", joins},
    {"reads plain files", reads_plain_files},
    {"refuses what cannot be read", refuses_what_cannot_be_read},
    {"reads gzip members", reads_gzip_members},
    {"refuses every gzip truncation", refuses_every_gzip_truncation},
    {"refuses damaged gzip", refuses_damaged_gzip},
    {"aside replaces or leaves", aside_replaces_or_leaves},
    {"aside needs its folder", aside_needs_its_folder},
    {"aside survives a full disk", aside_survives_a_full_disk},
};

FL_SUITE_MAIN("files", tests)
