/* NCCL by plain loops: a collective is an item of each device's queue. Whoever comes to it first
 * has the other queues run up to it, and the last to come does the work for all. When one of them
 * never comes, the others wait for ever, as on GPUs, until their communicators are aborted. */
#include "nccl.h"

#include <cstring>
#include <memory>

#include "host_device.h"
#include "nccl_pair.h"
#include "settings.h"

using namespace fl_host;

struct team {
  std::vector<int> device; /* of each rank */
  bool aborted = false;
};

struct ncclComm {
  int rank;
  std::shared_ptr<team> all;
  std::shared_ptr<fl_host_pair> two; /* of ncclCommInitRankConfig; else NULL */
};

/* What one rank asked for. */
struct call {
  std::shared_ptr<team> all;
  int rank;
  bool sum;
  const void *from;
  void *to;
  size_t n;
  int root;
  cudaStream_t stream;
};

struct collective {
  std::vector<call> rank; /* what each rank asked for */
  std::vector<char> here; /* ranks whose device has come to it */
  bool done = false;
};

static thread_local int depth;
static thread_local std::vector<call> asked;

static void compute(const std::vector<call> &calls) {
  const call &root = calls[static_cast<size_t>(calls[0].root)];
  if (!root.sum) {
    for (const call &c : calls) memmove(c.to, root.from, root.n * sizeof(float));
    return;
  }
  std::vector<uint64_t> total(root.n);
  for (const call &c : calls)
    for (size_t i = 0; i < root.n; i++) total[i] += static_cast<const uint64_t *>(c.from)[i];
  memcpy(root.to, total.data(), root.n * sizeof total[0]);
}

/* Rank r's device has come to the collective. */
static bool arrive(collective &c, size_t r) {
  const team &all = *c.rank[r].all;
  c.here[r] = true;
  for (size_t k = 0; k < c.here.size(); k++)
    if (!c.here[k] && !all.aborted && !c.done) drain(all.device[k], false);
  for (char is_here : c.here)
    if (!is_here && !all.aborted) throw not_yet();
  if (!c.done && !all.aborted) compute(c.rank);
  c.done = true;
  return true;
}

/* All ranks of one communicator must have asked for the same; NCCL itself would wait for ever. */
static bool agree(const std::vector<call> &calls) {
  if (calls.size() != calls[0].all->device.size()) return false;
  for (size_t r = 0; r < calls.size(); r++) {
    const call &c = calls[r], &first = calls[0];
    if (c.all != first.all || c.rank != static_cast<int>(r) || c.sum != first.sum ||
        c.n != first.n || c.root != first.root || c.stream->device != c.all->device[r])
      return false;
  }
  return true;
}

static ncclResult_t ask(const call &mine) {
  size_t bytes = mine.n * (mine.sum ? sizeof(int64_t) : sizeof(float));
  int device = mine.all->device[static_cast<size_t>(mine.rank)];
  if (!is_memory_of(device, mine.from, bytes) || !is_memory_of(device, mine.to, bytes))
    return ncclInvalidArgument;
  if (depth == 0) return ncclInvalidUsage; /* the first of several ranks would wait for ever */
  asked.push_back(mine);
  return ncclSuccess;
}

ncclResult_t ncclCommInitAll(ncclComm_t *comm, int n, const int *device) {
  auto all = std::make_shared<team>();
  for (int r = 0; r < n; r++) {
    if (check_device(device[r]) != cudaSuccess) return ncclUnhandledCudaError;
    for (int known : all->device)
      if (known == device[r]) return ncclInvalidUsage;
    all->device.push_back(device[r]);
  }
  for (int r = 0; r < n; r++) comm[r] = new ncclComm{r, all, nullptr};
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm->two)
    fl_host_pair_abort(*comm->two, comm->rank);
  else
    comm->all->aborted = true;
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
  *error = comm->two ? fl_host_pair_state(*comm->two, comm->rank) : ncclSuccess;
  return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
  return result == ncclSuccess           ? "no error"
         : result == ncclInvalidArgument ? "invalid argument"
         : result == ncclInvalidUsage    ? "invalid usage"
         : result == ncclRemoteError     ? "remote process exited or there was a network error"
                                         : "unhandled cuda error";
}

ncclResult_t ncclGroupStart() {
  depth++;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--depth > 0 || asked.empty()) return ncclSuccess;
  auto c = std::make_shared<collective>();
  c->rank.swap(asked);
  c->here.resize(c->rank.size());
  if (!agree(c->rank)) return ncclInvalidUsage;
  for (size_t r = 0; r < c->rank.size(); r++) {
    cudaStream_t stream = c->rank[r].stream;
    if (lose_device())
      queue_fault("NCCL", "the device was lost", stream);
    else if (submit(
                 stream, [c, r](char *, size_t) { return arrive(*c, r); }, &depth) != cudaSuccess)
      return ncclUnhandledCudaError;
  }
  return ncclSuccess;
}

ncclResult_t ncclReduce(const void *from, void *to, size_t n, ncclDataType_t type, ncclRedOp_t,
                        int root, ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclInt64) return ncclInvalidArgument; /* a sum of floats would depend on its order */
  return ask({comm->all, comm->rank, true, from, to, n, root, stream});
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t n, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclFloat32) return ncclInvalidArgument;
  return ask({comm->all, comm->rank, false, from, to, n, root, stream});
}

/* --- ranks that know nothing of each other --------------------------------------------------- */
ncclResult_t ncclGetVersion(int *version) {
  *version = fl_host_set()->nccl_version;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) { return fl_host_pair_make(id); }

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int n, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
  std::shared_ptr<fl_host_pair> two = fl_host_pair_of(id);
  if (n != 2 || rank < 0 || rank > 1 || config->blocking || !two) return ncclInvalidUsage;
  ncclResult_t joined = fl_host_pair_join(*two, rank, current_device());
  *comm = joined == ncclInProgress ? new ncclComm{rank, nullptr, two} : nullptr;
  return joined;
}

ncclResult_t ncclSend(const void *from, size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  if (type != ncclInt8 || !comm->two || peer != 1 - comm->rank) return ncclInvalidArgument;
  return fl_host_pair_move(comm->two, comm->rank, true, const_cast<void *>(from), n, stream);
}

ncclResult_t ncclRecv(void *to, size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  if (type != ncclInt8 || !comm->two || peer != 1 - comm->rank) return ncclInvalidArgument;
  return fl_host_pair_move(comm->two, comm->rank, false, to, n, stream);
}
