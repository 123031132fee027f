/* A dense layer of few outputs that reads its examples where they lie in the data set, as bytes:
 * these and the weights stay in the first cache level together, which floats and weights do not.
 * Pixels lose their channel's shift as they are read; its scale goes into the sums, and into the
 * slopes. Whoever picks a batch asks for the next one's bytes. */
#include "dense.h"

enum {
  GROUP = FL_DENSE_GROUP,
  ROWS = 5,  /* most rows and outputs that are summed at once */
  OUTS = 12, /* in fours */
  WIDE = 32
};

/* One lane's examples. */
typedef struct examples {
  const fl_pick *pick;
  const uint8_t *x;
  const int32_t *index;
  int64_t I;
  int n, B;
  float shift, scale;
} examples;

static examples examples_of(fl_batch b, int lane, const fl_pick *pick) {
  const fl_source *source = pick->source;
  return (examples){.pick = pick,
                    .x = source->x,
                    .index = pick->index + lane * pick->index_stride,
                    .I = fl_image_size(source->image),
                    .n = b.rows[lane],
                    .B = b.B,
                    .shift = source->shift[0],
                    .scale = source->scale[0]};
}

static inline const uint8_t *example_at(const examples *e, int row) {
  return e->x + e->index[row] * e->I;
}

/* Asks for the example that is some rows ahead, in this batch or the next. */
INLINE void ask_ahead(const examples *e, int row) {
  int ahead = row + FL_CPU_AHEAD, next = ahead - e->n;
  if (next < 0)
    fl_ask(example_at(e, ahead), e->I);
  else if (next < e->pick->yet)
    fl_ask(example_at(e, e->B + next), e->I);
}

/* 16 pixels, or `last` of them where that is less, without their shift; the others hold anything.
 */
INLINE void pixels(const bool whole, int last, const uint8_t *from, const fl_v16 *shift,
                   fl_v16 *x) {
  uint8_t some[16] = {0};
  if (!whole) memcpy(some, from, (size_t)last);
  fl_load_bytes(whole ? from : some, x);
  *x -= *shift;
}

/* 16 columns, or the `last` ones, into the sums of R rows and C outputs. */
INLINE void add_columns(const int R, const int C, const bool whole, int last, int64_t I,
                        const uint8_t *const x[ROWS], const fl_v16 *shift, const float *w,
                        fl_v16 s[ROWS][OUTS]) {
  fl_v16 a[ROWS], b;
  for (int r = 0; r < R; r++) {
    pixels(whole, last, x[r], shift, &a[r]);
    FL_KEEP(a[r]);
  }
  for (int c = 0; c < C; c++) {
    fl_load_part(1, whole, last, w + c * I, 0, &b);
    FL_KEEP(b);
    for (int r = 0; r < R; r++) s[r][c] = FL_MADD(a[r], b, s[r][c]);
  }
}

/* y = bias + scale * a row's sums, unrolled so that these stay in registers. */
INLINE void put_sums(const int C, const fl_v16 s[OUTS], float scale, const float *bias, float *y) {
  fl_v4 some = fl_totals(s) * scale;
  if (C < 4) {
    y[0] = bias[0] + some[0];
    return;
  }
  *(fl_v4 *)y = *(const fl_v4 *)bias + some;
  if (C < 10) return;
  *(fl_v4 *)(y + 4) = *(const fl_v4 *)(bias + 4) + fl_totals(s + 4) * scale;
  some = fl_totals(s + 8) * scale;
  y[8] = bias[8] + some[0];
  y[9] = bias[9] + some[1];
}

/* y = bias + scale * x w' for R rows from `row` on and C outputs. */
INLINE void tile(const int R, const int C, const examples *e, int row, int64_t O, const float *w,
                 const float *bias, float *y) {
  fl_v16 s[ROWS][OUTS] = {0}, shift = FL_ALL(e->shift);
  const uint8_t *x[ROWS];
  int64_t left = e->I;
  for (int r = 0; r < R; r++) x[r] = example_at(e, row + r);
  for (; left >= 16; left -= 16, w += 16) {
    add_columns(R, C, true, 16, e->I, x, &shift, w, s);
    for (int r = 0; r < R; r++) x[r] += 16;
  }
  if (left > 0) add_columns(R, C, false, (int)left, e->I, x, &shift, w, s);
  y += row * O;
  put_sums(C, s[0], e->scale, bias, y);
  if (R > 1) put_sums(C, s[1], e->scale, bias, y + O);
  if (R > 2) put_sums(C, s[2], e->scale, bias, y + 2 * O);
  if (R > 3) put_sums(C, s[3], e->scale, bias, y + 3 * O);
  if (R > 4) put_sums(C, s[4], e->scale, bias, y + 4 * O);
}

/* Rows from `row` to the one before `end`, R at a time, against C outputs; the first to read a row
 * asks for one that comes later. */
