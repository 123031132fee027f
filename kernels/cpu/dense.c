#include <string.h>

#include "cpu.h"

/* The forward product of a small batch is bound by reading w once, so it walks w in pieces of K
 * columns by 4 outputs, and keeps x's piece and 5 x 4 running sums, each a vector over 16 columns,
 * close by. A sum's order depends on I alone. */
enum { K = 512, ROWS = 5, OUTS = 4, CHUNK = 64 };

/* sum[row, o] += x[row, 0..n-1] * w[o, 0..n-1] lane by lane, for R rows and C outputs. */
static inline __attribute__((always_inline)) void tile(const int R, const int C, int n, int64_t I,
                                                       int64_t O, const float *x, const float *w,
                                                       fl_v16 *sum) {
  fl_v16 s[ROWS][OUTS], b[OUTS];
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) s[r][c] = sum[r * O + c];
  for (int k = 0; k < n; k += 16) {
    for (int c = 0; c < C; c++) b[c] = *(const fl_v16 *)(w + c * I + k);
    for (int r = 0; r < R; r++) {
      fl_v16 a = *(const fl_v16 *)(x + r * I + k);
      for (int c = 0; c < C; c++) s[r][c] = FL_MADD(a, b[c], s[r][c]);
    }
  }
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) sum[r * O + c] = s[r][c];
}

/* All rows of the chunk against the outputs o .. o+C-1. */
static inline __attribute__((always_inline)) void strip(const int C, int rows, int n, int64_t I,
                                                        int64_t O, const float *x, const float *w,
                                                        fl_v16 *sum) {
  int row = 0;
  for (; row + ROWS <= rows; row += ROWS) tile(ROWS, C, n, I, O, x + row * I, w, sum + row * O);
  for (; row < rows; row++) tile(1, C, n, I, O, x + row * I, w, sum + row * O);
}

static float total(const fl_v16 *sum) {
  float s[16];
  memcpy(s, sum, sizeof s);
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; i++) s[i] += s[i + half];
  return s[0];
}

/* y[rows, O] = x w' + bias; sum: rows * O vectors of scratch. */
static void chunk_fwd(int rows, int64_t I, int64_t O, const float *x, const float *w,
                      const float *bias, fl_v16 *sum, float *y) {
  int64_t whole = I / 16 * 16;
  memset(sum, 0, (size_t)(rows * O) * sizeof *sum);
  for (int64_t k = 0; k < whole; k += K) {
    int n = whole - k < K ? (int)(whole - k) : K;
    int64_t o = 0;
    for (; o + OUTS <= O; o += OUTS) strip(OUTS, rows, n, I, O, x + k, w + o * I + k, sum + o);
    for (; o < O; o++) strip(1, rows, n, I, O, x + k, w + o * I + k, sum + o);
  }
  for (int64_t i = 0; i < rows * O; i++) {
    const float *xs = x + i / O * I, *ws = w + i % O * I;
    float rest = bias ? bias[i % O] : 0;
    for (int64_t k = whole; k < I; k++) rest += xs[k] * ws[k];
    y[i] = total(&sum[i]) + rest;
  }
}

/* y[rows, O] += bias. */
static void add_bias(int rows, int O, const float *bias, float *y) {
  for (int row = 0; row < rows; row++, y += O)
    for (int o = 0; o < O; o++) y[o] += bias[o];
}

/* Batches with more rows than a chunk are bound by arithmetic and go to the library's product. */
fl_status fl_cpu_dense_fwd(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y) {
  void *sum = NULL;
  if (b.B <= CHUNK) FL_TRY(fl_cpu_scratch(d, (int64_t)b.B * O * (int64_t)sizeof(fl_v16), &sum));
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    const float *added = bias.at ? fl_lane(bias, c) : NULL;
    if (rows == 0) continue;
    if (b.B <= CHUNK) {
      chunk_fwd(rows, I, O, fl_lane(x, c), fl_lane(w, c), added, sum, fl_lane_out(y, c));
      continue;
    }
    fl_matrix xs = {fl_lane(x, c), I, false}, ws = {fl_lane(w, c), I, true};
    FL_TRY(fl_nn_gemm(rows, O, I, 1, xs, ws, 0, fl_lane_out(y, c), O));
    if (added) add_bias(rows, O, added, fl_lane_out(y, c));
  }
  return FEDLANE_OK;
}

