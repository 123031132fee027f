#include "filters.h"

typedef struct clip_args {
  double norm;
} clip_args;

static fl_status lanes(const void *args, const fl_draw *draw, fl_lanes *l) {
  const clip_args *a = args;
  (void)draw;
  return l->ops->clip(l->dev, l->C, l->P, (float)a->norm, l->up[0]);
}

static const fl_param params[] = {
    {.name = "norm",
     .type = FL_REAL,
     .offset = offsetof(clip_args, norm),
     .dflt = 1,
     .lo = 0,
     .hi = 1e9,
     .flags = FL_LO_OPEN,
     .help = "largest Euclidean norm of a client's update"},
};

const fl_filter fl_clip = {
    .record = {.name = "clip",
               .help = "scales each client's update down to a largest Euclidean norm",
               .paper = "McMahan et al., Learning Differentially Private Recurrent Language "
                        "Models, ICLR 2018, arXiv:1710.06963",
               .args_size = sizeof(clip_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .lanes = lanes,
};
