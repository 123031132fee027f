#include "layers.h"

#define OUT                                                                                     \
  {                                                                                             \
    .name = "out", .type = FL_INT32, .offset = offsetof(fl_layer, out), .lo = 1,                \
    .hi = FL_LAYER_OUT_MAX, .flags = FL_REQUIRED, .unit = "channels", .help = "output channels" \
  }

static const fl_param params[] = {
    OUT, FL_LAYER_FILTER_PARAMS("side of the square window",
                                "zeros around the image; less than the kernel")};
static const fl_param flat_params[] = {
    OUT,
    FL_LAYER_FILTER_PARAMS("length of the window", "zeros at both ends; less than the kernel")};

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  return fl_shape_window(node, node->layer.out);
}

static bool tensor(const fl_node *node, int i, fl_tensor *out) {
  int in = node->in.channels, channels = node->layer.out, side = node->layer.kernel;
  int64_t taps = (int64_t)fl_window_kernel_h(&node->window) * side;
  if (i >= (node->layer.no_bias ? 1 : 2)) return false;
  out->role = i == 0 ? FL_ROLE_WEIGHT : FL_ROLE_BIAS;
  out->n_dim = i > 0 ? 1 : node->window.flat ? 3 : 4;
  out->dim[0] = channels;
  for (int d = 1; d < out->n_dim; d++) out->dim[d] = d == 1 ? in : side;
  out->fan_in = in * taps;
  out->fan_out = channels * taps;
  return true;
}

static double flop(const fl_node *node) {
  const fl_window *w = &node->window;
  return 2.0 * (double)fl_image_size(w->out) * w->in.channels * fl_window_kernel_h(w) * w->kernel;
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

const fl_kind_record fl_layer_conv1d = {
    .record = {.name = "conv1d",
               .help = "convolution along the width of images of height 1, with bias",
               .args_size = sizeof(fl_layer),
               .param = flat_params,
               .n_param = FL_COUNT(flat_params)},
    .reads = FL_READS_X,
    .shape = shape,
    .tensor = tensor,
    .flop = flop,
    .forward = forward,
    .back_data = back_data,
    .back_weights = back_weights,
};
