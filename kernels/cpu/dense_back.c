/* The way back over the weights of a dense layer for few rows: bound by memory, so the weights are
 * fetched once, used for both halves, and written once. Columns go in pieces that stay in the
 * second cache level; outputs two at a time, whose factors then stay in registers. The sums of a
 * row or of a weight are taken in an order that depends on the number of rows alone. */
#include <string.h>

#include "cpu.h"

enum { PIECE = 256, GROUP = 10, HALF = 5 };

/* What one call works on: R rows by n columns of C neighbouring outputs. */
typedef struct work {
  int64_t I, O;
  const float *x, *dy, *w; /* first row and column; first row, first output; first output, column */
  float *dx, *gw;
  float scale;
  int ahead; /* columns ahead that are fetched early; 0: none */
} work;

/* dx += dy w and gw += scale * dy' x, for whole vectors of 16 columns. */
static inline __attribute__((always_inline)) void block(const int R, const int C, const bool data,
                                                        const bool weights, int n, const work *k) {
  fl_v16 factor[GROUP][2], scale = (fl_v16){0} + k->scale;
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) factor[r][c] = (fl_v16){0} + k->dy[r * k->O + c];
  for (int at = 0; at < n; at += 16) {
    fl_v16 w[2], g[2] = {{0}, {0}};
    for (int c = 0; data && c < C; c++) w[c] = *(const fl_v16 *)(k->w + c * k->I + at);
    for (int c = 0; c < C; c++)
      __builtin_prefetch((data ? k->w : k->gw) + c * k->I + at + k->ahead, 0, 2);
    for (int r = 0; r < R; r++) {
      if (data) {
        fl_v16 sum = *(const fl_v16 *)(k->dx + r * k->I + at);
        for (int c = 0; c < C; c++) sum = FL_MADD(factor[r][c], w[c], sum);
        *(fl_v16 *)(k->dx + r * k->I + at) = sum;
      }
      if (weights) {
        fl_v16 x = *(const fl_v16 *)(k->x + r * k->I + at);
        for (int c = 0; c < C; c++) g[c] = FL_MADD(factor[r][c], x, g[c]);
      }
    }
    for (int c = 0; weights && c < C; c++) {
      fl_v16 *to = (fl_v16 *)(k->gw + c * k->I + at);
      *to = FL_MADD(scale, g[c], *to);
    }
  }
}

/* The same for R rows and any number of columns: the last few go through a padded copy. */
static inline __attribute__((always_inline)) void piece(const int R, const int C, const bool data,
                                                        const bool weights, int n, const work *k) {
  int whole = n / 16 * 16, rest = n - whole;
  block(R, C, data, weights, whole, k);
  if (rest == 0) return;
  float x[GROUP * 16] = {0}, w[2 * 16] = {0}, dx[GROUP * 16] = {0}, gw[2 * 16] = {0}, dy[GROUP * 2];
  size_t bytes = (size_t)rest * sizeof(float);
  work end = {16, C, x, dy, w, dx, gw, k->scale, 0};
  for (int r = 0; r < R; r++) {
    memcpy(dy + r * C, k->dy + r * k->O, (size_t)C * sizeof(float));
    if (weights) memcpy(x + r * 16, k->x + r * k->I + whole, bytes);
    if (data) memcpy(dx + r * 16, k->dx + r * k->I + whole, bytes);
  }
  for (int c = 0; c < C; c++) {
    if (data) memcpy(w + c * 16, k->w + c * k->I + whole, bytes);
    if (weights) memcpy(gw + c * 16, k->gw + c * k->I + whole, bytes);
  }
  block(R, C, data, weights, 16, &end);
  for (int r = 0; data && r < R; r++) memcpy(k->dx + r * k->I + whole, dx + r * 16, bytes);
  for (int c = 0; weights && c < C; c++) memcpy(k->gw + c * k->I + whole, gw + c * 16, bytes);
}

/* All outputs for R rows. */
static inline __attribute__((always_inline)) void outputs(const int R, const bool data,
                                                          const bool weights, int n, work k) {
  int64_t o = 0;
  for (; o + 2 <= k.O; o += 2, k.dy += 2, k.w += 2 * k.I, k.gw += 2 * k.I)
    piece(R, 2, data, weights, n, &k);
  if (o < k.O) piece(R, 1, data, weights, n, &k);
}

/* One half, all rows: in groups of ten, five and one. */
static inline __attribute__((always_inline)) void half(const bool data, int rows, int n, work k) {
  for (int row = 0, R; row < rows; row += R) {
    R = rows - row >= GROUP ? GROUP : rows - row >= HALF ? HALF : 1;
    if (R == GROUP)
      outputs(GROUP, data, !data, n, k);
    else if (R == HALF)
      outputs(HALF, data, !data, n, k);
    else
      outputs(1, data, !data, n, k);
    k.x += R * k.I;
    k.dx += R * k.I;
    k.dy += R * k.O;
  }
}

void fl_cpu_dense_back(int rows, int64_t I, int64_t O, const float *x, const float *dy,
                       const float *w, float *dx, float scale, float *gw) {
  for (int64_t at = 0; at < I; at += PIECE) {
    int n = I - at < PIECE ? (int)(I - at) : PIECE;
    work k = {I, O, x, dy, w, dx, gw, scale, PIECE};
    if (w) k.w += at;
    if (gw) k.x += at, k.gw += at;
    if (dx) k.dx += at;
    for (int row = 0; dx && row < rows; row++) memset(k.dx + row * I, 0, (size_t)n * sizeof(float));
    if (dx && gw && rows == GROUP) {
      outputs(GROUP, true, true, n, k);
    } else {
      if (dx) half(true, rows, n, k);
      if (gw) half(false, rows, n, k);
    }
  }
}
