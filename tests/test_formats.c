/* Data formats: good files are read whole, bad ones are refused with file and numbers. */
#include <math.h>
#include <stdio.h>
#include <unistd.h>
#include <zlib.h>

#include "args.h"
#include "dataset.h"
#include "files.h"
#include "safetensors.h"
#include "suite.h"

static const fl_format *find(const char *name) {
  const fl_record *record = fl_catalogue_find(&fl_formats, name);
  CU_ASSERT_PTR_NOT_NULL_FATAL(record);
  return (const fl_format *)record;
}

static fl_dataset load_good(const char *name, const char *path, const fl_args *args) {
  const fl_format *format = find(name);
  fl_args plain = fl_args_of(&format->record);
  fl_dataset d;
  fl_status status = format->load(path, args ? args->at : plain.at, 1, &d);
  if (status != FEDLANE_OK) printf("\n    %s: %s\n", path, fedlane_error());
  CU_ASSERT_EQUAL_FATAL(status, FEDLANE_OK);
  return d;
}

/* Loading fails with `status`, and the sentence has both words. */
static void refuse(const char *name, const char *path, const fl_args *args, fl_status status,
                   const char *word, const char *other) {
  const fl_format *format = find(name);
  fl_args plain = fl_args_of(&format->record);
  fl_dataset d;
  fl_status got = format->load(path, args ? args->at : plain.at, 1, &d);
  bool good = got == status && strstr(fedlane_error(), word) && strstr(fedlane_error(), other);
  if (!good) printf("\n    expected '%s', '%s', got %d: %s\n", word, other, got, fedlane_error());
  CU_ASSERT(good);
  if (got == FEDLANE_OK) fl_dataset_close(&d);
}

/* Bytes to a file, packed when its name ends in .gz. */
static void write_file(const char *folder, const char *name, const void *bytes, size_t n) {
  char *path = fl_path_join(folder, name);
  size_t length = strlen(name);
  if (length > 3 && strcmp(name + length - 3, ".gz") == 0) {
    gzFile file = gzopen(path, "wb");
    CU_ASSERT_EQUAL(gzwrite(file, bytes, (unsigned)n), (int)n);
    gzclose(file);
  } else {
    FILE *file = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(fwrite(bytes, 1, n, file), n);
    fclose(file);
  }
  free(path);
}

static void remove_file(const char *folder, const char *name) {
  char *path = fl_path_join(folder, name);
  CU_ASSERT_EQUAL(unlink(path), 0);
  free(path);
}

static const char *const idx_name[4] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                        "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

/* Three training and two test images of 2 x 2 pixels. */
static const unsigned char idx_bytes[4][28] = {
    {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255},
    {0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 4},
    {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 21, 22, 23, 24, 25, 26, 27, 28},
    {0, 0, 8, 1, 0, 0, 0, 2, 1, 3}};
static const size_t idx_size[4] = {28, 11, 24, 10};

static const char *idx_folder(const char *suffix) {
  const char *folder = fl_test_folder();
  for (int i = 0; i < 4; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s%s", idx_name[i], suffix);
    write_file(folder, name, idx_bytes[i], idx_size[i]);
  }
  return folder;
}

static void idx_reads(void) {
  const char *const suffix[2] = {"", ".gz"};
  for (int i = 0; i < 2; i++) {
    fl_dataset d = load_good("idx", idx_folder(suffix[i]), NULL);
    const int32_t labels[5] = {2, 0, 4, 1, 3};
    CU_ASSERT(d.image.channels == 1 && d.image.height == 2 && d.image.width == 2);
    CU_ASSERT_EQUAL(d.n_train, 3);
    CU_ASSERT_EQUAL(d.n_test, 2);
    CU_ASSERT_EQUAL(d.classes, 5);
    CU_ASSERT(d.bytes && d.n_target == 0 && !d.target && !d.client && d.n_client == 0);
    CU_ASSERT_EQUAL(memcmp(d.x, idx_bytes[0] + 16, 12), 0);
    CU_ASSERT_EQUAL(memcmp((uint8_t *)d.x + 12, idx_bytes[2] + 16, 8), 0);
    CU_ASSERT_EQUAL(memcmp(d.label, labels, sizeof labels), 0);
    fl_dataset_close(&d);
  }
}

