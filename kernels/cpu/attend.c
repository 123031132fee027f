/* Attention and what is added to each step. A head's keys and values are turned over first, so that
 * the products of one step with all others run along neighbours. */
#include <math.h>
#include <string.h>

#include "cpu.h"

fl_status fl_cpu_shift_fwd(fl_dev *d, fl_batch b, int64_t n, fl_cspan x, fl_cspan w, fl_span y) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    for (int64_t row = 0; row < fl_rows_used(b, c); row++) {
      const float *xs = fl_lane(x, c) + row * n, *ws = fl_lane(w, c);
      float *ys = fl_lane_out(y, c) + row * n;
      FL_SIMD
      for (int64_t i = 0; i < n; i++) ys[i] = xs[i] + ws[i];
    }
  return FEDLANE_OK;
}

fl_status fl_cpu_shift_bwd_weights(fl_dev *d, fl_batch b, int64_t n, fl_cspan dy, fl_coef scale,
                                   fl_span gw) {
  void *scratch = NULL;
  FL_TRY(fl_cpu_scratch(d, n * (int64_t)sizeof(float), &scratch));
  float *sum = scratch;
  for (int c = 0; c < b.C; c++) {
    float *g = fl_lane_out(gw, c), factor = fl_coef_at(scale, c);
    memset(sum, 0, (size_t)n * sizeof *sum);
    for (int64_t row = 0; row < b.rows[c]; row++) {
      const float *dys = fl_lane(dy, c) + row * n;
      FL_SIMD
      for (int64_t i = 0; i < n; i++) sum[i] += dys[i];
    }
    FL_SIMD
    for (int64_t i = 0; i < n; i++) g[i] += factor * sum[i];
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_waves(fl_dev *d, fl_batch b, int T, int F, fl_cspan x, fl_span y) {
  int64_t n = (int64_t)T * F;
  void *scratch = NULL;
  FL_TRY(fl_cpu_scratch(d, n * (int64_t)sizeof(float), &scratch));
  float *wave = scratch;
  for (int f = 0; f < F; f++) {
    double pace = pow(10000, -(double)(f - f % 2) / F);
    for (int t = 0; t < T; t++)
      wave[(int64_t)t * F + f] = (float)(f % 2 ? cos(t * pace) : sin(t * pace));
  }
  return fl_cpu_shift_fwd(d, b, n, x, (fl_cspan){wave, 0}, y);
}

/* One head of one example. Steps are `row` floats apart in x, F in y; keys lie F after the queries
 * and values F after the keys. */
typedef struct head {
  int T, F, size;
  bool causal;
  float scale;
} head;

static head head_of(int T, int F, int heads, bool causal) {
  head h = {T, F, F / heads, causal, 1 / sqrtf((float)(F / heads))};
  return h;
}

static int seen(const head *h, int t) { return h->causal ? t + 1 : h->T; }

/* to [size, T] = what is at x in each step. */
static void turn(const head *h, const float *x, float *to) {
  for (int t = 0; t < h->T; t++)
    for (int i = 0; i < h->size; i++) to[(int64_t)i * h->T + t] = x[(int64_t)t * 3 * h->F + i];
}

/* to [n] = factor * a turned[., n]. */
static void against_all(const head *h, int n, float factor, const float *restrict a,
                        const float *restrict turned, float *restrict to) {
  memset(to, 0, (size_t)n * sizeof *to);
  for (int i = 0; i < h->size; i++) {
    const float *line = turned + (int64_t)i * h->T;
    float f = factor * a[i];
    FL_SIMD
    for (int j = 0; j < n; j++) to[j] += f * line[j];
  }
}

/* to [n] += f * from. */
static void add(int n, float f, const float *restrict from, float *restrict to) {
  FL_SIMD
  for (int i = 0; i < n; i++) to[i] += f * from[i];
}

static void softmax(int n, float *p) {
  float top = p[0], sum = 0;
  for (int j = 1; j < n; j++) top = p[j] > top ? p[j] : top;
  for (int j = 0; j < n; j++) p[j] = expf(p[j] - top);
  for (int j = 0; j < n; j++) sum += p[j];
  for (int j = 0; j < n; j++) p[j] /= sum;
}

/* keys: scratch [size, T]; p: [T, T] to be kept, or [T] where `kept` is false. */
static void head_fwd(const head *h, const float *x, float *y, float *keys, float *p, bool kept) {
  const float *values = x + 2 * (int64_t)h->F;
  turn(h, x + h->F, keys);
  for (int t = 0; t < h->T; t++, p += kept ? h->T : 0) {
    float *out = y + (int64_t)t * h->F;
    int n = seen(h, t);
    against_all(h, n, h->scale, x + (int64_t)t * 3 * h->F, keys, p);
    softmax(n, p);
    memset(p + n, 0, (size_t)(h->T - n) * sizeof *p);
    memset(out, 0, (size_t)h->size * sizeof *out);
    for (int j = 0; j < n; j++) add(h->size, p[j], values + (int64_t)j * 3 * h->F, out);
  }
}

fl_status fl_cpu_attend_fwd(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal, fl_cspan x,
                            fl_span y, fl_span keep) {
  head h = head_of(T, F, heads, causal);
  int64_t keys = (int64_t)T * h.size;
  void *scratch = NULL;
  FL_TRY(fl_cpu_scratch(d, (keys + T) * (int64_t)sizeof(float), &scratch));
  for (int c = 0; c < b.C; c++) {
    fl_clear_dead(b, c, (int64_t)T * F, fl_lane_out(y, c));
    for (int64_t k = 0; k < (int64_t)b.rows[c] * heads; k++) {
      int64_t example = k / heads, at = k % heads * h.size;
      float *p = keep.at ? fl_lane_out(keep, c) + k * T * T : (float *)scratch + keys;
      head_fwd(&h, fl_lane(x, c) + example * T * 3 * F + at,
               fl_lane_out(y, c) + example * T * F + at, scratch, p, keep.at != NULL);
    }
  }
  return FEDLANE_OK;
}

/* With dp = dy v': ds = p (dp - p dp'), dq = ds k, dk = ds' q, dv = p' dy. values: scratch
 * [size, T]; ds: scratch [T]; dx was cleared. */
static void head_bwd(const head *h, const float *x, const float *p, const float *dy, float *dx,
                     float *values, float *ds) {
  int64_t row = 3 * (int64_t)h->F;
  turn(h, x + 2 * (int64_t)h->F, values);
  for (int t = 0; t < h->T; t++, p += h->T, dy += h->F) {
    int n = seen(h, t);
    float mean = 0;
    against_all(h, n, 1, dy, values, ds);
    for (int j = 0; j < n; j++) mean += p[j] * ds[j];
    for (int j = 0; j < n; j++) ds[j] = p[j] * (ds[j] - mean) * h->scale;
    for (int j = 0; j < n; j++) {
      float *to = dx + j * row;
      add(h->size, ds[j], x + j * row + h->F, dx + t * row);
      add(h->size, ds[j], x + t * row, to + h->F);
      add(h->size, p[j], dy, to + 2 * (int64_t)h->F);
    }
  }
}

fl_status fl_cpu_attend_bwd(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal, fl_cspan x,
                            fl_cspan keep, fl_cspan dy, fl_span dx) {
  head h = head_of(T, F, heads, causal);
  int64_t values = (int64_t)T * h.size;
  void *scratch = NULL;
  FL_TRY(fl_cpu_scratch(d, (values + T) * (int64_t)sizeof(float), &scratch));
  for (int c = 0; c < b.C; c++) {
    memset(fl_lane_out(dx, c), 0, (size_t)(b.B * 3 * (int64_t)T * F) * sizeof(float));
    for (int64_t k = 0; k < (int64_t)b.rows[c] * heads; k++) {
      int64_t at = k / heads * T * F, in = k % heads * h.size;
      head_bwd(&h, fl_lane(x, c) + 3 * at + in, fl_lane(keep, c) + k * T * T,
               fl_lane(dy, c) + at + in, fl_lane_out(dx, c) + 3 * at + in, scratch,
               (float *)scratch + values);
    }
  }
  return FEDLANE_OK;
}
