/* 2 x 2 max pooling with stride 2 and the relu around it, a window at a time: what a block's
 * convolution does to its output before it is written. */
#ifndef FL_CPU_POOL_H
#define FL_CPU_POOL_H

#include "cpu.h"

/* The larger of both, the first of equals; a NaN travels. */
static inline float fl_pool_larger(float a, float b) { return a > b || a != a ? a : b; }

/* The largest of a, b, c and d, none below 0. *place: which it is, 4 where it is not positive. */
static inline float fl_pool_relu(float a, float b, float c, float d, int32_t *place) {
  float first = fl_pool_larger(b, a), second = fl_pool_larger(d, c);
  bool low = second > first || (second != second && first == first);
  float best = low ? second : first;
  int32_t upper = a >= b || a != a ? 0 : 1, lower = c >= d || c != c ? 2 : 3;
  *place = best > 0 ? low ? lower : upper : 4;
  return best < 0 ? 0 : best;
}

/* n windows side by side, of pixels of 16 channels: top and low are their rows of pixels. mask
 * NULL: not wanted. */
static inline void fl_pool_relu16(int n, const float *top, const float *low, float *y,
                                  uint8_t *mask) {
  for (int v = 0; v < n; v++, top += 32, low += 32, y += 16) {
    int32_t place[16];
    FL_SIMD
    for (int k = 0; k < 16; k++)
      y[k] = fl_pool_relu(top[k], top[16 + k], low[k], low[16 + k], &place[k]);
    FL_SIMD
    for (int k = 0; k < (mask ? 16 : 0); k++) mask[v * 16 + k] = (uint8_t)place[k];
  }
}

#endif
