/* Vectors that go from one device to the others, and sums that come together on the first: by NCCL
 * where libnccl.so.2 can be loaded and the build knew its header, else by copies from device to
 * device. Integers add up to the same bits either way. */
#include <sched.h>
#include <stdlib.h>

#include "cuda.h"
#include "nccl_library.h"

#ifdef WITH_NCCL
/* NCCL's functions and the communicators of some devices, kept by the first of them. */
struct fl_peers {
  decltype(&ncclCommInitAll) open;
  decltype(&ncclCommAbort) abort;
  decltype(&ncclCommGetAsyncError) trouble;
  decltype(&ncclGroupStart) start;
  decltype(&ncclGroupEnd) end;
  decltype(&ncclReduce) reduce;
  decltype(&ncclBroadcast) broadcast;
  decltype(&ncclGetErrorString) explain;
  bool ready; /* else copies do the work */
  int n;
  int index[FL_PEERS_MAX]; /* of each device */
  ncclComm_t comm[FL_PEERS_MAX];
};

static bool load(fl_peers *p) {
  void *library = fl_nccl_open();
  return library && fl_nccl_find(library, "ncclCommInitAll", &p->open) &&
         fl_nccl_find(library, "ncclCommAbort", &p->abort) &&
         fl_nccl_find(library, "ncclCommGetAsyncError", &p->trouble) &&
         fl_nccl_find(library, "ncclGroupStart", &p->start) &&
         fl_nccl_find(library, "ncclGroupEnd", &p->end) &&
         fl_nccl_find(library, "ncclReduce", &p->reduce) &&
         fl_nccl_find(library, "ncclBroadcast", &p->broadcast) &&
         fl_nccl_find(library, "ncclGetErrorString", &p->explain);
}

/* An abort, unlike NCCL's own end, does not wait for a device that no longer answers; nothing else
 * is under way here. */
void fl_cuda_peers_close(fl_dev *d) {
  fl_peers *p = d->peers;
  d->peers = NULL;
  if (p && p->ready) {
    (void)p->start();
    for (int k = 0; k < p->n; k++) (void)p->abort(p->comm[k]);
    (void)p->end();
  }
  free(p);
}

static bool joins(const fl_peers *p, int n_dev, fl_dev *const *dev) {
  bool same = p && p->n == n_dev;
  for (int k = 0; same && k < n_dev; k++) same = p->index[k] == dev[k]->index;
  return same;
}

/* The communicators of these devices, made at the first call; NULL where there is no NCCL. */
static fl_peers *peers_of(int n_dev, fl_dev *const *dev) {
  if (!joins(dev[0]->peers, n_dev, dev)) {
    fl_cuda_peers_close(dev[0]);
    fl_peers *p = n_dev <= FL_PEERS_MAX ? (fl_peers *)calloc(1, sizeof *p) : NULL;
    if (!p) return NULL;
    p->n = n_dev;
    for (int k = 0; k < n_dev; k++) p->index[k] = dev[k]->index;
    p->ready = load(p) && p->open(p->comm, n_dev, p->index) == ncclSuccess;
    dev[0]->peers = p;
  }
  return dev[0]->peers->ready ? dev[0]->peers : NULL;
}

static fl_status answer(const fl_peers *p, ncclResult_t result) {
  if (result == ncclSuccess || result == ncclInProgress) return FEDLANE_OK;
  return fl_fail(FEDLANE_DEVICE, "NCCL failed between %d GPUs: %s", p->n, p->explain(result));
}

/* Looks at one device: its error, NCCL's, or whether it is still at work. */
static fl_status look(const fl_peers *p, int k, const fl_dev *d, bool *busy) {
  ncclResult_t trouble = ncclSuccess;
  FL_TRY(fl_cuda_enter(d));
  cudaError_t error = cudaStreamQuery(d->stream);
  if (error == cudaErrorNotReady) {
    *busy = true;
    (void)cudaGetLastError();
    FL_TRY(answer(p, p->trouble(p->comm[k], &trouble)));
    return answer(p, trouble);
  }
  return fl_cuda_status(error, "it exchanged vectors with the others");
}

