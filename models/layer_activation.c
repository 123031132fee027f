#include "layers.h"

static const fl_param params[] = {FL_LAYER_COMMON_PARAMS};

static fl_act function(const fl_node *node) {
  switch (node->layer.kind) {
    case FL_TANH:
      return FL_ACT_TANH;
    case FL_SIGMOID:
      return FL_ACT_SIGMOID;
    case FL_GELU:
      return FL_ACT_GELU;
    case FL_SQUARE:
      return FL_ACT_SQUARE;
    default:
      return FL_ACT_RELU;
  }
}

static fl_status forward(const fl_pass *p) {
  return p->ops->act_fwd(p->dev, p->b, function(p->node), fl_image_size(p->node->out),
                         fl_const(p->x), p->y);
}

static fl_status back_data(const fl_pass *p) {
  fl_span saved = p->node->kind->reads & FL_READS_X ? p->x : p->y;
  return p->ops->act_bwd(p->dev, p->b, function(p->node), fl_image_size(p->node->out),
                         fl_const(saved), fl_const(p->dy), p->dx);
}

const fl_kind_record fl_layer_relu = {
    .record = {.name = "relu",
               .help = "max(x, 0)",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .in_place = true,
    .keeps_sign = true,
    .back_in_place = true,
    .reads = FL_READS_SIGN_Y,
    .shape = fl_shape_same,
    .forward = forward,
    .back_data = back_data,
};

const fl_kind_record fl_layer_tanh = {
    .record = {.name = "tanh",
               .help = "hyperbolic tangent",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .in_place = true,
    .keeps_sign = true,
    .back_in_place = true,
    .reads = FL_READS_Y,
    .shape = fl_shape_same,
    .forward = forward,
    .back_data = back_data,
};

const fl_kind_record fl_layer_sigmoid = {
    .record = {.name = "sigmoid",
               .help = "1 / (1 + exp(-x))",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .in_place = true,
    .back_in_place = true,
    .reads = FL_READS_Y,
    .shape = fl_shape_same,
    .forward = forward,
    .back_data = back_data,
};

const fl_kind_record fl_layer_gelu = {
    .record = {.name = "gelu",
               .help = "x times the normal distribution function of x",
               .paper = "Hendrycks and Gimpel, Gaussian Error Linear Units, arXiv:1606.08415",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .back_in_place = true,
    .reads = FL_READS_X,
    .shape = fl_shape_same,
    .forward = forward,
    .back_data = back_data,
};

const fl_kind_record fl_layer_square = {
    .record = {.name = "square",
               .help = "x times x: the energy of what a convolution's filters find",
               .paper = "Adelson and Bergen, Spatiotemporal Energy Models for the Perception of "
                        "Motion, J. Opt. Soc. Am. A 2(2), 1985",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .back_in_place = true,
    .reads = FL_READS_X,
    .shape = fl_shape_same,
    .forward = forward,
    .back_data = back_data,
};
