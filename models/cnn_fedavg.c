#include "families.h"

/* 1,663,370 parameters at 1 x 28 x 28 and 10 classes. The paper's order is convolution, relu, pool;
 * relu after a max pool is the same function on a quarter of the values. */
static const fl_layer layers[] = {
    {.kind = FL_CONV, .name = "conv1", .out = 32, .kernel = 5, .pad = 2},
    {.kind = FL_MAX_POOL, .kernel = 2},
    {.kind = FL_RELU},
    {.kind = FL_CONV, .name = "conv2", .out = 64, .kernel = 5, .pad = 2},
    {.kind = FL_MAX_POOL, .kernel = 2},
    {.kind = FL_RELU},
    {.kind = FL_FLATTEN},
    {.kind = FL_DENSE, .name = "fc1", .out = 512},
    {.kind = FL_RELU},
    {.kind = FL_DENSE, .name = "fc2"},
};

const fl_model_spec fl_model_cnn_fedavg = {
    .record = {.name = "cnn_fedavg",
               .help = "two 5x5 convolutions and a hidden layer of 512 (McMahan's CNN)",
               .paper = "McMahan et al., Communication-Efficient Learning of Deep Networks from "
                        "Decentralized Data, arXiv:1602.05629"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
};