/* Waits for all devices in turn, since one that fails leaves the others waiting for ever. */
static fl_status wait(const fl_peers *p, fl_dev *const *dev) {
  for (bool busy = true; busy;) {
    busy = false;
    for (int k = 0; k < p->n; k++) FL_TRY(look(p, k, dev[k], &busy));
    if (busy) sched_yield();
  }
  return FEDLANE_OK;
}

/* x[0] = the sum of all, or all = x[0]; returns when it is done. */
static fl_status together(const fl_peers *p, fl_dev *const *dev, size_t n, void *const *x,
                          bool sum) {
  ncclResult_t result = p->start();
  for (int k = 0; k < p->n && result == ncclSuccess; k++)
    result = sum ? p->reduce(x[k], x[k], n, ncclInt64, ncclSum, 0, p->comm[k], dev[k]->stream)
                 : p->broadcast(x[k], x[k], n, ncclFloat32, 0, p->comm[k], dev[k]->stream);
  ncclResult_t ended = p->end();
  fl_status status = answer(p, result == ncclSuccess ? ended : result);
  if (status == FEDLANE_OK) status = wait(p, dev);
  if (status != FEDLANE_OK) fl_cuda_peers_close(dev[0]);
  return status;
}
#else
void fl_cuda_peers_close(fl_dev *) {}
#endif

/* The first device fetches the others' integers into its workspace, a part at a time. */
static fl_status gather_copies(int n_dev, fl_dev *const *dev, int64_t n, int64_t *const *x) {
  const int64_t most = FL_WORKSPACE / (int64_t)sizeof(int64_t);
  fl_dev *first = dev[0];
  int64_t *part = (int64_t *)(void *)first->workspace;
  for (int k = 1; k < n_dev; k++) {
    FL_TRY(fl_cuda_sync(dev[k]));
    FL_TRY(fl_cuda_enter(first));
    for (int64_t at = 0, count; at < n; at += count) {
      count = n - at < most ? n - at : most;
      FL_CUDA(cudaMemcpyPeerAsync(part, first->index, x[k] + at, dev[k]->index,
                                  (size_t)count * sizeof *part, first->stream),
              "it fetched another GPU's sums");
      FL_TRY(fl_cuda_add64(first, count, part, x[0] + at));
    }
  }
  return fl_cuda_sync(first);
}

static fl_status spread_copies(int n_dev, fl_dev *const *dev, int64_t n, float *const *x) {
  FL_TRY(fl_cuda_sync(dev[0]));
  for (int k = 1; k < n_dev; k++) {
    FL_TRY(fl_cuda_enter(dev[k]));
    FL_CUDA(cudaMemcpyPeerAsync(x[k], dev[k]->index, x[0], dev[0]->index, (size_t)n * sizeof *x[k],
                                dev[k]->stream),
            "it fetched the first GPU's vectors");
  }
  for (int k = 1; k < n_dev; k++) FL_TRY(fl_cuda_sync(dev[k]));
  return FEDLANE_OK;
}

fl_status fl_cuda_gather64(int n_dev, fl_dev *const *dev, int64_t n, int64_t *const *x) {
  if (n <= 0 || n_dev < 2) return FEDLANE_OK;
#ifdef WITH_NCCL
  const fl_peers *p = peers_of(n_dev, dev);
  if (p) return together(p, dev, (size_t)n, (void *const *)x, true);
#endif
  return gather_copies(n_dev, dev, n, x);
}

fl_status fl_cuda_spread(int n_dev, fl_dev *const *dev, int64_t n, float *const *x) {
  if (n <= 0 || n_dev < 2) return FEDLANE_OK;
#ifdef WITH_NCCL
  const fl_peers *p = peers_of(n_dev, dev);
  if (p) return together(p, dev, (size_t)n, (void *const *)x, false);
#endif
  return spread_copies(n_dev, dev, n, x);
}
