/* IDX files: read whole in every element type, refused when anything is off. */
#include <string.h>

#include "format_files.h"

static const char *const file_name[4] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                         "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

/* Three training and two test images of 2 x 2 pixels. */
static const unsigned char good[4][28] = {
    {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255},
    {0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 4},
    {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 21, 22, 23, 24, 25, 26, 27, 28},
    {0, 0, 8, 1, 0, 0, 0, 2, 1, 3}};
static const size_t good_size[4] = {28, 11, 24, 10};

static const char *good_folder(const char *suffix) {
  const char *folder = fl_test_folder();
  for (int i = 0; i < 4; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s%s", file_name[i], suffix);
    write_file(folder, name, good[i], good_size[i]);
  }
  return folder;
}

static void reads(void) {
  const char *const suffix[2] = {"", ".gz"};
  for (int i = 0; i < 2; i++) {
    fl_dataset d = load_good("idx", good_folder(suffix[i]), NULL);
    const int32_t labels[5] = {2, 0, 4, 1, 3};
    CU_ASSERT(d.image.channels == 1 && d.image.height == 2 && d.image.width == 2);
    CU_ASSERT_EQUAL(d.n_train, 3);
    CU_ASSERT_EQUAL(d.n_test, 2);
    CU_ASSERT_EQUAL(d.classes, 5);
    CU_ASSERT(d.bytes && d.n_target == 0 && !d.target && !d.client && d.n_client == 0);
    CU_ASSERT_EQUAL(memcmp(d.x, good[0] + 16, 12), 0);
    CU_ASSERT_EQUAL(memcmp((uint8_t *)d.x + 12, good[2] + 16, 8), 0);
    CU_ASSERT_EQUAL(memcmp(d.label, labels, sizeof labels), 0);
    fl_dataset_close(&d);
  }
}

/* Other names, a fixed number of classes, and images of three dimensions in 16-bit integers. */
static void takes_parameters(void) {
  const char *folder = good_folder("");
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
static void reads_every_type(void) {
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
    const char *folder = good_folder("");
    unsigned char bytes[12 + 32] = {0, 0, types[t].type, 2, 0, 0, 0, 2, 0, 0, 0, 2};
    for (int i = 0; i < 4; i++)
      memcpy(bytes + 12 + i * types[t].size, types[t].value[i], (size_t)types[t].size);
    size_t size = 12 + 4 * (size_t)types[t].size;
    write_file(folder, file_name[0], bytes, size);
    write_file(folder, file_name[2], bytes, size);
    write_file(folder, file_name[1], good[3], good_size[3]);
    fl_dataset d = load_good("idx", folder, NULL);
    CU_ASSERT(d.image.channels == 2 && d.image.height == 1);
    for (int i = 0; i < 8; i++) {
      float value = d.bytes ? ((uint8_t *)d.x)[i] : ((float *)d.x)[i];
      CU_ASSERT_EQUAL(value, expected[i % 4]);
    }
    fl_dataset_close(&d);
  }
}

static void refuses_what_is_not_finite(void) {
  const char *folder = good_folder("");
  unsigned char bytes[12 + 16] = {0, 0, 0x0d, 2, 0, 0, 0, 2, 0, 0, 0, 2, [24] = 0x7f, [25] = 0xc0};
  write_file(folder, file_name[0], bytes, sizeof bytes);
  write_file(folder, file_name[2], bytes, sizeof bytes);
  write_file(folder, file_name[1], good[3], good_size[3]);
  refuse("idx", folder, NULL, FEDLANE_DATA, "train-images", "image 1 holds a value that is not");
}

static void refuses_missing_files(void) {
  for (int i = 0; i < 4; i++) {
    const char *folder = good_folder("");
    remove_file(folder, file_name[i]);
    refuse("idx", folder, NULL, FEDLANE_DATA, file_name[i], folder);
  }
  refuse("idx", "/nowhere", NULL, FEDLANE_DATA, file_name[0], "/nowhere");
}

/* Every prefix of every file is refused, and so is one byte more. */
static void refuses_wrong_lengths(void) {
  const char *folder = good_folder("");
  for (int i = 0; i < 4; i++) {
    unsigned char bytes[29] = {0};
    memcpy(bytes, good[i], good_size[i]);
    for (size_t n = 0; n <= good_size[i] + 1; n++) {
      if (n == good_size[i]) continue;
      write_file(folder, file_name[i], bytes, n);
      refuse("idx", folder, NULL, FEDLANE_DATA, file_name[i], "bytes");
    }
    write_file(folder, file_name[i], bytes, good_size[i]);
  }
  fl_dataset d = load_good("idx", folder, NULL);
  fl_dataset_close(&d);
}

static void refuses_damage(void) {
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
    const char *folder = good_folder("");
    unsigned char bytes[28];
    memcpy(bytes, good[cases[i].file], 28);
    bytes[cases[i].at] = cases[i].value;
    write_file(folder, file_name[cases[i].file], bytes, good_size[cases[i].file]);
    refuse("idx", folder, NULL, FEDLANE_DATA, cases[i].name, cases[i].word);
  }
}

static void refuses_files_that_do_not_fit(void) {
  const char *folder = good_folder("");
  const unsigned char four[] = {0, 0, 8, 1, 0, 0, 0, 4, 0, 0, 0, 0};
  const unsigned char real[] = {0, 0, 0x0d, 1, 0, 0, 0, 1, 0, 0, 0, 0};
  const unsigned char below[] = {0, 0, 9, 1, 0, 0, 0, 3, 0, 0xfd, 0};
  const unsigned char flat[] = {0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 4, 1, 2, 3, 4, 5, 6, 7, 8};
  write_file(folder, file_name[1], four, sizeof four);
  refuse("idx", folder, NULL, FEDLANE_DATA, "has 3 images", "has 4 labels");
  write_file(folder, file_name[1], real, sizeof real);
  refuse("idx", folder, NULL, FEDLANE_DATA, file_name[1], "type 0d");
  write_file(folder, file_name[1], below, sizeof below);
  refuse("idx", folder, NULL, FEDLANE_DATA, file_name[1], "row 1 is -3");
  write_file(folder, file_name[1], good[1], good_size[1]);
  write_file(folder, file_name[2], flat, sizeof flat);
  refuse("idx", folder, NULL, FEDLANE_DATA, file_name[2], "differ");
  write_file(folder, file_name[0], good[1], good_size[1]);
  refuse("idx", folder, NULL, FEDLANE_DATA, file_name[0], "1 dimension");
}

/* The published facts: 6,000 and 1,000 of each class; mean 0.2860 and deviation 0.3530 of 255. */
static void reads_fashion_mnist(void) {
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

static const fl_test tests[] = {
    {"reads", reads},
    {"takes parameters", takes_parameters},
    {"reads every type", reads_every_type},
    {"refuses what is not finite", refuses_what_is_not_finite},
    {"refuses missing files", refuses_missing_files},
    {"refuses wrong lengths", refuses_wrong_lengths},
    {"refuses damage", refuses_damage},
    {"refuses files that do not fit", refuses_files_that_do_not_fit},
    {"reads Fashion-MNIST", reads_fashion_mnist},
};

FL_SUITE_MAIN("idx", tests)
