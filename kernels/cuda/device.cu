#include <stdlib.h>

#include "cuda.h"

enum { OLDEST = 8 }; /* least major compute capability: tf32 and asynchronous copies */

fl_status fl_cuda_status(cudaError_t error, const char *doing) {
  if (error == cudaSuccess) return FEDLANE_OK;
  (void)cudaGetLastError(); /* a failure that the device survives is not reported twice */
  fl_status status = error == cudaErrorMemoryAllocation ? FEDLANE_MEMORY : FEDLANE_DEVICE;
  int index = 0;
  (void)cudaGetDevice(&index);
  return fl_fail(status, "GPU %d failed while %s: %s", index, doing, cudaGetErrorString(error));
}

fl_status fl_cuda_enter(const fl_dev *d) {
  cudaError_t error = cudaSetDevice(d->index);
  if (error == cudaSuccess) return FEDLANE_OK;
  (void)cudaGetLastError();
  return fl_fail(FEDLANE_DEVICE, "GPU %d failed: %s", d->index, cudaGetErrorString(error));
}

static int capability(int index) {
  int major = 0;
  cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
  return error == cudaSuccess ? major : 0;
}

int fl_cuda_count(const char **why) {
  int n = 0, driver = 0;
  cudaError_t error = cudaGetDeviceCount(&n);
  if (error != cudaSuccess || n == 0) {
    (void)cudaGetLastError();
    bool none = cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0;
    *why = none ? "no NVIDIA driver is installed"
           : error == cudaErrorInsufficientDriver
               ? "the NVIDIA driver is older than this build of fedlane needs"
           : error == cudaSuccess || error == cudaErrorNoDevice ? "no NVIDIA GPU is visible"
                                                                : cudaGetErrorString(error);
    return 0;
  }
  for (int i = 0; i < n; i++)
    if (capability(i) >= OLDEST) return n;
  *why = "no GPU here has compute capability 8.0 (Ampere) or newer";
  return 0;
}

static fl_status check(int index) {
  const char *why = "";
  int n = fl_cuda_count(&why);
  if (n == 0) return fl_fail(FEDLANE_DEVICE, "no GPU can be opened: %s", why);
  if (index < 0 || index >= n)
    return fl_fail(FEDLANE_DEVICE, "there is no GPU %d; this machine has 0 .. %d", index, n - 1);
  if (capability(index) < OLDEST)
    return fl_fail(FEDLANE_DEVICE,
                   "GPU %d has compute capability %d.x; fedlane needs 8.0 (Ampere) or newer", index,
                   capability(index));
  return FEDLANE_OK;
}

static fl_status prepare(fl_dev *d) {
  void *workspace = NULL;
  char bus[32];
  FL_TRY(fl_cuda_enter(d));
  FL_CUDA(cudaDeviceGetAttribute(&d->sm_count, cudaDevAttrMultiProcessorCount, d->index),
          "its multiprocessors were counted");
  FL_CUDA(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking), "it was opened");
  FL_CUDA(cudaMalloc(&workspace, FL_WORKSPACE), "its workspace was allocated");
  d->workspace = (float *)workspace;
  if (cudaDeviceGetPCIBusId(bus, sizeof bus, d->index) == cudaSuccess)
    fl_meter_open(NULL, bus, &d->meter);
  return FEDLANE_OK;
}

fl_status fl_cuda_open(const fl_dev_options *options, fl_dev **out) {
  FL_TRY(check(options->index));
  fl_dev *d = (fl_dev *)calloc(1, sizeof *d);
  if (!d) return fl_fail(FEDLANE_MEMORY, "no memory for a cuda device");
  d->index = options->index;
  d->precision = (fl_precision)options->precision;
  fl_status status = prepare(d);
  if (status != FEDLANE_OK) fl_cuda_close(&d);
  *out = d;
  return status;
}

void fl_cuda_close(fl_dev **dev) {
  if (!dev || !*dev) return;
  fl_dev *d = *dev;
  fl_cuda_peers_close(d);
  (void)cudaSetDevice(d->index);
  fl_cuda_forget(d);
  fl_meter_close(&d->meter);
  if (d->workspace) (void)cudaFree(d->workspace);
  if (d->stream) (void)cudaStreamDestroy(d->stream);
  free(d);
  *dev = NULL;
}

/* What the driver and the libraries may still want: 256 MiB and a thirty-second of the memory. */
fl_status fl_cuda_room(fl_dev *d, int64_t *bytes) {
  size_t left = 0, all = 0;
  FL_TRY(fl_cuda_enter(d));
  FL_CUDA(cudaMemGetInfo(&left, &all), "its free memory was asked for");
  int64_t room = (int64_t)left - (int64_t)(all / 32) - ((int64_t)256 << 20);
  *bytes = room > 0 ? room : 0;
  return FEDLANE_OK;
}

fl_status fl_cuda_alloc(fl_dev *d, int64_t bytes, void **out) {
  FL_TRY(fl_cuda_enter(d));
  cudaError_t error = cudaErrorMemoryAllocation;
  if (bytes >= 0) error = cudaMalloc(out, bytes > 0 ? (size_t)bytes : 64);
  if (error != cudaErrorMemoryAllocation) return fl_cuda_status(error, "memory was allocated");
  (void)cudaGetLastError();
  return fl_fail(FEDLANE_MEMORY, "no %lld bytes of memory left on GPU %d", (long long)bytes,
                 d->index);
}

void fl_cuda_release(fl_dev *d, void **at) {
  if (!at || !*at) return;
  (void)cudaSetDevice(d->index);
  (void)cudaFree(*at);
  *at = NULL;
}

/* A copy from pageable memory is staged before the call returns, so src may be reused. */
fl_status fl_cuda_upload(fl_dev *d, void *dst, const void *src, int64_t bytes) {
  if (bytes <= 0) return FEDLANE_OK;
  FL_TRY(fl_cuda_enter(d));
  return fl_cuda_status(cudaMemcpyAsync(dst, src, (size_t)bytes, cudaMemcpyHostToDevice, d->stream),
                        "data were copied to it");
}

fl_status fl_cuda_download(fl_dev *d, void *dst, const void *src, int64_t bytes) {
  if (bytes <= 0) return FEDLANE_OK;
  FL_TRY(fl_cuda_enter(d));
  FL_CUDA(cudaMemcpyAsync(dst, src, (size_t)bytes, cudaMemcpyDeviceToHost, d->stream),
          "results were copied from it");
  return fl_cuda_sync(d);
}

fl_status fl_cuda_sync(fl_dev *d) {
  FL_TRY(fl_cuda_enter(d));
  return fl_cuda_status(cudaStreamSynchronize(d->stream), "it worked on what was queued");
}
