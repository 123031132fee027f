#include "families.h"

/* 199,210 parameters at 1 x 28 x 28 and 10 classes. */
static const fl_layer layers[] = {
    {.kind = FL_FLATTEN}, {.kind = FL_DENSE, .name = "fc1", .out = 200},
    {.kind = FL_RELU},    {.kind = FL_DENSE, .name = "fc2", .out = 200},
    {.kind = FL_RELU},    {.kind = FL_DENSE, .name = "fc3"},
};

const fl_model_spec fl_model_mlp = {
    .record = {.name = "mlp",
               .help = "two hidden layers of 200 (McMahan's 2NN)",
               .paper = "McMahan et al., Communication-Efficient Learning of Deep Networks from "
                        "Decentralized Data, arXiv:1602.05629"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
};
