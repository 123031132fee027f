/* A dense layer's update straight from its history into the sums of a round, x'dy over a lane's
 * rows: a tile of elements is summed in registers, in ascending order of rows, and goes through the
 * first cache level into the accumulator, which is passed over once. Both operands are packed, so
 * that whole vectors are read one after another however tall the history is. */
#include "product.h"

#include <string.h>

#include "cpu.h"

enum {
  OUTS = 8,    /* outputs of a tile */
  WIDE = 32,   /* and inputs: 16 vectors of sums */
  LINE = 8,    /* integers that are fetched at once */
  PANEL = 256, /* inputs whose history is packed at once */
  ROWS = 4,    /* rows of a tile of a Gram matrix */
  DEEP = 1024, /* columns that are packed for it at once */
};

/* scale times columns first .. first+N-1 of x[rows, I] as to[rows_up, N], with zeros past the last
 * row and column. */
INLINE void pack(const int64_t N, int rows, int rows_up, int64_t I, int64_t first, float scale,
                 const float *x, float *to) {
  int64_t n = I - first < N ? I - first : N;
  for (int row = 0; row < rows_up; row++, to += N) {
    int64_t live = row < rows ? n : 0;
    const float *from = x + row * I + first;
    for (int64_t i = 0; i < live; i++) to[i] = scale * from[i];
    if (live < N) memset(to + live, 0, (size_t)(N - live) * sizeof(float));
  }
}

/* out[OUTS, WIDE] = sum over rows of dy[row, OUTS] x[row, WIDE]; rows of out are PANEL apart. The
 * sums that out will be added to, OUTS rows that are I apart, are fetched meanwhile; those past the
 * last output are asked for in vain. */
static void tile(int rows, const float *x, const float *dy, const int64_t *acc, int64_t I,
                 float *out) {
  fl_v16 s[OUTS][2] = {0};
  for (int row = 0; row < rows; row++, x += WIDE, dy += OUTS) {
    fl_v16 low = *(const fl_v16 *)x, high = *(const fl_v16 *)(x + 16);
    if (row < OUTS * WIDE / LINE)
      __builtin_prefetch(acc + row % OUTS * I + row / OUTS * LINE, 1, 2);
    for (int o = 0; o < OUTS; o++) {
      s[o][0] = FL_MADD(FL_ALL(dy[o]), low, s[o][0]);
      s[o][1] = FL_MADD(FL_ALL(dy[o]), high, s[o][1]);
    }
  }
  for (int o = 0; o < OUTS; o++) {
    *(fl_v16 *)(out + o * PANEL) = s[o][0];
    *(fl_v16 *)(out + o * PANEL + 16) = s[o][1];
  }
}

/* One lane; xs: PANEL columns packed by WIDE; dys: all outputs packed by OUTS. */
static void mix_lane(int rows, int64_t I, int64_t O, const float *x, const float *dy, double factor,
                     float *xs, float *dys, int64_t *acc) {
  float product[OUTS * PANEL];
  for (int64_t o = 0; o < O; o += OUTS) pack(OUTS, rows, rows, O, o, 1, dy, dys + o * rows);
  for (int64_t i = 0; i < I; i += PANEL) {
    int n = I - i < PANEL ? (int)(I - i) : PANEL;
    for (int at = 0; at < n; at += WIDE) pack(WIDE, rows, rows, I, i + at, 1, x, xs + at * rows);
    for (int64_t o = 0; o < O; o += OUTS) {
      for (int at = 0; at < n; at += WIDE)
        tile(rows, xs + at * rows, dys + o * rows, acc + o * I + i + at, I, product + at);
      for (int64_t k = 0; k < OUTS && o + k < O; k++)
        fl_cpu_mix_tile(n, product + k * PANEL, factor, acc + (o + k) * I + i);
    }
  }
}

fl_status fl_cpu_product_mix(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                             const double *factor, int64_t *const *acc) {
  void *scratch;
  int64_t packed = b.B * ((O + OUTS - 1) / OUTS * OUTS + (int64_t)PANEL);
  FL_TRY(fl_cpu_scratch(d, packed * (int64_t)sizeof(float), &scratch));
  float *xs = scratch, *dys = xs + (int64_t)b.B * PANEL;
  for (int c = 0; c < b.C; c++)
    if (factor[c] != 0 && b.rows[c] > 0)
      mix_lane(b.rows[c], I, O, fl_lane(x, c), fl_lane(dy, c), factor[c], xs, dys, acc[c]);
  return FEDLANE_OK;
}

