/* The walk over a model's layers, forward and backward, for all lanes of a batch at once. */
#include "layers.h"

/* One walk: what all layers have in common. */
typedef struct walk {
  const fl_model *model;
  const fl_layout *layout;
  const fl_ops *ops;
  fl_dev *dev;
  fl_batch b;
  const fl_draw *draw; /* NULL: no dropout */
  fl_cspan w;
  fl_span act;
} walk;

static fl_span act_at(const walk *k, int64_t floats_a_row) {
  fl_span s = {k->act.at + floats_a_row * k->b.B, k->act.stride};
  return s;
}

static fl_span part(fl_span s, int64_t at) {
  s.at += at;
  return s;
}

static fl_cspan const_part(fl_cspan s, int64_t at) {
  s.at += at;
  return s;
}

/* What layer i sees, apart from where its gradients go. */
static fl_pass pass_of(const walk *k, int i) {
  const fl_node *n = &k->model->node[i];
  const fl_tensor *t = &k->model->tensor[n->tensor];
  const fl_place *at = k->layout->at;
  fl_pass p = {.ops = k->ops, .dev = k->dev, .node = n, .b = k->b, .drop = k->draw != NULL};
  if (p.drop) {
    p.draw = *k->draw;
    p.draw.purpose = FL_FOR_DROPOUT;
    p.draw.layer = (uint32_t)i;
  }
  if (n->n_tensor > 0) p.w = const_part(k->w, t[0].at);
  if (n->n_tensor > 1) p.bias = const_part(k->w, t[1].at);
  p.x = act_at(k, at[n->x].value);
  if (n->skip >= 0) p.skip = act_at(k, at[n->skip].value);
  p.y = act_at(k, at[i + 1].value);
  p.stat = act_at(k, at[i + 1].stat);
  return p;
}

fl_status fl_model_forward(const fl_model *model, const fl_ops *ops, fl_dev *dev, fl_batch b,
                           bool train, const fl_draw *draw, fl_cspan w, fl_span act) {
  walk k = {model, train ? &model->train : &model->eval, ops, dev, b, train ? draw : NULL, w, act};
  for (int i = 0; i < model->n_layer; i++) {
    fl_pass p = pass_of(&k, i);
    FL_TRY(p.node->kind->forward(&p));
  }
  return FEDLANE_OK;
}

/* The gradient of one input of p's layer: written when this layer is the first to do so, else added
 * to what is there. */
static fl_status gradient(const walk *k, fl_pass *p, int input, bool first) {
  const fl_place *at = k->layout->at;
  fl_span to = act_at(k, at[input].grad), from = p->dy;
  if (p->node->kind->back_data) {
    p->dx = from = first ? to : act_at(k, at[p->node->place + 1].scratch);
    FL_TRY(p->node->kind->back_data(p));
  }
  if (from.at == to.at) return FEDLANE_OK;
  int64_t n = k->b.B * fl_image_size(fl_value_shape(k->model, input));
  return k->ops->axpby(k->dev, k->b.C, n, fl_all(1), fl_const(from), fl_all(first ? 0 : 1), to);
}

/* Aims the gradients of p's layer's tensors at the sink. */
static void aim(const walk *k, fl_pass *p, const fl_sink *sink) {
  const fl_tensor *t = &k->model->tensor[p->node->tensor];
  p->scale = sink->scale;
  p->gw = part(sink->at, t[0].at);
  if (p->node->n_tensor > 1) p->gbias = part(sink->at, t[1].at);
}

/* Sends the gradients of p's layer's tensors to the sink. */
static fl_status tensors_to(const walk *k, fl_pass *p, const fl_sink *sink) {
  const fl_node *n = p->node;
  const fl_tensor *t = &k->model->tensor[n->tensor], *last = t + n->n_tensor - 1;
  if (sink->fused && sink->n_term > 0) {
    fl_term term[FL_TERMS_MAX];
    int64_t count = last->at + (last->count + 15) / 16 * 16 - t->at;
    for (int j = 0; j < sink->n_term; j++)
      term[j] = (fl_term){sink->term[j].a, const_part(sink->term[j].x, t->at)};
    FL_TRY(k->ops->step(k->dev, k->b.C, count, (fl_cspan){NULL, 0}, sink->lr, sink->n_term, term,
                        part(sink->at, t->at)));
  }
  aim(k, p, sink);
  return n->kind->back_weights(p);
}

/* Whether a layer may take both halves of its way back at once: it has them, its data gradient is
 * the first of its input, and no term has to come between them. */
static bool takes_both(const fl_node *n, const fl_sink *sink) {
  bool terms = sink->fused && sink->n_term > 0;
  return n->kind->back && n->dx && n->first && !terms;
}

fl_status fl_model_backward(const fl_model *model, const fl_ops *ops, fl_dev *dev, fl_batch b,
                            const fl_draw *draw, fl_cspan w, fl_span act, const fl_sink *sink) {
  walk k = {model, &model->train, ops, dev, b, draw, w, act};
  if (sink->n_term > FL_TERMS_MAX)
    return fl_fail(FEDLANE_INTERNAL, "%d terms for one step; at most %d are allowed", sink->n_term,
                   FL_TERMS_MAX);
  for (int i = model->n_layer - 1; i >= 0; i--) {
    fl_pass p = pass_of(&k, i);
    p.dy = act_at(&k, model->train.at[i + 1].grad);
    if (takes_both(p.node, sink)) {
      p.dx = act_at(&k, model->train.at[p.node->x].grad);
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
