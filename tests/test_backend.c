#include "backend.h"

#include <sched.h>
#include <string.h>

#include "suite.h"

static void opens(const char *device, int threads, int n, const fl_ops *ops) {
  fl_devices d;
  CU_ASSERT_EQUAL_FATAL(fl_devices_open(device, FL_MATH_FP32, threads, &d), FEDLANE_OK);
  CU_ASSERT_PTR_EQUAL(d.ops, ops);
  CU_ASSERT_EQUAL(d.n, n);
  CU_ASSERT_EQUAL(d.together, 1);
  for (int i = 0; i < d.n; i++) CU_ASSERT_PTR_NOT_NULL(d.dev[i]);
  fl_devices_close(&d);
  CU_ASSERT(d.n == 0 && d.dev[0] == NULL);
  fl_devices_close(&d);
}

static void test_one_device_a_thread(void) {
  cpu_set_t set;
  CU_ASSERT_EQUAL_FATAL(sched_getaffinity(0, sizeof set, &set), 0);
  opens("ref", 1, 1, &fl_ref_ops);
  opens("ref", 7, 7, &fl_ref_ops);
  opens("cpu", 3, 3, &fl_cpu_ops);
  opens("cpu", 0, CPU_COUNT(&set), &fl_cpu_ops);
  opens("ref", 0, CPU_COUNT(&set), &fl_ref_ops);
  opens("auto", 2, 2, &fl_cpu_ops);
  fl_devices_close(NULL);
}

static void refuses(const char *device, fl_precision precision, int threads, fl_status status,
                    const char *sentence) {
  fl_devices d;
  CU_ASSERT_EQUAL(fl_devices_open(device, precision, threads, &d), status);
  CU_ASSERT_PTR_NOT_NULL(strstr(fedlane_error(), sentence));
  CU_ASSERT_EQUAL(d.n, 0);
}

static void test_refusals(void) {
  refuses("cpi", FL_MATH_FP32, 1, FEDLANE_USAGE, "no device 'cpi'; did you mean 'cpu'?");
  refuses("aut", FL_MATH_FP32, 1, FEDLANE_USAGE, "did you mean 'auto'?");
  refuses("quantum", FL_MATH_FP32, 1, FEDLANE_USAGE, "this build has auto, cpu, ref");
  refuses("", FL_MATH_FP32, 1, FEDLANE_USAGE, "no device ''");
  refuses("cpu", FL_MATH_FP32, -1, FEDLANE_USAGE, "threads is -1; it must lie in 0 .. 256");
  refuses("cpu", FL_MATH_FP32, 257, FEDLANE_USAGE, "threads is 257");
  refuses("ref", FL_MATH_BF16, 1, FEDLANE_UNSUPPORTED, "fp32");
  refuses("cpu", FL_MATH_TF32, 2, FEDLANE_UNSUPPORTED, "fp32");
}

static void test_cuda_is_refused_without_it(void) {
  if (fl_catalogue_find(&fl_backends, "cuda")) {
    CU_PASS("this build has CUDA");
    return;
  }
  refuses("cuda", FL_MATH_FP32, 1, FEDLANE_UNSUPPORTED, "has no CUDA");
  refuses("cuda:0,1", FL_MATH_FP32, 1, FEDLANE_UNSUPPORTED, "'cuda:0,1'");
}

/* A missing slot would be a call through NULL much later. The record is data, not slots; the slots
 * from dense_bwd on are optional, but for those that join devices without common memory. */
static void test_no_slot_is_missing(void) {
  for (int i = 0; i < fl_backends.n; i++) {
    const fl_ops *ops = (const fl_ops *)fl_backends.entry[i];
    const char *slot = (const char *)&ops->count, *end = (const char *)&ops->dense_bwd;
    for (; slot < end; slot += sizeof(void (*)(void))) {
      static const char null[sizeof(void (*)(void))] = {0};
      CU_ASSERT_NOT_EQUAL(memcmp(slot, null, sizeof null), 0);
    }
    CU_ASSERT(ops->record.name && ops->record.help);
    CU_ASSERT(ops->host || (ops->gather64 && ops->spread));
  }
}

static void check_memory(const fl_ops *ops, fl_dev *dev) {
  char text[100] = "what goes up", back[100] = "";
  int64_t room = 0;
  void *at = NULL, *empty = NULL, *never = NULL;
  CU_ASSERT_EQUAL(ops->room(dev, &room), FEDLANE_OK);
  CU_ASSERT(room > 1 << 20);
  CU_ASSERT_EQUAL_FATAL(ops->alloc(dev, 100, &at), FEDLANE_OK);
  CU_ASSERT_EQUAL((uintptr_t)at % 64, 0);
  CU_ASSERT_EQUAL(ops->upload(dev, at, text, sizeof text), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->upload(dev, at, NULL, 0), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->download(dev, back, at, sizeof back), FEDLANE_OK);
  CU_ASSERT_STRING_EQUAL(back, "what goes up");
  CU_ASSERT_EQUAL(ops->sync(dev), FEDLANE_OK);
  CU_ASSERT_EQUAL(ops->alloc(dev, 0, &empty), FEDLANE_OK);
  CU_ASSERT_PTR_NOT_NULL(empty);
  CU_ASSERT_EQUAL(ops->alloc(dev, INT64_C(1) << 60, &never), FEDLANE_MEMORY);
  CU_ASSERT_EQUAL(ops->alloc(dev, -1, &never), FEDLANE_MEMORY);
  CU_ASSERT_PTR_NULL(never);
  ops->release(dev, &at);
  ops->release(dev, &empty);
  ops->release(dev, &never);
  CU_ASSERT_PTR_NULL(at);
}

static void test_memory(void) {
  for (int i = 0; i < fl_backends.n; i++) {
    const fl_ops *ops = (const fl_ops *)fl_backends.entry[i];
    fl_devices d;
    const char *why = "";
    if (ops->count(&why) == 0) continue;
    CU_ASSERT_EQUAL_FATAL(fl_devices_open(ops->record.name, FL_MATH_FP32, 2, &d), FEDLANE_OK);
    for (int k = 0; k < d.n; k++) check_memory(ops, d.dev[k]);
    fl_devices_close(&d);
  }
}

static const fl_test tests[] = {
    {"one device a thread", test_one_device_a_thread},
    {"refusals", test_refusals},
    {"cuda is refused without it", test_cuda_is_refused_without_it},
    {"no slot is missing", test_no_slot_is_missing},
    {"memory", test_memory},
};

FL_SUITE_MAIN("backend", tests)
