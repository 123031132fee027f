/* A model with everything it takes to walk it, for the suites that test walks: data in, a loss, its
 * gradient out. Buffers are poisoned with NaN first, so a value that nobody wrote shows. */
#ifndef FL_MODEL_RIG_H
#define FL_MODEL_RIG_H

#include "backend.h"
#include "model.h"
#include "suite.h"

enum { RIG_LANES = 4, RIG_BATCH = 16 };

typedef struct rig {
  const fl_ops *ops;
  fl_dev *dev;
  fl_model *model;
  const fl_model_info *about;
  int C, B;
  int32_t rows[RIG_LANES], step_rows[RIG_LANES];
  uint32_t client[RIG_LANES], nth[RIG_LANES];
  int32_t index[RIG_LANES * RIG_BATCH]; /* which examples a lane reads */
  fl_source source;
  fl_regression regression; /* read when the source has targets */
  float delta;
  int64_t act_stride;
  bool shared;        /* every lane reads the weights of lane 0 */
  bool drop;          /* dropout is active in training */
  float *w, *g, *act; /* [C, P], [C, P], [C, act_stride] */
  float *target;      /* [C, B, n_output] */
  int32_t *label;     /* [C, B, labels] */
  double loss[RIG_LANES];
  int64_t hit[RIG_LANES];
} rig;

/* n floats at a multiple of 64 bytes, all NaN; free it. */
void *rig_floats(int64_t n);
/* Runs a test on every backend of host memory, and says which cannot be opened here. Finding none
 * is a failure. */
void rig_on_each(void (*test)(const fl_ops *ops));
/* Takes over `model`. Lanes have full batches and weights of their own; lane c reads examples c*B,
 * c*B+1 ...; the caller sets the source. */
rig rig_open(const fl_ops *ops, fl_model *model, int C, int B);
void rig_close(rig *r);
fl_span rig_w(const rig *r);
fl_span rig_g(const rig *r);
/* Gathers the examples and walks forward. The output is at fl_model_output_at. */
void rig_forward(rig *r, bool train);
/* Sums the loss of each lane's rows into r->loss and writes the gradient of their mean; of rows
 * with an answer a step, of the mean of their sums. */
void rig_loss(rig *r);
void rig_backward(rig *r, const fl_sink *sink);
/* One training pass: the loss into r->loss, the gradient of the mean loss into r->g. */
void rig_train(rig *r);

#endif
