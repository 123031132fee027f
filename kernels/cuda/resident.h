/* What the parts of the resident kernel share: a block is one lane, and every function here is one
 * call of its tape (tape.h), done by all threads of the block together over the live rows of one
 * piece. Nobody has to wait before a call: the kernel has a barrier after each. Image activations
 * lie as [B][channels][height][width], so that flatten is a copy; all arithmetic is fp32. */
#ifndef FL_CUDA_RESIDENT_H
#define FL_CUDA_RESIDENT_H

#include "rows.h"
#include "tape.h"

enum { FL_SEAT_WARPS = 16, FL_SEAT_THREADS = 32 * FL_SEAT_WARPS };

/* Images in shared memory: channels are `plane` floats apart and rows `pitch`, with `pad` zeros
 * around. pitch is an odd multiple of 4 and plane that of `kernel` rows modulo 32, so that what the
 * threads of a quarter warp read, neighbouring rows of a window, lies in different banks. */
typedef struct fl_planes {
  fl_image size;
  int pad, pitch, plane;
} fl_planes;

/* A call and what its shape decides. */
typedef struct fl_task {
  fl_call call;
  int bands, columns, shares; /* dense_fwd: warps along outputs and rows, shares of the depth */
  fl_planes in, out;          /* conv: what is read in shared memory; out: dy of weight sums */
  int head, heads;            /* conv: result channels of a group, and groups */
  int group, channels;        /* conv: images and input channels of a stage */
} fl_task;

/* A lane. */
typedef struct fl_seat {
  int32_t n_piece, n_row;
  uint32_t client, nth;
} fl_seat;

/* The kernel's parameters. */
typedef struct fl_resident {
  int n_task, front, B, epochs; /* front: floats of shared memory that the tasks take */
  const fl_task *task;
  const fl_seat *seat;
  uint32_t seed, round;
  fl_source source; /* shift and scale are device memory here */
  const int32_t *index;
  int64_t index_stride;
  int32_t *label;
  double *loss;
  int64_t *hit;
} fl_resident;

/* The piece that a block is at. */
typedef struct fl_now {
  int lane, piece, live;
  float norm;
  uint32_t client, nth;
  int front; /* floats of dynamic shared memory before the calls' own */
} fl_now;

/* Dynamic shared memory of a call: named anew by each, so that the compiler knows what it is. */
static __device__ __forceinline__ float *fl_room(const fl_now &now) {
  FL_SHARED_DYNAMIC(float, shared);
  return shared + now.front;
}

static __device__ inline fl_key fl_key_now(const fl_resident &r, const fl_now &now,
                                           fl_purpose purpose, uint32_t layer) {
  fl_key key = {r.seed,  (uint32_t)purpose,   r.round, now.client,
                now.nth, (uint32_t)now.piece, layer};
  return key;
}

static __device__ inline bool fl_even(const void *at) { return ((uintptr_t)at & 15) == 0; }

/* The elements of planes of H rows of W that a thread takes, one in FL_SEAT_THREADS. */
typedef struct fl_stroll {
  int W, H, w, h, plane, dw, dh, dplane;
} fl_stroll;

static __device__ inline fl_stroll fl_stroll_begin(int W, int H) {
  int t = (int)threadIdx.x, threads = FL_SEAT_THREADS;
  fl_stroll at = {W, H, t % W, t / W % H, t / W / H, threads % W, threads / W % H, threads / W / H};
  return at;
}

static __device__ inline void fl_stroll_on(fl_stroll *at) {
  at->w += at->dw;
  at->h += at->dh;
  at->plane += at->dplane;
  if (at->w >= at->W) {
    at->w -= at->W;
    at->h++;
  }
  if (at->h >= at->H) {
    at->h -= at->H;
    at->plane++;
  }
}

#endif
