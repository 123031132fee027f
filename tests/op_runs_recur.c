/* Runs of sequences: window.in.steps steps, O features of an output. */
#include <stdlib.h>

#include "op_runs.h"

/* A batch of the steps of all examples; rows [C] is its own. */
static fl_batch steps_of(const fl_rig *r, int32_t *rows) {
  int T = r->k->window.in.steps;
  for (int c = 0; c < r->C; c++) rows[c] = r->rows[c] * T;
  return (fl_batch){r->C, r->k->B * T, rows};
}

/* n floats a row from block `at` of what is kept, as a span of their own. */
static fl_span copy_of(fl_rig *r, fl_span keep, int64_t at, int64_t n) {
  fl_span out = fl_rig_output(r, fl_shape_rows(n));
  fl_cspan from = {keep.at + at * r->k->B, keep.stride};
  if (r->ops->axpby(r->dev, r->C, r->k->B * n, fl_all(1), from, fl_all(0), out) != FEDLANE_OK)
    abort();
  return out;
}

/* Keeps a gradient with all its rows: dead ones must be zeros. */
static void keep_all(fl_rig *r, const char *name, fl_span dg, int64_t n) {
  fl_rig_keep(r, name, fl_const(dg), fl_shape_vector(r->k->B * n));
}

/* What the input adds to the gates, in front of room for what is kept, n floats a row. */
static fl_span keep_of(fl_rig *r, int64_t gates, int64_t n) {
  fl_span keep = fl_rig_output(r, fl_shape_rows(n));
  fl_cspan g = fl_rig_input(r, FL_IN_X, fl_shape_rows(gates));
  if (r->ops->axpby(r->dev, r->C, r->k->B * gates, fl_all(1), g, fl_all(0), keep) != FEDLANE_OK)
    abort();
  return keep;
}

fl_status fl_run_lstm(fl_rig *r) {
  int T = r->k->window.in.steps, H = r->k->O;
  int64_t n = (int64_t)T * H;
  int32_t rows[FL_CASE_LANES];
  fl_batch steps = steps_of(r, rows);
  fl_shape out = fl_shape_rows(n), weights = fl_shape_vector(4 * (int64_t)H * H);
  fl_cspan w = fl_rig_input(r, FL_IN_W, weights), dy = fl_rig_input(r, FL_IN_DY, out);
  fl_span y = fl_rig_output(r, out), keep = keep_of(r, 4 * n, 6 * n);
  fl_span gw = fl_rig_sum(r, FL_IN_OLD, weights), none = {0};
  FL_TRY(r->ops->lstm_fwd(r->dev, r->batch, T, H, w, y, keep));
  fl_rig_keep_forward(r, fl_const(y), out);
  fl_rig_keep(r, "gates", fl_const(copy_of(r, keep, 0, 4 * n)), fl_shape_rows(4 * n));
  fl_rig_keep(r, "cells", fl_const(copy_of(r, keep, 4 * n, n)), out);
  FL_TRY(r->ops->lstm_bwd(r->dev, r->batch, T, H, w, dy, keep));
  fl_span dg = copy_of(r, keep, 0, 4 * n), before = copy_of(r, keep, 5 * n, n);
  FL_TRY(r->ops->dense_bwd_weights(r->dev, steps, H, 4 * H, fl_const(before), fl_const(dg),
                                   r->factor, gw, none));
  fl_rig_keep(r, "before", fl_const(before), out);
  fl_rig_keep_gradient(r, "dg", fl_const(dg), fl_shape_rows(4 * n), FL_IN_X);
  keep_all(r, "dg of dead rows too", dg, 4 * n);
  fl_rig_keep_gradient(r, "gw", fl_const(gw), weights, FL_IN_W);
  return FEDLANE_OK;
}

