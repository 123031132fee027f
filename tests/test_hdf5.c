/* The formats tff and pfl on files that h5py has written (tests/hdf5/make.py). */
#include <string.h>

#include "format_files.h"
#include "formats/hdf5_file.h"

#define FILES FEDLANE_SOURCE "/tests/hdf5"

static fl_dataset load_set(const char *format, const char *path, int set) {
  fl_args args = fl_args_of(&find(format)->record);
  fl_args_set(&args, "set", set);
  return load_good(format, path, &args);
}

static void emnist_by_writer(void) {
  fl_dataset d = load_set("tff", FILES, 0);
  const float *x = d.x;
  CU_ASSERT(d.n_train == 5 && d.n_test == 2 && d.classes == 62 && !d.bytes && d.n_client == 2);
  CU_ASSERT(d.image.channels == 1 && d.image.height == 28 && d.image.width == 28);
  const int32_t label[7] = {0, 1, 10, 11, 12, 0, 10}, client[5] = {0, 0, 1, 1, 1};
  CU_ASSERT_EQUAL(memcmp(d.label, label, sizeof label), 0);
  CU_ASSERT_EQUAL(memcmp(d.client, client, sizeof client), 0);
  CU_ASSERT_EQUAL(x[3], 21.0f / 255);
  CU_ASSERT_EQUAL(x[2 * 784 + 784 + 5], (float)(((784 + 5) * 7 + 1) % 256) / 255);
  fl_dataset_close(&d);
}

static void cifar100_as_planes(void) {
  fl_dataset d = load_set("tff", FILES, 2);
  const uint8_t *x = d.x;
  CU_ASSERT(d.n_train == 3 && d.n_test == 1 && d.classes == 100 && d.bytes);
  CU_ASSERT(d.image.channels == 3 && d.image.height == 32 && d.image.width == 32);
  const int32_t label[4] = {0, 1, 30, 0};
  CU_ASSERT_EQUAL(memcmp(d.label, label, sizeof label), 0);
  for (int k = 0; k < 3; k++) {
    int pixel = 40, i = 3072 + pixel * 3 + k; /* of the second image */
    CU_ASSERT_EQUAL(x[3072 + k * 1024 + pixel], i * 7 % 256);
  }
  fl_dataset_close(&d);
}

/* Numbers of characters: d, h and l come first; begin is 88 and end 89. */
static void shakespeare_by_role(void) {
  fl_args args = fl_args_of(&find("tff")->record);
  fl_args_set(&args, "set", 3);
  fl_args_set(&args, "sequence", 4);
  fl_dataset d = load_good("tff", FILES, &args);
  const uint8_t *x = d.x;
  CU_ASSERT(d.tokens == 90 && d.classes == 90 && d.n_label == 4 && d.image.steps == 4 && d.bytes);
  /* "In delivering ..." has 54 characters: 11 sequences of 5 tokens and a rest of one. "dhl" and
   * "Now\nis~": 1 + 2.
   */
  CU_ASSERT(d.n_train == 14 && d.n_client == 2 && d.n_test == 1);
  const uint8_t dhl[4] = {88, 1, 2, 3};
  const int32_t after[4] = {1, 2, 3, 89};
  CU_ASSERT_EQUAL(memcmp(x + 11 * 4, dhl, sizeof dhl), 0);
  CU_ASSERT_EQUAL(memcmp(d.label + 11 * 4, after, sizeof after), 0);
  /* "Now\n" | "is~" end: the unknown character is 87; what is filled up is not counted. */
  CU_ASSERT(x[13 * 4 + 2] == 87 && d.label[13 * 4 + 2] == 89 && d.label[13 * 4 + 3] == -1);
  CU_ASSERT(d.client[10] == 0 && d.client[11] == 1);
  const int32_t last[4] = {1, 89, -1, -1};
  CU_ASSERT_EQUAL(memcmp(d.label + 14 * 4, last, sizeof last), 0);
  fl_dataset_close(&d);
}

/* the 1, a 2, list 3, is 4, how 5, i 6, unknown 7, begin 8, end 9. */
static void stackoverflow_by_author(void) {
  fl_args args = fl_args_of(&find("tff")->record);
  fl_args_set(&args, "set", 4);
  fl_args_set(&args, "sequence", 6);
  fl_dataset d = load_good("tff", FILES, &args);
  const uint8_t *x = d.x;
  CU_ASSERT(d.tokens == 10 && d.n_train == 3 && d.n_test == 1 && d.n_label == 6);
  const uint8_t how[6] = {8, 5, 7, 6, 7, 2}, sorted[6] = {8, 1, 3, 4, 7, 7};
  const int32_t after_how[6] = {5, 7, 6, 7, 2, 3}, after_sorted[6] = {1, 3, 4, 7, 7, 9};
  CU_ASSERT_EQUAL(memcmp(x, how, sizeof how), 0);
  CU_ASSERT_EQUAL(memcmp(d.label, after_how, sizeof after_how), 0);
  CU_ASSERT_EQUAL(memcmp(x + 6, sorted, sizeof sorted), 0);
  CU_ASSERT_EQUAL(memcmp(d.label + 6, after_sorted, sizeof after_sorted), 0);
  CU_ASSERT(d.client[2] == 1 && d.label[12] == 2 && d.label[13] == 9 && d.label[14] == -1);
  fl_dataset_close(&d);
  fl_args_set(&args, "most", 1);
  fl_args_set(&args, "vocabulary", 2);
  d = load_good("tff", FILES, &args);
  CU_ASSERT(d.n_train == 2 && d.tokens == 6 && ((uint8_t *)d.x)[5] == 2);
  fl_dataset_close(&d);
}