/* Other names, a fixed number of classes, and images of three dimensions in 16-bit integers. */
static void idx_takes_parameters(void) {
  const char *folder = idx_folder("");
  const unsigned char wide[] = {0, 0, 0x0b, 4, 0,    0,    0, 3, 0, 0, 0, 2, 0, 0, 0, 1,
                                0, 0, 0,    1, 0xff, 0xfe, 0, 5, 1, 0, 0, 0, 0, 7, 0, 8};
  const unsigned char test[] = {0, 0, 0x0b, 4, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1};
  const unsigned char none[] = {0, 0, 8, 1, 0, 0, 0, 0};
  const float expected[6] = {-2, 5, 256, 0, 7, 8};
  write_file(folder, "wide", wide, sizeof wide);
  write_file(folder, "test", test, sizeof test);
  write_file(folder, "none", none, sizeof none);
  fl_args args = fl_args_of(&find("idx")->record);
  fl_args_text(&args, "train_images", "wide");
  fl_args_text(&args, "test_images", "test");
  fl_args_text(&args, "test_labels", "none");
  fl_args_set(&args, "classes", 10);
  fl_dataset d = load_good("idx", folder, &args);
  CU_ASSERT(d.image.channels == 2 && d.image.height == 1 && d.image.width == 1);
  CU_ASSERT(!d.bytes && d.n_train == 3 && d.n_test == 0 && d.classes == 10);
  CU_ASSERT_EQUAL(memcmp(d.x, expected, sizeof expected), 0);
  fl_dataset_close(&d);
  fl_args_set(&args, "classes", 4);
  refuse("idx", folder, &args, FEDLANE_DATA, "train-labels-idx1-ubyte",
         "row 2 is 4; it must lie in 0 .. 3");
}

/* The same four numbers in every element type. */
static void idx_reads_every_type(void) {
  static const struct {
    unsigned char type;
    int size;
    unsigned char value[4][8];
  } types[] = {
      {0x08, 1, {{0}, {1}, {2}, {100}}},
      {0x09, 1, {{0}, {1}, {2}, {100}}},
      {0x0b, 2, {{0, 0}, {0, 1}, {0, 2}, {0, 100}}},
      {0x0c, 4, {{0}, {0, 0, 0, 1}, {0, 0, 0, 2}, {0, 0, 0, 100}}},
      {0x0d, 4, {{0}, {0x3f, 0x80}, {0x40}, {0x42, 0xc8}}},
      {0x0e, 8, {{0}, {0x3f, 0xf0}, {0x40}, {0x40, 0x59}}},
  };
  const float expected[4] = {0, 1, 2, 100};
  for (int t = 0; t < 6; t++) {
    const char *folder = idx_folder("");
    unsigned char bytes[12 + 32] = {0, 0, types[t].type, 2, 0, 0, 0, 2, 0, 0, 0, 2};
    for (int i = 0; i < 4; i++)
      memcpy(bytes + 12 + i * types[t].size, types[t].value[i], (size_t)types[t].size);
    size_t size = 12 + 4 * (size_t)types[t].size;
    write_file(folder, idx_name[0], bytes, size);
    write_file(folder, idx_name[2], bytes, size);
    write_file(folder, idx_name[1], idx_bytes[3], idx_size[3]);
    fl_dataset d = load_good("idx", folder, NULL);
    CU_ASSERT(d.image.channels == 2 && d.image.height == 1);
    for (int i = 0; i < 8; i++) {
      float value = d.bytes ? ((uint8_t *)d.x)[i] : ((float *)d.x)[i];
      CU_ASSERT_EQUAL(value, expected[i % 4]);
    }
    fl_dataset_close(&d);
  }
}

