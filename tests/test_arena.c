#include "arena.h"

#include <string.h>

#include "backend.h"
#include "suite.h"

static const int64_t wanted[] = {1, 64, 0, 100, 4096};

/* Plans, places and uses an arena on the oracle's memory. */
static void test_plan_then_place(void) {
  fl_dev_options options = {0, FL_MATH_FP32};
  fl_dev *dev = NULL;
  fl_arena a = {0};
  CU_ASSERT_EQUAL_FATAL(fl_ref_ops.open(&options, &dev), FEDLANE_OK);
  for (int i = 0; i < FL_COUNT(wanted); i++) CU_ASSERT_PTR_NULL(fl_arena_take(&a, wanted[i]));
  CU_ASSERT_EQUAL(a.used, 64 + 64 + 0 + 128 + 4096);
  CU_ASSERT_EQUAL_FATAL(fl_arena_open(&a, &fl_ref_ops, dev), FEDLANE_OK);
  char *end = a.base;
  for (int i = 0; i < FL_COUNT(wanted); i++) {
    char *at = fl_arena_take(&a, wanted[i]);
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    CU_ASSERT_EQUAL((uintptr_t)at % 64, 0);
    CU_ASSERT(at >= end);
    memset(at, i, (size_t)wanted[i]);
    end = at + wanted[i];
  }
  CU_ASSERT_PTR_NULL(fl_arena_take(&a, 1));
  CU_ASSERT_EQUAL(a.used, a.size);
  fl_arena_close(&a);
  CU_ASSERT(a.base == NULL && a.size == 0 && a.used == 0);
  fl_ref_ops.close(&dev);
}

/* There is always one line of 64 bytes, so that a base tells a placed arena from a planned one. */
static void test_nothing_planned(void) {
  fl_dev_options options = {0, FL_MATH_FP32};
  fl_dev *dev = NULL;
  fl_arena a = {0};
  CU_ASSERT_EQUAL_FATAL(fl_ref_ops.open(&options, &dev), FEDLANE_OK);
  fl_arena_close(&a);
  CU_ASSERT_EQUAL(fl_arena_open(&a, &fl_ref_ops, dev), FEDLANE_OK);
  CU_ASSERT_PTR_NULL(fl_arena_take(&a, 65));
  CU_ASSERT_PTR_NOT_NULL(fl_arena_take(&a, 64));
  CU_ASSERT_PTR_NULL(fl_arena_take(&a, 1));
  fl_arena_close(&a);
  fl_ref_ops.close(&dev);
}

static void test_host_memory(void) {
  fl_arena a = {0};
  fl_arena_take(&a, 100);
  CU_ASSERT_EQUAL_FATAL(fl_arena_open(&a, NULL, NULL), FEDLANE_OK);
  char *at = fl_arena_take(&a, 100);
  CU_ASSERT_PTR_NOT_NULL_FATAL(at);
  memset(at, 1, 100);
  fl_arena_close(&a);
  CU_ASSERT_PTR_NULL(a.base);
}

static void test_too_much(void) {
  fl_dev_options options = {0, FL_MATH_FP32};
  fl_dev *dev = NULL;
  fl_arena a = {0};
  CU_ASSERT_EQUAL_FATAL(fl_ref_ops.open(&options, &dev), FEDLANE_OK);
  CU_ASSERT_PTR_NULL(fl_arena_take(&a, INT64_C(1) << 60));
  CU_ASSERT_EQUAL(fl_arena_open(&a, &fl_ref_ops, dev), FEDLANE_MEMORY);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), "1152921504606846976"));
  fl_arena_close(&a);
  fl_ref_ops.close(&dev);
}

static const fl_test tests[] = {
    {"plan, then place", test_plan_then_place},
    {"nothing planned", test_nothing_planned},
    {"host memory", test_host_memory},
    {"too much", test_too_much},
};

FL_SUITE_MAIN("arena", tests)
