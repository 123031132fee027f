#include "cpu.h"

/* One lane through oneDNN; the pointers are x, w, bias and y of its interface. */
static fl_status library(fl_dev *d, fl_pass pass, int rows, const fl_window *s, const float *x,
                         const float *w, const float *bias, const float *y) {
  fl_nn_conv *conv = NULL;
  FL_TRY(fl_nn_conv_get(d->nn, pass, rows, bias != NULL, s, &conv));
  return fl_nn_conv_run(d->nn, conv, (float *)x, (float *)w, (float *)bias, (float *)y);
}

fl_status fl_cpu_conv_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                          fl_cspan bias, fl_span y) {
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    const float *xs = fl_lane(x, c), *ws = fl_lane(w, c);
    const float *biases = bias.at ? fl_lane(bias, c) : NULL;
    if (rows == 0) continue;
    if (fl_wino_fits(s))
      FL_TRY(fl_wino_fwd(d, rows, s, xs, ws, biases, fl_lane_out(y, c)));
    else
      FL_TRY(library(d, FL_PASS_FWD, rows, s, xs, ws, biases, fl_lane_out(y, c)));
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_conv_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy, fl_cspan w,
                               fl_span dx) {
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    const float *dys = fl_lane(dy, c), *ws = fl_lane(w, c);
    if (rows == 0) continue;
    if (fl_wino_fits(s))
      FL_TRY(fl_wino_bwd_data(d, rows, s, dys, ws, fl_lane_out(dx, c)));
    else
      FL_TRY(library(d, FL_PASS_BWD_DATA, rows, s, fl_lane_out(dx, c), ws, NULL, dys));
  }
  return FEDLANE_OK;
}

static void add_scaled(int64_t n, float factor, const float *restrict x, float *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] += factor * x[i];
}

/* One lane through oneDNN, which writes gradients; they are then added. */
static fl_status library_bwd_weights(fl_dev *d, int rows, const fl_window *s, const float *x,
                                     const float *dy, float scale, float *gw, float *gbias) {
  int64_t O = s->out.channels, n = O * s->in.channels * s->kernel * s->kernel;
  int64_t tail = (n + 15) / 16 * 16; /* where the bias gradient starts */
  void *scratch = NULL;
  FL_TRY(fl_cpu_scratch(d, (tail + O) * (int64_t)sizeof(float), &scratch));
  float *grad = scratch;
  FL_TRY(library(d, FL_PASS_BWD_WEIGHTS, rows, s, x, grad, gbias ? grad + tail : NULL, dy));
  add_scaled(n, scale, grad, gw);
  if (gbias) add_scaled(O, scale, grad + tail, gbias);
  return FEDLANE_OK;
}

fl_status fl_cpu_conv_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                  fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias) {
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    float factor = fl_coef_at(scale, c);
    float *gws = fl_lane_out(gw, c), *gbs = gbias.at ? fl_lane_out(gbias, c) : NULL;
    if (rows == 0) continue;
    if (fl_wino_fits(s))
      FL_TRY(fl_wino_bwd_weights(d, rows, s, fl_lane(x, c), fl_lane(dy, c), factor, gws, gbs));
    else
      FL_TRY(library_bwd_weights(d, rows, s, fl_lane(x, c), fl_lane(dy, c), factor, gws, gbs));
  }
  return FEDLANE_OK;
}
