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
    [FL_SQUARE] = &fl_layer_square.record,
    [FL_DROPOUT] = &fl_layer_dropout.record,
    [FL_FLATTEN] = &fl_layer_flatten.record,
    [FL_GROUP_NORM] = &fl_layer_group_norm.record,
    [FL_ADD] = &fl_layer_add.record,
    [FL_EMBED] = &fl_layer_embed.record,
    [FL_LSTM] = &fl_layer_lstm.record,
    [FL_GRU] = &fl_layer_gru.record,
    [FL_LAST] = &fl_layer_last.record,
    [FL_CONV1D] = &fl_layer_conv1d.record,
    [FL_MAX_POOL1D] = &fl_layer_max_pool1d.record,
    [FL_AVG_POOL1D] = &fl_layer_avg_pool1d.record,
    [FL_DEPTHWISE] = &fl_layer_depthwise.record,
    [FL_AS_IMAGE] = &fl_layer_as_image.record,
    [FL_AS_SEQUENCE] = &fl_layer_as_sequence.record,
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
  bool flat = l->kind == FL_CONV1D || l->kind == FL_MAX_POOL1D || l->kind == FL_AVG_POOL1D;
  fl_window w = {.in = node->in, .kernel = l->kernel, .stride = l->stride, .pad = l->pad};
  w.flat = flat;
  int64_t height = w.in.height + 2 * (int64_t)fl_window_pad_h(&w) - fl_window_kernel_h(&w);
  int64_t width = w.in.width + 2 * (int64_t)w.pad - w.kernel;
  if (w.in.steps > 0 && flat) return "it takes images, so put `as_image` before it";
  if (w.in.steps > 0) return "it takes images, and this is a sequence";
  if (flat && w.in.height != 1) return "it takes images of height 1";
  if (l->pad >= l->kernel) return "its padding must be less than its kernel";
  if (height < 0 || width < 0) return "its window is larger than the padded image";
  w.out.channels = channels;
  w.out.height = (int)(height / fl_window_stride_h(&w)) + 1;
  w.out.width = (int)(width / w.stride) + 1;
  node->out = w.out;
  node->window = w;
  return NULL;
}

fl_status fl_pass_copy(const fl_pass *p) {
  if (p->x.at == p->y.at) return FEDLANE_OK;
  int64_t n = p->b.B * fl_image_size(p->node->out);
  return p->ops->axpby(p->dev, p->b.C, n, fl_all(1), fl_const(p->x), fl_all(0), p->y);
}
