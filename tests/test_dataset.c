/* Data sets in memory: shapes, labels, normalisation; populations: dealing, holding out, skew. */
#include "dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "param.h"
#include "suite.h"

static void allocates(void) {
  fl_dataset d = {.image = {3, 5, 7}, .n_train = 4, .n_test = 2, .bytes = true};
  CU_ASSERT_EQUAL_FATAL(fl_dataset_alloc(&d), FEDLANE_OK);
  CU_ASSERT_EQUAL((uintptr_t)d.x % 64, 0);
  CU_ASSERT_PTR_NOT_NULL(d.label);
  CU_ASSERT_PTR_NULL(d.target);
  memset(d.x, 1, 6 * 105);
  fl_dataset_close(&d);
  CU_ASSERT_PTR_NULL(d.x);
  CU_ASSERT_EQUAL(d.n_train, 0);
  fl_dataset_close(&d);
  d = (fl_dataset){.image = {2, 1, 1}, .n_train = 3, .n_target = 4};
  CU_ASSERT_EQUAL_FATAL(fl_dataset_alloc(&d), FEDLANE_OK);
  CU_ASSERT_PTR_NULL(d.label);
  memset(d.target, 0, 12 * sizeof(float));
  fl_dataset_close(&d);
}

static void refuses_sizes(void) {
  fl_dataset d = {.image = {1, 1, 1}};
  CU_ASSERT_EQUAL(fl_dataset_alloc(&d), FEDLANE_DATA);
  d.n_train = (int64_t)INT32_MAX;
  d.n_test = 1;
  CU_ASSERT_EQUAL(fl_dataset_alloc(&d), FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "2147483648"));
  d = (fl_dataset){.image = {1 << 20, 1 << 15, 1 << 15}, .n_train = 1 << 20};
  CU_ASSERT_EQUAL(fl_dataset_alloc(&d), FEDLANE_MEMORY);
  CU_ASSERT_PTR_NULL(d.x);
}

static void shapes_examples(void) {
  const int64_t size[4] = {5, 6, 7, 8}, zero[2] = {3, 0}, huge[2] = {1 << 20, 1 << 20};
  fl_image m;
  CU_ASSERT_EQUAL(fl_image_from_sizes("f", "x", 1, size, &m), FEDLANE_OK);
  CU_ASSERT(m.channels == 5 && m.height == 1 && m.width == 1);
  CU_ASSERT_EQUAL(fl_image_from_sizes("f", "x", 2, size, &m), FEDLANE_OK);
  CU_ASSERT(m.channels == 1 && m.height == 5 && m.width == 6);
  CU_ASSERT_EQUAL(fl_image_from_sizes("f", "x", 3, size, &m), FEDLANE_OK);
  CU_ASSERT(m.channels == 5 && m.height == 6 && m.width == 7);
  CU_ASSERT_EQUAL(fl_image_from_sizes("f", "x", 0, size, &m), FEDLANE_DATA);
  CU_ASSERT_EQUAL(fl_image_from_sizes("f", "x", 4, size, &m), FEDLANE_DATA);
  CU_ASSERT_EQUAL(fl_image_from_sizes("f", "x", 2, zero, &m), FEDLANE_DATA);
  CU_ASSERT_EQUAL(fl_image_from_sizes("f", "x", 2, huge, &m), FEDLANE_DATA);
}

static void labels(void) {
  fl_dataset d = {.image = {1, 1, 1}, .n_train = 2, .n_test = 1, .bytes = true};
  CU_ASSERT_EQUAL_FATAL(fl_dataset_alloc(&d), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_dataset_set_label(&d, 0, 3, "file", 0), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_dataset_set_label(&d, 1, 0, "file", 1), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_dataset_set_label(&d, 2, 6, "file", 0), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_dataset_set_label(&d, 1, -1, "file", 17), FEDLANE_DATA);
  CU_ASSERT_STRING_EQUAL(fedlane_error(),
                         "file: the label of row 17 is -1; it must lie in 0 .. 1048575");
  CU_ASSERT_EQUAL(fl_dataset_set_label(&d, 1, FL_CLASSES_MAX, "file", 1), FEDLANE_DATA);
  fl_dataset_count_classes(&d);
  CU_ASSERT_EQUAL(d.classes, 7);
  CU_ASSERT_EQUAL(fl_dataset_set_label(&d, 1, 7, "file", 1), FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "0 .. 6"));
  d.classes = 12;
  fl_dataset_count_classes(&d);
  CU_ASSERT_EQUAL(d.classes, 12);
  fl_dataset_close(&d);
}

/* Two channels of two pixels; channel 0 of the training examples is 1 2 3 6, channel 1 is all 9.
 * The test example must not count. */
static const uint8_t pixels[12] = {1, 2, 9, 9, 3, 6, 9, 9, 200, 201, 202, 203};

