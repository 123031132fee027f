#include "runtime.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "host_device.h"
#include "settings.h"

namespace fl_host {

static int from_environment(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text ? atoi(text) : otherwise;
}

static fl_host_settings first() {
  fl_host_settings s = {};
  s.devices = from_environment("FL_HOST_DEVICES", 2);
  s.lost_after = from_environment("FL_HOST_LOST_AFTER", 0);
  s.capability = 90;
  s.driver = CUDART_VERSION;
  s.memory = static_cast<int64_t>(4) << 30;
  s.nccl = true;
  s.nccl_version = 22304;
  s.reachable = true;
  s.cublas = from_environment("FL_HOST_NO_CUBLAS", 0) == 0;
  s.seed = 1;
  s.asan_guards = true;
  return s;
}
static fl_host_settings settings = first();

static device devices[FL_HOST_DEVICES_MAX];
static thread_local int current;
static thread_local cudaError_t last;
static thread_local std::vector<cudaStream_t> captures; /* the streams that this thread records */
static std::atomic<int64_t> instantiated, updated, launched;

static const struct {
  cudaError_t error;
  const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable",
     "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {cudaErrorGraphExecUpdateFailure, "cudaErrorGraphExecUpdateFailure",
     "the graph update was not performed because it included changes which violated constraints"},
};

cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorLaunchFailure) last = error; /* that one stays */
  return error;
}

int current_device() { return current; }
device &device_at(int index) { return devices[index]; }
bool capturing() { return !captures.empty(); }

cudaError_t forbid() {
  for (cudaStream_t stream : captures) stream->capture->spoilt = true;
  return note(cudaErrorStreamCaptureUnsupported);
}

cudaError_t check_device(int index) {
  int n;
  cudaError_t error = cudaGetDeviceCount(&n);
  if (error != cudaSuccess) return error;
  if (index < 0 || index >= n) return note(cudaErrorInvalidDevice);
  return note(devices[index].failed ? cudaErrorLaunchFailure : cudaSuccess);
}

cudaError_t submit(cudaStream_t stream, fl_host_work work, const void *kind) {
  int index = stream ? stream->device : current;
  cudaError_t error = check_device(index);
  if (error != cudaSuccess) return error;
  if (stream && stream->capture) {
    if (stream->capture->spoilt) return note(cudaErrorStreamCaptureInvalidated);
    stream->capture->work.push_back(std::move(work));
    stream->capture->kind.push_back(kind);
    return cudaSuccess;
  }
  std::lock_guard<std::recursive_mutex> hold(devices[index].lock);
  devices[index].queue.push_back(std::move(work));
  return cudaSuccess;
}

static cudaError_t fail(device &d) {
  d.failed = true;
  if (settings.on_fault)
    settings.on_fault(d.sentence);
  else
    fprintf(stderr, "cuda-on-host: %s\n", d.sentence);
  return note(cudaErrorLaunchFailure);
}

cudaError_t drain(int index, bool wait) {
  cudaError_t error = check_device(index);
  if (error != cudaSuccess) return error;
  if (capturing()) return forbid();
  device &d = devices[index];
  std::lock_guard<std::recursive_mutex> hold(d.lock);
  std::vector<fl_host_work> queue = std::exchange(d.queue, {});
  for (auto work = queue.begin(); work != queue.end(); ++work) {
    try {
      if (!(*work)(d.sentence, sizeof d.sentence)) return fail(d);
    } catch (const not_yet &) {
      d.queue.insert(d.queue.begin(), work, queue.end());
      if (!wait) return cudaErrorNotReady;
      snprintf(d.sentence, sizeof d.sentence, "device %d waits for others that never come", index);
      return fail(d);
    }
  }
  return cudaSuccess;
}

bool lose_device() {
  static std::mutex lock;
  std::lock_guard<std::mutex> hold(lock);
  return settings.lost_after > 0 && --settings.lost_after == 0;
}

/* --- launches ------------------------------------------------------------------------------ */
constexpr size_t shared_plain = 48 * 1024;

static size_t shared_most() {
  int capability = settings.capability;
  size_t kib = capability >= 90 ? 227 : capability == 80 ? 163 : 99;
  return kib * 1024;
}

