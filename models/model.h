/* Models: a table of layers, its shapes and offsets, and the walk forward and backward over C
 * lanes.
 *
 * A model is data: a list of fl_layer. Weights of one lane are one flat vector of P floats; each
 * tensor starts at a multiple of 16 floats and the gaps stay zero for ever. */
#ifndef FL_MODEL_H
#define FL_MODEL_H

#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fl_kind {
  FL_CONV,
  FL_DENSE,
  FL_MAX_POOL,
  FL_AVG_POOL, /* kernel 0: the whole image */
  FL_RELU,
  FL_TANH,
  FL_SIGMOID,
  FL_GELU,
  FL_SQUARE,
  FL_DROPOUT,
  FL_FLATTEN,
  FL_GROUP_NORM,
  FL_ADD, /* residual: adds the output of layer `skip` */
  FL_EMBED,
  FL_LSTM,
  FL_GRU,
  FL_LAST,   /* the last step of a sequence, unless an answer is wanted at each */
  FL_CONV1D, /* conv and pool of images of height 1, along the width */
  FL_MAX_POOL1D,
  FL_AVG_POOL1D, /* kernel 0: the whole width */
  FL_DEPTHWISE,  /* a convolution of each channel alone */
  FL_AS_IMAGE,   /* a sequence as an image, its steps side by side */
  FL_AS_SEQUENCE,
  FL_ATTENTION,
  FL_LAYER_NORM,
  FL_POSITION, /* a learnt vector a step */
  FL_WAVES,    /* fixed ones */
  FL_SCALE,
  FL_KIND_COUNT
} fl_kind;

/* One layer. Zero means the default, so a table names only what differs. */
typedef struct fl_layer {
  fl_kind kind;
  const char *name; /* PyTorch's module name; NULL: its place in the list, as in nn.Sequential. One
                       that ends in _ is no module's: "in_proj_" has the tensor "in_proj_weight" */
  int out;          /* conv: channels; else features, dense: 0 for the model's outputs */
  int kernel;       /* conv, pool: window; avg_pool 0: the whole image */
  int stride;       /* conv: 0 means 1; pool: 0 means kernel */
  int pad;
  int groups;   /* group_norm */
  double p;     /* dropout */
  bool no_bias; /* conv, dense */
  int from;     /* input: 0 the layer before; -k the output of the k-th layer back */
  int skip;     /* add: second input, -k as above */
  int tie; /* dense: its weight, without bias, is that of the embed layer k back: -k; 0: its own */
  int heads;     /* attention */
  bool causal;   /* attention */
  double factor; /* scale; 0: the root of the features */
} fl_layer;

typedef enum fl_init {
  FL_INIT_TORCH,  /* weight and bias uniform in +-1/sqrt(fan_in): PyTorch's default */
  FL_INIT_GLOROT, /* weight uniform in +-sqrt(6/(fan_in+fan_out)), bias 0: Keras' default */
} fl_init;

/* What the data ask of a model. */
typedef struct fl_ends {
  fl_image input;
  int tokens;   /* > 0: the input is a sequence of numbers of tokens below this */
  int n_output; /* classes or regression targets */
  int steps;    /* > 0: outputs are wanted at each of so many steps */
} fl_ends;

typedef struct fl_model_spec {
  fl_record record;
  const fl_layer *layer;
  int n_layer;
  fl_init init;
  const fl_ends *typical; /* data that it is made for, as `fedlane show` counts; NULL: images */
  int n_typical;
} fl_model_spec;

extern const fl_catalogue fl_models;      /* entries are fl_model_spec */
extern const fl_catalogue fl_layer_kinds; /* entries are fl_record whose args are fl_layer: what a
                                             `layers:` list may hold; entry k describes fl_kind k.
                                             The first parameter is the bare value in
                                             {conv: 32, kernel: 3}. Whole numbers are FL_INT32,
                                             since fl_layer holds ints. */

/* What a tensor is to its layer, which decides how it starts. */
typedef enum fl_role {
  FL_ROLE_WEIGHT, /* uniform, within the bound of fl_init */
  FL_ROLE_BIAS,   /* uniform as well (torch), or 0 (glorot) */
  FL_ROLE_SCALE,  /* 1 */
  FL_ROLE_SHIFT   /* 0 */
} fl_role;

/* One tensor of the flat weight vector. */
typedef struct fl_tensor {
  const char *part; /* such as "weight" */
  char name[64];    /* such as "conv1.weight" */
  fl_role role;
  int layer, n_dim, dim[4];
  int64_t at, count, fan_in, fan_out; /* at: offset in floats */
} fl_tensor;

typedef struct fl_model fl_model; /* shapes, offsets and buffers of a built model */

/* Sizes that callers need. */
typedef struct fl_model_info {
  int64_t P;          /* floats a lane, gaps included; a multiple of 16 */
  int64_t parameters; /* without gaps */
  int n_tensor, n_output;
  fl_image input;
  int tokens, steps; /* of the input: how many tokens there are, and steps; 0: no sequence */
  int answer_steps;  /* > 0: outputs are wanted at each of so many steps */
  double flop;       /* multiply-adds counted as 2, forward, one example */
  double flop_train; /* forward and backward; the first layer has no data gradient */
  /* Bytes that training moves, counted, not measured. An example: each value that a layer writes to
   * a place of its own, and its gradient where one is wanted, written once and read once. A step of
   * a lane: the weights read forward and backward and written. */
  double bytes_train, bytes_step;
  bool draws; /* training draws random numbers: there is dropout */
} fl_model_info;

enum { FL_LAYERS_MAX = 250 }; /* in one model: the random numbers' layer word has 8 bits */

