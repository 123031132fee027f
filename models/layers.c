#include "layers.h"

static const fl_record *const kinds[FL_KIND_COUNT] = {
    [FL_CONV] = &fl_layer_conv.record,
    [FL_DENSE] = &fl_layer_dense.record,
    [FL_MAX_POOL] = &fl_layer_max_pool.record,
    [FL_AVG_POOL] = &fl_layer_avg_pool.record,
    [FL_RELU] = &fl_layer_relu.record,
    [FL_TANH] = &fl_layer_tanh.record,
    [FL_SIGMOID] = &fl_layer_sigmoid.record,
    [FL_GELU] = &fl_layer_gelu.record,
    [FL_DROPOUT] = &fl_layer_dropout.record,
    [FL_FLATTEN] = &fl_layer_flatten.record,
    [FL_GROUP_NORM] = &fl_layer_group_norm.record,
    [FL_ADD] = &fl_layer_add.record,
    [FL_EMBED] = &fl_layer_embed.record,
    [FL_LSTM] = &fl_layer_lstm.record,
    [FL_GRU] = &fl_layer_gru.record,
    [FL_LAST] = &fl_layer_last.record,
    [FL_ATTENTION] = &fl_layer_attention.record,
    [FL_LAYER_NORM] = &fl_layer_layer_norm.record,
    [FL_POSITION] = &fl_layer_position.record,
    [FL_WAVES] = &fl_layer_waves.record,
    [FL_SCALE] = &fl_layer_scale.record,
};

const fl_catalogue fl_layer_kinds = {
    .kind = "layer",
    .help = "what a `layers:` list is made of",
    .entry = kinds,
    .n = FL_KIND_COUNT,
};

const char *fl_shape_same(fl_node *node, fl_image skip) {
  (void)skip;
  node->out = node->in;
  return NULL;
}

const char *fl_shape_window(fl_node *node, int channels) {
  const fl_layer *l = &node->layer;
  int64_t height = (int64_t)node->in.height + 2 * (int64_t)l->pad - l->kernel;
  if (node->in.steps > 0) return "it takes images, and this is a sequence";
  int64_t width = (int64_t)node->in.width + 2 * (int64_t)l->pad - l->kernel;
  if (l->pad >= l->kernel) return "its padding must be less than its kernel";
  if (height < 0 || width < 0) return "its window is larger than the padded image";
  node->out.channels = channels;
  node->out.height = (int)(height / l->stride) + 1;
  node->out.width = (int)(width / l->stride) + 1;
  node->window = (fl_window){node->in, node->out, l->kernel, l->stride, l->pad};
  return NULL;
}

fl_status fl_pass_copy(const fl_pass *p) {
  if (p->x.at == p->y.at) return FEDLANE_OK;
  int64_t n = p->b.B * fl_image_size(p->node->out);
  return p->ops->axpby(p->dev, p->b.C, n, fl_all(1), fl_const(p->x), fl_all(0), p->y);
}
