#include "layers.h"

#define WINDOW_PARAMS                                                                           \
  {.name = "stride",                                                                            \
   .type = FL_INT32,                                                                            \
   .offset = offsetof(fl_layer, stride),                                                        \
   .lo = 0,                                                                                     \
   .hi = FL_LAYER_WINDOW_MAX,                                                                   \
   .unit = "pixels",                                                                            \
   .help = "step of the window; 0: its side"},                                                  \
  {                                                                                             \
    .name = "pad", .type = FL_INT32, .offset = offsetof(fl_layer, pad), .lo = 0,                \
    .hi = FL_LAYER_WINDOW_MAX / 2, .unit = "pixels", .help = "padding; at most half the window" \
  }

#define KERNEL(least, usual, help_text)                                                      \
  {                                                                                          \
    .name = "kernel", .type = FL_INT32, .offset = offsetof(fl_layer, kernel), .dflt = usual, \
    .lo = least, .hi = FL_LAYER_WINDOW_MAX, .unit = "pixels", .help = help_text              \
  }

#define PARAMS(least, usual, help_text) \
  { KERNEL(least, usual, help_text), WINDOW_PARAMS, FL_LAYER_COMMON_PARAMS }

static const fl_param max_params[] = PARAMS(1, 2, "side of the square window");
static const fl_param average_params[] =
    PARAMS(0, 0, "side of the square window; 0: the whole image, which must be square");
static const fl_param flat_max_params[] = PARAMS(1, 2, "length of the window");
static const fl_param flat_average_params[] =
    PARAMS(0, 0, "length of the window; 0: the whole width");

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  fl_layer *l = &node->layer;
  if (l->kernel == 0 && l->kind == FL_AVG_POOL1D) l->kernel = node->in.width;
  if (l->kernel == 0) {
    if (node->in.height != node->in.width) return "only a square image has a window of its size";
    l->kernel = node->in.height;
  }
  if (l->stride == 0) l->stride = l->kernel;
  if (2 * l->pad > l->kernel) return "its padding must be at most half its window";
  return fl_shape_window(node, node->in.channels);
}

static fl_pooling pooling(const fl_node *node) {
  bool max = node->layer.kind == FL_MAX_POOL || node->layer.kind == FL_MAX_POOL1D;
  return max ? FL_POOL_MAX : FL_POOL_AVERAGE;
}

static fl_status forward(const fl_pass *p) {
  return p->ops->pool_fwd(p->dev, p->b, &p->node->window, pooling(p->node), fl_const(p->x), p->y);
}

static fl_status back_data(const fl_pass *p) {
  return p->ops->pool_bwd(p->dev, p->b, &p->node->window, pooling(p->node), fl_const(p->x),
                          fl_const(p->y), fl_const(p->dy), p->dx);
}

const fl_kind_record fl_layer_max_pool = {
    .record = {.name = "max_pool",
               .help = "the largest value of each window",
               .args_size = sizeof(fl_layer),
               .param = max_params,
               .n_param = FL_COUNT(max_params)},
    .reads = FL_READS_X | FL_READS_Y,
    .shape = shape,
    .forward = forward,
    .back_data = back_data,
};

const fl_kind_record fl_layer_avg_pool = {
    .record = {.name = "avg_pool",
               .help = "the mean of each window, padding counted",
               .args_size = sizeof(fl_layer),
               .param = average_params,
               .n_param = FL_COUNT(average_params)},
    .shape = shape,
    .forward = forward,
    .back_data = back_data,
};

const fl_kind_record fl_layer_max_pool1d = {
    .record = {.name = "max_pool1d",
               .help = "the largest value of each window along the width of images of height 1",
               .args_size = sizeof(fl_layer),
               .param = flat_max_params,
               .n_param = FL_COUNT(flat_max_params)},
    .reads = FL_READS_X | FL_READS_Y,
    .shape = shape,
    .forward = forward,
    .back_data = back_data,
};

const fl_kind_record fl_layer_avg_pool1d = {
    .record = {.name = "avg_pool1d",
               .help = "the mean of each window along the width of images of height 1, padding "
                       "counted",
               .args_size = sizeof(fl_layer),
               .param = flat_average_params,
               .n_param = FL_COUNT(flat_average_params)},
    .shape = shape,
    .forward = forward,
    .back_data = back_data,
};
