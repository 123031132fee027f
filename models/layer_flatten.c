#include "layers.h"

static const fl_param params[] = {FL_LAYER_COMMON_PARAMS};

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  if (node->in.steps > 0) return "it takes images, and this is a sequence";
  node->out = (fl_image){(int)fl_image_size(node->in), 1, 1};
  return NULL;
}

static fl_status forward(const fl_pass *p) {
  if (p->x.at == p->y.at) return FEDLANE_OK;
  return p->ops->flatten(p->dev, p->b, p->node->in, false, fl_const(p->x), p->y);
}

static fl_status back_data(const fl_pass *p) {
  if (p->dx.at == p->dy.at) return FEDLANE_OK;
  return p->ops->flatten(p->dev, p->b, p->node->in, true, fl_const(p->dy), p->dx);
}

const fl_kind_record fl_layer_flatten = {
    .record = {.name = "flatten",
               .help = "an image as features, in channel-height-width order",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .shape = shape,
    .forward = forward,
    .back_data = back_data,
};