/* What cudaFuncSetAttribute allowed each kernel on each device. */
static std::mutex allowed_lock;
static std::map<std::pair<int, const void *>, size_t> allowed;

void queue_fault(const char *kernel, const char *why, cudaStream_t stream) {
  auto fault = [kernel, why](char *sentence, size_t size) {
    snprintf(sentence, size, "%s: %s", kernel, why);
    return false;
  };
  submit(stream, fault, kernel);
}

/* A launch whose turn has come: the device may be lost before it. */
static bool run_launch(const launch &what, char *sentence, size_t size) {
  if (!lose_device()) return run_grid(what, sentence, size);
  snprintf(sentence, size, "%s: the device was lost", what.kernel);
  return false;
}

void queue_launch(launch what, const void *kernel, size_t parameters, cudaStream_t stream) {
  dim3 g = what.grid, b = what.block;
  uint64_t threads = static_cast<uint64_t>(b.x) * b.y * b.z;
  bool fits = b.x <= 1024 && b.y <= 1024 && b.z <= 64 && threads >= 1 && threads <= 1024 &&
              g.x >= 1 && g.x <= 0x7FFFFFFF && g.y >= 1 && g.y <= 65535 && g.z >= 1 && g.z <= 65535;
  size_t dynamic = shared_plain;
  what.most = shared_plain;
  {
    std::lock_guard<std::mutex> hold(allowed_lock);
    auto found = allowed.find({stream ? stream->device : current, kernel});
    if (found != allowed.end()) {
      dynamic = found->second;
      what.most = shared_most();
    }
  }
  if (!fits) {
    note(cudaErrorInvalidConfiguration);
  } else if (parameters > 4096 || what.shared > dynamic) {
    note(cudaErrorInvalidValue);
  } else {
    auto work = [what](char *sentence, size_t size) { return run_launch(what, sentence, size); };
    submit(stream, work, kernel);
  }
}

}  // namespace fl_host

using namespace fl_host;

