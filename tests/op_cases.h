/* One list of op cases, run on every backend that is present.
 *
 * A case names a group of slots (a layer's forward and backward passes, say), shapes and a
 * tolerance. A rig runs one case on one backend: it makes the inputs from the case's seed, calls
 * the slots, and keeps every result as doubles in plain order, lane by lane, so that results of two
 * rigs can be compared whatever the backends' private orders are. To add an op: write its run in
 * op_runs.c and its lines in an op_cases_*.inc; all kinds of tests then cover it. */
#ifndef FL_OP_CASES_H
#define FL_OP_CASES_H

#include "backend.h"

enum { FL_CASE_LANES = 7 };

typedef struct fl_rig fl_rig;

/* How the values of X lie: spread evenly, few levels with many ties, or all at least 1/20 apart
 * from each other and 1/40 from 0, so that a small nudge crosses no kink. EXACT: all inputs have
 * few levels, so that sums of products are exact in every precision and order, but not by
 * Winograd's way, which the cpu backend goes for 3 x 3 with many channels. */
typedef enum fl_spread { FL_EVEN, FL_TIES, FL_APART, FL_EXACT } fl_spread;

typedef struct fl_op_case {
  const char *name;
  fl_status (*run)(fl_rig *rig);
  int C, B;         /* lanes, at most FL_CASE_LANES; rows that a lane has room for */
  fl_window window; /* images: `in`; conv, pool: the window too; `out` follows from O */
  int I, O;         /* features in and out; I alone: elements of a row or vector; attend: F and T */
  int kind;         /* fl_act, fl_pooling, fl_regression or fl_adaptive; attend: causal */
  int groups;       /* gnorm; attend: heads */
  float p;          /* dropout: share dropped; huber: threshold; clip: limit */
  bool no_bias, bytes;
  bool pooled; /* blocks */
  fl_spread spread;
  bool gradient;    /* small enough for central differences */
  double tolerance; /* of an element, relative to the largest of its lane's result */
} fl_op_case;

extern const fl_op_case fl_op_case_list[];
extern const int fl_op_case_count;

/* The window with `out` filled in. */
fl_window fl_case_window(const fl_op_case *k);

/* How a block of layers is run: by its own slots where the backend has them, or by the slots of its
 * layers, with max pooling after or before the relu. */
typedef enum fl_block { FL_BLOCK_WHOLE, FL_BLOCK_RELU_FIRST, FL_BLOCK_POOL_FIRST } fl_block;

/* Inputs of a case. The name decides the values; FL_IN_DY is zero in dead rows. */
typedef enum fl_input {
  FL_IN_NONE,
  FL_IN_X,
  FL_IN_W,
  FL_IN_BIAS,
  FL_IN_DY,
  FL_IN_OLD, /* what an accumulator or in-place vector held before */
  FL_IN_OLD_BIAS,
  FL_IN_TERM,
} fl_input;

/* n values of one lane's input before any nudge; out [n]. */
void fl_case_values(const fl_op_case *k, fl_input input, int lane, int64_t n, float *out);

/* A lane's part of a span: n values, n a row, or an image a row. */
typedef enum fl_form { FL_VECTOR, FL_ROWS, FL_IMAGES } fl_form;
typedef struct fl_shape {
  fl_form form;
  int64_t n;
  fl_image image;
} fl_shape;
fl_shape fl_shape_vector(int64_t n);
fl_shape fl_shape_rows(int64_t n);
fl_shape fl_shape_images(fl_image image);

/* One result of one lane: value[at .. at+n-1] of its rig. of: the input that it is the gradient of,
 * else FL_IN_NONE. */
typedef struct fl_field {
  const char *name;
  int lane;
  fl_input of;
  int64_t at, n;
} fl_field;

typedef enum fl_sharing { FL_OWN, FL_COPIES, FL_SHARED } fl_sharing;

enum { FL_RIG_FIELDS = 64, FL_RIG_HELD = 64 };
struct fl_rig {
  /* Set by the caller; zero means the default. */
  const fl_op_case *k;
  const fl_ops *ops;
  fl_dev *dev;
  int first, C;     /* runs the case's lanes first .. first+C-1 */
  fl_sharing share; /* COPIES and SHARED: every lane has lane 0's inputs and all rows */
  bool plain;       /* accumulators start at 0 and factors are 1 */
  fl_block block;
  float dead;      /* value of dead rows, but for gradients, which are 0 there */
  fl_input nudged; /* element nudged_at of this input in the first lane has `nudge` added */
  int64_t nudged_at;
  float nudge;
  /* For the runs. */
  fl_batch batch;
  fl_draw draw;
  fl_coef factor; /* a factor for each lane */
  int32_t rows[FL_CASE_LANES];
  uint32_t client[FL_CASE_LANES], nth[FL_CASE_LANES];
  float factors[FL_CASE_LANES];
  void *held[FL_RIG_HELD];
  int n_held;
  /* Results. */
  double score; /* sum of the forward result times DY, or the loss: what gradients are of */
  fl_field field[FL_RIG_FIELDS];
  int n_field;
  double *value;
  int64_t n_value, room;
};

/* Runs the rig's case. The caller closes the rig whether it succeeds or not. */
fl_status fl_rig_run(fl_rig *rig);
void fl_rig_close(fl_rig *rig);

/* For the runs, and for tests that call slots themselves on a rig without a case: device memory
 * that lives until the run ends or the rig is closed. Faults of a device end the program. */
void *fl_rig_hold(fl_rig *rig, const void *data, int64_t bytes); /* a copy; data NULL: all NaN */
void fl_rig_fetch(fl_rig *rig, void *host, const void *at, int64_t bytes);
fl_cspan fl_rig_input(fl_rig *rig, fl_input input, fl_shape shape);
fl_span fl_rig_output(fl_rig *rig, fl_shape shape);                 /* all NaN */
fl_span fl_rig_before(fl_rig *rig, fl_input input, fl_shape shape); /* never shared */
fl_span fl_rig_sum(fl_rig *rig, fl_input input, fl_shape shape);    /* as before; plain: 0 */
void fl_rig_keep(fl_rig *rig, const char *name, fl_cspan s, fl_shape shape);
void fl_rig_keep_forward(fl_rig *rig, fl_cspan s, fl_shape shape); /* scored with DY */
void fl_rig_keep_gradient(fl_rig *rig, const char *name, fl_cspan s, fl_shape shape, fl_input of);
void fl_rig_keep_doubles(fl_rig *rig, const char *name, const double *at, int n); /* [C, n] */
void fl_rig_keep_integers(fl_rig *rig, const char *name, int lane, const int64_t *at, int64_t n);

/* The backends that can be opened, each with one open device. Says once which are absent and why.
 * The devices are closed when the program ends. */
typedef struct fl_present {
  const fl_ops *ops;
  fl_dev *dev;
} fl_present;
enum { FL_PRESENT_MAX = 8 };
const fl_present *fl_present_backends(int *n);
/* Calls check with a rig without a case for each of them. */
void fl_each_backend(void (*check)(fl_rig *rig));

#endif
