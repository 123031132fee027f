#include "families.h"

/* 1,626,442 parameters at 3 x 32 x 32 and 10 classes, 1,199,882 at 1 x 28 x 28. The second relu
 * stands after the max pool: the same function on a quarter of the values. Features are dropped,
 * not the image that they come from: the same function again, in an order that all backends share.
 * Keras' start, as in the systems that use this network. */
static const fl_layer layers[] = {
    {.kind = FL_CONV, .name = "conv1", .out = 32, .kernel = 3},
    {.kind = FL_RELU},
    {.kind = FL_CONV, .name = "conv2", .out = 64, .kernel = 3},
    {.kind = FL_MAX_POOL, .kernel = 2},
    {.kind = FL_RELU},
    {.kind = FL_FLATTEN},
    {.kind = FL_DROPOUT, .p = 0.25},
    {.kind = FL_DENSE, .name = "fc1", .out = 128},
    {.kind = FL_RELU},
    {.kind = FL_DROPOUT, .p = 0.5},
    {.kind = FL_DENSE, .name = "fc2"},
};

const fl_model_spec fl_model_cnn_dropout = {
    .record = {.name = "cnn_dropout",
               .help = "two 3x3 convolutions, dropout and a hidden layer of 128",
               .paper = "Reddi et al., Adaptive Federated Optimization, arXiv:2003.00295"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
    .init = FL_INIT_GLOROT,
};
