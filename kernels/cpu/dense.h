/* What the dense layers' own products share (dense*.c). */
#ifndef FL_CPU_DENSE_H
#define FL_CPU_DENSE_H

#include "cpu.h"

typedef float fl_v4 __attribute__((vector_size(16), aligned(4), may_alias));
#define FL_QUARTER(v, i) __builtin_shufflevector(v, v, i, i + 1, i + 2, i + 3)
#define FL_LANES(F) F(0), F(4), F(8), F(12)
#define FL_LOW(i) i, 16 + i, i + 1, 17 + i
#define FL_HIGH(i) i + 2, 18 + i, i + 3, 19 + i
#define FL_FIRST(i) i, i + 1, 16 + i, 17 + i
#define FL_LAST(i) i + 2, i + 3, 18 + i, 19 + i
#define FL_SHUFFLE(a, b, how) __builtin_shufflevector(a, b, FL_LANES(how))

/* The sums of the elements of each v[i], i < 4. */
INLINE fl_v4 fl_totals(const fl_v16 v[4]) {
  fl_v16 ab = FL_SHUFFLE(v[0], v[1], FL_LOW) + FL_SHUFFLE(v[0], v[1], FL_HIGH);
  fl_v16 cd = FL_SHUFFLE(v[2], v[3], FL_LOW) + FL_SHUFFLE(v[2], v[3], FL_HIGH);
  fl_v16 s = FL_SHUFFLE(ab, cd, FL_FIRST) + FL_SHUFFLE(ab, cd, FL_LAST);
  fl_v4 near = FL_QUARTER(s, 0) + FL_QUARTER(s, 4), far = FL_QUARTER(s, 8) + FL_QUARTER(s, 12);
  return near + far;
}

/* 16 floats, or of the last of V vectors those that are there. */
INLINE void fl_load_part(const int V, const bool whole, int last, const float *from, int v,
                         fl_v16 *out) {
  if (whole || v + 1 < V)
    *out = *(const fl_v16 *)(from + 16 * v);
  else
    fl_load_some(from + 16 * v, last, out);
}

INLINE void fl_store_part(const int V, const bool whole, int last, float *to, int v,
                          const fl_v16 *value) {
  if (whole || v + 1 < V)
    *(fl_v16 *)(to + 16 * v) = *value;
  else
    fl_store_some(to + 16 * v, last, value);
}

/* gw[N, V vectors] += scale * dy' x for N <= 2 outputs, rows of gw I apart and rows of dy O; x of R
 * rows in registers. */
INLINE void fl_add_slopes(const int N, const int R, const int V, const bool whole, int last,
                          int64_t I, int64_t O, fl_v16 x[FL_DENSE_GROUP][2], const float *dy,
                          float scale, float *gw) {
  fl_v16 g[2][2] = {0}, factor = FL_ALL(scale);
  for (int r = 0; r < R; r++)
    for (int i = 0; i < N; i++) {
      fl_v16 slope = FL_ALL(dy[r * O + i]);
      FL_KEEP(slope);
      for (int v = 0; v < V; v++) g[i][v] = FL_MADD(slope, x[r][v], g[i][v]);
    }
  for (int i = 0; i < N; i++)
    for (int v = 0; v < V; v++) {
      fl_v16 w;
      fl_load_part(V, whole, last, gw + i * I, v, &w);
      w = FL_MADD(factor, g[i][v], w);
      fl_store_part(V, whole, last, gw + i * I, v, &w);
    }
}

/* dense.c: gbias += scale * column sums of dy. */
void fl_cpu_dense_bias(int rows, int64_t O, const float *dy, float scale, float *gbias);

#endif
