/* What becomes of a convolution's results once they are summed: bias, relu, pooling, and where they
 * are written.
 *
 * The rows of a block's tile stand for cells of the image written. Without pooling a cell is a
 * pixel. With pooling it is a window of four, and 32 rows are eight cells: their first pixels, then
 * their second, third and fourth ones. Rows 16*i + 8*h + g belong to one thread (tile.h), so it
 * holds whole windows and pools them in its registers. */
#ifndef FL_CUDA_CONV_RESULTS_H
#define FL_CUDA_CONV_RESULTS_H

#include "conv.h"

typedef struct fl_results {
  fl_span to;
  fl_cspan bias;    /* absent: none */
  fl_cspan gate;    /* in the order of `to`; results are 0 where it is not positive; absent: none */
  fl_span mask;     /* with pooling, if wanted: see conv_relu_fwd in ops.h */
  bool relu, pairs; /* pairs: channels are even, and two of them may be one access */
  /* every_w > 1: cell (h, w) is pixel (row + h*every_h, column + w*every_w) of images of size
   * `whole`. */
  int every_h, every_w, row, column;
  fl_image whole;
} fl_results;

static inline fl_results fl_results_of(fl_span to, fl_cspan bias) {
  fl_results r = {to, bias, {NULL, 0}, {NULL, 0}, false, false, 1, 1, 0, 0, {0, 0, 0, 0}};
  return r;
}

/* Those of the lanes from `first` on. */
static inline fl_results fl_results_from(const fl_results *all, int first) {
  fl_results r = *all;
  r.to = fl_span_from(all->to, first);
  r.bias = fl_cspan_from(all->bias, first);
  r.gate = fl_cspan_from(all->gate, first);
  r.mask = fl_span_from(all->mask, first);
  return r;
}

/* The cell, counted from the tile's first, that a row of a tile belongs to; for a multiple of 32
 * rows, how many cells they are. */
static inline FL_HD int fl_cell(const fl_conv &s, int row) {
  return s.side == 1 ? row : row / 32 * 8 + row % 8;
}

/* The pixel, before pooling, of the cell that this row stands for. */
static __device__ __forceinline__ fl_pixel fl_cell_pixel(const fl_conv &s, int cell, int row) {
  fl_pixel at = fl_pixel_of(s.to, cell);
  if (s.side == 1) return at;
  at.h = 2 * at.h + (row / 16 & 1);
  at.w = 2 * at.w + (row / 8 & 1);
  return at;
}

/* Where element 0 of a cell is in `to`. */
static __device__ __forceinline__ int64_t fl_cell_place(const fl_conv &s, const fl_results &r,
                                                        int cell) {
  if (r.every_w == 1) return (int64_t)cell * s.to.channels;
  fl_pixel at = fl_pixel_of(s.to, cell);
  int h = r.row + at.h * r.every_h, w = r.column + at.w * r.every_w;
  return (((int64_t)at.image * r.whole.height + h) * r.whole.width + w) * s.to.channels;
}

/* Channels n and n + 1, the second if it is there; pairs: as one access. */
typedef struct fl_neighbours {
  int n, channels;
  bool pairs;
} fl_neighbours;

static __device__ __forceinline__ void fl_read_neighbours(const float *at, fl_neighbours c,
                                                          float (&out)[2]) {
  if (c.pairs) return fl_read<2>(at + c.n, out);
  out[0] = at[c.n];
  if (c.n + 1 < c.channels) out[1] = at[c.n + 1];
}

static __device__ __forceinline__ void fl_write_neighbours(float *at, fl_neighbours c,
                                                           const float (&v)[2]) {
  if (c.pairs) return fl_write<2>(at + c.n, v);
  at[c.n] = v[0];
  if (c.n + 1 < c.channels) at[c.n + 1] = v[1];
}