static void idx_refuses_missing_files(void) {
  for (int i = 0; i < 4; i++) {
    const char *folder = idx_folder("");
    remove_file(folder, idx_name[i]);
    refuse("idx", folder, NULL, FEDLANE_DATA, idx_name[i], folder);
  }
  refuse("idx", "/nowhere", NULL, FEDLANE_DATA, idx_name[0], "/nowhere");
}

/* Every prefix of every file is refused, and so is one byte more. */
static void idx_refuses_wrong_lengths(void) {
  const char *folder = idx_folder("");
  for (int i = 0; i < 4; i++) {
    unsigned char bytes[29] = {0};
    memcpy(bytes, idx_bytes[i], idx_size[i]);
    for (size_t n = 0; n <= idx_size[i] + 1; n++) {
      if (n == idx_size[i]) continue;
      write_file(folder, idx_name[i], bytes, n);
      refuse("idx", folder, NULL, FEDLANE_DATA, idx_name[i], "bytes");
    }
    write_file(folder, idx_name[i], bytes, idx_size[i]);
  }
  fl_dataset d = load_good("idx", folder, NULL);
  fl_dataset_close(&d);
}

static void idx_refuses_damage(void) {
  static const struct {
    int file, at;
    unsigned char value;
    const char *name, *word;
  } cases[] = {
      {0, 0, 0x1f, "train-images", "begins with 1f 00 08 03"},
      {0, 2, 0x07, "train-images", "begins with 00 00 07 03"},
      {0, 3, 0, "train-images", "begins with"},
      {0, 3, 5, "train-images", "begins with"},
      {0, 4, 0xff, "train-images", "has 28 bytes"},
      {0, 7, 4, "train-images", "has 28 bytes, but its header describes 32"},
      {2, 15, 1, "t10k-images", "has 24 bytes, but its header describes 20"},
      {1, 2, 0x0d, "train-labels", "has 11 bytes"},
  };
  for (int i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++) {
    const char *folder = idx_folder("");
    unsigned char bytes[28];
    memcpy(bytes, idx_bytes[cases[i].file], 28);
    bytes[cases[i].at] = cases[i].value;
    write_file(folder, idx_name[cases[i].file], bytes, idx_size[cases[i].file]);
    refuse("idx", folder, NULL, FEDLANE_DATA, cases[i].name, cases[i].word);
  }
}

static void idx_refuses_files_that_do_not_fit(void) {
  const char *folder = idx_folder("");
  const unsigned char four[] = {0, 0, 8, 1, 0, 0, 0, 4, 0, 0, 0, 0};
  const unsigned char real[] = {0, 0, 0x0d, 1, 0, 0, 0, 1, 0, 0, 0, 0};
  const unsigned char below[] = {0, 0, 9, 1, 0, 0, 0, 3, 0, 0xfd, 0};
  const unsigned char flat[] = {0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 4, 1, 2, 3, 4, 5, 6, 7, 8};
  write_file(folder, idx_name[1], four, sizeof four);
  refuse("idx", folder, NULL, FEDLANE_DATA, "has 3 images", "has 4 labels");
  write_file(folder, idx_name[1], real, sizeof real);
  refuse("idx", folder, NULL, FEDLANE_DATA, idx_name[1], "type 0d");
  write_file(folder, idx_name[1], below, sizeof below);
  refuse("idx", folder, NULL, FEDLANE_DATA, idx_name[1], "row 1 is -3");
  write_file(folder, idx_name[1], idx_bytes[1], idx_size[1]);
  write_file(folder, idx_name[2], flat, sizeof flat);
  refuse("idx", folder, NULL, FEDLANE_DATA, idx_name[2], "differ");
  write_file(folder, idx_name[0], idx_bytes[1], idx_size[1]);
  refuse("idx", folder, NULL, FEDLANE_DATA, idx_name[0], "1 dimension");
}

