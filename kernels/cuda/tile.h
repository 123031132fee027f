/* Matrix products by blocks: tiles in shared memory and the arithmetic of one warp on them, in
 * four precisions, so that only this header knows of precisions.
 *
 * Two operand tiles of one stage, FL_DEPTH steps of depth, are in shared memory; a warp owns 16*MT
 * rows by 8*NT columns of the result and keeps them in registers as acc[MT][NT][4]. Thread (g, t)
 * of a warp, 0 <= g < 8, 0 <= t < 4, holds of the 16 x 8 tile (i, j) the elements 2*h + e at row g
 * of half h and column 2*t + e, as the matrix instructions have it; fp32 uses the same division of
 * labour. Which rows and columns of the product these are depends on how the operands lie:
 *
 *   by rows:    a tile row is one row (column) of the product, its floats are consecutive depth
 *               row 16*i + 8*h + g, column 8*j + 2*t + e
 *   by columns: a tile row is one step of depth, its floats are consecutive rows (columns)
 *               row MT*(8*h + g) + i, column fl_column(j, 2*t + e)
 *
 * Either way fragments are read as vectors of up to 16 bytes, and the 16-byte chunks of each 128
 * bytes are permuted so that neither the copies in nor the reads meet bank conflicts. The
 * instructions sum over depth in any order that both operands share, so the steps of one thread may
 * be those that lie together.
 *
 *   fp32: FFMA; every result is summed in ascending depth.
 *   tf32: m16n8k8, operands rounded to nearest.  bf16: m16n8k16, likewise. Sums are fp32.
 *   tf32x3: x = hi + lo, both tf32; lo hi' + hi lo' + hi hi' of 16 steps of depth are summed by the
 *         matrix instructions, from 0, and added up in fp32, because these cut sums off instead of
 *         rounding them (2203.03341): three products for nearly the accuracy of fp32. */
#ifndef FL_CUDA_TILE_H
#define FL_CUDA_TILE_H

#include "cuda.h"

/* A precision as a type: fl_by_precision(d, go) calls go(fl_math<P>()) for the device's P, so that
 * every kernel is chosen in one way: [&](auto p) { return launch<decltype(p)::value>(...); }. */
template <fl_precision P>
struct fl_math {
  static constexpr fl_precision value = P;
};

template <typename Go>
static inline fl_status fl_by_precision(const fl_dev *d, Go go) {
  switch (d->precision) {
    case FL_MATH_TF32:
      return go(fl_math<FL_MATH_TF32>());
    case FL_MATH_BF16:
      return go(fl_math<FL_MATH_BF16>());
    case FL_MATH_TF32X3:
      return go(fl_math<FL_MATH_TF32X3>());
    default:
      return go(fl_math<FL_MATH_FP32>());
  }
}

/* Blocks of 128 threads that a multiprocessor should hold: three products need more registers. */
static constexpr int fl_blocks_resident(fl_precision p) { return p == FL_MATH_TF32X3 ? 2 : 3; }

enum {
  FL_DEPTH = 32, /* of one pipeline stage */
  FL_STAGES = 3, /* in flight */
};

/* Copies V = 4 or 1 floats to shared memory, or zeros when src is NULL; `any` is a valid address.
 * ONCE: no other copy of the block reads them. */
template <int V, bool ONCE = false>
static __device__ __forceinline__ void fl_copy(float *dst, const float *src, const float *any) {
  if constexpr (V == 4 && ONCE)
    fl_cp_async16_once(dst, src ? src : any, src ? 16 : 0);
  else if constexpr (V == 4)
    fl_cp_async16(dst, src ? src : any, src ? 16 : 0);
  else
    fl_cp_async4(dst, src ? src : any, src ? 4 : 0);
}

/* Calls compute(k) for each stage while copy() of the stages after it is under way. */
template <typename Copy, typename Compute>
static __device__ __forceinline__ void fl_pipeline(int stages, Copy copy, Compute compute) {
#pragma unroll 1
  for (int k = 1 - FL_STAGES; k < stages; k++) {
    if (k >= 0) {
      fl_cp_async_wait<FL_STAGES - 2>();
      __syncthreads(); /* stage k has arrived, and nobody reads stage k - 1 any more */
    }
    if (k + FL_STAGES - 1 < stages) copy(k + FL_STAGES - 1);
    fl_cp_async_commit();
    if (k >= 0) compute(k);
  }
}

/* --- where a float lies in a tile ----------------------------------------------------------- */
/* By rows: float k, 0 <= k < FL_DEPTH, of a row. */
static __device__ __forceinline__ int fl_by_rows(int row, int k) {
  return row * FL_DEPTH + (k ^ (row & 7) << 2);
}

/* By columns: float n, 0 <= n < width, of step k. width is a multiple of 32. */
static __device__ __forceinline__ int fl_by_columns(int width, int k, int n) {
  return k * width + (n ^ (k & 3) << 3);
}

