#include "layers.h"

static const fl_param params[] = {FL_LAYER_COMMON_PARAMS};

static const char *shape(fl_node *node, fl_image skip) {
  (void)skip;
  if (node->in.steps == 0) return "it takes a sequence";
  node->out = node->in;
  if (node->model->info.answer_steps == 0) node->out.steps = 0;
  return NULL;
}

/* Sequences [T, F] are read step by step, so F counts all values of one. */
static fl_status last(const fl_pass *p, bool back, fl_span from, fl_span to) {
  fl_image in = p->node->in;
  int T = in.steps, F = (int)(fl_image_size(in) / T);
  return p->ops->last(p->dev, p->b, T, F, back, fl_const(from), to);
}

static bool stays(const fl_pass *p) { return p->node->out.steps > 0; }

static fl_status forward(const fl_pass *p) {
  return stays(p) ? fl_pass_copy(p) : last(p, false, p->x, p->y);
}

static fl_status back_data(const fl_pass *p) {
  fl_pass copy = *p;
  copy.x = p->dy;
  copy.y = p->dx;
  return stays(p) ? fl_pass_copy(&copy) : last(p, true, p->dy, p->dx);
}

const fl_kind_record fl_layer_last = {
    .record = {.name = "last",
               .help = "the last step of a sequence, as features; nothing is left out where the "
                       "data have an answer at each step",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .shape = shape,
    .forward = forward,
    .back_data = back_data,
};