static fl_dataset small(bool bytes) {
  fl_dataset d = {.image = {2, 1, 2}, .n_train = 2, .n_test = 1, .bytes = bytes};
  CU_ASSERT_EQUAL_FATAL(fl_dataset_alloc(&d), FEDLANE_OK);
  for (int i = 0; i < 12; i++) {
    if (bytes)
      ((uint8_t *)d.x)[i] = pixels[i];
    else
      ((float *)d.x)[i] = pixels[i];
  }
  return d;
}

/* Names of files are any bytes; a notice is a text, also where it is cut. */
static void notices_are_texts(void) {
  fl_dataset d = {0};
  char name[2048];
  for (size_t i = 0; i + 2 < sizeof name; i += 2) memcpy(name + i, "\xc3\xa9", 3);
  CU_ASSERT_EQUAL(fl_dataset_note(&d, "caf\xe9\n\xc3\xa9\xed\xa0\x80.png"), FEDLANE_OK);
  CU_ASSERT_STRING_EQUAL(d.notice, "caf? \xc3\xa9???.png\n");
  CU_ASSERT_EQUAL(fl_dataset_note(&d, "%s", name), FEDLANE_OK);
  CU_ASSERT(fl_text_valid(d.notice) && strlen(d.notice) > 1000);
  fl_dataset_close(&d);
}

static void normalises(void) {
  for (int bytes = 0; bytes < 2; bytes++) {
    fl_dataset d = small(bytes);
    CU_ASSERT_EQUAL(fl_dataset_normalise(&d, FL_NORMALISE_STANDARD), FEDLANE_OK);
    CU_ASSERT_DOUBLE_EQUAL(d.shift[0], 3, 1e-6);
    CU_ASSERT_DOUBLE_EQUAL(d.scale[0], 1 / sqrt(3.5), 1e-6);
    CU_ASSERT_DOUBLE_EQUAL(d.shift[1], 9, 1e-6);
    CU_ASSERT_EQUAL(d.scale[1], 1);
    CU_ASSERT_EQUAL(fl_dataset_normalise(&d, FL_NORMALISE_NONE), FEDLANE_OK);
    CU_ASSERT(d.shift[0] == 0 && d.scale[0] == 1 && d.shift[1] == 0 && d.scale[1] == 1);
    CU_ASSERT_EQUAL(fl_dataset_normalise(&d, FL_NORMALISE_AUTO), FEDLANE_OK);
    CU_ASSERT_EQUAL(d.shift[0] != 0, bytes);
    fl_dataset_close(&d);
  }
}

static void normalises_to_unit(void) {
  fl_dataset d = small(true), f = small(false);
  CU_ASSERT_EQUAL(fl_dataset_normalise(&d, FL_NORMALISE_UNIT), FEDLANE_OK);
  CU_ASSERT_EQUAL(d.shift[1], 0);
  CU_ASSERT_DOUBLE_EQUAL(d.scale[1] * 255, 1, 1e-6);
  CU_ASSERT_EQUAL(fl_dataset_normalise(&f, FL_NORMALISE_UNIT), FEDLANE_USAGE);
  ((float *)f.x)[3] = NAN;
  CU_ASSERT_EQUAL(fl_dataset_normalise(&f, FL_NORMALISE_STANDARD), FEDLANE_DATA);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "channel 1"));
  fl_dataset_close(&d);
  fl_dataset_close(&f);
}

/* A value that no float sums without rounding is still a constant channel. */
static void constant_floats_keep_their_scale(void) {
  fl_dataset d = {.image = {1, 10, 10}, .n_train = 1000};
  CU_ASSERT_EQUAL_FATAL(fl_dataset_alloc(&d), FEDLANE_OK);
  for (int i = 0; i < 100000; i++) ((float *)d.x)[i] = 0.1f;
  CU_ASSERT_EQUAL(fl_dataset_normalise(&d, FL_NORMALISE_STANDARD), FEDLANE_OK);
  CU_ASSERT_EQUAL(d.scale[0], 1);
  CU_ASSERT_DOUBLE_EQUAL(d.shift[0], 0.1f, 1e-7);
  fl_dataset_close(&d);
}

static void deals_to_owners(void) {
  const int32_t owner[8] = {2, 0, -1, 2, 0, 4, 2, -1};
  const int64_t offset[6] = {0, 2, 2, 5, 5, 6};
  const int32_t index[6] = {1, 4, 0, 3, 6, 5};
  fl_population p;
  CU_ASSERT_EQUAL_FATAL(fl_population_from_owner(5, 8, owner, &p), FEDLANE_OK);
  CU_ASSERT_EQUAL(p.n, 5);
  CU_ASSERT_EQUAL(memcmp(p.offset, offset, sizeof offset), 0);
  CU_ASSERT_EQUAL(memcmp(p.index, index, sizeof index), 0);
  fl_population_close(&p);
  CU_ASSERT_PTR_NULL(p.offset);
  fl_population_close(&p);
}

