/* Layer kinds as the walker sees them. Internal to models/.
 *
 * A kind is one record in a file of its own (layer_<kind>.c): how it is written in a `layers:`
 * list, the shape it makes, its tensors, its work, and its passes in the words of the op table. To
 * add one, write that file, name it in fl_kind and in layers.c.
 *
 * Activations are values: value 0 is the model's input, value i+1 the output of layer i. */
#ifndef FL_LAYERS_H
#define FL_LAYERS_H

#include "model.h"

/* What the backward pass of a kind reads besides the gradient of its output. */
enum {
  FL_READS_X = 1,      /* its input */
  FL_READS_Y = 2,      /* its output */
  FL_READS_SIGN_Y = 4, /* where its output is positive, no more */
};

typedef struct fl_kind_record fl_kind_record;

/* A layer of a built model. */
typedef struct fl_node {
  fl_layer layer; /* defaults filled in; the name is owned */
  const fl_kind_record *kind;
  int place;              /* in the list, from 0 */
  int x, skip;            /* the values it reads; skip -1: only one */
  fl_image in, out;       /* features are {n, 1, 1} */
  const fl_model *model;  /* whose it is */
  fl_window window;       /* conv, depthwise and pool: in, out, kernel, stride and pad again */
  int tensor, n_tensor;   /* its tensors: the first one's number and how many */
  int tie;                /* the value of the layer whose tensor it has; -1: it has its own */
  bool last_user;         /* no later layer has its tensors */
  int64_t n_stat;         /* floats a row that forward keeps for backward (group norm) */
  bool dx, dskip;         /* a layer before needs the gradient of x, of skip */
  bool first, first_skip; /* that gradient is written here before any other layer adds to it */
  bool implicit;          /* a dense layer without weights of its own (model.h) */
  int block_end;          /* conv: the last layer of the block that it begins; 0: no block */
  int pool;               /* the pooling layer of that block, conv and pool: its place; 0: none */
  bool masks;             /* conv: its data gradient includes the relu before it */
  bool covered;           /* relu: its way back is another layer's work */
  bool picks;             /* dense: it can read the data set itself, before which nothing is done */
} fl_node;

static inline bool fl_goes_back(const fl_node *n) { return n->n_tensor > 0 || n->dx || n->dskip; }

/* One layer's view of a pass: its own slices of every lane. */
typedef struct fl_pass {
  const fl_ops *ops;
  fl_dev *dev;
  const fl_node *node;
  fl_batch b;
  const fl_pick *pick;          /* what x would be gathered from; NULL: x is there */
  fl_batch steps;               /* the steps of all examples as rows; b where x is no sequence */
  bool drop;                    /* dropout is active, and draw is set */
  fl_draw draw;                 /* purpose and layer filled in */
  fl_cspan w, bias;             /* its first and second tensor; at NULL: none */
  fl_cspan w_again, bias_again; /* its third and fourth: of recurrence */
  fl_span x, skip, y, stat;
  fl_span dy, dx;
  fl_coef scale;
  fl_span gw, gbias, gw_again, gbias_again; /* where weight gradients go; at NULL: none */
} fl_pass;

struct fl_kind_record {
  fl_record record;   /* args: fl_layer; the first parameter is the bare value */
  bool in_place;      /* y may be x, if nobody else needs x */
  bool keeps_sign;    /* written over x, y > 0 only where x > 0, except where no gradient passes */
  bool back_in_place; /* dx may be dy */
  unsigned reads;     /* FL_READS_ flags */
  /* Sets out (and window, n_stat) from layer and in. skip: the second input's shape. Returns NULL,
   * or why the layer does not fit, as the end of a sentence. */
  const char *(*shape)(fl_node *node, fl_image skip);
  /* Describes tensor i: role, n_dim, dim, fan_in, fan_out and its part of the name, which is weight
   * or bias as by its place unless it is set; false when there is none. */
  bool (*tensor)(const fl_node *node, int i, fl_tensor *out); /* NULL: no tensors */
  double (*flop)(const fl_node *node); /* of one pass of one example; NULL: not counted */
  fl_status (*forward)(const fl_pass *p);
  /* What both halves of the way back build on, before any weight changes; NULL: nothing. */
  fl_status (*back_first)(const fl_pass *p);
  fl_status (*back_data)(const fl_pass *p);    /* writes dx; NULL: dx is dy for every input */
  fl_status (*back_weights)(const fl_pass *p); /* adds to gw and gbias; NULL: no tensors */
  fl_status (*back)(const fl_pass *p);         /* both, where that is faster; NULL: it is not */
};

extern const fl_kind_record fl_layer_conv, fl_layer_dense, fl_layer_max_pool, fl_layer_avg_pool,
    fl_layer_relu, fl_layer_tanh, fl_layer_sigmoid, fl_layer_gelu, fl_layer_square,
    fl_layer_dropout, fl_layer_flatten, fl_layer_group_norm, fl_layer_add, fl_layer_embed,
    fl_layer_lstm, fl_layer_gru, fl_layer_last, fl_layer_conv1d, fl_layer_max_pool1d,
    fl_layer_avg_pool1d, fl_layer_depthwise, fl_layer_as_image, fl_layer_as_sequence,
    fl_layer_attention, fl_layer_layer_norm, fl_layer_position, fl_layer_waves, fl_layer_scale;

