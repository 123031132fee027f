/* The instrument with several devices: what may pass between them and what may not, and
 * collectives that wait for each other. */
#include <cstdio>
#include <cstring>
#include <vector>

#include "device.h"
#include "nccl.h"
#include "settings.h"
extern "C" {
#include "suite.h"
}

enum { N = 33, DEVICES = 3 };
using numbers = std::vector<int64_t>;

static char heard[640];
static void hear(const char *sentence) { snprintf(heard, sizeof heard, "%s", sentence); }

/* A device's number in each of N places, and its stream. */
struct seat {
  int64_t *at = nullptr;
  cudaStream_t stream = nullptr;
  ncclComm_t comm = nullptr;
};

static std::vector<seat> take_seats() {
  static const int index[DEVICES] = {0, 1, 2};
  std::vector<seat> seats(DEVICES);
  ncclComm_t comm[DEVICES];
  fl_host_set()->devices = DEVICES;
  CU_ASSERT_EQUAL_FATAL(ncclCommInitAll(comm, DEVICES, index), ncclSuccess);
  for (int k = 0; k < DEVICES; k++) {
    seat &s = seats[static_cast<size_t>(k)];
    numbers own(N, k + 1);
    cudaSetDevice(k);
    CU_ASSERT_EQUAL_FATAL(cudaMalloc(&s.at, N * sizeof own[0]), cudaSuccess);
    cudaMemcpy(s.at, own.data(), N * sizeof own[0], cudaMemcpyHostToDevice);
    cudaStreamCreate(&s.stream);
    s.comm = comm[k];
  }
  cudaSetDevice(0);
  return seats;
}

static void leave(const std::vector<seat> &seats) {
  for (const seat &s : seats) {
    if (s.comm) CU_ASSERT_EQUAL(ncclCommAbort(s.comm), ncclSuccess);
    cudaFree(s.at);
    cudaStreamDestroy(s.stream);
  }
  fl_host_revive();
  fl_host_defaults();
  (void)cudaGetLastError();
}

static int64_t first_of(const seat &s) {
  numbers got(N);
  CU_ASSERT_EQUAL(
      cudaMemcpyAsync(got.data(), s.at, N * sizeof got[0], cudaMemcpyDeviceToHost, s.stream),
      cudaSuccess);
  for (int64_t x : got) CU_ASSERT_EQUAL(x, got[0]);
  return got[0];
}

static void test_only_peer_copies_cross() {
  std::vector<seat> s = take_seats();
  const size_t bytes = N * sizeof(int64_t);
  numbers here(N);
  CU_ASSERT_EQUAL(cudaMemcpyAsync(s[0].at, s[1].at, bytes, cudaMemcpyDeviceToDevice, s[0].stream),
                  cudaErrorInvalidValue);
  CU_ASSERT_EQUAL(cudaMemcpyAsync(here.data(), s[1].at, bytes, cudaMemcpyDeviceToHost, s[0].stream),
                  cudaErrorInvalidValue);
  CU_ASSERT_EQUAL(cudaMemsetAsync(s[1].at, 0, bytes, s[0].stream), cudaErrorInvalidValue);
  CU_ASSERT_EQUAL(cudaMemcpyPeerAsync(s[0].at, 1, s[1].at, 0, bytes, s[0].stream),
                  cudaErrorInvalidValue);
  CU_ASSERT_EQUAL(first_of(s[0]), 1);
  CU_ASSERT_EQUAL(cudaMemcpyPeerAsync(s[0].at, 0, s[1].at, 1, bytes, s[0].stream), cudaSuccess);
  CU_ASSERT_EQUAL(first_of(s[0]), 2);
  leave(s);
}

FL_KERNEL void nothing() {}

static void test_shared_memory_is_allowed_a_device() {
  const int bytes = 100 * 1024;
  CU_ASSERT_EQUAL(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                  cudaSuccess);
  FL_LAUNCH(nothing, 1, 32, bytes, nullptr);
  CU_ASSERT_EQUAL(FL_LAUNCH_CHECK(), cudaSuccess);
  cudaSetDevice(1);
  FL_LAUNCH(nothing, 1, 32, bytes, nullptr);
  CU_ASSERT_EQUAL(FL_LAUNCH_CHECK(), cudaErrorInvalidValue);
  cudaSetDevice(0);
}

static ncclResult_t reduce(const seat &s) {
  return ncclReduce(s.at, s.at, N, ncclInt64, ncclSum, 0, s.comm, s.stream);
}

