/* The runtime calls that the backend uses, with CUDA's names, numbers and manners: launches and
 * asynchronous copies wait in their device's queue, in the order of the calls, and run when
 * somebody synchronises. What a host that forgets to synchronise reads is therefore old. */
#ifndef FL_HOST_RUNTIME_H
#define FL_HOST_RUNTIME_H

#include <cstddef>
#include <functional>
#include <tuple>

#include "machine.h"
#include "types.h"

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInitializationError = 3,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureWrongThread = 908,
  cudaErrorGraphExecUpdateFailure = 910,
};

typedef struct fl_host_stream *cudaStream_t;
typedef struct fl_host_event *cudaEvent_t;
typedef struct fl_host_graph *cudaGraph_t;
typedef struct fl_host_graph *cudaGraphExec_t;

enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2,
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
#define CUDART_VERSION 13000

struct cudaGraphExecUpdateResultInfo {
  int result;
};

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin;
  int major, minor, multiProcessorCount, l2CacheSize;
};

const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device);
cudaError_t cudaDeviceGetAttribute(int *out, cudaDeviceAttr which, int device);
/* "0000:hh:00.0" with the device's number and 1 as hh. */
cudaError_t cudaDeviceGetPCIBusId(char *out, int size, int device);
cudaError_t cudaDeviceSynchronize();
/* Clears the fault of the current device and forgets what is queued; memory stays allocated. */
cudaError_t cudaDeviceReset();

cudaError_t cudaMemGetInfo(size_t *left, size_t *total);
cudaError_t cudaMalloc(void **at, size_t bytes);
cudaError_t cudaFree(void *at);
cudaError_t cudaMallocHost(void **at, size_t bytes);
cudaError_t cudaFreeHost(void *at);
cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
/* The one copy between the memories of two devices. */
cudaError_t cudaMemcpyPeerAsync(void *dst, int dst_device, const void *src, int src_device,
                                size_t bytes, cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void *at, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t stream = nullptr);

cudaError_t cudaStreamCreate(cudaStream_t *out);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
/* Runs what is queued, as time would, but for what waits for another device. */
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaEventCreate(cudaEvent_t *out);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaEventDestroy(cudaEvent_t event);

/* Every mode is taken as cudaStreamCaptureModeThreadLocal: what the driver may refuse while the
 * calling thread captures is refused, and spoils its captures. */
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph,
                                 unsigned long long flags = 0);
/* Fits when both graphs have the same calls in the same order; parameters may differ. */
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t ready, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo *why);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute which, int value);

/* In place of dlopen and dlsym: the one library is NCCL's (nccl.h). */
void *fl_library_open(const char *file);
void *fl_library_symbol(void *library, const char *name);

namespace fl_host {

/* Whether one of the words at `at` is an address in the memory of a device but the stream's, which
 * a kernel there cannot read. */
bool names_elsewhere(const void *at, size_t bytes, cudaStream_t stream);

/* Checks the limits of a launch and puts it into the queue; errors wait in cudaGetLastError. */
void queue_launch(launch what, const void *kernel, size_t parameters, cudaStream_t stream);
/* In place of a launch: the device faults when its turn comes. */
void queue_fault(const char *kernel, const char *why, cudaStream_t stream);

/* A launch of kernel(args...): the arguments are copied now, as they are by CUDA. */
template <class... P, class... A>
void queue_kernel(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                  cudaStream_t stream, A &&...args) {
  std::tuple<P...> kept(static_cast<P>(std::forward<A>(args))...);
  launch what = {name, grid, block, shared, 0, [kernel, kept] { std::apply(kernel, kept); }};
  size_t parameters = (sizeof(P) + ... + 0);
  bool elsewhere = std::apply(
      [=](const P &...p) { return (names_elsewhere(&p, sizeof p, stream) || ... || false); }, kept);
  if (elsewhere) return queue_fault(name, "a parameter points to another device's memory", stream);
  queue_launch(std::move(what), reinterpret_cast<const void *>(kernel), parameters, stream);
}

}  // namespace fl_host

template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute which, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), which, value);
}

template <class T>
cudaError_t cudaMalloc(T **at, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void **>(at), bytes);
}

#endif
