#include "ref.h"

fl_status fl_ref_dense_fwd(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    const float *xs = fl_ref_in(x, c), *ws = fl_ref_in(w, c), *bs = fl_ref_in(bias, c);
    float *ys = fl_ref_out(y, c);
    for (int row = 0; row < b.rows[c]; row++)
      for (int o = 0; o < O; o++) {
        double sum = bs ? bs[o] : 0;
        for (int i = 0; i < I; i++)
          sum += (double)xs[(int64_t)row * I + i] * ws[(int64_t)o * I + i];
        ys[(int64_t)row * O + o] = (float)sum;
      }
  }
  return FEDLANE_OK;
}

fl_status fl_ref_dense_bwd_data(fl_dev *d, fl_batch b, int I, int O, fl_cspan dy, fl_cspan w,
                                fl_span dx) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    const float *dys = fl_ref_in(dy, c), *ws = fl_ref_in(w, c);
    float *dxs = fl_ref_out(dx, c);
    for (int row = 0; row < b.rows[c]; row++)
      for (int i = 0; i < I; i++) {
        double sum = 0;
        for (int o = 0; o < O; o++)
          sum += (double)dys[(int64_t)row * O + o] * ws[(int64_t)o * I + i];
        dxs[(int64_t)row * I + i] = (float)sum;
      }
  }
  return FEDLANE_OK;
}

fl_status fl_ref_dense_bwd_weights(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                   fl_coef scale, fl_span gw, fl_span gbias) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    const float *xs = fl_ref_in(x, c), *dys = fl_ref_in(dy, c);
    float *gws = fl_ref_out(gw, c), *gbs = fl_ref_out(gbias, c);
    double factor = fl_coef_at(scale, c);
    for (int o = 0; o < O; o++) {
      double column = 0;
      for (int row = 0; row < b.rows[c]; row++) column += dys[(int64_t)row * O + o];
      if (gbs) gbs[o] = (float)(gbs[o] + factor * column);
      for (int i = 0; i < I; i++) {
        double sum = 0;
        for (int row = 0; row < b.rows[c]; row++)
          sum += (double)dys[(int64_t)row * O + o] * xs[(int64_t)row * I + i];
        float *g = &gws[(int64_t)o * I + i];
        *g = (float)(*g + factor * sum);
      }
    }
  }
  return FEDLANE_OK;
}
