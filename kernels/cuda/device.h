/* What CUDA sources use in place of the compiler's own spelling, so that one source serves nvcc and
 * the host compiler (docs/cuda-on-host.md). Kernels include this header and no other of CUDA's.
 *
 * nvcc: everything here is a thin inline wrapper. Host (FL_CUDA_ON_HOST): the same names are given
 * by tests/cuda_on_host, where each thread of a block is a fiber.
 *
 *   FL_KERNEL void name(args)      a kernel
 *   FL_KERNEL_BOUNDS(threads, blocks) void name(args)
 *                                  one of at most `threads` a block, `blocks` resident
 *   FL_LAUNCH(kernel, grid, block, shared, stream, args...)
 *                                  queues it; a template's name is put in parentheses
 *   FL_LAUNCH_CHECK()              the cudaError_t of the launches so far
 *   FL_SHARED(type, name, [count]) static shared memory, 16-byte aligned
 *   FL_SHARED_DYNAMIC(type, name)  type *name: the launch's `shared` bytes, 128-byte aligned; past
 *                                  48 KB (with the static ones) the kernel first needs
 *                                  cudaFuncSetAttribute
 *   fl_cp_async16(dst, src, bytes) 16-byte copy global -> shared, bytes (0 .. 16) of it read, the
 *                                  rest zero-filled; completes at a wait; both aligned
 *   fl_cp_async16_once(dst, src, bytes)
 *                                  the same past the L1 cache: for what a block reads only once
 *   fl_cp_async4(dst, src, bytes)  as fl_cp_async16, 4 bytes (0 or 4 read)
 *   fl_cp_async_commit(), fl_cp_async_wait<N>()
 *                                  as cp.async.commit_group, wait_group N
 *   fl_mma_tf32(d, a, b)           warp-wide m16n8k8: float d[4] += a[4] b[2] (tf32 bits in
 *                                  uint32), fragments as in the PTX manual
 *   fl_mma_bf16(d, a, b)           warp-wide m16n8k16: float d[4] += a[4] b[2] (bf16 pairs)
 *   fl_tf32(x)                     float to tf32 bits, round to nearest, ties away (cvt.rna)
 *   fl_bf16_pair(lo, hi)           two floats to a packed pair, round to nearest even
 *   fl_library_open(file), fl_library_symbol(library, name)
 *                                  a library that may be absent, and what it holds; or NULL
 *
 * Warp intrinsics (__shfl_*_sync, __ballot_sync, __syncwarp), __syncthreads, atomics on integers,
 * float4 and friends, __ldg, min and max, rsqrtf and the other math functions: CUDA's own names. */
#ifndef FL_CUDA_DEVICE_H
#define FL_CUDA_DEVICE_H

#include <stdint.h>

#ifdef FL_CUDA_ON_HOST
#include "cuda_on_host.h"
#else

#include <cuda_runtime.h>
#include <dlfcn.h>

#define FL_KERNEL __global__
#define FL_KERNEL_BOUNDS(threads, blocks) __global__ __launch_bounds__(threads, blocks)
#define FL_LAUNCH(kernel, grid, block, shared, stream, ...) \
  kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define FL_LAUNCH_CHECK() cudaGetLastError()
#define FL_SHARED(type, name, count) __shared__ __align__(16) type name count
#define FL_SHARED_DYNAMIC(type, name)                           \
  extern __shared__ __align__(128) unsigned char fl_dynamic_[]; \
  type *name = reinterpret_cast<type *>(fl_dynamic_)

static __device__ __forceinline__ void fl_cp_async16(void *dst, const void *src, int bytes) {
  uint32_t at = (uint32_t)__cvta_generic_to_shared(dst);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(src), "r"(bytes)
               : "memory");
}

static __device__ __forceinline__ void fl_cp_async16_once(void *dst, const void *src, int bytes) {
  uint32_t at = (uint32_t)__cvta_generic_to_shared(dst);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(src), "r"(bytes)
               : "memory");
}

static __device__ __forceinline__ void fl_cp_async4(void *dst, const void *src, int bytes) {
  uint32_t at = (uint32_t)__cvta_generic_to_shared(dst);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(src), "r"(bytes)
               : "memory");
}

static __device__ __forceinline__ void fl_cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N>
static __device__ __forceinline__ void fl_cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

static __device__ __forceinline__ void fl_mma_tf32(float *d, const uint32_t *a, const uint32_t *b) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, "
      "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ void fl_mma_bf16(float *d, const uint32_t *a, const uint32_t *b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
      "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ uint32_t fl_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

static __device__ __forceinline__ uint32_t fl_bf16_pair(float lo, float hi) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(hi), "f"(lo));
  return bits;
}

static inline void *fl_library_open(const char *file) { return dlopen(file, RTLD_NOW); }
static inline void *fl_library_symbol(void *library, const char *name) {
  return dlsym(library, name);
}

#endif
#endif
