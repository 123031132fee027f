/* CUDA's names for the host compiler, as kernels/cuda/device.h promises them: the part that kernels
 * see. The runtime's calls are in runtime.h. See docs/cuda-on-host.md. */
#ifndef FL_CUDA_ON_HOST_H
#define FL_CUDA_ON_HOST_H

#include <math.h>
#include <string.h>

#include "machine.h"
#include "runtime.h"

#define __host__
#define __device__
#define __global__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))

#define FL_KERNEL
#define FL_KERNEL_BOUNDS(threads, blocks)
#define FL_LAUNCH(kernel, grid, block, shared, stream, ...) \
  fl_host::queue_kernel(#kernel, kernel, grid, block, shared, stream, ##__VA_ARGS__)
#define FL_LAUNCH_CHECK() cudaGetLastError()
#define FL_SHARED(type, name, count)                 \
  static const char name##_key_ = 0;                 \
  typedef type name##_type_ count;                   \
  name##_type_ &name = *static_cast<name##_type_ *>( \
      fl_host::shared_static(&name##_key_, sizeof(name##_type_), fl_host::place::here()))
#define FL_SHARED_DYNAMIC(type, name) type *name = static_cast<type *>(fl_host::shared_dynamic())

#define threadIdx fl_host::thread_index
#define blockIdx fl_host::block_index
#define blockDim fl_host::block_size
#define gridDim fl_host::grid_size
#define warpSize 32

/* --- meeting ------------------------------------------------------------------------------- */
static inline void __syncthreads(fl_host::place at = fl_host::place::here()) {
  fl_host::meet_block("__syncthreads", false, at);
}
static inline int __syncthreads_count(int yes, fl_host::place at = fl_host::place::here()) {
  return fl_host::meet_block("__syncthreads_count", yes != 0, at);
}
static inline int __syncthreads_or(int yes, fl_host::place at = fl_host::place::here()) {
  return fl_host::meet_block("__syncthreads_or", yes != 0, at) != 0;
}

static inline void __syncwarp(unsigned mask = ~0u, fl_host::place at = fl_host::place::here()) {
  fl_host::meet_warp(
      "__syncwarp", mask, nullptr, [](void *const *, unsigned) {}, at);
}

namespace fl_host {

struct vote {
  bool yes;
  unsigned result;
};

static inline unsigned ballot(const char *what, unsigned mask, bool yes, place at) {
  vote mine = {yes, 0};
  meet_warp(
      what, mask, &mine,
      [](void *const *theirs, unsigned all) {
        unsigned result = 0;
        for (int i = 0; i < 32; i++)
          if (all >> i & 1 && static_cast<vote *>(theirs[i])->yes) result |= 1u << i;
        for (int i = 0; i < 32; i++)
          if (all >> i & 1) static_cast<vote *>(theirs[i])->result = result;
      },
      at);
  return mine.result;
}

/* What a lane brings to a shuffle: its value and the lane it reads. */
template <class T>
struct exchange {
  T value, result;
  int from;
  place at;
};

template <class T>
T shuffle(const char *what, unsigned mask, T value, int from, place at) {
  exchange<T> mine = {value, value, from, at};
  meet_warp(
      what, mask, &mine,
      [](void *const *theirs, unsigned all) {
        for (int i = 0; i < 32; i++) {
          if (!(all >> i & 1)) continue;
          exchange<T> *to = static_cast<exchange<T> *>(theirs[i]);
          if (!(all >> to->from & 1))
            fault(to->at, "lane %d reads lane %d, which takes no part", i, to->from);
          to->result = static_cast<exchange<T> *>(theirs[to->from])->value;
        }
      },
      at);
  return mine.result;
}

static inline int lane() {
  unsigned rank = thread_index.x + block_size.x * (thread_index.y + block_size.y * thread_index.z);
  return static_cast<int>(rank % 32);
}

}  // namespace fl_host

static inline unsigned __ballot_sync(unsigned mask, int yes,
                                     fl_host::place at = fl_host::place::here()) {
  return fl_host::ballot("__ballot_sync", mask, yes != 0, at);
}
static inline int __any_sync(unsigned mask, int yes, fl_host::place at = fl_host::place::here()) {
  return fl_host::ballot("__any_sync", mask, yes != 0, at) != 0;
}
static inline int __all_sync(unsigned mask, int yes, fl_host::place at = fl_host::place::here()) {
  return fl_host::ballot("__all_sync", mask, yes == 0, at) == 0;
}

template <class T>
T __shfl_sync(unsigned mask, T x, int from, int width = 32,
              fl_host::place at = fl_host::place::here()) {
  int first = fl_host::lane() & ~(width - 1);
  return fl_host::shuffle("__shfl_sync", mask, x, first + (from & (width - 1)), at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32,
                 fl_host::place at = fl_host::place::here()) {
  int lane = fl_host::lane(), from = lane - static_cast<int>(by);
  return fl_host::shuffle("__shfl_up_sync", mask, x, from < (lane & ~(width - 1)) ? lane : from,
                          at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = 32,
                   fl_host::place at = fl_host::place::here()) {
  int lane = fl_host::lane(), from = lane + static_cast<int>(by);
  return fl_host::shuffle("__shfl_down_sync", mask, x, from > (lane | (width - 1)) ? lane : from,
                          at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T x, int by, int width = 32,
                  fl_host::place at = fl_host::place::here()) {
  int lane = fl_host::lane(), from = lane ^ by;
  return fl_host::shuffle("__shfl_xor_sync", mask, x, from > (lane | (width - 1)) ? lane : from,
                          at);
}

/* --- copies and matrix instructions -------------------------------------------------------- */
static inline void fl_cp_async16(void *dst, const void *src, int bytes,
                                 fl_host::place at = fl_host::place::here()) {
  fl_host::copy_async(dst, src, 16, bytes, at);
}
static inline void fl_cp_async16_once(void *dst, const void *src, int bytes,
                                      fl_host::place at = fl_host::place::here()) {
  fl_host::copy_async(dst, src, 16, bytes, at);
}
static inline void fl_cp_async4(void *dst, const void *src, int bytes,
                                fl_host::place at = fl_host::place::here()) {
  fl_host::copy_async(dst, src, 4, bytes, at);
}
static inline void fl_cp_async_commit() { fl_host::copy_commit(); }
template <int N>
void fl_cp_async_wait() {
  fl_host::copy_wait(N);
}

static inline void fl_mma_tf32(float *d, const uint32_t *a, const uint32_t *b,
                               fl_host::place at = fl_host::place::here()) {
  fl_host::multiply(d, a, b, false, at);
}
static inline void fl_mma_bf16(float *d, const uint32_t *a, const uint32_t *b,
                               fl_host::place at = fl_host::place::here()) {
  fl_host::multiply(d, a, b, true, at);
}

#include "numbers.h"

#endif
