#include <string.h>

#include "cpu.h"

static void bias_rows(int rows, int O, const float *restrict bias, float *restrict y) {
  for (int row = 0; row < rows; row++)
    for (int o = 0; o < O; o++) y[(int64_t)row * O + o] = bias[o];
}

fl_status fl_cpu_dense_fwd(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan w,
                           fl_cspan bias, fl_span y) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    float *ys = fl_lane_out(y, c);
    if (rows == 0) continue;
    if (bias.at) bias_rows(rows, O, fl_lane(bias, c), ys);
    FL_TRY(fl_nn_gemm(false, true, rows, O, I, 1, fl_lane(x, c), fl_lane(w, c),
                      bias.at ? 1.0f : 0.0f, ys));
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_dense_bwd_data(fl_dev *d, fl_batch b, int I, int O, fl_cspan dy, fl_cspan w,
                                fl_span dx) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    if (rows == 0) continue;
    FL_TRY(fl_nn_gemm(false, false, rows, I, O, 1, fl_lane(dy, c), fl_lane(w, c), 0,
                      fl_lane_out(dx, c)));
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_dense_bwd_weights(fl_dev *d, fl_batch b, int I, int O, fl_cspan x, fl_cspan dy,
                                   fl_coef scale, fl_span gw, fl_span gbias) {
  (void)d;
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    float factor = fl_coef_at(scale, c);
    const float *dys = fl_lane(dy, c);
    if (rows == 0) continue;
    FL_TRY(fl_nn_gemm(true, false, O, I, rows, factor, dys, fl_lane(x, c), 1, fl_lane_out(gw, c)));
    for (int o = 0; gbias.at && o < O; o++) {
      float sum = 0;
      for (int row = 0; row < rows; row++) sum += dys[(int64_t)row * O + o];
      fl_lane_out(gbias, c)[o] += factor * sum;
    }
  }
  return FEDLANE_OK;
}
