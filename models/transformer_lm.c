#include "families.h"

/* pfl-research's StackOverflow transformer, read from its benchmarks (model/pytorch/transformer.py,
 * layer.py, lm/configs/baseline.yaml): embeddings times the root of 96 plus waves, three of
 * PyTorch's TransformerEncoderLayer with norms after the sums, relu and dropout 0.1, a causal mask,
 * and the embeddings again as output weights, without bias. 1,962,912 parameters at 10,000 words
 * and 4 marks. Modules are called as there. Two things differ: probabilities of attention are not
 * dropped, and all dense weights start as Glorot has it, which there the projections into attention
 * do; the start of the embeddings, +-0.05, is theirs. */
#define BLOCK(module)                                                                           \
  {.kind = FL_DENSE, .name = module ".self_attn.in_proj_", .out = 288},                         \
      {.kind = FL_ATTENTION, .heads = 8, .causal = true},                                       \
      {.kind = FL_DENSE, .name = module ".self_attn.out_proj", .out = 96},                      \
      {.kind = FL_DROPOUT, .p = 0.1}, {.kind = FL_ADD, .skip = -5},                             \
      {.kind = FL_LAYER_NORM, .name = module ".norm1"},                                         \
      {.kind = FL_DENSE, .name = module ".linear1", .out = 1536}, {.kind = FL_RELU},            \
      {.kind = FL_DROPOUT, .p = 0.1}, {.kind = FL_DENSE, .name = module ".linear2", .out = 96}, \
      {.kind = FL_DROPOUT, .p = 0.1}, {.kind = FL_ADD, .skip = -6}, {                           \
    .kind = FL_LAYER_NORM, .name = module ".norm2"                                              \
  }

static const fl_layer layers[] = {
    {.kind = FL_EMBED, .name = "_embeddings", .out = 96},
    {.kind = FL_SCALE},
    {.kind = FL_WAVES},
    BLOCK("_transformer_encoder.layers.0"),
    BLOCK("_transformer_encoder.layers.1"),
    BLOCK("_transformer_encoder.layers.2"),
    {.kind = FL_LAST},
    {.kind = FL_DENSE, .tie = -43},
};

static const fl_ends typical[] = {
    {.input = {1, 1, 1, 20}, .tokens = 10004, .n_output = 10004, .steps = 20},
};

const fl_model_spec fl_model_transformer_lm = {
    .record = {.name = "transformer_lm",
               .help = "next word: three transformer layers 96 wide; the embedding is the output's "
                       "weight too",
               .paper = "Granqvist et al., pfl-research, arXiv:2404.06430; Wang et al., A Field "
                        "Guide to Federated Optimization, arXiv:2107.06917"},
    .layer = layers,
    .n_layer = FL_COUNT(layers),
    .init = FL_INIT_GLOROT,
    .typical = typical,
    .n_typical = FL_COUNT(typical),
};
