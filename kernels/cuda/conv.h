/* What the convolution kernels share: a convolution as a matrix product, and the arithmetic of one
 * warp on tiles in shared memory, in three precisions.
 *
 * All three products of a convolution are computed without ever writing the matrix of windows: the
 * blocks copy its elements from the images as they need them (implicit GEMM). Two operand tiles of
 * one stage, 32 steps deep, are in shared memory; a warp owns 16*MT rows by 8*NT columns of the
 * result and keeps them in registers as acc[MT][NT][4].
 *
 * Thread (g, t) of a warp, 0 <= g < 8, 0 <= t < 4, holds of the 16 x 8 tile (i, j) the elements
 * 2*h + e at row g of half h and column 2*t + e, as the matrix instructions have it; plain fp32
 * arithmetic uses the same division of labour, so that only this header knows of precisions. Which
 * rows and columns of the product these are depends on how the operands lie:
 *
 *   by rows:    a tile row is one row (column) of the product, its 32 floats are consecutive depth
 *               row 16*i + 8*h + g, column 8*j + 2*t + e
 *   by columns: a tile row is one step of depth, its floats are consecutive rows (columns)
 *               row MT*(8*h + g) + i, column NT*(2*t + e) + j
 *
 * Either way fragments are read as 16-byte vectors. The instructions sum over depth in any order
 * that both operands share, so a thread's four steps of depth may be the four that lie together.
 * Within each 128 bytes the 16-byte chunks are permuted (turned) so that neither the copies in nor
 * the reads meet bank conflicts.
 *
 *   fp32: FFMA; every result is summed in ascending depth.
 *   tf32: m16n8k8, operands rounded to nearest.  bf16: m16n8k16, likewise. Sums are fp32. */
#ifndef FL_CUDA_CONV_H
#define FL_CUDA_CONV_H

#include "cuda.h"

enum {
  FL_DEPTH = 32,          /* of one pipeline stage */
  FL_STAGES = 3,          /* in flight */
  FL_IMAGE_SIDE = 0x3fff, /* most rows or columns of an image: corners are packed in 16 bits */
};

/* One convolution. Pixel (h, w) of the image `to` sees, through place (kh, kw) of the window, pixel
 * ((h*step - pad + kh) / spread, likewise) of the image `from`, if that is whole and inside. The
 * forward pass has spread 1; the gradient of the input is a convolution with step 1, spread the
 * layer's stride, and the filters turned around. */
typedef struct fl_conv {
  fl_image to, from;
  int kernel, step, spread, pad;
} fl_conv;

static inline FL_HD int fl_conv_depth(const fl_conv *s) {
  return s->kernel * s->kernel * s->from.channels;
}

/* UNSUPPORTED for images that do not fit the kernels' 32-bit and 16-bit numbers. */
static inline fl_status fl_conv_check(const fl_conv *s, int B) {
  int most = s->to.height > s->to.width ? s->to.height : s->to.width;
  if (s->from.height > most) most = s->from.height;
  if (s->from.width > most) most = s->from.width;
  int64_t pixels = (int64_t)B * most * most;
  if (most <= FL_IMAGE_SIDE && pixels <= INT32_MAX / 2) return FEDLANE_OK;
  return fl_fail(FEDLANE_UNSUPPORTED,
                 "a batch of %d images of %d x %d is too large for a convolution on cuda: at most "
                 "%d x %d, and 2^30 pixels",
                 B, s->from.height, s->from.width, FL_IMAGE_SIDE, FL_IMAGE_SIDE);
}

/* --- where the pixels of a window are ------------------------------------------------------- */
/* A pixel of `to`: the first pixel of its image in `from`, and the window's corner. */
typedef struct fl_corner {
  int image;
  int16_t h, w;
} fl_corner;

static __device__ __forceinline__ fl_corner fl_corner_of(const fl_conv &s, int pixel, int live) {
  fl_corner out = {0, -FL_IMAGE_SIDE - 1, 0}; /* outside through every place of the window */
  if (pixel >= live) return out;
  int row = pixel / s.to.width, w = pixel - row * s.to.width;
  int image = row / s.to.height, h = row - image * s.to.height;
  out.image = image * s.from.height * s.from.width;
  out.h = (int16_t)(h * s.step - s.pad);
  out.w = (int16_t)(w * s.step - s.pad);
  return out;
}

/* The pixel of `from` through (kh, kw), or -1. */
static __device__ __forceinline__ int fl_corner_pixel(const fl_conv &s, fl_corner at, int kh,
                                                      int kw) {
  int h = at.h + kh, w = at.w + kw;
  if (s.spread > 1) {
    if (h % s.spread || w % s.spread) return -1;
    h /= s.spread;
    w /= s.spread;
  }
  bool inside = (unsigned)h < (unsigned)s.from.height && (unsigned)w < (unsigned)s.from.width;
  return inside ? at.image + h * s.from.width + w : -1;
}

/* A step of depth of a window: tap after tap, within a tap channel after channel. */
typedef struct fl_tap {
  int channel, kh, kw;
} fl_tap;

static __device__ __forceinline__ void fl_tap_advance(const fl_conv &s, fl_tap *at, int by) {
  at->channel += by;
  while (at->channel >= s.from.channels) {
    at->channel -= s.from.channels;
    if (++at->kw == s.kernel) {
      at->kw = 0;
      at->kh++;
    }
  }
}

/* Copies W = 4 or 1 floats to shared memory, or zeros when src is NULL; `any` is a valid address.
 */
template <int W>
static __device__ __forceinline__ void fl_copy(float *dst, const float *src, const float *any) {
  if constexpr (W == 4)
    fl_cp_async16(dst, src ? src : any, src ? 16 : 0);
  else
    fl_cp_async4(dst, src ? src : any, src ? 4 : 0);
}

