/* The gradient of a wide dense layer's weights where most rows have none for most outputs, as
 * behind a relu: line by line of the weights, each with the rows that count. What is skipped are
 * products with zero, so sums have the bits that those of dense_back.c have, as long as x is
 * finite. */
#include "cpu.h"

enum {
  GROUP = 10,   /* rows that are summed before they are added, as in dense_back.c */
  PANEL = 128,  /* outputs that are sorted together */
  NARROW = 512, /* columns below which a line is too short to be worth its start */
};

bool fl_cpu_dense_lines_fit(int rows, int64_t I, int64_t O, const float *dy) {
  int64_t n = rows * O, some = 0;
  if (I < NARROW) return false;
  for (int64_t i = 0; i < n; i++) some += dy[i] != 0;
  return 3 * some < 2 * n;
}

/* gw[n] += scale * the sum over N rows of dy * x. */
INLINE void line(const int N, int64_t n, const float *const x[], const float dy[], float scale,
                 float *gw) {
  fl_v16 d[GROUP], w, some;
  int64_t k = 0;
  for (int i = 0; i < N; i++) d[i] = FL_ALL(dy[i]);
  for (; k + 16 <= n; k += 16) {
    fl_v16 g = {0};
    for (int i = 0; i < N; i++) g = FL_MADD(d[i], *(const fl_v16 *)(x[i] + k), g);
    w = *(const fl_v16 *)(gw + k);
    *(fl_v16 *)(gw + k) = FL_MADD(FL_ALL(scale), g, w);
  }
  if (k == n) return;
  fl_v16 g = {0};
  for (int i = 0; i < N; i++) {
    fl_load_some(x[i] + k, (int)(n - k), &some);
    g = FL_MADD(d[i], some, g);
  }
  fl_load_some(gw + k, (int)(n - k), &w);
  w = FL_MADD(FL_ALL(scale), g, w);
  fl_store_some(gw + k, (int)(n - k), &w);
}

/* What one call works on. */
typedef struct work {
  int64_t n, I, O; /* columns to do; floats from line to line of x and w; of dy */
  const float *x, *dy;
  float scale, *gw;
} work;

/* The outputs of a panel, sorted by how many rows count, so that a loop of one length follows
 * another of the same. */
typedef struct order {
  int begin[GROUP + 2]; /* those with N rows are output[begin[N]] .. output[begin[N + 1] - 1] */
  uint8_t output[PANEL];
  uint16_t rows[PANEL]; /* of each output, by bits */
} order;

static void sort_outputs(int R, int n, const work *k, order *out) {
  uint8_t count[PANEL] = {0};
  int at[GROUP + 1];
  memset(out, 0, sizeof *out);
  for (int r = 0; r < R; r++)
    for (int o = 0; o < n; o++) {
      int counts = k->dy[r * k->O + o] != 0;
      out->rows[o] |= (uint16_t)(counts << r);
      count[o] = (uint8_t)(count[o] + counts);
    }
  for (int o = 0; o < n; o++) out->begin[count[o] + 1]++;
  for (int N = 0; N <= GROUP; N++) {
    out->begin[N + 1] += out->begin[N];
    at[N] = out->begin[N];
  }
  for (int o = 0; o < n; o++) out->output[at[count[o]]++] = (uint8_t)o;
}

INLINE void lines_of(const int N, const order *by, const work *k) {
  for (int j = by->begin[N]; j < by->begin[N + 1]; j++) {
    int o = by->output[j];
    unsigned rows = by->rows[o];
    const float *x[GROUP];
    float dy[GROUP];
    for (int i = 0; i < N; i++, rows &= rows - 1) {
      int r = __builtin_ctz(rows);
      x[i] = k->x + r * k->I;
      dy[i] = k->dy[r * k->O + o];
    }
    line(N, k->n, x, dy, k->scale, k->gw + o * k->I);
  }
}

static void lines(const order *by, const work *k) {
  lines_of(1, by, k);
  lines_of(2, by, k);
  lines_of(3, by, k);
  lines_of(4, by, k);
  lines_of(5, by, k);
  lines_of(6, by, k);
  lines_of(7, by, k);
  lines_of(8, by, k);
  lines_of(9, by, k);
  lines_of(10, by, k);
}

void fl_cpu_dense_lines(int rows, int64_t n, int64_t I, int64_t O, const float *x, const float *dy,
                        float scale, float *gw) {
  for (int row = 0, R; row < rows; row += R) {
    R = fl_cpu_dense_group(rows - row);
    for (int64_t o = 0; o < O; o += PANEL) {
      work k = {n, I, O, x + row * I, dy + row * O + o, scale, gw + o * I};
      order by;
      sort_outputs(R, O - o < PANEL ? (int)(O - o) : PANEL, &k, &by);
      lines(&by, &k);
    }
  }
}
