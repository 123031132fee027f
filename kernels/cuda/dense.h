/* What kernels of products share: tiles out of matrices, and room for a pipeline. */
#ifndef FL_CUDA_DENSE_H
#define FL_CUDA_DENSE_H

#include "tile.h"

enum {
  FL_DENSE_THREADS = 128,
  FL_DENSE_WARPS = 4,
  FL_DENSE_WIDE = 32 * FL_DENSE_WARPS, /* input features of a tile by columns */
};

/* Floats first .. first+W-1 of rows k .. k+FL_DEPTH-1 as a tile by columns; zero from row n_row and
 * from float `end` on. V: floats a copy. */
template <int V, int W>
static __device__ __forceinline__ void fl_copy_columns(float *tile, const float *from, int pitch,
                                                       int n_row, int k, int first, int end) {
  constexpr int columns = W / V, at_once = FL_DENSE_THREADS / columns;
  int column = (int)threadIdx.x % columns * V;
#pragma unroll(V == 4 ? 8 : 1)
  for (int row = (int)threadIdx.x / columns; row < FL_DEPTH; row += at_once) {
    bool in = k + row < n_row && first + column < end;
    const float *src = in ? from + (int64_t)(k + row) * pitch + first + column : NULL;
    fl_copy<V, true>(tile + fl_by_columns(W, row, column), src, from);
  }
}

/* Floats k .. k+FL_DEPTH-1 of R rows as a tile by rows; zero from float `end` on. row_at(row):
 * where a row starts, NULL for one of zeros; `any` is a valid address. V: floats a copy. */
template <int V, int R, typename RowAt>
static __device__ __forceinline__ void fl_copy_rows(float *tile, const float *any, RowAt row_at,
                                                    int k, int end) {
  constexpr int columns = FL_DEPTH / V, at_once = FL_DENSE_THREADS / columns;
  int column = (int)threadIdx.x % columns * V;
#pragma unroll(V == 4 ? 8 : 1)
  for (int row = (int)threadIdx.x / columns; row < R; row += at_once) {
    const float *from = row_at(row);
    const float *src = from && k + column < end ? from + k + column : NULL;
    fl_copy<V, true>(tile + fl_by_rows(row, column), src, any);
  }
}

/* A tile by columns from a matrix that lies turned: floats k .. of the rows that start at from[0 ..
 * N-1], NULL for a row of zeros. */
template <int W, int N>
static __device__ __forceinline__ void fl_copy_turned(float *tile, const float *any,
                                                      const float *const *from, int depth, int k) {
  int row = (int)threadIdx.x % FL_DEPTH;
#pragma unroll 4
  for (int n = (int)threadIdx.x / FL_DEPTH; n < N; n += FL_DENSE_THREADS / FL_DEPTH) {
    const float *src = from[n] && k + row < depth ? from[n] + k + row : NULL;
    fl_copy<1>(tile + fl_by_columns(W, row, n), src, any);
  }
}

/* Bytes of a pipeline over `depth` steps whose stages are two tiles of M and N rows or columns. */
static inline int fl_pipeline_bytes(int M, int N, int depth) {
  int64_t stages = fl_ceil_div(depth, FL_DEPTH);
  return (stages < FL_STAGES ? (int)stages : (int)FL_STAGES) * (M + N) * FL_DEPTH *
         (int)sizeof(float);
}

/* Allows a kernel `bytes` of dynamic shared memory, beside 1 KB of static at most. */
static inline fl_status fl_allow_shared(const void *kernel, int bytes) {
  const int unasked = 47 * 1024;
  if (bytes <= unasked) return FEDLANE_OK;
  return fl_cuda_status(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
      "a dense layer asked for shared memory");
}

#endif
