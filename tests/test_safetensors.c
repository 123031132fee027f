/* safetensors files: what is written comes back, and no damaged file is believed. */
#include "safetensors.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "files.h"
#include "rng.h"
#include "suite.h"

static char *make_path(void) { return fl_path_join(fl_test_folder(), "t.safetensors"); }

static void write_bytes(const char *path, const void *bytes, size_t n) {
  FILE *file = fopen(path, "wb");
  CU_ASSERT_PTR_NOT_NULL_FATAL(file);
  fwrite(bytes, 1, n, file);
  fclose(file);
}

/* A file from a header in text and `data` zero bytes. */
static void write_text(const char *path, const char *header, size_t data) {
  uint64_t length = strlen(header);
  unsigned char *bytes = calloc(1, 8 + length + data);
  memcpy(bytes, &length, 8);
  memcpy(bytes + 8, header, length);
  write_bytes(path, bytes, 8 + length + data);
  free(bytes);
}

static void expect_refusal(const char *path, fl_status status, const char *word) {
  fl_st_file *file = NULL;
  fl_status got = fl_st_open(path, &file);
  CU_ASSERT_EQUAL(got, status);
  CU_ASSERT_PTR_NULL(file);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), path));
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), word));
  if (got != status || !strstr(fedlane_error(), word))
    printf("\n    expected '%s', got status %d: %s\n", word, got, fedlane_error());
  fl_st_close(&file);
}

static void comes_back(void) {
  char *path = make_path();
  unsigned char bytes[48];
  for (int i = 0; i < 48; i++) bytes[i] = (unsigned char)(3 * i + 1);
  fl_st_tensor t[FL_DTYPES + 2];
  char name[FL_DTYPES][24];
  for (int i = 0; i < FL_DTYPES; i++) {
    snprintf(name[i], sizeof name[i], "layer.%d", i);
    t[i] = (fl_st_tensor){name[i], (fl_dtype)i, 3, {1, 2, 3}, 6, bytes};
  }
  t[FL_DTYPES] = (fl_st_tensor){"empty", FL_F32, 2, {0, 5}, 0, NULL};
  t[FL_DTYPES + 1] = (fl_st_tensor){"\"sc\u00e4lar\"\n", FL_F64, 0, {0}, 1, bytes};
  const char *const meta[] = {"format", "pt", "note", "a \"quoted\" word"};
  CU_ASSERT_EQUAL_FATAL(fl_st_write(path, FL_DTYPES + 2, t, 2, meta), FEDLANE_OK);
  fl_st_file *file = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_st_open(path, &file), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_st_count(file), FL_DTYPES + 2);
  CU_ASSERT_STRING_EQUAL(fl_st_metadata(file, "format"), "pt");
  CU_ASSERT_STRING_EQUAL(fl_st_metadata(file, "note"), "a \"quoted\" word");
  CU_ASSERT_PTR_NULL(fl_st_metadata(file, "none"));
  CU_ASSERT_PTR_NULL(fl_st_find(file, "none"));
  for (int i = 0; i < FL_DTYPES + 2; i++) {
    const fl_st_tensor *got = fl_st_find(file, t[i].name);
    CU_ASSERT_PTR_NOT_NULL_FATAL(got);
    CU_ASSERT_EQUAL(got->type, t[i].type);
    CU_ASSERT_EQUAL(got->n_dim, t[i].n_dim);
    CU_ASSERT_EQUAL(got->count, t[i].count);
    for (int d = 0; d < t[i].n_dim; d++) CU_ASSERT_EQUAL(got->dim[d], t[i].dim[d]);
    size_t size = (size_t)(t[i].count * fl_dtype_size(t[i].type));
    CU_ASSERT(size == 0 || memcmp(got->data, bytes, size) == 0);
  }
  CU_ASSERT_STRING_EQUAL(fl_st_at(file, 0)->name, "layer.0");
  CU_ASSERT_STRING_EQUAL(fl_dtype_name(FL_BF16), "BF16");
  fl_st_close(&file);
  CU_ASSERT_PTR_NULL(file);
  fl_st_close(&file);
  fl_st_close(NULL);
  free(path);
}

