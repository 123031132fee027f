/* Recorded work: what a stream captures between capture and play becomes a CUDA graph, which the
 * driver queues in one call. Capture keeps the parameters of every launch by value, so a recording
 * is good for as long as the memory that it names.
 *
 * A recording takes the place of the one that was played longest ago. When both have the same
 * launches and differ only in their parameters, as waves of equal clients with random draws do, the
 * driver's executable graph is updated in place, which is cheaper than making one. */
#include "cuda.h"

/* The recording under this key; when there is none, a free place or the one that gives way. */
static fl_recording *place_of(fl_dev *d, uint64_t key) {
  fl_recording *oldest = &d->recording[0];
  for (int i = 0; i < FL_RECORDINGS; i++) {
    fl_recording *r = &d->recording[i];
    if (r->exec && r->key == key) return r;
    if (r->played < oldest->played) oldest = r;
  }
  return oldest;
}

fl_status fl_cuda_capture(fl_dev *d, uint64_t key, bool *known) {
  FL_TRY(fl_cuda_enter(d));
  d->current = place_of(d, key);
  *known = d->current->exec && d->current->key == key;
  if (*known) return FEDLANE_OK;
  FL_CUDA(cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal),
          "a recording was begun");
  d->key = key;
  d->capturing = true;
  return FEDLANE_OK;
}

static void drop(fl_recording *r) {
  if (r->exec) (void)cudaGraphExecDestroy(r->exec);
  *r = fl_recording{};
}

/* Ends the capture in progress; the error that broke it has been told where it arose. */
static cudaError_t end_capture(fl_dev *d, cudaGraph_t *graph) {
  d->capturing = false;
  return cudaStreamEndCapture(d->stream, graph);
}

static cudaError_t keep(fl_recording *r, cudaGraph_t graph) {
  cudaGraphExecUpdateResultInfo why;
  if (r->exec && cudaGraphExecUpdate(r->exec, graph, &why) == cudaSuccess) return cudaSuccess;
  (void)cudaGetLastError(); /* other launches: the old graph cannot be made over */
  drop(r);
  return cudaGraphInstantiate(&r->exec, graph, 0);
}

/* What was captured becomes the current recording. */
static fl_status end_recording(fl_dev *d) {
  cudaGraph_t graph = NULL;
  FL_CUDA(end_capture(d, &graph), "a recording was ended");
  cudaError_t error = keep(d->current, graph);
  if (error == cudaSuccess) d->current->key = d->key;
  (void)cudaGraphDestroy(graph);
  return fl_cuda_status(error, "a recording was made ready");
}

/* Takes the stream out of its capture and keeps nothing of it. */
static void abandon(fl_dev *d) {
  cudaGraph_t graph = NULL;
  (void)cudaSetDevice(d->index);
  if (d->capturing && end_capture(d, &graph) == cudaSuccess) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();
}

fl_status fl_cuda_play(fl_dev *d, bool whole) {
  if (!whole) {
    abandon(d);
    return FEDLANE_OK;
  }
  FL_TRY(fl_cuda_enter(d));
  if (d->capturing) FL_TRY(end_recording(d));
  d->current->played = ++d->plays;
  return fl_cuda_status(cudaGraphLaunch(d->current->exec, d->stream), "a recording was queued");
}

void fl_cuda_forget(fl_dev *d) {
  abandon(d);
  for (int i = 0; i < FL_RECORDINGS; i++) drop(&d->recording[i]);
}
