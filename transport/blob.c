/* Bytes with several holders: their own, or those of a message that has arrived. */
#include <stdatomic.h>
#include <stdlib.h>
#include <zmq.h>

#include "port_parts.h"

/* ThreadSanitizer does not see that ZeroMQ's queues hand bytes from thread to thread. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SEES_NO_QUEUES
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(SEES_NO_QUEUES)
void __tsan_acquire(void *at);
void __tsan_release(void *at);
#define hand_over(at) __tsan_release(at)
#define take_over(at) __tsan_acquire(at)
#else
#define hand_over(at) ((void)(at))
#define take_over(at) ((void)(at))
#endif

enum { ALIGN = 64 };

struct fl_blob {
  atomic_int holders;
  bool arrived; /* the bytes are the message's, not those behind this struct */
  size_t n;
  void *at;
  zmq_msg_t message;
};

/* The room of the struct, so that the bytes behind it are aligned. */
static const size_t ahead = (sizeof(fl_blob) + ALIGN - 1) / ALIGN * ALIGN;

fl_status fl_blob_open(size_t n, fl_blob **out) {
  *out = NULL;
  size_t room = n <= SIZE_MAX / 2 ? (ahead + n + ALIGN - 1) / ALIGN * ALIGN : 0;
  fl_blob *blob = room ? aligned_alloc(ALIGN, room) : NULL;
  if (!blob) return fl_fail(FEDLANE_MEMORY, "no memory for a message of %zu bytes", n);
  *blob = (fl_blob){.n = n, .at = (char *)blob + ahead};
  atomic_init(&blob->holders, 1);
  *out = blob;
  return FEDLANE_OK;
}

void *fl_blob_at(const fl_blob *blob) { return blob->at; }

size_t fl_blob_size(const fl_blob *blob) { return blob->n; }

fl_status fl_blob_share(const fl_blob *blob, fl_blob **out) {
  *out = (fl_blob *)(uintptr_t)blob;
  atomic_fetch_add_explicit(&(*out)->holders, 1, memory_order_relaxed);
  return FEDLANE_OK;
}

void fl_blob_close(fl_blob **blob) {
  fl_blob *b = *blob;
  *blob = NULL;
  if (!b || atomic_fetch_sub_explicit(&b->holders, 1, memory_order_acq_rel) > 1) return;
  if (b->arrived) zmq_msg_close(&b->message);
  free(b);
}

fl_status fl_blob_wait(fl_blob **out) {
  fl_blob *blob = *out = malloc(sizeof *blob);
  if (!blob) return fl_fail(FEDLANE_MEMORY, "no memory for a message");
  *blob = (fl_blob){.arrived = true};
  atomic_init(&blob->holders, 1);
  zmq_msg_init(&blob->message);
  return FEDLANE_OK;
}

void *fl_blob_message(fl_blob *blob) { return &blob->message; }

void fl_blob_arrived(fl_blob *blob) {
  blob->n = zmq_msg_size(&blob->message);
  blob->at = zmq_msg_data(&blob->message);
  take_over(blob->at);
}

/* ZeroMQ has sent it, or gives it up. Called on one of its threads. */
static void let_go(void *at, void *hint) {
  fl_blob *blob = hint;
  take_over(at);
  fl_blob_close(&blob);
}

bool fl_blob_post(fl_blob *blob, void *message) {
  hand_over(blob->at);
  if (zmq_msg_init_data(message, blob->at, blob->n, let_go, blob) == 0) return true;
  fl_blob_close(&blob);
  return false;
}
