/* Resident dense layers, on the tiles and the fp32 arithmetic of tile.h. Weights stay in global
 * memory, where the L2 cache has them, and pass through a pipeline of shared memory. */
#ifndef FL_CUDA_RESIDENT_DENSE_H
#define FL_CUDA_RESIDENT_DENSE_H

#include "resident.h"
#include "tile.h"

/* Floats k .. k+FL_DEPTH-1 of R rows as a tile by rows; zero from row n_row and from float `end`
 * on. V: floats a copy. */
template <int V>
static __device__ inline void resident_copy_rows(float *tile, int R, const float *from, int pitch,
                                                 int n_row, int k, int end) {
  constexpr int columns = FL_DEPTH / V, at_once = FL_SEAT_THREADS / columns;
  int column = (int)threadIdx.x % columns * V;
#pragma unroll 4
  for (int row = (int)threadIdx.x / columns; row < R; row += at_once) {
    bool in = row < n_row && k + column < end;
    const float *src = in ? from + (int64_t)row * pitch + k + column : NULL;
    fl_copy<V>(tile + fl_by_rows(row, column), src, from);
  }
}

/* Floats first .. first+W-1 of rows k .. k+FL_DEPTH-1 as a tile by columns; zero from row n_row and
 * from float `end` on. */
template <int V, int W>
static __device__ inline void resident_copy_columns(float *tile, const float *from, int pitch,
                                                    int n_row, int k, int first, int end) {
#pragma unroll 4
  for (int e = (int)threadIdx.x; e < FL_DEPTH * W / V; e += FL_SEAT_THREADS) {
    int row = e / (W / V), column = e % (W / V) * V;
    bool in = k + row < n_row && first + column < end;
    const float *src = in ? from + (int64_t)(k + row) * pitch + first + column : NULL;
    fl_copy<V>(tile + fl_by_columns(W, row, column), src, from);
  }
}

/* The same tile from a matrix that lies turned: floats k .. of rows first .. first+N-1. */
template <int W, int N>
static __device__ inline void resident_copy_turned(float *tile, const float *from, int pitch,
                                                   int depth, int k, int first, int end) {
  int row = (int)threadIdx.x % FL_DEPTH;
#pragma unroll 4
  for (int n = (int)threadIdx.x / FL_DEPTH; n < N; n += FL_SEAT_THREADS / FL_DEPTH) {
    bool in = k + row < depth && first + n < end;
    const float *src = in ? from + (int64_t)(first + n) * pitch + k + row : NULL;
    fl_copy<1>(tile + fl_by_columns(W, row, n), src, from);
  }
}

/* Floats of one stage of the forward pass. NT: tiles of 8 rows that a warp has; fewer for small
 * batches. */
template <int NT>
static inline FL_HD int resident_fwd_floats(const fl_task &f) {
  return f.shares * (16 * f.bands + 8 * NT * f.columns) * FL_DEPTH;
}

/* y[b, o] for tiles of `bands` times 16 outputs and `columns` times 8*NT rows. The depth of a stage
 * is cut into shares of FL_DEPTH, a group of warps each, whose sums are joined in order: an output
 * layer of ten classes keeps more than one warp busy that way. */
template <int NT>
static __device__ __attribute__((noinline)) void resident_dense_fwd(const fl_task &f,
                                                                    const fl_now &now) {
  const fl_call &c = f.call;
  const float *x = fl_lane(c.in[0], now.lane), *w = fl_lane(c.in[1], now.lane);
  const float *bias = fl_lane(c.in[2], now.lane);
  float *y = fl_lane_out(c.out[0], now.lane);
  float *room = fl_room(now);
  int M = 16 * f.bands, N = 8 * NT * f.columns, tile = (M + N) * FL_DEPTH, stage = f.shares * tile;
  int warp = (int)threadIdx.x / 32, band = warp % f.bands, column = warp / f.bands % f.columns;
  int share = warp / (f.bands * f.columns);
  bool even = c.I % 4 == 0 && fl_even(x) && fl_even(w);
  fl_place at = fl_place_of<FL_MATH_FP32>((int)threadIdx.x % 32);
  for (int o = 0; o < c.O; o += M)
    for (int row = 0; row < now.live; row += N) {
      float acc[1][NT][4] = {};
      const float *ws = w + (int64_t)o * c.I, *xs = x + (int64_t)row * c.I;
      auto copy = [&](int k) {
        for (int s = 0; s < f.shares; s++) {
          float *to = room + k % FL_STAGES * stage + s * tile;
          int depth = (k * f.shares + s) * FL_DEPTH;
          if (even) {
            resident_copy_rows<4>(to, M, ws, c.I, c.O - o, depth, c.I);
            resident_copy_rows<4>(to + M * FL_DEPTH, N, xs, c.I, now.live - row, depth, c.I);
          } else {
            resident_copy_rows<1>(to, M, ws, c.I, c.O - o, depth, c.I);
            resident_copy_rows<1>(to + M * FL_DEPTH, N, xs, c.I, now.live - row, depth, c.I);
          }
        }
      };
      fl_pipeline((c.I + f.shares * FL_DEPTH - 1) / (f.shares * FL_DEPTH), copy, [&](int k) {
        if (share >= f.shares) return;
        const float *a = room + k % FL_STAGES * stage + share * tile;
        fl_stage_by_rows<FL_MATH_FP32>(acc, a, 16 * band, a + (M + 8 * NT * column) * FL_DEPTH, at);
      });
      __syncthreads();
      int pitch = M + 4;
#pragma unroll
      for (int q = 0; q < 4 * NT; q++)
        if (share < f.shares)
          room[(share * N + 8 * (NT * column + q / 4) + 2 * at.t + q % 2) * pitch + 16 * band +
               8 * (q / 2 % 2) + at.g] = acc[0][q / 4][q % 4];
      __syncthreads();
      int wide = min(M, c.O - o), high = min(N, now.live - row);
      for (int e = (int)threadIdx.x; e < wide * high; e += FL_SEAT_THREADS) {
        int n = e / wide, m = e - n * wide;
        float sum = bias ? bias[o + m] : 0;
        for (int s = 0; s < f.shares; s++) sum += room[(s * N + n) * pitch + m];
        y[(int64_t)(row + n) * c.O + o + m] = sum;
      }
      __syncthreads();
    }
}