static void pfl_reads_sentences(void) {
  fl_dataset d = load_set("pfl", FILES "/stackoverflow.hdf5", 0);
  const uint8_t x[8] = {7, 1, 2, 3, 7, 4, 8, 0};
  const int32_t label[8] = {1, 2, 3, 8, 4, 8, -1, -1};
  CU_ASSERT(d.tokens == 9 && d.n_train == 4 && d.n_test == 2 && d.n_client == 2 && d.n_label == 4);
  CU_ASSERT_EQUAL(memcmp(d.x, x, sizeof x), 0);
  CU_ASSERT_EQUAL(memcmp(d.label, label, sizeof label), 0);
  CU_ASSERT_EQUAL(((uint8_t *)d.x)[9], 2);
  fl_dataset_close(&d);
}

static void pfl_reads_photos(void) {
  fl_dataset d = load_set("pfl", FILES "/flair.hdf5", 1);
  CU_ASSERT(d.n_target == 17 && d.n_train == 4 && d.n_test == 2 && d.classes == 0 && d.bytes);
  for (int e = 0; e < 6; e++) {
    float ones = 0;
    for (int t = 0; t < 17; t++) ones += d.target[e * 17 + t];
    CU_ASSERT_EQUAL(ones, e % 2 ? 1 : 2);
    CU_ASSERT_EQUAL(d.target[e * 17 + (e % 2 ? 3 : 16)], 1);
  }
  CU_ASSERT(d.target[0] == 1 && d.target[2 * 17 + 1] == 1);
  CU_ASSERT_EQUAL(((uint8_t *)d.x)[2 * 48 + 16 + 5], (16 * 7 + 1) % 256);
  fl_dataset_close(&d);
}

/* A folder with copies of the small files, one of them cut to `size` bytes; size < 0: not there. */
static const char *copies(const char *name, int64_t size) {
  const char *folder = fl_test_folder();
  static const char *const names[] = {"fed_emnist_train.h5", "fed_emnist_test.h5"};
  for (int i = 0; i < FL_COUNT(names); i++) {
    unsigned char *data = NULL;
    int64_t n = 0;
    char path[512];
    bool chosen = strcmp(names[i], name) == 0;
    snprintf(path, sizeof path, FILES "/%s", names[i]);
    CU_ASSERT_EQUAL_FATAL(fl_read_all(path, &data, &n), FEDLANE_OK);
    if (!chosen || size >= 0) write_file(folder, names[i], data, (size_t)(chosen ? size : n));
    free(data);
  }
  return folder;
}

static void refuses_damage(void) {
  refuse("tff", copies("fed_emnist_test.h5", -1), NULL, FEDLANE_IO, "fed_emnist_test.h5",
         "cannot be read");
  for (int64_t size = 0; size < 3900; size += 300)
    refuse("tff", copies("fed_emnist_train.h5", size), NULL, FEDLANE_DATA, "fed_emnist_train.h5",
           "");
  refuse("pfl", FILES "/flair.hdf5", NULL, FEDLANE_DATA, "flair.hdf5", "metadata/vocabulary_size");
  fl_args args = fl_args_of(&find("pfl")->record);
  fl_args_set(&args, "set", 1);
  refuse("pfl", FILES "/stackoverflow.hdf5", &args, FEDLANE_DATA, "stackoverflow.hdf5", "images");
  fl_args images = fl_args_of(&find("tff")->record);
  fl_args_set(&images, "most", 3);
  refuse("tff", FILES, &images, FEDLANE_USAGE, "data.most is", "text");
  fl_h5 *file = NULL;
  int32_t value[2];
  CU_ASSERT_EQUAL_FATAL(fl_h5_open(FILES "/stackoverflow.hdf5", &file), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_h5_ints(file, "metadata/vocabulary_size", 1, value), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_h5_ints(file, "metadata/vocabulary_size", 2, value), FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "holds 1 values where 2 are expected"));
  fl_h5_close(&file);
  const char *folder = fl_test_folder();
  fl_args words = fl_args_of(&find("tff")->record);
  fl_args_set(&words, "set", 4);
  write_file(folder, "stackoverflow.word_count", "a 3\n\0b 2\n", 9);
  refuse("tff", folder, &words, FEDLANE_DATA, "stackoverflow.word_count", "zero byte");
}

static const fl_test tests[] = {
    {"tff: emnist by writer", emnist_by_writer},
    {"tff: cifar100 becomes planes", cifar100_as_planes},
    {"tff: shakespeare by role", shakespeare_by_role},
    {"tff: stackoverflow by author", stackoverflow_by_author},
    {"pfl: stackoverflow", pfl_reads_sentences},
    {"pfl: flair", pfl_reads_photos},
    {"refuses missing, cut and other files", refuses_damage},
};

FL_SUITE_MAIN("hdf5", tests)
