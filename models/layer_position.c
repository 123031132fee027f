/* What tells one step of a sequence from another: a vector learnt for each, or fixed waves. */
#include "layers.h"

static const fl_param params[] = {FL_LAYER_COMMON_PARAMS};

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  if (node->in.steps == 0 || node->in.height != 1 || node->in.width != 1)
    return "it takes a sequence of features";
  node->out = node->in;
  return NULL;
}

/* It starts as an embedding does (layer_embed.c). */
static bool tensor(const fl_node *node, int i, fl_tensor *out) {
  if (i >= 1) return false;
  out->role = FL_ROLE_WEIGHT;
  out->n_dim = 2;
  out->dim[0] = node->in.steps;
  out->dim[1] = node->in.channels;
  out->fan_in = 1;
  out->fan_out = 2399;
  return true;
}

static fl_status learnt_forward(const fl_pass *p) {
  return p->ops->shift_fwd(p->dev, p->b, fl_image_size(p->node->out), fl_const(p->x), p->w, p->y);
}

static fl_status learnt_back(const fl_pass *p) {
  return p->ops->shift_bwd_weights(p->dev, p->b, fl_image_size(p->node->out), fl_const(p->dy),
                                   p->scale, p->gw);
}

static fl_status waves_forward(const fl_pass *p) {
  return p->ops->waves(p->dev, p->b, p->node->in.steps, p->node->in.channels, fl_const(p->x), p->y);
}

const fl_kind_record fl_layer_position = {
    .record = {.name = "position",
               .help = "adds a learnt vector to each step",
               .paper = "Gehring et al., Convolutional Sequence to Sequence Learning, "
                        "arXiv:1705.03122",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .in_place = true,
    .back_in_place = true,
    .shape = shape,
    .tensor = tensor,
    .forward = learnt_forward,
    .back_weights = learnt_back,
};

const fl_kind_record fl_layer_waves = {
    .record = {.name = "waves",
               .help = "adds fixed sines and cosines of each step's number",
               .paper = "Vaswani et al., Attention Is All You Need, arXiv:1706.03762",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .in_place = true,
    .back_in_place = true,
    .shape = shape,
    .forward = waves_forward,
};