static ncclResult_t reduce_all(const std::vector<seat> &seats) {
  ncclGroupStart();
  for (const seat &s : seats) CU_ASSERT_EQUAL(reduce(s), ncclSuccess);
  return ncclGroupEnd();
}

/* Whoever is asked first, the others' queues run up to the collective. */
static void test_collectives_meet() {
  for (size_t asked = 0; asked < DEVICES; asked++) {
    std::vector<seat> s = take_seats();
    CU_ASSERT_EQUAL(reduce_all(s), ncclSuccess);
    ncclGroupStart();
    for (const seat &one : s)
      CU_ASSERT_EQUAL(ncclBroadcast(one.at, one.at, 2 * N, ncclFloat32, 0, one.comm, one.stream),
                      ncclSuccess);
    CU_ASSERT_EQUAL(ncclGroupEnd(), ncclSuccess);
    CU_ASSERT_EQUAL(first_of(s[asked]), 6);
    for (const seat &one : s) CU_ASSERT_EQUAL(first_of(one), 6);
    leave(s);
  }
}

static void test_what_collectives_refuse() {
  std::vector<seat> s = take_seats();
  CU_ASSERT_EQUAL(reduce(s[0]), ncclInvalidUsage); /* outside a group */
  ncclGroupStart();
  CU_ASSERT_EQUAL(reduce(s[0]), ncclSuccess);
  CU_ASSERT_EQUAL(ncclGroupEnd(), ncclInvalidUsage); /* without the others */
  ncclGroupStart();
  CU_ASSERT_EQUAL(ncclReduce(s[1].at, s[1].at, N, ncclInt64, ncclSum, 0, s[0].comm, s[0].stream),
                  ncclInvalidArgument);
  CU_ASSERT_EQUAL(ncclReduce(s[0].at, s[0].at, N, ncclFloat32, ncclSum, 0, s[0].comm, s[0].stream),
                  ncclInvalidArgument);
  CU_ASSERT_EQUAL(ncclGroupEnd(), ncclSuccess);
  CU_ASSERT_EQUAL(first_of(s[0]), 1);
  leave(s);
}

/* One device is lost: those that are asked wait, for ever unless the collective is given up. */
static void test_a_lost_device_keeps_others_waiting() {
  for (bool give_up : {true, false}) {
    std::vector<seat> s = take_seats();
    fl_host_set()->on_fault = hear;
    fl_host_set()->lost_after = 2;
    CU_ASSERT_EQUAL(reduce_all(s), ncclSuccess);
    CU_ASSERT_EQUAL(cudaStreamQuery(s[0].stream), cudaErrorNotReady);
    CU_ASSERT_EQUAL(cudaStreamQuery(s[2].stream), cudaErrorNotReady);
    CU_ASSERT_EQUAL(cudaStreamQuery(s[1].stream), cudaErrorLaunchFailure);
    CU_ASSERT_PTR_NOT_NULL(strstr(heard, "the device was lost"));
    for (seat &one : s) {
      if (give_up) CU_ASSERT_EQUAL(ncclCommAbort(one.comm), ncclSuccess);
      if (give_up) one.comm = nullptr;
    }
    CU_ASSERT_EQUAL(cudaStreamSynchronize(s[0].stream),
                    give_up ? cudaSuccess : cudaErrorLaunchFailure);
    if (!give_up) CU_ASSERT_PTR_NOT_NULL(strstr(heard, "waits for others that never come"));
    leave(s);
  }
}

static void test_a_library_that_may_be_absent() {
  void *library = fl_library_open("libnccl.so.2");
  CU_ASSERT_PTR_NOT_NULL_FATAL(library);
  CU_ASSERT_PTR_NOT_NULL(fl_library_symbol(library, "ncclReduce"));
  CU_ASSERT_PTR_NULL(fl_library_symbol(library, "ncclRedoce"));
  CU_ASSERT_PTR_NULL(fl_library_open("libnccl.so.1"));
  fl_host_set()->nccl = false;
  CU_ASSERT_PTR_NULL(fl_library_open("libnccl.so.2"));
  fl_host_defaults();
}

static const fl_test tests[] = {
    {"only peer copies cross", test_only_peer_copies_cross},
    {"shared memory is allowed a device", test_shared_memory_is_allowed_a_device},
    {"collectives meet", test_collectives_meet},
    {"what collectives refuse", test_what_collectives_refuse},
    {"a lost device keeps others waiting", test_a_lost_device_keeps_others_waiting},
    {"a library that may be absent", test_a_library_that_may_be_absent},
};

FL_SUITE_MAIN("cuda_on_host_several", tests)
