/* The instrument itself: kernels with one fault each, every fault caught. What must work is in
 * test_cuda_on_host_works.cc. */
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <thread>

#include "asan.h"
#include "on_device.h"

static char heard[640];

static void hear(const char *sentence) { snprintf(heard, sizeof heard, "%s", sentence); }

template <bool BARRIER>
FL_KERNEL void reverse(const float *x, float *y) {
  FL_SHARED(float, tile, [64]);
  tile[threadIdx.x] = x[threadIdx.x];
  if (BARRIER) __syncthreads();
  y[threadIdx.x] = tile[63 - threadIdx.x];
}

template <bool BARRIER>
static int wrong_reversals() {
  float *x = on_device(counting(64)), *y = on_device(counting(64));
  int wrong = 0;
  for (unsigned seed = 0; seed < 8; seed++) {
    fl_host_set()->seed = seed;
    FL_LAUNCH((reverse<BARRIER>), 1, 64, 0, nullptr, x, y);
    std::vector<float> got = fetched(y, 64);
    bool right = true;
    for (size_t i = 0; i < 64; i++) right = right && got[i] == static_cast<float>(64 - i);
    wrong += !right;
  }
  cudaFree(x);
  cudaFree(y);
  fl_host_defaults();
  return wrong;
}

static void test_a_removed_barrier_shows() {
  CU_ASSERT_EQUAL(wrong_reversals<true>(), 0);
  CU_ASSERT_EQUAL(wrong_reversals<false>(), 8);
}

/* The last read of a tile must end before the next one is written. */
template <bool BARRIER>
FL_KERNEL void rotate_rows(const float *x, float *y, int n) {
  FL_SHARED(float, row, [32]);
  for (int i = 0; i < n; i++) {
    row[threadIdx.x] = x[i * 32 + static_cast<int>(threadIdx.x)];
    __syncthreads();
    y[i * 32 + static_cast<int>(threadIdx.x)] = row[(threadIdx.x + 5) % 32];
    if (BARRIER) __syncthreads();
  }
}

template <bool BARRIER>
static bool rotates() {
  float *x = on_device(counting(320)), *y = on_device(counting(320));
  FL_LAUNCH((rotate_rows<BARRIER>), 1, 32, 0, nullptr, x, y, 10);
  std::vector<float> got = fetched(y, 320);
  bool right = true;
  for (size_t i = 0; i < 320; i++)
    right = right && got[i] == static_cast<float>(i / 32 * 32 + (i % 32 + 5) % 32 + 1);
  cudaFree(x);
  cudaFree(y);
  return right;
}

static void test_a_second_barrier_removed_shows() {
  CU_ASSERT(rotates<true>());
  CU_ASSERT(!rotates<false>());
}

/* Runs work, which must fault with a sentence that holds `part`; the device is whole afterwards. */
template <class F>
static void faults(const char *part, F work) {
  heard[0] = 0;
  fl_host_set()->on_fault = hear;
  fl_host_set()->asan_guards = false;
  work();
  CU_ASSERT_EQUAL(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  if (!strstr(heard, part)) printf("\n    heard '%s', not '%s'", heard, part);
  CU_ASSERT_PTR_NOT_NULL(strstr(heard, part));
  CU_ASSERT_STRING_EQUAL(cudaGetErrorString(cudaErrorLaunchFailure), heard);
  CU_ASSERT_EQUAL(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  cudaDeviceReset();
  fl_host_defaults();
  CU_ASSERT_EQUAL(cudaGetLastError(), cudaSuccess);
  CU_ASSERT_EQUAL(cudaDeviceSynchronize(), cudaSuccess);
  CU_ASSERT(rotates<true>());
}

FL_KERNEL void write_dynamic(int at) {
  FL_SHARED_DYNAMIC(float, tile);
  if (threadIdx.x == 0) tile[at] = 1;
}

FL_KERNEL void write_static(int at) {
  FL_SHARED(float, tile, [8]);
  float *first = tile;
  if (threadIdx.x == 0) first[at] = 1;
}

static void test_writes_outside_shared_memory() {
  FL_LAUNCH(write_dynamic, 1, 32, 40, nullptr, 9);
  CU_ASSERT_EQUAL(cudaDeviceSynchronize(), cudaSuccess);
  faults("the end of dynamic", [] { FL_LAUNCH(write_dynamic, 1, 32, 40, nullptr, 10); });
  faults("the start of dynamic", [] { FL_LAUNCH(write_dynamic, 1, 32, 40, nullptr, -1); });
  faults("static shared memory", [] { FL_LAUNCH(write_static, 2, 32, 0, nullptr, 70); });
}

FL_KERNEL void read_at(const float *x, float *y, int at) {
  FL_SHARED_DYNAMIC(float, tile);
  tile[threadIdx.x] = x[at];
  y[threadIdx.x] = tile[threadIdx.x];
}

/* Whether a child that calls work() is stopped before its end. */
template <class F>
static bool is_stopped(F work) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    if (!freopen("/dev/null", "w", stderr)) _exit(3);
    work();
    _exit(cudaDeviceSynchronize() == cudaSuccess ? 0 : 2);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CU_ASSERT(WIFEXITED(status) || WIFSIGNALED(status));
  return !(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2));
}

