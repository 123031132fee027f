#include "algorithms.h"

typedef struct fedavgm_args {
  double beta;
} fedavgm_args;

/* Server slot 0: the velocity v = beta * v + mean; w += lr * v. */
static fl_status apply(const void *args, fl_server *server, float *const *mean) {
  const fedavgm_args *a = args;
  FL_TRY(fl_server_axpby(server, 1, mean[0], a->beta, server->slot[0]));
  return fl_server_axpby(server, server->lr, server->slot[0], 1, server->w);
}

static const fl_param params[] = {
    {.name = "beta",
     .type = FL_REAL,
     .offset = offsetof(fedavgm_args, beta),
     .dflt = 0.9,
     .lo = 0,
     .hi = 1,
     .flags = FL_HI_OPEN,
     .help = "momentum of the server"},
};

const fl_algorithm fl_fedavgm = {
    .record = {.name = "fedavgm",
               .help = "FedAvg with momentum on the server",
               .paper = "Hsu et al., Measuring the Effects of Non-Identical Data Distribution for "
                        "Federated Visual Classification, 2019, arXiv:1909.06335",
               .args_size = sizeof(fedavgm_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .weighting = FL_BY_EXAMPLES,
    .server_lr = 1,
    .n_server_slot = 1,
    .n_update = 1,
    .apply = apply,
};
