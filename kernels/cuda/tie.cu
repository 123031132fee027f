/* Ties by NCCL: a communicator of two ranks, one in each process. It is opened without waiting
 * (ncclConfig_t.blocking 0), so that a side which never comes can be given up. */
#include <stdlib.h>
#include <string.h>

#include "cuda.h"
#include "nccl_library.h"

static const char absent[] = "libnccl.so.2 cannot be loaded";

#ifdef WITH_NCCL
struct fl_tie {
  decltype(&ncclCommInitRankConfig) open;
  decltype(&ncclCommAbort) abort;
  decltype(&ncclCommGetAsyncError) trouble;
  decltype(&ncclSend) send;
  decltype(&ncclRecv) receive;
  decltype(&ncclGetErrorString) explain;
  fl_dev *dev;
  ncclComm_t comm; /* NULL: not begun */
  int other;       /* rank of the other side */
};

static bool load(fl_tie *t) {
  void *library = fl_nccl_open();
  return library && fl_nccl_find(library, "ncclCommInitRankConfig", &t->open) &&
         fl_nccl_find(library, "ncclCommAbort", &t->abort) &&
         fl_nccl_find(library, "ncclCommGetAsyncError", &t->trouble) &&
         fl_nccl_find(library, "ncclSend", &t->send) &&
         fl_nccl_find(library, "ncclRecv", &t->receive) &&
         fl_nccl_find(library, "ncclGetErrorString", &t->explain);
}

static int tie_version(const char **why) {
  decltype(&ncclGetVersion) version;
  void *library = fl_nccl_open();
  fl_tie all;
  int number = 0;
  *why = absent;
  if (!library) return 0;
  *why = "libnccl.so.2 is too old: fedlane needs NCCL 2.14 or newer";
  if (!load(&all) || !fl_nccl_find(library, "ncclGetVersion", &version)) return 0;
  return version(&number) == ncclSuccess ? number : 0;
}

static fl_status tie_make(unsigned char *id) {
  static_assert(sizeof(ncclUniqueId) == FL_TIE_ID, "an id is NCCL's");
  decltype(&ncclGetUniqueId) make;
  ncclUniqueId made;
  void *library = fl_nccl_open();
  if (!library || !fl_nccl_find(library, "ncclGetUniqueId", &make) || make(&made) != ncclSuccess)
    return fl_fail(FEDLANE_DEVICE, "NCCL could not begin a tie: it found no network interface");
  memcpy(id, &made, sizeof made);
  return FEDLANE_OK;
}

static fl_status answer(const fl_tie *t, ncclResult_t result) {
  if (result == ncclSuccess || result == ncclInProgress) return FEDLANE_OK;
  return fl_fail(FEDLANE_DEVICE, "NCCL failed between two machines: %s", t->explain(result));
}

/* An abort does not wait for a side that no longer answers. */
static void tie_close(fl_tie **tie) {
  fl_tie *t = *tie;
  *tie = NULL;
  if (t && t->comm) (void)t->abort(t->comm);
  free(t);
}

static fl_status tie_open(fl_dev *d, const unsigned char *id, int side, fl_tie **out) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  ncclUniqueId same;
  fl_tie *t = (fl_tie *)calloc(1, sizeof *t);
  if (!t) return fl_fail(FEDLANE_MEMORY, "no memory for a tie");
  fl_status status = load(t) ? fl_cuda_enter(d) : fl_fail(FEDLANE_DEVICE, "%s", absent);
  t->dev = d;
  t->other = 1 - side;
  config.blocking = 0;
  memcpy(&same, id, sizeof same);
  if (status == FEDLANE_OK) status = answer(t, t->open(&t->comm, 2, same, side, &config));
  if (status != FEDLANE_OK) tie_close(&t);
  *out = t;
  return status;
}

static fl_status tie_move(fl_tie *t, bool send, void *at, int64_t bytes) {
  size_t n = (size_t)bytes;
  FL_TRY(fl_cuda_enter(t->dev));
  return answer(t, send ? t->send(at, n, ncclInt8, t->other, t->comm, t->dev->stream)
                        : t->receive(at, n, ncclInt8, t->other, t->comm, t->dev->stream));
}

/* A call that NCCL has not yet passed on to the device is in progress by its own account; after
 * that the stream knows. */
static fl_status tie_look(fl_tie *t, bool *busy) {
  ncclResult_t trouble = ncclSuccess;
  FL_TRY(fl_cuda_enter(t->dev));
  FL_TRY(answer(t, t->trouble(t->comm, &trouble)));
  FL_TRY(answer(t, trouble));
  *busy = trouble == ncclInProgress;
  if (*busy) return FEDLANE_OK;
  cudaError_t error = cudaStreamQuery(t->dev->stream);
  *busy = error == cudaErrorNotReady;
  if (!*busy) return fl_cuda_status(error, "it exchanged vectors with another machine");
  (void)cudaGetLastError();
  return FEDLANE_OK;
}
#else
static int tie_version(const char **why) {
  *why = "this build of fedlane was made without NCCL's header";
  return 0;
}
static fl_status tie_make(unsigned char *) { return fl_fail(FEDLANE_DEVICE, "%s", absent); }
static fl_status tie_open(fl_dev *, const unsigned char *, int, fl_tie **out) {
  *out = NULL;
  return fl_fail(FEDLANE_DEVICE, "%s", absent);
}
static fl_status tie_move(fl_tie *, bool, void *, int64_t) {
  return fl_fail(FEDLANE_DEVICE, "%s", absent);
}
static fl_status tie_look(fl_tie *, bool *) { return fl_fail(FEDLANE_DEVICE, "%s", absent); }
static void tie_close(fl_tie **) {}
#endif

extern "C" const fl_tie_ops fl_cuda_tie = {
    "NCCL", tie_version, tie_make, tie_open, tie_move, tie_look, tie_close,
};
