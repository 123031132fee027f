#include "layers.h"

static const fl_param params[] = {
    {.name = "groups",
     .type = FL_INT32,
     .offset = offsetof(fl_layer, groups),
     .lo = 1,
     .hi = FL_LAYER_OUT_MAX,
     .flags = FL_REQUIRED,
     .help = "groups that the channels are divided into"},
    FL_LAYER_COMMON_PARAMS,
};

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  if (node->in.steps > 0) return "it takes images, and this is a sequence";
  if (node->in.channels % node->layer.groups != 0) return "its groups must divide the channels";
  node->out = node->in;
  node->n_stat = 2 * (int64_t)node->layer.groups;
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

static fl_status forward(const fl_pass *p) {
  return p->ops->gnorm_fwd(p->dev, p->b, p->node->in, p->node->layer.groups, fl_const(p->x), p->w,
                           p->bias, p->y, p->stat);
}

static fl_status back_data(const fl_pass *p) {
  return p->ops->gnorm_bwd_data(p->dev, p->b, p->node->in, p->node->layer.groups, fl_const(p->x),
                                p->w, fl_const(p->stat), fl_const(p->dy), p->dx);
}

static fl_status back_weights(const fl_pass *p) {
  return p->ops->gnorm_bwd_weights(p->dev, p->b, p->node->in, p->node->layer.groups, fl_const(p->x),
                                   fl_const(p->stat), fl_const(p->dy), p->scale, p->gw, p->gbias);
}

const fl_kind_record fl_layer_group_norm = {
    .record = {.name = "group_norm",
               .help = "standardises each group of channels of each image, then scales and shifts",
               .paper = "Wu and He, Group Normalization, arXiv:1803.08494",
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
