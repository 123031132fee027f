#include "layers.h"

static const fl_param params[] = {
    {.name = "skip",
     .type = FL_INT32,
     .offset = offsetof(fl_layer, skip),
     .lo = -FL_LAYERS_MAX,
     .hi = -1,
     .flags = FL_REQUIRED,
     .unit = "layers",
     .help = "what is added: -k is the output of the k-th layer back"},
    FL_LAYER_COMMON_PARAMS,
};

static const char *shape(fl_node *node, fl_image skip) {
  node->out = node->in;
  if (skip.channels != node->in.channels || skip.height != node->in.height ||
      skip.width != node->in.width || skip.steps != node->in.steps)
    return "both must have one shape";
  return NULL;
}

static fl_status forward(const fl_pass *p) {
  int64_t n = p->b.B * fl_image_size(p->node->out);
  FL_TRY(fl_pass_copy(p));
  return p->ops->axpby(p->dev, p->b.C, n, fl_all(1), fl_const(p->skip), fl_all(1), p->y);
}

const fl_kind_record fl_layer_add = {
    .record = {.name = "add",
               .help = "adds an earlier layer's output: a residual connection",
               .paper = "He et al., Deep Residual Learning, arXiv:1512.03385",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .in_place = true,
    .back_in_place = true,
    .shape = shape,
    .forward = forward,
};
