#include "layers.h"

static const fl_param params[] = {
    {.name = "out",
     .type = FL_INT32,
     .offset = offsetof(fl_layer, out),
     .lo = 1,
     .hi = FL_LAYER_OUT_MAX,
     .flags = FL_REQUIRED,
     .unit = "channels",
     .help = "output channels"},
    {.name = "kernel",
     .type = FL_INT32,
     .offset = offsetof(fl_layer, kernel),
     .lo = 1,
     .hi = FL_LAYER_WINDOW_MAX,
     .flags = FL_REQUIRED,
     .unit = "pixels",
     .help = "side of the square window"},
    {.name = "stride",
     .type = FL_INT32,
     .offset = offsetof(fl_layer, stride),
     .dflt = 1,
     .lo = 1,
     .hi = FL_LAYER_WINDOW_MAX,
     .unit = "pixels",
     .help = "step of the window"},
    {.name = "pad",
     .type = FL_INT32,
     .offset = offsetof(fl_layer, pad),
     .lo = 0,
     .hi = FL_LAYER_WINDOW_MAX - 1,
     .unit = "pixels",
     .help = "zeros around the image; less than the kernel"},
    {.name = "no_bias",
     .type = FL_BOOL,
     .offset = offsetof(fl_layer, no_bias),
     .help = "leave the bias out"},
    FL_LAYER_COMMON_PARAMS,
};

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  return fl_shape_window(node, node->layer.out);
}

static bool tensor(const fl_node *node, int i, fl_tensor *out) {
  int in = node->in.channels, channels = node->layer.out, side = node->layer.kernel;
  if (i >= (node->layer.no_bias ? 1 : 2)) return false;
  out->role = i == 0 ? FL_ROLE_WEIGHT : FL_ROLE_BIAS;
  out->n_dim = i == 0 ? 4 : 1;
  out->dim[0] = channels;
  if (i == 0) out->dim[1] = in, out->dim[2] = side, out->dim[3] = side;
  out->fan_in = (int64_t)in * side * side;
  out->fan_out = (int64_t)channels * side * side;
  return true;
}

static double flop(const fl_node *node) {
  const fl_window *w = &node->window;
  return 2.0 * (double)fl_image_size(w->out) * w->in.channels * w->kernel * w->kernel;
}

static fl_status forward(const fl_pass *p) {
  return p->ops->conv_fwd(p->dev, p->b, &p->node->window, fl_const(p->x), p->w, p->bias, p->y);
}

static fl_status back_data(const fl_pass *p) {
  return p->ops->conv_bwd_data(p->dev, p->b, &p->node->window, fl_const(p->dy), p->w, p->dx);
}

static fl_status back_weights(const fl_pass *p) {
  return p->ops->conv_bwd_weights(p->dev, p->b, &p->node->window, fl_const(p->x), fl_const(p->dy),
                                  p->scale, p->gw, p->gbias);
}

const fl_kind_record fl_layer_conv = {
    .record = {.name = "conv",
               .help = "two-dimensional convolution (cross-correlation) with bias",
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
