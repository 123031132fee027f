/* Recurrent layers: what the input adds to the gates is one product over the steps of all examples;
 * only what the outputs of the step before add to them goes step by step. */
#include "layers.h"

static const fl_param params[] = {
    {.name = "out",
     .type = FL_INT32,
     .offset = offsetof(fl_layer, out),
     .lo = 1,
     .hi = FL_LAYER_OUT_MAX,
     .flags = FL_REQUIRED,
     .unit = "features",
     .help = "features of a step's output"},
    FL_LAYER_COMMON_PARAMS,
};

static bool is_lstm(const fl_node *node) { return node->layer.kind == FL_LSTM; }
static int gates_of(const fl_node *node) { return is_lstm(node) ? 4 : 3; }

/* What is kept of a step: ops.h. */
static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  if (node->in.steps == 0 || node->in.height != 1 || node->in.width != 1)
    return "it takes a sequence of features";
  node->out = (fl_image){node->layer.out, 1, 1, node->in.steps};
  node->n_stat = (is_lstm(node) ? 6 : 8) * fl_image_size(node->out);
  return NULL;
}

/* PyTorch starts all tensors in +-1/sqrt(H), Keras its two weights by their own sizes: I and 4H, H
 * and 4H (or 3H). */
static bool tensor(const fl_node *node, int i, fl_tensor *out) {
  static const char *const part[] = {"weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0"};
  int H = node->layer.out, all = gates_of(node) * H, from = i == 0 ? node->in.channels : H;
  if (i >= (is_lstm(node) ? 3 : 4)) return false;
  out->part = part[i];
  out->role = i % 2 == 0 ? FL_ROLE_WEIGHT : FL_ROLE_BIAS;
  out->n_dim = i % 2 == 0 ? 2 : 1;
  out->dim[0] = all;
  if (i % 2 == 0) out->dim[1] = from;
  out->fan_in = H;
  out->fan_out = (int64_t)from + all - H;
  return true;
}

static double flop(const fl_node *node) {
  double inputs = node->in.channels + node->layer.out;
  return 2.0 * inputs * gates_of(node) * (double)fl_image_size(node->out);
}

/* The blocks of what is kept: `values` of each output before it. */
static fl_span kept(const fl_pass *p, int values) {
  fl_span s = p->stat;
  s.at += values * p->b.B * fl_image_size(p->node->out);
  return s;
}

static fl_status forward(const fl_pass *p) {
  int H = p->node->layer.out, T = p->node->in.steps;
  FL_TRY(p->ops->dense_fwd(p->dev, p->steps, p->node->in.channels, gates_of(p->node) * H,
                           fl_const(p->x), p->w, p->bias, p->stat));
  if (is_lstm(p->node)) return p->ops->lstm_fwd(p->dev, p->b, T, H, p->w_again, p->y, p->stat);
  return p->ops->gru_fwd(p->dev, p->b, T, H, p->w_again, p->bias_again, p->y, p->stat);
}

static fl_status back_first(const fl_pass *p) {
  int H = p->node->layer.out, T = p->node->in.steps;
  if (is_lstm(p->node))
    return p->ops->lstm_bwd(p->dev, p->b, T, H, p->w_again, fl_const(p->dy), p->stat);
  return p->ops->gru_bwd(p->dev, p->b, T, H, p->w_again, fl_const(p->dy), p->stat);
}

static fl_status back_data(const fl_pass *p) {
  return p->ops->dense_bwd_data(p->dev, p->steps, p->node->in.channels,
                                gates_of(p->node) * p->node->layer.out, fl_const(p->stat), p->w,
                                p->dx);
}

static fl_status back_weights(const fl_pass *p) {
  int H = p->node->layer.out, all = gates_of(p->node) * H;
  fl_cspan sums = fl_const(is_lstm(p->node) ? p->stat : kept(p, 5));
  fl_cspan before = fl_const(kept(p, is_lstm(p->node) ? 5 : 4));
  FL_TRY(p->ops->dense_bwd_weights(p->dev, p->steps, p->node->in.channels, all, fl_const(p->x),
                                   fl_const(p->stat), p->scale, p->gw, p->gbias));
  return p->ops->dense_bwd_weights(p->dev, p->steps, H, all, before, sums, p->scale, p->gw_again,
                                   p->gbias_again);
}

const fl_kind_record fl_layer_lstm = {
    .record = {.name = "lstm",
               .help =
                   "long short-term memory over the steps of a sequence; one bias a gate, which "
                   "is PyTorch's bias_ih_l0 where bias_hh_l0 is zero",
               .paper = "Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 9 "
                        "(1997); Gers et al., Learning to Forget, Neural Computation 12 (2000)",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .reads = FL_READS_X,
    .shape = shape,
    .tensor = tensor,
    .flop = flop,
    .forward = forward,
    .back_first = back_first,
    .back_data = back_data,
    .back_weights = back_weights,
};

const fl_kind_record fl_layer_gru = {
    .record = {.name = "gru",
               .help = "gated recurrent units over the steps of a sequence, as PyTorch has them",
               .paper = "Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, "
                        "arXiv:1406.1078",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .reads = FL_READS_X,
    .shape = shape,
    .tensor = tensor,
    .flop = flop,
    .forward = forward,
    .back_first = back_first,
    .back_data = back_data,
    .back_weights = back_weights,
};