/* The layout, byte by byte, against the format's own description. */
static void has_the_layout(void) {
  char *path = make_path();
  const float values[2] = {1, -2};
  const fl_st_tensor t = {"w", FL_F32, 1, {2}, 2, values};
  CU_ASSERT_EQUAL_FATAL(fl_st_write(path, 1, &t, 0, NULL), FEDLANE_OK);
  unsigned char *data;
  int64_t size;
  CU_ASSERT_EQUAL_FATAL(fl_read_all(path, &data, &size), FEDLANE_OK);
  const char *header = "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
  CU_ASSERT_EQUAL(data[0], 64 - 8);
  CU_ASSERT_EQUAL(memcmp(data + 1, "\0\0\0\0\0\0\0", 7), 0);
  CU_ASSERT_EQUAL(memcmp(data + 8, header, strlen(header)), 0);
  for (size_t i = 8 + strlen(header); i < 64; i++) CU_ASSERT_EQUAL(data[i], ' ');
  CU_ASSERT_EQUAL(size, 64 + 8);
  CU_ASSERT_EQUAL(memcmp(data + 64, "\x00\x00\x80\x3f\x00\x00\x00\xc0", 8), 0);
  free(data);
  free(path);
}

/* Tensors in any order of names, as other writers leave them. */
static void reads_any_order(void) {
  char *path = make_path();
  write_text(path,
             "{\"b\":{\"data_offsets\":[4,8],\"dtype\":\"I32\",\"shape\":[1]},"
             "\"a\":{\"shape\":[2,2],\"dtype\":\"U8\",\"data_offsets\":[0,4]}}   ",
             8);
  fl_st_file *file = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_st_open(path, &file), FEDLANE_OK);
  CU_ASSERT_STRING_EQUAL(fl_st_at(file, 0)->name, "a");
  CU_ASSERT_STRING_EQUAL(fl_st_at(file, 1)->name, "b");
  CU_ASSERT_PTR_NULL(fl_st_metadata(file, "format"));
  fl_st_close(&file);
  free(path);
}

#define TENSOR(shape, begin, end) \
  "{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"

