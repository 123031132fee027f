#include "algorithms.h"

const fl_algorithm fl_fedsgd = {
    .record = {.name = "fedsgd",
               .help = "one step a round on the mean gradient over all examples of the clients; "
                       "train.epochs is not used, train.batch only sizes the pieces",
               .paper = "McMahan et al., Communication-Efficient Learning of Deep Networks from "
                        "Decentralized Data, AISTATS 2017, arXiv:1602.05629"},
    .weighting = FL_BY_EXAMPLES,
    .server_lr = 1,
    .full_gradient = true,
    .n_update = 1,
    .apply = fl_fedavg_apply,
};
