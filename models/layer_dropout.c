#include "layers.h"

static const fl_param params[] = {
    {.name = "p",
     .type = FL_REAL,
     .offset = offsetof(fl_layer, p),
     .lo = 0,
     .hi = 1,
     .flags = FL_REQUIRED | FL_HI_OPEN,
     .help = "probability of dropping a value while training"},
    FL_LAYER_COMMON_PARAMS,
};

static fl_status drop(const fl_pass *p, fl_span from, fl_span to) {
  return p->ops->dropout(p->dev, p->b, fl_image_size(p->node->out), (float)p->node->layer.p,
                         &p->draw, fl_const(from), to);
}

static bool active(const fl_pass *p) { return p->drop && p->node->layer.p > 0; }

static fl_status forward(const fl_pass *p) {
  return active(p) ? drop(p, p->x, p->y) : fl_pass_copy(p);
}

static fl_status back_data(const fl_pass *p) {
  fl_pass copy = *p;
  copy.x = p->dy;
  copy.y = p->dx;
  return active(p) ? drop(p, p->dy, p->dx) : fl_pass_copy(&copy);
}

const fl_kind_record fl_layer_dropout = {
    .record = {.name = "dropout",
               .help = "zeroes values at random while training and scales up the rest",
               .paper = "Srivastava et al., Dropout, JMLR 15 (2014)",
               .args_size = sizeof(fl_layer),
               .param = params,
               .n_param = FL_COUNT(params)},
    .in_place = true,
    .keeps_sign = true,
    .back_in_place = true,
    .shape = fl_shape_same,
    .forward = forward,
    .back_data = back_data,
};