static void test_the_sanitizer_stops_what_is_outside() {
#ifdef FL_HOST_ASAN
  float *x = on_device(counting(40)), *y = on_device(counting(32));
  CU_ASSERT(!is_stopped([=] { FL_LAUNCH(read_at, 1, 32, 128, nullptr, x, y, 39); }));
  CU_ASSERT(is_stopped([=] { FL_LAUNCH(read_at, 1, 32, 128, nullptr, x, y, 40); }));
  CU_ASSERT(is_stopped([=] { FL_LAUNCH(read_at, 1, 32, 128, nullptr, x, y, -1); }));
  CU_ASSERT(is_stopped([=] { FL_LAUNCH(read_at, 1, 32, 124, nullptr, x, y, 0); }));
  CU_ASSERT(is_stopped([=] { FL_LAUNCH(write_static, 1, 32, 0, nullptr, 8); }));
  cudaFree(x);
  cudaFree(y);
#else
  printf("skipped: this build has no AddressSanitizer\n");
#endif
}

FL_KERNEL void sum_all_but_one(const float *x, float *y, int left_out) {
  FL_SHARED(float, tile, [32]);
  if (static_cast<int>(threadIdx.x) != left_out) tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < 32; i++) sum += tile[i];
  y[threadIdx.x] = sum;
}

static void test_unwritten_shared_memory_is_poison() {
  float *x = on_device(counting(32)), *y = on_device(counting(32));
  FL_LAUNCH(sum_all_but_one, 1, 32, 0, nullptr, x, y, -1);
  CU_ASSERT_EQUAL(fetched(y, 32)[7], 528);
  FL_LAUNCH(sum_all_but_one, 1, 32, 0, nullptr, x, y, 31);
  CU_ASSERT(std::isnan(fetched(y, 32)[7]));
  double *fresh = nullptr;
  CU_ASSERT_EQUAL(cudaMalloc(&fresh, 3 * sizeof(double)), cudaSuccess);
  for (double value : fetched(fresh, 3)) CU_ASSERT(std::isnan(value));
  cudaFree(x);
  cudaFree(y);
  cudaFree(fresh);
}

/* Two stages in flight; LEFT groups may be unfinished when a stage is read. */
template <int LEFT>
FL_KERNEL void add_one_pipelined(const float *x, float *y, int n) {
  FL_SHARED(float, stage, [2][32]);
  const int t = static_cast<int>(threadIdx.x);
  fl_cp_async4(&stage[0][t], x + t, 4);
  fl_cp_async_commit();
  for (int i = 0; i < n; i++) {
    if (i + 1 < n) fl_cp_async4(&stage[(i + 1) % 2][t], x + (i + 1) * 32 + t, 4);
    fl_cp_async_commit();
    fl_cp_async_wait<LEFT>();
    __syncthreads();
    y[i * 32 + 31 - t] = stage[i % 2][31 - t] + 1;
    __syncthreads();
  }
}

template <int LEFT>
static int wrong_in_pipeline() {
  float *x = on_device(counting(160)), *y = on_device(counting(160));
  FL_LAUNCH((add_one_pipelined<LEFT>), 1, 32, 0, nullptr, x, y, 5);
  std::vector<float> got = fetched(y, 160);
  int wrong = 0;
  for (size_t i = 0; i < 160; i++) wrong += !(got[i] == static_cast<float>(i + 2));
  cudaFree(x);
  cudaFree(y);
  return wrong;
}

static void test_a_missing_wait_shows() {
  CU_ASSERT_EQUAL(wrong_in_pipeline<1>(), 0);
  CU_ASSERT_EQUAL(wrong_in_pipeline<0>(), 0);
  CU_ASSERT_EQUAL(wrong_in_pipeline<2>(), 160);
}

