/* A tape: the calls of one local step, written down instead of done.
 *
 * fl_tape_ops is an op table whose device is a tape: walking a step with it once, from gather to
 * the last layer's gradients, leaves a program of that step, whatever the model and the algorithm
 * are. Spans are kept as they come, so that a lane's part of every call is at + lane*stride;
 * nothing is followed. A backend's slot `resident` runs the program for every piece of every lane.
 */
#ifndef FL_TAPE_H
#define FL_TAPE_H

#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fl_call_op {
  FL_CALL_GATHER,
  FL_CALL_DENSE_FWD,
  FL_CALL_DENSE_BWD_DATA,
  FL_CALL_DENSE_BWD_WEIGHTS,
  FL_CALL_CONV_FWD,
  FL_CALL_CONV_BWD_DATA,
  FL_CALL_CONV_BWD_WEIGHTS,
  FL_CALL_POOL_FWD,
  FL_CALL_POOL_BWD,
  FL_CALL_POOL_RELU_BWD,
  FL_CALL_ACT_FWD,
  FL_CALL_ACT_BWD,
  FL_CALL_DROPOUT,
  FL_CALL_FLATTEN,
  FL_CALL_XENT,
  FL_CALL_REGRESS,
  FL_CALL_STEP,
  FL_CALL_AXPBY
} fl_call_op;

/* One call. What its slot reads and writes stands in `in` and `out` in the order of its arguments;
 * what a call has no use for is zero. */
typedef struct fl_call {
  fl_call_op op;
  int kind;         /* fl_act, fl_pooling or fl_regression; flatten: back */
  int I, O;         /* dense; xent and regress: O classes or targets */
  int64_t n;        /* act, dropout and flatten: floats a row; step and axpby: floats */
  fl_window window; /* conv and pool */
  bool relu;        /* conv_fwd: relu follows; conv_bwd_data: in[2] says where it passes */
  bool pooled;      /* conv_fwd with relu: 2 x 2 max pooling follows, out[1] is its mask */
  uint32_t layer;   /* dropout: of its draw */
  float a, b;       /* dropout: p; regress: delta; *_bwd_weights: scale; step: lr; axpby: a, b */
  fl_cspan in[3];
  fl_span out[2];
  int n_term;
  fl_term term[FL_TERMS_MAX];
} fl_call;

enum { FL_CALLS_MAX = 64 };

struct fl_tape {
  int n, B;
  fl_call call[FL_CALLS_MAX];
  uint32_t seed, round; /* of all draws */
  fl_source source;     /* gather's, with its index (device) and labels (device) [C, B] */
  const int32_t *index;
  int64_t index_stride;
  int32_t *label;
  double *loss; /* (device) [C] */
  int64_t *hit;
};

/* The slots that a local step may use. Errors: UNSUPPORTED, with the reason, for what a tape cannot
 * hold: sequences, most kinds of layers, factors that differ by lane, more than FL_CALLS_MAX calls. */
extern const fl_ops fl_tape_ops;

/* The tape as the device of these slots; it must outlive them. Empties it. */
fl_dev *fl_tape_begin(fl_tape *tape);

#ifdef __cplusplus
}
#endif
#endif
