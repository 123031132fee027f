#include "filters.h"

typedef struct gaussian_args {
  double deviation;
  int where;
} gaussian_args;

enum { ON_MEAN, ON_CLIENTS };

static bool touches(const void *args) {
  const gaussian_args *a = args;
  return a->where == ON_CLIENTS;
}

static fl_status lanes(const void *args, const fl_draw *draw, fl_lanes *l) {
  const gaussian_args *a = args;
  return l->ops->normal(l->dev, l->C, l->P, draw, fl_all(a->deviation), l->up[0]);
}

static fl_status mean(const void *args, const fl_draw *draw, fl_server *s, float *update) {
  const gaussian_args *a = args;
  fl_span all = {update, 0};
  if (a->where != ON_MEAN) return FEDLANE_OK;
  return s->ops->normal(s->dev, 1, s->P, draw, fl_all(a->deviation), all);
}

static const fl_param params[] = {
    {.name = "deviation",
     .type = FL_REAL,
     .offset = offsetof(gaussian_args, deviation),
     .dflt = 0.01,
     .lo = 0,
     .hi = 1e9,
     .help = "standard deviation of the noise in each element"},
    {.name = "where",
     .type = FL_CHOICE,
     .offset = offsetof(gaussian_args, where),
     .text = "mean,clients",
     .help =
         "mean: once, by the server (central privacy); clients: by each client (local privacy)"},
};

const fl_filter fl_gaussian = {
    .record = {.name = "gaussian",
               .help = "adds normal noise to the mean update or to each client's update",
               .paper = "McMahan et al., Learning Differentially Private Recurrent Language "
                        "Models, ICLR 2018, arXiv:1710.06963",
               .args_size = sizeof(gaussian_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .lanes = lanes,
    .touches = touches,
    .mean = mean,
};
