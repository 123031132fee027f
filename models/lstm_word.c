#include "families.h"

/* 4,050,748 parameters at 10,000 words and 4 marks: padding, begin, end, and any other word. */
static const fl_layer layers[] = {
    {.kind = FL_EMBED, .name = "embed", .out = 96},
    {.kind = FL_LSTM, .name = "lstm", .out = 670},
    {.kind = FL_LAST},
    {.kind = FL_DENSE, .name = "fc1", .out = 96},
    {.kind = FL_DENSE, .name = "fc2"},
};

static const fl_ends typical[] = {
    {.input = {1, 1, 1, 20}, .tokens = 10004, .n_output = 10004, .steps = 20},
};

const fl_model_spec fl_model_lstm_word = {
    .record = {.name = "lstm_word",
               .help = "next word: embedding of 96, an LSTM layer of 670 and a dense layer of 96",
               .paper = "Reddi et al., Adaptive Federated Optimization, arXiv:2003.00295"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
    .typical = typical,
    .n_typical = FL_COUNT(typical),
};
