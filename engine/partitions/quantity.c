#include "partitions.h"

static fl_status deal(const fl_dataset *data, const void *args, uint32_t seed, fl_population *out) {
  return fl_deal_dirichlet(data, args, false, seed, out);
}

static const fl_param params[] = {
    FL_PARAM_CLIENTS(fl_dirichlet_args),
    {.name = "alpha",
     .type = FL_REAL,
     .offset = offsetof(fl_dirichlet_args, alpha),
     .dflt = 1,
     .lo = 0.001,
     .hi = 1e6,
     .help = "concentration: small makes sizes unequal, large makes them alike"},
    FL_PARAM_LEAST(fl_dirichlet_args),
};

const fl_partition fl_quantity = {
    .record = {.name = "quantity",
               .help = "shuffled examples in client sizes of Dirichlet(alpha) proportions",
               .paper = "Li et al., Federated Learning on Non-IID Data Silos: An Experimental "
                        "Study, ICDE 2022, arXiv:2102.02079",
               .args_size = sizeof(fl_dirichlet_args),
               .param = params,
               .n_param = FL_COUNT(params)},
    .deal = deal,
};
