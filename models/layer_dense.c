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
    {.name = "tie",
     .type = FL_INT32,
     .offset = offsetof(fl_layer, tie),
     .lo = -FL_LAYERS_MAX,
     .hi = 0,
     .unit = "layers",
     .help = "-k: it has no tensors of its own, but the weight of the k-th layer back, an embed"},
    FL_LAYER_COMMON_PARAMS,
};

/* Why a layer may not have another's weight as its own. On the way back the weight takes the steps
 * of both layers one after the other, so the earlier must not read it there, which an embedding
 * does not. */
static const char *misfit(const fl_node *node) {
  const fl_node *owner = node->tie > 0 ? &node->model->node[node->tie - 1] : NULL;
  if (!owner || owner->layer.kind != FL_EMBED) return "it can be tied to an embed layer only";
  const fl_tensor *t = &node->model->tensor[owner->tensor];
  if (t->dim[0] != node->layer.out || t->dim[1] != node->in.channels)
    return "the embedding that it is tied to must have a token for each of its outputs, and its "
           "input's features";
  for (const fl_node *n = owner; n < node; n++)
    if (n->tie == node->tie) return "another layer is tied to that embedding already";
  return NULL;
}

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  if (node->in.height != 1 || node->in.width != 1)
    return "it takes features, so put `flatten` before it";
  node->out = (fl_image){node->layer.out, 1, 1, node->in.steps};
  return node->tie >= 0 ? misfit(node) : NULL;
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
  if (p->pick)
    return p->ops->dense_pick_fwd(p->dev, p->b, p->node->layer.out, p->pick, p->w, p->bias, p->y);
  return p->ops->dense_fwd(p->dev, p->steps, p->node->in.channels, p->node->layer.out,
                           fl_const(p->x), p->w, p->bias, p->y);
}

static fl_status back_data(const fl_pass *p) {
  return p->ops->dense_bwd_data(p->dev, p->steps, p->node->in.channels, p->node->layer.out,
                                fl_const(p->dy), p->w, p->dx);
}

static fl_status back_weights(const fl_pass *p) {
  if (p->pick)
    return p->ops->dense_pick_bwd_weights(p->dev, p->b, p->node->layer.out, p->pick,
                                          fl_const(p->dy), p->scale, p->gw, p->gbias);
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
