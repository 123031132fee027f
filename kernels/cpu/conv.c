#include "cpu.h"

fl_status fl_cpu_conv_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                          fl_cspan bias, fl_span y) {
  fl_nn_conv *conv = NULL;
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    if (rows == 0) continue;
    FL_TRY(fl_nn_conv_get(d->nn, FL_PASS_FWD, rows, bias.at != NULL, s, &conv));
    FL_TRY(fl_nn_conv_run(d->nn, conv, (float *)fl_lane(x, c), (float *)fl_lane(w, c),
                          bias.at ? (float *)fl_lane(bias, c) : NULL, fl_lane_out(y, c)));
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_conv_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy, fl_cspan w,
                               fl_span dx) {
  fl_nn_conv *conv = NULL;
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    if (rows == 0) continue;
    FL_TRY(fl_nn_conv_get(d->nn, FL_PASS_BWD_DATA, rows, false, s, &conv));
    FL_TRY(fl_nn_conv_run(d->nn, conv, fl_lane_out(dx, c), (float *)fl_lane(w, c), NULL,
                          (float *)fl_lane(dy, c)));
  }
  return FEDLANE_OK;
}

static void add_scaled(int64_t n, float factor, const float *restrict x, float *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] += factor * x[i];
}

fl_status fl_cpu_conv_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                  fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias) {
  fl_nn_conv *conv = NULL;
  int64_t O = s->out.channels, n = O * s->in.channels * s->kernel * s->kernel;
  int64_t tail = (n + 15) / 16 * 16; /* where the bias gradient starts */
  void *scratch = NULL;
  FL_TRY(fl_cpu_scratch(d, (tail + O) * (int64_t)sizeof(float), &scratch));
  float *grad = scratch;
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    float factor = fl_coef_at(scale, c);
    if (rows == 0) continue;
    FL_TRY(fl_nn_conv_get(d->nn, FL_PASS_BWD_WEIGHTS, rows, gbias.at != NULL, s, &conv));
    FL_TRY(fl_nn_conv_run(d->nn, conv, (float *)fl_lane(x, c), grad, gbias.at ? grad + tail : NULL,
                          (float *)fl_lane(dy, c)));
    add_scaled(n, factor, grad, fl_lane_out(gw, c));
    if (gbias.at) add_scaled(O, factor, grad + tail, fl_lane_out(gbias, c));
  }
  return FEDLANE_OK;
}
