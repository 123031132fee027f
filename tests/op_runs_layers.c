#include "op_runs.h"

static const fl_span none = {NULL, 0};

fl_status fl_run_dense(fl_rig *r) {
  int I = r->k->I, O = r->k->O;
  fl_shape in = fl_shape_rows(I), out = fl_shape_rows(O);
  fl_shape weights = fl_shape_vector((int64_t)I * O), biases = fl_shape_vector(O);
  fl_cspan x = fl_rig_input(r, FL_IN_X, in), w = fl_rig_input(r, FL_IN_W, weights);
  fl_cspan bias = r->k->no_bias ? fl_const(none) : fl_rig_input(r, FL_IN_BIAS, biases);
  fl_cspan dy = fl_rig_input(r, FL_IN_DY, out);
  fl_span y = fl_rig_output(r, out), dx = fl_rig_output(r, in);
  fl_span gw = fl_rig_sum(r, FL_IN_OLD, weights);
  fl_span gbias = r->k->no_bias ? none : fl_rig_sum(r, FL_IN_OLD_BIAS, biases);
  FL_TRY(r->ops->dense_fwd(r->dev, r->batch, I, O, x, w, bias, y));
  FL_TRY(r->ops->dense_bwd_data(r->dev, r->batch, I, O, dy, w, dx));
  FL_TRY(r->ops->dense_bwd_weights(r->dev, r->batch, I, O, x, dy, r->factor, gw, gbias));
  fl_rig_keep_forward(r, fl_const(y), out);
  fl_rig_keep_gradient(r, "dx", fl_const(dx), in, FL_IN_X);
  fl_rig_keep_gradient(r, "gw", fl_const(gw), weights, FL_IN_W);
  if (gbias.at) fl_rig_keep_gradient(r, "gbias", fl_const(gbias), biases, FL_IN_BIAS);
  return FEDLANE_OK;
}

fl_status fl_run_conv(fl_rig *r) {
  fl_window s = fl_case_window(r->k);
  int64_t n = (int64_t)s.in.channels * s.out.channels * fl_window_kernel_h(&s) * s.kernel;
  fl_shape in = fl_shape_images(s.in), out = fl_shape_images(s.out);
  fl_shape weights = fl_shape_vector(n), biases = fl_shape_vector(s.out.channels);
  fl_cspan x = fl_rig_input(r, FL_IN_X, in), w = fl_rig_input(r, FL_IN_W, weights);
  fl_cspan bias = r->k->no_bias ? fl_const(none) : fl_rig_input(r, FL_IN_BIAS, biases);
  fl_cspan dy = fl_rig_input(r, FL_IN_DY, out);
  fl_span y = fl_rig_output(r, out), dx = fl_rig_output(r, in);
  fl_span gw = fl_rig_sum(r, FL_IN_OLD, weights);
  fl_span gbias = r->k->no_bias ? none : fl_rig_sum(r, FL_IN_OLD_BIAS, biases);
  FL_TRY(r->ops->conv_fwd(r->dev, r->batch, &s, x, w, bias, y));
  FL_TRY(r->ops->conv_bwd_data(r->dev, r->batch, &s, dy, w, dx));
  FL_TRY(r->ops->conv_bwd_weights(r->dev, r->batch, &s, x, dy, r->factor, gw, gbias));
  fl_rig_keep_forward(r, fl_const(y), out);
  fl_rig_keep_gradient(r, "dx", fl_const(dx), in, FL_IN_X);
  fl_rig_keep_gradient(r, "gw", fl_const(gw), weights, FL_IN_W);
  if (gbias.at) fl_rig_keep_gradient(r, "gbias", fl_const(gbias), biases, FL_IN_BIAS);
  return FEDLANE_OK;
}

