#include "algorithms.h"

fl_status fl_fedavg_apply(const void *args, fl_server *server, float *const *mean) {
  (void)args;
  return fl_server_axpby(server, server->lr, mean[0], 1, server->w);
}

const fl_algorithm fl_fedavg = {
    .record = {.name = "fedavg",
               .help = "average of the clients' models, weighted by their examples",
               .paper = "McMahan et al., Communication-Efficient Learning of Deep Networks from "
                        "Decentralized Data, AISTATS 2017, arXiv:1602.05629"},
    .weighting = FL_BY_EXAMPLES,
    .server_lr = 1,
    .n_update = 1,
    .apply = fl_fedavg_apply,
};
