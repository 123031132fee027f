/* The walk over a model's layers, forward and backward, for all lanes of a batch at once. */
#include "layers.h"

/* One walk, with the model's own side of it. */
typedef struct walk {
  const fl_model *model;
  const fl_layout *layout;
  const fl_walk *of;
  bool blocks; /* layers go together where they can (block.c) */
} walk;

static fl_span act_at(const walk *k, int64_t floats_a_row) {
  fl_span s = {k->of->act.at + floats_a_row * k->of->b.B, k->of->act.stride};
  return s;
}

/* A buffer of the activations, or this piece's rows of a kept one, n floats a row. */
static fl_span place_at(const walk *k, int64_t at, bool kept, int64_t n) {
  const fl_history *h = k->of->history;
  if (!kept) return act_at(k, at);
  fl_span s = {h->at.at + fl_kept_at(k->model, at) + h->piece * k->of->b.B * n, h->at.stride};
  return s;
}

static fl_span value_at(const walk *k, int value) {
  const fl_place *at = &k->layout->at[value];
  return place_at(k, at->value, at->value_kept, fl_image_size(fl_value_shape(k->model, value)));
}

static fl_span grad_at(const walk *k, int value) {
  const fl_place *at = &k->layout->at[value];
  return place_at(k, at->grad, at->grad_kept, fl_image_size(fl_value_shape(k->model, value)));
}

static fl_span part(fl_span s, int64_t at) {
  s.at += at;
  return s;
}

static fl_cspan const_part(fl_cspan s, int64_t at) {
  s.at += at;
  return s;
}

/* Counts the live rows of sequences of so many steps. */
static void count_steps(const fl_walk *of, int steps) {
  for (int c = 0; steps > 0 && c < of->b.C; c++) of->step_rows[c] = of->b.rows[c] * steps;
}

/* What layer i sees, apart from where its gradients go. */
static fl_pass pass_of(const walk *k, int i) {
  const fl_walk *of = k->of;
  const fl_node *n = &k->model->node[i];
  const fl_tensor *t = &k->model->tensor[n->tensor];
  fl_pass p = {.ops = of->ops, .dev = of->dev, .node = n, .b = of->b, .drop = of->draw != NULL};
  p.steps = p.b;
  count_steps(of, n->in.steps);
  if (n->in.steps > 0) p.steps = (fl_batch){of->b.C, of->b.B * n->in.steps, of->step_rows};
  if (p.drop) {
    p.draw = *of->draw;
    p.draw.purpose = FL_FOR_DROPOUT;
    p.draw.layer = (uint32_t)i;
  }
  if (n->picks) p.pick = of->pick;
  if (n->n_tensor > 0) p.w = const_part(of->w, t[0].at);
  if (n->n_tensor > 1) p.bias = const_part(of->w, t[1].at);
  if (n->n_tensor > 2) p.w_again = const_part(of->w, t[2].at);
  if (n->n_tensor > 3) p.bias_again = const_part(of->w, t[3].at);
  p.x = value_at(k, n->x);
  if (n->skip >= 0) p.skip = value_at(k, n->skip);
  p.y = value_at(k, i + 1);
  p.stat = act_at(k, k->layout->at[i + 1].stat);
  return p;
}

/* A convolution, the relu and the pooling after it. */
static fl_status forward_block(const walk *k, fl_pass *p, bool train) {
  const fl_node *n = p->node, *pool = n->pool ? &k->model->node[n->pool] : NULL;
  fl_span mask = {0};
  if (pool && train) mask = act_at(k, k->layout->at[n->pool + 1].stat);
  return p->ops->conv_relu_fwd(p->dev, p->b, &n->window, pool ? &pool->window : NULL,
                               fl_const(p->x), p->w, p->bias, value_at(k, n->block_end + 1), mask);
}

/* Checks the history. */
static fl_status begin(const fl_model *model, const fl_walk *of, bool train) {
  const fl_history *h = of->history;
  if (!train || fl_model_history(model) == 0) return FEDLANE_OK;
  if (h && of->b.B == model->history.B && (h->piece + 1) * of->b.B <= model->history.rows)
    return FEDLANE_OK;
  return fl_fail(FEDLANE_INTERNAL, "a walk of %d rows does not fit the history of its lanes",
                 of->b.B);
}

fl_status fl_model_forward(const fl_model *model, const fl_walk *of, bool train) {
  fl_walk plain = *of;
  plain.draw = NULL;
  walk k = {model, train ? &model->train : &model->eval, train ? of : &plain,
            fl_blocks_on(of->ops)};
  FL_TRY(begin(model, of, train));
  for (int i = 0; i < model->n_layer; i++) {
    fl_pass p = pass_of(&k, i);
    if (k.blocks && p.node->block_end) {
      FL_TRY(forward_block(&k, &p, train));
      i = p.node->block_end;
    } else if (train && p.node->implicit) {
      FL_TRY(fl_implicit_forward(model, of->history, &p));
    } else {
      FL_TRY(p.node->kind->forward(&p));
    }
  }
  count_steps(of, model->node[model->n_layer - 1].out.steps);
  return FEDLANE_OK;
}