fl_status fl_run_pool(fl_rig *r) {
  fl_window s = fl_case_window(r->k);
  fl_pooling kind = (fl_pooling)r->k->kind;
  fl_shape in = fl_shape_images(s.in), out = fl_shape_images(s.out);
  fl_cspan x = fl_rig_input(r, FL_IN_X, in), dy = fl_rig_input(r, FL_IN_DY, out);
  fl_span y = fl_rig_output(r, out), dx = fl_rig_output(r, in);
  FL_TRY(r->ops->pool_fwd(r->dev, r->batch, &s, kind, x, y));
  FL_TRY(r->ops->pool_bwd(r->dev, r->batch, &s, kind, x, fl_const(y), dy, dx));
  fl_rig_keep_forward(r, fl_const(y), out);
  fl_rig_keep_gradient(r, "dx", fl_const(dx), in, FL_IN_X);
  return FEDLANE_OK;
}

fl_status fl_run_gnorm(fl_rig *r) {
  fl_image s = r->k->window.in;
  int groups = r->k->groups;
  fl_shape in = fl_shape_images(s), channels = fl_shape_vector(s.channels);
  fl_cspan x = fl_rig_input(r, FL_IN_X, in), w = fl_rig_input(r, FL_IN_W, channels);
  fl_cspan bias = fl_rig_input(r, FL_IN_BIAS, channels), dy = fl_rig_input(r, FL_IN_DY, in);
  fl_span y = fl_rig_output(r, in), dx = fl_rig_output(r, in);
  fl_span stat = fl_rig_output(r, fl_shape_rows(2 * groups));
  fl_span gw = fl_rig_sum(r, FL_IN_OLD, channels);
  fl_span gbias = fl_rig_sum(r, FL_IN_OLD_BIAS, channels);
  fl_cspan read = fl_const(stat);
  FL_TRY(r->ops->gnorm_fwd(r->dev, r->batch, s, groups, x, w, bias, y, stat));
  FL_TRY(r->ops->gnorm_bwd_data(r->dev, r->batch, s, groups, x, w, read, dy, dx));
  FL_TRY(r->ops->gnorm_bwd_weights(r->dev, r->batch, s, groups, x, read, dy, r->factor, gw, gbias));
  fl_rig_keep_forward(r, fl_const(y), in);
  fl_rig_keep(r, "stat", read, fl_shape_rows(2 * groups));
  fl_rig_keep_gradient(r, "dx", fl_const(dx), in, FL_IN_X);
  fl_rig_keep_gradient(r, "gw", fl_const(gw), channels, FL_IN_W);
  fl_rig_keep_gradient(r, "gbias", fl_const(gbias), channels, FL_IN_BIAS);
  return FEDLANE_OK;
}

fl_status fl_run_act(fl_rig *r) {
  fl_shape row = fl_shape_rows(r->k->I);
  fl_act kind = (fl_act)r->k->kind;
  fl_cspan x = fl_rig_input(r, FL_IN_X, row), dy = fl_rig_input(r, FL_IN_DY, row);
  fl_span y = fl_rig_output(r, row), dx = fl_rig_output(r, row);
  FL_TRY(r->ops->act_fwd(r->dev, r->batch, kind, r->k->I, x, y));
  bool reads_x = kind == FL_ACT_GELU || kind == FL_ACT_SQUARE;
  FL_TRY(r->ops->act_bwd(r->dev, r->batch, kind, r->k->I, reads_x ? x : fl_const(y), dy, dx));
  fl_rig_keep_forward(r, fl_const(y), row);
  fl_rig_keep_gradient(r, "dx", fl_const(dx), row, FL_IN_X);
  return FEDLANE_OK;
}

