#include "families.h"

/* For rows of a table: 3,009 parameters at 13 columns and one output. */
static const fl_layer layers[] = {
    {.kind = FL_DENSE, .name = "fc1", .out = 64},
    {.kind = FL_RELU},
    {.kind = FL_DENSE, .name = "fc2", .out = 32},
    {.kind = FL_RELU},
    {.kind = FL_DENSE, .name = "fc3"},
};

static const fl_ends typical[] = {{.input = {13, 1, 1}, .n_output = 1}};

const fl_model_spec fl_model_mlp_tabular = {
    .record = {.name = "mlp_tabular",
               .help = "two hidden layers of 64 and 32 with relu, for rows of a table"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
    .typical = typical,
    .n_typical = FL_COUNT(typical),
};