/* By columns: the column of tile j's column n, 0 <= n < 8. Up to four tiles lie side by side. */
template <int NT>
static __device__ __forceinline__ int fl_column(int j, int n) {
  constexpr int beside = NT < 4 ? NT : 4;
  return j / beside * 8 * beside + n * beside + j % beside;
}

template <int V>
static __device__ __forceinline__ void fl_read(const float *at, float *out) {
  static_assert(V == 1 || V == 2 || V == 4, "one read");
  if constexpr (V == 4) {
    float4 v = *reinterpret_cast<const float4 *>(at);
    out[0] = v.x;
    out[1] = v.y;
    out[2] = v.z;
    out[3] = v.w;
  } else if constexpr (V == 2) {
    float2 v = *reinterpret_cast<const float2 *>(at);
    out[0] = v.x;
    out[1] = v.y;
  } else {
    out[0] = *at;
  }
}

template <int V>
static __device__ __forceinline__ void fl_write(float *at, const float *from) {
  static_assert(V == 2 || V == 4, "one write");
  if constexpr (V == 4)
    *reinterpret_cast<float4 *>(at) = make_float4(from[0], from[1], from[2], from[3]);
  else
    *reinterpret_cast<float2 *>(at) = make_float2(from[0], from[1]);
}

/* --- the arithmetic of a warp --------------------------------------------------------------- */
typedef struct fl_place {
  int g, t;
} fl_place;

/* fp32 threads that share an operand are neighbours in one bit of their number, so that the two of
 * them are served by one read. */
template <fl_precision P>
static __device__ __forceinline__ fl_place fl_place_of(int lane) {
  fl_place at = {lane >> 2, lane & 3};
  if constexpr (P == FL_MATH_FP32) {
    at.g = (lane >> 1 & 1) | (lane >> 3) << 1;
    at.t = (lane & 1) | (lane >> 1 & 2);
  }
  return at;
}

/* tf32 on operands that have been rounded already: a kernel's own business, no device has it. */
static constexpr fl_precision FL_TF32_ROUNDED = (fl_precision)-2;

/* x as an operand; bf16: with its neighbour. */
template <fl_precision P>
static __device__ __forceinline__ uint32_t fl_operand(float x, float next) {
  if constexpr (P == FL_MATH_BF16) return fl_bf16_pair(x, next);
  return P == FL_TF32_ROUNDED ? __float_as_uint(x) : fl_tf32(x);
}

/* acc += a b over 16 steps of depth, 4 of them in each thread: a[i][h] of row (i, h, g) and b[j] of
 * column (j, g) hold the same steps. */
template <fl_precision P, int MT, int NT>
static __device__ __forceinline__ void fl_multiply_rounded(float (&acc)[MT][NT][4],
                                                           const float (&a)[MT][2][4],
                                                           const float (&b)[NT][4]) {
  uint32_t rows[MT][2][4], columns[NT][4];
  constexpr int each = P == FL_MATH_BF16 ? 2 : 1; /* values a register */
#pragma unroll
  for (int q = 0; q < 4; q += each) {
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int h = 0; h < 2; h++)
        rows[i][h][q / each] = fl_operand<P>(a[i][h][q], a[i][h][(q + 1) & 3]);
#pragma unroll
    for (int j = 0; j < NT; j++) columns[j][q / each] = fl_operand<P>(b[j][q], b[j][(q + 1) & 3]);
  }
#pragma unroll
  for (int q = 0; q < 4 / each; q += 2)
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int j = 0; j < NT; j++) {
        uint32_t u[4] = {rows[i][0][q], rows[i][1][q], rows[i][0][q + 1], rows[i][1][q + 1]};
        uint32_t v[2] = {columns[j][q], columns[j][q + 1]};
        if constexpr (each == 1)
          fl_mma_tf32(acc[i][j], u, v);
        else
          fl_mma_bf16(acc[i][j], u, v);
      }
}

/* x = hi + lo but for its last bit. */
static __device__ __forceinline__ void fl_split(float x, uint32_t *hi, uint32_t *lo) {
  *hi = fl_tf32(x);
  *lo = fl_tf32(x - __uint_as_float(*hi));
}

/* The same from split operands. */
template <int MT, int NT>
static __device__ __forceinline__ void fl_multiply_split(float (&acc)[MT][NT][4],
                                                         const float (&a)[MT][2][4],
                                                         const float (&b)[NT][4]) {
  uint32_t columns[2][NT][4]; /* hi, lo */
#pragma unroll
  for (int j = 0; j < NT; j++)
#pragma unroll
    for (int q = 0; q < 4; q++) fl_split(b[j][q], &columns[0][j][q], &columns[1][j][q]);
#pragma unroll
  for (int i = 0; i < MT; i++) {
    float sum[NT][4] = {};
#pragma unroll
    for (int q = 0; q < 4; q += 2) {
      uint32_t rows[2][4];
#pragma unroll
      for (int n = 0; n < 4; n++) fl_split(a[i][n % 2][q + n / 2], &rows[0][n], &rows[1][n]);
#pragma unroll
      for (int k = 2; k >= 0; k--) /* lo hi', hi lo', hi hi' */
#pragma unroll
        for (int j = 0; j < NT; j++) fl_mma_tf32(sum[j], rows[k / 2], &columns[k % 2][j][q]);
    }
#pragma unroll
    for (int j = 0; j < NT; j++)
#pragma unroll
      for (int he = 0; he < 4; he++) acc[i][j][he] += sum[j][he];
  }
}