/* The published facts: 6,000 and 1,000 of each class; mean 0.2860 and deviation 0.3530 of 255. */
static void idx_reads_fashion_mnist(void) {
  const char *folder = "/usr/share/datasets/fashion-mnist";
  if (!fl_file_exists(folder)) {
    printf("skipped: Debian's package dataset-fashion-mnist is not installed\n");
    return;
  }
  fl_dataset d = load_good("idx", folder, NULL);
  int train[10] = {0}, test[10] = {0};
  CU_ASSERT(d.n_train == 60000 && d.n_test == 10000 && d.classes == 10 && d.image.height == 28);
  for (int64_t e = 0; e < 70000; e++) (e < 60000 ? train : test)[d.label[e]]++;
  for (int k = 0; k < 10; k++) CU_ASSERT(train[k] == 6000 && test[k] == 1000);
  CU_ASSERT_EQUAL(fl_dataset_normalise(&d, FL_NORMALISE_AUTO), FEDLANE_OK);
  CU_ASSERT_DOUBLE_EQUAL(d.shift[0] / 255, 0.2860, 5e-5);
  CU_ASSERT_DOUBLE_EQUAL(1 / d.scale[0] / 255, 0.3530, 5e-5);
  fl_dataset_close(&d);
}

enum { PIXELS = 3072 };

/* n rows; row k has label k % 10, or k % 20 and k % 100, and pixels k, k+1, ... */
static void write_cifar(const char *folder, const char *name, int n, int label_bytes) {
  size_t row = (size_t)label_bytes + PIXELS;
  unsigned char *bytes = malloc((size_t)n * row), *at = bytes;
  for (int k = 0; k < n; k++, at += row) {
    at[0] = (unsigned char)(k % 20);
    at[label_bytes - 1] = (unsigned char)(k % (label_bytes == 1 ? 10 : 100));
    for (int p = 0; p < PIXELS; p++) at[label_bytes + p] = (unsigned char)(k + p);
  }
  write_file(folder, name, bytes, (size_t)n * row);
  free(bytes);
}

static const char *cifar10_folder(void) {
  const char *folder = fl_test_folder();
  for (int i = 1; i <= 5; i++) {
    char name[32];
    snprintf(name, sizeof name, "data_batch_%d.bin", i);
    write_cifar(folder, name, i, 1);
  }
  write_cifar(folder, "test_batch.bin", 12, 1);
  return folder;
}

static void cifar_reads_10(void) {
  fl_dataset d = load_good("cifar", cifar10_folder(), NULL);
  CU_ASSERT(d.n_train == 15 && d.n_test == 12 && d.classes == 10 && d.bytes);
  CU_ASSERT(d.image.channels == 3 && d.image.height == 32 && d.image.width == 32);
  const int32_t labels[15] = {0, 0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4};
  CU_ASSERT_EQUAL(memcmp(d.label, labels, sizeof labels), 0);
  CU_ASSERT_EQUAL(d.label[26], 1);
  CU_ASSERT_EQUAL(((uint8_t *)d.x)[14 * PIXELS], 4);
  CU_ASSERT_EQUAL(((uint8_t *)d.x)[26 * PIXELS + 100], 111);
  fl_dataset_close(&d);
}

static void cifar_reads_100(void) {
  const char *folder = fl_test_folder();
  write_cifar(folder, "train.bin", 120, 2);
  write_cifar(folder, "test.bin", 30, 2);
  fl_args args = fl_args_of(&find("cifar")->record);
  for (int coarse = 0; coarse < 2; coarse++) {
    fl_args_set(&args, "labels", 1 + coarse);
    fl_dataset d = load_good("cifar", folder, &args);
    CU_ASSERT(d.n_train == 120 && d.n_test == 30 && d.classes == (coarse ? 20 : 100));
    CU_ASSERT_EQUAL(d.label[119], 19);
    CU_ASSERT_EQUAL(d.label[99], coarse ? 19 : 99);
    CU_ASSERT_EQUAL(((uint8_t *)d.x)[119 * PIXELS + 1], 120);
    fl_dataset_close(&d);
  }
}