fl_status fl_run_gru(fl_rig *r) {
  int T = r->k->window.in.steps, H = r->k->O;
  int64_t n = (int64_t)T * H;
  int32_t rows[FL_CASE_LANES];
  fl_batch steps = steps_of(r, rows);
  fl_shape out = fl_shape_rows(n), weights = fl_shape_vector(3 * (int64_t)H * H);
  fl_shape biases = fl_shape_vector(3 * H), three = fl_shape_rows(3 * n);
  fl_cspan w = fl_rig_input(r, FL_IN_W, weights), bias = fl_rig_input(r, FL_IN_BIAS, biases);
  fl_cspan dy = fl_rig_input(r, FL_IN_DY, out);
  fl_span y = fl_rig_output(r, out), keep = keep_of(r, 3 * n, 8 * n);
  fl_span gw = fl_rig_sum(r, FL_IN_OLD, weights), gbias = fl_rig_sum(r, FL_IN_OLD_BIAS, biases);
  FL_TRY(r->ops->gru_fwd(r->dev, r->batch, T, H, w, bias, y, keep));
  fl_rig_keep_forward(r, fl_const(y), out);
  fl_rig_keep(r, "gates", fl_const(copy_of(r, keep, 0, 3 * n)), three);
  fl_rig_keep(r, "hidden", fl_const(copy_of(r, keep, 3 * n, n)), out);
  FL_TRY(r->ops->gru_bwd(r->dev, r->batch, T, H, w, dy, keep));
  fl_span dg = copy_of(r, keep, 0, 3 * n), before = copy_of(r, keep, 4 * n, n);
  fl_span dh = copy_of(r, keep, 5 * n, 3 * n);
  FL_TRY(r->ops->dense_bwd_weights(r->dev, steps, H, 3 * H, fl_const(before), fl_const(dh),
                                   r->factor, gw, gbias));
  fl_rig_keep(r, "before", fl_const(before), out);
  fl_rig_keep_gradient(r, "dg", fl_const(dg), three, FL_IN_X);
  keep_all(r, "dg of dead rows too", dg, 3 * n);
  keep_all(r, "dh of dead rows too", dh, 3 * n);
  fl_rig_keep_gradient(r, "gw", fl_const(gw), weights, FL_IN_W);
  fl_rig_keep_gradient(r, "gbias", fl_const(gbias), biases, FL_IN_BIAS);
  return FEDLANE_OK;
}

/* Tokens below I of rows, as gather leaves them: zeros in dead rows. */
static fl_cspan tokens_of(fl_rig *r, int64_t stride) {
  float *host = calloc((size_t)(r->C * stride), sizeof *host);
  if (!host) abort();
  for (int c = 0; c < r->C; c++) {
    fl_rng rng = fl_rng_open((fl_key){1, FL_FOR_DATA, 0, r->client[c], 0, 0, 0});
    for (int i = 0; i < r->rows[c]; i++)
      host[c * stride + i] = (float)fl_rng_below(&rng, (uint32_t)r->k->I);
  }
  fl_cspan x = {fl_rig_hold(r, host, r->C * stride * (int64_t)sizeof *host), stride};
  free(host);
  return x;
}

fl_status fl_run_embed(fl_rig *r) {
  int V = r->k->I, F = r->k->O;
  fl_shape out = fl_shape_rows(F), weights = fl_shape_vector((int64_t)V * F);
  fl_cspan x = tokens_of(r, (r->k->B + 15) / 16 * 16), w = fl_rig_input(r, FL_IN_W, weights);
  fl_cspan dy = fl_rig_input(r, FL_IN_DY, out);
  fl_span y = fl_rig_output(r, out), gw = fl_rig_sum(r, FL_IN_OLD, weights);
  FL_TRY(r->ops->embed_fwd(r->dev, r->batch, V, F, x, w, y));
  FL_TRY(r->ops->embed_bwd_weights(r->dev, r->batch, V, F, x, dy, r->factor, gw));
  fl_rig_keep_forward(r, fl_const(y), out);
  fl_rig_keep_gradient(r, "gw", fl_const(gw), weights, FL_IN_W);
  return FEDLANE_OK;
}

fl_status fl_run_last(fl_rig *r) {
  int T = r->k->window.in.steps, F = r->k->O;
  fl_shape all = fl_shape_rows((int64_t)T * F), one = fl_shape_rows(F);
  fl_cspan x = fl_rig_input(r, FL_IN_X, all), dy = fl_rig_input(r, FL_IN_DY, one);
  fl_span y = fl_rig_output(r, one), dx = fl_rig_output(r, all);
  FL_TRY(r->ops->last(r->dev, r->batch, T, F, false, x, y));
  FL_TRY(r->ops->last(r->dev, r->batch, T, F, true, dy, dx));
  fl_rig_keep_forward(r, fl_const(y), one);
  fl_rig_keep_gradient(r, "dx", fl_const(dx), all, FL_IN_X);
  return FEDLANE_OK;
}
