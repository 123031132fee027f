#include "families.h"

static const fl_layer layers[] = {
    {.kind = FL_GRU, .name = "gru", .out = 64},
    {.kind = FL_LAST},
    {.kind = FL_DENSE, .name = "fc"},
};

static const fl_ends typical[] = {
    {.input = {1, 1, 1, 12}, .n_output = 12},
    {.input = {14, 1, 1, 30}, .n_output = 1},
};

const fl_model_spec fl_model_gru_series = {
    .record = {.name = "gru_series",
               .help = "values of sensors over time: a GRU layer of 64, read at the last step",
               .paper = "Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, "
                        "arXiv:1406.1078"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
    .typical = typical,
    .n_typical = FL_COUNT(typical),
};