static void cifar_refuses(void) {
  const char *folder = cifar10_folder();
  static unsigned char bytes[2 * (PIXELS + 1)];
  bytes[PIXELS + 1] = 10;
  write_file(folder, "data_batch_3.bin", bytes, sizeof bytes);
  refuse("cifar", folder, NULL, FEDLANE_DATA, "data_batch_3.bin",
         "row 1 is 10; it must lie in 0 .. 9");
  write_file(folder, "data_batch_3.bin", bytes, sizeof bytes - 1);
  refuse("cifar", folder, NULL, FEDLANE_DATA, "data_batch_3.bin", "6145 bytes");
  write_file(folder, "data_batch_3.bin", bytes, 0);
  refuse("cifar", folder, NULL, FEDLANE_DATA, "data_batch_3.bin", "0 bytes");
  remove_file(folder, "data_batch_3.bin");
  refuse("cifar", folder, NULL, FEDLANE_DATA, "data_batch_3.bin", folder);
}

/* A file of tensors; its path is valid until the next call. */
static const char *write_tensors(int n, const fl_st_tensor *t) {
  static char path[512];
  snprintf(path, sizeof path, "%s/set.safetensors", fl_test_folder());
  CU_ASSERT_EQUAL_FATAL(fl_st_write(path, n, t, 0, NULL), FEDLANE_OK);
  return path;
}

static const float reals[24] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const uint8_t bytes24[24] = {9, 8, 7, 6, 5, 4, 3, 2, 1};
static const int64_t labels64[4] = {3, 0, 1, 5};
static const int32_t labels32[2] = {6, 2};

static void safetensors_reads_classes(void) {
  const int64_t client[4] = {70000000000, -5, 70000000000, 12};
  const fl_st_tensor t[] = {{"x", FL_U8, 4, {4, 1, 2, 3}, 24, bytes24},
                            {"y", FL_I64, 1, {4}, 4, labels64},
                            {"client", FL_I64, 1, {4}, 4, client},
                            {"x_test", FL_U8, 4, {2, 1, 2, 3}, 12, bytes24 + 3},
                            {"y_test", FL_I32, 1, {2}, 2, labels32}};
  fl_dataset d = load_good("safetensors", write_tensors(5, t), NULL);
  const int32_t labels[6] = {3, 0, 1, 5, 6, 2}, clients[4] = {2, 0, 2, 1};
  CU_ASSERT(d.n_train == 4 && d.n_test == 2 && d.classes == 7 && d.bytes && d.n_target == 0);
  CU_ASSERT(d.image.channels == 1 && d.image.height == 2 && d.image.width == 3);
  CU_ASSERT_EQUAL(memcmp(d.x, bytes24, 24), 0);
  CU_ASSERT_EQUAL(memcmp((uint8_t *)d.x + 24, bytes24 + 3, 12), 0);
  CU_ASSERT_EQUAL(memcmp(d.label, labels, sizeof labels), 0);
  CU_ASSERT_EQUAL(d.n_client, 3);
  CU_ASSERT_EQUAL(memcmp(d.client, clients, sizeof clients), 0);
  fl_dataset_close(&d);
}

static void safetensors_reads_targets(void) {
  const double wide[4] = {0.5, -1, 2, 1e-3};
  const fl_st_tensor one[] = {{"x", FL_F32, 2, {4, 3}, 12, reals}, {"y", FL_F64, 1, {4}, 4, wide}};
  fl_dataset d = load_good("safetensors", write_tensors(2, one), NULL);
  CU_ASSERT(d.n_train == 4 && d.n_test == 0 && d.classes == 0 && !d.bytes && d.n_target == 1);
  CU_ASSERT(d.image.channels == 3 && d.image.height == 1 && d.image.width == 1 && !d.label);
  CU_ASSERT_EQUAL(memcmp(d.x, reals, 48), 0);
  CU_ASSERT_EQUAL(d.target[1], -1);
  CU_ASSERT_EQUAL(d.target[3], 1e-3f);
  fl_dataset_close(&d);
  const fl_st_tensor two[] = {{"x", FL_F32, 3, {2, 2, 3}, 12, reals},
                              {"y", FL_F32, 2, {2, 5}, 10, reals + 1}};
  d = load_good("safetensors", write_tensors(2, two), NULL);
  CU_ASSERT(d.image.channels == 1 && d.image.height == 2 && d.image.width == 3 && d.n_target == 5);
  CU_ASSERT_EQUAL(memcmp(d.target, reals + 1, 40), 0);
  fl_dataset_close(&d);
}