/* A warp's share of out[n, i]: written, or (SUMS) scale times it added. Old values are read many at
 * a time, because the writes between would hold the next reads up. */
template <int MT, int NT, bool SUMS>
static __device__ inline void resident_put(const float (&acc)[MT][NT][4], fl_place at, float *out,
                                           int I, int columns, int first, int column, float scale) {
#pragma unroll
  for (int j = 0; j < NT; j++) {
    float old[4][MT];
#pragma unroll
    for (int q = 0; q < 4; q++)
#pragma unroll
      for (int m = 0; m < MT; m++) {
        int i = first + MT * (8 * (q / 2) + at.g) + m,
            n = column + fl_column<NT>(j, 2 * at.t + q % 2);
        old[q][m] = SUMS && i < I && n < columns ? out[(int64_t)n * I + i] : 0;
      }
#pragma unroll
    for (int q = 0; q < 4; q++)
#pragma unroll
      for (int m = 0; m < MT; m++) {
        int i = first + MT * (8 * (q / 2) + at.g) + m,
            n = column + fl_column<NT>(j, 2 * at.t + q % 2);
        float v = acc[m][j][q];
        if (i < I && n < columns) out[(int64_t)n * I + i] = SUMS ? fmaf(scale, v, old[q][m]) : v;
      }
  }
}

/* dx[b, i] = sum over o of w[o, i] dy[b, o], or (SUMS) gw[o, i] += scale * sum over b of x[b, i]
 * dy[b, o]: tiles of 256 inputs by 8*NT*WN rows, or outputs. */
template <int MT, int NT, int WN, bool SUMS>
static __device__ __attribute__((noinline)) void resident_dense_back(const fl_task &f,
                                                                     const fl_now &now) {
  constexpr int WM = FL_SEAT_WARPS / WN, M = 16 * MT * WM, N = 8 * NT * WN, W = N < 32 ? 32 : N;
  constexpr int stage = (M + W) * FL_DEPTH;
  static_assert(WN == 1 || 8 * NT % 32 == 0, "a warp's columns start where the tile repeats");
  const fl_call &c = f.call;
  const float *wide = fl_lane(c.in[SUMS ? 0 : 1], now.lane);
  const float *dy = fl_lane(c.in[SUMS ? 1 : 0], now.lane);
  float *out = fl_lane_out(c.out[0], now.lane),
        *gbias = SUMS ? fl_lane_out(c.out[1], now.lane) : NULL;
  float *room = fl_room(now);
  int depth = SUMS ? now.live : c.O, columns = SUMS ? c.O : now.live, thread = (int)threadIdx.x;
  int band = 16 * MT * (thread / 32 % WM), part = 8 * NT * (thread / 32 / WM);
  bool even = c.I % 4 == 0 && fl_even(wide), even_dy = c.O % 4 == 0 && fl_even(dy);
  fl_place at = fl_place_of<FL_MATH_FP32>(thread % 32);
  for (int column = 0; column < columns; column += N)
    for (int first = 0; first < c.I; first += M) {
      float acc[MT][NT][4] = {}, column_sum = 0;
      bool sums_up = gbias && first == 0 && thread < N;
      auto copy = [&](int k) {
        float *to = room + k % FL_STAGES * stage, *narrow = to + M * FL_DEPTH;
        if (even)
          resident_copy_columns<4, M>(to, wide, c.I, depth, k * FL_DEPTH, first, c.I);
        else
          resident_copy_columns<1, M>(to, wide, c.I, depth, k * FL_DEPTH, first, c.I);
        if (!SUMS)
          resident_copy_turned<W, N>(narrow, dy, c.O, depth, k * FL_DEPTH, column, now.live);
        else if (even_dy)
          resident_copy_columns<4, W>(narrow, dy, c.O, depth, k * FL_DEPTH, column, c.O);
        else
          resident_copy_columns<1, W>(narrow, dy, c.O, depth, k * FL_DEPTH, column, c.O);
      };
      fl_pipeline((depth + FL_DEPTH - 1) / FL_DEPTH, copy, [&](int k) {
        const float *a = room + k % FL_STAGES * stage, *b = a + M * FL_DEPTH;
        int left = min((int)FL_DEPTH, (depth - k * FL_DEPTH + 3) / 4 * 4);
        fl_stage_by_columns<FL_MATH_FP32, M, W>(acc, a, band, b + part, left, at);
        for (int d = 0; sums_up && d < FL_DEPTH; d++) column_sum += b[fl_by_columns(W, d, thread)];
      });
      if (sums_up && column + thread < c.O)
        gbias[column + thread] = fmaf(c.a, column_sum, gbias[column + thread]);
      resident_put<MT, NT, SUMS>(acc, at, out, c.I, columns, first + band, column + part, c.a);
      __syncthreads();
    }
}

/* Few columns: a batch of at most 16 rows, or a layer of at most 16 outputs. */
static inline FL_HD bool resident_narrow(int columns) { return columns <= 16; }

#endif