template <bool ONCE>
FL_KERNEL void copy_partly(const float *x, float *y, int bytes, int shift) {
  FL_SHARED_DYNAMIC(char, tile);
  if (ONCE)
    fl_cp_async16_once(tile + shift, x, bytes);
  else
    fl_cp_async16(tile + shift, x, bytes);
  fl_cp_async_commit();
  fl_cp_async_wait<0>();
  for (int i = 0; i < 4; i++) y[i] = reinterpret_cast<float *>(tile)[i];
}

template <bool ONCE>
static void check_what_copies_refuse() {
  auto copy_partly = ::copy_partly<ONCE>;
  float *x = on_device(counting(4)), *y = on_device(counting(4));
  FL_LAUNCH(copy_partly, 1, 1, 16, nullptr, x, y, 8, 0);
  std::vector<float> got = fetched(y, 4);
  CU_ASSERT(got[0] == 1 && got[1] == 2 && got[2] == 0 && got[3] == 0);
  faults("copy of 17 bytes", [=] { FL_LAUNCH(copy_partly, 1, 1, 32, nullptr, x, y, 17, 0); });
  faults("multiples of 16", [=] { FL_LAUNCH(copy_partly, 1, 1, 32, nullptr, x, y, 16, 4); });
  faults("multiples of 16", [=] { FL_LAUNCH(copy_partly, 1, 1, 32, nullptr, x + 1, y, 8, 0); });
  faults("outside the block", [=] { FL_LAUNCH(copy_partly, 1, 1, 16, nullptr, x, y, 16, 16); });
  cudaFree(x);
  cudaFree(y);
}

static void test_what_copies_refuse() {
  check_what_copies_refuse<false>();
  check_what_copies_refuse<true>();
}

FL_KERNEL void leave_early(unsigned n) {
  if (threadIdx.x >= n) return;
  __syncthreads();
}

FL_KERNEL void wait_apart() {
  if (threadIdx.x < 16)
    __syncthreads();
  else
    __syncthreads();
}

FL_KERNEL void warp_and_block() {
  if (threadIdx.x == 3)
    __syncthreads();
  else
    __syncwarp();
}

FL_KERNEL void shuffle_with(unsigned mask, unsigned callers, int from, int *y) {
  if (threadIdx.x < callers)
    y[threadIdx.x] = __shfl_sync(mask, static_cast<int>(threadIdx.x), from);
}

FL_KERNEL void shuffle_apart(int *y) {
  int x = static_cast<int>(threadIdx.x);
  if (x % 2)
    y[x] = __shfl_down_sync(~0u, x, 1);
  else
    y[x] = __shfl_down_sync(~0u, x, 1);
}

static void test_threads_that_do_not_meet() {
  int *y = on_device(std::vector<int>(32));
  FL_LAUNCH(leave_early, 3, 32, 0, nullptr, 32);
  CU_ASSERT_EQUAL(cudaDeviceSynchronize(), cudaSuccess);
  faults("has ended", [] { FL_LAUNCH(leave_early, 3, 32, 0, nullptr, 31); });
  faults("different places", [] { FL_LAUNCH(wait_apart, 1, 32, 0, nullptr); });
  faults("waits in __syncwarp", [] { FL_LAUNCH(warp_and_block, 1, 32, 0, nullptr); });
  faults("has ended", [=] { FL_LAUNCH(shuffle_with, 1, 32, 0, nullptr, ~0u, 20u, 0, y); });
  faults("not in its own mask", [=] { FL_LAUNCH(shuffle_with, 1, 32, 0, nullptr, 15u, 5u, 0, y); });
  faults("takes no part", [=] { FL_LAUNCH(shuffle_with, 1, 32, 0, nullptr, 15u, 4u, 4, y); });
  faults("the warp lacks", [=] { FL_LAUNCH(shuffle_with, 1, 24, 0, nullptr, ~0u, 24u, 0, y); });
  faults("different places", [=] { FL_LAUNCH(shuffle_apart, 1, 32, 0, nullptr, y); });
  cudaFree(y);
}

FL_KERNEL void nothing() {}

FL_KERNEL void much_static() {
  FL_SHARED(char, tile, [40000]);
  FL_SHARED(char, more, [9153]);
  tile[threadIdx.x] = more[threadIdx.x] = 0;
}

struct parameters {
  char byte[4097];
};
FL_KERNEL void many_parameters(parameters) {}