static void safetensors_refuses(void) {
  static const float nan_at_4[6] = {0, 0, 0, 0, NAN, 0};
  static const int64_t below[4] = {0, 0, -7, 0};
  const fl_st_tensor x = {"x", FL_F32, 2, {4, 3}, 12, reals},
                     y = {"y", FL_I64, 1, {4}, 4, labels64};
  const struct {
    int n;
    fl_st_tensor t[4];
    const char *word, *other;
  } cases[] = {
      {1, {x}, "'y'", "missing"},
      {1, {y}, "'x'", "missing"},
      {3, {x, y, {"x_tset", FL_F32, 0, {0}, 1, reals}}, "x_tset", "x_test"},
      {3, {x, y, {"x_test", FL_F32, 2, {1, 3}, 3, reals}}, "'y_test'", "missing"},
      {2, {{"x", FL_F64, 2, {4, 1}, 4, reals}, y}, "'x'", "F64"},
      {2, {{"x", FL_F32, 1, {4}, 4, reals}, y}, "'x'", "1 dimensions"},
      {2, {{"x", FL_F32, 5, {4, 1, 1, 1, 1}, 4, reals}, y}, "'x'", "5 dimensions"},
      {2, {{"x", FL_F32, 2, {3, 4}, 12, reals}, y}, "'x' has 3 rows", "'y' has 4"},
      {2, {{"x", FL_F32, 2, {4, 0}, 0, reals}, y}, "size 0", "sizes start at 1"},
      {2, {x, {"y", FL_I64, 2, {4, 1}, 4, labels64}}, "'y'", "2 dimensions"},
      {2, {x, {"y", FL_F16, 1, {4}, 4, labels64}}, "'y'", "F16"},
      {2, {x, {"y", FL_F32, 2, {4, 0}, 0, reals}}, "'y'", "0 targets"},
      {2, {x, {"y", FL_I64, 1, {4}, 4, below}}, "row 2 is -7", "0 .. 1048575"},
      {2,
       {{"x", FL_F32, 2, {2, 3}, 6, nan_at_4}, {"y", FL_I32, 1, {2}, 2, labels32}},
       "row 1 of 'x'",
       "not finite"},
      {2,
       {{"x", FL_F32, 2, {0, 3}, 0, reals}, {"y", FL_I64, 1, {0}, 0, labels64}},
       "no training",
       ""},
      {3, {x, y, {"client", FL_F32, 1, {4}, 4, reals}}, "'client'", "whole numbers"},
      {3, {x, y, {"client", FL_I64, 1, {3}, 3, labels64}}, "'client'", "4 rows"},
      {4,
       {x, y, {"x_test", FL_F32, 2, {2, 4}, 8, reals}, {"y_test", FL_I32, 1, {2}, 2, labels32}},
       "'x_test'",
       "differ"},
      {4,
       {x, y, {"x_test", FL_F32, 2, {2, 3}, 6, reals}, {"y_test", FL_F32, 1, {2}, 2, reals}},
       "'y_test'",
       "differ"},
      {4,
       {x, y, {"x_test", FL_F32, 2, {3, 3}, 9, reals}, {"y_test", FL_I32, 1, {2}, 2, labels32}},
       "'x_test' has 3 rows",
       "has 2"},
  };
  for (int i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++)
    refuse("safetensors", write_tensors(cases[i].n, cases[i].t), NULL, FEDLANE_DATA, cases[i].word,
           cases[i].other);
  refuse("safetensors", "/nowhere.safetensors", NULL, FEDLANE_IO, "/nowhere.safetensors",
         "No such");
}

