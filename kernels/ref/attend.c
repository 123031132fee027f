#include <math.h>

#include "ref.h"

fl_status fl_ref_shift_fwd(fl_dev *d, fl_batch b, int64_t n, fl_cspan x, fl_cspan w, fl_span y) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    for (int64_t i = 0; i < b.rows[c] * n; i++)
      fl_ref_out(y, c)[i] = fl_ref_in(x, c)[i] + fl_ref_in(w, c)[i % n];
  return FEDLANE_OK;
}

fl_status fl_ref_shift_bwd_weights(fl_dev *d, fl_batch b, int64_t n, fl_cspan dy, fl_coef scale,
                                   fl_span gw) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    for (int64_t i = 0; i < n; i++) {
      double sum = 0;
      for (int row = 0; row < b.rows[c]; row++) sum += fl_ref_in(dy, c)[row * n + i];
      float *g = fl_ref_out(gw, c) + i;
      *g = (float)(*g + fl_coef_at(scale, c) * sum);
    }
  return FEDLANE_OK;
}

fl_status fl_ref_waves(fl_dev *d, fl_batch b, int T, int F, fl_cspan x, fl_span y) {
  (void)d;
  for (int c = 0; c < b.C; c++)
    for (int64_t i = 0; i < (int64_t)b.rows[c] * T * F; i++) {
      int f = (int)(i % F), t = (int)(i / F % T);
      double angle = t * pow(10000, -(double)(f - f % 2) / F);
      fl_ref_out(y, c)[i] = (float)(fl_ref_in(x, c)[i] + (f % 2 ? cos(angle) : sin(angle)));
    }
  return FEDLANE_OK;
}

/* One head of one example. Step t has its queries at x + t*row, its keys F further and its values F
 * further still; its outputs at y + t*F. seen: the steps that step t attends to. */
typedef struct head {
  int T, F, size; /* size: features of the head */
  bool causal;
  const float *x;
} head;

static const float *query(const head *h, int t) { return h->x + (int64_t)t * 3 * h->F; }
static const float *key(const head *h, int t) { return query(h, t) + h->F; }
static const float *value(const head *h, int t) { return key(h, t) + h->F; }
static int seen(const head *h, int t) { return h->causal ? t + 1 : h->T; }

static head head_of(int T, int F, int heads, bool causal, fl_cspan x, int c, int64_t k) {
  int size = F / heads;
  head h = {T, F, size, causal, fl_ref_in(x, c) + k / heads * T * 3 * F + k % heads * size};
  return h;
}

static double dot(int n, const float *a, const float *b) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += (double)a[i] * b[i];
  return sum;
}

/* p [T] = the softmax of step t's scores, 0 for steps that it does not see. */
static void probabilities(const head *h, int t, double *p) {
  double top = -INFINITY, sum = 0;
  for (int j = 0; j < seen(h, t); j++) {
    p[j] = dot(h->size, query(h, t), key(h, j)) / sqrt(h->size);
    top = fmax(top, p[j]);
  }
  for (int j = 0; j < seen(h, t); j++) sum += p[j] = exp(p[j] - top);
  for (int j = 0; j < h->T; j++) p[j] = j < seen(h, t) ? p[j] / sum : 0;
}

fl_status fl_ref_attend_fwd(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal, fl_cspan x,
                            fl_span y, fl_span keep) {
  (void)d;
  double p[FL_ATTEND_STEPS];
  for (int c = 0; c < b.C; c++)
    for (int64_t k = 0; k < (int64_t)b.rows[c] * heads; k++) {
      head h = head_of(T, F, heads, causal, x, c, k);
      float *ys = fl_ref_out(y, c) + k / heads * T * F + k % heads * h.size;
      for (int t = 0; t < T; t++) {
        probabilities(&h, t, p);
        for (int i = 0; i < h.size; i++) {
          double sum = 0;
          for (int j = 0; j < T; j++) sum += p[j] * value(&h, j)[i];
          ys[(int64_t)t * F + i] = (float)sum;
        }
        for (int j = 0; keep.at && j < T; j++)
          fl_ref_out(keep, c)[(k * T + t) * T + j] = (float)p[j];
      }
    }
  return FEDLANE_OK;
}

/* Adds what step t's output gradient gives to g [3, T, size], the gradients of queries, keys and
 * values: with dp = dy v' and ds = p (dp - p dp'), dq = ds k, dk = ds' q and dv = p' dy, where the
 * queries are divided by the root of their size. */
static void step_back(const head *h, int t, const float *p, const float *dy, double *g) {
  double ds[FL_ATTEND_STEPS], mean = 0;
  for (int j = 0; j < h->T; j++) mean += p[j] * (ds[j] = dot(h->size, dy, value(h, j)));
  for (int j = 0; j < h->T; j++) {
    ds[j] = p[j] * (ds[j] - mean) / sqrt(h->size);
    for (int i = 0; i < h->size; i++) {
      g[t * h->size + i] += ds[j] * key(h, j)[i];
      g[(h->T + j) * h->size + i] += ds[j] * query(h, t)[i];
      g[(2 * h->T + j) * h->size + i] += (double)p[j] * dy[i];
    }
  }
}

fl_status fl_ref_attend_bwd(fl_dev *d, fl_batch b, int T, int F, int heads, bool causal, fl_cspan x,
                            fl_cspan keep, fl_cspan dy, fl_span dx) {
  (void)d;
  double g[3 * FL_ATTEND_HEAD];
  for (int c = 0; c < b.C; c++) {
    for (int64_t i = 0; i < (int64_t)b.B * T * 3 * F; i++) fl_ref_out(dx, c)[i] = 0;
    for (int64_t k = 0; k < (int64_t)b.rows[c] * heads; k++) {
      head h = head_of(T, F, heads, causal, x, c, k);
      const float *dys = fl_ref_in(dy, c) + k / heads * T * F + k % heads * h.size;
      float *dxs = fl_ref_out(dx, c) + (h.x - fl_ref_in(x, c));
      for (int i = 0; i < 3 * T * h.size; i++) g[i] = 0;
      for (int t = 0; t < T; t++)
        step_back(&h, t, fl_ref_in(keep, c) + (k * T + t) * T, dys + (int64_t)t * F, g);
      for (int i = 0; i < 3 * T * h.size; i++) {
        int part = i / (T * h.size), t = i / h.size % T;
        dxs[(int64_t)(3 * t + part) * F + i % h.size] = (float)g[i];
      }
    }
  }
  return FEDLANE_OK;
}
