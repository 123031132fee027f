/* What the files of the runtime share: a pretend device, its queue and its memory. */
#ifndef FL_HOST_DEVICE_H
#define FL_HOST_DEVICE_H

#include <atomic>
#include <functional>
#include <mutex>
#include <vector>

#include "runtime.h"

enum { FL_HOST_DEVICES_MAX = 16 };

/* Work that waits: returns false when it faults, having written the sentence. */
using fl_host_work = std::function<bool(char *sentence, size_t size)>;

struct fl_host_graph {
  std::vector<fl_host_work> work;
  std::vector<const void *> kind; /* of each: the kernel, or where a copy or a fill is made */
  bool spoilt = false;            /* by a call that capture forbids */
};

struct fl_host_stream {
  int device;
  fl_host_graph *capture; /* where calls are recorded; NULL: they are queued */
};

namespace fl_host {

struct device {
  std::recursive_mutex lock;
  std::vector<fl_host_work> queue;
  size_t used = 0; /* bytes allocated */
  std::atomic<bool> failed{false};
  char sentence[640] = "";
};

/* Keeps an error for cudaGetLastError. */
cudaError_t note(cudaError_t error);
/* Whether there is a driver, a device of this number and no fault on it. */
cudaError_t check_device(int index);
int current_device();
device &device_at(int index);
/* Queues or records work; stream NULL: the current device's. kind tells it from other work. */
cudaError_t submit(cudaStream_t stream, fl_host_work work, const void *kind);
/* Thrown by work that waits for another device: it stays in the queue, with all behind it. */
struct not_yet {};
/* Runs all that is queued. Work that stays waiting is a fault when the caller waits for it, and
 * cudaErrorNotReady when he does not. */
cudaError_t drain(int index, bool wait = true);
/* Counts a launch: whether this is the one at which its device is lost. */
bool lose_device();
/* Whether all of at[0 .. bytes-1] is memory of that device. */
bool is_memory_of(int device, const void *at, size_t bytes);
/* Whether calls of this thread are being recorded. */
bool capturing();
/* The error of a call that may not come while they are; its recordings are spoilt. */
cudaError_t forbid();

}  // namespace fl_host
#endif