static void safetensors_fixes_classes(void) {
  const fl_st_tensor t[] = {{"x", FL_F32, 2, {4, 3}, 12, reals},
                            {"y", FL_I64, 1, {4}, 4, labels64}};
  const char *path = write_tensors(2, t);
  fl_args args = fl_args_of(&find("safetensors")->record);
  fl_args_set(&args, "classes", 9);
  fl_dataset d = load_good("safetensors", path, &args);
  CU_ASSERT_EQUAL(d.classes, 9);
  fl_dataset_close(&d);
  fl_args_set(&args, "classes", 5);
  refuse("safetensors", path, &args, FEDLANE_DATA, path, "row 3 is 5; it must lie in 0 .. 4");
}

static fl_dataset synthesise(const fl_args *args, uint32_t seed) {
  fl_dataset d;
  CU_ASSERT_EQUAL_FATAL(find("synthetic")->load("", args->at, seed, &d), FEDLANE_OK);
  return d;
}

static fl_args synthetic_args(double examples, double test) {
  fl_args args = fl_args_of(&find("synthetic")->record);
  fl_args_set(&args, "examples", examples);
  fl_args_set(&args, "test", test);
  fl_args_set(&args, "channels", 3);
  fl_args_set(&args, "height", 9);
  fl_args_set(&args, "width", 7);
  return args;
}

/* The same seed gives the same bits, and an example does not depend on how many there are. */
static void synthetic_follows_the_seed(void) {
  for (int kind = 0; kind < 2; kind++) {
    fl_args args = synthetic_args(50, 20), more = synthetic_args(90, 0);
    fl_args_set(&args, "kind", kind);
    fl_args_set(&more, "kind", kind);
    fl_dataset a = synthesise(&args, 1), b = synthesise(&more, 1), c = synthesise(&args, 2);
    size_t size = 70 * 189 * (kind ? sizeof(float) : 1);
    CU_ASSERT_EQUAL(a.bytes, kind == 0);
    CU_ASSERT_EQUAL(memcmp(a.x, b.x, size), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(a.x, c.x, size), 0);
    const void *ya = kind ? (void *)a.target : a.label, *yb = kind ? (void *)b.target : b.label;
    CU_ASSERT_EQUAL(memcmp(ya, yb, 280), 0);
    fl_dataset_close(&a);
    fl_dataset_close(&b);
    fl_dataset_close(&c);
  }
}

/* Class means of the training examples classify the test examples; labels are balanced by chance
 * (within 5 deviations of a binomial). */
static void synthetic_images_can_be_learnt(void) {
  enum { F = 189, K = 10, N = 2000, T = 500 };
  fl_args args = synthetic_args(N, T);
  fl_dataset d = synthesise(&args, 3);
  static double mean[K][F];
  int count[K] = {0}, hits = 0;
  const uint8_t *x = d.x;
  memset(mean, 0, sizeof mean);
  CU_ASSERT_EQUAL(d.classes, K);
  for (int e = 0; e < N; e++) count[d.label[e]]++;
  for (int k = 0; k < K; k++) CU_ASSERT_DOUBLE_EQUAL(count[k], N / K, 5 * sqrt(N * 0.09));
  for (int e = 0; e < N; e++)
    for (int i = 0; i < F; i++) mean[d.label[e]][i] += (double)x[e * F + i] / count[d.label[e]];
  for (int e = N; e < N + T; e++) {
    int best = 0;
    double least = INFINITY;
    for (int k = 0; k < K; k++) {
      double distance = 0;
      for (int i = 0; i < F; i++) distance += pow(x[e * F + i] - mean[k][i], 2);
      if (distance < least) least = distance, best = k;
    }
    hits += best == d.label[e];
  }
  CU_ASSERT(hits > T * 0.98);
  fl_dataset_close(&d);
}

