#include "cpu.h"

/* One lane through oneDNN; the pointers are x, w, bias and y of its interface. */
static fl_status library(fl_dev *d, fl_pass pass, int rows, const fl_window *s, const float *x,
                         const float *w, const float *bias, const float *y) {
  fl_nn_conv *conv = NULL;
  FL_TRY(fl_nn_conv_get(d->nn, pass, rows, bias != NULL, s, &conv));
  return fl_nn_conv_run(d->nn, conv, (float *)x, (float *)w, (float *)bias, (float *)y);
}

/* The forward pass of one lane through oneDNN, and what is done to its output. Its own relu would
 * lose a NaN. */
static fl_status library_fwd(fl_dev *d, int rows, const fl_window *s, const float *x,
                             const float *w, const float *bias, const fl_after *after, float *y) {
  int64_t n = rows * fl_image_size(s->out);
  void *whole = y; /* the convolution's output */
  if (after->pool) FL_TRY(fl_cpu_scratch(d, n * (int64_t)sizeof(float), &whole));
  FL_TRY(library(d, FL_PASS_FWD, rows, s, x, w, bias, whole));
  if (after->pool) fl_cpu_pool_relu(rows, after->pool, whole, y, after->mask);
  for (int64_t i = 0; after->relu && i < n; i++) y[i] = y[i] < 0 ? 0 : y[i];
  return FEDLANE_OK;
}

static fl_status library_bwd_data(fl_dev *d, int rows, const fl_window *s, const float *dy,
                                  const float *w, const fl_after *after, float *dx) {
  int64_t n = rows * fl_image_size(s->in);
  FL_TRY(library(d, FL_PASS_BWD_DATA, rows, s, dx, w, NULL, dy));
  for (int64_t i = 0; after->gate && i < n; i++) dx[i] = after->gate[i] > 0 ? dx[i] : 0;
  return FEDLANE_OK;
}

static void add_scaled(int64_t n, float factor, const float *restrict x, float *restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] += factor * x[i];
}

/* One lane through oneDNN, which writes gradients; they are then added. */
static fl_status library_bwd_weights(fl_dev *d, int rows, const fl_window *s, const float *x,
                                     const float *dy, float scale, float *gw, float *gbias) {
  int64_t O = s->out.channels, n = O * s->in.channels * fl_window_kernel_h(s) * s->kernel;
  int64_t tail = (n + 15) / 16 * 16; /* where the bias gradient starts */
  void *scratch = NULL;
  FL_TRY(fl_cpu_scratch(d, (tail + O) * (int64_t)sizeof(float), &scratch));
  float *grad = scratch;
  FL_TRY(library(d, FL_PASS_BWD_WEIGHTS, rows, s, x, grad, gbias ? grad + tail : NULL, dy));
  add_scaled(n, scale, grad, gw);
  if (gbias) add_scaled(O, scale, grad + tail, gbias);
  return FEDLANE_OK;
}

/* How the convolutions of a window are done, a lane at a time. */
typedef struct way {
  bool (*fits)(const fl_window *s); /* whether it takes this window and is fast at it */
  fl_status (*fwd)(fl_dev *d, int images, const fl_window *s, const float *x, const float *w,
                   const float *bias, const fl_after *after, float *y);
  fl_status (*bwd_data)(fl_dev *d, int images, const fl_window *s, const float *dy, const float *w,
                        const fl_after *after, float *dx);
  fl_status (*bwd_weights)(fl_dev *d, int images, const fl_window *s, const float *x,
                           const float *dy, float scale, float *gw, float *gbias);
} way;

static bool fits_all(const fl_window *s) { return s != NULL; }

static const way ways[] = {
    {fl_wino_fits, fl_wino_fwd, fl_wino_bwd_data, fl_wino_bwd_weights},
    {fl_narrow_fits, fl_narrow_fwd, fl_narrow_bwd_data, fl_narrow_bwd_weights},
    {fits_all, library_fwd, library_bwd_data, library_bwd_weights},
};

static const way *way_of(const fl_window *s) {
  const way *w = ways;
  while (!w->fits(s)) w++;
  return w;
}

/* All lanes; mask.at NULL: not wanted. */
static fl_status forward(fl_dev *d, fl_batch b, const fl_window *s, bool relu,
                         const fl_window *pool, fl_cspan x, fl_cspan w, fl_cspan bias, fl_span y,
                         fl_span mask) {
  const way *way = way_of(s);
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    const float *biases = bias.at ? fl_lane(bias, c) : NULL;
    fl_after after = {.relu = relu && !pool, .pool = pool};
    if (mask.at) after.mask = (uint8_t *)fl_lane_out(mask, c);
    if (rows == 0) continue;
    FL_TRY(way->fwd(d, rows, s, fl_lane(x, c), fl_lane(w, c), biases, &after, fl_lane_out(y, c)));
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_conv_fwd(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x, fl_cspan w,
                          fl_cspan bias, fl_span y) {
  return forward(d, b, s, false, NULL, x, w, bias, y, (fl_span){0});
}

fl_status fl_cpu_conv_relu_fwd(fl_dev *d, fl_batch b, const fl_window *s, const fl_window *pool,
                               fl_cspan x, fl_cspan w, fl_cspan bias, fl_span y, fl_span mask) {
  return forward(d, b, s, true, pool, x, w, bias, y, mask);
}

/* x.at NULL: no relu before the convolution. */
fl_status fl_cpu_conv_bwd_data_relu(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy,
                                    fl_cspan w, fl_cspan x, fl_span dx) {
  const way *way = way_of(s);
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    fl_after after = {.gate = x.at ? fl_lane(x, c) : NULL};
    if (rows == 0) continue;
    FL_TRY(way->bwd_data(d, rows, s, fl_lane(dy, c), fl_lane(w, c), &after, fl_lane_out(dx, c)));
  }
  return FEDLANE_OK;
}

fl_status fl_cpu_conv_bwd_data(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan dy, fl_cspan w,
                               fl_span dx) {
  return fl_cpu_conv_bwd_data_relu(d, b, s, dy, w, (fl_cspan){0}, dx);
}

fl_status fl_cpu_conv_bwd_weights(fl_dev *d, fl_batch b, const fl_window *s, fl_cspan x,
                                  fl_cspan dy, fl_coef scale, fl_span gw, fl_span gbias) {
  const way *way = way_of(s);
  for (int c = 0; c < b.C; c++) {
    int rows = fl_rows_used(b, c);
    float factor = fl_coef_at(scale, c);
    float *gws = fl_lane_out(gw, c), *gbs = gbias.at ? fl_lane_out(gbias, c) : NULL;
    if (rows == 0) continue;
    FL_TRY(way->bwd_weights(d, rows, s, fl_lane(x, c), fl_lane(dy, c), factor, gws, gbs));
  }
  return FEDLANE_OK;
}
