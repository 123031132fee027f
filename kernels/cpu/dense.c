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
    FL_TRY(
        fl_nn_gemm(false, true, rows, O, I, 1, fl_lane(x, c), fl_lane(w, c), 0, fl_lane_out(y, c)));
    if (added) add_bias(rows, O, added, fl_lane_out(y, c));
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_dense_bwd_data(fl_dev *d, fl_batch b, int I, int O, fl_cspan dy, fl_cspan w,
                                fl_span dx) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    if (rows == 0) continue;
    FL_TRY(fl_nn_gemm(false, false, rows, I, O, 1, fl_lane(dy, c), fl_lane(w, c), 0,
                      fl_lane_out(dx, c)));
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_dense_bwd_weights(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                   fl_coef scale, fl_span gw, fl_span gbias) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    float factor = fl_coef_at(scale, c);
    const float *dys = fl_lane(dy, c);
    if (rows == 0) continue;
    FL_TRY(fl_nn_gemm(true, false, O, I, rows, factor, dys, fl_lane(x, c), 1, fl_lane_out(gw, c)));
    for (int o = 0; gbias.at && o < O; o++) {
      float sum = 0;
      for (int row = 0; row < rows; row++) sum += dys[(int64_t)row * O + o];
      fl_lane_out(gbias, c)[o] += factor * sum;
    }
  }
  return FEDLANE_OK;
}
