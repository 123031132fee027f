#include "dense.h"

/* The forward product of a small batch reads w once: 5 rows by 4 outputs at a time, whose running
 * sums, vectors over 16 columns, stay in registers, and at most 10 rows of x and DEEP columns,
 * which stay in the first cache level with the outputs that two tiles share. The order of a sum
 * depends on I alone. */
enum { DEEP = 800, ROWS = 5, OUTS = 4, GROUP = 10, CHUNK = 64 };

/* y[row, o] += x[row, 0..n-1] * w[o, 0..n-1] for R rows and C outputs. */
INLINE void tile(const int R, const int C, int n, int64_t I, int64_t O, const float *x,
                 const float *w, float *y) {
  fl_v16 s[ROWS][OUTS] = {0}, b[OUTS];
  int k = 0;
  for (; k + 16 <= n; k += 16) {
    for (int c = 0; c < C; c++) b[c] = *(const fl_v16 *)(w + c * I + k);
    for (int r = 0; r < R; r++) {
      fl_v16 a = *(const fl_v16 *)(x + r * I + k);
      FL_KEEP(a);
      for (int c = 0; c < C; c++) s[r][c] = FL_MADD(a, b[c], s[r][c]);
    }
  }
  if (k < n) {
    for (int c = 0; c < C; c++) fl_load_some(w + c * I + k, n - k, &b[c]);
    for (int r = 0; r < R; r++) {
      fl_v16 a;
      fl_load_some(x + r * I + k, n - k, &a);
      for (int c = 0; c < C; c++) s[r][c] = FL_MADD(a, b[c], s[r][c]);
    }
  }
  for (int r = 0; r < R; r++) {
    fl_v4 sum = fl_totals(s[r]);
    if (C == OUTS)
      *(fl_v4 *)(y + r * O) += sum;
    else
      for (int c = 0; c < C; c++) y[r * O + c] += sum[c];
  }
}

/* All rows of a group against the outputs o .. o+C-1. */
INLINE void strip(const int C, int rows, int n, int64_t I, int64_t O, const float *x,
                  const float *w, float *y) {
  int row = 0;
  for (; row + ROWS <= rows; row += ROWS) tile(ROWS, C, n, I, O, x + row * I, w, y + row * O);
  for (; row < rows; row++) tile(1, C, n, I, O, x + row * I, w, y + row * O);
}

static void group_fwd(int rows, int n, int64_t I, int64_t O, const float *x, const float *w,
                      float *y) {
  int64_t o = 0;
  for (; o + OUTS <= O; o += OUTS) strip(OUTS, rows, n, I, O, x, w + o * I, y + o);
  for (; o + 2 <= O; o += 2) strip(2, rows, n, I, O, x, w + o * I, y + o);
  if (o < O) strip(1, rows, n, I, O, x, w + o * I, y + o);
}

/* y[rows, O] = x w' + bias. */
static void chunk_fwd(int rows, int64_t I, int64_t O, const float *x, const float *w,
                      const float *bias, float *y) {
  for (int row = 0; row < rows; row++)
    if (bias)
      memcpy(y + row * O, bias, (size_t)O * sizeof *y);
    else
      memset(y + row * O, 0, (size_t)O * sizeof *y);
  for (int64_t k = 0; k < I; k += DEEP)
    for (int row = 0; row < rows; row += GROUP)
      group_fwd(rows - row < GROUP ? rows - row : GROUP, I - k < DEEP ? (int)(I - k) : DEEP, I, O,
                x + row * I + k, w + k, y + row * O);
}

/* y[rows, O] += bias. */
static void add_bias(int rows, int O, const float *bias, float *y) {
  for (int row = 0; row < rows; row++, y += O)
    for (int o = 0; o < O; o++) y[o] += bias[o];
}

/* Batches with more rows than a chunk are bound by arithmetic and go to the library's product. */
fl_status fl_cpu_dense_fwd(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    const float *added = bias.at ? fl_lane(bias, c) : NULL;
    if (rows == 0) continue;
    if (b.B <= CHUNK) {
      chunk_fwd(rows, I, O, fl_lane(x, c), fl_lane(w, c), added, fl_lane_out(y, c));
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

/* One lane's way back over its weights, columns by columns: first dx[B, I] = dy w, then
 * gw += scale * dy' x over the live rows, which may change w. dx NULL, gw NULL: that half is not
 * wanted. */
static fl_status lane_bwd(fl_batch b, int lane, int64_t I, int64_t O, const float *x,
                          const float *dy, const float *w, float *dx, float scale, float *gw) {
  int used = fl_rows_used(b, lane), live = b.rows[lane];
  fl_matrix dys = {dy, O, false}, turned = {dy, O, true};
  if (used == 0) return FEDLANE_OK;
  if (b.B <= CHUNK) {
    fl_cpu_dense_back(used, live, I, O, x, dy, w, dx, scale, gw);
    return FEDLANE_OK;
  }
  for (int64_t k = 0; k < I; k += COLUMNS) {
    int64_t n = I - k < COLUMNS ? I - k : COLUMNS;
    if (dx) FL_TRY(fl_nn_gemm(used, n, O, 1, dys, (fl_matrix){w + k, I, false}, 0, dx + k, I));
    if (gw)
      FL_TRY(fl_nn_gemm(O, n, live, scale, turned, (fl_matrix){x + k, I, false}, 1, gw + k, I));
  }
  return FEDLANE_OK;
}

void fl_cpu_dense_bias(int rows, int64_t O, const float *dy, float scale, float *gbias) {
  for (int64_t o = 0; o < O; o += 16) {
    int n = O - o < 16 ? (int)(O - o) : 16;
    fl_v16 sum = {0}, some;
    for (int row = 0; row < rows; row++) {
      fl_load_some(dy + row * O + o, n, &some);
      sum += some;
    }
    fl_load_some(gbias + o, n, &some);
    some += FL_ALL(scale) * sum;
    fl_store_some(gbias + o, n, &some);
  }
}

fl_status fl_cpu_dense_bwd_data(fl_dev *d, fl_batch b, int I, int O, fl_cspan dy, fl_cspan w,
                                fl_span dx) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    FL_TRY(lane_bwd(b, c, I, O, NULL, fl_lane(dy, c), fl_lane(w, c), fl_lane_out(dx, c), 0, NULL));
  return FEDLANE_OK;
}

fl_status fl_cpu_dense_bwd_weights(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                   fl_coef scale, fl_span gw, fl_span gbias) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    float factor = fl_coef_at(scale, c);
    FL_TRY(lane_bwd(b, c, I, O, fl_lane(x, c), fl_lane(dy, c), NULL, NULL, factor,
                    fl_lane_out(gw, c)));
    if (gbias.at) fl_cpu_dense_bias(b.rows[c], O, fl_lane(dy, c), factor, fl_lane_out(gbias, c));
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_dense_bwd(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy, fl_cspan w,
                           fl_span dx, fl_coef scale, fl_span gw, fl_span gbias) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    float factor = fl_coef_at(scale, c);
    FL_TRY(lane_bwd(b, c, I, O, fl_lane(x, c), fl_lane(dy, c), fl_lane(w, c), fl_lane_out(dx, c),
                    factor, fl_lane_out(gw, c)));
    if (gbias.at) fl_cpu_dense_bias(b.rows[c], O, fl_lane(dy, c), factor, fl_lane_out(gbias, c));
  }
  return FEDLANE_OK;
}