extern "C" fl_host_settings *fl_host_set(void) { return &settings; }
extern "C" void fl_host_defaults(void) { settings = first(); }

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute which, int bytes) {
  if (which != cudaFuncAttributeMaxDynamicSharedMemorySize || bytes < 0 ||
      static_cast<size_t>(bytes) > shared_most())
    return note(cudaErrorInvalidValue);
  std::lock_guard<std::mutex> hold(allowed_lock);
  allowed[{current, kernel}] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

/* --- errors and devices -------------------------------------------------------------------- */
const char *cudaGetErrorString(cudaError_t error) {
  device &d = devices[current];
  if (error == cudaErrorLaunchFailure && d.failed) return d.sentence;
  for (const auto &e : errors)
    if (e.error == error) return e.text;
  return "unrecognized error code";
}

const char *cudaGetErrorName(cudaError_t error) {
  for (const auto &e : errors)
    if (e.error == error) return e.name;
  return "unrecognized error code";
}

cudaError_t cudaGetLastError() {
  cudaError_t error = cudaPeekAtLastError();
  last = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  return devices[current].failed ? cudaErrorLaunchFailure : last;
}

cudaError_t cudaDriverGetVersion(int *version) {
  *version = settings.driver;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n) {
  *n = 0;
  if (settings.driver / 1000 < CUDART_VERSION / 1000) return note(cudaErrorInsufficientDriver);
  if (settings.devices < 1) return note(cudaErrorNoDevice);
  *n = settings.devices < FL_HOST_DEVICES_MAX ? settings.devices : FL_HOST_DEVICES_MAX;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int index) {
  cudaError_t error = check_device(index);
  if (error == cudaSuccess && index < settings.busy) error = note(cudaErrorDevicesUnavailable);
  if (error == cudaSuccess || error == cudaErrorLaunchFailure) current = index;
  return error;
}

cudaError_t cudaGetDevice(int *index) {
  *index = current;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int index) {
  cudaError_t error = check_device(index);
  if (error != cudaSuccess) return error;
  *out = cudaDeviceProp();
  snprintf(out->name, sizeof out->name, "pretend device %d", index);
  out->totalGlobalMem = static_cast<size_t>(settings.memory);
  out->sharedMemPerBlock = shared_plain;
  out->sharedMemPerBlockOptin = shared_most();
  out->major = settings.capability / 10;
  out->minor = settings.capability % 10;
  out->multiProcessorCount = 4;
  out->l2CacheSize = 1 << 20;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *out, cudaDeviceAttr which, int index) {
  cudaDeviceProp p;
  cudaError_t error = cudaGetDeviceProperties(&p, index);
  if (error != cudaSuccess) return error;
  switch (which) {
    case cudaDevAttrMultiProcessorCount:
      *out = p.multiProcessorCount;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *out = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *out = p.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *out = static_cast<int>(p.sharedMemPerBlockOptin);
      break;
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *out, int size, int index) {
  cudaError_t error = check_device(index);
  if (error != cudaSuccess) return error;
  if (size < 13) return note(cudaErrorInvalidValue);
  snprintf(out, static_cast<size_t>(size), "0000:%02x:00.0", static_cast<unsigned>(index + 1));
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() { return drain(current); }

static void reset(device &d) {
  std::lock_guard<std::recursive_mutex> hold(d.lock);
  d.failed = false;
  d.queue.clear();
  last = cudaSuccess;
}

cudaError_t cudaDeviceReset() {
  reset(devices[current]);
  return cudaSuccess;
}

extern "C" void fl_host_revive(void) {
  for (device &d : devices) reset(d);
}

/* --- streams, events, graphs --------------------------------------------------------------- */
struct fl_host_event {
  int device;
  std::chrono::steady_clock::time_point at;
};

cudaError_t cudaStreamCreate(cudaStream_t *out) { return cudaStreamCreateWithFlags(out, 0); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) {
  cudaError_t error = check_device(current);
  if (error == cudaSuccess) *out = new fl_host_stream{current, nullptr};
  return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return drain(stream ? stream->device : current);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return drain(stream ? stream->device : current, false);
}

/* Queues run in the order of the calls, so on one device there is nothing to wait for; another
 * device's queue is run first. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  int index = stream ? stream->device : current;
  return event->device == index ? check_device(index) : drain(event->device);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (!stream) return note(cudaErrorInvalidResourceHandle);
  cudaError_t error = drain(stream->device);
  delete stream;
  return error;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
  cudaError_t error = check_device(current);
  if (error == cudaSuccess) *out = new fl_host_event{current, {}};
  return error;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  auto work = [event](char *, size_t) {
    event->at = std::chrono::steady_clock::now();
    return true;
  };
  return submit(stream, work, &captures);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) { return drain(event->device); }

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
  std::chrono::duration<float, std::milli> time = to->at - from->at;
  *milliseconds = time.count();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  cudaError_t error = drain(event->device);
  delete event;
  return error;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (!stream || stream->capture) return note(cudaErrorInvalidValue);
  cudaError_t error = check_device(stream->device);
  if (error != cudaSuccess) return error;
  stream->capture = new fl_host_graph;
  captures.push_back(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
  if (!stream || !stream->capture) return note(cudaErrorInvalidValue);
  auto mine = std::find(captures.begin(), captures.end(), stream);
  if (mine == captures.end()) return note(cudaErrorStreamCaptureWrongThread);
  captures.erase(mine);
  *out = std::exchange(stream->capture, nullptr);
  if (!(*out)->spoilt) return cudaSuccess;
  delete std::exchange(*out, nullptr);
  return note(cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
  if (!graph) return note(cudaErrorInvalidValue);
  *out = new fl_host_graph(*graph);
  instantiated++;
  return cudaSuccess;
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t ready, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo *why) {
  if (!ready || !graph) return note(cudaErrorInvalidValue);
  why->result = ready->kind != graph->kind;
  if (why->result) return note(cudaErrorGraphExecUpdateFailure);
  ready->work = graph->work;
  updated++;
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  if (!graph) return note(cudaErrorInvalidValue);
  launched++;
  for (size_t i = 0; i < graph->work.size(); i++) {
    cudaError_t error = submit(stream, graph->work[i], graph->kind[i]);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return cudaGraphDestroy(graph); }

extern "C" fl_host_graphs fl_host_graphs_counted(void) { return {instantiated, updated, launched}; }