fl_status fl_run_dropout(fl_rig *r) {
  fl_shape row = fl_shape_rows(r->k->I);
  fl_cspan x = fl_rig_input(r, FL_IN_X, row), dy = fl_rig_input(r, FL_IN_DY, row);
  fl_span y = fl_rig_output(r, row), dx = fl_rig_output(r, row);
  r->draw.purpose = FL_FOR_DROPOUT;
  FL_TRY(r->ops->dropout(r->dev, r->batch, r->k->I, r->k->p, &r->draw, x, y));
  FL_TRY(r->ops->dropout(r->dev, r->batch, r->k->I, r->k->p, &r->draw, dy, dx));
  fl_rig_keep_forward(r, fl_const(y), row);
  fl_rig_keep_gradient(r, "dx", fl_const(dx), row, FL_IN_X);
  return FEDLANE_OK;
}

/* Plain, to the private order, and back again. */
fl_status fl_run_flatten(fl_rig *r) {
  fl_image s = r->k->window.in;
  fl_shape row = fl_shape_rows(fl_image_size(s));
  fl_cspan x = fl_rig_input(r, FL_IN_X, row);
  fl_span image = fl_rig_output(r, row), y = fl_rig_output(r, row);
  FL_TRY(r->ops->flatten(r->dev, r->batch, s, true, x, image));
  FL_TRY(r->ops->flatten(r->dev, r->batch, s, false, fl_const(image), y));
  fl_rig_keep(r, "y", fl_const(y), row);
  return FEDLANE_OK;
}

fl_status fl_run_depthwise(fl_rig *r) {
  fl_window s = fl_case_window(r->k);
  int64_t n = (int64_t)s.in.channels * fl_window_kernel_h(&s) * s.kernel;
  fl_shape in = fl_shape_images(s.in), out = fl_shape_images(s.out);
  fl_shape weights = fl_shape_vector(n), biases = fl_shape_vector(s.in.channels);
  fl_cspan x = fl_rig_input(r, FL_IN_X, in), w = fl_rig_input(r, FL_IN_W, weights);
  fl_cspan bias = r->k->no_bias ? fl_const(none) : fl_rig_input(r, FL_IN_BIAS, biases);
  fl_cspan dy = fl_rig_input(r, FL_IN_DY, out);
  fl_span y = fl_rig_output(r, out), dx = fl_rig_output(r, in);
  fl_span gw = fl_rig_sum(r, FL_IN_OLD, weights);
  fl_span gbias = r->k->no_bias ? none : fl_rig_sum(r, FL_IN_OLD_BIAS, biases);
  FL_TRY(r->ops->depthwise_fwd(r->dev, r->batch, &s, x, w, bias, y));
  FL_TRY(r->ops->depthwise_bwd_data(r->dev, r->batch, &s, dy, w, dx));
  FL_TRY(r->ops->depthwise_bwd_weights(r->dev, r->batch, &s, x, dy, r->factor, gw, gbias));
  fl_rig_keep_forward(r, fl_const(y), out);
  fl_rig_keep_gradient(r, "dx", fl_const(dx), in, FL_IN_X);
  fl_rig_keep_gradient(r, "gw", fl_const(gw), weights, FL_IN_W);
  if (gbias.at) fl_rig_keep_gradient(r, "gbias", fl_const(gbias), biases, FL_IN_BIAS);
  return FEDLANE_OK;
}

/* An image as a sequence, and a sequence as an image. */
fl_status fl_run_columns(fl_rig *r) {
  fl_image s = r->k->window.in;
  fl_shape image = fl_shape_images(s), row = fl_shape_rows(fl_image_size(s));
  fl_cspan x = fl_rig_input(r, FL_IN_X, image), steps = fl_rig_input(r, FL_IN_W, row);
  fl_span sequence = fl_rig_output(r, row), back = fl_rig_output(r, image);
  FL_TRY(r->ops->columns(r->dev, r->batch, s, false, x, sequence));
  FL_TRY(r->ops->columns(r->dev, r->batch, s, true, steps, back));
  fl_rig_keep(r, "sequence", fl_const(sequence), row);
  fl_rig_keep(r, "image", fl_const(back), image);
  return FEDLANE_OK;
}
