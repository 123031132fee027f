#include "layers.h"

static const fl_param params[] = {
    FL_LAYER_FILTER_PARAMS("side of the square window",
                           "zeros around the image; less than the kernel"),
};

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  return fl_shape_window(node, node->in.channels);
}

/* As of a convolution whose groups have one channel each. */
static bool tensor(const fl_node *node, int i, fl_tensor *out) {
  int side = node->layer.kernel;
  if (i >= (node->layer.no_bias ? 1 : 2)) return false;
  out->role = i == 0 ? FL_ROLE_WEIGHT : FL_ROLE_BIAS;
  out->n_dim = i == 0 ? 4 : 1;
  out->dim[0] = node->in.channels;
  if (i == 0) out->dim[1] = 1, out->dim[2] = side, out->dim[3] = side;
  out->fan_in = out->fan_out = (int64_t)side * side;
  return true;
}

static double flop(const fl_node *node) {
  const fl_window *w = &node->window;
  return 2.0 * (double)fl_image_size(w->out) * w->kernel * w->kernel;
}

static fl_status forward(const fl_pass *p) {
  return p->ops->depthwise_fwd(p->dev, p->b, &p->node->window, fl_const(p->x), p->w, p->bias, p->y);
}

static fl_status back_data(const fl_pass *p) {
  return p->ops->depthwise_bwd_data(p->dev, p->b, &p->node->window, fl_const(p->dy), p->w, p->dx);
}

static fl_status back_weights(const fl_pass *p) {
  return p->ops->depthwise_bwd_weights(p->dev, p->b, &p->node->window, fl_const(p->x),
                                       fl_const(p->dy), p->scale, p->gw, p->gbias);
}

const fl_kind_record fl_layer_depthwise = {
    .record = {.name = "depthwise",
               .help = "convolution of each channel alone, with bias",
               .paper = "Howard et al., MobileNets, arXiv:1704.04861",
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
};