template <fl_precision P, int MT, int NT>
static __device__ __forceinline__ void fl_multiply(float (&acc)[MT][NT][4],
                                                   const float (&a)[MT][2][4],
                                                   const float (&b)[NT][4]) {
  if constexpr (P == FL_MATH_TF32X3)
    fl_multiply_split(acc, a, b);
  else
    fl_multiply_rounded<P>(acc, a, b);
}

/* acc += a b' over one stage, tiles by rows. row(i, h): the row of tile a that this thread's row of
 * half h of tile i is; tile b is all the warp's. Thread t of four takes depths 8*t to 8*t + 7. */
template <fl_precision P, int MT, int NT, typename Row>
static __device__ __forceinline__ void fl_stage_of_rows(float (&acc)[MT][NT][4], const float *a,
                                                        Row row, const float *b, fl_place at) {
  constexpr bool matrix = P != FL_MATH_FP32;
  constexpr int steps = matrix ? 2 : 8;
#pragma unroll 1
  for (int step = 0; step < steps; step++) {
    float x[MT][2][4], w[NT][4];
    int k = 4 * (matrix ? 2 * at.t + step : step);
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int h = 0; h < 2; h++) fl_read<4>(a + fl_by_rows(row(i, h), k), x[i][h]);
    if constexpr (matrix) {
#pragma unroll
      for (int j = 0; j < NT; j++) fl_read<4>(b + fl_by_rows(8 * j + at.g, k), w[j]);
      fl_multiply<P>(acc, x, w);
    } else {
#pragma unroll
      for (int e = 0; e < 2; e++) {
#pragma unroll
        for (int j = 0; j < NT; j++) fl_read<4>(b + fl_by_rows(8 * j + 2 * at.t + e, k), w[j]);
#pragma unroll
        for (int q = 0; q < 4; q++)
#pragma unroll
          for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < NT; j++)
#pragma unroll
              for (int h = 0; h < 2; h++) acc[i][j][2 * h + e] += x[i][h][q] * w[j][q];
      }
    }
  }
}

/* The same, where a warp's rows lie together from `row` on. */
template <fl_precision P, int MT, int NT>
static __device__ __forceinline__ void fl_stage_by_rows(float (&acc)[MT][NT][4], const float *a,
                                                        int row, const float *b, fl_place at) {
  fl_stage_of_rows<P>(
      acc, a, [&](int i, int h) { return row + 16 * i + 8 * h + at.g; }, b, at);
}

/* The columns of all tiles that are numbered n within a tile, of one step of depth. */
template <int N, int NT>
static __device__ __forceinline__ void fl_read_columns(const float *b, int k, int n,
                                                       float (&out)[NT]) {
  constexpr int beside = NT < 4 ? NT : 4;
#pragma unroll
  for (int j = 0; j < NT; j += beside)
    fl_read<beside>(b + fl_by_columns(N, k, fl_column<NT>(j, n)), &out[j]);
}

/* The same product over the first `depth` steps of a stage, a multiple of 16; tiles by columns, M
 * and N floats wide. */
template <fl_precision P, int M, int N, int MT, int NT>
static __device__ __forceinline__ void fl_stage_by_columns(float (&acc)[MT][NT][4], const float *a,
                                                           int row, const float *b, int depth,
                                                           fl_place at) {
  float x[MT][2][4], w[NT][4], rows[2][MT], columns[2][NT];
  constexpr int steps = P == FL_MATH_FP32 ? 1 : 16;
#pragma unroll(steps == 1 ? 4 : 1)
  for (int k = 0; k < depth; k += steps) {
    if constexpr (P == FL_MATH_FP32) {
#pragma unroll
      for (int h = 0; h < 2; h++) {
        fl_read<MT>(a + fl_by_columns(M, k, row + MT * (8 * h + at.g)), rows[h]);
        fl_read_columns<N>(b, k, 2 * at.t + h, columns[h]);
      }
#pragma unroll
      for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < NT; j++)
#pragma unroll
          for (int he = 0; he < 4; he++) acc[i][j][he] += rows[he >> 1][i] * columns[he & 1][j];
    } else {
#pragma unroll
      for (int q = 0; q < 4; q++) {
        int mine = k + 4 * q + at.t;
#pragma unroll
        for (int h = 0; h < 2; h++) {
          fl_read<MT>(a + fl_by_columns(M, mine, row + MT * (8 * h + at.g)), rows[h]);
#pragma unroll
          for (int i = 0; i < MT; i++) x[i][h][q] = rows[h][i];
        }
        fl_read_columns<N>(b, mine, at.g, columns[0]);
#pragma unroll
        for (int j = 0; j < NT; j++) w[j][q] = columns[0][j];
      }
      fl_multiply<P>(acc, x, w);
    }
  }
}

#endif
