#include "op_runs.h"

fl_status fl_run_shift(fl_rig *r) {
  int64_t n = r->k->I;
  fl_shape row = fl_shape_rows(n), weights = fl_shape_vector(n);
  fl_cspan x = fl_rig_input(r, FL_IN_X, row), w = fl_rig_input(r, FL_IN_W, weights);
  fl_cspan dy = fl_rig_input(r, FL_IN_DY, row);
  fl_span y = fl_rig_output(r, row), gw = fl_rig_sum(r, FL_IN_OLD, weights);
  fl_span over = fl_rig_before(r, FL_IN_X, row);
  FL_TRY(r->ops->shift_fwd(r->dev, r->batch, n, x, w, y));
  FL_TRY(r->ops->shift_fwd(r->dev, r->batch, n, fl_const(over), w, over));
  FL_TRY(r->ops->shift_bwd_weights(r->dev, r->batch, n, dy, r->factor, gw));
  fl_rig_keep_forward(r, fl_const(y), row);
  fl_rig_keep(r, "y in place", fl_const(over), row);
  fl_rig_keep_gradient(r, "gw", fl_const(gw), weights, FL_IN_W);
  return FEDLANE_OK;
}

fl_status fl_run_waves(fl_rig *r) {
  fl_shape row = fl_shape_rows((int64_t)r->k->O * r->k->I);
  fl_cspan x = fl_rig_input(r, FL_IN_X, row);
  fl_span y = fl_rig_output(r, row), over = fl_rig_before(r, FL_IN_X, row);
  FL_TRY(r->ops->waves(r->dev, r->batch, r->k->O, r->k->I, x, y));
  FL_TRY(r->ops->waves(r->dev, r->batch, r->k->O, r->k->I, fl_const(over), over));
  fl_rig_keep(r, "y", fl_const(y), row);
  fl_rig_keep(r, "y in place", fl_const(over), row);
  return FEDLANE_OK;
}

fl_status fl_run_attend(fl_rig *r) {
  int F = r->k->I, T = r->k->O, heads = r->k->groups;
  bool causal = r->k->kind;
  fl_span none = {NULL, 0};
  fl_shape in = fl_shape_rows((int64_t)T * 3 * F), out = fl_shape_rows((int64_t)T * F);
  fl_shape pairs = fl_shape_rows((int64_t)heads * T * T);
  fl_cspan x = fl_rig_input(r, FL_IN_X, in), dy = fl_rig_input(r, FL_IN_DY, out);
  fl_span y = fl_rig_output(r, out), again = fl_rig_output(r, out), dx = fl_rig_output(r, in);
  fl_span keep = fl_rig_output(r, pairs);
  FL_TRY(r->ops->attend_fwd(r->dev, r->batch, T, F, heads, causal, x, y, keep));
  FL_TRY(r->ops->attend_fwd(r->dev, r->batch, T, F, heads, causal, x, again, none));
  FL_TRY(r->ops->attend_bwd(r->dev, r->batch, T, F, heads, causal, x, fl_const(keep), dy, dx));
  fl_rig_keep_forward(r, fl_const(y), out);
  fl_rig_keep(r, "y with nothing kept", fl_const(again), out);
  fl_rig_keep(r, "probabilities", fl_const(keep), pairs);
  fl_rig_keep_gradient(r, "dx", fl_const(dx), in, FL_IN_X);
  fl_rig_keep(r, "dx of dead rows too", fl_const(dx), fl_shape_vector(r->k->B * in.n));
  return FEDLANE_OK;
}