/* Columns of the weights that stay in the cache between the two halves of the way back. */
enum { COLUMNS = 2048 };

/* One lane's way back over its weights, columns by columns: first dx[rows, I] = dy w, then
 * gw += scale * dy' x, which may change w. dx NULL, gw NULL: that half is not wanted. */
static fl_status lane_bwd(int rows, int64_t I, int64_t O, const float *x, const float *dy,
                          const float *w, float *dx, float scale, float *gw) {
  fl_matrix dys = {dy, O, false}, turned = {dy, O, true};
  if (rows <= CHUNK) {
    fl_cpu_dense_back(rows, I, O, x, dy, w, dx, scale, gw);
    return FEDLANE_OK;
  }
  for (int64_t k = 0; k < I; k += COLUMNS) {
    int64_t n = I - k < COLUMNS ? I - k : COLUMNS;
    if (dx) FL_TRY(fl_nn_gemm(rows, n, O, 1, dys, (fl_matrix){w + k, I, false}, 0, dx + k, I));
    if (gw)
      FL_TRY(fl_nn_gemm(O, n, rows, scale, turned, (fl_matrix){x + k, I, false}, 1, gw + k, I));
  }
  return FEDLANE_OK;
}

/* gbias += scale * column sums of dy, some columns at a time. */
static void lane_bwd_bias(int rows, int O, const float *dy, float scale, float *gbias) {
  for (int at = 0; at < O; at += CHUNK) {
    int n = O - at < CHUNK ? O - at : CHUNK;
    float sum[CHUNK] = {0};
    for (int row = 0; row < rows; row++)
      for (int o = 0; o < n; o++) sum[o] += dy[(int64_t)row * O + at + o];
    for (int o = 0; o < n; o++) gbias[at + o] += scale * sum[o];
  }
}

fl_status fl_cpu_dense_bwd_data(fl_dev *d, fl_batch b, int I, int O, fl_cspan dy, fl_cspan w,
                                fl_span dx) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    FL_TRY(lane_bwd(fl_rows_used(b, c), I, O, NULL, fl_lane(dy, c), fl_lane(w, c),
                    fl_lane_out(dx, c), 0, NULL));
  return FEDLANE_OK;
}

fl_status fl_cpu_dense_bwd_weights(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                   fl_coef scale, fl_span gw, fl_span gbias) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    int rows = b.rows[c];
    float factor = fl_coef_at(scale, c);
    FL_TRY(lane_bwd(rows, I, O, fl_lane(x, c), fl_lane(dy, c), NULL, NULL, factor,
                    fl_lane_out(gw, c)));
    if (gbias.at) lane_bwd_bias(rows, O, fl_lane(dy, c), factor, fl_lane_out(gbias, c));
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_dense_bwd(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy, fl_cspan w,
                           fl_span dx, fl_coef scale, fl_span gw, fl_span gbias) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    int live = b.rows[c], rows = fl_rows_used(b, c);
    const float *xs = fl_lane(x, c), *dys = fl_lane(dy, c), *ws = fl_lane(w, c);
    float factor = fl_coef_at(scale, c), *dxs = fl_lane_out(dx, c), *gws = fl_lane_out(gw, c);
    bool together = live == rows; /* else rows of x that hold anything would add to gw */
    FL_TRY(lane_bwd(rows, I, O, together ? xs : NULL, dys, ws, dxs, factor, together ? gws : NULL));
    if (!together) FL_TRY(lane_bwd(live, I, O, xs, dys, NULL, NULL, factor, gws));
    if (gbias.at) lane_bwd_bias(live, O, dys, factor, fl_lane_out(gbias, c));
  }
  return FEDLANE_OK;
}
