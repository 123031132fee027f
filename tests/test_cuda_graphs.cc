/* The instrument's streams while they are recorded, and the graphs that come of it. */
#include <thread>

#include "device.h"
#include "settings.h"
extern "C" {
#include "suite.h"
}

FL_KERNEL void add(float *y, float x) { y[threadIdx.x] += x; }

/* 32 floats of device memory. */
static float *zeros() {
  float *at = nullptr;
  CU_ASSERT_EQUAL_FATAL(cudaMalloc(&at, 32 * sizeof *at), cudaSuccess);
  CU_ASSERT_EQUAL(cudaMemset(at, 0, 32 * sizeof *at), cudaSuccess);
  return at;
}

static float element(const float *y, int i) {
  float value = -1;
  CU_ASSERT_EQUAL(cudaMemcpy(&value, y + i, sizeof value, cudaMemcpyDeviceToHost), cudaSuccess);
  return value;
}

/* What add(y, x) and a copy from `from` become when they are recorded. */
static cudaGraph_t recorded(cudaStream_t stream, float *y, float x, const float *from) {
  cudaGraph_t graph = nullptr;
  CU_ASSERT_EQUAL(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  if (from) cudaMemcpyAsync(y, from, 32 * sizeof *y, cudaMemcpyHostToDevice, stream);
  FL_LAUNCH(add, 1, 32, 0, stream, y, x);
  x = -1; /* kept by value */
  CU_ASSERT_EQUAL(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  return graph;
}

static void test_graphs_repeat_what_was_recorded() {
  float *y = zeros(), *pinned = nullptr;
  cudaStream_t stream = nullptr;
  cudaGraphExec_t ready = nullptr;
  cudaMallocHost(reinterpret_cast<void **>(&pinned), 32 * sizeof *pinned);
  cudaStreamCreate(&stream);
  cudaGraph_t graph = recorded(stream, y, 3, nullptr);
  CU_ASSERT_EQUAL(cudaGraphInstantiate(&ready, graph, 0), cudaSuccess);
  CU_ASSERT_EQUAL(cudaGraphDestroy(graph), cudaSuccess);
  CU_ASSERT_EQUAL(element(y, 0), 0);
  for (int i = 0; i < 3; i++) CU_ASSERT_EQUAL(cudaGraphLaunch(ready, stream), cudaSuccess);
  CU_ASSERT_EQUAL(element(y, 31), 9);
  CU_ASSERT_EQUAL(cudaGraphExecDestroy(ready), cudaSuccess);
  graph = recorded(stream, y, 3, pinned);
  CU_ASSERT_EQUAL(cudaGraphInstantiate(&ready, graph, 0), cudaSuccess);
  pinned[31] = 4; /* read when the graph runs */
  cudaGraphLaunch(ready, stream);
  CU_ASSERT_EQUAL(element(y, 31), 7);
  cudaGraphDestroy(graph);
  cudaGraphExecDestroy(ready);
  cudaStreamDestroy(stream);
  cudaFree(y);
  cudaFreeHost(pinned);
}

static void test_graphs_are_made_over() {
  float *y = zeros();
  cudaStream_t stream = nullptr;
  cudaGraphExec_t ready = nullptr;
  cudaGraphExecUpdateResultInfo why;
  fl_host_graphs before = fl_host_graphs_counted();
  cudaStreamCreate(&stream);
  cudaGraph_t one = recorded(stream, y, 1, nullptr), two = recorded(stream, y, 2, nullptr);
  CU_ASSERT_EQUAL(cudaGraphInstantiate(&ready, one, 0), cudaSuccess);
  cudaGraphLaunch(ready, stream);
  CU_ASSERT_EQUAL(cudaGraphExecUpdate(ready, two, &why), cudaSuccess);
  cudaGraphLaunch(ready, stream);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  cudaMemsetAsync(y, 0, sizeof *y, stream);
  cudaGraph_t other = nullptr;
  CU_ASSERT_EQUAL(cudaStreamEndCapture(stream, &other), cudaSuccess);
  CU_ASSERT_EQUAL(cudaGraphExecUpdate(ready, other, &why), cudaErrorGraphExecUpdateFailure);
  CU_ASSERT_EQUAL(cudaGetLastError(), cudaErrorGraphExecUpdateFailure);
  cudaGraphLaunch(ready, stream); /* is as it was */
  CU_ASSERT_EQUAL(element(y, 0), 5);
  fl_host_graphs after = fl_host_graphs_counted();
  CU_ASSERT_EQUAL(after.instantiated - before.instantiated, 1);
  CU_ASSERT_EQUAL(after.updated - before.updated, 1);
  CU_ASSERT_EQUAL(after.launched - before.launched, 3);
  for (cudaGraph_t graph : {one, two, other}) cudaGraphDestroy(graph);
  cudaGraphExecDestroy(ready);
  cudaStreamDestroy(stream);
  cudaFree(y);
}

/* Makes a call while a stream is recorded; it is refused, and the recording comes to nothing. */
template <class F>
static void forbidden(F call) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaStreamCreate(&stream);
  CU_ASSERT_EQUAL(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  CU_ASSERT_EQUAL(call(stream), cudaErrorStreamCaptureUnsupported);
  CU_ASSERT_EQUAL(cudaGetLastError(), cudaErrorStreamCaptureUnsupported);
  CU_ASSERT_EQUAL(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  CU_ASSERT_PTR_NULL(graph);
  CU_ASSERT_EQUAL(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
  CU_ASSERT_EQUAL(cudaStreamSynchronize(stream), cudaSuccess);
  cudaStreamDestroy(stream);
}

static void test_what_recording_forbids() {
  float *y = zeros(), here[32];
  void *never = nullptr;
  forbidden([](cudaStream_t stream) { return cudaStreamSynchronize(stream); });
  forbidden([](cudaStream_t) { return cudaDeviceSynchronize(); });
  forbidden([&](cudaStream_t) { return cudaMalloc(&never, 8); });
  forbidden([&](cudaStream_t) { return cudaFree(y); });
  forbidden([&](cudaStream_t stream) {
    return cudaMemcpyAsync(y, here, sizeof here, cudaMemcpyHostToDevice, stream);
  });
  forbidden([&](cudaStream_t stream) {
    return cudaMemcpyAsync(here, y, sizeof here, cudaMemcpyDeviceToHost, stream);
  });
  CU_ASSERT_PTR_NULL(never);
  CU_ASSERT_EQUAL(element(y, 0), 0);
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaStreamCreate(&stream);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  std::thread([&] {
    CU_ASSERT_EQUAL(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureWrongThread);
  }).join();
  CU_ASSERT_EQUAL(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  cudaFree(y);
}

static const fl_test tests[] = {
    {"graphs repeat what was recorded", test_graphs_repeat_what_was_recorded},
    {"graphs are made over", test_graphs_are_made_over},
    {"what recording forbids", test_what_recording_forbids},
};

FL_SUITE_MAIN("cuda_graphs", tests)
