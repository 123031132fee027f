#include "nccl_pair.h"

#include <cstring>
#include <map>
#include <string>

#include "host_device.h"
#include "settings.h"

using namespace fl_host;

struct transfer {
  bool send;
  void *at;
  size_t n;
  bool hung = false, done = false;
};

struct fl_host_pair {
  std::mutex lock;
  int device[2] = {-1, -1};
  bool aborted[2] = {false, false};
  bool asked[2] = {true, true};      /* somebody has looked at the state since the last call */
  std::shared_ptr<transfer> here[2]; /* to which a rank's device has come */
};

static std::mutex lock;
static std::map<std::string, std::shared_ptr<fl_host_pair>> pairs;

static std::string key(const ncclUniqueId &id) { return std::string(id.internal, sizeof id); }

ncclResult_t fl_host_pair_make(ncclUniqueId *id) {
  static uint64_t made;
  std::lock_guard<std::mutex> hold(lock);
  memset(id, 0x5A, sizeof *id);
  made++;
  memcpy(id->internal, &made, sizeof made);
  pairs[key(*id)] = std::make_shared<fl_host_pair>();
  return ncclSuccess;
}

std::shared_ptr<fl_host_pair> fl_host_pair_of(const ncclUniqueId &id) {
  std::lock_guard<std::mutex> hold(lock);
  auto found = pairs.find(key(id));
  return found == pairs.end() ? nullptr : found->second;
}

ncclResult_t fl_host_pair_join(fl_host_pair &p, int rank, int device) {
  std::lock_guard<std::mutex> hold(p.lock);
  if (check_device(device) != cudaSuccess) return ncclUnhandledCudaError;
  if (p.device[rank] >= 0 || p.device[1 - rank] == device) return ncclInvalidUsage;
  p.device[rank] = device;
  return ncclInProgress;
}

ncclResult_t fl_host_pair_state(fl_host_pair &p, int rank) {
  std::lock_guard<std::mutex> hold(p.lock);
  bool passed_on = p.asked[rank];
  p.asked[rank] = true;
  if (p.aborted[1 - rank]) return ncclRemoteError;
  if (p.device[0] < 0 || p.device[1] < 0 || !fl_host_set()->reachable) return ncclInProgress;
  return passed_on ? ncclSuccess : ncclInProgress;
}

void fl_host_pair_abort(fl_host_pair &p, int rank) {
  std::lock_guard<std::mutex> hold(p.lock);
  p.aborted[rank] = true;
  p.here[rank] = nullptr;
}

/* The device of a rank has come to a transfer. false: the two sides ask for different things. */
static bool meet(fl_host_pair &p, int rank, const std::shared_ptr<transfer> &mine) {
  std::lock_guard<std::mutex> hold(p.lock);
  if (p.aborted[rank] || mine->done) return true;
  if (mine->hung) throw not_yet();
  p.here[rank] = mine;
  std::shared_ptr<transfer> other = p.here[1 - rank];
  if (!other) throw not_yet();
  if (other->send == mine->send || other->n != mine->n) return false;
  memcpy(mine->send ? other->at : mine->at, mine->send ? mine->at : other->at, mine->n);
  mine->done = other->done = true;
  p.here[0] = p.here[1] = nullptr;
  return true;
}

/* Counts a send: whether this is the one that never leaves. */
static bool hangs(bool send) {
  static std::mutex counting;
  std::lock_guard<std::mutex> hold(counting);
  return send && fl_host_set()->hung_after > 0 && --fl_host_set()->hung_after == 0;
}

ncclResult_t fl_host_pair_move(const std::shared_ptr<fl_host_pair> &pair, int rank, bool send,
                               void *at, size_t n, cudaStream_t stream) {
  ncclResult_t state = fl_host_pair_state(*pair, rank);
  if (state != ncclSuccess) return state == ncclInProgress ? ncclInvalidUsage : state;
  if (stream->device != pair->device[rank] || !is_memory_of(stream->device, at, n))
    return ncclInvalidArgument;
  auto mine = std::make_shared<transfer>(transfer{send, at, n});
  mine->hung = hangs(send);
  pair->asked[rank] = false;
  if (lose_device()) {
    queue_fault("NCCL", "the device was lost", stream);
    return ncclInProgress;
  }
  auto work = [pair, rank, mine](char *sentence, size_t size) {
    if (meet(*pair, rank, mine)) return true;
    snprintf(sentence, size, "NCCL: the other rank asks for something else");
    return false;
  };
  return submit(stream, work, &pairs) == cudaSuccess ? ncclInProgress : ncclUnhandledCudaError;
}