/* --- size and health ------------------------------------------------------------------------ */
static double largest_column(int rows, int64_t I, const float *x) {
  double largest = 0;
  for (int64_t at = 0; at < I; at += PANEL) {
    int n = I - at < PANEL ? (int)(I - at) : PANEL;
    double sum[PANEL] = {0};
    for (int row = 0; row < rows; row++) {
      const float *xs = x + row * I + at;
      for (int i = 0; i < n; i++) sum[i] += (double)xs[i] * xs[i];
    }
    for (int i = 0; i < n; i++) largest = fl_product_larger(largest, sum[i]);
  }
  return largest;
}

/* sum over r, s < ROWS of gram[r, s] times the inner product of row r of a with row s of b, whose
 * rows are DEEP floats; those of gram are `pitch` apart. */
static double weighted(const float *a, const float *b, const float *gram, int64_t pitch) {
  fl_v16 s[ROWS][ROWS] = {0}, sum = {0}, line[ROWS];
  for (int k = 0; k < DEEP; k += 16) {
    for (int j = 0; j < ROWS; j++) line[j] = *(const fl_v16 *)(b + j * DEEP + k);
    for (int i = 0; i < ROWS; i++) {
      fl_v16 one = *(const fl_v16 *)(a + i * DEEP + k);
      for (int j = 0; j < ROWS; j++) s[i][j] = FL_MADD(one, line[j], s[i][j]);
    }
  }
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < ROWS; j++) sum = FL_MADD(FL_ALL(gram[i * pitch + j]), s[i][j], sum);
  double total = 0;
  for (int i = 0; i < 16; i++) total += sum[i];
  return total;
}

/* The sum of squares of x'dy is that of the products of two Gram matrices' elements: dy's is taken
 * first, and x's tile by tile for DEEP columns after the other, above the diagonal twice. */
static fl_status measure_lane(fl_dev *d, int rows, int64_t I, int64_t O, const float *x,
                              const float *dy, bool norm, fl_measure *out) {
  double largest[2] = {largest_column(rows, I, x), largest_column(rows, O, dy)}, sum2 = 0;
  if (!norm) {
    *out = fl_product_size(rows, largest[0], largest[1], 0);
    return FEDLANE_OK;
  }
  int e[2] = {fl_product_exponent(largest[0]), fl_product_exponent(largest[1])};
  int64_t up = (rows + ROWS - 1) / ROWS * ROWS, wide = O > DEEP ? O : DEEP;
  void *scratch;
  FL_TRY(fl_cpu_scratch(d, up * (up + wide) * (int64_t)sizeof(float), &scratch));
  float *gram = scratch, *packed = gram + up * up;
  pack(O, rows, (int)up, O, 0, ldexpf(1, -e[1]), dy, packed);
  fl_matrix dys = {packed, O, false}, turned = {packed, O, true};
  FL_TRY(fl_nn_gemm(up, up, O, 1, dys, turned, 0, gram, up));
  for (int64_t at = 0; at < I; at += DEEP) {
    pack(DEEP, rows, (int)up, I, at, ldexpf(1, -e[0]), x, packed);
    for (int64_t r = 0; r < up; r += ROWS)
      for (int64_t s = r; s < up; s += ROWS)
        sum2 +=
            (s > r ? 2 : 1) * weighted(packed + r * DEEP, packed + s * DEEP, gram + r * up + s, up);
  }
  *out = fl_product_size(rows, largest[0], largest[1], ldexp(sum2, 2 * (e[0] + e[1])));
  return FEDLANE_OK;
}

fl_status fl_cpu_product_measure(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                 bool norm, fl_measure *out) {
  for (int c = 0; c < b.C; c++) {
    out[c] = (fl_measure){0, 0};
    if (b.rows[c] > 0)
      FL_TRY(measure_lane(d, b.rows[c], I, O, fl_lane(x, c), fl_lane(dy, c), norm, &out[c]));
  }
  return FEDLANE_OK;
}
