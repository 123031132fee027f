#include "families.h"

static const fl_layer layers[] = {
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE, .name = "fc"},
};

const fl_model_spec fl_model_logistic = {
    .record = {.name = "logistic",
               .help = "multinomial logistic regression",
               .paper = "Li et al., Federated Optimization in Heterogeneous Networks, "
                        "arXiv:1812.06127 (as its convex model)"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
};