/* Checks the table against its ends and fills in shapes. name is for messages ("model 'lenet'").
 * The layer table is copied, names too. Features without a shape are {n, 1, 1} images; dense takes
 * these, and the steps of a sequence one by one.
 * Errors: USAGE, naming the layer by its place (from 1) and the shapes; MEMORY. */
fl_status fl_model_build(const char *name, int n_layer, const fl_layer *layer, fl_init init,
                         const fl_ends *ends, fl_model **out);
void fl_model_close(fl_model **model);
const fl_model_info *fl_model_about(const fl_model *model);
const fl_tensor *fl_model_tensor(const fl_model *model, int i); /* in order of offset */

/* Initial weights into w [P], host memory. Depends on seed and tensor only. */
void fl_model_init(const fl_model *model, uint32_t seed, float *w);

/* Floats of activations a lane needs for batches of B; train: gradients too. A multiple of 16.
 * Buffers share memory where their lives allow it, so after a forward pass only the input and the
 * output are certain to hold what their names say. */
int64_t fl_model_act(const fl_model *model, int B, bool train);

/* Where things are inside one lane's activations. */
int64_t fl_model_input_at(const fl_model *model, int B);  /* image activations, written by gather */
int64_t fl_model_output_at(const fl_model *model, int B); /* logits or predictions [B, n_output] */
int64_t fl_model_dout_at(const fl_model *model, int B);   /* their gradient, written by a loss */

/* Implicit dense layers. Under plain SGD the weights of a dense layer are, after some pieces,
 *     W = whole * W0 + pulled * E - keep * (sum over the pieces of X'D)
 * W0: the weights at the start; E: what every step adds to the gradient apart from multiples of W
 * and W0; X: the layer's inputs in a piece; D: the gradients of its outputs, times the piece's
 * `add`. A layer with few rows in all its pieces keeps X and D, its history, and never forms W: its
 * passes read W0, which all lanes share, and products with the history, which are small. */
typedef enum fl_imply { FL_IMPLY_AUTO, FL_IMPLY_ALWAYS, FL_IMPLY_NEVER } fl_imply;

/* The state of C lanes' implicit layers before a piece; all lanes have gone the same way so far. */
typedef struct fl_history {
  fl_cspan w0;    /* lane stride 0 */
  fl_cspan extra; /* E, in implicit layers' slices of P floats a lane; read when pulled != 0 */
  fl_span at;     /* lanes of fl_model_history floats, opened by fl_history_open */
  int piece;      /* how many pieces it holds */
  double whole, pulled, keep; /* at the start 1, 0, 1 */
  double add;
} fl_history;

/* A stretch of the flat weight vector: the weights of an implicit layer, or all that lies between
 * two of them. */
typedef struct fl_part {
  int64_t at, n; /* floats */
  bool implicit;
  int I, O;           /* of an implicit layer */
  int64_t x_at, d_at; /* its X [rows, I] and D [rows, O] in a lane's history */
} fl_part;

/* Decides which dense layers are implicit, for lanes of at most `pieces` pieces of B rows; AUTO:
 * those where a history costs less than weights of one's own. Training buffers are laid out anew.
 * To be called once, before the model is walked. Errors: MEMORY. */
fl_status fl_model_imply(fl_model *model, fl_imply how, int64_t pieces, int B);
int64_t fl_model_history(const fl_model *model); /* floats a lane, a multiple of 16; 0: none */
int fl_model_parts(const fl_model *model);
const fl_part *fl_model_part(const fl_model *model, int i); /* in order of offset */
/* Writes what C lanes' histories hold apart from pieces; once, before their first use. */
fl_status fl_history_open(const fl_model *model, const fl_ops *ops, fl_dev *dev, int C, fl_span at);

/* Whether the model's first layer can read the examples of a source where they lie, which is then
 * the faster way: its walks have a pick, and their input is not gathered. */
bool fl_model_picks(const fl_model *model, const fl_ops *ops, const fl_source *source);

/* What a walk works on. */
typedef struct fl_walk {
  const fl_ops *ops;
  fl_dev *dev;
  fl_batch b;
  const fl_pick *pick; /* the input, where it is not gathered; else NULL */
  const fl_draw *draw; /* dropout; purpose and layer are filled in; NULL leaves dropout out */
  fl_cspan w;
  fl_span act;               /* lanes of fl_model_act(B, train) floats, 64-byte aligned */
  int32_t *step_rows;        /* (host) scratch [C]: live rows of sequences; NULL: there are none */
  const fl_history *history; /* NULL when no layer is implicit, and in evaluation */
} fl_walk;

/* Where weight gradients go: at += scale * gradient. With `lr` (plain SGD, no gradient buffer) `at`
 * is the weights themselves, scale is -lr, and before each layer's gradient is added that layer's
 * slice takes a `step` with the terms alone, from the same weights that the pass has read. The
 * slices of implicit layers are not touched; their gradients join the history. */
typedef struct fl_sink {
  fl_span at;
  fl_coef scale;
  bool fused;
  fl_coef lr;
  int n_term;
  const fl_term *term;
} fl_sink;

/* Reads the input activations, writes the output. train: dropout is active and what backward needs
 * is kept. */
fl_status fl_model_forward(const fl_model *model, const fl_walk *walk, bool train);
/* Reads the gradient of the output and what forward(train) left of the same walk, and uses both up.
 * walk->w may be other memory than the sink's, with the same values: so the first step of lanes
 * that start equal reads weights that they share. */
fl_status fl_model_backward(const fl_model *model, const fl_walk *walk, const fl_sink *sink);

#ifdef __cplusplus
}
#endif
#endif
