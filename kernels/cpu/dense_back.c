/* The way back over the weights of a dense layer for few rows, column by column: 32 of them are
 * taken through all outputs for one half and at once for the other, so the weights are fetched from
 * memory once and written once. Of each half, what belongs to a row stays in registers: its sums
 * for the gradient of x, and x itself for those of the weights. The sums of a row or of a weight
 * are taken in an order that depends on the number of rows alone. */
#include "dense.h"

enum {
  GROUP = FL_DENSE_GROUP,
  HALF = FL_DENSE_HALF,
  WIDE = 32,
  BLOCK = 1024, /* columns of which lines are taken after the gradient of x is through them */
};

/* What one call works on: R rows by one or two vectors of columns, the last of them with `last`. */
typedef struct work {
  int64_t I, O;
  const float *x, *dy, *w; /* first row and column; first row; first column */
  float *dx, *gw;
  float scale;
  int last;
} work;

/* dx = dy w. */
INLINE void data(const int R, const int V, const bool whole, const work *k) {
  fl_v16 s[GROUP][2] = {0};
  for (int64_t o = 0; o < k->O; o++) {
    const float *w = k->w + o * k->I;
    fl_v16 ws[2];
    for (int v = 0; v < V; v++) fl_load_part(V, whole, k->last, w, v, &ws[v]);
    __builtin_prefetch(w + WIDE, 0, 2);
    __builtin_prefetch(w + WIDE + 16, 0, 2);
    for (int r = 0; r < R; r++) {
      fl_v16 dy = FL_ALL(k->dy[r * k->O + o]);
      FL_KEEP(dy);
      for (int v = 0; v < V; v++) s[r][v] = FL_MADD(dy, ws[v], s[r][v]);
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) fl_store_part(V, whole, k->last, k->dx + r * k->I, v, &s[r][v]);
}

/* gw += scale * dy' x for N outputs from o on; x in registers. */
INLINE void some_weights(const int N, const int R, const int V, const bool whole, const work *k,
                         fl_v16 x[GROUP][2], int64_t o) {
  float *gw = k->gw + o * k->I;
  for (int i = 0; i < N; i++) {
    __builtin_prefetch(gw + i * k->I + WIDE, 0, 2);
    __builtin_prefetch(gw + i * k->I + WIDE + 16, 0, 2);
  }
  fl_add_slopes(N, R, V, whole, k->last, k->I, k->O, x, k->dy + o, k->scale, gw);
}

INLINE void weights(const int R, const int V, const bool whole, const work *k) {
  fl_v16 x[GROUP][2];
  int64_t o = 0;
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) fl_load_part(V, whole, k->last, k->x + r * k->I, v, &x[r][v]);
  for (; o + 2 <= k->O; o += 2) some_weights(2, R, V, whole, k, x, o);
  if (o < k->O) some_weights(1, R, V, whole, k, x, o);
}

INLINE void half(const bool back, const int R, const int V, const bool whole, const work *k) {
  if (back)
    data(R, V, whole, k);
  else
    weights(R, V, whole, k);
}

INLINE void columns(const bool back, const int R, int n, work *k) {
  k->last = n % 16;
  if (n == WIDE)
    half(back, R, 2, true, k);
  else if (n == 16)
    half(back, R, 1, true, k);
  else if (n > 16)
    half(back, R, 2, false, k);
  else
    half(back, R, 1, false, k);
}

/* One half over n columns, all rows: in groups of ten, five and one. */
INLINE void rows_of(const bool back, int rows, int n, work k) {
  for (int row = 0, R; row < rows; row += R) {
    R = fl_cpu_dense_group(rows - row);
    if (R == GROUP)
      columns(back, GROUP, n, &k);
    else if (R == HALF)
      columns(back, HALF, n, &k);
    else
      columns(back, 1, n, &k);
    k.x += R * k.I;
    k.dx += R * k.I;
    k.dy += R * k.O;
  }
}

static void back_data(int rows, int n, const work *k) { rows_of(true, rows, n, *k); }
static void back_weights(int rows, int n, const work *k) { rows_of(false, rows, n, *k); }

void fl_cpu_dense_back(int used, int live, int64_t I, int64_t O, const float *x, const float *dy,
                       const float *w, float *dx, float scale, float *gw) {
  bool lines = gw && fl_cpu_dense_lines_fit(live, I, O, dy);
  for (int64_t at = 0; at < I; at += WIDE) {
    int n = I - at < WIDE ? (int)(I - at) : WIDE;
    work k = {I, O, x, dy, w, dx, gw, scale, 0};
    if (w) k.w += at;
    if (gw) k.x += at, k.gw += at;
    if (dx) k.dx += at;
    if (dx) back_data(used, n, &k);
    if (gw && !lines) back_weights(live, n, &k);
    int64_t done = at % BLOCK + n; /* columns of this block */
    if (lines && (done == BLOCK || at + n == I))
      fl_cpu_dense_lines(live, done, I, O, x + at + n - done, dy, scale, gw + at + n - done);
  }
}