/* Clients of 0, 1, ... 40 examples. */
static fl_population stairs(void) {
  static int32_t owner[820];
  int64_t n = 0;
  for (int32_t i = 0; i <= 40; i++)
    for (int k = 0; k < i; k++) owner[n++] = i;
  fl_population p;
  CU_ASSERT_EQUAL_FATAL(fl_population_from_owner(41, n, owner, &p), FEDLANE_OK);
  return p;
}

static void holds_out(void) {
  const double shares[] = {0, 0.1, 0.25, 0.5, 0.999};
  for (int s = 0; s < 5; s++) {
    fl_population p = stairs();
    CU_ASSERT_EQUAL_FATAL(fl_population_hold_out(&p, shares[s], 3), FEDLANE_OK);
    CU_ASSERT_EQUAL(p.n_train[0], 0);
    for (int32_t i = 1; i < p.n; i++) {
      int held = (int)(shares[s] * i);
      bool seen[820] = {false};
      CU_ASSERT_EQUAL(p.n_train[i], held < i ? i - held : 1);
      for (int64_t k = p.offset[i]; k < p.offset[i + 1]; k++) seen[p.index[k]] = true;
      for (int64_t k = p.offset[i]; k < p.offset[i + 1]; k++) CU_ASSERT(seen[k]);
    }
    fl_population_close(&p);
  }
}

static void holds_out_by_seed(void) {
  fl_population a = stairs(), b = stairs(), c = stairs();
  size_t bytes = 820 * sizeof *a.index;
  fl_population_hold_out(&a, 0.3, 1);
  fl_population_hold_out(&b, 0.3, 1);
  fl_population_hold_out(&c, 0.3, 2);
  CU_ASSERT_EQUAL(memcmp(a.index, b.index, bytes), 0);
  CU_ASSERT_NOT_EQUAL(memcmp(a.index, c.index, bytes), 0);
  fl_population_close(&a);
  fl_population_close(&b);
  fl_population_close(&c);
}

/* Client 0 has labels 0 0, client 1 nothing, client 2 labels 0 1 1 1: the whole is half and half,
 * so the distances are 1/2 and 1/4. */
static void measures_skew(void) {
  int32_t label[6] = {0, 0, 0, 1, 1, 1};
  const int32_t owner[6] = {0, 0, 2, 2, 2, 2};
  fl_dataset d = {.classes = 2, .n_label = 1, .n_train = 6, .label = label};
  fl_population p;
  fl_skew s;
  CU_ASSERT_EQUAL_FATAL(fl_population_from_owner(3, 6, owner, &p), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_population_skew(&p, &d, &s), FEDLANE_OK);
  CU_ASSERT_EQUAL(s.examples, 6);
  CU_ASSERT_EQUAL(s.smallest, 0);
  CU_ASSERT_EQUAL(s.median, 2);
  CU_ASSERT_EQUAL(s.largest, 4);
  CU_ASSERT_EQUAL(s.empty, 1);
  CU_ASSERT_DOUBLE_EQUAL(s.classes_mean, 1.5, 1e-12);
  CU_ASSERT_DOUBLE_EQUAL(s.divergence_mean, 0.375, 1e-12);
  d.label = NULL;
  d.classes = 0;
  CU_ASSERT_EQUAL(fl_population_skew(&p, &d, &s), FEDLANE_OK);
  CU_ASSERT_EQUAL(s.largest, 4);
  CU_ASSERT_EQUAL(s.classes_mean, 0);
  fl_population_close(&p);
}

/* The same clients with a label a step, some of which do not count. */
static void measures_skew_of_steps(void) {
  int32_t label[9] = {0, -1, 0, 0, 1, -1, 1, -1, 1};
  const int32_t owner[3] = {0, 2, 2};
  fl_dataset d = {.classes = 2, .n_label = 3, .n_train = 3, .label = label};
  fl_population p;
  fl_skew s;
  CU_ASSERT_EQUAL_FATAL(fl_population_from_owner(3, 3, owner, &p), FEDLANE_OK);
  CU_ASSERT_EQUAL(fl_population_skew(&p, &d, &s), FEDLANE_OK);
  CU_ASSERT(s.examples == 3 && s.largest == 2);
  CU_ASSERT_DOUBLE_EQUAL(s.classes_mean, 1.5, 1e-12);
  CU_ASSERT_DOUBLE_EQUAL(s.divergence_mean, 0.375, 1e-12);
  fl_population_close(&p);
}

static const fl_test tests[] = {
    {"allocates", allocates},
    {"refuses sizes", refuses_sizes},
    {"shapes examples", shapes_examples},
    {"labels", labels},
    {"notices are texts", notices_are_texts},
    {"normalises", normalises},
    {"normalises to unit", normalises_to_unit},
    {"constant floats keep their scale", constant_floats_keep_their_scale},
    {"deals to owners", deals_to_owners},
    {"holds out", holds_out},
    {"holds out by seed", holds_out_by_seed},
    {"measures skew", measures_skew},
    {"measures skew of steps", measures_skew_of_steps},
};

FL_SUITE_MAIN("dataset", tests)
