#include "families.h"

/* 62,006 parameters at 3 x 32 x 32 and 10 classes. Relu and max pooling, as usual today, in place
 * of the paper's scaled tanh and trained averages; relu stands after the pool, where it costs
 * least. */
static const fl_layer layers[] = {
    {.kind = FL_CONV, .name = "conv1", .out = 6, .kernel = 5},
    {.kind = FL_MAX_POOL, .kernel = 2},
    {.kind = FL_RELU},
    {.kind = FL_CONV, .name = "conv2", .out = 16, .kernel = 5},
    {.kind = FL_MAX_POOL, .kernel = 2},
    {.kind = FL_RELU},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE, .name = "fc1", .out = 120},
    {.kind = FL_RELU},
    {.kind = FL_DENSE, .name = "fc2", .out = 84},
    {.kind = FL_RELU},
    {.kind = FL_DENSE, .name = "fc3"},
};

const fl_model_spec fl_model_lenet = {
    .record = {.name = "lenet",
               .help = "LeNet-5 with relu and max pooling",
               .paper = "LeCun et al., Gradient-Based Learning Applied to Document Recognition, "
                        "doi:10.1109/5.726791"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
};
