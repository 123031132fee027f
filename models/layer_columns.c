/* Between sequences and images: the steps of one are the columns of the other. */
#include "layers.h"

static const fl_param params[] = {FL_LAYER_COMMON_PARAMS};

static const char *to_image(fl_node *node, fl_image skip) {
  (void)skip;
  if (node->in.steps == 0) return "it takes a sequence, and this is none";
  node->out = (fl_image){node->in.channels, 1, node->in.steps, 0};
  return NULL;
}

static const char *to_sequence(fl_node *node, fl_image skip) {
  (void)skip;
  if (node->in.steps > 0) return "it takes images, and this is a sequence";
  node->out = (fl_image){node->in.channels * node->in.height, 1, 1, node->in.width};
  return NULL;
}

static fl_status image_forward(const fl_pass *p) {
  return p->ops->columns(p->dev, p->b, p->node->out, true, fl_const(p->x), p->y);
}

static fl_status image_back(const fl_pass *p) {
  return p->ops->columns(p->dev, p->b, p->node->out, false, fl_const(p->dy), p->dx);
}

static fl_status sequence_forward(const fl_pass *p) {
  return p->ops->columns(p->dev, p->b, p->node->in, false, fl_const(p->x), p->y);
}

static fl_status sequence_back(const fl_pass *p) {
  return p->ops->columns(p->dev, p->b, p->node->in, true, fl_const(p->dy), p->dx);
}

const fl_kind_record fl_layer_as_image = {
    .record = {.name = "as_image",
               .help = "a sequence as an image of height 1: a channel a feature, a column a step",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .shape = to_image,
    .forward = image_forward,
    .back_data = image_back,
};

const fl_kind_record fl_layer_as_sequence = {
    .record = {.name = "as_sequence",
               .help = "an image as the sequence of its columns, features in channel-height order",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .shape = to_sequence,
    .forward = sequence_forward,
    .back_data = sequence_back,
};
