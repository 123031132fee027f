#include <math.h>

#include "layers.h"

static const fl_param params[] = {
    {.name = "factor",
     .type = FL_REAL,
     .offset = offsetof(fl_layer, factor),
     .help = "what each value is multiplied by; 0: the square root of the number of features"},
    FL_LAYER_COMMON_PARAMS,
};

static fl_status times(const fl_pass *p, fl_span from, fl_span to) {
  double factor = p->node->layer.factor;
  if (factor == 0) factor = sqrt(p->node->in.channels);
  return p->ops->axpby(p->dev, p->b.C, p->b.B * fl_image_size(p->node->out), fl_all(factor),
                       fl_const(from), fl_all(0), to);
}

static fl_status forward(const fl_pass *p) { return times(p, p->x, p->y); }

static fl_status back_data(const fl_pass *p) { return times(p, p->dy, p->dx); }

const fl_kind_record fl_layer_scale = {
    .record = {.name = "scale",
               .help = "multiplies every value by a factor",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .in_place = true,
    .back_in_place = true,
    .shape = fl_shape_same,
    .forward = forward,
    .back_data = back_data,
};
