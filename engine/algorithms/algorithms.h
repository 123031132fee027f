/* What the algorithm files share: short forms of vector arithmetic on lanes and on the server. */
#ifndef FL_ALGORITHMS_H
#define FL_ALGORITHMS_H

#include "engine.h"

extern const fl_algorithm fl_fedsgd, fl_fedavg, fl_fedprox, fl_scaffold, fl_feddyn, fl_fedavgm,
    fl_fedadam, fl_fedyogi, fl_fedadagrad;

/* y = a*x + b*y over the server's vectors. */
static inline fl_status fl_server_axpby(fl_server *s, double a, const float *x, double b,
                                        float *y) {
  fl_cspan from = {x, 0};
  fl_span to = {y, 0};
  return s->ops->axpby(s->dev, 1, s->P, fl_all(a), from, fl_all(b), to);
}

/* y = a*x + b*y over every taken lane. */
static inline fl_status fl_lanes_axpby(fl_lanes *l, fl_coef a, fl_cspan x, double b, fl_span y) {
  return l->ops->axpby(l->dev, l->C, l->P, a, x, fl_all(b), y);
}

/* w += lr * mean: the server's step of FedAvg, shared by all that differ only on the client. */
fl_status fl_fedavg_apply(const void *args, fl_server *server, float *const *mean);

#endif