INLINE void strip(const int R, const int C, bool ask, const examples *e, int row, int end,
                  int64_t O, const float *w, const float *bias, float *y) {
  for (int n; row < end; row += n) {
    n = row + R <= end ? R : 1;
    for (int r = 0; ask && r < n; r++) ask_ahead(e, row + r);
    if (n == R)
      tile(R, C, e, row, O, w, bias, y);
    else
      tile(1, C, e, row, O, w, bias, y);
  }
}

/* Functions of their own, so that each has all registers for itself. */
#define STRIP(name, R, C)                                                                   \
  static __attribute__((noinline)) void name(bool ask, const examples *e, int row, int end, \
                                             int64_t O, const float *w, const float *bias,  \
                                             float *y) {                                    \
    strip(R, C, ask, e, row, end, O, w, bias, y);                                           \
  }
STRIP(ten_outputs, 2, 10)
STRIP(four_outputs, 5, 4)
STRIP(one_output, 5, 1)

/* Ten outputs, the usual number of classes, are one pass over a row's bytes. */
static void group_fwd(const examples *e, int row, int end, int64_t O, const float *w,
                      const float *bias, float *y) {
  int64_t o = 0;
  for (; o + 10 <= O; o += 10) ten_outputs(o == 0, e, row, end, O, w + o * e->I, bias + o, y + o);
  for (; o + 4 <= O; o += 4) four_outputs(o == 0, e, row, end, O, w + o * e->I, bias + o, y + o);
  for (; o < O; o++) one_output(o == 0, e, row, end, O, w + o * e->I, bias + o, y + o);
}

fl_status fl_cpu_dense_pick_fwd(fl_dev *d, fl_batch b, int O, const fl_pick *pick, fl_cspan w,
                                fl_cspan bias, fl_span y) {
  static const float zeros[FL_PICK_OUT];
  (void)d;
  for (int c = 0; c < b.C; c++) {
    examples e = examples_of(b, c, pick);
    for (int row = 0; row < e.n; row += GROUP)
      group_fwd(&e, row, e.n - row < GROUP ? e.n : row + GROUP, O, fl_lane(w, c),
                bias.at ? fl_lane(bias, c) : zeros, fl_lane_out(y, c));
    fl_clear_dead(b, c, O, fl_lane_out(y, c));
  }
  return FEDLANE_OK;
}

/* gw += scale * dy' x for R rows and V vectors of columns from k on. */
INLINE void columns(const int R, const int V, const bool whole, int last, const examples *e,
                    const uint8_t *const rows[GROUP], int64_t O, int64_t k, const float *dy,
                    float scale, float *gw) {
  fl_v16 x[GROUP][2], shift = FL_ALL(e->shift);
  int64_t o = 0;
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) {
      pixels(whole || v + 1 < V, last, rows[r] + k + 16 * v, &shift, &x[r][v]);
      FL_KEEP(x[r][v]);
    }
  for (; o + 2 <= O; o += 2)
    fl_add_slopes(2, R, V, whole, last, e->I, O, x, dy + o, scale, gw + o * e->I + k);
  if (o < O) fl_add_slopes(1, R, V, whole, last, e->I, O, x, dy + o, scale, gw + o * e->I + k);
}

INLINE void rows_back(const int R, const examples *e, int row, int64_t O, const float *dy,
                      float scale, float *gw) {
  const uint8_t *x[GROUP];
  int64_t k = 0;
  for (int r = 0; r < R; r++) x[r] = example_at(e, row + r);
  for (; k + WIDE <= e->I; k += WIDE) columns(R, 2, true, 16, e, x, O, k, dy, scale, gw);
  if (k + 16 <= e->I) {
    columns(R, 1, true, 16, e, x, O, k, dy, scale, gw);
    k += 16;
  }
  if (k < e->I) columns(R, 1, false, (int)(e->I - k), e, x, O, k, dy, scale, gw);
}

static void lane_back(const examples *e, int64_t O, const float *dy, float scale, float *gw) {
  for (int row = 0, R; row < e->n; row += R) {
    R = fl_cpu_dense_group(e->n - row);
    if (R == GROUP)
      rows_back(GROUP, e, row, O, dy + row * O, scale, gw);
    else if (R == FL_DENSE_HALF)
      rows_back(FL_DENSE_HALF, e, row, O, dy + row * O, scale, gw);
    else
      rows_back(1, e, row, O, dy + row * O, scale, gw);
  }
}

fl_status fl_cpu_dense_pick_bwd_weights(fl_dev *d, fl_batch b, int O, const fl_pick *pick,
                                        fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    examples e = examples_of(b, c, pick);
    float factor = fl_coef_at(scale, c);
    lane_back(&e, O, fl_lane(dy, c), factor * e.scale, fl_lane_out(gw, c));
    if (gbias.at) fl_cpu_dense_bias(e.n, O, fl_lane(dy, c), factor, fl_lane_out(gbias, c));
  }
  return FEDLANE_OK;
}