static void refuses_hostile_headers(void) {
  static const struct {
    const char *header, *word;
    size_t data;
  } cases[] = {
      {"[]", "not a JSON object", 0},
      {" {}", "not a JSON object", 0},
      {"{} x", "not valid JSON", 0},
      {"{\"a\":1}", "must have dtype", 0},
      {"{\"a\":{}}", "must have dtype", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"offsets\":[0,4]}}", "data_offsets", 4},
      {"{\"a\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}", "C64", 8},
      {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,8]}}", "(none)", 8},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", "shape", 4},
      {"{\"a\":" TENSOR("1,1,1,1,1,1,1,1,1", "0", "4") "}", "at most 8", 4},
      {"{\"a\":" TENSOR("-1", "0", "4") "}", "from 0 up", 4},
      {"{\"a\":" TENSOR("1.0", "0", "4") "}", "from 0 up", 4},
      {"{\"a\":" TENSOR("4294967296,4294967296", "0", "4") "}", "too large", 4},
      {"{\"a\":" TENSOR("4611686018427387904", "0", "0") "}", "values", 0},
      {"{\"a\":" TENSOR("99999999999999999999", "0", "4") "}", "not valid JSON", 4},
      {"{\"a\":" TENSOR("1", "0", "8") "}", "lies at bytes", 4},
      {"{\"a\":" TENSOR("1", "4", "0") "}", "lies at bytes", 4},
      {"{\"a\":" TENSOR("1", "-4", "0") "}", "lies at bytes", 4},
      {"{\"a\":" TENSOR("1", "0", "9223372036854775807") "}", "lies at bytes", 4},
      {"{\"a\":" TENSOR("2", "0", "4") "}", "has 2 values", 4},
      {"{\"a\":" TENSOR("1", "\"0\"", "4") "}", "two whole numbers", 4},
      {"{\"a\":" TENSOR("1", "0,4", "4") "}", "two whole numbers", 4},
      {"{\"a\":" TENSOR("1", "0", "4") ",\"a\":" TENSOR("1", "4", "8") "}", "duplicate", 8},
      {"{\"a\":" TENSOR("2", "0", "8") ",\"b\":" TENSOR("2", "4", "12") "}", "overlaps", 12},
      {"{\"a\":" TENSOR("1", "0", "4") ",\"b\":" TENSOR("1", "0", "4") "}", "overlaps", 4},
      {"{\"a\":" TENSOR("1", "4", "8") "}", "hole", 8},
      {"{\"a\":" TENSOR("1", "0", "4") ",\"b\":" TENSOR("1", "8", "12") "}", "hole", 12},
      {"{\"a\":" TENSOR("0", "4", "4") "}", "hole", 4},
      {"{\"a\":" TENSOR("1", "0", "4") "}", "belong to none", 5},
      {"{}", "belong to none", 5},
      {"{\"__metadata__\":[]}", "__metadata__", 0},
      {"{\"__metadata__\":{\"n\":1}}", "'n'", 0},
      {"{\"\xff\":1}", "not valid JSON", 0},
  };
  char *path = make_path();
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    write_text(path, cases[i].header, cases[i].data);
    expect_refusal(path, FEDLANE_DATA, cases[i].word);
  }
  free(path);
}

static void refuses_bad_lengths(void) {
  char *path = make_path();
  const uint64_t lengths[] = {3, 100000001, 1ull << 40, INT64_MAX, UINT64_MAX - 7, UINT64_MAX};
  for (int i = 0; i < 6; i++) {
    unsigned char bytes[10] = "........{}";
    memcpy(bytes, &lengths[i], 8);
    write_bytes(path, bytes, 10);
    expect_refusal(path, FEDLANE_DATA, "does not fit");
  }
  const uint64_t zero = 0;
  write_bytes(path, &zero, 8);
  expect_refusal(path, FEDLANE_DATA, "too few");
  expect_refusal("/dev/null", FEDLANE_IO, "regular");
  remove(path);
  expect_refusal(path, FEDLANE_IO, "No such file");
  free(path);
}

/* A small file with three tensors; its bytes in a new buffer. */
static unsigned char *sample(const char *path, int64_t *size) {
  const float w[6] = {1, 2, 3, 4, 5, 6};
  const int64_t n = 7;
  const fl_st_tensor t[] = {{"weight", FL_F32, 2, {2, 3}, 6, w},
                            {"bias", FL_F32, 1, {3}, 3, w},
                            {"n", FL_I64, 0, {0}, 1, &n}};
  const char *const meta[] = {"format", "pt"};
  unsigned char *bytes = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_st_write(path, 3, t, 1, meta), FEDLANE_OK);
  CU_ASSERT_EQUAL_FATAL(fl_read_all(path, &bytes, size), FEDLANE_OK);
  return bytes;
}

static void refuses_every_truncation(void) {
  char *path = make_path();
  int64_t size;
  unsigned char *bytes = sample(path, &size);
  for (int64_t cut = 0; cut < size; cut++) {
    write_bytes(path, bytes, (size_t)cut);
    expect_refusal(path, FEDLANE_DATA, "");
  }
  write_bytes(path, bytes, (size_t)size);
  fl_st_file *file = NULL;
  CU_ASSERT_EQUAL(fl_st_open(path, &file), FEDLANE_OK);
  fl_st_close(&file);
  free(bytes);
  free(path);
}

