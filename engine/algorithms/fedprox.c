#include "algorithms.h"

typedef struct fedprox_args {
  double mu;
} fedprox_args;

/* The gradient of mu/2 * |w - w0|^2. */
static int terms(const void *args, const fl_lanes *lanes, fl_term *out) {
  const fedprox_args *a = args;
  out[0] = (fl_term){(float)a->mu, fl_const(lanes->w)};
  out[1] = (fl_term){(float)-a->mu, lanes->w0};
  return 2;
}

static const fl_param params[] = {
    {.name = "mu",
     .type = FL_REAL,
     .offset = offsetof(fedprox_args, mu),
     .dflt = 0.01,
     .lo = 0,
     .hi = 1e6,
     .help = "strength of the pull towards the server's model"},
};

const fl_algorithm fl_fedprox = {
    .record = {.name = "fedprox",
               .help = "FedAvg with a proximal term that keeps clients near the server's model",
               .paper = "Li et al., Federated Optimization in Heterogeneous Networks, MLSys 2020, "
                        "arXiv:1812.06127",
               .args_size = sizeof(fedprox_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .weighting = FL_BY_EXAMPLES,
    .server_lr = 1,
    .n_update = 1,
    .terms = terms,
    .apply = fl_fedavg_apply,
};
