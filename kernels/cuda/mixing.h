/* What kernels that add lanes to accumulators share. */
#ifndef FL_CUDA_MIXING_H
#define FL_CUDA_MIXING_H

#include "cuda.h"

/* The lanes that count, those of one accumulator side by side. */
typedef struct fl_mixing {
  int n;
  int lane[FL_GROUP];
  double factor[FL_GROUP];
  int64_t *acc[FL_GROUP];
} fl_mixing;

/* Two integers that are read and written at once. */
typedef struct alignas(16) fl_pair {
  int64_t first, second;
} fl_pair;

/* Sorts the lanes with a factor by accumulator (insertion; the order within one does not matter to
 * integers). */
static inline fl_mixing fl_mixing_of(int lanes, const double *factor, int64_t *const *acc) {
  fl_mixing m = {0, {0}, {0}, {NULL}};
  for (int c = 0; c < lanes; c++) {
    if (factor[c] == 0) continue;
    int k = m.n++;
    for (; k > 0 && (uintptr_t)m.acc[k - 1] > (uintptr_t)acc[c]; k--) {
      m.lane[k] = m.lane[k - 1];
      m.factor[k] = m.factor[k - 1];
      m.acc[k] = m.acc[k - 1];
    }
    m.lane[k] = c;
    m.factor[k] = factor[c];
    m.acc[k] = acc[c];
  }
  return m;
}

#endif
