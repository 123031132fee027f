#include <math.h>

#include "ref.h"

fl_status fl_ref_step(fl_dev *d, int C, int64_t n, fl_cspan g, fl_coef lr, int n_term,
                      const fl_term *term, fl_span w) {
  (void)d;
  for (int c = 0; c < C; c++) {
    float *ws = fl_ref_out(w, c);
    for (int64_t i = 0; i < n; i++) {
      double sum = g.at ? fl_ref_in(g, c)[i] : 0;
      for (int k = 0; k < n_term; k++) sum += (double)term[k].a * fl_ref_in(term[k].x, c)[i];
      ws[i] = (float)(ws[i] - fl_coef_at(lr, c) * sum);
    }
  }
  return FEDLANE_OK;
}

fl_status fl_ref_axpby(fl_dev *d, int C, int64_t n, fl_coef a, fl_cspan x, fl_coef b, fl_span y) {
  (void)d;
  for (int c = 0; c < C; c++) {
    double fa = fl_coef_at(a, c), fb = fl_coef_at(b, c);
    const float *xs = fl_ref_in(x, c);
    float *ys = fl_ref_out(y, c);
    for (int64_t i = 0; i < n; i++)
      ys[i] = (float)((xs ? fa * xs[i] : 0) + (fb != 0 ? fb * ys[i] : 0));
  }
  return FEDLANE_OK;
}

fl_status fl_ref_fill(fl_dev *d, int C, int64_t n, float value, fl_span y) {
  (void)d;
  for (int c = 0; c < C; c++)
    for (int64_t i = 0; i < n; i++) fl_ref_out(y, c)[i] = value;
  return FEDLANE_OK;
}

static fl_measure measure(const float *x, int64_t n) {
  fl_measure m = {0, 0};
  for (int64_t i = 0; i < n; i++) {
    double size = isfinite(x[i]) ? fabs((double)x[i]) : INFINITY;
    m.sum2 += (double)x[i] * x[i];
    if (size > m.peak) m.peak = size;
  }
  return m;
}

fl_status fl_ref_measure(fl_dev *d, int C, int64_t n, fl_cspan x, fl_measure *out) {
  (void)d;
  for (int c = 0; c < C; c++) out[c] = measure(fl_ref_in(x, c), n);
  return FEDLANE_OK;
}

fl_status fl_ref_clip(fl_dev *d, int C, int64_t n, float limit, fl_span y) {
  (void)d;
  for (int c = 0; c < C; c++) {
    float *ys = fl_ref_out(y, c);
    double norm = sqrt(measure(ys, n).sum2);
    double factor = norm > limit ? limit / norm : 1;
    for (int64_t i = 0; i < n; i++) ys[i] = (float)(ys[i] * factor);
  }
  return FEDLANE_OK;
}

static double second_moment(fl_adaptive kind, double b2, double v, double u2) {
  switch (kind) {
    case FL_ADAGRAD:
      return v + u2;
    case FL_ADAM:
      return b2 * v + (1 - b2) * u2;
    case FL_YOGI:
      return v - (1 - b2) * u2 * ((v > u2) - (v < u2));
  }
  return NAN;
}

fl_status fl_ref_adaptive(fl_dev *d, int64_t n, fl_adaptive kind, float lr, float b1, float b2,
                          float eps, const float *u, float *m, float *v, float *w) {
  (void)d;
  for (int64_t i = 0; i < n; i++) {
    double first = (double)b1 * m[i] + (1 - (double)b1) * u[i];
    double second = second_moment(kind, b2, v[i], (double)u[i] * u[i]);
    m[i] = (float)first;
    v[i] = (float)second;
    w[i] = (float)(w[i] + lr * first / (sqrt(second) + eps));
  }
  return FEDLANE_OK;
}
