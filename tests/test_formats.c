/* The formats cifar, safetensors and synthetic: good files are read whole, bad ones are refused
 * with file and numbers. */
#include <math.h>
#include <string.h>

#include "format_files.h"
#include "safetensors.h"

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

static void safetensors_reads_tokens(void) {
  static const int32_t token[6] = {0, 4, 2, 3, 3, 1}, next[6] = {4, 2, -1, 3, 1, 0};
  const fl_st_tensor t[] = {{"x", FL_I32, 2, {2, 3}, 6, token}, {"y", FL_I32, 2, {2, 3}, 6, next}};
  fl_args args = fl_args_of(&find("safetensors")->record);
  fl_args_set(&args, "tokens", 5);
  fl_dataset d = load_good("safetensors", write_tensors(2, t), &args);
  CU_ASSERT(d.tokens == 5 && d.n_label == 3 && d.classes == 5 && d.bytes && d.n_train == 2);
  CU_ASSERT(d.image.channels == 1 && d.image.height == 1 && d.image.steps == 3);
  for (int i = 0; i < 6; i++) CU_ASSERT_EQUAL(((uint8_t *)d.x)[i], token[i]);
  CU_ASSERT_EQUAL(memcmp(d.label, next, sizeof next), 0);
  CU_ASSERT_EQUAL(fl_dataset_count_labels(&d), FEDLANE_OK);
  CU_ASSERT(fl_dataset_counted(&d, 0) == 2 && fl_dataset_counted(&d, 1) == 3);
  fl_dataset_close(&d);
  fl_args_set(&args, "tokens", 300);
  d = load_good("safetensors", write_tensors(2, t), &args);
  CU_ASSERT(!d.bytes && ((float *)d.x)[1] == 4);
  fl_dataset_close(&d);
  fl_args_set(&args, "tokens", 4);
  refuse("safetensors", write_tensors(2, t), &args, FEDLANE_DATA, "row 0", "token 4");
  refuse("safetensors", write_tensors(2, t), NULL, FEDLANE_DATA, "'x'", "I32");
}

static void safetensors_reads_steps(void) {
  const fl_st_tensor t[] = {{"x", FL_F32, 3, {2, 2, 3}, 12, reals},
                            {"y", FL_F32, 1, {2}, 2, reals}};
  fl_args args = fl_args_of(&find("safetensors")->record);
  fl_args_set(&args, "steps", 1);
  fl_dataset d = load_good("safetensors", write_tensors(2, t), &args);
  CU_ASSERT(d.image.channels == 3 && d.image.steps == 2 && d.image.height == 1 && d.tokens == 0);
  CU_ASSERT_EQUAL(memcmp(d.x, reals, 48), 0);
  fl_dataset_close(&d);
  const fl_st_tensor flat[] = {{"x", FL_F32, 2, {2, 3}, 6, reals}, {"y", FL_F32, 1, {2}, 2, reals}};
  refuse("safetensors", write_tensors(2, flat), &args, FEDLANE_DATA, "'x'", "steps");
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
  CU_ASSERT_EQUAL_FATAL(
      find("synthetic")->load(&(fl_load){.path = "", .seed = seed, .threads = 1}, args->at, &d),
      FEDLANE_OK);
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
static void synthetic_noise_at_its_ends(void) {
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

/* A quarter of noise moves a pixel of a class by up to a quarter of the range. */
static void synthetic_noise_has_its_share(void) {
  fl_args args = synthetic_args(500, 0);
  fl_args_set(&args, "classes", 1);
  fl_args_set(&args, "noise", 0.25);
  fl_dataset d = synthesise(&args, 3);
  const uint8_t *x = d.x;
  for (int i = 0; i < 189; i++) {
    int lo = 255, hi = 0;
    for (int e = 0; e < 500; e++) {
      if (x[e * 189 + i] < lo) lo = x[e * 189 + i];
      if (x[e * 189 + i] > hi) hi = x[e * 189 + i];
    }
    CU_ASSERT(hi - lo >= 60 && hi - lo <= 64);
  }
  fl_dataset_close(&d);
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
    {"cifar reads CIFAR-10", cifar_reads_10},
    {"cifar reads CIFAR-100", cifar_reads_100},
    {"cifar refuses", cifar_refuses},
    {"safetensors reads classes", safetensors_reads_classes},
    {"safetensors reads targets", safetensors_reads_targets},
    {"safetensors reads tokens", safetensors_reads_tokens},
    {"safetensors reads steps", safetensors_reads_steps},
    {"safetensors refuses", safetensors_refuses},
    {"safetensors fixes classes", safetensors_fixes_classes},
    {"synthetic follows the seed", synthetic_follows_the_seed},
    {"synthetic images can be learnt", synthetic_images_can_be_learnt},
    {"synthetic noise at its ends", synthetic_noise_at_its_ends},
    {"synthetic noise has its share", synthetic_noise_has_its_share},
    {"synthetic regression", synthetic_regression},
    {"synthetic clients", synthetic_clients},
};

FL_SUITE_MAIN("formats", tests)
