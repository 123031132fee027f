/* Group norm with one group and no plane: a step's features are an image's channels, and with one
 * pixel every backend keeps these in one order. */
#include "layers.h"

static const fl_param params[] = {FL_LAYER_COMMON_PARAMS};

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  if (node->in.height != 1 || node->in.width != 1)
    return "it takes features, so put `flatten` before it, or take group_norm";
  node->out = node->in;
  node->n_stat = 2 * (int64_t)(node->in.steps > 0 ? node->in.steps : 1);
  return NULL;
}

static bool tensor(const fl_node *node, int i, fl_tensor *out) {
  if (i >= 2) return false;
  out->role = i == 0 ? FL_ROLE_SCALE : FL_ROLE_SHIFT;
  out->n_dim = 1;
  out->dim[0] = node->in.channels;
  out->fan_in = out->fan_out = node->in.channels;
  return true;
}

static fl_image pixel(const fl_pass *p) { return (fl_image){p->node->in.channels, 1, 1}; }

static fl_status forward(const fl_pass *p) {
  return p->ops->gnorm_fwd(p->dev, p->steps, pixel(p), 1, fl_const(p->x), p->w, p->bias, p->y,
                           p->stat);
}

static fl_status back_data(const fl_pass *p) {
  return p->ops->gnorm_bwd_data(p->dev, p->steps, pixel(p), 1, fl_const(p->x), p->w,
                                fl_const(p->stat), fl_const(p->dy), p->dx);
}

static fl_status back_weights(const fl_pass *p) {
  return p->ops->gnorm_bwd_weights(p->dev, p->steps, pixel(p), 1, fl_const(p->x), fl_const(p->stat),
                                   fl_const(p->dy), p->scale, p->gw, p->gbias);
}

const fl_kind_record fl_layer_layer_norm = {
    .record = {.name = "layer_norm",
               .help = "standardises the features of each step, then scales and shifts them",
               .paper = "Ba, Kiros and Hinton, Layer Normalization, arXiv:1607.06450",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .reads = FL_READS_X,
    .shape = shape,
    .tensor = tensor,
    .forward = forward,
    .back_data = back_data,
    .back_weights = back_weights,
};
