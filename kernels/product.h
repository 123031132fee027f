/* What the backends share of product_measure: a bound of x'dy, a product that nobody forms, from
 * the largest sum of squares over a column of x and over one of dy. */
#ifndef FL_PRODUCT_H
#define FL_PRODUCT_H

#include <math.h>

#include "ops.h"

/* The larger of a running largest and one more sum of squares; +infinity for NaN. */
static inline FL_HD double fl_product_larger(double largest, double sum) {
  if (!(sum < (double)INFINITY)) return (double)INFINITY;
  return sum > largest ? sum : largest;
}

/* e such that columns times 2^-e have norms of about 1 at most, so that Gram matrices in float
 * neither overflow nor vanish; 2^-e is a normal float. */
static inline FL_HD int fl_product_exponent(double largest) {
  const int most = 126;
  int e = 0;
  if (largest > 0 && largest < (double)INFINITY) (void)frexp(sqrt(largest), &e);
  return e > most ? most : e < -most ? -most : e;
}

/* The measure of a product over `rows` rows: sum2 as found, up to rounding, and the bound by
 * Cauchy and Schwarz. It holds for the element that a backend computes as well: operands rounded to
 * bf16 are larger by 2^-8 at most, and by 2^-134 where they are subnormal. Where it passes 2^127
 * the element may not be finite. */
static inline FL_HD fl_measure fl_product_size(int rows, double largest_x, double largest_dy,
                                               double sum2) {
  const double rounding = 1 + 0x1p-6, least = rows * 0x1p-126, most = 0x1p127;
  fl_measure m = {sum2 > 0 ? sum2 : 0, 0};
  if (largest_x > 0 && largest_dy > 0)
    m.peak = rounding * (sqrt(largest_x) + least) * (sqrt(largest_dy) + least) + least;
  bool finite = largest_x < most * most && largest_dy < most * most && m.peak < most;
  if (!finite) m.peak = (double)INFINITY;
  return m;
}

#endif