/* Without noise all examples of a class are alike; with nothing but noise none are. */
static void synthetic_noise(void) {
  for (int noise = 0; noise < 2; noise++) {
    fl_args args = synthetic_args(100, 0);
    fl_args_set(&args, "classes", 1);
    fl_args_set(&args, "noise", noise);
    fl_dataset d = synthesise(&args, 3);
    const uint8_t *x = d.x;
    CU_ASSERT_EQUAL(d.classes, 1);
    for (int e = 1; e < 100; e++) CU_ASSERT_EQUAL(memcmp(x, x + e * 189, 189) != 0, noise);
    fl_dataset_close(&d);
  }
}

/* One feature: without noise the target is a fixed multiple of it. Features and targets have mean
 * 0, features deviation 1. */
static void synthetic_regression(void) {
  fl_args args = fl_args_of(&find("synthetic")->record);
  fl_args_set(&args, "kind", 1);
  fl_args_set(&args, "height", 1);
  fl_args_set(&args, "width", 1);
  fl_args_set(&args, "targets", 2);
  fl_args_set(&args, "noise", 0);
  fl_dataset d = synthesise(&args, 1);
  const float *x = d.x;
  double sum = 0, sum2 = 0;
  CU_ASSERT(d.n_target == 2 && d.classes == 0 && !d.label && !d.bytes);
  for (int e = 0; e < 10000; e++) {
    sum += x[e];
    sum2 += x[e] * x[e];
    for (int t = 0; t < 2; t++)
      CU_ASSERT_DOUBLE_EQUAL(d.target[2 * e + t] * x[0], d.target[t] * x[e], 1e-4);
  }
  CU_ASSERT_DOUBLE_EQUAL(sum / 10000, 0, 0.05);
  CU_ASSERT_DOUBLE_EQUAL(sum2 / 10000, 1, 0.05);
  fl_dataset_close(&d);
}

static void synthetic_clients(void) {
  fl_args args = synthetic_args(101, 5);
  fl_args_set(&args, "clients", 10);
  fl_dataset d = synthesise(&args, 1);
  int count[10] = {0};
  CU_ASSERT_EQUAL(d.n_client, 10);
  for (int e = 0; e < 101; e++) {
    CU_ASSERT(e == 0 || d.client[e] >= d.client[e - 1]);
    count[d.client[e]]++;
  }
  for (int i = 0; i < 10; i++) CU_ASSERT(count[i] == 10 || count[i] == 11);
  fl_dataset_close(&d);
  fl_args_set(&args, "clients", 102);
  refuse("synthetic", "", &args, FEDLANE_USAGE, "102", "101");
}

static const fl_test tests[] = {
    {"idx reads", idx_reads},
    {"idx takes parameters", idx_takes_parameters},
    {"idx reads every type", idx_reads_every_type},
    {"idx refuses missing files", idx_refuses_missing_files},
    {"idx refuses wrong lengths", idx_refuses_wrong_lengths},
    {"idx refuses damage", idx_refuses_damage},
    {"idx refuses files that do not fit", idx_refuses_files_that_do_not_fit},
    {"idx reads Fashion-MNIST", idx_reads_fashion_mnist},
    {"cifar reads CIFAR-10", cifar_reads_10},
    {"cifar reads CIFAR-100", cifar_reads_100},
    {"cifar refuses", cifar_refuses},
    {"safetensors reads classes", safetensors_reads_classes},
    {"safetensors reads targets", safetensors_reads_targets},
    {"safetensors refuses", safetensors_refuses},
    {"safetensors fixes classes", safetensors_fixes_classes},
    {"synthetic follows the seed", synthetic_follows_the_seed},
    {"synthetic images can be learnt", synthetic_images_can_be_learnt},
    {"synthetic noise", synthetic_noise},
    {"synthetic regression", synthetic_regression},
    {"synthetic clients", synthetic_clients},
};

FL_SUITE_MAIN("formats", tests)
