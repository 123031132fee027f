#include "layers.h"

static const fl_param params[] = {
    {.name = "out",
     .type = FL_INT32,
     .offset = offsetof(fl_layer, out),
     .lo = 1,
     .hi = FL_LAYER_OUT_MAX,
     .flags = FL_REQUIRED,
     .unit = "features",
     .help = "features of a token"},
    FL_LAYER_COMMON_PARAMS,
};

static int tokens_of(const fl_node *node) { return node->model->info.tokens; }

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  if (node->x != 0 || tokens_of(node) == 0)
    return "it takes the tokens of a data set that has some";
  node->out = (fl_image){node->layer.out, 1, 1, node->in.steps};
  return NULL;
}

/* A uniform start has no fan: these sizes give +-1 as PyTorch's, whose embeddings are standard
 * normal, and Keras' +-0.05. */
static bool tensor(const fl_node *node, int i, fl_tensor *out) {
  if (i >= 1) return false;
  out->role = FL_ROLE_WEIGHT;
  out->n_dim = 2;
  out->dim[0] = tokens_of(node);
  out->dim[1] = node->layer.out;
  out->fan_in = 1;
  out->fan_out = 2399;
  return true;
}

static fl_status forward(const fl_pass *p) {
  return p->ops->embed_fwd(p->dev, p->steps, tokens_of(p->node), p->node->layer.out, fl_const(p->x),
                           p->w, p->y);
}

static fl_status back_weights(const fl_pass *p) {
  return p->ops->embed_bwd_weights(p->dev, p->steps, tokens_of(p->node), p->node->layer.out,
                                   fl_const(p->x), fl_const(p->dy), p->scale, p->gw);
}

const fl_kind_record fl_layer_embed = {
    .record = {.name = "embed",
               .help = "a learnt vector for each token; comes first",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .reads = FL_READS_X,
    .shape = shape,
    .tensor = tensor,
    .forward = forward,
    .back_weights = back_weights,
};