/* Reads every byte of every tensor, so that a sanitizer sees what lies outside. */
static void touch(const fl_st_file *file) {
  unsigned sum = 0;
  for (int i = 0; i < fl_st_count(file); i++) {
    const fl_st_tensor *t = fl_st_at(file, i);
    const unsigned char *at = t->data;
    for (int64_t k = 0; k < t->count * fl_dtype_size(t->type); k++) sum += at[k];
  }
  CU_ASSERT(sum < 255u * 100);
}

/* One to four random bytes change; the file is refused with a sentence, or still makes sense. */
static void survives_corruption(void) {
  char *path = make_path();
  int64_t size;
  unsigned char *bytes = sample(path, &size), *bad = malloc((size_t)size);
  fl_rng rng = fl_rng_open((fl_key){.seed = 5, .purpose = FL_FOR_DATA});
  int refused = 0;
  for (int i = 0; i < 1000; i++) {
    memcpy(bad, bytes, (size_t)size);
    for (uint32_t n = 1 + fl_rng_below(&rng, 4); n > 0; n--)
      bad[fl_rng_below(&rng, (uint32_t)size)] = (unsigned char)fl_rng_u32(&rng);
    write_bytes(path, bad, (size_t)size);
    fl_st_file *file = NULL;
    fl_status status = fl_st_open(path, &file);
    CU_ASSERT((status == FEDLANE_OK) == (file != NULL));
    CU_ASSERT(status == FEDLANE_OK || status == FEDLANE_DATA);
    if (status == FEDLANE_OK)
      touch(file);
    else
      refused++;
    fl_st_close(&file);
  }
  CU_ASSERT(refused > 500);
  free(bytes);
  free(bad);
  free(path);
}

static void check_old(const char *path) {
  fl_st_file *file = NULL;
  CU_ASSERT_EQUAL_FATAL(fl_st_open(path, &file), FEDLANE_OK);
  CU_ASSERT_PTR_NOT_NULL(fl_st_find(file, "old"));
  fl_st_close(&file);
}

static void failed_writing_leaves_the_old(void) {
  char *path = make_path(), *part = malloc(strlen(path) + 6);
  snprintf(part, strlen(path) + 6, "%s.part", path);
  static float values[50000];
  const fl_st_tensor old = {"old", FL_F32, 1, {4}, 4, values};
  const fl_st_tensor fresh = {"new", FL_F32, 1, {50000}, 50000, values};
  const fl_st_tensor twice[] = {old, old};
  CU_ASSERT_EQUAL_FATAL(fl_st_write(path, 1, &old, 0, NULL), FEDLANE_OK);
  struct rlimit before, limit;
  getrlimit(RLIMIT_FSIZE, &before);
  limit = before;
  limit.rlim_cur = 50000;
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &limit);
  fl_status status = fl_st_write(path, 1, &fresh, 0, NULL);
  setrlimit(RLIMIT_FSIZE, &before);
  CU_ASSERT_EQUAL(status, FEDLANE_IO);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), path));
  CU_ASSERT(!fl_file_exists(part));
  check_old(path);
  CU_ASSERT_EQUAL(fl_st_write(path, 2, twice, 0, NULL), FEDLANE_INTERNAL);
  check_old(path);
  CU_ASSERT_EQUAL(fl_st_write("/dev/null/no", 1, &old, 0, NULL), FEDLANE_IO);
  free(path);
  free(part);
}

static const fl_test tests[] = {
    {"comes back", comes_back},
    {"has the layout", has_the_layout},
    {"reads any order", reads_any_order},
    {"refuses hostile headers", refuses_hostile_headers},
    {"refuses bad lengths", refuses_bad_lengths},
    {"refuses every truncation", refuses_every_truncation},
    {"survives corruption", survives_corruption},
    {"failed writing leaves the old", failed_writing_leaves_the_old},
};

FL_SUITE_MAIN("safetensors", tests)