enum { FL_LAYER_OUT_MAX = 1 << 20, FL_LAYER_WINDOW_MAX = 1024 };

/* Where one value, and what its layer keeps, lie in a lane's activations: floats a row, each a
 * multiple of 16, so that row counts scale them. */
typedef struct fl_place {
  int64_t value, grad;        /* the value and its gradient */
  int64_t stat;               /* what the layer that makes it keeps */
  int64_t scratch;            /* for a gradient that is added to an earlier one */
  bool value_kept, grad_kept; /* these lie in the history, all pieces' rows one after another */
} fl_place;

typedef struct fl_layout {
  fl_place *at;  /* [n_layer + 1], by value */
  int64_t total; /* floats a row */
  int64_t kept;  /* floats a row of the history */
} fl_layout;

/* A lane's history: ones [B], gram [B, rows], scratch [B, width], then what the layout keeps. */
typedef struct fl_history_layout {
  int B;
  int64_t rows, width;         /* of all pieces; the widest side of an implicit layer */
  int64_t gram, scratch, kept; /* offsets in floats */
} fl_history_layout;

struct fl_model {
  fl_init init;
  int n_layer;
  fl_node *node;
  fl_tensor *tensor;
  fl_model_info info; /* known to shape(): all of the ends */
  fl_layout train, eval;
  fl_history_layout history;
  int n_part;
  fl_part *part;
};

/* Places the buffers of a model whose nodes are complete. Errors: MEMORY. */
fl_status fl_layout_make(const fl_model *model, bool train, fl_layout *out);

static inline fl_image fl_value_shape(const fl_model *model, int value) {
  return value == 0 ? model->info.input : model->node[value - 1].out;
}

/* Where a kept value lies in a lane's history, from the row of the first piece on. */
static inline int64_t fl_kept_at(const fl_model *model, int64_t place) {
  return model->history.kept + place * model->history.rows;
}

/* block.c: several layers as one op, where the backend has it: a convolution, relu and 2 x 2 max
 * pooling; a relu's way back within the convolution after it; gathering and a dense layer. */
void fl_blocks_find(fl_model *model);
static inline bool fl_blocks_on(const fl_ops *ops) {
  return ops->conv_relu_fwd && ops->pool_relu_bwd && ops->conv_bwd_data_relu;
}

/* history.c: the passes of an implicit dense layer. p: of the layer, x, y, dy and dx as ever. */
fl_status fl_implicit_forward(const fl_model *model, const fl_history *h, const fl_pass *p);
fl_status fl_implicit_data(const fl_model *model, const fl_history *h, const fl_pass *p);
/* The gradient of the bias goes to p->gbias, and dy becomes the history's D. */
fl_status fl_implicit_weights(const fl_model *model, const fl_history *h, const fl_pass *p);

/* The parameters that every kind ends with. */
#define FL_LAYER_COMMON_PARAMS                                                                  \
  {.name = "name",                                                                              \
   .type = FL_TEXT,                                                                             \
   .offset = offsetof(fl_layer, name),                                                          \
   .text = "",                                                                                  \
   .help = "name of the PyTorch module; empty: the place in the list"},                         \
  {                                                                                             \
    .name = "from", .type = FL_INT32, .offset = offsetof(fl_layer, from), .lo = -FL_LAYERS_MAX, \
    .hi = 0, .unit = "layers",                                                                  \
    .help = "input: 0 the layer before, -k the output of the k-th layer back",                  \
  }

/* The parameters of a window of filters, told of its side and its padding, and the common ones. */
#define FL_LAYER_FILTER_PARAMS(side, around)  \
  {.name = "kernel",                          \
   .type = FL_INT32,                          \
   .offset = offsetof(fl_layer, kernel),      \
   .lo = 1,                                   \
   .hi = FL_LAYER_WINDOW_MAX,                 \
   .flags = FL_REQUIRED,                      \
   .unit = "pixels",                          \
   .help = side},                             \
      {.name = "stride",                      \
       .type = FL_INT32,                      \
       .offset = offsetof(fl_layer, stride),  \
       .dflt = 1,                             \
       .lo = 1,                               \
       .hi = FL_LAYER_WINDOW_MAX,             \
       .unit = "pixels",                      \
       .help = "step of the window"},         \
      {.name = "pad",                         \
       .type = FL_INT32,                      \
       .offset = offsetof(fl_layer, pad),     \
       .lo = 0,                               \
       .hi = FL_LAYER_WINDOW_MAX - 1,         \
       .unit = "pixels",                      \
       .help = around},                       \
      {.name = "no_bias",                     \
       .type = FL_BOOL,                       \
       .offset = offsetof(fl_layer, no_bias), \
       .help = "leave the bias out"},         \
      FL_LAYER_COMMON_PARAMS

/* Shapes and windows shared by kinds. */
const char *fl_shape_same(fl_node *node, fl_image skip);
/* Sets node->window and node->out for `channels` outputs from layer.kernel, stride and pad; flat
 * for the layers that move along the width alone. */
const char *fl_shape_window(fl_node *node, int channels);
/* y = x over the whole batch; nothing when they are one buffer. */
fl_status fl_pass_copy(const fl_pass *p);

#endif
