#include "layers.h"

static const fl_param params[] = {
    {.name = "out",
     .type = FL_INT32,
     .offset = offsetof(fl_layer, out),
     .lo = 0,
     .hi = FL_LAYER_OUT_MAX,
     .unit = "features",
     .help = "output features; 0: as many as the data have classes or targets"},
    {.name = "no_bias",
     .type = FL_BOOL,
     .offset = offsetof(fl_layer, no_bias),
     .help = "leave the bias out"},
    FL_LAYER_COMMON_PARAMS,
};

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  if (node->in.height != 1 || node->in.width != 1)
    return "it takes features, so put `flatten` before it";
  node->out = (fl_image){node->layer.out, 1, 1, node->in.steps};
  return NULL;
}

static bool tensor(const fl_node *node, int i, fl_tensor *out) {
  if (i >= (node->layer.no_bias ? 1 : 2)) return false;
  out->role = i == 0 ? FL_ROLE_WEIGHT : FL_ROLE_BIAS;
  out->n_dim = i == 0 ? 2 : 1;
  out->dim[0] = node->layer.out;
  if (i == 0) out->dim[1] = node->in.channels;
  out->fan_in = node->in.channels;
  out->fan_out = node->layer.out;
  return true;
}

static double flop(const fl_node *node) {
  return 2.0 * (double)fl_image_size(node->in) * node->layer.out;
}

static fl_status forward(const fl_pass *p) {
  return p->ops->dense_fwd(p->dev, p->steps, p->node->in.channels, p->node->layer.out,
                           fl_const(p->x), p->w, p->bias, p->y);
}

static fl_status back_data(const fl_pass *p) {
  return p->ops->dense_bwd_data(p->dev, p->steps, p->node->in.channels, p->node->layer.out,
                                fl_const(p->dy), p->w, p->dx);
}

static fl_status back_weights(const fl_pass *p) {
  return p->ops->dense_bwd_weights(p->dev, p->steps, p->node->in.channels, p->node->layer.out,
                                   fl_const(p->x), fl_const(p->dy), p->scale, p->gw, p->gbias);
}

static fl_status back(const fl_pass *p) {
  if (p->ops->dense_bwd)
    return p->ops->dense_bwd(p->dev, p->steps, p->node->in.channels, p->node->layer.out,
                             fl_const(p->x), fl_const(p->dy), p->w, p->dx, p->scale, p->gw,
                             p->gbias);
  FL_TRY(back_data(p));
  return back_weights(p);
}

const fl_kind_record fl_layer_dense = {
    .record = {.name = "dense",
               .help = "every output feature from every input feature, with bias",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .reads = FL_READS_X,
    .shape = shape,
    .tensor = tensor,
    .flop = flop,
    .forward = forward,
    .back_data = back_data,
    .back_weights = back_weights,
    .back = back,
};