/* --- tiles in shared memory ----------------------------------------------------------------- */
/* By rows: float k, 0 <= k < 32, of a row. */
static __device__ __forceinline__ int fl_by_rows(int row, int k) {
  return row * FL_DEPTH + (k ^ (row & 7) << 2);
}

/* By columns: float n, 0 <= n < width, of step k. width is a multiple of 32. */
static __device__ __forceinline__ int fl_by_columns(int width, int k, int n) {
  return k * width + (n ^ ((k & 3) << 3));
}

template <int W>
static __device__ __forceinline__ void fl_read(const float *at, float *out) {
  if constexpr (W == 4) {
    float4 v = *reinterpret_cast<const float4 *>(at);
    out[0] = v.x;
    out[1] = v.y;
    out[2] = v.z;
    out[3] = v.w;
  } else if constexpr (W == 2) {
    float2 v = *reinterpret_cast<const float2 *>(at);
    out[0] = v.x;
    out[1] = v.y;
  } else {
    out[0] = *at;
  }
}

template <int W>
static __device__ __forceinline__ void fl_write(float *at, const float *from) {
  if constexpr (W == 4)
    *reinterpret_cast<float4 *>(at) = make_float4(from[0], from[1], from[2], from[3]);
  else if constexpr (W == 2)
    *reinterpret_cast<float2 *>(at) = make_float2(from[0], from[1]);
  else
    *at = *from;
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

/* acc += a b over 16 steps of depth, 4 of them in each thread: a[i][h] of row (i, h, g) and b[j] of
 * column (j, g) hold the same steps. */
template <fl_precision P, int MT, int NT>
static __device__ __forceinline__ void fl_multiply(float (&acc)[MT][NT][4],
                                                   const float (&a)[MT][2][4],
                                                   const float (&b)[NT][4]) {
  uint32_t rows[MT][2][4], columns[NT][4];
  constexpr int each = P == FL_MATH_TF32 ? 1 : 2; /* values a register */
#pragma unroll
  for (int q = 0; q < 4; q += each) {
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int h = 0; h < 2; h++)
        rows[i][h][q / each] =
            each == 1 ? fl_tf32(a[i][h][q]) : fl_bf16_pair(a[i][h][q], a[i][h][(q + 1) & 3]);
#pragma unroll
    for (int j = 0; j < NT; j++)
      columns[j][q / each] =
          each == 1 ? fl_tf32(b[j][q]) : fl_bf16_pair(b[j][q], b[j][(q + 1) & 3]);
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

/* acc += a b' over one stage, tiles by rows. row: the tile row of row (i, h, g) is row[i][h] +
 * shift; column: the warp's first in tile b. Thread t of four takes depths 8*t to 8*t + 7. */
template <fl_precision P, int MT, int NT>
static __device__ __forceinline__ void fl_stage_by_rows(float (&acc)[MT][NT][4], const float *a,
                                                        const int (&row)[MT][2], int shift,
                                                        const float *b, int column, fl_place at) {
  constexpr bool matrix = P != FL_MATH_FP32;
  constexpr int steps = matrix ? 2 : 8;
#pragma unroll 1
  for (int step = 0; step < steps; step++) {
    float x[MT][2][4], w[NT][4];
    int k = 4 * (matrix ? 2 * at.t + step : step);
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int h = 0; h < 2; h++) fl_read<4>(a + fl_by_rows(row[i][h] + shift, k), x[i][h]);
    if constexpr (matrix) {
#pragma unroll
      for (int j = 0; j < NT; j++) fl_read<4>(b + fl_by_rows(column + 8 * j + at.g, k), w[j]);
      fl_multiply<P>(acc, x, w);
    } else {
#pragma unroll
      for (int e = 0; e < 2; e++) {
#pragma unroll
        for (int j = 0; j < NT; j++)
          fl_read<4>(b + fl_by_rows(column + 8 * j + 2 * at.t + e, k), w[j]);
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

/* The same for tiles by columns, of M and N floats a step. */
template <fl_precision P, int M, int N, int MT, int NT>
static __device__ __forceinline__ void fl_stage_by_columns(float (&acc)[MT][NT][4], const float *a,
                                                           int row, const float *b, int column,
                                                           fl_place at) {
  if constexpr (P == FL_MATH_FP32) {
#pragma unroll 4
    for (int k = 0; k < FL_DEPTH; k++) {
      float x[2][MT], w[2][NT];
#pragma unroll
      for (int h = 0; h < 2; h++) {
        fl_read<MT>(a + fl_by_columns(M, k, row + MT * (8 * h + at.g)), x[h]);
        fl_read<NT>(b + fl_by_columns(N, k, column + NT * (2 * at.t + h)), w[h]);
      }
#pragma unroll
      for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < NT; j++)
#pragma unroll
          for (int he = 0; he < 4; he++) acc[i][j][he] += x[he >> 1][i] * w[he & 1][j];
    }
  } else {
#pragma unroll
    for (int k = 0; k < FL_DEPTH; k += 16) {
      float x[MT][2][4], w[NT][4], read[4];
#pragma unroll
      for (int q = 0; q < 4; q++) {
        int mine = k + 4 * q + at.t;
#pragma unroll
        for (int h = 0; h < 2; h++) {
          fl_read<MT>(a + fl_by_columns(M, mine, row + MT * (8 * h + at.g)), read);
#pragma unroll
          for (int i = 0; i < MT; i++) x[i][h][q] = read[i];
        }
        fl_read<NT>(b + fl_by_columns(N, mine, column + NT * at.g), read);
#pragma unroll
        for (int j = 0; j < NT; j++) w[j][q] = read[j];
      }
      fl_multiply<P>(acc, x, w);
    }
  }
}

#endif