static __device__ __forceinline__ void fl_write_mask(uint8_t *at, fl_neighbours c,
                                                     const uint8_t (&v)[2]) {
  if (c.pairs) {
    *reinterpret_cast<uint16_t *>(at + c.n) = (uint16_t)(v[0] | v[1] << 8);
    return;
  }
  at[c.n] = v[0];
  if (c.n + 1 < c.channels) at[c.n + 1] = v[1];
}

static __device__ __forceinline__ float fl_relu(float x) { return x < 0 ? 0 : x; }

/* Two channels of a pixel: of half h of tile (i, j). */
template <int MT, int NT>
static __device__ __forceinline__ void fl_write_pixel(const float (&acc)[MT][NT][4], int i, int h,
                                                      int j, const float (&bias)[2], bool relu,
                                                      fl_neighbours c, const float *gate,
                                                      float *to) {
  float v[2], open[2] = {1, 1};
  if (gate) fl_read_neighbours(gate, c, open);
#pragma unroll
  for (int e = 0; e < 2; e++) {
    v[e] = acc[i][j][2 * h + e] + bias[e];
    if (relu) v[e] = fl_relu(v[e]);
    if (!(open[e] > 0)) v[e] = 0;
  }
  fl_write_neighbours(to, c, v);
}

/* Two channels of a window, from tiles (i, j) and (i + 1, j): the first largest of four results, a
 * NaN being larger than everything. */
template <int MT, int NT>
static __device__ __forceinline__ void fl_write_window(const float (&acc)[MT][NT][4], int i, int j,
                                                       const float (&bias)[2], fl_neighbours c,
                                                       float *to, uint8_t *mask) {
  float v[2];
  uint8_t place[2] = {0, 0};
#pragma unroll
  for (int e = 0; e < 2; e++) {
    v[e] = acc[i][j][e] + bias[e];
#pragma unroll
    for (int p = 1; p < 4; p++) {
      float next = acc[i + p / 2][j][2 * (p % 2) + e] + bias[e];
      if (next > v[e] || next != next) {
        v[e] = next;
        place[e] = (uint8_t)p;
      }
    }
    v[e] = fl_relu(v[e]);
    if (!(v[e] > 0)) place[e] = 4;
  }
  fl_write_neighbours(to, c, v);
  if (mask) fl_write_mask(mask, c, place);
}

/* A warp's results. cell, column: its first ones; a pooled image always passes relu. */
template <int MT, int NT>
static __device__ __forceinline__ void fl_write_results(const float (&acc)[MT][NT][4], fl_place at,
                                                        const fl_conv &s, const fl_results &r,
                                                        int cell, int live, int column) {
  int lane = (int)blockIdx.y;
  const float *bias = fl_lane(r.bias, lane), *gate = fl_lane(r.gate, lane);
  float *to = fl_lane_out(r.to, lane), *mask = fl_lane_out(r.mask, lane);
  float add[NT][2] = {};
#pragma unroll
  for (int j = 0; j < NT; j++)
#pragma unroll
    for (int e = 0; e < 2; e++) {
      int n = column + 8 * j + 2 * at.t + e;
      if (bias && n < s.to.channels) add[j][e] = bias[n];
    }
#pragma unroll
  for (int row = 0; row < 16 * MT; row += 8) {
    int mine = cell + fl_cell(s, row + at.g), i = row / 16, h = row / 8 % 2;
    if (mine >= live || (s.side == 2 && row % 32 > 0)) continue;
    int64_t place = fl_cell_place(s, r, mine);
#pragma unroll
    for (int j = 0; j < NT; j++) {
      fl_neighbours c = {column + 8 * j + 2 * at.t, s.to.channels, r.pairs};
      if (c.n >= c.channels) continue;
      if (s.side == 1)
        fl_write_pixel(acc, i, h, j, add[j], r.relu, c, gate ? gate + place : NULL, to + place);
      else if (row % 32 == 0)
        fl_write_window(acc, i, j, add[j], c, to + place,
                        mask ? reinterpret_cast<uint8_t *>(mask) + place : NULL);
    }
  }
}

#endif
