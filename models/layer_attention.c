#include "layers.h"

static const fl_param params[] = {
    {.name = "heads",
     .type = FL_INT32,
     .offset = offsetof(fl_layer, heads),
     .lo = 1,
     .hi = FL_LAYER_OUT_MAX,
     .flags = FL_REQUIRED,
     .help = "heads that the features are divided among"},
    {.name = "causal",
     .type = FL_BOOL,
     .offset = offsetof(fl_layer, causal),
     .help = "a step sees itself and those before it, not those after it"},
    FL_LAYER_COMMON_PARAMS,
};

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  fl_image in = node->in;
  int heads = node->layer.heads, F = in.channels / 3;
  if (in.steps == 0 || in.height != 1 || in.width != 1) return "it takes a sequence of features";
  if (in.channels % 3 != 0)
    return "it takes queries, keys and values, so its input must have three times its features";
  if (F % heads != 0) return "its heads must divide its features, a third of its input's";
  if (in.steps > FL_ATTEND_STEPS) return "it takes 256 steps at most";
  if ((int64_t)in.steps * (F / heads) > FL_ATTEND_HEAD)
    return "its steps times the features of a head must be 8192 at most";
  node->out = (fl_image){F, 1, 1, in.steps};
  node->n_stat = (int64_t)heads * in.steps * in.steps;
  return NULL;
}

/* Scores and what they weigh, of all pairs of steps. */
static double flop(const fl_node *node) {
  return 4.0 * (double)fl_image_size(node->out) * node->in.steps;
}

static fl_status forward(const fl_pass *p) {
  const fl_node *n = p->node;
  return p->ops->attend_fwd(p->dev, p->b, n->in.steps, n->out.channels, n->layer.heads,
                            n->layer.causal, fl_const(p->x), p->y, p->stat);
}

static fl_status back_data(const fl_pass *p) {
  const fl_node *n = p->node;
  return p->ops->attend_bwd(p->dev, p->b, n->in.steps, n->out.channels, n->layer.heads,
                            n->layer.causal, fl_const(p->x), fl_const(p->stat), fl_const(p->dy),
                            p->dx);
}

const fl_kind_record fl_layer_attention = {
    .record = {.name = "attention",
               .help = "each step becomes a mean of all steps' values, weighed by how its query "
                       "fits their keys; put a dense layer of three times the features before it",
               .paper = "Vaswani et al., Attention Is All You Need, arXiv:1706.03762",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .reads = FL_READS_X,
    .shape = shape,
    .flop = flop,
    .forward = forward,
    .back_data = back_data,
};