/* Writes p->dx from p->dy. */
static fl_status data_gradient(const walk *k, const fl_pass *p) {
  const fl_node *n = p->node;
  if (n->implicit) return fl_implicit_data(k->model, k->of->history, p);
  if (k->blocks && n->masks)
    return p->ops->conv_bwd_data_relu(p->dev, p->b, &n->window, fl_const(p->dy), p->w,
                                      fl_const(p->x), p->dx);
  if (k->blocks && n->layer.kind == FL_MAX_POOL && n->pool)
    return p->ops->pool_relu_bwd(p->dev, p->b, &n->window, fl_const(p->stat), fl_const(p->dy),
                                 p->dx);
  return n->kind->back_data(p);
}

/* The gradient of one input of p's layer: written when this layer is the first to do so, else added
 * to what is there. */
static fl_status gradient(const walk *k, fl_pass *p, int input, bool first) {
  fl_span to = grad_at(k, input), from = p->dy;
  if (k->blocks && p->node->covered) return FEDLANE_OK;
  if (p->node->kind->back_data) {
    p->dx = from = first ? to : act_at(k, k->layout->at[p->node->place + 1].scratch);
    FL_TRY(data_gradient(k, p));
  }
  if (from.at == to.at) return FEDLANE_OK;
  int64_t n = p->b.B * fl_image_size(fl_value_shape(k->model, input));
  return p->ops->axpby(p->dev, p->b.C, n, fl_all(1), fl_const(from), fl_all(first ? 0 : 1), to);
}

/* Aims the gradients of p's layer's tensors at the sink. */
static void aim(const walk *k, fl_pass *p, const fl_sink *sink) {
  const fl_tensor *t = &k->model->tensor[p->node->tensor];
  p->scale = sink->scale;
  p->gw = part(sink->at, t[0].at);
  if (p->node->n_tensor > 1) p->gbias = part(sink->at, t[1].at);
  if (p->node->n_tensor > 2) p->gw_again = part(sink->at, t[2].at);
  if (p->node->n_tensor > 3) p->gbias_again = part(sink->at, t[3].at);
}

/* Sends the gradients of p's layer's tensors to the sink. Terms are added once, by the last layer
 * that has them, which comes first. */
static fl_status tensors_to(const walk *k, fl_pass *p, const fl_sink *sink) {
  const fl_node *n = p->node;
  int first = n->tensor + (n->implicit ? 1 : 0), end = n->tensor + n->n_tensor;
  if (sink->fused && sink->n_term > 0 && first < end && n->last_user) {
    const fl_tensor *t = &k->model->tensor[first], *last = &k->model->tensor[end - 1];
    fl_term term[FL_TERMS_MAX];
    int64_t count = last->at + (last->count + 15) / 16 * 16 - t->at;
    for (int j = 0; j < sink->n_term; j++)
      term[j] = (fl_term){sink->term[j].a, const_part(sink->term[j].x, t->at)};
    FL_TRY(p->ops->step(p->dev, p->b.C, count, (fl_cspan){NULL, 0}, sink->lr, sink->n_term, term,
                        part(sink->at, t->at)));
  }
  aim(k, p, sink);
  if (n->implicit) return fl_implicit_weights(k->model, k->of->history, p);
  return n->kind->back_weights(p);
}

/* Whether a layer may take both halves of its way back at once: it has them, its data gradient is
 * the first of its input, and no term has to come between them. */
static bool takes_both(const fl_node *n, const fl_sink *sink) {
  bool terms = sink->fused && sink->n_term > 0;
  return n->kind->back && n->dx && n->first && !terms && !n->implicit;
}

fl_status fl_model_backward(const fl_model *model, const fl_walk *of, const fl_sink *sink) {
  walk k = {model, &model->train, of, fl_blocks_on(of->ops)};
  FL_TRY(begin(model, of, true));
  if (sink->n_term > FL_TERMS_MAX)
    return fl_fail(FEDLANE_INTERNAL, "%d terms for one step; at most %d are allowed", sink->n_term,
                   FL_TERMS_MAX);
  for (int i = model->n_layer - 1; i >= 0; i--) {
    if (!fl_goes_back(&model->node[i])) continue;
    fl_pass p = pass_of(&k, i);
    p.dy = grad_at(&k, i + 1);
    if (p.node->kind->back_first) FL_TRY(p.node->kind->back_first(&p));
    if (takes_both(p.node, sink)) {
      p.dx = grad_at(&k, p.node->x);
      aim(&k, &p, sink);
      FL_TRY(p.node->kind->back(&p));
      continue;
    }
    if (p.node->dx) FL_TRY(gradient(&k, &p, p.node->x, p.node->first));
    if (p.node->dskip) FL_TRY(gradient(&k, &p, p.node->skip, p.node->first_skip));
    if (p.node->n_tensor > 0) FL_TRY(tensors_to(&k, &p, sink));
  }
  return FEDLANE_OK;
}