static void launched(dim3 grid, dim3 block, size_t shared, cudaError_t want) {
  FL_LAUNCH(nothing, grid, block, shared, nullptr);
  CU_ASSERT_EQUAL(FL_LAUNCH_CHECK(), want);
  CU_ASSERT_EQUAL(cudaDeviceSynchronize(), cudaSuccess);
  CU_ASSERT_EQUAL(FL_LAUNCH_CHECK(), cudaSuccess);
}

static void test_limits_of_a_launch() {
  launched(1, 1024, 48 * 1024, cudaSuccess);
  launched(1, 1025, 0, cudaErrorInvalidConfiguration);
  launched(1, dim3(32, 33), 0, cudaErrorInvalidConfiguration);
  launched(1, dim3(1, 1, 65), 0, cudaErrorInvalidConfiguration);
  launched(1, 0, 0, cudaErrorInvalidConfiguration);
  launched(0, 32, 0, cudaErrorInvalidConfiguration);
  launched(dim3(1, 65536), 32, 0, cudaErrorInvalidConfiguration);
  launched(dim3(1, 1, 65536), 32, 0, cudaErrorInvalidConfiguration);
  launched(1, 32, 48 * 1024 + 1, cudaErrorInvalidValue);
  CU_ASSERT_EQUAL(
      cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024 + 1),
      cudaErrorInvalidValue);
  CU_ASSERT_EQUAL(cudaGetLastError(), cudaErrorInvalidValue);
  CU_ASSERT_EQUAL(
      cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 * 1024),
      cudaSuccess);
  launched(1, 32, 100 * 1024, cudaSuccess);
  launched(1, 32, 100 * 1024 + 1, cudaErrorInvalidValue);
  FL_LAUNCH(many_parameters, 1, 1, 0, nullptr, parameters());
  CU_ASSERT_EQUAL(FL_LAUNCH_CHECK(), cudaErrorInvalidValue);
  faults("more shared memory", [] { FL_LAUNCH(much_static, 1, 1, 0, nullptr); });
}

struct inside {
  int n;
  float *y;
};
FL_KERNEL void add_inside(inside in, float x) { in.y[threadIdx.x] += x; }

static void test_memory_of_another_device_is_out_of_reach() {
  inside in = {1, on_device(counting(32))};
  cudaSetDevice(1);
  faults("another device's memory", [=] { FL_LAUNCH(add, 1, 32, 0, nullptr, in.y, 1.0f); });
  faults("another device's memory", [=] { FL_LAUNCH(add_inside, 1, 32, 0, nullptr, in, 1.0f); });
  cudaSetDevice(0);
  FL_LAUNCH(add_inside, 1, 32, 0, nullptr, in, 1.0f);
  CU_ASSERT_EQUAL(fetched(in.y, 32)[3], 5);
  cudaFree(in.y);
}

static void test_a_lost_device() {
  float *y = on_device(counting(32));
  fl_host_set()->lost_after = 2;
  FL_LAUNCH(add, 1, 32, 0, nullptr, y, 1.0f);
  CU_ASSERT_EQUAL(cudaDeviceSynchronize(), cudaSuccess);
  faults("the device was lost", [=] { FL_LAUNCH(add, 1, 32, 0, nullptr, y, 1.0f); });
  CU_ASSERT_EQUAL(fetched(y, 32)[0], 2);
  cudaFree(y);
}

static void test_devices_work_at_the_same_time() {
  bool right[2] = {false, false};
  auto work = [&right](int device) {
    cudaSetDevice(device);
    right[device] = rotates<true>() && wrong_in_pipeline<1>() == 0;
  };
  std::thread other(work, 1);
  work(0);
  other.join();
  CU_ASSERT(right[0] && right[1]);
}

static const fl_test tests[] = {
    {"a removed barrier shows", test_a_removed_barrier_shows},
    {"a second barrier removed shows", test_a_second_barrier_removed_shows},
    {"writes outside shared memory", test_writes_outside_shared_memory},
    {"the sanitizer stops what is outside", test_the_sanitizer_stops_what_is_outside},
    {"unwritten shared memory is poison", test_unwritten_shared_memory_is_poison},
    {"a missing wait shows", test_a_missing_wait_shows},
    {"what copies refuse", test_what_copies_refuse},
    {"threads that do not meet", test_threads_that_do_not_meet},
    {"limits of a launch", test_limits_of_a_launch},
    {"memory of another device is out of reach", test_memory_of_another_device_is_out_of_reach},
    {"a lost device", test_a_lost_device},
    {"devices work at the same time", test_devices_work_at_the_same_time},
};

FL_SUITE_MAIN("cuda_on_host", tests)
