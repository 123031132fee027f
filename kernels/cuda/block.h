/* Pieces that kernels are made of: four neighbours at a time, and sums in a fixed order. */
#ifndef FL_CUDA_BLOCK_H
#define FL_CUDA_BLOCK_H

#include "device.h"

/* Elements i .. i+3 of x[n], i a multiple of 4; what lies past the end reads as 0. even: x is
 * 16-byte aligned. */
static __device__ inline float4 fl_load4(const float *x, int64_t i, int64_t n, bool even) {
  if (even && i + 4 <= n) return *(const float4 *)(x + i);
  float4 v = {0, 0, 0, 0};
  if (i < n) v.x = x[i];
  if (i + 1 < n) v.y = x[i + 1];
  if (i + 2 < n) v.z = x[i + 2];
  if (i + 3 < n) v.w = x[i + 3];
  return v;
}

/* Writes the same elements; those past the end are left out. */
static __device__ inline void fl_store4(float *x, int64_t i, int64_t n, bool even, float4 v) {
  if (even && i + 4 <= n) {
    *(float4 *)(x + i) = v;
    return;
  }
  if (i < n) x[i] = v.x;
  if (i + 1 < n) x[i + 1] = v.y;
  if (i + 2 < n) x[i + 2] = v.z;
  if (i + 3 < n) x[i + 3] = v.w;
}

/* f of each of four neighbours, and of each pair. */
template <typename F>
static __device__ inline float4 fl_each4(float4 a, F f) {
  float4 v = {f(a.x), f(a.y), f(a.z), f(a.w)};
  return v;
}

template <typename F>
static __device__ inline float4 fl_each4(float4 a, float4 b, F f) {
  float4 v = {f(a.x, b.x), f(a.y, b.y), f(a.z, b.z), f(a.w, b.w)};
  return v;
}

/* The sum (or the largest) of one value a thread of a warp, by halves; every thread gets it. */
template <typename T>
static __device__ inline T fl_warp_sum(T value) {
  for (int away = 16; away > 0; away /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, away);
  return value;
}

static __device__ inline float fl_warp_largest(float value) {
  for (int away = 16; away > 0; away /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFu, value, away));
  return value;
}

#endif
