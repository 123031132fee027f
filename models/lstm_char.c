#include "families.h"

/* 820,522 parameters at 90 symbols: TFF's Shakespeare network, with an output at each step, and
 * LEAF's, whose data ask for the symbol after the last one. Keras gives forget gates a bias of 1
 * and orthogonal hidden weights at the start; here biases start at 0 and hidden weights uniform. */
static const fl_layer layers[] = {
    {.kind = FL_EMBED, .name = "embed", .out = 8},
    {.kind = FL_LSTM, .name = "lstm1", .out = 256},
    {.kind = FL_LSTM, .name = "lstm2", .out = 256},
    {.kind = FL_LAST},
    {.kind = FL_DENSE, .name = "fc"},
};

static const fl_ends typical[] = {
    {.input = {1, 1, 1, 80}, .tokens = 90, .n_output = 90, .steps = 80},
    {.input = {1, 1, 1, 80}, .tokens = 90, .n_output = 90},
};

const fl_model_spec fl_model_lstm_char = {
    .record = {.name = "lstm_char",
               .help = "next character: embedding of 8 and two LSTM layers of 256",
               .paper = "McMahan et al., Communication-Efficient Learning of Deep Networks from "
                        "Decentralized Data, arXiv:1602.05629; Caldas et al., LEAF, "
                        "arXiv:1812.01097"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
    .typical = typical,
    .n_typical = FL_COUNT(typical),
};
