#include "filters.h"

typedef struct clip_args {
  double norm;
} clip_args;

static double scale(const void *args, double norm) {
  const clip_args *a = args;
  return norm > a->norm ? a->norm / norm : 1;
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
    .scale = scale,
};
