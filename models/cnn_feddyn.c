#include "families.h"

/* 797,962 parameters at 3 x 32 x 32 and 10 classes. Relu stands after each max pool: the same
 * function on a quarter of the values. */
static const fl_layer layers[] = {
    {.kind = FL_CONV, .name = "conv1", .out = 64, .kernel = 5},
    {.kind = FL_MAX_POOL, .kernel = 2},
    {.kind = FL_RELU},
    {.kind = FL_CONV, .name = "conv2", .out = 64, .kernel = 5},
    {.kind = FL_MAX_POOL, .kernel = 2},
    {.kind = FL_RELU},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE, .name = "fc1", .out = 384},
    {.kind = FL_RELU},
    {.kind = FL_DENSE, .name = "fc2", .out = 192},
    {.kind = FL_RELU},
    {.kind = FL_DENSE, .name = "fc3"},
};

const fl_model_spec fl_model_cnn_feddyn = {
    .record = {.name = "cnn_feddyn",
               .help = "two 5x5 convolutions of 64 and hidden layers of 384 and 192",
               .paper = "Acar et al., Federated Learning Based on Dynamic Regularization, "
                        "arXiv:2111.04263"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
};
