#include "product.h"

#include <math.h>

#include "ref.h"

/* sum over rows of a[row, i] * b[row, j]; rows of a and b are I and J floats. */
static double dot(int rows, const float *a, int64_t I, int64_t i, const float *b, int64_t J,
                  int64_t j) {
  double sum = 0;
  for (int row = 0; row < rows; row++) sum += (double)a[row * I + i] * b[row * J + j];
  return sum;
}

static double largest_column(int rows, int I, const float *x) {
  double largest = 0;
  for (int i = 0; i < I; i++) largest = fl_product_larger(largest, dot(rows, x, I, i, x, I, i));
  return largest;
}

fl_status fl_ref_product_measure(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                 bool norm, fl_measure *out) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    const float *xs = fl_ref_in(x, c), *dys = fl_ref_in(dy, c);
    double sum2 = 0;
    for (int o = 0; norm && o < O; o++)
      for (int i = 0; i < I; i++) sum2 += pow(dot(b.rows[c], dys, O, o, xs, I, i), 2);
    out[c] = fl_product_size(b.rows[c], largest_column(b.rows[c], I, xs),
                             largest_column(b.rows[c], O, dys), sum2);
  }
  return FEDLANE_OK;
}

fl_status fl_ref_product_mix(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                             const double *factor, int64_t *const *acc) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    const float *xs = fl_ref_in(x, c), *dys = fl_ref_in(dy, c);
    for (int64_t at = 0; factor[c] != 0 && at < (int64_t)O * I; at++) {
      float p = (float)dot(b.rows[c], dys, O, at / I, xs, I, at % I);
      acc[c][at] += llrint(p * factor[c]);
    }
  }
  return FEDLANE_OK;
}
